//! The SIP endpoint: matches what arrives to transactions and dialogs, tells its user what happened, and carries out what the user
//! decides. Used by the node's switch, by the test phone and by the simulator alike.
//!
//! It does no I/O. `receive` and the commands change state, then drain `poll`, then sleep until `next_timeout`.

use crate::time::Time;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// One path to a peer: a listening socket of ours and the address on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub transport: Transport,
    /// Our socket's bound address.
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// A socket the endpoint may send from, and what to call it in Via and Contact.
#[derive(Clone, Debug)]
pub struct Listen {
    pub transport: Transport,
    pub bound: SocketAddr,
    /// `host` or `host:port` as seen from outside (1:1 NAT); `None`: the bound address.
    pub advertise: Option<String>,
}

#[derive(Clone, Debug)]
pub struct EndpointConfig {
    pub listen: Vec<Listen>,
    /// `Server` / `User-Agent` value.
    pub agent: String,
    /// RFC 3261 17.1.1.1 T1, T2, T4. Defaults 500 ms, 4 s, 5 s.
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
    /// RFC 4028: what we ask for as UAC, and the least we accept. `None`: as UAC we ask for no timer.
    pub session_expires: Option<Duration>,
    pub min_se: Duration,
    /// Answer malformed requests (400) only to these peers and to loopback, so that we are no reflector.
    pub known_peers: Vec<std::net::IpAddr>,
}

/// One call leg's dialog, early or confirmed, from the first INVITE to [`SipEvent::Gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    pub slot: u32,
    pub generation: u32,
}

/// A header line to add to what we send. The value is checked: CR, LF and NUL are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// An INVITE to send (RFC 3261 13.2).
#[derive(Clone, Debug)]
pub struct Invite {
    /// Request-URI and, unless `to` is given, the To URI.
    pub target: String,
    /// Complete From value without tag, e.g. `"Alice" <sip:alice@example.com>`.
    pub from: String,
    pub to: Option<String>,
    /// Where the first hop is, already resolved.
    pub flow: Flow,
    pub headers: Vec<Header>,
    pub sdp: Option<Bytes>,
}

/// Why a dialog ended. Exactly one per dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer sent BYE; `reason` is its Reason header (RFC 3326), if any.
    Bye { reason: Option<String> },
    /// The peer cancelled its INVITE before the final answer; 487 was sent.
    Cancelled,
    /// Our 2xx was never acknowledged within 64*T1 (RFC 3261 13.3.1.4); BYE was sent.
    NoAck,
    /// No refresh before Session-Expires (RFC 4028 10); BYE was sent.
    SessionExpired,
    /// We refused the INVITE, or our BYE or CANCEL is done.
    Local,
    /// Our INVITE was refused, or timed out (408), or could not be sent (503).
    Failed { status: u16 },
}

#[derive(Clone, Debug)]
pub enum SipEvent {
    /// A new INVITE outside any dialog; 100 was sent. Answer with `provisional`, `answer`, `reject` or let the peer cancel.
    /// From here on the dialog ends with exactly one `Gone`.
    Invite { dialog: DialogId, request: Arc<super::Message>, flow: Flow },
    /// Our 2xx was acknowledged. `sdp` is the ACK's body (the answer, where our 2xx carried the offer).
    Confirmed { dialog: DialogId, sdp: Option<Bytes> },
    /// A re-INVITE or UPDATE. With `sdp` it is an offer; without, a refresh (UPDATE) or a request for our offer (INVITE).
    /// Answer with `accept_offer` or `refuse_offer`; session timer headers are the endpoint's business.
    Offer { dialog: DialogId, method: super::Method, sdp: Option<Bytes> },
    /// INFO within the dialog (200 was sent): digits as `application/dtmf-relay`.
    Info { dialog: DialogId, request: Arc<super::Message> },
    /// 101-199 to our INVITE.
    Progress { dialog: DialogId, status: u16, response: Arc<super::Message> },
    /// 2xx to our INVITE; ACK was sent.
    Answered { dialog: DialogId, response: Arc<super::Message> },
    /// The end of the dialog; its id is never used again.
    Gone { dialog: DialogId, cause: Cause, at: Time },
    /// A message was refused or dropped before it reached a dialog: for counters and one log line.
    Refused { flow: Flow, why: super::Refusal },
}

