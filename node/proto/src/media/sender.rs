//! The one RTP stream that we send: frames of our own by our clock, and packets of a bridged party with nothing but their header new.
//!
//! A relayed packet keeps its distance to the one before it, in sequence and in time: what was lost stays a gap that the far end sees,
//! counts and conceals, and what was reordered arrives reordered. Wherever the feed changes (a prompt, silence of ours, another SSRC,
//! a sender whose clock jumps) the stream goes on without a step and says so with a marker. Start at [`Sender::place`].

use super::{Codec, FRAME, LegIo, Negotiated, g711};
use crate::time::Time;
use std::net::SocketAddr;

/// RTP header without extensions.
const HEADER: usize = 12;
/// Largest packet time that is negotiated, 60 ms, and one frame more. A relayed packet is not longer either.
pub(super) const BUFFER: usize = 480 + FRAME;
/// A timestamp may run so much farther than our clock, or back, before it is taken for a restart (a second).
const JUMP: i64 = 8000;
/// An event keeps the timestamp of its beginning for as long as 16 bits of duration last (RFC 4733 2.3).
const EVENT_BACK: i64 = 0x1_0000 + JUMP;
/// Frames without a packet, beyond the last one's own length, before silence of ours goes out. A shorter hole is loss or jitter, which
/// the far end conceals better than we can fill it; a longer one is a pause (DTX, hold, mute), through which NAT bindings, recorders
/// and RTP timeouts of the far end want a stream.
const PATIENCE: u32 = 2;

/// A packet that was accepted from a party, on its way to who hears it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spoken<'p> {
    pub(super) at: Time,
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// First of a stream: nothing before it tells where it belongs.
    pub(super) fresh: bool,
    /// After all others of its stream; else a straggler.
    pub(super) newest: bool,
    /// It belongs to the stream whose sequence counts; events of a gateway may have one of their own, in which they cannot be relayed.
    pub(super) in_stream: bool,
    pub(super) content: Content<'p>,
    /// The digit that went down with it.
    pub(super) pressed: Option<char>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content<'p> {
    Audio(Codec, &'p [u8]),
    Event(&'p [u8]),
    /// Comfort noise (RFC 3389), which we never negotiate: what it stands for is filled with silence.
    Noise,
}

/// The stream that we send.
pub(super) struct Sender {
    ssrc: u32,
    sequence: u16,
    /// Of the next frame.
    pub timestamp: u32,
    /// The next packet begins a talkspurt (RFC 3551 4.1).
    pub marker: bool,
    /// What does not fill a packet yet. In use, and in memory, only where the peer insists on another packet time than a frame.
    buffer: Vec<u8>,
    pub packets: u64,
    pub octets: u64,
    map: Option<Map>,
    /// Frames since the last relayed packet, and the frames that it lasts.
    idle: u32,
    lasts: u32,
}

/// Where packets of a party's stream lie in ours: what to add to theirs.
#[derive(Clone, Copy)]
struct Map {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Stragglers from before it belong to a stretch that is over.
    first: u16,
    /// After the newest audio, on their clock, and when that came.
    end: u32,
    at: Time,
}

/// A header for a relayed packet.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Placed {
    sequence: u16,
    timestamp: u32,
    marker: bool,
}

impl Sender {
    pub fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Sender {
        Sender { ssrc, sequence, timestamp, marker: true, buffer: Vec::new(), packets: 0, octets: 0, map: None, idle: 0, lasts: 0 }
    }

    /// A frame passes without audio.
    pub fn skip(&mut self) {
        self.buffer.clear();
        self.marker = true;
        self.map = None;
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
    }

    /// What is relayed from now on continues nothing.
    pub fn cut(&mut self) {
        self.map = None;
    }

