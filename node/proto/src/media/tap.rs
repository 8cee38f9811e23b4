//! One recording on a leg: frames into blocks, and the one place that decides why it ends.
//!
//! Each side counts the frames that pass, kept or not: that is a frame's place. What is left out, before the first voice and in a pause, is
//! left out by place, so that both sides are cut at the same moment however late one of them comes. Start at [`Tap::pass`].

use super::jitter::Frame;
use super::pace::Pace;
use super::voice::{self, Detector, Noise};
use super::{BLOCK_FRAMES, Block, Codec, DigitSet, FRAME, FRAME_TIME, FrameKind, LegId, LegIo, RecordSpec, RecordingId, RecordingTotals};
use super::{PauseBehavior, SideTotals, StopReason, StreamFacts, TapDirection, g711};
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Frames that a stop digit may cut (240 ms).
const TRIM: usize = 12;
/// The tone was there before its first event packet: a gateway needs some 100 ms to be sure.
const TRIM_BEFORE: usize = 5;
/// Frames before the first voice that are kept (200 ms, UR-024): the breath and the soft consonant before what the detector takes for voice.
const PRE_ROLL: usize = 10;
/// Voice is known so many frames late, which are kept beside the pre-roll.
const ROLL: usize = PRE_ROLL + voice::ATTACK as usize;
/// One side may be so far behind the other (500 ms) before our clock goes on for it.
const LAG: usize = 25;
/// A resumed recording leaves out at most so many frames (500 ms) that were still under way; what is later was not sent in the pause alone.
const UNDER_WAY: u64 = 25;
/// Pauses that may have been ordered and be behind the slower side. More within half a second become one.
const PAUSES: usize = 8;
/// Silent frames that are put in in one tick (1 s): two blocks. What is still missing follows.
const FILL: u64 = 50;
/// And of ticks that were left out (10 s). A machine that slept for longer has no call left.
const LEFT_OUT: u64 = 500;
/// How many of the last frames' timestamps are known, so that the end can be cut.
const STAMPS: usize = 64;

pub struct Tap {
    pub recording: RecordingId,
    /// It is a step of the play queue, which waits for its end.
    pub in_queue: bool,
    /// Of what the party says; of what it hears where that alone is recorded.
    pub detector: Detector,
    heard_detector: Detector,
    stop_digits: DigitSet,
    consume: bool,
    trims: bool,
    max_duration: Option<u64>,
    max_size: Option<u64>,
    initial_silence: Option<u64>,
    max_silence: Option<u64>,
    speak: Option<Side>,
    heard: Option<Side>,
    /// While it waits for the first voice.
    roll: Option<Box<Roll>>,
    /// Nothing before this place is kept.
    begins: u64,
    /// The first voice that was waited for has come and has not been told.
    began: bool,
    pauses: Pauses,
    quiet: u64,
    voiced: bool,
    heard_voice: bool,
    stop: Option<StopReason>,
    /// A limit is reached: nothing more is written.
    full: bool,
    trim: usize,
    pace: Pace,
    /// What was heard last was our own.
    heard_own: bool,
    totals: RecordingTotals,
    /// Frames written as silence that turned out to be lost.
    outage: u64,
    streams: [Stream; 2],
}

/// Counters of a leg that a recording reports on, as they are now.
#[derive(Clone, Copy, Default)]
pub struct StreamNow {
    pub late: u64,
    pub ssrc_changes: u64,
    pub skew_ppm: i32,
}

/// What of them belongs to this recording.
#[derive(Default)]
struct Stream {
    /// Whose they are, and what they were when that began.
    of: Option<LegId>,
    base: StreamNow,
    now: StreamNow,
    /// Of legs before.
    late: u64,
    ssrc_changes: u64,
}

