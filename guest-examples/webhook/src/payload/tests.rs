//! Every payload of the vendor's page, field by field and value by value, through serde and back.

use super::*;
use crate::answer;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Equal, where a number may stand for a text and `null` for nothing (IC-013).
fn same(one: &Value, other: &Value) -> bool {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let nothing = |value: Option<&Value>| value.is_none_or(Value::is_null);
            let covers = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
                a.iter().all(|(name, value)| (value.is_null() && nothing(b.get(name))) || b.get(name).is_some_and(|b| same(value, b)))
            };
            covers(one, other) && covers(other, one)
        }
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b)),
        _ => one == other || (plain(one).is_some() && plain(one) == plain(other)),
    }
}

#[track_caller]
fn both_ways<T: DeserializeOwned + Serialize>(json: &str) {
    let given: Value = serde_json::from_str(json).expect("JSON");
    let read: T = serde_json::from_str(json).expect("the payload");
    let written = serde_json::to_string(&read).expect("JSON");
    let written: Value = serde_json::from_str(&written).expect("JSON");
    assert!(same(&given, &written), "given   {given}\nwritten {written}");
}

const ROUTING: &str = r#"{"action":"drop","callerPrivacy":true,"callRecording":true,"contactParameters":{},"contactUserParameters":{},
    "destAddr":"string","displayName":"Donald Duck","dropCode":"busy","greeting":{"playMode":"calleeFirst","caller":{"phrases":[{}]},
    "callee":{"phrases":[{}]}},"maxRingTime":2,"monitorDestAddr":"sip:monitor@domain","monitorPHeaders":{},"monitorXHeaders":{},
    "participantId":"c2af21a1-e90f-11ea-9564-1f1d01c9e7c9","pHeaders":{},"ringbackTone":"default","recordingFileName":"filename.mp3",
    "sessionReferenceId":{},"sipDiversion":123456,"sipDiversionParameters":{},"sipFrom":"caller","sipPAI":"caller","sipRPID":123456,
    "sipTo":"callee","xHeaders":{},"monitorSipFrom":"monitor"}"#;

