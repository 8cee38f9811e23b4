//! The doors of the switch: everything that comes in and everything that goes out, as closed enums.

use crate::admission::{Quota, Spent};
use crate::destination::{Destination, Network};
use crate::hook::{Hook, HookFailure, Keep, Notification, OutboundCall, Phrase, RecordingDetails, ReplyTo, Verdict};
use crate::recording::{CbcKey, PauseBehavior, Policy, RecordingOptions, RecordingStatus, Target};
use crate::ringing::Country;
use crate::say::Word;
use bytes::Bytes;
use hookswitch_proto::Wall;
use hookswitch_proto::media::{Clip, Codec, LegId, MediaCmd, MediaEvent, RecordingId};
use hookswitch_proto::sdp::Device;
use hookswitch_proto::sip::{Flow, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A session's place in the switch; outside, sessions are UUIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub slot: u32,
    pub generation: u32,
}

/// One hook call. Asked again after a restart with a new id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId {
    pub session: SessionId,
    pub number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A question to the session's handler. It ends in exactly one `Input::Verdict`, by the deadline (counted from dispatch).
#[derive(Clone, Debug)]
pub struct Ask {
    pub id: AskId,
    pub domain: Arc<str>,
    pub hook: Hook,
    pub deadline: Duration,
}

/// Who calls what here: read whole at each change, never partly.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub tenants: Vec<Arc<Tenant>>,
    /// Domain of the tenant that takes what nothing else matches.
    pub default_domain: Option<String>,
    /// Peers whose P-Asserted-Identity and Diversion count, and the trunk name they stand for.
    pub trunks: Vec<Trunk>,
    /// Our address as callbacks say it (`ivrServer`).
    pub node_address: String,
    /// Called numbers that no quota refuses.
    pub emergency: Vec<String>,
    pub drain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub name: String,
    pub addresses: Vec<std::net::IpAddr>,
    pub trusted: bool,
}

#[derive(Clone, Debug)]
pub struct Tenant {
    pub domain: Arc<str>,
    /// (trunk or any, called number).
    pub numbers: Vec<(Option<String>, String)>,
    /// Trunks whose calls it takes. None: all, and calls from elsewhere.
    pub trunks: Vec<String>,
    /// Calls at a time; more: 486.
    pub max_sessions: usize,
    /// Calls a second, those that commands place too; more: 480. `None`: as many as come.
    pub calls_per_second: Option<u32>,
    pub fallback: Fallback,
    /// What calls to some of its numbers do without the handler, by called number.
    pub number_fallbacks: BTreeMap<String, Arc<NumberFallback>>,
    /// Whom its handlers may call. None: nobody.
    pub destinations: Vec<Destination>,
    /// Names that placeivrcall may give as mediaserviceId (IC-074).
    pub mediaservice_ids: Vec<String>,
    /// P-Asserted-Identity of its handlers goes out (IC-071).
    pub trusted: bool,
    /// File played before release when getIvrCommand failed for good (IC-263).
    pub error_prompt: Option<String>,
    pub recordings: Policy,
    /// Whose ringing tone its waiting parties hear (IC-172).
    pub country: Country,
    /// Codecs that are offered first, in this order (IC-194). The node's other ones follow.
    pub codecs: Vec<Codec>,
    /// Called numbers in IN mode (IC-125, IC-195): whole ones, or with `*` at the end what they begin with.
    pub in_numbers: Vec<String>,
    /// Users of the cloud user agent: calls to them become newRemoteCall (IC-086).
    pub devices: BTreeSet<String>,
    /// Where its devices may take their media (IC-049). None: nowhere.
    pub media_addresses: Vec<Network>,
    /// Origins that its devices' calls may tell of themselves (IC-059), as [`crate::callback::origin`] writes them.
    pub origins: Vec<String>,
}

impl Tenant {
    /// One without numbers, whose handlers may call nobody.
    pub fn new(domain: &str) -> Tenant {
        Tenant {
            domain: domain.into(),
            numbers: Vec::new(),
            trunks: Vec::new(),
            max_sessions: usize::MAX,
            calls_per_second: None,
            fallback: Fallback::default(),
            number_fallbacks: BTreeMap::new(),
            destinations: Vec::new(),
            mediaservice_ids: Vec::new(),
            trusted: false,
            error_prompt: None,
            recordings: Policy::default(),
            country: Country::default(),
            codecs: Vec::new(),
            in_numbers: Vec::new(),
            devices: BTreeSet::new(),
            media_addresses: Vec::new(),
            origins: Vec::new(),
        }
    }