struct Side {
    block: Box<Block>,
    /// The full block before, kept back while the end may still be cut.
    held: Option<Box<Block>>,
    keep: bool,
    two_sided: bool,
    frames: u64,
    /// Frames that were there, kept or not: the place of the next one.
    passed: u64,
    /// Bit n: the frame n before the last that passed was kept.
    recent: u64,
    /// So many frames that passed last are silence, since nothing was sent.
    silent: u64,
    /// The first frame that had a packet, and that packet's timestamp.
    first_stamp: Option<(u64, u32)>,
    /// Timestamp of the last packet before the end of each of the last frames.
    stamps: [u32; STAMPS],
}

/// The last frames of both sides while nothing is kept.
#[derive(Default)]
struct Roll {
    speak: VecDeque<Rolled>,
    heard: VecDeque<Rolled>,
    room: usize,
}

struct Rolled {
    place: u64,
    law: [u8; FRAME],
    codec: Codec,
    kind: FrameKind,
    stamps: Option<(u32, u32)>,
}

/// Stretches of places that are left out or masked; the last may have no end yet.
#[derive(Default)]
struct Pauses(Vec<Pause>);

struct Pause {
    from: u64,
    until: u64,
    behavior: PauseBehavior,
}

impl Tap {
    /// `None`: no block to begin with. `stream`: the counters of the leg's party.
    pub fn open(
        now: Time,
        recording: RecordingId,
        spec: &RecordSpec,
        in_queue: bool,
        codec: Codec,
        (leg, stream): (LegId, StreamNow),
        io: &mut impl LegIo,
    ) -> Option<Tap> {
        let keep = !spec.stop_digits.is_empty() || spec.direction == TapDirection::Both;
        let two_sided = spec.direction == TapDirection::Both;
        let mut side = |heard| {
            let mut block = fresh(io, recording, heard, codec, 0)?;
            block.two_sided = two_sided;
            let (first_stamp, stamps) = (None, [0; STAMPS]);
            Some(Side { block, held: None, keep, two_sided, frames: 0, passed: 0, recent: 0, silent: 0, first_stamp, stamps })
        };
        let (speak, heard) = match spec.direction {
            TapDirection::Speak => (Some(side(false)?), None),
            TapDirection::Listen => (None, Some(side(true)?)),
            TapDirection::Both => {
                let speak = side(false)?;
                match side(true) {
                    Some(heard) => (Some(speak), Some(heard)),
                    None => {
                        io.give_block(speak.block);
                        return None;
                    }
                }
            }
        };
        let spoken = Stream { of: Some(leg), base: stream, now: stream, ..Stream::default() };
        Some(Tap {
            recording,
            in_queue,
            detector: Detector::new(spec.sensitivity),
            heard_detector: Detector::new(spec.sensitivity),
            stop_digits: spec.stop_digits,
            consume: spec.consume,
            trims: spec.trim,
            max_duration: frames(spec.max_duration),
            max_size: spec.max_frames.filter(|n| *n > 0),
            initial_silence: frames(spec.initial_silence),
            max_silence: frames(spec.max_silence),
            speak,
            heard,
            roll: spec.start_on_voice.then(|| Box::new(Roll::new(if two_sided { ROLL + LAG } else { ROLL }))),
            begins: 0,
            began: false,
            pauses: Pauses::default(),
            quiet: 0,
            voiced: false,
            heard_voice: false,
            stop: None,
            full: false,
            trim: 0,
            pace: Pace::new(now),
            heard_own: false,
            totals: RecordingTotals::default(),
            outage: 0,
            streams: [spoken, Stream::default()],
        })
    }

    pub fn takes_speech(&self) -> bool {
        self.speak.is_some()
    }
    pub fn takes_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// A key went down. `Some`: it ends this recording, and whether it is kept from the buffer. `sounded` in RTP ticks.
    pub fn digit(&mut self, digit: char, sounded: u16) -> Option<bool> {
        if !self.stop_digits.contains(digit) || matches!(self.stop, Some(StopReason::StopDigit(_))) {
            return None;
        }
        self.trim = if self.trims { (TRIM_BEFORE + usize::from(sounded).div_ceil(FRAME)).min(TRIM) } else { 0 };
        self.ask_stop(StopReason::StopDigit(digit));
        Some(self.consume)
    }

