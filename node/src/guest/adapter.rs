//! A guest as an [`Adapter`]: one session's hooks, one after the other, on the calling thread. For the contract suite and tools that
//! need no threads; the node itself asks through `Guests`, with the same conversion.

use super::{tasks, to_wit};
use crate::reply_keys::ReplyKeys;
use hookswitch_call::Ask;
use hookswitch_call::adapter::Adapter;
use hookswitch_call::hook::{HookFailure, Notification, Verdict};
use hookswitch_wasm::{Class, Host, Instance, Level, Module, Setup};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One session of a guest.
pub struct WasmAdapter {
    module: Arc<Module>,
    instance: Option<Instance>,
    runtime: tokio::runtime::Runtime,
    cpu: Duration,
    class: Class,
    asked: u64,
    reply_keys: ReplyKeys,
}

/// Logs nowhere, has no settings, and its clock stands still: runs repeat.
struct Still;

impl Host for Still {
    fn log(&self, _level: Level, _line: &str) {}
    fn log_dropped(&self) {}
    fn config(&self, _key: &str) -> Option<String> {
        None
    }
    fn now_ms(&self) -> u64 {
        0
    }
}

impl WasmAdapter {
    pub fn new(module: Arc<Module>) -> WasmAdapter {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        let reply_keys = ReplyKeys::in_memory().expect("the kernel has random numbers");
        WasmAdapter {
            module,
            instance: None,
            runtime,
            cpu: hookswitch_wasm::limits::HOOK_CPU,
            class: Class::Standard,
            asked: 0,
            reply_keys,
        }
    }

    /// Another CPU time for each hook than the node's.
    pub fn cpu(mut self, cpu: Duration) -> WasmAdapter {
        self.cpu = cpu;
        self
    }

    /// The memory of instances of this class.
    pub fn class(mut self, class: Class) -> WasmAdapter {
        self.class = class;
        self
    }

    fn guest(&mut self, until: Instant) -> Result<Instance, HookFailure> {
        if let Some(instance) = self.instance.take() {
            return Ok(instance);
        }
        self.asked += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.asked.to_le_bytes());
        let setup = Setup { cpu: self.cpu, memory_bytes: self.class.memory_bytes(), ..Setup::new(Arc::new(Still), seed) };
        self.runtime.block_on(Instance::new(&self.module, setup, until)).map_err(tasks::failure)
    }
}

impl Adapter for WasmAdapter {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        let until = Instant::now() + ask.deadline;
        let transaction = format!("transaction-{}", ask.id.number);
        let guest = self.guest(until)?;
        let question = tasks::question(ask.hook.clone(), transaction, &self.reply_keys);
        let (done, _) = self.runtime.block_on(tasks::put(guest, &question, until));
        let (instance, verdict) = done?;
        self.instance = Some(instance);
        verdict
    }

    fn notify(&mut self, notification: &Notification) {
        let until = Instant::now() + super::limits::NOTIFY_DEADLINE;
        let news = to_wit::notification(notification.clone(), "transaction".into(), &self.reply_keys);
        if let Ok(guest) = self.guest(until) {
            // A guest that fails at news loses its instance; the next question shows it.
            self.instance = self.runtime.block_on(guest.notify(&news, until)).ok().map(|(guest, _)| guest);
        }
    }
}
