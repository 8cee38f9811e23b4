//! What the pure part of a leg costs: nanoseconds a leg and frame for 3,000 legs that play a prompt and record the caller.
//! The network is not in it. Run: `cargo run --release -p hookswitch-proto --example leg_cost`.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock; the machine that it measures does not")]

use hookswitch_proto::media::{
    BargeIn, Block, Clip, Codec, Direction, FRAME, FRAME_TIME, Leg, LegConfig, LegId, LegIo, MediaCmd, MediaEvent, Negotiated, PlayId,
    RecordSpec, RecordingId, Segment, TapDirection,
};
use hookswitch_proto::{MediaTime, Time};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const LEGS: usize = 3000;
const FRAMES: usize = 500;

/// Counts what goes out; blocks come back at once.
#[derive(Default)]
struct Sink {
    packets: u64,
    bytes: u64,
    blocks: u64,
    pool: Vec<Box<Block>>,
}

impl LegIo for Sink {
    fn send(&mut self, _: SocketAddr, _: bool, packet: &[u8]) {
        self.packets += 1;
        self.bytes += black_box(packet).len() as u64;
    }
    fn event(&mut self, event: MediaEvent) {
        black_box(event);
    }
    fn take_block(&mut self) -> Option<Box<Block>> {
        Some(self.pool.pop().unwrap_or_else(Block::empty))
    }
    fn give_block(&mut self, block: Box<Block>) {
        self.blocks += 1;
        self.pool.push(block);
    }
}

fn main() {
    let peer: SocketAddr = "10.0.0.9:4000".parse().expect("an address");
    let law: Vec<u8> = (0..8000u32 * 60).map(|i| (i * i % 251) as u8).collect();
    let prompt = Clip { pcmu: law.clone().into(), pcma: law.into() };
    let mut io = Sink::default();
    let mut legs: Vec<Leg> = (0..LEGS as u64)
        .map(|n| {
            let negotiated = Negotiated {
                codec: if n % 2 == 0 { Codec::Pcmu } else { Codec::Pcma },
                payload_type: if n % 2 == 0 { 0 } else { 8 },
                telephone_event: Some(101),
                remote: peer,
                remote_rtcp: peer,
                rtcp_mux: false,
                direction: Direction::SendRecv,
                ptime: FRAME_TIME,
            };
            let config = LegConfig {
                negotiated,
                ssrc: n as u32 * 77,
                first_sequence: n as u16,
                first_timestamp: MediaTime(n as u32 * 999),
                cname: "cost@example".into(),
                rtp_timeout: Some(Duration::from_secs(60)),
                learn_any_ip: false,
            };
            let mut leg = Leg::new(Time::ZERO, LegId(n), config);
            let segments = vec![Segment::Clip(prompt.clone())];
            leg.command(Time::ZERO, MediaCmd::Play { leg: LegId(n), play: PlayId(n), segments, barge_in: BargeIn::All }, &mut io);
            let spec = RecordSpec {
                direction: TapDirection::Speak,
                max_duration: Some(Duration::from_secs(3600)),
                initial_silence: Some(Duration::from_secs(3600)),
                max_silence: Some(Duration::from_secs(3600)),
                stop_digits: Default::default(),
                sensitivity: 44,
            };
            let record = MediaCmd::Record { leg: LegId(n), recording: RecordingId(n), spec: Box::new(spec) };
            leg.command(Time::ZERO, record, &mut io);
            leg
        })
        .collect();
    let mut packet = [0u8; 12 + FRAME];
    packet[0] = 0x80;
    packet[8..12].copy_from_slice(&7u32.to_be_bytes());
    packet[12..].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 37) as u8);
    let (mut now, mut costs) = (Time::ZERO, Vec::new());
    for frame in 0..FRAMES as u32 {
        packet[2..4].copy_from_slice(&(frame as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(frame * FRAME as u32).to_be_bytes());
        let next = now + FRAME_TIME;
        let start = Instant::now();
        for (n, leg) in legs.iter_mut().enumerate() {
            packet[1] = if n % 2 == 0 { 0 } else { 8 };
            leg.push(now, peer, false, &packet);
            leg.tick(next, &mut io);
        }
        costs.push(start.elapsed().as_nanos() as f64 / LEGS as f64);
        now = next;
    }
    costs.sort_by(f64::total_cmp);
    let at = |part: usize| costs[costs.len() * part / 100];
    println!("ns a leg and frame: median {:.0}, p90 {:.0}, p99 {:.0}", at(50), at(90), at(99));
    println!("{LEGS} legs take {:.1} % of a core (pure part, median)", at(50) * LEGS as f64 / FRAME_TIME.as_nanos() as f64 * 100.0);
    println!("size of a leg: {} bytes and its jitter buffer; packets {}, blocks {}", size_of::<Leg>(), io.packets, io.blocks);
}
