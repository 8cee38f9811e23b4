//! The guest room: between the switch's questions and the components that answer them. Here values are converted and checked, tasks
//! and their deadlines kept, components compiled and cached. Running WebAssembly itself is `hookswitch-wasm`'s.
//!
//! Start with `tasks.rs` ([`Guests`]: one task for each live session), then `from_wit.rs` (what an answer may be).

pub mod adapter;
pub mod compile;
mod explain;
mod from_wit;
pub mod limits;
mod orders;
mod tasks;
mod tenants;
#[cfg(test)]
mod tests;
mod to_wit;
pub(crate) mod words;

pub use compile::{CompileError, Compiler, compile_component_main};
pub use explain::{Question, Said};
pub use from_wit::Nonsense;
pub use orders::Services;
pub use tasks::{Guests, Options, Version};
pub use tenants::{LogLine, Stats};

/// What a simulator shares with the room: it asks handlers, and reads their answers and orders, as the room does.
pub(crate) mod asking {
    pub(crate) use super::from_wit::order;
    pub(crate) use super::orders::{ordered, refused};
    pub(crate) use super::tasks::{failure, put, question};
    pub(crate) use super::tenants::level_name;
    pub(crate) use super::to_wit::{notification, timer};
}

/// Checks that REST bodies share with handlers' answers.
pub(crate) mod checks {
    pub(crate) use super::from_wit::{headers, parameters};
}