#[test]
fn every_payload_of_the_page_goes_through_without_loss() {
    both_ways::<CallNotify>(
        r#"{"event":"ringing","monitoringParticipant":false,"participantId":"9bb07660-c747-11ea-afa0-bd07728b88b7",
        "sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","sessionReferenceId":20000,"user":"+46890510","remoteUser":"+46890200",
        "remoteParticipantId":"da9cbeb0-c787-11eb-a47c-c9c4e460ef16","sipCallId":5473001594892095000,"ivrServer":"127.0.0.1",
        "traceId":"d9b15290-fa96-11ef-a9c8-631ff62a0f63","siteId":"hy","httpTransactionId":"6f486ab0-fa96-11ef-a5b0-5d34730683ab"}"#,
    );
    both_ways::<CallAnswered>(
        r#"{"callingPartyNumber":46890510,"callerParticipantId":"d93f0370-c787-11eb-a47c-c9c4e460ef16",
        "calleeParticipantId":"da9cbeb0-c787-11eb-a47c-c9c4e460ef16","remotePartyNumber":46890200,
        "connectionId":"da9ce5c0-c787-11eb-a47c-c9c4e460ef16","callingPartyExpires":600,"calledPartyExpires":600,"codec":"GSM",
        "monitoringParticipant":false,"remoteRtpIp":"10.0.0.2","remoteRtpPort":45000,
        "replyId":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJkb21...","sessionReferenceId":{},
        "traceId":"d9b15290-fa96-11ef-a9c8-631ff62a0f63","siteId":"hy","httpTransactionId":"6f486ab0-fa96-11ef-a5b0-5d34730683ab"}"#,
    );
    // Without `copyHeaders`, which belongs to the answer (IC-135).
    both_ways::<NewCall>(
        r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","sipCallId":5473001594892095000,"ivrServer":"127.0.0.1",
        "callingPartyPrivacy":"public","callingParty":"caller","displayName":"Carl Carlsson","fromUser":"fromUser","xHeaders":{},
        "pHeaders":{},"calledParty":"ivr","diversionHeaders":"<sip:user@domain.com>;reason=time-of-day",
        "referredBy":"<sip:referrer@referrer.example>;cid=\"20398823.2UWQFN309shb3@referrer.example\"","paiNumber":"string",
        "subject":"string","srcAddr":"string"}"#,
    );
    both_ways::<answer::Routing>(ROUTING);
    both_ways::<GetCallIdentifier>(r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","calledParty":"ivr"}"#);
    both_ways::<answer::Identified>(r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","sessionReferenceId":{"foo":1,"bar":2}}"#);
    both_ways::<SessionCompleted>(
        r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","domain":"customer.prod-eu-north-1.iotcomms.io","sessionDuration":46890510,
        "reason":"d93f0370-c787-11eb-a47c-c9c4e460ef16","sessionReferenceId":{},"ivrServer":"127.0.0.1",
        "traceId":"d9b15290-fa96-11ef-a9c8-631ff62a0f63","siteId":"hy","httpTransactionId":"6f486ab0-fa96-11ef-a5b0-5d34730683ab"}"#,
    );
    both_ways::<CallEvent>(
        r#"{"connectionId":"da5cbeb0-c787-11eb-a47c-c9c4e460ef16","domain":"customer.prod-eu-north-1.iotcomms.io",
        "event":"calledPartyDrop","ivrServer":"127.0.0.1","participantId":"da9cbeb0-c787-11eb-a47c-c9c4e460ef16",
        "remoteParticipantId":"da9cbeb0-c787-11eb-a47c-c9c4e460ef16","remoteUser":"+46890200",
        "sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","user":"+46890510","sessionReferenceId":20000}"#,
    );
    let end = r#","codec":"GSM","receiveIp":"10.0.0.1","receivePort":30000,"copyHeaders":["string"]}"#;
    both_ways::<answer::Routing>(&format!("{}{end}", ROUTING.trim_end_matches('}')));
    both_ways::<NewRemoteCall>(
        r#"{"replyId":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJkb21...","callId":"nfdfsij82893kn","codec":"PCMA",
        "destinationUri":"sip:user@domain.com","sourceUser":1234567,"remoteRtpIp":"10.2.30.12","remoteRtpPort":20000}"#,
    );
    both_ways::<answer::Identified>(r#"{"sessionReferenceId":"mySessionReference"}"#);
    both_ways::<GetIvrCommand>(
        r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","sessionReferenceId":null,"ivrServer":null,"dtmfBuffer":null,
        "dtmfParams":{"dtmfMatch":"12","reason":"terminationKey","matchedTerminationKey":"\#","encryption":{}},"replyId":null}"#
            .replace("\\#", "#")
            .as_str(),
    );
    both_ways::<answer::Command>(
        r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","sessionReferenceId":{"foo":1,"bar":2},"dtmf":{"flush":true,
        "encryption":{"type":"md5","salt":"string"},"maxDigits":10,"firstTimeout":30,"betweenTimeout":3,"terminationKey":"string"},
        "phrases":[{"format":"awstts","awsTTSParameters":null,"googleTTSParameters":null,"cacheTimeToLive":"WEEK","refreshCache":true,
        "fileName":null}],"backgroundPrompt":{"fileName":"string","url":"string","repeatPause":0,"stop":true},"bargeIn":"current",
        "recordedCallback":true,"hangup":true,"getIVRCommandAfter":0,"replyId":"string"}"#,
    );
    both_ways::<RecordingReady>(
        r#"{"sessionId":"9bb07660-c747-11ea-afa0-bd07728b88b7","connectionId":"9bb0eee0-c747-11ea-afa0-bd07728b88b7",
        "recordingFileName":"recording.mp3","fileSize":4711,"ivrServer":"127.0.0.1","domain":"customer.prod-eu-north-1.iotcomms.io",
        "event":"recordingSuccessful","reason":"No callee media received"}"#,
    );
    both_ways::<Alarm>(
        r#"{"type":"sessionError","domain":"customer.prod-eu-north-1.iotcomms.io","sessionId":"8eaf1600-c20b-11eb-9fdb-f32f171bb218",
        "error":"maxDuration","errorDetails":{},"status":"string","participantId":"string","user":"string","callId":"string"}"#,
    );
}

