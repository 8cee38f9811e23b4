//! Values as words (IC-246): `1,234,567`, `2026-11-29` and `14:05` as the prompts that say them, one after the other.
//!
//! A language is a file of `say/` and its line in `LANGUAGES`. Its parts:
//! - A part of rules, `[number]`, `[ordinal]` and others that those name. A rule is a value from which on it holds, then what is said: a
//!   word; `<` how often the value's power of ten goes into it; `>` what is left then, unless that is nothing. `<part`, `>part` say these
//!   by another part's rules, nothing included; `=part` says the whole value by it. `1100/100` divides by 100.
//! - `[signs]`: characters that are said. `[templates]`: `part:field` for each value of a date and a time, and words.
//! - `[currency]`: code, one, several, and a hundredth of it, one and several.
//! - `[spoken]`: what a synthesiser is given for a word.

use crate::limits;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One prompt: the name of its file, and what a synthesiser says where there is no file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    pub name: String,
    pub text: String,
}

const LANGUAGES: &[(&str, &str)] = &[("en", include_str!("say/en.txt"))];
/// Rules that lead to rules: deeper than any number needs.
const DEPTH: u32 = 16;

/// The words of a value, and the language that they are in. The reason of an error does not repeat the value: it may be an account's.
pub fn words(kind: &str, value: &str, language: &str) -> Result<(&'static str, Vec<Word>), String> {
    static KNOWN: LazyLock<Vec<Language>> = LazyLock::new(|| LANGUAGES.iter().map(|(tag, text)| Language::parse(tag, text)).collect());
    let wanted = if language.is_empty() { "en" } else { language };
    let primary = wanted.split(['-', '_']).next().unwrap_or(wanted);
    let find = |tag: &str| KNOWN.iter().find(|language| language.tag.eq_ignore_ascii_case(tag));
    let found = find(wanted).or_else(|| find(primary));
    let language =
        found.ok_or_else(|| format!("language: {} are spoken", LANGUAGES.iter().map(|(tag, _)| *tag).collect::<Vec<_>>().join(", ")))?;
    let names = language.value(kind, value.trim())?;
    if names.is_empty() || names.len() > limits::SAY_WORDS {
        return Err(format!("value: 1 to {} words can be said", limits::SAY_WORDS));
    }
    Ok((language.tag, names.into_iter().map(|name| language.word(name)).collect()))
}

struct Language {
    tag: &'static str,
    rules: BTreeMap<&'static str, Vec<Rule>>,
    signs: BTreeMap<char, &'static str>,
    templates: BTreeMap<&'static str, Vec<&'static str>>,
    currencies: BTreeMap<&'static str, [&'static str; 4]>,
    spoken: BTreeMap<&'static str, String>,
}

struct Rule {
    from: u64,
    divisor: u64,
    items: Vec<&'static str>,
}

type Names = Vec<&'static str>;

