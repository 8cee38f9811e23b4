//! The media leg and everything in it, as a machine on the data path: `push` what arrived, `tick` every 20 ms.
//!
//! This file holds the seam between a session and its media: commands down, events up, blocks of recorded audio out.
//! Start reading at [`Leg`].

mod background;
mod dtmf;
pub mod g711;
mod jitter;
mod leg;
mod mixer;
mod pace;
mod player;
mod plc;
mod rtcp;
mod sender;
mod skew;
mod source;
mod tap;
pub mod tone;
mod voice;
mod warning;

pub use leg::Leg;
pub use sender::Spoken;

use crate::time::{MediaTime, Time};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One participant's media, named by the session that opened it. Never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);
/// One play queue given to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlayId(pub u64);
/// One recording, in the process; outside it has a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordingId(pub u64);

/// Samples (and law bytes) in one frame: 20 ms at 8 kHz.
pub const FRAME: usize = 160;
pub const FRAME_TIME: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 u-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
}

impl Codec {
    /// RFC 3551 6.
    pub fn static_payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
        }
    }
    pub fn of_name(name: &str) -> Option<Codec> {
        [Codec::Pcmu, Codec::Pcma].into_iter().find(|codec| codec.name() == name)
    }
    /// The encoding name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        }
    }
}

/// Our direction in SDP (RFC 3264 5.1), seen from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// What offer and answer agreed on for the one audio stream we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub codec: Codec,
    /// Payload type the peer wants to receive for `codec`.
    pub payload_type: u8,
    /// Payload type of telephone-event/8000 (RFC 4733), where both sides have it.
    pub telephone_event: Option<u8>,
    /// Where the peer wants RTP, and RTCP (RFC 3605 or port + 1).
    pub remote: SocketAddr,
    pub remote_rtcp: SocketAddr,
    /// RFC 5761: RTCP shares the RTP port.
    pub rtcp_mux: bool,
    pub direction: Direction,
    /// Packet time we send with; 20 ms unless the peer insists.
    pub ptime: Duration,
}

/// Everything a leg needs at birth. The random parts come from the session's seed.
#[derive(Clone, Debug)]
pub struct LegConfig {
    pub negotiated: Negotiated,
    pub ssrc: u32,
    pub first_sequence: u16,
    pub first_timestamp: MediaTime,
    pub cname: String,
    /// No RTP and no RTCP for so long, while we receive: [`MediaKind::RtpTimeout`].
    pub rtp_timeout: Option<Duration>,
    /// Accept a learnt source on another IP than signalled (off by default: RTP bleed).
    pub learn_any_ip: bool,
}

/// A prompt or tone, encoded once per codec and shared: playing it is a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    pub pcmu: Arc<[u8]>,
    pub pcma: Arc<[u8]>,
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clip({} ms)", self.pcmu.len() / 8)
    }
}

/// What a digit does to a play queue (IC-255 to IC-257).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BargeIn {
    /// Digits never cut a phrase.
    #[default]
    None,
    /// A digit ends the phrase that plays; the next one follows.
    Current,
    /// A digit ends all that is queued.
    All,
}

/// One step of a play queue. Steps follow each other without a gap.
#[derive(Clone, Debug)]
pub enum Segment {
    Clip(Clip),
    Silence(Duration),
    /// Record the caller here; the queue goes on when the recording ends. Barge-in does not cut it: it has stop digits of its own.
    Record(RecordingId, RecordSpec),
    /// Send back what is heard for so long.
    Echo(Duration),
}

/// Which audio a tap takes, seen from the leg: `Speak` is what the party says, `Listen` what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TapDirection {
    Speak,
    Listen,
    Both,
}

/// What is recorded, and when it ends by itself. Zero or `None`: never for that reason.
#[derive(Clone, Debug)]
pub struct RecordSpec {
    pub direction: TapDirection,
    /// Of recorded time: what a pause leaves out does not count.
    pub max_duration: Option<Duration>,
    /// Frames that fill the largest file.
    pub max_frames: Option<u64>,
    /// Nothing is kept before the first voice but 200 ms (UR-024).
    pub start_on_voice: bool,
    /// Silence before the first voice; silence after it.
    pub initial_silence: Option<Duration>,
    pub max_silence: Option<Duration>,
    /// Any of these ends the recording.
    pub stop_digits: DigitSet,
    /// The stop digit is kept from the buffer (`consumed`), and its sound is cut from the end (UR-019). It never cuts what plays.
    pub consume: bool,
    pub trim: bool,
    /// Voice threshold, 0..=100; 44 is about -40 dBm0 (UR-025).
    pub sensitivity: u8,
}

