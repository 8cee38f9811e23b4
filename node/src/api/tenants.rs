//! `/admin/tenants`: who may be called here. The body is read by hand, so that a refusal names the field.

use super::access::{Caller, RESERVED, hash_hex, new_token};
use super::apply::{self, Change};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::roles::Roles;
use super::{Api, Shared, blocking, rfc3339};
use crate::limits;
use crate::prompt_files::check_file_name;
use crate::store::{FallbackRow, NumberRow, Quotas, RecordAnnounce, TenantRow, TokenRow, wall_ms};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use hookswitch_call::{Country, Destination, Network};
use serde_json::{Map, Value, json};

/// A tenant's configuration: 10,000 numbers fit.
const BODY: usize = 512 << 10;
/// Several tenants with theirs.
const BODY_OF_ALL: usize = 16 << 20;
/// Numbers of a tenant. More: 400.
const NUMBERS: usize = 10_000;
/// Characters of a number or of a trunk's name.
const NAME: usize = 128;
/// Files of a fallback announcement; more than one is for "closed" and "opening hours".
const FILES: usize = 8;
/// Destinations of a tenant: trunks and partners. Each is looked at for each outgoing call. More: 400.
const DESTINATIONS: usize = 256;
/// Mediaservice ids of a tenant, and origins that its handlers may post to: one for each of its systems. More: 400.
const MEDIASERVICES: usize = 64;
const ORIGINS: usize = 64;
/// Networks of a tenant's devices: one for each site. Each is looked at for each address. More: 400.
const MEDIA_ADDRESSES: usize = 256;
/// Seconds that a tenant may keep its recordings for: a hundred years. Longer is for ever, which is null.
const RETENTION: u64 = 100 * 366 * 24 * 3600;
/// Hz of recordings in Graph's way (MG-035); the first is the usual.
const GRAPH_RATES: [u32; 2] = [16_000, 8_000];
/// Numbers and beginnings of numbers in IN mode, which every call is compared with.
const IN_NUMBERS: usize = 64;
/// What can be offered, by its name in SDP.
const CODECS: [&str; 2] = ["PCMA", "PCMU"];
/// Calls at a time of a tenant that says nothing.
const MAX_SESSIONS: u32 = 100;

pub(super) async fn list(State(api): Shared) -> Reply {
    let tenants = blocking(move || Ok(api.store.tenants()?)).await?;
    reply::list("tenants", tenants.iter().map(to_json).collect(), None)
}

pub(super) async fn show(State(api): Shared, Path(domain): Path<String>) -> Reply {
    let tenant = blocking(move || Ok(api.store.tenant(&domain.to_ascii_lowercase())?)).await?;
    reply::ok(json!({ "tenant": to_json(&tenant.ok_or_else(|| ApiError::not_found("unknown domain"))?) }))
}

pub(super) async fn put(State(api): Shared, caller: Caller, Path(domain): Path<String>, request: Request) -> Reply {
    let domain = domain.to_ascii_lowercase();
    check_domain(&domain).map_err(|why| ApiError::bad("domain", why))?;
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| ApiError::bad("body", format!("not JSON: {error}")))?;
    let Value::Object(body) = body else { return Err(ApiError::bad("body", "must be an object")) };
    let (new, tenant) = blocking(move || {
        let before = api.store.tenant(&domain)?;
        let tenant = from_json(domain, body, before.as_ref().is_some_and(|before| before.default))?;
        check_trunks(&api, &tenant)?;
        let new = api.store.put_tenant(tenant.clone(), &caller.to_string())?;
        api.node.configure();
        let stored = api.store.tenant(&tenant.domain)?;
        Ok((new, stored.unwrap_or(tenant)))
    })
    .await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({ "tenant": to_json(&tenant) }))
}

/// Its recordings and prompts stay on disk: removing a tenant by mistake must not cost audio.
pub(super) async fn remove(State(api): Shared, caller: Caller, Path(domain): Path<String>) -> Reply {
    blocking(move || {
        api.versions.remove_tenant(&domain.to_ascii_lowercase(), &caller.to_string())?;
        api.node.configure();
        Ok(())
    })
    .await?;
    reply::ok(json!({}))
}

