//! Ten thousand instances of the demo's handler that wait, as those of calls do: the node's guest room as the node starts it, in a process of
//! its own on the node's core, so that the process's memory is theirs.

use crate::hooks::{RESTED, Room};
use crate::report::Report;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use hookswitch_call::SessionId;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::thread;

const INSTANCES: u32 = 10_000;

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let name = "memory of the guest room, 10,000 waiting instances";
    let component = options.guests.join("menu.component.wasm");
    let mut runs = Vec::new();
    for run in 1..=options.runs() {
        let held = room(options, &component)?;
        println!("instances, run {run}: {held}");
        if held["live"] != INSTANCES {
            // It is the machine that has no room; another run has none either.
            report.add(name, "MB", None, format!("{} of {INSTANCES} instances live: {}", held["live"], held["why"].as_str().unwrap_or("")));
            return Ok(());
        }
        runs.push(held);
    }
    let middle = |field: &str| machine::median(runs.iter().filter_map(|held| held[field].as_f64()).collect()).context("a run");
    let (resident, idle) = (middle("resident")?, middle("idle")?);
    let how = format!(
        "resident, {} s after the last newCall; a process of the node's guest room alone, {:.1} MB of them before the first instance; median of {} runs",
        RESTED.as_secs(),
        idle / 1e6,
        runs.len()
    );
    report.add(name, "MB", resident / 1e6, how);
    let how = "the same, less what it was before, by instances";
    report.add("memory a waiting instance, of 10,000", "KB", (resident - idle) / f64::from(INSTANCES) / 1000.0, how);
    let how = "pieces of that process's address space (/proc/PID/maps), which the kernel bounds by vm.max_map_count";
    report.add("mappings with 10,000 instances", "mappings", middle("mappings")?, how);
    report.add("fresh instance beside 10,000 others, p99", "us", middle("p99")?, "ask to verdict of the last thousand of them");
    Ok(())
}

fn room(options: &Options, component: &Path) -> Result<Value> {
    let run = Command::new(std::env::current_exe()?)
        .arg("instances-room")
        .arg(component)
        .args([INSTANCES.to_string(), options.node_core.to_string()])
        .output()?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout)?;
    serde_json::from_str(text.trim()).with_context(|| text.clone())
}

/// In the process that [`measure`] starts: says in a line of JSON what came of it.
pub fn hold(component: &Path, instances: u32, core: usize) -> Result<()> {
    // As a node does when it starts.
    hookswitch::net::share_memory();
    // Threads started from here inherit the core.
    machine::pin(core)?;
    let bytes = std::fs::read(component).with_context(|| component.display().to_string())?;
    let room = Room::of(&bytes)?;
    let pid = std::process::id();
    // What is read in for the first instance is no part of what the thousandth costs.
    let first = SessionId { slot: 0, generation: 1 };
    room.ask(first, 1)?;
    room.end(first);
    let idle = machine::resident(pid)?;
    let (mut times, mut why) = (Vec::new(), room.warning.clone());
    for slot in 1..=instances {
        match room.ask(SessionId { slot, generation: 1 }, 1) {
            Ok(time) => times.push(time),
            Err(error) => {
                why = Some([Some(format!("{error:#}")), why].into_iter().flatten().collect::<Vec<_>>().join("; "));
                break;
            }
        }
    }
    thread::sleep(RESTED);
    let mut last: Vec<f64> = times.iter().rev().take(1000).copied().collect();
    let held = json!({
        "live": room.live(), "why": why, "idle": idle, "resident": machine::resident(pid)?, "mappings": machine::mappings(pid)?,
        "p99": machine::percentile(&mut last, 99.0),
    });
    println!("{held}");
    Ok(())
}
