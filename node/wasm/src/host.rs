//! What a guest may ask of the node: the imports of `wit/host.wit`. Each guest sees only what its own [`Setup`] gives it.
//!
//! Functions that this node does not have yet answer `unsupported`, as their interface says; no import ever traps.

use crate::bindings::hookswitch::call as api;
use crate::limits;
use crate::wit;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wasmtime::ResourceLimiter;

pub use api::calls::{DeviceCall, HoldAudio, IvrCall, MuteDirection, PlacedCall, TransferTarget};
pub use api::http::{Request, Response};
pub use api::log::Level;
pub use api::outbox::PostRequest;
pub use api::prompts::PromptInfo;
pub use api::recordings::RecordingStatus;
pub use api::store::Entry;

/// What a guest may order about its own session. Values are as the guest gave them: the node checks them.
#[derive(Clone, Debug)]
pub enum Order {
    HangupParticipant { participant_id: String },
    HangupRemoteParticipant { participant_id: String },
    SplitConnection { connection_id: String },
    InterruptIvrCommand,
    PlaceIvrCall(Box<IvrCall>),
    PlaceRemoteCall(Box<DeviceCall>),
    SendRemoteCallRingback,
    AnswerRemoteCall { endpoint: Box<wit::RtpEndpoint>, session_reference: Option<String> },
    HangupCall,
    SendDtmf { participant_id: String, digits: String, digit_ms: Option<u32> },
    Transfer { participant_id: String, target: TransferTarget },
    Hold { participant_id: String, audio: HoldAudio },
    Resume { participant_id: String },
    Mute { participant_id: String, direction: MuteDirection },
    Play { participant_id: String, phrases: Vec<wit::Phrase> },
    StartRecording { target: wit::RecordingTarget, options: Box<wit::RecordingOptions>, prompts: Vec<wit::Phrase> },
    StopRecording { recording: Option<String> },
    PauseRecording { recording: Option<String>, behavior: Option<wit::PauseBehavior> },
    ResumeRecording { recording: Option<String> },
    DiscardRecording { recording: Option<String> },
    GetRecording { recording: Option<String> },
    SetTimer { name: String, after_ms: u64 },
    CancelTimer { name: String },
}

/// What a guest does with its tenant's keys and values. Values are as the guest gave them: the node checks them.
#[derive(Clone, Debug)]
pub enum StoreOp {
    Get { key: String },
    Set { key: String, value: Vec<u8>, ttl_ms: Option<u64> },
    SetIf { key: String, value: Vec<u8>, version: u64, ttl_ms: Option<u64> },
    Delete { key: String },
    Increment { key: String, by: i64 },
    Keys { prefix: String, after: Option<String> },
}

/// What it gave: each operation has one kind of answer.
#[derive(Clone, Debug)]
pub enum Stored {
    Nothing,
    Entry(Option<Entry>),
    /// Whether the version was still the one that was meant.
    Written(bool),
    Sum(i64),
    Keys(Vec<String>),
}

/// What a guest does with its tenant's prompt files. Values are as the guest gave them: the node checks them.
#[derive(Clone, Debug)]
pub enum PromptOp {
    Read { file_name: String, offset: u64, length: u32 },
    Write { file_name: String, content: Vec<u8> },
    Delete { file_name: String },
    Stat { file_name: String },
}

/// What it gave: each operation has one kind of answer.
#[derive(Clone, Debug)]
pub enum Prompted {
    Nothing,
    Bytes(Vec<u8>),
    Info(PromptInfo),
}

impl Order {
    /// Its name in the contract.
    pub fn name(&self) -> &'static str {
        match self {
            Order::HangupParticipant { .. } => "calls.hangup-participant",
            Order::HangupRemoteParticipant { .. } => "calls.hangup-remote-participant",
            Order::SplitConnection { .. } => "calls.split-connection",
            Order::InterruptIvrCommand => "calls.interrupt-ivr-command",
            Order::PlaceIvrCall(_) => "calls.place-ivr-call",
            Order::PlaceRemoteCall(_) => "calls.place-remote-call",
            Order::SendRemoteCallRingback => "calls.send-remote-call-ringback",
            Order::AnswerRemoteCall { .. } => "calls.answer-remote-call",
            Order::HangupCall => "calls.hangup-call",
            Order::SendDtmf { .. } => "calls.send-dtmf",
            Order::Transfer { .. } => "calls.transfer",
            Order::Hold { .. } => "calls.hold",
            Order::Resume { .. } => "calls.resume",
            Order::Mute { .. } => "calls.mute",
            Order::Play { .. } => "calls.play",
            Order::StartRecording { .. } => "recordings.start",
            Order::StopRecording { .. } => "recordings.stop",
            Order::PauseRecording { .. } => "recordings.pause",
            Order::ResumeRecording { .. } => "recordings.resume",
            Order::DiscardRecording { .. } => "recordings.discard",
            Order::GetRecording { .. } => "recordings.get",
            Order::SetTimer { .. } => "timers.set",
            Order::CancelTimer { .. } => "timers.cancel",
        }
    }
}

