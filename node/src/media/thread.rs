//! One media thread: an absolute clock of 1 ms phases, and on each the legs that are due.
//!
//! A leg is polled, not waked: its socket is read once in 20 ms. Nothing here waits for another thread; a late tick is made up for, and
//! counted. Start with [`MediaThread::run`].

use super::Sleep;
use super::blocks::Blocks;
use super::ports::PortPool;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::udp::{self, Receiver};
use crate::net::{Clock, Priority, Wake, pin, set_priority, set_timer_slack};
use crate::record::BlockLink;
use hookswitch_proto::Time;
use hookswitch_proto::limits::RTP_BURST;
use hookswitch_proto::media::{Block, FRAME_TIME, Leg, LegConfig, LegId, LegIo, LegStats, MediaCmd, MediaEvent, MediaKind, StopReason};
use slab::Slab;
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const PHASE: Duration = Duration::from_millis(1);
const PHASES: usize = 20;
/// Sleeps up to this are not interrupted by commands: they are read when it ends. Longer ones would be a part of every call's setup, which
/// waits for two legs to open.
const NAP: Duration = Duration::from_micros(200);
/// When nothing is due, what found no room is tried again after this.
const RETRY: Duration = Duration::from_millis(2);
/// The share of its time that a thread sleeps, over so long, decides its priority: below the first it is crowded, above the second no more.
const LOAD_WINDOW: Duration = Duration::from_millis(500);
const CROWDED: Duration = Duration::from_millis(60);
const AT_EASE: Duration = Duration::from_millis(120);
/// Commands carried out before the next look at the clock: opening a leg costs some 15 us.
const COMMANDS: usize = 32;
/// Counters are added to the shared ones, and blocks counted, once in so many phases.
const REPORT_EVERY: u32 = 64;

pub(super) struct MediaThread {
    commands: rtrb::Consumer<MediaCmd>,
    desk: Desk,
    ports: PortPool,
    legs: Legs,
    places: HashMap<LegId, usize>,
    phases: [Vec<usize>; PHASES],
    blocks_used: u64,
    sleep: Arc<Sleep>,
    load: Load,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// How much of a window the thread slept.
struct Load {
    since: Time,
    slept: Duration,
    crowded: bool,
}

/// What the legs of a thread work with, one after the other.
struct Desk {
    outbox: Outbox,
    blocks: Blocks,
    sends: Sends,
    tally: Tally,
}

struct Slot {
    id: LegId,
    /// Its own place among the legs.
    key: usize,
    leg: Leg,
    port: u16,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Where the RTP socket is connected to, once the source is known.
    connected: Option<SocketAddr>,
    phase: usize,
    /// Its index in `phases[phase]`.
    place: usize,
    ticks: u32,
    /// The last read did not find exactly one datagram, so the next one looks for all that are there.
    uneven: bool,
    /// Keys of the leg that is heard here (of two, by one that listens), and of those that hear this one. Both ends are cleared when either leg
    /// goes, so that a key is always of the leg that was meant.
    hears: [Option<usize>; 2],
    heard_by: Vec<usize>,
}

/// The way up: events for the switch. Digits and ends of things have reserved room.
pub(super) struct Outbox {
    ring: rtrb::Producer<MediaEvent>,
    aside: VecDeque<MediaEvent>,
    fresh: bool,
    wake: Arc<Wake>,
    metrics: Arc<Metrics>,
}

impl Outbox {
    pub fn new(ring: rtrb::Producer<MediaEvent>, wake: Arc<Wake>, metrics: Arc<Metrics>) -> Outbox {
        Outbox { ring, aside: VecDeque::new(), fresh: false, wake, metrics }
    }

