//! Whole calls in virtual time: SIP and media in, ladder and news out. Algorithms are tested beside their code; the operation fuzzer is
//! in `fuzz.rs`.

use crate::admission::Spent;
use crate::contract::world::{DOMAIN, World, configuration, offer, switch_config, tenant};
use crate::contract::{Script, file};
use crate::door::{
    AskId, Command, CommandError, Configuration, Counter, Done, Fallback, Input, PromptSource, SessionId, Tenant, WhichRecording,
};
use crate::hook::*;
use crate::limits;
use crate::switch::SwitchConfig;
use hookswitch_proto::media::{BargeIn, DigitSource, Direction, MediaKind, StopReason};
use std::sync::Arc;
use std::time::Duration;

const S: u64 = 1000;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// new-call is answered so, getIvrCommand never comes.
fn routing(routing: Routing) -> Script {
    Script::new(move |_| Ok(Verdict::Routing(routing.clone())))
}

fn drop_with(code: &str) -> Routing {
    Routing::Drop { drop_code: Some(code.into()), session_reference: None }
}

/// new-call: ivr. Each getIvrCommand is answered by the next of these, then by hanging up.
fn answers(answers: Vec<Result<IvrCommand, HookFailure>>) -> Script {
    let mut answers = answers.into_iter();
    Script::new(move |ask| match ask.hook {
        Hook::GetIvrCommand(_) => match answers.next() {
            Some(answer) => answer.map(|c| Verdict::Ivr(Box::new(c))),
            None => Ok(Verdict::Ivr(Box::new(hangup()))),
        },
        _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
    })
}

fn play(phrases: Vec<Phrase>) -> IvrCommand {
    IvrCommand { phrases, ..IvrCommand::default() }
}

fn hangup() -> IvrCommand {
    IvrCommand { hangup: true, ..IvrCommand::default() }
}

fn collect(max_digits: u32, phrases: Vec<Phrase>) -> IvrCommand {
    IvrCommand { phrases, dtmf: Some(Collect { max_digits: Some(max_digits), first_timeout: secs(5), ..Collect::default() }), ..hold() }
}

/// Plays nothing and asks for nothing.
fn hold() -> IvrCommand {
    IvrCommand::default()
}

fn record(phrase: RecordPhrase) -> Phrase {
    Phrase::Record(Box::new(phrase))
}

fn trap() -> HookFailure {
    HookFailure::Trap { message: "unreachable".into() }
}

fn world_of(tenant: Tenant, script: Script) -> World {
    World::with(configuration(tenant), switch_config(7), Box::new(script))
}

/// The ladder from the first request of an IVR command on, without what every call has.
fn ivr_ladder(world: &World) -> String {
    let boring = [" ACK", "INVITE", "-> alice", "alice ->", "guest newCall", "node ivr", "callAnswered", "media close", "command of"];
    world.ladder(&boring)
}

fn check(got: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\ngot:\n{got}\n");
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None);
}

/// Requests of the IVR, in order.
fn requests(world: &World) -> Vec<IvrRequest> {
    let request = |ask: &crate::door::Ask| match &ask.hook {
        Hook::GetIvrCommand(request) => Some((**request).clone()),
        _ => None,
    };
    world.asks.iter().filter_map(request).collect()
}

fn dtmf(world: &World, request: usize) -> (String, DtmfReason, Option<char>) {
    let dtmf = requests(world)[request].dtmf.clone().expect("the command collected digits");
    (dtmf.dtmf_match, dtmf.reason, dtmf.matched_termination_key)
}

// ---------------------------------------------------------------------------------------------------- newCall

#[test]
fn ic_124_100_at_once_and_the_invite_waits_for_the_answer() {
    let mut world = World::new(routing(drop_with("busy")));
    world.thinking = secs(3);
    world.call("100");
    world.run_to(10 * S);
    check(
        &world.ladder(&[]),
        "0.000 alice -> node INVITE
         0.000 node -> alice 100
         0.000 node -> guest newCall
         3.000 guest -> node drop busy
         3.000 node -> alice 486
         3.000 alice -> node ACK
         3.000 node -> guest sessionCompleted rejected",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_126_128_218_common_fields_of_every_hook() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("hello.wav")]))]));
    world.call("100");
    world.run_to(10 * S);
    let infos: Vec<&SessionInfo> = world.asks.iter().map(|a| a.hook.info()).collect();
    assert_eq!(infos.len(), 3);
    for info in &infos {
        assert_eq!(info.session_id.len(), 36);
        assert_eq!((&info.session_id, &info.trace_id), (&infos[0].session_id, &infos[0].trace_id));
        assert_eq!((info.domain.as_str(), info.ivr_server.as_str(), info.restarted), (DOMAIN, "192.0.2.1", false));
    }
    world.call("100");
    world.run_to(20 * S);
    assert_ne!(world.asks[3].hook.info().session_id, world.asks[0].hook.info().session_id, "one id a session");
}

#[test]
fn ic_127_130_136_141_new_call_reads_the_invite() {
    let pai = "P-Asserted-Identity: <sip:+46701@carrier.test>\r\n";
    let mut world = World::new(routing(drop_with("busy")));
    world.call_with("100", pai, Some(&offer("sendrecv", true)));
    world.call_from("200", "192.0.2.77:5060", pai, Some(&offer("sendrecv", true)));
    let calls: Vec<&NewCall> = world
        .asks
        .iter()
        .map(|a| match &a.hook {
            Hook::NewCall(call) => &**call,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((calls[0].calling_party.as_str(), calls[0].called_party.as_str()), ("alice", "100"), "PAI of a stranger");
    assert_eq!((calls[1].calling_party.as_str(), calls[1].called_party.as_str()), ("+46701", "200"), "PAI of a trusted trunk");
    assert_eq!(calls[0].sip_call_id, "call-0@192.0.2.9");
    assert_eq!((calls[0].src_addr.as_str(), calls[1].src_addr.as_str()), ("192.0.2.9", "192.0.2.77"));
}

#[test]
fn ic_158_166_drop_answers_the_invite_with_the_codes_status() {
    for (code, status) in [("busy", 486), ("notFound", 404), ("congestion", 503), ("500", 500), ("nonsense", 603)] {
        let mut world = World::new(routing(drop_with(code)));
        world.call("100");
        world.run_to(S);
        assert!(world.ladder(&[]).contains(&format!("node -> alice {status}\n")), "{code}");
        let record = world.records.first().expect("one record");
        assert_eq!((record.final_status, record.reason, record.answered_after), (status, "rejected", None));
        assert_eq!(world.count(Counter::CallsRefused), 1);
        no_leaks(&mut world);
    }
    let mut world = World::new(routing(Routing::Drop { drop_code: None, session_reference: None }));
    world.call("100");
    world.run_to(S);
    assert_eq!(world.records[0].final_status, 603, "default");
}

#[test]
fn ic_158_166_a_call_that_is_answered_is_dropped_by_bye_with_a_reason() {
    let leave = IvrCommand { routing: Some(Box::new(drop_with("busy"))), phrases: vec![file("hello.wav")], ..hold() };
    let mut world = World::new(answers(vec![Ok(leave)]));
    world.call("100");
    world.run_to(10 * S);
    assert!(world.ladder(&[]).contains("1.000 node -> alice BYE Q.850;cause=17"), "{}", world.ladder(&[]));
    assert_eq!(world.reason(), Some("ivrHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_160_ivr_answers_and_starts_the_loop_call_answered_first() {
    let mut world = World::new(answers(vec![]));
    world.thinking = Duration::from_millis(100);
    world.call("100");
    world.run_to(10 * S);
    check(
        &world.ladder(&[]),
        "0.000 alice -> node INVITE
         0.000 node -> alice 100
         0.000 node -> guest newCall
         0.100 guest -> node ivr
         0.100 node -> alice 200
         0.100 alice -> node ACK
         0.100 node -> guest callAnswered
         0.100 node -> guest getIvrCommand
         0.200 guest -> node command of 0 phrases
         0.200 node -> media close
         0.200 node -> alice BYE Q.850;cause=16
         0.200 alice -> node 200
         0.200 node -> guest sessionCompleted ivrHangup",
    );
    let Notification::CallAnswered { calling_party_number, remote_party_number, connection_id, reply_to, .. } = &world.notifications[0]
    else {
        panic!("{:?}", world.notifications)
    };
    assert_eq!((calling_party_number.as_str(), remote_party_number.as_str()), ("alice", "100"));
    assert!(connection_id.len() == 36 && *reply_to == ReplyTo::Connection);
    assert_eq!(world.count(Counter::CallsAnswered), 1);
    assert_eq!(world.records[0].answered_after, Some(Duration::from_millis(100)));
    no_leaks(&mut world);
}

#[test]
fn the_answer_says_the_advertised_address_and_the_offers_codec() {
    let config = SwitchConfig { media_advertise: Some("203.0.113.9".parse().unwrap()), ..switch_config(7) };
    let mut world = World::with(configuration(tenant()), config, Box::new(answers(vec![])));
    world.call("100");
    world.run_to(0);
    let sdp = &world.phones[0].last_sdp;
    assert!(sdp.contains("c=IN IP4 203.0.113.9") && sdp.contains("m=audio 20000 RTP/AVP 8 101"), "{sdp}");
}

#[test]
fn ic_164_unknown_action_raises_alarm_then_falls_back() {
    let mut world = World::new(routing(Routing::Ext { name: "mixer".into(), json: "{}".into() }));
    world.call("100");
    world.run_to(S);
    assert_eq!(world.alarms(), ["newCallEventError newCall response with unknown action"]);
    assert_eq!((world.records[0].final_status, world.reason()), (503, Some("serverError")));
    no_leaks(&mut world);
}

#[test]
fn ic_164_165_actions_out_of_the_ivr_use_the_other_hooks_texts() {
    for (name, text) in [
        ("mixer", "callEventError callEvent response with unknown action"),
        ("", "callEventError No action provided in callEvent response"),
    ] {
        let action = Routing::Ext { name: name.into(), json: String::new() };
        let mut world = World::new(answers(vec![Ok(IvrCommand { routing: Some(Box::new(action)), ..hold() })]));
        world.call("100");
        world.run_to(S);
        assert_eq!((world.alarms(), world.reason()), (vec![text.to_owned()], Some("serverError")));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_165_missing_action_raises_alarm_then_falls_back() {
    let announce = Tenant { fallback: Fallback::Announce { phrases: vec![file("hello.wav")] }, ..tenant() };
    let mut world = world_of(announce, routing(Routing::Ext { name: String::new(), json: String::new() }));
    world.call("100");
    world.run_to(10 * S);
    check(
        &world.ladder(&[" ACK", "alice 100"]),
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         0.000 guest -> node action \"\"
         0.000 node -> guest alarm newCallEventError newCall response without action
         0.000 node -> guest alarm emergencyFallback triggeredByError
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
fn ic_277_each_way_a_new_call_fails_has_its_text() {
    let failed = |failure: HookFailure| Script::new(move |_| Err(failure.clone()));
    let redirect = |contact: &str| routing(Routing::Redirect { status: 302, contacts: vec![contact.into()], session_reference: None });
    let table: Vec<(Script, &str)> = vec![
        (failed(HookFailure::Empty), "newCall response empty"),
        (failed(HookFailure::Refused { message: "no".into() }), "newCall request failed"),
        (failed(HookFailure::Unavailable { why: "no version".into() }), "newCall request failed"),
        (failed(HookFailure::Nonsense { field: "a".into(), why: "b".into() }), "newCall request failed"),
        (failed(trap()), "newCall request failed"),
        (failed(HookFailure::Deadline), "newCall request failed"),
        (Script::new(|_| Ok(Verdict::Ivr(Box::new(hangup())))), "newCall request failed"),
        (routing(Routing::Ivr { session_reference: Some("x".repeat(5000)) }), "newCall request failed"),
        (redirect("bob"), "Invalid sip address: bob"),
        (redirect("sip:bob@x>\r\nX: y"), "Invalid sip address: sip:bob@x>? | X: y"),
    ];
    for (script, text) in table {
        let mut world = World::new(script);
        world.call("100");
        world.run_to(30 * S);
        assert_eq!(world.alarms(), [format!("newCallEventError {text}")]);
        assert_eq!((world.records[0].final_status, world.reason()), (503, Some("serverError")), "{text}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_294_the_tenants_own_refusal() {
    let mut world = world_of(Tenant { fallback: Fallback::Refuse { status: 480 }, ..tenant() }, Script::new(|_| Err(HookFailure::Empty)));
    world.call("100");
    world.run_to(S);
    assert_eq!(world.records[0].final_status, 480);
}

#[test]
fn a_handler_that_never_says_anything_counts_as_late() {
    let mut world = World::new(answers(vec![]));
    world.mute = true;
    world.call("100");
    world.run_to(30 * S);
    check(
        &world.ladder(&[" ACK", "alice 100", "alarm"]),
        "0.000 alice -> node INVITE
         0.000 node -> guest newCall
         10.000 node -> guest newCall restarted
         20.000 node -> alice 503
         20.000 node -> guest sessionCompleted serverError",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_299_redirect_is_a_3xx_with_contacts() {
    let contacts = vec!["sip:bob@192.0.2.50".to_owned(), "sip:carol@example.com;transport=tcp".to_owned()];
    let mut world = World::new(routing(Routing::Redirect { status: 301, contacts, session_reference: None }));
    world.call("100");
    world.run_to(S);
    assert_eq!((world.records[0].final_status, world.reason()), (301, Some("rejected")));
    assert_eq!(world.alarms(), [""; 0]);
    no_leaks(&mut world);
}

#[test]
fn ic_297_nobody_has_the_number_404() {
    let mut configuration = configuration(tenant());
    configuration.default_domain = None;
    let mut world = World::with(configuration, switch_config(7), Box::new(answers(vec![])));
    world.call("100");
    world.run_to(S);
    check(
        &world.ladder(&[]),
        "0.000 alice -> node INVITE
         0.000 node -> alice 100
         0.000 node -> alice 404
         0.000 alice -> node ACK",
    );
    assert_eq!((world.count(Counter::UnknownNumber), world.logs.len()), (1, 1));
    assert!(world.logs[0].contains("404"), "{:?}", world.logs);
    no_leaks(&mut world);
}

#[test]
fn ic_297_an_ambiguous_configuration_changes_nothing() {
    let mut world = World::new(routing(drop_with("busy")));
    let mut bad = configuration(tenant());
    bad.tenants.push(bad.tenants[0].clone());
    bad.drain = true;
    world.input(Input::Configure(Arc::new(bad)));
    assert!(world.logs[0].contains("tenants[1].domain"), "{:?}", world.logs);
    world.call("100");
    world.run_to(S);
    assert_eq!(world.records[0].final_status, 486);
}

#[test]
fn a_spent_month_and_a_rate_refuse_with_480_but_not_to_emergency_numbers() {
    let limited = Tenant { calls_per_second: Some(1), max_sessions: 3, ..tenant() };
    let script = answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(20) }])); 3]);
    let mut world =
        World::with(Configuration { emergency: vec!["112".into()], ..configuration(limited) }, switch_config(7), Box::new(script));
    world.call("100");
    world.call("100");
    world.run_to(S);
    assert!(world.ladder(&[]).contains("node -> caller1 480"));
    assert_eq!(world.count(Counter::QuotaRate), 1);
    world.run_to(5 * S);
    world.input(Input::Spent(Spent { minutes: [DOMAIN.to_owned()].into(), ..Spent::default() }));
    world.call("100");
    world.call("112");
    world.run_to(6 * S);
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("node -> caller2 480") && ladder.contains("node -> caller3 200"), "{ladder}");
    assert_eq!(world.count(Counter::QuotaMinutes), 1);
    // The next measurement lets calls in again.
    world.input(Input::Spent(Spent::default()));
    world.call("100");
    world.run_to(7 * S);
    assert!(world.ladder(&[]).contains("node -> caller4 200"));
    world.run_to(60 * S);
    no_leaks(&mut world);
}

#[test]
fn draining_and_quotas_refuse_and_spare_the_calls_that_are() {
    let two = || Tenant { max_sessions: 2, ..tenant() };
    let mut world = world_of(two(), answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(20) }])); 2]));
    for _ in 0..3 {
        world.call("100");
    }
    world.run_to(S);
    assert_eq!((world.count(Counter::CallsAnswered), world.count(Counter::CallsRefused)), (2, 1));
    assert!(world.ladder(&[]).contains("node -> caller2 486"), "the tenant is busy, the node is not");
    assert!(world.ladder(&[]).contains("quota exceeded: max_sessions"));
    assert_eq!(world.count(Counter::QuotaSessions), 1);
    let mut draining = configuration(two());
    draining.drain = true;
    world.input(Input::Configure(Arc::new(draining)));
    world.hangup(0);
    world.call("100");
    world.run_to(2 * S);
    assert!(world.ladder(&[]).contains("node -> caller3 503"));
    assert_eq!(world.switch.gauges().sessions, 1, "the other one goes on");
    // Who hung up made room.
    world.input(Input::Configure(Arc::new(configuration(two()))));
    world.call("100");
    world.run_to(3 * S);
    assert_eq!(world.count(Counter::CallsAnswered), 3);
    world.run_to(30 * S);
    no_leaks(&mut world);

    let config = SwitchConfig { sessions_max: 1, ..switch_config(7) };
    let mut world = World::with(configuration(tenant()), config, Box::new(answers(vec![])));
    world.call("100");
    world.call("100");
    assert!(world.ladder(&[]).contains("node -> caller1 503"));
}

