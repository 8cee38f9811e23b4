//! The node's own keys, in `DATA/keys`: one that signs what is said of recordings (Ed25519), one that wraps the keys they are encrypted
//! with (AES-256-GCM). Made at the first start, readable by us alone. Whoever loses the second loses every encrypted recording. A tenant
//! may have keys of its own in its place: `tenant_keys.rs`.

use super::private_folder;
use super::tenant_keys::{KeyError, NAME, TenantKey, TenantKeys};
use super::verify::hex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The folder below `[storage] data`.
pub const FOLDER: &str = "keys";
/// The signing key's public half in it, in hex: what others check our signatures with.
pub const PUBLIC: &str = "node.pub";
const SIGNING: &str = "node.ed25519";
const WRAPPING: &str = "recordings.aes";
/// Bytes of a key of a recording.
pub const KEY: usize = 32;
/// What a wrapped key begins with that a tenant's key wrapped, before that key's name. The node's begin with a random nonce.
const OF_TENANT: &[u8; 8] = b"HKSWTEN1";

pub struct Keys {
    signing: Ed25519KeyPair,
    wrapping: LessSafeKey,
    wrapping_name: String,
    random: SystemRandom,
    /// They come and go while the node runs.
    tenants: RwLock<TenantKeys>,
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
        let tenants = RwLock::new(TenantKeys::load(&folder, &|of, sealed| open(&wrapping, of, sealed))?);
        let public = folder.join(PUBLIC);
        let text = format!("{}\n", hex(signing.public_key().as_ref()));
        if !std::fs::read_to_string(&public).is_ok_and(|there| there == text) {
            std::fs::write(&public, text)?;
        }
        Ok(Keys { signing, wrapping, wrapping_name, random, tenants })
    }

    fn tenants(&self) -> RwLockReadGuard<'_, TenantKeys> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenants_mut(&self) -> RwLockWriteGuard<'_, TenantKeys> {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant's keys, the newest first.
    pub fn of_tenant(&self, domain: &str) -> Vec<TenantKey> {
        self.tenants().list(domain)
    }

    /// Whether this tenant's new recordings are wrapped with a key of its own, so that all of them are encrypted.
    pub fn has_current(&self, domain: &str) -> bool {
        self.tenants().current(domain).is_some()
    }

    /// The tenant's new recordings get this key, or a new one of the node's making, from now on. Gives whether it was not there before.
    pub fn put_of_tenant(&self, domain: &str, given: Option<&[u8; KEY]>) -> Result<(TenantKey, bool), KeyError> {
        let made = DataKey(self.random()?);
        let key = given.unwrap_or(&made.0);
        self.tenants_mut().put(domain, key, &|of, plain| seal(&self.wrapping, self.random()?, of, plain))
    }

    /// Its recordings cannot be read from now on, by anybody.
    pub fn erase_of_tenant(&self, domain: &str, name: &str) -> Result<TenantKey, KeyError> {
        self.tenants_mut().erase(domain, name)
    }

    /// The tenant whose key wrapped this, erased ones included.
    pub(super) fn owner_of(&self, wrapped: &[u8]) -> Option<String> {
        let (name, _) = tenants_part(wrapped)?;
        self.tenants().owner(name).map(str::to_owned)
    }

    /// What a sidecar says of who wrapped this.
    pub fn name_of(&self, wrapped: &[u8]) -> String {
        match tenants_part(wrapped) {
            Some((name, _)) => format!("tenant:{}", hex(name)),
            None => self.wrapping_name.clone(),
        }
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

    /// A new key for a recording of this tenant, and how it may lie on disk.
    pub fn data_key(&self, domain: &str, recording: &str) -> io::Result<(DataKey, Vec<u8>)> {
        let key = DataKey(self.random()?);
        let wrapped = self.wrap(domain, recording, &key.0)?;
        Ok((key, wrapped))
    }

    pub fn unwrap_key(&self, recording: &str, wrapped: &[u8]) -> io::Result<DataKey> {
        let mut plain = self.unwrap(recording, wrapped)?;
        let key = <[u8; KEY]>::try_from(plain.as_slice()).map(DataKey);
        std::hint::black_box(&mut plain).fill(0);
        key.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a wrapped key of another length"))
    }

    /// A secret, readable with the tenant's key, or this node's where it has none, and for this recording alone.
    pub(super) fn wrap(&self, domain: &str, recording: &str, secret: &[u8]) -> io::Result<Vec<u8>> {
        let nonce = self.random()?;
        match self.tenants().current(domain) {
            None => seal(&self.wrapping, nonce, recording, secret),
            Some((name, cipher)) => Ok([OF_TENANT.as_slice(), name, &seal(cipher, nonce, recording, secret)?].concat()),
        }
    }

    pub(super) fn unwrap(&self, recording: &str, wrapped: &[u8]) -> io::Result<Vec<u8>> {
        match tenants_part(wrapped) {
            Some((name, sealed)) => open(self.tenants().cipher(name)?, recording, sealed),
            None => open(&self.wrapping, recording, wrapped),
        }
    }
}

/// What a wrapped key begins with that this key of a tenant wrapped.
pub fn wrapped_by(name: &str) -> Option<Vec<u8>> {
    let name = super::sidecar::unhex(name).filter(|name| name.len() == NAME)?;
    Some([OF_TENANT.as_slice(), &name].concat())
}

/// The name of the tenant's key that wrapped this, and what it wrapped. `None`: the node did.
fn tenants_part(wrapped: &[u8]) -> Option<(&[u8; NAME], &[u8])> {
    wrapped.strip_prefix(OF_TENANT)?.split_first_chunk()
}

/// Nonce, then body and tag. A random nonce: a key seals some thousand or million times in its life, 2^32 would be too often.
fn seal(cipher: &LessSafeKey, nonce: [u8; NONCE_LEN], of: &str, secret: &[u8]) -> io::Result<Vec<u8>> {
    let mut sealed = nonce.to_vec();
    let mut body = secret.to_vec();
    cipher
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of.as_bytes()), &mut body)
        .map_err(|_| io::Error::other("a key could not be wrapped"))?;
    sealed.append(&mut body);
    Ok(sealed)
}

