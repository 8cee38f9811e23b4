//! Recordings on disk: from blocks of law bytes to a finished, indexed and announced WAV file.
//!
//! ```text
//!  switch --Begin, Drop--> writer ----Finish----> finisher --row--> store
//!  media  ==blocks==>      (lowest priority)      (fsync, hash,  --Recorded--> switch
//!         <==empty==       DATA/spool/ID.wav      link to blobs,
//!                            |  or ID.log         sidecar)
//!                            +----> encoder ---->
//! ```
//!
//! Writers append and keep headers true; the finisher does what waits for the disk. A file moves from spool to blobs only whole, and
//! leaves the spool only when its row is stored: whatever a crash interrupts, [`repair`] finds in the spool and carries to the end.
//! An encoder reads the closed spool file, so nothing of a recording is ever in an encoder alone.
//!
//! Start with [`Recorder`], then `writer.rs`; `spool.rs` and `wav.rs` are what it writes, `encode.rs` what becomes of that, `verify.rs` the
//! judge, `sidecar.rs` what is signed.

pub(crate) mod cbc;
mod encode;
mod facts;
mod finish;
pub mod format;
pub mod keys;
mod lame;
mod length;
mod mp4;
mod opus;
mod read;
pub mod repair;
mod resample;
mod seal;
pub mod sidecar;
mod spool;
pub mod tenant_keys;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod wav;
mod writer;

pub use finish::{details_of, is_discarded, sidecar_path};
pub use read::{Audio, Reader};

pub use writer::BlockLink;

use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::Metrics;
use crate::net::Clock;
use crate::store::Store;
use finish::{Finisher, Outlet};
use hookswitch_call::RecordingStart;
use hookswitch_proto::media::RecordingId;
use keys::Keys;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{JoinHandle, Thread};
use writer::{Order, Writer};

/// Where recordings lie, and the keys to them.
#[derive(Clone, Debug)]
pub struct Folders {
    pub spool: PathBuf,
    pub blobs: PathBuf,
    pub keys: Arc<Keys>,
    /// All are encrypted at rest, not only those whose client gives a key.
    pub encrypt: bool,
}

impl Folders {
    /// Makes them, readable by us alone: they hold what people said.
    pub fn create(data: &Path, blobs: &Path) -> io::Result<Folders> {
        let (spool, blobs) = (data.join("spool"), blobs.to_path_buf());
        for folder in [data, &spool, &blobs] {
            private_folder(folder)?;
        }
        Ok(Folders { spool, blobs, keys: Arc::new(Keys::load(data)?), encrypt: false })
    }
}

pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The signalling thread's end of the recorder.
pub struct Recorder {
    writers: Vec<(mpsc::Sender<Order>, Thread)>,
    clock: Clock,
}

/// Ends the threads: first the writers, then the encoders, then the finisher, so that everything given to them is on disk.
pub struct RecorderThreads {
    orders: Vec<(mpsc::Sender<Order>, Thread)>,
    writers: Vec<JoinHandle<()>>,
    encoders: Vec<JoinHandle<()>>,
    finisher: JoinHandle<()>,
    outlet: Outlet,
}

