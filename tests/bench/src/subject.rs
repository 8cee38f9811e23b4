//! Whoever is measured: the node or a peer, a SIP address with processes behind it.

use anyhow::Result;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

pub trait Subject {
    fn sip(&self) -> SocketAddr;
    /// Processor time of all its processes so far.
    fn cpu(&self) -> Result<Duration>;
    /// Resident bytes of all its processes.
    fn resident(&self) -> Result<u64>;
    /// Processor time of its threads so far, by name, where that is worth a look.
    fn threads(&self) -> BTreeMap<String, Duration> {
        BTreeMap::new()
    }
    /// What it had to say.
    fn log(&self) -> String;

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A port of loopback that is free for UDP and TCP, below those that the kernel hands out by itself.
pub fn free_port() -> Result<u16> {
    // Begun at a place of this process, so that two benches rarely ask for the same one.
    let first = 10_000 + (std::process::id() as u16 % 50) * 100;
    for port in (first..16_000).chain(10_000..first) {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && !taken(port) {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free between 10000 and 16000")
}

/// Whether this process has given `port` away before: whoever got it may not have bound it yet.
fn taken(port: u16) -> bool {
    static GIVEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let mut given = GIVEN.lock().expect("nobody panics with it");
    let before = given.contains(&port);
    given.push(port);
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_once() {
        let ports: Vec<u16> = (0..5).map(|_| free_port().expect("a port")).collect();
        let mut sorted = ports.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 5, "{ports:?}");
    }
}
