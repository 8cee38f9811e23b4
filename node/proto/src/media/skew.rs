//! How fast the sender's clock runs against ours: a slope through the least transit times of a stream, since networks only delay.
//!
//! Time is cut into stretches, each with its least transit; when all places are taken two become one, so that the same few numbers hold a
//! minute or a day. A step between neighbours (another route, or a reader that looks once a frame and finds the packet a look earlier) is
//! taken out of the slope, and counts only where steps of one direction go on: then they are the drift itself, seen in whole looks.

use crate::time::Time;
use std::time::Duration;

const PLACES: usize = 24;
/// The shortest stretch: 25 packets, of which one is hardly delayed.
const STRETCH: u32 = 500_000;
/// A change of more than this between neighbours is a step. Drift of 1000 ppm, more than any clock has, makes 10 ms in 10 s.
const STEP: i32 = 10_000;
/// So many steps, all of one direction, are drift: it is then known to a quarter, and better with each.
const STEPS: i32 = 4;
/// Nothing is said of a shorter time: 1 ms of jitter within it looks like 100 ppm.
const KNOWN: Duration = Duration::from_secs(10);
/// A timestamp that moved so much more than our clock (1 s) was set anew.
const JUMP: i64 = 1_000_000;

/// All in microseconds.
#[derive(Clone, Copy)]
pub struct Skew {
    first: Option<Time>,
    timestamp: u32,
    /// Sent so long after the first packet, by the sender's clock.
    sent: i64,
    stretch: u32,
    /// When the stretch that runs ends, and its least transit.
    until: i64,
    least: i32,
    /// Least transits of past stretches, steps taken out.
    past: [i32; PLACES],
    len: usize,
    before: Option<i32>,
    /// How long the stretch before was.
    length: u32,
    stepped: i64,
    /// Steps up, less steps down.
    steps: i32,
    /// The slope without steps.
    smooth: i64,
    ppm: i32,
}

impl Skew {
    pub fn new() -> Skew {
        Skew {
            first: None,
            timestamp: 0,
            sent: 0,
            stretch: STRETCH,
            until: i64::from(STRETCH),
            least: i32::MAX,
            past: [0; PLACES],
            len: 0,
            before: None,
            length: STRETCH,
            stepped: 0,
            steps: 0,
            smooth: 0,
            ppm: 0,
        }
    }

