//! Calls of devices in virtual time (SM-012, SM-013): calls for them and of them, and httpcall. No leg of ours is ever open to a party that
//! talks to one.

use crate::contract::Script;
use crate::contract::callee::Plan;
use crate::contract::world::{self, World, configuration, offer, switch_config};
use crate::destination::Network;
use crate::door::{Command, CommandError, CommandResult, Counter, Done, PlaceRemoteCall, Tenant};
use crate::hook::*;
use crate::limits;
use hookswitch_proto::sdp::{Crypto, Device, Format, Target};
use std::time::Duration;

const S: u64 = 1000;

/// A tenant with a device, which may be on this machine.
pub(crate) fn tenant() -> Tenant {
    Tenant {
        devices: ["device".to_owned()].into(),
        media_addresses: Network::loopback(),
        origins: vec!["https://app.test".into()],
        ..world::tenant()
    }
}

fn device(format: Format) -> Device {
    Device { address: "127.0.0.1:30000".parse().expect("an address"), format, telephone_event: None, crypto: Vec::new() }
}

fn noted(reference: Option<&str>) -> Verdict {
    Verdict::Noted { session_reference: reference.map(str::to_owned) }
}

fn world_with(script: Script) -> World {
    World::with(configuration(tenant()), switch_config(7), Box::new(script))
}

/// The device's side takes note; whatever else is asked is dropped.
fn listening() -> World {
    world_with(Script::new(|ask| match ask.hook {
        Hook::NewRemoteCall(_) => Ok(noted(None)),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    }))
}

/// Alice calls the device.
fn called() -> World {
    let mut world = listening();
    world.call("device");
    world.run_to(10);
    world
}

fn answer(world: &mut World, device: Device) -> CommandResult {
    let session_id = world.session_id();
    world.command(Command::AnswerRemoteCall { session_id, device: Box::new(device), session_reference: None })
}

fn ring(world: &mut World) -> CommandResult {
    let session_id = world.session_id();
    world.command(Command::SendRemoteCallRingback { session_id })
}

fn hang_up(world: &mut World) -> CommandResult {
    let session_id = world.begun[0].session_id.clone();
    world.command(Command::HangupCall { session_id })
}

fn place(call: PlaceRemoteCall) -> Command {
    Command::PlaceRemoteCall(Box::new(call))
}

fn to_bob() -> PlaceRemoteCall {
    PlaceRemoteCall {
        device: device(Format::Gsm),
        destination_uri: "sip:bob@127.0.0.20".into(),
        source_user: "1234".into(),
        callback_base_url: "https://app.test/hooks/".into(),
        session_reference: Some("\"ref\"".into()),
    }
}

/// What bob's phone answers where GSM alone is offered.
fn gsm_answer() -> String {
    "v=0\r\no=b 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 41000 RTP/AVP 3\r\n".into()
}

/// The device calls bob.
fn placed(plan: Plan) -> World {
    let mut world = listening();
    world.users.insert("bob".into(), Plan { sdp: gsm_answer(), ..plan });
    let done = world.command(place(to_bob()));
    assert!(matches!(done, Ok(Done::Placed { reply_to: ReplyTo::Participant, .. })), "{done:?}");
    world
}

