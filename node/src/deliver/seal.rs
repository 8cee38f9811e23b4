//! Secrets at rest: AES-256-GCM under a key of the node's own, which lies in a file of its own (`DATA/keys/NAME`, mode 0600), so that a copy
//! of the database alone opens nothing. What a text belongs to is authenticated with it: moved to another tenant it cannot be opened.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The folder of keys below the data folder.
pub const KEYS: &str = "keys";
/// The key that tenants' credentials are sealed with.
const STORAGE_KEY: &str = "storage";
/// Bytes of a key.
pub(crate) const KEY: usize = 32;

/// The key of this name, else a new one that is put there.
pub(crate) fn load_key(data: &Path, name: &str) -> io::Result<[u8; KEY]> {
    let folder = data.join(KEYS);
    crate::record::private_folder(&folder)?;
    let path = folder.join(name);
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{}: not a key of {KEY} bytes", path.display()));
    match fs::read(&path) {
        Ok(bytes) => {
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others could read a key of the node; closed");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            }
            bytes.try_into().map_err(|_| invalid())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; KEY];
            random(&mut key)?;
            // Whole or not at all: half a key would lock out what is sealed later.
            let half = folder.join(format!(".{name}.new"));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&half, &path)?;
            fs::File::open(&folder)?.sync_all()?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| io::Error::other("the kernel gives no random numbers"))
}

/// Shows nothing of its key.
pub struct Seal(LessSafeKey);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub fn load(data: &Path) -> io::Result<Seal> {
        Seal::named(data, STORAGE_KEY)
    }

    /// With another key than that of tenants' credentials.
    pub fn named(data: &Path, name: &str) -> io::Result<Seal> {
        let key = load_key(data, name)?;
        Ok(Seal(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("a key of its length"))))
    }

    /// Nonce, then text and tag. A random nonce: a key seals some thousand times in its life, 2^32 would be too often.
    pub fn seal(&self, of: &str, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut text = plain.to_vec();
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of), &mut text);
        sealed.map_err(|_| io::Error::other("too long to be sealed"))?;
        Ok([nonce.as_slice(), &text].concat())
    }

    /// `None`: sealed with another key, for another owner, or changed since.
    pub fn open(&self, of: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let mut text = text.to_vec();
        let plain = self.0.open_in_place(Nonce::try_assume_unique_for_key(nonce).ok()?, Aad::from(of), &mut text).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_owner_and_with_its_key_alone() {
        let (first, second) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let seal = Seal::load(first.path()).expect("made");
        let sealed = seal.seal("a.example", b"secret").expect("sealed");
        assert_ne!(sealed, seal.seal("a.example", b"secret").expect("sealed"), "the nonce is another one");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(Seal::load(first.path()).expect("read").open("a.example", &sealed).as_deref(), Some(b"secret".as_slice()));
        assert_eq!(seal.open("b.example", &sealed), None);
        assert_eq!(Seal::load(second.path()).expect("made").open("a.example", &sealed), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(seal.open("a.example", &changed), None, "byte {place}");
            assert_eq!(seal.open("a.example", &sealed[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = load_key(folder.path(), "k").expect("made");
        let path = folder.path().join(KEYS).join("k");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mine");
        assert_eq!(load_key(folder.path(), "k").expect("read"), key);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").expect("written");
        assert!(load_key(folder.path(), "k").is_err_and(|error| error.to_string().contains("not a key")));
    }
}
