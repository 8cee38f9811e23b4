//! Calls out: from a handler's address to a callee who answers, or to the event that says why not (IC-159, IC-169, IC-170, IC-193).

use super::*;
use crate::alarm::RoutingHook;
use crate::door::{PromptSource, Resolve};
use crate::hook::{Keep, OutboundCall};
use crate::outbound::{self, Context};
use crate::participant::{Dial, Phase};
use crate::recording::{Container, Encoding, RecordingOptions, Unwritable};
use connection::Ringback;
use hookswitch_proto::sip::{Failure, Flow, Invite, Transport, Uri};
use monitor::Monitor;
use std::net::IpAddr;

pub(super) const SIP_PORT: u16 = 5060;

/// Whom to call.
pub(super) struct Calling {
    pub participant_id: String,
    pub call: OutboundCall,
    pub target: Uri,
    /// Of the alarm that an address raises to which nothing can go.
    pub alarm: AlarmKind,
}

/// What a dial looks up and sends to.
pub(super) fn transport_of(target: &Uri) -> Transport {
    match target.parameter("transport") {
        Some(t) if t.eq_ignore_ascii_case("tcp") => Transport::Tcp,
        _ => Transport::Udp,
    }
}

impl Session {
    /// IC-159: calls `destAddr`, to be bridged with this party when it answers.
    pub(super) fn call_out(&mut self, now: Time, x: &mut Exchange, key: PartyKey, mut call: OutboundCall, by: RoutingHook) {
        if let Err(bad) = outbound::check(&call) {
            let failure = nonsense(bad.field, bad.why);
            self.alarm(now, x, by.kind(), by.failed(&failure), Some(alarm::failure_details(&failure)));
            return match by {
                RoutingHook::NewCall => self.fall_back(now, x, key),
                RoutingHook::CallEvent => self.release(now, x, key, Leave::refuse(now, 480, "serverError").keeping_reason()),
            };
        }
        if self.attempts >= limits::ATTEMPTS {
            // A handler that answers every failure with another call.
            self.alarm(now, x, by.kind(), alarm::MEDIA_SERVER_ERROR, Some("too many calls out of the session".into()));
            return self.release(now, x, key, Leave::refuse(now, 480, "serverError"));
        }
        self.attempts += 1;
        let own_id = call.participant_id.take().filter(|id| !self.parties.iter().any(|p| p.id == *id));
        let participant_id = own_id.unwrap_or_else(|| x.mint.uuid());
        let target = outbound::target(&call.dest_addr);
        let Some(target) = target else {
            self.alarm(now, x, by.kind(), &alarm::invalid_sip_address(&call.dest_addr), None);
            return self.call_failed_at_once(now, x, key, (participant_id, String::new()), (484, "not a SIP address"));
        };
        let user = target.user.clone().unwrap_or_default();
        if self.identity.max_forwards.is_some_and(|left| left <= 1) {
            // RFC 3261 16.3.
            return self.call_failed_at_once(now, x, key, (participant_id, user), (483, "too many hops"));
        }
        if let Err(why) = self.may_dial() {
            self.alarm(now, x, by.kind(), alarm::MEDIA_SERVER_ERROR, Some(why.into()));
            return self.call_failed_at_once(now, x, key, (participant_id, user), (503, why));
        }
        let ringback = match call.ringback_tone.as_deref() {
            None | Some("default") => Ringback::Standard,
            Some("none") => Ringback::Silence,
            Some("early") => Ringback::Early,
            Some(url) if url.starts_with("https://") || url.starts_with("http://") => {
                Ringback::Prompt(PromptSource::Url { url: url.to_owned(), key: None, keep: Some(Keep::default()) })
            }
            Some(name) if crate::ivr::file_name_error(name).is_none() => Ringback::Prompt(PromptSource::File(name.to_owned())),
            Some(_) => Ringback::Standard,
        };
        let record = recording_of(&mut call, &x.settings.unwritable);
        let monitor = call.monitor.take().map(Monitor::Idle);
        let greetings = call.greeting.take().and_then(|greeting| self.prepare_greetings(now, x, &greeting));
        let callee = self.dial(now, x, Calling { participant_id, call, target, alarm: by.kind() }, Some(key));
        let connection = self.new_connection(x, End::Party(key), End::Party(callee));
        (connection.record, connection.ringback, connection.greetings, connection.monitor) = (record, ringback, greetings, monitor);
        // The caller's leg too, so that his 200 follows the callee's at once.
        if let Some(party) = self.live(key).filter(|p| p.leg == LegState::None).map(|p| p.key) {
            self.open_leg(now, x, party);
        }
        self.start_ringback(x, key);
        self.begin_dial(now, x, callee);
    }

