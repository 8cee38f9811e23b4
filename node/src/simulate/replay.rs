//! A call of production once more: what its handler was asked is asked of another handler (or the same), and what it answers otherwise is
//! shown. What was asked next does not follow from the new answers: it is the call as it was.
//!
//! The captured file is what `hookswitch session explain ID --capture FILE` writes. It holds no secrets and, unless the tenant asked for them,
//! no digits; answers are compared without secrets. The clock is the call's, chance is not: it was never kept.

use super::Loaded;
use super::handler::{Measured, Took};
use super::host::{Desk, Pretend, lock};
use super::scenario::Scenario;
use crate::guest::{Question, asking, words};
use hookswitch_call::hook::HookFailure;
use hookswitch_proto::{Random, Time};
use hookswitch_wasm::{Instance, Ordered, Setup, wit};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(3600);

/// A session as it was kept.
pub struct Capture {
    pub session_id: String,
    pub domain: String,
    pub version: Option<u64>,
    pub sha256: Option<String>,
    /// Its digits are `*`.
    pub redacted: bool,
    entries: Vec<Value>,
}

impl Capture {
    pub fn read(path: &Path) -> Result<Capture, String> {
        let text = super::read_text(path)?;
        Capture::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Capture, String> {
        let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        // As `--json` prints it, the session is in a field of its own.
        if value["session"].is_object() {
            value = value["session"].take();
        }
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let session_id = text("id").ok_or("id: missing; `hookswitch session explain ID --capture FILE` writes such a file")?;
        Ok(Capture {
            session_id,
            domain: text("domain").unwrap_or_default(),
            version: value["version"].as_u64(),
            sha256: text("sha256"),
            redacted: value["digits"] != "kept",
            entries: value["entries"].as_array().cloned().ok_or("entries: must be a list")?,
        })
    }
}

/// One hook, then and now.
#[derive(Debug)]
pub struct Compared {
    /// Since the first one, in milliseconds.
    pub at_ms: u64,
    pub hook: String,
    pub was: String,
    pub now: String,
    /// Paths of what differs in the answers, and both values.
    pub differences: Vec<String>,
    /// Why it could not be asked again.
    pub skipped: Option<&'static str>,
    pub log: Vec<String>,
}

/// The whole call.
pub struct Replayed {
    pub hooks: Vec<Compared>,
    pub measured: Measured,
}

impl Replayed {
    pub fn differences(&self) -> usize {
        self.hooks.iter().filter(|hook| !hook.differences.is_empty()).count()
    }
}

/// `scenario`: settings, secrets and answers of other servers, where the handler needs some.
pub fn replay(capture: &Capture, loaded: &Loaded, scenario: Option<&Scenario>, seed: u64) -> Result<Replayed, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
    let first = capture.entries.iter().find_map(|entry| entry["at_ms"].as_u64()).unwrap_or(0);
    let mut pretend = Pretend { start_ms: first, ..Pretend::default() };
    if let Some(scenario) = scenario {
        pretend.config.clone_from(&scenario.config);
        pretend.secrets.clone_from(&scenario.secrets);
        pretend.http = scenario.http.iter().cloned().collect();
    }
    // In turn, as they were taken then.
    let mut taken: VecDeque<Option<String>> =
        capture.entries.iter().filter(|entry| entry["kind"] == "order").map(|entry| entry["refused"].as_str().map(str::to_owned)).collect();
    let mut bytes = [3; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = Random::new(bytes);
    let world = Arc::new(Mutex::new(pretend));
    let mut instance: Option<Instance> = None;
    let mut replayed = Replayed { hooks: Vec::new(), measured: Measured::default() };

    for entry in capture.entries.iter().filter(|entry| entry["kind"] == "hook") {
        let at_ms = entry["at_ms"].as_u64().unwrap_or(first).saturating_sub(first);
        let hook = entry["hook"].as_str().unwrap_or("?").to_owned();
        let was = told(entry);
        let mut compared = Compared { at_ms, hook, was, now: String::new(), differences: Vec::new(), skipped: None, log: Vec::new() };
        if entry["request"].is_null() {
            let why = if entry["cut"] == true { "its request was too large to be kept" } else { "it was not put to the handler" };
            compared.skipped = Some(why);
            replayed.hooks.push(compared);
            continue;
        }
        let question: Question = serde_json::from_value(json!({ "hook": entry["hook"], "request": entry["request"] }))
            .map_err(|error| format!("entries: the {} at {at_ms} ms: {error}", compared.hook))?;
        if restarted(entry) {
            instance = None;
        }
        {
            let mut world = lock(&world);
            (world.now, world.waited) = (Time::from_millis(at_ms), Duration::ZERO);
        }
        let until = Instant::now() + PATIENCE;
        let host = Desk { world: world.clone(), session_id: capture.session_id.clone(), born: Time::from_millis(at_ms) };
        let (seed, before) = (random.seed(), instance.take());
        let asked = async {
            let instance = match before {
                Some(instance) => instance,
                None => {
                    let setup = Setup { memory_bytes: loaded.class.memory_bytes(), ..Setup::new(Arc::new(host), seed) };
                    match Instance::new(&loaded.module, setup, until).await {
                        Ok(instance) => instance,
                        Err(failure) => return (Err(asking::failure(failure)), None),
                    }
                }
            };
            match &question {
                Question::Notify(news) => {
                    let told = instance.notify(news, until).await.map_err(asking::failure);
                    (told.map(|(instance, _)| (instance, None)), None)
                }
                question => {
                    let (done, said) = asking::put(instance, question, until).await;
                    (done.map(|(instance, verdict)| (instance, Some(verdict))), said)
                }
            }
        };
        let mut asked = pin!(asked);
        let (done, said) = runtime.block_on(poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = asked.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                let given = lock(&world).orders.pop_front();
                let Some(given) = given else { return Poll::Pending };
                let result = match taken.pop_front() {
                    Some(Some(why)) => Err(wit::HostError::NotAvailable(why)),
                    _ => Ok(match given.order.name() {
                        "recordings.start" => Ordered::Recording("recording-1".into()),
                        _ => Ordered::Nothing,
                    }),
                };
                let _ = given.answer.send(result);
            }
        }));
        let failure: Option<HookFailure> = match done {
            Ok((living, verdict)) => {
                replayed.measured.memory = replayed.measured.memory.max(living.memory());
                instance = Some(living);
                match verdict {
                    Some(Ok(verdict)) => {
                        compared.now = words::verdict(&verdict);
                        None
                    }
                    Some(Err(failure)) => Some(failure),
                    None => None,
                }
            }
            Err(failure) => Some(failure),
        };
        if let Some(failure) = &failure {
            compared.now = format!("FAILED {}", words::failure(failure));
        }
        compare(entry, said.map(|said| said.value()), failure.as_ref(), &mut compared);
        let mut world = lock(&world);
        compared.log = world.said.drain(..).map(|(to, what)| format!("{to}: {what}")).collect();
        let cost = world.cost.take().unwrap_or_default();
        let name: &'static str = question.name();
        let took: &mut Took = replayed.measured.hooks.entry(name).or_default();
        took.times += 1;
        took.failed += u64::from(failure.is_some());
        took.instructions = took.instructions.max(cost.instructions.unwrap_or(0));
        drop(world);
        replayed.hooks.push(compared);
    }
    Ok(replayed)
}

