//! The API against a real listener: statuses, bodies and limits, over a backend that needs no calls.

use super::*;
use crate::deliver;
use crate::guest::LogLine;
use crate::record::keys::Keys;
use crate::store::{CallRow, RecordingRow, RecordingState, StoreThread};
use crate::versions::tests::FakeLoader;
use hookswitch_call::door::{CommandError, Done};
use hookswitch_call::recording::RecordingStatus;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(feature = "h3")]
pub(crate) mod secure;

pub(crate) const TOKEN: &str = "the-operator's-token";
/// The tenant that is there from the beginning, with number 100.
pub(crate) const TENANT: &str = "a.example";

#[derive(Default)]
struct FakeNode {
    configured: AtomicU32,
    refused: Mutex<Vec<(Upload, String, String)>>,
    /// What was ordered, and what the next orders give.
    orders: Mutex<Vec<(String, Command)>>,
    answer: Mutex<Option<CommandResult>>,
    /// Where the recording stands that is asked about; `None`: no session follows it.
    status: Mutex<Option<RecordingStatus>>,
    counted: Mutex<Vec<Count>>,
    vault: Mutex<Option<Vault>>,
    /// The log of every tenant.
    log: Log,
    /// What tenants asked for.
    digits: Mutex<Vec<(String, Duration)>>,
}

struct Log(tokio::sync::broadcast::Sender<LogLine>);

impl Default for Log {
    fn default() -> Log {
        Log(tokio::sync::broadcast::Sender::new(16))
    }
}

fn line(text: &str) -> LogLine {
    LogLine { at_ms: 1, session_id: "s-1".into(), level: "info", text: text.into() }
}

impl Node for FakeNode {
    fn configure(&self) {
        self.configured.fetch_add(1, Ordering::Relaxed);
    }
    fn metrics(&self) -> String {
        "hookswitch_calls_total 0\n".into()
    }
    fn decode_prompt(&self, bytes: &[u8]) -> Result<Duration, String> {
        if bytes.starts_with(b"RIFF") { Ok(Duration::from_millis(1500)) } else { Err("not a WAV file".into()) }
    }
    fn refused(&self, what: Upload, domain: &str, why: &str) {
        self.refused.lock().expect("whole").push((what, domain.into(), why.into()));
    }
    fn order(&self, domain: &str, command: Command) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        if let Command::GetRecording { .. } = command {
            let status = self.status.lock().expect("whole").clone().map(|status| Done::RecordingStatus(Box::new(status)));
            return Box::pin(async move { status.ok_or(CommandError::Unknown("recording")) });
        }
        self.orders.lock().expect("whole").push((domain.into(), command));
        let answer = self.answer.lock().expect("whole").clone().unwrap_or(Ok(Done::Nothing));
        Box::pin(async move { answer })
    }
    fn sessions(&self, domain: Option<&str>, limit: usize) -> Vec<Live> {
        let live = Live {
            session_id: "s-1".into(),
            domain: TENANT.into(),
            participant_id: "p-1".into(),
            caller: "alice".into(),
            called: "100".into(),
            started_at: 1,
        };
        std::iter::once(live).filter(|live| domain.is_none_or(|domain| live.domain == domain)).take(limit).collect()
    }
    fn domain_of(&self, session_id: &str) -> Option<String> {
        (session_id == "s-1").then(|| TENANT.into())
    }
    fn knows_trunk(&self, name: &str) -> bool {
        name != "nowhere"
    }
    fn count(&self, what: Count) {
        self.counted.lock().expect("whole").push(what);
    }
    fn follow(&self, _domain: &str) -> Option<Follower> {
        let few = self.log.0.receiver_count() < limits::LOG_FOLLOWERS;
        few.then(|| Follower { before: vec![line("before")], lines: self.log.0.subscribe() })
    }
    fn vault(&self) -> Option<Vault> {
        self.vault.lock().expect("whole").clone()
    }
    fn explain(&self, domain: Option<&str>, session_id: &str) -> Option<Value> {
        (session_id == "s-1" && domain.is_none_or(|domain| domain == TENANT)).then(|| {
            json!({
                "id": "s-1", "domain": TENANT, "version": 1, "sha256": null, "digits": "redacted", "left_out": 0, "began_ms": 1000,
                "entries": []
            })
        })
    }
    fn keep_digits(&self, domain: &str, time: Duration) {
        self.digits.lock().expect("whole").push((domain.into(), time));
    }
}

/// A served API on a port of its own, and what stands behind it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) loader: Arc<FakeLoader>,
    node: Arc<FakeNode>,
    pub(crate) reply_keys: Arc<ReplyKeys>,
    api: Arc<Api>,
    pub(super) archive: Archive,
    pub(crate) address: std::net::SocketAddr,
    agent: ureq::Agent,
    _server: Server,
    _thread: StoreThread,
}

pub(crate) fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
    let loader = Arc::new(FakeLoader::default());
    let node = Arc::new(FakeNode::default());
    *node.vault.lock().expect("whole") = Some(Vault::open(store.clone(), folder.path()).expect("opens"));
    let versions = Arc::new(Versions::open(store.clone(), loader.clone(), folder.path()).expect("opens"));
    let token = AdminToken::load(folder.path(), Some(TOKEN)).expect("given");
    let reply_keys = Arc::new(ReplyKeys::load(folder.path()).expect("made"));
    let keys = Arc::new(Keys::load(folder.path()).expect("made"));
    let archive = Archive::open(store.clone(), folder.path(), keys, Arc::default(), deliver::Options::default()).expect("keys");
    let prompts = folder.path().join("prompts");
    let api = Api::new(store.clone(), versions, node.clone(), token, prompts, reply_keys.clone(), archive.clone());
    let server = api.clone().start("127.0.0.1:0".parse().expect("an address"), None).expect("a port");
    let address = server.address();
    // A connection of its own for each request: one whose body was refused unread is closed behind its answer.
    let agent = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build().into();
    let world = World { folder, store, loader, node, reply_keys, api, archive, address, agent, _server: server, _thread: thread };
    let (status, _) = world.ask("PUT", &format!("/admin/tenants/{TENANT}"), Some(TOKEN), JSON, br#"{"numbers":["100"]}"#);
    assert_eq!(status, 201);
    world
}

