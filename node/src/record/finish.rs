//! The finisher: makes a closed recording durable, gives it its place, its sidecar and its row, and says so. Here the disk is waited for.
//!
//! Order: the file as it is to be, synced and hashed (encoders do that on threads of their own where it takes time), link into the blobs,
//! sidecar, fsync of the folder, row, report, unlink from the spool. A link never overwrites, and the spool holds the file until all else is
//! done: a crash at any point is repaired without a second copy, and announced. While the disk refuses, a recording waits in the spool.

use super::encode::{Made, MakeError, hash, make};
use super::format::Format;
use super::read::Audio;
use super::seal;
use super::sidecar::{self, Encryption, Statement};
use super::spool::Spool;
use super::wav::{HEADER, Header};
use super::{Folders, private_folder, safe_name, with_suffix};
use crate::files;
use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::{Priority, set_priority};
use crate::store::{RecordingRow, RecordingState, Store};
use hookswitch_call::recording::{Container, Dialect};
use hookswitch_call::{Input, RecordingDetails, RecordingReport, RecordingResult, RecordingStart, SessionId};
use hookswitch_proto::Wall;
use hookswitch_proto::media::{FRAME_TIME, RecordingId};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The folder in the spool for what did not become a recording.
pub(super) const FAILED: &str = "failed";

/// A recording that its writer has closed.
pub(super) struct Finish {
    pub recording: RecordingId,
    pub session: SessionId,
    pub start: Box<RecordingStart>,
    pub wall: Wall,
    pub reason: &'static str,
    pub file: Option<Spool>,
    /// An encoder has been at it.
    pub made: Option<Result<Made, MakeError>>,
    /// Why there is nothing to keep.
    pub failed: Option<String>,
}

impl Finish {
    /// What its file is to become.
    fn format(&self) -> Format {
        self.file.as_ref().and_then(|file| file.header().facts.format()).unwrap_or_default()
    }

    /// Nothing is kept of it, whatever there is.
    fn is_discarded(&self) -> bool {
        is_discarded(self.reason, self.start.options.dialect.name())
    }

    /// Whether making its file takes more than a look at the disk.
    fn takes_time(&self) -> bool {
        let as_it_lies = matches!(self.file, Some(Spool::Wav(_)) | None) && self.format().is_spooled();
        !as_it_lies && self.failed.is_none() && !self.is_discarded()
    }
}

/// Where closed recordings go: to the finisher, by way of an encoder where one is needed.
#[derive(Clone)]
pub(super) struct Outlet {
    pub finish: mpsc::Sender<Finish>,
    pub encoders: Vec<mpsc::Sender<Finish>>,
    pub metrics: Arc<Metrics>,
}

impl Outlet {
    pub fn send(&self, mut finish: Finish) {
        if !finish.takes_time() {
            let _ = self.finish.send(finish);
            return;
        }
        // Encoders are that far behind: this one is kept as it lies, rather than after all the others.
        if self.metrics.recordings_encoding.get() >= limits::ENCODES_WAITING {
            fall_back(&mut finish, &self.metrics);
            if !finish.takes_time() {
                let _ = self.finish.send(finish);
                return;
            }
        }
        self.metrics.recordings_encoding.up();
        let index = usize::try_from(finish.recording.0).unwrap_or(0) % self.encoders.len().max(1);
        if let Some(encoder) = self.encoders.get(index) {
            let _ = encoder.send(finish);
        }
    }
}

/// The recording becomes the WAV file that needs no encoder.
fn fall_back(finish: &mut Finish, metrics: &Metrics) {
    let plain = finish.format().plain();
    if let Some(file) = &mut finish.file {
        file.header_mut().facts.become_format(&plain);
    }
    add(&metrics.recordings_not_encoded, 1);
}

/// An encoder's thread: one recording after the other, at the lowest priority.
pub(super) fn encode(folders: &Folders, closed: &mpsc::Receiver<Finish>, finish: &mpsc::Sender<Finish>, metrics: &Metrics) {
    let _ = set_priority(Priority::Idle);
    while let Ok(mut closed) = closed.recv() {
        let format = closed.format();
        if let Some(file) = &mut closed.file {
            settle(file.header_mut(), closed.reason);
            closed.made = Some(make(folders, file, &format));
        }
        metrics.recordings_encoding.down();
        let _ = finish.send(closed);
    }
}

