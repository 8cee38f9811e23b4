//! `/{domain}/recordings`: what was recorded, the audio itself, links to it, who heard it, holding it and removing it.

use super::access::{Caller, Domain, Peer};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::deliver::{self, Audio, Read};
use crate::limits;
use crate::record::is_discarded;
use crate::record::tenant_keys::is_erased;
use crate::store::{AccessRow, DeliveryRow, HoldRow, RecordingRow, RecordingState, wall_ms};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use hookswitch_call::recording::{Container, Dialect};
use serde_json::{Map, Value, json};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Read from the file at a time, a download: large enough to be quick, small enough for thousands of them.
const CHUNK: usize = 64 << 10;
/// A body that says how long a link lives, or why a recording is held.
const BODY: usize = 4 << 10;
const BYTES: &str = "application/octet-stream";
/// Bytes of a hold's reason.
const WHY: usize = 500;

/// `?limit=`, `?before=`, which is `next` of the page before, and `?session=`.
pub(super) async fn list(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let limit = reply::limit(&request)?;
    let before = reply::query(&request, "before")?.map(|cursor| from_cursor(&cursor)).transpose()?;
    let session = reply::query(&request, "session")?;
    let rows = blocking(move || match session {
        Some(session) => Ok(api.store.recordings_of(&domain, &session, before, limit)?),
        None => Ok(api.store.recordings(Some(&domain), before, limit)?),
    })
    .await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let next = rows.last().filter(|_| full).map(|row| format!("{}.{}", row.created_at, row.id));
    reply::list("recordings", rows.iter().map(to_json).collect(), next)
}

pub(super) async fn show(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>) -> Reply {
    // What a session still follows it knows best; it may have no row yet.
    let running = super::recorder::status(&api, &domain, &id).await;
    let asked = domain.clone();
    let found = blocking(move || {
        let row = find(&api, &domain, &id)?;
        let (delivery, hold) = (api.store.delivery(&row.id)?, api.store.hold(&row.id)?);
        Ok((row, delivery, hold))
    })
    .await;
    let (row, delivery, hold) = match (found, &running) {
        (Ok(found), _) => found,
        (Err(_), Some(status)) => (super::recorder::row(asked, status), None, None),
        (Err(error), None) => return Err(error),
    };
    reply::ok(json!({
        "recording": to_json(&row),
        "status": running.map(|status| super::recorder::status_json(&status)),
        "delivery": delivery.as_ref().map(delivery_to_json),
        "hold": hold.as_ref().map(hold_to_json),
    }))
}

pub(super) async fn audio(
    State(api): Shared,
    caller: Caller,
    peer: Peer,
    Domain(domain): Domain,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Reply {
    let how = if caller.is_link() { "link" } else { "audio" };
    let (row, hearer) = {
        let api = api.clone();
        blocking(move || Ok((find(&api, &domain, &id)?, Hearer { who: caller.name(), peer: peer.to_string(), how }))).await?
    };
    stream(&api, row, request.headers(), hearer).await
}

/// Deleted for good: what stays is that it was there.
pub(super) async fn remove(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, id)): Path<(String, String)>) -> Reply {
    blocking(move || {
        let row = find(&api, &domain, &id)?;
        delete(&api, &row, &caller)
    })
    .await?;
    reply::ok(json!({}))
}

pub(super) fn delete(api: &Api, row: &RecordingRow, caller: &Caller) -> Result<(), ApiError> {
    if row.state == RecordingState::Recording {
        return Err(ApiError::conflict("this recording is not finished"));
    }
    api.archive.keeper.erase(row, "it was deleted", &caller.to_string(), wall_ms())?;
    api.archive.delivery.nudge();
    Ok(())
}

