//! The registry of guest versions: upload, activate, try, roll back. A version is a component that never changes again, under a number of its
//! tenant; new calls get the active one, or one that is tried with a share of them; calls under way stay on theirs.
//!
//! It does not know wasmtime: judging, compiling and running a component is behind [`Loader`]. Every call here blocks (compiling takes
//! seconds): keep it off async threads. Start with [`Versions::upload`].

use crate::files;
use crate::guest::{Judged, Judgement, LogLine, Trial, limits};
use crate::store::{GuestPolicyRow, NewVersion, Share, Store, StoreError, VersionRow};
use hookswitch_wasm::Class;
use sha2::{Digest, Sha256};
use signature::SigningKey;
use std::any::Any;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use turns::{Bounds, Turns};

/// Versions kept of one tenant. The oldest go; never the active one, nor the one that rolling back returns to.
pub const VERSIONS: usize = 100;
/// Versions of a tenant whose compiled code is kept; an older one is compiled again when it is activated.
pub const COMPILED: usize = 10;
/// Characters of a version's note.
pub const NOTE: usize = 500;
/// Called numbers that a version is tried with. Who wants more tries a share of all calls.
pub const TRIED_NUMBERS: usize = 100;
/// Public keys of a tenant: those of its build machines, old and new during a rotation.
pub const SIGNING_KEYS: usize = 16;
/// Calls that a new version is watched for, at most.
pub const TRIAL_CALLS: u32 = 100_000;

/// What the registry needs of the guest room. `inspect`, `ready`, `compile` and `sweep` may block.
pub trait Loader: Send + Sync + 'static {
    /// Says why this is no component that a call can be given to.
    fn inspect(&self, component: &[u8]) -> Result<(), String>;
    /// The version, ready for calls, if it has them or its code is in the cache. `trial`: by what it is judged as long as it is new.
    fn ready(&self, version: &VersionRow, trial: Option<Trial>) -> Option<Ready>;
    /// Compiles into the cache, in a process of its own.
    fn compile(&self, component: &[u8]) -> Result<(), CompileFailure>;
    /// Changes what new calls of this tenant get.
    fn deploy(&self, domain: &str, change: Change);
    /// The cache need not keep this component's code: it is rarely wanted, or gone.
    fn forget(&self, sha256: &str);
    /// At start: the cache need not keep what this node cannot use.
    fn sweep(&self);
    /// How a version that has calls fares.
    fn health(&self, domain: &str, number: u32) -> Option<VersionHealth>;
    /// A line about versions in the tenant's log.
    fn say(&self, domain: &str, text: &str);
    /// The node took a version back: the tenant's log says so, and as an alarm the handler that calls have now.
    fn taken_back(&self, domain: &str, why: &str);
    /// What the tenant's guests wrote last, oldest first.
    fn log(&self, domain: &str) -> Vec<LogLine>;
}

/// A version that its loader can give to calls at once. What it is only the loader knows.
#[derive(Clone)]
pub struct Ready(pub Arc<dyn Any + Send + Sync>);

/// A change of what new calls get.
pub enum Change {
    /// All of them get this one.
    Active(Ready),
    /// Some of them get this one.
    Try(Ready, Share),
    /// All of them get the active one again.
    EndTry,
    /// This one is active again; what is tried beside it goes on, if it is another one.
    Back(Ready),
    /// They get none.
    Nothing,
}

/// How a version fares since it was given to calls, or since the node started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionHealth {
    pub calls: u32,
    pub failed: u32,
    /// It failed too often: calls get the fallback for so long.
    pub rests: Option<Duration>,
}

/// What a tenant's versions must fulfil.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestPolicy {
    pub trial: Trial,
    /// Only what one of the keys has signed is taken in and given to calls.
    pub require_signature: bool,
    pub signing_keys: Vec<SigningKey>,
}

