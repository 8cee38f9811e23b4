//! `hookswitch guest simulate`: a scripted call, one typed at a prompt, or one of production again. Needs no node.

use super::output::{say, say_json};
use super::{Common, Failure, Outcome};
use crate::simulate::replay::{self, Capture};
use crate::simulate::run::Run;
use crate::simulate::scenario::Scenario;
use crate::simulate::step::Step;
use crate::simulate::{self, Loaded, report};
use clap::Args;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// A component, or a handler's folder, which is built first
    #[arg(value_name = "DIR|FILE")]
    handler: PathBuf,
    /// What happens in the call; needed unless it is typed or replayed
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["interactive", "replay"])]
    scenario: Option<PathBuf>,
    /// In place of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Type what the caller does: digits, `say 3s`, `wait 5s`, `hangup`
    #[arg(long, conflicts_with_all = ["replay", "snapshot"])]
    interactive: bool,
    /// Ask the handler again what was asked in this session, as `session explain --capture` wrote it
    #[arg(long, value_name = "FILE", conflicts_with = "snapshot")]
    replay: Option<PathBuf>,
    /// Compare the ladder with this file, and fail where they differ; made if it is not there
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Write the snapshot anew
    #[arg(long, requires = "snapshot")]
    update: bool,
}

pub(super) fn simulate(common: &Common, args: SimulateArgs) -> Outcome {
    let failed = |why: String| Failure::Failed(why);
    // Looked at before anything is built.
    let scenario = args.scenario.as_deref().map(Scenario::read).transpose().map_err(failed)?;
    let capture = args.replay.as_deref().map(Capture::read).transpose().map_err(failed)?;
    let (path, component) = super::guest::component(&args.handler)?;
    let loaded = simulate::load(&component).map_err(|why| Failure::Failed(format!("{}: {why}", path.display())))?;
    if let Some(capture) = capture {
        return again(common, &capture, &loaded, scenario.as_ref(), args.seed.unwrap_or(1));
    }
    let scenario = match scenario {
        Some(scenario) => scenario,
        None => Scenario::parse("").map_err(failed)?,
    };
    let seed = args.seed.unwrap_or(scenario.seed);
    let mut run = Run::begin(&scenario, loaded, seed).map_err(|why| match &args.scenario {
        Some(file) => Failure::Failed(format!("{}: {why}", file.display())),
        None => Failure::Failed(why),
    })?;
    if args.interactive {
        return typed(&mut run, &scenario);
    }
    for step in &scenario.steps {
        run.step(step).map_err(failed)?;
    }
    let outcome = run.finish();
    if common.json { say_json(&report::json(&run, &outcome)) } else { say(&report::text(&run, &outcome)) }?;
    let unexpected = report::unexpected(&scenario.expect, &run, &outcome);
    for line in &unexpected {
        eprintln!("hookswitch: {line}");
    }
    if let Some(file) = &args.snapshot {
        compare(file, &format!("{}\n", run.ladder()), args.update)?;
    }
    if unexpected.is_empty() && outcome.defects.is_empty() { Ok(()) } else { Err(Failure::Exit(ExitCode::from(1))) }
}

fn compare(file: &Path, ladder: &str, update: bool) -> Outcome {
    let at = |error: std::io::Error| Failure::Failed(format!("{}: {error}", file.display()));
    let before = match std::fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(error)),
    };
    match before {
        Some(before) if !update => match simulate::diff(&before, ladder) {
            None => Ok(()),
            Some(diff) => {
                eprint!("{diff}");
                Err(Failure::Failed(format!("{}: the call is another one now; --update takes it", file.display())))
            }
        },
        _ => {
            std::fs::write(file, ladder).map_err(at)?;
            eprintln!("hookswitch: {} is written", file.display());
            Ok(())
        }
    }
}

fn again(common: &Common, capture: &Capture, loaded: &Loaded, scenario: Option<&Scenario>, seed: u64) -> Outcome {
    let replayed = replay::replay(capture, loaded, scenario, seed).map_err(Failure::Failed)?;
    if common.json { say_json(&replay::json(capture, &replayed)) } else { say(&replay::text(capture, &replayed)) }?;
    if replayed.differences() == 0 { Ok(()) } else { Err(Failure::Exit(ExitCode::from(1))) }
}

/// A line does something, then what came of it is shown. Only lines make time pass.
fn typed(run: &mut Run, scenario: &Scenario) -> Outcome {
    let prompt = std::io::stdin().is_terminal();
    if prompt {
        say("digits, `say 3s`, `wait 5s` (or an empty line: until the handler is asked again), `hangup`; `quit` leaves")?;
    }
    let mut shown = 0;
    for step in &scenario.steps {
        run.step(step).map_err(Failure::Failed)?;
    }
    // What the first command plays.
    run.step(&Step::Wait(std::time::Duration::from_millis(100))).map_err(Failure::Failed)?;
    show(run, &mut shown, prompt)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let line = line.trim();
        if line == "quit" || run.over() {
            break;
        }
        let step = if line.is_empty() { Ok(Step::WaitHook) } else { Step::parse(line) };
        match step.and_then(|step| run.step(&step)) {
            Ok(()) => {}
            Err(why) => say(&format!("? {why}"))?,
        }
        show(run, &mut shown, prompt)?;
        if run.over() {
            break;
        }
    }
    if !run.over() {
        run.step(&Step::HangUp { who: None }).map_err(Failure::Failed)?;
    }
    let outcome = run.finish();
    show(run, &mut shown, false)?;
    say(&format!("ended: {}, {:.3} s", outcome.reason.unwrap_or("no session"), outcome.duration.as_secs_f64()))
}

/// Lines of the ladder that have not been shown.
fn show(run: &Run, shown: &mut usize, prompt: bool) -> Outcome {
    let ladder = run.ladder();
    let lines: Vec<&str> = ladder.lines().skip(*shown).collect();
    *shown += lines.len();
    if !lines.is_empty() {
        say(&lines.join("\n"))?;
    }
    if prompt {
        use std::io::Write;
        print!("{:.3} > ", run.world.now.since(hookswitch_proto::Time::ZERO).as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}
