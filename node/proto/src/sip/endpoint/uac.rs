//! Our own calls: INVITE, what comes back (also from several forks), CANCEL, and the refreshing of sessions.

use super::call::{Call, Cancel, Offering, Outgoing, Phase};
use super::within::Begun;
use super::*;
use crate::sip::dialog::{Dialog, without_headers};
use crate::sip::header::{self, Refresher};
use crate::sip::name_addr;
use crate::sip::session_timer::SessionTimer;
use crate::sip::transaction::invite_client::Answered;
use crate::sip::uri;
use crate::sip::write::{ack_for, cancel_for, check_headers};

/// How long a callee may ring since its last provisional: proxies must wait three minutes (RFC 3261 16.6 timer C), which they
/// prolong by a provisional a minute. A peer that died while ringing would hold the call for ever.
const RING: Duration = Duration::from_secs(240);
/// How long an offer of ours waits for another exchange in its dialog before it looks again.
const OFFER_WAIT: Duration = Duration::from_millis(50);
/// How often an offer that crossed the peer's is repeated. Two sides that keep crossing have more than a race between them.
const OFFERS_CROSSED: u8 = 5;
/// Contacts of a 3xx that are looked at.
const CONTACTS: usize = 16;
/// Forks of one INVITE that are remembered. More 2xx than these are not even acknowledged; their phones give up by themselves.
const FORKS: usize = 8;

impl Endpoint {
    /// Send an INVITE. Ends in `Answered` or `Gone`. A Max-Forwards among its headers takes the place of 70: who passes a call on counts
    /// down, so that calls in a circle end (RFC 3261 16.3).
    ///
    /// Give it an offer: a 2xx is acknowledged at once and the ACK carries no answer.
    pub fn invite(&mut self, now: Time, invite: Invite) -> Result<DialogId, CommandError> {
        check_headers(&invite.headers)?;
        let is_hops = |h: &Header| h.name.eq_ignore_ascii_case("Max-Forwards");
        let hops = invite.headers.iter().find(|h| is_hops(h)).and_then(|h| h.value.parse().ok());
        let headers: Vec<Header> = invite.headers.into_iter().filter(|h| !is_hops(h)).collect();
        let good_uri = |t: &str| uri::scan(t.as_bytes()).is_some_and(|u| u.is_sip() || u.is_tel());
        if !good_uri(&invite.target) {
            return Err(CommandError::BadUri);
        }
        let target = without_headers(&invite.target);
        let to = invite.to.unwrap_or_else(|| format!("<{target}>"));
        let untagged = |t: &str| {
            let one_line = crate::sip::write::is_one_line(t);
            one_line && name_addr::scan(t.as_bytes()).is_some_and(|n| n.parameter("tag").is_none())
        };
        if !untagged(&invite.from) || !untagged(&to) {
            return Err(CommandError::BadUri);
        }
        if self.is_full() {
            return Err(CommandError::Overload);
        }
        let id = self.next_id();
        let (call_id, tag, seq) = (self.random.token(24), self.random.token(16), self.random.u32() >> 16);
        let mut dialog = Dialog::to_be(call_id, tag, &invite.from, &to, &target, seq, invite.flow);
        dialog.max_forwards = hops.unwrap_or(dialog.max_forwards);
        let (via, branch) = self.via(invite.flow);
        let mut w = dialog.request(&Method::Invite, seq, &via);
        self.capabilities(&mut w, invite.flow, &headers);
        if let Some(interval) = self.config.session_expires {
            w.line("Session-Expires", interval.max(self.config.min_se).as_secs().to_string());
            w.line("Min-SE", self.config.min_se.as_secs().to_string());
        }
        w.lines(&headers);
        let bytes = w.finish(invite.sdp.as_deref());
        let transaction = self.client_key(branch.as_bytes(), &Method::Invite);
        let outgoing = Outgoing { transaction, cancel: Cancel::No, early: Vec::new(), give_up: None };
        let mut call = Call::new(id, dialog, Phase::Outgoing(Box::new(outgoing)));
        call.local_sdp = invite.sdp;
        call.caller = true;
        self.insert_call(now, call);
        self.start(now, (&branch, &Method::Invite, seq), invite.flow, bytes, Purpose::Invite(id));
        Ok(id)
    }

