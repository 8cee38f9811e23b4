//! What REST, guests' host calls, the console and the CLI order of a session: one validation for all of them (IC-022 to IC-082).

use super::*;
use crate::door::CommandResult;
use crate::outbound;
use dial::Calling;
use hookswitch_proto::media::DigitSet;

impl Session {
    pub(super) fn on_command(&mut self, now: Time, x: &mut Exchange, command: &Command) -> CommandResult {
        let harmless = matches!(command, Command::HangupParticipant { .. } | Command::HangupCall { .. } | Command::GetRecording { .. });
        if self.end.is_some() && !harmless {
            return Err(CommandError::WrongState("the session is over"));
        }
        match command {
            Command::HangupParticipant { participant_id, .. } => {
                if let Some(key) = self.party_of_device(participant_id) {
                    self.device_hangs_up(now, x, key);
                } else if let Some(key) = self.find(participant_id)? {
                    self.hang_up(now, x, key, "apiHangup");
                }
                // IC-015: a second hang-up changes nothing.
                Ok(Done::Nothing)
            }
            Command::HangupRemoteParticipant { participant_id, .. } => {
                let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
                if self.connection_of(key).is_some_and(|c| c.device().is_some()) {
                    self.device_hangs_up(now, x, key);
                    return Ok(Done::Nothing);
                }
                let none = CommandError::WrongState("the participant has no counterpart");
                let other = self.counterpart(key).ok_or(none)?;
                self.hang_up(now, x, other, "apiHangup");
                Ok(Done::Nothing)
            }
            Command::SplitConnection { connection_id, .. } => {
                let at = self.find_connection(connection_id)?;
                if self.device_call {
                    return Err(CommandError::WrongState("nobody decides what follows for the party of a device's call"));
                }
                self.split(now, x, at);
                Ok(Done::Nothing)
            }
            Command::StartRecording { target, options, prompts, .. } => {
                self.start_recording(now, x, target, (**options).clone(), prompts, true)
            }
            Command::StopRecording { which, .. } => self.stop_recording(now, x, which, StopReason::ApiStop),
            Command::PauseRecording { which, behavior, .. } => self.pause_recording(now, x, which, *behavior),
            Command::ResumeRecording { which, .. } => self.resume_recording(now, x, which),
            Command::DiscardRecording { which, .. } => self.discard_recording(now, x, which),
            Command::GetRecording { which, .. } => self.recording_status(which),
            Command::CancelMedia { .. } => {
                self.cancel_media(now, x, StopReason::ApiStop);
                Ok(Done::Nothing)
            }
            Command::InterruptIvrCommand { command, .. } => {
                let running = |p: &&mut Participant| match command {
                    Some(number) => p.command == Some(*number),
                    None => p.command.is_some(),
                };
                match (self.parties.iter_mut().filter(|p| p.is_live()).find(running), command) {
                    (Some(party), _) => party.ivr.interrupt(now).map(|()| Done::Nothing),
                    (None, Some(_)) => Err(CommandError::WrongState("that IVR command has ended")),
                    (None, None) => Err(CommandError::WrongState("no IVR command is running")),
                }
            }
            Command::SendDtmf { participant_id, digits, length, .. } => self.send_dtmf(x, participant_id, digits, *length),
            Command::Transfer { participant_id, target, .. } => self.transfer(now, x, participant_id, target),
            Command::Hold { participant_id, audio, .. } => self.hold(now, x, participant_id, audio),
            Command::Resume { participant_id, .. } => self.resume(now, x, participant_id),
            Command::Mute { participant_id, mute, .. } => self.mute(x, participant_id, *mute),
            Command::Play { participant_id, phrases, .. } => self.play(now, x, participant_id, phrases),
            Command::SetTimer { name, after, .. } => self.set_timer(now, name, *after),
            Command::CancelTimer { name, .. } => self.cancel_timer(name),
            Command::PlaceIvrCall(call) => self.place_ivr_call(now, x, call),
            Command::SendRemoteCallRingback { .. } => self.ring_back(now, x),
            Command::AnswerRemoteCall { device, session_reference, .. } => {
                self.answer_remote_call(now, x, device, session_reference.as_ref())
            }
            Command::HangupCall { .. } => self.hangup_call(now, x),
            Command::PlaceRemoteCall(_) => Err(CommandError::WrongState("a device's call has a session of its own")),
        }
    }