/// A header that a writer did not end (the node stops) ends here.
fn settle(header: &mut Header, reason: &str) {
    if header.stop_reason.is_empty() {
        header.stop_reason = reason.into();
    }
}

pub(super) struct Finisher {
    folders: Folders,
    store: Store,
    inbox: SwitchInbox,
    metrics: Arc<Metrics>,
    /// Those that the disk had no room for.
    waiting: Vec<Finish>,
    tried: Instant,
}

/// A file in its place.
pub(super) struct Placed {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
    pub wrapped: Option<Vec<u8>>,
    pub sidecar: String,
    /// What it was linked from, where that is not the spool file itself.
    pub made: Option<PathBuf>,
}

/// Why a recording has no place.
enum Unplaced {
    /// For good.
    Failed(String),
    /// The disk refuses: later.
    Later(io::Error),
}

impl Finisher {
    pub fn new(folders: Folders, store: Store, inbox: SwitchInbox, metrics: Arc<Metrics>) -> Finisher {
        Finisher { folders, store, inbox, metrics, waiting: Vec::new(), tried: Instant::now() }
    }

    /// Until all writers and encoders are gone.
    pub fn run(mut self, finishing: &mpsc::Receiver<Finish>) {
        // Refused: writers have said so already.
        let _ = set_priority(Priority::Idle);
        loop {
            let first = match finishing.recv_timeout(limits::FINISH_RETRY) {
                Ok(first) => Some(first),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let mut batch: Vec<Finish> = first.into_iter().collect();
            batch.extend(finishing.try_iter().take(limits::FINISH_BATCH - 1));
            if !self.waiting.is_empty() && self.tried.elapsed() >= limits::FINISH_RETRY {
                self.tried = Instant::now();
                batch.append(&mut self.waiting);
            }
            if !batch.is_empty() {
                self.finish(batch);
            }
        }
        // Once more, for what the disk refused in the last seconds; what it still refuses is in the spool, for the next start.
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            self.finish(rest);
        }
        if !self.waiting.is_empty() {
            tracing::error!(
                recordings = self.waiting.len(),
                "recordings wait in the spool for room on the disk; the next start stores them"
            );
        }
    }

    fn finish(&mut self, batch: Vec<Finish>) {
        let mut done = Vec::with_capacity(batch.len());
        let mut folders = BTreeSet::new();
        for mut finish in batch {
            let placed = match self.place(&mut finish) {
                Ok(placed) => Ok(placed),
                Err(Unplaced::Failed(why)) => Err(why),
                Err(Unplaced::Later(error)) if self.waiting.len() < limits::FINISH_WAITING => {
                    let id = &finish.start.recording_id;
                    tracing::error!(recording = %id, domain = %finish.start.domain, %error, "a recording waits in the spool");
                    add(&self.metrics.recordings_delayed, 1);
                    self.waiting.push(finish);
                    continue;
                }
                Err(Unplaced::Later(error)) => Err(error.to_string()),
            };
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
            self.conclude(finish, placed, safe);
        }
    }

    fn place(&self, finish: &mut Finish) -> Result<Placed, Unplaced> {
        if finish.is_discarded() {
            return Err(Unplaced::Failed(finish.reason.into()));
        }
        if let Some(why) = &finish.failed {
            return Err(Unplaced::Failed(why.clone()));
        }
        let mut format = finish.format();
        let made = finish.made.take();
        let Some(file) = finish.file.as_mut() else { return Err(Unplaced::Failed("nothing was recorded".into())) };
        settle(file.header_mut(), finish.reason);
        let counters = file.header().counters;
        if finish.reason == "media_timeout" && counters.received + counters.concealed == 0 {
            return Err(Unplaced::Failed(NO_MEDIA.into()));
        }
        let mut made = made.unwrap_or_else(|| make(&self.folders, file, &format));
        if let Err(MakeError::Encoder(error)) = &made {
            // What was said is worth more than the format it was wanted in.
            tracing::error!(recording = %finish.start.recording_id, %error, "the encoder failed: the recording is kept as WAV");
            fall_back(finish, &self.metrics);
            format = finish.format();
            let Some(file) = finish.file.as_mut() else { return Err(Unplaced::Failed("nothing was recorded".into())) };
            made = make(&self.folders, file, &format);
        }
        let Some(file) = finish.file.as_ref() else { return Err(Unplaced::Failed("nothing was recorded".into())) };
        match made {
            Ok(made) => place(&self.folders, file, made).map_err(Unplaced::Later),
            Err(MakeError::Disk(error)) => Err(Unplaced::Later(error)),
            Err(error) => Err(Unplaced::Failed(error.to_string())),
        }
    }