    pub(super) fn may_dial(&self) -> Result<(), &'static str> {
        if self.parties.iter().filter(|p| p.is_live()).count() >= limits::PARTICIPANTS {
            return Err("too many participants in the session");
        }
        Ok(())
    }

    /// A new party that is being called. `toward`: who talks to it then.
    pub(super) fn dial(&mut self, now: Time, x: &mut Exchange, calling: Calling, toward: Option<PartyKey>) -> PartyKey {
        let Calling { participant_id, call, target, alarm } = calling;
        let key = self.new_key();
        let codec = toward.and_then(|k| self.party(k)).and_then(|p| p.negotiated.as_ref()).map(|n| n.codec);
        let local = self.new_local(x, codec);
        let ring = call.max_ring_time.unwrap_or(limits::RING).clamp(limits::RING_MIN, limits::RING_MAX);
        let user = target.user.clone().unwrap_or_default();
        let dial = Dial {
            call,
            alarm,
            target,
            alternatives: VecDeque::new(),
            redirects: 0,
            addresses: VecDeque::new(),
            resolving: None,
            ring_until: now + ring,
            rang: false,
            sdp: None,
        };
        let ivr = Ivr::new(self.info.session_id.clone());
        self.parties.push(Participant::outgoing(key, participant_id, user, ivr, dial, local));
        key
    }

    /// Opens its leg, if it needs one, and finds out where its target leads.
    pub(super) fn begin_dial(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        if self.party(key).is_some_and(|p| p.device.is_none()) {
            self.open_leg(now, x, key);
        }
        self.locate(now, x, key);
    }

    fn locate(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        let (host, port) = (dial.target.host.clone(), dial.target.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(ip, port.unwrap_or(SIP_PORT));
            return self.on_located(now, x, key, vec![address]);
        }
        let number = x.mint.resolve();
        dial.resolving = Some((number, now + limits::RESOLVE));
        let transport = transport_of(&dial.target);
        x.emit(Output::Resolve(Box::new(Resolve { session: self.id, number, host, port, transport })));
    }

    pub(super) fn on_resolved(&mut self, now: Time, x: &mut Exchange, number: u32, addresses: Result<Vec<SocketAddr>, String>) {
        if self.on_transfer_located(now, x, number, &addresses) {
            return;
        }
        let asked = |p: &&mut Participant| matches!(&p.phase, Phase::Dialling(d) if d.resolving.is_some_and(|(n, _)| n == number));
        let Some(party) = self.parties.iter_mut().find(asked) else { return };
        let key = party.key;
        if let Some(dial) = party.dial() {
            dial.resolving = None;
        }
        match addresses {
            Ok(addresses) if !addresses.is_empty() => self.on_located(now, x, key, addresses),
            Ok(_) => self.address_failed(now, x, key, 404, "the name has no address"),
            Err(why) => {
                let why = alarm::printable(&why, 128);
                self.address_failed(now, x, key, 404, &why);
            }
        }
    }

    /// Only addresses among the tenant's destinations are called: names are judged by what they lead to as well.
    fn on_located(&mut self, now: Time, x: &mut Exchange, key: PartyKey, addresses: Vec<SocketAddr>) {
        let Some(target) = self.party_mut(key).and_then(Participant::dial).map(|dial| dial.target.clone()) else { return };
        let addresses: VecDeque<SocketAddr> =
            addresses.into_iter().filter(|a| self.may_call(x, &target, *a)).take(limits::ADDRESSES).collect();
        if addresses.is_empty() {
            return self.address_failed(now, x, key, 403, "not among the tenant's destinations");
        }
        if let Some(dial) = self.party_mut(key).and_then(Participant::dial) {
            dial.addresses = addresses;
        }
        self.advance(now, x, key);
    }

    /// Whether the tenant's destinations have this URI, whose host leads there.
    pub(super) fn may_call(&self, x: &Exchange, target: &Uri, address: SocketAddr) -> bool {
        let on_trunk = |name: &str, ip: IpAddr| {
            let is_on = |t: &crate::door::Trunk| t.name == name && t.addresses.iter().any(|a| a.to_canonical() == ip);
            x.trunks.iter().any(is_on)
        };
        self.tenant.destinations.iter().any(|d| d.allows(target, address, on_trunk))
    }

    /// IC-073: an address to which no INVITE can go.
    fn address_failed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, code: u16, why: &str) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        let (kind, error) = (dial.alarm, alarm::invalid_sip_address(&dial.target.to_string()));
        if dial.redirects > 0 && !dial.alternatives.is_empty() {
            return self.next_target(now, x, key);
        }
        self.alarm(now, x, kind, &error, Some(why.to_owned()));
        self.release(now, x, key, Leave::failure(now, "rejected", Some(code), Some(why.to_owned())));
    }

    /// Leg and address are there: the INVITE goes to the next address.
    pub(super) fn send_invite(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let (identity, trace_id) = (self.identity.clone(), self.info.trace_id.clone());
        let (domain, trusted) = (self.tenant.domain.clone(), self.tenant.trusted);
        let Some(party) = self.party_mut(key) else { return };
        let first = if let Some(dial) = party.dial() { dial.sdp.clone() } else { return };
        let Some(sdp) = first.or_else(|| party.describe(&x.settings)) else { return };
        let Some(dial) = party.dial() else { return };
        dial.sdp = Some(sdp.clone());
        let transport = transport_of(&dial.target);
        let mut flow: Option<Flow> = None;
        while flow.is_none()
            && let Some(address) = dial.addresses.pop_front()
        {
            flow = x.endpoint.flow_to(transport, address);
        }
        let Some(flow) = flow else {
            let why = "this node has no socket of that transport and address family";
            return self.release(now, x, key, Leave::failure(now, "serverError", Some(503), Some(why.into())));
        };
        let peer = flow.peer.ip().to_canonical();
        let to_trusted_trunk = x.trunks.iter().any(|t| t.trusted && t.addresses.iter().any(|a| a.to_canonical() == peer));
        let context = Context {
            identity: &identity,
            trace_id: &trace_id,
            domain: &domain,
            trusted,
            to_trusted_trunk,
            contact: x.endpoint.address(flow),
            tcp: transport == Transport::Tcp,
        };
        let parts = outbound::parts(&dial.call, &dial.target, &context);
        let target = Uri { headers: None, ..dial.target.clone() }.to_string();
        let invite = Invite { target, from: parts.from, to: Some(parts.to), flow, headers: parts.headers, sdp: Some(sdp) };
        match x.endpoint.invite(now, invite) {
            Ok(dialog) => {
                x.dialogs.insert(dialog, self.id);
                let call_id = x.endpoint.call_id(dialog).unwrap_or_default().to_owned();
                if let Some(party) = self.party_mut(key) {
                    party.dialog = Some(dialog);
                    party.sip_call_id = call_id;
                }
            }
            Err(error) => {
                let code = if error == hookswitch_proto::sip::CommandError::Overload { 503 } else { 500 };
                let leave = Leave::failure(now, "serverError", Some(code), Some(error.to_string()));
                return self.release(now, x, key, leave);
            }
        }
        if parts.withheld {
            let text = "the tenant is not trusted with P-Asserted-Identity and Remote-Party-ID: left out".to_owned();
            x.log(Level::Warn, Some(&self.info.session_id), text);
        }
    }

    /// 101 to 199 (IC-105).
    pub(super) fn on_progress(&mut self, now: Time, x: &mut Exchange, key: PartyKey, status: u16, response: &Message) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        let rings = matches!(status, 180 | 183);
        let first = rings && !std::mem::replace(&mut dial.rang, true);
        let early = self.connection_of(key).is_some_and(|c| c.ringback == Ringback::Early);
        let media = response.sdp().filter(|_| early);
        if first {
            self.notify_leg(x, key, "ringing");
            if media.is_none()
                && let Some(caller) = self.counterpart(key).and_then(|k| self.live(k))
                && matches!(caller.phase, Phase::Trying)
                && let Some(dialog) = caller.dialog
            {
                ignore_late(x.endpoint.provisional(now, dialog, 180, &[], None));
            }
        }
        if let Some(sdp) = media {
            let usable = self.party_mut(key).is_some_and(|p| p.accept(Some(&sdp)).is_ok());
            if usable {
                self.update_leg(x, key);
                self.try_early(now, x, key);
            }
        }
    }

    /// The callee's early media to the caller, by a 183 that answers his offer where he is unanswered (RFC 3960).
    pub(super) fn try_early(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(at) = self.connections.iter().position(|c| c.has(key) && c.ringback == Ringback::Early && !c.bridged) else { return };
        let Some((caller, called)) = self.connections[at].parties() else { return };
        if self.connections[at].greetings.is_some() && self.live(called).is_some_and(Participant::is_answered) {
            return;
        }
        let sends = self.live(called).is_some_and(|p| p.negotiated.is_some() && p.open_leg().is_some());
        if !sends || self.live(caller).and_then(Participant::open_leg).is_none() {
            return;
        }
        if let Some(party) = self.party_mut(caller).filter(|p| matches!(p.phase, Phase::Trying)) {
            if !party.can_answer_early() {
                return;
            }
            let (Some(dialog), Some(sdp)) = (party.dialog, party.describe(&x.settings)) else { return };
            if x.endpoint.provisional(now, dialog, 183, &[], Some(sdp)).is_err() {
                return;
            }
        }
        self.bridge(x, at);
    }

    /// 2xx: the callee is there (IC-193).
    pub(super) fn on_answered(&mut self, now: Time, x: &mut Exchange, key: PartyKey, response: &Message) {
        let Some(party) = self.party_mut(key).filter(|p| matches!(p.phase, Phase::Dialling(_))) else { return };
        let accepted = match response.sdp() {
            // An early answer that is not repeated stands.
            None if party.negotiated.is_some() && !party.offered => Ok(()),
            sdp => party.accept(sdp.as_deref()),
        };
        party.phase = Phase::Up;
        party.up_since = Some(now);
        party.give_up = None;
        if self.final_status == 0 && key == PartyKey(1) {
            self.final_status = 200;
        }
        if let Err(error) = accepted {
            x.count(Counter::BadOffer);
            // IC-283: acknowledged, then released.
            self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
            let leave = Leave::failure(now, "serverError", Some(488), Some("the answer's SDP cannot be used".into()));
            return self.release(now, x, key, leave);
        }
        self.update_leg(x, key);
        if self.party(key).is_some_and(|p| p.listener.is_some()) {
            return self.monitor_answered(x, key);
        }
        if self.answered_at.is_none() && self.counterpart(key).is_none() {
            self.answered_at = Some(now);
            x.count(Counter::CallsAnswered);
        }
        if let Some(caller) = self.counterpart(key) {
            if let Some(party) = self.party_mut(caller) {
                party.answer_wanted = true;
            }
            self.advance(now, x, caller);
        }
        self.try_connect(now, x, key);
    }

    /// 300 to 699, or none: the next address, the next contact, or the end of it.
    pub(super) fn on_refused(&mut self, now: Time, x: &mut Exchange, key: PartyKey, status: u16, why: &Failure) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        // RFC 3263 4.3: an address that does not answer or is out of service.
        if matches!(status, 408 | 503) && !dial.rang && !dial.addresses.is_empty() {
            return self.advance(now, x, key);
        }
        // IC-299.
        if (300..=302).contains(&status) && !why.contacts.is_empty() {
            dial.alternatives = why.contacts.iter().cloned().collect();
        }
        if !dial.alternatives.is_empty() && dial.redirects < limits::REDIRECTS {
            return self.next_target(now, x, key);
        }
        let cause = why.reason.as_deref().and_then(q850_of);
        let text = why.phrase.clone().or_else(|| why.reason.clone()).map(|t| alarm::printable(&t, 128));
        let reason = match status {
            486 | 600 => "busy",
            408 | 480 | 487 => "noAnswer",
            500..=599 => "serverError",
            _ => "rejected",
        };
        self.release(now, x, key, Leave { cause, ..Leave::failure(now, reason, Some(status), text) });
    }

    fn next_target(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        dial.redirects += 1;
        let next = dial.alternatives.pop_front();
        match next.as_deref().and_then(outbound::target) {
            Some(target) => {
                (dial.target, dial.rang) = (target, false);
                dial.addresses.clear();
                self.locate(now, x, key);
            }
            None => {
                let text = "redirected to an address that cannot be called".to_owned();
                self.release(now, x, key, Leave::failure(now, "rejected", Some(302), Some(text)));
            }
        }
    }

    /// IC-075, IC-170: nobody answered, or the name leads nowhere.
    pub(super) fn on_dial_timeout(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(dial) = self.party_mut(key).and_then(Participant::dial) else { return };
        if dial.ring_until <= now {
            let leave = Leave::failure(now, "noAnswer", Some(408), Some("no answer within maxRingTime".into()));
            return self.release(now, x, key, leave);
        }
        if dial.resolving.take_if(|(_, until)| *until <= now).is_some() {
            self.address_failed(now, x, key, 404, "the name was not looked up in time");
        }
    }
}