#[derive(Debug)]
pub enum EndpointOutput {
    Transmit { flow: Flow, bytes: Bytes },
    Event(SipEvent),
}

/// What is alive, for metrics and leak tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub transactions: usize,
    pub dialogs: usize,
    pub timers: usize,
}

pub struct Endpoint {
    _private: (),
}

/// The command came too late or for a dialog that is gone: nothing was sent. Callers may ignore it, a `Gone` tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no such dialog")]
    NoDialog,
    #[error("not possible in the dialog's state")]
    WrongState,
    #[error("a header line has a bad name or a CR, LF or NUL in it")]
    BadHeader,
    #[error("not a SIP URI")]
    BadUri,
}

impl Endpoint {
    pub fn new(_config: EndpointConfig, _seed: [u8; 32]) -> Endpoint {
        todo!()
    }

    /// One datagram, or one framed message of a stream.
    pub fn receive(&mut self, _now: Time, _flow: Flow, _bytes: Bytes) {
        todo!()
    }

    pub fn poll(&mut self) -> Option<EndpointOutput> {
        todo!()
    }

    pub fn next_timeout(&self) -> Option<Time> {
        todo!()
    }

    pub fn handle_timeout(&mut self, _now: Time) {
        todo!()
    }

    /// 101-199 to an unanswered INVITE. Repeated every minute by the endpoint until the final answer (RFC 3261 13.3.1.1).
    pub fn provisional(&mut self, _now: Time, _d: DialogId, _status: u16, _headers: &[Header], _sdp: Option<Bytes>) -> Result<(), CommandError> {
        todo!()
    }

    /// 200 with SDP to an unanswered INVITE.
    pub fn answer(&mut self, _now: Time, _d: DialogId, _headers: &[Header], _sdp: Bytes) -> Result<(), CommandError> {
        todo!()
    }

    /// 300-699 to an unanswered INVITE. `reason`: our own phrase instead of the RFC's.
    pub fn reject(&mut self, _now: Time, _d: DialogId, _status: u16, _reason: Option<&str>, _headers: &[Header]) -> Result<(), CommandError> {
        todo!()
    }

    /// 200 to the pending `SipEvent::Offer`; `sdp` is `None` for an UPDATE without offer.
    pub fn accept_offer(&mut self, _now: Time, _d: DialogId, _sdp: Option<Bytes>) -> Result<(), CommandError> {
        todo!()
    }

    /// 488 (or another 4xx) to the pending `SipEvent::Offer`; the session goes on as it was.
    pub fn refuse_offer(&mut self, _now: Time, _d: DialogId, _status: u16) -> Result<(), CommandError> {
        todo!()
    }

    /// Send an INVITE. Ends in `Answered` or `Gone`.
    pub fn invite(&mut self, _now: Time, _invite: Invite) -> Result<DialogId, CommandError> {
        todo!()
    }

    /// CANCEL our unanswered INVITE (RFC 3261 9.1); a 2xx that crosses it is acknowledged and released by BYE.
    pub fn cancel(&mut self, _now: Time, _d: DialogId) -> Result<(), CommandError> {
        todo!()
    }

    /// BYE a confirmed dialog. Before our 2xx is acknowledged it waits for the ACK or its timeout (RFC 3261 15.1.1).
    pub fn bye(&mut self, _now: Time, _d: DialogId, _headers: &[Header]) -> Result<(), CommandError> {
        todo!()
    }

    /// Negotiated Session-Expires of a dialog (RFC 4028).
    pub fn session_expires(&self, _d: DialogId) -> Option<Duration> {
        todo!()
    }

    pub fn gauges(&self) -> Gauges {
        todo!()
    }
}
