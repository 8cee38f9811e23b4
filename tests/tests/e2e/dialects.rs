//! Applications of other vendors on a real node: their requests come in, their callbacks go out by the real outbox, and what was recorded
//! is fetched as they fetch it.

use hookswitch_tests::audio::{heard_tones, read_wav, silence, tone, write_wav};
use hookswitch_tests::node::{Node, Running, address, component, wait_for};
use hookswitch_tests::peer::require;
use hookswitch_tests::receiver::Receiver;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const DOMAIN: &str = "demo.localhost";
/// What the caller says.
const CALLER: f64 = 440.0;

/// An application: its node, what it asks with, and where it hears.
struct App {
    node: Node,
    token: String,
    receiver: Receiver,
}

impl App {
    /// With this handler of the examples. `file` is what the application's own server gives.
    fn with(guest: &str, file: Vec<u8>) -> App {
        let node = Node::demo_of(component(guest));
        let token = node.json(&["tenant", "token", DOMAIN, "app", "--json"])["token"].as_str().expect("a token").to_owned();
        App { node, token, receiver: Receiver::start(address(), file) }
    }

    /// A caller who speaks for so long; and the session of his call.
    fn call(&self, number: &str, seconds: f64, digits: Option<&str>, headers: &[String]) -> (Running, String) {
        let said = self.node.file("said.wav");
        write_wav(&said, &tone(CALLER, seconds));
        let mut phone = self.node.phone(number).play(&said).seconds("30");
        if let Some(digits) = digits {
            phone = phone.dtmf(digits);
        }
        for header in headers {
            phone = phone.header(header);
        }
        let call = phone.start();
        (call, self.session())
    }

    /// Of the call that is up, once it is.
    fn session(&self) -> String {
        let mut session = None;
        wait_for("a call", || {
            let list: Value = serde_json::from_str(&self.node.http(&format!("/{DOMAIN}/sessions")).expect("it answers")).expect("JSON");
            session = list["sessions"][0]["id"].as_str().map(str::to_owned);
            session.is_some()
        });
        session.expect("waited for")
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.node.post(&format!("/{DOMAIN}/{path}"), &self.token, body)
    }

    /// Status, content type and body of a URL as news gave it.
    fn fetch(&self, url: &str, token: Option<&str>) -> (u16, String, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.get(url);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().expect("an answer");
        let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        (answer.status().as_u16(), kind, answer.body_mut().read_to_vec().expect("a body"))
    }

