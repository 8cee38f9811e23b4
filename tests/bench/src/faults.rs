//! The second part of `make soak`: while calls are recorded, something fails, round after round: the disk is full or slow, the storage is
//! away or answers errors, the node is killed. Each round is judged by what callers said and what their recordings hold.
//!
//! The faults are those of `tests/tests/e2e/recording_faults.rs`, where each is one call's story. Start with [`run`].

use crate::generator::{Callee, Ending, FRAME_BITS, FRAME_MASK, Generator, Reach, Script, Side, State};
use crate::plan::run_for;
use crate::soak::Line;
use crate::{Options, machine, recordings};
use anyhow::{Context, Result, bail, ensure};
use hookswitch_sim::numbered::Tally;
use hookswitch_tests::faults::Shim;
use hookswitch_tests::guests;
use hookswitch_tests::node::{Node, address};
use hookswitch_tests::s3::{BUCKET, KEY_ID, S3, SECRET};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const DEMO: &str = "demo.localhost";
/// Calls of a round: some dozen recordings that fail together.
const CALLS: usize = 24;
/// Milliseconds of talk before something fails, of the fault, and after it.
const BEFORE: u64 = 2_500;
const DURING: u64 = 4_000;
const AFTER: u64 = 2_500;
/// What a call may take to end, and a recording to reach its last state and its storage, whose next try may be some tries away.
const HANG_UP: u64 = 15_000;
const SETTLED: Duration = Duration::from_secs(90);
/// Each write and sync of a slow disk.
const SLOW: Duration = Duration::from_millis(100);
const ENOSPC: i32 = 28;
/// A kill costs a second at most.
const LOST: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    StorageAway,
    StorageErrors,
    DiskFull,
    DiskSlow,
    Killed,
}

const MATRIX: [Fault; 5] = [Fault::StorageAway, Fault::StorageErrors, Fault::DiskFull, Fault::DiskSlow, Fault::Killed];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::StorageAway => "storage away",
            Fault::StorageErrors => "storage answers errors",
            Fault::DiskFull => "spool disk full",
            Fault::DiskSlow => "slow disk",
            Fault::Killed => "kill -9",
        }
    }
}

/// What became of the recordings of one fault's rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    rounds: u64,
    calls: u64,
    /// Calls that did not go on to their caller's BYE.
    cut: u64,
    recordings: u64,
    /// Recordings that are not there, or there without one last state.
    endless: u64,
    /// Whose handler was not told, or was told two things.
    untold: u64,
    /// Whose storage does not have them.
    undelivered: u64,
    /// Of which `recording verify` says what is not so.
    misjudged: u64,
    frames: u64,
    missing: u64,
    /// Milliseconds at the end that a recording lacks and does not own up to.
    lost: u64,
}

/// The verdict on all rounds.
pub struct Faults(BTreeMap<Fault, Outcome>);

impl Faults {
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (fault, o) in &self.0 {
            let mut line = |what: &str, after: u64, allowed: u64| {
                let name = format!("{}: {what}", fault.name());
                lines.push(Line { name, before: None, after: after as f64, allowed: allowed as f64 });
            };
            line("calls that did not go on", o.cut, 0);
            line("recordings without one last state", o.endless, 0);
            line("handlers not told, or told two things", o.untold, 0);
            line("recordings not delivered", o.undelivered, 0);
            line("recordings misjudged by verify", o.misjudged, 0);
            line("frames missing inside", o.missing, 0);
            line("milliseconds lost at the end", o.lost, if *fault == Fault::Killed { LOST } else { 0 });
        }
        lines
    }

    pub fn print(&self) {
        for (fault, o) in &self.0 {
            println!(
                "{}: {} rounds, {} calls, {} recordings of {} frames, {} ms lost at the end at most",
                fault.name(),
                o.rounds,
                o.calls,
                o.recordings,
                o.frames,
                o.lost
            );
        }
    }

    pub fn to_json(&self) -> Value {
        let one = |(fault, o): (&Fault, &Outcome)| {
            json!({
                "fault": fault.name(), "rounds": o.rounds, "calls": o.calls, "recordings": o.recordings, "frames": o.frames,
                "frames_missing": o.missing, "lost_ms_at_most": o.lost,
            })
        };
        self.0.iter().map(one).collect()
    }
}

