//! The three clocks, kept apart by type: [`Time`] is monotonic and ours, [`MediaTime`] counts RTP ticks, [`Wall`] is a stamp that
//! only ever enters on inputs. Nothing here reads a clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Nanoseconds since the process (or the simulated world) started. Monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    pub const ZERO: Time = Time(0);

    pub const fn from_millis(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// An RTP timestamp (RFC 3550 5.1): wraps at 2^32, compared by signed distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MediaTime(pub u32);

impl MediaTime {
    /// Signed distance `self - earlier` in clock ticks, right across a wrap.
    pub fn minus(self, earlier: MediaTime) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    #[must_use]
    pub fn plus(self, ticks: u32) -> MediaTime {
        MediaTime(self.0.wrapping_add(ticks))
    }
}

/// Milliseconds since the Unix epoch. Only a label: no machine compares two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);
