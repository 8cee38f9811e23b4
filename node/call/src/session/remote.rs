//! Devices of the cloud user agent: their SIP is ours, their media goes past us (SM-012, SM-013). A call for one waits for its side to
//! answer, a call of one offers its address, and httpcall gives it a party of a session that a handler leads.
//!
//! To a connection a device is an end without leg and dialog. A party that talks to one has no leg either: what is told it in SDP is the
//! device's. Start with `offer_to_device` (in), `place_remote_call` (out) and `http_call`; `media_told` is where a leg goes and comes.

use super::*;
use crate::alarm::RoutingHook;
use crate::door::CommandResult;
use crate::hook::{CallEventKind, OutboundCall, RemoteCall};
use crate::participant::Phase;
use crate::{callback, outbound};
use commands::check_reference;
use dial::Calling;
use hookswitch_proto::sdp::{Device, Format};

/// What answerremotecall knows (IC-045), so what an offer must have one of (IC-210).
pub(super) const ANSWERABLE: [Format; 2] = [Format::Pcma, Format::Pcmu];

impl Session {
    // ---------------------------------------------------------------------------------------- a call for a device

    /// IC-207: its side is told, and the call waits unanswered.
    pub(super) fn offer_to_device(&mut self, now: Time, x: &mut Exchange, key: PartyKey, invite: &Message) {
        let Some(party) = self.party_mut(key) else { return };
        party.answer_by = Some(now + limits::REMOTE_ANSWER);
        let call = RemoteCall {
            info: SessionInfo::default(),
            participant_id: party.id.clone(),
            reply_to: ReplyTo::Participant,
            sip_call_id: party.sip_call_id.clone(),
            destination_uri: invite.request_uri().map(ToString::to_string).unwrap_or_default(),
            source_user: invite.from().and_then(|from| from.uri.user.clone()).unwrap_or_default(),
            target: party.target.clone(),
        };
        self.ask(now, x, key, Hook::NewRemoteCall(Box::new(call)));
    }

