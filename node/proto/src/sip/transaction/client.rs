//! Non-INVITE client transaction: RFC 3261 17.1.2 (figure 6).

use super::{Backoff, Fired, Timing};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Client {
    state: State,
    /// Timer E: the request again, at T1 doubling to T2; every T2 once a provisional came.
    e: Option<Backoff>,
    /// Timer F until a final response, then K.
    end: Option<Time>,
}

impl Client {
    pub fn new(now: Time, timing: &Timing) -> Client {
        let e = (!timing.reliable).then(|| Backoff::start(now, timing.t1));
        Client { state: State::Trying, e, end: Some(now + timing.patience()) }
    }

    /// Whether the response is the user's: provisionals and the first final one.
    pub fn on_response(&mut self, now: Time, status: u16, timing: &Timing) -> bool {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..200) => {
                self.state = State::Proceeding;
                true
            }
            (State::Trying | State::Proceeding, _) => {
                let k = if timing.reliable { now } else { now + timing.t4 };
                (self.state, self.e, self.end) = (State::Completed, None, Some(k));
                true
            }
            _ => false,
        }
    }

    pub fn on_timeout(&mut self, now: Time, timing: &Timing) -> Fired {
        if self.end.is_some_and(|end| end <= now) {
            let fired = if self.state == State::Completed { Fired::Done } else { Fired::TimedOut };
            (self.state, self.e, self.end) = (State::Terminated, None, None);
            return fired;
        }
        match &mut self.e {
            Some(e) if e.at <= now => {
                if self.state == State::Proceeding {
                    e.interval = timing.t2;
                }
                e.fire(now, Some(timing.t2));
                Fired::Retransmit
            }
            _ => Fired::Nothing,
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        [self.e.map(|e| e.at), self.end].into_iter().flatten().min()
    }

    /// No final response yet.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TCP, UDP, run};
    use super::*;

    fn timeline(mut m: Client, timing: &Timing) -> Vec<(u64, Fired)> {
        run(|now| {
            let fired = now.map(|now| m.on_timeout(now, timing));
            (m.next_timeout(), fired)
        })
    }

    #[test]
    fn timer_e_doubles_to_t2_and_f_ends_it() {
        let retransmits = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
        let expected: Vec<(u64, Fired)> =
            retransmits.map(|ms| (ms, Fired::Retransmit)).into_iter().chain([(32_000, Fired::TimedOut)]).collect();
        assert_eq!(timeline(Client::new(Time::ZERO, &UDP), &UDP), expected);
        assert_eq!(timeline(Client::new(Time::ZERO, &TCP), &TCP), [(32_000, Fired::TimedOut)]);
    }

    #[test]
    fn after_a_provisional_timer_e_is_t2() {
        let mut m = Client::new(Time::ZERO, &UDP);
        assert!(m.on_response(Time::from_millis(100), 100, &UDP));
        let retransmits = [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500];
        let expected: Vec<(u64, Fired)> =
            retransmits.map(|ms| (ms, Fired::Retransmit)).into_iter().chain([(32_000, Fired::TimedOut)]).collect();
        assert_eq!(timeline(m, &UDP), expected);
    }

    #[test]
    fn timer_k_absorbs_retransmissions() {
        for (timing, done) in [(UDP, 5_100), (TCP, 100)] {
            let mut m = Client::new(Time::ZERO, &timing);
            assert!(m.on_response(Time::from_millis(100), 481, &timing));
            assert!(!m.on_response(Time::from_millis(100), 481, &timing), "the user sees one final response");
            assert!(!m.on_response(Time::from_millis(100), 100, &timing));
            assert_eq!(timeline(m, &timing), [(done, Fired::Done)]);
        }
    }
}
