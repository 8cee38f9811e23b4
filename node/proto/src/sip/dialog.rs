//! A dialog (RFC 3261 12): identifiers, sequence numbers, remote target and route set; where its requests go and how they begin.
//!
//! It knows nothing of calls, offers or timers; `endpoint.rs` holds those around it.

use super::endpoint::{Flow, Transport};
use super::header::Name;
use super::message::{Message, Method};
use super::name_addr::{self, unfold};
use super::uri;
use super::write::Writer;
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    /// `None` until the peer named one; RFC 2543 peers never do.
    pub remote_tag: Option<Box<[u8]>>,
    /// Our From value, tag included. Bytes, because a display name may be in any character set.
    local: Box<[u8]>,
    /// Our To value, with the peer's tag once it is known.
    remote: Box<[u8]>,
    pub local_seq: u32,
    pub remote_seq: Option<u32>,
    target: String,
    route_set: Vec<String>,
    /// How the first request came, or went.
    flow: Flow,
    /// Of our requests. A call that is passed on counts down.
    pub max_forwards: u8,
    /// The peer is right behind the flow and names an address that we cannot reach (NAT), or a connection: stay on the flow.
    pinned: bool,
}

impl Dialog {
    /// As UAS, from the INVITE (RFC 3261 12.1.1).
    pub fn of_invite(invite: &Message, local_tag: &str, local_seq: u32, flow: Flow) -> Dialog {
        let remote: Box<[u8]> = invite.raw(Name::From).next().map(unfold).unwrap_or_default().into();
        let mut local = invite.raw(Name::To).next().map(unfold).unwrap_or_default().into_owned();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(local_tag.as_bytes());
        // An RFC 2543 caller may come without a Contact (RFC 4475 `inv2543`): its From is the only address it gave.
        let from_uri = name_addr::scan(&remote).and_then(|f| std::str::from_utf8(f.uri).ok()).map(without_headers);
        let target = invite.contact_uri().map(without_headers).or(from_uri).unwrap_or_default();
        let direct = invite.items(Name::Via).nth(1).is_none() && !invite.has(Name::RecordRoute);
        let sent_by = invite.top_via().and_then(|v| std::str::from_utf8(v.host).ok()?.parse::<IpAddr>().ok());
        let behind_nat = sent_by.is_some_and(|ip| ip != flow.peer.ip().to_canonical());
        Dialog {
            call_id: invite.call_id().to_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: invite.tag_in_from().map(Into::into),
            local: local.into(),
            remote,
            local_seq,
            remote_seq: Some(invite.cseq()),
            target,
            route_set: route_set(invite),
            flow,
            max_forwards: 70,
            pinned: direct && (behind_nat || flow.transport == Transport::Tcp),
        }
    }

    /// As UAC, before anybody answered. `to` has no tag yet.
    pub fn to_be(call_id: String, local_tag: String, from: &str, to: &str, target: &str, local_seq: u32, flow: Flow) -> Dialog {
        Dialog {
            local: format!("{from};tag={local_tag}").into_bytes().into(),
            remote: to.as_bytes().into(),
            call_id,
            local_tag,
            remote_tag: None,
            local_seq,
            remote_seq: None,
            target: without_headers(target),
            route_set: Vec::new(),
            flow,
            max_forwards: 70,
            pinned: flow.transport == Transport::Tcp,
        }
    }

    /// As UAC again, from the INVITE that we sent: for a fork whose 2xx nobody waits for.
    pub fn of_own_invite(invite: &Message, flow: Flow) -> Option<Dialog> {
        Some(Dialog {
            call_id: invite.call_id().to_owned(),
            local_tag: String::from_utf8_lossy(invite.tag_in_from()?).into_owned(),
            remote_tag: None,
            local: invite.raw(Name::From).next()?.into(),
            remote: invite.raw(Name::To).next()?.into(),
            local_seq: invite.cseq(),
            remote_seq: None,
            target: invite.request_uri_text()?.to_owned(),
            route_set: Vec::new(),
            flow,
            max_forwards: 70,
            pinned: flow.transport == Transport::Tcp,
        })
    }

    /// A 2xx to our INVITE makes it a dialog (RFC 3261 12.1.2, 13.2.2.4): its tag, target and reversed Record-Route.
    pub fn establish(&mut self, response: &Message) {
        self.remote_tag = response.tag_in_to().map(Into::into);
        // Other forks may have counted on their own while we were ringing.
        self.remote_seq = None;
        if let Some(to) = response.raw(Name::To).next() {
            self.remote = unfold(to).into();
        }
        self.route_set = route_set(response);
        self.route_set.reverse();
        self.refresh_target(response);
        self.pinned &= self.route_set.is_empty();
    }