#[test]
fn a_loss_would_be_seen() {
    assert!(same(&serde_json::json!({"a": "1", "b": null}), &serde_json::json!({"a": 1})));
    assert!(!same(&serde_json::json!({"a": "1", "b": 2}), &serde_json::json!({"a": 1})));
    assert!(!same(&serde_json::json!({"a": {"b": []}}), &serde_json::json!({"a": {"b": [1]}})));
}

#[test]
fn ic_051_207_to_213_a_call_for_a_device_says_where_and_with_which_keys() {
    let info = types::SessionInfo { session_id: "s-1".into(), domain: "b.example".into(), ..types::SessionInfo::default() };
    let mut call = types::RemoteCallRequest {
        info,
        reply_id: "r".into(),
        call_id: "c".into(),
        codec: "PCMA".into(),
        destination_uri: "sip:device@b.example".into(),
        source_user: "1234567".into(),
        remote_rtp_ip: "10.2.30.12".into(),
        remote_rtp_port: 20_000,
        extra: vec![("crypto".into(), r#"[{"suite":"A","id":1,"config":"inline:k"}]"#.into())],
    };
    let sent = serde_json::to_value(NewRemoteCall::from(&call)).expect("JSON");
    assert_eq!(
        sent,
        serde_json::json!({
            "replyId": "r", "callId": "c", "codec": "PCMA", "destinationUri": "sip:device@b.example", "sourceUser": "1234567",
            "remoteRtpIp": "10.2.30.12", "remoteRtpPort": 20_000, "sessionId": "s-1", "domain": "b.example",
            "crypto": [{ "suite": "A", "id": 1, "config": "inline:k" }],
        })
    );
    call.extra.clear();
    assert!(serde_json::to_value(NewRemoteCall::from(&call)).expect("JSON").get("crypto").is_none());
}

#[test]
fn ic_012_a_reference_keeps_its_bytes() {
    for json in [r#"{ "b":1e2, "a":[1.0] }"#, "20000", "\"x\"", "null"] {
        let info = types::SessionInfo { session_reference: Some(json.into()), ..types::SessionInfo::default() };
        let news = types::SessionCompleted { info, duration_ms: 0, reason: types::CompletionReason::IvrHangup, extra: Vec::new() };
        let sent = serde_json::to_string(&SessionCompleted::from(&news)).expect("JSON");
        assert!(sent.contains(&format!("\"sessionReferenceId\":{json}")), "{sent}");
    }
}

#[test]
fn ic_203_204_a_session_is_told_in_seconds_with_its_reason() {
    let news = types::SessionCompleted {
        duration_ms: 61_999,
        reason: types::CompletionReason::NoAnswer,
        info: types::SessionInfo::default(),
        extra: Vec::new(),
    };
    let said = serde_json::to_value(SessionCompleted::from(&news)).expect("JSON");
    assert_eq!((&said["sessionDuration"], &said["reason"]), (&"61".into(), &"noAnswer".into()));
    assert!(said.get("siteId").is_none(), "{said}");
}

#[test]
fn ic_224_a_key_is_not_sent_back() {
    let params = |protection| types::DtmfParams {
        dtmf_match: "0badc0de".into(),
        reason: types::DtmfReason::MaxDigits,
        matched_termination_key: None,
        encryption: Some(protection),
    };
    let said = |protection| serde_json::to_value(DtmfParams::from(&params(protection))).expect("JSON");
    assert_eq!(said(types::DigitProtection::Md5("s".into()))["encryption"], serde_json::json!({"type": "md5", "salt": "s"}));
    assert_eq!(said(types::DigitProtection::HmacSha256("k".into()))["encryption"], serde_json::json!({"type": "hmac-sha256"}));
}