impl Language {
    fn parse(tag: &'static str, text: &'static str) -> Language {
        let mut language = Language {
            tag,
            rules: BTreeMap::new(),
            signs: BTreeMap::new(),
            templates: BTreeMap::new(),
            currencies: BTreeMap::new(),
            spoken: BTreeMap::new(),
        };
        let mut part = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                part = name;
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            let rest: Vec<&'static str> = words.collect();
            match (part, rest.as_slice()) {
                // `#` begins a comment, but is a key, too.
                ("signs", [word]) => _ = first.chars().next().map(|sign| language.signs.insert(sign, word)),
                _ if first.starts_with('#') => {}
                ("templates", _) => _ = language.templates.insert(first, rest),
                ("currency", [one, several, part, parts]) => _ = language.currencies.insert(first, [one, several, part, parts]),
                ("spoken", _) => _ = language.spoken.insert(first, rest.join(" ")),
                _ => {
                    let (from, divisor) = first.split_once('/').map_or((first, None), |(from, divisor)| (from, Some(divisor)));
                    let Ok(from) = from.parse::<u64>() else { continue };
                    let ten = || 10u64.pow(from.max(1).ilog10());
                    let divisor = divisor.and_then(|d| d.parse().ok()).filter(|d| *d > 0).unwrap_or_else(ten);
                    language.rules.entry(part).or_default().push(Rule { from, divisor, items: rest });
                }
            }
        }
        language
    }

    fn word(&self, name: &'static str) -> Word {
        let text = self.spoken.get(name).cloned().unwrap_or_else(|| name.replace('-', " "));
        Word { name: name.to_owned(), text }
    }

    fn value(&self, kind: &str, value: &str) -> Result<Names, String> {
        let bad = |how: &str| format!("value: {how}");
        match kind {
            "number" => self.number(value).ok_or_else(|| bad("a number like 1204, 1,204 or -3.5, of at most 15 digits")),
            "digits" => self.digits(value).ok_or_else(|| bad("digits, *, #, + and A to D")),
            "date" => self.date(value).ok_or_else(|| bad("a date like 2026-11-29")),
            "time" => self.time(value).ok_or_else(|| bad("a time like 14:05")),
            "currency" => self.currency(value).ok_or_else(|| {
                let codes: Vec<&str> = self.currencies.keys().copied().collect();
                bad(&format!("an amount like 12.50 EUR; known are {}", codes.join(", ")))
            }),
            _ => Err("kind: number, digits, date, time or currency".into()),
        }
    }

    /// By the last rule that holds for it.
    fn say(&self, part: &str, value: u64, depth: u32, out: &mut Names) -> Option<()> {
        let rule = self.rules.get(part)?.iter().rev().find(|rule| rule.from <= value)?;
        let depth = depth.checked_sub(1)?;
        for item in &rule.items {
            let (how, other) = item.split_at_checked(1)?;
            let own = |other: &'static str| if other.is_empty() { None } else { Some(other) };
            match how {
                "<" => self.say(own(other).unwrap_or(part), value / rule.divisor, depth, out)?,
                ">" => match (own(other), value % rule.divisor) {
                    (None, 0) => {}
                    (other, left) => self.say(other.unwrap_or(part), left, depth, out)?,
                },
                "=" => self.say(other, value, depth, out)?,
                _ => out.push(item),
            }
        }
        Some(())
    }

    fn whole(&self, value: u64) -> Option<Names> {
        let mut out = Vec::new();
        self.say("number", value, DEPTH, &mut out)?;
        Some(out)
    }

    fn number(&self, text: &str) -> Option<Names> {
        let (minus, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let mut out = Vec::new();
        if minus {
            out.push(*self.signs.get(&'-')?);
        }
        out.extend(self.whole(grouped(whole)?)?);
        if let Some(fraction) = fraction {
            plain(fraction)?;
            out.push(*self.signs.get(&'.')?);
            out.extend(self.digits(fraction)?);
        }
        Some(out)
    }

    fn digits(&self, text: &str) -> Option<Names> {
        let mut out = Vec::new();
        for key in text.chars() {
            match key.to_digit(10) {
                Some(digit) => self.say("number", u64::from(digit), DEPTH, &mut out)?,
                // As people write them.
                None if matches!(key, ' ' | '-' | '(' | ')') => {}
                None if key == '.' => return None,
                None => out.push(*self.signs.get(&key.to_ascii_uppercase())?),
            }
        }
        Some(out)
    }

    fn template(&self, name: &str, fields: &[(&str, u64)]) -> Option<Names> {
        let mut out = Vec::new();
        for item in self.templates.get(name)? {
            match item.split_once(':') {
                Some((part, field)) => self.say(part, fields.iter().find(|(name, _)| *name == field)?.1, DEPTH, &mut out)?,
                None => out.push(item),
            }
        }
        Some(out)
    }

    fn date(&self, text: &str) -> Option<Names> {
        let mut parts = text.split('-').map(|part| plain(part).map(|value| (part.len(), value)));
        let ((4, year), (2, month), (2, day), None) = (parts.next()??, parts.next()??, parts.next()??, parts.next()) else { return None };
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        (1..=days).contains(&day).then(|| self.template("date", &[("year", year), ("month", month), ("day", day)]))?
    }

    fn time(&self, text: &str) -> Option<Names> {
        let (hour, minute) = text.split_once(':')?;
        if hour.len() > 2 || minute.len() != 2 {
            return None;
        }
        let (hour, minute) = (plain(hour)?, plain(minute)?);
        if hour > 23 || minute > 59 {
            return None;
        }
        let hour12 = (hour + 11) % 12 + 1;
        self.template("time", &[("hour", hour), ("hour12", hour12), ("minute", minute), ("half", hour / 12)])
    }

    fn currency(&self, text: &str) -> Option<Names> {
        let (amount, code) = text.split_once(' ')?;
        let [one, several, part, parts] = *self.currencies.get(code.trim())?;
        let (minus, amount) = amount.strip_prefix('-').map_or((false, amount), |rest| (true, rest));
        let (whole, cents) = match amount.split_once('.') {
            None => (grouped(amount)?, 0),
            Some((whole, cents)) if cents.len() == 2 => (grouped(whole)?, plain(cents)?),
            Some(_) => return None,
        };
        let mut out = Vec::new();
        if minus {
            out.push(*self.signs.get(&'-')?);
        }
        if whole > 0 || cents == 0 {
            out.extend(self.whole(whole)?);
            out.push(if whole == 1 { one } else { several });
        }
        if cents > 0 {
            if whole > 0 {
                out.extend(self.template("minor", &[])?);
            }
            out.extend(self.whole(cents)?);
            out.push(if cents == 1 { part } else { parts });
        }
        Some(out)
    }
}

