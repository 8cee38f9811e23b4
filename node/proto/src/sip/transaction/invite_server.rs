//! INVITE server transaction: RFC 3261 17.2.1 (figure 7) with RFC 6026 7.1 (Accepted, timer L).

use super::{Backoff, Fired, Timing};
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    /// A 300-699 was sent; it is repeated until the ACK.
    Completed,
    /// Its ACK came; more of them are absorbed.
    Confirmed,
    /// A 2xx was sent; the dialog repeats it until the ACK, the transaction absorbs INVITEs.
    Accepted,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct InviteServer {
    state: State,
    /// Timer G: the final response again, at T1 doubling to T2.
    g: Option<Backoff>,
    /// Timer H in Completed, I in Confirmed, L in Accepted.
    end: Option<Time>,
}

impl InviteServer {
    pub fn new() -> InviteServer {
        InviteServer { state: State::Proceeding, g: None, end: None }
    }

    /// The user sends a response; false when it is too late for one.
    pub fn on_send(&mut self, now: Time, status: u16, timing: &Timing) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        match status {
            100..200 => {}
            200..300 => (self.state, self.end) = (State::Accepted, Some(now + timing.patience())),
            _ => {
                self.state = State::Completed;
                self.g = (!timing.reliable).then(|| Backoff::start(now, timing.t1));
                self.end = Some(now + timing.patience());
            }
        }
        true
    }

    /// The INVITE again: whether to repeat the last response.
    pub fn on_invite(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed)
    }

    /// An ACK that matches this transaction: for a 300-699 it is absorbed here.
    pub fn on_ack(&mut self, now: Time, timing: &Timing) {
        if self.state == State::Completed {
            // Timer I: T4 over UDP, so that retransmitted ACKs find somebody.
            let i = if timing.reliable { now } else { now + timing.t4 };
            (self.state, self.g, self.end) = (State::Confirmed, None, Some(i));
        }
    }

    pub fn on_timeout(&mut self, now: Time, timing: &Timing) -> Fired {
        if self.end.is_some_and(|end| end <= now) {
            let fired = if self.state == State::Completed { Fired::TimedOut } else { Fired::Done };
            (self.state, self.g, self.end) = (State::Terminated, None, None);
            return fired;
        }
        match &mut self.g {
            Some(g) if g.at <= now => {
                g.fire(now, Some(timing.t2));
                Fired::Retransmit
            }
            _ => Fired::Nothing,
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        [self.g.map(|g| g.at), self.end].into_iter().flatten().min()
    }

    /// A 2xx was sent: an ACK with this branch belongs to the dialog, not here.
    pub fn is_accepted(&self) -> bool {
        self.state == State::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TCP, UDP, run};
    use super::*;

    fn timeline(m: &mut InviteServer, timing: &Timing) -> Vec<(u64, Fired)> {
        run(|now| {
            let fired = now.map(|now| m.on_timeout(now, timing));
            (m.next_timeout(), fired)
        })
    }

    #[test]
    fn timer_g_doubles_to_t2_and_h_ends_it() {
        let mut m = InviteServer::new();
        assert!(m.on_send(Time::ZERO, 100, &UDP) && m.on_send(Time::ZERO, 180, &UDP));
        assert_eq!(m.next_timeout(), None, "a call may ring as long as its user likes");
        assert!(m.on_invite(), "a repeated INVITE gets the provisional again");
        assert!(m.on_send(Time::ZERO, 486, &UDP));
        assert!(m.on_invite() && !m.on_send(Time::ZERO, 200, &UDP));
        let retransmits = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
        let expected: Vec<(u64, Fired)> =
            retransmits.map(|ms| (ms, Fired::Retransmit)).into_iter().chain([(32_000, Fired::TimedOut)]).collect();
        assert_eq!(timeline(&mut m, &UDP), expected);
        let mut m = InviteServer::new();
        m.on_send(Time::ZERO, 486, &TCP);
        assert_eq!(timeline(&mut m, &TCP), [(32_000, Fired::TimedOut)], "no timer G on streams, H all the same");
    }

    #[test]
    fn the_ack_stops_g_and_timer_i_absorbs_more() {
        for (timing, done) in [(UDP, 5_700), (TCP, 700)] {
            let mut m = InviteServer::new();
            m.on_send(Time::ZERO, 603, &timing);
            m.on_ack(Time::from_millis(700), &timing);
            m.on_ack(Time::from_millis(900), &timing);
            assert!(!m.on_invite(), "confirmed: nothing more is sent");
            assert_eq!(timeline(&mut m, &timing), [(done, Fired::Done)]);
        }
    }

    #[test]
    fn a_2xx_is_not_repeated_here_and_timer_l_absorbs_invites() {
        let mut m = InviteServer::new();
        m.on_send(Time::from_millis(10), 200, &UDP);
        assert!(m.is_accepted() && !m.on_invite());
        m.on_ack(Time::from_millis(20), &UDP);
        assert!(m.is_accepted(), "the ACK for a 2xx is the dialog's");
        assert_eq!(timeline(&mut m, &UDP), [(32_010, Fired::Done)]);
    }
}
