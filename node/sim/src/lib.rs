//! hookswitch-sim: scripted phones built from the node's own protocol machines, and a simulated world around the node's own switch and
//! legs. Pure: time, datagrams and a seed come in, datagrams and a timeline go out, so that the same phone runs on real sockets
//! (`hookswitch call`, the end-to-end tests, the load generator) and in virtual time.
//!
//! Start with [`phone::Phone`], or with [`world::World`] for whole calls: [`network`] is what lies between, [`media`] and [`tape`] are
//! the node's media thread and writers, [`handler`] the tenant's program, [`ladder`] what is compared in the end. [`numbered`] is the
//! audio whose every frame says which one it is, [`law`] a G.711 of its own to judge the node's by.

mod clock;
mod fork;
pub mod handler;
pub mod ladder;
pub mod law;
pub mod media;
pub mod network;
pub mod numbered;
pub mod phone;
pub mod tape;
pub mod world;

pub use clock::Clock;
pub use ladder::{Plane, Step, expected};
pub use network::{Network, Odds, Path};
pub use phone::{Act, Call, Callee, Ending, Entry, Phone, PhoneConfig, PhoneOutput, Report, Role, Script, What};
pub use tape::{Recording, Tape};
pub use world::{ForGuest, Line, PhoneId, World};
