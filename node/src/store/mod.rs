//! The store: one SQLite file, one thread that owns it, and a handle that anybody may clone. It remembers; it decides nothing.
//!
//! What is queued is written in one transaction (group commit), so that thousands of call records a second cost a few fsyncs.
//! Two ways in: calls that wait until their change is on disk, and writes that nobody waits for (`save_…`).
//! Do not call the waiting kind from an async task; what those need returns a future (`outbox.rs`, `values.rs`).
//!
//! Start with [`Store`]; the tables are in `schema.rs`, one file a subject beside it.

mod calls;
mod deliveries;
mod devices;
mod fallbacks;
mod keeping;
mod ledger;
mod outbox;
mod recordings;
mod running;
mod schema;
mod settings;
mod tenants;
mod usage;
mod values;
mod versions;

pub use calls::{Billed, CallRow};
pub use deliveries::{DeliveryRow, DeliveryState, Listeners, Multipart, StorageRow};
pub use devices::DeviceRow;
pub use fallbacks::FallbackObject;
pub use keeping::{AccessRow, GoneRow, HoldRow, PartyRows};
pub use ledger::{AuditRow, FROM};
pub use outbox::{OutboxRow, OutboxWaiting};
pub use recordings::{RecordingRow, RecordingState};
pub use settings::{SecretRow, SettingRow, Settings};
pub use tenants::{Credential, FallbackRow, KeyRow, NumberRow, Quotas, RecordAnnounce, TenantRow, TokenRow};
pub use usage::{MEASURED_AT, Measured, UsageRow};
pub use values::{ValueError, ValueRow};
pub use versions::{AddedVersion, GuestPolicyRow, NewVersion, RolledBack, Share, VersionRow};

use running::{Keeping, Running};
use rusqlite::Connection;
use std::future::Future;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Writes that wait to be taken up. At 5,000 calls a second this is more than a second of a stalled disk, and about 4 MB.
/// Full: call records are dropped and counted ([`Store::lost`]), everything else waits for room.
const QUEUE: usize = 8192;
/// How long a write that nobody waits for stays open for others to join its transaction.
const LINGER: Duration = Duration::from_millis(10);
/// Jobs in one transaction: bounds what a crash can take back and how long a waiting caller waits.
const BATCH: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store is closed")]
    Closed,
    #[error("the store has too much to do")]
    Busy,
    #[error("the store failed: {0}")]
    Sqlite(String),
    #[error("the database is of version {found}, this node knows up to {newest}: it was written by a newer node")]
    Newer { found: i64, newest: usize },
    #[error("unknown {0}")]
    Unknown(&'static str),
    #[error("{field}: {why}")]
    Conflict { field: &'static str, why: String },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        StoreError::Sqlite(error.to_string())
    }
}

/// A handle on the store's thread. Clones are cheap and equal.
#[derive(Clone)]
pub struct Store {
    queue: flume::Sender<Job>,
    lost: Arc<AtomicU64>,
    running: Running,
}

/// The store's thread. Close it to be sure that everything queued is on disk.
pub struct StoreThread {
    store: Store,
    thread: JoinHandle<()>,
}

enum Job {
    Work { awaited: bool, work: Work },
    Close,
}
/// Runs inside the transaction; what it returns is told after the commit whether that succeeded.
/// Without a transaction it gets the reason instead, and does nothing.
type Work = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Told + Send>;
type Told = Box<dyn FnOnce(Result<(), StoreError>)>;