/// Sets several tenants as a file describes them, all or nothing; with `dry_run` it says what would change.
pub(super) async fn apply(State(api): Shared, caller: Caller, request: Request) -> Reply {
    let body = reply::body(request, BODY_OF_ALL, "body", |given| given == "application/json", "application/json").await?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| ApiError::bad("body", format!("not JSON: {error}")))?;
    let Value::Object(mut body) = body else { return Err(ApiError::bad("body", "must be an object")) };
    let mut flag = |name: &str| match body.remove(name).unwrap_or_default() {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(flag),
        _ => Err(ApiError::bad(name, "must be true or false")),
    };
    let (dry_run, prune) = (flag("dry_run")?, flag("prune")?);
    let wanted = match body.remove("tenants").unwrap_or_default() {
        Value::Array(tenants) => apply::rows(tenants)?,
        _ => return Err(ApiError::bad("tenants", "must be a list")),
    };
    nothing_else(&body)?;
    if prune && wanted.is_empty() {
        return Err(ApiError::bad("tenants", "names none, and `prune` would remove them all"));
    }
    let changes = blocking(move || {
        for tenant in &wanted {
            check_trunks(&api, tenant)?;
        }
        let changes = apply::changes(&api.store.tenants()?, &wanted, prune);
        if dry_run || changes.is_empty() {
            return Ok(changes);
        }
        let who = caller.to_string();
        for gone in changes.iter().filter(|change| change.what == "removed") {
            api.versions.remove_tenant(&gone.domain, &who)?;
        }
        let changed = wanted.into_iter().filter(|tenant| changes.iter().any(|change| change.domain == tenant.domain)).collect();
        let stored = api.store.put_tenants(changed, &who);
        api.node.configure();
        stored?;
        Ok(changes)
    })
    .await?;
    reply::ok(json!({ "dry_run": dry_run, "changes": changes.iter().map(Change::to_json).collect::<Vec<_>>() }))
}

/// Numbers from a trunk that is not configured would make the whole configuration ambiguous, and trunks with a typing error lead nowhere.
fn check_trunks(api: &Api, tenant: &TenantRow) -> Result<(), ApiError> {
    for (place, number) in tenant.numbers.iter().enumerate() {
        if let Some(trunk) = number.trunk.as_deref().filter(|trunk| !api.node.knows_trunk(trunk)) {
            return Err(ApiError::bad(&format!("numbers[{place}]"), format!("no trunk is called {trunk:?}")));
        }
    }
    match tenant.trunks.iter().position(|trunk| !api.node.knows_trunk(trunk)) {
        Some(place) => Err(ApiError::bad(&format!("trunks[{place}]"), format!("no trunk is called {:?}", tenant.trunks[place]))),
        None => Ok(()),
    }
}

pub(super) async fn list_tokens(State(api): Shared, Path(domain): Path<String>) -> Reply {
    let tokens = blocking(move || {
        let domain = domain.to_ascii_lowercase();
        api.store.tenant(&domain)?.ok_or_else(|| ApiError::not_found("unknown domain"))?;
        Ok(api.store.tokens(&domain)?)
    })
    .await?;
    reply::list("tokens", tokens.iter().map(token_to_json).collect(), None)
}

/// Makes a token for a tenant and says it once: only its hash is kept. The same label again replaces the token.
pub(super) async fn make_token(
    State(api): Shared,
    caller: Caller,
    Path((domain, label)): Path<(String, String)>,
    request: Request,
) -> Reply {
    check_name("label", &label)?;
    let mut body = optional_object(request).await?;
    let roles = match body.remove("roles").unwrap_or_default() {
        Value::Null => Roles::ALL,
        Value::Array(names) if names.iter().all(Value::is_string) => {
            Roles::of(names.iter().filter_map(Value::as_str)).map_err(|why| ApiError::bad("roles", why))?
        }
        _ => return Err(ApiError::bad("roles", "must be a list of roles")),
    };
    let expires_at = seconds(&mut body, "expires_in_s", limits::TOKEN_LONGEST.as_secs())?.map(|seconds| wall_ms() + seconds * 1000);
    nothing_else(&body)?;
    let token = blocking(move || {
        let token = random()?;
        let who = caller.to_string();
        api.store.put_token(&domain.to_ascii_lowercase(), &label, &hash_hex(&token), &roles.to_string(), expires_at, &who)?;
        Ok(token)
    })
    .await?;
    let about = json!({ "token": token, "roles": roles.names(), "expires_at": expires_at.map(rfc3339) });
    reply::with_status(StatusCode::CREATED, about)
}

