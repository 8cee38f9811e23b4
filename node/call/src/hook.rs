//! Hooks as data: what a session asks of its handler and what it may answer. The WASM adapter, built-in rules and a test script all
//! speak exactly these types. The WIT in `wit/` says the same to guests; `node/src/guest` converts.
//!
//! Names follow the mediaservice callbacks (docs/conformance.md, IC rows).

use crate::recording::{CbcKey, RecordingOptions, RecordingStatus};
use hookswitch_proto::sdp::{Device, Target};
use std::sync::Arc;
use std::time::Duration;

/// What every hook request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// UUID, from first INVITE to session-completed.
    pub session_id: String,
    /// JSON text that the handler set last, unchanged.
    pub session_reference: Option<String>,
    pub domain: String,
    /// Address of this node.
    pub ivr_server: String,
    /// One for the whole call, also over sessions (IC-098).
    pub trace_id: String,
    /// Of the node that asks, where the operator named one (IC-099).
    pub site_id: Option<String>,
    /// A new instance serves this session after an earlier one failed (IC-298).
    pub restarted: bool,
    /// Base of the URLs that hear of it in place of the handler (IC-059).
    pub callback: Option<Arc<str>>,
}

/// What a replyId stands for beside its session (IC-009, IC-010). The shell signs it; ids in a request's body choose the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyTo {
    #[default]
    Participant,
    Connection,
    /// The command that answers this request: one that has ended is not interrupted (IC-080).
    IvrCommand(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    #[default]
    Public,
    Secret,
}

/// newCall (IC-124 to IC-141).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewCall {
    pub info: SessionInfo,
    pub participant_id: String,
    pub sip_call_id: String,
    pub privacy: Privacy,
    pub calling_party: String,
    pub display_name: Option<String>,
    pub from_user: String,
    /// Names lower-case, one entry per header line.
    pub x_headers: Vec<(String, String)>,
    pub p_headers: Vec<(String, String)>,
    pub called_party: String,
    pub diversion: Option<String>,
    pub referred_by: Option<String>,
    pub pai_number: Option<String>,
    pub subject: Option<String>,
    pub src_addr: String,
}

/// getCallIdentifier: which call is it that comes to this number (IC-195 to IC-200)?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallIdentifier {
    pub info: SessionInfo,
    pub participant_id: String,
    /// The whole user part of the Request-URI.
    pub called_party: String,
}

/// The result of a digit collection (IC-220 to IC-224).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtmfParams {
    pub dtmf_match: String,
    pub reason: DtmfReason,
    pub matched_termination_key: Option<char>,
    pub encryption: Option<DigitProtection>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtmfReason {
    TerminationKey,
    MaxDigits,
    FirstTimeout,
    BetweenTimeout,
    Interrupted,
    RecordingEnd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DigitProtection {
    /// Lower-case hex MD5 of salt and digits.
    Md5 {
        salt: String,
    },
    HmacSha256 {
        salt: String,
    },
}

/// What became of the command before (`None` in the first request).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IvrRequest {
    pub info: SessionInfo,
    pub participant_id: String,
    pub reply_to: ReplyTo,
    /// Digits since the last flush; `None` when empty.
    pub dtmf_buffer: Option<String>,
    pub dtmf: Option<DtmfParams>,
    /// The recording that the last command's record phrase made.
    pub recording: Option<RecordingResult>,
}

/// What a record phrase gave (UR-035).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingResult {
    pub recording_id: String,
    /// Its owner's name for it; empty: it has none but its id.
    pub control_id: String,
    pub client_context: Option<String>,
    pub file_name: String,
    /// Names of docs/conformance.md "Stop reasons", and ours where it has none.
    pub stop_reason: String,
    pub stop_digit: Option<char>,
    pub duration: Duration,
    pub contains_sound: bool,
}

/// What is known of a recording once it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingDetails {
    pub result: RecordingResult,
    /// Bytes.
    pub size: u64,
    /// Of the file, lower-case hex.
    pub sha256: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEventKind {
    CallingPartyDrop,
    CalledPartyDrop,
    CallingPartyFailure,
    CalledPartyFailure,
    CallerConnectionSplit,
    CalleeConnectionSplit,
}

/// callEvent (IC-142 to IC-155).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    pub info: SessionInfo,
    pub event: CallEventKind,
    pub connection_id: String,
    pub participant_id: String,
    pub user: String,
    pub remote_participant_id: String,
    pub remote_user: String,
    pub reply_to: ReplyTo,
    pub sip_code: Option<u16>,
    pub reason_text: Option<String>,
    pub q850: Option<u16>,
}

