//! `hookswitch recording link|hold|release|access|remove`, `hookswitch privacy erase`, `hookswitch tenant storage` and `tenant recording-key`:
//! what becomes of recordings after they are made.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum OfRecording {
    /// Make a link to a recording's audio: a token that opens it for a while, and nothing else
    Link {
        id: String,
        /// How long, e.g. 90s, 15m, 24h
        #[arg(long = "for", default_value = "15m", value_name = "TIME", value_parser = seconds)]
        life: u64,
    },
    /// Put a recording on legal hold
    Hold {
        id: String,
        /// Kept with it, and in the audit
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// End a legal hold
    Release { id: String },
    /// Who heard a recording or made a link to it
    Access {
        id: String,
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Remove a recording, here and in the tenant's storage
    Remove { id: String },
}

#[derive(Subcommand, Debug)]
pub(super) enum Privacy {
    /// Forget one party: recordings, what was delivered of them, call records
    Erase {
        /// A number or name as call records have it, or its SIP address
        party: String,
        /// Say what would be erased, and erase nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Storage {
    /// Set where a tenant's recordings go, and try it
    Set(SetArgs),
    /// Say where they go; credentials are not shown
    Show { domain: String },
    /// Forget the storage and its credentials; what lies there stays there
    Remove { domain: String },
}

#[derive(Subcommand, Debug)]
pub(super) enum RecordingKey {
    /// Encrypt the tenant's new recordings under a key of its own from now on
    Set {
        domain: String,
        /// A file that holds 64 hex digits; `-` is stdin. Without it the node makes a key
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// The tenant's keys, erased ones too
    List { domain: String },
    /// Erase a key: all recordings that were made with it can never be read again
    Erase { domain: String, name: String },
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    domain: String,
    /// s3://BUCKET/PREFIX or file:/FOLDER
    url: String,
    /// Of an S3 server that is not Amazon's
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// The access key's id
    #[arg(long, value_name = "ID", env = "HOOKSWITCH_STORAGE_KEY_ID")]
    key_id: Option<String>,
    /// A file that holds the access key; `-` is stdin. Else HOOKSWITCH_STORAGE_SECRET
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[arg(long, value_name = "SECRET", env = "HOOKSWITCH_STORAGE_SECRET", hide = true, hide_env_values = true)]
    secret: Option<String>,
    /// A copy of every recording goes there, not only those that were made for it
    #[arg(long)]
    every: bool,
}

/// A time as people write it: `90s`, `15m`, `24h`, `30d`, or seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| format!("{text:?} is no time: 90s, 15m, 24h, 30d"))
}

pub(super) fn of_recording(common: &Common, client: &Client, domain: &str, command: OfRecording) -> Outcome {
    let path = |id: &str, rest: &str| format!("/{domain}/recordings/{}{rest}", encode(id));
    match command {
        OfRecording::Link { id, life } => {
            let answer = client.ask(Method::POST, &path(&id, "/link"), Content::Json(&json!({ "expires_in_s": life })))?;
            let link = &answer["link"];
            if common.json {
                return say_json(&answer);
            }
            let url = format!("{}{}", client.base(), cell(link, "url"));
            say(&format!("curl -H 'Authorization: Bearer {}' {url}\nuntil {}", cell(link, "token"), when(link, "expires_at")))
        }
        OfRecording::Hold { id, why } => {
            let answer = client.ask(Method::PUT, &path(&id, "/hold"), Content::Json(&json!({ "why": why })))?;
            if common.json { say_json(&answer) } else { say(&format!("{id} is held")) }
        }
        OfRecording::Release { id } => {
            let answer = client.ask(Method::DELETE, &path(&id, "/hold"), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("{id} is released")) }
        }
        OfRecording::Remove { id } => {
            let answer = client.ask(Method::DELETE, &path(&id, ""), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("{id} is removed")) }
        }
        OfRecording::Access { id, limit } => {
            let answer = client.ask(Method::GET, &path(&id, &format!("/access?limit={limit}")), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let row = |row: &Value| vec![when(row, "at"), cell(row, "who"), cell(row, "from"), cell(row, "how"), cell(row, "range")];
            let rows: Vec<Vec<String>> = answer["access"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
            say(&table(&["AT", "WHO", "FROM", "HOW", "BYTES"], &rows))
        }
    }
}

pub(super) fn privacy(common: &Common, command: Privacy) -> Outcome {
    let client = common.client()?;
    let Privacy::Erase { party, dry_run } = command;
    let body = json!({ "party": party, "dry_run": dry_run });
    let answer = client.ask(Method::POST, &client.of_tenant("/privacy/erase")?, Content::Json(&body))?;
    if common.json {
        return say_json(&answer);
    }
    let erased = &answer["erased"];
    let count = |field: &str| erased[field].as_array().map_or(0, Vec::len);
    let mut text = format!(
        "{} {} recordings ({} of them in the tenant's storage too) and {} call records",
        if dry_run { "would erase" } else { "erased" },
        count("recordings"),
        cell(erased, "delivered"),
        cell(erased, "call_records"),
    );
    for (field, why) in [("held", "is on legal hold"), ("running", "is still made: ask again when it is finished")] {
        for id in erased[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
            text.push_str(&format!("\n{id} stays: it {why}"));
        }
    }
    say(&text)
}

pub(super) fn storage(common: &Common, client: &Client, command: Storage) -> Outcome {
    let path = |domain: &str| format!("/admin/tenants/{}/storage", encode(domain));
    match command {
        Storage::Set(args) => set_storage(common, client, &path(&args.domain), &args),
        Storage::Show { domain } => {
            let answer = client.ask(Method::GET, &path(&domain), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let storage = &answer["storage"];
            let every = if storage["every"] == Value::Bool(true) { "every recording" } else { "recordings made for it" };
            let heads = ["URL", "ENDPOINT", "REGION", "TAKES", "SET"];
            let row =
                vec![cell(storage, "url"), cell(storage, "endpoint"), cell(storage, "region"), every.into(), when(storage, "changed_at")];
            say(&table(&heads, &[row]))
        }
        Storage::Remove { domain } => {
            let answer = client.ask(Method::DELETE, &path(&domain), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("the storage of {domain} is forgotten; what lies there stays there")) }
        }
    }
}

/// What a file (`-`: stdin) holds.
fn secret_of(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

pub(super) fn recording_key(common: &Common, client: &Client, command: RecordingKey) -> Outcome {
    let path = |domain: &str| format!("/{}/recordingkeys", encode(domain));
    match command {
        RecordingKey::Set { domain, key_file } => {
            let key = key_file.as_deref().map(secret_of).transpose()?;
            let answer = client.ask(Method::POST, &path(&domain), Content::Json(&json!({ "key": key })))?;
            if common.json {
                return say_json(&answer);
            }
            say(&format!("new recordings of {domain} are encrypted under key {}", cell(&answer["key"], "name")))
        }
        RecordingKey::List { domain } => {
            let answer = client.ask(Method::GET, &path(&domain), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let current = |key: &Value| if key["current"] == Value::Bool(true) { "yes" } else { "-" }.to_owned();
            let row = |key: &Value| vec![cell(key, "name"), current(key), when(key, "created_at"), when(key, "erased_at")];
            let rows: Vec<Vec<String>> = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
            say(&table(&["NAME", "CURRENT", "CREATED", "ERASED"], &rows))
        }
        RecordingKey::Erase { domain, name } => {
            let answer = client.ask(Method::DELETE, &format!("{}/{}", path(&domain), encode(&name)), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            say(&format!("key {name} is erased: {} recordings of {domain} cannot be read any more", cell(&answer, "recordings")))
        }
    }
}

fn set_storage(common: &Common, client: &Client, path: &str, args: &SetArgs) -> Outcome {
    let secret = match &args.secret_file {
        None => args.secret.clone(),
        Some(file) => Some(secret_of(file)?),
    };
    let mut body = Map::new();
    body.insert("url".into(), args.url.as_str().into());
    for (field, value) in [("endpoint", &args.endpoint), ("region", &args.region), ("key_id", &args.key_id), ("secret", &secret)] {
        if let Some(value) = value {
            body.insert(field.into(), value.as_str().into());
        }
    }
    body.insert("every".into(), args.every.into());
    let answer = client.ask(Method::PUT, path, Content::Json(&Value::Object(body)))?;
    if common.json {
        return say_json(&answer);
    }
    if answer["works"] == Value::Bool(true) {
        say(&format!("recordings of {} go to {}", args.domain, args.url))
    } else {
        say(&format!("recordings of {} will go to {}, which does not work now: {}", args.domain, args.url, cell(&answer, "why")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("30d", 2_592_000), ("7", 7)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "d", "0", "0s", "-1s", "1.5h", "1w", "99999999999999999999s", "999999999999999999d", "5ö"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
