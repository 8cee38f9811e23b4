//! Deliveries against a real S3 server in this process, which can be away, answer errors, and be asked what it was asked. Keeping is tested
//! in virtual time.

use super::*;
use crate::record::keys::Keys;
use crate::store::{AccessRow, CallRow, HoldRow, RecordingState, StorageRow, StoreThread, TenantRow};
use hookswitch_call::RecordingStart;
use hookswitch_call::recording::{RecordingOptions, StorageClass};
use hookswitch_proto::media::RecordingId;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "calls";
const KEY_ID: &str = "AKIATEST";
pub(crate) const SECRET: &str = "a-secret-that-nobody-shall-see";
const DOMAIN: &str = "a.example";

type Fault = Box<dyn FnMut(&Method, &str) -> Option<u16> + Send>;

/// What the server was asked, and what it answers in place of an answer.
#[derive(Default)]
struct Door {
    asked: Mutex<Vec<(Method, String)>>,
    fault: Mutex<Option<Fault>>,
}

/// An S3 server over a folder.
pub(crate) struct S3 {
    folder: Arc<TempDir>,
    pub(crate) address: SocketAddr,
    door: Arc<Door>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3 {
    pub(crate) fn start() -> S3 {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut s3 = S3 {
            folder: Arc::new(folder),
            address: "127.0.0.1:0".parse().expect("an address"),
            door: Arc::default(),
            stop: None,
            thread: None,
        };
        s3.come_back();
        s3
    }

    /// Listens where it listened before.
    fn come_back(&mut self) {
        let socket = TcpListener::bind(self.address).expect("a port");
        socket.set_nonblocking(true).expect("a socket");
        self.address = socket.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let (folder, door) = (self.folder.clone(), self.door.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a folder"));
            builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
            let service = builder.build();
            runtime.block_on(async {
                tokio::select! { () = serve_s3(socket, service, door) => {}, _ = stopped => {} }
            });
        };
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(run));
    }

    fn go_away(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }

    /// From now on this decides which requests fail, and with what.
    fn fails(&self, fault: impl FnMut(&Method, &str) -> Option<u16> + Send + 'static) {
        *self.door.fault.lock().expect("whole") = Some(Box::new(fault));
    }

    fn works(&self) {
        *self.door.fault.lock().expect("whole") = None;
    }

    /// Requests of this method whose path and query hold this.
    fn asked(&self, method: &Method, part: &str) -> usize {
        self.door.asked.lock().expect("whole").iter().filter(|(m, path)| m == method && path.contains(part)).count()
    }

    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.path().join(BUCKET).join(key)).ok()
    }

    /// Files of uploads that nobody completed or called off.
    fn unfinished(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path())
            .expect("a folder")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains("upload")).collect()
    }

    pub(crate) fn storage(&self, delivery: &Delivery, domain: &str, every: bool) -> StorageRow {
        let credentials = Credentials { key_id: KEY_ID.into(), secret: SECRET.into() };
        StorageRow {
            domain: domain.into(),
            url: format!("s3://{BUCKET}/in"),
            endpoint: Some(format!("http://{}", self.address)),
            region: "us-east-1".into(),
            every,
            sealed: delivery.seal(domain, &credentials).expect("sealed"),
            changed_at: 0,
        }
    }
}

