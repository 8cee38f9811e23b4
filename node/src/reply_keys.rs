//! replyIds (IC-009 to IC-011): what a handler is given with a hook, and shows with a command. A replyId says of which domain, node and
//! session it is, and of which IVR command; it holds no address and no path. Anybody may read it, only the node can make one.
//!
//! ```text
//! {"alg":"HS256","typ":"JWT","kid":K} . {"domain":D,"node":N,"session":S,"kind":"ivrCommand","n":3,"iat":…,"exp":…} . HMAC-SHA-256
//! ```
//!
//! The keys lie in `DATA/reply-keys` (mode 0600), newest first, so that replyIds survive a restart. A rotation makes a new one; those before
//! stay until no token of theirs can be valid.
//!
//! Start with [`ReplyKeys::mint`] and [`ReplyKeys::verify`].

use crate::jwt;
use crate::limits::REPLY_KEYS;
use crate::store::wall_ms;
use hookswitch_call::ReplyTo;
use hookswitch_call::limits::SESSION_DURATION;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// The keys' file in the data folder.
pub const REPLY_KEYS_FILE: &str = "reply-keys";
/// A replyId lives as long as its session may, and an hour: what is late is then told that the session is over, not that it has no right.
pub const REPLY_ID_LIFE: Duration = Duration::from_secs(SESSION_DURATION.as_secs() + 3600);
/// Bytes of a key: as many as the hash gives (RFC 7518 3.2).
const SECRET: usize = 32;

/// What a valid replyId says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyId {
    pub domain: String,
    pub session_id: String,
    pub reply_to: ReplyTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReplyId {
    /// Made by nobody, changed, or too old.
    #[error("is not valid")]
    Invalid,
    /// A genuine one, of another node that has this node's keys.
    #[error("is of another node")]
    OtherNode,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("{REPLY_KEYS} keys still have valid tokens; the oldest is given up {0} s from now")]
    TooMany(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The file. Times are milliseconds since the Unix epoch.
#[derive(Serialize, Deserialize)]
struct Stored {
    node: String,
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    kid: String,
    created: u64,
    secret: String,
}

struct Key {
    stored: StoredKey,
    /// Encoded, with its dot.
    header: String,
    hmac: hmac::Key,
}

/// The node's keys. Clones of the `Arc` are shared by guests, who mint, and by the API, which verifies.
pub struct ReplyKeys {
    node: String,
    /// `None`: kept in memory only.
    file: Option<PathBuf>,
    /// Newest first, never empty.
    keys: RwLock<Arc<Vec<Key>>>,
    /// One rotation at a time.
    rotating: Mutex<()>,
}

/// Keys are secrets: only their names are shown.
impl std::fmt::Debug for ReplyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyKeys").field("kids", &self.current().iter().map(|key| key.stored.kid.clone()).collect::<Vec<_>>()).finish()
    }
}

