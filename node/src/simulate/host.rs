//! What a handler sees of the node in a simulated world: settings, secrets and answers of other servers as the scenario says, a store in
//! memory, a clock that is the world's. Orders go to the world's own switch: whoever runs the hook takes them from [`Pretend::orders`].

use super::scenario::Canned;
use crate::guest::asking;
use crate::limits;
use hookswitch_proto::Time;
use hookswitch_wasm::{Cost, Entry, Host, Later, Level, Order, Ordered, PostRequest, Request, Response, StoreOp, Stored, wit};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// An order on its way to the switch.
pub struct Given {
    pub session_id: String,
    pub order: Order,
    pub answer: oneshot::Sender<Result<Ordered, wit::HostError>>,
}

/// All of the world that handlers see.
#[derive(Default)]
pub struct Pretend {
    pub now: Time,
    /// The wall clock at the world's beginning, in milliseconds since the Unix epoch.
    pub start_ms: u64,
    pub config: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
    pub http: VecDeque<Canned>,
    pub store: BTreeMap<String, (Entry, Option<Time>)>,
    pub orders: VecDeque<Given>,
    /// What the hook that runs did that people should see: to whom, and what.
    pub said: VecDeque<(&'static str, String)>,
    /// How long the hook that runs has waited for others.
    pub waited: Duration,
    pub cost: Option<Cost>,
    pub log_bytes: usize,
    pub log_dropped: u64,
    /// Event ids that were given.
    pub events: u64,
    /// Versions of values that were given.
    pub versions: u64,
}

/// One session's.
#[derive(Clone)]
pub struct Desk {
    pub world: Arc<Mutex<Pretend>>,
    pub session_id: String,
    pub born: Time,
}

pub fn lock(world: &Mutex<Pretend>) -> MutexGuard<'_, Pretend> {
    // One thread runs all of it.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now<T: Send + 'static>(result: Result<T, wit::HostError>) -> Later<T> {
    Box::pin(std::future::ready(result))
}

impl Host for Desk {
    fn log(&self, level: Level, line: &str) {
        let mut world = lock(&self.world);
        world.log_bytes += line.len();
        world.said.push_back(("log", format!("{}: {line}", asking::level_name(level))));
    }

    fn log_dropped(&self) {
        lock(&self.world).log_dropped += 1;
    }

    fn limited(&self, limit: &str) {
        lock(&self.world).said.push_back(("log", format!("limit: {limit}")));
    }

    fn config(&self, key: &str) -> Option<String> {
        lock(&self.world).config.get(key).cloned()
    }

    fn now_ms(&self) -> u64 {
        let world = lock(&self.world);
        world.start_ms + u64::try_from((world.now.since(Time::ZERO) + world.waited).as_millis()).unwrap_or(0)
    }

    fn since_birth(&self, _real: Duration) -> Duration {
        let world = lock(&self.world);
        world.now.since(self.born) + world.waited
    }

    fn ran(&self, cost: Cost) {
        lock(&self.world).cost = Some(cost);
    }

    fn order(&self, order: Order) -> Later<Ordered> {
        let (answer, given) = oneshot::channel();
        lock(&self.world).orders.push_back(Given { session_id: self.session_id.clone(), order, answer });
        Box::pin(async move { given.await.unwrap_or(Err(wit::HostError::Timeout)) })
    }

    fn post(&self, post: PostRequest) -> Later<String> {
        let mut world = lock(&self.world);
        world.events += 1;
        let id = format!("event-{}", world.events);
        world.said.push_back(("outbox", format!("post {} ({} B) {id}", post.url, post.body.len())));
        now(Ok(id))
    }

    fn store(&self, op: StoreOp) -> Later<Stored> {
        let mut world = lock(&self.world);
        now(world.keep(op))
    }

