//! The play queue: segments one after the other without a gap, cut by digits where the queue allows it.

use super::{BargeIn, Codec, Ended, FRAME, MediaKind, PlayId, RecordSpec, RecordingId, Segment, g711};
use crate::limits::PLAY_SEGMENTS;
use std::time::Duration;

#[derive(Default)]
pub struct Player {
    play: Option<Play>,
}

struct Play {
    id: PlayId,
    segments: Vec<Segment>,
    barge_in: BargeIn,
    index: usize,
    /// Samples of this segment that have been played.
    done: usize,
    /// This segment is a recording, which has begun.
    recording: bool,
}

/// What happened while a frame was filled.
pub enum Step {
    /// So many more samples are there.
    Wrote(usize),
    Event(MediaKind),
    /// The queue waits until this recording ends ([`Player::recorded`]).
    Record(RecordingId, RecordSpec),
    /// Nothing to play in this frame.
    Nothing,
}

impl Player {
    pub fn start(&mut self, id: PlayId, mut segments: Vec<Segment>, barge_in: BargeIn) {
        segments.truncate(PLAY_SEGMENTS);
        self.play = Some(Play { id, segments, barge_in, index: 0, done: 0, recording: false });
    }

    /// Ends what plays, by a command. A recording in it is the caller's to close.
    pub fn stop(&mut self, out: impl FnMut(MediaKind)) {
        self.end(Ended::Stopped, out);
    }

    fn end(&mut self, how: Ended, mut out: impl FnMut(MediaKind)) {
        if let Some(play) = self.play.take() {
            if play.index < play.segments.len() {
                out(MediaKind::SegmentEnded { play: play.id, index: play.index, how });
            }
            out(MediaKind::QueueEnded { play: play.id, how });
        }
    }

    /// IC-255 to IC-257: a digit went down that no recording consumed. Recordings have stop digits of their own and are not cut.
    pub fn digit(&mut self, mut out: impl FnMut(MediaKind)) {
        let Some(play) = self.play.as_mut().filter(|p| !p.recording && p.index < p.segments.len()) else { return };
        match play.barge_in {
            BargeIn::None => {}
            BargeIn::Current => {
                // A Record step that has not begun yet is not what the digit was meant for.
                if !matches!(play.segments[play.index], Segment::Record(..)) {
                    out(play.next(Ended::BargedIn));
                }
            }
            BargeIn::All => self.end(Ended::BargedIn, out),
        }
    }

    /// The recording that the queue waits for has ended.
    pub fn recorded(&mut self, out: impl FnOnce(MediaKind)) {
        if let Some(play) = self.play.as_mut().filter(|p| p.recording) {
            out(play.next(Ended::Done));
        }
    }

    /// Whether a queue is under way, be it in a silence or a recording of its own.
    pub fn plays(&self) -> bool {
        self.play.is_some()
    }

    /// Whether what is heard must be kept for an echo.
    pub fn echoes(&self) -> bool {
        // Asked in every tick: what records does not have its segments looked at, which are far away in memory.
        self.play.as_ref().is_some_and(|p| !p.recording && matches!(p.segments.get(p.index), Some(Segment::Echo(_))))
    }

    /// Fills `out` from its beginning, one step at a time; each call uses up samples, a segment or the queue, or says `Nothing`.
    pub fn step(&mut self, codec: Codec, echo: &mut Echo, out: &mut [u8]) -> Step {
        let Some(play) = self.play.as_mut() else { return Step::Nothing };
        if play.recording {
            return Step::Nothing;
        }
        let Some(segment) = play.segments.get(play.index) else {
            let event = MediaKind::QueueEnded { play: play.id, how: Ended::Done };
            self.play = None;
            return Step::Event(event);
        };
        let left = |duration: Duration| samples(duration).saturating_sub(play.done).min(out.len());
        let n = match segment {
            Segment::Clip(clip) => {
                let law = match codec {
                    Codec::Pcmu => &clip.pcmu,
                    Codec::Pcma => &clip.pcma,
                };
                let rest = law.get(play.done..).unwrap_or(&[]);
                let n = rest.len().min(out.len());
                out[..n].copy_from_slice(&rest[..n]);
                n
            }
            Segment::Silence(duration) => {
                let n = left(*duration);
                out[..n].fill(g711::silence(codec));
                n
            }
            Segment::Echo(duration) => {
                if play.done == 0 {
                    echo.clear();
                }
                let n = left(*duration);
                echo.take(codec, &mut out[..n]);
                n
            }
            Segment::Record(recording, spec) => {
                play.recording = true;
                return Step::Record(*recording, spec.clone());
            }
        };
        if n == 0 {
            return Step::Event(play.next(Ended::Done));
        }
        play.done += n;
        Step::Wrote(n)
    }
}

impl Play {
    fn next(&mut self, how: Ended) -> MediaKind {
        let event = MediaKind::SegmentEnded { play: self.id, index: self.index, how };
        self.index += 1;
        self.done = 0;
        self.recording = false;
        event
    }
}

fn samples(duration: Duration) -> usize {
    usize::try_from(duration.as_micros() / 125).unwrap_or(usize::MAX)
}

/// What was heard and is to be sent back: 40 ms behind, so that jitter does not tear it, and never more than 160 ms.
pub struct Echo {
    /// A ring; empty until something is put in.
    frames: Vec<([u8; FRAME], Codec)>,
    first: usize,
    len: usize,
    /// Samples of the first frame already taken.
    taken: usize,
    flowing: bool,
}

impl Echo {
    const FRAMES: usize = 8;
    const AHEAD: usize = 2;

    pub fn new() -> Echo {
        Echo { frames: Vec::new(), first: 0, len: 0, taken: 0, flowing: false }
    }

    fn clear(&mut self) {
        (self.first, self.len, self.taken, self.flowing) = (0, 0, 0, false);
    }

    pub fn put(&mut self, law: &[u8; FRAME], codec: Codec) {
        if self.frames.is_empty() {
            self.frames = vec![([g711::silence(codec); FRAME], codec); Echo::FRAMES];
        }
        if self.len == Echo::FRAMES {
            self.first = (self.first + 1) % Echo::FRAMES;
            self.len -= 1;
            self.taken = 0;
        }
        self.frames[(self.first + self.len) % Echo::FRAMES] = (*law, codec);
        self.len += 1;
    }

    pub fn take(&mut self, codec: Codec, mut out: &mut [u8]) {
        self.flowing |= self.len >= Echo::AHEAD;
        while !out.is_empty() {
            if self.len == 0 || !self.flowing {
                self.flowing = false;
                out.fill(g711::silence(codec));
                return;
            }
            let (law, from) = &self.frames[self.first];
            let n = out.len().min(FRAME - self.taken);
            match &law[self.taken..self.taken + n] {
                // By the tables of G.711 silence in A-law is a step of u-law, and not silence.
                quiet if *from != codec && quiet.iter().all(|byte| *byte == g711::silence(*from)) => out[..n].fill(g711::silence(codec)),
                heard => g711::copy(codec, &mut out[..n], *from, heard),
            }
            self.taken += n;
            if self.taken == FRAME {
                self.first = (self.first + 1) % Echo::FRAMES;
                self.len -= 1;
                self.taken = 0;
            }
            out = &mut out[n..];
        }
    }
}
