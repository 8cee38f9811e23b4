//! Requests from outside: to a transaction we have, into a dialog, or a new call. Then what the user says to a new call.
//!
//! Outside a dialog everything but an INVITE that becomes a call is answered without keeping state (RFC 3261 8.2.7), so that
//! scanners and floods cost no memory.

use super::call::{Call, Incoming, Phase, Unacked};
use super::*;
use crate::sip::dialog::Dialog;
use crate::sip::header;
use crate::sip::session_timer::{self, SessionTimer};
use crate::sip::write::{check_headers, is_one_line};

/// RFC 3261 13.3.1.1: proxies give a ringing call three minutes from the last provisional.
const PROVISIONAL_REPEAT: Duration = Duration::from_secs(60);

impl Endpoint {
    pub(super) fn on_request(&mut self, now: Time, flow: Flow, request: Message) {
        let Some(method) = request.method().cloned() else { return };
        let key = match method {
            Method::Ack => self.server_key(&request, &Method::Invite),
            ref other => self.server_key(&request, other),
        };
        if self.is_retransmission(now, key, &method) {
            return;
        }
        match method {
            Method::Ack => self.on_ack(now, &request),
            Method::Cancel => self.on_cancel(now, flow, &request),
            _ if request.tag_in_to().is_some() => self.on_request_within(now, flow, key, request, method),
            Method::Invite => self.on_invite(now, flow, key, request),
            _ => self.on_request_outside(flow, key, &request, method),
        }
    }

    /// True when a transaction has absorbed the request.
    fn is_retransmission(&mut self, now: Time, key: Key, method: &Method) -> bool {
        let Some(flow) = self.servers.get(&key).map(|tx| tx.flow) else { return false };
        let timing = self.timing(flow);
        let Some(tx) = self.servers.get_mut(&key) else { return false };
        let repeat = match &mut tx.machine {
            // The ACK for a 2xx has a branch of its own; some senders reuse the INVITE's all the same.
            ServerMachine::Invite(m) if *method == Method::Ack && m.is_accepted() => return false,
            ServerMachine::Invite(m) if *method == Method::Ack => {
                m.on_ack(now, &timing);
                false
            }
            ServerMachine::Invite(m) => m.on_invite(),
            ServerMachine::Other(m) => m.on_request(),
        };
        if repeat {
            let bytes = tx.response.clone();
            self.transmit(flow, bytes);
        }
        self.arm_server(now, key);
        true
    }

    /// Refuses without keeping state. A retransmission is judged again and gets the same answer.
    pub(super) fn refuse(&mut self, flow: Flow, key: Key, request: &Message, status: u16, extra: &[(&str, String)], why: Refusal) {
        let tag = self.tag_of(key);
        let bytes = self.plain_response(flow, request, status, Some(&tag), extra);
        self.transmit(flow, bytes);
        self.refused(flow, why);
    }

    /// A response without body.
    pub(super) fn plain_response(&self, flow: Flow, request: &Message, status: u16, tag: Option<&str>, extra: &[(&str, String)]) -> Bytes {
        let mut w = Writer::response(request, status, None, tag, &flow);
        for (name, value) in extra {
            w.line(name, value);
        }
        w.line("Server", &self.config.agent);
        w.finish(None)
    }

    fn on_request_outside(&mut self, flow: Flow, key: Key, request: &Message, method: Method) {
        match method {
            Method::Options => {
                if let Some((status, extra)) = objection(request) {
                    return self.refuse(flow, key, request, status, &extra, Refusal::Status(status));
                }
                // RFC 3261 11.2: as an INVITE would find us.
                let tag = self.tag_of(key);
                let extra =
                    [("Contact", self.contact(flow)), ("Allow", ALLOW.into()), ("Accept", SDP.into()), ("Supported", "timer".into())];
                let bytes = self.plain_response(flow, request, 200, Some(&tag), &extra);
                self.transmit(flow, bytes);
            }
            Method::Bye | Method::Update | Method::Info | Method::Prack | Method::Notify => {
                self.refuse(flow, key, request, 481, &[], Refusal::NoMatch)
            }
            Method::Other(_) => self.refuse(flow, key, request, 501, &[("Allow", ALLOW.into())], Refusal::Method(method)),
            _ => self.refuse(flow, key, request, 405, &[("Allow", ALLOW.into())], Refusal::Method(method)),
        }
    }

