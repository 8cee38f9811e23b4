//! What all sessions of a switch share and reach while they handle an input: the SIP endpoint, ids, outputs, alarm limits.
//!
//! It holds no call's state; `session.rs` does.

use crate::admission::Spent;
use crate::alarm::AlarmLimit;
use crate::door::{Counter, Level, Output, SessionId, Trunk};
use crate::hook::SessionInfo;
use crate::limits;
use crate::recording::Unwritable;
use crate::track::Recording;
use hookswitch_proto::media::{Codec, LegId, RecordingId};
use hookswitch_proto::sip::{DialogId, Endpoint};
use hookswitch_proto::{KeyedMap, Random, Time, Wall};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Ids, all from one seed.
pub(crate) struct Mint {
    pub random: Random,
    recordings: u64,
    legs: u64,
    prepares: u32,
    resolves: u32,
}

impl Mint {
    pub fn new(random: Random) -> Mint {
        Mint { random, recordings: 0, legs: 0, prepares: 0, resolves: 0 }
    }

    pub fn uuid(&mut self) -> String {
        self.random.uuid()
    }

    pub fn recording(&mut self) -> RecordingId {
        self.recordings += 1;
        RecordingId(self.recordings)
    }

    pub fn leg(&mut self) -> LegId {
        self.legs += 1;
        LegId(self.legs)
    }

    /// The number of a preparation. Wrapping is no harm: an answer is taken only by who still waits for its number.
    pub fn prepare(&mut self) -> u32 {
        self.prepares = self.prepares.wrapping_add(1);
        self.prepares
    }

    /// The number of a name's resolution.
    pub fn resolve(&mut self) -> u32 {
        self.resolves = self.resolves.wrapping_add(1);
        self.resolves
    }
}

/// What the operator set for media and sessions.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub media_advertise: Option<IpAddr>,
    pub codecs: Vec<Codec>,
    pub session_duration: Duration,
    pub rtp_timeout: Option<Duration>,
    pub learn_any_ip: bool,
    pub unwritable: Unwritable,
    pub site: Option<String>,
}

/// A recording whose session is over and whose report is due.
#[derive(Debug)]
pub(crate) struct Late {
    pub session: SessionId,
    pub domain: Arc<str>,
    pub info: SessionInfo,
    pub recording: Recording,
}

pub(crate) struct Exchange {
    pub endpoint: Endpoint,
    pub mint: Mint,
    pub settings: Settings,
    pub out: VecDeque<Output>,
    pub alarms: AlarmLimit,
    /// What tenants have used up.
    pub spent: Spent,
    pub legs: KeyedMap<LegId, SessionId>,
    pub dialogs: KeyedMap<DialogId, SessionId>,
    pub trunks: Vec<Trunk>,
    pub late: BTreeMap<RecordingId, Late>,
    /// Those by their UUID.
    pub late_ids: KeyedMap<String, RecordingId>,
    /// Whose recordings these are, of those that tell their states.
    pub recordings: KeyedMap<String, SessionId>,
    /// Of the last datagram: a label.
    pub wall: Wall,
    /// When it came.
    pub wall_at: Time,
}

impl Exchange {
    /// Milliseconds since the Unix epoch, as far as the last datagram tells: a label.
    pub fn wall(&self, now: Time) -> u64 {
        self.wall.0.saturating_add(u64::try_from(now.since(self.wall_at).as_millis()).unwrap_or(u64::MAX))
    }

    pub fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    pub fn count(&mut self, counter: Counter) {
        self.emit(Output::Count(counter));
    }

    pub fn log(&mut self, level: Level, session: Option<&str>, text: String) {
        self.emit(Output::Log { level, session: session.map(str::to_owned), text });
    }

    /// Remembered until its report; the oldest is forgotten at the limit.
    pub fn remember(&mut self, recording: RecordingId, late: Late) {
        if self.late.len() >= limits::LATE_RECORDINGS
            && let Some((_, oldest)) = self.late.pop_first()
        {
            self.late_ids.remove(&oldest.recording.recording_id);
            self.count(Counter::NotificationDropped);
        }
        self.late_ids.insert(late.recording.recording_id.clone(), recording);
        self.late.insert(recording, late);
    }

    pub fn forget_late(&mut self, recording: RecordingId) {
        if let Some(late) = self.late.remove(&recording) {
            self.late_ids.remove(&late.recording.recording_id);
        }
    }
}
