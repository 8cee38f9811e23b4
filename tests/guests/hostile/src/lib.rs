//! A handler that means harm: the called number says which. For the end-to-end tests, the bench and the soak, which run it beside calls of
//! another tenant.
//!
//! Numbers `plant` and `scan` are two halves: what the one leaves in its memory the other looks for in its own, in all that it is born with
//! and all that it can grow. `scan-self` does both, so that one sees the looking work.

use hookswitch_sdk::http::{Request, fetch};
use hookswitch_sdk::{Handler, HostError, Ivr, IvrRequest, NewCall, Result, Route};
use hookswitch_sdk::{clock, config, log, secrets, store, timers};
use std::hint::black_box;
use std::time::Duration;

/// CPU time of what is allowed: less than half of what a hook may take.
const BURN: Duration = Duration::from_millis(8);
/// Between two commands of a call that burns.
const PAUSE_MS: u32 = 20;
/// Longer than any test.
const WAIT_MS: u32 = 600_000;

#[derive(Default)]
pub struct Hostile {
    called: String,
    /// Kept for as long as the call.
    planted: Vec<Vec<u8>>,
}

impl Handler for Hostile {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.called.clone_from(&call.called_party);
        match self.called.as_str() {
            "spin" => spin(),
            "allocate" => allocate(),
            "recurse" => log::info!("came back with {}", recurse(black_box(1))),
            "trap" => panic!("broken on purpose"),
            "log-flood" => (0..2_000).for_each(|n| log::info!("line {n} of a flood that fills whatever takes it")),
            "order-flood" => order_flood(),
            "store-flood" => store_flood(),
            "fetch-flood" => fetch_flood(),
            "slow-fetch" => slow_fetch(),
            // More than a node copies out of a guest: in what it says, and in what it answers.
            "huge-strings" => log::info!("{}", "x".repeat(1 << 20)),
            "huge-answer" => return Ok(Route::ivr().remember(format!("\"{}\"", "x".repeat(1 << 20)))),
            "burn" => {
                burn(BURN);
                return Ok(Route::drop("busy"));
            }
            "busy" => return Ok(Route::ivr()),
            "plant" => {
                self.plant();
                return Ok(Route::ivr());
            }
            "scan" => {
                scan();
                return Ok(Route::ivr());
            }
            "scan-self" => {
                self.plant();
                scan();
            }
            _ => return Ok(Route::drop("notFound")),
        }
        Ok(Route::drop("decline"))
    }

    fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
        if self.called != "busy" {
            return Ok(Ivr::silence_ms(WAIT_MS).then_hangup());
        }
        // All that a hook may take, again and again, and nothing that is forbidden.
        burn(BURN);
        Ok(Ivr::silence_ms(PAUSE_MS))
    }
}

/// Never ends, and the compiler must not find out.
fn spin() {
    let mut n = 1u64;
    while black_box(n) != 0 {
        n = n.wrapping_mul(3) | 1;
    }
}

/// So many steps of nothing.
fn steps(number: u64) {
    for n in 0..number {
        black_box(n);
    }
}

/// CPU time, not time: a guest that gives way for others' sake has not worked meanwhile. So the steps of a moment are counted first, and the
/// quickest of some moments was not interrupted.
fn burn(time: Duration) {
    const SAMPLE: u64 = 10_000;
    let sample = (0..5).map(|_| {
        let begun = clock::monotonic_ns();
        steps(SAMPLE);
        clock::monotonic_ns() - begun
    });
    let sample = sample.min().unwrap_or(1).max(1);
    steps(u64::try_from(time.as_nanos()).unwrap_or(0) * SAMPLE / sample);
}

/// Takes memory until there is none.
fn allocate() {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Deeper and deeper; nothing of it lies in memory of the guest's own, so that it is the native stack that ends.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    recurse(depth.wrapping_add(1) | 1).wrapping_mul(depth) ^ depth
}

/// Says the first refusal.
fn refused<T: std::fmt::Debug>(what: &str, mut ask: impl FnMut(u32) -> std::result::Result<T, HostError>) {
    let refusal = (0..2_000).find_map(|n| ask(n).err());
    log::warn!("{what}: {refusal:?}");
}

fn order_flood() {
    refused("orders", |n| timers::after(&format!("t{}", n % 8), Duration::from_secs(3600)));
}

fn store_flood() {
    refused("store", |_| store::get("nothing"));
}

fn fetch_flood() {
    let url = config::get_or("url", "http://127.0.0.1:1/");
    refused("fetches", |_| match fetch(&Request::get(url.as_str())) {
        Err(HostError::Limit(limit)) => Err(HostError::Limit(limit)),
        _ => Ok(()),
    });
}

