//! What a crash left in the spool: each file is made whole from its own header and length, stored, indexed, and named to the caller,
//! who announces it. Run once at start, before any recording begins.

use super::Folders;
use super::finish::{fill, place, row_of, set_aside, sync_folder};
use super::wav::{State, WavError, WavFile};
use crate::metrics::{Metrics, add};
use crate::store::{RecordingRow, RecordingState, Store};
use std::io;
use std::path::{Path, PathBuf};

/// The rows of recordings that nobody was told of yet, stored ones and failed ones.
pub fn repair(folders: &Folders, store: &Store, metrics: &Metrics) -> io::Result<Vec<RecordingRow>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&folders.spool)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "wav") {
            found.push(path);
        }
    }
    // Oldest names are no older recordings, but a fixed order makes two runs alike.
    found.sort();
    let mut announced = Vec::new();
    for path in found {
        match repair_one(folders, store, &path) {
            Ok(Some(row)) => {
                add(&metrics.recordings_repaired, 1);
                let (id, ms, state) = (&row.id, row.duration_ms, row.state.name());
                tracing::warn!(recording = %id, domain = %row.domain, ms, state, "recording repaired after a crash");
                announced.push(row);
            }
            Ok(None) => {}
            Err(error) => {
                add(&metrics.recordings_failed, 1);
                tracing::error!(path = %path.display(), %error, "a file in the spool could not be repaired, set aside");
                set_aside(&folders.spool, &path)?;
            }
        }
    }
    Ok(announced)
}

fn repair_one(folders: &Folders, store: &Store, path: &Path) -> Result<Option<RecordingRow>, WavError> {
    let mut file = WavFile::reopen(path)?;
    let known = store.recording(&file.header.recording_id).map_err(io::Error::other)?;
    if known.is_some_and(|row| row.state != RecordingState::Recording) {
        // Only the last step was missing.
        std::fs::remove_file(path)?;
        return Ok(None);
    }
    let header = &mut file.header;
    if header.state == State::Recording {
        header.stop_reason = "crash".into();
        let c = &mut header.counters;
        // The header is up to a second behind the samples. What those frames are was lost with it; they came from the party in time or
        // were concealed then, and are counted as received.
        let behind = header.frames.saturating_sub(c.known());
        c.received = c.received.saturating_add(behind);
        // Ahead of the samples it can only be after a power cut, when the file system lost some.
        let mut ahead = c.known().saturating_sub(header.frames);
        for counter in [&mut c.received, &mut c.silence, &mut c.concealed] {
            let cut = ahead.min(*counter);
            *counter -= cut;
            ahead -= cut;
        }
        c.expected = header.frames;
    }
    let mut row = row_of(header);
    if header.frames == 0 {
        fill(&mut row, None);
    } else {
        let placed = place(folders, &mut file)?;
        if let Some(folder) = placed.path.parent() {
            sync_folder(folder)?;
        }
        row = row_of(&file.header);
        fill(&mut row, Some(&placed));
    }
    store.put_recording(row.clone()).map_err(io::Error::other)?;
    std::fs::remove_file(path)?;
    Ok(Some(row))
}
