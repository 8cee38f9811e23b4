//! SIP (RFC 3261) as a machine: [`Endpoint`] takes datagrams and commands, gives datagrams and [`SipEvent`]s.
//!
//! The wire reader indexes the bytes without copying; typed headers are parsed on demand. Transactions, dialogs and session timers
//! are one file each. Start reading at `endpoint.rs`.

pub mod endpoint;
mod message;

pub use message::{Message, Method, NameAddr, Refusal, Uri};
pub use endpoint::{
    Cause, CommandError, DialogId, Endpoint, EndpointConfig, EndpointOutput, Flow, Gauges, Header, Invite, Listen, SipEvent, Transport,
};
