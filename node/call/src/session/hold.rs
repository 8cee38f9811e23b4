//! Hold and mute by command (IC-300): who of two connected parties hears the other, and what a held one hears meanwhile.

use super::*;
use crate::door::{CommandResult, HoldAudio, Mute, PromptSource};

impl Session {
    /// A second hold changes what is heard.
    pub(super) fn hold(&mut self, now: Time, x: &mut Exchange, participant_id: &str, audio: &HoldAudio) -> CommandResult {
        let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
        if let HoldAudio::File(name) = audio
            && let Some(why) = crate::ivr::file_name_error(name)
        {
            return Err(CommandError::BadValue { field: "fileName", why: why.to_owned() });
        }
        let connected = |c: &Connection| c.has(key) && c.connected && c.parties().is_some();
        let at = self.connections.iter().position(connected);
        let at = at.ok_or(CommandError::WrongState("the participant is connected with nobody"))?;
        self.stop_own_play(x, key);
        let number = matches!(audio, HoldAudio::File(_)).then(|| x.mint.prepare());
        let Some(party) = self.party_mut(key) else { return Err(CommandError::Unknown("participant")) };
        (party.held, party.hold_prepare) = (Some(audio.clone()), number);
        let passed = party.passed;
        self.wire(x, at);
        self.set_direction(now, x, key, passed);
        if let (HoldAudio::File(name), Some(number)) = (audio, number) {
            self.prepare(x, number, vec![PromptSource::File(name.clone())]);
        }
        Ok(Done::Nothing)
    }

    pub(super) fn resume(&mut self, now: Time, x: &mut Exchange, participant_id: &str) -> CommandResult {
        let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
        let Some(party) = self.party_mut(key).filter(|p| p.held.is_some()) else { return Ok(Done::Nothing) };
        (party.held, party.hold_prepare) = (None, None);
        let passed = party.passed;
        self.stop_own_play(x, key);
        self.set_direction(now, x, key, passed);
        self.rewire(x, key);
        Ok(Done::Nothing)
    }

    pub(super) fn mute(&mut self, x: &mut Exchange, participant_id: &str, mute: Mute) -> CommandResult {
        let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
        if let Some(party) = self.party_mut(key) {
            party.mute = mute;
        }
        self.rewire(x, key);
        Ok(Done::Nothing)
    }

    fn rewire(&self, x: &mut Exchange, key: PartyKey) {
        if let Some(at) = self.connections.iter().position(|c| c.has(key) && c.bridged) {
            self.wire(x, at);
        }
    }
}
