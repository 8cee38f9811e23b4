//! An application for Aculab Cloud's API: its pages say what happens to a call. The first page (setting `first_page`) is requested when the call
//! is up, and answers with a list of actions. An action's `next_page` is requested with the action's result, and its answer takes the list's
//! place. When no action is left the call is hung up, and the final page (setting `final_page`) is told.
//!
//! `actions.rs` reads the answers; here they are carried out.

mod actions;

use actions::{Action, Answer, Page};
use hookswitch_sdk::http::{self, Request};
use hookswitch_sdk::types::{RecordingPhase, RecordingResult, StopReason};
use hookswitch_sdk::{Failure, Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, config, log, outbox};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A page has so long to answer; a command may take 8 s.
const PAGE_MS: u32 = 5000;

#[derive(Default)]
struct AculabRecord {
    call: ThisCall,
    /// What is left of the last list, and the token that came with it.
    actions: VecDeque<Action>,
    token: String,
    /// The action that runs.
    running: Option<Running>,
    /// The last one and its result.
    last_action: Value,
    first_page: Option<Page>,
    final_page: Option<Page>,
    recordings: u32,
}

/// What every page hears of the call (AC-035).
#[derive(Default)]
struct ThisCall {
    session_id: String,
    participant_id: String,
    from: String,
    to: String,
}

struct Running {
    what: What,
    next_page: Option<Page>,
}

enum What {
    /// By its file's name.
    Record(String),
    /// By its id.
    Play(String),
}

/// AC-025 to AC-032.
fn reason(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::StopDigit => "bargein",
        StopReason::MaxDuration => "duration",
        StopReason::MaxSilence | StopReason::InitialSilence => "silence",
        StopReason::ApiStop | StopReason::Superseded => "aborted",
        StopReason::RemoteHangup => "hangup",
        StopReason::FileSize => "filesize",
        StopReason::MediaTimeout | StopReason::StorageError | StopReason::BeepFailed => "error",
        _ => "other",
    }
}

/// What a record action gave (AC-020 to AC-034). An action that was interrupted has no result.
fn recorded(result: Option<&RecordingResult>) -> Value {
    let Some(result) = result.filter(|result| reason(&result.stop_reason) != "aborted") else { return json!({ "action": "record" }) };
    let tenths = (result.duration_ms + 50) / 100;
    let mut said = json!({
        "id": result.client_context.as_deref().unwrap_or(""),
        "filename": result.file_name,
        "file_available": false,
        "contains_sound": result.contains_sound,
        "seconds_duration": tenths as f64 / 10.0,
        "reason": reason(&result.stop_reason),
    });
    if let Some(digit) = result.stop_digit {
        said["barge_in_digit"] = json!(digit);
    }
    json!({ "action": "record", "result": said })
}

/// Text in a query (RFC 3986 2.1).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A page that the tenant has set.
fn set_page(name: &str) -> Result<Option<Page>> {
    let Some(url) = config::get(name) else { return Ok(None) };
    let method = config::get(&format!("{name}_method"));
    Page::of(&url, method.as_deref(), None).map(Some).map_err(|why| Failure::new(format!("setting {name}_{why}")))
}

impl AculabRecord {
    /// AC-035: what every page request carries.
    fn instance_info(&self) -> Value {
        let ThisCall { session_id, participant_id, from, to } = &self.call;
        json!({
            "application_instance_id": session_id,
            "application_parameters": "",
            "token": self.token,
            "log_filename": "",
            "this_call": { "call_id": participant_id, "call_from": from, "call_to": to },
            "action_result": self.last_action,
            "is_notification": false,
        })
    }

    /// AC-004: the instance info is the body, or an argument of the query.
    fn request(&self, page: &Page) -> Request {
        let info = self.instance_info().to_string();
        let request = if page.by_get {
            let sign = if page.url.contains('?') { '&' } else { '?' };
            Request::get(format!("{}{sign}instance_info={}", page.url, encoded(&info)))
        } else {
            Request::post(&page.url, "application/json", info)
        };
        request.timeout_ms(PAGE_MS)
    }