    fn on_invite(&mut self, now: Time, flow: Flow, key: Key, request: Message) {
        // RFC 3261 8.2.2.2: the same request by another way (a fork in front of us joined again).
        let from_tag = request.tag_in_from().unwrap_or(b"");
        let merge = self.key(&[b"merge", request.call_id().as_bytes(), from_tag, &request.cseq().to_le_bytes()]);
        if self.merges.contains_key(&merge) {
            return self.refuse(flow, key, &request, 482, &[], Refusal::Status(482));
        }
        // RFC 3261 8.2.1 to 8.2.3 in their order. Max-Forwards counts because a B2BUA can be part of a loop (RFC 7332).
        if let Some((status, extra)) = objection(&request).or_else(|| body_objection(&request)) {
            return self.refuse(flow, key, &request, status, &extra, Refusal::Status(status));
        }
        if request.raw(Name::MaxForwards).next().and_then(crate::sip::uri::number) == Some(0) {
            return self.refuse(flow, key, &request, 483, &[], Refusal::Status(483));
        }
        let Ok(agreed) = session_timer::negotiate(&request, self.config.min_se, self.config.session_expires) else {
            let min_se = self.config.min_se.as_secs().to_string();
            return self.refuse(flow, key, &request, 422, &[("Min-SE", min_se)], Refusal::Status(422));
        };
        let tag = self.tag_of(key);
        if self.by_dialog.contains_key(&self.dialog_key(request.call_id(), tag.as_bytes())) {
            // The very INVITE of a call that still goes on, long after its transaction ended.
            return self.refuse(flow, key, &request, 482, &[], Refusal::Status(482));
        }
        if self.is_full() {
            return self.refuse(flow, key, &request, 503, &[("Retry-After", "5".into())], Refusal::Overload);
        }
        let id = self.next_id();
        // Below 2^31 with room to count (RFC 3261 8.1.1.5).
        let local_seq = self.random.u32() >> 8;
        let dialog = Dialog::of_invite(&request, &tag, local_seq, flow);
        let request = Arc::new(request);
        let expires = request.raw(Name::Expires).next().and_then(header::seconds).filter(|e| !e.is_zero()).map(|e| now + e);
        let incoming = Incoming { request: request.clone(), transaction: key, agreed, repeat: None, expires };
        let mut call = Call::new(id, dialog, Phase::Incoming(Box::new(incoming)));
        call.peer_updates = request.lists(Name::Allow, "UPDATE");
        self.servers.insert(
            key,
            ServerTransaction {
                machine: ServerMachine::Invite(InviteServer::new()),
                flow,
                response: Bytes::new(),
                call: Some(id),
                merge: Some(merge),
                wake: None,
            },
        );
        self.merges.insert(merge, key);
        self.insert_call(now, call);
        let trying = self.trying(flow, &request);
        self.respond(now, key, 100, trying);
        self.tell(SipEvent::Invite { dialog: id, request, flow });
    }

    /// 100, without To-tag, with the INVITE's Timestamp (RFC 3261 8.2.6).
    pub(super) fn trying(&self, flow: Flow, request: &Message) -> Bytes {
        let mut w = Writer::response(request, 100, None, None, &flow);
        w.copy(request, Name::Timestamp, "Timestamp");
        w.finish(None)
    }

    fn on_cancel(&mut self, now: Time, flow: Flow, cancel: &Message) {
        let key = self.server_key(cancel, &Method::Invite);
        let Some(call) = self.servers.get(&key).map(|tx| tx.call) else {
            return self.refuse(flow, key, cancel, 481, &[], Refusal::NoMatch);
        };
        // RFC 3261 9.2: 200 in any case, with the tag of the INVITE's own response. Without state: a repeated CANCEL comes here again.
        let tag = self.tag_of(key);
        let bytes = self.plain_response(flow, cancel, 200, Some(&tag), &[]);
        self.transmit(flow, bytes);
        if let Some(id) = call {
            let reinvite = self.call(id).is_some_and(|c| c.offer.as_ref().is_some_and(|o| o.transaction == key));
            if reinvite {
                self.drop_offer(now, id);
            } else {
                self.terminate_incoming(now, id, Cause::Cancelled);
            }
        }
    }

