//! Silent listeners of connections (IC-189 to IC-192, SM-011), in virtual time: when they are called, what they hear, and that nothing of
//! them touches the call.

use crate::contract::callee::Plan;
use crate::contract::world::{DOMAIN, World, configuration, direction_of, offer, switch_config, tenant};
use crate::contract::{Script, file};
use crate::door::{Command, CommandError, Counter, HoldAudio, Mute};
use crate::hook::*;
use std::time::Duration;

const S: u64 = 1000;
const BOB: &str = "sip:bob@127.0.0.20";
const EVE: &str = "sip:eve@127.0.0.30";

fn to(dest: &str) -> OutboundCall {
    OutboundCall { dest_addr: dest.into(), ..OutboundCall::default() }
}

/// Bob is called, and eve listens: she rings 100 ms and answers a second after she was called, unless `plan` says otherwise.
fn world_of(call: OutboundCall, plan: Plan) -> World {
    let script = Script::new(move |ask| {
        Ok(match ask.hook {
            Hook::NewCall(_) => Verdict::Routing(Routing::Call(Box::new(call.clone()))),
            Hook::GetIvrCommand(_) => Verdict::Ivr(Box::new(IvrCommand { phrases: vec![file("hello.wav")], ..IvrCommand::default() })),
            _ => Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None }),
        })
    });
    let mut world = World::with(configuration(tenant()), switch_config(7), Box::new(script));
    world.users.insert("bob".into(), Plan::default());
    world.users.insert("eve".into(), plan);
    world
}

