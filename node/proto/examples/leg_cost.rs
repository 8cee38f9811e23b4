//! What the pure part of a leg costs: nanoseconds a leg and frame, and heap a leg, for legs that play a prompt and record the caller, for
//! bridged ones, and for bridged ones whose call is recorded with both sides. The network is not in it.
//! Run: `cargo run --release -p hookswitch-proto --example leg_cost`.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock; the machine that it measures does not")]
#![allow(unsafe_code, reason = "counting what is allocated takes an allocator, which is an unsafe trait")]

use hookswitch_proto::media::{
    BargeIn, Block, Clip, Codec, Direction, FRAME, FRAME_TIME, Leg, LegConfig, LegId, LegIo, MediaCmd, MediaEvent, Negotiated, PlayId,
    RecordSpec, RecordingId, Segment, TapDirection,
};
use hookswitch_proto::{MediaTime, Time};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const LEGS: usize = 3000;
const FRAMES: usize = 500;

/// Bytes that are allocated now.
static HEAP: AtomicI64 = AtomicI64::new(0);

struct Counted;

// SAFETY: all is the system's allocator; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

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

#[derive(Clone, Copy, PartialEq)]
enum Load {
    PlayAndRecord,
    Bridged,
    BridgedTranscoding,
    BridgedRecorded,
}

fn main() {
    for (load, name) in [
        (Load::PlayAndRecord, "prompt out, caller recorded"),
        (Load::Bridged, "bridged"),
        (Load::BridgedTranscoding, "bridged, one law into the other"),
        (Load::BridgedRecorded, "bridged, both sides recorded"),
    ] {
        measure(load, name);
    }
    println!("size of a leg: {} bytes, of a block: {}", size_of::<Leg>(), size_of::<Block>());
}

fn codec(load: Load, n: usize) -> Codec {
    let different = matches!(load, Load::PlayAndRecord | Load::BridgedTranscoding);
    if different && n % 2 == 1 { Codec::Pcma } else { Codec::Pcmu }
}

fn open(load: Load, n: usize, peer: SocketAddr, prompt: &Clip, io: &mut Sink) -> Leg {
    let (id, codec) = (LegId(n as u64), codec(load, n));
    let negotiated = Negotiated {
        codec,
        payload_type: codec.static_payload_type(),
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
    let mut leg = Leg::new(Time::ZERO, id, config);
    if load == Load::PlayAndRecord {
        let segments = vec![Segment::Clip(prompt.clone())];
        leg.command(Time::ZERO, MediaCmd::Play { leg: id, play: PlayId(n as u64), segments, barge_in: BargeIn::All }, io);
    } else {
        leg.bridge(true);
    }
    let direction = match load {
        Load::PlayAndRecord => TapDirection::Speak,
        Load::BridgedRecorded if n.is_multiple_of(2) => TapDirection::Both,
        _ => return leg,
    };
    let limit = Some(Duration::from_secs(3600));
    let spec = RecordSpec { direction, max_duration: limit, initial_silence: limit, max_silence: limit, ..RecordSpec::default() };
    leg.command(Time::ZERO, MediaCmd::Record { leg: id, recording: RecordingId(n as u64), spec: Box::new(spec) }, io);
    leg
}

fn measure(load: Load, name: &str) {
    let peer: SocketAddr = "10.0.0.9:4000".parse().expect("an address");
    let law: Vec<u8> = (0..8000u32 * 60).map(|i| (i * i % 251) as u8).collect();
    let prompt = Clip { pcmu: law.clone().into(), pcma: law.into() };
    let mut io = Sink::default();
    let before = HEAP.load(Ordering::Relaxed);
    let mut legs: Vec<Leg> = (0..LEGS).map(|n| open(load, n, peer, &prompt, &mut io)).collect();
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
        if load == Load::PlayAndRecord {
            for (n, leg) in legs.iter_mut().enumerate() {
                packet[1] = codec(load, n).static_payload_type();
                leg.push(now, peer, false, &packet);
                leg.tick(next, &mut io);
            }
        } else {
            for (n, pair) in legs.chunks_exact_mut(2).enumerate() {
                let [a, b] = pair else { continue };
                packet[1] = codec(load, 2 * n).static_payload_type();
                one_way(a, b, now, next, peer, &packet, &mut io);
                packet[1] = codec(load, 2 * n + 1).static_payload_type();
                one_way(b, a, now, next, peer, &packet, &mut io);
            }
        }
        costs.push(start.elapsed().as_nanos() as f64 / LEGS as f64);
        now = next;
    }
    let heap = HEAP.load(Ordering::Relaxed) - before - (costs.capacity() * 8) as i64;
    costs.sort_by(f64::total_cmp);
    let at = |part: usize| costs[costs.len() * part / 100];
    println!("{name}: ns a leg and frame: median {:.0}, p90 {:.0}, p99 {:.0}", at(50), at(90), at(99));
    println!("    {LEGS} legs take {:.1} % of a core (median)", at(50) * LEGS as f64 / FRAME_TIME.as_nanos() as f64 * 100.0);
    println!("    {} bytes of heap a leg, blocks in its pool included; packets {}, blocks {}", heap / LEGS as i64, io.packets, io.blocks);
}

/// What the thread does for a leg whose party somebody hears.
fn one_way(speaker: &mut Leg, listener: &mut Leg, now: Time, next: Time, peer: SocketAddr, packet: &[u8], io: &mut Sink) {
    speaker.set_overheard(listener.overhears());
    if let Some(spoken) = speaker.push(now, peer, false, packet) {
        listener.relay(&spoken, io);
    }
    speaker.tick(next, io);
    if listener.overhears() {
        listener.overhear(speaker, io);
    }
}