async fn serve_s3(socket: TcpListener, service: S3Service, door: Arc<Door>) {
    let socket = tokio::net::TcpListener::from_std(socket).expect("a socket");
    loop {
        let Ok((stream, _)) = socket.accept().await else { continue };
        let (service, door) = (service.clone(), door.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, door) = (service.clone(), door.clone());
            async move {
                let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
                door.asked.lock().expect("whole").push((request.method().clone(), path.clone()));
                let fault = door.fault.lock().expect("whole").as_mut().and_then(|fault| fault(request.method(), &path));
                match fault {
                    Some(status) => {
                        // What is still being sent would break the connection before the answer is read.
                        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
                        Ok(Response::builder().status(status).body(s3s::Body::empty()).expect("a response"))
                    }
                    None => hyper::service::Service::call(&service, request).await,
                }
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// A node's archive, and what it told.
struct World {
    folder: TempDir,
    store: Store,
    archive: Archive,
    options: Options,
    told: Arc<Mutex<Vec<Moved>>>,
    running: Option<DeliveryThread>,
    _thread: StoreThread,
}

fn quick() -> Options {
    Options {
        first_retry: Duration::from_millis(20),
        last_retry: Duration::from_millis(100),
        part: 5 << 20,
        poll: Duration::from_millis(10),
        sweep: Duration::from_secs(3600),
        ..Options::default()
    }
}

fn world(options: Options) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
    store.put_tenant(TenantRow { domain: DOMAIN.into(), ..TenantRow::default() }, "test").expect("put");
    let keys = Arc::new(Keys::load(folder.path()).expect("made"));
    let archive = Archive::open(store.clone(), folder.path(), keys, Arc::default(), options.clone()).expect("keys");
    World { folder, store, archive, options, told: Arc::default(), running: None, _thread: thread }
}

impl World {
    fn start(&mut self) {
        let told = self.told.clone();
        self.running = Some(self.archive.start(Arc::new(move |moved| told.lock().expect("whole").push(moved))).expect("a thread"));
    }

    fn stop(&mut self) {
        self.running.take().expect("running").stop();
    }

    /// As after a restart: nothing but the store and the files remembers.
    fn restart(&mut self) {
        self.stop();
        let keys = Arc::new(Keys::load(self.folder.path()).expect("read"));
        self.archive = Archive::open(self.store.clone(), self.folder.path(), keys, Arc::default(), self.options.clone()).expect("keys");
        self.start();
    }

    fn uses(&self, s3: &S3) {
        self.store.put_storage(s3.storage(&self.archive.delivery, DOMAIN, false), "test").expect("put");
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.wav"))
    }

    /// A recording that is finished now.
    fn recorded(&self, id: &str, class: StorageClass, retention: Option<Duration>, size: usize) -> Vec<u8> {
        let audio: Vec<u8> = (0..size).map(|n| (n.wrapping_mul(31) >> 7) as u8 ^ id.as_bytes()[0]).collect();
        std::fs::write(self.path(id), &audio).expect("written");
        std::fs::write(sidecar(&self.path(id).to_string_lossy()), format!("{{\"id\":\"{id}\"}}")).expect("written");
        self.begins(id, class, retention);
        self.ends(id, "alice", size as u64, 1_000_000);
        audio
    }

    fn begins(&self, id: &str, class: StorageClass, retention: Option<Duration>) {
        self.store.keep_terms(&RecordingStart {
            recording: RecordingId(1),
            recording_id: id.into(),
            session: hookswitch_call::SessionId { slot: 1, generation: 1 },
            session_id: format!("session-of-{id}"),
            domain: DOMAIN.into(),
            participant_id: "p".into(),
            connection_id: None,
            caller: "alice".into(),
            called: "100".into(),
            file_name: format!("{id}.wav"),
            stereo: false,
            options: Arc::new(RecordingOptions {
                storage_class: class,
                retention,
                on_available_url: Some(format!("https://a.example/{id}")),
                ..RecordingOptions::default()
            }),
        });
    }

    fn ends(&self, id: &str, caller: &str, size: u64, created_at: u64) {
        let row = RecordingRow {
            id: id.into(),
            domain: DOMAIN.into(),
            session: format!("session-of-{id}"),
            caller: caller.into(),
            called: "100".into(),
            file_name: format!("{id}.wav"),
            path: self.path(id).to_string_lossy().into_owned(),
            created_at,
            duration_ms: 10_000,
            size,
            state: RecordingState::Available,
            ..RecordingRow::default()
        };
        self.store.put_recording(row).expect("put");
    }

    /// What was told of a recording, but for the beginnings of tries.
    fn ends_of(&self, id: &str) -> Vec<Moved> {
        let told = self.told.lock().expect("whole");
        told.iter().filter(|moved| moved.row.id == id && moved.phase != Phase::Uploading).cloned().collect()
    }

    fn delivery(&self, id: &str) -> DeliveryRow {
        self.store.delivery(id).expect("read").expect("there")
    }

    fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !until() {
            assert!(Instant::now() < patience, "{what}: {:?}", self.told.lock().expect("whole"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_end(&self, id: &str) -> Moved {
        self.wait("told", || !self.ends_of(id).is_empty());
        let mut ends = self.ends_of(id);
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends.remove(0)
    }

    /// Nothing of the credentials is where people look.
    fn tells_no_secret(&self) {
        let audit = format!("{:?} {:?}", self.store.audit(None, 1000).expect("read"), self.told.lock().expect("whole"));
        let database = std::fs::read(self.folder.path().join("node.db")).expect("read");
        for secret in [KEY_ID, SECRET] {
            assert!(!audit.contains(secret), "{audit}");
            assert!(!database.windows(secret.len()).any(|part| part == secret.as_bytes()));
        }
    }
}

#[test]
fn ur_015_a_recording_for_the_tenants_bucket_goes_there_and_is_still_heard() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    world.start();
    let audio = world.recorded("r", StorageClass::TenantBucket, None, 100_000);
    world.recorded("stays", StorageClass::PromptStore, None, 1000);
    let end = world.wait_end("r");
    assert_eq!((end.phase, end.location.as_deref(), &end.why), (Phase::Available, Some("s3://calls/in/r/r.wav"), &None));
    assert_eq!(end.row.session, "session-of-r");
    let listeners = Listeners { participant: "p".into(), on_available_url: Some("https://a.example/r".into()), ..Listeners::default() };
    assert_eq!((end.listeners, end.copy), (listeners, false));
    assert_eq!(s3.object("in/r/r.wav"), Some(audio.clone()));
    assert_eq!(s3.object("in/r/r.wav.json").as_deref(), Some(br#"{"id":"r"}"#.as_slice()));
    // Small: one request for it, one for what lies beside it.
    assert_eq!((s3.asked(&Method::PUT, "/in/r/"), s3.asked(&Method::POST, "")), (2, 0));
    // It is there and no longer here.
    world.wait("moved", || world.store.recording("r").expect("read").expect("there").path.is_empty());
    assert!(!world.path("r").exists() && !sidecar(&world.path("r").to_string_lossy()).exists());
    assert!(world.path("stays").exists() && world.store.delivery("stays").expect("read").is_none());
    let read = |first, length| {
        let delivery = world.archive.delivery.clone();
        let row = world.delivery("r");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let Ok(Some(Read::Stream(mut stream))) = delivery.read(&row, first, length).await else { panic!("no stream") };
            let mut all = Vec::new();
            while let Some(bytes) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                all.extend_from_slice(&bytes.expect("bytes"));
            }
            all
        })
    };
    assert_eq!(read(0, 100_000), audio);
    assert_eq!(read(10, 5), audio[10..15]);
    world.tells_no_secret();
}

#[test]
fn ur_027_a_recording_whose_tenant_erased_its_key_is_not_waited_for() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    let (key, _) = world.archive.keys.put_of_tenant(DOMAIN, None).expect("a key");
    let (_, wrapped) = world.archive.keys.data_key(DOMAIN, "r").expect("wrapped");
    std::fs::write(world.path("r"), b"noise").expect("written");
    world.begins("r", StorageClass::TenantBucket, None);
    let row = RecordingRow {
        id: "r".into(),
        domain: DOMAIN.into(),
        path: world.path("r").to_string_lossy().into_owned(),
        state: RecordingState::Available,
        wrapped_key: Some(wrapped),
        ..RecordingRow::default()
    };
    world.store.put_recording(row).expect("put");
    world.archive.keys.erase_of_tenant(DOMAIN, &key.name).expect("erased");
    world.start();
    let end = world.wait_end("r");
    assert!(end.phase == Phase::Failed && end.why.as_deref().is_some_and(|why| why.contains("erased the key")), "{end:?}");
}

#[test]
fn a_clock_that_was_set_back_delays_no_delivery() {
    let (s3, mut world) = (S3::start(), world(Options { last_retry: Duration::from_secs(60), ..quick() }));
    world.uses(&s3);
    world.recorded("soon", StorageClass::TenantBucket, None, 1000);
    let hour = crate::store::wall_ms() + 3_600_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    // As it was said when the clock was an hour ahead.
    runtime.block_on(world.store.delivery_tried("soon", 1, hour, "away")).expect("kept");
    world.start();
    assert_eq!(world.wait_end("soon").phase, Phase::Available);
}

/// The machine's clock is set: what is stored lies so many hours further behind it, or ahead.
fn clock_moves(world: &World, hours: i64) {
    let db = rusqlite::Connection::open(world.folder.path().join("node.db")).expect("opens");
    db.busy_timeout(Duration::from_secs(60)).expect("it waits");
    let changed = db.execute("UPDATE deliveries SET created_at = created_at - ?1, next_at = next_at - ?1", [hours * 3_600_000]);
    assert_eq!(changed, Ok(1));
}

#[test]
fn a_clock_that_jumps_neither_gives_up_a_delivery_nor_keeps_it_waiting() {
    for hours in [100, -100] {
        let (mut s3, mut world) = (S3::start(), world(quick()));
        world.uses(&s3);
        s3.go_away();
        world.start();
        world.recorded("r", StorageClass::TenantBucket, None, 1000);
        world.wait("a try", || world.delivery("r").attempts > 0);
        clock_moves(&world, hours);
        let before = world.delivery("r").attempts;
        world.wait("another try", || world.delivery("r").attempts > before);
        assert_eq!(world.delivery("r").state, crate::store::DeliveryState::Uploading, "{hours} hours");
        s3.come_back();
        world.uses(&s3);
        assert_eq!(world.wait_end("r").phase, Phase::Available, "{hours} hours");
    }
}

#[test]
fn a_delivery_is_given_up_when_the_node_has_run_for_long_enough_with_it() {
    let (mut s3, mut world) = (S3::start(), world(Options { age: Duration::from_millis(500), ..quick() }));
    world.uses(&s3);
    s3.go_away();
    world.start();
    world.recorded("r", StorageClass::TenantBucket, None, 1000);
    let end = world.wait_end("r");
    assert!(end.phase == Phase::Failed && end.why.as_deref().is_some_and(|why| why.contains("not delivered for too long")), "{end:?}");
    assert!(world.delivery("r").attempts > 0);
}

#[test]
fn a_storage_may_ask_for_a_copy_of_everything_but_what_is_ephemeral() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.store.put_storage(s3.storage(&world.archive.delivery, DOMAIN, true), "test").expect("put");
    world.start();
    let audio = world.recorded("r", StorageClass::PromptStore, None, 1000);
    world.recorded("brief", StorageClass::Ephemeral, None, 1000);
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    assert_eq!(s3.object("in/r/r.wav"), Some(audio));
    assert!(world.path("r").exists(), "a copy: handlers may still play it");
    assert!(world.store.delivery("brief").expect("read").is_none());
}

#[test]
fn a_large_recording_goes_in_parts_and_the_first_goes_last() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    world.start();
    let audio = world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    assert!(s3.object("in/r/r.wav").is_some_and(|object| object == audio));
    let parts: Vec<String> = s3
        .door
        .asked
        .lock()
        .expect("whole")
        .iter()
        .filter(|(_, path)| path.contains("partNumber="))
        .map(|(_, path)| path.clone())
        .collect();
    let numbers: Vec<&str> = parts.iter().filter_map(|path| path.split("partNumber=").nth(1)?.split('&').next()).collect();
    assert_eq!(numbers, ["2", "3", "1"]);
    assert_eq!(s3.unfinished(), Vec::<String>::new());
}