    fn push(&mut self, event: MediaEvent) {
        let needed = !matches!(event.what, MediaKind::DigitUp { .. } | MediaKind::Flowing { .. });
        let room = if needed { 0 } else { limits::MEDIA_EVENTS_RESERVED };
        if self.aside.is_empty() && self.ring.slots() > room {
            // There is room: this is the only producer.
            let _ = self.ring.push(event);
            self.fresh = true;
        } else if needed && self.aside.len() < limits::MEDIA_EVENTS_ASIDE {
            self.aside.push_back(event);
        } else {
            add(&self.metrics.media_events_dropped, 1);
        }
    }

    /// Wakes the switch when there is something for it. Once for a phase or a batch of commands.
    fn flush(&mut self) {
        while let Some(event) = self.aside.pop_front() {
            match self.ring.push(event) {
                Ok(()) => self.fresh = true,
                Err(rtrb::PushError::Full(event)) => {
                    self.aside.push_front(event);
                    break;
                }
            }
        }
        if std::mem::take(&mut self.fresh) {
            self.wake.wake();
        }
    }
}

/// Packets of a phase on their way out. All are sent together when its legs are done: the kernel's ways in and out are each larger than
/// a core's first cache, and going to and fro between them for every leg costs more than the copy here.
#[derive(Default)]
struct Sends {
    bytes: Vec<u8>,
    list: Vec<Outgoing>,
}

struct Outgoing {
    key: usize,
    to: SocketAddr,
    rtcp: bool,
    length: usize,
}

impl Sends {
    fn push(&mut self, key: usize, to: SocketAddr, rtcp: bool, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.list.push(Outgoing { key, to, rtcp, length: packet.len() });
    }

    fn flush(&mut self, legs: &Legs, tally: &mut Tally) {
        let mut rest = self.bytes.as_slice();
        for send in self.list.drain(..) {
            let Some((packet, after)) = rest.split_at_checked(send.length) else { break };
            rest = after;
            if let Some(slot) = legs.get(send.key) {
                slot.sockets().send(send.to, send.rtcp, packet, tally);
            }
        }
        self.bytes.clear();
    }
}

/// A leg's sockets, and where the one for RTP is connected to.
struct Sockets<'a> {
    rtp: &'a UdpSocket,
    rtcp: &'a UdpSocket,
    connected: Option<SocketAddr>,
}

impl Sockets<'_> {
    fn send(&self, to: SocketAddr, rtcp: bool, packet: &[u8], tally: &mut Tally) {
        let sent = if rtcp {
            self.rtcp.send_to(packet, to)
        } else if self.connected == Some(to) {
            self.rtp.send(packet)
        } else {
            self.rtp.send_to(packet, to)
        };
        // A refusal is the peer's or the network's: RTP has no other answer to loss than going on.
        match sent {
            Ok(_) => tally.sent += 1,
            Err(_) => tally.unsent += 1,
        }
    }
}

/// Where a leg's packets go.
enum Way<'a> {
    /// With those of its phase.
    Later(&'a mut Sends),
    /// At once: by a command, or the last ones.
    Now(Sockets<'a>),
}

/// What a leg may do to the world.
struct Io<'a> {
    key: usize,
    way: Way<'a>,
    outbox: &'a mut Outbox,
    blocks: &'a mut Blocks,
    tally: &'a mut Tally,
}

/// Counted here, added to the shared counters now and then.
#[derive(Default)]
struct Tally {
    received: u64,
    sent: u64,
    unsent: u64,
    /// Longer than the receive buffer: not what any telephone sends.
    cut: u64,
    phases: u32,
}

impl LegIo for Io<'_> {
    fn send(&mut self, to: SocketAddr, rtcp: bool, packet: &[u8]) {
        match &mut self.way {
            Way::Later(sends) => sends.push(self.key, to, rtcp, packet),
            Way::Now(sockets) => sockets.send(to, rtcp, packet, self.tally),
        }
    }
    fn event(&mut self, event: MediaEvent) {
        self.outbox.push(event);
    }
    fn take_block(&mut self) -> Option<Box<Block>> {
        self.blocks.take()
    }
    fn give_block(&mut self, block: Box<Block>) {
        self.blocks.give(block);
    }
}