    /// Of several reasons in one frame the first by UR 6.5 stands.
    pub fn ask_stop(&mut self, reason: StopReason) {
        self.stop = Some(self.stop.map_or(reason, |before| before.min(reason)));
    }

    /// From the place that neither side has passed.
    pub fn pause(&mut self, behavior: PauseBehavior) {
        let passed = |side: &Option<Side>| side.as_ref().map(|s| s.passed);
        let both = [passed(&self.speak), passed(&self.heard)];
        let (front, back) = (both.iter().flatten().max().copied(), both.iter().flatten().min().copied());
        self.pauses.open(behavior, front.unwrap_or(0), back.unwrap_or(0));
    }

    /// To the place that is said now: what is under way was said in the pause.
    pub fn resume(&mut self) {
        let said = |side: &Option<Side>, heard| side.as_ref().map(|s| s.passed + self.pace.behind(heard, s.passed).min(UNDER_WAY));
        let until = said(&self.speak, false).max(said(&self.heard, true));
        self.pauses.close(until.unwrap_or(0));
    }

    pub fn stop(&self) -> Option<StopReason> {
        self.stop
    }

    /// The first voice that was waited for has come: said once.
    pub fn take_began(&mut self) -> bool {
        std::mem::take(&mut self.began)
    }

    /// A frame of what the party says, which came at this moment (ns of our clock). `receiving`: it may speak (not on hold), so that silence
    /// counts.
    pub fn speak(&mut self, came: i64, frame: Frame<'_>, energy: Option<f32>, noise: &Noise, receiving: bool, io: &mut impl LegIo) {
        if self.full || self.speak.is_none() {
            return;
        }
        let active = self.detector.hear(energy, noise);
        if self.meet(false, came, frame.kind, f32::MAX, false, io) {
            self.listen(false, frame, active, receiving, io);
        }
    }

    /// A frame of what the party hears: one a tick of what we play (`own`), or none, one or two of what a bridged party says.
    pub fn heard(&mut self, came: i64, own: bool, frame: Frame<'_>, energy: f32, noise: &Noise, io: &mut impl LegIo) {
        if self.full || self.heard.is_none() {
            return;
        }
        let voice = frame.kind == FrameKind::Voice;
        let turned = std::mem::replace(&mut self.heard_own, own) != own;
        if self.speak.is_none() {
            let active = self.detector.hear(voice.then_some(energy), noise);
            // For what is under way when a pause ends.
            self.meet(true, came, frame.kind, energy, false, io);
            return self.listen(true, frame, active, true, io);
        }
        self.heard_voice = self.heard_detector.hear(voice.then_some(energy), noise);
        if !self.meet(true, came, frame.kind, energy, turned, io) {
            return;
        }
        let place = self.heard.as_ref().map_or(0, |s| s.passed);
        if self.pass(true, frame, io) && self.heard_voice && self.roll.is_some() {
            self.begin(place, io);
        }
    }

    /// Keeps the sides together, before a frame passes: where it is the first one after silence, or of another source (`turned`), its place
    /// is free; else a quiet one may be left out of what is heard, or silence put in before it. False: it is left out.
    fn meet(&mut self, heard: bool, came: i64, kind: FrameKind, energy: f32, turned: bool, io: &mut impl LegIo) -> bool {
        let Some(side) = self.side(heard) else { return false };
        let (passed, after_silence) = (side.passed, side.silent > 0);
        let first = self.pace.hear(heard, passed + 1, came);
        let due = if first { self.pace.begins(heard) } else { self.pace.due(heard) };
        if due == 0 {
            return true;
        }
        // What the party says is the recording's time: of that no frame that came is moved.
        let quiet = heard && kind == FrameKind::Voice && energy <= voice::threshold(44);
        let free = kind == FrameKind::Silence || quiet && self.pace.is_sure();
        if due > 0 {
            if first || turned || after_silence {
                self.fill(heard, due.unsigned_abs(), io);
            } else if free {
                self.fill(heard, 1, io);
            }
            return true;
        }
        if free {
            self.pace.shift(heard, -1);
            self.totals.heard.skipped += u64::from(quiet);
            return false;
        }
        for _ in due..0 {
            if !self.take_back(heard) {
                break;
            }
        }
        true
    }

