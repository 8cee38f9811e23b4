//! Scripted callees of the [`World`](super::world::World): what answers the INVITEs that the node sends.

use super::world::offer;
use hookswitch_proto::sip::{Flow, Message};
use std::fmt::Write as _;
use std::time::Duration;

/// What the phone of a user does. The default rings after 100 ms and answers after a second.
#[derive(Clone, Debug)]
pub struct Plan {
    /// After so long, this provisional; with SDP where the flag is set.
    pub provisional: Vec<(Duration, u16, bool)>,
    /// After so long, this final status. `None`: it rings until it is cancelled.
    pub last: Option<(Duration, u16)>,
    /// The SDP of its answer.
    pub sdp: String,
    /// Contacts of a 3xx.
    pub contacts: Vec<String>,
    /// Further header lines of its final response.
    pub extra: String,
    /// A second phone behind the same address answers too, so long after the first.
    pub fork: Option<Duration>,
    /// It answers although it was cancelled: its 200 was on the way.
    pub crosses_cancel: bool,
    /// What it says to a re-INVITE.
    pub reinvite: u16,
    /// It says so only when it is told to.
    pub slow_reinvite: bool,
    /// It says nothing at all, to nothing.
    pub deaf: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            provisional: vec![(Duration::from_millis(100), 180, false)],
            last: Some((Duration::from_secs(1), 200)),
            sdp: offer("sendrecv", true),
            contacts: Vec::new(),
            extra: String::new(),
            fork: None,
            crosses_cancel: false,
            reinvite: 200,
            slow_reinvite: false,
            deaf: false,
        }
    }
}

impl Plan {
    pub fn refuses(status: u16) -> Plan {
        Plan { last: Some((Duration::from_secs(1), status)), ..Plan::default() }
    }
    pub fn rings() -> Plan {
        Plan { last: None, ..Plan::default() }
    }
}

/// One call to it.
pub struct Callee {
    pub name: String,
    pub plan: Plan,
    pub flow: Flow,
    pub invite: Message,
    pub call_id: String,
    pub tag: String,
    pub cseq: u32,
    /// It has sent its final response, or was cancelled.
    pub finished: bool,
    pub acked: bool,
    pub over: bool,
    /// The re-INVITE that waits for its answer.
    pub asked: Option<Message>,
    /// SDP bodies of the node, the INVITE's first.
    pub heard: Vec<String>,
}

impl Callee {
    pub fn new(name: String, plan: Plan, flow: Flow, invite: Message, index: usize) -> Callee {
        let heard = vec![String::from_utf8_lossy(&invite.body()).into_owned()];
        let call_id = invite.call_id().to_owned();
        Callee {
            name,
            plan,
            flow,
            call_id,
            invite,
            tag: format!("b{index}"),
            cseq: 100,
            finished: false,
            acked: false,
            over: false,
            asked: None,
            heard,
        }
    }

    /// A response to any request of the node.
    pub fn response(&self, request: &Message, status: u16, tag: &str, extra: &str, sdp: Option<&str>) -> String {
        let mut text = format!("SIP/2.0 {status} X\r\n");
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        let to = request.header("To").unwrap_or_default();
        let tagged = if to.contains(";tag=") || status == 100 { to } else { format!("{to};tag={tag}") };
        let _ = write!(
            text,
            "To: {tagged}\r\nContact: <sip:{}@{}>\r\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE, INFO\r\n{extra}",
            self.name, self.flow.peer
        );
        let body = sdp.unwrap_or_default();
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
        text
    }

    /// A request of its own within the dialog.
    pub fn request(&mut self, method: &str, extra: &str, body: Option<(&str, &str)>) -> String {
        self.cseq += 1;
        let from = self.invite.header("To").unwrap_or_default();
        let to = self.invite.header("From").unwrap_or_default();
        let target = self.invite.name_addrs("Contact").first().map(|c| c.uri.to_string()).unwrap_or_default();
        let (content_type, body) = body.unwrap_or_default();
        let typed = if body.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK-{tag}-{method}-{cseq}\r\nMax-Forwards: 70\r\n\
             From: {from};tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{name}@{peer}>\r\n\
             {extra}{typed}Content-Length: {length}\r\n\r\n{body}",
            peer = self.flow.peer,
            name = self.name,
            cseq = self.cseq,
            tag = self.tag,
            call_id = self.call_id,
            length = body.len(),
        )
    }
}
