//! Loads: calls held while they speak, calls as fast as they can be answered, calls at a pace. What came of each is an [`Outcome`].

use crate::generator::{Callee, Counts, Generator, Reach, STEP, Script, Side, State, Voice};
use crate::hearing::Count;
use crate::machine;
use crate::subject::Subject;
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

/// What the phones do.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// So many calls, set up at this rate, all held for so long while they speak, then released.
    Hold { calls: usize, ramp: f64, hold: Duration },
    /// So many calls at a time, each released as soon as it is answered and followed by the next, for so long.
    Rate { window: usize, length: Duration },
    /// So many calls a second, each released as soon as it is answered, for so long.
    Paced { rate: f64, length: Duration },
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub counts: Counts,
    /// Answered within the counted time: the first second does not count.
    pub answered_a_second: f64,
    /// Frames that each caller said.
    pub said: Vec<u32>,
    /// Frames said while all calls were up, as they came at the other end of the call, and those that did not.
    pub frames: Count,
    pub missing: u64,
    /// RTP packets heard while all calls were up, and the number there should have been.
    pub heard: u64,
    pub heard_expected: u64,
    /// Sequence numbers that never came.
    pub heard_lost: u64,
    /// Of the one who is measured, while all calls were up or while answers were counted: share of its core, and resident bytes.
    pub load: f64,
    pub resident: u64,
    /// Processor time of its threads in that time, where it tells.
    pub threads: BTreeMap<String, Duration>,
    /// The generator's own share of its core in that time.
    pub generator_load: f64,
}

impl Outcome {
    pub fn failures(&self) -> u64 {
        self.counts.failed.values().sum()
    }

    /// Every frame of every call came exactly once and to whom it should.
    pub fn whole(&self) -> bool {
        self.failures() == 0 && self.missing == 0 && self.frames.repeated == 0 && self.counts.crossed == 0 && self.frames.heard > 0
    }
}

/// A call that has no answer after this, or no end, has none.
const PATIENCE: u64 = 20_000;
/// What was said last arrives within this, or is missing.
const DRAIN: u64 = 1_000;
/// Processes, caches and the transaction table are warm after this.
const WARM: Duration = Duration::from_secs(1);

pub fn run(plan: Plan, reach: Reach, subject: &dyn Subject) -> Result<Outcome> {
    run_as(plan, reach, Voice::default(), subject)
}

/// With phones that say something else.
pub fn run_as(plan: Plan, reach: Reach, voice: Voice, subject: &dyn Subject) -> Result<Outcome> {
    let script = Script { reach, callee: Callee::Answer };
    let mut outcome = Outcome::default();
    match plan {
        Plan::Hold { calls, ramp, hold } => {
            let mut generator = Generator::new(subject.sip(), calls)?.saying(voice);
            held(&mut generator, script, ramp, hold, subject, &mut outcome)?;
            outcome.said = generator.said();
            outcome.counts = generator.counts;
        }
        Plan::Rate { window, length } => {
            let mut generator = Generator::new(subject.sip(), window)?.saying(voice);
            rate(&mut generator, script, length, subject, &mut outcome)?;
            outcome.counts = generator.counts;
        }
        Plan::Paced { rate, length } => {
            // Calls that are not over when their phone's turn comes again are left out: at a pace that is held there are none.
            let mut generator = Generator::new(subject.sip(), (rate * 4.0).ceil().max(16.0) as usize)?.saying(voice);
            paced(&mut generator, script, rate, length)?;
            outcome.counts = generator.counts;
        }
    }
    Ok(outcome)
}

fn held(g: &mut Generator, script: Script, ramp: f64, hold: Duration, subject: &dyn Subject, outcome: &mut Outcome) -> Result<()> {
    let calls = g.calls();
    let ramp_steps = (calls as f64 / ramp * 1000.0) as u64;
    let (mut step, mut begun) = (g.due(), 0usize);
    let first = step;
    while begun < calls || !(0..calls).all(|call| g.is_up(call) || g.state(call, Side::Caller) == State::Over) {
        if step > first + ramp_steps + PATIENCE {
            let up = (0..calls).filter(|call| g.is_up(*call)).count();
            bail!("{} calls are not up; failed {:?}", calls - up, g.counts.failed);
        }
        while begun < calls && begun as f64 <= (step - first) as f64 * ramp / 1000.0 {
            g.begin(begun, script)?;
            begun += 1;
        }
        g.step(step)?;
        step += 1;
    }
    let before = g.packets();
    let threads = subject.threads();
    let (cpu, own, since) = (subject.cpu()?, machine::own_time()?, Instant::now());
    g.steady = true;
    if script.reach.has_callee() {
        g.count_frames(true);
    }
    let end = step + u64::try_from(hold.as_millis())?;
    while step < end {
        g.step(step)?;
        step += 1;
    }
    g.steady = false;
    let length = since.elapsed().as_secs_f64();
    outcome.load = (subject.cpu()? - cpu).as_secs_f64() / length;
    outcome.generator_load = (machine::own_time()? - own).as_secs_f64() / length;
    outcome.resident = subject.resident()?;
    outcome.threads = subject.threads();
    for (name, time) in &mut outcome.threads {
        // Of a pool some may have ended meanwhile.
        *time = time.saturating_sub(threads.get(name).copied().unwrap_or_default());
    }
    let (heard, lost) = g.packets();
    outcome.heard = heard - before.0;
    outcome.heard_lost = lost - before.1;
    let talking = g.count(State::Talking) * if script.reach.has_callee() { 2 } else { 1 };
    outcome.heard_expected = (length * 50.0 * talking as f64) as u64;
    if script.reach.has_callee() {
        g.count_frames(false);
        let end = step + DRAIN;
        while step < end {
            g.step(step)?;
            step += 1;
        }
        (outcome.frames, outcome.missing) = g.frames();
    }
    // Released as they came, so that the end is no storm either.
    let (first, mut ended) = (step, 0usize);
    while ended < calls || !(0..calls).all(|call| g.is_over(call)) {
        if step > first + ramp_steps + PATIENCE {
            let left = (0..calls).filter(|call| !g.is_over(*call)).count();
            bail!("{left} calls do not end; failed {:?}", g.counts.failed);
        }
        while ended < calls && ended as f64 <= (step - first) as f64 * ramp / 1000.0 {
            g.release(ended, Side::Caller);
            ended += 1;
        }
        g.step(step)?;
        step += 1;
    }
    Ok(())
}