    /// 487 to an INVITE that the user has not answered, and the end of its dialog. Nothing if it was answered before.
    pub(super) fn terminate_incoming(&mut self, now: Time, id: DialogId, cause: Cause) {
        let Some(Phase::Incoming(incoming)) = self.call(id).map(|c| &c.phase) else { return };
        let (key, request) = (incoming.transaction, incoming.request.clone());
        self.final_response(now, id, key, &request, 487, None, &[]);
        self.end(now, id, cause);
    }

    /// A 300-699 in its transaction.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the one response")]
    fn final_response(
        &mut self,
        now: Time,
        id: DialogId,
        key: Key,
        request: &Message,
        status: u16,
        reason: Option<&str>,
        headers: &[Header],
    ) -> bool {
        let Some(flow) = self.servers.get(&key).map(|tx| tx.flow) else { return false };
        let Some(tag) = self.call(id).map(|c| c.dialog.local_tag.clone()) else { return false };
        let mut w = Writer::response(request, status, reason, Some(&tag), &flow);
        self.agent_unless_given(&mut w, headers);
        w.lines(headers);
        let bytes = w.finish(None);
        self.respond(now, key, status, bytes)
    }

    pub(super) fn agent_unless_given(&self, w: &mut Writer, headers: &[Header]) {
        if !headers.iter().any(|h| h.name.eq_ignore_ascii_case("Server")) {
            w.line("Server", &self.config.agent);
        }
    }

    /// 101-199 to an unanswered INVITE. Repeated every minute by the endpoint until the final answer (RFC 3261 13.3.1.1).
    pub fn provisional(&mut self, now: Time, d: DialogId, status: u16, headers: &[Header], sdp: Option<Bytes>) -> Result<(), CommandError> {
        check_headers(headers)?;
        let call = self.call(d).ok_or(CommandError::NoDialog)?;
        let Phase::Incoming(incoming) = &call.phase else { return Err(CommandError::WrongState) };
        if !(101..200).contains(&status) {
            return Err(CommandError::WrongState);
        }
        let (key, flow) = (incoming.transaction, call.dialog.flow());
        let mut w = Writer::response(&incoming.request, status, None, Some(&call.dialog.local_tag), &flow);
        w.copy(&incoming.request, Name::RecordRoute, "Record-Route");
        self.contact_unless_given(&mut w, flow, headers);
        w.line("Allow", ALLOW);
        self.agent_unless_given(&mut w, headers);
        w.lines(headers);
        let bytes = w.finish(sdp.as_deref());
        self.respond(now, key, status, bytes);
        if let Some(Call { phase: Phase::Incoming(incoming), .. }) = self.call_mut(d) {
            incoming.repeat = Some(now + PROVISIONAL_REPEAT);
        }
        self.arm(now, d);
        Ok(())
    }

    pub(super) fn contact_unless_given(&self, w: &mut Writer, flow: Flow, headers: &[Header]) {
        if !headers.iter().any(|h| Name::of(h.name.as_bytes()) == Name::Contact) {
            w.line("Contact", self.contact(flow));
        }
    }

    /// 200 with SDP to an unanswered INVITE.
    pub fn answer(&mut self, now: Time, d: DialogId, headers: &[Header], sdp: Bytes) -> Result<(), CommandError> {
        check_headers(headers)?;
        let call = self.call(d).ok_or(CommandError::NoDialog)?;
        let Phase::Incoming(incoming) = &call.phase else { return Err(CommandError::WrongState) };
        let (key, request, agreed) = (incoming.transaction, incoming.request.clone(), incoming.agreed);
        let bytes = self.success(call, &request, call.dialog.flow(), agreed, headers, Some(&sdp));
        self.respond(now, key, 200, bytes.clone());
        let (t1, offered) = (self.config.t1, request.sdp().is_none());
        let Some(call) = self.call_mut(d) else { return Ok(()) };
        // From here on the request lives only where the user keeps it.
        call.phase = Phase::Established;
        call.session = agreed.map(|a| SessionTimer::start(now, a.interval, a.refresher == header::Refresher::Uas));
        call.local_sdp = Some(sdp);
        let flow = call.dialog.flow();
        call.unacked = Some(Unacked {
            cseq: request.cseq(),
            flow,
            response: bytes,
            next: now + t1,
            interval: t1,
            deadline: now + t1 * 64,
            initial: true,
            offered,
        });
        self.arm(now, d);
        Ok(())
    }

