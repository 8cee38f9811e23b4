//! The outbox: posts of handlers to the outside that must arrive, sooner or later. A slow or dead receiver costs its own session's posts
//! time, and nobody else anything.
//!
//! - **Durable.** [`Outbox::post`] gives the event id when the post is on disk (group commit, about 10 ms); where the disk is slower than
//!   `limits::OUTBOX_COMMIT` it gives the id of a post that is queued to the disk. After a restart delivery goes on.
//! - **In order.** A session's posts go one after the other: the next is tried when the one before is delivered or given up.
//! - **At least once.** A post is forgotten after a 2xx; a crash between the two repeats it, with the same `Hookswitch-Event-Id`.
//! - **Retried** until a 2xx, with waits that double from a second to five minutes, half of each drawn by lot. 410, an origin that is no
//!   longer allowed, and 24 h of the node's running time give it up: counted, in the tenant's log, and an alarm to its handler.
//!
//! Start with [`Outbox`]; `deliver.rs` is what happens to a post, `origin.rs` where it may go, `client.rs` one try, `sign.rs` in whose name. `fetch.rs` and
//! `request.rs` are the other way: prompts that lie elsewhere, and answers that a handler waits for, from the same places.

mod client;
mod deliver;
mod fetch;
mod idle;
mod origin;
mod request;
mod sign;
#[cfg(test)]
mod tests;

pub(crate) use fetch::too_slow;
pub use fetch::{Fetcher, Served, Service};
pub use origin::{Origins, Policy};
pub use request::{Request, RequestError, Requests, Response};
pub use sign::{CALLBACK_KEY, Signer, public_half};

use crate::limits;
use crate::metrics::{Metrics, add};
use crate::store::{OutboxRow, Store, StoreError, wall_ms};
use client::{Client, native_roots};
use deliver::{Accepted, serve};
use hookswitch_call::SessionId;
use hyper::header::HeaderValue;
use origin::Target;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::rustls::RootCertStore;

/// What a handler posts.
#[derive(Clone, Debug)]
pub struct Post {
    pub domain: Arc<str>,
    pub session: SessionId,
    pub session_id: String,
    pub url: String,
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub report: bool,
}

/// Why a post was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("{0}")]
    BadValue(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    NotAvailable(String),
}

/// What became of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub event_id: String,
    pub delivered: bool,
    /// Of the last answer, if there was one.
    pub status: Option<u16>,
    pub attempts: u32,
}

/// Who hears what became of posts: the guest room. Nothing here may block.
pub trait News: Send + Sync {
    /// A session's handler asked to be told.
    fn delivery(&self, session: SessionId, domain: &Arc<str>, delivery: Delivery);
    /// A post was given up. `session`: as long as the node has run since.
    fn given_up(&self, session: Option<SessionId>, domain: &Arc<str>, session_id: &str, why: &str);
}

/// How the outbox is set up. Times are shorter in tests.
pub struct Options {
    pub policy: Policy,
    pub first_retry: Duration,
    pub last_retry: Duration,
    pub age: Duration,
    pub try_time: Duration,
    /// Signs posts in their tenant's name.
    pub signer: Option<Signer>,
    /// `None`: the authorities that this machine trusts.
    pub roots: Option<RootCertStore>,
}

impl Options {
    pub fn new(policy: Policy) -> Options {
        Options {
            policy,
            first_retry: limits::OUTBOX_FIRST_RETRY,
            last_retry: limits::OUTBOX_LAST_RETRY,
            age: limits::OUTBOX_AGE,
            try_time: limits::OUTBOX_TRY,
            signer: None,
            roots: None,
        }
    }
}

/// The way in. Clones lead to the same outbox.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    accepted: mpsc::UnboundedSender<Accepted>,
}

/// The outbox's thread. Stopped, it leaves what waits to the next start.
pub struct OutboxThread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What posting and delivering share.
struct Shared {
    store: Store,
    options: Options,
    client: Client,
    metrics: Arc<Metrics>,
    news: OnceLock<Box<dyn News>>,
    used: Mutex<BTreeMap<Arc<str>, Used>>,
}

/// What a tenant's posts take.
#[derive(Default)]
struct Used {
    posts: usize,
    bytes: usize,
}

