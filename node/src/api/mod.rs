//! The HTTP API: translates requests into calls on the store, the version registry and the running node, and formats what they say.
//! It decides nothing about calls.
//!
//! `/healthz` and `/openapi.json` are open; everything else needs a token, `/metrics` too: behind a proxy on the same machine every peer looks like loopback.
//! `/admin/…` is the operator's, `/{domain}/…` a tenant's. Who may do what is decided in one place, `access.rs`.
//!
//! Start with `endpoints`, the table of everything that is served; [`Api::router`] and `/openapi.json` are made from it, and [`Api::start`]
//! serves them.

mod access;
mod apply;
mod bearer;
mod body;
mod calls;
pub mod dialects;
mod endpoint;
mod explain;
mod fields;
mod follow;
mod guests;
#[cfg(feature = "h3")]
mod h3;
mod idempotency;
mod ivrfallback;
mod keys;
mod listener;
mod openapi;
mod operations;
mod privacy;
mod prompts;
mod rate;
mod recording_keys;
mod recordings;
mod remote;
mod reply;
mod roles;
mod server;
mod sessions;
mod settings;
mod storage;
mod tenants;
mod tls;
mod usage;

pub use access::{ADMIN_TOKEN_FILE, AdminToken};
pub use apply::apply_at_start;
pub use ivrfallback::with_fallbacks;
use prompts::check_url;
pub use reply::rfc3339;
pub use server::Server;
pub use tenants::check_domain;
pub use tls::Tls;
pub use usage::first_of_month;

use crate::deliver::Archive;
use crate::guest::{Follower, Vault};
use crate::limits;
use crate::prompt_files::{PromptFiles, check_file_name};
use crate::reply_keys::ReplyKeys;
use crate::store::Store;
use crate::versions::Versions;
use axum::Router;
use endpoint::{AUDIO, Endpoint, delete, get, number, post, put, text};
use hookswitch_call::door::{Command, CommandResult};
use idempotency::Answers;
use operations::{Operation, recorder};
use rate::{Buckets, Rate};
use reply::{ApiError, Reply};
use serde_json::json;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the API needs of the running node.
pub trait Node: Send + Sync + 'static {
    /// Tenants, numbers or the default tenant changed: read them again. May block.
    fn configure(&self);
    /// Metrics as Prometheus reads them.
    fn metrics(&self) -> String;
    /// How long this prompt plays, or why it is none. May block.
    fn decode_prompt(&self, bytes: &[u8]) -> Result<Duration, String>;
    /// A tenant's upload was not taken: counted, and said in one line of the log.
    fn refused(&self, what: Upload, domain: &str, why: &str);
    /// Hands a command to its session and waits for whether it is valid, not for its effect.
    fn order(&self, domain: &str, command: Command) -> Pin<Box<dyn Future<Output = CommandResult> + Send>>;
    /// Calls that are up, newest first: of a tenant, or all.
    fn sessions(&self, domain: Option<&str>, limit: usize) -> Vec<Live>;
    /// Whose session this is, if it is up.
    fn domain_of(&self, session_id: &str) -> Option<String>;
    fn count(&self, what: Count);
    /// A tenant's log as it is written. `None`: enough follow it.
    fn follow(&self, domain: &str) -> Option<Follower> {
        let _ = domain;
        None
    }
    /// Where tenants' secrets are. `None`: nowhere.
    fn vault(&self) -> Option<Vault> {
        None
    }
    /// Whether a trunk of this name is configured.
    fn knows_trunk(&self, name: &str) -> bool;
    /// Why a session of this tenant, or of any, went as it did.
    fn explain(&self, domain: Option<&str>, session_id: &str) -> Option<serde_json::Value>;
    /// Sessions of this tenant that begin within that time are explained with the digits that callers press.
    fn keep_digits(&self, domain: &str, time: Duration);
}

/// A call that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub session_id: String,
    pub domain: String,
    /// Of the party that called.
    pub participant_id: String,
    pub caller: String,
    pub called: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
}

/// What the API counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many properties of an operation's body were not known (IC-014).
    UnknownProperties(u64),
    /// A command beyond its tenant's rate.
    RateLimited,
}

/// What a tenant brings to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    Component,
    Prompt,
}

