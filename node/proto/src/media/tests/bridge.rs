//! Two legs that hear each other: what one party sends, and what the other gets and the recordings hold.

use super::*;

pub(super) const PEERS: [&str; 2] = ["10.0.0.9:4000", "10.0.0.8:5000"];

/// Two legs with the glue of the thread that owns them: packets go on when they are read, frames after the tick.
pub(super) struct Pair {
    pub(super) legs: [Leg; 2],
    pub(super) worlds: [World; 2],
    pub(super) now: Time,
}

fn both_ways() -> [MediaCmd; 2] {
    [MediaCmd::Bridge { leg: LegId(1), hears: Some(LegId(2)) }, MediaCmd::Bridge { leg: LegId(2), hears: Some(LegId(1)) }]
}

impl Pair {
    pub(super) fn new() -> Pair {
        Pair::with(|_| ())
    }

    /// Both bridged from the start.
    fn with(change: impl FnOnce(&mut [LegConfig; 2])) -> Pair {
        let mut configs = [0, 1].map(|n| LegConfig {
            negotiated: Negotiated { remote: PEERS[n].parse().unwrap(), ..negotiated() },
            ssrc: 0xabcd_ef00 + n as u32,
            first_sequence: 65_530,
            first_timestamp: MediaTime(u32::MAX - 1000),
            cname: "leg@test".into(),
            rtp_timeout: None,
            learn_any_ip: false,
        });
        change(&mut configs);
        let now = Time(123_456_789);
        let [a, b] = configs;
        let legs = [Leg::new(now, LegId(1), a), Leg::new(now, LegId(2), b)];
        let mut pair = Pair { legs, worlds: [World::default(), World::default()], now };
        for (n, command) in both_ways().into_iter().enumerate() {
            pair.command(n, command);
        }
        pair
    }

    pub(super) fn command(&mut self, n: usize, command: MediaCmd) {
        self.legs[n].command(self.now, command, &mut self.worlds[n]);
    }

    fn arrive_from(&mut self, n: usize, from: &str, packet: &[u8]) {
        let wanted = self.legs[1 - n].overhears();
        self.legs[n].set_overheard(wanted);
        let spoken = self.legs[n].push(self.now, from.parse().unwrap(), false, packet);
        if let Some(spoken) = spoken {
            self.legs[1 - n].relay(&spoken, &mut self.worlds[1 - n]);
        }
    }

    /// From party `n`.
    pub(super) fn arrive(&mut self, n: usize, packet: &[u8]) {
        self.arrive_from(n, PEERS[n], packet);
    }

    pub(super) fn tick(&mut self) {
        self.now += FRAME_TIME;
        (0..2).for_each(|n| self.tick_one(n));
    }

    pub(super) fn tick_one(&mut self, n: usize) {
        let wanted = self.legs[1 - n].overhears();
        self.legs[n].set_overheard(wanted);
        self.legs[n].tick(self.now, &mut self.worlds[n]);
        let [a, b] = &mut self.legs;
        let (speaker, listener) = if n == 0 { (a, b) } else { (b, a) };
        listener.overhear(speaker, &mut self.worlds[1 - n]);
    }

    fn ticks(&mut self, n: usize) {
        (0..n).for_each(|_| self.tick());
    }

    /// RTP that party `n` got: marker and type, sequence, timestamp, payload.
    fn got(&self, n: usize) -> Vec<(u8, u16, u32, Vec<u8>)> {
        let sent = self.worlds[n].sent.iter().filter(|(to, rtcp, _)| {
            assert!(*rtcp || *to == PEERS[n].parse().unwrap());
            !rtcp
        });
        sent.map(|(_, _, p)| {
            assert_eq!((p[0], &p[8..12]), (0x80, &(0xabcd_ef00 + n as u32).to_be_bytes()[..]), "our own header");
            (p[1], u16::from_be_bytes([p[2], p[3]]), u32::from_be_bytes(p[4..8].try_into().unwrap()), p[12..].to_vec())
        })
        .collect()
    }

    /// The same, of packets that are not our silence.
    fn relayed(&self, n: usize) -> Vec<(u8, u16, u32, Vec<u8>)> {
        self.got(n).into_iter().filter(|p| p.3.iter().any(|b| *b != 0xff)).collect()
    }

    pub(super) fn record(&mut self, spec: RecordSpec) {
        self.command(0, MediaCmd::Record { leg: LegId(1), recording: RecordingId(1), spec: Box::new(spec) });
    }

