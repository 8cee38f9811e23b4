//! The simulated world: one node and its telephones in virtual time. The node is the real [`Switch`] and real media legs; phones are
//! made of the same endpoint and leg; between them lies a network that loses, delays and reorders; behind the switch a handler, a media
//! thread and writers that can be slow, full or broken. One seed decides everything: the same seed gives the same ladder.
//!
//! ```
//! use hookswitch_sim::{Script, World, handler};
//! let mut world = World::new(1, handler::ivr(vec![]));
//! world.call("alice", "100", Script::default());
//! world.run_for(std::time::Duration::from_secs(5));
//! assert!(world.ladder().starts_with("0.000 alice -> node   INVITE"));
//! assert_eq!(world.leaks(), Vec::<String>::new());
//! ```
//!
//! Start with [`World::run_to`]: it looks for what happens next, lets it happen, and carries out what follows.

use crate::clock::Clock;
use crate::fork::Fork;
use crate::ladder::{Plane, Step, ask_text, media_text, notification_text, sip_text, verdict_text};
use crate::media::Media;
use crate::network::{Network, Path};
use crate::phone::{Act, Call, Callee, Entry, Phone, PhoneConfig, PhoneOutput, Report, Role, Script, What};
use crate::tape::Tape;
use bytes::Bytes;
use hookswitch_call::door::Trunk;
use hookswitch_call::{
    Adapter, Ask, AskId, CallRecord, Command, CommandId, CommandResult, Configuration, Destination, Hook, HookFailure, Input, Notification,
    Output, Prepare, PromptSource, Resolve, SessionId, Switch, SwitchConfig, Tenant, Verdict, door::Counter,
};
use hookswitch_proto::media::tone::ToneSpec;
use hookswitch_proto::media::{Clip, Codec};
use hookswitch_proto::sip::{EndpointConfig, Flow, Listen, Message, Transport};
use hookswitch_proto::{Random, Time, Wall};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The tenant of a world made by [`World::new`].
pub const DOMAIN: &str = "demo.test";
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub const NODE_SIP: SocketAddr = SocketAddr::new(NODE, 5060);
/// The wall clock when the world begins: 14 November 2023.
const BEGIN: u64 = 1_700_000_000_000;
/// By then transactions are forgotten (64*T1), unanswered BYEs given up and releases over (40 s).
const AFTERMATH: Duration = Duration::from_secs(120);

/// What a letter of spoken text takes.
const LETTER: Duration = Duration::from_millis(60);

/// A phone of the world, by the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhoneId(pub usize);

/// A telephone and the line it stands on.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    /// How fast its clock runs: media and timers alike.
    pub skew_ppm: i32,
    pub codecs: Vec<Codec>,
    pub script: Script,
}

impl Line {
    /// A right clock, and u-law before A-law.
    pub fn new(name: &str, script: Script) -> Line {
        Line { name: name.into(), skew_ppm: 0, codecs: vec![Codec::Pcmu, Codec::Pcma], script }
    }
}

struct Device {
    name: String,
    phone: Phone,
    clock: Clock,
    sip: SocketAddr,
    rtp: SocketAddr,
    wake: Option<Time>,
    timeline: Vec<Entry>,
    report: Option<Report>,
}

/// Something that happens at a time of its own.
enum Event {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    Input(Input),
    /// A verdict from outside, and how the ladder says it.
    Answer {
        ask: AskId,
        verdict: Result<Verdict, HookFailure>,
        text: String,
    },
}

/// Who listens at an address.
#[derive(Clone, Copy)]
enum Door {
    Node,
    PhoneSip(PhoneId),
    PhoneRtp(PhoneId, bool),
    Fork(usize),
}

/// What is for a handler that the world does not ask itself.
#[derive(Debug)]
pub enum ForGuest {
    /// To be answered by [`World::answer`].
    Ask(Box<Ask>),
    Notify {
        session: SessionId,
        domain: Arc<str>,
        notification: Box<Notification>,
    },
    /// The session is over.
    End(SessionId),
}