    /// Takes back the last frame of a side, where that is silence, since nothing was sent, and no block with it has left. True: it is taken.
    fn take_back(&mut self, heard: bool) -> bool {
        let counts = !heard || self.speak.is_none();
        let Some(side) = (if heard { self.heard.as_mut() } else { self.speak.as_mut() }) else { return false };
        // What was said behind an end of a pause must not come before it.
        if side.silent == 0 || self.pauses.at(side.passed - 1) != self.pauses.at(side.passed) {
            return false;
        }
        if let Some(roll) = &mut self.roll {
            let rolled = if heard { &mut roll.heard } else { &mut roll.speak };
            if rolled.back().is_some_and(|frame| frame.place + 1 == side.passed) {
                rolled.pop_back();
            }
        } else if side.recent & 1 != 0 {
            if side.block.frames == 0 {
                return false;
            }
            let totals = &mut self.totals;
            side.cut(1, |kind| if counts { totals.uncount(kind) } else { totals.heard.uncount(kind) });
        }
        side.silent -= 1;
        side.passed -= 1;
        side.recent >>= 1;
        self.pace.shift(heard, -1);
        true
    }

    /// A frame of the side whose frames are the recording's time.
    fn listen(&mut self, heard: bool, frame: Frame<'_>, active: bool, receiving: bool, io: &mut impl LegIo) {
        let place = self.side(heard).map_or(0, |s| s.passed);
        if !self.pass(heard, frame, io) {
            return self.check_length();
        }
        if active && self.roll.is_some() {
            self.begin(place, io);
        }
        self.judge(active || self.heard_voice, receiving);
    }

    fn side(&mut self, heard: bool) -> Option<&mut Side> {
        if heard { self.heard.as_mut() } else { self.speak.as_mut() }
    }

    /// A frame passes on one side: it is kept, masked or left out, by its place. True: it is heard as it came.
    fn pass(&mut self, heard: bool, frame: Frame<'_>, io: &mut impl LegIo) -> bool {
        let begins = self.begins;
        let Some(side) = self.side(heard) else { return false };
        let place = side.passed;
        side.passed += 1;
        side.recent <<= 1;
        side.silent = if frame.kind == FrameKind::Silence { side.silent + 1 } else { 0 };
        let paused = self.pauses.at(place);
        if place < begins || paused == Some(PauseBehavior::Skip) {
            return false;
        }
        let frame = match paused {
            Some(_) => Frame { kind: FrameKind::Masked, ..silent(frame.codec) },
            None => frame,
        };
        match &mut self.roll {
            Some(roll) => roll.put(heard, place, frame),
            None => self.keep(heard, frame, io),
        }
        paused.is_none()
    }

    /// A frame is written and counted.
    fn keep(&mut self, heard: bool, frame: Frame<'_>, io: &mut impl LegIo) {
        let recording = self.recording;
        let second = heard && self.speak.is_some();
        let most = self.max_duration.into_iter().chain(self.max_size).min();
        let Some(side) = self.side(heard) else { return };
        // The other side will not be longer; what is too much here could perhaps not be cut any more.
        if second && most.is_some_and(|most| side.frames >= most) {
            return;
        }
        if !side.append(frame, recording, heard, io) {
            return self.limit(StopReason::Overload);
        }
        side.recent |= 1;
        if second {
            self.totals.heard.count(frame.kind);
        } else {
            self.count(frame.kind);
        }
    }