    /// A frame of our own, sent in packets of so many samples.
    pub fn audio(&mut self, io: &mut impl LegIo, to: SocketAddr, payload_type: u8, samples: usize, law: &[u8; FRAME]) {
        self.marker |= self.map.take().is_some();
        let mut timestamp = self.timestamp.wrapping_sub(self.buffer.len() as u32);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        if samples == FRAME && self.buffer.is_empty() {
            let marker = std::mem::take(&mut self.marker);
            return self.packet(io, to, payload_type, marker, timestamp, law);
        }
        self.buffer.extend_from_slice(law);
        let mut whole = std::mem::take(&mut self.buffer);
        let mut done = 0;
        while let Some(payload) = whole.get(done..done + samples) {
            let marker = std::mem::take(&mut self.marker);
            self.packet(io, to, payload_type, marker, timestamp, payload);
            timestamp = timestamp.wrapping_add(samples as u32);
            done += samples;
        }
        whole.drain(..done);
        self.buffer = whole;
    }

    /// A packet of our own.
    pub fn packet(&mut self, io: &mut impl LegIo, to: SocketAddr, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) {
        let place = Placed { sequence: self.sequence, timestamp, marker };
        self.sequence = self.sequence.wrapping_add(1);
        self.write(io, to, payload_type, place, payload.len(), |out| out.copy_from_slice(payload));
    }

    /// A frame passes in which packets of a party may go out. True: none has for so long that silence of ours is due.
    pub fn waited(&mut self) -> bool {
        if self.map.is_none() {
            return true;
        }
        self.idle += 1;
        // The packet itself, sent between the frame before and this one, is the first.
        let over = self.idle.saturating_sub(1);
        if over >= self.lasts {
            if over >= self.lasts + PATIENCE {
                return true;
            }
            self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        }
        false
    }

    /// Sends a party's packet on. The payload goes out as it came, or as the same samples in the other law.
    pub fn relay(&mut self, io: &mut impl LegIo, to: SocketAddr, negotiated: &Negotiated, spoken: &Spoken<'_>) {
        let (payload_type, payload, codec) = match (spoken.content, negotiated.telephone_event) {
            (Content::Audio(codec, law), _) if law.len() <= BUFFER => (negotiated.payload_type, law, codec),
            (Content::Event(payload), Some(payload_type)) if payload.len() <= BUFFER => (payload_type, payload, negotiated.codec),
            _ => return self.leave_out(spoken),
        };
        if let Some(place) = self.place(spoken) {
            self.buffer.clear();
            self.write(io, to, payload_type, place, payload.len(), |out| g711::copy(negotiated.codec, out, codec, payload));
        }
    }

    /// The header of a party's packet in our stream. `None`: it is of a stretch that is over.
    fn place(&mut self, spoken: &Spoken<'_>) -> Option<Placed> {
        let known = self.map.filter(|map| map.ssrc == spoken.ssrc && !spoken.fresh && !map.is_left_by(spoken));
        let (map, marker) = match known {
            Some(map) if spoken.newest || spoken.sequence.wrapping_sub(map.first).cast_signed() >= 0 => (map, spoken.marker),
            None if spoken.newest => {
                let map = Map {
                    ssrc: spoken.ssrc,
                    sequence: self.sequence.wrapping_sub(spoken.sequence),
                    timestamp: self.timestamp.wrapping_sub(spoken.timestamp),
                    first: spoken.sequence,
                    end: spoken.timestamp,
                    at: spoken.at,
                };
                (map, true)
            }
            _ => return None,
        };
        let (sequence, timestamp) = (spoken.sequence.wrapping_add(map.sequence), spoken.timestamp.wrapping_add(map.timestamp));
        let map = self.map.insert(map);
        if spoken.newest {
            self.marker = false;
            self.idle = 0;
            self.sequence = sequence.wrapping_add(1);
            match spoken.content {
                Content::Event(payload) => {
                    let duration = payload.get(2..4).map_or(0, |d| u32::from(u16::from_be_bytes([d[0], d[1]])));
                    let end = timestamp.wrapping_add(duration);
                    if end.wrapping_sub(self.timestamp).cast_signed() > 0 {
                        self.timestamp = end;
                    }
                    self.lasts = 1;
                }
                Content::Audio(_, law) => {
                    map.end = spoken.timestamp.wrapping_add(law.len() as u32);
                    map.at = spoken.at;
                    self.timestamp = timestamp.wrapping_add(law.len() as u32);
                    self.lasts = law.len().div_ceil(FRAME) as u32;
                }
                Content::Noise => {}
            }
        }
        Some(Placed { sequence, timestamp, marker })
    }

