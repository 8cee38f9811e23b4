//! `make soak`: load that rises and falls in waves, calls of every kind that end at random moments, and the question at the end whether
//! anything is left: memory, files, threads, sockets, rows, sessions, or whether a frame was lost on the way. Unlike the bench it judges.
//!
//! With `--hostile` the same waves come once more, beside a tenant that means harm (`hostile.rs`); with `--faults` things fail (`faults.rs`).
//!
//! A first wave makes what stays for good (pools, caches, the allocator's arenas); the idle node after it is what the idle node at the
//! end is compared with.

use crate::calls::LINGER;
use crate::faults::{self, Faults};
use crate::generator::{Callee, Ending, Generator, Reach, Script, Side, State};
use crate::hostile::{Harm, Hostile};
use crate::node::Node;
use crate::recordings;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args, Clone, Debug)]
pub struct Soak {
    /// How long, without the two waits for the node to be idle; 0: only what follows
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Calls at the top of a wave
    #[arg(long, default_value_t = 300)]
    calls: usize,
    /// Seconds from one top to the next
    #[arg(long, default_value_t = 60.0)]
    wave: f64,
    /// Where calls' kinds and lengths come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minutes of waves after that, on another node, beside a tenant that means harm
    #[arg(long, default_value_t = 0.0)]
    hostile: f64,
    /// Minutes of faults after that: a storage that is away or answers errors, a disk that is full or slow, kill -9
    #[arg(long, default_value_t = 0.0)]
    faults: f64,
    /// Where the JSON goes
    #[arg(long, default_value = "target/soak.json")]
    report: PathBuf,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Voicemail,
    Menu,
    Echo,
    Declined,
    Unknown,
    Cancelled,
    Bridged,
    CalleeLeaves,
    CalleeBusy,
    CalleeSilent,
}

/// How often each kind comes; those that need a bridge only where there is one.
const MIX: [(Kind, u64); 10] = [
    (Kind::Voicemail, 30),
    (Kind::Menu, 15),
    (Kind::Echo, 15),
    (Kind::Declined, 4),
    (Kind::Unknown, 3),
    (Kind::Cancelled, 3),
    (Kind::Bridged, 20),
    (Kind::CalleeLeaves, 5),
    (Kind::CalleeBusy, 3),
    (Kind::CalleeSilent, 2),
];
/// New calls a second at most: a wave, not a flood.
const NEW_A_SECOND: u64 = 100;
/// The shortest and the longest call.
const LENGTHS: (u64, u64) = (200, 25_000);
/// A call that does not end within this is stuck.
const STUCK: u64 = 40_000;
/// Recordings with missing frames whose sidecars are shown.
const SHORT: usize = 5;
const SAMPLE: Duration = Duration::from_secs(5);
/// The allocator keeps some of what was freed, and never the same: so much more than before is no leak yet.
const MEMORY_TOLERANCE: f64 = 0.05;
const MEMORY_TOLERANCE_BYTES: f64 = 8e6;
/// Files and sockets that come and go by themselves: a connection to the API, a log.
const FILE_TOLERANCE: f64 = 4.0;
/// A recording that is shorter may have ended before its caller said a whole frame.
const EMPTY_BYTES: u64 = 44 + 2 * 8_000;

impl Kind {
    fn needs_bridge(self) -> bool {
        matches!(self, Kind::Bridged | Kind::CalleeLeaves | Kind::CalleeBusy | Kind::CalleeSilent)
    }

    fn script(self) -> Script {
        let (reach, callee) = match self {
            Kind::Voicemail => (Reach::Number("voicemail"), Callee::Answer),
            Kind::Menu | Kind::Cancelled => (Reach::Number("ivr"), Callee::Answer),
            Kind::Echo => (Reach::Number("echo"), Callee::Answer),
            Kind::Declined => (Reach::Number("reject"), Callee::Answer),
            Kind::Unknown => (Reach::Number("nobody-has-this-number"), Callee::Answer),
            Kind::Bridged | Kind::CalleeLeaves => (Reach::Bridge("bridge"), Callee::Answer),
            Kind::CalleeBusy => (Reach::Bridge("bridge"), Callee::Refuse(486)),
            Kind::CalleeSilent => (Reach::Bridge("bridge"), Callee::Ring),
        };
        Script { reach, callee }
    }

