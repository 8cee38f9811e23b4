//! One recording as its session follows it, from its order to its last state: what it is called, where it stands, and what the shell's
//! news about its file mean. It outlives its session (`Late`), so it asks nothing of it. Orders are carried out in `session/recordings.rs`.

use crate::alarm;
use crate::door::{PromptSource, RecordingReport};
use crate::hook::{Notification, RecordingDetails, RecordingResult, SessionInfo};
use crate::participant::PartyKey;
use crate::recording::{Dialect, PauseBehavior, Phase, RecordingOptions, RecordingStatus, StorageClass};
use hookswitch_proto::media::{Clip, PlayId, RecordingId, Segment};
use std::sync::Arc;
use std::time::Duration;

/// A piece of what plays before a recording, or as a greeting.
#[derive(Clone, Debug)]
pub(crate) enum Sound {
    /// The next one of the prepared sources.
    Clip,
    Silence(Duration),
}

/// What is to be played of these, with the clips that were prepared for them; one that is missing is left out.
pub(crate) fn segments(sounds: &[Sound], mut clips: impl Iterator<Item = Option<Clip>>) -> Vec<Segment> {
    let mut one = |sound: &Sound| match sound {
        Sound::Clip => clips.next().flatten().map(Segment::Clip),
        Sound::Silence(duration) => Some(Segment::Silence(*duration)),
    };
    sounds.iter().filter_map(&mut one).collect()
}

