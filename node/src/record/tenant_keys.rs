//! Keys of tenants: where a tenant has one, it wraps the keys of the tenant's recordings in the node's place. Whoever erases it has erased
//! all recordings that were made with it, wherever copies of their files lie.
//!
//! ```text
//! DATA/keys/tenants/a.example/9f2c51d20a7be1c4.key      sealed with the node's own; overwritten before it is removed
//! DATA/keys/tenants/a.example/9f2c51d20a7be1c4.erased   empty: it was there until then
//! DATA/keys/tenants/a.example/current                   the name of the one that new recordings get
//! ```
//!
//! They are files and no rows: what was deleted of a database may stay in it for long. A key's name is made of the key and its tenant, so
//! that one key given to two of them is two.

use super::keys::{KEY, whole};
use super::verify::hex;
use super::{private_folder, safe_name};
use crate::limits;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const FOLDER: &str = "tenants";
const KEPT: &str = "key";
const ERASED: &str = "erased";
const CURRENT: &str = "current";
/// Bytes of a key's name; in texts they are hex.
pub(super) const NAME: usize = 8;

/// The recording was made with a key of its tenant that is no more.
#[derive(Debug, thiserror::Error)]
#[error("its tenant erased the key that it was encrypted with")]
pub struct KeyErased;

/// Whether this is why a recording cannot be read: for good, then.
pub fn is_erased(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<KeyErased>())
}

/// What is known of a tenant's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantKey {
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: Option<u64>,
    pub erased_at: Option<u64>,
    /// New recordings get it.
    pub current: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("this key was erased: recordings that were made with it would come back")]
    Erased,
    #[error("a tenant has {} keys at most, erased ones included", limits::TENANT_KEYS)]
    TooMany,
    #[error("no such key")]
    Unknown,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A tenant's key. Without a cipher it was erased.
struct Held {
    domain: String,
    cipher: Option<LessSafeKey>,
    at: Option<u64>,
}

/// Seals, or opens, what belongs to somebody by name.
type Sealing<'a> = &'a dyn Fn(&str, &[u8]) -> io::Result<Vec<u8>>;

/// All that are known, by name.
#[derive(Default)]
pub(super) struct TenantKeys {
    folder: PathBuf,
    held: BTreeMap<[u8; NAME], Held>,
    current: BTreeMap<String, [u8; NAME]>,
}

fn name_of(domain: &str, key: &[u8]) -> [u8; NAME] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update([0]);
    hash.update(key);
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

fn parse(name: &str) -> Option<[u8; NAME]> {
    super::sidecar::unhex(name)?.try_into().ok()
}