    /// Requests a page. What it answers takes the place of what was left (AC-002); where that cannot be run, nothing is left.
    fn turn_to(&mut self, page: &Page) {
        self.actions.clear();
        let answer = match http::fetch(&self.request(page)) {
            Ok(answer) if answer.is_success() => actions::read(&answer.body, page),
            Ok(answer) => Err(format!("it answers {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(Answer { actions, token }) => {
                self.actions = actions.into();
                self.token = token.unwrap_or_default();
            }
            Err(why) => log::error!("page {}: {why}: the call is hung up", page.url),
        }
    }

    /// The call is over, and with it what an answer could say. A post arrives sooner or later; who wants to be asked by GET is asked once.
    fn tell(&self, page: &Page) {
        let told = if page.by_get {
            http::fetch(&self.request(page)).map(drop)
        } else {
            outbox::post_json(&page.url, self.instance_info().to_string()).map(drop)
        };
        if let Err(error) = told {
            log::warn!("page {} could not be told: {error}", page.url);
        }
    }

    /// The caller hung up in a recording: nobody asks for a command any more, and its page is told all the same (AC-032).
    fn hung_up_in(&mut self, result: &RecordingResult) {
        let ours = |running: &mut Running| matches!(&running.what, What::Record(name) if *name == result.file_name);
        if matches!(result.stop_reason, StopReason::RemoteHangup)
            && let Some(running) = self.running.take_if(ours)
        {
            self.last_action = recorded(Some(result));
            if let Some(page) = running.next_page {
                self.tell(&page);
            }
        }
    }

    fn next_command(&mut self) -> Ivr {
        match self.actions.pop_front() {
            Some(Action::Record { options, next_page }) => {
                self.recordings += 1;
                let name = format!("record-{}-{}.wav", self.call.session_id, self.recordings);
                let record = Ivr::record(&name).with_recording(|record| *record = options.file(&name)).recorded_callback();
                self.running = Some(Running { what: What::Record(name), next_page });
                record
            }
            Some(Action::Play { id, files, next_page }) => {
                self.running = Some(Running { what: What::Play(id), next_page });
                files.into_iter().fold(Ivr::new(), Ivr::then_play)
            }
            Some(Action::HangUp) | None => Ivr::hangup(),
        }
    }
}

impl Handler for AculabRecord {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.first_page = set_page("first_page")?;
        self.final_page = set_page("final_page")?;
        if self.first_page.is_none() {
            return Err(Failure::new("the setting first_page is missing: hookswitch guest config set first_page URL"));
        }
        self.call = ThisCall {
            session_id: call.info.session_id.clone(),
            participant_id: call.participant_id.clone(),
            from: call.calling_party.clone(),
            to: call.called_party.clone(),
        };
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        let page = match self.running.take() {
            Some(Running { what, next_page }) => {
                self.last_action = match what {
                    What::Record(_) => recorded(request.recording.as_ref()),
                    What::Play(id) => json!({ "action": "play", "result": { "id": id, "reason": "completed" } }),
                };
                next_page
            }
            // A fresh instance, after one that failed, has neither page nor list: the call ends.
            None => self.first_page.take(),
        };
        if let Some(page) = page {
            self.turn_to(&page);
        }
        Ok(self.next_command())
    }

    fn notify(&mut self, news: &Notification) {
        match news {
            Notification::RecordingState(news) if matches!(news.state, RecordingPhase::Finalizing) => {
                if let Some(result) = &news.details {
                    self.hung_up_in(result);
                }
            }
            Notification::RecordingReady(ready) => {
                log::info!("{}: {}", ready.file_name, if ready.successful { "stored" } else { "lost" });
                if let Some(result) = &ready.details {
                    self.hung_up_in(result);
                }
            }
            // AC-037: no action is left.
            Notification::SessionCompleted(_) => {
                if let Some(page) = self.final_page.take() {
                    self.tell(&page);
                }
            }
            _ => {}
        }
    }
}

