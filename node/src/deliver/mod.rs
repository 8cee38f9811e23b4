//! Where recordings go when they are finished, how long they stay, and who may hear them.
//!
//! ```text
//!  store: row available --adopt--> deliveries --due--> [task] --parts--> the tenant's storage (S3, folder)
//!                                     ^  | again, later          |
//!                                     +--+                       +--available / failed--> told (Moved)
//!  store: retention over, erase --------> [Keeper] --files, row--> tombstone --object--> [task]
//! ```
//!
//! - **Nothing is lost between.** A delivery is made in the transaction that makes its recording available; its upload's id and finished
//!   parts are kept, so that a restart goes on where the last run stopped, and an upload that is given up is called off.
//! - **The call never waits.** Storage that is away costs room on this disk, within a quota; beyond it the oldest waiting are told failed and
//!   stay here.
//! - **One end.** A delivery becomes available or failed once; that is told at least once, with the same event id.
//!
//! Start with [`Delivery`]; `upload.rs` is one try, `target.rs` a storage, `keep.rs` what is kept how long, `link.rs` who may fetch one file,
//! `seal.rs` secrets at rest.

mod audio;
mod http;
mod keep;
mod link;
mod seal;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

pub use audio::{Audio, open, read, sidecar};
pub use http::Tls;
pub use keep::{EraseError, Keeper};
pub use link::{Link, Links};
pub use seal::{KEYS, Seal};
pub use target::{Credentials, Read, check};

use crate::limits;
use crate::metrics::{Metrics, add};
use crate::record::Reader;
use crate::record::keys::Keys;
use crate::store::{DeliveryRow, DeliveryState, Listeners, RecordingRow, StorageRow, Store, StoreError, wall_ms};
use hookswitch_call::recording::Phase;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use target::Target;
use tokio::sync::{Notify, oneshot};

/// A recording moved on its way to its tenant's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Of this delivery, the same however often it is told.
    pub event_id: String,
    pub row: Box<RecordingRow>,
    pub listeners: Listeners,
    /// `Uploading`, then `Available` or `Failed`.
    pub phase: Phase,
    /// A copy: its owner waits for the recording here alone.
    pub copy: bool,
    /// Where it lies, of one that is available: the storage's URL and the key.
    pub location: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
}

/// Who hears of that. Must not block.
pub type Tell = Arc<dyn Fn(Moved) + Send + Sync>;

/// How deliveries are made. Times and sizes are smaller in tests.
#[derive(Clone)]
pub struct Options {
    pub first_retry: Duration,
    pub last_retry: Duration,
    pub age: Duration,
    /// Bytes of one tenant that may wait.
    pub spool: u64,
    pub part: u64,
    pub poll: Duration,
    pub sweep: Duration,
    /// How others reach this node's API.
    pub public_url: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            first_retry: limits::DELIVERY_FIRST_RETRY,
            last_retry: limits::DELIVERY_LAST_RETRY,
            age: limits::DELIVERY_AGE,
            spool: limits::DELIVERY_SPOOL,
            part: limits::DELIVERY_PART,
            poll: limits::DELIVERY_POLL,
            sweep: limits::SWEEP_EVERY,
            public_url: "http://127.0.0.1:8080".into(),
        }
    }
}

/// What the API and the tasks share: storages, and how to open them. Clones are equal.
#[derive(Clone)]
pub struct Delivery {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    reader: Arc<Reader>,
    seal: Seal,
    tls: Tls,
    options: Options,
    metrics: Arc<Metrics>,
    /// Something may be due now.
    nudge: Notify,
}

/// All that the API needs of this room.
#[derive(Clone)]
pub struct Archive {
    pub delivery: Delivery,
    pub keeper: Keeper,
    pub links: Arc<Links>,
    pub reader: Arc<Reader>,
    pub keys: Arc<Keys>,
}

impl Archive {
    /// `data`: the node's data folder; `keys`: those of its recorder.
    pub fn open(store: Store, data: &Path, keys: Arc<Keys>, metrics: Arc<Metrics>, options: Options) -> std::io::Result<Archive> {
        let links = Arc::new(Links::load(data, &options.public_url)?);
        let delivery = Delivery::new(store.clone(), data, keys.clone(), metrics, options)?;
        let reader = delivery.shared.reader.clone();
        Ok(Archive { delivery, keeper: Keeper::new(store, data), links, reader, keys })
    }