const JSON: Option<&str> = Some("application/json");
const WASM: Option<&str> = Some("application/wasm");
const WAV: Option<&str> = Some("audio/wav");

impl World {
    pub(super) fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        kind: Option<&str>,
        body: &[u8],
    ) -> ureq::http::Response<ureq::Body> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let answer = if body.is_empty() {
            self.agent.run(request.body(()).expect("a request"))
        } else {
            self.agent.run(request.body(body).expect("a request"))
        };
        answer.expect("an answer")
    }

    pub(super) fn ask(&self, method: &str, path: &str, token: Option<&str>, kind: Option<&str>, body: &[u8]) -> (u16, Value) {
        let mut answer = self.raw(method, path, token, kind, body);
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        is_documented(method, path, status, &body);
        (status, body)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, Some(TOKEN), None, b"");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A line in every tenant's log.
    pub(super) fn says(&self, text: &str) {
        let _ = self.node.log.0.send(line(text));
    }

    pub(super) fn stop(self) {
        self._server.stop();
    }

    /// Forgets what was ordered, and says it.
    pub(super) fn ordered(&self) -> Vec<(String, Command)> {
        std::mem::take(&mut *self.node.orders.lock().expect("whole"))
    }

    pub(super) fn counted(&self) -> Vec<Count> {
        std::mem::take(&mut *self.node.counted.lock().expect("whole"))
    }

    /// What orders give from now on.
    pub(super) fn gives(&self, answer: CommandResult) {
        *self.node.answer.lock().expect("whole") = Some(answer);
    }

    /// Where every recording stands from now on.
    pub(super) fn follows(&self, status: Option<RecordingStatus>) {
        *self.node.status.lock().expect("whole") = status;
    }

    pub(super) fn rated(&self, per_second: u32, burst: u32) {
        *self.api.rate.lock().expect("whole") = Buckets::new(Rate { per_second: f64::from(per_second), burst });
    }

    /// A line of the command line orders this, of the first tenant.
    pub(crate) fn sends<E: std::fmt::Debug>(&self, line: &str, run: &impl Fn(&str) -> Result<(), E>, expected: Command) {
        // The only tenant at that time, so that no --domain is needed.
        assert!(run(line).is_ok(), "{line}: {:?}", run(line));
        assert_eq!(self.ordered(), [(TENANT.to_owned(), expected)], "{line}");
    }

    /// Status and body of a part.
    pub(super) fn ranged(&self, path: &str, token: &str, range: &str) -> (u16, Vec<u8>) {
        let request = ureq::http::Request::builder().uri(format!("http://{}{path}", self.address)).header("range", range);
        let request = request.header("authorization", format!("Bearer {token}")).body(()).expect("a request");
        let mut answer = self.agent.run(request).expect("an answer");
        (answer.status().as_u16(), answer.body_mut().read_to_vec().expect("a body"))
    }

    pub(super) fn recording(&self, id: &str, state: RecordingState, created_at: u64, audio: Option<&[u8]>) {
        let path = self.folder.path().join(format!("{id}.wav"));
        if let Some(audio) = audio {
            std::fs::write(&path, audio).expect("written");
        }
        let row = RecordingRow {
            id: id.into(),
            domain: TENANT.into(),
            path: path.to_string_lossy().into_owned(),
            file_name: format!("{id}-named.wav"),
            created_at,
            state,
            ..RecordingRow::default()
        };
        self.store.put_recording(row).expect("put");
    }
}

/// The public key of the tenant in these tests.
pub(crate) fn tenant_key() -> &'static str {
    bearer::tests::public_pem()
}

/// Every answer that a test sees is one that `/openapi.json` has: status and body.
fn is_documented(method: &str, path: &str, status: u16, body: &Value) {
    let document = openapi::tests::document();
    let asked: Vec<&str> = path.split('?').next().unwrap_or_default().split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        let same = parts.len() == asked.len() && parts.iter().zip(&asked).all(|(part, asked)| part.starts_with('{') || part == asked);
        // A literal path goes before one with a placeholder.
        same.then(|| parts.iter().filter(|part| part.starts_with('{')).count())
    };
    let paths = document["paths"].as_object().expect("paths");
    let Some((_, template)) = paths.keys().filter_map(|template| Some((fits(template)?, template))).min() else { return };
    let operation = &paths[template][method.to_ascii_lowercase()];
    if operation.is_null() {
        return;
    }
    let shown = format!("{method} {path}: {status} {body}");
    let response = &operation["responses"][status.to_string()];
    let response = match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("what is referred to is there"),
        None => response,
    };
    assert!(response.is_object(), "{shown}: this status is not documented");
    let content = response["content"].as_object().expect("content").values().next().expect("one type");
    if let Err(why) = conforms(document, &content["schema"], body) {
        panic!("{shown}: {why}");
    }
}

/// As much of JSON Schema as the document uses.
fn conforms(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(document, document.pointer(reference.trim_start_matches('#')).expect("there"), value);
    }
    let no = |why: &str| Err(format!("{value} is not {schema}: {why}"));
    if schema.get("const").is_some_and(|expected| expected != value) {
        return no("const");
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return no("enum");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Null => vec![],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let fits = kinds.is_empty() || kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !fits {
        return no("type");
    }
    for choice in ["oneOf", "anyOf"] {
        if schema[choice].as_array().is_some_and(|schemas| !schemas.iter().any(|schema| conforms(document, schema, value).is_ok())) {
            return no(choice);
        }
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return no(name);
            }
        }
        for (name, field) in fields {
            match schema["properties"].get(name) {
                Some(schema) => conforms(document, schema, field)?,
                None if schema["additionalProperties"] == Value::Bool(false) => return no(name),
                None => {}
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item)?;
    }
    Ok(())
}

