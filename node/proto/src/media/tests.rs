//! The leg as a whole, in virtual time: a scripted peer in front, a collector of packets, events and blocks behind.

use super::*;
use crate::Random;
use std::collections::VecDeque;

mod alignment;
mod bridge;
mod recording;

const PEER: &str = "10.0.0.9:4000";

/// What a leg does to the world, kept.
#[derive(Default)]
struct World {
    sent: Vec<(SocketAddr, bool, Vec<u8>)>,
    events: Vec<MediaEvent>,
    blocks: Vec<Box<Block>>,
    /// Blocks that may still be taken; `None`: any number.
    pool: Option<usize>,
}

impl LegIo for World {
    fn send(&mut self, to: SocketAddr, rtcp: bool, packet: &[u8]) {
        self.sent.push((to, rtcp, packet.to_vec()));
    }
    fn event(&mut self, event: MediaEvent) {
        self.events.push(event);
    }
    fn take_block(&mut self) -> Option<Box<Block>> {
        if let Some(left) = &mut self.pool {
            *left = left.checked_sub(1)?;
        }
        // A used block: what is in it must not matter.
        let mut block = Block::empty();
        (block.frames, block.first_frame, block.heard) = (13, 99, true);
        block.last = Some((StopReason::Overload, RecordingTotals::default()));
        Some(block)
    }
    fn give_block(&mut self, block: Box<Block>) {
        self.blocks.push(block);
    }
}

struct Rig {
    leg: Leg,
    world: World,
    now: Time,
}

fn negotiated() -> Negotiated {
    Negotiated {
        codec: Codec::Pcmu,
        payload_type: 0,
        telephone_event: Some(101),
        remote: PEER.parse().unwrap(),
        remote_rtcp: "10.0.0.9:4001".parse().unwrap(),
        rtcp_mux: false,
        direction: Direction::SendRecv,
        ptime: FRAME_TIME,
    }
}

fn spec() -> RecordSpec {
    RecordSpec::default()
}

fn rtp(payload_type: u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x80, payload_type | u8::from(marker) << 7];
    p.extend(sequence.to_be_bytes());
    p.extend(timestamp.to_be_bytes());
    p.extend(ssrc.to_be_bytes());
    p.extend(payload);
    p
}

/// A numbered payload: its bytes depend on the number and the place, and none is silence.
fn numbered(n: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (n.wrapping_mul(31).wrapping_add(i * 7) % 120) as u8).collect()
}

fn event(code: u8, end: bool, duration: u16) -> [u8; 4] {
    let [high, low] = duration.to_be_bytes();
    [code, if end { 0x80 } else { 0 }, high, low]
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut LegConfig)) -> Rig {
        let mut config = LegConfig {
            negotiated: negotiated(),
            ssrc: 0xabcd_ef01,
            first_sequence: 65_530,
            first_timestamp: MediaTime(u32::MAX - 1000),
            cname: "leg@test".into(),
            rtp_timeout: None,
            learn_any_ip: false,
        };
        change(&mut config);
        // The birth is not on a frame's boundary of anything.
        let now = Time(123_456_789);
        Rig { leg: Leg::new(now, LegId(1), config), world: World::default(), now }
    }

    fn push(&mut self, packet: &[u8]) {
        self.leg.push(self.now, PEER.parse().unwrap(), false, packet);
    }

    /// A frame passes and ends in a tick.
    fn tick(&mut self) {
        self.now += FRAME_TIME;
        self.leg.tick(self.now, &mut self.world);
    }

    fn ticks(&mut self, n: usize) {
        (0..n).for_each(|_| self.tick());
    }

    fn command(&mut self, command: MediaCmd) {
        self.leg.command(self.now, command, &mut self.world);
    }

    fn record(&mut self, spec: RecordSpec) {
        self.command(MediaCmd::Record { leg: LegId(1), recording: RecordingId(1), spec: Box::new(spec) });
    }

    fn play(&mut self, segments: Vec<Segment>, barge_in: BargeIn) {
        self.command(MediaCmd::Play { leg: LegId(1), play: PlayId(1), segments, barge_in });
    }

    fn stop_recording(&mut self) {
        self.command(MediaCmd::StopRecording { leg: LegId(1), recording: RecordingId(1), reason: StopReason::ApiStop });
        self.leg.tick(self.now, &mut self.world);
    }

    fn close(&mut self) {
        self.leg.close(self.now, StopReason::RemoteHangup, &mut self.world);
    }

    /// All frames of one side of the recording. Checks what must hold of the blocks.
    fn recorded(&self, heard: bool) -> Vec<(FrameKind, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut lasts = 0;
        for (i, block) in self.world.blocks.iter().enumerate() {
            lasts += usize::from(block.last.is_some());
            assert!(block.last.is_none() || i + 1 == self.world.blocks.len(), "only the last block is flagged");
            if block.heard != heard {
                continue;
            }
            assert_eq!(block.first_frame, frames.len() as u64);
            for n in 0..block.frames {
                frames.push((block.kinds[n], block.law[n * FRAME..(n + 1) * FRAME].to_vec()));
            }
        }
        assert_eq!(lasts, 1, "exactly one last block");
        frames
    }

    fn bytes(&self) -> Vec<u8> {
        self.recorded(false).into_iter().flat_map(|(_, law)| law).collect()
    }

    fn closed(&self) -> (StopReason, RecordingTotals) {
        let all: Vec<_> = self
            .world
            .events
            .iter()
            .filter_map(|e| match e.what {
                MediaKind::RecordingClosed { reason, totals, .. } => Some((reason, totals)),
                _ => None,
            })
            .collect();
        assert_eq!(all.len(), 1, "exactly one RecordingClosed: {all:?}");
        let t = all[0].1;
        assert_eq!(t.expected, t.received + t.concealed + t.silence);
        all[0]
    }

    fn kinds(&self) -> String {
        self.recorded(false).iter().map(|(k, _)| ['v', 'c', '-', 'm'][*k as usize]).collect()
    }

    /// Events as short words, without those of no interest here.
    fn story(&self) -> Vec<String> {
        let how = |e: Ended| format!("{e:?}").to_lowercase();
        self.world
            .events
            .iter()
            .filter_map(|e| {
                Some(match &e.what {
                    MediaKind::SegmentEnded { index, how: h, .. } => format!("segment {index} {}", how(*h)),
                    MediaKind::QueueEnded { how: h, .. } => format!("queue {}", how(*h)),
                    MediaKind::Digit { digit, consumed, .. } => format!("digit {digit}{}", if *consumed { " consumed" } else { "" }),
                    MediaKind::DigitUp { digit, held } => format!("up {digit} {}", held.as_millis()),
                    MediaKind::RecordingClosed { reason, .. } => format!("closed {reason:?}"),
                    MediaKind::RtpTimeout => "timeout".into(),
                    MediaKind::RecordingVoice { .. } => "voice".into(),
                    _ => return None,
                })
            })
            .collect()
    }

    /// Payloads of all audio that was sent.
    fn sent_audio(&self) -> Vec<u8> {
        self.world.sent.iter().filter(|(_, rtcp, p)| !rtcp && p[1] & 0x7f != 101).flat_map(|(_, _, p)| p[12..].to_vec()).collect()
    }
}

/// A peer that sends numbered packets; the network in between is a list of (arrival, packet).
struct Peer {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    samples: usize,
    number: u32,
    payload_type: u8,
    bytes: Vec<u8>,
}

impl Peer {
    fn new() -> Peer {
        Peer { sequence: 65_000, timestamp: u32::MAX - 50_000, ssrc: 7, samples: FRAME, number: 0, payload_type: 0, bytes: Vec::new() }
    }

