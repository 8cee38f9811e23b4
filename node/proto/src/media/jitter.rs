//! What the peer sent, put in order on the peer's own timeline and cut into frames of 20 ms.
//!
//! Positions count samples since the leg was born; frame `n` covers 160 of them from `n * 160`. While RTP flows, frames leave when they
//! are whole, so none, one or two of them a tick: that follows the sender's clock exactly, and jitter inserts nothing. A hole waits
//! [`REORDER`] for a straggler and is then concealed. Where the peer sent nothing by right (DTX, digits as events) there is silence. When
//! nothing has come for [`STOP`], and before the first packet, the timeline goes on by our clock, in silence.
//!
//! While nobody listens only the timeline and the statistics go on: no frame is kept, and there is no memory for any.

use super::pace::{FRAME_NANOS, Lead};
use super::plc::{HISTORY, Plc};
use super::skew::Skew;
use super::{Codec, FRAME, FrameKind, LegStats, g711};
use crate::limits::JITTER_FRAMES;
use crate::time::Time;
use std::time::Duration;

/// How long a hole waits for its packet after a later one has come. Networks that reorder do it within a few packets.
const REORDER: Duration = Duration::from_millis(80);
/// How long nothing may come before our clock takes over: longer than the stalls of a radio link.
const STOP: Duration = Duration::from_millis(500);
/// A timestamp may jump so much farther than our clock before it is taken for a restart.
const JUMP: i64 = 8000;
/// After a stop, a difference up to this between the timestamp and our clock is jitter.
const SNAP: i64 = 480;
/// Largest payload taken: 200 ms. No G.711 sender makes more than 60 ms.
const PAYLOAD: usize = 1600;
/// Largest payload of a new SSRC that is kept until the next packet confirms it.
const STASH: usize = 480;
/// RFC 3550 A.1 MAX_DROPOUT: a larger step in sequence numbers is a restart.
const DROPOUT: i16 = 3000;
/// Frames that may leave in one tick: a backlog is worked off at double speed, a large one and a stop are caught up faster.
const FLOW_FRAMES: usize = 2;
const STOP_FRAMES: usize = 8;

/// Frames that are kept after they have left: concealment wants the last 50 ms before a hole.
const KEPT: u64 = HISTORY.div_ceil(FRAME) as u64;
/// The ring begins with so many frames, enough for a hole that waits. It grows with a burst or a stall, in at most four steps, and is
/// as small as before when so many ticks (10 s) had no use for more.
const RING: u64 = 8;
const CALM: u16 = 500;

/// A sample, in nanoseconds.
const SAMPLE_NANOS: i64 = 125_000;

const FULL: [u64; 3] = [u64::MAX, u64::MAX, u64::MAX >> 32];

pub struct Jitter {
    /// A ring of frames; empty while nobody listens.
    slots: Vec<Slot>,
    /// The frame that leaves next, and the one that left first in this tick.
    head: u64,
    left: u64,
    /// Of the last audio.
    codec: Codec,
    /// Position after the newest sample known, and its timestamp.
    end: u64,
    end_timestamp: u32,
    /// Samples of silence too many: our clock went on for so long, and then a packet showed that it was only late. The next pause is
    /// as much shorter, so that the timeline keeps to the sender's over any number of them.
    early: u32,
    /// A packet came after the last tick; and the tick that followed the last one.
    fresh: bool,
    taken: Time,
    clock: Clock,
    stream: Option<Stream>,
    candidate: Option<Box<Candidate>>,
    plc: Plc,
    /// Ticks since the ring last had to be larger than it began.
    calm: u16,
    /// Frames that may still leave in this tick.
    allowed: usize,
    /// Packets lost in streams that are over.
    lost_before: u64,
    skew: Skew,
    /// How far the timeline is ahead of our clock: where a packet ends on it, less when that packet came.
    lead: Lead,
    /// What the packet that was pushed last said of it; `None`: nothing.
    led: Option<i64>,
    /// Frames that had left as silence when the next packet told that theirs were lost.
    outage: u64,
}