/// The entry's answer in words.
fn told(entry: &Value) -> String {
    match (&entry["failure"]["text"], &entry["verdict"]) {
        (Value::String(failure), _) => format!("FAILED {failure}"),
        (_, Value::String(verdict)) => verdict.clone(),
        _ => String::new(),
    }
}

fn restarted(entry: &Value) -> bool {
    let request = &entry["request"];
    // News are an object with one field, which holds theirs.
    let news = request.as_object().and_then(|fields| fields.values().next());
    request["info"]["restarted"] == true || news.is_some_and(|news| news["info"]["restarted"] == true)
}

fn compare(entry: &Value, said: Option<Value>, failure: Option<&HookFailure>, compared: &mut Compared) {
    let (was, now) = (entry["failure"]["kind"].as_str(), failure.map(words::failure_kind));
    if was != now {
        compared.differences.push(format!("failure: was {}, is {}", was.unwrap_or("none"), now.unwrap_or("none")));
    }
    difference("answer", &entry["answer"], &said.unwrap_or_default(), &mut compared.differences);
}

fn difference(path: &str, was: &Value, now: &Value, found: &mut Vec<String>) {
    match (was, now) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(name, value)| (name, value, &Value::Null));
            let kept = new.iter().map(|(name, value)| (name, old.get(name).unwrap_or(&Value::Null), value));
            for (name, was, now) in gone.chain(kept) {
                difference(&format!("{path}.{name}"), was, now, found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for n in 0..old.len().max(new.len()) {
                let at = |list: &Vec<Value>| list.get(n).cloned().unwrap_or_default();
                difference(&format!("{path}[{n}]"), &at(old), &at(new), found);
            }
        }
        (was, now) if was != now => found.push(format!("{path}: was {was}, is {now}")),
        _ => {}
    }
}