    fn packet(&mut self) -> Vec<u8> {
        let payload = numbered(self.number, self.samples);
        let p = rtp(self.payload_type, self.number == 0, self.sequence, self.timestamp, self.ssrc, &payload);
        self.number += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.samples as u32);
        self.bytes.extend(payload);
        p
    }
}

/// Records the whole of a schedule of (arrival, packet), sorted by arrival, then closes.
fn record_all(mut schedule: VecDeque<(Time, Vec<u8>)>) -> Rig {
    let mut rig = Rig::new();
    rig.record(spec());
    let (first, _) = schedule[0];
    let base = rig.now;
    let offset = |at: Time| base + at.since(first) + Duration::from_millis(1);
    while !schedule.is_empty() {
        let next = rig.now + FRAME_TIME;
        while let Some((at, packet)) = schedule.pop_front_if(|(at, _)| offset(*at) <= next) {
            rig.leg.push(offset(at), PEER.parse().unwrap(), false, &packet);
        }
        rig.tick();
    }
    rig.close();
    rig
}

#[test]
fn frames_of_a_caller_are_recorded_byte_for_byte() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    for _ in 0..100 {
        let p = peer.packet();
        rig.push(&p);
        rig.tick();
    }
    rig.stop_recording();
    assert_eq!(rig.bytes(), peer.bytes);
    let first = u32::MAX - 50_000;
    let (first_timestamp, last_timestamp) = (Some(first), Some(first + 99 * 160));
    let speak_stream = StreamFacts { first_timestamp, last_timestamp, ..StreamFacts::default() };
    let totals = RecordingTotals { expected: 100, received: 100, contains_voice: true, speak_stream, ..Default::default() };
    assert_eq!(rig.closed(), (StopReason::ApiStop, totals));
    assert_eq!(rig.world.blocks.last().unwrap().last, Some((StopReason::ApiStop, totals)));
    assert!(matches!(rig.world.events[0].what, MediaKind::Flowing { from } if from == PEER.parse().unwrap()));
}

#[test]
fn ten_minutes_with_reordering_are_byte_exact() {
    let mut random = Random::new([1; 32]);
    let mut peer = Peer::new();
    let mut schedule = Vec::new();
    for n in 0..30_000u64 {
        let late = if n > 0 && random.u32().is_multiple_of(20) { 20 + random.u32() % 40 } else { random.u32() % 10 };
        schedule.push((Time::from_millis(n * 20 + u64::from(late)), peer.packet()));
    }
    schedule.sort_by_key(|(at, _)| *at);
    let rig = record_all(schedule.into());
    let (_, totals) = rig.closed();
    assert_eq!((totals.received, totals.concealed, totals.silence), (30_000, 0, 0));
    assert!(rig.bytes() == peer.bytes);
    let stats = rig.leg.stats();
    assert!(stats.reordered > 1000 && stats.late == 0 && stats.lost == 0, "{stats:?}");
}

#[test]
fn an_hour_of_skewed_clocks_is_byte_exact() {
    for ppm in [-200i64, 200] {
        let mut peer = Peer::new();
        let packets = 180_000u64;
        let schedule = (0..packets)
            .map(|n| {
                let ideal = n as i64 * 20_000_000;
                (Time((ideal + ideal / 1_000_000 * ppm) as u64), peer.packet())
            })
            .collect();
        let rig = record_all(schedule);
        let (_, totals) = rig.closed();
        assert_eq!((totals.expected, totals.received), (packets, packets), "{ppm} ppm");
        assert!(rig.bytes() == peer.bytes, "{ppm} ppm");
    }
}

#[test]
fn what_is_lost_is_concealed_and_counted() {
    let mut random = Random::new([2; 32]);
    let mut peer = Peer::new();
    let mut lost = Vec::new();
    let mut schedule = VecDeque::new();
    for n in 0..30_000u64 {
        let packet = peer.packet();
        if n > 0 && n < 29_999 && random.u32().is_multiple_of(50) {
            lost.push(n as usize);
        } else {
            schedule.push_back((Time::from_millis(n * 20), packet));
        }
    }
    let rig = record_all(schedule);
    let frames = rig.recorded(false);
    assert_eq!(frames.len(), 30_000);
    for (n, (kind, law)) in frames.iter().enumerate() {
        if lost.contains(&n) {
            assert_eq!(*kind, FrameKind::Concealed);
        } else {
            assert_eq!((*kind, law.as_slice()), (FrameKind::Voice, &peer.bytes[n * FRAME..(n + 1) * FRAME]));
        }
    }
    let (_, totals) = rig.closed();
    assert_eq!(totals.concealed, lost.len() as u64);
    let stats = rig.leg.stats();
    assert_eq!((stats.lost, stats.concealed, stats.late), (lost.len() as u64, lost.len() as u64, 0));
}

#[test]
fn a_bad_network_costs_exactly_what_it_lost() {
    for seed in 0..20 {
        let mut random = Random::new([seed; 32]);
        let mut peer = Peer::new();
        let mut lost = vec![false; 2000];
        let mut schedule = Vec::new();
        for n in 0..2000u64 {
            let packet = peer.packet();
            let inner = n > 0 && n < 1999;
            lost[n as usize] = inner && random.u32() % 100 < 5;
            let delay = if inner && random.u32() % 100 < 10 { random.u32() % 60 } else { random.u32() % 15 };
            for copy in 0..1 + u64::from(random.u32() % 100 < 3) {
                if !lost[n as usize] {
                    schedule.push((Time::from_millis(n * 20 + u64::from(delay) + copy), packet.clone()));
                }
            }
        }
        schedule.sort_by_key(|(at, _)| *at);
        let rig = record_all(schedule.into());
        let frames = rig.recorded(false);
        assert_eq!(frames.len(), 2000, "seed {seed}");
        for (n, (kind, law)) in frames.iter().enumerate() {
            let whole = *kind == FrameKind::Voice && *law == peer.bytes[n * FRAME..(n + 1) * FRAME];
            assert!(if lost[n] { *kind == FrameKind::Concealed } else { whole }, "seed {seed}, frame {n}: {kind:?}");
        }
    }
}

/// The node reads its sockets just before the tick: all arrivals have the tick's time.
#[test]
fn a_caller_read_at_the_tick_is_recorded_byte_for_byte() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    rig.ticks(25);
    for n in 0..500 {
        rig.now += FRAME_TIME;
        // Two in one tick and none in the next, now and then.
        for _ in 0..[1, 1, 1, 2, 0][n % 5] {
            let p = peer.packet();
            rig.push(&p);
        }
        rig.leg.tick(rig.now, &mut rig.world);
    }
    rig.ticks(100);
    rig.stop_recording();
    let kinds = rig.kinds();
    assert_eq!(kinds.trim_matches('-'), "v".repeat(500));
    assert!(kinds.len().abs_diff(625) <= 1, "{}", kinds.len());
    let voice: Vec<u8> = rig.recorded(false).into_iter().filter(|f| f.0 == FrameKind::Voice).flat_map(|f| f.1).collect();
    assert!(voice == peer.bytes);
}

#[test]
fn concealment_sounds_like_what_was_lost() {
    let mut rig = Rig::new();
    rig.record(spec());
    let tone = |n: u32| (8000.0 * (f64::from(n) * std::f64::consts::TAU * 200.0 / 8000.0).sin()) as i16;
    for n in 0..50u32 {
        let law: Vec<u8> = (n * 160..(n + 1) * 160).map(|i| g711::encode(Codec::Pcmu, tone(i))).collect();
        if n != 30 {
            rig.push(&rtp(0, false, n as u16, n * 160, 7, &law));
        }
        rig.tick();
    }
    rig.close();
    let (kind, law) = &rig.recorded(false)[30];
    assert_eq!(*kind, FrameKind::Concealed);
    // The first 10 ms go on at full level, then it fades.
    for (i, b) in law[..80].iter().enumerate() {
        let (got, want) = (i32::from(g711::decode(Codec::Pcmu, *b)), i32::from(tone(30 * 160 + i as u32)));
        assert!((got - want).abs() < 700, "{i}: {got} {want}");
    }
    assert!(g711::mean_square(Codec::Pcmu, law[..].try_into().unwrap()) > 1e7);
}

