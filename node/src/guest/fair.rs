//! Who runs next on a guest thread: a weighted fair queue over tenants, so that one that spends its whole share slows only itself.
//!
//! What a tenant's handlers spend, divided by its weight, is its service. Who is no more than a quantum ahead of the least served of those that
//! are active runs at once; who is further ahead waits for a round, which comes when everybody who could run had its turn, and lets one of each
//! tenant go that is no longer ahead. A tenant that comes back after a pause begins a credit before the least served one: who asks little is
//! answered before those who compute on, and yet saves no more than that up. One with an allowance a second waits, too, until its allowance has
//! grown again.
//!
//! A question that was put and whose handler has not begun is a knock, and so are news, behind which the call's next question waits, and a handler
//! that gave way and would go on: it goes before the handlers of other tenants that were served as much, also before one that runs, so that a call
//! does not wait for pieces of others.
//!
//! [`Fair`] is pure: time is an argument. [`Turns`] is one of a thread, with the task that gives the rounds.

use super::tenants::Tenant;
use hookswitch_proto::Time;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::{CREDIT, KNOCKS_LOOKED_AT, QUANTUM, TENANTS_REMEMBERED};

/// What a tenant may have of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Its share beside others'.
    pub weight: u32,
    /// CPU time in each second; `None`: all there is.
    pub per_second: Option<Duration>,
}

/// The tenants of one thread. `T` is whoever waits.
pub(super) struct Fair<T> {
    shares: BTreeMap<Arc<str>, Share<T>>,
    /// Service of the least served tenant that was active in the last round, in nanoseconds. Never falls.
    level: u64,
    /// The tenants whose questions wait to be begun, or to go on, by their service; each has a number of its own.
    knocks: BTreeMap<(u64, u64), Arc<str>>,
    knocked: u64,
    /// The tenant whose handler runs, its service when that began, and when.
    runs: Option<(Arc<str>, u64, Time)>,
}

struct Share<T> {
    allowance: Allowance,
    /// Nanoseconds by weight, counted from the same zero as `level`.
    service: u64,
    /// It ran since the last round.
    ran: bool,
    /// Nanoseconds of the allowance a second.
    saved: i64,
    saved_at: Time,
    waiting: VecDeque<T>,
}

