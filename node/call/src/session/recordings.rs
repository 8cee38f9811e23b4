//! Recordings of a session (docs/conformance.md, "Unified recording model"): what is ordered of them by whatever door, their turn, what
//! plays before them, and their states. One of an IVR command begins and ends in `ivr.rs`; from then on it is followed here like any other.
//!
//! Start with [`Session::start_recording`].

use super::*;
use crate::admission::Quota;
use crate::door::{CommandResult, RecordingMoved, RecordingStart, WhichRecording};
use crate::hook::{IvrCommand, Phrase, RecordingResult};
use crate::ivr;
use crate::recording::{Channels, Dialect, Direction, Mode, PauseBehavior, Phase, Place, QueuePolicy, RecordingOptions, Target};
use crate::track::{Lead, Recording, Sound, segments};
use hookswitch_proto::limits::TAPS;
use hookswitch_proto::media::{BargeIn, Ended, FRAME_TIME, MediaKind, PlayId, RecordingTotals};

/// Plays of recordings are numbered from here on, far above those of IVRs.
const PLAYS: u64 = 1 << 62;

/// Why an operation that only plays prompts ended well.
const PLAYED: &str = "played";

const NONE_RUNS: CommandError = CommandError::WrongState("no recording is running");

/// What a command named.
enum Found {
    At(usize),
    /// It has reached its last state.
    Over,
}

impl Session {
    // ---------------------------------------------------------------------------------------- orders

    pub(super) fn start_recording(
        &mut self,
        now: Time,
        x: &mut Exchange,
        target: &Target,
        mut options: RecordingOptions,
        prompts: &[Phrase],
        told: bool,
    ) -> CommandResult {
        let bad = |field, why: &str| CommandError::BadValue { field, why: why.to_owned() };
        options = options.under(self.tenant.recordings);
        let of_call = options.dialect == Dialect::Iotcomms;
        // As the vendor calls it.
        let named = |field| if of_call && field == "fileName" { "recordingFileName" } else { field };
        if of_call && options.file_name.is_none() {
            options.container.get_or_insert(x.settings.unwritable.of_call());
        }
        let possible = options.check().and_then(|()| x.settings.unwritable.check(&options));
        possible.map_err(|(field, why)| CommandError::BadValue { field: named(field), why })?;
        if options.mode == Some(Mode::Foreground) {
            return Err(bad("mode", "only a phrase of an IVR command is in the foreground"));
        }
        if of_call && options.file_name.as_ref().is_some_and(|n| crate::recording::Container::of_name(n).is_none()) {
            return Err(bad("recordingFileName", "must end in .wav, .mp3, .mp4 or .ogg"));
        }
        let (key, connection) = self.target(target)?;
        if let Some(id) = &options.control_id
            && self.recordings.iter().any(|r| !r.is_closed() && r.is_called(id))
        {
            return Err(bad("controlId", "is that of another recording of the session"));
        }
        let recorded = |r: &&Recording| !r.is_closed() && connection.is_some() && r.connection_id == connection;
        if of_call && self.recordings.iter().any(|r| recorded(&r)) {
            return Err(CommandError::WrongState("the connection is being recorded"));
        }
        if self.recordings.len() >= limits::RECORDINGS {
            return Err(CommandError::WrongState("too many recordings are being stored"));
        }
        if !options.prompts_only && x.spent.storage.contains(&self.info.domain) {
            x.count(Quota::Storage.counter());
            let error = format!("{}: {}", alarm::QUOTA, Quota::Storage.name());
            self.alarm(now, x, AlarmKind::SessionError, &error, None);
            return Err(CommandError::Quota(Quota::Storage));
        }
        let options = options.filled(if connection.is_some() { Place::Connection } else { Place::Leg });
        if options.channels == Some(Channels::Stereo) && options.direction != Some(Direction::Both) {
            return Err(bad("channels", "stereo needs direction both"));
        }
        if options.mode == Some(Mode::Background) && self.taps(key) >= TAPS {
            return Err(CommandError::WrongState("too many recordings of one leg"));
        }
        if options.prompts_only && prompts.is_empty() {
            return Err(bad("prompts", "is empty"));
        }
        let lead = lead(prompts, options.beep == Some(true))?;
        let Some(party) = self.live(key) else { return Err(CommandError::WrongState("the participant is gone")) };
        let (participant_id, codec) = (party.id.clone(), party.negotiated.as_ref().map(|n| n.codec));
        let (id, recording_id) = (x.mint.recording(), x.mint.uuid());
        let barge = options.queue_policy == QueuePolicy::Barge;
        let mut recording = Recording::new(id, recording_id.clone(), key, participant_id, options.with_law_of(codec));
        let ending = recording.options.container().name();
        recording.file_name = match (&recording.options.file_name, &connection) {
            (Some(name), _) => name.clone(),
            (None, Some(connection)) if of_call => format!("{}-{connection}.{ending}", self.info.session_id),
            (None, _) => format!("{}-{recording_id}.{ending}", self.info.session_id),
        };
        recording.connection_id = connection;
        recording.callback = !recording.options.prompts_only;
        recording.told = told && (!of_call || Recording::is_named(&recording.options));
        recording.lead = lead;
        let file_name = recording.file_name.clone();
        if barge {
            self.cancel_media(now, x, StopReason::Superseded);
        }
        self.follow(now, x, recording);
        self.run_recordings(now, x);
        Ok(Done::Recording { recording_id, file_name })
    }

