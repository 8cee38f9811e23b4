//! From a push to calls that get it, over the API of a real node; and what the longest compilation there is, that of a Python handler, does
//! to the calls that go on meanwhile.

use crate::calls::warm;
use crate::generator::{Callee, Generator, Reach, Script, Voice};
use crate::lateness::Lateness;
use crate::node::{DOMAIN, Node};
use crate::plan::{bring_up, let_go, run_for};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use hookswitch_tests::guests::with_code;
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of what is pushed: a handler and its libraries.
const BYTES: usize = 100_000;
const PUSHES: u32 = 10;
/// Steps of a function that is filled up with, some 15 bytes each: as long as those of programs are.
const STEPS: usize = 100;
/// Recorded calls beside a compilation, where no number is asked for.
const CALLS: usize = 200;
const RECORDED: Script = Script { reach: Reach::Number("voicemail"), callee: Callee::Answer };
const PYTHON: &str = "menu-python";
/// A tenant of its own: what is compiled is not to serve the calls that are measured.
const OTHER: &str = "other.localhost";
/// Longer than a compilation at idle priority takes.
const COMPILED: Duration = Duration::from_secs(300);

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    pushed(options, report)?;
    compiled(options, report)
}

fn pushed(options: &Options, report: &mut Report) -> Result<()> {
    let node = Node::start(options)?;
    let path = options.guests.join("menu.component.wasm");
    let menu = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let function = with_code(Vec::new(), 2, STEPS, 0).len() - with_code(Vec::new(), 1, STEPS, 0).len();
    let functions = BYTES.saturating_sub(menu.len()) / function;
    let mut times = Vec::new();
    let mut bytes = 0;
    for seed in 1..=PUSHES * u32::try_from(options.runs())? {
        let component = with_code(menu.clone(), functions, STEPS, seed);
        bytes = component.len();
        let began = Instant::now();
        let status = node.push(DOMAIN, &component)?;
        times.push(began.elapsed().as_secs_f64());
        ensure!(status == 201, "a push was answered {status}");
    }
    println!("uploads: {bytes} bytes pushed to active in {times:.3?} s");
    let how = format!(
        "POST of {bytes} bytes with ?activate=true until its answer, over the API of an idle node on one core: checked, compiled in a process of its own at idle priority, stored, given to new calls; {} pushes, each of another component",
        times.len()
    );
    report.add("push of 100 KB to active, median", "s", machine::median(times.clone()), how.clone());
    report.add("push of 100 KB to active, longest", "s", times.into_iter().reduce(f64::max), how);
    Ok(())
}

fn compiled(options: &Options, report: &mut Report) -> Result<()> {
    let name = "tick lateness while a Python handler is compiled, p99";
    let path = options.guests.join(format!("{PYTHON}.component.wasm"));
    let Ok(component) = std::fs::read(&path) else {
        report.add(name, "ms", None, format!("{} is not there: `make languages` builds it", path.display()));
        return Ok(());
    };
    let calls = options.at.unwrap_or(CALLS);
    let (mut idle, mut busy, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs() {
        let node = Node::start(options)?;
        warm(options, RECORDED.reach, Voice::default(), true, &node)?;
        node.put(&format!("/admin/tenants/{OTHER}"), &json!({ "large_components": true }))?;
        let beside =
            beside(options, &node, calls, &component).with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
        println!(
            "uploads, run {run}: ticks {:.3} ms late (p99), {:.3} ms while Python was compiled, which took {:.1} s",
            beside.0, beside.1, beside.2
        );
        idle.push(beside.0);
        busy.push(beside.1);
        times.push(beside.2);
    }
    let how = format!(
        "{calls} recorded calls; {} bytes pushed by another tenant, compiled at idle priority on the node's core; median of {} runs",
        component.len(),
        busy.len()
    );
    report.add(name, "ms", machine::median(busy), how.clone()).beside_if(
        "the same calls, nothing compiled",
        machine::median(idle),
        "as long as was asked for",
    );
    report.add("push of a Python handler to active, beside these calls", "s", machine::median(times), how);
    Ok(())
}

/// Lateness before the push and during it, and how long it took.
fn beside(options: &Options, node: &Node, calls: usize, component: &[u8]) -> Result<(f64, f64, f64)> {
    let mut g = Generator::new(node.sip(), calls)?;
    let mut step = g.due();
    bring_up(&mut g, &mut step, 0..calls, RECORDED, options.ramp)?;
    run_for(&mut g, &mut step, 1_000)?;
    let before = Lateness::of(node)?;
    run_for(&mut g, &mut step, options.seconds * 1000)?;
    let between = Lateness::of(node)?;
    let began = Instant::now();
    let took = thread::scope(|scope| {
        let push = scope.spawn(|| {
            machine::be_nice();
            let status = node.push(OTHER, component)?;
            ensure!(status == 201, "the push was answered {status}");
            anyhow::Ok(began.elapsed().as_secs_f64())
        });
        while !push.is_finished() && began.elapsed() < COMPILED {
            run_for(&mut g, &mut step, 10)?;
        }
        push.join().map_err(|_| anyhow::anyhow!("who pushes panicked"))?
    })?;
    let after = Lateness::of(node)?;
    let_go(&mut g, &mut step, 0..calls, options.ramp)?;
    let late = |now: &Lateness, then: &Lateness| now.since(then, 0.99).context("no tick was counted");
    Ok((late(&between, &before)?, late(&after, &between)?, took))
}
