//! The node's media thread without the thread: real legs, each on a phase of its own, sockets that are queues, and a command ring that
//! can be full.
//!
//! It keeps to what the node's thread does: commands before frames, a socket read once per tick and bounded, a locked source that
//! shuts everybody else out, late ticks made up for. What a slow or busy thread does to calls is set in [`Faults`].

use crate::tape::Tape;
use bytes::Bytes;
use hookswitch_proto::Time;
use hookswitch_proto::limits::RTP_BURST;
use hookswitch_proto::media::{Block, FRAME_TIME, Leg, LegConfig, LegId, LegIo, MediaCmd, MediaEvent, MediaKind, StopReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Legs are spread over so many phases of one millisecond.
const PHASES: u64 = 20;
/// RTCP sockets are read once in so many ticks.
const RTCP_EVERY_TICKS: u32 = 25;
/// Late ticks are made up for so far; what is beyond is left out.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Datagrams that a leg's socket holds: some seconds of audio. More: dropped, as a kernel does.
const SOCKET: usize = 256;
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 60_000;

/// What is wrong with the media thread.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Commands that the ring holds while the thread is busy.
    pub ring: usize,
    /// The ring takes nothing until then.
    pub full_until: Time,
    /// The thread does nothing until then.
    pub busy_until: Time,
    /// No port is left: legs fail to open.
    pub no_ports: bool,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { ring: 8192, full_until: Time::ZERO, busy_until: Time::ZERO, no_ports: false }
    }
}

/// RTP or RTCP on its way out.
pub(crate) struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Bytes,
}

pub struct Media {
    ip: IpAddr,
    pub faults: Faults,
    ring: VecDeque<MediaCmd>,
    legs: BTreeMap<LegId, Slot>,
    /// By RTP port; RTCP is one above.
    ports: BTreeMap<u16, LegId>,
    next_port: u16,
    due: BTreeSet<(Time, LegId)>,
    opened: u64,
    packets: Vec<Packet>,
    events: Vec<MediaEvent>,
}

struct Slot {
    leg: Leg,
    port: u16,
    /// Datagrams, each with when it came: a kernel stamps them.
    rtp: VecDeque<(Time, SocketAddr, Bytes)>,
    rtcp: VecDeque<(Time, SocketAddr, Bytes)>,
    /// The source it has locked to: the kernel drops what others send.
    connected: Option<SocketAddr>,
    due: Time,
    ticks: u32,
    /// The leg that is heard here (of two, by one that listens), and those that hear this one.
    hears: [Option<LegId>; 2],
    heard_by: Vec<LegId>,
}

struct Io<'a> {
    ip: IpAddr,
    port: u16,
    packets: &'a mut Vec<Packet>,
    events: &'a mut Vec<MediaEvent>,
    tape: &'a mut Tape,
}

impl LegIo for Io<'_> {
    fn send(&mut self, to: SocketAddr, rtcp: bool, packet: &[u8]) {
        let from = SocketAddr::new(self.ip, self.port + u16::from(rtcp));
        self.packets.push(Packet { from, to, bytes: Bytes::copy_from_slice(packet) });
    }
    fn event(&mut self, event: MediaEvent) {
        self.events.push(event);
    }
    fn take_block(&mut self) -> Option<Box<Block>> {
        self.tape.take_block()
    }
    fn give_block(&mut self, block: Box<Block>) {
        self.tape.give_block(block);
    }
}

