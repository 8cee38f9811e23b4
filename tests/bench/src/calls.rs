//! What is measured with calls: how many recorded ones a core holds without a frame missing, what one costs in memory, and how many
//! are answered a second with the handler in the path.

use crate::generator::{FRAME_BITS, Generator, Outcome, Plan};
use crate::node::Node;
use crate::report::Report;
use crate::{Options, machine, sipp};
use anyhow::{Context, Result, bail};
use hookswitch_sim::numbered::Tally;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The demo's number that beeps and records, and the one that only answers and echoes.
const RECORDED: &str = "voicemail";
const ANSWERED: &str = "echo";
/// What a caller said before the beep was over is not in the recording: so many frames at most.
const LEAD_FRAMES: u32 = 100;
/// What he said last may still be under way when his BYE arrives: so many frames at most.
const TAIL_FRAMES: u32 = 5;
/// How long finished recordings may take to be stored.
const STORE_TIME: Duration = Duration::from_secs(60);

/// Frames counted from the recordings of one run.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    recordings: usize,
    frames: u64,
    missing: u64,
}

/// Tries more and more calls until a number fails twice.
pub fn held(options: &Options, floor: Option<f64>, report: &mut Report) -> Result<()> {
    let mut best: Option<(usize, Outcome, Verdict)> = None;
    let mut memory = Vec::new();
    'numbers: for &calls in &options.held {
        for attempt in 1..=2 {
            let steal = machine::Steal::now();
            // A node that cannot set the calls up at all has failed this number, not the bench.
            let (outcome, verdict, bytes_a_call) = match hold(options, calls) {
                Ok(held) => held,
                Err(error) => {
                    println!("held {calls}: {error:#} -- not whole");
                    if attempt == 2 {
                        break 'numbers;
                    }
                    continue;
                }
            };
            let whole = verdict.missing == 0 && verdict.recordings == calls && outcome.failed.is_empty();
            println!(
                "held {calls}: {} recordings, {} frames, {} missing; failed {:?}; node {:.0} % of its core, {:.1} KB a call; heard {} of {} ({} lost); generator late {:.1} ms at most; steal {:.1} %{}",
                verdict.recordings,
                verdict.frames,
                verdict.missing,
                outcome.failed,
                outcome.node_load * 100.0,
                bytes_a_call / 1000.0,
                outcome.heard,
                outcome.heard_expected,
                outcome.heard_lost,
                outcome.late.as_secs_f64() * 1000.0,
                steal.percent(),
                if whole { "" } else { " -- not whole" },
            );
            if whole {
                memory.push((calls, bytes_a_call));
                best = Some((calls, outcome, verdict));
                continue 'numbers;
            }
            if attempt == 2 {
                break 'numbers;
            }
        }
    }
    let Some((calls, outcome, verdict)) = best else {
        report.add("recorded IVR calls held, 0 frames missing", "calls", 0.0, "not even the smallest number tried was whole");
        return Ok(());
    };
    let how = format!(
        "G.711 callers say numbered frames for {} s, each is recorded as WAV PCM16; {} frames read back from the files, {} missing, doubled or concealed; next number tried failed twice or was the last",
        options.seconds, verdict.frames, verdict.missing
    );
    match floor {
        Some(floor) => {
            report.add_beside("recorded IVR calls held, 0 frames missing", "calls", calls as f64, "floor (bare receive+send)", floor, how)
        }
        None => report.add("recorded IVR calls held, 0 frames missing", "calls", calls as f64, how),
    }
    report.add(
        "node's share of its core at that load",
        "%",
        outcome.node_load * 100.0,
        "user and system time of the process while all calls were up",
    );
    report.add(
        "RTP from the node at that load",
        "%",
        100.0 * outcome.heard as f64 / outcome.heard_expected.max(1) as f64,
        format!("packets heard of those due at 50 a second and call; {} sequence numbers never came", outcome.heard_lost),
    );
    if let Some((calls, bytes)) = memory.last() {
        report.add(
            "memory a recorded call",
            "KB",
            bytes / 1000.0,
            format!(
                "resident memory with {calls} calls up, less that of the idle node, by calls; guest included, kernel's socket memory not"
            ),
        );
    }
    Ok(())
}

