//! The four transaction machines of RFC 3261 17, with the Accepted state of RFC 6026. One file, one diagram each.
//!
//! A machine is told what came (`on_*`) and answers with what to do; it keeps its own deadlines and names the earliest. It holds no
//! message: the endpoint stores the last bytes sent and sends them again when told to.

pub(crate) mod client;
pub(crate) mod invite_client;
pub(crate) mod invite_server;
pub(crate) mod server;

pub(crate) use client::Client;
pub(crate) use invite_client::InviteClient;
pub(crate) use invite_server::InviteServer;
pub(crate) use server::Server;

use crate::time::Time;
use std::time::Duration;

/// RFC 3261 table 4: what all timers are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
    /// TCP and TLS: nothing is retransmitted and nothing lingers to absorb retransmissions.
    pub reliable: bool,
}

impl Timing {
    /// 64*T1: how long a transaction waits for the other side (timers B, F, H, J, L, M).
    pub fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

/// What the clock asked a machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    Nothing,
    /// Send the last message again.
    Retransmit,
    /// Timer B or F, or H: the other side never answered. The machine is terminated.
    TimedOut,
    /// The wait for retransmissions is over. The machine is terminated.
    Done,
}

/// A retransmission timer: fires, then waits twice as long, up to a cap.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    at: Time,
    interval: Duration,
}

impl Backoff {
    fn start(now: Time, first: Duration) -> Backoff {
        Backoff { at: now + first, interval: first }
    }

    fn fire(&mut self, now: Time, cap: Option<Duration>) {
        self.interval = cap.map_or(self.interval * 2, |c| (self.interval * 2).min(c));
        self.at = now + self.interval;
    }
}

#[cfg(test)]
pub(crate) const UDP: Timing =
    Timing { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5), reliable: false };
#[cfg(test)]
pub(crate) const TCP: Timing = Timing { reliable: true, ..UDP };

/// Runs a machine by its own deadlines: at which millisecond it did what.
#[cfg(test)]
fn run(mut next: impl FnMut(Option<Time>) -> (Option<Time>, Option<Fired>)) -> Vec<(u64, Fired)> {
    let mut log = Vec::new();
    let mut at = next(None).0;
    while let Some(now) = at {
        let (after, fired) = next(Some(now));
        log.push((now.0 / 1_000_000, fired.expect("a deadline fires something")));
        at = after;
        assert!(log.len() < 100, "runs for ever");
    }
    log
}