/// Who moves the timeline.
enum Clock {
    /// Packets do; the audio of the last one lasts until then, and the next is due.
    Peer { until: Time },
    /// We do: the position at a time.
    Ours { since: Time, position: u64 },
}

struct Slot {
    law: [u8; FRAME],
    /// One bit a sample that is known.
    have: [u64; 3],
    /// When a hole was noticed (ms, never 0); 0: none.
    hole: u32,
    codec: Codec,
    /// RTP timestamps of the first and the last packet that samples came from.
    stamps: Option<(u32, u32)>,
    /// Some samples came from the peer.
    voice: bool,
    /// What it was when it left.
    kind: FrameKind,
}

/// RFC 3550 A.1 and A.8 for one SSRC.
#[derive(Clone, Copy)]
pub struct Stream {
    pub ssrc: u32,
    /// Extended highest sequence number.
    pub highest: u64,
    base: u64,
    pub received: u64,
    /// Bit n: `highest - n` came.
    seen: u64,
    transit: Option<i64>,
    /// Times 16.
    jitter: u64,
    /// Samples in the last audio packet.
    samples: usize,
}

impl Stream {
    /// Packets that should have come.
    pub fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
    pub fn jitter(&self) -> u32 {
        (self.jitter / 16).min(u64::from(u32::MAX)) as u32
    }
}

/// The first packet of another SSRC, or of a restarted sequence: the next one in order confirms it, so that strays change nothing.
struct Candidate {
    at: Time,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    codec: Codec,
    len: usize,
    law: [u8; STASH],
    waiting: bool,
    /// It was pushed last.
    fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packet<'a> {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    /// `None`: something else than audio in the same sequence (events, comfort noise).
    pub audio: Option<(Codec, &'a [u8])>,
}

/// What a packet was found to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// After all others; the first of a stream is `fresh`.
    Newest { fresh: bool },
    /// A straggler.
    Older,
    /// A duplicate, far too late, or not (yet) of a stream.
    Unused,
}

/// A frame on its way out.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub law: &'a [u8; FRAME],
    pub codec: Codec,
    pub kind: FrameKind,
    /// RTP timestamps of the first and the last packet that it was made of, where there was one.
    pub stamps: Option<(u32, u32)>,
}

enum Order {
    /// After all others; so many are missing before it.
    Newest(u16),
    Older,
    Duplicate,
    TooOld,
    Restart,
}

impl Jitter {
    pub fn new(now: Time, codec: Codec) -> Jitter {
        Jitter {
            slots: Vec::new(),
            head: 0,
            left: 0,
            codec,
            end: 0,
            end_timestamp: 0,
            early: 0,
            fresh: false,
            taken: now,
            clock: Clock::Ours { since: now, position: 0 },
            stream: None,
            // Allocated at birth, so that the data path never does.
            candidate: Some(Box::new(Candidate {
                at: now,
                ssrc: 0,
                sequence: 0,
                timestamp: 0,
                codec,
                len: 0,
                law: [0; STASH],
                waiting: false,
                fresh: false,
            })),
            plc: Plc::new(),
            calm: 0,
            allowed: 0,
            lost_before: 0,
            skew: Skew::new(),
            lead: Lead::new(-(now.0.cast_signed())),
            led: None,
            outage: 0,
        }
    }

    /// Whether frames are wanted. They begin, and end, where the timeline is.
    pub fn listen(&mut self, on: bool) {
        if on != self.slots.is_empty() {
            return;
        }
        self.head = self.end / FRAME as u64;
        self.left = self.head;
        self.plc.running = false;
        self.slots = Vec::new();
        if on {
            self.resize(RING);
            let part = (self.end % FRAME as u64) as usize;
            if part > 0 {
                // The samples of this frame that nobody listened to.
                let start = self.head * FRAME as u64;
                self.claim(start, self.codec).have = mask(0, part);
            }
        }
    }

    /// Frames that have left in this tick, and when they came.
    pub fn said(&self) -> impl Iterator<Item = (i64, Frame<'_>)> {
        (self.left..self.head).filter_map(|frame| {
            let slot = self.slots.get(self.index(frame))?;
            Some((self.came(frame), Frame { law: &slot.law, codec: slot.codec, kind: slot.kind, stamps: slot.stamps }))
        })
    }