impl<T> Default for Fair<T> {
    fn default() -> Fair<T> {
        Fair { shares: BTreeMap::new(), level: 0, knocks: BTreeMap::new(), knocked: 0, runs: None }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// By the weight of whoever spent it.
fn weighed(spent: Duration, weight: u32) -> u64 {
    nanos(spent).unsigned_abs() / u64::from(weight.max(1))
}

impl<T> Share<T> {
    fn new(now: Time, allowance: Allowance, service: u64) -> Share<T> {
        let saved = allowance.per_second.map_or(0, nanos);
        Share { allowance, service, ran: false, saved, saved_at: now, waiting: VecDeque::new() }
    }

    /// Grows the allowance: a second's worth is saved at most.
    fn grow(&mut self, now: Time) {
        let Some(each) = self.allowance.per_second else { return };
        let passed = now.since(self.saved_at);
        self.saved_at = now.max(self.saved_at);
        let grown = each.as_nanos().saturating_mul(passed.as_nanos()) / 1_000_000_000;
        self.saved = self.saved.saturating_add(i64::try_from(grown).unwrap_or(i64::MAX)).min(nanos(each));
    }

    /// Something of its allowance is left.
    fn can_pay(&self) -> bool {
        self.allowance.per_second.is_none() || self.saved > 0
    }

    fn may_run(&self, level: u64) -> bool {
        u128::from(self.service.saturating_sub(level)) < QUANTUM.as_nanos() && self.can_pay()
    }
}

impl<T> Fair<T> {
    /// Where a tenant begins that has paused, if it was not served more.
    fn entry(&self) -> u64 {
        self.level.saturating_sub(nanos(CREDIT).unsigned_abs())
    }

    /// Whether a handler of this tenant may run now. If not, `ticket` waits for a round.
    pub fn ask(&mut self, now: Time, tenant: &Arc<str>, allowance: Allowance, ticket: impl FnOnce() -> T) -> bool {
        let (level, entry) = (self.level, self.entry());
        if self.shares.len() >= TENANTS_REMEMBERED && !self.shares.contains_key(tenant) {
            self.shares.retain(|_, share| !share.waiting.is_empty() || share.service > level || share.saved < 0);
        }
        let share = self.shares.entry(tenant.clone()).or_insert_with(|| Share::new(now, allowance, entry));
        share.allowance = allowance;
        share.grow(now);
        if share.waiting.is_empty() && !share.ran {
            share.service = share.service.max(entry);
        }
        if share.may_run(level) {
            return true;
        }
        share.waiting.push_back(ticket());
        false
    }

    /// What this tenant has had beside others, with so much that it is not charged yet.
    fn standing(&self, tenant: &Arc<str>, had: Duration) -> u64 {
        let (service, weight) = match self.shares.get(tenant) {
            Some(share) if share.ran || !share.waiting.is_empty() => (share.service, share.allowance.weight),
            Some(share) => (share.service.max(self.entry()), share.allowance.weight),
            None => (self.entry(), 1),
        };
        service.saturating_add(weighed(had, weight))
    }

    /// Its handler waits to begin or to go on.
    pub fn wait(&mut self, tenant: &Arc<str>, had: Duration) -> (u64, u64) {
        self.knocked += 1;
        let knock = (self.standing(tenant, had), self.knocked);
        self.knocks.insert(knock, tenant.clone());
        knock
    }

    /// A question for this tenant's handler was put. Whether one runs that should give way to it.
    pub fn knock(&mut self, now: Time, tenant: &Arc<str>) -> ((u64, u64), bool) {
        let knock = self.wait(tenant, Duration::ZERO);
        let (service, _) = knock;
        let ahead = |(runs, served, began): &(Arc<str>, u64, Time)| {
            // What it has had of this piece, which is charged when that is over.
            let had = weighed(now.since(*began), self.shares.get(runs).map_or(1, |share| share.allowance.weight));
            runs != tenant && served.saturating_add(had) >= service
        };
        (knock, self.runs.as_ref().is_some_and(ahead))
    }

    /// That question's handler begins, or will not.
    pub fn enter(&mut self, knock: (u64, u64)) {
        self.knocks.remove(&knock);
    }

    /// Whether questions wait for handlers of other tenants that were served no more than this one, which has had so much beside what it was
    /// charged. `knock`: it waits itself, and of those that were served as much the first goes first.
    pub fn gives_way(&self, tenant: &Arc<str>, had: Duration, knock: Option<(u64, u64)>) -> bool {
        let own = (self.standing(tenant, had), knock.map_or(u64::MAX, |(_, number)| number));
        // Other handlers of that tenant may have run since it knocked. Two never give way to each other: all are looked at alike.
        let goes_first = |((then, number), other): (&(u64, u64), &Arc<str>)| {
            other != tenant && (self.standing(other, Duration::ZERO).max(*then), *number) < own
        };
        self.knocks.range(..=own).take(KNOCKS_LOOKED_AT).any(goes_first)
    }

    /// One that waits for a round does not any more.
    pub fn give_up(&mut self, tenant: &Arc<str>, is: impl Fn(&T) -> bool) {
        if let Some(share) = self.shares.get_mut(tenant) {
            share.waiting.retain(|ticket| !is(ticket));
        }
    }

    /// A handler of this tenant begins a piece, or goes on.
    pub fn begins(&mut self, now: Time, tenant: &Arc<str>) {
        self.runs = Some((tenant.clone(), self.shares.get(tenant).map_or(self.entry(), |share| share.service), now));
    }

    /// A handler of this tenant ran so long.
    pub fn charge(&mut self, now: Time, tenant: &Arc<str>, spent: Duration) {
        self.runs = None;
        if let Some(share) = self.shares.get_mut(tenant) {
            share.grow(now);
            share.ran = true;
            share.service = share.service.saturating_add(weighed(spent, share.allowance.weight));
            if share.allowance.per_second.is_some() {
                share.saved = share.saved.saturating_sub(nanos(spent));
            }
        }
    }

    /// The next round: who of those that wait may run, one of each tenant.
    pub fn round(&mut self, now: Time) -> Vec<T> {
        self.shares.values_mut().for_each(|share| share.grow(now));
        let active = |share: &&Share<T>| share.ran || (!share.waiting.is_empty() && share.can_pay());
        let least = self.shares.values().filter(active).map(|share| share.service).min();
        self.level = self.level.max(least.unwrap_or(0));
        let mut run = Vec::new();
        for share in self.shares.values_mut() {
            share.ran = false;
            if share.may_run(self.level) {
                run.extend(share.waiting.pop_front());
            }
        }
        run
    }

    /// When the next round is worth giving: now where somebody waits for a round alone, later where all who wait have used up their second.
    /// `None`: nobody waits.
    pub fn next_round(&self, now: Time) -> Option<Time> {
        let due = |share: &Share<T>| match share.allowance.per_second {
            Some(each) if share.saved <= 0 => {
                let each = each.as_nanos().max(1);
                let missing = u128::from(share.saved.unsigned_abs()) + 1;
                let grows = Duration::from_nanos(u64::try_from((missing * 1_000_000_000).div_ceil(each)).unwrap_or(u64::MAX));
                // Since it was looked at last, and not from now on: whoever asks again meanwhile must not put it off.
                share.saved_at + grows.min(LONGEST_WAIT)
            }
            _ => now,
        };
        self.shares.values().filter(|share| !share.waiting.is_empty()).map(due).min()
    }
}

/// A second brings every allowance back that is not far in debt; then it is looked at again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The turns of one guest thread.
pub(super) struct Turns {
    fair: Mutex<Fair<Weak<Turn>>>,
    /// Somebody waits for a round.
    waits: Notify,
    begun: Instant,
    /// Guest threads that there are: sessions are spread evenly, so each has its part of an allowance.
    threads: u32,
    /// Turns that a round gave and that were not taken yet.
    granted: AtomicUsize,
}

/// A question on its way to its handler. Gone when that begins, or will not.
pub(super) struct Knock {
    turns: Arc<Turns>,
    knock: (u64, u64),
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.turns.fair().enter(self.knock);
    }
}

impl Turns {
    pub fn new(threads: usize) -> Arc<Turns> {
        let threads = u32::try_from(threads.max(1)).unwrap_or(u32::MAX);
        Arc::new(Turns { fair: Mutex::default(), waits: Notify::new(), begun: Instant::now(), threads, granted: AtomicUsize::new(0) })
    }

