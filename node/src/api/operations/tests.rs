//! Operations over HTTP: what becomes which command, and that everything that is wrong is refused with its status and changes nothing.

use crate::api::bearer::tests::{public_pem, sign};
use crate::api::tests::{TENANT, TOKEN, World, world};
use crate::api::{BODY, Count};
use crate::jwt;
use crate::store::wall_ms;
use hookswitch_call::ReplyTo;
use hookswitch_call::door::{Command, CommandError, Done, HoldAudio, Mute, PlaceIvrCall, PlaceRemoteCall, TransferTarget, WhichRecording};
use hookswitch_call::hook::OutboundCall;
use hookswitch_proto::sdp::{Crypto, Device, Format};
use serde_json::{Value, json};
use std::time::Duration;

const JSON: Option<&str> = Some("application/json");
const OPERATIONS: [&str; 16] = [
    "startrecording",
    "stoprecording",
    "hangupparticipant",
    "hangupremoteparticipant",
    "splitconnection",
    "interruptivrcommand",
    "senddtmf",
    "transfer",
    "hold",
    "resume",
    "mute",
    "placeivrcall",
    "placeremotecall",
    "sendremotecallringback",
    "answerremotecall",
    "hangupcall",
];

impl World {
    fn connection(&self) -> String {
        self.reply_keys.mint(TENANT, "s-1", ReplyTo::Connection)
    }

    fn command(&self) -> String {
        self.reply_keys.mint(TENANT, "s-1", ReplyTo::IvrCommand(4))
    }

    fn post(&self, operation: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", &format!("/{TENANT}/{operation}"), Some(TOKEN), JSON, body.to_string().as_bytes())
    }

    /// A body that this operation takes.
    fn good(&self, operation: &str) -> Value {
        let mut body = match operation {
            "hangupparticipant" => json!({ "participantId": "p-1", "sessionId": "s-1" }),
            "hangupremoteparticipant" => json!({ "participantId": "p-1" }),
            "interruptivrcommand" => return json!({ "sessionId": "s-1", "replyId": self.command() }),
            "senddtmf" => json!({ "participantId": "p-1", "digits": "12#" }),
            "transfer" => json!({ "participantId": "p-1", "destAddr": "sip:carol@127.0.0.1" }),
            "hold" => json!({ "participantId": "p-1", "fileName": "music.wav" }),
            "resume" => json!({ "participantId": "p-1" }),
            "mute" => json!({ "participantId": "p-1", "direction": "speak" }),
            "placeivrcall" => return json!({ "destAddr": "sip:bob@127.0.0.1" }),
            "placeremotecall" => {
                return json!({
                    "destinationUri": "sip:bob@127.0.0.1", "sourceUser": 1234, "codec": "GSM", "receiveIp": "10.0.0.1", "receivePort": "30000",
                    "callbackBaseUrl": "https://app.example/hooks",
                });
            }
            "answerremotecall" => json!({ "codec": "PCMU", "receiveIp": "10.0.0.1", "receivePort": 30000 }),
            "sendremotecallringback" | "hangupcall" => json!({}),
            _ => json!({ "connectionId": "c-1" }),
        };
        body["replyId"] = self.connection().into();
        body
    }
}

fn device(format: Format) -> Device {
    Device { address: "10.0.0.1:30000".parse().expect("an address"), format, telephone_event: None, crypto: Vec::new() }
}

fn id(text: &str) -> String {
    text.to_owned()
}

