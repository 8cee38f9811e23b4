//! What each answer of the application becomes.

use super::*;
use serde_json::json;

fn routing(json: serde_json::Value) -> types::Routing {
    serde_json::from_value::<Routing>(json).expect("an answer").into_routing()
}

fn command(json: serde_json::Value) -> types::IvrCommand {
    serde_json::from_str::<Command>(&json.to_string()).expect("an answer").into_command(None)
}

#[test]
fn each_action_is_its_routing() {
    assert!(matches!(routing(json!({"action": "ivr"})), types::Routing::Ivr(_)));
    let types::Routing::Drop(drop) = routing(json!({"action": "drop", "dropCode": 486})) else { panic!("no drop") };
    assert_eq!(drop.drop_code.map(|code| code.status()), Some(486));
    // IC-162.
    let types::Routing::Join(join) = routing(json!({"action": "call", "participantId": "p", "callRecording": true})) else {
        panic!("no join")
    };
    assert_eq!((join.participant_id.as_str(), join.call_recording), ("p", true));
    let device = json!({"action": "httpcall", "receiveIp": "10.0.0.1", "receivePort": "30000", "codec": "PCMA"});
    let types::Routing::Httpcall(call) = routing(device) else { panic!("no httpcall") };
    assert_eq!((call.endpoint.receive_ip.as_str(), call.endpoint.receive_port), ("10.0.0.1", 30_000));
    let types::Routing::Redirect(redirect) = routing(json!({"action": "redirect", "contacts": ["sip:a@b"]})) else { panic!("no 3xx") };
    assert_eq!((redirect.status, redirect.contacts.len()), (302, 1));
}

#[test]
fn ic_164_165_what_is_no_action_goes_to_the_node_as_it_came() {
    for (json, name) in [(json!({"action": "mixer"}), "mixer"), (json!({}), ""), (json!({"action": null}), "")] {
        assert!(matches!(routing(json), types::Routing::Ext(ext) if ext.name == name));
    }
}

