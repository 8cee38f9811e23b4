//! INVITE client transaction: RFC 3261 17.1.1 (figure 5) with RFC 6026 7.2 (Accepted, timer M).

use super::{Backoff, Fired, Timing};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    /// A 300-699 came; retransmissions of it get the ACK again.
    Completed,
    /// A 2xx came; retransmissions of it, and those of other forks, go to the user.
    Accepted,
    Terminated,
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Provisional or 2xx: the user's.
    Pass,
    /// First 300-699: ACK it, and the user's.
    PassAndAck,
    /// A 300-699 again: ACK it again.
    Ack,
    Ignore,
}

#[derive(Debug)]
pub(crate) struct InviteClient {
    state: State,
    /// Timer A: the INVITE again, at T1, 2*T1, 4*T1...
    a: Option<Backoff>,
    /// Timer B in Calling, D in Completed, M in Accepted: the end.
    end: Option<Time>,
    /// Of a re-INVITE, which no human answers: it has an end in Proceeding too. RFC 3261 lets a callee ring for ever, but a dialog that
    /// ends meanwhile would leave its transaction behind.
    within: bool,
}

impl InviteClient {
    pub fn new(now: Time, timing: &Timing) -> InviteClient {
        let a = (!timing.reliable).then(|| Backoff::start(now, timing.t1));
        InviteClient { state: State::Calling, a, end: Some(now + timing.patience()), within: false }
    }

    /// A re-INVITE.
    pub fn within(now: Time, timing: &Timing) -> InviteClient {
        InviteClient { within: true, ..InviteClient::new(now, timing) }
    }

    pub fn on_response(&mut self, now: Time, status: u16, timing: &Timing) -> Answered {
        match (self.state, status) {
            (State::Calling | State::Proceeding, 100..200) => {
                (self.state, self.a, self.end) = (State::Proceeding, None, self.within.then(|| now + timing.patience()));
                Answered::Pass
            }
            (State::Calling | State::Proceeding, 200..300) => {
                (self.state, self.a, self.end) = (State::Accepted, None, Some(now + timing.patience()));
                Answered::Pass
            }
            (State::Calling | State::Proceeding, _) => {
                // Timer D: at least 32 s over UDP, so that each retransmission finds its ACK.
                let d = if timing.reliable { now } else { now + timing.patience() };
                (self.state, self.a, self.end) = (State::Completed, None, Some(d));
                Answered::PassAndAck
            }
            (State::Accepted, 200..300) => Answered::Pass,
            (State::Completed, 300..) => Answered::Ack,
            _ => Answered::Ignore,
        }
    }

    pub fn on_timeout(&mut self, now: Time, _timing: &Timing) -> Fired {
        if self.end.is_some_and(|end| end <= now) {
            let fired = if self.is_pending() { Fired::TimedOut } else { Fired::Done };
            (self.state, self.a, self.end) = (State::Terminated, None, None);
            return fired;
        }
        match &mut self.a {
            Some(a) if a.at <= now => {
                a.fire(now, None);
                Fired::Retransmit
            }
            _ => Fired::Nothing,
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        [self.a.map(|a| a.at), self.end].into_iter().flatten().min()
    }

    /// No final response yet.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// A provisional came: from now on CANCEL may be sent (RFC 3261 9.1).
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TCP, UDP, run};
    use super::*;

    fn timeline(mut m: InviteClient, timing: &Timing) -> Vec<(u64, Fired)> {
        run(|now| {
            let fired = now.map(|now| m.on_timeout(now, timing));
            (m.next_timeout(), fired)
        })
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn timer_a_doubles_without_cap_and_b_ends_it() {
        let expected: Vec<(u64, Fired)> = [500, 1500, 3500, 7500, 15500, 31500]
            .map(|ms| (ms, Fired::Retransmit))
            .into_iter()
            .chain([(32_000, Fired::TimedOut)])
            .collect();
        assert_eq!(timeline(InviteClient::new(Time::ZERO, &UDP), &UDP), expected);
        assert_eq!(timeline(InviteClient::new(Time::ZERO, &TCP), &TCP), [(32_000, Fired::TimedOut)]);
    }

    #[test]
    fn responses_by_state() {
        // (responses with their times, what the last gave, what the clock does afterwards)
        type Row = (&'static [(u64, u16)], Answered, &'static [(u64, Fired)]);
        let rows: &[Row] = &[
            (&[(100, 100)], Answered::Pass, &[]),
            (&[(100, 100), (200, 180)], Answered::Pass, &[]),
            (&[(100, 200)], Answered::Pass, &[(32_100, Fired::Done)]),
            (&[(100, 180), (200, 200)], Answered::Pass, &[(32_200, Fired::Done)]),
            (&[(100, 200), (600, 200)], Answered::Pass, &[(32_100, Fired::Done)]),
            (&[(100, 200), (600, 486)], Answered::Ignore, &[(32_100, Fired::Done)]),
            (&[(100, 200), (600, 180)], Answered::Ignore, &[(32_100, Fired::Done)]),
            (&[(100, 486)], Answered::PassAndAck, &[(32_100, Fired::Done)]),
            (&[(100, 486), (600, 486)], Answered::Ack, &[(32_100, Fired::Done)]),
            (&[(100, 486), (600, 180)], Answered::Ignore, &[(32_100, Fired::Done)]),
            (&[(100, 486), (600, 200)], Answered::Ignore, &[(32_100, Fired::Done)]),
        ];
        for (responses, last, clock) in rows {
            let mut m = InviteClient::new(Time::ZERO, &UDP);
            let mut got = Answered::Ignore;
            for (ms, status) in *responses {
                got = m.on_response(at(*ms), *status, &UDP);
            }
            assert_eq!(got, *last, "{responses:?}");
            assert_eq!(timeline(m, &UDP), *clock, "{responses:?}");
        }
        let mut m = InviteClient::within(Time::ZERO, &UDP);
        m.on_response(at(100), 100, &UDP);
        assert_eq!(timeline(m, &UDP), [(32_100, Fired::TimedOut)], "a re-INVITE does not ring for ever");
        let mut m = InviteClient::new(Time::ZERO, &TCP);
        m.on_response(at(1), 486, &TCP);
        assert_eq!(timeline(m, &TCP), [(1, Fired::Done)], "timer D is zero on streams");
    }
}