/// IC-008: every refusal has this form, and its message names the field where one is wrong.
#[test]
fn ic_008_every_refusal_says_what_and_why() {
    let world = world();
    world.recording("running", RecordingState::Recording, 1, None);
    world.recording("failed", RecordingState::Failed, 1, None);
    world.recording("lost", RecordingState::Available, 1, None);
    let op = Some(TOKEN);
    let large = vec![0u8; hookswitch_wasm::limits::COMPONENT_BYTES + 1];
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>, &'a [u8], u16, &'a str, &'a str);
    let table: &[Row<'_>] = &[
        // Nothing without a token, whether it exists or not.
        ("GET", "/metrics", None, None, b"", 401, "unauthorized", "Authorization"),
        ("GET", "/admin/tenants", None, None, b"", 401, "unauthorized", "Authorization"),
        ("GET", "/admin/tenants", Some("guess"), None, b"", 401, "unauthorized", "Authorization"),
        ("GET", "/a.example/guests", None, None, b"", 401, "unauthorized", "Authorization"),
        ("GET", "/nobody.example/guests", None, None, b"", 401, "unauthorized", "Authorization"),
        ("GET", "/no/such/thing", None, None, b"", 401, "unauthorized", "Authorization"),
        // Unknown things.
        ("GET", "/", op, None, b"", 404, "not_found", "resource"),
        ("GET", "/admin/nothing", op, None, b"", 404, "not_found", "resource"),
        ("GET", "/admin/guests", op, None, b"", 404, "not_found", "resource"),
        ("GET", "/nobody.example/guests", op, None, b"", 404, "not_found", "domain"),
        ("GET", "/admin/tenants/nobody.example", op, None, b"", 404, "not_found", "domain"),
        ("DELETE", "/admin/tenants/nobody.example", op, None, b"", 404, "not_found", "domain"),
        ("GET", "/a.example/nothing", op, None, b"", 404, "not_found", "resource"),
        // The cloud SIP user agent is not served.
        ("POST", "/a.example/sendremotecallbusytone", op, None, b"{}", 404, "not_found", "resource"),
        ("POST", "/a.example/guests/7/activate", op, None, b"", 404, "not_found", "version 7"),
        ("GET", "/a.example/recordings/none", op, None, b"", 404, "not_found", "recording"),
        ("GET", "/a.example/recordings/lost/audio", op, None, b"", 404, "not_found", "file"),
        ("GET", "/a.example/promptfile/none.wav", op, None, b"", 404, "not_found", "file"),
        ("DELETE", "/a.example/promptfile/none.wav", op, None, b"", 404, "not_found", "file"),
        // Known things in a wrong state or way.
        ("PATCH", "/admin/tenants/a.example", op, None, b"", 405, "method_not_allowed", "method"),
        ("GET", "/a.example/guests/rollback", op, None, b"", 405, "method_not_allowed", "method"),
        ("POST", "/a.example/guests/rollback", op, None, b"", 409, "conflict", "earlier version"),
        ("GET", "/a.example/recordings/running/audio", op, None, b"", 409, "conflict", "not finished"),
        ("DELETE", "/a.example/recordings/running", op, None, b"", 409, "conflict", "not finished"),
        ("GET", "/a.example/recordings/failed/audio", op, None, b"", 409, "conflict", "failed"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":["100"]}"#, 409, "conflict", "numbers: 100 belongs to a.example"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":["1","1"]}"#, 409, "conflict", "numbers: 1 is listed twice"),
        // Values.
        ("PUT", "/admin/tenants/b_.example", op, JSON, b"{", 400, "bad_value", "body"),
        ("PUT", "/admin/tenants/b.example", op, JSON, b"[]", 400, "bad_value", "body"),
        ("PUT", "/admin/tenants/-b.example", op, JSON, b"{}", 400, "bad_value", "domain"),
        ("PUT", "/admin/tenants/metrics", op, JSON, b"{}", 400, "bad_value", "domain"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"domain":"c.example"}"#, 400, "bad_value", "domain"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":"1"}"#, 400, "bad_value", "numbers"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":["1",2]}"#, 400, "bad_value", "numbers[1]"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":[""]}"#, 400, "bad_value", "numbers[0]"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"numbers":[{"trunk":"t"}]}"#, 400, "bad_value", "numbers[0]"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"max_sessions":-1}"#, 400, "bad_value", "max_sessions"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"max_sessions":"9"}"#, 400, "bad_value", "max_sessions"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"error_prompt":"../x"}"#, 400, "bad_value", "error_prompt"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"record_announce":true}"#, 400, "bad_value", "record_announce"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"graph_sample_rate":48000}"#, 400, "bad_value", "graph_sample_rate"),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"fallback":503}"#, 400, "bad_value", "fallback"),
        (
            "PUT",
            "/admin/tenants/b.example",
            op,
            JSON,
            br#"{"fallback":{"action":"refuse","status":200}}"#,
            400,
            "bad_value",
            "fallback.status",
        ),
        (
            "PUT",
            "/admin/tenants/b.example",
            op,
            JSON,
            br#"{"fallback":{"action":"announce","files":[]}}"#,
            400,
            "bad_value",
            "fallback.files",
        ),
        ("PUT", "/admin/tenants/b.example", op, JSON, br#"{"max_session":9}"#, 400, "bad_value", "max_session: no such field"),
        ("PUT", "/admin/tenants/a.example/tokens/a%20b", op, None, b"", 400, "bad_value", "label"),
        ("POST", "/a.example/guests", op, WASM, b"\x7fELF", 400, "bad_value", "component: not a WebAssembly component"),
        ("POST", "/a.example/guests", op, WASM, b"", 400, "bad_value", "component"),
        ("POST", "/a.example/guests?activate=perhaps", op, WASM, b"guest", 400, "bad_value", "activate"),
        ("POST", "/a.example/guests?note=a%0ab", op, WASM, b"guest", 400, "bad_value", "note"),
        ("POST", "/a.example/guests/x/activate", op, None, b"", 400, "bad_value", "number"),
        ("POST", "/a.example/guests/1/activate?percent=0", op, None, b"", 400, "bad_value", "percent"),
        ("POST", "/a.example/guests/1/activate?percent=ten", op, None, b"", 400, "bad_value", "percent"),
        ("POST", "/a.example/guests/1/activate?called=a%0ab", op, None, b"", 400, "bad_value", "called"),
        ("POST", "/a.example/guests/1/activate?percent=5&called=1", op, None, b"", 400, "bad_value", "called"),
        ("POST", "/a.example/guests?percent=5", op, WASM, b"guest", 400, "bad_value", "activate"),
        ("POST", "/a.example/guests?signature=x", op, WASM, b"guest", 400, "bad_value", "signature"),
        ("POST", "/a.example/guests/promote", op, None, b"", 409, "conflict", "no version is tried"),
        ("PUT", "/admin/tenants/nobody.example/guest-policy", op, JSON, b"{}", 404, "not_found", "domain"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"require_signature":1}"#, 400, "bad_value", "require_signature"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"require_signature":true}"#, 400, "bad_value", "signing_keys"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"signing_keys":["x"]}"#, 400, "bad_value", "signing_keys[0]"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"trial_calls":-1}"#, 400, "bad_value", "trial_calls"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"trial_calls":5}"#, 400, "bad_value", "trial_min_calls"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"trial_failed_percent":0}"#, 400, "bad_value", "trial_failed"),
        ("PUT", "/admin/tenants/a.example/guest-policy", op, JSON, br#"{"trail":1}"#, 400, "bad_value", "trail"),
        ("GET", "/a.example/recordings?limit=0", op, None, b"", 400, "bad_value", "limit"),
        ("GET", "/a.example/recordings?before=x", op, None, b"", 400, "bad_value", "before"),
        ("GET", "/a.example/calls?before=x", op, None, b"", 400, "bad_value", "before"),
        ("GET", "/a.example/promptfile/..%2Fnode.db", op, None, b"", 400, "bad_value", "name"),
        ("GET", "/a.example/promptfile/.hidden", op, None, b"", 400, "bad_value", "name"),
        ("PUT", "/a.example/promptfile/x.wav", op, WAV, b"ID3", 400, "bad_value", "prompt: not a WAV file"),
        // Bodies of a wrong size or kind.
        ("POST", "/a.example/guests", op, WASM, &large, 413, "too_large", "component"),
        ("PUT", "/admin/tenants/b.example", op, Some("text/plain"), b"{}", 415, "unsupported_type", "application/json"),
        ("POST", "/a.example/guests", op, JSON, b"{}", 415, "unsupported_type", "application/wasm"),
        ("PUT", "/a.example/promptfile/x.wav", op, JSON, b"{}", 415, "unsupported_type", "audio/wav"),
    ];
    for (method, path, token, kind, body, status, code, names) in table {
        let (got, answer) = world.ask(method, path, *token, *kind, body);
        let shown = format!("{method} {path} {:?}: {got} {answer}", String::from_utf8_lossy(&body[..body.len().min(80)]));
        assert_eq!(got, *status, "{shown}");
        assert_eq!(answer["success"], Value::Bool(false), "{shown}");
        assert_eq!(answer["error"], Value::String((*code).into()), "{shown}");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains(names)), "{shown}");
    }
    // Nothing of it left a trace.
    assert_eq!(world.get("/admin/tenants")["tenants"].as_array().expect("a list").len(), 1);
    assert!(world.get("/a.example/guests")["versions"].as_array().expect("a list").is_empty());
    assert_eq!(world.node.configured.load(Ordering::Relaxed), 1);
}