    /// A question is put to a handler of this tenant. True: who runs there should give way at once.
    pub fn knock(self: &Arc<Turns>, tenant: &Arc<str>) -> (Knock, bool) {
        let (knock, gives_way) = self.fair().knock(self.now(), tenant);
        (Knock { turns: self.clone(), knock }, gives_way)
    }

    /// This thread's part.
    fn part(&self, whole: Allowance) -> Allowance {
        Allowance { per_second: whole.per_second.map(|each| each / self.threads), ..whole }
    }

    fn fair(&self) -> MutexGuard<'_, Fair<Weak<Turn>>> {
        self.fair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::ZERO + self.begun.elapsed()
    }

    /// Gives rounds for as long as the thread lives.
    pub async fn give(self: Arc<Turns>) {
        loop {
            let due = self.fair().next_round(self.now());
            match due {
                None => self.waits.notified().await,
                Some(at) if at <= self.now() => {
                    // Everybody who can run goes first: who is not ahead runs at once and never waits for this.
                    tokio::task::yield_now().await;
                    // Nor are there two turns of a tenant at a time, where those of the round before gave way.
                    while self.granted.load(Ordering::Relaxed) > 0 {
                        tokio::task::yield_now().await;
                    }
                    for turn in self.fair().round(self.now()).iter().filter_map(Weak::upgrade) {
                        turn.granted.store(true, Ordering::Relaxed);
                        self.granted.fetch_add(1, Ordering::Relaxed);
                        turn.wake();
                    }
                }
                Some(at) => {
                    // Another tenant may come to wait for less.
                    let pause = at.since(self.now());
                    let _ = tokio::time::timeout(pause, self.waits.notified()).await;
                }
            }
        }
    }
}

