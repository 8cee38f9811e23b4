//! What fails around a recording costs the call nothing: it goes on, the recording reaches one end, and what happened is said.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{read_wav, write_wav};
use hookswitch_tests::node::{Node, address, wait_for};
use hookswitch_tests::s3::{BUCKET, KEY_ID, S3, SECRET};
use serde_json::Value;

const DEMO: &str = "demo.localhost";

/// A node whose demo tenant has a copy of every recording in its storage.
fn node(s3: &S3) -> Node {
    let node = Node::with(true, &[("HOOKSWITCH_STORAGE_SECRET", SECRET)]);
    set_storage(&node, s3).ok();
    node
}

fn set_storage(node: &Node, s3: &S3) -> hookswitch_tests::node::Run {
    let url = format!("s3://{BUCKET}/in");
    node.cli(&["tenant", "storage", "set", DEMO, &url, "--endpoint", &s3.endpoint(), "--key-id", KEY_ID, "--every"])
}

/// Somebody leaves a message of some seconds and hangs up by `#`.
fn message(node: &Node) {
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(200));
    node.phone("voicemail").play(&said).dtmf("#@4s").run().ok().says("digit #").says("<- BYE");
}

fn delivery(node: &Node, id: &str) -> Value {
    let text = node.http(&format!("/{DEMO}/recordings/{id}")).expect("the recording is known");
    serde_json::from_str::<Value>(&text).expect("JSON")["delivery"].clone()
}

fn wait_delivered(node: &Node, s3: &S3, id: &str) {
    wait_for("the recording in its storage", || delivery(node, id)["state"] == "available");
    let objects = s3.objects(&format!("in/{id}"));
    let audio = objects.iter().find(|(name, _)| name.ends_with(".wav")).expect("the audio is there");
    let here = std::fs::read(node.fetch(id)).expect("the audio is here");
    assert!(audio.1 == here, "the same bytes here and there");
}

/// Lines of the log that tell of the end of this recording's delivery.
fn ends(node: &Node, id: &str) -> Vec<String> {
    let end = |line: &&str| line.contains(id) && (line.contains("recording delivered") || line.contains("recording not delivered"));
    node.log().lines().filter(end).map(str::to_owned).collect()
}

fn whole(node: &Node, id: &str) {
    node.cli(&["recording", "verify", id]).ok();
    let tally = Tally::of(&read_wav(&node.fetch(id)));
    assert!(tally.whole() && tally.numbered > 75, "{tally:?}");
}

#[test]
fn a_storage_that_is_away_delays_the_delivery_and_nothing_else() {
    let mut s3 = S3::start(address());
    let node = node(&s3);
    s3.go_away();
    message(&node);
    let id = node.recording()["id"].as_str().expect("an id").to_owned();
    whole(&node, &id);
    wait_for("a try that failed", || delivery(&node, &id)["attempts"].as_u64().is_some_and(|attempts| attempts > 0));
    let waiting = delivery(&node, &id);
    assert_eq!(waiting["state"], "uploading");
    assert!(waiting["why"].as_str().is_some_and(|why| why.contains("not connected")), "{waiting}");
    s3.come_back();
    wait_delivered(&node, &s3, &id);
    assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
    assert!(!node.log().contains(SECRET), "no secret in the log");
}

#[test]
fn a_storage_that_answers_errors_is_asked_again() {
    let s3 = S3::start(address());
    let node = node(&s3);
    for status in [503, 403] {
        s3.answers(status);
        let before = node.recordings().len();
        message(&node);
        wait_for("the recording", || node.recordings().len() == before + 1);
        let id = node.recordings()[0]["id"].as_str().expect("an id").to_owned();
        whole(&node, &id);
        wait_for("the reason", || delivery(&node, &id)["why"].as_str().is_some_and(|why| why.contains(&status.to_string())));
        s3.works();
        wait_delivered(&node, &s3, &id);
        assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
    }
}

#[test]
fn a_node_that_is_killed_delivers_what_waited() {
    let mut s3 = S3::start(address());
    let mut node = node(&s3);
    s3.go_away();
    message(&node);
    let id = node.recording()["id"].as_str().expect("an id").to_owned();
    node.kill();
    s3.come_back();
    node.start();
    wait_delivered(&node, &s3, &id);
    assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
    whole(&node, &id);
}

#[test]
fn a_recording_that_a_kill_cut_short_is_repaired_and_delivered() {
    let s3 = S3::start(address());
    let mut node = node(&s3);
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(1000));
    let call = node.phone("voicemail").play(&said).seconds("15").start();
    wait_for("three seconds of it on disk", || {
        let spool = std::fs::read_dir(node.data().join("spool")).expect("the spool").flatten();
        spool.filter_map(|file| file.metadata().ok()).any(|file| file.is_file() && file.len() > 48_000)
    });
    node.kill();
    node.start();
    let id = node.recording()["id"].as_str().expect("an id").to_owned();
    wait_delivered(&node, &s3, &id);
    assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
    whole(&node, &id);
    drop(call);
}

#[test]
fn a_storage_that_refuses_is_said_when_it_is_set() {
    let s3 = S3::start(address());
    let node = Node::with(true, &[("HOOKSWITCH_STORAGE_SECRET", "wrong")]);
    set_storage(&node, &s3).ok().says("does not work now").says("403");
    let shown = node.cli(&["tenant", "storage", "show", DEMO]);
    shown.ok().says("s3://calls/in").says("every recording");
    assert!(!shown.stdout.contains(KEY_ID), "{shown}");
}
