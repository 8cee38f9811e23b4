//! Captures for sipp to play: RTP audio and RFC 4733 digits as pcap files, made when a test runs instead of being kept as binaries.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Packets and when they go out.
pub struct Capture {
    packets: Vec<(Duration, Vec<u8>)>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    at: Duration,
}

const FRAME: usize = 160;
const FRAME_TIME: Duration = Duration::from_millis(20);

impl Capture {
    pub fn new(ssrc: u32) -> Capture {
        Capture { packets: Vec::new(), sequence: 100, timestamp: 8000, ssrc, at: Duration::ZERO }
    }

    fn rtp(&mut self, marker: bool, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut packet = vec![0x80, u8::from(marker) << 7 | payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        self.packets.push((self.at, packet));
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// u-law bytes, 20 ms a packet.
    pub fn audio(mut self, law: &[u8]) -> Capture {
        for frame in law.chunks(FRAME) {
            self.rtp(false, 0, self.timestamp, frame);
            self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
            self.at += FRAME_TIME;
        }
        self
    }

    /// One digit of 100 ms as RFC 4733 2.5.1.3 wants it: updates every 20 ms, the end three times.
    pub fn digit(mut self, digit: char, payload_type: u8) -> Capture {
        let event = "0123456789*#ABCD".find(digit).expect("a DTMF digit") as u8;
        for step in 1..=5u16 {
            let [high, low] = (step * 160).to_be_bytes();
            self.rtp(step == 1, payload_type, self.timestamp, &[event, 10, high, low]);
            self.at += FRAME_TIME;
        }
        let [high, low] = 800u16.to_be_bytes();
        for _ in 0..3 {
            self.rtp(false, payload_type, self.timestamp, &[event, 0x80 | 10, high, low]);
        }
        self.timestamp = self.timestamp.wrapping_add(800);
        self
    }

    /// A classic pcap file: Ethernet, IPv4, UDP. sipp puts its own addresses and ports in.
    pub fn write(&self, path: &Path) {
        let mut file: Vec<u8> = Vec::new();
        // Magic (microseconds), version 2.4, zone, accuracy, largest packet, link type 1 (Ethernet).
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            file.extend(word.to_le_bytes());
        }
        for (at, rtp) in &self.packets {
            let udp = (8 + rtp.len()) as u16;
            let ip = 20 + udp;
            let length = 14 + u32::from(ip);
            for word in [1_700_000_000 + at.as_secs() as u32, at.subsec_micros(), length, length] {
                file.extend(word.to_le_bytes());
            }
            file.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00]);
            file.extend([0x45, 0]);
            file.extend(ip.to_be_bytes());
            file.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
            for half in [40_000u16, 40_002, udp, 0] {
                file.extend(half.to_be_bytes());
            }
            file.extend(rtp);
        }
        fs::write(path, file).expect("a capture can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_ends_three_times_and_moves_the_clock() {
        let capture = Capture::new(7).audio(&[0xff; 320]).digit('#', 101).audio(&[0xff; 160]);
        assert_eq!(capture.packets.len(), 2 + 5 + 3 + 1);
        let ends = capture.packets.iter().filter(|(_, p)| p[1] & 0x7f == 101 && p[13] & 0x80 != 0).count();
        assert_eq!(ends, 3);
        let last = &capture.packets[10].1;
        assert_eq!(u32::from_be_bytes([last[4], last[5], last[6], last[7]]), 8000 + 320 + 800);
    }
}
