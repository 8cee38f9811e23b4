//! `hookswitch tenant …`.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome, keeping};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use ureq::http::{Method, StatusCode};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// All tenants, newest first
    List,
    /// Make a tenant, or change what is named of it
    Put(PutArgs),
    /// Remove a tenant and its versions; recordings and prompts stay on disk
    Remove { domain: String },
    /// Make a token that opens this tenant's part of the API, and print it once
    Token {
        domain: String,
        /// What the token is for; the same label again replaces the token
        label: String,
        /// Make the token of this label void instead
        #[arg(long)]
        revoke: bool,
    },
    /// Public keys that the tenant's JWTs are verified with
    #[command(subcommand)]
    Key(Key),
    /// Where the tenant's recordings go
    #[command(subcommand)]
    Storage(keeping::Storage),
    /// The tenant's own keys, which its recordings are encrypted under
    #[command(subcommand)]
    RecordingKey(keeping::RecordingKey),
}

#[derive(Subcommand, Debug)]
pub(super) enum Key {
    /// Register a public RSA key, PEM or JWK; the same label again replaces it
    Add {
        domain: String,
        label: String,
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    List {
        domain: String,
    },
    Remove {
        domain: String,
        label: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct PutArgs {
    domain: String,
    /// A called number, or TRUNK=NUMBER for calls from one trunk; may be repeated, and replaces the list
    #[arg(long = "number", value_name = "[TRUNK=]NUMBER")]
    numbers: Vec<String>,
    /// Calls at a time
    #[arg(long, value_name = "CALLS")]
    max_sessions: Option<u32>,
    /// Refuse with this status when the handler fails
    #[arg(long, value_name = "STATUS", conflicts_with = "fallback_file")]
    fallback_status: Option<u16>,
    /// Play this prompt and hang up when the handler fails; may be repeated
    #[arg(long, value_name = "NAME")]
    fallback_file: Vec<String>,
    /// Prompt to play before a call is released because its handler failed
    #[arg(long, value_name = "NAME")]
    error_prompt: Option<String>,
    /// Take what no other tenant's number or domain matches
    #[arg(long)]
    default: bool,
    /// Whom its handlers may call: ADDRESS[/PREFIX], HOST, *.DOMAIN or trunk:NAME; may be repeated, replaces the list, '' empties it
    #[arg(long = "destination", value_name = "WHERE")]
    destinations: Vec<String>,
    /// A mediaserviceId that placeivrcall may give; may be repeated, replaces the list, '' empties it
    #[arg(long = "mediaservice-id", value_name = "ID")]
    mediaservice_ids: Vec<String>,
    /// An origin that its handlers may post to; may be repeated, replaces the list, '' empties it
    #[arg(long = "outbox-origin", value_name = "URL")]
    outbox_origins: Vec<String>,
    /// Remove recordings so long after their end, e.g. 30d, where they say nothing else; `forever`: never
    #[arg(long, value_name = "TIME", value_parser = retention)]
    recording_retention: Option<Retention>,
    /// Whether P-Asserted-Identity of its handlers goes out
    #[arg(long, value_name = "true|false")]
    trusted: Option<bool>,
    /// Whether it may upload components of up to 32 MiB, as Python's, whose instances may have 64 MiB of memory
    #[arg(long, value_name = "true|false")]
    large_components: Option<bool>,
}

/// Seconds, or never.
#[derive(Clone, Copy, Debug)]
struct Retention(Option<u64>);

fn retention(text: &str) -> Result<Retention, String> {
    if text == "forever" { Ok(Retention(None)) } else { keeping::seconds(text).map(|seconds| Retention(Some(seconds))) }
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let client = common.client()?;
    match command {
        Command::List => list(common, &client),
        Command::Put(args) => put(common, &client, args),
        Command::Remove { domain } => {
            let answer = client.ask(Method::DELETE, &format!("/admin/tenants/{}", encode(&domain)), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("{domain} is removed; its recordings and prompts stay on disk")) }
        }
        Command::Token { domain, label, revoke } => {
            let path = format!("/admin/tenants/{}/tokens/{}", encode(&domain), encode(&label));
            let answer = client.ask(if revoke { Method::DELETE } else { Method::PUT }, &path, Content::None)?;
            match (common.json, answer["token"].as_str()) {
                (false, Some(token)) => say(token),
                (false, None) => say(&format!("token {label} of {domain} is void")),
                (true, _) => say_json(&answer),
            }
        }
        Command::Key(command) => key(common, &client, command),
        Command::Storage(command) => keeping::storage(common, &client, command),
        Command::RecordingKey(command) => keeping::recording_key(common, &client, command),
    }
}

fn key(common: &Common, client: &Client, command: Key) -> Outcome {
    let path = |domain: &str| format!("/admin/tenants/{}/keys", encode(domain));
    match command {
        Key::Add { domain, label, file } => {
            let key = std::fs::read(&file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            let path = format!("{}/{}", path(&domain), encode(&label));
            let answer = client.ask(Method::PUT, &path, Content::Bytes("application/octet-stream", &key))?;
            if common.json { say_json(&answer) } else { say(&cell(&answer["key"], "thumbprint")) }
        }
        Key::List { domain } => {
            let answer = client.ask(Method::GET, &path(&domain), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let row = |key: &Value| vec![cell(key, "label"), cell(key, "bits"), when(key, "created_at"), cell(key, "thumbprint")];
            let rows: Vec<Vec<String>> = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
            say(&table(&["LABEL", "BITS", "CREATED", "THUMBPRINT"], &rows))
        }
        Key::Remove { domain, label } => {
            let answer = client.ask(Method::DELETE, &format!("{}/{}", path(&domain), encode(&label)), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("key {label} of {domain} is removed")) }
        }
    }
}

fn list(common: &Common, client: &Client) -> Outcome {
    let answer = client.ask(Method::GET, "/admin/tenants", Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |tenant: &Value| {
        let fallback = match tenant["fallback"]["files"].as_array() {
            Some(files) => format!("plays {}", files.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
            None => cell(&tenant["fallback"], "status"),
        };
        let number = |number: &Value| match number.as_str() {
            Some(number) => number.to_owned(),
            None => format!("{}={}", cell(number, "trunk"), cell(number, "number")),
        };
        let numbers = tenant["numbers"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(number).collect::<Vec<_>>();
        let default = if tenant["default"] == Value::Bool(true) { "yes" } else { "-" };
        vec![
            cell(tenant, "domain"),
            default.into(),
            cell(tenant, "max_sessions"),
            fallback,
            cell(tenant, "error_prompt"),
            numbers.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = answer["tenants"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
    say(&table(&["DOMAIN", "DEFAULT", "CALLS", "FALLBACK", "ERROR PROMPT", "NUMBERS"], &rows))
}

/// The API replaces a tenant's configuration as a whole; a person at a terminal changes one thing.
fn put(common: &Common, client: &Client, args: PutArgs) -> Outcome {
    let path = format!("/admin/tenants/{}", encode(&args.domain));
    let mut tenant = match client.try_ask(Method::GET, &path, Content::None)? {
        (StatusCode::OK, mut answer) => match answer["tenant"].take() {
            Value::Object(tenant) => tenant,
            _ => Map::new(),
        },
        (StatusCode::NOT_FOUND, _) => Map::new(),
        (status, answer) => return Err(Failure::Failed(format!("{} ({})", cell(&answer, "message"), status.as_u16()))),
    };
    let known = !tenant.is_empty();
    if !args.numbers.is_empty() {
        let number = |text: &String| match text.split_once('=') {
            Some((trunk, number)) => json!({ "trunk": trunk, "number": number }),
            None => json!(text),
        };
        tenant.insert("numbers".into(), args.numbers.iter().map(number).collect());
    }
    if let Some(calls) = args.max_sessions {
        tenant.insert("max_sessions".into(), calls.into());
    }
    if let Some(status) = args.fallback_status {
        tenant.insert("fallback".into(), json!({ "action": "refuse", "status": status }));
    }
    if !args.fallback_file.is_empty() {
        tenant.insert("fallback".into(), json!({ "action": "announce", "files": args.fallback_file }));
    }
    if let Some(name) = args.error_prompt {
        tenant.insert("error_prompt".into(), name.into());
    }
    if args.default {
        tenant.insert("default".into(), true.into());
    }
    for (field, given) in
        [("destinations", args.destinations), ("mediaservice_ids", args.mediaservice_ids), ("outbox_origins", args.outbox_origins)]
    {
        if !given.is_empty() {
            tenant.insert(field.into(), given.into_iter().filter(|text| !text.is_empty()).collect());
        }
    }
    if let Some(Retention(seconds)) = args.recording_retention {
        tenant.insert("recording_retention_s".into(), seconds.into());
    }
    if let Some(trusted) = args.trusted {
        tenant.insert("trusted".into(), trusted.into());
    }
    if let Some(large) = args.large_components {
        tenant.insert("large_components".into(), large.into());
    }
    let answer = client.ask(Method::PUT, &path, Content::Json(&Value::Object(tenant)))?;
    if common.json {
        return say_json(&answer);
    }
    say(&format!("{} is {}", args.domain, if known { "changed" } else { "added" }))
}