#[test]
fn a_restart_in_the_middle_goes_on_with_the_same_upload() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    // The second part does not get through before the node dies.
    s3.fails(|method, path| (*method == Method::PUT && path.contains("partNumber=3")).then_some(503));
    world.start();
    let audio = world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    world.wait("a part is there", || s3.asked(&Method::PUT, "partNumber=3") > 0);
    let before = world.delivery("r").upload.expect("begun");
    assert_eq!(before.parts.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    s3.works();
    world.restart();
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    assert!(s3.object("in/r/r.wav").is_some_and(|object| object == audio));
    assert_eq!(s3.asked(&Method::POST, "uploads"), 1, "the upload was begun once");
    assert_eq!(s3.asked(&Method::PUT, "partNumber=2"), 1, "a part that was there is not sent again");
    assert_eq!(s3.unfinished(), Vec::<String>::new());
    assert_eq!(world.delivery("r").upload, None);
}

#[test]
fn an_upload_that_the_storage_forgot_is_begun_again() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    let mut once = true;
    s3.fails(move |method, path| (*method == Method::PUT && path.contains("partNumber=3") && std::mem::take(&mut once)).then_some(404));
    world.start();
    let audio = world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    assert!(s3.object("in/r/r.wav").is_some_and(|object| object == audio));
    assert_eq!(s3.asked(&Method::POST, "uploads"), 2);
}

