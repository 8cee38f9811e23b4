//! A virtual world around one [`Switch`]: scripted callers, a media thread that plays and records nothing in the right time, a handler
//! behind the [`Adapter`] trait, and a ladder of what happened. Nothing waits; time is a number.

use super::callee::{Callee, Plan};
use crate::adapter::Adapter;
use crate::door::{
    Ask, Begun, CallRecord, Command, CommandId, CommandResult, Configuration, Counter, Input, NoClip, Output, Prepare, PromptSource,
    RecordingReport, RecordingStart, SessionId, Tenant, Trunk,
};
use crate::hook::{CallEvent, Hook, HookFailure, Notification, RecordingDetails, RecordingResult, Routing, Verdict};
use crate::switch::{Switch, SwitchConfig};
use hookswitch_proto::media::{
    BargeIn, Clip, DigitSet, DigitSource, Ended, FRAME_TIME, LegConfig, LegId, LegStats, MediaCmd, MediaEvent, MediaKind, Negotiated,
    PlayId, RecordSpec, RecordingId, RecordingTotals, Segment, StopReason,
};
use hookswitch_proto::sip::{EndpointConfig, Flow, Listen, Message, Method, Transport};
use hookswitch_proto::{Time, Wall};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub const DOMAIN: &str = "demo.test";

/// Something that reaches the switch, or the world, later.
enum Event {
    Input(Input),
    /// The running segment of a leg is over by itself; the number tells a later one from it.
    SegmentOver(LegId, u64),
    /// A recording beside what plays reached a limit of its own.
    TapOver(RecordingId, StopReason),
    /// A callee's phone does something: its index, and whether it is the second one of a fork.
    Provisional(usize, u16, bool),
    Final(usize, u16, bool),
}

/// A caller's call, as the caller knows it.
pub struct Phone {
    pub name: String,
    flow: Flow,
    invite: String,
    call_id: String,
    branch: String,
    from: String,
    to: String,
    target: String,
    number: String,
    cseq: u32,
    acked: bool,
    /// Does not acknowledge our 200, or answer our BYE.
    pub deaf: bool,
    pub offers_late: bool,
    pub last_sdp: String,
    pub over: bool,
}

/// A leg of the media thread.
struct FakeLeg {
    negotiated: Negotiated,
    play: Option<Playing>,
    pub hears: Option<LegId>,
    listens: [Option<LegId>; 2],
    turn: u64,
}

struct Playing {
    play: PlayId,
    segments: Vec<Segment>,
    barge_in: BargeIn,
    index: usize,
    began: Time,
}

pub struct World {
    pub switch: Switch,
    pub now: Time,
    adapter: Box<dyn Adapter>,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub phones: Vec<Phone>,
    /// Users that the node can call, and what their phones do.
    pub users: BTreeMap<String, Plan>,
    pub callees: Vec<Callee>,
    legs: BTreeMap<LegId, FakeLeg>,
    /// Recordings of a whole leg, beside whatever plays, and since when.
    tapped: BTreeMap<RecordingId, (LegId, Time, DigitSet)>,
    announced: BTreeMap<RecordingId, RecordingStart>,
    /// Prompts that exist, and how long they are.
    pub files: BTreeMap<String, Duration>,
    /// Speech is synthesised.
    pub engines: bool,
    /// SIP host names, and where they lead.
    pub hosts: BTreeMap<String, Vec<SocketAddr>>,
    /// How long the caller speaks when recorded; then silence.
    pub speech: Duration,
    /// What a hook takes.
    pub thinking: Duration,
    /// What the preparation of prompts takes.
    pub fetching: Duration,
    /// What callers say to a REFER.
    pub refer_status: u16,
    /// The handler never says anything, not even that it failed.
    pub mute: bool,
    pub open_fails: bool,
    /// Of the callers' requests.
    pub max_forwards: u8,
    /// So many legs, from the first on, never say that they are open.
    pub swallow_opened: usize,
    /// The media thread swallows everything.
    pub media_dead: bool,
    pub recording_fails: bool,
    /// The message that is being looked at.
    last_sent: bytes::Bytes,
    pub steps: Vec<String>,
    pub asks: Vec<Ask>,
    pub notifications: Vec<Notification>,
    pub counters: BTreeMap<Counter, u64>,
    pub begun: Vec<Begun>,
    pub records: Vec<CallRecord>,
    pub replies: Vec<CommandResult>,
    pub logs: Vec<String>,
    pub prepares: Vec<Prepare>,
    pub started: Vec<RecordingStart>,
    pub dropped: Vec<RecordingId>,
    pub ended_guests: Vec<SessionId>,
    pub sent_digits: String,
    pub leg_configs: Vec<LegConfig>,
    pub updates: Vec<Negotiated>,
    /// The specs of recordings as they began.
    pub specs: Vec<RecordSpec>,
    /// Why recordings ended.
    pub stops: Vec<StopReason>,
}

/// A tenant that takes every call.
pub fn tenant() -> Tenant {
    Tenant { max_sessions: 1000, destinations: crate::Destination::loopback(), ..Tenant::new(DOMAIN) }
}

/// One tenant, and a trusted trunk at 192.0.2.77.
pub fn configuration(tenant: Tenant) -> Configuration {
    Configuration {
        default_domain: Some(tenant.domain.to_string()),
        tenants: vec![Arc::new(tenant)],
        trunks: vec![Trunk { name: "carrier".into(), addresses: vec!["192.0.2.77".parse().expect("an address")], trusted: true }],
        node_address: "192.0.2.1".into(),
        emergency: Vec::new(),
        drain: false,
    }
}

pub fn switch_config(seed: u8) -> SwitchConfig {
    let bound: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
    let endpoint = EndpointConfig {
        listen: vec![Listen { transport: Transport::Udp, bound, advertise: None }],
        agent: "hookswitch".into(),
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        session_expires: None,
        min_se: Duration::from_secs(90),
        known_peers: Vec::new(),
    };
    SwitchConfig::new(endpoint, [seed; 32])
}

impl World {
    pub fn new(adapter: impl Adapter + 'static) -> World {
        World::with(configuration(tenant()), switch_config(7), Box::new(adapter))
    }