/// From somebody who never answers.
fn slow_fetch() {
    let (url, ms) = (config::get_or("slow", "http://127.0.0.1:1/"), config::parse("slow-ms").unwrap_or(1_000));
    for _ in 0..4 {
        log::warn!("slow fetch: {:?}", fetch(&Request::get(url.as_str()).timeout_ms(ms)).map(|answer| answer.status));
    }
}

// ---------------------------------------------------------------------------------------------------------------- what another one left

/// What `plant` leaves, and what its tenant's secrets begin with. Nowhere as it is: whoever looks for it must not find himself.
/// The tests know it, too (`tests/src/guests.rs`).
const MASK: u8 = 0x5a;
const PLANTED: [u8; 16] = masked(*b"planted-7Qz3-x9!");
/// Each eight bytes of it: wherever it begins, one of these begins at a multiple of eight.
const WINDOWS: [u64; 8] = windows();
/// Less and more than what a free place of the pool keeps in memory.
const PLANTS: usize = 256 << 10;

const fn masked(plain: [u8; 16]) -> [u8; 16] {
    let mut out = plain;
    let mut n = 0;
    while n < 16 {
        out[n] ^= MASK;
        n += 1;
    }
    out
}

const fn windows() -> [u64; 8] {
    let mut out = [0; 8];
    let mut n = 0;
    while n < 64 {
        out[n / 8] |= (PLANTED[n / 8 + n % 8] as u64) << (8 * (n % 8));
        n += 1;
    }
    out
}

impl Hostile {
    /// Fills memory, and asks for all that the tenant keeps.
    fn plant(&mut self) {
        let mask = black_box(MASK);
        let plain = PLANTED.iter().map(|byte| byte ^ mask);
        if store::get("planted").is_ok_and(|entry| entry.is_none()) {
            let _ = store::set("planted", plain.clone().collect::<Vec<u8>>(), None);
        }
        self.planted.push(plain.cycle().take(PLANTS).collect());
        self.planted.extend(config::get("planted").map(String::into_bytes));
        self.planted.extend(secrets::get("planted").ok().map(String::into_bytes));
        self.planted.extend(store::get("planted").ok().flatten().map(|entry| entry.value));
        log::info!("planted {} times", self.planted.len());
    }
}

/// Looks for it in every byte that there is, then in every byte that there can be.
fn scan() {
    let born = memory::bytes();
    let mut found = memory::words(8..born).filter(|word| is_planted(*word)).count();
    let mut dirty = 0;
    let mut from = born;
    while memory::grow() {
        for word in memory::words(from..memory::bytes()) {
            found += usize::from(is_planted(word));
            dirty += usize::from(word != 0);
        }
        from = memory::bytes();
    }
    log::warn!("scanned {} bytes, {} of them new: {found} found, {dirty} new ones not zero", from, from - born);
}

fn is_planted(word: u64) -> bool {
    // Memory that nobody has used is zero, and most of it is that.
    word != 0 && WINDOWS.contains(&(word ^ (u64::from(black_box(MASK)) * 0x0101_0101_0101_0101)))
}

/// All of the instance's memory, whoever of it is in use.
#[cfg(target_arch = "wasm32")]
mod memory {
    use std::arch::wasm32::{memory_grow, memory_size};
    use std::ops::Range;

    const PAGE: usize = 64 << 10;

    pub fn bytes() -> usize {
        memory_size(0) * PAGE
    }

    /// A MiB more. False: there is no more.
    pub fn grow() -> bool {
        memory_grow(0, 16) != usize::MAX
    }

    pub fn words(range: Range<usize>) -> impl Iterator<Item = u64> {
        // SAFETY: the addresses are within linear memory, whose every byte can be read, and aligned; what is read is only compared.
        range.step_by(8).map(|at| unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() })
    }
}

/// There is none to look through.
#[cfg(not(target_arch = "wasm32"))]
mod memory {
    use std::ops::Range;

    pub fn bytes() -> usize {
        0
    }
    pub fn grow() -> bool {
        false
    }
    pub fn words(_: Range<usize>) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }
}

hookswitch_sdk::export!(Hostile);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planted_is_known_wherever_it_begins() {
        let plain: Vec<u8> = PLANTED.iter().map(|byte| byte ^ MASK).collect();
        for begin in 0..8 {
            let bytes = [vec![1; begin], plain.clone(), vec![1; 8 - begin]].concat();
            let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight")));
            assert!(words.filter(|word| is_planted(*word)).count() >= 1, "{begin}");
        }
        assert!(!is_planted(0) && !is_planted(WINDOWS[0]));
    }
}