/// The turns of one instance's hooks.
pub(super) struct Turn {
    turns: Arc<Turns>,
    tenant: Arc<Tenant>,
    waiting: AtomicBool,
    granted: AtomicBool,
    /// It gave way, and is in the run queue.
    knock: Mutex<Option<(u64, u64)>>,
    waker: Mutex<Option<Waker>>,
    own: Weak<Turn>,
}

impl Turn {
    pub fn new(turns: Arc<Turns>, tenant: Arc<Tenant>) -> Arc<Turn> {
        Arc::new_cyclic(|own| Turn {
            turns,
            tenant,
            waiting: AtomicBool::new(false),
            granted: AtomicBool::new(false),
            knock: Mutex::default(),
            waker: Mutex::default(),
            own: own.clone(),
        })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    fn waits(&self) -> MutexGuard<'_, Option<(u64, u64)>> {
        self.knock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It waits for nothing.
    fn leave(&self) {
        self.take();
        let knock = self.waits().take();
        if let Some(knock) = knock {
            self.turns.fair().enter(knock);
        }
    }

    /// Whether a round gave it a turn, which is taken with this.
    fn take(&self) -> bool {
        let granted = self.granted.swap(false, Ordering::Relaxed);
        if granted {
            self.turns.granted.fetch_sub(1, Ordering::Relaxed);
        }
        granted
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Its hook was given up before it took it, or went on.
        self.leave();
    }
}

impl hookswitch_wasm::Turns for Turn {
    fn poll_turn(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut fair = self.turns.fair();
        let domain = &self.tenant.domain;
        let granted = self.granted.load(Ordering::Relaxed);
        if granted || !self.waiting.load(Ordering::Relaxed) {
            let mut knock = self.waits();
            if fair.gives_way(domain, Duration::ZERO, *knock) {
                // Who knocked is in the run queue, or will be when the thread has read it, which it does after some tasks.
                knock.get_or_insert_with(|| fair.wait(domain, Duration::ZERO));
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(knock) = knock.take() {
                fair.enter(knock);
            }
            if self.take() || fair.ask(self.turns.now(), domain, self.turns.part(self.tenant.allowance()), || self.own.clone()) {
                self.waiting.store(false, Ordering::Relaxed);
                fair.begins(self.turns.now(), domain);
                return Poll::Ready(());
            }
            self.waiting.store(true, Ordering::Relaxed);
            self.turns.waits.notify_one();
        }
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        Poll::Pending
    }

    fn gives_way(&self, ran: Duration) -> bool {
        let mut fair = self.turns.fair();
        let gives_way = ran >= QUANTUM || fair.gives_way(&self.tenant.domain, ran, None);
        if gives_way {
            // Whoever was served more must not go before it now.
            self.waits().get_or_insert_with(|| fair.wait(&self.tenant.domain, ran));
        }
        gives_way
    }

    fn give_up(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
            self.turns.fair().give_up(&self.tenant.domain, |turn| turn.ptr_eq(&self.own));
        }
        // It may have been given one meanwhile: others would wait until it is taken.
        self.leave();
    }