    /// When the last sample of a frame came, or would have come, over the network at its best: in nanoseconds, as [`Time`].
    fn came(&self, frame: u64) -> i64 {
        (frame + 1).cast_signed() * FRAME_NANOS - self.lead.best()
    }

    /// The same of the frame that leaves next.
    pub fn comes(&self) -> i64 {
        self.came(self.head)
    }

    /// The packet that was pushed last had come so long before it was read.
    pub fn waited(&mut self, waited: Duration) {
        if let Some(led) = self.led.take() {
            self.lead.hear(led + i64::try_from(waited.as_nanos()).unwrap_or(0));
        } else if let Some(kept) = self.candidate.as_mut().filter(|c| c.fresh) {
            kept.fresh = false;
            kept.at = kept.at - waited;
        }
    }

    /// A ring of so many frames, with what is in use of the old one.
    fn resize(&mut self, frames: u64) {
        let codec = self.codec;
        let slot = || Slot {
            law: [g711::silence(codec); FRAME],
            have: [0; 3],
            hole: 0,
            codec,
            stamps: None,
            voice: false,
            kind: FrameKind::Silence,
        };
        let mut ring: Vec<Slot> = (0..frames).map(|_| slot()).collect();
        let old = self.slots.len() as u64;
        let first = self.head.saturating_sub(KEPT);
        for frame in first..first + old.min(frames) {
            let index = self.index(frame);
            std::mem::swap(&mut ring[(frame % frames) as usize], &mut self.slots[index]);
        }
        self.slots = ring;
    }

    /// Room for frames up to this position, which is within capacity.
    fn reserve(&mut self, end: u64) {
        let wanted = self.frames_to(end);
        if wanted > RING {
            self.calm = 0;
        }
        if !self.slots.is_empty() && wanted > self.slots.len() as u64 {
            self.resize(wanted.next_power_of_two());
        }
    }

    /// Frames in use when the timeline goes up to here.
    fn frames_to(&self, end: u64) -> u64 {
        end.div_ceil(FRAME as u64).saturating_sub(self.head) + KEPT
    }

    /// Gives back what a burst has left behind.
    fn settle(&mut self) {
        if self.slots.len() as u64 <= RING {
            return;
        }
        self.calm = self.calm.saturating_add(1);
        if self.calm >= CALM && self.frames_to(self.end) <= RING {
            self.resize(RING);
        }
    }

    /// The timeline goes on to here. Where nobody listens frames leave as they come.
    fn move_end(&mut self, samples: usize) {
        self.end += samples as u64;
        if self.slots.is_empty() {
            self.head = self.end / FRAME as u64;
            self.left = self.head;
        }
    }

    fn index(&self, frame: u64) -> usize {
        (frame % (self.slots.len() as u64).max(1)) as usize
    }

    pub fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    /// Frames since the last call that left as silence, but had been sent and lost.
    pub fn take_outage(&mut self) -> u64 {
        std::mem::take(&mut self.outage)
    }

    /// How much faster the sender's clock runs than ours, in parts per million; 0: not known.
    pub fn skew_ppm(&self) -> i32 {
        self.skew.ppm()
    }