impl Outbox {
    /// Starts delivery, of what a former run left first.
    pub fn start(store: Store, options: Options, metrics: Arc<Metrics>) -> Result<(Outbox, OutboxThread), StoreError> {
        let waiting = store.waiting_posts()?;
        let roots = options.roots.clone().unwrap_or_else(native_roots);
        let shared =
            Arc::new(Shared { store, options, client: Client::new(roots), metrics, news: OnceLock::new(), used: Mutex::default() });
        let (accepted, inbox) = mpsc::unbounded_channel();
        for post in waiting {
            let domain: Arc<str> = post.domain.into();
            shared.take(&domain, post.size, usize::MAX, usize::MAX).expect("no limit for what is there already");
            let _ = accepted.send(Accepted { id: post.id, domain, session_id: post.session, session: None, size: post.size });
        }
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("outbox".into())
                .spawn(move || serve(&shared, inbox, stopped))
                .map_err(|error| StoreError::Sqlite(format!("no thread for the outbox: {error}")))?
        };
        Ok((Outbox { shared, accepted }, OutboxThread { stop, thread }))
    }

    /// Who hears what became of posts. Once, before the first post.
    pub fn tell(&self, news: Box<dyn News>) {
        let _ = self.shared.news.set(news);
    }

    /// Keeps a post. Gives its event id.
    pub async fn post(&self, post: Post) -> Result<String, PostError> {
        let row = self.shared.check(&post).inspect_err(|_| add(&self.shared.metrics.outbox_refused, 1))?;
        let (event_id, size) = (row.event_id.clone(), row.size());
        self.shared.take(&post.domain, size, limits::OUTBOX_POSTS, limits::OUTBOX_BYTES).map_err(|what| {
            add(&self.shared.metrics.outbox_refused, 1);
            PostError::Limit(what)
        })?;
        let (told, kept) = oneshot::channel();
        let (outbox, domain, session_id) = (self.clone(), post.domain.clone(), post.session_id);
        // The store's thread says what is on disk, in the order of posts; the caller may have been given up by then, and the post is
        // delivered all the same.
        let stored = move |result: Result<i64, StoreError>| {
            match &result {
                Ok(id) => {
                    add(&outbox.shared.metrics.outbox_posted, 1);
                    let _ = outbox.accepted.send(Accepted { id: *id, domain, session_id, session: Some(post.session), size });
                }
                Err(error) => {
                    outbox.shared.release(&domain, size);
                    add(&outbox.shared.metrics.outbox_refused, 1);
                    tracing::error!(%domain, %error, "a handler's post could not be kept");
                }
            }
            let _ = told.send(result.map(drop));
        };
        self.shared.store.keep_post(row, stored).map_err(|error| {
            self.shared.release(&post.domain, size);
            add(&self.shared.metrics.outbox_refused, 1);
            PostError::NotAvailable(error.to_string())
        })?;
        match tokio::time::timeout(limits::OUTBOX_COMMIT, kept).await {
            Ok(Ok(Ok(()))) | Err(_) => Ok(event_id),
            Ok(Ok(Err(error))) => Err(PostError::NotAvailable(error.to_string())),
            Ok(Err(_)) => Err(PostError::NotAvailable("the node is stopping".into())),
        }
    }
}

impl OutboxThread {
    /// Ends delivery. Tries that are under way are given up and made again after the next start.
    pub fn stop(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the outbox panicked");
        }
    }
}

impl Shared {
    /// A post that may be kept.
    fn check(&self, post: &Post) -> Result<OutboxRow, PostError> {
        let target = Target::parse(&post.url).map_err(PostError::BadValue)?;
        if post.body.len() > limits::OUTBOX_BODY {
            return Err(PostError::BadValue(format!("body: {} bytes; at most {}", post.body.len(), limits::OUTBOX_BODY)));
        }
        let kind = &post.content_type;
        if kind.is_empty() || kind.len() > limits::OUTBOX_HEADER_VALUE || HeaderValue::from_str(kind).is_err() {
            return Err(PostError::BadValue("content-type: empty, too long, or no header value".into()));
        }
        if post.headers.len() > limits::OUTBOX_HEADERS {
            return Err(PostError::BadValue(format!("headers: {}; at most {}", post.headers.len(), limits::OUTBOX_HEADERS)));
        }
        post.headers.iter().try_for_each(|(name, value)| client::check_header(name, value)).map_err(PostError::BadValue)?;
        self.options.policy.check(&post.domain, &target).map_err(PostError::Denied)?;
        let now = wall_ms();
        Ok(OutboxRow {
            id: 0,
            event_id: uuid::Uuid::new_v4().to_string(),
            domain: post.domain.to_string(),
            session: post.session_id.clone(),
            url: post.url.clone(),
            content_type: post.content_type.clone(),
            headers: post.headers.clone(),
            body: post.body.clone(),
            report: post.report,
            created_at: now,
            born: self.store.running_ms(),
            attempts: 0,
            next_at: now,
        })
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a post among its tenant's.
    fn take(&self, domain: &Arc<str>, size: usize, posts: usize, bytes: usize) -> Result<(), String> {
        let mut all = self.used();
        let used = all.entry(domain.clone()).or_default();
        if used.posts >= posts {
            return Err(format!("outbox: {posts} posts of a tenant wait already"));
        }
        if used.bytes.saturating_add(size) > bytes {
            return Err(format!("outbox: {bytes} bytes of a tenant wait already"));
        }
        used.posts += 1;
        used.bytes += size;
        self.metrics.outbox_pending.up();
        Ok(())
    }

    fn release(&self, domain: &Arc<str>, size: usize) {
        let mut all = self.used();
        if let Some(used) = all.get_mut(domain) {
            used.posts = used.posts.saturating_sub(1);
            used.bytes = used.bytes.saturating_sub(size);
            if used.posts == 0 {
                all.remove(domain);
            }
        }
        self.metrics.outbox_pending.down();
    }
}