    pub fn with(configuration: Configuration, config: SwitchConfig, adapter: Box<dyn Adapter>) -> World {
        let mut switch = Switch::new(config);
        switch.handle(Time::ZERO, Input::Configure(Arc::new(configuration)));
        World {
            switch,
            now: Time::ZERO,
            adapter,
            queue: BTreeMap::new(),
            sequence: 0,
            phones: Vec::new(),
            users: BTreeMap::new(),
            callees: Vec::new(),
            tapped: BTreeMap::new(),
            legs: BTreeMap::new(),
            announced: BTreeMap::new(),
            files: [("menu.wav", 2000), ("hello.wav", 1000), ("bye.wav", 500), ("error.wav", 1500)]
                .map(|(name, ms)| (name.to_owned(), Duration::from_millis(ms)))
                .into(),
            engines: true,
            hosts: BTreeMap::new(),
            speech: Duration::from_secs(3),
            thinking: Duration::ZERO,
            fetching: Duration::ZERO,
            refer_status: 202,
            mute: false,
            open_fails: false,
            max_forwards: 70,
            swallow_opened: 0,
            media_dead: false,
            recording_fails: false,
            last_sent: bytes::Bytes::new(),
            steps: Vec::new(),
            asks: Vec::new(),
            notifications: Vec::new(),
            counters: BTreeMap::new(),
            begun: Vec::new(),
            records: Vec::new(),
            replies: Vec::new(),
            logs: Vec::new(),
            prepares: Vec::new(),
            started: Vec::new(),
            dropped: Vec::new(),
            ended_guests: Vec::new(),
            sent_digits: String::new(),
            leg_configs: Vec::new(),
            updates: Vec::new(),
            specs: Vec::new(),
            stops: Vec::new(),
        }
    }

    // ------------------------------------------------------------------------------------------------ time

    /// Everything that happens up to and at `ms` from the start.
    pub fn run_to(&mut self, ms: u64) {
        let end = Time::from_millis(ms);
        self.drain();
        loop {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.switch.next_timeout();
            let Some(next) = [queued, timer].into_iter().flatten().min().filter(|t| *t <= end) else { break };
            self.now = self.now.max(next);
            if queued.is_some_and(|at| at <= self.now) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else {
                self.input(Input::Tick);
            }
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, ms: u64) {
        self.run_to(self.now.0 / 1_000_000 + ms);
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(input) => {
                if let Input::Verdict { verdict, .. } = &input {
                    self.step("guest", "node", &verdict_text(verdict));
                }
                self.input(input);
            }
            Event::SegmentOver(leg, turn) => {
                if self.legs.get(&leg).is_some_and(|l| l.turn == turn) {
                    self.segment_over(leg, Ended::Done, None);
                }
            }
            Event::TapOver(recording, reason) => {
                if let Some((leg, began, _)) = self.tapped.remove(&recording) {
                    self.close_tap(leg, recording, began, reason);
                }
            }
            Event::Provisional(i, status, sdp) => self.callee_says(i, status, sdp),
            Event::Final(i, status, fork) => self.callee_ends(i, status, fork),
        }
    }

    pub fn input(&mut self, input: Input) {
        self.switch.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.switch.poll() {
            self.output(output);
        }
    }

    fn step(&mut self, from: &str, to: &str, what: &str) {
        let ms = self.now.0 / 1_000_000;
        self.steps.push(format!("{}.{:03} {from} -> {to} {what}", ms / 1000, ms % 1000));
    }

    /// The steps, one a line, without those whose text contains one of `without`.
    pub fn ladder(&self, without: &[&str]) -> String {
        let kept = self.steps.iter().filter(|s| !without.iter().any(|w| s.contains(w)));
        kept.cloned().collect::<Vec<_>>().join("\n")
    }

    /// After all calls ended: nothing of them is left anywhere.
    pub fn leaks(&mut self) -> Option<String> {
        // Transactions linger for 64*T1, a release for at most 40 s.
        self.run_for(120_000);
        let gauges = self.switch.gauges();
        let clean = gauges == Default::default() && self.switch.next_timeout().is_none();
        let balanced = self.records.len() == self.ended_guests.len() && self.begun.len() == self.records.len();
        let pairs = self.notifications.iter().filter(|n| matches!(n, Notification::SessionCompleted { .. })).count();
        if clean && balanced && pairs == self.records.len() && self.legs.is_empty() && self.announced.is_empty() {
            return None;
        }
        Some(format!(
            "{gauges:?}, next timeout {:?}, {} records, {} guests ended, {pairs} completed, {} legs, {} recordings open",
            self.switch.next_timeout(),
            self.records.len(),
            self.ended_guests.len(),
            self.legs.len(),
            self.announced.len()
        ))
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.get(&counter).copied().unwrap_or(0)
    }

    pub fn alarms(&self) -> Vec<String> {
        let text = |n: &Notification| match n {
            Notification::Alarm(alarm) => Some(format!("{} {}", alarm.kind.name(), alarm.error)),
            _ => None,
        };
        self.notifications.iter().filter_map(text).collect()
    }

