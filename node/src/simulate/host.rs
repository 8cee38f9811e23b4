//! What a handler sees of the node in a simulated world: settings, secrets and answers of other servers as the scenario says, a store in
//! memory, a clock that is the world's. Orders go to the world's own switch: whoever runs the hook takes them from [`Pretend::orders`].

use super::limits;
use super::scenario::Canned;
use hookswitch_call::SessionId;
use hookswitch_proto::Time;
use hookswitch_wasm::{
    Cost, Host, HttpRequest, HttpResponse, Later, Level, Order, Ordered, PostRequest, StoreCall, StoreEntry, Stored, wit,
};
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
    pub store: BTreeMap<String, (StoreEntry, Option<Time>)>,
    pub timers: BTreeMap<(SessionId, String), Time>,
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
    pub session: SessionId,
    pub session_id: String,
    pub born: Time,
}

pub fn lock(world: &Mutex<Pretend>) -> MutexGuard<'_, Pretend> {
    // One thread runs all of it.
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bad<T>(why: &str) -> Result<T, wit::HostError> {
    Err(wit::HostError::BadValue(why.to_owned()))
}

fn now<T: Send + 'static>(result: Result<T, wit::HostError>) -> Later<T> {
    Box::pin(std::future::ready(result))
}

impl Host for Desk {
    fn log(&self, level: Level, line: &str) {
        let mut world = lock(&self.world);
        world.log_bytes += line.len();
        world.said.push_back(("log", format!("{}: {line}", crate::guest::asking::level_name(level))));
    }

    fn log_dropped(&self) {
        lock(&self.world).log_dropped += 1;
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

    fn store(&self, call: StoreCall) -> Later<Stored> {
        let mut world = lock(&self.world);
        now(world.keep(call))
    }

    fn fetch(&self, request: HttpRequest) -> Later<HttpResponse> {
        let mut world = lock(&self.world);
        let is = |canned: &Canned| canned.url == request.url && canned.method.eq_ignore_ascii_case(&request.method);
        let what = format!("{} {}", request.method, request.url);
        let Some(canned) = world.http.iter().position(is).and_then(|at| world.http.remove(at)) else {
            world.said.push_back(("http", format!("{what}: the scenario has no [[http]] answer for it")));
            return now(Err(wit::HostError::Denied(format!("{what}: the scenario has no answer for it"))));
        };
        let patience = Duration::from_millis(u64::from(request.timeout_ms.unwrap_or(1000)));
        world.waited += canned.after.0.min(patience);
        let result = match canned.error {
            _ if canned.after.0 > patience => Err(wit::HostError::Timeout),
            Some(error) => Err(wit::HostError::NotAvailable(error)),
            None => Ok(HttpResponse {
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

    fn timer(&self, name: String, after: Option<Duration>) -> Later<()> {
        let mut world = lock(&self.world);
        let Some(after) = after else {
            world.timers.remove(&(self.session, name));
            return now(Ok(()));
        };
        if !limits::TIMER.contains(&after) {
            return now(bad("after-ms: not 10 to 14400000"));
        }
        if name.len() > 64 {
            return now(bad("name: more than 64 bytes"));
        }
        let others = world.timers.keys().filter(|(session, other)| *session == self.session && *other != name).count();
        if others >= limits::TIMERS {
            return now(Err(wit::HostError::Limit(format!("timers: {} in a session", limits::TIMERS))));
        }
        let due = world.now + world.waited + after;
        world.timers.insert((self.session, name), due);
        now(Ok(()))
    }
}

impl Pretend {
    fn keep(&mut self, call: StoreCall) -> Result<Stored, wit::HostError> {
        let now = self.now;
        self.store.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        let (StoreCall::Get { key } | StoreCall::Set { key, .. } | StoreCall::Delete { key } | StoreCall::Increment { key, .. }) = &call
        else {
            let StoreCall::Keys { prefix, after } = call else { return bad("call: unknown") };
            let wanted = |key: &&String| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after);
            return Ok(Stored::Keys(self.store.keys().filter(wanted).take(limits::KEYS).cloned().collect()));
        };
        if !(1..=limits::KEY).contains(&key.len()) {
            return bad("key: not 1 to 256 bytes");
        }
        let before = self.store.get(key).map(|(entry, _)| entry.clone());
        match call {
            StoreCall::Set { key, value, version, ttl } => {
                if value.len() > limits::VALUE {
                    return bad("value: more than 65536 bytes");
                }
                if version.is_some_and(|version| version != before.as_ref().map_or(0, |entry| entry.version)) {
                    return Ok(Stored::Done(false));
                }
                self.put(key, value, ttl.map(|ttl| now + ttl));
                Ok(Stored::Done(true))
            }
            StoreCall::Delete { key } => {
                self.store.remove(&key);
                Ok(Stored::Done(true))
            }
            StoreCall::Increment { key, by } => {
                let number = match &before {
                    None => Some(0),
                    Some(entry) => std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok()),
                };
                let Some(number) = number else { return Err(wit::HostError::WrongState(format!("{key} is no number"))) };
                let Some(sum) = number.checked_add(by) else { return bad("by: too large") };
                let until = self.store.get(&key).and_then(|(_, until)| *until);
                self.put(key, sum.to_string().into_bytes(), until);
                Ok(Stored::Sum(sum))
            }
            StoreCall::Get { .. } | StoreCall::Keys { .. } => Ok(Stored::Entry(before)),
        }
    }

    fn put(&mut self, key: String, value: Vec<u8>, until: Option<Time>) {
        self.versions += 1;
        let version = self.versions;
        self.store.insert(key, (StoreEntry { value, version }, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(world: &mut Pretend, call: StoreCall) -> String {
        format!("{:?}", world.keep(call))
    }

    #[test]
    fn the_store_counts_expires_and_knows_versions() {
        let mut world = Pretend::default();
        let set = |value: &str, version| StoreCall::Set { key: "k".into(), value: value.into(), version, ttl: None };
        let increment = || StoreCall::Increment { key: "n".into(), by: 2 };
        assert_eq!(stored(&mut world, increment()), "Ok(Sum(2))");
        assert_eq!(stored(&mut world, increment()), "Ok(Sum(4))");
        assert_eq!(stored(&mut world, set("a", Some(7))), "Ok(Done(false))");
        assert_eq!(stored(&mut world, set("a", Some(0))), "Ok(Done(true))");
        assert_eq!(stored(&mut world, set("a", Some(0))), "Ok(Done(false))");
        let ttl = Some(Duration::from_secs(5));
        world.keep(StoreCall::Set { key: "short".into(), value: vec![], version: None, ttl }).expect("kept");
        let keys = || StoreCall::Keys { prefix: String::new(), after: Some("k".into()) };
        assert_eq!(stored(&mut world, keys()), r#"Ok(Keys(["n", "short"]))"#);
        world.now = Time::from_millis(5000);
        assert_eq!(stored(&mut world, keys()), r#"Ok(Keys(["n"]))"#);
        assert!(stored(&mut world, StoreCall::Get { key: String::new() }).contains("key: not 1 to 256 bytes"));
        assert!(stored(&mut world, StoreCall::Increment { key: "k".into(), by: 1 }).contains("k is no number"));
    }
}
