//! Why a call went as it did: each question to its handler as it was put, the answer, what it took, the lines it wrote, how it failed. Kept in
//! memory, bounded for each session, tenant and node; the oldest sessions go first.
//!
//! What is kept holds no secret (tokens, keys, salts, what the handler was told of its tenant), and no digit of a caller unless the tenant asked
//! for digits for a while ([`Explains::keep_digits`]): both are taken out before anything is written down.
//!
//! Start with [`Explains`]; [`Question`] and [`Said`] are also what a capture file holds and what a simulator asks again.

use super::limits;
use super::redact;
use super::tenants::now_ms;
use super::vault::Told;
use super::words;
use hookswitch_call::hook::{HookFailure, Verdict};
use hookswitch_wasm::{Cost, wit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An entry as it is kept: without secrets, those included that its handler was told, and without digits unless they are to be kept.
fn redacted(entry: &HookEntry<'_>, digits: bool, told: Option<&Told>) -> String {
    let text = redact::json(entry, !digits);
    match told.filter(|told| !told.is_empty()) {
        None => text,
        // They may stand anywhere in any text.
        Some(told) => {
            let mut entry: Value = serde_json::from_str(&text).unwrap_or_default();
            told.cover(&mut entry);
            entry.to_string()
        }
    }
}

/// What a handler is asked or told, in the contract's types.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "hook", content = "request", rename_all = "kebab-case")]
pub enum Question {
    NewCall(wit::NewCallRequest),
    GetCallIdentifier(wit::CallIdentifierRequest),
    GetIvrCommand(wit::IvrRequest),
    CallEvent(wit::CallEventRequest),
    NewRemoteCall(wit::RemoteCallRequest),
    Notify(wit::Notification),
}

impl Question {
    /// Its name in the contract.
    pub fn name(&self) -> &'static str {
        match self {
            Question::NewCall(_) => "new-call",
            Question::GetCallIdentifier(_) => "get-call-identifier",
            Question::GetIvrCommand(_) => "get-ivr-command",
            Question::CallEvent(_) => "call-event",
            Question::NewRemoteCall(_) => "new-remote-call",
            Question::Notify(_) => "notify",
        }
    }
}

/// What a handler answered, as it gave it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    Routing(Box<wit::Routing>),
    Command(Box<wit::IvrCommand>),
    Identified(wit::CallIdentifierAnswer),
    Noted(Box<wit::RemoteCallAnswer>),
    /// Its own failure.
    Failure(String),
}

impl Said {
    /// As it is kept and compared: without secrets.
    pub fn value(&self) -> Value {
        serde_json::from_str(&redact::json(self, false)).unwrap_or_default()
    }
}

/// A hook as it is kept.
#[derive(Serialize)]
struct HookEntry<'a> {
    at_ms: u64,
    kind: &'static str,
    hook: &'static str,
    request: Option<Request<'a>>,
    answer: Option<&'a Said>,
    verdict: Option<String>,
    failure: Option<FailureEntry>,
    took_us: u64,
    ran_us: Option<u64>,
    memory: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<bool>,
}

#[derive(Serialize)]
struct FailureEntry {
    kind: &'static str,
    text: String,
}

/// What was asked, without the hook's name.
struct Request<'a>(&'a Question);

impl Serialize for Request<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Question::NewCall(request) => request.serialize(serializer),
            Question::GetCallIdentifier(request) => request.serialize(serializer),
            Question::GetIvrCommand(request) => request.serialize(serializer),
            Question::CallEvent(request) => request.serialize(serializer),
            Question::NewRemoteCall(request) => request.serialize(serializer),
            Question::Notify(news) => news.serialize(serializer),
        }
    }
}

/// A hook that has run, or could not.
pub(super) struct Asked<'a> {
    pub ran: Ran,
    /// The hook's name in the contract.
    pub hook: &'static str,
    /// `None`: it was not put to any instance.
    pub question: Option<&'a Question>,
    pub said: Option<&'a Said>,
    /// `Ok(None)`: news.
    pub outcome: Result<Option<&'a Verdict>, &'a HookFailure>,
    pub cost: Option<Cost>,
    /// Secrets that the handler knows. It may have put them anywhere.
    pub told: Option<&'a Told>,
}