    /// From the moment a connection is up (IC-167). What it was asked for is recorded under another name or in another way rather than not.
    pub(super) fn record_connection(&mut self, now: Time, x: &mut Exchange, at: usize, options: RecordingOptions) -> CommandResult {
        let connection = self.connections.get(at).ok_or(CommandError::Unknown("connection"))?;
        let target = Target::Connection(connection.id.clone());
        self.start_recording(now, x, &target, options, &[], true)
    }

    /// Phrases to one party, as the prompts of a recording play that records nothing; nobody hears how it went.
    pub(super) fn play(&mut self, now: Time, x: &mut Exchange, participant_id: &str, phrases: &[Phrase]) -> CommandResult {
        let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
        if self.party(key).is_some_and(|p| p.ivr.is_on()) {
            return Err(CommandError::WrongState("the participant is in the IVR"));
        }
        let options = RecordingOptions { prompts_only: true, mode: Some(Mode::Queued), ..RecordingOptions::default() };
        let target = Target::Participant(participant_id.to_owned());
        match self.start_recording(now, x, &target, options, phrases, false) {
            Ok(_) => Ok(Done::Nothing),
            Err(CommandError::BadValue { field: "prompts", why }) => Err(CommandError::BadValue { field: "phrases", why }),
            Err(error) => Err(error),
        }
    }

    pub(super) fn stop_recording(&mut self, now: Time, x: &mut Exchange, which: &WhichRecording, reason: StopReason) -> CommandResult {
        if let WhichRecording::Connection(id) = which {
            if !self.connections.iter().any(|c| c.id == *id) {
                return Err(CommandError::Unknown("connection"));
            }
            return if self.stop_recordings(now, x, id, reason) { Ok(Done::Nothing) } else { Err(NONE_RUNS) };
        }
        match self.find_recording(which)? {
            Found::Over => {}
            Found::At(i) if self.recordings[i].is_closed() => {}
            Found::At(i) if self.recordings[i].phrase && !self.recordings[i].runs() => {
                return Err(CommandError::WrongState("the recording does not run yet"));
            }
            Found::At(i) => self.end_recording(now, x, i, reason),
        }
        Ok(Done::Nothing)
    }

    pub(super) fn discard_recording(&mut self, now: Time, x: &mut Exchange, which: &WhichRecording) -> CommandResult {
        match self.find_recording(which)? {
            Found::At(i) if self.recordings[i].phase < Phase::Stopping => {
                if self.recordings[i].phrase && !self.recordings[i].runs() {
                    return Err(CommandError::WrongState("the recording does not run yet"));
                }
                self.end_recording(now, x, i, StopReason::Discarded);
                Ok(Done::Nothing)
            }
            _ => Err(CommandError::WrongState("the recording has ended")),
        }
    }

