//! The registry's way to the guest room: components in, modules to calls.

use super::{Change, CompileFailure, Loader, Ready, VersionHealth};
use crate::guest::{CompileError, Compiler, Guests, LogLine, Trial, Version};
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

    fn ready(&self, row: &VersionRow, trial: Option<Trial>) -> Option<Ready> {
        // One that has calls stays what it is, with what is known of how it fares.
        if let Some(version) = self.guests.deployed(&row.domain).version(row.number).filter(|version| version.hash == row.sha256) {
            return Some(Ready(version.clone()));
        }
        let module = self.compiler.cached(&row.sha256)?;
        Some(Ready(Arc::new(Version::new(
            row.domain.as_str().into(),
            row.number,
            Class::of(usize::try_from(row.size).unwrap_or(usize::MAX)),
            module,
            trial,
        ))))
    }

    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure> {
        match self.compiler.compile(component) {
            Ok(_) => Ok(()),
            Err(error @ CompileError::Io { .. }) => Err(CompileFailure::Node(error.to_string())),
            Err(error) => Err(CompileFailure::Component(error.to_string())),
        }
    }

    fn deploy(&self, domain: &str, change: Change) {
        let version = |ready: Ready| ready.0.downcast::<Version>().expect("`ready` makes versions and nothing else");
        match change {
            Change::Active(ready) => self.guests.set_active(domain, Some(version(ready))),
            Change::Try(ready, share) => self.guests.deploy(domain, |deployment| deployment.canary = Some((version(ready), share))),
            Change::EndTry => self.guests.deploy(domain, |deployment| deployment.canary = None),
            Change::Back(ready) => self.guests.deploy(domain, |deployment| {
                let version = version(ready);
                deployment.canary.take_if(|(canary, _)| canary.number == version.number);
                deployment.active = Some(version);
            }),
            Change::Nothing => self.guests.set_active(domain, None),
        }
    }

    fn forget(&self, sha256: &str) {
        self.compiler.forget(sha256);
    }

    fn sweep(&self) {
        match self.compiler.sweep() {
            0 => {}
            gone => tracing::info!(gone, "compiled code that this node cannot use is removed"),
        }
    }

    fn health(&self, domain: &str, number: u32) -> Option<VersionHealth> {
        let deployment = self.guests.deployed(domain);
        let version = deployment.version(number)?;
        let (calls, failed) = version.health().calls();
        Some(VersionHealth { calls, failed, rests: self.guests.rests(version) })
    }

    fn say(&self, domain: &str, text: &str) {
        self.guests.say(domain, text);
    }

    fn taken_back(&self, domain: &str, why: &str) {
        self.guests.taken_back(domain, why);
    }

    fn log(&self, domain: &str) -> Vec<LogLine> {
        self.guests.log(domain)
    }
}
