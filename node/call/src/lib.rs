//! hookswitch-call: what a session is. A [`Switch`] takes inputs (datagrams, media events, verdicts, commands, time) and gives outputs
//! (datagrams, media commands, asks, notifications). Pure: no I/O, no thread, no clock, no wasm.
//!
//! Start with [`Input`] and [`Output`] in `door.rs`, then `switch.rs` (many sessions) and `session.rs` (one).

pub mod adapter;
pub mod alarm;
mod collect;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod door;
pub mod drop_code;
mod exchange;
#[cfg(test)]
mod fuzz;
pub mod hook;
mod invite;
mod ivr;
pub mod limits;
mod participant;
pub mod route;
pub mod rules;
mod session;
pub mod switch;
#[cfg(test)]
mod tests;

pub use adapter::Adapter;
pub use door::{
    Ask, AskId, CallRecord, Clips, Command, CommandId, CommandResult, Configuration, Fallback, Input, Output, Prepare, PromptSource,
    RecordingReport, RecordingStart, SessionId, Tenant,
};
pub use hook::{
    Alarm, AlarmKind, BackgroundPrompt, CallEvent, CallEventKind, Collect, DigitProtection, DtmfParams, DtmfReason, Hook, HookFailure,
    IvrCommand, IvrRequest, NewCall, Notification, OutboundCall, Phrase, Privacy, RecordPhrase, RecordingDetails, RecordingResult, Routing,
    Verdict,
};
pub use switch::{Switch, SwitchConfig, SwitchGauges};
