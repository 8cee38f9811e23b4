//! What the parties of a connection are told after the callee answered and before they hear each other (IC-173 to IC-175).

use super::recordings::lead;
use super::*;
use crate::hook::{Greeting, IvrCommand, Phrase, PlayMode};
use crate::ivr;
use crate::participant::OwnPlay;
use crate::track::{Lead, Sound, segments};
use hookswitch_proto::media::{BargeIn, MediaKind, PlayId, Segment};

/// Plays of greetings are numbered from here on: far above those of IVRs, and below those of recordings.
const PLAYS: std::ops::Range<u64> = 1 << 61..1 << 62;

#[derive(Debug)]
pub(super) struct Greetings {
    order: PlayMode,
    caller: Words,
    callee: Words,
    /// Both parties are there.
    pub begun: bool,
}

/// What one side is told.
#[derive(Debug)]
enum Words {
    Preparing { number: u32, sounds: Vec<Sound> },
    Ready(Vec<Segment>),
    Playing(PlayId),
    Over,
}

impl Words {
    fn are_over(&self) -> bool {
        matches!(self, Words::Over)
    }
}

impl Greetings {
    fn sides(&mut self) -> [&mut Words; 2] {
        [&mut self.caller, &mut self.callee]
    }
}

impl Session {
    /// Fetched while the callee rings. `None`: nothing of it can be played.
    pub(super) fn prepare_greetings(&mut self, now: Time, x: &mut Exchange, greeting: &Greeting) -> Option<Box<Greetings>> {
        let caller = self.words(now, x, "caller", &greeting.caller);
        let callee = self.words(now, x, "callee", &greeting.callee);
        let nothing = caller.are_over() && callee.are_over();
        (!nothing).then(|| Box::new(Greetings { order: greeting.order, caller, callee, begun: false }))
    }

    fn words(&mut self, now: Time, x: &mut Exchange, side: &str, phrases: &[Phrase]) -> Words {
        let (mut sources, mut sounds) = (Vec::new(), Vec::new());
        let whole = IvrCommand { phrases: phrases.to_vec(), ..IvrCommand::default() };
        if let Err((field, why)) = ivr::check(&whole) {
            self.greeting_failed(now, x, alarm::PHRASE_ERROR, &format!("{side}: {field}: {why}"));
            return Words::Over;
        }
        let full = x.spent.storage.contains(&self.info.domain);
        for (i, phrase) in phrases.iter().enumerate() {
            let mut phrase = phrase.clone();
            if full && ivr::unname(&mut phrase) {
                self.greeting_failed(now, x, alarm::PHRASE_ERROR, &format!("{side}, phrase {}: {}", i + 1, ivr::unkept_why()));
            }
            match lead(&[phrase], false) {
                Ok(Lead::Waiting { sources: more, sounds: heard }) => {
                    sources.extend(more);
                    sounds.extend(heard);
                }
                Ok(_) => {}
                // IC-250: it is skipped.
                Err(why) => self.greeting_failed(now, x, alarm::PHRASE_ERROR, &format!("{side}, phrase {}: {why}", i + 1)),
            }
        }
        if sounds.is_empty() {
            Words::Over
        } else if sources.is_empty() {
            Words::Ready(segments(&sounds, std::iter::empty()))
        } else {
            let number = x.mint.prepare();
            self.prepare(x, number, sources);
            Words::Preparing { number, sounds }
        }
    }

    fn greeting_failed(&mut self, now: Time, x: &mut Exchange, error: &str, why: &str) {
        let details = Some(format!("greeting of the {}", alarm::printable(why, 512)));
        self.alarm(now, x, AlarmKind::IvrCommandError, error, details);
    }

