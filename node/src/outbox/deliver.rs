//! What happens to a post: one line of posts for each session, one task for each line, one post at a time.

use super::origin::Target;
use super::{Delivery, Shared};
use crate::limits;
use crate::metrics::add;
use crate::store::{OutboxRow, StoreError, wall_ms};
use hookswitch_call::SessionId;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A post that is kept and waits.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub id: i64,
    pub domain: Arc<str>,
    pub session_id: String,
    /// `None`: a post of a former run; its session is gone.
    pub session: Option<SessionId>,
    pub size: usize,
}

/// Domain, and a session's UUID.
type Key = (Arc<str>, String);
/// Domain, and a receiver's origin.
type Receiver = (Arc<str>, String);

/// Who waits for whom.
#[derive(Default)]
struct Lines {
    /// Posts of each session that has a task, the one under way in front.
    posts: Mutex<HashMap<Key, VecDeque<Accepted>>>,
    /// Tries under way for each tenant and receiver.
    tries: Mutex<HashMap<Receiver, Arc<Semaphore>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outbox's thread, until it is stopped.
pub(super) fn serve(shared: &Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<Accepted>, mut stopped: oneshot::Receiver<()>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the outbox could not start: posts wait for the next start of the node"),
    };
    runtime.block_on(async {
        let lines = Arc::new(Lines::default());
        loop {
            let post = tokio::select! {
                _ = &mut stopped => return,
                post = inbox.recv() => post,
            };
            let Some(post) = post else { return };
            let key = (post.domain.clone(), post.session_id.clone());
            let mut posts = lock(&lines.posts);
            let line = posts.entry(key.clone()).or_default();
            line.push_back(post);
            if line.len() == 1 {
                tokio::spawn(work_off(shared.clone(), lines.clone(), key));
            }
        }
    });
    // A name's look-up may hold a thread for long; nothing waits for its end.
    runtime.shutdown_background();
}

/// A session's task: its posts in their order, until there are none.
async fn work_off(shared: Arc<Shared>, lines: Arc<Lines>, key: Key) {
    loop {
        let Some(post) = lock(&lines.posts).get(&key).and_then(|line| line.front().cloned()) else { return };
        deliver(&shared, &lines, &post).await;
        shared.release(&post.domain, post.size);
        let mut posts = lock(&lines.posts);
        if let Some(line) = posts.get_mut(&key) {
            line.pop_front();
            if line.is_empty() {
                posts.remove(&key);
                return;
            }
        }
    }
}

/// How a post ended.
enum End {
    Delivered,
    GivenUp(String),
}

/// One post, to its end. Its content is read for each try and not kept while it waits: ten thousand of 64 KiB would not fit.
async fn deliver(shared: &Shared, lines: &Lines, post: &Accepted) {
    let mut status = None;
    loop {
        let Some(row) = insist(|| shared.store.post(post.id)).await else { return };
        // By the node's running time: the machine's clock may be set by hours.
        let left = row.born.saturating_add(millis(shared.options.age)).saturating_sub(shared.store.running_ms());
        let due = Duration::from_millis(row.next_at.saturating_sub(wall_ms()));
        // None waits longer than the longest wait: where one seems to, the clock was set back meanwhile.
        let due = if due > shared.options.last_retry { Duration::ZERO } else { due };
        let wait = due.min(Duration::from_millis(left));
        if !wait.is_zero() {
            drop(row);
            tokio::time::sleep(wait).await;
            continue;
        }
        let attempts = row.attempts;
        let end = if left == 0 {
            Some((End::GivenUp("too old".into()), attempts))
        } else {
            attempt(shared, lines, post, &row, &mut status).await.map(|end| (end, attempts + 1))
        };
        let Some((end, attempts)) = end else {
            add(&shared.metrics.outbox_retried, 1);
            let next_at = wall_ms().saturating_add(millis(backoff(shared, attempts + 1)));
            insist(|| shared.store.post_tried(post.id, attempts + 1, next_at)).await;
            continue;
        };
        let delivered = matches!(end, End::Delivered);
        insist(|| shared.store.forget_post(post.id)).await;
        add(if delivered { &shared.metrics.outbox_delivered } else { &shared.metrics.outbox_dropped }, 1);
        let Some(news) = shared.news.get() else { return };
        if let End::GivenUp(why) = end {
            let origin = Target::parse(&row.url).map_or_else(|why| why, |target| target.origin());
            let why = format!("post {} to {origin} given up after {attempts} tries: {why}", row.event_id);
            news.given_up(post.session, &post.domain, &post.session_id, &why);
        }
        if let (true, Some(session)) = (row.report, post.session) {
            news.delivery(session, &post.domain, Delivery { event_id: row.event_id, delivered, status, attempts });
        }
        return;
    }
}

/// One try. `None`: once more, later.
async fn attempt(shared: &Shared, lines: &Lines, post: &Accepted, row: &OutboxRow, status: &mut Option<u16>) -> Option<End> {
    // What is allowed may have changed since it was posted.
    let target = match Target::parse(&row.url).and_then(|target| shared.options.policy.check(&post.domain, &target).map(|()| target)) {
        Ok(target) => target,
        Err(why) => return Some(End::GivenUp(why)),
    };
    let place = {
        let mut tries = lock(&lines.tries);
        // Receivers that nobody posts to now are forgotten.
        if tries.len() > limits::OUTBOX_POSTS {
            tries.retain(|_, tries| Arc::strong_count(tries) > 1);
        }
        let key = (post.domain.clone(), target.origin());
        tries.entry(key).or_insert_with(|| Arc::new(Semaphore::new(limits::OUTBOX_TRIES))).clone()
    };
    let Ok(_permit) = place.acquire().await else { return None };
    let sent = async {
        let own = row.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let signed = match &shared.options.signer {
            Some(signer) if !own => signer.authorization(&post.domain, &target.origin()).await,
            _ => None,
        };
        shared.client.send(&target, row, row.attempts + 1, signed).await
    };
    let answer = tokio::time::timeout(shared.options.try_time, sent).await;
    match answer.unwrap_or_else(|_| Err("no answer in time".into())) {
        Ok(code) => {
            *status = Some(code);
            match code {
                200..=299 => Some(End::Delivered),
                410 => Some(End::GivenUp("the receiver answered 410".into())),
                _ => {
                    tracing::debug!(domain = %post.domain, event = row.event_id, code, "post not acknowledged");
                    None
                }
            }
        }
        Err(why) => {
            tracing::debug!(domain = %post.domain, event = row.event_id, why, "post not delivered");
            None
        }
    }
}

/// The wait after the n-th try: doubled each time, and half of it by lot, so that those who failed together do not come back together.
fn backoff(shared: &Shared, attempts: u32) -> Duration {
    let whole = shared.options.first_retry.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(shared.options.last_retry);
    let lot = uuid::Uuid::new_v4().as_u64_pair().1 as u32;
    whole.mul_f64(0.5 + 0.5 * f64::from(lot) / f64::from(u32::MAX))
}

/// Asks the store until it answers. A closed one never will: the node ends, and so does this task.
async fn insist<T, F: Future<Output = Result<T, StoreError>>>(work: impl Fn() -> F) -> T {
    loop {
        match work().await {
            Ok(value) => return value,
            Err(StoreError::Closed) => std::future::pending().await,
            Err(error) => {
                tracing::warn!(%error, "outbox: the store does not answer");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
