//! How a version fares with the calls it gets. Two judgements over the same facts: a circuit breaker, so that a version that fails at once
//! is not instantiated for ever, and a trial, so that a new version that fails its first calls is taken back.
//!
//! Pure: time is an input, and what is decided is returned. Start with [`Health`].

use super::limits;
use std::time::Duration;

/// When a new version has failed its trial. A call has failed when any hook of it trapped, was not answered in time, hit a limit or was
/// answered by nonsense, and when the breaker kept it from being asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Calls that a new version is watched for. None: it is not.
    pub calls: u32,
    /// Before so many have begun nothing is decided.
    pub min_calls: u32,
    /// Failed calls in a hundred. So many or more: the version is taken back.
    pub failed_percent: u32,
}

impl Default for Trial {
    fn default() -> Trial {
        Trial { calls: 200, min_calls: 10, failed_percent: 25 }
    }
}

/// What became of a trial, once for each version that is given to calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Failed {
        failed: u32,
        calls: u32,
    },
    /// It is not new any more, whatever it does from now on.
    Proven,
}

/// What the breaker did, for the tenant's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// No new instances for so long, then one to try.
    Opened { for_: Duration },
    /// The one that was tried answered.
    Closed,
}

/// An instance may be made. Given back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Made to try whether the version works again.
    probe: bool,
}

#[derive(Debug)]
pub struct Health {
    breaker: Breaker,
    trial: Option<Trial>,
    calls: u32,
    failed: u32,
}

impl Health {
    /// `trial`: of a new version. One that is proven has none, and only its breaker counts.
    pub fn new(trial: Option<Trial>) -> Health {
        Health { breaker: Breaker::default(), trial: trial.filter(|trial| trial.calls > 0), calls: 0, failed: 0 }
    }

    /// Asked before each instance that is to be asked something. `Err`: none for so long.
    pub fn instance(&mut self, now: Duration) -> Result<Pass, Duration> {
        self.breaker.instance(now)
    }

    /// Asked before each instance that is only to be told news: whether it answers calls is not seen by that, so it neither tries nor counts.
    pub fn instance_for_news(&self) -> Option<Pass> {
        matches!(self.breaker.state, State::Closed { .. }).then_some(Pass { probe: false })
    }

    /// The instance answered its first hook.
    pub fn answered(&mut self, now: Duration, pass: Pass) -> Option<Turn> {
        self.breaker.answered(now, pass)
    }

    /// The instance broke.
    pub fn broke(&mut self, now: Duration, pass: Pass) -> Option<Turn> {
        self.breaker.broke(now, pass)
    }

    /// A call began.
    pub fn call_began(&mut self) -> Option<Judgement> {
        self.calls = self.calls.saturating_add(1);
        // Calls that are up may still fail: it is proven when the one after the last begins.
        let Trial { calls, .. } = self.trial?;
        if self.calls > calls {
            self.trial = None;
            return Some(Judgement::Proven);
        }
        self.judge()
    }

    /// A call that had begun failed. Once a call.
    pub fn call_failed(&mut self) -> Option<Judgement> {
        self.failed = self.failed.saturating_add(1);
        self.judge()
    }

    /// Calls, and those of them that failed.
    pub fn calls(&self) -> (u32, u32) {
        (self.calls, self.failed)
    }

    /// How long no instance is made, if it is so.
    pub fn rests(&self, now: Duration) -> Option<Duration> {
        self.breaker.rests(now)
    }

    fn judge(&mut self) -> Option<Judgement> {
        let Trial { min_calls, failed_percent, .. } = self.trial?;
        let share = u64::from(self.failed) * 100 >= u64::from(failed_percent) * u64::from(self.calls);
        if self.calls < min_calls || self.failed == 0 || !share {
            return None;
        }
        self.trial = None;
        Some(Judgement::Failed { failed: self.failed, calls: self.calls })
    }
}

/// Open: no instance is made. After a while one is, to try; it decides.
#[derive(Debug, Default)]
struct Breaker {
    state: State,
    /// How often it opened in a row: each time it stays open twice as long.
    opened: u32,
}

#[derive(Debug)]
enum State {
    /// Instances that were made since `since`, and broke.
    Closed {
        since: Duration,
        made: u32,
        broke: u32,
    },
    Open {
        until: Duration,
    },
    /// One instance is out; if nothing is heard of it by then, another one is made.
    Probing {
        until: Duration,
    },
}

