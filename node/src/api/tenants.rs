//! `/admin/tenants`: who may be called here. The body is read by hand, so that a refusal names the field.

use super::access::{Caller, RESERVED, hash_hex, new_token};
use super::endpoint::{self, Path};
use super::prompts::check_file_name;
use super::reply::{self, ApiError, Reply};
use super::{Shared, blocking, rfc3339};
use crate::store::{FallbackRow, NumberRow, TenantRow};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use hookswitch_call::Destination;
use serde_json::{Map, Value, json};

/// A tenant's configuration: 10,000 numbers fit.
const BODY: usize = 512 << 10;
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
/// Seconds that a tenant may keep its recordings for: a hundred years. Longer is for ever, which is null.
const RETENTION: u64 = 100 * 366 * 24 * 3600;
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
        let tenant = from_json(domain, body, before.as_ref())?;
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

/// Makes a token for a tenant and says it once: only its hash is kept. The same label again replaces the token.
pub(super) async fn make_token(State(api): Shared, caller: Caller, Path((domain, label)): Path<(String, String)>) -> Reply {
    check_name("label", &label)?;
    let token = blocking(move || {
        let token = new_token().map_err(|error| {
            tracing::error!(%error, "no random numbers");
            ApiError::internal()
        })?;
        api.store.put_token(&domain.to_ascii_lowercase(), &label, &hash_hex(&token), &caller.to_string())?;
        Ok(token)
    })
    .await?;
    reply::with_status(StatusCode::CREATED, json!({ "token": token }))
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

fn to_json(tenant: &TenantRow) -> Value {
    let number = |n: &NumberRow| match &n.trunk {
        None => json!(n.number),
        Some(trunk) => json!({ "trunk": trunk, "number": n.number }),
    };
    json!({
        "domain": tenant.domain,
        "default": tenant.default,
        "numbers": tenant.numbers.iter().map(number).collect::<Vec<_>>(),
        "fallback": tenant.fallback,
        "max_sessions": tenant.max_sessions,
        "error_prompt": tenant.error_prompt,
        "destinations": tenant.destinations,
        "mediaservice_ids": tenant.mediaservice_ids,
        "trusted": tenant.trusted,
        "outbox_origins": tenant.outbox_origins,
        "recording_retention_s": tenant.recording_retention_ms.map(|ms| ms / 1000),
        "large_components": tenant.large_components,
        "created_at": rfc3339(tenant.created_at),
    })
}

/// The whole configuration: what is not named gets its default, but for the role of default tenant, which stays.
fn from_json(domain: String, mut body: Map<String, Value>, before: Option<&TenantRow>) -> Result<TenantRow, ApiError> {
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
    let error_prompt = match body.remove("error_prompt").unwrap_or_default() {
        Value::Null => None,
        Value::String(name) => {
            check_file_name(&name).map_err(|why| ApiError::bad("error_prompt", why))?;
            Some(name)
        }
        _ => return Err(ApiError::bad("error_prompt", "must be a file name")),
    };
    let default = match body.remove("default").unwrap_or_default() {
        Value::Null => before.is_some_and(|before| before.default),
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
    let recording_retention_ms = match body.remove("recording_retention_s").unwrap_or_default() {
        Value::Null => None,
        value => match value.as_u64() {
            Some(seconds) if (1..=RETENTION).contains(&seconds) => Some(seconds * 1000),
            _ => return Err(ApiError::bad("recording_retention_s", format!("must be a number from 1 to {RETENTION}, or null"))),
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
        max_sessions,
        error_prompt,
        destinations,
        mediaservice_ids,
        trusted,
        outbox_origins,
        recording_retention_ms,
        large_components,
        default,
        created_at: 0,
    })
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
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// What is shown, and may be sent back unchanged.
fn extra() -> Map<String, Value> {
    let extra = json!({
        "domain": endpoint::text("The tenant: a host name in lower case. In a body: as in the path."),
        "created_at": endpoint::time("When it was made. In a body: ignored."),
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
            "description": "Calls at a time; more are refused with 503.",
        },
        "error_prompt": endpoint::nullable(endpoint::text("File played before a call is released because its handler failed.")),
        "destinations": texts(DESTINATIONS, "Whom its handlers may call: an address with an optional /prefix, a host name, *.domain or                                              trunk:NAME, the first three perhaps with :port. None: nobody."),
        "mediaservice_ids": texts(MEDIASERVICES, "Names that placeivrcall may give as mediaserviceId."),
        "trusted": endpoint::flag("P-Asserted-Identity of its handlers goes out."),
        "large_components": endpoint::flag("It may upload components of up to 32 MiB, whose instances may have 64 MiB of memory: Python's."),
        "recording_retention_s": {
            "type": ["integer", "null"], "minimum": 1, "maximum": RETENTION,
            "description": "Recordings are removed so many seconds after their end, where they say nothing else. None: never.",
        },
        "outbox_origins": texts(ORIGINS, "Origins that its handlers may post to: https://host[:port]; http:// for this machine alone."),
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