#[test]
fn ic_001_007_each_operation_is_a_post_that_becomes_its_command() {
    let world = world();
    let session = || id("s-1");
    let participant = || id("p-1");
    let connection = || id("c-1");
    let call = OutboundCall { dest_addr: "sip:bob@127.0.0.1".into(), ..OutboundCall::default() };
    let expected = [
        Command::record_call(session(), connection(), None),
        Command::StopRecording { session_id: session(), which: WhichRecording::Connection(connection()) },
        Command::HangupParticipant { session_id: session(), participant_id: participant() },
        Command::HangupRemoteParticipant { session_id: session(), participant_id: participant() },
        Command::SplitConnection { session_id: session(), connection_id: connection() },
        Command::InterruptIvrCommand { session_id: session(), command: Some(4) },
        Command::SendDtmf { session_id: session(), participant_id: participant(), digits: "12#".into(), length: None },
        Command::Transfer {
            session_id: session(),
            participant_id: participant(),
            target: TransferTarget::Blind("sip:carol@127.0.0.1".into()),
        },
        Command::Hold { session_id: session(), participant_id: participant(), audio: HoldAudio::File("music.wav".into()) },
        Command::Resume { session_id: session(), participant_id: participant() },
        Command::Mute { session_id: session(), participant_id: participant(), mute: Mute { speak: true, listen: false } },
        Command::PlaceIvrCall(Box::new(PlaceIvrCall { call, ..PlaceIvrCall::default() })),
        Command::PlaceRemoteCall(Box::new(PlaceRemoteCall {
            device: device(Format::Gsm),
            destination_uri: "sip:bob@127.0.0.1".into(),
            source_user: "1234".into(),
            callback_base_url: "https://app.example/hooks".into(),
            session_reference: None,
        })),
        Command::SendRemoteCallRingback { session_id: session() },
        Command::AnswerRemoteCall { session_id: session(), device: Box::new(device(Format::Pcmu)), session_reference: None },
        Command::HangupCall { session_id: session() },
    ];
    for (operation, expected) in OPERATIONS.into_iter().zip(expected) {
        if operation == "startrecording" {
            world.gives(Ok(Done::Recording { recording_id: "r".into(), file_name: "f.wav".into() }));
        } else if operation.starts_with("place") {
            world.gives(Ok(Done::Placed { session_id: "s".into(), participant_id: "p".into(), reply_to: ReplyTo::Participant }));
        } else {
            world.gives(Ok(Done::Nothing));
        }
        let (status, answer) = world.post(operation, &world.good(operation));
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{operation}: {answer}");
        assert_eq!(world.ordered(), [(TENANT.to_owned(), expected)], "{operation}");
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let (status, answer) = world.ask(method, &format!("/{TENANT}/{operation}"), Some(TOKEN), None, b"");
            assert_eq!((status, &answer["error"]), (405, &json!("method_not_allowed")), "{method} {operation}");
        }
    }
    assert!(world.ordered().is_empty());
}

#[test]
fn ic_300_what_transfers_holds_mutes_and_digits_may_say() {
    let world = world();
    let (session_id, participant_id) = (|| id("s-1"), || id("p-1"));
    let with = |fields: Value| {
        let mut body = json!({ "participantId": "p-1", "replyId": world.connection() });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    let attended = TransferTarget::Attended("p-2".into());
    let mute = |speak, listen| Command::Mute { session_id: session_id(), participant_id: participant_id(), mute: Mute { speak, listen } };
    for (operation, fields, expected) in [
        (
            "transfer",
            json!({ "toParticipantId": "p-2" }),
            Command::Transfer { session_id: session_id(), participant_id: participant_id(), target: attended },
        ),
        ("hold", json!({}), Command::Hold { session_id: session_id(), participant_id: participant_id(), audio: HoldAudio::Silence }),
        ("mute", json!({ "direction": "listen" }), mute(false, true)),
        ("mute", json!({ "direction": "both" }), mute(true, true)),
        ("mute", json!({ "direction": "off" }), mute(false, false)),
        (
            "senddtmf",
            json!({ "digits": "1", "digitMs": 250 }),
            Command::SendDtmf {
                session_id: session_id(),
                participant_id: participant_id(),
                digits: "1".into(),
                length: Some(std::time::Duration::from_millis(250)),
            },
        ),
    ] {
        world.gives(Ok(Done::Nothing));
        let (status, answer) = world.post(operation, &with(fields));
        assert_eq!(status, 200, "{operation}: {answer}");
        assert_eq!(world.ordered(), [(TENANT.to_owned(), expected)], "{operation}");
    }
    for (operation, fields, named) in [
        ("transfer", json!({}), "destAddr"),
        ("transfer", json!({ "destAddr": "sip:a@b", "toParticipantId": "p-2" }), "toParticipantId"),
        ("hold", json!({ "fileName": "../x" }), "fileName"),
        ("mute", json!({ "direction": "up" }), "direction"),
        ("mute", json!({}), "direction"),
        ("senddtmf", json!({ "digits": "1", "digitMs": 5000 }), "digitMs"),
    ] {
        let (status, answer) = world.post(operation, &with(fields));
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.starts_with(&format!("{named}: ")), "{operation}: {answer}");
    }
    assert!(world.ordered().is_empty());
}