/// Makes a link to the audio: where it is, and a token that opens nothing else.
pub(super) async fn link(
    State(api): Shared,
    caller: Caller,
    peer: Peer,
    Domain(domain): Domain,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Reply {
    let body = object(request, BODY).await?;
    let life = match body.get("expires_in_s") {
        None | Some(Value::Null) => limits::LINK_USUAL,
        Some(value) => match value.as_u64() {
            Some(seconds) if (1..=limits::LINK_LONGEST.as_secs()).contains(&seconds) => Duration::from_secs(seconds),
            _ => return Err(ApiError::bad("expires_in_s", format!("must be a number from 1 to {}", limits::LINK_LONGEST.as_secs()))),
        },
    };
    let (token, expires, url) = blocking(move || {
        let row = find(&api, &domain, &id)?;
        readable(&row)?;
        let who = caller.name();
        let now = wall_ms();
        let (token, expires) = api.archive.links.mint(now, &domain, &row.id, &who, life);
        api.store.note_access(AccessRow {
            recording: row.id.clone(),
            domain: domain.clone(),
            at: now,
            who,
            peer: peer.to_string(),
            how: "link made".into(),
            range: None,
        })?;
        Ok((token, expires, format!("/{domain}/recordings/{}/audio", row.id)))
    })
    .await?;
    reply::with_status(StatusCode::CREATED, json!({ "link": { "url": url, "token": token, "expires_at": rfc3339(expires) } }))
}

pub(super) async fn put_hold(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Reply {
    let mut body = object(request, BODY).await?;
    let why = match body.remove("why") {
        Some(Value::String(why)) if (1..=WHY).contains(&why.trim().len()) && !why.chars().any(char::is_control) => why.trim().to_owned(),
        _ => return Err(ApiError::bad("why", format!("must be a text of 1 to {WHY} bytes"))),
    };
    let hold = blocking(move || {
        let row = find(&api, &domain, &id)?;
        let hold = HoldRow { who: caller.name(), why, at: wall_ms() };
        api.store.put_hold(&domain, &row.id, hold.clone(), &caller.to_string())?;
        Ok(hold)
    })
    .await?;
    reply::ok(json!({ "hold": hold_to_json(&hold) }))
}

pub(super) async fn remove_hold(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, id)): Path<(String, String)>,
) -> Reply {
    blocking(move || {
        let row = find(&api, &domain, &id)?;
        Ok(api.store.delete_hold(&domain, &row.id, &caller.to_string())?)
    })
    .await?;
    reply::ok(json!({}))
}

/// Who got to the audio. Also of a recording that is gone.
pub(super) async fn access(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>, request: Request) -> Reply {
    let limit = reply::limit(&request)?;
    let rows = blocking(move || {
        if api.store.gone(&domain, &id)?.is_none() {
            find(&api, &domain, &id)?;
        }
        Ok(api.store.accesses(&domain, &id, limit)?)
    })
    .await?;
    let row = |row: &AccessRow| {
        json!({
            "at": rfc3339(row.at),
            "who": row.who,
            "from": row.peer,
            "how": row.how,
            "range": row.range.map(|(first, last)| format!("{first}-{last}")),
        })
    };
    reply::list("access", rows.iter().map(row).collect(), None)
}

/// Another tenant's recording is as unknown as one that never was.
fn find(api: &Arc<Api>, domain: &str, id: &str) -> Result<RecordingRow, ApiError> {
    if let Some(gone) = api.store.gone(domain, id)? {
        return Err(ApiError::gone(format!("this recording is gone since {}: {}", rfc3339(gone.at), gone.why)));
    }
    api.store.recording(id)?.filter(|row| row.domain == domain).ok_or_else(|| ApiError::not_found("unknown recording"))
}

fn readable(row: &RecordingRow) -> Result<(), ApiError> {
    match row.state {
        RecordingState::Recording => Err(ApiError::conflict("this recording is not finished")),
        // MG-034: there was audio, and it was thrown away.
        RecordingState::Failed if is_discarded(&row.stop_reason, &row.dialect) => {
            Err(ApiError::gone("nothing was kept of this recording: it was discarded"))
        }
        RecordingState::Failed => Err(ApiError::conflict("this recording failed: there is no audio")),
        RecordingState::Available => Ok(()),
    }
}

/// Who gets audio, for the record of that.
pub(super) struct Hearer {
    pub(super) who: String,
    pub(super) peer: String,
    pub(super) how: &'static str,
}