    /// Its handler tells which call comes to this number, in place of what becomes of it.
    pub fn is_in_mode(&self, number: &str) -> bool {
        self.in_numbers.iter().any(|one| one.strip_suffix('*').map_or(one == number, |prefix| number.starts_with(prefix)))
    }
}

/// What happens when the handler failed a newCall for good.
#[derive(Clone, Debug, PartialEq)]
pub enum Fallback {
    /// Refuse with this status (IC-294: 503, or 480).
    Refuse { status: u16 },
    /// Answer, play, release: built-in rules in place of the handler.
    Announce { phrases: Vec<Phrase> },
}

/// What a call to one number does without its handler: phrases, if there are any, then a call or the end (IC-088 to IC-095, SM-014).
#[derive(Clone, Debug, PartialEq)]
pub struct NumberFallback {
    pub mode: FallbackMode,
    pub phrases: Vec<Phrase>,
    /// Whom the caller is connected to after the phrases. `None`: the caller is released.
    pub call: Option<Box<OutboundCall>>,
    /// Milliseconds since the Unix epoch; from then on it does not hold (IC-092).
    pub expires_at_ms: u64,
}

/// When it runs (IC-091).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackMode {
    /// Where newCall failed for good.
    OnError,
    /// In place of newCall.
    Always,
}

impl Default for Fallback {
    fn default() -> Fallback {
        Fallback::Refuse { status: 503 }
    }
}

/// Audio that a session needs before it can play: files and other sources are the shell's to fetch.
#[derive(Clone, Debug)]
pub struct Prepare {
    pub session: SessionId,
    pub number: u32,
    pub domain: Arc<str>,
    pub sources: Vec<PromptSource>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PromptSource {
    File(String),
    Tone {
        hz: Vec<f32>,
        level_dbm0: f32,
        on: Duration,
        off: Duration,
        total: Duration,
    },
    Url {
        url: String,
        key: Option<String>,
        keep: Option<Keep>,
    },
    Sealed {
        file_name: String,
        cipher: CbcKey,
    },
    Tts {
        engine: String,
        parameters: String,
        keep: Keep,
    },
    /// Prompts of one value, as one clip.
    Say {
        language: &'static str,
        words: Vec<Word>,
    },
}

/// Why there is no clip.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoClip {
    pub why: String,
    /// It would have been had from elsewhere, but not in time.
    pub late: bool,
}

impl From<String> for NoClip {
    fn from(why: String) -> NoClip {
        NoClip { why, late: false }
    }
}

impl From<&str> for NoClip {
    fn from(why: &str) -> NoClip {
        why.to_owned().into()
    }
}

/// Where a SIP URI leads (RFC 3263). Addresses as literals are not asked for.
#[derive(Clone, Debug)]
pub struct Resolve {
    pub session: SessionId,
    pub number: u32,
    pub host: String,
    /// `None`: SRV records first, then the transport's default.
    pub port: Option<u16>,
    pub transport: Transport,
}

/// One result per source, in order.
pub type Clips = Vec<Result<Clip, NoClip>>;

/// A recording is about to begin: the shell opens its file before the first block comes.
#[derive(Clone, Debug)]
pub struct RecordingStart {
    pub recording: RecordingId,
    pub recording_id: String,
    pub session: SessionId,
    pub session_id: String,
    pub domain: Arc<str>,
    pub participant_id: String,
    /// Of a recording of both parties (startrecording, callRecording).
    pub connection_id: Option<String>,
    pub caller: String,
    pub called: String,
    pub file_name: String,
    /// Left: the caller; right: the called party.
    pub stereo: bool,
    /// All that was asked of it: here kind of file, keeping and names count.
    pub options: Arc<RecordingOptions>,
}

/// A recording is stored, or failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingReport {
    pub recording: RecordingId,
    pub recording_id: String,
    pub session: SessionId,
    pub file_name: String,
    pub outcome: Result<u64, String>,
    /// Only of one that was stored.
    pub details: Option<Box<RecordingDetails>>,
}

