//! Which of a tenant's versions a session gets: the active one, or one that is tried with a share of the calls.

use super::health::{Health, Judgement, Trial};
use crate::store::Share;
use hookswitch_wasm::{Class, Module};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handler that calls can be given to. What it is never changes; sessions hold it as long as they live.
#[derive(Debug)]
pub struct Version {
    pub domain: Arc<str>,
    /// Counts up in its tenant.
    pub number: u32,
    /// Hex SHA-256 of the component.
    pub hash: String,
    /// Bounds the memory of its instances.
    pub class: Class,
    pub module: Arc<Module>,
    health: Mutex<Health>,
}

impl Version {
    /// `trial`: by what it is judged as long as it is new.
    pub fn new(domain: Arc<str>, number: u32, class: Class, module: Arc<Module>, trial: Option<Trial>) -> Version {
        Version { domain, number, hash: module.hash().to_owned(), class, module, health: Mutex::new(Health::new(trial)) }
    }

    /// Nothing in it is left half done by a panic.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What new sessions of a tenant get.
#[derive(Clone, Debug, Default)]
pub struct Deployment {
    pub active: Option<Arc<Version>>,
    /// Tried with some calls, while the others get the active one.
    pub canary: Option<(Arc<Version>, Share)>,
}

impl Deployment {
    /// `called`: the number, where the session began with a call to one.
    pub fn choose(&self, session_id: &str, called: Option<&str>) -> Option<Arc<Version>> {
        match &self.canary {
            Some((canary, share)) if takes(share, session_id, called) => Some(canary.clone()),
            _ => self.active.clone(),
        }
    }

    pub fn version(&self, number: u32) -> Option<&Arc<Version>> {
        self.active.iter().chain(self.canary.iter().map(|(canary, _)| canary)).find(|version| version.number == number)
    }
}

/// The same session is always decided alike, so that news of it after a restart finds the version that it had.
fn takes(share: &Share, session_id: &str, called: Option<&str>) -> bool {
    match share {
        Share::Numbers(numbers) => called.is_some_and(|called| numbers.iter().any(|number| number == called)),
        Share::Percent(percent) => {
            let digest = Sha256::digest(session_id.as_bytes());
            let (first, _) = digest.split_first_chunk::<4>().expect("a SHA-256 has 32 bytes");
            u32::from_be_bytes(*first) % 100 < u32::from(*percent)
        }
    }
}

/// A version's trial is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub domain: Arc<str>,
    pub number: u32,
    pub judgement: Judgement,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_sessions_is_a_share_and_decided_once() {
        for percent in [1u8, 10, 50, 99] {
            let share = Share::Percent(percent);
            let ids: Vec<String> =
                (0..20_000u64).map(|n| uuid::Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n).to_string()).collect();
            let taken: Vec<bool> = ids.iter().map(|id| takes(&share, id, None)).collect();
            let found = taken.iter().filter(|taken| **taken).count();
            let wanted = 200 * usize::from(percent);
            assert!(found.abs_diff(wanted) < 250, "{percent} %: {found} of {wanted}");
            assert!(ids.iter().zip(&taken).all(|(id, taken)| takes(&share, id, Some("100")) == *taken));
        }
        // Who was in a small share is in a larger one: raising it moves nobody back.
        for n in 0..1000 {
            let id = n.to_string();
            assert!(!takes(&Share::Percent(10), &id, None) || takes(&Share::Percent(20), &id, None));
        }
    }

    #[test]
    fn numbers_are_those_that_were_called() {
        let share = Share::Numbers(vec!["100".into(), "ivr".into()]);
        for (called, taken) in [(Some("100"), true), (Some("ivr"), true), (Some("10"), false), (Some("1000"), false), (None, false)] {
            assert_eq!(takes(&share, "s", called), taken, "{called:?}");
        }
    }
}
