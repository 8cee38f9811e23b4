//! `hookswitch guest …`: from an empty folder to the handler that new calls get, and back.

use super::client::{Client, Content};
use super::output::{cell, printable, say, say_json, size, table, when};
use super::simulate::{self, SimulateArgs};
use super::{Common, Failure, Outcome, settings};
use crate::build;
use crate::versions::signature::SecretKey;
use clap::{Args, Subcommand};
use hookswitch_wasm::Class;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Make a folder with a small handler in it
    New {
        dir: PathBuf,
        /// The package's name; else the folder's
        #[arg(long)]
        name: Option<String>,
        /// What the handler is written in
        #[arg(long, value_enum, default_value_t)]
        lang: build::Language,
        /// For Rust: the folder of hookswitch-sdk; else HOOKSWITCH_SDK, else the one this binary came with
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Compile a handler to a component
    Build {
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where to put the component; else beside what cargo made
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say whether a node would take this component (or the one built from this folder)
    Check {
        #[arg(default_value = ".")]
        path: PathBuf,
    },
    /// Take a scripted call, without a node or a phone, in virtual time
    Simulate(Box<SimulateArgs>),
    /// Upload a component, or build a folder and upload that; new calls get it at once
    Push(PushArgs),
    /// A tenant's versions, newest first, with the calls they get and how they fare
    List,
    /// Give a version to new calls, all or some
    Activate {
        number: u32,
        #[command(flatten)]
        share: ShareArgs,
    },
    /// Give the version that is tried to all new calls
    Promote,
    /// Take the last change back: what was active before, or no longer what is tried
    Rollback,
    /// Make a key that components are signed with: FILE (secret) and FILE.pub
    Key {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Sign a component (or the one built from this folder), and print the signature
    Sign {
        #[arg(value_name = "DIR|FILE", default_value = ".")]
        path: PathBuf,
        #[arg(long, value_name = "KEYFILE")]
        key: PathBuf,
    },
    /// What a tenant's handlers wrote, and what went wrong with them
    Logs {
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// Settings that a tenant's handlers read
    #[command(subcommand)]
    Config(settings::Config),
    /// Secrets that a tenant's handlers may ask for
    #[command(subcommand)]
    Secret(settings::Secret),
}

#[derive(Args, Debug)]
pub(super) struct PushArgs {
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    path: PathBuf,
    /// Kept with the version
    #[arg(long, default_value = "")]
    note: String,
    /// Upload only; `guest activate` gives it to calls later
    #[arg(long, conflicts_with_all = ["percent", "numbers"])]
    no_activate: bool,
    #[command(flatten)]
    share: ShareArgs,
    /// Sign it with this key, as of `guest key` or `openssl genpkey -algorithm ed25519`
    #[arg(long, value_name = "KEYFILE", conflicts_with = "signature")]
    sign: Option<PathBuf>,
    /// Its signature, as of `guest sign`
    #[arg(long, value_name = "TEXT")]
    signature: Option<String>,
}

/// The calls that a version is tried with; all of them where nothing is said.
#[derive(Args, Debug, Default)]
pub(super) struct ShareArgs {
    /// Only so many of a hundred new calls; the others get the active version
    #[arg(long, value_name = "1..99", conflicts_with = "numbers", value_parser = clap::value_parser!(u8).range(1..=99))]
    percent: Option<u8>,
    /// Only new calls to these numbers, with commas between them
    #[arg(long = "number", value_name = "NUMBERS", value_delimiter = ',')]
    numbers: Vec<String>,
}

impl ShareArgs {
    /// As the API takes it, each with its `&` before it.
    fn query(&self) -> String {
        let percent = self.percent.map(|percent| format!("&percent={percent}"));
        percent.into_iter().chain(self.numbers.iter().map(|number| format!("&called={}", super::client::encode(number)))).collect()
    }
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    match command {
        Command::New { dir, name, lang, sdk } => {
            let created = build::new(&dir, name.as_deref(), lang, sdk.as_deref())?;
            if common.json {
                return say_json(&json!({ "name": created.name, "dir": created.dir, "sdk": created.sdk }));
            }
            let (dir, test) = (created.dir.display(), created.test);
            say(&format!("{} is in {dir}\ntest it:   (cd {dir} && {test})\nupload it: hookswitch guest push {dir}", created.name))
        }
        Command::Build { dir, output } => {
            let built = build::build(&dir)?;
            let component = match output {
                None => built,
                Some(output) => copy(&built, &output)?,
            };
            let bytes = std::fs::metadata(&component).map_err(|error| at(&component, &error))?.len();
            if common.json {
                return say_json(&json!({ "component": component, "size": bytes }));
            }
            say(&format!("{} ({})", component.display(), size(bytes)))
        }
        Command::Check { path } => check(common, &path),
        Command::Simulate(args) => simulate::simulate(common, *args),
        Command::Push(args) => push(common, &args),
        Command::List => list(common, &common.client()?),
        Command::Activate { number, share } => {
            let query = share.query().replacen('&', "?", 1);
            changed(common, &common.client()?, &format!("/guests/{number}/activate{query}"))
        }
        Command::Promote => changed(common, &common.client()?, "/guests/promote"),
        Command::Key { file } => new_key(common, &file),
        Command::Sign { path, key } => {
            let (path, bytes) = component(&path)?;
            let signature = sign(&key, &bytes)?;
            if common.json { say_json(&json!({ "component": path, "signature": signature })) } else { say(&signature) }
        }
        Command::Rollback => changed(common, &common.client()?, "/guests/rollback"),
        Command::Logs { follow: false } => logs(common, &common.client()?),
        Command::Logs { follow: true } => follow(common, &common.client()?),
        Command::Config(command) => settings::config(common, &common.client()?, command),
        Command::Secret(command) => settings::secret(common, &common.client()?, command),
    }
}

/// The component of a folder, built, or a file as it is.
pub(super) fn component(path: &Path) -> Result<(PathBuf, Vec<u8>), Failure> {
    let path = if path.is_dir() { build::build(path)? } else { path.to_owned() };
    let about = std::fs::metadata(&path).map_err(|error| at(&path, &error))?;
    let most = Class::Large.component_bytes();
    if about.len() > most as u64 {
        return Err(Failure::Failed(format!("{}: larger than {most} bytes", path.display())));
    }
    let bytes = std::fs::read(&path).map_err(|error| at(&path, &error))?;
    Ok((path, bytes))
}

/// What a node would say, without one: the same eyes look at it.
fn check(common: &Common, path: &Path) -> Outcome {
    let (path, bytes) = component(path)?;
    let seen = hookswitch_wasm::inspect(&bytes, Class::Large.component_bytes())
        .map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))?;
    if common.json {
        let seen = json!({ "sha256": seen.hash, "size": seen.bytes, "exports": seen.exports, "imports": seen.imports });
        return say_json(&json!({ "component": path, "ok": true, "found": seen }));
    }
    let mut text = format!("ok: {} ({}, sha256 {})", path.display(), size(bytes.len() as u64), seen.hash);
    if Class::of(bytes.len()) == Class::Large {
        text.push_str(
            "\na large component: the operator lets a tenant have such by `hookswitch tenant put DOMAIN --large-components true`",
        );
    }
    for (what, names) in [("exports", seen.exports), ("imports", seen.imports)] {
        for name in names {
            text.push_str(&format!("\n{what}  {name}"));
        }
    }
    say(&text)
}

fn sign(key: &Path, component: &[u8]) -> Result<String, Failure> {
    let text = std::fs::read_to_string(key).map_err(|error| at(key, &error))?;
    let key = SecretKey::read(&text).map_err(|why| Failure::Failed(format!("{}: {why}", key.display())))?;
    Ok(key.sign(&crate::versions::sha256_hex(component)))
}

/// The secret half is readable by its owner alone, and an earlier key is never written over.
fn new_key(common: &Common, file: &Path) -> Outcome {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let secret = SecretKey::generate().map_err(failed)?;
    let public = SecretKey::read(&secret).map_err(failed)?.public();
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    for (path, mode, text) in [(file, 0o600, &secret), (Path::new(&name), 0o644, &public.to_pem())] {
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        made.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| at(path, &error))?;
    }
    if common.json {
        return say_json(&json!({ "id": public.id(), "key": public.to_text(), "file": file, "public_file": Path::new(&name) }));
    }
    let name = Path::new(&name).display();
    say(&format!(
        "key {} is in {}; the node gets {name}: hookswitch tenant guest-policy DOMAIN --signing-key {name}",
        public.id(),
        file.display()
    ))
}