/// The audio of a finished recording, from here or from its tenant's storage: all of it, or the range that is asked for.
pub(super) async fn stream(api: &Arc<Api>, row: RecordingRow, asked: &HeaderMap, hearer: Hearer) -> Result<Response, ApiError> {
    readable(&row)?;
    let (here, delivery) = {
        let (api, row) = (api.clone(), row.clone());
        blocking(move || match deliver::open(&api.archive.reader, &row) {
            Ok(audio) => Ok((Some(Arc::<dyn Audio>::from(audio)), None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, api.store.delivery(&row.id)?)),
            Err(error) if is_erased(&error) => Err(ApiError::gone(format!("this recording cannot be read any more: {error}"))),
            Err(error) => {
                tracing::error!(path = row.path, %error, "a recording's file cannot be read");
                Err(ApiError::internal())
            }
        })
        .await?
    };
    let length = here.as_ref().map_or(row.size, |audio| audio.length());
    let tag = format!("\"{}\"", row.sha256);
    // RFC 9110 13.1.5: a part of another file than the one the client has the beginning of would be noise.
    let same = asked.get(header::IF_RANGE).is_none_or(|given| given.as_bytes() == tag.as_bytes());
    let range = match asked.get(header::RANGE).and_then(|range| range.to_str().ok()).filter(|_| same) {
        Some(range) => part(range, length)?,
        None => None,
    };
    let (status, first, left) = match range {
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        None => (StatusCode::OK, 0, length),
    };
    let gone = || {
        tracing::error!(recording = row.id, path = row.path, "a recording's file is neither here nor in its tenant's storage");
        ApiError::not_found("the recording's file is gone")
    };
    let body = match (here, delivery) {
        (Some(audio), _) => Body::from_stream(FileStream { audio, at: first, left, reading: None }),
        (None, None) => return Err(gone()),
        (None, Some(delivery)) => match api.archive.delivery.read(&delivery, first, left).await {
            Ok(Some(Read::Audio(audio))) => Body::from_stream(FileStream { audio: audio.into(), at: first, left, reading: None }),
            Ok(Some(Read::Stream(inner))) => Body::from_stream(ObjectStream { inner, left }),
            Ok(None) => return Err(gone()),
            Err(why) => return Err(ApiError::unavailable(format!("its tenant's storage: {why}"))),
        },
    };
    {
        // Before the first byte goes out: nobody hears what nobody knows of.
        let (api, hearer) = (api.clone(), hearer);
        let access = AccessRow {
            recording: row.id.clone(),
            domain: row.domain.clone(),
            at: wall_ms(),
            who: hearer.who,
            peer: hearer.peer,
            how: hearer.how.into(),
            range,
        };
        blocking(move || Ok(api.store.note_access(access)?)).await?;
    }
    let (kind, extension) = kind(&row.file_name);
    // MG-034: that vendor's clients are told no more than that these are bytes.
    let kind = if row.dialect == Dialect::Graph.name() { BYTES } else { kind };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, left.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, tag),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.{extension}\"", row.id)),
    ];
    let mut response = (status, headers, body).into_response();
    if let Some((first, last)) = range
        && let Ok(value) = format!("bytes {first}-{last}/{length}").parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// Media type and extension, by the recording's name.
fn kind(file_name: &str) -> (&'static str, &'static str) {
    match Container::of_name(file_name).unwrap_or_default() {
        Container::Wav => ("audio/wav", "wav"),
        Container::Mp3 => ("audio/mpeg", "mp3"),
        Container::Mp4 => ("audio/mp4", "mp4"),
        Container::Ogg => ("audio/ogg", "ogg"),
    }
}

/// A small body that is an object.
pub(super) async fn object(request: Request, most: usize) -> Result<Map<String, Value>, ApiError> {
    let body = reply::body(request, most, "body", |given| given == "application/json", "application/json").await?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(ApiError::bad("body", "must be an object")),
        Err(error) => Err(ApiError::bad("body", format!("not JSON: {error}"))),
    }
}