    /// Ends leg 1; what its recording holds: speak, heard, totals.
    pub(super) fn end(&mut self) -> (Vec<Recorded>, Vec<Recorded>, RecordingTotals) {
        self.legs[0].close(self.now, StopReason::RemoteHangup, &mut self.worlds[0]);
        let side = |heard: bool| {
            let mut frames: Vec<Recorded> = Vec::new();
            for block in self.worlds[0].blocks.iter().filter(|b| b.heard == heard) {
                assert_eq!(block.first_frame, frames.len() as u64);
                frames.extend((0..block.frames).map(|n| (block.kinds[n], block.law[n * FRAME..(n + 1) * FRAME].to_vec())));
            }
            frames
        };
        let totals: Vec<_> = self.worlds[0]
            .events
            .iter()
            .filter_map(|e| if let MediaKind::RecordingClosed { totals, .. } = e.what { Some(totals) } else { None })
            .collect();
        let [totals] = totals[..] else { panic!("{totals:?}") };
        let (speak, heard) = (side(false), side(true));
        assert_eq!(totals.expected, totals.received + totals.concealed + totals.silence);
        if !heard.is_empty() && !speak.is_empty() {
            assert_eq!(speak.len() as u64, totals.expected);
            assert_eq!(totals.expected, totals.heard.received + totals.heard.concealed + totals.heard.silence);
            // Where the party fell silent long before its end, more was handed on than its side holds: the writer cuts that.
            assert!(heard.len() as u64 >= totals.expected);
            if heard.len() as u64 == totals.expected {
                let kinds = |kind| heard.iter().filter(|f| f.0 == kind).count() as u64;
                assert_eq!(totals.heard.received, kinds(FrameKind::Voice));
                assert!(totals.heard.silence <= kinds(FrameKind::Silence) + kinds(FrameKind::Masked));
            }
        }
        (speak, heard, totals)
    }
}

pub(super) type Recorded = (FrameKind, Vec<u8>);

pub(super) fn peer(ssrc: u32) -> Peer {
    Peer { ssrc, number: ssrc * 1000, ..Peer::new() }
}

fn bytes(frames: &[Recorded], kind: FrameKind) -> Vec<u8> {
    frames.iter().filter(|f| f.0 == kind).flat_map(|f| f.1.clone()).collect()
}

#[test]
fn what_one_party_sends_the_other_gets_untouched() {
    let mut pair = Pair::new();
    let mut peers = [peer(7), peer(8)];
    for _ in 0..1000 {
        for (n, peer) in peers.iter_mut().enumerate() {
            let packet = peer.packet();
            pair.arrive(n, &packet);
        }
        pair.tick();
    }
    for n in 0..2 {
        let got = pair.got(n);
        assert_eq!(got.len(), 1000, "and nothing between them");
        assert!(got.iter().flat_map(|p| p.3.clone()).collect::<Vec<_>>() == peers[1 - n].bytes);
        for (i, p) in got.iter().enumerate() {
            let place = (65_530u16.wrapping_add(i as u16), (u32::MAX - 1000).wrapping_add(i as u32 * 160));
            assert_eq!((p.0, p.1, p.2), (if i == 0 { 0x80 } else { 0 }, place.0, place.1));
        }
        let stats = pair.legs[n].stats();
        assert_eq!((stats.received, stats.sent, stats.lost), (1000, 1000, 0));
    }
}

#[test]
fn loss_and_reordering_reach_the_far_end_as_they_are() {
    let mut random = Random::new([3; 32]);
    let mut pair = Pair::new();
    let mut peer = peer(7);
    let (mut kept, mut back) = (Vec::new(), None);
    let first = peer.sequence;
    for n in 0..2000u32 {
        let packet = peer.packet();
        match random.u32() % 20 {
            0 if n > 0 && back.is_none() => {}
            1 if n > 0 && back.is_none() => back = Some((n, packet)),
            _ => {
                pair.arrive(0, &packet);
                kept.push(n);
                // Twice: once is enough for the other.
                pair.arrive(0, &packet);
                if let Some((n, packet)) = back.take() {
                    pair.arrive(0, &packet);
                    kept.push(n);
                }
            }
        }
        pair.tick();
    }
    let relayed = pair.relayed(1);
    assert_eq!(relayed.len(), kept.len());
    let mut turned = 0;
    for pair in relayed.windows(2).zip(kept.windows(2)) {
        let ([before, after], [n, next]) = pair else { unreachable!("windows of two") };
        let steps = i64::from(*next) - i64::from(*n);
        // A hole so long that silence of ours goes out in it ends one stretch and begins another.
        if after.0 & 0x80 == 0 {
            assert_eq!(i64::from(after.1.wrapping_sub(before.1).cast_signed()), steps);
            assert_eq!(i64::from(after.2.wrapping_sub(before.2).cast_signed()), steps * 160);
        }
        turned += u32::from(steps < 0);
    }
    assert!(turned > 50, "{turned}");
    for (p, n) in relayed.iter().zip(&kept) {
        assert!(p.3 == peer.bytes[*n as usize * FRAME..][..FRAME], "{first} {n}");
    }
    let stats = pair.legs[0].stats();
    assert_eq!((stats.duplicate, stats.lost), ((kept.len() - turned as usize) as u64, 2000 - kept.len() as u64));
}

