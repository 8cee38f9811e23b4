//! `hookswitch tenant …`.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome, device, guest_policy, keeping};
use crate::store::RecordAnnounce;
use crate::tenants_file;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use ureq::http::{Method, StatusCode};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// All tenants, newest first
    List,
    /// Make a tenant, or change what is named of it
    Put(PutArgs),
    /// Remove a tenant and its versions; recordings and prompts stay on disk
    Remove { domain: String },
    /// Make a token that opens this tenant's part of the API, and print it once; or `list`, `rotate`
    Token(Box<TokenArgs>),
    /// Set tenants as a TOML file describes them: all of it, or nothing
    Apply {
        file: PathBuf,
        /// Print what would change and change nothing; exit code 3 where something would
        #[arg(long)]
        dry_run: bool,
        /// Remove tenants that are not in the file
        #[arg(long)]
        prune: bool,
    },
    /// Print tenants as a file that `apply` takes
    Export {
        /// Only these; else all
        domains: Vec<String>,
    },
    /// Public keys that the tenant's JWTs are verified with
    #[command(subcommand)]
    Key(Key),
    /// What the tenant's handlers must fulfil: show it, or change what is named of it
    GuestPolicy(guest_policy::Args),
    /// Where the tenant's recordings go
    #[command(subcommand)]
    Storage(keeping::Storage),
    /// Users of the cloud user agent: calls to them are for a device
    #[command(subcommand)]
    Device(device::Command),
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
        /// What JWTs signed with it may do; may be repeated; else all
        #[arg(long = "role", value_name = "deploy|operate|read")]
        roles: Vec<String>,
        /// Void after so long, e.g. 90d
        #[arg(long, value_name = "TIME", value_parser = keeping::seconds)]
        expires: Option<u64>,
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
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: Option<Token>,
    #[arg(required = true)]
    domain: Option<String>,
    /// What the token is for; the same label again replaces the token
    #[arg(required = true)]
    label: Option<String>,
    /// What it may do; may be repeated; else all
    #[arg(long = "role", value_name = "deploy|operate|read", conflicts_with = "revoke")]
    roles: Vec<String>,
    /// Void after so long, e.g. 90d; else never
    #[arg(long, value_name = "TIME", value_parser = keeping::seconds, conflicts_with = "revoke")]
    expires: Option<u64>,
    /// Make all tokens of this label void instead
    #[arg(long)]
    revoke: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum Token {
    /// A tenant's tokens, newest first, and when each was used last
    List { domain: String },
    /// Make a new token of a label and print it once; the last one stays valid for a while
    Rotate {
        domain: String,
        label: String,
        /// How long the last one stays valid, e.g. 1h; else a day
        #[arg(long, value_name = "TIME", value_parser = keeping::seconds)]
        overlap: Option<u64>,
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
    /// A quota, or its end with nothing behind the sign: calls_per_second, instances, cpu_ms_per_second, cpu_weight, storage_bytes,
    /// minutes_per_month, deploys_per_minute; may be repeated
    #[arg(long = "quota", value_name = "NAME=NUMBER", value_parser = quota)]
    quotas: Vec<(String, Option<u64>)>,
    /// A trunk whose calls it takes; may be repeated, replaces the list, '' empties it
    #[arg(long = "trunk", value_name = "NAME")]
    trunks: Vec<String>,
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
    /// Where its devices may take their media: ADDRESS[/PREFIX]; may be repeated, replaces the list, '' empties it
    #[arg(long = "media-address", value_name = "WHERE")]
    media_addresses: Vec<String>,
    /// Remove recordings so long after their end, e.g. 30d, where they say nothing else; `forever`: never
    #[arg(long, value_name = "TIME", value_parser = retention)]
    recording_retention: Option<Retention>,
    /// Whether all of its recordings tell who is recorded by a warning tone, or those that ask for it
    #[arg(long, value_name = "off|always", value_parser = RecordAnnounce::NAMES)]
    record_announce: Option<String>,
    /// Hz of recordings that Microsoft Graph's recordResponse makes: 16000 or 8000
    #[arg(long, value_name = "HZ")]
    graph_sample_rate: Option<u32>,
    /// Whether P-Asserted-Identity of its handlers goes out
    #[arg(long, value_name = "true|false")]
    trusted: Option<bool>,
    /// A called number in IN mode, or with * at the end what such numbers begin with; may be repeated, replaces the list, '' empties it
    #[arg(long = "in-number", value_name = "NUMBER")]
    in_numbers: Vec<String>,
    /// The country whose ringing tone its waiting parties hear, by its code of two letters
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// A codec to offer before the others: PCMA or PCMU; may be repeated, replaces the list, '' empties it
    #[arg(long = "codec", value_name = "NAME")]
    codecs: Vec<String>,
    /// Whether it may upload components of up to 32 MiB, as Python's, whose instances may have 64 MiB of memory
    #[arg(long, value_name = "true|false")]
    large_components: Option<bool>,
}

/// Seconds, or never.
#[derive(Clone, Copy, Debug)]
struct Retention(Option<u64>);

fn quota(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=NUMBER")?;
    match value {
        "" => Ok((name.to_owned(), None)),
        value => value.parse().map(|n| (name.to_owned(), Some(n))).map_err(|_| format!("{value:?} is not a number")),
    }
}

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
        Command::Token(args) => token(common, &client, *args),
        Command::Apply { file, dry_run, prune } => apply(common, &client, &file, (dry_run, prune)),
        Command::Export { domains } => export(&client, &domains),
        Command::Key(command) => key(common, &client, command),
        Command::GuestPolicy(args) => guest_policy::run(common, &client, args),
        Command::Storage(command) => keeping::storage(common, &client, command),
        Command::RecordingKey(command) => keeping::recording_key(common, &client, command),
        Command::Device(command) => device::run(common, &client, command),
    }
}