    /// Why the only session ended.
    pub fn reason(&self) -> Option<&'static str> {
        self.records.last().map(|r| r.reason)
    }

    pub fn session_id(&self) -> String {
        self.asks.last().map(|a| a.hook.info().session_id.clone()).unwrap_or_default()
    }

    pub fn command(&mut self, command: Command) -> CommandResult {
        self.input(Input::Command { id: CommandId(1), domain: DOMAIN.into(), command });
        self.replies.last().cloned().expect("every command is answered at once")
    }

    // ------------------------------------------------------------------------------------------------ what the switch puts out

    fn output(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => {
                let message = Message::parse(bytes.clone()).expect("the node sends well-formed SIP");
                self.last_sent = bytes;
                self.on_sip(flow, &message);
            }
            Output::Media { command, .. } => self.on_media(command),
            Output::Begun { begun, .. } => self.begun.push(*begun),
            Output::Ask(ask) => self.on_ask(*ask),
            Output::Prepare(prepare) => self.on_prepare(*prepare),
            Output::Notify { notification, .. } => {
                self.step("node", "guest", &notification_text(&notification));
                self.adapter.notify(&notification);
                self.notifications.push(*notification);
            }
            Output::StartRecording(start) => {
                assert!(self.announced.insert(start.recording, (*start).clone()).is_none(), "announced twice");
                self.started.push(*start);
            }
            Output::DropRecording { recording } => {
                assert!(self.announced.remove(&recording).is_some(), "dropped without being open");
                self.dropped.push(recording);
            }
            Output::Resolve(resolve) => {
                let addresses = self.hosts.get(&resolve.host).cloned().ok_or_else(|| "no such host".to_owned());
                let input = Input::Resolved { session: resolve.session, number: resolve.number, addresses };
                self.later(Duration::ZERO, Event::Input(input));
            }
            Output::Reply { result, .. } => self.replies.push(result),
            Output::EndGuest { session } => {
                assert!(!self.ended_guests.contains(&session), "a guest ends once");
                // Generation 0 is of no session: news that come without one.
                if session.generation > 0 {
                    self.ended_guests.push(session);
                }
            }
            Output::Completed(record) => self.records.push(*record),
            Output::Log { text, .. } => self.logs.push(text),
            Output::Count(counter) => *self.counters.entry(counter).or_default() += 1,
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        self.step("node", "guest", &ask_text(&ask));
        self.asks.push(ask.clone());
        if self.mute {
            return;
        }
        let verdict = self.adapter.answer(&ask);
        let after = if verdict == Err(HookFailure::Deadline) { ask.deadline } else { self.thinking };
        self.later(after, Event::Input(Input::Verdict { ask: ask.id, verdict }));
    }

    fn on_prepare(&mut self, prepare: Prepare) {
        let clip = |duration: Duration| {
            let law: Arc<[u8]> = vec![0xd5; usize::try_from(duration.as_millis() * 8).unwrap_or(0)].into();
            Clip { pcmu: law.clone(), pcma: law }
        };
        let late = || NoClip { why: "not in time".into(), late: true };
        let clips = prepare.sources.iter().map(|source| match source {
            PromptSource::File(name) | PromptSource::Sealed { file_name: name, .. } | PromptSource::Url { url: name, .. } => {
                self.files.get(name).map(|d| clip(*d)).ok_or_else(|| if name.contains("slow") { late() } else { "no such file".into() })
            }
            // As fast as a fast speaker: what is not said here is no part of the story.
            PromptSource::Tts { engine, parameters, .. } => {
                self.engines.then(|| clip(Duration::from_millis(parameters.len() as u64 * 20))).ok_or_else(|| format!("no {engine}").into())
            }
            PromptSource::Say { words, .. } => Ok(clip(Duration::from_millis(words.len() as u64 * 300))),
            PromptSource::Tone { total, .. } => Ok(clip(*total)),
        });
        let input = Input::Prepared { session: prepare.session, number: prepare.number, clips: clips.collect() };
        self.prepares.push(prepare);
        self.later(self.fetching, Event::Input(input));
    }

    // ------------------------------------------------------------------------------------------------ media

    pub fn media_event(&mut self, leg: LegId, what: MediaKind) {
        let at = self.now;
        self.later(Duration::ZERO, Event::Input(Input::Media(MediaEvent { leg, at, what })));
    }

    /// The leg of the only call.
    pub fn leg(&self) -> LegId {
        *self.legs.keys().next().expect("a leg is open")
    }

    pub fn live_legs(&self) -> Vec<LegId> {
        self.legs.keys().copied().collect()
    }

    fn on_media(&mut self, command: MediaCmd) {
        if self.media_dead {
            return;
        }
        match command {
            MediaCmd::Open { leg, config } => {
                if self.open_fails {
                    return self.media_event(leg, MediaKind::OpenFailed { why: "no port left".into() });
                }
                self.leg_configs.push((*config).clone());
                self.legs.insert(leg, FakeLeg { negotiated: config.negotiated, play: None, hears: None, listens: [None; 2], turn: 0 });
                if self.swallow_opened > 0 {
                    self.swallow_opened -= 1;
                    return;
                }
                let port = 19_998 + u16::try_from(leg.0 % 10_000).unwrap_or(0) * 2;
                self.media_event(leg, MediaKind::Opened { local: SocketAddr::new("10.0.0.5".parse().expect("an address"), port) });
            }
            MediaCmd::Bridge { leg, hears } => {
                let what = hears.map_or("nobody".to_owned(), |h| format!("leg {}", h.0));
                self.step("node", "media", &format!("leg {} hears {what}", leg.0));
                if let Some(leg) = self.legs.get_mut(&leg) {
                    leg.hears = hears;
                }
            }
            MediaCmd::Listen { leg, to } => {
                let whom: Vec<String> = to.iter().flatten().map(|leg| format!("leg {}", leg.0)).collect();
                self.step(
                    "node",
                    "media",
                    &format!("leg {} listens to {}", leg.0, if whom.is_empty() { "nobody".into() } else { whom.join(" and ") }),
                );
                if let Some(leg) = self.legs.get_mut(&leg) {
                    leg.listens = to;
                }
            }
            MediaCmd::Update { leg, negotiated } => {
                self.updates.push((*negotiated).clone());
                if let Some(leg) = self.legs.get_mut(&leg) {
                    leg.negotiated = *negotiated;
                }
            }
            MediaCmd::Play { leg, play, segments, barge_in } => {
                let mut what: Vec<String> = segments.iter().map(segment_text).collect();
                let times = what.len();
                what.dedup();
                let often = if times > 1 && what.len() == 1 { format!(" {times} times") } else { String::new() };
                if often.is_empty() {
                    what = segments.iter().map(segment_text).collect();
                }
                self.step("node", "media", &format!("play {}{often}", what.join(", ")));
                self.stop_play(leg, Ended::Stopped, StopReason::ApiStop);
                let Some(fake) = self.legs.get_mut(&leg) else { return };
                assert!(!segments.is_empty() && segments.len() <= hookswitch_proto::limits::PLAY_SEGMENTS);
                fake.play = Some(Playing { play, segments, barge_in, index: 0, began: self.now });
                self.begin_segment(leg);
            }
            MediaCmd::StopPlay { leg } => {
                self.step("node", "media", "stop");
                self.stop_play(leg, Ended::Stopped, StopReason::ApiStop);
            }
            MediaCmd::StopRecording { leg, recording, reason } => {
                self.step("node", "media", "stop recording");
                let runs = self.current(leg).is_some_and(|s| matches!(s, Segment::Record(id, _) if id == recording));
                if runs {
                    self.segment_over(leg, Ended::Stopped, Some(reason));
                } else if let Some((leg, began, _)) = self.tapped.remove(&recording) {
                    self.close_tap(leg, recording, began, reason);
                }
            }
            MediaCmd::PauseRecording { behavior, .. } => self.step("node", "media", &format!("pause recording, {behavior:?}")),
            MediaCmd::ResumeRecording { .. } => self.step("node", "media", "resume recording"),
            MediaCmd::Warn { leg, on } => {
                let of = self.legs.keys().position(|l| *l == leg).map_or(0, |n| n + 1);
                self.step("node", "media", &format!("party {of} hears that it is recorded: {on}"));
            }
            MediaCmd::Background { audio, .. } => {
                let what = audio.as_ref().map_or("no background".to_owned(), |(clip, pause)| {
                    format!("background {}, pause {} ms", segment_text(&Segment::Clip(clip.clone())), pause.as_millis())
                });
                self.step("node", "media", &what);
            }
            MediaCmd::SendDigit { digit, .. } => self.sent_digits.push(digit),
            MediaCmd::Record { leg, recording, spec } => {
                self.step("node", "media", "record");
                assert!(self.announced.contains_key(&recording), "a recording begins that was not announced");
                if self.legs.contains_key(&leg) {
                    let (reason, after) = self.recording_plan(&spec);
                    self.tapped.insert(recording, (leg, self.now, spec.stop_digits));
                    self.later(after, Event::TapOver(recording, reason));
                    self.specs.push(*spec);
                }
            }
            MediaCmd::Close { leg, reason } => {
                self.step("node", "media", "close");
                for (recording, (_, began, _)) in self.tapped.extract_if(.., |_, (on, ..)| *on == leg).collect::<Vec<_>>() {
                    self.close_tap(leg, recording, began, reason);
                }
                self.stop_play(leg, Ended::Stopped, reason);
                if self.legs.remove(&leg).is_some() {
                    self.media_event(leg, MediaKind::Closed { stats: Box::new(LegStats::default()) });
                }
            }
        }
    }

    fn current(&self, leg: LegId) -> Option<Segment> {
        let playing = self.legs.get(&leg)?.play.as_ref()?;
        playing.segments.get(playing.index).cloned()
    }

    fn begin_segment(&mut self, leg: LegId) {
        let Some(segment) = self.current(leg) else { return };
        let duration = match &segment {
            Segment::Clip(clip) => Duration::from_millis(clip.pcmu.len() as u64 / 8),
            Segment::Silence(duration) | Segment::Echo(duration) => *duration,
            Segment::Record(id, spec) => {
                assert!(self.announced.contains_key(id), "a recording begins that was not announced");
                self.specs.push(spec.clone());
                self.recording_plan(spec).1
            }
        };
        let now = self.now;
        let Some(fake) = self.legs.get_mut(&leg) else { return };
        fake.turn += 1;
        let turn = fake.turn;
        if let Some(playing) = &mut fake.play {
            playing.began = now;
        }
        self.later(duration, Event::SegmentOver(leg, turn));
    }

    /// Why and after how long a recording of a caller who speaks for `speech` ends by itself.
    fn recording_plan(&self, spec: &RecordSpec) -> (StopReason, Duration) {
        let max = (StopReason::MaxDuration, spec.max_duration.unwrap_or(Duration::from_secs(100_000)));
        let silence = match (self.speech.is_zero(), spec.initial_silence, spec.max_silence) {
            (true, Some(initial), _) => Some((StopReason::InitialSilence, initial)),
            (false, _, Some(silence)) => Some((StopReason::MaxSilence, self.speech + silence)),
            _ => None,
        };
        silence.filter(|(_, d)| *d < max.1).unwrap_or(max)
    }

    /// The running segment ends; the next one begins, or the queue is over.
    fn segment_over(&mut self, leg: LegId, how: Ended, reason: Option<StopReason>) {
        let Some(segment) = self.current(leg) else { return };
        if let Segment::Record(recording, spec) = &segment {
            let reason = reason.unwrap_or(self.recording_plan(spec).0);
            self.close_recording(leg, *recording, reason);
        }
        let Some(playing) = self.legs.get_mut(&leg).and_then(|l| l.play.as_mut()) else { return };
        let (play, index) = (playing.play, playing.index);
        playing.index += 1;
        let done = playing.index >= playing.segments.len();
        self.media_event(leg, MediaKind::SegmentEnded { play, index, how });
        if done {
            self.end_queue(leg, play, how);
        } else {
            self.begin_segment(leg);
        }
    }

    fn end_queue(&mut self, leg: LegId, play: PlayId, how: Ended) {
        if let Some(fake) = self.legs.get_mut(&leg) {
            fake.play = None;
            fake.turn += 1;
        }
        self.media_event(leg, MediaKind::QueueEnded { play, how });
    }

    fn stop_play(&mut self, leg: LegId, how: Ended, reason: StopReason) {
        if let Some(Segment::Record(recording, _)) = self.current(leg) {
            self.close_recording(leg, recording, reason);
        }
        if let Some((play, index)) = self.legs.get(&leg).and_then(|l| l.play.as_ref()).map(|p| (p.play, p.index)) {
            self.media_event(leg, MediaKind::SegmentEnded { play, index, how });
            self.end_queue(leg, play, how);
        }
    }

    /// The only call's record segment finds no free block: it ends at once, without ever having begun.
    pub fn overload_recording(&mut self) {
        let leg = self.leg();
        let Some(Segment::Record(recording, _)) = self.current(leg) else { panic!("nothing records") };
        let totals = RecordingTotals::default();
        self.media_event(leg, MediaKind::RecordingClosed { recording, reason: StopReason::Overload, totals });
        let Some(playing) = self.legs.get_mut(&leg).and_then(|l| l.play.as_mut()) else { return };
        let (play, index) = (playing.play, playing.index);
        playing.index += 1;
        self.media_event(leg, MediaKind::SegmentEnded { play, index, how: Ended::Done });
        self.begin_segment(leg);
    }

    fn close_recording(&mut self, leg: LegId, recording: RecordingId, reason: StopReason) {
        let began = self.legs.get(&leg).and_then(|l| l.play.as_ref()).map_or(self.now, |p| p.began);
        self.close_tap(leg, recording, began, reason);
    }

    fn close_tap(&mut self, leg: LegId, recording: RecordingId, began: Time, reason: StopReason) {
        let frames = u64::try_from(self.now.since(began).as_millis() / FRAME_TIME.as_millis()).unwrap_or(0);
        let totals = RecordingTotals { expected: frames, received: frames, contains_voice: !self.speech.is_zero(), ..Default::default() };
        self.stops.push(reason);
        self.media_event(leg, MediaKind::RecordingClosed { recording, reason, totals });
        let start = self.announced.remove(&recording).expect("what closes was announced");
        let outcome = if self.recording_fails { Err("Storage full".to_owned()) } else { Ok(44 + frames * 320) };
        let (recording_id, session, file_name) = (start.recording_id, start.session, start.file_name);
        let details = outcome.as_ref().ok().map(|size| {
            let result = RecordingResult {
                recording_id: recording_id.clone(),
                file_name: file_name.clone(),
                stop_reason: reason.name().into(),
                stop_digit: if let StopReason::StopDigit(digit) = reason { Some(digit) } else { None },
                duration: FRAME_TIME.saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX)),
                contains_sound: totals.contains_voice,
                ..RecordingResult::default()
            };
            Box::new(RecordingDetails { result, size: *size, sha256: "00".repeat(32), started_at: 0 })
        });
        let report = RecordingReport { recording, recording_id, session, file_name, outcome, details };
        // The writer takes its time.
        self.later(Duration::from_millis(100), Event::Input(Input::Recorded(report)));
    }

    /// A key on the only call's telephone, by RFC 4733.
    pub fn press(&mut self, digit: char) {
        let leg = self.leg();
        self.press_on(leg, digit);
        self.run_to(self.now.0 / 1_000_000);
    }

    pub fn press_on(&mut self, leg: LegId, digit: char) {
        self.step("caller", "node", &format!("key {digit}"));
        let source = DigitSource::Rfc4733;
        if let Some(Segment::Record(_, spec)) = self.current(leg) {
            let consumed = spec.stop_digits.contains(digit);
            self.media_event(leg, MediaKind::Digit { digit, source, consumed });
            if consumed {
                self.segment_over(leg, Ended::Done, Some(StopReason::StopDigit(digit)));
            }
            return;
        }
        let stopped: Vec<_> = self.tapped.extract_if(.., |_, (on, _, stop)| *on == leg && stop.contains(digit)).collect();
        self.media_event(leg, MediaKind::Digit { digit, source, consumed: !stopped.is_empty() });
        for (recording, (_, began, _)) in &stopped {
            self.close_tap(leg, *recording, *began, StopReason::StopDigit(digit));
        }
        if !stopped.is_empty() {
            return;
        }
        let playing = self.legs.get(&leg).and_then(|l| l.play.as_ref()).map(|p| (p.play, p.index, p.barge_in));
        match playing {
            Some((play, index, BargeIn::All)) => {
                self.media_event(leg, MediaKind::SegmentEnded { play, index, how: Ended::BargedIn });
                self.end_queue(leg, play, Ended::BargedIn);
            }
            Some((_, _, BargeIn::Current)) => self.segment_over(leg, Ended::BargedIn, None),
            Some((_, _, BargeIn::None)) | None => {}
        }
    }

    // ------------------------------------------------------------------------------------------------ the callers

    /// An INVITE with an ordinary offer.
    pub fn call(&mut self, number: &str) -> usize {
        self.call_with(number, "", Some(&offer("sendrecv", true)))
    }

    /// `extra`: further header lines, each ended by CR LF.
    pub fn call_with(&mut self, number: &str, extra: &str, sdp: Option<&str>) -> usize {
        self.call_from(number, "192.0.2.9:5060", extra, sdp)
    }

    pub fn call_from(&mut self, number: &str, peer: &str, extra: &str, sdp: Option<&str>) -> usize {
        let i = self.phones.len();
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().expect("an address"),
            peer: peer.parse().expect("an address"),
        };
        let from = if extra.contains("From:") { String::new() } else { format!("\"Alice\" <sip:alice@example.com>;tag=a{i}") };
        let mut phone = Phone {
            name: if i == 0 { "alice".into() } else { format!("caller{i}") },
            flow,
            invite: String::new(),
            call_id: format!("call-{i}@192.0.2.9"),
            branch: format!("z9hG4bK-inv-{i}"),
            from,
            to: format!("<sip:{number}@192.0.2.1>"),
            target: format!("sip:{number}@192.0.2.1"),
            number: number.to_owned(),
            cseq: 1,
            acked: false,
            deaf: false,
            offers_late: sdp.is_none(),
            last_sdp: String::new(),
            over: false,
        };
        phone.invite = phone.request("INVITE", 1, &phone.branch, extra, sdp.map(|s| ("application/sdp", s)));
        phone.invite = phone.invite.replace("Max-Forwards: 70", &format!("Max-Forwards: {}", self.max_forwards));
        let text = phone.invite.clone();
        self.phones.push(phone);
        self.send_text(i, "INVITE", text);
        i
    }

    fn send_text(&mut self, i: usize, what: &str, text: String) {
        let (name, flow) = (self.phones[i].name.clone(), self.phones[i].flow);
        self.step(&name, "node", what);
        self.raw(flow, text.into_bytes());
    }

    /// Any bytes from anywhere.
    pub fn raw(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.input(Input::Sip { flow, bytes: bytes.into(), wall: Wall(1_700_000_000_000) });
    }

    pub fn flow(&self, i: usize) -> Flow {
        self.phones[i].flow
    }

    /// The same INVITE again.
    pub fn retransmit(&mut self, i: usize) {
        let text = self.phones[i].invite.clone();
        self.send_text(i, "INVITE", text);
    }

    pub fn hangup(&mut self, i: usize) {
        self.in_dialog(i, "BYE", "", None);
    }

    pub fn cancel(&mut self, i: usize) {
        let phone = &self.phones[i];
        let initial_to = format!("<sip:{}@192.0.2.1>", phone.number);
        let text = format!(
            "CANCEL sip:{}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {initial_to}\r\n\
             Call-ID: {}\r\nCSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n",
            phone.number, phone.flow.peer, phone.branch, phone.from, phone.call_id
        );
        self.send_text(i, "CANCEL", text);
    }

    pub fn reinvite(&mut self, i: usize, sdp: Option<&str>) {
        self.in_dialog(i, "INVITE", "", sdp.map(|s| ("application/sdp", s)));
    }

    pub fn info_digit(&mut self, i: usize, signal: &str) {
        let body = format!("Signal={signal}\r\nDuration=160\r\n");
        self.in_dialog(i, "INFO", "", Some(("application/dtmf-relay", &body)));
        self.run_for(0);
    }

    /// A request of the caller within the dialog.
    pub fn in_dialog(&mut self, i: usize, method: &str, extra: &str, body: Option<(&str, &str)>) {
        let phone = &mut self.phones[i];
        phone.cseq += 1;
        let cseq = phone.cseq;
        let branch = format!("z9hG4bK-{method}-{i}-{cseq}");
        if method == "INVITE" {
            phone.offers_late = body.is_none();
        }
        let text = phone.request(method, cseq, &branch, extra, body);
        self.send_text(i, method, text);
    }

    fn on_sip(&mut self, flow: Flow, message: &Message) {
        let call_id = message.call_id();
        let Some(i) = self.phones.iter().position(|p| p.call_id == call_id && p.flow.peer == flow.peer) else {
            return self.on_sip_to_callee(flow, message);
        };
        let name = self.phones[i].name.clone();
        let Some(status) = message.status() else { return self.on_request(i, &name, message) };
        let cseq = message.header("CSeq").unwrap_or_default();
        let what = if cseq.ends_with("INVITE") { status.to_string() } else { format!("{status} ({cseq})") };
        self.step("node", &name, &what);
        if !cseq.ends_with("INVITE") {
            if cseq.ends_with("BYE") {
                self.phones[i].over = true;
            }
            return;
        }
        let phone = &mut self.phones[i];
        if status >= 200 {
            phone.to = message.header("To").unwrap_or_default();
        }
        let number: u32 = cseq.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
        if (200..300).contains(&status) {
            if let Some(contact) = message.name_addrs("Contact").first() {
                let port = contact.uri.port.map(|p| format!(":{p}")).unwrap_or_default();
                phone.target = format!("sip:{}{port}", contact.uri.host);
            }
            phone.last_sdp = String::from_utf8_lossy(&message.body()).into_owned();
            if phone.deaf {
                return;
            }
            phone.acked = true;
            let answer = offer("sendrecv", true);
            let body = phone.offers_late.then_some(("application/sdp", answer.as_str()));
            let ack = phone.request("ACK", number, &format!("z9hG4bK-ack-{i}-{number}"), "", body);
            self.send_text(i, "ACK", ack);
        } else if status >= 300 {
            if number == 1 {
                phone.over = true;
            }
            // RFC 3261 17.1.1.3: the ACK of a refusal is of the INVITE's own transaction.
            let branch = if number == 1 { phone.branch.clone() } else { format!("z9hG4bK-INVITE-{i}-{number}") };
            let ack = phone.request("ACK", number, &branch, "", None);
            self.send_text(i, "ACK", ack);
        }
    }

    fn on_request(&mut self, i: usize, name: &str, message: &Message) {
        let method = match message.method() {
            Some(Method::Bye) => "BYE",
            Some(Method::Invite) => return self.on_reinvite(i, name, message),
            Some(Method::Ack) => return self.step("node", name, "ACK"),
            Some(Method::Refer) => "REFER",
            Some(_) => "?",
            None => return,
        };
        let reason = message.header("Reason").map(|r| format!(" {}", r.split(";text").next().unwrap_or_default())).unwrap_or_default();
        let refer_to = message.header("Refer-To").map(|r| format!(" {r}")).unwrap_or_default();
        self.step("node", name, &format!("{method}{reason}{refer_to}"));
        if self.phones[i].deaf {
            return;
        }
        let status = if method == "REFER" { self.refer_status } else { 200 };
        self.phones[i].over = method != "REFER";
        let mut text = format!("SIP/2.0 {status} X\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in message.headers(name) {
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        self.send_text(i, &status.to_string(), text);
    }

    /// What the caller tells of the call that it was asked to make.
    pub fn refer_news(&mut self, i: usize, status: u16) {
        let state = if status < 200 { "active;expires=60" } else { "terminated;reason=noresource" };
        let extra = format!("Event: refer\r\nSubscription-State: {state}\r\n");
        let body = format!("SIP/2.0 {status} X\r\n");
        self.in_dialog(i, "NOTIFY", &extra, Some(("message/sipfrag", &body)));
    }
}

