//! One recording on a leg: frames into blocks, and the one place that decides why it ends.

use super::voice::{Detector, Noise};
use super::{BLOCK_FRAMES, Block, Codec, DigitSet, FRAME, FRAME_TIME, FrameKind, LegIo, RecordSpec, RecordingId, RecordingTotals};
use super::{PauseBehavior, SideTotals, StopReason, TapDirection, g711};
use std::time::Duration;

/// Frames that a stop digit may cut (240 ms).
const TRIM: usize = 12;
/// The tone was there before its first event packet: a gateway needs some 100 ms to be sure.
const TRIM_BEFORE: usize = 5;
/// Sides of `Both` run by the clocks of their senders, which differ. Apart for all of so many ticks (2 s, four times what a stall of the
/// network may hold a side up) they are brought together on the heard side, where it is quiet.
const SKEW_TICKS: u32 = 100;
/// So far apart (60 ms) it is done without waiting for quiet: music has none.
const SKEW_FRAMES: i64 = 3;

pub struct Tap {
    pub recording: RecordingId,
    /// It is a step of the play queue, which waits for its end.
    pub in_queue: bool,
    pub detector: Detector,
    stop_digits: DigitSet,
    max_frames: Option<u64>,
    initial_silence: Option<u64>,
    max_silence: Option<u64>,
    speak: Option<Side>,
    heard: Option<Side>,
    quiet: u64,
    voiced: bool,
    heard_voice: bool,
    stop: Option<StopReason>,
    /// A limit is reached: nothing more is written.
    full: bool,
    paused: Option<PauseBehavior>,
    trim: usize,
    skew: Skew,
    /// The frame heard last was quiet.
    heard_quiet: bool,
    totals: RecordingTotals,
    /// Frames written as silence that turned out to be lost.
    outage: u64,
}

const FRAME_MICROS: i64 = FRAME_TIME.as_micros() as i64;

/// How far the heard side of `Both` is ahead of the other.
#[derive(Default)]
struct Skew {
    /// Least and most in this window, in microseconds, and its ticks.
    least: i64,
    most: i64,
    ticks: u32,
    /// Frames to leave out, or below zero to put in.
    due: i64,
}

struct Side {
    block: Box<Block>,
    /// The full block before, kept back while the end may still be cut.
    held: Option<Box<Block>>,
    keep: bool,
    two_sided: bool,
    frames: u64,
}

