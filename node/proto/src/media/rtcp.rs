//! RTCP (RFC 3550 6): a report about every five seconds, a goodbye at the end, and reading the peer's.
//!
//! `rtcp-types` reads. Its builders allocate, so the few lines that the tick sends are written here and read back by it in the tests.

use super::jitter::Stream;
use crate::time::Time;
use rtcp_types::prelude::*;
use std::time::Duration;

/// RFC 3550 6.2: five seconds on average, half to one and a half of it.
const INTERVAL: Duration = Duration::from_secs(5);
/// A CNAME is an e-mail-like name; more than this many bytes of it are cut.
const CNAME: usize = 64;
/// Report with one block, SDES and BYE.
pub const BUFFER: usize = 28 + 24 + 12 + CNAME + 4 + 8;

pub struct Rtcp {
    pub due: Time,
    random: u64,
    ssrc: u32,
    cname: [u8; CNAME],
    cname_len: usize,
    /// Middle 32 bits of the peer's last sender report and when it came (RFC 3550 6.4.1 LSR, DLSR).
    peer_report: Option<(u32, Time)>,
    expected_before: u64,
    received_before: u64,
    packets_before: u64,
}

/// What we have sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub packets: u64,
    pub octets: u64,
    pub timestamp: u32,
}

pub enum Heard {
    Bye(u32),
}

impl Rtcp {
    pub fn new(now: Time, ssrc: u32, cname: &str) -> Rtcp {
        let mut bytes = [0; CNAME];
        let cname_len = cname.len().min(CNAME);
        bytes[..cname_len].copy_from_slice(&cname.as_bytes()[..cname_len]);
        // The SSRC is from the session's seed, so this repeats with it and differs between legs.
        let random = (u64::from(ssrc) << 32 | u64::from(!ssrc)) | 1;
        let mut rtcp = Rtcp {
            due: now,
            random,
            ssrc,
            cname: bytes,
            cname_len,
            peer_report: None,
            expected_before: 0,
            received_before: 0,
            packets_before: 0,
        };
        // RFC 3550 6.2: half the interval before the first.
        rtcp.due = now + rtcp.interval() / 2;
        rtcp
    }

    fn interval(&mut self) -> Duration {
        // xorshift64*, which is enough to spread reports.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let part = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 48) as u32;
        INTERVAL / 2 + INTERVAL * part / 65_536
    }

    /// A report, with a goodbye if this is the end. Returns its length.
    pub fn report(&mut self, now: Time, sent: Sent, stream: Option<&Stream>, bye: bool, out: &mut [u8; BUFFER]) -> usize {
        self.due = now + self.interval();
        let mut w = Writer { out, at: 0 };
        let sender = sent.packets != self.packets_before;
        self.packets_before = sent.packets;
        let blocks = u8::from(stream.is_some());
        let words = if sender { 6 } else { 1 } + 6 * u16::from(blocks);
        w.header(blocks, if sender { 200 } else { 201 }, words);
        w.u32(self.ssrc);
        if sender {
            // RFC 3550 4: without a wall clock, our own may stand in; only differences count.
            let fraction = (u64::from((now.0 % 1_000_000_000) as u32) << 32) / 1_000_000_000;
            w.u32((now.0 / 1_000_000_000) as u32);
            w.u32(fraction as u32);
            w.u32(sent.timestamp);
            w.u32(sent.packets as u32);
            w.u32(sent.octets as u32);
        }
        if let Some(s) = stream {
            let (expected, received) = (s.expected(), s.received);
            let expected_now = expected.saturating_sub(self.expected_before);
            let lost_now = expected_now.saturating_sub(received.saturating_sub(self.received_before));
            (self.expected_before, self.received_before) = (expected, received);
            let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u32;
            let (lsr, dlsr) = match self.peer_report {
                Some((lsr, at)) => (lsr, (now.since(at).as_micros() * 65_536 / 1_000_000).min(u128::from(u32::MAX)) as u32),
                None => (0, 0),
            };
            w.u32(s.ssrc);
            w.u32(fraction << 24 | s.lost().min(0x7f_ffff) as u32);
            w.u32((s.highest - 0x1_0000) as u32);
            w.u32(s.jitter());
            w.u32(lsr);
            w.u32(dlsr);
        }
        // SDES: one chunk with a CNAME, ended by at least one zero and padded to a word.
        let items = 2 + self.cname_len;
        let padded = items / 4 * 4 + 4;
        w.header(1, 202, 1 + (padded / 4) as u16);
        w.u32(self.ssrc);
        w.bytes(&[1, self.cname_len as u8]);
        w.bytes(&self.cname[..self.cname_len]);
        w.bytes(&[0; 4][..padded - items]);
        if bye {
            w.header(1, 203, 1);
            w.u32(self.ssrc);
        }
        w.at
    }

    /// A compound packet from the peer. What cannot be read ends it.
    pub fn read(&mut self, now: Time, mut packet: &[u8]) -> (bool, Option<Heard>) {
        let mut heard = None;
        let mut any = false;
        while let &[first, kind, high, low, ..] = packet {
            let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
            if first >> 6 != 2 || packet.len() < length {
                break;
            }
            let (one, rest) = packet.split_at(length);
            packet = rest;
            any = true;
            match kind {
                200 => {
                    if let Ok(report) = rtcp_types::SenderReport::parse(one) {
                        self.peer_report = Some(((report.ntp_timestamp() >> 16) as u32, now));
                    }
                }
                203 => {
                    if let Ok(bye) = rtcp_types::Bye::parse(one) {
                        heard = bye.ssrcs().next().map(Heard::Bye);
                    }
                }
                _ => {}
            }
        }
        (any, heard)
    }
}

struct Writer<'a> {
    out: &'a mut [u8; BUFFER],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }
    fn header(&mut self, count: u8, kind: u8, words: u16) {
        let [high, low] = words.to_be_bytes();
        self.bytes(&[0x80 | count, kind, high, low]);
    }
}
