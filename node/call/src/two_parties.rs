//! Calls of two parties and more in virtual time: calls out, bridges, who remains, splits, joins, placed calls, recordings of both
//! sides. Ladders are those of docs/conformance.md "Event order". One party alone is in `tests.rs`.

use crate::contract::callee::Plan;
use crate::contract::world::{World, configuration, offer, switch_config, tenant};
use crate::contract::{Script, file};
use crate::door::{Command, CommandError, Counter, Done, PlaceIvrCall, Tenant, WhichRecording};
use crate::hook::*;
use crate::limits;
use crate::recording::{Container, Unwritable};
use crate::switch::SwitchConfig;
use hookswitch_proto::media::{Direction, LegId, MediaKind, StopReason, TapDirection};
use std::time::Duration;

const S: u64 = 1000;
const BOB: &str = "sip:bob@127.0.0.20";

fn call_to(dest: &str) -> OutboundCall {
    OutboundCall { dest_addr: dest.into(), ..OutboundCall::default() }
}

fn call(call: OutboundCall) -> Verdict {
    Verdict::Routing(Routing::Call(Box::new(call)))
}

fn to_ivr() -> Verdict {
    Verdict::Routing(Routing::Ivr { session_reference: None })
}

fn drop_it() -> Verdict {
    Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })
}

fn drop_with(code: &str) -> Verdict {
    Verdict::Routing(Routing::Drop { drop_code: Some(code.into()), session_reference: None })
}

fn join(participant_id: &str) -> Verdict {
    Verdict::Routing(Routing::Join { participant_id: participant_id.into(), session_reference: None, recording: None })
}

fn listen() -> Verdict {
    Verdict::Ivr(Box::new(IvrCommand {
        dtmf: Some(Collect { first_timeout: Duration::from_secs(60), ..Collect::default() }),
        ..IvrCommand::default()
    }))
}

/// newCall: this call. Each callEvent gets the next of these answers, then drop. getIvrCommand: waits for keys.
fn bridge_then(first: OutboundCall, events: Vec<Result<Verdict, HookFailure>>) -> Script {
    let mut events = events.into_iter();
    Script::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(call(first.clone())),
        Hook::CallEvent(_) => events.next().unwrap_or_else(|| Ok(drop_it())),
        _ => Ok(listen()),
    })
}

fn world_with(script: Script, plan: Plan) -> World {
    let mut world = World::new(script);
    world.users.insert("bob".into(), plan);
    world
}