/// First and last byte of a Range header (RFC 9110 14.1.2). `None`: not one that is served, and the whole file is the answer.
fn part(range: &str, length: u64) -> Result<Option<(u64, u64)>, ApiError> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => return Ok(None),
        (Some(first), Some(last)) => (first, last.min(length.saturating_sub(1))),
        (Some(first), None) if last.trim().is_empty() => (first, length.saturating_sub(1)),
        // So many bytes at the end.
        (None, Some(count)) if first.trim().is_empty() && count > 0 => (length.saturating_sub(count), length.saturating_sub(1)),
        (None, Some(0)) if first.trim().is_empty() => (length, length),
        // More than one range, or nonsense.
        _ => return Ok(None),
    };
    if first >= length {
        return Err(ApiError::bad_range(format!("Range: the file has {length} bytes")));
    }
    Ok(Some((first, last)))
}

/// A file in chunks, exactly as long as was announced: more or less would break the connection for the next request.
struct FileStream {
    audio: Arc<dyn Audio>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Stream for FileStream {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let (audio, at, most) = (&this.audio, this.at, usize::try_from(this.left).unwrap_or(usize::MAX).min(CHUNK));
        let reading = this.reading.get_or_insert_with(|| {
            let audio = audio.clone();
            tokio::task::spawn_blocking(move || deliver::read(&*audio, at, most))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        let read = match read {
            Ok(Ok(read)) if read.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) => Err(io::Error::other(error)),
        };
        Poll::Ready(Some(read.map(|bytes| {
            this.at += bytes.len() as u64;
            this.left = this.left.saturating_sub(bytes.len() as u64);
            bytes.into()
        })))
    }
}

/// The same, of an object in a tenant's storage.
struct ObjectStream<S> {
    inner: S,
    left: u64,
}

impl<S: Stream<Item = Result<Bytes, E>> + Unpin, E: std::error::Error + Send + Sync + 'static> Stream for ObjectStream<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(error)) => Err(io::Error::other(error)),
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
                this.left -= bytes.len() as u64;
                Ok(bytes)
            }
        }))
    }
}

fn from_cursor(cursor: &str) -> Result<(u64, String), ApiError> {
    let parts = cursor.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| ApiError::bad("before", "is not the `next` of a listing"))
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("id", endpoint::text("UUID of the recording.")),
        ("domain", endpoint::text("Its tenant.")),
        ("session", endpoint::text("UUID of the session.")),
        ("connection", endpoint::nullable(endpoint::text("UUID of the connection, of a recording of both parties."))),
        ("caller", endpoint::text("Who called.")),
        ("called", endpoint::text("The number that was called.")),
        ("file_name", endpoint::text("The name that it was made under.")),
        ("created_at", endpoint::time("When it began.")),
        ("created_at_ms", endpoint::number("The same in milliseconds since the Unix epoch.")),
        ("duration_ms", endpoint::number("Milliseconds.")),
        ("frames_expected", endpoint::number("Frames of 20 ms: received, concealed and silence together.")),
        ("frames_received", endpoint::number("Frames that came.")),
        ("frames_concealed", endpoint::number("Frames that were made up.")),
        ("frames_silence", endpoint::number("Frames in which nobody sent.")),
        ("sha256", endpoint::text("Of the file, in hex; empty until it is finished.")),
        ("size", endpoint::number("Bytes.")),
        ("stop_reason", endpoint::text("Why it ended; empty while it runs.")),
        ("state", json!({ "enum": ["recording", "available", "failed"] })),
        ("control_id", endpoint::nullable(endpoint::text("The handle of whoever ordered it."))),
        ("client_context", endpoint::nullable(endpoint::text("The text of whoever ordered it."))),
        ("dialect", endpoint::text("Whose defaults it was made with.")),
        ("container", endpoint::text("Kind of file: wav, mp3, mp4 or ogg.")),
        ("encoding", endpoint::text("What it became: pcm16, alaw, ulaw, mp3 or opus.")),
        ("sample_rate", endpoint::number("Hz.")),
        ("channels", endpoint::number("1, or 2 with the sides apart.")),
        ("stop_digit", endpoint::nullable(endpoint::text("The digit that ended it."))),
        ("contains_sound", json!({ "type": ["boolean", "null"], "description": "Whether somebody spoke; null where that is not known." })),
        ("ended_at_ms", endpoint::nullable(endpoint::number("When it ended, in milliseconds since the Unix epoch."))),
        ("storage_class", endpoint::text("How it is kept.")),
        ("announce", endpoint::flag("Whoever was recorded heard a warning tone.")),
        ("sidecar", endpoint::text("The signed statement about it, byte for byte; empty until it is finished.")),
    ])
}

