//! Whom we listen to: learning the peer's address once after each SDP, then no more (RTP bleed).
//!
//! Packets count only from the signalled IP, whatever their port (NAT); policy may allow other IPs for the first three seconds after
//! the SDP. Three seconds after the first such packet, or after five of one SSRC, the source is locked.

use crate::limits::{LEARN_PACKETS, LEARN_WINDOW};
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};

pub struct Source {
    signalled: SocketAddr,
    any_ip: bool,
    opened: Time,
    /// First packet that was accepted since: the window runs from here, since a peer behind NAT may be silent longer than it.
    first: Option<Time>,
    /// Accepted is `[0]`; the other is a rival that may take its place.
    candidates: [Option<Candidate>; 2],
    locked: Option<SocketAddr>,
    told: bool,
}

#[derive(Clone, Copy)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    packets: u32,
}

impl Source {
    pub fn new(now: Time, signalled: SocketAddr, any_ip: bool) -> Source {
        Source { signalled: canonical(signalled), any_ip, opened: now, first: None, candidates: [None; 2], locked: None, told: false }
    }

    /// The SDP says another address: learn anew.
    pub fn reopen(&mut self, now: Time, signalled: SocketAddr) {
        *self = Source::new(now, signalled, self.any_ip);
    }

    /// Whether to use a packet with a payload type that was negotiated.
    pub fn accept(&mut self, now: Time, from: SocketAddr, ssrc: u32) -> bool {
        if let Some(locked) = self.locked {
            return from == locked || canonical(from) == locked;
        }
        let from = canonical(from);
        let known = self.candidates.iter().position(|c| c.is_some_and(|c| c.from == from));
        // A source that was learnt under `any_ip` may go on after its window.
        if known.is_none() && from.ip() != self.signalled.ip() && !(self.any_ip && now.since(self.opened) < LEARN_WINDOW) {
            return false;
        }
        let place = match known {
            Some(place) => place,
            None => match self.candidates.iter().position(Option::is_none) {
                Some(place) => {
                    self.candidates[place] = Some(Candidate { from, ssrc, packets: 0 });
                    place
                }
                // Two are enough; a flood of senders shall not push out one of them.
                None => return false,
            },
        };
        self.first.get_or_insert(now);
        let full = self.count(place, ssrc);
        if place == 1 && (full || from == self.signalled) {
            self.candidates.swap(0, 1);
        }
        let accepted = self.candidates[0].is_some_and(|c| c.from == from);
        if accepted && full {
            self.locked = Some(from);
        }
        accepted
    }

    /// One more of this SSRC; true at the number that locks.
    fn count(&mut self, place: usize, ssrc: u32) -> bool {
        let Some(c) = &mut self.candidates[place] else { return false };
        if c.ssrc != ssrc {
            (c.ssrc, c.packets) = (ssrc, 0);
        }
        c.packets = c.packets.saturating_add(1);
        c.packets >= LEARN_PACKETS
    }

    pub fn tick(&mut self, now: Time) {
        if self.locked.is_none() && self.first.is_some_and(|first| now.since(first) >= LEARN_WINDOW) {
            self.locked = self.candidates[0].map(|c| c.from);
        }
    }

    pub fn is_open(&self) -> bool {
        self.locked.is_none()
    }

    /// The lock, once.
    pub fn take_locked(&mut self) -> Option<SocketAddr> {
        self.locked.filter(|_| !std::mem::replace(&mut self.told, self.locked.is_some()))
    }

    /// The IP that RTCP must come from.
    pub fn ip(&self) -> IpAddr {
        self.locked.or(self.candidates[0].map(|c| c.from)).unwrap_or(self.signalled).ip()
    }

    /// Where to send: to where the peer sends from (symmetric RTP). An IP that nobody signalled gets nothing before it is locked.
    pub fn target(&self) -> Option<SocketAddr> {
        let learnt = self.locked.or(self.candidates[0].map(|c| c.from).filter(|from| from.ip() == self.signalled.ip()));
        learnt.or(Some(self.signalled)).filter(|to| !to.ip().is_unspecified() && to.port() != 0)
    }
}

