//! What a recording keeps of a call: from the first voice on, without pauses, up to its limits; and what it says of the streams.

use super::*;

const FIRST: u32 = u32::MAX - 50_000;

/// The frame that says that it is the n-th, loud or not: neither is like digital silence.
fn counted(n: usize, loud: bool) -> [u8; FRAME] {
    let mut law = [if loud { 0x10 } else { 0xf8 }; FRAME];
    // 0xf0 to 0xff are the sixteen quietest steps.
    let digits = [n / 256 % 16, n / 16 % 16, n % 16];
    for (byte, digit) in law.iter_mut().zip(digits) {
        *byte = 0xf0 | digit as u8;
    }
    law
}

fn number(law: &[u8]) -> usize {
    law[..3].iter().fold(0, |n, byte| n * 16 + usize::from(byte & 15))
}

/// A caller whose frames say their number, loud or quiet.
struct Caller {
    rig: Rig,
    sent: usize,
}

impl Caller {
    fn new(spec: RecordSpec) -> Caller {
        let mut rig = Rig::new();
        rig.record(spec);
        Caller { rig, sent: 0 }
    }

    fn packet(&mut self, loud: bool) -> Vec<u8> {
        let n = self.sent;
        self.sent += 1;
        rtp(0, false, n as u16, FIRST.wrapping_add(n as u32 * 160), 7, &counted(n, loud))
    }

    fn say(&mut self, loud: bool, frames: usize) {
        for _ in 0..frames {
            let packet = self.packet(loud);
            self.rig.push(&packet);
            self.rig.tick();
        }
    }

    fn pause(&mut self, behavior: PauseBehavior) {
        self.rig.command(MediaCmd::PauseRecording { leg: LegId(1), recording: RecordingId(1), behavior });
    }

    fn resume(&mut self) {
        self.rig.command(MediaCmd::ResumeRecording { leg: LegId(1), recording: RecordingId(1) });
    }

    fn press(&mut self, code: u8) {
        let timestamp = FIRST.wrapping_add(self.sent as u32 * 160);
        self.rig.push(&rtp(101, true, self.sent as u16, timestamp, 9, &event(code, true, 320)));
    }

    /// Numbers of the frames that were kept; `None`: masked.
    fn kept(&self) -> Vec<Option<usize>> {
        let frames = self.rig.recorded(false);
        frames.iter().map(|(kind, law)| (*kind != FrameKind::Masked).then(|| number(law))).collect()
    }

    fn is_open(&self) -> bool {
        !self.rig.world.events.iter().any(|e| matches!(e.what, MediaKind::RecordingClosed { .. }))
    }

    /// How often it was told that a voice began.
    fn began(&self) -> usize {
        self.rig.world.events.iter().filter(|e| matches!(e.what, MediaKind::RecordingVoice { .. })).count()
    }
}

fn numbers(from: usize, until: usize) -> Vec<Option<usize>> {
    (from..until).map(Some).collect()
}

