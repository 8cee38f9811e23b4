//! The outbox with a real store and real receivers on loopback: in order, again and again, and nobody waits for somebody else's receiver.

use super::{Delivery, News, Options, Outbox, OutboxThread, Policy, Post, PostError};
use crate::limits;
use crate::metrics::Metrics;
use crate::store::{Store, StoreThread};
use hookswitch_call::SessionId;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A request as a receiver got it: header lines in lower case, and the body.
#[derive(Debug)]
struct Got {
    headers: Vec<String>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.headers.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("{name}: {self:?}"))
    }
}

/// What a receiver does with its next request.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    /// Sends the caller elsewhere.
    Redirect,
    /// Takes the request and says nothing until the test is over.
    Silence,
    /// Headers without end.
    Flood,
}

struct Receiving {
    origin: String,
    got: Receiver<Got>,
}

impl Receiving {
    /// Answers as listed, then 200.
    fn new(answers: &[Answer]) -> Receiving {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("bound"));
        let (tell, got) = channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tell, answers) = (tell.clone(), answers.clone());
                std::thread::spawn(move || serve(stream, &tell, &answers));
            }
        });
        Receiving { origin, got }
    }

    fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).expect("a post comes")
    }

    fn bodies(&self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.next().body).collect()
    }
}

fn serve(stream: TcpStream, tell: &Sender<Got>, answers: &Mutex<VecDeque<Answer>>) {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        let (name, value) = line.trim_end().split_once(": ").unwrap_or((line.trim_end(), ""));
        headers.push(format!("{}: {value}", name.to_ascii_lowercase()));
        line.clear();
    }
    let length: usize = headers.iter().find_map(|h| h.strip_prefix("content-length: ")).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let answer = answers.lock().expect("not poisoned").pop_front().unwrap_or(Answer::Status(200));
    let _ = tell.send(Got { headers, body: String::from_utf8_lossy(&body).into_owned() });
    let mut stream = reader.into_inner();
    let _ = match answer {
        Answer::Status(code) => write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: 5\r\n\r\nhello"),
        Answer::Redirect => write!(stream, "HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"),
        Answer::Silence => stream.read(&mut [0]).map(drop),
        Answer::Flood => stream.write_all(b"HTTP/1.1 200 X\r\nx: ").and_then(|()| {
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }),
    };
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Delivery>>>, Arc<Mutex<Vec<String>>>);

impl News for Heard {
    fn delivery(&self, _session: SessionId, _domain: &Arc<str>, delivery: Delivery) {
        self.0.lock().expect("not poisoned").push(delivery);
    }
    fn given_up(&self, _session: Option<SessionId>, domain: &Arc<str>, session_id: &str, why: &str) {
        self.1.lock().expect("not poisoned").push(format!("{domain} {session_id}: {why}"));
    }
}

struct World {
    outbox: Outbox,
    thread: OutboxThread,
    store: Store,
    store_thread: StoreThread,
    metrics: Arc<Metrics>,
    heard: Heard,
}

/// Everybody may post to this machine, and nothing takes long.
fn quick(origins: &[&Receiving]) -> Options {
    let origins: Vec<String> = origins.iter().map(|r| r.origin.clone()).collect();
    let policy = Policy { origins: Arc::new(move |_| origins.clone()), http: true, loopback: None };
    Options { first_retry: Duration::from_millis(10), last_retry: Duration::from_millis(50), ..Options::new(policy) }
}

impl World {
    fn open(folder: &Path, options: Options) -> World {
        let (store, store_thread) = Store::open(&folder.join("node.db")).expect("opens");
        let metrics = Arc::new(Metrics::default());
        let (outbox, thread) = Outbox::start(store.clone(), options, metrics.clone()).expect("starts");
        let heard = Heard::default();
        outbox.tell(Box::new(heard.clone()));
        World { outbox, thread, store, store_thread, metrics, heard }
    }

