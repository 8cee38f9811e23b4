//! An application that was written against the mediaservice API's callbacks takes calls by HTTP: `guest-examples/webhook` asks
//! `guest-examples/webhook/app.py`, which answers as the vendor's page shows, or as bad applications do.

use hookswitch_tests::audio::{heard_tones, read_wav, tone, write_wav};
use hookswitch_tests::node::{Node, address, component, root, wait_for};
use hookswitch_tests::peer::require;
use hookswitch_tests::sipp::Sipp;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 9000;

/// The application; ended when it is dropped.
struct App {
    child: Child,
    ip: Ipv4Addr,
    journal: PathBuf,
}

impl App {
    fn start(node: &Node, key: Option<&Path>) -> App {
        let (ip, journal) = (address(), node.file("journal.jsonl"));
        let mut command = Command::new("python3");
        command.arg(root().join("guest-examples/webhook/app.py"));
        command.args(["--address", &ip.to_string(), "--port", &PORT.to_string()]).arg("--journal").arg(&journal);
        if let Some(key) = key {
            command.arg("--key").arg(key);
        }
        let log = fs::File::create(node.file("app.log")).expect("a file");
        let child = command.stdout(log.try_clone().expect("the file")).stderr(log).spawn().expect("python3 runs");
        wait_for("the application", || std::net::TcpStream::connect((ip, PORT)).is_ok());
        App { child, ip, journal }
    }

    /// What it was asked and told so far.
    fn heard(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.journal).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The callbacks of a session, in the order of their coming.
    fn order(&self, session: &Value) -> Vec<String> {
        let of_session = |line: &&Value| line["body"]["sessionId"] == *session;
        self.heard().iter().filter(of_session).map(|line| line["callback"].as_str().expect("a name").to_owned()).collect()
    }

    fn find(&self, callback: &str, nth: usize) -> Value {
        let all = self.heard();
        let mut found = all.iter().filter(|line| line["callback"] == callback);
        found.nth(nth).unwrap_or_else(|| panic!("no {callback} {nth}: {all:#?}"))["body"].clone()
    }

