//! SIP (RFC 3261) as a machine: [`Endpoint`] takes datagrams and commands, gives datagrams and [`SipEvent`]s.
//!
//! The wire reader indexes the bytes without copying; typed headers are parsed on demand. Transactions, dialogs and session timers
//! are one file each. Start reading at `endpoint.rs`.

mod dialog;
pub mod endpoint;
mod header;
mod message;
mod name_addr;
mod session_timer;
mod stream;
mod timer;
mod transaction;
mod uri;
mod write;

pub use endpoint::{
    Cause, CommandError, DialogId, Endpoint, EndpointConfig, EndpointOutput, Failure, Flow, Gauges, Header, Invite, Listen, SipEvent,
    Transport,
};
pub use message::{Message, Method, Refusal};
pub use name_addr::NameAddr;
pub use stream::{Frame, Framer};
pub use uri::Uri;
