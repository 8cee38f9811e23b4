//! Two sides of a recording, and how far they are apart (UR-009): both parties say in each frame which it is, the test remembers when that was
//! said, and finds it again in the recording.

use super::bridge::{PEERS, Pair, Recorded, peer, two_sided};
use super::*;

/// Levels of half a frame, which are told apart after any exchange of laws. A frame says its number by two of them.
const LEVELS: usize = 12;
const NUMBERS: i64 = (LEVELS * LEVELS) as i64;

fn frame(n: usize, codec: Codec) -> [u8; FRAME] {
    let level = |n: usize| g711::encode(codec, (700.0 * 1.35f64.powi((n % LEVELS) as i32)) as i16);
    std::array::from_fn(|i| level(if i < FRAME / 2 { n / LEVELS } else { n }))
}

fn number_of(law: &[u8], codec: Codec) -> i64 {
    let level = |law: u8| ((f64::from(g711::decode(codec, law)).max(1.0) / 700.0).ln() / 1.35f64.ln()).round().max(0.0) as i64;
    level(law[40]) * LEVELS as i64 + level(law[120])
}

struct Party {
    ppm: i64,
    /// When it begins a frame, against the ticks of leg 1, in nanoseconds.
    phase: i64,
    codec: Codec,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Frames said, also those that were not sent.
    said: usize,
    /// When the end of each came to our socket, or would have over a network that is never late.
    at: Vec<Time>,
}

/// A conversation of two parties that speak all the time, unless told otherwise.
struct Talk {
    pair: Pair,
    parties: [Party; 2],
    start: Time,
    random: Random,
    loss_percent: u32,
    /// DTX, or held: nothing is sent, and time goes on.
    quiet: [bool; 2],
    /// Every third second of each is silent, as people are.
    polite: bool,
    /// Frames, by number, that came so late that they could not be put where they belong.
    late: std::ops::Range<usize>,
    /// The network delays by up to so much more.
    jitter: Duration,
    /// Leg 2 has its ticks so much later than leg 1.
    offset: Duration,
    /// What has come, or the network holds back, by party, and when.
    waiting: [VecDeque<(Time, Vec<u8>)>; 2],
    /// As the media thread: reads of a socket, and whether the last did not find exactly one datagram.
    reads: [(u32, bool); 2],
}

impl Talk {
    fn new(ppm: [i64; 2]) -> Talk {
        let mut pair = Pair::new();
        pair.record(two_sided());
        let start = pair.now;
        let parties = [0, 1].map(|n: usize| Party {
            ppm: ppm[n],
            // Party 1 begins 7 ms later, so that no two frames are said at once.
            phase: 7_000_000 * n as i64,
            codec: Codec::Pcmu,
            ssrc: 70 + n as u32,
            sequence: 65_000,
            timestamp: u32::MAX - 9000 * n as u32,
            said: 0,
            at: Vec::new(),
        });
        let waiting = [VecDeque::new(), VecDeque::new()];
        Talk {
            pair,
            parties,
            start,
            random: Random::new([8; 32]),
            loss_percent: 0,
            quiet: [false; 2],
            polite: true,
            late: 0..0,
            jitter: Duration::ZERO,
            offset: Duration::ZERO,
            waiting,
            reads: [(0, true); 2],
        }
    }

    /// What both say until then gets to the sockets.
    fn speak(&mut self, until: Time) {
        (0..2).for_each(|n| self.say(n, until));
    }

    fn say(&mut self, n: usize, until: Time) {
        let party = &mut self.parties[n];
        loop {
            let nominal = party.said as i64 * 20_000_000 + party.phase;
            let at = self.start + Duration::from_nanos((nominal - nominal / 1_000_000 * party.ppm) as u64);
            if at > until {
                break;
            }
            let hushed = self.polite && (party.said / 50) % 3 == n;
            let law = if hushed { [g711::silence(party.codec); FRAME] } else { frame(party.said, party.codec) };
            let kind = party.codec.static_payload_type();
            let packet = rtp(kind, false, party.sequence, party.timestamp, party.ssrc, &law);
            if !self.quiet[n] {
                party.sequence = party.sequence.wrapping_add(1);
                if self.random.u32() % 100 >= self.loss_percent {
                    let late = u64::from(self.random.u32()) * self.jitter.as_nanos() as u64 / u64::from(u32::MAX);
                    self.waiting[n].push_back((at + Duration::from_nanos(late), packet));
                }
            }
            party.timestamp = party.timestamp.wrapping_add(160);
            party.said += 1;
            party.at.push(at);
        }
    }