/// What plays before a recording: prompts, then perhaps the beep as the last sound.
#[derive(Debug)]
pub(crate) enum Lead {
    /// Over, or there is none.
    Over,
    Waiting {
        sources: Vec<PromptSource>,
        sounds: Vec<Sound>,
    },
    /// Its audio is fetched.
    Preparing {
        number: u32,
        sounds: Vec<Sound>,
    },
    /// `sounds` of them.
    Playing {
        play: PlayId,
        sounds: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Recording {
    pub id: RecordingId,
    pub recording_id: String,
    pub control_id: String,
    /// Whose leg feeds it.
    pub party: PartyKey,
    pub participant_id: String,
    /// Of its session.
    pub caller: String,
    pub called: String,
    /// Of a recording of a connection.
    pub connection_id: Option<String>,
    pub file_name: String,
    /// With nothing left open.
    pub options: Arc<RecordingOptions>,
    /// A step of an IVR command: `ivr.rs` begins it.
    pub phrase: bool,
    /// Its owner waits for recording-ready.
    pub callback: bool,
    /// Its states are told.
    pub told: bool,
    pub phase: Phase,
    pub paused: Option<PauseBehavior>,
    /// Somebody spoke: it no longer waits for the first voice.
    pub voiced: bool,
    pub lead: Lead,
    /// The shell knows of it: it will report.
    pub announced: bool,
    pub result: Option<RecordingResult>,
    pub details: Option<Box<RecordingDetails>>,
    pub reason: Option<String>,
    pub size: u64,
    pub started_at: Option<u64>,
    pub ended_at: Option<u64>,
    pub url: Option<String>,
    pub access_token: Option<String>,
}

impl Recording {
    pub fn new(id: RecordingId, recording_id: String, party: PartyKey, participant_id: String, options: RecordingOptions) -> Recording {
        Recording {
            id,
            control_id: options.control_id.clone().unwrap_or_else(|| recording_id.clone()),
            recording_id,
            party,
            participant_id,
            caller: String::new(),
            called: String::new(),
            connection_id: None,
            file_name: String::new(),
            options: Arc::new(options),
            phrase: false,
            callback: false,
            told: false,
            phase: Phase::Queued,
            paused: None,
            voiced: false,
            lead: Lead::Over,
            announced: false,
            result: None,
            details: None,
            reason: None,
            size: 0,
            started_at: None,
            ended_at: None,
            url: None,
            access_token: None,
        }
    }

    /// A recording of an IVR command is told about where somebody gave it a name or an address; the others have `recording-ready`, and a
    /// thousand voicemails a minute need no ten news each.
    pub fn is_named(options: &RecordingOptions) -> bool {
        options.control_id.is_some()
            || options.status_url.is_some()
            || options.on_complete_url.is_some()
            || options.on_available_url.is_some()
            || !matches!(options.dialect, Dialect::Native | Dialect::Iotcomms)
    }

    pub fn is_called(&self, id: &str) -> bool {
        self.recording_id == id || self.control_id == id
    }

    /// Its tap is open.
    pub fn runs(&self) -> bool {
        matches!(self.phase, Phase::Armed | Phase::Recording | Phase::Paused | Phase::Stopping)
    }

    /// Its audio has ended.
    pub fn is_closed(&self) -> bool {
        self.phase >= Phase::Finalizing
    }

    pub fn status(&self) -> RecordingStatus {
        RecordingStatus {
            recording_id: self.recording_id.clone(),
            control_id: self.control_id.clone(),
            client_context: self.options.client_context.clone(),
            phase: self.phase,
            connection_id: self.connection_id.clone(),
            participant_id: self.participant_id.clone(),
            caller: self.caller.clone(),
            called: self.called.clone(),
            file_name: self.file_name.clone(),
            pause_behavior: self.paused.filter(|_| self.phase == Phase::Paused),
            reason: self.reason.clone(),
            result: self.result.clone(),
            details: self.details.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            url: self.url.clone(),
            access_token: self.access_token.clone(),
            options: self.options.clone(),
        }
    }

    pub fn state(&self, info: SessionInfo, occurred_at: u64) -> Notification {
        Notification::RecordingState { info, status: Box::new(self.status()), occurred_at }
    }

    /// A result of one that holds no audio.
    pub fn empty_result(&self, stop_reason: &str) -> RecordingResult {
        RecordingResult {
            recording_id: self.recording_id.clone(),
            control_id: self.control_id.clone(),
            client_context: self.options.client_context.clone(),
            file_name: self.file_name.clone(),
            stop_reason: stop_reason.to_owned(),
            ..RecordingResult::default()
        }
    }

    /// Its file is finished, or lost: the states that follow, in order. Of one for the tenant's own storage the shell says what becomes of
    /// the file.
    pub fn on_report(&mut self, report: &RecordingReport) -> Vec<Phase> {
        self.file_name.clone_from(&report.file_name);
        self.size = report.outcome.as_ref().copied().unwrap_or(0);
        if let Err(why) = &report.outcome {
            self.reason = Some(alarm::printable(why, 256));
            return vec![Phase::Failed];
        }
        self.details.clone_from(&report.details);
        if let Some(details) = &mut self.details {
            details.result.control_id.clone_from(&self.control_id);
            details.result.client_context.clone_from(&self.options.client_context);
            self.result = Some(details.result.clone());
        }
        let silent = self.result.as_ref().is_some_and(|r| r.stop_reason == "initial_silence" && !r.contains_sound);
        match (silent, self.options.storage_class == StorageClass::TenantBucket) {
            // An empty file has nothing to be fetched for.
            (true, _) => vec![Phase::NoInput],
            (false, true) => vec![Phase::LocalAvailable],
            (false, false) => vec![Phase::LocalAvailable, Phase::Available],
        }
    }

    /// False: it does not follow on the state it is in.
    pub fn on_moved(&mut self, status: &RecordingStatus) -> bool {
        if status.phase < Phase::Uploading || status.phase <= self.phase || self.phase.is_terminal() {
            return false;
        }
        self.phase = status.phase;
        self.url.clone_from(&status.url);
        self.access_token.clone_from(&status.access_token);
        if let Some(why) = &status.reason {
            self.reason = Some(alarm::printable(why, 256));
        }
        true
    }

    /// IC-265 to IC-272: recording-ready, where somebody waits for it and this state says what became of it.
    pub fn ready(&self, info: SessionInfo) -> Option<Notification> {
        if self.callback { ready(info, self.status(), self.size) } else { None }
    }
}

/// What is told of a recording that this run knows nothing else of.
pub(crate) fn news_of(info: SessionInfo, status: RecordingStatus, occurred_at: u64) -> Vec<Notification> {
    let size = status.details.as_ref().map_or(0, |details| details.size);
    let ready = ready(info.clone(), status.clone(), size);
    let told = Recording::is_named(&status.options);
    let state = told.then(|| Notification::RecordingState { info, status: Box::new(status), occurred_at });
    state.into_iter().chain(ready).collect()
}

fn ready(info: SessionInfo, status: RecordingStatus, size: u64) -> Option<Notification> {
    let successful = match status.phase {
        Phase::Available | Phase::NoInput => true,
        Phase::Failed => false,
        _ => return None,
    };
    Some(Notification::RecordingReady {
        info,
        successful,
        reason: status.reason.filter(|_| !successful),
        connection_id: status.connection_id,
        recording_id: status.recording_id,
        file_name: status.file_name,
        file_size: if successful { size } else { 0 },
        details: status.details.filter(|_| successful),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::SessionId;

    /// What recording-ready says of a connection's recording whose file had this outcome: successful, and why not.
    fn ready(stop_reason: &str, outcome: Result<u64, &str>) -> Option<(bool, Option<String>)> {
        let options = RecordingOptions::of_call(Some("call.wav".into()));
        let mut one = Recording::new(RecordingId(1), "id".into(), PartyKey(1), "p".into(), options);
        (one.callback, one.phase) = (true, Phase::Finalizing);
        let result = one.empty_result(stop_reason);
        one.result = Some(result.clone());
        let details = outcome.ok().map(|size| Box::new(RecordingDetails { result, size, sha256: String::new(), started_at: 0 }));
        let report = RecordingReport {
            recording: one.id,
            recording_id: "id".into(),
            session: SessionId { slot: 0, generation: 1 },
            file_name: "call.wav".into(),
            outcome: outcome.map_err(str::to_owned),
            details,
        };
        let told: Vec<_> = one
            .on_report(&report)
            .into_iter()
            .filter_map(|phase| {
                one.phase = phase;
                one.ready(SessionInfo::default())
            })
            .collect();
        assert!(told.len() < 2, "one end is told once");
        told.into_iter().next().map(|told| match told {
            Notification::RecordingReady { successful, reason, .. } => (successful, reason),
            other => panic!("{other:?}"),
        })
    }

    /// The column of docs/conformance.md, "Stop reasons". What is cancelled or discarded is told by its state alone.
    #[test]
    fn ic_266_267_268_each_stop_reason_is_successful_or_failed() {
        for reason in [
            "stop_digit",
            "max_duration",
            "max_silence",
            "api_stop",
            "remote_hangup",
            "connection_split",
            "transfer",
            "file_size",
            "node_shutdown",
            "media_timeout",
        ] {
            assert_eq!(ready(reason, Ok(1000)), Some((true, None)), "{reason}: what there is is kept");
        }
        for (reason, why) in [("media_timeout", "no media received"), ("max_duration", "Encoder error"), ("remote_hangup", "Storage full")]
        {
            assert_eq!(ready(reason, Err(why)), Some((false, Some(why.to_owned()))), "{reason}");
        }
        let mut one = Recording::new(RecordingId(1), "id".into(), PartyKey(1), "p".into(), RecordingOptions::of_call(None));
        one.callback = true;
        for phase in [Phase::Canceled, Phase::Discarded] {
            one.phase = phase;
            assert!(one.ready(SessionInfo::default()).is_none(), "{phase:?}");
        }
    }
}