    /// A party is released by somebody's order.
    pub(super) fn hang_up(&mut self, now: Time, x: &mut Exchange, key: PartyKey, reason: &'static str) {
        // One that is being called has not answered, whoever cancels it.
        let failed = !self.live(key).is_some_and(Participant::is_answered);
        let text = failed.then(|| "released by command".to_owned());
        let leave = Leave::refuse(now, 603, reason);
        self.release(now, x, key, Leave { failed, sip_code: failed.then_some(487), text, ..leave });
    }

    /// `None`: it is gone, or about to be.
    pub(super) fn find(&self, participant_id: &str) -> Result<Option<PartyKey>, CommandError> {
        match self.parties.iter().find(|p| p.id == participant_id) {
            Some(party) => Ok(Some(party.key).filter(|_| party.is_live())),
            None if self.departed.iter().any(|id| id == participant_id) => Ok(None),
            None => Err(CommandError::Unknown("participant")),
        }
    }

    fn find_connection(&self, connection_id: &str) -> Result<usize, CommandError> {
        let at = self.connections.iter().position(|c| c.id == connection_id).ok_or(CommandError::Unknown("connection"))?;
        if self.connections[at].connected { Ok(at) } else { Err(CommandError::WrongState("the connection is not up yet")) }
    }

    fn send_dtmf(&mut self, x: &mut Exchange, participant_id: &str, digits: &str, length: Option<Duration>) -> CommandResult {
        let key = self.find(participant_id)?;
        let bad = |why: &str| CommandError::BadValue { field: "digits", why: why.into() };
        if digits.is_empty() || digits.len() > hookswitch_proto::limits::DIGITS {
            return Err(bad("1 to 64 are possible"));
        }
        if DigitSet::parse(digits).is_none() {
            return Err(bad("0-9, *, # and A-D are possible"));
        }
        let duration = length.unwrap_or(limits::DIGIT_DURATION);
        if !(limits::DIGIT_MIN..=limits::DIGIT_MAX).contains(&duration) {
            let (from, to) = (limits::DIGIT_MIN.as_millis(), limits::DIGIT_MAX.as_millis());
            return Err(CommandError::BadValue { field: "digitMs", why: format!("{from} to {to} are possible") });
        }
        let party = key.and_then(|k| self.live(k)).filter(|p| p.is_up());
        let leg = party.and_then(Participant::open_leg).ok_or(CommandError::WrongState("the participant is not connected"))?;
        if party.is_some_and(Participant::takes_info_digits) {
            return Err(CommandError::WrongState("the participant takes no telephone events"));
        }
        for digit in digits.chars() {
            let digit = digit.to_ascii_uppercase();
            self.media(x, MediaCmd::SendDigit { leg, digit, duration });
        }
        Ok(Done::Nothing)
    }

    /// IC-060 to IC-075: whoever answers gets the IVR.
    pub(super) fn place_ivr_call(&mut self, now: Time, x: &mut Exchange, placed: &PlaceIvrCall) -> CommandResult {
        let bad = |field, why: &str| CommandError::BadValue { field, why: why.to_owned() };
        let target = outbound::target(&placed.call.dest_addr).ok_or_else(|| bad("destAddr", "not a SIP URI"))?;
        outbound::check(&placed.call).map_err(|e| bad(e.field, e.why))?;
        if placed.mediaservice_id.as_ref().is_some_and(|id| !self.tenant.mediaservice_ids.contains(id)) {
            return Err(CommandError::Unknown("mediaserviceId"));
        }
        check_reference(placed.call.session_reference.as_ref())?;
        self.may_dial().map_err(CommandError::WrongState)?;
        if self.attempts >= limits::ATTEMPTS {
            return Err(CommandError::WrongState("too many calls out of the session"));
        }
        self.attempts += 1;
        if let Some(reference) = &placed.call.session_reference {
            self.info.session_reference = Some(reference.clone());
        }
        let participant_id = x.mint.uuid();
        let ivr = End::Ivr { id: x.mint.uuid(), user: placed.call.sip_from.clone().unwrap_or_default() };
        let calling =
            Calling { participant_id: participant_id.clone(), call: placed.call.clone(), target, alarm: AlarmKind::CallEventError };
        let key = self.dial(now, x, calling, None);
        self.new_connection(x, ivr, End::Party(key));
        self.begin_dial(now, x, key);
        Ok(Done::Placed { session_id: self.info.session_id.clone(), participant_id, reply_to: ReplyTo::Participant })
    }
}

/// IC-012.
pub(super) fn check_reference(reference: Option<&String>) -> Result<(), CommandError> {
    match reference {
        Some(text) if text.len() > limits::SESSION_REFERENCE => {
            Err(CommandError::BadValue { field: "sessionReferenceId", why: "larger than 4 KiB".into() })
        }
        _ => Ok(()),
    }
}
