//! What a crash left in the spool: each file is made whole from its own header and length, stored, indexed, and named to the caller,
//! who announces it. Run once at start, before any recording begins.

use super::Folders;
use super::encode::{MAKING, MakeError, make};
use super::finish::{FAILED, fill, is_discarded, place, row_of, set_aside, sync_folder};
use super::spool::{LOG, Remains, Spool};
use super::wav::{Header, State, WavError};
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::store::{RecordingRow, RecordingState, Store};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// More than the keys at the beginning of an encrypted spool file take.
const KEYS: u64 = 512;
/// Why one failed whose tenant erased the key to it before it was stored.
const KEY_ERASED: &str = "key_erased";

/// A recording that a crash came between and its handler. Its file stays in the spool until it is announced: whatever interrupts that,
/// the next start does it again.
pub struct Repaired {
    pub row: RecordingRow,
    spooled: PathBuf,
}

impl Repaired {
    /// Its handler was told: the spool can go.
    pub fn announced(self) {
        // Heard by nobody, or whole among the blobs: nothing is lost. What did not become a recording is kept for the operator.
        let cleared = match self.row.state {
            RecordingState::Failed if is_worth_a_look(&self.row) => match self.spooled.parent() {
                Some(spool) => set_aside(spool, &self.spooled),
                None => Ok(()),
            },
            _ => forget_keys(&self.spooled).and_then(|()| std::fs::remove_file(&self.spooled)),
        };
        if let Err(error) = cleared {
            tracing::warn!(path = %self.spooled.display(), %error, "could not clear the spool: it will be announced again");
        }
    }
}

/// Whether an operator may want what failed: not what was thrown away on order.
fn is_worth_a_look(row: &RecordingRow) -> bool {
    row.frames_received.saturating_add(row.frames_concealed) > 0 && !is_discarded(&row.stop_reason, &row.dialect)
}

/// Overwrites the keys of an encrypted one, which stand at its beginning.
fn forget_keys(spooled: &Path) -> io::Result<()> {
    if spooled.extension().is_none_or(|extension| extension != LOG) {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).open(spooled)?;
    let length = file.metadata()?.len().min(KEYS);
    file.write_all_at(&vec![0; usize::try_from(length).unwrap_or(0)], 0)
}

/// Recordings that nobody may have been told of yet, stored ones and failed ones. Told once too often is told; not at all is a loss.
pub fn repair(folders: &Folders, store: &Store, metrics: &Metrics) -> io::Result<Vec<Repaired>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(&folders.spool)? {
        let path = entry?.path();
        let is = |extension: &str| path.extension().is_some_and(|e| e == extension);
        if is("wav") || is(LOG) {
            found.push(path);
        } else if MAKING.into_iter().any(is) {
            // Half a file that is made from another one in the spool.
            std::fs::remove_file(&path)?;
        }
    }
    // Oldest names are no older recordings, but a fixed order makes two runs alike.
    found.sort();
    let mut unannounced = Vec::new();
    let begun = Instant::now();
    for path in found {
        // A node that had thousands of calls must not stay away for minutes to encode what they left: the rest is kept as WAV.
        let encode = begun.elapsed() < limits::REPAIR_ENCODING;
        match repair_one(folders, store, &path, encode, metrics) {
            Ok((row, fresh)) => {
                let (id, ms, state) = (&row.id, row.duration_ms, row.state.name());
                if fresh && row.stop_reason == KEY_ERASED {
                    add(&metrics.recordings_failed, 1);
                    tracing::error!(recording = %id, domain = %row.domain, "no recording: a crash cut it off, and its tenant has erased its key");
                } else if fresh {
                    add(&metrics.recordings_repaired, 1);
                    tracing::warn!(recording = %id, domain = %row.domain, ms, state, "recording repaired after a crash");
                } else {
                    tracing::warn!(recording = %id, domain = %row.domain, ms, state, "recording announced again after a crash");
                }
                unannounced.push(Repaired { row, spooled: path });
            }
            // A full disk or a database that does not answer says nothing against the file: the next start tries again.
            Err(WavError::Io(error)) => {
                tracing::error!(path = %path.display(), %error, "a recording could not be repaired now, it stays in the spool");
            }
            Err(error) => {
                add(&metrics.recordings_failed, 1);
                tracing::error!(path = %path.display(), %error, "a file in the spool is no recording of ours, set aside");
                set_aside(&folders.spool, &path)?;
            }
        }
    }
    Ok(unannounced)
}

