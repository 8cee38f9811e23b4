//! Verdicts and failures in words, for people who look at a call: the simulator's ladder and the explanation of a session say the same.

use hookswitch_call::hook::{BackgroundPrompt, HookFailure, IvrCommand, OutboundCall, Phrase, Routing, Verdict};
use std::fmt::Write as _;
use std::time::Duration;

/// `4 s`, `0.25 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

pub(crate) fn verdict(verdict: &Verdict) -> String {
    verdict_with(verdict, |_| None)
}

/// The same, with the lengths of files that are known.
pub(crate) fn verdict_with(verdict: &Verdict, length: impl Fn(&str) -> Option<Duration>) -> String {
    match verdict {
        Verdict::Routing(answer) => routing(answer),
        Verdict::Ivr(command) => ivr(command, &length),
        Verdict::Identified(_) => "identified".into(),
        Verdict::Noted { .. } => "noted".into(),
    }
}

fn routing(routing: &Routing) -> String {
    match routing {
        Routing::Drop { drop_code: None, .. } => "drop".into(),
        Routing::Drop { drop_code: Some(code), .. } => format!("drop {code}"),
        Routing::Ivr { .. } => "ivr".into(),
        Routing::Call(to) => call(to),
        Routing::Join { participant_id, recording, .. } => format!("join {participant_id}{}", recorded(recording.is_some())),
        Routing::HttpCall { device, .. } => format!("connect {} in {}", device.address, device.format.name()),
        Routing::Redirect { status, contacts, .. } => format!("redirect {status} to {}", contacts.join(", ")),
        Routing::Ext { name, .. } => format!("action {name:?}"),
    }
}

fn recorded(is: bool) -> &'static str {
    if is { ", recorded" } else { "" }
}

fn call(call: &OutboundCall) -> String {
    let ring = call.max_ring_time.map(|time| format!(" for up to {}", seconds(time))).unwrap_or_default();
    format!("call {}{ring}{}", call.dest_addr, recorded(call.call_recording || call.recording.is_some()))
}

fn ivr(command: &IvrCommand, length: &dyn Fn(&str) -> Option<Duration>) -> String {
    let mut parts: Vec<String> = command.phrases.iter().map(|one| phrase(one, length)).collect();
    match &command.background {
        Some(BackgroundPrompt { stop: true, .. }) => parts.push("stop the background".into()),
        Some(prompt) => {
            parts.push(format!("in the background {}", prompt.file_name.as_deref().or(prompt.url.as_deref()).unwrap_or("nothing")));
        }
        None => {}
    }
    if let Some(collect) = &command.dtmf {
        let mut text = "collect".to_owned();
        match collect.max_digits {
            Some(1) => text.push_str(" 1 digit"),
            Some(most) => _ = write!(text, " {most} digits"),
            None => text.push_str(" digits"),
        }
        if !collect.termination_keys.is_empty() {
            _ = write!(text, " until {}", collect.termination_keys);
        }
        _ = write!(text, " within {}", seconds(collect.first_timeout));
        parts.push(text);
    }
    if !command.next_after.is_zero() {
        parts.push(format!("wait {}", seconds(command.next_after)));
    }
    if let Some(onward) = &command.routing {
        parts.push(routing(onward));
    }
    if command.hangup {
        parts.push("hang up".into());
    }
    if parts.is_empty() { "nothing".into() } else { parts.join(", ") }
}

fn phrase(phrase: &Phrase, length: &dyn Fn(&str) -> Option<Duration>) -> String {
    let play = |name: &str| match length(name) {
        Some(time) => format!("play {name} ({})", seconds(time)),
        None => format!("play {name}"),
    };
    match phrase {
        Phrase::File { file_name } | Phrase::Sealed { file_name, .. } => play(file_name),
        Phrase::Url { url, .. } => play(url),
        Phrase::Tone { hz, total, .. } => {
            let hz: Vec<String> = hz.iter().map(ToString::to_string).collect();
            format!("tone {} Hz {}", hz.join("+"), seconds(*total))
        }
        Phrase::Silence { duration } => format!("silence {}", seconds(*duration)),
        Phrase::Record(options) => format!("record {}", options.file_name.as_deref().unwrap_or("the caller")),
        Phrase::Echo { duration } => format!("echo {}", seconds(*duration)),
        Phrase::Tts { engine, parameters, .. } => match spoken(parameters) {
            Some(text) => format!("speak \"{text}\" by {engine}"),
            None => format!("speak by {engine}"),
        },
        Phrase::Say { kind, value, .. } => format!("say {kind} {value}"),
        Phrase::Ext { name, .. } => format!("phrase {name:?}"),
    }
}

