//! One task for each live session: its mailbox, its instance, its version. Tasks of a session never move between threads, its hooks
//! run one after the other, and none of this is ever awaited by the switch.
//!
//! A session gets a version of its tenant's deployment at its first question and keeps it. A trap, deadline or nonsense costs the instance;
//! the next question makes a fresh one of the same version and says so (`restarted`), unless too many of that version broke (`health.rs`).

use super::deployment::{Deployment, Judged, Version};
use super::explain::{Asked, Began, Explains, Question, Ran, Said};
use super::fair::{self, Knock, Turns};
use super::health::{Judgement, Pass, Turn};
use super::orders::{Desk, Services};
use super::tenants::{Follower, InstanceOf, LogLine, Rate, Stats, Tenant, Tenants};
use super::vault::Told;
use super::{from_wit, limits, to_wit};
use crate::deliver::Links;
use crate::inbox::SwitchInbox;
use crate::net::{Priority, set_priority};
use crate::outbox::{Delivery, News, Post};
use crate::reply_keys::ReplyKeys;
use crate::store::{Quotas, Settings, wall_ms};
use hookswitch_call::alarm::QUOTA;
use hookswitch_call::hook::{Alarm, AlarmKind, Hook, HookFailure, Notification, SessionInfo, Verdict};
use hookswitch_call::recording::Phase;
use hookswitch_call::{Ask, AskId, Input, SessionId};
use hookswitch_proto::random::Random;
use hookswitch_wasm::{Cost, Engine, Failure, Instance, NO_TURN, NoAnswer, Setup, wit};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// How the room is set up.
#[derive(Clone, Debug)]
pub struct Options {
    pub threads: usize,
    /// Live instances, at most what the engine's pool has room for.
    pub instances: usize,
    /// CPU time of one hook.
    pub cpu: Duration,
    /// Of the guest threads.
    pub priority: Priority,
    /// What replyIds are signed with.
    pub reply_keys: Arc<ReplyKeys>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            threads: 1,
            instances: hookswitch_wasm::limits::INSTANCES as usize,
            cpu: hookswitch_wasm::limits::HOOK_CPU,
            priority: Priority::Guest,
            reply_keys: Arc::new(ReplyKeys::in_memory().expect("the kernel has random numbers")),
        }
    }
}

/// The room's door. Clones lead to the same room; when the last one goes, what waits in mailboxes is worked off within
/// `limits::CLOSING`, and the threads have ended.
#[derive(Clone)]
pub struct Guests {
    threads: Arc<Threads>,
    room: Arc<Room>,
}

struct Threads {
    senders: Vec<Sender>,
    handles: Vec<JoinHandle<()>>,
}

struct Sender {
    messages: mpsc::Sender<Message>,
    /// Ends that found no room among the messages: at most one for each session, and none may be lost, since it frees an instance.
    ends: mpsc::UnboundedSender<SessionId>,
    turns: Arc<Turns>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.senders.clear();
        for handle in self.handles.drain(..) {
            // A guest thread that panicked has said so already.
            let _ = handle.join();
        }
    }
}

/// What the threads share.
struct Room {
    engine: Arc<Engine>,
    options: Options,
    switch: SwitchInbox,
    services: Services,
    settings: RwLock<BTreeMap<String, Arc<Settings>>>,
    deployed: RwLock<BTreeMap<Arc<str>, Deployment>>,
    /// Who hears of trials that are over.
    judge: OnceLock<std::sync::mpsc::Sender<Judged>>,
    started: Instant,
    tenants: Tenants,
    explains: Arc<Explains>,
    /// Taken before an instance is made, so that a full node is said by name and not by the pool.
    places: Arc<Semaphore>,
    random: Mutex<Random>,
}

enum Message {
    Ask { ask: Box<Ask>, until: Instant, knock: Knock },
    Notify { session: SessionId, domain: Arc<str>, notification: Box<Notification>, knock: Knock },
    Delivery { session: SessionId, delivery: Delivery },
    End(SessionId),
}

impl Guests {
    /// Start the room's threads.
    pub fn start(engine: Arc<Engine>, options: Options, switch: SwitchInbox, services: Services) -> Guests {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let room = Arc::new(Room {
            engine,
            places: Arc::new(Semaphore::new(options.instances.min(Semaphore::MAX_PERMITS))),
            switch,
            services,
            settings: RwLock::default(),
            deployed: RwLock::default(),
            judge: OnceLock::new(),
            started: Instant::now(),
            tenants: Tenants::default(),
            explains: Arc::new(Explains::new()),
            random: Mutex::new(Random::new(seed)),
            options,
        });
        let (senders, handles) = (0..room.options.threads.max(1))
            .map(|n| {
                let (messages, inbox) = mpsc::channel(limits::THREAD_QUEUE);
                let (ends, late_ends) = mpsc::unbounded_channel();
                let turns = Turns::new(room.options.threads);
                let (room, of_thread) = (room.clone(), turns.clone());
                let thread = std::thread::Builder::new()
                    .name(format!("guest-{n}"))
                    .spawn(move || serve(&room, of_thread, inbox, late_ends))
                    .expect("a process that starts can start its threads");
                (Sender { messages, ends, turns }, thread)
            })
            .unzip();
        Guests { threads: Arc::new(Threads { senders, handles }), room }
    }

    fn thread(&self, session: SessionId) -> &Sender {
        &self.threads.senders[session.slot as usize % self.threads.senders.len()]
    }

    /// Ask a session's handler. Never blocks; the answer is one `Input::Verdict`, whatever happens.
    pub fn ask(&self, ask: Box<Ask>) {
        let until = Instant::now() + ask.deadline;
        let thread = self.thread(ask.id.session);
        let (knock, gives_way) = thread.turns.knock(&ask.domain);
        match thread.messages.try_send(Message::Ask { ask, until, knock }) {
            // Who has had more than this one gives way at once, and not only when its millisecond is over.
            Ok(()) if gives_way => self.room.engine.interrupt(),
            Ok(()) => {}
            Err(refused) => {
                if let Message::Ask { ask, .. } = refused.into_inner() {
                    self.room.refuse(&ask, "the guest threads have too much to do");
                }
            }
        }
    }