#[test]
fn a_recording_in_the_queue_ends_by_command_and_by_replacement() {
    let queue = || vec![Segment::Record(RecordingId(1), spec()), Segment::Clip(clip(1, 160))];
    let mut rig = Rig::new();
    rig.play(queue(), BargeIn::None);
    rig.ticks(10);
    rig.command(MediaCmd::StopRecording { leg: LegId(1), recording: RecordingId(1), reason: StopReason::ApiStop });
    rig.ticks(3);
    assert_eq!(rig.story(), ["closed ApiStop", "segment 0 done", "segment 1 done", "queue done"]);
    for stop in [true, false] {
        let mut rig = Rig::new();
        rig.play(queue(), BargeIn::None);
        rig.ticks(10);
        if stop {
            rig.command(MediaCmd::StopPlay { leg: LegId(1) });
        } else {
            rig.play(vec![], BargeIn::None);
        }
        assert_eq!(rig.story(), ["closed ApiStop", "segment 0 stopped", "queue stopped"]);
        assert_eq!(rig.closed().1.silence, 9);
    }
}

#[test]
fn any_packet_time_becomes_frames_of_20_ms() {
    for (samples, ms) in [(80, 10), (160, 20), (240, 30), (320, 40), (480, 60), (200, 25)] {
        let mut peer = Peer { samples, ..Peer::new() };
        let schedule = (0..200).map(|n| (Time::from_millis(n * ms), peer.packet())).collect();
        let rig = record_all(schedule);
        assert!(rig.bytes() == peer.bytes, "{ms} ms");
        assert_eq!(rig.closed().1.concealed, 0);
        // 30 ms packets: what is lost touches two frames, and half of the second stays as it was sent.
        let mut peer = Peer { samples, ..Peer::new() };
        let mut schedule: VecDeque<_> = (0..200).map(|n| (Time::from_millis(n * ms), peer.packet())).collect();
        schedule.remove(100);
        let rig = record_all(schedule);
        let got = rig.bytes();
        assert_eq!(got.len(), peer.bytes.len());
        let hole = samples * 100..samples * 101;
        assert!((0..got.len()).all(|i| hole.contains(&i) || got[i] == peer.bytes[i]), "{ms} ms");
    }
}

#[test]
fn normal_jitter_and_stalls_insert_nothing() {
    for stall in [60, 200, 450] {
        let mut peer = Peer::new();
        let schedule = (0..500u64)
            .map(|n| {
                let sent = n * 20;
                let at = if (4000..4000 + stall).contains(&sent) { 4000 + stall } else { sent + n * 7 % 19 };
                (Time::from_millis(at), peer.packet())
            })
            .collect();
        let rig = record_all(schedule);
        assert!(rig.bytes() == peer.bytes, "{stall} ms");
    }
}

#[test]
fn duplicates_and_packets_that_come_too_late_change_nothing() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    let packets: Vec<_> = (0..50).map(|_| peer.packet()).collect();
    for (n, p) in packets.iter().enumerate() {
        if n != 20 {
            rig.push(p);
            rig.push(p);
        }
        if n == 30 {
            rig.push(&packets[20]);
        }
        rig.tick();
    }
    rig.close();
    let stats = rig.leg.stats();
    assert_eq!((stats.duplicate, stats.late, stats.concealed, stats.lost), (49, 1, 1, 0));
    assert_eq!(rig.kinds(), "v".repeat(20) + "c" + &"v".repeat(29));
}

#[test]
fn a_caller_that_sends_nothing_is_silence_of_the_right_length() {
    let mut rig = Rig::new();
    rig.record(spec());
    rig.ticks(500);
    rig.stop_recording();
    assert_eq!(rig.closed().1, RecordingTotals { expected: 500, silence: 500, ..Default::default() });
    assert!(rig.bytes().iter().all(|b| *b == 0xff));
}

#[test]
fn an_outage_is_counted_as_lost_even_where_it_was_recorded_as_silence() {
    // 3 s of packets that never arrive, then a pause of 3 s in which none were sent.
    for (sent, concealed) in [(150, 150), (0, 0)] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(spec());
        for part in 0..2 {
            for _ in 0..50 {
                let p = peer.packet();
                rig.push(&p);
                rig.tick();
            }
            if part == 0 {
                (0..sent).for_each(|_| drop(peer.packet()));
                rig.ticks(150);
            }
        }
        rig.stop_recording();
        assert_eq!(rig.kinds(), "v".repeat(50) + &"-".repeat(150) + &"v".repeat(50));
        let totals = rig.closed().1;
        assert_eq!((totals.expected, totals.received, totals.concealed, totals.silence), (250, 100, concealed, 150 - concealed));
        assert_eq!((rig.leg.stats().lost, rig.leg.stats().concealed), (sent, concealed));
    }
}

#[test]
fn silence_before_between_and_after_talk_keeps_time() {
    // (what the timestamp does over the pause of 3 s)
    for jump in [24_000u32, 0, 23_700, 24_400, 4_000_000, u32::MAX - 900] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(spec());
        rig.ticks(50);
        for part in 0..2 {
            for _ in 0..50 {
                let p = peer.packet();
                rig.push(&p);
                rig.tick();
            }
            rig.ticks(150);
            if part == 0 {
                peer.timestamp = peer.timestamp.wrapping_add(jump);
            }
        }
        rig.stop_recording();
        let want = "-".repeat(50) + &"v".repeat(50) + &"-".repeat(150) + &"v".repeat(50) + &"-".repeat(150);
        assert_eq!(rig.kinds(), want, "{jump}");
    }
}

#[test]
fn short_pauses_follow_the_timestamp_exactly() {
    let mut peer = Peer::new();
    let mut schedule = VecDeque::new();
    let mut ms = 0;
    for n in 0..100 {
        schedule.push_back((Time::from_millis(ms), peer.packet()));
        ms += 20;
        if n % 10 == 9 {
            // 13 frames of pause: DTX, sequence numbers without a gap.
            peer.timestamp = peer.timestamp.wrapping_add(13 * 160);
            ms += 260;
        }
    }
    let rig = record_all(schedule);
    assert_eq!(rig.kinds(), ("v".repeat(10) + &"-".repeat(13)).repeat(10).trim_end_matches('-'));
    assert_eq!(rig.leg.stats().lost, 0);
}

#[test]
fn a_new_ssrc_goes_on_without_loss_and_a_stray_one_is_ignored() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    let next = |rig: &mut Rig, peer: &mut Peer| {
        let p = peer.packet();
        rig.push(&p);
        rig.tick();
    };
    (0..50).for_each(|_| next(&mut rig, &mut peer));
    rig.push(&rtp(0, false, 1, 1, 666, &[1; FRAME]));
    (0..50).for_each(|_| next(&mut rig, &mut peer));
    (peer.ssrc, peer.sequence, peer.timestamp) = (8, 3, 77);
    (0..50).for_each(|_| next(&mut rig, &mut peer));
    // The same SSRC starts over.
    (peer.sequence, peer.timestamp) = (30_000, 1 << 31);
    (0..50).for_each(|_| next(&mut rig, &mut peer));
    rig.close();
    assert!(rig.bytes() == peer.bytes);
    assert_eq!(rig.leg.stats().ssrc_changes, 1);
}

