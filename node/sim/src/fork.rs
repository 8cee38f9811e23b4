//! A forking proxy (RFC 3261 16.7) that is as little help as the RFC allows: it sends a call to several phones, passes on everything
//! that comes back, and cancels nobody when one has answered. So a caller gets several early dialogs, and perhaps two answers.
//!
//! It keeps no transactions: each branch is told by its number in our Via, and retransmissions just pass.

use bytes::Bytes;
use hookswitch_proto::sip::{Message, Method};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub(crate) struct Fork {
    pub address: SocketAddr,
    branches: Vec<SocketAddr>,
    /// Where a call came from, by Call-ID.
    callers: BTreeMap<String, Caller>,
}

struct Caller {
    from: SocketAddr,
    invite: Bytes,
    /// Final refusals so far, one a branch: the caller gets the last.
    refused: BTreeMap<usize, u16>,
    answered: bool,
}

impl Fork {
    pub fn new(address: SocketAddr, branches: Vec<SocketAddr>) -> Fork {
        Fork { address, branches, callers: BTreeMap::new() }
    }

    /// What it sends on.
    pub fn receive(&mut self, from: SocketAddr, bytes: &Bytes) -> Vec<(SocketAddr, Bytes)> {
        let Ok(message) = Message::parse(bytes.clone()) else { return Vec::new() };
        match (message.method(), message.status()) {
            (Some(Method::Ack), _) => Vec::new(),
            (Some(method), _) => self.request(from, &method.clone(), &message, bytes),
            (None, Some(status)) => self.response(status, &message, bytes),
            (None, None) => Vec::new(),
        }
    }

    fn request(&mut self, from: SocketAddr, method: &Method, message: &Message, bytes: &Bytes) -> Vec<(SocketAddr, Bytes)> {
        let call_id = message.call_id().to_owned();
        let mut out = Vec::new();
        if *method == Method::Invite {
            self.callers.entry(call_id).or_insert_with(|| Caller {
                from,
                invite: bytes.clone(),
                refused: BTreeMap::new(),
                answered: false,
            });
        } else {
            // RFC 3261 16.10: a stateful proxy answers the CANCEL itself.
            out.push((from, reply(message, 200, "OK")));
        }
        for (n, to) in self.branches.iter().enumerate() {
            let via = format!("Via: SIP/2.0/UDP {};branch={}\r\n", self.address, self.branch(n, message));
            let text = String::from_utf8_lossy(bytes);
            let Some((line, rest)) = text.split_once("\r\n") else { continue };
            // RFC 3261 16.6: the Request-URI is the branch's.
            let mut words = line.split(' ');
            let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let user = uri.split_once('@').map_or("sip:phone", |(user, _)| user);
            out.push((*to, Bytes::from(format!("{method} {user}@{to} SIP/2.0\r\n{via}{rest}"))));
        }
        out
    }

    fn response(&mut self, status: u16, message: &Message, bytes: &Bytes) -> Vec<(SocketAddr, Bytes)> {
        let own = message.headers("Via").first().cloned().unwrap_or_default();
        let Some(n) = own.split("-fork-").nth(1).and_then(|rest| rest.split([';', '-']).next()?.parse::<usize>().ok()) else {
            return Vec::new();
        };
        let Some(caller) = self.callers.get_mut(message.call_id()) else { return Vec::new() };
        // The CANCEL was ours to answer, and a 100 goes one hop.
        if *message.cseq_method() != Method::Invite || status == 100 {
            return Vec::new();
        }
        let passed = Bytes::from(without_first_via(bytes));
        if status < 300 {
            caller.answered |= status >= 200;
            return vec![(caller.from, passed)];
        }
        let mut out = Vec::new();
        if let (Some(to), Ok(invite)) = (self.branches.get(n), Message::parse(caller.invite.clone())) {
            out.push((*to, ack(&own, &invite, message, *to)));
        }
        caller.refused.insert(n, status);
        if !caller.answered && caller.refused.len() == self.branches.len() {
            out.push((caller.from, passed));
        }
        out
    }

    /// RFC 3261 16.6.8: the same for a request's retransmissions and its CANCEL, another for each phone.
    fn branch(&self, n: usize, message: &Message) -> String {
        let above = message.headers("Via").first().cloned().unwrap_or_default();
        let theirs = above.split("branch=").nth(1).and_then(|b| b.split([';', ',']).next()).unwrap_or_default().to_owned();
        format!("{theirs}-fork-{n}")
    }
}

fn without_first_via(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split_inclusive("\r\n").collect();
    let first = lines.iter().position(|line| line.starts_with("Via:"));
    lines.iter().enumerate().filter(|(i, _)| Some(*i) != first).map(|(_, line)| *line).collect()
}

/// RFC 3261 17.1.1.3: the ACK of a refusal goes hop by hop.
fn ack(via: &str, invite: &Message, response: &Message, to: SocketAddr) -> Bytes {
    let line = |message: &Message, name: &str| format!("{name}: {}\r\n", message.header(name).unwrap_or_default());
    Bytes::from(format!(
        "ACK sip:phone@{to} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n{}{}{}CSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
        line(invite, "From"),
        line(response, "To"),
        line(invite, "Call-ID"),
        invite.cseq()
    ))
}

fn reply(request: &Message, status: u16, phrase: &str) -> Bytes {
    let mut text = format!("SIP/2.0 {status} {phrase}\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in request.headers(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    Bytes::from(text)
}