/// Nothing but digits, and not too many.
fn plain(text: &str) -> Option<u64> {
    ((1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The same, perhaps in groups of three.
fn grouped(text: &str) -> Option<u64> {
    let mut groups = text.split(',');
    let first = groups.next()?;
    let grouped = text.contains(',');
    if grouped && (first.len() > 3 || !groups.all(|group| group.len() == 3)) {
        return None;
    }
    plain(&text.replace(',', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: &str, value: &str, language: &str) -> Result<String, String> {
        words(kind, value, language).map(|(_, words)| words.into_iter().map(|w| w.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ic_246_values_are_said_in_english() {
        for (kind, value, expected) in [
            ("number", "0", "zero"),
            ("number", "7", "seven"),
            ("number", "13", "thirteen"),
            ("number", "20", "twenty"),
            ("number", "42", "forty two"),
            ("number", "100", "one hundred"),
            ("number", "115", "one hundred fifteen"),
            ("number", "1204", "one thousand two hundred four"),
            ("number", "20000", "twenty thousand"),
            ("number", "1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
            ("number", "1000000007", "one billion seven"),
            (
                "number",
                "999999999999999",
                "nine hundred ninety nine trillion nine hundred ninety nine billion nine hundred ninety nine million nine hundred ninety nine \
                 thousand nine hundred ninety nine",
            ),
            ("number", "-3.50", "minus three point five zero"),
            ("number", " 007 ", "seven"),
            ("digits", "0470-123 45", "zero four seven zero one two three four five"),
            ("digits", "+46*#a", "plus four six star hash a"),
            ("date", "2026-11-29", "november twenty ninth twenty twenty six"),
            ("date", "2000-02-29", "february twenty ninth two thousand"),
            ("date", "2009-05-01", "may first two thousand nine"),
            ("date", "1905-12-31", "december thirty first nineteen oh five"),
            ("date", "1900-01-20", "january twentieth nineteen hundred"),
            ("date", "0987-06-30", "june thirtieth nine hundred eighty seven"),
            ("time", "14:05", "two oh five pm"),
            ("time", "00:00", "twelve am"),
            ("time", "12:30", "twelve thirty pm"),
            ("time", "9:45", "nine forty five am"),
            ("time", "23:59", "eleven fifty nine pm"),
            ("currency", "12.50 EUR", "twelve euros and fifty cents"),
            ("currency", "1 USD", "one dollar"),
            ("currency", "0.01 GBP", "one penny"),
            ("currency", "-1,000.02 SEK", "minus one thousand kronor and two ore"),
            ("currency", "0 EUR", "zero euros"),
        ] {
            for language in ["", "en", "en-GB", "EN-us"] {
                assert_eq!(said(kind, value, language).as_deref(), Ok(expected), "{kind} {value} {language}");
            }
        }
    }

    #[test]
    fn ic_246_what_cannot_be_said_names_the_field_and_not_the_value() {
        for (kind, value, language, field) in [
            ("number", "", "en", "value"),
            ("number", "12,34", "en", "value"),
            ("number", "1e9", "en", "value"),
            ("number", "4711471147114711", "en", "value"),
            ("number", "٣", "en", "value"),
            ("number", "1.", "en", "value"),
            ("digits", "12x", "en", "value"),
            ("digits", "", "en", "value"),
            ("date", "2026-13-01", "en", "value"),
            ("date", "2100-02-29", "en", "value"),
            ("date", "29.11.2026", "en", "value"),
            ("date", "2026-11-29-1", "en", "value"),
            ("time", "24:00", "en", "value"),
            ("time", "14:5", "en", "value"),
            ("currency", "12.5 EUR", "en", "value"),
            ("currency", "12 XXX", "en", "value"),
            ("weight", "1", "en", "kind"),
            ("number", "1", "tlh", "language"),
        ] {
            let why = said(kind, value, language).expect_err(value);
            assert!(why.starts_with(field) && (value.len() < 6 || !why.contains(value)), "{kind} {value}: {why}");
        }
        assert!(said("digits", &"1".repeat(limits::SAY_WORDS + 1), "en").is_err());
    }

    #[test]
    fn ic_246_every_language_says_all_numbers_dates_and_times() {
        for (tag, _) in LANGUAGES {
            for value in (0u64..3000).chain((1..100).map(|n| n * 9_999_999_999u64)) {
                assert!(said("number", &value.to_string(), tag).is_ok_and(|said| !said.is_empty()), "{tag} {value}");
            }
            for year in 1..=9999 {
                let (month, day) = (year % 12 + 1, year % 28 + 1);
                assert!(said("date", &format!("{year:04}-{month:02}-{day:02}"), tag).is_ok(), "{tag} {year}");
            }
            for minute in 0..24 * 60 {
                assert!(said("time", &format!("{}:{:02}", minute / 60, minute % 60), tag).is_ok(), "{tag} {minute}");
            }
            // File names of the words: what a tenant records.
            let all = said("digits", "0123456789*#+ABCD", tag).expect("all keys");
            assert!(all.split(' ').all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')), "{all}");
        }
    }

    #[test]
    fn ic_246_a_synthesiser_is_given_what_it_reads_right() {
        let (_, words) = words("time", "14:05", "en").expect("a time");
        let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(texts, ["two", "oh", "five", "p.m."]);
    }
}