/// What the handlers share.
pub struct Api {
    store: Store,
    versions: Arc<Versions>,
    node: Arc<dyn Node>,
    token: AdminToken,
    prompts: PromptFiles,
    reply_keys: Arc<ReplyKeys>,
    archive: Archive,
    rate: Mutex<Buckets>,
    /// Uploads and activations; each tenant has its own rate.
    deploys: Mutex<Buckets>,
    answers: Mutex<Answers>,
    /// True from when the node stops: what goes on for long ends then.
    stopping: watch::Sender<bool>,
    /// Refusals that go into the audit.
    refusals: Mutex<Buckets>,
    started: Instant,
}

/// Largest body of an operation: a session reference of 4 KiB and 64 headers fit ten times.
const BODY: usize = 64 << 10;
/// Commands of each tenant.
const RATE: Rate = Rate { per_second: limits::COMMANDS_PER_SECOND as f64, burst: limits::COMMANDS_AT_ONCE };

/// Uploads and activations of a tenant that may have so many in a minute: as many at once, after a pause.
fn deploys(per_minute: u32) -> Rate {
    Rate { per_second: f64::from(per_minute) / 60.0, burst: per_minute }
}

/// Refusals of each tenant that the audit takes: whoever is refused all day must not push out what was done.
const REFUSALS: Rate = Rate { per_second: 1.0, burst: 20 };

type Shared = axum::extract::State<Arc<Api>>;

impl Api {
    /// `prompts`: the folder with one folder of prompts per tenant.
    pub fn new(
        store: Store,
        versions: Arc<Versions>,
        node: Arc<dyn Node>,
        token: AdminToken,
        prompts: PathBuf,
        reply_keys: Arc<ReplyKeys>,
        archive: Archive,
    ) -> Arc<Api> {
        let (rate, answers) = (Mutex::new(Buckets::new(RATE)), Mutex::default());
        let deploys = Mutex::new(Buckets::new(deploys(limits::DEPLOYS_PER_MINUTE)));
        let (refusals, stopping) = (Mutex::new(Buckets::new(REFUSALS)), watch::Sender::new(false));
        let started = Instant::now();
        let prompts = PromptFiles::new(prompts, store.clone());
        Arc::new(Api { store, versions, node, token, prompts, reply_keys, archive, rate, deploys, answers, stopping, refusals, started })
    }

    /// The API's clock, for what is limited or kept for a time.
    fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    fn count_unknown(&self, properties: u64) {
        if properties > 0 {
            self.node.count(Count::UnknownProperties(properties));
        }
    }

    pub fn router(self: Arc<Api>) -> Router {
        endpoints()
            .into_iter()
            .fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.answered_by))
            .fallback(|| async { ApiError::not_found("no such resource") })
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .layer(axum::middleware::from_fn_with_state(self.clone(), access::guard))
            .with_state(self)
    }
}

