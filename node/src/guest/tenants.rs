//! What the guest room knows of each tenant beside its active version: counters, and the last lines of its log. A tenant's flood of
//! lines or failures costs others nothing: both have a rate, and what is beyond is counted.
//!
//! Its quotas are here, too: how many instances it may have, and what of the processor; who runs when is `fair.rs`'s.

use super::fair::Allowance;
use super::limits;
use crate::metrics::Histogram;
use crate::store::Quotas;
use hookswitch_call::hook::HookFailure;
use hookswitch_wasm::Level;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

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
    /// Limits that bit while a handler asked something of the node, and that it may live with: all of them together.
    pub limited: u64,
    /// Versions were not asked for a while after failing too often.
    pub rests: u64,
    /// Versions that were taken back since their first calls failed.
    pub taken_back: u64,
    /// Instances that its quota refused.
    pub quota_refused: u64,
    /// CPU time of its handlers, in microseconds.
    pub cpu_us: u64,
    pub decisions: Decisions,
}

/// How long calls waited for their handlers' answers, in microseconds: from the switch's question to the answer on its way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    pub count: u64,
    pub sum_us: u64,
    /// Half of them, and 99 of 100, took no longer.
    pub p50_us: u64,
    pub p99_us: u64,
}

#[derive(Default)]
struct Counters {
    decisions: Histogram,
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
    limited: AtomicU64,
    rests: AtomicU64,
    taken_back: AtomicU64,
    quota_refused: AtomicU64,
    cpu_ns: AtomicU64,
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
    quotas: RwLock<Quotas>,
    /// Instances that live.
    live: AtomicUsize,
    log: Mutex<Log>,
    /// Looks into the store.
    looks: Mutex<Rate>,
}

/// An instance of a tenant; its place is free again when this goes.
pub(super) struct InstanceOf(Arc<Tenant>);

impl Drop for InstanceOf {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Log {
    lines: VecDeque<LogLine>,
    rate: Rate,
    failures: Rate,
    unsaid: u64,
    /// Lines were dropped since the last one was kept: said once for all of them.
    dropping: bool,
    followers: broadcast::Sender<LogLine>,
}

/// What one hears who follows a tenant's log.
pub struct Follower {
    /// What there was, oldest first.
    pub before: Vec<LogLine>,
    pub lines: broadcast::Receiver<LogLine>,
}

/// Nothing in here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenant {
    fn new(domain: Arc<str>) -> Tenant {
        let log = Log {
            lines: VecDeque::new(),
            rate: Rate::new(limits::LOG_RATE),
            failures: Rate::new(limits::FAILURE_RATE),
            unsaid: 0,
            dropping: false,
            followers: broadcast::Sender::new(crate::limits::LOG_FOLLOW_LINES),
        };
        Tenant {
            domain,
            counters: Counters::default(),
            quotas: RwLock::default(),
            live: AtomicUsize::new(0),
            log: Mutex::new(log),
            looks: Mutex::new(Rate::new(crate::limits::STORE_RATE)),
        }
    }