/// newRemoteCall (IC-207 to IC-214).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteCall {
    pub info: SessionInfo,
    pub participant_id: String,
    pub reply_to: ReplyTo,
    pub sip_call_id: String,
    /// Request-URI.
    pub destination_uri: String,
    /// User part of From.
    pub source_user: String,
    /// `None`: the caller made no offer, and says where it is in its ACK; callAnswered tells then.
    pub target: Option<Target>,
}

/// A question to the handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    NewCall(Box<NewCall>),
    /// In place of newCall, for numbers in IN mode.
    GetCallIdentifier(Box<CallIdentifier>),
    GetIvrCommand(Box<IvrRequest>),
    CallEvent(Box<CallEvent>),
    /// In place of newCall, where a device is called. Nothing waits for the answer.
    NewRemoteCall(Box<RemoteCall>),
}

impl Hook {
    /// The seed's name, for logs and alarms.
    pub fn name(&self) -> &'static str {
        match self {
            Hook::NewCall(_) => "newCall",
            Hook::GetCallIdentifier(_) => "getCallIdentifier",
            Hook::GetIvrCommand(_) => "getIvrCommand",
            Hook::CallEvent(_) => "callEvent",
            Hook::NewRemoteCall(_) => "newRemoteCall",
        }
    }
    pub fn info(&self) -> &SessionInfo {
        match self {
            Hook::NewCall(h) => &h.info,
            Hook::GetCallIdentifier(h) => &h.info,
            Hook::GetIvrCommand(h) => &h.info,
            Hook::CallEvent(h) => &h.info,
            Hook::NewRemoteCall(h) => &h.info,
        }
    }
    pub fn info_mut(&mut self) -> &mut SessionInfo {
        match self {
            Hook::NewCall(h) => &mut h.info,
            Hook::GetCallIdentifier(h) => &mut h.info,
            Hook::GetIvrCommand(h) => &mut h.info,
            Hook::CallEvent(h) => &mut h.info,
            Hook::NewRemoteCall(h) => &mut h.info,
        }
    }
}

/// The handler's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Routing(Routing),
    Ivr(Box<IvrCommand>),
    Identified(Identified),
    /// Of a hook that decides nothing: it was heard.
    Noted {
        session_reference: Option<String>,
    },
}

/// Answer to getCallIdentifier: the call goes to the IVR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identified {
    /// Echo of the request's session; another value fails the request (IC-198). `None`: not said.
    pub session_id: Option<String>,
    pub session_reference: Option<String>,
}

/// Answer to newCall and callEvent (IC-158 to IC-194, IC-299).
#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// Refuse the INVITE, or release the leg. `drop_code` as in IC-166 (`busy`, `decline`, …, or `400`..`699`).
    Drop {
        drop_code: Option<String>,
        session_reference: Option<String>,
    },
    /// Answer and start the IVR.
    Ivr {
        session_reference: Option<String>,
    },
    Call(Box<OutboundCall>),
    Join {
        participant_id: String,
        session_reference: Option<String>,
        /// The new connection is recorded from the moment it is bridged.
        recording: Option<Box<RecordingOptions>>,
    },
    /// Connect it with a device, whose media goes past us (IC-161, IC-188).
    HttpCall {
        device: Box<Device>,
        session_reference: Option<String>,
    },
    /// 300 to 302 with contacts.
    Redirect {
        status: u16,
        contacts: Vec<String>,
        session_reference: Option<String>,
    },
    /// An action of a newer interface. An empty name: no action was given.
    Ext {
        name: String,
        json: String,
    },
}

/// The fields of action call (IC-169 to IC-187).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutboundCall {
    pub dest_addr: String,
    pub max_ring_time: Option<Duration>,
    pub call_recording: bool,
    pub recording_file_name: Option<String>,
    /// The other properties of that recording. Where set, the connection is recorded even if `call_recording` is false.
    pub recording: Option<Box<RecordingOptions>>,
    pub ringback_tone: Option<String>,
    /// What both are told before they hear each other (IC-173, IC-174).
    pub greeting: Option<Greeting>,
    pub sip_from: Option<String>,
    pub sip_to: Option<String>,
    pub sip_pai: Option<String>,
    pub sip_rpid: Option<String>,
    pub sip_diversion: Option<String>,
    pub sip_diversion_parameters: Vec<(String, String)>,
    pub contact_parameters: Vec<(String, String)>,
    pub contact_user_parameters: Vec<(String, String)>,
    pub display_name: Option<String>,
    pub caller_privacy: bool,
    pub x_headers: Vec<(String, String)>,
    pub p_headers: Vec<(String, String)>,
    pub copy_headers: Vec<String>,
    pub participant_id: Option<String>,
    /// A silent listener to the connection, called when it is up (IC-189 to IC-192): its address, From user and headers count.
    pub monitor: Option<Box<OutboundCall>>,
    pub session_reference: Option<String>,
}