/// Everything that is served: one line each for the router and for `/openapi.json`.
fn endpoints() -> Vec<Endpoint> {
    let mut table =
        vec![
        get("/healthz", "health", healthz).says("Whether the node is up.").open().succeeds(
            200,
            "It is.",
            &[("status", json!({ "const": "ok" }))],
        ),
        get("/openapi.json", "openapi", openapi::show).says("This document.").open().answers(
            200,
            "OpenAPI 3.1.",
            endpoint::JSON,
            json!({ "type": "object" }),
        ),
        get("/metrics", "metrics", metrics).says("What the node counts, as Prometheus reads it.").answers(
            200,
            "The text format, version 0.0.4.",
            &["text/plain"],
            json!({ "type": "string" }),
        ),
        // The operator's.
        get("/admin/tenants", "listTenants", tenants::list).says("All tenants, newest first.").lists("tenants", tenants::schema()),
        get("/admin/tenants/{domain}", "showTenant", tenants::show).says("A tenant's configuration.").succeeds(
            200,
            "The tenant.",
            &[("tenant", tenants::schema())],
        ),
        put("/admin/tenants/{domain}", "putTenant", tenants::put)
            .says("Makes a tenant, or replaces its configuration as a whole: what is not named gets its default.")
            .body(endpoint::JSON, tenants::schema_of_body())
            .succeeds(200, "Changed.", &[("tenant", tenants::schema())])
            .succeeds(201, "Made.", &[("tenant", tenants::schema())])
            .refuses(&[409]),
        delete("/admin/tenants/{domain}", "removeTenant", tenants::remove)
            .says("Removes a tenant and its versions; recordings and prompts stay on disk.")
            .succeeds(200, "Removed.", &[]),
        put("/admin/tenants", "applyTenants", tenants::apply)
            .says("Sets several tenants as they are described, all or nothing. What a tenant does not name gets its default.")
            .body(endpoint::JSON, apply::schema_of_body())
            .succeeds(
                200,
                "What changed, or would.",
                &[("dry_run", endpoint::flag("Nothing was changed.")), ("changes", json!({ "type": "array", "items": apply::schema() }))],
            )
            .refuses(&[400, 409]),
        get("/admin/tenants/{domain}/tokens", "listTokens", tenants::list_tokens)
            .says("The tenant's tokens, newest first, without what they are.")
            .lists("tokens", tenants::schema_of_token()),
        put("/admin/tenants/{domain}/tokens/{label}", "makeToken", tenants::make_token)
            .says("Makes a token that opens the tenant's part of the API, as far as its roles go: all of it where none is named. Only its hash is \
                   kept; an earlier one of the label is void.")
            .may_have(endpoint::JSON, tenants::schema_of_token_body())
            .succeeds(201, "The token, told once.", &tenants::made_token()),
        post("/admin/tenants/{domain}/tokens/{label}/rotate", "rotateToken", tenants::rotate_token)
            .says("Makes a new token with the roles and the lifetime of the label's last one, which stays valid for a while.")
            .may_have(endpoint::JSON, tenants::schema_of_rotation())
            .succeeds(201, "The token, told once.", &tenants::made_token()),
        delete("/admin/tenants/{domain}/tokens/{label}", "removeToken", tenants::remove_token).says("Makes a token void.").succeeds(
            200,
            "Void.",
            &[],
        ),
        get("/admin/tenants/{domain}/keys", "listKeys", keys::list)
            .says("Public keys that the tenant's JWTs are verified with, newest first.")
            .lists("keys", keys::schema()),
        put("/admin/tenants/{domain}/keys/{label}", "putKey", keys::put)
            .says("Registers a public RSA key of 2048 to 8192 bits, as PEM or JWK. An earlier one of the label is void.")
            .query("roles", json!({ "type": "string" }), "What JWTs signed with it may do: deploy, operate, read, with commas. None: all.")
            .query("expires_in_s", json!({ "type": "integer", "minimum": 1 }), "Seconds until it is void. None: it does not expire.")
            .body(keys::TYPES, json!({ "description": "PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or a JWK." }))
            .succeeds(200, "Replaced.", &[("key", keys::schema())])
            .succeeds(201, "Registered.", &[("key", keys::schema())])
            .refuses(&[409]),
        delete("/admin/tenants/{domain}/keys/{label}", "removeKey", keys::remove)
            .says("Forgets a public key: JWTs signed with its private half are no longer valid.")
            .succeeds(200, "Forgotten.", &[]),
        get("/admin/tenants/{domain}/storage", "showStorage", storage::show)
            .says("Where the tenant's recordings go. Its credentials are not shown.")
            .succeeds(200, "The storage.", &[("storage", storage::schema())]),
        put("/admin/tenants/{domain}/storage", "putStorage", storage::put)
            .says("Sets where the tenant's recordings go, and tries it: a small object is written, looked at and removed.")
            .body(endpoint::JSON, storage::schema_of_body())
            .succeeds(
                200,
                "Set.",
                &[
                    ("storage", storage::schema()),
                    ("works", endpoint::flag("Whether the try succeeded. It is set all the same.")),
                    ("why", endpoint::nullable(text("Why not."))),
                ],
            ),
        delete("/admin/tenants/{domain}/storage", "removeStorage", storage::remove)
            .says("Forgets the storage and its credentials. What lies there stays there.")
            .succeeds(200, "Forgotten.", &[]),
        get("/admin/tenants/{domain}/guest-policy", "showGuestPolicy", guests::show_policy)
            .says("What the tenant's handlers must fulfil.")
            .succeeds(200, "The policy.", &[("policy", guests::schema_of_policy())]),
        put("/admin/tenants/{domain}/guest-policy", "putGuestPolicy", guests::put_policy)
            .says("Sets what the tenant's handlers must fulfil, as a whole: for what is uploaded and given to calls from now on.")
            .body(endpoint::JSON, guests::schema_of_policy_body())
            .succeeds(200, "Set.", &[("policy", guests::schema_of_policy())]),
        post("/admin/reply-keys/rotate", "rotateReplyKeys", keys::rotate_reply_keys)
            .says("Signs replyIds with a new key from now on. Earlier keys stay while a token of theirs can be valid.")
            .succeeds(200, "Names of the keys, newest first.", &[("kids", json!({ "type": "array", "items": { "type": "string" } }))])
            .refuses(&[409]),
        get("/admin/sessions", "listAllSessions", sessions::list_all)
            .says("Calls that are up, newest first.")
            .limited()
            .lists("sessions", sessions::schema()),
        get("/admin/sessions/{id}/explain", "explainAnySession", explain::show_any)
            .says("Why a call went as it did, whosever it was.")
            .succeeds(200, "What is kept.", &[("session", explain::schema())]),
        get("/admin/calls", "listAllCalls", calls::list_all)
            .says("Calls that ended, newest first.")
            .paged()
            .lists("calls", calls::schema()),
        get("/admin/audit", "listAudit", calls::audit)
            .says("Who changed what, newest first.")
            .limited()
            .lists("audit", calls::schema_of_audit()),
        get("/admin/usage", "usageOfAll", usage::list_all)
            .says("What tenants used, day by day.")
            .query("from", json!({ "type": "string", "format": "date" }), "First day (UTC); the first of the month of `to`.")
            .query("to", json!({ "type": "string", "format": "date" }), "Last day; today.")
            .query("format", json!({ "enum": ["json", "csv"] }), "CSV (RFC 4180) is in order of days, JSON newest first.")
            .answers(200, "The days.", &["application/json", "text/csv"], usage::schema_of_list()),
        // Tenants'.
        get("/{domain}/audit", "audit", calls::audit_of_tenant)
            .says("Who changed what of the tenant, newest first.")
            .limited()
            .lists("audit", calls::schema_of_audit()),
        get("/{domain}/usage", "usage", usage::list)
            .says("What the tenant used, day by day.")
            .query("from", json!({ "type": "string", "format": "date" }), "First day (UTC); the first of the month of `to`.")
            .query("to", json!({ "type": "string", "format": "date" }), "Last day; today.")
            .query("format", json!({ "enum": ["json", "csv"] }), "CSV (RFC 4180) is in order of days, JSON newest first.")
            .answers(200, "The days.", &["application/json", "text/csv"], usage::schema_of_list()),
        get("/{domain}/guests", "listVersions", guests::list)
            .says("Versions of the handler, newest first.")
            .lists("versions", guests::schema()),
        guests::share_parameters(post("/{domain}/guests", "uploadVersion", guests::upload))
            .deploys()
            .says("Uploads a component: it is validated, compiled and kept as a version. The same bytes again are the same version.")
            .query("note", json!({ "type": "string" }), "Kept with the version.")
            .query("activate", json!({ "type": "boolean" }), "Give it to new calls at once.")
            .query(
                "signature",
                json!({ "type": "string" }),
                "Ed25519 over `hookswitch component sha256:` and the component's SHA-256 in hex: base64, perhaps with the key's id and a colon \
                 before it. Checked with the tenant's keys.",
            )
            .body(guests::TYPES, json!({ "description": "A WebAssembly component." }))
            .succeeds(200, "Known already.", &guests::uploaded())
            .succeeds(201, "A new version.", &guests::uploaded())
            .refuses(&[409, 429]),
        get("/{domain}/guests/log", "handlerLog", guests::log)
            .says(
                "What the tenant's handlers wrote last, newest first. With `Accept: text/event-stream`: oldest first, and then what comes, \
                 each line the `data` of an event.",
            )
            .lists("log", guests::schema_of_log())
            .refuses(&[429]),
        get("/{domain}/guests/settings", "listSettings", settings::list)
            .says("Settings that the tenant's handlers read, by key.")
            .lists("settings", settings::schema()),
        put("/{domain}/guests/settings/{key}", "putSetting", settings::put)
            .deploys()
            .says("Sets a setting. New calls find it; those that are up keep what they have.")
            .body(endpoint::JSON, settings::schema_of_body())
            .succeeds(200, "Changed.", &[])
            .succeeds(201, "Set.", &[])
            .refuses(&[409]),
        delete("/{domain}/guests/settings/{key}", "removeSetting", settings::remove)
            .deploys()
            .says("Forgets a setting.")
            .succeeds(200, "Forgotten.", &[]),
        get("/{domain}/guests/secrets", "listSecrets", settings::list_secrets)
            .says("Names of the secrets that the tenant's handlers may ask for. What they are is not shown.")
            .lists("secrets", settings::schema_of_secret()),
        put("/{domain}/guests/secrets/{name}", "putSecret", settings::put_secret)
            .deploys()
            .says("Keeps a secret, sealed. It is neither shown again nor logged.")
            .body(endpoint::JSON, settings::schema_of_body())
            .succeeds(200, "Changed.", &[])
            .succeeds(201, "Kept.", &[])
            .refuses(&[409]),
        delete("/{domain}/guests/secrets/{name}", "removeSecret", settings::remove_secret)
            .deploys()
            .says("Forgets a secret.")
            .succeeds(200, "Forgotten.", &[]),
        get("/{domain}/ivrfallback", "listFallbacks", ivrfallback::list)
            .says("Numbers that have a fallback: what calls to them do without the handler.")
            .lists("ivrfallbacks", endpoint::object(&ivrfallback::fields())),
        get("/{domain}/ivrfallback/{number}", "getFallback", ivrfallback::get)
            .says("What calls to this number do without the handler.")
            .succeeds(200, "It has one.", &ivrfallback::fields()),
        post("/{domain}/ivrfallback/{number}", "putFallback", ivrfallback::put)
            .says(
                "Says what calls to this number do without the handler: phrases, then a call or the end. `onError` where newCall failed for \
                 good, `always` in place of newCall; for an emergency number always. It lies on this node's disk.",
            )
            .body(endpoint::JSON, ivrfallback::schema_of_body())
            .succeeds(200, "Changed.", &[])
            .succeeds(201, "Set.", &[])
            .refuses(&[409]),
        delete("/{domain}/ivrfallback/{number}", "removeFallback", ivrfallback::remove)
            .says("Forgets it: the handler decides again.")
            .succeeds(200, "Forgotten.", &[]),
        post("/{domain}/guests/rollback", "rollBack", guests::roll_back)
            .deploys()
            .says("Takes the last change back: new calls get the version that was active before, or no longer the one that was tried.")
            .succeeds(200, "Done.", &guests::changed())
            .refuses(&[409, 429]),
        post("/{domain}/guests/promote", "promoteVersion", guests::promote)
            .deploys()
            .says("Gives the version that is tried to all new calls.")
            .succeeds(200, "Done.", &guests::changed())
            .refuses(&[409, 429]),
        guests::share_parameters(post("/{domain}/guests/{number}/activate", "activateVersion", guests::activate))
            .deploys()
            .says(
                "Gives this version to new calls: all of them, or some while the others get the active one. Those that are up keep theirs.",
            )
            .succeeds(200, "Done.", &guests::changed())
            .refuses(&[409, 429]),
        get("/{domain}/recordings", "listRecordings", recordings::list)
            .says("Recordings, newest first.")
            .paged()
            .query("session", json!({ "type": "string" }), "Only those of this session.")
            .lists("recordings", recordings::schema()),
        get("/{domain}/recordings/{id}", "showRecording", recordings::show)
            .says("What is known of a recording.")
            .succeeds(
                200,
                "The recording; `status` as long as its session follows it, else null.",
                &[
                    ("recording", recordings::schema()),
                    ("status", json!({ "type": ["object", "null"] })),
                    ("delivery", recordings::schema_of_delivery()),
                    ("hold", endpoint::nullable(recordings::schema_of_hold())),
                ],
            )
            .refuses(&[410]),
        delete("/{domain}/recordings/{id}", "removeRecording", recordings::remove)
            .says("Removes a recording and its audio, here and in the tenant's storage. That it was there is still known.")
            .succeeds(200, "Removed.", &[])
            .refuses(&[409, 410]),
        post("/{domain}/recordings/{id}/link", "linkRecording", recordings::link)
            .says("Makes a token that opens this recording's audio for a while, and nothing else.")
            .body(
                endpoint::JSON,
                json!({ "type": "object", "properties": { "expires_in_s": {
                    "type": ["integer", "null"], "minimum": 1, "maximum": limits::LINK_LONGEST.as_secs(),
                    "default": limits::LINK_USUAL.as_secs(), "description": "Seconds that it is open for.",
                } } }),
            )
            .succeeds(201, "The link.", &[("link", recordings::schema_of_link())])
            .refuses(&[409, 410]),
        put("/{domain}/recordings/{id}/hold", "holdRecording", recordings::put_hold)
            .says("Puts a recording on legal hold: neither its retention nor anybody removes it.")
            .body(
                endpoint::JSON,
                json!({ "type": "object", "required": ["why"], "properties": {
                    "why": { "type": "string", "minLength": 1, "maxLength": 500, "description": "Kept with it, and in the audit." },
                } }),
            )
            .succeeds(200, "Held.", &[("hold", recordings::schema_of_hold())])
            .refuses(&[409, 410]),
        delete("/{domain}/recordings/{id}/hold", "releaseRecording", recordings::remove_hold)
            .says("Ends a legal hold.")
            .succeeds(200, "Released.", &[])
            .refuses(&[410]),
        get("/{domain}/recordings/{id}/access", "recordingAccess", recordings::access)
            .says("Who got to a recording's audio or made a link to it, newest first. Also of one that is gone.")
            .limited()
            .lists("access", recordings::schema_of_access())
            .refuses(&[410]),
        get("/{domain}/recordingkeys", "listRecordingKeys", recording_keys::list)
            .says("The tenant's keys that wrap the keys of its recordings, newest first; also those that were erased.")
            .lists("keys", recording_keys::schema()),
        post("/{domain}/recordingkeys", "putRecordingKey", recording_keys::put)
            .deploys()
            .says(
                "Gives the tenant's new recordings this key: all of them are encrypted at rest from now on. Earlier keys stay for theirs.",
            )
            .body(endpoint::JSON, recording_keys::schema_of_body())
            .succeeds(200, "Known already; it is the one again.", &[("key", recording_keys::schema())])
            .succeeds(201, "A new key.", &[("key", recording_keys::schema())])
            .refuses(&[409]),
        delete("/{domain}/recordingkeys/{name}", "eraseRecordingKey", recording_keys::erase)
            .deploys()
            .says("Erases a key, and with it all recordings that were made with it: nobody can read them any more.")
            .succeeds(
                200,
                "Erased.",
                &[("key", recording_keys::schema()), ("recordings", number("Recordings that cannot be read any more."))],
            )
            .refuses(&[409]),
        post("/{domain}/privacy/erase", "eraseParty", privacy::erase)
            .says(
                "Forgets one party: its recordings, here and in the tenant's storage, its call records, and posts of its calls that wait.",
            )
            .body(endpoint::JSON, privacy::schema_of_body())
            .succeeds(200, "What went, and what stays.", &[("erased", privacy::schema())])
            .refuses(&[409]),
        get("/{domain}/recordings/{id}/audio", "recordingAudio", recordings::audio)
            .says("The audio of a finished recording, or a range of its bytes.")
            .header("Range", json!({ "type": "string" }), "`bytes=FROM-TO`, one range. Others are ignored.")
            .answers(200, "The whole file.", AUDIO, json!({}))
            .answers(206, "The range.", AUDIO, json!({}))
            .refuses(&[409, 410, 416]),
        get("/{domain}/promptfile", "listPrompts", prompts::list)
            .says("Files that handlers play, newest first.")
            .lists("prompts", prompts::schema()),
        get("/{domain}/promptfile/{name}", "promptFile", prompts::show)
            .says("A prompt, or a recording by the name that it was made under.")
            .header("Range", json!({ "type": "string" }), "Of a recording: `bytes=FROM-TO`, one range. Others are ignored.")
            .answers(200, "The audio.", AUDIO, json!({}))
            .answers(206, "The range.", AUDIO, json!({}))
            .refuses(&[409, 410, 416]),
        put("/{domain}/promptfile/{name}", "putPrompt", prompts::put)
            .deploys()
            .says("Stores a prompt of at most ten minutes; it must decode.")
            .body(&["audio/wav", "application/octet-stream"], json!({ "description": "A WAV file." }))
            .succeeds(200, "Replaced.", &[("duration_ms", number("How long it plays."))])
            .succeeds(201, "Stored.", &[("duration_ms", number("How long it plays."))])
            .refuses(&[409, 429, 507]),
        delete("/{domain}/promptfile/{name}", "removePrompt", prompts::remove)
            .deploys()
            .says("Removes a prompt, or a recording by its name.")
            .succeeds(200, "Removed.", &[])
            .refuses(&[409]),
        get("/{domain}/sessions", "listSessions", sessions::list)
            .says("Calls that are up, newest first.")
            .limited()
            .lists("sessions", sessions::schema()),
        get("/{domain}/sessions/{id}/explain", "explainSession", explain::show)
            .says("Why a call went as it did: its handler's hooks, lines and orders. The last calls of a tenant are kept, in memory.")
            .succeeds(200, "What is kept.", &[("session", explain::schema())]),
        put("/{domain}/explain", "keepDigits", explain::keep_digits)
            .says("Keeps the digits that callers press in explanations for a while; they are redacted otherwise. Audited.")
            .body(endpoint::JSON, explain::schema_of_wish())
            .succeeds(200, "Set.", &[("digits_s", number("As asked for."))]),
        get("/{domain}/calls", "listCalls", calls::list).says("Calls that ended, newest first.").paged().lists("calls", calls::schema()),
    ];
    table.push(
        post("/{domain}/recordings", "startRecordingOf", recorder::start)
            .says("Starts a recording of a session, a connection or a participant. Its states follow where `statusUrl` or the handler hears of them.")
            .body(endpoint::JSON, recorder::schema_of_start())
            .succeeds(
                200,
                "Valid, and handed to the session.",
                &[("recordingId", text("UUID of the recording.")), ("recordingFileName", text("The name it is stored under."))],
            )
            .refuses(&[409, 429, 507]),
    );
    table.extend(dialects::graph::endpoints().into_iter().chain(dialects::aculab::endpoints()).chain(remote::endpoints()));
    for step in recorder::Step::ALL {
        let (path, id) = step.path();
        let ask = async move |api: Shared,
                              domain: access::Domain,
                              path: endpoint::Path<(String, String)>,
                              request: axum::extract::Request| { recorder::step(step, api, domain, path, request).await };
        let schema = json!({ "type": "object", "properties": { "behavior": { "enum": ["skip", "silence", null] } } });
        table.push(
            post(path, id, ask)
                .says(step.says())
                .body(endpoint::JSON, schema)
                .succeeds(200, "Handed to the session.", &[])
                .refuses(&[409, 429]),
        );
    }
    for operation in Operation::ALL {
        let (path, of_operator) = operation.paths();
        for path in std::iter::once(path).chain(operation.twin()) {
            let ask = async move |api: Shared, domain: access::Domain, request: axum::extract::Request| {
                operations::of_tenant(operation, api, domain, request).await
            };
            let mut endpoint = post(path, path.trim_start_matches("/{domain}/"), ask)
                .says(operation.says())
                .body(endpoint::JSON, fields::schema(operation.fields()))
                .succeeds(200, "Valid, and handed to the session.", &operation.gives())
                .refuses(&[409, 429, 507]);
            if operation.starts_something() {
                let schema = json!({ "type": "string", "minLength": 1, "maxLength": idempotency::KEY, "pattern": "^[!-~]+$" });
                let says = "The same key with the same body gets the first answer for 10 minutes.";
                endpoint = endpoint.header("Idempotency-Key", schema, says);
            }
            table.push(endpoint);
        }
        if let Some((path, id)) = of_operator {
            let ask = async move |api: Shared, caller: access::Caller, path: endpoint::Path<String>, request: axum::extract::Request| {
                operations::of_operator(operation, api, caller, path, request).await
            };
            let endpoint = post(path, id, ask)
                .says(operation.says())
                .body(endpoint::JSON, fields::schema(&operation.fields_of_operator()))
                .succeeds(200, "Valid, and handed to the session.", &operation.gives())
                .refuses(&[409, 429, 507]);
            table.push(endpoint);
        }
    }
    table
}

async fn healthz() -> Reply {
    reply::ok(json!({ "status": "ok" }))
}

async fn metrics(api: Shared) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.node.metrics())
}

impl Api {
    /// Passes on what became of an upload, and tells the node where it was refused, for whatever reason.
    fn tell_refusal(&self, what: Upload, domain: &str, reply: Reply) -> Reply {
        reply.inspect_err(|error| self.node.refused(what, domain, &error.message))
    }
}

/// Runs what blocks (the store, files, the compiler) off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "an API call panicked");
            Err(ApiError::internal())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
