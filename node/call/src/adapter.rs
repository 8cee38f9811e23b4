//! Who answers a session's questions: built-in rules, a script in tests, or a WebAssembly guest. All speak [`Ask`] and [`Verdict`].
//!
//! The switch itself never calls an adapter of a tenant: it emits `Output::Ask` and takes `Input::Verdict`. This trait is the shape
//! that tests, the contract suite and the built-in rules share.

use crate::door::Ask;
use crate::hook::{HookFailure, Notification, Verdict};

pub trait Adapter {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure>;

    /// One-way news. Most adapters in tests do not care.
    fn notify(&mut self, _notification: &Notification) {}
}
