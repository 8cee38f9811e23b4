//! The ladder: what happened, one line a step, in the order of time. Tests compare it as text.
//!
//! ```text
//! 0.000 alice -> node   INVITE
//! 0.000 node  -> alice  100
//! 0.000 node  -> guest  new-call
//! 5.000 node  -x alice  503            # "-x": sent, and lost on the way
//! ```

use hookswitch_call::{Ask, CallEvent, CallEventKind, Hook, HookFailure, Notification, Routing, Verdict};
use hookswitch_proto::Time;
use hookswitch_proto::media::{MediaCmd, Segment};
use hookswitch_proto::sip::{Message, Method};
use std::fmt;
use std::fmt::Write as _;

/// Which part of the world a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// SIP messages, as sent.
    Sip,
    /// Hooks, verdicts and notifications.
    Guest,
    /// Keys that callers press or hear, and commands to the media thread.
    Media,
    /// What the world does to itself: faults, commands, configuration.
    World,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Time,
    pub plane: Plane,
    pub from: String,
    pub to: String,
    pub lost: bool,
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.at.0 / 1_000_000;
        let arrow = if self.lost { "-x" } else { "->" };
        write!(f, "{}.{:03} {:<5} {arrow} {:<6} {}", ms / 1000, ms % 1000, self.from, self.to, self.what)
    }
}