/// Alice calls, bob answers after a second.
fn bridged(events: Vec<Result<Verdict, HookFailure>>) -> World {
    let mut world = world_with(bridge_then(call_to(BOB), events), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    world
}

fn check(world: &World, expected: &str) {
    let got = world.ladder(&[" ACK", "alice 100", "-> alice 100", "node 100"]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\ngot:\n{got}\n");
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

fn events(world: &World) -> Vec<CallEvent> {
    let event = |ask: &crate::door::Ask| if let Hook::CallEvent(event) = &ask.hook { Some((**event).clone()) } else { None };
    world.asks.iter().filter_map(event).collect()
}

fn answered(world: &World) -> Vec<(String, String, String, String, String)> {
    let one = |n: &Notification| match n {
        Notification::CallAnswered {
            connection_id,
            caller_participant_id,
            callee_participant_id,
            calling_party_number,
            remote_party_number,
            reply_to: ReplyTo::Connection,
            ..
        } => Some((
            connection_id.clone(),
            caller_participant_id.clone(),
            callee_participant_id.clone(),
            calling_party_number.clone(),
            remote_party_number.clone(),
        )),
        _ => None,
    };
    world.notifications.iter().filter_map(one).collect()
}

fn connection(world: &World) -> String {
    answered(world).last().expect("a connection").0.clone()
}

/// Participant ids of caller and callee of the last connection.
fn both(world: &World) -> (String, String) {
    let (_, caller, callee, ..) = answered(world).pop().expect("a connection");
    (caller, callee)
}

// ------------------------------------------------------------------------------------------------ 7.2 B: a call to a destination

#[test]
fn ic_104_105_112_142_143_159_193_201_order_b_bridge_and_caller_hangs_up() {
    let mut world = bridged(vec![]);
    world.hangup(0);
    world.run_to(3 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         0.000 guest -> node call sip:bob@127.0.0.20
         0.000 node -> bob INVITE
         0.100 bob -> node 180
         0.100 node -> guest callNotify ringing bob
         0.100 node -> alice 180
         1.000 bob -> node 200
         1.000 node -> media leg 1 hears leg 2
         1.000 node -> media leg 2 hears leg 1
         1.000 node -> alice 200
         1.000 node -> guest callAnswered
         2.000 alice -> node BYE
         2.000 node -> alice 200 (2 BYE)
         2.000 node -> media close
         2.000 node -> media leg 2 hears nobody
         2.000 node -> guest callEvent callingPartyDrop alice/bob
         2.000 guest -> node drop -
         2.000 node -> media close
         2.000 node -> bob BYE Q.850;cause=21
         2.000 bob -> node 200
         2.000 node -> guest sessionCompleted callingPartyHangup",
    );
    assert_eq!((world.records[0].final_status, world.records[0].reason), (200, "callingPartyHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_144_157_the_callee_hangs_up_and_the_handler_says_nothing() {
    let mut world = bridged(vec![Err(HookFailure::Refused { message: "no".into() })]);
    world.callee_request(0, "BYE", None);
    world.run_to(3 * S);
    let ladder = world.ladder(&[" ACK", "media"]);
    assert!(
        ladder.ends_with(
            "2.000 node -> guest callEvent calledPartyDrop bob/alice\n2.000 guest -> node refused\n\
             2.000 node -> guest alarm callEventError No response to callEvent request\n2.000 node -> alice BYE Q.850;cause=16\n\
             2.000 alice -> node 200\n2.000 node -> guest sessionCompleted calledPartyHangup"
        ),
        "{ladder}"
    );
    no_leaks(&mut world);
}

#[test]
fn ic_149_to_154_an_event_names_connection_and_both_participants() {
    let mut world = bridged(vec![]);
    let (connection_id, (caller, callee)) = (connection(&world), both(&world));
    world.hangup(0);
    world.run_to(3 * S);
    let event = &events(&world)[0];
    assert_eq!((event.event, &event.connection_id), (CallEventKind::CallingPartyDrop, &connection_id));
    assert_eq!((&event.participant_id, &event.remote_participant_id), (&caller, &callee));
    assert_eq!((event.user.as_str(), event.remote_user.as_str()), ("alice", "bob"));
    assert_eq!((event.info.session_id.len(), event.info.domain.as_str(), event.reply_to), (36, "demo.test", ReplyTo::Participant));
    no_leaks(&mut world);
}

#[test]
fn ic_106_107_109_to_111_callnotify_names_leg_and_counterpart() {
    let mut world = bridged(vec![]);
    world.reinvite(0, Some(&offer("sendrecv", true)));
    world.callee_request(0, "UPDATE", Some(("application/sdp", &offer("sendrecv", true))));
    world.run_to(3 * S);
    let told: Vec<_> = world
        .notifications
        .iter()
        .filter_map(|n| match n {
            Notification::CallNotify { event, user, remote_user, participant_id, remote_participant_id, sip_call_id, reply_to, .. } => {
                assert_eq!((*reply_to, sip_call_id.is_empty(), participant_id.len()), (ReplyTo::Participant, false, 36));
                assert!(remote_participant_id.as_ref().is_some_and(|r| r != participant_id));
                Some((*event, user.as_str(), remote_user.as_deref()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, [("ringing", "bob", Some("alice")), ("reInvite", "alice", Some("bob")), ("update", "bob", Some("alice"))]);
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_105_ringing_is_told_once_and_183_counts_as_well() {
    for first in [180, 183] {
        let ms = Duration::from_millis;
        let plan = Plan { provisional: vec![(ms(100), first, false), (ms(200), 180, false), (ms(300), 183, true)], ..Plan::default() };
        let mut world = world_with(bridge_then(call_to(BOB), vec![]), plan);
        world.call("100");
        world.run_to(2 * S);
        let ladder = world.ladder(&[]);
        assert_eq!((ladder.matches("callNotify ringing").count(), ladder.matches("node -> alice 180").count()), (1, 1), "{ladder}");
        world.hangup(0);
        no_leaks(&mut world);
    }
}

#[test]
fn ic_102_103_113_to_116_123_call_answered_names_the_connection() {
    let first = OutboundCall { session_reference: Some("{\"a\":1}".into()), ..call_to(BOB) };
    let mut world = world_with(bridge_then(first, vec![Ok(to_ivr())]), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    world.hangup(0);
    world.run_to(3 * S);
    let told = answered(&world);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].3.as_str(), told[0].4.as_str()), ("alice", "bob"));
    assert_ne!(told[0].0, told[1].0, "a connection of its own with the IVR");
    assert_eq!((&told[1].1, told[1].3.as_str()), (&told[0].2, "bob"), "bob is the IVR's caller now");
    let info = world.notifications.iter().find_map(|n| if let Notification::CallAnswered { info, .. } = n { Some(info) } else { None });
    assert_eq!(info.and_then(|i| i.session_reference.as_deref()), Some("{\"a\":1}"));
    world.callee_request(0, "BYE", None);
    world.run_to(4 * S);
    assert_eq!(world.reason(), Some("callingPartyHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_117_both_session_timers_are_told() {
    let plan = Plan { extra: "Session-Expires: 300;refresher=uac\r\n".into(), ..Plan::default() };
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), plan);
    world.call_with("100", "Supported: timer\r\nSession-Expires: 120\r\n", Some(&offer("sendrecv", true)));
    world.run_to(2 * S);
    let expires = world.notifications.iter().find_map(|n| match n {
        Notification::CallAnswered { calling_party_expires, called_party_expires, .. } => {
            Some((*calling_party_expires, *called_party_expires))
        }
        _ => None,
    });
    assert_eq!(expires, Some((Some(120), Some(300))));
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ the callee does not come

#[test]
fn ic_146_155_158_166_busy_reaches_the_handler_and_the_caller() {
    let plan = Plan { extra: "Reason: Q.850;cause=17;text=\"User busy\"\r\n".into(), ..Plan::refuses(486) };
    let mut world = world_with(bridge_then(call_to(BOB), vec![Ok(drop_with("busy"))]), plan);
    world.call("100");
    world.run_to(3 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         0.000 guest -> node call sip:bob@127.0.0.20
         0.000 node -> bob INVITE
         0.100 bob -> node 180
         0.100 node -> guest callNotify ringing bob
         0.100 node -> alice 180
         1.000 bob -> node 486
         1.000 node -> media close
         1.000 node -> media leg 1 hears nobody
         1.000 node -> guest callEvent calledPartyFailure bob/alice 486
         1.000 guest -> node drop busy
         1.000 node -> media close
         1.000 node -> alice 486
         1.000 node -> guest sessionCompleted busy",
    );
    assert_eq!(events(&world)[0].sip_code, Some(486));
    assert!(!events(&world)[0].connection_id.is_empty(), "IC-149: the id reserved for the attempt");
    assert_eq!(world.records[0].final_status, 486);
    no_leaks(&mut world);
}

#[test]
fn ic_204_reasons_of_calls_that_nobody_took() {
    for (status, reason) in
        [(486, "busy"), (600, "busy"), (480, "noAnswer"), (408, "noAnswer"), (404, "rejected"), (603, "rejected"), (500, "serverError")]
    {
        let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::refuses(status));
        world.call("100");
        world.run_to(3 * S);
        assert_eq!((events(&world)[0].sip_code, world.reason()), (Some(status), Some(reason)));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_075_146_170_no_answer_is_cancelled_after_max_ring_time() {
    let first = OutboundCall { max_ring_time: Some(Duration::from_secs(2)), ..call_to(BOB) };
    let mut world = world_with(bridge_then(first, vec![Ok(drop_with("noAnswer"))]), Plan::rings());
    world.call("100");
    world.run_to(5 * S);
    let ladder = world.ladder(&[" ACK", "media"]);
    assert!(
        ladder.ends_with(
            "2.000 node -> guest callEvent calledPartyFailure bob/alice 408\n\
             2.000 node -> bob CANCEL\n2.000 bob -> node 200 (CANCEL)\n2.000 bob -> node 487\n2.000 guest -> node drop noAnswer\n\
             2.000 node -> alice 480\n2.000 node -> guest sessionCompleted noAnswer"
        ),
        "{ladder}"
    );
    no_leaks(&mut world);
}

#[test]
fn ic_170_sixty_seconds_unless_said() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::rings());
    world.call("100");
    world.run_to(59 * S);
    assert!(!world.ladder(&[]).contains("CANCEL"));
    world.run_to(61 * S);
    assert!(world.ladder(&[]).contains("60.000 node -> bob CANCEL"));
    no_leaks(&mut world);
}

#[test]
fn sm_004_a_callee_that_says_nothing_times_out() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan { deaf: true, ..Plan::default() });
    world.call("100");
    world.run_to(40 * S);
    assert_eq!((events(&world)[0].event, events(&world)[0].sip_code), (CallEventKind::CalledPartyFailure, Some(408)));
    no_leaks(&mut world);
}

#[test]
fn ic_285_sm_004_a_late_200_after_cancel_is_acknowledged_released_and_an_alarm() {
    let first = OutboundCall { max_ring_time: Some(Duration::from_secs(2)), ..call_to(BOB) };
    let plan = Plan { last: Some((Duration::from_millis(2010), 200)), crosses_cancel: true, ..Plan::default() };
    let mut world = world_with(bridge_then(first, vec![]), plan);
    world.call("100");
    world.run_to(5 * S);
    let ladder = world.ladder(&["media"]);
    assert!(ladder.contains("2.010 bob -> node 200\n2.010 node -> bob ACK\n2.010 node -> bob BYE"), "{ladder}");
    assert_eq!(world.alarms(), ["callError cancelFailed"]);
    no_leaks(&mut world);
}

#[test]
fn sm_004_a_fork_answers_twice_and_the_second_is_released() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan { fork: Some(Duration::from_millis(50)), ..Plan::default() });
    world.call("100");
    world.run_to(2 * S);
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("1.050 bob -> node 200\n1.050 node -> bob ACK\n1.050 node -> bob BYE"), "{ladder}");
    assert_eq!(answered(&world).len(), 1);
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_145_the_caller_gives_up_while_it_rings() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::rings());
    world.call("100");
    world.run_to(S);
    world.cancel(0);
    world.run_to(2 * S);
    let ladder = world.ladder(&["media", " ACK"]);
    assert!(ladder.contains("1.000 node -> bob CANCEL"), "{ladder}");
    assert!(events(&world).is_empty(), "nobody is left to decide about");
    assert_eq!((world.reason(), world.records[0].final_status), (Some("canceled"), 487));
    no_leaks(&mut world);
}

#[test]
fn ic_145_cancel_while_the_callee_is_already_up_is_a_failure_of_the_caller() {
    // The caller's leg is not open yet when bob answers: its 200 waits, and the CANCEL comes first.
    let mut world =
        world_with(bridge_then(call_to(BOB), vec![Ok(drop_it())]), Plan { last: Some((Duration::from_millis(0), 200)), ..Plan::default() });
    world.swallow_opened = 1;
    world.call("100");
    world.run_to(S);
    world.cancel(0);
    world.run_to(2 * S);
    assert_eq!(events(&world).first().map(|e| e.event), Some(CallEventKind::CallingPartyFailure), "{}", world.ladder(&[]));
    assert_eq!(world.reason(), Some("canceled"));
    no_leaks(&mut world);
}

#[test]
fn ic_283_an_answer_that_cannot_be_used_is_acknowledged_and_released() {
    for sdp in ["nonsense", "v=0\r\no=b 1 1 IN IP4 127.0.0.20\r\ns=-\r\nc=IN IP4 127.0.0.20\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n"] {
        let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan { sdp: sdp.into(), ..Plan::default() });
        world.call("100");
        world.run_to(2 * S);
        let ladder = world.ladder(&["media"]);
        assert!(ladder.contains("1.000 node -> bob ACK\n1.000 node -> guest alarm callError invalidSdp\n"), "{ladder}");
        assert!(ladder.contains("1.000 node -> bob BYE"), "{ladder}");
        assert_eq!(events(&world)[0].sip_code, Some(488));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_299_a_3xx_is_followed_within_the_destinations_and_three_times() {
    let moved = |to: &str| Plan { contacts: vec![to.into()], ..Plan::refuses(302) };
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), moved("sip:carol@127.0.0.21"));
    world.users.insert("carol".into(), Plan::default());
    world.call("100");
    world.run_to(3 * S);
    assert_eq!(answered(&world).len(), 1, "{}", world.ladder(&[]));
    world.hangup(0);
    no_leaks(&mut world);
    // Not allowed there.
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), moved("sip:carol@192.0.2.200"));
    world.call("100");
    world.run_to(3 * S);
    assert_eq!((events(&world)[0].sip_code, world.callees.len()), (Some(403), 1));
    no_leaks(&mut world);
    // Round and round.
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), moved(BOB));
    world.call("100");
    world.run_to(10 * S);
    assert_eq!((events(&world)[0].sip_code, world.callees.len()), (Some(302), 4));
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ whom it may call

