//! How far two sides of a recording are apart.
//!
//! Each side has a lead: its length when a frame has passed, less the moment when the last sample of that frame came. Where both leads are
//! the same, what came at one moment lies at one place. Clocks that differ drift apart slowly, a stream that begins anew begins anywhere;
//! that is made good in whole frames, so that less than half of one remains, and a little, since half would go to and fro.

use super::FRAME_TIME;
use crate::time::Time;

pub const FRAME_NANOS: i64 = FRAME_TIME.as_nanos() as i64;
const MILLI: i64 = 1_000_000;

/// The best moment is looked for in so many ticks (2 s) and those before: a stall of the network lasts at most a quarter of that and is
/// worked off in as much.
const WINDOW: u32 = 100;
/// From here on (12 ms) it is nearer to leave a frame out or put one in; less than 10 ms would go to and fro.
const DRIFT: i64 = 12 * MILLI;
/// So long (2 s) a quiet frame is waited for: music has none, and clocks 400 ppm apart drift by less than 1 ms meanwhile.
const PATIENCE: u32 = 100;
/// And so long (200 ms) even a quiet frame stays where it is: by then a stream that began anew has had its best moment.
const SURE: u32 = 10;
/// From here on (16 ms) it was no drift, but a stream that began anew: 1.2 s.
const FAR: i64 = 16 * MILLI;
const FAR_PATIENCE: u32 = 60;
/// From here on (60 ms) nothing is waited for.
const JUMP: i64 = 60 * MILLI;
/// What no packet has confirmed may have become less true by one part in so many of the time since (244 ppm).
const STALE: i64 = 4096;

/// A timeline against our clock, in nanoseconds: how long it was at some moment, less that moment. Networks, and threads that wake late,
/// only delay: the most of the last seconds is what holds.
#[derive(Clone, Copy)]
pub struct Lead {
    /// The most of this window, and of the last; `i64::MIN`: nothing was heard.
    this: i64,
    last: i64,
    ticks: u32,
}

impl Lead {
    pub fn new(lead: i64) -> Lead {
        Lead { this: lead, last: i64::MIN, ticks: 0 }
    }

    pub fn hear(&mut self, lead: i64) {
        self.this = self.this.max(lead);
    }

    pub fn best(&self) -> i64 {
        self.this.max(self.last)
    }

    /// The timeline goes on so much farther ahead than before.
    pub fn shift(&mut self, nanos: i64) {
        for lead in [&mut self.this, &mut self.last] {
            // Nothing stays nothing.
            *lead = if *lead == i64::MIN { *lead } else { lead.saturating_add(nanos) };
        }
    }

    /// Nothing was heard for so long.
    pub fn grow_stale(&mut self, nanos: i64) {
        self.shift(-(nanos / STALE));
    }

    /// A window ends when something was heard in it: a pause says nothing new.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks >= WINDOW && self.this != i64::MIN {
            (self.last, self.this, self.ticks) = (self.this, i64::MIN, 0);
        }
    }
}

/// Both sides of a recording: the spoken one (0), the heard one (1).
pub struct Pace {
    /// What each side is ahead of our clock; `None`: it had no frame yet.
    leads: [Option<i64>; 2],
    /// When each side was last looked for frames.
    looked: [Time; 2],
    /// Ticks for which the sides have been apart.
    apart: u32,
}

impl Pace {
    pub fn new(now: Time) -> Pace {
        Pace { leads: [None; 2], looked: [now; 2], apart: 0 }
    }

    /// A frame that is the side's `length`-th came whole at this moment. True: it is the first.
    pub fn hear(&mut self, heard: bool, length: u64, came: i64) -> bool {
        let lead = length.cast_signed() * FRAME_NANOS - came;
        self.leads[usize::from(heard)].replace(lead).is_none()
    }

    /// Frames that are put in on a side, above zero, or left out, so that it is together with the other.
    pub fn due(&self, heard: bool) -> i64 {
        let ahead = self.ahead(heard);
        if ahead.abs() < DRIFT { 0 } else { nearest(-ahead) }
    }

    /// The same of a side that begins, which may begin at any place.
    pub fn begins(&self, heard: bool) -> i64 {
        nearest(-self.ahead(heard))
    }

    /// The sides have been apart for longer than it takes to know it.
    pub fn is_sure(&self) -> bool {
        self.apart >= SURE
    }

    /// How much farther this side is than the other.
    fn ahead(&self, heard: bool) -> i64 {
        match self.leads {
            [Some(spoken), Some(other)] if heard => other - spoken,
            [Some(spoken), Some(other)] => spoken - other,
            _ => 0,
        }
    }

    /// So many frames were put in, or left out.
    pub fn shift(&mut self, heard: bool, frames: i64) {
        let lead = &mut self.leads[usize::from(heard)];
        *lead = lead.map(|lead| lead + frames * FRAME_NANOS);
    }

    /// Once a tick, with the times when the sides were looked for frames: which side needs silence at once, and how many frames of it.
    pub fn tick(&mut self, spoken: Time, heard: Time) -> Option<(bool, u64)> {
        self.looked = [spoken, heard];
        let ahead = self.ahead(true);
        let patience = match ahead.abs() {
            ..DRIFT => {
                self.apart = 0;
                return None;
            }
            DRIFT..FAR => PATIENCE,
            FAR..JUMP => FAR_PATIENCE,
            JUMP.. => 0,
        };
        self.apart += 1;
        (self.apart > patience).then(|| (ahead < 0, nearest(ahead).unsigned_abs()))
    }

    /// Frames of a side, of which `length` have passed, that were said whole by now and are not here yet.
    pub fn behind(&self, heard: bool, length: u64) -> u64 {
        let side = usize::from(heard);
        let Some(lead) = self.leads[side] else { return 0 };
        let said = self.looked[side].0.cast_signed() + lead - length.cast_signed() * FRAME_NANOS;
        // One that ends just now is on its way.
        ((said - 1).max(0) / FRAME_NANOS).unsigned_abs()
    }
}

/// In whole frames.
fn nearest(nanos: i64) -> i64 {
    (nanos.abs() + FRAME_NANOS / 2) / FRAME_NANOS * nanos.signum()
}
