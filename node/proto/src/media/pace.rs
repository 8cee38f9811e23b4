//! How far two sides of a recording are apart.
//!
//! Each side is measured against our clock: how much audio has come by now, less how much time has passed. Networks, and threads that wake
//! late, only delay; so a side is where it was at its best moment of the last seconds. Clocks that differ drift apart slowly, and that is
//! made good frame by frame: a quiet one is left out, or a silent one put in. A side that is longer than time by more has been given
//! silence for what then came late and whole: the other side is given as much. No sound is ever left out.

use super::FRAME_TIME;
use crate::time::Time;

/// The best moment is looked for in so many ticks (2 s) and those before: a stall of the network lasts at most a quarter of that and is
/// worked off in as much.
const WINDOW: u32 = 100;
/// From here on (12 ms) it is nearer to leave a frame out or put one in; less than 10 ms would go to and fro.
const DRIFT: i64 = 12_000;
/// So long (2 s) a quiet frame is waited for: music has none, and clocks 400 ppm apart drift by less than 1 ms meanwhile.
const PATIENCE: u32 = 100;
/// So far apart (60 ms) it is not drift.
const JUMP: i64 = 60_000;

pub const FRAME_MICROS: i64 = FRAME_TIME.as_micros() as i64;

/// A side against our clock, in microseconds.
#[derive(Clone, Copy)]
pub struct Lead {
    now: i64,
    /// The most of this window, and of the last.
    this: i64,
    last: i64,
}

impl Lead {
    fn new() -> Lead {
        Lead { now: 0, this: i64::MIN, last: i64::MIN }
    }

    fn hear(&mut self, lead: i64) {
        self.now = lead;
        self.this = self.this.max(lead);
    }

    fn best(&self) -> i64 {
        self.this.max(self.last)
    }

    /// A frame was put in (1) or left out (-1).
    fn shift(&mut self, frames: i64) {
        let micros = frames * FRAME_MICROS;
        for lead in [&mut self.now, &mut self.this, &mut self.last] {
            *lead = lead.saturating_add(micros);
        }
    }

    /// Frames that are due by now and have not come.
    fn behind(&self) -> u64 {
        let micros = self.best().saturating_sub(self.now).max(0);
        ((micros + FRAME_MICROS / 2) / FRAME_MICROS).unsigned_abs()
    }
}

/// What is to be done so that the sides are together again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Due {
    Nothing,
    /// A frame of the heard side, the next quiet one.
    LeaveOut,
    /// A silent frame on the heard side, after a quiet one, or at once.
    PutIn {
        at_once: bool,
    },
    /// So many silent frames: the other side had as many, or has no quiet one that could be left out.
    FillSpoken(u64),
    FillHeard(u64),
}

pub struct Pace {
    since: Time,
    spoken: Lead,
    heard: Lead,
    ticks: u32,
    /// A whole window has been seen.
    settled: bool,
    /// Ticks for which the sides have been apart.
    apart: u32,
}

impl Pace {
    pub fn new(now: Time) -> Pace {
        Pace { since: now, spoken: Lead::new(), heard: Lead::new(), ticks: 0, settled: false, apart: 0 }
    }

    /// Frames that passed on each side, and when they were looked for. Once a tick.
    pub fn tick(&mut self, (now, spoken): (Time, u64), (heard_at, heard): (Time, u64)) {
        let lead = |at: Time, frames: u64| {
            let passed = i64::try_from(at.since(self.since).as_micros()).unwrap_or(i64::MAX);
            frames.cast_signed() * FRAME_MICROS - passed
        };
        let (spoken, heard) = (lead(now, spoken), lead(heard_at, heard));
        self.spoken.hear(spoken);
        self.heard.hear(heard);
        self.ticks += 1;
        if self.ticks == WINDOW {
            self.ticks = 0;
            self.settled = true;
            for lead in [&mut self.spoken, &mut self.heard] {
                (lead.last, lead.this) = (lead.this, lead.now);
            }
        }
        self.apart = if self.settled && self.ahead().abs() >= DRIFT { self.apart.saturating_add(1) } else { 0 };
    }

    /// How much more has come of what is heard than of what is said.
    fn ahead(&self) -> i64 {
        self.heard.best() - self.spoken.best()
    }

    pub fn due(&self) -> Due {
        if !self.settled {
            return Due::Nothing;
        }
        let ahead = self.ahead();
        let frames = ((ahead.abs() + FRAME_MICROS / 2) / FRAME_MICROS).unsigned_abs();
        let at_once = self.apart >= PATIENCE;
        match (ahead > 0, ahead.abs()) {
            (_, ..DRIFT) => Due::Nothing,
            (true, JUMP..) => Due::FillSpoken(frames),
            (true, _) if at_once => Due::FillSpoken(1),
            (true, _) => Due::LeaveOut,
            (false, JUMP..) => Due::FillHeard(frames),
            (false, _) => Due::PutIn { at_once },
        }
    }

    /// A side has its first frame: what was measured without any says nothing.
    pub fn begin(&mut self, heard: bool) {
        *if heard { &mut self.heard } else { &mut self.spoken } = Lead::new();
    }

    pub fn shift_heard(&mut self, frames: i64) {
        self.heard.shift(frames);
    }

    pub fn shift_spoken(&mut self, frames: i64) {
        self.spoken.shift(frames);
    }

    /// Frames that the side farther back still owes: said by now, and not here yet.
    pub fn behind(&self, heard: bool) -> u64 {
        if heard { self.heard.behind() } else { self.spoken.behind() }
    }
}