    fn ran(&self, cpu: Duration) {
        self.tenant.spent(cpu);
        self.turns.fair().charge(self.turns.now(), &self.tenant.domain, cpu);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A thread in virtual time: tasks of tenants that want to run for ever in pieces, in the order of a run queue.
    struct Thread {
        now: Time,
        fair: Fair<usize>,
        tenants: Vec<(Arc<str>, Allowance, Duration)>,
        ready: VecDeque<(usize, bool)>,
        spent: Vec<Duration>,
    }

    impl Thread {
        /// Of each: weight, allowance a second, what a task runs at a time, and how many tasks.
        fn new(tenants: &[(u32, Option<u64>, Duration, usize)]) -> Thread {
            let tenant = |(i, (weight, per_second, piece, _)): (usize, &(u32, Option<u64>, Duration, usize))| {
                (Arc::from(format!("t{i}")), Allowance { weight: *weight, per_second: per_second.map(Duration::from_millis) }, *piece)
            };
            let ready = tenants.iter().enumerate().flat_map(|(i, (.., tasks))| vec![(i, false); *tasks]).collect();
            Thread {
                now: Time::ZERO,
                fair: Fair::default(),
                tenants: tenants.iter().enumerate().map(tenant).collect(),
                ready,
                spent: vec![Duration::ZERO; tenants.len()],
            }
        }

        /// One pass of the run queue, then a round if somebody waits.
        fn pass(&mut self) {
            for _ in 0..self.ready.len() {
                let Some((i, granted)) = self.ready.pop_front() else { break };
                let (domain, allowance, piece) = self.tenants[i].clone();
                if granted || self.fair.ask(self.now, &domain, allowance, || i) {
                    self.now += piece;
                    self.spent[i] += piece;
                    self.fair.charge(self.now, &domain, piece);
                    self.ready.push_back((i, false));
                }
            }
            match self.fair.next_round(self.now) {
                Some(at) => {
                    if self.ready.is_empty() {
                        self.now = self.now.max(at);
                    }
                    if at <= self.now {
                        let run = self.fair.round(self.now);
                        self.ready.extend(run.into_iter().map(|i| (i, true)));
                    }
                }
                None => assert!(!self.ready.is_empty(), "somebody runs or waits"),
            }
        }

        fn run_for(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.pass();
            }
        }

        fn share(&self, i: usize) -> f64 {
            self.spent[i].as_secs_f64() / self.spent.iter().sum::<Duration>().as_secs_f64()
        }
    }

    fn about(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 0.02
    }

    #[test]
    fn many_tasks_of_one_tenant_are_worth_one_of_another() {
        let mut thread = Thread::new(&[(1, None, MS, 100), (1, None, MS, 1)]);
        thread.run_for(Duration::from_secs(10));
        assert!(about(thread.share(1), 0.5), "{}", thread.share(1));
    }

    #[test]
    fn weights_are_shares() {
        let mut thread = Thread::new(&[(1, None, MS, 10), (3, None, MS, 10)]);
        thread.run_for(Duration::from_secs(10));
        assert!(about(thread.share(1), 0.75), "{}", thread.share(1));
    }

    #[test]
    fn short_hooks_and_long_ones_share_by_time_and_not_by_number() {
        let mut thread = Thread::new(&[(1, None, 20 * MS, 5), (1, None, MS / 50, 5)]);
        thread.run_for(Duration::from_secs(20));
        assert!(about(thread.share(1), 0.5), "{}", thread.share(1));
    }

    #[test]
    fn who_is_quiet_waits_for_two_pieces_of_each_whatever_others_do() {
        let mut thread = Thread::new(&[(1, None, MS, 200), (1, None, MS, 200), (1, None, MS / 50, 0)]);
        thread.run_for(Duration::from_secs(1));
        for _ in 0..100 {
            // A call comes in: its hook of 20 us is behind all that is in the queue.
            let (came, before) = (thread.now, thread.spent[2]);
            thread.ready.push_back((2, false));
            thread.pass();
            assert!(thread.spent[2] > before, "it ran in that pass");
            let waited = thread.now.since(came);
            assert!(waited <= 5 * MS, "{waited:?}: two pieces of each of the loud ones");
            thread.ready.retain(|(i, _)| *i != 2);
        }
    }

