//! A compiled component that this engine can run: its imports are bound and its exports found and checked once, not for every call.

use crate::bindings::exports::hookswitch::call as exports;
use crate::engine::{Engine, code_digest};
use crate::host::State;
use wasmtime::component::{Component, InstancePre};

/// What stands before compiled code in a file or buffer: which engine and which component it is for.
const MAGIC: &[u8; 8] = b"hkswcwm1";

pub struct Module {
    pub(crate) pre: InstancePre<State>,
    pub(crate) engine: wasmtime::Engine,
    pub(crate) counts: bool,
    pub(crate) handler: exports::handler::GuestIndices,
    pub(crate) notifications: Option<exports::notifications::GuestIndices>,
    pub(crate) remote_call: Option<exports::remote_call::GuestIndices>,
    hash: String,
    optional: Vec<&'static str>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Module({}, handler {:?})", &self.hash, self.optional)
    }
}

/// Why there is no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("does not compile: {0}")]
    Compile(String),
    /// The code is not what its digest says: it must not be run.
    #[error("compiled code is damaged or was changed")]
    Digest,
    #[error("compiled code is for another engine")]
    Engine,
    #[error("{0}")]
    Interface(String),
}

impl Module {
    pub(crate) fn load(engine: &Engine, file: &[u8], digest: &[u8; 32]) -> Result<Module, LoadError> {
        let (hash, code) = unwrap(engine.compatibility(), file)?;
        if code_digest(engine.compatibility(), hash, code) != *digest {
            return Err(LoadError::Digest);
        }
        // SAFETY: `deserialize` demands code that wasmtime made and nobody changed. The digest covers these very bytes, and only our own
        // compiler process writes digests; tenants cannot upload compiled code.
        let component = unsafe { Component::deserialize(&engine.wasmtime, code) }.map_err(|_| LoadError::Engine)?;
        let interface = |e: wasmtime::Error| LoadError::Interface(format!("{e:#}"));
        let pre = engine.linker.instantiate_pre(&component).map_err(interface)?;
        let handler = exports::handler::GuestIndices::new(&pre).map_err(interface)?;
        let notifications = exports::notifications::GuestIndices::new(&pre).ok();
        let remote_call = exports::remote_call::GuestIndices::new(&pre).ok();
        let mut optional = Vec::new();
        if notifications.is_some() {
            optional.push("notifications");
        }
        if exports::call_identifier::GuestIndices::new(&pre).is_ok() {
            optional.push("call-identifier");
        }
        if remote_call.is_some() {
            optional.push("remote-call");
        }
        let (engine, counts, hash) = (engine.wasmtime.clone(), engine.counts, hash.to_owned());
        Ok(Module { pre, engine, counts, handler, notifications, remote_call, hash, optional })
    }

    /// Hex SHA-256 of the component.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it wants news.
    pub fn takes_notifications(&self) -> bool {
        self.notifications.is_some()
    }

    /// The optional interfaces it exports.
    pub fn optional_exports(&self) -> &[&'static str] {
        &self.optional
    }

    /// Bytes of native code, for the cache's account.
    pub fn code_bytes(&self) -> usize {
        let range = self.pre.component().image_range();
        (range.end as usize).saturating_sub(range.start as usize)
    }
}

/// Compiled code with its header, as it is kept in a file.
pub fn wrap(compatibility: &str, component_hash: &str, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(code.len() + 128);
    file.extend_from_slice(MAGIC);
    for field in [compatibility, component_hash] {
        file.push(u8::try_from(field.len()).expect("hashes in hex have at most 64 bytes"));
        file.extend_from_slice(field.as_bytes());
    }
    file.extend_from_slice(code);
    file
}

/// Component hash and code of a file that `wrap` made.
fn unwrap<'a>(compatibility: &str, file: &'a [u8]) -> Result<(&'a str, &'a [u8]), LoadError> {
    fn field(rest: &[u8]) -> Option<(&str, &[u8])> {
        let (length, rest) = rest.split_first()?;
        let (field, rest) = rest.split_at_checked(usize::from(*length))?;
        Some((std::str::from_utf8(field).ok()?, rest))
    }
    let rest = file.strip_prefix(MAGIC).ok_or(LoadError::Digest)?;
    let (engine, rest) = field(rest).ok_or(LoadError::Digest)?;
    let (hash, code) = field(rest).ok_or(LoadError::Digest)?;
    if engine != compatibility {
        return Err(LoadError::Engine);
    }
    Ok((hash, code))
}