/// So many milliseconds.
pub fn run_for(g: &mut Generator, step: &mut u64, milliseconds: u64) -> Result<()> {
    for _ in 0..milliseconds {
        g.step(*step)?;
        *step += 1;
    }
    Ok(())
}

/// Sets up calls of these numbers, so many a second, until all are up.
pub fn bring_up(g: &mut Generator, step: &mut u64, calls: Range<usize>, script: Script, ramp: f64) -> Result<()> {
    for_each(g, step, calls.clone(), ramp, |g, call| g.begin(call, script))?;
    wait(g, step, "all calls are up", |g| calls.clone().all(|call| g.is_up(call)))
}

/// Releases them as they came, so that the end is no storm, and waits until all are over.
pub fn let_go(g: &mut Generator, step: &mut u64, calls: Range<usize>, ramp: f64) -> Result<()> {
    for_each(g, step, calls.clone(), ramp, |g, call| {
        g.release(call, Side::Caller);
        Ok(())
    })?;
    wait(g, step, "all calls are over", |g| calls.clone().all(|call| g.is_over(call)))
}

/// Does it with so many calls a second.
fn for_each(
    g: &mut Generator,
    step: &mut u64,
    calls: Range<usize>,
    ramp: f64,
    act: impl Fn(&mut Generator, usize) -> Result<()>,
) -> Result<()> {
    let first = *step;
    for (n, call) in calls.enumerate() {
        act(g, call)?;
        while *step < first + ((n + 1) as f64 * 1000.0 / ramp) as u64 {
            run_for(g, step, 1)?;
        }
    }
    Ok(())
}

/// Goes on until it is so.
pub fn wait(g: &mut Generator, step: &mut u64, what: &str, is_so: impl Fn(&Generator) -> bool) -> Result<()> {
    let patience = *step + PATIENCE;
    while !is_so(g) {
        ensure!(*step < patience, "not {what}; failed {:?}", g.counts.failed);
        run_for(g, step, 1)?;
    }
    Ok(())
}

fn rate(g: &mut Generator, script: Script, length: Duration, subject: &dyn Subject, outcome: &mut Outcome) -> Result<()> {
    g.hurried = true;
    let since = Instant::now();
    for call in 0..g.calls() {
        g.begin(call, script)?;
    }
    let mut counted = None;
    while since.elapsed() < WARM + length {
        g.signal()?;
        if counted.is_none() && since.elapsed() >= WARM {
            g.counts.setup.clear();
            g.counts.ringing.clear();
            counted = Some((g.counts.answered, subject.cpu()?, machine::own_time()?, Instant::now()));
        }
        for call in 0..g.calls() {
            if g.is_over(call) {
                g.begin(call, script)?;
            }
        }
    }
    if let Some((answered, cpu, own, from)) = counted {
        let length = from.elapsed().as_secs_f64();
        outcome.answered_a_second = (g.counts.answered - answered) as f64 / length;
        outcome.load = (subject.cpu()? - cpu).as_secs_f64() / length;
        outcome.generator_load = (machine::own_time()? - own).as_secs_f64() / length;
        outcome.resident = subject.resident()?;
    }
    finish(g)
}

fn paced(g: &mut Generator, script: Script, rate: f64, length: Duration) -> Result<()> {
    g.hurried = true;
    let since = Instant::now();
    let mut begun = 0usize;
    while since.elapsed() < WARM + length {
        g.signal()?;
        if since.elapsed().as_secs_f64() * rate >= begun as f64 {
            let call = begun % g.calls();
            if g.is_over(call) {
                g.begin(call, script)?;
            }
            begun += 1;
            if begun as f64 <= rate * WARM.as_secs_f64() {
                g.counts.setup.clear();
                g.counts.ringing.clear();
            }
        }
    }
    finish(g)
}

/// What is under way is brought to its end.
fn finish(g: &mut Generator) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(PATIENCE);
    while !(0..g.calls()).all(|call| g.is_over(call)) {
        if Instant::now() > end {
            let left = (0..g.calls()).filter(|call| !g.is_over(*call)).count();
            bail!("{left} calls do not end; failed {:?}", g.counts.failed);
        }
        g.signal()?;
        thread::sleep(STEP);
    }
    Ok(())
}