#[test]
fn ic_003_004_every_operation_may_be_asked_by_a_browser() {
    let world = world();
    for operation in OPERATIONS {
        let path = format!("/{TENANT}/{operation}");
        let mut answer = world.raw("OPTIONS", &path, None, None, b"");
        assert_eq!(answer.status(), 200, "{operation}");
        for header in ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"] {
            assert!(answer.headers().contains_key(header), "{operation} {header}");
        }
        assert_eq!(answer.body_mut().read_to_string().expect("a body"), "{}");
        for (token, body) in [(None, b"{}".as_slice()), (Some(TOKEN), b"{}"), (Some(TOKEN), world.good(operation).to_string().as_bytes())] {
            assert_eq!(world.raw("POST", &path, token, JSON, body).headers()["access-control-allow-origin"], "*", "{operation}");
        }
    }
}

#[test]
fn ic_006_calls_of_devices_have_a_second_path_for_jwts() {
    let world = world();
    for operation in ["placeremotecall", "sendremotecallringback", "answerremotecall", "hangupcall"] {
        let given = || {
            let placed = || Done::Placed { session_id: "s".into(), participant_id: "p".into(), reply_to: ReplyTo::Participant };
            Ok(if operation == "placeremotecall" { placed() } else { Done::Nothing })
        };
        world.gives(given());
        assert_eq!(world.post(operation, &world.good(operation)).0, 200, "{operation}");
        world.gives(given());
        assert_eq!(world.post(&format!("{operation}jwt"), &world.good(operation)).0, 200, "{operation}jwt");
        let ordered = world.ordered();
        assert_eq!(ordered[0], ordered[1], "{operation}");
    }
    assert_eq!(world.post("startrecordingjwt", &world.good("startrecording")).0, 404);
}

#[test]
fn ic_046_050_051_a_remote_call_is_answered_as_it_was_asked_for() {
    let world = world();
    let body = br#"{"codec":"PCMA","receiveIp":"2001:db8::7","receivePort":"30002","telephoneEventPayloadType":101,"replyId":"REPLY",
        "crypto":[{"suite":"AES_CM_128_HMAC_SHA1_80","id":1,"config":"inline:k"}],"sessionReferenceId":{ "foo" : 1.0 }}"#;
    let body = String::from_utf8_lossy(body).replace("REPLY", &world.connection());
    world.gives(Ok(Done::Nothing));
    let (status, answer) = world.ask("POST", "/a.example/answerremotecall", Some(TOKEN), JSON, body.as_bytes());
    assert_eq!((status, answer), (200, json!({ "success": true })));
    let device = Device {
        address: "[2001:db8::7]:30002".parse().expect("an address"),
        format: Format::Pcma,
        telephone_event: Some(101),
        crypto: vec![Crypto::new(1, "AES_CM_128_HMAC_SHA1_80", "inline:k").expect("a line")],
    };
    let command = Command::AnswerRemoteCall {
        session_id: "s-1".into(),
        device: Box::new(device),
        session_reference: Some(r#"{ "foo" : 1.0 }"#.into()),
    };
    assert_eq!(world.ordered(), [(TENANT.to_owned(), command)]);
}

#[test]
fn ic_065_a_placed_call_says_what_it_is() {
    let world = world();
    world.gives(Ok(Done::Placed { session_id: "s-9".into(), participant_id: "p-9".into(), reply_to: ReplyTo::Participant }));
    let (status, answer) = world.post("placeivrcall", &world.good("placeivrcall"));
    assert_eq!((status, &answer["sessionId"], &answer["participantId"]), (200, &json!("s-9"), &json!("p-9")), "{answer}");
    // Its replyId hangs it up while it rings.
    let body = json!({ "participantId": "p-9", "sessionId": "s-9", "replyId": answer["replyId"] });
    world.ordered();
    world.gives(Ok(Done::Nothing));
    assert_eq!(world.post("hangupparticipant", &body).0, 200);
    let hangup = Command::HangupParticipant { session_id: "s-9".into(), participant_id: "p-9".into() };
    assert_eq!(world.ordered(), [(TENANT.to_owned(), hangup)]);
}