impl World {
    // ------------------------------------------------------------------------------------------------ the callees

    /// A re-INVITE to a caller: taken, with the direction that fits.
    fn on_reinvite(&mut self, i: usize, name: &str, message: &Message) {
        let body = String::from_utf8_lossy(&message.body()).into_owned();
        self.step("node", name, &format!("INVITE {}", direction_of(&body)));
        if self.phones[i].deaf {
            return;
        }
        let answer = offer(mirror(direction_of(&body)), true);
        let peer = self.phones[i].flow.peer;
        let mut text = String::from("SIP/2.0 200 OK\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in message.headers(name) {
                let _ = write!(text, "{name}: {value}\r\n");
            }
        }
        let _ = write!(
            text,
            "Contact: <sip:alice@{peer}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        self.send_text(i, "200", text);
    }

    fn on_sip_to_callee(&mut self, flow: Flow, message: &Message) {
        let known = self.callees.iter().position(|c| c.call_id == message.call_id());
        if let Some(status) = message.status() {
            // The node answers a request of the callee.
            if let Some(i) = known {
                let (name, cseq) = (self.callees[i].name.clone(), message.header("CSeq").unwrap_or_default());
                self.step("node", &name, &format!("{status} ({cseq})"));
                if cseq.ends_with("INVITE") && status >= 200 {
                    self.callees[i].heard.push(String::from_utf8_lossy(&message.body()).into_owned());
                    let number: u32 = cseq.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
                    self.callees[i].cseq = number - 1;
                    let ack = self.callees[i].request("ACK", "", None);
                    self.callee_sends(i, "ACK", ack);
                }
                self.callees[i].over |= cseq.ends_with("BYE");
            }
            return;
        }
        match (known, message.method()) {
            (None, Some(Method::Invite)) => self.on_call(flow, message),
            (Some(i), Some(method)) => {
                let method = method.clone();
                self.on_request_to_callee(i, &method, message);
            }
            _ => {}
        }
    }

