//! A handler that uses all that the node offers beside the call: settings, secrets, values, prompts, requests, posts, timers and its log.

use hookswitch_tests::guests;
use hookswitch_tests::node::{Node, address, wait_for};
use hookswitch_tests::receiver::Receiver;
use serde_json::Value;
use std::fs;
use std::process::Child;

const SECRET: &str = "t0ken-that-nobody-may-see";

/// Ended when it is dropped.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_handler_uses_all_that_the_node_offers_and_nobody_sees_its_secret() {
    const DEMO: &str = "demo.localhost";
    let component = guests::component("hosts", 0);
    let mut node = Node::demo_of(component.clone());
    let receiver = Receiver::start(address(), b"Bob".to_vec());
    node.cli(&["guest", "config", "set", "url", &receiver.url("")]).ok();
    node.cli(&["guest", "config", "set", "greeting", "hello"]).ok();
    node.cli(&["guest", "config", "set", "tries", "3"]).ok();
    node.cli(&["guest", "config", "list"]).ok().says("greeting  hello");
    node.keep_secret(DEMO, "token", SECRET);
    let shown = node.cli(&["guest", "secret", "list"]);
    assert!(!shown.ok().says("token").stdout.contains(SECRET), "{shown}");

    let followed = node.file("followed.jsonl");
    let out = fs::File::create(&followed).expect("a file");
    let _follower = Follower(node.command(&["guest", "logs", "--follow", "--json"]).stdout(out).spawn().expect("the binary runs"));
    node.phone("ivr").seconds("8").run().ok();

    wait_for("the post of the timer", || !receiver.posted("told").is_empty());
    let lines = node.guest_log(DEMO);
    for expected in [
        "greeting Some(\"hello\"), tries Some(3)",
        "the secret is [secret], which should not be here",
        "calls 1",
        "set-if true false: Some(\"two\")",
        "keys [\"a/1\", \"a/4\"], a/4 Some(\"x\")",
        "store: HostError::BadValue(\"key: 0 bytes; 1 to 256\")",
        "prompt of 1644 bytes and Some(100) ms, [82, 73, 70, 70]",
        "prompt: Some(HostError::Unknown(\"file\"))",
        "prompt: HostError::BadValue(\"file-name: ",
        "prompt: HostError::BadValue(\"content: ",
        "fetched 200 \"Bob\"",
        "posted 204",
        "denied: url: ",
        "limit: fetches: 4 for each hook",
        "limit reached: fetches: 4 for each hook",
        "timer: HostError::BadValue(\"after-ms: 10 to 14400000 are possible\")",
        "timer tick is due",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("never") || line.contains("went there")), "{lines:#?}");
    let asked = receiver.posted("look");
    assert!(asked.len() == 1 && asked[0].headers.contains(&format!("authorization: bearer {SECRET}")), "{asked:?}");
    assert_eq!(asked[0].body["who"], "alice");

    // Nor does whoever asks why the call went so.
    let calls: Value = serde_json::from_str(&node.http(&format!("/{DEMO}/calls")).expect("it answers")).expect("JSON");
    let session = calls["calls"][0]["session"].as_str().expect("a call");
    let explained = node.cli(&["session", "explain", session, "--json"]);
    explained.ok().says("the secret is [secret]").says("timers.set").says("timer tick is due");
    assert!(!explained.stdout.contains(SECRET), "{explained}");

    // Whoever follows sees the same as it is written.
    wait_for("the followed line", || fs::read_to_string(&followed).unwrap_or_default().contains("timer tick is due"));
    let text = fs::read_to_string(&followed).expect("readable");
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["text"].is_string())), "{text}");
    for (what, text) in [("log of the tenant", lines.join("\n")), ("followed log", text), ("log of the node", node.log())] {
        assert!(!text.contains(SECRET), "the secret is in the {what}: {text}");
    }
    for file in fs::read_dir(node.data()).expect("there").flatten().filter(|file| file.path().is_file()) {
        let bytes = fs::read(file.path()).expect("readable");
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "the secret is in {:?}", file.file_name());
    }

    // What was wrong with an upload is said to its tenant, too.
    let bad = node.file("bad.wasm");
    fs::write(&bad, b"nonsense").expect("a file");
    node.cli(&["guest", "push", bad.to_str().expect("our paths are UTF-8")]).fails(&["not WebAssembly"]);
    assert!(node.guest_log(DEMO).iter().any(|line| line.starts_with("component refused: ") && line.contains("not WebAssembly")));

    // Another tenant with the same handler sees none of it and may ask nowhere.
    let other = "other.localhost";
    node.cli(&["tenant", "put", other, "--number", "other"]).ok();
    node.cli(&["guest", "push", component.to_str().expect("our paths are UTF-8"), "--domain", other]).ok();
    node.cli(&["guest", "config", "set", "url", &receiver.url(""), "--domain", other]).ok();
    node.phone("other").seconds("8").run().ok();
    let lines = node.guest_log(other);
    for expected in
        ["greeting None, tries None", "no secret: HostError::Unknown(\"secret\")", "calls 1", "fetch: HostError::Denied(\"url: "]
    {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:#?}");
    }
    assert_eq!(receiver.posted("look").len(), 1, "it went there");

    // What was kept is there after a crash; a value that was counted up goes on from there, and a setting that is gone is gone.
    node.cli(&["guest", "config", "remove", "greeting"]).ok();
    node.kill();
    node.start();
    node.phone("ivr").seconds("8").run().ok();
    let lines = node.guest_log(DEMO);
    for expected in ["greeting None, tries Some(3)", "calls 2", "the secret is [secret]", "keys [\"a/1\", \"a/4\"], a/4 Some(\"xx\")"] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:#?}");
    }
}
