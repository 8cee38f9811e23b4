//! Devices that speak RTP and HTTP alone, the cloud SIP user agent's: sipp is at the far end, an HTTP server of the test is their side, and a
//! UDP socket the device. What it hears comes from sipp itself: the node has no leg.

use hookswitch_sim::numbered;
use hookswitch_tests::node::{Node, address, component, root, wait_for};
use hookswitch_tests::pcap::Capture;
use hookswitch_tests::receiver::Receiver;
use hookswitch_tests::sipp::Sipp;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const DOMAIN: &str = "demo.localhost";
const DEVICE: &str = "unit-1";

struct Side {
    node: Node,
    app: Receiver,
    token: String,
    device: UdpSocket,
}

/// A node with a device, whose side hears callbacks below `/hooks`. `pages`: what it answers, made of the device's address.
fn side(pages: impl Fn(SocketAddr) -> Vec<(&'static str, String)>) -> Side {
    let node = Node::demo_of(component("webhook"));
    let device = UdpSocket::bind((address(), 30_000)).expect("an address of its own");
    device.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket of the kernel");
    let pages = pages(device.local_addr().expect("it is bound"));
    let pages: Vec<(&str, &str)> = pages.iter().map(|(path, body)| (*path, body.as_str())).collect();
    let app = Receiver::application(address(), &pages);
    node.cli(&["tenant", "put", DOMAIN, "--outbox-origin", app.url("").trim_end_matches('/')]).ok();
    node.cli(&["tenant", "device", "put", DOMAIN, DEVICE, "--type", "alarmUnit", "--description", "the hall's"]).ok();
    let token = node.json(&["tenant", "token", DOMAIN, "side", "--json"])["token"].as_str().expect("a token").to_owned();
    let key = std::fs::read_to_string(root().join("node/src/api/testdata/tenant-private.pem")).expect("a key");
    let set_up = json!({ "callbackBaseUrl": app.url("hooks"), "callbackKey": key });
    let (status, answer) = node.post(&format!("/mediaservice/{DOMAIN}"), &token, &set_up);
    assert_eq!((status, &answer["sipAddress"]), (200, &json!("sip:demo.localhost")), "{answer}");
    Side { node, app, token, device }
}

fn listening() -> Side {
    side(|_| vec![("hooks/newRemoteCall", r#"{"sessionReferenceId":"of the device"}"#.into())])
}

impl Side {
    fn post(&self, operation: &str, body: &Value) -> (u16, Value) {
        self.node.post(&format!("/{DOMAIN}/{operation}"), &self.token, body)
    }

    #[track_caller]
    fn done(&self, operation: &str, body: &Value) {
        assert_eq!(self.post(operation, body), (200, json!({ "success": true })), "{operation}");
    }

    /// The first callback of this path, signed as all are.
    fn heard(&self, path: &str) -> Value {
        wait_for(path, || !self.app.posted(path).is_empty());
        let posted = self.app.posted(path).remove(0);
        assert!(posted.headers.contains("authorization: bearer "), "{path}: {}", posted.headers);
        posted.body
    }

    fn at(&self) -> SocketAddr {
        self.device.local_addr().expect("it is bound")
    }

    /// The body of answerremotecall.
    fn answer(&self, reply_id: &Value, codec: &str) -> Value {
        json!({ "replyId": reply_id, "codec": codec, "receiveIp": self.at().ip(), "receivePort": self.at().port() })
    }

    /// So many packets of this payload type come to the device, all from this address.
    fn hears(&self, packets: usize, payload_type: u8, from: IpAddr) {
        let mut packet = [0; 2048];
        for n in 0..packets {
            let (length, peer) = self.device.recv_from(&mut packet).unwrap_or_else(|error| panic!("packet {n}: {error}"));
            assert!(length > 12 && peer.ip() == from, "from {peer}");
            assert_eq!((packet[0] >> 6, packet[1] & 0x7f), (2, payload_type));
        }
    }

    fn no_leaks(&self) {
        let gauges = ["hookswitch_sessions", "hookswitch_sip_dialogs", "hookswitch_legs"];
        wait_for("no session, dialog or leg left", || gauges.iter().all(|name| self.node.metric(name, &[]) == 0.0));
        assert_eq!(self.node.metric("hookswitch_sessions_panicked_total", &[]), 0.0);
    }
}

fn speech() -> Capture {
    let law: Vec<u8> = (0..100).flat_map(numbered::frame).collect();
    Capture::new(0x5199).audio(&law)
}

#[test]
fn ic_042_044_045_047_048_049_086_087_a_device_is_called_and_its_media_goes_past_the_node() {
    let side = listening();
    let caller = Sipp::caller(&side.node, "caller-talks", DEVICE).capture("speech.pcap", &speech()).start();
    let call = side.heard("hooks/newRemoteCall");
    let sipp = caller.sip().ip();
    assert_eq!((&call["codec"], &call["sourceUser"]), (&json!("PCMU"), &json!("alice")), "{call}");
    assert_eq!((&call["remoteRtpIp"], call["remoteRtpPort"].is_u64()), (&json!(sipp), true), "{call}");
    assert_eq!(call["destinationUri"], json!(format!("sip:{DEVICE}@{}", side.node.sip())));
    assert!(call["callId"].as_str().is_some_and(|id| id.contains('@')) && call["sessionId"].is_string(), "{call}");
    let reply_id = &call["replyId"];
    side.done("sendremotecallringback", &json!({ "replyId": reply_id }));

    // What is wrong changes nothing.
    let with = |field: &str, value: Value| {
        let mut body = side.answer(reply_id, "PCMU");
        body[field] = value;
        body
    };
    let text = reply_id.as_str().expect("a token");
    for (body, status, error, field) in [
        (with("codec", json!("GSM")), 400, "bad_value", "codec"),
        (with("codec", json!("PCMA")), 409, "conflict", "codec"),
        (with("receiveIp", json!("192.0.2.7")), 400, "bad_value", "receiveIp"),
        (with("receiveIp", json!("device.example")), 400, "bad_value", "receiveIp"),
        (with("receivePort", json!(80)), 400, "bad_value", "receivePort"),
        (with("replyId", json!(format!("{text}x"))), 401, "unauthorized", "replyId"),
        (with("replyId", json!(null)), 400, "bad_value", "replyId"),
    ] {
        let (got, answer) = side.post("answerremotecall", &body);
        assert_eq!((got, &answer["success"], &answer["error"]), (status, &json!(false), &json!(error)), "{body}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{body}: {answer}");
    }
    side.node.cli(&["tenant", "put", "other.localhost"]).ok();
    let other = side.node.json(&["tenant", "token", "other.localhost", "t", "--json"])["token"].as_str().expect("a token").to_owned();
    let (status, answer) = side.node.post(&format!("/{DOMAIN}/answerremotecall"), &other, &side.answer(reply_id, "PCMU"));
    assert_eq!((status, &answer["error"]), (403, &json!("forbidden")), "{answer}");
    let (status, answer) = side.node.post("/other.localhost/answerremotecall", &other, &side.answer(reply_id, "PCMU"));
    assert_eq!((status, &answer["error"]), (403, &json!("forbidden")), "a replyId of another tenant: {answer}");

    side.done("answerremotecalljwt", &side.answer(reply_id, "PCMU"));
    let answered = side.heard("hooks/callAnswered");
    assert_eq!((&answered["codec"], &answered["remoteRtpIp"]), (&json!("PCMU"), &json!(sipp)), "{answered}");
    assert_eq!(answered["remoteRtpPort"], json!(call["remoteRtpPort"].to_string()), "a text here (IC-120)");
    assert_eq!(answered["sessionReferenceId"], json!("of the device"));
    side.hears(50, 0, sipp);
    assert_eq!(side.node.metric("hookswitch_legs", &[]), 0.0);
    let (status, _) = side.post("answerremotecall", &side.answer(reply_id, "PCMU"));
    assert_eq!(status, 409, "it is answered");
    side.done("hangupcall", &json!({ "replyId": answered["replyId"] }));
    caller.end().ok();
    assert_eq!(side.heard("hooks/sessionCompleted")["reason"], json!("apiHangup"));
    assert!(side.app.posted("hooks/newCall").is_empty() && side.app.posted("hooks/callEvent").is_empty());
    let (status, _) = side.post("hangupcall", &json!({ "replyId": answered["replyId"] }));
    assert_eq!(status, 404, "it is over");
    side.no_leaks();
}

#[test]
fn ic_143_207_the_caller_of_a_device_hangs_up_and_its_side_hears_of_it() {
    let side = listening();
    let caller = Sipp::caller(&side.node, "caller-hangs-up", DEVICE).echoes().talks_ms(1500).start();
    let call = side.heard("hooks/newRemoteCall");
    side.done("answerremotecall", &side.answer(&call["replyId"], "PCMU"));
    side.heard("hooks/callAnswered");
    // Both ways: what the device sends comes back.
    let port = call["remoteRtpPort"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let packet = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0x51, 0x99][..], &[0xff; 160]].concat();
    side.device.send_to(&packet, (caller.sip().ip(), port)).expect("sent");
    side.hears(1, 0, caller.sip().ip());
    caller.end().ok();
    let event = side.heard("hooks/callEvent");
    assert_eq!((&event["event"], &event["user"], &event["remoteUser"]), (&json!("callingPartyDrop"), &json!("alice"), &json!(DEVICE)));
    let completed = side.heard("hooks/sessionCompleted");
    assert_eq!((&completed["reason"], &completed["sessionReferenceId"]), (&json!("callingPartyHangup"), &json!("of the device")));
    side.no_leaks();
}

#[test]
fn ic_043_215_216_an_unanswered_call_for_a_device_is_refused_given_up_or_runs_out() {
    let side = listening();
    let caller = Sipp::caller(&side.node, "caller-is-refused", DEVICE).start();
    let call = side.heard("hooks/newRemoteCall");
    side.done("hangupcall", &json!({ "replyId": call["replyId"] }));
    let run = caller.end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0 603 "), "{run}");
    assert_eq!(side.heard("hooks/sessionCompleted")["reason"], json!("rejected"));

    let caller = Sipp::caller(&side.node, "caller-cancels", DEVICE).talks_ms(200).start();
    wait_for("the second call", || side.app.posted("hooks/newRemoteCall").len() == 2);
    let call = side.app.posted("hooks/newRemoteCall").remove(1).body;
    side.done("sendremotecallringback", &json!({ "replyId": call["replyId"] }));
    caller.end().ok();
    wait_for("its end", || side.app.posted("hooks/sessionCompleted").len() == 2);
    assert_eq!(side.app.posted("hooks/sessionCompleted").remove(1).body["reason"], json!("canceled"));
    let (status, _) = side.post("answerremotecall", &side.answer(&call["replyId"], "PCMU"));
    assert_eq!(status, 404, "it is over");

    // A minute, and nobody answers.
    side.node.phone(DEVICE).seconds("90").run().fails(&["480"]);
    wait_for("its end", || side.app.posted("hooks/sessionCompleted").len() == 3);
    assert_eq!(side.app.posted("hooks/sessionCompleted").remove(2).body["reason"], json!("noAnswer"));
    side.no_leaks();
}

#[test]
fn ic_052_053_055_056_057_058_059_a_device_calls_and_its_own_url_hears_of_it() {
    let side = listening();
    let callee = Sipp::callee(&side.node, "callee-answers").key("payload", "3").key("codec", "GSM").start();
    let at = side.at();
    let good = json!({
        "codec": "GSM", "destinationUri": callee.uri(), "sourceUser": 1234, "receiveIp": at.ip(), "receivePort": at.port(),
        "callbackBaseUrl": side.app.url("calls"), "sessionReferenceId": "mine",
    });
    for (field, value) in [
        ("destinationUri", json!("bob")),
        ("codec", json!("G729")),
        ("receiveIp", json!("192.0.2.7")),
        ("callbackBaseUrl", json!("https://evil.example/hooks")),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let (status, answer) = side.post("placeremotecall", &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{field}: {status} {answer}");
    }
    let (status, placed) = side.post("placeremotecall", &good);
    assert_eq!((status, &placed["success"]), (200, &json!(true)), "{placed}");
    let ringing = side.heard("calls/callNotify");
    assert_eq!((&ringing["event"], &ringing["sessionId"]), (&json!("ringing"), &placed["sessionId"]), "{ringing}");
    let answered = side.heard("calls/callAnswered");
    assert_eq!((&answered["codec"], &answered["remoteRtpIp"]), (&json!("GSM"), &json!(callee.sip().ip())), "{answered}");
    assert_eq!((&answered["callingPartyNumber"], &answered["remotePartyNumber"]), (&json!("1234"), &json!("bob")));
    assert_eq!(answered["sessionReferenceId"], json!("mine"));
    side.done("hangupcall", &json!({ "replyId": answered["replyId"] }));
    let run = callee.end();
    run.ok();
    let (offer, from) = (format!("m=audio {} RTP/AVP 3", at.port()), "From: <sip:1234@demo.localhost>");
    assert!(run.stderr.contains(&offer) && run.stderr.contains(from) && run.stderr.contains(&format!("c=IN IP4 {}", at.ip())), "{run}");
    assert_eq!(side.heard("calls/sessionCompleted")["reason"], json!("apiHangup"));

    // Busy: what became of it, and that it is over.
    let busy = Sipp::callee(&side.node, "callee-is-busy").talks_ms(100).start();
    let mut body = good.clone();
    body["destinationUri"] = busy.uri().into();
    assert_eq!(side.post("placeremotecalljwt", &body).0, 200);
    busy.end().ok();
    let event = side.heard("calls/callEvent");
    assert_eq!((&event["event"], &event["sipCode"]), (&json!("calledPartyFailure"), &json!(486)), "{event}");
    wait_for("its end", || side.app.posted("calls/sessionCompleted").len() == 2);
    assert_eq!(side.app.posted("calls/sessionCompleted").remove(1).body["reason"], json!("busy"));
    for path in ["hooks/callNotify", "hooks/callAnswered", "hooks/callEvent", "hooks/sessionCompleted"] {
        assert!(side.app.posted(path).is_empty(), "the handler hears nothing of it: {path}");
    }
    side.no_leaks();
}

#[test]
fn ic_161_188_httpcall_gives_a_caller_to_a_device() {
    let side = side(|at| {
        let action = json!({ "action": "httpcall", "codec": "PCMU", "receiveIp": at.ip(), "receivePort": at.port() });
        vec![("hooks/newCall", action.to_string())]
    });
    let caller = Sipp::caller(&side.node, "caller-talks", "ivr").capture("speech.pcap", &speech()).start();
    let answered = side.heard("hooks/callAnswered");
    assert_eq!((&answered["codec"], &answered["remoteRtpIp"]), (&json!("PCMU"), &json!(caller.sip().ip())), "{answered}");
    assert!(answered["remoteRtpPort"].as_str().is_some_and(|port| port.parse::<u16>().is_ok()), "{answered}");
    side.hears(50, 0, caller.sip().ip());
    side.done("hangupcall", &json!({ "replyId": answered["replyId"] }));
    caller.end().ok();
    assert_eq!(side.heard("hooks/sessionCompleted")["reason"], json!("apiHangup"));
    side.no_leaks();
}