#[test]
fn ic_073_169_276_277_addresses_that_cannot_be_called_raise_their_alarm() {
    for (dest, code) in [("bob", 484), ("tel:+4670", 484), ("sip:bob@192.0.2.200", 403), ("sip:bob@nowhere.test", 404)] {
        let mut world = world_with(bridge_then(call_to(dest), vec![]), Plan::default());
        world.call("100");
        world.run_to(2 * S);
        assert_eq!(world.alarms().len(), 1, "{dest}");
        assert!(world.alarms()[0].starts_with("newCallEventError Invalid sip address: "), "{:?}", world.alarms());
        assert_eq!((events(&world)[0].event, events(&world)[0].sip_code), (CallEventKind::CalledPartyFailure, Some(code)));
        assert_eq!((world.callees.len(), world.reason()), (0, Some("rejected")));
        no_leaks(&mut world);
    }
    // The same out of a callEvent.
    let mut world = bridged(vec![Ok(call(call_to("bob")))]);
    world.hangup(0);
    world.run_to(3 * S);
    assert_eq!(world.alarms(), ["callEventError Invalid sip address: bob"]);
    no_leaks(&mut world);
}

#[test]
fn names_are_looked_up_and_judged_by_where_they_lead() {
    let allowed = Tenant { destinations: vec!["sip.example.com".parse().unwrap()], ..tenant() };
    let script = bridge_then(call_to("sip:bob@sip.example.com"), vec![]);
    let mut world = World::with(configuration(allowed), switch_config(7), Box::new(script));
    world.users.insert("bob".into(), Plan::default());
    world.hosts.insert("sip.example.com".into(), vec!["192.0.2.30:5060".parse().unwrap()]);
    world.call("100");
    world.run_to(2 * S);
    assert_eq!(answered(&world).len(), 1);
    world.hangup(0);
    no_leaks(&mut world);
    // The demo tenant may call the machine itself; a name that leads elsewhere is no way around it.
    let mut world = world_with(bridge_then(call_to("sip:bob@sip.example.com"), vec![]), Plan::default());
    world.hosts.insert("sip.example.com".into(), vec!["192.0.2.30:5060".parse().unwrap()]);
    world.call("100");
    world.run_to(2 * S);
    assert_eq!((events(&world)[0].sip_code, world.callees.len()), (Some(403), 0));
    no_leaks(&mut world);
}