fn push(common: &Common, args: &PushArgs) -> Outcome {
    let (_, bytes) = component(&args.path)?;
    let signature = match (&args.sign, &args.signature) {
        (Some(key), _) => Some(sign(key, &bytes)?),
        (None, signature) => signature.clone(),
    };
    let client = common.client()?;
    let domain = client.domain()?;
    let mut query = format!("?activate={}&note={}{}", !args.no_activate, super::client::encode(&args.note), args.share.query());
    if let Some(signature) = signature {
        query.push_str(&format!("&signature={}", super::client::encode(&signature)));
    }
    let path = format!("/{}/guests{query}", super::client::encode(&domain));
    let answer = client.ask(Method::POST, &path, Content::Bytes("application/wasm", &bytes))?;
    if common.json {
        return say_json(&answer);
    }
    let version = &answer["version"];
    let number = cell(version, "number");
    let mut text = format!("{domain}: version {number}, {}, sha256 {}", size(bytes.len() as u64), cell(version, "sha256"));
    if answer["known"] == Value::Bool(true) {
        text.push_str("\nthese bytes were pushed before, so they keep their number");
    }
    text.push_str(&match (version["active"] == Value::Bool(true), answer["previous"].as_u64()) {
        (false, _) if calls(version) != "-" => format!(
            "\nit gets {} of new calls\nall of them: hookswitch guest promote --domain {domain}\nnone: hookswitch guest rollback --domain {domain}",
            calls(version)
        ),
        (false, _) => format!("\nnot active: hookswitch guest activate {number} --domain {domain}"),
        (true, Some(previous)) => format!(
            "\nactive: new calls get it, those under way finish on version {previous}\nto go back: hookswitch guest rollback --domain {domain}"
        ),
        (true, None) => "\nactive: new calls get it".into(),
    });
    say(&text)
}