    /// The node calls somebody.
    fn on_call(&mut self, flow: Flow, message: &Message) {
        let user = message.request_uri().and_then(|u| u.user.clone()).unwrap_or_default();
        self.step("node", &user, "INVITE");
        let Some(plan) = self.users.get(&user).cloned() else { return };
        let i = self.callees.len();
        self.callees.push(Callee::new(user, plan.clone(), flow, Message::parse(self.last_sent.clone()).expect("it was just read"), i));
        if plan.deaf {
            return;
        }
        for (after, status, sdp) in plan.provisional {
            self.later(after, Event::Provisional(i, status, sdp));
        }
        if let Some((after, status)) = plan.last {
            self.later(after, Event::Final(i, status, false));
            if let Some(more) = plan.fork {
                self.later(after + more, Event::Final(i, status, true));
            }
        }
    }

    fn callee_says(&mut self, i: usize, status: u16, with_sdp: bool) {
        let callee = &self.callees[i];
        if callee.finished {
            return;
        }
        let sdp = callee.plan.sdp.clone();
        let text = callee.response(&callee.invite, status, &callee.tag, "", with_sdp.then_some(sdp.as_str()));
        self.callee_sends(i, &status.to_string(), text);
    }

    fn callee_ends(&mut self, i: usize, status: u16, fork: bool) {
        let callee = &mut self.callees[i];
        if callee.finished && !fork && !callee.plan.crosses_cancel {
            return;
        }
        callee.finished = true;
        callee.over |= status >= 300;
        let callee = &self.callees[i];
        let contacts: String = callee.plan.contacts.iter().map(|c| format!("Contact: <{c}>\r\n")).collect();
        let tag = if fork { format!("{}x", callee.tag) } else { callee.tag.clone() };
        let sdp = (200..300).contains(&status).then_some(callee.plan.sdp.as_str());
        let mut text = callee.response(&callee.invite, status, &tag, &format!("{contacts}{}", callee.plan.extra), sdp);
        if !contacts.is_empty() {
            // Only those of the 3xx.
            let own = format!("Contact: <sip:{}@{}>\r\n", callee.name, callee.flow.peer);
            text = text.replace(&own, "");
        }
        self.callee_sends(i, &status.to_string(), text);
    }

