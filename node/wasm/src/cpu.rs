//! CPU time of guest code: what this thread really spent while a guest had it. An epoch callback runs about once a millisecond while the guest
//! runs and looks; counting ticks alone would kill a guest that other threads keep from running.
//!
//! A look is a system call of a quarter of a microsecond: one before a turn, one behind it, and one for each epoch in it.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// CPU time of this thread when what runs on it was looked at last.
    static LOOKED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// And when it got the processor.
    static BEGAN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Processor time of the calling thread so far.
pub fn thread_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that we own; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// A guest has the processor.
pub(crate) struct Turn {
    since: Duration,
}

/// A guest gets the processor.
pub(crate) fn begin() -> Turn {
    let since = thread_time();
    LOOKED.set(since);
    BEGAN.set(since);
    Turn { since }
}

impl Turn {
    /// It gave the processor back: what it spent since it got it.
    pub(crate) fn spent(self) -> Duration {
        thread_time().saturating_sub(self.since)
    }
}

/// An epoch ended while the guest ran: what it spent since the last look.
pub(crate) fn spent() -> Duration {
    let now = thread_time();
    now.saturating_sub(LOOKED.replace(now))
}

/// What it had spent of this turn when it was looked at last.
pub(crate) fn turn() -> Duration {
    LOOKED.get().saturating_sub(BEGAN.get())
}