/// When a hook began, and its place among what is kept: what it writes meanwhile comes after it.
#[derive(Clone, Copy)]
pub(super) struct Began {
    at_ms: u64,
    place: u64,
    since: Instant,
}

/// The same of one that is over.
#[derive(Clone, Copy)]
pub(super) struct Ran {
    began: Began,
    took: Duration,
}

impl Began {
    /// Now it is over.
    pub fn over(self) -> Ran {
        Ran { began: self, took: self.since.elapsed() }
    }
}

/// All that is kept.
pub(super) struct Explains {
    places: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tenants: BTreeMap<Arc<str>, OfTenant>,
    bytes: usize,
}

#[derive(Default)]
struct OfTenant {
    /// By the order in which they began.
    sessions: BTreeMap<u64, Session>,
    by_id: HashMap<String, u64>,
    bytes: usize,
    digits_until: Option<Instant>,
}

struct Session {
    id: String,
    began_ms: u64,
    version: Option<(u32, String)>,
    entries: Vec<(u64, Box<str>)>,
    bytes: usize,
    /// Entries that found no room.
    left_out: u64,
    /// All of its digits are as they were pressed.
    digits: bool,
}

impl Explains {
    pub fn new() -> Explains {
        Explains { places: AtomicU64::new(1), kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here is left half done by a panic that could harm a reader.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> u64 {
        self.places.fetch_add(1, Ordering::Relaxed)
    }

    /// `since`: when its thread came to it.
    pub fn begin(&self, since: Instant) -> Began {
        Began { at_ms: now_ms(), place: self.place(), since }
    }

    /// This session is kept from now on. `version`: of its handler, number and hash; `None`: it has none.
    pub fn open(&self, domain: &Arc<str>, session_id: &str, version: Option<(u32, &str)>) {
        if session_id.is_empty() {
            return;
        }
        let mut kept = self.lock();
        let tenant = kept.tenants.entry(domain.clone()).or_default();
        if tenant.by_id.contains_key(session_id) {
            return;
        }
        let place = self.place();
        tenant.by_id.insert(session_id.to_owned(), place);
        let session = Session {
            id: session_id.to_owned(),
            began_ms: now_ms(),
            version: version.map(|(number, hash)| (number, hash.to_owned())),
            entries: Vec::new(),
            bytes: limits::EXPLAIN_SESSION_OVERHEAD,
            left_out: 0,
            digits: tenant.digits(),
        };
        tenant.sessions.insert(place, session);
        tenant.bytes += limits::EXPLAIN_SESSION_OVERHEAD;
        kept.bytes += limits::EXPLAIN_SESSION_OVERHEAD;
        kept.make_room(domain);
    }

    pub fn asked(&self, domain: &Arc<str>, session_id: &str, asked: &Asked<'_>) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let (verdict, failure) = match asked.outcome {
            Ok(Some(verdict)) => (Some(words::verdict(verdict)), None),
            Ok(None) => (None, None),
            Err(failure) => (None, Some(FailureEntry { kind: words::failure_kind(failure), text: words::failure(failure) })),
        };
        let mut entry = HookEntry {
            at_ms: asked.ran.began.at_ms,
            kind: "hook",
            hook: asked.hook,
            request: asked.question.map(Request),
            answer: asked.said,
            verdict,
            failure,
            took_us: micros(asked.ran.took),
            ran_us: asked.cost.map(|cost| micros(cost.ran)),
            memory: asked.cost.map(|cost| cost.memory),
            cut: None,
        };
        let digits = self.digits_of(domain, session_id);
        let mut text = redacted(&entry, digits, asked.told);
        if text.len() > limits::EXPLAIN_ENTRY {
            (entry.request, entry.answer, entry.cut) = (None, None, Some(true));
            text = redacted(&entry, digits, asked.told);
        }
        self.keep(domain, session_id, asked.ran.began.place, text);
    }

    /// A line of the handler.
    pub fn log(&self, domain: &Arc<str>, session_id: &str, level: &str, text: &str) {
        self.keep(domain, session_id, self.place(), json!({ "at_ms": now_ms(), "kind": "log", "level": level, "text": text }).to_string());
    }

    /// An order of the handler, by its name, and how it was taken.
    pub fn order(&self, domain: &Arc<str>, session_id: &str, order: &str, refused: Option<String>) {
        let entry = json!({ "at_ms": now_ms(), "kind": "order", "order": order, "refused": refused });
        self.keep(domain, session_id, self.place(), entry.to_string());
    }

    fn keep(&self, domain: &Arc<str>, session_id: &str, place: u64, text: String) {
        let text: Box<str> = text.into();
        let mut kept = self.lock();
        let Some(tenant) = kept.tenants.get_mut(domain) else { return };
        let Some(session) = tenant.by_id.get(session_id).and_then(|place| tenant.sessions.get_mut(place)) else { return };
        if session.entries.len() >= limits::EXPLAIN_ENTRIES || session.bytes + text.len() > limits::EXPLAIN_SESSION {
            session.left_out += 1;
            return;
        }
        let bytes = text.len();
        session.entries.push((place, text));
        session.bytes += bytes;
        tenant.bytes += bytes;
        kept.bytes += bytes;
        kept.make_room(domain);
    }

    fn digits_of(&self, domain: &str, session_id: &str) -> bool {
        let kept = self.lock();
        let session = |tenant: &OfTenant| tenant.sessions.get(tenant.by_id.get(session_id)?).map(|session| session.digits);
        kept.tenants.get(domain).and_then(session).unwrap_or(false)
    }

    /// Sessions of this tenant that begin within that time are kept with the digits that callers press. Zero: no more.
    pub fn keep_digits(&self, domain: &str, time: Duration) {
        let until = Instant::now().checked_add(time.min(limits::EXPLAIN_DIGITS));
        self.lock().tenants.entry(domain.into()).or_default().digits_until = until.filter(|_| !time.is_zero());
    }

    /// What is kept of a session, of this tenant or of any: its domain, and all of it as JSON.
    pub fn of(&self, domain: Option<&str>, session_id: &str) -> Option<Value> {
        let kept = self.lock();
        let mut theirs = kept.tenants.iter().filter(|(name, _)| domain.is_none_or(|domain| ***name == *domain));
        let (domain, session) = theirs.find_map(|(name, tenant)| Some((name, tenant.sessions.get(tenant.by_id.get(session_id)?)?)))?;
        let mut entries: Vec<&(u64, Box<str>)> = session.entries.iter().collect();
        entries.sort_by_key(|(place, _)| *place);
        let entries: Vec<Value> = entries.iter().filter_map(|(_, text)| serde_json::from_str(text).ok()).collect();
        Some(json!({
            "id": session.id,
            "domain": &**domain,
            "began_ms": session.began_ms,
            "version": session.version.as_ref().map(|(number, _)| number),
            "sha256": session.version.as_ref().map(|(_, hash)| hash),
            "digits": if session.digits { "kept" } else { "redacted" },
            "left_out": session.left_out,
            "entries": entries,
        }))
    }
}

impl OfTenant {
    fn digits(&self) -> bool {
        self.digits_until.is_some_and(|until| Instant::now() < until)
    }