#[test]
fn refused_uploads_are_told_to_the_node_and_others_are_not() {
    let world = world();
    let op = Some(TOKEN);
    type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a [u8], Option<(Upload, &'a str)>);
    let table: &[Row<'_>] = &[
        ("POST", "/a.example/guests", WASM, b"\x7fELF", Some((Upload::Component, "not a WebAssembly component"))),
        ("POST", "/a.example/guests?note=a%0ab", WASM, b"guest", Some((Upload::Component, "note"))),
        ("POST", "/a.example/guests", JSON, b"{}", Some((Upload::Component, "application/wasm"))),
        ("PUT", "/a.example/promptfile/x.wav", WAV, b"ID3", Some((Upload::Prompt, "not a WAV file"))),
        ("PUT", "/a.example/promptfile/.x", WAV, b"RIFF", Some((Upload::Prompt, "name"))),
        ("POST", "/a.example/guests", WASM, b"guest", None),
        ("PUT", "/a.example/promptfile/x.wav", WAV, b"RIFF", None),
        ("GET", "/a.example/promptfile/none.wav", None, b"", None),
    ];
    for (method, path, kind, body, told) in table {
        let (status, answer) = world.ask(method, path, op, *kind, body);
        let refused = std::mem::take(&mut *world.node.refused.lock().expect("whole"));
        assert_eq!(refused.len(), usize::from(told.is_some()), "{path}: {status} {answer} {refused:?}");
        if let Some((what, why)) = told {
            let (got, domain, text) = &refused[0];
            assert_eq!((got, domain.as_str()), (what, TENANT));
            assert!(text.contains(why), "{text}");
        }
    }
}

#[test]
fn health_is_open_and_metrics_are_not() {
    let world = world();
    assert_eq!(world.ask("GET", "/healthz", None, None, b"").0, 200);
    assert_eq!(world.get("/metrics"), Value::String("hookswitch_calls_total 0\n".into()));
    let answer = world.raw("GET", "/metrics", None, None, b"");
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
}

#[test]
fn ic_003_004_browsers_may_ask() {
    let world = world();
    let mut answer = world.raw("OPTIONS", "/a.example/guests", None, None, b"");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(answer.headers()["access-control-allow-methods"].to_str().is_ok_and(|methods| methods.contains("PUT")));
    assert!(answer.headers()["access-control-allow-headers"].to_str().is_ok_and(|headers| headers.contains("authorization")));
    assert_eq!(answer.body_mut().read_to_string().expect("a body"), "{}");
    for (token, path) in [(None, "/a.example/guests"), (Some(TOKEN), "/a.example/guests"), (Some(TOKEN), "/nothing")] {
        assert_eq!(world.raw("GET", path, token, None, b"").headers()["access-control-allow-origin"], "*");
    }
}

#[test]
fn a_tenant_is_put_shown_changed_and_removed() {
    let world = world();
    let body = br#"{"numbers":["200",{"trunk":"carrier","number":"100"}],"fallback":{"action":"announce","files":["closed.wav"]},
                    "max_sessions":7,"error_prompt":"sorry.wav","default":true,"record_announce":"always",
                    "graph_sample_rate":8000}"#;
    let (status, answer) = world.ask("PUT", "/admin/tenants/B.example", Some(TOKEN), JSON, body);
    assert_eq!((status, &answer["tenant"]["domain"]), (201, &Value::String("b.example".into())), "{answer}");
    assert_eq!(world.node.configured.load(Ordering::Relaxed), 2);

    let shown = world.get("/admin/tenants/b.example")["tenant"].clone();
    assert_eq!(shown, answer["tenant"]);
    assert_eq!(shown["numbers"], json!(["200", { "trunk": "carrier", "number": "100" }]));
    assert_eq!((&shown["max_sessions"], &shown["default"]), (&json!(7), &json!(true)));
    assert_eq!((&shown["record_announce"], &shown["graph_sample_rate"]), (&json!("always"), &json!(8000)));
    let listed: Vec<Value> =
        world.get("/admin/tenants")["tenants"].as_array().expect("a list").iter().map(|t| t["domain"].clone()).collect();
    assert_eq!(listed, ["b.example", "a.example"]);

    // What was shown may be sent back; what is not named gets its default, but stays the default tenant.
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, shown.to_string().as_bytes()).0, 200);
    let (status, answer) = world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), None, b"{}");
    assert_eq!((status, &answer["tenant"]["numbers"], &answer["tenant"]["default"]), (200, &json!([]), &json!(true)), "{answer}");
    assert_eq!((&answer["tenant"]["record_announce"], &answer["tenant"]["graph_sample_rate"]), (&json!("off"), &json!(16_000)));

    assert_eq!(world.ask("DELETE", "/admin/tenants/b.example", Some(TOKEN), None, b"").0, 200);
    assert_eq!(world.ask("GET", "/b.example/guests", Some(TOKEN), None, b"").0, 404);
    let what: Vec<Value> = world.get("/admin/audit")["audit"].as_array().expect("a list").iter().map(|line| line["what"].clone()).collect();
    assert_eq!(what, ["tenant removed", "tenant changed", "tenant changed", "tenant added", "tenant added"]);
}

