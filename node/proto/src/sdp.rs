//! Session descriptions (RFC 4566/8866) and offer/answer (RFC 3264) for the one audio stream we use.

use crate::media::{Codec, Direction, Negotiated};
use bytes::Bytes;
use std::net::SocketAddr;

/// Why an offer or answer cannot be used: 488 for an offer, ACK and BYE for an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("not an SDP body: {0}")]
    Malformed(String),
    #[error("no audio stream with a codec of ours")]
    NoCodec,
    #[error("no usable audio stream: {0}")]
    NoAudio(&'static str),
}

/// A peer's parsed description, kept to answer it and to compare the next one with.
#[derive(Clone, Debug)]
pub struct Remote {
    _private: (),
}

impl Remote {
    pub fn parse(_body: &[u8]) -> Result<Remote, SdpError> {
        todo!()
    }
}

/// Our side of one negotiation: the origin line stays, the version grows with each change (RFC 3264 8).
#[derive(Clone, Debug)]
pub struct Local {
    pub session_id: u64,
    pub version: u64,
    /// In order of preference.
    pub codecs: Vec<Codec>,
}

impl Local {
    /// What we would agree to, before an address is known.
    pub fn choose(&self, _offer: &Remote, _want: Direction) -> Result<Negotiated, SdpError> {
        todo!()
    }
    /// The answer (RFC 3264 6) that says `agreed` from `address` (as advertised).
    pub fn answer(&mut self, _offer: &Remote, _agreed: &Negotiated, _address: SocketAddr) -> Bytes {
        todo!()
    }
    /// An offer of all our codecs.
    pub fn offer(&mut self, _address: SocketAddr, _direction: Direction) -> Bytes {
        todo!()
    }
    /// What the answer to our offer means.
    pub fn accept(&self, _answer: &Remote, _offered: Direction) -> Result<Negotiated, SdpError> {
        todo!()
    }
}
