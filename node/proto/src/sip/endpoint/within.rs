//! Requests of the peer within a dialog, the user's answers to its offers, and what the clock does to a call.

use super::call::{Call, Offer, Phase, Unacked};
use super::uas::{SDP, body_objection, objection};
use super::*;
use crate::sip::header::Refresher;
use crate::sip::session_timer::{self, SessionTimer};

impl Endpoint {
    /// The dialog of a message by Call-ID and both tags (RFC 3261 12.2.2). `local` and `remote` are the tags as we see them.
    pub(super) fn find_call(&self, call_id: &str, local: Option<&[u8]>, remote: Option<&[u8]>) -> Option<&Call> {
        let id = *self.by_dialog.get(&self.dialog_key(call_id, local?))?;
        let call = self.call(id)?;
        let same = call.dialog.call_id == call_id && Some(call.dialog.local_tag.as_bytes()) == local;
        let remote_matches = match &call.phase {
            Phase::Outgoing(o) => remote.is_some_and(|r| o.early.iter().any(|e| **e == *r)),
            _ => call.dialog.has_remote_tag(remote),
        };
        (same && remote_matches).then_some(call)
    }

    pub(super) fn on_ack(&mut self, now: Time, ack: &Message) {
        // An ACK is never answered: one that nobody waits for is dropped.
        let Some(call) = self.find_call(ack.call_id(), ack.tag_in_to(), ack.tag_in_from()) else { return };
        let id = call.id;
        let Some(call) = self.call_mut(id) else { return };
        let Some(unacked) = call.unacked.take_if(|u| u.cseq == ack.cseq()) else { return };
        let sdp = ack.sdp();
        if unacked.initial || (unacked.offered && sdp.is_some()) {
            self.tell(SipEvent::Confirmed { dialog: id, sdp });
        }
        self.send_waiting_bye(now, id);
        self.arm(now, id);
    }

    fn send_waiting_bye(&mut self, now: Time, id: DialogId) {
        if let Some(headers) = self.call_mut(id).and_then(|c| c.bye.take()) {
            self.send_bye(now, id, &headers, true);
        }
    }

    pub(super) fn on_request_within(&mut self, now: Time, flow: Flow, key: Key, request: Message, method: Method) {
        let Some(call) = self.find_call(request.call_id(), request.tag_in_to(), request.tag_in_from()) else {
            return self.refuse(flow, key, &request, 481, &[], Refusal::NoMatch);
        };
        let (id, seen) = (call.id, call.dialog.remote_seq);
        // Requests of calls that go on have a quarter more room than new calls, so that a flood of these cannot keep a BYE out.
        if self.servers.len() + self.clients.len() >= limits::SIP_TRANSACTIONS / 4 * 5 {
            return self.refuse(flow, key, &request, 503, &[("Retry-After", "5".into())], Refusal::Overload);
        }
        let machine = match method {
            Method::Invite => ServerMachine::Invite(InviteServer::new()),
            _ => ServerMachine::Other(Server::new()),
        };
        let tx = ServerTransaction { machine, flow, response: Bytes::new(), call: Some(id), merge: None, wake: None };
        self.servers.insert(key, tx);
        // RFC 3261 12.2.2: a number that is not higher is out of order. An equal one is another request, not a retransmission, which
        // its transaction would have absorbed.
        if seen.is_some_and(|seen| request.cseq() <= seen) {
            self.answer_within(now, flow, key, &request, 500, &[]);
            return self.refused(flow, Refusal::Status(500));
        }
        if let Some(call) = self.call_mut(id) {
            call.dialog.remote_seq = Some(request.cseq());
        }
        if let Some((status, extra)) = objection(&request) {
            self.answer_within(now, flow, key, &request, status, &extra);
            return self.refused(flow, Refusal::Status(status));
        }
        match method {
            Method::Bye => self.on_bye(now, flow, key, id, &request),
            Method::Invite | Method::Update => self.on_offer(now, flow, key, id, request, method),
            Method::Info if self.is_ending(id) => self.answer_within(now, flow, key, &request, 481, &[]),
            Method::Info => {
                self.answer_within(now, flow, key, &request, 200, &[]);
                self.tell(SipEvent::Info { dialog: id, request: Arc::new(request) });
            }
            Method::Options => {
                let extra = [("Allow", ALLOW.into()), ("Accept", SDP.into()), ("Supported", "timer".into())];
                self.answer_within(now, flow, key, &request, 200, &extra);
            }
            Method::Notify => self.on_notify(now, flow, key, id, &request),
            // REFER above all: nobody transfers a call of ours by asking for it.
            other => {
                let status = if matches!(other, Method::Other(_)) { 501 } else { 405 };
                self.answer_within(now, flow, key, &request, status, &[("Allow", ALLOW.into())]);
                self.refused(flow, Refusal::Method(other));
            }
        }
    }

