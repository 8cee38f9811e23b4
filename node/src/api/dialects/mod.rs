//! Vendors' ways to say what the node does: their JSON in, options of a recording out; what became of it in, their JSON out. The mappings are
//! pure; each file ends with the few routes that carry them below `/{domain}/<vendor>/…`. None of them decides anything about calls.
//!
//! What a recording's options want posted is put together here too ([`posts`]): the dialect chooses the serialiser (UR-004).

pub(super) mod aculab;
mod cloudua;
pub(super) mod graph;

pub use cloudua::{is_of_device, post_of_device};

use super::operations::recorder::status_json;
use hookswitch_call::hook::Notification;
use hookswitch_call::recording::{Dialect, Phase, RecordingStatus};
use serde_json::{Value, json};

/// A body and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    pub url: String,
    pub body: Value,
}

/// What is to be posted of a state: all of them to the status URL (UR-031), the end of the audio to the on-complete URL (UR-029), and that the
/// file can be fetched to the on-available URL (UR-030).
pub fn posts(notification: &Notification) -> Vec<News> {
    let Notification::RecordingState { info, status, occurred_at } = notification else { return Vec::new() };
    let options = &status.options;
    let mut news = Vec::new();
    let mut add = |url: &Option<String>, body: &dyn Fn() -> Value| {
        if let Some(url) = url {
            news.push(News { url: url.clone(), body: body() });
        }
    };
    let native = || {
        let mut body = status_json(status);
        body["sessionId"] = json!(info.session_id);
        body["occurredAt"] = json!(super::rfc3339(*occurred_at));
        body
    };
    add(&options.status_url, &native);
    let session = info.session_id.as_str();
    if is_complete(options.dialect, status) {
        add(&options.on_complete_url, &|| match options.dialect {
            Dialect::Graph => graph::notification(session, status),
            Dialect::Aculab => aculab::instance_info(session, status, false),
            _ => native(),
        });
    }
    // What only played has nothing that could be fetched.
    if status.phase == Phase::Available && !options.prompts_only {
        add(&options.on_available_url, &|| match options.dialect {
            Dialect::Aculab => aculab::instance_info(session, status, true),
            _ => native(),
        });
    }
    news
}

/// Whether this state is the one that its owner waits for. Graph tells with the location, in one notification; the others as soon as
/// nothing is added any more, and where nothing ever was, at its last state.
fn is_complete(dialect: Dialect, status: &RecordingStatus) -> bool {
    match status.phase {
        phase if dialect == Dialect::Graph => phase.is_terminal(),
        Phase::LocalAvailable => true,
        Phase::Available => status.options.prompts_only,
        Phase::Failed | Phase::NoInput | Phase::Canceled | Phase::Discarded => true,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hookswitch_call::hook::{RecordingDetails, RecordingResult, SessionInfo};
    use hookswitch_call::recording::RecordingOptions;
    use std::sync::Arc;
    use std::time::Duration;

    /// A recording in this state, which ended for this reason after so many milliseconds.
    pub(crate) fn status(options: RecordingOptions, phase: Phase, stop_reason: &str, ms: u64) -> RecordingStatus {
        let result = RecordingResult {
            recording_id: "0fa1b2c3-0000-4000-8000-00000000000a".into(),
            file_name: "20261125/100000-x.wav".into(),
            stop_reason: stop_reason.into(),
            stop_digit: (stop_reason == "stop_digit").then_some('#'),
            duration: Duration::from_millis(ms),
            contains_sound: ms > 0 && stop_reason != "initial_silence",
            ..RecordingResult::default()
        };
        let ended = phase >= Phase::Finalizing;
        let details = (phase >= Phase::LocalAvailable && phase != Phase::Failed && phase < Phase::Canceled)
            .then(|| Box::new(RecordingDetails { result: result.clone(), size: 160_696, sha256: "ab".repeat(32), started_at: 0 }));
        RecordingStatus {
            recording_id: result.recording_id.clone(),
            control_id: options.control_id.clone().unwrap_or_else(|| result.recording_id.clone()),
            client_context: options.client_context.clone(),
            phase,
            connection_id: None,
            participant_id: "p".into(),
            caller: "alice".into(),
            called: "100".into(),
            file_name: result.file_name.clone(),
            pause_behavior: None,
            reason: None,
            result: ended.then_some(result),
            details,
            started_at: Some(0),
            ended_at: ended.then_some(ms),
            url: (phase == Phase::Available).then(|| "https://node/a.example/recordings/x".into()),
            access_token: (phase == Phase::Available).then(|| "token".into()),
            options: Arc::new(options),
        }
    }

    fn told(options: &RecordingOptions, phase: Phase) -> Vec<String> {
        let info = SessionInfo { session_id: "5a1b2c3d-0000-4000-8000-000000000001".into(), ..SessionInfo::default() };
        let status = Box::new(status(options.clone(), phase, "max_duration", 1000));
        posts(&Notification::RecordingState { info, status, occurred_at: 0 }).into_iter().map(|news| news.url).collect()
    }

    #[test]
    fn ur_029_030_031_each_state_goes_where_its_options_say() {
        let options = RecordingOptions {
            status_url: Some("https://x/s".into()),
            on_complete_url: Some("https://x/c".into()),
            on_available_url: Some("https://x/a".into()),
            ..RecordingOptions::default()
        };
        let (s, c, a) = ("https://x/s", "https://x/c", "https://x/a");
        assert_eq!(told(&options, Phase::Recording), [s]);
        assert_eq!(told(&options, Phase::LocalAvailable), [s, c]);
        assert_eq!(told(&options, Phase::Available), [s, a]);
        assert_eq!(told(&options, Phase::Failed), [s, c]);
        let graph = RecordingOptions { dialect: Dialect::Graph, ..options };
        assert_eq!(told(&graph, Phase::LocalAvailable), [s], "the location comes with the same notification");
        assert_eq!(told(&graph, Phase::Available), [s, c, a]);
        assert!(told(&RecordingOptions::default(), Phase::Available).is_empty());
    }

    #[test]
    fn ur_035_a_status_says_all_that_is_known() {
        let options =
            RecordingOptions { control_id: Some("mine".into()), client_context: Some("ctx".into()), ..RecordingOptions::default() };
        let said = status_json(&status(options.clone(), Phase::Available, "stop_digit", 5_020));
        for (name, value) in [
            ("controlId", json!("mine")),
            ("clientContext", json!("ctx")),
            ("state", json!("available")),
            ("stopReason", json!("stop_digit")),
            ("stopDigit", json!("#")),
            ("durationMs", json!(5020)),
            ("containsSound", json!(true)),
            ("sizeBytes", json!(160_696)),
            ("sha256", json!("ab".repeat(32))),
            ("accessToken", json!("token")),
        ] {
            assert_eq!(said[name], value, "{name}");
        }
        let running = status_json(&status(options, Phase::Recording, "", 0));
        assert!(running.get("stopReason").is_none() && running.get("url").is_none());
    }
}
