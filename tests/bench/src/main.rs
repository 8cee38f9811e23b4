//! `make bench`: the numbers we publish. The node has one core, the generator the other; the floor (a bare receive and send of the
//! same packets) and whatever peer is installed are measured in the same run; the share of time that the hypervisor stole is told.
//!
//! It measures, it does not judge: a number that is missed is printed like one that is reached. Start with [`main`]; `calls.rs`,
//! `recorded.rs`, `bridged.rs`, `isolation.rs`, `uploads.rs`, `instances.rs`, `commands.rs`, `webhook.rs` and `phrases.rs` hold what is measured, `plan.rs` the loads, `generator.rs` the
//! telephones, `hostile.rs` a tenant that means harm, `peers.rs` the others, `floor.rs` the floor. `soak.rs` is the long run that does judge, `faults.rs` its second part.

mod bridged;
mod calls;
mod commands;
mod faults;
mod floor;
mod generator;
mod hearing;
mod hooks;
mod hostile;
mod http;
mod instances;
mod isolation;
mod languages;
mod lateness;
mod machine;
mod node;
mod packets;
mod peers;
mod phrases;
mod plan;
mod plot;
mod recorded;
mod recordings;
mod report;
mod search;
mod sipp;
mod soak;
mod subject;
mod tones;
mod uploads;
mod webhook;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use search::Search;
use std::path::PathBuf;
use std::time::Duration;

/// Measures a node, its floor and its peers, and writes a table and a JSON file.
#[derive(Parser, Clone, Debug)]
#[command(name = "hookswitch-bench")]
pub struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// The node's release binary
    #[arg(long, env = "HOOKSWITCH_BIN", default_value = "target/release/hookswitch")]
    pub node: PathBuf,
    /// The folder of example components
    #[arg(long, env = "HOOKSWITCH_GUESTS", default_value = "target/guests")]
    pub guests: PathBuf,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench.json")]
    pub output: PathBuf,
    /// What to measure; everything if not given
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Section>,
    /// Number of calls that the search for the highest begins with
    #[arg(long, default_value_t = 1000)]
    pub guess: usize,
    /// Number of calls that it does not exceed
    #[arg(long, default_value_t = 8000)]
    pub most: usize,
    /// Tries this number of calls alone, and searches none
    #[arg(long)]
    pub at: Option<usize>,
    /// How close the search goes: a part of the number found
    #[arg(long, default_value_t = 0.04)]
    pub resolution: f64,
    /// Time for one search, in minutes
    #[arg(long, default_value_t = 8)]
    pub search_minutes: u64,
    /// How long calls are held, in seconds
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Calls set up a second before they are held
    #[arg(long, default_value_t = 200.0)]
    pub ramp: f64,
    /// Runs of what is repeated; the median counts [default: 3; isolation 5]
    #[arg(long)]
    pub runs: Option<usize>,
    /// How long answered calls a second are counted, in seconds
    #[arg(long, default_value_t = 8)]
    pub rate_seconds: u64,
    /// Calls under way at a time while answered calls a second are counted
    #[arg(long, default_value_t = 100)]
    pub window: usize,
    /// Folder for the node's data: on the disk that recordings would go to
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Core of the node
    #[arg(long, default_value_t = 0)]
    pub node_core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
}

impl Options {
    /// Runs of what is repeated, unless it says otherwise.
    fn runs(&self) -> usize {
        self.runs.unwrap_or(3).max(1)
    }

    fn search(&self, guess: usize) -> Search {
        let (guess, least, most) = match self.at {
            Some(calls) => (calls, calls, calls),
            None => (guess, 10, self.most.min(generator::CALLS_MAX)),
        };
        Search { guess, least, most, resolution: self.resolution, time: Duration::from_secs(self.search_minutes * 60) }
    }