#[test]
fn ic_002_a_tenants_token_opens_its_own_domain_only() {
    let world = world();
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}").0, 201);
    let (status, made) = world.ask("PUT", "/admin/tenants/a.example/tokens/ci", Some(TOKEN), None, b"");
    assert_eq!(status, 201);
    let token = made["token"].as_str().expect("a token").to_owned();
    let status = |method: &str, path: &str, token: &str| world.ask(method, path, Some(token), None, b"").0;
    assert_eq!(status("GET", "/a.example/guests", &token), 200);
    for path in ["/b.example/guests", "/nobody.example/guests", "/admin/tenants", "/metrics", "/admin/tenants/a.example", "/"] {
        let (status, answer) = world.ask("GET", path, Some(&token), None, b"");
        assert_eq!((status, &answer["error"]), (403, &json!("forbidden")), "{path}");
    }
    // The audit names the token. Made again, the old one is void; removed, so is the new one.
    assert_eq!(world.ask("POST", "/a.example/guests?activate=true", Some(&token), WASM, b"guest").0, 201);
    assert_eq!(world.get("/admin/audit?limit=1")["audit"][0]["who"], json!("token ci"));
    let (_, made) = world.ask("PUT", "/admin/tenants/a.example/tokens/ci", Some(TOKEN), None, b"");
    assert_eq!(status("GET", "/a.example/guests", &token), 401);
    let token = made["token"].as_str().expect("a token").to_owned();
    assert_eq!(status("GET", "/a.example/guests", &token), 200);
    assert_eq!(status("DELETE", "/admin/tenants/a.example/tokens/ci", TOKEN), 200);
    assert_eq!(status("GET", "/a.example/guests", &token), 401);
}