    pub(super) fn pause_recording(
        &mut self,
        now: Time,
        x: &mut Exchange,
        which: &WhichRecording,
        behavior: Option<PauseBehavior>,
    ) -> CommandResult {
        let Found::At(i) = self.find_recording(which)? else { return Err(CommandError::WrongState("the recording has ended")) };
        let recording = &mut self.recordings[i];
        if !matches!(recording.phase, Phase::Armed | Phase::Recording) {
            return Err(CommandError::WrongState("the recording does not run"));
        }
        let behavior = behavior.unwrap_or(recording.options.pause_behavior);
        recording.paused = Some(behavior);
        let (id, key) = (recording.id, recording.party);
        if let Some(leg) = self.party(key).and_then(Participant::open_leg) {
            self.media(x, MediaCmd::PauseRecording { leg, recording: id, behavior });
        }
        self.set_phase(now, x, i, Phase::Paused);
        Ok(Done::Nothing)
    }

    pub(super) fn resume_recording(&mut self, now: Time, x: &mut Exchange, which: &WhichRecording) -> CommandResult {
        let Found::At(i) = self.find_recording(which)? else { return Err(CommandError::WrongState("the recording has ended")) };
        let recording = &mut self.recordings[i];
        if recording.phase != Phase::Paused {
            return Err(CommandError::WrongState("the recording is not paused"));
        }
        recording.paused = None;
        let (id, key, phase) = (recording.id, recording.party, running_phase(recording));
        if let Some(leg) = self.party(key).and_then(Participant::open_leg) {
            self.media(x, MediaCmd::ResumeRecording { leg, recording: id });
        }
        self.set_phase(now, x, i, phase);
        Ok(Done::Nothing)
    }

    pub(super) fn recording_status(&self, which: &WhichRecording) -> CommandResult {
        let at = match which {
            WhichRecording::Last => self.recordings.len().checked_sub(1),
            WhichRecording::Id(id) => self.recordings.iter().rposition(|r| r.is_called(id)),
            WhichRecording::Connection(id) => self.recordings.iter().rposition(|r| r.connection_id.as_ref() == Some(id)),
        };
        let recording = at.map(|i| &self.recordings[i]).ok_or(CommandError::Unknown("recording"))?;
        Ok(Done::RecordingStatus(Box::new(recording.status())))
    }

    /// UR-007: what runs in turn and what waits for its turn, each to its own end. Recordings in the background are not meant: whoever
    /// asks for a short reply must not end the recording of the whole call.
    pub(super) fn cancel_media(&mut self, now: Time, x: &mut Exchange, reason: StopReason) {
        let in_turn = |r: &Recording| !r.phrase && r.options.mode == Some(Mode::Queued) && !r.is_closed();
        let ids: Vec<_> = self.recordings.iter().filter(|r| in_turn(r)).map(|r| r.id).collect();
        for id in ids {
            if let Some(i) = self.recordings.iter().position(|r| r.id == id) {
                self.end_recording(now, x, i, reason);
            }
        }
        for party in self.parties.iter_mut().filter(|p| p.is_live() && p.ivr.is_busy()) {
            // A command that has just ended needs no interruption.
            let _ = party.ivr.interrupt(now);
        }
    }

    /// Whose leg feeds it, and which connection it is of.
    fn target(&self, target: &Target) -> Result<(PartyKey, Option<String>), CommandError> {
        let of_connection = |connection: &Connection| {
            if !connection.connected {
                return Err(CommandError::WrongState("the connection is not up yet"));
            }
            let tapped = connection.tapped().filter(|key| self.live(*key).is_some_and(|p| p.open_leg().is_some()));
            let key = tapped.ok_or(CommandError::WrongState("the connection has no media"))?;
            Ok((key, Some(connection.id.clone())))
        };
        let of_leg = |party: &Participant| {
            let ready = party.is_live() && party.is_answered() && party.open_leg().is_some();
            if ready { Ok((party.key, None)) } else { Err(CommandError::WrongState("the participant has no media")) }
        };
        match target {
            Target::Connection(id) => {
                let found = self.connections.iter().find(|c| c.id == *id);
                found.ok_or(CommandError::Unknown("connection")).and_then(of_connection)
            }
            Target::Participant(id) => {
                let found = self.parties.iter().find(|p| p.id == *id);
                found.ok_or(CommandError::Unknown("participant")).and_then(of_leg)
            }
            Target::Session => {
                let mut up = self.connections.iter().filter(|c| c.connected);
                let mut legs = self.parties.iter().filter(|p| p.is_live());
                match (up.next(), up.next(), legs.next(), legs.next()) {
                    (Some(connection), None, ..) => of_connection(connection),
                    (None, None, Some(party), None) => of_leg(party),
                    (None, None, None, _) => Err(CommandError::WrongState("nobody is there")),
                    _ => Err(CommandError::WrongState("the session has more than one connection or leg")),
                }
            }
        }
    }

