//! The scenario file: one call, and the world around it, in TOML. Every key and what it means when it is left out is here; whatever is wrong is
//! one line that names file, line and key. sdk/README.md shows it to those who write handlers.

use super::limits;
use super::step::{Step, duration};
use hookswitch_call::Destination;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A call as the file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Decides ids, ports and what the handler takes for chance. `--seed` goes before it.
    #[serde(default = "one")]
    pub seed: u64,
    /// User part of the caller's address.
    #[serde(default = "alice")]
    pub caller: String,
    /// The number that is called.
    #[serde(default = "number")]
    pub number: String,
    /// Headers of the INVITE.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The wall clock when the call comes in.
    pub start: Option<toml::value::Datetime>,
    /// An unanswered call is cancelled then.
    #[serde(default = "minute")]
    pub give_up: Span,
    /// The caller hangs up then, if the call is not over.
    #[serde(default = "usual")]
    pub longest: Span,
    /// Names of prompts, and how long they play.
    #[serde(default)]
    pub prompts: BTreeMap<String, Span>,
    /// A folder of WAV files, from the scenario's own folder.
    pub prompt_folder: Option<PathBuf>,
    /// What plays in place of a prompt that is in neither.
    #[serde(default)]
    pub other_prompts: Others,
    /// Whom the handler may call; left out: anybody in the scenario.
    pub destinations: Option<Vec<Address>>,
    /// The tenant's fallback.
    #[serde(default = "unavailable")]
    pub fallback_status: u16,
    #[serde(default)]
    pub fallback_files: Vec<String>,
    pub error_prompt: Option<String>,
    /// The tenant's settings for the handler.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// What other servers answer the handler, in turn.
    #[serde(default)]
    pub http: Vec<Canned>,
    /// Who can be called: `sip:NAME@NAME.sim`.
    #[serde(default, rename = "callee")]
    pub callees: Vec<Callee>,
    /// From the answer on, one after the other.
    #[serde(default, deserialize_with = "steps")]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub expect: Expect,
    /// Where the file lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What must come of it; what is left out does not matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The final status of the caller's INVITE.
    pub status: Option<u16>,
    /// The reason that session-completed gives.
    pub reason: Option<String>,
    /// Parts of lines of the ladder that must come in this order, others between them.
    #[serde(default)]
    pub lines: Vec<String>,
    /// No hook took more instructions.
    pub most_instructions: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callee {
    pub name: String,
    /// Rings so long before it does the one or the other; neither: it rings on.
    #[serde(default)]
    pub rings: Span,
    #[serde(default)]
    pub answers: bool,
    /// With this status.
    pub refuses: Option<u16>,
}

/// An answer of another server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canned {
    #[serde(default = "get")]
    pub method: String,
    pub url: String,
    #[serde(default = "ok")]
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    /// It takes so long.
    #[serde(default)]
    pub after: Span,
    /// No answer at all: this error.
    pub error: Option<String>,
}

/// A time as people write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        duration(&String::deserialize(from)?).map(Span).map_err(de::Error::custom)
    }
}

/// What a prompt is that the scenario does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Play(Duration),
    Missing,
}

impl Default for Others {
    fn default() -> Others {
        Others::Play(Duration::from_secs(2))
    }
}

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Others, D::Error> {
        match String::deserialize(from)?.as_str() {
            "missing" => Ok(Others::Missing),
            time => duration(time).map(Others::Play).map_err(|why| de::Error::custom(format!("{why}, or missing"))),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Address(pub Destination);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
        String::deserialize(from)?.parse().map(Address).map_err(de::Error::custom)
    }
}

fn steps<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Step>, D::Error> {
    let lines = Vec::<Spanned<String>>::deserialize(from)?;
    let parse = |(n, line): (usize, &Spanned<String>)| {
        // The line is told by the place of the step, since a list has one place for all of its items.
        Step::parse(line.get_ref()).map_err(|why| de::Error::custom(format!("{AT}{} steps[{n}]: {why}", line.span().start)))
    };
    lines.iter().enumerate().map(parse).collect()
}

