//! A tenant's prompt files, `<folder>/<domain>/<name>`: what may be stored, read and removed, whoever asks: the API, or a handler by `prompts`.
//! Everything here blocks.

use crate::files;
use crate::limits;
use crate::store::{Store, StoreError};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes of a file's name (IC-038).
const NAME: usize = hookswitch_call::limits::FILE_NAME;
/// Files whose names begin so are on their way in, or somebody's own.
const HIDDEN: char = '.';

/// Why something was not done with a file.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("{0}")]
    BadName(String),
    #[error("unknown file")]
    Unknown,
    #[error("this domain has {} prompts already", limits::PROMPTS)]
    TooMany,
    #[error("the tenant's storage is used up")]
    Quota,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}: {error}", path.display())]
    Failed { path: PathBuf, error: io::Error },
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub name: String,
    pub size: u64,
    /// Milliseconds since the Unix epoch.
    pub changed_at: u64,
}

#[derive(Clone)]
pub struct PromptFiles {
    folder: PathBuf,
    store: Store,
}

impl PromptFiles {
    pub fn new(folder: PathBuf, store: Store) -> PromptFiles {
        PromptFiles { folder, store }
    }

    /// All of a tenant, the newest first.
    pub fn list(&self, domain: &str) -> Result<Vec<About>, PromptError> {
        let folder = self.folder.join(domain);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&folder)(error)),
        };
        let about = |entry: fs::DirEntry| {
            let (name, meta) = (entry.file_name().into_string().ok()?, entry.metadata().ok()?);
            (meta.is_file() && !name.starts_with(HIDDEN)).then(|| about(name, &meta))
        };
        let mut all: Vec<About> = entries.flatten().filter_map(about).collect();
        all.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| a.name.cmp(&b.name)));
        Ok(all)
    }

    pub fn about(&self, domain: &str, name: &str) -> Result<About, PromptError> {
        let path = self.path(domain, name)?;
        let meta = fs::metadata(&path).map_err(failed(&path))?;
        Ok(about(name.to_owned(), &meta))
    }

    pub fn read(&self, domain: &str, name: &str) -> Result<Vec<u8>, PromptError> {
        let path = self.path(domain, name)?;
        files::read(&path, limits::PROMPT_FILE).map_err(failed(&path))
    }

    /// So many bytes at most, from there; none behind its end.
    pub fn read_part(&self, domain: &str, name: &str, offset: u64, most: u32) -> Result<Vec<u8>, PromptError> {
        let path = self.path(domain, name)?;
        let part = || {
            let mut file = fs::File::open(&path)?;
            let mut bytes = Vec::new();
            // No file system seeks as far as a handler may say.
            if offset >= file.metadata()?.len() {
                return Ok(bytes);
            }
            file.seek(SeekFrom::Start(offset))?;
            file.take(most.into()).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        part().map_err(failed(&path))
    }

    /// Its content was looked at: it is audio. `who` is for the audit. True: there was none of that name.
    pub fn put(&self, domain: &str, name: &str, bytes: &[u8], who: &str) -> Result<bool, PromptError> {
        let path = self.path(domain, name)?;
        let folder = self.folder.join(domain);
        let new = !path.exists();
        if new && fs::read_dir(&folder).is_ok_and(|entries| entries.count() >= limits::PROMPTS) {
            return Err(PromptError::TooMany);
        }
        self.check_storage(domain, &path, bytes.len())?;
        store_prompt(&folder, &path, bytes).map_err(failed(&path))?;
        self.store.save_audit(who, domain, "prompt stored", name);
        Ok(new)
    }

    pub fn remove(&self, domain: &str, name: &str, who: &str) -> Result<(), PromptError> {
        let path = self.path(domain, name)?;
        fs::remove_file(&path).map_err(failed(&path))?;
        self.store.save_audit(who, domain, "prompt removed", name);
        Ok(())
    }

    /// Two uploads at once may pass together; recordings that begin are stopped by the next measurement.
    fn check_storage(&self, domain: &str, path: &Path, size: usize) -> Result<(), PromptError> {
        let Some(most) = self.store.tenant(domain)?.and_then(|tenant| tenant.quotas.storage_bytes) else { return Ok(()) };
        let replaced = fs::metadata(path).map_or(0, |about| about.len());
        let there = self.store.recorded_bytes_of(domain)?.saturating_add(bytes_in(&self.folder.join(domain))).saturating_sub(replaced);
        if there.saturating_add(size as u64) > most { Err(PromptError::Quota) } else { Ok(()) }
    }

    fn path(&self, domain: &str, name: &str) -> Result<PathBuf, PromptError> {
        check_file_name(name).map_err(PromptError::BadName)?;
        Ok(self.folder.join(domain).join(name))
    }
}

fn about(name: String, meta: &fs::Metadata) -> About {
    let changed = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    About { name, size: meta.len(), changed_at: u64::try_from(changed.as_millis()).unwrap_or(0) }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PromptError {
    let path = path.to_owned();
    move |error| if error.kind() == io::ErrorKind::NotFound { PromptError::Unknown } else { PromptError::Failed { path, error } }
}

/// What a tenant's storage is counted by: files of its folder of prompts.
pub fn bytes_in(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| entry.metadata().ok().filter(fs::Metadata::is_file).map_or(0, |about| about.len());
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().map(size).sum())
}

/// Renamed into place: a call that starts meanwhile hears the old prompt or the new one, never half of it.
pub(crate) fn store_prompt(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let half = folder.join(format!("{HIDDEN}upload-{}", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        files::write(&mut file, bytes)?;
        fs::rename(&half, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

/// IC-038: no path separators, no `..`, no control characters, at most 255 bytes. Nor hidden files.
pub fn check_file_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME {
        return Err(format!("a file name has 1 to {NAME} bytes"));
    }
    if name.contains(['/', '\\']) || name.contains("..") || name.starts_with(HIDDEN) || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is not a safe file name"));
    }
    Ok(())
}