#[test]
fn laws_are_exchanged_by_table_in_the_same_path() {
    for (from, to) in [(Codec::Pcmu, Codec::Pcma), (Codec::Pcma, Codec::Pcmu)] {
        let mut pair = Pair::with(|c| {
            (c[0].negotiated.codec, c[0].negotiated.payload_type) = (from, from.static_payload_type());
            // Their own number for it.
            (c[1].negotiated.codec, c[1].negotiated.payload_type) = (to, 96);
        });
        let law: Vec<u8> = (0..=255).collect();
        pair.arrive(0, &rtp(from.static_payload_type(), false, 1, 1, 7, &law));
        let want: Vec<u8> = law.iter().map(|b| g711::encode(to, g711::decode(from, *b))).collect();
        let got = pair.got(1);
        assert_eq!((got[0].0, got[0].3.as_slice()), (0x80 | 96, want.as_slice()));
    }
}

/// A press of `code` for 100 ms as events of this SSRC, a packet a tick, then audio again.
fn press(pair: &mut Pair, peer: &mut Peer, code: u8, ssrc: u32) {
    let timestamp = peer.timestamp;
    for step in 1..=7u16 {
        let p = rtp(101, step == 1, peer.sequence, timestamp, ssrc, &event(code, step >= 5, step.min(5) * 160));
        if ssrc == peer.ssrc {
            peer.sequence = peer.sequence.wrapping_add(1);
        }
        pair.arrive(0, &p);
        pair.tick();
    }
    peer.timestamp = timestamp.wrapping_add(7 * 160);
    for _ in 0..20 {
        let p = peer.packet();
        pair.arrive(0, &p);
        pair.tick();
    }
}

fn digits(world: &World) -> String {
    world.events.iter().filter_map(|e| if let MediaKind::Digit { digit, .. } = e.what { Some(digit) } else { None }).collect()
}

#[test]
fn ic_237_digits_are_events_on_the_other_side_too_and_are_reported() {
    let mut pair = Pair::with(|c| c[1].negotiated.telephone_event = Some(97));
    let mut peer = peer(7);
    for _ in 0..10 {
        let p = peer.packet();
        pair.arrive(0, &p);
        pair.tick();
    }
    press(&mut pair, &mut peer, 5, 7);
    assert_eq!((digits(&pair.worlds[0]).as_str(), digits(&pair.worlds[1]).as_str()), ("5", ""));
    let got = pair.got(1);
    let events: Vec<_> = got.iter().filter(|p| p.0 & 0x7f == 97).collect();
    assert_eq!(events.len(), 7);
    let at = got[9].2.wrapping_add(160);
    for (n, e) in events.iter().enumerate() {
        assert_eq!((e.0, e.1, e.2), (if n == 0 { 0x80 | 97 } else { 97 }, got[9].1.wrapping_add(1 + n as u16), at));
        assert_eq!(e.3, event(5, n >= 4, (n as u16 + 1).min(5) * 160));
    }
    // Audio goes on where its timestamp says, without a packet of ours between.
    let next = got.iter().skip(10).find(|p| p.0 & 0x7f == 0).unwrap();
    assert_eq!((next.0, next.2), (0, at.wrapping_add(7 * 160)));
    assert_eq!(got.len(), 37);
}

#[test]
fn ic_237_where_events_cannot_be_relayed_digits_are_made_anew() {
    // Without telephone-event at the far end: tones in the audio. From an SSRC beside the audio's: events of our own.
    for (events, ssrc) in [(None, 7), (Some(97), 99)] {
        let mut pair = Pair::with(|c| c[1].negotiated.telephone_event = events);
        let mut peer = peer(7);
        for _ in 0..10 {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.tick();
        }
        press(&mut pair, &mut peer, 5, ssrc);
        assert_eq!(digits(&pair.worlds[0]), "5");
        let got = pair.got(1);
        let sequences: Vec<_> = got.windows(2).map(|p| p[1].1.wrapping_sub(p[0].1)).collect();
        assert!(sequences.iter().all(|step| *step == 1), "what was left out is no loss: {sequences:?}");
        match events {
            Some(_) => {
                let events: Vec<_> = got.iter().filter(|p| p.0 & 0x7f == 97).map(|p| p.3.clone()).collect();
                assert_eq!((events.len(), events.last().unwrap()), (7, &vec![5, 0x8a, 3, 32]));
            }
            None => {
                let tone = ToneSpec5::new();
                let heard: Vec<u8> = got[10..].iter().flat_map(|p| p.3.clone()).take(800).collect();
                assert!(heard == tone.0, "100 ms of the two tones, at once");
            }
        }
        assert!(got.last().unwrap().3 == peer.bytes[peer.bytes.len() - FRAME..], "then the bridge goes on");
    }
}

