//! `hookswitch guest …`: from an empty folder to the handler that new calls get, and back.

use super::client::{Client, Content};
use super::output::{cell, say, say_json, size, table, when};
use super::simulate::{self, SimulateArgs};
use super::{Common, Failure, Outcome};
use crate::build;
use crate::versions::COMPONENT_BYTES;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
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
        /// The folder of hookswitch-sdk; else HOOKSWITCH_SDK, else the one this binary came with
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
    /// A tenant's versions, newest first
    List,
    /// Give a version to new calls
    Activate { number: u32 },
    /// Give new calls the version that was active before
    Rollback,
    /// What a tenant's handlers wrote, and what went wrong with them
    Logs,
}

#[derive(Args, Debug)]
pub(super) struct PushArgs {
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    path: PathBuf,
    /// Kept with the version
    #[arg(long, default_value = "")]
    note: String,
    /// Upload only; `guest activate` gives it to calls later
    #[arg(long)]
    no_activate: bool,
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    match command {
        Command::New { dir, name, sdk } => {
            let created = build::new(&dir, name.as_deref(), sdk.as_deref())?;
            if common.json {
                return say_json(&json!({ "name": created.name, "dir": created.dir, "sdk": created.sdk }));
            }
            let dir = created.dir.display();
            say(&format!("{} is in {dir}\ntest it:   (cd {dir} && cargo test)\nupload it: hookswitch guest push {dir}", created.name))
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
        Command::Activate { number } => {
            let client = common.client()?;
            changed(common, &client, &format!("/guests/{number}/activate"))
        }
        Command::Rollback => changed(common, &common.client()?, "/guests/rollback"),
        Command::Logs => logs(common, &common.client()?),
    }
}

/// The component of a folder, built, or a file as it is.
pub(super) fn component(path: &Path) -> Result<(PathBuf, Vec<u8>), Failure> {
    let path = if path.is_dir() { build::build(path)? } else { path.to_owned() };
    let about = std::fs::metadata(&path).map_err(|error| at(&path, &error))?;
    if about.len() > COMPONENT_BYTES as u64 {
        return Err(Failure::Failed(format!("{}: larger than {COMPONENT_BYTES} bytes", path.display())));
    }
    let bytes = std::fs::read(&path).map_err(|error| at(&path, &error))?;
    Ok((path, bytes))
}

/// What a node would say, without one: the same eyes look at it.
fn check(common: &Common, path: &Path) -> Outcome {
    let (path, bytes) = component(path)?;
    let seen = hookswitch_wasm::inspect(&bytes, COMPONENT_BYTES).map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))?;
    if common.json {
        let seen = json!({ "sha256": seen.hash, "size": seen.bytes, "exports": seen.exports, "imports": seen.imports });
        return say_json(&json!({ "component": path, "ok": true, "found": seen }));
    }
    let mut text = format!("ok: {} ({}, sha256 {})", path.display(), size(bytes.len() as u64), seen.hash);
    for (what, names) in [("exports", seen.exports), ("imports", seen.imports)] {
        for name in names {
            text.push_str(&format!("\n{what}  {name}"));
        }
    }
    say(&text)
}

fn push(common: &Common, args: &PushArgs) -> Outcome {
    let (_, bytes) = component(&args.path)?;
    let client = common.client()?;
    let domain = client.domain()?;
    let query = format!("?activate={}&note={}", !args.no_activate, super::client::encode(&args.note));
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
        let active = if version["active"] == Value::Bool(true) { "active" } else { "-" };
        let bytes = size(version["size"].as_u64().unwrap_or(0));
        vec![cell(version, "number"), active.into(), when(version, "uploaded_at"), bytes, hash, cell(version, "note")]
    };
    let rows: Vec<Vec<String>> = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
    say(&table(&["VERSION", "STATE", "UPLOADED", "SIZE", "SHA256", "NOTE"], &rows))
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
