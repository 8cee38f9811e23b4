//! The handler in the harness: what it asks and tells, and what a bad answer becomes.

use super::*;
use hookswitch_sdk::HostError;
use hookswitch_sdk::testing::Call;

const BASE: &str = "https://app.example/hooks/";

fn call() -> Call {
    Call::from("+46890510").to("+46890200").config(BASE_URL, BASE).config(ALARM_URL, "https://app.example/alarms")
}

fn urls(call: &hookswitch_sdk::testing::Live<Webhook>) -> Vec<String> {
    call.posts().iter().map(|post| post.url.clone()).collect()
}

#[test]
fn ic_016_a_call_is_asked_about_and_its_news_told() {
    let mut call = call()
        .response(200, r#"{"action":"ivr","sessionReferenceId":{"foo":1}}"#)
        .response(200, r#"{"phrases":[{"format":"file","fileName":"menu.wav"}],"dtmf":{"maxDigits":1}}"#)
        .response(200, r#"{"phrases":[{"format":"file","fileName":"bye.wav"}],"hangup":true}"#)
        .dial::<Webhook>();
    call.assert_plays(&["menu.wav"]);
    assert_eq!(call.session_reference(), Some(r#"{"foo":1}"#));
    call.press("1");
    call.assert_plays(&["bye.wav"]);
    call.wait();
    call.assert_ended("ivrHangup");
    let asked: Vec<String> =
        ["newCall", "getIvrCommand", "getIvrCommand"].map(|name| format!("POST https://app.example/hooks/{name}")).into();
    assert_eq!(call.orders(), asked);
    let told = urls(&call);
    assert_eq!(told.last().map(String::as_str), Some("https://app.example/hooks/sessionCompleted"), "{told:?}");
}

#[test]
fn ic_021_an_empty_answer_is_a_failure_without_words() {
    for (status, body) in [(200, ""), (204, ""), (200, " \r\n")] {
        let _world = call().response(status, body);
        let answer = Webhook.new_call(&NewCall::default());
        assert_eq!(answer.map(|route| route.to_string()), Err(Failure::new("")), "{status} {body:?}");
    }
}

#[test]
fn ic_019_020_what_fails_says_why() {
    call().response(500, "oops").dial::<Webhook>().assert_failed("newCall: the application answered 500");
    call().response(302, "").dial::<Webhook>().assert_failed("newCall: the application answered 302");
    call().response(200, "<html>").dial::<Webhook>().assert_failed("newCall: expected value");
    call().no_response(HostError::Timeout).dial::<Webhook>().assert_failed("no result in time");
    Call::from("a").dial::<Webhook>().assert_failed("the setting callback_base_url is missing");
}

#[test]
fn ic_260_an_action_leads_out_of_the_ivr() {
    let mut call = call()
        .response(200, r#"{"action":"ivr"}"#)
        .response(200, r#"{"phrases":[],"action":"call","destAddr":"sip:agent@pbx.example","maxRingTime":20}"#)
        .dial::<Webhook>();
    call.wait();
    call.assert_routed("call sip:agent@pbx.example");
}

#[test]
fn ic_198_199_the_call_identifier_must_be_of_this_session() {
    let ask = |answer: &str| {
        let _world = call().response(200, answer);
        let info = hookswitch_sdk::types::SessionInfo { session_id: "s-1".into(), ..Default::default() };
        let request = CallIdentifierRequest { info, participant_id: "p".into(), called_party: "ivr".into(), extra: Vec::new() };
        Webhook.get_call_identifier(&request)
    };
    assert_eq!(ask(r#"{"sessionId":"s-1","sessionReferenceId":{"foo":1}}"#), Ok(Some(r#"{"foo":1}"#.into())));
    assert_eq!(ask("{}"), Ok(None));
    assert!(ask(r#"{"sessionId":"s-2"}"#).is_err_and(|failure| failure.message.contains("sessionId")));
}

#[test]
fn ic_214_a_remote_call_may_be_answered_with_nothing() {
    let ask = |status: u16, answer: &str| {
        let _world = call().response(status, answer);
        Webhook.new_remote_call(&RemoteCallRequest {
            info: Default::default(),
            reply_id: "r".into(),
            call_id: "c".into(),
            codec: "PCMA".into(),
            destination_uri: "sip:device@b".into(),
            source_user: "1234567".into(),
            remote_rtp_ip: "10.2.30.12".into(),
            remote_rtp_port: 20_000,
            extra: Vec::new(),
        })
    };
    assert_eq!(ask(200, r#"{"sessionReferenceId":"mySessionReference"}"#), Ok(Some("\"mySessionReference\"".into())));
    assert_eq!(ask(204, ""), Ok(None));
    assert!(ask(404, "").is_err());
}

#[test]
fn ic_274_alarms_have_a_url_of_their_own() {
    let alarm = || {
        Notification::Alarm(hookswitch_sdk::types::Alarm {
            info: hookswitch_sdk::types::SessionInfo::default(),
            kind: hookswitch_sdk::types::AlarmKind::IvrCommandError,
            error: "phraseError".into(),
            details: None,
            status: None,
            participant_id: None,
            user: None,
            call_id: None,
            count: 1,
            extra: Vec::new(),
        })
    };
    let mut told = call().response(200, r#"{"action":"ivr"}"#).response(200, r#"{"dtmf":{}}"#).dial::<Webhook>();
    told.notify(&alarm());
    assert_eq!(urls(&told).last().map(String::as_str), Some("https://app.example/alarms"));
    let untold = Call::from("a").config(BASE_URL, BASE);
    let mut untold = untold.response(200, r#"{"action":"ivr"}"#).response(200, r#"{"dtmf":{}}"#).dial::<Webhook>();
    untold.notify(&alarm());
    assert!(!urls(&untold).iter().any(|url| url.contains("alarms")));
}
