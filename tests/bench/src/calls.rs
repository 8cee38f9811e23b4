//! What is measured with calls that the node answers itself: how many recorded ones a core holds without a frame missing, what one costs
//! in memory, whether memory comes back, and how many are answered a second with the handler in the path.

use crate::generator::{Reach, Voice};
use crate::node::Node;
use crate::peers::{Kind, Peer};
use crate::plan::{self, Outcome, Plan};
use crate::recorded;
use crate::recordings::{self, Verdict};
use crate::report::Report;
use crate::search::Found;
use crate::subject::Subject;
use crate::{Options, machine, sipp};
use anyhow::{Context, Result};
use hookswitch_proto::media::Codec;
use std::thread;
use std::time::{Duration, Instant};

/// The demo's number that beeps and records, and the one that only answers and echoes.
const RECORDED: Reach = Reach::Number("voicemail");
const ANSWERED: Reach = Reach::Number("echo");
/// How long finished recordings may take to be stored.
const STORE_TIME: Duration = Duration::from_secs(60);
/// How long the node remembers a transaction (RFC 3261 timer J, and some).
pub const LINGER: Duration = Duration::from_secs(40);
/// Calls after which memory must be what it was, and how fast they come.
const GROWTH_CALLS: u32 = 10_000;
const GROWTH_RATE: f64 = 400.0;

/// The number where 0 frames are missing, found by search; the median of several. As WAV PCM16 by the demo's own handler, and in the law
/// of the call. Returned: the first of the two.
pub fn held(options: &Options, floor: Option<f64>, report: &mut Report) -> Result<Option<usize>> {
    let limit = held_as(options, &Kept::DEMO, options.guess, floor, report)?;
    held_as(options, &Kept::ALAW, limit.unwrap_or(options.guess), floor, report)?;
    Ok(limit)
}

/// What becomes of what the callers say, by which handler at which number.
struct Kept {
    name: &'static str,
    handler: &'static str,
    reach: Reach,
    voice: Voice,
    how: &'static str,
}

impl Kept {
    const DEMO: Kept = Kept {
        name: "",
        handler: "menu",
        reach: RECORDED,
        voice: Voice::Numbered(Codec::Pcmu),
        how: "G.711 callers say numbered frames, each is recorded as WAV PCM16",
    };
    const ALAW: Kept = Kept {
        name: ", A-law",
        handler: recorded::HANDLER,
        reach: Reach::Number("alaw"),
        voice: Voice::Numbered(Codec::Pcma),
        how: "PCMA callers say numbered frames, each is recorded as WAV A-law, byte by byte",
    };
}

fn held_as(options: &Options, kept: &Kept, first: usize, floor: Option<f64>, report: &mut Report) -> Result<Option<usize>> {
    let what = format!("recorded IVR calls{}", kept.name);
    let mut limits = Vec::new();
    let mut best: Option<(usize, Held)> = None;
    let mut guess = first;
    for run in 1..=options.runs() {
        let found = options.search(guess).run(|calls| {
            let steal = machine::Steal::now();
            // A node that cannot set the calls up at all has failed this number, not the bench.
            let held = match hold(options, kept, calls) {
                Ok(held) => held,
                Err(error) => {
                    println!("{what}, run {run}: {calls}: {error:#} -- not whole");
                    return Ok(false);
                }
            };
            let whole = held.whole(calls);
            println!("{what}, run {run}: {calls}: {}; steal {:.1} %{}", held.line(), steal.percent(), mark(whole));
            if whole && best.as_ref().is_none_or(|(most, _)| calls >= *most) {
                best = Some((calls, held));
            }
            Ok(whole)
        })?;
        println!("{what}, run {run}: {}", told(found));
        limits.push(found.whole.unwrap_or(0) as f64);
        guess = found.whole.unwrap_or(guess);
    }
    let name = format!("recorded IVR calls held{}, 0 frames missing", kept.name);
    let Some((calls, held)) = best else {
        report.add(&name, "calls", 0.0, "not even the smallest number tried was whole");
        return Ok(None);
    };
    let how = format!(
        "{} for {} s; at {calls} calls {} frames read back from the files, {} missing, doubled or concealed; highest load found by bisection, median of {} runs",
        kept.how,
        options.seconds,
        held.verdict.frames,
        held.verdict.missing,
        limits.len()
    );
    let limit = machine::median(limits);
    let figure = report.add(&name, "calls", limit, how);
    if let Some(floor) = floor {
        figure.beside("floor (bare receive+send)", floor);
    }
    figure.beside_if(ASTERISK, None, NO_ASTERISK);
    let load = held.outcome.load * 100.0;
    report.add(
        &format!("node's share of its core at that load{}", kept.name),
        "%",
        load,
        "user and system time of the process while all calls were up",
    );
    report.add(
        &format!("RTP from the node at that load{}", kept.name),
        "%",
        100.0 * held.outcome.heard as f64 / held.outcome.heard_expected.max(1) as f64,
        format!("packets heard of those due at 50 a second and call; {} sequence numbers never came", held.outcome.heard_lost),
    );
    report.add(
        &format!("memory a recorded call{}", kept.name),
        "KB",
        held.bytes_a_call / 1000.0,
        format!("resident memory with {calls} calls up, less that of the same node after its first {WARM_CALLS}, by calls; guest included, kernel's socket memory not"),
    );
    Ok(limit.map(|limit| limit as usize))
}