    /// Packets that never came, over all streams.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.stream.as_ref().map_or(0, Stream::lost)
    }

    pub fn push(&mut self, now: Time, packet: Packet<'_>, stats: &mut LegStats) -> Verdict {
        self.led = None;
        if packet.audio.is_some_and(|(_, law)| law.len() > PAYLOAD) {
            stats.malformed += 1;
            return Verdict::Unused;
        }
        let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == packet.ssrc) else {
            return self.other_stream(now, packet, stats);
        };
        let order = stream.order(packet.sequence);
        if matches!(order, Order::Restart) {
            return self.other_stream(now, packet, stats);
        }
        if let Some(c) = &mut self.candidate {
            (c.waiting, c.fresh) = (false, false);
        }
        match order {
            Order::Newest(lost) => {
                if packet.audio.is_some() {
                    stream.clock(now, packet.timestamp);
                    self.skew.hear(now, packet.timestamp);
                }
                if let Some((codec, law)) = packet.audio.filter(|(_, law)| !law.is_empty()) {
                    let lost = usize::from(lost) * stream.samples.max(1);
                    stream.samples = law.len();
                    self.append(now, (packet.timestamp, true), lost, codec, law, stats);
                }
                return Verdict::Newest { fresh: false };
            }
            Order::Older => {
                match packet.audio {
                    Some((codec, law)) if !self.fill(packet.timestamp, codec, law) => stats.late += 1,
                    _ => stats.reordered += 1,
                }
                return Verdict::Older;
            }
            Order::Duplicate => stats.duplicate += 1,
            Order::TooOld => stats.late += 1,
            Order::Restart => {}
        }
        Verdict::Unused
    }

    /// RTCP BYE: the next SSRC need not be confirmed.
    pub fn bye(&mut self, ssrc: u32) {
        if self.stream.is_some_and(|s| s.ssrc == ssrc) {
            self.end_stream();
        }
    }

    fn end_stream(&mut self) {
        self.lost_before += self.stream.take().map_or(0, |s| s.lost());
    }

    /// A packet that does not continue the stream.
    fn other_stream(&mut self, now: Time, packet: Packet<'_>, stats: &mut LegStats) -> Verdict {
        // Events and comfort noise alone do not make a stream.
        let Some((codec, law)) = packet.audio.filter(|(_, law)| !law.is_empty()) else { return Verdict::Unused };
        // A stream that has been silent may be replaced at once; one that flows only by two packets in a row.
        let free = self.stream.is_none() || matches!(self.clock, Clock::Ours { .. });
        let mut kept = self.candidate.take();
        let confirmed = kept.as_ref().is_some_and(|c| c.waiting && c.ssrc == packet.ssrc && packet.sequence == c.sequence.wrapping_add(1));
        if free || confirmed {
            if self.stream.is_some_and(|s| s.ssrc != packet.ssrc) {
                stats.ssrc_changes += 1;
            }
            self.end_stream();
            match kept.as_mut().filter(|_| confirmed) {
                Some(c) => {
                    self.stream = Some(Stream::new(c.ssrc, c.sequence));
                    self.skew.hear(c.at, c.timestamp);
                    self.append(c.at, (c.timestamp, false), 0, c.codec, &c.law[..c.len], stats);
                    (c.waiting, c.fresh) = (false, false);
                    self.candidate = kept;
                    self.push(now, packet, stats);
                    return Verdict::Newest { fresh: true };
                }
                None => {
                    let mut stream = Stream::new(packet.ssrc, packet.sequence);
                    stream.clock(now, packet.timestamp);
                    stream.samples = law.len();
                    self.stream = Some(stream);
                    self.skew.hear(now, packet.timestamp);
                    self.append(now, (packet.timestamp, false), 0, codec, law, stats);
                }
            }
            self.candidate = kept;
            return Verdict::Newest { fresh: true };
        } else if let Some(c) = &mut kept {
            stats.foreign += u64::from(std::mem::replace(&mut c.waiting, law.len() <= STASH));
            if c.waiting {
                (c.at, c.ssrc, c.sequence, c.timestamp) = (now, packet.ssrc, packet.sequence, packet.timestamp);
                (c.codec, c.len) = (codec, law.len());
                c.law[..law.len()].copy_from_slice(law);
            }
            c.fresh = c.waiting;
        }
        self.candidate = kept;
        Verdict::Unused
    }

    /// Puts a packet after all that is known. One that does not go `on` is the first of a stream, whose place our clock gives.
    fn append(&mut self, now: Time, (timestamp, on): (u32, bool), lost: usize, codec: Codec, law: &[u8], stats: &mut LegStats) {
        // Up to the tick before: this packet counts in the next one.
        self.follow_clock(now - Duration::from_millis(20));
        // How long a packet has been due by our clock; up to 60 ms are jitter.
        let due = match self.clock {
            Clock::Peer { until } => i64::try_from(now.since(until).as_micros() / 125).unwrap_or(i64::MAX),
            Clock::Ours { .. } => 0,
        };
        let by_clock = if due <= SNAP { 0 } else { due / FRAME as i64 * FRAME as i64 };
        let ours = matches!(self.clock, Clock::Ours { .. });
        let stamped = i64::from(timestamp.wrapping_sub(self.end_timestamp).cast_signed());
        let gap = match stamped {
            _ if !on => by_clock,
            // What differs by whole frames goes by the timestamp: a later one says so at once, an earlier one in the next pause.
            gap if ours && (1..=SNAP).contains(&gap) && gap % FRAME as i64 == 0 => gap,
            gap if ours && (-SNAP..0).contains(&gap) && gap % FRAME as i64 == 0 => {
                self.early = gap.unsigned_abs() as u32;
                0
            }
            // Newer by sequence, older by timestamp: the sender's timestamps were set back. Nothing that it sent is dropped.
            gap if gap < 0 => 0,
            gap if gap > due + JUMP => by_clock,
            gap if ours && gap <= SNAP => 0,
            gap => gap,
        };
        let gap = usize::try_from(gap).unwrap_or(0);
        let capacity = (self.head + JITTER_FRAMES as u64) * FRAME as u64;
        if self.end + (gap + law.len()) as u64 > capacity {
            // More than two seconds ahead of what may leave: a sender at far more than real time.
            stats.late += 1;
            return;
        }
        let moved = gap as i64 - stamped;
        let known = match self.clock {
            _ if !on => false,
            Clock::Peer { .. } => moved == 0,
            Clock::Ours { since, position } => {
                self.lead.grow_stale(i64::try_from(now.since(since).as_nanos()).unwrap_or(i64::MAX));
                // By no more than what our clock went on too far, or than what is taken for jitter: it is the same timeline of the sender.
                (-SNAP..=(self.end - position).cast_signed().max(0)).contains(&moved)
            }
        };
        // An outage longer than `STOP` has left as silence; only now the sequence numbers say that something had been sent.
        if matches!(self.clock, Clock::Ours { .. }) {
            self.outage += (lost.saturating_sub(gap) / FRAME) as u64;
        }
        let lost = lost.min(gap);
        self.codec = codec;
        self.reserve(self.end + (gap + law.len()) as u64);
        self.mark_lost(now, codec, lost);
        self.mark_silent(codec, gap - lost);
        self.write(self.end, codec, law, timestamp);
        self.move_end(law.len());
        self.end_timestamp = timestamp.wrapping_add(law.len() as u32);
        let led = self.end.cast_signed() * SAMPLE_NANOS - now.0.cast_signed();
        if known {
            self.lead.shift(moved * SAMPLE_NANOS);
            self.lead.hear(led);
        } else {
            self.lead = Lead::new(led);
        }
        self.led = Some(led);
        self.fresh = true;
        self.clock = Clock::Peer { until: now + Duration::from_micros(law.len() as u64 * 125) };
    }

    /// A straggler into its hole. False: too late.
    fn fill(&mut self, timestamp: u32, codec: Codec, law: &[u8]) -> bool {
        if self.slots.is_empty() {
            return true;
        }
        let back = i64::from(self.end_timestamp.wrapping_sub(timestamp).cast_signed());
        let Some(start) = u64::try_from(back).ok().and_then(|back| self.end.checked_sub(back)) else { return false };
        let fits = start >= self.head * FRAME as u64 && start + law.len() as u64 <= self.end && self.is_free(start, law.len());
        if fits {
            self.write(start, codec, law, timestamp);
        }
        fits
    }

    /// While our clock rules, the end moves with it.
    fn follow_clock(&mut self, now: Time) {
        let Clock::Ours { since, position } = self.clock else { return };
        let frames = u64::try_from(now.since(since).as_millis() / 20).unwrap_or(0);
        let due = position + frames * FRAME as u64;
        let capacity = (self.head + JITTER_FRAMES as u64 - 20) * FRAME as u64;
        let samples = due.min(capacity).saturating_sub(self.end);
        self.reserve(self.end + samples);
        self.mark_silent(self.codec, usize::try_from(samples).unwrap_or(0));
        self.end_timestamp = self.end_timestamp.wrapping_add(samples as u32);
    }

    /// Begins a tick; then [`Jitter::pop`] until `None`.
    pub fn tick(&mut self, now: Time) {
        self.left = self.head;
        self.lead.tick();
        // What a thread that stood still has left in the socket comes eight packets a tick: it must not pile up here until it is dropped.
        let waiting = self.frames_to(self.end).saturating_sub(KEPT) as usize;
        self.allowed = (waiting / 4).clamp(FLOW_FRAMES, STOP_FRAMES);
        self.settle();
        if std::mem::take(&mut self.fresh) {
            self.taken = now;
        }
        if let Clock::Peer { until } = self.clock
            && now.since(until) >= STOP
        {
            // From the tick on in which its last packet counted, so that there are as many frames as ticks, as before.
            let early = std::mem::take(&mut self.early);
            self.lead.shift(-i64::from(early) * SAMPLE_NANOS);
            self.end_timestamp = self.end_timestamp.wrapping_add(early);
            self.clock = Clock::Ours { since: self.taken, position: self.end.saturating_sub(u64::from(early)) };
        }
        if let Clock::Ours { .. } = self.clock {
            self.allowed = STOP_FRAMES;
            self.follow_clock(now);
        }
    }

    /// Begins the last drain: holes no longer wait, and a last part of a frame is made whole.
    pub fn finish(&mut self) {
        self.allowed = usize::MAX;
        let part = (self.end % FRAME as u64) as usize;
        if part != 0 {
            self.mark_silent(self.codec, FRAME - part);
        }
    }

    /// The next frame, if it may leave now.
    pub fn pop(&mut self, now: Time) -> Option<Frame<'_>> {
        let at = self.head;
        if self.end < (at + 1) * FRAME as u64 || self.allowed == 0 {
            return None;
        }
        let index = self.index(at);
        let whole = self.slots[index].have == FULL;
        if !whole {
            let waited = milliseconds(now).wrapping_sub(self.slots[index].hole);
            let straggling = self.slots[index].hole != 0 && u128::from(waited) < REORDER.as_millis();
            if straggling && self.allowed != usize::MAX {
                return None;
            }
            self.conceal(at);
        } else {
            self.plc.running = false;
        }
        self.head += 1;
        self.allowed = if self.allowed == usize::MAX { usize::MAX } else { self.allowed - 1 };
        let slot = &mut self.slots[index];
        let kind = match (whole, slot.voice) {
            (false, _) => FrameKind::Concealed,
            (true, true) => FrameKind::Voice,
            (true, false) => FrameKind::Silence,
        };
        (slot.have, slot.hole, slot.voice, slot.kind) = ([0; 3], 0, false, kind);
        Some(Frame { law: &slot.law, codec: slot.codec, kind, stamps: slot.stamps })
    }

    fn conceal(&mut self, frame: u64) {
        let start = frame * FRAME as u64;
        let index = self.index(frame);
        for i in 0..FRAME {
            if self.slots[index].have[i / 64] & 1 << (i % 64) != 0 {
                self.plc.running = false;
                continue;
            }
            if !self.plc.running {
                // Frames that have left keep their bytes until the ring comes round.
                let mut history = [0; HISTORY];
                for (n, h) in history.iter_mut().enumerate() {
                    if let Some(position) = (start + i as u64 + n as u64).checked_sub(HISTORY as u64) {
                        let slot = self.slot(position);
                        *h = g711::decode(slot.codec, slot.law[(position % FRAME as u64) as usize]);
                    }
                }
                self.plc.start(&history);
            }
            let sample = self.plc.next();
            let slot = &mut self.slots[index];
            slot.law[i] = g711::encode(slot.codec, sample);
        }
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[self.index(position / FRAME as u64)]
    }

    fn is_free(&self, start: u64, len: usize) -> bool {
        parts(start, len).all(|(position, from, n)| {
            let have = &self.slot(position).have;
            mask(from, n).iter().zip(have).all(|(m, h)| m & h == 0)
        })
    }

    /// Writes samples. The caller has checked that they lie between head and capacity.
    fn write(&mut self, start: u64, codec: Codec, law: &[u8], timestamp: u32) {
        if self.slots.is_empty() {
            return;
        }
        let mut done = 0;
        for (position, from, n) in parts(start, law.len()) {
            let slot = self.claim(position, codec);
            g711::copy(slot.codec, &mut slot.law[from..from + n], codec, &law[done..done + n]);
            slot.voice = true;
            let (first, last) = slot.stamps.unwrap_or((timestamp, timestamp));
            // A straggler may be the first of a frame, or the last.
            let earlier = timestamp.wrapping_sub(first).cast_signed() < 0;
            slot.stamps = Some(if earlier { (timestamp, last) } else { (first, later(last, timestamp)) });
            slot.have = if n == FRAME { FULL } else { join(slot.have, mask(from, n)) };
            done += n;
        }
    }

    fn mark_silent(&mut self, codec: Codec, samples: usize) {
        for (position, from, n) in parts(self.end, if self.slots.is_empty() { 0 } else { samples }) {
            let slot = self.claim(position, codec);
            slot.law[from..from + n].fill(g711::silence(slot.codec));
            slot.have = join(slot.have, mask(from, n));
        }
        self.move_end(samples);
    }

    fn mark_lost(&mut self, now: Time, codec: Codec, samples: usize) {
        for (position, ..) in parts(self.end, if self.slots.is_empty() { 0 } else { samples }) {
            let slot = self.claim(position, codec);
            if slot.hole == 0 {
                slot.hole = milliseconds(now);
            }
        }
        self.move_end(samples);
    }

    /// The slot of a position, in this codec if nothing is in it yet.
    fn claim(&mut self, position: u64, codec: Codec) -> &mut Slot {
        let index = self.index(position / FRAME as u64);
        let slot = &mut self.slots[index];
        if slot.have == [0; 3] {
            (slot.codec, slot.stamps) = (codec, None);
        }
        slot
    }
}

