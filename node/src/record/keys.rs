//! The node's own keys, in `DATA/keys`: one that signs what is said of recordings (Ed25519), one that wraps the keys they are encrypted
//! with (AES-256-GCM). Made at the first start, readable by us alone. Whoever loses the second loses every encrypted recording.

use super::private_folder;
use super::verify::hex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The folder below `[storage] data`.
pub const FOLDER: &str = "keys";
/// The signing key's public half in it, in hex: what others check our signatures with.
pub const PUBLIC: &str = "node.pub";
const SIGNING: &str = "node.ed25519";
const WRAPPING: &str = "recordings.aes";
/// Bytes of a key of a recording.
pub const KEY: usize = 32;

pub struct Keys {
    signing: Ed25519KeyPair,
    wrapping: LessSafeKey,
    wrapping_name: String,
    random: SystemRandom,
}

/// Secrets: only their names are shown.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("signing", &self.fingerprint()).field("wrapping", &self.wrapping_name).finish()
    }
}

/// The key of one recording. Shows nothing of itself, and leaves nothing in memory.
pub struct DataKey(pub(super) [u8; KEY]);

impl Drop for DataKey {
    fn drop(&mut self) {
        // The optimiser may not leave this out: the bytes would stay in freed memory.
        std::hint::black_box(&mut self.0).fill(0);
    }
}

impl DataKey {
    pub(super) fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("the length is that of AES-256"))
    }
}

fn no_random<E>(_: E) -> io::Error {
    io::Error::other("the kernel gave no random numbers")
}

impl Keys {
    /// The keys of this data folder, else new ones that are put there.
    pub fn load(data: &Path) -> io::Result<Keys> {
        let folder = data.join(FOLDER);
        private_folder(&folder)?;
        let random = SystemRandom::new();
        let signing =
            secret(&folder.join(SIGNING), || Ed25519KeyPair::generate_pkcs8(&random).map(|key| key.as_ref().to_vec()).map_err(no_random))?;
        let broken = |name: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: not a key", folder.join(name).display()));
        let signing = Ed25519KeyPair::from_pkcs8(&signing).map_err(|_| broken(SIGNING))?;
        let wrapping = secret(&folder.join(WRAPPING), || {
            let mut key = vec![0; KEY];
            random.fill(&mut key).map_err(no_random)?;
            Ok(key)
        })?;
        let wrapping_name = hex(&Sha256::digest(&wrapping)[..8]);
        let wrapping = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &wrapping).map_err(|_| broken(WRAPPING))?);
        let public = folder.join(PUBLIC);
        let text = format!("{}\n", hex(signing.public_key().as_ref()));
        if std::fs::read_to_string(&public).is_ok_and(|there| there == text) {
            return Ok(Keys { signing, wrapping, wrapping_name, random });
        }
        std::fs::write(&public, text)?;
        Ok(Keys { signing, wrapping, wrapping_name, random })
    }

    /// Ed25519 (RFC 8032).
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.signing.sign(text).as_ref().to_vec()
    }

    pub fn public(&self) -> &[u8] {
        self.signing.public_key().as_ref()
    }

    /// Of the signing key: what a sidecar names.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.public())
    }

    /// Of the wrapping key: what a sidecar names.
    pub fn wrapping_name(&self) -> &str {
        &self.wrapping_name
    }

    pub(super) fn random<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(no_random)?;
        Ok(bytes)
    }

    /// A new key, and how it may lie on disk.
    pub fn data_key(&self, recording: &str) -> io::Result<(DataKey, Vec<u8>)> {
        let key = DataKey(self.random()?);
        let wrapped = self.wrap(recording, &key.0)?;
        Ok((key, wrapped))
    }

    pub fn unwrap_key(&self, recording: &str, wrapped: &[u8]) -> io::Result<DataKey> {
        let mut plain = self.unwrap(recording, wrapped)?;
        let key = <[u8; KEY]>::try_from(plain.as_slice()).map(DataKey);
        std::hint::black_box(&mut plain).fill(0);
        key.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a wrapped key of another length"))
    }

    /// A secret, readable with this node's key and for this recording alone.
    pub(super) fn wrap(&self, recording: &str, secret: &[u8]) -> io::Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = self.random()?;
        let mut sealed = nonce.to_vec();
        let mut body = secret.to_vec();
        self.wrapping
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(recording.as_bytes()), &mut body)
            .map_err(|_| io::Error::other("a key could not be wrapped"))?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    pub(super) fn unwrap(&self, recording: &str, wrapped: &[u8]) -> io::Result<Vec<u8>> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "this node has no key to the recording");
        let (nonce, body) = wrapped.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut body = body.to_vec();
        let plain = self.wrapping.open_in_place(nonce, Aad::from(recording.as_bytes()), &mut body).map_err(|_| wrong())?.len();
        body.truncate(plain);
        Ok(body)
    }
}

/// Names a public key.
pub fn fingerprint(public: &[u8]) -> String {
    hex(&Sha256::digest(public)[..8])
}

/// Whether `signature` is this key's over `text`.
pub fn is_signed(public: &[u8], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(text, signature).is_ok()
}

/// The file's bytes; made, and synced with its folder, where there is none.
fn secret(path: &Path, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others could read a key of recordings; closed");
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            }
            return Ok(bytes);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let bytes = make()?;
    // Whole or not there: half a key would lock out everything that comes later.
    let half = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::load(folder.path()).unwrap();
        let again = Keys::load(folder.path()).unwrap();
        assert_eq!((first.fingerprint(), first.wrapping_name()), (again.fingerprint(), again.wrapping_name()));
        for name in [SIGNING, WRAPPING] {
            let mode = std::fs::metadata(folder.path().join(FOLDER).join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let public = std::fs::read_to_string(folder.path().join("keys/node.pub")).unwrap();
        assert_eq!(public.trim(), hex(first.public()));
        assert!(is_signed(first.public(), b"text", &again.sign(b"text")));
        assert!(!is_signed(first.public(), b"test", &again.sign(b"text")));
        std::fs::write(folder.path().join("keys").join(SIGNING), "garbage").unwrap();
        assert!(Keys::load(folder.path()).unwrap_err().to_string().contains("not a key"));
    }

    #[test]
    fn a_wrapped_key_opens_for_its_recording_and_node_alone() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, theirs) = (Keys::load(a.path()).unwrap(), Keys::load(b.path()).unwrap());
        let (key, wrapped) = ours.data_key("one").unwrap();
        assert_eq!(ours.unwrap_key("one", &wrapped).unwrap().0, key.0);
        assert!(ours.unwrap_key("two", &wrapped).is_err());
        assert!(theirs.unwrap_key("one", &wrapped).is_err());
        for at in 0..wrapped.len() {
            let mut other = wrapped.clone();
            other[at] ^= 1;
            assert!(ours.unwrap_key("one", &other).is_err(), "{at}");
        }
        assert!(ours.unwrap_key("one", &wrapped[..11]).is_err());
        assert!(!format!("{ours:?}").contains("signing: Ed"));
    }
}
