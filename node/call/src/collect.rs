//! The digits of a session: a buffer that holds what was pressed since the last flush, and the collection of one IVR command (SM-009).
//!
//! Pure and without timers of its own: it says when they are due. Phrases, barge-in and recordings are `ivr.rs`'s.

use crate::hook::{Collect, DigitProtection, DtmfParams, DtmfReason};
use hookswitch_proto::Time;
use hookswitch_proto::limits::DIGITS;

/// Digits since the last flush (IC-219). Those that a collection has matched are kept for `dtmfBuffer` but never match again.
#[derive(Debug, Default)]
pub struct DigitBuffer {
    matched: String,
    /// Typed ahead: they count toward the next collection (IC-230).
    pending: String,
    /// Some of them were asked for in this form. It stays with them until they are flushed: a later command that says nothing of it must not
    /// bring a PIN to light.
    protection: Option<DigitProtection>,
}

impl DigitBuffer {
    /// `false`: the buffer is full of digits that nobody has collected yet, this one is dropped.
    pub fn push(&mut self, digit: char) -> bool {
        if self.pending.len() >= DIGITS {
            return false;
        }
        // A menu that never flushes must not go deaf after 64 digits: what was matched already makes room.
        if self.matched.len() + self.pending.len() >= DIGITS && !self.matched.is_empty() {
            self.matched.remove(0);
        }
        self.pending.push(digit);
        true
    }

    pub fn flush(&mut self) {
        self.matched.clear();
        self.pending.clear();
        self.protection = None;
    }

    /// For `dtmfBuffer`: `None` when empty. A digest where digits are protected.
    pub fn text(&self) -> Option<String> {
        let all = format!("{}{}", self.matched, self.pending);
        (!all.is_empty()).then(|| self.protection.as_ref().map_or_else(|| all.clone(), |protection| protection.digest(&all)))
    }

    fn take(&mut self, count: usize) -> String {
        let rest = self.pending.split_off(count.min(self.pending.len()));
        let taken = std::mem::replace(&mut self.pending, rest);
        self.matched.push_str(&taken);
        taken
    }
}

/// Why and with how many digits a collection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub reason: DtmfReason,
    /// Digits of the buffer that it takes, the termination key included.
    taken: usize,
    key: Option<char>,
}

/// The digit collection of one command. Its timers start with [`Collector::phrases_ended`].
#[derive(Debug)]
pub struct Collector {
    spec: Collect,
    since: Option<Time>,
    last_digit: Option<Time>,
}

impl Collector {
    /// Flushes the buffer where the command says so (IC-230), and protects what is and what comes in it (IC-231).
    pub fn new(spec: Collect, buffer: &mut DigitBuffer) -> Collector {
        if spec.flush {
            buffer.flush();
        }
        if spec.encryption.is_some() {
            buffer.protection.clone_from(&spec.encryption);
        }
        Collector { spec, since: None, last_digit: None }
    }

    pub fn phrases_ended(&mut self, at: Time) {
        self.since = Some(at);
    }

    /// A digit that went into the buffer.
    pub fn on_digit(&mut self, at: Time) {
        self.last_digit = Some(at);
    }

    /// Whether the buffer's digits complete the collection: a termination key, or as many as wanted.
    pub fn matched(&self, buffer: &DigitBuffer) -> Option<Match> {
        let max = self.spec.max_digits.map_or(DIGITS, |n| usize::try_from(n).unwrap_or(DIGITS)).min(DIGITS);
        for (i, digit) in buffer.pending.chars().enumerate() {
            if self.is_termination_key(digit) {
                return Some(Match { reason: DtmfReason::TerminationKey, taken: i + 1, key: Some(digit) });
            }
            if i + 1 >= max {
                return Some(Match { reason: DtmfReason::MaxDigits, taken: i + 1, key: None });
            }
        }
        None
    }

    pub fn is_termination_key(&self, digit: char) -> bool {
        self.spec.termination_keys.chars().any(|key| key.eq_ignore_ascii_case(&digit))
    }

    /// Whether it waits for digits at all, if none come.
    pub fn waits(&self) -> bool {
        !self.spec.first_timeout.is_zero()
    }

    /// When waiting ends by itself: firstTimeout from the end of the last phrase, betweenTimeout from the last digit, but never before
    /// the phrases ended. `None` while they play.
    pub fn deadline(&self, buffer: &DigitBuffer) -> Option<Time> {
        let since = self.since?;
        if buffer.pending.is_empty() {
            return Some(since + self.spec.first_timeout);
        }
        Some(self.last_digit.map_or(since, |digit| digit.max(since)) + self.spec.between_timeout)
    }

    pub fn timed_out(&self, now: Time, buffer: &DigitBuffer) -> Option<Match> {
        let reason = if buffer.pending.is_empty() { DtmfReason::FirstTimeout } else { DtmfReason::BetweenTimeout };
        (self.deadline(buffer)? <= now).then(|| self.cut(reason, buffer))
    }