impl Default for RecordSpec {
    /// What the party says, until somebody stops it.
    fn default() -> RecordSpec {
        RecordSpec {
            direction: TapDirection::Speak,
            max_duration: None,
            max_frames: None,
            start_on_voice: false,
            initial_silence: None,
            max_silence: None,
            stop_digits: DigitSet::default(),
            consume: true,
            trim: true,
            sensitivity: 44,
        }
    }
}

/// What is left of paused time (UR-026).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PauseBehavior {
    /// Nothing: the file is shorter than the call.
    #[default]
    Skip,
    /// Silence of the same length.
    Silence,
}

/// Why a recording ended (docs/conformance.md "Stop reasons", as far as the tap decides). Order of precedence in one frame: as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopReason {
    StopDigit(char),
    RemoteHangup,
    ApiStop,
    /// Another operation took its place.
    Superseded,
    ConnectionSplit,
    Transfer,
    NodeShutdown,
    /// Thrown away on order: nothing is kept.
    Discarded,
    MaxDuration,
    /// The largest file, or the tenant's quota.
    FileSize,
    MaxSilence,
    InitialSilence,
    MediaTimeout,
    /// No free block: writers cannot keep up. What was written is kept.
    Overload,
}

impl StopReason {
    /// As handlers, rows and files call it: docs/conformance.md "Stop reasons", and ours where it has none.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::StopDigit(_) => "stop_digit",
            StopReason::RemoteHangup => "remote_hangup",
            StopReason::ApiStop => "api_stop",
            StopReason::Superseded => "superseded",
            StopReason::ConnectionSplit => "connection_split",
            StopReason::Transfer => "transfer",
            StopReason::NodeShutdown => "node_shutdown",
            StopReason::Discarded => "discarded",
            StopReason::FileSize => "file_size",
            StopReason::MaxDuration => "max_duration",
            StopReason::MaxSilence => "max_silence",
            StopReason::InitialSilence => "initial_silence",
            StopReason::MediaTimeout => "media_timeout",
            StopReason::Overload => "overload",
        }
    }
}

/// A set of the sixteen DTMF digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DigitSet(u16);

pub const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

