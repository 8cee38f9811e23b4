//! The rest of a routing answer in virtual time: what the new leg says of the caller, what waiting parties hear, greetings, routing out of
//! the IVR; and the commands that move, hold and mute a party of a call. Bridges themselves are in `two_parties.rs`.

use crate::contract::callee::Plan;
use crate::contract::world::{World, configuration, offer, switch_config, tenant};
use crate::contract::{Script, file};
use crate::door::{Command, CommandError, Counter, Done, HoldAudio, Mute, PlaceIvrCall, PromptSource, Tenant, TransferTarget, Trunk};
use crate::hook::*;
use crate::switch::SwitchConfig;
use hookswitch_proto::media::{Codec, LegId, StopReason};
use hookswitch_proto::sip::Message;
use std::time::Duration;

const S: u64 = 1000;
const BOB: &str = "sip:bob@127.0.0.20";

fn call_to(dest: &str) -> OutboundCall {
    OutboundCall { dest_addr: dest.into(), ..OutboundCall::default() }
}

fn drop_it() -> Verdict {
    Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })
}

/// newCall: this call. callEvent: drop. getIvrCommand: this command, then wait for keys.
fn script(first: Routing, command: IvrCommand) -> Script {
    let mut commands = std::iter::once(command);
    Script::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(first.clone())),
        Hook::CallEvent(_) | Hook::GetCallIdentifier(_) | Hook::NewRemoteCall(_) => Ok(drop_it()),
        Hook::GetIvrCommand(_) => {
            let wait = Collect { first_timeout: Duration::from_secs(60), ..Collect::default() };
            Ok(Verdict::Ivr(Box::new(commands.next().unwrap_or_else(|| IvrCommand { dtmf: Some(wait), ..IvrCommand::default() }))))
        }
    })
}

fn calls(call: OutboundCall) -> Script {
    script(Routing::Call(Box::new(call)), IvrCommand::default())
}

fn ivr_then(command: IvrCommand) -> Script {
    script(Routing::Ivr { session_reference: None }, command)
}

fn world_of(tenant: Tenant, script: Script) -> World {
    let mut world = World::with(configuration(tenant), switch_config(7), Box::new(script));
    world.users.insert("bob".into(), Plan::default());
    world
}

