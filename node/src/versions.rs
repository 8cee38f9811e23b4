//! The registry of guest versions: upload, activate, roll back. A version is a component that never changes again, under a number of its
//! tenant; new calls get the active one, calls under way stay on theirs.
//!
//! It does not know wasmtime: judging, compiling and running a component is behind [`Loader`]. Every call here blocks (compiling takes
//! seconds): keep it off async threads. Start with [`Versions::upload`].

use crate::guest::LogLine;
use crate::store::{Store, StoreError, VersionRow};
use hookswitch_wasm::Class;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Versions kept of one tenant. The oldest go; never the active one, nor the one that rolling back returns to.
pub const VERSIONS: usize = 100;
/// Versions of a tenant whose compiled code is kept; an older one is compiled again when it is activated.
pub const COMPILED: usize = 10;
/// Uploads under way at a time: each may compile for seconds on a core that calls want. More: [`VersionError::Busy`].
pub const UPLOADS: usize = 4;
/// Characters of a version's note.
pub const NOTE: usize = 500;

/// What the registry needs of the guest room. All calls may block.
pub trait Loader: Send + Sync + 'static {
    /// Says why this is no component that a call can be given to.
    fn inspect(&self, component: &[u8]) -> Result<(), String>;
    /// Compiles into the cache, in a process of its own; quick when it is there already.
    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure>;
    /// New calls of this tenant get this version from now on. Compiled again if the cache has lost it.
    fn activate(&self, version: &VersionRow, component: &[u8]) -> Result<(), String>;
    /// New calls of this tenant get no version.
    fn deactivate(&self, domain: &str);
    /// The cache need not keep this component's code: it is rarely wanted, or gone.
    fn forget(&self, sha256: &str);
    /// What the tenant's guests wrote last, oldest first.
    fn log(&self, domain: &str) -> Vec<LogLine>;
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileFailure {
    /// The component is at fault.
    Component(String),
    /// The node is: disk, processes.
    Node(String),
}

#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("component: larger than {} bytes{}", .0.component_bytes(), hint(.0))]
    TooLarge(Class),
    #[error("component: {0}")]
    Refused(String),
    #[error("note: longer than {NOTE} characters, or with control characters")]
    Note,
    #[error("{UPLOADS} uploads are under way already; try again shortly")]
    Busy,
    #[error("unknown domain")]
    UnknownDomain,
    #[error("number: this tenant has no version {0}")]
    UnknownVersion(u32),
    #[error("there is no earlier version to roll back to")]
    NothingEarlier,
    /// Accepted when it was uploaded, and yet it does not load now.
    #[error("version {number} does not load: {why}")]
    Load { number: u32, why: String },
    #[error("the component could not be stored: {0}")]
    Io(String),
    #[error(transparent)]
    Store(StoreError),
}

fn hint(class: &Class) -> &'static str {
    match class {
        Class::Standard => "; the operator may allow this tenant large ones",
        Class::Large => "",
    }
}