fn ms(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

fn on_voice() -> RecordSpec {
    RecordSpec { start_on_voice: true, ..spec() }
}

#[test]
fn ur_024_nothing_is_kept_before_the_first_voice_but_200_ms() {
    for quiet in [0, 3, 10, 100, 2000] {
        let mut caller = Caller::new(on_voice());
        caller.say(false, quiet);
        assert_eq!(caller.began(), 0);
        caller.say(true, 40);
        caller.rig.stop_recording();
        let from = quiet.saturating_sub(10);
        assert_eq!(caller.kept(), numbers(from, quiet + 40), "{quiet}");
        let (reason, totals) = caller.rig.closed();
        assert_eq!((reason, totals.expected), (StopReason::ApiStop, (quiet + 40 - from) as u64));
        assert_eq!((caller.began(), totals.contains_voice), (1, true));
        assert_eq!(totals.speak_stream.first_timestamp, Some(FIRST.wrapping_add(from as u32 * 160)));
    }
}

#[test]
fn ur_024_without_a_voice_nothing_is_kept_whatever_ends_it() {
    for (limit, reason) in [(ms(1000), StopReason::InitialSilence), (None, StopReason::StopDigit('#')), (None, StopReason::RemoteHangup)] {
        let stop_digits = DigitSet::parse("#").unwrap();
        let mut caller = Caller::new(RecordSpec { initial_silence: limit, max_duration: ms(200), stop_digits, ..on_voice() });
        caller.say(false, 49);
        assert!(caller.is_open());
        caller.say(false, 1);
        if limit.is_none() {
            assert!(caller.is_open(), "what is not kept has no length");
            if matches!(reason, StopReason::StopDigit(_)) {
                caller.press(11);
                caller.rig.tick();
            } else {
                caller.rig.close();
            }
        }
        assert_eq!(caller.rig.closed(), (reason, RecordingTotals::default()));
        assert_eq!((caller.rig.recorded(false).len(), caller.began()), (0, 0));
        assert_eq!(caller.rig.world.blocks.len(), 1);
    }
}

#[test]
fn ur_024_a_click_begins_nothing_and_limits_count_from_the_beginning() {
    let mut caller = Caller::new(RecordSpec { max_duration: ms(1000), ..on_voice() });
    caller.say(false, 30);
    caller.say(true, 2);
    caller.say(false, 68);
    assert_eq!(caller.began(), 0);
    caller.say(true, 60);
    assert_eq!(caller.kept(), numbers(90, 140));
    assert_eq!(caller.rig.closed().0, StopReason::MaxDuration);
    // Also where it is shorter than what is kept from before.
    let mut caller = Caller::new(RecordSpec { max_duration: ms(100), ..on_voice() });
    caller.say(false, 30);
    caller.say(true, 10);
    assert_eq!((caller.kept(), caller.began()), (numbers(20, 25), 1));
    assert_eq!(caller.rig.closed().0, StopReason::MaxDuration);
}

#[test]
fn ur_024_what_was_lost_just_before_the_voice_is_no_silence() {
    let mut caller = Caller::new(on_voice());
    caller.say(false, 20);
    // A second of packets that never arrive, told by the next one.
    caller.sent += 50;
    caller.rig.ticks(50);
    caller.say(true, 20);
    caller.rig.stop_recording();
    let totals = caller.rig.closed().1;
    assert_eq!((totals.expected, totals.received, totals.concealed, totals.silence), (30, 20, 10, 0), "{totals:?}");
}

#[test]
fn ur_026_a_pause_is_left_out_and_counts_nowhere() {
    let mut caller = Caller::new(RecordSpec { max_duration: ms(1400), max_silence: ms(400), ..spec() });
    caller.say(true, 20);
    caller.pause(PauseBehavior::Skip);
    // Longer than both limits, and silent.
    caller.say(false, 200);
    caller.resume();
    caller.say(true, 10);
    caller.pause(PauseBehavior::Skip);
    caller.pause(PauseBehavior::Skip);
    caller.say(true, 100);
    caller.resume();
    caller.resume();
    assert!(caller.is_open());
    caller.say(true, 100);
    assert_eq!(caller.kept(), [numbers(0, 20), numbers(220, 230), numbers(330, 370)].concat());
    let (reason, totals) = caller.rig.closed();
    assert_eq!((reason, totals.expected, totals.received), (StopReason::MaxDuration, 70, 70));
    assert_eq!(totals.speak_stream.last_timestamp, Some(FIRST.wrapping_add(369 * 160)));
}

#[test]
fn ur_026_a_masked_pause_is_silence_of_the_same_length() {
    let mut caller = Caller::new(RecordSpec { max_duration: ms(2000), max_silence: ms(400), ..spec() });
    caller.say(true, 20);
    caller.pause(PauseBehavior::Silence);
    caller.say(true, 60);
    assert!(caller.is_open(), "silence timers stand still");
    caller.resume();
    caller.say(true, 30);
    let kept = [numbers(0, 20), vec![None; 60], numbers(80, 100)].concat();
    assert_eq!(caller.kept(), kept);
    let (reason, totals) = caller.rig.closed();
    assert_eq!((reason, totals.expected, totals.received, totals.silence), (StopReason::MaxDuration, 100, 40, 60));
    let masked: Vec<_> = caller.rig.recorded(false).into_iter().filter(|f| f.0 == FrameKind::Masked).collect();
    assert!(masked.iter().all(|(_, law)| law.iter().all(|b| *b == 0xff)), "nothing of the sound is left");
}

#[test]
fn ur_026_limits_of_length_hold_in_a_masked_pause() {
    for (max_duration, max_frames, reason) in [(ms(1000), None, StopReason::MaxDuration), (None, Some(50), StopReason::FileSize)] {
        let mut caller = Caller::new(RecordSpec { max_duration, max_frames, ..spec() });
        caller.say(true, 20);
        caller.pause(PauseBehavior::Silence);
        caller.say(true, 100);
        assert_eq!((caller.rig.closed().0, caller.rig.closed().1.expected), (reason, 50));
    }
}

#[test]
fn ur_026_one_kind_of_pause_may_follow_the_other() {
    let mut caller = Caller::new(spec());
    caller.say(true, 20);
    caller.pause(PauseBehavior::Skip);
    caller.say(true, 20);
    caller.pause(PauseBehavior::Silence);
    caller.say(true, 20);
    caller.resume();
    caller.say(true, 20);
    caller.rig.close();
    assert_eq!(caller.kept(), [numbers(0, 20), vec![None; 20], numbers(60, 80)].concat());
}

#[test]
fn ur_026_a_stop_digit_in_a_pause_ends_it_and_cuts_only_its_own_sound() {
    for (behavior, kept) in [
        (PauseBehavior::Skip, numbers(0, 60)),
        // 100 ms and the 40 ms that the key was down, in the pause.
        (PauseBehavior::Silence, [numbers(0, 60), vec![None; 23]].concat()),
    ] {
        let mut caller = Caller::new(RecordSpec { stop_digits: DigitSet::parse("#").unwrap(), ..spec() });
        caller.say(true, 60);
        caller.pause(behavior);
        caller.say(true, 30);
        caller.press(11);
        caller.rig.tick();
        assert_eq!(caller.kept(), kept, "{behavior:?}");
        assert_eq!(caller.rig.closed().0, StopReason::StopDigit('#'));
    }
}

#[test]
fn ur_026_a_pause_before_the_first_voice_hides_what_is_said_in_it() {
    for behavior in [PauseBehavior::Skip, PauseBehavior::Silence] {
        let mut caller = Caller::new(on_voice());
        caller.say(false, 50);
        caller.pause(behavior);
        caller.say(true, 50);
        caller.say(false, 5);
        caller.resume();
        caller.say(false, 20);
        assert_eq!(caller.began(), 0, "what was said in the pause began nothing");
        caller.say(true, 20);
        caller.rig.stop_recording();
        assert_eq!((caller.began(), caller.kept()), (1, numbers(115, 145)), "{behavior:?}");
    }
}

#[test]
fn ur_026_what_was_said_in_a_pause_and_comes_late_stays_out() {
    let mut caller = Caller::new(spec());
    caller.say(true, 150);
    caller.pause(PauseBehavior::Skip);
    caller.say(true, 50);
    // The network stalls for the last 300 ms of the pause, and lets all go 100 ms after it.
    let late: Vec<_> = (0..20).map(|_| caller.packet(true)).collect();
    caller.rig.ticks(15);
    caller.resume();
    caller.rig.ticks(5);
    late.iter().for_each(|packet| caller.rig.push(packet));
    caller.rig.tick();
    caller.say(true, 60);
    caller.rig.stop_recording();
    assert_eq!(caller.kept(), [numbers(0, 150), numbers(215, 280)].concat());
}

#[test]
fn ur_026_a_recording_may_end_in_its_pause() {
    for (behavior, expected) in [(PauseBehavior::Skip, 30), (PauseBehavior::Silence, 70)] {
        let mut caller = Caller::new(spec());
        caller.say(true, 30);
        caller.pause(behavior);
        caller.say(true, 40);
        caller.rig.close();
        assert_eq!(caller.kept().iter().flatten().count(), 30);
        assert_eq!(caller.rig.closed().1.expected, expected, "{behavior:?}");
    }
}

#[test]
fn ur_026_any_number_of_pauses_keeps_count() {
    let mut random = Random::new([6; 32]);
    for _ in 0..50 {
        let mut caller = Caller::new(RecordSpec { start_on_voice: random.u32().is_multiple_of(2), ..spec() });
        for _ in 0..300 {
            match random.u32() % 12 {
                0 => caller.pause(PauseBehavior::Skip),
                1 => caller.pause(PauseBehavior::Silence),
                2 => caller.resume(),
                _ => caller.say(true, random.u32() as usize % 3),
            }
        }
        caller.rig.close();
        let kept = caller.kept();
        assert_eq!(caller.rig.closed().1.expected, kept.len() as u64);
        assert!(kept.iter().flatten().is_sorted_by(|a, b| a < b), "in order, and none twice");
    }
}

#[test]
fn ur_023_the_largest_file_ends_a_recording() {
    let mut caller = Caller::new(RecordSpec { max_frames: Some(30), ..spec() });
    caller.say(true, 100);
    assert_eq!((caller.rig.closed().0, caller.kept()), (StopReason::FileSize, numbers(0, 30)));
    // Of both in one frame the length is told.
    let mut caller = Caller::new(RecordSpec { max_frames: Some(30), max_duration: ms(600), ..spec() });
    caller.say(true, 100);
    assert_eq!(caller.rig.closed().0, StopReason::MaxDuration);
}

#[test]
fn ur_019_a_stop_digit_may_be_left_in_buffer_and_sound() {
    for (consume, trim) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        let spec = RecordSpec { stop_digits: DigitSet::parse("#").unwrap(), consume, trim, ..spec() };
        rig.play(vec![Segment::Record(RecordingId(1), spec), Segment::Clip(clip(2, 160))], BargeIn::All);
        talk(&mut rig, &mut peer, &[(true, 50)]);
        rig.push(&rtp(101, true, peer.sequence, peer.timestamp, 7, &event(11, true, 320)));
        rig.ticks(3);
        let digit = if consume { "digit # consumed" } else { "digit #" };
        let story: Vec<_> = rig.story().into_iter().filter(|s| !s.starts_with("voice") && !s.starts_with("up")).collect();
        // It ends the recording, and never what plays after it as well.
        assert_eq!(story, [digit, "closed StopDigit('#')", "segment 0 done", "segment 1 done", "queue done"]);
        assert_eq!(rig.closed().1.expected, if trim { 49 - 7 } else { 49 }, "{consume} {trim}");
    }
}