// ---------------------------------------------------------------------------------------------------- restart

#[test]
fn ic_298_a_trap_restarts_once_with_the_stored_reference() {
    let mut calls = 0;
    let script = Script::new(move |ask| {
        calls += 1;
        match (&ask.hook, calls) {
            (Hook::NewCall(_), _) => Ok(Verdict::Routing(Routing::Ivr { session_reference: Some("{\"a\":1}".into()) })),
            (_, 2) => Err(trap()),
            _ => Ok(Verdict::Ivr(Box::new(hangup()))),
        }
    });
    let mut world = World::new(script);
    world.call("100");
    world.run_to(10 * S);
    check(
        &world.ladder(&[" ACK", "alice", "media"]),
        "0.000 node -> guest newCall
         0.000 guest -> node ivr
         0.000 node -> guest callAnswered
         0.000 node -> guest getIvrCommand reference={\"a\":1}
         0.000 guest -> node trap
         0.000 node -> guest alarm ivrCommandError getIvrCommand request error
         1.000 node -> guest getIvrCommand restarted reference={\"a\":1}
         1.000 guest -> node command of 0 phrases
         1.000 node -> guest sessionCompleted ivrHangup",
    );
    assert_eq!((world.count(Counter::HookRestarted), world.count(Counter::HookFailed)), (1, 1));
    no_leaks(&mut world);
}

#[test]
fn ic_298_the_second_failure_of_a_session_is_the_last() {
    // The restart was used up at newCall: the next trap, in the IVR, is not retried.
    let script = Script::new(|ask| match &ask.hook {
        Hook::NewCall(call) if call.info.restarted => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Err(trap()),
    });
    let mut world = world_of(Tenant { error_prompt: Some("error.wav".into()), ..tenant() }, script);
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 guest -> node trap
         0.000 node -> guest alarm newCallEventError newCall request failed
         0.000 node -> guest getIvrCommand restarted
         0.000 guest -> node trap
         0.000 node -> guest alarm ivrCommandError getIvrCommand request error
         0.000 node -> media play clip 1500 ms
         1.500 node -> guest sessionCompleted serverError",
    );
    no_leaks(&mut world);
}

// ---------------------------------------------------------------------------------------------------- getIvrCommand

#[test]
fn ic_217_220_226_229_without_dtmf_the_next_command_is_asked_when_phrases_end() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("hello.wav"), file("bye.wav")])), Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play clip 1000 ms, clip 500 ms
         1.500 node -> guest getIvrCommand
         1.500 node -> media play clip 2000 ms
         3.500 node -> guest getIvrCommand
         3.500 node -> guest sessionCompleted ivrHangup",
    );
    assert!(requests(&world).iter().all(|r| r.dtmf.is_none() && r.dtmf_buffer.is_none() && r.recording.is_none()));
    no_leaks(&mut world);
}

#[test]
fn ic_226_keys_before_the_first_request_are_kept_but_not_in_it() {
    let mut world = World::new(answers(vec![Ok(collect(2, vec![])), Ok(hangup())]));
    world.call("100");
    world.phones[0].deaf = true;
    world.run_to(200);
    // Our 200 is out, its ACK is late: the leg hears keys already.
    world.press('1');
    world.phones[0].deaf = false;
    world.run_to(S);
    assert_eq!((requests(&world)[0].dtmf_buffer.as_deref(), requests(&world)[0].dtmf.as_ref()), (None, None));
    world.press('2');
    world.run_to(10 * S);
    assert_eq!(dtmf(&world, 1), ("12".into(), DtmfReason::MaxDigits, None));
}

