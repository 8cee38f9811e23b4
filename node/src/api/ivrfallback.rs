//! `/{domain}/ivrfallback`: what calls to a number do without their handler (IC-088 to IC-095): phrases, then a call or the end. Reads what a
//! tenant gives, and again what was stored, so that the switch gets what was checked.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::fields::{self, Field, Kind, optional, required};
use super::reply::{self, ApiError, Reply};
use super::{Shared, blocking, rfc3339};
use crate::guest::checks;
use crate::limits;
use crate::store::{FallbackObject, Store, StoreError, wall_ms};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use hookswitch_call::{Configuration, FallbackMode, NumberFallback, OutboundCall, Phrase};
use hookswitch_wasm::wit;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const BODY: usize = 64 << 10;
const DAY: u64 = 24 * 60 * 60 * 1000;

const ACTION: &[Field] = &fields::joined::<{ fields::CALL_OUT.len() + 3 }>(
    &[
        required("type", Kind::Text, "`call` or `hangup`."),
        optional("destAddr", Kind::Uri, "SIP URI to call. The tenant's list of destinations must have it."),
        optional("copyHeaders", Kind::Json, "Names of X- and P- headers of the INVITE to copy."),
    ],
    fields::CALL_OUT,
);
const PHRASE: &[Field] = &[
    required("format", Kind::Text, "`file`, `url`, `awstts`, `googletts` or `tts`."),
    optional("fileName", Kind::FileName, "File to play, or name under which to keep the result."),
    optional("url", Kind::Uri, "Where the audio is."),
    optional("cacheTimeToLive", Kind::Text, "DAY, WEEK, MONTH, QUARTER or HALF-YEAR; WEEK where it is not said."),
    optional("refreshCache", Kind::Flag, "Fetch or synthesise it each time."),
    optional("awsTTSParameters", Kind::Json, "Of `awstts`: as Polly's SynthesizeSpeech takes them."),
    optional("googleTTSParameters", Kind::Json, "Of `googletts`: as Google's text:synthesize takes them."),
    optional("ttsParameters", Kind::Json, "Of `tts`: `text`, `language`, `voice`."),
];

type Raw<'a> = BTreeMap<String, &'a RawValue>;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let all = blocking(move || Ok(api.store.fallbacks(&domain)?)).await?;
    reply::list("ivrfallbacks", all.iter().map(to_json).collect(), None)
}

pub(super) async fn get(State(api): Shared, Domain(domain): Domain, Path((_, number)): Path<(String, String)>) -> Reply {
    let found = blocking(move || Ok(api.store.fallback(&domain, &number)?)).await?;
    let found = found.ok_or_else(|| ApiError::not_found("this number has no fallback"))?;
    reply::ok(to_json(&found))
}

pub(super) async fn put(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, number)): Path<(String, String)>,
    request: Request,
) -> Reply {
    check_number(&number)?;
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    let (mode, expires_at, command) = read(&body, wall_ms())?;
    let row = FallbackObject { domain, number, mode: mode_name(mode).into(), command, expires_at, changed_at: 0 };
    let new = blocking(move || {
        let new = api.store.put_fallback(row, limits::NUMBER_FALLBACKS, &caller.to_string())?;
        api.node.configure();
        Ok(new)
    })
    .await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({}))
}

pub(super) async fn remove(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, number)): Path<(String, String)>) -> Reply {
    blocking(move || {
        api.store.delete_fallback(&domain, &number, &caller.to_string())?;
        api.node.configure();
        Ok(())
    })
    .await?;
    reply::ok(json!({}))
}

/// Puts the fallbacks of numbers into the tenants that the switch gets.
pub fn with_fallbacks(mut configuration: Configuration, store: &Store) -> Result<Configuration, StoreError> {
    let mut of_tenants = BTreeMap::<String, BTreeMap<String, Arc<NumberFallback>>>::new();
    for row in store.all_fallbacks()? {
        match from_row(&row) {
            Ok(fallback) => _ = of_tenants.entry(row.domain).or_default().insert(row.number, Arc::new(fallback)),
            // It was read when it was stored: only an older node's can be so.
            Err(why) => tracing::error!(domain = row.domain, number = row.number, why = why.message, "ivrfallback left out"),
        }
    }
    for tenant in &mut configuration.tenants {
        if let Some(fallbacks) = of_tenants.remove(&*tenant.domain) {
            Arc::make_mut(tenant).number_fallbacks = fallbacks;
        }
    }
    Ok(configuration)
}

