//! Two parties and what goes wrong between them: the orders of docs/conformance.md 7.2 B, C and D, each with its failures.

use crate::{check, no_leaks};
use hookswitch_call::{
    Ask, CallEventKind, Command, Done, Greeting, Hook, HookFailure, Notification, OutboundCall, Phrase, PlaceIvrCall, PlayMode, Routing,
    Verdict,
};
use hookswitch_proto::Time;
use hookswitch_proto::media::Direction;
use hookswitch_sim::handler::{Scripted, drop_with, hang_up};
use hookswitch_sim::{Act, Callee, Ending, Path, PhoneId, Plane, Script, World};
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Bob's address in a world where he is the first host.
const BOB: &str = "sip:bob@192.0.2.10:5060";
/// And of the second one.
const CAROL: &str = "sip:carol@192.0.2.11:5060";

fn answer(ring: u64) -> Callee {
    Callee::Answer { ring: ms(ring) }
}

fn call_to(dest_addr: &str) -> OutboundCall {
    OutboundCall { dest_addr: dest_addr.into(), ..OutboundCall::default() }
}

/// newCall: this call. Each callEvent: the next of these, then drop. In the IVR: hang up.
fn calls(call: OutboundCall, events: Vec<Result<Routing, HookFailure>>) -> Scripted<impl FnMut(&Ask) -> Result<Verdict, HookFailure>> {
    let mut events = events.into_iter();
    Scripted::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(call.clone())))),
        Hook::CallEvent(_) => events.next().unwrap_or_else(|| Ok(drop_with(None))).map(Verdict::Routing),
        _ => Ok(Verdict::Ivr(Box::new(hang_up()))),
    })
}

/// 20 ms each way; Bob is there, and Alice calls him through the node.
fn world(bob: Callee, call: OutboundCall, events: Vec<Result<Routing, HookFailure>>) -> (World, PhoneId, PhoneId) {
    let mut world = World::new(1, calls(call, events));
    world.network.usual = Path::delayed(ms(20));
    let bob = world.phone("bob", bob, Script::default());
    let alice = world.call("alice", "100", Script::default());
    (world, alice, bob)
}

/// Bob answers at once. What each does while they talk, counted from its own 200: his at 0.040, hers at 0.080.
fn talk(alice: &[(u64, Act)], bob: &[(u64, Act)]) -> World {
    let script = |acts: &[(u64, Act)]| Script { acts: acts.iter().map(|(at, act)| (ms(*at), act.clone())).collect(), ..Script::default() };
    let mut world = World::new(1, calls(call_to(BOB), vec![]));
    world.network.usual = Path::delayed(ms(20));
    world.phone("bob", answer(0), script(bob));
    world.call("alice", "100", script(alice));
    world
}

/// The ladder from 1 s on.
fn later_ladder(world: &World) -> String {
    let kept = world.steps.iter().filter(|step| step.at >= Time::from_millis(1000) && matches!(step.plane, Plane::Sip | Plane::Guest));
    kept.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn ending(world: &World, phone: PhoneId) -> Option<Ending> {
    world.report(phone).map(|report| report.ending.clone())
}

/// Of the callEvents so far: what it was, and the status.
fn events(world: &World) -> Vec<(CallEventKind, Option<u16>)> {
    let event = |ask: &Ask| match &ask.hook {
        Hook::CallEvent(event) => Some((event.event, event.sip_code)),
        _ => None,
    };
    world.asks.iter().filter_map(event).collect()
}

fn connection_id(world: &World) -> String {
    let id = |n: &Notification| match n {
        Notification::CallAnswered { connection_id, .. } => Some(connection_id.clone()),
        _ => None,
    };
    world.notifications.iter().rev().find_map(id).unwrap_or_default()
}

// ---------------------------------------------------------------------------------------------------- B: a call to somebody

#[test]
fn b_a_call_that_the_caller_ends() {
    let (mut world, alice, bob) = world(answer(1000), call_to(BOB), vec![]);
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         1.040 bob   -> node   200
         1.060 node  -> bob    ACK
         1.060 node  -> alice  200
         1.080 alice -> node   ACK
         1.100 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 guest -> node   drop -
         3.020 node  -> bob    BYE Q.850;cause=21
         3.040 bob   -> node   200 (BYE)
         3.060 node  -> guest  session-completed callingPartyHangup",
    );
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["callingPartyHangup"]);
    assert_eq!(ending(&world, bob), Some(Ending::Released { by_us: false }));
    no_leaks(world);
}