impl Store {
    /// Opens or makes the database, migrates it and starts its thread.
    pub fn open(path: &Path) -> Result<(Store, StoreThread), StoreError> {
        // Who called whom is nobody else's business on this machine. SQLite gives its other files the mode of this one.
        let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        made.map_err(|error| StoreError::Sqlite(format!("{}: {error}", path.display())))?;
        let mut db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.set_prepared_statement_cache_capacity(64);
        // FULL: a commit is on disk when a caller is told so. Group commit is what makes it cheap.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        schema::migrate(&mut db)?;
        ledger::prune(&db)?;

        let (queue, jobs) = flume::bounded(QUEUE);
        let running = Running::read(&db)?;
        let store = Store { queue, lost: Arc::new(AtomicU64::new(0)), running };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_batches(&db, &jobs, Keeping::new(running)))
            .map_err(|error| StoreError::Sqlite(format!("no thread for the store: {error}")))?;
        Ok((store.clone(), StoreThread { store, thread }))
    }

    /// Milliseconds that the node has run, all its runs together. Nobody can set this clock.
    pub fn running_ms(&self) -> u64 {
        self.running.ms()
    }

    /// Writes that were dropped because the queue was full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns when everything queued before is on disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.wait(|_| Ok(()))
    }

    /// Runs `work` on the store's thread and returns when its change is committed. An error in it undoes its own changes only.
    fn wait<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let work: Work = Box::new(move |db| {
            let result = db.and_then(|db| undone_on_error(db, work));
            Box::new(move |committed| {
                let _ = answer.send(committed.and(result));
            })
        });
        self.queue.send(Job::Work { awaited: true, work }).map_err(|_| StoreError::Closed)?;
        answered.recv().map_err(|_| StoreError::Closed)?
    }

    /// Queues work without ever blocking, in the order of calls; a full queue is `Busy`, and `told` is not called. It waits for others to
    /// join its transaction, as writes that nobody waits for do. `told` runs on the store's thread after the commit.
    fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        told: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.begin_as(false, work, told)
    }

    /// `awaited`: its transaction is committed at once.
    fn begin_as<T: Send + 'static>(
        &self,
        awaited: bool,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        told: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let work: Work = Box::new(move |db| {
            let result = db.and_then(|db| undone_on_error(db, work));
            Box::new(move |committed| told(committed.and(result)))
        });
        self.queue.try_send(Job::Work { awaited, work }).map_err(|error| match error {
            flume::TrySendError::Full(_) => StoreError::Busy,
            flume::TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// The same with a future in place of a callback: for async tasks.
    fn later<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        // Nobody waits any more: the task was given up.
        let queued = self.begin(work, move |result| drop(answer.send(result)));
        async move {
            queued?;
            answered.await.map_err(|_| StoreError::Closed)?
        }
    }

    /// The same at once, for what only reads: a transaction without a change costs no look at the disk.
    fn soon<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let queued = self.begin_as(true, work, move |result| drop(answer.send(result)));
        async move {
            queued?;
            answered.await.map_err(|_| StoreError::Closed)?
        }
    }

    /// Queues a write that nobody waits for. Waits for room in a full queue: for threads that may.
    fn queue(&self, what: &'static str, work: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static) {
        if self.queue.send(unawaited(what, work)).is_err() {
            tracing::warn!(what, "not stored: the store is closed");
        }
    }

    /// Queues a write without ever blocking: for threads that may not wait. Dropped and counted when the queue is full.
    fn offer(&self, what: &'static str, work: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static) {
        if self.queue.try_send(unawaited(what, work)).is_err() {
            // Powers of two, so that a stalled disk does not also fill the log.
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(what, lost, "not stored: the queue to the store is full or closed");
            }
        }
    }
}

impl StoreThread {
    /// Writes what is queued and ends the thread. Handles that remain answer [`StoreError::Closed`].
    pub fn close(self) {
        let _ = self.store.queue.send(Job::Close);
        if self.thread.join().is_err() {
            tracing::error!("the store's thread panicked");
        }
    }
}

fn unawaited(what: &'static str, work: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static) -> Job {
    let work: Work = Box::new(move |db| {
        let result = db.and_then(|db| undone_on_error(db, work));
        Box::new(move |committed| {
            if let Err(error) = committed.and(result) {
                tracing::error!(what, %error, "not stored");
            }
        })
    });
    Job::Work { awaited: false, work }
}

/// The store's thread: take a job, let others join it, commit, tell.
fn write_batches(db: &Connection, jobs: &flume::Receiver<Job>, mut running: Keeping) {
    let mut told: Vec<Told> = Vec::with_capacity(BATCH);
    let mut open = true;
    while open {
        let Ok(first) = jobs.recv() else { return };
        let begun = db.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from);
        if begun.is_ok() {
            running.keep(db);
        }
        let closes = Instant::now() + LINGER;
        let mut next = Some(first);
        let mut hurry = false;
        while let Some(job) = next {
            match job {
                Job::Close => {
                    open = false;
                    running.write(db);
                    break;
                }
                Job::Work { awaited, work } => {
                    hurry |= awaited;
                    told.push(work(begun.clone().map(|()| db)));
                }
            }
            if told.len() >= BATCH {
                break;
            }
            // Somebody waits: take what is there and commit. Nobody waits: give others 10 ms to join.
            next = if hurry { jobs.try_recv().ok() } else { jobs.recv_timeout(closes.saturating_duration_since(Instant::now())).ok() };
        }
        let committed = begun.and_then(|()| db.execute_batch("COMMIT").map_err(StoreError::from));
        if committed.is_err() && !db.is_autocommit() {
            let _ = db.execute_batch("ROLLBACK");
        }
        for tell in told.drain(..) {
            tell(committed.clone());
        }
    }
}

/// One job's changes are its own: what it did before an error is taken back, the others of the batch stay.
fn undone_on_error<T>(db: &Connection, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
    db.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = work(db);
    if result.is_err() {
        db.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    db.prepare_cached("RELEASE job")?.execute([])?;
    result
}

/// Now, as the store stamps things.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