/// 100 ms of the digit 5 as law bytes.
struct ToneSpec5(Vec<u8>);

impl ToneSpec5 {
    fn new() -> ToneSpec5 {
        ToneSpec5(tone::ToneSpec::dtmf('5', 100, -6.0).unwrap().clip().pcmu.to_vec())
    }
}

#[test]
fn a_pause_is_filled_with_silence_and_speech_comes_back_with_a_marker() {
    let mut pair = Pair::new();
    let mut peer = peer(7);
    for part in 0..3 {
        for _ in 0..10 {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.tick();
        }
        if part < 2 {
            // DTX: no sequence number is missing, the timestamp goes on.
            pair.ticks(50);
            peer.timestamp = peer.timestamp.wrapping_add(50 * 160);
        }
    }
    let got = pair.got(1);
    // In each pause of 50 frames the first 2 are left to the far end's concealment.
    assert_eq!(got.len(), 10 + 48 + 10 + 48 + 10);
    for (n, p) in got.windows(2).enumerate() {
        assert_eq!(p[1].1.wrapping_sub(p[0].1), 1, "{n}");
        let frames = if n == 9 || n == 67 { 3 } else { 1 };
        assert_eq!(p[1].2.wrapping_sub(p[0].2), frames * 160, "{n}");
    }
    let markers: Vec<_> = (0..got.len()).filter(|n| got[*n].0 & 0x80 != 0).collect();
    assert_eq!(markers, [0, 10, 58, 68, 116]);
    assert!(got[10..58].iter().all(|p| p.3 == [0xff; FRAME]));
}

#[test]
fn what_comes_late_and_all_at_once_is_passed_on_whole_with_as_much_silence_as_was_waited_for() {
    for late in 0..40 {
        let mut pair = Pair::new();
        let mut peer = peer(1);
        let on_time = |pair: &mut Pair, peer: &mut Peer| {
            for _ in 0..20 {
                pair.arrive(0, &peer.packet());
                pair.tick();
            }
        };
        on_time(&mut pair, &mut peer);
        // A far end that stands still says afterwards what it should have said meanwhile: nothing of it is missing, repeated or moved.
        pair.ticks(late);
        for _ in 0..late {
            pair.arrive(0, &peer.packet());
        }
        on_time(&mut pair, &mut peer);
        let got = pair.got(1);
        let (silence, speech): (Vec<_>, Vec<_>) = got.iter().partition(|p| p.3.iter().all(|b| *b == 0xff));
        assert_eq!(speech.iter().flat_map(|p| p.3.clone()).collect::<Vec<u8>>(), peer.bytes, "{late} late");
        assert_eq!(silence.len(), late.saturating_sub(2), "{late} late: two frames are waited for");
        let steps = got.windows(2).filter(|w| w[1].1 != w[0].1.wrapping_add(1)).count();
        assert_eq!(steps, 0, "{late} late: a hole in our numbers looks like loss");
    }
}

#[test]
fn comfort_noise_is_not_passed_on_and_no_loss() {
    let mut pair = Pair::new();
    let mut peer = peer(7);
    for n in 0..20 {
        let p = match n {
            5 => {
                peer.sequence = peer.sequence.wrapping_add(1);
                rtp(13, false, peer.sequence.wrapping_sub(1), peer.timestamp, 7, &[0x30])
            }
            _ => peer.packet(),
        };
        pair.arrive(0, &p);
        pair.tick();
    }
    let got = pair.got(1);
    assert_eq!(got.len(), 19);
    assert!(got.windows(2).all(|p| p[1].1.wrapping_sub(p[0].1) == 1));
}

#[test]
fn hold_of_either_leg_is_respected() {
    let update = |n: usize, direction| {
        let negotiated = Negotiated { direction, remote: PEERS[n].parse().unwrap(), ..negotiated() };
        MediaCmd::Update { leg: LegId(n as u64 + 1), negotiated: Box::new(negotiated) }
    };
    let mut peer = peer(7);
    let mut pair = Pair::new();
    let mut speak = |pair: &mut Pair| {
        let before = (pair.relayed(1).len(), pair.got(1).len());
        for _ in 0..10 {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.tick();
        }
        (pair.relayed(1).len() - before.0, pair.got(1).len() - before.1)
    };
    // (leg, our direction, packets of the party that go on, packets that the other gets)
    for (n, direction, relayed, got) in [
        (0, Direction::SendRecv, 10, 10),
        (1, Direction::RecvOnly, 0, 0),
        (1, Direction::Inactive, 0, 0),
        (1, Direction::SendOnly, 10, 10),
        (0, Direction::RecvOnly, 10, 10),
    ] {
        pair.command(n, update(n, direction));
        assert_eq!(speak(&mut pair), (relayed, got), "{n} {direction:?}");
    }
    // We told the speaker that we do not receive: the other hears silence, after the usual wait.
    pair.command(0, update(0, Direction::SendOnly));
    assert_eq!(speak(&mut pair), (0, 8));
    pair.command(0, update(0, Direction::SendRecv));
    assert_eq!(speak(&mut pair), (10, 10));
}

