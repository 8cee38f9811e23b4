//! What recording is worth beside the same call without it, what it writes, and what encoders and encryption take. The calls are those of
//! `tests/guests/recorder`: the called number says what becomes of the audio.

use crate::calls::{ASTERISK, NO_ASTERISK, mark, shares, warm};
use crate::generator::{Reach, Voice};
use crate::node::Node;
use crate::plan::{self, Outcome, Plan};
use crate::recordings::{self, LEAD_FRAMES, TAIL_FRAMES, Verdict};
use crate::report::Report;
use crate::subject::Subject;
use crate::{Options, machine, tones};
use anyhow::{Context, Result, ensure};
use hookswitch_proto::media::Codec;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub const HANDLER: &str = "recorder";
/// Calls at which the cost is told, where none are asked for: the core is neither idle nor full.
const COST_CALLS: usize = 1000;
/// Files that are being encoded are waited for as long as another one comes within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Smaller loads that are tried where a load is not whole, each nine tenths of the one before.
const TRIES: usize = 4;
/// The encoders' threads, by name.
const ENCODERS: &str = "encode";

/// What becomes of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Unrecorded,
    Pcm16,
    Alaw,
    Mp3,
    Opus,
    /// PCM16, encrypted at rest.
    Encrypted,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Unrecorded => "unrecorded",
            Format::Pcm16 => "WAV PCM16",
            Format::Alaw => "WAV A-law",
            Format::Mp3 => "MP3",
            Format::Opus => "Ogg Opus",
            Format::Encrypted => "WAV PCM16, encrypted",
        }
    }

    fn reach(self) -> Reach {
        Reach::Number(match self {
            Format::Unrecorded => "unrecorded",
            Format::Pcm16 | Format::Encrypted => "pcm16",
            Format::Alaw => "alaw",
            Format::Mp3 => "mp3",
            Format::Opus => "opus",
        })
    }

    fn is_lossy(self) -> bool {
        matches!(self, Format::Mp3 | Format::Opus)
    }

    fn voice(self) -> Voice {
        match self {
            Format::Alaw => Voice::Numbered(Codec::Pcma),
            Format::Mp3 | Format::Opus => Voice::Tones,
            _ => Voice::Numbered(Codec::Pcmu),
        }
    }

    fn start(self, options: &Options) -> Result<Node> {
        let settings: &[(&str, &str)] = if self == Format::Encrypted { &[("HOOKSWITCH_RECORD_ENCRYPT", "true")] } else { &[] };
        let node = Node::start_as(options, HANDLER, settings)?;
        warm(options, self.reach(), self.voice(), self != Format::Unrecorded, &node)?;
        Ok(node)
    }

    /// Encoders take their time: calls are shorter where what they said has to be encoded.
    fn plan(self, options: &Options, calls: usize) -> Plan {
        let seconds = if self.is_lossy() { options.seconds.div_ceil(2) } else { options.seconds };
        Plan::Hold { calls, ramp: options.ramp, hold: Duration::from_secs(seconds) }
    }
}

pub fn measure(options: &Options, limit: Option<usize>, report: &mut Report) -> Result<()> {
    cost(options, report)?;
    let calls = options.at.or(limit).unwrap_or(options.guess);
    for format in [Format::Pcm16, Format::Alaw, Format::Mp3, Format::Opus, Format::Encrypted] {
        stored(options, format, calls, report).with_context(|| format.name())?;
    }
    Ok(())
}

/// The same calls recorded and not, in turn.
fn cost(options: &Options, report: &mut Report) -> Result<()> {
    let calls = options.at.unwrap_or(COST_CALLS);
    let formats = [Format::Unrecorded, Format::Pcm16, Format::Alaw];
    let mut loads: [Vec<f64>; 3] = Default::default();
    for run in 1..=options.runs() {
        for (format, loads) in formats.into_iter().zip(&mut loads) {
            let node = format.start(options)?;
            let outcome = plan::run_as(format.plan(options, calls), format.reach(), format.voice(), &node)
                .with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
            ensure!(outcome.failures() == 0, "{}: calls failed: {:?}", format.name(), outcome.counts.failed);
            println!(
                "what recording adds, run {run}: {}: {calls} calls take {:.1} % of the core; {}",
                format.name(),
                outcome.load * 100.0,
                shares(&outcome)
            );
            loads.push(outcome.load);
        }
    }
    let [alone, rest @ ..] = loads.map(machine::median);
    let how = format!(
        "processor time of the node by calls and seconds, {calls} calls held for {} s in an IVR that says nothing, median of {} runs",
        options.seconds,
        options.runs()
    );
    let each = |load: f64| load * 1e6 / calls as f64;
    report.add("processor time of a call, unrecorded", "us/s", alone.map(each), how);
    for (format, load) in formats.into_iter().skip(1).zip(rest) {
        let added = load.zip(alone).map(|(load, alone)| 100.0 * (load / alone - 1.0));
        let how = format!(
            "processor time of the node's process with {calls} calls, each recorded, over that with the same calls and handler unrecorded, alternating runs, median of {}; what the kernel does later to bring pages to the disk is in neither",
            options.runs()
        );
        report.add(&format!("processor time that recording adds, {}", format.name()), "%", added, how);
        report.add(&format!("processor time of a call, {}", format.name()), "us/s", load.map(each), "the same calls").beside_if(
            "unrecorded",
            alone.map(each),
            "the same calls and handler",
        );
    }
    Ok(())
}

