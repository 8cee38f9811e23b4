//! A compiled component that this engine can run: its imports are bound and its exports found and checked once, not for every call.

use crate::engine::{Engine, code_digest};
use crate::host::State;
use std::sync::atomic::AtomicBool;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

/// What stands before compiled code in a file or buffer: which engine and which component it is for.
const MAGIC: &[u8; 8] = b"hkswcwm1";

pub struct Module {
    pub(crate) pre: InstancePre<State>,
    pub(crate) engine: wasmtime::Engine,
    pub(crate) counts: bool,
    pub(crate) hooks: Hooks<ComponentExportIndex>,
    /// An instance was made whose hooks have the types that we call them with. They are the component's, so those of all others have, too.
    pub(crate) checked: AtomicBool,
    hash: String,
    optional: Vec<&'static str>,
}

/// A component's exports: where they are, or those of an instance.
#[derive(Clone, Copy)]
pub(crate) struct Hooks<T> {
    pub new_call: T,
    pub get_ivr_command: T,
    pub call_event: T,
    pub notify: Option<T>,
    pub get_call_identifier: Option<T>,
    pub new_remote_call: Option<T>,
}

impl<T> Hooks<T> {
    pub fn try_map<U, E>(&self, mut f: impl FnMut(&T) -> Result<U, E>) -> Result<Hooks<U>, E> {
        Ok(Hooks {
            new_call: f(&self.new_call)?,
            get_ivr_command: f(&self.get_ivr_command)?,
            call_event: f(&self.call_event)?,
            notify: self.notify.as_ref().map(&mut f).transpose()?,
            get_call_identifier: self.get_call_identifier.as_ref().map(&mut f).transpose()?,
            new_remote_call: self.new_remote_call.as_ref().map(f).transpose()?,
        })
    }
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
        let hooks = hooks(&component).map_err(|missing| LoadError::Interface(format!("no function {missing}")))?;
        let mut optional = Vec::new();
        if hooks.notify.is_some() {
            optional.push("notifications");
        }
        if hooks.get_call_identifier.is_some() {
            optional.push("call-identifier");
        }
        if hooks.new_remote_call.is_some() {
            optional.push("remote-call");
        }
        let (wasmtime, checked, hash) = (engine.wasmtime.clone(), AtomicBool::new(false), hash.to_owned());
        Ok(Module { pre, engine: wasmtime, counts: engine.counts, hooks, checked, hash, optional })
    }

    /// Hex SHA-256 of the component.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it wants news.
    pub fn takes_notifications(&self) -> bool {
        self.hooks.notify.is_some()
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

/// Where the hooks are; else which is not.
fn hooks(component: &Component) -> Result<Hooks<ComponentExportIndex>, String> {
    let find = |interface: &str, name: &str| {
        let interface = component.get_export_index(None, format!("hookswitch:call/{interface}@0.1.0").as_str())?;
        component.get_export_index(Some(&interface), name)
    };
    let handler = |name: &str| find("handler", name).ok_or_else(|| format!("handler.{name}"));
    Ok(Hooks {
        new_call: handler("new-call")?,
        get_ivr_command: handler("get-ivr-command")?,
        call_event: handler("call-event")?,
        notify: find("notifications", "notify"),
        get_call_identifier: find("call-identifier", "get-call-identifier"),
        new_remote_call: find("remote-call", "new-remote-call"),
    })
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