    /// Forgets the session that began first, and says how many bytes that was.
    fn forget_oldest(&mut self) -> Option<usize> {
        let (_, session) = self.sessions.pop_first()?;
        self.by_id.remove(&session.id);
        self.bytes -= session.bytes;
        Some(session.bytes)
    }
}

impl Kept {
    /// A tenant makes room for its own; where the node is full, who has most does.
    fn make_room(&mut self, domain: &Arc<str>) {
        if let Some(tenant) = self.tenants.get_mut(domain) {
            while tenant.bytes > limits::EXPLAIN_TENANT {
                let Some(bytes) = tenant.forget_oldest() else { break };
                self.bytes -= bytes;
            }
        }
        while self.bytes > limits::EXPLAIN_NODE {
            let Some(bytes) = self.tenants.values_mut().max_by_key(|tenant| tenant.bytes).and_then(OfTenant::forget_oldest) else { break };
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vault::Secret;
    use super::*;

    fn domain() -> Arc<str> {
        "a.example".into()
    }

    fn info() -> wit::SessionInfo {
        wit::SessionInfo {
            session_id: "s".into(),
            session_reference: None,
            domain: "a.example".into(),
            ivr_server: "192.0.2.1".into(),
            trace_id: "t".into(),
            site_id: None,
            transaction_id: "x".into(),
            restarted: false,
            extra: vec![],
        }
    }

    fn request() -> Question {
        Question::GetIvrCommand(wit::IvrRequest {
            info: info(),
            participant_id: "p".into(),
            reply_id: "eyJhbGci".into(),
            dtmf_buffer: Some("4711".into()),
            dtmf_params: Some(wit::DtmfParams {
                dtmf_match: "4711".into(),
                reason: wit::DtmfReason::TerminationKey,
                matched_termination_key: Some('#'),
                encryption: Some(wit::DigitProtection::HmacSha256("pepper".into())),
            }),
            recording: None,
            interrupted: false,
            extra: vec![],
        })
    }

    fn ask(explains: &Explains, session: &str) {
        let question = request();
        let said = Said::Routing(Box::new(wit::Routing::Drop(wit::DropAction { drop_code: None, session_reference: None, extra: vec![] })));
        let asked = Asked {
            ran: explains.begin(Instant::now()).over(),
            hook: "get-ivr-command",
            question: Some(&question),
            said: Some(&said),
            outcome: Err(&HookFailure::Trap { message: "unreachable <- menu::get".into() }),
            cost: Some(Cost { ran: Duration::from_micros(12), instructions: None, memory: 131_072 }),
            told: None,
        };
        explains.asked(&domain(), session, &asked);
    }

    #[test]
    fn ic_051_keys_of_a_call_for_a_device_are_not_kept() {
        let call = wit::RemoteCallRequest {
            info: info(),
            reply_id: "eyJhbGci".into(),
            call_id: "c".into(),
            codec: "PCMA".into(),
            destination_uri: "sip:unit-1@a.example".into(),
            source_user: "1".into(),
            remote_rtp_ip: "192.0.2.9".into(),
            remote_rtp_port: 4000,
            extra: vec![("crypto".into(), r#"[{"config":"inline:k"}]"#.into()), ("other".into(), "shown".into())],
        };
        let text = redact::json(&call, false);
        assert!(!text.contains("inline") && !text.contains("eyJ") && text.contains("shown"), "{text}");
        assert!(serde_json::from_str::<wit::RemoteCallRequest>(&text).is_ok(), "it can be asked again");
    }

    #[test]
    fn what_is_kept_holds_no_secret_and_digits_only_where_they_were_asked_for() {
        let explains = Explains::new();
        explains.open(&domain(), "s1", Some((3, "abc")));
        explains.keep_digits("a.example", Duration::from_secs(60));
        explains.open(&domain(), "s2", Some((3, "abc")));
        explains.keep_digits("a.example", Duration::ZERO);
        explains.open(&domain(), "s3", None);
        for (session, digits) in [("s1", false), ("s2", true), ("s3", false)] {
            ask(&explains, session);
            let told = explains.of(None, session).expect("kept");
            let text = told.to_string();
            for secret in ["eyJ", "pepper"] {
                assert!(!text.contains(secret), "{text}");
            }
            assert_eq!(text.contains("4711"), digits, "{text}");
            assert_eq!(told["digits"], if digits { "kept" } else { "redacted" });
            assert_eq!(told["entries"][0]["failure"]["kind"], "trap");
            assert_eq!(told["entries"][0]["failure"]["text"], "trap: unreachable <- menu::get");
            // What is left is still a question.
            let entry = &told["entries"][0];
            let again: Question =
                serde_json::from_value(json!({ "hook": entry["hook"], "request": entry["request"] })).expect("a question");
            assert_eq!(again.name(), "get-ivr-command");
        }
    }

    #[test]
    fn what_the_handler_was_told_is_covered_wherever_it_puts_it() {
        let (explains, told) = (Explains::new(), Told::default());
        told.add(&Secret::new("hunter2!".into()));
        explains.open(&domain(), "s", None);
        let question = request();
        let said = Said::Failure("no entry with hunter2!".into());
        let failure = HookFailure::Refused { message: "no entry with hunter2!".into() };
        let (began, hook, outcome) = (explains.begin(Instant::now()), "get-ivr-command", Err(&failure));
        let asked = Asked { ran: began.over(), hook, question: Some(&question), said: Some(&said), outcome, cost: None, told: Some(&told) };
        explains.asked(&domain(), "s", &asked);
        let text = explains.of(None, "s").expect("kept").to_string();
        assert!(!text.contains("hunter2") && text.matches("no entry with [secret]").count() == 2, "{text}");
    }

    #[test]
    fn a_session_is_its_tenants_and_comes_in_the_order_of_what_happened() {
        let explains = Explains::new();
        explains.open(&domain(), "s", Some((1, "abc")));
        let began = explains.begin(Instant::now());
        explains.log(&domain(), "s", "info", "within");
        let asked = Asked { ran: began.over(), hook: "new-call", question: None, said: None, outcome: Ok(None), cost: None, told: None };
        explains.asked(&domain(), "s", &asked);
        explains.order(&domain(), "s", "send-dtmf", Some("unknown participant".into()));
        assert_eq!(explains.of(Some("b.example"), "s"), None);
        let told = explains.of(Some("a.example"), "s").expect("kept");
        let kinds: Vec<&str> = told["entries"].as_array().expect("a list").iter().filter_map(|entry| entry["kind"].as_str()).collect();
        assert_eq!(kinds, ["hook", "log", "order"]);
        explains.log(&domain(), "never opened", "info", "nobody's");
        assert_eq!(explains.of(None, "never opened"), None);
    }

    #[test]
    fn a_session_a_tenant_and_the_node_have_an_end() {
        let explains = Explains::new();
        explains.open(&domain(), "long", None);
        let line = "x".repeat(1000);
        for _ in 0..limits::EXPLAIN_SESSION / 1000 + 10 {
            explains.log(&domain(), "long", "info", &line);
        }
        let told = explains.of(None, "long").expect("kept");
        assert!(told["left_out"].as_u64().expect("a number") >= 10, "{}", told["left_out"]);
        assert!(told.to_string().len() < limits::EXPLAIN_SESSION * 2);

        // Each as long as a session can be, so that the tenant forgets the first.
        for n in 0..limits::EXPLAIN_TENANT / limits::EXPLAIN_SESSION + 2 {
            let id = format!("s{n}");
            explains.open(&domain(), &id, None);
            for _ in 0..limits::EXPLAIN_SESSION / 1000 + 1 {
                explains.log(&domain(), &id, "info", &line);
            }
        }
        assert_eq!(explains.of(None, "long"), None);
        assert!(explains.lock().tenants[&domain()].bytes <= limits::EXPLAIN_TENANT);

        for tenant in 0..limits::EXPLAIN_NODE / limits::EXPLAIN_SESSION + 2 {
            let domain: Arc<str> = format!("t{tenant}.example").into();
            explains.open(&domain, "s", None);
            for _ in 0..limits::EXPLAIN_SESSION / 1000 + 1 {
                explains.log(&domain, "s", "info", &line);
            }
        }
        let kept = explains.lock();
        assert!(kept.bytes <= limits::EXPLAIN_NODE);
        assert_eq!(kept.bytes, kept.tenants.values().map(|tenant| tenant.bytes).sum::<usize>());
    }

    #[test]
    fn an_entry_that_is_too_large_is_kept_without_what_was_said() {
        let explains = Explains::new();
        explains.open(&domain(), "s", None);
        let Question::GetIvrCommand(mut request) = request() else { panic!("it is one") };
        request.extra = vec![("x".repeat(limits::EXPLAIN_ENTRY), String::new())];
        let question = Question::GetIvrCommand(request);
        let outcome = Err(&HookFailure::Deadline);
        let (began, hook) = (explains.begin(Instant::now()), "get-ivr-command");
        let asked = Asked { ran: began.over(), hook, question: Some(&question), said: None, outcome, cost: None, told: None };
        explains.asked(&domain(), "s", &asked);
        let told = explains.of(None, "s").expect("kept");
        assert_eq!((&told["entries"][0]["cut"], &told["entries"][0]["request"]), (&json!(true), &Value::Null));
    }
}
