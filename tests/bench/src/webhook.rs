//! What a decision costs that an application makes over HTTP through `guest-examples/webhook`, beside the exchange itself: the same
//! request posted to the same server from the node's core by somebody who does nothing else.

use crate::generator::{Callee, Generator, Reach, Script};
use crate::http::{self, Client};
use crate::node::{DOMAIN, Node};
use crate::plan::{run_for, wait};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds from one call to the next, and how many calls are under way at most.
const EVERY: u64 = 10;
const CALLS: usize = 400;
/// Calls before those that count: the component's first instance, the first connection.
const WARM: u64 = 200;
/// The called are busy: one decision a call, and none that is taken back by its caller.
const REFUSED: Script = Script { reach: Reach::Number("busy"), callee: Callee::Answer };
const BUSY: u16 = 486;

/// Microseconds. The node tells a sum and a number, and the upper edge of the step of its histogram that has 99 of 100.
#[derive(Clone, Copy, Debug)]
struct Taken {
    mean: f64,
    p99: f64,
}

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let (mut decided, mut alone, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs() {
        let (decision, exchange) = once(options)?;
        println!(
            "webhook, run {run}: a decision {:.0} us (mean), {:.0} us (p99); the exchange alone {:.0} us, {:.0} us",
            decision.mean, decision.p99, exchange.mean, exchange.p99
        );
        added.push(Taken { mean: decision.mean - exchange.mean, p99: decision.p99 - exchange.p99 });
        decided.push(decision);
        alone.push(exchange);
    }
    let how = format!(
        "newCall through the webhook handler, {} calls a second for {} s, from the question to the verdict by the node's own clock; the application is a thread on the other core that answers at once; median of {} runs",
        1000 / EVERY,
        options.seconds,
        added.len()
    );
    const ALONE: &str = "the same POST over a kept connection, alone";
    for (name, of) in [("mean", (|one: &Taken| one.mean) as fn(&Taken) -> f64), ("p99", |one| one.p99)] {
        let middle = |all: &[Taken]| machine::median(all.iter().map(of).collect()).context("a run");
        report.add(&format!("webhook: decision, {name}"), "us", middle(&decided)?, how.clone()).beside(ALONE, middle(&alone)?);
        report.add(&format!("webhook: what the handler adds, {name}"), "us", middle(&added)?, "the first less the second of the same run");
    }
    Ok(())
}

fn once(options: &Options) -> Result<(Taken, Taken)> {
    let question = Arc::new(Mutex::new(String::new()));
    let asked = question.clone();
    let server = http::serve(options.generator_core, move |request| {
        if request.path().ends_with("/newCall") {
            *asked.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&request.body).into_owned();
        }
        ("application/json", json!({ "action": "drop", "dropCode": "busy" }).to_string().into_bytes())
    })?;
    let node = Node::start_with(options, "webhook")?;
    let decided = decisions(options, &node, server).with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
    // Nobody else on the node's core.
    drop(node);
    let question = question.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(!question.is_empty(), "nobody was asked");
    Ok((decided, exchange(options, server, question)?))
}

/// As the node tells them; 99 of 100 are of all since its start.
fn decisions(options: &Options, node: &Node, server: SocketAddr) -> Result<Taken> {
    node.put(&format!("/{DOMAIN}/guests/settings/callback_base_url"), &json!({ "value": format!("http://{server}") }))?;
    let mut g = Generator::new(node.sip(), CALLS)?;
    let mut step = g.due();
    refuse(&mut g, &mut step, WARM)?;
    let before = told(node)?;
    let asks = options.seconds * 1000 / EVERY;
    refuse(&mut g, &mut step, asks)?;
    let after = told(node)?;
    let refused = g.counts.failed.get(&BUSY).copied().unwrap_or_default();
    ensure!(refused == WARM + asks && g.counts.failed.len() == 1, "{} calls ended so: {:?}", WARM + asks, g.counts.failed);
    Ok(Taken { mean: (after.sum - before.sum) / (after.count - before.count) * 1e6, p99: after.p99 * 1e6 })
}

fn refuse(g: &mut Generator, step: &mut u64, calls: u64) -> Result<()> {
    for _ in 0..calls {
        let call = (0..CALLS).find(|call| g.is_over(*call)).context("calls do not end")?;
        g.begin(call, REFUSED)?;
        run_for(g, step, EVERY)?;
    }
    wait(g, step, "all calls are over", |g| (0..CALLS).all(|call| g.is_over(call)))
}

/// What the node says of the decisions of its handler, in seconds.
struct Told {
    sum: f64,
    count: f64,
    p99: f64,
}

fn told(node: &Node) -> Result<Told> {
    let metrics = node.metrics()?;
    let value = |name: &str, labels: &str| {
        let name = format!("hookswitch_guest_decision_seconds{name}{{domain=\"{DOMAIN}\"{labels}}}");
        metrics.get(&name).copied().with_context(|| format!("the node does not tell {name}"))
    };
    Ok(Told { sum: value("_sum", "")?, count: value("_count", "")?, p99: value("", ",quantile=\"0.99\"")? })
}

/// At the same pace.
fn exchange(options: &Options, server: SocketAddr, question: String) -> Result<Taken> {
    let (core, asks) = (options.node_core, WARM + options.seconds * 1000 / EVERY);
    let client = thread::spawn(move || -> Result<Vec<f64>> {
        machine::pin(core)?;
        let mut client = Client::to(server)?;
        let mut times = Vec::new();
        for n in 0..asks {
            thread::sleep(Duration::from_millis(EVERY));
            let start = Instant::now();
            client.post("/newCall", "none", &question)?;
            if n >= WARM {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(times)
    });
    let mut times = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    Ok(Taken { mean, p99: machine::percentile(&mut times, 99.0).context("no measurement")? })
}