#[test]
fn a_call_is_placed_as_it_was_asked_for() {
    let world = world();
    let body = br#"{"destAddr":"sip:+4670@10.0.0.1;transport=tcp","sessionId":"s-7","mediaserviceId":"one","maxRingTime":"12.5","sipFrom":46890510,
        "displayName":"Carl \"C\"","callerPrivacy":true,"sipDiversion":123456,"sipDiversionParameters":{"reason":"unconditional","counter":1},
        "contactParameters":{"a":"b"},"contactUserParameters":{"c":"d"},"xHeaders":{"X-One":["1","2"]},"pHeaders":{"P-Early-Media":"supported"},
        "sessionReferenceId":{ "foo" : 1.0 },"someThingNew":true}"#;
    world.gives(Ok(Done::Placed { session_id: "s".into(), participant_id: "p".into(), reply_to: ReplyTo::Participant }));
    let (status, answer) = world.ask("POST", "/a.example/placeivrcall", Some(TOKEN), JSON, body);
    assert_eq!(status, 200, "{answer}");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let call = OutboundCall {
        dest_addr: "sip:+4670@10.0.0.1;transport=tcp".into(),
        max_ring_time: Some(Duration::from_millis(12_500)),
        sip_from: Some("46890510".into()),
        display_name: Some("Carl \"C\"".into()),
        caller_privacy: true,
        sip_diversion: Some("123456".into()),
        sip_diversion_parameters: vec![pair("counter", "1"), pair("reason", "unconditional")],
        contact_parameters: vec![pair("a", "b")],
        contact_user_parameters: vec![pair("c", "d")],
        x_headers: vec![pair("X-One", "1"), pair("X-One", "2")],
        p_headers: vec![pair("P-Early-Media", "supported")],
        session_reference: Some(r#"{ "foo" : 1.0 }"#.into()),
        ..OutboundCall::default()
    };
    let expected = PlaceIvrCall { session_id: Some("s-7".into()), mediaservice_id: Some("one".into()), call };
    assert_eq!(world.ordered(), [(TENANT.to_owned(), Command::PlaceIvrCall(Box::new(expected)))]);
    // IC-014: what was not known is counted.
    assert_eq!(world.counted(), [Count::UnknownProperties(1)]);
}

