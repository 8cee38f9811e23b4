//! What all sessions of a switch share and reach while they handle an input: the SIP endpoint, ids, outputs, alarm limits.
//!
//! It holds no call's state; `session.rs` does.

use crate::alarm::AlarmLimit;
use crate::door::{Counter, Level, Output, SessionId};
use crate::hook::SessionInfo;
use crate::limits;
use hookswitch_proto::media::{Codec, LegId, RecordingId};
use hookswitch_proto::sip::Endpoint;
use hookswitch_proto::{KeyedMap, Random, Wall};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Ids, all from one seed.
pub(crate) struct Mint {
    pub random: Random,
    recordings: u64,
    legs: u64,
}

impl Mint {
    pub fn new(random: Random) -> Mint {
        Mint { random, recordings: 0, legs: 0 }
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
}

/// What the operator set for media and sessions.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub media_advertise: Option<IpAddr>,
    pub codecs: Vec<Codec>,
    pub session_duration: Duration,
    pub rtp_timeout: Option<Duration>,
    pub learn_any_ip: bool,
}

/// A recording whose session is over and whose report is due.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    pub domain: Arc<str>,
    pub info: SessionInfo,
    pub recording_id: String,
    pub callback: bool,
}

pub(crate) struct Exchange {
    pub endpoint: Endpoint,
    pub mint: Mint,
    pub settings: Settings,
    pub out: VecDeque<Output>,
    pub alarms: AlarmLimit,
    pub legs: KeyedMap<LegId, SessionId>,
    pub late: BTreeMap<RecordingId, Late>,
    /// Of the last datagram: a label.
    pub wall: Wall,
}

impl Exchange {
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
        if self.late.len() >= limits::LATE_RECORDINGS && self.late.pop_first().is_some() {
            self.count(Counter::NotificationDropped);
        }
        self.late.insert(recording, late);
    }
}
