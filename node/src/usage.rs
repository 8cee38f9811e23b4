//! What tenants use, measured every [`limits::USAGE_EVERY`]: CPU time of their handlers, and bytes that lie here. It goes into the days of
//! `store/usage.rs`, and tells the switch whose month or storage is used up.
//!
//! A crash loses CPU time since the last measurement. Storage goes on from the last measurement, also over the time that the node was down. Calls
//! and recordings are counted where they end, and not here; calls that were up when a node was killed are on no bill.
//!
//! Start with [`judge`], which decides, and [`UsageThread`], which measures.

use crate::api::first_of_month;
use crate::guest::Guests;
use crate::inbox::SwitchInbox;
use crate::limits;
use crate::prompt_files::bytes_in;
use crate::store::{self, Measured, Store, StoreError, TenantRow, wall_ms};
use hookswitch_call::{Input, Quota, Spent};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;

const DAY_MS: u64 = 86_400_000;

/// Whose quota is used up, and which are nearly so: tenant, quota, and how much of it in parts of a hundred.
pub fn judge(
    tenants: &[TenantRow],
    answered_ms: &BTreeMap<String, u64>,
    bytes: &BTreeMap<String, u64>,
) -> (Spent, Vec<(String, Quota, u64)>) {
    let (mut spent, mut near) = (Spent::default(), Vec::new());
    for tenant in tenants {
        let used = |of: &BTreeMap<String, u64>| u128::from(of.get(&tenant.domain).copied().unwrap_or(0));
        let minutes = tenant.quotas.minutes_per_month.map(|most| (Quota::Minutes, used(answered_ms), u128::from(most) * 60_000));
        let storage = tenant.quotas.storage_bytes.map(|most| (Quota::Storage, used(bytes), u128::from(most)));
        for (quota, used, most) in [minutes, storage].into_iter().flatten() {
            if used >= most {
                let over = if quota == Quota::Minutes { &mut spent.minutes } else { &mut spent.storage };
                over.insert(tenant.domain.clone());
            }
            let part = u64::try_from(used * 100 / most.max(1)).unwrap_or(u64::MAX);
            if part >= limits::QUOTA_WARNING {
                near.push((tenant.domain.clone(), quota, part));
            }
        }
    }
    (spent, near)
}

/// The thread that measures. Stop it to have the last of it on disk.
pub struct UsageThread {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What it measures, and whom it tells.
struct Meter {
    store: Store,
    guests: Guests,
    inbox: SwitchInbox,
    /// One folder of prompts per tenant.
    prompts: PathBuf,
    /// CPU time of each tenant as it was written last, in microseconds since the start.
    cpu_us: BTreeMap<String, u64>,
    spent: Spent,
    warned: BTreeSet<(String, Quota)>,
    measured_at: u64,
}

impl UsageThread {
    /// `prompts`: the folder with one folder of prompts per tenant.
    pub fn start(store: Store, guests: Guests, inbox: SwitchInbox, prompts: PathBuf) -> io::Result<UsageThread> {
        let (stop, stopped) = mpsc::channel();
        let measured_at = store.setting(store::MEASURED_AT).ok().flatten().and_then(|at| at.parse().ok()).unwrap_or_else(wall_ms);
        let (cpu_us, warned) = (BTreeMap::new(), BTreeSet::new());
        let mut meter = Meter { store, guests, inbox, prompts, cpu_us, spent: Spent::default(), warned, measured_at };
        let thread = std::thread::Builder::new().name("usage".into()).spawn(move || {
            loop {
                if let Err(error) = meter.measure(wall_ms()) {
                    tracing::warn!(%error, "usage could not be written; it is tried again");
                }
                if !matches!(stopped.recv_timeout(limits::USAGE_EVERY), Err(RecvTimeoutError::Timeout)) {
                    // What was used since then.
                    let _ = meter.measure(wall_ms());
                    return;
                }
            }
        })?;
        Ok(UsageThread { stop, thread })
    }

    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that measures usage panicked");
        }
    }
}

impl Meter {
    fn measure(&mut self, now: u64) -> Result<(), StoreError> {
        let tenants = self.store.tenants()?;
        let mut bytes = self.store.recorded_bytes()?;
        for tenant in &tenants {
            let prompts = bytes_in(&self.prompts.join(&tenant.domain));
            if prompts > 0 {
                *bytes.entry(tenant.domain.clone()).or_default() += prompts;
            }
        }
        let cpu: BTreeMap<String, u64> =
            self.guests.stats().into_iter().map(|(domain, stats)| (domain.to_string(), stats.cpu_us)).collect();
        let mut measured: BTreeMap<String, Measured> =
            bytes.iter().map(|(domain, n)| (domain.clone(), Measured { guest_cpu_us: 0, storage: *n })).collect();
        for (domain, total) in &cpu {
            let before = self.cpu_us.get(domain).copied().unwrap_or(0);
            measured.entry(domain.clone()).or_default().guest_cpu_us = total.saturating_sub(before);
        }
        self.store.add_measured(self.measured_at, now, measured)?;
        (self.cpu_us, self.measured_at) = (cpu, now);

        let answered = self.store.answered_since(first_of_month(now / DAY_MS))?;
        let (spent, near) = judge(&tenants, &answered, &bytes);
        if spent != self.spent {
            self.inbox.send(Input::Spent(spent.clone()));
            self.spent = spent;
        }
        for (domain, quota, part) in &near {
            if self.warned.insert((domain.clone(), *quota)) {
                let name = quota.name();
                tracing::warn!(domain, quota = name, part, "a tenant's quota is nearly used up");
                self.guests.complain(domain, &format!("{part} % of the quota {name} is used"));
            }
        }
        self.warned.retain(|(domain, quota)| near.iter().any(|(d, q, _)| d == domain && q == quota));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Quotas;

    #[test]
    fn a_quota_warns_at_80_percent_and_is_used_up_at_100() {
        let quotas = Quotas { minutes_per_month: Some(10), storage_bytes: Some(1000), ..Quotas::default() };
        let tenants = [
            TenantRow { domain: "a.example".into(), quotas, ..TenantRow::default() },
            TenantRow { domain: "free.example".into(), ..TenantRow::default() },
            TenantRow {
                domain: "none.example".into(),
                quotas: Quotas { storage_bytes: Some(0), ..Quotas::default() },
                ..TenantRow::default()
            },
        ];
        let used = |minutes_ms, bytes| {
            let of = |n: u64| BTreeMap::from([("a.example".to_owned(), n), ("free.example".to_owned(), u64::MAX)]);
            let (spent, near) = judge(&tenants, &of(minutes_ms), &of(bytes));
            let is = |over: &BTreeSet<String>| over.contains("a.example");
            assert!(!spent.minutes.contains("free.example") && spent.storage.contains("none.example"));
            (
                is(&spent.minutes),
                is(&spent.storage),
                near.into_iter().filter(|(d, ..)| d == "a.example").map(|(_, q, part)| (q, part)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(used(0, 0), (false, false, vec![]));
        assert_eq!(used(479_999, 799), (false, false, vec![]));
        assert_eq!(used(480_000, 800), (false, false, vec![(Quota::Minutes, 80), (Quota::Storage, 80)]));
        assert_eq!(used(600_000, 999), (true, false, vec![(Quota::Minutes, 100), (Quota::Storage, 99)]));
        assert_eq!(used(1, 2000), (false, true, vec![(Quota::Storage, 200)]));
    }
}
