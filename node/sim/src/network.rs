//! The network between phones and node: each direction between two hosts loses, delays, doubles and reorders for itself, by dice of
//! the world's seed. It carries no bytes; it says when a datagram arrives, if it does.

use hookswitch_proto::{Random, Time};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a datagram is held so that later ones overtake it: three frames.
const HELD: Duration = Duration::from_millis(60);

/// How often something happens, in a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds(pub u32);

impl Odds {
    pub const NEVER: Odds = Odds(0);
    pub const ALWAYS: Odds = Odds(1_000_000);

    pub const fn percent(n: u32) -> Odds {
        Odds(n * 10_000)
    }

    pub fn happens(self, random: &mut Random) -> bool {
        // No draw where there is no choice: a clean path costs nothing, and its repair changes no other dice.
        self.0 > 0 && random.u32() % 1_000_000 < self.0
    }
}

/// One direction between two hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub delay: Duration,
    /// Up to so much more, evenly.
    pub jitter: Duration,
    pub loss: Odds,
    pub duplicate: Odds,
    /// Held back until later ones have overtaken it.
    pub reorder: Odds,
    /// From, until: nothing gets through.
    pub outages: Vec<(Time, Time)>,
}

impl Path {
    pub fn delayed(delay: Duration) -> Path {
        Path { delay, ..Path::default() }
    }
    pub fn lossy(loss: Odds) -> Path {
        Path { loss, ..Path::default() }
    }
}

/// When the copies of a datagram arrive; both `None`: it is lost.
pub(crate) type Arrivals = [Option<Time>; 2];

pub struct Network {
    random: Random,
    /// Where no path is set.
    pub usual: Path,
    paths: BTreeMap<(IpAddr, IpAddr), Path>,
    /// What a NAT makes of the addresses behind it.
    outside: BTreeMap<SocketAddr, SocketAddr>,
}

impl Network {
    pub(crate) fn new(random: Random) -> Network {
        Network { random, usual: Path::default(), paths: BTreeMap::new(), outside: BTreeMap::new() }
    }

    pub fn set(&mut self, from: IpAddr, to: IpAddr, path: Path) {
        self.paths.insert((from, to), path);
    }

    /// From now on `inside` is seen as `outside`, and reached there alone: what is sent to its former address is lost.
    pub fn rebind(&mut self, inside: SocketAddr, outside: SocketAddr) {
        self.outside.insert(inside, outside);
    }

    /// The sender's address as the receiver sees it.
    pub(crate) fn seen(&self, from: SocketAddr) -> SocketAddr {
        self.outside.get(&from).copied().unwrap_or(from)
    }

    /// Where a datagram to this address ends up, if anywhere.
    pub(crate) fn reached(&self, to: SocketAddr) -> Option<SocketAddr> {
        if self.outside.is_empty() {
            return Some(to);
        }
        match self.outside.iter().find(|(_, outside)| **outside == to) {
            Some((inside, _)) => Some(*inside),
            None => (!self.outside.contains_key(&to)).then_some(to),
        }
    }

    pub(crate) fn send(&mut self, now: Time, from: IpAddr, to: IpAddr) -> Arrivals {
        let path = self.paths.get(&(from, to)).unwrap_or(&self.usual);
        if path.outages.iter().any(|(begin, end)| (*begin..*end).contains(&now)) || path.loss.happens(&mut self.random) {
            return [None, None];
        }
        let random = &mut self.random;
        let mut arrival = || {
            let jitter = match u64::try_from(path.jitter.as_nanos()).unwrap_or(u64::MAX) {
                0 => 0,
                n => random.u64() % n,
            };
            let held = if path.reorder.happens(random) { HELD } else { Duration::ZERO };
            now + path.delay + Duration::from_nanos(jitter) + held
        };
        let first = Some(arrival());
        let again = path.duplicate.happens(&mut self.random);
        // The copy comes right behind.
        [first, first.filter(|_| again).map(|at| at + Duration::from_millis(1))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network::new(Random::new([3; 32]))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_direction_has_its_own_path() {
        let (a, b, mut network) = (ip("192.0.2.1"), ip("192.0.2.2"), network());
        network.set(
            a,
            b,
            Path { outages: vec![(Time::from_millis(10), Time::from_millis(20))], ..Path::delayed(Duration::from_millis(5)) },
        );
        assert_eq!(network.send(Time::ZERO, a, b), [Some(Time::from_millis(5)), None]);
        assert_eq!(network.send(Time::from_millis(10), a, b), [None, None]);
        assert_eq!(network.send(Time::from_millis(20), a, b), [Some(Time::from_millis(25)), None]);
        assert_eq!(network.send(Time::from_millis(10), b, a), [Some(Time::from_millis(10)), None]);
    }

    #[test]
    fn odds_are_what_they_say() {
        let (a, b, mut network) = (ip("192.0.2.1"), ip("192.0.2.2"), network());
        network.usual = Path { loss: Odds::percent(5), duplicate: Odds::percent(10), jitter: Duration::from_millis(9), ..Path::default() };
        let sent: Vec<Arrivals> = (0..10_000).map(|_| network.send(Time::ZERO, a, b)).collect();
        let lost = sent.iter().filter(|s| s[0].is_none()).count();
        let doubled = sent.iter().filter(|s| s[1].is_some()).count();
        assert!((400..600).contains(&lost) && (850..1050).contains(&doubled), "{lost} {doubled}");
        assert!(sent.iter().flat_map(|s| s[0]).all(|at| at < Time::from_millis(9)));
    }

    #[test]
    fn a_nat_that_rebinds_leaves_the_old_address_dead() {
        let mut network = network();
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (inside, first, second) = (address("10.0.0.2:5060"), address("203.0.113.1:1000"), address("203.0.113.1:1001"));
        assert_eq!(network.reached(inside), Some(inside));
        network.rebind(inside, first);
        assert_eq!((network.seen(inside), network.reached(first), network.reached(inside)), (first, Some(inside), None));
        network.rebind(inside, second);
        assert_eq!((network.seen(inside), network.reached(second)), (second, Some(inside)));
        // Nobody has the first any more: the world finds no host there.
        assert_eq!(network.reached(first), Some(first));
    }
}