impl Default for State {
    fn default() -> State {
        State::Closed { since: Duration::ZERO, made: 0, broke: 0 }
    }
}

impl Breaker {
    fn instance(&mut self, now: Duration) -> Result<Pass, Duration> {
        match &mut self.state {
            State::Closed { since, made, broke } => {
                if now.saturating_sub(*since) >= limits::BREAKER_WINDOW {
                    // A quiet window: the next time counts as the first.
                    if *broke == 0 {
                        self.opened = 0;
                    }
                    (*since, *made, *broke) = (now, 0, 0);
                }
                *made = made.saturating_add(1);
                Ok(Pass { probe: false })
            }
            State::Open { until } | State::Probing { until } if now < *until => Err(*until - now),
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { until: now + limits::BREAKER_PROBE };
                Ok(Pass { probe: true })
            }
        }
    }

    fn answered(&mut self, now: Duration, pass: Pass) -> Option<Turn> {
        // Instances from before it opened prove nothing: their calls may be of another kind.
        if !pass.probe || !matches!(self.state, State::Probing { .. }) {
            return None;
        }
        self.state = State::Closed { since: now, made: 1, broke: 0 };
        Some(Turn::Closed)
    }

    fn broke(&mut self, now: Duration, pass: Pass) -> Option<Turn> {
        match &mut self.state {
            State::Closed { made, broke, .. } => {
                *broke = broke.saturating_add(1);
                let share = u64::from(*broke) * 100 >= u64::from(limits::BREAKER_PERCENT) * u64::from(*made);
                (*broke >= limits::BREAKER_FAILURES && share).then(|| self.open(now))
            }
            State::Probing { .. } if pass.probe => Some(self.open(now)),
            // Of instances that were made before it opened.
            State::Open { .. } | State::Probing { .. } => None,
        }
    }

    fn open(&mut self, now: Duration) -> Turn {
        let factor = 2u32.saturating_pow(self.opened);
        let for_ = limits::BREAKER_FIRST.saturating_mul(factor).min(limits::BREAKER_LAST);
        self.opened = self.opened.saturating_add(1);
        self.state = State::Open { until: now + for_ };
        Turn::Opened { for_ }
    }

    fn rests(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Open { until } | State::Probing { until } if now < until => Some(until - now),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// An instance that breaks, if one may be made.
    fn breaks(health: &mut Health, now: Duration) -> Option<Turn> {
        let pass = health.instance(now).expect("the breaker is closed");
        health.broke(now, pass)
    }

    fn opened(health: &mut Health, now: Duration) -> Duration {
        for _ in 1..limits::BREAKER_FAILURES {
            assert_eq!(breaks(health, now), None);
        }
        match breaks(health, now) {
            Some(Turn::Opened { for_ }) => for_,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_version_that_always_fails_is_tried_ever_more_rarely() {
        let mut health = Health::new(None);
        let mut now = seconds(100);
        assert_eq!(opened(&mut health, now), S);
        let mut waits = Vec::new();
        // A thousand calls a second for an hour.
        let (mut made, end) = (0, now + seconds(3600));
        while now < end {
            match health.instance(now) {
                Err(left) => {
                    assert_eq!(health.rests(now), Some(left));
                    now += left.min(seconds(1)).max(Duration::from_millis(1));
                }
                Ok(pass) => {
                    made += 1;
                    // While it is out nobody else gets one.
                    assert!(health.instance(now).is_err());
                    let Some(Turn::Opened { for_ }) = health.broke(now, pass) else { panic!("a probe decides") };
                    waits.push(for_.as_secs());
                }
            }
        }
        assert_eq!(waits[..10], [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(made < 22, "{made}");
    }

    #[test]
    fn one_answer_of_a_probe_closes_it_and_a_relapse_waits_longer() {
        let mut health = Health::new(None);
        assert_eq!(opened(&mut health, S), S);
        assert_eq!(health.instance(S), Err(S));
        let pass = health.instance(seconds(2)).expect("one to try");
        assert_eq!(health.answered(seconds(2), pass), Some(Turn::Closed));
        assert_eq!(health.answered(seconds(2), pass), None, "said once");
        assert_eq!(health.rests(seconds(2)), None);
        assert_eq!(opened(&mut health, seconds(3)), seconds(2));
        // It worked for a whole window after that: forgotten.
        let pass = health.instance(seconds(5)).expect("one to try");
        health.answered(seconds(5), pass);
        let later = seconds(5) + limits::BREAKER_WINDOW;
        assert!(health.instance(later).is_ok());
        assert_eq!(opened(&mut health, later), S);
    }

    #[test]
    fn a_probe_of_which_nothing_is_heard_is_followed_by_another() {
        let mut health = Health::new(None);
        opened(&mut health, S);
        assert!(health.instance(seconds(2)).is_ok());
        assert!(health.instance(seconds(2) + limits::BREAKER_PROBE - S).is_err());
        assert!(health.instance(seconds(2) + limits::BREAKER_PROBE).is_ok());
    }

    #[test]
    fn news_neither_tries_a_version_nor_counts() {
        let mut health = Health::new(None);
        for _ in 0..1000 {
            assert!(health.instance_for_news().is_some());
        }
        assert_eq!(opened(&mut health, S), S);
        assert_eq!(health.instance_for_news(), None);
        assert!(health.instance(seconds(2)).is_ok(), "the one to try is still to be had");
        assert_eq!(health.instance_for_news(), None);
    }

    #[test]
    fn what_was_made_before_it_opened_decides_nothing() {
        let mut health = Health::new(None);
        let old = health.instance(S).expect("closed");
        opened(&mut health, S);
        assert_eq!((health.answered(S, old), health.broke(S, old)), (None, None));
        assert_eq!(health.rests(S), Some(S));
    }

    #[test]
    fn few_failures_among_many_answers_or_over_a_long_time_are_no_reason() {
        let mut health = Health::new(None);
        // One in three, thousands a second.
        for n in 0..3000u64 {
            let now = Duration::from_millis(n);
            let pass = health.instance(now).expect("it stays closed");
            if n % 3 == 0 {
                assert_eq!(health.broke(now, pass), None, "{n}");
            }
        }
        // Every other one: each call is served by its second instance.
        let mut health = Health::new(None);
        for n in 0..3000u64 {
            let now = Duration::from_millis(n);
            assert_eq!(breaks(&mut health, now), None, "{n}");
            health.instance(now).expect("it stays closed");
        }
        // Every one, but one in two seconds.
        let mut health = Health::new(None);
        for n in 0..1000 {
            assert_eq!(breaks(&mut health, seconds(2 * n)), None, "{n}");
        }
    }

    const TRIAL: Trial = Trial { calls: 20, min_calls: 8, failed_percent: 25 };

    /// Calls by whether each fails, and the judgement with the number of calls by then.
    fn judged(trial: Trial, fails: impl Fn(u32) -> bool) -> Option<(u32, Judgement)> {
        let mut health = Health::new(Some(trial));
        let mut told = Vec::new();
        for n in 1..=100 {
            told.extend(health.call_began().map(|judgement| (n, judgement)));
            if fails(n) {
                told.extend(health.call_failed().map(|judgement| (n, judgement)));
            }
        }
        assert!(told.len() <= 1, "judged once: {told:?}");
        told.pop()
    }

    #[test]
    fn a_trial_is_judged_by_the_share_of_failed_calls_once_there_are_enough() {
        let failed = |n, failed| Some((n, Judgement::Failed { failed, calls: n }));
        let proven = Some((21, Judgement::Proven));
        assert_eq!(judged(TRIAL, |_| true), failed(8, 7), "at the eighth call seven have failed");
        assert_eq!(judged(TRIAL, |_| false), proven);
        assert_eq!(judged(TRIAL, |n| n <= 2), failed(8, 2), "a quarter is enough");
        assert_eq!(judged(TRIAL, |n| n <= 1), proven);
        assert_eq!(judged(TRIAL, |n| n % 5 == 0), proven);
        assert_eq!(judged(TRIAL, |n| n % 4 == 0), failed(8, 2));
        assert_eq!(judged(TRIAL, |n| n > 20), proven, "what comes after it does not count");
        assert_eq!(judged(Trial { failed_percent: 0, ..TRIAL }, |_| false), proven, "no failure is no reason");
        assert_eq!(judged(Trial { failed_percent: 100, ..TRIAL }, |n| n != 3), proven);
        assert_eq!(judged(Trial { calls: 0, ..TRIAL }, |_| true), None, "none was asked for");
    }

    #[test]
    fn calls_are_counted_with_and_without_a_trial() {
        let mut health = Health::new(None);
        for _ in 0..3 {
            assert_eq!(health.call_began(), None);
        }
        assert_eq!(health.call_failed(), None);
        assert_eq!(health.calls(), (3, 1));
    }
}
