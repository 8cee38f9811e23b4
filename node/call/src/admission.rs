//! What a tenant may have of the node's calls: how many at a time, how many a second, and whether its month or its storage is used up. What is
//! used up is measured outside, from what is on disk, and comes in as an input ([`Spent`]); the rest is counted here.
//!
//! Not here: what a guest may use (the guest room's), and the node's own maximum of sessions (`switch.rs`). Start with `Admission::admit`.

use crate::door::{Counter, Tenant};
use hookswitch_proto::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a tenant has used up. Named as its configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quota {
    /// Calls at a time.
    Sessions,
    /// Calls a second.
    Rate,
    /// Answered minutes of this month.
    Minutes,
    /// Bytes of recordings and prompts.
    Storage,
}

impl Quota {
    pub fn name(self) -> &'static str {
        match self {
            Quota::Sessions => "max_sessions",
            Quota::Rate => "calls_per_second",
            Quota::Minutes => "minutes_per_month",
            Quota::Storage => "storage_bytes",
        }
    }

    pub(crate) fn counter(self) -> Counter {
        match self {
            Quota::Sessions => Counter::QuotaSessions,
            Quota::Rate => Counter::QuotaRate,
            Quota::Minutes => Counter::QuotaMinutes,
            Quota::Storage => Counter::QuotaStorage,
        }
    }

    /// How a caller is refused, with the seconds of Retry-After. Not 503: who gets one sends nothing more to this node for a while (RFC 3261
    /// 21.5.4), and a trunk carries the calls of other tenants too. 486 (21.4.24) and 480 (21.4.18) are about the one who was called.
    pub fn refusal(self) -> (u16, Option<u32>) {
        match self {
            Quota::Sessions => (486, None),
            Quota::Rate => (480, Some(1)),
            Quota::Minutes | Quota::Storage => (480, Some(3600)),
        }
    }
}

/// Tenants that have used up what is measured outside. Each one replaces the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Their month's minutes: no new calls but to emergency numbers.
    pub minutes: BTreeSet<String>,
    /// Their storage: no new recordings.
    pub storage: BTreeSet<String>,
}

/// The tenants' calls, as admission counts them.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Live sessions of each tenant.
    live: BTreeMap<Arc<str>, usize>,
    /// When the next call of a tenant would come if all came evenly (GCRA), of those with a rate.
    due: BTreeMap<Arc<str>, Time>,
}

impl Admission {
    /// Whether this tenant may have one more call now. A call that is admitted counts for its rate; [`Admission::began`] makes it live.
    pub fn admit(&mut self, now: Time, tenant: &Tenant, spent: &Spent) -> Result<(), Quota> {
        if self.live(&tenant.domain) >= tenant.max_sessions {
            return Err(Quota::Sessions);
        }
        if spent.minutes.contains(&*tenant.domain) {
            return Err(Quota::Minutes);
        }
        let Some(rate) = tenant.calls_per_second else { return Ok(()) };
        let Some(apart) = Duration::from_secs(1).checked_div(rate) else { return Err(Quota::Rate) };
        let due = self.due.get(&tenant.domain).copied().unwrap_or(now).max(now);
        // A second's worth at once: calls come in bunches.
        if due.since(now) + apart > Duration::from_secs(1) {
            return Err(Quota::Rate);
        }
        self.due.insert(tenant.domain.clone(), due + apart);
        Ok(())
    }

    pub fn began(&mut self, domain: &Arc<str>) {
        *self.live.entry(domain.clone()).or_default() += 1;
    }

    pub fn ended(&mut self, domain: &Arc<str>) {
        if let Some(n) = self.live.get_mut(domain) {
            *n -= 1;
            if *n == 0 {
                self.live.remove(domain);
            }
        }
    }

    /// Forgets rates of tenants that are no longer there.
    pub fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.due.retain(|domain, _| is_known(domain));
    }

    fn live(&self, domain: &Arc<str>) -> usize {
        self.live.get(domain).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(max_sessions: usize, calls_per_second: Option<u32>) -> Tenant {
        Tenant { max_sessions, calls_per_second, ..Tenant::new("a.test") }
    }

    #[test]
    fn so_many_calls_at_a_time() {
        let (tenant, mut admission) = (tenant(2, None), Admission::default());
        for expected in [Ok(()), Ok(()), Err(Quota::Sessions)] {
            let admitted = admission.admit(Time::ZERO, &tenant, &Spent::default());
            assert_eq!(admitted, expected);
            if admitted.is_ok() {
                admission.began(&tenant.domain);
            }
        }
        admission.ended(&tenant.domain);
        assert_eq!(admission.admit(Time::ZERO, &tenant, &Spent::default()), Ok(()));
    }

    #[test]
    fn so_many_calls_a_second_and_a_second_of_them_at_once() {
        let (tenant, mut admission) = (tenant(1000, Some(4)), Admission::default());
        let mut admitted = |ms| admission.admit(Time::from_millis(ms), &tenant, &Spent::default()).is_ok();
        assert_eq!((0..6).filter(|_| admitted(1000)).count(), 4, "a bunch");
        assert_eq!((0..6).filter(|_| admitted(1250)).count(), 1, "a quarter of a second later");
        assert_eq!((0..6).filter(|_| admitted(1499)).count(), 0);
        assert_eq!((0..6).filter(|_| admitted(9000)).count(), 4, "a pause saves no more than a second's worth");
        // Ten times too many, for ten seconds: 4 at once, and 4 each second.
        let through = (0..400).filter(|i| admitted(20_000 + i * 25)).count();
        assert!((43..=44).contains(&through), "{through}");
    }

    #[test]
    fn nothing_at_all_is_a_rate_too() {
        let (tenant, mut admission) = (tenant(1000, Some(0)), Admission::default());
        assert_eq!(admission.admit(Time::ZERO, &tenant, &Spent::default()), Err(Quota::Rate));
    }

    #[test]
    fn a_spent_month_admits_nobody_and_a_full_storage_does() {
        let (tenant, mut admission) = (tenant(10, None), Admission::default());
        let of = |domain: &str| BTreeSet::from([domain.to_owned()]);
        let spent = |minutes: &str, storage: &str| Spent { minutes: of(minutes), storage: of(storage) };
        assert_eq!(admission.admit(Time::ZERO, &tenant, &spent("a.test", "")), Err(Quota::Minutes));
        assert_eq!(admission.admit(Time::ZERO, &tenant, &spent("b.test", "a.test")), Ok(()));
    }
}