#[test]
fn ic_008_012_what_is_wrong_in_a_body_is_named() {
    let world = world();
    let connection = world.connection();
    let long = "x".repeat(4096);
    let with = |body: &Value, field: &str, value: Value| {
        let mut body = body.clone();
        body[field] = value;
        body
    };
    let (answer, place) = (world.good("answerremotecall"), world.good("placeremotecall"));
    let table = [
        ("startrecording", json!({ "replyId": connection }), "connectionId"),
        ("startrecording", json!({ "connectionId": "c-1" }), "replyId"),
        ("startrecording", json!({ "replyId": connection, "connectionId": {} }), "connectionId"),
        ("startrecording", json!({ "replyId": connection, "connectionId": "c\u{0}" }), "connectionId"),
        ("startrecording", json!({ "replyId": connection, "connectionId": "c", "recordingFileName": "../x.wav" }), "recordingFileName"),
        ("stoprecording", json!({ "replyId": connection }), "connectionId"),
        ("stoprecording", json!({ "replyId": connection, "connectionId": [] }), "connectionId"),
        ("hangupparticipant", json!({ "replyId": connection, "sessionId": "s-1" }), "participantId"),
        ("hangupparticipant", json!({ "replyId": connection, "participantId": "p-1" }), "sessionId"),
        ("hangupparticipant", json!({ "replyId": connection, "participantId": "p-1", "sessionId": "s-2" }), "sessionId"),
        ("hangupparticipant", json!({ "replyId": connection, "participantId": true, "sessionId": "s-1" }), "participantId"),
        ("hangupremoteparticipant", json!({ "replyId": connection }), "participantId"),
        ("hangupremoteparticipant", json!({ "replyId": connection, "participantId": "" }), "participantId"),
        ("splitconnection", json!({ "replyId": connection, "connectionId": "\n" }), "connectionId"),
        ("interruptivrcommand", json!({ "replyId": world.command() }), "sessionId"),
        ("interruptivrcommand", json!({ "replyId": connection, "sessionId": "s-1" }), "replyId"),
        ("senddtmf", json!({ "replyId": connection, "participantId": "p-1" }), "digits"),
        ("senddtmf", json!({ "replyId": connection, "participantId": "p-1", "digits": "1".repeat(65) }), "digits"),
        ("answerremotecall", with(&answer, "codec", json!("GSM")), "codec"),
        ("answerremotecall", with(&answer, "codec", json!(null)), "codec"),
        ("answerremotecall", with(&answer, "receivePort", json!(1023)), "receivePort"),
        ("answerremotecall", with(&answer, "receiveIp", json!("app.example")), "receiveIp"),
        ("answerremotecall", with(&answer, "telephoneEventPayloadType", json!(95)), "telephoneEventPayloadType"),
        ("answerremotecall", with(&answer, "crypto", json!([{ "suite": "A", "id": 1 }])), "crypto[0].config"),
        ("answerremotecall", with(&answer, "replyId", json!(null)), "replyId"),
        ("sendremotecallringback", json!({}), "replyId"),
        ("hangupcall", json!({}), "replyId"),
        ("placeremotecall", with(&place, "codec", json!("G729")), "codec"),
        ("placeremotecall", with(&place, "sourceUser", json!("")), "sourceUser"),
        ("placeremotecall", with(&place, "destinationUri", json!(null)), "destinationUri"),
        ("placeremotecall", with(&place, "callbackBaseUrl", json!(null)), "callbackBaseUrl"),
        ("placeivrcall", json!({}), "destAddr"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b\r\nVia: c" }), "destAddr"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "maxRingTime": 301 }), "maxRingTime"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "maxRingTime": "soon" }), "maxRingTime"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "xHeaders": { "Via": "x" } }), "xHeaders"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "xHeaders": { "X-A": "b\r\nVia: c" } }), "xHeaders"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "pHeaders": { "X-A": "b" } }), "pHeaders"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "callerPrivacy": "yes" }), "callerPrivacy"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "sipFrom": "a\u{7f}" }), "sipFrom"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "sessionReferenceId": long }), "sessionReferenceId"),
        ("placeivrcall", json!({ "destAddr": "sip:a@b", "contactParameters": 5 }), "contactParameters"),
    ];
    for (operation, body, field) in table {
        let (status, answer) = world.post(operation, &body);
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!((status, &answer["error"]), (400, &json!("bad_value")), "{operation} {body:.200}: {answer}");
        assert!(message.starts_with(&format!("{field}: ")), "{operation} {body:.200}: {message}");
    }
    assert!(world.ordered().is_empty(), "nothing of it reached a session");
}

#[test]
fn ic_008_each_operation_refuses_what_is_wrong_around_it() {
    let world = world();
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}").0, 201);
    let (_, made) = world.ask("PUT", "/admin/tenants/b.example/tokens/ci", Some(TOKEN), None, b"");
    let other = made["token"].as_str().expect("a token").to_owned();
    let large = vec![b' '; BODY + 1];
    for operation in OPERATIONS {
        let path = format!("/{TENANT}/{operation}");
        let nobody = format!("/nobody.example/{operation}");
        let good = world.good(operation).to_string();
        let good = good.as_bytes();
        let op = Some(TOKEN);
        type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a [u8], u16, &'a str);
        let table: &[Row<'_>] = &[
            (&path, None, JSON, good, 401, "unauthorized"),
            (&path, Some("guess"), JSON, good, 401, "unauthorized"),
            (&path, Some(&other), JSON, good, 403, "forbidden"),
            (&nobody, op, JSON, good, 404, "not_found"),
            (&nobody, Some(&other), JSON, good, 403, "forbidden"),
            (&path, op, Some("text/plain"), good, 415, "unsupported_type"),
            (&path, op, JSON, &large, 413, "too_large"),
            (&path, op, JSON, b"{", 400, "bad_value"),
            (&path, op, JSON, b"[]", 400, "bad_value"),
            (&path, op, JSON, b"", 400, "bad_value"),
            (&path, op, JSON, b"\xff\xfe", 400, "bad_value"),
        ];
        for (path, token, kind, body, status, code) in table {
            let (got, answer) = world.ask("POST", path, *token, *kind, body);
            assert_eq!((got, &answer["error"]), (*status, &json!(code)), "{path} {kind:?}: {answer}");
            assert_eq!(answer["success"], json!(false));
        }
    }
    assert!(world.ordered().is_empty(), "nothing of it reached a session");
}