fn roles(of: &Value) -> String {
    of["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn token(common: &Common, client: &Client, args: TokenArgs) -> Outcome {
    let path = |domain: &str, label: &str| format!("/admin/tenants/{}/tokens/{}", encode(domain), encode(label));
    let answer = match (args.command, args.domain, args.label) {
        (Some(Token::List { domain }), ..) => {
            let answer = client.ask(Method::GET, &format!("/admin/tenants/{}/tokens", encode(&domain)), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let row = |token: &Value| {
                let times = ["created_at", "expires_at", "used_at"].map(|field| when(token, field));
                [vec![cell(token, "label"), roles(token)], times.to_vec()].concat()
            };
            let rows: Vec<Vec<String>> = answer["tokens"].as_array().into_iter().flatten().map(row).collect();
            return say(&table(&["LABEL", "ROLES", "CREATED", "EXPIRES", "USED"], &rows));
        }
        (Some(Token::Rotate { domain, label, overlap }), ..) => {
            let body = json!({ "overlap_s": overlap });
            client.ask(Method::POST, &format!("{}/rotate", path(&domain, &label)), Content::Json(&body))?
        }
        (None, Some(domain), Some(label)) if args.revoke => {
            let answer = client.ask(Method::DELETE, &path(&domain, &label), Content::None)?;
            if !common.json {
                return say(&format!("token {label} of {domain} is void"));
            }
            answer
        }
        (None, Some(domain), Some(label)) => {
            let roles = (!args.roles.is_empty()).then_some(args.roles);
            let body = json!({ "roles": roles, "expires_in_s": args.expires });
            client.ask(Method::PUT, &path(&domain, &label), Content::Json(&body))?
        }
        _ => return Err(Failure::Usage("a domain and a label are needed".into())),
    };
    match answer["token"].as_str() {
        Some(token) if !common.json => say(token),
        _ => say_json(&answer),
    }
}

/// Where a dry run finds a difference.
const DIFFERENT: u8 = 3;

fn apply(common: &Common, client: &Client, file: &Path, (dry_run, prune): (bool, bool)) -> Outcome {
    let failed = |why: String| Failure::Failed(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let tenants = tenants_file::read(&text).map_err(failed)?;
    let body = json!({ "tenants": tenants, "dry_run": dry_run, "prune": prune });
    let answer = client.ask(Method::PUT, "/admin/tenants", Content::Json(&body))?;
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if common.json {
        say_json(&answer)?;
    } else if changes.is_empty() {
        say("nothing to change")?;
    } else {
        say(&changes.iter().map(told).collect::<Vec<_>>().join("\n"))?;
    }
    if dry_run && !changes.is_empty() { Err(Failure::Exit(ExitCode::from(DIFFERENT))) } else { Ok(()) }
}

fn told(change: &Value) -> String {
    let sign = match change["change"].as_str() {
        Some("added") => '+',
        Some("removed") => '-',
        _ => '~',
    };
    let lines = change["lines"].as_array().into_iter().flatten().filter_map(Value::as_str);
    std::iter::once(format!("{sign} tenant {}", cell(change, "domain")))
        .chain(lines.map(|line| format!("    {line}")))
        .collect::<Vec<_>>()
        .join("\n")
}

fn export(client: &Client, domains: &[String]) -> Outcome {
    let answer = client.ask(Method::GET, "/admin/tenants", Content::None)?;
    let all = answer["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |domain: &String, tenant: &&Value| tenant["domain"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(domain));
    if let Some(unknown) = domains.iter().find(|domain| !all.iter().any(|tenant| named(domain, &tenant))) {
        return Err(Failure::Failed(format!("unknown domain {unknown}")));
    }
    let wanted = all.iter().filter(|tenant| domains.is_empty() || domains.iter().any(|domain| named(domain, tenant)));
    say(&tenants_file::write(&wanted.cloned().collect::<Vec<_>>()).map_err(Failure::Failed)?)
}

fn key(common: &Common, client: &Client, command: Key) -> Outcome {
    let path = |domain: &str| format!("/admin/tenants/{}/keys", encode(domain));
    match command {
        Key::Add { domain, label, file, roles, expires } => {
            let key = std::fs::read(&file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            let roles =
                (!roles.is_empty()).then(|| format!("roles={}", roles.iter().map(|role| encode(role)).collect::<Vec<_>>().join(",")));
            let query = roles.into_iter().chain(expires.map(|seconds| format!("expires_in_s={seconds}"))).collect::<Vec<_>>().join("&");
            let path = format!("{}/{}?{query}", path(&domain), encode(&label));
            let answer = client.ask(Method::PUT, &path, Content::Bytes("application/octet-stream", &key))?;
            if common.json { say_json(&answer) } else { say(&cell(&answer["key"], "thumbprint")) }
        }
        Key::List { domain } => {
            let answer = client.ask(Method::GET, &path(&domain), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let row = |key: &Value| {
                let times = ["created_at", "expires_at", "used_at"].map(|field| when(key, field));
                [vec![cell(key, "label"), cell(key, "bits"), roles(key)], times.to_vec(), vec![cell(key, "thumbprint")]].concat()
            };
            let rows: Vec<Vec<String>> = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
            say(&table(&["LABEL", "BITS", "ROLES", "CREATED", "EXPIRES", "USED", "THUMBPRINT"], &rows))
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
    for (name, value) in args.quotas {
        let quotas = tenant.entry("quotas").or_insert_with(|| json!({}));
        quotas[name] = value.into();
    }
    for (field, given) in [
        ("trunks", args.trunks),
        ("destinations", args.destinations),
        ("mediaservice_ids", args.mediaservice_ids),
        ("outbox_origins", args.outbox_origins),
        ("codecs", args.codecs),
        ("in_numbers", args.in_numbers),
        ("media_addresses", args.media_addresses),
    ] {
        if !given.is_empty() {
            tenant.insert(field.into(), given.into_iter().filter(|text| !text.is_empty()).collect());
        }
    }
    if let Some(Retention(seconds)) = args.recording_retention {
        tenant.insert("recording_retention_s".into(), seconds.into());
    }
    if let Some(announce) = args.record_announce {
        tenant.insert("record_announce".into(), announce.into());
    }
    if let Some(hz) = args.graph_sample_rate {
        tenant.insert("graph_sample_rate".into(), hz.into());
    }
    if let Some(trusted) = args.trusted {
        tenant.insert("trusted".into(), trusted.into());
    }
    if let Some(country) = args.country {
        tenant.insert("country".into(), country.into());
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
