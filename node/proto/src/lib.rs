//! hookswitch-proto: wire formats, protocol machines and the media leg. Pure: time, bytes and a seed come in,
//! bytes and events go out. No sockets, files, threads, clocks or global randomness live here.
//!
//! Start with [`sip::Endpoint`] (requests, transactions, dialogs) and [`media::Leg`] (RTP, digits, prompts, recording tap);
//! [`sdp`] connects the two.

pub mod limits;
pub mod media;
pub mod random;
pub mod sdp;
pub mod sip;
pub mod time;

pub use random::{KeyedMap, Random};
pub use time::{MediaTime, Time, Wall};
