//! What SIP and the media thread say of one party, and how its leg and its answer follow from what is wanted of it.

use super::*;
use crate::door::HoldAudio;
use crate::hook::{AlarmLeg, IvrCommand, IvrRequest};
use crate::ivr::{Effect, May};
use crate::participant::{Phase, info_digit};
use bytes::Bytes;
use dial::q850_of;
use hookswitch_proto::media::{Direction, LegId, MediaKind};
use hookswitch_proto::sip::Method;

impl Session {
    // ---------------------------------------------------------------------------------------- as far as it goes

    pub(super) fn open_leg(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let leg = x.mint.leg();
        let Some(party) = self.party_mut(key).filter(|p| p.leg == LegState::None) else { return };
        let config = party.leg_config(&x.settings, &mut x.mint.random);
        party.leg = LegState::Opening(leg);
        // A media thread that does not answer must not keep the party waiting.
        party.give_up = Some(now + limits::DECISION_DEADLINE);
        x.legs.insert(leg, self.id);
        self.media(x, MediaCmd::Open { leg, config: Box::new(config) });
    }

    /// The next step towards being answered, where it is possible.
    pub(super) fn advance(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        match (&party.phase, party.leg) {
            (Phase::Trying, _) if party.answer_wanted && party.device.is_some() => self.answer(now, x, key),
            (Phase::Trying, LegState::None) if party.answer_wanted => self.open_leg(now, x, key),
            (Phase::Trying, LegState::Open(..)) if party.answer_wanted => self.answer(now, x, key),
            (Phase::Dialling(dial), leg)
                if !dial.addresses.is_empty()
                    && party.dialog.is_none()
                    && (party.device.is_some() || matches!(leg, LegState::Open(..))) =>
            {
                self.send_invite(now, x, key);
            }
            _ => {}
        }
    }

    fn answer(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        let (Some(dialog), Some(sdp)) = (party.dialog, party.describe(&x.settings)) else { return };
        if x.endpoint.answer(now, dialog, &[], sdp).is_err() {
            // The dialog is gone: its `Gone` is on the way and ends the call.
            return;
        }
        party.answered();
        party.phase = Phase::Answered;
        party.answer_by = None;
        if key == PartyKey(1) {
            self.final_status = 200;
        }
        self.answered_at.get_or_insert(now);
        x.count(Counter::CallsAnswered);
        self.media_told(now, x, key);
    }

    fn on_opened(&mut self, now: Time, x: &mut Exchange, key: PartyKey, leg: LegId, local: SocketAddr) {
        let Some(party) = self.party_mut(key).filter(|p| p.leg == LegState::Opening(leg)) else { return };
        party.leg = LegState::Open(leg, local);
        party.give_up = None;
        self.advance(now, x, key);
        self.try_early(now, x, key);
        if self.live(key).is_some_and(Participant::moves) {
            self.reoffer(now, x, key);
        }
    }

