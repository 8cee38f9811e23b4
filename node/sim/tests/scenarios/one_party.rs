//! One caller and the IVR, while the network loses, the handler fails and ends cross.

use crate::{check, no_leaks};
use hookswitch_call::door::Counter;
use hookswitch_call::{Adapter, Collect, Command, Hook, HookFailure, IvrCommand, Routing, Verdict};
use hookswitch_proto::Time;
use hookswitch_proto::media::BargeIn;
use hookswitch_sim::handler::{self, Scripted, file, hang_up, play};
use hookswitch_sim::{Act, Ending, Path, Script, World};
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Every datagram takes 20 ms each way.
fn far(handler: impl Adapter + 'static) -> World {
    let mut world = World::new(1, handler);
    world.network.usual = Path::delayed(ms(20));
    world
}

/// Hangs up when the caller has heard a second of it.
fn hello() -> impl Adapter + 'static {
    handler::ivr(vec![play(vec![file("hello.wav")])])
}

fn trap() -> HookFailure {
    HookFailure::Trap { message: "unreachable".into() }
}

#[test]
fn a_call_from_invite_to_bye() {
    let mut world = far(hello());
    let alice = world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command
         0.060 guest -> node   command of 1 phrases
         1.060 node  -> guest  get-ivr-command
         1.060 guest -> node   command of 0 phrases, hang up
         1.060 node  -> alice  BYE Q.850;cause=16
         1.080 alice -> node   200 (BYE)
         1.100 node  -> guest  session-completed ivrHangup",
    );
    assert_eq!(world.report(alice).map(|r| r.ending.clone()), Some(Ending::Released { by_us: false }));
    no_leaks(world);
}

