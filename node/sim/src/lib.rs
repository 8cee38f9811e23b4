//! hookswitch-sim: scripted phones built from the node's own protocol machines. Pure: time, datagrams and a seed come in, datagrams
//! and a timeline go out, so that the same phone runs on real sockets (`hookswitch call`, the end-to-end tests, the load generator)
//! and in virtual time.
//!
//! Start with [`phone::Phone`]; [`numbered`] is the audio whose every frame says which one it is, [`law`] a G.711 of its own to
//! judge the node's by.

pub mod law;
pub mod numbered;
pub mod phone;

pub use phone::{Act, Call, Callee, Ending, Entry, Phone, PhoneConfig, PhoneOutput, Report, Role, Script, What};