    /// Target refresh requests and their 2xx move the remote target, never the route set (RFC 3261 12.2).
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(contact) = message.contact_uri() {
            self.target = without_headers(contact);
        }
    }

    /// The peer's requests come by another flow now (a NAT forgot the old one): ours follow, where they kept to it.
    pub fn follow(&mut self, flow: Flow) {
        if self.pinned {
            self.flow = flow;
        }
    }

    pub fn has_remote_tag(&self, tag: Option<&[u8]>) -> bool {
        self.remote_tag.as_deref() == tag
    }

    /// The start of a request within the dialog (RFC 3261 12.2.1.1), up to CSeq.
    pub fn request(&self, method: &Method, seq: u32, via: &str) -> Writer {
        let strict = self.route_set.first().filter(|r| !is_loose(r));
        let (uri, routes, last) = match strict {
            // A strict router wants itself in the Request-URI, and the target at the end of the Route.
            Some(first) => (route_uri(first), self.route_set.get(1..).unwrap_or(&[]), Some(&self.target)),
            None => (self.target.as_str(), self.route_set.as_slice(), None),
        };
        let mut w = Writer::request(method.as_str(), uri);
        w.line("Via", via);
        for route in routes {
            w.line("Route", route);
        }
        if let Some(target) = last {
            w.line("Route", format!("<{target}>"));
        }
        w.line("Max-Forwards", self.max_forwards.to_string());
        w.line("From", &self.local);
        w.line("To", &self.remote);
        w.line("Call-ID", &self.call_id);
        w.line("CSeq", format!("{seq} {method}"));
        w
    }

    /// Where the next request goes: the first route, else the target, where its host is an address; names are the shell's to
    /// resolve when a call is set up, so that within a dialog they mean the flow it came by.
    pub fn next_hop(&self, bound: impl Fn(Transport) -> Option<SocketAddr>) -> Flow {
        if self.pinned {
            return self.flow;
        }
        let hop = self.route_set.first().map_or(self.target.as_str(), |r| route_uri(r));
        let Some(raw) = uri::scan(hop.as_bytes()).filter(uri::RawUri::is_sip) else { return self.flow };
        let maddr = raw.parameter("maddr").and_then(|m| m.parse::<IpAddr>().ok());
        let host = std::str::from_utf8(raw.host).ok().and_then(|h| h.parse::<IpAddr>().ok());
        let Some(ip) = maddr.or(host).filter(|ip| ip.is_ipv4() == self.flow.peer.is_ipv4()) else { return self.flow };
        let transport = match raw.parameter("transport") {
            Some(t) if t.eq_ignore_ascii_case("tcp") => Transport::Tcp,
            Some(t) if t.eq_ignore_ascii_case("udp") => Transport::Udp,
            _ => self.flow.transport,
        };
        let local = if transport == self.flow.transport { Some(self.flow.local) } else { bound(transport) };
        match local {
            Some(local) => Flow { transport, local, peer: SocketAddr::new(ip, raw.port.unwrap_or(5060)) },
            None => self.flow,
        }
    }

    /// The peer's URI, as its last Contact gave it.
    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn flow(&self) -> Flow {
        self.flow
    }
}

fn route_set(message: &Message) -> Vec<String> {
    let routes = message.items(Name::RecordRoute).filter(|r| name_addr::scan(r).is_some());
    routes.map(|r| String::from_utf8_lossy(&unfold(r)).into_owned()).collect()
}

fn route_uri(route: &str) -> &str {
    name_addr::scan(route.as_bytes()).and_then(|r| std::str::from_utf8(r.uri).ok()).unwrap_or(route)
}

fn is_loose(route: &str) -> bool {
    uri::scan(route_uri(route).as_bytes()).is_some_and(|u| u.has_parameter("lr"))
}

/// A Request-URI has no `?headers` (RFC 3261 19.1.1).
pub(crate) fn without_headers(text: &str) -> String {
    let cut = uri::scan(text.as_bytes()).and_then(|u| u.headers).map_or(0, |h| h.len() + 1);
    text.get(..text.len().saturating_sub(cut)).unwrap_or(text).to_owned()
}