/// What a valid order gave.
#[derive(Clone, Debug)]
pub enum Ordered {
    Nothing,
    Placed(PlacedCall),
    /// The recording's id.
    Recording(String),
    Status(Box<RecordingStatus>),
}

/// An answer that comes later: the guest waits, its thread does not. Dropped with the hook that waits for it.
pub type Later<T> = Pin<Box<dyn Future<Output = Result<T, wit::HostError>> + Send>>;

/// What the node does for guests of one session.
pub trait Host: Send + Sync + 'static {
    /// A line of the guest, already cut to its maximum and free of control characters.
    fn log(&self, level: Level, line: &str);
    /// A line was dropped because its session wrote too much.
    fn log_dropped(&self);
    /// A limit bit that the guest may live with; the text names it. Once in a hook for each that is met in wasm.
    fn limited(&self, limit: &str) {
        let _ = limit;
    }
    /// A setting of the tenant.
    fn config(&self, key: &str) -> Option<String>;
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
    /// Time since the instance first asked for it. `real`: as the machine's clock counts.
    fn since_birth(&self, real: Duration) -> Duration {
        real
    }
    /// A hook has run, whatever came of it.
    fn ran(&self, cost: Cost) {
        let _ = cost;
    }
    /// Hand an order over. It is about the host's own session, whatever ids are in it.
    fn order(&self, order: Order) -> Later<Ordered> {
        let _ = order;
        Box::pin(async { unsupported("orders") })
    }
    /// Keep a post and give its event id.
    fn post(&self, post: PostRequest) -> Later<String> {
        let _ = post;
        Box::pin(async { unsupported("outbox.post") })
    }
    /// Do something with the tenant's keys and values.
    fn store(&self, op: StoreOp) -> Later<Stored> {
        let _ = op;
        Box::pin(async { unsupported("store") })
    }
    /// Do something with the tenant's prompt files.
    fn prompts(&self, op: PromptOp) -> Later<Prompted> {
        let _ = op;
        Box::pin(async { unsupported("prompts") })
    }
    /// Send a request and wait for its answer. `left`: until the hook's deadline.
    fn fetch(&self, request: Request, left: Duration) -> Later<Response> {
        let _ = (request, left);
        Box::pin(async { unsupported("http.fetch") })
    }
    /// A secret of the tenant.
    fn secret(&self, name: String) -> Later<String> {
        let _ = name;
        Box::pin(async { unsupported("secrets.get") })
    }
}

/// Who may run when: asked before guest code gets the processor, and told what it spent.
pub trait Turns: Send + Sync + 'static {
    /// Ready when it may run; else it wakes the task when it may.
    fn poll_turn(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<()>;
    /// Whether it should give the processor back, having had it for so much CPU time in this turn. Asked when a tick is over, or when somebody
    /// interrupts.
    fn gives_way(&self, ran: Duration) -> bool;
    /// Nobody waits for its turn any more.
    fn give_up(&self);
    /// CPU time of one turn.
    fn ran(&self, cpu: Duration);
}

/// What a hook took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of its code, without its waits.
    pub ran: Duration,
    /// Only where the engine counts them.
    pub instructions: Option<u64>,
    /// Bytes of linear memory that the instance has after it.
    pub memory: usize,
}

/// What an instance is given at birth.
pub struct Setup {
    pub host: Arc<dyn Host>,
    /// Seeds the guest's randomness; never used twice.
    pub seed: [u8; 32],
    /// Sum of its linear memories.
    pub memory_bytes: usize,
    /// CPU time of each hook.
    pub cpu: Duration,
    /// Bytes that its log lines may still have. Shared by all instances of a session: one that traps gets no new allowance.
    pub log_left: Arc<AtomicUsize>,
    /// Who else wants the thread. `None`: it runs whenever it is polled.
    pub turns: Option<Arc<dyn Turns>>,
}

impl Setup {
    pub fn new(host: Arc<dyn Host>, seed: [u8; 32]) -> Setup {
        let log_left = Arc::new(AtomicUsize::new(limits::LOG_BYTES));
        Setup { host, seed, memory_bytes: limits::MEMORY_BYTES, cpu: limits::HOOK_CPU, log_left, turns: None }
    }
}

