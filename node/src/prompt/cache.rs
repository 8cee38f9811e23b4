//! Fetched and synthesised phrases on the disk (IC-247): below `DATA/cache/phrases`, a folder for each tenant, a file for each phrase by the
//! hash of all that it was made of. It may vanish at any time: then phrases are made anew.
//!
//! A file begins with a line that says when it was made and how long it may be kept; its time of change is that of its last use.

use crate::limits;
use crate::record::{private_folder, safe_name};
use crate::store::wall_ms;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub(super) type Name = [u8; 32];

/// Its first bytes, with both numbers in milliseconds and as wide as they can get.
const HEAD: usize = 48;
/// What it may grow by before it is looked at whether it is too large.
const LOOK_AFTER: u64 = limits::PHRASE_CACHE / 16;

/// A hash over all of these, so that no two lists have the same.
pub(super) fn name_of(parts: &[&str]) -> Name {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[derive(Debug)]
pub struct PhraseCache {
    folder: PathBuf,
    grown: AtomicU64,
}

/// A phrase that was found, and how much longer it may be kept.
pub(super) struct Found {
    pub audio: Vec<u8>,
    pub left: Duration,
}

impl PhraseCache {
    /// `data`: the node's data folder.
    pub fn below(data: &Path) -> PhraseCache {
        PhraseCache { folder: data.join("cache/phrases"), grown: AtomicU64::new(LOOK_AFTER) }
    }

    fn path(&self, domain: &str, name: &Name) -> PathBuf {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(safe_name(domain, "unknown")).join(hex)
    }

    /// One that is not older than `time`, nor than it may be.
    pub(super) fn find(&self, domain: &str, name: &Name, time: Duration) -> Option<Found> {
        let mut file = fs::File::open(self.path(domain, name)).ok()?;
        let (made, kept) = head_of(&mut file)?;
        let age = Duration::from_millis(wall_ms().saturating_sub(made));
        let left = kept.min(time).checked_sub(age).filter(|left| !left.is_zero())?;
        let mut audio = Vec::new();
        file.take(limits::PROMPT_FETCH_BYTES as u64).read_to_end(&mut audio).ok()?;
        // For the sweep. Where it is refused, the phrase goes a little earlier.
        let _ = fs::File::options().append(true).open(self.path(domain, name)).and_then(|file| file.set_modified(SystemTime::now()));
        Some(Found { audio, left })
    }

    /// Renamed into place: nobody finds half of one.
    pub(super) fn keep(&self, domain: &str, name: &Name, time: Duration, audio: &[u8]) -> io::Result<()> {
        let path = self.path(domain, name);
        let folder = path.parent().unwrap_or(&self.folder);
        private_folder(folder)?;
        let half = folder.join(format!(".{}", uuid::Uuid::new_v4()));
        let written = || {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
            file.write_all(format!("HSPC1 {:020} {:020}\n", wall_ms(), time.as_millis()).as_bytes())?;
            file.write_all(audio)?;
            fs::rename(&half, &path)
        };
        written().inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })?;
        if self.grown.fetch_add(audio.len() as u64, Ordering::Relaxed) >= LOOK_AFTER {
            self.sweep();
        }
        Ok(())
    }

    /// Removes what has been kept long enough, and, where there is too much, what was used longest ago: of each tenant, then of all.
    pub fn sweep(&self) {
        self.grown.store(0, Ordering::Relaxed);
        self.sweep_to(limits::PHRASE_CACHE_OF_TENANT, limits::PHRASE_CACHE);
    }

    fn sweep_to(&self, of_tenant: u64, of_all: u64) {
        let mut all = Vec::new();
        for tenant in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let mut theirs = Vec::new();
            for entry in fs::read_dir(tenant.path()).into_iter().flatten().flatten() {
                let Ok(about) = entry.metadata() else { continue };
                let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let head = fs::File::open(entry.path()).ok().and_then(|mut file| head_of(&mut file));
                let (made, kept) = head.unwrap_or_default();
                // What has no such line is half of one, or nobody's: it goes when it is surely not being written any more.
                let over = match head {
                    Some(_) => wall_ms().saturating_sub(made) >= u64::try_from(kept.as_millis()).unwrap_or(u64::MAX),
                    None => used.elapsed().is_ok_and(|age| age > limits::PHRASE_SWEEP),
                };
                if over { gone(&entry.path()) } else { theirs.push((used, about.len(), entry.path())) }
            }
            all.extend(down_to(theirs, of_tenant));
        }
        down_to(all, of_all);
    }
}