/// One load, from the first call to the last file.
struct Load {
    outcome: Outcome,
    verdict: Verdict,
    /// Bytes of the finished files.
    bytes: u64,
    written: machine::Written,
    /// By everybody, to the disk that the files lie on.
    device: Option<u64>,
    /// From the last BYE to the last file.
    last_file: Duration,
    /// Processor time of the encoders.
    encoding: Duration,
    /// The most that was resident while files were made, less that of the idle node.
    memory: u64,
    /// Kept as WAV, since too many waited for an encoder.
    fallen_back: usize,
}

impl Load {
    fn whole(&self, calls: usize) -> bool {
        self.verdict.missing == 0 && self.verdict.recordings == calls && self.outcome.failures() == 0
    }
}

/// What is written, and what making the files takes, at the load that the node holds.
fn stored(options: &Options, format: Format, most: usize, report: &mut Report) -> Result<()> {
    let mut calls = most;
    let mut whole = None;
    for _ in 0..TRIES {
        let steal = machine::Steal::now();
        match load(options, format, calls) {
            Ok(load) => {
                let kept = load.whole(calls);
                println!("{}: {calls}: {}; steal {:.1} %{}", format.name(), line(&load), steal.percent(), mark(kept));
                if kept {
                    whole = Some(load);
                    break;
                }
            }
            Err(error) => println!("{}: {calls}: {error:#} -- not whole", format.name()),
        }
        if options.at.is_some() {
            break;
        }
        calls = (calls * 9 / 10).max(1);
    }
    let name = format.name();
    let Some(load) = whole else {
        report.add(
            &format!("recorded IVR calls, {name}, 0 frames missing"),
            "calls",
            None,
            format!("none of the loads tried was whole, the smallest had {calls} calls"),
        );
        return Ok(());
    };
    let judged = match format.is_lossy() {
        true => {
            "files decoded by ffmpeg: their length, and in each frame of 20 ms the tone that its number asks for, in every second at its place; none concealed by the node's own count"
        }
        false => "read back from the files, numbered frame by numbered frame",
    };
    let how = format!(
        "the first load that is whole, from the highest of WAV PCM16 down, one run; {} frames, {} missing: {judged}",
        load.verdict.frames, load.verdict.missing
    );
    report.add(&format!("recorded IVR calls, {name}, 0 frames missing"), "calls", calls as f64, how).beside_if(ASTERISK, None, NO_ASTERISK);
    let times = |bytes: u64| bytes as f64 / load.bytes.max(1) as f64;
    let how = format!(
        "write_bytes of /proc/PID/io over the {} bytes of the finished files, from before the first call until the last file is there: spool, headers, file, sidecar, database and its log; at {calls} calls",
        load.bytes
    );
    report.add(&format!("write amplification, {name}"), "B/B", times(load.written.disk), how);
    let how = "wchar of /proc/PID/io, the same: what was handed to the kernel, which writes a page that changed twice only once";
    report.add(&format!("bytes written by system calls, {name}"), "B/B", times(load.written.given), how);
    let how = "sectors that the disk was given, by whomever, the file system's journal included, until all of it was there (sync)";
    report.add(&format!("bytes that reached the disk, {name}"), "B/B", load.device.map(times), how);
    report.add(
        &format!("last call to last file, {name}"),
        "s",
        load.last_file.as_secs_f64(),
        format!(
            "{calls} calls of {:.0} s that end within {:.0} s; {} kept as WAV since more than 2,000 waited for an encoder",
            seconds(&load) / calls as f64,
            calls as f64 / options.ramp,
            load.fallen_back
        ),
    );
    if load.encoding > Duration::from_millis(100) {
        let speed = seconds(&load) / load.encoding.as_secs_f64();
        let how = "recorded seconds by a second of the encoders' processor time: reading the spool, encoding, encryption, hash, waiting for the disk not counted";
        report.add(&format!("encoding speed, {name}"), "s/s", speed, how);
        let how = "most resident memory while files were made after the last call, less that of the idle node: what calls have left behind is in it";
        report.add(&format!("memory while encoding, {name}"), "MB", load.memory as f64 / 1e6, how);
    }
    Ok(())
}

/// Recorded seconds.
fn seconds(load: &Load) -> f64 {
    load.verdict.frames as f64 / 50.0
}