    /// Party `n` takes another device: its frames begin so many milliseconds later than before, and nothing else of its stream goes on.
    fn takes_another(&mut self, n: usize, later: i64) {
        let party = &mut self.parties[n];
        party.phase += later * 1_000_000;
        (party.ssrc, party.sequence, party.timestamp) = (party.ssrc + 100, 77, party.timestamp.wrapping_mul(0x3333_3333));
    }

    fn update(&mut self, n: usize, change: impl FnOnce(&mut Negotiated)) {
        let codec = self.parties[n].codec;
        let (payload_type, remote) = (codec.static_payload_type(), PEERS[n].parse().unwrap());
        let mut changed = Negotiated { codec, payload_type, remote, ..negotiated() };
        change(&mut changed);
        self.pair.command(n, MediaCmd::Update { leg: LegId(n as u64 + 1), negotiated: Box::new(changed) });
    }

    fn tick(&mut self) {
        self.tick_at(self.pair.now + FRAME_TIME);
    }

    /// Each leg's socket is read, then it has its tick. What of it is told by the kernel's stamp is what the media thread asks for.
    fn tick_at(&mut self, now: Time) {
        for n in 0..2 {
            let read = now + self.offset * n as u32;
            self.say(n, read);
            self.pair.now = read;
            let (reads, uneven) = self.reads[n];
            let all = uneven || reads.is_multiple_of(8);
            let mut found = 0;
            while found < if all { 8 } else { 1 } {
                let Some((came, packet)) = self.waiting[n].pop_front_if(|(came, _)| *came <= read) else { break };
                found += 1;
                self.pair.arrive(n, &packet);
                let more = found < 8 && self.waiting[n].front().is_some_and(|(came, _)| *came <= read);
                if all && !more {
                    self.pair.legs[n].waited(read.since(came));
                }
            }
            self.reads[n] = (reads + 1, found != 1);
            self.pair.tick_one(n);
        }
        self.pair.now = now;
        // The world's packets are of no interest, and an hour of them too many.
        self.pair.worlds.iter_mut().for_each(|w| w.sent.clear());
    }

    fn seconds(&mut self, n: usize) {
        (0..n * 50).for_each(|_| self.tick());
    }

    fn minutes(&mut self, n: usize) {
        self.seconds(n * 60);
    }

    /// The thread wakes so much too late. Half a second it makes up for, what is beyond it leaves out.
    fn stand_still(&mut self, ms: u64) {
        let now = self.pair.now + Duration::from_millis(ms);
        let missed = ms / 20 - 1;
        if ms > 500 {
            for n in 0..2 {
                self.pair.legs[n].left_out(missed, &mut self.pair.worlds[n]);
            }
        } else {
            (0..missed).for_each(|_| self.tick_at(now));
        }
        self.tick_at(now);
    }

    /// The most that what was said at one time is apart in the recording, in microseconds.
    fn apart(mut self) -> (i64, RecordingTotals) {
        let codecs = |blocks: &[Box<Block>], heard: bool| -> Vec<Codec> {
            blocks.iter().filter(|b| b.heard == heard).flat_map(|b| std::iter::repeat_n(b.codec, b.frames)).collect()
        };
        let (speak, heard, totals) = self.pair.end();
        let blocks = &self.pair.worlds[0].blocks;
        let sides = [(speak, codecs(blocks, false)), (heard, codecs(blocks, true))];
        assert_eq!(sides[0].0.len(), sides[1].0.len(), "sides are equally long");
        let found: Vec<Vec<(usize, i64)>> = (0..2).map(|n| self.find(n, &sides[n].0, &sides[n].1)).collect();
        let mut worst = 0i64;
        let mut near = 0;
        for (place, at) in found[1].iter().filter(|f| f.0 >= 50) {
            // What the other side says nearest to it; drift within two seconds is nothing.
            near = (near..found[0].len()).find(|n| found[0][*n].0 >= *place).unwrap_or(found[0].len() - 1);
            let (other, other_at) = found[0][near];
            if other.abs_diff(*place) > 100 {
                continue;
            }
            let apart = (at - *place as i64 * 20_000) - (other_at - other as i64 * 20_000);
            if apart.abs() > worst.abs() {
                worst = apart;
            }
        }
        assert!(found[1].len() > 500 && found[0].len() > 500, "{} and {} frames are found", found[0].len(), found[1].len());
        (worst.abs(), totals)
    }

