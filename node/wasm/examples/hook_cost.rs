//! What a hook costs on this machine: `cargo run --release -p hookswitch-wasm --features testing --example hook_cost [COMPONENT]`.
//! Without a component: a guest of 60 lines of WebAssembly text. One thread; wall time and this thread's CPU time of each operation,
//! sorted. On a busy machine only the CPU time means something; reading its clock is in it (about 0.3 us).

use hookswitch_wasm::testing::Guest;
use hookswitch_wasm::{Engine, Host, Instance, Level, Module, Options, Setup, code_digest, content_hash, inspect, limits, wit, wrap};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};
use tokio::time::Instant;

struct Quiet;

impl Host for Quiet {
    fn log(&self, _: Level, _: &str) {}
    fn log_dropped(&self) {}
    fn config(&self, _: &str) -> Option<String> {
        None
    }
    fn now_ms(&self) -> u64 {
        1_795_000_000_000
    }
}

fn info() -> wit::SessionInfo {
    wit::SessionInfo {
        session_id: "0b9c3a52-77f1-4f0e-9d4a-2f1f3c5d7e90".into(),
        session_reference: Some("{\"step\":1}".into()),
        domain: "demo.localhost".into(),
        ivr_server: "192.0.2.10".into(),
        trace_id: "4f0e9d4a2f1f3c5d".into(),
        site_id: None,
        transaction_id: "9d4a2f1f-77f1-4f0e-9d4a-0b9c3a523c5d".into(),
        restarted: false,
        extra: vec![],
    }
}

fn new_call() -> wit::NewCallRequest {
    wit::NewCallRequest {
        info: info(),
        participant_id: "5d7e900b-9c3a-4f0e-9d4a-2f1f3c5d7e90".into(),
        sip_call_id: "a84b4c76e66710@pc33.example.org".into(),
        calling_party_privacy: wit::Privacy::Public,
        calling_party: "+46701234567".into(),
        display_name: Some("Alice".into()),
        from_user: "+46701234567".into(),
        x_headers: vec![("x-dest".into(), "sip:200@127.0.0.1:5080".into()), ("x-trunk".into(), "a".into())],
        p_headers: vec![("p-asserted-identity".into(), "<sip:+46701234567@example.org>".into())],
        called_party: "ivr".into(),
        diversion_headers: None,
        referred_by: None,
        pai_number: Some("+46701234567".into()),
        subject: None,
        src_addr: "192.0.2.1".into(),
        extra: vec![],
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn fresh(module: &Module) -> Instance {
    Instance::new(module, Setup::new(Arc::new(Quiet), [7; 32]), far()).await.unwrap_or_else(|e| panic!("{e}"))
}

/// CPU time of this thread in nanoseconds.
fn cpu_ns() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that we own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

async fn measure<F: Future<Output = ()>>(name: &str, n: usize, mut operation: impl FnMut() -> F) {
    for _ in 0..n / 10 {
        operation().await;
    }
    let (mut wall, mut cpu) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let (start, start_cpu) = (Clock::now(), cpu_ns());
        operation().await;
        cpu.push(cpu_ns() - start_cpu);
        wall.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    print!("{name:<30}");
    for (kind, mut times) in [("wall", wall), ("cpu", cpu)] {
        times.sort_unstable();
        let at = |share: f64| times[((n - 1) as f64 * share) as usize] as f64 / 1000.0;
        print!("  {kind} p50 {:>6.2}  p99 {:>7.2}  p99.9 {:>8.2} us", at(0.5), at(0.99), at(0.999));
    }
    println!();
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * 4
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let engine = Engine::start(Options::default()).unwrap_or_else(|e| panic!("{e}"));
    if let Some(warning) = engine.warning() {
        println!("warning: {warning}");
    }
    let component = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path).expect("the component can be read"),
        None => Guest::counting().component(),
    };
    let start = Clock::now();
    let seen = inspect(&component, limits::COMPONENT_BYTES).unwrap_or_else(|e| panic!("{e}"));
    println!("inspected in {:?}: imports {}; exports {}", start.elapsed(), seen.imports.join(" "), seen.exports.join(" "));
    let start = Clock::now();
    let code = engine.compile(&component).unwrap_or_else(|e| panic!("{e}"));
    println!("component {} bytes, native code {} bytes, compiled in {:?}", component.len(), code.len(), start.elapsed());
    let hash = content_hash(&component);
    let digest = code_digest(engine.compatibility(), &hash, &code);
    let module = engine.load(&wrap(engine.compatibility(), &hash, &code), &digest).unwrap_or_else(|e| panic!("{e}"));
    let (module, call) = (&module, &new_call());

    measure("instantiate + drop", 50_000, || async move { drop(fresh(module).await) }).await;
    measure("instantiate + new-call + drop", 50_000, || async move {
        let (_, answer) = fresh(module).await.new_call(call, far()).await.unwrap_or_else(|e| panic!("{e}"));
        assert!(answer.is_ok());
    })
    .await;

    let live = std::cell::RefCell::new(Some(fresh(module).await));
    let live = &live;
    measure("live new-call", 100_000, || async move {
        let instance = live.borrow_mut().take().expect("given back");
        let (instance, _) = instance.new_call(call, far()).await.unwrap_or_else(|e| panic!("{e}"));
        *live.borrow_mut() = Some(instance);
    })
    .await;
    let request = &wit::IvrRequest {
        info: info(),
        participant_id: "5d7e900b-9c3a-4f0e-9d4a-2f1f3c5d7e90".into(),
        reply_id: "r".into(),
        dtmf_buffer: Some("1".into()),
        dtmf_params: None,
        recording: None,
        interrupted: false,
        extra: vec![],
    };
    measure("live get-ivr-command", 100_000, || async move {
        let instance = live.borrow_mut().take().expect("given back");
        let (instance, _) = instance.get_ivr_command(request, far()).await.unwrap_or_else(|e| panic!("{e}"));
        *live.borrow_mut() = Some(instance);
    })
    .await;

    let before = resident_kib();
    let mut many = Vec::new();
    for _ in 0..2000 {
        let (instance, _) = fresh(module).await.new_call(call, far()).await.unwrap_or_else(|e| panic!("{e}"));
        many.push(instance);
    }
    println!("resident memory of a live instance: {} KiB", (resident_kib() - before) / 2000);
    let maps = std::fs::read_to_string("/proc/self/maps").map_or(0, |m| m.lines().count());
    println!("mappings with 2000 live instances: {maps}");
}