    /// A 200 to an INVITE, re-INVITE or UPDATE.
    pub(super) fn success(
        &self,
        call: &Call,
        request: &Message,
        flow: Flow,
        agreed: Option<session_timer::Agreed>,
        headers: &[Header],
        sdp: Option<&[u8]>,
    ) -> Bytes {
        let mut w = Writer::response(request, 200, None, Some(&call.dialog.local_tag), &flow);
        w.copy(request, Name::RecordRoute, "Record-Route");
        self.contact_unless_given(&mut w, flow, headers);
        w.line("Allow", ALLOW);
        w.line("Supported", "timer");
        if let Some(agreed) = agreed {
            w.line("Session-Expires", agreed.value());
            // RFC 4028 9: required where the peer refreshes; only a peer that knows the extension does.
            if agreed.refresher == header::Refresher::Uac && agreed.peer_supports {
                w.line("Require", "timer");
            }
        }
        self.agent_unless_given(&mut w, headers);
        w.lines(headers);
        w.finish(sdp)
    }

    /// 300-699 to an unanswered INVITE. `reason`: our own phrase instead of the RFC's.
    pub fn reject(&mut self, now: Time, d: DialogId, status: u16, reason: Option<&str>, headers: &[Header]) -> Result<(), CommandError> {
        check_headers(headers)?;
        if reason.is_some_and(|r| !is_one_line(r)) {
            return Err(CommandError::BadHeader);
        }
        let call = self.call(d).ok_or(CommandError::NoDialog)?;
        let Phase::Incoming(incoming) = &call.phase else { return Err(CommandError::WrongState) };
        if !(300..700).contains(&status) {
            return Err(CommandError::WrongState);
        }
        let (key, request) = (incoming.transaction, incoming.request.clone());
        self.final_response(now, d, key, &request, status, reason, headers);
        self.end(now, d, Cause::Local);
        Ok(())
    }
}

pub(super) const SDP: &str = "application/sdp";

/// What RFC 3261 8.2.2 finds wrong with a request before anybody looks at what it wants: scheme (416), extensions (420).
pub(super) fn objection(request: &Message) -> Option<(u16, Vec<(&'static str, String)>)> {
    let scheme = request.request_uri().map_or("", |u| u.scheme.as_str());
    if !matches!(scheme, "sip" | "sips" | "tel") {
        return Some((416, Vec::new()));
    }
    let unknown = request.items(Name::Require).filter(|r| !r.eq_ignore_ascii_case(b"timer"));
    let unknown: Vec<String> = unknown.map(|r| String::from_utf8_lossy(r).into_owned()).collect();
    (!unknown.is_empty()).then(|| (420, vec![("Unsupported", unknown.join(", "))]))
}

/// RFC 3261 8.2.3 and 21.4.7: a body that we cannot read, or an answer that the peer could not.
pub(super) fn body_objection(request: &Message) -> Option<(u16, Vec<(&'static str, String)>)> {
    let optional = request.raw(Name::ContentDisposition).next().is_some_and(|d| {
        let at = d.iter().position(|&b| b == b';').unwrap_or(d.len());
        let mut parameters = crate::sip::name_addr::parameters(d.get(at..).unwrap_or(b"")).flatten();
        parameters.any(|(n, v)| n.eq_ignore_ascii_case(b"handling") && v.is_some_and(|v| v.eq_ignore_ascii_case(b"optional")))
    });
    if !request.body().is_empty() && !optional {
        if request.items(Name::ContentEncoding).any(|e| !e.eq_ignore_ascii_case(b"identity")) {
            return Some((415, vec![("Accept-Encoding", "identity".into())]));
        }
        if request.content_type().is_some_and(|t| t != SDP) {
            return Some((415, vec![("Accept", SDP.into())]));
        }
    }
    let accepts = |item: &[u8]| {
        let range = item.split(|&b| b == b';').next().unwrap_or(item);
        let range = crate::sip::name_addr::trim(range);
        [SDP, "application/*", "*/*", "*"].iter().any(|r| range.eq_ignore_ascii_case(r.as_bytes()))
    };
    (request.has(Name::Accept) && !request.items(Name::Accept).any(accepts)).then(|| (406, Vec::new()))
}