/// Phrases for each side, after the callee answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Greeting {
    pub order: PlayMode,
    pub caller: Vec<Phrase>,
    pub callee: Vec<Phrase>,
}

/// Which of two greetings plays first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlayMode {
    CalleeFirst,
    CallerFirst,
    /// At the same time; the longer one is waited for.
    #[default]
    Both,
}

/// getIvrCommand's response (IC-227 to IC-264).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IvrCommand {
    /// Echo of the request's session; another value is an alarm (IC-227). `None`: not said.
    pub session_id: Option<String>,
    pub session_reference: Option<String>,
    pub phrases: Vec<Phrase>,
    pub dtmf: Option<Collect>,
    pub barge_in: hookswitch_proto::media::BargeIn,
    pub background: Option<BackgroundPrompt>,
    /// Release the party after the phrases.
    pub hangup: bool,
    pub recorded_callback: bool,
    /// getIVRCommandAfter.
    pub next_after: Duration,
    /// Leave the IVR by this routing (our extension, IC-260).
    pub routing: Option<Box<Routing>>,
    /// Extensions of a newer interface: name and JSON. Unknown ones are counted and ignored.
    pub ext: Vec<(String, String)>,
}

/// Digit collection (IC-229 to IC-236).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    pub flush: bool,
    /// `None`: up to the buffer's limit.
    pub max_digits: Option<u32>,
    pub first_timeout: Duration,
    pub between_timeout: Duration,
    /// Each character is a key.
    pub termination_keys: String,
    pub encryption: Option<DigitProtection>,
}

