//! What the endpoint remembers of one dialog between two messages. No behaviour but its deadlines.

use super::{DialogId, Flow, Header, Key, Method};
use crate::sip::dialog::Dialog;
use crate::sip::message::Message;
use crate::sip::session_timer::{Agreed, SessionTimer};
use crate::time::Time;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Call {
    pub id: DialogId,
    pub dialog: Dialog,
    pub phase: Phase,
    /// A 2xx of ours to an INVITE or re-INVITE that waits for its ACK.
    pub unacked: Option<Unacked>,
    /// The peer's re-INVITE or UPDATE that waits for the user.
    pub offer: Option<Offer>,
    /// Our session refresh that waits for its answer.
    pub refreshing: bool,
    /// Our own offer, until its answer.
    pub offering: Option<Offering>,
    /// Our REFER, until the peer's other call is decided.
    pub referring: Option<Referring>,
    /// The dialog's Call-ID is ours, which decides who waits longer after crossing offers (RFC 3261 14.1).
    pub caller: bool,
    /// BYE was asked for while our 2xx waited for its ACK.
    pub bye: Option<Vec<Header>>,
    pub session: Option<SessionTimer>,
    /// The peer's Allow listed UPDATE.
    pub peer_updates: bool,
    /// What we last said about our media: a re-INVITE that only refreshes repeats it.
    pub local_sdp: Option<Bytes>,
    pub wake: Option<Time>,
}

pub(super) enum Phase {
    /// The peer's INVITE, not answered yet.
    Incoming(Box<Incoming>),
    /// Our INVITE, not answered yet.
    Outgoing(Box<Outgoing>),
    Established,
    /// Our BYE waits for its answer.
    Ending,
}

pub(super) struct Incoming {
    pub request: Arc<Message>,
    pub transaction: Key,
    pub agreed: Option<Agreed>,
    /// When the provisional is repeated (RFC 3261 13.3.1.1).
    pub repeat: Option<Time>,
    /// The INVITE's Expires (RFC 3261 13.3.1).
    pub expires: Option<Time>,
}

pub(super) struct Outgoing {
    pub transaction: Key,
    pub cancel: Cancel,
    /// Tags of the forks that answered provisionally: requests may come from them.
    pub early: Vec<Box<[u8]>>,
    /// When we stop waiting: for an end to the ringing, or for a final response after CANCEL.
    pub give_up: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// Asked for, but RFC 3261 9.1 wants a provisional first.
    Wanted,
    Sent,
}

pub(super) struct Unacked {
    pub cseq: u32,
    pub flow: Flow,
    pub response: Bytes,
    /// RFC 3261 13.3.1.4: again after T1, doubling to T2, until 64*T1.
    pub next: Time,
    pub interval: Duration,
    pub deadline: Time,
    /// The INVITE that made the dialog, not a later one.
    pub initial: bool,
    /// The 2xx carried our offer, so that the ACK carries the answer.
    pub offered: bool,
}

pub(super) struct Offer {
    pub transaction: Key,
    pub method: Method,
    pub request: Arc<Message>,
    pub agreed: Option<Agreed>,
}

/// An offer of ours within the dialog.
pub(super) struct Offering {
    pub sdp: Bytes,
    /// When it is sent (again); `None` while its re-INVITE is out.
    pub due: Option<Time>,
    /// How often it was refused because the two sides' offers crossed.
    pub crossed: u8,
}

pub(super) struct Referring {
    /// Of the REFER.
    pub cseq: u32,
    /// When the peer has been silent for too long; `None` while the REFER itself is unanswered.
    pub until: Option<Time>,
}

impl Call {
    /// A re-INVITE or UPDATE of ours waits for its answer.
    pub fn asks(&self) -> bool {
        self.refreshing || self.offering.as_ref().is_some_and(|o| o.due.is_none())
    }

    pub fn new(id: DialogId, dialog: Dialog, phase: Phase) -> Call {
        Call {
            id,
            dialog,
            phase,
            unacked: None,
            offer: None,
            refreshing: false,
            offering: None,
            referring: None,
            caller: false,
            bye: None,
            session: None,
            peer_updates: false,
            local_sdp: None,
            wake: None,
        }
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let phase = match &self.phase {
            Phase::Incoming(i) => i.repeat.into_iter().chain(i.expires).min(),
            Phase::Outgoing(o) => o.give_up,
            Phase::Established | Phase::Ending => None,
        };
        let unacked = self.unacked.as_ref().map(|u| u.next.min(u.deadline));
        let session = self.session.as_ref().map(SessionTimer::next_timeout);
        let offering = self.offering.as_ref().and_then(|o| o.due);
        let referring = self.referring.as_ref().and_then(|r| r.until);
        [phase, unacked, session, offering, referring].into_iter().flatten().min()
    }
}