    fn on_request_to_callee(&mut self, i: usize, method: &Method, message: &Message) {
        let (name, deaf) = (self.callees[i].name.clone(), self.callees[i].plan.deaf);
        let body = String::from_utf8_lossy(&message.body()).into_owned();
        let reason = message.header("Reason").map(|r| format!(" {}", r.split(";text").next().unwrap_or_default())).unwrap_or_default();
        let what = match method {
            Method::Invite if body.is_empty() || !self.callees[i].finished => "INVITE".to_owned(),
            Method::Invite => format!("INVITE {}", direction_of(&body)),
            other => format!("{other}{reason}"),
        };
        self.step("node", &name, &what);
        if deaf {
            return;
        }
        match method {
            Method::Ack => self.callees[i].acked = true,
            Method::Cancel => {
                let ok = self.callees[i].response(message, 200, "c", "", None);
                self.callee_sends(i, "200 (CANCEL)", ok);
                if !self.callees[i].finished && !self.callees[i].plan.crosses_cancel {
                    let callee = &mut self.callees[i];
                    (callee.finished, callee.over) = (true, true);
                    let callee = &self.callees[i];
                    let refusal = callee.response(&callee.invite, 487, &callee.tag, "", None);
                    self.callee_sends(i, "487", refusal);
                }
            }
            Method::Bye => {
                self.callees[i].over = true;
                let ok = self.callees[i].response(message, 200, "", "", None);
                self.callee_sends(i, "200", ok);
            }
            Method::Refer => {
                let accepted = self.callees[i].response(message, self.refer_status, "", "", None);
                self.callee_sends(i, &self.refer_status.to_string(), accepted);
            }
            Method::Invite if self.callees[i].finished => {
                self.callees[i].heard.push(body);
                self.callees[i].asked = Message::parse(self.last_sent.clone()).ok();
                if !self.callees[i].plan.slow_reinvite {
                    self.answer_reinvite(i);
                }
            }
            _ => {}
        }
    }

