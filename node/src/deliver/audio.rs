//! A stored recording's bytes, as its listeners get them: the one place where deliveries and downloads open a file.

use crate::limits;
use crate::record::{self, Reader};
use crate::store::RecordingRow;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that can be read from any place. May block.
pub trait Audio: Send + Sync {
    fn length(&self) -> u64;
    /// Some bytes from `at` on; none at the end.
    fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<usize>;
}

/// Decrypted, where it is encrypted at rest.
impl Audio for record::Audio {
    fn length(&self) -> u64 {
        self.len()
    }
    fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<usize> {
        record::Audio::read_at(self, at, room)
    }
}

/// Of a recording whose file is here, as its listeners are to have it. `NotFound`: it is elsewhere, or lost.
pub fn open(reader: &Reader, row: &RecordingRow) -> io::Result<Box<dyn Audio>> {
    if row.path.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Box::new(reader.open(row)?))
}

/// A file as it lies there.
pub(super) fn plain(path: &Path) -> io::Result<Box<dyn Audio>> {
    Ok(Box::new(record::Audio::plain(path)?))
}

/// Exactly so many bytes, or fewer at the end.
pub fn read(audio: &dyn Audio, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(audio.length().saturating_sub(at)).unwrap_or(usize::MAX).min(most);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match audio.read_at(at + filled as u64, &mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(bytes)
}

/// What lies beside a recording and says what it is.
pub fn sidecar(path: &str) -> PathBuf {
    PathBuf::from(format!("{path}.json"))
}

/// Its bytes, if there is one.
pub(super) fn read_sidecar(row: &RecordingRow) -> io::Result<Option<Vec<u8>>> {
    let path = sidecar(&row.path);
    match std::fs::metadata(&path) {
        Ok(about) if about.len() > limits::SIDECAR => Err(io::Error::other("its sidecar is too large to be one")),
        Ok(_) => std::fs::read(&path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes what lies here of a recording: its file, its sidecar, and what was set aside of one that failed.
pub fn remove_files(spool: &Path, row: &RecordingRow) -> io::Result<()> {
    if !row.path.is_empty() {
        gone(std::fs::remove_file(&row.path))?;
        gone(std::fs::remove_file(sidecar(&row.path)))?;
    }
    let aside = match std::fs::read_dir(spool.join("failed")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in aside.flatten() {
        // A recording's files in the spool are called by its id, whatever their kind.
        if !row.id.is_empty() && entry.file_name().to_string_lossy().starts_with(&row.id) {
            gone(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
