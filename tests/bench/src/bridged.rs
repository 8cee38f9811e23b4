//! What is measured with calls between two phones: how many a core holds without a frame missing, what being in the middle adds to
//! setup, delay and jitter. Both phones are the generator's, so that every frame that one says is looked for at the other.

use crate::calls::{ASTERISK, NO_ASTERISK, at_least, mark, rate_line, stored, told};
use crate::generator::Reach;
use crate::node::Node;
use crate::peers::{Kind, Peer};
use crate::plan::{self, Outcome, Plan};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine, recordings};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// The handler that connects and does nothing else (`tests/guests/relay`), and its two numbers.
const HANDLER: &str = "relay";
const BRIDGE: Reach = Reach::Bridge("relay");
const BRIDGE_RECORDED: Reach = Reach::Bridge("relay-recorded");
/// Of the load that is held: where jitter is told. Full load would tell how it breaks, half of it nothing.
const JITTER_LOAD: f64 = 0.8;
/// Calls a second at which setup is told: a core that has nothing else to do.
const SETUP_RATE: f64 = 50.0;

/// Who is in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Middle {
    Node { recorded: bool },
    Peer(Kind),
    Nobody,
}

impl Middle {
    fn name(self) -> &'static str {
        match self {
            Middle::Node { .. } => "hookswitch",
            Middle::Peer(kind) => kind.name(),
            Middle::Nobody => "nothing between the phones",
        }
    }

    /// Why it cannot be measured.
    fn absent(self) -> Option<String> {
        if let Middle::Peer(kind) = self { kind.absent() } else { None }
    }

    fn run(self, plan: Plan, options: &Options) -> Result<(Outcome, f64)> {
        let run = |subject: &dyn Subject, reach: Reach| -> Result<(Outcome, f64)> {
            let idle = subject.resident()?;
            let outcome = plan::run(plan, reach, subject).with_context(|| format!("its log ends with:\n{}", subject.end_of_log()))?;
            let grown = outcome.resident.saturating_sub(idle) as f64;
            Ok((outcome, grown))
        };
        match self {
            Middle::Node { recorded } => {
                let node = Node::start_with(options, HANDLER)?;
                let (mut outcome, grown) = run(&node, if recorded { BRIDGE_RECORDED } else { BRIDGE })?;
                if recorded && matches!(plan, Plan::Hold { .. }) {
                    check_recordings(&node, &mut outcome)?;
                }
                Ok((outcome, grown))
            }
            Middle::Peer(kind) => {
                let peer = Peer::start(kind, options)?;
                let (outcome, grown) = run(&peer, Reach::Proxy)?;
                if kind == (Kind::Relay { recorded: true }) {
                    let (calls, kept) = (usize::try_from(outcome.counts.answered)?, peer.kept());
                    ensure!(kept >= calls, "{kept} pcap files of {calls} calls");
                }
                Ok((outcome, grown))
            }
            Middle::Nobody => run(&Nobody, Reach::Direct),
        }
    }
}

/// One recording a call, and in those that keep the sides apart nothing missing; where they are mixed the frames cannot be read back, and
/// the recorder's own count has to do.
fn check_recordings(node: &Node, outcome: &mut Outcome) -> Result<()> {
    let calls = usize::try_from(outcome.counts.answered)?;
    let files = stored(node, calls)?;
    ensure!(files.len() == calls, "{} recordings of {calls} calls", files.len());
    let metrics = node.metrics()?;
    let count = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
    let concealed = count("hookswitch_recording_frames_total{kind=\"concealed\"}");
    let failed = count("hookswitch_recordings_total{result=\"failed\"}");
    ensure!(failed == 0.0, "{failed} recordings failed");
    outcome.missing += concealed as u64;
    for file in files {
        if hound::WavReader::open(&file)?.spec().channels == 2 {
            outcome.missing += recordings::judge(&file, None)?.missing;
        }
    }
    Ok(())
}

/// Whoever is measured when nobody is.
struct Nobody;

impl Subject for Nobody {
    fn sip(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], 9).into()
    }
    fn cpu(&self) -> Result<Duration> {
        Ok(Duration::ZERO)
    }
    fn resident(&self) -> Result<u64> {
        Ok(0)
    }
    fn log(&self) -> String {
        String::new()
    }
}