pub fn mark(whole: bool) -> &'static str {
    if whole { "" } else { " -- not whole" }
}

pub fn told(found: Found) -> String {
    match (found.whole, found.broken) {
        (Some(whole), Some(broken)) => format!("{whole} is whole, {broken} is not"),
        (Some(whole), None) => format!("{whole} is whole, and more was not tried"),
        (None, _) => "no number that was tried is whole".into(),
    }
}

struct Held {
    outcome: Outcome,
    verdict: Verdict,
    bytes_a_call: f64,
}

impl Held {
    fn whole(&self, calls: usize) -> bool {
        self.verdict.missing == 0 && self.verdict.recordings == calls && self.outcome.failures() == 0
    }

    fn line(&self) -> String {
        let Held { outcome, verdict, bytes_a_call } = self;
        format!(
            "{} recordings, {} frames, {} missing; failed {:?}; node {:.0} % of its core, {:.1} KB a call; heard {} of {} ({} lost); generator {:.0} %, late {:.1} ms at most; {}",
            verdict.recordings,
            verdict.frames,
            verdict.missing,
            outcome.counts.failed,
            outcome.load * 100.0,
            bytes_a_call / 1000.0,
            outcome.heard,
            outcome.heard_expected,
            outcome.heard_lost,
            outcome.generator_load * 100.0,
            outcome.counts.late.as_secs_f64() * 1000.0,
            shares(outcome),
        )
    }
}

/// Calls before the node's memory is looked at first.
const WARM_CALLS: usize = 10;
/// What the rows of recordings may take once their files are there.
const ROWS_TIME: Duration = Duration::from_millis(500);

/// One node, one number of calls: what the generator saw, what the recordings say, bytes a call.
fn hold(options: &Options, kept: &Kept, calls: usize) -> Result<Held> {
    let node = Node::start_with(options, kept.handler)?;
    // Some calls first: what is read in of the program for the first call is no part of what the thousandth costs.
    warm(options, kept.reach, kept.voice, true, &node)?;
    let idle = node.resident()?;
    let plan = Plan::Hold { calls, ramp: options.ramp, hold: Duration::from_secs(options.seconds) };
    let outcome =
        plan::run_as(plan, kept.reach, kept.voice, &node).with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
    let bytes_a_call = outcome.resident.saturating_sub(idle) as f64 / calls as f64;
    let files = stored(&node, usize::try_from(outcome.counts.answered)?)?;
    let verdict = recordings::judge_all(&files, &outcome.said);
    Ok(Held { outcome, verdict, bytes_a_call })
}

/// A few calls, whose recordings are thrown away.
pub fn warm(options: &Options, reach: Reach, voice: Voice, recorded: bool, node: &Node) -> Result<()> {
    let few = plan::run_as(Plan::Hold { calls: WARM_CALLS, ramp: options.ramp, hold: Duration::from_secs(1) }, reach, voice, node)?;
    if !recorded {
        return Ok(());
    }
    for file in stored(node, usize::try_from(few.counts.answered)?)? {
        std::fs::remove_file(file)?;
    }
    // Their rows come after the files.
    thread::sleep(ROWS_TIME);
    Ok(())
}

/// What each kind of thread takes of a core, the largest first.
pub fn shares(outcome: &Outcome) -> String {
    let all: Duration = outcome.threads.values().sum();
    let mut shares: Vec<(&String, f64)> = outcome
        .threads
        .iter()
        .map(|(name, time)| (name, outcome.load * 100.0 * time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)))
        .filter(|(_, share)| *share >= 0.5)
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares.into_iter().map(|(name, share)| format!("{name} {share:.1} %")).collect::<Vec<_>>().join(", ")
}

/// The recordings, once there are so many or no more come.
pub fn stored(node: &Node, expected: usize) -> Result<Vec<std::path::PathBuf>> {
    let started = Instant::now();
    let mut files = node.recordings()?;
    while files.len() < expected && started.elapsed() < STORE_TIME {
        thread::sleep(Duration::from_millis(200));
        files = node.recordings()?;
    }
    Ok(files)
}

