//! `hookswitch recording …`: what was recorded, the audio, and whether it is whole. A file that has its sidecar beside it is judged without
//! a node.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome, keeping};
use crate::record::keys::{FOLDER, PUBLIC, fingerprint};
use crate::record::sidecar::{LARGEST, unhex};
use crate::record::sidecar_path;
use crate::record::verify::{Verified, verify_file, verify_signed};
use crate::record::wav::{HEADER, Header};
use crate::store::{RecordingRow, RecordingState};
use clap::Subcommand;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use ureq::http::Method;

/// One page of the API at a time.
const PAGE: usize = 1000;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// A tenant's recordings, newest first
    List {
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Fetch the audio
    Get {
        /// The recording, or `latest`
        id: String,
        /// Where to put it; `-` is stdout
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Put its signed sidecar beside it, as FILE.json
        #[arg(long)]
        sidecar: bool,
    },
    /// Say whether recordings are whole: hash, length, frames missing
    Verify {
        /// Recordings, `latest`, or files that were fetched
        #[arg(required_unless_present = "all", value_name = "ID|FILE")]
        what: Vec<String>,
        /// All of the tenant's recordings
        #[arg(long, conflicts_with = "what")]
        all: bool,
        /// Public key of the node that recorded, in hex, or a file with it; otherwise that of the node here
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
    },
    #[command(flatten)]
    Keep(keeping::OfRecording),
    /// The node's public key, which recordings are signed with
    Key,
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    match command {
        Command::Key => return key(common),
        Command::Verify { what, all: false, key } if what.iter().all(|what| has_sidecar(what)) => {
            let public = public(common, key.as_deref())?;
            let verified = what.iter().map(|what| check_file(what, public.as_deref())).collect::<Result<_, _>>()?;
            return tell(common, verified);
        }
        _ => {}
    }
    let client = common.client()?;
    let domain = encode(&client.domain()?);
    match command {
        Command::List { limit } => list(common, &rows(&client, &domain, limit)?),
        Command::Get { id, output, sidecar } => get(common, &client, &domain, &id, output, sidecar),
        Command::Verify { what, all, key } => {
            let what = if all {
                rows(&client, &domain, usize::MAX)?.iter().filter(|row| row["state"] != "recording").map(|row| cell(row, "id")).collect()
            } else {
                what
            };
            let public = public(common, key.as_deref())?;
            check(common, &client, &domain, &what, public.as_deref())
        }
        Command::Keep(command) => keeping::of_recording(common, &client, &domain, command),
        Command::Key => Ok(()),
    }
}

/// Where a node with this configuration keeps its public key.
fn public_file(common: &Common) -> Result<PathBuf, Failure> {
    Ok(common.load()?.storage.data.join(FOLDER).join(PUBLIC))
}

fn key(common: &Common) -> Outcome {
    let path = public_file(common)?;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::Failed(format!("{}: {error} (the node makes it at its first start)", path.display())))?;
    let public = unhex(text.trim()).ok_or_else(|| Failure::Failed(format!("{}: no key in hex", path.display())))?;
    if common.json {
        return say_json(&json!({ "key": { "algorithm": "ed25519", "fingerprint": fingerprint(&public), "public": text.trim() } }));
    }
    say(&format!("{}  ed25519, fingerprint {}", text.trim(), fingerprint(&public)))
}

/// The key that was named, else that of the node here, else none.
fn public(common: &Common, named: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(named) = named else {
        let here = public_file(common)?;
        return Ok(std::fs::read_to_string(here).ok().and_then(|text| unhex(text.trim())));
    };
    let text = if Path::new(named).is_file() {
        std::fs::read_to_string(named).map_err(|error| Failure::Failed(format!("{named}: {error}")))?
    } else {
        named.to_owned()
    };
    let key = unhex(text.trim()).filter(|key| key.len() == 32);
    key.map(Some).ok_or_else(|| Failure::Usage(format!("--key {named}: neither 64 hex digits nor a file with them")))
}

fn has_sidecar(what: &str) -> bool {
    Path::new(what).is_file() && sidecar_path(Path::new(what)).is_file()
}

fn check_file(what: &str, public: Option<&[u8]>) -> Result<(String, Verified), Failure> {
    let broken = |error: io::Error| Failure::Failed(format!("{what}: {error}"));
    let mut text = Vec::new();
    File::open(sidecar_path(Path::new(what))).map_err(broken)?.take(LARGEST as u64 + 1).read_to_end(&mut text).map_err(broken)?;
    let verified = verify_file(File::open(what).map_err(broken)?, &String::from_utf8_lossy(&text), public).map_err(broken)?;
    Ok((what.to_owned(), verified))
}

fn list(common: &Common, rows: &[Value]) -> Outcome {
    if common.json {
        return say_json(&json!({ "recordings": rows }));
    }
    let row = |row: &Value| {
        let recording = from_json(row);
        let known = recording.frames_received + recording.frames_concealed + recording.frames_silence;
        vec![
            recording.id,
            when(row, "created_at"),
            format!("{:.2} s", recording.duration_ms as f64 / 1000.0),
            recording.state.name().into(),
            recording.stop_reason,
            recording.frames_expected.saturating_sub(known).to_string(),
            recording.frames_concealed.to_string(),
            recording.caller,
            recording.called,
            recording.file_name,
        ]
    };
    let heads = ["ID", "CREATED", "LENGTH", "STATE", "ENDED BY", "MISSING", "CONCEALED", "CALLER", "CALLED", "FILE"];
    say(&table(&heads, &rows.iter().map(row).collect::<Vec<_>>()))
}

