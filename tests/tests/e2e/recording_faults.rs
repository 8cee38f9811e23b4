//! What fails around a recording costs the call nothing: it goes on, the recording reaches one end, its handler is told of it, and
//! `recording verify` says what is true of it. Disk, clock, storage and node fail, each as it does in the field.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{read_wav, write_wav};
use hookswitch_tests::faults::{Shim, Volume};
use hookswitch_tests::guests;
use hookswitch_tests::node::{Node, Run, TOKEN, address, wait_for};
use hookswitch_tests::s3::{BUCKET, KEY_ID, S3, SECRET};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

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

/// How this recording's delivery ended, by the log: that, and the event's id. Told again it is the same.
fn ends(node: &Node, id: &str) -> BTreeSet<String> {
    let log = node.log();
    let end = |line: &&str| line.contains(id) && (line.contains("recording delivered") || line.contains("recording not delivered"));
    let event = |line: &str| {
        let event = line.split_once("event=").and_then(|(_, rest)| rest.split_whitespace().next()).expect("an event's id");
        format!("{} {event}", line.contains("recording delivered"))
    };
    log.lines().filter(end).map(event).collect()
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
    for statuses in [&[503, 500][..], &[403]] {
        s3.answers(statuses[0]);
        let before = node.recordings().len();
        message(&node);
        wait_for("the recording", || node.recordings().len() == before + 1);
        let id = node.recordings()[0]["id"].as_str().expect("an id").to_owned();
        whole(&node, &id);
        for status in statuses {
            s3.answers(*status);
            wait_for("the reason", || delivery(&node, &id)["why"].as_str().is_some_and(|why| why.contains(&status.to_string())));
        }
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

/// A node whose handler records what its caller says until `#`, and writes down what it is told.
fn recorder(environment: &[(&str, &str)], volumes: &[Volume]) -> Node {
    Node::demo_on(guests::component("witness", 0), environment, volumes)
}

fn numbered_file(node: &Node, frames: u32) -> PathBuf {
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(frames));
    said
}

/// Somebody speaks until he presses `#`; the call must outlast that, whatever becomes of his words.
fn speak(node: &Node, seconds: u32) -> Run {
    let said = numbered_file(node, (seconds + 1) * 50);
    let call = node.phone("wav").play(&said).dtmf(&format!("#@{seconds}s")).run();
    call.ok().says("digit #").says("<- BYE").says("RTP flows");
    call
}

/// What the handler was told of a recording, by all runs of the node.
fn told(node: &Node, id: &str) -> Vec<String> {
    let (log, words) = (node.log(), format!("told of {id}: "));
    let told = |line: &str| Some(line.split_once(&words)?.1.split(" domain=").next()?.to_owned());
    log.lines().filter_map(told).collect()
}

/// The recording ended once, and its handler was told so: at least once, and never anything else.
fn one_end(node: &Node, id: &str, words: &str) {
    let mut news = Vec::new();
    wait_for("the handler is told", || {
        news = told(node, id);
        !news.is_empty()
    });
    assert!(news.iter().all(|line| *line == news[0] && line.contains(words)), "{words:?}: {news:?}");
    let is_end = |line: &&str| ["recording stored", "no recording", "recording repaired"].iter().any(|end| line.contains(end));
    let log = node.log();
    let ends: Vec<&str> = log.lines().filter(|line| line.contains(id)).filter(is_end).collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    let rows = node.recordings();
    let states: Vec<&Value> = rows.iter().filter(|row| row["id"] == id).map(|row| &row["state"]).collect();
    assert!(states == ["available"] || states == ["failed"], "{states:?}");
}

fn id_of(recording: &Value) -> String {
    recording["id"].as_str().expect("an id").to_owned()
}

/// Files of this kind that are being recorded.
fn spooled(node: &Node, extension: &str) -> Vec<PathBuf> {
    let spool = fs::read_dir(node.data().join("spool")).expect("the spool").flatten();
    spool.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|is| is == extension)).collect()
}