    /// Contact, Allow, Supported and User-Agent for a request that makes or changes a session.
    pub(super) fn capabilities(&self, w: &mut Writer, flow: Flow, headers: &[Header]) {
        self.contact_unless_given(w, flow, headers);
        w.line("Allow", ALLOW);
        w.line("Supported", "timer");
        if !headers.iter().any(|h| h.name.eq_ignore_ascii_case("User-Agent")) {
            w.line("User-Agent", &self.config.agent);
        }
    }

    /// CANCEL our unanswered INVITE (RFC 3261 9.1); a 2xx that crosses it is acknowledged and released by BYE.
    pub fn cancel(&mut self, now: Time, d: DialogId) -> Result<(), CommandError> {
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        let Phase::Outgoing(outgoing) = &mut call.phase else { return Err(CommandError::WrongState) };
        if outgoing.cancel != Cancel::No {
            return Err(CommandError::WrongState);
        }
        outgoing.cancel = Cancel::Wanted;
        self.send_cancel_if_possible(now, d);
        Ok(())
    }

    fn send_cancel_if_possible(&mut self, now: Time, id: DialogId) {
        let patience = self.config.t1 * 64;
        let Some(Phase::Outgoing(outgoing)) = self.call(id).map(|c| &c.phase) else { return };
        if outgoing.cancel != Cancel::Wanted {
            return;
        }
        let Some(tx) = self.clients.get(&outgoing.transaction) else { return };
        let proceeding = matches!(&tx.machine, ClientMachine::Invite(m) if m.is_proceeding());
        let Some(invite) = Message::parse(tx.request.clone()).ok().filter(|_| proceeding) else { return };
        let flow = tx.flow;
        let branch = invite.top_via().and_then(|v| v.branch).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        self.start(now, (&branch, &Method::Cancel, invite.cseq()), flow, cancel_for(&invite), Purpose::Cancel);
        if let Some(Call { phase: Phase::Outgoing(outgoing), .. }) = self.call_mut(id) {
            // RFC 3261 9.1: no final response in 64*T1 after the CANCEL means none will come.
            (outgoing.cancel, outgoing.give_up) = (Cancel::Sent, Some(now + patience));
        }
        self.arm(now, id);
    }

    pub(super) fn on_ring_timeout(&mut self, now: Time, id: DialogId) {
        let Some(Phase::Outgoing(outgoing)) = self.call_mut(id).map(|c| &mut c.phase) else { return };
        outgoing.give_up = None;
        let (cancel, key) = (outgoing.cancel, outgoing.transaction);
        if cancel == Cancel::Sent {
            self.clients.remove(&key);
            return self.end(now, id, Cause::CancelFailed);
        }
        // The callee rings beyond all reason: cancel it, and tell the user now. A 2xx that still comes is released by its transaction.
        outgoing.cancel = Cancel::Wanted;
        self.send_cancel_if_possible(now, id);
        self.end(now, id, Cause::Failed { status: 408, why: Box::default() });
    }

