//! Waking a thread that sleeps in `poll`: an eventfd that is written only when its reader is asleep.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

pub struct Wake {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a descriptor that nobody else owns.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Wake { event, asleep: AtomicBool::new(false) })
    }

    /// Called by senders after they have put something into a queue.
    pub fn wake(&self) {
        // Pairs with the fence in `sleep`: either the sleeper's last look at the queue sees what was sent, or we see it asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: the buffer is eight readable bytes, as eventfd wants. It cannot block (EFD_NONBLOCK): a full counter is awake already.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    /// Sleeps until something is readable on `sockets`, a sender wakes us, or the time is over. `quiet` is the last look at the
    /// queues: false when something came meanwhile. `ready[i]` says whether socket `i` has something.
    pub fn sleep(&self, sockets: &[RawFd], ready: &mut Vec<bool>, timeout: Option<Duration>, quiet: impl FnOnce() -> bool) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let timeout = if quiet() { timeout } else { Some(Duration::ZERO) };
        let mut fds: Vec<RawFd> = Vec::with_capacity(sockets.len() + 1);
        fds.extend_from_slice(sockets);
        fds.push(self.event.as_raw_fd());
        poll(&fds, ready, timeout);
        self.asleep.store(false, Ordering::Relaxed);
        if ready.pop() == Some(true) {
            let mut count = [0u8; 8];
            // SAFETY: the buffer is eight writable bytes, as eventfd wants.
            unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        }
    }
}

/// `ppoll` for reading. An error counts as ready: the read that follows will report it.
pub fn poll(fds: &[RawFd], ready: &mut Vec<bool>, timeout: Option<Duration>) {
    let mut list: Vec<libc::pollfd> = fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos().cast_signed()),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `list` and `spec` live through the call and the count is that of `list`; the signal mask is left as it is.
    let n = unsafe { libc::ppoll(list.as_mut_ptr(), list.len() as libc::nfds_t, spec, std::ptr::null()) };
    ready.clear();
    ready.extend(list.iter().map(|p| n > 0 && p.revents != 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_sleeper_is_woken_and_a_waker_of_the_awake_does_nothing() {
        let wake = Arc::new(Wake::new().unwrap());
        let mut ready = Vec::new();
        wake.wake();
        // Nobody slept, so nothing is left behind that would wake the next sleep at once.
        wake.sleep(&[], &mut ready, Some(Duration::ZERO), || true);
        assert!(!wake.asleep.load(Ordering::Relaxed));
        let other = wake.clone();
        // The waker comes from within the last look: the sleep must end although it has no timeout.
        wake.sleep(&[], &mut ready, None, || {
            other.wake();
            true
        });
        assert!(ready.is_empty());
    }
}