impl ReplyKeys {
    /// The keys in the data folder, else new ones that are put there.
    pub fn load(data: &Path) -> io::Result<ReplyKeys> {
        let path = data.join(REPLY_KEYS_FILE);
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
        let stored = match fs::read_to_string(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others could read the keys of replyIds; closed");
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                }
                // What serde says of a broken file could quote a key.
                serde_json::from_str(&text).map_err(|_| invalid("not the keys of replyIds; without this file new ones are made"))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let stored = Stored { node: uuid::Uuid::new_v4().to_string(), keys: vec![new_key(wall_ms())?] };
                save(&path, &stored)?;
                stored
            }
            Err(error) => return Err(error),
        };
        let keys =
            stored.keys.into_iter().map(|key| Key::new(key).ok_or_else(|| invalid("a key is not 32 bytes"))).collect::<Result<_, _>>()?;
        ReplyKeys::new(stored.node, Some(path.clone()), keys).ok_or_else(|| invalid("no key"))
    }

    /// Keys that end with the process: tools and tests that show their replyIds to nobody else.
    pub fn in_memory() -> io::Result<ReplyKeys> {
        let key = Key::new(new_key(wall_ms())?).expect("a new key has its length");
        Ok(ReplyKeys::new(uuid::Uuid::new_v4().to_string(), None, vec![key]).expect("one key"))
    }

    fn new(node: String, file: Option<PathBuf>, keys: Vec<Key>) -> Option<ReplyKeys> {
        (!keys.is_empty()).then(|| ReplyKeys { node, file, keys: RwLock::new(Arc::new(keys)), rotating: Mutex::new(()) })
    }

    fn current(&self) -> Arc<Vec<Key>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A replyId for this session. Costs one HMAC: it is minted for every hook.
    pub fn mint(&self, domain: &str, session_id: &str, reply_to: ReplyTo) -> String {
        self.mint_at(wall_ms() / 1000, domain, session_id, reply_to)
    }

    fn mint_at(&self, now: u64, domain: &str, session_id: &str, reply_to: ReplyTo) -> String {
        let keys = self.current();
        let key = &keys[0];
        let (kind, number) = match reply_to {
            ReplyTo::Participant => ("participant", None),
            ReplyTo::Connection => ("connection", None),
            ReplyTo::IvrCommand(number) => ("ivrCommand", Some(number)),
        };
        let mut claims = String::with_capacity(256);
        // Domain, node and session are host names and UUIDs: nothing in them needs escaping, but a domain is an operator's text.
        let _ = write!(claims, r#"{{"domain":{},"node":"{}","session":"{session_id}","kind":"{kind}""#, Value::from(domain), self.node);
        if let Some(number) = number {
            let _ = write!(claims, r#","n":{number}"#);
        }
        let _ = write!(claims, r#","iat":{now},"exp":{}}}"#, now + REPLY_ID_LIFE.as_secs());
        let mut token = String::with_capacity(512);
        token.push_str(&key.header);
        jwt::encode_onto(&claims, &mut token);
        let tag = hmac::sign(&key.hmac, token.as_bytes());
        token.push('.');
        jwt::encode_onto(tag, &mut token);
        token
    }

    /// What it says, if this node made it and it is still valid. The signature is compared in constant time.
    pub fn verify(&self, token: &str) -> Result<ReplyId, BadReplyId> {
        self.verify_at(wall_ms() / 1000, token)
    }

    fn verify_at(&self, now: u64, token: &str) -> Result<ReplyId, BadReplyId> {
        let parts = jwt::parse(token, "HS256").ok_or(BadReplyId::Invalid)?;
        let keys = self.current();
        let key = keys.iter().find(|key| Some(&key.stored.kid) == parts.kid.as_ref()).ok_or(BadReplyId::Invalid)?;
        hmac::verify(&key.hmac, parts.signed, &parts.signature).map_err(|_| BadReplyId::Invalid)?;
        // From here on the words are the node's own.
        let text = |claim: &str| parts.claims.get(claim).and_then(Value::as_str).ok_or(BadReplyId::Invalid);
        let exp = parts.claims.get("exp").and_then(Value::as_u64).ok_or(BadReplyId::Invalid)?;
        if now >= exp {
            return Err(BadReplyId::Invalid);
        }
        let number = || parts.claims.get("n").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let reply_to = match text("kind")? {
            "participant" => ReplyTo::Participant,
            "connection" => ReplyTo::Connection,
            "ivrCommand" => ReplyTo::IvrCommand(number().ok_or(BadReplyId::Invalid)?),
            _ => return Err(BadReplyId::Invalid),
        };
        if text("node")? != self.node {
            return Err(BadReplyId::OtherNode);
        }
        Ok(ReplyId { domain: text("domain")?.to_owned(), session_id: text("session")?.to_owned(), reply_to })
    }

    /// Signs with a new key from now on; the ones before are kept while a token of theirs may be valid. Returns all `kid`s, newest first.
    /// May block.
    pub fn rotate(&self) -> Result<Vec<String>, RotateError> {
        self.rotate_at(wall_ms())
    }

    fn rotate_at(&self, now: u64) -> Result<Vec<String>, RotateError> {
        let _one = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let life = u64::try_from(REPLY_ID_LIFE.as_millis()).unwrap_or(u64::MAX);
        let mut stored = vec![new_key(now)?];
        // A key was last used when its successor was made.
        let mut used_until = now;
        for key in self.current().iter() {
            let gone_at = used_until.saturating_add(life);
            if gone_at > now {
                if stored.len() >= REPLY_KEYS {
                    return Err(RotateError::TooMany((gone_at - now).div_ceil(1000)));
                }
                stored.push(key.stored.clone());
            }
            used_until = key.stored.created;
        }
        if let Some(file) = &self.file {
            save(file, &Stored { node: self.node.clone(), keys: stored.clone() })?;
        }
        let kids = stored.iter().map(|key| key.kid.clone()).collect();
        let keys = stored.into_iter().filter_map(Key::new).collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(kids)
    }
}

impl Key {
    fn new(stored: StoredKey) -> Option<Key> {
        let secret = jwt::decode(&stored.secret).filter(|secret| secret.len() == SECRET)?;
        let header = format!("{}.", jwt::encode(format!(r#"{{"alg":"HS256","typ":"JWT","kid":{}}}"#, Value::from(stored.kid.as_str()))));
        Some(Key { header, hmac: hmac::Key::new(hmac::HMAC_SHA256, &secret), stored })
    }
}

/// From the kernel.
fn new_key(now: u64) -> io::Result<StoredKey> {
    let mut secret = [0; SECRET];
    fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let kid = uuid::Uuid::new_v4().simple().to_string()[..16].to_owned();
    Ok(StoredKey { kid, created: now, secret: jwt::encode(secret) })
}

/// Renamed into place: a node that loses its power keeps the old keys or has the new ones.
fn save(path: &Path, stored: &Stored) -> io::Result<()> {
    let half = path.with_extension("part");
    // Left over from a crash; `mode` counts only where the file is made.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(serde_json::to_string_pretty(stored).expect("plain data becomes JSON").as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn keys() -> ReplyKeys {
        ReplyKeys::in_memory().expect("random numbers")
    }

    /// The same token with another header or payload, signed with the current key.
    fn forge(keys: &ReplyKeys, header: &str, claims: &Value) -> String {
        let signed = format!("{}.{}", jwt::encode(header), jwt::encode(claims.to_string()));
        let tag = hmac::sign(&keys.current()[0].hmac, signed.as_bytes());
        format!("{signed}.{}", jwt::encode(tag))
    }

    #[test]
    fn ic_009_what_was_minted_is_read_again() {
        let keys = keys();
        for reply_to in [ReplyTo::Participant, ReplyTo::Connection, ReplyTo::IvrCommand(0), ReplyTo::IvrCommand(u32::MAX)] {
            let token = keys.mint("a.example", "s-1", reply_to);
            let expected = ReplyId { domain: "a.example".into(), session_id: "s-1".into(), reply_to };
            assert_eq!(keys.verify(&token), Ok(expected));
        }
    }

    #[test]
    fn ic_009_what_was_tampered_with_is_refused() {
        let keys = keys();
        let token = keys.mint("a.example", "s-1", ReplyTo::Connection);
        assert_eq!(super::ReplyKeys::in_memory().expect("random numbers").verify(&token), Err(BadReplyId::Invalid), "another node's key");
        // Every single character counts.
        for place in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(keys.verify(&changed), Err(BadReplyId::Invalid), "character {place} of {token}");
        }
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        for bad in [signed.to_owned(), format!("{signed}."), format!("{token}A"), String::new()] {
            assert_eq!(keys.verify(&bad), Err(BadReplyId::Invalid), "{bad}");
        }
    }

    #[test]
    fn ic_009_the_algorithm_is_not_the_tokens_choice() {
        let keys = keys();
        let claims: Value = serde_json::from_slice(
            &jwt::decode(keys.mint("a.example", "s-1", ReplyTo::Connection).split('.').nth(1).expect("a payload")).expect("base64url"),
        )
        .expect("claims");
        let kid = keys.current()[0].stored.kid.clone();
        let header = |alg: &str| format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}"}}"#);
        assert!(keys.verify(&forge(&keys, &header("HS256"), &claims)).is_ok(), "the forge itself works");
        for alg in ["none", "None", "NONE", "hs256", "HS384", "HS512", "RS256", "ES256", ""] {
            assert_eq!(keys.verify(&forge(&keys, &header(alg), &claims)), Err(BadReplyId::Invalid), "{alg}");
        }
        for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"other"}"#, r#"{"alg":"HS256","kid":["x"]}"#] {
            assert_eq!(keys.verify(&forge(&keys, header, &claims)), Err(BadReplyId::Invalid), "{header}");
        }
        // Genuine keys, claims that this node never wrote.
        for (claim, value) in
            [("exp", Value::Null), ("exp", "9".into()), ("kind", "other".into()), ("kind", "ivrCommand".into()), ("session", 1.into())]
        {
            let mut claims = claims.clone();
            claims[claim] = value;
            assert_eq!(keys.verify(&forge(&keys, &header("HS256"), &claims)), Err(BadReplyId::Invalid), "{claim} {claims}");
        }
        let mut other = claims;
        other["node"] = "another".into();
        assert_eq!(keys.verify(&forge(&keys, &header("HS256"), &other)), Err(BadReplyId::OtherNode));
    }

    #[test]
    fn ic_010_the_claims_are_ours_and_the_domain_comes_first() {
        let keys = keys();
        let token = keys.mint_at(1000, "a.example", "s-1", ReplyTo::IvrCommand(7));
        let parts: Vec<String> =
            token.split('.').take(2).map(|part| String::from_utf8(jwt::decode(part).expect("base64url")).expect("text")).collect();
        let node = &keys.node;
        let kid = &keys.current()[0].stored.kid;
        assert_eq!(parts[0], format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{kid}"}}"#));
        assert_eq!(
            parts[1],
            format!(
                r#"{{"domain":"a.example","node":"{node}","session":"s-1","kind":"ivrCommand","n":7,"iat":1000,"exp":{}}}"#,
                1000 + 5 * 3600
            )
        );
        let life = REPLY_ID_LIFE.as_secs();
        assert!(keys.verify_at(1000 + life - 1, &token).is_ok());
        assert_eq!(keys.verify_at(1000 + life, &token), Err(BadReplyId::Invalid));
    }

    #[test]
    fn ic_011_a_key_survives_restarts_and_rotations_until_its_tokens_are_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = ReplyKeys::load(folder.path()).expect("made");
        let path = folder.path().join(REPLY_KEYS_FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let start = keys.current()[0].stored.created;
        let first = keys.mint_at(start / 1000, "a.example", "s-1", ReplyTo::Participant);

        // Opened by somebody, closed at the next start.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mine");
        let keys = ReplyKeys::load(folder.path()).expect("read");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(keys.verify_at(start / 1000, &first).is_ok(), "after a restart");

        let hour = 3_600_000;
        assert_eq!(keys.rotate_at(start + hour).expect("rotated").len(), 2);
        let second = keys.mint_at(start / 1000 + 3600, "a.example", "s-1", ReplyTo::Participant);
        assert_ne!(first.split('.').next(), second.split('.').next(), "another kid");
        let keys = ReplyKeys::load(folder.path()).expect("read");
        for token in [&first, &second] {
            assert!(keys.verify_at(start / 1000 + 3600, token).is_ok(), "after a rotation and a restart");
        }
        // Five hours after it was last used nothing of the first key can be valid.
        assert_eq!(keys.rotate_at(start + 6 * hour - 1).expect("rotated").len(), 3);
        assert_eq!(keys.rotate_at(start + 6 * hour).expect("rotated").len(), 3);
        assert_eq!(keys.verify_at(start / 1000, &first), Err(BadReplyId::Invalid));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn ic_011_no_rotation_costs_a_valid_token() {
        let keys = keys();
        let now = keys.current()[0].stored.created;
        let token = keys.mint_at(now / 1000, "a.example", "s-1", ReplyTo::Participant);
        let results: Vec<bool> = (0..REPLY_KEYS as u64 + 3).map(|n| keys.rotate_at(now + n).is_ok()).collect();
        assert_eq!(results.iter().filter(|ok| **ok).count(), REPLY_KEYS - 1);
        assert!(matches!(keys.rotate_at(now + 100), Err(RotateError::TooMany(seconds)) if seconds > 0));
        assert!(keys.verify_at(now / 1000, &token).is_ok());
        assert!(keys.rotate_at(now + DAY * 1000).is_ok());
    }

    #[test]
    fn a_broken_file_is_said_without_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["", "{}", r#"{"node":"n","keys":[]}"#, r#"{"node":"n","keys":[{"kid":"k","created":1,"secret":"c2VjcmV0"}]}"#] {
            fs::write(folder.path().join(REPLY_KEYS_FILE), text).expect("written");
            let error = ReplyKeys::load(folder.path()).expect_err(text).to_string();
            assert!(error.contains(REPLY_KEYS_FILE) && !error.contains("c2VjcmV0"), "{error}");
        }
        assert!(!format!("{:?}", keys()).contains("secret"));
    }
}
