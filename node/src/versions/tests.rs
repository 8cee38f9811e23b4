//! The version registry over a loader that compiles nothing.

use super::*;
use crate::store::{FallbackRow, StoreThread, TenantRow};
use std::os::unix::fs::PermissionsExt;

/// Stands for the guest room: takes what begins with `guest`, and remembers what new calls get.
#[derive(Default)]
pub(crate) struct FakeLoader {
    active: Mutex<Vec<(String, u32)>>,
    tried: Mutex<Vec<(String, u32, Share)>>,
    /// Hashes of what the cache holds.
    compiled: Mutex<Vec<String>>,
    /// How often something was compiled.
    compilations: AtomicUsize,
    /// Versions that do not load.
    broken: Mutex<Vec<u32>>,
    said: Mutex<Vec<String>>,
}

impl FakeLoader {
    pub(crate) fn active(&self) -> Vec<(String, u32)> {
        self.active.lock().expect("no panic").clone()
    }
    fn tried(&self) -> Vec<(u32, Share)> {
        self.tried.lock().expect("no panic").iter().map(|(_, number, share)| (*number, share.clone())).collect()
    }
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().expect("no panic"))
    }
}

impl Loader for FakeLoader {
    fn inspect(&self, component: &[u8]) -> Result<(), String> {
        if component.starts_with(b"guest") { Ok(()) } else { Err("not a WebAssembly component".into()) }
    }
    fn ready(&self, version: &VersionRow, _trial: Option<Trial>) -> Option<Ready> {
        let there = self.compiled.lock().expect("no panic").contains(&version.sha256);
        let loads = !self.broken.lock().expect("no panic").contains(&version.number);
        (there && loads).then(|| Ready(Arc::new(version.number)))
    }
    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure> {
        self.compilations.fetch_add(1, Ordering::Relaxed);
        if component.ends_with(b"uncompilable") || self.inspect(component).is_err() {
            return Err(CompileFailure::Component("does not compile".into()));
        }
        self.compiled.lock().expect("no panic").push(sha256_hex(component));
        Ok(())
    }
    fn deploy(&self, domain: &str, change: Change) {
        let number = |ready: Ready| *ready.0.downcast::<u32>().expect("ours");
        let mut active = self.active.lock().expect("no panic");
        let mut tried = self.tried.lock().expect("no panic");
        match change {
            Change::Active(ready) => {
                active.retain(|(active, _)| active != domain);
                active.push((domain.to_owned(), number(ready)));
                tried.retain(|(tried, ..)| tried != domain);
            }
            Change::Back(ready) => {
                let number = number(ready);
                active.retain(|(active, _)| active != domain);
                active.push((domain.to_owned(), number));
                tried.retain(|(tried, other, _)| tried != domain || *other != number);
            }
            Change::Try(ready, share) => {
                tried.retain(|(tried, ..)| tried != domain);
                tried.push((domain.to_owned(), number(ready), share));
            }
            Change::EndTry => tried.retain(|(tried, ..)| tried != domain),
            Change::Nothing => {
                active.retain(|(active, _)| active != domain);
                tried.retain(|(tried, ..)| tried != domain);
            }
        }
    }
    fn forget(&self, sha256: &str) {
        self.compiled.lock().expect("no panic").retain(|compiled| compiled != sha256);
    }
    fn sweep(&self) {}
    fn health(&self, domain: &str, number: u32) -> Option<VersionHealth> {
        let has_calls = self.active().contains(&(domain.to_owned(), number));
        has_calls.then_some(VersionHealth { calls: 3, failed: 1, rests: None })
    }
    fn say(&self, _domain: &str, text: &str) {
        self.said.lock().expect("no panic").push(text.to_owned());
    }
    fn taken_back(&self, domain: &str, why: &str) {
        self.say(domain, &format!("alarm: {why}"));
    }
    fn log(&self, _domain: &str) -> Vec<LogLine> {
        vec![LogLine { at_ms: 1, session_id: "s1".into(), level: "info", text: "hello".into() }]
    }
}

struct World {
    folder: tempfile::TempDir,
    store: Store,
    loader: Arc<FakeLoader>,
    versions: Versions,
    _thread: StoreThread,
}

fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
    for domain in ["a.example", "b.example"] {
        let tenant = TenantRow {
            domain: domain.into(),
            numbers: Vec::new(),
            fallback: FallbackRow::Refuse { status: 503 },
            max_sessions: 1,
            ..TenantRow::default()
        };
        store.put_tenant(tenant, "test").expect("put");
    }
    let loader = Arc::new(FakeLoader::default());
    let versions = Versions::open(store.clone(), loader.clone(), folder.path()).expect("opens");
    World { folder, store, loader, versions, _thread: thread }
}

fn files(world: &World) -> Vec<String> {
    let folder = fs::read_dir(world.folder.path().join("components")).expect("there");
    folder.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

fn push(world: &World, component: &str) -> Uploaded {
    world.versions.upload("a.example", component.as_bytes(), "", None, "test").expect("accepted")
}

#[test]
fn a_component_gets_a_number_and_the_same_bytes_keep_it() {
    let world = world();
    let first = push(&world, "guest one");
    assert_eq!((first.version.number, first.known, first.version.active), (1, false, false));
    assert_eq!(first.version.sha256, sha256_hex(b"guest one"));
    assert_eq!(push(&world, "guest two").version.number, 2);
    let again = push(&world, "guest one");
    assert_eq!((again.version.number, again.known), (1, true));
    // The other tenant counts for itself and shares the file.
    let other = world.versions.upload("b.example", b"guest one", "", None, "test").expect("accepted");
    assert_eq!((other.version.number, other.known), (1, false));
    assert_eq!(files(&world).len(), 2);

    let file = world.folder.path().join("components").join(format!("{}.wasm", first.version.sha256));
    assert_eq!(fs::read(&file).expect("there"), b"guest one");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    // Uploading is not activating.
    assert!(world.loader.active().is_empty());
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let world = world();
    let upload =
        |domain: &str, bytes: &[u8], note: &str| world.versions.upload(domain, bytes, note, None, "test").expect_err("refused").to_string();
    assert_eq!(upload("a.example", b"\x7fELF", ""), "component: not a WebAssembly component");
    assert_eq!(upload("a.example", b"guest uncompilable", ""), "component: does not compile");
    let large = vec![0; Class::Standard.component_bytes() + 1];
    let says = "component: larger than 4194304 bytes; the operator may allow this tenant large ones";
    assert_eq!(upload("a.example", &large, ""), says);
    let tenant = TenantRow { large_components: true, ..world.store.tenant("a.example").expect("read").expect("there") };
    world.store.put_tenant(tenant, "test").expect("put");
    assert_eq!(upload("a.example", &large, ""), "component: not a WebAssembly component");
    assert_eq!(upload("a.example", &vec![0; Class::Large.component_bytes() + 1], ""), "component: larger than 33554432 bytes");
    assert_eq!(upload("b.example", &large, ""), says);
    assert_eq!(upload("a.example", b"guest", "a\nb"), "note: longer than 500 characters, or with control characters");
    assert_eq!(upload("nobody.example", b"guest", ""), "unknown domain");
    assert!(files(&world).is_empty());
    assert!(world.versions.list("a.example").expect("read").is_empty());
}

#[test]
fn activating_and_rolling_back_changes_what_new_calls_get() {
    let world = world();
    let a = |number| vec![("a.example".to_owned(), number)];
    for component in ["guest 1", "guest 2", "guest 3"] {
        push(&world, component);
    }
    assert!(matches!(world.versions.roll_back("a.example", "test"), Err(VersionError::NothingEarlier)));
    assert!(matches!(world.versions.activate("a.example", 9, None, "test"), Err(VersionError::UnknownVersion(9))));
    assert!(matches!(world.versions.activate("nobody.example", 1, None, "test"), Err(VersionError::UnknownDomain)));

    assert_eq!(world.versions.activate("a.example", 1, None, "test").expect("activates").previous, None);
    assert_eq!(world.versions.activate("a.example", 3, None, "test").expect("activates").previous, Some(1));
    assert_eq!(world.loader.active(), a(3));
    let back = world.versions.roll_back("a.example", "test").expect("rolls back");
    assert_eq!((back.version.number, back.version.active, back.previous), (1, true, Some(3)));
    assert_eq!(world.loader.active(), a(1));

    // One that does not load changes nothing.
    world.loader.broken.lock().expect("no panic").push(2);
    assert!(matches!(world.versions.activate("a.example", 2, None, "test"), Err(VersionError::Load { number: 2, .. })));
    assert_eq!(world.loader.active(), a(1));
    assert_eq!(world.store.deployed_versions().expect("read")[0].number, 1);
}

#[test]
fn a_start_loads_what_was_active_and_one_broken_version_harms_no_other() {
    let world = world();
    push(&world, "guest 1");
    world.versions.activate("a.example", 1, None, "test").expect("activates");
    world.versions.upload("b.example", b"guest b", "", None, "test").expect("accepted");
    world.versions.activate("b.example", 1, None, "test").expect("activates");
    // Somebody changed the file of one of them, and an upload was interrupted.
    let components = world.folder.path().join("components");
    fs::write(components.join(format!("{}.wasm", sha256_hex(b"guest 1"))), b"guest 2").expect("written");
    fs::write(components.join("upload-x.wasm"), b"half").expect("written");

    let loader = Arc::new(FakeLoader::default());
    let versions = Versions::open(world.store.clone(), loader.clone(), world.folder.path()).expect("opens");
    let loaded: Vec<(String, bool)> =
        versions.load_deployed().expect("read").into_iter().map(|loaded| (loaded.version.domain, loaded.failure.is_none())).collect();
    assert_eq!(loaded, [("a.example".to_owned(), false), ("b.example".to_owned(), true)]);
    assert_eq!(loader.active(), [("b.example".to_owned(), 1)]);
    assert_eq!(files(&world).len(), 2);
}

#[test]
fn old_versions_and_their_files_go() {
    let world = world();
    for number in 0..VERSIONS + 3 {
        push(&world, &format!("guest {number}"));
        if number == 0 {
            world.versions.activate("a.example", 1, None, "test").expect("activates");
        }
    }
    let versions = world.versions.list("a.example").expect("read");
    // The newest hundred, and the active one that is older.
    assert_eq!(versions.len(), VERSIONS + 1);
    assert_eq!(versions.last().map(|version| version.number), Some(1));
    assert_eq!(files(&world).len(), VERSIONS + 1);
    // Ten compiled, the active one, and none else: nothing was active before it.
    let compiled = world.loader.compiled.lock().expect("no panic").clone();
    assert_eq!(compiled.len(), COMPILED + 1);
    assert!(compiled.contains(&sha256_hex(b"guest 0")) && compiled.contains(&versions[9].sha256));

    world.versions.remove_tenant("a.example", "test").expect("removed");
    assert!(files(&world).is_empty());
    assert!(world.loader.active().is_empty());
}

#[test]
fn what_finds_the_line_to_the_compiler_full_is_refused_and_what_is_compiled_needs_no_turn() {
    let world = world();
    push(&world, "guest 1");
    let turns: Vec<_> = (0..limits::COMPILES).map(|_| world.versions.compiling.take("a.example").expect("free")).collect();
    std::thread::scope(|scope| {
        // Those that wait fill the tenant's line.
        let waiting: Vec<_> = (limits::COMPILES..limits::COMPILES_OF_TENANT)
            .map(|n| {
                scope.spawn({
                    let world = &world;
                    move || push(world, &format!("guest w{n}"))
                })
            })
            .collect();
        while world.versions.compiling.len("a.example") < limits::COMPILES_OF_TENANT {
            std::thread::yield_now();
        }
        assert!(matches!(world.versions.upload("a.example", b"guest", "", None, "test"), Err(VersionError::Busy)));
        // Neither a known component nor an activation has to wait.
        assert!(push(&world, "guest 1").known);
        world.versions.activate("a.example", 1, None, "test").expect("activates");
        drop(turns);
        for one in waiting {
            one.join().expect("pushed");
        }
    });
    push(&world, "guest");
}

#[test]
fn a_version_is_tried_promoted_or_withdrawn() {
    let world = world();
    let versions = &world.versions;
    for component in ["guest 1", "guest 2", "guest 3"] {
        push(&world, component);
    }
    let ten = Share::Percent(10);
    assert!(matches!(versions.activate("a.example", 2, Some(ten.clone()), "test"), Err(VersionError::NothingActive)));
    assert!(matches!(versions.promote("a.example", "test"), Err(VersionError::NothingTried)));
    versions.activate("a.example", 1, None, "test").expect("activates");
    assert!(matches!(versions.activate("a.example", 1, Some(ten.clone()), "test"), Err(VersionError::AlreadyActive(1))));

    let tried = versions.activate("a.example", 2, Some(ten.clone()), "test").expect("tried");
    assert_eq!((tried.version.number, tried.version.active, tried.version.canary, tried.previous), (2, false, Some(ten.clone()), Some(1)));
    assert_eq!((world.loader.active(), world.loader.tried()), (vec![("a.example".to_owned(), 1)], vec![(2, ten.clone())]));
    assert_eq!(versions.tried_percent("a.example"), 10);
    // Another one, for some numbers, in its place.
    let numbers = Share::Numbers(vec!["100".into()]);
    versions.activate("a.example", 3, Some(numbers.clone()), "test").expect("tried");
    assert_eq!(world.loader.tried(), [(3, numbers)]);
    // Withdrawn: the active one was never changed, and nothing is compiled for that.
    let compilations = world.loader.compilations.load(Ordering::Relaxed);
    let back = versions.roll_back("a.example", "test").expect("withdrawn");
    assert_eq!((back.version.number, back.previous), (1, Some(3)));
    assert_eq!((world.loader.active(), world.loader.tried()), (vec![("a.example".to_owned(), 1)], vec![]));
    assert!(matches!(versions.roll_back("a.example", "test"), Err(VersionError::NothingEarlier)));

    versions.activate("a.example", 2, Some(ten), "test").expect("tried");
    let promoted = versions.promote("a.example", "test").expect("promoted");
    assert_eq!((promoted.version.number, promoted.version.active, promoted.previous), (2, true, Some(1)));
    assert_eq!((world.loader.active(), world.loader.tried()), (vec![("a.example".to_owned(), 2)], vec![]));
    assert_eq!(versions.roll_back("a.example", "test").expect("rolls back").version.number, 1);
    assert_eq!(world.loader.compilations.load(Ordering::Relaxed), compilations, "a pointer swap");
}

fn judged(number: u32, judgement: Judgement) -> Judged {
    Judged { domain: "a.example".into(), number, judgement }
}

const FAILED: Judgement = Judgement::Failed { failed: 4, calls: 12 };

#[test]
fn a_version_that_fails_its_trial_is_taken_back_and_that_is_told() {
    let world = world();
    let versions = &world.versions;
    for component in ["guest 1", "guest 2", "guest 3"] {
        push(&world, component);
    }
    versions.activate("a.example", 1, None, "test").expect("activates");
    versions.judged(&judged(1, Judgement::Proven)).expect("stored");
    assert!(world.store.version("a.example", 1).expect("read").expect("there").proven);
    versions.activate("a.example", 2, None, "test").expect("activates");
    versions.judged(&judged(2, FAILED)).expect("taken back");
    assert_eq!(world.loader.active(), [("a.example".to_owned(), 1)]);
    assert_eq!(world.loader.said(), ["alarm: version 2 failed 4 of its first 12 calls: new calls get version 1 again"]);
    let audit = world.store.audit(None, 1).expect("read").remove(0);
    assert_eq!(
        (audit.who.as_str(), audit.what.as_str(), audit.detail.as_str()),
        ("node", "version rolled back to", "1: version 2 failed 4 of its first 12 calls")
    );
    // What is told late changes nothing, whatever has calls now.
    versions.judged(&judged(2, FAILED)).expect("nothing to do");
    versions.activate("a.example", 3, None, "test").expect("activates");
    versions.judged(&judged(2, FAILED)).expect("nothing to do");
    assert_eq!((world.loader.active(), world.loader.said()), (vec![("a.example".to_owned(), 3)], vec![]));

    // One that is tried is withdrawn; the active one stays.
    versions.activate("a.example", 2, Some(Share::Percent(10)), "test").expect("tried");
    versions.judged(&judged(2, FAILED)).expect("withdrawn");
    assert_eq!((world.loader.active(), world.loader.tried()), (vec![("a.example".to_owned(), 3)], vec![]));
    assert_eq!(world.loader.said(), ["alarm: version 2 failed 4 of its first 12 calls: new calls get version 3 again"]);
    // The active one fails while another is tried: that one may be its cure.
    versions.activate("a.example", 2, Some(Share::Percent(10)), "test").expect("tried");
    versions.judged(&judged(3, FAILED)).expect("taken back");
    assert_eq!((world.loader.active(), world.loader.tried()), (vec![("a.example".to_owned(), 1)], vec![(2, Share::Percent(10))]));
    assert!(world.store.version("a.example", 2).expect("read").expect("there").canary.is_some());
}

#[test]
fn where_there_is_nothing_to_go_back_to_the_version_stays_and_that_is_told() {
    let world = world();
    push(&world, "guest 1");
    world.versions.activate("a.example", 1, None, "test").expect("activates");
    world.versions.judged(&judged(1, FAILED)).expect("told");
    assert_eq!(world.loader.active(), [("a.example".to_owned(), 1)]);
    assert_eq!(world.loader.said(), ["version 1 failed 4 of its first 12 calls; there is no earlier version to go back to"]);
}

#[test]
fn what_new_calls_get_survives_a_restart_with_an_engine_that_knows_no_code() {
    let world = world();
    push(&world, "guest 1");
    push(&world, "guest 2");
    world.versions.activate("a.example", 1, None, "test").expect("activates");
    world.versions.activate("a.example", 2, Some(Share::Percent(5)), "test").expect("tried");
    let loader = Arc::new(FakeLoader::default());
    let versions = Versions::open(world.store.clone(), loader.clone(), world.folder.path()).expect("opens");
    let loaded = versions.load_deployed().expect("read");
    assert!(loaded.iter().all(|loaded| loaded.failure.is_none()), "{loaded:?}");
    assert_eq!((loader.active(), loader.tried()), (vec![("a.example".to_owned(), 1)], vec![(2, Share::Percent(5))]));
    assert_eq!(loader.compilations.load(Ordering::Relaxed), 2, "compiled anew, before calls are taken");
}

#[test]
fn a_tenant_that_requires_signatures_gets_nothing_unsigned_to_its_calls() {
    use signature::SecretKey;
    let world = world();
    let versions = &world.versions;
    let key = || SecretKey::read(&SecretKey::generate().expect("random numbers")).expect("a key");
    let (old, new) = (key(), key());
    let upload = |component: &[u8], signature: Option<String>| {
        versions.upload("a.example", component, "", signature.as_deref(), "test").map(|uploaded| uploaded.version)
    };
    let signed = |key: &SecretKey, component: &[u8]| Some(key.sign(&sha256_hex(component)));
    let why = |result: Result<VersionRow, VersionError>| result.expect_err("refused").to_string();
    // Before: one without, and one that nobody could check.
    upload(b"guest 1", None).expect("nothing is required");
    assert_eq!(why(upload(b"guest 2", signed(&old, b"guest 2"))), "signature: made by no key of this tenant; it has no signing keys");
    versions.activate("a.example", 1, None, "test").expect("activates");

    let policy = |keys: &[&SecretKey]| GuestPolicy {
        require_signature: true,
        signing_keys: keys.iter().map(|key| key.public()).collect(),
        ..GuestPolicy::default()
    };
    versions.set_policy("a.example", &policy(&[&old]), "test").expect("set");
    let old_id = old.public().id();
    assert_eq!(why(upload(b"guest 2", None)), format!("signature: this tenant requires one; known keys: {old_id}"));
    assert_eq!(
        why(upload(b"guest 2", signed(&new, b"guest 2"))),
        format!("signature: made by no key of this tenant; known keys: {old_id}")
    );
    let second = upload(b"guest 2", signed(&old, b"guest 2")).expect("signed");
    assert_eq!(second.signature, signed(&old, b"guest 2"));
    versions.activate("a.example", 2, None, "test").expect("signed");
    // What came before it was required gets no calls by anybody's hand until it is pushed again with a signature.
    let unsigned =
        format!("version 1 has no signature that will do: this tenant requires one; known keys: {old_id}; push it again with one");
    for share in [None, Some(Share::Percent(10))] {
        assert_eq!(versions.activate("a.example", 1, share, "test").expect_err("refused").to_string(), unsigned);
    }
    assert_eq!(versions.roll_back("a.example", "test").expect_err("refused").to_string(), unsigned);
    let first = upload(b"guest 1", signed(&old, b"guest 1")).expect("signed now");
    assert_eq!((first.number, first.signature), (1, signed(&old, b"guest 1")));
    versions.roll_back("a.example", "test").expect("signed now");
    // A rotation: both, then the new one alone. What the old one has signed keeps its calls, and gets no more by hand.
    versions.set_policy("a.example", &policy(&[&old, &new]), "test").expect("set");
    versions.activate("a.example", 2, None, "test").expect("both count");
    versions.set_policy("a.example", &policy(&[&new]), "test").expect("set");
    assert!(matches!(versions.activate("a.example", 1, None, "test"), Err(VersionError::Unsigned { number: 1, .. })));
    assert_eq!(world.loader.active(), [("a.example".to_owned(), 2)]);
    upload(b"guest 1", signed(&new, b"guest 1")).expect("signed by the new one");
    versions.activate("a.example", 1, None, "test").expect("the new one counts");
}
