//! How soon a caller hears a phrase: one that is kept beside a file of the tenant's; and what those who hear a file notice while others
//! have phrases fetched from a slow server and spoken. Calls of `tests/guests/phrases`, whose numbers are the kinds of phrases.

use crate::generator::{Callee, Generator, Reach, Script, Side};
use crate::http;
use crate::lateness::Lateness;
use crate::node::{DOMAIN, Node};
use crate::plan::{run_for, wait};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use hookswitch_tests::audio::{tone, write_wav};
use serde_json::json;
use std::thread;
use std::time::Duration;

/// Milliseconds between the calls that are measured: so few that no queue is.
const EVERY: u64 = 20;
/// Of these at a time: each is released as soon as it hears something.
const CALLS: usize = 200;
/// Milliseconds between calls with phrases that nobody has heard yet, and how many at a time: the slow server keeps each for a second.
const OTHERS_EVERY: u64 = 100;
const OTHERS: usize = 100;
const SLOW: Duration = Duration::from_secs(1);
const PATIENCE: u64 = 20_000;
const FILE: &str = "file";
/// Numbers whose phrase is kept after the first call.
const KEPT: [(&str, &str); 2] = [("fetched", "url"), ("spoken", "tts")];
/// Numbers with a phrase of each call's own.
const NEW: [&str; 2] = ["new-url", "new-tts"];

/// 99 of 100 and the middle, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Heard {
    median: f64,
    p99: f64,
    setup: f64,
    late: f64,
}

/// Runs of one kind of call.
type Runs = Vec<Heard>;
type Of = fn(&Heard) -> f64;

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let (mut file, mut kept, mut beside): (Runs, [Runs; KEPT.len()], Runs) = Default::default();
    for run in 1..=options.runs() {
        let node = start(options)?;
        let log = || format!("the node's log ends with:\n{}", node.end_of_log());
        let told = |what: &str, heard: Heard| {
            println!(
                "phrases, run {run}: {what}: {:.2} ms (median), {:.2} ms (p99) from 200 to sound; setup {:.2} ms (p99), ticks {:.3} ms late (p99)",
                heard.median, heard.p99, heard.setup, heard.late
            );
            heard
        };
        file.push(told("file", listen(options, &node, FILE, false).with_context(log)?));
        for ((number, name), runs) in KEPT.iter().zip(&mut kept) {
            runs.push(told(&format!("{name}, kept"), listen(options, &node, number, false).with_context(log)?));
        }
        beside.push(told("file, beside others", listen(options, &node, FILE, true).with_context(log)?));
    }
    let middle = |runs: &Runs, of: Of| machine::median(runs.iter().map(of).collect()).context("a run");
    let how = format!(
        "{} calls a second for {} s on a node that does nothing else, from the 200 until the first packet that is not silence, to a millisecond; median of {} runs",
        1000 / EVERY,
        options.seconds,
        file.len()
    );
    const A_FILE: &str = "a file of the tenant's";
    for (what, of) in [("median", (|heard| heard.median) as Of), ("p99", |heard| heard.p99)] {
        for ((_, name), runs) in KEPT.iter().zip(&kept) {
            report
                .add(&format!("phrases: a kept {name} is heard, {what}"), "ms", middle(runs, of)?, how.clone())
                .beside(A_FILE, middle(&file, of)?);
        }
    }
    let how = format!(
        "the same calls beside {} a second whose phrase is new: fetched from a server that takes {} s, or spoken by espeak-ng",
        1000 / OTHERS_EVERY,
        SLOW.as_secs()
    );
    let parts: [(&str, Of); 3] =
        [("a file is heard, p99", |heard| heard.p99), ("setup, p99", |heard| heard.setup), ("tick lateness, p99", |heard| heard.late)];
    for (what, of) in parts {
        report
            .add(&format!("phrases: beside new ones: {what}"), "ms", middle(&beside, of)?, how.clone())
            .beside("the same calls alone", middle(&file, of)?);
    }
    Ok(())
}

/// A node whose handler has what its phrases need.
fn start(options: &Options) -> Result<Node> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("hello.wav");
    write_wav(&path, &tone(440.0, 1.0));
    let wav = std::fs::read(&path)?;
    let served = wav.clone();
    let server = http::serve(options.generator_core, move |request| {
        if request.path().contains("slow") {
            thread::sleep(SLOW);
        }
        ("audio/wav", served.clone())
    })?;
    let node = Node::start_with(options, "phrases")?;
    node.put_prompt(DOMAIN, "hello.wav", &wav)?;
    node.put(&format!("/{DOMAIN}/guests/settings/url"), &json!({ "value": format!("http://{server}/") }))?;
    Ok(node)
}

/// Calls of one number until each hears something, beside calls of [`NEW`] or alone.
fn listen(options: &Options, node: &Node, number: &'static str, beside: bool) -> Result<Heard> {
    let script = |number| Script { reach: Reach::Number(number), callee: Callee::Answer };
    let mut g = Generator::new(node.sip(), CALLS + OTHERS)?;
    g.listens_for_sound = true;
    let mut step = g.due();
    // The first fetches and speaks.
    g.begin(0, script(number))?;
    wait(&mut g, &mut step, "something is heard", |g| !g.counts.sound.is_empty())?;
    g.release(0, Side::Caller);
    let before = Lateness::of(node)?;
    g.counts.sound.clear();
    g.counts.setup.clear();
    let end = step + options.seconds * 1000;
    let (mut sounds, mut setups, mut others) = (Vec::new(), Vec::new(), 0);
    while step < end {
        if step.is_multiple_of(EVERY)
            && let Some(call) = (0..CALLS).find(|call| g.is_over(*call))
        {
            g.begin(call, script(number))?;
        }
        if beside
            && step.is_multiple_of(OTHERS_EVERY)
            && let Some(call) = (CALLS..CALLS + OTHERS).find(|call| g.is_over(*call))
        {
            g.begin(call, script(NEW[others % NEW.len()]))?;
            others += 1;
        }
        run_for(&mut g, &mut step, 1)?;
        collect(&mut g, &mut sounds, &mut setups);
    }
    let after = Lateness::of(node)?;
    let patience = step + PATIENCE;
    while !(0..CALLS + OTHERS).all(|call| g.is_over(call)) {
        ensure!(step < patience, "not all calls end; failed {:?}", g.counts.failed);
        (CALLS..CALLS + OTHERS).for_each(|call| g.release(call, Side::Caller));
        run_for(&mut g, &mut step, 1)?;
        collect(&mut g, &mut sounds, &mut setups);
    }
    ensure!(g.counts.failed.is_empty(), "calls failed: {:?}", g.counts.failed);
    let of = |values: &mut Vec<f64>, percent| machine::percentile(values, percent).context("nothing was heard");
    Ok(Heard {
        median: of(&mut sounds, 50.0)? * 1000.0,
        p99: of(&mut sounds, 99.0)? * 1000.0,
        setup: of(&mut setups, 99.0)? * 1000.0,
        late: after.since(&before, 0.99).context("no tick was counted")?,
    })
}

/// What the measured calls heard in this step; each that heard something is released.
fn collect(g: &mut Generator, sounds: &mut Vec<f64>, setups: &mut Vec<f64>) {
    for (call, seconds) in std::mem::take(&mut g.counts.sound) {
        if call < CALLS {
            sounds.push(seconds);
        }
        g.release(call, Side::Caller);
    }
    setups.append(&mut g.counts.setup);
}