    fn callee_sends(&mut self, i: usize, what: &str, text: String) {
        let (name, flow) = (self.callees[i].name.clone(), self.callees[i].flow);
        self.step(&name, "node", what);
        self.raw(flow, text.into_bytes());
    }

    /// The callee's answer to the re-INVITE that it was sent.
    pub fn answer_reinvite(&mut self, i: usize) {
        let Some(invite) = self.callees[i].asked.take() else { return };
        let status = self.callees[i].plan.reinvite;
        let answer = offer(mirror(direction_of(&String::from_utf8_lossy(&invite.body()))), true);
        let text = self.callees[i].response(&invite, status, "", "", (status == 200).then_some(answer.as_str()));
        self.callee_sends(i, &status.to_string(), text);
    }

    /// A request of a callee within its call.
    pub fn callee_request(&mut self, i: usize, method: &str, body: Option<(&str, &str)>) {
        let text = self.callees[i].request(method, "", body);
        self.callee_sends(i, method, text);
    }

    /// The legs that this leg of the fake media thread hears: (leg, hears).
    pub fn bridges(&self) -> Vec<(LegId, Option<LegId>)> {
        self.legs.iter().map(|(id, leg)| (*id, leg.hears)).collect()
    }
}

pub fn direction_of(sdp: &str) -> &'static str {
    ["sendonly", "recvonly", "inactive"].into_iter().find(|d| sdp.contains(&format!("a={d}"))).unwrap_or("sendrecv")
}

