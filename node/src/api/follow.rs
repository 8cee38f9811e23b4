//! A tenant's log as it is written, by server-sent events: what there is, then what comes, a line of JSON each.

use super::guests::line_to_json;
use super::reply::{ApiError, Reply};
use crate::guest::Follower;
use crate::limits;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::IntoResponse;
use futures_core::Stream;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Events on their way to a connection; the rest waits at the follower, where what is too much is left out.
const EVENTS: usize = 16;

/// Until whoever asked goes, the node stops, or an hour is over.
pub(super) fn stream(follower: Option<Follower>, stopping: watch::Receiver<bool>) -> Reply {
    let follower = follower.ok_or_else(|| ApiError::too_many(format!("{} follow this log already", limits::LOG_FOLLOWERS)))?;
    let (events, given) = mpsc::channel(EVENTS);
    tokio::spawn(tell(follower, events, stopping));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(Events(given))).into_response())
}

async fn tell(mut follower: Follower, events: mpsc::Sender<Bytes>, mut stopping: watch::Receiver<bool>) {
    let told = async {
        for line in std::mem::take(&mut follower.before) {
            events.send(event(&line_to_json(&line).to_string())).await.ok()?;
        }
        loop {
            let comes = match timeout(limits::LOG_FOLLOW_QUIET, follower.lines.recv()).await {
                Ok(Ok(line)) => event(&line_to_json(&line).to_string()),
                Ok(Err(RecvError::Lagged(lines))) => Bytes::from(format!("event: missed\ndata: {{\"lines\":{lines}}}\n\n")),
                // The node ends.
                Ok(Err(RecvError::Closed)) => return None::<()>,
                Err(_) => Bytes::from_static(b": nothing new\n\n"),
            };
            events.send(comes).await.ok()?;
        }
    };
    let until = Instant::now() + limits::LOG_FOLLOW;
    tokio::select! {
        _ = timeout_at(until, told) => {}
        // Gone even while nothing comes: its place is another's.
        () = events.closed() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

/// JSON has no line breaks of its own.
fn event(json: &str) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}

struct Events(mpsc::Receiver<Bytes>);

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(Ok))
    }
}