#[test]
fn ic_009_023_027_031_039_078_a_reply_id_must_be_genuine_of_this_tenant_and_fresh() {
    let world = world();
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}").0, 201);
    for operation in OPERATIONS.into_iter().filter(|operation| !operation.starts_with("place")) {
        let good = world.good(operation);
        let token = good["replyId"].as_str().expect("a replyId").to_owned();
        let claims = jwt::decode(token.split('.').nth(1).expect("a payload")).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("claims");
        let header = |alg: &str| jwt::encode(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        let tampered = token.replacen('.', ".A", 1);
        let unsigned = format!("{}.{}.", header("none"), jwt::encode(claims.to_string()));
        let confused = sign(&json!({ "alg": "RS256", "typ": "JWT" }), &claims);
        let foreign = crate::reply_keys::ReplyKeys::in_memory().expect("random numbers").mint(TENANT, "s-1", ReplyTo::IvrCommand(4));
        let elsewhere = world.reply_keys.mint("b.example", "s-1", ReplyTo::IvrCommand(4));
        for (reply_id, status) in
            [("x", 401), (&tampered, 401), (&unsigned, 401), (&confused, 401), (&foreign, 401), (TOKEN, 401), (&elsewhere, 403)]
        {
            let mut body = good.clone();
            body["replyId"] = reply_id.into();
            let (got, answer) = world.post(operation, &body);
            let message = answer["message"].as_str().unwrap_or_default();
            assert!(got == status && message.starts_with("replyId: "), "{operation} {reply_id}: {got} {message}");
            assert!(!message.contains(reply_id), "a token is not said back");
        }
        assert!(world.ordered().is_empty(), "nothing of it reached a session");
        // What the session says of stale ids and states.
        for (error, status) in [
            (CommandError::Unknown("session"), 404),
            (CommandError::WrongState("the command has ended"), 409),
            (CommandError::Unavailable("the node drains"), 503),
            (CommandError::BadValue { field: "digits", why: "no".into() }, 400),
        ] {
            world.gives(Err(error));
            assert_eq!(world.post(operation, &good).0, status, "{operation}");
        }
        world.ordered();
    }
}

