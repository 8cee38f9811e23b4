//! Secrets of tenants: sealed in the store, opened for the handler that asks, and neither shown nor logged.

use crate::deliver::Seal;
use crate::limits;
use crate::store::{Store, StoreError};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The key below the data folder that secrets are sealed with.
const KEY: &str = "handler-secrets";
/// What stands in a log for a secret that a handler has put there.
const HIDDEN: &str = "[secret]";
/// Shorter values are not looked for in logs: they would be found in every other word.
const LOOKED_FOR: usize = 6;

/// A secret's value. Shows nothing of itself, and leaves nothing in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        // The optimiser may not leave this out: the bytes would stay in freed memory.
        std::hint::black_box(&mut bytes).fill(0);
    }
}

impl Secret {
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Where all of them are. Clones lead to the same.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    seal: Arc<Seal>,
}

impl Vault {
    /// `data`: the node's data folder, where the key is, or is made.
    pub fn open(store: Store, data: &Path) -> io::Result<Vault> {
        Ok(Vault { store, seal: Arc::new(Seal::named(data, KEY)?) })
    }

    /// Keeps it; an earlier one of the name is gone. Gives whether it is new. Blocks.
    pub fn put(&self, domain: &str, name: &str, value: &Secret, who: &str) -> Result<bool, StoreError> {
        let sealed =
            self.seal.seal(&owner(domain, name), value.expose().as_bytes()).map_err(|error| StoreError::Sqlite(error.to_string()))?;
        self.store.put_secret(domain, name, sealed, limits::SECRETS, who)
    }

    /// `None`: there is none of this name, or this node's key does not open it.
    pub async fn get(&self, domain: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let Some(sealed) = self.store.secret(domain, name).await? else { return Ok(None) };
        let plain = self.seal.open(&owner(domain, name), &sealed).and_then(|plain| String::from_utf8(plain).ok());
        if plain.is_none() {
            tracing::error!(domain, name, "a secret cannot be opened with this node's key: it has to be set again");
        }
        Ok(plain.map(Secret))
    }
}

/// Authenticated with the value: moved to another tenant or name it does not open.
fn owner(domain: &str, name: &str) -> String {
    format!("secret {name} of {domain}")
}

/// The secrets that one session was told: what it writes to its log is without them.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Secret>>>);

impl Told {
    pub fn add(&self, secret: &Secret) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.expose().len() >= LOOKED_FOR && !told.contains(secret) {
            if told.len() >= limits::SECRETS {
                told.remove(0);
            }
            told.push(secret.clone());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// `text` with each of them covered.
    pub fn hide(&self, text: &str) -> String {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().fold(text.to_owned(), |text, secret| match text.contains(secret.expose()) {
            true => text.replace(secret.expose(), HIDDEN),
            false => text,
        })
    }

    /// Covers them in every text of `value`.
    pub fn cover(&self, value: &mut Value) {
        if !self.is_empty() {
            self.cover_texts(value);
        }
    }

    fn cover_texts(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.hide(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.cover_texts(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.cover_texts(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TenantRow;

    fn get(vault: &Vault, domain: &str, name: &str) -> Option<Secret> {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(vault.get(domain, name)).expect("read")
    }

    #[test]
    fn a_secret_opens_for_its_tenant_and_name_alone_and_lies_nowhere_in_the_clear() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.db");
        let (store, thread) = Store::open(&path).expect("opens");
        let vault = Vault::open(store.clone(), folder.path()).expect("opens");
        let value = Secret::new("correct horse battery".into());
        for domain in ["a.example", "b.example"] {
            store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
        }
        assert_eq!(vault.put("a.example", "token", &value, "test"), Ok(true));
        assert_eq!(vault.put("a.example", "token", &value, "test"), Ok(false));
        assert_eq!(get(&vault, "a.example", "token"), Some(value.clone()));
        assert_eq!(get(&vault, "b.example", "token"), None);
        assert_eq!(get(&vault, "a.example", "tokens"), None);
        // Another name, another tenant, another node: the same bytes open nothing.
        let sealed = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let sealed = sealed.block_on(store.secret("a.example", "token")).expect("read").expect("there");
        store.put_secret("b.example", "token", sealed.clone(), 9, "test").expect("put");
        store.put_secret("a.example", "other", sealed, 9, "test").expect("put");
        assert_eq!(get(&vault, "b.example", "token"), None);
        assert_eq!(get(&vault, "a.example", "other"), None);
        let elsewhere = tempfile::tempdir().expect("a folder");
        let stranger = Vault::open(store.clone(), elsewhere.path()).expect("opens");
        assert_eq!(get(&stranger, "a.example", "token"), None);
        assert_eq!(vault.put("nobody.example", "token", &value, "test"), Err(StoreError::Unknown("domain")));
        let audit = format!("{:?}{:?}", store.audit(None, 100).expect("read"), store.secrets("a.example").expect("read"));
        assert!(audit.contains("secret changed") && !audit.contains("correct horse"), "{audit}");
        thread.close();
        for file in std::fs::read_dir(folder.path()).expect("there").flatten().filter(|file| file.path().is_file()) {
            let bytes = std::fs::read(file.path()).expect("read");
            assert!(!bytes.windows(13).any(|part| part == b"correct horse"), "{:?}", file.file_name());
        }
    }

    #[test]
    fn a_secret_shows_nothing_of_itself_and_is_covered_in_what_its_session_writes() {
        let secret = Secret::new("s3cr3t-value".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret Some(Secret)");
        let told = Told::default();
        assert_eq!(told.hide("with s3cr3t-value in it"), "with s3cr3t-value in it", "not told yet");
        told.add(&secret);
        told.add(&Secret::new("a".into()));
        assert_eq!(told.hide("s3cr3t-value and s3cr3t-value, a banana"), "[secret] and [secret], a banana");
    }
}