#[test]
fn a_tenant_uploads_and_activates_so_often_and_no_more() {
    let world = world();
    let quotas = |text: &str| assert_eq!(world.ask("PUT", "/admin/tenants/a.example", Some(TOKEN), JSON, text.as_bytes()).0, 200);
    quotas(r#"{ "quotas": { "deploys_per_minute": 2 } }"#);
    let ask = |path: &str| world.raw("POST", path, Some(TOKEN), WASM, b"guest");
    assert_eq!(ask("/a.example/guests").status(), 201);
    assert_eq!(ask("/a.example/guests/1/activate").status(), 200);
    for path in ["/a.example/guests", "/a.example/guests/1/activate"] {
        let mut answer = ask(path);
        let wait: u64 = answer.headers()["retry-after"].to_str().expect("a text").parse().expect("seconds");
        assert!(answer.status() == 429 && (1..=30).contains(&wait), "{path}: {} {wait}", answer.status());
        let said = answer.body_mut().read_to_string().expect("a body");
        assert!(said.contains("deploys_per_minute: the tenant may upload and activate 2 times in a minute"), "{said}");
    }
    // What ends a bad version is always there; here there is none before it.
    assert_eq!(ask("/a.example/guests/rollback").status(), 409);
    quotas(r#"{ "quotas": { "deploys_per_minute": 600 } }"#);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ask("/a.example/guests/1/activate").status(), 200, "the new quota holds at once");
}

#[test]
fn a_guest_is_uploaded_activated_and_rolled_back() {
    let world = world();
    let post = |path: &str, body: &[u8]| world.ask("POST", path, Some(TOKEN), WASM, body);
    let (status, first) = post("/a.example/guests?note=first%20try&activate=true", b"guest 1");
    assert_eq!(
        (status, &first["version"]["number"], &first["version"]["active"], &first["known"]),
        (201, &json!(1), &json!(true), &json!(false))
    );
    assert_eq!((&first["version"]["note"], &first["previous"]), (&json!("first try"), &Value::Null));
    let (_, second) = post("/a.example/guests", b"guest 2");
    assert_eq!((&second["version"]["number"], &second["version"]["active"]), (&json!(2), &json!(false)));
    assert_eq!(world.loader.active(), [(TENANT.to_owned(), 1)]);

    let (status, answer) = post("/a.example/guests/2/activate", b"");
    assert_eq!((status, &answer["previous"]), (200, &json!(1)), "{answer}");
    assert_eq!(world.loader.active(), [(TENANT.to_owned(), 2)]);
    let (status, again) = post("/a.example/guests", b"guest 1");
    assert_eq!((status, &again["known"], &again["version"]["number"]), (200, &json!(true), &json!(1)));
    let (status, back) = post("/a.example/guests/rollback", b"");
    assert_eq!((status, &back["version"]["number"], &back["previous"]), (200, &json!(1), &json!(2)), "{back}");
    assert_eq!(world.loader.active(), [(TENANT.to_owned(), 1)]);
    let listed = world.get("/a.example/guests")["versions"].clone();
    assert_eq!((&listed[0]["number"], &listed[0]["active"], &listed[1]["active"]), (&json!(2), &json!(false), &json!(true)));
}

#[test]
fn a_version_is_tried_with_a_share_or_some_numbers_and_listed_so() {
    let world = world();
    let post = |path: &str, body: &[u8]| world.ask("POST", path, Some(TOKEN), WASM, body);
    post("/a.example/guests?activate=true", b"guest 1");
    let (status, tried) = post("/a.example/guests?activate=true&percent=10", b"guest 2");
    assert_eq!((status, &tried["version"]["active"], &tried["version"]["percent"]), (201, &json!(false), &json!(10)), "{tried}");
    assert_eq!(tried["previous"], json!(1));
    let shares = || -> Vec<Value> {
        let versions = world.get("/a.example/guests")["versions"].clone();
        let all = versions.as_array().expect("a list").clone();
        all.iter().map(|version| json!([version["number"], version["active"], version["percent"], version["numbers"]])).collect()
    };
    assert_eq!(shares(), [json!([2, false, 10, null]), json!([1, true, 90, null])]);
    let (_, tried) = post("/a.example/guests/2/activate?called=100&called=101", b"");
    assert_eq!(tried["version"]["numbers"], json!(["100", "101"]));
    assert_eq!(shares(), [json!([2, false, 0, ["100", "101"]]), json!([1, true, 100, null])]);
    let (status, promoted) = post("/a.example/guests/promote", b"");
    assert_eq!((status, &promoted["version"]["percent"], &promoted["previous"]), (200, &json!(100), &json!(1)));
    assert_eq!(shares(), [json!([2, true, 100, null]), json!([1, false, 0, null])]);
    let health = world.get("/a.example/guests")["versions"][0]["health"].clone();
    assert_eq!(health, json!({ "calls": 3, "failed": 1, "rests_s": null }));
}

#[test]
fn a_guest_policy_is_shown_as_it_was_set_and_is_the_operators() {
    let world = world();
    let path = "/admin/tenants/a.example/guest-policy";
    let usual = json!({
        "require_signature": false, "signing_keys": [], "trial_calls": 200, "trial_min_calls": 10, "trial_failed_percent": 25,
    });
    assert_eq!(world.get(path)["policy"], usual);
    let secret = crate::versions::signature::SecretKey::generate().expect("random numbers");
    let key = crate::versions::signature::SecretKey::read(&secret).expect("a key").public();
    let body = json!({ "require_signature": true, "signing_keys": [key.to_pem(), key.to_text()], "trial_calls": 20 });
    let (status, answer) = world.ask("PUT", path, Some(TOKEN), JSON, body.to_string().as_bytes());
    assert_eq!((status, &answer["policy"]["signing_keys"]), (200, &json!([{ "id": key.id(), "key": key.to_text() }])), "{answer}");
    // What is shown may be sent back.
    let (_, again) = world.ask("PUT", path, Some(TOKEN), JSON, answer["policy"].to_string().as_bytes());
    assert_eq!(again["policy"], answer["policy"]);
    assert_eq!(world.get(path)["policy"]["trial_calls"], json!(20));
    let (_, token) = world.ask("PUT", "/admin/tenants/a.example/tokens/ci", Some(TOKEN), None, b"");
    let token = token["token"].as_str().expect("a token").to_owned();
    for method in ["GET", "PUT"] {
        let (status, _) = world.ask(method, path, Some(&token), JSON, b"{}");
        assert_eq!(status, 403, "{method}");
    }
}

#[test]
fn what_guests_wrote_is_told() {
    let line = &world().get("/a.example/guests/log")["log"][0];
    assert_eq!(
        (&line["at"], &line["session"], &line["level"], &line["text"]),
        (&json!("1970-01-01T00:00:00.001Z"), &json!("s1"), &json!("info"), &json!("hello"))
    );
}

#[test]
fn recordings_are_listed_fetched_and_deleted() {
    let world = world();
    let audio: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    for (id, at) in [("r1", 1), ("r2", 2), ("r3", 3)] {
        world.recording(id, RecordingState::Available, at, Some(&audio));
    }
    let page = world.get("/a.example/recordings?limit=2");
    assert_eq!((&page["recordings"][0]["id"], &page["recordings"][1]["id"]), (&json!("r3"), &json!("r2")));
    assert_eq!(page["recordings"][0]["path"], Value::Null, "where it lies is nobody's business");
    let next = page["next"].as_str().expect("there is more");
    let page = world.get(&format!("/a.example/recordings?limit=2&before={next}"));
    assert_eq!(
        (page["recordings"].as_array().map(Vec::len), &page["recordings"][0]["id"], &page["next"]),
        (Some(1), &json!("r1"), &Value::Null)
    );
    assert_eq!(world.get("/a.example/recordings/r2")["recording"]["state"], json!("available"));

    let mut answer = world.raw("GET", "/a.example/recordings/r2/audio", Some(TOKEN), None, b"");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "audio/wav");
    assert_eq!(answer.headers()["content-length"], "200000");
    assert!(answer.body_mut().read_to_vec().expect("audio") == audio);
    // IC-083: also by the name that it was made under.
    let mut answer = world.raw("GET", "/a.example/promptfile/r2-named.wav", Some(TOKEN), None, b"");
    assert!(answer.body_mut().read_to_vec().expect("audio") == audio);

    assert_eq!(world.get("/a.example/recordings?session=s-of-none")["recordings"], json!([]));
    assert_eq!(world.get("/a.example/recordings?session=")["recordings"].as_array().map(Vec::len), Some(3));

    // Another tenant does not see it.
    assert_eq!(world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}").0, 201);
    assert_eq!(world.ask("GET", "/b.example/recordings/r2", Some(TOKEN), None, b"").0, 404);
    assert_eq!(world.ask("DELETE", "/b.example/recordings/r2", Some(TOKEN), None, b"").0, 404);

    assert_eq!(world.ask("DELETE", "/a.example/recordings/r2", Some(TOKEN), None, b"").0, 200);
    assert_eq!(world.ask("DELETE", "/a.example/promptfile/r3-named.wav", Some(TOKEN), None, b"").0, 200);
    let (status, answer) = world.ask("GET", "/a.example/recordings/r2", Some(TOKEN), None, b"");
    assert!(status == 410 && answer["message"].as_str().is_some_and(|why| why.contains("it was deleted")), "{status} {answer}");
    assert!(!world.folder.path().join("r2.wav").exists() && !world.folder.path().join("r3.wav").exists());
    assert!(world.folder.path().join("r1.wav").exists());
}

#[test]
fn ic_083_084_085_a_prompt_is_put_read_and_removed() {
    let world = world();
    let put = |body: &[u8]| world.ask("PUT", "/a.example/promptfile/hello%20there.wav", Some(TOKEN), WAV, body);
    let (status, answer) = put(b"RIFF one");
    assert_eq!((status, &answer["duration_ms"]), (201, &json!(1500)));
    assert_eq!(put(b"RIFF two").0, 200);
    assert_eq!(put(b"no audio").0, 400);
    let mut answer = world.raw("GET", "/a.example/promptfile/hello%20there.wav", Some(TOKEN), None, b"");
    assert_eq!(answer.body_mut().read_to_vec().expect("audio"), b"RIFF two");
    let listed = world.get("/a.example/promptfile")["prompts"].clone();
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["name"], &listed[0]["size"]), (Some(1), &json!("hello there.wav"), &json!(8)));
    // Nothing half written stays beside it.
    assert_eq!(std::fs::read_dir(world.folder.path().join("prompts").join(TENANT)).expect("there").count(), 1);
    assert_eq!(world.ask("DELETE", "/a.example/promptfile/hello%20there.wav", Some(TOKEN), None, b"").0, 200);
    assert!(world.get("/a.example/promptfile")["prompts"].as_array().expect("a list").is_empty());
}