#[test]
fn a_prompt_wins_over_the_bridge_and_the_bridge_goes_on() {
    let mut pair = Pair::new();
    let mut peer = peer(7);
    for n in 0..60 {
        if n == 20 {
            let segments = vec![Segment::Clip(clip(200, 10 * FRAME))];
            pair.command(1, MediaCmd::Play { leg: LegId(2), play: PlayId(1), segments, barge_in: BargeIn::None });
        }
        let p = peer.packet();
        pair.arrive(0, &p);
        pair.tick();
    }
    let got = pair.got(1);
    let prompt: Vec<_> = (0..got.len()).filter(|n| got[*n].3 == [200; FRAME]).collect();
    // The packet of the first frame of the prompt was already on its way.
    assert_eq!(prompt, (21..31).collect::<Vec<_>>());
    assert!(got.windows(2).all(|p| p[1].1.wrapping_sub(p[0].1) == 1 && p[1].2.wrapping_sub(p[0].2) == 160));
    let markers: Vec<_> = (0..got.len()).filter(|n| got[*n].0 & 0x80 != 0).collect();
    assert_eq!(markers, [0, 21, 32], "the prompt, and the party again after one frame of silence");
    assert!(got.last().unwrap().3 == peer.bytes[59 * FRAME..]);
}

#[test]
fn ic_034_without_a_bridge_there_is_silence_and_reports_go_on() {
    let mut pair = Pair::new();
    let mut peer = peer(7);
    let talk = |pair: &mut Pair, peer: &mut Peer, n| {
        let before = pair.got(1).len();
        for _ in 0..n {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.tick();
        }
        pair.got(1)[before..].iter().filter(|p| p.3 != [0xff; FRAME]).count()
    };
    assert_eq!(talk(&mut pair, &mut peer, 10), 10);
    let reports = |pair: &Pair| pair.worlds[1].sent.iter().filter(|s| s.1).count();
    // To hear oneself is not a bridge either.
    for hears in [None, Some(LegId(2))] {
        let before = (reports(&pair), pair.got(1).len());
        pair.command(1, MediaCmd::Bridge { leg: LegId(2), hears });
        assert_eq!(talk(&mut pair, &mut peer, 500), 0);
        assert_eq!(pair.got(1).len() - before.1, 500, "a leg always sends");
        assert!(reports(&pair) > before.0);
    }
    pair.command(1, MediaCmd::Bridge { leg: LegId(2), hears: Some(LegId(1)) });
    assert_eq!(talk(&mut pair, &mut peer, 10), 10);
    assert!(pair.got(1).windows(2).all(|p| p[1].1.wrapping_sub(p[0].1) == 1 && p[1].2.wrapping_sub(p[0].2) == 160));
}

#[test]
fn a_foreign_source_is_never_relayed() {
    let mut pair = Pair::new();
    let stray = rtp(0, false, 1, 1, 9, &[1; FRAME]);
    // Before anything was learnt, while it is, and after.
    for n in 0..20 {
        pair.arrive_from(0, "10.0.0.66:4000", &stray);
        pair.arrive_from(0, PEERS[1], &stray);
        if n > 5 {
            pair.arrive(0, &rtp(0, false, 100 + n, u32::from(n) * 160, 7, &[2; FRAME]));
        }
        pair.tick();
    }
    // Another SSRC from the right address does not speak into the conversation either.
    pair.arrive(0, &stray);
    let relayed = pair.relayed(1);
    assert_eq!(relayed.len(), 14);
    assert!(relayed.iter().all(|p| p.3 == [2; FRAME]));
    assert_eq!(pair.legs[0].stats().foreign, 40, "the one that could begin a stream still waits for its second");
}

#[test]
fn another_ssrc_takes_over_with_a_marker() {
    let mut pair = Pair::new();
    let mut peer = peer(7);
    for n in 0..100 {
        if n == 50 {
            (peer.ssrc, peer.sequence, peer.timestamp) = (8, 3, 77);
        }
        let p = peer.packet();
        pair.arrive(0, &p);
        pair.tick();
    }
    let got = pair.got(1);
    // Its first packet could have been a stray: the second confirms it.
    assert_eq!(got.len(), 99);
    assert!(got.windows(2).all(|p| p[1].1.wrapping_sub(p[0].1) == 1));
    assert_eq!((got[50].0, got[50].2.wrapping_sub(got[49].2)), (0x80, 2 * 160));
    assert!(got[50].3 == peer.bytes[51 * FRAME..][..FRAME]);
}