#[test]
fn ic_219_229_digits_are_buffered_without_dtmf_too() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(500);
    world.press('4');
    world.press('#');
    world.run_to(10 * S);
    let second = &requests(&world)[1];
    assert_eq!((second.dtmf_buffer.as_deref(), second.dtmf.as_ref()), (Some("4#"), None));
}

#[test]
fn ic_225_every_request_has_a_reply_id_of_its_own() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("hello.wav")])), Ok(play(vec![file("hello.wav")]))]));
    world.call("100");
    world.run_to(10 * S);
    let numbers: std::collections::BTreeSet<u32> = requests(&world)
        .iter()
        .map(|r| match r.reply_to {
            ReplyTo::IvrCommand(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers.len(), 3);
}

#[test]
fn ic_227_a_command_for_another_session_is_an_alarm_and_asked_again() {
    let wrong = IvrCommand { session_id: Some("another".into()), phrases: vec![file("hello.wav")], ..hold() };
    let mut world = World::new(answers(vec![Ok(wrong.clone()), Ok(hangup())]));
    world.call("100");
    world.run_to(10 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> guest alarm ivrCommandError IVR command failed
         1.000 node -> guest getIvrCommand
         1.000 node -> guest sessionCompleted ivrHangup",
    );
    // The right echo is taken.
    let mut world = World::new(Script::new(|ask| match &ask.hook {
        Hook::GetIvrCommand(r) => Ok(Verdict::Ivr(Box::new(IvrCommand { session_id: Some(r.info.session_id.clone()), ..hangup() }))),
        _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
    }));
    world.call("100");
    world.run_to(10 * S);
    assert_eq!((world.alarms(), world.reason()), (vec![], Some("ivrHangup")));
}

#[test]
fn ic_228_a_reference_replaces_the_stored_one_and_none_keeps_it() {
    let with = |r: Option<&str>| Ok(IvrCommand { session_reference: r.map(str::to_owned), ..play(vec![file("bye.wav")]) });
    let mut world = World::new(answers(vec![with(Some("1")), with(None), with(Some("{\"b\": [2]}"))]));
    world.call("100");
    world.run_to(10 * S);
    let seen: Vec<Option<String>> = requests(&world).iter().map(|r| r.info.session_reference.clone()).collect();
    let expected = [None, Some("1"), Some("1"), Some("{\"b\": [2]}")].map(|r| r.map(str::to_owned));
    assert_eq!(seen, expected);
    let Some(Notification::SessionCompleted { info, .. }) = world.notifications.last() else { panic!("no end") };
    assert_eq!(info.session_reference.as_deref(), Some("{\"b\": [2]}"), "byte-equal");
}

#[test]
fn ic_230_flush_empties_the_buffer_before_the_command() {
    let flushing = |flush| {
        let mut command = collect(1, vec![file("bye.wav")]);
        command.dtmf = command.dtmf.map(|d| Collect { flush, ..d });
        answers(vec![Ok(play(vec![file("hello.wav")])), Ok(command)])
    };
    for (flush, expected) in [(false, ("7", DtmfReason::MaxDigits)), (true, ("", DtmfReason::FirstTimeout))] {
        let mut world = World::new(flushing(flush));
        world.call("100");
        world.run_to(500);
        world.press('7');
        world.run_to(20 * S);
        let (digits, reason, _) = dtmf(&world, 2);
        assert_eq!((digits.as_str(), reason), expected, "flush {flush}");
        assert_eq!(requests(&world)[2].dtmf_buffer.is_some(), !flush);
    }
}

#[test]
fn ic_221_222_223_the_result_of_a_collection() {
    let with = |keys: &str| {
        let mut command = collect(4, vec![]);
        command.dtmf = command.dtmf.map(|d| Collect { termination_keys: keys.into(), ..d });
        answers(vec![Ok(command)])
    };
    let table = [
        ("#", "12#", "12", DtmfReason::TerminationKey, Some('#'), 1300),
        ("", "1234", "1234", DtmfReason::MaxDigits, None, 1400),
        ("", "", "", DtmfReason::FirstTimeout, None, 5000),
        ("#", "12", "12", DtmfReason::BetweenTimeout, None, 4200),
    ];
    for (keys, pressed, digits, reason, key, at) in table {
        let mut world = World::new(with(keys));
        world.call("100");
        for (i, digit) in pressed.chars().enumerate() {
            world.run_to(1100 + 100 * i as u64);
            world.press(digit);
        }
        world.run_to(20 * S);
        assert_eq!(dtmf(&world, 1), (digits.to_owned(), reason, key));
        let when = format!("{}.{:03} node -> guest getIvrCommand", at / 1000, at % 1000);
        assert!(world.ladder(&[]).lines().any(|l| l.starts_with(&when)), "{when}\n{}", world.ladder(&[]));
    }
}

#[test]
fn ic_234_235_timeouts_count_from_the_media_events_time() {
    // The queue ended at 2.0 s on the media clock, whatever else the switch did.
    let mut world = World::new(answers(vec![Ok(collect(3, vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(10 * S);
    assert!(world.ladder(&[]).contains("7.000 node -> guest getIvrCommand dtmf=\"\" FirstTimeout"), "{}", world.ladder(&[]));
    // A digit that is told late still counts from when it was pressed.
    let mut world = World::new(answers(vec![Ok(collect(3, vec![]))]));
    world.call("100");
    world.run_to(S);
    let (leg, at) = (world.leg(), world.now);
    world.run_to(1800);
    let what = MediaKind::Digit { digit: '1', source: DigitSource::Rfc4733, consumed: false };
    world.input(Input::Media(hookswitch_proto::media::MediaEvent { leg, at, what }));
    world.run_to(10 * S);
    assert!(world.ladder(&[]).contains("4.000 node -> guest getIvrCommand buffer=1 dtmf=\"1\" BetweenTimeout"), "{}", world.ladder(&[]));
}

#[test]
fn ic_237_info_digits_count_only_where_no_telephone_event_was_agreed() {
    for (telephone_event, expected) in [(false, ("5", DtmfReason::MaxDigits)), (true, ("", DtmfReason::FirstTimeout))] {
        let mut world = World::new(answers(vec![Ok(collect(1, vec![]))]));
        world.call_with("100", "", Some(&offer("sendrecv", telephone_event)));
        world.run_to(S);
        world.info_digit(0, "5");
        world.run_to(10 * S);
        let (digits, reason, _) = dtmf(&world, 1);
        assert_eq!((digits.as_str(), reason), expected);
        assert!(world.ladder(&[]).contains("200 (2 INFO)"), "{}", world.ladder(&[]));
    }
}

#[test]
fn ic_237_255_256_info_digits_cut_phrases_as_well() {
    for (barge_in, next) in [(BargeIn::All, "0.500"), (BargeIn::Current, "1.500"), (BargeIn::None, "3.000")] {
        let command = IvrCommand { barge_in, ..collect(1, vec![file("menu.wav"), file("hello.wav")]) };
        let mut world = World::new(answers(vec![Ok(command)]));
        world.call_with("100", "", Some(&offer("sendrecv", false)));
        world.run_to(500);
        world.info_digit(0, "5");
        world.run_to(10 * S);
        let expected = format!("{next} node -> guest getIvrCommand buffer=5 dtmf=\"5\" MaxDigits");
        assert!(world.ladder(&[]).contains(&expected), "{barge_in:?}\n{}", world.ladder(&[]));
        no_leaks(&mut world);
    }
}

// ---------------------------------------------------------------------------------------------------- phrases

#[test]
fn ic_239_240_files_play_in_order_as_one_queue() {
    let tone = Phrase::Tone { hz: vec![440.0], level_dbm0: -10.0, on: secs(1), off: Duration::ZERO, total: Duration::from_millis(300) };
    let phrases = vec![file("bye.wav"), Phrase::Silence { duration: Duration::from_millis(40) }, tone, file("hello.wav")];
    let mut world = World::new(answers(vec![Ok(play(phrases))]));
    world.call("100");
    world.run_to(10 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play clip 500 ms, silence 40 ms, clip 300 ms, clip 1000 ms
         1.840 node -> guest getIvrCommand
         1.840 node -> guest sessionCompleted ivrHangup",
    );
    assert_eq!(world.prepares[0].domain.as_ref(), DOMAIN);
    assert_eq!(world.prepares[0].sources[0], PromptSource::File("bye.wav".into()));
}

#[test]
fn ic_244_249_a_record_phrase_records_the_caller_under_the_given_name() {
    let phrase = RecordPhrase {
        file_name: Some("message.wav".into()),
        beep: Some(true),
        max_duration: Some(secs(20)),
        max_silence: Some(secs(2)),
        sensitivity: Some(50),
        ..RecordPhrase::default()
    };
    let mut world = World::new(answers(vec![Ok(play(vec![file("hello.wav"), record(phrase)]))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play clip 1000 ms, clip 250 ms, record
         6.250 node -> guest getIvrCommand recording=max_silence 5000 ms
         6.250 node -> guest sessionCompleted ivrHangup",
    );
    let start = &world.started[0];
    assert_eq!((start.file_name.as_str(), start.domain.as_ref(), start.stereo), ("message.wav", DOMAIN, false));
    assert_eq!((start.caller.as_str(), start.called.as_str()), ("alice", "100"));
    assert_eq!(world.specs[0].sensitivity, 50);
    assert_eq!(world.prepares[0].sources[1], {
        let quarter = Duration::from_millis(250);
        PromptSource::Tone { hz: vec![1000.0], level_dbm0: -12.0, on: quarter, off: Duration::ZERO, total: quarter }
    });
    let result = requests(&world)[1].recording.clone().expect("a result");
    assert_eq!((result.file_name.as_str(), result.contains_sound), ("message.wav", true));
    assert_eq!((result.recording_id.as_str(), result.stop_digit), (start.recording_id.as_str(), None));
    no_leaks(&mut world);
}

#[test]
fn ic_244_every_limit_of_a_recording_has_its_reason() {
    let limits = |max: u64, initial: u64, silence: u64| RecordPhrase {
        max_duration: Some(secs(max)),
        initial_silence: Some(secs(initial)),
        max_silence: Some(secs(silence)),
        ..RecordPhrase::default()
    };
    for (speech, phrase, reason, ms) in [
        (3, limits(2, 5, 5), "max_duration", 2000),
        (0, limits(60, 5, 3), "initial_silence", 5000),
        (3, limits(60, 5, 4), "max_silence", 7000),
        (3, limits(9, 0, 0), "max_duration", 9000),
    ] {
        let mut world = World::new(answers(vec![Ok(play(vec![record(phrase)]))]));
        world.speech = secs(speech);
        world.call("100");
        world.run_to(60 * S);
        let result = requests(&world)[1].recording.clone().expect("a result");
        assert_eq!((result.stop_reason.as_str(), result.duration.as_millis()), (reason, ms));
        assert_eq!(result.contains_sound, speech > 0);
        let name = format!("{}-{}.wav", world.session_id(), result.recording_id);
        assert_eq!(result.file_name, name, "the default name");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_222_a_record_phrase_at_the_end_is_the_collection() {
    let with = |key: char, stop: Option<&str>| {
        let phrase = RecordPhrase { stop_digits: stop.map(str::to_owned), max_duration: Some(secs(4)), ..RecordPhrase::default() };
        let mut command = collect(9, vec![record(phrase)]);
        command.dtmf = command.dtmf.map(|d| Collect { termination_keys: "#".into(), ..d });
        let mut world = World::new(answers(vec![Ok(command)]));
        world.call("100");
        world.run_to(2 * S);
        world.press(key);
        world.run_to(30 * S);
        (dtmf(&world, 1), requests(&world)[1].clone())
    };
    // The termination keys stop it by default, and are the collection's key then.
    let (result, request) = with('#', None);
    assert_eq!(result, (String::new(), DtmfReason::TerminationKey, Some('#')));
    let recording = request.recording.expect("a result");
    assert_eq!((recording.stop_reason.as_str(), recording.stop_digit), ("stop_digit", Some('#')));
    // SM-009: a consumed stop digit does not enter the buffer.
    assert_eq!(request.dtmf_buffer, None);
    // Stop digits of its own are no termination keys.
    let (result, request) = with('5', Some("5"));
    assert_eq!((result, request.dtmf_buffer), ((String::new(), DtmfReason::RecordingEnd, None), None));
    // Other keys are input.
    let (result, request) = with('7', None);
    assert_eq!(result, ("7".into(), DtmfReason::RecordingEnd, None));
    assert_eq!(request.dtmf_buffer.as_deref(), Some("7"));
}

#[test]
fn ic_244_what_follows_a_recording_plays_and_collects() {
    let phrase = RecordPhrase { stop_digits: Some("#".into()), ..RecordPhrase::default() };
    let mut world = World::new(answers(vec![Ok(collect(1, vec![record(phrase), file("menu.wav")]))]));
    world.call("100");
    world.run_to(4 * S);
    world.press('#');
    world.run_to(5 * S);
    world.press('1');
    world.run_to(20 * S);
    let ladder = ivr_ladder(&world);
    assert!(ladder.contains("6.000 node -> guest getIvrCommand buffer=1 dtmf=\"1\" MaxDigits recording=stop_digit 4000 ms"), "{ladder}");
}

#[test]
fn ic_244_a_recording_that_never_begins_is_dropped() {
    let phrase = RecordPhrase { beep: Some(true), ..RecordPhrase::default() };
    let command = IvrCommand { barge_in: BargeIn::All, ..play(vec![file("menu.wav"), record(phrase)]) };
    // Cut by a key.
    let mut world = World::new(answers(vec![Ok(command.clone())]));
    world.call("100");
    world.run_to(S);
    world.press('1');
    world.run_to(10 * S);
    assert_eq!((world.started.len(), world.dropped.len()), (1, 1));
    assert_eq!(requests(&world)[1].recording, None);
    no_leaks(&mut world);
    // Cut by hanging up.
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(S);
    world.hangup(0);
    world.run_to(10 * S);
    assert_eq!((world.started.len(), world.dropped.len()), (1, 1));
    no_leaks(&mut world);
}

#[test]
fn a_recording_that_no_tap_can_take_is_dropped_with_an_alarm() {
    let mut world = World::new(answers(vec![Ok(play(vec![record(RecordPhrase::default()), file("bye.wav")]))]));
    world.call("100");
    world.run_to(0);
    world.overload_recording();
    world.run_to(10 * S);
    assert_eq!((world.alarms(), world.dropped.len()), (vec!["ivrCommandError mediaServerError".to_owned()], 1));
    assert_eq!(requests(&world)[1].recording.clone().map(|r| r.stop_reason), Some("overload".into()));
    no_leaks(&mut world);
}

#[test]
fn ic_258_265_recording_ready_only_if_asked_for_and_failures_always_told() {
    for (callback, fails) in [(true, false), (true, true), (false, false), (false, true)] {
        let phrase = RecordPhrase { max_duration: Some(secs(2)), ..RecordPhrase::default() };
        let command = IvrCommand { recorded_callback: callback, ..play(vec![record(phrase), file("menu.wav")]) };
        let mut world = World::new(answers(vec![Ok(command)]));
        world.recording_fails = fails;
        world.call("100");
        world.run_to(20 * S);
        let ready: Vec<(bool, u64)> = world
            .notifications
            .iter()
            .filter_map(|n| match n {
                Notification::RecordingReady { successful, file_size, connection_id: None, details, .. } => {
                    assert_eq!(details.as_ref().map(|d| d.size), successful.then_some(*file_size));
                    Some((*successful, *file_size))
                }
                _ => None,
            })
            .collect();
        let expected = if callback { vec![(!fails, if fails { 0 } else { 44 + 100 * 320 })] } else { vec![] };
        assert_eq!(ready, expected);
        let alarms: &[&str] = if fails && !callback { &["ivrCommandError mediaServerError"] } else { &[] };
        assert_eq!(world.alarms(), alarms);
        no_leaks(&mut world);
    }
}

#[test]
fn ic_245_echo_sends_back_for_so_long() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Echo { duration: secs(4) }]))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play echo 4000 ms
         4.000 node -> guest getIvrCommand
         4.000 node -> guest sessionCompleted ivrHangup",
    );
}

#[test]
fn ic_250_a_phrase_that_fails_is_skipped_with_an_alarm() {
    let phrases = vec![
        file("hello.wav"),
        file("missing.wav"),
        file("../secret"),
        Phrase::Url { url: "http://x/".into(), key: None, keep: None },
        Phrase::Ext { name: "video".into(), json: "{}".into() },
        file("bye.wav"),
    ];
    let mut world = World::new(answers(vec![Ok(play(phrases))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> guest alarm ivrCommandError phraseError
         0.000 node -> media play clip 1000 ms, clip 500 ms
         1.500 node -> guest getIvrCommand
         1.500 node -> guest sessionCompleted ivrHangup",
    );
    // Equal alarms within 10 s are counted, not sent.
    assert_eq!(world.count(Counter::AlarmSuppressed), 3);
    no_leaks(&mut world);
}

#[test]
fn ic_241_242_246_phrases_from_elsewhere_play_in_one_queue_and_their_alarms_hide_what_they_are() {
    let keep = Keep { time: secs(86_400), refresh: true, file_name: Some("welcome.wav".into()) };
    let url = |url: &str, keep: &Keep| Phrase::Url { url: url.into(), key: None, keep: Some(keep.clone()) };
    let tts = |keep: &Keep| Phrase::Tts { engine: "local".into(), parameters: r#"{"text":"hi"}"#.into(), keep: keep.clone() };
    let say = |value: &str| Phrase::Say { kind: "number".into(), value: value.into(), language: "en-GB".into() };
    let phrases = vec![url("hello.wav", &keep), tts(&keep), say("42"), file("bye.wav")];
    let mut world = World::new(answers(vec![Ok(play(phrases.clone()))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play clip 1000 ms, clip 260 ms, clip 600 ms, clip 500 ms
         2.360 node -> guest getIvrCommand
         2.360 node -> guest sessionCompleted ivrHangup",
    );
    assert!(matches!(&world.prepares[0].sources[0], PromptSource::Url { keep: Some(asked), .. } if *asked == keep));
    assert!(matches!(&world.prepares[0].sources[1], PromptSource::Tts { keep: asked, .. } if *asked == keep));
    assert!(matches!(&world.prepares[0].sources[2], PromptSource::Say { language: "en", words } if words.len() == 2));

    // What is wrong with each is said without its address, text or value, and the others play.
    let path = Keep { file_name: Some("../x".into()), ..Keep::default() };
    let wrong = [
        (url("slow/secret-4711", &keep), "phraseRemoteCacheTimeout", "phrase 1: url: not in time"),
        (url("missing/secret-4711", &keep), "phraseError", "phrase 1: url: no such file"),
        (url("hello.wav", &path), "phraseError", "phrase 1: url: file name has a path separator, .. or a control character"),
        (tts(&path), "phraseError", "phrase 1: tts local: file name has"),
        (tts(&Keep::default()), "phraseError", "phrase 1: tts local: no local"),
        (say("secret-4711"), "phraseError", "phrase 1: say number: value: a number like"),
    ];
    for (phrase, error, details) in wrong {
        let mut world = World::new(answers(vec![Ok(play(vec![phrase, file("bye.wav")]))]));
        world.engines = false;
        world.call("100");
        world.run_to(20 * S);
        let alarm =
            world.notifications.iter().find_map(|n| if let Notification::Alarm(alarm) = n { Some(alarm) } else { None }).expect(details);
        assert_eq!((alarm.kind, alarm.error.as_str()), (AlarmKind::IvrCommandError, error));
        let told = alarm.details.as_deref().unwrap_or_default();
        assert!(told.starts_with(details) && !told.contains("4711"), "{told}");
        assert!(world.ladder(&[]).contains("play clip 500 ms"));
        no_leaks(&mut world);
    }
    let long = Keep { time: limits::KEEP_LONGEST + secs(1), ..Keep::default() };
    let mut world = World::new(answers(vec![Ok(play(vec![tts(&long)]))]));
    world.call("100");
    world.run_to(20 * S);
    assert_eq!(world.alarms(), ["ivrCommandError IVR command failed"]);
}

#[test]
fn ic_249_a_full_storage_keeps_no_result_as_a_prompt_and_plays_it() {
    let keep = Keep { file_name: Some("welcome.wav".into()), ..Keep::default() };
    let tts = Phrase::Tts { engine: "local".into(), parameters: "{}".into(), keep };
    let mut world = World::new(answers(vec![Ok(play(vec![tts]))]));
    world.input(Input::Spent(Spent { storage: [DOMAIN.to_owned()].into(), ..Spent::default() }));
    world.call("100");
    world.run_to(20 * S);
    assert_eq!(world.alarms(), ["ivrCommandError phraseError"]);
    assert!(matches!(&world.prepares[0].sources[0], PromptSource::Tts { keep: Keep { file_name: None, .. }, .. }));
    assert!(world.ladder(&[]).contains("play clip 40 ms"));
}

#[test]
fn ic_250_if_all_phrases_fail_the_next_command_is_asked() {
    let mut world = World::new(answers(vec![Ok(collect(1, vec![file("missing.wav")]))]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> guest alarm ivrCommandError phraseError
         0.000 node -> guest getIvrCommand dtmf=\"\" Interrupted
         0.000 node -> guest sessionCompleted ivrHangup",
    );
}

#[test]
fn ic_255_barge_in_current_cuts_one_phrase() {
    let command = IvrCommand { barge_in: BargeIn::Current, ..collect(1, vec![file("menu.wav"), file("hello.wav")]) };
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(500);
    world.press('3');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("1.500 node -> guest getIvrCommand buffer=3 dtmf=\"3\" MaxDigits"), "{}", ivr_ladder(&world));
}

#[test]
fn ic_256_barge_in_all_cuts_all_phrases_and_collects() {
    let command = IvrCommand { barge_in: BargeIn::All, ..collect(2, vec![file("menu.wav"), file("hello.wav")]) };
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(500);
    world.press('3');
    world.run_to(2 * S);
    world.press('4');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("2.000 node -> guest getIvrCommand buffer=34 dtmf=\"34\" MaxDigits"), "{}", ivr_ladder(&world));
}

#[test]
fn ic_257_barge_in_none_buffers_and_cuts_nothing() {
    assert_eq!(IvrCommand::default().barge_in, BargeIn::None);
    let mut world = World::new(answers(vec![Ok(collect(1, vec![file("menu.wav"), file("hello.wav")]))]));
    world.call("100");
    world.run_to(500);
    world.press('3');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("3.000 node -> guest getIvrCommand buffer=3 dtmf=\"3\" MaxDigits"), "{}", ivr_ladder(&world));
}

#[test]
fn ic_259_hangup_releases_after_phrases_and_recording() {
    let phrase = RecordPhrase { max_duration: Some(secs(2)), ..RecordPhrase::default() };
    let command = IvrCommand { hangup: true, ..play(vec![file("hello.wav"), record(phrase), file("bye.wav")]) };
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &world.ladder(&[" ACK", "INVITE", "alice 100", "guest -> "]),
        "0.000 node -> guest newCall
         0.000 node -> alice 200
         0.000 node -> guest callAnswered
         0.000 node -> guest getIvrCommand
         0.000 node -> media play clip 1000 ms, record, clip 500 ms
         3.500 node -> media close
         3.500 node -> alice BYE Q.850;cause=16
         3.500 alice -> node 200
         3.500 node -> guest sessionCompleted ivrHangup",
    );
    assert_eq!(world.records[0].duration, Duration::from_millis(3500));
    no_leaks(&mut world);
}

#[test]
fn ic_261_the_next_command_is_asked_later() {
    let after = |seconds, dtmf: Option<Collect>| IvrCommand { next_after: secs(seconds), dtmf, ..play(vec![file("hello.wav")]) };
    let mut world = World::new(answers(vec![Ok(after(4, None))]));
    world.call("100");
    world.run_to(500);
    world.press('1');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("5.000 node -> guest getIvrCommand buffer=1\n"), "{}", ivr_ladder(&world));
    // A digit that completes the collection ends the wait; one that does not is only typed ahead.
    let quick = Collect { max_digits: Some(1), first_timeout: Duration::ZERO, ..Collect::default() };
    let mut world = World::new(answers(vec![Ok(after(4, Some(quick.clone())))]));
    world.call("100");
    world.run_to(3 * S);
    world.press('1');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("3.000 node -> guest getIvrCommand buffer=1 dtmf=\"1\" MaxDigits\n"), "{}", ivr_ladder(&world));
    let two = Collect { max_digits: Some(2), ..quick };
    let mut world = World::new(answers(vec![Ok(after(4, Some(two)))]));
    world.call("100");
    world.run_to(3 * S);
    world.press('1');
    world.run_to(20 * S);
    assert!(ivr_ladder(&world).contains("5.000 node -> guest getIvrCommand buffer=1 dtmf=\"\" FirstTimeout\n"), "{}", ivr_ladder(&world));
    // A collection that its digits completed leaves nothing to wait for.
    let one = Collect { max_digits: Some(1), ..Collect::default() };
    let mut world = World::new(answers(vec![Ok(after(4, Some(one)))]));
    world.call("100");
    world.run_to(1500);
    world.press('1');
    assert!(ivr_ladder(&world).contains("1.500 node -> guest getIvrCommand buffer=1"), "{}", ivr_ladder(&world));
    // So does an interrupt.
    let mut world = World::new(answers(vec![Ok(after(4, None))]));
    world.call("100");
    world.run_to(3 * S);
    let session_id = world.session_id();
    assert_eq!(world.command(Command::InterruptIvrCommand { session_id, command: None }), Ok(Done::Nothing));
    assert!(ivr_ladder(&world).ends_with("3.000 node -> guest getIvrCommand"), "{}", ivr_ladder(&world));
}

#[test]
fn ic_262_an_empty_answer_is_retried_once_then_the_call_released() {
    let mut world = world_of(
        Tenant { error_prompt: Some("error.wav".into()), ..tenant() },
        answers(vec![Err(HookFailure::Empty), Err(HookFailure::Empty)]),
    );
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 guest -> node failed Empty
         0.000 node -> guest alarm ivrCommandError Empty body in getIvrCommand response
         1.000 node -> guest getIvrCommand
         1.000 guest -> node failed Empty
         1.000 node -> guest sessionCompleted serverError",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_263_a_failed_request_is_retried_once_then_the_error_prompt_plays() {
    let refused = || Err(HookFailure::Refused { message: "later".into() });
    let tenant = || Tenant { error_prompt: Some("error.wav".into()), ..tenant() };
    let mut world = world_of(tenant(), answers(vec![refused(), refused()]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 guest -> node refused
         0.000 node -> guest alarm ivrCommandError getIvrCommand request error
         1.000 node -> guest getIvrCommand
         1.000 guest -> node refused
         1.000 node -> media play clip 1500 ms
         2.500 node -> guest sessionCompleted serverError",
    );
    no_leaks(&mut world);
    // The retry is per request: one good answer between them makes the next failure a first one again.
    let mut world = world_of(tenant(), answers(vec![refused(), Ok(play(vec![file("hello.wav")])), refused(), Ok(hangup())]));
    world.call("100");
    world.run_to(20 * S);
    assert_eq!(world.reason(), Some("ivrHangup"));
    // The deadline is 8 s; with the pause the caller waits 17 s for the end.
    let mut world = World::new(answers(vec![Err(HookFailure::Deadline), Err(HookFailure::Deadline)]));
    world.call("100");
    world.run_to(40 * S);
    assert!(world.ladder(&[]).contains("17.000 node -> guest sessionCompleted serverError"), "{}", world.ladder(&[]));
}

#[test]
fn impossible_values_fail_the_command_and_name_the_field() {
    let spoil: [fn(&mut IvrCommand); 10] = [
        |c| c.phrases = vec![file("hello.wav"); limits::PHRASES + 1],
        |c| c.next_after = limits::COLLECT_TIMEOUT + secs(1),
        |c| c.phrases = vec![Phrase::Silence { duration: Duration::MAX }],
        |c| c.phrases = vec![record(RecordPhrase { stop_digits: Some("x".into()), ..RecordPhrase::default() })],
        |c| c.phrases = vec![record(RecordPhrase { sensitivity: Some(101), ..RecordPhrase::default() })],
        |c| c.phrases = vec![record(RecordPhrase { beep: Some(true), ..RecordPhrase::default() }); limits::PHRASES],
        |c| c.phrases = vec![Phrase::Tone { hz: vec![f32::NAN], level_dbm0: 0.0, on: secs(1), off: secs(1), total: secs(1) }],
        |c| c.phrases = vec![Phrase::Tone { hz: vec![440.0], level_dbm0: 0.0, on: secs(1), off: secs(1), total: secs(61) }; 2],
        |c| c.dtmf = Some(Collect { max_digits: Some(0), ..Collect::default() }),
        |c| c.dtmf = Some(Collect { termination_keys: "##é".into(), ..Collect::default() }),
    ];
    for (i, spoil) in spoil.into_iter().enumerate() {
        let mut command = hold();
        spoil(&mut command);
        let mut world = World::new(answers(vec![Ok(command), Ok(hangup())]));
        world.call("100");
        world.run_to(20 * S);
        assert_eq!((world.alarms(), world.reason()), (vec!["ivrCommandError IVR command failed".to_owned()], Some("ivrHangup")), "{i}");
    }
}

#[test]
fn ic_224_231_232_protected_digits_are_told_as_a_digest_and_nowhere_else() {
    for protection in [DigitProtection::Md5 { salt: "pepper".into() }, DigitProtection::HmacSha256 { salt: "pepper".into() }] {
        let dtmf = Collect { termination_keys: "#".into(), encryption: Some(protection.clone()), ..Collect::default() };
        let pin = IvrCommand { dtmf: Some(dtmf), ..hold() };
        let mut world = World::new(answers(vec![Ok(pin), Ok(play(vec![file("hello.wav")]))]));
        world.call("100");
        world.run_to(S);
        "7391#".chars().for_each(|key| world.press(key));
        world.run_to(20 * S);
        let told = requests(&world);
        let params = told[1].dtmf.clone().expect("it collected");
        assert_eq!((params.dtmf_match, params.matched_termination_key), (protection.digest("7391"), Some('#')));
        assert_eq!(params.encryption, Some(protection.clone()));
        assert_eq!(told[1].dtmf_buffer, Some(protection.digest("7391#")));
        assert_eq!(told[2].dtmf_buffer, Some(protection.digest("7391#")), "a command without digits reveals none");
        let all = format!("{:?} {:?} {:?} {:?}", world.asks, world.notifications, world.logs, world.steps);
        assert!(!all.contains("7391"), "{all}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_264_hanging_up_in_the_ivr_stops_everything() {
    let wait = IvrCommand { next_after: secs(60), ..hold() };
    let commands = [
        play(vec![file("menu.wav")]),
        collect(1, vec![]),
        play(vec![record(RecordPhrase::default())]),
        wait,
        play(vec![file("missing.wav"), Phrase::Echo { duration: secs(60) }]),
    ];
    for command in commands {
        let mut world = World::new(answers(vec![Ok(command.clone()), Ok(play(vec![file("menu.wav")]))]));
        world.call("100");
        world.run_to(S);
        world.hangup(0);
        let asked = world.asks.len();
        world.run_to(200 * S);
        assert_eq!(world.asks.len(), asked, "nothing is asked afterwards: {command:?}");
        assert_eq!((world.reason(), world.records.len()), (Some("callingPartyHangup"), 1));
        assert_eq!(world.records[0].duration, secs(1));
        no_leaks(&mut world);
    }
}

#[test]
fn ic_264_hanging_up_while_the_hook_runs_makes_its_answer_void() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.thinking = secs(2);
    world.call("100");
    world.run_to(2500);
    world.hangup(0);
    world.run_to(10 * S);
    assert!(!world.ladder(&[]).contains("play"));
    assert_eq!(world.reason(), Some("callingPartyHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_273_a_recording_at_hang_up_is_closed_and_told_after_the_end() {
    let command = IvrCommand { recorded_callback: true, ..play(vec![record(RecordPhrase::default())]) };
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(3 * S);
    world.hangup(0);
    world.run_to(3 * S);
    assert_eq!(world.switch.gauges().late_recordings, 1);
    world.run_to(4 * S);
    check(
        &world.ladder(&["alice", "guest -> ", "media"]),
        "0.000 node -> guest newCall
         0.000 node -> guest callAnswered
         0.000 node -> guest getIvrCommand
         3.000 node -> guest sessionCompleted callingPartyHangup
         3.100 node -> guest recordingReady true",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_296_commands_that_take_no_time_are_slowed_down_then_released() {
    let mut world = World::new(answers(vec![Ok(hold()); 200]));
    world.call("100");
    world.run_to(60 * S);
    let ladder = ivr_ladder(&world);
    let asked = |at: &str| ladder.lines().filter(|l| l.starts_with(at) && l.contains("getIvrCommand")).count();
    assert_eq!(asked("0.000"), 10, "{ladder}");
    assert_eq!((asked("0.200"), asked("0.400"), asked("1.000")), (1, 1, 1));
    assert_eq!(requests(&world).len(), 50);
    assert_eq!(world.alarms(), ["ivrCommandError IVR command failed"]);
    assert_eq!((world.reason(), world.records[0].duration), (Some("serverError"), secs(8)));
    no_leaks(&mut world);
}

#[test]
fn ic_296_a_command_that_takes_time_or_digits_starts_the_count_again() {
    let mut commands = vec![Ok(hold()); 9];
    commands.push(Ok(play(vec![file("bye.wav")])));
    commands.extend(vec![Ok(hold()); 9]);
    let mut world = World::new(answers(commands));
    world.call("100");
    world.run_to(60 * S);
    assert_eq!((world.alarms(), world.reason()), (vec![], Some("ivrHangup")));
    // Failing phrases take no time.
    let mut world = World::new(answers(vec![Ok(play(vec![file("missing.wav")])); 200]));
    world.call("100");
    world.run_to(60 * S);
    assert_eq!((requests(&world).len(), world.reason()), (50, Some("serverError")));
    no_leaks(&mut world);
}

fn background(file_name: &str) -> Option<BackgroundPrompt> {
    Some(BackgroundPrompt { file_name: Some(file_name.into()), url: None, repeat_pause: secs(1), stop: false })
}

#[test]
fn ic_251_to_254_a_background_goes_on_across_commands_until_it_is_stopped() {
    let stop = BackgroundPrompt { file_name: None, url: None, repeat_pause: Duration::ZERO, stop: true };
    let mut world = World::new(answers(vec![
        Ok(IvrCommand { background: background("menu.wav"), ..play(vec![file("hello.wav")]) }),
        Ok(play(vec![file("bye.wav")])),
        // Another one takes its place; one that is not there leaves what plays.
        Ok(IvrCommand { background: background("hello.wav"), ..play(vec![file("bye.wav")]) }),
        Ok(IvrCommand { background: background("missing.wav"), ..play(vec![file("bye.wav")]) }),
        Ok(IvrCommand { background: Some(stop.clone()), ..play(vec![file("bye.wav")]) }),
        Ok(IvrCommand { background: Some(stop), ..play(vec![file("bye.wav")]) }),
    ]));
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media background clip 2000 ms, pause 1000 ms
         0.000 node -> media play clip 1000 ms
         1.000 node -> guest getIvrCommand
         1.000 node -> media play clip 500 ms
         1.500 node -> guest getIvrCommand
         1.500 node -> media background clip 1000 ms, pause 1000 ms
         1.500 node -> media play clip 500 ms
         2.000 node -> guest getIvrCommand
         2.000 node -> guest alarm ivrCommandError phraseError
         2.000 node -> media play clip 500 ms
         2.500 node -> guest getIvrCommand
         2.500 node -> media no background
         2.500 node -> media play clip 500 ms
         3.000 node -> guest getIvrCommand
         3.000 node -> media play clip 500 ms
         3.500 node -> guest getIvrCommand
         3.500 node -> guest sessionCompleted ivrHangup",
    );
    no_leaks(&mut world);
}

#[test]
fn ic_251_254_a_slow_background_holds_up_no_phrase_and_ends_on_leaving_the_ivr() {
    // Both are fetched at a time; the phrases of the second command play while the background of the first is on.
    let leave = IvrCommand {
        routing: Some(Box::new(Routing::Drop { drop_code: None, session_reference: None })),
        ..play(vec![Phrase::Silence { duration: secs(1) }])
    };
    let first = IvrCommand { background: background("menu.wav"), ..play(vec![Phrase::Silence { duration: secs(1) }]) };
    let mut world = World::new(answers(vec![Ok(first), Ok(leave)]));
    world.fetching = secs(1) / 2;
    world.call("100");
    world.run_to(20 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.000 node -> media play silence 1000 ms
         0.500 node -> media background clip 2000 ms, pause 1000 ms
         1.000 node -> guest getIvrCommand
         1.000 node -> media play silence 1000 ms
         2.000 node -> media no background
         2.000 node -> guest sessionCompleted ivrHangup",
    );
    // One that is not there before the IVR is left never begins.
    let both = IvrCommand { background: background("menu.wav"), hangup: true, ..hold() };
    let mut world = World::new(answers(vec![Ok(both)]));
    world.fetching = secs(1);
    world.call("100");
    world.run_to(20 * S);
    assert!(!world.ladder(&[]).contains("background"), "{}", world.ladder(&[]));
    for wrong in [
        BackgroundPrompt { file_name: None, ..background("").expect("one") },
        BackgroundPrompt { url: Some("https://x/".into()), ..background("menu.wav").expect("one") },
        BackgroundPrompt { repeat_pause: secs(601), ..background("menu.wav").expect("one") },
    ] {
        let mut world = World::new(answers(vec![Ok(IvrCommand { background: Some(wrong), ..hold() })]));
        world.call("100");
        world.run_to(20 * S);
        assert_eq!(world.alarms(), ["ivrCommandError IVR command failed"]);
    }
}

#[test]
fn parts_of_a_newer_command_are_counted_and_ignored() {
    let command = IvrCommand { ext: vec![("video".into(), "{}".into()), ("haptics".into(), "{}".into())], ..play(vec![file("hello.wav")]) };
    let mut world = World::new(answers(vec![Ok(command)]));
    world.call("100");
    world.run_to(20 * S);
    assert_eq!(world.count(Counter::ExtensionIgnored), 2);
    assert_eq!((world.alarms(), world.reason()), (vec![], Some("ivrHangup")));
}

// ---------------------------------------------------------------------------------------------------- SIP in the middle

#[test]
fn cancel_while_deciding_ends_with_487() {
    let mut world = World::new(answers(vec![]));
    world.thinking = secs(3);
    world.call("100");
    world.run_to(S);
    world.cancel(0);
    world.run_to(10 * S);
    check(
        &world.ladder(&[]),
        "0.000 alice -> node INVITE
         0.000 node -> alice 100
         0.000 node -> guest newCall
         1.000 alice -> node CANCEL
         1.000 node -> alice 200 (1 CANCEL)
         1.000 node -> alice 487
         1.000 alice -> node ACK
         1.000 node -> guest sessionCompleted canceled
         3.000 guest -> node ivr",
    );
    assert_eq!(world.records[0].final_status, 487);
    no_leaks(&mut world);
}

#[test]
fn cancel_while_the_leg_opens() {
    let mut world = World::new(answers(vec![]));
    world.media_dead = true;
    world.call("100");
    world.run_to(S);
    world.cancel(0);
    world.run_to(2 * S);
    assert!(world.ladder(&[]).contains("487"));
    // The media thread never said that the leg is closed: the session is dropped all the same, once.
    world.run_to(60 * S);
    assert_eq!(world.reason(), Some("canceled"));
    no_leaks(&mut world);
}

#[test]
fn a_media_thread_that_does_not_answer_is_503() {
    let mut world = World::new(answers(vec![]));
    world.media_dead = true;
    world.call("100");
    world.run_to(60 * S);
    assert!(world.ladder(&[]).contains("5.000 node -> alice 503"), "{}", world.ladder(&[]));
    assert_eq!((world.reason(), world.alarms()), (Some("serverError"), vec!["sessionError mediaServerError".to_owned()]));
    no_leaks(&mut world);
}

#[test]
fn no_socket_for_the_leg_is_503_and_an_alarm() {
    let mut world = World::new(answers(vec![]));
    world.open_fails = true;
    world.call("100");
    world.run_to(S);
    assert_eq!((world.records[0].final_status, world.alarms()), (503, vec!["sessionError mediaServerError".to_owned()]));
    no_leaks(&mut world);
}

#[test]
fn a_refused_media_command_ends_the_call() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(S);
    let leg = world.leg();
    world.input(Input::MediaRefused { leg });
    world.run_to(10 * S);
    assert_eq!((world.reason(), world.alarms()), (Some("serverError"), vec!["sessionError mediaServerError".to_owned()]));
    no_leaks(&mut world);
}

#[test]
fn ic_283_an_unusable_offer_is_488_and_an_alarm_and_no_hook() {
    let t38 = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=image 4000 udptl t38\r\n";
    // Of the lines of RFC 4568 only those of devices are known, whose media goes past the node.
    let secure = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n\
                  a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    for sdp in ["not SDP at all", t38, secure, "v=0\r\n"] {
        let mut world = World::new(answers(vec![]));
        world.call_with("100", "", Some(sdp));
        world.run_to(S);
        assert_eq!((world.asks.len(), world.records[0].final_status), (0, 488), "{sdp}");
        assert_eq!(world.alarms(), ["callError invalidSdp"]);
        assert_eq!((world.count(Counter::BadOffer), world.reason()), (1, Some("rejected")));
        no_leaks(&mut world);
    }
}

#[test]
fn without_an_offer_we_offer_and_the_ack_answers() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("hello.wav")]))]));
    world.call_with("100", "", None);
    world.run_to(10 * S);
    assert_eq!(world.leg_configs[0].negotiated.direction, Direction::Inactive, "nothing flows before the answer");
    assert!(world.phones[0].last_sdp.contains("m=audio 20000"), "{}", world.phones[0].last_sdp);
    assert_eq!(world.updates[0].remote, "192.0.2.9:40000".parse().unwrap());
    assert_eq!(world.reason(), Some("ivrHangup"));
    no_leaks(&mut world);
    // An ACK without the answer.
    let mut world = World::new(answers(vec![]));
    world.call_with("100", "", None);
    world.phones[0].offers_late = false;
    world.run_to(10 * S);
    assert_eq!((world.alarms(), world.reason()), (vec!["callError invalidSdp".to_owned()], Some("serverError")));
    no_leaks(&mut world);
}

#[test]
fn a_200_that_is_never_acknowledged_ends_in_bye() {
    let mut world = World::new(answers(vec![]));
    world.call("100");
    world.phones[0].deaf = true;
    world.run_to(100 * S);
    assert_eq!(requests(&world).len(), 0, "no IVR before the ACK");
    assert!(world.ladder(&[]).contains("BYE"), "{}", world.ladder(&[]));
    assert_eq!(world.reason(), Some("serverError"));
    no_leaks(&mut world);
}

#[test]
fn ic_106_hold_is_answered_with_the_right_direction_and_told() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(60) }]))]));
    world.call("100");
    world.run_to(S);
    for (offered, answered, ours) in [
        ("sendonly", "a=recvonly", Direction::RecvOnly),
        ("inactive", "a=inactive", Direction::Inactive),
        ("recvonly", "a=sendonly", Direction::SendOnly),
    ] {
        world.reinvite(0, Some(&offer(offered, true)));
        world.run_for(0);
        assert!(world.phones[0].last_sdp.contains(answered), "{offered}: {}", world.phones[0].last_sdp);
        assert_eq!(world.updates.last().map(|n| n.direction), Some(ours));
    }
    let told = world.notifications.iter().filter(|n| matches!(n, Notification::CallNotify { event: "reInvite", .. })).count();
    assert_eq!(told, 3);
    world.hangup(0);
    world.run_to(10 * S);
    no_leaks(&mut world);
}