fn open(cipher: &LessSafeKey, of: &str, sealed: &[u8]) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "this node has no key to the recording");
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
    let mut body = body.to_vec();
    let plain = cipher.open_in_place(nonce, Aad::from(of.as_bytes()), &mut body).map_err(|_| wrong())?.len();
    body.truncate(plain);
    Ok(body)
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
    whole(path, &bytes)?;
    Ok(bytes)
}

/// Whole or not there, and on disk: half a key would lock out everything that comes later.
pub(super) fn whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
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
        let (key, wrapped) = ours.data_key("a.example", "one").unwrap();
        assert_eq!(ours.name_of(&wrapped), ours.wrapping_name());
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

    #[test]
    fn ur_027_a_tenants_key_wraps_its_recordings_alone_until_it_is_erased() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        let (_, before) = keys.data_key("a.example", "zero").unwrap();
        let (first, new) = keys.put_of_tenant("a.example", Some(&[7; KEY])).unwrap();
        assert!(new && first.current && first.created_at.is_some());
        assert_eq!(keys.put_of_tenant("a.example", Some(&[7; KEY])).unwrap(), (first.clone(), false), "the same again");
        let (one, wrapped) = keys.data_key("a.example", "one").unwrap();
        assert_eq!(keys.name_of(&wrapped), format!("tenant:{}", first.name));
        assert!(wrapped.starts_with(&wrapped_by(&first.name).unwrap()));
        assert!(keys.has_current("a.example") && !keys.has_current("b.example"));
        assert_eq!(keys.name_of(&keys.data_key("b.example", "x").unwrap().1), keys.wrapping_name());
        // The same key of another tenant is another one.
        let (others, _) = keys.put_of_tenant("b.example", Some(&[7; KEY])).unwrap();
        assert_ne!(others.name, first.name);
        // After a change, and after a restart, both are there.
        let (second, _) = keys.put_of_tenant("a.example", None).unwrap();
        let (_, later) = keys.data_key("a.example", "two").unwrap();
        assert_eq!(keys.name_of(&later), format!("tenant:{}", second.name));
        let keys = Keys::load(folder.path()).unwrap();
        assert_eq!(keys.unwrap_key("one", &wrapped).unwrap().0, one.0);
        assert!(keys.unwrap_key("two", &wrapped).is_err(), "another recording's");
        assert_eq!(keys.of_tenant("a.example").iter().filter(|key| key.current).map(|key| &key.name).collect::<Vec<_>>(), [&second.name]);
        // No key lies in the clear.
        let path = folder.path().join("keys/tenants/a.example").join(format!("{}.key", first.name));
        let text = std::fs::read(&path).unwrap();
        assert!(!text.windows(8).any(|part| part == [7; 8]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        assert!(matches!(keys.erase_of_tenant("b.example", &first.name), Err(KeyError::Unknown)), "another tenant's");
        assert!(matches!(keys.erase_of_tenant("a.example", "nonsense"), Err(KeyError::Unknown)));
        assert!(keys.erase_of_tenant("a.example", &first.name).unwrap().erased_at.is_some());
        assert!(!path.exists());
        for keys in [keys, Keys::load(folder.path()).unwrap()] {
            assert!(super::super::tenant_keys::is_erased(&keys.unwrap_key("one", &wrapped).map(drop).unwrap_err()));
            assert!(keys.unwrap_key("two", &later).is_ok() && keys.unwrap_key("zero", &before).is_ok());
            assert!(matches!(keys.put_of_tenant("a.example", Some(&[7; KEY])), Err(KeyError::Erased)), "it does not come back");
            assert!(keys.has_current("a.example"));
        }
    }

    #[test]
    fn an_erasure_that_a_crash_cut_short_is_carried_out_and_there_is_an_end_to_keys() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        let (key, _) = keys.put_of_tenant("a.example", None).unwrap();
        let (_, wrapped) = keys.data_key("a.example", "one").unwrap();
        let path = folder.path().join("keys/tenants/a.example").join(&key.name);
        std::fs::write(path.with_extension("erased"), b"").unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        assert!(super::super::tenant_keys::is_erased(&keys.unwrap_key("one", &wrapped).map(drop).unwrap_err()));
        assert!(!path.with_extension("key").exists() && !keys.has_current("a.example"));
        assert!((0..crate::limits::TENANT_KEYS).any(|_| matches!(keys.put_of_tenant("a.example", None), Err(KeyError::TooMany))));
    }
}