fn from_row(row: &FallbackObject) -> Result<NumberFallback, ApiError> {
    let (phrases, call) = read_command(&row.command)?;
    Ok(NumberFallback { mode: mode(&row.mode)?, phrases, call: call.map(Box::new), expires_at_ms: row.expires_at })
}

fn check_number(number: &str) -> Result<(), ApiError> {
    let fits = (1..=128).contains(&number.len()) && !number.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits { Ok(()) } else { Err(ApiError::bad("number", "1 to 128 bytes without spaces and control characters")) }
}

/// Mode, end (milliseconds since the Unix epoch) and command of a body.
fn read(body: &[u8], now: u64) -> Result<(FallbackMode, u64, String), ApiError> {
    let raw: Raw<'_> = serde_json::from_slice(body).map_err(|error| ApiError::bad("body", format!("not a JSON object: {error}")))?;
    let text = |name: &str| raw.get(name).map(|raw| serde_json::from_str::<Value>(raw.get()).unwrap_or_default());
    let mode = mode(text("mode").as_ref().and_then(Value::as_str).ok_or_else(|| ApiError::bad("mode", "must be onError or always"))?)?;
    let expires_at = expiration(text("expiration"), now)?;
    let command = raw.get("command").ok_or_else(|| ApiError::bad("command", "is missing"))?.get();
    read_command(command)?;
    Ok((mode, expires_at, command.to_owned()))
}

fn mode(text: &str) -> Result<FallbackMode, ApiError> {
    match text {
        "onError" => Ok(FallbackMode::OnError),
        "always" => Ok(FallbackMode::Always),
        _ => Err(ApiError::bad("mode", "must be onError or always")),
    }
}

fn mode_name(mode: FallbackMode) -> &'static str {
    match mode {
        FallbackMode::OnError => "onError",
        FallbackMode::Always => "always",
    }
}

/// IC-092: a word, or seconds since the Unix epoch.
fn expiration(given: Option<Value>, now: u64) -> Result<u64, ApiError> {
    let bad = || ApiError::bad("expiration", "must be DAY, WEEK, MONTH, QUARTER, HALF-YEAR or a time to come in Unix seconds");
    let at = |seconds: u64| seconds.checked_mul(1000).filter(|ms| (now + 1..=i64::MAX as u64).contains(ms)).ok_or_else(bad);
    match given {
        None | Some(Value::Null) => Ok(now + 182 * DAY),
        Some(Value::Number(number)) => at(number.as_u64().ok_or_else(bad)?),
        Some(Value::String(word)) => match word.as_str() {
            "DAY" => Ok(now + DAY),
            "WEEK" => Ok(now + 7 * DAY),
            "MONTH" => Ok(now + 30 * DAY),
            "QUARTER" => Ok(now + 91 * DAY),
            "HALF-YEAR" => Ok(now + 182 * DAY),
            seconds => at(seconds.parse().map_err(|_| bad())?),
        },
        Some(_) => Err(bad()),
    }
}

/// The same refusal with the whole path of its field.
fn below(path: &str, mut error: ApiError) -> ApiError {
    error.message = format!("{path}.{}", error.message);
    error
}

fn read_command(json: &str) -> Result<(Vec<Phrase>, Option<OutboundCall>), ApiError> {
    let raw: Raw<'_> = serde_json::from_str(json).map_err(|_| ApiError::bad("command", "must be an object"))?;
    let phrases: Vec<&RawValue> = match raw.get("phrases").map(|raw| raw.get()) {
        None | Some("null") => Vec::new(),
        Some(list) => serde_json::from_str(list).map_err(|_| ApiError::bad("command.phrases", "must be a list"))?,
    };
    if phrases.len() > hookswitch_call::limits::PHRASES {
        return Err(ApiError::bad("command.phrases", format!("more than {}", hookswitch_call::limits::PHRASES)));
    }
    let phrases = phrases.iter().enumerate().map(|(at, raw)| phrase(at, raw.get())).collect::<Result<_, _>>()?;
    let action = raw.get("action").ok_or_else(|| ApiError::bad("command.action", "is missing"))?;
    let call = action_of(action.get().as_bytes()).map_err(|error| below("command.action", error))?;
    Ok((phrases, call))
}