/// How the connection that a call makes is recorded (IC-167, IC-168).
pub(super) fn recording_of(call: &mut OutboundCall, unwritable: &Unwritable) -> Option<Box<RecordingOptions>> {
    let mut options = match (call.recording.take(), call.call_recording) {
        (Some(options), _) => *options,
        (None, true) => RecordingOptions::of_call(None),
        (None, false) => return None,
    };
    if let Some(name) = call.recording_file_name.take() {
        options.file_name.get_or_insert(name);
    }
    // Losing what should be recorded is worse than another name than was asked for.
    if let Some(name) = options.file_name.as_mut().filter(|n| Container::of_name(n).is_none()) {
        *name = format!("{name}.{}", options.container.unwrap_or_else(|| unwritable.of_call()).name());
    }
    if unwritable.check(&options).is_err() {
        (options.container, options.encoding) = (Some(Container::Wav), Encoding::Auto);
        if let Some((stem, _)) = options.file_name.as_deref().and_then(|name| name.rsplit_once('.')) {
            options.file_name = Some(format!("{stem}.wav"));
        }
    }
    Some(Box::new(options))
}

/// The cause in a Reason header (RFC 3326), e.g. `Q.850;cause=17;text="User busy"`.
pub(super) fn q850_of(reason: &str) -> Option<u16> {
    let entry = reason.split(',').map(str::trim).find(|r| r.get(..5).is_some_and(|p| p.eq_ignore_ascii_case("Q.850")))?;
    let value = entry.split(';').find_map(|p| p.trim().strip_prefix("cause="))?;
    value.trim().parse().ok().filter(|c| (1..=127).contains(c))
}