    fn post(&self, post: Post) -> Result<String, PostError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(self.outbox.post(post))
    }

    /// Waits until nothing is pending.
    fn settle(&self) {
        let until = std::time::Instant::now() + PATIENCE;
        while self.metrics.outbox_pending.get() > 0 {
            assert!(std::time::Instant::now() < until, "posts still wait");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn close(self) {
        self.thread.stop();
        self.store_thread.close();
    }

    /// Delivered, retried, dropped.
    fn counts(&self) -> (u64, u64, u64) {
        let m = &self.metrics;
        let get = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
        (get(&m.outbox_delivered), get(&m.outbox_retried), get(&m.outbox_dropped))
    }
}

fn post(to: &Receiving, session: u32, body: &str) -> Post {
    Post {
        domain: "a.example".into(),
        session: SessionId { slot: session, generation: 1 },
        session_id: format!("session-{session}"),
        url: format!("{}/hook?key=secret", to.origin),
        content_type: "application/json".into(),
        headers: vec![("X-Mine".into(), "yes".into())],
        body: body.into(),
        report: false,
    }
}

#[test]
fn a_post_arrives_with_its_ids_and_headers() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiving::new(&[]);
    let world = World::open(folder.path(), quick(&[&receiver]));
    let id = world.post(Post { report: true, ..post(&receiver, 1, "{\"a\":1}") }).expect("taken");
    let got = receiver.next();
    assert_eq!(got.headers[0].trim_end_matches(": "), "post /hook?key=secret http/1.1");
    assert_eq!((got.header("hookswitch-event-id"), got.header("hookswitch-session-id")), (id.as_str(), "session-1"));
    assert_eq!((got.header("hookswitch-attempt"), got.header("content-type")), ("1", "application/json"));
    assert_eq!((got.header("x-mine"), got.body.as_str()), ("yes", "{\"a\":1}"));
    world.settle();
    assert_eq!(world.counts(), (1, 0, 0));
    assert_eq!(world.store.waiting_posts().expect("read"), []);
    let heard = world.heard.0.lock().expect("not poisoned").clone();
    assert_eq!(heard, [Delivery { event_id: id, delivered: true, status: Some(200), attempts: 1 }]);
    world.close();
}

#[test]
fn what_is_not_acknowledged_is_tried_again_with_the_same_id_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiving::new(&[Answer::Status(500), Answer::Redirect, Answer::Flood, Answer::Status(404), Answer::Status(204)]);
    let world = World::open(folder.path(), quick(&[&receiver]));
    let id = world.post(post(&receiver, 1, "first")).expect("taken");
    for n in 2..=20 {
        world.post(post(&receiver, 1, &n.to_string())).expect("taken");
    }
    for attempt in 1..=5 {
        let got = receiver.next();
        assert_eq!((got.body.as_str(), got.header("hookswitch-event-id")), ("first", id.as_str()));
        assert_eq!(got.header("hookswitch-attempt"), attempt.to_string());
    }
    assert_eq!(receiver.bodies(19), (2..=20).map(|n| n.to_string()).collect::<Vec<_>>());
    world.settle();
    assert_eq!(world.counts(), (20, 4, 0));
    world.close();
}

#[test]
fn a_silent_receiver_delays_only_its_own_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    // More sessions than tries at once post to the silent one.
    let silent = Receiving::new(&[Answer::Silence; limits::OUTBOX_TRIES]);
    let lively = Receiving::new(&[]);
    let world = World::open(folder.path(), quick(&[&silent, &lively]));
    let sessions = u32::try_from(limits::OUTBOX_TRIES).expect("a few") + 4;
    for session in 0..sessions {
        world.post(post(&silent, session, "silent")).expect("taken");
    }
    silent.bodies(limits::OUTBOX_TRIES);
    world.post(post(&lively, 100, "another session")).expect("taken");
    assert_eq!(lively.bodies(1), ["another session"]);
    world.close();
}

#[test]
fn no_answer_in_time_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiving::new(&[Answer::Silence]);
    let world = World::open(folder.path(), Options { try_time: Duration::from_millis(100), ..quick(&[&receiver]) });
    world.post(post(&receiver, 1, "x")).expect("taken");
    assert_eq!(receiver.bodies(2), ["x", "x"]);
    world.settle();
    assert_eq!(world.counts(), (1, 1, 0));
    world.close();
}