fn check(world: &World, expected: &str) {
    let got = world.ladder(&[" ACK", "alice 100", "node 100"]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\ngot:\n{got}\n");
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

fn told(world: &World) -> RemoteCall {
    let call = |ask: &crate::door::Ask| if let Hook::NewRemoteCall(call) = &ask.hook { Some((**call).clone()) } else { None };
    world.asks.iter().find_map(call).expect("the device's side was told")
}

/// Where the device must send, of each connection.
fn targets(world: &World) -> Vec<Option<Target>> {
    let target = |n: &Notification| if let Notification::CallAnswered { target, .. } = n { Some(target.as_deref().cloned()) } else { None };
    world.notifications.iter().filter_map(target).collect()
}

fn events(world: &World) -> Vec<CallEvent> {
    let event = |n: &Notification| if let Notification::CallEvent(event) = n { Some((**event).clone()) } else { None };
    world.notifications.iter().filter_map(event).collect()
}

fn wrong_state(result: &CommandResult) -> bool {
    matches!(result, Err(CommandError::WrongState(_)))
}

fn bad_field(result: &CommandResult) -> Option<&'static str> {
    if let Err(CommandError::BadValue { field, .. }) = result { Some(field) } else { None }
}

// ------------------------------------------------------------------------------------------------ a call for a device

#[test]
fn ic_042_044_207_to_214_sm_012_a_call_for_a_device_waits_rings_is_answered_and_hung_up() {
    let mut world = called();
    assert_eq!(ring(&mut world), Ok(Done::Nothing));
    assert_eq!(ring(&mut world), Ok(Done::Nothing), "again it changes nothing");
    world.run_to(2 * S);
    assert_eq!(answer(&mut world, device(Format::Pcmu)), Ok(Done::Nothing));
    world.run_to(3 * S);
    assert_eq!(hang_up(&mut world), Ok(Done::Nothing));
    world.run_to(4 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest newRemoteCall
         0.000 guest -> node noted
         0.010 node -> alice 180
         2.000 node -> alice 200
         2.000 node -> guest callAnswered
         3.000 node -> alice BYE Q.850;cause=16
         3.000 alice -> node 200
         3.000 node -> guest sessionCompleted apiHangup",
    );
    let call = told(&world);
    assert_eq!((call.destination_uri.as_str(), call.source_user.as_str()), ("sip:device@192.0.2.1", "alice"));
    assert_eq!((call.sip_call_id.as_str(), call.reply_to), ("call-0@192.0.2.9", ReplyTo::Participant));
    let target = call.target.expect("it offered");
    assert_eq!((target.format, target.address.to_string().as_str()), (Format::Pcma, "192.0.2.9:40000"), "the first of the offer (IC-210)");
    let sdp = &world.phones[0].last_sdp;
    assert!(sdp.contains("c=IN IP4 127.0.0.1\r\n") && sdp.contains("m=audio 30000 RTP/AVP 0\r\n"), "{sdp}");
    assert_eq!(targets(&world)[0].as_ref().map(|t| (t.format, t.address.port())), Some((Format::Pcmu, 40000)));
    assert!(world.leg_configs.is_empty(), "its media goes past us");
    assert_eq!((world.records[0].reason, world.records[0].final_status, world.records[0].incoming), ("apiHangup", 200, true));
    no_leaks(&mut world);
}

#[test]
fn ic_043_unanswered_it_is_refused_with_603_and_again_is_no_error() {
    let mut world = called();
    assert_eq!(hang_up(&mut world), Ok(Done::Nothing));
    world.run_to(S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.ends_with("0.010 node -> alice 603\n0.010 node -> guest sessionCompleted rejected"), "{ladder}");
    assert_eq!(hang_up(&mut world), Err(CommandError::Unknown("session")), "it is over");
    no_leaks(&mut world);
}

#[test]
fn ic_046_214_the_answer_to_either_sets_the_reference() {
    let mut world = world_with(Script::new(|_| Ok(noted(Some("{\"first\":1}")))));
    world.call("device");
    world.run_to(10);
    let session_id = world.session_id();
    let answer = |reference: &str| Command::AnswerRemoteCall {
        session_id: session_id.clone(),
        device: Box::new(device(Format::Pcma)),
        session_reference: Some(reference.into()),
    };
    assert_eq!(bad_field(&world.command(answer(&"x".repeat(limits::SESSION_REFERENCE + 1)))), Some("sessionReferenceId"));
    assert_eq!(world.command(answer("\"second\"")), Ok(Done::Nothing));
    world.run_to(S);
    let reference = |n: &Notification| n.info().session_reference.clone();
    assert_eq!(world.notifications.iter().map(reference).collect::<Vec<_>>(), [Some("\"second\"".to_owned())]);
    world.hangup(0);
    world.run_to(2 * S);
    assert_eq!(world.notifications.last().map(reference), Some(Some("\"second\"".to_owned())));
    no_leaks(&mut world);

    let mut world = world_with(Script::new(|_| Ok(noted(Some("{\"first\":1}")))));
    world.call("device");
    world.run_to(10);
    assert_eq!(hang_up(&mut world), Ok(Done::Nothing));
    assert_eq!(world.notifications.last().map(reference), Some(Some("{\"first\":1}".to_owned())));
}

#[test]
fn ic_045_048_049_050_what_an_answer_may_be() {
    let mut world = called();
    let with = |address: &str| Device { address: address.parse().expect("an address"), ..device(Format::Pcma) };
    for (wrong, field) in [
        (device(Format::Gsm), "codec"),
        (with("127.0.0.1:1023"), "receivePort"),
        (with("192.0.2.50:30000"), "receiveIp"),
        (with("0.0.0.0:30000"), "receiveIp"),
        (with("[2001:db8::1]:30000"), "receiveIp"),
        (Device { telephone_event: Some(95), ..device(Format::Pcma) }, "telephoneEventPayloadType"),
        (Device { crypto: vec![Crypto::new(1, "A", "inline:k").expect("a line"); 5], ..device(Format::Pcma) }, "crypto"),
    ] {
        assert_eq!(bad_field(&answer(&mut world, wrong.clone())), Some(field), "{wrong:?}");
    }
    assert!(wrong_state(&answer(
        &mut world,
        Device { crypto: vec![Crypto::new(1, "A", "inline:k").expect("a line")], ..device(Format::Pcma) }
    )));
    // The call waits on.
    assert_eq!(answer(&mut world, Device { telephone_event: Some(96), ..device(Format::Pcma) }), Ok(Done::Nothing));
    assert!(wrong_state(&answer(&mut world, device(Format::Pcma))), "it is answered");
    assert!(wrong_state(&ring(&mut world)));
    world.run_to(S);
    assert!(world.phones[0].last_sdp.contains("a=rtpmap:96 telephone-event/8000"));
    world.hangup(0);
    world.run_to(2 * S);
    let ladder = world.ladder(&["ACK"]);
    assert!(
        ladder.ends_with(
            "1.000 node -> guest callEvent callingPartyDrop alice/device\n1.000 node -> guest sessionCompleted callingPartyHangup"
        ),
        "{ladder}"
    );
    no_leaks(&mut world);
}

#[test]
fn ic_045_a_codec_that_was_not_offered_is_409_and_none_in_common_is_488() {
    let only = |formats: &str| offer("sendrecv", false).replace("RTP/AVP 8 0", &format!("RTP/AVP {formats}"));
    let mut world = listening();
    world.call_with("device", "", Some(&only("8")));
    world.run_to(10);
    assert_eq!(answer(&mut world, device(Format::Pcmu)), Err(CommandError::WrongState("codec: the caller did not offer it")));
    assert_eq!(answer(&mut world, device(Format::Pcma)), Ok(Done::Nothing));
    world.hangup(0);
    no_leaks(&mut world);
    let mut world = listening();
    world.call_with("device", "", Some(&only("3 18")));
    world.run_to(10);
    assert_eq!((world.asks.len(), world.records[0].final_status, world.records[0].reason), (0, 488, "rejected"));
    no_leaks(&mut world);
}

#[test]
fn ic_051_a_secure_offer_is_answered_with_the_devices_keys() {
    let secure = offer("sendrecv", false)
        .replace("RTP/AVP", "RTP/SAVP")
        .replace("a=sendrecv", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:theirs\r\na=sendrecv");
    let mut world = listening();
    world.call_with("device", "", Some(&secure));
    world.run_to(10);
    assert_eq!(told(&world).target.expect("it offered").crypto[0].key(), "inline:theirs");
    assert!(wrong_state(&answer(&mut world, device(Format::Pcma))), "it needs a line");
    let crypto = vec![Crypto::new(1, "AES_CM_128_HMAC_SHA1_80", "inline:ours").expect("a line")];
    assert_eq!(answer(&mut world, Device { crypto, ..device(Format::Pcma) }), Ok(Done::Nothing));
    world.run_to(S);
    let sdp = &world.phones[0].last_sdp;
    assert!(sdp.contains("m=audio 30000 RTP/SAVP 8\r\n") && sdp.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:ours\r\n"), "{sdp}");
    assert!(!world.logs.iter().any(|line| line.contains("inline")), "keys stay out of logs");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_215_nobody_answers_a_call_for_a_device() {
    let mut world = called();
    ring(&mut world).expect("it rings");
    world.run_to(61 * S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.ends_with("60.000 node -> alice 480\n60.000 node -> guest sessionCompleted noAnswer"), "{ladder}");
    no_leaks(&mut world);
}

#[test]
fn ic_215_while_somebody_rings_for_long_the_180_is_repeated_every_minute() {
    let call =
        OutboundCall { dest_addr: "sip:bob@127.0.0.20".into(), max_ring_time: Some(Duration::from_secs(150)), ..OutboundCall::default() };
    let mut world = world_with(Script::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(call.clone())))),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    }));
    world.users.insert("bob".into(), Plan::rings());
    world.call("100");
    world.run_to(149 * S);
    let rings: Vec<String> = world.steps.iter().filter(|s| s.ends_with("node -> alice 180")).cloned().collect();
    assert_eq!(rings, ["0.100 node -> alice 180", "60.100 node -> alice 180", "120.100 node -> alice 180"]);
}