#[test]
fn ur_6_5_a_codec_change_within_a_recording_loses_nothing() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    for n in 0..200 {
        if n == 60 {
            peer.payload_type = 8;
        }
        if n == 100 {
            let codec = Codec::Pcma;
            rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(Negotiated { codec, payload_type: 8, ..negotiated() }) });
        }
        let p = peer.packet();
        rig.push(&p);
        rig.tick();
    }
    rig.close();
    assert_eq!(rig.kinds(), "v".repeat(200));
    let mut linear = 0;
    for block in &rig.world.blocks {
        for (i, b) in block.law[..block.frames * FRAME].iter().enumerate() {
            let at = block.first_frame as usize * FRAME + i;
            let sent = if at < 60 * FRAME { Codec::Pcmu } else { Codec::Pcma };
            let (got, want) = (i32::from(g711::decode(block.codec, *b)), i32::from(g711::decode(sent, peer.bytes[at])));
            assert!((got - want).abs() <= want.abs() / 16 + 16, "{at}: {got} {want}");
            linear += i32::from(block.codec == sent && *b == peer.bytes[at]);
        }
    }
    // All but the 15 frames between the change and the next block are the very bytes.
    assert!(linear >= 185 * FRAME as i32, "{linear}");
    assert_eq!(rig.world.sent.last().unwrap().2[1], 200, "the last packet is RTCP");
    let last_rtp = rig.world.sent.iter().rfind(|s| !s.1).unwrap();
    assert_eq!((last_rtp.2[1] & 0x7f, last_rtp.2[12]), (8, 0xd5));
}

#[test]
fn ic_237_ic_238_digits_are_events_at_once_and_once() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    for code in 0..16u8 {
        let timestamp = peer.timestamp;
        for step in 1..=5u16 {
            let end = step == 5;
            for _ in 0..if end { 3 } else { 1 } {
                let p = rtp(101, false, peer.sequence, timestamp, 7, &event(code, end, step * 160));
                peer.sequence = peer.sequence.wrapping_add(1);
                rig.push(&p);
                if step == 2 {
                    rig.push(&p);
                }
            }
            rig.tick();
        }
        peer.timestamp = timestamp.wrapping_add(1600);
        rig.ticks(5);
    }
    let want: Vec<_> = DIGITS.iter().flat_map(|d| [format!("digit {d}"), format!("up {d} 100")]).collect();
    assert_eq!(rig.story(), want);
    assert_eq!(rig.leg.stats().digits, 16);
    // Pressed when the packet came, not when the tick saw it.
    assert_eq!(rig.world.events[1].at, Time(123_456_789));
}

/// Digits are events, or INFO. What a telephone that knows neither sends is voice.
#[test]
fn ic_237_tones_in_the_voice_are_no_digits() {
    let mut rig = Rig::new();
    let (mut sequence, mut timestamp) = (1, 0);
    for digit in ['1', '5', '#'] {
        let clip = tone::ToneSpec::dtmf(digit, 200, -6.0).expect("a digit").clip();
        for frame in clip.pcmu.chunks_exact(FRAME) {
            rig.push(&rtp(0, sequence == 1, sequence, timestamp, 7, frame));
            (sequence, timestamp) = (sequence + 1, timestamp + FRAME as u32);
            rig.tick();
        }
        rig.ticks(5);
    }
    assert_eq!((rig.story(), rig.leg.stats().digits), (Vec::new(), 0));
}

#[test]
fn digits_of_a_foreign_source_are_ignored() {
    let mut rig = Rig::new();
    rig.leg.push(rig.now, "10.0.0.8:4000".parse().unwrap(), false, &rtp(101, true, 1, 1, 7, &event(1, true, 800)));
    rig.tick();
    assert!(rig.story().is_empty());
    assert_eq!(rig.leg.stats().foreign, 1);
}

fn clip(value: u8, samples: usize) -> Clip {
    Clip { pcmu: vec![value; samples].into(), pcma: vec![value ^ 0x80; samples].into() }
}

#[test]
fn ic_239_segments_follow_each_other_without_a_gap() {
    let mut rig = Rig::new();
    let silence = Segment::Silence(Duration::from_millis(15));
    rig.play(
        vec![Segment::Clip(clip(1, 250)), Segment::Clip(clip(2, 10)), silence, Segment::Clip(clip(3, 100)), Segment::Clip(clip(4, 0))],
        BargeIn::None,
    );
    rig.ticks(5);
    let mut want = vec![1; 250];
    want.extend([2; 10]);
    want.extend([0xff; 120]);
    want.extend([3; 100]);
    want.resize(5 * FRAME, 0xff);
    assert_eq!(rig.sent_audio(), want);
    let story = ["segment 0 done", "segment 1 done", "segment 2 done", "segment 3 done", "segment 4 done", "queue done"];
    assert_eq!(rig.story(), story);
    // Steady: one packet a tick, sequence and timestamp without a gap across their wraps, one marker.
    for (n, (to, _, p)) in rig.world.sent.iter().enumerate() {
        let want = rtp(0, n == 0, 65_530u16.wrapping_add(n as u16), (u32::MAX - 1000).wrapping_add(n as u32 * 160), 0xabcd_ef01, &p[12..]);
        assert_eq!((*to, p), (PEER.parse().unwrap(), &want));
    }
}

/// Two clips of five frames; the digit comes with the third frame.
fn barge(barge_in: BargeIn) -> (Vec<String>, Vec<u8>) {
    let mut rig = Rig::new();
    rig.play(vec![Segment::Clip(clip(1, 800)), Segment::Clip(clip(2, 800))], barge_in);
    rig.ticks(2);
    rig.push(&rtp(101, true, 1, 1, 7, &event(5, true, 160)));
    rig.ticks(12);
    let audio = rig.sent_audio();
    (rig.story(), audio.iter().step_by(FRAME).copied().collect())
}

#[test]
fn ic_255_current_ends_the_phrase_that_plays() {
    let (story, frames) = barge(BargeIn::Current);
    assert_eq!(story, ["digit 5", "segment 0 bargedin", "up 5 20", "segment 1 done", "queue done"]);
    assert_eq!(frames, [1, 1, 2, 2, 2, 2, 2, 255, 255, 255, 255, 255, 255, 255]);
}

#[test]
fn ic_256_all_ends_the_queue() {
    let (story, frames) = barge(BargeIn::All);
    assert_eq!(story, ["digit 5", "segment 0 bargedin", "queue bargedin", "up 5 20"]);
    assert_eq!(frames[..4], [1, 1, 255, 255]);
}

#[test]
fn ic_257_none_only_buffers() {
    let (story, frames) = barge(BargeIn::None);
    assert_eq!(story, ["digit 5", "up 5 20", "segment 0 done", "segment 1 done", "queue done"]);
    assert_eq!(frames[..11], [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 255]);
}

#[test]
fn a_new_queue_or_a_stop_ends_the_old_one() {
    let mut rig = Rig::new();
    rig.play(vec![Segment::Clip(clip(1, 8000))], BargeIn::None);
    rig.tick();
    rig.play(vec![Segment::Clip(clip(2, 8000)), Segment::Clip(clip(3, 1))], BargeIn::None);
    rig.tick();
    rig.command(MediaCmd::StopPlay { leg: LegId(1) });
    rig.command(MediaCmd::StopPlay { leg: LegId(1) });
    rig.tick();
    rig.play(vec![], BargeIn::All);
    rig.tick();
    assert_eq!(rig.story(), ["segment 0 stopped", "queue stopped", "segment 0 stopped", "queue stopped", "queue done"]);
}

