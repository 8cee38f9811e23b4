//! The finisher: makes a closed recording durable, gives it its place and its row, and says so. Here the disk is waited for.
//!
//! Order: header, fsync, hash, link into the blobs, fsync of the folder, row, report, unlink from the spool. A link never overwrites,
//! and the spool holds the file until all else is done: a crash at any point is repaired without a second copy, and announced.

use super::verify::hex;
use super::wav::{HEADER, Header, State, WavFile};
use super::{Folders, private_folder, safe_name, with_suffix};
use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::{Priority, set_priority};
use crate::store::{RecordingRow, RecordingState, Store};
use hookswitch_call::{Input, RecordingDetails, RecordingReport, RecordingResult, RecordingStart, SessionId};
use hookswitch_proto::Wall;
use hookswitch_proto::media::{FRAME_TIME, RecordingId};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The folder in the spool for what did not become a recording.
pub(super) const FAILED: &str = "failed";

/// A recording that its writer has closed.
pub(super) struct Finish {
    pub recording: RecordingId,
    pub session: SessionId,
    pub start: Box<RecordingStart>,
    pub wall: Wall,
    pub reason: &'static str,
    pub stop_digit: Option<char>,
    /// Unknown where the media thread did not say how it ended.
    pub contains_sound: Option<bool>,
    pub file: Option<WavFile>,
    /// Why there is nothing to keep.
    pub failed: Option<String>,
}

pub(super) struct Finisher {
    folders: Folders,
    store: Store,
    inbox: SwitchInbox,
    metrics: Arc<Metrics>,
}

/// A file in its place.
pub(super) struct Placed {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

impl Finisher {
    pub fn new(folders: Folders, store: Store, inbox: SwitchInbox, metrics: Arc<Metrics>) -> Finisher {
        Finisher { folders, store, inbox, metrics }
    }

    /// Until all writers are gone.
    pub fn run(self, finishing: &mpsc::Receiver<Finish>) {
        // Refused: writers have said so already.
        let _ = set_priority(Priority::Idle);
        while let Ok(first) = finishing.recv() {
            let mut batch = vec![first];
            batch.extend(finishing.try_iter().take(limits::FINISH_BATCH - 1));
            self.finish(batch);
        }
    }

    fn finish(&self, batch: Vec<Finish>) {
        let mut done = Vec::with_capacity(batch.len());
        let mut folders = BTreeSet::new();
        for mut finish in batch {
            let placed = self.place(&mut finish);
            if let Ok(placed) = &placed {
                folders.extend(placed.path.parent().map(Path::to_path_buf));
            }
            done.push((finish, placed));
        }
        let mut safe = true;
        for folder in &folders {
            if let Err(error) = sync_folder(folder) {
                tracing::error!(folder = %folder.display(), %error, "a folder of recordings could not be synced; their spool files stay");
                safe = false;
            }
        }
        let rows = done.iter().map(|(finish, placed)| row(finish, placed)).collect();
        if let Err(error) = self.store.put_recordings(rows) {
            tracing::error!(%error, "recordings are stored but not indexed; the next start will do it");
            safe = false;
        }
        for (finish, placed) in done {
            self.conclude(&finish, placed, safe);
        }
    }

    fn place(&self, finish: &mut Finish) -> Result<Placed, String> {
        if let Some(why) = &finish.failed {
            return Err(why.clone());
        }
        let file = finish.file.as_mut().ok_or("nothing was recorded")?;
        if file.header.stop_reason.is_empty() {
            file.header.stop_reason = finish.reason.into();
        }
        if finish.reason == "media_timeout" && file.header.counters.received + file.header.counters.concealed == 0 {
            return Err(NO_MEDIA.into());
        }
        place(&self.folders, file).map_err(|e| e.to_string())
    }

