//! The recorder from blocks to rows, with its real threads, files and store; crashes are copies of the spool taken on the way.

use super::verify::{hex, verify};
use super::wav::{Counters, HEADER, Header, WavFile};
use super::*;
use crate::store::{RecordingRow, RecordingState, StoreThread};
use hookswitch_call::{Input, SessionId};
use hookswitch_proto::media::{BLOCK_FRAMES, Block, Codec, FRAME, FrameKind, RecordingTotals, SideTotals, StopReason};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::Receiver;

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
    inbox: Receiver<Input>,
    metrics: Arc<Metrics>,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let folders = Folders::create(folder.path(), &folder.path().join("blobs")).unwrap();
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
            options: Default::default(),
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
    assert_eq!(std::fs::read_dir(w.folders.blobs.join("demo.localhost")).unwrap().count(), 1);
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
    assert_eq!(std::fs::read_dir(w.folders.blobs.join("demo.localhost")).unwrap().count(), 1);
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