impl Tap {
    /// `None`: no block to begin with.
    pub fn open(recording: RecordingId, spec: &RecordSpec, in_queue: bool, codec: Codec, io: &mut impl LegIo) -> Option<Tap> {
        let keep = !spec.stop_digits.is_empty() || spec.direction == TapDirection::Both;
        let two_sided = spec.direction == TapDirection::Both;
        let mut side = |heard| {
            let mut block = fresh(io, recording, heard, codec, 0)?;
            block.two_sided = two_sided;
            Some(Side { block, held: None, keep, two_sided, frames: 0 })
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
        Some(Tap {
            recording,
            in_queue,
            detector: Detector::new(spec.sensitivity),
            stop_digits: spec.stop_digits,
            max_frames: frames(spec.max_duration),
            initial_silence: frames(spec.initial_silence),
            max_silence: frames(spec.max_silence),
            speak,
            heard,
            quiet: 0,
            voiced: false,
            heard_voice: false,
            stop: None,
            full: false,
            paused: None,
            trim: 0,
            skew: Skew::default(),
            heard_quiet: true,
            totals: RecordingTotals::default(),
            outage: 0,
        })
    }

    pub fn takes_speech(&self) -> bool {
        self.speak.is_some()
    }
    pub fn takes_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// A key went down. True: it ends this recording. `sounded` in RTP ticks.
    pub fn digit(&mut self, digit: char, sounded: u16) -> bool {
        let stops = self.stop_digits.contains(digit) && !matches!(self.stop, Some(StopReason::StopDigit(_)));
        if stops {
            self.trim = (TRIM_BEFORE + usize::from(sounded).div_ceil(FRAME)).min(TRIM);
            self.ask_stop(StopReason::StopDigit(digit));
        }
        stops
    }

    /// Of several reasons in one frame the first by UR 6.5 stands.
    pub fn ask_stop(&mut self, reason: StopReason) {
        self.stop = Some(self.stop.map_or(reason, |before| before.min(reason)));
    }

    pub fn pause(&mut self, behavior: PauseBehavior) {
        self.paused = Some(behavior);
    }

    pub fn resume(&mut self) {
        self.paused = None;
    }

    pub fn stop(&self) -> Option<StopReason> {
        self.stop
    }

    /// A frame of what the party says. `receiving`: it may speak (not on hold), so that silence counts.
    pub fn speak(
        &mut self,
        frame: (&[u8; FRAME], Codec, FrameKind),
        energy: Option<f32>,
        noise: &Noise,
        receiving: bool,
        io: &mut impl LegIo,
    ) {
        if self.full || self.paused == Some(PauseBehavior::Skip) {
            return;
        }
        let Some(side) = &mut self.speak else { return };
        let silence = [g711::silence(frame.1); FRAME];
        let frame = if self.paused.is_some() { (&silence, frame.1, FrameKind::Masked) } else { frame };
        if !side.append(frame, self.recording, false, io) {
            return self.limit(StopReason::Overload);
        }
        self.count(frame.2, 1);
        let active = self.detector.hear(energy, noise) || self.heard_voice;
        self.judge(active, receiving);
    }

    /// A frame of what the party hears: one a tick of what we play, or none, one or two of what a bridged party says.
    pub fn heard(&mut self, frame: (&[u8; FRAME], Codec, FrameKind), energy: f32, noise: &Noise, io: &mut impl LegIo) {
        if self.full || self.paused == Some(PauseBehavior::Skip) {
            return;
        }
        let Some(side) = &mut self.heard else { return };
        let silence = [g711::silence(frame.1); FRAME];
        let frame = if self.paused.is_some() { (&silence, frame.1, FrameKind::Masked) } else { frame };
        let voice = frame.2 == FrameKind::Voice;
        if self.speak.is_none() {
            if !side.append(frame, self.recording, true, io) {
                return self.limit(StopReason::Overload);
            }
            self.count(frame.2, 1);
            let active = self.detector.hear(voice.then_some(energy), noise);
            return self.judge(active, true);
        }
        self.heard_voice = voice && energy > super::voice::threshold(44);
        self.heard_quiet = frame.2 == FrameKind::Silence || voice && !self.heard_voice;
        if self.skew.due > 0 && (self.heard_quiet || self.skew.due >= SKEW_FRAMES) {
            self.skew.due -= 1;
            self.totals.heard.skipped += 1;
        } else if side.append(frame, self.recording, true, io) {
            self.totals.heard.count(frame.2);
        } else {
            self.limit(StopReason::Overload);
        }
    }

    /// Once a tick: keeps the sides together. The party that is heard was read `lag` ago, and has said so much more since.
    pub fn align(&mut self, lag: Duration, io: &mut impl LegIo) {
        let (Some(speak), Some(side), false) = (&self.speak, &mut self.heard, self.full) else { return };
        let lag = lag.min(FRAME_TIME).as_micros() as i64;
        self.skew.tick((side.frames.cast_signed() - speak.frames.cast_signed()) * FRAME_MICROS + lag);
        if self.skew.due < 0 && (self.heard_quiet || self.skew.due <= -SKEW_FRAMES) {
            self.skew.due += 1;
            let codec = side.block.codec;
            if side.append((&[g711::silence(codec); FRAME], codec, FrameKind::Silence), self.recording, true, io) {
                self.totals.heard.count(FrameKind::Silence);
            } else {
                self.limit(StopReason::Overload);
            }
        }
    }

    fn judge(&mut self, active: bool, receiving: bool) {
        if active {
            self.voiced = true;
            self.quiet = 0;
        } else if receiving {
            self.quiet += 1;
        }
        let reached = |limit: Option<u64>, n: u64| limit.is_some_and(|limit| n >= limit);
        if reached(self.max_frames, self.totals.expected) {
            self.limit(StopReason::MaxDuration);
        }
        if self.voiced && reached(self.max_silence, self.quiet) {
            self.limit(StopReason::MaxSilence);
        }
        if !self.voiced && reached(self.initial_silence, self.quiet) {
            self.limit(StopReason::InitialSilence);
        }
    }

    /// So many of the party's silent frames before had been sent and lost.
    pub fn outage(&mut self, frames: u64) {
        self.outage += frames;
    }

    /// The same of what the party heard.
    pub fn heard_outage(&mut self, frames: u64) {
        if self.speak.is_none() {
            self.outage += frames;
        } else {
            self.totals.heard.lose(frames);
        }
    }

    fn limit(&mut self, reason: StopReason) {
        self.full = true;
        self.ask_stop(reason);
    }

    fn count(&mut self, kind: FrameKind, n: u64) {
        self.totals.expected += n;
        match kind {
            FrameKind::Voice => self.totals.received += n,
            FrameKind::Concealed => self.totals.concealed += n,
            FrameKind::Silence | FrameKind::Masked => self.totals.silence += n,
        }
    }

    /// Hand on what is left, the last block flagged. The sides of `Both` come out equally long.
    pub fn close(mut self, reason: StopReason, io: &mut impl LegIo) -> (StopReason, RecordingTotals) {
        self.ask_stop(reason);
        let reason = self.stop.unwrap_or(reason);
        let cut = if matches!(reason, StopReason::StopDigit(_)) { self.trim } else { 0 };
        self.totals.contains_voice = self.voiced;
        let totals = &mut self.totals;
        if let Some(side) = self.speak.as_mut().or(self.heard.as_mut()) {
            side.cut(cut, |kind| {
                totals.expected -= 1;
                match kind {
                    FrameKind::Voice => totals.received -= 1,
                    FrameKind::Concealed => totals.concealed -= 1,
                    FrameKind::Silence | FrameKind::Masked => totals.silence -= 1,
                }
            });
        }
        // A recording that began within the outage holds only a part of it.
        let outage = self.outage.min(totals.silence);
        totals.silence -= outage;
        totals.concealed += outage;
        if let (Some(speak), Some(heard)) = (&self.speak, &mut self.heard) {
            let totals = &mut self.totals;
            heard.cut(heard.frames.saturating_sub(speak.frames) as usize, |kind| totals.heard.uncount(kind));
            let codec = heard.block.codec;
            let silence = [g711::silence(codec); FRAME];
            while heard.frames < speak.frames && heard.append((&silence, codec, FrameKind::Silence), self.recording, true, io) {}
            // The writer makes up, in silence, for what no block was left for, and cuts what could not be cut here any more.
            totals.heard.settle(totals.expected);
        }
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
}

impl Skew {
    fn tick(&mut self, ahead: i64) {
        (self.least, self.most) = if self.ticks == 0 { (ahead, ahead) } else { (self.least.min(ahead), self.most.max(ahead)) };
        self.ticks += 1;
        if self.ticks == SKEW_TICKS {
            // What it was apart at the least all the time is skew; the rest is jitter.
            self.due = (self.least.max(0) + self.most.min(0)) / FRAME_MICROS;
            self.ticks = 0;
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
    fn append(
        &mut self,
        (law, codec, kind): (&[u8; FRAME], Codec, FrameKind),
        recording: RecordingId,
        heard: bool,
        io: &mut impl LegIo,
    ) -> bool {
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
            block.codec = codec;
        }
        let at = block.frames * FRAME;
        // A block has one codec. After a change the rest of it is carried over into that, so that a peer that changes with every
        // packet costs no more blocks than any other.
        g711::copy(block.codec, &mut block.law[at..at + FRAME], codec, law);
        block.kinds[block.frames] = kind;
        block.frames += 1;
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