/// Why the host ended an instance, as an error inside wasmtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    Cpu,
}

impl std::fmt::Display for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kill::Cpu => f.write_str("CPU time is used up"),
        }
    }
}

impl std::error::Error for Kill {}

/// The data of a store.
pub(crate) struct State {
    host: Arc<dyn Host>,
    random: HashRandom,
    born: Option<Instant>,
    log_left: Arc<AtomicUsize>,
    log_full: bool,
    memory_limit: usize,
    memory: usize,
    tables: usize,
    /// The hook's deadline, and the requests that it may still send.
    pub(crate) until: Option<tokio::time::Instant>,
    pub(crate) fetches_left: u32,
    /// The limit that was refused to the guest last.
    pub(crate) refused: Option<&'static str>,
    pub(crate) cpu_limit: Duration,
    pub(crate) cpu_used: Duration,
    pub(crate) turns: Option<Arc<dyn Turns>>,
    /// An address on its native stack where the last hook was entered.
    pub(crate) stack: Option<usize>,
}

impl State {
    pub(crate) fn new(setup: Setup) -> State {
        State {
            host: setup.host,
            random: HashRandom { seed: setup.seed, counter: 0 },
            born: None,
            log_left: setup.log_left,
            log_full: false,
            until: None,
            fetches_left: 0,
            memory_limit: setup.memory_bytes.min(limits::MEMORY_BYTES_MAX),
            memory: 0,
            tables: 0,
            refused: None,
            stack: None,
            turns: setup.turns,
            cpu_limit: setup.cpu,
            cpu_used: Duration::ZERO,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The guest may live with it, or abort; its log says so in either case.
    fn refuse(&mut self, name: &'static str, most: usize) {
        if self.refused.replace(name) != Some(name) {
            self.host.limited(&format!("{name}: {most} of an instance"));
        }
    }

    pub(crate) fn tell_cost(&self, ran: Duration, instructions: Option<u64>) {
        self.host.ran(Cost { ran, instructions, memory: self.memory });
    }
}

// Memory and tables are counted over all of the instance's, since a limit for each would be multiplied by their number.
impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.memory.saturating_sub(current).saturating_add(desired);
        if sum > self.memory_limit {
            self.refuse("memory", self.memory_limit);
            return Ok(false);
        }
        self.memory = sum;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.tables.saturating_sub(current).saturating_add(desired);
        if sum > limits::TABLE_ELEMENTS {
            self.refuse("table elements", limits::TABLE_ELEMENTS);
            return Ok(false);
        }
        self.tables = sum;
        Ok(true)
    }

    fn instances(&self) -> usize {
        limits::CORE_INSTANCES_LARGE
    }
    fn tables(&self) -> usize {
        limits::TABLES
    }
    fn memories(&self) -> usize {
        limits::MEMORIES
    }
}

/// SHA-256 of seed and counter: different in each instance, and a guest that sees some of it cannot tell the rest.
struct HashRandom {
    seed: [u8; 32],
    counter: u64,
}

impl HashRandom {
    fn block(&mut self) -> [u8; 32] {
        self.counter += 1;
        Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize().into()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        let mut out = [0; N];
        out.copy_from_slice(&self.block()[..N]);
        out
    }
}

impl api::types::Host for State {}

impl api::log::Host for State {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let line = one_line(&message, limits::LOG_LINE);
        let size = line.len().max(1);
        let take = |left: usize| left.checked_sub(size);
        if self.log_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            self.host.log(level, &line);
        } else {
            self.host.log_dropped();
            if !std::mem::replace(&mut self.log_full, true) {
                self.host.limited(&format!("log: {} bytes in a session", limits::LOG_BYTES));
            }
        }
        Ok(())
    }
}

/// At most `max` bytes of `text`, control characters replaced: what a guest writes cannot forge a second line or move a terminal's cursor.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for c in text.trim_end().chars() {
        let c = if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            ' '
        } else {
            c
        };
        if line.len() + c.len_utf8() > max {
            break;
        }
        line.push(c);
    }
    line
}

impl api::config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.host.config(&key))
    }
}

impl api::clock::Host for State {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.host.now_ms())
    }

    // Counted from the first call: the age of the node is not the guest's business.
    fn monotonic_ns(&mut self) -> wasmtime::Result<u64> {
        let born = *self.born.get_or_insert_with(Instant::now);
        Ok(u64::try_from(self.host.since_birth(born.elapsed()).as_nanos()).unwrap_or(u64::MAX))
    }
}