impl DigitSet {
    /// The set of all characters in `text`; `None` when one of them is no DTMF digit.
    pub fn parse(text: &str) -> Option<DigitSet> {
        text.chars().try_fold(DigitSet(0), |set, c| {
            let i = DIGITS.iter().position(|d| *d == c.to_ascii_uppercase())?;
            Some(DigitSet(set.0 | 1 << i))
        })
    }
    pub fn contains(self, digit: char) -> bool {
        DIGITS.iter().position(|d| *d == digit).is_some_and(|i| self.0 & 1 << i != 0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a session asks of its legs. Carried out before the next frame, in order.
#[derive(Debug)]
pub enum MediaCmd {
    /// Bind a socket for a new leg. Answered by `Opened` or `OpenFailed`.
    Open {
        leg: LegId,
        config: Box<LegConfig>,
    },
    /// A re-INVITE or UPDATE changed codec, address or direction.
    Update {
        leg: LegId,
        negotiated: Box<Negotiated>,
    },
    /// Replace what plays by this queue. The replaced one ends with `QueueEnded { how: Stopped }`.
    Play {
        leg: LegId,
        play: PlayId,
        segments: Vec<Segment>,
        barge_in: BargeIn,
    },
    /// Stop what plays now.
    StopPlay {
        leg: LegId,
    },
    /// Record beside whatever plays, until stopped.
    Record {
        leg: LegId,
        recording: RecordingId,
        spec: Box<RecordSpec>,
    },
    StopRecording {
        leg: LegId,
        recording: RecordingId,
        reason: StopReason,
    },
    /// From the next frame on, until it is resumed. Stop digits and limits other than silence still hold. What was said in a pause and is
    /// late stays out as well.
    PauseRecording {
        leg: LegId,
        recording: RecordingId,
        behavior: PauseBehavior,
    },
    ResumeRecording {
        leg: LegId,
        recording: RecordingId,
    },
    /// From now on this leg sends what leg `hears` receives, wherever its own queue has nothing to play; `None`: silence again. One
    /// direction: a conversation is two of these. Both legs are on the same thread. It ends by itself when the other leg closes.
    Bridge {
        leg: LegId,
        hears: Option<LegId>,
    },
    /// From now on this leg sends what these two receive, mixed, wherever its own queue has nothing to play, and nobody hears it; twice
    /// `None`: silence again. It takes the place of a bridge, and a bridge of it. It ends by itself with the legs that are heard.
    Listen {
        leg: LegId,
        to: [Option<LegId>; 2],
    },
    /// From now on this plays under whatever else does, in a loop with this pause between two rounds, and 15 dB down while a queue plays
    /// (IC-254); `None`: no more. Whom a bridge lets speak is heard without it, and it is in no recording.
    Background {
        leg: LegId,
        audio: Option<(Clip, Duration)>,
    },
    /// From now on the peer hears every 15 s, and at once, that it is recorded (UR-028); `false`: no more. It is in no recording.
    Warn {
        leg: LegId,
        on: bool,
    },
    /// Send a digit to the peer by RFC 4733.
    SendDigit {
        leg: LegId,
        digit: char,
        duration: Duration,
    },
    /// End the leg: open recordings close with this reason, then `Closed` is the leg's last event.
    Close {
        leg: LegId,
        reason: StopReason,
    },
}

impl MediaCmd {
    /// Whom it is for.
    pub fn leg(&self) -> LegId {
        match self {
            MediaCmd::Open { leg, .. }
            | MediaCmd::Update { leg, .. }
            | MediaCmd::Play { leg, .. }
            | MediaCmd::StopPlay { leg }
            | MediaCmd::Record { leg, .. }
            | MediaCmd::StopRecording { leg, .. }
            | MediaCmd::PauseRecording { leg, .. }
            | MediaCmd::ResumeRecording { leg, .. }
            | MediaCmd::Bridge { leg, .. }
            | MediaCmd::Listen { leg, .. }
            | MediaCmd::Background { leg, .. }
            | MediaCmd::Warn { leg, .. }
            | MediaCmd::SendDigit { leg, .. }
            | MediaCmd::Close { leg, .. } => *leg,
        }
    }
}

/// What a leg reports. `at` is when it happened on the media clock; timers count from it, never from its arrival.
#[derive(Clone, Debug)]
pub struct MediaEvent {
    pub leg: LegId,
    pub at: Time,
    pub what: MediaKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigitSource {
    Rfc4733,
    Info,
    InBand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Ran to its end.
    Done,
    /// Cut by a digit.
    BargedIn,
    /// Cut by a command, or replaced.
    Stopped,
}

#[derive(Clone, Debug)]
pub enum MediaKind {
    Opened {
        local: SocketAddr,
    },
    OpenFailed {
        why: String,
    },
    SegmentEnded {
        play: PlayId,
        index: usize,
        how: Ended,
    },
    /// The whole queue is over. The last event of a play.
    QueueEnded {
        play: PlayId,
        how: Ended,
    },
    /// A digit went down. `consumed`: it ended a recording and does not enter the buffer.
    Digit {
        digit: char,
        source: DigitSource,
        consumed: bool,
    },
    /// The digit that went down last is up again.
    DigitUp {
        digit: char,
        held: Duration,
    },
    /// A recording that waited for it has its first voice; from here on, less 200 ms, it is kept (UR-024).
    RecordingVoice {
        recording: RecordingId,
    },
    /// First RTP from the (learnt) peer.
    Flowing {
        from: SocketAddr,
    },
    RtpTimeout,
    /// Exactly one per recording. Where not even a first block was free it comes alone (`Overload`, no frames): no block is flagged then.
    RecordingClosed {
        recording: RecordingId,
        reason: StopReason,
        totals: RecordingTotals,
    },
    /// The leg is gone. Its last event.
    Closed {
        stats: Box<LegStats>,
    },
}

/// What a recording holds, counted by the tap in frames of 20 ms. `expected = received + concealed + silence`. With two sides these are
/// the counts of what the party said; the other side, counted in `heard`, is made equally long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingTotals {
    pub expected: u64,
    /// Received in time and written byte for byte.
    pub received: u64,
    /// Sent by the peer, lost or late: concealed in the file, or silent in it where more than half a second was lost in a row.
    pub concealed: u64,
    /// The peer sent nothing there by right (DTX, hold, before first packet).
    pub silence: u64,
    pub contains_voice: bool,
    /// All zero unless both sides are recorded.
    pub heard: SideTotals,
    /// Of the audio that came from each party; `heard` all zero where it was not a party's.
    pub speak_stream: StreamFacts,
    pub heard_stream: StreamFacts,
}

/// What is known of the RTP that a side of a recording was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// RTP timestamps of the first and of the last packet in the recording; both `None`: none came.
    pub first_timestamp: Option<u32>,
    pub last_timestamp: Option<u32>,
    /// Packets that came too late for their place.
    pub late: u64,
    pub ssrc_changes: u64,
    /// How much faster (above zero) the sender's clock ran than ours, in parts per million; 0 where it is not known yet. A socket that is
    /// read once in 20 ms tells it only to 20 ms over the time: after some minutes.
    pub skew_ppm: i32,
}

/// What the second side of a recording holds: `received + concealed + silence` are the recording's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideTotals {
    /// Played by us, or received in time from the bridged party and written byte for byte.
    pub received: u64,
    pub concealed: u64,
    pub silence: u64,
    /// Left out, so that this side stays with the other: one quiet frame in 100 s where clocks are 200 ppm apart.
    pub skipped: u64,
}

/// Counters of a leg over its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegStats {
    pub received: u64,
    pub sent: u64,
    pub lost: u64,
    pub late: u64,
    pub duplicate: u64,
    pub reordered: u64,
    pub concealed: u64,
    /// Packets of a foreign source or SSRC, not used.
    pub foreign: u64,
    pub malformed: u64,
    pub ssrc_changes: u64,
    pub digits: u64,
    /// RFC 3550 interarrival jitter, RTP ticks.
    pub jitter: u32,
}