/// Removes those that were used longest ago until the others are not larger than this; gives the others.
fn down_to(mut files: Vec<(SystemTime, u64, PathBuf)>, most: u64) -> Vec<(SystemTime, u64, PathBuf)> {
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
    let mut first = 0;
    while bytes > most && first < files.len() {
        gone(&files[first].2);
        bytes -= files[first].1;
        first += 1;
    }
    files.split_off(first)
}

fn gone(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a phrase could not be removed from the cache");
    }
}

/// When it was made, and how long it may be kept.
fn head_of(file: &mut fs::File) -> Option<(u64, Duration)> {
    let mut head = [0; HEAD];
    file.read_exact(&mut head).ok()?;
    let mut words = std::str::from_utf8(&head).ok()?.strip_suffix('\n')?.split(' ');
    let ("HSPC1", made, kept) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?) else { return None };
    Some((made, Duration::from_millis(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn cache() -> (tempfile::TempDir, PhraseCache) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = PhraseCache::below(folder.path());
        (folder, cache)
    }

    fn count(cache: &PhraseCache, domain: &str) -> usize {
        fs::read_dir(cache.folder.join(domain)).map_or(0, Iterator::count)
    }

    #[test]
    fn ic_247_a_phrase_is_found_by_its_tenant_and_parameters_as_long_as_it_may_be_kept() {
        let (_folder, cache) = cache();
        let name = name_of(&["tts", "local", "hello"]);
        assert!(cache.find("a.example", &name, HOUR).is_none());
        cache.keep("a.example", &name, HOUR, b"audio").expect("kept");
        let found = cache.find("a.example", &name, HOUR * 24).expect("kept");
        assert_eq!(found.audio, b"audio");
        assert!(found.left <= HOUR && found.left > HOUR - Duration::from_secs(60), "{:?}", found.left);
        assert!(cache.find("b.example", &name, HOUR).is_none(), "another tenant's");
        assert!(cache.find("a.example", &name_of(&["tts", "local", "hell", "o"]), HOUR).is_none(), "other parameters");
        assert!(cache.find("a.example", &name, Duration::ZERO).is_none(), "younger ones were asked for");
        cache.keep("a.example", &name, HOUR, b"anew").expect("kept");
        assert_eq!(cache.find("a.example", &name, HOUR).expect("kept").audio, b"anew");
        cache.keep("a.example", &name, Duration::ZERO, b"over").expect("kept");
        assert!(cache.find("a.example", &name, HOUR).is_none());
        cache.sweep();
        assert_eq!(count(&cache, "a.example"), 0, "what is over goes");
        // A tenant's name leads nowhere else.
        cache.keep("../../x", &name, HOUR, b"x").expect("kept");
        assert!(cache.find("../../x", &name, HOUR).is_some() && cache.folder.join("_.._.._x").is_dir());
    }

    #[test]
    fn ic_247_what_was_used_longest_ago_goes_where_there_is_too_much() {
        let (_folder, cache) = cache();
        let names: Vec<Name> = (0..6).map(|n| name_of(&[&n.to_string()])).collect();
        for (n, name) in names.iter().enumerate() {
            let domain = if n < 4 { "a.example" } else { "b.example" };
            cache.keep(domain, name, HOUR, &[0; 1000]).expect("kept");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n as u64);
            fs::File::options().append(true).open(cache.path(domain, name)).and_then(|file| file.set_modified(at)).expect("ours");
        }
        // The first of all is used now.
        assert!(cache.find("a.example", &names[0], HOUR).is_some());
        fs::write(cache.folder.join("a.example/half"), b"HSPC1 of a crash").expect("ours");
        cache.sweep_to(3200, 1 << 20);
        let there = |domain, n: usize| cache.find(domain, &names[n], HOUR).is_some();
        assert_eq!([0, 1, 2, 3].map(|n| there("a.example", n)), [true, false, true, true]);
        assert_eq!([4, 5].map(|n| there("b.example", n)), [true, true], "another tenant's");
        let half =
            fs::File::options().append(true).open(cache.folder.join("a.example/half")).expect("not yet gone: it may be being written");
        half.set_modified(SystemTime::UNIX_EPOCH).expect("ours");
        cache.sweep_to(1 << 20, 2200);
        assert_eq!(count(&cache, "a.example") + count(&cache, "b.example"), 2);
    }
}