/// Alice and bob talk since a second.
fn bridged() -> World {
    let mut world = world_of(tenant(), calls(call_to(BOB)));
    world.call("100");
    world.run_to(2 * S);
    world
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

fn check(world: &World, from: &str, without: &[&str], expected: &str) {
    let ladder = world.ladder(without);
    let got = ladder.find(from).map_or("", |at| &ladder[at..]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\nwhole:\n{ladder}\n");
}

/// Participant ids of caller and callee of the last connection.
fn both(world: &World) -> (String, String) {
    let answered = world.notifications.iter().rev().find_map(|n| match n {
        Notification::CallAnswered { caller_participant_id, callee_participant_id, .. } => {
            Some((caller_participant_id.clone(), callee_participant_id.clone()))
        }
        _ => None,
    });
    answered.expect("a connection")
}

fn transfers(world: &World) -> Vec<(u16, bool)> {
    let told = |n: &Notification| if let Notification::TransferState { sip_code, last, .. } = n { Some((*sip_code, *last)) } else { None };
    world.notifications.iter().filter_map(told).collect()
}

fn hears(world: &World, leg: u64) -> Option<LegId> {
    world.bridges().into_iter().find(|(id, _)| *id == LegId(leg)).and_then(|(_, hears)| hears)
}

// ------------------------------------------------------------------------------------------------ what the new leg says

/// The INVITE that bob gets for this call.
fn invite_of(call: OutboundCall, tenant: Tenant, trunks: Vec<Trunk>, extra: &str) -> Message {
    let configuration = crate::Configuration { trunks, ..configuration(tenant) };
    let mut world = World::with(configuration, switch_config(7), Box::new(calls(call)));
    world.users.insert("bob".into(), Plan::default());
    world.call_with("100", extra, Some(&offer("sendrecv", true)));
    world.run_to(2 * S);
    world.hangup(0);
    no_leaks(&mut world);
    assert!(!world.callees.is_empty(), "nobody was called\n{}", world.ladder(&[]));
    world.callees.remove(0).invite
}

fn trunk(name: &str, address: &str, trusted: bool) -> Trunk {
    Trunk { name: name.into(), addresses: vec![address.parse().expect("an address")], trusted }
}

#[test]
fn ic_178_179_180_181_183_184_the_new_leg_says_what_the_answer_says() {
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let call = OutboundCall {
        sip_pai: Some("+46701".into()),
        sip_rpid: Some("sip:+46702@carrier.test".into()),
        sip_diversion: Some("+46703".into()),
        sip_diversion_parameters: pairs(&[("reason", "no-answer"), ("counter", "1"), ("privacy", "off")]),
        display_name: Some("Al \"Q\"".into()),
        contact_parameters: pairs(&[("ob", "1")]),
        contact_user_parameters: pairs(&[("tgrp", "north")]),
        x_headers: pairs(&[("X-A", "1"), ("X-A", "2")]),
        p_headers: pairs(&[("P-Charging-Vector", "icid=1")]),
        ..call_to(BOB)
    };
    let trusted = Tenant { trusted: true, ..tenant() };
    let invite = invite_of(call.clone(), trusted, vec![], "");
    assert_eq!(invite.headers("P-Asserted-Identity"), ["<sip:+46701@demo.test>"]);
    assert_eq!(invite.headers("Remote-Party-ID"), ["<sip:+46702@carrier.test>"]);
    assert_eq!(invite.headers("Diversion"), ["<sip:+46703@demo.test>;reason=no-answer;counter=1;privacy=off"]);
    assert!(
        invite.header("From").is_some_and(|f| f.starts_with("\"Al \\\"Q\\\"\" <sip:alice@demo.test>;tag=")),
        "{:?}",
        invite.header("From")
    );
    assert_eq!(invite.headers("Contact"), ["<sip:alice;tgrp=north@192.0.2.1:5060;ob=1>"]);
    assert_eq!((invite.headers("X-A"), invite.headers("P-Charging-Vector")), (vec!["1".into(), "2".into()], vec!["icid=1".to_owned()]));
    // Identity is the operator's to grant; what else was said goes out all the same.
    let plain = invite_of(call, tenant(), vec![], "");
    assert_eq!((plain.header("P-Asserted-Identity"), plain.header("Remote-Party-ID")), (None, None));
    assert_eq!(plain.headers("Diversion").len(), 1);
    assert_eq!(invite_of(call_to(BOB), tenant(), vec![], "").header("Diversion"), None, "none is sent unless it is asked for");
}

#[test]
fn ic_182_a_hidden_caller_is_told_to_trusted_trunks_alone() {
    let call = OutboundCall {
        caller_privacy: true,
        sip_pai: Some("+46701".into()),
        sip_rpid: Some("+46702".into()),
        p_headers: vec![("P-Preferred-Identity".into(), "<sip:+46704@demo.test>".into())],
        contact_user_parameters: vec![("tgrp".into(), "north".into())],
        ..call_to(BOB)
    };
    let trusted = || Tenant { trusted: true, ..tenant() };
    let stranger = invite_of(call.clone(), trusted(), vec![trunk("other", "127.0.0.20", false)], "");
    assert!(stranger.header("From").is_some_and(|f| f.starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>")));
    assert_eq!(stranger.header("Privacy").as_deref(), Some("id"));
    let told = ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"].map(|name| stranger.header(name));
    assert_eq!(told, [None, None, None]);
    let whole: String = stranger.all_headers().into_iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
    assert!(!whole.contains("alice") && !whole.contains("+4670"), "{whole}");
    let trunk = invite_of(call, trusted(), vec![trunk("ours", "127.0.0.20", true)], "");
    assert_eq!(trunk.headers("P-Asserted-Identity"), ["<sip:+46701@demo.test>"]);
    assert_eq!(trunk.headers("Remote-Party-ID"), ["<sip:+46702@demo.test>;privacy=full"]);
}

#[test]
fn ic_184_headers_that_would_break_out_fail_the_answer_and_nobody_is_called() {
    for (name, value) in [("X-A", "a\r\nVia: b"), ("Via", "x"), ("X-", "x"), ("X-A", "a\0b")] {
        let call = OutboundCall { x_headers: vec![(name.into(), value.into())], ..call_to(BOB) };
        let mut world = world_of(tenant(), calls(call));
        world.call("100");
        world.run_to(2 * S);
        assert_eq!((world.callees.len(), world.alarms()), (0, vec!["newCallEventError newCall request failed".to_owned()]), "{name:?}");
        assert_eq!(world.records[0].final_status, 503);
        no_leaks(&mut world);
    }
}

#[test]
fn ic_135_copy_headers_is_what_an_answer_says() {
    let call = OutboundCall { copy_headers: vec!["X-Account".into()], ..call_to(BOB) };
    let invite = invite_of(call, tenant(), vec![], "X-Account: 7\r\nX-Other: 8\r\n");
    assert_eq!((invite.headers("X-Account"), invite.header("X-Other")), (vec!["7".to_owned()], None));
}

#[test]
fn ic_098_a_trace_goes_on_between_nodes_that_trust_each_other() {
    const TRACE: &str = "X-Hookswitch-Trace-Id";
    let mine = OutboundCall { x_headers: vec![(TRACE.into(), "forged".into())], copy_headers: vec![TRACE.into()], ..call_to(BOB) };
    for (from_trusted, to_trusted) in [(true, true), (true, false), (false, true)] {
        let trunks = vec![trunk("in", "192.0.2.9", from_trusted), trunk("out", "127.0.0.20", to_trusted)];
        let configuration = crate::Configuration { trunks, ..configuration(tenant()) };
        let mut world = World::with(configuration, switch_config(7), Box::new(calls(mine.clone())));
        world.users.insert("bob".into(), Plan::default());
        world.call_with("100", &format!("{TRACE}: d9b15290-fa96\r\n"), Some(&offer("sendrecv", true)));
        world.run_to(2 * S);
        let trace = world.asks[0].hook.info().trace_id.clone();
        assert_eq!(trace == "d9b15290-fa96", from_trusted, "{trace}");
        assert_eq!(world.callees[0].invite.headers(TRACE), if to_trusted { vec![trace] } else { vec![] });
        world.hangup(0);
        no_leaks(&mut world);
    }
    // What is no id is not taken over, whoever says it.
    for bad in ["", "a b", &"x".repeat(65), "ä"] {
        let configuration = crate::Configuration { trunks: vec![trunk("in", "192.0.2.9", true)], ..configuration(tenant()) };
        let mut world = World::with(configuration, switch_config(7), Box::new(calls(call_to(BOB))));
        world.call_with("100", &format!("{TRACE}: {bad}\r\n"), Some(&offer("sendrecv", true)));
        assert_eq!(world.asks[0].hook.info().trace_id.len(), 36, "{bad:?}");
        world.run_to(S);
        world.cancel(0);
        world.run_to(70 * S);
        no_leaks(&mut world);
    }
}

#[test]
fn ic_096_097_099_101_every_callback_carries_the_common_fields() {
    let config = SwitchConfig { site: Some("hy".into()), ..switch_config(7) };
    let mut world = World::with(configuration(tenant()), config, Box::new(calls(call_to(BOB))));
    world.users.insert("bob".into(), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    world.reinvite(0, Some(&offer("sendrecv", true)));
    world.callee_request(0, "UPDATE", Some(("application/sdp", &offer("sendrecv", true))));
    world.run_to(3 * S);
    world.callee_request(0, "BYE", None);
    world.run_to(4 * S);
    let asked = world.asks.iter().map(|a| a.hook.info());
    let infos: Vec<&SessionInfo> = asked.chain(world.notifications.iter().map(Notification::info)).collect();
    assert!(infos.len() >= 6, "{}", infos.len());
    let first = infos[0];
    assert_eq!((first.session_id.len(), first.ivr_server.as_str(), first.site_id.as_deref()), (36, "192.0.2.1", Some("hy")));
    let same = |i: &&SessionInfo| {
        (&i.session_id, &i.trace_id, &i.ivr_server, &i.site_id, &i.domain)
            == (&first.session_id, &first.trace_id, &first.ivr_server, &first.site_id, &first.domain)
    };
    assert!(infos.iter().all(same), "{infos:#?}");
    // Each leg has one id from its first mention to its last.
    let mut ids: Vec<(String, String)> = Vec::new();
    for notification in &world.notifications {
        match notification {
            Notification::CallNotify { user, participant_id, remote_user, remote_participant_id, .. } => {
                ids.push((user.clone(), participant_id.clone()));
                ids.extend(remote_user.clone().zip(remote_participant_id.clone()));
            }
            Notification::CallAnswered {
                calling_party_number, caller_participant_id, remote_party_number, callee_participant_id, ..
            } => {
                ids.push((calling_party_number.clone(), caller_participant_id.clone()));
                ids.push((remote_party_number.clone(), callee_participant_id.clone()));
            }
            _ => {}
        }
    }
    for ask in &world.asks {
        if let Hook::CallEvent(event) = &ask.hook {
            ids.push((event.user.clone(), event.participant_id.clone()));
            ids.push((event.remote_user.clone(), event.remote_participant_id.clone()));
        }
    }
    ids.sort();
    let mentions = ids.len();
    ids.dedup();
    assert_eq!((ids.len(), ids[0].0.as_str(), ids[1].0.as_str(), mentions >= 10), (2, "alice", "bob", true), "{ids:?}");
    no_leaks(&mut world);
    // Without a name there is no site.
    let mut plain = bridged();
    assert!(plain.asks.iter().all(|a| a.hook.info().site_id.is_none()));
    plain.hangup(0);
    no_leaks(&mut plain);
}

#[test]
fn ic_187_an_answer_replaces_the_session_reference_and_none_keeps_it() {
    let first = OutboundCall { session_reference: Some("{\"a\":1}".into()), ..call_to(BOB) };
    let mut events = [Some("[2]".to_owned()), None].into_iter();
    let script = Script::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(first.clone())))),
        Hook::CallEvent(_) | Hook::GetCallIdentifier(_) | Hook::NewRemoteCall(_) => {
            Ok(Verdict::Routing(Routing::Ivr { session_reference: events.next().flatten() }))
        }
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand { dtmf: Some(Collect::default()), ..IvrCommand::default() }))),
    });
    let mut world = world_of(tenant(), script);
    world.call("100");
    world.run_to(2 * S);
    world.callee_request(0, "BYE", None);
    world.run_to(3 * S);
    let references: Vec<Option<&str>> = world.asks.iter().map(|a| a.hook.info().session_reference.as_deref()).collect();
    assert_eq!(references, [None, Some("{\"a\":1}"), Some("[2]")], "newCall, callEvent, getIvrCommand");
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ codecs and tones

