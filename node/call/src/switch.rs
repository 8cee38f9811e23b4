//! The switch: all sessions of a signalling thread, the SIP endpoint they share, admission, and who gets which input.
//!
//! What one call does is in `session.rs`; which tenant gets it, in `route.rs`. Start with [`Switch::handle`].

use crate::door::{Input, Output};
use hookswitch_proto::Time;
use hookswitch_proto::media::Codec;
use hookswitch_proto::sip::{EndpointConfig, Gauges};
use std::net::IpAddr;
use std::time::Duration;

pub struct SwitchConfig {
    pub endpoint: EndpointConfig,
    /// What SDP calls our RTP address (1:1 NAT); `None`: the address that the leg is bound to.
    pub media_advertise: Option<IpAddr>,
    /// In order of preference.
    pub codecs: Vec<Codec>,
    pub seed: [u8; 32],
    /// Live sessions; more: 503.
    pub sessions_max: usize,
    pub session_duration: Duration,
    /// `None`: never.
    pub rtp_timeout: Option<Duration>,
    /// Take RTP from another address than signalled (off: RTP bleed).
    pub learn_any_ip: bool,
}

impl SwitchConfig {
    /// The usual limits.
    pub fn new(endpoint: EndpointConfig, seed: [u8; 32]) -> SwitchConfig {
        SwitchConfig {
            endpoint,
            media_advertise: None,
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            seed,
            sessions_max: crate::limits::SESSIONS,
            session_duration: crate::limits::SESSION_DURATION,
            rtp_timeout: Some(crate::limits::RTP_TIMEOUT),
            learn_any_ip: false,
        }
    }
}

/// What is alive, for metrics and leak tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchGauges {
    pub sessions: usize,
    pub legs: usize,
    /// Recordings of ended sessions whose report is due.
    pub late_recordings: usize,
    pub endpoint: Gauges,
}

pub struct Switch {
    _private: (),
}

impl Switch {
    pub fn new(_config: SwitchConfig) -> Switch {
        todo!()
    }

    /// One input, then drain [`Switch::poll`].
    pub fn handle(&mut self, _now: Time, _input: Input) {
        todo!()
    }

    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }

    /// When [`Input::Tick`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        todo!()
    }

    pub fn gauges(&self) -> SwitchGauges {
        todo!()
    }
}
