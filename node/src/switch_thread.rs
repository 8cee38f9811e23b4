//! The signalling thread: owns the [`Switch`], feeds it, and carries out what it says.
//!
//! ```text
//!  UDP sockets --recvmmsg--+                        +--> sendmmsg, connections, resolver
//!  media rings ------------+--> Switch::handle ---> +--> media rings, guests, prompts, recorder
//!  inbox (verdicts, TCP) --+     then poll          +--> store, log, metrics, waiting API calls
//!  timers -----------------+
//! ```
//!
//! It decides nothing about calls. It never waits for a disk or another thread; it sleeps in one `ppoll` until there is something.
//! Start with [`SwitchThread::run`].

use crate::api::Live;
use crate::limits;
use crate::media::Media;
use crate::metrics::{Metrics, add};
use crate::net::resolve::Resolver;
use crate::net::tcp::Tcp;
use crate::net::udp::{self, Receiver};
use crate::net::{Clock, Priority, Wake, set_priority};
use crate::prompt::Prompts;
use crate::record::Recorder;
use crate::store::{CallRow, Store};
use bytes::Bytes;
use hookswitch_call::door::{CallRecord, Command, CommandError, CommandId, CommandResult, Level};
use hookswitch_call::{Ask, Input, Notification, Output, SessionId, Switch};
use hookswitch_proto::Time;
use hookswitch_proto::limits::SIP_DATAGRAM_BYTES;
use hookswitch_proto::sip::{Flow, Transport};
use hookswitch_wasm::thread_time;
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Gauges of the switch are published so often.
const GAUGES_EVERY: Duration = Duration::from_millis(100);
/// The processor time that the thread takes, over so long, decides its priority: above the first of each pair it is busy, or crowded, below the
/// second no more. While it is not busy it runs in real time, and media that do so take up to 88 % of a core: both together leave others more than
/// what the kernel would keep for them by force.
const LOAD_WINDOW: Duration = Duration::from_millis(250);
const BUSY: Duration = Duration::from_millis(12);
const LIGHT: Duration = Duration::from_millis(8);
const CROWDED: Duration = Duration::from_millis(75);
const AT_EASE: Duration = Duration::from_millis(40);
/// Lines of the switch logged in a second; what is beyond is counted and said in one line, so that a flood fills no disk.
const LOG_LINES: u32 = 200;

/// Who answers asks: guests in the node, built-in rules in tests. Nothing here may block.
pub trait Handlers: Send {
    fn ask(&mut self, ask: Box<Ask>);
    fn notify(&mut self, session: SessionId, domain: Arc<str>, notification: Box<Notification>);
    /// The session is over: its instance goes when its queue is empty.
    fn end(&mut self, session: SessionId);
}

/// The way in for API calls and guests' orders: a command, and the switch's answer to it.
#[derive(Clone)]
pub struct Commands {
    inbox: crate::inbox::SwitchInbox,
    next: Arc<AtomicU64>,
    pending: Pending,
    live: Arc<Mutex<HashMap<SessionId, Live>>>,
}

type Pending = Arc<Mutex<HashMap<CommandId, oneshot::Sender<CommandResult>>>>;

impl Commands {
    pub fn new(inbox: crate::inbox::SwitchInbox) -> Commands {
        Commands { inbox, next: Arc::default(), pending: Pending::default(), live: Arc::default() }
    }