#[test]
fn a_far_end_that_insists_on_its_packet_time_gets_it() {
    for (ms, samples) in [(10, 80), (30, 240), (60, 480)] {
        let mut pair = Pair::with(|c| c[1].negotiated.ptime = Duration::from_millis(ms));
        let mut peer = peer(7);
        for _ in 0..300 {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.tick();
        }
        let got = pair.got(1);
        assert!(got.iter().all(|p| p.3.len() == samples), "{ms}");
        let law: Vec<u8> = got.iter().flat_map(|p| p.3.clone()).collect();
        let from = law.windows(FRAME).position(|w| *w == peer.bytes[FRAME..2 * FRAME]).unwrap();
        assert!(law[from..] == peer.bytes[FRAME..][..law.len() - from], "{ms}");
        // What comes in its own size goes on as it is.
        let mut pair = Pair::with(|c| c[1].negotiated.ptime = Duration::from_millis(ms));
        let mut peer = Peer { samples, ..super::bridge::peer(7) };
        for _ in 0..50 {
            let p = peer.packet();
            pair.arrive(0, &p);
            pair.ticks(ms as usize / 20);
        }
        assert!(pair.relayed(1).iter().flat_map(|p| p.3.clone()).collect::<Vec<_>>() == peer.bytes, "{ms}");
        // And far ends that ask for nothing get any size.
        let mut pair = Pair::new();
        pair.arrive(0, &rtp(0, false, 1, 1, 7, &vec![3; samples]));
        assert_eq!(pair.got(1)[0].3.len(), samples);
    }
}

pub(super) fn two_sided() -> RecordSpec {
    RecordSpec { direction: TapDirection::Both, ..spec() }
}

#[test]
fn ur_005_a_connection_is_recorded_byte_for_byte_while_it_is_relayed() {
    let mut pair = Pair::new();
    let mut peers = [peer(7), peer(8)];
    for n in 0..1000 {
        if n == 100 {
            pair.record(two_sided());
        }
        for (n, peer) in peers.iter_mut().enumerate() {
            let packet = peer.packet();
            pair.arrive(n, &packet);
        }
        pair.tick();
    }
    let (speak, heard, totals) = pair.end();
    assert!((899..=901).contains(&totals.expected), "{totals:?}");
    assert!(bytes(&speak, FrameKind::Voice) == peers[0].bytes[100 * FRAME..]);
    assert!(bytes(&heard, FrameKind::Voice) == peers[1].bytes[100 * FRAME..][..heard.len() * FRAME]);
    assert_eq!((totals.heard.skipped, totals.heard.concealed, totals.concealed), (0, 0, 0));
    assert_eq!((pair.relayed(0).len(), pair.relayed(1).len()), (1000, 1000), "recording changes nothing of the relay");
}

#[test]
fn ur_008_two_sides_stay_together_over_loss_pauses_and_hold() {
    let mut random = Random::new([5; 32]);
    let mut pair = Pair::new();
    pair.record(two_sided());
    let mut peers = [peer(7), peer(8)];
    // When the last packet of each was sent that is found again: by its number, at a tick.
    let mut marks = [Vec::new(), Vec::new()];
    for tick in 0..6000u32 {
        for (n, peer) in peers.iter_mut().enumerate() {
            let paused = tick / 100 % 7 == 3 + n as u32;
            let lost = random.u32() % 100 < 5;
            if paused {
                // DTX: the timestamp goes on alone.
                peer.timestamp = peer.timestamp.wrapping_add(160);
                continue;
            }
            let packet = peer.packet();
            if !lost {
                pair.arrive(n, &packet);
                marks[n].push((tick, packet[12..].to_vec()));
            }
        }
        pair.tick();
    }
    let (speak, heard, totals) = pair.end();
    for (side, marks) in [speak, heard].iter().zip(&marks) {
        let mut from = 0;
        for (tick, law) in marks {
            let tick = *tick as usize;
            // Numbers repeat; a frame is looked for where it should be.
            from = (tick.saturating_sub(3)..tick + 4).find(|at| side.get(*at).is_some_and(|f| f.1 == *law)).unwrap_or_else(|| {
                panic!("the frame of tick {tick} is not near {from}");
            });
            assert!(from.abs_diff(tick) <= 1, "{from} {tick}");
        }
    }
    assert!(totals.heard.concealed > 100 && totals.concealed > 100 && totals.heard.silence > 500, "{totals:?}");
}