    pub(super) fn on_response(&mut self, now: Time, flow: Flow, response: Message) {
        // RFC 3261 8.1.3.3: more than one Via means that it was not for us (RFC 4475 `bcast`).
        let (Some(status), 1) = (response.status(), response.items(Name::Via).count()) else {
            return self.refused(flow, Refusal::NoMatch);
        };
        let branch = response.top_via().and_then(|v| v.branch).unwrap_or(b"");
        let key = self.client_key(branch, response.cseq_method());
        let Some(tx_flow) = self.clients.get(&key).filter(|tx| tx.cseq == response.cseq()).map(|tx| tx.flow) else {
            return self.refused(flow, Refusal::NoMatch);
        };
        let timing = self.timing(tx_flow);
        let Some(tx) = self.clients.get_mut(&key) else { return };
        let purpose = tx.purpose;
        match &mut tx.machine {
            ClientMachine::Invite(machine) => {
                let answered = machine.on_response(now, status, &timing);
                let request = tx.request.clone();
                self.arm_client(now, key);
                if matches!(answered, Answered::PassAndAck | Answered::Ack)
                    && let Ok(invite) = Message::parse(request)
                {
                    self.transmit(tx_flow, ack_for(&invite, &response));
                }
                match (answered, purpose) {
                    (Answered::Pass, _) if status >= 200 => self.on_invite_success(now, key, purpose, response),
                    (Answered::Pass, Purpose::Invite(id)) => self.on_provisional(now, id, status, response),
                    (Answered::PassAndAck, Purpose::Invite(id)) if status == 422 && self.invite_again(now, key, id, &response) => {}
                    (Answered::PassAndAck, Purpose::Invite(id)) => self.on_invite_failed(now, id, status, Some(&response)),
                    (Answered::PassAndAck, Purpose::Offer(id)) => self.on_offer_response(now, id, status, Some(&response)),
                    (Answered::PassAndAck, Purpose::Refresh(id)) => self.on_refresh_response(now, id, status, Some(&response)),
                    _ => {}
                }
            }
            ClientMachine::Other(machine) => {
                let pass = machine.on_response(now, status, &timing);
                self.arm_client(now, key);
                match purpose {
                    _ if !pass || status < 200 => {}
                    Purpose::Bye(Some(id)) => self.end(now, id, Cause::Local),
                    Purpose::Refresh(id) => self.on_refresh_response(now, id, status, Some(&response)),
                    Purpose::Refer { dialog, cseq } => {
                        if let Some(call) = self.call_mut(dialog).filter(|_| status < 300) {
                            // RFC 3515 2.2: REFER is a target refresh.
                            call.dialog.refresh_target(&response);
                        }
                        self.on_refer_response(now, dialog, cseq, status);
                    }
                    _ => {}
                }
            }
        }
    }

    /// 422 to our INVITE: once more with the interval that the callee wants (RFC 4028 7.3). False when that makes no sense.
    fn invite_again(&mut self, now: Time, key: Key, id: DialogId, response: &Message) -> bool {
        let Some(least) = response.raw(Name::MinSe).next().and_then(header::seconds) else { return false };
        let Some((request, flow)) = self.clients.get(&key).map(|tx| (tx.request.clone(), tx.flow)) else { return false };
        let Ok(invite) = Message::parse(request) else { return false };
        let asked = invite.raw(Name::SessionExpires).next().and_then(header::seconds);
        // Only upwards: a callee cannot keep us asking, and one that we asked for nothing has nothing to refuse.
        if !self.is_awaited(id) || asked.is_none_or(|asked| asked >= least) {
            return false;
        }
        let (via, branch) = self.via(flow);
        let Some(seq) = self.call_mut(id).map(|call| {
            call.dialog.local_seq += 1;
            call.dialog.local_seq
        }) else {
            return false;
        };
        let mut w = Writer::request("INVITE", invite.request_uri_text().unwrap_or(""));
        w.line("Via", via);
        w.line("CSeq", format!("{seq} INVITE"));
        w.line("Session-Expires", least.as_secs().to_string());
        w.line("Min-SE", least.as_secs().to_string());
        w.copy_others(&invite, &[Name::Via, Name::CSeq, Name::SessionExpires, Name::MinSe, Name::ContentLength]);
        let bytes = w.finish(Some(&invite.body()).filter(|b| !b.is_empty()).map(|b| &b[..]));
        let transaction = self.start(now, (&branch, &Method::Invite, seq), flow, bytes, Purpose::Invite(id));
        if let Some(Phase::Outgoing(outgoing)) = self.call_mut(id).map(|c| &mut c.phase) {
            (outgoing.transaction, outgoing.give_up) = (transaction, None);
        }
        true
    }

    fn on_provisional(&mut self, now: Time, id: DialogId, status: u16, response: Message) {
        let Some(Phase::Outgoing(outgoing)) = self.call_mut(id).map(|c| &mut c.phase) else { return };
        if outgoing.cancel != Cancel::Sent {
            outgoing.give_up = Some(now + RING);
        }
        if let Some(tag) = response.tag_in_to()
            && outgoing.early.len() < FORKS
            && !outgoing.early.iter().any(|e| **e == *tag)
        {
            outgoing.early.push(tag.into());
        }
        let cancelling = outgoing.cancel != Cancel::No;
        self.send_cancel_if_possible(now, id);
        self.arm(now, id);
        if status > 100 && !cancelling {
            self.tell(SipEvent::Progress { dialog: id, status, response: Arc::new(response) });
        }
    }