/// A new token of the same label and roles. The last one stays valid for a while, so that nobody is locked out meanwhile.
pub(super) async fn rotate_token(
    State(api): Shared,
    caller: Caller,
    Path((domain, label)): Path<(String, String)>,
    request: Request,
) -> Reply {
    let mut body = optional_object(request).await?;
    let overlap = seconds(&mut body, "overlap_s", limits::TOKEN_OVERLAP_LONGEST.as_secs())?.unwrap_or(limits::TOKEN_OVERLAP.as_secs());
    nothing_else(&body)?;
    let (token, row) = blocking(move || {
        let token = random()?;
        let row = api.store.rotate_token(&domain.to_ascii_lowercase(), &label, &hash_hex(&token), overlap * 1000, &caller.to_string())?;
        Ok((token, row))
    })
    .await?;
    let roles = Roles::read(&row.roles).unwrap_or_default();
    let about = json!({ "token": token, "roles": roles.names(), "expires_at": row.expires_at.map(rfc3339) });
    reply::with_status(StatusCode::CREATED, about)
}

fn random() -> Result<String, ApiError> {
    new_token().map_err(|error| {
        tracing::error!(%error, "no random numbers");
        ApiError::internal()
    })
}

/// A small body, or none.
async fn optional_object(request: Request) -> Result<Map<String, Value>, ApiError> {
    const BODY: usize = 4 << 10;
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(ApiError::bad("body", "must be an object")),
        Err(_) => Err(ApiError::bad("body", "not JSON")),
    }
}

fn seconds(body: &mut Map<String, Value>, field: &str, most: u64) -> Result<Option<u64>, ApiError> {
    match body.remove(field).unwrap_or_default() {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(seconds) if (1..=most).contains(&seconds) => Ok(Some(seconds)),
            _ => Err(ApiError::bad(field, format!("must be a number from 1 to {most}, or null"))),
        },
    }
}

fn nothing_else(body: &Map<String, Value>) -> Result<(), ApiError> {
    body.keys().next().map_or(Ok(()), |unknown| Err(ApiError::bad(unknown, "no such field")))
}

fn token_to_json(row: &TokenRow) -> Value {
    json!({
        "label": row.label,
        "roles": Roles::read(&row.roles).unwrap_or_default().names(),
        "created_at": rfc3339(row.created_at),
        "expires_at": row.expires_at.map(rfc3339),
        "used_at": row.used_at.map(rfc3339),
    })
}

pub(super) fn schema_of_token() -> Value {
    endpoint::object(&[
        ("label", endpoint::text("What it is for. Two of a label: it was rotated.")),
        ("roles", schema_of_roles()),
        ("created_at", endpoint::time("When it was made.")),
        ("expires_at", endpoint::nullable(endpoint::time("When it is void; null: never."))),
        ("used_at", endpoint::nullable(endpoint::time("When it was shown last, to within a minute."))),
    ])
}

pub(super) fn schema_of_roles() -> Value {
    json!({ "type": "array", "minItems": 1, "items": { "enum": ["deploy", "operate", "read"] }, "description": "What it may do." })
}

pub(super) fn made_token() -> [(&'static str, Value); 3] {
    [
        ("token", endpoint::text("To be sent as bearer token.")),
        ("roles", schema_of_roles()),
        ("expires_at", endpoint::nullable(endpoint::time("When it is void; null: never."))),
    ]
}

pub(super) fn schema_of_token_body() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "roles": { "anyOf": [schema_of_roles(), { "type": "null" }] },
            "expires_in_s": {
                "type": ["integer", "null"], "minimum": 1, "maximum": limits::TOKEN_LONGEST.as_secs(),
                "description": "Seconds until it is void; null: it does not expire.",
            },
        },
    })
}