    fn is_ending(&self, id: DialogId) -> bool {
        self.call(id).is_none_or(|c| matches!(c.phase, Phase::Ending))
    }

    pub(super) fn answer_within(&mut self, now: Time, flow: Flow, key: Key, request: &Message, status: u16, extra: &[(&str, String)]) {
        let bytes = self.plain_response(flow, request, status, None, extra);
        self.respond(now, key, status, bytes);
    }

    fn on_bye(&mut self, now: Time, flow: Flow, key: Key, id: DialogId, request: &Message) {
        let Some(call) = self.call(id) else { return };
        if matches!(call.phase, Phase::Outgoing(_)) {
            // RFC 3261 15: the callee must not send BYE on an early dialog.
            return self.answer_within(now, flow, key, request, 481, &[]);
        }
        let crossing = matches!(call.phase, Phase::Ending);
        self.answer_within(now, flow, key, request, 200, &[]);
        let cause = if crossing { Cause::Local } else { Cause::Bye { reason: request.header("Reason") } };
        // RFC 3261 15.1.2: what is still pending is answered 487.
        self.terminate_incoming(now, id, cause.clone());
        self.end(now, id, cause);
    }

    /// re-INVITE (RFC 3261 14.2) or UPDATE (RFC 3311 5.2).
    fn on_offer(&mut self, now: Time, flow: Flow, key: Key, id: DialogId, request: Message, method: Method) {
        let Some(call) = self.call(id) else { return };
        let sdp = request.sdp();
        let invite = method == Method::Invite;
        let early = matches!(call.phase, Phase::Incoming(_) | Phase::Outgoing(_));
        let our_offer_is_open = call.unacked.as_ref().is_some_and(|u| u.offered);
        // RFC 5407 3.1.5: a re-INVITE that overtakes the ACK finds us in between.
        let unacked = call.unacked.is_some();
        let status = if matches!(call.phase, Phase::Ending) {
            481
        } else if call.offer.is_some() || (early && (invite || sdp.is_some())) {
            500
        } else if (invite && (unacked || call.asks())) || (sdp.is_some() && (our_offer_is_open || call.asks())) {
            491
        } else {
            0
        };
        if status != 0 {
            let wait = [("Retry-After", (self.random.u32() % 11).to_string())];
            let extra: &[(&str, String)] = if status == 500 { &wait } else { &[] };
            self.answer_within(now, flow, key, &request, status, extra);
            return self.refused(flow, Refusal::Status(status));
        }
        if let Some((status, extra)) = body_objection(&request) {
            self.answer_within(now, flow, key, &request, status, &extra);
            return self.refused(flow, Refusal::Status(status));
        }
        let Ok(agreed) = session_timer::negotiate(&request, self.config.min_se, None) else {
            let min_se = self.config.min_se.as_secs().to_string();
            self.answer_within(now, flow, key, &request, 422, &[("Min-SE", min_se)]);
            return self.refused(flow, Refusal::Status(422));
        };
        if invite {
            let trying = self.trying(flow, &request);
            self.respond(now, key, 100, trying);
        }
        let request = Arc::new(request);
        let Some(call) = self.call_mut(id) else { return };
        call.offer = Some(Offer { transaction: key, method: method.clone(), request, agreed });
        if early {
            // An UPDATE without offer before the call is answered: only the target and the timer change, nobody needs to decide.
            let _ = self.accept_offer(now, id, None);
        } else {
            self.tell(SipEvent::Offer { dialog: id, method, sdp });
        }
    }

