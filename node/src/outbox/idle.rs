//! Connections of handlers' requests that stay open for the next one to the same origin (IC-016): a TCP and TLS handshake costs a caller who
//! waits two round trips. Each tenant has its own: what one tenant's receiver does to a connection, no other tenant's request meets.

use crate::limits;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Domain and origin.
pub(super) type Key = (String, String);

/// An open connection. It ends with this value.
pub(super) struct Open {
    pub sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Open {
    pub async fn handshake(io: impl Read + Write + Unpin + Send + 'static) -> hyper::Result<Open> {
        let (sender, connection) = http1::Builder::new().max_buf_size(limits::OUTBOX_ANSWER).handshake(io).await?;
        let driver = tokio::spawn(async move {
            // How it ended is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Open { sender, driver })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[derive(Clone, Default)]
pub(super) struct Idle {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// Those of each, the one that was used last at the end.
    open: BTreeMap<Key, Vec<(Instant, Open)>>,
    /// Somebody comes to close those that nobody wants.
    swept: bool,
}

impl Kept {
    /// Closes those that have waited too long; whether any is left.
    fn sweep(&mut self) -> bool {
        self.open.retain(|_, all| {
            all.retain(|(since, open)| since.elapsed() < limits::FETCH_IDLE && !open.sender.is_closed());
            !all.is_empty()
        });
        !self.open.is_empty()
    }
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that takes a request now.
    pub async fn take(&self, key: &Key) -> Option<Open> {
        loop {
            let (since, mut open) = self.lock().open.get_mut(key)?.pop()?;
            if since.elapsed() >= limits::FETCH_IDLE || open.sender.is_closed() {
                continue;
            }
            // Where it is not ready at once, its driver has the end of the last answer still before it, or the end of the connection.
            if matches!(tokio::time::timeout(READY, open.sender.ready()).await, Ok(Ok(()))) {
                return Some(open);
            }
        }
    }

    pub fn put(&self, key: Key, open: Open) {
        if open.sender.is_closed() {
            return;
        }
        let mut kept = self.lock();
        let all = kept.open.entry(key).or_default();
        if all.len() < limits::FETCH_IDLE_CONNECTIONS {
            all.push((Instant::now(), open));
        }
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(self.clone().close_old());
        }
    }

    async fn close_old(self) {
        loop {
            tokio::time::sleep(limits::FETCH_IDLE).await;
            let mut kept = self.lock();
            if !kept.sweep() {
                kept.swept = false;
                return;
            }
        }
    }
}

const READY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