#[test]
fn ur_6_5_held_by_the_party_silence_does_not_count_but_length_does() {
    for direction in [Direction::RecvOnly, Direction::Inactive, Direction::SendOnly] {
        let limits = RecordSpec { max_silence: ms(1000), initial_silence: ms(1000), max_duration: ms(8000), ..spec() };
        let mut caller = Caller::new(limits);
        caller.say(true, 20);
        let held = Negotiated { direction, ..negotiated() };
        caller.rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(held) });
        caller.rig.ticks(379);
        assert!(caller.is_open(), "{direction:?}");
        caller.rig.ticks(30);
        assert_eq!((caller.rig.closed().0, caller.rig.closed().1.expected), (StopReason::MaxDuration, 400));
    }
}

#[test]
fn what_is_said_of_the_stream_is_of_the_recording_alone() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    let next = |rig: &mut Rig, peer: &mut Peer, frames: usize| {
        for _ in 0..frames {
            let p = peer.packet();
            rig.push(&p);
            rig.tick();
        }
    };
    let late = |rig: &mut Rig, peer: &mut Peer| {
        let straggler = peer.packet();
        next(rig, peer, 30);
        rig.push(&straggler);
    };
    next(&mut rig, &mut peer, 20);
    (peer.ssrc, peer.sequence) = (8, 5);
    next(&mut rig, &mut peer, 20);
    rig.record(spec());
    let first = peer.timestamp;
    next(&mut rig, &mut peer, 20);
    late(&mut rig, &mut peer);
    late(&mut rig, &mut peer);
    (peer.ssrc, peer.sequence, peer.timestamp) = (9, 5, 77);
    next(&mut rig, &mut peer, 20);
    rig.stop_recording();
    let after = peer.timestamp - 160;
    next(&mut rig, &mut peer, 20);
    let stream = rig.closed().1.speak_stream;
    let want = StreamFacts { first_timestamp: Some(first), last_timestamp: Some(after), late: 2, ssrc_changes: 1, skew_ppm: 0 };
    assert_eq!(stream, want);
    assert_eq!((rig.leg.stats().late, rig.leg.stats().ssrc_changes), (2, 2));
}