impl std::ops::AddAssign for LegStats {
    /// Counters of several legs together; the worst jitter of them.
    fn add_assign(&mut self, other: LegStats) {
        self.received += other.received;
        self.sent += other.sent;
        self.lost += other.lost;
        self.late += other.late;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.concealed += other.concealed;
        self.foreign += other.foreign;
        self.malformed += other.malformed;
        self.ssrc_changes += other.ssrc_changes;
        self.digits += other.digits;
        self.jitter = self.jitter.max(other.jitter);
    }
}

/// What one 20 ms frame of a recording is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    #[default]
    Voice = 0,
    /// Lost or late; the bytes are our concealment.
    Concealed = 1,
    /// Nothing was sent; the bytes are silence.
    Silence = 2,
    /// Paused with masking.
    Masked = 3,
}

/// Frames in a block: 500 ms.
pub const BLOCK_FRAMES: usize = 25;

/// Half a second of one side of a recording, law bytes as received, on its way to a writer. Taken from a pool and given back.
pub struct Block {
    pub recording: RecordingId,
    /// `false`: what the party said; `true`: what it heard.
    pub heard: bool,
    /// The recording has the other side as well.
    pub two_sided: bool,
    pub codec: Codec,
    /// Index of the first frame on the recording's timeline.
    pub first_frame: u64,
    pub frames: usize,
    pub kinds: [FrameKind; BLOCK_FRAMES],
    pub law: [u8; BLOCK_FRAMES * FRAME],
    /// Set on the recording's last block (which may hold no frame), also of two sides only once. What a stop digit cuts is cut before
    /// blocks are handed on: nothing that was given has to be taken back.
    pub last: Option<(StopReason, RecordingTotals)>,
}

impl Block {
    /// An empty one, for a pool.
    pub fn empty() -> Box<Block> {
        Box::new(Block {
            recording: RecordingId(0),
            heard: false,
            two_sided: false,
            codec: Codec::Pcmu,
            first_frame: 0,
            frames: 0,
            kinds: [FrameKind::default(); BLOCK_FRAMES],
            law: [0; BLOCK_FRAMES * FRAME],
            last: None,
        })
    }
}

/// What a leg may do to the world during a tick: the thread that owns it provides this.
pub trait LegIo {
    /// RTP, or RTCP where `rtcp` is set, from the leg's own socket.
    fn send(&mut self, to: SocketAddr, rtcp: bool, packet: &[u8]);
    fn event(&mut self, event: MediaEvent);
    /// An empty block from the pool; `None` when writers cannot keep up.
    fn take_block(&mut self) -> Option<Box<Block>>;
    fn give_block(&mut self, block: Box<Block>);
}

#[cfg(test)]
mod tests;