    /// Tell a session's handler news. Never blocks; what finds no room is dropped and counted.
    pub fn notify(&self, session: SessionId, domain: Arc<str>, notification: Notification) {
        let thread = self.thread(session);
        // The call's next question waits behind it.
        let (knock, gives_way) = thread.turns.knock(&domain);
        match thread.messages.try_send(Message::Notify { session, domain, notification: Box::new(notification), knock }) {
            Ok(()) if gives_way => self.room.engine.interrupt(),
            Ok(()) => {}
            Err(refused) => {
                if let Message::Notify { domain, notification, .. } = refused.into_inner() {
                    let tenant = self.room.tenants.of(&domain);
                    tenant.notification_dropped(&notification.info().session_id, "the guest threads have too much to do");
                }
            }
        }
    }

    /// What the outbox tells. It does not keep the room open.
    pub fn news(&self) -> Box<dyn News> {
        Box::new(RoomNews { threads: Arc::downgrade(&self.threads), room: Arc::downgrade(&self.room) })
    }

    /// The session is over: its instance goes once what waits for it is done.
    pub fn end(&self, session: SessionId) {
        let thread = self.thread(session);
        if thread.messages.try_send(Message::End(session)).is_err() {
            // Fails only after the thread has ended, and all sessions with it.
            let _ = thread.ends.send(session);
        }
    }

    /// All new sessions of this tenant get this version from now on, or none.
    pub fn set_active(&self, domain: &str, version: Option<Arc<Version>>) {
        self.deploy(domain, |deployment| *deployment = Deployment { active: version, canary: None });
    }

    /// Changes what new sessions of this tenant get. Nothing here blocks: versions are loaded before.
    pub fn deploy(&self, domain: &str, change: impl FnOnce(&mut Deployment)) {
        let mut deployed = self.room.deployed.write().unwrap_or_else(PoisonError::into_inner);
        let deployment = deployed.entry(Arc::from(domain)).or_default();
        change(deployment);
        if deployment.active.is_none() && deployment.canary.is_none() {
            deployed.remove(domain);
        }
    }

    /// What new sessions of this tenant get.
    pub fn deployed(&self, domain: &str) -> Deployment {
        self.room.deployed.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned().unwrap_or_default()
    }

    /// Where trials that are over are told, once for each version that was given to calls. The first one given counts.
    pub fn judge(&self, judge: std::sync::mpsc::Sender<Judged>) {
        let _ = self.room.judge.set(judge);
    }

    /// A version was taken back: the tenant's log says so, and as an alarm the handler that calls have now.
    pub fn taken_back(&self, domain: &str, why: &str) {
        let domain: Arc<str> = domain.into();
        let tenant = self.room.tenants.of(&domain);
        tenant.version_taken_back();
        tenant.say(why);
        self.alarm(None, &domain, "", "version taken back", why);
    }

    /// A line of the node's own in the tenant's log.
    pub fn say(&self, domain: &str, text: &str) {
        self.room.tenants.of(&domain.into()).say(text);
    }

    /// How long a version has been kept from calls after failing too often, if it is now.
    pub fn rests(&self, version: &Version) -> Option<Duration> {
        version.health().rests(self.room.started.elapsed())
    }

    /// `session`: none, or one that is over: a fresh instance hears it.
    fn alarm(&self, session: Option<SessionId>, domain: &Arc<str>, session_id: &str, error: &str, why: &str) {
        let info = SessionInfo { session_id: session_id.to_owned(), domain: domain.to_string(), ..SessionInfo::default() };
        let alarm = Alarm { info, kind: AlarmKind::SessionError, error: error.to_owned(), details: Some(why.to_owned()), leg: None };
        // Sessions count their generations up from one: this is nobody's id.
        let nobody = SessionId { slot: uuid::Uuid::new_v4().as_u64_pair().0 as u32, generation: 0 };
        self.notify(session.unwrap_or(nobody), domain.clone(), Notification::Alarm(alarm));
    }

    /// All tenants' settings. Sessions that live keep what they have.
    pub fn set_settings(&self, all: BTreeMap<String, Settings>) {
        let all = all.into_iter().map(|(domain, settings)| (domain, Arc::new(settings))).collect();
        *self.room.settings.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// What a tenant's log has, and what comes. `None`: as many follow it as may.
    pub fn follow(&self, domain: &str) -> Option<Follower> {
        self.room.tenants.of(&Arc::from(domain)).follow()
    }

    /// A line of the node's own in a tenant's log.
    pub fn complain(&self, domain: &str, text: &str) {
        self.room.tenants.of(&Arc::from(domain)).complain("", text);
    }

    /// The last lines of a tenant's log, oldest first.
    pub fn log(&self, domain: &str) -> Vec<LogLine> {
        self.room.tenants.known(domain).map_or_else(Vec::new, |t| t.lines())
    }

    /// What tenants may use from now on.
    pub fn configure(&self, quotas: BTreeMap<String, Quotas>) {
        self.room.tenants.configure(quotas);
    }

    /// Why a session went as it did, as JSON: of this tenant, or of any. `None`: it is not kept, or not theirs.
    pub fn explain(&self, domain: Option<&str>, session_id: &str) -> Option<serde_json::Value> {
        self.room.explains.of(domain, session_id)
    }

    /// Sessions of this tenant that begin within that time are explained with the digits that callers press. Zero: no more.
    pub fn keep_digits(&self, domain: &str, time: Duration) {
        self.room.explains.keep_digits(domain, time);
    }

    /// Counters of all tenants that had a session.
    pub fn stats(&self) -> Vec<(Arc<str>, Stats)> {
        self.room.tenants.all()
    }

    /// Instances that live now.
    pub fn live(&self) -> usize {
        self.room.options.instances.saturating_sub(self.room.places.available_permits())
    }
}

/// The outbox's way to handlers.
struct RoomNews {
    threads: Weak<Threads>,
    room: Weak<Room>,
}

impl RoomNews {
    fn guests(&self) -> Option<Guests> {
        Some(Guests { threads: self.threads.upgrade()?, room: self.room.upgrade()? })
    }
}

impl News for RoomNews {
    fn delivery(&self, session: SessionId, domain: &Arc<str>, delivery: Delivery) {
        let Some(guests) = self.guests() else { return };
        if guests.thread(session).messages.try_send(Message::Delivery { session, delivery }).is_err() {
            guests.room.tenants.of(domain).notification_dropped("", "the guest threads have too much to do");
        }
    }