/// The callee is told something for half a second, then the caller for a third of one.
fn greeted(caller_stays: u64) -> World {
    let words = |n| vec![Phrase::Silence { duration: ms(n) }];
    let greeting = Greeting { order: PlayMode::CalleeFirst, caller: words(300), callee: words(500) };
    let (mut world, alice, _) = world(answer(1000), OutboundCall { greeting: Some(greeting), ..call_to(BOB) }, vec![]);
    world.run_to_ms(caller_stays);
    world.hang_up(alice);
    world.run_to_ms(caller_stays + 2000);
    world
}

#[test]
fn b_greetings_come_first() {
    let world = greeted(3000);
    let told = world.steps.iter().find(|step| step.what == "call-answered").unwrap_or_else(|| panic!("{}", world.ladder()));
    // Alice's ACK is there at 1.100; a leg plays in frames of 20 ms.
    assert!((1880..1980).contains(&(told.at.0 / 1_000_000)), "{told}\n{}", world.ladder());
    assert_eq!(events(&world), [(CallEventKind::CallingPartyDrop, None)]);
    no_leaks(world);
    // Who hangs up meanwhile has dropped, and they never heard each other.
    let world = greeted(1400);
    assert!(!world.steps.iter().any(|step| step.what == "call-answered"), "{}", world.ladder());
    assert_eq!(events(&world), [(CallEventKind::CallingPartyDrop, None)]);
    no_leaks(world);
}

#[test]
fn b_a_call_that_the_callee_ends() {
    let (mut world, alice, bob) = world(answer(0), call_to(BOB), vec![]);
    world.run_to_ms(3000);
    world.hang_up(bob);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         3.000 bob   -> node   BYE
         3.020 node  -> bob    200 (BYE)
         3.020 node  -> guest  call-event called-party-drop of bob
         3.020 guest -> node   drop -
         3.020 node  -> alice  BYE Q.850;cause=21
         3.040 alice -> node   200 (BYE)
         3.060 node  -> guest  session-completed calledPartyHangup",
    );
    assert_eq!(ending(&world, alice), Some(Ending::Released { by_us: false }));
    no_leaks(world);
}

#[test]
fn b_a_recorded_call_is_stored_and_told() {
    let call = OutboundCall { call_recording: true, recording_file_name: Some("talk.wav".into()), ..call_to(BOB) };
    let (mut world, alice, _) = world(answer(0), call, vec![]);
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 guest -> node   drop -
         3.020 node  -> bob    BYE Q.850;cause=21
         3.040 bob   -> node   200 (BYE)
         3.060 node  -> guest  session-completed callingPartyHangup
         3.120 node  -> guest  recording-ready",
    );
    let [recording] = world.tape.finished.as_slice() else { panic!("{}", world.tape.finished.len()) };
    assert_eq!((recording.start.file_name.as_str(), recording.said.frames()), ("talk.wav", recording.heard.frames()));
    no_leaks(world);
}

#[test]
fn b_busy_is_told_and_becomes_the_callers_status() {
    let (mut world, alice, _) = world(Callee::Reject { ring: ms(500), status: 486 }, call_to(BOB), vec![Ok(drop_with(Some("busy")))]);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.540 bob   -> node   486
         0.560 node  -> bob    ACK
         0.560 node  -> guest  call-event called-party-failure of bob 486
         0.560 guest -> node   drop busy
         0.560 node  -> alice  486
         0.560 node  -> guest  session-completed busy
         0.580 alice -> node   ACK",
    );
    assert_eq!(ending(&world, alice), Some(Ending::Failed { status: 486 }));
    no_leaks(world);
}