fn rows(client: &Client, domain: &str, limit: usize) -> Result<Vec<Value>, Failure> {
    let mut rows: Vec<Value> = Vec::new();
    let mut before = String::new();
    while rows.len() < limit {
        let page = PAGE.min(limit - rows.len());
        let mut answer = client.ask(Method::GET, &format!("/{domain}/recordings?limit={page}{before}"), Content::None)?;
        if let Value::Array(page) = answer["recordings"].take() {
            rows.extend(page);
        }
        match answer["next"].as_str() {
            Some(next) => before = format!("&before={}", encode(next)),
            None => break,
        }
    }
    Ok(rows)
}

/// The row of a recording, by its id or as `latest`.
fn row(client: &Client, domain: &str, id: &str) -> Result<RecordingRow, Failure> {
    if id == "latest" {
        let newest = rows(client, domain, 1)?;
        return newest.first().map(from_json).ok_or_else(|| Failure::Failed("there is no recording yet".into()));
    }
    let answer = client.ask(Method::GET, &format!("/{domain}/recordings/{}", encode(id)), Content::None)?;
    Ok(from_json(&answer["recording"]))
}

fn audio(client: &Client, domain: &str, id: &str) -> Result<impl Read + use<>, Failure> {
    client.download(&format!("/{domain}/recordings/{}/audio", encode(id)))
}

fn get(common: &Common, client: &Client, domain: &str, id: &str, output: Option<PathBuf>, sidecar: bool) -> Outcome {
    let row = row(client, domain, id)?;
    let mut audio = audio(client, domain, &row.id)?;
    let path = output.unwrap_or_else(|| {
        let container = if row.container.is_empty() { "wav" } else { &row.container };
        PathBuf::from(format!("{}.{container}", row.id))
    });
    if path == Path::new("-") {
        io::copy(&mut audio, &mut io::stdout().lock())?;
        return Ok(());
    }
    let mut write = || {
        let half = path.with_extension("part");
        let size = io::copy(&mut audio, &mut File::create(&half)?)?;
        std::fs::rename(&half, &path)?;
        if sidecar {
            std::fs::write(sidecar_path(&path), &row.sidecar)?;
        }
        Ok(size)
    };
    let size = write().map_err(|error: io::Error| Failure::Failed(format!("{}: {error}", path.display())))?;
    if common.json {
        return say_json(&json!({ "id": row.id, "output": path, "size": size }));
    }
    say(&format!("{} ({}, {:.2} s)", path.display(), super::output::size(size), row.duration_ms as f64 / 1000.0))
}

fn check(common: &Common, client: &Client, domain: &str, what: &[String], public: Option<&[u8]>) -> Outcome {
    let mut verified = Vec::new();
    for what in what {
        verified.push(check_one(client, domain, what, public)?);
    }
    tell(common, verified)
}

fn tell(common: &Common, verified: Vec<(String, Verified)>) -> Outcome {
    let bad = verified.iter().filter(|(_, verified)| !verified.ok).count();
    if common.json {
        let to_json =
            |(id, v): &(String, Verified)| json!({ "id": id, "ok": v.ok, "missing": v.missing, "concealed": v.concealed, "says": v.line });
        say_json(&json!({ "verified": verified.iter().map(to_json).collect::<Vec<_>>() }))?;
    } else {
        for (_, verified) in &verified {
            say(&verified.line)?;
        }
    }
    if bad == 0 { Ok(()) } else { Err(Failure::Failed(format!("{bad} of {} recordings are not whole", verified.len()))) }
}

fn check_one(client: &Client, domain: &str, what: &str, public: Option<&[u8]>) -> Result<(String, Verified), Failure> {
    let path = Path::new(what);
    if has_sidecar(what) {
        return check_file(what, public);
    }
    if !path.is_file() {
        let row = row(client, domain, what)?;
        let verified = match row.state {
            // There is no audio to fetch; the row alone says enough.
            RecordingState::Recording | RecordingState::Failed => verify_signed(io::empty(), &row, public)?,
            RecordingState::Available => verify_signed(audio(client, domain, &row.id)?, &row, public)?,
        };
        return Ok((row.id, verified));
    }
    // A file says itself which recording it is; the node says what that should be.
    let broken = |error: io::Error| Failure::Failed(format!("{what}: {error}"));
    let mut head = Vec::new();
    File::open(path).map_err(broken)?.take(HEADER as u64).read_to_end(&mut head).map_err(broken)?;
    let (header, _) = Header::decode_any(&head).map_err(|error| Failure::Failed(format!("{what}: {error}")))?;
    let row = row(client, domain, &header.recording_id)?;
    let verified = verify_signed(File::open(path).map_err(broken)?, &row, public).map_err(broken)?;
    Ok((row.id, verified))
}

/// A row as the API tells it; `path` is the node's own business and stays empty.
fn from_json(value: &Value) -> RecordingRow {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let number = |field: &str| value[field].as_u64().unwrap_or_default();
    RecordingRow {
        id: text("id"),
        domain: text("domain"),
        session: text("session"),
        connection: value["connection"].as_str().map(str::to_owned),
        caller: text("caller"),
        called: text("called"),
        file_name: text("file_name"),
        path: String::new(),
        created_at: number("created_at_ms"),
        duration_ms: number("duration_ms"),
        frames_expected: number("frames_expected"),
        frames_received: number("frames_received"),
        frames_concealed: number("frames_concealed"),
        frames_silence: number("frames_silence"),
        sha256: text("sha256"),
        size: number("size"),
        stop_reason: text("stop_reason"),
        state: serde_json::from_value(value["state"].clone()).unwrap_or_default(),
        container: text("container"),
        encoding: text("encoding"),
        sidecar: text("sidecar"),
        ..RecordingRow::default()
    }
}