    /// Places of a side's frames, and when they were said.
    fn find(&self, n: usize, frames: &[Recorded], codecs: &[Codec]) -> Vec<(usize, i64)> {
        let party = &self.parties[n];
        let mut found = Vec::new();
        // Where in what was said the recording is.
        let mut ahead = 0i64;
        for (place, (kind, law)) in frames.iter().enumerate() {
            // Silence of the one law is the smallest step of the other.
            if *kind != FrameKind::Voice || g711::decode(codecs[place], law[80]).abs() < 100 {
                continue;
            }
            let said = number_of(law, codecs[place]);
            let expected = place as i64 + ahead;
            let step = (said - expected + NUMBERS / 2).rem_euclid(NUMBERS) - NUMBERS / 2;
            ahead += step;
            let Ok(said) = usize::try_from(expected + step) else { continue };
            if let Some(at) = party.at.get(said).filter(|_| !self.late.contains(&said)) {
                found.push((place, at.since(self.start).as_micros() as i64));
            }
        }
        found
    }
}

/// A frame.
const WITHIN: i64 = 20_000;

fn check(talk: Talk) -> RecordingTotals {
    let (apart, totals) = talk.apart();
    assert!(apart <= WITHIN, "{apart} us apart, {totals:?}");
    totals
}

#[test]
fn ur_009_sides_stay_within_a_frame_for_an_hour_at_200_ppm() {
    for ppm in [[100, -100], [-100, 100], [0, 200], [200, 0]] {
        let mut talk = Talk::new(ppm);
        talk.minutes(60);
        let totals = check(talk);
        assert_eq!((totals.concealed, totals.heard.concealed), (0, 0));
        assert!(totals.heard.skipped <= 40, "36 frames in an hour: {totals:?}");
    }
}

#[test]
fn ur_009_sides_stay_together_where_nobody_is_ever_quiet() {
    let mut talk = Talk::new([-100, 100]);
    talk.polite = false;
    talk.minutes(20);
    let totals = check(talk);
    assert!(totals.heard.skipped == 0 && (10..=13).contains(&totals.silence), "no sound is left out: {totals:?}");
}

#[test]
fn ur_009_legs_that_tick_at_different_times_put_nothing_into_what_is_said() {
    for apart in [0, 3, 9, 11, 13, 17, 19] {
        let mut pair = Pair::new();
        pair.record(two_sided());
        let mut peers = [peer(7), peer(8)];
        for _ in 0..1000 {
            pair.now += FRAME_TIME;
            for (n, peer) in peers.iter_mut().enumerate() {
                pair.now += Duration::from_millis(apart * n as u64);
                let packet = peer.packet();
                pair.arrive(n, &packet);
                pair.tick_one(n);
            }
            pair.now = pair.now - Duration::from_millis(apart);
        }
        let (speak, heard, totals) = pair.end();
        for side in [&speak, &heard] {
            let voice = |f: &Recorded| f.0 == FrameKind::Voice;
            let (first, last) = (side.iter().position(voice).unwrap_or(0), side.iter().rposition(voice).unwrap_or(0));
            assert!(
                first <= 1 && side[first..=last].iter().all(voice),
                "{apart} ms: {first} {last} {:?} {totals:?}",
                side.iter().enumerate().filter(|f| !voice(f.1)).map(|f| f.0).collect::<Vec<_>>()
            );
        }
        assert_eq!((totals.received, totals.heard.received, totals.heard.skipped), (1000, 1000, 0), "{apart} ms");
    }
}

#[test]
fn ur_009_sides_stay_together_over_loss() {
    let mut talk = Talk::new([-100, 100]);
    talk.loss_percent = 5;
    talk.minutes(60);
    let totals = check(talk);
    assert!(totals.concealed > 5000 && totals.heard.concealed > 5000, "{totals:?}");
}

#[test]
fn ur_009_sides_stay_together_over_dtx() {
    let mut talk = Talk::new([100, -100]);
    for n in 0..500 {
        // Pauses of one, of the other, of both and of neither, short and long.
        talk.quiet = [n % 4 == 1 || n % 4 == 3, n % 4 >= 2];
        (0..[7, 20, 40, 300, 600][n % 5]).for_each(|_| talk.tick());
    }
    talk.quiet = [false; 2];
    talk.minutes(1);
    check(talk);
}

#[test]
fn ur_009_sides_stay_together_over_hold() {
    let mut talk = Talk::new([100, -100]);
    for n in 0..20 {
        talk.seconds(30);
        let who = n % 2;
        for direction in [[Direction::Inactive, Direction::SendOnly, Direction::RecvOnly][n % 3], Direction::SendRecv] {
            talk.quiet[who] = direction != Direction::SendRecv;
            talk.update(who, |changed| changed.direction = direction);
            talk.seconds(20);
        }
    }
    check(talk);
}