/// Everything but where it lies: that is the node's business.
fn to_json(row: &RecordingRow) -> Value {
    json!({
        "id": row.id,
        "domain": row.domain,
        "session": row.session,
        "connection": row.connection,
        "caller": row.caller,
        "called": row.called,
        "file_name": row.file_name,
        "created_at": rfc3339(row.created_at),
        "created_at_ms": row.created_at,
        "duration_ms": row.duration_ms,
        "frames_expected": row.frames_expected,
        "frames_received": row.frames_received,
        "frames_concealed": row.frames_concealed,
        "frames_silence": row.frames_silence,
        "sha256": row.sha256,
        "size": row.size,
        "stop_reason": row.stop_reason,
        "state": row.state,
        "control_id": row.control_id,
        "client_context": row.client_context,
        "dialect": row.dialect,
        "container": row.container,
        "encoding": row.encoding,
        "sample_rate": row.sample_rate,
        "channels": row.channels,
        "stop_digit": row.stop_digit,
        "contains_sound": row.contains_sound,
        "ended_at_ms": row.ended_at,
        "storage_class": row.storage_class,
        "announce": row.announce,
        "sidecar": row.sidecar,
    })
}

/// What became of the way to the tenant's storage.
pub(super) fn schema_of_delivery() -> Value {
    let mut schema = endpoint::object(&[
        ("state", json!({ "enum": ["uploading", "available", "failed"] })),
        ("location", endpoint::nullable(endpoint::text("Where it lies, of one that is available."))),
        ("attempts", endpoint::number("Tries that failed.")),
        ("why", endpoint::nullable(endpoint::text("Why the last one failed."))),
        ("since", endpoint::time("When it was due.")),
    ]);
    schema["type"] = json!(["object", "null"]);
    schema
}

fn delivery_to_json(row: &DeliveryRow) -> Value {
    let available = row.state == crate::store::DeliveryState::Available;
    json!({
        "state": row.state.name(),
        "location": available.then(|| deliver::location(row)),
        "attempts": row.attempts,
        "why": row.why,
        "since": rfc3339(row.created_at),
    })
}

pub(super) fn schema_of_hold() -> Value {
    endpoint::object(&[
        ("who", endpoint::text("Who holds it.")),
        ("why", endpoint::text("For what.")),
        ("at", endpoint::time("Since when.")),
    ])
}

fn hold_to_json(row: &HoldRow) -> Value {
    json!({ "who": row.who, "why": row.why, "at": rfc3339(row.at) })
}

pub(super) fn schema_of_link() -> Value {
    endpoint::object(&[
        ("url", endpoint::text("Where the audio is, from this API's own address on.")),
        ("token", endpoint::text("To be sent there as bearer token. It opens nothing else.")),
        ("expires_at", endpoint::time("From then on it opens nothing.")),
    ])
}

pub(super) fn schema_of_access() -> Value {
    endpoint::object(&[
        ("at", endpoint::time("When.")),
        ("who", endpoint::text("The operator, a token, a key, or a link and who made it.")),
        ("from", endpoint::text("The address of the connection.")),
        ("how", json!({ "enum": ["audio", "link", "link made", "file name"] })),
        ("range", endpoint::nullable(endpoint::text("First and last byte; null: the whole file."))),
    ])
}

#[cfg(test)]
mod tests;