/// Before the byte at which an error is, where whoever reads the file does not know it.
const AT: &str = "\u{1}";

fn one() -> u64 {
    1
}
fn alice() -> String {
    "alice".into()
}
fn number() -> String {
    "100".into()
}
fn minute() -> Span {
    Span(Duration::from_secs(60))
}
fn usual() -> Span {
    Span(limits::USUAL)
}
fn unavailable() -> u16 {
    503
}
fn get() -> String {
    "GET".into()
}
fn ok() -> u16 {
    200
}

impl Scenario {
    pub fn read(path: &Path) -> Result<Scenario, String> {
        let text = super::read_text(path)?;
        let mut scenario = Scenario::parse(&text).map_err(|why| format!("{}{why}", path.display()))?;
        scenario.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(scenario)
    }

    /// `Err`: `:LINE: KEY: what is wrong`.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| place(text, &error))?;
        scenario.check(text)?;
        Ok(scenario)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let wrong = |key: &str, why: String| {
            let line = line_of_key(text, key).map_or_else(String::new, |line| format!("{line}: "));
            Err(format!(":{line}{key}: {why}"))
        };
        let user =
            |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_.*#".contains(&b));
        if !user(&self.caller) {
            return wrong("caller", "must be 1 to 64 letters, digits or + - _ .".into());
        }
        if !user(&self.number) {
            return wrong("number", "must be 1 to 64 letters, digits or + - _ . * #".into());
        }
        for (name, value) in &self.headers {
            let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !token || value.chars().any(char::is_control) {
                return wrong("headers", format!("`{name}` cannot be a header"));
            }
        }
        if self.steps.len() > limits::STEPS {
            return wrong("steps", format!("more than {}", limits::STEPS));
        }
        if self.callees.len() > limits::CALLEES {
            return wrong("callee", format!("more than {}", limits::CALLEES));
        }
        let mut names = vec!["node", "guest", "media", "log", "api", self.caller.as_str()];
        for callee in &self.callees {
            let plain = !callee.name.is_empty() && callee.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if !plain || names.contains(&callee.name.as_str()) {
                return wrong("callee", format!("name `{}` must be lower-case letters, digits and -, and nobody else's", callee.name));
            }
            if callee.answers && callee.refuses.is_some() {
                return wrong("callee", format!("`{}` cannot both answer and refuse", callee.name));
            }
            if callee.refuses.is_some_and(|status| !(300..=699).contains(&status)) {
                return wrong("refuses", "must be a status from 300 to 699".into());
            }
            names.push(&callee.name);
        }
        for (n, step) in self.steps.iter().enumerate() {
            if let Some(who) = step.who()
                && who != self.caller
                && !self.callees.iter().any(|callee| callee.name == who)
            {
                return wrong("steps", format!("steps[{n}]: there is no `{who}`: a callee's name, or nobody's for the caller"));
            }
        }
        if !(400..=699).contains(&self.fallback_status) {
            return wrong("fallback_status", "must be a final refusal, 400 to 699".into());
        }
        if self.start.is_some_and(|start| epoch_ms(&start).is_none()) {
            return wrong("start", "must be a date and a time with its zone, e.g. 2026-11-20T12:00:00Z".into());
        }
        Ok(())
    }

    /// Milliseconds since the Unix epoch when the call comes in.
    pub fn start_ms(&self) -> u64 {
        // 20 November 2026, 12:00 UTC: handlers that look at the date see the same one always.
        self.start.and_then(|start| epoch_ms(&start)).unwrap_or(1_795_176_000_000)
    }
}

/// `:LINE: KEY: why` of an error of the TOML reader.
fn place(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let (at, message) = match message.strip_prefix(AT).and_then(|rest| rest.split_once(' ')) {
        Some((at, message)) => (at.parse().ok(), message),
        None => (error.span().map(|span| span.start), message),
    };
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(before) = at.and_then(|at| text.get(..at)) else { return format!(": {message}") };
    let line = before.matches('\n').count() + 1;
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    match key {
        // It names the key itself, or is about one of a list.
        Some(key) if !message.contains('`') || message.starts_with("invalid") => format!(":{line}: {key}: {message}"),
        Some(key) if !message.starts_with("steps[") && !message.starts_with("unknown field") => format!(":{line}: {key}: {message}"),
        _ => format!(":{line}: {message}"),
    }
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let is = |line: &str| {
        let line = line.trim_start().trim_start_matches('[');
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
    };
    text.lines().position(is).map(|at| at + 1)
}

