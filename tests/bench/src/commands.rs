//! Commands over REST beside recorded calls: how long each takes from when it is due until its answer, and whether the recordings notice.
//! Commands that end no call and change no recording: digits to a caller, and an order to mute nobody. Both go the whole way, from the API
//! through the switch to the call's session and its media thread.

use crate::calls::{stored, warm};
use crate::generator::{Callee, Generator, Reach, Script, Voice};
use crate::hooks::Latency;
use crate::http::{self, Client};
use crate::lateness::Lateness;
use crate::node::{DOMAIN, Node, TOKEN};
use crate::plan::{bring_up, let_go, run_for};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine, recordings};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Recorded calls, where none are asked for.
const CALLS: usize = 1000;
/// Commands a second.
const RATE: u32 = 1000;
/// Clients with a kept connection each, which share that.
const CLIENTS: u32 = 8;
const RECORDED: Script = Script { reach: Reach::Number("voicemail"), callee: Callee::Answer };

/// A call's session and its caller.
struct Party {
    session: String,
    participant: String,
}

struct Seen {
    times: Latency,
    commands: usize,
    refused: u64,
    frames: u64,
    missing: u64,
    failed: u64,
    /// 99 of 100, in milliseconds: before the commands and during them.
    late: (f64, f64),
    load: (f64, f64),
}

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let calls = options.at.unwrap_or(CALLS);
    let (mut seen, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=options.runs() {
        bare.push(floor(options)?);
        let one = once(options, calls)?;
        println!(
            "commands, run {run}: {} in {:.2} ms (median), {:.2} ms (p99); {} refused; {} frames, {} missing; {} calls failed; ticks {:.3} ms late (p99) before, {:.3} ms during; load {:.1} % before, {:.1} % during",
            one.commands,
            one.times.median / 1000.0,
            one.times.p99 / 1000.0,
            one.refused,
            one.frames,
            one.missing,
            one.failed,
            one.late.0,
            one.late.1,
            one.load.0 * 100.0,
            one.load.1 * 100.0,
        );
        seen.push(one);
    }
    let middle = |of: &dyn Fn(&Seen) -> f64| machine::median(seen.iter().map(of).collect()).context("a run");
    let bare = |of: &dyn Fn(&Latency) -> f64| machine::median(bare.iter().map(of).collect()).context("a run");
    let how = format!(
        "{RATE} a second for {} s beside {calls} recorded calls on the node's core: senddtmf and mute in turn, to a call each, over {CLIENTS} kept connections; from when it was due until its answer was read, median of {} runs",
        options.seconds,
        seen.len()
    );
    const BARE: &str = "a server that only answers, no calls";
    report
        .add("REST command, median", "ms", middle(&|seen| seen.times.median)? / 1000.0, how.clone())
        .beside(BARE, bare(&|bare| bare.median)? / 1000.0);
    report
        .add("REST command, p99", "ms", middle(&|seen| seen.times.p99)? / 1000.0, how.clone())
        .beside(BARE, bare(&|bare| bare.p99)? / 1000.0);
    report.add("REST commands: refused", "commands", seen.iter().map(|seen| seen.refused).sum::<u64>() as f64, how.clone());
    report.add(
        "REST commands: frames missing",
        "frames",
        seen.iter().map(|seen| seen.missing).sum::<u64>() as f64,
        format!("of {} in the recordings", seen.iter().map(|seen| seen.frames).sum::<u64>()),
    );
    report
        .add("REST commands: tick lateness, p99", "ms", middle(&|seen| seen.late.1)?, how.clone())
        .beside("the same calls before", middle(&|seen| seen.late.0)?);
    report
        .add("REST commands: node's share of its core", "%", middle(&|seen| seen.load.1)? * 100.0, how)
        .beside("the same calls before", middle(&|seen| seen.load.0)? * 100.0);
    Ok(())
}

/// The same clients ask somebody who has nothing to do, on the node's core.
fn floor(options: &Options) -> Result<Latency> {
    let server = http::serve(options.node_core, |_| ("application/json", b"{}".to_vec()))?;
    let parties = vec![Party { session: "s".into(), participant: "p".into() }];
    let (times, _) = command(options, server, &parties, &AtomicBool::new(false))?;
    Latency::of(times)
}

fn once(options: &Options, calls: usize) -> Result<Seen> {
    let node = Node::start(options)?;
    warm(options, RECORDED.reach, Voice::default(), true, &node)?;
    beside(options, calls, &node).with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))
}