    /// `safe`: file name and row are on disk, so that the spool's name of the file may go.
    fn conclude(&self, finish: Finish, placed: Result<Placed, String>, safe: bool) {
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
        let details = details_of(&row(&finish, &placed), None, None);
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
            let left = match &placed {
                Ok(placed) if safe => clear(file, placed.made.as_deref()),
                Ok(_) => Ok(()),
                // Silence of our own making, or thrown away: nobody wants it back, and anybody could fill the disk with it.
                Err(why) if why == NO_MEDIA || finish.is_discarded() => clear(file, None),
                Err(_) => set_aside(&self.folders.spool, file.path()),
            };
            if let Err(error) = left {
                tracing::warn!(path = %file.path().display(), %error, "could not clear the spool");
            }
        }
    }
}

/// Takes a recording out of the spool. Of an encrypted one the keys first: whatever the disk keeps of its samples is noise then.
pub(super) fn clear(file: &Spool, made: Option<&Path>) -> io::Result<()> {
    if let Some(made) = made {
        std::fs::remove_file(made)?;
    }
    file.forget_keys()?;
    std::fs::remove_file(file.path())
}

/// Whether nothing is kept of a recording that ended for this reason: thrown away on order, or cancelled before it was done
/// (docs/conformance.md, "Stop reasons").
pub fn is_discarded(reason: &str, dialect: &str) -> bool {
    let keeps_stopped = Dialect::of_name(dialect).is_none_or(Dialect::keeps_stopped);
    matches!(reason, "discarded" | "superseded") || reason == "api_stop" && !keeps_stopped
}

/// Why a recording failed whose party sent nothing at all.
const NO_MEDIA: &str = "no media received";

fn row(finish: &Finish, placed: &Result<Placed, String>) -> RecordingRow {
    let start = &finish.start;
    let mut row = match &finish.file {
        Some(file) => row_of(file.header()),
        None => RecordingRow { id: start.recording_id.clone(), domain: start.domain.to_string(), ..RecordingRow::default() },
    };
    row.session = start.session_id.clone();
    row.connection = start.connection_id.clone();
    row.caller = start.caller.clone();
    row.called = start.called.clone();
    row.file_name = start.file_name.clone();
    row.control_id = start.options.control_id.clone();
    row.client_context = start.options.client_context.clone();
    row.announce = start.options.announce;
    row.created_at = finish.wall.0;
    row.stop_reason = finish.reason.into();
    fill(&mut row, placed.as_ref().ok());
    row
}

/// What a file's header says, as a row.
pub(super) fn row_of(header: &Header) -> RecordingRow {
    let facts = &header.facts;
    RecordingRow {
        id: header.recording_id.clone(),
        domain: header.domain.clone(),
        session: header.session_id.clone(),
        connection: facts.connection.clone(),
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
        control_id: facts.control_id.clone(),
        client_context: facts.client_context.clone(),
        dialect: if facts.dialect.is_empty() { "native".into() } else { facts.dialect.clone() },
        container: facts.container.clone(),
        encoding: facts.encoding.clone(),
        sample_rate: facts.rate,
        channels: header.channels,
        stop_digit: facts.stop_digit,
        contains_sound: facts.contains_sound,
        ended_at: facts.ended_at,
        storage_class: if facts.storage_class.is_empty() { "prompt_store".into() } else { facts.storage_class.clone() },
        retention_ms: facts.retention_ms,
        announce: facts.announce,
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
        stop_digit: stop_digit.or(row.stop_digit),
        duration: Duration::from_millis(row.duration_ms),
        contains_sound: contains_sound.or(row.contains_sound).unwrap_or(row.frames_received > 0),
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
            row.sidecar = placed.sidecar.clone();
            row.wrapped_key = placed.wrapped.clone();
            row.state = RecordingState::Available;
            // The name it got: another one where that was taken.
            row.file_name = placed.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        }
        None => row.state = RecordingState::Failed,
    }
}