#[test]
fn ur_008_an_hour_of_skewed_clocks_keeps_two_sides_within_a_frame() {
    for skew in [[-100i64, 100], [100, -100], [0, 200]] {
        let mut pair = Pair::new();
        pair.record(two_sided());
        let start = pair.now;
        let mut sent = [0i64; 2];
        // Each says in its packets when they were sent: by the number, for a second in every three.
        for _ in 0..180_000 {
            let next = pair.now + FRAME_TIME;
            for n in 0..2 {
                loop {
                    let at = start + Duration::from_nanos((sent[n] * 20_000_000 + sent[n] * 20 * skew[n]) as u64);
                    if at > next {
                        break;
                    }
                    let number = sent[n] as u32;
                    let loud = number / 50 % 3 == n as u32;
                    let mut law = [0xff; FRAME];
                    if loud {
                        law.fill(0x10);
                        law[..4].copy_from_slice(&number.to_be_bytes());
                    }
                    let packet = rtp(0, false, number as u16, number.wrapping_mul(160), n as u32, &law);
                    pair.arrive(n, &packet);
                    sent[n] += 1;
                }
            }
            pair.tick();
            // The world's packets are of no interest, and an hour of them too many.
            pair.worlds.iter_mut().for_each(|w| w.sent.clear());
        }
        let (speak, heard, totals) = pair.end();
        let mut worst = 0;
        let mut spoken = [0u64; 2];
        for (n, side) in [&speak, &heard].into_iter().enumerate() {
            for (place, (_, law)) in side.iter().enumerate().filter(|(_, f)| f.1[10] == 0x10) {
                spoken[n] += 1;
                let number = i64::from(u32::from_be_bytes(law[..4].try_into().unwrap()));
                // Where this moment is on the timeline, which is the speaker's clock.
                let place_due = (number * (1_000_000 + skew[n]) + 500_000) / (1_000_000 + skew[0]);
                worst = worst.max((place as i64 - place_due).abs());
            }
        }
        assert!(worst <= 1, "{skew:?}: {worst} frames");
        let due = |n: usize| (0..sent[n]).filter(|number| number / 50 % 3 == n as i64).count() as u64;
        assert!(spoken[0].abs_diff(due(0)) <= 1 && spoken[1].abs_diff(due(1)) <= 1, "{skew:?}: every loud frame is there");
        let moved = totals.heard.skipped + heard.iter().filter(|f| f.0 == FrameKind::Silence).count() as u64;
        assert!(moved <= 40, "{skew:?}: 36 quiet frames in an hour, {moved}");
    }
}

#[test]
fn music_without_a_pause_is_brought_back_too() {
    let mut pair = Pair::new();
    pair.record(two_sided());
    let mut peers = [peer(7), peer(8)];
    for tick in 0..30_000 {
        for (n, peer) in peers.iter_mut().enumerate() {
            // The second runs 1000 ppm fast, which no clock does.
            for _ in 0..if n == 1 && tick % 1000 == 999 { 2 } else { 1 } {
                let packet = peer.packet();
                pair.arrive(n, &packet);
            }
        }
        pair.tick();
    }
    let (_, _, totals) = pair.end();
    assert!((24..=30).contains(&totals.silence), "{totals:?}");
    assert_eq!((totals.heard.received, totals.heard.skipped), (30_030, 0), "none of it is left out");
}

#[test]
fn prompts_are_heard_in_the_recording_between_the_others_words() {
    let mut pair = Pair::new();
    pair.record(two_sided());
    let mut peers = [peer(7), peer(8)];
    for tick in 0..300 {
        if tick == 100 {
            let segments = vec![Segment::Clip(clip(200, 50 * FRAME))];
            pair.command(0, MediaCmd::Play { leg: LegId(1), play: PlayId(1), segments, barge_in: BargeIn::None });
        }
        for (n, peer) in peers.iter_mut().enumerate() {
            let packet = peer.packet();
            pair.arrive(n, &packet);
        }
        pair.tick();
    }
    let (_, heard, totals) = pair.end();
    let prompt: Vec<_> = (0..heard.len()).filter(|n| heard[*n].1 == [200; FRAME]).collect();
    assert_eq!(prompt.len(), 50);
    assert!(prompt[49] - prompt[0] == 49 && prompt[0].abs_diff(100) <= 1, "{prompt:?}");
    assert!(totals.heard.silence <= 2, "{totals:?}");
}

#[test]
fn ur_008_listen_records_the_other_party() {
    let mut pair = Pair::new();
    pair.record(RecordSpec { direction: TapDirection::Listen, ..spec() });
    let mut peer = peer(8);
    for n in 0..100 {
        let packet = peer.packet();
        if n != 50 {
            pair.arrive(1, &packet);
        }
        pair.tick();
    }
    let (_, heard, totals) = pair.end();
    assert_eq!((totals.concealed, totals.heard), (1, SideTotals::default()));
    let voice = bytes(&heard, FrameKind::Voice);
    assert!(voice == [&peer.bytes[..50 * FRAME], &peer.bytes[51 * FRAME..]].concat()[..voice.len()]);
    assert!(totals.received >= 95, "{totals:?}");
}