    /// A packet of a party that does not go on must not look like a lost one.
    pub fn leave_out(&mut self, spoken: &Spoken<'_>) {
        if let Some(map) = self.map.as_mut().filter(|map| map.ssrc == spoken.ssrc && spoken.newest && spoken.in_stream) {
            map.sequence = map.sequence.wrapping_sub(1);
            map.first = spoken.sequence.wrapping_add(1);
        }
    }

    fn write(&mut self, io: &mut impl LegIo, to: SocketAddr, payload_type: u8, place: Placed, len: usize, payload: impl FnOnce(&mut [u8])) {
        let mut packet = [0; HEADER + BUFFER];
        packet[0] = 0x80;
        packet[1] = payload_type & 0x7f | u8::from(place.marker) << 7;
        packet[2..4].copy_from_slice(&place.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&place.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        payload(&mut packet[HEADER..HEADER + len]);
        io.send(to, false, &packet[..HEADER + len]);
        self.packets += 1;
        self.octets += len as u64;
    }

    /// What is buffered changes its law.
    pub fn recode(&mut self, from: Codec, to: Codec) {
        g711::recode(from, to, &mut self.buffer);
        self.marker = true;
    }
}

impl Map {
    /// The sender's timestamps have left their clock: this packet begins a new stretch.
    fn is_left_by(&self, spoken: &Spoken<'_>) -> bool {
        let step = i64::from(spoken.timestamp.wrapping_sub(self.end).cast_signed());
        let passed = i64::try_from(spoken.at.since(self.at).as_micros() / 125).unwrap_or(i64::MAX);
        let back = if matches!(spoken.content, Content::Event(_)) { EVENT_BACK } else { JUMP };
        spoken.newest && (step > passed.saturating_add(JUMP) || step < -back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(sequence: u16, timestamp: u32) -> Spoken<'static> {
        static LAW: [u8; FRAME] = [1; FRAME];
        Spoken {
            at: Time::ZERO,
            ssrc: 7,
            sequence,
            timestamp,
            marker: false,
            fresh: false,
            newest: true,
            in_stream: true,
            content: Content::Audio(Codec::Pcmu, &LAW),
            pressed: None,
        }
    }

    /// Sequence, timestamp and marker of what comes out, by name of the case.
    fn check(name: &str, packets: &[Spoken<'_>], want: &[Option<(u16, u32, bool)>]) {
        let mut sender = Sender::new(1, 65_534, u32::MAX - 200);
        let placed: Vec<_> = packets.iter().map(|p| sender.place(p).map(|p| (p.sequence, p.timestamp, p.marker))).collect();
        assert_eq!(placed, want, "{name}");
    }

    const BASE: u32 = u32::MAX - 200;

    fn at(n: u32) -> u32 {
        BASE.wrapping_add(n * FRAME as u32)
    }

    #[test]
    fn headers_are_rewritten_and_distances_kept() {
        let s = spoken;
        let late = |sequence, timestamp| Spoken { newest: false, ..spoken(sequence, timestamp) };
        check(
            "in order, ours wraps",
            &[s(10, 1000), s(11, 1160), s(12, 1320)],
            &[Some((65_534, at(0), true)), Some((65_535, at(1), false)), Some((0, at(2), false))],
        );
        check("theirs wraps", &[s(65_535, u32::MAX - 9), s(0, 150)], &[Some((65_534, at(0), true)), Some((65_535, at(1), false))]);
        check("loss stays a gap", &[s(10, 0), s(13, 480)], &[Some((65_534, at(0), true)), Some((1, at(3), false))]);
        check(
            "reordering is passed on",
            &[s(10, 0), s(12, 320), late(11, 160), s(13, 480)],
            &[Some((65_534, at(0), true)), Some((0, at(2), false)), Some((65_535, at(1), false)), Some((1, at(3), false))],
        );
        check("a straggler from before the beginning is not", &[s(10, 1600), late(9, 1440)], &[Some((65_534, at(0), true)), None]);
        check("nor does it begin anything", &[late(9, 0)], &[None]);
        check(
            "a pause of the sender (DTX) is kept with its marker",
            &[s(10, 0), Spoken { marker: true, ..s(11, 4800) }],
            &[Some((65_534, at(0), true)), Some((65_535, at(30), true))],
        );
        let fresh = Spoken { fresh: true, ssrc: 8, ..s(5000, 7) };
        check(
            "another SSRC goes on with a marker",
            &[s(10, 0), fresh, Spoken { ssrc: 8, ..s(5001, 167) }],
            &[Some((65_534, at(0), true)), Some((65_535, at(1), true)), Some((0, at(2), false))],
        );
        for jump in [1 << 30, 160 + 8001, (-8001i32).cast_unsigned()] {
            check(
                "timestamps that jump go on with a marker",
                &[s(10, 0), s(11, 160u32.wrapping_add(jump)), s(12, 320u32.wrapping_add(jump))],
                &[Some((65_534, at(0), true)), Some((65_535, at(1), true)), Some((0, at(2), false))],
            );
        }
        let later = Spoken { at: Time::from_millis(60_000), ..s(11, 480_000) };
        check("a long pause is no jump", &[s(10, 0), later], &[Some((65_534, at(0), true)), Some((65_535, at(3000), false))]);
    }

    #[test]
    fn events_keep_their_time_beside_the_audio() {
        let digit = |sequence, timestamp, payload| Spoken { content: Content::Event(payload), ..spoken(sequence, timestamp) };
        let (short, long): (&[u8], &[u8]) = (&[5, 0, 0, 160], &[5, 0x80, 0x80, 0]);
        check(
            "within speech",
            &[spoken(10, 0), digit(11, 160, short), digit(12, 160, long), spoken(13, 160 + 0x8000)],
            &[
                Some((65_534, at(0), true)),
                Some((65_535, at(1), false)),
                Some((0, at(1), false)),
                // More than a second after the last audio by its timestamp, and at once by the clock of this table.
                Some((1, at(1).wrapping_add(0x8000), true)),
            ],
        );
        check(
            "out of silence",
            &[digit(11, 160, short), digit(12, 160, long)],
            &[Some((65_534, at(0), true)), Some((65_535, at(0), false))],
        );
    }

    #[test]
    fn what_is_left_out_is_no_loss() {
        let mut sender = Sender::new(1, 100, 0);
        sender.place(&spoken(10, 0));
        sender.leave_out(&Spoken { content: Content::Noise, ..spoken(11, 160) });
        let place = sender.place(&spoken(12, 320)).unwrap();
        assert_eq!((place.sequence, place.timestamp, place.marker), (101, 320, false));
        assert_eq!(sender.place(&Spoken { newest: false, ..spoken(10, 0) }), None, "its number is taken");
    }

    #[test]
    fn a_hole_is_waited_for_and_then_filled_at_its_place() {
        for (samples, quiet) in [(FRAME, 2), (3 * FRAME, 4), (80, 2)] {
            let law = vec![1; samples];
            let mut sender = Sender::new(1, 100, 5000);
            assert!(sender.waited(), "nothing was relayed yet");
            sender.place(&Spoken { content: Content::Audio(Codec::Pcmu, &law), ..spoken(10, 0) });
            assert!(!sender.waited(), "the frame of the packet itself");
            assert_eq!((0..20).take_while(|_| !sender.waited()).count(), quiet, "{samples}");
            assert_eq!(sender.timestamp, 5000 + samples as u32 + 2 * FRAME as u32, "{samples}");
        }
    }
}