    // `left` is the machine's time; whoever runs the hook looks at `waited`.
    fn fetch(&self, request: Request, _left: Duration) -> Later<Response> {
        let mut world = lock(&self.world);
        let is = |canned: &Canned| canned.url == request.url && canned.method.eq_ignore_ascii_case(&request.method);
        let what = format!("{} {}", request.method, request.url);
        let Some(canned) = world.http.iter().position(is).and_then(|at| world.http.remove(at)) else {
            world.said.push_back(("http", format!("{what}: the scenario has no [[http]] answer for it")));
            return now(Err(wit::HostError::Denied(format!("{what}: the scenario has no answer for it"))));
        };
        let patience = request.timeout_ms.map_or(limits::FETCH, |ms| Duration::from_millis(ms.into()));
        world.waited += canned.after.0.min(patience);
        let result = match canned.error {
            _ if canned.after.0 > patience => Err(wit::HostError::Timeout),
            Some(error) => Err(wit::HostError::NotAvailable(error)),
            None => Ok(Response {
                status: canned.status,
                headers: canned.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect(),
                body: canned.body.into_bytes(),
            }),
        };
        let came = result.as_ref().map_or_else(|error| format!("{error:?}"), |response| response.status.to_string());
        world.said.push_back(("http", format!("{what}: {came}")));
        now(result)
    }

    fn secret(&self, name: String) -> Later<String> {
        let known = lock(&self.world).secrets.get(&name).cloned();
        now(known.ok_or(wit::HostError::Unknown(name)))
    }
}

impl Pretend {
    fn keep(&mut self, op: StoreOp) -> Result<Stored, wit::HostError> {
        asking::check_store(&op)?;
        let now = self.now + self.waited;
        self.store.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        let ends = |ttl_ms: Option<u64>| ttl_ms.map(|ms| now + Duration::from_millis(ms));
        Ok(match op {
            StoreOp::Get { key } => Stored::Entry(self.store.get(&key).map(|(entry, _)| entry.clone())),
            StoreOp::Set { key, value, ttl_ms } => {
                self.put(key, value, ends(ttl_ms));
                Stored::Nothing
            }
            StoreOp::SetIf { key, value, version, ttl_ms } => {
                let same = version == self.store.get(&key).map_or(0, |(entry, _)| entry.version);
                if same {
                    self.put(key, value, ends(ttl_ms));
                }
                Stored::Written(same)
            }
            StoreOp::Delete { key } => {
                self.store.remove(&key);
                Stored::Nothing
            }
            StoreOp::Increment { key, by } => {
                let (number, until) = match self.store.get(&key) {
                    None => (Some(0), None),
                    Some((entry, until)) => (std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok()), *until),
                };
                let Some(number) = number else { return Err(wit::HostError::WrongState(format!("{key} is no number"))) };
                let Some(sum) = number.checked_add(by) else { return Err(wit::HostError::BadValue("by: too large".into())) };
                self.put(key, sum.to_string().into_bytes(), until);
                Stored::Sum(sum)
            }
            StoreOp::Keys { prefix, after } => {
                let wanted = |key: &&String| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after);
                Stored::Keys(self.store.keys().filter(wanted).take(limits::STORE_KEYS).cloned().collect())
            }
        })
    }

    fn put(&mut self, key: String, value: Vec<u8>, until: Option<Time>) {
        self.versions += 1;
        let version = self.versions;
        self.store.insert(key, (Entry { value, version }, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(world: &mut Pretend, op: StoreOp) -> String {
        format!("{:?}", world.keep(op))
    }

    #[test]
    fn the_store_counts_expires_and_knows_versions() {
        let mut world = Pretend::default();
        let set = |value: &str, version| StoreOp::SetIf { key: "k".into(), value: value.into(), version, ttl_ms: None };
        let increment = || StoreOp::Increment { key: "n".into(), by: 2 };
        assert_eq!(stored(&mut world, increment()), "Ok(Sum(2))");
        assert_eq!(stored(&mut world, increment()), "Ok(Sum(4))");
        assert_eq!(stored(&mut world, set("a", 7)), "Ok(Written(false))");
        assert_eq!(stored(&mut world, set("a", 0)), "Ok(Written(true))");
        assert_eq!(stored(&mut world, set("a", 0)), "Ok(Written(false))");
        world.keep(StoreOp::Set { key: "short".into(), value: vec![], ttl_ms: Some(5000) }).expect("kept");
        let keys = || StoreOp::Keys { prefix: String::new(), after: Some("k".into()) };
        assert_eq!(stored(&mut world, keys()), r#"Ok(Keys(["n", "short"]))"#);
        world.now = Time::from_millis(5000);
        assert_eq!(stored(&mut world, keys()), r#"Ok(Keys(["n"]))"#);
        assert!(stored(&mut world, StoreOp::Get { key: String::new() }).contains("key: 0 bytes; 1 to 256"));
        assert!(stored(&mut world, StoreOp::Increment { key: "k".into(), by: 1 }).contains("k is no number"));
    }
}