#[test]
fn ic_107_update_is_answered_and_told() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(60) }]))]));
    world.call("100");
    world.run_to(S);
    world.in_dialog(0, "UPDATE", "", None);
    world.in_dialog(0, "UPDATE", "", Some(("application/sdp", &offer("sendonly", true))));
    world.run_to(2 * S);
    let ladder = world.ladder(&[]);
    assert!(ladder.contains("200 (2 UPDATE)") && ladder.contains("200 (3 UPDATE)"), "{ladder}");
    assert_eq!(ladder.matches("callNotify update").count(), 2);
    assert_eq!(world.updates.len(), 1);
}

#[test]
fn a_reinvite_without_offer_gets_ours() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(60) }]))]));
    world.call("100");
    world.run_to(S);
    world.phones[0].last_sdp.clear();
    world.reinvite(0, None);
    world.run_to(2 * S);
    assert!(world.phones[0].last_sdp.contains("m=audio 20000"), "{}", world.phones[0].last_sdp);
    assert_eq!((world.updates.len(), world.alarms().len()), (1, 0));
    assert_eq!(world.switch.gauges().sessions, 1);
}

#[test]
fn an_unusable_reinvite_is_488_and_the_call_goes_on() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(S);
    let t38 = "v=0\r\no=- 1 2 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=image 4000 udptl t38\r\n";
    world.reinvite(0, Some(t38));
    world.run_to(10 * S);
    assert!(world.ladder(&[]).contains("1.000 node -> alice 488"), "{}", world.ladder(&[]));
    assert_eq!((world.alarms(), world.updates.len()), (vec!["callError invalidSdp".to_owned()], 0));
    assert_eq!(world.reason(), Some("ivrHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_282_rtp_timeout_releases_with_cause_41() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(500) }]))]));
    world.call("100");
    world.run_to(61 * S);
    assert_eq!(world.leg_configs[0].rtp_timeout, Some(limits::RTP_TIMEOUT));
    let leg = world.leg();
    world.media_event(leg, MediaKind::RtpTimeout);
    world.run_to(62 * S);
    assert!(world.ladder(&[]).contains("61.000 node -> alice BYE Q.850;cause=41"));
    assert_eq!((world.reason(), world.alarms()), (Some("rtpTimeout"), vec!["callError RTP media timeout".to_owned()]));
    no_leaks(&mut world);
}

#[test]
fn ic_281_the_longest_session_is_released() {
    let config = SwitchConfig { session_duration: secs(100), ..switch_config(7) };
    let script = answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(500) }]))]);
    let mut world = World::with(configuration(tenant()), config, Box::new(script));
    world.call("100");
    world.run_to(200 * S);
    assert_eq!((world.reason(), world.records[0].duration), (Some("maxDuration"), secs(100)));
    assert_eq!(world.alarms(), ["sessionError maxDuration"]);
    no_leaks(&mut world);
}