pub(super) fn schema_of_rotation() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "overlap_s": {
                "type": ["integer", "null"], "minimum": 1, "maximum": limits::TOKEN_OVERLAP_LONGEST.as_secs(),
                "default": limits::TOKEN_OVERLAP.as_secs(), "description": "Seconds that the last one stays valid for.",
            },
        },
    })
}

pub(super) async fn remove_token(State(api): Shared, caller: Caller, Path((domain, label)): Path<(String, String)>) -> Reply {
    blocking(move || Ok(api.store.delete_token(&domain.to_ascii_lowercase(), &label, &caller.to_string())?)).await?;
    reply::ok(json!({}))
}

/// A domain is a host name in lower case, and none of the API's own words.
pub fn check_domain(domain: &str) -> Result<(), String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.len() > 253 || !domain.split('.').all(label) {
        return Err(format!("{domain:?} is not a host name"));
    }
    if RESERVED.contains(&domain) {
        return Err(format!("{domain:?} is a word of the API"));
    }
    Ok(())
}

pub(super) fn to_json(tenant: &TenantRow) -> Value {
    let number = |n: &NumberRow| match &n.trunk {
        None => json!(n.number),
        Some(trunk) => json!({ "trunk": trunk, "number": n.number }),
    };
    json!({
        "domain": tenant.domain,
        "default": tenant.default,
        "numbers": tenant.numbers.iter().map(number).collect::<Vec<_>>(),
        "fallback": tenant.fallback,
        "trunks": tenant.trunks,
        "max_sessions": tenant.max_sessions,
        "quotas": tenant.quotas,
        "error_prompt": tenant.error_prompt,
        "destinations": tenant.destinations,
        "mediaservice_ids": tenant.mediaservice_ids,
        "trusted": tenant.trusted,
        "outbox_origins": tenant.outbox_origins,
        "media_addresses": tenant.media_addresses,
        "recording_retention_s": tenant.recording_retention_ms.map(|ms| ms / 1000),
        "record_announce": tenant.record_announce,
        "graph_sample_rate": tenant.graph_sample_rate.unwrap_or(GRAPH_RATES[0]),
        "large_components": tenant.large_components,
        "country": country(&tenant.country),
        "codecs": tenant.codecs,
        "in_numbers": tenant.in_numbers,
        "created_at": rfc3339(tenant.created_at),
    })
}

/// As it is shown: a row of before there were countries has none.
fn country(code: &str) -> &'static str {
    code.parse::<Country>().unwrap_or_default().code()
}