fn phrase(at: usize, json: &str) -> Result<Phrase, ApiError> {
    let path = format!("command.phrases[{at}]");
    let mut values = fields::read(PHRASE, json.as_bytes()).map_err(|error| below(&path, error))?;
    let bad = |field: &str, why: &str| below(&path, ApiError::bad(field, why));
    let format = values.required("format");
    let cache_time_to_live = match values.text("cacheTimeToLive").as_deref() {
        None => None,
        Some("DAY") => Some(wit::CacheTime::Day),
        Some("WEEK") => Some(wit::CacheTime::Week),
        Some("MONTH") => Some(wit::CacheTime::Month),
        Some("QUARTER") => Some(wit::CacheTime::Quarter),
        Some("HALF-YEAR") => Some(wit::CacheTime::HalfYear),
        Some(_) => return Err(bad("cacheTimeToLive", "must be DAY, WEEK, MONTH, QUARTER or HALF-YEAR")),
    };
    let (refresh_cache, file_name, url) = (values.flag("refreshCache"), values.text("fileName"), values.text("url"));
    let mut speech = |engine: &str, field: &str| -> Result<wit::Phrase, ApiError> {
        let parameters = values.text(field).ok_or_else(|| bad(field, "is missing"))?;
        let (engine, file_name) = (engine.to_owned(), file_name.clone());
        Ok(wit::Phrase::Tts(wit::TtsPhrase { engine, parameters, cache_time_to_live, refresh_cache, file_name, extra: Vec::new() }))
    };
    let given = match format.as_str() {
        "file" => {
            let file_name = file_name.ok_or_else(|| bad("fileName", "is missing"))?;
            wit::Phrase::File(wit::FilePhrase { file_name, extra: Vec::new() })
        }
        "awstts" => speech("awstts", "awsTTSParameters")?,
        "googletts" => speech("googletts", "googleTTSParameters")?,
        "tts" => speech("local", "ttsParameters")?,
        "url" => {
            let url = url.ok_or_else(|| bad("url", "is missing"))?;
            wit::Phrase::Url(wit::UrlPhrase { url, cache_time_to_live, refresh_cache, file_name, extra: Vec::new() })
        }
        _ => return Err(bad("format", "must be file, url, awstts, googletts or tts")),
    };
    checks::phrase(at, given).map_err(|wrong| ApiError::bad(&format!("command.{}", wrong.field), wrong.why))
}

/// `None`: hang up.
fn action_of(json: &[u8]) -> Result<Option<OutboundCall>, ApiError> {
    let mut values = fields::read(ACTION, json)?;
    match values.required("type").as_str() {
        "hangup" => return Ok(None),
        "call" => {}
        _ => return Err(ApiError::bad("type", "must be call or hangup")),
    }
    let names: Vec<String> = match values.text("copyHeaders") {
        None => Vec::new(),
        Some(list) => serde_json::from_str(&list).map_err(|_| ApiError::bad("copyHeaders", "must be a list of header names"))?,
    };
    let copy_headers = checks::header_names("copyHeaders", names).map_err(|wrong| ApiError::bad(&wrong.field, wrong.why))?;
    let dest_addr = values.text("destAddr").ok_or_else(|| ApiError::bad("destAddr", "is missing"))?;
    Ok(Some(OutboundCall { copy_headers, ..values.call_to(dest_addr) }))
}

fn to_json(row: &FallbackObject) -> Value {
    let command: Value = serde_json::from_str(&row.command).unwrap_or_default();
    json!({
        "number": row.number,
        "mode": row.mode,
        "expiration": row.expires_at / 1000,
        "ttl": row.expires_at.saturating_sub(wall_ms()) / 1000,
        "command": command,
        "changed_at": rfc3339(row.changed_at),
    })
}

pub(super) fn fields() -> Vec<(&'static str, Value)> {
    vec![
        ("number", endpoint::text("The called number.")),
        ("mode", endpoint::text("`onError`: where newCall failed for good. `always`: in place of newCall.")),
        ("expiration", endpoint::number("When it ends, in seconds since the Unix epoch.")),
        ("ttl", endpoint::number("Seconds until then.")),
        ("command", json!({ "type": "object", "description": "As it was given." })),
        ("changed_at", endpoint::time("When it was given.")),
    ]
}

pub(super) fn schema_of_body() -> Value {
    json!({
        "type": "object", "required": ["mode", "command"],
        "properties": {
            "mode": { "enum": ["onError", "always"], "description": "When it runs." },
            "expiration": {
                "description": "DAY, WEEK, MONTH, QUARTER, HALF-YEAR (the default), or seconds since the Unix epoch.",
                "type": ["string", "integer", "null"],
            },
            "command": {
                "type": "object", "required": ["action"],
                "properties": {
                    "phrases": {
                        "type": ["array", "null"], "maxItems": hookswitch_call::limits::PHRASES, "items": fields::schema(PHRASE),
                        "description": "Played in order after the call was answered. None: it is not answered before the callee is.",
                    },
                    "action": fields::schema(ACTION),
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