#[test]
fn the_last_timestamp_is_of_what_is_left_after_a_cut() {
    for (frames, first, last) in [(50u32, Some(0), Some(49 - 12)), (13, Some(0), Some(0)), (12, None, None)] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        let start = peer.timestamp;
        rig.record(RecordSpec { stop_digits: DigitSet::parse("*").unwrap(), ..spec() });
        talk(&mut rig, &mut peer, &[(true, frames as usize)]);
        rig.push(&rtp(101, true, peer.sequence, peer.timestamp, 7, &event(10, true, 60_000)));
        rig.tick();
        let stream = rig.closed().1.speak_stream;
        let at = |frame: Option<u32>| frame.map(|n| start.wrapping_add(n * 160));
        assert_eq!((stream.first_timestamp, stream.last_timestamp), (at(first), at(last)), "{frames}");
    }
}

#[test]
fn the_senders_clock_is_told_within_20_ppm_in_a_minute() {
    for ppm in [-200i64, 0, 200] {
        let mut peer = Peer::new();
        let schedule = (0..3100i64).map(|n| (Time((n * 20_000_000 - n * 20 * ppm) as u64), peer.packet())).collect();
        let rig = record_all(schedule);
        let skew = i64::from(rig.closed().1.speak_stream.skew_ppm);
        assert!((skew - ppm).abs() <= 20, "{ppm}: {skew}");
    }
}