hookswitch_sdk::export!(AculabRecord);

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_sdk::testing::{Call, Live};
    use hookswitch_sdk::types::{Phrase, RecordingDialect};

    const FIRST: &str = "https://app.example/first";
    const RECORD: &str = r#"{"actions":[{"record":{"id":"message","next_page":{"url":"next"}}},{"play":{"play_list":[{"file_to_play":"left.wav"}]}}],"token":"t-1"}"#;
    const THANKS: &str = r#"{"actions":[{"play":{"play_list":[{"file_to_play":"thanks.wav"},{"file_to_play":"bye.wav"}]}}],"token":"t-2"}"#;

    fn call(answers: &[(u16, &str)]) -> Call {
        let call = Call::from("alice").config("first_page", FIRST).config("final_page", "https://app.example/final");
        answers.iter().fold(call, |call, (status, body)| call.response(*status, body))
    }

    /// What a page was told in its query.
    fn asked_by_get(order: &str) -> Value {
        let query = order.split_once("instance_info=").expect("an argument").1;
        let (mut bytes, mut left) = (Vec::new(), query.bytes());
        while let Some(byte) = left.next() {
            match byte {
                b'%' => {
                    let hex = [left.next().expect("two digits"), left.next().expect("two digits")];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).expect("ASCII"), 16).expect("hex"));
                }
                byte => bytes.push(byte),
            }
        }
        serde_json::from_slice(&bytes).expect("JSON")
    }

    /// No action is left: its last command does nothing else.
    #[track_caller]
    fn hung_up(call: &mut Live<AculabRecord>) {
        assert!(call.command().phrases.is_empty() && call.command().hangup, "{}", call.ladder());
        call.wait();
        call.assert_ended("ivrHangup");
    }

    fn told(call: &Live<AculabRecord>, url: &str) -> Value {
        let posts = call.posts();
        let post = posts.iter().find(|post| post.url == url).unwrap_or_else(|| panic!("no post to {url}: {posts:?}"));
        serde_json::from_slice(&post.body).expect("JSON")
    }

    #[test]
    fn ac_001_002_035_037_what_a_page_answers_takes_the_place_of_what_was_left() {
        let mut call = call(&[(200, RECORD), (200, THANKS)]).dial::<AculabRecord>();
        call.assert_records();
        let phrases = call.command().phrases.clone();
        assert!(matches!(&phrases[0], Phrase::Record(o) if matches!(o.dialect, Some(RecordingDialect::Aculab))));
        call.speak_s(4);
        call.press("#");
        call.assert_plays(&["thanks.wav", "bye.wav"]);
        assert_eq!(call.orders(), [format!("POST {FIRST}"), "POST https://app.example/next".to_owned()]);
        call.wait();
        hung_up(&mut call);
        let info = told(&call, "https://app.example/final");
        assert_eq!(
            (&info["token"], &info["is_notification"], &info["this_call"]["call_from"]),
            (&json!("t-2"), &json!(false), &json!("alice"))
        );
        assert_eq!(info["action_result"], json!({ "action": "play", "result": { "id": "", "reason": "completed" } }));
        for member in ["application_instance_id", "application_parameters", "log_filename"] {
            assert!(info[member].is_string(), "{member}: {info}");
        }
    }

    #[test]
    fn ac_004_033_034_a_page_by_get_hears_the_same_in_its_query() {
        let list = r#"{"actions":[{"record":{"id":"a b","next_page":{"url":"/next?x=1","method":"GET"}}}],"token":"t"}"#;
        let mut call = call(&[(200, list), (204, "")]).config("first_page_method", "GET").dial::<AculabRecord>();
        call.speak_s(4);
        call.press("#");
        hung_up(&mut call);
        let orders = call.orders();
        assert!(orders[0].starts_with(&format!("GET {FIRST}?instance_info=%7B")), "{orders:?}");
        assert_eq!(asked_by_get(&orders[0])["action_result"], Value::Null);
        assert!(orders[1].starts_with("GET https://app.example/next?x=1&instance_info="), "{orders:?}");
        let info = asked_by_get(&orders[1]);
        let result = &info["action_result"]["result"];
        assert_eq!((&result["id"], &result["reason"], &result["barge_in_digit"]), (&json!("a b"), &json!("bargein"), &json!("#")));
        assert_eq!((&result["contains_sound"], &result["seconds_duration"], &info["token"]), (&json!(true), &json!(4.0), &json!("t")));
    }

    #[test]
    fn ac_002_without_a_next_page_the_list_goes_on_to_its_end() {
        let list = r#"{"actions":[{"record":{}},{"play":{"play_list":[{"file_to_play":"left.wav"}]}},{"hang_up":{}},{"record":{}}]}"#;
        let mut call = call(&[(200, list)]).dial::<AculabRecord>();
        call.speak_s(1);
        call.press("#");
        call.assert_plays(&["left.wav"]);
        call.wait();
        hung_up(&mut call);
        assert_eq!(call.orders().len(), 1);
    }

    #[test]
    fn ac_037_what_a_page_cannot_say_is_named_in_the_log_and_hangs_up() {
        for (status, body, why) in [
            (
                200,
                r#"{"actions":[{"play":{"play_list":[{"file_to_play":"a.wav"}]}},{"send_fax":{}}]}"#,
                "actions[1]: no action is called \"send_fax\"",
            ),
            (200, "<html>", "not JSON"),
            (500, RECORD, "it answers 500"),
        ] {
            let mut call = call(&[(status, body)]).dial::<AculabRecord>();
            hung_up(&mut call);
            assert!(call.log().iter().any(|line| line.starts_with(&format!("error: page {FIRST}: {why}"))), "{:?}", call.log());
            told(&call, "https://app.example/final");
        }
        let unset = Call::from("alice").dial::<AculabRecord>();
        unset.assert_failed("the setting first_page is missing");
    }

    #[test]
    fn ac_032_who_hangs_up_is_told_all_the_same() {
        let mut call = call(&[(200, RECORD)]).dial::<AculabRecord>();
        call.speak_s(2);
        call.hang_up();
        assert!(call.log().iter().any(|line| line.contains("stored")), "{:?}", call.log());
        let info = told(&call, "https://app.example/next");
        assert_eq!((&info["action_result"]["result"]["reason"], &info["token"]), (&json!("hangup"), &json!("t-1")));
        assert_eq!(call.posts().len(), 2, "that page and the final one");
    }

    #[test]
    fn ac_025_026_027_028_029_030_031_032_reasons_are_the_vendors() {
        for (ours, theirs) in [
            (StopReason::StopDigit, "bargein"),
            (StopReason::MaxDuration, "duration"),
            (StopReason::MaxSilence, "silence"),
            (StopReason::InitialSilence, "silence"),
            (StopReason::ApiStop, "aborted"),
            (StopReason::FileSize, "filesize"),
            (StopReason::RemoteHangup, "hangup"),
            (StopReason::MediaTimeout, "error"),
            (StopReason::Transfer, "other"),
        ] {
            assert_eq!(reason(&ours), theirs);
        }
        assert_eq!(recorded(None), json!({ "action": "record" }), "nothing could be recorded");
    }
}