#[test]
fn b_nobody_answers_and_the_ringing_is_cancelled() {
    let call = OutboundCall { max_ring_time: Some(ms(2000)), ..call_to(BOB) };
    let (mut world, alice, bob) = world(Callee::Ring, call, vec![Ok(drop_with(Some("noAnswer")))]);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         2.020 node  -> guest  call-event called-party-failure of bob 408
         2.020 node  -> bob    CANCEL
         2.020 guest -> node   drop noAnswer
         2.020 node  -> alice  480
         2.040 bob   -> node   200 (CANCEL)
         2.040 bob   -> node   487
         2.040 alice -> node   ACK
         2.060 node  -> bob    ACK
         2.060 node  -> guest  session-completed noAnswer",
    );
    assert_eq!((ending(&world, alice), ending(&world, bob)), (Some(Ending::Failed { status: 480 }), Some(Ending::NotTaken)));
    no_leaks(world);
}

#[test]
fn b_the_caller_hangs_up_while_it_rings() {
    let (mut world, alice, bob) = world(Callee::Ring, call_to(BOB), vec![]);
    world.run_to_ms(2000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         2.000 alice -> node   CANCEL
         2.020 node  -> alice  200 (CANCEL)
         2.020 node  -> alice  487
         2.020 node  -> bob    CANCEL
         2.040 alice -> node   ACK
         2.040 bob   -> node   200 (CANCEL)
         2.040 bob   -> node   487
         2.060 node  -> bob    ACK
         2.060 node  -> guest  session-completed canceled",
    );
    assert_eq!(ending(&world, bob), Some(Ending::NotTaken));
    no_leaks(world);
}

#[test]
fn b_a_200_that_crosses_our_cancel_is_acknowledged_and_released() {
    let call = OutboundCall { max_ring_time: Some(ms(2000)), ..call_to(BOB) };
    // The INVITE goes out at 0.020, rings until 2.020; Bob's 200 leaves at 2.010.
    let (mut world, _, bob) = world(answer(1970), call, vec![]);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         2.010 bob   -> node   200
         2.020 node  -> guest  call-event called-party-failure of bob 408
         2.020 node  -> bob    CANCEL
         2.020 guest -> node   drop -
         2.020 node  -> alice  603
         2.030 node  -> bob    ACK
         2.030 node  -> bob    BYE
         2.030 node  -> guest  alarm callError cancelFailed
         2.030 node  -> guest  session-completed noAnswer
         2.040 bob   -> node   200 (CANCEL)
         2.040 alice -> node   ACK
         2.050 bob   -> node   200 (BYE)",
    );
    assert_eq!(ending(&world, bob), Some(Ending::Released { by_us: false }));
    no_leaks(world);
}

#[test]
fn b_early_media_reaches_the_caller_by_a_183() {
    let call = OutboundCall { ringback_tone: Some("early".into()), ..call_to(BOB) };
    let (mut world, alice, _) = world(Callee::Early { ring: ms(1000) }, call, vec![]);
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   183 with SDP
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  183 with SDP
         1.040 bob   -> node   200
         1.060 node  -> bob    ACK
         1.060 node  -> alice  200
         1.080 alice -> node   ACK
         1.100 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 guest -> node   drop -
         3.020 node  -> bob    BYE Q.850;cause=21
         3.040 bob   -> node   200 (BYE)
         3.060 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}