/// A node whose surroundings fail.
struct Site {
    node: Node,
    s3: S3,
    shim: Shim,
    core: usize,
}

/// Rounds for so long, and each fault once at least.
pub fn run(options: &Options, minutes: f64) -> Result<Faults> {
    ensure!(std::env::var_os("HOOKSWITCH_BIN").is_some(), "HOOKSWITCH_BIN is needed: faults start the node by themselves");
    let shim = Shim::new();
    // Not at the generator's priority, which threads inherit.
    let s3 = nicely(|| S3::start(address()));
    let mut environment = shim.environment();
    environment.push(("HOOKSWITCH_STORAGE_SECRET", SECRET));
    let node = Node::demo_on(guests::component("witness", 0), &environment, &[]);
    drop(environment);
    let mut site = Site { node, s3, shim, core: options.node_core };
    site.confine()?;
    let url = format!("s3://{BUCKET}/in");
    let set = ["tenant", "storage", "set", DEMO, &url, "--endpoint", &site.s3.endpoint(), "--key-id", KEY_ID, "--every"];
    ensure!(site.node.cli(&set).status == Some(0), "the storage could not be set");
    println!("\nfaults: {minutes} minutes, {CALLS} calls a round");
    let (began, time) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut outcomes: BTreeMap<Fault, Outcome> = BTreeMap::new();
    for fault in MATRIX.into_iter().cycle() {
        if began.elapsed() >= time && outcomes.len() == MATRIX.len() {
            break;
        }
        site.round(fault, outcomes.entry(fault).or_default()).with_context(|| format!("{}: {}", fault.name(), site.end_of_log()))?;
    }
    Ok(Faults(outcomes))
}