    fn given_up(&self, session: Option<SessionId>, domain: &Arc<str>, session_id: &str, why: &str) {
        let Some(guests) = self.guests() else { return };
        guests.room.tenants.of(domain).complain(session_id, why);
        guests.alarm(session, domain, session_id, "post given up", why);
    }
}

impl Room {
    /// The version for a session that has none yet. `called`: the number, where it begins with a call to one.
    fn choose(&self, domain: &str, session_id: &str, called: Option<&str>) -> Option<Arc<Version>> {
        self.deployed.read().unwrap_or_else(PoisonError::into_inner).get(domain)?.choose(session_id, called)
    }

    fn judged(&self, version: &Version, judgement: Option<Judgement>) {
        if let (Some(judgement), Some(judge)) = (judgement, self.judge.get()) {
            // Nobody listens any more: the node stops.
            let _ = judge.send(Judged { domain: version.domain.clone(), number: version.number, judgement });
        }
    }

    fn settings(&self, domain: &str) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned().unwrap_or_default()
    }

    /// Answer a question that no instance will see.
    fn refuse(&self, ask: &Ask, why: &str) {
        let failure = HookFailure::Unavailable { why: why.to_owned() };
        let session_id = &ask.hook.info().session_id;
        self.tenants.of(&ask.domain).answered(session_id, ask.hook.name(), 0, Duration::ZERO, Err(&failure));
        self.explains.open(&ask.domain, session_id, None);
        let (began, outcome) = (self.explains.begin(std::time::Instant::now()), Err(&failure));
        let asked = Asked { ran: began.over(), hook: name_of(&ask.hook), question: None, said: None, outcome, cost: None, told: None };
        self.explains.asked(&ask.domain, session_id, &asked);
        self.switch.send(Input::Verdict { ask: ask.id, verdict: Err(failure) });
    }

