//! What we play in a loop to a party that nobody talks to: ringing while another is called (IC-171, IC-172), music on hold.

use super::*;
use crate::door::{Prepare, PromptSource};
use crate::participant::OwnPlay;
use crate::ringing;
use connection::Ringback;
use hookswitch_proto::limits::PLAY_SEGMENTS;
use hookswitch_proto::media::{BargeIn, Clip, Ended, MediaKind, PlayId, Segment};
use std::sync::Arc;

/// All loops; the IVR counts its plays from one, greetings and recordings far above that.
const LOOP: PlayId = PlayId(u64::MAX);

impl Session {
    /// What an answered party hears while another is called.
    pub(super) fn start_ringback(&mut self, x: &mut Exchange, key: PartyKey) {
        if !self.live(key).is_some_and(Participant::is_answered) {
            return;
        }
        let (number, country) = (x.mint.prepare(), self.tenant.country);
        let Some(connection) = self.connection_mut(key) else { return };
        let sources = match &connection.ringback {
            Ringback::Silence | Ringback::Early => return,
            // Each part of the cadence is a tone with its pause.
            Ringback::Standard => {
                let part = |(on, off)| PromptSource::Tone { hz: country.hz(), level_dbm0: ringing::LEVEL_DBM0, on, off, total: on + off };
                country.cadence().map(part).collect()
            }
            Ringback::Prompt(source) => vec![source.clone()],
        };
        connection.ringback_prepare = Some(number);
        self.prepare(x, number, sources);
    }

    pub(super) fn prepare(&self, x: &mut Exchange, number: u32, sources: Vec<PromptSource>) {
        let domain = self.tenant.domain.clone();
        x.emit(Output::Prepare(Box::new(Prepare { session: self.id, number, domain, sources })));
    }

    pub(super) fn on_prepared(&mut self, now: Time, x: &mut Exchange, number: u32, clips: Clips) {
        if self.on_lead_prepared(now, x, number, &clips) || self.on_greeting_prepared(now, x, number, &clips) {
            return;
        }
        if let Some(party) = self.parties.iter_mut().find(|p| p.ivr.awaits(number)) {
            return party.ivr.on_prepared(now, number, clips, &mut x.mint);
        }
        let (key, what, longest) = if let Some(party) = self.parties.iter_mut().find(|p| p.hold_prepare == Some(number)) {
            party.hold_prepare = None;
            (party.key, "hold", None)
        } else if let Some(connection) = self.connections.iter_mut().find(|c| c.ringback_prepare == Some(number)) {
            connection.ringback_prepare = None;
            let End::Party(key) = connection.caller else { return };
            (key, "ringback", Some(limits::RING_MAX))
        } else {
            return;
        };
        match clips.into_iter().collect::<Result<Vec<Clip>, _>>() {
            Ok(parts) => self.play_loop(x, key, joined(parts), longest),
            Err(_) => x.log(Level::Warn, Some(&self.info.session_id), format!("{what}: the prompt cannot be played, silence instead")),
        }
    }

    /// As often as `longest` needs and a queue has room for, then again from the start; the clip is shared.
    fn play_loop(&mut self, x: &mut Exchange, key: PartyKey, clip: Clip, longest: Option<Duration>) {
        let millis = u128::from(u64::try_from(clip.pcmu.len() / 8).unwrap_or(1).max(1));
        let needed = longest.map(|t| usize::try_from(t.as_millis() / millis).unwrap_or(1));
        let times = needed.unwrap_or(PLAY_SEGMENTS).clamp(1, PLAY_SEGMENTS);
        let Some(party) = self.party_mut(key) else { return };
        let Some(leg) = party.open_leg() else { return };
        let segments = vec![Segment::Clip(clip.clone()); times];
        party.plays = Some(OwnPlay::Loop(clip));
        self.media(x, MediaCmd::Play { leg, play: LOOP, segments, barge_in: BargeIn::None });
    }

    pub(super) fn stop_own_play(&mut self, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        if party.plays.take().is_some()
            && let Some(leg) = party.open_leg()
        {
            self.media(x, MediaCmd::StopPlay { leg });
        }
    }

    /// What becomes of a play of ours. False: it is none.
    pub(super) fn on_own_play(&mut self, now: Time, x: &mut Exchange, key: PartyKey, what: &MediaKind) -> bool {
        match what {
            MediaKind::SegmentEnded { play: LOOP, .. } => true,
            MediaKind::QueueEnded { play: LOOP, how } => {
                if let (Ended::Done, Some(OwnPlay::Loop(clip))) = (how, self.live(key).and_then(|p| p.plays.as_ref())) {
                    let clip = clip.clone();
                    // An empty one would come round at once, for ever.
                    if !clip.pcmu.is_empty() {
                        self.play_loop(x, key, clip, None);
                    }
                }
                true
            }
            other => self.on_greeting_played(now, x, other),
        }
    }
}

/// One after the other.
fn joined(mut parts: Vec<Clip>) -> Clip {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let law = |of: fn(&Clip) -> &Arc<[u8]>| parts.iter().flat_map(|p| of(p).iter().copied()).collect();
    Clip { pcmu: law(|c| &c.pcmu), pcma: law(|c| &c.pcma) }
}
