//! Non-INVITE server transaction: RFC 3261 17.2.2 (figure 8).

use super::{Fired, Timing};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Server {
    state: State,
    /// Timer J: 64*T1 after the final response, zero on streams.
    j: Option<Time>,
}

impl Server {
    pub fn new() -> Server {
        Server { state: State::Trying, j: None }
    }

    /// The user sends a response; false when a final one was sent before.
    pub fn on_send(&mut self, now: Time, status: u16, timing: &Timing) -> bool {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..200) => self.state = State::Proceeding,
            (State::Trying | State::Proceeding, _) => {
                let j = if timing.reliable { now } else { now + timing.patience() };
                (self.state, self.j) = (State::Completed, Some(j));
            }
            _ => return false,
        }
        true
    }

    /// The request again: whether to repeat the last response.
    pub fn on_request(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed)
    }

    pub fn on_timeout(&mut self, now: Time) -> Fired {
        if self.j.is_none_or(|j| j > now) {
            return Fired::Nothing;
        }
        (self.state, self.j) = (State::Terminated, None);
        Fired::Done
    }

    pub fn next_timeout(&self) -> Option<Time> {
        self.j
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TCP, UDP};
    use super::*;

    #[test]
    fn timer_j_absorbs_retransmissions() {
        for (timing, done) in [(UDP, 32_100), (TCP, 100)] {
            let mut m = Server::new();
            assert!(!m.on_request(), "nothing to repeat before a response was sent");
            assert!(m.on_send(Time::from_millis(50), 100, &timing) && m.on_request());
            assert_eq!(m.next_timeout(), None);
            assert!(m.on_send(Time::from_millis(100), 200, &timing) && m.on_request());
            assert!(!m.on_send(Time::from_millis(150), 200, &timing), "one final response");
            assert_eq!(m.next_timeout(), Some(Time::from_millis(done)));
            assert_eq!(m.on_timeout(Time::from_millis(done - 1)), Fired::Nothing);
            assert_eq!(m.on_timeout(Time::from_millis(done)), Fired::Done);
            assert!(!m.on_request());
        }
    }
}