    /// A folder that is gone when it is dropped, where data was told to be.
    fn folder(&self, prefix: &str) -> Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        Ok(match &self.data {
            Some(path) => builder.tempdir_in(path)?,
            None => builder.tempdir()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Ask to verdict, beside a webhook on loopback
    Hooks,
    /// The same handler in each language
    Languages,
    /// Many instances of the demo's handler that wait
    Instances,
    /// From a push to calls that get it, and what a long compilation does to calls
    Uploads,
    /// Calls of one tenant alone, and beside another one that means harm
    Isolation,
    /// REST commands beside recorded calls
    Commands,
    /// A decision that an application makes over HTTP through the webhook handler
    Webhook,
    /// How soon a phrase is heard, and what others notice of new ones
    Phrases,
    /// Bare receive and send
    Floor,
    /// Recorded IVR calls held, memory a call
    Held,
    /// What recording adds to a call, what is written, encoders and encryption
    Recorded,
    /// Bridged calls held, jitter added
    Bridged,
    /// Bridged and recorded calls held, jitter added
    BridgedRecorded,
    /// Answered calls a second
    Rate,
    /// What a bridge adds to setup, bridged calls a second
    Setup,
    /// Memory before and after ten thousand calls
    Growth,
}

#[derive(Subcommand, Clone, Debug)]
enum Mode {
    /// Load in waves, and whether anything is left behind
    Soak(soak::Soak),
    /// The floor's own process; started by the bench
    #[command(hide = true)]
    FloorNode { sockets: usize, seconds: u64, core: usize },
    /// A guest room's own process; started by the bench
    #[command(hide = true)]
    InstancesRoom { component: PathBuf, instances: u32, core: usize },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Mode::FloorNode { sockets, seconds, core }) = options.mode {
        return floor::serve(sockets, Duration::from_secs(seconds), core);
    }
    if let Some(Mode::InstancesRoom { component, instances, core }) = &options.mode {
        return instances::hold(component, *instances, *core);
    }
    let files = machine::raise_open_files().context("RLIMIT_NOFILE")?;
    let cores = std::thread::available_parallelism()?.get();
    if options.node_core == options.generator_core || options.node_core.max(options.generator_core) >= cores {
        bail!("node and generator need a core each; this machine has {cores}");
    }
    machine::pin(options.generator_core).context("pinning the generator")?;
    // Its clock is the yardstick: what the kernel writes to disk meanwhile must not be in its way, as it is not in the way of real phones.
    let _ = hookswitch::net::set_priority(hookswitch::net::Priority::Media);
    println!("{cores} cores, node on {}, generator on {}, {files} open files", options.node_core, options.generator_core);

    if let Some(Mode::Soak(soak)) = &options.mode {
        return soak::run(&options, soak);
    }
    let wanted = |section: Section| options.only.is_empty() || options.only.contains(&section);
    let mut report = Report::default();
    let steal = machine::Steal::now();
    if wanted(Section::Hooks) {
        hooks::measure(&options, &mut report).context("hooks")?;
    }
    if wanted(Section::Languages) {
        languages::measure(&options, &mut report).context("languages")?;
    }
    if wanted(Section::Instances) {
        instances::measure(&options, &mut report).context("instances")?;
    }
    if wanted(Section::Uploads) {
        uploads::measure(&options, &mut report).context("uploads")?;
    }
    if wanted(Section::Isolation) {
        isolation::measure(&options, &mut report).context("isolation")?;
    }
    if wanted(Section::Commands) {
        commands::measure(&options, &mut report).context("commands")?;
    }
    if wanted(Section::Webhook) {
        webhook::measure(&options, &mut report).context("webhook")?;
    }
    if wanted(Section::Phrases) {
        phrases::measure(&options, &mut report).context("phrases")?;
    }
    let holds = [Section::Floor, Section::Held, Section::Bridged, Section::BridgedRecorded];
    let floor = match holds.into_iter().any(wanted) {
        true => Some(floor::measure(&options, &mut report).context("floor")?),
        false => None,
    };
    let held = match wanted(Section::Held) {
        true => calls::held(&options, floor, &mut report).context("held calls")?,
        false => None,
    };
    if wanted(Section::Recorded) {
        recorded::measure(&options, held, &mut report).context("recordings")?;
    }
    for (section, recorded) in [(Section::Bridged, false), (Section::BridgedRecorded, true)] {
        if wanted(section) {
            bridged::held(&options, recorded, floor, &mut report).context("bridged calls")?;
        }
    }
    if wanted(Section::Rate) {
        calls::rate(&options, &mut report).context("answered calls")?;
    }
    if wanted(Section::Setup) {
        bridged::setup(&options, &mut report).context("setup")?;
    }
    if wanted(Section::Growth) {
        calls::growth(&options, &mut report).context("growth")?;
    }
    report.add("steal", "%", steal.percent(), "time of both cores that the hypervisor took during the whole bench (/proc/stat)");
    report.print();
    report.write(&options.output)?;
    let picture = options.output.with_extension("svg");
    plot::write(&report, &picture)?;
    println!("written to {} and {}", options.output.display(), picture.display());
    Ok(())
}