#[test]
fn after_a_restart_what_waited_is_delivered_in_order_before_what_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiving::new(&[Answer::Silence]);
    let world = World::open(folder.path(), quick(&[&receiver]));
    let ids: Vec<String> = ["1", "2", "3"].iter().map(|body| world.post(post(&receiver, 1, body)).expect("taken")).collect();
    assert_eq!(receiver.next().header("hookswitch-event-id"), ids[0]);
    // The first is on the wire and unanswered: nobody knows whether it arrived.
    world.close();
    let world = World::open(folder.path(), quick(&[&receiver]));
    world.post(post(&receiver, 1, "4")).expect("taken");
    let got: Vec<Got> = (0..4).map(|_| receiver.next()).collect();
    assert_eq!(got.iter().map(|g| g.body.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!(got[..3].iter().map(|g| g.header("hookswitch-event-id").to_owned()).collect::<Vec<_>>(), ids);
    world.settle();
    world.close();
}

#[test]
fn too_old_gone_and_no_longer_allowed_are_given_up_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = Receiving::new(&[Answer::Status(410)]);
    let dead = Receiving { origin: "http://127.0.0.1:1".into(), got: channel().1 };
    let world = World::open(folder.path(), Options { age: Duration::from_millis(200), ..quick(&[&gone, &dead]) });
    let id = world.post(Post { report: true, ..post(&gone, 1, "x") }).expect("taken");
    world.settle();
    let old = world.post(Post { report: true, ..post(&dead, 2, "x") }).expect("taken");
    world.settle();
    assert_eq!(world.counts().2, 2);
    let deliveries = world.heard.0.lock().expect("not poisoned").clone();
    assert_eq!(deliveries[0], Delivery { event_id: id, delivered: false, status: Some(410), attempts: 1 });
    assert!(deliveries[1].event_id == old && !deliveries[1].delivered && deliveries[1].status.is_none() && deliveries[1].attempts > 1);
    world.post(post(&dead, 3, "x")).expect("taken");
    world.close();

    let world = World::open(folder.path(), Options::new(Policy::default()));
    world.settle();
    assert_eq!(world.counts(), (0, 0, 1));
    world.close();
}

/// The machine's clock is set: what is stored lies so many hours further behind it, or ahead.
fn clock_moves(folder: &Path, hours: i64) {
    let db = rusqlite::Connection::open(folder.join("node.db")).expect("opens");
    db.busy_timeout(PATIENCE).expect("it waits");
    let changed = db.execute("UPDATE outbox SET created_at = created_at - ?1, next_at = next_at - ?1", [hours * 3_600_000]);
    assert_eq!(changed, Ok(1));
}

#[test]
fn a_clock_that_jumps_neither_drops_a_post_nor_keeps_it_waiting() {
    for hours in [30, -30] {
        let folder = tempfile::tempdir().expect("a folder");
        let receiver = Receiving::new(&[Answer::Status(500), Answer::Status(500)]);
        // Between two tries is time to set a clock.
        let waits = Duration::from_millis(400);
        let world = World::open(folder.path(), Options { first_retry: waits, last_retry: waits, ..quick(&[&receiver]) });
        world.post(post(&receiver, 1, "x")).expect("taken");
        receiver.next();
        let tried = || world.counts().1;
        let until = std::time::Instant::now() + PATIENCE;
        while tried() == 0 {
            assert!(std::time::Instant::now() < until, "it is tried");
            std::thread::sleep(Duration::from_millis(2));
        }
        world.store.flush().expect("kept");
        clock_moves(folder.path(), hours);
        receiver.next();
        // And the same after a restart.
        world.close();
        clock_moves(folder.path(), hours);
        let world = World::open(folder.path(), quick(&[&receiver]));
        receiver.next();
        world.settle();
        assert_eq!((world.counts().0, world.counts().2), (1, 0), "{hours} hours");
        world.close();
    }
}

#[test]
fn a_post_is_too_old_when_the_node_has_run_for_long_enough_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let dead = Receiving { origin: "http://127.0.0.1:1".into(), got: channel().1 };
    let options = || Options { age: Duration::from_millis(600), ..quick(&[&dead]) };
    let world = World::open(folder.path(), options());
    world.post(post(&dead, 1, "x")).expect("taken");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(world.counts().2, 0, "it is young");
    world.close();
    let world = World::open(folder.path(), options());
    let reopened = std::time::Instant::now();
    world.settle();
    assert_eq!(world.counts(), (0, world.counts().1, 1));
    assert!(reopened.elapsed() < Duration::from_millis(550), "what it waited before the restart counts");
    world.close();
}

