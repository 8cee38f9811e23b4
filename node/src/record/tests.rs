//! The recorder from blocks to rows, with its real threads, files and store; crashes are copies of the spool taken on the way.

use super::verify::{hex, verify};
use super::wav::{Counters, HEADER, Header, WavFile};
use super::*;
use crate::store::{RecordingRow, RecordingState, StoreThread};
use hookswitch_call::recording::{CbcKey, Container, Dialect, Encoding, RecordingOptions, StorageClass};
use hookswitch_call::{Input, SessionId};
use hookswitch_proto::media::{BLOCK_FRAMES, Block, Codec, FRAME, FrameKind, RecordingTotals, SideTotals, StopReason, StreamFacts, g711};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;

#[test]
fn ic_038_names_stay_in_their_folder() {
    let long = "ä".repeat(200) + ".wav";
    let table = [
        ("message.wav", "message.wav"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("..", "_.."),
        (".hidden", "_.hidden"),
        ("a/b\\c\nd", "a_b_c_d"),
        ("", "id.wav"),
        ("  ", "id.wav"),
    ];
    for (asked, expected) in table {
        let name = safe_name(asked, "id.wav");
        assert_eq!(name, expected);
        assert_eq!(Path::new(&name).components().count(), 1, "{name}");
    }
    let name = safe_name(&long, "id.wav");
    assert!(name.len() <= 255 && name.ends_with(".wav"), "{}", name.len());
    assert_eq!(with_suffix("a.wav", "-2"), "a-2.wav");
    assert_eq!(with_suffix("no extension", "-2"), "no extension-2");
    assert!(with_suffix(&long, "-1000").len() <= 255);
}

struct World {
    folder: tempfile::TempDir,
    folders: Folders,
    store: Store,
    _store_thread: StoreThread,
    recorder: Recorder,
    link: BlockLink,
    threads: RecorderThreads,
    inbox: crate::inbox::Inputs,
    metrics: Arc<Metrics>,
}

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Folders)) -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut folders = Folders::create(folder.path(), &folder.path().join("blobs")).unwrap();
    change(&mut folders);
    let (store, store_thread) = Store::open(&folder.path().join("db")).unwrap();
    let (inbox_in, inbox) = SwitchInbox::channel();
    let metrics = Arc::new(Metrics::default());
    let (recorder, mut links, threads) = start(1, 1, folders.clone(), store.clone(), inbox_in, metrics.clone(), Clock::new()).unwrap();
    let link = links.remove(0).remove(0);
    World { folder, folders, store, _store_thread: store_thread, recorder, link, threads, inbox, metrics }
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

impl World {
    fn begin(&self, number: u64, file_name: &str, stereo: bool) {
        self.begin_with(number, file_name, stereo, RecordingOptions::default());
    }

    fn begin_with(&self, number: u64, file_name: &str, stereo: bool, options: RecordingOptions) {
        self.recorder.begin(Box::new(RecordingStart {
            connection_id: None,
            recording: RecordingId(number),
            recording_id: id(number),
            session: SessionId { slot: 1, generation: 1 },
            session_id: "session".into(),
            domain: "demo.localhost".into(),
            participant_id: "p".into(),
            caller: "alice".into(),
            called: "voicemail".into(),
            file_name: file_name.into(),
            stereo,
            options: Arc::new(options),
        }));
    }

    fn give(&mut self, block: Block) {
        let mut block = Box::new(block);
        while let Err(rtrb::PushError::Full(back)) = self.link.full.push(block) {
            block = back;
        }
    }

    /// Blocks are asynchronous: waits until the writer gave `n` of them back.
    fn wait_for_blocks(&mut self, n: usize) {
        let mut back = 0;
        while back < n {
            while self.link.empty.pop().is_ok() {
                back += 1;
            }
            std::thread::yield_now();
        }
    }