#[test]
fn a_part_of_the_audio_is_enough() {
    let world = world();
    let audio: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
    world.recording("r", RecordingState::Available, 1, Some(&audio));
    let fetch = |headers: &[(&str, &str)]| {
        let mut request = ureq::http::Request::builder().uri(format!("http://{}/a.example/recordings/r/audio", world.address));
        for (name, value) in [("authorization", format!("Bearer {TOKEN}").as_str())].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let mut answer = world.agent.run(request.body(()).expect("a request")).expect("an answer");
        let range = answer.headers().get("content-range").map(|range| range.to_str().expect("ASCII").to_owned());
        (answer.status().as_u16(), range, answer.body_mut().read_to_vec().expect("a body"))
    };
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=990-", 990, 999),
        ("bytes=-5", 995, 999),
        ("bytes=900-5000", 900, 999),
        ("bytes=-5000", 0, 999),
    ] {
        let (status, told, body) = fetch(&[("range", range)]);
        assert_eq!((status, told), (206, Some(format!("bytes {first}-{last}/1000"))), "{range}");
        assert_eq!(body, audio[first..=last], "{range}");
    }
    for range in ["bytes=1-2,5-6", "lines=1-2", "bytes=9-1", "bytes=a-b", "bytes"] {
        let (status, told, body) = fetch(&[("range", range)]);
        assert_eq!((status, told, body.len()), (200, None, 1000), "{range}");
    }
    for range in ["bytes=1000-", "bytes=1000-2000", "bytes=-0"] {
        assert_eq!(fetch(&[("range", range)]).0, 416, "{range}");
    }
    // Of another file than the client's: all of it.
    assert_eq!(fetch(&[("range", "bytes=1-2"), ("if-range", "\"other\"")]).0, 200);
    assert_eq!(fetch(&[("range", "bytes=1-2"), ("if-range", "\"\"")]).0, 206);
}