/// The whole configuration: what is not named gets its default, but for the role of default tenant, which is `default` then.
pub(super) fn from_json(domain: String, mut body: Map<String, Value>, default: bool) -> Result<TenantRow, ApiError> {
    let numbers = match body.remove("numbers").unwrap_or_default() {
        Value::Null => Vec::new(),
        Value::Array(items) if items.len() <= NUMBERS => {
            items.iter().enumerate().map(|(place, item)| number(place, item)).collect::<Result<_, _>>()?
        }
        Value::Array(_) => return Err(ApiError::bad("numbers", format!("more than {NUMBERS}"))),
        _ => return Err(ApiError::bad("numbers", "must be a list")),
    };
    let fallback = match body.remove("fallback").unwrap_or_default() {
        Value::Null => FallbackRow::Refuse { status: 503 },
        value => fallback(value)?,
    };
    let max_sessions = match body.remove("max_sessions").unwrap_or_default() {
        Value::Null => MAX_SESSIONS,
        value => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) if n as usize <= hookswitch_call::limits::SESSIONS => n,
            _ => return Err(ApiError::bad("max_sessions", format!("must be a number from 0 to {}", hookswitch_call::limits::SESSIONS))),
        },
    };
    let quotas = match body.remove("quotas").unwrap_or_default() {
        Value::Null => Quotas::default(),
        Value::Object(fields) => quotas(fields)?,
        _ => return Err(ApiError::bad("quotas", "must be an object")),
    };
    let trunks = texts(&mut body, "trunks", DESTINATIONS, |text| match check_name("", text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(format!("must be 1 to {NAME} visible ASCII characters")),
    })?;
    let error_prompt = match body.remove("error_prompt").unwrap_or_default() {
        Value::Null => None,
        Value::String(name) => {
            check_file_name(&name).map_err(|why| ApiError::bad("error_prompt", why))?;
            Some(name)
        }
        _ => return Err(ApiError::bad("error_prompt", "must be a file name")),
    };
    let default = match body.remove("default").unwrap_or_default() {
        Value::Null => default,
        Value::Bool(default) => default,
        _ => return Err(ApiError::bad("default", "must be true or false")),
    };
    let destinations = texts(&mut body, "destinations", DESTINATIONS, |text| match text.parse::<Destination>() {
        Ok(destination) => Ok(destination.to_string()),
        Err(error) => Err(error.to_string()),
    })?;
    let mediaservice_ids = texts(&mut body, "mediaservice_ids", MEDIASERVICES, |text| match check_name("", text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(format!("must be 1 to {NAME} visible ASCII characters")),
    })?;
    let outbox_origins = texts(&mut body, "outbox_origins", ORIGINS, origin)?;
    let media_addresses = texts(&mut body, "media_addresses", MEDIA_ADDRESSES, |text| match text.parse::<Network>() {
        Ok(network) => Ok(network.to_string()),
        Err(error) => Err(error.to_string()),
    })?;
    let recording_retention_ms = match body.remove("recording_retention_s").unwrap_or_default() {
        Value::Null => None,
        value => match value.as_u64() {
            Some(seconds) if (1..=RETENTION).contains(&seconds) => Some(seconds * 1000),
            _ => return Err(ApiError::bad("recording_retention_s", format!("must be a number from 1 to {RETENTION}, or null"))),
        },
    };
    let record_announce = match body.remove("record_announce").unwrap_or_default() {
        Value::Null => RecordAnnounce::default(),
        value => match value.as_str().and_then(RecordAnnounce::of_name) {
            Some(announce) => announce,
            None => return Err(ApiError::bad("record_announce", format!("must be one of {}", RecordAnnounce::NAMES.join(", ")))),
        },
    };
    let graph_sample_rate = match body.remove("graph_sample_rate").unwrap_or_default() {
        Value::Null => None,
        value => match GRAPH_RATES.into_iter().find(|hz| value == *hz) {
            // The usual one is nobody's choice: it is the vendor's also when that changes.
            Some(hz) => Some(hz).filter(|hz| *hz != GRAPH_RATES[0]),
            None => return Err(ApiError::bad("graph_sample_rate", "must be 16000 or 8000")),
        },
    };
    let trusted = match body.remove("trusted").unwrap_or_default() {
        Value::Null => false,
        Value::Bool(trusted) => trusted,
        _ => return Err(ApiError::bad("trusted", "must be true or false")),
    };
    let large_components = match body.remove("large_components").unwrap_or_default() {
        Value::Null => false,
        Value::Bool(large) => large,
        _ => return Err(ApiError::bad("large_components", "must be true or false")),
    };
    let country = match body.remove("country").unwrap_or_default() {
        Value::Null => Country::default().code().to_owned(),
        Value::String(code) => code.parse::<Country>().map_err(|why| ApiError::bad("country", why.to_string()))?.code().to_owned(),
        _ => return Err(ApiError::bad("country", "must be a code of two letters")),
    };
    let codecs = texts(&mut body, "codecs", CODECS.len(), |text| match CODECS.into_iter().find(|c| c.eq_ignore_ascii_case(text)) {
        Some(name) => Ok(name.to_owned()),
        None => Err(format!("must be one of {}", CODECS.join(", "))),
    })?;
    let in_numbers = texts(&mut body, "in_numbers", IN_NUMBERS, |text| match check_name("", text) {
        Ok(()) if !text.trim_end_matches('*').is_empty() => Ok(text.to_owned()),
        _ => Err(format!("must be 1 to {NAME} visible ASCII characters, and more than *")),
    })?;
    // What a listing says about a tenant may be sent back with changes.
    body.remove("created_at");
    if let Some(named) = body.remove("domain")
        && named != Value::String(domain.clone())
    {
        return Err(ApiError::bad("domain", "is not the one in the path"));
    }
    // Unlike the call API, which ignores what it does not know: a mistyped limit must not pass as no limit.
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    Ok(TenantRow {
        domain,
        numbers,
        fallback,
        trunks,
        max_sessions,
        quotas,
        error_prompt,
        destinations,
        mediaservice_ids,
        trusted,
        outbox_origins,
        media_addresses,
        recording_retention_ms,
        record_announce,
        graph_sample_rate,
        large_components,
        country,
        codecs,
        in_numbers,
        default,
        created_at: 0,
    })
}