/// A dual-stack socket shows IPv4 peers as `::ffff:a.b.c.d`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn five_packets_of_one_ssrc_lock() {
        let mut s = Source::new(Time::ZERO, a("10.0.0.1:4000"), false);
        let nat = a("10.0.0.1:61000");
        assert_eq!(s.target(), Some(a("10.0.0.1:4000")));
        for n in 0..5 {
            assert!(s.is_open());
            assert!(s.accept(Time::from_millis(n * 20), nat, 7));
            assert_eq!(s.target(), Some(nat));
        }
        assert_eq!((s.take_locked(), s.take_locked()), (Some(nat), None));
        assert!(!s.accept(Time::from_millis(200), a("10.0.0.1:4000"), 7));
        assert!(s.accept(Time::from_millis(200), a("[::ffff:10.0.0.1]:61000"), 9));
    }

    #[test]
    fn three_seconds_after_the_first_packet_lock() {
        let mut s = Source::new(Time::ZERO, a("10.0.0.1:4000"), false);
        s.tick(Time::from_millis(60_000));
        assert!(s.is_open(), "a peer behind NAT that starts late is not lost");
        assert!(s.accept(Time::from_millis(60_000), a("10.0.0.1:5"), 1));
        s.tick(Time::from_millis(62_999));
        assert!(s.is_open());
        s.tick(Time::from_millis(63_000));
        assert_eq!(s.take_locked(), Some(a("10.0.0.1:5")));
    }

    #[test]
    fn another_ip_is_foreign_unless_policy_allows_and_only_at_first() {
        let mut s = Source::new(Time::ZERO, a("10.0.0.1:4000"), false);
        assert!(!s.accept(Time::ZERO, a("10.0.0.2:4000"), 1));
        let mut s = Source::new(Time::ZERO, a("10.0.0.1:4000"), true);
        let other = a("10.0.0.2:4000");
        assert!(s.accept(Time::from_millis(2990), other, 1));
        assert_eq!(s.target(), Some(a("10.0.0.1:4000")), "nothing is sent there before the lock");
        for n in 0..4 {
            assert!(s.accept(Time::from_millis(3010 + n), other, 1));
        }
        s.tick(Time::from_millis(5990));
        assert_eq!(s.target(), Some(other));
        let mut late = Source::new(Time::ZERO, a("10.0.0.1:4000"), true);
        assert!(!late.accept(Time::from_millis(3000), other, 1));
    }

    #[test]
    fn the_signalled_port_beats_a_stray_and_a_steady_rival_beats_it_too() {
        let (signalled, stray) = (a("10.0.0.1:4000"), a("10.0.0.1:9"));
        let mut s = Source::new(Time::ZERO, signalled, false);
        assert!(s.accept(Time::ZERO, stray, 1));
        assert!(s.accept(Time::ZERO, signalled, 2));
        assert!(!s.accept(Time::ZERO, stray, 1));
        assert!(!s.accept(Time::ZERO, a("10.0.0.1:10"), 1), "there is no third place");
        let mut s = Source::new(Time::ZERO, signalled, false);
        let real = a("10.0.0.1:77");
        assert!(s.accept(Time::ZERO, stray, 1));
        assert_eq!((0..5).filter(|_| s.accept(Time::ZERO, real, 3)).count(), 1);
        assert_eq!(s.take_locked(), Some(real));
    }

    #[test]
    fn only_a_moved_sdp_reopens() {
        let mut s = Source::new(Time::ZERO, a("10.0.0.1:4000"), false);
        (0..5).for_each(|_| assert!(s.accept(Time::ZERO, a("10.0.0.1:4000"), 1)));
        assert!(s.take_locked().is_some());
        s.reopen(Time::from_millis(1), a("10.0.0.9:4000"));
        assert!(!s.accept(Time::from_millis(2), a("10.0.0.1:4000"), 1));
        assert!(s.accept(Time::from_millis(2), a("10.0.0.9:1"), 1));
        s.reopen(Time::from_millis(3), a("0.0.0.0:4000"));
        assert_eq!(s.target(), None);
    }
}