    /// The only post to this path, once it is there.
    #[track_caller]
    fn posted(&self, path: &str) -> Value {
        wait_for(&format!("a post to {path}"), || !self.receiver.posted(path).is_empty());
        let all = self.receiver.posted(path);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].headers.contains("hookswitch-event-id: "), "{}", all[0].headers);
        all[0].body.clone()
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.node.file(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

/// What ffprobe thinks of a file: codec, rate, channels.
fn probed(path: &Path) -> String {
    require("ffprobe", "ffmpeg");
    let entries = ["-show_entries", "stream=codec_name,sample_rate,channels", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(["-v", "error"]).args(entries).arg(path).output().expect("ffprobe runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn prompt() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompt.wav");
    write_wav(&path, &tone(880.0, 0.5));
    std::fs::read(&path).expect("written")
}

#[test]
fn mg_001_007_019_022_029_030_031_034_035_037_038_a_bot_asks_for_a_reply_and_fetches_it() {
    let app = App::with("graph-record", prompt());
    let (call, session) = app.call("bot", 30.0, Some("#@6s"), &["X-Held: yes".to_owned()]);
    let calls = format!("graph/communications/calls/{}", session.replace('-', "").to_uppercase());
    let body = json!({
        "bargeInAllowed": true,
        "clientContext": "reply-1",
        "prompts": [{ "@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": { "uri": app.receiver.url("prompt.wav"), "resourceId": "p1" } }],
        "maxRecordDurationInSeconds": 20,
        "stopTones": ["#"],
        "callbackUri": app.receiver.url("graph"),
    });
    assert_eq!(app.node.post(&format!("/{DOMAIN}/{calls}/recordResponse"), "guess", &body).0, 401);
    let (code, operation) = app.post(&format!("{calls}/recordResponse"), &body);
    assert_eq!((code, &operation["clientContext"]), (200, &json!("reply-1")), "{operation}");
    let id = operation["id"].as_str().expect("an id").to_owned();
    let poll = || {
        let path = format!("/{DOMAIN}/{calls}/operations/{}", id.replace('-', "").to_uppercase());
        serde_json::from_str::<Value>(&app.node.http(&path).expect("it answers")).expect("JSON")
    };
    wait_for("it runs", || poll()["status"] == "running");
    call.end().ok().says("digit #");

    let news = app.posted("graph");
    let data = &news["value"][0]["resourceData"];
    assert_eq!(news["value"][0]["changeType"], json!("deleted"));
    assert_eq!((&data["status"], &data["completionReason"], &data["id"]), (&json!("completed"), &json!("stopToneDetected"), &json!(id)));
    let location = data["recordingLocation"].as_str().expect("a location");
    let token = data["recordingAccessToken"].as_str().expect("a token");
    assert!(location.starts_with(&format!("http://{}/{DOMAIN}/recordings/{id}/", app.node.api())), "{location}");
    assert_eq!(app.fetch(location, None).0, 401);
    let (code, kind, audio) = app.fetch(location, Some(token));
    assert_eq!((code, kind.as_str()), (200, "application/octet-stream"));
    let file = app.keep("reply.wav", &audio);
    assert_eq!(probed(&file), "pcm_s16le,16000,1");
    // That file and nothing else; what polls hears no token.
    assert_eq!(app.fetch(&format!("http://{}/{DOMAIN}/recordings", app.node.api()), Some(token)).0, 401);
    let polled = poll();
    assert_eq!((&polled["status"], &polled["recordingLocation"]), (&json!("completed"), &json!(location)));
    assert_eq!(polled["recordingAccessToken"], Value::Null);
    app.node.cli(&["recording", "verify", &id]).ok();
    app.node.wait_log(&["graph: recordResponse", &session, "token app"]);
}

#[test]
fn mg_010_040_what_is_cancelled_is_told_and_nothing_of_it_is_kept() {
    let app = App::with("graph-record", prompt());
    let (call, session) = app.call("bot", 20.0, None, &["X-Held: yes".to_owned()]);
    let calls = format!("graph/communications/calls/{session}");
    let record = json!({ "playBeep": false, "maxRecordDurationInSeconds": 60, "callbackUri": app.receiver.url("record") });
    let (code, operation) = app.post(&format!("{calls}/recordResponse"), &record);
    assert_eq!((code, &operation["status"]), (200, &json!("running")), "{operation}");
    let play = json!({
        "prompts": [{ "mediaInfo": { "uri": app.receiver.url("prompt.wav") } }],
        "clientContext": "waits",
        "callbackUri": app.receiver.url("play"),
    });
    let (code, waiting) = app.post(&format!("{calls}/playPrompt"), &play);
    assert_eq!((code, &waiting["status"]), (200, &json!("notStarted")), "it waits for its turn: {waiting}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let barge =
        json!({ "bargeInAllowed": true, "playBeep": false, "maxRecordDurationInSeconds": 1, "callbackUri": app.receiver.url("next") });
    assert_eq!(app.post(&format!("{calls}/recordResponse"), &barge).0, 200);
    for (path, kind) in [("record", "#microsoft.graph.recordOperation"), ("play", "#microsoft.graph.playPromptOperation")] {
        let data = app.posted(path)["value"][0]["resourceData"].clone();
        assert_eq!((&data["status"], &data["resultInfo"]["subcode"], &data["@odata.type"]), (&json!("failed"), &json!(8508), &json!(kind)));
    }
    assert_eq!(app.posted("next")["value"][0]["resourceData"]["completionReason"], json!("maxRecordDurationReached"));
    let path = format!("http://{}/{DOMAIN}/recordings/{}/audio", app.node.api(), operation["id"].as_str().expect("an id"));
    let gone = || app.fetch(&path, Some(&app.token)).0;
    wait_for("its end is known", || gone() != 409 && gone() != 404);
    assert_eq!(gone(), 410, "what was superseded is not kept");
    // A prompt that plays to its end is heard and told.
    assert_eq!(
        app.post(&format!("{calls}/playPrompt"), &json!({ "prompts": play["prompts"], "callbackUri": app.receiver.url("played") })).0,
        200
    );
    assert_eq!(app.posted("played")["value"][0]["resourceData"]["status"], json!("completed"));
    drop(call);
}

#[test]
fn mg_010_023_a_reply_that_the_handler_asks_for_is_told_to_the_bot() {
    let app = App::with("graph-record", Vec::new());
    let (call, _) = app.call("bot", 30.0, Some("#@8s"), &[format!("X-Callback-Uri: {}", app.receiver.url("graph"))]);
    call.end().ok().says("<- BYE");
    let data = app.posted("graph")["value"][0]["resourceData"].clone();
    assert_eq!((&data["status"], &data["completionReason"]), (&json!("completed"), &json!("stopToneDetected")), "{data}");
    let (code, _, audio) = app.fetch(data["recordingLocation"].as_str().expect("a location"), data["recordingAccessToken"].as_str());
    assert_eq!(code, 200);
    assert_eq!(probed(&app.keep("reply.wav", &audio)), "pcm_s16le,16000,1");
}

#[test]
fn mg_035_ur_028_by_a_tenants_rules_who_is_recorded_hears_it_and_the_file_has_8_khz() {
    let app = App::with("graph-record", Vec::new());
    app.node.cli(&["tenant", "put", DOMAIN, "--record-announce", "always", "--graph-sample-rate", "8000"]).ok();
    let (said, heard) = (app.node.file("said.wav"), app.node.file("heard.wav"));
    write_wav(&said, &tone(CALLER, 20.0));
    let call = app.node.phone("bot").header("X-Held: yes").play(&said).record(&heard).seconds("12").start();
    let session = app.session();
    let body = json!({ "playBeep": false, "maxRecordDurationInSeconds": 2, "callbackUri": app.receiver.url("graph") });
    assert_eq!(app.post(&format!("graph/communications/calls/{session}/recordResponse"), &body).0, 200);
    app.posted("graph");
    call.end().ok();
    assert_eq!(heard_tones(&read_wav(&heard), &[1400.0]).len(), 1, "one warning at its beginning");
    let row = app.node.recording();
    assert_eq!(row["announce"], json!(true), "{row}");
    assert!(row["sidecar"].as_str().expect("a text").contains("\"announce\":true"), "{row}");
    app.node.cli(&["recording", "verify", row["id"].as_str().expect("an id")]).ok();
    let file = app.node.fetch(row["id"].as_str().expect("an id"));
    assert_eq!(probed(&file), "pcm_s16le,8000,1");
    assert!(heard_tones(&read_wav(&file), &[1400.0]).is_empty(), "the tone is in no file");
}

#[test]
fn ac_001_002_004_019_026_033_034_035_037_an_applications_pages_say_what_happens() {
    let mut app = App::with("aculab-record", Vec::new());
    app.receiver = Receiver::application(
        address(),
        &[
            (
                "app/first",
                r##"{"actions":[{"record":{"id":"message","next_page":{"url":"next"}}},{"play":{"play_list":[{"file_to_play":"never.wav"}]}}],"token":"t-1"}"##,
            ),
            (
                "app/next",
                r##"{"actions":[{"play":{"play_list":[{"file_to_play":"bye.wav"}],"next_page":{"url":"/played","method":"GET"}}}],"token":"t-2"}"##,
            ),
            ("played", r##"{"actions":[],"token":"t-3"}"##),
        ],
    );
    let bye = app.node.file("bye.wav");
    write_wav(&bye, &tone(880.0, 0.5));
    app.node.cli(&["prompt", "put", bye.to_str().expect("our paths are UTF-8")]).ok();
    let set = |key: &str, value: &str| {
        app.node.cli(&["guest", "config", "set", key, value]).ok();
    };
    set("first_page", &app.receiver.url("app/first"));
    set("first_page_method", "GET");
    set("final_page", &app.receiver.url("final"));
    let (said, heard) = (app.node.file("said.wav"), app.node.file("heard.wav"));
    write_wav(&said, &tone(CALLER, 30.0));
    let call = app.node.phone("app").play(&said).dtmf("#@4s").record(&heard).seconds("30").start();
    let session = app.session();
    call.end().ok().says("digit #").says("<- BYE");
    let asked = |path: &str| {
        wait_for(&format!("a request of {path}"), || !app.receiver.posted(path).is_empty());
        let all = app.receiver.posted(path);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    };
    for (path, by_get, token, action) in [
        ("app/first", true, "", ""),
        ("app/next", false, "t-1", "record"),
        ("played", true, "t-2", "play"),
        ("final", false, "t-3", "play"),
    ] {
        let page = asked(path);
        let info = &page.body;
        assert_eq!((page.is_get(), &info["token"]), (by_get, &json!(token)), "{path}: {page:?}");
        assert_eq!((&info["application_instance_id"], &info["is_notification"]), (&json!(session), &json!(false)), "{path}");
        assert_eq!(
            (&info["this_call"]["call_to"], info["action_result"]["action"].as_str().unwrap_or("")),
            (&json!("app"), action),
            "{path}"
        );
    }
    let result = asked("app/next").body["action_result"]["result"].clone();
    assert_eq!(
        (&result["reason"], &result["barge_in_digit"], &result["id"]),
        (&json!("bargein"), &json!("#"), &json!("message")),
        "{result}"
    );
    assert_eq!((&result["contains_sound"], &result["file_available"]), (&json!(true), &json!(false)), "{result}");
    assert_eq!(heard_tones(&read_wav(&heard), &[880.0]).len(), 1, "what the next page said, and nothing of the list before");
    // The recording can be played, and removed, by the name that the page heard.
    let name = result["filename"].as_str().expect("a name");
    let url = format!("http://{}/{DOMAIN}/promptfile/{name}", app.node.api());
    wait_for("the file", || app.fetch(&url, Some(&app.token)).0 == 200);
    let file = app.keep("message.wav", &app.fetch(&url, Some(&app.token)).2);
    assert_eq!(probed(&file), "pcm_mulaw,8000,1");
}

#[test]
fn ac_032_037_a_page_hears_of_a_hang_up_and_an_action_that_is_unknown_is_named() {
    let mut app = App::with("aculab-record", Vec::new());
    app.receiver = Receiver::application(
        address(),
        &[
            ("first", r#"{"actions":[{"record":{"milliseconds_max_silence":25000,"next_page":{"url":"next"}}}]}"#),
            ("other", r#"{"actions":[{"play":{"play_list":[{"file_to_play":"a.wav"}]}},{"send_fax":{}}]}"#),
        ],
    );
    app.node.cli(&["guest", "config", "set", "first_page", &app.receiver.url("first")]).ok();
    app.node.cli(&["guest", "config", "set", "final_page", &app.receiver.url("final")]).ok();
    let said = app.node.file("said.wav");
    write_wav(&said, &tone(CALLER, 30.0));
    // He speaks all the time, and hangs up.
    app.node.phone("app").play(&said).seconds("4").run().ok().says("-> BYE");
    assert_eq!(app.posted("next")["action_result"]["result"]["reason"], json!("hangup"));
    app.posted("final");

    app.node.cli(&["guest", "config", "set", "first_page", &app.receiver.url("other")]).ok();
    app.node.phone("app").play(&said).seconds("30").run().ok().says("<- BYE");
    app.node.cli(&["guest", "logs"]).ok().says("actions[1]: no action is called \"send_fax\"");
}

#[test]
fn ac_011_015_016_018_036_an_encrypted_recording_is_opened_by_openssl_and_played_with_its_key() {
    let app = App::with("graph-record", Vec::new());
    let heard = app.node.file("heard.wav");
    let said = app.node.file("said.wav");
    write_wav(&said, &[tone(CALLER, 2.0), silence(20.0)].concat());
    let phone = app.node.phone("app").header("X-Held: yes").play(&said).record(&heard).seconds("16");
    let call = phone.start();
    let session = app.session();
    let (key, vector) = ("00112233445566778899aabbccddeeff", "0f0e0d0c0b0a09080706050403020100");
    let cipher = json!({ "type": "aescbc", "key": key, "initialisation vector": vector });
    let record = json!({
        "id": "greeting",
        "token": "app-token",
        "milliseconds_max_silence": 1000,
        "milliseconds_max_initial_silence": 9000,
        "encryption_cipher": cipher,
        "next_page": { "url": app.receiver.url("next") },
        "recording_available_page": { "url": app.receiver.url("available") },
    });
    let (code, answer) = app.post(&format!("aculab/calls/{session}/record"), &record);
    assert_eq!(code, 200, "{answer}");
    let (next, available) = (app.posted("next"), app.posted("available"));
    let result = &next["action_result"]["result"];
    assert_eq!((&result["id"], &result["reason"], &next["token"]), (&json!("greeting"), &json!("silence"), &json!("app-token")), "{next}");
    assert_eq!((&next["is_notification"], &result["file_available"]), (&json!(false), &json!(false)));
    let there = &available["action_result"]["result"]["file_available"];
    assert_eq!((&available["is_notification"], there), (&json!(true), &json!(true)));

    let id = answer["recordingId"].as_str().expect("an id");
    let sealed = app.node.fetch(id);
    require("openssl", "openssl");
    let plain = app.node.file("plain.wav");
    let command = ["enc", "-d", "-aes-128-cbc", "-K", key, "-iv", vector, "-in"];
    let opened = Command::new("openssl").args(command).arg(&sealed).arg("-out").arg(&plain).output().expect("openssl runs");
    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    assert_eq!(probed(&plain), "pcm_mulaw,8000,1");

    // It is played back to who brings the key.
    let name = result["filename"].as_str().expect("a name");
    let play = |cipher: Option<&Value>, page: &str| {
        let mut item = json!({ "file_to_play": name });
        if let Some(cipher) = cipher {
            item["decryption_cipher"] = cipher.clone();
        }
        let body = json!({ "play_list": [item], "next_page": { "url": app.receiver.url(page) } });
        assert_eq!(app.post(&format!("aculab/calls/{session}/play"), &body).0, 200);
        app.posted(page)["action_result"]["result"]["reason"].clone()
    };
    assert_eq!(play(None, "closed"), json!("error"), "without it there is nothing to hear");
    assert_eq!(play(Some(&cipher), "open"), json!("completed"));
    call.end().ok();
    let heard = heard_tones(&read_wav(&heard), &[CALLER]);
    assert_eq!(heard.len(), 1, "the caller heard his own words once: {heard:?}");
    assert!(!app.node.log().contains(key), "no key in the log");
}
