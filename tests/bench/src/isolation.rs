//! What a tenant's calls notice of another tenant that means harm (`hostile.rs`): the same recorded calls alone and beside it, in turn. What
//! is looked at: frames in the recordings, how late media ticks begin, and how long new calls take from INVITE to 200.

use crate::calls::{stored, warm};
use crate::generator::{Callee, Generator, Reach, Script, Side, State, Voice};
use crate::hostile::{Harm, Hostile};
use crate::lateness::Lateness;
use crate::node::Node;
use crate::plan::bring_up;
use crate::recordings;
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Recorded calls, where none are asked for: the core is neither idle nor full.
const CALLS: usize = 500;
const RUNS: usize = 5;
/// The demo's numbers: one beeps and records, one only answers.
const RECORDED: Script = Script { reach: Reach::Number("voicemail"), callee: Callee::Answer };
const ANSWERED: Script = Script { reach: Reach::Number("echo"), callee: Callee::Answer };
/// New calls in a second of which setup is told, and milliseconds between them: so few that no queue is measured.
const EVERY: u64 = 20;
/// Of these at a time: each is released as soon as it is answered.
const NEW: usize = 100;
/// Milliseconds until the hostile tenant is at its worst: calls that stay up are up, and versions come.
const WORST: u64 = 3_000;
const PATIENCE: u64 = 20_000;

/// The victim's decisions.
const DECIDED: &str = "hookswitch_guest_decision_seconds{domain=\"demo.localhost\",quantile=\"0.99\"}";

/// What one of the two was like.
#[derive(Clone, Debug, Default)]
struct Seen {
    recordings: usize,
    frames: u64,
    missing: u64,
    failed: u64,
    /// 99 of 100, in milliseconds.
    late: f64,
    setup: f64,
    /// The part of that that is its handler's decision, since the node's start.
    decided: f64,
    harm: Option<Harm>,
}

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let (calls, runs) = (options.at.unwrap_or(CALLS), options.runs.unwrap_or(RUNS).max(1));
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for (hostile, all) in [(false, &mut alone), (true, &mut beside)] {
            let steal = machine::Steal::now();
            let seen = once(options, calls, hostile)?;
            println!(
                "isolation, run {run}, {}: {} recordings, {} frames, {} missing; {} calls failed; ticks {:.3} ms late (p99), setup {:.3} ms (p99), decisions {:.3} ms (p99); steal {:.1} %{}",
                if hostile { "beside" } else { "alone" },
                seen.recordings,
                seen.frames,
                seen.missing,
                seen.failed,
                seen.late,
                seen.setup,
                seen.decided,
                steal.percent(),
                seen.harm.as_ref().map_or_else(String::new, |harm| format!("; {}", harm.line())),
            );
            all.push(seen);
        }
    }
    let sum = |all: &[Seen], of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>() as f64;
    let mut harm = Harm::default();
    beside.iter().filter_map(|seen| seen.harm.as_ref()).for_each(|one| harm.add(one));
    let how = format!(
        "{calls} recorded calls of a tenant for {} s and {} new ones a second, alone and in turn beside a tenant with every kind of hostile handler, calls that spend all the time they get, and 100 versions pushed a minute; {runs} runs of each: {}",
        options.seconds,
        1000 / EVERY,
        harm.line()
    );
    const ALONE: &str = "the same calls alone";
    report
        .add("isolation: frames missing", "frames", sum(&beside, |seen| seen.missing), how.clone())
        .beside(ALONE, sum(&alone, |seen| seen.missing));
    report
        .add("isolation: calls failed", "calls", sum(&beside, |seen| seen.failed), how.clone())
        .beside(ALONE, sum(&alone, |seen| seen.failed));
    for (what, of) in [("tick lateness", (|seen| seen.late) as fn(&Seen) -> f64), ("setup", |seen| seen.setup)] {
        let middle = |all: &[Seen]| machine::median(all.iter().map(of).collect()).context("a run");
        let (with, without) = (middle(&beside)?, middle(&alone)?);
        report.add(&format!("isolation: {what}, p99"), "ms", with, format!("median of the runs' p99; {how}")).beside(ALONE, without);
        report.add(&format!("isolation: {what}, growth"), "ms", with - without, "that less the same calls alone");
        report.add(
            &format!("isolation: {what}, growth in parts"),
            "%",
            (with / without - 1.0) * 100.0,
            "that over the same calls alone, less one",
        );
    }
    Ok(())
}