impl From<StoreError> for VersionError {
    fn from(error: StoreError) -> VersionError {
        match error {
            StoreError::Unknown("domain") => VersionError::UnknownDomain,
            StoreError::Unknown("earlier version") => VersionError::NothingEarlier,
            other => VersionError::Store(other),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub version: VersionRow,
    /// These bytes were pushed before: it is the version of then, and nothing was stored.
    pub known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activated {
    pub version: VersionRow,
    /// What was active before.
    pub previous: Option<u32>,
}

/// What became of an active version at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub version: VersionRow,
    pub failure: Option<String>,
}

pub struct Versions {
    store: Store,
    loader: Arc<dyn Loader>,
    /// Content-addressed: `<sha256>.wasm`, shared by tenants that push the same bytes.
    folder: PathBuf,
    uploads: AtomicUsize,
    /// One change at a time, so that the store, the folder and what new calls get cannot disagree. Compiling is done outside of it.
    changing: Mutex<()>,
}

impl Versions {
    /// `data`: the node's data folder; components lie below it.
    pub fn open(store: Store, loader: Arc<dyn Loader>, data: &Path) -> Result<Versions, VersionError> {
        let folder = data.join("components");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|e| VersionError::Io(format!("{}: {e}", folder.display())))?;
        // Uploads that a crash interrupted.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UPLOAD_PREFIX) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Versions { store, loader, folder, uploads: AtomicUsize::new(0), changing: Mutex::new(()) })
    }

    /// At start, before calls are taken: new calls get the active versions. One that does not load leaves its tenant on the fallback;
    /// the others are not held up by it.
    pub fn load_active(&self) -> Result<Vec<Loaded>, VersionError> {
        let _one = self.change();
        let active = self.store.active_versions()?;
        Ok(active.into_iter().map(|version| Loaded { failure: self.load(&version).err(), version }).collect())
    }

    /// Takes a component in: judged, hashed, compiled, stored, numbered. It is not active yet.
    pub fn upload(&self, domain: &str, component: &[u8], note: &str, who: &str) -> Result<Uploaded, VersionError> {
        let class = self.class(domain)?;
        if component.len() > class.component_bytes() {
            return Err(VersionError::TooLarge(class));
        }
        if note.chars().count() > NOTE || note.chars().any(char::is_control) {
            return Err(VersionError::Note);
        }
        let _place = self.place()?;
        let sha256 = sha256_hex(component);
        if let Some(version) = self.store.versions(domain)?.into_iter().find(|version| version.sha256 == sha256) {
            return Ok(Uploaded { version, known: true });
        }
        self.loader.inspect(component).map_err(VersionError::Refused)?;
        self.loader.compile(component).map_err(|failure| match failure {
            CompileFailure::Component(why) => VersionError::Refused(why),
            CompileFailure::Node(why) => VersionError::Io(why),
        })?;

        let _one = self.change();
        keep(&self.folder, component, &self.path(&sha256)).map_err(|error| VersionError::Io(error.to_string()))?;
        let size = u64::try_from(component.len()).expect("checked against the class");
        match self.store.add_version(domain, &sha256, size, note, VERSIONS, who) {
            Ok(added) => {
                self.remove(&added.orphans);
                self.forget_old(domain);
                Ok(Uploaded { version: added.version, known: added.known })
            }
            Err(error) => {
                // The tenant went meanwhile, or the disk is full: the file stays only where another version needs it.
                if let Ok(orphans) = self.store.unreferenced(vec![sha256]) {
                    self.remove(&orphans);
                }
                Err(error.into())
            }
        }
    }

    /// New calls get this version from now on. Those under way finish on theirs.
    pub fn activate(&self, domain: &str, number: u32, who: &str) -> Result<Activated, VersionError> {
        let _one = self.change();
        if self.store.tenant(domain)?.is_none() {
            return Err(VersionError::UnknownDomain);
        }
        let mut version = self.store.version(domain, number)?.ok_or(VersionError::UnknownVersion(number))?;
        let before = self.active(domain)?;
        self.load_or_say(&version)?;
        match self.store.activate_version(domain, number, who) {
            Ok(previous) => {
                version.active = true;
                Ok(Activated { version, previous: previous.filter(|previous| *previous != number) })
            }
            Err(error) => {
                self.restore(domain, before);
                Err(error.into())
            }
        }
    }

    /// Takes the last activation back.
    pub fn roll_back(&self, domain: &str, who: &str) -> Result<Activated, VersionError> {
        let _one = self.change();
        if self.store.tenant(domain)?.is_none() {
            return Err(VersionError::UnknownDomain);
        }
        let target = self.store.rollback_target(domain)?.ok_or(VersionError::NothingEarlier)?;
        let before = self.active(domain)?;
        let previous = before.as_ref().map(|version| version.number);
        self.load_or_say(&target)?;
        match self.store.roll_back_version(domain, who) {
            Ok(version) => Ok(Activated { version, previous }),
            Err(error) => {
                self.restore(domain, before);
                Err(error.into())
            }
        }
    }

    /// How large a component this tenant may upload.
    pub fn class(&self, domain: &str) -> Result<Class, VersionError> {
        let tenant = self.store.tenant(domain)?.ok_or(VersionError::UnknownDomain)?;
        Ok(if tenant.large_components { Class::Large } else { Class::Standard })
    }

    /// All versions of a tenant, newest first.
    pub fn list(&self, domain: &str) -> Result<Vec<VersionRow>, VersionError> {
        Ok(self.store.versions(domain)?)
    }

    /// What the tenant's guests wrote last, oldest first.
    pub fn log(&self, domain: &str) -> Vec<LogLine> {
        self.loader.log(domain)
    }

    /// Removes the tenant with its versions.
    pub fn remove_tenant(&self, domain: &str, who: &str) -> Result<(), VersionError> {
        let _one = self.change();
        let orphans = self.store.delete_tenant(domain, who)?;
        self.loader.deactivate(domain);
        self.remove(&orphans);
        Ok(())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.wasm"))
    }

    fn active(&self, domain: &str) -> Result<Option<VersionRow>, VersionError> {
        Ok(self.store.versions(domain)?.into_iter().find(|version| version.active))
    }

    fn load(&self, version: &VersionRow) -> Result<(), String> {
        let path = self.path(&version.sha256);
        let component = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // It is about to run as code: a file that is not what was uploaded does not.
        if sha256_hex(&component) != version.sha256 {
            return Err(format!("{}: its content is not what was uploaded", path.display()));
        }
        self.loader.activate(version, &component)
    }

    fn load_or_say(&self, version: &VersionRow) -> Result<(), VersionError> {
        self.load(version).map_err(|why| VersionError::Load { number: version.number, why })
    }

    /// Compiled code is some hundred times larger than a component; of old versions only the components stay.
    fn forget_old(&self, domain: &str) {
        let Ok(versions) = self.store.versions(domain) else { return };
        for version in versions.iter().skip(COMPILED).filter(|version| !version.active) {
            self.loader.forget(&version.sha256);
        }
    }

    /// The change could not be stored: new calls get again what the store says.
    fn restore(&self, domain: &str, before: Option<VersionRow>) {
        match before {
            None => self.loader.deactivate(domain),
            Some(version) => {
                if let Err(error) = self.load(&version) {
                    tracing::error!(domain, %error, "the version before could not be restored");
                }
            }
        }
    }

    fn remove(&self, orphans: &[String]) {
        for sha256 in orphans {
            self.loader.forget(sha256);
            if let Err(error) = fs::remove_file(self.path(sha256)) {
                tracing::warn!(sha256, %error, "an unused component stays on disk");
            }
        }
    }

    /// The lock protects no data of its own, so a panic of its last holder leaves nothing broken in it.
    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Result<Place<'_>, VersionError> {
        let place = Place(&self.uploads);
        // The place is taken before it is known to exist, and given back by its drop either way.
        if self.uploads.fetch_add(1, Ordering::Relaxed) >= UPLOADS { Err(VersionError::Busy) } else { Ok(place) }
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const UPLOAD_PREFIX: &str = "upload-";

/// Puts a component under its final name. Whoever reads that name finds all of it or nothing.
fn keep(folder: &Path, component: &[u8], path: &Path) -> std::io::Result<()> {
    let half = folder.join(format!("{UPLOAD_PREFIX}{}.wasm", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(component)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

mod guests;

pub use guests::GuestLoader;

#[cfg(test)]
pub(crate) mod tests;
