//! `hookswitch prompt …`: audio files that handlers play by name.

use super::client::{Content, encode};
use super::output::{cell, say, say_json, size, table, when};
use super::{Common, Failure, Outcome};
use clap::Subcommand;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Store an audio file; the node checks that it can play it
    Put {
        file: PathBuf,
        /// The name that handlers play it by; else the file's
        #[arg(long)]
        name: Option<String>,
    },
    /// A tenant's prompts, newest first
    List,
    /// Fetch a prompt, or a recording by its name
    Get {
        name: String,
        /// Where to put it; `-` is stdout
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove a prompt, or a recording by its name
    Rm { name: String },
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let client = common.client()?;
    match command {
        Command::Put { file, name } => {
            let own = || file.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.or_else(own).ok_or_else(|| Failure::Usage(format!("{} has no name: give --name", file.display())))?;
            let bytes = std::fs::read(&file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
            let path = client.of_tenant(&format!("/promptfile/{}", encode(&name)))?;
            let answer = client.ask(Method::PUT, &path, Content::Bytes("audio/wav", &bytes))?;
            if common.json {
                return say_json(&answer);
            }
            say(&format!("{name} is stored ({:.2} s)", answer["duration_ms"].as_f64().unwrap_or(0.0) / 1000.0))
        }
        Command::List => {
            let answer = client.ask(Method::GET, &client.of_tenant("/promptfile")?, Content::None)?;
            if common.json {
                return say_json(&answer);
            }
            let row = |prompt: &Value| vec![size(prompt["size"].as_u64().unwrap_or(0)), when(prompt, "changed_at"), cell(prompt, "name")];
            let rows: Vec<Vec<String>> = answer["prompts"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
            say(&table(&["SIZE", "CHANGED", "NAME"], &rows))
        }
        Command::Get { name, output } => {
            let mut audio = client.download(&client.of_tenant(&format!("/promptfile/{}", encode(&name)))?)?;
            let path = output.unwrap_or_else(|| PathBuf::from(&name));
            if path == Path::new("-") {
                io::copy(&mut audio, &mut io::stdout().lock())?;
                return Ok(());
            }
            let mut write = || io::copy(&mut audio, &mut File::create(&path)?);
            let bytes = write().map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
            if common.json {
                return say_json(&json!({ "name": name, "output": path, "size": bytes }));
            }
            say(&format!("{} ({})", path.display(), size(bytes)))
        }
        Command::Rm { name } => {
            let answer = client.ask(Method::DELETE, &client.of_tenant(&format!("/promptfile/{}", encode(&name)))?, Content::None)?;
            if common.json { say_json(&answer) } else { say(&format!("{name} is removed")) }
        }
    }
}