#[test]
fn an_answer_that_was_lost_is_no_reason_to_send_all_again() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    // The upload was completed and nobody heard of it: the next try is told that there is no such upload.
    let audio = Arc::new(Mutex::new(Vec::new()));
    let (object, put) = (s3.folder.path().join(BUCKET).join("in/r/r.wav"), audio.clone());
    s3.fails(move |method, path| {
        (*method == Method::POST && path.contains("uploadId=")).then(|| {
            std::fs::write(&object, &*put.lock().expect("whole")).expect("written");
            404
        })
    });
    *audio.lock().expect("whole") = world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    world.start();
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    assert_eq!(s3.asked(&Method::POST, "uploads"), 1);
}

#[test]
fn errors_and_absence_cost_time_and_nothing_else() {
    let (mut s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    let mut left = 3;
    s3.fails(move |_, _| {
        left -= 1;
        (left >= 0).then_some(503)
    });
    world.start();
    let first = world.recorded("first", StorageClass::TenantBucket, None, 1000);
    assert_eq!(world.wait_end("first").phase, Phase::Available);
    assert_eq!(s3.object("in/first/first.wav"), Some(first));

    s3.go_away();
    let second = world.recorded("second", StorageClass::TenantBucket, None, 1000);
    world.wait("tried", || world.delivery("second").attempts > 1);
    let row = world.delivery("second");
    assert_eq!((row.state, world.ends_of("second").len()), (DeliveryState::Uploading, 0));
    assert!(row.why.as_deref().is_some_and(|why| why.contains("not connected")), "{row:?}");
    assert!(world.path("second").exists());
    s3.works();
    s3.come_back();
    assert_eq!(world.wait_end("second").phase, Phase::Available);
    assert_eq!(s3.object("in/second/second.wav"), Some(second));
}

#[test]
fn wrong_credentials_are_said_and_right_ones_deliver_at_once() {
    let (s3, mut world) =
        (S3::start(), world(Options { first_retry: Duration::from_secs(3600), last_retry: Duration::from_secs(3600), ..quick() }));
    let sealed = world.archive.delivery.seal(DOMAIN, &Credentials { key_id: KEY_ID.into(), secret: "wrong".into() }).expect("sealed");
    let wrong = StorageRow { sealed, ..s3.storage(&world.archive.delivery, DOMAIN, false) };
    let probe = |storage: &StorageRow| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(world.archive.delivery.probe(storage))
    };
    assert!(probe(&wrong).is_err_and(|why| why.contains("403") && why.contains("credentials")));
    assert_eq!(probe(&s3.storage(&world.archive.delivery, DOMAIN, false)), Ok(()));
    // Sealed for another tenant they do not open.
    let moved = StorageRow { domain: "b.example".into(), ..s3.storage(&world.archive.delivery, DOMAIN, false) };
    assert!(probe(&moved).is_err_and(|why| why.contains("cannot be opened")));
    world.store.put_storage(wrong, "test").expect("put");
    world.start();
    world.recorded("r", StorageClass::TenantBucket, None, 1000);
    world.wait("tried", || world.delivery("r").attempts == 1);
    assert!(world.delivery("r").why.is_some_and(|why| why.contains("403")));
    world.uses(&s3);
    world.archive.delivery.nudge();
    assert_eq!(world.wait_end("r").phase, Phase::Available);
    world.tells_no_secret();
}