/// A prompt, a recording that `#` ends, a prompt.
fn voicemail(rig: &mut Rig, barge_in: BargeIn) {
    let spec = RecordSpec { stop_digits: DigitSet::parse("#").unwrap(), ..spec() };
    rig.play(vec![Segment::Clip(clip(1, 320)), Segment::Record(RecordingId(1), spec), Segment::Clip(clip(2, 160))], barge_in);
}

#[test]
fn ur_018_ur_019_a_stop_digit_is_consumed_and_cut_and_the_queue_goes_on() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    voicemail(&mut rig, BargeIn::All);
    for _ in 0..100 {
        let p = peer.packet();
        rig.push(&p);
        rig.tick();
    }
    // Another digit neither ends nor cuts the recording.
    rig.push(&rtp(101, true, peer.sequence, peer.timestamp, 7, &event(5, true, 0)));
    rig.push(&rtp(101, true, peer.sequence.wrapping_add(1), peer.timestamp.wrapping_add(160), 7, &event(11, false, 320)));
    rig.ticks(1);
    rig.push(&rtp(101, true, peer.sequence.wrapping_add(2), peer.timestamp.wrapping_add(160), 7, &event(11, true, 480)));
    rig.ticks(10);
    assert_eq!(
        rig.story().iter().filter(|s| !s.starts_with("voice")).collect::<Vec<_>>(),
        [
            "segment 0 done",
            "digit 5",
            "up 5 0",
            "digit # consumed",
            "closed StopDigit('#')",
            "segment 1 done",
            "up # 60",
            "segment 2 done",
            "queue done"
        ]
    );
    let (_, totals) = rig.closed();
    // The prompt took 2 frames and the tap opened with the third; then 100 ms and the 40 ms that the key was down are cut.
    assert_eq!((totals.expected, totals.received), (97 - 7, 97 - 7));
    assert!(rig.bytes() == peer.bytes[3 * FRAME..93 * FRAME]);
}

#[test]
fn ur_019_the_cut_reaches_into_the_block_before() {
    for frames in [1usize, 4, 7, 25, 26, 30, 49, 50, 51, 80] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(RecordSpec { stop_digits: DigitSet::parse("*").unwrap(), ..spec() });
        for _ in 0..frames {
            let p = peer.packet();
            rig.push(&p);
            rig.tick();
        }
        rig.push(&rtp(101, true, peer.sequence, peer.timestamp, 7, &event(10, true, 60_000)));
        rig.tick();
        let left = frames.saturating_sub(12);
        assert!(rig.bytes() == peer.bytes[..left * FRAME], "{frames}");
        assert_eq!(rig.closed().1.expected, left as u64);
        assert!(rig.world.blocks.len() <= frames / 25 + 1);
    }
}

/// A caller that speaks (loud numbered frames) and is silent by turns: frames of each.
fn talk(rig: &mut Rig, peer: &mut Peer, plan: &[(bool, usize)]) {
    for (loud, n) in plan {
        for _ in 0..*n {
            let mut p = peer.packet();
            if !loud {
                p[12..].fill(0xff);
            }
            rig.push(&p);
            rig.tick();
        }
    }
}

#[test]
fn ur_020_ur_021_ur_022_limits_end_a_recording() {
    let ms = |n| Some(Duration::from_millis(n));
    // (max duration, initial silence, max silence, what is said, reason, frames)
    let table = [
        (ms(1000), None, None, vec![(true, 100)], StopReason::MaxDuration, 50),
        (ms(1010), None, None, vec![(true, 100)], StopReason::MaxDuration, 51),
        (None, ms(500), None, vec![(false, 100)], StopReason::InitialSilence, 25),
        (None, ms(500), ms(400), vec![(false, 10), (true, 30), (false, 100)], StopReason::MaxSilence, 60),
        (None, None, ms(400), vec![(false, 100), (true, 30), (false, 10), (true, 5), (false, 50)], StopReason::MaxSilence, 165),
        (None, ms(500), None, vec![(false, 10), (true, 30), (false, 100)], StopReason::RemoteHangup, 140),
        (Some(Duration::ZERO), Some(Duration::ZERO), Some(Duration::ZERO), vec![(false, 90)], StopReason::RemoteHangup, 90),
        // Both at once: the first of 6.5.
        (ms(1000), None, ms(400), vec![(true, 30), (false, 100)], StopReason::MaxDuration, 50),
    ];
    for (i, (max_duration, initial_silence, max_silence, plan, reason, frames)) in table.into_iter().enumerate() {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(RecordSpec { max_duration, initial_silence, max_silence, ..spec() });
        talk(&mut rig, &mut peer, &plan);
        rig.close();
        let (got, totals) = rig.closed();
        assert_eq!((got, totals.expected), (reason, frames), "row {i}");
        assert_eq!(totals.contains_voice, plan.iter().any(|p| p.0), "row {i}");
        assert_eq!(rig.recorded(false).len() as u64, frames);
    }
}

#[test]
fn ur_020_ur_021_silence_counts_where_nothing_is_sent_but_not_on_hold() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(RecordSpec { max_silence: Some(Duration::from_secs(2)), max_duration: Some(Duration::from_secs(10)), ..spec() });
    talk(&mut rig, &mut peer, &[(true, 50)]);
    let hold = Negotiated { direction: Direction::SendOnly, ..negotiated() };
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(hold) });
    rig.ticks(200);
    assert!(!rig.story().iter().any(|s| s.starts_with("closed")));
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(negotiated()) });
    rig.ticks(110);
    assert_eq!(rig.closed().0, StopReason::MaxSilence);
    // Hold does not stop the duration.
    let mut rig = Rig::new();
    rig.record(RecordSpec { max_duration: Some(Duration::from_secs(3)), ..spec() });
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(Negotiated { direction: Direction::Inactive, ..negotiated() }) });
    rig.ticks(160);
    assert_eq!((rig.closed().0, rig.closed().1.silence), (StopReason::MaxDuration, 150));
}

#[test]
fn ur_6_5_of_several_reasons_in_one_frame_the_first_stands() {
    // In their order: what came from outside, what was commanded, what was reached.
    let want = [
        StopReason::StopDigit('#'),
        StopReason::RemoteHangup,
        StopReason::ApiStop,
        StopReason::Superseded,
        StopReason::ConnectionSplit,
        StopReason::Transfer,
        StopReason::NodeShutdown,
        StopReason::Discarded,
        StopReason::MaxDuration,
        StopReason::FileSize,
        StopReason::MaxSilence,
    ];
    assert!(want.is_sorted());
    for set in 1..1u32 << want.len() {
        let has = |reason: StopReason| want.iter().position(|r| *r == reason).is_some_and(|bit| set & 1 << bit != 0);
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(RecordSpec {
            stop_digits: DigitSet::parse("#").unwrap(),
            max_duration: has(StopReason::MaxDuration).then(|| Duration::from_millis(1000)),
            max_frames: has(StopReason::FileSize).then_some(50),
            max_silence: has(StopReason::MaxSilence).then(|| Duration::from_millis(400)),
            ..spec()
        });
        talk(&mut rig, &mut peer, &[(true, 30), (false, 19)]);
        let mut p = peer.packet();
        p[12..].fill(0xff);
        rig.push(&p);
        // The last of them first: which was asked for first does not matter.
        for reason in want[2..8].iter().rev().copied().filter(|reason| has(*reason)) {
            rig.command(MediaCmd::StopRecording { leg: LegId(1), recording: RecordingId(1), reason });
        }
        if has(StopReason::StopDigit('#')) {
            rig.push(&rtp(101, true, peer.sequence, peer.timestamp, 7, &event(11, true, 160)));
        }
        if has(StopReason::RemoteHangup) {
            rig.close();
        } else {
            rig.tick();
        }
        assert_eq!(rig.closed().0, want[set.trailing_zeros() as usize], "{set:011b}");
        assert_eq!(rig.recorded(false).len() as u64, rig.closed().1.expected);
    }
}