#[test]
fn the_same_seed_gives_the_same_ladder() {
    let run = |seed| {
        let mut world = World::new(seed, hello());
        world.network.usual = Path { jitter: ms(300), ..Path::lossy(hookswitch_sim::Odds::percent(30)) };
        world.thinking = (ms(10), ms(500));
        world.call("alice", "100", Script::default());
        world.call("bob", "100", Script { end_after: Some(ms(700)), ..Script::default() });
        world.run_to_ms(60_000);
        world.ladder_of(&[hookswitch_sim::Plane::Sip, hookswitch_sim::Plane::Guest, hookswitch_sim::Plane::Media])
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}

// ---------------------------------------------------------------------------------------------------- what the network does

#[test]
fn an_invite_that_comes_again_asks_nobody_twice() {
    let mut world = far(hello());
    world.thinking = (ms(1200), ms(0));
    world.lose("node", "alice", "100", 2);
    world.call("alice", "100", Script::default());
    world.run_to_ms(2000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -x alice  100
         0.020 node  -> guest  new-call
         0.500 alice -> node   INVITE
         0.520 node  -x alice  100
         1.220 guest -> node   ivr
         1.220 node  -> alice  200
         1.240 alice -> node   ACK
         1.260 node  -> guest  call-answered
         1.260 node  -> guest  get-ivr-command",
    );
    assert_eq!(world.count(Counter::CallsOffered), 1);
    no_leaks(world);
}

#[test]
fn a_lost_200_is_sent_again() {
    let mut world = far(hello());
    world.lose("node", "alice", "200", 2);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -x alice  200
         0.520 node  -x alice  200
         1.520 node  -> alice  200
         1.540 alice -> node   ACK
         1.560 node  -> guest  call-answered
         1.560 node  -> guest  get-ivr-command
         1.560 guest -> node   command of 1 phrases
         2.560 node  -> guest  get-ivr-command
         2.560 guest -> node   command of 0 phrases, hang up
         2.560 node  -> alice  BYE Q.850;cause=16
         2.580 alice -> node   200 (BYE)
         2.600 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn a_lost_ack_is_sent_again_for_the_next_200() {
    let mut world = far(hello());
    world.lose("alice", "node", "ACK", 1);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -x node   ACK
         0.520 node  -> alice  200
         0.540 alice -> node   ACK
         0.560 node  -> guest  call-answered
         0.560 node  -> guest  get-ivr-command
         0.560 guest -> node   command of 1 phrases
         1.560 node  -> guest  get-ivr-command
         1.560 guest -> node   command of 0 phrases, hang up
         1.560 node  -> alice  BYE Q.850;cause=16
         1.580 alice -> node   200 (BYE)
         1.600 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn a_caller_that_never_acknowledges_is_released_after_32_seconds() {
    let mut world = far(hello());
    world.lose("alice", "node", "ACK", u32::MAX);
    world.call("alice", "100", Script::default());
    world.run_to_ms(40_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -x node   ACK
         0.520 node  -> alice  200
         0.540 alice -x node   ACK
         1.520 node  -> alice  200
         1.540 alice -x node   ACK
         3.520 node  -> alice  200
         3.540 alice -x node   ACK
         7.520 node  -> alice  200
         7.540 alice -x node   ACK
         11.520 node  -> alice  200
         11.540 alice -x node   ACK
         15.520 node  -> alice  200
         15.540 alice -x node   ACK
         19.520 node  -> alice  200
         19.540 alice -x node   ACK
         23.520 node  -> alice  200
         23.540 alice -x node   ACK
         27.520 node  -> alice  200
         27.540 alice -x node   ACK
         31.520 node  -> alice  200
         31.540 alice -x node   ACK
         32.020 node  -> alice  BYE
         32.020 node  -> guest  session-completed serverError
         32.040 alice -> node   200 (BYE)",
    );
    no_leaks(world);
}

#[test]
fn a_lost_answer_to_bye_has_it_sent_again() {
    let mut world = far(hello());
    world.lose("alice", "node", "200 (BYE)", 1);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command
         0.060 guest -> node   command of 1 phrases
         1.060 node  -> guest  get-ivr-command
         1.060 guest -> node   command of 0 phrases, hang up
         1.060 node  -> alice  BYE Q.850;cause=16
         1.080 alice -x node   200 (BYE)
         1.560 node  -> alice  BYE Q.850;cause=16
         1.580 alice -> node   200 (BYE)
         1.600 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn a_cancel_that_crosses_the_200_leads_to_a_bye() {
    let mut world = far(hello());
    world.thinking = (ms(1000), ms(0));
    let alice = world.call("alice", "100", Script::default());
    // The 200 goes out at 1.020 and comes in at 1.040.
    world.run_to_ms(1030);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         1.020 guest -> node   ivr
         1.020 node  -> alice  200
         1.030 alice -> node   CANCEL
         1.040 alice -> node   ACK
         1.040 alice -> node   BYE
         1.050 node  -> alice  200 (CANCEL)
         1.060 node  -> guest  call-answered
         1.060 node  -> guest  get-ivr-command
         1.060 node  -> alice  200 (BYE)
         1.060 node  -> guest  session-completed callingPartyHangup
         2.060 guest -> node   command of 1 phrases",
    );
    no_leaks(world);
}

#[test]
fn a_cancel_before_the_verdict_ends_the_call_and_the_verdict_comes_to_nothing() {
    let mut world = far(hello());
    world.thinking = (ms(1000), ms(0));
    let alice = world.call("alice", "100", Script::default());
    world.run_to_ms(500);
    world.hang_up(alice);
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.500 alice -> node   CANCEL
         0.520 node  -> alice  200 (CANCEL)
         0.520 node  -> alice  487
         0.520 node  -> guest  session-completed canceled
         0.540 alice -> node   ACK
         1.020 guest -> node   ivr",
    );
    assert_eq!(world.report(alice).map(|r| r.ending.clone()), Some(Ending::Failed { status: 487 }));
    no_leaks(world);
}

#[test]
fn bye_from_both_sides_at_once() {
    let mut world = far(hello());
    // The node's BYE goes out at 1.060 and comes in at 1.080.
    world.call("alice", "100", Script { end_after: Some(ms(1030)), ..Script::default() });
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command
         0.060 guest -> node   command of 1 phrases
         1.060 node  -> guest  get-ivr-command
         1.060 guest -> node   command of 0 phrases, hang up
         1.060 node  -> alice  BYE Q.850;cause=16
         1.070 alice -> node   BYE
         1.080 alice -> node   200 (BYE)
         1.090 node  -> alice  200 (BYE)
         1.090 node  -> guest  session-completed ivrHangup",
    );
    assert_eq!((world.records.len(), world.records[0].reason), (1, "ivrHangup"));
    no_leaks(world);
}

#[test]
fn a_caller_whose_network_dies_is_released_after_the_rtp_timeout() {
    let mut world = far(handler::ivr(vec![IvrCommand { next_after: ms(300_000), ..IvrCommand::default() }]));
    let outage = Path { outages: vec![(Time::from_millis(5000), Time::from_millis(200_000))], ..Path::delayed(ms(20)) };
    world.call("alice", "100", Script::default());
    world.path("alice", "node", outage.clone());
    world.path("node", "alice", outage);
    world.run_to_ms(150_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command
         0.060 guest -> node   command of 0 phrases
         65.000 node  -> guest  alarm callError RTP media timeout
         65.000 node  -x alice  BYE Q.850;cause=41
         65.500 node  -x alice  BYE Q.850;cause=41
         66.500 node  -x alice  BYE Q.850;cause=41
         68.500 node  -x alice  BYE Q.850;cause=41
         72.500 node  -x alice  BYE Q.850;cause=41
         76.500 node  -x alice  BYE Q.850;cause=41
         80.500 node  -x alice  BYE Q.850;cause=41
         84.500 node  -x alice  BYE Q.850;cause=41
         88.500 node  -x alice  BYE Q.850;cause=41
         92.500 node  -x alice  BYE Q.850;cause=41
         96.500 node  -x alice  BYE Q.850;cause=41
         97.000 node  -> guest  session-completed rtpTimeout",
    );
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["rtpTimeout"]);
    no_leaks(world);
}

