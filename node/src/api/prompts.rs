//! `/{domain}/promptfile` (IC-083 to IC-085): audio that handlers play, by name. Recordings are found here too, by the name that they
//! were made under, to read and to remove.

use super::access::{Caller, Domain, Peer};
use super::endpoint::{self, Path as UrlPath};
use super::recordings::{self, Hearer};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, Upload, blocking, rfc3339};
use crate::limits;
use crate::prompt_files::{PromptError, check_file_name};
use crate::store::RecordingRow;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hookswitch_call::Quota;
use serde_json::json;
use std::sync::Arc;

/// Largest prompt taken: ten minutes of 16-bit mono at 16 kHz. More: 413.
const PROMPT_BYTES: usize = 20 << 20;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let prompts = blocking(move || Ok(api.prompts.list(&domain)?)).await?;
    let items = prompts.into_iter().map(|one| json!({ "name": one.name, "size": one.size, "changed_at": rfc3339(one.changed_at) }));
    reply::list("prompts", items.collect(), None)
}

pub(super) async fn show(
    State(api): Shared,
    caller: Caller,
    peer: Peer,
    Domain(domain): Domain,
    UrlPath((_, name)): UrlPath<(String, String)>,
    request: Request,
) -> Reply {
    enum Found {
        Prompt(Vec<u8>),
        Recording(Box<RecordingRow>),
    }
    let files = api.clone();
    let found = blocking(move || match files.prompts.read(&domain, &name) {
        Ok(bytes) => Ok(Found::Prompt(bytes)),
        Err(PromptError::Unknown) => Ok(Found::Recording(Box::new(recording(&files, &domain, &name)?))),
        Err(error) => Err(error.into()),
    })
    .await?;
    match found {
        Found::Prompt(bytes) => Ok(([(header::CONTENT_TYPE, "audio/wav")], bytes).into_response()),
        Found::Recording(row) => {
            let hearer = Hearer { who: caller.name(), peer: peer.to_string(), how: "file name" };
            recordings::stream(&api, *row, request.headers(), hearer).await
        }
    }
}

pub(super) async fn put(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    UrlPath((_, name)): UrlPath<(String, String)>,
    request: Request,
) -> Reply {
    let reply = take(api.clone(), caller, domain.clone(), name, request).await;
    api.tell_refusal(Upload::Prompt, &domain, reply)
}

async fn take(api: Arc<Api>, caller: Caller, domain: String, name: String, request: Request) -> Reply {
    check_file_name(&name).map_err(|why| ApiError::bad("name", why))?;
    let accept = |given: &str| given.starts_with("audio/") || given == "application/octet-stream";
    let bytes = reply::body(request, PROMPT_BYTES, "prompt", accept, "audio/wav").await?;
    let (new, duration) = blocking(move || {
        let duration = api.node.decode_prompt(&bytes).map_err(|why| ApiError::bad("prompt", why))?;
        Ok((api.prompts.put(&domain, &name, &bytes, &caller.to_string())?, duration))
    })
    .await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    reply::with_status(status, json!({ "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) }))
}

pub(super) async fn remove(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    UrlPath((_, name)): UrlPath<(String, String)>,
) -> Reply {
    blocking(move || match api.prompts.remove(&domain, &name, &caller.to_string()) {
        Err(PromptError::Unknown) => recordings::delete(&api, &recording(&api, &domain, &name)?, &caller),
        done => Ok(done?),
    })
    .await?;
    reply::ok(json!({}))
}

pub(super) fn schema() -> serde_json::Value {
    endpoint::object(&[
        ("name", endpoint::text("As handlers name it.")),
        ("size", endpoint::number("Bytes.")),
        ("changed_at", endpoint::time("When it was stored.")),
    ])
}

fn recording(api: &Api, domain: &str, name: &str) -> Result<RecordingRow, ApiError> {
    api.store.recording_named(domain, name)?.ok_or_else(|| ApiError::not_found("unknown file"))
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> ApiError {
        match error {
            PromptError::BadName(why) => ApiError::bad("name", why),
            PromptError::Unknown => ApiError::not_found("unknown file"),
            PromptError::TooMany => ApiError::conflict(format!("prompt: {error}")),
            PromptError::Quota => ApiError::quota(Quota::Storage),
            PromptError::Store(error) => error.into(),
            PromptError::Failed { .. } => {
                tracing::error!(%error, "prompt storage failed");
                ApiError::internal()
            }
        }
    }
}

/// An address that a prompt may be fetched from, by its form; whether this tenant may is asked when it is fetched.
pub(super) fn check_url(url: String) -> Result<String, &'static str> {
    if url.len() > limits::OUTBOX_URL {
        return Err("is too long");
    }
    let web = url.starts_with("https://") || url.starts_with("http://");
    if web && !url.chars().any(|c| c.is_control() || c == ' ') { Ok(url) } else { Err("must be an http or https URL") }
}
