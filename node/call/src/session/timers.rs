//! Timers that the handler sets for itself: each comes back to it once, as news. They end with the session.

use super::*;
use crate::door::CommandResult;

/// One that is not due yet. Its name is the handler's own, and unique in the session.
#[derive(Debug)]
pub(super) struct Timer {
    name: String,
    pub at: Time,
}

impl Session {
    /// The same name again moves it.
    pub(super) fn set_timer(&mut self, now: Time, name: &str, after: Duration) -> CommandResult {
        if name.is_empty() || name.len() > limits::TIMER_NAME {
            return Err(CommandError::BadValue { field: "name", why: format!("{} bytes; 1 to {}", name.len(), limits::TIMER_NAME) });
        }
        if !(limits::TIMER_MIN..=limits::TIMER_MAX).contains(&after) {
            let (from, to) = (limits::TIMER_MIN.as_millis(), limits::TIMER_MAX.as_millis());
            return Err(CommandError::BadValue { field: "after-ms", why: format!("{from} to {to} are possible") });
        }
        let at = now + after;
        if let Some(timer) = self.timers.iter_mut().find(|timer| timer.name == name) {
            timer.at = at;
        } else if self.timers.len() < limits::TIMERS {
            self.timers.push(Timer { name: name.to_owned(), at });
        } else {
            return Err(CommandError::Limit(format!("timers: {} in a session", limits::TIMERS)));
        }
        Ok(Done::Nothing)
    }

    /// Forgetting none is no error.
    pub(super) fn cancel_timer(&mut self, name: &str) -> CommandResult {
        self.timers.retain(|timer| timer.name != name);
        Ok(Done::Nothing)
    }

    /// Tells of those that are due, in their order.
    pub(super) fn run_timers(&mut self, now: Time, x: &mut Exchange) {
        let mut due: Vec<Timer> = self.timers.extract_if(.., |timer| timer.at <= now).collect();
        due.sort_by_key(|timer| timer.at);
        for Timer { name, .. } in due {
            self.notify(x, Notification::Timer { info: self.info.clone(), name });
        }
    }
}
