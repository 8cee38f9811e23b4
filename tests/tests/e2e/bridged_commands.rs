//! A back office commands calls of two parties over REST: it splits, joins, records and releases them, and places calls of its own.

use hookswitch_tests::audio::{ffprobe, heard_tones, read_stereo, read_wav, tone, write_wav};
use hookswitch_tests::guests::two_party;
use hookswitch_tests::node::{Node, wait_for};
use hookswitch_tests::sipp::Sipp;
use serde_json::{Value, json};

const DOMAIN: &str = "demo.localhost";
const CALLER: f64 = 440.0;
/// What the handler's IVR plays.
const IVR: f64 = 660.0;
const MUSIC: f64 = 1200.0;

/// What the handler was told of a connection.
#[derive(Clone, Debug)]
struct Connection {
    session: String,
    id: String,
    caller: String,
    callee: String,
    reply_id: String,
}

struct Office {
    node: Node,
    token: String,
}

impl Office {
    fn open() -> Office {
        let node = two_party();
        let token = node.json(&["tenant", "token", DOMAIN, "office", "--json"])["token"].as_str().expect("a token").to_owned();
        Office { node, token }
    }

    /// The handler's lines that begin so, oldest first.
    fn told(&self, word: &str) -> Vec<String> {
        let log = self.node.json(&["guest", "logs", "--domain", DOMAIN, "--json"]);
        let lines = log["log"].as_array().expect("a log").iter().rev().filter_map(|line| line["text"].as_str());
        lines.filter(|line| line.split(' ').next() == Some(word)).map(str::to_owned).collect()
    }

    /// The connection that the handler was told of as the `count`th one.
    #[track_caller]
    fn connection(&self, count: usize) -> Connection {
        let mut lines = Vec::new();
        wait_for(&format!("connection {count}"), || {
            lines = self.told("connected");
            lines.len() >= count
        });
        let mut words = lines[count - 1].split(' ').skip(1).map(str::to_owned);
        let mut next = || words.next().expect("five words");
        Connection { session: next(), id: next(), caller: next(), callee: next(), reply_id: next() }
    }

    #[track_caller]
    fn post(&self, operation: &str, body: &Value, wanted: u16) -> Value {
        let (status, answer) = self.node.post(&format!("/{DOMAIN}/{operation}"), &self.token, body);
        assert_eq!(status, wanted, "{operation} {body}: {answer}");
        answer
    }

    fn hear(&self, seconds: f64) {
        let received = || self.node.metric("hookswitch_media_packets_total", &["direction=\"in\""]);
        let before = received();
        wait_for("more packets", || received() >= before + 50.0 * seconds);
    }

    /// One recording, once it is stored and the handler knows.
    #[track_caller]
    fn recorded(&self, file_name: &str) -> Value {
        let recording = self.node.recording();
        wait_for("recordingReady", || self.told("recorded") == [format!("recorded {file_name} true")]);
        recording
    }
}

#[test]
fn ic_030_031_032_147_148_both_parties_of_a_split_go_to_the_ivr() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-answers").start();
    let heard = office.node.file("heard.wav");
    let phone = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).header("X-Then: ivr").record(&heard);
    let call = phone.seconds("20").start();
    let connection = office.connection(1);
    let split = json!({ "replyId": connection.reply_id, "connectionId": connection.id });
    office.post("splitconnection", &json!({ "replyId": connection.reply_id, "connectionId": "another" }), 404);
    office.post("splitconnection", &split, 200);
    // Each has a connection of its own with the IVR, which plays once and hangs up.
    let (one, other) = (office.connection(2), office.connection(3));
    assert!(one.session == connection.session && other.session == connection.session, "still one session");
    let mut callers = [one.caller.as_str(), other.caller.as_str()];
    callers.sort_unstable();
    let mut parties = [connection.caller.as_str(), connection.callee.as_str()];
    parties.sort_unstable();
    assert_eq!(callers, parties);
    office.post("splitconnection", &split, 404);
    call.end().ok().says("<- BYE");
    callee.end().ok();
    assert_eq!(heard_tones(&read_wav(&heard), &[IVR]).len(), 1, "the caller heard the IVR");
}