/// Calls held by the node and by its peer, in turn; then jitter at a part of what each holds.
pub fn held(options: &Options, recorded: bool, floor: Option<f64>, report: &mut Report) -> Result<()> {
    let what = if recorded { "bridged and recorded calls" } else { "bridged calls" };
    let middles = [Middle::Node { recorded }, Middle::Peer(Kind::Relay { recorded })];
    let reasons = middles.map(|middle| why_not(middle, options));
    let mut limits: [Vec<f64>; 2] = Default::default();
    let mut memory: [Option<f64>; 2] = [None; 2];
    let mut guesses = [options.guess; 2];
    for run in 1..=options.runs() {
        for (n, middle) in middles.into_iter().enumerate() {
            if let Some(why) = &reasons[n] {
                println!("{what}, run {run}: {}: {why}", middle.name());
                continue;
            }
            let found = options.search(guesses[n]).run(|calls| {
                let plan = Plan::Hold { calls, ramp: options.ramp, hold: Duration::from_secs(options.seconds) };
                let steal = machine::Steal::now();
                let (outcome, grown) = match middle.run(plan, options) {
                    Ok(result) => result,
                    Err(error) => {
                        println!("{what}, run {run}: {}: {calls}: {error:#} -- not whole", middle.name());
                        return Ok(false);
                    }
                };
                let whole = outcome.whole();
                println!(
                    "{what}, run {run}: {}: {calls}: {}; steal {:.1} %{}",
                    middle.name(),
                    line(&outcome),
                    steal.percent(),
                    mark(whole)
                );
                if whole {
                    memory[n] = Some(grown / calls as f64 / 1000.0);
                }
                Ok(whole)
            })?;
            println!("{what}, run {run}: {}: {}", middle.name(), told(found));
            limits[n].push(found.whole.unwrap_or(0) as f64);
            guesses[n] = found.whole.unwrap_or(guesses[n]);
        }
    }
    let medians = limits.map(machine::median);
    let peer = middles[1].name();
    let note = reasons[1]
        .clone()
        .unwrap_or_else(|| "no kernel module, two threads on the same core; a proxy, not a B2BUA, without a program of a tenant".into());
    let how = reasons[0].clone().unwrap_or_else(|| {
        format!("both phones say numbered frames for {} s, all of them are looked for at the other phone; highest load found by bisection, median of {} runs", options.seconds, options.runs())
    });
    let figure = report.add(&format!("{what} held, 0 frames missing"), "calls", medians[0], how);
    if let Some(floor) = floor {
        figure.beside_if("floor (bare receive+send)", Some(floor / 2.0), "a call has two legs");
    }
    figure.beside_if(peer, medians[1], note.clone()).beside_if(ASTERISK, None, NO_ASTERISK);
    let how = "resident memory with all calls of the last whole run up, less that of the idle process, by calls; both legs and the handler's instance";
    report.add(&format!("memory, {what}"), "KB", memory[0], reasons[0].clone().unwrap_or_else(|| how.into())).beside_if(
        peer,
        memory[1],
        reasons[1].clone().unwrap_or_else(|| "proportional set size of all its processes".into()),
    );
    jitter(options, what, middles, &reasons, medians, report)
}

/// What the one in the middle adds to the frames' way, at a part of the load that it holds.
fn jitter(
    options: &Options,
    what: &str,
    middles: [Middle; 2],
    reasons: &[Option<String>; 2],
    limits: [Option<f64>; 2],
    report: &mut Report,
) -> Result<()> {
    // The phones alone, with as many calls as the higher load has: the generator's own part.
    let middles = [middles[0], middles[1], Middle::Nobody];
    let load = |limit: Option<f64>| (limit.unwrap_or(0.0) * JITTER_LOAD) as usize;
    let loads = [load(limits[0]), load(limits[1]), load(limits[0]).max(load(limits[1]))];
    let mut values: [[Vec<f64>; 2]; 3] = Default::default();
    for run in 1..=options.runs() {
        for (n, (middle, calls)) in middles.into_iter().zip(loads).enumerate() {
            if calls == 0 {
                continue;
            }
            let plan = Plan::Hold { calls, ramp: options.ramp, hold: Duration::from_secs(options.seconds) };
            match middle.run(plan, options) {
                Ok((outcome, _)) => {
                    println!("jitter, run {run}: {}: {calls}: {}", middle.name(), line(&outcome));
                    values[n][0].extend(outcome.counts.jitter.percentile(99.0));
                    values[n][1].extend(outcome.counts.delay.percentile(50.0));
                }
                Err(error) => println!("jitter, run {run}: {}: {calls}: {error:#}", middle.name()),
            }
        }
    }
    let values = values.map(|both| both.map(machine::median));
    let figures = [("jitter", "p99", "difference of two neighbouring frames' times under way"), ("delay", "p50", "time under way")];
    for (at, (name, percent, what_it_is)) in figures.into_iter().enumerate() {
        let how = format!(
            "{what_it_is}, from the sending phone's stamp to the kernel's stamp at the receiving one, at {} calls, 80 % of what is held",
            loads[0]
        );
        report
            .add(&format!("{name}, {what}, {percent}"), "ms", values[0][at], reasons[0].clone().unwrap_or(how))
            .beside_if(
                middles[1].name(),
                values[1][at],
                reasons[1].clone().unwrap_or_else(|| format!("at {} calls, 80 % of what it holds", loads[1])),
            )
            .beside_if(middles[2].name(), values[2][at], format!("the generator's own part, at {} calls", loads[2]));
    }
    Ok(())
}