    /// Whether a caller's call of this kind may end so.
    fn may_end(self, ending: Ending) -> bool {
        match self {
            // A menu that nobody answers to says goodbye by itself.
            Kind::Menu => matches!(ending, Ending::Ours | Ending::Theirs),
            Kind::Voicemail | Kind::Echo | Kind::Cancelled | Kind::Bridged | Kind::CalleeSilent => ending == Ending::Ours,
            Kind::Declined => ending == Ending::Failed(603),
            Kind::Unknown => ending == Ending::Failed(404),
            // What the caller hears of it is the handler's choice.
            Kind::CalleeLeaves => matches!(ending, Ending::Ours | Ending::Theirs),
            Kind::CalleeBusy => matches!(ending, Ending::Failed(_) | Ending::Theirs | Ending::Ours),
        }
    }
}

/// SplitMix64: calls' kinds and lengths, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % below
    }

    fn kind(&mut self, bridges: bool) -> Kind {
        let mix = || MIX.iter().filter(|(kind, _)| bridges || !kind.needs_bridge());
        let mut at = self.roll(mix().map(|(_, weight)| weight).sum());
        for (kind, weight) in mix() {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *kind,
            }
        }
        Kind::Voicemail
    }
}

#[derive(Clone, Copy)]
struct Live {
    kind: Kind,
    began: u64,
    ends: u64,
}

/// What the calls did.
#[derive(Clone, Debug, Default)]
struct Done {
    calls: BTreeMap<Kind, u64>,
    /// Endings that are not of the kind's.
    surprises: BTreeMap<String, u64>,
    frames: u64,
    missing: u64,
    repeated: u64,
}

struct Waves<'a> {
    soak: &'a Soak,
    generator: Generator,
    live: Vec<Option<Live>>,
    free: Vec<usize>,
    dice: Dice,
    bridges: bool,
    done: Done,
}

impl Waves<'_> {
    /// So many milliseconds of load, begun and ended at the bottom of a wave; then until the last call is over.
    fn run(&mut self, length: u64) -> Result<()> {
        let first = self.generator.due();
        let mut step = first;
        while step < first + length || self.free.len() < self.live.len() {
            let at = (step - first) as f64 / 1000.0;
            let height = (1.0 - (at * std::f64::consts::TAU / self.soak.wave).cos()) / 2.0;
            let wanted = if step < first + length { (self.soak.calls as f64 * height) as usize } else { 0 };
            if step.is_multiple_of(1000 / NEW_A_SECOND) && self.live.len() - self.free.len() < wanted {
                self.begin(step)?;
            }
            for call in 0..self.live.len() {
                self.look_after(call, step)?;
            }
            self.generator.step(step)?;
            step += 1;
        }
        Ok(())
    }

    /// Nobody calls; what the endpoint must repeat is repeated.
    fn rest(&mut self, length: Duration) -> Result<()> {
        let first = self.generator.due();
        for step in first..first + u64::try_from(length.as_millis())? {
            self.generator.step(step)?;
        }
        Ok(())
    }

    fn begin(&mut self, step: u64) -> Result<()> {
        let Some(call) = self.free.pop() else { return Ok(()) };
        let kind = self.dice.kind(self.bridges);
        let length = match kind {
            Kind::Cancelled => self.dice.roll(20),
            Kind::CalleeSilent => self.dice.roll(3_000),
            _ => LENGTHS.0 + self.dice.roll(LENGTHS.1 - LENGTHS.0),
        };
        self.generator.begin(call, kind.script())?;
        self.live[call] = Some(Live { kind, began: step, ends: step + length });
        Ok(())
    }

    fn look_after(&mut self, call: usize, step: u64) -> Result<()> {
        let Some(live) = self.live[call] else { return Ok(()) };
        let g = &mut self.generator;
        if g.is_over(call) {
            self.live[call] = None;
            self.free.push(call);
            self.settle(call, live.kind);
            return Ok(());
        }
        if step > live.began + LENGTHS.1 + STUCK {
            bail!(
                "a call ({:?}) does not end: caller {:?}, called {:?}",
                live.kind,
                g.state(call, Side::Caller),
                g.state(call, Side::Callee)
            );
        }
        if step < live.ends {
            return Ok(());
        }
        match live.kind {
            Kind::Cancelled | Kind::CalleeSilent => g.cancel(call),
            Kind::CalleeLeaves if g.state(call, Side::Callee) == State::Talking => g.release(call, Side::Callee),
            // He left; whether the caller is released too is the handler's choice.
            Kind::CalleeLeaves if step < live.ends + 2_000 => {}
            _ => g.release(call, Side::Caller),
        }
        Ok(())
    }

    fn settle(&mut self, call: usize, kind: Kind) {
        let done = &mut self.done;
        *done.calls.entry(kind).or_default() += 1;
        let ending = self.generator.ending(call, Side::Caller);
        if !ending.is_some_and(|ending| kind.may_end(ending)) {
            *done.surprises.entry(format!("{kind:?} ended {ending:?}")).or_default() += 1;
        }
        for side in [Side::Caller, Side::Callee] {
            let (count, gaps) = self.generator.arrived(call, side);
            done.frames += count.distinct;
            done.missing += gaps;
            done.repeated += count.repeated;
        }
    }
}