    /// 300-699, or none at all.
    pub(super) fn on_invite_failed(&mut self, now: Time, id: DialogId, status: u16, response: Option<&Message>) {
        let Some(Phase::Outgoing(outgoing)) = self.call(id).map(|c| &c.phase) else { return };
        let why = Box::new(response.map(failure).unwrap_or_default());
        let cause = if outgoing.cancel == Cancel::No { Cause::Failed { status, why } } else { Cause::Local };
        self.end(now, id, cause);
    }

    /// A 2xx to an INVITE or re-INVITE of ours: RFC 3261 13.2.2.4. Each gets its ACK, each time it comes.
    fn on_invite_success(&mut self, now: Time, key: Key, purpose: Purpose, response: Message) {
        let Some(tx) = self.clients.get(&key) else { return };
        let tag: Box<[u8]> = response.tag_in_to().unwrap_or(b"").into();
        if let Some((_, flow, ack)) = tx.acks.iter().find(|(t, ..)| *t == tag) {
            let (flow, ack) = (*flow, ack.clone());
            return self.transmit(flow, ack);
        }
        if tx.acks.len() >= FORKS {
            return;
        }
        let (request, flow) = (tx.request.clone(), tx.flow);
        let seq = response.cseq();
        match purpose {
            Purpose::Refresh(id) => {
                let Some(call) = self.call_mut(id) else { return };
                call.dialog.refresh_target(&response);
                let dialog = call.dialog.clone();
                self.acknowledge(key, &dialog, seq, tag);
                self.on_refresh_response(now, id, 200, Some(&response));
            }
            Purpose::Offer(id) => {
                let Some(call) = self.call_mut(id) else { return };
                call.dialog.refresh_target(&response);
                let dialog = call.dialog.clone();
                self.acknowledge(key, &dialog, seq, tag);
                self.on_offer_response(now, id, 200, Some(&response));
            }
            Purpose::Invite(id) if tx.acks.is_empty() && self.is_awaited(id) => {
                let min_se = self.config.min_se;
                let Some(call) = self.call_mut(id) else { return };
                call.dialog.establish(&response);
                call.phase = Phase::Established;
                call.peer_updates = response.lists(Name::Allow, "UPDATE");
                call.session = started(now, &response, min_se, None);
                let dialog = call.dialog.clone();
                self.acknowledge(key, &dialog, seq, tag);
                self.arm(now, id);
                self.tell(SipEvent::Answered { dialog: id, response: Arc::new(response) });
            }
            Purpose::Invite(id) => {
                // Another fork, or one that the CANCEL did not reach: answered and released.
                let Some(mut dialog) = Message::parse(request).ok().and_then(|invite| Dialog::of_own_invite(&invite, flow)) else { return };
                dialog.establish(&response);
                self.acknowledge(key, &dialog, seq, tag);
                let hop = dialog.next_hop(self.bound());
                let (via, branch) = self.via(hop);
                let mut w = dialog.request(&Method::Bye, seq + 1, &via);
                w.line("User-Agent", &self.config.agent);
                self.start(now, (&branch, &Method::Bye, seq + 1), hop, w.finish(None), Purpose::Bye(None));
                if self.call(id).is_some_and(|c| matches!(c.phase, Phase::Outgoing(_))) {
                    self.end(now, id, Cause::CancelFailed);
                }
            }
            Purpose::Bye(_) | Purpose::Cancel | Purpose::Refer { .. } => {}
        }
    }

    /// The user still wants this call answered.
    fn is_awaited(&self, id: DialogId) -> bool {
        self.call(id).is_some_and(|c| matches!(&c.phase, Phase::Outgoing(o) if o.cancel == Cancel::No))
    }

