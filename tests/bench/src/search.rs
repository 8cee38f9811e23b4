//! The highest load that is whole: doubled up or halved down from a guess, then narrowed by halves, within a time box.

use anyhow::Result;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The load that is tried first.
    pub guess: usize,
    pub least: usize,
    pub most: usize,
    /// It is narrow enough when whole and not whole are so close: 0.05 is a twentieth.
    pub resolution: f64,
    /// No new load is tried after this.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The highest load that was whole; `None`: not even the least.
    pub whole: Option<usize>,
    /// The lowest above it that was not; `None`: the most that was tried was whole.
    pub broken: Option<usize>,
}

impl Search {
    /// Asks `whole` of one load after the other. A load that is not whole is asked once more, since a machine may stumble once.
    pub fn run(&self, mut whole: impl FnMut(usize) -> Result<bool>) -> Result<Found> {
        let started = Instant::now();
        let mut found = Found { whole: None, broken: None };
        let mut next = Some(self.guess.clamp(self.least, self.most));
        while let Some(load) = next {
            match whole(load)? || (started.elapsed() < self.time && whole(load)?) {
                true => found.whole = Some(load),
                false => found.broken = Some(load),
            }
            next = if started.elapsed() < self.time { self.next(found) } else { None };
        }
        Ok(found)
    }

    fn next(&self, found: Found) -> Option<usize> {
        // Loads are multiples of ten: finer ones say nothing.
        let round = |load: usize| (load / 10 * 10).max(1);
        match (found.whole, found.broken) {
            (None, None) => Some(self.guess),
            (Some(whole), None) => Some(round(whole + whole / 4).max(whole + 1).min(self.most)).filter(|_| whole < self.most),
            (None, Some(broken)) => Some(round(broken * 3 / 4).min(broken - 1).max(self.least)).filter(|_| broken > self.least),
            (Some(whole), Some(broken)) => {
                let middle = round(whole.midpoint(broken));
                let narrow = (broken - whole) as f64 <= whole as f64 * self.resolution;
                (!narrow && middle > whole && middle < broken).then_some(middle)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { guess: 1000, least: 50, most: 8000, resolution: 0.05, time: Duration::from_secs(600) };

    fn find(limit: usize) -> (Found, usize) {
        let mut asked = 0;
        let found = SEARCH.run(|load| {
            asked += 1;
            Ok(load <= limit)
        });
        (found.expect("nothing fails"), asked)
    }

    #[test]
    fn the_limit_is_found_within_a_twentieth() {
        for limit in [60, 100, 730, 999, 1000, 1001, 2345, 4000, 7999] {
            let (found, asked) = find(limit);
            let (whole, broken) = (found.whole.expect("one is whole"), found.broken.expect("one is not"));
            assert!(whole <= limit && broken > limit, "{limit}: {found:?}");
            assert!((broken - whole) as f64 <= whole as f64 * 0.05 || broken - whole <= 10, "{limit}: {found:?}");
            assert!(asked <= 32, "{limit} took {asked}");
        }
    }

    #[test]
    fn the_ends_are_told() {
        assert_eq!(find(10_000).0, Found { whole: Some(8000), broken: None });
        assert_eq!(find(10).0, Found { whole: None, broken: Some(50) });
    }

    #[test]
    fn one_stumble_is_forgiven_and_time_ends_it() {
        let mut asked = 0;
        let stumbles = SEARCH.run(|load| {
            asked += 1;
            Ok(asked != 1 && load <= 1000)
        });
        assert_eq!(stumbles.expect("nothing fails").whole, Some(1000));
        let none = Search { time: Duration::ZERO, ..SEARCH }.run(|_| Ok(true));
        assert_eq!(none.expect("nothing fails"), Found { whole: Some(1000), broken: None });
    }
}
