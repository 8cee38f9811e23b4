//! What a simulated call is told as: to people as text, to programs as JSON, and whether it is what its scenario expects.

use super::run::{Outcome, Run};
use super::scenario::Expect;
use hookswitch_wasm::limits as guest;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Share of a maximum, in percent.
fn share(used: u64, most: u64) -> f64 {
    (used as f64 * 1000.0 / most.max(1) as f64).round() / 10.0
}

pub fn text(run: &Run, outcome: &Outcome) -> String {
    let mut text = format!("seed {}\n\n{}\n\n", run.seed, run.ladder());
    let status = outcome.status.map_or_else(|| "-".into(), |status| status.to_string());
    let _ = writeln!(text, "ended: {}, {:.3} s, status {status}", outcome.reason.unwrap_or("no session"), outcome.duration.as_secs_f64());
    let _ = writeln!(text, "\n{:<16} {:>6} {:>7} {:>18} {:>9}", "HOOK", "TIMES", "FAILED", "MOST INSTRUCTIONS", "OF LIMIT");
    for (name, took) in &run.measured().hooks {
        let share = share(took.instructions, guest::HOOK_INSTRUCTIONS);
        let _ = writeln!(text, "{name:<16} {:>6} {:>7} {:>18} {share:>8.1}%", took.times, took.failed, took.instructions);
    }
    let memory = run.measured().memory;
    let (log, dropped) = run.logged();
    let most = run.memory_limit();
    let _ = writeln!(text, "memory {memory} B of {most} ({:.1}%)", share(memory as u64, most as u64));
    let _ =
        writeln!(text, "log {log} B of {} ({:.1}%), {dropped} lines dropped", guest::LOG_BYTES, share(log as u64, guest::LOG_BYTES as u64));
    for defect in &outcome.defects {
        let _ = writeln!(text, "DEFECT OF THE NODE: {defect}");
    }
    text
}

pub fn json(run: &Run, outcome: &Outcome) -> Value {
    let hooks: serde_json::Map<String, Value> = run
        .measured()
        .hooks
        .iter()
        .map(|(name, took)| {
            let share = share(took.instructions, guest::HOOK_INSTRUCTIONS);
            let took = json!({ "times": took.times, "failed": took.failed, "most_instructions": took.instructions, "percent": share });
            ((*name).to_owned(), took)
        })
        .collect();
    let (log, dropped) = run.logged();
    json!({
        "seed": run.seed,
        "ladder": run.ladder().lines().collect::<Vec<_>>(),
        "status": outcome.status,
        "reason": outcome.reason,
        "duration_ms": u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
        "hooks": hooks,
        "memory_bytes": run.measured().memory,
        "log_bytes": log,
        "log_lines_dropped": dropped,
        "defects": outcome.defects,
    })
}

/// What is not as the scenario expects it, one line each.
pub fn unexpected(expect: &Expect, run: &Run, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let shown = |status: Option<u16>| status.map_or_else(|| "none".into(), |status| status.to_string());
    if expect.status.is_some() && expect.status != outcome.status {
        found.push(format!("expect.status: {}, but it was {}", shown(expect.status), shown(outcome.status)));
    }
    if let Some(reason) = &expect.reason
        && outcome.reason != Some(reason.as_str())
    {
        found.push(format!("expect.reason: {reason}, but it was {}", outcome.reason.unwrap_or("none")));
    }
    let ladder = run.ladder();
    let mut lines = ladder.lines();
    for (n, part) in expect.lines.iter().enumerate() {
        if !lines.any(|line| line.contains(part.as_str())) {
            found.push(format!("expect.lines[{n}]: no line {}has `{part}`", if n == 0 { "" } else { "after those before it " }));
            break;
        }
    }
    if let Some(most) = expect.most_instructions {
        for (name, took) in run.measured().hooks.iter().filter(|(_, took)| took.instructions > most) {
            found.push(format!("expect.most_instructions: {most}, but {name} took {}", took.instructions));
        }
    }
    found
}