fn once(options: &Options, calls: usize, hostile: bool) -> Result<Seen> {
    let node = Node::start(options)?;
    warm(options, RECORDED.reach, Voice::default(), true, &node)?;
    let stop = AtomicBool::new(false);
    let seen = || {
        if !hostile {
            return victim(options, calls, &node, &stop, || {});
        }
        let hostile = Hostile::move_in(&node, options)?;
        thread::scope(|scope| {
            let mut raging = None;
            let seen = victim(options, calls, &node, &stop, || raging = Some(scope.spawn(|| hostile.rage(&stop))));
            // Also where a call failed before.
            stop.store(true, Ordering::Release);
            let harm = raging.map(|raging| raging.join().map_err(|_| anyhow::anyhow!("the hostile tenant panicked"))?);
            Ok(Seen { harm: harm.transpose()?, ..seen? })
        })
    };
    seen().with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))
}

/// The calls that are measured. `begin`: all of them are up; `stop`: the measurement is over.
fn victim(options: &Options, calls: usize, node: &Node, stop: &AtomicBool, begin: impl FnOnce()) -> Result<Seen> {
    let mut g = Generator::new(node.sip(), calls + NEW)?;
    let mut step = g.due();
    bring_up(&mut g, &mut step, 0..calls, RECORDED, options.ramp)?;
    begin();
    fresh(&mut g, calls, &mut step, WORST)?;
    let before = Lateness::of(node)?;
    g.counts.setup.clear();
    fresh(&mut g, calls, &mut step, options.seconds * 1000)?;
    let late = Lateness::of(node)?.since(&before, 0.99).context("no tick was counted")?;
    let setup = machine::percentile(&mut g.counts.setup, 99.0).context("no call was set up")? * 1000.0;
    let decided = node.metrics()?.get(DECIDED).copied().unwrap_or_default() * 1000.0;
    stop.store(true, Ordering::Release);
    // Released as they came, so that the end is no storm either.
    let each = 1000.0 / options.ramp;
    let patience = step + PATIENCE + (calls as f64 * each) as u64;
    let (first, mut released) = (step, 0);
    while released < calls || !(0..calls + NEW).all(|call| g.is_over(call)) {
        ensure!(step < patience, "not all calls end; failed {:?}", g.counts.failed);
        while released < calls && released as f64 * each <= (step - first) as f64 {
            g.release(released, Side::Caller);
            released += 1;
        }
        release_new(&mut g, calls);
        g.step(step)?;
        step += 1;
    }
    let failed = g.counts.failed.values().sum();
    let verdict = recordings::judge_all(&stored(node, calls)?, &g.said());
    let lost = (calls.saturating_sub(verdict.recordings)) as u64;
    // A recording that is not there has lost all that was said.
    let missing = verdict.missing + lost * u64::from(g.said().first().copied().unwrap_or(1));
    Ok(Seen { recordings: verdict.recordings, frames: verdict.frames, missing, failed, late, setup, decided, harm: None })
}

/// So many milliseconds with new calls beside those that are held.
fn fresh(g: &mut Generator, calls: usize, step: &mut u64, milliseconds: u64) -> Result<()> {
    let end = *step + milliseconds;
    while *step < end {
        if step.is_multiple_of(EVERY)
            && let Some(call) = (calls..calls + NEW).find(|call| g.is_over(*call))
        {
            g.begin(call, ANSWERED)?;
        }
        release_new(g, calls);
        g.step(*step)?;
        *step += 1;
    }
    Ok(())
}

fn release_new(g: &mut Generator, calls: usize) {
    for call in calls..calls + NEW {
        if g.state(call, Side::Caller) == State::Talking {
            g.release(call, Side::Caller);
        }
    }
}
