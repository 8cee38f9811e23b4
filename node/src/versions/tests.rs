//! The version registry over a loader that compiles nothing.

use super::*;
use crate::store::{FallbackRow, StoreThread, TenantRow};
use std::os::unix::fs::PermissionsExt;

/// Stands for the guest room: takes what begins with `guest`, and remembers what new calls get.
#[derive(Default)]
pub(crate) struct FakeLoader {
    active: Mutex<Vec<(String, u32)>>,
    compiled: Mutex<Vec<String>>,
    /// Versions that do not load.
    broken: Mutex<Vec<u32>>,
}

impl FakeLoader {
    pub(crate) fn active(&self) -> Vec<(String, u32)> {
        self.active.lock().expect("no panic").clone()
    }
}

impl Loader for FakeLoader {
    fn inspect(&self, component: &[u8]) -> Result<(), String> {
        if component.starts_with(b"guest") { Ok(()) } else { Err("not a WebAssembly component".into()) }
    }
    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure> {
        if component.ends_with(b"uncompilable") {
            return Err(CompileFailure::Component("does not compile".into()));
        }
        self.compiled.lock().expect("no panic").push(sha256_hex(component));
        Ok(())
    }
    fn activate(&self, version: &VersionRow, component: &[u8]) -> Result<(), String> {
        if self.broken.lock().expect("no panic").contains(&version.number) || self.inspect(component).is_err() {
            return Err("does not load".into());
        }
        self.deactivate(&version.domain);
        self.active.lock().expect("no panic").push((version.domain.clone(), version.number));
        Ok(())
    }
    fn forget(&self, sha256: &str) {
        self.compiled.lock().expect("no panic").retain(|compiled| compiled != sha256);
    }
    fn log(&self, _domain: &str) -> Vec<LogLine> {
        vec![LogLine { at_ms: 1, session_id: "s1".into(), level: "info", text: "hello".into() }]
    }
    fn deactivate(&self, domain: &str) {
        self.active.lock().expect("no panic").retain(|(active, _)| active != domain);
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
    world.versions.upload("a.example", component.as_bytes(), "", "test").expect("accepted")
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
    let other = world.versions.upload("b.example", b"guest one", "", "test").expect("accepted");
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
        |domain: &str, bytes: &[u8], note: &str| world.versions.upload(domain, bytes, note, "test").expect_err("refused").to_string();
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
    assert!(matches!(world.versions.activate("a.example", 9, "test"), Err(VersionError::UnknownVersion(9))));
    assert!(matches!(world.versions.activate("nobody.example", 1, "test"), Err(VersionError::UnknownDomain)));

    assert_eq!(world.versions.activate("a.example", 1, "test").expect("activates").previous, None);
    assert_eq!(world.versions.activate("a.example", 3, "test").expect("activates").previous, Some(1));
    assert_eq!(world.loader.active(), a(3));
    let back = world.versions.roll_back("a.example", "test").expect("rolls back");
    assert_eq!((back.version.number, back.version.active, back.previous), (1, true, Some(3)));
    assert_eq!(world.loader.active(), a(1));

    // One that does not load changes nothing.
    world.loader.broken.lock().expect("no panic").push(2);
    assert!(matches!(world.versions.activate("a.example", 2, "test"), Err(VersionError::Load { number: 2, .. })));
    assert_eq!(world.loader.active(), a(1));
    assert_eq!(world.store.active_versions().expect("read")[0].number, 1);
}

#[test]
fn a_start_loads_what_was_active_and_one_broken_version_harms_no_other() {
    let world = world();
    push(&world, "guest 1");
    world.versions.activate("a.example", 1, "test").expect("activates");
    world.versions.upload("b.example", b"guest b", "", "test").expect("accepted");
    world.versions.activate("b.example", 1, "test").expect("activates");
    // Somebody changed the file of one of them, and an upload was interrupted.
    let components = world.folder.path().join("components");
    fs::write(components.join(format!("{}.wasm", sha256_hex(b"guest 1"))), b"guest 2").expect("written");
    fs::write(components.join("upload-x.wasm"), b"half").expect("written");

    let loader = Arc::new(FakeLoader::default());
    let versions = Versions::open(world.store.clone(), loader.clone(), world.folder.path()).expect("opens");
    let loaded: Vec<(String, bool)> =
        versions.load_active().expect("read").into_iter().map(|loaded| (loaded.version.domain, loaded.failure.is_none())).collect();
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
            world.versions.activate("a.example", 1, "test").expect("activates");
        }
    }
    let versions = world.versions.list("a.example").expect("read");
    // The newest hundred, and the active one that is older.
    assert_eq!(versions.len(), VERSIONS + 1);
    assert_eq!(versions.last().map(|version| version.number), Some(1));
    assert_eq!(files(&world).len(), VERSIONS + 1);
    // Ten compiled, and the active one.
    let compiled = world.loader.compiled.lock().expect("no panic").clone();
    assert_eq!(compiled.len(), COMPILED + 1);
    assert!(compiled.contains(&sha256_hex(b"guest 0")) && compiled.contains(&versions[9].sha256));

    world.versions.remove_tenant("a.example", "test").expect("removed");
    assert!(files(&world).is_empty());
    assert!(world.loader.active().is_empty());
}

#[test]
fn too_many_uploads_at_once_are_refused() {
    let world = world();
    let places: Vec<Place<'_>> = (0..UPLOADS).map(|_| world.versions.place().expect("free")).collect();
    assert!(matches!(world.versions.upload("a.example", b"guest", "", "test"), Err(VersionError::Busy)));
    drop(places);
    push(&world, "guest");
}