impl GuestPolicy {
    fn of(row: GuestPolicyRow) -> GuestPolicy {
        GuestPolicy {
            trial: Trial { calls: row.trial_calls, min_calls: row.trial_min_calls, failed_percent: row.trial_failed_percent },
            require_signature: row.require_signature,
            // Only what was read as a key is stored.
            signing_keys: row.signing_keys.iter().filter_map(|key| SigningKey::read(key).ok()).collect(),
        }
    }

    fn to_row(&self) -> GuestPolicyRow {
        GuestPolicyRow {
            require_signature: self.require_signature,
            signing_keys: self.signing_keys.iter().map(SigningKey::to_text).collect(),
            trial_calls: self.trial.calls,
            trial_min_calls: self.trial.min_calls,
            trial_failed_percent: self.trial.failed_percent,
        }
    }

    /// Whether this is enough of a signature.
    fn check(&self, sha256: &str, signature: Option<&str>) -> Result<(), String> {
        match signature {
            _ if !self.require_signature => Ok(()),
            None => Err(format!("this tenant requires one; {}", signature::known(&self.signing_keys))),
            Some(signature) => signature::verify(&self.signing_keys, sha256, signature).map(drop),
        }
    }
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
    /// It comes with a signature that will not do, or without one.
    #[error("signature: {0}")]
    Signature(String),
    #[error("version {number} has no signature that will do: {why}; push it again with one")]
    Unsigned { number: u32, why: String },
    #[error(
        "too many components wait to be compiled already: {} of a tenant, {} of all; try again shortly",
        limits::COMPILES_OF_TENANT,
        limits::COMPILES_WAITING
    )]
    Busy,
    #[error("unknown domain")]
    UnknownDomain,
    #[error("number: this tenant has no version {0}")]
    UnknownVersion(u32),
    #[error("there is no earlier version to roll back to")]
    NothingEarlier,
    #[error("there is no active version that the other calls would get; activate one for all of them first")]
    NothingActive,
    #[error("version {0} is the active one already")]
    AlreadyActive(u32),
    #[error("no version is tried")]
    NothingTried,
    #[error("the versions were changed meanwhile; try again")]
    Changed,
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
            // It was there a moment ago.
            StoreError::Unknown("version") => VersionError::Changed,
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
    /// What new calls get now, all or some of them.
    pub version: VersionRow,
    /// What they got before.
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
    compiling: Turns,
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
        let bounds = Bounds { at_work: limits::COMPILES, all: limits::COMPILES_WAITING, of_tenant: limits::COMPILES_OF_TENANT };
        Ok(Versions { store, loader, folder, compiling: Turns::new(bounds), changing: Mutex::new(()) })
    }

    /// At start, before calls are taken: new calls get what they got before. After an upgrade of the engine that means compiling. A version
    /// that does not load leaves its tenant on the fallback; the others are not held up by it.
    pub fn load_deployed(&self) -> Result<Vec<Loaded>, VersionError> {
        self.loader.sweep();
        let rows = self.store.deployed_versions()?;
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let take = || {
            let place = next.fetch_add(1, Ordering::Relaxed);
            rows.get(place).map(|row| (place, row))
        };
        std::thread::scope(|scope| {
            for _ in 0..limits::COMPILES.min(rows.len()) {
                scope.spawn(|| {
                    while let Some((place, row)) = take() {
                        let ready = self.make_ready(row);
                        made.lock().unwrap_or_else(PoisonError::into_inner).push((place, ready));
                    }
                });
            }
        });
        let _one = self.change();
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Active ones first: giving all calls to one ends what is tried beside it.
        made.sort_by_key(|(place, _)| (rows.get(*place).is_some_and(|row| !row.active), *place));
        let loaded = made.into_iter().filter_map(|(place, ready)| {
            let version = rows.get(place)?.clone();
            let failure = match ready {
                Ok(ready) => {
                    let change = match &version.canary {
                        Some(share) if !version.active => Change::Try(ready, share.clone()),
                        _ => Change::Active(ready),
                    };
                    self.loader.deploy(&version.domain, change);
                    None
                }
                Err(error) => Some(error.to_string()),
            };
            Some(Loaded { version, failure })
        });
        Ok(loaded.collect())
    }

    /// Takes a component in: judged, hashed, compiled, stored, numbered. No calls get it yet.
    pub fn upload(&self, domain: &str, component: &[u8], note: &str, signature: Option<&str>, who: &str) -> Result<Uploaded, VersionError> {
        let class = self.class(domain)?;
        if component.len() > class.component_bytes() {
            return Err(VersionError::TooLarge(class));
        }
        if note.chars().count() > NOTE || note.chars().any(char::is_control) {
            return Err(VersionError::Note);
        }

        let sha256 = sha256_hex(component);
        let known = self.store.versions(domain)?.into_iter().find(|version| version.sha256 == sha256);
        let policy = self.policy(domain)?;
        let signature = match signature {
            // Also where none is required: one that nobody can check is no signature.
            Some(given) => Some(signature::verify(&policy.signing_keys, &sha256, given).map_err(VersionError::Signature)?),
            None => {
                let had = known.as_ref().and_then(|version| version.signature.as_deref());
                policy.check(&sha256, had).map_err(VersionError::Signature)?;
                None
            }
        };
        let version = NewVersion { domain, sha256: &sha256, size: component.len() as u64, note, signature: signature.as_deref() };
        if let Some(known) = known {
            let version = if signature.is_some() { self.store.add_version(version, VERSIONS, who)?.version } else { known };
            return Ok(Uploaded { version, known: true });
        }
        {
            let _turn = self.compiling.take(domain).ok_or(VersionError::Busy)?;
            self.loader.inspect(component).map_err(VersionError::Refused)?;
            self.loader.compile(component).map_err(|failure| match failure {
                CompileFailure::Component(why) => VersionError::Refused(why),
                CompileFailure::Node(why) => VersionError::Io(why),
            })?;
        }

        let _one = self.change();
        keep(&self.folder, component, &self.path(&sha256)).map_err(|error| VersionError::Io(error.to_string()))?;
        match self.store.add_version(version, VERSIONS, who) {
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

    /// New calls get this version from now on: all of them, or a share of them while the others get the active one. Those under way finish on
    /// theirs.
    pub fn activate(&self, domain: &str, number: u32, share: Option<Share>, who: &str) -> Result<Activated, VersionError> {
        if self.store.tenant(domain)?.is_none() {
            return Err(VersionError::UnknownDomain);
        }
        let version = self.store.version(domain, number)?.ok_or(VersionError::UnknownVersion(number))?;
        self.check_signature(&version)?;
        let ready = self.make_ready(&version)?;

        let _one = self.change();
        let active = self.active(domain)?.map(|version| version.number);
        let previous = match share {
            None => {
                let previous = self.store.activate_version(domain, number, who)?;
                self.loader.deploy(domain, Change::Active(ready));
                previous
            }
            Some(share) => {
                match active {
                    None => return Err(VersionError::NothingActive),
                    Some(active) if active == number => return Err(VersionError::AlreadyActive(number)),
                    Some(_) => {}
                }
                self.store.try_version(domain, number, &share, who)?;
                self.loader.deploy(domain, Change::Try(ready, share));
                active
            }
        };
        // One that was activated before it may be old now.
        self.forget_old(domain);
        let version = self.store.version(domain, number)?.ok_or(VersionError::Changed)?;
        Ok(Activated { version, previous: previous.filter(|previous| *previous != number) })
    }

    /// The version that is tried gets all calls.
    pub fn promote(&self, domain: &str, who: &str) -> Result<Activated, VersionError> {
        if self.store.tenant(domain)?.is_none() {
            return Err(VersionError::UnknownDomain);
        }
        let tried = self.store.versions(domain)?.into_iter().find(|version| version.canary.is_some());
        self.activate(domain, tried.ok_or(VersionError::NothingTried)?.number, None, who)
    }

    /// Takes the last change back: ends what is tried, or else the last activation.
    pub fn roll_back(&self, domain: &str, who: &str) -> Result<Activated, VersionError> {
        if self.store.tenant(domain)?.is_none() {
            return Err(VersionError::UnknownDomain);
        }
        let versions = self.store.versions(domain)?;
        let last = versions.iter().find(|version| version.canary.is_some()).or_else(|| versions.iter().find(|version| version.active));
        let from = last.ok_or(VersionError::NothingEarlier)?.number;
        let target = self.target(domain, from)?.ok_or(VersionError::NothingEarlier)?;
        self.check_signature(&target)?;
        self.back(&target, from, who, "")
    }

    /// A trial is over. What is told of a version that has no calls any more changes nothing.
    pub fn judged(&self, Judged { domain, number, judgement }: &Judged) -> Result<(), VersionError> {
        let Judgement::Failed { failed, calls } = judgement else {
            return Ok(self.store.prove_version(domain, *number)?);
        };
        let why = format!("version {number} failed {failed} of its first {calls} calls");
        let target = match self.target(domain, *number) {
            Err(VersionError::Changed) => return Ok(()),
            target => target?,
        };
        let Some(target) = target else {
            self.loader.say(domain, &format!("{why}; there is no earlier version to go back to"));
            return Ok(());
        };
        // Without a look at its signature: it had calls before, and a handler that fails helps nobody.
        match self.back(&target, *number, NODE, &why) {
            Ok(back) => {
                self.loader.taken_back(domain, &format!("{why}: new calls get version {} again", back.version.number));
                Ok(())
            }
            Err(VersionError::Changed) => Ok(()),
            Err(error) => {
                self.loader.say(domain, &format!("{why}; it could not be taken back: {error}"));
                Err(error)
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

    /// How many calls in a hundred a version gets that is tried beside the active one. Numbers are not counted.
    pub fn tried_percent(&self, domain: &str) -> u8 {
        let tried = self.store.versions(domain).ok().and_then(|versions| versions.into_iter().find_map(|version| version.canary));
        match tried {
            Some(Share::Percent(percent)) => percent,
            Some(Share::Numbers(_)) | None => 0,
        }
    }

    /// How a version that has calls fares.
    pub fn health(&self, version: &VersionRow) -> Option<VersionHealth> {
        self.loader.health(&version.domain, version.number)
    }

    /// What this tenant's versions must fulfil.
    pub fn policy(&self, domain: &str) -> Result<GuestPolicy, VersionError> {
        Ok(self.store.guest_policy(domain)?.map_or_else(GuestPolicy::default, GuestPolicy::of))
    }

    /// For what is uploaded, and given to calls, from now on.
    pub fn set_policy(&self, domain: &str, policy: &GuestPolicy, who: &str) -> Result<(), VersionError> {
        Ok(self.store.put_guest_policy(domain, &policy.to_row(), who)?)
    }

    /// What the tenant's guests wrote last, oldest first.
    pub fn log(&self, domain: &str) -> Vec<LogLine> {
        self.loader.log(domain)
    }

    /// Removes the tenant with its versions.
    pub fn remove_tenant(&self, domain: &str, who: &str) -> Result<(), VersionError> {
        let _one = self.change();
        let orphans = self.store.delete_tenant(domain, who)?;
        self.loader.deploy(domain, Change::Nothing);
        self.remove(&orphans);
        Ok(())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.wasm"))
    }

    fn active(&self, domain: &str) -> Result<Option<VersionRow>, VersionError> {
        Ok(self.store.versions(domain)?.into_iter().find(|version| version.active))
    }

    /// What the calls of this version get once it is taken back. `None`: nothing else. Of one that has no calls any more: `Changed`.
    fn target(&self, domain: &str, from: u32) -> Result<Option<VersionRow>, VersionError> {
        let versions = self.store.versions(domain)?;
        match versions.iter().find(|version| version.number == from) {
            Some(version) if version.active => Ok(self.store.rollback_target(domain)?),
            Some(version) if version.canary.is_some() => Ok(versions.into_iter().find(|version| version.active)),
            _ => Err(VersionError::Changed),
        }
    }

    /// Gives the calls of version `from` to `target`, if that is still where they are to go.
    fn back(&self, target: &VersionRow, from: u32, who: &str, why: &str) -> Result<Activated, VersionError> {
        let domain = &target.domain;
        let ready = self.make_ready(target)?;
        let _one = self.change();
        if self.target(domain, from)?.is_none_or(|now| now.number != target.number) {
            return Err(VersionError::Changed);
        }
        let back = self.store.roll_back_version(domain, from, who, why)?;
        self.loader.deploy(domain, if back.canary { Change::EndTry } else { Change::Back(ready) });
        Ok(Activated { version: back.version, previous: Some(from) })
    }

    fn check_signature(&self, version: &VersionRow) -> Result<(), VersionError> {
        let policy = self.policy(&version.domain)?;
        let checked = policy.check(&version.sha256, version.signature.as_deref());
        checked.map_err(|why| VersionError::Unsigned { number: version.number, why })
    }

    /// Compiled again if the cache has lost it. No lock is held meanwhile.
    fn make_ready(&self, version: &VersionRow) -> Result<Ready, VersionError> {
        let trial = if version.proven { None } else { Some(self.policy(&version.domain)?.trial) };
        if let Some(ready) = self.loader.ready(version, trial) {
            return Ok(ready);
        }
        let fails = |why: String| VersionError::Load { number: version.number, why };
        let _turn = self.compiling.take(&version.domain).ok_or(VersionError::Busy)?;
        let path = self.path(&version.sha256);
        let component =
            files::read(&path, Class::Large.component_bytes() as u64).map_err(|error| fails(format!("{}: {error}", path.display())))?;
        // It is about to run as code: a file that is not what was uploaded does not.
        if sha256_hex(&component) != version.sha256 {
            return Err(fails(format!("{}: its content is not what was uploaded", path.display())));
        }
        self.loader.compile(&component).map_err(|(CompileFailure::Component(why) | CompileFailure::Node(why))| fails(why))?;
        self.loader.ready(version, trial).ok_or_else(|| fails("its code is gone from the cache at once".into()))
    }

    /// Compiled code is some hundred times larger than a component; of old versions only the components stay. What has calls, and what
    /// rolling back returns to, is kept: that must not wait for a compiler.
    fn forget_old(&self, domain: &str) {
        let (Ok(versions), Ok(target)) = (self.store.versions(domain), self.store.rollback_target(domain)) else { return };
        let target = target.map(|version| version.number);
        let idle = |version: &&VersionRow| !version.active && version.canary.is_none() && Some(version.number) != target;
        for version in versions.iter().skip(COMPILED).filter(idle) {
            self.loader.forget(&version.sha256);
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
}

/// Who takes versions back, in the audit.
const NODE: &str = "node";

/// Acts on trials that are over, until whoever tells them is gone. It does not keep the registry alive.
pub fn follow_trials(versions: &Arc<Versions>, trials: Receiver<Judged>) -> std::io::Result<()> {
    let versions: Weak<Versions> = Arc::downgrade(versions);
    let follow = move || {
        for judged in trials {
            let Some(versions) = versions.upgrade() else { return };
            if let Err(error) = versions.judged(&judged) {
                tracing::error!(domain = %judged.domain, number = judged.number, %error, "a version's trial is over and could not be acted on");
            }
        }
    };
    std::thread::Builder::new().name("versions".into()).spawn(follow).map(drop)
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const UPLOAD_PREFIX: &str = "upload-";

/// Puts a component under its final name. Whoever reads that name finds all of it or nothing.
fn keep(folder: &Path, component: &[u8], path: &Path) -> std::io::Result<()> {
    let half = folder.join(format!("{UPLOAD_PREFIX}{}.wasm", uuid::Uuid::new_v4()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        files::write(&mut file, component)?;
        fs::rename(&half, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })
}

mod guests;
pub mod signature;
mod turns;

pub use guests::GuestLoader;

#[cfg(test)]
pub(crate) mod tests;
