//! What the guest room knows of each tenant beside its active version: counters, and the last lines of its log. A tenant's flood of
//! lines or failures costs others nothing: both have a rate, and what is beyond is counted.
//!
//! Shares of CPU time and instances between tenants belong here, too, once there are any.

use super::limits;
use hookswitch_call::hook::HookFailure;
use hookswitch_wasm::Level;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A line of a tenant's log: written by its handler, or by the node about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub session_id: String,
    /// `debug`, `info`, `warn` or `error`; `node` for the node's own.
    pub level: &'static str,
    pub text: String,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instances that were made.
    pub instances: u64,
    /// Hooks that were answered, in whatever way.
    pub hooks: u64,
    pub traps: u64,
    pub deadlines: u64,
    pub cpu: u64,
    pub limits: u64,
    /// The handler returned its own failure.
    pub refused: u64,
    pub nonsense: u64,
    /// There was no version, instance or room in a queue.
    pub unavailable: u64,
    pub notifications: u64,
    /// Found a full mailbox, no version, or a handler that failed at it.
    pub notifications_dropped: u64,
    pub log_lines_dropped: u64,
    /// Orders and posts beyond what a session may give in a second.
    pub orders_refused: u64,
}

#[derive(Default)]
struct Counters {
    instances: AtomicU64,
    hooks: AtomicU64,
    traps: AtomicU64,
    deadlines: AtomicU64,
    cpu: AtomicU64,
    limits: AtomicU64,
    refused: AtomicU64,
    nonsense: AtomicU64,
    unavailable: AtomicU64,
    notifications: AtomicU64,
    notifications_dropped: AtomicU64,
    log_lines_dropped: AtomicU64,
    orders_refused: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// So many a second, with a second's worth at once.
pub(super) struct Rate {
    per_second: u32,
    left: u32,
    since: Instant,
}

impl Rate {
    pub fn new(per_second: u32) -> Rate {
        Rate { per_second, left: per_second, since: Instant::now() }
    }

    pub fn take(&mut self) -> bool {
        if self.since.elapsed().as_secs() >= 1 {
            self.since = Instant::now();
            self.left = self.per_second;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

pub(super) struct Tenant {
    pub domain: Arc<str>,
    counters: Counters,
    log: Mutex<Log>,
}

struct Log {
    lines: VecDeque<LogLine>,
    rate: Rate,
    failures: Rate,
    unsaid: u64,
}

/// Nothing in here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenant {
    fn new(domain: Arc<str>) -> Tenant {
        let log = Log { lines: VecDeque::new(), rate: Rate::new(limits::LOG_RATE), failures: Rate::new(limits::FAILURE_RATE), unsaid: 0 };
        Tenant { domain, counters: Counters::default(), log: Mutex::new(log) }
    }

    /// A line that a handler wrote.
    pub fn log(&self, session_id: &str, level: Level, text: &str) {
        let mut log = lock(&self.log);
        if !log.rate.take() {
            self.line_dropped();
            return;
        }
        let level = level_name(level);
        tracing::info!(target: "guest", domain = %self.domain, session = session_id, level, "{text}");
        log.keep(session_id, level, text);
    }

    /// The outcome of a decision.
    pub fn answered(&self, session_id: &str, hook: &str, version: u32, outcome: Result<(), &HookFailure>) {
        let c = &self.counters;
        add(&c.hooks, 1);
        let Err(failure) = outcome else { return };
        let (counter, text) = match failure {
            HookFailure::Trap { message } => (&c.traps, format!("trap: {message}")),
            HookFailure::Deadline => (&c.deadlines, "no answer by the deadline".to_owned()),
            HookFailure::Cpu => (&c.cpu, "CPU time is used up".to_owned()),
            HookFailure::Limit { name } => (&c.limits, format!("limit reached: {name}")),
            HookFailure::Refused { message } => (&c.refused, format!("failed by its own word: {message}")),
            HookFailure::Nonsense { field, why } => (&c.nonsense, format!("{field}: {why}")),
            HookFailure::Unavailable { why } => (&c.unavailable, why.clone()),
            HookFailure::Empty => (&c.nonsense, "empty answer".to_owned()),
        };
        add(counter, 1);
        self.complain(session_id, &format!("{hook} of version {version}: {text}"));
    }

    /// A notification could not be delivered.
    pub fn notification_dropped(&self, session_id: &str, why: &str) {
        add(&self.counters.notifications_dropped, 1);
        self.complain(session_id, &format!("notification dropped: {why}"));
    }

    pub fn notified(&self) {
        add(&self.counters.notifications, 1);
    }

    pub fn instance_made(&self) {
        add(&self.counters.instances, 1);
    }

    /// A line that an instance was not allowed to write.
    pub fn line_dropped(&self) {
        add(&self.counters.log_lines_dropped, 1);
    }

    /// An order beyond the session's allowance.
    pub fn order_refused(&self) {
        add(&self.counters.orders_refused, 1);
    }

    /// A line of the node's own in the tenant's log.
    pub fn complain(&self, session_id: &str, text: &str) {
        let mut log = lock(&self.log);
        if !log.failures.take() {
            log.unsaid += 1;
            return;
        }
        let unsaid = std::mem::take(&mut log.unsaid);
        tracing::warn!(domain = %self.domain, session = session_id, unsaid, "handler: {text}");
        log.keep(session_id, "node", text);
    }

    pub fn lines(&self) -> Vec<LogLine> {
        lock(&self.log).lines.iter().cloned().collect()
    }

    pub fn stats(&self) -> Stats {
        let c = &self.counters;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        Stats {
            instances: get(&c.instances),
            hooks: get(&c.hooks),
            traps: get(&c.traps),
            deadlines: get(&c.deadlines),
            cpu: get(&c.cpu),
            limits: get(&c.limits),
            refused: get(&c.refused),
            nonsense: get(&c.nonsense),
            unavailable: get(&c.unavailable),
            notifications: get(&c.notifications),
            notifications_dropped: get(&c.notifications_dropped),
            log_lines_dropped: get(&c.log_lines_dropped),
            orders_refused: get(&c.orders_refused),
        }
    }
}

impl Log {
    fn keep(&mut self, session_id: &str, level: &'static str, text: &str) {
        if self.lines.len() >= limits::LOG_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(LogLine { at_ms: now_ms(), session_id: session_id.to_owned(), level, text: text.to_owned() });
    }
}

pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// All tenants that ever had a session here. Domains come from the configuration, so their number is the operator's.
#[derive(Default)]
pub(super) struct Tenants {
    map: RwLock<BTreeMap<Arc<str>, Arc<Tenant>>>,
}

impl Tenants {
    pub fn of(&self, domain: &Arc<str>) -> Arc<Tenant> {
        if let Some(tenant) = self.known(domain) {
            return tenant;
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        map.entry(domain.clone()).or_insert_with(|| Arc::new(Tenant::new(domain.clone()))).clone()
    }

    pub fn known(&self, domain: &str) -> Option<Arc<Tenant>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned()
    }

    pub fn all(&self) -> Vec<(Arc<str>, Stats)> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(d, t)| (d.clone(), t.stats())).collect()
    }
}