#[test]
fn ur_008_both_sides_have_one_timeline() {
    for ppm in [-200i64, 0, 200] {
        let mut rig = Rig::new();
        let mut peer = Peer::new();
        rig.record(RecordSpec { direction: TapDirection::Both, ..spec() });
        let start = rig.now;
        let mut sent = 0i64;
        let mut heard = Vec::new();
        for tick in 0..30_000usize {
            // We speak for a second in every three.
            if tick.is_multiple_of(150) {
                rig.play(vec![Segment::Clip(Clip { pcmu: numbered(tick as u32, 8000).into(), pcma: vec![0; 8000].into() })], BargeIn::None);
                heard.extend(numbered(tick as u32, 8000));
            }
            let next = rig.now + FRAME_TIME;
            loop {
                let at = start + Duration::from_nanos((sent * 20_000_000 + sent * 20 * ppm) as u64);
                if at > next {
                    break;
                }
                let p = peer.packet();
                rig.leg.push(at, PEER.parse().unwrap(), false, &p);
                sent += 1;
            }
            rig.tick();
        }
        rig.close();
        assert!(rig.recorded(false).iter().flat_map(|f| f.1.clone()).collect::<Vec<_>>() == peer.bytes, "{ppm}");
        let said: Vec<_> = rig.recorded(true).into_iter().filter(|f| f.0 == FrameKind::Voice).flat_map(|f| f.1).collect();
        assert!(said == heard, "{ppm}: what was played is whole");
        assert_eq!(rig.recorded(true).len(), rig.recorded(false).len(), "{ppm}");
        // Ten minutes at 200 ppm are 6 frames: what we said last is still in its place.
        let frames = rig.recorded(true);
        let last = frames.iter().rposition(|f| f.0 == FrameKind::Voice).unwrap();
        assert!((frames.len() - 1 - last).abs_diff(100) <= 8, "{ppm}: {}", frames.len() - last);
    }
}

#[test]
fn ur_008_listen_records_what_is_sent() {
    let mut rig = Rig::new();
    rig.record(RecordSpec { direction: TapDirection::Listen, max_silence: Some(Duration::from_millis(200)), ..spec() });
    rig.play(vec![Segment::Clip(Clip { pcmu: numbered(1, 1600).into(), pcma: numbered(2, 1600).into() })], BargeIn::None);
    rig.ticks(30);
    let (reason, totals) = rig.closed();
    assert_eq!((reason, totals.received, totals.silence), (StopReason::MaxSilence, 10, 10));
    let law: Vec<u8> = rig.recorded(true).into_iter().flat_map(|f| f.1).collect();
    assert_eq!(law[..1600], numbered(1, 1600));
}

#[test]
fn without_a_block_the_recording_closes_and_says_so() {
    for pool in 0..4 {
        let mut rig = Rig::new();
        rig.world.pool = Some(pool);
        let mut peer = Peer::new();
        rig.play(vec![Segment::Record(RecordingId(1), spec()), Segment::Clip(clip(1, 1))], BargeIn::None);
        talk(&mut rig, &mut peer, &[(true, 200)]);
        let (reason, totals) = rig.closed();
        assert_eq!((reason, totals.received), (StopReason::Overload, pool as u64 * 25));
        assert_eq!(rig.story().iter().rfind(|s| !s.starts_with("voice")).unwrap(), "queue done");
        if pool > 0 {
            assert!(rig.bytes() == peer.bytes[FRAME..][..pool * 25 * FRAME]);
        }
    }
    let mut rig = Rig::new();
    rig.world.pool = Some(1);
    rig.record(RecordSpec { direction: TapDirection::Both, ..spec() });
    assert_eq!((rig.closed().0, rig.world.blocks.len()), (StopReason::Overload, 1), "the one that was taken is given back");
}

#[test]
fn taps_are_bounded_and_independent() {
    let mut rig = Rig::new();
    for n in 0..6 {
        rig.command(MediaCmd::Record { leg: LegId(1), recording: RecordingId(n), spec: Box::new(spec()) });
    }
    let refused: Vec<_> = rig.world.events.iter().map(|e| format!("{:?}", e.what)).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    rig.ticks(10);
    rig.command(MediaCmd::StopRecording { leg: LegId(1), recording: RecordingId(2), reason: StopReason::ApiStop });
    rig.ticks(10);
    rig.close();
    let closed: Vec<_> = rig.world.blocks.iter().map(|b| (b.recording.0, b.frames, b.last.unwrap().0)).collect();
    let hung_up = StopReason::RemoteHangup;
    assert_eq!(closed, [(2, 11, StopReason::ApiStop), (3, 20, hung_up), (1, 20, hung_up), (0, 20, hung_up)]);
}

#[test]
fn ic_245_echo_sends_back_what_came() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.play(vec![Segment::Echo(Duration::from_secs(2))], BargeIn::None);
    for _ in 0..110 {
        let p = peer.packet();
        rig.push(&p);
        rig.tick();
    }
    let sent = rig.sent_audio();
    let first = sent.iter().position(|b| *b != 0xff).unwrap();
    assert!(first <= 3 * FRAME);
    assert!(
        sent[first..100 * FRAME] == peer.bytes[FRAME..][..100 * FRAME - first]
            || sent[first..100 * FRAME] == peer.bytes[..100 * FRAME - first]
    );
    assert!(sent[100 * FRAME..].iter().all(|b| *b == 0xff));
}

#[test]
fn ic_282_rtp_timeout_runs_only_while_we_receive() {
    let mut rig = Rig::with(|c| c.rtp_timeout = Some(Duration::from_secs(1)));
    rig.ticks(49);
    assert!(rig.story().is_empty());
    rig.ticks(60);
    assert_eq!(rig.story(), ["timeout"], "once");
    rig.push(&rtp(0, false, 1, 1, 7, &[0; FRAME]));
    rig.ticks(60);
    assert_eq!(rig.story(), ["timeout", "timeout"]);
    let hold = Negotiated { direction: Direction::SendOnly, ..negotiated() };
    let mut rig = Rig::with(|c| (c.rtp_timeout, c.negotiated) = (Some(Duration::from_secs(1)), hold));
    rig.ticks(200);
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(negotiated()) });
    rig.ticks(40);
    assert!(rig.story().is_empty());
    // RTCP alone keeps a silent call up.
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
    for _ in 0..10 {
        rig.leg.push(rig.now, "10.0.0.9:4001".parse().unwrap(), true, &report);
        rig.ticks(20);
    }
    assert!(rig.story().is_empty());
}

#[test]
fn on_hold_nothing_is_sent_and_time_goes_on() {
    let mut rig = Rig::new();
    rig.ticks(2);
    let hold = Negotiated { remote: "0.0.0.0:4000".parse().unwrap(), direction: Direction::RecvOnly, ..negotiated() };
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(hold) });
    rig.ticks(100);
    assert_eq!(rig.world.sent.iter().filter(|s| !s.1).count(), 2);
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(negotiated()) });
    rig.ticks(2);
    let packets: Vec<_> = rig.world.sent.iter().filter(|s| !s.1).map(|s| &s.2).collect();
    assert_eq!(packets.len(), 4);
    let resumed = rtp(0, true, 65_532, (u32::MAX - 1000).wrapping_add(102 * 160), 0xabcd_ef01, &[0xff; FRAME]);
    assert_eq!(packets[2], &resumed);
}