    /// Delivers and sweeps until it is stopped.
    pub fn start(&self, tell: Tell) -> std::io::Result<DeliveryThread> {
        self.delivery.start(self.keeper.clone(), tell)
    }
}

/// The thread of deliveries. Stopped, it leaves what waits to the next start.
pub struct DeliveryThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Delivery {
    /// `data`: where the node's keys lie.
    pub fn new(store: Store, data: &Path, keys: Arc<Keys>, metrics: Arc<Metrics>, options: Options) -> std::io::Result<Delivery> {
        let reader = Arc::new(Reader::new(keys, store.clone()));
        let shared = Shared { store, reader, seal: Seal::load(data)?, tls: Tls::native(), options, metrics, nudge: Notify::new() };
        Ok(Delivery { shared: Arc::new(shared) })
    }

    /// Delivers and sweeps until it is stopped.
    pub fn start(&self, keeper: Keeper, tell: Tell) -> std::io::Result<DeliveryThread> {
        let (stop, stopped) = oneshot::channel();
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("deliver".into()).spawn(move || serve(&shared, keeper, &tell, stopped))?;
        Ok(DeliveryThread { stop, thread })
    }

    /// Looks at what is due without waiting for the next look.
    pub fn nudge(&self) {
        self.shared.nudge.notify_one();
    }

    /// What a tenant's storage is kept as.
    pub fn seal(&self, domain: &str, credentials: &Credentials) -> std::io::Result<Vec<u8>> {
        let plain = serde_json::to_vec(credentials).map_err(std::io::Error::other)?;
        self.shared.seal.seal(domain, &plain)
    }

    /// Writes a small object to a tenant's storage, reads it and removes it: why that does not work.
    pub async fn probe(&self, storage: &StorageRow) -> Result<(), String> {
        let target = Target::open(storage, &self.shared.seal, &self.shared.tls)?;
        let key = target.key(".hookswitch", &format!("{}.txt", uuid::Uuid::new_v4()));
        let probe = async {
            target.put(&key, b"hookswitch\n".to_vec()).await?;
            target.size(&key).await?;
            target.remove(&key).await
        };
        probe.await.map_err(target::Refusal::why)
    }

    /// A delivered recording's bytes, from `first` on. `None`: it was not delivered, or where to is not known any more.
    pub async fn read(&self, row: &DeliveryRow, first: u64, length: u64) -> Result<Option<Read>, String> {
        if row.state != DeliveryState::Available {
            return Ok(None);
        }
        let storage = self.shared.store.storage_later(&row.domain).await.map_err(|error| error.to_string())?;
        let Some(storage) = storage.filter(|storage| storage.url == row.place) else { return Ok(None) };
        let target = Target::open(&storage, &self.shared.seal, &self.shared.tls)?;
        target.read(&row.key, first, length).await.map(Some).map_err(target::Refusal::why)
    }
}

impl DeliveryThread {
    /// Ends deliveries. Requests under way are cut off, and what they were about is sent again after the next start.
    pub fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread of deliveries panicked");
        }
    }
}

/// Recordings under way, and whose they are.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<HashMap<String, String>>>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, row: &DeliveryRow) -> bool {
        let mut all = self.lock();
        let of_tenant = all.values().filter(|domain| **domain == row.domain).count();
        let room = all.len() < limits::DELIVERIES && of_tenant < limits::DELIVERIES_OF_TENANT && !all.contains_key(&row.recording);
        if room {
            all.insert(row.recording.clone(), row.domain.clone());
        }
        room
    }
}

fn serve(shared: &Arc<Shared>, keeper: Keeper, tell: &Tell, mut stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "deliveries could not start: they wait for the next start of the node"),
    };
    runtime.block_on(async {
        let under_way = UnderWay::default();
        let mut swept: Option<tokio::time::Instant> = None;
        for looks in 0u64.. {
            match look(shared, &under_way, tell, looks.is_multiple_of(limits::DELIVERY_SPOOL_LOOKS)).await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%error, "deliveries: the store does not answer"),
            }
            if swept.is_none_or(|at| at.elapsed() >= shared.options.sweep) {
                swept = Some(tokio::time::Instant::now());
                let keeper = keeper.clone();
                // Its end is not waited for: what it does not reach it does the next time.
                tokio::task::spawn_blocking(move || keeper.sweep(wall_ms()));
            }
            tokio::select! {
                _ = &mut stopped => return,
                () = shared.nudge.notified() => {}
                () = tokio::time::sleep(shared.options.poll) => {}
            }
        }
    });
    runtime.shutdown_background();
}