#[test]
fn b_a_lost_answer_of_the_callee_is_sent_again() {
    let (mut world, alice, _) = world(answer(100), call_to(BOB), vec![]);
    world.lose("bob", "node", "200", 1);
    world.lose("node", "bob", "ACK", 1);
    world.run_to_ms(4000);
    world.hang_up(alice);
    world.run_to_ms(6000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.140 bob   -x node   200
         0.640 bob   -> node   200
         0.660 node  -x bob    ACK
         0.660 node  -> alice  200
         0.680 alice -> node   ACK
         0.700 node  -> guest  call-answered
         1.640 bob   -> node   200
         1.660 node  -> bob    ACK
         4.000 alice -> node   BYE
         4.020 node  -> alice  200 (BYE)
         4.020 node  -> guest  call-event calling-party-drop of alice
         4.020 guest -> node   drop -
         4.020 node  -> bob    BYE Q.850;cause=21
         4.040 bob   -> node   200 (BYE)
         4.060 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}

#[test]
fn b_nobody_is_there() {
    let (mut world, alice, _) = world(Callee::Ring, call_to("sip:nobody@192.0.2.99"), vec![]);
    world.run_to_ms(70_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:nobody@192.0.2.99
         0.020 node  -> 192.0.2.99 INVITE
         0.520 node  -> 192.0.2.99 INVITE
         1.520 node  -> 192.0.2.99 INVITE
         3.520 node  -> 192.0.2.99 INVITE
         7.520 node  -> 192.0.2.99 INVITE
         15.520 node  -> 192.0.2.99 INVITE
         31.520 node  -> 192.0.2.99 INVITE
         32.020 node  -> guest  call-event called-party-failure of nobody 408
         32.020 guest -> node   drop -
         32.020 node  -> alice  603
         32.020 node  -> guest  session-completed noAnswer
         32.040 alice -> node   ACK",
    );
    assert_eq!(ending(&world, alice), Some(Ending::Failed { status: 603 }));
    no_leaks(world);
}

#[test]
fn b_a_destination_that_is_not_allowed_gets_no_invite() {
    let (mut world, _, _) = world(Callee::Ring, call_to("sip:premium@203.0.113.7"), vec![]);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:premium@203.0.113.7
         0.020 node  -> guest  alarm newCallEventError Invalid sip address: sip:premium@203.0.113.7
         0.020 node  -> guest  call-event called-party-failure of premium 403
         0.020 guest -> node   drop -
         0.020 node  -> alice  603
         0.020 node  -> guest  session-completed rejected
         0.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn b_both_hang_up_at_once() {
    let (mut world, alice, bob) = world(answer(0), call_to(BOB), vec![]);
    world.thinking = (ms(100), ms(0));
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.hang_up(bob);
    world.run_to_ms(6000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.120 guest -> node   call sip:bob@192.0.2.10:5060
         0.120 node  -> bob    INVITE
         0.140 bob   -> node   100
         0.140 bob   -> node   180
         0.140 bob   -> node   200
         0.160 node  -> guest  call-notify ringing
         0.160 node  -> alice  180
         0.160 node  -> bob    ACK
         0.160 node  -> alice  200
         0.180 alice -> node   ACK
         0.200 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.000 bob   -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 node  -> bob    200 (BYE)
         3.020 node  -> guest  session-completed calledPartyHangup
         3.120 guest -> node   drop -",
    );
    assert_eq!(world.records.len(), 1);
    no_leaks(world);
}

#[test]
fn b_after_the_caller_left_the_callee_gets_the_ivr() {
    let (mut world, alice, _) = world(answer(0), call_to(BOB), vec![Ok(Routing::Ivr { session_reference: None })]);
    world.run_to_ms(2000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         2.000 alice -> node   BYE
         2.020 node  -> alice  200 (BYE)
         2.020 node  -> guest  call-event calling-party-drop of alice
         2.020 guest -> node   ivr
         2.020 node  -> guest  call-answered
         2.020 node  -> guest  get-ivr-command
         2.020 guest -> node   command of 0 phrases, hang up
         2.020 node  -> bob    BYE Q.850;cause=16
         2.040 bob   -> node   200 (BYE)
         2.060 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn b_a_busy_callee_is_replaced_by_another() {
    let events = vec![Ok(Routing::Call(Box::new(call_to(CAROL))))];
    let mut world = World::new(1, calls(call_to(BOB), events));
    world.network.usual = Path::delayed(ms(20));
    world.phone("bob", Callee::Reject { ring: ms(0), status: 486 }, Script::default());
    world.phone("carol", answer(500), Script::default());
    let alice = world.call("alice", "100", Script::default());
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   486
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> guest  call-event called-party-failure of bob 486
         0.060 guest -> node   call sip:carol@192.0.2.11:5060
         0.060 node  -> carol  INVITE
         0.080 carol -> node   100
         0.080 carol -> node   180
         0.100 node  -> guest  call-notify ringing
         0.100 node  -> alice  180
         0.580 carol -> node   200
         0.600 node  -> carol  ACK
         0.600 node  -> alice  200
         0.620 alice -> node   ACK
         0.640 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 guest -> node   drop -
         3.020 node  -> carol  BYE Q.850;cause=21
         3.040 carol -> node   200 (BYE)
         3.060 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}

#[test]
fn b_of_two_answers_to_a_forked_call_the_first_is_taken_and_the_second_released() {
    let mut world = World::new(1, calls(call_to("sip:sales@192.0.2.12:5060"), vec![]));
    world.network.usual = Path::delayed(ms(20));
    let bob = world.phone("bob", answer(1000), Script::default());
    let carol = world.phone("carol", answer(1010), Script::default());
    world.fork("proxy", &[bob, carol]);
    let alice = world.call("alice", "100", Script::default());
    world.run_to_ms(3000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:sales@192.0.2.12:5060
         0.020 node  -> proxy  INVITE
         0.040 proxy -> bob    INVITE
         0.040 proxy -> carol  INVITE
         0.060 bob   -> proxy  100
         0.060 bob   -> proxy  180
         0.060 carol -> proxy  100
         0.060 carol -> proxy  180
         0.080 proxy -> node   180
         0.080 proxy -> node   180
         0.100 node  -> guest  call-notify ringing
         0.100 node  -> alice  180
         1.060 bob   -> proxy  200
         1.070 carol -> proxy  200
         1.080 proxy -> node   200
         1.090 proxy -> node   200
         1.100 node  -> bob    ACK
         1.100 node  -> alice  200
         1.110 node  -> carol  ACK
         1.110 node  -> carol  BYE
         1.120 alice -> node   ACK
         1.130 carol -> node   200 (BYE)
         1.140 node  -> guest  call-answered
         3.000 alice -> node   BYE
         3.020 node  -> alice  200 (BYE)
         3.020 node  -> guest  call-event calling-party-drop of alice
         3.020 guest -> node   drop -
         3.020 node  -> bob    BYE Q.850;cause=21
         3.040 bob   -> node   200 (BYE)
         3.060 node  -> guest  session-completed callingPartyHangup",
    );
    assert_eq!((ending(&world, bob), ending(&world, carol)), {
        let released = Some(Ending::Released { by_us: false });
        (released.clone(), released)
    });
    no_leaks(world);
}

#[test]
fn b_a_fork_of_which_all_are_busy_is_busy() {
    let mut world = World::new(1, calls(call_to("sip:sales@192.0.2.12:5060"), vec![]));
    world.network.usual = Path::delayed(ms(20));
    let busy = |ring| Callee::Reject { ring: ms(ring), status: 486 };
    let bob = world.phone("bob", busy(100), Script::default());
    let carol = world.phone("carol", busy(900), Script::default());
    world.fork("proxy", &[bob, carol]);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    assert_eq!(events(&world), [(CallEventKind::CalledPartyFailure, Some(486))], "{}", world.ladder());
    no_leaks(world);
}

#[test]
fn b_hold_is_passed_on_and_taken_back() {
    let mut world = talk(&[(1000, Act::Offer(Direction::SendOnly)), (2000, Act::Offer(Direction::SendRecv)), (3000, Act::Bye)], &[]);
    world.run_to_ms(5000);
    let (got, lines) = (
        later_ladder(&world),
        "1.080 alice -> node   re-INVITE sendonly
         1.100 node  -> alice  100
         1.100 node  -> guest  call-notify reInvite
         1.100 node  -> alice  200 recvonly
         1.100 node  -> bob    re-INVITE sendonly
         1.120 alice -> node   ACK
         1.120 bob   -> node   100
         1.120 bob   -> node   200 recvonly
         1.140 node  -> bob    ACK
         2.080 alice -> node   re-INVITE
         2.100 node  -> alice  100
         2.100 node  -> guest  call-notify reInvite
         2.100 node  -> alice  200
         2.100 node  -> bob    re-INVITE
         2.120 alice -> node   ACK
         2.120 bob   -> node   100
         2.120 bob   -> node   200
         2.140 node  -> bob    ACK
         3.080 alice -> node   BYE
         3.100 node  -> alice  200 (BYE)
         3.100 node  -> guest  call-event calling-party-drop of alice
         3.100 guest -> node   drop -
         3.100 node  -> bob    BYE Q.850;cause=21
         3.120 bob   -> node   200 (BYE)
         3.140 node  -> guest  session-completed callingPartyHangup",
    );
    assert_eq!(got, hookswitch_sim::expected(lines), "\ngot:\n{got}\n");
    no_leaks(world);
}

#[test]
fn b_offers_that_cross_get_491_and_both_come_through_later() {
    let mut world = talk(&[(1000, Act::Offer(Direction::SendOnly)), (9000, Act::Bye)], &[(1065, Act::Offer(Direction::SendOnly))]);
    world.run_to_ms(12_000);
    let (got, lines) = (
        later_ladder(&world),
        "1.080 alice -> node   re-INVITE sendonly
         1.100 node  -> alice  100
         1.100 node  -> guest  call-notify reInvite
         1.100 node  -> alice  200 recvonly
         1.100 node  -> bob    re-INVITE sendonly
         1.105 bob   -> node   re-INVITE sendonly
         1.120 alice -> node   ACK
         1.120 bob   -> node   491
         1.125 node  -> bob    491
         1.140 node  -> bob    ACK
         1.145 bob   -> node   ACK
         2.755 bob   -> node   re-INVITE sendonly
         2.775 node  -> bob    100
         2.775 node  -> guest  call-notify reInvite
         2.775 node  -> bob    200 inactive
         2.775 node  -> alice  re-INVITE inactive
         2.795 bob   -> node   ACK
         2.795 alice -> node   100
         2.795 alice -> node   200 inactive
         2.815 node  -> alice  ACK
         4.100 node  -> bob    re-INVITE sendonly
         4.120 bob   -> node   100
         4.120 bob   -> node   200 inactive
         4.140 node  -> bob    ACK
         9.080 alice -> node   BYE
         9.100 node  -> alice  200 (BYE)
         9.100 node  -> guest  call-event calling-party-drop of alice
         9.100 node  -> bob    re-INVITE
         9.100 guest -> node   drop -
         9.100 node  -> bob    BYE Q.850;cause=21
         9.120 bob   -> node   100
         9.120 bob   -> node   200 sendonly
         9.120 bob   -> node   200 (BYE)
         9.140 node  -> bob    ACK
         9.140 node  -> guest  session-completed callingPartyHangup",
    );
    assert_eq!(got, hookswitch_sim::expected(lines), "\ngot:\n{got}\n");
    no_leaks(world);
}

#[test]
fn b_a_reinvite_that_gets_a_100_and_no_more_ends_with_its_call() {
    let mut world = talk(&[], &[(1000, Act::Offer(Direction::SendOnly)), (5000, Act::Bye)]);
    world.lose("alice", "node", "200 recvonly", u32::MAX);
    world.run_to_ms(60_000);
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["calledPartyHangup"], "{}", world.ladder());
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- the handler fails

#[test]
fn b_a_trap_in_call_event_is_asked_again_and_then_releases_who_is_left() {
    let trap = || Err(HookFailure::Trap { message: "unreachable".into() });
    let (mut world, alice, _) = world(answer(0), call_to(BOB), vec![trap(), trap()]);
    world.run_to_ms(2000);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         2.000 alice -> node   BYE
         2.020 node  -> alice  200 (BYE)
         2.020 node  -> guest  call-event calling-party-drop of alice
         2.020 guest -> node   trap
         2.020 node  -> guest  alarm callEventError No response to callEvent request
         2.020 node  -> guest  call-event calling-party-drop of alice restarted
         2.020 guest -> node   trap
         2.020 node  -> bob    BYE Q.850;cause=16
         2.040 bob   -> node   200 (BYE)
         2.060 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}

#[test]
fn b_no_answer_to_call_event_releases_who_is_left() {
    let silent = || Err(HookFailure::Deadline);
    let (mut world, alice, _) = world(answer(0), call_to(BOB), vec![silent(), silent()]);
    world.run_to_ms(2000);
    world.hang_up(alice);
    world.run_to_ms(20_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         2.000 alice -> node   BYE
         2.020 node  -> alice  200 (BYE)
         2.020 node  -> guest  call-event calling-party-drop of alice
         7.020 guest -> node   no answer
         7.020 node  -> guest  alarm callEventError No response to callEvent request
         7.020 node  -> guest  call-event calling-party-drop of alice restarted
         12.020 guest -> node   no answer
         12.020 node  -> bob    BYE Q.850;cause=16
         12.040 bob   -> node   200 (BYE)
         12.060 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- the media thread fails

#[test]
fn b_no_port_for_the_callee_fails_the_call_before_an_invite() {
    let mut world = World::new(1, calls(call_to(BOB), vec![]));
    world.network.usual = Path::delayed(ms(20));
    world.phone("bob", answer(0), Script::default());
    world.media.faults.no_ports = true;
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> guest  alarm sessionError mediaServerError
         0.020 node  -> alice  503
         0.020 node  -> guest  session-completed serverError
         0.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn b_a_media_thread_that_is_full_when_they_are_bridged_ends_the_call() {
    let (mut world, alice, bob) = world(answer(1000), call_to(BOB), vec![]);
    world.run_to_ms(1050);
    world.media.faults.full_until = Time::from_millis(1500);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         1.040 bob   -> node   200
         1.060 node  -> bob    ACK
         1.060 node  -> alice  200
         1.060 node  -> guest  alarm sessionError mediaServerError
         1.060 node  -> guest  call-event called-party-failure of bob
         1.060 node  -> bob    BYE Q.850;cause=16
         1.060 guest -> node   drop -
         1.080 alice -> node   ACK
         1.080 bob   -> node   200 (BYE)
         1.100 node  -> alice  BYE Q.850;cause=16
         1.120 alice -> node   200 (BYE)
         1.560 node  -> guest  session-completed serverError",
    );
    assert!(ending(&world, alice).is_some() && ending(&world, bob).is_some());
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- C: a call out of the blue

/// Places a call to Bob, who does this.
fn placed(bob: Callee, max_ring_time: Option<Duration>) -> World {
    let mut world = World::new(1, calls(OutboundCall::default(), vec![]));
    world.network.usual = Path::delayed(ms(20));
    world.phone("bob", bob, Script::default());
    let call = OutboundCall { max_ring_time, ..call_to(BOB) };
    let reply = world.command(Command::PlaceIvrCall(Box::new(PlaceIvrCall { call, ..PlaceIvrCall::default() })));
    assert!(matches!(reply, Some(Ok(Done::Placed { .. }))), "{reply:?}");
    world.run_to_ms(10_000);
    world
}

#[test]
fn c_a_placed_call_gets_the_ivr_when_it_is_answered() {
    let world = placed(answer(1000), None);
    check(
        &world,
        "0.000 node  -> bob    INVITE
         0.020 bob   -> node   100
         0.020 bob   -> node   180
         0.040 node  -> guest  call-notify ringing
         1.020 bob   -> node   200
         1.040 node  -> bob    ACK
         1.040 node  -> guest  call-answered
         1.040 node  -> guest  get-ivr-command
         1.040 guest -> node   command of 0 phrases, hang up
         1.040 node  -> bob    BYE Q.850;cause=16
         1.060 bob   -> node   200 (BYE)
         1.080 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn c_a_placed_call_to_somebody_busy_is_told() {
    let world = placed(Callee::Reject { ring: ms(500), status: 486 }, None);
    check(
        &world,
        "0.000 node  -> bob    INVITE
         0.020 bob   -> node   100
         0.020 bob   -> node   180
         0.040 node  -> guest  call-notify ringing
         0.520 bob   -> node   486
         0.540 node  -> bob    ACK
         0.540 node  -> guest  call-event called-party-failure of bob 486
         0.540 guest -> node   drop -
         0.540 node  -> guest  session-completed busy",
    );
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["busy"]);
    no_leaks(world);
}

#[test]
fn c_a_placed_call_that_nobody_answers_is_cancelled() {
    let world = placed(Callee::Ring, Some(ms(3000)));
    check(
        &world,
        "0.000 node  -> bob    INVITE
         0.020 bob   -> node   100
         0.020 bob   -> node   180
         0.040 node  -> guest  call-notify ringing
         3.000 node  -> guest  call-event called-party-failure of bob 408
         3.000 node  -> bob    CANCEL
         3.000 guest -> node   drop -
         3.020 bob   -> node   200 (CANCEL)
         3.020 bob   -> node   487
         3.040 node  -> bob    ACK
         3.040 node  -> guest  session-completed noAnswer",
    );
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["noAnswer"]);
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- D: a split

fn split(events: Vec<Result<Routing, HookFailure>>) -> World {
    let call = OutboundCall { call_recording: true, ..call_to(BOB) };
    let (mut world, _, _) = world(answer(0), call, events);
    world.run_to_ms(2000);
    let (session_id, connection_id) = (world.session_id(), connection_id(&world));
    let reply = world.command(Command::SplitConnection { session_id, connection_id });
    assert_eq!(reply, Some(Ok(Done::Nothing)));
    world
}

#[test]
fn d_after_a_split_each_party_gets_its_own_answer() {
    let mut world = split(vec![Ok(drop_with(None)), Ok(Routing::Ivr { session_reference: None })]);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   call sip:bob@192.0.2.10:5060
         0.020 node  -> bob    INVITE
         0.040 bob   -> node   100
         0.040 bob   -> node   180
         0.040 bob   -> node   200
         0.060 node  -> guest  call-notify ringing
         0.060 node  -> alice  180
         0.060 node  -> bob    ACK
         0.060 node  -> alice  200
         0.080 alice -> node   ACK
         0.100 node  -> guest  call-answered
         2.000 node  -> guest  call-event caller-connection-split of alice
         2.000 guest -> node   drop -
         2.000 node  -> guest  call-event callee-connection-split of bob
         2.000 node  -> alice  BYE Q.850;cause=21
         2.000 guest -> node   ivr
         2.000 node  -> guest  call-answered
         2.000 node  -> guest  get-ivr-command
         2.000 guest -> node   command of 0 phrases, hang up
         2.000 node  -> bob    BYE Q.850;cause=16
         2.020 alice -> node   200 (BYE)
         2.020 bob   -> node   200 (BYE)
         2.040 node  -> guest  session-completed ivrHangup
         2.100 node  -> guest  recording-ready",
    );
    no_leaks(world);
}

#[test]
fn d_a_party_that_leaves_before_its_answer_makes_it_void() {
    let (mut world, alice, _) = world(answer(0), call_to(BOB), vec![]);
    world.thinking = (ms(500), ms(0));
    world.run_to_ms(3000);
    let (session_id, connection_id) = (world.session_id(), connection_id(&world));
    world.command(Command::SplitConnection { session_id, connection_id });
    world.run_to_ms(3100);
    world.hang_up(alice);
    world.run_to_ms(8000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.520 guest -> node   call sip:bob@192.0.2.10:5060
         0.520 node  -> bob    INVITE
         0.540 bob   -> node   100
         0.540 bob   -> node   180
         0.540 bob   -> node   200
         0.560 node  -> guest  call-notify ringing
         0.560 node  -> alice  180
         0.560 node  -> bob    ACK
         0.560 node  -> alice  200
         0.580 alice -> node   ACK
         0.600 node  -> guest  call-answered
         3.000 node  -> guest  call-event caller-connection-split of alice
         3.100 alice -> node   BYE
         3.120 node  -> alice  200 (BYE)
         3.500 guest -> node   drop -
         3.500 node  -> guest  call-event callee-connection-split of bob
         4.000 guest -> node   drop -
         4.000 node  -> bob    BYE Q.850;cause=21
         4.020 bob   -> node   200 (BYE)
         4.040 node  -> guest  session-completed callingPartyHangup",
    );
    no_leaks(world);
}
