//! Alarm texts exactly as the seed lists them (IC-275 to IC-287), and the limit of one equal alarm in 10 s (IC-274).
//!
//! Who raises which alarm is in `session.rs` and `ivr.rs`.

use crate::hook::{AlarmKind, HookFailure};
use crate::limits;
use hookswitch_proto::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const MAX_DURATION: &str = "maxDuration";
pub const RTP_MEDIA_TIMEOUT: &str = "RTP media timeout";
pub const MEDIA_SERVER_ERROR: &str = "mediaServerError";
pub const SESSION_EXPIRED: &str = "sessionExpired";
pub const CANCEL_FAILED: &str = "cancelFailed";
pub const UNEXPECTED_REINVITE_RESPONSE: &str = "unexpectedReinviteResponse";
pub const INVALID_SDP: &str = "invalidSdp";
pub const PHRASE_ERROR: &str = "phraseError";
pub const PHRASE_LATE: &str = "phraseRemoteCacheTimeout";
pub const IVR_EMPTY: &str = "Empty body in getIvrCommand response";
pub const IVR_REQUEST_ERROR: &str = "getIvrCommand request error";
pub const IVR_COMMAND_FAILED: &str = "IVR command failed";
pub const TRIGGERED_BY_ERROR: &str = "triggeredByError";
pub const TRIGGERED_BY_ALWAYS: &str = "triggeredByAlways";
pub const NEW_CALL_EMPTY: &str = "newCall response empty";
/// A tenant's quota refused something; its name follows.
pub const QUOTA: &str = "quota exceeded";
pub const NEW_CALL_FAILED: &str = "newCall request failed";

/// The two hooks whose answer is a routing, as far as their alarms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingHook {
    NewCall,
    CallEvent,
}

impl RoutingHook {
    pub fn kind(self) -> AlarmKind {
        match self {
            RoutingHook::NewCall => AlarmKind::NewCallEventError,
            RoutingHook::CallEvent => AlarmKind::CallEventError,
        }
    }

    /// IC-164.
    pub fn unknown_action(self) -> &'static str {
        match self {
            RoutingHook::NewCall => "newCall response with unknown action",
            RoutingHook::CallEvent => "callEvent response with unknown action",
        }
    }

    /// IC-165.
    pub fn missing_action(self) -> &'static str {
        match self {
            RoutingHook::NewCall => "newCall response without action",
            RoutingHook::CallEvent => "No action provided in callEvent response",
        }
    }

    pub fn failed(self, failure: &HookFailure) -> &'static str {
        match (self, failure) {
            (RoutingHook::NewCall, HookFailure::Empty) => NEW_CALL_EMPTY,
            (RoutingHook::NewCall, _) => NEW_CALL_FAILED,
            (RoutingHook::CallEvent, _) => "No response to callEvent request",
        }
    }
}

pub fn invalid_sip_address(address: &str) -> String {
    format!("Invalid sip address: {}", printable(address, 256))
}

/// Alarm text of a getIvrCommand that gave no command.
pub fn ivr_failed(failure: &HookFailure) -> &'static str {
    match failure {
        HookFailure::Empty => IVR_EMPTY,
        HookFailure::Nonsense { .. } => IVR_COMMAND_FAILED,
        _ => IVR_REQUEST_ERROR,
    }
}

/// What happened, for the alarm's details. Texts of guests are cut and made printable.
pub fn failure_details(failure: &HookFailure) -> String {
    match failure {
        HookFailure::Trap { message } => format!("trap: {}", printable(message, 1024)),
        HookFailure::Deadline => "no answer by the deadline".into(),
        HookFailure::Cpu => "out of CPU time".into(),
        HookFailure::Limit { name } => format!("limit: {name}"),
        HookFailure::Refused { message } => format!("refused: {}", printable(message, 256)),
        HookFailure::Nonsense { field, why } => format!("{}: {}", printable(field, 64), printable(why, 256)),
        HookFailure::Unavailable { why } => format!("unavailable: {}", printable(why, 256)),
        HookFailure::Empty => "empty".into(),
    }
}