fn mirror(direction: &str) -> &'static str {
    match direction {
        "sendonly" => "recvonly",
        "recvonly" => "sendonly",
        "inactive" => "inactive",
        _ => "sendrecv",
    }
}

impl Phone {
    fn request(&self, method: &str, cseq: u32, branch: &str, extra: &str, body: Option<(&str, &str)>) -> String {
        let from = if self.from.is_empty() { String::new() } else { format!("From: {}\r\n", self.from) };
        let (content_type, body) = body.unwrap_or_default();
        let typed = if body.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch}\r\nMax-Forwards: 70\r\n{from}To: {}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:alice@{}>\r\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE, INFO\r\n{extra}{typed}\
             Content-Length: {}\r\n\r\n{body}",
            self.target,
            self.flow.peer,
            self.to,
            self.call_id,
            self.flow.peer,
            body.len()
        )
    }
}

/// An offer of PCMA and PCMU, with telephone-event if wanted.
pub fn offer(direction: &str, telephone_event: bool) -> String {
    let (formats, map) = if telephone_event { (" 101", "a=rtpmap:101 telephone-event/8000\r\n") } else { ("", "") };
    format!(
        "v=0\r\no=alice 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0{formats}\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n{map}a={direction}\r\n"
    )
}

fn segment_text(segment: &Segment) -> String {
    match segment {
        Segment::Clip(clip) => format!("clip {} ms", clip.pcmu.len() / 8),
        Segment::Silence(duration) => format!("silence {} ms", duration.as_millis()),
        Segment::Record(..) => "record".into(),
        Segment::Echo(duration) => format!("echo {} ms", duration.as_millis()),
    }
}

fn ask_text(ask: &Ask) -> String {
    let mut text = ask.hook.name().to_owned();
    if ask.hook.info().restarted {
        text.push_str(" restarted");
    }
    if let Some(reference) = &ask.hook.info().session_reference {
        let _ = write!(text, " reference={reference}");
    }
    if let Hook::CallEvent(event) = &ask.hook {
        let _ = write!(text, " {}", event_text(event));
    }
    if let Hook::GetIvrCommand(request) = &ask.hook {
        if let Some(buffer) = &request.dtmf_buffer {
            let _ = write!(text, " buffer={buffer}");
        }
        if let Some(dtmf) = &request.dtmf {
            let key = dtmf.matched_termination_key.map(String::from).unwrap_or_default();
            let _ = write!(text, " dtmf={:?} {:?}{key}", dtmf.dtmf_match, dtmf.reason);
        }
        if let Some(recording) = &request.recording {
            let _ = write!(text, " recording={} {} ms", recording.stop_reason, recording.duration.as_millis());
        }
    }
    text
}

fn event_text(event: &CallEvent) -> String {
    let kind = format!("{:?}", event.event);
    let (first, rest) = kind.split_at(1);
    let code = event.sip_code.map(|code| format!(" {code}")).unwrap_or_default();
    format!("{}{rest} {}/{}{code}", first.to_ascii_lowercase(), event.user, event.remote_user)
}

fn verdict_text(verdict: &Result<Verdict, HookFailure>) -> String {
    match verdict {
        Ok(Verdict::Routing(Routing::Drop { drop_code, .. })) => format!("drop {}", drop_code.as_deref().unwrap_or("-")),
        Ok(Verdict::Routing(Routing::Ivr { .. })) => "ivr".into(),
        Ok(Verdict::Routing(Routing::Redirect { status, .. })) => format!("redirect {status}"),
        Ok(Verdict::Routing(Routing::Ext { name, .. })) => format!("action {name:?}"),
        Ok(Verdict::Routing(Routing::Call(call))) => format!("call {}", call.dest_addr),
        Ok(Verdict::Routing(Routing::Join { .. })) => "join".into(),
        Ok(Verdict::Routing(Routing::HttpCall { device, .. })) => format!("httpcall {}", device.address),
        Ok(Verdict::Ivr(command)) => format!("command of {} phrases", command.phrases.len()),
        Ok(Verdict::Identified(_)) => "identified".into(),
        Ok(Verdict::Noted { .. }) => "noted".into(),
        Err(HookFailure::Trap { .. }) => "trap".into(),
        Err(HookFailure::Deadline) => "no answer".into(),
        Err(HookFailure::Refused { .. }) => "refused".into(),
        Err(HookFailure::Nonsense { field, .. }) => format!("nonsense {field}"),
        Err(other) => format!("failed {other:?}"),
    }
}

fn notification_text(notification: &Notification) -> String {
    match notification {
        Notification::CallAnswered { monitoring, .. } => format!("callAnswered{}", if *monitoring { " of a monitor" } else { "" }),
        Notification::CallEvent(event) => format!("callEvent {}", event_text(event)),
        Notification::CallNotify { event, user, monitoring, .. } => {
            format!("callNotify {event} {user}{}", if *monitoring { ", a monitor" } else { "" })
        }
        Notification::RecordingReady { successful, .. } => format!("recordingReady {successful}"),
        Notification::RecordingState { status, .. } => {
            let why = status.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
            format!("recordingState {} {}{why}", status.control_id.get(..8).unwrap_or(&status.control_id), status.phase.name())
        }
        Notification::SessionCompleted { reason, .. } => format!("sessionCompleted {reason}"),
        Notification::TransferState { sip_code, last, .. } => format!("transferState {sip_code}{}", if *last { ", last" } else { "" }),
        Notification::Timer { name, .. } => format!("timer {name}"),
        Notification::Alarm(alarm) => format!("alarm {} {}", alarm.kind.name(), alarm.error),
    }
}
