//! SM-014: what calls to a number do without their handler, in virtual time.

use crate::contract::callee::Plan;
use crate::contract::world::{World, configuration, switch_config, tenant};
use crate::contract::{Script, file};
use crate::door::{Counter, FallbackMode, NumberFallback, Tenant};
use crate::hook::*;
use std::sync::Arc;

const S: u64 = 1000;
const BOB: &str = "sip:bob@127.0.0.20";

fn to_bob() -> Option<Box<OutboundCall>> {
    Some(Box::new(OutboundCall { dest_addr: BOB.into(), ..OutboundCall::default() }))
}

fn fallback(mode: FallbackMode, phrases: &[&str], call: Option<Box<OutboundCall>>) -> NumberFallback {
    NumberFallback { mode, phrases: phrases.iter().map(|name| file(name)).collect(), call, expires_at_ms: u64::MAX }
}

fn world(script: Script, fallback: NumberFallback) -> World {
    world_of(script, fallback, &[])
}

fn world_of(script: Script, fallback: NumberFallback, emergency: &[&str]) -> World {
    let tenant = Tenant { number_fallbacks: [("100".to_owned(), Arc::new(fallback))].into(), ..tenant() };
    let configuration =
        crate::Configuration { emergency: emergency.iter().map(|number| (*number).to_owned()).collect(), ..configuration(tenant) };
    let mut world = World::with(configuration, switch_config(1), Box::new(script));
    world.users.insert("bob".into(), Plan::default());
    world
}

fn never() -> Script {
    Script::new(|ask| panic!("{} was asked", ask.hook.name()))
}

fn fails() -> Script {
    Script::new(|_| Err(HookFailure::Refused { message: "no".into() }))
}

fn check(world: &World, expected: &str) {
    let got = world.ladder(&[" ACK", "alice 100", "-> alice 100", "node 100"]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\ngot:\n{got}\n");
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

#[test]
fn ic_291_292_sm_014_always_runs_in_place_of_new_call() {
    let mut world = world(never(), fallback(FallbackMode::Always, &["hello.wav"], None));
    world.call("100");
    world.run_to(5 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest alarm emergencyFallback triggeredByAlways
         0.000 node -> alice 200
         0.000 node -> guest callAnswered
         0.000 node -> media play clip 1000 ms
         1.000 node -> media close
         1.000 node -> alice BYE Q.850;cause=16
         1.000 alice -> node 200
         1.000 node -> guest sessionCompleted fallback",
    );
    assert_eq!(world.count(Counter::FallbackUsed), 1);
    no_leaks(&mut world);
}

#[test]
fn ic_293_sm_014_on_error_runs_after_the_alarm_of_new_call() {
    let mut world = world(fails(), fallback(FallbackMode::OnError, &["hello.wav"], None));
    world.call("100");
    world.run_to(5 * S);
    assert_eq!(world.alarms(), ["newCallEventError newCall request failed", "emergencyFallback triggeredByError"]);
    assert_eq!((world.records[0].final_status, world.reason()), (200, Some("fallback")));
    no_leaks(&mut world);
}

#[test]
fn ic_091_on_error_does_not_run_where_the_handler_answers() {
    let busy = Script::new(|_| Ok(Verdict::Routing(Routing::Drop { drop_code: Some("busy".into()), session_reference: None })));
    let mut world = world(busy, fallback(FallbackMode::OnError, &["hello.wav"], None));
    world.call("100");
    world.run_to(S);
    assert_eq!((world.records[0].final_status, world.alarms().len()), (486, 0));
    no_leaks(&mut world);
}

#[test]
fn ic_093_094_the_phrases_end_in_a_call() {
    let mut world = world(never(), fallback(FallbackMode::Always, &["hello.wav"], to_bob()));
    world.call("100");
    world.run_to(4 * S);
    let ladder = world.ladder(&[]);
    let at = |text: &str| ladder.find(text).unwrap_or_else(|| panic!("{text}: {ladder}"));
    assert!(at("media play clip 1000 ms") < at("node -> bob INVITE"), "{ladder}");
    assert!(ladder.matches("node -> guest callAnswered").count() == 2, "{ladder}");
    // Whoever is left is released: there is nobody to ask.
    world.hangup(0);
    world.run_to(8 * S);
    assert!(world.asks.is_empty() && world.reason().is_some(), "{}", world.ladder(&[]));
    no_leaks(&mut world);
}

#[test]
fn ic_093_without_phrases_the_caller_is_not_answered_before_the_callee_is() {
    let mut world = world(never(), fallback(FallbackMode::Always, &[], to_bob()));
    world.users.insert("bob".into(), Plan::refuses(486));
    world.call("100");
    world.run_to(4 * S);
    assert_eq!((world.records[0].final_status, world.reason()), (486, Some("busy")), "{}", world.ladder(&[]));
    assert!(world.asks.is_empty());
    no_leaks(&mut world);
}

#[test]
fn ic_093_without_phrases_and_call_the_caller_is_refused() {
    let mut world = world(never(), fallback(FallbackMode::Always, &[], None));
    world.call("100");
    world.run_to(S);
    assert_eq!((world.records[0].final_status, world.reason()), (480, Some("fallback")));
    no_leaks(&mut world);
}

#[test]
fn a_fallback_that_cannot_call_releases_and_does_not_begin_again() {
    for phrases in [&["hello.wav"][..], &[]] {
        let nowhere = Some(Box::new(OutboundCall { dest_addr: "bob".into(), ..OutboundCall::default() }));
        let mut world = world(fails(), fallback(FallbackMode::OnError, phrases, nowhere));
        world.call("100");
        world.run_to(8 * S);
        assert_eq!(world.count(Counter::FallbackUsed), 1);
        assert!(world.alarms().iter().any(|alarm| alarm.contains("Invalid sip address: bob")), "{:?}", world.alarms());
        no_leaks(&mut world);
    }
}

#[test]
fn ic_092_what_has_expired_does_not_hold() {
    let expired = NumberFallback { expires_at_ms: 1, ..fallback(FallbackMode::Always, &["hello.wav"], None) };
    let mut world = world(fails(), expired);
    world.call("100");
    world.run_to(5 * S);
    assert_eq!(world.alarms(), ["newCallEventError newCall request failed"]);
    assert_eq!(world.records[0].final_status, 503);
    no_leaks(&mut world);
}

#[test]
fn ic_291_another_number_is_asked_about() {
    let mut world = world(fails(), fallback(FallbackMode::Always, &["hello.wav"], None));
    world.call("101");
    world.run_to(5 * S);
    assert_eq!(world.records[0].final_status, 503);
    no_leaks(&mut world);
}

#[test]
fn an_emergency_number_with_a_fallback_never_waits_for_a_handler() {
    let mut world = world_of(never(), fallback(FallbackMode::OnError, &[], to_bob()), &["100"]);
    world.call("100");
    world.run_to(4 * S);
    assert!(world.asks.is_empty());
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("node -> bob INVITE") && ladder.contains("node -> alice 200"), "{ladder}");
    no_leaks_after_hang_up(&mut world);
}

fn no_leaks_after_hang_up(world: &mut World) {
    world.hangup(0);
    world.run_to(10 * S);
    no_leaks(world);
}
