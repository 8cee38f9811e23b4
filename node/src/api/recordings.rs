//! `/{domain}/recordings`: what was recorded, the audio itself, and removing it.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::store::{RecordingRow, RecordingState};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};

/// Read from the file at a time, a download: large enough to be quick, small enough for thousands of them.
const CHUNK: usize = 64 << 10;

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
    let row = blocking(move || find(&api, &domain, &id)).await?;
    reply::ok(json!({ "recording": to_json(&row) }))
}

pub(super) async fn audio(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>, request: Request) -> Reply {
    let row = blocking(move || find(&api, &domain, &id)).await?;
    stream(&row, request.headers()).await
}

/// The file first: a row without a file can be removed again, a file without a row would be lost.
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
    // A failed recording has no file.
    for path in files(&row.path).into_iter().filter(|_| !row.path.is_empty()) {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(path, %error, "a recording could not be removed");
                return Err(ApiError::internal());
            }
        }
    }
    Ok(api.store.delete_recording(&row.id, &caller.to_string())?)
}

/// The audio and what lies beside it.
fn files(path: &str) -> [String; 2] {
    [path.to_owned(), format!("{path}.json")]
}

/// Another tenant's recording is as unknown as one that never was.
fn find(api: &Arc<Api>, domain: &str, id: &str) -> Result<RecordingRow, ApiError> {
    api.store.recording(id)?.filter(|row| row.domain == domain).ok_or_else(|| ApiError::not_found("unknown recording"))
}

/// The audio of a finished recording, as it lies on disk: all of it, or the range that is asked for.
pub(super) async fn stream(row: &RecordingRow, asked: &HeaderMap) -> Result<Response, ApiError> {
    match row.state {
        RecordingState::Recording => return Err(ApiError::conflict("this recording is not finished")),
        RecordingState::Failed => return Err(ApiError::conflict("this recording failed: there is no audio")),
        RecordingState::Available => {}
    }
    let gone = |error: io::Error| {
        tracing::error!(path = row.path, %error, "a recording's file cannot be read");
        ApiError::not_found("the recording's file is gone")
    };
    let mut file = tokio::fs::File::open(&row.path).await.map_err(gone)?;
    let length = file.metadata().await.map_err(gone)?.len();
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
    file.seek(io::SeekFrom::Start(first)).await.map_err(gone)?;
    let headers = [
        (header::CONTENT_TYPE, "audio/wav".to_owned()),
        (header::CONTENT_LENGTH, left.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, tag),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.wav\"", row.id)),
    ];
    let mut response = (status, headers, Body::from_stream(FileStream { file, left, chunk: vec![0; CHUNK] })).into_response();
    if let Some((first, last)) = range
        && let Ok(value) = format!("bytes {first}-{last}/{length}").parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
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
    file: tokio::fs::File,
    left: u64,
    chunk: Vec<u8>,
}

impl Stream for FileStream {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let mut room = ReadBuf::new(&mut this.chunk);
        ready!(Pin::new(&mut this.file).poll_read(cx, &mut room))?;
        let read = room.filled();
        if read.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let take = read.len().min(usize::try_from(this.left).unwrap_or(usize::MAX));
        this.left -= take as u64;
        Poll::Ready(Some(Ok(Bytes::copy_from_slice(&read[..take]))))
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
        "sidecar": row.sidecar,
    })
}
