//! `make bench`: the numbers we publish. The node has one core, the generator the other; the floor (a bare receive and send of the
//! same packets) and whatever peer is installed are measured in the same run; the share of time that the hypervisor stole is told.
//!
//! It measures, it does not judge: a number that is missed is printed like one that is reached. Start with [`main`]; `calls.rs` holds
//! what is measured against a node, `generator.rs` the telephones, `floor.rs` the floor.

mod calls;
mod floor;
mod generator;
mod hooks;
mod machine;
mod node;
mod report;
mod sipp;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use std::path::PathBuf;
use std::time::Duration;

/// Measures a node, its floor and its peers, and writes a table and a JSON file.
#[derive(Parser, Clone, Debug)]
#[command(name = "hookswitch-bench")]
pub struct Options {
    #[command(subcommand)]
    command: Option<Hidden>,
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
    /// Numbers of calls to try, in this order, until one fails twice
    #[arg(long, value_delimiter = ',', default_value = "500,1000,1500,2000,2500,3000,3500,4000")]
    pub held: Vec<usize>,
    /// How long calls are held, in seconds
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Calls set up a second before they are held
    #[arg(long, default_value_t = 200.0)]
    pub ramp: f64,
    /// Runs of what is repeated; the median counts
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Ask to verdict, beside a webhook on loopback
    Hooks,
    /// Bare receive and send
    Floor,
    /// Recorded calls held, memory a call
    Held,
    /// Answered calls a second
    Rate,
}

#[derive(Subcommand, Clone, Debug)]
enum Hidden {
    /// The floor's own process; started by the bench
    #[command(hide = true)]
    FloorNode { sockets: usize, seconds: u64, core: usize },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Hidden::FloorNode { sockets, seconds, core }) = options.command {
        return floor::serve(sockets, Duration::from_secs(seconds), core);
    }
    let files = machine::raise_open_files().context("RLIMIT_NOFILE")?;
    let cores = std::thread::available_parallelism()?.get();
    if options.node_core == options.generator_core || options.node_core.max(options.generator_core) >= cores {
        bail!("node and generator need a core each; this machine has {cores}");
    }
    machine::pin(options.generator_core).context("pinning the generator")?;
    println!("{cores} cores, node on {}, generator on {}, {files} open files", options.node_core, options.generator_core);

    let wanted = |section: Section| options.only.is_empty() || options.only.contains(&section);
    let mut report = Report::default();
    let steal = machine::Steal::now();
    if wanted(Section::Hooks) {
        hooks::measure(&options, &mut report).context("hooks")?;
    }
    let floor = match wanted(Section::Floor) || wanted(Section::Held) {
        true => Some(floor::measure(&options, &mut report).context("floor")?),
        false => None,
    };
    if wanted(Section::Held) {
        calls::held(&options, floor, &mut report).context("held calls")?;
    }
    if wanted(Section::Rate) {
        calls::rate(&options, &mut report).context("answered calls")?;
    }
    report.add("steal", "%", steal.percent(), "time of both cores that the hypervisor took during the whole bench (/proc/stat)");
    report.print();
    report.write(&options.output)?;
    println!("written to {}", options.output.display());
    Ok(())
}