/// Every quota: its largest value, which is as good as none, and what it says.
const QUOTAS: [(&str, u64, &str); 7] = [
    ("calls_per_second", limits::QUOTA_CALLS_PER_SECOND, "Calls a second, in and placed; more get 480."),
    ("instances", limits::QUOTA_INSTANCES, "Instances of its handler at a time: one a call; more calls get the fallback."),
    ("cpu_ms_per_second", limits::QUOTA_CPU_MS, "CPU milliseconds of its handlers in a second; what is beyond waits."),
    ("cpu_weight", limits::QUOTA_CPU_WEIGHT, "Its share of a busy guest thread beside others'; 1 where nothing is said."),
    ("storage_bytes", limits::QUOTA_STORAGE, "Bytes of recordings and prompts here; beyond, new ones get 507."),
    ("minutes_per_month", limits::QUOTA_MINUTES, "Answered minutes of a calendar month (UTC), in and out; beyond, calls get 480."),
    (
        "deploys_per_minute",
        limits::QUOTA_DEPLOYS,
        "Uploads and activations of its handler in a minute; 12 where nothing is said. More get 429.",
    ),
];

/// The least that a quota may be: with none of these nothing would work, which has other ways to be said.
fn least(quota: &str) -> u64 {
    u64::from(["cpu_weight", "deploys_per_minute"].contains(&quota))
}

fn quotas(mut fields: Map<String, Value>) -> Result<Quotas, ApiError> {
    let mut values = [None; QUOTAS.len()];
    for ((name, most, _), value) in QUOTAS.iter().zip(&mut values) {
        let least = least(name);
        *value = match fields.remove(*name).unwrap_or_default() {
            Value::Null => None,
            given => match given.as_u64() {
                Some(n) if (least..=*most).contains(&n) => Some(n),
                _ => return Err(ApiError::bad(&format!("quotas.{name}"), format!("must be a number from {least} to {most}, or null"))),
            },
        };
    }
    if let Some(unknown) = fields.keys().next() {
        return Err(ApiError::bad(&format!("quotas.{unknown}"), "no such quota"));
    }
    let small = |value: Option<u64>| value.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let [calls, instances, cpu, weight, storage_bytes, minutes, deploys] = values;
    Ok(Quotas {
        calls_per_second: small(calls),
        instances: small(instances),
        cpu_ms_per_second: small(cpu),
        cpu_weight: small(weight).unwrap_or(1),
        storage_bytes,
        minutes_per_month: small(minutes),
        deploys_per_minute: small(deploys),
    })
}

fn schema_of_quotas() -> Value {
    let one = |(name, most, says): &(&str, u64, &str)| {
        let least = least(name);
        ((*name).to_owned(), json!({ "type": ["integer", "null"], "minimum": least, "maximum": most, "description": says }))
    };
    let properties: Map<String, Value> = QUOTAS.iter().map(one).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false, "description": "What it may use; null: all there is." })
}

/// A list of texts, each of them read by `check`.
fn texts(
    body: &mut Map<String, Value>,
    field: &str,
    most: usize,
    check: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, ApiError> {
    match body.remove(field).unwrap_or_default() {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) if items.len() <= most => {
            let read = |(place, item): (usize, &Value)| {
                let text = item.as_str().ok_or_else(|| "must be a text".to_owned());
                text.and_then(&check).map_err(|why| ApiError::bad(&format!("{field}[{place}]"), why))
            };
            items.iter().enumerate().map(read).collect()
        }
        Value::Array(_) => Err(ApiError::bad(field, format!("more than {most}"))),
        _ => Err(ApiError::bad(field, "must be a list")),
    }
}