#[test]
fn a_handler_that_always_calls_again_is_stopped() {
    let mut world = World::new(Script::new(|_| Ok(call(call_to("nowhere")))));
    world.call("100");
    world.run_to(10 * S);
    assert!(world.asks.len() <= limits::ATTEMPTS as usize + 1);
    assert_eq!(world.records.len(), 1);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ what the INVITE says

#[test]
fn ic_062_to_072_176_177_the_invite_carries_what_was_asked() {
    let first = OutboundCall {
        sip_from: Some("4670".into()),
        display_name: Some("Hook".into()),
        x_headers: vec![("X-A".into(), "1".into())],
        contact_parameters: vec![("ob".into(), "1".into())],
        sip_diversion: Some("4611".into()),
        ..call_to("sip:bob@127.0.0.20;user=phone")
    };
    let mut world = world_with(bridge_then(first, vec![]), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    let invite = &world.callees[0].invite;
    let header = |name: &str| invite.header(name).unwrap_or_default();
    assert_eq!(invite.request_uri().map(ToString::to_string).as_deref(), Some("sip:bob@127.0.0.20;user=phone"));
    assert!(header("From").starts_with("\"Hook\" <sip:4670@demo.test>;tag="), "{}", header("From"));
    assert_eq!((header("To").as_str(), header("X-A").as_str()), ("<sip:bob@127.0.0.20>", "1"));
    assert_eq!((header("Contact").as_str(), header("Diversion").as_str()), ("<sip:192.0.2.1:5060;ob=1>", "<sip:4611@demo.test>"));
    assert!(world.callees[0].heard[0].contains("m=audio 20002 RTP/AVP 8 0 101"), "the caller's codec first: {}", world.callees[0].heard[0]);
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_186_participant_ids_can_be_chosen() {
    let first = OutboundCall { participant_id: Some("caller-1".into()), ..call_to(BOB) };
    let then = OutboundCall { participant_id: Some("carol-1".into()), ..call_to("sip:carol@127.0.0.21") };
    let mut world = world_with(bridge_then(first, vec![Ok(call(then))]), Plan::default());
    world.users.insert("carol".into(), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    assert_eq!(both(&world).0, "caller-1");
    world.callee_request(0, "BYE", None);
    world.run_to(4 * S);
    assert_eq!(both(&world), ("caller-1".into(), "carol-1".into()));
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ what becomes of who remains

#[test]
fn ic_142_159_160_the_party_that_remains_is_called_on_or_gets_the_ivr() {
    let mut world = bridged(vec![Ok(call(call_to("sip:carol@127.0.0.21"))), Ok(to_ivr())]);
    world.users.insert("carol".into(), Plan::default());
    world.hangup(0);
    world.run_to(4 * S);
    assert_eq!(answered(&world)[1].3, "bob", "bob is the caller of carol");
    assert_eq!(world.bridges().len(), 2);
    // Carol leaves: bob gets the IVR and hangs up there.
    world.callee_request(1, "BYE", None);
    world.run_to(5 * S);
    assert!(matches!(world.asks.last().map(|a| &a.hook), Some(Hook::GetIvrCommand(_))));
    world.callee_request(0, "BYE", None);
    world.run_to(6 * S);
    assert_eq!(world.reason(), Some("callingPartyHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_171_an_answered_party_hears_a_ringing_tone_until_the_other_is_there() {
    let mut world = bridged(vec![Ok(call(call_to("sip:carol@127.0.0.21")))]);
    world.users.insert("carol".into(), Plan::default());
    world.hangup(0);
    world.run_to(4 * S);
    let ladder = world.ladder(&[]);
    let (play, stop) = (ladder.find("2.000 node -> media play clip 6000 ms"), ladder.find("3.000 node -> media stop"));
    assert!(play.is_some() && play < stop, "{ladder}");
    world.callee_request(0, "BYE", None);
    no_leaks(&mut world);
}

#[test]
fn ic_156_both_parties_leave_at_once() {
    let mut world = bridged(vec![Ok(to_ivr())]);
    world.thinking = Duration::from_secs(1);
    world.hangup(0);
    world.callee_request(0, "BYE", None);
    world.run_to(5 * S);
    assert_eq!((events(&world).len(), world.records.len()), (1, 1), "the answer to the first event is void");
    assert!(!world.ladder(&[]).contains("getIvrCommand"));
    no_leaks(&mut world);
}

#[test]
fn ic_157_298_callevent_restarts_once_then_releases() {
    let trap = || Err(HookFailure::Trap { message: "t".into() });
    let mut world = bridged(vec![trap(), trap()]);
    world.hangup(0);
    world.run_to(3 * S);
    assert_eq!((events(&world).len(), world.count(Counter::HookRestarted)), (2, 1));
    assert!(events(&world)[1].info.restarted);
    assert_eq!(world.alarms(), ["callEventError No response to callEvent request"], "the second is held back");
    assert_eq!(world.reason(), Some("callingPartyHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_164_165_276_callevent_answers_that_make_no_sense_drop() {
    for (name, alarm) in [
        ("mixer", "callEventError callEvent response with unknown action"),
        ("", "callEventError No action provided in callEvent response"),
    ] {
        let mut world = bridged(vec![Ok(Verdict::Routing(Routing::Ext { name: name.into(), json: String::new() }))]);
        world.hangup(0);
        world.run_to(3 * S);
        assert_eq!((world.alarms(), world.callees[0].over), (vec![alarm.to_owned()], true));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_145_146_282_a_leg_without_media_is_a_failure() {
    for (leg, kind) in [(1, CallEventKind::CallingPartyFailure), (2, CallEventKind::CalledPartyFailure)] {
        let mut world = bridged(vec![]);
        world.media_event(LegId(leg), MediaKind::RtpTimeout);
        world.run_to(3 * S);
        let event = &events(&world)[0];
        assert_eq!((event.event, event.q850), (kind, Some(41)));
        assert_eq!((world.alarms(), world.reason()), (vec!["callError RTP media timeout".to_owned()], Some("rtpTimeout")));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_281_the_longest_session_releases_all_legs_without_asking() {
    let mut config = switch_config(7);
    config.session_duration = Duration::from_secs(5);
    let mut world = World::with(configuration(tenant()), config, Box::new(bridge_then(call_to(BOB), vec![])));
    world.users.insert("bob".into(), Plan::default());
    world.call("100");
    world.run_to(6 * S);
    assert!(events(&world).is_empty());
    assert_eq!((world.alarms(), world.reason()), (vec!["sessionError maxDuration".to_owned()], Some("maxDuration")));
    assert!(world.callees[0].over && world.phones[0].over);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ hold

#[test]
fn hold_is_passed_through_and_taken_back() {
    let mut world = bridged(vec![]);
    world.reinvite(0, Some(&offer("sendonly", true)));
    world.run_to(3 * S);
    assert!(world.phones[0].last_sdp.contains("a=recvonly"));
    assert!(world.ladder(&[]).contains("2.000 node -> bob INVITE sendonly"), "{}", world.ladder(&[]));
    let directions: Vec<Direction> = world.updates.iter().rev().take(2).map(|n| n.direction).collect();
    assert_eq!(directions, [Direction::SendOnly, Direction::RecvOnly], "bob hears what alice sends, and she hears nothing");
    world.reinvite(0, Some(&offer("sendrecv", true)));
    world.run_to(4 * S);
    assert!(world.ladder(&[]).contains("3.000 node -> bob INVITE sendrecv"));
    // Alice leaves while she holds: bob is taken from hold before anything else happens to him.
    world.reinvite(0, Some(&offer("inactive", true)));
    world.run_to(5 * S);
    assert!(world.ladder(&[]).contains("4.000 node -> bob INVITE inactive"));
    world.hangup(0);
    world.run_to(5 * S);
    no_leaks(&mut world);
}

#[test]
fn ic_287_290_a_reinvite_that_is_refused_is_an_alarm_and_the_call_goes_on() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan { reinvite: 488, ..Plan::default() });
    world.call("100");
    world.run_to(2 * S);
    world.reinvite(0, Some(&offer("sendonly", true)));
    world.run_to(3 * S);
    assert_eq!(world.alarms(), ["callError unexpectedReinviteResponse"]);
    let alarm =
        world.notifications.iter().find_map(|n| if let Notification::Alarm(a) = n { Some(a.clone()) } else { None }).expect("an alarm");
    assert_eq!((alarm.info.domain.as_str(), alarm.info.session_id.len()), ("demo.test", 36));
    let leg = alarm.leg.expect("the leg");
    assert_eq!((leg.status, leg.user.as_str(), leg.call_id.as_str()), (488, "bob", world.callees[0].call_id.as_str()));
    assert_eq!(leg.participant_id, both(&world).1);
    assert!(world.records.is_empty());
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn keys_by_info_go_on_to_the_counterpart() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::default());
    world.call_with("100", "", Some(&offer("sendrecv", false)));
    world.run_to(2 * S);
    world.info_digit(0, "5");
    assert_eq!(world.sent_digits, "5");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn early_media_is_passed_to_a_caller_who_is_unanswered() {
    let ms = Duration::from_millis;
    let first = OutboundCall { ringback_tone: Some("early".into()), ..call_to(BOB) };
    let plan = Plan { provisional: vec![(ms(100), 183, true)], ..Plan::default() };
    let mut world = world_with(bridge_then(first, vec![]), plan);
    world.call("100");
    world.run_to(500);
    let ladder = world.ladder(&[" ACK"]);
    assert!(
        ladder.contains("0.100 node -> media leg 1 hears leg 2\n0.100 node -> media leg 2 hears leg 1\n0.100 node -> alice 183"),
        "{ladder}"
    );
    world.run_to(2 * S);
    assert_eq!(answered(&world).len(), 1);
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ 7.2 D: split, join

fn split(world: &mut World, connection_id: String) -> Result<Done, CommandError> {
    let session_id = world.session_id();
    world.command(Command::SplitConnection { session_id, connection_id })
}

#[test]
fn ic_030_to_032_034_147_148_order_d_split() {
    let mut world = bridged(vec![Ok(to_ivr()), Ok(drop_it())]);
    let id = connection(&world);
    assert_eq!(split(&mut world, id.clone()), Ok(Done::Nothing));
    world.run_to(3 * S);
    let ladder = world.ladder(&[" ACK"]);
    let expected = "2.000 node -> media leg 1 hears nobody
2.000 node -> guest callEvent callerConnectionSplit alice/bob
2.000 node -> media leg 2 hears nobody
2.000 guest -> node ivr
2.000 node -> guest callAnswered
2.000 node -> guest callEvent calleeConnectionSplit bob/alice
2.000 guest -> node drop -
2.000 node -> media close
2.000 node -> guest getIvrCommand
2.000 node -> bob BYE Q.850;cause=21";
    assert!(ladder.contains(expected), "{ladder}");
    let split_events = events(&world);
    assert_eq!(split_events[0].participant_id, both(&world).0, "on a split it is the participant itself");
    assert!(split_events.iter().all(|e| e.connection_id == id));
    assert_eq!(split(&mut world, id), Err(CommandError::Unknown("connection")), "IC-032: it is over");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_033_a_split_from_the_ivr_interrupts_it_and_routes_on() {
    let script = Script::new(|ask| match &ask.hook {
        Hook::NewCall(_) => Ok(to_ivr()),
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand { phrases: vec![file("menu.wav"); 9], ..IvrCommand::default() }))),
        Hook::CallEvent(event) if event.event == CallEventKind::CallerConnectionSplit => Ok(call(call_to(BOB))),
        _ => Ok(drop_it()),
    });
    let mut world = world_with(script, Plan::default());
    world.call("100");
    world.run_to(S);
    let id = connection(&world);
    assert_eq!(split(&mut world, id), Ok(Done::Nothing));
    world.run_to(3 * S);
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("1.000 node -> media stop"), "{ladder}");
    assert_eq!((events(&world).len(), events(&world)[0].event), (1, CallEventKind::CallerConnectionSplit));
    assert_eq!(answered(&world).len(), 2);
    world.hangup(0);
    world.run_to(4 * S);
    no_leaks(&mut world);
}

#[test]
fn ic_162_two_parties_that_are_there_are_joined() {
    let mut world = bridged(vec![]);
    let (caller, _) = both(&world);
    let mut joined = world_with(
        Script::new(move |ask| match &ask.hook {
            Hook::NewCall(_) => Ok(call(call_to(BOB))),
            Hook::CallEvent(event) if event.event == CallEventKind::CallerConnectionSplit => Ok(join(&event.remote_participant_id)),
            _ => Ok(drop_it()),
        }),
        Plan::default(),
    );
    joined.call("100");
    joined.run_to(2 * S);
    let first = connection(&joined);
    assert_eq!(split(&mut joined, first.clone()), Ok(Done::Nothing));
    joined.run_to(3 * S);
    assert_eq!(events(&joined).len(), 1, "what becomes of bob is said by then");
    assert_ne!(connection(&joined), first);
    assert_eq!(joined.bridges().iter().filter(|(_, hears)| hears.is_some()).count(), 2);
    joined.hangup(0);
    no_leaks(&mut joined);
    // Somebody who is not there, or who is connected.
    for other in ["nobody", caller.as_str()] {
        let mut world = bridged(vec![Ok(join(other))]);
        let id = connection(&world);
        assert_eq!(split(&mut world, id), Ok(Done::Nothing));
        world.run_to(3 * S);
        assert!(world.alarms()[0].starts_with("callEventError Invalid sip address: "), "{other} {:?}", world.alarms());
        no_leaks(&mut world);
    }
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_163_a_mixer_is_an_unknown_action() {
    let mut world = World::new(Script::new(|_| Ok(Verdict::Routing(Routing::Ext { name: "mixer".into(), json: "{}".into() }))));
    world.call("100");
    world.run_to(S);
    assert_eq!(world.alarms(), ["newCallEventError newCall response with unknown action"]);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ commands

#[test]
fn ic_025_to_029_hangup_participant_releases_and_the_other_is_asked_about() {
    let mut world = bridged(vec![Ok(to_ivr())]);
    let session_id = world.session_id();
    let (caller, callee) = both(&world);
    let hangup = |id: &str| Command::HangupParticipant { session_id: session_id.clone(), participant_id: id.to_owned() };
    assert_eq!(world.command(hangup("nobody")), Err(CommandError::Unknown("participant")));
    assert_eq!(world.command(hangup(&callee)), Ok(Done::Nothing));
    world.run_to(3 * S);
    assert_eq!((events(&world)[0].event, world.callees[0].over), (CallEventKind::CalledPartyDrop, true));
    assert_eq!(world.command(hangup(&callee)), Ok(Done::Nothing), "IC-015: again");
    assert_eq!(world.command(hangup(&caller)), Ok(Done::Nothing));
    world.run_to(4 * S);
    assert_eq!(world.reason(), Some("apiHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_025_hangup_of_a_callee_that_rings_is_a_cancel() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::rings());
    world.call("100");
    world.run_to(S);
    let session_id = world.session_id();
    let participant_id = world
        .notifications
        .iter()
        .find_map(|n| if let Notification::CallNotify { participant_id, .. } = n { Some(participant_id.clone()) } else { None })
        .expect("it rings");
    assert_eq!(world.command(Command::HangupParticipant { session_id, participant_id }), Ok(Done::Nothing));
    world.run_to(2 * S);
    assert!(world.ladder(&[]).contains("1.000 node -> bob CANCEL"));
    assert_eq!((events(&world)[0].event, events(&world)[0].sip_code), (CallEventKind::CalledPartyFailure, Some(487)));
    no_leaks(&mut world);
}

#[test]
fn ic_076_077_hangup_remote_participant_releases_the_counterpart() {
    let mut world = bridged(vec![Ok(to_ivr())]);
    let session_id = world.session_id();
    let (caller, _) = both(&world);
    let remote = Command::HangupRemoteParticipant { session_id, participant_id: caller };
    assert_eq!(world.command(remote.clone()), Ok(Done::Nothing));
    world.run_to(3 * S);
    assert_eq!((events(&world)[0].event, world.callees[0].over), (CallEventKind::CalledPartyDrop, true));
    assert_eq!(world.command(remote), Err(CommandError::WrongState("the participant has no counterpart")), "it is in the IVR");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_079_080_081_interrupt_needs_the_command_that_runs() {
    let script = Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => Ok(listen()),
        _ => Ok(to_ivr()),
    });
    let mut world = World::new(script);
    world.call("100");
    world.run_to(S);
    let number = |world: &World| match &world.asks.last().expect("asked").hook {
        Hook::GetIvrCommand(request) => request.reply_to,
        other => panic!("{}", other.name()),
    };
    let ReplyTo::IvrCommand(first) = number(&world) else { panic!("of another kind") };
    let interrupt = |world: &mut World, command| {
        let session_id = world.session_id();
        world.command(Command::InterruptIvrCommand { session_id, command })
    };
    assert_eq!(interrupt(&mut world, Some(first + 7)), Err(CommandError::WrongState("that IVR command has ended")));
    assert_eq!(interrupt(&mut world, Some(first)), Ok(Done::Nothing));
    world.run_to(2 * S);
    assert_ne!(number(&world), ReplyTo::IvrCommand(first));
    assert_eq!(interrupt(&mut world, Some(first)), Err(CommandError::WrongState("that IVR command has ended")));
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ recording both sides

fn start(world: &mut World, file_name: Option<&str>) -> Result<Done, CommandError> {
    let (session_id, connection_id) = (world.session_id(), connection(world));
    world.command(Command::record_call(session_id, connection_id, file_name.map(str::to_owned)))
}

#[test]
fn ic_022_024_037_to_040_265_266_268_to_272_start_and_stop() {
    let mut world = bridged(vec![]);
    let session_id = world.session_id();
    let connection_id = connection(&world);
    let stop = |id: &str| Command::StopRecording { session_id: session_id.clone(), which: WhichRecording::Connection(id.to_owned()) };
    assert_eq!(world.command(stop(&connection_id)), Err(CommandError::WrongState("no recording is running")));
    assert_eq!(world.command(stop("none")), Err(CommandError::Unknown("connection")));
    let Ok(Done::Recording { recording_id, file_name }) = start(&mut world, None) else { panic!("it starts") };
    assert_eq!(file_name, format!("{session_id}-{connection_id}.mp3"));
    assert_eq!(start(&mut world, None), Err(CommandError::WrongState("the connection is being recorded")));
    let begun = world.started.last().expect("announced").clone();
    assert_eq!((begun.stereo, begun.caller.as_str(), begun.called.as_str()), (true, "alice", "bob"));
    assert_eq!((begun.connection_id.as_ref(), &begun.recording_id), (Some(&connection_id), &recording_id));
    assert_eq!(world.specs.last().map(|s| s.direction), Some(TapDirection::Both));
    world.run_to(5 * S);
    assert_eq!(world.command(stop(&connection_id)), Ok(Done::Nothing));
    world.run_to(6 * S);
    let ready = world.notifications.iter().find_map(|n| match n {
        Notification::RecordingReady { successful, reason, connection_id, recording_id, file_name, file_size, .. } => {
            Some((*successful, reason.clone(), connection_id.clone(), recording_id.clone(), file_name.clone(), *file_size > 0))
        }
        _ => None,
    });
    assert_eq!(ready, Some((true, None, Some(connection_id.clone()), recording_id, file_name, true)));
    // It can be recorded again.
    assert!(matches!(start(&mut world, Some("again.wav")), Ok(Done::Recording { .. })));
    world.hangup(0);
    world.run_to(8 * S);
    no_leaks(&mut world);
}

#[test]
fn ic_038_file_names_are_checked() {
    let mut world = bridged(vec![]);
    for bad in ["", "../x.wav", "a/b.wav", "a\\b.wav", "a\n.wav", &format!("{}.wav", "x".repeat(260)), "x.flac", "x"] {
        let refused = start(&mut world, Some(bad));
        assert!(matches!(refused, Err(CommandError::BadValue { field: "recordingFileName", .. })), "{bad:?} {refused:?}");
    }
    assert!(world.started.is_empty());
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_167_168_call_recording_from_the_moment_it_is_bridged() {
    for (name, expected) in
        [(None, None), (Some("talk.wav"), Some("talk.wav")), (Some("talk.mp3"), Some("talk.mp3")), (Some("talk"), Some("talk.mp3"))]
    {
        let first = OutboundCall { call_recording: true, recording_file_name: name.map(str::to_owned), ..call_to(BOB) };
        let mut world = world_with(bridge_then(first, vec![]), Plan::default());
        world.call("100");
        world.run_to(2 * S);
        let begun = world.started.first().expect("it is recorded").clone();
        match expected {
            Some(name) => assert_eq!(begun.file_name, name),
            None => assert!(begun.file_name.ends_with(&format!("-{}.mp3", connection(&world)))),
        }
        assert!(world.ladder(&[]).contains("1.000 node -> media record"));
        world.hangup(0);
        no_leaks(&mut world);
    }
    // A node that can make no MP3 records all the same.
    let why = "MP3 needs a library".to_owned();
    let config = SwitchConfig { unwritable: Unwritable(vec![(Container::Mp3, why)]), ..switch_config(7) };
    let first = OutboundCall { call_recording: true, recording_file_name: Some("talk.mp3".into()), ..call_to(BOB) };
    let mut world = World::with(configuration(tenant()), config, Box::new(bridge_then(first, vec![])));
    world.users.insert("bob".into(), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    assert_eq!(world.started.first().expect("it is recorded").file_name, "talk.wav");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_267_273_hang_up_split_and_session_end_stop_it() {
    type End = fn(&mut World);
    let ends: [(End, StopReason); 4] = [
        (|w| w.hangup(0), StopReason::RemoteHangup),
        (|w| w.callee_request(0, "BYE", None), StopReason::RemoteHangup),
        (
            |w| {
                let id = connection(w);
                assert_eq!(split(w, id), Ok(Done::Nothing));
            },
            StopReason::ConnectionSplit,
        ),
        (|w| w.media_event(LegId(1), MediaKind::RtpTimeout), StopReason::MediaTimeout),
    ];
    for (end, reason) in ends {
        for fails in [false, true] {
            let mut world = bridged(vec![]);
            world.recording_fails = fails;
            assert!(start(&mut world, None).is_ok());
            world.run_to(4 * S);
            end(&mut world);
            world.run_to(6 * S);
            assert_eq!(world.stops, [reason]);
            let ready: Vec<bool> = world
                .notifications
                .iter()
                .filter_map(|n| if let Notification::RecordingReady { successful, .. } = n { Some(*successful) } else { None })
                .collect();
            assert_eq!(ready, [!fails]);
            no_leaks(&mut world);
        }
    }
}

// ------------------------------------------------------------------------------------------------ 7.2 C: placed calls

fn place(world: &mut World, placed: PlaceIvrCall) -> Result<Done, CommandError> {
    world.command(Command::PlaceIvrCall(Box::new(placed)))
}

fn placed_to(dest: &str) -> PlaceIvrCall {
    PlaceIvrCall { call: OutboundCall { sip_from: Some("4670".into()), ..call_to(dest) }, ..PlaceIvrCall::default() }
}

fn ivr_script() -> Script {
    Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => {
            Ok(Verdict::Ivr(Box::new(IvrCommand { phrases: vec![file("hello.wav")], hangup: true, ..IvrCommand::default() })))
        }
        _ => Ok(drop_it()),
    })
}

#[test]
fn ic_060_061_064_065_order_c_placed_call_gets_the_ivr() {
    let mut world = world_with(ivr_script(), Plan::default());
    let mut placed = placed_to(BOB);
    placed.call.session_reference = Some("7".into());
    let done = place(&mut world, placed);
    let Ok(Done::Placed { session_id, participant_id, reply_to: ReplyTo::Participant }) = done else { panic!("{done:?}") };
    world.run_to(4 * S);
    check(
        &world,
        "0.000 node -> bob INVITE
         0.100 bob -> node 180
         0.100 node -> guest callNotify ringing bob
         1.000 bob -> node 200
         1.000 node -> guest callAnswered
         1.000 node -> guest getIvrCommand reference=7
         1.000 guest -> node command of 1 phrases
         1.000 node -> media play clip 1000 ms
         2.000 node -> media close
         2.000 node -> bob BYE Q.850;cause=16
         2.000 bob -> node 200
         2.000 node -> guest sessionCompleted ivrHangup",
    );
    let (_, caller, callee, calling, called) = answered(&world).pop().expect("answered");
    assert_eq!((callee, calling.as_str(), called.as_str()), (participant_id, "4670", "bob"));
    assert_eq!((caller.len(), world.records[0].session_id.as_str(), world.records[0].final_status), (36, session_id.as_str(), 200));
    no_leaks(&mut world);
}

#[test]
fn ic_060_075_a_placed_call_that_nobody_takes_is_told_and_completed() {
    for (plan, code, reason) in [(Plan::refuses(486), 486, "busy"), (Plan::rings(), 408, "noAnswer")] {
        let mut world = world_with(ivr_script(), plan);
        let mut placed = placed_to(BOB);
        placed.call.max_ring_time = Some(Duration::from_secs(2));
        assert!(place(&mut world, placed).is_ok());
        world.run_to(10 * S);
        let event = &events(&world)[0];
        assert_eq!(
            (event.event, event.sip_code, event.remote_participant_id.as_str()),
            (CallEventKind::CalledPartyFailure, Some(code), "")
        );
        assert_eq!((world.reason(), world.records[0].final_status), (Some(reason), code));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_063_073_074_placed_calls_are_validated() {
    let with = Tenant { mediaservice_ids: vec!["main".into()], ..tenant() };
    let mut world = World::with(configuration(with), switch_config(7), Box::new(ivr_script()));
    world.users.insert("bob".into(), Plan::default());
    let bad = |result: Result<Done, CommandError>| match result {
        Err(CommandError::BadValue { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(bad(place(&mut world, placed_to("bob"))), "destAddr");
    let mut header = placed_to(BOB);
    header.call.x_headers.push(("Via".into(), "x".into()));
    assert_eq!(bad(place(&mut world, header)), "xHeaders");
    let mut ring = placed_to(BOB);
    ring.call.max_ring_time = Some(Duration::from_secs(301));
    assert_eq!(bad(place(&mut world, ring)), "maxRingTime");
    let mut reference = placed_to(BOB);
    reference.call.session_reference = Some("x".repeat(5000));
    assert_eq!(bad(place(&mut world, reference)), "sessionReferenceId");
    let service = |id: &str| PlaceIvrCall { mediaservice_id: Some(id.into()), ..placed_to(BOB) };
    assert_eq!(place(&mut world, service("other")), Err(CommandError::Unknown("mediaserviceId")));
    let join = PlaceIvrCall { session_id: Some("none".into()), ..placed_to(BOB) };
    assert_eq!(place(&mut world, join), Err(CommandError::Unknown("session")));
    assert_eq!((world.callees.len(), world.switch.gauges().sessions), (0, 0), "no state changed");
    assert!(place(&mut world, service("main")).is_ok());
    world.run_to(4 * S);
    // An address that may not be called: the session tells of it.
    assert!(place(&mut world, placed_to("sip:bob@192.0.2.200")).is_ok());
    world.run_to(5 * S);
    assert_eq!(world.alarms(), ["callEventError Invalid sip address: sip:bob@192.0.2.200"]);
    no_leaks(&mut world);
}

#[test]
fn ic_061_a_placed_call_can_join_a_session() {
    let script = Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => Ok(listen()),
        Hook::NewCall(_) => Ok(to_ivr()),
        _ => Ok(drop_it()),
    });
    let mut world = world_with(script, Plan::default());
    world.call("100");
    world.run_to(S);
    let session_id = world.session_id();
    let placed = PlaceIvrCall { session_id: Some(session_id.clone()), ..placed_to(BOB) };
    let done = place(&mut world, placed);
    assert!(matches!(&done, Ok(Done::Placed { session_id: s, .. }) if *s == session_id), "{done:?}");
    world.run_to(3 * S);
    assert_eq!((answered(&world).len(), world.switch.gauges().sessions), (2, 1));
    // One leaves, the session stays.
    world.hangup(0);
    world.run_to(4 * S);
    assert!(world.records.is_empty());
    world.callee_request(0, "BYE", None);
    world.run_to(5 * S);
    assert_eq!((world.records.len(), world.reason()), (1, Some("calledPartyHangup")));
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ the session as a whole

#[test]
fn sm_001_a_session_completes_once_with_reference_and_duration() {
    let first = OutboundCall { session_reference: Some("{\"n\":3}".into()), call_recording: true, ..call_to(BOB) };
    let mut world = world_with(bridge_then(first, vec![]), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    world.hangup(0);
    world.run_to(4 * S);
    let completed: Vec<_> = world
        .notifications
        .iter()
        .enumerate()
        .filter_map(|(i, n)| match n {
            Notification::SessionCompleted { info, duration, .. } => {
                assert_eq!((info.domain.as_str(), info.ivr_server.as_str()), ("demo.test", "192.0.2.1"));
                assert_eq!((info.session_id.len(), info.trace_id.len()), (36, 36));
                Some((i, info.session_reference.clone(), *duration))
            }
            _ => None,
        })
        .collect();
    let [(at, reference, duration)] = &completed[..] else { panic!("{completed:?}") };
    assert_eq!((reference.as_deref(), *duration), (Some("{\"n\":3}"), Duration::from_secs(2)));
    // IC-206: the recording may be stored later.
    assert!(world.notifications[*at + 1..].iter().all(|n| matches!(n, Notification::RecordingReady { .. })));
    no_leaks(&mut world);
}

#[test]
fn sm_002_two_hooks_of_a_session_never_overlap() {
    let mut world = bridged(vec![Ok(to_ivr()), Ok(to_ivr())]);
    world.thinking = Duration::from_secs(1);
    let id = connection(&world);
    assert_eq!(split(&mut world, id), Ok(Done::Nothing));
    world.run_to(10 * S);
    let mut open = 0;
    for step in world.steps.iter().filter(|s| !s.contains("callAnswered") && !s.contains("callNotify")) {
        open +=
            i32::from(step.contains("node -> guest call") || step.contains("node -> guest get") || step.contains("node -> guest newCall"));
        open -= i32::from(step.contains("guest -> node"));
        assert!((0..=1).contains(&open), "{step}");
    }
    assert_eq!(events(&world).len(), 2);
    world.hangup(0);
    world.callee_request(0, "BYE", None);
    world.run_to(20 * S);
    no_leaks(&mut world);
}

#[test]
fn sm_002_participants_are_bounded() {
    let script = Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => Ok(listen()),
        Hook::NewCall(_) => Ok(to_ivr()),
        _ => Ok(drop_it()),
    });
    let mut world = world_with(script, Plan::default());
    world.call("100");
    world.run_to(S);
    let session_id = world.session_id();
    let placed = || PlaceIvrCall { session_id: Some(session_id.clone()), ..placed_to(BOB) };
    for _ in 1..limits::PARTICIPANTS {
        assert!(place(&mut world, placed()).is_ok());
    }
    assert_eq!(place(&mut world, placed()), Err(CommandError::WrongState("too many participants in the session")));
    world.run_to(3 * S);
    for i in 0..world.callees.len() {
        world.callee_request(i, "BYE", None);
    }
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_286_no_port_for_the_callees_leg_is_an_alarm_and_a_failure() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::default());
    world.open_fails = true;
    world.call("100");
    world.run_to(S);
    assert_eq!(world.alarms(), ["sessionError mediaServerError"]);
    assert_eq!((world.records.len(), world.reason()), (1, Some("serverError")));
    no_leaks(&mut world);
}

#[test]
fn a_panic_in_a_session_of_two_leaves_nothing() {
    let mut world = bridged(vec![Ok(Verdict::Routing(Routing::Ext { name: "panic".into(), json: String::new() }))]);
    world.hangup(0);
    world.run_to(3 * S);
    assert_eq!((world.count(Counter::SessionPanicked), world.callees[0].over), (1, true));
    assert_eq!(world.leaks(), None);
}

#[test]
fn a_node_that_ends_releases_everybody_and_asks_nobody() {
    let mut world = bridged(vec![Ok(to_ivr())]);
    assert!(place(&mut world, placed_to("sip:carol@127.0.0.21")).is_ok());
    world.input(crate::door::Input::Release);
    world.run_to(3 * S);
    assert!(events(&world).is_empty(), "{}", world.ladder(&[]));
    assert!(world.records.iter().all(|r| r.reason == "apiHangup"));
    no_leaks(&mut world);
}

#[test]
fn a_call_that_goes_in_a_circle_ends() {
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    assert_eq!(world.callees[0].invite.headers("Max-Forwards"), ["69"]);
    world.hangup(0);
    no_leaks(&mut world);
    let mut world = world_with(bridge_then(call_to(BOB), vec![]), Plan::default());
    world.max_forwards = 1;
    world.call("100");
    world.run_to(2 * S);
    assert_eq!((events(&world)[0].sip_code, world.callees.len()), (Some(483), 0));
    no_leaks(&mut world);
}

#[test]
fn a_hold_that_is_taken_back_before_it_was_passed_on_is_taken_back_there_too() {
    let mut world = bridged(vec![]);
    world.callees[0].plan.slow_reinvite = true;
    world.reinvite(0, Some(&offer("sendonly", true)));
    world.reinvite(0, Some(&offer("sendrecv", true)));
    assert_eq!(world.ladder(&[]).matches("node -> bob INVITE").count(), 2, "the first call, and one offer: {}", world.ladder(&[]));
    world.callees[0].plan.slow_reinvite = false;
    world.answer_reinvite(0);
    world.run_to(3 * S);
    assert!(world.ladder(&[]).contains("2.000 node -> bob INVITE sendrecv"), "{}", world.ladder(&[]));
    assert_eq!(world.updates.last().map(|n| n.direction), Some(Direction::SendRecv));
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_273_a_recording_of_an_ivr_connection_ends_with_it() {
    let script = Script::new(|ask| match &ask.hook {
        Hook::NewCall(_) => Ok(to_ivr()),
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand {
            phrases: vec![file("menu.wav")],
            routing: Some(Box::new(Routing::Call(Box::new(call_to(BOB))))),
            ..IvrCommand::default()
        }))),
        _ => Ok(drop_it()),
    });
    let mut world = world_with(script, Plan::default());
    world.call("100");
    world.run_to(S);
    assert!(start(&mut world, None).is_ok());
    world.run_to(3 * S);
    assert_eq!(world.stops, [StopReason::Transfer]);
    world.run_to(4 * S);
    assert_eq!(answered(&world).len(), 2);
    world.hangup(0);
    no_leaks(&mut world);
}