/// SIP messages to lose: the next ones from here to there whose line in the ladder begins so.
struct Loss {
    from: String,
    to: String,
    what: String,
    times: u32,
}

pub struct World {
    pub now: Time,
    pub switch: Switch,
    pub network: Network,
    pub media: Media,
    pub tape: Tape,
    /// What a hook takes, and up to so much more. Beyond the ask's deadline the handler counts as failed by then.
    pub thinking: (Duration, Duration),
    /// Nobody answers for handlers, not even that they failed: the node's own guard has to.
    pub guests_dead: bool,
    /// Where questions and news go, oldest first, in place of the world's own handler.
    pub outside: Option<VecDeque<ForGuest>>,
    /// What fetching prompts takes.
    pub fetching: Duration,
    /// Prompts that exist.
    pub files: BTreeMap<String, Clip>,
    /// What every other prompt is. `None`: there is none.
    pub other_file: Option<Clip>,
    /// SIP host names, and where they lead.
    pub hosts: BTreeMap<String, Vec<SocketAddr>>,

    pub steps: Vec<Step>,
    pub asks: Vec<Ask>,
    pub notifications: Vec<Notification>,
    pub counters: BTreeMap<Counter, u64>,
    pub records: Vec<CallRecord>,
    /// Of each command.
    pub replies: BTreeMap<CommandId, Vec<CommandResult>>,
    pub logs: Vec<String>,

    random: Random,
    handler: Box<dyn Adapter>,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    devices: Vec<Device>,
    forks: Vec<Fork>,
    doors: BTreeMap<SocketAddr, Door>,
    names: BTreeMap<IpAddr, String>,
    losses: Vec<Loss>,
    commands: u64,
    /// Hooks that wait for their verdict, and until when nothing else may be asked of that session.
    asked: BTreeMap<SessionId, (AskId, Time)>,
    ended: BTreeSet<SessionId>,
    completed: BTreeSet<String>,
    trouble: Vec<String>,
}

/// A tenant that takes every call, and whose handlers may call the phones of the world.
pub fn tenant() -> Tenant {
    let destinations: Vec<Destination> = ["192.0.2.0/24"].iter().filter_map(|d| d.parse().ok()).collect();
    Tenant { max_sessions: 1000, destinations, ..Tenant::new(DOMAIN) }
}

pub fn configuration(tenant: Tenant) -> Configuration {
    Configuration {
        default_domain: Some(tenant.domain.to_string()),
        tenants: vec![Arc::new(tenant)],
        trunks: vec![Trunk { name: "carrier".into(), addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77))], trusted: true }],
        node_address: NODE.to_string(),
        emergency: Vec::new(),
        drain: false,
    }
}

/// A node with the usual limits.
pub fn switch_config(seed: u64) -> SwitchConfig {
    let endpoint = EndpointConfig {
        listen: vec![Listen { transport: Transport::Udp, bound: NODE_SIP, advertise: None }],
        agent: "hookswitch".into(),
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        session_expires: None,
        min_se: Duration::from_secs(90),
        known_peers: Vec::new(),
    };
    SwitchConfig::new(endpoint, seed_of(seed, 1))
}