#[test]
fn ic_011_a_rotation_keeps_what_was_given() {
    let world = world();
    let (before, kid) = (world.connection(), |token: &str| token.split('.').next().map(str::to_owned));
    let (status, answer) = world.ask("POST", "/admin/reply-keys/rotate", Some(TOKEN), None, b"");
    assert_eq!((status, answer["kids"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    let after = world.connection();
    assert_ne!(kid(&before), kid(&after));
    for reply_id in [before, after] {
        assert_eq!(world.post("splitconnection", &json!({ "connectionId": "c", "replyId": reply_id })).0, 200);
    }
    assert_eq!(world.get("/admin/audit?limit=1")["audit"][0]["what"], json!("reply keys rotated"));
}

#[test]
fn ic_015_the_same_key_is_the_same_command() {
    let world = world();
    world.gives(Ok(Done::Placed { session_id: "s-1".into(), participant_id: "p-1".into(), reply_to: ReplyTo::Participant }));
    let body = json!({ "destAddr": "sip:bob@127.0.0.1" }).to_string();
    let post = |operation: &str, key: &str, body: &str| {
        let request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("http://{}/{TENANT}/{operation}", world.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.to_owned())
            .expect("a request");
        let mut answer = ureq::Agent::new_with_config(ureq::config::Config::builder().http_status_as_error(false).build())
            .run(request)
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.body_mut().read_json::<Value>().expect("JSON"))
    };
    // Refused: changed nothing, and may be tried again.
    world.gives(Err(CommandError::Unavailable("the node drains")));
    assert_eq!(post("placeivrcall", "k", &body).0, 503);
    world.gives(Ok(Done::Placed { session_id: "s-1".into(), participant_id: "p-1".into(), reply_to: ReplyTo::Participant }));
    let first = post("placeivrcall", "k", &body);
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(world.ordered().len(), 2);
    assert_eq!(post("placeivrcall", "k", &body), first);
    assert!(world.ordered().is_empty(), "one call was placed");
    let (status, answer) = post("placeivrcall", "k", r#"{"destAddr":"sip:carol@127.0.0.1"}"#);
    assert_eq!((status, &answer["error"]), (409, &json!("conflict")), "{answer}");
    // Another key, and no key, are another call.
    assert_eq!(post("placeivrcall", "k2", &body).0, 200);
    assert_eq!(world.post("placeivrcall", &json!({ "destAddr": "sip:bob@127.0.0.1" })).0, 200);
    assert_eq!(world.ordered().len(), 2);
    assert_eq!(post("placeivrcall", &"k".repeat(256), &body).0, 400);
    // A hang-up may be repeated as it is: the session says that it is done.
    world.gives(Ok(Done::Nothing));
    for _ in 0..2 {
        assert_eq!(world.post("hangupparticipant", &world.good("hangupparticipant")).0, 200);
    }
}

#[test]
fn ic_008_too_many_commands_of_one_tenant_are_told_to_wait() {
    let world = world();
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}").0, 201);
    world.rated(1, 2);
    let body = json!({ "destAddr": "sip:bob@127.0.0.1" }).to_string();
    let post = |domain: &str| world.raw("POST", &format!("/{domain}/placeivrcall"), Some(TOKEN), JSON, body.as_bytes());
    world.gives(Ok(Done::Placed { session_id: "s".into(), participant_id: "p".into(), reply_to: ReplyTo::Participant }));
    let answers: Vec<_> = (0..4).map(|_| post(TENANT)).collect();
    let refused = answers.iter().find(|answer| answer.status() == 429).expect("one is refused");
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(world.counted().contains(&Count::RateLimited));
    assert_eq!(post("b.example").status(), 200, "others are not held up");
}

#[test]
fn ic_005_a_jwt_of_the_tenants_own_key_opens_its_domain() {
    let world = world();
    for domain in ["b.example", "c.example"] {
        assert_eq!(world.ask("PUT", &format!("/admin/tenants/{domain}"), Some(TOKEN), JSON, b"{}").0, 201);
    }
    let put = |path: &str, key: &[u8]| world.ask("PUT", path, Some(TOKEN), Some("application/x-pem-file"), key);
    let (status, answer) = put("/admin/tenants/b.example/keys/crm", public_pem().as_bytes());
    assert_eq!((status, &answer["key"]["bits"], &answer["key"]["label"]), (201, &json!(2048), &json!("crm")), "{answer}");
    assert_eq!(put("/admin/tenants/b.example/keys/crm", public_pem().as_bytes()).0, 200);
    assert_eq!(world.get("/admin/tenants/b.example/keys")["keys"].as_array().map(Vec::len), Some(1));

    let now = wall_ms() / 1000;
    let token = |claims: Value| sign(&json!({ "alg": "RS256", "typ": "JWT", "kid": "any" }), &claims);
    let good = token(json!({ "aud": "b.example", "exp": now + 300 }));
    let status = |path: &str, token: &str| world.ask("GET", path, Some(token), None, b"").0;
    assert_eq!(status("/b.example/guests", &good), 200);
    assert_eq!(status("/B.Example/guests", &good), 200);
    assert_eq!(status("/b.example/guests", &token(json!({ "aud": ["x.example", "B.example"], "exp": now + 300 }))), 200);
    // IC-002: valid, but for another domain, or for the operator's paths.
    for path in ["/a.example/guests", "/nobody.example/guests", "/admin/tenants", "/metrics"] {
        assert_eq!(status(path, &good), 403, "{path}");
    }
    for (claims, why) in [
        (json!({ "aud": "b.example", "exp": now - 61 }), "ended"),
        (json!({ "aud": "b.example" }), "without an end"),
        (json!({ "exp": now + 300 }), "for nobody"),
        (json!({ "aud": "c.example", "exp": now + 300 }), "for a domain that has no such key"),
        (json!({ "aud": "nobody.example", "exp": now + 300 }), "for no domain"),
        (json!({ "aud": "b.example", "exp": now + 300, "nbf": now + 120 }), "not yet"),
    ] {
        assert_eq!(status("/b.example/guests", &token(claims)), 401, "{why}");
    }
    for alg in ["none", "HS256", "RS512", "rs256"] {
        let token = sign(&json!({ "alg": alg }), &json!({ "aud": "b.example", "exp": now + 300 }));
        assert_eq!(status("/b.example/guests", &token), 401, "{alg}");
    }
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    assert_eq!(status("/b.example/guests", &format!("{head}.{}", signature.chars().rev().collect::<String>())), 401);

    // What it does is audited by the key's name; without the key the token is nothing.
    let (code, _) = world.ask("POST", "/b.example/guests", Some(&good), Some("application/wasm"), b"guest");
    assert_eq!(code, 201);
    assert_eq!(world.get("/admin/audit?limit=1")["audit"][0]["who"], json!("key crm"));
    assert_eq!(world.ask("DELETE", "/admin/tenants/b.example/keys/crm", Some(TOKEN), None, b"").0, 200);
    assert_eq!(status("/b.example/guests", &good), 401);
    assert_eq!(world.ask("DELETE", "/admin/tenants/b.example/keys/crm", Some(TOKEN), None, b"").0, 404);
}

#[test]
fn ic_005_a_key_that_will_not_do_is_refused_with_the_reason() {
    let world = world();
    let put = |path: &str, kind: &str, key: &[u8]| world.ask("PUT", path, Some(TOKEN), Some(kind), key);
    let (status, answer) = put("/admin/tenants/a.example/keys/short", "text/plain", include_bytes!("../testdata/short-public.pem"));
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.starts_with("key: ") && message.contains("1024 bits"), "{status} {message}");
    assert_eq!(put("/admin/tenants/a.example/keys/x", "text/html", public_pem().as_bytes()).0, 415);
    assert_eq!(put("/admin/tenants/a.example/keys/x", "text/plain", &[b'x'; 17 << 10]).0, 413);
    assert_eq!(put("/admin/tenants/a.example/keys/x%20y", "text/plain", public_pem().as_bytes()).0, 400);
    assert_eq!(put("/admin/tenants/nobody.example/keys/x", "text/plain", public_pem().as_bytes()).0, 404);
    assert_eq!(world.ask("GET", "/admin/tenants/nobody.example/keys", Some(TOKEN), None, b"").0, 404);
    assert_eq!(world.get("/admin/tenants/a.example/keys")["keys"], json!([]));
    for n in 0..8 {
        assert_eq!(put(&format!("/admin/tenants/a.example/keys/{n}"), "text/plain", public_pem().as_bytes()).0, 201);
    }
    assert_eq!(put("/admin/tenants/a.example/keys/9", "text/plain", public_pem().as_bytes()).0, 409);
}

#[test]
fn the_operator_names_sessions_by_their_path() {
    let world = world();
    assert_eq!(world.get("/admin/sessions")["sessions"][0]["id"], json!("s-1"));
    assert_eq!(world.get("/a.example/sessions")["sessions"].as_array().map(Vec::len), Some(1));
    let (status, answer) = world.ask("POST", "/admin/sessions/s-1/interruptivrcommand", Some(TOKEN), None, b"");
    assert_eq!(status, 200, "{answer}");
    let interrupt = Command::InterruptIvrCommand { session_id: "s-1".into(), command: None };
    assert_eq!(world.ordered(), [(TENANT.to_owned(), interrupt)]);
    assert_eq!(world.get("/admin/audit?limit=1")["audit"][0]["what"], json!("interruptivrcommand"));
    let (status, answer) = world.ask("POST", "/admin/sessions/s-2/interruptivrcommand", Some(TOKEN), None, b"");
    assert_eq!((status, &answer["message"]), (404, &json!("unknown session")));
    let (status, answer) = world.ask("POST", "/admin/sessions/s-1/hangupparticipant", Some(TOKEN), JSON, b"{}");
    assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with("participantId: ")), "{answer}");
    let (_, made) = world.ask("PUT", "/admin/tenants/a.example/tokens/ci", Some(TOKEN), None, b"");
    let tenant = made["token"].as_str().expect("a token");
    assert_eq!(world.ask("POST", "/admin/sessions/s-1/interruptivrcommand", Some(tenant), None, b"").0, 403);
    assert!(world.ordered().is_empty());
}

#[test]
fn the_document_is_open_and_says_how_to_show_oneself() {
    let world = world();
    let (status, document) = world.ask("GET", "/openapi.json", None, None, b"");
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    for operation in OPERATIONS {
        let entry = &document["paths"][format!("/{{domain}}/{operation}")]["post"];
        for status in ["200", "400", "401", "403", "404", "409", "413", "415", "429", "503"] {
            assert!(entry["responses"][status].is_object(), "{operation} {status}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["jwt"]["bearerFormat"], json!("JWT"));
}