    /// 200 to the pending `SipEvent::Offer`; `sdp` is `None` for an UPDATE without offer.
    pub fn accept_offer(&mut self, now: Time, d: DialogId, sdp: Option<Bytes>) -> Result<(), CommandError> {
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        let offer = call.offer.take().ok_or(CommandError::WrongState)?;
        let Some(flow) = self.servers.get(&offer.transaction).map(|tx| tx.flow) else { return Err(CommandError::WrongState) };
        let Some(call) = self.call_mut(d) else { return Err(CommandError::NoDialog) };
        call.dialog.refresh_target(&offer.request);
        call.dialog.follow(flow);
        if offer.request.has(Name::Allow) {
            call.peer_updates = offer.request.lists(Name::Allow, "UPDATE");
        }
        if matches!(call.phase, Phase::Established) {
            // RFC 4028 7.2: a refresh without Session-Expires turns the timer off.
            call.session = offer.agreed.map(|a| SessionTimer::start(now, a.interval, a.refresher == Refresher::Uas));
        }
        if sdp.is_some() {
            call.local_sdp.clone_from(&sdp);
        }
        let Some(call) = self.call(d) else { return Ok(()) };
        let bytes = self.success(call, &offer.request, flow, offer.agreed, &[], sdp.as_deref());
        self.respond(now, offer.transaction, 200, bytes.clone());
        let t1 = self.config.t1;
        if let Some(call) = self.call_mut(d).filter(|_| offer.method == Method::Invite) {
            call.unacked = Some(Unacked {
                cseq: offer.request.cseq(),
                flow,
                response: bytes,
                next: now + t1,
                interval: t1,
                deadline: now + t1 * 64,
                initial: false,
                offered: offer.request.sdp().is_none(),
            });
        }
        self.arm(now, d);
        Ok(())
    }

    /// 488 (or another 4xx) to the pending `SipEvent::Offer`; the session goes on as it was.
    pub fn refuse_offer(&mut self, now: Time, d: DialogId, status: u16) -> Result<(), CommandError> {
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        if !(300..700).contains(&status) {
            return Err(CommandError::WrongState);
        }
        let offer = call.offer.take().ok_or(CommandError::WrongState)?;
        if let Some(flow) = self.servers.get(&offer.transaction).map(|tx| tx.flow) {
            self.answer_within(now, flow, offer.transaction, &offer.request, status, &[]);
        }
        Ok(())
    }

    /// The user will not answer it any more: 487 (RFC 3261 15.1.2, 9.2).
    pub(super) fn drop_offer(&mut self, now: Time, id: DialogId) {
        let Some(offer) = self.call_mut(id).and_then(|c| c.offer.take()) else { return };
        if let Some(flow) = self.servers.get(&offer.transaction).map(|tx| tx.flow) {
            self.answer_within(now, flow, offer.transaction, &offer.request, 487, &[]);
        }
    }

    /// BYE a confirmed dialog. Before our 2xx is acknowledged it waits for the ACK or its timeout (RFC 3261 15.1.1).
    pub fn bye(&mut self, now: Time, d: DialogId, headers: &[Header]) -> Result<(), CommandError> {
        crate::sip::write::check_headers(headers)?;
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        if !matches!(call.phase, Phase::Established) {
            return Err(CommandError::WrongState);
        }
        if call.unacked.is_some() {
            if call.bye.is_some() {
                return Err(CommandError::WrongState);
            }
            call.bye = Some(headers.to_vec());
            return Ok(());
        }
        self.send_bye(now, d, headers, true);
        Ok(())
    }