fn monitored(monitor: OutboundCall, plan: Plan) -> World {
    let mut world = world_of(OutboundCall { monitor: Some(Box::new(monitor)), ..to(BOB) }, plan);
    world.call("100");
    world
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

fn check(world: &World, from: &str, expected: &str) {
    let ladder = world.ladder(&[" ACK", "-> alice 100", " BYE)"]);
    let got = ladder.find(from).map_or("", |at| &ladder[at..]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\nwhole:\n{ladder}\n");
}

/// (caller, callee, listener)
fn participants(world: &World) -> [String; 3] {
    let mut parties = world.notifications.iter().filter_map(|n| match n {
        Notification::CallAnswered { caller_participant_id, callee_participant_id, monitoring, .. } => {
            Some((*monitoring, caller_participant_id.clone(), callee_participant_id.clone()))
        }
        _ => None,
    });
    let (_, caller, callee) = parties.find(|(monitoring, ..)| !monitoring).expect("the call is answered");
    let (_, _, listener) = parties.find(|(monitoring, ..)| *monitoring).expect("somebody listens");
    [caller, callee, listener]
}

#[test]
fn ic_189_192_sm_011_a_listener_is_called_when_the_connection_is_up_and_leaves_with_it() {
    let mut world = monitored(to(EVE), Plan::default());
    world.run_to(3 * S);
    world.hangup(0);
    world.run_to(4 * S);
    check(
        &world,
        "1.000 bob -> node 200",
        "1.000 bob -> node 200
         1.000 node -> media leg 1 hears leg 2
         1.000 node -> media leg 2 hears leg 1
         1.000 node -> alice 200
         1.000 node -> guest callAnswered
         1.000 node -> eve INVITE
         1.100 eve -> node 180
         1.100 node -> guest callNotify ringing eve, a monitor
         2.000 eve -> node 200
         2.000 node -> media leg 3 listens to leg 1 and leg 2
         2.000 node -> guest callAnswered of a monitor
         3.000 alice -> node BYE
         3.000 node -> media close
         3.000 node -> media close
         3.000 node -> media leg 2 hears nobody
         3.000 node -> guest callEvent callingPartyDrop alice/bob
         3.000 node -> eve BYE Q.850;cause=16
         3.000 eve -> node 200
         3.000 guest -> node drop -
         3.000 node -> media close
         3.000 node -> bob BYE Q.850;cause=21
         3.000 bob -> node 200
         3.000 node -> guest sessionCompleted callingPartyHangup",
    );
    // IC-189: nothing is taken from it.
    assert_eq!(direction_of(&world.callees[1].heard[0]), "sendonly");
    let told: Vec<(bool, String)> = world
        .notifications
        .iter()
        .filter_map(|n| match n {
            Notification::CallAnswered { monitoring, connection_id, .. } => Some((*monitoring, connection_id.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].0, told[1].0, told[0].1 == told[1].1), (false, true, true), "it names what it listens to");
    no_leaks(&mut world);
}

#[test]
fn ic_101_121_a_listener_hears_a_pseudo_participant_with_one_id() {
    let mut world = monitored(to(EVE), Plan::default());
    world.run_to(3 * S);
    let heard: Vec<(String, String)> = world
        .notifications
        .iter()
        .filter_map(|n| match n {
            Notification::CallAnswered { monitoring: true, caller_participant_id, calling_party_number, .. } => {
                Some((caller_participant_id.clone(), calling_party_number.clone()))
            }
            Notification::CallNotify { monitoring: true, remote_participant_id, remote_user, .. } => {
                remote_participant_id.clone().zip(remote_user.clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(heard.len(), 2);
    assert_eq!((&heard[0], heard[0].0.len(), heard[0].1.as_str()), (&heard[1], 36, "alice"));
    assert!(!participants(&world).contains(&heard[0].0));
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_190_191_its_invite_says_what_the_answer_says() {
    let monitor = OutboundCall {
        sip_from: Some("supervisor".into()),
        x_headers: vec![("X-Call".into(), "7".into())],
        p_headers: vec![("P-Charging-Vector".into(), "icid=1".into())],
        ..to(EVE)
    };
    let mut world = monitored(monitor, Plan::default());
    world.run_to(3 * S);
    let invite = &world.callees[1].invite;
    assert!(invite.header("From").is_some_and(|from| from.starts_with("<sip:supervisor@demo.test>;tag=")), "{:?}", invite.header("From"));
    assert_eq!((invite.header("X-Call").as_deref(), invite.header("P-Charging-Vector").as_deref()), (Some("7"), Some("icid=1")));
    let plain = &world.callees[0].invite;
    assert_eq!((plain.header("X-Call"), plain.header("P-Charging-Vector")), (None, None), "the callee is told nothing of it");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_192_whatever_becomes_of_a_listener_the_call_goes_on() {
    let nonsense = Plan { sdp: "nonsense".into(), ..Plan::default() };
    for (monitor, plan) in [
        (to(EVE), Plan::refuses(486)),
        (to(EVE), nonsense),
        (to(EVE), Plan { deaf: true, ..Plan::default() }),
        (OutboundCall { max_ring_time: Some(Duration::from_secs(2)), ..to(EVE) }, Plan::rings()),
        (to("sip:nobody@unknown.test"), Plan::default()),
        (to("sip:eve@192.0.2.66"), Plan::default()),
        (to("eve"), Plan::default()),
        (OutboundCall { x_headers: vec![("Via".into(), "x".into())], ..to(EVE) }, Plan::default()),
    ] {
        let what = format!("{monitor:?} {plan:?}");
        let mut world = monitored(monitor, plan);
        world.run_to(70 * S);
        assert_eq!(world.bridges().iter().filter(|(_, hears)| hears.is_some()).count(), 2, "{what}\n{}", world.ladder(&[]));
        assert_eq!(world.asks.len(), 1, "nobody is asked about it: {what}");
        assert!(world.logs.iter().any(|line| line.contains("monitor: ")), "{what}: {:?}", world.logs);
        world.callee_request(0, "BYE", None);
        world.run_to(75 * S);
        assert_eq!((world.reason(), world.records[0].final_status), (Some("calledPartyHangup"), 200), "{what}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_192_a_listener_that_hangs_up_or_is_released_is_nobodys_counterpart() {
    for by_command in [false, true] {
        let mut world = monitored(to(EVE), Plan::default());
        world.run_to(3 * S);
        let [caller, callee, listener] = participants(&world);
        let session_id = world.session_id();
        let none = Command::HangupRemoteParticipant { session_id: session_id.clone(), participant_id: listener.clone() };
        assert_eq!(world.command(none), Err(CommandError::WrongState("the participant has no counterpart")));
        if by_command {
            assert!(world.command(Command::HangupParticipant { session_id: session_id.clone(), participant_id: listener }).is_ok());
        } else {
            world.callee_request(1, "BYE", None);
        }
        world.run_to(4 * S);
        assert_eq!((world.asks.len(), world.records.len(), world.alarms().len()), (1, 0, 0), "{}", world.ladder(&[]));
        // What changes who hears whom asks nobody who has left.
        for participant_id in [caller, callee] {
            let mute = Mute { speak: true, listen: false };
            assert!(world.command(Command::Mute { session_id: session_id.clone(), participant_id, mute }).is_ok());
        }
        world.hangup(0);
        world.run_to(5 * S);
        assert_eq!(world.reason(), Some("callingPartyHangup"));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_192_one_that_still_rings_is_cancelled_and_a_split_ends_it_too() {
    let mut world = monitored(to(EVE), Plan::rings());
    world.run_to(2 * S);
    world.hangup(0);
    world.run_to(4 * S);
    assert!(world.ladder(&[]).contains("2.000 node -> eve CANCEL"), "{}", world.ladder(&[]));
    assert_eq!(world.reason(), Some("callingPartyHangup"));
    no_leaks(&mut world);

    let mut world = monitored(to(EVE), Plan::default());
    world.run_to(3 * S);
    let connection_id = world.notifications.iter().find_map(|n| match n {
        Notification::CallAnswered { connection_id, .. } => Some(connection_id.clone()),
        _ => None,
    });
    let split = Command::SplitConnection { session_id: world.session_id(), connection_id: connection_id.expect("it is up") };
    assert!(world.command(split).is_ok());
    world.run_to(4 * S);
    assert!(world.ladder(&[]).contains("3.000 node -> eve BYE"), "{}", world.ladder(&[]));
    no_leaks(&mut world);
}

#[test]
fn ic_189_it_hears_who_is_heard() {
    let mut world = monitored(to(EVE), Plan::default());
    world.run_to(3 * S);
    let [caller, callee, listener] = participants(&world);
    let session_id = world.session_id();
    let heard = |world: &World| {
        let ladder = world.ladder(&[]);
        ladder.rsplit_once("leg 3 listens to ").map(|(_, rest)| rest.lines().next().unwrap_or_default().to_owned())
    };
    let order = |world: &mut World, command: Command, expected: &str| {
        assert!(world.command(command).is_ok());
        assert_eq!(heard(world).as_deref(), Some(expected));
    };
    let mute = |participant_id: &str, speak| Command::Mute {
        session_id: session_id.clone(),
        participant_id: participant_id.to_owned(),
        mute: Mute { speak, listen: false },
    };
    order(&mut world, mute(&caller, true), "leg 2");
    order(&mut world, mute(&callee, true), "nobody");
    order(&mut world, mute(&caller, false), "leg 1");
    order(&mut world, mute(&callee, false), "leg 1 and leg 2");
    let hold = Command::Hold { session_id: session_id.clone(), participant_id: callee.clone(), audio: HoldAudio::Silence };
    order(&mut world, hold, "nobody");
    world.run_to(4 * S);
    order(&mut world, Command::Resume { session_id: session_id.clone(), participant_id: callee.clone() }, "leg 1 and leg 2");
    // It is not held itself, nor joined with anybody.
    let hold = Command::Hold { session_id, participant_id: listener, audio: HoldAudio::Silence };
    assert_eq!(world.command(hold), Err(CommandError::WrongState("the participant is connected with nobody")));
    // Its own re-INVITE is answered and told, and holds nobody.
    world.callee_request(1, "INVITE", Some(("application/sdp", &offer("sendrecv", true))));
    world.run_to(5 * S);
    let answer = world.callees[1].heard.last().expect("it was answered").clone();
    assert_eq!(direction_of(&answer), "sendonly");
    assert!(world.ladder(&[]).contains("callNotify reInvite eve, a monitor"), "{}", world.ladder(&[]));
    assert_eq!(world.callees[0].heard.len(), 3, "the callee heard of the hold and its end alone");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_192_a_listener_is_not_connected_with_anybody() {
    // A handler that takes the listener for somebody to talk to.
    let listener = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
    let known = listener.clone();
    let call = OutboundCall { monitor: Some(Box::new(to(EVE))), ..to(BOB) };
    let script = Script::new(move |ask| {
        Ok(Verdict::Routing(match ask.hook {
            Hook::NewCall(_) => Routing::Call(Box::new(call.clone())),
            _ => Routing::Join { participant_id: known.borrow().clone(), session_reference: None, recording: None },
        }))
    });
    let mut world = World::with(configuration(tenant()), switch_config(7), Box::new(script));
    for user in ["bob", "eve"] {
        world.users.insert(user.into(), Plan::default());
    }
    world.call("100");
    world.run_to(3 * S);
    *listener.borrow_mut() = participants(&world)[2].clone();
    world.callee_request(0, "BYE", None);
    world.run_to(4 * S);
    assert!(world.alarms().iter().any(|alarm| alarm.starts_with("callEventError Invalid sip address")), "{:?}", world.alarms());
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.records[0].domain.as_ref(), DOMAIN);
    no_leaks(&mut world);
}
