//! `hookswitch tenant device …`: users of the cloud user agent.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Outcome};
use clap::Subcommand;
use serde_json::{Value, json};
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Provision a device, or change what is known of it: an INVITE to sip:ID@DOMAIN becomes newRemoteCall
    Put {
        domain: String,
        id: String,
        /// What it is, e.g. alarmUnit
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// A tenant's devices, newest first
    List { domain: String },
    /// Forget a device: calls to it are the handler's again
    Remove { domain: String, id: String },
}

pub(super) fn run(common: &Common, client: &Client, command: Command) -> Outcome {
    let path = |domain: &str| format!("/provisioning/device/{}", encode(domain));
    match command {
        Command::Put { domain, id, kind, description } => {
            let body = json!({ "deviceId": id, "authType": "disabled", "deviceType": kind, "description": description });
            let answer = client.ask(Method::PUT, &path(&domain), Content::Json(&body))?;
            if common.json { say_json(&answer) } else { say(&format!("{id} is a device of {domain}")) }
        }
        Command::List { domain } => {
            let answer = client.ask(Method::GET, &path(&domain), Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let fields = ["deviceId", "deviceType", "description"];
            let row = |device: &Value| [fields.map(|field| cell(device, field)).to_vec(), vec![when(device, "changedAt")]].concat();
            let rows: Vec<Vec<String>> = answer["devices"].as_array().into_iter().flatten().map(row).collect();
            say(&table(&["DEVICE", "TYPE", "DESCRIPTION", "CHANGED"], &rows))
        }
        Command::Remove { domain, id } => {
            let answer = client.ask(Method::DELETE, &format!("{}/{}", path(&domain), encode(&id)), Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("{id} is no device of {domain} any more")) }
        }
    }
}
