//! Whole calls in the simulated world: each scenario is a ladder, and each world is searched for leaks. Start with `one_party.rs`.

mod media;
mod one_party;
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