    /// A handler that cannot be told costs the call nothing yet: REST may answer it, and else it ends by its own limit.
    pub(super) fn remote_call_failed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, call: Box<RemoteCall>, failure: &HookFailure) {
        let details = format!("newRemoteCall: {}", alarm::failure_details(failure));
        self.alarm(now, x, AlarmKind::NewCallEventError, RoutingHook::NewCall.failed(failure), Some(details));
        if self.may_restart(x, failure) {
            self.ask(now, x, key, Hook::NewRemoteCall(call));
        }
    }

    /// IC-215.
    pub(super) fn nobody_answered(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        self.release(now, x, key, Leave::refuse(now, 480, "noAnswer"));
    }

    /// The party that calls a device and is not answered yet.
    fn waiting_caller(&self) -> Result<PartyKey, CommandError> {
        if !self.device_call || !self.incoming {
            return Err(CommandError::WrongState("no call for a device"));
        }
        let waits = |p: &&Participant| matches!(p.phase, Phase::Trying) && !p.answer_wanted;
        let waiting = self.parties.iter().find(waits).map(|p| p.key);
        waiting.ok_or(CommandError::WrongState("the call is answered or over"))
    }

    /// 180, once: the endpoint repeats it while the call waits (IC-215).
    pub(super) fn ring_back(&mut self, now: Time, x: &mut Exchange) -> CommandResult {
        let key = self.waiting_caller()?;
        let Some(party) = self.party_mut(key).filter(|p| !p.rang) else { return Ok(Done::Nothing) };
        party.rang = true;
        if let Some(dialog) = party.dialog {
            ignore_late(x.endpoint.provisional(now, dialog, 180, &[], None));
        }
        Ok(Done::Nothing)
    }

    /// IC-044 to IC-051.
    pub(super) fn answer_remote_call(&mut self, now: Time, x: &mut Exchange, device: &Device, reference: Option<&String>) -> CommandResult {
        let key = self.waiting_caller()?;
        if !ANSWERABLE.contains(&device.format) {
            return Err(CommandError::BadValue { field: "codec", why: "PCMA or PCMU".into() });
        }
        self.check_device(device).map_err(|(field, why)| CommandError::BadValue { field, why: why.into() })?;
        check_reference(reference)?;
        let Some(party) = self.party_mut(key) else { return Err(CommandError::WrongState("the call is over")) };
        party.fits(device).map_err(|error| {
            CommandError::WrongState(match error {
                hookswitch_proto::sdp::SdpError::NoCodec => "codec: the caller did not offer it",
                hookswitch_proto::sdp::SdpError::NoAudio(why) => why,
                hookswitch_proto::sdp::SdpError::Malformed(_) => "the offer cannot be answered",
            })
        })?;
        (party.device, party.answer_wanted) = (Some(device.clone()), true);
        if let Some(reference) = reference {
            self.info.session_reference = Some(reference.clone());
        }
        let device = End::Device { id: x.mint.uuid(), user: self.called.clone() };
        self.new_connection(x, End::Party(key), device);
        self.advance(now, x, key);
        Ok(Done::Nothing)
    }

    /// IC-042, IC-043: BYE, CANCEL, or 603 to a call that nobody answered.
    pub(super) fn hangup_call(&mut self, now: Time, x: &mut Exchange) -> CommandResult {
        let connected = self.connections.iter().find(|c| c.device().is_some()).and_then(Connection::tapped);
        let first = || self.parties.iter().find(|p| p.is_live()).map(|p| p.key).filter(|_| self.device_call);
        match connected.or_else(first) {
            Some(key) => {
                let refused = self.live(key).is_some_and(|p| matches!(p.phase, Phase::Trying));
                self.hang_up(now, x, key, if refused { "rejected" } else { "apiHangup" });
                Ok(Done::Nothing)
            }
            // IC-015.
            None if self.device_call => Ok(Done::Nothing),
            None => Err(CommandError::WrongState("no call with a device")),
        }
    }

    // ---------------------------------------------------------------------------------------- a call of a device

    /// IC-052 to IC-059, in the session that was made for it.
    pub(super) fn place_remote_call(&mut self, now: Time, x: &mut Exchange, placed: &PlaceRemoteCall) -> CommandResult {
        let bad = |field, why: &str| CommandError::BadValue { field, why: why.to_owned() };
        let target = outbound::target(&placed.destination_uri).ok_or_else(|| bad("destinationUri", "not a SIP URI"))?;
        self.check_device(&placed.device).map_err(|(field, why)| bad(field, why))?;
        if !placed.device.crypto.is_empty() {
            return Err(bad("crypto", "only in an answer"));
        }
        let call = OutboundCall {
            dest_addr: placed.destination_uri.clone(),
            sip_from: Some(placed.source_user.clone()),
            ..OutboundCall::default()
        };
        if placed.source_user.is_empty() || outbound::check(&call).is_err() {
            return Err(bad("sourceUser", "empty, too long, or has a control character"));
        }
        let origin = callback::origin(&placed.callback_base_url).filter(|_| !placed.callback_base_url.contains('?'));
        match origin {
            None => return Err(bad("callbackBaseUrl", "no http or https URL that a path can be added to")),
            Some(origin) if !self.tenant.origins.contains(&origin) => {
                return Err(bad("callbackBaseUrl", "its origin is not on the tenant's list (outbox_origins)"));
            }
            Some(_) => {}
        }
        check_reference(placed.session_reference.as_ref())?;
        self.device_call = true;
        self.attempts += 1;
        self.caller.clone_from(&placed.source_user);
        self.called = target.user.clone().unwrap_or_default();
        self.info.session_reference.clone_from(&placed.session_reference);
        self.info.callback = Some(placed.callback_base_url.as_str().into());
        let participant_id = x.mint.uuid();
        let calling = Calling { participant_id: participant_id.clone(), call, target, alarm: AlarmKind::CallError };
        let key = self.dial(now, x, calling, None);
        if let Some(party) = self.party_mut(key) {
            party.device = Some(placed.device.clone());
        }
        let device = End::Device { id: x.mint.uuid(), user: placed.source_user.clone() };
        self.new_connection(x, device, End::Party(key));
        self.begin_dial(now, x, key);
        Ok(Done::Placed { session_id: self.info.session_id.clone(), participant_id, reply_to: ReplyTo::Participant })
    }

    // ---------------------------------------------------------------------------------------- a device in a handler's call

    /// IC-161: no leg on that side; the party's own goes as soon as it sends to the device.
    pub(super) fn http_call(&mut self, now: Time, x: &mut Exchange, key: PartyKey, device: Device, by: RoutingHook) {
        if let Err((field, why)) = self.check_device(&device) {
            let failure = nonsense(field, why);
            self.alarm(now, x, by.kind(), by.failed(&failure), Some(alarm::failure_details(&failure)));
            return self.answer_failed(now, x, key, by);
        }
        let (id, user) = (x.mint.uuid(), self.called.clone());
        let Some(party) = self.party_mut(key) else { return };
        let unanswered = matches!(party.phase, Phase::Trying) && !party.has_said();
        if (unanswered && party.fits(&device).is_err()) || (!unanswered && !device.crypto.is_empty()) {
            return self.call_failed_at_once(now, x, key, (id, user), (488, "the party and the device have no media in common"));
        }
        party.device = Some(device);
        party.answer_wanted = true;
        self.new_connection(x, End::Party(key), End::Device { id, user });
        self.advance(now, x, key);
        self.try_connect(now, x, key);
    }

    /// The party is up: connected once it was told of the device, and told by a re-INVITE where it was not.
    pub(super) fn try_device(&mut self, now: Time, x: &mut Exchange, key: PartyKey, at: usize) {
        let Some(party) = self.live(key) else { return };
        if party.moves() {
            self.reoffer(now, x, key);
        } else if party.target.is_some() && !party.reoffering && !party.offered {
            self.connected(now, x, at);
        }
    }

    /// A description of ours is agreed on: what it did not speak of goes.
    pub(super) fn media_told(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        let leg = match party.leg {
            LegState::Opening(leg) | LegState::Open(leg, _) => Some(leg).filter(|_| party.told_device.is_some() && party.device.is_some()),
            LegState::None | LegState::Closing(_) | LegState::Gone => None,
        };
        if let Some(leg) = leg {
            party.leg = LegState::Closing(leg);
            party.give_up = Some(now + limits::RELEASE);
            self.media(x, MediaCmd::Close { leg, reason: StopReason::Transfer });
        }
        self.try_connect(now, x, key);
    }

    /// A re-INVITE of ours was refused. Where it would have moved the media, what it was for has failed.
    pub(super) fn media_refused(&mut self, now: Time, x: &mut Exchange, key: PartyKey, status: u16) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        if !party.take_back() {
            return;
        }
        let text = "the party takes no other media".to_owned();
        if party.device.take().is_none() {
            // It stays with a device that it no longer talks to: nothing here can reach it.
            return self.release(now, x, key, Leave::failure(now, "serverError", Some(status), Some(text)));
        }
        let Some(at) = self.connections.iter().position(|c| c.has(key) && c.device().is_some()) else { return };
        let connection = self.connections.remove(at);
        let Some((id, user)) = connection.device().map(|(id, user)| (id.to_owned(), user.to_owned())) else { return };
        self.call_failed_at_once(now, x, key, (id, user), (status, &text));
    }

    /// It no longer talks to a device: a leg of ours takes its place, as soon as the last one is closed.
    pub(super) fn leave_device(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        if party.device.take().is_some() {
            self.reopen_leg(now, x, key);
        }
    }

    /// Where one is wanted and none is there.
    pub(super) fn reopen_leg(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live() && p.device.is_none()) else { return };
        match party.leg {
            LegState::None | LegState::Gone => {
                party.leg = LegState::None;
                self.open_leg(now, x, key);
            }
            LegState::Open(..) if party.moves() => self.reoffer(now, x, key),
            LegState::Open(..) | LegState::Opening(_) | LegState::Closing(_) => {}
        }
    }

    // ---------------------------------------------------------------------------------------- who leaves

    /// The party that talks to this device, of those that a handler decides about.
    pub(super) fn party_of_device(&self, participant_id: &str) -> Option<PartyKey> {
        let is_it = |c: &&Connection| c.device().is_some_and(|(id, _)| id == participant_id);
        self.connections.iter().find(is_it).and_then(Connection::tapped)
    }

    /// The device leaves: its party stays, and the handler decides about it; where there is nothing to decide, it goes too.
    pub(super) fn device_hangs_up(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        if self.device_call {
            return self.hang_up(now, x, key, "apiHangup");
        }
        let Some(at) = self.connections.iter().position(|c| c.has(key) && c.device().is_some()) else { return };
        let connection = self.connections.remove(at);
        self.stop_recordings(now, x, &connection.id, StopReason::RemoteHangup);
        let Hook::CallEvent(mut event) = self.call_event(CallEventKind::CalledPartyDrop, &connection, PartyKey(0), Some(key), None) else {
            return;
        };
        if let Some((id, user)) = connection.device() {
            (event.participant_id, event.user) = (id.to_owned(), user.to_owned());
        }
        self.separate(now, x, key);
        self.ask(now, x, key, Hook::CallEvent(event));
    }

    /// Its side is told, unless it gave the order itself: nothing is left to decide.
    pub(super) fn device_lost_party(
        &mut self,
        x: &mut Exchange,
        connection: &Connection,
        key: PartyKey,
        device: (String, String),
        leave: &Leave,
        was: (bool, bool, bool),
    ) {
        let (caller, answered, _) = was;
        if leave.reason == "apiHangup" {
            return;
        }
        let kind = match (caller, answered && !leave.failed) {
            (true, true) => CallEventKind::CallingPartyDrop,
            (true, false) => CallEventKind::CallingPartyFailure,
            (false, true) => CallEventKind::CalledPartyDrop,
            (false, false) => CallEventKind::CalledPartyFailure,
        };
        if let Hook::CallEvent(mut event) = self.call_event(kind, connection, key, None, Some(leave)) {
            event.info = self.info.clone();
            (event.remote_participant_id, event.remote_user) = device;
            self.notify(x, Notification::CallEvent(event));
        }
    }

    /// Where a device says that it takes media: deny by default, since whoever may name any address aims a stream at it (IC-049).
    fn check_device(&self, device: &Device) -> Result<(), (&'static str, &'static str)> {
        let (ip, port) = (device.address.ip().to_canonical(), device.address.port());
        if ip.is_unspecified() || ip.is_multicast() || !self.tenant.media_addresses.iter().any(|network| network.has(ip)) {
            return Err(("receiveIp", "not among the tenant's media addresses"));
        }
        if !limits::DEVICE_PORTS.contains(&port) {
            return Err(("receivePort", "1024 to 65535 are possible"));
        }
        if device.telephone_event.is_some_and(|payload_type| !limits::DEVICE_EVENTS.contains(&payload_type)) {
            return Err(("telephoneEventPayloadType", "96 to 127 are possible"));
        }
        if device.crypto.len() > limits::DEVICE_CRYPTO {
            return Err(("crypto", "at most 4 lines"));
        }
        Ok(())
    }
}