    #[test]
    fn an_allowance_a_second_holds_and_what_it_leaves_is_others() {
        let mut thread = Thread::new(&[(1, Some(100), MS, 50), (1, None, MS, 1)]);
        thread.run_for(Duration::from_secs(10));
        let limited = thread.spent[0].as_millis();
        assert!((1000..=1110).contains(&limited), "{limited} ms in 10 s, a second's worth at once");
        assert!(about(thread.share(1), 0.89), "{}", thread.share(1));
        // Alone it stays within it, too: the thread sleeps.
        let mut alone = Thread::new(&[(1, Some(100), MS, 50)]);
        alone.run_for(Duration::from_secs(10));
        assert!((1000..=1110).contains(&alone.spent[0].as_millis()), "{:?}", alone.spent[0]);
    }

    #[test]
    fn a_round_that_is_waited_for_comes_however_often_one_looks_when() {
        let (mut fair, tenant) = (Fair::default(), Arc::<str>::from("t"));
        let allowance = Allowance { weight: 1, per_second: Some(100 * MS) };
        assert!(fair.ask(Time::ZERO, &tenant, allowance, || 1));
        fair.charge(Time::ZERO, &tenant, 120 * MS);
        assert!(!fair.ask(Time::ZERO, &tenant, allowance, || 2));
        let due = fair.next_round(Time::ZERO).expect("somebody waits");
        assert_eq!(due.since(Time::ZERO).as_millis(), 200, "20 ms are owed, a tenth of each ms comes back");
        for ms in 1..=200 {
            assert_eq!(fair.next_round(Time::ZERO + ms * MS), Some(due));
        }
        assert_eq!(fair.round(due), [2]);
    }

    #[test]
    fn nothing_a_second_never_runs_and_delays_nobody() {
        let mut thread = Thread::new(&[(1, Some(0), MS, 5), (1, None, MS, 1)]);
        thread.run_for(Duration::from_secs(3));
        assert_eq!(thread.spent[0], Duration::ZERO);
        assert!(thread.spent[1] >= Duration::from_secs(3));
    }

    #[test]
    fn a_question_goes_before_other_tenants_that_were_served_as_much() {
        let (mut fair, now) = (Fair::<usize>::default(), Time::ZERO);
        let (loud, quiet) = (Arc::<str>::from("loud"), Arc::<str>::from("quiet"));
        let allowance = Allowance { weight: 1, per_second: None };
        assert!(fair.ask(now, &loud, allowance, || 1));
        fair.begins(now, &loud);
        assert!(!fair.knock(now, &loud).1 && !fair.gives_way(&loud, Duration::ZERO, None), "it is its own");
        let (first, interrupts) = fair.knock(now, &quiet);
        assert!(interrupts && fair.gives_way(&loud, Duration::ZERO, None), "both have had nothing");
        fair.charge(now, &loud, 3 * MS);
        fair.begins(now, &loud);
        let (second, interrupts) = fair.knock(now, &quiet);
        assert!(interrupts);
        fair.charge(now, &loud, MS);
        fair.enter(first);
        assert!(fair.gives_way(&loud, Duration::ZERO, None));
        fair.enter(second);
        assert!(!fair.gives_way(&loud, Duration::ZERO, None));
        // Quiet runs for long: now the other one goes first.
        assert!(fair.ask(now, &quiet, allowance, || 2));
        fair.begins(now, &quiet);
        fair.charge(now, &quiet, 5 * MS);
        fair.begins(now, &quiet);
        assert!(!fair.knock(now, &quiet).1, "nobody gives way to its own");
        let (knock, interrupts) = fair.knock(now, &loud);
        assert!(interrupts && fair.gives_way(&quiet, Duration::ZERO, None) && !fair.gives_way(&loud, Duration::ZERO, None));
        fair.charge(now, &quiet, MS);
        fair.enter(knock);
        // Nobody runs: nothing to interrupt.
        assert!(!fair.knock(now, &loud).1);
    }