#[test]
fn ic_194_the_offer_is_in_the_tenants_order() {
    let audio = |tenant: Tenant| {
        let mut world = world_of(
            tenant,
            ivr_then(IvrCommand { routing: Some(Box::new(Routing::Call(Box::new(call_to(BOB))))), ..IvrCommand::default() }),
        );
        // The caller offers nothing, so that its codec decides nothing.
        let placed = PlaceIvrCall { call: call_to(BOB), ..PlaceIvrCall::default() };
        assert!(matches!(world.command(Command::PlaceIvrCall(Box::new(placed))), Ok(Done::Placed { .. })));
        world.run_to(S / 2);
        let sdp = String::from_utf8_lossy(&world.callees[0].invite.body()).into_owned();
        sdp.lines().find(|l| l.starts_with("m=audio")).map(|l| l.split_once("RTP/AVP ").map_or("", |(_, f)| f).to_owned())
    };
    assert_eq!(audio(tenant()).as_deref(), Some("8 0 101"), "as the node has them");
    assert_eq!(audio(Tenant { codecs: vec![Codec::Pcmu], ..tenant() }).as_deref(), Some("0 8 101"));
    assert_eq!(audio(Tenant { codecs: vec![Codec::Pcmu, Codec::Pcma], ..tenant() }).as_deref(), Some("0 8 101"));
    assert_eq!(audio(Tenant { codecs: vec![Codec::Pcma], ..tenant() }).as_deref(), Some("8 0 101"));
}

/// A caller in the IVR has bob called, who does not answer: what it hears meanwhile.
fn waiting(tenant: Tenant, ring: u64) -> World {
    let call = OutboundCall { max_ring_time: Some(Duration::from_secs(ring)), ..call_to(BOB) };
    let mut world =
        world_of(tenant, ivr_then(IvrCommand { routing: Some(Box::new(Routing::Call(Box::new(call)))), ..IvrCommand::default() }));
    world.users.insert("bob".into(), Plan::rings());
    world.call("100");
    world
}

