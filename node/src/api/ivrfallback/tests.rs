//! What is read of a fallback, what is refused, and the four operations over HTTP.

use super::*;
use crate::api::tests::{TENANT, TOKEN, world};

const NOW: u64 = 1_800_000_000_000;

fn body() -> Value {
    json!({
        "mode": "onError",
        "expiration": "WEEK",
        "command": {
            "phrases": [
                { "format": "file", "fileName": "closed.wav", "cacheTimeToLive": "WEEK", "refreshCache": false },
                { "format": "awstts", "awsTTSParameters": { "Text": "We are closed", "VoiceId": "Amy", "OutputFormat": "pcm" } },
            ],
            "action": {
                "type": "call", "destAddr": "sip:112@192.0.2.5", "maxRingTime": "20", "sipFrom": "caller", "sipTo": 112, "sipPAI": "caller",
                "sipRPID": 123456, "sipDiversion": 123456, "xHeaders": { "X-A": ["1", "2"] }, "pHeaders": { "P-A": "1" },
                "copyHeaders": ["X-Trunk"], "contactParameters": { "tgrp": "a" }, "contactUserParameters": { "x": "y" },
            },
        },
    })
}

#[test]
fn ic_091_to_095_a_fallback_is_read_with_all_its_fields() {
    let (mode, expires_at, command) = read(body().to_string().as_bytes(), NOW).expect("read");
    assert_eq!((mode, expires_at), (FallbackMode::OnError, NOW + 7 * DAY));
    let (phrases, call) = read_command(&command).expect("read again");
    assert_eq!(phrases.len(), 2);
    assert_eq!(phrases[0], Phrase::File { file_name: "closed.wav".into() });
    assert!(matches!(&phrases[1], Phrase::Tts { engine, .. } if engine == "awstts"), "{phrases:?}");
    let call = call.expect("a call");
    assert_eq!((call.dest_addr.as_str(), call.max_ring_time), ("sip:112@192.0.2.5", Some(std::time::Duration::from_secs(20))));
    assert_eq!(
        (call.sip_to.as_deref(), call.sip_rpid.as_deref(), call.sip_diversion.as_deref()),
        (Some("112"), Some("123456"), Some("123456"))
    );
    assert_eq!((call.x_headers.len(), call.p_headers.len(), call.copy_headers.as_slice()), (2, 1, &["X-Trunk".to_owned()][..]));
    let (phrases, call) = read_command(r#"{"action":{"type":"hangup"}}"#).expect("read");
    assert!(phrases.is_empty() && call.is_none());
}

#[test]
fn ic_092_it_ends_after_a_word_or_at_a_time() {
    for (given, days) in [("DAY", 1), ("WEEK", 7), ("MONTH", 30), ("QUARTER", 91), ("HALF-YEAR", 182)] {
        assert_eq!(expiration(Some(given.into()), NOW).expect(given), NOW + days * DAY);
    }
    assert_eq!(expiration(None, NOW).expect("the default"), NOW + 182 * DAY);
    let later = NOW / 1000 + 60;
    assert_eq!(expiration(Some(later.into()), NOW).expect("a number"), NOW + 60_000);
    assert_eq!(expiration(Some(later.to_string().into()), NOW).expect("a text"), NOW + 60_000);
    for bad in [json!("YEAR"), json!(1), json!(-5), json!(true), json!(u64::MAX), json!("")] {
        assert!(expiration(Some(bad.clone()), NOW).is_err_and(|error| error.message.starts_with("expiration: ")), "{bad}");
    }
}

#[test]
fn ic_090_what_is_wrong_is_refused_with_the_whole_path_of_its_field() {
    let with = |pointer: &str, value: Value| {
        let mut body = body();
        *body.pointer_mut(pointer).expect("a field") = value;
        body.to_string()
    };
    for (body, field) in [
        ("[]".to_owned(), "body: "),
        ("{}".to_owned(), "mode: "),
        (with("/mode", json!("sometimes")), "mode: "),
        (with("/mode", json!(7)), "mode: "),
        (with("/expiration", json!("SOON")), "expiration: "),
        (r#"{"mode":"always"}"#.to_owned(), "command: "),
        (with("/command", json!([])), "command: "),
        (with("/command/phrases", json!({})), "command.phrases: "),
        (with("/command/phrases", json!(vec![json!({}); 65])), "command.phrases: "),
        (with("/command/phrases/1", json!(7)), "command.phrases[1].body: "),
        (with("/command/phrases/0/format", json!("smell")), "command.phrases[0].format: "),
        (with("/command/phrases/0/fileName", json!("../x")), "command.phrases[0].fileName: "),
        (with("/command/phrases/0/fileName", Value::Null), "command.phrases[0].fileName: "),
        (with("/command/phrases/0/cacheTimeToLive", json!("YEAR")), "command.phrases[0].cacheTimeToLive: "),
        (with("/command/phrases/1/awsTTSParameters", Value::Null), "command.phrases[1].awsTTSParameters: "),
        (with("/command/action", json!({})), "command.action.type: "),
        (with("/command/action/type", json!("transfer")), "command.action.type: "),
        (with("/command/action/destAddr", Value::Null), "command.action.destAddr: "),
        (with("/command/action/maxRingTime", json!(0)), "command.action.maxRingTime: "),
        (with("/command/action/xHeaders", json!({ "Via": "x" })), "command.action.xHeaders: "),
        (with("/command/action/copyHeaders", json!(["Via"])), "command.action.copyHeaders: "),
        (with("/command/action/copyHeaders", json!("X-A")), "command.action.copyHeaders: "),
    ] {
        let error = read(body.as_bytes(), NOW).expect_err(&body);
        assert!(error.message.starts_with(field), "{body}: {}", error.message);
    }
}

#[test]
fn ic_088_089_090_fallbacks_are_given_listed_read_and_removed() {
    let world = world();
    let path = format!("/{TENANT}/ivrfallback/112");
    let send = |method: &str, path: &str, body: &Value| {
        let bytes = body.to_string();
        let body = if body.is_null() { &[][..] } else { bytes.as_bytes() };
        world.ask(method, path, Some(TOKEN), (!body.is_empty()).then_some("application/json"), body)
    };
    assert_eq!(send("GET", &path, &Value::Null).0, 404);
    assert_eq!(send("POST", &path, &body()).0, 201);
    assert_eq!(send("POST", &path, &body()).0, 200);
    let (status, read) = send("GET", &path, &Value::Null);
    assert_eq!((status, &read["mode"], &read["number"]), (200, &json!("onError"), &json!("112")));
    assert_eq!(read["command"], body()["command"], "as it was given");
    assert!(read["ttl"].as_u64().is_some_and(|ttl| (1..=7 * 24 * 3600).contains(&ttl)), "{read}");
    let (_, list) = send("GET", &format!("/{TENANT}/ivrfallback"), &Value::Null);
    assert_eq!(list["ivrfallbacks"].as_array().map(Vec::len), Some(1));
    let configuration = with_fallbacks(world.store.configuration().expect("read"), &world.store).expect("read");
    let tenant = configuration.tenants.iter().find(|tenant| &*tenant.domain == TENANT).expect("the tenant");
    assert_eq!(tenant.number_fallbacks["112"].mode, FallbackMode::OnError);
    assert_eq!(send("POST", &format!("/{TENANT}/ivrfallback/%20"), &body()).0, 400);
    assert_eq!(send("POST", "/nobody.example/ivrfallback/112", &body()).0, 404);
    assert_eq!(send("DELETE", &path, &Value::Null).0, 200);
    assert_eq!(send("DELETE", &path, &Value::Null).0, 404);
}
