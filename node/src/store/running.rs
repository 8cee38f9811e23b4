//! How long the node has run, all its runs together: what ages go by that an operator or a time server must not change. The machine's clock
//! may be set by hours; this one is monotonic, goes on where the last run ended, and loses [`KEPT_EACH`] by a crash.

use super::StoreError;
use rusqlite::Connection;
use std::time::{Duration, Instant};

/// It is written down so often, with whatever is written then.
const KEPT_EACH: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    before: u64,
    since: Instant,
}

impl Running {
    /// Goes on where it was.
    pub fn read(db: &Connection) -> Result<Running, StoreError> {
        let before: i64 = db.query_row("SELECT ms FROM running", [], |row| row.get(0))?;
        Ok(Running { before: before.cast_unsigned(), since: Instant::now() })
    }

    pub fn ms(&self) -> u64 {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.before.saturating_add(now)
    }
}

/// The store's thread keeps it.
pub(super) struct Keeping {
    running: Running,
    kept: Option<Instant>,
}

impl Keeping {
    pub fn new(running: Running) -> Keeping {
        Keeping { running, kept: None }
    }

    /// At the beginning of a transaction, so that what it stamps is not old.
    pub fn keep(&mut self, db: &Connection) {
        if self.kept.is_none_or(|at| at.elapsed() >= KEPT_EACH) {
            self.write(db);
        }
    }

    pub fn write(&mut self, db: &Connection) {
        let kept = db.prepare_cached("UPDATE running SET ms = ?").and_then(|mut row| row.execute([self.running.ms().cast_signed()]));
        match kept {
            Ok(_) => self.kept = Some(Instant::now()),
            // The transaction's own fate says so, too.
            Err(error) => tracing::debug!(%error, "how long the node has run could not be kept"),
        }
    }
}