#[test]
fn ic_117_284_session_timers_are_told_and_end_the_call() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(500) }]))]));
    let timer = "Supported: timer\r\nSession-Expires: 120;refresher=uac\r\n";
    world.call_with("100", timer, Some(&offer("sendrecv", true)));
    world.run_to(400 * S);
    let Some(Notification::CallAnswered { calling_party_expires, .. }) = world.notifications.first() else { panic!("not answered") };
    assert_eq!(*calling_party_expires, Some(120));
    assert_eq!((world.reason(), world.alarms()), (Some("sessionExpired"), vec!["callError sessionExpired".to_owned()]));
    no_leaks(&mut world);
}

// ---------------------------------------------------------------------------------------------------- commands

fn hangup_of(world: &World) -> Command {
    let participant_id = match &world.asks[0].hook {
        Hook::NewCall(call) => call.participant_id.clone(),
        other => panic!("{other:?}"),
    };
    Command::HangupParticipant { session_id: world.session_id(), participant_id }
}

#[test]
fn ic_025_hangup_participant_refuses_or_releases() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.thinking = secs(1);
    world.call("100");
    world.run_to(500);
    let command = hangup_of(&world);
    assert_eq!(world.command(command), Ok(Done::Nothing));
    world.run_to(10 * S);
    assert_eq!((world.records[0].final_status, world.reason()), (603, Some("apiHangup")));
    no_leaks(&mut world);

    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(500);
    world.phones[0].deaf = true;
    let command = hangup_of(&world);
    assert_eq!(world.command(command.clone()), Ok(Done::Nothing));
    assert_eq!(world.command(command.clone()), Ok(Done::Nothing), "IC-015: again while it is being released");
    let Command::HangupParticipant { session_id, .. } = command else { unreachable!() };
    let other = Command::HangupParticipant { session_id: session_id.clone(), participant_id: "p".into() };
    assert_eq!(world.command(other), Err(CommandError::Unknown("participant")));
    assert_eq!(
        world.command(Command::InterruptIvrCommand { session_id: "none".into(), command: None }),
        Err(CommandError::Unknown("session"))
    );
    // Another tenant's eyes.
    let id = crate::door::CommandId(2);
    world.input(Input::Command { id, domain: "b.test".into(), command: Command::InterruptIvrCommand { session_id, command: None } });
    assert_eq!(world.replies.last(), Some(&Err(CommandError::Unknown("session"))));
    // A peer that does not answer our BYE.
    world.run_to(100 * S);
    assert_eq!(world.reason(), Some("apiHangup"));
    no_leaks(&mut world);
}