#[test]
fn a_kill_in_the_middle_of_an_upload_costs_no_part_twice() {
    let s3 = S3::start(address());
    let mut node = recorder(&[("HOOKSWITCH_STORAGE_SECRET", SECRET)], &[]);
    set_storage(&node, &s3).ok();
    let call = node.phone("wav").play(&numbered_file(&node, 300)).seconds("15").start();
    wait_for("two seconds of it on disk", || {
        spooled(&node, "wav").iter().any(|file| fs::metadata(file).is_ok_and(|about| about.len() > 32_000))
    });
    node.kill();
    drop(call);
    // Nobody wants to speak for 20 minutes in a test: what the crash left behind is made that long.
    let file = spooled(&node, "wav").remove(0);
    let mut file = File::options().append(true).open(file).expect("the file that a crash left");
    file.write_all(&vec![0; 320 * 65_536]).expect("room for it");
    drop(file);
    s3.keeps_silent_about("partNumber=3");
    node.start();
    let id = id_of(&node.recording());
    wait_for("its third part is under way", || s3.asked("PUT", &[&id, "partNumber=3"]) > 0);
    assert_eq!(s3.asked("PUT", &[&id, "partNumber=2"]), 1);
    node.kill();
    s3.works();
    node.start();
    wait_delivered(&node, &s3, &id);
    assert_eq!(s3.asked("POST", &[&id, "uploads"]), 1, "the upload was begun once");
    assert_eq!(s3.asked("PUT", &[&id, "partNumber=2"]), 1, "a part that was there is not sent again");
    assert_eq!(s3.asked("PUT", &[&id, "partNumber=3"]), 2);
    assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
    one_end(&node, &id, "successful true");
    node.cli(&["recording", "verify", &id]).ok().says("0 frames missing");
}

#[test]
fn ur_027_a_recording_that_a_crash_cut_off_and_whose_key_was_erased_fails_and_is_told_of() {
    let mut node = recorder(&[], &[]);
    node.cli(&["tenant", "recording-key", "set", DEMO]).ok();
    let keys = node.json(&["tenant", "recording-key", "list", DEMO, "--json"]);
    let key = keys["keys"][0]["name"].as_str().expect("a name").to_owned();
    let call = node.phone("wav").play(&numbered_file(&node, 300)).seconds("15").start();
    wait_for("two seconds of it on disk", || {
        spooled(&node, "log").iter().any(|file| fs::metadata(file).is_ok_and(|about| about.len() > 16_000))
    });
    node.cli(&["tenant", "recording-key", "erase", DEMO, &key]).ok();
    node.kill();
    drop(call);
    for _ in 0..2 {
        node.start();
        let failed = node.recording();
        assert_eq!((&failed["state"], &failed["stop_reason"]), (&"failed".into(), &"key_erased".into()), "{failed}");
        one_end(&node, &id_of(&failed), "successful false");
        assert!(spooled(&node, "log").is_empty(), "what nobody can read is not kept");
        node.kill();
    }
}

#[test]
fn a_full_disk_cuts_the_recording_and_not_the_call() {
    // 64 KB are 3.7 s.
    let node = recorder(&[], &[Volume { folder: "spool", kilobytes: 64 }]);
    speak(&node, 6);
    let recording = node.recording();
    let id = id_of(&recording);
    assert_eq!(recording["stop_reason"], "disk_full", "{recording}");
    one_end(&node, &id, "disk_full");
    let verified = node.cli(&["recording", "verify", &id]);
    verified.fails(&["not whole"]).says("frames of the call were not written: disk_full");
    // What the disk took is there as it was said.
    let tally = Tally::of(&read_wav(&node.fetch(&id)));
    assert!(tally.whole() && (100..200).contains(&tally.numbered), "{tally:?}");
    assert_eq!(node.metric("hookswitch_recordings_degraded_total", &["how=\"cut\""]), 1.0);
}

#[test]
fn a_disk_that_fills_before_a_recording_is_stored_only_delays_it() {
    let blobs = Volume { folder: "blobs", kilobytes: 32 };
    let node = recorder(&[], std::slice::from_ref(&blobs));
    speak(&node, 4);
    node.wait_log(&["a recording waits in the spool"]);
    assert_eq!(node.recordings().len(), 0, "not told before it is safe");
    blobs.open(&node, 4096);
    let id = id_of(&node.recording());
    one_end(&node, &id, "successful true");
    whole(&node, &id);
}

#[test]
fn a_folder_that_cannot_be_written_fails_the_recording_and_not_the_call() {
    let spool = Volume { folder: "spool", kilobytes: 1024 };
    let node = recorder(&[], std::slice::from_ref(&spool));
    spool.close(&node);
    speak(&node, 3);
    let failed = node.recording();
    assert_eq!((&failed["state"], &failed["stop_reason"]), (&"failed".into(), &"disk_error".into()), "{failed}");
    one_end(&node, &id_of(&failed), "successful false");
    node.cli(&["recording", "verify", &id_of(&failed)]).fails(&["not whole"]).says("its state is failed");
    spool.open(&node, 1024);
    speak(&node, 4);
    wait_for("the next one", || node.recordings().len() == 2);
    let id = id_of(&node.recordings()[0]);
    one_end(&node, &id, "successful true");
    whole(&node, &id);
}