/// `None`: without a zone it is no point in time.
fn epoch_ms(at: &toml::value::Datetime) -> Option<u64> {
    let (date, time, offset) = (at.date?, at.time?, at.offset?);
    // Days from civil: years that begin in March have their leap day at the end.
    let (year, month) = (i64::from(date.year) - i64::from(date.month <= 2), i64::from(date.month));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(date.day) - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let second = i64::from(time.second);
    let seconds = days * 86_400 + i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + second - minutes * 60;
    u64::try_from(seconds * 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_a_call() {
        let scenario = Scenario::parse(
            r#"
            number = "ivr"
            headers = { X-Dest = "sip:bob@bob.sim" }
            start = 2026-11-20T12:00:00Z
            other_prompts = "missing"
            prompts = { "welcome.wav" = "3.2s" }
            steps = ["wait 1s", "press 3", "bob: hangup"]
            [config]
            rejected = "pest"
            [[callee]]
            name = "bob"
            rings = "2s"
            answers = true
            [expect]
            reason = "calledPartyHangup"
            "#,
        )
        .expect("a scenario");
        assert_eq!((scenario.seed, scenario.caller.as_str(), scenario.steps.len()), (1, "alice", 3));
        assert_eq!(scenario.prompts["welcome.wav"], Span(Duration::from_millis(3200)));
        assert_eq!((scenario.other_prompts, scenario.start_ms()), (Others::Missing, 1_795_176_000_000));
        assert_eq!(Scenario::parse("").expect("nothing need be said").start_ms(), 1_795_176_000_000);
    }

    #[test]
    fn points_in_time_are_counted_from_1970() {
        for (text, ms) in
            [("1970-01-01T00:00:00Z", 0), ("2000-02-29T23:59:59Z", 951_868_799_000), ("2026-11-20T13:00:00+01:00", 1_795_176_000_000)]
        {
            assert_eq!(Scenario::parse(&format!("start = {text}")).expect("a time").start_ms(), ms, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, why) in [
            ("seed = 1\nnumbr = \"1\"", ":2: unknown field `numbr`"),
            ("seed = \"x\"", ":1: seed: invalid type"),
            ("\n\ngive_up = \"5\"", ":3: give_up: `5` is no time"),
            ("number = \"a b\"", ":1: number: must be"),
            ("caller = \"\"", ":1: caller: must be"),
            ("steps = [\n  \"wait 1s\",\n  \"jump\",\n]", ":3: steps[1]: `jump` is nothing to do"),
            ("seed = 2\nsteps = [\"bob: hangup\"]", ":2: steps: steps[0]: there is no `bob`"),
            ("[[callee]]\nname = \"alice\"", ":1: callee: name `alice`"),
            ("[[callee]]\nname = \"bob\"\nring = 1", ":3: unknown field `ring`"),
            ("[[callee]]\nname = \"bob\"\nanswers = true\nrefuses = 486", "both answer and refuse"),
            ("[[callee]]\nname = \"bob\"\nrefuses = 200", ":3: refuses: must be"),
            ("start = 2026-11-20", ":1: start: must be a date"),
            ("start = \"now\"", ":1: start: "),
            ("destinations = [\"not one\"]", ":1: destinations: "),
            ("other_prompts = \"none\"", ":1: other_prompts: "),
            ("fallback_status = 200", ":1: fallback_status: must be"),
            ("headers = { \"X Y\" = \"1\" }", ":1: headers: `X Y`"),
            ("seed = ", ":1: "),
            ("[[http]]\nstatus = 200", "missing field `url`"),
        ] {
            let error = Scenario::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