#[test]
fn ur_009_sides_stay_together_over_a_codec_change() {
    let mut talk = Talk::new([-100, 100]);
    for n in 0..20 {
        talk.seconds(31);
        let (who, codec) = (n % 2, [Codec::Pcma, Codec::Pcmu][n / 2 % 2]);
        talk.parties[who].codec = codec;
        talk.update(who, |_| ());
    }
    talk.seconds(30);
    let totals = check(talk);
    assert_eq!((totals.concealed, totals.heard.concealed), (0, 0));
}

#[test]
fn ur_009_sides_stay_together_over_another_ssrc() {
    let mut talk = Talk::new([-100, 100]);
    for n in 0..20u32 {
        talk.seconds(31);
        let party = &mut talk.parties[n as usize % 2];
        (party.ssrc, party.sequence, party.timestamp) = (1000 + n, 77, n.wrapping_mul(0x3333_3333));
    }
    talk.seconds(30);
    let totals = check(talk);
    assert_eq!(totals.speak_stream.ssrc_changes + totals.heard_stream.ssrc_changes, 20);
    assert_eq!((totals.concealed, totals.heard.concealed), (0, 0));
}

#[test]
fn ur_009_sides_stay_together_when_the_thread_stands_still() {
    for ms in [300, 700, 3000] {
        let mut talk = Talk::new([-100, 100]);
        for _ in 0..5 {
            talk.seconds(20);
            talk.stand_still(ms);
        }
        talk.seconds(20);
        let totals = check(talk);
        assert_eq!((totals.concealed, totals.heard.concealed, totals.heard.skipped), (0, 0, totals.heard.skipped.min(2)), "{ms} ms");
        assert_eq!(totals.speak_stream.late + totals.heard_stream.late, 0, "{ms} ms: nothing is dropped");
    }
}

#[test]
fn ur_009_what_we_play_stays_in_its_place_when_the_thread_stands_still() {
    for ms in [700, 3000] {
        let mut talk = Talk::new([0, 0]);
        talk.pair.command(0, MediaCmd::Bridge { leg: LegId(1), hears: None });
        talk.pair.command(1, MediaCmd::Bridge { leg: LegId(2), hears: None });
        talk.seconds(10);
        let plays = |talk: &mut Talk, value: u8| {
            let segments = vec![Segment::Clip(clip(value, 20 * FRAME))];
            talk.pair.command(0, MediaCmd::Play { leg: LegId(1), play: PlayId(1), segments, barge_in: BargeIn::None });
            let said = talk.parties[0].said;
            talk.seconds(1);
            said
        };
        let before = plays(&mut talk, 1);
        talk.stand_still(ms);
        talk.seconds(2);
        let after = plays(&mut talk, 2);
        talk.seconds(5);
        let (speak, heard, totals) = talk.pair.end();
        assert_eq!(speak.len(), heard.len());
        assert_eq!(totals.received, speak.iter().filter(|f| f.0 == FrameKind::Voice).count() as u64);
        let begins = |value: u8| heard.iter().position(|f| f.1[80] == value).unwrap();
        assert!(begins(1).abs_diff(before) <= 1 && begins(2).abs_diff(after) <= 1, "{ms}: {} {before}, {} {after}", begins(1), begins(2));
    }
}

#[test]
fn ur_009_what_comes_late_and_whole_on_one_side_is_made_up_for_on_the_other() {
    for who in [0, 1] {
        let mut talk = Talk::new([0, 0]);
        talk.seconds(20);
        // Nothing of one party for 800 ms, then all of it: our clock has gone on by then.
        let held: VecDeque<_> = {
            let mut held = VecDeque::new();
            for _ in 0..40 {
                let next = talk.pair.now + FRAME_TIME;
                talk.speak(next);
                held.append(&mut talk.waiting[who]);
                talk.tick();
            }
            held
        };
        talk.late = 1000..1065;
        talk.waiting[who] = held;
        talk.seconds(20);
        let totals = check(talk);
        assert_eq!((totals.concealed, totals.heard.concealed), (0, 0));
        assert!(totals.heard.skipped <= 1, "nothing is left out for it: {totals:?}");
    }
}

