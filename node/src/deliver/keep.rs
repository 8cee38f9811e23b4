//! How recordings end: their retention is over, somebody deletes them, or a party is erased. One way for all: a tombstone first, then the
//! files, then the row; a crash in between is finished at the next sweep. A legal hold stops all of them.

use super::audio::remove_files;
use crate::store::{RecordingRow, Store, StoreError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("its files could not be removed: {0}")]
    Files(#[from] io::Error),
}

/// Removes recordings. Clones are equal.
#[derive(Clone)]
pub struct Keeper {
    store: Store,
    spool: Arc<PathBuf>,
}

/// Recordings removed between two looks at what is due.
const BATCH: u32 = 256;

impl Keeper {
    /// `data`: the node's data folder.
    pub fn new(store: Store, data: &Path) -> Keeper {
        Keeper { store, spool: Arc::new(data.join("spool")) }
    }

    /// Removes a recording for good: nobody gets it from now on. Gives whether something of it was delivered, which is then removed by the
    /// deliveries' thread. Blocks.
    pub fn erase(&self, row: &RecordingRow, why: &str, who: &str, now: u64) -> Result<bool, EraseError> {
        self.store.begin_erasing(&row.id, why, who, now)?;
        self.finish(row)
    }

    fn finish(&self, row: &RecordingRow) -> Result<bool, EraseError> {
        remove_files(&self.spool, row)?;
        Ok(self.store.finish_erasing(&row.id)?)
    }

    /// Removes what has been kept long enough at `now`, in milliseconds since the Unix epoch. Gives how many. Blocks.
    pub fn sweep(&self, now: u64) -> usize {
        let mut removed = 0;
        match self.store.half_erased() {
            Ok(rows) => removed += rows.iter().filter(|row| done(row, self.finish(row))).count(),
            Err(error) => tracing::warn!(%error, "what was being removed could not be read"),
        }
        loop {
            let due = match self.store.recordings_due(now, BATCH) {
                Ok(due) => due,
                Err(StoreError::Closed) => return removed,
                Err(error) => {
                    tracing::warn!(%error, "which recordings have been kept long enough could not be read");
                    return removed;
                }
            };
            let gone = due.iter().filter(|(row, why)| done(row, self.erase(row, why, "retention", now))).count();
            removed += gone;
            // Those that could not be removed would be found again at once.
            if gone == 0 || due.len() < BATCH as usize {
                return removed;
            }
        }
    }
}

fn done(row: &RecordingRow, erased: Result<bool, EraseError>) -> bool {
    match erased {
        Ok(_) => {
            tracing::info!(recording = row.id, domain = row.domain, "recording removed: it was kept long enough");
            true
        }
        // Held since it was looked for.
        Err(EraseError::Store(StoreError::Conflict { .. } | StoreError::Unknown(_))) => false,
        Err(error) => {
            tracing::warn!(recording = row.id, domain = row.domain, %error, "a recording could not be removed; it is tried again");
            false
        }
    }
}