/// The later one of two timestamps.
fn later(a: u32, b: u32) -> u32 {
    if b.wrapping_sub(a).cast_signed() > 0 { b } else { a }
}

impl Stream {
    fn new(ssrc: u32, sequence: u16) -> Stream {
        // One cycle up, so that older packets than the first do not count below zero.
        let highest = u64::from(sequence) + 0x1_0000;
        Stream { ssrc, highest, base: highest, received: 1, seen: 1, transit: None, jitter: 0, samples: 0 }
    }

    fn order(&mut self, sequence: u16) -> Order {
        let step = sequence.wrapping_sub(self.highest as u16).cast_signed();
        if step > 0 {
            if step > DROPOUT {
                return Order::Restart;
            }
            let step = step.unsigned_abs();
            self.highest += u64::from(step);
            self.seen = if step < 64 { self.seen << step | 1 } else { 1 };
            self.received += 1;
            return Order::Newest(step - 1);
        }
        match step.unsigned_abs() {
            back @ 0..64 if self.seen & 1 << back != 0 => Order::Duplicate,
            back @ 0..64 => {
                self.seen |= 1 << back;
                self.received += 1;
                Order::Older
            }
            64..=1000 => Order::TooOld,
            _ => Order::Restart,
        }
    }

    /// RFC 3550 A.8: interarrival jitter.
    fn clock(&mut self, now: Time, timestamp: u32) {
        let transit = (now.0 / 125_000) as i64 - i64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // A wrap of the timestamp looks like 2^32.
            let d = (transit.wrapping_sub(before) as i32).unsigned_abs().min(1 << 20);
            self.jitter = self.jitter + u64::from(d) - (self.jitter + 8) / 16;
        }
    }
}

