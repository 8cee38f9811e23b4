//! What is said and recorded, through real legs: numbered frames go in, and are counted in the recording and at the other end.

use crate::no_leaks;
use hookswitch_call::{IvrCommand, Phrase, RecordPhrase};
use hookswitch_proto::Time;
use hookswitch_proto::media::tone::clip_from_pcm;
use hookswitch_proto::media::{Clip, Codec, FrameKind, StopReason};
use hookswitch_sim::handler::{self, hang_up, play};
use hookswitch_sim::{Line, Odds, Path, Recording, Script, World, numbered};
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn numbers(frames: u32) -> Clip {
    clip_from_pcm(&numbered::pcm(frames), 8000)
}

fn record(max: Duration) -> Phrase {
    let phrase = RecordPhrase { max_duration: Some(max), file_name: Some("said.wav".into()), ..RecordPhrase::default() };
    Phrase::Record(Box::new(phrase))
}

/// Records the caller, tells when it is stored, and hangs up.
fn recorder(max: Duration) -> World {
    let command = IvrCommand { recorded_callback: true, ..play(vec![record(max)]) };
    let mut world = World::new(1, handler::ivr(vec![command, hang_up()]));
    world.network.usual = Path::delayed(ms(20));
    world
}

/// Alice counts for so many frames, in u-law.
fn counting(frames: u32, skew_ppm: i32) -> Line {
    let script = Script { play: Some(numbers(frames)), ..Script::default() };
    Line { skew_ppm, codecs: vec![Codec::Pcmu], ..Line::new("alice", script) }
}

fn only(world: &World) -> &Recording {
    let [recording] = world.tape.finished.as_slice() else { panic!("{} recordings", world.tape.finished.len()) };
    recording
}

#[test]
fn a_clean_line_is_recorded_whole() {
    let mut world = recorder(ms(10_000));
    world.call_from(counting(600, 0), "100");
    world.run_to_ms(15_000);
    let recording = only(&world);
    let tally = recording.said.tally();
    assert!(tally.whole() && tally.numbered > 490, "{tally:?}");
    let Some((reason, totals)) = recording.end else { panic!("it has an end") };
    assert_eq!((reason, totals.expected, totals.concealed), (StopReason::MaxDuration, 500, 0));
    let ladder = world.ladder();
    assert!(ladder.contains("recording=max_duration 10000 ms") && ladder.contains("recording-ready"), "{ladder}");
    no_leaks(world);
}

#[test]
fn five_percent_loss_is_concealed_frame_by_frame_and_counted() {
    for seed in 1..6 {
        let command = IvrCommand { recorded_callback: true, ..play(vec![record(ms(60_000))]) };
        let mut world = World::new(seed, handler::ivr(vec![command, hang_up()]));
        world.call_from(counting(4000, 0), "100");
        world.path("alice", "node", Path { delay: ms(20), ..Path::lossy(Odds::percent(5)) });
        world.run_to_ms(120_000);
        let recording = only(&world);
        let Some((_, totals)) = recording.end else { panic!("it has an end") };
        assert_eq!((totals.expected, recording.said.frames()), (3000, 3000), "seed {seed}");
        assert_eq!(totals.expected, totals.received + totals.concealed + totals.silence, "seed {seed}");
        assert_eq!(recording.said.count(FrameKind::Concealed), totals.concealed, "seed {seed}");
        // Each number that is missing is a frame that was concealed in its place: nothing shifts, nothing comes twice.
        let tally = recording.said.tally();
        assert_eq!((tally.repeated, tally.disordered, tally.missing), (0, 0, tally.foreign), "seed {seed}: {tally:?}");
        assert!((100..200).contains(&totals.concealed), "seed {seed}: {totals:?}");
        assert!(tally.missing <= totals.concealed && tally.missing + 5 > totals.concealed, "seed {seed}: {tally:?} {totals:?}");
        no_leaks(world);
    }
}

