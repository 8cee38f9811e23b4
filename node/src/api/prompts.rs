//! `/{domain}/promptfile` (IC-083 to IC-085): audio that handlers play, by name. Recordings are found here too, by the name that they
//! were made under, to read and to remove.

use super::access::{Caller, Domain, Peer};
use super::endpoint::{self, Path as UrlPath};
use super::recordings::{self, Hearer};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, Upload, blocking, rfc3339};
use crate::files;
use crate::limits;
use crate::store::RecordingRow;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hookswitch_call::Quota;
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Largest prompt taken: ten minutes of 16-bit mono at 16 kHz. More: 413.
const PROMPT_BYTES: usize = 20 << 20;
/// Bytes of a file's name (IC-038).
const NAME: usize = hookswitch_call::limits::FILE_NAME;
/// Files whose names begin so are on their way in, or somebody's own.
const HIDDEN: char = '.';

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let mut prompts = blocking(move || {
        let entries = match fs::read_dir(api.prompts.join(&domain)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&api.prompts, &error)),
        };
        let mut prompts = Vec::new();
        for entry in entries.flatten() {
            let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            if about.is_file() && !name.starts_with(HIDDEN) {
                let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
                prompts.push((u64::try_from(changed.as_millis()).unwrap_or(0), name, about.len()));
            }
        }
        Ok(prompts)
    })
    .await?;
    prompts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let items = prompts.into_iter().map(|(changed, name, size)| json!({ "name": name, "size": size, "changed_at": rfc3339(changed) }));
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
    let path = path(&api, &domain, &name)?;
    let store = api.clone();
    let found = blocking(move || match files::read(&path, limits::PROMPT_FILE) {
        Ok(bytes) => Ok(Found::Prompt(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Recording(Box::new(recording(&store, &domain, &name)?))),
        Err(error) => Err(failed(&path, &error)),
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
    let path = path(&api, &domain, &name)?;
    let accept = |given: &str| given.starts_with("audio/") || given == "application/octet-stream";
    let bytes = reply::body(request, PROMPT_BYTES, "prompt", accept, "audio/wav").await?;
    let (new, duration) = blocking(move || {
        let duration = api.node.decode_prompt(&bytes).map_err(|why| ApiError::bad("prompt", why))?;
        let folder = api.prompts.join(&domain);
        let new = !path.exists();
        if new && fs::read_dir(&folder).is_ok_and(|entries| entries.count() >= limits::PROMPTS) {
            return Err(ApiError::conflict(format!("prompt: this domain has {} prompts already", limits::PROMPTS)));
        }
        check_storage(&api, &domain, &path, bytes.len())?;
        store_prompt(&folder, &path, &bytes).map_err(|error| failed(&path, &error))?;
        api.store.save_audit(&caller.to_string(), &domain, "prompt stored", &name);
        Ok((new, duration))
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
    let path = path(&api, &domain, &name)?;
    blocking(move || match fs::remove_file(&path) {
        Ok(()) => {
            api.store.save_audit(&caller.to_string(), &domain, "prompt removed", &name);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => recordings::delete(&api, &recording(&api, &domain, &name)?, &caller),
        Err(error) => Err(failed(&path, &error)),
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

/// What a tenant's storage is counted by: files of its folder of prompts.
pub fn bytes_in(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| entry.metadata().ok().filter(fs::Metadata::is_file).map_or(0, |about| about.len());
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().map(size).sum())
}

/// Two uploads at once may pass together; recordings that begin are stopped by the next measurement.
fn check_storage(api: &Api, domain: &str, path: &Path, size: usize) -> Result<(), ApiError> {
    let Some(most) = api.store.tenant(domain)?.and_then(|tenant| tenant.quotas.storage_bytes) else { return Ok(()) };
    let replaced = fs::metadata(path).map_or(0, |about| about.len());
    let there = api.store.recorded_bytes_of(domain)?.saturating_add(bytes_in(&api.prompts.join(domain))).saturating_sub(replaced);
    if there.saturating_add(size as u64) > most { Err(ApiError::quota(Quota::Storage)) } else { Ok(()) }
}

fn recording(api: &Api, domain: &str, name: &str) -> Result<RecordingRow, ApiError> {
    api.store.recording_named(domain, name)?.ok_or_else(|| ApiError::not_found("unknown file"))
}

/// Renamed into place: a call that starts meanwhile hears the old prompt or the new one, never half of it.
pub(crate) fn store_prompt(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let half = folder.join(format!("{HIDDEN}upload-{}", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        files::write(&mut file, bytes)?;
        fs::rename(&half, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

fn path(api: &Api, domain: &str, name: &str) -> Result<PathBuf, ApiError> {
    check_file_name(name).map_err(|why| ApiError::bad("name", why))?;
    Ok(api.prompts.join(domain).join(name))
}

/// An address that a prompt may be fetched from, by its form; whether this tenant may is asked when it is fetched.
pub(super) fn check_url(url: String) -> Result<String, &'static str> {
    if url.len() > limits::OUTBOX_URL {
        return Err("is too long");
    }
    let web = url.starts_with("https://") || url.starts_with("http://");
    if web && !url.chars().any(|c| c.is_control() || c == ' ') { Ok(url) } else { Err("must be an http or https URL") }
}

/// IC-038: no path separators, no `..`, no control characters, at most 255 bytes. Nor hidden files.
pub fn check_file_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME {
        return Err(format!("a file name has 1 to {NAME} bytes"));
    }
    if name.contains(['/', '\\']) || name.contains("..") || name.starts_with(HIDDEN) || name.chars().any(char::is_control) {
        return Err(format!("{name:?} is not a safe file name"));
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> ApiError {
    tracing::error!(path = %path.display(), %error, "prompt storage failed");
    ApiError::internal()
}