/// What the node has at a moment.
#[derive(Clone, Debug, Default)]
struct Snapshot(BTreeMap<&'static str, f64>);

/// Gauges that are zero when nothing is going on.
const GAUGES: [(&str, &str); 7] = [
    ("sessions", "hookswitch_sessions"),
    ("guest instances", "hookswitch_guest_instances"),
    ("legs", "hookswitch_legs"),
    ("sip dialogs", "hookswitch_sip_dialogs"),
    ("sip transactions", "hookswitch_sip_transactions"),
    ("recordings open", "hookswitch_recordings_open"),
    ("recording blocks in use", "hookswitch_recording_blocks_used"),
];

impl Snapshot {
    fn of(node: &Node) -> Result<Snapshot> {
        let metrics = node.metrics()?;
        let metric = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
        let mut values: BTreeMap<&'static str, f64> = GAUGES.iter().map(|(name, gauge)| (*name, metric(gauge))).collect();
        let pid = node.pid();
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).context("the node is gone")?.flatten();
        let links: Vec<String> =
            files.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect();
        values.insert("open files", links.len() as f64);
        values.insert("sockets", links.iter().filter(|link| link.starts_with("socket:")).count() as f64);
        values.insert("bound UDP ports", bound(&links)? as f64);
        values.insert("threads", std::fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64);
        values.insert("memory", node.resident()? as f64);
        values.insert("spool files", files_in(&node.data().join("spool")) as f64);
        for (name, labels) in [("completed", "completed"), ("offered", "offered")] {
            values.insert(name, metric(&format!("hookswitch_calls_total{{result=\"{labels}\"}}")));
        }
        values.insert("recordings failed", metric("hookswitch_recordings_total{result=\"failed\"}"));
        values.insert("recordings stored", metric("hookswitch_recordings_total{result=\"stored\"}"));
        values.insert("sessions panicked", metric("hookswitch_sessions_panicked_total"));
        let rows = node.rows()?;
        values.insert("rows of recordings", rows.recordings as f64);
        values.insert("rows of calls", rows.calls as f64);
        Ok(Snapshot(values))
    }

    fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }

    fn is_idle(&self) -> bool {
        GAUGES.iter().all(|(name, _)| self.get(name) == 0.0)
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// UDP sockets of the node that have a port.
fn bound(links: &[String]) -> Result<usize> {
    let inodes: std::collections::BTreeSet<&str> =
        links.iter().filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']')).collect();
    let mut count = 0;
    for table in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        count += text.lines().skip(1).filter(|line| line.split_whitespace().nth(9).is_some_and(|inode| inodes.contains(inode))).count();
    }
    Ok(count)
}