#[test]
fn tenants_say_whom_they_may_reach() {
    let world = world();
    let put = |body: Value| world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, body.to_string().as_bytes());
    let (status, answer) = put(json!({
        "destinations": ["192.0.2.0/24", "SIP.Example.com:5080", "trunk:carrier"], "mediaservice_ids": ["one"], "trusted": true,
        "outbox_origins": ["https://CRM.example", "http://127.0.0.1:9000/", "http://localhost:1", "https://[::1]:8443"],
        "country": "gb", "codecs": ["pcmu"], "in_numbers": ["90*", "17"],
    }));
    assert_eq!(status, 201, "{answer}");
    let tenant = &answer["tenant"];
    assert_eq!(tenant["destinations"], json!(["192.0.2.0/24", "sip.example.com:5080", "trunk:carrier"]));
    assert_eq!(
        tenant["outbox_origins"],
        json!(["https://crm.example", "http://127.0.0.1:9000", "http://localhost:1", "https://[::1]:8443"])
    );
    assert_eq!((&tenant["mediaservice_ids"], &tenant["trusted"]), (&json!(["one"]), &json!(true)));
    let configured = world.store.configuration().expect("read");
    let configured = configured.tenants.iter().find(|tenant| &*tenant.domain == "b.example").expect("there");
    assert_eq!((configured.destinations.len(), configured.trusted, configured.mediaservice_ids.len()), (3, true, 1));
    assert_eq!((&tenant["country"], &tenant["codecs"]), (&json!("GB"), &json!(["PCMU"])));
    assert_eq!((configured.country.code(), configured.codecs.as_slice()), ("GB", [hookswitch_proto::media::Codec::Pcmu].as_slice()));
    assert!(configured.is_in_mode("9012") && configured.is_in_mode("17") && !configured.is_in_mode("170"));

    let many = |count: usize| vec!["a.example"; count];
    for (body, field) in [
        (json!({ "destinations": "a.example" }), "destinations"),
        (json!({ "destinations": ["a.example", "a b"] }), "destinations[1]"),
        (json!({ "destinations": [5] }), "destinations[0]"),
        (json!({ "destinations": many(257) }), "destinations"),
        (json!({ "mediaservice_ids": [""] }), "mediaservice_ids[0]"),
        (json!({ "mediaservice_ids": many(65) }), "mediaservice_ids"),
        (json!({ "trusted": "yes" }), "trusted"),
        (json!({ "country": "XX" }), "country"),
        (json!({ "country": 46 }), "country"),
        (json!({ "in_numbers": ["*"] }), "in_numbers[0]"),
        (json!({ "in_numbers": ["1 7"] }), "in_numbers[0]"),
        (json!({ "codecs": ["GSM"] }), "codecs[0]"),
        (json!({ "codecs": ["PCMU", "PCMA", "PCMU"] }), "codecs"),
        (json!({ "outbox_origins": ["crm.example"] }), "outbox_origins[0]"),
        (json!({ "outbox_origins": ["http://crm.example"] }), "outbox_origins[0]"),
        (json!({ "outbox_origins": ["https://crm.example/path"] }), "outbox_origins[0]"),
        (json!({ "outbox_origins": ["https://user@crm.example"] }), "outbox_origins[0]"),
        (json!({ "outbox_origins": ["ftp://crm.example"] }), "outbox_origins[0]"),
        (json!({ "outbox_origins": ["https://crm.example?x"] }), "outbox_origins[0]"),
    ] {
        let (status, answer) = put(body.clone());
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.starts_with(&format!("{field}: ")), "{body}: {status} {message}");
    }
    assert_eq!(world.get("/admin/tenants/b.example")["tenant"], *tenant, "nothing of it was kept");
    // Nothing is allowed that was not said.
    let (_, answer) = put(json!({}));
    assert_eq!((&answer["tenant"]["destinations"], &answer["tenant"]["trusted"]), (&json!([]), &json!(false)));
    assert_eq!((&answer["tenant"]["country"], &answer["tenant"]["codecs"]), (&json!("SE"), &json!([])));
}

#[test]
fn ended_calls_are_listed() {
    let world = world();
    for (session, domain) in [("s1", TENANT), ("s2", "b.example"), ("s3", TENANT)] {
        world.store.save_call(CallRow { session: session.into(), domain: domain.into(), final_status: 200, ..CallRow::default() });
    }
    let sessions = |path: &str| -> Vec<Value> {
        world.get(path)["calls"].as_array().expect("a list").iter().map(|call| call["session"].clone()).collect()
    };
    assert_eq!(sessions("/a.example/calls"), ["s3", "s1"]);
    assert_eq!(sessions("/admin/calls"), ["s3", "s2", "s1"]);
    let next = world.get("/admin/calls?limit=2")["next"].as_str().expect("more").to_owned();
    assert_eq!(sessions(&format!("/admin/calls?limit=2&before={next}")), ["s1"]);
}

#[test]
fn file_names_are_safe_or_refused() {
    for good in ["hello.wav", "Größe.wav", "a b.wav", "x", &"n".repeat(255)] {
        assert_eq!(check_file_name(good), Ok(()), "{good}");
    }
    for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a..b", ".hidden", "a\0b", "a\nb", &"n".repeat(256)] {
        assert!(check_file_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_stopped_server_is_gone_and_a_taken_port_is_said() {
    let world = world();
    let World { folder, store, loader, node, reply_keys, archive, address, _server: server, _thread: thread, .. } = world;
    let versions = Arc::new(Versions::open(store.clone(), loader, folder.path()).expect("opens"));
    let token = AdminToken::load(folder.path(), Some(TOKEN)).expect("given");
    let second = Api::new(store, versions, node, token, folder.path().join("prompts"), reply_keys, archive);
    assert_eq!(second.clone().start(address, None).err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
    server.stop();
    assert_eq!(second.start(address, None).expect("free again").address(), address);
    thread.close();
}

#[test]
fn a_session_is_explained_to_its_tenant_and_to_the_operator_alone() {
    let world = world();
    let token = |domain: &str| {
        let (status, made) = world.ask("PUT", &format!("/admin/tenants/{domain}/tokens/t"), Some(TOKEN), None, b"");
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().expect("a token").to_owned()
    };
    world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), Some("application/json"), b"{}");
    let (own, other) = (token(TENANT), token("b.example"));
    let explain = |path: &str, token: &str| world.ask("GET", path, Some(token), None, b"");
    for (path, token, expected) in [
        ("/a.example/sessions/s-1/explain", TOKEN, 200),
        ("/admin/sessions/s-1/explain", TOKEN, 200),
        ("/a.example/sessions/s-1/explain", own.as_str(), 200),
        ("/a.example/sessions/s-2/explain", own.as_str(), 404),
        ("/admin/sessions/s-1/explain", own.as_str(), 403),
        ("/a.example/sessions/s-1/explain", other.as_str(), 403),
        ("/b.example/sessions/s-1/explain", other.as_str(), 404),
        ("/a.example/sessions/s-1/explain", "nobody", 401),
    ] {
        let (status, told) = explain(path, token);
        assert_eq!(status, expected, "{path} {told}");
        if status == 200 {
            assert_eq!(told["session"]["began_at"], "1970-01-01T00:00:01.000Z");
        }
    }
    let put = |body: &[u8]| world.ask("PUT", "/a.example/explain", Some(&own), Some("application/json"), body).0;
    assert_eq!((put(br#"{"digits_s":60}"#), put(br#"{"digits_s":86401}"#), put(br#"{"digits":1}"#), put(b"{}")), (200, 400, 400, 400));
    assert_eq!(*world.node.digits.lock().expect("whole"), [(TENANT.to_owned(), Duration::from_secs(60))]);
}
