//! The registry's way to the guest room: components in, modules to calls.

use super::{CompileFailure, Loader};
use crate::guest::{CompileError, Compiler, Guests, LogLine, Version};
use crate::store::VersionRow;
use hookswitch_wasm::Class;
use std::sync::Arc;

pub struct GuestLoader {
    compiler: Compiler,
    guests: Guests,
}

impl GuestLoader {
    pub fn new(compiler: Compiler, guests: Guests) -> GuestLoader {
        GuestLoader { compiler, guests }
    }
}

impl Loader for GuestLoader {
    fn inspect(&self, component: &[u8]) -> Result<(), String> {
        hookswitch_wasm::inspect(component, Class::Large.component_bytes()).map(drop).map_err(|refusal| refusal.to_string())
    }

    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure> {
        match self.compiler.compile(component) {
            Ok(_) => Ok(()),
            Err(error @ CompileError::Io { .. }) => Err(CompileFailure::Node(error.to_string())),
            Err(error) => Err(CompileFailure::Component(error.to_string())),
        }
    }

    fn activate(&self, version: &VersionRow, component: &[u8]) -> Result<(), String> {
        let module = self.compiler.compile(component).map_err(|error| error.to_string())?;
        let domain: Arc<str> = version.domain.as_str().into();
        let version = Version { domain, number: version.number, hash: version.sha256.clone(), class: Class::of(component.len()), module };
        self.guests.set_active(&version.domain.clone(), Some(Arc::new(version)));
        Ok(())
    }

    fn deactivate(&self, domain: &str) {
        self.guests.set_active(domain, None);
    }

    fn forget(&self, sha256: &str) {
        self.compiler.forget(sha256);
    }

    fn log(&self, domain: &str) -> Vec<LogLine> {
        self.guests.log(domain)
    }
}