    fn find_recording(&self, which: &WhichRecording) -> Result<Found, CommandError> {
        let running = |r: &Recording| !r.is_closed() && (!r.phrase || r.runs());
        match which {
            WhichRecording::Last => self.recordings.iter().rposition(running).map(Found::At).ok_or(NONE_RUNS),
            WhichRecording::Connection(id) => {
                let of = |r: &Recording| running(r) && r.connection_id.as_ref() == Some(id);
                self.recordings.iter().rposition(of).map(Found::At).ok_or(NONE_RUNS)
            }
            WhichRecording::Id(id) => {
                let named = |r: &Recording| r.is_called(id);
                let open = self.recordings.iter().rposition(|r| named(r) && !r.is_closed());
                match open.or_else(|| self.recordings.iter().rposition(named)) {
                    Some(i) => Ok(Found::At(i)),
                    None if self.recordings_over.iter().any(|over| over == id) => Ok(Found::Over),
                    None => Err(CommandError::Unknown("recording")),
                }
            }
        }
    }

    /// Recordings of a leg that have a tap or are about to.
    fn taps(&self, key: PartyKey) -> usize {
        let waits = |r: &Recording| !r.phrase && r.options.mode == Some(Mode::Background) && !r.is_closed();
        self.recordings.iter().filter(|r| r.party == key && (r.runs() || waits(r))).count()
    }

    // ---------------------------------------------------------------------------------------- their turn

    /// From now on it is followed.
    pub(super) fn follow(&mut self, now: Time, x: &mut Exchange, recording: Recording) {
        if recording.told {
            x.recordings.insert(recording.recording_id.clone(), self.id);
        }
        let (caller, called) = (self.caller.clone(), self.called.clone());
        self.recordings.push(Recording { caller, called, ..recording });
        let i = self.recordings.len() - 1;
        // One that begins at once was never in a queue.
        if self.recordings[i].phrase || !self.may_begin(i) {
            self.tell(now, x, i);
        }
    }

    /// Begins what may begin: called after each input, so that whatever ended makes room.
    pub(super) fn run_recordings(&mut self, now: Time, x: &mut Exchange) {
        loop {
            let waits = |r: &Recording| r.phase == Phase::Queued && !r.phrase && matches!(r.lead, Lead::Waiting { .. });
            let next = (0..self.recordings.len()).find(|i| waits(&self.recordings[*i]) && self.may_begin(*i));
            let Some(i) = next else { return };
            let Lead::Waiting { sources, sounds } = std::mem::replace(&mut self.recordings[i].lead, Lead::Over) else { return };
            if sounds.is_empty() {
                self.open_tap(now, x, i);
            } else if sources.is_empty() {
                self.play_lead(now, x, i, &sounds, Vec::new());
            } else {
                let number = x.mint.prepare();
                self.recordings[i].lead = Lead::Preparing { number, sounds };
                self.prepare(x, number, sources);
            }
        }
    }

    fn may_begin(&self, i: usize) -> bool {
        let one = &self.recordings[i];
        let Some(party) = self.live(one.party).filter(|p| p.open_leg().is_some()) else { return false };
        let in_turn = one.options.mode == Some(Mode::Queued);
        let has_sound = !matches!(&one.lead, Lead::Waiting { sounds, .. } if sounds.is_empty());
        let before = |r: &Recording| !r.phrase && r.options.mode == Some(Mode::Queued) && !r.is_closed();
        if in_turn
            && (self.recordings[..i].iter().any(before)
                || self.recordings.iter().filter(|r| r.party == one.party && r.runs()).count() >= TAPS)
        {
            return false;
        }
        // One queue of sounds on a leg.
        let plays = |r: &Recording| r.party == one.party && matches!(r.lead, Lead::Preparing { .. } | Lead::Playing { .. });
        !((in_turn || has_sound) && (party.ivr.is_busy() || self.recordings.iter().any(plays)))
    }