    /// ACK for a 2xx: a request of its own within the dialog (RFC 3261 13.2.2.4), kept for when the 2xx comes again.
    fn acknowledge(&mut self, key: Key, dialog: &Dialog, seq: u32, tag: Box<[u8]>) {
        let flow = dialog.next_hop(self.bound());
        let (via, _) = self.via(flow);
        let ack = dialog.request(&Method::Ack, seq, &via).finish(None);
        self.transmit(flow, ack.clone());
        if let Some(tx) = self.clients.get_mut(&key) {
            tx.acks.push((tag, flow, ack));
        }
    }

    /// We are the refresher (RFC 4028 10): UPDATE where the peer allows it, since that touches no offer, else a re-INVITE with what
    /// we last said.
    pub(super) fn refresh_session(&mut self, now: Time, id: DialogId) {
        let Some(call) = self.call_mut(id) else { return };
        let busy = call.offer.is_some() || call.unacked.is_some() || call.asks();
        let (by_update, sdp) = (call.peer_updates, call.local_sdp.clone());
        let Some(session) = &mut call.session else { return };
        if busy {
            session.refresh = Some(now + Duration::from_secs(1));
            return;
        }
        session.refresh = None;
        let interval = session.interval;
        call.refreshing = true;
        let method = if by_update { Method::Update } else { Method::Invite };
        let Some(Begun { mut writer, cseq, branch, flow }) = self.request_within(id, &method) else { return };
        self.capabilities(&mut writer, flow, &[]);
        // In this request we are the UAC, so that "uac" keeps the refreshing with us.
        writer.line("Session-Expires", format!("{};refresher=uac", interval.as_secs()));
        writer.line("Min-SE", self.config.min_se.as_secs().to_string());
        let bytes = writer.finish(sdp.as_deref().filter(|_| !by_update));
        self.start(now, (&branch, &method, cseq), flow, bytes, Purpose::Refresh(id));
    }

    pub(super) fn on_refresh_response(&mut self, now: Time, id: DialogId, status: u16, response: Option<&Message>) {
        let min_se = self.config.min_se;
        let retry = Duration::from_millis(2100 + u64::from(self.random.u32() % 1900));
        let Some(call) = self.call_mut(id) else { return };
        call.refreshing = false;
        let Some(session) = &mut call.session else { return };
        match status {
            200..300 => {
                let interval = session.interval;
                // A peer that does not know the extension says nothing: then we go on refreshing as we did.
                call.session = response.and_then(|r| started(now, r, min_se, Some(interval)));
                if let Some(response) = response {
                    call.dialog.refresh_target(response);
                }
            }
            // RFC 4028 10, RFC 3261 12.2.1.2: the dialog is gone on the other side.
            408 | 481 => {
                self.send_bye(now, id, &[], false);
                return self.end(now, id, Cause::SessionExpired);
            }
            422 => {
                let least = response.and_then(|r| r.raw(Name::MinSe).next()).and_then(header::seconds);
                // At once only if it asks for more than we offered: otherwise it could keep us asking.
                session.refresh = Some(if least > Some(session.interval) { now } else { now + retry });
                session.interval = session.interval.max(least.unwrap_or_default());
            }
            // 491 and whatever else will pass: again until the session's own end.
            _ => session.refresh = Some(now + retry),
        }
        self.arm(now, id);
    }

    /// Our own offer within a dialog, by re-INVITE (RFC 3261 14.1). Ends in one `OfferAnswered`, unless `Gone` comes first. Where the
    /// two sides' offers cross (491) it is repeated after the wait of 14.1.
    pub fn offer(&mut self, now: Time, d: DialogId, sdp: Bytes) -> Result<(), CommandError> {
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        if !matches!(call.phase, Phase::Established) || call.offering.is_some() {
            return Err(CommandError::WrongState);
        }
        call.offering = Some(Offering { sdp, due: Some(now), crossed: 0 });
        self.send_offer(now, d);
        self.arm(now, d);
        Ok(())
    }