    fn report(&self) -> RecordingReport {
        match self.inbox.recv() {
            Ok(Input::Recorded(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    fn reader(&self) -> Reader {
        Reader::new(self.folders.keys.clone(), self.store.clone())
    }

    fn row(&self, number: u64) -> RecordingRow {
        self.store.recording(&id(number)).unwrap().unwrap()
    }
}

use hookswitch_call::RecordingReport;

/// `frames` frames of law bytes that all are `byte`; one in ten concealed.
fn block(number: u64, heard: bool, first_frame: u64, frames: usize, byte: u8) -> Block {
    let mut kinds = [FrameKind::Voice; BLOCK_FRAMES];
    for (i, kind) in kinds.iter_mut().enumerate().take(frames) {
        if (first_frame as usize + i) % 10 == 9 {
            *kind = FrameKind::Concealed;
        }
    }
    Block {
        recording: RecordingId(number),
        heard,
        two_sided: false,
        codec: Codec::Pcma,
        first_frame,
        frames,
        kinds,
        law: [byte; BLOCK_FRAMES * FRAME],
        last: None,
    }
}

fn totals(expected: u64, concealed: u64) -> RecordingTotals {
    RecordingTotals { expected, received: expected - concealed, concealed, contains_voice: true, ..Default::default() }
}

fn last(mut block: Block, reason: StopReason, totals: RecordingTotals) -> Block {
    block.last = Some((reason, totals));
    block
}

fn samples(path: &Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().samples::<i16>().map(Result::unwrap).collect()
}

const A: u8 = 0x2a;
const B: u8 = 0x3f;

fn pcm(byte: u8) -> i16 {
    hookswitch_sim::law::alaw_to_pcm(byte)
}

#[test]
fn a_recording_is_stored_indexed_reported_and_verified() {
    let mut w = world();
    w.begin(1, "message.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(block(1, false, 25, 25, A));
    w.give(last(block(1, false, 50, 10, B), StopReason::StopDigit('#'), totals(60, 6)));
    let report = w.report();
    let row = w.row(1);
    let details = report.details.unwrap();
    assert_eq!((details.size, details.sha256.as_str(), details.started_at), (row.size, row.sha256.as_str(), row.created_at));
    assert_eq!((details.result.stop_reason.as_str(), details.result.stop_digit), ("stop_digit", Some('#')));
    assert_eq!((details.result.duration.as_millis(), details.result.contains_sound), (1200, true));
    assert_eq!((report.outcome, report.file_name.as_str()), (Ok(row.size), "message.wav"));
    assert_eq!(row.size, (HEADER + 60 * FRAME * 2) as u64);
    assert_eq!((row.duration_ms, row.stop_reason.as_str(), row.state), (1200, "stop_digit", RecordingState::Available));
    assert_eq!((row.frames_expected, row.frames_received, row.frames_concealed, row.frames_silence), (60, 54, 6, 0));
    assert_eq!((row.caller.as_str(), row.called.as_str(), row.domain.as_str()), ("alice", "voicemail", "demo.localhost"));
    let path = w.folders.blobs.join("demo.localhost/message.wav");
    assert_eq!(row.path, path.to_string_lossy());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let audio = samples(&path);
    assert_eq!(audio.len(), 60 * FRAME);
    assert!(audio[..50 * FRAME].iter().all(|s| *s == pcm(A)) && audio[50 * FRAME..].iter().all(|s| *s == pcm(B)));
    w.threads.stop();
    assert_eq!(std::fs::read_dir(&w.folders.spool).unwrap().count(), 0);
    let verdict = verify(File::open(&path).unwrap(), &row).unwrap();
    assert_eq!(verdict.line, format!("ok: {}: 1.20 s, 0 frames missing, 6 concealed, of 60", id(1)));
    assert_eq!(w.metrics.recordings_open.get(), 0);
}

#[test]
fn a_name_that_is_taken_is_never_overwritten() {
    let mut w = world();
    for number in 1..=10 {
        w.begin(number, "same.wav", false);
        w.give(last(block(number, false, 0, 5, A), StopReason::RemoteHangup, totals(5, 0)));
        let expected = match number {
            1 => "same.wav".to_string(),
            2..=8 => format!("same-{number}.wav"),
            n => format!("same-{}.wav", id(n)),
        };
        assert_eq!(w.report().file_name, expected);
        assert_eq!(w.row(number).file_name, expected);
    }
}

#[test]
fn what_the_stop_digit_sounded_is_cut() {
    let mut w = world();
    w.begin(1, "cut.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(last(block(1, false, 20, 0, A), StopReason::StopDigit('#'), totals(20, 2)));
    w.report();
    assert_eq!(samples(Path::new(&w.row(1).path)).len(), 20 * FRAME);
    assert!(verify(File::open(w.row(1).path).unwrap(), &w.row(1)).unwrap().ok);
}

#[test]
fn a_lost_block_is_missing_in_the_counters_and_silence_in_the_file() {
    let mut w = world();
    w.begin(1, "hole.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(last(block(1, false, 50, 25, A), StopReason::RemoteHangup, totals(75, 0)));
    w.report();
    let row = w.row(1);
    let audio = samples(Path::new(&row.path));
    assert_eq!(audio.len(), 75 * FRAME);
    assert!(audio[25 * FRAME..50 * FRAME].iter().all(|s| *s == 0) && audio[50 * FRAME..].iter().all(|s| *s == pcm(A)));
    let verdict = verify(File::open(&row.path).unwrap(), &row).unwrap();
    assert_eq!((verdict.ok, verdict.missing), (false, 25));
    assert!(verdict.line.starts_with("failed: "), "{}", verdict.line);
}

#[test]
fn ur_009_two_sides_become_two_channels_or_one_sum() {
    let mut w = world();
    for (number, stereo) in [(1, true), (2, false)] {
        w.begin(number, "both.wav", stereo);
        let block = |heard, from, frames, byte| Block { two_sided: true, ..block(number, heard, from, frames, byte) };
        let heard = SideTotals { received: 55, concealed: 3, silence: 2, skipped: 1 };
        // One side may be a second ahead: nothing of the other is lost by that, in a sum neither.
        w.give(block(false, 0, 25, A));
        w.give(block(false, 25, 25, A));
        w.give(block(true, 0, 25, B));
        w.give(block(false, 50, 10, A));
        w.give(block(true, 25, 25, B));
        w.give(last(block(true, 50, 10, B), StopReason::ApiStop, RecordingTotals { heard, ..totals(60, 6) }));
        w.report();
        let row = w.row(number);
        let audio = samples(Path::new(&row.path));
        if stereo {
            assert_eq!(audio.len(), 2 * 60 * FRAME);
            assert!(audio.chunks(2).all(|c| c == [pcm(A), pcm(B)]));
        } else {
            assert_eq!(audio.len(), 60 * FRAME);
            assert!(audio.iter().all(|s| *s == pcm(A).saturating_add(pcm(B))));
        }
        assert!(verify(File::open(&row.path).unwrap(), &row).unwrap().ok);
        let header = WavFile::reopen(Path::new(&row.path)).unwrap().header;
        assert_eq!(header.heard, Counters { expected: 60, received: 55, concealed: 3, silence: 2 });
        // Both sides are judged.
        let mut bytes = std::fs::read(&row.path).unwrap();
        bytes[..HEADER].copy_from_slice(&Header { heard: Counters { silence: 1, ..header.heard }, ..header }.encode());
        let row = RecordingRow { sha256: hex(&Sha256::digest(&bytes)), ..row };
        let verdict = verify(&bytes[..], &row).unwrap();
        assert!(!verdict.ok && verdict.line.contains("second side"), "{}", verdict.line);
    }
}

#[test]
fn a_silent_side_does_not_hold_the_other_back_for_long() {
    let mut w = world();
    w.begin(1, "one.wav", true);
    for i in 0..8 {
        w.give(block(1, false, i * 25, 25, A));
    }
    w.wait_for_blocks(8);
    let spooled = WavFile::reopen(&w.folders.spool.join(format!("{}.wav", id(1)))).unwrap();
    assert_eq!(spooled.header.frames, 200 - limits::SIDE_WAIT_FRAMES);
}

#[test]
fn nothing_but_a_media_timeout_is_a_failure() {
    let mut w = world();
    w.begin(1, "none.wav", false);
    w.give(last(block(1, false, 0, 0, A), StopReason::MediaTimeout, RecordingTotals::default()));
    let report = w.report();
    assert_eq!((report.outcome, report.details), (Err("no media received".into()), None));
    assert_eq!(w.row(1).state, RecordingState::Failed);
    w.threads.stop();
    // Anybody could fill the disk with silence that nobody sent.
    assert_eq!(w.folders.spool.join("failed").read_dir().map_or(0, Iterator::count), 0);
    assert!(!w.folders.spool.join(format!("{}.wav", id(1))).exists());
}

#[test]
fn one_that_never_begins_leaves_nothing() {
    let w = world();
    w.begin(1, "never.wav", false);
    w.recorder.forget(RecordingId(1));
    w.begin(2, "neither.wav", false);
    w.threads.stop();
    assert!(w.inbox.try_recv().is_err());
    assert_eq!(std::fs::read_dir(&w.folders.spool).unwrap().count(), 0);
    assert_eq!(w.metrics.recordings_open.get(), 0);
}

#[test]
fn stopping_the_node_stores_what_is_there() {
    let mut w = world();
    w.begin(1, "cut off.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.threads.stop();
    let row = w.store.recording(&id(1)).unwrap().unwrap();
    assert_eq!((row.stop_reason.as_str(), row.duration_ms, row.state), ("node_shutdown", 500, RecordingState::Available));
    assert!(verify(File::open(&row.path).unwrap(), &row).unwrap().ok);
}

#[test]
fn an_error_of_the_disk_fails_the_recording_alone() {
    let mut w = world();
    w.begin(1, "no.wav", false);
    std::fs::write(w.folders.spool.join(format!("{}.wav", id(1))), "somebody else's").unwrap();
    w.begin(2, "yes.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(block(2, false, 0, 25, A));
    w.give(last(block(1, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 0)));
    w.give(last(block(2, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 0)));
    let outcomes = [w.report(), w.report()];
    assert!(outcomes[0].outcome.is_err(), "{outcomes:?}");
    assert!(outcomes[1].outcome.is_ok(), "{outcomes:?}");
    assert_eq!((w.row(1).state, w.row(2).state), (RecordingState::Failed, RecordingState::Available));
}

/// What the spool holds at this moment, as a node that was killed would find it.
fn crash(w: &World, to: &Path) -> Folders {
    let folders = Folders::create(to, &to.join("blobs")).unwrap();
    for entry in std::fs::read_dir(&w.folders.spool).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folders.spool.join(path.file_name().unwrap())).unwrap();
    }
    folders
}

#[test]
fn after_a_crash_the_file_is_repaired_once() {
    let mut w = world();
    w.begin(1, "message.wav", false);
    for i in 0..4 {
        w.give(block(1, false, i * 25, 25, A));
    }
    w.wait_for_blocks(4);
    let after = w.folder.path().join("after");
    let folders = crash(&w, &after);
    let spooled = folders.spool.join(format!("{}.wav", id(1)));
    // Half a frame that the kill cut off, and a stranger's file.
    let mut bytes = std::fs::read(&spooled).unwrap();
    bytes.extend([0; 100]);
    std::fs::write(&spooled, bytes).unwrap();
    std::fs::write(folders.spool.join("stranger.wav"), "no WAV").unwrap();
    let (store, _thread) = Store::open(&after.join("db")).unwrap();
    let mut repaired = repair::repair(&folders, &store, &w.metrics).unwrap();
    assert_eq!(repaired.len(), 1);
    let repaired = repaired.remove(0);
    let row = &repaired.row.clone();
    assert_eq!((row.stop_reason.as_str(), row.frames_expected, row.state), ("crash", 100, RecordingState::Available));
    assert_eq!(store.recording(&id(1)).unwrap().as_ref(), Some(row));
    assert_eq!((row.domain.as_str(), row.caller.as_str(), row.session.as_str()), ("demo.localhost", "alice", "session"));
    let verdict = verify(File::open(&row.path).unwrap(), row).unwrap();
    assert!(verdict.ok, "{}", verdict.line);
    assert_eq!(samples(Path::new(&row.path)).len(), 100 * FRAME);
    assert!(folders.spool.join("failed/stranger.wav").exists());
    repaired.announced();
    assert!(repair::repair(&folders, &store, &w.metrics).unwrap().is_empty());
    assert_eq!(w.metrics.recordings_repaired.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn ur_009_after_a_crash_both_sides_add_up() {
    let mut w = world();
    for (number, stereo) in [(1, true), (2, false)] {
        w.begin(number, "both.wav", stereo);
        for i in 0..4 {
            for heard in [false, true] {
                w.give(Block { two_sided: true, ..block(number, heard, i * 25, 25, A) });
            }
        }
    }
    w.wait_for_blocks(16);
    let after = w.folder.path().join("after");
    let folders = crash(&w, &after);
    // One header is as it was a second ago, the other ahead of what the disk kept.
    for (number, frames) in [(1, 50), (2, 110)] {
        let mut file = WavFile::reopen(&folders.spool.join(format!("{}.wav", id(number)))).unwrap();
        file.header.heard = Counters { expected: frames, received: frames - 20, concealed: 5, silence: 15 };
        file.flush().unwrap();
    }
    let (store, _thread) = Store::open(&after.join("db")).unwrap();
    let repaired = repair::repair(&folders, &store, &w.metrics).unwrap();
    assert_eq!(repaired.len(), 2);
    for (repaired, received) in repaired.iter().zip([80, 80]) {
        let row = &repaired.row;
        let verdict = verify(File::open(&row.path).unwrap(), row).unwrap();
        assert!(verdict.ok, "{}", verdict.line);
        let header = WavFile::reopen(Path::new(&row.path)).unwrap().header;
        assert_eq!((header.frames, header.counters.known()), (100, 100));
        assert_eq!(header.heard, Counters { expected: 100, received, concealed: 5, silence: 15 });
    }
}

#[test]
fn a_crash_between_link_and_row_makes_no_second_copy() {
    let mut w = world();
    w.begin(1, "message.wav", false);
    w.give(last(block(1, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 2)));
    w.report();
    let row = w.row(1);
    w.threads.stop();
    // As if only the last steps were missing.
    let spooled = w.folders.spool.join(format!("{}.wav", id(1)));
    std::fs::copy(&row.path, &spooled).unwrap();
    let (other, _thread) = Store::open(&w.folder.path().join("other")).unwrap();
    let again = repair::repair(&w.folders, &other, &w.metrics).unwrap().remove(0);
    assert_eq!((again.row.path.as_str(), again.row.sha256.as_str()), (row.path.as_str(), row.sha256.as_str()));
    assert_eq!((again.row.stop_reason.as_str(), again.row.frames_concealed), ("remote_hangup", 2));
    // The audio and its sidecar.
    assert_eq!(std::fs::read_dir(w.folders.blobs.join("demo.localhost")).unwrap().count(), 2);
}

#[test]
fn a_crash_between_row_and_report_loses_no_announcement() {
    let mut w = world();
    w.begin(1, "message.wav", false);
    w.give(last(block(1, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 2)));
    w.report();
    let row = w.row(1);
    w.threads.stop();
    let spooled = w.folders.spool.join(format!("{}.wav", id(1)));
    std::fs::copy(&row.path, &spooled).unwrap();
    // Another crash before it was announced changes nothing.
    for _ in 0..2 {
        let repaired = repair::repair(&w.folders, &w.store, &w.metrics).unwrap();
        assert_eq!(repaired.iter().map(|r| &r.row).collect::<Vec<_>>(), [&row]);
        assert!(spooled.exists());
    }
    for repaired in repair::repair(&w.folders, &w.store, &w.metrics).unwrap() {
        repaired.announced();
    }
    assert!(repair::repair(&w.folders, &w.store, &w.metrics).unwrap().is_empty());
    assert!(!spooled.exists() && Path::new(&row.path).exists());
    // The audio and its sidecar.
    assert_eq!(std::fs::read_dir(w.folders.blobs.join("demo.localhost")).unwrap().count(), 2);
}

#[test]
fn what_was_set_aside_is_swept_by_age_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let folders = Folders::create(folder.path(), &folder.path().join("blobs")).unwrap();
    let now = std::time::SystemTime::now();
    assert_eq!(repair::sweep(&folders, now).unwrap(), 0);
    let failed = folders.spool.join("failed");
    private_folder(&failed).unwrap();
    let put = |name: &str, age: std::time::Duration| File::create(failed.join(name)).unwrap().set_modified(now - age).unwrap();
    let second = std::time::Duration::from_secs(1);
    put("old.wav", limits::FAILED_AGE + second);
    put("young.wav", limits::FAILED_AGE - second);
    assert_eq!(repair::sweep(&folders, now).unwrap(), 1);
    assert!(!failed.join("old.wav").exists() && failed.join("young.wav").exists());
    for n in 0..limits::FAILED_FILES {
        put(&format!("{n}.wav"), second);
    }
    // The one too many is the oldest.
    assert_eq!(repair::sweep(&folders, now).unwrap(), 1);
    assert!(!failed.join("young.wav").exists());
    assert_eq!(std::fs::read_dir(&failed).unwrap().count(), limits::FAILED_FILES);
}

#[test]
fn verify_finds_what_is_wrong() {
    let mut w = world();
    w.begin(1, "good.wav", false);
    w.give(last(block(1, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 2)));
    w.report();
    let row = w.row(1);
    let good = std::fs::read(&row.path).unwrap();
    let line = |bytes: &[u8], row: &RecordingRow| verify(bytes, row).unwrap().line;
    assert!(line(&good, &row).starts_with("ok: "));
    let mut flipped = good.clone();
    flipped[HEADER + 10] ^= 1;
    let change = |f: fn(&mut RecordingRow)| {
        let mut row = row.clone();
        f(&mut row);
        row
    };
    let table: [(&[u8], RecordingRow, &str); 7] = [
        (&flipped, row.clone(), "SHA-256"),
        (&good[..good.len() - 1], row.clone(), "bytes"),
        (b"", row.clone(), "bytes"),
        (&good, change(|r| r.duration_ms += 20), "500 ms"),
        (&good, change(|r| r.frames_received -= 1), "counters"),
        (&good, change(|r| r.id = "another".into()), "another recording"),
        (&good, change(|r| r.state = RecordingState::Failed), "state is failed"),
    ];
    for (bytes, row, why) in table {
        let line = line(bytes, &row);
        assert!(line.starts_with("failed: ") && line.contains(why), "{line} should contain {why}");
    }
}

#[test]
fn ffprobe_agrees_where_it_is_installed() {
    let Ok(version) = std::process::Command::new("ffprobe").arg("-version").output() else {
        eprintln!("ffprobe is not installed: not asked");
        return;
    };
    assert!(version.status.success());
    let mut w = world();
    w.begin(1, "long.wav", true);
    for i in 0..8 {
        w.give(block(1, false, i * 25, 25, A));
        w.give(block(1, true, i * 25, 25, B));
    }
    w.give(last(block(1, true, 200, 0, B), StopReason::RemoteHangup, totals(200, 0)));
    w.report();
    let arguments = ["-v", "error", "-show_entries", "stream=codec_name,sample_rate,channels,duration", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(arguments).arg(w.row(1).path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "pcm_s16le,8000,2,4.000000");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

impl World {
    /// Gives both sides (or one), each frame made by its function from the number of a sample; then the end.
    fn record(&mut self, number: u64, frames: u64, speak: &dyn Fn(u64) -> i16, heard: Option<&dyn Fn(u64) -> i16>) {
        for first in (0..frames).step_by(BLOCK_FRAMES) {
            let n = BLOCK_FRAMES.min(usize::try_from(frames - first).unwrap());
            for (side, sound) in [Some(speak), heard].into_iter().flatten().enumerate() {
                let mut block = block(number, side == 1, first, n, 0);
                block.kinds = [FrameKind::Voice; BLOCK_FRAMES];
                block.two_sided = heard.is_some();
                for (i, byte) in block.law.iter_mut().enumerate() {
                    *byte = g711::encode(Codec::Pcma, sound(first * FRAME as u64 + i as u64));
                }
                self.give(block);
            }
        }
        let heard = heard.map_or(SideTotals::default(), |_| SideTotals { received: frames, ..SideTotals::default() });
        let end = RecordingTotals { heard, ..totals(frames, 0) };
        self.give(last(block(number, heard.received > 0, frames, 0, 0), StopReason::RemoteHangup, end));
    }
}

/// A tone of `hz` between two seconds.
fn tone(hz: f64, from: f64, to: f64) -> impl Fn(u64) -> i16 {
    move |sample| {
        let at = sample as f64 / 8000.0;
        let level = if at >= from && at < to { 8000.0 } else { 0.0 };
        (level * (2.0 * std::f64::consts::PI * hz * at).sin()) as i16
    }
}

/// How much of `hz` is in these samples, as an amplitude.
fn amplitude(samples: &[i16], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        let angle = 2.0 * std::f64::consts::PI * hz * i as f64 / 8000.0;
        re += f64::from(*sample) * angle.cos();
        im += f64::from(*sample) * angle.sin();
    }
    2.0 * re.hypot(im) / samples.len() as f64
}

fn installed(program: &str) -> bool {
    let there = std::process::Command::new(program).arg("-version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("{program} is not installed: not asked");
    }
    there
}

fn probed(path: &Path) -> String {
    let arguments = ["-v", "error", "-show_entries", "stream=codec_name,sample_rate,channels", "-of", "csv=p=0"];
    let output = std::process::Command::new("ffprobe").args(arguments).arg(path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Each channel as ffmpeg decodes it, at 8 kHz.
fn decoded(path: &Path, channels: usize) -> Vec<Vec<i16>> {
    let output = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "s16le", "-ar", "8000", "-"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let all: Vec<i16> = output.stdout.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
    (0..channels).map(|channel| all.iter().skip(channel).step_by(channels).copied().collect()).collect()
}

fn options(container: Container, encoding: Encoding, rate: u32) -> RecordingOptions {
    RecordingOptions { container: Some(container), encoding, sample_rate: Some(rate), ..RecordingOptions::default() }
}

#[test]
fn ur_010_011_012_013_every_format_is_decoded_with_its_tones_in_place() {
    if !installed("ffmpeg") || !installed("ffprobe") {
        return;
    }
    let mut w = world();
    use Container::{Mp3, Mp4, Ogg, Wav};
    let formats = [
        (Wav, Encoding::Pcm16, 8000, "pcm_s16le,8000"),
        (Wav, Encoding::Pcm16, 16_000, "pcm_s16le,16000"),
        (Wav, Encoding::Pcm16, 48_000, "pcm_s16le,48000"),
        (Wav, Encoding::Alaw, 8000, "pcm_alaw,8000"),
        (Wav, Encoding::Ulaw, 8000, "pcm_mulaw,8000"),
        (Mp3, Encoding::Auto, 8000, "mp3,8000"),
        (Mp3, Encoding::Auto, 16_000, "mp3,16000"),
        (Mp3, Encoding::Auto, 48_000, "mp3,48000"),
        (Ogg, Encoding::Auto, 8000, "opus,48000"),
        (Ogg, Encoding::Opus, 16_000, "opus,48000"),
        (Ogg, Encoding::Opus, 48_000, "opus,48000"),
        (Mp4, Encoding::Auto, 8000, "opus,48000"),
        (Mp4, Encoding::Aac, 48_000, "opus,48000"),
    ];
    // 4.5 s: neither whole seconds nor whole frames of an encoder.
    const FRAMES: u64 = 223;
    let (left, right) = (tone(1000.0, 1.0, 2.0), tone(600.0, 3.0, 4.0));
    for (index, (container, encoding, rate, probe)) in formats.into_iter().enumerate() {
        for (stereo, channels) in [(false, 1), (true, 2)] {
            let number = index as u64 * 2 + channels as u64;
            w.begin_with(number, "message", stereo, options(container, encoding, rate));
            w.record(number, FRAMES, &left, Some(&right));
            let report = w.report();
            let row = w.row(number);
            let what = format!("{container:?} {encoding:?} {rate} {channels}: {row:?}");
            assert_eq!(report.outcome, Ok(row.size), "{what}");
            assert_eq!(
                (row.state, row.container.as_str(), row.sample_rate, row.channels),
                (RecordingState::Available, container.name(), rate, channels),
                "{what}"
            );
            assert_eq!(
                row.encoding,
                probe.split(',').next().unwrap().replace("pcm_s16le", "pcm16").replace("pcm_mulaw", "ulaw").replace("pcm_", "")
            );
            let path = Path::new(&row.path);
            assert_eq!(probed(path), format!("{probe},{channels}"), "{what}");
            let audio = decoded(path, usize::from(channels));
            for channel in &audio {
                let off = channel.len() as i64 - (FRAMES * FRAME as u64) as i64;
                assert!(off.abs() <= FRAME as i64, "{off} samples too many, {what}");
            }
            let second = |channel: usize, from: f64, hz: f64| {
                let from = (from * 8000.0) as usize;
                amplitude(&audio[channel][from..from + 6400], hz)
            };
            // In the middle of its second, a tone is there at its level; of the other one, and in other seconds, there is next to nothing.
            let other = usize::from(channels) - 1;
            assert!((second(0, 1.1, 1000.0) / 8000.0 - 1.0).abs() < 0.15, "{} {what}", second(0, 1.1, 1000.0));
            assert!((second(other, 3.1, 600.0) / 8000.0 - 1.0).abs() < 0.15, "{} {what}", second(other, 3.1, 600.0));
            assert!(second(0, 2.1, 1000.0) < 100.0 && second(other, 2.1, 600.0) < 100.0, "{what}");
            if stereo {
                assert!(second(1, 1.1, 1000.0) < 200.0 && second(0, 3.1, 600.0) < 200.0, "{what}");
            }
            let verdict = verify_signed(File::open(path).unwrap(), &row, Some(w.folders.keys.public())).unwrap();
            assert!(verdict.ok, "{}", verdict.line);
        }
    }
    w.threads.stop();
    assert_eq!(std::fs::read_dir(&w.folders.spool).unwrap().count(), 0);
    assert_eq!((w.metrics.recordings_encoding.get(), w.metrics.recordings_open.get()), (0, 0));
}

use super::verify::{verify_file, verify_signed};

#[test]
fn ur_011_law_bytes_go_into_the_file_as_they_came() {
    let mut w = world();
    let every: Vec<u8> = (0..BLOCK_FRAMES * FRAME).map(|i| (i % 256) as u8).collect();
    let aculab = || RecordingOptions { dialect: Dialect::Aculab, ..RecordingOptions::default() };
    let ulaw = || RecordingOptions { encoding: Encoding::Ulaw, ..RecordingOptions::default() };
    // What comes in, what was asked for, what the file holds of it.
    let table = [(Codec::Pcma, aculab(), Codec::Pcma), (Codec::Pcmu, aculab(), Codec::Pcmu), (Codec::Pcma, ulaw(), Codec::Pcmu)];
    for (number, (from, options, to)) in table.into_iter().enumerate() {
        let number = number as u64;
        w.begin_with(number, "exact.wav", false, options);
        let mut one = Block { codec: from, ..block(number, false, 0, 25, 0) };
        one.law.copy_from_slice(&every);
        w.give(one);
        // A block was lost: silence of the same law. Then a re-INVITE changed the codec, and the file goes on.
        let other = if from == Codec::Pcma { Codec::Pcmu } else { Codec::Pcma };
        let mut two = Block { codec: other, ..block(number, false, 50, 25, 0) };
        two.law.copy_from_slice(&every);
        w.give(last(two, StopReason::RemoteHangup, totals(75, 0)));
        w.report();
        let row = w.row(number);
        let bytes = std::fs::read(&row.path).unwrap();
        let mut expected = every.clone();
        g711::recode(from, to, &mut expected);
        expected.extend([g711::silence(to); 25 * FRAME]);
        let mut second = every.clone();
        g711::recode(other, to, &mut second);
        expected.extend(second);
        assert!(bytes[HEADER..] == expected, "{from:?} as {to:?}");
        assert_eq!(row.encoding, if to == Codec::Pcma { "alaw" } else { "ulaw" });
        let said = sidecar::read(&row.sidecar, None).unwrap();
        assert_eq!(said.codecs, [from.name(), other.name()]);
        // The lost block is said to be missing, and nothing else is.
        let verdict = verify(File::open(&row.path).unwrap(), &row).unwrap();
        assert_eq!((verdict.ok, verdict.missing), (false, 25), "{}", verdict.line);
    }
}

#[test]
fn ur_035_the_sidecar_says_all_and_any_changed_byte_is_found() {
    let mut w = world();
    let facts = |options: &mut RecordingOptions| {
        options.control_id = Some("handle".into());
        options.client_context = Some("{\"a\":1}".into());
        options.storage_class = StorageClass::Ephemeral;
        options.retention = Some(std::time::Duration::from_secs(600));
        options.announce = true;
    };
    let mut options = RecordingOptions::default();
    facts(&mut options);
    w.begin_with(1, "said.wav", false, options);
    let stream = StreamFacts { first_timestamp: Some(7), last_timestamp: Some(9607), late: 3, ssrc_changes: 1, skew_ppm: -150 };
    let mut one = block(1, false, 0, 25, A);
    one.kinds[20..25].fill(FrameKind::Masked);
    w.give(one);
    let all = RecordingTotals {
        expected: 60,
        received: 50,
        concealed: 4,
        silence: 6,
        contains_voice: true,
        speak_stream: stream,
        ..Default::default()
    };
    w.give(block(1, false, 25, 25, A));
    w.give(last(block(1, false, 50, 10, A), StopReason::StopDigit('#'), all));
    w.report();
    let row = w.row(1);
    let path = Path::new(&row.path);
    assert_eq!(std::fs::read_to_string(sidecar_path(path)).unwrap(), row.sidecar);
    let key = w.folders.keys.public();
    let said = sidecar::read(&row.sidecar, Some(key)).unwrap();
    assert_eq!((said.speak.expected, said.speak.received, said.speak.concealed, said.speak.silence, said.speak.masked), (60, 50, 4, 6, 5));
    assert_eq!((said.speak.first_rtp_timestamp, said.speak.last_rtp_timestamp, said.speak.late_packets), (Some(7), Some(9607), 3));
    assert_eq!((said.speak.clock_skew_ppm, said.speak.ssrc_changes, said.heard.is_none()), (-150, 1, true));
    assert_eq!(
        (said.frames, said.ptime_ms, said.duration_ms, said.size, said.sha256.as_str()),
        (60, 20, 1200, row.size, row.sha256.as_str())
    );
    assert_eq!((said.stop_reason.as_str(), said.stop_digit, said.contains_sound), ("stop_digit", Some('#'), Some(true)));
    assert_eq!((said.container.as_str(), said.encoding.as_str(), said.sample_rate, said.channels), ("wav", "pcm16", 8000, 1));
    assert_eq!((said.node, said.codecs), (w.folders.keys.fingerprint(), vec!["PCMA".to_owned()]));
    assert!(said.ended_at_ms.unwrap() >= said.started_at_ms && said.started_at_ms == row.created_at);
    // And so does the row.
    assert_eq!(
        (row.control_id.as_deref(), row.client_context.as_deref(), row.dialect.as_str()),
        (Some("handle"), Some("{\"a\":1}"), "native")
    );
    assert_eq!((row.storage_class.as_str(), row.retention_ms, row.stop_digit), ("ephemeral", Some(600_000), Some('#')));
    assert_eq!((row.contains_sound, row.ended_at, row.announce, said.announce), (Some(true), said.ended_at_ms, true, true));

    let bytes = std::fs::read(path).unwrap();
    assert!(verify_file(&bytes[..], &row.sidecar, Some(key)).unwrap().ok);
    for at in (0..bytes.len()).step_by(61).chain([0, HEADER - 1, HEADER, bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let verdict = verify_file(&changed[..], &row.sidecar, Some(key)).unwrap();
        assert!(!verdict.ok && verdict.line.contains("SHA-256"), "{at}: {}", verdict.line);
        assert!(!verify_signed(&changed[..], &row, Some(key)).unwrap().ok);
    }
    // A row that was changed to fit a changed file: its sidecar still says what it was.
    let mut changed = bytes.clone();
    changed[HEADER] ^= 1;
    let forged = RecordingRow { sha256: hex(&Sha256::digest(&changed)), ..row.clone() };
    let verdict = verify_signed(&changed[..], &forged, Some(key)).unwrap();
    assert!(!verdict.ok && verdict.line.contains("signed"), "{}", verdict.line);
    let forged = RecordingRow { sidecar: row.sidecar.replace("stop_digit\":\"#", "stop_digit\":\"*"), ..row };
    let verdict = verify_signed(&bytes[..], &forged, Some(key)).unwrap();
    assert!(!verdict.ok && verdict.line.contains("signature"), "{}", verdict.line);
}

/// All files below a folder, with what is in them.
fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.push((path, bytes));
        }
    }
    found
}

/// No file holds a run of these samples, as any coding that is written.
fn assert_nothing_open(w: &World, law: u8) {
    let sample = g711::decode(Codec::Pcma, law).to_le_bytes();
    let patterns = [vec![law; 12], sample.repeat(6)];
    for (path, bytes) in files_below(w.folder.path()) {
        for pattern in &patterns {
            assert!(!bytes.windows(12).any(|window| window == pattern), "{} holds plain samples", path.display());
        }
    }
}

#[test]
fn ur_027_with_a_key_no_plain_byte_is_on_disk_and_openssl_opens_the_file() {
    let mut w = world();
    for (number, bytes) in [(1u64, 16u8), (2, 24), (3, 32)] {
        let key = CbcKey { key: (100..100 + bytes).collect(), iv: *b"initial vector 1" };
        let asked = RecordingOptions { dialect: Dialect::Aculab, encryption: Some(key.clone()), ..RecordingOptions::default() };
        w.begin_with(number, "secret.wav", false, asked);
        for i in 0..4 {
            w.give(block(number, false, i * 25, 25, A));
        }
        w.wait_for_blocks(4);
        assert_nothing_open(&w, A);
        assert!(w.folders.spool.join(format!("{}.log", id(number))).exists());
        w.give(last(block(number, false, 100, 0, A), StopReason::RemoteHangup, totals(100, 10)));
        let report = w.report();
        let row = w.row(number);
        assert_eq!(report.outcome, Ok(row.size));
        assert_nothing_open(&w, A);
        assert!(row.is_client_encrypted() && row.wrapped_key.is_none());
        assert_eq!(row.size % 16, 0);
        let verdict = verify_signed(w.reader().open(&row).unwrap(), &row, Some(w.folders.keys.public())).unwrap();
        assert!(verdict.ok, "{}", verdict.line);
        // The key is in no file, row or sidecar.
        let shown = format!("{row:?}");
        assert!(!shown.contains(&hex(&key.key)) && !row.sidecar.contains(&hex(&key.key)));
        assert!(row.sidecar.contains(&format!("aes-{}-cbc", u32::from(bytes) * 8)));
        for (path, content) in files_below(w.folder.path()) {
            assert!(!content.windows(16).any(|window| window == &key.key[..16]), "{} holds the key", path.display());
        }
        let cipher = format!("-aes-{}-cbc", u32::from(bytes) * 8);
        let arguments = ["enc", "-d", &cipher, "-K", &hex(&key.key), "-iv", &hex(&key.iv), "-in", &row.path];
        let Ok(output) = std::process::Command::new("openssl").args(arguments).output() else {
            return eprintln!("openssl is not installed: not asked");
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let header = Header::decode(&output.stdout).unwrap();
        assert_eq!((header.frames, header.counters.received, header.coding), (100, 90, format::Coding::Alaw));
        assert!(output.stdout[HEADER..] == [A; 100 * FRAME]);
    }
    w.threads.stop();
    assert_eq!(std::fs::read_dir(&w.folders.spool).unwrap().count(), 0);
}

#[test]
fn ur_027_at_rest_every_recording_is_encrypted_and_read_in_ranges_until_its_key_is_erased() {
    let mut w = world_with(|folders| folders.encrypt = true);
    w.begin(1, "kept.wav", false);
    for i in 0..20 {
        w.give(block(1, false, i * 25, 25, A));
    }
    w.wait_for_blocks(20);
    assert_nothing_open(&w, A);
    w.give(last(block(1, false, 500, 0, A), StopReason::RemoteHangup, totals(500, 50)));
    w.report();
    let row = w.row(1);
    assert_nothing_open(&w, A);
    let mut audio = w.reader().open(&row).unwrap();
    assert_eq!(audio.len(), row.size);
    let mut all = Vec::new();
    audio.read_to_end(&mut all).unwrap();
    assert_eq!(all.len() as u64, row.size);
    assert!(all[HEADER..].chunks(2).all(|c| c == pcm(A).to_le_bytes()));
    let mut by_path = Vec::new();
    w.reader().open_path(Path::new(&row.path)).unwrap().read_to_end(&mut by_path).unwrap();
    assert!(by_path == all);
    audio.seek(SeekFrom::Start(70_000)).unwrap();
    let mut part = vec![0; 1000];
    audio.read_exact(&mut part).unwrap();
    assert!(part == all[70_000..71_000]);
    let verdict = verify_signed(&all[..], &row, Some(w.folders.keys.public())).unwrap();
    assert!(verdict.ok, "{}", verdict.line);
    assert!(row.sidecar.contains("aes-256-gcm") && row.sidecar.contains(w.folders.keys.wrapping_name()));
    // Any changed byte of the file at rest is found, not heard.
    let sealed = std::fs::read(&row.path).unwrap();
    for at in [0, 10, 63, 64, 5000, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        std::fs::write(&row.path, &changed).unwrap();
        let read = w.reader().open(&row).and_then(|mut audio| audio.read_to_end(&mut Vec::new()));
        assert!(read.is_err(), "{at}");
    }
    std::fs::write(&row.path, &sealed).unwrap();
    // Without its key, or with another recording's, it is noise.
    let erased = RecordingRow { wrapped_key: None, ..row.clone() };
    let mut noise = Vec::new();
    w.reader().open(&erased).unwrap().read_to_end(&mut noise).unwrap();
    assert!(noise == sealed && Header::decode(&noise).is_err());
    let other = RecordingRow { id: id(2), ..row };
    assert!(w.reader().open(&other).is_err());
    w.store.begin_erasing(&id(1), "a test", "test", 0).unwrap();
    w.store.finish_erasing(&id(1)).unwrap();
    let why = w.reader().open_path(Path::new(&erased.path)).err().unwrap().to_string();
    assert!(why.contains("erased"), "{why}");
}

#[test]
fn ur_035_the_length_of_an_encoded_file_is_counted_in_the_file_itself() {
    const FRAMES: u64 = 223;
    let mut w = world();
    let (left, right) = (tone(1000.0, 1.0, 2.0), tone(600.0, 3.0, 4.0));
    let mut number = 0;
    for (container, there) in
        [(Container::Mp3, lame::library().is_ok()), (Container::Ogg, opus::library().is_ok()), (Container::Mp4, opus::library().is_ok())]
    {
        let fault = |bytes: &[u8], frames: u64| {
            let mut ruler = length::Ruler::of(container.name()).expect("its length is counted");
            bytes.chunks(1000).for_each(|piece| ruler.push(piece));
            ruler.fault(frames)
        };
        for (rate, stereo) in [(8000, false), (16_000, true), (48_000, false), (48_000, true)].into_iter().filter(|_| there) {
            number += 1;
            w.begin_with(number, "message", stereo, options(container, Encoding::Auto, rate));
            w.record(number, FRAMES, &left, Some(&right));
            w.report();
            let row = w.row(number);
            let file = std::fs::read(&row.path).unwrap();
            let what = format!("{container:?} {rate} {stereo}");
            assert_eq!(fault(&file, FRAMES), None, "{what}");
            for frames in [0, FRAMES - 1, FRAMES + 1] {
                assert!(fault(&file, frames).is_some_and(|why| why.contains("samples")), "{what}, {frames} frames");
            }
            for cut in [0, 1, 100, file.len() / 2, file.len() - 1] {
                assert!(fault(&file[..cut], FRAMES).is_some(), "{what}, cut at {cut}");
            }
            assert!(fault(&[&file[..], b"more"].concat(), FRAMES).is_some(), "{what}, longer");
            // A part that is left out, though what follows is whole.
            let mark: &[u8] = match container {
                Container::Ogg => b"OggS",
                Container::Mp4 => b"moof",
                _ => &[0xff, if rate == 48_000 { 0xfb } else { 0xe3 | if rate == 16_000 { 0x10 } else { 0 } }],
            };
            let parts: Vec<usize> = file.windows(mark.len()).enumerate().filter(|(_, at)| *at == mark).map(|(at, _)| at).collect();
            let (from, to) = (parts[1], parts[2]);
            let less = [&file[..from], &file[to..]].concat();
            assert!(fault(&less, FRAMES).is_some(), "{what}, a part left out");
            // The row and the sidecar that go with it do not help.
            let digest = |bytes: &[u8]| hex(&Sha256::digest(bytes));
            let row = RecordingRow { sidecar: String::new(), size: less.len() as u64, sha256: digest(&less), ..row };
            assert!(!verify(&less[..], &row).unwrap().ok, "{what}");
            let row = RecordingRow { size: file.len() as u64, sha256: digest(&file), ..row };
            assert!(verify(&file[..], &row).unwrap().ok, "{what}");
        }
    }
}

#[test]
fn a_file_of_an_earlier_version_is_verified_by_its_own_header() {
    let mut w = world();
    w.begin(1, "old.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(last(block(1, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 5)));
    w.report();
    let row = w.row(1);
    let new = std::fs::read(&row.path).unwrap();
    // Half a page, and the same text.
    let mut old = new[..2048].to_vec();
    old[76..80].copy_from_slice(&1960u32.to_le_bytes());
    old[2040..2048].copy_from_slice(&new[4088..4096]);
    old.extend_from_slice(&new[4096..]);
    let of = |bytes: &[u8]| RecordingRow {
        sidecar: String::new(),
        size: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
        ..row.clone()
    };
    let verified = verify(&old[..], &of(&old)).unwrap();
    assert!(verified.ok, "{}", verified.line);
    let short = &old[..old.len() - 2];
    let verified = verify(short, &of(short)).unwrap();
    assert!(!verified.ok && verified.line.contains("length"), "{}", verified.line);
    // In the spool it would be read from the wrong place.
    assert!(Header::decode(&old).is_err_and(|why| why.to_string().contains("earlier version")));
}

#[test]
fn ur_027_a_tenants_recordings_are_encrypted_under_its_key_and_gone_with_it() {
    let mut name = String::new();
    let mut w = world_with(|folders| name = folders.keys.put_of_tenant("demo.localhost", None).unwrap().0.name);
    let record = |w: &mut World, number: u64| {
        w.begin(number, "kept.wav", false);
        w.give(block(number, false, 0, 25, A));
        w.give(last(block(number, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 5)));
        w.report();
        w.row(number)
    };
    let row = record(&mut w, 1);
    assert!(row.sidecar.contains(&format!("\"key\":\"tenant:{name}\"")), "{}", row.sidecar);
    let mut all = Vec::new();
    w.reader().open(&row).unwrap().read_to_end(&mut all).unwrap();
    assert!(verify_signed(&all[..], &row, Some(w.folders.keys.public())).unwrap().ok);
    w.folders.keys.erase_of_tenant("demo.localhost", &name).unwrap();
    let why = w.reader().open(&row).err().unwrap();
    assert!(tenant_keys::is_erased(&why), "{why}");
    assert!(tenant_keys::is_erased(&w.reader().open_path(Path::new(&row.path)).err().unwrap()));
    // Without a key of its own the tenant is as any other.
    let row = record(&mut w, 2);
    assert!(row.wrapped_key.is_none() && w.reader().open(&row).is_ok());
}

#[test]
fn ur_027_a_recording_whose_key_was_erased_after_a_crash_fails_once_and_says_so() {
    let mut w = world();
    let (key, _) = w.folders.keys.put_of_tenant("demo.localhost", None).unwrap();
    w.begin(1, "message.wav", false);
    w.begin(2, "stored.wav", false);
    w.give(block(1, false, 0, 25, A));
    w.give(block(2, false, 0, 25, A));
    w.wait_for_blocks(2);
    let after = w.folder.path().join("after");
    let mut folders = crash(&w, &after);
    folders.keys = w.folders.keys.clone();
    let log = |number| folders.spool.join(format!("{}.log", id(number)));
    // Of the second one only the report was missing.
    w.give(last(block(2, false, 25, 25, A), StopReason::RemoteHangup, totals(50, 0)));
    w.report();
    let stored = w.row(2);
    let (store, _thread) = Store::open(&after.join("db")).unwrap();
    store.put_recording(stored.clone()).unwrap();
    let unread = std::fs::read(log(1)).unwrap();

    folders.keys.erase_of_tenant("demo.localhost", &key.name).unwrap();
    // Another crash before it was told changes nothing.
    for _ in 0..2 {
        let repaired = repair::repair(&folders, &store, &w.metrics).unwrap();
        let rows: Vec<&RecordingRow> = repaired.iter().map(|repaired| &repaired.row).collect();
        assert_eq!(rows.len(), 2, "{rows:?}");
        let lost = rows[0];
        assert_eq!((lost.id.as_str(), lost.domain.as_str(), lost.session.as_str()), (id(1).as_str(), "demo.localhost", "session"));
        assert_eq!((lost.state, lost.stop_reason.as_str(), lost.size), (RecordingState::Failed, "key_erased", 0));
        assert!(lost.created_at > 0 && lost.ended_at.is_some_and(|at| at >= lost.created_at), "{lost:?}");
        assert_eq!(store.recording(&id(1)).unwrap().as_ref(), Some(lost));
        assert_eq!(rows[1], &stored, "what was stored says what it said");
    }
    let failed = || w.metrics.recordings_failed.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(failed(), 1, "it is lost once");
    for repaired in repair::repair(&folders, &store, &w.metrics).unwrap() {
        repaired.announced();
    }
    assert!(repair::repair(&folders, &store, &w.metrics).unwrap().is_empty(), "and told once");
    assert!(!log(1).exists() && !log(2).exists() && !folders.spool.join("failed").exists(), "noise is not kept");
    // Under a key that this node never had it is nobody's: an operator may find the key.
    let (stranger, third) = (tempfile::tempdir().unwrap(), log(3));
    folders.keys = Arc::new(keys::Keys::load(stranger.path()).unwrap());
    std::fs::write(&third, unread).unwrap();
    assert!(repair::repair(&folders, &store, &w.metrics).unwrap().is_empty());
    assert!(!third.exists() && folders.spool.join("failed").join(format!("{}.log", id(3))).exists());
}

#[test]
fn a_crash_loses_nothing_of_an_encrypted_or_encoded_recording() {
    let mut w = world_with(|folders| folders.encrypt = true);
    let cbc = CbcKey { key: vec![3; 16], iv: [4; 16] };
    let mp3 = lame::library().is_ok();
    w.begin_with(1, "a.ogg", false, RecordingOptions { file_name: Some("a.ogg".into()), ..RecordingOptions::default() });
    w.begin_with(2, "b.wav", false, RecordingOptions { encryption: Some(cbc), ..RecordingOptions::default() });
    w.begin_with(3, "c.wav", false, RecordingOptions { sample_rate: Some(16_000), ..RecordingOptions::default() });
    if mp3 {
        w.begin_with(4, "d.mp3", false, options(Container::Mp3, Encoding::Auto, 8000));
    }
    let numbers = if mp3 { 1..=4u64 } else { 1..=3 };
    for number in numbers.clone() {
        for i in 0..4 {
            w.give(block(number, false, i * 25, 25, A));
        }
    }
    w.wait_for_blocks(4 * numbers.clone().count());
    let after = w.folder.path().join("after");
    // The same keys: it is the same node.
    let mut folders = crash(&w, &after);
    folders.keys = w.folders.keys.clone();
    // A record that the kill cut in two, and half of a file that was being encoded.
    let log = folders.spool.join(format!("{}.log", id(1)));
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    std::fs::write(folders.spool.join(format!("{}.out", id(1))), "half").unwrap();
    let (store, _thread) = Store::open(&after.join("db")).unwrap();
    let repaired = repair::repair(&folders, &store, &w.metrics).unwrap();
    assert_eq!(repaired.len(), numbers.clone().count());
    for (repaired, number) in repaired.into_iter().zip(numbers) {
        let row = repaired.row.clone();
        // The record of half a second that was cut off was the last one.
        let frames = if number == 1 { 75..=100 } else { 100..=100 };
        assert!(frames.contains(&row.frames_expected), "{row:?}");
        assert_eq!((row.stop_reason.as_str(), row.state), ("crash", RecordingState::Available));
        let verdict = verify_signed(w.reader().open(&row).unwrap(), &row, Some(folders.keys.public())).unwrap();
        assert!(verdict.ok, "{}", verdict.line);
        assert_eq!(row.container, ["ogg", "wav", "wav", "mp3"][usize::try_from(number - 1).unwrap()]);
        repaired.announced();
    }
    assert!(repair::repair(&folders, &store, &w.metrics).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(&folders.spool).unwrap().count(), 0);
}

#[test]
fn ur_010_a_format_that_cannot_be_made_fails_with_its_reason() {
    let mut w = world();
    w.begin_with(1, "odd.wav", false, options(Container::Wav, Encoding::Opus, 8000));
    w.give(block(1, false, 0, 25, A));
    w.give(last(block(1, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 0)));
    let report = w.report();
    assert_eq!(report.outcome, Err("opus is not written into wav".into()));
    assert_eq!((w.row(1).state, w.row(1).stop_reason.as_str()), (RecordingState::Failed, "encode_error"));
    let key = CbcKey { key: vec![1; 17], iv: [0; 16] };
    w.begin_with(2, "odd.wav", false, RecordingOptions { encryption: Some(key), ..RecordingOptions::default() });
    w.give(last(block(2, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    assert_eq!(w.report().outcome, Err("an AES key has 16, 24 or 32 bytes".into()));
}

#[test]
fn ur_014_the_extension_is_that_of_what_the_file_became() {
    let mut w = world();
    w.begin_with(1, "message.mp3", false, options(Container::Ogg, Encoding::Auto, 8000));
    w.give(last(block(1, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    assert_eq!(w.report().file_name, "message.ogg");
    // The same name and the same silence: still another recording, with a file of its own.
    w.begin_with(2, "message.ogg", false, options(Container::Ogg, Encoding::Auto, 8000));
    w.give(last(block(2, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    assert_eq!(w.report().file_name, "message-2.ogg");
    for number in [1, 2] {
        w.begin_with(2 + number, "same.mp4", false, options(Container::Mp4, Encoding::Auto, 8000));
        w.give(last(block(2 + number, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    }
    let mut names = [w.report().file_name, w.report().file_name];
    names.sort();
    assert_eq!(names, ["same-2.mp4", "same.mp4"]);
}

#[test]
fn ur_007_034_what_is_discarded_or_cancelled_leaves_no_file() {
    let mut w = world();
    let graph = || RecordingOptions { dialect: Dialect::Graph, ..RecordingOptions::default() };
    let cases = [
        (RecordingOptions::default(), StopReason::Discarded, "discarded"),
        (RecordingOptions::default(), StopReason::Superseded, "superseded"),
        (graph(), StopReason::Superseded, "superseded"),
        (graph(), StopReason::ApiStop, "api_stop"),
    ];
    for (n, (options, reason, name)) in (1..).zip(cases) {
        w.begin_with(n, "gone.wav", false, options);
        w.give(block(n, false, 0, 25, A));
        w.give(last(block(n, false, 25, 0, A), reason, totals(25, 0)));
        let report = w.report();
        assert_eq!((report.outcome, w.row(n).state, w.row(n).stop_reason.as_str()), (Err(name.into()), RecordingState::Failed, name));
    }
    // What others stop by command, and what ends by itself in Graph's way, is kept.
    w.begin_with(8, "kept.wav", false, RecordingOptions::default());
    w.give(last(block(8, false, 0, 25, A), StopReason::ApiStop, totals(25, 0)));
    assert!(w.report().outcome.is_ok());
    w.threads.stop();
    let left: Vec<PathBuf> = files_below(w.folder.path()).into_iter().map(|(path, _)| path).collect();
    assert!(!left.iter().any(|path| path.starts_with(&w.folders.spool)), "{left:?}");
    assert_eq!(left.iter().filter(|path| path.extension().is_some_and(|e| e == "wav")).count(), 1, "{left:?}");
}

/// A small file system of its own. Needs the right to mount; without it the test says so and does nothing.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, options: &str) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no right to mount a small file system here");
            return None;
        }
        Some(Small(at.to_path_buf()))
    }

    fn remount(&self, options: &str) {
        let remount = format!("remount,{options}");
        let arguments = ["-o", &remount];
        // Busy as long as the finisher has a file open that it is about to let go.
        while !std::process::Command::new("mount").args(arguments).arg(&self.0).output().unwrap().status.success() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_cuts_the_recording_and_says_so_and_the_next_one_is_whole() {
    let base = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(&base.path().join("spool"), "size=200k") else { return };
    let mut w = world_with(|folders| folders.spool = small.0.clone());
    w.begin(1, "long.wav", false);
    // 20 s are 320 KB.
    for i in 0..40 {
        w.give(block(1, false, i * 25, 25, A));
    }
    w.wait_for_blocks(40);
    w.give(last(block(1, false, 1000, 0, A), StopReason::RemoteHangup, totals(1000, 100)));
    let report = w.report();
    let row = w.row(1);
    assert!(report.outcome.is_ok(), "{report:?}");
    assert_eq!((row.state, row.stop_reason.as_str()), (RecordingState::Available, "disk_full"));
    assert!((400..640).contains(&row.frames_expected), "{row:?}");
    assert!(samples(Path::new(&row.path)).iter().all(|s| *s == pcm(A)));
    let verdict = verify_signed(File::open(&row.path).unwrap(), &row, Some(w.folders.keys.public())).unwrap();
    let lost = 1000 - row.frames_expected;
    assert!(!verdict.ok && verdict.line.contains(&format!("{lost} frames of the call were not written: disk_full")), "{}", verdict.line);
    assert_eq!(w.metrics.recordings_cut.load(std::sync::atomic::Ordering::Relaxed), 1);
    // There is room again, once the spool has let go of the first one, and whoever has it open.
    while std::fs::read_dir(&w.folders.spool).unwrap().count() > 0 || crate::net::disk_free(&w.folders.spool).unwrap() < 150_000 {
        std::thread::yield_now();
    }
    w.begin(2, "short.wav", false);
    w.give(last(block(2, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    w.report();
    assert!(verify(File::open(&w.row(2).path).unwrap(), &w.row(2)).unwrap().ok);
    // Read-only from one moment to the next: nothing can begin, the call hears of it in the end, nothing hangs.
    small.remount("ro");
    w.begin(3, "none.wav", false);
    w.give(block(3, false, 0, 25, A));
    w.give(last(block(3, false, 25, 0, A), StopReason::RemoteHangup, totals(25, 0)));
    let report = w.report();
    assert!(report.outcome.is_err(), "{report:?}");
    assert_eq!((w.row(3).state, w.row(3).stop_reason.as_str()), (RecordingState::Failed, "disk_error"));
    small.remount("rw");
    w.threads.stop();
}

#[test]
fn while_the_blobs_have_no_room_a_recording_waits_in_the_spool_and_is_told_of_once() {
    let base = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(&base.path().join("blobs"), "size=64k") else { return };
    let mut w = world_with(|folders| folders.blobs = small.0.clone());
    w.begin(1, "waits.wav", false);
    for i in 0..10 {
        w.give(block(1, false, i * 25, 25, A));
    }
    w.give(last(block(1, false, 250, 0, A), StopReason::RemoteHangup, totals(250, 25)));
    w.wait_for_blocks(11);
    while w.metrics.recordings_delayed.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    assert!(w.inbox.try_recv().is_err() && w.store.recording(&id(1)).unwrap().is_none());
    assert!(w.folders.spool.join(format!("{}.wav", id(1))).exists());
    // Stopping tries once more, and leaves it to the next start.
    w.threads.stop();
    assert!(w.inbox.try_recv().is_err());
    small.remount("size=2m");
    let repaired = repair::repair(&w.folders, &w.store, &w.metrics).unwrap();
    assert_eq!(repaired.len(), 1);
    let row = &repaired[0].row;
    assert_eq!((row.stop_reason.as_str(), row.frames_concealed, row.state), ("remote_hangup", 25, RecordingState::Available));
    assert!(verify(File::open(&row.path).unwrap(), row).unwrap().ok);
}

#[test]
fn encoders_that_are_too_far_behind_leave_recordings_as_they_lie() {
    let mut w = world();
    for _ in 0..limits::ENCODES_WAITING {
        w.metrics.recordings_encoding.up();
    }
    w.begin_with(1, "busy.ogg", false, options(Container::Ogg, Encoding::Auto, 16_000));
    w.give(last(block(1, false, 0, 25, A), StopReason::RemoteHangup, totals(25, 0)));
    assert_eq!(w.report().file_name, "busy.wav");
    let row = w.row(1);
    assert_eq!((row.container.as_str(), row.encoding.as_str(), row.sample_rate), ("wav", "pcm16", 8000));
    assert!(verify(File::open(&row.path).unwrap(), &row).unwrap().ok);
    assert_eq!(w.metrics.recordings_not_encoded.load(std::sync::atomic::Ordering::Relaxed), 1);
}