    /// The detector is sure at this place: the recording begins so long before.
    fn begin(&mut self, place: u64, io: &mut impl LegIo) {
        let Some(mut roll) = self.roll.take() else { return };
        self.begins = (place + 1).saturating_sub(ROLL as u64);
        self.began = true;
        let [spoken, heard] = &mut self.streams;
        (spoken.base, heard.base) = (spoken.now, heard.now);
        (spoken.late, spoken.ssrc_changes, heard.late, heard.ssrc_changes) = (0, 0, 0, 0);
        self.totals.heard.skipped = 0;
        let begins = self.begins;
        // The second side first: it ends with the other's limit, and need not be there when that is reached.
        for heard in [true, false] {
            let counts = !heard || self.speak.is_none();
            let rolled = if heard { &mut roll.heard } else { &mut roll.speak };
            if let Some(side) = self.side(heard) {
                side.recent = 0;
            }
            for frame in rolled.drain(..).filter(|f| f.place >= begins) {
                if let Some(side) = self.side(heard) {
                    side.recent <<= 1;
                }
                self.keep(heard, Frame { law: &frame.law, codec: frame.codec, kind: frame.kind, stamps: frame.stamps }, io);
                if counts {
                    self.check_length();
                }
                if self.full {
                    break;
                }
            }
        }
    }

    /// Once a tick: puts in what could not wait for a quiet frame. The party that is heard was read at `heard_at`, and has said more since.
    pub fn tick(&mut self, now: Time, heard_at: Time, stream: StreamNow, io: &mut impl LegIo) {
        self.streams[0].now = stream;
        if let Some((heard, frames)) = self.pace.tick(now, heard_at) {
            self.fill(heard, frames, io);
        }
    }

    /// So many silent frames on one side.
    fn fill(&mut self, heard: bool, n: u64, io: &mut impl LegIo) {
        for _ in 0..n.min(FILL) {
            if self.full {
                return;
            }
            let Some(codec) = self.side(heard).map(|s| s.block.codec) else { return };
            self.pass(heard, silent(codec), io);
            self.pace.shift(heard, 1);
            if !heard {
                self.check_length();
            }
        }
    }

    /// The thread left out so many ticks: nothing of ours was heard in them.
    pub fn left_out(&mut self, ticks: u64, io: &mut impl LegIo) {
        let Some(codec) = self.heard.as_ref().map(|s| s.block.codec) else { return };
        for _ in 0..ticks.min(LEFT_OUT) {
            if self.full {
                return;
            }
            self.pass(true, silent(codec), io);
            if self.speak.is_none() {
                self.check_length();
            }
        }
    }

    /// What is known of the stream of the party that is heard, before its frames.
    pub fn heard_from(&mut self, leg: LegId, now: StreamNow) {
        let stream = &mut self.streams[1];
        if stream.of != Some(leg) {
            (stream.late, stream.ssrc_changes) = stream.sum();
            (stream.of, stream.base) = (Some(leg), now);
        }
        stream.now = now;
    }

    fn judge(&mut self, active: bool, receiving: bool) {
        if active {
            self.voiced = true;
            self.quiet = 0;
        } else if receiving {
            self.quiet += 1;
        }
        self.check_length();
        let reached = |limit: Option<u64>, n: u64| limit.is_some_and(|limit| n >= limit);
        if self.voiced && reached(self.max_silence, self.quiet) {
            self.limit(StopReason::MaxSilence);
        }
        if !self.voiced && reached(self.initial_silence, self.quiet) {
            self.limit(StopReason::InitialSilence);
        }
    }

    fn check_length(&mut self) {
        let frames = self.totals.expected;
        if self.max_duration.is_some_and(|most| frames >= most) {
            self.limit(StopReason::MaxDuration);
        }
        if self.max_size.is_some_and(|most| frames >= most) {
            self.limit(StopReason::FileSize);
        }
    }

    /// So many of the party's silent frames before had been sent and lost.
    pub fn outage(&mut self, frames: u64) {
        if let Some(roll) = &mut self.roll {
            return lose(&mut roll.speak, frames);
        }
        let passed = self.speak.as_ref().map_or(0, |s| s.passed);
        self.outage += self.kept_of(frames, passed);
    }

    /// The same of what the party heard.
    pub fn heard_outage(&mut self, frames: u64) {
        if let Some(roll) = &mut self.roll {
            return lose(&mut roll.heard, frames);
        }
        let passed = self.heard.as_ref().map_or(0, |s| s.passed);
        let frames = self.kept_of(frames, passed);
        if self.speak.is_none() {
            self.outage += frames;
        } else {
            self.totals.heard.lose(frames);
        }
    }