    /// `safe`: file name and row are on disk, so that the spool's name of the file may go.
    fn conclude(&self, finish: &Finish, placed: Result<Placed, String>, safe: bool) {
        let id = &finish.start.recording_id;
        match &placed {
            Ok(placed) => {
                add(&self.metrics.recordings_stored, 1);
                tracing::info!(recording = %id, domain = %finish.start.domain, path = %placed.path.display(), reason = finish.reason, "recording stored");
            }
            Err(why) => {
                add(&self.metrics.recordings_failed, 1);
                tracing::warn!(recording = %id, domain = %finish.start.domain, why, "no recording");
            }
        }
        let file_name = match &placed {
            Ok(placed) => placed.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            Err(_) => finish.start.file_name.clone(),
        };
        let details = details_of(&row(finish, &placed), finish.stop_digit, finish.contains_sound);
        self.inbox.send(Input::Recorded(RecordingReport {
            recording: finish.recording,
            recording_id: id.clone(),
            session: finish.session,
            file_name,
            outcome: placed.as_ref().map(|p| p.size).map_err(Clone::clone),
            details,
        }));
        // Last: as long as it is there, a crash leads to another report, not to none.
        if let Some(file) = &finish.file {
            let left = match placed {
                Ok(_) if safe => std::fs::remove_file(file.path()),
                Ok(_) => Ok(()),
                // Silence of our own making: nobody wants it back, and anybody could fill the disk with it.
                Err(ref why) if why == NO_MEDIA => std::fs::remove_file(file.path()),
                Err(_) => set_aside(&self.folders.spool, file.path()),
            };
            if let Err(error) = left {
                tracing::warn!(path = %file.path().display(), %error, "could not clear the spool");
            }
        }
    }
}

/// Why a recording failed whose party sent nothing at all.
const NO_MEDIA: &str = "no media received";

fn row(finish: &Finish, placed: &Result<Placed, String>) -> RecordingRow {
    let start = &finish.start;
    let mut row = match &finish.file {
        Some(file) => row_of(&file.header),
        None => RecordingRow { id: start.recording_id.clone(), domain: start.domain.to_string(), ..RecordingRow::default() },
    };
    row.session = start.session_id.clone();
    row.connection = start.connection_id.clone();
    row.caller = start.caller.clone();
    row.called = start.called.clone();
    row.file_name = start.file_name.clone();
    row.created_at = finish.wall.0;
    row.stop_reason = finish.reason.into();
    fill(&mut row, placed.as_ref().ok());
    row
}

/// What a file's header says, as a row.
pub(super) fn row_of(header: &Header) -> RecordingRow {
    RecordingRow {
        id: header.recording_id.clone(),
        domain: header.domain.clone(),
        session: header.session_id.clone(),
        caller: header.caller.clone(),
        called: header.called.clone(),
        file_name: header.file_name.clone(),
        created_at: header.started,
        duration_ms: header.frames * FRAME_TIME.as_millis() as u64,
        frames_expected: header.counters.expected,
        frames_received: header.counters.received,
        frames_concealed: header.counters.concealed,
        frames_silence: header.counters.silence,
        stop_reason: header.stop_reason.clone(),
        ..RecordingRow::default()
    }
}

/// What a handler is told of a recording that is stored. Where nobody knows any more whether somebody spoke, what came counts as sound:
/// a message taken for an empty one would be lost.
pub fn details_of(row: &RecordingRow, stop_digit: Option<char>, contains_sound: Option<bool>) -> Option<Box<RecordingDetails>> {
    if row.state != RecordingState::Available {
        return None;
    }
    let result = RecordingResult {
        recording_id: row.id.clone(),
        file_name: row.file_name.clone(),
        stop_reason: row.stop_reason.clone(),
        stop_digit,
        duration: Duration::from_millis(row.duration_ms),
        contains_sound: contains_sound.unwrap_or(row.frames_received > 0),
        ..RecordingResult::default()
    };
    Some(Box::new(RecordingDetails { result, size: row.size, sha256: row.sha256.clone(), started_at: row.created_at }))
}

/// Makes a row final.
pub(super) fn fill(row: &mut RecordingRow, placed: Option<&Placed>) {
    match placed {
        Some(placed) => {
            row.path = placed.path.to_string_lossy().into_owned();
            row.size = placed.size;
            row.sha256 = placed.sha256.clone();
            row.state = RecordingState::Available;
            // The name it got: another one where that was taken.
            row.file_name = placed.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        }
        None => row.state = RecordingState::Failed,
    }
}

/// Finishes a file in the spool and links it to its place among the blobs. The spool's name of it stays.
pub(super) fn place(folders: &Folders, file: &mut WavFile) -> io::Result<Placed> {
    file.header.state = State::Finished;
    let frames = file.header.frames;
    file.truncate(frames)?;
    file.flush()?;
    file.file().sync_all()?;
    let (size, sha256) = hash(file.file())?;
    let folder = folders.blobs.join(safe_name(&file.header.domain, "unknown"));
    if !folder.is_dir() {
        private_folder(&folder)?;
        sync_folder(&folders.blobs)?;
    }
    let id = safe_name(&file.header.recording_id, "unnamed");
    let name = safe_name(&file.header.file_name, &format!("{id}.wav"));
    for attempt in 1..=limits::NAME_TRIES + 1 {
        let candidate = match attempt {
            1 => name.clone(),
            n if n <= limits::NAME_TRIES => with_suffix(&name, &format!("-{n}")),
            _ => with_suffix(&name, &format!("-{id}")),
        };
        let path = folder.join(candidate);
        match link(file.path(), &path, &folder, &id) {
            Ok(()) => return Ok(Placed { path, size, sha256 }),
            // Linked before a crash: it is there already.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_recording(&path, &file.header.recording_id) => {
                return Ok(Placed { path, size, sha256 });
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("no free name for {name}")))
}

/// A second name for the same file; on another file system, for a synced copy of it.
fn link(from: &Path, to: &Path, folder: &Path, id: &str) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
        other => return other,
    }
    let part = folder.join(format!(".{id}.part"));
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let result =
        std::io::copy(&mut File::open(from)?, &mut copy).and_then(|_| copy.sync_all()).and_then(|()| std::fs::hard_link(&part, to));
    std::fs::remove_file(&part)?;
    result
}

fn is_recording(path: &Path, id: &str) -> bool {
    let mut head = [0u8; HEADER];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.is_ok() && Header::decode(&head).is_ok_and(|h| h.recording_id == id && h.state == State::Finished)
}

fn hash(file: &File) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 << 10];
    let mut at = 0u64;
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok((at, hex(&hash.finalize()))),
            n => {
                hash.update(&buffer[..n]);
                at += n as u64;
            }
        }
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Out of the way of the next repair, but not lost: an operator may still want to listen to it.
pub(super) fn set_aside(spool: &Path, file: &Path) -> io::Result<()> {
    let folder = spool.join(FAILED);
    private_folder(&folder)?;
    let name = file.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    std::fs::rename(file, folder.join(name))
}