#[test]
fn ic_032_162_two_parties_are_joined_again_after_a_split() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-answers").echoes().start();
    let said = office.node.file("said.wav");
    write_wav(&said, &tone(CALLER, 60.0));
    let heard = office.node.file("heard.wav");
    let phone = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).header("X-Then: join");
    let call = phone.play(&said).record(&heard).seconds("20").start();
    let first = office.connection(1);
    office.hear(1.0);
    office.post("splitconnection", &json!({ "replyId": first.reply_id, "connectionId": first.id }), 200);
    let second = office.connection(2);
    assert_ne!(second.id, first.id);
    assert_eq!((&second.caller, &second.callee), (&first.caller, &first.callee));
    office.hear(1.0);
    // The first connection's replyId still routes to the session.
    let hangup = json!({ "replyId": first.reply_id, "sessionId": first.session, "participantId": first.caller });
    office.post("hangupparticipant", &hangup, 200);
    call.end().ok().says("<- BYE");
    callee.end().ok();
    // The echo came back before and after.
    let seconds: f64 = heard_tones(&read_wav(&heard), &[CALLER]).iter().map(|(_, seconds)| seconds).sum();
    assert!(seconds > 0.8, "{seconds} s");
}

#[test]
fn ic_022_024_037_038_040_168_a_connection_is_recorded_on_command() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-answers").echoes().start();
    let said = office.node.file("said.wav");
    write_wav(&said, &tone(CALLER, 60.0));
    let call = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).play(&said).seconds("20").start();
    let connection = office.connection(1);
    let about = |name: &str| json!({ "replyId": connection.reply_id, "connectionId": connection.id, "recordingFileName": name });
    for bad in ["../kept.wav", "a/b.wav", "kept\u{7}.wav", "kept.flac", &"x".repeat(300)] {
        office.post("startrecording", &about(bad), 400);
    }
    office.post("stoprecording", &json!({ "replyId": connection.reply_id, "connectionId": connection.id }), 409);
    let started = office.post("startrecording", &about("kept.wav"), 200);
    assert_eq!(started["recordingFileName"], "kept.wav", "{started}");
    office.post("startrecording", &about("other.wav"), 409);
    office.hear(1.5);
    office.post("stoprecording", &json!({ "replyId": connection.reply_id, "connectionId": connection.id }), 200);
    let recording = office.recorded("kept.wav");
    assert_eq!(recording["id"], started["recordingId"], "{recording}");
    let id = recording["id"].as_str().expect("an id");
    office.node.cli(&["recording", "verify", id]).ok();
    let file = office.node.fetch(id);
    assert!((0.3..4.0).contains(&ffprobe(&file, 2)), "about a second");
    let (left, right) = read_stereo(&file);
    for side in [left, right] {
        assert!(heard_tones(&side, &[CALLER]).iter().map(|(_, seconds)| seconds).sum::<f64>() > 0.3, "the caller, and his echo");
    }
    // The call goes on.
    office.hear(0.5);
    let hangup = json!({ "replyId": connection.reply_id, "sessionId": connection.session, "participantId": connection.callee });
    office.post("hangupparticipant", &hangup, 200);
    callee.end().ok();
    call.end().ok().says("<- BYE");
}

#[test]
fn ic_029_the_party_that_remains_of_a_release_is_asked_about() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-answers").start();
    let heard = office.node.file("heard.wav");
    let phone = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).header("X-Then: ivr").record(&heard);
    let call = phone.seconds("20").start();
    let connection = office.connection(1);
    let hangup = json!({ "replyId": connection.reply_id, "sessionId": connection.session, "participantId": connection.callee });
    office.post("hangupparticipant", &hangup, 200);
    callee.end().ok();
    call.end().ok().says("<- BYE");
    assert_eq!(heard_tones(&read_wav(&heard), &[IVR]).len(), 1, "the caller went to the IVR");
}

#[test]
fn ic_060_placed_calls_reach_the_ivr_or_end() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-answers").start();
    let placed = office.post("placeivrcall", &json!({ "destAddr": callee.uri(), "sipFrom": "4670" }), 200);
    let connection = office.connection(1);
    assert_eq!(placed["sessionId"], json!(connection.session), "{placed}");
    // The IVR plays and hangs up.
    let run = callee.end();
    run.ok();
    assert!(run.stderr.contains("sip:4670@"), "{run}");
    let busy = Sipp::callee(&office.node, "callee-is-busy").start();
    office.post("placeivrcall", &json!({ "destAddr": busy.uri() }), 200);
    busy.end().ok();
    no_session(&office);
}