impl Slot {
    fn sockets(&self) -> Sockets<'_> {
        Sockets { rtp: &self.rtp, rtcp: &self.rtcp, connected: self.connected }
    }

    /// The leg, and what it may do to the world in its tick.
    fn ticking<'a>(&'a mut self, desk: &'a mut Desk) -> (&'a mut Leg, Io<'a>) {
        let Desk { outbox, blocks, sends, tally } = desk;
        (&mut self.leg, Io { key: self.key, way: Way::Later(sends), outbox, blocks, tally })
    }

    /// The same between ticks.
    fn between<'a>(&'a mut self, desk: &'a mut Desk) -> (&'a mut Leg, Io<'a>) {
        let Desk { outbox, blocks, tally, .. } = desk;
        let sockets = Sockets { rtp: &self.rtp, rtcp: &self.rtcp, connected: self.connected };
        (&mut self.leg, Io { key: self.key, way: Way::Now(sockets), outbox, blocks, tally })
    }
}

type Legs = Slab<Box<Slot>>;

/// Takes what came for a leg, and sends on what others hear of it. `at` is the leg whose code runs.
fn read(legs: &mut Legs, key: usize, at: &mut usize, now: Time, packets: &mut Receiver, desk: &mut Desk, clock: &Clock) {
    let Some(slot) = legs.get(key) else { return };
    let overheard = slot.heard_by.iter().any(|listener| legs.get(*listener).is_some_and(|slot| slot.leg.overhears()));
    let Some(slot) = legs.get_mut(key) else { return };
    slot.leg.set_overheard(overheard);
    slot.ticks = slot.ticks.wrapping_add(1);
    let all = slot.connected.is_none() || slot.uneven || slot.ticks.is_multiple_of(limits::LOOK_EVERY);
    let n = match slot.connected {
        // The usual telephone sends one packet a frame. Should more come for a moment, they are found within `LOOK_EVERY`.
        Some(peer) => packets.receive_from(&slot.rtp, peer, if all { RTP_BURST } else { 1 }),
        None => packets.receive(&slot.rtp),
    };
    slot.uneven = n != 1;
    // When the last of them came: after a pause at once, else often enough.
    let waited = if all && n > 0 && slot.leg.wants_arrivals() { udp::waited(&slot.rtp) } else { None };
    // It was asked for now, and the leg counts from `now`, when its phase began.
    let waited = waited.map(|waited| waited.saturating_sub(clock.now().since(now)));
    desk.tally.received += n as u64;
    let Desk { outbox, blocks, sends, tally } = desk;
    for i in 0..n {
        let (Some(packet), Some(slot)) = (packets.get(i), legs.get_mut(key)) else { continue };
        if packet.cut {
            tally.cut += 1;
            continue;
        }
        let spoken = slot.leg.push(now, packet.from, false, packet.bytes);
        if let Some(waited) = waited.filter(|_| i + 1 == n) {
            slot.leg.waited(waited);
        }
        let Some(spoken) = spoken else { continue };
        for turn in 0..slot.heard_by.len() {
            let listener = legs.get(key).and_then(|slot| slot.heard_by.get(turn).copied());
            let Some(listener) = listener else { break };
            *at = listener;
            if let Some(slot) = legs.get_mut(listener) {
                let mut io = Io { key: listener, way: Way::Later(sends), outbox, blocks, tally };
                slot.leg.relay(&spoken, &mut io);
            }
            *at = key;
        }
    }
    let Some(slot) = legs.get_mut(key).filter(|slot| slot.ticks.is_multiple_of(limits::RTCP_EVERY_TICKS)) else { return };
    let n = packets.receive(&slot.rtcp);
    tally.received += n as u64;
    for i in 0..n {
        match packets.get(i) {
            Some(packet) if packet.cut => tally.cut += 1,
            Some(packet) => drop(slot.leg.push(now, packet.from, true, packet.bytes)),
            None => {}
        }
    }
}