#[test]
fn a_slow_disk_costs_neither_frames_nor_the_calls_time() {
    let shim = Shim::new();
    let node = recorder(&shim.environment(), &[]);
    // Two writes a second, each of a third of a second.
    shim.hold(Duration::from_millis(350));
    speak(&node, 6);
    shim.hold(Duration::ZERO);
    let id = id_of(&node.recording());
    assert!(shim.held() >= 8, "the disk was slow {} times", shim.held());
    one_end(&node, &id, "successful true");
    node.cli(&["recording", "verify", &id]).ok().says("0 frames missing, 0 concealed");
    let tally = Tally::of(&read_wav(&node.fetch(&id)));
    assert!(tally.whole() && tally.numbered > 250, "{tally:?}");
    assert_eq!(node.metric("hookswitch_recordings_degraded_total", &[]), 0.0);
}

#[test]
fn a_disk_with_errors_ends_the_recording_with_what_it_took() {
    let shim = Shim::new();
    let node = recorder(&shim.environment(), &[]);
    let said = numbered_file(&node, 400);
    let call = node.phone("wav").play(&said).dtmf("#@6s").start();
    wait_for("two seconds of it on disk", || {
        spooled(&node, "wav").iter().any(|file| fs::metadata(file).is_ok_and(|about| about.len() > 32_000))
    });
    const EIO: i32 = 5;
    shim.refuse(EIO);
    wait_for("the disk refuses", || node.log().contains("recording failed, the call goes on"));
    shim.refuse(0);
    call.end().ok().says("digit #").says("<- BYE");
    let recording = node.recording();
    let id = id_of(&recording);
    assert_eq!(recording["stop_reason"], "disk_error", "{recording}");
    one_end(&node, &id, "disk_error");
    node.cli(&["recording", "verify", &id]).fails(&["not whole"]).says("were not written: disk_error");
    assert!(Tally::of(&read_wav(&node.fetch(&id))).whole());
}

#[test]
fn a_clock_that_jumps_is_not_noticed_by_a_recording() {
    let mut s3 = S3::start(address());
    let shim = Shim::new();
    let mut environment = shim.environment();
    environment.push(("HOOKSWITCH_STORAGE_SECRET", SECRET));
    let node = recorder(&environment, &[]);
    set_storage(&node, &s3).ok();
    s3.go_away();
    let said = numbered_file(&node, 400);
    let call = node.phone("wav").play(&said).dtmf("#@6s").start();
    for (bytes, seconds) in [(32_000, 3600), (56_000, -3600)] {
        wait_for("some of it on disk", || {
            spooled(&node, "wav").iter().any(|file| fs::metadata(file).is_ok_and(|about| about.len() > bytes))
        });
        shim.set_clock(seconds);
    }
    call.end().ok().says("digit #").says("<- BYE");
    let recording = node.recording();
    let id = id_of(&recording);
    one_end(&node, &id, "successful true");
    whole(&node, &id);
    let sidecar: Value = serde_json::from_str(recording["sidecar"].as_str().expect("a sidecar")).expect("JSON");
    let said = |field: &str| sidecar["recording"][field].as_u64().unwrap_or_else(|| panic!("no {field} in {sidecar}"));
    let lasted = said("ended_at_ms").checked_sub(said("started_at_ms")).expect("it ended after it had begun");
    assert!(lasted.abs_diff(said("duration_ms")) < 1500, "{lasted} ms by the clock, {sidecar}");
    // By the clock it is too old then, and the next try is days away when the clock is set back.
    let attempts = || delivery(&node, &id)["attempts"].as_u64().unwrap_or(0);
    for seconds in [100 * 3600, 0] {
        let before = attempts();
        shim.set_clock(seconds);
        wait_for("a try that failed", || attempts() > before);
    }
    s3.come_back();
    wait_delivered(&node, &s3, &id);
    assert_eq!(ends(&node, &id).len(), 1, "one end: {:?}", ends(&node, &id));
}

#[test]
fn ur_010_a_recording_whose_encoder_the_machine_lacks_is_refused_when_it_is_asked_for() {
    let shim = Shim::new();
    let mut environment = shim.environment();
    environment.push(("TEST_MISSING", "libmp3lame"));
    let node = recorder(&environment, &[]);
    node.wait_log(&["recordings as mp3 are refused", "libmp3lame.so.0"]);
    let call = node.phone("wav").play(&numbered_file(&node, 300)).dtmf("#@5s").start();
    let mut session = Value::Null;
    wait_for("the call is up", || {
        session = node.json(&["session", "list", "--json"]).pointer("/sessions/0/id").cloned().unwrap_or_default();
        session.is_string()
    });
    let path = format!("/{DEMO}/recordings");
    for (options, field) in [(json!({ "container": "mp3" }), "container"), (json!({ "fileName": "x.mp3" }), "fileName")] {
        let (status, answer) = node.post(&path, TOKEN, &json!({ "sessionId": session, "options": options }));
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(field) && message.contains("libmp3lame.so.0"), "{status} {answer}");
    }
    call.end().ok().says("<- BYE");
    let rows = node.recordings();
    assert!(rows.iter().all(|row| row["file_name"].as_str().is_some_and(|name| name.ends_with(".wav"))), "{rows:?}");
}