fn line(outcome: &Outcome) -> String {
    let percentile = |spread: &crate::hearing::Spread, percent| spread.percentile(percent).unwrap_or(0.0);
    format!(
        "{} frames, {} missing, {} repeated, {} disordered, {} crossed; failed {:?}; delay {:.2}/{:.2} ms, jitter p99 {:.2} ms; {:.0} % of its core; generator {:.0} %, late {:.1} ms at most",
        outcome.frames.heard,
        outcome.missing,
        outcome.frames.repeated,
        outcome.frames.disordered,
        outcome.counts.crossed,
        outcome.counts.failed,
        percentile(&outcome.counts.delay, 50.0),
        percentile(&outcome.counts.delay, 99.0),
        percentile(&outcome.counts.jitter, 99.0),
        outcome.load * 100.0,
        outcome.generator_load * 100.0,
        outcome.counts.late.as_secs_f64() * 1000.0,
    )
}

/// Why this one cannot be measured: not installed, or a single call does not come through.
fn why_not(middle: Middle, options: &Options) -> Option<String> {
    middle.absent().or_else(|| {
        let plan = Plan::Hold { calls: 1, ramp: 1.0, hold: Duration::from_secs(1) };
        match middle.run(plan, options) {
            Ok((outcome, _)) if outcome.whole() => None,
            Ok((outcome, _)) => Some(format!("absent: it does not bridge a single call: {}", line(&outcome))),
            Err(error) => {
                Some(format!("absent: it does not bridge a single call: {}", error.to_string().lines().next().unwrap_or_default()))
            }
        }
    })
}

/// INVITE to 180 and 200 with somebody in the middle, beside the same phones without; then bridged calls a second.
pub fn setup(options: &Options, report: &mut Report) -> Result<()> {
    let middles =
        [Middle::Node { recorded: false }, Middle::Peer(Kind::Relay { recorded: false }), Middle::Peer(Kind::Proxy), Middle::Nobody];
    let reasons = middles.map(|middle| why_not(middle, options));
    // Of 180 and of 200: p50 and p99; then bridged calls a second.
    let mut values: [[Vec<f64>; 5]; 4] = Default::default();
    let mut full = [0.0f64; 4];
    for run in 1..=options.runs() {
        for (n, middle) in middles.into_iter().enumerate() {
            if let Some(why) = &reasons[n] {
                println!("setup, run {run}: {}: {why}", middle.name());
                continue;
            }
            let length = Duration::from_secs(options.rate_seconds);
            let (mut outcome, _) = middle.run(Plan::Paced { rate: SETUP_RATE, length }, options)?;
            ensure!(outcome.failures() == 0, "{}: calls failed: {:?}", middle.name(), outcome.counts.failed);
            let counts = &mut outcome.counts;
            for (at, percent) in [(0, 50.0), (1, 99.0), (2, 50.0), (3, 99.0)] {
                let times = if at < 2 { &mut counts.ringing } else { &mut counts.setup };
                values[n][at].extend(machine::percentile(times, percent).map(|seconds| seconds * 1000.0));
            }
            println!("setup, run {run}: {}: {} calls, p50 {:.3} ms", middle.name(), counts.answered, values[n][2].last().unwrap_or(&0.0));
            if middle != Middle::Nobody {
                let (outcome, _) = middle.run(Plan::Rate { window: options.window, length }, options)?;
                println!("bridged, run {run}: {}: {}", middle.name(), rate_line(&outcome));
                if outcome.failures() == 0 {
                    values[n][4].push(outcome.answered_a_second);
                    full[n] = full[n].max(outcome.generator_load);
                }
            }
        }
    }
    let values = values.map(|kinds| kinds.map(machine::median));
    let nobody = values[3];
    let names = ["INVITE to 180", "INVITE to 180", "INVITE to 200", "INVITE to 200"];
    for (at, name) in names.into_iter().enumerate() {
        let percent = if at % 2 == 0 { "p50" } else { "p99" };
        // What is added is told of the middle alone: differences of rare events say nothing.
        let (title, base) = if at % 2 == 0 { ("added to", nobody[at].unwrap_or(0.0)) } else { ("bridged,", 0.0) };
        let how = format!(
            "at the caller, {SETUP_RATE} calls a second between two phones of the generator, median of {} runs{}",
            options.runs(),
            if at % 2 == 0 { ", less the same without anybody in the middle" } else { "" }
        );
        let figure =
            report.add(&format!("{title} {name}, {percent}"), "ms", values[0][at].map(|v| v - base), reasons[0].clone().unwrap_or(how));
        for n in [1, 2] {
            figure.beside_if(middles[n].name(), values[n][at].map(|v| v - base), reasons[n].clone().unwrap_or_else(|| "the same".into()));
        }
        figure.beside_if(ASTERISK, None, NO_ASTERISK);
    }
    let how = format!(
        "INVITE to BYE through the one in the middle, {} calls at a time, median of {} runs of {} s; both phones on the generator's core",
        options.window,
        options.runs(),
        options.rate_seconds
    );
    let figure =
        report.add("bridged calls a second", "calls/s", values[0][4], reasons[0].clone().unwrap_or_else(|| at_least(&how, full[0])));
    for n in [1, 2] {
        figure.beside_if(
            middles[n].name(),
            values[n][4],
            reasons[n].clone().unwrap_or_else(|| at_least("a proxy: no second dialog of its own, no program of a tenant", full[n])),
        );
    }
    Ok(())
}