    /// How many of the last frames up to here are as they came.
    fn kept_of(&self, frames: u64, passed: u64) -> u64 {
        let from = passed.saturating_sub(frames);
        let begun = from.max(self.begins);
        passed.saturating_sub(begun).saturating_sub(self.pauses.within(begun, passed))
    }

    fn limit(&mut self, reason: StopReason) {
        self.full = true;
        self.ask_stop(reason);
    }

    fn count(&mut self, kind: FrameKind) {
        self.totals.expected += 1;
        match kind {
            FrameKind::Voice => self.totals.received += 1,
            FrameKind::Concealed => self.totals.concealed += 1,
            FrameKind::Silence | FrameKind::Masked => self.totals.silence += 1,
        }
    }

    /// Hand on what is left, the last block flagged. The sides of `Both` come out equally long.
    pub fn close(mut self, reason: StopReason, stream: StreamNow, io: &mut impl LegIo) -> (StopReason, RecordingTotals) {
        self.ask_stop(reason);
        self.streams[0].now = stream;
        let reason = self.stop.unwrap_or(reason);
        // Of the digit's sound only what is there: in a pause nothing of it was kept.
        let cut = if matches!(reason, StopReason::StopDigit(_)) { self.trim } else { 0 };
        let sounded = |side: &Side| (side.recent & ((1 << cut) - 1)).count_ones() as usize;
        self.totals.contains_voice = self.voiced;
        let totals = &mut self.totals;
        if let Some(side) = self.speak.as_mut().or(self.heard.as_mut()) {
            side.cut(sounded(side), |kind| totals.uncount(kind));
        }
        // A recording that began within the outage holds only a part of it.
        let outage = self.outage.min(totals.silence);
        totals.silence -= outage;
        totals.concealed += outage;
        self.level(cut as u64, io);
        self.facts();
        let last = Some((reason, self.totals));
        match (self.speak, self.heard) {
            (Some(speak), Some(heard)) => {
                speak.finish(None, io);
                heard.finish(last, io);
            }
            (Some(side), None) | (None, Some(side)) => side.finish(last, io),
            (None, None) => {}
        }
        (reason, self.totals)
    }

    /// Makes both sides equally long: `cut` frames were taken from the one. The shorter one is filled up with silence, so that nothing
    /// that was said to the end is lost.
    fn level(&mut self, cut: u64, io: &mut impl LegIo) {
        let (Some(speak), Some(heard)) = (&mut self.speak, &mut self.heard) else { return };
        let totals = &mut self.totals;
        let over = heard.frames.saturating_sub(speak.frames).min(cut);
        heard.cut(over as usize, |kind| totals.heard.uncount(kind));
        let recording = self.recording;
        while heard.frames < speak.frames && heard.append(silent(heard.block.codec), recording, true, io) {
            totals.heard.count(FrameKind::Silence);
        }
        while speak.frames < heard.frames && speak.append(silent(speak.block.codec), recording, false, io) {
            totals.expected += 1;
            totals.silence += 1;
        }
        // The writer makes up, in silence, for what no block was left for, and cuts what could not be cut here any more.
        totals.heard.settle(totals.expected);
    }

    fn facts(&mut self) {
        let of = |side: &Option<Side>, stream: &Stream| {
            let (late, ssrc_changes) = stream.sum();
            let (first_timestamp, last_timestamp) = side.as_ref().map_or((None, None), Side::ends);
            StreamFacts { first_timestamp, last_timestamp, late, ssrc_changes, skew_ppm: stream.now.skew_ppm }
        };
        let empty = |side: &Option<Side>| side.as_ref().is_none_or(|s| s.frames == 0);
        if !empty(&self.speak) {
            self.totals.speak_stream = of(&self.speak, &self.streams[0]);
        }
        if !empty(&self.heard) && self.streams[1].of.is_some() {
            self.totals.heard_stream = of(&self.heard, &self.streams[1]);
        }
    }
}