#[test]
fn noise_on_the_sip_port_disturbs_no_call() {
    let mut world = far(hello());
    world.call("alice", "100", Script::default());
    for n in 0..200u8 {
        world.run_for(ms(10));
        let noise = (0..n).map(|i| i.wrapping_mul(n).wrapping_add(n)).collect();
        world.raw("192.0.2.250:4000".parse().expect("an address"), noise);
    }
    world.run_to_ms(5000);
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["ivrHangup"]);
    assert!(world.count(Counter::SipMalformed) > 50, "{:?}", world.counters);
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- what the handler does

/// newCall: ivr. The commands: a menu of one digit, then hang up.
fn menu() -> IvrCommand {
    IvrCommand {
        phrases: vec![file("menu.wav")],
        barge_in: BargeIn::All,
        dtmf: Some(Collect { max_digits: Some(1), first_timeout: ms(3000), ..Collect::default() }),
        ..IvrCommand::default()
    }
}

#[test]
fn a_digit_cuts_the_menu() {
    let mut world = far(handler::ivr(vec![menu()]));
    world.call("alice", "100", Script { acts: vec![(ms(700), Act::Digit('5'))], ..Script::default() });
    world.run_to_ms(6000);
    let got = world.ladder_of(&[hookswitch_sim::Plane::Guest, hookswitch_sim::Plane::Media]);
    let lines = "0.020 node  -> guest  new-call
     0.020 guest -> node   ivr
     0.060 node  -> guest  call-answered
     0.060 node  -> guest  get-ivr-command
     0.060 guest -> node   command of 1 phrases, collect
     0.060 node  -> media  play clip 2000 ms
     0.740 alice -> node   digit 5
     0.760 node  -> guest  get-ivr-command dtmf=\"5\" MaxDigits
     0.760 guest -> node   command of 0 phrases, hang up
     0.800 node  -> guest  session-completed ivrHangup";
    assert_eq!(got, hookswitch_sim::expected(lines), "\ngot:\n{got}\n");
    no_leaks(world);
}

#[test]
fn no_verdict_by_the_deadline_costs_the_instance_and_then_the_call() {
    let mut world = far(Scripted::new(|_| Err(HookFailure::Deadline)));
    let alice = world.call("alice", "100", Script::default());
    world.run_to_ms(20_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         5.020 guest -> node   no answer
         5.020 node  -> guest  alarm newCallEventError newCall request failed
         5.020 node  -> guest  new-call restarted
         10.020 guest -> node   no answer
         10.020 node  -> alice  503
         10.020 node  -> guest  session-completed serverError
         10.040 alice -> node   ACK",
    );
    assert_eq!(world.report(alice).map(|r| r.ending.clone()), Some(Ending::Failed { status: 503 }));
    no_leaks(world);
}