#[test]
fn ic_079_082_interrupt_cuts_the_command_and_keeps_what_there_is() {
    let interrupt = |world: &mut World| {
        let session_id = world.session_id();
        world.command(Command::InterruptIvrCommand { session_id, command: None })
    };
    // Playing.
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(500);
    assert_eq!(interrupt(&mut world), Ok(Done::Nothing));
    world.run_to(600);
    assert!(ivr_ladder(&world).contains("0.500 node -> guest getIvrCommand dtmf=\"\" Interrupted"), "{}", ivr_ladder(&world));
    // Collecting.
    let mut world = World::new(answers(vec![Ok(collect(3, vec![]))]));
    world.call("100");
    world.run_to(500);
    world.press('4');
    assert_eq!(interrupt(&mut world), Ok(Done::Nothing));
    world.run_to(600);
    assert_eq!(dtmf(&world, 1), ("4".into(), DtmfReason::Interrupted, None));
    // Playing, with the digits that would have been enough.
    let mut world = World::new(answers(vec![Ok(collect(1, vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(500);
    world.press('4');
    assert_eq!(interrupt(&mut world), Ok(Done::Nothing));
    world.run_to(600);
    assert_eq!(dtmf(&world, 1), ("4".into(), DtmfReason::Interrupted, None));
    // Preparing: audio that comes for the old command is not the new one's.
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")])), Ok(play(vec![file("hello.wav")]))]));
    world.fetching = Duration::from_millis(500);
    world.call("100");
    world.run_to(100);
    assert_eq!(interrupt(&mut world), Ok(Done::Nothing));
    world.run_to(S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         0.100 node -> guest getIvrCommand dtmf=\"\" Interrupted
         0.600 node -> media play clip 1000 ms",
    );
    // Recording: kept, and in the next request.
    let mut world = World::new(answers(vec![Ok(play(vec![record(RecordPhrase::default()), file("menu.wav")]))]));
    world.call("100");
    world.run_to(2 * S);
    assert_eq!(interrupt(&mut world), Ok(Done::Nothing));
    world.run_to(3 * S);
    let request = &requests(&world)[1];
    let recording = request.recording.clone().expect("kept");
    assert_eq!((recording.stop_reason.as_str(), recording.duration), ("api_stop", secs(2)));
    assert!(!ivr_ladder(&world).contains("dtmf=\"\" Interrupted recording=api_stop 2000 ms\n2.000 node -> media play"));
    // Nothing runs.
    let mut world = World::new(answers(vec![Ok(play(vec![]))]));
    world.thinking = secs(1);
    world.call("100");
    world.run_to(1500);
    assert_eq!(interrupt(&mut world), Err(CommandError::WrongState("no IVR command is running")));
}

#[test]
fn stop_recording_ends_the_record_phrase_and_the_command_goes_on() {
    let phrases = vec![file("hello.wav"), record(RecordPhrase::default()), file("bye.wav")];
    let mut world = World::new(answers(vec![Ok(play(phrases))]));
    world.call("100");
    world.run_to(500);
    let stop = |world: &World, id: Option<String>| Command::StopRecording {
        session_id: world.session_id(),
        which: id.map_or(WhichRecording::Last, WhichRecording::Id),
    };
    let command = stop(&world, None);
    assert_eq!(world.command(command), Err(CommandError::WrongState("no recording is running")));
    world.run_to(3 * S);
    let command = stop(&world, Some("another".into()));
    assert_eq!(world.command(command), Err(CommandError::Unknown("recording")));
    let command = stop(&world, Some(world.started[0].recording_id.clone()));
    assert_eq!(world.command(command), Ok(Done::Nothing));
    world.run_to(10 * S);
    assert!(ivr_ladder(&world).contains("3.500 node -> guest getIvrCommand recording=api_stop 2000 ms"), "{}", ivr_ladder(&world));
    no_leaks(&mut world);
}

#[test]
fn send_dtmf_is_checked_and_sent() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(500);
    let Command::HangupParticipant { session_id, participant_id } = hangup_of(&world) else { unreachable!() };
    let send = |digits: &str| Command::SendDtmf {
        session_id: session_id.clone(),
        participant_id: participant_id.clone(),
        digits: digits.into(),
        length: None,
    };
    assert_eq!(world.command(send("12#d")), Ok(Done::Nothing));
    assert_eq!(world.sent_digits, "12#D");
    for bad in ["", "12e", &"1".repeat(65)] {
        assert!(matches!(world.command(send(bad)), Err(CommandError::BadValue { field: "digits", .. })), "{bad}");
    }
    assert!(world.logs.iter().all(|l| !l.contains("12#")), "digits are in no log");
}

// ---------------------------------------------------------------------------------------------------- bounds and isolation

#[test]
fn news_wait_for_the_running_hook_up_to_the_mailbox() {
    let mut world = World::new(answers(vec![Ok(hangup())]));
    world.thinking = secs(3);
    world.call("100");
    world.run_to(4 * S);
    // getIvrCommand runs from 3.0 to 6.0; each re-INVITE would be news.
    let mut extra = 0;
    for i in 0..limits::MAILBOX as u64 + 3 {
        world.reinvite(0, Some(&offer(if i % 2 == 0 { "sendonly" } else { "sendrecv" }, true)));
        world.run_to(4 * S + 50 * (i + 1));
        extra += 1;
    }
    assert_eq!(world.ladder(&[]).matches("callNotify").count(), 0, "a hook runs");
    assert_eq!(world.count(Counter::NotificationDropped), extra - limits::MAILBOX as u64);
    world.run_to(10 * S);
    assert_eq!(world.ladder(&[]).matches("6.000 node -> guest callNotify").count(), limits::MAILBOX);
    no_leaks(&mut world);
}

#[test]
fn digits_beyond_the_buffer_are_counted() {
    let mut world = World::new(answers(vec![Ok(play(vec![Phrase::Silence { duration: secs(9) }]))]));
    world.call("100");
    world.run_to(S);
    (0..70).for_each(|_| world.press('9'));
    assert_eq!(world.count(Counter::DigitsDropped), 6);
    assert!(world.logs.iter().all(|l| !l.contains("99")), "digits are in no log");
}

#[test]
fn a_panic_ends_one_call_and_no_other() {
    let script = Script::new(|ask| match &ask.hook {
        Hook::NewCall(call) if call.called_party == "panic" => {
            Ok(Verdict::Routing(Routing::Ext { name: "panic".into(), json: String::new() }))
        }
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        Hook::GetIvrCommand(r) if r.info.session_reference.is_none() => {
            Ok(Verdict::Ivr(Box::new(IvrCommand { session_reference: Some("1".into()), ..play(vec![file("menu.wav")]) })))
        }
        _ => Ok(Verdict::Ivr(Box::new(hangup()))),
    });
    let mut world = World::new(script);
    world.call("100");
    world.run_to(S);
    world.call("panic");
    world.run_to(10 * S);
    check(
        &world.ladder(&["alice", "ACK", "100", "media", "guest -> "]),
        "0.000 node -> guest newCall
         0.000 node -> guest callAnswered
         0.000 node -> guest getIvrCommand
         1.000 caller1 -> node INVITE
         1.000 node -> guest newCall
         1.000 node -> guest sessionCompleted serverError
         1.000 node -> caller1 500
         2.000 node -> guest getIvrCommand reference=1
         2.000 node -> guest sessionCompleted ivrHangup",
    );
    assert_eq!(world.count(Counter::SessionPanicked), 1);
    no_leaks(&mut world);

    // And one that is answered: BYE.
    let panics = IvrCommand { routing: Some(Box::new(Routing::Ext { name: "panic".into(), json: String::new() })), ..hold() };
    let mut world = World::new(answers(vec![Ok(panics)]));
    world.call("100");
    world.run_to(10 * S);
    assert!(world.ladder(&[]).contains("BYE Q.850;cause=41"), "{}", world.ladder(&[]));
    assert_eq!(world.reason(), Some("serverError"));
    no_leaks(&mut world);
}

#[test]
fn inputs_for_nobody_do_nothing() {
    let mut world = World::new(answers(vec![]));
    let session = SessionId { slot: 3, generation: 9 };
    world.input(Input::Verdict { ask: AskId { session, number: 1 }, verdict: Err(HookFailure::Empty) });
    world.input(Input::Prepared { session, number: 1, clips: vec![] });
    let leg = hookswitch_proto::media::LegId(77);
    world.input(Input::MediaRefused { leg });
    world.media_event(leg, MediaKind::Closed { stats: Box::default() });
    world.run_to(S);
    assert_eq!((world.steps.len(), world.switch.gauges()), (0, Default::default()));
}

#[test]
fn a_verdict_of_an_earlier_ask_is_void() {
    let mut world = World::new(answers(vec![Ok(play(vec![file("menu.wav")]))]));
    world.call("100");
    world.run_to(S);
    let id = world.asks[0].id;
    world.input(Input::Verdict { ask: id, verdict: Ok(Verdict::Routing(drop_with("busy"))) });
    world.run_to(10 * S);
    assert_eq!(world.reason(), Some("ivrHangup"));
}

#[test]
fn stop_reasons_of_a_close_follow_why_the_call_ended() {
    // RemoteHangup where the party left; the world's recordings carry the reason of the close.
    for (hangup, expected) in [(true, StopReason::RemoteHangup), (false, StopReason::ApiStop)] {
        let mut world = World::new(answers(vec![Ok(play(vec![record(RecordPhrase::default())]))]));
        world.call("100");
        world.run_to(S);
        if hangup {
            world.hangup(0);
        } else {
            let command = hangup_of(&world);
            assert_eq!(world.command(command), Ok(Done::Nothing));
        }
        world.run_to(2 * S);
        assert_eq!(world.stops, [expected]);
        no_leaks(&mut world);
    }
}

#[test]
fn a_timer_is_told_when_it_is_due_and_the_same_name_moves_it() {
    let mut world = World::new(answers(vec![Ok(collect(1, vec![]))]));
    world.call("100");
    world.run_to(100);
    let session = world.session_id();
    let set = |world: &mut World, name: &str, ms| {
        let after = Duration::from_millis(ms);
        world.command(Command::SetTimer { session_id: session.clone(), name: name.into(), after })
    };
    for (name, ms) in [("late", 3000), ("soon", 1000), ("moved", 500), ("gone", 700), ("moved", 2000)] {
        assert_eq!(set(&mut world, name, ms), Ok(Done::Nothing), "{name}");
    }
    let cancel = |world: &mut World, name: &str| {
        let session_id = world.session_id();
        world.command(Command::CancelTimer { session_id, name: name.into() })
    };
    assert_eq!(cancel(&mut world, "gone"), Ok(Done::Nothing));
    assert_eq!(cancel(&mut world, "never there"), Ok(Done::Nothing));
    world.run_to(4 * S);
    check(
        &ivr_ladder(&world),
        "0.000 node -> guest getIvrCommand
         1.100 node -> guest timer soon
         2.100 node -> guest timer moved
         3.100 node -> guest timer late",
    );
    world.run_to(60 * S);
    no_leaks(&mut world);
}

#[test]
fn a_timer_waits_for_the_hook_that_runs() {
    // getIvrCommand is answered by nobody: it runs until its deadline.
    let mut world = World::new(Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => Err(HookFailure::Deadline),
        _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
    }));
    world.call("100");
    world.run_to(100);
    let (session_id, name) = (world.session_id(), "t".to_owned());
    assert_eq!(world.command(Command::SetTimer { session_id, name, after: secs(1) }), Ok(Done::Nothing));
    world.run_to(60 * S);
    let ladder = ivr_ladder(&world);
    assert!(ladder.contains("8.000 guest -> node no answer\n8.000 node -> guest timer t\n"), "{ladder}");
}

#[test]
fn timers_end_with_the_session() {
    let mut world = World::new(answers(vec![Ok(collect(1, vec![]))]));
    let call = world.call("100");
    world.run_to(100);
    let session_id = world.session_id();
    for name in ["a", "b"] {
        let set = Command::SetTimer { session_id: session_id.clone(), name: name.into(), after: secs(2) };
        assert_eq!(world.command(set), Ok(Done::Nothing));
    }
    world.run_to(1000);
    world.hangup(call);
    world.run_to(60 * S);
    assert!(!world.notifications.iter().any(|n| matches!(n, Notification::Timer { .. })));
    let set = Command::SetTimer { session_id, name: "c".into(), after: secs(2) };
    assert_eq!(world.command(set), Err(CommandError::Unknown("session")));
    no_leaks(&mut world);
}

#[test]
fn a_session_has_sixteen_timers_and_odd_ones_are_refused_by_name() {
    let mut world = World::new(answers(vec![Ok(collect(1, vec![]))]));
    world.call("100");
    world.run_to(100);
    let session_id = world.session_id();
    let mut set = |name: &str, after| world.command(Command::SetTimer { session_id: session_id.clone(), name: name.into(), after });
    for n in 0..limits::TIMERS {
        assert_eq!(set(&format!("t{n}"), secs(1)), Ok(Done::Nothing));
    }
    assert_eq!(set("one more", secs(1)), Err(CommandError::Limit("timers: 16 in a session".into())));
    assert_eq!(set("t3", secs(2)), Ok(Done::Nothing), "one that is there may be moved");
    let long = "n".repeat(limits::TIMER_NAME + 1);
    for (name, after, field) in [
        ("", secs(1), "name"),
        (long.as_str(), secs(1), "name"),
        ("t", Duration::from_millis(9), "after-ms"),
        ("t", limits::TIMER_MAX + Duration::from_millis(1), "after-ms"),
    ] {
        let refused = set(name, after);
        assert!(matches!(&refused, Err(CommandError::BadValue { field: f, .. }) if *f == field), "{name}: {refused:?}");
    }
}
