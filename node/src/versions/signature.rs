//! Signatures of components: Ed25519 (RFC 8032) over a line of text with the component's SHA-256, made by whoever builds handlers, checked
//! before a version is taken in or given to calls. `openssl` makes the same keys and signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// Of an Ed25519 public key as SubjectPublicKeyInfo (RFC 8410 4), before its 32 bytes.
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Of a private key as PKCS#8 version 1 (RFC 8410 7), before its 32 bytes.
const PRIVATE: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What is signed of a component. Its first words keep a key from signing something else by it.
fn message(sha256: &str) -> String {
    format!("hookswitch component sha256:{sha256}")
}

/// A public key that components are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// PEM (`PUBLIC KEY`), or its base64 without the lines around it.
    pub fn read(text: &str) -> Result<SigningKey, &'static str> {
        const WRONG: &str = "must be an Ed25519 public key as PEM (`PUBLIC KEY`), or the base64 of it";
        if text.contains("PRIVATE") {
            return Err("must be a public key; this is a private one, which nobody else should have");
        }
        let der = unarmour(text).ok_or(WRONG)?;
        let key = der.strip_prefix(&PUBLIC).and_then(|key| key.try_into().ok()).ok_or(WRONG)?;
        Ok(SigningKey(key))
    }

    /// As it is kept and shown.
    pub fn to_text(&self) -> String {
        STANDARD.encode([PUBLIC.as_slice(), self.0.as_slice()].concat())
    }

    pub fn to_pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", self.to_text())
    }

    /// What people call it: the first half of its SHA-256's first half, in hex.
    pub fn id(&self) -> String {
        Sha256::digest(self.0).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A private key.
pub struct SecretKey(Ed25519KeyPair);

impl SecretKey {
    /// PEM (`PRIVATE KEY`), as `openssl genpkey -algorithm ed25519` writes it. Errors do not quote it.
    pub fn read(text: &str) -> Result<SecretKey, &'static str> {
        const WRONG: &str = "must be an Ed25519 private key as PEM (`PRIVATE KEY`), as of `hookswitch guest key`";
        let der = unarmour(text).ok_or(WRONG)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(SecretKey).map_err(|_| WRONG)
    }

    /// A new one, as PEM.
    pub fn generate() -> Result<String, &'static str> {
        let mut seed = [0u8; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed).map_err(|_| "the kernel gives no random numbers")?;
        let text = STANDARD.encode([PRIVATE.as_slice(), seed.as_slice()].concat());
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
    }

    pub fn public(&self) -> SigningKey {
        SigningKey(self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"))
    }

    /// The signature of a component by its hex SHA-256: `KEY-ID:BASE64`.
    pub fn sign(&self, sha256: &str) -> String {
        format!("{}:{}", self.public().id(), STANDARD.encode(self.0.sign(message(sha256).as_bytes())))
    }
}

/// Whether one of `keys` has made this signature of a component by its hex SHA-256. The key that it names is only a hint: a signature of
/// openssl has no name before it.
pub fn verify(keys: &[SigningKey], sha256: &str, signature: &str) -> Result<String, String> {
    let (named, base64) = signature.trim().rsplit_once(':').unwrap_or(("", signature.trim()));
    let bytes = STANDARD.decode(base64).ok().filter(|bytes| bytes.len() == 64);
    let bytes = bytes.ok_or("must be 64 bytes in base64, perhaps with the key's id and a colon before them")?;
    let text = message(sha256);
    let made_by = |key: &&SigningKey| UnparsedPublicKey::new(&ED25519, key.0).verify(text.as_bytes(), &bytes).is_ok();
    match keys.iter().find(made_by) {
        Some(key) => Ok(format!("{}:{base64}", key.id())),
        None if keys.iter().any(|key| key.id() == named) => Err(format!("key {named} has not signed this component (sha256 {sha256})")),
        None => Err(format!("made by no key of this tenant; {}", known(keys))),
    }
}

/// Which keys there are, for whoever was refused.
pub fn known(keys: &[SigningKey]) -> String {
    match keys {
        [] => "it has no signing keys".into(),
        keys => format!("known keys: {}", keys.iter().map(SigningKey::id).collect::<Vec<_>>().join(", ")),
    }
}

/// The bytes between a PEM's first and last line, or of bare base64.
fn unarmour(text: &str) -> Option<Vec<u8>> {
    let inner: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(inner).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`, and
    // `printf 'hookswitch component sha256:HASH' > m; openssl pkeyutl -sign -rawin -inkey KEY -in m | base64 -w0`.
    const SECRET: &str =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFWSTHi7daDiUitKGiMeaPVGkW3YuXdufg0FF/vlNY/y\n-----END PRIVATE KEY-----\n";
    const PUBLIC_PEM: &str =
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAHkVX97n2PZqHaBSbuFGbspJn39mBFWQYMfGMXegnlrQ=\n-----END PUBLIC KEY-----\n";
    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const BY_OPENSSL: &str = "5KQmG7pwpD7HwhMXsrfeNJ2WK3oLDyd514bLwQokZy7/sqWK0zpxsEzvi57Sd/sCflXfpNxS3Sw16HqFiLcZBA==";

    #[test]
    fn keys_and_signatures_are_those_of_openssl() {
        let secret = SecretKey::read(SECRET).expect("a private key");
        let public = SigningKey::read(PUBLIC_PEM).expect("a public key");
        assert_eq!(secret.public(), public);
        assert_eq!((SigningKey::read(&public.to_text()), public.to_pem().as_str()), (Ok(public.clone()), PUBLIC_PEM));
        assert_eq!(secret.sign(HASH), format!("{}:{BY_OPENSSL}", public.id()));
        let keys = [public.clone()];
        assert_eq!(verify(&keys, HASH, BY_OPENSSL), Ok(secret.sign(HASH)));
        assert_eq!(verify(&keys, HASH, &format!(" {}\n", secret.sign(HASH))), Ok(secret.sign(HASH)));
    }

    #[test]
    fn a_refusal_says_which_keys_are_known() {
        let key = || SecretKey::read(&SecretKey::generate().expect("random numbers")).expect("a key");
        let (old, new, other) = (key(), key(), key());
        let (old_id, new_id) = (old.public().id(), new.public().id());
        // During a rotation both count.
        let keys = [old.public(), new.public()];
        assert!(verify(&keys, HASH, &old.sign(HASH)).is_ok() && verify(&keys, HASH, &new.sign(HASH)).is_ok());
        for (keys, signature, why) in [
            (&keys[..], other.sign(HASH), format!("made by no key of this tenant; known keys: {old_id}, {new_id}")),
            (&keys[1..], old.sign(HASH), format!("made by no key of this tenant; known keys: {new_id}")),
            (&keys[..], old.sign("other"), format!("key {old_id} has not signed this component (sha256 {HASH})")),
            (&[], old.sign(HASH), "made by no key of this tenant; it has no signing keys".into()),
            (&keys[..], "AAAA".into(), "must be 64 bytes in base64, perhaps with the key's id and a colon before them".into()),
            (&keys[..], String::new(), "must be 64 bytes in base64, perhaps with the key's id and a colon before them".into()),
        ] {
            assert_eq!(verify(keys, HASH, &signature), Err(why));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for text in ["", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", "ssh-ed25519 AAAA", "MCowBQYDK2VwAyEA"] {
            assert!(SigningKey::read(text).is_err(), "{text}");
            assert!(SecretKey::read(text).is_err(), "{text}");
        }
        assert!(SigningKey::read(SECRET).expect_err("private").contains("private"));
        assert!(SecretKey::read(PUBLIC_PEM).is_err());
    }
}