/// As people read it.
pub fn text(capture: &Capture, replayed: &Replayed) -> String {
    let version = capture.version.map_or_else(|| "no version".into(), |number| format!("version {number}"));
    let mut text = format!("session {} of {}, {version}\n", capture.session_id, capture.domain);
    if capture.redacted {
        text.push_str("its digits are redacted: answers that depend on them may differ for that alone\n");
    }
    text.push('\n');
    for hook in &replayed.hooks {
        let time = format!("{}.{:03}", hook.at_ms / 1000, hook.at_ms % 1000);
        let line = match (hook.skipped, hook.differences.is_empty()) {
            (Some(why), _) => format!("not asked again: {why}"),
            (None, true) => hook.now.clone(),
            (None, false) => "DIFFERENT".into(),
        };
        text.push_str(format!("{time} {:<16} {line}", hook.hook).trim_end());
        text.push('\n');
        if !hook.differences.is_empty() {
            text.push_str(&format!("      was: {}\n      now: {}\n", hook.was, hook.now));
            for difference in &hook.differences {
                text.push_str(&format!("      {difference}\n"));
            }
        }
        for line in &hook.log {
            text.push_str(&format!("      {line}\n"));
        }
    }
    match replayed.differences() {
        0 => text.push_str("\nno difference\n"),
        1 => text.push_str("\n1 hook is answered differently\n"),
        n => text.push_str(&format!("\n{n} hooks are answered differently\n")),
    }
    text
}

/// As programs read it.
pub fn json(capture: &Capture, replayed: &Replayed) -> Value {
    let hook = |hook: &Compared| {
        json!({ "at_ms": hook.at_ms, "hook": hook.hook, "was": hook.was, "now": hook.now, "differences": hook.differences,
            "skipped": hook.skipped, "said": hook.log })
    };
    json!({
        "session": capture.session_id,
        "digits": if capture.redacted { "redacted" } else { "kept" },
        "hooks": replayed.hooks.iter().map(hook).collect::<Vec<_>>(),
        "differences": replayed.differences(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_path() {
        let mut found = Vec::new();
        let (was, now) = (json!({ "a": [1, 2], "b": { "c": "x" }, "d": 1 }), json!({ "a": [1], "b": { "c": "y" }, "d": 1 }));
        difference("answer", &was, &now, &mut found);
        assert_eq!(found, ["answer.a[1]: was 2, is null", "answer.b.c: was \"x\", is \"y\""]);
    }

    #[test]
    fn what_is_no_capture_is_said() {
        for (text, why) in [("", "EOF"), ("{}", "id: missing"), (r#"{"id":"s"}"#, "entries: must be a list")] {
            let error = Capture::parse(text).err().expect(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
