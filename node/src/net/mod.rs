//! The kernel's side of things, and the only place of the shell with `unsafe` in it: batches of datagrams, waking a thread that
//! sleeps in `poll`, priorities and limits. Each wrapper is small and safe to call; none knows what the bytes mean.
//!
//! Start with [`udp`] (datagrams), [`tcp`] (connections), [`resolve`] (names) and [`Wake`].

mod process;
pub mod resolve;
pub mod tcp;
pub mod udp;
mod wake;

pub use process::{
    Priority, confine, die_of_closed_pipes, disk_free, give_memory_back, pin, raise_open_files, seed, set_priority, set_timer_slack,
    share_memory, with_priority,
};
pub use wake::{Wake, poll};

use hookswitch_proto::{Time, Wall};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The shell's clock: the only reader of real time. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::new_without_default, reason = "a clock starts at a moment, it has no default")]
    pub fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
