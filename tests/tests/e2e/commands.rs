//! A back office commands calls over REST, with what its handler was told and with a token of its own.

use hookswitch_tests::guests::component;
use hookswitch_tests::node::{Node, wait_for};
use serde_json::{Value, json};

const DOMAIN: &str = "replies.localhost";

/// What the handler was told with a getIvrCommand.
struct Told {
    how: String,
    session: String,
    participant: String,
    reply_id: String,
}

/// A node with a tenant whose handler tells its replyIds, and a token of that tenant.
fn office() -> (Node, String) {
    let node = Node::demo();
    node.cli(&["tenant", "put", DOMAIN, "--number", "office"]).ok();
    let guest = component("replies", 440);
    node.cli(&["guest", "push", guest.to_str().expect("our paths are UTF-8"), "--domain", DOMAIN]).ok();
    let token = node.json(&["tenant", "token", DOMAIN, "office", "--json"])["token"].as_str().expect("a token").to_owned();
    (node, token)
}

/// The handler's lines so far, oldest first; waits until there are so many.
fn told(node: &Node, count: usize) -> Vec<Told> {
    let mut lines = Vec::new();
    wait_for(&format!("{count} questions to the handler"), || {
        let log = node.json(&["guest", "logs", "--domain", DOMAIN, "--json"]);
        lines = log["log"].as_array().expect("a log").iter().rev().filter_map(|line| line["text"].as_str().map(str::to_owned)).collect();
        lines.len() >= count
    });
    let read = |line: &String| {
        let mut words = line.split(' ').map(str::to_owned);
        let mut next = || words.next().expect("four words");
        Told { how: next(), session: next(), participant: next(), reply_id: next() }
    };
    lines.iter().map(read).collect()
}

#[test]
fn ic_007_026_027_028_079_081_a_back_office_commands_a_call() {
    let (node, token) = office();
    let call = node.phone("office").seconds("40").start();
    let first = told(&node, 1).remove(0);
    assert_eq!(first.how, "asked");
    let post = |operation: &str, body: &Value| node.post(&format!("/{DOMAIN}/{operation}"), &token, body);

    // The call is listed while it is up, for the tenant and the operator.
    let sessions = node.json(&["session", "list", "--domain", DOMAIN, "--json"]);
    assert_eq!(sessions["sessions"][0]["id"], json!(first.session), "{sessions}");

    let (status, answer) = post("interruptivrcommand", &json!({ "replyId": first.reply_id, "sessionId": first.session }));
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    let second = told(&node, 2).remove(1);
    assert_eq!((second.how.as_str(), &second.session), ("interrupted", &first.session));
    assert_ne!(second.reply_id, first.reply_id, "each command has its own");

    // What is wrong changes nothing.
    for (body, wanted) in [
        (json!({ "replyId": second.reply_id, "sessionId": first.session, "participantId": "nobody" }), 404),
        (json!({ "replyId": second.reply_id, "sessionId": "another", "participantId": first.participant }), 400),
        (json!({ "replyId": format!("{}x", second.reply_id), "sessionId": first.session, "participantId": first.participant }), 401),
    ] {
        let (status, answer) = post("hangupparticipant", &body);
        assert_eq!(status, wanted, "{answer}");
    }
    let good = json!({ "replyId": second.reply_id, "sessionId": first.session, "participantId": first.participant });
    let (status, answer) = node.post("/demo.localhost/hangupparticipant", &token, &good);
    assert_eq!(status, 403, "{answer}");
    assert_eq!(told(&node, 2).len(), 2, "the call goes on as it did");

    let (status, answer) = post("hangupparticipant", &good);
    assert_eq!((status, answer), (200, json!({ "success": true })));
    call.end().ok().says("<- BYE");
    wait_for("no session", || node.json(&["session", "list", "--json"])["sessions"] == json!([]));
    let calls = node.http(&format!("/{DOMAIN}/calls")).expect("a list");
    assert!(calls.contains("apiHangup"), "{calls}");
}

#[test]
fn ic_011_reply_ids_survive_a_rotation_of_their_key() {
    let (node, token) = office();
    let call = node.phone("office").seconds("40").start();
    let first = told(&node, 1).remove(0);
    node.cli(&["reply-keys", "rotate"]).ok();
    let body = json!({ "replyId": first.reply_id, "sessionId": first.session });
    let (status, answer) = node.post(&format!("/{DOMAIN}/interruptivrcommand"), &token, &body);
    assert_eq!(status, 200, "{answer}");
    let second = told(&node, 2).remove(1);
    assert_ne!(first.reply_id.split('.').next(), second.reply_id.split('.').next(), "signed with the new key");
    // The operator's way, which needs no replyId.
    node.cli(&["session", "interrupt", &first.session]).ok();
    told(&node, 3);
    node.cli(&["session", "hangup", &first.session, &first.participant]).ok();
    call.end().ok().says("<- BYE");
    node.cli(&["session", "interrupt", &first.session]).fails(&["unknown session", "404"]);

    // The keys are the node's alone, and neither they nor the tokens are in its log.
    let keys = node.data().join("reply-keys");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(keys).expect("there").permissions());
    assert_eq!(mode & 0o077, 0);
    assert!(!node.log().contains(&token), "tokens are not logged");
}