#[test]
fn beyond_the_quota_the_oldest_is_told_failed_and_kept_aside() {
    let (mut s3, mut world) = (S3::start(), world(Options { spool: 2500, ..quick() }));
    world.uses(&s3);
    s3.go_away();
    world.start();
    world.recorded("old", StorageClass::TenantBucket, None, 1000);
    world.wait("tried", || world.delivery("old").attempts > 0);
    let kept: Vec<Vec<u8>> = ["mid", "new"]
        .map(|id| {
            // What was due earlier is older: milliseconds count.
            std::thread::sleep(Duration::from_millis(3));
            world.recorded(id, StorageClass::TenantBucket, None, 1000)
        })
        .into();
    let end = world.wait_end("old");
    assert_eq!(end.phase, Phase::Failed);
    assert!(end.why.as_deref().is_some_and(|why| why.contains("more waits than fits")), "{end:?}");
    assert!(world.path("old").exists(), "its audio stays here");
    s3.come_back();
    for (id, audio) in ["mid", "new"].into_iter().zip(kept) {
        assert_eq!(world.wait_end(id).phase, Phase::Available);
        assert_eq!(s3.object(&format!("in/{id}/{id}.wav")), Some(audio));
    }
    assert_eq!(s3.object("in/old/old.wav"), None);
}