    /// A packet that is newer than all before.
    pub fn hear(&mut self, now: Time, timestamp: u32) {
        let Some(first) = self.first else {
            (self.first, self.timestamp) = (Some(now), timestamp);
            return;
        };
        let step = i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed()) * 125;
        self.timestamp = timestamp;
        let come = i64::try_from(now.since(first).as_micros()).unwrap_or(i64::MAX);
        let transit = come - self.sent - step;
        if (transit - i64::from(self.before.unwrap_or(0))).abs() > JUMP {
            // What was learnt stays true of the clock; where the timestamps are now says nothing new of it.
            let ppm = self.ppm;
            *self = Skew { first: Some(now), timestamp, ppm, ..Skew::new() };
            return;
        }
        self.sent += step;
        if come >= self.until {
            self.end_stretch(come);
        }
        self.least = self.least.min(transit as i32);
    }

    /// How much faster than ours, in parts per million; 0 while it is not known.
    pub fn ppm(&self) -> i32 {
        self.ppm
    }

    fn end_stretch(&mut self, come: i64) {
        let raw = if self.least == i32::MAX { self.before.unwrap_or(0) } else { self.least };
        self.least = i32::MAX;
        // From where the least of the one is to where that of the other is: both begin so, or end so.
        let apart = if self.smooth > 0 { self.length } else { self.stretch };
        self.length = self.stretch;
        let foreseen = (self.smooth * i64::from(apart) / 1_000_000) as i32;
        let step = self.before.map_or(0, |before| raw - before - foreseen);
        if step.abs() > STEP {
            self.stepped += i64::from(step);
            self.steps += step.signum();
        }
        self.before = Some(raw);
        // A pause has stretches without packets: they are as the last one was.
        let value = (i64::from(raw) - self.stepped) as i32;
        while come >= self.until {
            self.past[self.len] = value;
            self.len += 1;
            if self.len == PLACES {
                self.halve();
            }
            self.until += i64::from(self.stretch);
        }
        let whole = i64::from(self.stretch) * self.len as i64;
        if whole >= KNOWN.as_micros() as i64 {
            self.smooth = self.slope();
            // Of a stretch the least is where it begins when transit grows, and where it ends when it shrinks.
            let span = if self.stepped > 0 { whole - i64::from(self.stretch) } else { whole };
            let drift = self.smooth + if self.steps.abs() >= STEPS { self.stepped * 1_000_000 / span } else { 0 };
            // Transit that grows is a sender that is slow.
            self.ppm = (-drift).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        }
    }

    /// Two stretches become one, and those to come are as long.
    fn halve(&mut self) {
        for n in 0..PLACES / 2 {
            self.past[n] = self.past[2 * n].min(self.past[2 * n + 1]);
        }
        self.len = PLACES / 2;
        self.stretch = self.stretch.saturating_mul(2);
    }

    /// The middle one of the slopes between each stretch and that half the time later: a third of them may be wrong.
    fn slope(&self) -> i64 {
        let half = self.len / 2;
        let time = i64::from(self.stretch) * (self.len - half) as i64;
        let mut slopes = [0i64; PLACES / 2];
        for (slope, (before, after)) in slopes.iter_mut().zip(self.past.iter().zip(&self.past[self.len - half..self.len])) {
            *slope = (i64::from(*after) - i64::from(*before)) * 1_000_000 / time;
        }
        let slopes = &mut slopes[..half];
        slopes.sort_unstable();
        slopes[half / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// What is found after so long of a sender that is so fast, read once in `look` (0: at once), over a line that delays by 40 ms and up
    /// to `jitter` more.
    fn found(ppm: i64, seconds: u64, jitter_us: u32, look_us: u64) -> i32 {
        let mut random = Random::new([3; 32]);
        let mut skew = Skew::new();
        for n in 0..seconds * 50 {
            let sent = (n as i64 * 20_000 * 1_000_000 / (1_000_000 + ppm)) as u64;
            let mut come = sent + 40_000 + u64::from(random.u32() % jitter_us.max(1));
            if look_us > 0 {
                come = come.next_multiple_of(look_us);
            }
            skew.hear(Time(1_000_000_000 + come * 1000), (u32::MAX - 7000).wrapping_add(n as u32 * 160));
        }
        skew.ppm()
    }

    #[test]
    fn drift_is_found_within_20_ppm_in_a_minute() {
        for ppm in [-500, -200, -100, 0, 20, 100, 200, 500] {
            for jitter in [0, 1000, 20_000, 60_000] {
                for seconds in [60, 600, 7200] {
                    let got = found(ppm, seconds, jitter, 0);
                    assert!((i64::from(got) - ppm).abs() <= 20, "{ppm} ppm, {jitter} us, {seconds} s: {got}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_said_in_the_first_ten_seconds() {
        assert_eq!(found(200, 9, 0, 0), 0);
        assert_ne!(found(200, 13, 0, 0), 0);
    }

    #[test]
    fn a_reader_that_looks_once_a_frame_finds_it_in_an_hour_and_says_nothing_wrong_before() {
        for ppm in [-200, 200] {
            for jitter in [0, 3000] {
                let hour = i64::from(found(ppm, 3600, jitter, 20_000));
                assert!((hour - ppm).abs() <= 20, "{ppm} ppm, {jitter} us: {hour}");
                let minute = i64::from(found(ppm, 60, jitter, 20_000));
                assert!(minute.abs() <= 20 || (minute - ppm).abs() <= 20, "{ppm} ppm, {jitter} us: {minute}");
            }
        }
    }

    #[test]
    fn another_route_and_a_timestamp_set_anew_are_no_drift() {
        let mut skew = Skew::new();
        for n in 0..6000u64 {
            // 30 ms more from the middle on; then the timestamps begin again.
            let come = n * 20_000 + if n >= 2000 { 30_000 } else { 0 };
            let timestamp = n as u32 * 160 + if n >= 4000 { 1 << 30 } else { 0 };
            skew.hear(Time(come * 1000), timestamp);
            assert!(skew.ppm().abs() <= 20, "packet {n}: {}", skew.ppm());
        }
    }

    #[test]
    fn a_pause_and_any_timestamp_are_survived() {
        let mut random = Random::new([4; 32]);
        let mut skew = Skew::new();
        let mut now = 0u64;
        for _ in 0..10_000 {
            now += u64::from(random.u32()) * u64::from(random.u32() % 100 / 99 * 100_000 + 1);
            skew.hear(Time(now), random.u32());
        }
        let mut skew = Skew::new();
        skew.hear(Time::ZERO, 0);
        for n in 0..3000u64 {
            // A pause of a quarter of an hour, timestamps going on.
            let at = n * 20 + if n > 1500 { 900_000 } else { 0 };
            skew.hear(Time::from_millis(at), (at * 8) as u32);
        }
        assert_eq!(skew.ppm(), 0);
    }
}