#[test]
fn ic_172_the_ringing_tone_is_the_tenants_countrys() {
    let tone = |hz: &[f32], on: u64, off: u64| {
        let (on, off) = (Duration::from_millis(on), Duration::from_millis(off));
        PromptSource::Tone { hz: hz.to_vec(), level_dbm0: -15.0, on, off, total: on + off }
    };
    for (country, sources, play) in [
        (None, vec![tone(&[425.0], 1000, 5000)], "play clip 6000 ms 50 times"),
        (Some("DE"), vec![tone(&[425.0], 1000, 4000)], "play clip 5000 ms 60 times"),
        (Some("US"), vec![tone(&[440.0, 480.0], 2000, 4000)], "play clip 6000 ms 50 times"),
        (Some("GB"), vec![tone(&[400.0, 450.0], 400, 200), tone(&[400.0, 450.0], 400, 2000)], "play clip 3000 ms 64 times"),
    ] {
        let country = country.map_or(Ok(crate::Country::default()), str::parse).expect("a country");
        let mut world = waiting(Tenant { country, ..tenant() }, 235);
        world.run_to(234 * S);
        assert_eq!(world.prepares[0].sources, sources);
        let ladder = world.ladder(&[]);
        assert!(ladder.contains(&format!("0.000 node -> media {play}")), "{ladder}");
        // Until somebody answers or gives up, also where one queue is shorter than that.
        let again = ladder.matches("node -> media play").count();
        assert_eq!(again, if country.code() == "GB" { 2 } else { 1 }, "{ladder}");
        assert!(!ladder.contains("node -> media stop"), "{ladder}");
        world.run_to(236 * S);
        assert!(world.ladder(&[]).contains("235.000 node -> media stop"), "{}", world.ladder(&[]));
        no_leaks(&mut world);
    }
}

// ------------------------------------------------------------------------------------------------ greetings

fn greeted(order: PlayMode, caller: &[&str], callee: &[&str]) -> World {
    let phrases = |names: &[&str]| names.iter().map(|n| file(n)).collect::<Vec<_>>();
    let greeting = Greeting { order, caller: phrases(caller), callee: phrases(callee) };
    let mut world = world_of(tenant(), calls(OutboundCall { greeting: Some(greeting), ..call_to(BOB) }));
    world.call("100");
    world.run_to(10 * S);
    world
}