    fn on_open_failed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, why: &str) {
        self.leg_gone(now, x, key);
        self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, Some(alarm::printable(why, 256)));
        self.release(
            now,
            x,
            key,
            Leave { status: 503, failed: true, ..Leave::failure(now, "serverError", Some(503), Some(why.to_owned())) },
        );
    }

    fn on_confirmed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, sdp: Option<&[u8]>) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        if party.offered {
            match party.accept(sdp) {
                Ok(()) => {
                    self.update_leg(x, key);
                    self.media_told(now, x, key);
                }
                Err(error) => {
                    x.count(Counter::BadOffer);
                    self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                    let leave = Leave { failed: true, ..Leave::refuse(now, 488, "serverError") };
                    return self.release(now, x, key, leave);
                }
            }
        }
        if let Some(party) = self.party_mut(key).filter(|p| matches!(p.phase, Phase::Answered)) {
            party.phase = Phase::Up;
            self.try_connect(now, x, key);
        }
    }

    // ---------------------------------------------------------------------------------------- SIP

    pub(super) fn on_sip(&mut self, now: Time, x: &mut Exchange, event: SipEvent) {
        let dialog = match &event {
            SipEvent::Confirmed { dialog, .. }
            | SipEvent::Offer { dialog, .. }
            | SipEvent::Info { dialog, .. }
            | SipEvent::Progress { dialog, .. }
            | SipEvent::Answered { dialog, .. }
            | SipEvent::OfferAnswered { dialog, .. }
            | SipEvent::Referred { dialog, .. }
            | SipEvent::Gone { dialog, .. } => *dialog,
            SipEvent::Invite { .. } | SipEvent::Refused { .. } => return,
        };
        let Some(key) = self.parties.iter().find(|p| p.dialog == Some(dialog)).map(|p| p.key) else { return };
        match event {
            SipEvent::Confirmed { sdp, .. } => self.on_confirmed(now, x, key, sdp.as_deref()),
            SipEvent::Offer { method, sdp, .. } => self.on_offer(now, x, key, &method, sdp.as_deref()),
            SipEvent::OfferAnswered { result, .. } => self.on_offer_answered(now, x, key, result),
            SipEvent::Referred { status, last, .. } => self.on_referred(now, x, key, status, last),
            SipEvent::Info { request, .. } => self.on_info(now, x, key, &request),
            SipEvent::Progress { status, response, .. } => self.on_progress(now, x, key, status, &response),
            SipEvent::Answered { response, .. } => self.on_answered(now, x, key, &response),
            SipEvent::Gone { cause, at, .. } => self.on_gone(now, x, key, cause, at),
            SipEvent::Invite { .. } | SipEvent::Refused { .. } => {}
        }
    }

    fn on_info(&mut self, now: Time, x: &mut Exchange, key: PartyKey, request: &Message) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_up() && p.takes_info_digits()) else { return };
        let Some(digit) = info_digit(request) else { return };
        if party.ivr.is_on() {
            return party.ivr.on_digit(now, digit, false, true);
        }
        // Between two parties a key goes on as its counterpart takes it.
        let bridged = self.connection_of(key).is_some_and(|c| c.bridged);
        if let Some(leg) = self.counterpart(key).filter(|_| bridged).and_then(|k| self.live(k)).and_then(Participant::open_leg) {
            self.media(x, MediaCmd::SendDigit { leg, digit, duration: limits::DIGIT_DURATION });
        }
    }

    /// A re-INVITE or UPDATE: answered, then told (IC-106, IC-107), then passed on as far as it holds the counterpart. What cannot be
    /// used is refused and changes nothing.
    fn on_offer(&mut self, now: Time, x: &mut Exchange, key: PartyKey, method: &Method, sdp: Option<&[u8]>) {
        let Some(party) = self.party_mut(key) else { return };
        let Some(dialog) = party.dialog else { return };
        let usable = party.has_media() && !party.offered && party.is_answered();
        let accepted = match sdp {
            None if *method == Method::Update => x.endpoint.accept_offer(now, dialog, None),
            // RFC 3261 14.2, RFC 3311 5.2: another negotiation is under way.
            _ if !usable => return ignore_late(x.endpoint.refuse_offer(now, dialog, 491)),
            None => {
                let offer = party.offer_late(&x.settings);
                x.endpoint.accept_offer(now, dialog, offer)
            }
            Some(body) => match party.renegotiate(body, &x.settings) {
                Ok(answer) => {
                    self.update_leg(x, key);
                    x.endpoint.accept_offer(now, dialog, Some(answer))
                }
                Err(error) => {
                    x.count(Counter::BadOffer);
                    ignore_late(x.endpoint.refuse_offer(now, dialog, 488));
                    return self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                }
            },
        };
        if accepted.is_ok() && self.live(key).is_some() {
            self.notify_leg(x, key, if *method == Method::Update { "update" } else { "reInvite" });
            self.media_told(now, x, key);
            self.pass_hold(now, x, key);
        }
    }

    /// What one party's hold means for the other: we send it what the first one sends us, and take from it what the first one hears.
    fn pass_hold(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        // One that is held by command holds nobody: its directions are ours.
        let free = self.live(key).filter(|p| p.held.is_none());
        let Some(ours) = free.and_then(|p| p.negotiated.as_ref()).map(|n| n.direction) else { return };
        let Some(other) = self.counterpart(key).filter(|_| self.connection_of(key).is_some_and(|c| c.connected)) else { return };
        let direction = match (ours.receives(), ours.sends()) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        };
        // A party that itself holds is not offered what it declined; its own direction stands.
        self.set_direction(now, x, other, direction);
    }

    /// Our wish for a party's stream; told by a re-INVITE where it changes.
    pub(super) fn set_direction(&mut self, now: Time, x: &mut Exchange, key: PartyKey, direction: Direction) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        party.passed = direction;
        let wanted = match &party.held {
            None => direction,
            Some(HoldAudio::Silence) => Direction::Inactive,
            Some(HoldAudio::File(_)) => Direction::SendOnly,
        };
        if party.direction != wanted {
            party.direction = wanted;
            self.reoffer(now, x, key);
        }
    }

    pub(super) fn reoffer(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_up() && !p.reoffering && !p.offered) else { return };
        let Some(dialog) = party.dialog else { return };
        let codec = party.negotiated.as_ref().map(|n| n.codec);
        codec.into_iter().for_each(|c| party.prefer(c));
        let Some(sdp) = party.reoffer(&x.settings) else { return };
        if x.endpoint.offer(now, dialog, sdp).is_ok() {
            party.reoffering = true;
        }
    }

    fn on_offer_answered(&mut self, now: Time, x: &mut Exchange, key: PartyKey, result: Result<Bytes, u16>) {
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        party.reoffering = false;
        match result {
            Ok(answer) => match party.accept(Some(&answer)) {
                Ok(()) => {
                    // What came to be wanted meanwhile is told now.
                    let more = party.told != party.direction || party.moves();
                    self.update_leg(x, key);
                    if more {
                        self.reoffer(now, x, key);
                    } else {
                        self.media_told(now, x, key);
                    }
                }
                Err(error) => {
                    self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                    self.media_refused(now, x, key, 488);
                }
            },
            // IC-287. The stream stays as it was.
            Err(status) => {
                let leg = Some(Box::new(AlarmLeg {
                    status,
                    participant_id: party.id.clone(),
                    user: party.user.clone(),
                    call_id: party.sip_call_id.clone(),
                }));
                self.alarm_of_leg(now, x, AlarmKind::CallError, alarm::UNEXPECTED_REINVITE_RESPONSE, Some(format!("status {status}")), leg);
                self.media_refused(now, x, key, status);
            }
        }
    }

    pub(super) fn update_leg(&mut self, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party(key) else { return };
        if let (Some(leg), Some(negotiated)) = (party.open_leg(), party.negotiated.clone()) {
            self.media(x, MediaCmd::Update { leg, negotiated: Box::new(negotiated) });
        }
    }

    /// IC-104 to IC-111.
    pub(super) fn notify_leg(&mut self, x: &mut Exchange, key: PartyKey, event: &'static str) {
        let Some(party) = self.party(key) else { return };
        let heard = party.listener.as_ref().map(|listener| listener.heard_as.clone());
        let remote = heard.or_else(|| self.counterpart(key).and_then(|k| self.party(k)).map(|p| (p.id.clone(), p.user.clone())));
        let (remote_participant_id, remote_user) = remote.unzip();
        let notify = Notification::CallNotify {
            info: self.info.clone(),
            event,
            participant_id: party.id.clone(),
            user: party.user.clone(),
            remote_participant_id,
            remote_user,
            sip_call_id: party.sip_call_id.clone(),
            monitoring: party.listener.is_some(),
            reply_to: ReplyTo::Participant,
            target: party.told_device.as_ref().and(party.target.clone()).map(Box::new),
        };
        self.notify(x, notify);
    }

    fn on_gone(&mut self, now: Time, x: &mut Exchange, key: PartyKey, cause: Cause, at: Time) {
        let caller = self.is_caller(key);
        let Some(party) = self.party_mut(key) else { return };
        if let Some(dialog) = party.dialog.take() {
            x.dialogs.remove(&dialog);
        }
        if !party.is_live() {
            // IC-285.
            if cause == Cause::CancelFailed {
                self.alarm(now, x, AlarmKind::CallError, alarm::CANCEL_FAILED, None);
            }
            return;
        }
        let hangup = if caller { "callingPartyHangup" } else { "calledPartyHangup" };
        let leave = match (&party.phase, cause) {
            (Phase::Dialling(_), Cause::Failed { status, why }) => return self.on_refused(now, x, key, status, &why),
            (_, Cause::Cancelled) => Leave { failed: true, ..Leave::hung_up(at, "canceled") },
            (_, Cause::Bye { reason }) => {
                let text = reason.as_deref().map(|r| alarm::printable(r, 128));
                Leave { cause: reason.as_deref().and_then(q850_of), text, ..Leave::hung_up(at, hangup) }
            }
            (_, Cause::SessionExpired) => {
                self.alarm(now, x, AlarmKind::CallError, alarm::SESSION_EXPIRED, None);
                Leave::failure(at, "sessionExpired", None, None)
            }
            (_, Cause::NoAck) => {
                x.log(Level::Warn, Some(&self.info.session_id), "the caller never acknowledged our 200".into());
                Leave::failure(at, "serverError", None, None)
            }
            (_, Cause::Local | Cause::CancelFailed | Cause::Failed { .. }) => Leave::failure(at, "serverError", None, None),
        };
        self.release(now, x, key, leave);
    }

    // ---------------------------------------------------------------------------------------- IVR

    pub(super) fn on_ivr_command(&mut self, now: Time, x: &mut Exchange, key: PartyKey, number: u32, command: IvrCommand) {
        let reference = self.store_reference(command.session_reference.as_ref());
        let full = x.spent.storage.contains(&self.info.domain);
        let recordings = limits::RECORDINGS.saturating_sub(self.recordings.len());
        let policy = self.tenant.recordings;
        let Some(party) = self.party_mut(key) else { return };
        let may = May { recordings, full, unwritable: &x.settings.unwritable, policy };
        party.command = Some(number);
        if let Err(failure) = reference.and_then(|()| party.ivr.on_command(now, command, &mut x.mint, may)) {
            self.hook_failed(x, "getIvrCommand", &failure);
            self.ivr_failed(now, x, key, &failure);
        }
    }

    pub(super) fn ivr_failed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, failure: &HookFailure) {
        let may_restart = !self.restarted_once;
        let tenant = self.tenant.clone();
        let Some(party) = self.party_mut(key) else { return };
        let again = party.ivr.on_failure(now, failure, may_restart, tenant.error_prompt.as_deref(), &mut x.mint);
        if again && failure.lost_instance() {
            self.restarted_once = true;
            x.count(Counter::HookRestarted);
        }
    }

    pub(super) fn on_effect(&mut self, now: Time, x: &mut Exchange, key: PartyKey, effect: Effect) {
        let Some(party) = self.party_mut(key) else { return };
        match effect {
            Effect::Ask { dtmf_buffer, dtmf, recording } => {
                party.command = None;
                let request = IvrRequest {
                    info: SessionInfo::default(),
                    participant_id: party.id.clone(),
                    reply_to: ReplyTo::default(),
                    dtmf_buffer,
                    dtmf,
                    recording,
                };
                self.ask(now, x, key, Hook::GetIvrCommand(Box::new(request)));
            }
            Effect::Prepare { number, sources } => self.prepare(x, number, sources),
            Effect::StartRecording { recording, recording_id, file_name, options, callback } => {
                let (participant_id, caller) = (party.id.clone(), party.user.clone());
                let options = options.with_law_of(party.negotiated.as_ref().map(|n| n.codec));
                let told = Recording::is_named(&options);
                let mut one = Recording::new(recording, recording_id, key, participant_id, options);
                (one.file_name, one.callback, one.told) = (file_name, callback, told);
                (one.phrase, one.announced) = (true, true);
                x.emit(Output::StartRecording(Box::new(self.start_of(&one, caller, self.called.clone()))));
                self.follow(now, x, one);
            }
            Effect::DropRecording(recording) => self.drop_recording(now, x, recording),
            Effect::Play { play, segments, barge_in } => {
                if let Some(leg) = party.open_leg() {
                    self.media(x, MediaCmd::Play { leg, play, segments, barge_in });
                    self.on_ivr_records(now, x, key);
                }
            }
            Effect::StopPlay => {
                if let Some(leg) = party.open_leg() {
                    self.media(x, MediaCmd::StopPlay { leg });
                }
            }
            Effect::Background(audio) => {
                if let Some(leg) = party.open_leg() {
                    self.media(x, MediaCmd::Background { leg, audio });
                }
            }
            Effect::StopRecording(recording, reason) => {
                if let Some(leg) = party.open_leg() {
                    self.media(x, MediaCmd::StopRecording { leg, recording, reason });
                }
            }
            Effect::Alarm { error, details } => self.alarm(now, x, AlarmKind::IvrCommandError, error, Some(details)),
            Effect::Count(counter) => x.count(counter),
            Effect::Hangup { reason } => {
                let reason = if self.rules.is_some() { "fallback" } else { reason };
                self.release(now, x, key, Leave::refuse(now, 480, reason));
            }
            Effect::Route(routing) => {
                // Its connection with the IVR is over; what comes next is a new one.
                if let Some(at) = self.connections.iter().position(|c| c.has(key)) {
                    let connection = self.connections.remove(at);
                    self.stop_recordings(now, x, &connection.id, StopReason::Transfer);
                }
                match self.take_reference(&routing) {
                    Ok(()) => self.on_routing(now, x, key, *routing, alarm::RoutingHook::CallEvent),
                    Err(failure) => {
                        let details = alarm::failure_details(&failure);
                        self.alarm(now, x, AlarmKind::IvrCommandError, alarm::IVR_COMMAND_FAILED, Some(details));
                        self.release(now, x, key, Leave::refuse(now, 480, "serverError"));
                    }
                }
            }
        }
    }

    // ---------------------------------------------------------------------------------------- media

    pub(super) fn on_media(&mut self, now: Time, x: &mut Exchange, event: MediaEvent) {
        let MediaEvent { leg, at, what } = event;
        let Some(key) = self.parties.iter().find(|p| p.leg_id() == Some(leg)).map(|p| p.key) else { return };
        // Between two parties the legs pass keys on; to anybody else they are input, early ones too.
        let alone = self.counterpart(key).is_none();
        let Some(party) = self.party_mut(key) else { return };
        let keys_are_input = alone && party.listener.is_none();
        let live = party.is_live();
        // A leg that goes since a device took its place; its party stays.
        let replaced = live && matches!(party.leg, LegState::Closing(_));
        if self.on_lead_played(now, x, &what) || self.on_own_play(now, x, key, &what) {
            return;
        }
        let Some(party) = self.party_mut(key) else { return };
        match what {
            MediaKind::Opened { local } => self.on_opened(now, x, key, leg, local),
            MediaKind::OpenFailed { why } if live && !replaced => self.on_open_failed(now, x, key, &why),
            MediaKind::OpenFailed { .. } => self.leg_gone(now, x, key),
            MediaKind::SegmentEnded { play, index, .. } => {
                party.ivr.on_segment_ended(play, index);
                self.on_ivr_records(now, x, key);
            }
            MediaKind::QueueEnded { play, how } => party.ivr.on_queue_ended(play, at, how),
            MediaKind::Digit { digit, consumed, .. } if keys_are_input => party.ivr.on_digit(at, digit, consumed, false),
            // No tap could be opened: no block of it will ever come.
            MediaKind::RecordingClosed { recording, reason: reason @ StopReason::Overload, totals } if totals.expected == 0 => {
                party.ivr.on_recording_closed(recording, reason, totals);
                self.drop_recording(now, x, recording);
                self.alarm(now, x, AlarmKind::IvrCommandError, alarm::MEDIA_SERVER_ERROR, Some("no recording could be begun".into()));
            }
            MediaKind::RecordingClosed { recording, reason, totals } => {
                party.ivr.on_recording_closed(recording, reason, totals);
                self.on_recording_closed(now, x, recording, reason, &totals);
            }
            MediaKind::RecordingVoice { recording } => self.on_first_voice(now, x, recording),
            MediaKind::RtpTimeout if live && !replaced => {
                self.alarm(now, x, AlarmKind::CallError, alarm::RTP_MEDIA_TIMEOUT, None);
                // IC-282.
                let leave = Leave {
                    q850: crate::drop_code::reason(41, "Temporary failure"),
                    stop: StopReason::MediaTimeout,
                    cause: Some(41),
                    ..Leave::failure(now, "rtpTimeout", None, None)
                };
                self.release(now, x, key, leave);
            }
            MediaKind::Closed { stats } => {
                party.stats += *stats;
                self.leg_gone(now, x, key);
                if replaced {
                    if let Some(party) = self.party_mut(key) {
                        party.give_up = None;
                    }
                    self.reopen_leg(now, x, key);
                } else if live {
                    self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, Some("the leg ended by itself".into()));
                    self.release(now, x, key, Leave { status: 503, ..Leave::failure(now, "serverError", None, None) });
                }
            }
            MediaKind::Digit { .. } | MediaKind::RtpTimeout | MediaKind::DigitUp { .. } | MediaKind::Flowing { .. } => {}
        }
    }

    /// The media thread's ring was full. A call whose play or record was lost cannot go on as if it were not.
    pub(super) fn on_media_refused(&mut self, now: Time, x: &mut Exchange, leg: LegId) {
        let Some(party) = self.parties.iter_mut().find(|p| p.leg_id() == Some(leg)) else { return };
        let key = party.key;
        match party.leg {
            LegState::Opening(leg) => {
                // Nothing but `Open` can have been refused; should it have got through, this ends it.
                self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
                self.on_open_failed(now, x, key, "media command ring is full");
            }
            LegState::Open(..) => {
                let why = Some("media command ring is full".to_owned());
                self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, why);
                self.release(now, x, key, Leave::failure(now, "serverError", None, None));
            }
            LegState::Closing(_) => party.close_again = Some(now + limits::CLOSE_RETRY),
            LegState::None | LegState::Gone => {}
        }
    }

    pub(super) fn leg_gone(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        if let Some(leg) = party.leg_id() {
            x.legs.remove(&leg);
        }
        party.leg = LegState::Gone;
        party.close_again = None;
        // What was announced and did not close by now never began.
        self.drop_recordings_of(now, x, key);
    }

    /// A leg that does not open, or a release that does not end.
    pub(super) fn on_give_up(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        if party.is_live() {
            if matches!(party.leg, LegState::Opening(_)) {
                let why = Some("the leg does not open".to_owned());
                self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, why);
                self.release(now, x, key, Leave { status: 503, ..Leave::failure(now, "serverError", Some(503), None) });
            } else if matches!(party.leg, LegState::Closing(_)) {
                self.leg_gone(now, x, key);
                self.reopen_leg(now, x, key);
            }
            return;
        }
        if let Some(dialog) = party.dialog.take() {
            x.dialogs.remove(&dialog);
        }
        x.log(Level::Warn, Some(&self.info.session_id), "dropped: its dialog or leg did not end".into());
        self.leg_gone(now, x, key);
    }
}