    /// The clips of a greeting are there. False: they are not for one.
    pub(super) fn on_greeting_prepared(&mut self, now: Time, x: &mut Exchange, number: u32, clips: &Clips) -> bool {
        let awaits = |w: &Words| matches!(w, Words::Preparing { number: n, .. } if *n == number);
        let found = self.connections.iter_mut().enumerate().find_map(|(at, c)| {
            let words = c.greetings.as_mut()?.sides().into_iter().find(|w| awaits(w))?;
            let Words::Preparing { sounds, .. } = std::mem::replace(words, Words::Over) else { return None };
            let segments = segments(&sounds, clips.iter().map(|c| c.as_ref().ok().cloned()));
            if !segments.is_empty() {
                *words = Words::Ready(segments);
            }
            Some(at)
        });
        let Some(at) = found else { return false };
        for failed in clips.iter().filter_map(|c| c.as_ref().err()) {
            self.greeting_failed(now, x, ivr::alarm_of(failed), &format!("call: {failed}"));
        }
        self.go_on(now, x, at);
        true
    }

    /// A play of a greeting. False: it is none.
    pub(super) fn on_greeting_played(&mut self, now: Time, x: &mut Exchange, what: &MediaKind) -> bool {
        let (MediaKind::SegmentEnded { play, .. } | MediaKind::QueueEnded { play, .. }) = what else { return false };
        if !PLAYS.contains(&play.0) {
            return false;
        }
        // However it ended: what took its place is heard instead.
        if matches!(what, MediaKind::QueueEnded { .. }) {
            let plays = |w: &Words| matches!(w, Words::Playing(p) if p == play);
            let found = self.connections.iter_mut().enumerate().find_map(|(at, c)| {
                let parties = c.parties()?;
                let [caller, callee] = c.greetings.as_mut()?.sides();
                let (words, key) = if plays(caller) { (caller, parties.0) } else { (callee, parties.1) };
                plays(words).then(|| {
                    *words = Words::Over;
                    (at, key)
                })
            });
            if let Some((at, key)) = found {
                if let Some(party) = self.party_mut(key) {
                    party.plays = None;
                }
                self.go_on(now, x, at);
            }
        }
        true
    }

    fn go_on(&mut self, now: Time, x: &mut Exchange, at: usize) {
        if let Some((caller, _)) = self.connections.get(at).and_then(Connection::parties) {
            self.try_connect(now, x, caller);
        }
    }

    /// Plays what is next. True: there are greetings yet, so nobody hears the other.
    pub(super) fn greet(&mut self, x: &mut Exchange, at: usize) -> bool {
        let Some((caller, called)) = self.connections[at].parties() else { return false };
        if self.connections[at].greetings.is_none() {
            return false;
        }
        let is_up = |key| self.live(key).is_some_and(|p| p.is_up() && p.on_leg());
        let (caller_up, called_up) = (is_up(caller), is_up(called));
        if called_up && std::mem::take(&mut self.connections[at].bridged) {
            // Its early media ends with its answer.
            self.wire(x, at);
        }
        if !caller_up || !called_up {
            return true;
        }
        let Some(mut greetings) = self.connections[at].greetings.take() else { return false };
        greetings.begun = true;
        let (first, second) = match greetings.order {
            PlayMode::Both => (true, true),
            PlayMode::CallerFirst => (true, greetings.caller.are_over()),
            PlayMode::CalleeFirst => (greetings.callee.are_over(), true),
        };
        if first {
            self.say(x, caller, &mut greetings.caller);
        }
        if second {
            self.say(x, called, &mut greetings.callee);
        }
        if greetings.caller.are_over() && greetings.callee.are_over() {
            return false;
        }
        let connection = &mut self.connections[at];
        let told = matches!(greetings.caller, Words::Playing(_));
        connection.greetings = Some(greetings);
        if told {
            connection.ringback_prepare = None;
        } else if connection.ringback_prepare.is_none() && self.live(caller).is_some_and(|p| p.plays.is_none()) {
            // The caller goes on hearing that it rings.
            self.start_ringback(x, caller);
        }
        true
    }

    fn say(&mut self, x: &mut Exchange, key: PartyKey, words: &mut Words) {
        let Words::Ready(segments) = words else { return };
        let segments = std::mem::take(segments);
        let play = PlayId(PLAYS.start + u64::from(x.mint.prepare()));
        let Some(party) = self.party_mut(key) else { return };
        let Some(leg) = party.open_leg() else { return };
        party.plays = Some(OwnPlay::Greeting);
        *words = Words::Playing(play);
        self.media(x, MediaCmd::Play { leg, play, segments, barge_in: BargeIn::None });
    }
}