impl Media {
    pub(crate) fn new(ip: IpAddr) -> Media {
        Media {
            ip,
            faults: Faults::default(),
            ring: VecDeque::new(),
            legs: BTreeMap::new(),
            ports: BTreeMap::new(),
            next_port: FIRST_PORT,
            due: BTreeSet::new(),
            opened: 0,
            packets: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Legs that are open, oldest first.
    pub fn legs(&self) -> impl Iterator<Item = LegId> {
        self.legs.keys().copied()
    }

    /// `Err`: the ring is full, the command is lost.
    pub(crate) fn send(&mut self, now: Time, command: MediaCmd) -> Result<(), LegId> {
        if now < self.faults.full_until || self.ring.len() >= self.faults.ring {
            return Err(command.leg());
        }
        self.ring.push_back(command);
        Ok(())
    }

    /// When the thread has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let tick = self.due.first().map(|(at, _)| *at);
        let command = (!self.ring.is_empty()).then_some(Time::ZERO);
        Some([tick, command].into_iter().flatten().min()?.max(self.faults.busy_until))
    }

    /// Commands first, then the frames that are due.
    pub(crate) fn run(&mut self, now: Time, tape: &mut Tape) {
        if now < self.faults.busy_until {
            return;
        }
        while let Some(command) = self.ring.pop_front() {
            self.obey(now, command, tape);
        }
        while let Some(&(at, leg)) = self.due.first()
            && at <= now
        {
            self.tick(now, leg, tape);
        }
    }

    /// A datagram for one of our ports. Those that belong to no leg are nobody's.
    pub(crate) fn receive(&mut self, now: Time, to: SocketAddr, from: SocketAddr, bytes: Bytes) {
        let (port, rtcp) = (to.port() & !1, to.port() & 1 == 1);
        let Some(slot) = self.ports.get(&port).and_then(|leg| self.legs.get_mut(leg)) else { return };
        if !rtcp && slot.connected.is_some_and(|source| source != from) {
            return;
        }
        let socket = if rtcp { &mut slot.rtcp } else { &mut slot.rtp };
        if socket.len() < SOCKET {
            socket.push_back((now, from, bytes));
        }
    }

    pub(crate) fn take_packets(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.packets)
    }

    pub(crate) fn take_events(&mut self) -> Vec<MediaEvent> {
        std::mem::take(&mut self.events)
    }

    fn tick(&mut self, now: Time, leg: LegId, tape: &mut Tape) {
        let Some(slot) = self.legs.get_mut(&leg) else { return };
        self.due.remove(&(slot.due, leg));
        let late = now.since(slot.due);
        if late > CATCH_UP {
            let rounds = u32::try_from(late.as_nanos() / FRAME_TIME.as_nanos()).unwrap_or(u32::MAX);
            slot.due += FRAME_TIME * rounds;
            let mut io = Io { ip: self.ip, port: slot.port, packets: &mut self.packets, events: &mut self.events, tape: &mut *tape };
            slot.leg.left_out(u64::from(rounds), &mut io);
        }
        slot.due += FRAME_TIME;
        self.due.insert((slot.due, leg));
        self.read(now, leg, tape);
        let Some(slot) = self.legs.get_mut(&leg) else { return };
        let mut io = Io { ip: self.ip, port: slot.port, packets: &mut self.packets, events: &mut self.events, tape };
        slot.leg.tick(now, &mut io);
        if let Some(source) = slot.leg.take_locked_source() {
            slot.connected = Some(source);
        }
        for listener in slot.heard_by.clone() {
            // Out of the map for as long as two legs are needed at once.
            let Some(mut other) = self.legs.remove(&listener) else { continue };
            if let Some(slot) = self.legs.get(&leg).filter(|_| other.leg.overhears()) {
                let mut io = Io { ip: self.ip, port: other.port, packets: &mut self.packets, events: &mut self.events, tape };
                other.leg.overhear(&slot.leg, &mut io);
            }
            self.legs.insert(listener, other);
        }
    }

    /// Takes what came for a leg, and sends on what others hear of it.
    fn read(&mut self, now: Time, leg: LegId, tape: &mut Tape) {
        let Some(slot) = self.legs.get(&leg) else { return };
        let listeners = slot.heard_by.clone();
        let overheard = listeners.iter().any(|listener| self.legs.get(listener).is_some_and(|slot| slot.leg.overhears()));
        let Some(slot) = self.legs.get_mut(&leg) else { return };
        slot.leg.set_overheard(overheard);
        let come: Vec<(Time, SocketAddr, Bytes)> = slot.rtp.drain(..slot.rtp.len().min(RTP_BURST)).collect();
        for (came, from, bytes) in come {
            let Some(slot) = self.legs.get_mut(&leg) else { continue };
            let spoken = slot.leg.push(now, from, false, &bytes);
            slot.leg.waited(now.since(came));
            let Some(spoken) = spoken else { continue };
            for listener in &listeners {
                let Some(other) = self.legs.get_mut(listener) else { continue };
                let mut io = Io { ip: self.ip, port: other.port, packets: &mut self.packets, events: &mut self.events, tape };
                other.leg.relay(&spoken, &mut io);
            }
        }
        let Some(slot) = self.legs.get_mut(&leg) else { return };
        slot.ticks += 1;
        if slot.ticks.is_multiple_of(RTCP_EVERY_TICKS) {
            for (_, from, bytes) in slot.rtcp.drain(..slot.rtcp.len().min(RTP_BURST)) {
                // RTCP is for this leg alone.
                let _ = slot.leg.push(now, from, true, &bytes);
            }
        }
    }