/// A frame of silence.
fn silent(codec: Codec) -> Frame<'static> {
    let law = match codec {
        Codec::Pcmu => const { &[g711::silence(Codec::Pcmu); FRAME] },
        Codec::Pcma => const { &[g711::silence(Codec::Pcma); FRAME] },
    };
    Frame { law, codec, kind: FrameKind::Silence, stamps: None }
}

impl Stream {
    /// Late packets and changes of SSRC.
    fn sum(&self) -> (u64, u64) {
        let (now, base) = (self.now, self.base);
        (self.late + now.late.saturating_sub(base.late), self.ssrc_changes + now.ssrc_changes.saturating_sub(base.ssrc_changes))
    }
}

impl Roll {
    fn new(room: usize) -> Roll {
        Roll { speak: VecDeque::with_capacity(room), heard: VecDeque::with_capacity(room), room }
    }

    fn put(&mut self, heard: bool, place: u64, frame: Frame<'_>) {
        let side = if heard { &mut self.heard } else { &mut self.speak };
        if side.len() == self.room {
            side.pop_front();
        }
        side.push_back(Rolled { place, law: *frame.law, codec: frame.codec, kind: frame.kind, stamps: frame.stamps });
    }
}

/// So many of the last silent frames turned out to be lost.
fn lose(rolled: &mut VecDeque<Rolled>, frames: u64) {
    let frames = usize::try_from(frames).unwrap_or(usize::MAX);
    for frame in rolled.iter_mut().rev().take(frames).filter(|f| f.kind == FrameKind::Silence) {
        frame.kind = FrameKind::Concealed;
    }
}

impl Pauses {
    fn at(&self, place: u64) -> Option<PauseBehavior> {
        self.0.iter().find(|p| (p.from..p.until).contains(&place)).map(|p| p.behavior)
    }

    /// Places of a stretch that lie in pauses.
    fn within(&self, from: u64, until: u64) -> u64 {
        self.0.iter().map(|p| p.until.min(until).saturating_sub(p.from.max(from))).sum()
    }

    fn open(&mut self, behavior: PauseBehavior, front: u64, back: u64) {
        // A pause that was just ended may still have places to come.
        let from = self.0.last().map_or(front, |p| if p.until == u64::MAX { front } else { front.max(p.until) });
        match self.0.last() {
            Some(p) if p.until == u64::MAX && p.behavior == behavior => return,
            _ => self.close(from),
        }
        self.0.retain(|p| p.until > back);
        if self.0.len() >= PAUSES
            && let Some(last) = self.0.last_mut()
        {
            (last.until, last.behavior) = (u64::MAX, behavior);
            return;
        }
        self.0.push(Pause { from, until: u64::MAX, behavior });
    }

    fn close(&mut self, place: u64) {
        if let Some(last) = self.0.last_mut().filter(|p| p.until == u64::MAX) {
            last.until = place.max(last.from);
        }
    }
}

impl RecordingTotals {
    /// A frame of the side whose frames are the recording's time is cut.
    fn uncount(&mut self, kind: FrameKind) {
        self.expected -= 1;
        match kind {
            FrameKind::Voice => self.received -= 1,
            FrameKind::Concealed => self.concealed -= 1,
            FrameKind::Silence | FrameKind::Masked => self.silence -= 1,
        }
    }
}

impl SideTotals {
    fn place(&mut self, kind: FrameKind) -> &mut u64 {
        match kind {
            FrameKind::Voice => &mut self.received,
            FrameKind::Concealed => &mut self.concealed,
            FrameKind::Silence | FrameKind::Masked => &mut self.silence,
        }
    }

    fn count(&mut self, kind: FrameKind) {
        *self.place(kind) += 1;
    }

    fn uncount(&mut self, kind: FrameKind) {
        let place = self.place(kind);
        *place = place.saturating_sub(1);
    }

    /// Frames that were silent turned out to be lost.
    fn lose(&mut self, frames: u64) {
        let lost = frames.min(self.silence);
        self.silence -= lost;
        self.concealed += lost;
    }

