//! What arrived of what somebody said: frames carry numbers, so what is missing, doubled, late or out of order is counted where they
//! arrive, and each one's time under way is known.

/// Frames that may be under way at a time: more than a second.
const UNDER_WAY: usize = 64;

/// One direction of one call: who speaks tells [`Hearing::say`], who hears tells [`Hearing::hear`].
#[derive(Clone, Debug)]
pub struct Hearing {
    /// When each of the last frames was sent.
    sent: [u64; UNDER_WAY],
    /// The frames that are counted: said while all calls are up.
    from: u32,
    to: u32,
    first: Option<u32>,
    highest: u32,
    /// Which of the last 64 frames up to `highest` came; bit 0 is `highest` itself.
    window: u64,
    /// Time under way of the frame before.
    transit: Option<i64>,
    pub count: Count,
}

/// Frames as they arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Each once, of those that are counted.
    pub heard: u64,
    /// Each once, of all.
    pub distinct: u64,
    pub repeated: u64,
    /// After one with a higher number.
    pub disordered: u64,
}

impl Count {
    pub fn add(&mut self, other: Count) {
        self.heard += other.heard;
        self.distinct += other.distinct;
        self.repeated += other.repeated;
        self.disordered += other.disordered;
    }
}

impl Default for Hearing {
    fn default() -> Hearing {
        Hearing {
            sent: [0; UNDER_WAY],
            from: u32::MAX,
            to: u32::MAX,
            first: None,
            highest: 0,
            window: 0,
            transit: None,
            count: Count::default(),
        }
    }
}

/// Time under way, and by how much it differs from that of the frame before, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit {
    pub delay: i64,
    pub jitter: Option<i64>,
}

impl Hearing {
    pub fn say(&mut self, frame: u32, at: u64) {
        self.sent[frame as usize % UNDER_WAY] = at;
    }

    /// From this frame on they are counted.
    pub fn count_from(&mut self, frame: u32) {
        (self.from, self.to) = (frame, u32::MAX);
    }

    /// Up to this frame, itself left out.
    pub fn count_to(&mut self, frame: u32) {
        self.to = frame;
    }

    /// Frames that were counted and did not come.
    pub fn missing(&self) -> u64 {
        u64::from(self.to.saturating_sub(self.from)).saturating_sub(self.count.heard)
    }

    /// Frames between the first and the last that came which did not come.
    pub fn gaps(&self) -> u64 {
        self.first.map_or(0, |first| (u64::from(self.highest - first) + 1).saturating_sub(self.count.distinct))
    }

    /// A frame came. Its transit is told only once, and only while its sending time is known and it is one that counts.
    pub fn hear(&mut self, frame: u32, at: u64) -> Option<Transit> {
        match self.first {
            None => (self.first, self.highest, self.window) = (Some(frame), frame, 1),
            Some(_) if frame > self.highest => {
                self.window = self.window.checked_shl(frame - self.highest).unwrap_or(0) | 1;
                self.highest = frame;
            }
            Some(first) => {
                let bit = 1u64.checked_shl(self.highest - frame).unwrap_or(0);
                if bit == 0 || self.window & bit != 0 {
                    self.count.repeated += 1;
                    return None;
                }
                self.window |= bit;
                self.first = Some(first.min(frame));
                self.count.disordered += 1;
            }
        }
        self.count.distinct += 1;
        if !(self.from..self.to).contains(&frame) {
            return None;
        }
        self.count.heard += 1;
        let sent = self.sent[frame as usize % UNDER_WAY];
        let delay = at.cast_signed() - sent.cast_signed();
        // RFC 3550 6.4.1: the difference of transit times of two packets, here of every pair of neighbours and not smoothed.
        let jitter = self.transit.replace(delay).map(|before| (delay - before).abs());
        Some(Transit { delay, jitter })
    }
}

/// Values in steps of 10 us up to a second.
#[derive(Clone, Debug)]
pub struct Spread {
    steps: Vec<u64>,
    count: u64,
}

const STEP_US: u64 = 10;

impl Default for Spread {
    fn default() -> Spread {
        Spread { steps: vec![0; 100_000], count: 0 }
    }
}

impl Spread {
    pub fn add(&mut self, nanoseconds: i64) {
        let step = usize::try_from(nanoseconds / 1000 / STEP_US.cast_signed()).unwrap_or(0).min(self.steps.len() - 1);
        self.steps[step] += 1;
        self.count += 1;
    }

    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Milliseconds that `percent` of the values do not exceed, to a hundredth.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let wanted = ((self.count as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.steps.iter().position(|n| {
            seen += n;
            seen >= wanted
        })?;
        Some(((step as u64 + 1) * STEP_US) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(frames: &[u32]) -> Hearing {
        let mut hearing = Hearing::default();
        hearing.count_from(10);
        for frame in frames {
            hearing.hear(*frame, 0);
        }
        hearing.count_to(20);
        hearing
    }

    #[test]
    fn frames_are_counted_once() {
        let all: Vec<u32> = (5..25).collect();
        // What lies beyond the last one that counts is heard before that is known: it is told before it is said in a real call.
        let mut whole = Hearing::default();
        whole.count_from(10);
        whole.count_to(20);
        for frame in &all {
            whole.hear(*frame, 0);
        }
        assert_eq!((whole.missing(), whole.count.heard, whole.count.distinct), (0, 10, 20));

        let lost = hear(&[9, 10, 11, 13, 14, 15, 16, 17, 18]);
        assert_eq!((lost.missing(), lost.gaps()), (2, 1), "12 in the middle, 19 at the end");
        let twice = hear(&[10, 11, 11, 12, 10]);
        assert_eq!((twice.count.repeated, twice.count.heard), (2, 3));
        let swapped = hear(&[10, 12, 11, 13]);
        assert_eq!((swapped.count.disordered, swapped.count.repeated, swapped.gaps()), (1, 0, 0));
        let ancient = hear(&[10, 200, 11]);
        assert_eq!(ancient.count.repeated, 1, "more than 64 behind: nobody knows whether it came before");
        assert_eq!(hear(&[]).missing(), 10);
        assert_eq!(hear(&[]).gaps(), 0);
    }

    #[test]
    fn transit_and_its_change() {
        let mut hearing = Hearing::default();
        hearing.count_from(0);
        for (frame, sent) in [(0, 1_000), (1, 21_000), (2, 41_000)] {
            hearing.say(frame, sent);
        }
        assert_eq!(hearing.hear(0, 3_000), Some(Transit { delay: 2_000, jitter: None }));
        assert_eq!(hearing.hear(1, 22_500), Some(Transit { delay: 1_500, jitter: Some(500) }));
        assert_eq!(hearing.hear(1, 23_500), None);
        assert_eq!(hearing.hear(2, 43_000), Some(Transit { delay: 2_000, jitter: Some(500) }));
    }

    #[test]
    fn spreads() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(99.0), None);
        for us in 0..1000 {
            spread.add(us * 1000);
        }
        assert_eq!((spread.percentile(50.0), spread.percentile(99.0), spread.percentile(100.0)), (Some(0.5), Some(0.99), Some(1.0)));
        spread.add(-5);
        spread.add(i64::MAX);
        assert_eq!(spread.percentile(100.0), Some(1000.0));
    }
}