fn seed_of(seed: u64, what: u8) -> [u8; 32] {
    let mut bytes = [what; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

fn silence(ms: usize) -> Clip {
    Clip { pcmu: vec![0xff; ms * 8].into(), pcma: vec![0xd5; ms * 8].into() }
}

impl World {
    pub fn new(seed: u64, handler: impl Adapter + 'static) -> World {
        World::with(seed, configuration(tenant()), switch_config(seed), Box::new(handler))
    }

    pub fn with(seed: u64, configuration: Configuration, config: SwitchConfig, handler: Box<dyn Adapter>) -> World {
        let mut switch = Switch::new(config);
        switch.handle(Time::ZERO, Input::Configure(Arc::new(configuration)));
        let mut random = Random::new(seed_of(seed, 0));
        World {
            now: Time::ZERO,
            switch,
            network: Network::new(Random::new(random.seed())),
            media: Media::new(NODE),
            tape: Tape::new(),
            thinking: (Duration::ZERO, Duration::ZERO),
            guests_dead: false,
            outside: None,
            fetching: Duration::ZERO,
            files: [("menu.wav", 2000), ("hello.wav", 1000), ("bye.wav", 500), ("error.wav", 1500)]
                .map(|(name, ms)| (name.to_owned(), silence(ms)))
                .into(),
            other_file: None,
            hosts: BTreeMap::new(),
            steps: Vec::new(),
            asks: Vec::new(),
            notifications: Vec::new(),
            counters: BTreeMap::new(),
            records: Vec::new(),
            replies: BTreeMap::new(),
            logs: Vec::new(),
            random,
            handler,
            queue: BTreeMap::new(),
            sequence: 0,
            devices: Vec::new(),
            forks: Vec::new(),
            doors: [(NODE_SIP, Door::Node)].into(),
            names: [(NODE, "node".to_owned())].into(),
            losses: Vec::new(),
            commands: 0,
            asked: BTreeMap::new(),
            ended: BTreeSet::new(),
            completed: BTreeSet::new(),
            trouble: Vec::new(),
        }
    }

    // ------------------------------------------------------------------------------------------------ time

    /// Everything that happens up to and at `end`.
    pub fn run_to(&mut self, end: Time) {
        self.drain();
        while let Some(next) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(next);
            self.step_once();
            self.drain();
        }
        self.now = self.now.max(end);
    }

    /// The next thing that happens up to and at `end`; `false`: nothing does any more, and it is `end`.
    pub fn step_to(&mut self, end: Time) -> bool {
        self.drain();
        let Some(next) = self.next().filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        self.step_once();
        self.drain();
        true
    }

    pub fn run_to_ms(&mut self, ms: u64) {
        self.run_to(Time::from_millis(ms));
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_to(self.now + duration);
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Time> {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let phones = self.devices.iter().filter_map(|d| d.wake).min();
        [queued, self.media.next_timeout(), self.switch.next_timeout(), phones].into_iter().flatten().min()
    }

    /// One thing that is due. What came from outside goes before what only time brought.
    fn step_once(&mut self) {
        let now = self.now;
        if self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.happen(event);
            }
        } else if self.media.next_timeout().is_some_and(|at| at <= now) {
            self.media.run(now, &mut self.tape);
        } else if self.switch.next_timeout().is_some_and(|at| at <= now) {
            self.input(Input::Tick);
        } else if let Some(i) = self.devices.iter().position(|d| d.wake.is_some_and(|at| at <= now)) {
            let device = &mut self.devices[i];
            let local = device.clock.local(now);
            device.phone.handle_timeout(local);
            self.poll_phone(PhoneId(i));
        }
    }

    fn later(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { from, to, bytes } => self.deliver(from, to, bytes),
            Event::Input(input) => {
                if let Input::Verdict { ask, verdict } = &input {
                    self.asked.retain(|_, (id, _)| id != ask);
                    self.note(Plane::Guest, "guest", "node", verdict_text(verdict));
                }
                self.input(input);
            }
            Event::Answer { ask, verdict, text } => {
                self.asked.retain(|_, (id, _)| *id != ask);
                self.note(Plane::Guest, "guest", "node", text);
                self.input(Input::Verdict { ask, verdict });
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ the network

    /// How datagrams get from one host to another, by name.
    pub fn path(&mut self, from: &str, to: &str, path: Path) {
        let (from, to) = (self.host(from), self.host(to));
        self.network.set(from, to, path);
    }

    /// Loses the next `times` SIP messages from one host to another whose line in the ladder begins with `what`.
    pub fn lose(&mut self, from: &str, to: &str, what: &str, times: u32) {
        self.losses.push(Loss { from: from.into(), to: to.into(), what: what.into(), times });
    }

    /// A datagram from anywhere to the node's SIP port, whatever is in it.
    pub fn raw(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        self.later(self.now, Event::Datagram { from, to: NODE_SIP, bytes: bytes.into() });
    }

    fn host(&self, name: &str) -> IpAddr {
        self.names.iter().find(|(_, n)| *n == name).map_or_else(|| panic!("there is no {name}"), |(ip, _)| *ip)
    }

    fn name(&self, ip: IpAddr) -> String {
        self.names.get(&ip).cloned().unwrap_or_else(|| ip.to_string())
    }

    fn send_sip(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let what = match Message::parse(bytes.clone()) {
            Ok(message) => sip_text(&message),
            Err(why) => {
                self.trouble.push(format!("{} sends what is no SIP: {why}", self.name(from.ip())));
                return;
            }
        };
        let (sender, receiver) = (self.name(from.ip()), self.name(to.ip()));
        let hit = |loss: &&mut Loss| loss.times > 0 && loss.from == sender && loss.to == receiver && what.starts_with(&loss.what);
        let struck = self.losses.iter_mut().find(hit).map(|loss| loss.times -= 1).is_some();
        let arrivals = if struck { [None, None] } else { self.network.send(self.now, from.ip(), to.ip()) };
        self.steps.push(Step { at: self.now, plane: Plane::Sip, from: sender, to: receiver, lost: arrivals[0].is_none(), what });
        self.travel(arrivals, from, to, bytes);
    }

    fn send_rtp(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let arrivals = self.network.send(self.now, from.ip(), to.ip());
        self.travel(arrivals, from, to, bytes);
    }

    fn travel(&mut self, arrivals: crate::network::Arrivals, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let from = self.network.seen(from);
        for at in arrivals.into_iter().flatten() {
            self.later(at, Event::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let Some(to) = self.network.reached(to) else { return };
        match self.doors.get(&to).copied() {
            Some(Door::Node) => {
                let flow = Flow { transport: Transport::Udp, local: NODE_SIP, peer: from };
                self.input(Input::Sip { flow, bytes, wall: self.wall() });
            }
            Some(Door::PhoneSip(id)) => {
                let device = &mut self.devices[id.0];
                let local = device.clock.local(self.now);
                device.phone.receive_sip(local, from, bytes);
                self.poll_phone(id);
            }
            Some(Door::PhoneRtp(id, rtcp)) => {
                let device = &mut self.devices[id.0];
                let local = device.clock.local(self.now);
                device.phone.receive_rtp(local, from, rtcp, &bytes);
            }
            Some(Door::Fork(i)) => {
                let fork = &mut self.forks[i];
                let at = fork.address;
                for (to, bytes) in fork.receive(from, &bytes) {
                    self.send_sip(at, to, bytes);
                }
            }
            None if to.ip() == NODE => self.media.receive(self.now, to, from, bytes),
            None => {}
        }
    }

    pub fn wall(&self) -> Wall {
        Wall(BEGIN + self.now.0 / 1_000_000)
    }

    // ------------------------------------------------------------------------------------------------ phones

    /// A phone that calls `number` at the node, now.
    pub fn call(&mut self, name: &str, number: &str, script: Script) -> PhoneId {
        self.call_from(Line::new(name, script), number)
    }

    pub fn call_from(&mut self, line: Line, number: &str) -> PhoneId {
        let call = Call {
            target: format!("sip:{number}@{NODE}"),
            from: format!("<sip:{}@example.com>", line.name),
            peer: NODE_SIP,
            headers: Vec::new(),
            give_up_after: Duration::from_secs(60),
        };
        self.add(line, Role::Caller(call))
    }

    /// A phone that waits for its one call, at [`World::address`].
    pub fn phone(&mut self, name: &str, callee: Callee, script: Script) -> PhoneId {
        self.add(Line::new(name, script), Role::Callee(callee))
    }

    pub fn add(&mut self, line: Line, role: Role) -> PhoneId {
        let ip = self.new_host(&line.name);
        let (sip, rtp) = (SocketAddr::new(ip, 5060), SocketAddr::new(ip, 40_000));
        let id = PhoneId(self.devices.len());
        self.doors.insert(sip, Door::PhoneSip(id));
        self.doors.insert(rtp, Door::PhoneRtp(id, false));
        self.doors.insert(SocketAddr::new(ip, 40_001), Door::PhoneRtp(id, true));
        let clock = Clock { ppm: line.skew_ppm };
        let config = PhoneConfig { sip, rtp, codecs: line.codecs, agent: "phone".into() };
        let phone = Phone::new(clock.local(self.now), config, role, line.script, self.random.seed()).expect("a call that can be sent");
        self.devices.push(Device { name: line.name, phone, clock, sip, rtp, wake: None, timeline: Vec::new(), report: None });
        self.poll_phone(id);
        id
    }

    /// A proxy that forks each call to these phones, and leaves all of them ringing when one has answered.
    pub fn fork(&mut self, name: &str, branches: &[PhoneId]) {
        let address = SocketAddr::new(self.new_host(name), 5060);
        let branches = branches.iter().map(|id| self.devices[id.0].sip).collect();
        self.doors.insert(address, Door::Fork(self.forks.len()));
        self.forks.push(Fork::new(address, branches));
    }

    /// Addresses follow from the order in which hosts come.
    fn new_host(&mut self, name: &str) -> IpAddr {
        assert!(!self.names.values().any(|n| n == name), "there is a {name} already");
        let last = u8::try_from(9 + self.names.len()).expect("a world of a few hosts");
        let ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        self.names.insert(ip, name.to_owned());
        ip
    }

    /// `sip:NAME@HOST:PORT` of a phone or fork.
    pub fn address(&self, name: &str) -> String {
        format!("sip:{name}@{}:5060", self.host(name))
    }

    pub fn hang_up(&mut self, id: PhoneId) {
        let device = &mut self.devices[id.0];
        let local = device.clock.local(self.now);
        device.phone.hang_up(local);
        self.poll_phone(id);
    }

    /// From now on its RTP comes from, and is reached at, another port of its address: what a NAT does after a reboot.
    pub fn rebind_rtp(&mut self, id: PhoneId, port: u16) {
        let rtp = self.devices[id.0].rtp;
        self.network.rebind(rtp, SocketAddr::new(rtp.ip(), port));
    }

    /// The phone does this now. Nothing, unless its call is up.
    pub fn act(&mut self, id: PhoneId, act: Act) {
        let device = &mut self.devices[id.0];
        let local = device.clock.local(self.now);
        device.phone.do_now(local, act);
        self.poll_phone(id);
    }

    /// Its call was answered, and is not over.
    pub fn talks(&self, id: PhoneId) -> bool {
        let device = &self.devices[id.0];
        device.report.is_none() && device.timeline.iter().any(|entry| matches!(entry.what, What::Answered { .. }))
    }

    pub fn report(&self, id: PhoneId) -> Option<&Report> {
        self.devices[id.0].report.as_ref()
    }

    /// What it said of itself.
    pub fn timeline(&self, id: PhoneId) -> Vec<String> {
        self.devices[id.0].timeline.iter().map(|entry| entry.what.to_string()).collect()
    }

    /// What it heard so far, if its script records: mono, 8 kHz.
    pub fn heard(&self, id: PhoneId) -> &[i16] {
        self.devices[id.0].phone.heard()
    }

    fn poll_phone(&mut self, id: PhoneId) {
        while let Some(output) = self.devices[id.0].phone.poll() {
            let device = &mut self.devices[id.0];
            let (sip, rtp) = (device.sip, device.rtp);
            match output {
                PhoneOutput::Sip { to, bytes } => self.send_sip(sip, to, bytes),
                PhoneOutput::Rtp { to, rtcp, packet } => {
                    let from = SocketAddr::new(rtp.ip(), rtp.port() + u16::from(rtcp));
                    self.send_rtp(from, to, packet);
                }
                PhoneOutput::Timeline(entry) => {
                    let name = device.name.clone();
                    match entry.what {
                        What::DigitSent(digit) => self.note(Plane::Media, &name, "node", format!("digit {digit}")),
                        What::DigitHeard(digit) => self.note(Plane::Media, "node", &name, format!("digit {digit}")),
                        _ => {}
                    }
                    self.devices[id.0].timeline.push(entry);
                }
                PhoneOutput::Done(report) => device.report = Some(*report),
            }
        }
        let device = &mut self.devices[id.0];
        // A phone whose call is over still answers what is repeated, but needs no clock.
        device.wake = device.phone.next_timeout().map(|at| device.clock.world(at).max(self.now));
    }

    // ------------------------------------------------------------------------------------------------ the switch

    pub fn input(&mut self, input: Input) {
        self.switch.handle(self.now, input);
        self.drain();
    }

    /// An order as REST, the console or a guest gives it; its reply, if it is there at once.
    pub fn command(&mut self, command: Command) -> Option<CommandResult> {
        self.command_of(DOMAIN, command)
    }

    pub fn command_of(&mut self, domain: &str, command: Command) -> Option<CommandResult> {
        self.commands += 1;
        let id = CommandId(self.commands);
        let text = format!("{command:?}");
        let name = text.split([' ', '(']).next().unwrap_or_default().to_owned();
        self.note(Plane::World, "api", "node", name);
        self.replies.insert(id, Vec::new());
        self.input(Input::Command { id, domain: domain.into(), command });
        self.replies.get(&id)?.first().cloned()
    }

    fn drain(&mut self) {
        loop {
            while let Some(output) = self.switch.poll() {
                self.output(output);
            }
            for packet in self.media.take_packets() {
                self.send_rtp(packet.from, packet.to, packet.bytes);
            }
            let events = self.media.take_events();
            for event in events {
                self.later(self.now, Event::Input(Input::Media(event)));
            }
            let at = self.now + self.tape.storing;
            for report in self.tape.reports() {
                self.later(at, Event::Input(Input::Recorded(report)));
            }
            // Notes of a handler may not lead to more; only the switch speaks up by itself.
            match self.switch.poll() {
                Some(output) => self.output(output),
                None => break,
            }
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => self.send_sip(flow.local, flow.peer, bytes),
            Output::Media { command, .. } => {
                if let Some(text) = media_text(&command) {
                    self.note(Plane::Media, "node", "media", text);
                }
                if let Err(leg) = self.media.send(self.now, command) {
                    self.note(Plane::World, "media", "node", "refused: the ring is full".into());
                    self.later(self.now, Event::Input(Input::MediaRefused { leg }));
                }
            }
            Output::Begun { .. } => {}
            Output::Ask(ask) => self.on_ask(*ask),
            Output::Prepare(prepare) => self.on_prepare(*prepare),
            Output::Resolve(resolve) => self.on_resolve(*resolve),
            Output::Notify { session, domain, notification } => self.on_notify(session, domain, *notification),
            Output::StartRecording(start) => self.tape.begin(self.now, *start),
            Output::DropRecording { recording } => self.tape.forget(recording),
            Output::Reply { id, result } => self.replies.entry(id).or_default().push(result),
            Output::EndGuest { session } => {
                if !self.ended.insert(session) {
                    self.trouble.push(format!("the guest of {session:?} is ended twice"));
                }
                self.asked.remove(&session);
                if let Some(outside) = &mut self.outside {
                    outside.push_back(ForGuest::End(session));
                }
            }
            Output::Completed(record) => self.records.push(*record),
            Output::Log { text, .. } => self.logs.push(text),
            Output::Count(counter) => *self.counters.entry(counter).or_default() += 1,
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        self.note(Plane::Guest, "node", "guest", ask_text(&ask));
        let session = ask.id.session;
        if self.ended.contains(&session) {
            self.trouble.push(format!("{session:?} asks and has ended"));
        }
        if let Some((before, until)) = self.asked.get(&session)
            && self.now < *until
        {
            self.trouble.push(format!("{:?} is asked while {before:?} runs", ask.id));
        }
        // The switch gives up a while after the deadline; then it may ask again.
        let until = self.now + ask.deadline + hookswitch_call::limits::ASK_GRACE;
        self.asked.insert(session, (ask.id, until));
        self.asks.push(ask.clone());
        if let Some(outside) = &mut self.outside {
            return outside.push_back(ForGuest::Ask(Box::new(ask)));
        }
        if self.guests_dead {
            return;
        }
        let mut verdict = self.handler.answer(&ask);
        let (least, more) = self.thinking;
        let more = match u64::try_from(more.as_nanos()).unwrap_or(u64::MAX) {
            0 => 0,
            n => self.random.u64() % n,
        };
        let mut after = least + Duration::from_nanos(more);
        if after >= ask.deadline || verdict == Err(HookFailure::Deadline) {
            (after, verdict) = (ask.deadline, Err(HookFailure::Deadline));
        }
        self.later(self.now + after, Event::Input(Input::Verdict { ask: ask.id, verdict }));
    }

    /// The verdict of an ask that went outside, `after` so long. `text`: the ladder's line of it.
    pub fn answer(&mut self, ask: AskId, verdict: Result<Verdict, HookFailure>, after: Duration, text: String) {
        self.later(self.now + after, Event::Answer { ask, verdict, text });
    }

    fn on_notify(&mut self, session: SessionId, domain: Arc<str>, notification: Notification) {
        self.note(Plane::Guest, "node", "guest", notification_text(&notification));
        if let Notification::SessionCompleted { info, .. } = &notification
            && !self.completed.insert(info.session_id.clone())
        {
            self.trouble.push(format!("{} is completed twice", info.session_id));
        }
        let late = matches!(notification, Notification::RecordingReady { .. } | Notification::RecordingState { .. });
        if self.ended.contains(&session) && !late {
            self.trouble.push(format!("{session:?} has ended and tells {}", notification_text(&notification)));
        }
        match &mut self.outside {
            Some(outside) => outside.push_back(ForGuest::Notify { session, domain, notification: Box::new(notification.clone()) }),
            None => self.handler.notify(&notification),
        }
        self.notifications.push(notification);
    }

    fn on_prepare(&mut self, prepare: Prepare) {
        let clips = prepare.sources.iter().map(|source| match source {
            PromptSource::File(name) | PromptSource::Sealed { file_name: name, .. } | PromptSource::Url { url: name, .. } => {
                self.files.get(name).or(self.other_file.as_ref()).cloned().ok_or_else(|| "no such file".into())
            }
            // Nobody speaks here: it is quiet for about as long.
            PromptSource::Tts { parameters, .. } => Ok(quiet(parameters.len())),
            PromptSource::Say { words, .. } => Ok(quiet(words.iter().map(|word| word.text.len() + 1).sum())),
            PromptSource::Tone { hz, level_dbm0, on, off, total } => Ok(ToneSpec {
                hz: hz.clone(),
                level_dbm0: *level_dbm0,
                on_ms: u32::try_from(on.as_millis()).unwrap_or(u32::MAX),
                off_ms: u32::try_from(off.as_millis()).unwrap_or(u32::MAX),
                total_ms: u32::try_from(total.as_millis()).unwrap_or(u32::MAX),
            }
            .clip()),
        });
        let input = Input::Prepared { session: prepare.session, number: prepare.number, clips: clips.collect() };
        self.later(self.now + self.fetching, Event::Input(input));
    }

    fn on_resolve(&mut self, resolve: Resolve) {
        let addresses = self.hosts.get(&resolve.host).cloned().ok_or_else(|| "no such host".to_owned());
        let input = Input::Resolved { session: resolve.session, number: resolve.number, addresses };
        self.later(self.now, Event::Input(input));
    }

    // ------------------------------------------------------------------------------------------------ what happened

    fn note(&mut self, plane: Plane, from: &str, to: &str, what: String) {
        self.steps.push(Step { at: self.now, plane, from: from.into(), to: to.into(), lost: false, what });
    }

    /// A line of the test's own in the ladder.
    pub fn remark(&mut self, from: &str, to: &str, what: &str) {
        self.note(Plane::World, from, to, what.into());
    }

    /// SIP and hooks, one line a step.
    pub fn ladder(&self) -> String {
        self.ladder_of(&[Plane::Sip, Plane::Guest])
    }

    pub fn ladder_of(&self, planes: &[Plane]) -> String {
        let kept = self.steps.iter().filter(|step| planes.contains(&step.plane));
        kept.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&counter).copied().unwrap_or(0)
    }

    /// Of the session that asked last.
    pub fn session_id(&self) -> String {
        self.asks.last().map(|ask| ask.hook.info().session_id.clone()).unwrap_or_default()
    }

    /// The caller of the session that came last.
    pub fn participant_id(&self) -> String {
        let id = |ask: &Ask| match &ask.hook {
            Hook::NewCall(call) => Some(call.participant_id.clone()),
            Hook::GetCallIdentifier(request) => Some(request.participant_id.clone()),
            _ => None,
        };
        self.asks.iter().rev().find_map(id).unwrap_or_default()
    }

    /// Runs until everything has had its time to end, and says what is left or went wrong: sessions, legs, dialogs, transactions,
    /// timers, recordings, unanswered commands, ends that came twice or never. A good world has none.
    pub fn leaks(&mut self) -> Vec<String> {
        self.run_for(AFTERMATH);
        let mut found = std::mem::take(&mut self.trouble);
        found.append(&mut self.tape.trouble);
        let gauges = self.switch.gauges();
        if gauges != Default::default() {
            found.push(format!("left in the switch: {gauges:?}"));
        }
        if let Some(at) = self.switch.next_timeout() {
            found.push(format!("a timer of the switch at {at:?}"));
        }
        let legs: Vec<_> = self.media.legs().collect();
        if !legs.is_empty() {
            found.push(format!("legs are open: {legs:?}"));
        }
        if self.tape.running() > 0 || self.tape.blocks_out() > 0 {
            found.push(format!("{} recordings are open, {} blocks are out", self.tape.running(), self.tape.blocks_out()));
        }
        let (records, ended, completed) = (self.records.len(), self.ended.len(), self.completed.len());
        if records != ended || records != completed {
            found.push(format!("{records} call records, {ended} guests ended, {completed} sessions completed"));
        }
        if self.count(Counter::SessionPanicked) > 0 {
            found.push(format!("a session panicked: {:?}", self.logs));
        }
        found.extend(self.replies.iter().filter(|(_, r)| r.len() != 1).map(|(id, r)| format!("{id:?} has {} replies", r.len())));
        found
    }
}

/// Silence for as long as so many letters take to be said.
fn quiet(letters: usize) -> Clip {
    let samples = letters * usize::try_from(LETTER.as_millis()).unwrap_or(0) * 8;
    Clip { pcmu: vec![0xff; samples].into(), pcma: vec![0xd5; samples].into() }
}