#[test]
fn an_update_that_moves_the_peer_learns_it_anew() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    talk(&mut rig, &mut peer, &[(true, 10)]);
    assert_eq!((rig.leg.take_locked_source(), rig.leg.take_locked_source()), (Some(PEER.parse().unwrap()), None));
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(negotiated()) });
    assert!(!rig.leg.source_is_open(), "the same address does not reopen");
    let moved: SocketAddr = "10.0.0.77:5000".parse().unwrap();
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(Negotiated { remote: moved, ..negotiated() }) });
    assert!(rig.leg.source_is_open());
    rig.push(&peer.packet());
    rig.tick();
    assert_eq!(rig.world.sent.last().unwrap().0, moved);
    assert_eq!(rig.leg.stats().foreign, 1);
    for _ in 0..5 {
        let p = peer.packet();
        rig.leg.push(rig.now, moved, false, &p);
    }
    assert_eq!(rig.leg.take_locked_source(), Some(moved));
}

#[test]
fn digits_are_sent_as_events_in_the_stream() {
    let mut rig = Rig::with(|c| c.negotiated.telephone_event = Some(97));
    rig.play(vec![Segment::Clip(clip(1, 8000))], BargeIn::None);
    rig.tick();
    rig.command(MediaCmd::SendDigit { leg: LegId(1), digit: '7', duration: Duration::from_millis(60) });
    rig.ticks(8);
    let packets: Vec<_> = rig.world.sent.iter().map(|(_, _, p)| (p[1], u16::from_be_bytes([p[2], p[3]]), p.len() - 12, p[13])).collect();
    let sequence = |n: u16| 65_530u16.wrapping_add(n);
    assert_eq!(packets[0], (0x80, sequence(0), 160, 1));
    assert_eq!(packets[1], (0x80 | 97, sequence(1), 4, 0x0a));
    assert_eq!(packets[2..6].iter().map(|p| (p.0, p.3)).collect::<Vec<_>>(), [(97, 0x0a), (97, 0x8a), (97, 0x8a), (97, 0x8a)]);
    assert_eq!(packets[6], (0x80, sequence(6), 160, 1), "audio goes on with a marker");
    let timestamps: Vec<_> = rig.world.sent.iter().map(|(_, _, p)| u32::from_be_bytes(p[4..8].try_into().unwrap())).collect();
    let base = u32::MAX - 1000;
    assert_eq!(timestamps, [0, 160, 160, 160, 160, 160, 960, 1120, 1280].map(|n| base.wrapping_add(n)));
}

#[test]
fn without_telephone_event_digits_are_tones() {
    let mut rig = Rig::with(|c| c.negotiated.telephone_event = None);
    rig.command(MediaCmd::SendDigit { leg: LegId(1), digit: '7', duration: Duration::from_millis(100) });
    rig.ticks(12);
    let sent = rig.sent_audio();
    assert!(g711::mean_square(Codec::Pcmu, sent[160..320].try_into().unwrap()) > 1e6);
    assert!(sent[800..].iter().all(|b| *b == 0xff));
}

#[test]
fn packet_times_are_sent_as_agreed() {
    for (ms, lengths) in [(10, vec![80; 12]), (20, vec![160; 6]), (30, vec![240; 4]), (40, vec![320; 3]), (60, vec![480; 2])] {
        let mut rig = Rig::with(|c| c.negotiated.ptime = Duration::from_millis(ms));
        let law = numbered(1, 960);
        rig.play(vec![Segment::Clip(Clip { pcmu: law.clone().into(), pcma: law.clone().into() })], BargeIn::None);
        rig.ticks(6);
        assert_eq!(rig.world.sent.iter().map(|s| s.2.len() - 12).collect::<Vec<_>>(), lengths, "{ms}");
        assert_eq!(rig.sent_audio(), law);
        for pair in rig.world.sent.windows(2) {
            let timestamp = |p: &[u8]| u32::from_be_bytes(p[4..8].try_into().unwrap());
            assert_eq!(timestamp(&pair[1].2).wrapping_sub(timestamp(&pair[0].2)), ms as u32 * 8);
        }
    }
}

#[test]
fn rtcp_reports_are_readable_and_true() {
    use rtcp_types::{Compound, Packet};
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    // A sender report of theirs: NTP middle bits 0x22223333.
    let mut theirs = vec![0x80, 200, 0, 6, 0, 0, 0, 7, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44];
    theirs.extend([0; 12]);
    for n in 0..1000 {
        let p = peer.packet();
        if n % 10 != 5 {
            rig.push(&p);
        }
        if n == 600 {
            rig.leg.push(rig.now, "10.0.0.9:4001".parse().unwrap(), true, &theirs);
        }
        rig.tick();
    }
    rig.close();
    let reports: Vec<_> = rig.world.sent.iter().enumerate().filter(|(_, s)| s.1).collect();
    assert!((4..=9).contains(&reports.len()), "{}", reports.len());
    let (_, (to, _, last)) = reports.last().unwrap();
    assert_eq!(*to, "10.0.0.9:4001".parse().unwrap());
    let parts: Vec<_> = Compound::parse(last).unwrap().map(|p| p.unwrap()).collect();
    let [Packet::Sr(sr), Packet::Sdes(sdes), Packet::Bye(bye)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((sr.ssrc(), sr.packet_count(), sr.octet_count()), (0xabcd_ef01, 1000, 160_000));
    let block = sr.report_blocks().next().unwrap();
    assert_eq!((block.ssrc(), block.cumulative_lost(), block.last_sender_report_timestamp()), (7, 100, 0x2222_3333));
    assert!((20..=32).contains(&block.fraction_lost()), "{}", block.fraction_lost());
    assert_eq!(block.extended_sequence_number(), 65_000 + 999);
    assert!(block.delay_since_last_sender_report_timestamp() / 65_536 >= 7);
    let chunk = sdes.chunks().next().unwrap();
    assert_eq!(chunk.items().next().unwrap().value(), b"leg@test");
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [0xabcd_ef01]);
    for (_, (_, _, report)) in &reports {
        assert!(Compound::parse(report).unwrap().all(|p| p.is_ok()));
    }
    // A leg that never heard or sent RTP says so, whatever its name's length.
    for n in 0..80 {
        let mut rig = Rig::with(|c| {
            c.cname = "x".repeat(n);
            c.negotiated.direction = Direction::Inactive;
            c.negotiated.rtcp_mux = true;
        });
        rig.close();
        let (to, rtcp, report) = &rig.world.sent[0];
        assert_eq!((*to, *rtcp), (PEER.parse().unwrap(), false), "muxed");
        let kinds: Vec<_> = Compound::parse(report).unwrap().map(|p| p.unwrap()).collect();
        assert!(matches!(kinds[..], [Packet::Rr(_), Packet::Sdes(_), Packet::Bye(_)]), "{n}: {kinds:?}");
    }
}

#[test]
fn closing_ends_everything_once_and_in_order() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    rig.play(vec![Segment::Clip(clip(1, 80_000))], BargeIn::None);
    talk(&mut rig, &mut peer, &[(true, 10)]);
    // Three packets that no tick saw belong to the recording.
    (0..3).for_each(|_| rig.push(&peer.packet()));
    rig.close();
    rig.close();
    rig.tick();
    rig.push(&peer.packet());
    let story = rig.story();
    assert_eq!(story[story.len() - 3..], ["closed RemoteHangup", "segment 0 stopped", "queue stopped"]);
    assert!(matches!(rig.world.events.last().unwrap().what, MediaKind::Closed { .. }));
    assert!(rig.bytes() == peer.bytes[..13 * FRAME]);
}

#[test]
fn ur_024_the_first_voice_is_told_of_the_recording_that_waits_for_it_and_of_no_other() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(spec());
    let waits = Box::new(RecordSpec { start_on_voice: true, ..spec() });
    rig.command(MediaCmd::Record { leg: LegId(1), recording: RecordingId(2), spec: waits });
    talk(&mut rig, &mut peer, &[(false, 20), (true, 20), (false, 20), (true, 20)]);
    assert_eq!(rig.story(), ["voice"]);
    assert!(rig.world.events.iter().any(|e| matches!(e.what, MediaKind::RecordingVoice { recording: RecordingId(2) })));
}