/// `lines` without the indentation and the comments (`# …`) that source code gives them, to compare with a ladder.
pub fn expected(lines: &str) -> String {
    let line = |l: &str| l.split(" # ").next().unwrap_or_default().trim().to_owned();
    lines.lines().map(line).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn sip_text(message: &Message) -> String {
    let again = message.to().is_some_and(|to| to.tag().is_some());
    let mut text = match (message.status(), message.method()) {
        (Some(status), _) => match message.cseq_method() {
            Method::Invite => status.to_string(),
            method => format!("{status} ({})", method.as_str()),
        },
        (None, Some(Method::Invite)) if again => "re-INVITE".into(),
        (None, Some(method)) => method.as_str().to_owned(),
        (None, None) => "?".into(),
    };
    let body = message.body();
    let body = String::from_utf8_lossy(&body);
    for direction in ["sendonly", "recvonly", "inactive"] {
        if body.contains(&format!("a={direction}")) {
            let _ = write!(text, " {direction}");
        }
    }
    if message.status().is_some_and(|s| (101..200).contains(&s)) && !body.is_empty() {
        text.push_str(" with SDP");
    }
    if let Some(reason) = message.header("Reason") {
        let _ = write!(text, " {}", reason.split(";text").next().unwrap_or_default());
    }
    text
}

pub(crate) fn ask_text(ask: &Ask) -> String {
    let mut text = match &ask.hook {
        Hook::NewCall(_) => "new-call".to_owned(),
        Hook::GetCallIdentifier(_) => "get-call-identifier".to_owned(),
        Hook::GetIvrCommand(_) => "get-ivr-command".to_owned(),
        Hook::NewRemoteCall(_) => "new-remote-call".to_owned(),
        Hook::CallEvent(event) => event_text(event),
    };
    if ask.hook.info().restarted {
        text.push_str(" restarted");
    }
    if let Some(reference) = &ask.hook.info().session_reference {
        let _ = write!(text, " reference={reference}");
    }
    if let Hook::GetIvrCommand(request) = &ask.hook {
        if let Some(dtmf) = &request.dtmf {
            let key = dtmf.matched_termination_key.map(String::from).unwrap_or_default();
            let _ = write!(text, " dtmf={:?} {:?}{key}", dtmf.dtmf_match, dtmf.reason);
        }
        if let Some(recording) = &request.recording {
            let _ = write!(text, " recording={} {} ms", recording.stop_reason, recording.duration.as_millis());
        }
    }
    text
}

fn event_text(event: &CallEvent) -> String {
    let kind = match event.event {
        CallEventKind::CallingPartyDrop => "calling-party-drop",
        CallEventKind::CalledPartyDrop => "called-party-drop",
        CallEventKind::CallingPartyFailure => "calling-party-failure",
        CallEventKind::CalledPartyFailure => "called-party-failure",
        CallEventKind::CallerConnectionSplit => "caller-connection-split",
        CallEventKind::CalleeConnectionSplit => "callee-connection-split",
    };
    let code = event.sip_code.map(|code| format!(" {code}")).unwrap_or_default();
    format!("call-event {kind} of {}{code}", event.user)
}

pub(crate) fn verdict_text(verdict: &Result<Verdict, HookFailure>) -> String {
    match verdict {
        Ok(Verdict::Routing(routing)) => match routing {
            Routing::Drop { drop_code, .. } => format!("drop {}", drop_code.as_deref().unwrap_or("-")),
            Routing::Ivr { .. } => "ivr".into(),
            Routing::Call(call) => format!("call {}", call.dest_addr),
            Routing::Join { .. } => "join".into(),
            Routing::HttpCall { .. } => "httpcall".into(),
            Routing::Redirect { status, .. } => format!("redirect {status}"),
            Routing::Ext { name, .. } => format!("action {name:?}"),
        },
        Ok(Verdict::Identified(_)) => "identified".into(),
        Ok(Verdict::Noted { .. }) => "noted".into(),
        Ok(Verdict::Ivr(command)) => {
            let mut text = format!("command of {} phrases", command.phrases.len());
            if command.dtmf.is_some() {
                text.push_str(", collect");
            }
            if command.hangup {
                text.push_str(", hang up");
            }
            text
        }
        Err(HookFailure::Trap { .. }) => "trap".into(),
        Err(HookFailure::Deadline) => "no answer".into(),
        Err(HookFailure::Cpu) => "out of CPU time".into(),
        Err(HookFailure::Limit { name }) => format!("limit {name}"),
        Err(HookFailure::Refused { .. }) => "refused".into(),
        Err(HookFailure::Nonsense { field, .. }) => format!("nonsense {field}"),
        Err(HookFailure::Unavailable { .. }) => "unavailable".into(),
        Err(HookFailure::Empty) => "empty".into(),
    }
}

pub(crate) fn notification_text(notification: &Notification) -> String {
    match notification {
        Notification::CallAnswered { .. } => "call-answered".into(),
        Notification::CallNotify { event, .. } => format!("call-notify {event}"),
        Notification::CallEvent(event) => event_text(event),
        Notification::RecordingReady { successful: true, .. } => "recording-ready".into(),
        Notification::RecordingReady { reason, .. } => format!("recording-ready failed: {}", reason.as_deref().unwrap_or("-")),
        Notification::RecordingState { status, .. } => format!("recording-state {}", status.phase.name()),
        Notification::SessionCompleted { reason, .. } => format!("session-completed {reason}"),
        Notification::TransferState { sip_code, last, .. } => format!("transfer-state {sip_code}{}", if *last { ", last" } else { "" }),
        Notification::Timer { name, .. } => format!("timer {name}"),
        Notification::Alarm(alarm) => format!("alarm {} {}", alarm.kind.name(), alarm.error),
    }
}

/// `None`: not worth a line.
pub(crate) fn media_text(command: &MediaCmd) -> Option<String> {
    let segment = |segment: &Segment| match segment {
        Segment::Clip(clip) => format!("clip {} ms", clip.pcmu.len() / 8),
        Segment::Silence(duration) => format!("silence {} ms", duration.as_millis()),
        Segment::Record(..) => "record".into(),
        Segment::Echo(duration) => format!("echo {} ms", duration.as_millis()),
    };
    Some(match command {
        MediaCmd::Play { segments, .. } => {
            let segments: Vec<String> = segments.iter().map(segment).collect();
            // A ringback tone is the same clip for minutes.
            let runs = segments.chunk_by(|a, b| a == b).map(|run| match run.len() {
                1 => run[0].clone(),
                times => format!("{times} times {}", run[0]),
            });
            format!("play {}", runs.collect::<Vec<_>>().join(", "))
        }
        MediaCmd::StopPlay { .. } => "stop".into(),
        MediaCmd::Record { .. } => "record".into(),
        MediaCmd::StopRecording { reason, .. } => format!("stop recording: {}", reason.name()),
        MediaCmd::PauseRecording { behavior, .. } => format!("pause recording: {behavior:?}"),
        MediaCmd::ResumeRecording { .. } => "resume recording".into(),
        MediaCmd::Bridge { hears: Some(_), .. } => "bridge".into(),
        MediaCmd::Bridge { hears: None, .. } => "unbridge".into(),
        MediaCmd::Listen { to, .. } => format!("listen to {}", to.iter().flatten().count()),
        MediaCmd::Background { audio: Some((clip, pause)), .. } => {
            format!("background clip {} ms, pause {} ms", clip.pcmu.len() / 8, pause.as_millis())
        }
        MediaCmd::Background { audio: None, .. } => "no background".into(),
        MediaCmd::Warn { on, .. } => format!("warning tone {}", if *on { "on" } else { "off" }),
        MediaCmd::SendDigit { .. } => "send digit".into(),
        MediaCmd::Open { .. } | MediaCmd::Update { .. } | MediaCmd::Close { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_in_columns() {
        let step = |from: &str, to: &str, lost, what: &str| Step {
            at: Time::from_millis(5020),
            plane: Plane::Sip,
            from: from.into(),
            to: to.into(),
            lost,
            what: what.into(),
        };
        assert_eq!(step("alice", "node", false, "INVITE").to_string(), "5.020 alice -> node   INVITE");
        assert_eq!(step("node", "alice", true, "200").to_string(), "5.020 node  -x alice  200");
    }

    #[test]
    fn comments_and_indentation_are_no_part_of_a_ladder() {
        let text = "
            0.000 alice -> node   INVITE  # and here it begins

            0.000 node  -> alice  100";
        assert_eq!(expected(text), "0.000 alice -> node   INVITE\n0.000 node  -> alice  100");
    }
}
