//! CPU time of a hook. An epoch callback runs about once a millisecond while the guest runs; it adds what this thread really spent
//! since the guest was last given the processor. Counting ticks alone would kill a guest that other threads keep from running.
//!
//! The first tick of a hook is taken as spent without looking, so that a hook of some microseconds costs no system call.

use crate::limits::TICK;
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// CPU time of this thread when the hook that runs on it was resumed.
    static RESUMED: Cell<Option<Duration>> = const { Cell::new(None) };
}

fn thread_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that we own; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// A hook gets the processor for the first time.
pub(crate) fn begin() {
    RESUMED.set(None);
}

/// A hook that gave way gets the processor again.
pub(crate) fn resume() {
    RESUMED.set(Some(thread_time()));
}

/// An epoch ended while the hook ran: what it spent since it was resumed.
pub(crate) fn spent() -> Duration {
    let now = thread_time();
    match RESUMED.replace(Some(now)) {
        None => TICK,
        Some(since) => now.saturating_sub(since),
    }
}
