//! What the API answers: JSON bodies, errors as `{"success":false,"error":CODE,"message":TEXT}` (IC-008), and how request bodies and
//! queries are read so that every refusal names the field.

use crate::deliver::EraseError;
use crate::store::StoreError;
use crate::versions::VersionError;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use hookswitch_call::Quota;
use serde_json::{Value, json};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) type Reply = Result<Response, ApiError>;

#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// When to try again.
    after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into(), after: None }
    }
    /// The same of a field that is called otherwise here.
    pub(super) fn of_field(mut self, inside: &str, field: &str) -> ApiError {
        if let Some(why) = self.message.strip_prefix(inside) {
            self.message = format!("{field}{why}");
        }
        self
    }
    /// With Retry-After, in whole seconds.
    pub(super) fn after(mut self, wait: Duration) -> ApiError {
        self.after = Some(wait);
        self
    }
    pub(super) fn bad(field: &str, why: impl std::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_value", format!("{field}: {why}"))
    }
    pub(super) fn unauthorized() -> ApiError {
        ApiError::unauthorized_because("Authorization: a valid bearer token is needed")
    }
    pub(super) fn unauthorized_because(why: &str) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", why)
    }
    pub(super) fn forbidden(why: &str) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", why)
    }
    pub(super) fn not_found(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", why)
    }
    pub(super) fn gone(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GONE, "gone", why)
    }
    pub(super) fn method_not_allowed() -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this resource does not take this method")
    }
    pub(super) fn conflict(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "conflict", why)
    }
    pub(super) fn too_large(field: &str, limit: usize) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("{field}: larger than {limit} bytes"))
    }
    pub(super) fn too_many(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", why).after(Duration::from_secs(1))
    }
    pub(super) fn bad_range(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", why)
    }
    pub(super) fn unavailable(why: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why)
    }
    /// The tenant has used up what it may have: for what comes back by itself, 429; for storage, 507 (RFC 4918 11.5).
    pub(super) fn quota(quota: Quota) -> ApiError {
        let why = format!("{}: the tenant's quota is used up", quota.name());
        match quota {
            Quota::Storage => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "quota", why),
            _ => ApiError::new(StatusCode::TOO_MANY_REQUESTS, "quota", why)
                .after(quota.refusal().1.map_or(crate::limits::RETRY_AFTER, |seconds| Duration::from_secs(seconds.into()))),
        }
    }
    pub(super) fn internal() -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the node failed; its log says how")
    }
}

/// The code of a refusal, for the audit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "success": false, "error": self.code, "message": self.message }));
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(Code(self.code));
        if let Some(wait) = self.after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Unknown(what) => ApiError::not_found(format!("unknown {what}")),
            StoreError::Conflict { .. } => ApiError::conflict(error.to_string()),
            StoreError::Closed => ApiError::unavailable("the node is stopping"),
            StoreError::Busy => ApiError::unavailable("the store has too much to do"),
            StoreError::Sqlite(_) | StoreError::Newer { .. } => {
                tracing::error!(%error, "the store failed");
                ApiError::internal()
            }
        }
    }
}

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> ApiError {
        match error {
            EraseError::Store(error) => error.into(),
            EraseError::Files(_) => {
                tracing::error!(%error, "a recording could not be removed; it is tried again");
                ApiError::internal()
            }
        }
    }
}

impl From<VersionError> for ApiError {
    fn from(error: VersionError) -> ApiError {
        let text = error.to_string();
        match error {
            VersionError::TooLarge(_) => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text),
            VersionError::Refused(_) | VersionError::Note | VersionError::Signature(_) => {
                ApiError::new(StatusCode::BAD_REQUEST, "bad_value", text)
            }
            VersionError::Busy => ApiError::too_many(text),
            VersionError::UnknownDomain | VersionError::UnknownVersion(_) => ApiError::not_found(text),
            VersionError::NothingEarlier
            | VersionError::NothingActive
            | VersionError::AlreadyActive(_)
            | VersionError::NothingTried
            | VersionError::Changed
            | VersionError::Unsigned { .. }
            | VersionError::Load { .. } => ApiError::conflict(text),
            VersionError::Io(_) => {
                tracing::error!(%text, "a component could not be stored");
                ApiError::internal()
            }
            VersionError::Store(error) => error.into(),
        }
    }
}

/// 200 with `{"success":true, …}`.
pub(super) fn ok(fields: Value) -> Reply {
    with_status(StatusCode::OK, fields)
}

pub(super) fn with_status(status: StatusCode, fields: Value) -> Reply {
    let mut body = serde_json::Map::new();
    body.insert("success".into(), true.into());
    if let Value::Object(fields) = fields {
        body.extend(fields);
    }
    Ok((status, Json(Value::Object(body))).into_response())
}

/// 200 with an object that holds one list, newest first, and `next` where more follows.
pub(super) fn list(name: &str, items: Vec<Value>, next: Option<String>) -> Reply {
    let mut body = serde_json::Map::new();
    body.insert(name.into(), items.into());
    if let Some(next) = next {
        body.insert("next".into(), next.into());
    }
    Ok(Json(Value::Object(body)).into_response())
}