impl Default for Collect {
    fn default() -> Collect {
        Collect {
            flush: false,
            max_digits: None,
            first_timeout: Duration::from_secs(30),
            between_timeout: Duration::from_secs(3),
            termination_keys: String::new(),
            encryption: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Phrase {
    File {
        file_name: String,
    },
    Tone {
        hz: Vec<f32>,
        level_dbm0: f32,
        on: Duration,
        off: Duration,
        total: Duration,
    },
    Silence {
        duration: Duration,
    },
    Record(Box<RecordPhrase>),
    Echo {
        duration: Duration,
    },
    /// Fetched from where the tenant's handlers may post to. Without `keep`: kept for an hour under the name `key`; without either it is
    /// fetched each time.
    Url {
        url: String,
        key: Option<String>,
        keep: Option<Keep>,
    },
    /// A recording that was encrypted for its client, who brings the key (AC-016).
    Sealed {
        file_name: String,
        cipher: CbcKey,
    },
    /// Synthesis: engine (`local`, `awstts`, `googletts`) and its parameters as JSON.
    Tts {
        engine: String,
        parameters: String,
        keep: Keep,
    },
    /// Say a value: kind (`number`, `digits`, `date`, `time`, `currency`), value, language.
    Say {
        kind: String,
        value: String,
        language: String,
    },
    Ext {
        name: String,
        json: String,
    },
}

/// What becomes of a phrase that was fetched or synthesised (IC-247 to IC-249).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keep {
    /// In the node's cache, so long.
    pub time: Duration,
    /// It is made anew now, in place of the one that is kept.
    pub refresh: bool,
    /// As a prompt of the tenant under this name, beside that.
    pub file_name: Option<String>,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { time: crate::limits::KEEP_USUAL, refresh: false, file_name: None }
    }
}

/// Record the caller as an IVR step (IC-244). Stop digits of `None`: the command's termination keys, if it collects digits.
pub type RecordPhrase = RecordingOptions;

#[derive(Clone, Debug, PartialEq)]
pub struct BackgroundPrompt {
    pub file_name: Option<String>,
    pub url: Option<String>,
    pub repeat_pause: Duration,
    pub stop: bool,
}

/// Why there is no verdict. Each costs the handler its instance unless it is `Refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookFailure {
    /// Wasm trap, with the guest's backtrace.
    Trap { message: String },
    /// No verdict by the wall-clock deadline.
    Deadline,
    /// The hook used up its CPU time.
    Cpu,
    /// A limit named in the docs was hit in a way that ended the instance.
    Limit { name: &'static str },
    /// The handler returned its own failure: the instance lives on.
    Refused { message: String },
    /// The answer is not one this hook may give, or a field in it is impossible.
    Nonsense { field: String, why: String },
    /// No answer at all: no active version, or no instance to be had.
    Unavailable { why: String },
    /// The answer was empty (IC-262; the webhook's case).
    Empty,
}

impl HookFailure {
    /// The instance broke: a new one gets the hook again, once per session (IC-298).
    pub fn lost_instance(&self) -> bool {
        matches!(self, HookFailure::Trap { .. } | HookFailure::Deadline | HookFailure::Cpu | HookFailure::Limit { .. })
    }
}

/// One-way news for the handler (WIT `notify`).
#[derive(Clone, Debug, PartialEq)]
pub enum Notification {
    CallAnswered {
        info: SessionInfo,
        connection_id: String,
        caller_participant_id: String,
        callee_participant_id: String,
        calling_party_number: String,
        remote_party_number: String,
        /// Seconds (RFC 4028), where a timer was agreed on.
        calling_party_expires: Option<u32>,
        called_party_expires: Option<u32>,
        /// The callee is a connection's silent listener (IC-121), and the caller what it hears.
        monitoring: bool,
        reply_to: ReplyTo,
        /// Only of a device's connection: where and in what it must send (IC-120 to IC-122).
        target: Option<Box<Target>>,
    },
    /// 180 or 183 of an outgoing leg (`ringing`), a re-INVITE (`reInvite`) or an UPDATE (`update`) of a party (IC-104 to IC-111).
    CallNotify {
        info: SessionInfo,
        event: &'static str,
        participant_id: String,
        user: String,
        remote_participant_id: Option<String>,
        remote_user: Option<String>,
        sip_call_id: String,
        /// It is a connection's silent listener (IC-108).
        monitoring: bool,
        reply_to: ReplyTo,
        /// Only of a device's connection: where it must send from now on.
        target: Option<Box<Target>>,
    },
    /// A device's connection lost its party, or never got it. Nothing is left to decide.
    CallEvent(Box<CallEvent>),
    RecordingReady {
        info: SessionInfo,
        successful: bool,
        reason: Option<String>,
        connection_id: Option<String>,
        recording_id: String,
        file_name: String,
        file_size: u64,
        /// Only of one that was stored.
        details: Option<Box<RecordingDetails>>,
    },
    /// A recording that its owner named, or started by command, is in another state. Each at most once, of the last five exactly one.
    RecordingState {
        info: SessionInfo,
        status: Box<RecordingStatus>,
        /// Milliseconds since the Unix epoch.
        occurred_at: u64,
    },
    SessionCompleted {
        info: SessionInfo,
        duration: Duration,
        reason: &'static str,
    },
    /// A transfer that was ordered has come so far: SIP status of the call that its party makes (IC-300).
    TransferState {
        info: SessionInfo,
        participant_id: String,
        sip_code: u16,
        /// No more news of it will come.
        last: bool,
    },
    /// A timer that the handler set is due.
    Timer {
        info: SessionInfo,
        name: String,
    },
    Alarm(Alarm),
}

impl Notification {
    pub fn info(&self) -> &SessionInfo {
        match self {
            Notification::CallAnswered { info, .. }
            | Notification::CallNotify { info, .. }
            | Notification::RecordingReady { info, .. }
            | Notification::RecordingState { info, .. }
            | Notification::TransferState { info, .. }
            | Notification::Timer { info, .. }
            | Notification::SessionCompleted { info, .. } => info,
            Notification::CallEvent(event) => &event.info,
            Notification::Alarm(alarm) => &alarm.info,
        }
    }
    pub fn info_mut(&mut self) -> &mut SessionInfo {
        match self {
            Notification::CallAnswered { info, .. }
            | Notification::CallNotify { info, .. }
            | Notification::RecordingReady { info, .. }
            | Notification::RecordingState { info, .. }
            | Notification::TransferState { info, .. }
            | Notification::Timer { info, .. }
            | Notification::SessionCompleted { info, .. } => info,
            Notification::CallEvent(event) => &mut event.info,
            Notification::Alarm(alarm) => &mut alarm.info,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    SessionError,
    CallEventError,
    NewCallEventError,
    EmergencyFallback,
    IvrCommandError,
    CallError,
}

impl AlarmKind {
    pub fn name(self) -> &'static str {
        match self {
            AlarmKind::SessionError => "sessionError",
            AlarmKind::CallEventError => "callEventError",
            AlarmKind::NewCallEventError => "newCallEventError",
            AlarmKind::EmergencyFallback => "emergencyFallback",
            AlarmKind::IvrCommandError => "ivrCommandError",
            AlarmKind::CallError => "callError",
        }
    }
}

/// An alarm (IC-274 to IC-290): type, error text of the seed, and debug details without digits, keys or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub info: SessionInfo,
    pub kind: AlarmKind,
    pub error: String,
    pub details: Option<String>,
    /// Only of unexpectedReinviteResponse.
    pub leg: Option<Box<AlarmLeg>>,
}

/// IC-287, IC-290.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmLeg {
    /// What the far end said.
    pub status: u16,
    pub participant_id: String,
    pub user: String,
    pub call_id: String,
}