#[test]
fn jitter_reordering_and_doubles_lose_nothing() {
    let mut world = recorder(ms(30_000));
    world.call_from(counting(1600, 0), "100");
    let path = Path { jitter: ms(30), duplicate: Odds::percent(5), ..Path::delayed(ms(40)) };
    world.path("alice", "node", path);
    world.run_to_ms(40_000);
    let tally = only(&world).said.tally();
    // The first packets teach the jitter buffer how late the others may be.
    assert!(tally.missing == 0 && tally.repeated == 0 && tally.disordered == 0 && tally.numbered > 1480, "{tally:?}");
    no_leaks(world);
}

#[test]
fn an_hour_at_200_ppm_misses_no_frame() {
    for skew in [200, -200] {
        let mut world = recorder(ms(3_600_000));
        let frames = 180_200;
        world.call_from(counting(frames, skew), "100");
        world.run_to(Time::from_millis(3_700_000));
        let recording = only(&world);
        let tally = recording.said.tally();
        assert!(tally.whole() && tally.numbered > 179_900, "{skew} ppm: {tally:?}");
        let Some((_, totals)) = recording.end else { panic!("it has an end") };
        assert_eq!((totals.expected, totals.concealed), (180_000, 0), "{skew} ppm");
        no_leaks(world);
    }
}

#[test]
fn a_media_thread_that_stands_still_for_a_moment_loses_no_frame() {
    let mut world = recorder(ms(10_000));
    world.call_from(counting(700, 0), "100");
    world.run_to_ms(3000);
    world.media.faults.busy_until = Time::from_millis(3300);
    world.run_to_ms(15_000);
    let tally = only(&world).said.tally();
    assert_eq!((tally.missing, tally.repeated, tally.disordered), (0, 0, 0), "{tally:?}");
    no_leaks(world);
}

#[test]
fn a_nat_that_gives_the_phone_another_port_is_not_followed() {
    let mut world = recorder(ms(20_000));
    let alice = world.call_from(counting(1200, 0), "100");
    world.run_to_ms(5000);
    world.rebind_rtp(alice, 41_000);
    world.run_to_ms(30_000);
    let recording = only(&world);
    // What came from the learnt source is there; the rest is not somebody else's to fill.
    let tally = recording.said.tally();
    assert!(tally.last.is_some_and(|last| (230..260).contains(&last)), "{tally:?}");
    assert_eq!(recording.said.frames(), 1000);
    no_leaks(world);
}

#[test]
fn a_full_disk_is_told_and_the_call_goes_on() {
    let mut world = recorder(ms(2000));
    world.tape.fails = true;
    world.call_from(counting(200, 0), "100");
    world.run_to_ms(10_000);
    assert!(world.ladder().contains("recording-ready failed"), "{}", world.ladder());
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["ivrHangup"]);
    no_leaks(world);
}

#[test]
fn without_a_block_a_recording_ends_at_once_and_the_call_goes_on() {
    let mut world = recorder(ms(2000));
    world.tape.blocks = 0;
    world.call_from(counting(200, 0), "100");
    world.run_to_ms(10_000);
    assert_eq!((world.tape.finished.len(), world.tape.dropped.len()), (0, 1));
    assert_eq!(world.records.iter().map(|r| r.reason).collect::<Vec<_>>(), ["ivrHangup"]);
    no_leaks(world);
}

#[test]
fn writers_that_fall_behind_keep_what_was_written() {
    let mut world = recorder(ms(20_000));
    world.tape.blocks = 1;
    world.call_from(counting(1200, 0), "100");
    world.run_to_ms(30_000);
    let recording = only(&world);
    assert_eq!(recording.end.map(|(reason, _)| reason), Some(StopReason::Overload));
    let tally = recording.said.tally();
    assert_eq!((tally.missing, recording.said.frames()), (0, 25), "{tally:?}");
    no_leaks(world);
}