/// An origin (RFC 6454 6.2): scheme, host, perhaps a port, and nothing else. Without TLS only this machine: what handlers post holds
/// numbers and digits.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:.128?} is no origin: https://host or https://host:port, http:// for this machine alone");
    let uri: axum::http::Uri = text.parse().map_err(|_| wrong())?;
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().ok_or_else(wrong)?);
    // `Uri` gives a missing path as `/`.
    let bare = text.strip_suffix('/').unwrap_or(text).eq_ignore_ascii_case(&format!("{scheme}://{authority}"));
    let host = authority.host();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let here = ip.map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback());
    let secure = scheme == "https" || (scheme == "http" && here);
    if !bare || !secure || host.is_empty() || authority.as_str().contains('@') {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()))
}

/// A tenant as it is shown.
pub(super) fn schema() -> Value {
    let Value::Object(properties) = properties() else { return Value::Null };
    let shown = properties.iter().chain(&extra()).map(|(name, schema)| (name.clone(), schema.clone())).collect::<Vec<_>>();
    endpoint::object(&shown.iter().map(|(name, schema)| (name.as_str(), schema.clone())).collect::<Vec<_>>())
}

/// A tenant as it is put: what is not named, or null, gets its default.
pub(super) fn schema_of_body() -> Value {
    let Value::Object(mut properties) = properties() else { return Value::Null };
    for schema in properties.values_mut() {
        *schema = json!({ "anyOf": [schema.clone(), { "type": "null" }] });
    }
    properties.extend(extra());
    properties.insert("created_at".into(), json!({ "description": "Ignored: what is shown may be sent back." }));
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// What is shown, and may be sent back unchanged.
fn extra() -> Map<String, Value> {
    let extra = json!({
        "domain": endpoint::text("The tenant: a host name in lower case. In a body: as in the path."),
        "created_at": endpoint::time("When it was made."),
    });
    extra.as_object().cloned().unwrap_or_default()
}

fn properties() -> Value {
    let texts = |most: usize, says: &str| json!({ "type": "array", "maxItems": most, "items": { "type": "string" }, "description": says });
    let name = json!({ "type": "string", "minLength": 1, "maxLength": NAME, "pattern": "^[!-~]+$" });
    json!({
        "default": endpoint::flag("Takes what no number and no domain matches. Not named: stays as it was."),
        "numbers": {
            "type": "array", "maxItems": NUMBERS, "description": "Numbers that lead to its handler, from any trunk or from one.",
            "items": { "anyOf": [name, {
                "type": "object", "required": ["number"],
                "properties": { "trunk": { "anyOf": [name, { "type": "null" }] }, "number": name },
            }] },
        },
        "fallback": {
            "description": "What a caller gets when the handler failed for good: a SIP status, or files that are played.",
            "oneOf": [
                {
                    "type": "object", "required": ["action", "status"], "additionalProperties": false,
                    "properties": { "action": { "const": "refuse" }, "status": { "type": "integer", "minimum": 400, "maximum": 699 } },
                },
                {
                    "type": "object", "required": ["action", "files"], "additionalProperties": false,
                    "properties": {
                        "action": { "const": "announce" },
                        "files": { "type": "array", "minItems": 1, "maxItems": FILES, "items": { "type": "string" } },
                    },
                },
            ],
        },
        "max_sessions": {
            "type": "integer", "minimum": 0, "maximum": hookswitch_call::limits::SESSIONS, "default": MAX_SESSIONS,
            "description": "Calls at a time; more are refused with 486.",
        },
        "trunks": texts(DESTINATIONS, "Trunks whose calls it takes. None: calls from anywhere."),
        "quotas": schema_of_quotas(),
        "error_prompt": endpoint::nullable(endpoint::text("File played before a call is released because its handler failed.")),
        "destinations": texts(DESTINATIONS, "Whom its handlers may call: an address with an optional /prefix, a host name, *.domain or                                              trunk:NAME, the first three perhaps with :port. None: nobody."),
        "mediaservice_ids": texts(MEDIASERVICES, "Names that placeivrcall may give as mediaserviceId."),
        "trusted": endpoint::flag("P-Asserted-Identity of its handlers goes out."),
        "country": {
            "enum": Country::codes().map(Value::from).chain([Value::Null]).collect::<Vec<_>>(),
            "description": "Whose ringing tone its waiting parties hear. Null: SE.",
        },
        "codecs": {
            "type": "array", "maxItems": CODECS.len(), "items": { "enum": CODECS },
            "description": "Codecs that are offered before the node's others, best first.",
        },
        "in_numbers": texts(IN_NUMBERS, "Called numbers in IN mode: the handler says by get-call-identifier which call it is, which then goes to the IVR. With * at the end: all that begin so."),
        "large_components": endpoint::flag("It may upload components of up to 32 MiB, whose instances may have 64 MiB of memory: Python's."),
        "recording_retention_s": {
            "type": ["integer", "null"], "minimum": 1, "maximum": RETENTION,
            "description": "Recordings are removed so many seconds after their end, where they say nothing else. None: never.",
        },
        "record_announce": {
            "enum": RecordAnnounce::NAMES, "default": RecordAnnounce::default(),
            "description": "`always`: every recording tells who is recorded by a warning tone, whoever asks for it; `off`: as each asks.",
        },
        "graph_sample_rate": {
            "enum": GRAPH_RATES, "default": GRAPH_RATES[0],
            "description": "Hz of recordings that Microsoft Graph's recordResponse makes, where they say nothing else.",
        },
        "outbox_origins": texts(ORIGINS, "Origins that its handlers may post to: https://host[:port]; http:// for this machine alone."),
        "media_addresses": texts(MEDIA_ADDRESSES, "Where its devices may take their media: addresses, perhaps with a /prefix. None: nowhere."),
    })
}

fn number(place: usize, item: &Value) -> Result<NumberRow, ApiError> {
    let field = format!("numbers[{place}]");
    let (trunk, number) = match item {
        Value::String(number) => (None, number.as_str()),
        Value::Object(fields) => {
            let trunk = match fields.get("trunk") {
                None | Some(Value::Null) => None,
                Some(Value::String(trunk)) => Some(trunk.clone()),
                Some(_) => return Err(ApiError::bad(&field, "trunk must be a name")),
            };
            match fields.get("number") {
                Some(Value::String(number)) => (trunk, number.as_str()),
                _ => return Err(ApiError::bad(&field, "number must be a text")),
            }
        }
        _ => return Err(ApiError::bad(&field, "must be a number as text, or an object with trunk and number")),
    };
    check_name(&field, number)?;
    if let Some(trunk) = &trunk {
        check_name(&field, trunk)?;
    }
    Ok(NumberRow { trunk, number: number.to_owned() })
}

pub(super) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let fits = !name.is_empty() && name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(ApiError::bad(field, format!("must be 1 to {NAME} visible ASCII characters"))) }
}

fn fallback(value: Value) -> Result<FallbackRow, ApiError> {
    const FORMS: &str = r#"must be {"action":"refuse","status":503} or {"action":"announce","files":["closed.wav"]}"#;
    let fallback: FallbackRow = serde_json::from_value(value).map_err(|_| ApiError::bad("fallback", FORMS))?;
    match &fallback {
        FallbackRow::Refuse { status } if !(400..=699).contains(status) => {
            Err(ApiError::bad("fallback.status", "must be a final refusal, 400 to 699"))
        }
        FallbackRow::Announce { files } if !(1..=FILES).contains(&files.len()) => {
            Err(ApiError::bad("fallback.files", format!("must be 1 to {FILES} files")))
        }
        FallbackRow::Announce { files } => {
            for file in files {
                check_file_name(file).map_err(|why| ApiError::bad("fallback.files", why))?;
            }
            Ok(fallback)
        }
        FallbackRow::Refuse { .. } => Ok(fallback),
    }
}

#[cfg(test)]
mod tests;
