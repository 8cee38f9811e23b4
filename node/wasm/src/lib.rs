//! hookswitch-wasm: the only user of wasmtime. Loads a tenant's component, bounds it, calls its hooks. Knows the WIT, not the call.
//!
//! The path of a component: [`inspect`] (is it one that we serve?), [`Engine::compile`] (in a process that may be killed),
//! [`Engine::load`] (once a version), [`Instance::new`] (once a session), and the hooks. Start with `instance.rs`.

mod bindings;
mod class;
mod cpu;
mod engine;
mod host;
mod inspect;
mod instance;
pub mod limits;
mod module;
mod stack;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod wit_test;

/// The types of `wit/types.wit`, by their Rust names.
pub use bindings::hookswitch::call::types as wit;
pub use class::Class;
pub use cpu::thread_time;
pub use engine::{Engine, EngineError, Options, code_digest, content_hash};
pub use host::{
    Cost, DeviceCall, Entry, HoldAudio, Host, IvrCall, Later, Level, MuteDirection, Order, Ordered, PlacedCall, PostRequest, PromptInfo,
    PromptOp, Prompted, RecordingStatus, Request, Response, Setup, StoreOp, Stored, TransferTarget, Turns,
};
pub use inspect::{Feature, Inspection, Refusal, inspect};
pub use instance::{Answer, Failure, Instance, NO_TURN, NoAnswer};
pub use module::{LoadError, Module, wrap};