/// Not at the generator's priority, which what it starts inherits.
pub fn nicely<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    let run = || {
        machine::be_nice();
        what()
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Site {
    /// To the node's core: it was started by a process that has another one.
    fn confine(&self) -> Result<()> {
        let (core, pid) = (self.core.to_string(), self.node.pid().to_string());
        let moved = Command::new("taskset").args(["-acp", &core, &pid]).output().context("taskset (util-linux)")?;
        ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr));
        Ok(())
    }

    fn end_of_log(&self) -> String {
        let log = self.node.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("the node's log ends with:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn break_it(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::StorageAway => self.s3.go_away(),
            Fault::StorageErrors => self.s3.answers(503),
            Fault::DiskFull => {
                self.shim.below(&self.node.data().join("spool"));
                self.shim.refuse(ENOSPC);
            }
            Fault::DiskSlow => self.shim.hold(SLOW),
            Fault::Killed => {
                self.node.kill();
                self.node.start();
                self.confine()?;
            }
        }
        Ok(())
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::StorageAway => nicely(|| self.s3.come_back()),
            Fault::StorageErrors => self.s3.works(),
            Fault::DiskFull => {
                self.shim.refuse(0);
                self.shim.below(Path::new(""));
            }
            Fault::DiskSlow => self.shim.hold(Duration::ZERO),
            Fault::Killed => {}
        }
    }

    fn round(&mut self, fault: Fault, outcome: &mut Outcome) -> Result<()> {
        let mut generator = Generator::new(self.node.sip(), CALLS)?;
        let mut step = generator.due();
        for call in 0..CALLS {
            generator.begin(call, Script { reach: Reach::Number("wav"), callee: Callee::Answer })?;
            run_for(&mut generator, &mut step, 20)?;
        }
        run_for(&mut generator, &mut step, BEFORE)?;
        ensure!(generator.count(State::Talking) == CALLS, "{} of {CALLS} calls are up", generator.count(State::Talking));
        // A frame that was said when the node was killed is one that it may have lost.
        let mut said = generator.said();
        self.break_it(fault)?;
        if fault == Fault::Killed {
            // Its calls are over and it does not know them: their BYEs would only be answered 481.
            drop(generator);
        } else {
            run_for(&mut generator, &mut step, DURING)?;
            if !matches!(fault, Fault::StorageAway | Fault::StorageErrors) {
                self.mend(fault);
            }
            run_for(&mut generator, &mut step, AFTER)?;
            said = generator.said();
            (0..CALLS).for_each(|call| generator.release(call, Side::Caller));
            let until = step + HANG_UP;
            while step < until && !(0..CALLS).all(|call| generator.is_over(call)) {
                run_for(&mut generator, &mut step, 100)?;
            }
            outcome.cut += (0..CALLS).filter(|call| generator.ending(*call, Side::Caller) != Some(Ending::Ours)).count() as u64;
            // What was to be delivered meanwhile was not.
            run_for(&mut generator, &mut step, 1_000)?;
            self.mend(fault);
        }
        outcome.rounds += 1;
        outcome.calls += CALLS as u64;
        self.judge(fault, &said, outcome)
    }

    /// Waits for the round's recordings, looks at each, and removes it.
    fn judge(&self, fault: Fault, said: &[u32], outcome: &mut Outcome) -> Result<()> {
        let until = Instant::now() + SETTLED;
        let settled = |row: &Value| row["state"] == "available" || row["state"] == "failed";
        let rows = loop {
            let rows = self.node.recordings();
            let ready = rows.len() >= CALLS && rows.iter().all(settled);
            if (ready && rows.iter().all(|row| self.delivered(row))) || Instant::now() > until {
                break rows;
            }
            thread::sleep(Duration::from_millis(500));
        };
        outcome.endless += (CALLS.abs_diff(rows.len()) + rows.iter().filter(|row| !settled(row)).count()) as u64;
        let logs = self.node.cli(&["guest", "logs", "--domain", DEMO]).stdout;
        for row in &rows {
            let Some(id) = row["id"].as_str() else { bail!("a recording without an id: {row}") };
            outcome.recordings += 1;
            outcome.undelivered += u64::from(!self.delivered(row));
            let words = format!("told of {id}: ");
            let mut told: Vec<&str> = logs.lines().filter_map(|line| Some(line.split_once(&words)?.1)).collect();
            told.dedup();
            outcome.untold += u64::from(told.len() != 1);
            let whole = self.node.cli(&["recording", "verify", id]).status == Some(0);
            outcome.misjudged += u64::from(whole != (fault != Fault::DiskFull) || (row["stop_reason"] == "disk_full") == whole);
            let file = self.node.fetch(id);
            let recordings::Judged { frames, missing, .. } = recordings::judge(&file, None)?;
            outcome.frames += frames;
            outcome.missing += missing;
            // One that was cut says how much it lacks.
            if fault != Fault::DiskFull {
                outcome.lost = outcome.lost.max(lost(&file, said)?);
            }
            std::fs::remove_file(&file)?;
            ensure!(self.node.cli(&["recording", "remove", id]).status == Some(0), "{id} could not be removed");
        }
        Ok(())
    }

    fn delivered(&self, row: &Value) -> bool {
        let shown = self.node.http(&format!("/{DEMO}/recordings/{}", row["id"].as_str().unwrap_or_default()));
        let shown: Value = shown.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        row["state"] == "failed" || shown["delivery"]["state"] == "available"
    }
}

/// Milliseconds between the last frame in a recording and the last that its caller said, but for those that were under way.
fn lost(file: &Path, said: &[u32]) -> Result<u64> {
    const UNDER_WAY: u32 = 5;
    let samples: Vec<i16> = hound::WavReader::open(file)?.samples::<i16>().collect::<Result<_, _>>()?;
    let last = Tally::of(&samples).last.context("no numbered frame")?;
    let said = said.get((last >> FRAME_BITS) as usize / 2).context("a speaker that there was not")?;
    Ok(u64::from(said.saturating_sub(1).saturating_sub(last & FRAME_MASK).saturating_sub(UNDER_WAY)) * 20)
}