    /// Ends here with what there is: interrupted, or with the recording.
    pub fn cut(&self, reason: DtmfReason, buffer: &DigitBuffer) -> Match {
        Match { reason, taken: buffer.pending.len(), key: None }
    }

    /// A stop digit of a recording that is also a termination key: it never entered the buffer (UR 6.4).
    pub fn stopped_by(&self, key: char, buffer: &DigitBuffer) -> Match {
        Match { reason: DtmfReason::TerminationKey, taken: buffer.pending.len(), key: Some(key) }
    }
}

impl Match {
    pub fn took_digits(self) -> bool {
        self.taken > 0 || self.key.is_some()
    }

    /// Takes the digits out of the buffer and says what they were (IC-220 to IC-224).
    pub fn take(self, buffer: &mut DigitBuffer, collector: Option<&Collector>) -> DtmfParams {
        let mut digits = buffer.take(self.taken);
        if self.key.is_some() && digits.ends_with(|last| Some(last) == self.key) {
            digits.pop();
        }
        let encryption = collector.and_then(|c| c.spec.encryption.clone());
        let dtmf_match = encryption.as_ref().map_or_else(|| digits.clone(), |protection| protection.digest(&digits));
        DtmfParams { dtmf_match, reason: self.reason, matched_termination_key: self.key, encryption }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MENU: Collect = Collect {
        flush: false,
        max_digits: Some(3),
        first_timeout: Duration::from_secs(5),
        between_timeout: Duration::from_secs(2),
        termination_keys: String::new(),
        encryption: None,
    };

    /// Presses `keys` at `(ms, key)` into a collection whose phrases end at 1 s, and says when and how it ends.
    fn check(spec: Collect, ahead: &str, keys: &[(u64, char)], expected: (u64, &str, DtmfReason, Option<char>)) {
        let mut buffer = DigitBuffer::default();
        ahead.chars().for_each(|c| assert!(buffer.push(c)));
        let mut collector = Collector::new(spec.clone(), &mut buffer);
        let mut keys = keys.iter().copied().peekable();
        let mut now = 0;
        loop {
            if now >= 1000 && collector.since.is_none() {
                collector.phrases_ended(Time::from_millis(1000));
            }
            while let Some((_, key)) = keys.next_if(|(ms, _)| *ms <= now) {
                assert!(buffer.push(key));
                collector.on_digit(Time::from_millis(now));
            }
            if now >= 1000 {
                let over = collector.matched(&buffer).or_else(|| collector.timed_out(Time::from_millis(now), &buffer));
                if let Some(over) = over {
                    let params = over.take(&mut buffer, None);
                    let got = (now, params.dtmf_match.as_str(), params.reason, params.matched_termination_key);
                    assert_eq!(got, expected, "{spec:?} {ahead} {keys:?}");
                    return;
                }
            }
            now += 100;
            assert!(now < 60_000, "the collection never ends");
        }
    }

    #[test]
    fn ic_233_max_digits_end_the_collection() {
        check(MENU, "", &[(1500, '1'), (2000, '2'), (2500, '3')], (2500, "123", DtmfReason::MaxDigits, None));
        check(Collect { max_digits: Some(1), ..MENU }, "", &[(200, '7')], (1000, "7", DtmfReason::MaxDigits, None));
        // No maximum: the buffer's.
        let many: Vec<(u64, char)> = (0..70).map(|i| (1000 + 100 * i, '5')).take(DIGITS).collect();
        check(Collect { max_digits: None, ..MENU }, "", &many, (7300, &"5".repeat(DIGITS), DtmfReason::MaxDigits, None));
        check(Collect { max_digits: Some(1000), ..MENU }, "", &many, (7300, &"5".repeat(DIGITS), DtmfReason::MaxDigits, None));
    }

    #[test]
    fn ic_234_first_timeout_counts_from_the_end_of_the_last_phrase() {
        check(MENU, "", &[], (6000, "", DtmfReason::FirstTimeout, None));
        check(Collect { first_timeout: Duration::ZERO, ..MENU }, "", &[], (1000, "", DtmfReason::FirstTimeout, None));
        assert_eq!(Collect::default().first_timeout, Duration::from_secs(30));
    }

    #[test]
    fn ic_235_between_timeout_counts_from_the_last_digit() {
        check(MENU, "", &[(3000, '1')], (5000, "1", DtmfReason::BetweenTimeout, None));
        check(MENU, "", &[(3000, '1'), (4900, '2')], (6900, "12", DtmfReason::BetweenTimeout, None));
        // Pressed while a phrase played: not before its end.
        check(MENU, "", &[(500, '1')], (3000, "1", DtmfReason::BetweenTimeout, None));
        assert_eq!(Collect::default().between_timeout, Duration::from_secs(3));
    }

    #[test]
    fn ic_221_223_236_any_termination_key_ends_it_and_is_left_out() {
        let keys = Collect { termination_keys: "#*".into(), ..MENU };
        check(keys.clone(), "", &[(1500, '1'), (2000, '#')], (2000, "1", DtmfReason::TerminationKey, Some('#')));
        check(keys.clone(), "", &[(1500, '*')], (1500, "", DtmfReason::TerminationKey, Some('*')));
        // The key as the third digit: it ends the collection, not the count.
        check(keys.clone(), "12", &[(1500, '#')], (1500, "12", DtmfReason::TerminationKey, Some('#')));
        // Two equal keys: only the last one is the key.
        check(Collect { termination_keys: "a".into(), ..MENU }, "", &[(1500, 'A')], (1500, "", DtmfReason::TerminationKey, Some('A')));
    }

    #[test]
    fn ic_230_type_ahead_counts_unless_flushed() {
        check(MENU, "12", &[(1500, '3')], (1500, "123", DtmfReason::MaxDigits, None));
        check(MENU, "12345", &[], (1000, "123", DtmfReason::MaxDigits, None));
        check(Collect { flush: true, ..MENU }, "12345", &[], (6000, "", DtmfReason::FirstTimeout, None));
    }

    #[test]
    fn ic_238_all_sixteen_keys_are_digits() {
        for key in hookswitch_proto::media::DIGITS {
            check(Collect { max_digits: Some(1), ..MENU }, "", &[(1500, key)], (1500, &key.to_string(), DtmfReason::MaxDigits, None));
        }
    }

    #[test]
    fn ic_219_the_buffer_keeps_matched_digits_but_matches_them_once() {
        let mut buffer = DigitBuffer::default();
        assert_eq!(buffer.text(), None);
        "12#9".chars().for_each(|c| assert!(buffer.push(c)));
        let spec = Collect { termination_keys: "#".into(), max_digits: None, ..MENU };
        let first = Collector::new(spec.clone(), &mut buffer).matched(&buffer).expect("the key is there");
        assert_eq!(first.take(&mut buffer, None).dtmf_match, "12");
        assert_eq!(buffer.text().as_deref(), Some("12#9"));
        let second = Collector::new(spec.clone(), &mut buffer);
        assert_eq!(second.matched(&buffer), None, "only 9 is left");
        assert_eq!(second.cut(DtmfReason::Interrupted, &buffer).take(&mut buffer, None).dtmf_match, "9");
        Collector::new(Collect { flush: true, ..spec }, &mut buffer);
        assert_eq!(buffer.text(), None);
    }

    #[test]
    fn a_full_buffer_drops_new_digits_but_never_goes_deaf() {
        let mut buffer = DigitBuffer::default();
        assert_eq!((0..100).filter(|_| buffer.push('1')).count(), DIGITS);
        let all = Collector::new(MENU, &mut buffer).cut(DtmfReason::Interrupted, &buffer);
        assert_eq!(all.take(&mut buffer, None).dtmf_match.len(), DIGITS);
        assert!(buffer.push('2'), "matched digits make room");
        assert_eq!(buffer.text().map(|t| t.len()), Some(DIGITS));
    }

    #[test]
    fn ic_224_231_protected_digits_never_leave_the_buffer_in_the_clear() {
        let pepper = DigitProtection::Md5 { salt: "pepper".into() };
        let mut buffer = DigitBuffer::default();
        let spec = Collect { termination_keys: "#".into(), max_digits: None, encryption: Some(pepper.clone()), ..MENU };
        let collector = Collector::new(spec.clone(), &mut buffer);
        assert_eq!(buffer.text(), None);
        "4711#".chars().for_each(|c| assert!(buffer.push(c)));
        assert_eq!(buffer.text(), Some(pepper.digest("4711#")), "before they are matched, too");
        let params = collector.matched(&buffer).expect("the key is there").take(&mut buffer, Some(&collector));
        assert_eq!((params.dtmf_match, params.encryption), (pepper.digest("4711"), Some(pepper.clone())));
        // A command that asks for nothing of the kind: its own digits are in the clear, the buffer that holds the others is not.
        let plain = Collector::new(Collect { encryption: None, ..spec.clone() }, &mut buffer);
        "5#".chars().for_each(|c| assert!(buffer.push(c)));
        let params = plain.matched(&buffer).expect("the key is there").take(&mut buffer, Some(&plain));
        assert_eq!((params.dtmf_match.as_str(), params.encryption), ("5", None));
        assert_eq!(buffer.text(), Some(pepper.digest("4711#5#")));
        Collector::new(Collect { encryption: None, flush: true, ..spec }, &mut buffer);
        assert!(buffer.push('6'));
        assert_eq!(buffer.text().as_deref(), Some("6"));
    }
}