    /// The clips of a recording's prompts are there. False: they are not for a recording.
    pub(super) fn on_lead_prepared(&mut self, now: Time, x: &mut Exchange, number: u32, clips: &Clips) -> bool {
        let awaits = |r: &Recording| matches!(r.lead, Lead::Preparing { number: n, .. } if n == number);
        let Some(i) = self.recordings.iter().position(awaits) else { return false };
        let Lead::Preparing { sounds, .. } = std::mem::replace(&mut self.recordings[i].lead, Lead::Over) else { return false };
        if let Some(place) = clips.iter().position(Result::is_err) {
            let beep = self.recordings[i].options.beep == Some(true) && place + 1 == clips.len();
            let why = if beep { "beep_failed" } else { "prompt_failed" };
            if let Some(failed) =
                clips[place].as_ref().err().filter(|_| self.recordings[i].options.prompts_only && !self.recordings[i].told)
            {
                // No state of it is told, so that this is all that is heard of it.
                let details = format!("play: {}", alarm::printable(&failed.why, 512));
                self.alarm(now, x, AlarmKind::IvrCommandError, ivr::alarm_of(failed), Some(details));
            }
            self.fail_recording(now, x, i, why);
            return true;
        }
        let clips = clips.iter().flatten().cloned().collect();
        self.play_lead(now, x, i, &sounds, clips);
        true
    }

    fn play_lead(&mut self, now: Time, x: &mut Exchange, i: usize, sounds: &[Sound], clips: Vec<hookswitch_proto::media::Clip>) {
        let recording = &mut self.recordings[i];
        let segments = segments(sounds, clips.into_iter().map(Some));
        let play = PlayId(PLAYS + recording.id.0);
        let only_beep = recording.options.beep == Some(true) && segments.len() == 1;
        recording.lead = Lead::Playing { play, sounds: segments.len() };
        let Some(leg) = self.party(self.recordings[i].party).and_then(Participant::open_leg) else {
            return self.fail_recording(now, x, i, StopReason::RemoteHangup.name());
        };
        self.media(x, MediaCmd::Play { leg, play, segments, barge_in: BargeIn::None });
        self.set_phase(now, x, i, if only_beep { Phase::Beeping } else { Phase::Prompting });
    }

    /// What becomes of a play that is a recording's. False: it is none.
    pub(super) fn on_lead_played(&mut self, now: Time, x: &mut Exchange, what: &MediaKind) -> bool {
        let (MediaKind::SegmentEnded { play, .. } | MediaKind::QueueEnded { play, .. }) = what else { return false };
        if !(PLAYS..u64::MAX).contains(&play.0) {
            return false;
        }
        let plays = |r: &Recording| matches!(r.lead, Lead::Playing { play: p, .. } if p == *play);
        let Some(i) = self.recordings.iter().position(plays) else { return true };
        let Lead::Playing { sounds, .. } = self.recordings[i].lead else { return true };
        match what {
            MediaKind::SegmentEnded { index, .. } => {
                let beep = self.recordings[i].options.beep == Some(true);
                if beep && index.saturating_add(2) == sounds && self.recordings[i].phase == Phase::Prompting {
                    self.set_phase(now, x, i, Phase::Beeping);
                }
            }
            MediaKind::QueueEnded { how, .. } if self.recordings[i].options.prompts_only => {
                self.recordings[i].lead = Lead::Over;
                let (reason, phase) = match how {
                    Ended::Done | Ended::BargedIn => (PLAYED, Phase::Available),
                    // Something else plays in its place.
                    Ended::Stopped => (StopReason::Superseded.name(), Phase::Canceled),
                };
                let result = self.recordings[i].empty_result(reason);
                self.recordings[i].result = Some(result);
                self.set_phase(now, x, i, phase);
            }
            // However it ended: another play may have taken its place, but what was asked for is a recording.
            _ => {
                self.recordings[i].lead = Lead::Over;
                self.open_tap(now, x, i);
            }
        }
        true
    }