    /// Makes the sum so many frames.
    fn settle(&mut self, frames: u64) {
        let sum = self.received + self.concealed + self.silence;
        self.silence += frames.saturating_sub(sum);
        let mut over = sum.saturating_sub(frames);
        for part in [&mut self.silence, &mut self.concealed, &mut self.received] {
            let cut = over.min(*part);
            *part -= cut;
            over -= cut;
        }
    }
}

impl Side {
    /// False: the block is full and there is no other.
    fn append(&mut self, frame: Frame<'_>, recording: RecordingId, heard: bool, io: &mut impl LegIo) -> bool {
        let Frame { law, codec, kind, stamps } = frame;
        if self.block.frames == BLOCK_FRAMES {
            let Some(mut next) = fresh(io, recording, heard, codec, self.frames) else { return false };
            next.two_sided = self.two_sided;
            let full = std::mem::replace(&mut self.block, next);
            let ready = if self.keep { self.held.replace(full) } else { Some(full) };
            if let Some(ready) = ready {
                io.give_block(ready);
            }
        }
        let block = &mut *self.block;
        if block.frames == 0 {
            // What was cut before may have emptied it.
            (block.codec, block.first_frame) = (codec, self.frames);
        }
        let at = block.frames * FRAME;
        // A block has one codec. After a change the rest of it is carried over into that, so that a peer that changes with every
        // packet costs no more blocks than any other.
        g711::copy(block.codec, &mut block.law[at..at + FRAME], codec, law);
        block.kinds[block.frames] = kind;
        block.frames += 1;
        let before = self.stamps[(self.frames + STAMPS as u64 - 1) as usize % STAMPS];
        self.stamps[self.frames as usize % STAMPS] = stamps.map_or(before, |(_, last)| last);
        self.first_stamp = self.first_stamp.or(stamps.map(|(first, _)| (self.frames, first)));
        self.frames += 1;
        // Now the end can be cut without it.
        if block.frames >= TRIM
            && let Some(held) = self.held.take()
        {
            io.give_block(held);
        }
        true
    }

    /// Takes up to `n` frames from the end, as far as they are still here.
    fn cut(&mut self, n: usize, mut gone: impl FnMut(FrameKind)) {
        for _ in 0..n {
            let block = match &mut self.held {
                Some(held) if self.block.frames == 0 => held,
                _ => &mut self.block,
            };
            if block.frames == 0 {
                return;
            }
            block.frames -= 1;
            self.frames -= 1;
            gone(block.kinds[block.frames]);
        }
    }

    /// Timestamps of the first and the last packet that is in it.
    fn ends(&self) -> (Option<u32>, Option<u32>) {
        // The frame that had it may have been cut.
        let Some((_, first)) = self.first_stamp.filter(|(at, _)| *at < self.frames) else { return (None, None) };
        (Some(first), Some(self.stamps[(self.frames - 1) as usize % STAMPS]))
    }

    fn finish(mut self, last: Option<(StopReason, RecordingTotals)>, io: &mut impl LegIo) {
        if let Some(held) = self.held.take() {
            io.give_block(held);
        }
        // An emptied block begins where the recording now ends.
        if self.block.frames == 0 {
            self.block.first_frame = self.frames;
        }
        self.block.last = last;
        io.give_block(self.block);
    }
}

fn fresh(io: &mut impl LegIo, recording: RecordingId, heard: bool, codec: Codec, first_frame: u64) -> Option<Box<Block>> {
    let mut block = io.take_block()?;
    (block.recording, block.heard, block.codec) = (recording, heard, codec);
    (block.first_frame, block.frames, block.last) = (first_frame, 0, None);
    Some(block)
}

/// Whole frames of a limit, rounded up. Zero: no limit.
fn frames(limit: Option<Duration>) -> Option<u64> {
    let frames = limit?.as_nanos().div_ceil(FRAME_TIME.as_nanos());
    u64::try_from(frames).ok().filter(|n| *n > 0)
}