fn files_in(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

/// What the second thread saw: recordings, each judged and then removed over HTTP, so that a long run does not fill the disk.
#[derive(Default)]
struct Watched {
    recordings: u64,
    /// Over before their caller had said a frame.
    empty: u64,
    frames: u64,
    missing: u64,
    /// Silent frames put in to keep two sides together, and those of them that the recording's sidecar does not count.
    put_in: u64,
    uncounted: u64,
    /// The first of those that miss some.
    short: Vec<String>,
    unreadable: Vec<String>,
    samples: Vec<Value>,
    trouble: Option<String>,
}

fn watch(node: &Node, stop: &AtomicBool) -> Watched {
    machine::be_nice();
    let started = Instant::now();
    let (mut watched, mut next) = (Watched::default(), Duration::ZERO);
    loop {
        let last = stop.load(Ordering::Acquire);
        if started.elapsed() >= next {
            next = started.elapsed() + SAMPLE;
            match Snapshot::of(node) {
                Ok(snapshot) => watched.samples.push(json!({ "second": started.elapsed().as_secs(), "node": snapshot.to_json() })),
                Err(error) => watched.trouble = Some(format!("{error:#}")),
            }
        }
        if let Err(error) = judge_new(node, &mut watched) {
            watched.trouble = Some(format!("{error:#}"));
        }
        if last {
            return watched;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn judge_new(node: &Node, watched: &mut Watched) -> Result<()> {
    for (id, file) in node.indexed()? {
        let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
        match recordings::judge(&file, None) {
            Ok(recordings::Judged { frames, missing, put_in }) => {
                watched.frames += frames;
                watched.missing += missing;
                watched.put_in += put_in;
                watched.uncounted += put_in.saturating_sub(counted_silence(&file));
                if missing > 0 && watched.short.len() < SHORT {
                    // What the node itself says of it tells where it was lost.
                    let sidecar = std::fs::read_to_string(format!("{}.json", file.display())).unwrap_or_default();
                    watched.short.push(format!("{missing} frames missing: {}", sidecar.trim()));
                }
            }
            Err(_) if bytes < EMPTY_BYTES => watched.empty += 1,
            Err(error) => watched.unreadable.push(format!("{error:#}")),
        }
        watched.recordings += 1;
        node.remove_recording(&id)?;
    }
    Ok(())
}

/// Silent frames of both sides by the sidecar.
fn counted_silence(file: &Path) -> u64 {
    let sidecar = std::fs::read_to_string(format!("{}.json", file.display())).unwrap_or_default();
    let sidecar: Value = serde_json::from_str(&sidecar).unwrap_or_default();
    ["speak", "heard"].iter().filter_map(|side| sidecar["recording"][side]["silence"].as_u64()).sum()
}

/// One line of the verdict.
pub struct Line {
    pub name: String,
    pub before: Option<f64>,
    pub after: f64,
    pub allowed: f64,
}

impl Line {
    fn holds(&self) -> bool {
        self.after <= self.allowed
    }
}

/// What became of the waves on one node.
struct Part {
    lines: Vec<Line>,
    done: Done,
    watched: Watched,
    harm: Option<Harm>,
}

pub fn run(options: &Options, soak: &Soak) -> Result<()> {
    let part = |minutes: f64, hostile| (minutes > 0.0).then(|| part(options, soak, minutes, hostile)).transpose();
    let waves = part(soak.minutes, false)?;
    let mut hostile = part(soak.hostile, true)?;
    for line in hostile.iter_mut().flat_map(|part| &mut part.lines) {
        line.name.insert_str(0, "beside a hostile tenant: ");
    }
    let faults = if soak.faults > 0.0 { Some(faults::run(options, soak.faults)?) } else { None };
    conclude(soak, waves.as_ref(), hostile.as_ref(), faults.as_ref())
}

/// Waves on a node of their own.
fn part(options: &Options, soak: &Soak, minutes: f64, hostile: bool) -> Result<Part> {
    let node = Node::start(options)?;
    let bridges = bridges(&node)?;
    println!(
        "soak: {minutes} minutes{}, waves of {} s with up to {} calls, seed {}; {}",
        if hostile { " beside a hostile tenant" } else { "" },
        soak.wave,
        soak.calls,
        soak.seed,
        match bridges {
            true => "bridged calls included",
            false => "no bridged calls: the node refuses the number `bridge`",
        }
    );
    let mut waves = Waves {
        soak,
        generator: Generator::new(node.sip(), soak.calls)?,
        live: vec![None; soak.calls],
        free: (0..soak.calls).rev().collect(),
        dice: Dice(soak.seed),
        bridges,
        done: Done::default(),
    };
    let tenant = hostile.then(|| Hostile::move_in(&node, options)).transpose()?;
    let mut harm = Harm::default();
    let whole = minutes * 60_000.0;
    let first = (soak.wave * 1000.0).min(whole / 2.0);
    let (stop, steal, cpu, began) = (AtomicBool::new(false), machine::Steal::now(), node.cpu()?, Instant::now());
    let (ran, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&node, &stop));
        let ran = (|| {
            beside(tenant.as_ref(), &mut harm, || waves.run(first as u64))?;
            let before = idle(&node, &mut waves)?;
            println!("first wave over: {} calls, {:.1} MB idle", waves.done.calls.values().sum::<u64>(), before.get("memory") / 1e6);
            beside(tenant.as_ref(), &mut harm, || waves.run((whole - first) as u64))?;
            let after = idle(&node, &mut waves)?;
            anyhow::Ok((before, after))
        })();
        stop.store(true, Ordering::Release);
        (ran, watcher.join())
    });
    let watched = watched.map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
    let (before, _) = ran.with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
    // Once more, after the watcher removed the last recordings.
    let after = Snapshot::of(&node)?;
    let lines = verdict(&before, &after, &waves, &watched);
    let load = (node.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("node {:.0} % of its core on average, steal {:.1} %", load * 100.0, steal.percent());
    Ok(Part { lines, done: waves.done, watched, harm: hostile.then_some(harm) })
}

/// While the hostile tenant, where there is one, does what it can.
fn beside(tenant: Option<&Hostile<'_>>, harm: &mut Harm, load: impl FnOnce() -> Result<()>) -> Result<()> {
    let Some(tenant) = tenant else { return load() };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let raging = scope.spawn(|| tenant.rage(&stop));
        let loaded = load();
        stop.store(true, Ordering::Release);
        harm.add(&raging.join().map_err(|_| anyhow::anyhow!("the hostile tenant panicked"))??);
        loaded
    })
}