    /// The shell opens the file, then the leg records.
    fn open_tap(&mut self, now: Time, x: &mut Exchange, i: usize) {
        let user = |end: &End| match end {
            End::Party(key) => self.party(*key).map(|p| p.user.clone()).unwrap_or_default(),
            End::Ivr { user, .. } | End::Device { user, .. } => user.clone(),
        };
        let one = &self.recordings[i];
        let connection = one.connection_id.as_ref().and_then(|id| self.connections.iter().find(|c| c.id == *id));
        let party = self.live(one.party).and_then(|p| Some((p.open_leg()?, p.user.clone())));
        let Some((leg, name)) = party.filter(|_| one.connection_id.is_none() || connection.is_some()) else {
            return self.fail_recording(now, x, i, StopReason::RemoteHangup.name());
        };
        let (caller, called) = match connection {
            Some(connection) => (user(&connection.caller), user(&connection.called)),
            None => (name, self.called.clone()),
        };
        let start = self.start_of(one, caller, called);
        let spec = Box::new(one.options.spec());
        x.emit(Output::StartRecording(Box::new(start)));
        self.media(x, MediaCmd::Record { leg, recording: self.recordings[i].id, spec });
        let one = &mut self.recordings[i];
        one.announced = true;
        one.started_at = Some(x.wall(now));
        let phase = running_phase(one);
        self.set_phase(now, x, i, phase);
    }

    pub(super) fn start_of(&self, one: &Recording, caller: String, called: String) -> RecordingStart {
        RecordingStart {
            recording: one.id,
            recording_id: one.recording_id.clone(),
            session: self.id,
            session_id: self.info.session_id.clone(),
            domain: self.tenant.domain.clone(),
            participant_id: one.participant_id.clone(),
            connection_id: one.connection_id.clone(),
            caller,
            called,
            file_name: one.file_name.clone(),
            stereo: one.options.channels == Some(Channels::Stereo),
            options: one.options.clone(),
        }
    }

    // ---------------------------------------------------------------------------------------- their states

    fn tell(&mut self, now: Time, x: &mut Exchange, i: usize) {
        if self.recordings[i].told {
            let state = self.recordings[i].state(self.info.clone(), x.wall(now));
            self.notify(x, state);
        }
    }

    fn set_phase(&mut self, now: Time, x: &mut Exchange, i: usize, phase: Phase) {
        self.recordings[i].phase = phase;
        self.tell(now, x, i);
        if phase.is_terminal() {
            let over = self.recordings.remove(i);
            x.recordings.remove(&over.recording_id);
            if let Some(ready) = over.ready(self.info.clone()) {
                self.notify(x, ready);
            }
            if self.recordings_over.len() + 1 >= limits::RECORDINGS_OVER {
                self.recordings_over.drain(..2);
            }
            self.recordings_over.extend([over.recording_id, over.control_id]);
        }
    }

    /// An IVR's recording that runs now has begun.
    pub(super) fn on_ivr_records(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(active) = self.party(key).and_then(|p| p.ivr.active_recording()).map(|(id, _)| id) else { return };
        let Some(i) = self.recordings.iter().position(|r| r.id == active && r.phase == Phase::Queued) else { return };
        let one = &mut self.recordings[i];
        one.started_at = Some(x.wall(now));
        let phase = running_phase(one);
        self.set_phase(now, x, i, phase);
    }

    /// UR-024: the first voice of one that waits for it.
    pub(super) fn on_first_voice(&mut self, now: Time, x: &mut Exchange, id: RecordingId) {
        let Some(i) = self.recordings.iter().position(|r| r.id == id) else { return };
        self.recordings[i].voiced = true;
        if self.recordings[i].phase == Phase::Armed {
            self.set_phase(now, x, i, Phase::Recording);
        }
    }

