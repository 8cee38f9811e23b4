//! The guest room: between the switch's questions and the components that answer them. Here values are converted and checked, tasks
//! and their deadlines kept, components compiled and cached. Running WebAssembly itself is `hookswitch-wasm`'s.
//!
//! Start with `tasks.rs` ([`Guests`]: one task for each live session), then `from_wit.rs` (what an answer may be), `orders.rs` (what a
//! handler may ask of the node while it decides) and `health.rs` (when a version is not asked any more).

pub mod adapter;
pub mod compile;
mod deployment;
mod device;
mod explain;
mod fair;
mod from_wit;
mod health;
pub mod limits;
mod orders;
mod prompts;
mod redact;
mod tasks;
mod tenants;
#[cfg(test)]
mod tests;
mod to_wit;
mod values;
mod vault;
pub(crate) mod words;

pub use compile::{CompileError, Compiler, compile_component_main};
pub use deployment::{Deployment, Judged, Version};
pub use explain::{Question, Said};
pub use from_wit::Nonsense;
pub use health::{Judgement, Trial};
pub use orders::Services;
pub use tasks::{Guests, Options};
pub use tenants::{Decisions, Follower, LogLine, Stats};
pub use vault::{Secret, Vault};

/// What a simulator shares with the room: it asks handlers, and reads their answers and orders, as the room does.
pub(crate) mod asking {
    pub(crate) use super::from_wit::order;
    pub(crate) use super::orders::{ordered, refused};
    pub(crate) use super::tasks::{failure, put, question};
    pub(crate) use super::tenants::level_name;
    pub(crate) use super::to_wit::notification;
    pub(crate) use super::values::check as check_store;
}

/// Checks that REST bodies share with handlers' answers.
pub(crate) mod checks {
    pub(crate) use super::from_wit::{header_names, headers, parameters, phrase};
}