#[test]
fn when_nobody_answers_for_handlers_the_switch_gives_up_by_itself() {
    let mut world = far(hello());
    world.guests_dead = true;
    world.call("alice", "100", Script::default());
    world.run_to_ms(30_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         10.020 node  -> guest  alarm newCallEventError newCall request failed
         10.020 node  -> guest  new-call restarted
         20.020 node  -> guest  alarm newCallEventError newCall request failed
         20.020 node  -> alice  503
         20.020 node  -> guest  session-completed serverError
         20.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn a_slow_verdict_within_the_deadline_is_as_good_as_any() {
    let mut world = far(hello());
    world.thinking = (ms(4900), ms(0));
    world.call("alice", "100", Script::default());
    world.run_to_ms(20_000);
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["ivrHangup"]);
    assert_eq!(world.count(Counter::HookFailed), 0);
    no_leaks(world);
}

#[test]
fn a_trap_in_new_call_restarts_the_guest_once() {
    let mut first = true;
    let mut world = far(Scripted::new(move |ask| match ask.hook {
        Hook::NewCall(_) if std::mem::take(&mut first) => Err(trap()),
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: Some("7".into()) })),
        _ => Ok(Verdict::Ivr(Box::new(hang_up()))),
    }));
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   trap
         0.020 node  -> guest  alarm newCallEventError newCall request failed
         0.020 node  -> guest  new-call restarted
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command restarted reference=7
         0.060 guest -> node   command of 0 phrases, hang up
         0.060 node  -> alice  BYE Q.850;cause=16
         0.080 alice -> node   200 (BYE)
         0.100 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn a_trap_in_each_get_ivr_command_ends_the_call() {
    let mut world = far(Scripted::new(|ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Err(trap()),
    }));
    world.call("alice", "100", Script::default());
    world.run_to_ms(10_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command
         0.060 guest -> node   trap
         0.060 node  -> guest  alarm ivrCommandError getIvrCommand request error
         1.060 node  -> guest  get-ivr-command restarted
         1.060 guest -> node   trap
         1.060 node  -> alice  BYE Q.850;cause=16
         1.080 alice -> node   200 (BYE)
         1.100 node  -> guest  session-completed serverError",
    );
    no_leaks(world);
}