    #[test]
    fn what_a_handler_has_had_of_its_piece_counts_before_it_is_charged() {
        let (mut fair, now) = (Fair::<usize>::default(), Time::ZERO);
        let (comes, runs) = (Arc::<str>::from("comes"), Arc::<str>::from("runs"));
        let allowance = |weight| Allowance { weight, per_second: None };
        assert!(fair.ask(now, &comes, allowance(1), || 1));
        fair.charge(now, &comes, MS);
        assert!(fair.ask(now, &runs, allowance(2), || 2));
        fair.begins(now, &runs);
        // By its weight it has had as much after two milliseconds.
        assert!(!fair.knock(now + MS, &comes).1 && !fair.gives_way(&runs, MS, None));
        assert!(fair.knock(now + 2 * MS, &comes).1 && fair.gives_way(&runs, 2 * MS, None));
    }

    #[test]
    fn who_gave_way_goes_before_those_who_had_more() {
        let (mut fair, now) = (Fair::<usize>::default(), Time::ZERO);
        let [quiet, other, loud] = ["quiet", "other", "loud"].map(Arc::<str>::from);
        let allowance = Allowance { weight: 1, per_second: None };
        assert!(fair.ask(now, &loud, allowance, || 1));
        fair.charge(now, &loud, 20 * MS);
        assert!(fair.ask(now, &quiet, allowance, || 2));
        fair.begins(now, &quiet);
        // A question of one that has had nothing: who has had a little gives way, and would go on.
        let (knock, interrupts) = fair.knock(now + MS / 10, &other);
        assert!(interrupts && fair.gives_way(&quiet, MS / 10, None));
        let waits = fair.wait(&quiet, MS / 10);
        fair.charge(now, &quiet, MS / 10);
        assert!(fair.gives_way(&quiet, Duration::ZERO, Some(waits)) && fair.gives_way(&loud, Duration::ZERO, None));
        // The question needed no handler.
        fair.enter(knock);
        assert!(!fair.gives_way(&quiet, Duration::ZERO, Some(waits)));
        assert!(fair.gives_way(&loud, Duration::ZERO, None), "it does not slip in between");
        fair.enter(waits);
        assert!(!fair.gives_way(&loud, Duration::ZERO, None));
    }

    #[test]
    fn of_all_who_wait_one_gives_way_to_nobody() {
        let (mut fair, now) = (Fair::<usize>::default(), Time::ZERO);
        let allowance = Allowance { weight: 1, per_second: None };
        let tenants: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).into();
        let one_goes = |fair: &Fair<usize>, waits: &[(u64, u64)]| {
            let goes = |(tenant, waits): (&Arc<str>, &(u64, u64))| !fair.gives_way(tenant, Duration::ZERO, Some(*waits));
            tenants.iter().zip(waits).map(goes).collect::<Vec<_>>()
        };
        let waits: Vec<_> = tenants.iter().map(|tenant| fair.wait(tenant, Duration::ZERO)).collect();
        assert_eq!(one_goes(&fair, &waits), [true, false, false], "of those that had as much the first");
        // Another handler of the first one's tenant has run since.
        assert!(fair.ask(now, &tenants[0], allowance, || 0));
        fair.charge(now, &tenants[0], MS);
        assert_eq!(one_goes(&fair, &waits), [false, true, false]);
    }

    #[test]
    fn who_gives_up_waiting_is_given_no_turn() {
        let (mut fair, now, tenant) = (Fair::<usize>::default(), Time::ZERO, Arc::<str>::from("a"));
        let allowance = Allowance { weight: 1, per_second: Some(MS) };
        assert!(fair.ask(now, &tenant, allowance, || 0));
        fair.charge(now, &tenant, 2 * MS);
        assert!(!fair.ask(now, &tenant, allowance, || 1) && !fair.ask(now, &tenant, allowance, || 2));
        fair.give_up(&tenant, |ticket| *ticket == 1);
        assert_eq!(fair.round(now + Duration::from_secs(9)), [2]);
        assert!(fair.round(now + Duration::from_secs(99)).is_empty());
    }
}
