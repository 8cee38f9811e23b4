//! Finished recordings as their readers see them: decrypted where they are encrypted at rest, from any place on.

use super::keys::{DataKey, Keys};
use super::seal::{SealReader, recording_of};
use crate::store::{RecordingRow, Store};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes that say whether a file is encrypted at rest, and whose it is.
const HEAD: u64 = 64;

/// Opens recordings: it has the node's keys, and knows where each recording's own key lies.
#[derive(Clone)]
pub struct Reader {
    keys: Arc<Keys>,
    store: Store,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Reader {
    pub fn new(keys: Arc<Keys>, store: Store) -> Reader {
        Reader { keys, store }
    }

    /// A recording's audio. One that its client encrypted stays so: nobody here has the key.
    pub fn open(&self, row: &RecordingRow) -> io::Result<Audio> {
        Audio::open(&self.keys, &row.id, Path::new(&row.path), row.wrapped_key.as_deref())
    }

    /// The same by its path alone. A file that is no encrypted recording is as it lies.
    pub fn open_path(&self, path: &Path) -> io::Result<Audio> {
        let mut head = Vec::new();
        let mut file = File::open(path)?;
        file.by_ref().take(HEAD).read_to_end(&mut head)?;
        let Some(id) = recording_of(&head) else { return Audio::plain(path) };
        let row = self.store.recording(&id).map_err(io::Error::other)?;
        let wrapped =
            row.and_then(|row| row.wrapped_key).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its key was erased"))?;
        Audio::open(&self.keys, &id, path, Some(&wrapped))
    }
}

/// A recording's file as its reader sees it: decrypted, where it is encrypted at rest.
pub enum Audio {
    Plain(File, u64),
    Sealed(Box<SealReader>),
}

impl Audio {
    /// A file as it lies.
    pub fn plain(path: &Path) -> io::Result<Audio> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Audio::Plain(file, length))
    }

    /// `wrapped`: the row's key, of a recording that is encrypted at rest.
    pub fn open(keys: &Keys, id: &str, path: &Path, wrapped: Option<&[u8]>) -> io::Result<Audio> {
        let Some(wrapped) = wrapped else { return Audio::plain(path) };
        let file = File::open(path)?;
        let key: DataKey = keys.unwrap_key(id, wrapped)?;
        SealReader::new(file, &key).map(|reader| Audio::Sealed(Box::new(reader)))
    }

    /// Bytes that can be read.
    #[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(&self) -> u64 {
        match self {
            Audio::Plain(_, length) => *length,
            Audio::Sealed(reader) => reader.len(),
        }
    }
}

impl Audio {
    /// Some bytes from `at` on, none at the end.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Audio::Plain(file, _) => file.read_at(out, at),
            Audio::Sealed(reader) => reader.read_at(at, out),
        }
    }
}

impl Read for Audio {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Audio::Plain(file, _) => file.read(out),
            Audio::Sealed(reader) => reader.read(out),
        }
    }
}

impl Seek for Audio {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Audio::Plain(file, _) => file.seek(to),
            Audio::Sealed(reader) => reader.seek(to),
        }
    }
}
