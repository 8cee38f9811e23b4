//! `run --demo`: the tenant that a first call meets, with its prompts and its handler. It prepares what is missing and changes nothing
//! that is there: whoever pushed an own handler to the demo tenant keeps it.
//!
//! Start with [`prepare`].

use crate::api::AdminToken;
use crate::config::{Config, Scheme};
use crate::store::{FallbackRow, NumberRow, Store, StoreError, TenantRow};
use crate::versions::{VersionError, Versions};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub const DOMAIN: &str = "demo.localhost";
/// What the handler knows; called by any trunk.
const NUMBERS: [&str; 5] = ["ivr", "voicemail", "echo", "bridge", "reject"];
const COMPONENT: &str = "menu.component.wasm";
/// Played by the node when the handler fails for good.
const ERROR_PROMPT: &str = "error.wav";

macro_rules! prompts {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("../../guest-examples/menu/prompts/", $name)).as_slice())),*]
    };
}

const PROMPTS: [(&str, &[u8]); 9] = prompts![
    "echo.wav",
    "error.wav",
    "goodbye.wav",
    "greeting.wav",
    "invalid.wav",
    "leave-message.wav",
    "no-destination.wav",
    "thanks.wav",
    "welcome-menu.wav",
];

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demo handler is not built: `make guests` builds it, or give --demo-guest FILE (looked for {0})")]
    NoGuest(String),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("the demo handler: {0}")]
    Version(#[from] VersionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the demo tenant and its prompts, and activates its handler. `prompts`: the folder with one folder of prompts per tenant.
pub fn prepare(store: &Store, versions: &Versions, prompts: &Path, guest: Option<&Path>) -> Result<(), DemoError> {
    let tenant = store.tenant(DOMAIN)?;
    let whole = tenant.unwrap_or_else(|| TenantRow {
        domain: DOMAIN.into(),
        numbers: NUMBERS.iter().map(|number| NumberRow { trunk: None, number: (*number).into() }).collect(),
        fallback: FallbackRow::Refuse { status: 503 },
        trunks: Vec::new(),
        quotas: crate::store::Quotas::default(),
        max_sessions: u32::try_from(hookswitch_call::limits::SESSIONS).unwrap_or(u32::MAX),
        error_prompt: Some(ERROR_PROMPT.into()),
        // The machine itself, and nobody else.
        destinations: hookswitch_call::Destination::loopback().iter().map(ToString::to_string).collect(),
        media_addresses: hookswitch_call::Network::loopback().iter().map(ToString::to_string).collect(),
        ..TenantRow::default()
    });
    if !whole.default {
        store.put_tenant(TenantRow { default: true, ..whole }, "--demo")?;
    }
    install(&prompts.join(DOMAIN))?;
    if versions.list(DOMAIN)?.is_empty() {
        let path = find(guest)?;
        let component = fs::read(&path).map_err(|error| DemoError::Io { path, error })?;
        let uploaded = versions.upload(DOMAIN, &component, "the demo handler", None, "--demo")?;
        versions.activate(DOMAIN, uploaded.version.number, None, "--demo")?;
    }
    Ok(())
}

/// Prompts that are not there; a changed one stays as it was changed.
fn install(folder: &Path) -> Result<(), DemoError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| DemoError::Io { path, error }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
    for (name, bytes) in PROMPTS {
        let path = folder.join(name);
        if path.exists() {
            continue;
        }
        let half = folder.join(format!(".{name}.part"));
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
            io::Write::write_all(&mut file, bytes)?;
            fs::rename(&half, &path)
        };
        write().map_err(failed(&path))?;
    }
    Ok(())
}

/// The named component, else the one that `make guests` put near this binary or below this folder.
fn find(named: Option<&Path>) -> Result<PathBuf, DemoError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let mut places = Vec::new();
    // The binary lies in TARGET/debug or TARGET/release; TARGET/guests holds the examples.
    if let Some(folder) = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())) {
        places.push(folder.join("guests").join(COMPONENT));
        if let Some(target) = folder.parent() {
            places.push(target.join("guests").join(COMPONENT));
        }
    }
    places.push(Path::new("target/guests").join(COMPONENT));
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(DemoError::NoGuest(places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))),
    }
}