impl api::random::Host for State {
    fn get_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::from_le_bytes(self.random.bytes()))
    }

    fn get_bytes(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        let length = length.min(limits::RANDOM_BYTES) as usize;
        let mut out = Vec::with_capacity(length + 32);
        while out.len() < length {
            out.extend_from_slice(&self.random.block());
        }
        out.truncate(length);
        Ok(out)
    }

    fn uuid(&mut self) -> wasmtime::Result<String> {
        let mut b: [u8; 16] = self.random.bytes();
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let hex: String = b.iter().map(|x| format!("{x:02x}")).collect();
        Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }
}

type Answer<T> = wasmtime::Result<Result<T, wit::HostError>>;

fn unsupported<T>(what: &str) -> Result<T, wit::HostError> {
    Err(wit::HostError::Unsupported(format!("this node does not have {what}")))
}

/// The guest waits until its order is validated and handed over, and gives one at a time: it has one thread of its own.
impl State {
    async fn order(&self, order: Order) -> Answer<()> {
        Ok(self.host.order(order).await.map(|_| ()))
    }

    async fn place(&mut self, order: Order) -> Answer<PlacedCall> {
        Ok(match self.host.order(order).await {
            Ok(Ordered::Placed(placed)) => Ok(placed),
            Ok(_) => Err(wit::HostError::NotAvailable("the call was not placed".into())),
            Err(e) => Err(e),
        })
    }
}

impl api::calls::Host for State {
    async fn hangup_participant(&mut self, participant_id: String) -> Answer<()> {
        self.order(Order::HangupParticipant { participant_id }).await
    }

    async fn hangup_remote_participant(&mut self, participant_id: String) -> Answer<()> {
        self.order(Order::HangupRemoteParticipant { participant_id }).await
    }

    async fn split_connection(&mut self, connection_id: String) -> Answer<()> {
        self.order(Order::SplitConnection { connection_id }).await
    }

    async fn interrupt_ivr_command(&mut self) -> Answer<()> {
        self.order(Order::InterruptIvrCommand).await
    }

    async fn place_ivr_call(&mut self, call: IvrCall) -> Answer<PlacedCall> {
        self.place(Order::PlaceIvrCall(Box::new(call))).await
    }

    async fn place_remote_call(&mut self, call: DeviceCall) -> Answer<PlacedCall> {
        self.place(Order::PlaceRemoteCall(Box::new(call))).await
    }

    async fn send_remote_call_ringback(&mut self) -> Answer<()> {
        self.order(Order::SendRemoteCallRingback).await
    }

    async fn answer_remote_call(&mut self, endpoint: wit::RtpEndpoint, session_reference: Option<String>) -> Answer<()> {
        self.order(Order::AnswerRemoteCall { endpoint: Box::new(endpoint), session_reference }).await
    }

    async fn hangup_call(&mut self) -> Answer<()> {
        self.order(Order::HangupCall).await
    }

    async fn send_dtmf(&mut self, participant_id: String, digits: String, digit_ms: Option<u32>) -> Answer<()> {
        self.order(Order::SendDtmf { participant_id, digits, digit_ms }).await
    }

    async fn transfer(&mut self, participant_id: String, target: TransferTarget) -> Answer<()> {
        self.order(Order::Transfer { participant_id, target }).await
    }

    async fn hold(&mut self, participant_id: String, audio: HoldAudio) -> Answer<()> {
        self.order(Order::Hold { participant_id, audio }).await
    }

    async fn resume(&mut self, participant_id: String) -> Answer<()> {
        self.order(Order::Resume { participant_id }).await
    }

    async fn mute(&mut self, participant_id: String, direction: MuteDirection) -> Answer<()> {
        self.order(Order::Mute { participant_id, direction }).await
    }

    async fn play(&mut self, participant_id: String, phrases: Vec<wit::Phrase>) -> Answer<()> {
        self.order(Order::Play { participant_id, phrases }).await
    }
}

impl api::recordings::Host for State {
    async fn start(&mut self, target: wit::RecordingTarget, options: wit::RecordingOptions, prompts: Vec<wit::Phrase>) -> Answer<String> {
        let order = Order::StartRecording { target, options: Box::new(options), prompts };
        Ok(match self.host.order(order).await {
            Ok(Ordered::Recording(id)) => Ok(id),
            Ok(_) => Err(wit::HostError::NotAvailable("the recording was not started".into())),
            Err(e) => Err(e),
        })
    }

    async fn stop(&mut self, recording: Option<String>) -> Answer<()> {
        self.order(Order::StopRecording { recording }).await
    }

    async fn pause(&mut self, recording: Option<String>, behavior: Option<wit::PauseBehavior>) -> Answer<()> {
        self.order(Order::PauseRecording { recording, behavior }).await
    }

