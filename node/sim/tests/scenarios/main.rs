//! Whole calls in the simulated world: each scenario is a ladder, and each world is searched for leaks. Start with `one_party.rs`.

mod chaos;
mod media;
mod one_party;
mod remote;
mod two_party;

use hookswitch_sim::World;

/// The ladder of SIP and hooks is this one.
fn check(world: &World, lines: &str) {
    let got = world.ladder();
    assert_eq!(got, hookswitch_sim::expected(lines), "\ngot:\n{got}\n");
}

/// Nothing is left of any call.
fn no_leaks(mut world: World) {
    let leaks = world.leaks();
    assert!(leaks.is_empty(), "{leaks:#?}\n{}", world.ladder());
}

/// Which seeds a random test runs: `HOOKSWITCH_SEEDS=1000` for more, `HOOKSWITCH_SEEDS=47..48` for one that failed.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("HOOKSWITCH_SEEDS") else { return 0..usual };
    let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("HOOKSWITCH_SEEDS={wanted}: a number, or FROM..UNTIL"));
    match wanted.split_once("..") {
        Some((from, until)) => number(from)..number(until),
        None => 0..number(&wanted),
    }
}
