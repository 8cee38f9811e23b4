//! `hookswitch guest config` and `hookswitch guest secret`: what a tenant keeps beside its handler.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome};
use crate::limits;
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::Read;
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum Config {
    /// Set a setting; new calls find it
    Set { key: String, value: String },
    /// The settings
    List,
    /// Forget a setting
    Remove { key: String },
}

#[derive(Subcommand, Debug)]
pub(super) enum Secret {
    /// Keep a secret; its value is read from stdin, without the line break at its end
    Set { name: String },
    /// The names of the secrets; what they are is not shown
    List,
    /// Forget a secret
    Remove { name: String },
}

pub(super) fn config(common: &Common, client: &Client, command: Config) -> Outcome {
    match command {
        Config::Set { key, value } => {
            change(common, client, Method::PUT, &format!("/guests/settings/{}", encode(&key)), Some(&value), &format!("{key} is set"))
        }
        Config::Remove { key } => {
            change(common, client, Method::DELETE, &format!("/guests/settings/{}", encode(&key)), None, &format!("{key} is forgotten"))
        }
        Config::List => list(common, client, "settings", &["key", "value"], &["KEY", "VALUE", "CHANGED"]),
    }
}

pub(super) fn secret(common: &Common, client: &Client, command: Secret) -> Outcome {
    match command {
        Secret::Set { name } => {
            let value = given()?;
            change(common, client, Method::PUT, &format!("/guests/secrets/{}", encode(&name)), Some(&value), &format!("{name} is kept"))
        }
        Secret::Remove { name } => {
            change(common, client, Method::DELETE, &format!("/guests/secrets/{}", encode(&name)), None, &format!("{name} is forgotten"))
        }
        Secret::List => list(common, client, "secrets", &["name"], &["NAME", "CHANGED"]),
    }
}

/// From stdin: what is on a command line is everybody's to see.
fn given() -> Result<String, Failure> {
    let mut value = String::new();
    let most = limits::SETTING_VALUE as u64 + 2;
    std::io::stdin().take(most).read_to_string(&mut value).map_err(|error| Failure::Failed(format!("stdin: {error}")))?;
    let value = value.strip_suffix('\n').map_or(value.as_str(), |value| value.strip_suffix('\r').unwrap_or(value));
    if value.is_empty() {
        return Err(Failure::Usage("the value is read from stdin, and there was none".into()));
    }
    Ok(value.to_owned())
}

fn change(common: &Common, client: &Client, method: Method, path: &str, value: Option<&str>, done: &str) -> Outcome {
    let body = value.map(|value| json!({ "value": value }));
    let content = body.as_ref().map_or(Content::None, Content::Json);
    let answer = client.ask(method, &client.of_tenant(path)?, content)?;
    if common.json { say_json(&answer) } else { say(done) }
}

fn list(common: &Common, client: &Client, what: &str, fields: &[&str], heads: &[&str]) -> Outcome {
    let answer = client.ask(Method::GET, &client.of_tenant(&format!("/guests/{what}"))?, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |row: &Value| fields.iter().map(|field| cell(row, field)).chain([when(row, "changed_at")]).collect();
    let rows: Vec<Vec<String>> = answer[what].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
    say(&table(heads, &rows))
}