#[test]
fn ur_028_the_tone_lies_over_the_others_voice_and_the_recording_has_the_voice_alone() {
    for ptime in [20, 30] {
        let mut pair = Pair::with(|c| c[0].negotiated.ptime = Duration::from_millis(ptime));
        pair.record(RecordSpec { direction: TapDirection::Both, ..spec() });
        pair.command(0, MediaCmd::Warn { leg: LegId(1), on: true });
        let mut peer = peer(8);
        // 700 Hz of a level, so that what is added is seen.
        let frame: Vec<u8> = (0..FRAME)
            .map(|n| g711::encode(Codec::Pcmu, (4000.0 * (std::f64::consts::TAU * 700.0 * n as f64 / 8000.0).sin()) as i16))
            .collect();
        for _ in 0..60 {
            let mut packet = peer.packet();
            packet[12..].copy_from_slice(&frame);
            pair.arrive(1, &packet);
            pair.tick();
        }
        let heard: Vec<u8> = pair.got(0).into_iter().flat_map(|packet| packet.3).collect();
        let warned: Vec<usize> = heard.chunks_exact(FRAME).enumerate().filter(|(_, law)| warns(law)).map(|(n, _)| n).collect();
        assert!((9..=11).contains(&warned.len()) && warned[warned.len() - 1] < 16, "{ptime}: {warned:?}");
        // Not a word was lost for it: what is not under the tone is untouched.
        let untouched = heard.chunks_exact(FRAME).filter(|law| *law == &frame[..]).count();
        assert!(untouched >= 44, "{ptime}: {untouched}");
        let (_, heard, _) = pair.end();
        assert!(heard.iter().all(|(_, law)| !warns(law)));
    }
}

#[test]
fn junk_in_both_legs_of_a_bridge_never_panics_and_totals_add_up() {
    let mut random = Random::new([11; 32]);
    for round in 0..60u32 {
        let mut pair = Pair::with(|c| {
            c[1].negotiated.telephone_event = [None, Some(97)][round as usize % 2];
            c[1].negotiated.ptime = Duration::from_millis([20, 30, 10, 60][round as usize % 4]);
            (c[0].negotiated.codec, c[0].negotiated.payload_type) = [(Codec::Pcmu, 0), (Codec::Pcma, 8)][round as usize / 2 % 2];
        });
        pair.record(RecordSpec { direction: [TapDirection::Both, TapDirection::Listen][round as usize % 2], ..spec() });
        let mut peers = [peer(7), peer(8)];
        for _ in 0..400 {
            for _ in 0..random.u32() % 6 {
                let n = random.u32() as usize % 2;
                let peer = &mut peers[n];
                let mut packet = match random.u32() % 8 {
                    0 => {
                        let payload = event(random.u32() as u8 & 31, random.u32() & 1 == 0, random.u32() as u16);
                        rtp(101, false, peer.sequence, peer.timestamp, peer.ssrc, &payload[..random.u32() as usize % 5])
                    }
                    1 => rtp(13, false, peer.sequence, peer.timestamp, peer.ssrc, &[1]),
                    2 => (0..random.u32() % 60).map(|_| random.u32() as u8).collect(),
                    3 => {
                        peer.samples = [0, 1, 80, 160, 159, 240, 480, 640, 641, 1600, 1601][random.u32() as usize % 11];
                        peer.packet()
                    }
                    4 => {
                        peer.timestamp = random.u32();
                        peer.packet()
                    }
                    _ => peer.packet(),
                };
                for _ in 0..random.u32() % 3 {
                    if !packet.is_empty() {
                        let at = random.u32() as usize % packet.len().min(20);
                        packet[at] = random.u32() as u8;
                    }
                }
                pair.arrive(n, &packet);
            }
            match random.u32() % 200 {
                0 => {
                    let hears = [None, Some(LegId(2))][random.u32() as usize % 2];
                    pair.command(0, MediaCmd::Bridge { leg: LegId(1), hears });
                }
                1 => pair.command(0, MediaCmd::SendDigit { leg: LegId(1), digit: '3', duration: FRAME_TIME }),
                4 => pair.command(0, MediaCmd::Warn { leg: LegId(1), on: random.u32() & 3 != 0 }),
                2 => {
                    let segments = vec![Segment::Clip(clip(9, 777)), Segment::Echo(Duration::from_secs(1))];
                    pair.command(1, MediaCmd::Play { leg: LegId(2), play: PlayId(1), segments, barge_in: BargeIn::All });
                }
                3 => {
                    let direction = [Direction::SendRecv, Direction::SendOnly, Direction::Inactive][random.u32() as usize % 3];
                    let negotiated = Negotiated { direction, remote: PEERS[1].parse().unwrap(), ..negotiated() };
                    pair.command(1, MediaCmd::Update { leg: LegId(2), negotiated: Box::new(negotiated) });
                }
                _ => {}
            }
            pair.now += Duration::from_millis(u64::from(random.u32() % 500 / 499 * 2000));
            pair.tick();
        }
        pair.end();
    }
}
