//! hookswitch-call: what a session is. A [`Switch`] takes inputs (datagrams, media events, verdicts, commands, time) and gives outputs
//! (datagrams, media commands, asks, notifications). Pure: no I/O, no thread, no clock, no wasm.
//!
//! Start with [`Input`] and [`Output`] in `door.rs`, then `switch.rs` (many sessions) and `session.rs` (one).

pub mod adapter;
pub mod admission;
pub mod alarm;
pub mod callback;
mod collect;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod destination;
pub mod door;
pub mod drop_code;
mod exchange;
#[cfg(test)]
mod fallbacks;
#[cfg(test)]
mod fuzz;
pub mod hook;
#[cfg(test)]
mod identifier_ladders;
mod invite;
mod ivr;
pub mod limits;
#[cfg(test)]
mod monitor_ladders;
mod outbound;
mod participant;
mod protection;
pub mod recording;
#[cfg(test)]
mod recording_ladders;
#[cfg(test)]
mod remote_calls;
mod ringing;
pub mod route;
#[cfg(test)]
mod routing_ladders;
pub mod rules;
pub mod say;
mod session;
pub mod switch;
#[cfg(test)]
mod tests;
mod track;
#[cfg(test)]
mod two_parties;

pub use adapter::Adapter;
pub use admission::{Quota, Spent};
pub use destination::{Destination, Network};
pub use door::{
    Ask, AskId, Begun, CallRecord, Clips, Command, CommandError, CommandId, CommandResult, Configuration, Done, Fallback, FallbackMode,
    HoldAudio, Input, Mute, NoClip, NumberFallback, Output, PlaceIvrCall, PlaceRemoteCall, Prepare, PromptSource, RecordingMoved,
    RecordingReport, RecordingStart, Resolve, SessionId, Tenant, TransferTarget, WhichRecording,
};
pub use hook::{
    Alarm, AlarmKind, AlarmLeg, BackgroundPrompt, CallEvent, CallEventKind, CallIdentifier, Collect, DigitProtection, DtmfParams,
    DtmfReason, Greeting, Hook, HookFailure, Identified, IvrCommand, IvrRequest, NewCall, Notification, OutboundCall, Phrase, PlayMode,
    Privacy, RecordPhrase, RecordingDetails, RecordingResult, RemoteCall, ReplyTo, Routing, Verdict,
};
pub use ringing::Country;
pub use switch::{Switch, SwitchConfig, SwitchGauges};
