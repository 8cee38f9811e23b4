//! What is said and recorded, through real legs: numbered frames go in, and are counted in the recording and at the other end.

use crate::no_leaks;
use hookswitch_call::{Hook, IvrCommand, OutboundCall, Phrase, RecordPhrase, Routing, Verdict};
use hookswitch_proto::Time;
use hookswitch_proto::media::tone::clip_from_pcm;
use hookswitch_proto::media::{Clip, Codec, FRAME, FrameKind, StopReason};
use hookswitch_sim::handler::{self, Scripted, hang_up, play};
use hookswitch_sim::numbered::Tally;
use hookswitch_sim::tape::Side;
use hookswitch_sim::{Callee, Line, Odds, Path, PhoneId, Recording, Role, Script, World, law, numbered};
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

// ---------------------------------------------------------------------------------------------------- two parties

/// Numbered speech with pauses, as people speak: nine seconds of it in ten. In the pauses nobody counts.
fn speech(frames: u32) -> Clip {
    let frame = |n: u32| if n % 500 < 450 { numbered::frame(n) } else { [0xff; FRAME] };
    clip_from_pcm(&(0..frames).flat_map(frame).map(law::ulaw_to_pcm).collect::<Vec<i16>>(), 8000)
}

/// Alice calls Bob, who answers at once; both speak u-law, and the call is recorded. Her clock is fast by so much, his slow.
fn conversation(frames: u32, skew_ppm: i32) -> (World, PhoneId, PhoneId) {
    let call = OutboundCall { dest_addr: "sip:bob@192.0.2.10:5060".into(), call_recording: true, ..OutboundCall::default() };
    let mut world = World::new(
        1,
        Scripted::new(move |ask| {
            Ok(Verdict::Routing(match ask.hook {
                Hook::NewCall(_) => Routing::Call(Box::new(call.clone())),
                _ => handler::drop_with(None),
            }))
        }),
    );
    world.network.usual = Path::delayed(ms(20));
    let line = |name: &str, skew_ppm| {
        let script = Script { play: Some(speech(frames)), record: true, ..Script::default() };
        Line { skew_ppm, codecs: vec![Codec::Pcmu], ..Line::new(name, script) }
    };
    let bob = world.add(line("bob", -skew_ppm), Role::Callee(Callee::Answer { ring: ms(0) }));
    let alice = world.call_from(line("alice", skew_ppm), "100");
    (world, alice, bob)
}

/// None of the numbered frames between first and last is missing, doubled or out of order. Pauses have none.
fn check_speech(what: &str, tally: &Tally, at_least: u64) {
    let (Some(first), Some(last)) = (tally.first, tally.last) else { panic!("{what}: nothing is heard") };
    let pauses = (first..=last).filter(|n| n % 500 >= 450).count() as u64;
    let got = (tally.missing, tally.repeated, tally.disordered);
    assert!(got == (pauses, 0, 0) && tally.numbered >= at_least, "{what}: {pauses} pauses, {tally:?}");
}

/// Where a side's number stands, in frames from its beginning.
fn place_of(side: &Side, number: u32) -> Option<usize> {
    let lead = side.tally().lead;
    side.pcm()[lead..].chunks_exact(FRAME).position(|f| numbered::read(f) == numbered::Heard::Number(number)).map(|at| at + lead / FRAME)
}

#[test]
fn two_parties_hear_every_frame_of_each_other_and_both_are_recorded() {
    let (mut world, alice, bob) = conversation(3000, 0);
    world.run_to_ms(50_000);
    world.hang_up(alice);
    world.run_to_ms(52_000);
    check_speech("alice hears", &Tally::of(world.heard(alice)), 2200);
    check_speech("bob hears", &Tally::of(world.heard(bob)), 2200);
    let recording = only(&world);
    check_speech("alice's side", &recording.said.tally(), 2200);
    check_speech("bob's side", &recording.heard.tally(), 2200);
    no_leaks(world);
}

#[test]
fn an_hour_of_two_clocks_400_ppm_apart_misses_no_frame_and_stays_aligned() {
    let (mut world, alice, bob) = conversation(180_500, 200);
    world.run_to_ms(3_600_000);
    world.hang_up(alice);
    world.run_to_ms(3_602_000);
    check_speech("alice hears", &Tally::of(world.heard(alice)), 160_000);
    check_speech("bob hears", &Tally::of(world.heard(bob)), 160_000);
    let recording = only(&world);
    check_speech("alice's side", &recording.said.tally(), 160_000);
    check_speech("bob's side", &recording.heard.tally(), 160_000);
    // Frame n leaves each phone at n times 20 ms by its own clock. In the recording, which goes by hers, his comes 400 ppm later.
    for number in [1000, 90_000, 179_700] {
        let (Some(hers), Some(his)) = (place_of(&recording.said, number), place_of(&recording.heard, number)) else {
            panic!("{number} is on both sides")
        };
        let apart = (his as f64 - hers as f64) - f64::from(number) * 400e-6;
        assert!(apart.abs() < 30.0, "{number}: {hers} and {his}, {apart} frames off");
    }
    no_leaks(world);
}

#[test]
fn ur_009_a_media_thread_that_stands_still_keeps_both_sides_together_and_loses_nothing() {
    for standstill in [300, 700, 3000] {
        let (mut world, alice, _) = conversation(3000, 0);
        world.run_to_ms(20_000);
        world.media.faults.busy_until = Time::from_millis(20_000 + standstill);
        world.run_to_ms(45_000);
        world.hang_up(alice);
        world.run_to_ms(50_000);
        let recording = only(&world);
        check_speech("alice's side", &recording.said.tally(), 1900);
        check_speech("bob's side", &recording.heard.tally(), 1900);
        assert_eq!(recording.said.frames(), recording.heard.frames(), "{standstill} ms");
        // Whatever is said at one time stays together: before, while the backlog is worked off, and after.
        let apart = |number: u32| {
            let place = |side: &Side| place_of(side, number).unwrap_or_else(|| panic!("{standstill} ms: {number} is on both sides"));
            place(&recording.said).cast_signed() - place(&recording.heard).cast_signed()
        };
        let before = apart(700);
        for number in [800, 900, 920, 1001, 1010, 1050, 1080, 1120, 1160, 1300, 1700, 2100] {
            assert!(apart(number).abs_diff(before) <= 1, "{standstill} ms: {number} is {} and {before} frames apart", apart(number));
        }
        no_leaks(world);
    }
}

#[test]
fn loss_on_one_side_of_a_bridge_is_concealed_on_that_side_alone() {
    let (mut world, alice, _) = conversation(3000, 0);
    world.path("bob", "node", Path { delay: ms(20), ..Path::lossy(Odds::percent(5)) });
    world.run_to_ms(50_000);
    world.hang_up(alice);
    world.run_to_ms(60_000);
    let recording = only(&world);
    check_speech("alice's side", &recording.said.tally(), 2200);
    let Some((_, totals)) = recording.end else { panic!("it has an end") };
    assert!(totals.concealed == 0 && (60..200).contains(&totals.heard.concealed), "{totals:?}");
    assert_eq!(recording.heard.count(FrameKind::Concealed), totals.heard.concealed);
    no_leaks(world);
}