fn changed_at(path: &Path) -> Option<u64> {
    let at: SystemTime = fs::metadata(path).and_then(|about| about.modified()).ok()?;
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn aad(domain: &str) -> String {
    format!("tenant key of {domain}")
}

fn cipher(key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

impl TenantKeys {
    /// `keys`: the folder of the node's own; `open`: unseals what `put` was given to seal.
    pub fn load(keys: &Path, open: Sealing<'_>) -> io::Result<TenantKeys> {
        let mut all = TenantKeys { folder: keys.join(FOLDER), ..TenantKeys::default() };
        let tenants = match fs::read_dir(&all.folder) {
            Ok(tenants) => tenants,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
            Err(error) => return Err(error),
        };
        for tenant in tenants {
            let tenant = tenant?.path();
            let Some(domain) = tenant.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            for file in fs::read_dir(&tenant)? {
                let path = file?.path();
                let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).and_then(parse) else { continue };
                let at = changed_at(&path);
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some(ERASED) => {
                        // The node died between the two.
                        remove(&path.with_extension(KEPT))?;
                        all.held.insert(name, Held { domain: domain.clone(), cipher: None, at });
                    }
                    Some(KEPT) if !path.with_extension(ERASED).exists() => {
                        let mut key = open(&aad(&domain), &fs::read(&path)?)
                            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                        let cipher = cipher(&key);
                        std::hint::black_box(&mut key).fill(0);
                        all.held.insert(name, Held { domain: domain.clone(), cipher, at });
                    }
                    _ => {}
                }
            }
            let current = fs::read_to_string(tenant.join(CURRENT)).ok().and_then(|name| parse(name.trim()));
            if let Some(name) = current.filter(|name| all.cipher(name).is_ok()) {
                all.current.insert(domain, name);
            }
        }
        Ok(all)
    }

    /// The key that a new recording of this tenant gets.
    pub fn current(&self, domain: &str) -> Option<(&[u8; NAME], &LessSafeKey)> {
        let name = self.current.get(domain)?;
        Some((name, self.cipher(name).ok()?))
    }

    pub fn cipher(&self, name: &[u8; NAME]) -> io::Result<&LessSafeKey> {
        match self.held.get(name) {
            Some(Held { cipher: Some(cipher), .. }) => Ok(cipher),
            Some(_) => Err(io::Error::other(KeyErased)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "this node has not the tenant's key to the recording")),
        }
    }

    /// Whose key it is, or was.
    pub fn owner(&self, name: &[u8; NAME]) -> Option<&str> {
        self.held.get(name).map(|held| held.domain.as_str())
    }

    pub fn list(&self, domain: &str) -> Vec<TenantKey> {
        let mut list: Vec<TenantKey> =
            self.held.iter().filter(|(_, held)| held.domain == domain).map(|(name, held)| self.told(name, held)).collect();
        // The newest first; an erased one by when it went.
        list.sort_by_key(|key| std::cmp::Reverse(key.created_at.or(key.erased_at)));
        list
    }

    fn told(&self, name: &[u8; NAME], held: &Held) -> TenantKey {
        let erased = held.cipher.is_none();
        TenantKey {
            name: hex(name),
            created_at: held.at.filter(|_| !erased),
            erased_at: held.at.filter(|_| erased),
            current: self.current.get(&held.domain) == Some(name),
        }
    }

    /// The tenant's new recordings get this key from now on; `seal` is how it may lie on disk. One that is there already is not kept again.
    pub fn put(&mut self, domain: &str, key: &[u8; KEY], seal: Sealing<'_>) -> Result<(TenantKey, bool), KeyError> {
        let name = name_of(domain, key);
        let folder = self.folder.join(safe_name(domain, "unnamed"));
        let known = match self.held.get(&name) {
            Some(Held { cipher: None, .. }) => return Err(KeyError::Erased),
            known => known.is_some(),
        };
        if !known {
            if self.held.values().filter(|held| held.domain == domain).count() >= limits::TENANT_KEYS {
                return Err(KeyError::TooMany);
            }
            private_folder(&folder)?;
            let path = folder.join(hex(&name)).with_extension(KEPT);
            whole(&path, &seal(&aad(domain), key)?)?;
            self.held.insert(name, Held { domain: domain.to_owned(), cipher: cipher(key), at: changed_at(&path) });
        }
        whole(&folder.join(CURRENT), hex(&name).as_bytes())?;
        self.current.insert(domain.to_owned(), name);
        let held = self.held.get(&name).ok_or(KeyError::Unknown)?;
        Ok((self.told(&name, held), !known))
    }

    /// For good. The tenant's new recordings are as if it never had one, until it gets another.
    pub fn erase(&mut self, domain: &str, name: &str) -> Result<TenantKey, KeyError> {
        let name = parse(name).ok_or(KeyError::Unknown)?;
        let held = self.held.get_mut(&name).filter(|held| held.domain == domain).ok_or(KeyError::Unknown)?;
        let folder = self.folder.join(safe_name(domain, "unnamed"));
        let mark = folder.join(hex(&name)).with_extension(ERASED);
        if held.cipher.is_some() {
            // Said first: whatever comes between, the next start carries it out.
            whole(&mark, b"")?;
            held.cipher = None;
            remove(&mark.with_extension(KEPT))?;
            held.at = changed_at(&mark);
        }
        if self.current.get(domain) == Some(&name) {
            self.current.remove(domain);
            remove(&folder.join(CURRENT))?;
        }
        let held = self.held.get(&name).ok_or(KeyError::Unknown)?;
        Ok(self.told(&name, held))
    }
}

/// Overwrites what is in it before it goes, so that a file system that keeps blocks in place keeps no key.
fn remove(path: &Path) -> io::Result<()> {
    let length = match fs::metadata(path) {
        Ok(about) => usize::try_from(about.len()).unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