#[test]
fn what_is_given_up_leaves_nothing_behind() {
    let (s3, mut world) = (S3::start(), world(Options { age: Duration::from_millis(1500), ..quick() }));
    world.uses(&s3);
    s3.fails(|method, path| (*method == Method::PUT && path.contains("partNumber=3")).then_some(500));
    world.start();
    world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    let end = world.wait_end("r");
    assert_eq!(end.phase, Phase::Failed);
    assert!(end.why.as_deref().is_some_and(|why| why.contains("for too long") && why.contains("500")), "{end:?}");
    world.wait("called off", || world.delivery("r").upload.is_none());
    assert_eq!(s3.asked(&Method::DELETE, "uploadId="), 1);
    assert_eq!((s3.unfinished(), world.path("r").exists()), (Vec::new(), true));
    // It stays the only end, also when told again after a restart.
    world.restart();
    world.recorded("other", StorageClass::TenantBucket, None, 1000);
    world.wait_end("other");
    world.wait_end("r");
}

#[test]
fn an_end_that_nobody_heard_is_told_again_with_the_same_id() {
    let (s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    world.recorded("r", StorageClass::TenantBucket, None, 1000);
    let event = world.delivery("r").event_id;
    // The node died between the two.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert_eq!(runtime.block_on(world.store.end_delivery("r", DeliveryState::Failed, Some("test"))), Ok(true));
    assert_eq!(runtime.block_on(world.store.end_delivery("r", DeliveryState::Available, None)), Ok(false), "the first end stays");
    world.start();
    let end = world.wait_end("r");
    assert_eq!((end.event_id, end.phase, end.why.as_deref()), (event, Phase::Failed, Some("test")));
    assert_eq!(end.listeners.on_available_url.as_deref(), Some("https://a.example/r"), "those who were to hear of it then");
}

#[test]
fn a_folder_is_a_storage_too() {
    let mut world = world(quick());
    let folder = world.folder.path().join("elsewhere");
    let s3 = S3::start();
    let storage =
        StorageRow { url: format!("file:{}", folder.display()), endpoint: None, ..s3.storage(&world.archive.delivery, DOMAIN, false) };
    world.store.put_storage(storage, "test").expect("put");
    world.start();
    let audio = world.recorded("r", StorageClass::TenantBucket, None, 11 << 20);
    assert_eq!(world.wait_end("r").location, Some(format!("file:{}/r/r.wav", folder.display())));
    assert!(std::fs::read(folder.join("r/r.wav")).expect("there") == audio && folder.join("r/r.wav.json").exists());
    let row = world.store.recording("r").expect("read").expect("there");
    assert!(world.archive.keeper.erase(&row, "test", "test", 1).expect("erased"));
    world.wait("gone", || world.store.delivery("r").expect("read").is_none());
    assert!(!folder.join("r").exists());
}

#[test]
fn erasing_a_recording_erases_what_was_delivered_once_the_storage_is_there() {
    let (mut s3, mut world) = (S3::start(), world(quick()));
    world.uses(&s3);
    world.start();
    world.recorded("r", StorageClass::TenantBucket, None, 1000);
    world.recorded("other", StorageClass::TenantBucket, None, 1000);
    world.wait_end("r");
    world.wait_end("other");
    s3.go_away();
    let row = world.store.recording("r").expect("read").expect("there");
    assert!(world.archive.keeper.erase(&row, "test", "test", 1).expect("erased"));
    assert_eq!(world.store.recording("r").expect("read"), None);
    world.wait("tried", || world.delivery("r").attempts > 0);
    s3.come_back();
    world.wait("gone", || world.store.delivery("r").expect("read").is_none());
    assert_eq!((s3.object("in/r/r.wav"), s3.object("in/r/r.wav.json")), (None, None));
    assert!(s3.object("in/other/other.wav").is_some());
}

const HOUR: u64 = 3_600_000;

#[test]
fn ur_032_a_recording_is_kept_as_long_as_it_was_asked_and_no_longer() {
    let world = world(quick());
    let keep = |id: &str| world.store.recording(id).expect("read").is_some();
    world
        .store
        .put_tenant(TenantRow { domain: DOMAIN.into(), recording_retention_ms: Some(10 * HOUR), ..TenantRow::default() }, "test")
        .expect("put");
    world.recorded("usual", StorageClass::PromptStore, None, 10);
    world.recorded("short", StorageClass::PromptStore, Some(Duration::from_secs(3600)), 10);
    world.recorded("long", StorageClass::PromptStore, Some(Duration::from_secs(20 * 3600)), 10);
    world.recorded("held", StorageClass::PromptStore, Some(Duration::from_secs(3600)), 10);
    let hold = HoldRow { who: "operator".into(), why: "a court".into(), at: 1 };
    world.store.put_hold(DOMAIN, "held", hold, "test").expect("held");
    // All of them ended ten seconds after the same beginning.
    let end = 1_000_000 + 10_000;
    for (now, gone) in [
        (end + HOUR - 1, vec![]),
        (end + HOUR, vec!["short"]),
        (end + 10 * HOUR - 1, vec!["short"]),
        (end + 10 * HOUR, vec!["short", "usual"]),
        (end + 20 * HOUR - 1, vec!["short", "usual"]),
        (end + 20 * HOUR, vec!["short", "usual", "long"]),
        (end + 1000 * HOUR, vec!["short", "usual", "long"]),
    ] {
        world.archive.keeper.sweep(now);
        for id in ["usual", "short", "long", "held"] {
            let expected = !gone.contains(&id);
            assert_eq!(
                (keep(id), world.path(id).exists(), sidecar(&world.path(id).to_string_lossy()).exists()),
                (expected, expected, expected),
                "{id} at {now}"
            );
            assert_eq!(world.store.gone(DOMAIN, id).expect("read").is_none(), expected, "{id} at {now}");
        }
    }
    world.store.delete_hold(DOMAIN, "held", "operator").expect("released");
    assert_eq!(world.archive.keeper.sweep(end + 1000 * HOUR), 1);
    assert!(!keep("held"));
    assert_eq!(world.archive.keeper.sweep(u64::MAX / 4), 0, "nothing is removed twice");
}

#[test]
fn mg_036_what_is_ephemeral_goes_ten_minutes_after_its_call() {
    let world = world(quick());
    for id in ["told", "untold", "brief"] {
        let retention = (id == "brief").then_some(Duration::from_secs(60));
        world.recorded(id, StorageClass::Ephemeral, retention, 10);
    }
    let keep = |id: &str| world.store.recording(id).expect("read").is_some();
    let ended = |id: &str, at: u64| {
        world.store.save_call(CallRow {
            session: format!("session-of-{id}"),
            domain: DOMAIN.into(),
            started_at: 1_000_000,
            duration_ms: at - 1_000_000,
            ..CallRow::default()
        });
        world.store.flush().expect("flushed");
    };
    // While the call is up, whatever its length.
    world.archive.keeper.sweep(2_000_000);
    assert!(keep("told"));
    ended("told", 2_000_000);
    ended("brief", 2_000_000);
    world.archive.keeper.sweep(2_000_000 + 599_999);
    assert_eq!((keep("told"), keep("brief")), (true, false));
    world.archive.keeper.sweep(2_000_000 + 600_000);
    assert_eq!((keep("told"), keep("untold")), (false, true));
    // Nobody knows when its call ended (the node died): no call is longer than this.
    let longest = u64::try_from(hookswitch_call::limits::SESSION_DURATION.as_millis()).expect("some hours");
    world.archive.keeper.sweep(1_000_000 + longest + 599_999);
    assert!(keep("untold"));
    world.archive.keeper.sweep(1_000_000 + longest + 600_000);
    assert!(!keep("untold"));
}

#[test]
fn an_erasure_that_a_crash_cut_off_is_finished() {
    let world = world(quick());
    world.recorded("r", StorageClass::PromptStore, None, 10);
    // Said to be gone, and the files are still there.
    world.store.begin_erasing("r", "test", "test", 1).expect("begun");
    assert!(world.path("r").exists());
    let hold = HoldRow { who: "operator".into(), why: "too late".into(), at: 2 };
    assert!(world.store.put_hold(DOMAIN, "r", hold, "test").is_err(), "what is gone cannot be held");
    assert_eq!(world.archive.keeper.sweep(2), 1);
    assert!(!world.path("r").exists() && world.store.recording("r").expect("read").is_none());
    assert_eq!(world.archive.keeper.sweep(2), 0);
}

#[test]
fn a_failed_recordings_leftovers_go_with_it() {
    let world = world(quick());
    let aside = world.folder.path().join("spool/failed");
    std::fs::create_dir_all(&aside).expect("made");
    for name in ["r.wav", "r.part.wav", "other.wav"] {
        std::fs::write(aside.join(name), b"said").expect("written");
    }
    world
        .store
        .put_recording(RecordingRow { id: "r".into(), domain: DOMAIN.into(), state: RecordingState::Failed, ..RecordingRow::default() })
        .expect("put");
    let row = world.store.recording("r").expect("read").expect("there");
    world.archive.keeper.erase(&row, "test", "test", 1).expect("erased");
    let left: Vec<_> = std::fs::read_dir(&aside).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["other.wav"]);
}

#[test]
fn who_heard_a_recording_is_known_after_it_is_gone() {
    let world = world(quick());
    world.recorded("r", StorageClass::PromptStore, None, 10);
    let heard = AccessRow {
        recording: "r".into(),
        domain: DOMAIN.into(),
        at: 5,
        who: "token ci".into(),
        peer: "192.0.2.1:5".into(),
        how: "audio".into(),
        range: Some((1, 2)),
    };
    world.store.note_access(heard.clone()).expect("noted");
    let row = world.store.recording("r").expect("read").expect("there");
    world.archive.keeper.erase(&row, "test", "test", 1).expect("erased");
    assert_eq!(world.store.accesses(DOMAIN, "r", 10).expect("read"), [heard]);
    assert_eq!(world.store.accesses("b.example", "r", 10).expect("read"), []);
}