#[test]
fn ic_025_065_a_placed_call_that_rings_is_listed_and_cancelled() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-is-cancelled").start();
    let placed = office.post("placeivrcall", &json!({ "destAddr": callee.uri() }), 200);
    let sessions = office.node.json(&["session", "list", "--json"]);
    assert_eq!(sessions["sessions"][0]["id"], placed["sessionId"], "{sessions}");
    let hangup = json!({ "replyId": placed["replyId"], "sessionId": placed["sessionId"], "participantId": placed["participantId"] });
    office.post("hangupparticipant", &hangup, 200);
    callee.end().ok();
    no_session(&office);
}

#[test]
fn ic_300_a_callee_is_transferred_and_the_handler_hears_how_it_goes() {
    let office = Office::open();
    let callee = Sipp::callee(&office.node, "callee-is-transferred").start();
    let heard = office.node.file("heard.wav");
    let phone = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).header("X-Then: ivr").record(&heard);
    let call = phone.seconds("20").start();
    let connection = office.connection(1);
    let about = |to: &str| json!({ "replyId": connection.reply_id, "participantId": connection.callee, "destAddr": to });
    office.post("transfer", &about("sip:carol@192.0.2.66"), 400);
    office.post("transfer", &about("sip:carol@127.0.0.99"), 200);
    callee.end().ok();
    let told = ["transfer 202 false", "transfer 100 false", "transfer 180 false", "transfer 200 true"];
    wait_for("the end of the transfer", || office.told("transfer") == told);
    // Who remains is asked about, as after any hang-up.
    call.end().ok().says("<- BYE");
    assert_eq!(heard_tones(&read_wav(&heard), &[IVR]).len(), 1, "the caller went to the IVR");
    no_session(&office);
}

#[test]
fn ic_300_a_held_party_hears_music_and_comes_back() {
    let office = Office::open();
    let music = office.node.file("music.wav");
    write_wav(&music, &tone(MUSIC, 1.0));
    let prompts = office.node.data().join("prompts").join(DOMAIN);
    std::fs::copy(&music, prompts.join("music.wav")).expect("the demo tenant has prompts");
    let callee = Sipp::callee(&office.node, "callee-answers").echoes().start();
    let said = office.node.file("said.wav");
    write_wav(&said, &tone(CALLER, 60.0));
    let heard = office.node.file("heard.wav");
    let phone = office.node.phone("bridge").header(&format!("X-Dest: {}", callee.uri())).play(&said).record(&heard);
    let call = phone.seconds("30").start();
    let connection = office.connection(1);
    office.hear(1.0);
    let about = |more: Value| {
        let mut body = json!({ "replyId": connection.reply_id, "participantId": connection.caller });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    office.post("hold", &about(json!({ "fileName": "music.wav" })), 200);
    // The callee goes on sending; longer than the prompt, so that it comes round.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    office.post("resume", &about(json!({})), 200);
    office.hear(1.0);
    // Muted, its echo is gone.
    office.post("mute", &about(json!({ "direction": "speak" })), 200);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let hangup = json!({ "replyId": connection.reply_id, "sessionId": connection.session, "participantId": connection.caller });
    office.post("hangupparticipant", &hangup, 200);
    call.end().ok().says("<- BYE");
    callee.end().ok();
    let samples = read_wav(&heard);
    let tones = heard_tones(&samples, &[CALLER, MUSIC]);
    let mut order: Vec<f64> = tones.iter().map(|(hz, _)| *hz).collect();
    order.dedup();
    assert_eq!(order, [CALLER, MUSIC, CALLER], "{tones:?}");
    let music: f64 = tones.iter().filter(|(hz, _)| *hz == MUSIC).map(|(_, seconds)| seconds).sum();
    assert!(music > 1.2, "it comes round: {tones:?}");
    assert!(heard_tones(&samples[samples.len().saturating_sub(8000)..], &[CALLER]).is_empty(), "muted at the end: {tones:?}");
}

#[track_caller]
fn no_session(office: &Office) {
    wait_for("no session", || office.node.json(&["session", "list", "--json"])["sessions"] == json!([]));
}