#[test]
fn a_call_takes_every_field() {
    let call = routing(json!({
        "action": "call", "destAddr": "sip:b@c", "maxRingTime": 2, "callerPrivacy": true, "sipPAI": 4711, "sipRPID": "r",
        "sipDiversion": 123456, "sipDiversionParameters": {"reason": "no-answer"}, "xHeaders": {"X-A": ["1", "2"]}, "pHeaders": {"P-A": "1"},
        "copyHeaders": ["X-B"], "ringbackTone": "default", "monitorDestAddr": "sip:m@c", "monitorXHeaders": {"X-M": 1},
        "greeting": {"playMode": "calleeFirst", "callee": {"phrases": [{"format": "file", "fileName": "hi.wav"}]}},
        "contactParameters": {"tgrp": "a"}, "contactUserParameters": {"x": "y"}, "sessionReferenceId": {"foo": 1}
    }));
    let types::Routing::Call(call) = call else { panic!("no call") };
    assert_eq!((call.dest_addr.as_str(), call.max_ring_time_ms, call.caller_privacy), ("sip:b@c", Some(2_000), true));
    assert_eq!((call.sip_pai.as_deref(), call.sip_diversion.as_deref()), (Some("4711"), Some("123456")));
    assert_eq!((call.x_headers.len(), call.p_headers.len(), call.copy_headers.len()), (2, 1, 1));
    assert!(matches!(call.ringback_tone, Some(types::Ringback::Standard)));
    assert!(call.monitor.is_some_and(|leg| leg.dest_addr == "sip:m@c" && leg.x_headers == [("X-M".to_owned(), "1".to_owned())]));
    let greeting = call.greeting.expect("a greeting");
    assert_eq!((greeting.play_mode, greeting.caller.len(), greeting.callee.len()), (Some(types::PlayMode::CalleeFirst), 0, 1));
    assert_eq!(call.session_reference.as_deref(), Some(r#"{"foo":1}"#));
}

#[test]
fn ringback_is_a_word_a_url_or_a_file() {
    let tone = |text: &str| ringback(text.into());
    assert!(matches!(tone("none"), types::Ringback::None));
    assert!(matches!(tone("early"), types::Ringback::Early));
    assert!(matches!(tone("https://a.example/x.wav"), types::Ringback::Url(_)));
    assert!(matches!(tone("hold.wav"), types::Ringback::File(_)));
}

#[test]
fn a_command_takes_every_field() {
    let given = command(json!({
        "dtmf": {"flush": true, "maxDigits": "4", "firstTimeout": 30, "betweenTimeout": 0.5, "terminationKey": "#",
                 "encryption": {"type": "md5", "salt": "s"}},
        "phrases": [
            {"format": "file", "fileName": "a.wav"}, {"format": "url", "url": "https://a.example/b.wav", "cacheTimeToLive": "DAY"},
            {"format": "awstts", "awsTTSParameters": {"Text": "hi"}}, {"format": "googletts", "googleTTSParameters": {"input": {}}},
            {"format": "tts", "ttsParameters": {"text": "hi"}}, {"format": "number", "value": 42, "language": "en"},
            {"format": "record", "fileName": "m.wav", "maxDuration": 60, "beep": true}, {"format": "echo", "seconds": 5},
            {"format": "tone", "frequencies": [425], "seconds": 1}, {"format": "silence", "seconds": 1}, {"format": "smell"}
        ],
        "backgroundPrompt": {"fileName": "sea.wav", "repeatPause": 2}, "bargeIn": "current", "recordedCallback": true, "hangup": true,
        "getIVRCommandAfter": 5
    }));
    use types::Phrase as P;
    let kinds: Vec<bool> = vec![
        matches!(&given.phrases[0], P::File(p) if p.file_name == "a.wav"),
        matches!(&given.phrases[1], P::Url(p) if p.cache_time_to_live == Some(types::CacheTime::Day)),
        matches!(&given.phrases[2], P::Tts(p) if p.engine == "awstts" && p.parameters == r#"{"Text":"hi"}"#),
        matches!(&given.phrases[3], P::Tts(p) if p.engine == "googletts"),
        matches!(&given.phrases[4], P::Tts(p) if p.engine == "local"),
        matches!(&given.phrases[5], P::Say(p) if p.value == "42"),
        matches!(&given.phrases[6], P::Record(p) if p.beep && p.max_duration_ms == Some(60_000)),
        matches!(&given.phrases[7], P::Echo(5_000)),
        matches!(&given.phrases[8], P::Tone(p) if p.hz == [425.0] && p.total_ms == 1_000),
        matches!(&given.phrases[9], P::Silence(1_000)),
        matches!(&given.phrases[10], P::Ext(ext) if ext.name == "smell"),
    ];
    assert!(kinds.iter().all(|right| *right), "{kinds:?}");
    let dtmf = given.dtmf.expect("digits");
    assert_eq!((dtmf.flush, dtmf.max_digits, dtmf.first_timeout_ms, dtmf.between_timeout_ms), (true, Some(4), Some(30_000), Some(500)));
    assert!(matches!(dtmf.encryption, Some(types::DigitProtection::Md5(salt)) if salt == "s"));
    assert!(matches!(given.background, Some(types::Background::Play(play)) if play.repeat_pause_ms == 2_000));
    assert_eq!((given.barge_in, given.hangup, given.next_after_ms), (types::BargeIn::Current, true, 5_000));
}

#[test]
fn ic_251_253_a_background_that_names_nothing_is_none() {
    assert!(command(json!({"backgroundPrompt": {}})).background.is_none());
    assert!(matches!(command(json!({"backgroundPrompt": {"stop": true, "fileName": "a.wav"}})).background, Some(types::Background::Stop)));
}

#[test]
fn ic_231_digits_that_are_to_be_hashed_are_never_told_in_the_clear() {
    let unknown = command(json!({"dtmf": {"encryption": {"type": "rot13"}}}));
    assert!(matches!(unknown.dtmf.and_then(|dtmf| dtmf.encryption), Some(types::DigitProtection::Ext(_))));
}

#[test]
fn ic_014_what_is_unknown_is_ignored() {
    assert!(matches!(routing(json!({"action": "ivr", "newInVersion9": {"a": []}})), types::Routing::Ivr(_)));
}