#[test]
fn ic_216_the_caller_gives_up_before_the_answer() {
    let mut world = called();
    world.cancel(0);
    world.run_to(S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.contains("0.010 node -> alice 487\n") && ladder.ends_with("0.010 node -> guest sessionCompleted canceled"), "{ladder}");
    assert!(answer(&mut world, device(Format::Pcma)).is_err() && events(&world).is_empty());
    no_leaks(&mut world);
}

#[test]
fn ic_207_a_handler_that_fails_is_asked_once_more_and_the_call_waits_on() {
    let mut world = world_with(Script::new(|_| Err(HookFailure::Trap { message: "no".into() })));
    world.call("device");
    world.run_to(10);
    assert_eq!(world.ladder(&["alarm"]).matches("node -> guest newRemoteCall").count(), 2);
    assert_eq!(world.alarms(), ["newCallEventError newCall request failed"]);
    assert_eq!(answer(&mut world, device(Format::Pcma)), Ok(Done::Nothing), "REST may answer it all the same");
    world.run_to(S);
    world.hangup(0);
    no_leaks(&mut world);
    // An answer of another hook is none.
    let mut world = world_with(Script::new(|_| Ok(Verdict::Routing(Routing::Ivr { session_reference: None }))));
    world.call("device");
    world.run_to(10);
    assert_eq!((world.alarms().len(), world.leg_configs.len()), (1, 0));
    world.cancel(0);
    no_leaks(&mut world);
}