fn beside(options: &Options, calls: usize, node: &Node) -> Result<Seen> {
    let mut g = Generator::new(node.sip(), calls)?;
    let mut step = g.due();
    bring_up(&mut g, &mut step, 0..calls, RECORDED, options.ramp)?;
    let parties = parties(node, calls)?;
    let length = options.seconds * 1000;
    let (idle, start, began) = (Lateness::of(node)?, node.cpu()?, Instant::now());
    run_for(&mut g, &mut step, length)?;
    let before = (node.cpu()? - start).as_secs_f64() / began.elapsed().as_secs_f64();
    let (busy, start, began) = (Lateness::of(node)?, node.cpu()?, Instant::now());
    let stop = AtomicBool::new(false);
    let (times, refused) = thread::scope(|scope| {
        let clients = scope.spawn(|| command(options, node.api(), &parties, &stop));
        let mut held = Ok(());
        while held.is_ok() && !clients.is_finished() {
            held = run_for(&mut g, &mut step, 10);
        }
        // Also where a call failed.
        stop.store(true, Ordering::Release);
        let commanded = clients.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        held.and(commanded)
    })?;
    let during = (node.cpu()? - start).as_secs_f64() / began.elapsed().as_secs_f64();
    let after = Lateness::of(node)?;
    let_go(&mut g, &mut step, 0..calls, options.ramp)?;
    let verdict = recordings::judge_all(&stored(node, calls)?, &g.said());
    // A recording that is not there has lost all that was said.
    let lost = calls.saturating_sub(verdict.recordings) as u64 * u64::from(g.said().first().copied().unwrap_or(1));
    let late = |now: &Lateness, then: &Lateness| now.since(then, 0.99).context("no tick was counted");
    Ok(Seen {
        commands: times.len(),
        times: Latency::of(times)?,
        refused,
        frames: verdict.frames,
        missing: verdict.missing + lost,
        failed: g.counts.failed.values().sum(),
        late: (late(&busy, &idle)?, late(&after, &busy)?),
        load: (before, during),
    })
}

/// Whom commands can be about.
fn parties(node: &Node, calls: usize) -> Result<Vec<Party>> {
    let listed = node.get(&format!("/{DOMAIN}/sessions?limit=1000"))?;
    let sessions = listed["sessions"].as_array().context("no sessions in the answer")?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a name");
    let parties: Vec<Party> = sessions
        .iter()
        .map(|one| Ok(Party { session: text(&one["id"])?, participant: text(&one["participant"])? }))
        .collect::<Result<_>>()?;
    ensure!(parties.len() == calls.min(1000), "{} sessions of {calls} calls", parties.len());
    Ok(parties)
}

/// Microseconds of each command, and how many were refused.
fn command(options: &Options, server: SocketAddr, parties: &[Party], stop: &AtomicBool) -> Result<(Vec<f64>, u64)> {
    let count = RATE / CLIENTS * u32::try_from(options.seconds)?;
    let every = Duration::from_secs(1) / (RATE / CLIENTS);
    let began = Instant::now() + Duration::from_millis(50);
    thread::scope(|scope| {
        let client = |number: u32| {
            let mut client = Client::to(server)?;
            let (mut times, mut refused) = (Vec::with_capacity(count as usize), 0);
            for n in 0..count {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let nth = n * CLIENTS + number;
                let party = &parties[nth as usize % parties.len()];
                let (operation, body) = match n % 2 {
                    0 => ("senddtmf", json!({ "participantId": party.participant, "digits": "5", "digitMs": 40 })),
                    _ => ("mute", json!({ "participantId": party.participant, "direction": "off" })),
                };
                let (path, body) = (format!("/admin/sessions/{}/{operation}", party.session), body.to_string());
                let due = began + every * n + Duration::from_secs(1) * number / RATE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let answer = client.post(&path, TOKEN, &body)?;
                times.push(due.elapsed().as_secs_f64() * 1e6);
                if !answer.line.starts_with("HTTP/1.1 200") {
                    if refused == 0 {
                        println!("{operation}: {}: {}", answer.line, String::from_utf8_lossy(&answer.body));
                    }
                    refused += 1;
                }
            }
            anyhow::Ok((times, refused))
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let (mut all, mut refused) = (Vec::new(), 0);
        for client in clients {
            let (times, not) = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            all.extend(times);
            refused += not;
        }
        Ok((all, refused))
    })
}