/// The frames that a stretch of samples touches: position, first sample in the frame, number of samples.
fn parts(start: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = start + len as u64;
    let mut position = start;
    std::iter::from_fn(move || {
        let from = (position % FRAME as u64) as usize;
        let n = (FRAME - from).min((end - position) as usize);
        let part = (position, from, n);
        position += n as u64;
        (n > 0).then_some(part)
    })
}

/// The bits `from..from + n`, `n` not zero.
fn mask(from: usize, n: usize) -> [u64; 3] {
    let mut mask = [0; 3];
    for (i, m) in mask.iter_mut().enumerate() {
        let (low, high) = (from.clamp(i * 64, i * 64 + 64) - i * 64, (from + n).clamp(i * 64, i * 64 + 64) - i * 64);
        if high > low {
            *m = (u64::MAX >> (64 - (high - low))) << low;
        }
    }
    mask
}

fn join(a: [u64; 3], b: [u64; 3]) -> [u64; 3] {
    [a[0] | b[0], a[1] | b[1], a[2] | b[2]]
}

/// Milliseconds for the age of a hole; never 0, wraps after 49 days.
fn milliseconds(now: Time) -> u32 {
    ((now.0 / 1_000_000) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(jitter: &mut Jitter, n: u32, samples: usize) -> Verdict {
        let law = vec![n as u8; samples];
        let packet = Packet { ssrc: 7, sequence: n as u16, timestamp: n * samples as u32, audio: Some((Codec::Pcmu, &law)) };
        jitter.push(Time::from_millis(u64::from(n) * samples as u64 / 8), packet, &mut LegStats::default())
    }

    #[test]
    fn frames_take_memory_only_while_somebody_listens() {
        let mut jitter = Jitter::new(Time::ZERO, Codec::Pcmu);
        // 30 ms packets, so that listening begins within a frame.
        for n in 0..101 {
            push(&mut jitter, n, 240);
            jitter.tick(Time::from_millis(u64::from(n) * 30));
            assert!(jitter.pop(Time::from_millis(u64::from(n) * 30)).is_none());
        }
        assert_eq!((jitter.slots.capacity(), jitter.end % 160), (0, 80));
        assert_eq!(jitter.stream().map(Stream::expected), Some(101));
        jitter.listen(true);
        assert_eq!(jitter.slots.len(), 8);
        push(&mut jitter, 101, 240);
        let now = Time::from_millis(3030);
        jitter.tick(now);
        let first = jitter.pop(now).unwrap();
        assert_eq!((first.law[79], first.law[80], first.kind), (0xff, 101, FrameKind::Voice), "nobody listened to its first half");
        assert!(jitter.pop(now).unwrap().law.iter().all(|b| *b == 101));
        assert_eq!(jitter.said().count(), 2);
        jitter.listen(false);
        assert_eq!((jitter.slots.capacity(), jitter.said().count()), (0, 0));
    }

    #[test]
    fn the_ring_grows_with_a_burst_and_keeps_what_is_in_it() {
        let mut jitter = Jitter::new(Time::ZERO, Codec::Pcmu);
        jitter.listen(true);
        // The third is late, so that nothing behind it leaves; then all come at once.
        for n in [0, 1].into_iter().chain(3..90) {
            push(&mut jitter, n, FRAME);
        }
        assert_eq!(jitter.slots.len(), 128);
        assert_eq!(push(&mut jitter, 2, FRAME), Verdict::Unused, "64 packets late is too late to be put in order");
        jitter.finish();
        let now = Time::from_millis(1800);
        for n in 0..90u8 {
            let frame = jitter.pop(now).unwrap();
            assert_eq!((frame.kind == FrameKind::Concealed, frame.law[0] == n), (n == 2, n != 2), "{n}");
        }
        assert!(jitter.pop(now).is_none());
        // What the burst has left behind is given back in a calm time, and nothing is lost by it.
        for n in 90..90 + u32::from(CALM) + 2 {
            let now = Time::from_millis(u64::from(n) * 20);
            let packet = Packet { ssrc: 7, sequence: n as u16, timestamp: n * 160, audio: Some((Codec::Pcmu, &[(n % 200) as u8; FRAME])) };
            jitter.push(now, packet, &mut LegStats::default());
            jitter.tick(now);
            assert_eq!(jitter.pop(now).unwrap().law, &[(n % 200) as u8; FRAME], "{n}");
        }
        assert_eq!(jitter.slots.len() as u64, RING);
    }
}
