//! The command line. `run`, `check` and `call` do their work in this process; everything else is an HTTP client of a running node's
//! `[api] listen`.
//!
//! Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 usage. `--json` everywhere: for listings an object with one
//! list, newest first. Start with [`main`] and `Cli`.

mod check;
mod client;
mod device;
mod guest;
mod guest_policy;
#[cfg(feature = "h3")]
pub(crate) mod h3;
mod keeping;
mod ledger;
mod output;
mod prompt;
mod recording;
mod session;
mod settings;
mod simulate;
mod tenant;

use crate::config::Config;
use crate::phone::{self, PhoneArgs};
use clap::{Args, Parser, Subcommand};
use client::Client;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser, Debug)]
#[command(name = "hookswitch", version, about = "A programmable media node: SIP and RTP outside, sandboxed WebAssembly handlers inside")]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands, before or after its name.
#[derive(Args, Debug, Default, Clone)]
struct Common {
    /// The node's configuration (TOML); without it, defaults and HOOKSWITCH_… variables
    #[arg(long, global = true, value_name = "FILE", env = "HOOKSWITCH_CONFIG")]
    config: Option<PathBuf>,
    /// Where the node's API is; else [api] listen of the configuration
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// Authorities whose certificate of the API is trusted (PEM); else the machine's
    #[arg(long, global = true, value_name = "FILE", env = "HOOKSWITCH_CA")]
    ca: Option<PathBuf>,
    /// Talk to the API by HTTP/3: for links that lose packets, and addresses that change
    #[cfg(feature = "h3")]
    #[arg(long, global = true)]
    h3: bool,
    /// The token to show; else the operator's in DATA/admin-token
    #[arg(long, global = true, value_name = "TOKEN", env = "HOOKSWITCH_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The tenant; else the default or only one
    #[arg(long, global = true, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the node
    Run(RunArgs),
    /// Say whether a node could run here: configuration, limits, ports, folders
    Check,
    /// Make a test call
    Call(Box<PhoneArgs>),
    /// Who may be called here
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Handlers: make, build, upload, activate, go back
    #[command(subcommand)]
    Guest(guest::Command),
    /// Calls that are up, and what they are told to do
    #[command(subcommand)]
    Session(session::Command),
    /// The keys that replyIds are signed with
    #[command(subcommand)]
    ReplyKeys(ReplyKeys),
    /// What was recorded
    #[command(subcommand)]
    Recording(recording::Command),
    /// What people may ask of their data
    #[command(subcommand)]
    Privacy(keeping::Privacy),
    /// Who changed what; of one tenant with --domain
    Audit(ledger::Audit),
    /// What tenants used, day by day; of one tenant with --domain
    Usage(ledger::Usage),
    /// Audio files that handlers play
    #[command(subcommand)]
    Prompt(prompt::Command),
}

#[derive(Subcommand, Debug)]
enum ReplyKeys {
    /// Sign with a new key from now on; replyIds that were given stay valid
    Rotate,
}

#[derive(Args, Debug, Clone, Default)]
pub struct RunArgs {
    /// Make tenant demo.localhost with its handler the default one
    #[arg(long)]
    pub demo: bool,
    /// The demo handler's component; else it is looked for beside this binary
    #[arg(long, value_name = "FILE", requires = "demo", env = "HOOKSWITCH_DEMO_GUEST")]
    pub demo_guest: Option<PathBuf>,
    /// `--token` or its variable.
    #[arg(skip)]
    pub token: Option<String>,
    /// `--config` or its variable, for telling people what to type.
    #[arg(skip)]
    pub config: Option<PathBuf>,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// 1, with this line.
    Failed(String),
    /// 2: what was asked for cannot be meant.
    Usage(String),
    /// Said already.
    Exit(ExitCode),
}

impl<E: std::fmt::Display> From<E> for Failure
where
    E: std::error::Error,
{
    fn from(error: E) -> Failure {
        Failure::Failed(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version go to stdout and are a success; everything else is usage.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // The process's, so not in `dispatch`, which tests call beside others.
    if !matches!(cli.command, Command::Run(_)) {
        crate::net::die_of_closed_pipes();
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Exit(code)) => code,
        Err(Failure::Failed(why)) => {
            eprintln!("hookswitch: {}", output::one_line(&why));
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("hookswitch: {}", output::one_line(&why));
            ExitCode::from(2)
        }
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let common = cli.common;
    match cli.command {
        Command::Run(args) => run(&common, args),
        Command::Check => check::check(&common),
        // It says itself how the call went.
        Command::Call(args) => match phone::run(*args) {
            code if code == ExitCode::SUCCESS => Ok(()),
            code => Err(Failure::Exit(code)),
        },
        Command::Tenant(command) => tenant::run(&common, command),
        Command::Guest(command) => guest::run(&common, command),
        Command::Session(command) => session::run(&common, command),
        Command::ReplyKeys(ReplyKeys::Rotate) => rotate(&common),
        Command::Recording(command) => recording::run(&common, command),
        Command::Privacy(command) => keeping::privacy(&common, command),
        Command::Audit(args) => ledger::audit(&common, &args),
        Command::Usage(args) => ledger::usage(&common, &args),
        Command::Prompt(command) => prompt::run(&common, command),
    }
}

/// Runs the node until it is told to stop.
fn run(common: &Common, args: RunArgs) -> Outcome {
    Ok(crate::run::run(common.load()?, &RunArgs { token: common.token.clone(), config: common.config.clone(), ..args })?)
}

fn rotate(common: &Common) -> Outcome {
    let answer = common.client()?.ask(ureq::http::Method::POST, "/admin/reply-keys/rotate", client::Content::None)?;
    if common.json {
        return output::say_json(&answer);
    }
    let kids: Vec<&str> = answer["kids"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    output::say(&kids.join("\n"))
}

impl Common {
    fn load(&self) -> Result<Config, Failure> {
        Ok(Config::load(self.config.as_deref())?)
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::new(self)
    }
}

#[cfg(test)]
mod tests;
