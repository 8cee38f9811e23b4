//! The same handler in each language: how large it is, what compiling it costs, and what its answers cost a call.

use crate::report::Report;
use crate::{Options, hooks, machine};
use anyhow::{Context, Result};
use hookswitch_wasm::Engine;
use std::thread;
use std::time::Instant;

/// The menu's component in each language, and how many questions are measured: an instance of Python takes a millisecond.
const MENUS: [(&str, &str, usize); 4] =
    [("Rust", "menu", 20_000), ("C", "menu-c", 20_000), ("JavaScript", "menu-js", 5_000), ("Python", "menu-python", 2_000)];

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    for (language, name, asks) in MENUS {
        let path = options.guests.join(format!("{name}.component.wasm"));
        let component = std::fs::read(&path).with_context(|| path.display().to_string())?;
        report.add(&format!("{language}: component"), "bytes", component.len() as f64, "what is uploaded: the demo's menu");
        let (core, bytes) = (options.node_core, component.clone());
        let compiled = thread::spawn(move || -> Result<(f64, usize)> {
            machine::pin(core)?;
            let start = Instant::now();
            let code = Engine::compiler()?.compile(&bytes)?;
            Ok((start.elapsed().as_secs_f64(), code.len()))
        });
        let (seconds, code) = compiled.join().map_err(|_| anyhow::anyhow!("the compiler panicked"))??;
        report.add(&format!("{language}: compile"), "s", seconds, "once for each upload, on one core");
        report.add(&format!("{language}: native code"), "bytes", code as f64, "mapped once for each version");
        let guest = hooks::on_its_core(options, component, asks, false)?;
        let how = format!("newCall through the node's guest room on one core, two thread wake-ups included; {asks} asks");
        for (what, latency) in [("fresh instance", guest.fresh.whole), ("live instance", guest.live.whole)] {
            report.add(&format!("{language}: ask to verdict, {what}, median"), "us", latency.median, how.clone());
            report.add(&format!("{language}: ask to verdict, {what}, p99"), "us", latency.p99, how.clone());
        }
        let how = "resident memory that a waiting instance adds to the process";
        report.add(&format!("{language}: waiting instance"), "bytes", guest.held, how);
    }
    Ok(())
}