/// What became of a recording that is no longer a session's business: one of storage class `tenant_bucket` moves on, or one of a run before
/// this was found. It may come long after the session's end, so it says all that its handler must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingMoved {
    pub session_id: String,
    pub domain: Arc<str>,
    /// Uploading, or one of the last states. What does not follow on the state it is in is ignored.
    pub status: Box<RecordingStatus>,
}

/// A session as it begins: what lists of live calls say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    pub session_id: String,
    pub domain: Arc<str>,
    /// Its first party.
    pub participant_id: String,
    pub caller: String,
    pub called: String,
}

/// One line of the call's history, written at its end.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub session_id: String,
    pub domain: Arc<str>,
    pub caller: String,
    pub called: String,
    pub started: Wall,
    pub answered_after: Option<Duration>,
    pub duration: Duration,
    /// It began with an INVITE; else with a command.
    pub incoming: bool,
    /// Calls that it placed and that were answered, and how long they were up, together.
    pub placed: u32,
    pub placed_time: Duration,
    pub reason: &'static str,
    pub final_status: u16,
    /// Of all legs together.
    pub media: hookswitch_proto::media::LegStats,
}

/// What REST, guests' host calls, the console and the CLI may order. One enum, one validation.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    HangupParticipant {
        session_id: String,
        participant_id: String,
    },
    /// Its counterpart is released; the participant's own call-event follows (IC-076).
    HangupRemoteParticipant {
        session_id: String,
        participant_id: String,
    },
    SplitConnection {
        session_id: String,
        connection_id: String,
    },
    /// The prompts play before its beep; neither is in the file or counts for a limit (UR-016, UR-017).
    StartRecording {
        session_id: String,
        target: Target,
        options: Box<RecordingOptions>,
        prompts: Vec<Phrase>,
    },
    /// It is kept, as far as its dialect keeps what was stopped. One that has ended is no error (IC-015).
    StopRecording {
        session_id: String,
        which: WhichRecording,
    },
    /// `behavior`: `None` is what its options say. Only while it records.
    PauseRecording {
        session_id: String,
        which: WhichRecording,
        behavior: Option<PauseBehavior>,
    },
    /// Only while it is paused.
    ResumeRecording {
        session_id: String,
        which: WhichRecording,
    },
    /// It ends and nothing of it is kept. Only before its audio has ended.
    DiscardRecording {
        session_id: String,
        which: WhichRecording,
    },
    /// As long as it has not reached its last state.
    GetRecording {
        session_id: String,
        which: WhichRecording,
    },
    /// All that wait and all but those in the background are cancelled (MG-039).
    CancelMedia {
        session_id: String,
    },
    /// `command`: the one that was meant, as its `ReplyTo` says. `None`: the running one.
    InterruptIvrCommand {
        session_id: String,
        command: Option<u32>,
    },
    /// `length`: of each digit; `None` is the usual one.
    SendDtmf {
        session_id: String,
        participant_id: String,
        digits: String,
        length: Option<Duration>,
    },
    /// The party is asked to call somebody else (REFER) and leaves when that is answered; `Notification::TransferState` tells how it goes.
    Transfer {
        session_id: String,
        participant_id: String,
        target: TransferTarget,
    },
    /// Of a party that is connected with another one: neither hears the other, and the party is told by re-INVITE.
    Hold {
        session_id: String,
        participant_id: String,
        audio: HoldAudio,
    },
    /// The end of a hold. Resuming one that is not on hold is no error.
    Resume {
        session_id: String,
        participant_id: String,
    },
    /// For the rest of the party's call, whoever it is connected with.
    Mute {
        session_id: String,
        participant_id: String,
        mute: Mute,
    },
    /// Phrases to one that is not in the IVR, one command's after another's; whom it is connected with is not heard meanwhile. Guests alone
    /// order it.
    Play {
        session_id: String,
        participant_id: String,
        phrases: Vec<Phrase>,
    },
    /// `Notification::Timer` of this name comes after so long. The same name again moves it. Guests alone order it.
    SetTimer {
        session_id: String,
        name: String,
        after: Duration,
    },
    /// Forgets a timer. Forgetting none is no error.
    CancelTimer {
        session_id: String,
        name: String,
    },
    /// A call out of the blue, or into `session_id`, that is connected to the IVR when it is answered (IC-060).
    PlaceIvrCall(Box<PlaceIvrCall>),
    /// A device's call rings. Only while it is unanswered; again it changes nothing.
    SendRemoteCallRingback {
        session_id: String,
    },
    /// 200 with the device's media. Only while it is unanswered, and only with a codec of the offer.
    AnswerRemoteCall {
        session_id: String,
        device: Box<Device>,
        /// `None`: stays as it is.
        session_reference: Option<String>,
    },
    /// The party that a device talks to, or is called by, is released (IC-042). One that is gone is no error.
    HangupCall {
        session_id: String,
    },
    /// A call from a device, in a session of its own (IC-052).
    PlaceRemoteCall(Box<PlaceRemoteCall>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichRecording {
    /// The one started last.
    Last,
    /// Its id or its control id. With an empty session id: its id, whichever session has it.
    Id(String),
    /// The one of this connection.
    Connection(String),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaceIvrCall {
    /// Join this session in place of a new one (IC-061).
    pub session_id: Option<String>,
    pub mediaservice_id: Option<String>,
    /// Recording, ringback, greeting and participant id do not apply.
    pub call: OutboundCall,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlaceRemoteCall {
    pub device: Device,
    pub destination_uri: String,
    /// User part of From.
    pub source_user: String,
    /// Hears of it in place of the handler: `/callNotify` and so on are added to its path.
    pub callback_base_url: String,
    pub session_reference: Option<String>,
}

impl Command {
    /// Both parties of a connection, as the vendor's startrecording does (IC-037).
    pub fn record_call(session_id: String, connection_id: String, file_name: Option<String>) -> Command {
        let options = Box::new(RecordingOptions::of_call(file_name));
        Command::StartRecording { session_id, target: Target::Connection(connection_id), options, prompts: Vec::new() }
    }

    /// The recording that it names without naming a session: whichever session has it carries it out.
    pub fn recording_alone(&self) -> Option<&str> {
        match self {
            Command::StopRecording { session_id, which }
            | Command::PauseRecording { session_id, which, .. }
            | Command::ResumeRecording { session_id, which }
            | Command::DiscardRecording { session_id, which }
            | Command::GetRecording { session_id, which } => match which {
                WhichRecording::Id(id) if session_id.is_empty() => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    /// The session that carries it out; `None`: a new one.
    pub fn session_id(&self) -> Option<&str> {
        match self {
            Command::HangupParticipant { session_id, .. }
            | Command::HangupRemoteParticipant { session_id, .. }
            | Command::SplitConnection { session_id, .. }
            | Command::StartRecording { session_id, .. }
            | Command::StopRecording { session_id, .. }
            | Command::PauseRecording { session_id, .. }
            | Command::ResumeRecording { session_id, .. }
            | Command::DiscardRecording { session_id, .. }
            | Command::GetRecording { session_id, .. }
            | Command::CancelMedia { session_id }
            | Command::InterruptIvrCommand { session_id, .. }
            | Command::SendDtmf { session_id, .. }
            | Command::Transfer { session_id, .. }
            | Command::Hold { session_id, .. }
            | Command::Resume { session_id, .. }
            | Command::Mute { session_id, .. }
            | Command::Play { session_id, .. }
            | Command::SetTimer { session_id, .. }
            | Command::CancelTimer { session_id, .. }
            | Command::SendRemoteCallRingback { session_id }
            | Command::AnswerRemoteCall { session_id, .. }
            | Command::HangupCall { session_id } => Some(session_id),
            Command::PlaceIvrCall(call) => call.session_id.as_deref(),
            Command::PlaceRemoteCall(_) => None,
        }
    }
}

/// Where a party is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferTarget {
    /// This SIP URI, which must be among the tenant's destinations.
    Blind(String),
    /// The far end of this participant, in our place (RFC 3891).
    Attended(String),
}

/// What a party on hold hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldAudio {
    Silence,
    /// A prompt file, in a loop.
    File(String),
}

/// What a party is kept from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mute {
    /// Nobody hears it. Recordings of it go on.
    pub speak: bool,
    /// It hears nobody.
    pub listen: bool,
}

/// What a valid command gave. It is valid and handed over; its effect comes later (IC-007).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Nothing,
    /// IC-065.
    Placed {
        session_id: String,
        participant_id: String,
        reply_to: ReplyTo,
    },
    Recording {
        recording_id: String,
        file_name: String,
    },
    RecordingStatus(Box<RecordingStatus>),
}

pub type CommandResult = Result<Done, CommandError>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("{field}: {why}")]
    BadValue { field: &'static str, why: String },
    #[error("unknown {0}")]
    Unknown(&'static str),
    #[error("{0}")]
    WrongState(&'static str),
    /// There is a maximum, which the text names.
    #[error("{0}")]
    Limit(String),
    /// The node drains, or has too many calls.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The tenant has used up what it may have.
    #[error("{}: the tenant's quota is used up", .0.name())]
    Quota(Quota),
}

#[derive(Debug)]
pub enum Input {
    /// One datagram or framed message, and the wall clock for labels.
    Sip {
        flow: Flow,
        bytes: Bytes,
        wall: Wall,
    },
    /// What was sent on this flow cannot be delivered: ICMP error, connection refused or lost.
    FlowFailed {
        flow: Flow,
    },
    Media(MediaEvent),
    /// The media thread refused a command: its ring was full.
    MediaRefused {
        leg: LegId,
    },
    Verdict {
        ask: AskId,
        verdict: Result<Verdict, HookFailure>,
    },
    Prepared {
        session: SessionId,
        number: u32,
        clips: Clips,
    },
    /// The answer to `Output::Resolve`, best first.
    Resolved {
        session: SessionId,
        number: u32,
        addresses: Result<Vec<SocketAddr>, String>,
    },
    Recorded(RecordingReport),
    RecordingMoved(RecordingMoved),
    Command {
        id: CommandId,
        domain: Arc<str>,
        command: Command,
    },
    Configure(Arc<Configuration>),
    /// Who has used up what is measured outside.
    Spent(Spent),
    /// The node ends: every call is released, and no handler is asked about who remains.
    Release,
    /// `next_timeout` is due.
    Tick,
}

#[derive(Debug)]
pub enum Output {
    Transmit {
        flow: Flow,
        bytes: Bytes,
    },
    /// All legs of a session go to the same media thread.
    Media {
        session: SessionId,
        command: MediaCmd,
    },
    /// A session is there: by an INVITE or by a command. Ends with one `EndGuest`.
    Begun {
        session: SessionId,
        begun: Box<Begun>,
    },
    Ask(Box<Ask>),
    Prepare(Box<Prepare>),
    /// A SIP host name to look up; answered by one `Input::Resolved` with the same number.
    Resolve(Box<Resolve>),
    Notify {
        session: SessionId,
        domain: Arc<str>,
        notification: Box<Notification>,
    },
    /// Before `MediaCmd` that starts it.
    StartRecording(Box<RecordingStart>),
    /// A recording that was announced never began (a digit or a hang-up came first): no block and no report will come.
    DropRecording {
        recording: RecordingId,
    },
    Reply {
        id: CommandId,
        result: CommandResult,
    },
    /// The session is over: drop its guest instance once its queue is empty.
    EndGuest {
        session: SessionId,
    },
    Completed(Box<CallRecord>),
    /// One line for the operator's log, already free of secrets and digits.
    Log {
        level: Level,
        session: Option<String>,
        text: String,
    },
    Count(Counter),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
}

/// What the switch counts; the shell turns them into metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    CallsOffered,
    /// By command, without an INVITE.
    CallsPlaced,
    CallsAnswered,
    CallsRefused,
    CallsCompleted,
    UnknownNumber,
    SipMalformed,
    SipTooLarge,
    SipNoMatch,
    SipUnsupported,
    SipOverload,
    BadOffer,
    HookFailed,
    HookRestarted,
    FallbackUsed,
    /// An alarm equal to one of the last seconds: counted into the next one instead of sent.
    AlarmSuppressed,
    /// An extension or part of a command that this node does not serve: ignored.
    ExtensionIgnored,
    NotificationDropped,
    DigitsDropped,
    SessionPanicked,
    /// A call, a command or a recording that its tenant's quota refused.
    QuotaSessions,
    QuotaRate,
    QuotaMinutes,
    QuotaStorage,
}