/// Starts `threads` writers with one link to each of `media` media threads. `links[m][w]` is what media thread `m` gives to writer `w`.
pub fn start(
    threads: usize,
    media: usize,
    folders: Folders,
    store: Store,
    inbox: SwitchInbox,
    metrics: Arc<Metrics>,
    clock: Clock,
) -> io::Result<(Recorder, Vec<Vec<BlockLink>>, RecorderThreads)> {
    let (finish, finishing) = mpsc::channel();
    let (mut encoders, mut encoding) = (Vec::new(), Vec::new());
    for index in 0..limits::ENCODERS {
        let (closed, to_encode) = mpsc::channel();
        let (folders, finish, metrics) = (folders.clone(), finish.clone(), metrics.clone());
        let run = move || finish::encode(&folders, &to_encode, &finish, &metrics);
        encoding.push(std::thread::Builder::new().name(format!("encode-{index}")).spawn(run)?);
        encoders.push(closed);
    }
    let outlet = Outlet { finish, encoders, metrics: metrics.clone() };
    let finisher = Finisher::new(folders.clone(), store, inbox, metrics.clone());
    let finisher = std::thread::Builder::new().name("record-finish".into()).spawn(move || finisher.run(&finishing))?;
    let mut links: Vec<Vec<BlockLink>> = (0..media).map(|_| Vec::new()).collect();
    let (mut orders, mut handles) = (Vec::new(), Vec::new());
    for index in 0..threads {
        let (order, ordered) = mpsc::channel();
        let mut ends = Vec::new();
        for media_links in &mut links {
            let (here, there) = BlockLink::pair();
            media_links.push(here);
            ends.push(there);
        }
        let writer = Writer::new(ends, ordered, outlet.clone(), folders.clone(), metrics.clone(), clock);
        let handle = std::thread::Builder::new().name(format!("record-{index}")).spawn(move || writer.run())?;
        orders.push((order, handle.thread().clone()));
        handles.push(handle);
    }
    let recorder = Recorder { writers: orders.clone(), clock };
    Ok((recorder, links, RecorderThreads { orders, writers: handles, encoders: encoding, finisher, outlet }))
}

impl Recorder {
    /// Before the media command that starts it.
    pub fn begin(&self, start: Box<RecordingStart>) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        self.order(start.recording, Order::Begin { start, now, wall });
    }

    /// It was announced but will not begin.
    pub fn forget(&self, recording: RecordingId) {
        self.order(recording, Order::Drop(recording));
    }

    fn order(&self, recording: RecordingId, order: Order) {
        if let Some((sender, thread)) = self.writers.get(writer_of(recording, self.writers.len())) {
            let _ = sender.send(order);
            thread.unpark();
        }
    }
}

impl RecorderThreads {
    /// Closes what is open (as if its call had ended) and waits until it is stored.
    pub fn stop(self) {
        for (sender, thread) in &self.orders {
            let _ = sender.send(Order::Stop);
            thread.unpark();
        }
        for handle in self.writers {
            if handle.join().is_err() {
                tracing::error!("a writer of recordings panicked");
            }
        }
        drop(self.outlet);
        for handle in self.encoders {
            if handle.join().is_err() {
                tracing::error!("an encoder of recordings panicked");
            }
        }
        if self.finisher.join().is_err() {
            tracing::error!("the finisher of recordings panicked");
        }
    }
}

/// All blocks of a recording go to one writer, so that they stay in order.
pub fn writer_of(recording: RecordingId, writers: usize) -> usize {
    usize::try_from(recording.0).unwrap_or(0) % writers.max(1)
}

/// A name that is one harmless component of a path, as near to `asked` as can be: no separators, no control characters, not hidden,
/// not longer than 255 bytes. Whoever asked for it was told so already where it was checked; here it must hold whatever comes.
pub fn safe_name(asked: &str, otherwise: &str) -> String {
    let mut name: String =
        asked.trim().chars().map(|c| if c.is_control() || matches!(c, '/' | '\\' | '\u{0}') { '_' } else { c }).collect();
    if name.starts_with('.') {
        name.insert(0, '_');
    }
    if name.is_empty() {
        name = otherwise.to_string();
    }
    with_suffix(&name, "")
}

/// `name` with `suffix` before its extension, cut so that it fits.
fn with_suffix(name: &str, suffix: &str) -> String {
    let (stem, extension) = match name.rfind('.').filter(|at| *at > 0 && name.len() - at <= 16) {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    let room = limits::FILE_NAME.saturating_sub(suffix.len() + extension.len());
    let mut cut = stem.len().min(room);
    while !stem.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{suffix}{extension}", &stem[..cut])
}