    /// Now, or as soon as what else is under way in the dialog is done: one offer at a time (RFC 3264 4).
    pub(super) fn send_offer(&mut self, now: Time, id: DialogId) {
        let Some(call) = self.call_mut(id) else { return };
        let busy = call.offer.is_some() || call.unacked.is_some() || call.refreshing;
        let session = call.session.map(|s| (s.interval, s.refresh.is_some()));
        let Some(offering) = &mut call.offering else { return };
        if busy {
            offering.due = Some(now + OFFER_WAIT);
            return;
        }
        offering.due = None;
        let sdp = offering.sdp.clone();
        call.local_sdp = Some(sdp.clone());
        let Some(Begun { mut writer, cseq, branch, flow }) = self.request_within(id, &Method::Invite) else { return };
        self.capabilities(&mut writer, flow, &[]);
        // RFC 4028 7.4: without it the timer would end. In this request we are the UAC.
        if let Some((interval, ours)) = session {
            writer.line("Session-Expires", format!("{};refresher={}", interval.as_secs(), if ours { "uac" } else { "uas" }));
            writer.line("Min-SE", self.config.min_se.as_secs().to_string());
        }
        let bytes = writer.finish(Some(&sdp));
        self.start(now, (&branch, &Method::Invite, cseq), flow, bytes, Purpose::Offer(id));
    }

    pub(super) fn on_offer_response(&mut self, now: Time, id: DialogId, status: u16, response: Option<&Message>) {
        let min_se = self.config.min_se;
        let random = self.random.u32();
        let Some(call) = self.call_mut(id) else { return };
        let Some(offering) = call.offering.as_mut().filter(|o| o.due.is_none()) else { return };
        let result = match status {
            200..300 => {
                let interval = call.session.map(|s| s.interval);
                call.session = response.and_then(|r| started(now, r, min_se, interval));
                Ok(response.and_then(Message::sdp).unwrap_or_default())
            }
            // RFC 3261 14.1, in steps of 10 ms: the owner of the Call-ID waits longer, so that the other one gets through.
            491 if offering.crossed < OFFERS_CROSSED => {
                offering.crossed += 1;
                let wait = if call.caller { 2100 + u64::from(random % 191) * 10 } else { u64::from(random % 201) * 10 };
                offering.due = Some(now + Duration::from_millis(wait));
                return self.arm(now, id);
            }
            // RFC 3261 12.2.1.2: the dialog is gone on the other side.
            408 | 481 => {
                self.send_bye(now, id, &[], false);
                return self.end(now, id, Cause::Failed { status, why: Box::default() });
            }
            status => Err(status),
        };
        call.offering = None;
        self.arm(now, id);
        self.tell(SipEvent::OfferAnswered { dialog: id, result });
    }

    /// Negotiated Session-Expires of a dialog (RFC 4028).
    pub fn session_expires(&self, d: DialogId) -> Option<Duration> {
        Some(self.call(d)?.session?.interval)
    }
}

/// What a refusal says beside its status.
fn failure(response: &Message) -> Failure {
    let mut contacts: Vec<(f32, String)> = response
        .name_addrs("Contact")
        .iter()
        .filter(|c| matches!(c.uri.scheme.as_str(), "sip" | "sips" | "tel"))
        .take(CONTACTS)
        .map(|c| (c.parameter("q").and_then(|q| q.parse().ok()).filter(|q: &f32| q.is_finite()).unwrap_or(1.0), c.uri.to_string()))
        .collect();
    // Stable: equal ones stay in the order in which they came.
    contacts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let redirects = matches!(response.status(), Some(300..400));
    Failure {
        phrase: response.reason_phrase().filter(|p| !p.is_empty()),
        reason: response.header("Reason"),
        contacts: if redirects { contacts.into_iter().map(|(_, uri)| uri).collect() } else { Vec::new() },
    }
}

/// The session timer that a 2xx to a request of ours starts: "uac" in it is us. `ours`: our interval where it names none.
/// A peer that names less than the minimum would have us send refreshes without end.
fn started(now: Time, response: &Message, min_se: Duration, ours: Option<Duration>) -> Option<SessionTimer> {
    match response.raw(Name::SessionExpires).next().and_then(header::session_expires) {
        Some((interval, refresher)) => Some(SessionTimer::start(now, interval.max(min_se), refresher != Some(Refresher::Uas))),
        None => ours.map(|interval| SessionTimer::start(now, interval, true)),
    }
}
