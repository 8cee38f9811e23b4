//! Media threads: each owns its legs by value and ticks every one of them each 20 ms. What a leg does is in `hookswitch_proto::media`;
//! here are its sockets, its clock and its blocks.
//!
//! ```text
//!  switch --MediaCmd--> ring --> thread: 20 phases of 1 ms, a leg ticks on its phase
//!         <-MediaEvent- ring <--         recvmmsg -> push, tick -> send
//!                                        blocks <==> writers
//! ```
//!
//! Start with [`Media`] (the signalling thread's end), then `thread.rs`.

mod blocks;
mod ports;
#[cfg(test)]
mod tests;
mod thread;

pub use ports::PortPool;

use crate::config;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::{Clock, Wake};
use crate::record::BlockLink;
use hookswitch_call::SessionId;
use hookswitch_proto::media::{LegId, MediaCmd, MediaEvent};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{JoinHandle, Thread};

/// The signalling thread's end of all media threads.
pub struct Media {
    links: Vec<Link>,
    metrics: Arc<Metrics>,
}

struct Link {
    commands: rtrb::Producer<MediaCmd>,
    events: rtrb::Consumer<MediaEvent>,
    sleep: Arc<Sleep>,
    thread: Thread,
    /// Something was put into `commands` since the last wake.
    fresh: bool,
}

/// Whether a media thread sleeps so long that a command has to wake it. Its naps between phases need no waking.
#[derive(Default)]
pub(crate) struct Sleep {
    long: AtomicBool,
    stop: AtomicBool,
}

impl Sleep {
    /// Announces a long sleep. What was put into a ring before this returned is seen by a look at it afterwards.
    fn begin(&self) {
        self.long.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    fn end(&self) {
        self.long.store(false, Ordering::Relaxed);
    }
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub struct MediaThreads {
    threads: Vec<(JoinHandle<()>, Arc<Sleep>)>,
}

/// Starts the threads; `blocks[i]` are the links of thread `i` with the writers.
pub fn start(
    media: &config::Media,
    rtp: &config::Rtp,
    blocks: Vec<Vec<BlockLink>>,
    wake: &Arc<Wake>,
    metrics: &Arc<Metrics>,
    clock: Clock,
    seed: u64,
) -> io::Result<(Media, MediaThreads)> {
    let (mut links, mut threads) = (Vec::new(), Vec::new());
    for (index, blocks) in blocks.into_iter().enumerate() {
        let (commands, command_end) = rtrb::RingBuffer::new(limits::MEDIA_COMMANDS);
        let (event_end, events) = rtrb::RingBuffer::new(limits::MEDIA_EVENTS);
        let sleep = Arc::new(Sleep::default());
        let ports = PortPool::new(rtp.address, rtp.ports, index, media.threads, seed);
        let outbox = thread::Outbox::new(event_end, wake.clone(), metrics.clone());
        let thread = thread::MediaThread::new(command_end, outbox, ports, blocks, sleep.clone(), metrics.clone(), clock);
        let cpu = media.cpus.get(index % media.cpus.len().max(1)).copied();
        let handle = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || thread.run(cpu))?;
        links.push(Link { commands, events, sleep: sleep.clone(), thread: handle.thread().clone(), fresh: false });
        threads.push((handle, sleep));
    }
    Ok((Media { links, metrics: metrics.clone() }, MediaThreads { threads }))
}

impl Media {
    /// All legs of a session go to the same thread. `Err`: its ring is full and the command was not taken.
    pub fn send(&mut self, session: SessionId, command: MediaCmd) -> Result<(), LegId> {
        let leg = command.leg();
        let index = session.slot as usize % self.links.len().max(1);
        let Some(link) = self.links.get_mut(index) else { return Err(leg) };
        link.fresh = true;
        link.commands.push(command).map_err(|_| {
            add(&self.metrics.media_refused, 1);
            leg
        })
    }

    /// Wakes the threads that got something and sleep. Once for a batch of commands.
    pub fn wake(&mut self) {
        for link in &mut self.links {
            if std::mem::take(&mut link.fresh) {
                // Pairs with the fence in `Sleep::begin`.
                fence(Ordering::SeqCst);
                if link.sleep.long.swap(false, Ordering::Relaxed) {
                    link.thread.unpark();
                }
            }
        }
    }

    /// The next event, taking turns between threads; `turn` is where the last one was.
    pub fn event(&mut self, turn: &mut usize) -> Option<MediaEvent> {
        for _ in 0..self.links.len() {
            *turn = (*turn + 1) % self.links.len();
            if let Ok(event) = self.links[*turn].events.pop() {
                return Some(event);
            }
        }
        None
    }

    pub fn quiet(&self) -> bool {
        self.links.iter().all(|link| link.events.is_empty())
    }
}

impl MediaThreads {
    /// Legs that are still there close (their recordings with them), then the threads end.
    pub fn stop(self) {
        for (handle, sleep) in &self.threads {
            sleep.stop.store(true, Ordering::SeqCst);
            handle.thread().unpark();
        }
        for (handle, _) in self.threads {
            if handle.join().is_err() {
                tracing::error!("a media thread panicked");
            }
        }
    }
}