fn line(load: &Load) -> String {
    format!(
        "{} recordings, {} frames, {} missing; failed {:?}; node {:.0} % of its core ({}); files of {:.1} MB, {:.1} MB given to the kernel, {:.1} MB for the disk; last file after {:.1} s, encoders {:.1} s, {} kept as WAV; {:.1} MB more than idle",
        load.verdict.recordings,
        load.verdict.frames,
        load.verdict.missing,
        load.outcome.counts.failed,
        load.outcome.load * 100.0,
        shares(&load.outcome),
        load.bytes as f64 / 1e6,
        load.written.given as f64 / 1e6,
        load.written.disk as f64 / 1e6,
        load.last_file.as_secs_f64(),
        load.encoding.as_secs_f64(),
        load.fallen_back,
        load.memory as f64 / 1e6,
    )
}

fn load(options: &Options, format: Format, calls: usize) -> Result<Load> {
    let node = format.start(options)?;
    let encoding = || node.threads().get(ENCODERS).copied().unwrap_or_default();
    let device = || {
        machine::sync();
        machine::device_written(&node.data())
    };
    let (idle, encoded, disk, written) = (node.resident()?, encoding(), device(), node.written()?);
    let before = node.rows()?.recordings;
    let outcome = plan::run_as(format.plan(options, calls), format.reach(), format.voice(), &node)
        .with_context(|| format!("the node's log ends with:\n{}", node.end_of_log()))?;
    let (ended, answered) = (Instant::now(), usize::try_from(outcome.counts.answered)?);
    let (mut files, mut news, mut memory) = (0, ended, 0);
    // Rows come last.
    while files < i64::try_from(answered)? && news.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
        memory = node.resident()?.max(memory);
        let now = node.rows()?.recordings - before;
        if now > files {
            (files, news) = (now, Instant::now());
        }
    }
    let after = node.written()?;
    let written = machine::Written { given: after.given - written.given, disk: after.disk - written.disk };
    let device = device().zip(disk).map(|(after, before)| after.saturating_sub(before));
    let encoding = encoding().saturating_sub(encoded);
    let files = node.recordings()?;
    let bytes = files.iter().map(|file| Ok(file.metadata()?.len())).sum::<Result<u64>>()?;
    let fallen_back =
        if format.is_lossy() { files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "wav")).count() } else { 0 };
    let verdict = match format {
        Format::Encrypted => judge_encrypted(&node, &outcome.said)?,
        _ if format.is_lossy() => judge_lossy(options, &node, &outcome.said)?,
        _ => recordings::judge_all(&files, &outcome.said),
    };
    let (last_file, memory) = (news - ended, memory.saturating_sub(idle));
    Ok(Load { outcome, verdict, bytes, written, device, last_file, encoding, memory, fallen_back })
}

/// Files that lie encrypted are judged as their owner gets them.
fn judge_encrypted(node: &Node, said: &[u32]) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for row in node.finished()?.into_iter().filter(|row| row.path.exists()) {
        ensure!(!std::fs::read(&row.path)?.starts_with(b"RIFF"), "{} is not encrypted", row.path.display());
        let judged = recordings::judge_bytes(&node.audio(&row.id)?, Some(said)).unwrap_or(recordings::Judged::LOST);
        let (frames, missing) = (judged.frames, judged.missing);
        verdict.recordings += 1;
        verdict.frames += frames;
        verdict.missing += missing;
    }
    Ok(verdict)
}

/// By tones, and by the node's own count of frames that it made up.
fn judge_lossy(options: &Options, node: &Node, said: &[u32]) -> Result<Verdict> {
    let rows: Vec<_> = node.finished()?.into_iter().filter(|row| row.path.exists()).collect();
    let paths: Vec<PathBuf> = rows.iter().map(|row| row.path.clone()).collect();
    let folder = options.folder("hookswitch-bench-decoded-")?;
    let mut verdict = Verdict { recordings: rows.len(), ..Verdict::default() };
    tones::decode(&paths, folder.path(), &mut |at, samples| {
        let caller = rows[at].caller.trim_start_matches("sip:").split('@').next().and_then(|user| user.parse::<usize>().ok());
        let judged = samples.and_then(|samples| {
            let caller = caller.context("a recording that is no caller's")?;
            let said = *said.get(caller).context("a caller that there was not")?;
            let (frames, end, missing) = tones::judge(&samples, 2 * caller, LEAD_FRAMES);
            let made_up = u64::try_from(rows[at].made_up).unwrap_or(0);
            Ok((frames, missing + made_up + u64::from(said.saturating_sub(end).saturating_sub(TAIL_FRAMES))))
        });
        let (frames, missing) = judged.unwrap_or((0, u64::from(u32::MAX)));
        verdict.frames += frames;
        verdict.missing += missing;
    })?;
    Ok(verdict)
}