/// Links a file that is made to its place among the blobs, and puts its sidecar beside it. The spool's name of it stays.
pub(super) fn place(folders: &Folders, file: &Spool, made: Made) -> io::Result<Placed> {
    let header = file.header();
    let folder = folders.blobs.join(safe_name(&header.domain, "unknown"));
    if !folder.is_dir() {
        private_folder(&folder)?;
        sync_folder(&folders.blobs)?;
    }
    let id = safe_name(&header.recording_id, "unnamed");
    let container = if header.facts.container.is_empty() { "wav" } else { &header.facts.container };
    let name = named_as(&safe_name(&header.file_name, &format!("{id}.{container}")), container);
    let (path, size, sha256) = find_place(folders, file, &made, &folder, &name, &id)?;
    let file_name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let encryption = match (&made.wrapped, made.cbc_bits) {
        (_, Some(bits)) => Some(Encryption { cipher: format!("aes-{bits}-cbc"), key: None }),
        (Some(wrapped), None) => Some(Encryption { cipher: "aes-256-gcm".into(), key: Some(folders.keys.name_of(wrapped)) }),
        (None, None) => None,
    };
    let sidecar = Statement::of(header, &file_name, size, &sha256, encryption).sign(&folders.keys);
    write_sidecar(&folder, &path, &id, &sidecar)?;
    let made_path = (made.path != file.path()).then_some(made.path);
    Ok(Placed { path, size, sha256, wrapped: made.wrapped, sidecar, made: made_path })
}

/// Where a recording's sidecar lies.
pub fn sidecar_path(audio: &Path) -> PathBuf {
    let mut name = audio.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

/// Whole or not there.
fn write_sidecar(folder: &Path, audio: &Path, id: &str, text: &str) -> io::Result<()> {
    let part = folder.join(format!(".{id}.json.part"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(&part, sidecar_path(audio))
}

/// The name with the extension of what the file became, where it has that of another kind.
fn named_as(name: &str, container: &str) -> String {
    match Container::of_name(name) {
        Some(asked) if asked.name() != container => match name.rsplit_once('.') {
            Some((stem, _)) => format!("{stem}.{container}"),
            None => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

fn find_place(folders: &Folders, file: &Spool, made: &Made, folder: &Path, name: &str, id: &str) -> io::Result<(PathBuf, u64, String)> {
    for attempt in 1..=limits::NAME_TRIES + 1 {
        let candidate = match attempt {
            1 => name.to_owned(),
            n if n <= limits::NAME_TRIES => with_suffix(name, &format!("-{n}")),
            _ => with_suffix(name, &format!("-{id}")),
        };
        let path = folder.join(candidate);
        match link(&made.path, &path, folder, id) {
            Ok(()) => return Ok((path, made.size, made.sha256.clone())),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // Linked before a crash: it is there already.
                if let Some((size, sha256)) = is_placed(folders, file, made, &path) {
                    return Ok((path, size, sha256));
                }
            }
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
    let result = files::copy(&mut File::open(from)?, &mut copy).and_then(|()| std::fs::hard_link(&part, to));
    std::fs::remove_file(&part)?;
    result
}

/// Size and hash of the file there, where it is this recording: linked before a crash. Its sidecar says whose it is; without one the crash
/// came just before that, and the bytes must be the same.
fn is_placed(folders: &Folders, spool: &Spool, made: &Made, path: &Path) -> Option<(u64, String)> {
    let id = &spool.header().recording_id;
    if let Ok(text) = std::fs::read_to_string(sidecar_path(path))
        && sidecar::read(&text, None).is_ok_and(|said| said.recording_id != *id)
    {
        return None;
    }
    let mut head = Vec::with_capacity(HEADER);
    File::open(path).and_then(|file| file.take(HEADER as u64).read_to_end(&mut head)).ok()?;
    if made.wrapped.is_some() && seal::recording_of(&head).is_some_and(|sealed| sealed == *id) {
        let mut there = Audio::open(&folders.keys, id, path, made.wrapped.as_deref()).ok()?;
        return hash(&mut there).ok();
    }
    hash(&mut File::open(path).ok()?).ok().filter(|there| *there == (made.size, made.sha256.clone()))
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