/// The beginning of what is to be said, wherever an engine's parameters have it.
fn spoken(parameters: &str) -> Option<String> {
    const SHOWN: usize = 60;
    let fields: serde_json::Value = serde_json::from_str(parameters).ok()?;
    let text = ["/text", "/Text", "/input/text"].iter().find_map(|place| fields.pointer(place)?.as_str())?;
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    Some(text.chars().take(SHOWN).map(|c| if c.is_control() || c == '"' { ' ' } else { c }).collect::<String>() + more)
}

/// One word for programs.
pub(crate) fn failure_kind(failure: &HookFailure) -> &'static str {
    match failure {
        HookFailure::Trap { .. } => "trap",
        HookFailure::Deadline => "deadline",
        HookFailure::Cpu => "cpu",
        HookFailure::Limit { .. } => "limit",
        HookFailure::Refused { .. } => "refused",
        HookFailure::Nonsense { .. } => "nonsense",
        HookFailure::Unavailable { .. } => "unavailable",
        HookFailure::Empty => "empty",
    }
}

pub(crate) fn failure(failure: &HookFailure) -> String {
    match failure {
        HookFailure::Trap { message } => format!("trap: {message}"),
        HookFailure::Deadline => "no answer by the deadline".into(),
        HookFailure::Cpu => "CPU time is used up".into(),
        HookFailure::Limit { name } => format!("limit reached: {name}"),
        HookFailure::Refused { message } => format!("failed by its own word: {message}"),
        HookFailure::Nonsense { field, why } => format!("{field}: {why}"),
        HookFailure::Unavailable { why } => why.clone(),
        HookFailure::Empty => "empty answer".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_call::Collect;
    use hookswitch_call::hook::Keep;

    #[test]
    fn commands_read_like_what_they_do() {
        let file = |name: &str| Phrase::File { file_name: name.into() };
        let collect = Collect { max_digits: Some(4), termination_keys: "#".into(), ..Collect::default() };
        let command = |command: IvrCommand| verdict(&Verdict::Ivr(Box::new(command)));
        assert_eq!(
            command(IvrCommand { phrases: vec![file("a.wav"), file("b.wav")], dtmf: Some(collect), ..IvrCommand::default() }),
            "play a.wav, play b.wav, collect 4 digits until # within 30 s"
        );
        let tts = |parameters: &str| Phrase::Tts { engine: "local".into(), parameters: parameters.into(), keep: Keep::default() };
        let long = format!(r#"{{"input":{{"text":"{}"}}}}"#, "x".repeat(61));
        let phrases = vec![tts(r#"{"text":"Hello\nthere"}"#), tts(r#"{"Text":"Hi"}"#), tts("{}"), tts(&long)];
        assert_eq!(
            command(IvrCommand { phrases, ..IvrCommand::default() }),
            format!(r#"speak "Hello there" by local, speak "Hi" by local, speak by local, speak "{}…" by local"#, "x".repeat(60))
        );
        let kept = Phrase::Url { url: "https://x.example/a.wav".into(), key: None, keep: Some(Keep::default()) };
        let say = Phrase::Say { kind: "time".into(), value: "14:05".into(), language: String::new() };
        let background = BackgroundPrompt { file_name: Some("music.wav".into()), url: None, repeat_pause: Duration::ZERO, stop: false };
        assert_eq!(
            command(IvrCommand { phrases: vec![kept, say], background: Some(background), ..IvrCommand::default() }),
            "play https://x.example/a.wav, say time 14:05, in the background music.wav"
        );
        assert_eq!(command(IvrCommand { hangup: true, ..IvrCommand::default() }), "hang up");
        assert_eq!(command(IvrCommand::default()), "nothing");
        let call = OutboundCall {
            dest_addr: "sip:bob@b.example".into(),
            max_ring_time: Some(Duration::from_millis(2500)),
            call_recording: true,
            ..OutboundCall::default()
        };
        assert_eq!(verdict(&Verdict::Routing(Routing::Call(Box::new(call)))), "call sip:bob@b.example for up to 2.5 s, recorded");
    }
}