    /// With `wait` the dialog lasts until the BYE is answered; without, its end is told by the caller.
    pub(super) fn send_bye(&mut self, now: Time, id: DialogId, headers: &[Header], wait: bool) {
        self.drop_offer(now, id);
        let purpose = Purpose::Bye(wait.then_some(id));
        if let Some(mut w) = self.request_within(id, &Method::Bye) {
            w.writer.lines(headers);
            let agent = self.config.agent.clone();
            w.writer.line("User-Agent", agent);
            self.start(now, (&w.branch, &Method::Bye, w.cseq), w.flow, w.writer.finish(None), purpose);
        }
        if let Some(call) = self.call_mut(id) {
            call.phase = Phase::Ending;
            call.session = None;
            call.unacked = None;
            call.offering = None;
            call.referring = None;
        }
    }

    /// The start of our next request in a dialog.
    pub(super) fn request_within(&mut self, id: DialogId, method: &Method) -> Option<Begun> {
        let flow = self.call(id)?.dialog.next_hop(self.bound());
        let (via, branch) = self.via(flow);
        let dialog = &mut self.call_mut(id)?.dialog;
        dialog.local_seq += 1;
        Some(Begun { writer: dialog.request(method, dialog.local_seq, &via), cseq: dialog.local_seq, branch, flow })
    }

    pub(super) fn on_call_timeout(&mut self, now: Time, at: Time, id: DialogId) {
        let t2 = self.config.t2;
        let Some(call) = self.call_mut(id).filter(|c| c.wake == Some(at)) else { return };
        call.wake = None;
        let due = |t: Option<Time>| t.is_some_and(|t| t <= now);
        let unacked = call.unacked.as_ref().map(|u| (u.deadline, u.next, u.initial));
        match &mut call.phase {
            Phase::Incoming(incoming) if due(incoming.expires) => {
                self.terminate_incoming(now, id, Cause::Cancelled);
            }
            Phase::Incoming(incoming) if due(incoming.repeat) => {
                incoming.repeat = Some(now + Duration::from_secs(60));
                let key = incoming.transaction;
                if let Some((flow, bytes)) = self.servers.get(&key).map(|tx| (tx.flow, tx.response.clone())) {
                    self.transmit(flow, bytes);
                }
            }
            Phase::Outgoing(outgoing) if due(outgoing.give_up) => self.on_ring_timeout(now, id),
            _ if due(unacked.map(|u| u.0)) => {
                // RFC 3261 13.3.1.4: no ACK in 64*T1: the dialog is confirmed, and ended.
                let waiting = call.bye.take();
                let cause = if waiting.is_some() { Cause::Local } else { Cause::NoAck };
                self.send_bye(now, id, &waiting.unwrap_or_default(), false);
                self.end(now, id, cause);
            }
            _ if due(unacked.map(|u| u.1)) => {
                if let Some(u) = &mut call.unacked {
                    u.interval = (u.interval * 2).min(t2);
                    u.next = now + u.interval;
                    let (flow, bytes) = (u.flow, u.response.clone());
                    self.transmit(flow, bytes);
                }
            }
            _ if due(call.session.map(|s| s.expires)) => {
                self.send_bye(now, id, &[], false);
                self.end(now, id, Cause::SessionExpired);
            }
            _ if due(call.offering.as_ref().and_then(|o| o.due)) => self.send_offer(now, id),
            _ if due(call.referring.as_ref().and_then(|r| r.until)) => self.on_refer_silence(now, id),
            _ if due(call.session.and_then(|s| s.refresh)) => self.refresh_session(now, id),
            _ => {}
        }
        self.arm(now, id);
    }
}

/// A request that has its start line and dialog headers.
pub(super) struct Begun {
    pub writer: Writer,
    pub cseq: u32,
    pub branch: String,
    pub flow: Flow,
}