    fn wait(&self, callback: &str, times: usize) {
        wait_for(callback, || self.heard().iter().filter(|line| line["callback"] == callback).count() >= times);
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node_with(app_key: bool) -> (Node, App) {
    require("python3", "python3");
    let node = Node::demo_of(component("webhook"));
    let jwk = app_key.then(|| callback_key(&node));
    let app = App::start(&node, jwk.as_deref());
    let base = format!("http://{}:{PORT}/hooks", app.ip);
    node.cli(&["guest", "config", "set", "callback_base_url", &base]).ok();
    node.cli(&["guest", "config", "set", "alarm_url", &format!("http://{}:{PORT}/alarms", app.ip)]).ok();
    (node, app)
}

/// Makes a key pair, keeps the private half on the node, and gives the file of the public half.
fn callback_key(node: &Node) -> PathBuf {
    require("openssl", "openssl");
    let pem = node.file("callback.pem");
    let made =
        Command::new("openssl").args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&pem).output();
    assert!(made.expect("openssl runs").status.success());
    let private = fs::read(&pem).expect("the key");
    let mut child = node.command(&["guest", "secret", "set", "callback-key"]).stdin(Stdio::piped()).spawn().expect("the binary runs");
    child.stdin.take().expect("piped").write_all(&private).expect("written");
    assert!(child.wait().expect("it ends").success());
    let modulus = Command::new("openssl").args(["rsa", "-noout", "-modulus", "-in"]).arg(&pem).output().expect("openssl runs").stdout;
    let modulus = String::from_utf8(modulus).expect("text");
    let hex = modulus.trim().strip_prefix("Modulus=").expect("a modulus");
    // What JSON Web Keys have is base64url; Python makes it.
    let script = "import base64,sys; print(base64.urlsafe_b64encode(bytes.fromhex(sys.argv[1])).decode().rstrip('='))";
    let n = Command::new("python3").args(["-c", script, hex]).output().expect("python3 runs").stdout;
    let jwk = json!({ "kty": "RSA", "e": "AQAB", "n": String::from_utf8(n).expect("text").trim() });
    let file = node.file("callback.jwk");
    fs::write(&file, jwk.to_string()).expect("written");
    file
}

#[test]
fn ic_016_017_an_application_takes_calls_by_signed_callbacks() {
    let (node, app) = node_with(true);
    node.phone("ivr").dtmf("2@2s,1@4s").seconds("20").run().ok();
    app.wait("sessionCompleted", 1);
    let call = app.find("newCall", 0);
    for (field, value) in [("calledParty", json!("ivr")), ("callingPartyPrivacy", json!("public")), ("xHeaders", json!({}))] {
        assert_eq!(call[field], value, "{field}: {call}");
    }
    for field in ["sessionId", "sipCallId", "ivrServer", "callingParty", "fromUser", "srcAddr", "traceId", "httpTransactionId"] {
        assert!(call[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {call}");
    }
    // Order A: callAnswered goes out by the outbox, which waits for the disk; the IVR does not wait for it.
    let order = app.order(&call["sessionId"]);
    assert_eq!(order.iter().filter(|name| *name == "getIvrCommand").count(), 3, "{order:?}");
    assert_eq!((order.first().map(String::as_str), order.last().map(String::as_str)), (Some("newCall"), Some("sessionCompleted")));
    let second = app.find("getIvrCommand", 1);
    assert_eq!((&second["dtmfParams"]["dtmfMatch"], &second["dtmfParams"]["reason"]), (&json!("2"), &json!("maxDigits")));
    assert_eq!(second["sessionReferenceId"], json!({"number": "ivr", "asked": 1}));
    let first = app.find("getIvrCommand", 0);
    assert!(first.get("dtmfParams").is_none() && first.get("dtmfBuffer").is_none(), "IC-226: {first}");
    let answered = app.find("callAnswered", 0);
    assert!(answered["connectionId"].is_string() && answered["replyId"].is_string() && answered.get("codec").is_none(), "{answered}");
    let completed = app.find("sessionCompleted", 0);
    assert_eq!((&completed["reason"], &completed["domain"]), (&json!("ivrHangup"), &json!("demo.localhost")));
    assert!(completed["sessionDuration"].as_str().is_some_and(|text| text.parse::<u64>().is_ok()), "{completed}");
    let heard = app.heard();
    assert!(heard.iter().all(|line| line["signed"] == json!(true)), "{heard:#?}");
    // Neither key nor signature is in a log.
    let log = node.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("Bearer "), "{log}");
}

#[test]
fn ic_017_the_callback_key_is_no_key_of_the_api_and_no_handlers() {
    let (node, app) = node_with(true);
    // Without the right signature the application refuses, and the call falls back.
    fs::write(node.file("other.pem"), "hunter2").expect("written");
    let mut child =
        node.command(&["guest", "secret", "set", "callback-key"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(b"hunter2").expect("written");
    let refused = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("not a private key in PEM") && !said.contains("hunter2"), "{said}");
    node.cli(&["guest", "secret", "remove", "callback-key"]).ok();
    node.phone("ivr").seconds("5").run().fails(&["503"]);
    assert!(app.heard().iter().any(|line| line["signed"] == json!(false)));
}

#[test]
fn ic_018_019_020_021_what_a_bad_application_says_is_an_alarm_and_the_fallback() {
    let (node, app) = node_with(false);
    for (at, (number, error)) in [
        ("broken", "newCall request failed"),
        ("empty", "newCall response empty"),
        ("nonsense", "newCall request failed"),
        ("slow", "newCall request failed"),
    ]
    .into_iter()
    .enumerate()
    {
        // Equal alarms are sent once in ten seconds.
        let asked = Instant::now();
        node.phone(number).seconds("10").run().fails(&["503"]);
        assert!(asked.elapsed() < Duration::from_secs(7), "{number} took {:?}", asked.elapsed());
        if !matches!(number, "nonsense") {
            wait_for("the session's end", || app.heard().iter().filter(|line| line["callback"] == "sessionCompleted").count() > at);
        }
        let alarms: Vec<Value> = app.heard().into_iter().filter(|line| line["callback"] == "alarms").collect();
        assert!(alarms.iter().any(|line| line["body"]["error"] == error), "{number}: {alarms:#?}");
    }
    let alarm = app.find("alarms", 0);
    assert_eq!((&alarm["type"], &alarm["domain"]), (&json!("newCallEventError"), &json!("demo.localhost")));
    // A decision is asked once (IC-019), and the application is told which way each call went.
    let calls = app.heard().iter().filter(|line| line["callback"] == "newCall").count();
    assert_eq!(calls, 4);
    node.phone("busy").seconds("5").run().fails(&["486"]);
    node.phone("ivr").dtmf("1@1s").seconds("20").run().ok();
}

#[test]
fn ic_104_112_142_201_an_application_connects_two_parties_and_decides_about_who_remains() {
    let (node, app) = node_with(false);
    let callee = Sipp::callee(&node, "callee-hangs-up").talks_ms(500).start();
    let dest = callee.uri();
    let caller = Sipp::caller(&node, "caller-is-released", "connect").dest(&dest).start();
    callee.end().ok();
    caller.end().ok();
    app.wait("sessionCompleted", 1);
    let call = app.find("newCall", 0);
    assert_eq!(call["xHeaders"]["x-dest"], json!(dest));
    let session = call["sessionId"].clone();
    // Order B.
    let order = app.order(&session);
    let news: Vec<&str> = order.iter().map(String::as_str).filter(|name| *name != "newCall" && *name != "callEvent").collect();
    assert_eq!(news, ["callNotify", "sessionCompleted"], "{order:?}");
    let ringing = app.find("callNotify", 0);
    assert_eq!((&ringing["event"], &ringing["monitoringParticipant"]), (&json!("ringing"), &json!(false)));
    assert_eq!(ringing["sessionReferenceId"], json!(20000));
    assert!(ringing["replyId"].is_string(), "IC-110: {ringing}");
    // callAnswered has no sessionId on the vendor's page: the connection tells.
    let answered = app.find("callAnswered", 0);
    let event = app.find("callEvent", 0);
    assert_eq!((&event["event"], &event["connectionId"]), (&json!("calledPartyDrop"), &answered["connectionId"]));
    assert_eq!(event["participantId"], answered["calleeParticipantId"]);
    assert_eq!(app.find("sessionCompleted", 0)["reason"], json!("calledPartyHangup"));
}

#[test]
fn ic_125_195_to_199_a_number_in_in_mode_is_identified_by_the_application() {
    let (node, app) = node_with(false);
    node.cli(&["tenant", "put", "demo.localhost", "--in-number", "90*"]).ok();
    node.phone("9017").dtmf("1@2s").seconds("20").run().ok();
    app.wait("sessionCompleted", 1);
    let asked = app.find("getCallIdentifier", 0);
    assert_eq!((&asked["calledParty"], asked["sessionId"].as_str().map(str::len)), (&json!("9017"), Some(36)));
    let command = app.find("getIvrCommand", 0);
    assert_eq!((&command["sessionId"], &command["sessionReferenceId"]), (&asked["sessionId"], &json!({ "number": "9017", "asked": 0 })));
    assert!(app.heard().iter().all(|line| line["callback"] != "newCall"), "{:#?}", app.heard());
}

#[test]
fn ic_295_a_fallback_and_its_prompt_outlive_the_application_and_the_node() {
    const DOMAIN: &str = "demo.localhost";
    const HZ: f64 = 1200.0;
    let (mut node, app) = node_with(false);
    let prompts = node.data().join("prompts").join(DOMAIN);
    write_wav(&prompts.join("closed.wav"), &tone(HZ, 1.5));
    let token = node.json(&["tenant", "token", DOMAIN, "office", "--json"])["token"].as_str().expect("a token").to_owned();
    let command = json!({ "phrases": [{ "format": "file", "fileName": "closed.wav" }], "action": { "type": "hangup" } });
    let (status, answer) =
        node.post(&format!("/{DOMAIN}/ivrfallback/lost"), &token, &json!({ "mode": "onError", "expiration": "DAY", "command": command }));
    assert_eq!(status, 201, "{answer}");
    // Nobody is left who could be asked, neither for a decision nor for the prompt.
    drop(app);
    node.kill();
    node.start();
    let heard = node.file("heard.wav");
    node.phone("lost").record(&heard).seconds("20").run().ok().says("<- BYE");
    let tones = heard_tones(&read_wav(&heard), &[HZ]);
    assert!(tones.len() == 1 && tones[0].1 > 1.2, "{tones:?}");
}