#[test]
fn ur_024_ur_026_both_sides_are_cut_alike() {
    for stalled in [0, 1] {
        for behavior in [PauseBehavior::Skip, PauseBehavior::Silence] {
            let mut talk = Talk::new([0, 0]);
            talk.pair = {
                let mut pair = Pair::new();
                pair.record(RecordSpec { start_on_voice: true, ..two_sided() });
                pair
            };
            talk.polite = false;
            // Both are silent at first; one begins.
            talk.quiet = [true, true];
            talk.seconds(3);
            talk.quiet[1 - stalled] = false;
            talk.seconds(2);
            talk.quiet[stalled] = false;
            talk.seconds(5);
            for n in 0..6 {
                // One side is held up by the network when the pause begins, or when it ends.
                let mut held = VecDeque::new();
                for tick in 0..100 {
                    let late = if n % 2 == 0 { 45..55 } else { 85..100 };
                    let next = talk.pair.now + FRAME_TIME;
                    talk.speak(next);
                    held.append(&mut talk.waiting[stalled]);
                    if !late.contains(&tick) {
                        talk.waiting[stalled].append(&mut held);
                    }
                    if tick == 50 {
                        let (leg, recording) = (LegId(1), RecordingId(1));
                        talk.pair.command(0, MediaCmd::PauseRecording { leg, recording, behavior });
                    }
                    talk.tick();
                }
                talk.pair.command(0, MediaCmd::ResumeRecording { leg: LegId(1), recording: RecordingId(1) });
                talk.waiting[stalled].append(&mut held);
                talk.seconds(3);
            }
            let (apart, totals) = talk.apart();
            assert!(apart <= WITHIN, "{stalled} {behavior:?}: {apart} us, {totals:?}");
            assert_eq!((totals.concealed, totals.heard.skipped), (0, 0), "{stalled} {behavior:?}: {totals:?}");
        }
    }
}

/// All that a call goes through, in a minute and a half: for every moment at which parties may speak, between two reads of their sockets.
fn goes_through(talk: &mut Talk) {
    talk.seconds(4);
    // DTX of the one, of the other, of both, short and long.
    for (n, ticks) in [(1, 15), (2, 40), (3, 70), (1, 200), (2, 333), (3, 101)] {
        talk.quiet = [n & 1 > 0, n & 2 > 0];
        (0..ticks).for_each(|_| talk.tick());
        talk.quiet = [false; 2];
        talk.seconds(2);
    }
    // After a pause frames begin at another moment, as the timestamps say.
    for who in [0, 1] {
        talk.quiet[who] = true;
        talk.seconds(2);
        talk.parties[who].phase += 7_000_000;
        talk.parties[who].timestamp = talk.parties[who].timestamp.wrapping_add(56);
        talk.quiet[who] = false;
        talk.seconds(2);
    }
    for who in [0, 1] {
        for direction in [Direction::SendOnly, Direction::Inactive] {
            talk.update(who, |changed| changed.direction = direction);
            talk.quiet[who] = true;
            talk.seconds(3);
            // Held, it comes back on another device, which begins its frames when it likes.
            talk.takes_another(who, 13);
            talk.update(who, |_| ());
            talk.quiet[who] = false;
            talk.seconds(2);
        }
        talk.parties[who].codec = Codec::Pcma;
        talk.update(who, |_| ());
        talk.seconds(2);
        talk.takes_another(who, 0);
        talk.seconds(2);
    }
    talk.loss_percent = 5;
    talk.seconds(20);
}

#[test]
fn ur_009_what_came_at_one_moment_is_within_a_frame_whenever_sockets_are_read() {
    let mut most = 0;
    for n in 0..400i64 {
        let mut talk = Talk::new([100, -100]);
        (talk.parties[0].phase, talk.parties[1].phase) = (n % 20 * 1_000_000, n / 20 * 1_000_000);
        talk.offset = Duration::from_millis((n * 7 % 20) as u64);
        goes_through(&mut talk);
        let (apart, totals) = talk.apart();
        assert!(apart <= WITHIN, "{} and {} ms: {apart} us apart, {totals:?}", n % 20, n / 20);
        most = most.max(apart);
    }
    println!("{most} us apart at most");
}

#[test]
fn ur_009_a_device_that_takes_over_in_a_word_is_within_a_frame_after_a_second() {
    for n in 0..40i64 {
        let mut talk = Talk::new([0, 0]);
        talk.polite = false;
        talk.parties[1].phase = n * 7 % 20 * 1_000_000;
        talk.seconds(20);
        let who = (n % 2) as usize;
        let begins = talk.parties[who].said;
        talk.late = begins..begins + 70;
        talk.takes_another(who, n / 2 - 10);
        talk.seconds(10);
        check(talk);
    }
}

#[test]
fn ur_009_jitter_of_the_network_leaves_them_within_a_frame() {
    for n in 0..20i64 {
        let mut talk = Talk::new([100, -100]);
        (talk.parties[0].phase, talk.parties[1].phase) = (n * 1_000_000, n * 11 % 20 * 1_000_000);
        talk.jitter = Duration::from_millis(5);
        goes_through(&mut talk);
        check(talk);
    }
}
