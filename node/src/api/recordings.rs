//! `/{domain}/recordings`: what was recorded, the audio itself, and removing it.

use super::access::{Caller, Domain};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::store::{RecordingRow, RecordingState};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Read from the file at a time, a download: large enough to be quick, small enough for thousands of them.
const CHUNK: usize = 64 << 10;

/// `?limit=` and `?before=`, which is `next` of the page before.
pub(super) async fn list(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let limit = reply::limit(&request)?;
    let before = reply::query(&request, "before")?.map(|cursor| from_cursor(&cursor)).transpose()?;
    let rows = blocking(move || Ok(api.store.recordings(Some(&domain), before, limit)?)).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let next = rows.last().filter(|_| full).map(|row| format!("{}.{}", row.created_at, row.id));
    reply::list("recordings", rows.iter().map(to_json).collect(), next)
}

pub(super) async fn show(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>) -> Reply {
    let row = blocking(move || find(&api, &domain, &id)).await?;
    reply::ok(json!({ "recording": to_json(&row) }))
}

pub(super) async fn audio(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>) -> Reply {
    let row = blocking(move || find(&api, &domain, &id)).await?;
    stream(&row).await
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

/// The audio of a finished recording, as it lies on disk.
pub(super) async fn stream(row: &RecordingRow) -> Result<Response, ApiError> {
    match row.state {
        RecordingState::Recording => return Err(ApiError::conflict("this recording is not finished")),
        RecordingState::Failed => return Err(ApiError::conflict("this recording failed: there is no audio")),
        RecordingState::Available => {}
    }
    let gone = |error: io::Error| {
        tracing::error!(path = row.path, %error, "a recording's file cannot be read");
        ApiError::not_found("the recording's file is gone")
    };
    let file = tokio::fs::File::open(&row.path).await.map_err(gone)?;
    let length = file.metadata().await.map_err(gone)?.len();
    let headers = [
        (header::CONTENT_TYPE, "audio/wav".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.wav\"", row.id)),
    ];
    Ok((headers, Body::from_stream(FileStream { file, left: length, chunk: vec![0; CHUNK] })).into_response())
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

/// Everything but where it lies: that is the node's business.
fn to_json(row: &RecordingRow) -> Value {
    json!({
        "id": row.id,
        "domain": row.domain,
        "session": row.session,
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
    })
}