    async fn resume(&mut self, recording: Option<String>) -> Answer<()> {
        self.order(Order::ResumeRecording { recording }).await
    }

    async fn discard(&mut self, recording: Option<String>) -> Answer<()> {
        self.order(Order::DiscardRecording { recording }).await
    }

    async fn get(&mut self, recording: Option<String>) -> Answer<RecordingStatus> {
        Ok(match self.host.order(Order::GetRecording { recording }).await {
            Ok(Ordered::Status(status)) => Ok(*status),
            Ok(_) => Err(wit::HostError::NotAvailable("the recording's state is not known".into())),
            Err(e) => Err(e),
        })
    }
}

impl api::outbox::Host for State {
    async fn post(&mut self, post: PostRequest) -> Answer<String> {
        Ok(self.host.post(post).await)
    }
}

/// The answer of the kind that the operation has.
macro_rules! of_kind {
    ($answer:expr, $kind:pat => $value:expr) => {
        Ok(match $answer.await {
            Ok($kind) => Ok($value),
            Ok(_) => Err(wit::HostError::NotAvailable("the node gave another kind of answer".into())),
            Err(e) => Err(e),
        })
    };
}

impl api::prompts::Host for State {
    async fn read(&mut self, file_name: String, offset: u64, length: u32) -> Answer<Vec<u8>> {
        of_kind!(self.host.prompts(PromptOp::Read { file_name, offset, length }), Prompted::Bytes(bytes) => bytes)
    }

    async fn write(&mut self, file_name: String, content: Vec<u8>) -> Answer<()> {
        of_kind!(self.host.prompts(PromptOp::Write { file_name, content }), Prompted::Nothing => ())
    }

    async fn delete(&mut self, file_name: String) -> Answer<()> {
        of_kind!(self.host.prompts(PromptOp::Delete { file_name }), Prompted::Nothing => ())
    }

    async fn stat(&mut self, file_name: String) -> Answer<PromptInfo> {
        of_kind!(self.host.prompts(PromptOp::Stat { file_name }), Prompted::Info(info) => info)
    }
}

impl api::store::Host for State {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        of_kind!(self.host.store(StoreOp::Get { key }), Stored::Entry(entry) => entry)
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        of_kind!(self.host.store(StoreOp::Set { key, value, ttl_ms }), Stored::Nothing => ())
    }

    async fn set_if(&mut self, key: String, value: Vec<u8>, version: u64, ttl_ms: Option<u64>) -> Answer<bool> {
        of_kind!(self.host.store(StoreOp::SetIf { key, value, version, ttl_ms }), Stored::Written(written) => written)
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        of_kind!(self.host.store(StoreOp::Delete { key }), Stored::Nothing => ())
    }

    async fn increment(&mut self, key: String, by: i64) -> Answer<i64> {
        of_kind!(self.host.store(StoreOp::Increment { key, by }), Stored::Sum(sum) => sum)
    }

    async fn keys(&mut self, prefix: String, after: Option<String>) -> Answer<Vec<String>> {
        of_kind!(self.host.store(StoreOp::Keys { prefix, after }), Stored::Keys(keys) => keys)
    }
}

impl api::http::Host for State {
    async fn fetch(&mut self, request: Request) -> Answer<Response> {
        let Some(left) = self.fetches_left.checked_sub(1) else {
            let limit = format!("fetches: {} for each hook", limits::FETCHES);
            self.host.limited(&limit);
            return Ok(Err(wit::HostError::Limit(limit)));
        };
        self.fetches_left = left;
        let time = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(tokio::time::Instant::now()));
        Ok(self.host.fetch(request, time).await)
    }
}

impl api::secrets::Host for State {
    async fn get(&mut self, name: String) -> Answer<String> {
        Ok(self.host.secret(name).await)
    }
}

impl api::timers::Host for State {
    async fn set(&mut self, name: String, after_ms: u64) -> Answer<()> {
        self.order(Order::SetTimer { name, after_ms }).await
    }

    async fn cancel(&mut self, name: String) -> Answer<()> {
        self.order(Order::CancelTimer { name }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_cuts_on_characters_and_hides_control_characters() {
        for (text, max, expected) in [
            ("plain", 10, "plain"),
            ("two\nlines\r\n", 20, "two lines"),
            ("\x1b[2J", 9, " [2J"),
            ("åäö", 3, "å"),
            ("åäö", 4, "åä"),
            ("a\u{202e}b", 9, "a b"),
            ("", 5, ""),
        ] {
            assert_eq!(one_line(text, max), expected, "{text:?} {max}");
        }
    }
}