    /// What the switch says to it. `Unavailable` when the node is too busy, or ends.
    pub async fn order(&self, domain: &str, command: Command) -> CommandResult {
        let (reply, answer) = oneshot::channel();
        let id = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.len() >= limits::PENDING_COMMANDS {
                return Err(CommandError::Unavailable("too many commands are waiting"));
            }
            pending.insert(id, reply);
        }
        let _forget = Forget { pending: &self.pending, id };
        self.inbox.send(Input::Command { id, domain: domain.into(), command });
        answer.await.unwrap_or(Err(CommandError::Unavailable("the node is stopping")))
    }

    /// What the switch answered. `pub(crate)`, so that tests may stand in for it.
    pub(crate) fn reply(&self, id: CommandId, result: CommandResult) {
        let waiting = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(waiting) = waiting {
            // Nobody waits any more: the API call was given up.
            let _ = waiting.send(result);
        }
    }

    /// Calls that are up, newest first: of a tenant, or all.
    pub fn sessions(&self, domain: Option<&str>, limit: usize) -> Vec<Live> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Live> = live.values().filter(|live| domain.is_none_or(|domain| live.domain == domain)).cloned().collect();
        drop(live);
        found.sort_by(|a, b| b.started_at.cmp(&a.started_at).then_with(|| a.session_id.cmp(&b.session_id)));
        found.truncate(limit);
        found
    }

    /// Whose session this is, if it is up.
    pub fn domain_of(&self, session_id: &str) -> Option<String> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().find(|live| live.session_id == session_id).map(|live| live.domain.clone())
    }

    fn begun(&self, session: SessionId, call: Live) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(session, call);
    }

    fn ended(&self, session: SessionId) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    fn give_up(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Frees the place of a command whose caller gave up waiting; one that was answered has left it already.
struct Forget<'a> {
    pending: &'a Pending,
    id: CommandId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// How far the end of the node is. Grows only.
#[derive(Default)]
pub struct Ending(AtomicU8);

impl Ending {
    const RELEASE: u8 = 1;
    const END: u8 = 2;

    /// All calls are released now.
    pub fn release(&self) {
        self.0.fetch_max(Ending::RELEASE, Ordering::SeqCst);
    }
    /// The thread ends when it has nothing to do.
    pub fn end(&self) {
        self.0.fetch_max(Ending::END, Ordering::SeqCst);
    }
    fn stage(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A SIP socket and what waits to be sent from it.
pub struct SipSocket {
    pub socket: UdpSocket,
    pub local: SocketAddr,
    out: Vec<(SocketAddr, Bytes)>,
}

impl SipSocket {
    pub fn bind(address: SocketAddr) -> std::io::Result<SipSocket> {
        let socket = udp::bind(address, limits::SIP_SOCKET_BUFFER)?;
        let local = socket.local_addr()?;
        Ok(SipSocket { socket, local, out: Vec::new() })
    }
}

pub struct SwitchThread<H> {
    pub switch: Switch,
    pub sockets: Vec<SipSocket>,
    pub tcp: Tcp,
    pub resolver: Resolver,
    pub inbox: crate::inbox::Inputs,
    pub wake: Arc<Wake>,
    pub media: Media,
    pub prompts: Prompts,
    pub recorder: Recorder,
    pub handlers: H,
    pub store: Store,
    pub commands: Commands,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub ending: Arc<Ending>,
}

/// What the thread needs beside its parts.
#[derive(Default)]
struct Work {
    /// Inputs that outputs gave rise to.
    again: VecDeque<Input>,
    log: LogLimit,
    turn: usize,
    gauges_at: Time,
    sent: u64,
    released: bool,
    load: Load,
}

/// What the thread took since it was last looked at.
#[derive(Default)]
struct Load {
    since: Time,
    then: Duration,
    stage: Stage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Light,
    Busy,
    Crowded,
}

impl Load {
    /// Chooses the priority by the load, once in a window; that of real-time threads ends as soon as the load does not allow it any more.
    fn weigh(&mut self, now: Time) {
        let window = now.since(self.since);
        if window < LOAD_WINDOW && self.stage != Stage::Light {
            return;
        }
        let time = thread_time();
        let took = time.saturating_sub(self.then);
        if window < LOAD_WINDOW {
            if took > BUSY {
                self.change(Stage::Busy);
            }
            return;
        }
        // A window that a sleep has lengthened counts as that much longer.
        let took = took.mul_f64(LOAD_WINDOW.as_secs_f64() / window.as_secs_f64());
        (self.since, self.then) = (now, time);
        self.change(self.stage.at(took));
    }

    fn change(&mut self, stage: Stage) {
        if stage != self.stage {
            self.stage = stage;
            // Refused, it runs as others do.
            let _ = set_priority(match stage {
                Stage::Light => Priority::Prompt,
                Stage::Busy => Priority::PromptBusy,
                Stage::Crowded => Priority::PromptCrowded,
            });
        }
    }
}

impl Stage {
    /// The next one, where a window took so much.
    fn at(self, took: Duration) -> Stage {
        let crowded = if self == Stage::Crowded { AT_EASE } else { CROWDED };
        let busy = if self == Stage::Light { BUSY } else { LIGHT };
        match took {
            took if took > crowded => Stage::Crowded,
            took if took > busy => Stage::Busy,
            _ => Stage::Light,
        }
    }
}

/// So many lines a second; those beyond are counted.
#[derive(Default)]
pub(crate) struct LogLimit {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether another line may be written, and how many were not in the second before.
    fn allows(&mut self, now: Time) -> (bool, u64) {
        let second = now.0 / 1_000_000_000;
        let mut missed = 0;
        if second != self.second {
            missed = std::mem::take(&mut self.suppressed);
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        let allowed = self.lines <= LOG_LINES;
        if !allowed {
            self.suppressed += 1;
        }
        (allowed, missed)
    }

    /// Whether another line may be written; says first how many were not.
    pub(crate) fn another(&mut self, now: Time) -> bool {
        let (allowed, missed) = self.allows(now);
        if missed > 0 {
            tracing::warn!(missed, "lines were not logged: too many in a second");
        }
        allowed
    }
}

impl<H: Handlers> SwitchThread<H> {
    pub fn run(mut self) {
        // Refused, it runs as others do.
        let _ = set_priority(Priority::Prompt);
        let mut work = Work::default();
        let mut datagrams = Receiver::new(limits::SIP_BATCH, SIP_DATAGRAM_BYTES);
        let fds: Vec<RawFd> = self.sockets.iter().map(|s| s.socket.as_raw_fd()).collect();
        let mut ready = vec![true; fds.len()];
        loop {
            // Queues first: a configuration that was sent before a call came in counts for it.
            let mut busy = self.read_queues(&mut work);
            busy |= self.read_sockets(&mut datagrams, &ready, &mut work);
            let now = self.clock.now();
            if self.switch.next_timeout().is_some_and(|at| at <= now) {
                self.handle(Input::Tick, &mut work);
            }
            self.flush(&mut work);
            let now = self.clock.now();
            work.load.weigh(now);
            if now.since(work.gauges_at) >= GAUGES_EVERY || !busy {
                work.gauges_at = now;
                self.metrics.set_switch(&self.switch.gauges());
            }
            if self.ending.stage() >= Ending::RELEASE && !work.released {
                work.released = true;
                self.handle(Input::Release, &mut work);
                continue;
            }
            if busy {
                ready.fill(true);
                continue;
            }
            if self.ending.stage() >= Ending::END {
                break;
            }
            let timeout = self.switch.next_timeout().map(|at| at.since(now));
            let (inbox, media) = (&self.inbox, &self.media);
            let mut early = None;
            let (wake, early_ref) = (self.wake.clone(), &mut early);
            wake.sleep(&fds, &mut ready, timeout, || {
                // The channel has no look without taking: what it gives is handled after the sleep, which then does not happen.
                *early_ref = inbox.try_recv().ok();
                early_ref.is_none() && media.quiet()
            });
            if let Some(input) = early {
                self.take(input, &mut work);
            }
        }
        self.commands.give_up();
    }

    fn read_sockets(&mut self, datagrams: &mut Receiver, ready: &[bool], work: &mut Work) -> bool {
        let mut busy = false;
        for index in 0..self.sockets.len() {
            if !ready.get(index).copied().unwrap_or(true) {
                continue;
            }
            let n = datagrams.receive(&self.sockets[index].socket);
            if n == 0 {
                continue;
            }
            busy = true;
            add(&self.metrics.sip_received, n as u64);
            let wall = self.clock.wall();
            let local = self.sockets[index].local;
            for i in 0..n {
                let Some(datagram) = datagrams.get(i) else { continue };
                let flow = Flow { transport: Transport::Udp, local, peer: datagram.from };
                let bytes = Bytes::copy_from_slice(datagram.bytes);
                self.handle(Input::Sip { flow, bytes, wall }, work);
            }
            self.flush(work);
        }
        busy
    }

    fn read_queues(&mut self, work: &mut Work) -> bool {
        let mut left = limits::INBOX_BATCH;
        while left > 0
            && let Some(event) = self.media.event(&mut work.turn)
        {
            left -= 1;
            self.handle(Input::Media(event), work);
        }
        let mut all = limits::INBOX_BATCH;
        while all > 0
            && let Ok(input) = self.inbox.try_recv()
        {
            all -= 1;
            self.take(input, work);
        }
        let mut prepared = Vec::new();
        self.prompts.answer(self.clock.now(), |input| prepared.push(input));
        let busy = left + all < 2 * limits::INBOX_BATCH || !prepared.is_empty();
        for input in prepared {
            self.handle(input, work);
        }
        busy
    }

    /// What another thread has put into the inbox.
    fn take(&mut self, input: Input, work: &mut Work) {
        if matches!(input, Input::Sip { .. }) {
            // Datagrams do not come this way.
            self.tcp.taken();
        }
        self.handle(input, work);
    }

    /// One mutation, then everything that follows from it.
    fn handle(&mut self, input: Input, work: &mut Work) {
        work.again.push_back(input);
        while let Some(input) = work.again.pop_front() {
            self.switch.handle(self.clock.now(), input);
            while let Some(output) = self.switch.poll() {
                self.carry_out(output, work);
            }
        }
    }

    fn carry_out(&mut self, output: Output, work: &mut Work) {
        match output {
            Output::Transmit { flow, bytes } if flow.transport == Transport::Tcp => {
                if !self.tcp.send(flow, bytes) {
                    add(&self.metrics.tcp_unsent, 1);
                    work.again.push_back(Input::FlowFailed { flow });
                }
            }
            Output::Transmit { flow, bytes } => {
                work.sent += 1;
                if let Some(socket) = self.sockets.iter_mut().find(|s| s.local == flow.local) {
                    socket.out.push((flow.peer, bytes));
                    if socket.out.len() >= limits::SIP_BATCH {
                        send(socket, &self.metrics);
                    }
                }
            }
            Output::Media { session, command } => {
                if let Err(leg) = self.media.send(session, command) {
                    work.again.push_back(Input::MediaRefused { leg });
                }
            }
            Output::Begun { session, begun } => {
                let live = Live {
                    session_id: begun.session_id,
                    domain: begun.domain.to_string(),
                    participant_id: begun.participant_id,
                    caller: begun.caller,
                    called: begun.called,
                    started_at: self.clock.wall().0,
                };
                self.commands.begun(session, live);
            }
            Output::Ask(ask) => self.handlers.ask(ask),
            Output::Prepare(prepare) => work.again.extend(self.prompts.prepare(self.clock.now(), *prepare)),
            Output::Notify { session, domain, notification } => self.handlers.notify(session, domain, notification),
            Output::StartRecording(start) => {
                self.store.keep_terms(&start);
                self.recorder.begin(start);
            }
            Output::DropRecording { recording } => self.recorder.forget(recording),
            Output::Resolve(resolve) => work.again.extend(self.resolver.resolve(*resolve)),
            Output::Reply { id, result } => self.commands.reply(id, result),
            Output::EndGuest { session } => {
                self.commands.ended(session);
                self.handlers.end(session);
            }
            Output::Completed(record) => {
                add(&self.metrics.rtp_lost, record.media.lost);
                add(&self.metrics.rtp_late, record.media.late);
                add(&self.metrics.rtp_foreign, record.media.foreign);
                add(&self.metrics.rtp_malformed, record.media.malformed);
                if record.media.foreign + record.media.malformed > 0 {
                    self.say_bad_rtp(&record, work);
                }
                self.store.save_call(CallRow::from(&*record));
            }
            Output::Log { level, session, text } => {
                let allowed = work.log.another(self.clock.now());
                let session = session.as_deref();
                match level {
                    _ if !allowed => {}
                    Level::Info => tracing::info!(session, "{text}"),
                    Level::Warn => tracing::warn!(session, "{text}"),
                }
            }
            Output::Count(counter) => self.metrics.count(counter),
        }
    }

    /// One line a call, whatever came: packets that somebody else sent it, or that are none.
    fn say_bad_rtp(&self, record: &CallRecord, work: &mut Work) {
        if work.log.another(self.clock.now()) {
            let (foreign, malformed) = (record.media.foreign, record.media.malformed);
            tracing::warn!(session = record.session_id, domain = %record.domain, foreign, malformed, "RTP packets of this call were not used");
        }
    }

    fn flush(&mut self, work: &mut Work) {
        for socket in &mut self.sockets {
            if !socket.out.is_empty() {
                send(socket, &self.metrics);
            }
        }
        add(&self.metrics.sip_sent, std::mem::take(&mut work.sent));
        self.media.wake();
    }
}

fn send(socket: &mut SipSocket, metrics: &Metrics) {
    let failed = udp::send_all(&socket.socket, &mut socket.out);
    if failed > 0 {
        add(&metrics.sip_unsent, failed as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let mut limit = LogLimit::default();
        let written = (0..500).filter(|_| limit.allows(Time::from_millis(1500)).0).count();
        assert_eq!(written, LOG_LINES as usize);
        assert_eq!(limit.allows(Time::from_millis(2000)), (true, 500 - u64::from(LOG_LINES)));
        assert_eq!(limit.allows(Time::from_millis(2001)), (true, 0));
    }

    #[test]
    fn what_signalling_takes_decides_its_priority_and_a_little_more_or_less_does_not() {
        let mut stage = Stage::Light;
        let mut after = |ms| {
            stage = stage.at(Duration::from_millis(ms));
            stage
        };
        for (took, expected) in [
            (12, Stage::Light),
            (13, Stage::Busy),
            (9, Stage::Busy),
            (8, Stage::Light),
            (76, Stage::Crowded),
            (41, Stage::Crowded),
            (40, Stage::Busy),
            (75, Stage::Busy),
            (76, Stage::Crowded),
            (1, Stage::Light),
        ] {
            assert!(after(took) == expected, "{took} ms");
        }
    }
}
