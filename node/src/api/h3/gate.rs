//! Who may open a QUIC connection. Pure: it counts, and says; QUIC does it.
//!
//! A first datagram may bear a forged address. It is taken at its word while few handshakes are under way; beyond, it gets a Retry, which
//! costs no memory here and is smaller than what it answers, and only who receives that comes again with a proven address.

use crate::limits;
use crate::net::tcp::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
    /// Those that have a connection: no more than there are of these.
    sources: HashMap<IpAddr, Source>,
}

/// Connections, those in their handshake among them.
#[derive(Default)]
struct Source {
    connections: usize,
    handshakes: usize,
}

#[derive(Debug)]
pub(super) enum Admitted {
    In(Place),
    ProveAddress,
    Refused,
}

impl Gate {
    pub(super) fn admit(&self, from: IpAddr, is_proven: bool) -> Admitted {
        let from = network(from);
        let mut counts = self.lock();
        let (connections, handshakes) = counts.sources.get(&from).map_or((0, 0), |source| (source.connections, source.handshakes));
        let crowded = handshakes >= limits::API_HANDSHAKES_OF_SOURCE;
        if !is_proven && (crowded || counts.handshakes >= limits::API_HANDSHAKES_TRUSTED) {
            return Admitted::ProveAddress;
        }
        if crowded || connections >= limits::API_QUIC_OF_SOURCE || counts.connections >= limits::API_QUIC_CONNECTIONS {
            return Admitted::Refused;
        }
        counts.connections += 1;
        counts.handshakes += 1;
        let source = counts.sources.entry(from).or_default();
        source.connections += 1;
        source.handshakes += 1;
        Admitted::In(Place { gate: self.clone(), from, is_shaking: true })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's. Given back when it is dropped.
pub(super) struct Place {
    gate: Gate,
    from: IpAddr,
    is_shaking: bool,
}

impl Place {
    pub(super) fn has_shaken(&mut self) {
        if std::mem::take(&mut self.is_shaking) {
            let mut counts = self.gate.lock();
            counts.handshakes -= 1;
            counts.sources.entry(self.from).and_modify(|source| source.handshakes -= 1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.has_shaken();
        let mut counts = self.gate.lock();
        counts.connections -= 1;
        if let Some(source) = counts.sources.get_mut(&self.from) {
            source.connections -= 1;
            if source.connections == 0 {
                counts.sources.remove(&self.from);
            }
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({})", self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(last: usize) -> IpAddr {
        Ipv4Addr::from_bits(0xc000_0200 + u32::try_from(last).expect("small")).into()
    }

    #[test]
    fn under_load_an_address_has_to_be_proven() {
        let gate = Gate::default();
        let mut shaking: Vec<_> = (0..limits::API_HANDSHAKES_TRUSTED).map(|n| gate.admit(ip(n), false)).collect();
        assert!(shaking.iter().all(|one| matches!(one, Admitted::In(_))));
        assert!(matches!(gate.admit(ip(99), false), Admitted::ProveAddress));
        assert!(matches!(gate.admit(ip(99), true), Admitted::In(_)));
        if let Some(Admitted::In(place)) = shaking.first_mut() {
            place.has_shaken();
        }
        assert!(matches!(gate.admit(ip(99), false), Admitted::In(_)));
        drop(shaking);
        let counts = gate.lock();
        assert_eq!((counts.connections, counts.handshakes, counts.sources.len()), (0, 0, 0));
    }

    #[test]
    fn a_source_and_all_of_them_have_an_end() {
        let gate = Gate::default();
        let shaken = |from: IpAddr| match gate.admit(from, true) {
            Admitted::In(mut place) => {
                place.has_shaken();
                Some(place)
            }
            _ => None,
        };
        let of_one: Vec<_> = (0..limits::API_QUIC_OF_SOURCE + 5).filter_map(|_| shaken(ip(0))).collect();
        assert_eq!(of_one.len(), limits::API_QUIC_OF_SOURCE);
        assert!(matches!(gate.admit(ip(0), true), Admitted::Refused));
        let others: Vec<_> = (1..limits::API_QUIC_CONNECTIONS + 5).filter_map(|n| shaken(ip(n))).collect();
        assert_eq!(of_one.len() + others.len(), limits::API_QUIC_CONNECTIONS);
        drop(of_one);
        assert!(matches!(gate.admit(ip(0), true), Admitted::In(_)));
    }

    #[test]
    fn handshakes_of_one_source_have_an_end_proven_or_not() {
        let gate = Gate::default();
        let shaking: Vec<_> = (0..limits::API_HANDSHAKES_OF_SOURCE).map(|_| gate.admit(ip(0), true)).collect();
        assert!(matches!(gate.admit(ip(0), false), Admitted::ProveAddress));
        assert!(matches!(gate.admit(ip(0), true), Admitted::Refused));
        assert!(matches!(gate.admit(ip(1), false), Admitted::In(_)));
        drop(shaking);
    }
}