/// One node, one number of calls: what the generator saw, what the recordings say, bytes a call.
fn hold(options: &Options, calls: usize) -> Result<(Outcome, Verdict, f64)> {
    let node = Node::start(options)?;
    let idle = node.resident()?;
    let plan = Plan::Hold { calls, ramp: options.ramp, hold: Duration::from_secs(options.seconds) };
    let outcome =
        Generator::new(&node, RECORDED)?.run(plan, &node).with_context(|| format!("the node's log ends with:\n{}", tail(&node.log())))?;
    let bytes = outcome.node_resident.saturating_sub(idle) as f64 / calls as f64;
    let answered = usize::try_from(outcome.answered)?;
    let started = Instant::now();
    let mut files = node.recordings()?;
    while files.len() < answered && started.elapsed() < STORE_TIME {
        thread::sleep(Duration::from_millis(200));
        files = node.recordings()?;
    }
    let mut verdict = Verdict { recordings: files.len(), ..Verdict::default() };
    for file in &files {
        // One that cannot be read, or is not a caller's, shows as all of its frames missing.
        let (frames, missing) = judge(file, &outcome.said).unwrap_or((0, u64::from(u32::MAX)));
        verdict.frames += frames;
        verdict.missing += missing;
    }
    Ok((outcome, verdict, bytes))
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Frames in a recording, and frames of its caller that are not there as he said them.
fn judge(file: &Path, said: &[u32]) -> Result<(u64, u64)> {
    let mut reader = hound::WavReader::open(file)?;
    let samples: Vec<i16> = reader.samples::<i16>().collect::<Result<_, _>>()?;
    let tally = Tally::of(&samples);
    let (Some(first), Some(last)) = (tally.first, tally.last) else { bail!("no numbered frame in {}", file.display()) };
    let (caller, mask) = (first >> FRAME_BITS, (1 << FRAME_BITS) - 1);
    let said = *said.get(caller as usize).context("a caller that there was not")?;
    if last >> FRAME_BITS != caller {
        bail!("two callers in {}", file.display());
    }
    let lead = u64::from((first & mask).saturating_sub(LEAD_FRAMES));
    let tail = u64::from(said.saturating_sub(1).saturating_sub(last & mask).saturating_sub(TAIL_FRAMES));
    // A concealed frame is a number that is missing and a frame that is foreign: it counts once.
    Ok((tally.numbered, tally.missing.max(tally.foreign) + tally.repeated + tally.disordered + lead + tail))
}

/// Answered calls a second, our generator and sipp in turn.
pub fn rate(options: &Options, report: &mut Report) -> Result<()> {
    let mut ours = Vec::new();
    let mut sipps = Vec::new();
    for run in 1..=options.runs.max(1) {
        let node = Node::start(options)?;
        let plan = Plan::Rate { window: options.window, length: Duration::from_secs(options.rate_seconds) };
        let (cpu, since) = (node.cpu()?, Instant::now());
        let outcome = Generator::new(&node, ANSWERED)?
            .run(plan, &node)
            .with_context(|| format!("the node's log ends with:\n{}", tail(&node.log())))?;
        println!(
            "answered, run {run}: {:.0} a second; failed {:?}; node {:.0} % of its core",
            outcome.answered_a_second,
            outcome.failed,
            100.0 * (node.cpu()? - cpu).as_secs_f64() / since.elapsed().as_secs_f64()
        );
        let failed: u64 = outcome.failed.values().sum();
        if failed > 0 {
            println!("{failed} calls failed: a rate with failures is no rate, this run does not count");
        } else {
            ours.push(outcome.answered_a_second);
        }
        drop(node);
        if sipp::installed() {
            let node = Node::start(options)?;
            let calls = (outcome.answered_a_second * options.rate_seconds as f64 / 2.0) as usize;
            match sipp::rate(&node, options, ANSWERED, calls.max(options.window)) {
                Ok(rate) => {
                    println!("answered, run {run}: {rate:.0} a second by sipp");
                    sipps.push(rate);
                }
                Err(error) => println!("sipp: {error:#}"),
            }
        }
    }
    let how = format!(
        "INVITE, 200, ACK, BYE, 200 with {} calls at a time; every call gets an instance of the handler and two hooks; median of {} runs of {} s, those with a failed call left out",
        options.window,
        ours.len(),
        options.rate_seconds
    );
    let value = machine::median(ours).unwrap_or(0.0);
    match machine::median(sipps) {
        Some(sipp) => report.add_beside("answered calls a second, handler in the path", "calls/s", value, "as driven by sipp", sipp, how),
        None => report.add("answered calls a second, handler in the path", "calls/s", value, how),
    }
    Ok(())
}