    fn with_random<T>(&self, f: impl FnOnce(&mut Random) -> T) -> T {
        f(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The number that was called, where this begins a call to one.
fn called(hook: &Hook) -> Option<&str> {
    match hook {
        Hook::NewCall(call) => Some(&call.called_party),
        Hook::GetCallIdentifier(request) => Some(&request.called_party),
        Hook::GetIvrCommand(_) | Hook::CallEvent(_) | Hook::NewRemoteCall(_) => None,
    }
}

// ------------------------------------------------------------------------------------------------------------------ a guest thread

/// A guest thread: gives each message to its session's task.
fn serve(room: &Arc<Room>, turns: Arc<Turns>, mut inbox: mpsc::Receiver<Message>, mut ends: mpsc::UnboundedReceiver<SessionId>) {
    // Refused, it runs as others do.
    let _ = set_priority(room.options.priority);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        // Look for new messages and due deadlines after so many tasks: a guest that loops holds the thread for a millisecond each time.
        .event_interval(4)
        .global_queue_interval(4)
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    runtime.block_on(async {
        let (alive, mut all_gone) = mpsc::channel(1);
        tokio::spawn(turns.clone().give());
        let mut sessions = Sessions {
            room: room.clone(),
            turns,
            map: HashMap::new(),
            closing: VecDeque::new(),
            late: HashMap::new(),
            late_order: VecDeque::new(),
            late_versions: HashMap::new(),
            over: HashMap::new(),
            alive,
        };
        loop {
            // Messages first: what was sent before an end is handled before it.
            let message = tokio::select! {
                biased;
                message = inbox.recv() => message,
                Some(session) = ends.recv() => Some(Message::End(session)),
            };
            let Some(message) = message else { break };
            sessions.handle(message);
        }
        // Without mailboxes to wait for, each task ends with what it has.
        drop(sessions);
        if tokio::time::timeout(limits::CLOSING, all_gone.recv()).await.is_err() {
            tracing::warn!("guest thread closes although handlers still run");
        }
    });
}

struct Sessions {
    room: Arc<Room>,
    turns: Arc<Turns>,
    map: HashMap<SessionId, Live>,
    /// Of these, those that were told to end, oldest first: their tasks go when they have done what waited.
    closing: VecDeque<SessionId>,
    /// The versions of sessions that are over: late notifications go to a fresh instance of the same.
    late: HashMap<SessionId, Weak<Version>>,
    late_order: VecDeque<SessionId>,
    /// Of each tenant those of them that are kept for that, and the session of each that was over last: who pushes a version a second must not
    /// fill the node with the code of all of them.
    late_versions: HashMap<Arc<str>, VecDeque<(Arc<Version>, SessionId)>>,
    /// Of each slot the last generation that is over: news of it, or of one before, is late. Of a later one it is the first word, as of a
    /// call that was placed and rings. One entry for each slot there ever was.
    over: HashMap<u32, u32>,
    /// Each task holds a clone: when the last one is gone, all tasks are.
    alive: mpsc::Sender<()>,
}

/// A session's task, from outside.
struct Live {
    mailbox: mpsc::Sender<Item>,
    /// Its task has something to do.
    busy: Arc<AtomicBool>,
    version: Arc<Version>,
    ending: bool,
}

/// A question, and when its answer is too late.
struct Asking {
    ask: Box<Ask>,
    /// The thread came to it.
    since: std::time::Instant,
    until: Instant,
    /// None where the session's handler has something else to do before.
    knock: Option<Knock>,
}

/// News, and the same of them.
struct Telling {
    notification: Box<Notification>,
    knock: Option<Knock>,
}

/// What waits in a session's mailbox. Small: a mailbox has room for 32 of them from the first one on, in each call.
enum Item {
    Ask(Box<Asking>),
    Notify(Box<Telling>),
    Delivery(Box<Delivery>),
    End,
}

impl Sessions {
    fn handle(&mut self, message: Message) {
        match message {
            Message::Ask { ask, until, knock } => {
                let since = std::time::Instant::now();
                let (mailbox, busy) = match self.map.get(&ask.id.session) {
                    Some(live) => (live.mailbox.clone(), live.busy.swap(true, Ordering::Relaxed)),
                    None => match self.room.choose(&ask.domain, &ask.hook.info().session_id, called(&ask.hook)) {
                        Some(version) => (self.open(ask.id.session, version, false), false),
                        None => return self.room.refuse(&ask, "the tenant has no active version"),
                    },
                };
                let knock = Some(knock).filter(|_| !busy);
                if let Err(refused) = mailbox.try_send(Item::Ask(Box::new(Asking { ask, since, until, knock })))
                    && let Item::Ask(asking) = refused.into_inner()
                {
                    self.room.refuse(&asking.ask, "the session's mailbox is full");
                }
            }
            Message::Notify { session, domain, notification, knock } => self.notify(session, &domain, notification, knock),
            // Only to a session that lives: a later one would not know what was posted.
            Message::Delivery { session, delivery } => {
                if let Some(live) = self.map.get(&session).filter(|live| !live.ending) {
                    let room = live.mailbox.capacity() > limits::MAILBOX_DECISIONS;
                    live.busy.store(true, Ordering::Relaxed);
                    if !room || live.mailbox.try_send(Item::Delivery(Box::new(delivery))).is_err() {
                        tracing::debug!("a delivery was not told: the session's mailbox is full");
                    }
                }
            }
            Message::End(session) => {
                let over = self.over.entry(session.slot).or_default();
                *over = session.generation.max(*over);
                self.end(session);
                self.sweep();
            }
        }
    }

    /// What a recording's options want posted of its states, and what a device's call tells of itself, whether a handler is there or not. In
    /// order: tasks of one thread begin in the order in which they are spawned.
    fn post_news(&self, session: SessionId, domain: &Arc<str>, notification: &Notification) {
        let Some(outbox) = &self.room.services.outbox else { return };
        let transaction = || self.room.with_random(Random::uuid);
        let of_recording = crate::api::dialects::posts(notification).into_iter().map(|news| (news.url, news.body.to_string()));
        let mut news: Vec<(String, String)> = of_recording.collect();
        news.extend(crate::api::dialects::post_of_device(notification, transaction, &self.room.options.reply_keys));
        if news.is_empty() {
            return;
        }
        let (outbox, tenant, domain) = (outbox.clone(), self.room.tenants.of(domain), domain.clone());
        let session_id = notification.info().session_id.clone();
        tokio::spawn(async move {
            for (url, body) in news {
                let post = Post {
                    domain: domain.clone(),
                    session,
                    session_id: session_id.clone(),
                    url,
                    content_type: "application/json".into(),
                    headers: Vec::new(),
                    body: body.into_bytes(),
                    report: false,
                };
                if let Err(error) = outbox.post(post).await {
                    tenant.complain(&session_id, &format!("news could not be posted: {error}"));
                }
            }
        });
    }

    fn notify(&mut self, session: SessionId, domain: &Arc<str>, mut notification: Box<Notification>, knock: Knock) {
        if let Some(links) = &self.room.services.links {
            give_access(&mut notification, domain, links, wall_ms());
        }
        self.post_news(session, domain, &notification);
        // A handler would look for the recording.
        if matches!(&*notification, Notification::RecordingState { status, .. } if status.options.prompts_only) {
            return;
        }
        // Its own URLs hear of it instead (IC-059).
        if crate::api::dialects::is_of_device(&notification) {
            return;
        }
        let tenant = self.room.tenants.of(domain);
        if let Notification::Alarm(alarm) = &*notification
            && alarm.error.starts_with(QUOTA)
        {
            let details = alarm.details.as_ref().map(|details| format!(" ({details})")).unwrap_or_default();
            tenant.complain(&alarm.info.session_id, &format!("{}{details}", alarm.error));
        }
        let (mailbox, busy) = match self.map.get(&session).filter(|live| !live.mailbox.is_closed()) {
            Some(live) => (live.mailbox.clone(), live.busy.swap(true, Ordering::Relaxed)),
            None => match self.late_version(session).or_else(|| self.room.choose(domain, &notification.info().session_id, None)) {
                Some(version) => {
                    let mailbox = self.open(session, version, self.late_version(session).is_some());
                    if session.generation <= self.over.get(&session.slot).copied().unwrap_or(0) {
                        self.end(session);
                    }
                    (mailbox, false)
                }
                None => return tenant.notification_dropped(&notification.info().session_id, "the tenant has no active version"),
            },
        };
        if mailbox.capacity() <= limits::MAILBOX_DECISIONS {
            return tenant.notification_dropped(&notification.info().session_id, "the session's mailbox is full");
        }
        let knock = Some(knock).filter(|_| !busy);
        if let Err(refused) = mailbox.try_send(Item::Notify(Box::new(Telling { notification, knock })))
            && let Item::Notify(telling) = refused.into_inner()
        {
            tenant.notification_dropped(&telling.notification.info().session_id, "the session's task is gone");
        }
    }

    /// `served`: another task of this session had an instance.
    fn open(&mut self, session: SessionId, version: Arc<Version>, served: bool) -> mpsc::Sender<Item> {
        let (sender, mailbox) = mpsc::channel(limits::MAILBOX + limits::MAILBOX_DECISIONS);
        let tenant = self.room.tenants.of(&version.domain);
        let busy = Arc::new(AtomicBool::new(true));
        let session_task = Session {
            room: self.room.clone(),
            busy: busy.clone(),
            turns: self.turns.clone(),
            id: session,
            tenant,
            version: version.clone(),
            guest: None,
            served,
            begun: served,
            failed: served,
            kept_out: false,
            ended: false,
            transaction: None,
            info: SessionInfo::default(),
            rate: Arc::new(Mutex::new(Rate::new(limits::ORDERS_PER_SECOND))),
            settings: self.room.settings(&version.domain),
            told: Told::default(),
            log_left: Arc::new(AtomicUsize::new(hookswitch_wasm::limits::LOG_BYTES)),
            asked: None,
            cost: Arc::default(),
        };
        let alive = self.alive.clone();
        tokio::spawn(async move {
            session_task.run(mailbox).await;
            drop(alive);
        });
        self.map.insert(session, Live { mailbox: sender.clone(), busy, version, ending: false });
        sender
    }

    /// Its task ends when it has done what waits.
    fn end(&mut self, session: SessionId) {
        let Some(live) = self.map.get_mut(&session).filter(|live| !live.ending) else { return };
        live.ending = true;
        // Full: without its sender the task works off what there is and ends.
        if live.mailbox.try_send(Item::End).is_err() {
            if let Some(live) = self.map.remove(&session) {
                self.remember(session, live.version);
            }
        } else {
            self.closing.push_back(session);
        }
    }

    /// Of one that is over. One that has not asked yet, or that was forgotten, has none: whoever answers now is told.
    fn late_version(&self, session: SessionId) -> Option<Arc<Version>> {
        let late = self.late.get(&session).and_then(Weak::upgrade);
        late.or_else(|| self.map.get(&session).map(|live| live.version.clone()))
    }

    /// Of tasks that have gone nothing is kept but the version: a mailbox is some kilobytes, and thousands of calls end a minute.
    fn sweep(&mut self) {
        while let Some(session) = self.closing.front().copied() {
            if self.map.get(&session).is_some_and(|live| !live.mailbox.is_closed()) {
                return;
            }
            self.closing.pop_front();
            if let Some(live) = self.map.remove(&session) {
                self.remember(session, live.version);
            }
        }
    }

    fn remember(&mut self, session: SessionId, version: Arc<Version>) {
        if self.late.insert(session, Arc::downgrade(&version)).is_none() {
            self.late_order.push_back(session);
        }
        let kept = self.late_versions.entry(version.domain.clone()).or_default();
        match kept.iter_mut().find(|(one, _)| Arc::ptr_eq(one, &version)) {
            Some((_, last)) => *last = session,
            None => kept.push_back((version, session)),
        }
        if kept.len() > limits::LATE_VERSIONS {
            kept.pop_front();
        }
        if self.late_order.len() > limits::LATE_SESSIONS
            && let Some(oldest) = self.late_order.pop_front()
            && let Some(version) = self.late.remove(&oldest).and_then(|version| version.upgrade())
            && let Some(kept) = self.late_versions.get_mut(&version.domain)
        {
            kept.retain(|(_, last)| *last != oldest);
            if kept.is_empty() {
                self.late_versions.remove(&version.domain);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------------------ a session

/// A session's task.
struct Session {
    room: Arc<Room>,
    /// Something is, or was, in its mailbox since it last waited.
    busy: Arc<AtomicBool>,
    turns: Arc<Turns>,
    id: SessionId,
    tenant: Arc<Tenant>,
    version: Arc<Version>,
    guest: Option<Guest>,
    /// It had an instance before.
    served: bool,
    /// Counted among the calls of its version, and among those that failed. One that is over is not counted again.
    begun: bool,
    failed: bool,
    /// The last question found the version resting after too many failures.
    kept_out: bool,
    ended: bool,
    /// The last question, if it failed: hook and transaction id. Asked again it keeps the id.
    transaction: Option<(&'static str, String)>,
    /// As the last question said it.
    info: SessionInfo,
    /// Orders that its guests may still give.
    rate: Arc<Mutex<Rate>>,
    /// Its tenant's, as they were when it began.
    settings: Arc<Settings>,
    /// Secrets that its guests know.
    told: Told,
    /// Bytes that its guests may still write to the log.
    log_left: Arc<AtomicUsize>,
    /// The hook that ran last, until it is written down.
    asked: Option<(Question, Option<Said>)>,
    /// What it took.
    cost: Arc<Mutex<Option<Cost>>>,
}

/// A living instance and the place it takes.
struct Guest {
    instance: Instance,
    place: (OwnedSemaphorePermit, InstanceOf),
    pass: Pass,
}

/// Answers for a task that panics: the switch waits for exactly one verdict.
struct Owed<'a> {
    switch: &'a SwitchInbox,
    ask: Option<AskId>,
}

impl Owed<'_> {
    fn pay(mut self, verdict: Result<Verdict, HookFailure>) {
        if let Some(ask) = self.ask.take() {
            self.switch.send(Input::Verdict { ask, verdict });
        }
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(ask) = self.ask.take() {
            let why = "the node failed while it asked".to_owned();
            self.switch.send(Input::Verdict { ask, verdict: Err(HookFailure::Unavailable { why }) });
        }
    }
}

impl Session {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Item>) {
        while let Some(item) = self.next(&mut mailbox).await {
            match item {
                Item::Ask(asking) => {
                    let Asking { ask, since, until, knock } = *asking;
                    // From here to its first piece there is nothing to wait for.
                    drop(knock);
                    let room = self.room.clone();
                    let owed = Owed { switch: &room.switch, ask: Some(ask.id) };
                    let name = ask.hook.name();
                    let session_id = ask.hook.info().session_id.clone();
                    let deadline = ask.deadline;
                    let (began, hook) = (self.begin(&session_id, since), name_of(&ask.hook));
                    // Boxed: what a hook needs while it runs is large, and most of its life a session waits.
                    let verdict = Box::pin(self.ask(ask.hook, until)).await;
                    let waited = deadline.saturating_sub(until.saturating_duration_since(Instant::now()));
                    let ran = began.over();
                    self.tenant.answered(&session_id, name, self.version.number, waited, verdict.as_ref().map(|_| ()));
                    owed.pay(verdict.clone());
                    self.write_down(ran, &session_id, hook, verdict.as_ref().map(Some));
                }
                Item::Notify(telling) => {
                    let Telling { notification, knock } = *telling;
                    drop(knock);
                    Box::pin(self.notify(*notification)).await;
                }
                Item::Delivery(delivery) => Box::pin(self.delivered(*delivery)).await,
                Item::End => self.ended = true,
            }
            if self.ended && mailbox.is_empty() {
                return;
            }
        }
    }

    /// What comes next. A guest that has nothing to do for a while rests: hooks of one call often follow each other closely, and waking
    /// costs some microseconds.
    async fn next(&mut self, mailbox: &mut mpsc::Receiver<Item>) -> Option<Item> {
        if let Ok(item) = mailbox.try_recv() {
            return Some(item);
        }
        self.busy.store(false, Ordering::Relaxed);
        if let Some(guest) = &mut self.guest {
            match tokio::time::timeout(limits::REST_AFTER, mailbox.recv()).await {
                Ok(item) => return item,
                Err(_) => guest.instance.rest(),
            }
        }
        mailbox.recv().await
    }

    async fn ask(&mut self, hook: Hook, until: Instant) -> Result<Verdict, HookFailure> {
        // A question that waited in the queue past its deadline is not put any more. The version is not to blame.
        if Instant::now() >= until {
            return Err(no_turn());
        }
        if !std::mem::replace(&mut self.begun, true) {
            let judgement = self.version.health().call_began();
            self.room.judged(&self.version, judgement);
        }
        self.kept_out = false;
        let verdict = self.put(hook, until).await;
        let failed = self.kept_out || verdict.as_ref().is_err_and(blames_the_version);
        if failed && !std::mem::replace(&mut self.failed, true) {
            let judgement = self.version.health().call_failed();
            self.room.judged(&self.version, judgement);
        }
        verdict
    }

    async fn put(&mut self, mut hook: Hook, until: Instant) -> Result<Verdict, HookFailure> {
        let name = hook.name();
        let transaction = match self.transaction.take() {
            Some((asked, id)) if asked == name => id,
            _ => self.room.with_random(Random::uuid),
        };
        self.transaction = Some((name, transaction.clone()));
        self.info.clone_from(hook.info());
        let (guest, fresh) = self.guest(hook.info(), until, false).await?;
        if fresh && self.served {
            hook.info_mut().restarted = true;
        }
        let Guest { instance, place, pass } = guest;
        let question = question(hook, transaction, &self.room.options.reply_keys);
        let (done, said) = put(instance, &question, until).await;
        self.asked = Some((question, said));
        match done {
            Ok((instance, verdict)) => {
                let verdict = verdict.map_err(|failure| self.covered(failure));
                let asked = !matches!(verdict, Err(HookFailure::Unavailable { .. }));
                if asked {
                    self.answered(pass);
                }
                self.keep(Guest { instance, place, pass }, fresh, asked);
                if verdict.is_ok() {
                    self.transaction = None;
                }
                verdict
            }
            Err(failure) => {
                self.served = true;
                self.broke(pass);
                Err(self.covered(failure))
            }
        }
    }

    /// It lives on. One that was made for a question that was not put to it knows nothing: the next question makes another, and says so again.
    fn keep(&mut self, guest: Guest, fresh: bool, asked: bool) {
        self.served |= asked;
        self.guest = (asked || !fresh).then_some(guest);
    }

    /// Its own words go to logs and alarms: without the secrets that it was told.
    fn covered(&self, failure: HookFailure) -> HookFailure {
        match failure {
            HookFailure::Refused { message } => HookFailure::Refused { message: self.told.hide(&message) },
            HookFailure::Trap { message } => HookFailure::Trap { message: self.told.hide(&message) },
            HookFailure::Nonsense { field, why } => HookFailure::Nonsense { field, why: self.told.hide(&why) },
            other => other,
        }
    }

    fn answered(&self, pass: Pass) {
        let turn = self.version.health().answered(self.room.started.elapsed(), pass);
        self.turned(turn);
    }

    fn broke(&self, pass: Pass) {
        let turn = self.version.health().broke(self.room.started.elapsed(), pass);
        self.turned(turn);
    }

    fn turned(&self, turn: Option<Turn>) {
        let number = self.version.number;
        match turn {
            None => {}
            Some(Turn::Opened { for_ }) => {
                self.tenant.version_rests();
                let seconds = for_.as_secs();
                self.tenant
                    .say(&format!("version {number} fails again and again: calls get the fallback, and it is tried again in {seconds} s"));
            }
            Some(Turn::Closed) => self.tenant.say(&format!("version {number} answers again")),
        }
    }

    /// A hook begins: what it writes comes after it.
    fn begin(&mut self, session_id: &str, since: std::time::Instant) -> Began {
        let version = (self.version.number, self.version.hash.as_str());
        self.room.explains.open(&self.version.domain, session_id, Some(version));
        self.asked = None;
        *self.cost.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.room.explains.begin(since)
    }

    /// For whoever asks later why the session went as it did. After the verdict is out, so that no call waits for it.
    fn write_down(&mut self, ran: Ran, session_id: &str, hook: &'static str, outcome: Result<Option<&Verdict>, &HookFailure>) {
        let asked = self.asked.take();
        let cost = self.cost.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (question, said) = (asked.as_ref().map(|(question, _)| question), asked.as_ref().and_then(|(_, said)| said.as_ref()));
        let asked = Asked { ran, hook, question, said, outcome, cost, told: Some(&self.told) };
        self.room.explains.asked(&self.version.domain, session_id, &asked);
    }

    async fn notify(&mut self, mut notification: Notification) {
        let info = notification.info().clone();
        let keys = self.room.options.reply_keys.clone();
        self.tell(info, |restarted, transaction| {
            notification.info_mut().restarted |= restarted;
            to_wit::notification(notification, transaction, &keys)
        })
        .await;
    }

    async fn delivered(&mut self, delivery: Delivery) {
        let mut info = self.info.clone();
        self.tell(info.clone(), |restarted, transaction| {
            info.restarted |= restarted;
            to_wit::delivery(info, delivery, transaction)
        })
        .await;
    }

    /// Tell its guest news, made of whether the instance is a fresh one and of a transaction id.
    async fn tell(&mut self, info: SessionInfo, news: impl FnOnce(bool, String) -> wit::Notification) {
        if !self.version.module.takes_notifications() {
            return;
        }
        let until = Instant::now() + limits::NOTIFY_DEADLINE;
        let began = self.begin(&info.session_id, std::time::Instant::now());
        let told = match self.guest(&info, until, true).await {
            Ok((guest, fresh)) => {
                let restarted = fresh && self.served;
                let news = news(restarted, self.room.with_random(Random::uuid));
                let Guest { instance, place, pass } = guest;
                let told = instance.notify(&news, until).await;
                self.asked = Some((Question::Notify(news), None));
                match told {
                    Ok((instance, told)) => {
                        self.keep(Guest { instance, place, pass }, fresh, told.is_ok());
                        told.map_err(unanswered)
                    }
                    Err(f) => {
                        self.served = true;
                        Err(self.covered(failure(f)))
                    }
                }
            }
            Err(failure) => Err(failure),
        };
        self.write_down(began.over(), &info.session_id, "notify", told.as_ref().map(|()| None));
        match told {
            Ok(()) => self.tenant.notified(),
            Err(failure) => self.tenant.notification_dropped(&info.session_id, &format!("{failure:?}")),
        }
    }

    /// The session's instance, or a fresh one. `news`: it is asked nothing.
    async fn guest(&mut self, info: &SessionInfo, until: Instant, news: bool) -> Result<(Guest, bool), HookFailure> {
        if let Some(guest) = self.guest.take() {
            return Ok((guest, false));
        }
        let of_tenant = match self.tenant.place() {
            Ok(place) => place,
            Err(most) => return Err(HookFailure::Unavailable { why: format!("quota exceeded: instances: all {most} are in use") }),
        };
        let Ok(of_node) = self.room.places.clone().try_acquire_owned() else {
            return Err(HookFailure::Unavailable { why: format!("all {} instances are in use", self.room.options.instances) });
        };
        let now = self.room.started.elapsed();
        let pass = {
            let mut health = self.version.health();
            if news { health.instance_for_news().ok_or(health.rests(now).unwrap_or_default()) } else { health.instance(now) }
        };
        let pass = match pass {
            Ok(pass) => pass,
            Err(left) => {
                self.kept_out = true;
                let (number, seconds) = (self.version.number, left.as_secs() + 1);
                return Err(HookFailure::Unavailable {
                    why: format!("version {number} failed too often: not asked for another {seconds} s"),
                });
            }
        };
        let place = (of_node, of_tenant);
        let host = Desk {
            tenant: self.tenant.clone(),
            session: self.id,
            session_id: info.session_id.clone(),
            services: self.room.services.clone(),
            reply_keys: self.room.options.reply_keys.clone(),
            rate: self.rate.clone(),
            settings: self.settings.clone(),
            told: self.told.clone(),
            explains: self.room.explains.clone(),
            cost: self.cost.clone(),
        };
        let mut setup = Setup::new(Arc::new(host), self.room.with_random(Random::seed));
        setup.cpu = self.room.options.cpu;
        setup.log_left = self.log_left.clone();
        setup.memory_bytes = self.version.class.memory_bytes();
        setup.turns = Some(fair::Turn::new(self.turns.clone(), self.tenant.clone()));
        match Instance::new(&self.version.module, setup, until).await {
            Ok(instance) => {
                self.tenant.instance_made();
                Ok((Guest { instance, place, pass }, true))
            }
            // The node's want of room is not the version's fault. Its pass counts as one that nothing is heard of.
            Err(f @ Failure::NoInstance { .. }) => Err(failure(f)),
            Err(f) => {
                if !news {
                    self.broke(pass);
                }
                Err(failure(f))
            }
        }
    }
}

/// UR-033: who hears that a recording can be fetched hears where, and gets a token that opens it and nothing else for a while.
fn give_access(notification: &mut Notification, domain: &str, links: &Links, now: u64) {
    let Notification::RecordingState { status, .. } = notification else { return };
    if status.phase != Phase::Available || status.options.prompts_only || status.url.is_some() {
        return;
    }
    status.url = Some(links.url(domain, &status.recording_id));
    status.access_token = Some(links.mint(now, domain, &status.recording_id, "news of it", crate::limits::LINK_NEWS).0);
}

/// A hook's outcome: the instance, where it lives on, and the verdict.
pub(crate) type Done = Result<(Instance, Result<Verdict, HookFailure>), HookFailure>;

/// A hook's name in the contract.
pub(super) fn name_of(hook: &Hook) -> &'static str {
    match hook {
        Hook::NewCall(_) => "new-call",
        Hook::GetCallIdentifier(_) => "get-call-identifier",
        Hook::GetIvrCommand(_) => "get-ivr-command",
        Hook::CallEvent(_) => "call-event",
        Hook::NewRemoteCall(_) => "new-remote-call",
    }
}

/// A hook in the handler's language.
pub(crate) fn question(hook: Hook, transaction: String, keys: &ReplyKeys) -> Question {
    match hook {
        Hook::NewCall(call) => Question::NewCall(to_wit::new_call(*call, transaction)),
        Hook::GetCallIdentifier(request) => Question::GetCallIdentifier(to_wit::call_identifier(*request, transaction)),
        Hook::GetIvrCommand(request) => Question::GetIvrCommand(to_wit::ivr_request(*request, transaction, keys)),
        Hook::CallEvent(event) => Question::CallEvent(to_wit::call_event(*event, transaction, keys)),
        Hook::NewRemoteCall(call) => Question::NewRemoteCall(to_wit::remote_call(*call, transaction, keys)),
    }
}

/// Put a question to an instance; also what it said, as it said it. News have no verdict: [`Instance::notify`] takes them.
pub(crate) async fn put(instance: Instance, question: &Question, until: Instant) -> (Done, Option<Said>) {
    let routing = |r| from_wit::routing(r).map(Verdict::Routing);
    match question {
        Question::NewCall(request) => answered(instance.new_call(request, until).await, |r| Said::Routing(Box::new(r)), routing),
        Question::GetCallIdentifier(request) => answered(instance.get_call_identifier(request, until).await, Said::Identified, |answer| {
            from_wit::identified(answer).map(Verdict::Identified)
        }),
        Question::GetIvrCommand(request) => answered(
            instance.get_ivr_command(request, until).await,
            |c| Said::Command(Box::new(c)),
            |c| from_wit::ivr_command(c).map(|c| Verdict::Ivr(Box::new(c))),
        ),
        Question::CallEvent(event) => answered(instance.call_event(event, until).await, |r| Said::Routing(Box::new(r)), routing),
        Question::NewRemoteCall(call) => {
            answered(instance.new_remote_call(call, until).await, |a| Said::Noted(Box::new(a)), from_wit::noted)
        }
        Question::Notify(_) => (Err(HookFailure::Nonsense { field: "hook".into(), why: "news are told, not asked".into() }), None),
    }
}

/// An answer that is nonsense costs the instance, as a trap does: it cannot be trusted with the next question.
fn answered<T: Clone>(
    answer: hookswitch_wasm::Answer<T>,
    said: impl FnOnce(T) -> Said,
    check: impl FnOnce(T) -> Result<Verdict, super::Nonsense>,
) -> (Done, Option<Said>) {
    match answer {
        Ok((instance, Ok(value))) => {
            let said = said(value.clone());
            (check(value).map(|verdict| (instance, Ok(verdict))).map_err(HookFailure::from), Some(said))
        }
        Ok((instance, Err(none))) => {
            let said = match &none {
                NoAnswer::Failed(wit::Failure { message }) => Some(Said::Failure(short(message))),
                NoAnswer::NoTurn => None,
            };
            (Ok((instance, Err(unanswered(none)))), said)
        }
        Err(f) => (Err(failure(f)), None),
    }
}

/// Of an instance that lives on.
fn unanswered(none: NoAnswer) -> HookFailure {
    match none {
        // IC-021: an answer that came from elsewhere, and was empty.
        NoAnswer::Failed(wit::Failure { message }) if message.is_empty() => HookFailure::Empty,
        NoAnswer::Failed(wit::Failure { message }) => HookFailure::Refused { message: short(&message) },
        NoAnswer::NoTurn => no_turn(),
    }
}

/// The instance was not asked, and lives: another one would come no sooner.
fn no_turn() -> HookFailure {
    HookFailure::Unavailable { why: NO_TURN.to_owned() }
}

/// Whether a call that saw this has failed by its handler's fault. Its own word (`Refused`, `Empty`) is a decision.
fn blames_the_version(failure: &HookFailure) -> bool {
    failure.lost_instance() || matches!(failure, HookFailure::Nonsense { .. })
}

/// A guest's own words, fit for an alarm.
fn short(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}

pub(crate) fn failure(failure: Failure) -> HookFailure {
    match failure {
        Failure::Trap { message } => HookFailure::Trap { message },
        Failure::Deadline => HookFailure::Deadline,
        Failure::Cpu => HookFailure::Cpu,
        Failure::Limit { name } => HookFailure::Limit { name },
        Failure::NoInstance { why } => HookFailure::Unavailable { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dialects::tests::status;
    use hookswitch_call::recording::RecordingOptions;

    #[test]
    fn ur_033_who_hears_that_a_recording_can_be_fetched_can_fetch_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let links = Links::load(folder.path(), "https://node/x").expect("made");
        let told = |phase, options| {
            let status = Box::new(status(options, phase, "stop_digit", 1000));
            let mut news = Notification::RecordingState { info: SessionInfo::default(), status, occurred_at: 0 };
            if let Notification::RecordingState { status, .. } = &mut news {
                (status.url, status.access_token) = (None, None);
            }
            give_access(&mut news, "a.example", &links, 1_000_000);
            let Notification::RecordingState { status, .. } = news else { panic!("it stays what it is") };
            (status.recording_id.clone(), status.url.clone(), status.access_token.clone())
        };
        let (id, url, token) = told(Phase::Available, RecordingOptions::default());
        assert_eq!(url, Some(format!("https://node/x/a.example/recordings/{id}/audio")));
        let link = links.verify(1_000_000, &token.expect("a token")).expect("it is ours");
        assert_eq!((link.domain.as_str(), link.recording), ("a.example", id));
        let nothing = |(_, url, token): (String, Option<String>, Option<String>)| url.is_none() && token.is_none();
        for phase in [Phase::Recording, Phase::LocalAvailable, Phase::NoInput, Phase::Failed, Phase::Canceled] {
            assert!(nothing(told(phase, RecordingOptions::default())), "{phase:?}");
        }
        assert!(nothing(told(Phase::Available, RecordingOptions { prompts_only: true, ..RecordingOptions::default() })));
    }
}