#[test]
fn given_up_posts_are_told_without_their_paths() {
    let folder = tempfile::tempdir().expect("a folder");
    let gone = Receiving::new(&[Answer::Status(410)]);
    let world = World::open(folder.path(), quick(&[&gone]));
    world.post(post(&gone, 7, "x")).expect("taken");
    world.settle();
    let told = world.heard.1.lock().expect("not poisoned").clone();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("a.example session-7: post ") && told[0].contains("410") && !told[0].contains("secret"), "{told:?}");
    world.close();
}

#[test]
fn bad_posts_are_refused_by_the_name_of_their_field() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiving::new(&[]);
    let world = World::open(folder.path(), quick(&[&receiver]));
    let good = || post(&receiver, 1, "x");
    let refused = |change: fn(&mut Post)| {
        let mut post = good();
        change(&mut post);
        world.post(post).expect_err("refused")
    };
    assert!(matches!(refused(|p| p.url = "ftp://a/".into()), PostError::BadValue(why) if why.starts_with("url: ")));
    assert!(matches!(refused(|p| p.url = "http://elsewhere.example/".into()), PostError::Denied(why) if why.contains("elsewhere.example")));
    assert!(matches!(refused(|p| p.body = vec![0; limits::OUTBOX_BODY + 1]), PostError::BadValue(why) if why.starts_with("body: ")));
    assert!(matches!(refused(|p| p.content_type = "a\r\nb".into()), PostError::BadValue(why) if why.starts_with("content-type: ")));
    assert!(matches!(refused(|p| p.content_type.clear()), PostError::BadValue(_)));
    assert!(matches!(refused(|p| p.headers = vec![("Host".into(), "x".into())]), PostError::BadValue(why) if why.starts_with("headers: ")));
    let many = |p: &mut Post| p.headers = vec![("x-a".into(), "1".into()); limits::OUTBOX_HEADERS + 1];
    assert!(matches!(refused(many), PostError::BadValue(why) if why.starts_with("headers: ")));
    assert_eq!((world.metrics.outbox_refused.load(Ordering::Relaxed), world.metrics.outbox_pending.get()), (7, 0));
    world.close();
}

#[test]
fn a_tenants_posts_have_a_limit_that_others_do_not_feel() {
    let folder = tempfile::tempdir().expect("a folder");
    let silent = Receiving::new(&[Answer::Silence; 2000]);
    let world = World::open(folder.path(), quick(&[&silent]));
    let whole = "x".repeat(limits::OUTBOX_BODY);
    let mut taken = 0;
    let refused = loop {
        match world.post(post(&silent, 1, &whole)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, PostError::Limit(why) if why.starts_with("outbox: ")), "{refused}");
    assert!((limits::OUTBOX_BYTES / limits::OUTBOX_BODY - 20..=limits::OUTBOX_BYTES / limits::OUTBOX_BODY).contains(&taken), "{taken}");
    world.post(Post { domain: "b.example".into(), ..post(&silent, 1, &whole) }).expect("another tenant's is taken");
    world.close();
}

#[test]
fn a_receiver_that_speaks_no_tls_gets_nothing_over_https() {
    let folder = tempfile::tempdir().expect("a folder");
    // Speaks no TLS at all: the hello is answered with nonsense, and the body never leaves.
    let plain = Receiving::new(&[]);
    let origin = plain.origin.replace("http://", "https://");
    let allowed = origin.clone();
    let policy = Policy { origins: Arc::new(move |_| vec![allowed.clone()]), ..Policy::default() };
    let options = Options { age: Duration::from_millis(200), first_retry: Duration::from_millis(20), ..Options::new(policy) };
    let world = World::open(folder.path(), Options { try_time: Duration::from_millis(100), ..options });
    world.post(Post { url: format!("{origin}/"), ..post(&plain, 1, "in the clear?") }).expect("taken");
    world.settle();
    assert_eq!(world.counts().0, 0);
    assert!(plain.got.try_iter().all(|got| !got.body.contains("clear")));
    world.close();
}