/// Answered calls a second: our generator, sipp as caller, and others who answer.
pub fn rate(options: &Options, report: &mut Report) -> Result<()> {
    let mut ours = Vec::new();
    let mut setups = Vec::new();
    let mut sipps = Vec::new();
    let peers = [Kind::Answerer, Kind::Sipp];
    let mut theirs: [Vec<f64>; 2] = Default::default();
    let mut full = [0.0f64; 3];
    let plan = Plan::Rate { window: options.window, length: Duration::from_secs(options.rate_seconds) };
    for run in 1..=options.runs() {
        let node = Node::start(options)?;
        let mut outcome = plan::run(plan, ANSWERED, &node).with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
        println!("answered, run {run}: hookswitch: {}", rate_line(&outcome));
        if outcome.failures() > 0 {
            println!("a rate with failures is no rate, this run does not count");
        } else {
            full[2] = full[2].max(outcome.generator_load);
            ours.push(outcome.answered_a_second);
            setups.extend(machine::percentile(&mut outcome.counts.setup, 99.0));
        }
        drop(node);
        if sipp::installed() {
            let node = Node::start(options)?;
            let calls = (outcome.answered_a_second * options.rate_seconds as f64 / 2.0) as usize;
            match sipp::rate(node.sip(), options, "echo", calls.max(options.window)) {
                Ok(rate) => {
                    println!("answered, run {run}: {rate:.0} a second by sipp");
                    sipps.push(rate);
                }
                Err(error) => println!("sipp: {error:#}"),
            }
        }
        for (n, (kind, rates)) in peers.iter().zip(&mut theirs).enumerate() {
            if kind.absent().is_some() {
                continue;
            }
            // A peer that fails is his own absence, not the bench's end.
            match Peer::start(*kind, options).and_then(|peer| plan::run(plan, Reach::Number("answer"), &peer)) {
                Ok(outcome) => {
                    println!("answered, run {run}: {}: {}", kind.name(), rate_line(&outcome));
                    if outcome.failures() == 0 {
                        rates.push(outcome.answered_a_second);
                        full[n] = full[n].max(outcome.generator_load);
                    }
                }
                Err(error) => println!("answered, run {run}: {}: {error:#}", kind.name()),
            }
        }
    }
    let how = format!(
        "INVITE, 200, ACK, BYE, 200 with {} calls at a time; every call gets an instance of the handler and two hooks; median of {} runs of {} s, those with a failed call left out",
        options.window,
        ours.len(),
        options.rate_seconds
    );
    let figure = report.add("answered calls a second, handler in the path", "calls/s", machine::median(ours), at_least(&how, full[2]));
    figure.beside_if(
        "the same, driven by sipp",
        machine::median(sipps),
        "calls by the whole time of the run, first and last call included",
    );
    for (n, (kind, rates)) in peers.iter().zip(theirs).enumerate() {
        let note = match kind {
            Kind::Answerer => "it keeps nothing of a call, has no media and runs no program of a tenant: what signalling alone costs",
            _ => "a test tool on one thread: a scenario, no media, no program of a tenant",
        };
        figure.beside_if(kind.name(), machine::median(rates), kind.absent().unwrap_or_else(|| at_least(note, full[n])));
    }
    figure.beside_if(ASTERISK, None, NO_ASTERISK);
    let how = "INVITE to 200 at the caller during the same runs, with the core full";
    report.add("setup at that rate, p99", "ms", machine::median(setups).map(|seconds| seconds * 1000.0), how);
    Ok(())
}

pub const ASTERISK: &str = "asterisk";
pub const NO_ASTERISK: &str = "absent: Debian 12 has no package of it";

/// Above this share of its core it is the generator that is measured.
const GENERATOR_FULL: f64 = 0.9;

/// A rate that the generator could not exceed is told as such.
pub fn at_least(note: &str, generator_load: f64) -> String {
    match generator_load > GENERATOR_FULL {
        true => format!("{note}; at least so many: the generator's core was full ({:.0} %)", generator_load * 100.0),
        false => note.into(),
    }
}

pub fn rate_line(outcome: &Outcome) -> String {
    format!(
        "{:.0} a second; failed {:?}; {:.0} % of its core, generator {:.0} %",
        outcome.answered_a_second,
        outcome.counts.failed,
        outcome.load * 100.0,
        outcome.generator_load * 100.0
    )
}

/// Resident memory of an idle node before and after many calls.
pub fn growth(options: &Options, report: &mut Report) -> Result<()> {
    let node = Node::start(options)?;
    let calls = |number: u32| {
        let plan = Plan::Paced { rate: GROWTH_RATE, length: Duration::from_secs_f64(f64::from(number) / GROWTH_RATE) };
        let outcome = plan::run(plan, ANSWERED, &node)?;
        anyhow::ensure!(outcome.failures() == 0, "calls failed: {:?}", outcome.counts.failed);
        thread::sleep(LINGER);
        anyhow::Ok((outcome.counts.answered, node.resident()?))
    };
    // The same number twice: the first one makes what stays for good, pools and caches.
    let (_, before) = calls(GROWTH_CALLS)?;
    let (answered, after) = calls(GROWTH_CALLS)?;
    println!("memory: {before} bytes idle after {GROWTH_CALLS} calls, {after} after {answered} more");
    let growth = (after as f64 - before as f64) / 1000.0;
    report.add("memory idle after 10,000 calls", "MB", before as f64 / 1e6, "resident, 40 s after the last call");
    let how = format!("resident, 40 s after {answered} more calls, less that before them");
    report.add("memory that 10,000 more calls leave behind", "KB", growth, how);
    Ok(())
}