    /// UR-028: who is recorded hears that, as long as something of him is kept. Called after each input, since whom a party hears changes.
    pub(super) fn warn_parties(&mut self, x: &mut Exchange) {
        let warns = |r: &&Recording| r.options.announce && matches!(r.phase, Phase::Armed | Phase::Recording);
        if self.recordings.iter().find(warns).is_none() && !self.parties.iter().any(|p| p.warned) {
            return;
        }
        let mut told: Vec<PartyKey> = Vec::new();
        for one in self.recordings.iter().filter(warns) {
            told.push(one.party);
            // Whoever is heard there is recorded too; of a party's own voice alone nobody else is.
            if one.options.direction != Some(Direction::Speak) && self.connection_of(one.party).is_some_and(|c| c.connected) {
                told.extend(self.counterpart(one.party));
            }
        }
        for i in 0..self.parties.len() {
            let on = told.contains(&self.parties[i].key);
            if self.parties[i].warned != on
                && let Some(leg) = self.parties[i].open_leg()
            {
                self.parties[i].warned = on;
                self.media(x, MediaCmd::Warn { leg, on });
            }
        }
    }

    /// Ends one that is not closed: by its tap, or at once where it has none.
    pub(super) fn end_recording(&mut self, now: Time, x: &mut Exchange, i: usize, reason: StopReason) {
        let one = &self.recordings[i];
        let (id, leg) = (one.id, self.party(one.party).and_then(Participant::open_leg));
        match one.phase {
            Phase::Armed | Phase::Recording | Phase::Paused => {
                // A leg that closes takes its recordings with it.
                if let Some(leg) = leg {
                    self.media(x, MediaCmd::StopRecording { leg, recording: id, reason });
                }
                self.set_phase(now, x, i, Phase::Stopping);
            }
            Phase::Queued | Phase::Prompting | Phase::Beeping if !one.announced => {
                if let (Lead::Playing { .. }, Some(leg)) = (&one.lead, leg) {
                    self.media(x, MediaCmd::StopPlay { leg });
                }
                let result = one.empty_result(reason.name());
                self.recordings[i].result = Some(result);
                let phase = match reason {
                    StopReason::Discarded => Phase::Discarded,
                    StopReason::RemoteHangup | StopReason::MediaTimeout => Phase::Failed,
                    _ => Phase::Canceled,
                };
                if phase == Phase::Failed {
                    self.recordings[i].reason = Some(reason.name().to_owned());
                }
                self.set_phase(now, x, i, phase);
            }
            _ => {}
        }
    }

    /// It never began.
    fn fail_recording(&mut self, now: Time, x: &mut Exchange, i: usize, why: &str) {
        let result = self.recordings[i].empty_result(why);
        self.recordings[i].result = Some(result);
        self.recordings[i].reason = Some(why.to_owned());
        self.set_phase(now, x, i, Phase::Failed);
    }

    /// Stops what records this connection (IC-273).
    pub(super) fn stop_recordings(&mut self, now: Time, x: &mut Exchange, connection_id: &str, reason: StopReason) -> bool {
        let of = |r: &&Recording| !r.is_closed() && r.connection_id.as_deref() == Some(connection_id);
        let ids: Vec<_> = self.recordings.iter().filter(of).map(|r| r.id).collect();
        for id in &ids {
            if let Some(i) = self.recordings.iter().position(|r| r.id == *id) {
                self.end_recording(now, x, i, reason);
            }
        }
        !ids.is_empty()
    }

    /// Its tap closed: nothing is added any more.
    pub(super) fn on_recording_closed(
        &mut self,
        now: Time,
        x: &mut Exchange,
        id: RecordingId,
        reason: StopReason,
        totals: &RecordingTotals,
    ) {
        let Some(i) = self.recordings.iter().position(|r| r.id == id && !r.is_closed()) else { return };
        let one = &mut self.recordings[i];
        one.result = Some(RecordingResult {
            stop_digit: if let StopReason::StopDigit(digit) = reason { Some(digit) } else { None },
            duration: FRAME_TIME.saturating_mul(u32::try_from(totals.expected).unwrap_or(u32::MAX)),
            contains_sound: totals.contains_voice,
            ..one.empty_result(reason.name())
        });
        one.ended_at = Some(x.wall(now));
        let keeps = one.options.dialect.keeps_stopped();
        self.set_phase(now, x, i, Phase::Finalizing);
        // Nothing of these is kept, so there is nothing to wait for.
        match reason {
            StopReason::Discarded => self.set_phase(now, x, i, Phase::Discarded),
            StopReason::Superseded => self.set_phase(now, x, i, Phase::Canceled),
            StopReason::ApiStop if !keeps => self.set_phase(now, x, i, Phase::Canceled),
            _ => {}
        }
    }

