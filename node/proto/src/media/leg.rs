//! One participant's media: socket-less RTP in and out, digits, prompts, recording taps.
//!
//! The thread that owns a leg calls `push` for each datagram and then `tick` once per 20 ms. Neither allocates, locks nor waits.

use super::{LegConfig, LegId, LegIo, MediaCmd, StopReason};
use crate::time::Time;
use std::net::SocketAddr;

pub struct Leg {
    _private: (),
}

impl Leg {
    pub fn new(_now: Time, _id: LegId, _config: LegConfig) -> Leg {
        todo!()
    }
    /// A command for this leg other than `Open` and `Close`. Called between frames.
    pub fn command(&mut self, _now: Time, _command: MediaCmd, _io: &mut impl LegIo) {
        todo!()
    }
    /// A datagram from the RTP socket (`rtcp` false) or the RTCP socket.
    pub fn push(&mut self, _arrival: Time, _from: SocketAddr, _rtcp: bool, _packet: &[u8]) {
        todo!()
    }
    /// One frame: receive side, taps, player, send side; RTCP when due.
    pub fn tick(&mut self, _now: Time, _io: &mut impl LegIo) {
        todo!()
    }
    /// The source the leg has locked to, once: the thread may then connect its socket so that the kernel drops the rest.
    pub fn take_locked_source(&mut self) -> Option<SocketAddr> {
        todo!()
    }
    /// Close taps, send RTCP BYE, emit `Closed`.
    pub fn close(&mut self, _now: Time, _reason: StopReason, _io: &mut impl LegIo) {
        todo!()
    }
}
