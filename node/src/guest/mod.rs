//! The guest room: between the switch's questions and the components that answer them. Here values are converted and checked, tasks
//! and their deadlines kept, components compiled and cached. Running WebAssembly itself is `hookswitch-wasm`'s.
//!
//! Start with `tasks.rs` ([`Guests`]: one task for each live session), then `from_wit.rs` (what an answer may be).

pub mod adapter;
pub mod compile;
mod fair;
mod from_wit;
pub mod limits;
mod orders;
mod tasks;
mod tenants;
#[cfg(test)]
mod tests;
mod to_wit;

pub use compile::{CompileError, Compiler, compile_component_main};
pub use from_wit::Nonsense;
pub use orders::Services;
pub use tasks::{Guests, Options, Version};
pub use tenants::{LogLine, Stats};

/// Checks that REST bodies share with handlers' answers.
pub(crate) mod checks {
    pub(crate) use super::from_wit::{headers, parameters};
}