/// Says what was found, and fails when it is not what it should be.
fn conclude(soak: &Soak, waves: Option<&Part>, hostile: Option<&Part>, faults: Option<&Faults>) -> Result<()> {
    let parts = [waves, hostile];
    let parts = || parts.into_iter().flatten();
    let of_faults = faults.map_or_else(Vec::new, Faults::lines);
    let lines: Vec<&Line> = parts().flat_map(|part| &part.lines).chain(&of_faults).collect();
    print(&lines);
    parts().for_each(Part::print);
    faults.iter().for_each(|faults| faults.print());
    write(soak, &lines, waves, hostile, faults)?;
    println!("written to {}", soak.report.display());
    let broken: Vec<&str> = lines.iter().filter(|line| !line.holds()).map(|line| line.name.as_str()).collect();
    if !broken.is_empty() {
        bail!("not clean: {}", broken.join(", "));
    }
    println!("clean: nothing is left behind, nothing was lost");
    Ok(())
}

/// Whether the demo's number `bridge` leads to somebody.
fn bridges(node: &Node) -> Result<bool> {
    let mut generator = Generator::new(node.sip(), 1)?;
    generator.begin(0, Kind::Bridged.script())?;
    let mut step = generator.due();
    let end = step + 5_000;
    while !generator.is_over(0) && step < end {
        if generator.is_up(0) {
            generator.release(0, Side::Caller);
        }
        generator.step(step)?;
        step += 1;
    }
    Ok(generator.counts.answered > 0 && generator.is_over(0))
}

/// The node when it has forgotten every transaction, or when it should have.
fn idle(node: &Node, waves: &mut Waves<'_>) -> Result<Snapshot> {
    let until = Instant::now() + LINGER + Duration::from_secs(20);
    loop {
        waves.rest(Duration::from_secs(2))?;
        let snapshot = Snapshot::of(node)?;
        if snapshot.is_idle() || Instant::now() > until {
            // The allocator and the database settle a moment after the last gauge.
            waves.rest(Duration::from_secs(3))?;
            return Snapshot::of(node);
        }
    }
}

fn verdict(before: &Snapshot, after: &Snapshot, waves: &Waves<'_>, watched: &Watched) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |name: &str, before: Option<f64>, after: f64, allowed: f64| {
        lines.push(Line { name: name.into(), before, after, allowed });
    };
    for (name, _) in GAUGES {
        line(name, Some(before.get(name)), after.get(name), 0.0);
    }
    for (name, tolerance) in [("open files", FILE_TOLERANCE), ("sockets", FILE_TOLERANCE), ("bound UDP ports", 0.0), ("threads", 0.0)] {
        line(name, Some(before.get(name)), after.get(name), before.get(name) + tolerance);
    }
    let memory = before.get("memory");
    line("memory", Some(memory), after.get("memory"), memory + (memory * MEMORY_TOLERANCE).max(MEMORY_TOLERANCE_BYTES));
    line("spool files", Some(before.get("spool files")), after.get("spool files"), 0.0);
    line("rows of recordings that are removed", None, after.get("rows of recordings"), 0.0);
    let unrecorded = (after.get("completed") - after.get("rows of calls")).abs();
    line("calls completed without a row, or rows without a call", None, unrecorded, 0.0);
    line("recordings stored and not found", None, (after.get("recordings stored") - watched.recordings as f64).abs(), 0.0);
    line("recordings failed", None, after.get("recordings failed"), 0.0);
    line("recordings that cannot be read", None, watched.unreadable.len() as f64, 0.0);
    line("frames missing in recordings", None, watched.missing as f64, 0.0);
    line("silent frames put in that are not counted", None, watched.uncounted as f64, 0.0);
    line("frames missing at phones", None, waves.done.missing as f64, 0.0);
    line("frames repeated at phones", None, waves.done.repeated as f64, 0.0);
    line("frames heard in another call", None, waves.generator.counts.crossed as f64, 0.0);
    line("calls that ended as they should not", None, waves.done.surprises.values().sum::<u64>() as f64, 0.0);
    line("sessions panicked", None, after.get("sessions panicked"), 0.0);
    line("looks at the node that failed", None, f64::from(u8::from(watched.trouble.is_some())), 0.0);
    lines
}