    fn obey(&mut self, now: Time, command: MediaCmd, tape: &mut Tape) {
        match command {
            MediaCmd::Open { leg, config } => self.open(now, leg, *config),
            MediaCmd::Close { leg, reason } => self.close(now, leg, reason, tape),
            MediaCmd::Bridge { leg, hears } => {
                let heard = self.hear(leg, [hears, None]);
                if let Some(slot) = self.legs.get_mut(&leg) {
                    slot.leg.bridge(heard[0].is_some());
                }
            }
            MediaCmd::Listen { leg, to } => {
                let heard = self.hear(leg, to);
                if let Some(slot) = self.legs.get_mut(&leg) {
                    slot.leg.listen(heard);
                }
            }
            command => {
                let Some(slot) = self.legs.get_mut(&command.leg()) else { return };
                let mut io = Io { ip: self.ip, port: slot.port, packets: &mut self.packets, events: &mut self.events, tape };
                slot.leg.command(now, command, &mut io);
                if slot.leg.source_is_open() {
                    slot.connected = None;
                }
            }
        }
    }

    fn open(&mut self, now: Time, leg: LegId, config: LegConfig) {
        let port = self.free_port().filter(|_| !self.faults.no_ports && !self.legs.contains_key(&leg));
        let Some(port) = port else {
            let what = MediaKind::OpenFailed { why: "no port left".into() };
            return self.events.push(MediaEvent { leg, at: now, what });
        };
        let due = Time(now.0 + 1_000_000 * (self.opened % PHASES));
        self.opened += 1;
        let (rtp, rtcp) = (VecDeque::new(), VecDeque::new());
        let ticks = u32::from(port / 2) % RTCP_EVERY_TICKS;
        self.legs.insert(
            leg,
            Slot { leg: Leg::new(now, leg, config), port, rtp, rtcp, connected: None, due, ticks, hears: [None; 2], heard_by: Vec::new() },
        );
        self.due.insert((due, leg));
        self.ports.insert(port, leg);
        let what = MediaKind::Opened { local: SocketAddr::new(self.ip, port) };
        self.events.push(MediaEvent { leg, at: now, what });
    }

    fn close(&mut self, now: Time, leg: LegId, reason: StopReason, tape: &mut Tape) {
        let Some(mut slot) = self.legs.remove(&leg) else { return };
        self.due.remove(&(slot.due, leg));
        self.ports.remove(&slot.port);
        let mut io = Io { ip: self.ip, port: slot.port, packets: &mut self.packets, events: &mut self.events, tape };
        slot.leg.close(now, reason, &mut io);
        for listener in &slot.heard_by {
            if let Some(other) = self.legs.get_mut(listener) {
                other.hears = other.hears.map(|heard| heard.filter(|heard| *heard != leg));
                if other.hears == [None; 2] {
                    other.leg.bridge(false);
                }
            }
        }
        for other in slot.hears.into_iter().flatten() {
            if let Some(other) = self.legs.get_mut(&other) {
                other.heard_by.retain(|listener| *listener != leg);
            }
        }
    }

    /// Whom it hears then.
    fn hear(&mut self, leg: LegId, others: [Option<LegId>; 2]) -> [Option<LegId>; 2] {
        let Some(slot) = self.legs.get_mut(&leg) else { return [None; 2] };
        for before in std::mem::take(&mut slot.hears).into_iter().flatten() {
            if let Some(before) = self.legs.get_mut(&before) {
                before.heard_by.retain(|listener| *listener != leg);
            }
        }
        let heard = others.map(|other| {
            let other = other.filter(|other| *other != leg)?;
            self.legs.get_mut(&other)?.heard_by.push(leg);
            Some(other)
        });
        if let Some(slot) = self.legs.get_mut(&leg) {
            slot.hears = heard;
        }
        heard
    }

    fn free_port(&mut self) -> Option<u16> {
        let pairs = usize::from(LAST_PORT - FIRST_PORT) / 2;
        for _ in 0..pairs {
            let port = self.next_port;
            self.next_port = if port + 2 >= LAST_PORT { FIRST_PORT } else { port + 2 };
            if !self.ports.contains_key(&port) {
                return Some(port);
            }
        }
        None
    }
}