#[test]
fn ic_173_174_175_the_callee_first() {
    // hello.wav 1 s, bye.wav 0.5 s.
    let mut world = greeted(PlayMode::CalleeFirst, &["bye.wav"], &["hello.wav"]);
    check(
        &world,
        "1.000 bob -> node 200",
        &[" ACK"],
        "1.000 bob -> node 200
         1.000 node -> alice 200
         1.000 node -> media play clip 1000 ms
         1.000 node -> media play clip 6000 ms 50 times
         2.000 node -> media play clip 500 ms
         2.500 node -> media leg 1 hears leg 2
         2.500 node -> media leg 2 hears leg 1
         2.500 node -> guest callAnswered",
    );
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_173_174_175_the_caller_first() {
    let mut world = greeted(PlayMode::CallerFirst, &["bye.wav", "bye.wav"], &["hello.wav"]);
    check(
        &world,
        "1.000 bob -> node 200",
        &[" ACK"],
        "1.000 bob -> node 200
         1.000 node -> alice 200
         1.000 node -> media play clip 500 ms 2 times
         2.000 node -> media play clip 1000 ms
         2.000 node -> media play clip 6000 ms 50 times
         3.000 node -> media stop
         3.000 node -> media leg 1 hears leg 2
         3.000 node -> media leg 2 hears leg 1
         3.000 node -> guest callAnswered",
    );
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_173_174_175_both_at_once_and_the_longer_is_waited_for() {
    let mut world = greeted(PlayMode::Both, &["hello.wav"], &["bye.wav"]);
    check(
        &world,
        "1.000 bob -> node 200",
        &[" ACK"],
        "1.000 bob -> node 200
         1.000 node -> alice 200
         1.000 node -> media play clip 1000 ms
         1.000 node -> media play clip 500 ms
         2.000 node -> media leg 1 hears leg 2
         2.000 node -> media leg 2 hears leg 1
         2.000 node -> guest callAnswered",
    );
    world.hangup(0);
    no_leaks(&mut world);
    // One side alone; the prompt is fetched while it rings.
    let mut one = greeted(PlayMode::Both, &[], &["bye.wav"]);
    assert!(one.ladder(&[]).contains("1.500 node -> guest callAnswered"), "{}", one.ladder(&[]));
    one.hangup(0);
    no_leaks(&mut one);
}

#[test]
fn ic_174_a_hangup_during_a_greeting_is_a_drop() {
    for (caller, event) in [(true, CallEventKind::CallingPartyDrop), (false, CallEventKind::CalledPartyDrop)] {
        let greeting = Greeting { order: PlayMode::Both, caller: vec![file("menu.wav")], callee: vec![file("menu.wav")] };
        let mut world = world_of(tenant(), calls(OutboundCall { greeting: Some(greeting), call_recording: true, ..call_to(BOB) }));
        world.call("100");
        world.run_to(2 * S);
        if caller {
            world.hangup(0)
        } else {
            world.callee_request(0, "BYE", None)
        }
        world.run_to(3 * S);
        let events: Vec<_> =
            world.asks.iter().filter_map(|a| if let Hook::CallEvent(e) = &a.hook { Some(e.event) } else { None }).collect();
        assert_eq!(events, [event]);
        assert!(world.ladder(&[]).contains("2.000 node -> media stop"), "what the other was told ends\n{}", world.ladder(&[]));
        let told = world.notifications.iter().any(|n| matches!(n, Notification::CallAnswered { .. }));
        assert!(!told && world.started.is_empty(), "IC-175: they never heard each other");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_174_a_phrase_that_cannot_be_played_is_skipped_with_an_alarm() {
    let greeting = Greeting { order: PlayMode::Both, caller: vec![file("none.wav"), file("bye.wav"), file("../x")], callee: vec![] };
    let mut world = world_of(tenant(), calls(OutboundCall { greeting: Some(greeting), ..call_to(BOB) }));
    world.call("100");
    world.run_to(3 * S);
    assert_eq!(world.alarms(), ["ivrCommandError phraseError"], "equal ones once in 10 s");
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("1.000 node -> media play clip 500 ms") && ladder.contains("1.500 node -> guest callAnswered"), "{ladder}");
    world.hangup(0);
    no_leaks(&mut world);
    // All of it: as if there was no greeting.
    let mut none = greeted(PlayMode::CalleeFirst, &["none.wav"], &["none.wav"]);
    assert!(none.ladder(&[]).contains("1.000 node -> guest callAnswered"), "{}", none.ladder(&[]));
    none.hangup(0);
    no_leaks(&mut none);
}

#[test]
fn ic_174_early_media_ends_where_a_greeting_begins() {
    let ms = Duration::from_millis;
    let greeting = Greeting { order: PlayMode::Both, caller: vec![], callee: vec![file("bye.wav")] };
    let call = OutboundCall { greeting: Some(greeting), ringback_tone: Some("early".into()), ..call_to(BOB) };
    let mut world = world_of(tenant(), calls(call));
    world.users.insert("bob".into(), Plan { provisional: vec![(ms(100), 183, true)], ..Plan::default() });
    world.call("100");
    world.run_to(2 * S);
    let bridges: Vec<&str> = world.steps.iter().filter(|s| s.contains(" hears ")).map(String::as_str).collect();
    assert_eq!(
        bridges,
        [
            "0.100 node -> media leg 1 hears leg 2",
            "0.100 node -> media leg 2 hears leg 1",
            "1.000 node -> media leg 1 hears nobody",
            "1.000 node -> media leg 2 hears nobody",
            "1.500 node -> media leg 1 hears leg 2",
            "1.500 node -> media leg 2 hears leg 1"
        ]
    );
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ routing out of the IVR

#[test]
fn ic_260_an_ivr_command_routes_its_caller_on() {
    let call = OutboundCall { x_headers: vec![("X-From".into(), "ivr".into())], ..call_to(BOB) };
    let command =
        IvrCommand { phrases: vec![file("bye.wav")], routing: Some(Box::new(Routing::Call(Box::new(call)))), ..IvrCommand::default() };
    let mut world = world_of(tenant(), ivr_then(command));
    world.call("100");
    world.run_to(3 * S);
    check(
        &world,
        "0.000 node -> guest getIvrCommand",
        &[" ACK"],
        "0.000 node -> guest getIvrCommand
         0.000 guest -> node command of 1 phrases
         0.000 node -> media play clip 500 ms
         0.500 node -> media play clip 6000 ms 50 times
         0.500 node -> bob INVITE
         0.600 bob -> node 180
         0.600 node -> guest callNotify ringing bob
         1.500 bob -> node 200
         1.500 node -> media stop
         1.500 node -> media leg 1 hears leg 2
         1.500 node -> media leg 2 hears leg 1
         1.500 node -> guest callAnswered",
    );
    assert_eq!(world.callees[0].invite.headers("X-From"), ["ivr"]);
    world.hangup(0);
    no_leaks(&mut world);
    // Each other action, too; one that fails comes back as its event.
    for (routing, expected) in [
        (Routing::Drop { drop_code: Some("busy".into()), session_reference: None }, "node -> alice BYE Q.850;cause=17"),
        (Routing::Ivr { session_reference: Some("7".into()) }, "node -> guest getIvrCommand reference=7"),
        (Routing::Call(Box::new(call_to("sip:nobody@192.0.2.66"))), "node -> guest callEvent calledPartyFailure nobody/alice 403"),
    ] {
        let mut world = world_of(tenant(), ivr_then(IvrCommand { routing: Some(Box::new(routing)), ..IvrCommand::default() }));
        world.call("100");
        world.run_to(2 * S);
        assert!(world.ladder(&[]).contains(expected), "{expected}\n{}", world.ladder(&[]));
        world.hangup(0);
        no_leaks(&mut world);
    }
}

// ------------------------------------------------------------------------------------------------ alarms

#[test]
fn ic_275_what_ends_a_whole_session_is_a_session_error() {
    let config = SwitchConfig { session_duration: Duration::from_secs(100), ..switch_config(7) };
    let mut world = World::with(configuration(tenant()), config, Box::new(ivr_then(IvrCommand { hangup: false, ..IvrCommand::default() })));
    world.call("100");
    world.run_to(101 * S);
    assert!(world.alarms().contains(&"sessionError maxDuration".to_owned()), "{:?}", world.alarms());
    no_leaks(&mut world);
    let mut broken = world_of(tenant(), ivr_then(IvrCommand::default()));
    broken.open_fails = true;
    broken.call("100");
    broken.run_to(S);
    assert_eq!(broken.alarms(), ["sessionError mediaServerError"]);
    no_leaks(&mut broken);
}

#[test]
fn ic_289_details_of_alarms_hold_no_digits_that_were_pressed() {
    let secret = "4711";
    let collect = Collect { max_digits: Some(4), ..Collect::default() };
    let mut commands = [
        Ok(IvrCommand { dtmf: Some(collect.clone()), ..IvrCommand::default() }),
        Ok(IvrCommand { dtmf: Some(collect), phrases: vec![file("none.wav")], ..IvrCommand::default() }),
        Ok(IvrCommand { session_id: Some("another".into()), ..IvrCommand::default() }),
        Err(HookFailure::Deadline),
    ]
    .into_iter();
    let script = Script::new(move |ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        Hook::CallEvent(_) | Hook::GetCallIdentifier(_) | Hook::NewRemoteCall(_) => Ok(drop_it()),
        Hook::GetIvrCommand(_) => commands.next().unwrap_or(Err(HookFailure::Cpu)).map(|c| Verdict::Ivr(Box::new(c))),
    });
    let mut world = world_of(tenant(), script);
    world.call("100");
    world.run_to(S);
    secret.chars().for_each(|digit| world.press(digit));
    world.run_to(30 * S);
    let asked =
        world.asks.iter().any(|a| matches!(&a.hook, Hook::GetIvrCommand(r) if r.dtmf.as_ref().is_some_and(|d| d.dtmf_match == secret)));
    assert!(asked, "the handler gets them: {}", world.ladder(&[]));
    let details: Vec<String> = world
        .notifications
        .iter()
        .filter_map(|n| if let Notification::Alarm(a) = n { Some(format!("{} {:?}", a.error, a.details)) } else { None })
        .collect();
    assert!(details.len() >= 3, "{details:?}");
    assert!(details.iter().chain(&world.logs).all(|text| !text.contains(secret)), "{details:?} {:?}", world.logs);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ transfer, hold, mute, digits

fn ids(world: &World) -> (String, String, String) {
    let (caller, callee) = both(world);
    (world.session_id(), caller, callee)
}

#[test]
fn ic_300_a_blind_transfer_is_followed_and_ends_the_leg() {
    let mut world = bridged();
    let (session_id, participant_id, _) = ids(&world);
    let target = TransferTarget::Blind("sip:carol@127.0.0.21".into());
    assert_eq!(world.command(Command::Transfer { session_id, participant_id, target }), Ok(Done::Nothing));
    world.run_to(3 * S);
    for status in [100, 180, 180, 200] {
        world.refer_news(0, status);
    }
    world.run_to(4 * S);
    check(
        &world,
        "2.000 node -> alice REFER",
        &[" ACK", "media close"],
        "2.000 node -> alice REFER <sip:carol@127.0.0.21>
         2.000 alice -> node 202
         2.000 node -> guest transferState 202
         3.000 alice -> node NOTIFY
         3.000 node -> alice 200 (2 NOTIFY)
         3.000 node -> guest transferState 100
         3.000 alice -> node NOTIFY
         3.000 node -> alice 200 (3 NOTIFY)
         3.000 node -> guest transferState 180
         3.000 alice -> node NOTIFY
         3.000 node -> alice 200 (4 NOTIFY)
         3.000 alice -> node NOTIFY
         3.000 node -> alice 200 (5 NOTIFY)
         3.000 node -> guest transferState 200, last
         3.000 node -> media leg 2 hears nobody
         3.000 node -> guest callEvent callingPartyDrop alice/bob
         3.000 node -> alice BYE Q.850;cause=16
         3.000 alice -> node 200
         3.000 guest -> node drop -
         3.000 node -> bob BYE Q.850;cause=21
         3.000 bob -> node 200
         3.000 node -> guest sessionCompleted apiHangup",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_300_a_transfer_that_fails_leaves_the_call_as_it_was() {
    // Refused, busy at the other end, and never heard of again.
    for (refused, news, expected) in
        [(405, None, vec![(405, true)]), (202, Some(486), vec![(202, false), (486, true)]), (202, None, vec![(202, false), (408, true)])]
    {
        let mut world = bridged();
        world.refer_status = refused;
        let (session_id, participant_id, _) = ids(&world);
        let order = |session_id: &String, participant_id: &String| Command::Transfer {
            session_id: session_id.clone(),
            participant_id: participant_id.clone(),
            target: TransferTarget::Blind(BOB.into()),
        };
        assert_eq!(world.command(order(&session_id, &participant_id)), Ok(Done::Nothing));
        if refused == 202 {
            let again = world.command(order(&session_id, &participant_id));
            assert_eq!(again, Err(CommandError::WrongState("the participant is being transferred")));
        }
        if let Some(status) = news {
            world.refer_news(0, status);
        }
        world.run_to(50 * S);
        assert_eq!(transfers(&world), expected);
        assert!(!world.phones[0].over && hears(&world, 1) == Some(LegId(2)), "{}", world.ladder(&[]));
        assert_eq!(world.command(order(&session_id, &participant_id)), Ok(Done::Nothing), "another try");
        world.hangup(0);
        world.run_to(51 * S);
        let last = transfers(&world).pop();
        assert!(last == Some((487, true)) || refused == 405 && last == Some((405, true)), "{last:?}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_300_a_transfer_goes_only_where_a_call_could() {
    let mut world = bridged();
    world.hosts.insert("good.test".into(), vec!["127.0.0.21:5060".parse().expect("an address")]);
    world.hosts.insert("evil.test".into(), vec!["192.0.2.66:5060".parse().expect("an address")]);
    let (session_id, participant_id, _) = ids(&world);
    let blind = |uri: &str| Command::Transfer {
        session_id: session_id.clone(),
        participant_id: participant_id.clone(),
        target: TransferTarget::Blind(uri.into()),
    };
    for bad in ["carol", "tel:+4670", "sip:a@b>\r\nX: y", "sip:carol@192.0.2.66"] {
        assert!(matches!(world.command(blind(bad)), Err(CommandError::BadValue { field: "target", .. })), "{bad}");
    }
    // Names are judged by where they lead.
    for (uri, expected) in [("sip:carol@evil.test", (403, true)), ("sip:carol@none.test", (404, true))] {
        assert_eq!(world.command(blind(uri)), Ok(Done::Nothing));
        world.run_for(10);
        assert_eq!(transfers(&world).last(), Some(&expected));
    }
    assert!(!world.ladder(&[]).contains("REFER"));
    assert_eq!(world.command(blind("sip:carol@good.test?X=y")), Ok(Done::Nothing));
    world.run_for(10);
    assert!(world.ladder(&[]).contains("alice REFER <sip:carol@good.test>\n"), "{}", world.ladder(&[]));
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_300_an_attended_transfer_replaces_our_leg_at_the_other_party() {
    let mut world = bridged();
    let (session_id, caller, callee) = ids(&world);
    let order = |participant_id: &str, other: &str| Command::Transfer {
        session_id: session_id.clone(),
        participant_id: participant_id.to_owned(),
        target: TransferTarget::Attended(other.to_owned()),
    };
    let none = CommandError::WrongState("the other participant is not connected");
    assert_eq!(world.command(order(&caller, &caller)), Err(none));
    assert_eq!(world.command(order(&caller, "nobody")), Err(CommandError::Unknown("participant")));
    assert_eq!(world.command(order(&caller, &callee)), Ok(Done::Nothing));
    world.run_to(3 * S);
    let invite = &world.callees[0].invite;
    let ours = invite.header("From").and_then(|f| f.split_once(";tag=").map(|(_, tag)| tag.to_owned())).expect("our tag");
    let expected = format!("<sip:bob@127.0.0.20:5060?Replaces={}%3Bto-tag%3Db0%3Bfrom-tag%3D{ours}>", invite.call_id().replace('@', "%40"));
    assert!(world.ladder(&[]).contains(&format!("node -> alice REFER {expected}")), "{expected}\n{}", world.ladder(&[]));
    // Bob's phone takes alice's new call in place of ours, and ends ours.
    world.callee_request(0, "BYE", None);
    world.refer_news(0, 200);
    world.run_to(4 * S);
    assert!(world.phones[0].over);
    no_leaks(&mut world);
}

#[test]
fn ic_300_a_transfer_stops_recordings_as_such() {
    let mut world = world_of(tenant(), calls(OutboundCall { call_recording: true, ..call_to(BOB) }));
    world.call("100");
    world.run_to(2 * S);
    let (session_id, participant_id, _) = ids(&world);
    let target = TransferTarget::Blind(BOB.into());
    assert_eq!(world.command(Command::Transfer { session_id, participant_id, target }), Ok(Done::Nothing));
    world.refer_news(0, 200);
    world.run_to(4 * S);
    assert_eq!(world.stops, [StopReason::Transfer]);
    no_leaks(&mut world);
}

#[test]
fn ic_300_hold_plays_music_and_resume_connects_again() {
    let mut world = bridged();
    let (session_id, participant_id, _) = ids(&world);
    let hold = |audio| Command::Hold { session_id: session_id.clone(), participant_id: participant_id.clone(), audio };
    let resume = || Command::Resume { session_id: session_id.clone(), participant_id: participant_id.clone() };
    assert_eq!(world.command(resume()), Ok(Done::Nothing), "nothing to end");
    assert_eq!(world.command(hold(HoldAudio::File("menu.wav".into()))), Ok(Done::Nothing));
    world.run_to(3 * S);
    assert_eq!((hears(&world, 1), hears(&world, 2)), (None, None));
    // Music, then silence, then back.
    assert_eq!(world.command(hold(HoldAudio::Silence)), Ok(Done::Nothing));
    world.run_to(4 * S);
    assert_eq!(world.command(resume()), Ok(Done::Nothing));
    world.run_to(5 * S);
    assert_eq!((hears(&world, 1), hears(&world, 2)), (Some(LegId(2)), Some(LegId(1))));
    check(
        &world,
        "2.000 node -> media leg 1 hears nobody",
        &[" ACK", "alice -> node", "alice 100"],
        "2.000 node -> media leg 1 hears nobody
         2.000 node -> media leg 2 hears nobody
         2.000 node -> alice INVITE sendonly
         2.000 node -> media play clip 2000 ms 64 times
         3.000 node -> media stop
         3.000 node -> media leg 1 hears nobody
         3.000 node -> media leg 2 hears nobody
         3.000 node -> alice INVITE inactive
         4.000 node -> media leg 1 hears leg 2
         4.000 node -> media leg 2 hears leg 1
         4.000 node -> alice INVITE sendrecv",
    );
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_300_a_hold_by_command_and_one_by_the_other_party_do_not_undo_each_other() {
    let mut world = bridged();
    let (session_id, participant_id, _) = ids(&world);
    let hold = Command::Hold { session_id: session_id.clone(), participant_id: participant_id.clone(), audio: HoldAudio::Silence };
    assert_eq!(world.command(hold), Ok(Done::Nothing));
    world.run_to(3 * S);
    // Bob holds and takes back, while alice is held by command: she is told nothing of it.
    for direction in ["sendonly", "sendrecv", "inactive"] {
        world.callee_request(0, "INVITE", Some(("application/sdp", &offer(direction, true))));
        world.run_for(S);
    }
    assert_eq!(world.ladder(&[]).matches("node -> alice INVITE").count(), 1, "{}", world.ladder(&[]));
    assert_eq!(world.command(Command::Resume { session_id, participant_id }), Ok(Done::Nothing));
    world.run_for(S);
    let told: Vec<&str> =
        world.steps.iter().filter(|s| s.contains("node -> alice INVITE")).map(|s| s.rsplit(' ').next().unwrap_or("")).collect();
    assert_eq!(told.len(), 1, "bob's hold is what remains, and is what she was told before: {told:?}");
    world.hangup(0);
    no_leaks(&mut world);
}

#[test]
fn ic_300_a_hold_ends_with_the_connection() {
    let mut world = bridged();
    let (session_id, participant_id, callee) = ids(&world);
    let hold = |participant_id: &str| Command::Hold {
        session_id: session_id.clone(),
        participant_id: participant_id.to_owned(),
        audio: HoldAudio::File("menu.wav".into()),
    };
    assert!(matches!(
        world.command(Command::Hold {
            session_id: session_id.clone(),
            participant_id: callee.clone(),
            audio: HoldAudio::File("../x".into())
        }),
        Err(CommandError::BadValue { field: "fileName", .. })
    ));
    assert_eq!(world.command(hold(&participant_id)), Ok(Done::Nothing));
    world.run_to(3 * S);
    world.thinking = Duration::from_secs(1);
    world.callee_request(0, "BYE", None);
    world.run_to(3 * S + 500);
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("3.000 node -> media stop") && ladder.contains("3.000 node -> alice INVITE sendrecv"), "{ladder}");
    assert_eq!(world.command(hold(&participant_id)), Err(CommandError::WrongState("the participant is connected with nobody")));
    world.run_to(6 * S);
    no_leaks(&mut world);
}

#[test]
fn ic_300_mute_is_one_way_and_lasts() {
    let mut world = bridged();
    let (session_id, caller, _) = ids(&world);
    for (speak, listen) in [(true, false), (false, true), (true, true), (false, false)] {
        let order = Command::Mute { session_id: session_id.clone(), participant_id: caller.clone(), mute: Mute { speak, listen } };
        assert_eq!(world.command(order), Ok(Done::Nothing));
        assert_eq!((hears(&world, 1).is_none(), hears(&world, 2).is_none()), (listen, speak), "{speak} {listen}");
    }
    assert!(!world.ladder(&[]).contains("alice INVITE"), "it is told nobody");
    world.hangup(0);
    no_leaks(&mut world);
    // Set before it is connected, it holds from the first moment.
    let mut early = world_of(tenant(), calls(OutboundCall { participant_id: Some("a".into()), ..call_to(BOB) }));
    early.call("100");
    early.run_to(S / 2);
    let order = Command::Mute { session_id: early.session_id(), participant_id: "a".into(), mute: Mute { speak: true, listen: false } };
    assert_eq!(early.command(order), Ok(Done::Nothing));
    early.run_to(2 * S);
    assert_eq!((hears(&early, 1), hears(&early, 2)), (Some(LegId(2)), None));
    early.hangup(0);
    no_leaks(&mut early);
}

#[test]
fn ic_300_digits_have_the_length_that_is_asked_for() {
    let mut world = bridged();
    let (session_id, participant_id, _) = ids(&world);
    let send = |ms: Option<u64>| Command::SendDtmf {
        session_id: session_id.clone(),
        participant_id: participant_id.clone(),
        digits: "12".into(),
        length: ms.map(Duration::from_millis),
    };
    for (ms, good) in [(None, true), (Some(40), true), (Some(2000), true), (Some(39), false), (Some(2001), false)] {
        assert_eq!(world.command(send(ms)).is_ok(), good, "{ms:?}");
    }
    assert_eq!(world.sent_digits, "121212");
    world.hangup(0);
    no_leaks(&mut world);
}

// ------------------------------------------------------------------------------------------------ played by command

#[test]
fn a_handler_plays_to_one_party_what_the_other_does_not_hear() {
    let mut world = bridged();
    let (caller, callee) = both(&world);
    let session_id = world.session_id();
    let play = |participant_id: &str, phrases: Vec<Phrase>| Command::Play {
        session_id: session_id.clone(),
        participant_id: participant_id.to_owned(),
        phrases,
    };
    assert_eq!(
        world.command(play(&caller, vec![file("hello.wav"), Phrase::Silence { duration: Duration::from_millis(500) }])),
        Ok(Done::Nothing)
    );
    // The next one waits for it.
    assert_eq!(world.command(play(&callee, vec![file("bye.wav")])), Ok(Done::Nothing));
    world.run_to(5 * S);
    check(
        &world,
        "2.000 node -> media play",
        &[],
        "2.000 node -> media play clip 1000 ms, silence 500 ms
         3.500 node -> media play clip 500 ms",
    );
    // It says what it cannot play: at once, or when it was looked for.
    for (phrases, field) in [(vec![], "phrases"), (vec![Phrase::Echo { duration: Duration::from_secs(1) }], "phrases")] {
        let refused = world.command(play(&caller, phrases));
        assert!(matches!(refused, Err(CommandError::BadValue { field: f, .. }) if f == field), "{refused:?}");
    }
    assert_eq!(world.command(play(&caller, vec![file("missing.wav")])), Ok(Done::Nothing));
    world.run_to(6 * S);
    assert_eq!(world.alarms(), ["ivrCommandError phraseError"]);
    assert_eq!(world.command(play("nobody", vec![file("bye.wav")])), Err(CommandError::Unknown("participant")));
    world.hangup(0);
    world.run_to(7 * S);
    assert_eq!(world.started.len(), 0, "nothing is recorded");
    no_leaks(&mut world);

    // In the IVR commands play.
    let mut world = world_of(tenant(), ivr_then(IvrCommand { phrases: vec![file("menu.wav")], ..IvrCommand::default() }));
    world.call("100");
    world.run_to(S);
    let Hook::NewCall(call) = &world.asks[0].hook else { panic!("newCall comes first") };
    let order = Command::Play {
        session_id: call.info.session_id.clone(),
        participant_id: call.participant_id.clone(),
        phrases: vec![file("bye.wav")],
    };
    assert_eq!(world.command(order), Err(CommandError::WrongState("the participant is in the IVR")));
    world.hangup(0);
    no_leaks(&mut world);
}