/// Removes what was set aside long ago, or lies behind too many others. Returns how many went. Before [`repair`], so that what this
/// start sets aside is there to be looked at.
pub fn sweep(folders: &Folders, now: SystemTime) -> io::Result<usize> {
    let entries = match std::fs::read_dir(folders.spool.join(FAILED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut kept = Vec::new();
    for entry in entries {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            kept.push((about.modified()?, entry.path()));
        }
    }
    // Newest first; names only so that two runs agree.
    kept.sort_by(|a, b| b.cmp(a));
    // A time in the future is a clock that was wrong: not old.
    let old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > limits::FAILED_AGE);
    let mut swept = 0;
    for (index, (at, path)) in kept.iter().enumerate() {
        if index >= limits::FAILED_FILES || old(*at) {
            std::fs::remove_file(path)?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// The file's row, and whether it was made only now.
fn repair_one(folders: &Folders, store: &Store, path: &Path, encode: bool, metrics: &Metrics) -> Result<(RecordingRow, bool), WavError> {
    let known = |id: &str| -> io::Result<Option<RecordingRow>> {
        let row = store.recording(id).map_err(io::Error::other)?;
        Ok(row.filter(|row| row.state != RecordingState::Recording))
    };
    let mut file = match Spool::reopen(path, &folders.keys) {
        // Its row, where it was stored before, says what it says of others under that key; here it ends like any other.
        Err(WavError::Erased(remains)) => {
            if let Some(row) = known(&remains.recording_id)? {
                return Ok((row, false));
            }
            let row = erased(*remains);
            store.put_recording(row.clone()).map_err(io::Error::other)?;
            return Ok((row, true));
        }
        file => file?,
    };
    if let Some(row) = known(&file.header().recording_id)? {
        // Only the last steps were missing, and the report is one of them.
        return Ok((row, false));
    }
    let header = file.header_mut();
    if header.state == State::Recording {
        // One that was ended had waited for room, or for its encoder.
        if header.stop_reason.is_empty() {
            header.stop_reason = "crash".into();
        }
        header.counters.repair(header.frames);
        if header.heard.expected > 0 {
            header.heard.repair(header.frames);
        }
        header.facts.speak.masked = header.facts.speak.masked.min(header.counters.silence);
        header.facts.heard.masked = header.facts.heard.masked.min(header.heard.silence);
    }
    let mut row = row_of(file.header());
    if file.header().frames == 0 || is_discarded(&row.stop_reason, &row.dialect) {
        fill(&mut row, None);
    } else {
        let mut format = file.header().facts.format().unwrap_or_default();
        if !format.is_spooled() && !encode {
            (format, _) = (format.plain(), add(&metrics.recordings_not_encoded, 1));
            file.header_mut().facts.become_format(&format);
        }
        let mut made = make(folders, &mut file, &format);
        if let Err(MakeError::Encoder(error)) = &made {
            tracing::error!(path = %path.display(), %error, "the encoder failed: the recording is kept as WAV");
            add(&metrics.recordings_not_encoded, 1);
            format = format.plain();
            file.header_mut().facts.become_format(&format);
            made = make(folders, &mut file, &format);
        }
        let made = made.map_err(|error| match error {
            MakeError::Disk(error) | MakeError::Encoder(error) => error,
        })?;
        let leftover = (made.path != path).then(|| made.path.clone());
        let placed = place(folders, &file, made)?;
        if let Some(folder) = placed.path.parent() {
            sync_folder(folder)?;
        }
        row = row_of(file.header());
        fill(&mut row, Some(&placed));
        if let Some(leftover) = leftover {
            std::fs::remove_file(leftover)?;
        }
    }
    store.put_recording(row.clone()).map_err(io::Error::other)?;
    Ok((row, true))
}

/// Who spoke, and for how long, went with the key.
fn erased(remains: Remains) -> RecordingRow {
    let Remains { recording_id, session_id, domain, begun, written } = remains;
    RecordingRow {
        id: recording_id,
        session: session_id,
        domain,
        created_at: begun,
        ended_at: Some(written),
        stop_reason: KEY_ERASED.into(),
        state: RecordingState::Failed,
        ..row_of(&Header::default())
    }
}