/// At most `max` characters, control characters as `?`, so that no text from outside forges a log line.
pub fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect::<String>().replace('\n', " | ")
}

/// Equal alarms of a tenant: the first passes, those of the next 10 s are counted, and the next one after that carries the count.
#[derive(Debug, Default)]
pub struct AlarmLimit {
    seen: BTreeMap<(Arc<str>, AlarmKind, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    sent: Time,
    held_back: u32,
}

impl AlarmLimit {
    /// `Some(n)`: send it, `n` equal ones were held back before. `None`: hold it back.
    pub fn pass(&mut self, now: Time, domain: &Arc<str>, kind: AlarmKind, error: &str) -> Option<u32> {
        let key = (domain.clone(), kind, error.to_owned());
        if let Some(seen) = self.seen.get_mut(&key) {
            if now.since(seen.sent) < limits::ALARM_EVERY {
                seen.held_back = seen.held_back.saturating_add(1);
                return None;
            }
            let held_back = std::mem::take(&mut seen.held_back);
            seen.sent = now;
            return Some(held_back);
        }
        if self.seen.len() >= limits::ALARM_KINDS
            && let Some(oldest) = self.seen.iter().min_by_key(|(_, seen)| seen.sent).map(|(key, _)| key.clone())
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(key, Seen { sent: now, held_back: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_164_165_277_texts_are_the_seeds() {
        let new_call = RoutingHook::NewCall;
        assert_eq!(new_call.kind().name(), "newCallEventError");
        assert_eq!(new_call.unknown_action(), "newCall response with unknown action");
        assert_eq!(new_call.missing_action(), "newCall response without action");
        assert_eq!(new_call.failed(&HookFailure::Empty), "newCall response empty");
        assert_eq!(new_call.failed(&HookFailure::Deadline), "newCall request failed");
        assert_eq!(invalid_sip_address("bob@x"), "Invalid sip address: bob@x");
        let event = RoutingHook::CallEvent;
        assert_eq!(event.kind().name(), "callEventError");
        assert_eq!(event.unknown_action(), "callEvent response with unknown action");
        assert_eq!(event.missing_action(), "No action provided in callEvent response");
        assert_eq!(event.failed(&HookFailure::Empty), "No response to callEvent request");
    }

    #[test]
    fn ic_274_one_equal_alarm_in_ten_seconds_with_a_count() {
        let (mut limit, a, b): (_, Arc<str>, Arc<str>) = (AlarmLimit::default(), "a.test".into(), "b.test".into());
        let mut pass = |ms, domain: &Arc<str>, error| limit.pass(Time::from_millis(ms), domain, AlarmKind::CallError, error);
        assert_eq!(pass(0, &a, "x"), Some(0));
        assert_eq!(pass(10, &a, "x"), None);
        assert_eq!(pass(9_999, &a, "x"), None);
        assert_eq!(pass(20, &a, "y"), Some(0), "another error");
        assert_eq!(pass(20, &b, "x"), Some(0), "another tenant");
        assert_eq!(pass(10_000, &a, "x"), Some(2));
        assert_eq!(pass(20_000, &a, "x"), Some(0));
    }

    #[test]
    fn the_table_of_alarms_is_bounded() {
        let (mut limit, domain): (_, Arc<str>) = (AlarmLimit::default(), "a.test".into());
        for i in 0..3 * limits::ALARM_KINDS {
            let at = Time::from_millis(i as u64);
            assert_eq!(limit.pass(at, &domain, AlarmKind::CallError, &invalid_sip_address(&i.to_string())), Some(0));
        }
        assert_eq!(limit.seen.len(), limits::ALARM_KINDS);
    }

    #[test]
    fn details_forge_no_lines() {
        let trap = HookFailure::Trap { message: "a\r\nb\x1b[31m".into() };
        assert_eq!(failure_details(&trap), "trap: a? | b?[31m");
    }
}
