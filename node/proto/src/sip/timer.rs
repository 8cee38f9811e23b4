//! The timer queue: deterministic (equal times fire in the order they were set) and lazy (an entry is never searched for).
//!
//! Owners keep their own deadlines. Each has one wake-up in the queue, at or before its earliest deadline; when it fires the owner
//! looks at its deadlines and asks for the next. An owner that is gone, or that meanwhile asked for an earlier time, ignores it.
//!
//! No wake-up is set farther away than [`HORIZON`]: an owner with a later deadline wakes in between and asks again. So the entries
//! of owners that are gone are themselves gone after that time, however long a session timer would have run.

use crate::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// As long as the common lingering of a transaction (64*T1), so that most owners never wake for nothing.
const HORIZON: Duration = Duration::from_secs(32);

pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    sequence: u64,
}

struct Entry<K> {
    at: Time,
    sequence: u64,
    key: K,
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl<K> Eq for Entry<K> {}
impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<K> Timers<K> {
    pub fn new() -> Timers<K> {
        Timers { heap: BinaryHeap::new(), sequence: 0 }
    }

    /// Makes sure that `key` wakes at `deadline` or before. `wake` is the owner's note of the wake-up it already has; an earlier
    /// one is kept, so that an owner has more than one entry only where its deadline moved nearer.
    pub fn arm(&mut self, now: Time, wake: &mut Option<Time>, deadline: Option<Time>, key: K) {
        let Some(at) = deadline.map(|d| d.min(now + HORIZON)) else { return };
        if wake.is_none_or(|w| at < w) {
            *wake = Some(at);
            self.sequence += 1;
            self.heap.push(Reverse(Entry { at, sequence: self.sequence, key }));
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(e)| e.at)
    }

    /// The next entry that is due, with the time it was set for.
    pub fn pop(&mut self, now: Time) -> Option<(Time, K)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(e)| (e.at, e.key))
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_by_time_then_by_order_of_setting() {
        let mut timers = Timers::new();
        for (ms, key) in [(5, 'a'), (3, 'b'), (5, 'c'), (4, 'd')] {
            timers.arm(Time::ZERO, &mut None, Some(Time::from_millis(ms)), key);
        }
        assert_eq!(timers.next(), Some(Time::from_millis(3)));
        assert_eq!(timers.pop(Time::from_millis(2)), None);
        let fired: String = std::iter::from_fn(|| timers.pop(Time::from_millis(9))).map(|(_, k)| k).collect();
        assert_eq!(fired, "bdac");
    }

    #[test]
    fn far_deadlines_are_reached_in_steps() {
        let mut timers = Timers::new();
        let (mut now, mut wake, deadline) = (Time::ZERO, None, Some(Time::from_millis(70_000)));
        let mut woken = Vec::new();
        while Some(now) < deadline {
            timers.arm(now, &mut wake, deadline, ());
            now = timers.next().expect("armed");
            woken.push(now.0 / 1_000_000);
            assert!(timers.pop(now).is_some());
            wake = None;
        }
        assert_eq!(woken, [32_000, 64_000, 70_000]);
    }

    #[test]
    fn an_owner_that_is_awake_in_time_gets_no_second_entry() {
        let mut timers = Timers::new();
        let mut wake = None;
        for ms in [50, 60, 70, 40, 45] {
            timers.arm(Time::ZERO, &mut wake, Some(Time::from_millis(ms)), ());
        }
        assert_eq!(timers.len(), 2, "one for 50, one because 40 is earlier");
    }
}