/// One frame of a leg, and what recordings of others hear of it.
fn tick(legs: &mut Legs, key: usize, at: &mut usize, now: Time, desk: &mut Desk) {
    *at = key;
    let Some(slot) = legs.get_mut(key) else { return };
    let (leg, mut io) = slot.ticking(desk);
    leg.tick(now, &mut io);
    if let Some(source) = slot.leg.take_locked_source() {
        // From here on the kernel drops what others send.
        slot.connected = slot.rtp.connect(source).is_ok().then_some(source);
    }
    for turn in 0..slot.heard_by.len() {
        let Some(&listener) = legs.get(key).and_then(|slot| slot.heard_by.get(turn)) else { break };
        let Some((slot, other)) = legs.get2_mut(key, listener) else { continue };
        if other.leg.overhears() {
            *at = listener;
            let (leg, mut io) = other.ticking(desk);
            leg.overhear(&slot.leg, &mut io);
        }
    }
}

impl MediaThread {
    pub fn new(
        commands: rtrb::Consumer<MediaCmd>,
        outbox: Outbox,
        ports: PortPool,
        blocks: Vec<BlockLink>,
        sleep: Arc<Sleep>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> MediaThread {
        MediaThread {
            commands,
            desk: Desk { outbox, blocks: Blocks::new(blocks), sends: Sends::default(), tally: Tally::default() },
            ports,
            legs: Slab::new(),
            places: HashMap::new(),
            phases: std::array::from_fn(|_| Vec::new()),
            blocks_used: 0,
            sleep,
            load: Load { since: clock.now(), slept: Duration::ZERO, crowded: false },
            metrics,
            clock,
        }
    }

    pub fn run(mut self, cpu: Option<usize>) {
        if let Some(cpu) = cpu
            && let Err(error) = pin(cpu)
        {
            tracing::info!(cpu, %error, "media thread is not pinned");
        }
        if let Err(error) = set_priority(Priority::Media) {
            tracing::info!(%error, "media thread runs at the usual priority");
        }
        set_timer_slack(1);
        let mut packets = Receiver::new(RTP_BURST, limits::RTP_PACKET);
        // `phase` is due at `due`: one absolute clock, so that no tick drifts.
        let (mut phase, mut due) = (0, self.clock.now());
        while !self.sleep.stopped() {
            self.obey();
            self.desk.blocks.tidy(self.legs.len());
            self.desk.outbox.flush();
            if self.legs.is_empty() {
                self.report();
                self.sleep_until(None);
                due = self.clock.now();
                continue;
            }
            let now = self.clock.now();
            if now < due {
                // Phases without legs are passed over in one sleep.
                let empty = (0..PHASES).take_while(|i| self.phases[(phase + i) % PHASES].is_empty()).count();
                phase = (phase + empty) % PHASES;
                due += PHASE * u32::try_from(empty).unwrap_or(0);
                self.sleep_until(Some(due));
                continue;
            }
            let late = now.since(due);
            if late > limits::CATCH_UP {
                // The machine stood still. Nobody wants seconds of audio in one burst.
                let rounds = late.as_nanos() / FRAME_TIME.as_nanos();
                due += FRAME_TIME * u32::try_from(rounds).unwrap_or(u32::MAX);
                add(&self.metrics.ticks_skipped, u64::try_from(rounds).unwrap_or(u64::MAX).saturating_mul(self.legs.len() as u64));
                self.leave_out(u64::try_from(rounds).unwrap_or(u64::MAX));
            }
            self.weigh(now);
            if !self.phases[phase].is_empty() {
                self.metrics.tick_lateness.record(late, self.phases[phase].len() as u64);
                self.tick(phase, &mut packets);
            }
            self.desk.tally.phases += 1;
            if self.desk.tally.phases >= REPORT_EVERY {
                self.report();
            }
            phase = (phase + 1) % PHASES;
            due += PHASE;
        }
        self.stop();
    }

    /// Chooses the priority by the load, once in a window.
    fn weigh(&mut self, now: Time) {
        if now.since(self.load.since) < LOAD_WINDOW {
            return;
        }
        let slept = std::mem::take(&mut self.load.slept);
        self.load.since = now;
        let crowded = if self.load.crowded { slept < AT_EASE } else { slept < CROWDED };
        if crowded != self.load.crowded {
            self.load.crowded = crowded;
            // Refused at the beginning, it is refused again, and was told then.
            let _ = set_priority(if crowded { Priority::MediaCrowded } else { Priority::Media });
        }
    }

    fn sleep_until(&mut self, due: Option<Time>) {
        let wait = due.map(|due| due.since(self.clock.now()));
        self.load.slept += wait.unwrap_or(LOAD_WINDOW);
        match wait {
            Some(wait) if wait <= NAP => std::thread::sleep(wait),
            _ => {
                self.sleep.begin();
                // A command that came before the announcement woke nobody: look once more.
                if self.commands.is_empty() && !self.sleep.stopped() {
                    // An event that found no room is tried again soon even if nothing else happens.
                    let patience =
                        if self.desk.outbox.aside.is_empty() && self.desk.blocks.sent() { Duration::from_secs(1) } else { RETRY };
                    std::thread::park_timeout(wait.unwrap_or(patience));
                }
                self.sleep.end();
            }
        }
    }

    /// Tells all legs of ticks that they will not have: recordings show the hole, and what has piled up in sockets is read at once.
    fn leave_out(&mut self, ticks: u64) {
        let mut broken = Vec::new();
        for (_, slot) in &mut self.legs {
            slot.uneven = true;
            let desk = &mut self.desk;
            let whole = catch_unwind(AssertUnwindSafe(|| {
                let (leg, mut io) = slot.between(desk);
                leg.left_out(ticks, &mut io);
            }));
            if whole.is_err() {
                broken.push(slot.id);
            }
        }
        for leg in broken {
            self.lose(leg);
        }
    }

    /// One frame of all legs of a phase.
    fn tick(&mut self, phase: usize, packets: &mut Receiver) {
        let now = self.clock.now();
        let mut broken = Vec::new();
        for &key in &self.phases[phase] {
            let (legs, desk, clock) = (&mut self.legs, &mut self.desk, &self.clock);
            // A fault of ours in one leg must not silence the others: neither its bridge's other end, whose code it may have been.
            let mut at = key;
            let read = catch_unwind(AssertUnwindSafe(|| read(legs, key, &mut at, now, packets, desk, clock)));
            if read.is_err() {
                broken.extend(legs.get(at).map(|slot| slot.id));
                if at == key {
                    continue;
                }
            }
            let whole = catch_unwind(AssertUnwindSafe(|| tick(legs, key, &mut at, now, desk)));
            if whole.is_err() {
                broken.extend(legs.get(at).map(|slot| slot.id));
            }
        }
        self.desk.sends.flush(&self.legs, &mut self.desk.tally);
        for leg in broken {
            self.lose(leg);
        }
    }

    fn obey(&mut self) {
        for _ in 0..COMMANDS {
            let Ok(command) = self.commands.pop() else { break };
            let now = self.clock.now();
            match command {
                MediaCmd::Open { leg, config } => self.open(now, leg, *config),
                MediaCmd::Close { leg, reason } => self.close(now, leg, reason),
                MediaCmd::Bridge { leg, hears } => {
                    let heard = self.hear(leg, [hears, None]);
                    if let Some(slot) = self.slot(leg) {
                        slot.leg.bridge(heard[0].is_some());
                    }
                }
                MediaCmd::Listen { leg, to } => {
                    let heard = self.hear(leg, to);
                    if let Some(slot) = self.slot(leg) {
                        slot.leg.listen(heard);
                    }
                }
                command => {
                    let leg = command.leg();
                    let Some(slot) = self.places.get(&leg).and_then(|key| self.legs.get_mut(*key)) else { continue };
                    let desk = &mut self.desk;
                    let whole = catch_unwind(AssertUnwindSafe(|| {
                        let (leg, mut io) = slot.between(desk);
                        leg.command(now, command, &mut io);
                    }));
                    // After an SDP that moved the peer the source is learnt anew, so everybody may speak again.
                    if slot.connected.is_some() && slot.leg.source_is_open() {
                        slot.connected = None;
                        let _ = udp::disconnect(&slot.rtp);
                    }
                    if whole.is_err() {
                        self.lose(leg);
                    }
                }
            }
        }
    }

    fn open(&mut self, now: Time, leg: LegId, config: LegConfig) {
        let failed = |why: String| MediaEvent { leg, at: now, what: MediaKind::OpenFailed { why } };
        if self.legs.len() >= limits::LEGS || self.places.contains_key(&leg) {
            add(&self.metrics.legs_failed, 1);
            self.desk.outbox.push(failed("no room for another leg".into()));
            return;
        }
        let opened = self.ports.open().and_then(|pair| match pair.rtp.local_addr() {
            Ok(local) => Ok((pair, local)),
            Err(error) => {
                self.ports.release(pair.port);
                Err(error.to_string())
            }
        });
        let (pair, local) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                add(&self.metrics.legs_failed, 1);
                self.desk.outbox.push(failed(why));
                return;
            }
        };
        // From now on the kernel stamps what comes, so that the first packet's wait is known as well.
        let _ = udp::waited(&pair.rtp);
        let phase = (0..PHASES).min_by_key(|p| self.phases[*p].len()).unwrap_or(0);
        let place = self.legs.vacant_entry();
        let key = place.key();
        let slot = Slot {
            id: leg,
            key,
            leg: Leg::new(now, leg, config),
            port: pair.port,
            rtp: pair.rtp,
            rtcp: pair.rtcp,
            connected: None,
            phase,
            place: self.phases[phase].len(),
            // RTCP sockets of legs that opened together are not all read in the same tick.
            ticks: u32::from(pair.port / 2),
            uneven: true,
            hears: [None; 2],
            heard_by: Vec::new(),
        };
        place.insert(Box::new(slot));
        self.phases[phase].push(key);
        self.places.insert(leg, key);
        self.metrics.legs.up();
        self.desk.outbox.push(MediaEvent { leg, at: now, what: MediaKind::Opened { local } });
    }

    fn close(&mut self, now: Time, leg: LegId, reason: StopReason) {
        let Some(mut slot) = self.remove(leg) else { return };
        let (legs, desk) = (&mut self.legs, &mut self.desk);
        let whole = catch_unwind(AssertUnwindSafe(|| {
            let (leg, mut io) = slot.between(desk);
            leg.close(now, reason, &mut io);
        }));
        if whole.is_err() {
            desk.outbox.push(MediaEvent { leg, at: now, what: MediaKind::Closed { stats: Box::new(LegStats::default()) } });
        }
        // Its last frames belong to the recordings of who heard it.
        let mut broken = Vec::new();
        for listener in &slot.heard_by {
            let Some(listener) = legs.get_mut(*listener) else { continue };
            let whole = catch_unwind(AssertUnwindSafe(|| {
                let (leg, mut io) = listener.between(desk);
                leg.overhear(&slot.leg, &mut io);
            }));
            if whole.is_err() {
                broken.push(listener.id);
            }
        }
        self.part(&slot);
        let port = slot.port;
        drop(slot);
        self.ports.release(port);
        for leg in broken {
            self.lose(leg);
        }
    }

    /// A leg that panicked: it is gone, and its call ends by that.
    fn lose(&mut self, leg: LegId) {
        let at = self.clock.now();
        tracing::error!(leg = leg.0, "a leg panicked; its call ends");
        add(&self.metrics.sessions_panicked, 1);
        if let Some(slot) = self.remove(leg) {
            self.part(&slot);
            let port = slot.port;
            drop(slot);
            self.ports.release(port);
        }
        self.desk.outbox.push(MediaEvent { leg, at, what: MediaKind::Closed { stats: Box::new(LegStats::default()) } });
    }

    fn slot(&mut self, leg: LegId) -> Option<&mut Slot> {
        let key = self.places.get(&leg)?;
        self.legs.get_mut(*key).map(|slot| &mut **slot)
    }

    /// From now on `leg` hears these, or nobody: also where one is unknown (it may just have closed), is itself, or is heard by too many.
    /// Says whom it hears then.
    fn hear(&mut self, leg: LegId, others: [Option<LegId>; 2]) -> [Option<LegId>; 2] {
        let Some(&key) = self.places.get(&leg) else { return [None; 2] };
        let before = self.legs.get_mut(key).map(|slot| std::mem::take(&mut slot.hears)).unwrap_or_default();
        for other in before.into_iter().flatten() {
            self.forget(other, key);
        }
        let heard = others.map(|other| {
            let other = other.filter(|other| *other != leg)?;
            let place = *self.places.get(&other)?;
            let slot = self.legs.get_mut(place).filter(|slot| slot.heard_by.len() < limits::LISTENERS)?;
            slot.heard_by.push(key);
            Some((other, place))
        });
        if let Some(slot) = self.legs.get_mut(key) {
            slot.hears = heard.map(|heard| heard.map(|(_, place)| place));
        }
        heard.map(|heard| heard.map(|(leg, _)| leg))
    }

    /// `key` no longer hears `other`.
    fn forget(&mut self, other: usize, key: usize) {
        if let Some(slot) = self.legs.get_mut(other) {
            slot.heard_by.retain(|k| *k != key);
        }
    }

    /// Ends the bridges of a leg that was removed. Whom it heard is told by the key of its own place, which is free by now.
    fn part(&mut self, gone: &Slot) {
        for listener in &gone.heard_by {
            if let Some(slot) = self.legs.get_mut(*listener) {
                // One that listens to two goes on with who is left.
                slot.hears = slot.hears.map(|heard| heard.filter(|heard| *heard != gone.key));
                if slot.hears == [None; 2] {
                    slot.leg.bridge(false);
                }
            }
        }
        for other in gone.hears.into_iter().flatten() {
            self.forget(other, gone.key);
        }
    }

    fn remove(&mut self, leg: LegId) -> Option<Box<Slot>> {
        let key = self.places.remove(&leg)?;
        let slot = self.legs.try_remove(key)?;
        let list = &mut self.phases[slot.phase];
        list.swap_remove(slot.place);
        if let Some(moved) = list.get(slot.place)
            && let Some(moved) = self.legs.get_mut(*moved)
        {
            moved.place = slot.place;
        }
        self.metrics.legs.down();
        Some(slot)
    }

    fn report(&mut self) {
        let used = self.desk.blocks.used() as u64;
        self.metrics.blocks_used.change(self.blocks_used, used);
        self.blocks_used = used;
        add(&self.metrics.media_received, self.desk.tally.received);
        add(&self.metrics.media_sent, self.desk.tally.sent);
        add(&self.metrics.media_unsent, self.desk.tally.unsent);
        add(&self.metrics.rtp_cut, self.desk.tally.cut);
        self.desk.tally = Tally::default();
    }

    /// The node ends: recordings are closed, and what they hold is handed over.
    fn stop(&mut self) {
        let now = self.clock.now();
        let left: Vec<LegId> = self.places.keys().copied().collect();
        for leg in left {
            self.close(now, leg, StopReason::ApiStop);
        }
        let patience = now + limits::CLOSE;
        while !self.desk.blocks.sent() && self.clock.now() < patience {
            self.desk.blocks.tidy(1);
            std::thread::sleep(RETRY);
        }
        self.report();
        self.desk.outbox.flush();
    }
}