fn changed(common: &Common, client: &Client, rest: &str) -> Outcome {
    let answer = client.ask(Method::POST, &client.of_tenant(rest)?, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let (number, domain) = (cell(&answer["version"], "number"), cell(&answer["version"], "domain"));
    if answer["version"]["active"] != Value::Bool(true) {
        let calls = calls(&answer["version"]);
        return say(&format!("{domain}: version {number} gets {calls} of new calls; the others get version {}", cell(&answer, "previous")));
    }
    match answer["previous"].as_u64() {
        Some(previous) => say(&format!("{domain}: version {number} is active; calls under way finish on version {previous}")),
        None => say(&format!("{domain}: version {number} is active")),
    }
}

fn list(common: &Common, client: &Client) -> Outcome {
    let answer = client.ask(Method::GET, &client.of_tenant("/guests")?, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |version: &Value| {
        let hash: String = cell(version, "sha256").chars().take(12).collect();
        let state = match (version["active"] == Value::Bool(true), calls(version) != "-") {
            (true, _) => "active",
            (false, true) => "tried",
            (false, false) => "-",
        };
        let bytes = size(version["size"].as_u64().unwrap_or(0));
        vec![
            cell(version, "number"),
            state.into(),
            calls(version),
            failed(&version["health"]),
            when(version, "uploaded_at"),
            bytes,
            hash,
            cell(version, "signed_by"),
            cell(version, "note"),
        ]
    };
    let rows: Vec<Vec<String>> = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
    say(&table(&["VERSION", "STATE", "CALLS", "FAILED", "UPLOADED", "SIZE", "SHA256", "SIGNED BY", "NOTE"], &rows))
}

/// The new calls that a version gets.
fn calls(version: &Value) -> String {
    match (version["numbers"].as_array(), version["percent"].as_u64()) {
        (Some(numbers), _) => format!("those to {}", numbers.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
        (None, Some(percent @ 1..)) => format!("{percent} %"),
        (None, _) => "-".into(),
    }
}

/// How a version fares: of its calls those that failed.
fn failed(health: &Value) -> String {
    let rests = health["rests_s"].as_u64().map_or_else(String::new, |seconds| format!(", rests {seconds} s"));
    match health {
        Value::Object(_) => format!("{} of {}{rests}", cell(health, "failed"), cell(health, "calls")),
        _ => "-".into(),
    }
}

/// Newest last, as one reads a log; the API lists newest first.
fn logs(common: &Common, client: &Client) -> Outcome {
    let answer = client.ask(Method::GET, &client.of_tenant("/guests/log")?, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |line: &Value| vec![cell(line, "at"), cell(line, "level"), cell(line, "session"), cell(line, "text")];
    let rows: Vec<Vec<String>> = answer["log"].as_array().map(Vec::as_slice).unwrap_or_default().iter().rev().map(row).collect();
    say(&table(&["TIME", "LEVEL", "SESSION", "TEXT"], &rows))
}

/// Each line as it comes, until the node stops or has told for an hour.
fn follow(common: &Common, client: &Client) -> Outcome {
    let path = client.of_tenant("/guests/log")?;
    let events = std::io::BufReader::new(client.follow(&path)?);
    for line in events.lines() {
        let line = line.map_err(|error| Failure::Failed(format!("the node is gone: {error}")))?;
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let Ok(line) = serde_json::from_str::<Value>(data) else { continue };
        if common.json {
            say(&line.to_string())?;
        } else if let Some(missed) = line["lines"].as_u64() {
            say(&format!("({missed} lines were missed: they came faster than they were read)"))?;
        } else {
            let row = ["at", "level", "session", "text"].map(|field| printable(&cell(&line, field)));
            say(&row.join("  "))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    }
    // Renamed, so that a node that starts meanwhile never reads half a component.
    let half = to.with_extension("part");
    std::fs::copy(from, &half).and_then(|_| std::fs::rename(&half, to)).map_err(|error| at(to, &error))?;
    Ok(to.to_owned())
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}