/// How to call it, where things are. The token itself is not shown: terminals are recorded and shared.
/// `file`: the configuration's, which other commands need to find this node.
pub fn greeting(config: &Config, file: Option<&Path>, token: &AdminToken) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "hookswitch".into());
    let hookswitch = match file {
        None => program.clone(),
        Some(file) => format!("{program} --config {}", file.display()),
    };
    let sip = config.sip.listen.iter().find(|listen| listen.scheme == Scheme::Udp).map_or_else(String::new, |listen| {
        if listen.address.port() == 5060 { format!("sip:ivr@{}", listen.address.ip()) } else { format!("sip:ivr@{}", listen.address) }
    });
    let token = match &token.file {
        Some(path) => format!("operator's token in {}", path.display()),
        None => "operator's token as given in HOOKSWITCH_ADMIN_TOKEN".into(),
    };
    let other = sip.replace("sip:ivr@", "sip:voicemail@");
    format!(
        "\n\
         The demo tenant {DOMAIN} takes calls.\n\
         \n\
         \x20 call it      {sip}  with any softphone: 1 leaves a message, 2 echoes, 3 bridges\n\
         \x20              (also: voicemail, echo, bridge, reject in place of ivr; bridge and 3 call\n\
         \x20               the address in header X-Dest, on this machine)\n\
         \x20 or           {program} call {other} --dtmf '#@5s' --for 8\n\
         \x20 recordings   {hookswitch} recording list      in {}\n\
         \x20 change it    edit guest-examples/menu, then {hookswitch} guest push guest-examples/menu\n\
         \x20 API          {}://{}  {token}\n",
        config.storage.blobs.display(),
        if config.api.tls.is_some() { "https" } else { "http" },
        config.api.listen,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::tests::FakeLoader;
    use std::sync::Arc;

    #[test]
    fn every_prompt_of_the_example_is_installed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples/menu/prompts");
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("there")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".wav"))
            .collect();
        names.sort();
        assert_eq!(names, PROMPTS.map(|(name, _)| name.to_owned()));
        assert!(PROMPTS.iter().any(|(name, _)| *name == ERROR_PROMPT));
    }

    #[test]
    fn the_demo_is_made_once_and_what_was_changed_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        let loader = Arc::new(FakeLoader::default());
        let versions = Versions::open(store.clone(), loader.clone(), folder.path()).expect("opens");
        let prompts = folder.path().join("prompts");
        let guest = folder.path().join("menu.wasm");
        fs::write(&guest, b"guest menu").expect("written");
        prepare(&store, &versions, &prompts, Some(&guest)).expect("prepared");
        assert_eq!(loader.active(), [(DOMAIN.to_owned(), 1)]);
        let tenant = store.tenant(DOMAIN).expect("read").expect("there");
        assert!(tenant.default);
        assert_eq!(tenant.destinations, ["127.0.0.0/8", "::1"]);
        assert_eq!(tenant.numbers.iter().map(|n| n.number.as_str()).collect::<Vec<_>>(), NUMBERS);

        // The operator's own changes, and a next start.
        store.put_tenant(TenantRow { max_sessions: 3, default: false, ..tenant }, "test").expect("put");
        versions.upload(DOMAIN, b"guest of mine", "", None, "test").expect("uploaded");
        versions.activate(DOMAIN, 2, None, "test").expect("activated");
        let mine = prompts.join(DOMAIN).join("greeting.wav");
        fs::write(&mine, b"mine").expect("written");
        fs::remove_file(prompts.join(DOMAIN).join("thanks.wav")).expect("removed");
        prepare(&store, &versions, &prompts, Some(Path::new("/nowhere"))).expect("prepared");
        assert_eq!(loader.active(), [(DOMAIN.to_owned(), 2)]);
        assert_eq!(fs::read(&mine).expect("there"), b"mine");
        assert_eq!(fs::read_dir(prompts.join(DOMAIN)).expect("there").count(), PROMPTS.len());
        let tenant = store.tenant(DOMAIN).expect("read").expect("there");
        assert!(tenant.default && tenant.max_sessions == 3);
    }

    #[test]
    fn a_missing_handler_is_said_with_the_remedy() {
        let error = DemoError::NoGuest("target/guests/menu.component.wasm".into()).to_string();
        assert!(error.contains("make guests") && error.contains("--demo-guest"), "{error}");
        assert_eq!(find(Some(Path::new("/given"))).expect("given"), Path::new("/given"));
    }

    #[test]
    fn the_greeting_says_how_to_call_and_not_the_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = AdminToken::load(folder.path(), None).expect("made");
        let secret = fs::read_to_string(token.file.as_ref().expect("in a file")).expect("readable");
        let text = greeting(&Config::default(), None, &token);
        assert!(greeting(&Config::default(), Some(Path::new("my.toml")), &token).contains("--config my.toml recording list"));
        for part in ["sip:ivr@127.0.0.1 ", "recording list", "http://127.0.0.1:8080", "admin-token", "guest push"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains(secret.trim()));
    }
}
