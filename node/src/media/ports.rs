//! Port pairs for legs: RTP on an even port, RTCP on the odd one after it, from the configured range.
//!
//! A pair that was given back is used again last, so that stray packets of the call before do not meet the next one. What another
//! program holds is passed over. Threads share a range by taking every n-th pair.

use crate::config::PortRange;
use crate::limits;
use crate::net::udp;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

pub struct PortPool {
    address: IpAddr,
    free: VecDeque<u16>,
}

/// A bound pair. Give `port` back when the sockets are closed.
pub struct Pair {
    pub port: u16,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

impl PortPool {
    /// The pairs of thread `index` of `threads`, beginning anywhere.
    pub fn new(address: IpAddr, range: PortRange, index: usize, threads: usize, seed: u64) -> PortPool {
        let mut free: VecDeque<u16> = (range.first..range.last).step_by(2).skip(index).step_by(threads.max(1)).collect();
        if !free.is_empty() {
            // A start that nobody can guess, so that a sender of junk must spray the whole range.
            let start = usize::try_from(seed % free.len() as u64).unwrap_or(0);
            free.rotate_left(start);
        }
        PortPool { address, free }
    }

    pub fn open(&mut self) -> Result<Pair, String> {
        let tries = limits::PORT_TRIES.min(self.free.len());
        let mut last = None;
        for _ in 0..tries {
            let Some(port) = self.free.pop_front() else { break };
            match self.bind(port) {
                Ok((rtp, rtcp)) => return Ok(Pair { port, rtp, rtcp }),
                Err(error) => {
                    self.free.push_back(port);
                    let passing = error.kind() == io::ErrorKind::AddrInUse;
                    last = Some(error);
                    // Anything else (no descriptors, no such address) is true of the next port too.
                    if !passing {
                        break;
                    }
                }
            }
        }
        Err(match last {
            None => "no RTP port is free".into(),
            Some(error) => format!("no RTP port could be bound: {error}"),
        })
    }

    pub fn release(&mut self, port: u16) {
        self.free.push_back(port);
    }

    fn bind(&self, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
        let rtp = udp::bind(SocketAddr::new(self.address, port), limits::RTP_SOCKET_BUFFER)?;
        let rtcp = udp::bind(SocketAddr::new(self.address, port + 1), limits::RTP_SOCKET_BUFFER)?;
        // RFC 3246, RFC 4594: voice is expedited forwarding. Routers that do not care do not mind.
        udp::mark_voice(&rtp);
        Ok((rtp, rtcp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range of `pairs` pairs that were free a moment ago.
    fn range(pairs: u16) -> PortRange {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
        let first = probe.min(65_534 - 2 * pairs).max(1024);
        PortRange { first, last: first + 2 * pairs - 1 }
    }

    fn pool(range: PortRange, seed: u64) -> PortPool {
        PortPool::new("127.0.0.1".parse().unwrap(), range, 0, 1, seed)
    }

    #[test]
    fn pairs_are_even_and_odd_and_come_again_last() {
        let mut pool = pool(range(4), 6);
        let first = pool.free[0];
        let pair = pool.open().unwrap();
        assert_eq!(pair.port & 1, 0);
        assert_eq!(pair.rtp.local_addr().unwrap().port(), pair.port);
        assert_eq!(pair.rtcp.local_addr().unwrap().port(), pair.port + 1);
        assert_eq!(pair.port, first);
        drop((pair.rtp, pair.rtcp));
        pool.release(first);
        assert_eq!(pool.free.back(), Some(&first));
    }

    #[test]
    fn ports_in_use_are_passed_over() {
        let range = range(3);
        let mut pool = pool(range, 0);
        // The odd one of the first pair is somebody else's.
        let taken = UdpSocket::bind(("127.0.0.1", pool.free[0] + 1));
        let blocked = pool.free[0];
        let pair = pool.open().unwrap();
        assert!(taken.is_err() || pair.port != blocked);
        assert_eq!(pool.free.len(), 2);
    }

    #[test]
    fn an_empty_pool_says_so() {
        let mut pool = pool(range(1), 1);
        let pair = pool.open().map(|p| p.port);
        assert!(pair.is_ok() || pair.as_ref().is_err_and(|e| e.contains("bound")));
        if pair.is_ok() {
            assert_eq!(pool.open().err().unwrap(), "no RTP port is free");
        }
        pool = PortPool::new("192.0.2.1".parse().unwrap(), PortRange { first: 20000, last: 20003 }, 0, 1, 0);
        assert!(pool.open().err().unwrap().starts_with("no RTP port could be bound: "));
        assert_eq!(pool.free.len(), 2);
    }

    #[test]
    fn threads_share_a_range_without_overlap() {
        let range = PortRange { first: 20000, last: 20019 };
        let mut all: Vec<u16> =
            (0..3).flat_map(|i| PortPool::new("127.0.0.1".parse().unwrap(), range, i, 3, 7).free.into_iter().collect::<Vec<_>>()).collect();
        all.sort_unstable();
        assert_eq!(all, (20000..20020).step_by(2).collect::<Vec<u16>>());
    }
}
