//! `Idempotency-Key` (IC-015): a client that did not hear the answer to "place a call" asks again and gets the first answer, not a second
//! call. Only what was carried out is remembered: a command that was refused changed nothing and may be tried again.
//!
//! Pure: the time is an argument.

use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long an answer is kept: longer than a client retries.
pub(super) const KEPT: Duration = Duration::from_secs(600);
/// Keys of one tenant: with some 300 bytes each this is 3 MB. More: the oldest is forgotten.
const KEYS: usize = 10_000;
/// Bytes of a key; a UUID has 36.
pub(super) const KEY: usize = 255;

/// Answers to start and place commands, by tenant and key.
#[derive(Default)]
pub(super) struct Answers {
    tenants: HashMap<String, Tenant>,
}

#[derive(Default)]
struct Tenant {
    known: HashMap<String, Entry>,
    /// Oldest first; a key that was dropped meanwhile is passed over.
    order: VecDeque<(Duration, String)>,
}

struct Entry {
    at: Duration,
    request: [u8; 32],
    /// `None`: still under way.
    answer: Option<Value>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Begun {
    /// The first of its key: carry it out, then `finish`.
    Fresh,
    Repeated(Value),
    /// The same key came with another request.
    Other,
    UnderWay,
}

impl Answers {
    /// `request`: a hash of operation and body.
    pub(super) fn begin(&mut self, now: Duration, domain: &str, key: &str, request: [u8; 32]) -> Begun {
        let tenant = self.tenants.entry(domain.to_owned()).or_default();
        tenant.forget(now);
        if let Some(entry) = tenant.known.get(key) {
            return match &entry.answer {
                _ if entry.request != request => Begun::Other,
                Some(answer) => Begun::Repeated(answer.clone()),
                None => Begun::UnderWay,
            };
        }
        tenant.known.insert(key.to_owned(), Entry { at: now, request, answer: None });
        tenant.order.push_back((now, key.to_owned()));
        Begun::Fresh
    }

    /// `None`: it was refused, and the key is free again.
    pub(super) fn finish(&mut self, domain: &str, key: &str, answer: Option<Value>) {
        let Some(tenant) = self.tenants.get_mut(domain) else { return };
        match (tenant.known.get_mut(key), answer) {
            (Some(entry), Some(answer)) => entry.answer = Some(answer),
            _ => drop(tenant.known.remove(key)),
        }
    }
}

impl Tenant {
    fn forget(&mut self, now: Duration) {
        while let Some((at, key)) = self.order.front()
            && (now.saturating_sub(*at) >= KEPT || self.order.len() >= KEYS)
        {
            if self.known.get(key).is_some_and(|entry| entry.at == *at) {
                self.known.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ic_015_the_same_key_gets_the_first_answer_for_ten_minutes() {
        let mut answers = Answers::default();
        assert_eq!(answers.begin(at(0), "a", "k", A), Begun::Fresh);
        assert_eq!(answers.begin(at(1), "a", "k", A), Begun::UnderWay);
        answers.finish("a", "k", Some(Value::from(7)));
        assert_eq!(answers.begin(at(599), "a", "k", A), Begun::Repeated(Value::from(7)));
        assert_eq!(answers.begin(at(599), "a", "k", B), Begun::Other);
        assert_eq!(answers.begin(at(599), "b", "k", B), Begun::Fresh, "another tenant's keys are its own");
        assert_eq!(answers.begin(at(600), "a", "k", B), Begun::Fresh);
    }

    #[test]
    fn ic_015_what_was_refused_may_be_tried_again() {
        let mut answers = Answers::default();
        assert_eq!(answers.begin(at(0), "a", "k", A), Begun::Fresh);
        answers.finish("a", "k", None);
        assert_eq!(answers.begin(at(1), "a", "k", B), Begun::Fresh);
        answers.finish("a", "k", Some(Value::Null));
        // The first use's place in the order does not end the second one's time.
        assert_eq!(answers.begin(at(600), "a", "k", B), Begun::Repeated(Value::Null));
        assert_eq!(answers.begin(at(601), "a", "k", B), Begun::Fresh);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut answers = Answers::default();
        for n in 0..KEYS + 10 {
            assert_eq!(answers.begin(at(0), "a", &n.to_string(), A), Begun::Fresh);
        }
        assert!(answers.tenants["a"].known.len() <= KEYS && answers.tenants["a"].order.len() <= KEYS);
        assert_eq!(answers.begin(at(0), "a", "0", A), Begun::Fresh, "the oldest is forgotten");
    }
}