/// One look: what no longer fits is given up, what is due is begun, what ended is told. `all`: what waits is added up, which reads all of it.
async fn look(shared: &Arc<Shared>, under_way: &UnderWay, tell: &Tell, all: bool) -> Result<(), StoreError> {
    let beyond = if all { shared.store.deliveries_beyond(shared.options.spool).await? } else { Vec::new() };
    for row in beyond {
        if under_way.lock().contains_key(&row.recording) {
            continue;
        }
        let last = row.why.as_deref().unwrap_or("its storage takes too little");
        let why = format!("more waits than fits on this node: {last}");
        shared.store.end_delivery(&row.recording, DeliveryState::Failed, Some(&why)).await?;
    }
    // More than run at a time, so that those under way do not hide the others.
    let each = u32::try_from(2 * limits::DELIVERIES_OF_TENANT).unwrap_or(u32::MAX);
    for row in shared.store.due_deliveries(wall_ms(), shared.options.last_retry, each).await? {
        if !under_way.take(&row) {
            continue;
        }
        if row.state == DeliveryState::Uploading
            && row.attempts == 0
            && let Err(error) = report(shared, &row, Phase::Uploading, tell).await
        {
            // The next look begins with it again.
            under_way.lock().remove(&row.recording);
            return Err(error);
        }
        let (shared, under_way) = (shared.clone(), under_way.clone());
        tokio::spawn(async move {
            upload::attempt(&shared, &row).await;
            under_way.lock().remove(&row.recording);
            shared.nudge.notify_one();
        });
    }
    for row in shared.store.untold_deliveries().await? {
        conclude(shared, &row, tell).await?;
    }
    Ok(())
}

/// What follows from the end of a delivery. Done again after a crash: all of it bears that.
async fn conclude(shared: &Shared, row: &DeliveryRow, tell: &Tell) -> Result<(), StoreError> {
    let phase = if row.state == DeliveryState::Available {
        add(&shared.metrics.deliveries_available, 1);
        if !row.keep_local
            && let Some(recording) = shared.store.deliverable(&row.recording).await?
            && !recording.path.is_empty()
        {
            forget_local(&recording);
            shared.store.recording_moved(&row.recording).await?;
        }
        let (recording, event) = (&row.recording, &row.event_id);
        tracing::info!(recording, domain = row.domain, event, place = row.place, key = row.key, "recording delivered");
        Phase::Available
    } else {
        add(&shared.metrics.deliveries_failed, 1);
        let (recording, event) = (&row.recording, &row.event_id);
        tracing::warn!(recording, domain = row.domain, event, why = row.why, "recording not delivered; its audio stays here");
        Phase::Failed
    };
    report(shared, row, phase, tell).await?;
    shared.store.delivery_told(&row.recording).await
}

/// The row still names the file, so a file that stays is removed with the recording.
fn forget_local(row: &RecordingRow) {
    for path in [std::path::PathBuf::from(&row.path), sidecar(&row.path)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a delivered recording's file could not be removed");
            }
            _ => {}
        }
    }
}

/// Nobody hears of one that was erased meanwhile.
async fn report(shared: &Shared, row: &DeliveryRow, phase: Phase, tell: &Tell) -> Result<(), StoreError> {
    if let Some((recording, listeners)) = shared.store.told_of(&row.recording).await? {
        tell(Moved {
            event_id: row.event_id.clone(),
            row: Box::new(recording),
            listeners,
            phase,
            copy: row.keep_local,
            location: (phase == Phase::Available).then(|| location(row)),
            why: row.why.clone().filter(|_| phase == Phase::Failed),
        });
    }
    Ok(())
}

/// Where an object lies, as people say it: the key holds the prefix already.
pub fn location(row: &DeliveryRow) -> String {
    match row.place.strip_prefix("s3://").and_then(|rest| rest.split('/').next()) {
        Some(bucket) => format!("s3://{bucket}/{}", row.key),
        None => format!("{}/{}", row.place.trim_end_matches('/'), row.key),
    }
}