/// Reads a body of at most `limit` bytes whose type `accept` takes; a request that names no type may be anything.
pub(super) async fn body(
    request: Request,
    limit: usize,
    field: &str,
    accept: impl Fn(&str) -> bool,
    types: &str,
) -> Result<Received, ApiError> {
    if let Some(given) = request.headers().get(header::CONTENT_TYPE) {
        let given = given.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if !accept(&given) {
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", format!("Content-Type: {types} is needed")));
        }
    }
    let place = match limit {
        0..=SMALL => None,
        _ => Some(LARGE.try_acquire().map_err(|_| ApiError::too_many("too many uploads are under way; try again shortly"))?),
    };
    let bytes = read(request.into_body(), limit, FORGOTTEN).await?.ok_or_else(|| ApiError::too_large(field, limit))?;
    Ok(Received { bytes, _place: place })
}

/// A body. A large one keeps its place for as long as it is in memory.
pub(super) struct Received {
    bytes: Bytes,
    _place: Option<SemaphorePermit<'static>>,
}

impl std::ops::Deref for Received {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bodies of at most this size do not count as large.
const SMALL: usize = 1 << 20;
/// Large bodies in memory at a time: 640 MB at the very most. More: 429.
static LARGE: Semaphore = Semaphore::const_new(32);

/// What is too much of a body is read and forgotten up to so much.
const FORGOTTEN: usize = 64 << 20;

/// The whole body, or nothing when it is larger than `limit`. Up to `forgotten` bytes more are then read and forgotten: a client that
/// still sends would see its connection break in place of the answer.
async fn read(body: Body, limit: usize, forgotten: usize) -> Result<Option<Bytes>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut all = Vec::new();
    let mut size = 0usize;
    while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        let chunk = chunk.map_err(|error| ApiError::bad("body", format!("broke off: {error}")))?;
        size = size.saturating_add(chunk.len());
        if size <= limit {
            all.extend_from_slice(&chunk);
        } else {
            all = Vec::new();
            if size > limit.saturating_add(forgotten) {
                break;
            }
        }
    }
    Ok((size <= limit).then(|| all.into()))
}

/// Small bodies are read at once, whoever they are for, so that an answer given without looking at them finds a client that listens.
const SENT_AT_ONCE: usize = 64 << 10;

/// The same request, its body in memory if it is small.
pub(super) async fn gather(request: Request) -> Result<Request, ApiError> {
    match announced(&request) {
        Some(size @ 1..=SENT_AT_ONCE) => {
            let (parts, body) = request.into_parts();
            // The announced length is the body's: hyper sees to that.
            let bytes = read(body, size, 0).await?.unwrap_or_default();
            Ok(Request::from_parts(parts, Body::from(bytes)))
        }
        _ => Ok(request),
    }
}

/// Reads what a refused stranger sends along, within limits, so that it hears why.
pub(super) async fn forget(request: Request) {
    const PATIENCE: Duration = Duration::from_secs(1);
    if announced(&request).is_some_and(|size| size <= SENT_AT_ONCE) {
        let _ = tokio::time::timeout(PATIENCE, read(request.into_body(), 0, SENT_AT_ONCE)).await;
    }
}

fn announced(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A parameter of the query, decoded. The last one counts where it is repeated.
pub(super) fn query(request: &Request, name: &str) -> Result<Option<String>, ApiError> {
    Ok(all(request, name)?.pop())
}

/// The values of a parameter that may be repeated.
pub(super) fn all(request: &Request, name: &str) -> Result<Vec<String>, ApiError> {
    let pairs =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map_err(|_| ApiError::bad("query", "cannot be read"))?;
    Ok(pairs.0.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect())
}

/// `?limit=`: how many items of a list.
pub(super) fn limit(request: &Request) -> Result<u32, ApiError> {
    /// One page: some hundred KB of JSON.
    const LARGEST: u32 = 1000;
    const USUAL: u32 = 100;
    match query(request, "limit")? {
        None => Ok(USUAL),
        Some(text) => match text.parse() {
            Ok(limit) if (1..=LARGEST).contains(&limit) => Ok(limit),
            _ => Err(ApiError::bad("limit", format!("must be a number from 1 to {LARGEST}"))),
        },
    }
}

/// `true`, `1`, or the bare name; `false`, `0`; absent is false.
pub(super) fn flag(request: &Request, name: &str) -> Result<bool, ApiError> {
    match query(request, name)?.as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(_) => Err(ApiError::bad(name, "must be true or false")),
    }
}

/// Milliseconds since the Unix epoch as RFC 3339 in UTC, e.g. `2026-11-20T12:00:00.000Z`.
pub fn rfc3339(ms: u64) -> String {
    let (seconds, millis) = (ms / 1000, ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: years begin in March, so that the leap day is a year's last; eras are 400 years (146,097 days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199_000, "2023-12-31T23:59:59.000Z"),
            (1_763_640_000_123, "2025-11-20T12:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
        // The end of the type does not overflow.
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }
}
