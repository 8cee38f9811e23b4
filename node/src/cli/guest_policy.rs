//! `hookswitch tenant guest-policy …`: signatures that a tenant's handlers need, and when a new one is taken back.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json};
use super::{Common, Failure, Outcome};
use serde_json::{Value, json};
use std::path::PathBuf;
use ureq::http::Method;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    domain: String,
    /// Whether only signed components are taken in and given to calls
    #[arg(long, value_name = "true|false")]
    require_signature: Option<bool>,
    /// A public key (PEM) that counts; may be repeated, replaces the list, '' empties it
    #[arg(long = "signing-key", value_name = "FILE")]
    signing_keys: Vec<PathBuf>,
    /// One more public key; the others stay
    #[arg(long, value_name = "FILE", conflicts_with = "signing_keys")]
    add_signing_key: Option<PathBuf>,
    /// The key of this id does not count any more
    #[arg(long, value_name = "ID", conflicts_with = "signing_keys")]
    remove_signing_key: Option<String>,
    /// Calls that a new version is watched for; 0: it is not
    #[arg(long, value_name = "CALLS")]
    trial_calls: Option<u32>,
    /// Before so many have begun it is not taken back
    #[arg(long, value_name = "CALLS")]
    trial_min_calls: Option<u32>,
    /// So many of a hundred failed, or more: it is taken back
    #[arg(long, value_name = "PERCENT")]
    trial_failed_percent: Option<u32>,
}

pub(super) fn run(common: &Common, client: &Client, args: Args) -> Outcome {
    let path = format!("/admin/tenants/{}/guest-policy", encode(&args.domain));
    let before = client.ask(Method::GET, &path, Content::None)?["policy"].take();
    let after = changed(before.clone(), &args)?;
    let policy = if after == before { before } else { client.ask(Method::PUT, &path, Content::Json(&after))?["policy"].take() };
    if common.json {
        return say_json(&json!({ "policy": policy }));
    }
    let keys: Vec<String> = policy["signing_keys"].as_array().into_iter().flatten().map(|key| cell(key, "id")).collect();
    let required = if policy["require_signature"] == Value::Bool(true) { "required" } else { "not required" };
    let keys = if keys.is_empty() { "none".into() } else { keys.join(", ") };
    let trial = match policy["trial_calls"].as_u64() {
        Some(0) => "none".to_owned(),
        _ => format!(
            "{} calls; taken back when {} % of at least {} have failed",
            cell(&policy, "trial_calls"),
            cell(&policy, "trial_failed_percent"),
            cell(&policy, "trial_min_calls")
        ),
    };
    say(&format!("signature     {required}\nsigning keys  {keys}\ntrial         {trial}"))
}

/// The API replaces a policy as a whole; a person at a terminal changes one thing.
fn changed(mut policy: Value, args: &Args) -> Result<Value, Failure> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map(Value::String).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    };
    if let Some(required) = args.require_signature {
        policy["require_signature"] = required.into();
    }
    let mut keys = policy["signing_keys"].as_array().cloned().unwrap_or_default();
    if !args.signing_keys.is_empty() {
        keys = args.signing_keys.iter().filter(|path| !path.as_os_str().is_empty()).map(read).collect::<Result<_, _>>()?;
    }
    if let Some(path) = &args.add_signing_key {
        keys.push(read(path)?);
    }
    if let Some(id) = &args.remove_signing_key {
        let all = keys.len();
        keys.retain(|key| key["id"] != Value::String(id.clone()));
        if keys.len() == all {
            return Err(Failure::Failed(format!("{} has no signing key {id}", args.domain)));
        }
    }
    policy["signing_keys"] = keys.into();
    for (field, given) in
        [("trial_calls", args.trial_calls), ("trial_min_calls", args.trial_min_calls), ("trial_failed_percent", args.trial_failed_percent)]
    {
        if let Some(given) = given {
            policy[field] = given.into();
        }
    }
    Ok(policy)
}