    fn quotas(&self) -> Quotas {
        self.quotas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What of the processor its handlers may have.
    pub fn allowance(&self) -> Allowance {
        let quotas = self.quotas.read().unwrap_or_else(PoisonError::into_inner);
        let per_second = quotas.cpu_ms_per_second.map(|ms| Duration::from_millis(ms.into()));
        Allowance { weight: quotas.cpu_weight, per_second }
    }

    /// A place for one more instance, or how many it may have.
    pub fn place(self: &Arc<Tenant>) -> Result<InstanceOf, u32> {
        let live = self.live.fetch_add(1, Ordering::AcqRel);
        // From now on it is given back, whatever follows.
        let place = InstanceOf(self.clone());
        match self.quotas().instances {
            Some(most) if live >= usize::try_from(most).unwrap_or(usize::MAX) => {
                add(&self.counters.quota_refused, 1);
                Err(most)
            }
            _ => Ok(place),
        }
    }

    /// Its handlers had the processor so long.
    pub fn spent(&self, cpu: Duration) {
        add(&self.counters.cpu_ns, u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A line that a handler wrote.
    pub fn log(&self, session_id: &str, level: Level, text: &str) {
        let mut log = lock(&self.log);
        if !log.rate.take() {
            self.line_dropped();
            let first = !std::mem::replace(&mut log.dropping, true);
            drop(log);
            if first {
                self.limited(session_id, &format!("log: {} lines of a tenant a second", limits::LOG_RATE));
            }
            return;
        }
        log.dropping = false;
        let level = level_name(level);
        tracing::info!(target: "guest", domain = %self.domain, session = session_id, level, "{text}");
        log.keep(session_id, level, text);
    }

    /// The outcome of a decision that its call waited for so long.
    pub fn answered(&self, session_id: &str, hook: &str, version: u32, waited: Duration, outcome: Result<(), &HookFailure>) {
        let c = &self.counters;
        add(&c.hooks, 1);
        c.decisions.record(waited, 1);
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

    /// Whether one more look into the store is within the tenant's rate.
    pub fn may_look(&self) -> bool {
        lock(&self.looks).take()
    }

    /// A limit bit that the handler may live with.
    pub fn limited(&self, session_id: &str, limit: &str) {
        add(&self.counters.limited, 1);
        self.complain(session_id, &format!("limit reached: {limit}"));
    }

    /// `None`: enough follow it.
    pub fn follow(&self) -> Option<Follower> {
        let log = lock(&self.log);
        if log.followers.receiver_count() >= crate::limits::LOG_FOLLOWERS {
            return None;
        }
        Some(Follower { before: log.lines.iter().cloned().collect(), lines: log.followers.subscribe() })
    }

    pub fn version_rests(&self) {
        add(&self.counters.rests, 1);
    }

    pub fn version_taken_back(&self) {
        add(&self.counters.taken_back, 1);
    }

    /// A line about a version in the tenant's log. There are few, and none may be lost among complaints about single calls.
    pub fn say(&self, text: &str) {
        tracing::warn!(domain = %self.domain, "handler: {text}");
        lock(&self.log).keep("", "node", text);
    }

    /// A line of the node's own about a call in the tenant's log.
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
            limited: get(&c.limited),
            rests: get(&c.rests),
            taken_back: get(&c.taken_back),
            quota_refused: get(&c.quota_refused),
            cpu_us: get(&c.cpu_ns) / 1000,
            decisions: Decisions {
                count: c.decisions.count(),
                sum_us: c.decisions.sum_us(),
                p50_us: c.decisions.quantile(0.5).as_micros() as u64,
                p99_us: c.decisions.quantile(0.99).as_micros() as u64,
            },
        }
    }
}

impl Log {
    fn keep(&mut self, session_id: &str, level: &'static str, text: &str) {
        if self.lines.len() >= limits::LOG_KEPT {
            self.lines.pop_front();
        }
        let line = LogLine { at_ms: now_ms(), session_id: session_id.to_owned(), level, text: text.to_owned() };
        // Fails where nobody follows.
        let _ = self.followers.send(line.clone());
        self.lines.push_back(line);
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
    /// As configured; of tenants that are not here yet too.
    quotas: RwLock<BTreeMap<String, Quotas>>,
}

impl Tenants {
    pub fn of(&self, domain: &Arc<str>) -> Arc<Tenant> {
        if let Some(tenant) = self.known(domain) {
            return tenant;
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let tenant = map.entry(domain.clone()).or_insert_with(|| Arc::new(Tenant::new(domain.clone()))).clone();
        drop(map);
        let quotas = self.quotas.read().unwrap_or_else(PoisonError::into_inner).get(&**domain).cloned();
        *tenant.quotas.write().unwrap_or_else(PoisonError::into_inner) = quotas.unwrap_or_default();
        tenant
    }

    /// What tenants may use from now on; who is not named has no quota.
    pub fn configure(&self, quotas: BTreeMap<String, Quotas>) {
        for (domain, tenant) in self.map.read().unwrap_or_else(PoisonError::into_inner).iter() {
            *tenant.quotas.write().unwrap_or_else(PoisonError::into_inner) = quotas.get(&**domain).cloned().unwrap_or_default();
        }
        *self.quotas.write().unwrap_or_else(PoisonError::into_inner) = quotas;
    }

    pub fn known(&self, domain: &str) -> Option<Arc<Tenant>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned()
    }

    pub fn all(&self) -> Vec<(Arc<str>, Stats)> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(d, t)| (d.clone(), t.stats())).collect()
    }
}