fn print(lines: &[&Line]) {
    println!("\n{:<76} {:>14} {:>14} {:>14}", "what", "after 1st wave", "at the end", "allowed");
    for line in lines {
        let before = line.before.map_or_else(String::new, |value| format!("{value:.0}"));
        println!(
            "{:<76} {before:>14} {:>14.0} {:>14.0}  {}",
            line.name,
            line.after,
            line.allowed,
            if line.holds() { "ok" } else { "NOT OK" }
        );
    }
}

impl Part {
    fn print(&self) {
        let Part { done, watched, harm, .. } = self;
        println!("calls: {:?}", done.calls);
        println!(
            "frames: {} at phones, {} in {} recordings ({} of them over before a word was said), {} silent ones put in",
            done.frames, watched.frames, watched.recordings, watched.empty, watched.put_in
        );
        for (surprise, times) in &done.surprises {
            println!("{surprise}: {times}");
        }
        for what in watched.short.iter().chain(watched.unreadable.iter().take(5)).chain(&watched.trouble) {
            println!("{what}");
        }
        harm.iter().for_each(|harm| println!("beside {}", harm.line()));
    }

    fn to_json(&self) -> Value {
        let Part { done, watched, harm, .. } = self;
        let kinds: BTreeMap<String, u64> = done.calls.iter().map(|(kind, calls)| (format!("{kind:?}"), *calls)).collect();
        json!({
            "calls": kinds,
            "surprises": done.surprises,
            "frames_at_phones": done.frames, "recordings": watched.recordings, "frames_recorded": watched.frames,
            "samples": watched.samples,
            "hostile": harm.as_ref().map(Harm::line),
        })
    }
}

fn write(soak: &Soak, lines: &[&Line], waves: Option<&Part>, hostile: Option<&Part>, faults: Option<&Faults>) -> Result<()> {
    let verdict: Vec<Value> = lines
        .iter()
        .map(|l| json!({ "name": l.name, "before": l.before, "after": l.after, "allowed": l.allowed, "holds": l.holds() }))
        .collect();
    let value = json!({
        "minutes": soak.minutes, "calls_at_the_top": soak.calls, "wave_seconds": soak.wave, "seed": soak.seed,
        "clean": lines.iter().all(|line| line.holds()),
        "verdict": verdict,
        "waves": waves.map(Part::to_json),
        "hostile_minutes": soak.hostile, "hostile": hostile.map(Part::to_json),
        "fault_minutes": soak.faults, "faults": faults.map(Faults::to_json),
    });
    if let Some(folder) = soak.report.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&soak.report, serde_json::to_string_pretty(&value)? + "\n").with_context(|| soak.report.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_as_often_as_they_should() {
        let mut dice = Dice(7);
        let mut count: BTreeMap<Kind, u64> = BTreeMap::new();
        for _ in 0..10_000 {
            *count.entry(dice.kind(true)).or_default() += 1;
        }
        for (kind, weight) in MIX {
            let (came, wanted) = (count.get(&kind).copied().unwrap_or(0), weight * 100);
            assert!(came.abs_diff(wanted) < wanted / 2, "{kind:?} came {came} times, not about {wanted}");
        }
        assert!((0..1000).all(|_| !dice.kind(false).needs_bridge()));
    }

    #[test]
    fn a_leak_does_not_hold() {
        let line = |after, allowed| Line { name: String::new(), before: None, after, allowed };
        assert!(line(0.0, 0.0).holds() && line(3.0, 4.0).holds());
        assert!(!line(1.0, 0.0).holds());
        assert!(!line(f64::NAN, 0.0).holds(), "a gauge that is not there proves nothing");
    }

    #[test]
    fn endings_are_judged_by_kind() {
        assert!(Kind::Declined.may_end(Ending::Failed(603)) && !Kind::Declined.may_end(Ending::Failed(500)));
        assert!(!Kind::Voicemail.may_end(Ending::Theirs) && Kind::Menu.may_end(Ending::Theirs));
    }
}