#[test]
fn ic_213_a_caller_without_an_offer_says_in_its_ack_where_it_is() {
    let mut world = listening();
    world.call_with("device", "", None);
    world.run_to(10);
    assert_eq!(told(&world).target, None);
    assert_eq!(answer(&mut world, device(Format::Pcma)), Ok(Done::Nothing));
    world.run_to(S);
    assert!(world.phones[0].last_sdp.contains("m=audio 30000 RTP/AVP 8\r\n"));
    assert_eq!(targets(&world)[0].as_ref().map(|t| t.address.port()), Some(40000));
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_106_a_re_invite_moves_the_caller_and_the_devices_side_is_told_where() {
    let mut world = called();
    answer(&mut world, device(Format::Pcma)).expect("answered");
    world.run_to(S);
    world.reinvite(0, Some(&offer("sendonly", false).replace("40000", "42000")));
    world.run_to(2 * S);
    let moved = world.notifications.iter().find_map(|n| match n {
        Notification::CallNotify { event: "reInvite", target, .. } => target.as_ref().map(|t| t.address.port()),
        _ => None,
    });
    assert_eq!(moved, Some(42000));
    let sdp = &world.phones[0].last_sdp;
    assert!(sdp.contains("m=audio 30000 RTP/AVP 8\r\n") && sdp.contains("a=recvonly"), "{sdp}");
    assert!(world.leg_configs.is_empty());
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn operations_of_the_agent_mean_its_calls_alone() {
    let mut world = world_with(Script::commands([IvrCommand { next_after: Duration::from_secs(60), ..IvrCommand::default() }]));
    world.call("100");
    world.run_to(10);
    assert!(wrong_state(&answer(&mut world, device(Format::Pcma))) && wrong_state(&ring(&mut world)) && wrong_state(&hang_up(&mut world)));
    world.hangup(0);
    no_leaks(&mut world);
    let mut world = called();
    answer(&mut world, device(Format::Pcma)).expect("answered");
    world.run_to(S);
    let connection = world.notifications.iter().find_map(|n| match n {
        Notification::CallAnswered { connection_id, .. } => Some(connection_id.clone()),
        _ => None,
    });
    let (session_id, connection_id) = (world.session_id(), connection.expect("connected"));
    assert!(wrong_state(&world.command(Command::SplitConnection { session_id: session_id.clone(), connection_id: connection_id.clone() })));
    assert!(wrong_state(&world.command(Command::record_call(session_id, connection_id, None))), "nothing of it passes here");
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ a call of a device

#[test]
fn ic_052_to_058_sm_013_a_call_of_a_device() {
    let mut world = placed(Plan::default());
    world.run_to(2 * S);
    world.callee_request(0, "BYE", None);
    world.run_to(3 * S);
    check(
        &world,
        "0.000 node -> bob INVITE
         0.100 bob -> node 180
         0.100 node -> guest callNotify ringing bob
         1.000 bob -> node 200
         1.000 node -> guest callAnswered
         2.000 bob -> node BYE
         2.000 node -> bob 200 (100 BYE)
         2.000 node -> guest callEvent calledPartyDrop bob/1234
         2.000 node -> guest sessionCompleted calledPartyHangup"
            .replace("100 BYE", &format!("{} BYE", world.callees[0].cseq))
            .as_str(),
    );
    let invite = &world.callees[0].invite;
    assert_eq!(invite.request_uri().map(ToString::to_string).as_deref(), Some("sip:bob@127.0.0.20"));
    assert!(invite.header("From").is_some_and(|from| from.starts_with("<sip:1234@demo.test>")), "{:?}", invite.header("From"));
    let sdp = &world.callees[0].heard[0];
    assert!(sdp.contains("c=IN IP4 127.0.0.1\r\n") && sdp.contains("m=audio 30000 RTP/AVP 3\r\n") && sdp.contains("GSM/8000"), "{sdp}");
    assert_eq!(targets(&world)[0].as_ref().map(|t| (t.format, t.address.to_string())), Some((Format::Gsm, "192.0.2.20:41000".into())));
    for notification in &world.notifications {
        let info = notification.info();
        assert_eq!(info.session_reference.as_deref(), Some("\"ref\""), "{notification:?}");
        assert_eq!(info.callback.as_deref(), Some("https://app.test/hooks/"), "{notification:?}");
    }
    assert!(world.asks.is_empty() && world.leg_configs.is_empty());
    let record = &world.records[0];
    assert_eq!((record.caller.as_str(), record.called.as_str(), record.incoming, record.placed), ("1234", "bob", false, 1));
    no_leaks(&mut world);
}

#[test]
fn ic_052_a_call_of_a_device_that_is_busy_or_hung_up() {
    let mut world = placed(Plan::refuses(486));
    world.run_to(2 * S);
    let event = &events(&world)[0];
    assert_eq!((event.event, event.sip_code, event.remote_user.as_str()), (CallEventKind::CalledPartyFailure, Some(486), "1234"));
    assert_eq!(world.reason(), Some("busy"));
    no_leaks(&mut world);
    // While it rings: CANCEL (IC-042).
    let mut world = placed(Plan::rings());
    world.run_to(S);
    assert_eq!(hang_up(&mut world), Ok(Done::Nothing));
    world.run_to(2 * S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.contains("1.000 node -> bob CANCEL") && ladder.contains("sessionCompleted apiHangup"), "{ladder}");
    assert!(events(&world).is_empty(), "its side gave the order");
    no_leaks(&mut world);
    // Answered: BYE.
    let mut world = placed(Plan::default());
    world.run_to(2 * S);
    hang_up(&mut world).expect("it is up");
    world.run_to(3 * S);
    assert!(world.ladder(&[]).contains("2.000 node -> bob BYE Q.850;cause=16"));
    no_leaks(&mut world);
}

#[test]
fn ic_053_an_answer_in_another_codec_is_of_no_use() {
    let mut world = listening();
    world.users.insert("bob".into(), Plan::default());
    world.command(place(to_bob())).expect("placed");
    world.run_to(2 * S);
    assert_eq!(world.alarms(), ["callError invalidSdp"]);
    assert_eq!((events(&world)[0].event, world.reason()), (CallEventKind::CalledPartyFailure, Some("serverError")));
    no_leaks(&mut world);
}

#[test]
fn ic_055_056_057_058_059_what_a_call_of_a_device_may_be() {
    let mut world = listening();
    let with = |change: &dyn Fn(&mut PlaceRemoteCall)| {
        let mut call = to_bob();
        change(&mut call);
        place(call)
    };
    let at = |address: &str| Device { address: address.parse().expect("an address"), ..device(Format::Pcma) };
    for (call, field) in [
        (with(&|c| c.destination_uri = "bob".into()), "destinationUri"),
        (with(&|c| c.source_user = String::new()), "sourceUser"),
        (with(&|c| c.source_user = "a\r\nX: y".into()), "sourceUser"),
        (with(&|c| c.device = at("127.0.0.1:1")), "receivePort"),
        (with(&|c| c.device = at("192.0.2.7:30000")), "receiveIp"),
        (with(&|c| c.callback_base_url = "https://evil.test/hooks".into()), "callbackBaseUrl"),
        (with(&|c| c.callback_base_url = "https://app.test.evil.test/".into()), "callbackBaseUrl"),
        (with(&|c| c.callback_base_url = "https://app.test@evil.test/".into()), "callbackBaseUrl"),
        (with(&|c| c.callback_base_url = "http://app.test/".into()), "callbackBaseUrl"),
        (with(&|c| c.callback_base_url = "https://app.test/?a=b".into()), "callbackBaseUrl"),
        (with(&|c| c.session_reference = Some("x".repeat(5000))), "sessionReferenceId"),
    ] {
        assert_eq!(bad_field(&world.command(call.clone())), Some(field), "{call:?}");
    }
    assert!(world.steps.is_empty() && world.begun.is_empty());
    // A destination that the tenant does not have is judged when it is called.
    world.command(with(&|c| c.destination_uri = "sip:bob@192.0.2.66".into())).expect("valid");
    world.run_to(S);
    assert_eq!((events(&world)[0].sip_code, world.reason()), (Some(403), Some("rejected")));
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ httpcall

fn http_call(format: Format) -> Verdict {
    Verdict::Routing(Routing::HttpCall { device: Box::new(device(format)), session_reference: Some("\"device\"".into()) })
}

#[test]
fn ic_161_188_119_to_122_an_unanswered_caller_is_answered_with_the_device() {
    let mut world = world_with(Script::new(|_| Ok(http_call(Format::Pcmu))));
    world.call("100");
    world.run_to(S);
    world.hangup(0);
    world.run_to(2 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         0.000 guest -> node httpcall 127.0.0.1:30000
         0.000 node -> alice 200
         0.000 node -> guest callAnswered
         1.000 alice -> node BYE
         1.000 node -> alice 200 (2 BYE)
         1.000 node -> guest callEvent callingPartyDrop alice/100
         1.000 node -> guest sessionCompleted callingPartyHangup",
    );
    assert!(world.phones[0].last_sdp.contains("m=audio 30000 RTP/AVP 0\r\n") && world.leg_configs.is_empty());
    assert_eq!(targets(&world)[0].as_ref().map(|t| (t.format.name(), t.address.to_string())), Some(("PCMU", "192.0.2.9:40000".into())));
    assert_eq!(world.notifications[0].info().session_reference.as_deref(), Some("\"device\""));
    no_leaks(&mut world);
}

#[test]
fn ic_161_a_caller_in_the_ivr_is_moved_to_the_device_and_back() {
    let mut world = world_with(Script::new(|ask| match &ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        Hook::GetIvrCommand(_) if ask.id.number < 4 => {
            Ok(Verdict::Ivr(Box::new(IvrCommand { next_after: Duration::from_secs(60), ..IvrCommand::default() })))
        }
        Hook::CallEvent(event) if event.event == CallEventKind::CallerConnectionSplit && ask.id.number == 3 => Ok(http_call(Format::Pcma)),
        Hook::CallEvent(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Ok(Verdict::Ivr(Box::new(IvrCommand { hangup: true, ..IvrCommand::default() }))),
    }));
    world.call("100");
    world.run_to(S);
    let connection = |world: &World| {
        let id =
            |n: &Notification| if let Notification::CallAnswered { connection_id, .. } = n { Some(connection_id.clone()) } else { None };
        world.notifications.iter().rev().find_map(id).expect("connected")
    };
    let session_id = world.session_id();
    let split = Command::SplitConnection { session_id: session_id.clone(), connection_id: connection(&world) };
    world.command(split).expect("split");
    world.run_to(2 * S);
    assert!(world.live_legs().is_empty(), "its leg went when it knew of the device\n{}", world.ladder(&[]));
    assert_eq!(targets(&world).len(), 2);
    assert!(targets(&world)[1].is_some());
    // The device leaves: its party is asked about, and has a leg again.
    let participant_id = world.begun[0].participant_id.clone();
    world.command(Command::HangupRemoteParticipant { session_id, participant_id }).expect("the device is there");
    world.run_to(3 * S);
    check(
        &world,
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         0.000 guest -> node ivr
         0.000 node -> alice 200
         0.000 node -> guest callAnswered
         0.000 node -> guest getIvrCommand
         0.000 guest -> node command of 0 phrases
         1.000 node -> media stop
         1.000 node -> media leg 1 hears nobody
         1.000 node -> guest callEvent callerConnectionSplit alice/
         1.000 guest -> node httpcall 127.0.0.1:30000
         1.000 node -> alice INVITE sendrecv
         1.000 alice -> node 200
         1.000 node -> media close
         1.000 node -> guest callAnswered
         2.000 node -> guest callEvent reference=\"device\" calledPartyDrop 100/alice
         2.000 node -> alice INVITE sendrecv
         2.000 alice -> node 200
         2.000 guest -> node ivr
         2.000 node -> guest callAnswered
         2.000 node -> guest getIvrCommand reference=\"device\"
         2.000 guest -> node command of 0 phrases
         2.000 node -> media close
         2.000 node -> alice BYE Q.850;cause=16
         2.000 alice -> node 200
         2.000 node -> guest sessionCompleted ivrHangup",
    );
    assert_eq!(world.leg_configs.len(), 2);
    no_leaks(&mut world);
}

#[test]
fn ic_161_a_party_and_a_device_without_a_common_codec_is_a_failed_call() {
    // GSM, which the caller did not offer.
    let mut world = world_with(Script::new(|ask| match ask.hook {
        Hook::NewCall(_) => Ok(http_call(Format::Gsm)),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: Some("notAcceptable".into()), session_reference: None })),
    }));
    world.call("100");
    world.run_to(S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.contains("callEvent reference=\"device\" calledPartyFailure 100/alice 488"), "{ladder}");
    assert!(ladder.contains("node -> alice 488"), "{ladder}");
    no_leaks(&mut world);
    // An address that no device of the tenant may have.
    let mut world = world_with(Script::new(|_| {
        let device = Device { address: "192.0.2.50:30000".parse().expect("an address"), ..device(Format::Pcma) };
        Ok(Verdict::Routing(Routing::HttpCall { device: Box::new(device), session_reference: None }))
    }));
    world.call("100");
    world.run_to(S);
    assert_eq!((world.alarms(), world.records[0].final_status), (vec!["newCallEventError newCall request failed".to_owned()], 503));
    no_leaks(&mut world);
}

#[test]
fn ic_042_161_the_devices_side_hangs_up_a_party_of_a_handlers_call() {
    let mut world = world_with(Script::new(|_| Ok(http_call(Format::Pcma))));
    world.call("100");
    world.run_to(S);
    assert_eq!(hang_up(&mut world), Ok(Done::Nothing));
    world.run_to(2 * S);
    let ladder = world.ladder(&["ACK"]);
    assert!(ladder.contains("1.000 node -> alice BYE Q.850;cause=16") && ladder.ends_with("sessionCompleted apiHangup"), "{ladder}");
    no_leaks(&mut world);
}