    /// It was announced, but never began: no block and no report will come.
    pub(super) fn drop_recording(&mut self, now: Time, x: &mut Exchange, id: RecordingId) {
        let Some(i) = self.recordings.iter().position(|r| r.id == id && !r.is_closed()) else { return };
        x.emit(Output::DropRecording { recording: id });
        // A phrase that a digit skipped is no loss; one that somebody ordered is, and he waits.
        let one = &mut self.recordings[i];
        one.callback &= !one.phrase;
        one.file_name = if one.callback { String::new() } else { std::mem::take(&mut one.file_name) };
        one.reason = Some("no recording could be begun".into());
        let phase = if one.phrase { Phase::Canceled } else { Phase::Failed };
        self.set_phase(now, x, i, phase);
    }

    /// Nobody of this leg's recordings is left behind when it is gone.
    pub(super) fn drop_recordings_of(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        while let Some(i) = self.recordings.iter().position(|r| r.party == key && !r.is_closed()) {
            let (id, announced) = (self.recordings[i].id, self.recordings[i].announced);
            if announced { self.drop_recording(now, x, id) } else { self.fail_recording(now, x, i, StopReason::RemoteHangup.name()) }
        }
    }

    pub(super) fn on_recorded(&mut self, now: Time, x: &mut Exchange, report: &RecordingReport) {
        let Some(i) = self.recordings.iter().position(|r| r.id == report.recording) else { return };
        let phases = self.recordings[i].on_report(report);
        if let (Err(why), false) = (&report.outcome, self.recordings[i].callback) {
            // IC-258: news only where the command asked for them; a loss is always told.
            let details = format!("recording {}: {}", self.recordings[i].recording_id, alarm::printable(why, 256));
            self.alarm(now, x, AlarmKind::IvrCommandError, alarm::MEDIA_SERVER_ERROR, Some(details));
        }
        for phase in phases {
            self.set_phase(now, x, i, phase);
        }
    }

    pub(super) fn on_recording_moved(&mut self, now: Time, x: &mut Exchange, moved: &RecordingMoved) {
        let Some(i) = self.recordings.iter().position(|r| r.recording_id == moved.status.recording_id) else { return };
        if self.recordings[i].on_moved(&moved.status) {
            self.set_phase(now, x, i, moved.status.phase);
        }
    }
}

/// With the first voice it records, and from the start where it does not wait for one.
fn running_phase(one: &Recording) -> Phase {
    if one.options.start_on_voice == Some(true) && !one.voiced { Phase::Armed } else { Phase::Recording }
}

/// UR-016, UR-017: prompts, then the beep.
pub(super) fn lead(prompts: &[Phrase], beep: bool) -> Result<Lead, CommandError> {
    let bad = |why: String| CommandError::BadValue { field: "prompts", why };
    let command = IvrCommand { phrases: prompts.to_vec(), ..IvrCommand::default() };
    ivr::check(&command).map_err(|(field, why)| bad(format!("{field}: {why}")))?;
    let (mut sources, mut sounds) = (Vec::new(), Vec::new());
    for phrase in prompts {
        match phrase {
            Phrase::Silence { duration } => sounds.push(Sound::Silence(*duration)),
            phrase => match ivr::source_of(phrase) {
                Some(Ok((source, _))) => {
                    sources.push(source);
                    sounds.push(Sound::Clip);
                }
                Some(Err(why)) => return Err(bad(why)),
                None => return Err(bad("what is played, spoken or silent is possible".to_owned())),
            },
        }
    }
    if beep {
        sources.push(ivr::beep());
        sounds.push(Sound::Clip);
    }
    if sounds.len() > hookswitch_proto::limits::PLAY_SEGMENTS {
        return Err(bad("too many".to_owned()));
    }
    Ok(Lead::Waiting { sources, sounds })
}