/// Whether 1400 Hz is in a frame of ours.
fn warns(law: &[u8]) -> bool {
    let turn = |n: usize| std::f64::consts::TAU * 1400.0 * n as f64 / 8000.0;
    let (re, im) = law.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, byte)| {
        let s = f64::from(g711::decode(Codec::Pcmu, *byte));
        (re + s * turn(n).cos(), im + s * turn(n).sin())
    });
    re.hypot(im) * 2.0 / law.len() as f64 > 1000.0
}

#[test]
fn ur_028_who_is_recorded_hears_a_tone_every_15_s_that_is_in_no_recording() {
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(RecordSpec { direction: TapDirection::Both, ..spec() });
    rig.command(MediaCmd::Warn { leg: LegId(1), on: true });
    talk(&mut rig, &mut peer, &[(false, 800)]);
    rig.command(MediaCmd::Warn { leg: LegId(1), on: false });
    talk(&mut rig, &mut peer, &[(false, 800)]);
    let sent = rig.sent_audio();
    let warned: Vec<usize> = sent.chunks_exact(FRAME).enumerate().filter(|(_, law)| warns(law)).map(|(n, _)| n).collect();
    assert_eq!(warned, (0..10).chain(749..759).collect::<Vec<_>>());
    rig.close();
    // What the party heard of us is in the file as silence: the tone is the node's word to the party, and no part of the call.
    assert!(rig.recorded(true).iter().all(|(_, law)| !warns(law)));
    assert!(rig.recorded(false).iter().all(|(_, law)| !warns(law)));
}

#[test]
fn ic_251_254_a_background_is_heard_ducked_by_what_plays_and_is_in_no_recording() {
    let sine = |hz: f32, ms| tone::ToneSpec { hz: vec![hz], level_dbm0: -10.0, on_ms: ms, off_ms: 0, total_ms: ms }.clip();
    let mut rig = Rig::new();
    let mut peer = Peer::new();
    rig.record(RecordSpec { direction: TapDirection::Both, ..spec() });
    // 1400 Hz: what `warns` hears.
    rig.command(MediaCmd::Background { leg: LegId(1), audio: Some((sine(1400.0, 1000), Duration::ZERO)) });
    talk(&mut rig, &mut peer, &[(false, 50)]);
    rig.play(vec![Segment::Clip(sine(440.0, 1000)), Segment::Silence(Duration::from_secs(1))], BargeIn::None);
    talk(&mut rig, &mut peer, &[(false, 150)]);
    rig.command(MediaCmd::Background { leg: LegId(1), audio: None });
    talk(&mut rig, &mut peer, &[(false, 50)]);
    let sent = rig.sent_audio();
    let amplitude = |frames: std::ops::Range<usize>| {
        let law = &sent[frames.start * FRAME..frames.end * FRAME];
        let turn = |n: usize| std::f64::consts::TAU * 1400.0 * n as f64 / 8000.0;
        let (re, im) = law.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, byte)| {
            let s = f64::from(g711::decode(Codec::Pcmu, *byte));
            (re + s * turn(n).cos(), im + s * turn(n).sin())
        });
        20.0 * (re.hypot(im) * 2.0 / law.len() as f64).max(1.0).log10()
    };
    let (full, under, in_a_silence, after, off) =
        (amplitude(5..45), amplitude(55..95), amplitude(105..145), amplitude(155..195), amplitude(205..245));
    for (down, what) in [(full - under, "under a clip"), (full - in_a_silence, "in a silence of the queue")] {
        assert!((down - 15.0).abs() < 0.5, "{what}: {down} dB");
    }
    assert!((full - after).abs() < 0.3 && off < 10.0, "{full} {after} {off}");
    rig.close();
    for heard in [true, false] {
        assert!(rig.recorded(heard).iter().all(|(_, law)| !warns(law)), "it is in the recording: {heard}");
    }
}

#[test]
fn ic_254_on_hold_and_under_a_digit_a_background_goes_on_unheard() {
    let clip = Clip::from_linear(&(0..4000).map(|n| (n * 5) as i16).collect::<Vec<_>>());
    let mut rig = Rig::new();
    rig.command(MediaCmd::Background { leg: LegId(1), audio: Some((clip.clone(), Duration::ZERO)) });
    rig.ticks(5);
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(Negotiated { direction: Direction::Inactive, ..negotiated() }) });
    rig.ticks(5);
    rig.command(MediaCmd::Update { leg: LegId(1), negotiated: Box::new(negotiated()) });
    rig.ticks(5);
    let sent = rig.sent_audio();
    assert_eq!(sent, [&clip.pcmu[..800], &clip.pcmu[1600..2400]].concat());
    rig.command(MediaCmd::SendDigit { leg: LegId(1), digit: '5', duration: Duration::from_millis(60) });
    rig.ticks(10);
    let after = &rig.sent_audio()[1600..];
    assert!(after.len() < 1600 && after[after.len() - FRAME..] == clip.pcmu[4000 - FRAME..], "{}", after.len());
}

#[test]
fn mutated_packets_never_panic_and_totals_add_up() {
    let mut random = Random::new([9; 32]);
    for round in 0..60u32 {
        let mut rig = Rig::with(|c| c.learn_any_ip = round.is_multiple_of(2));
        let direction = [TapDirection::Speak, TapDirection::Both, TapDirection::Listen][round as usize % 3];
        rig.record(RecordSpec { direction, stop_digits: DigitSet::parse("#").unwrap(), ..spec() });
        rig.play(vec![Segment::Echo(Duration::from_secs(600))], BargeIn::Current);
        let mut peer = Peer::new();
        for _ in 0..400 {
            for _ in 0..random.u32() % 4 {
                let mut packet = match random.u32() % 8 {
                    0 => rtp(
                        101,
                        false,
                        peer.sequence,
                        peer.timestamp,
                        7,
                        &event(random.u32() as u8 & 31, random.u32() & 1 == 0, random.u32() as u16),
                    ),
                    1 => vec![0x81, 200, 0, 12, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
                    2 => vec![0x81, 203, 0, 1, 0, 0, 0, 7],
                    3 => (0..random.u32() % 60).map(|_| random.u32() as u8).collect(),
                    4 => {
                        peer.samples = [1, 80, 160, 159, 240, 480, 1600, 1601][random.u32() as usize % 8];
                        peer.packet()
                    }
                    _ => peer.packet(),
                };
                for _ in 0..random.u32() % 4 {
                    if !packet.is_empty() {
                        let at = random.u32() as usize % packet.len().min(20);
                        packet[at] = random.u32() as u8;
                    }
                }
                if random.u32().is_multiple_of(10) {
                    packet.truncate(random.u32() as usize % (packet.len() + 1));
                }
                let from = if random.u32().is_multiple_of(10) { "10.0.0.8:9" } else { PEER };
                rig.leg.push(rig.now, from.parse().unwrap(), random.u32().is_multiple_of(10), &packet);
            }
            rig.now += Duration::from_millis(u64::from(random.u32() % 3 * 10 + 10 + random.u32() % 500 / 499 * 2000));
            rig.leg.tick(rig.now, &mut rig.world);
        }
        rig.close();
        let (_, totals) = rig.closed();
        assert_eq!(rig.recorded(direction == TapDirection::Listen).len() as u64, totals.expected, "round {round}");
        if direction == TapDirection::Both {
            assert_eq!(rig.recorded(true).len(), rig.recorded(false).len(), "round {round}");
        }
    }
}