#[test]
fn a_guest_that_traps_in_the_middle_goes_on_with_its_reference() {
    let mut asked = 0;
    let mut world = far(Scripted::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: Some("{\"step\":1}".into()) })),
        _ => {
            asked += 1;
            match asked {
                1 => Ok(Verdict::Ivr(Box::new(play(vec![file("hello.wav")])))),
                2 => Err(trap()),
                _ => Ok(Verdict::Ivr(Box::new(hang_up()))),
            }
        }
    }));
    world.call("alice", "100", Script::default());
    world.run_to_ms(10_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> alice  200
         0.040 alice -> node   ACK
         0.060 node  -> guest  call-answered
         0.060 node  -> guest  get-ivr-command reference={\"step\":1}
         0.060 guest -> node   command of 1 phrases
         1.060 node  -> guest  get-ivr-command reference={\"step\":1}
         1.060 guest -> node   trap
         1.060 node  -> guest  alarm ivrCommandError getIvrCommand request error
         2.060 node  -> guest  get-ivr-command restarted reference={\"step\":1}
         2.060 guest -> node   command of 0 phrases, hang up
         2.060 node  -> alice  BYE Q.850;cause=16
         2.080 alice -> node   200 (BYE)
         2.100 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}

#[test]
fn nonsense_is_no_verdict() {
    let mut world = far(Scripted::new(|_| Ok(Verdict::Ivr(Box::new(hang_up())))));
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   command of 0 phrases, hang up
         0.020 node  -> guest  alarm newCallEventError newCall request failed
         0.020 node  -> alice  503
         0.020 node  -> guest  session-completed serverError
         0.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn a_hang_up_by_command_while_a_hook_runs() {
    let mut world = far(hello());
    world.thinking = (ms(2000), ms(0));
    world.call("alice", "100", Script::default());
    world.run_to_ms(3000);
    let (session_id, participant_id) = (world.session_id(), world.participant_id());
    let reply = world.command(Command::HangupParticipant { session_id, participant_id });
    assert!(matches!(reply, Some(Ok(_))), "{reply:?}");
    world.run_to_ms(10_000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         2.020 guest -> node   ivr
         2.020 node  -> alice  200
         2.040 alice -> node   ACK
         2.060 node  -> guest  call-answered
         2.060 node  -> guest  get-ivr-command
         3.000 node  -> alice  BYE Q.850;cause=16
         3.020 alice -> node   200 (BYE)
         3.040 node  -> guest  session-completed apiHangup
         4.060 guest -> node   command of 1 phrases",
    );
    no_leaks(world);
}

// ---------------------------------------------------------------------------------------------------- what the media thread does

#[test]
fn no_port_left_is_a_503() {
    let mut world = far(hello());
    world.media.faults.no_ports = true;
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> guest  alarm sessionError mediaServerError
         0.020 node  -> alice  503
         0.020 node  -> guest  session-completed serverError
         0.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn a_full_media_thread_refuses_the_open() {
    let mut world = far(hello());
    world.media.faults.full_until = Time::from_millis(1000);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.020 node  -> guest  alarm sessionError mediaServerError
         0.020 node  -> alice  503
         0.020 node  -> guest  session-completed serverError
         0.040 alice -> node   ACK",
    );
    no_leaks(world);
}

#[test]
fn a_media_thread_that_is_full_in_the_middle_of_a_call_ends_it_and_is_told_to_close_until_it_hears() {
    let mut world = far(hello());
    world.call("alice", "100", Script::default());
    world.run_to_ms(50);
    world.media.faults.full_until = Time::from_millis(500);
    world.run_to_ms(5000);
    let got = world.ladder_of(&[hookswitch_sim::Plane::Sip, hookswitch_sim::Plane::Guest, hookswitch_sim::Plane::World]);
    let lines = "0.000 alice -> node   INVITE
     0.020 node  -> alice  100
     0.020 node  -> guest  new-call
     0.020 guest -> node   ivr
     0.020 node  -> alice  200
     0.040 alice -> node   ACK
     0.060 node  -> guest  call-answered
     0.060 node  -> guest  get-ivr-command
     0.060 guest -> node   command of 1 phrases
     0.060 media -> node   refused: the ring is full
     0.060 node  -> guest  alarm sessionError mediaServerError
     0.060 media -> node   refused: the ring is full
     0.060 node  -> alice  BYE Q.850;cause=16
     0.080 alice -> node   200 (BYE)
     0.160 media -> node   refused: the ring is full
     0.260 media -> node   refused: the ring is full
     0.360 media -> node   refused: the ring is full
     0.460 media -> node   refused: the ring is full
     0.560 node  -> guest  session-completed serverError";
    assert_eq!(got, hookswitch_sim::expected(lines), "\ngot:\n{got}\n");
    no_leaks(world);
}

#[test]
fn a_media_thread_that_stands_still_answers_late_and_loses_no_call() {
    let mut world = far(hello());
    world.media.faults.busy_until = Time::from_millis(400);
    world.call("alice", "100", Script::default());
    world.run_to_ms(5000);
    check(
        &world,
        "0.000 alice -> node   INVITE
         0.020 node  -> alice  100
         0.020 node  -> guest  new-call
         0.020 guest -> node   ivr
         0.400 node  -> alice  200
         0.420 alice -> node   ACK
         0.440 node  -> guest  call-answered
         0.440 node  -> guest  get-ivr-command
         0.440 guest -> node   command of 1 phrases
         1.440 node  -> guest  get-ivr-command
         1.440 guest -> node   command of 0 phrases, hang up
         1.440 node  -> alice  BYE Q.850;cause=16
         1.460 alice -> node   200 (BYE)
         1.480 node  -> guest  session-completed ivrHangup",
    );
    no_leaks(world);
}
