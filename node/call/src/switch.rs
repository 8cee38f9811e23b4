//! The switch: all sessions of a signalling thread, the SIP endpoint they share, admission, and who gets which input.
//!
//! What one call does is in `session.rs`; which tenant gets it, in `route.rs`. Start with [`Switch::handle`].

use crate::admission::{Admission, Quota, Spent};
use crate::alarm;
use crate::door::{
    Command, CommandError, CommandId, CommandResult, Configuration, Counter, Input, Level, Output, RecordingMoved, RecordingReport,
    SessionId,
};
use crate::exchange::{Exchange, Mint, Settings};
use crate::hook::{Alarm, AlarmKind, Notification, SessionInfo};
use crate::invite;
use crate::limits;
use crate::recording::Unwritable;
use crate::route::Router;
use crate::session::{Admitted, Session, SessionInput};
use crate::track;
use hookswitch_proto::media::{Codec, RecordingId};
use hookswitch_proto::sip::{DialogId, Endpoint, EndpointConfig, EndpointOutput, Flow, Gauges, Header, Message, Refusal, SipEvent};
use hookswitch_proto::{KeyedMap, Random, Time, Wall};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub struct SwitchConfig {
    pub endpoint: EndpointConfig,
    /// What SDP calls our RTP address (1:1 NAT); `None`: the address that the leg is bound to.
    pub media_advertise: Option<IpAddr>,
    /// In order of preference.
    pub codecs: Vec<Codec>,
    pub seed: [u8; 32],
    /// Live sessions; more: 503.
    pub sessions_max: usize,
    pub session_duration: Duration,
    /// `None`: never.
    pub rtp_timeout: Option<Duration>,
    /// Take RTP from another address than signalled (off: RTP bleed).
    pub learn_any_ip: bool,
    pub unwritable: Unwritable,
    /// Name of the site that callbacks say (IC-099).
    pub site: Option<String>,
}

impl SwitchConfig {
    /// The usual limits.
    pub fn new(endpoint: EndpointConfig, seed: [u8; 32]) -> SwitchConfig {
        SwitchConfig {
            endpoint,
            media_advertise: None,
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            seed,
            sessions_max: crate::limits::SESSIONS,
            session_duration: crate::limits::SESSION_DURATION,
            rtp_timeout: Some(crate::limits::RTP_TIMEOUT),
            learn_any_ip: false,
            unwritable: Unwritable::default(),
            site: None,
        }
    }
}

/// What is alive, for metrics and leak tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchGauges {
    pub sessions: usize,
    pub legs: usize,
    /// Recordings of ended sessions whose report is due.
    pub late_recordings: usize,
    pub endpoint: Gauges,
}

pub struct Switch {
    exchange: Exchange,
    router: Router,
    node_address: String,
    drain: bool,
    sessions: Slab<Entry>,
    sessions_max: usize,
    generations: u32,
    /// Of the last one whose session is unknown here.
    nobody: u32,
    /// By UUID.
    names: KeyedMap<String, SessionId>,
    admission: Admission,
    timers: BTreeSet<(Time, SessionId)>,
}

struct Entry {
    generation: u32,
    session: Box<Session>,
    /// Where it stands in `timers`.
    timer: Option<Time>,
}

impl Switch {
    pub fn new(config: SwitchConfig) -> Switch {
        let mut random = Random::new(config.seed);
        let (endpoint, legs, dialogs, names) = (random.seed(), random.map(), random.map(), random.map());
        let (recordings, late_ids) = (random.map(), random.map());
        let settings = Settings {
            media_advertise: config.media_advertise,
            codecs: config.codecs,
            session_duration: config.session_duration,
            rtp_timeout: config.rtp_timeout,
            learn_any_ip: config.learn_any_ip,
            unwritable: config.unwritable,
            site: config.site,
        };
        let exchange = Exchange {
            endpoint: Endpoint::new(config.endpoint, endpoint),
            mint: Mint::new(random),
            settings,
            out: VecDeque::new(),
            alarms: alarm::AlarmLimit::default(),
            spent: Spent::default(),
            legs,
            dialogs,
            trunks: Vec::new(),
            late: BTreeMap::new(),
            late_ids,
            recordings,
            wall: Wall::default(),
            wall_at: Time::ZERO,
        };
        Switch {
            exchange,
            router: Router::default(),
            node_address: String::new(),
            drain: false,
            sessions: Slab::new(),
            sessions_max: config.sessions_max,
            generations: 0,
            nobody: 0,
            names,
            admission: Admission::default(),
            timers: BTreeSet::new(),
        }
    }

    /// One input, then drain [`Switch::poll`]. What is due by `now` happens too, after the input: a digit that was pressed in time
    /// must win over the timeout that it stops.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Sip { flow, bytes, wall } => {
                (self.exchange.wall, self.exchange.wall_at) = (wall, now);
                self.exchange.endpoint.receive(now, flow, bytes);
            }
            Input::FlowFailed { flow } => self.exchange.endpoint.flow_failed(now, flow),
            Input::Media(event) => {
                if let Some(&id) = self.exchange.legs.get(&event.leg) {
                    self.dispatch(now, id, SessionInput::Media(event));
                }
            }
            Input::MediaRefused { leg } => {
                if let Some(&id) = self.exchange.legs.get(&leg) {
                    self.dispatch(now, id, SessionInput::MediaRefused(leg));
                }
            }
            Input::Verdict { ask, verdict } => self.dispatch(now, ask.session, SessionInput::Verdict { number: ask.number, verdict }),
            Input::Prepared { session, number, clips } => self.dispatch(now, session, SessionInput::Prepared { number, clips }),
            Input::Resolved { session, number, addresses } => {
                self.dispatch(now, session, SessionInput::Resolved { number, addresses });
            }
            Input::Recorded(report) => self.on_recorded(now, report),
            Input::RecordingMoved(moved) => self.on_recording_moved(now, moved),
            Input::Command { id, domain, command } => self.on_command(now, id, &domain, command),
            Input::Release => {
                let ids: Vec<SessionId> = self.names.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
                for id in ids {
                    self.dispatch(now, id, SessionInput::Release);
                }
            }
            Input::Configure(configuration) => self.on_configure(&configuration),
            Input::Spent(spent) => self.exchange.spent = spent,
            Input::Tick => {}
        }
        self.settle(now);
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.exchange.out.pop_front()
    }

    /// When [`Input::Tick`] is due.
    pub fn next_timeout(&self) -> Option<Time> {
        let sessions = self.timers.first().map(|(at, _)| *at);
        [self.exchange.endpoint.next_timeout(), sessions].into_iter().flatten().min()
    }

    pub fn gauges(&self) -> SwitchGauges {
        SwitchGauges {
            sessions: self.sessions.len(),
            legs: self.exchange.legs.len(),
            late_recordings: self.exchange.late.len(),
            endpoint: self.exchange.endpoint.gauges(),
        }
    }

    fn settle(&mut self, now: Time) {
        self.drain_endpoint(now);
        if self.exchange.endpoint.next_timeout().is_some_and(|at| at <= now) {
            self.exchange.endpoint.handle_timeout(now);
            self.drain_endpoint(now);
        }
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.dispatch(now, id, SessionInput::Timeout);
            self.drain_endpoint(now);
        }
    }

    fn drain_endpoint(&mut self, now: Time) {
        while let Some(output) = self.exchange.endpoint.poll() {
            match output {
                EndpointOutput::Transmit { flow, bytes } => self.exchange.emit(Output::Transmit { flow, bytes }),
                EndpointOutput::Event(event) => self.on_sip(now, event),
            }
        }
    }

    fn on_sip(&mut self, now: Time, event: SipEvent) {
        let dialog = match event {
            SipEvent::Invite { dialog, request, flow } => return self.on_invite(now, dialog, &request, flow),
            SipEvent::Refused { flow, why } => return self.on_refused(flow, &why),
            SipEvent::Confirmed { dialog, .. }
            | SipEvent::Offer { dialog, .. }
            | SipEvent::Info { dialog, .. }
            | SipEvent::Progress { dialog, .. }
            | SipEvent::Answered { dialog, .. }
            | SipEvent::OfferAnswered { dialog, .. }
            | SipEvent::Referred { dialog, .. }
            | SipEvent::Gone { dialog, .. } => dialog,
        };
        // A dialog without a session: its INVITE was not admitted.
        if let Some(&id) = self.exchange.dialogs.get(&dialog) {
            self.dispatch(now, id, SessionInput::Sip(event));
        }
    }

    fn on_refused(&mut self, flow: Flow, why: &Refusal) {
        self.exchange.count(match why {
            Refusal::Malformed(_) => Counter::SipMalformed,
            Refusal::TooLarge(_) => Counter::SipTooLarge,
            Refusal::Method(_) | Refusal::Version | Refusal::Status(_) => Counter::SipUnsupported,
            Refusal::Overload => Counter::SipOverload,
            Refusal::NoMatch => Counter::SipNoMatch,
        });
        self.exchange.log(Level::Warn, None, format!("SIP from {}: {}", flow.peer, alarm::printable(&why.to_string(), 200)));
    }

    // ---------------------------------------------------------------------------------------- admission

    fn on_invite(&mut self, now: Time, dialog: DialogId, invite: &Message, flow: Flow) {
        let x = &mut self.exchange;
        x.count(Counter::CallsOffered);
        let number = invite::called_party(invite);
        let domain = invite.request_uri().map(|uri| uri.host.clone()).unwrap_or_default();
        let origin = self.router.origin(flow.peer.ip());
        let tenant = self.router.tenant(origin.trunk, &number, &domain).cloned();
        let urgent = self.router.is_emergency(&number);
        let most = if urgent { self.sessions_max + limits::EMERGENCY_SESSIONS } else { self.sessions_max };
        let mut over = None;
        let refused = match &tenant {
            _ if self.drain => Some((503, "draining")),
            None => {
                x.count(Counter::UnknownNumber);
                Some((404, "nobody has this number"))
            }
            _ if self.sessions.len() >= most => Some((503, "too many calls")),
            Some(_) if urgent => None,
            Some(tenant) => self.admission.admit(now, tenant, &x.spent).err().map(|quota| {
                over = Some(quota);
                (quota.refusal().0, quota.name())
            }),
        };
        let tenant = match (tenant, refused) {
            (Some(tenant), None) => tenant,
            (tenant, refused) => {
                let (status, why) = refused.unwrap_or((404, "nobody has this number"));
                x.count(Counter::CallsRefused);
                let (number, domain) = (alarm::printable(&number, 64), alarm::printable(&domain, 128));
                x.log(Level::Warn, None, format!("call to {number:?} at {domain:?} from {}: {status}, {why}", flow.peer));
                let after = match over {
                    Some(quota) => quota.refusal().1,
                    None => (status == 503).then_some(5),
                };
                let headers: Vec<Header> =
                    after.map(|seconds| Header { name: "Retry-After".into(), value: seconds.to_string() }).into_iter().collect();
                // Too late means the caller gave up meanwhile.
                let _ = x.endpoint.reject(now, dialog, status, None, &headers);
                if let (Some(quota), Some(tenant)) = (over, tenant) {
                    self.over_quota(now, &tenant.domain, quota);
                }
                return;
            }
        };
        let trusted = origin.trusted;
        let id = self.next_id();
        let x = &mut self.exchange;
        let admitted = Admitted { id, tenant, node_address: self.node_address.clone(), invite, dialog, flow, trusted, urgent };
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let mut session = Session::begin(now, admitted, x);
            session.settle(now, x);
            session
        }));
        let Ok(session) = begun else {
            x.count(Counter::SessionPanicked);
            x.log(Level::Warn, None, "a session panicked at its INVITE: the call is refused".into());
            x.dialogs.remove(&dialog);
            let _ = x.endpoint.reject(now, dialog, 500, None, &[]);
            return;
        };
        self.take_in(now, id, session);
    }

    fn next_id(&mut self) -> SessionId {
        self.generations = self.generations.wrapping_add(1);
        let slot = self.sessions.vacant_key();
        SessionId { slot: u32::try_from(slot).expect("sessions are bounded far below 2^32"), generation: self.generations }
    }

    fn take_in(&mut self, now: Time, id: SessionId, session: Session) {
        // Before anything of it comes to an end: what it says first waits behind this.
        self.exchange.out.push_front(Output::Begun { session: id, begun: Box::new(session.begun()) });
        self.names.insert(session.session_id().to_owned(), id);
        self.admission.began(session.domain());
        let over = session.is_over();
        self.sessions.insert(Entry { generation: id.generation, session: Box::new(session), timer: None });
        // A call of ours may have ended before it began: to an address that it may not call.
        if over { self.forget(id) } else { self.reschedule(now, id, false) }
    }

    /// IC-052, IC-060: a session that begins with a call of ours.
    fn place(&mut self, now: Time, domain: &str, command: &Command) -> CommandResult {
        let tenant = self.router.of_domain(domain).cloned().ok_or(CommandError::Unknown("domain"))?;
        if self.drain {
            return Err(CommandError::Unavailable("draining"));
        }
        if self.sessions.len() >= self.sessions_max {
            return Err(CommandError::Unavailable("too many calls"));
        }
        if let Err(quota) = self.admission.admit(now, &tenant, &self.exchange.spent) {
            self.over_quota(now, &tenant.domain, quota);
            return Err(CommandError::Quota(quota));
        }
        let id = self.next_id();
        let (x, node_address) = (&mut self.exchange, self.node_address.clone());
        let placed = catch_unwind(AssertUnwindSafe(|| {
            let (mut session, done) = match command {
                Command::PlaceIvrCall(call) => Session::place(now, x, id, tenant, node_address, call)?,
                Command::PlaceRemoteCall(call) => Session::place_remote(now, x, id, tenant, node_address, call)?,
                _ => return Err(CommandError::Unknown("session")),
            };
            session.settle(now, x);
            Ok((session, done))
        }));
        match placed {
            Ok(Ok((session, done))) => {
                x.count(Counter::CallsPlaced);
                self.take_in(now, id, session);
                Ok(done)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                x.count(Counter::SessionPanicked);
                x.log(Level::Warn, None, "a session panicked while it was placed".into());
                Err(CommandError::Unavailable("an error of the node's own"))
            }
        }
    }

    /// Counted, and told to the tenant: its handler hears the alarm, and the guest room writes it to the tenant's log.
    fn over_quota(&mut self, now: Time, domain: &Arc<str>, quota: Quota) {
        let x = &mut self.exchange;
        x.count(quota.counter());
        let error = format!("{}: {}", alarm::QUOTA, quota.name());
        let Some(held_back) = x.alarms.pass(now, domain, AlarmKind::SessionError, &error) else {
            return x.count(Counter::AlarmSuppressed);
        };
        let details = (held_back > 0).then(|| format!("{held_back} equal alarms were held back"));
        let info = self.nobodys(domain);
        let alarm = Notification::Alarm(Alarm { info, kind: AlarmKind::SessionError, error, details, leg: None });
        let session = self.nobody();
        self.exchange.emit(Output::Notify { session, domain: domain.clone(), notification: Box::new(alarm) });
        self.exchange.emit(Output::EndGuest { session });
    }

    /// What news say that no session tells.
    fn nobodys(&self, domain: &str) -> SessionInfo {
        SessionInfo {
            domain: domain.to_owned(),
            ivr_server: self.node_address.clone(),
            site_id: self.exchange.settings.site.clone(),
            ..SessionInfo::default()
        }
    }

    /// The id of no session, each time another, since tenants must not share one: sessions count their generations up from one.
    fn nobody(&mut self) -> SessionId {
        self.nobody = self.nobody.wrapping_add(1);
        SessionId { slot: self.nobody, generation: 0 }
    }

    fn on_configure(&mut self, configuration: &Configuration) {
        match Router::new(configuration) {
            Ok(router) => {
                self.admission.keep(|domain| router.of_domain(domain).is_some());
                self.router = router;
                self.node_address = configuration.node_address.clone();
                self.exchange.trunks = configuration.trunks.clone();
                self.drain = configuration.drain;
            }
            Err(error) => self.exchange.log(Level::Warn, None, format!("configuration refused, the old one stays: {error}")),
        }
    }

    // ---------------------------------------------------------------------------------------- sessions

    fn entry(&mut self, id: SessionId) -> Option<&mut Entry> {
        self.sessions.get_mut(id.slot as usize).filter(|e| e.generation == id.generation)
    }

    /// One input to one session. A panic in it ends that call only.
    fn dispatch(&mut self, now: Time, id: SessionId, input: SessionInput) {
        let timed_out = matches!(input, SessionInput::Timeout);
        let Some(entry) = self.sessions.get_mut(id.slot as usize).filter(|e| e.generation == id.generation) else { return };
        let (session, x) = (&mut entry.session, &mut self.exchange);
        if catch_unwind(AssertUnwindSafe(|| session.handle(now, input, x))).is_err() {
            x.count(Counter::SessionPanicked);
            x.log(Level::Warn, Some(session.session_id()), "the session panicked: its call is ended".into());
            if catch_unwind(AssertUnwindSafe(|| session.abort(now, x))).is_err() {
                // Not even that: it is forgotten, and the guards of dialog, leg and guest end theirs.
                x.emit(Output::EndGuest { session: id });
            }
            return self.forget(id);
        }
        if session.is_over() { self.forget(id) } else { self.reschedule(now, id, timed_out) }
    }

    fn reschedule(&mut self, now: Time, id: SessionId, timed_out: bool) {
        let Some(entry) = self.entry(id) else { return };
        // A timeout that leaves itself due would spin: it comes again, but not at once.
        let next = entry.session.next_timeout().map(|at| if timed_out { at.max(now + Duration::from_millis(1)) } else { at });
        let old = std::mem::replace(&mut entry.timer, next);
        if old != next {
            old.map(|at| self.timers.remove(&(at, id)));
            next.map(|at| self.timers.insert((at, id)));
        }
    }

    fn forget(&mut self, id: SessionId) {
        if self.entry(id).is_none() {
            return;
        }
        let Entry { session, timer, .. } = self.sessions.remove(id.slot as usize);
        timer.map(|at| self.timers.remove(&(at, id)));
        for dialog in session.dialogs() {
            self.exchange.dialogs.remove(&dialog);
        }
        self.names.remove(session.session_id());
        self.admission.ended(session.domain());
    }

    fn on_recorded(&mut self, now: Time, report: RecordingReport) {
        if self.entry(report.session).is_some() {
            return self.dispatch(now, report.session, SessionInput::Recorded(report));
        }
        let at = self.exchange.wall(now);
        let Some(late) = self.exchange.late.get_mut(&report.recording) else { return };
        let silent_loss = report.outcome.as_ref().err().filter(|_| !late.recording.callback).map(|why| {
            let text = format!("recording {} failed: {}", late.recording.recording_id, alarm::printable(why, 256));
            (late.info.session_id.clone(), text)
        });
        let mut news = Vec::new();
        for phase in late.recording.on_report(&report) {
            late.recording.phase = phase;
            news.extend(late.recording.told.then(|| late.recording.state(late.info.clone(), at)));
        }
        if let Some((session, text)) = silent_loss {
            self.exchange.log(Level::Warn, Some(&session), text);
        }
        self.tell_late(report.recording, report.session, news);
    }

    fn on_recording_moved(&mut self, now: Time, moved: RecordingMoved) {
        if let Some(session) = self.names.get(&moved.session_id).copied() {
            return self.dispatch(now, session, SessionInput::RecordingMoved(moved));
        }
        let at = self.exchange.wall(now);
        let known = self.exchange.late_ids.get(&moved.status.recording_id).copied();
        let Some((id, late)) = known.and_then(|id| Some((id, self.exchange.late.get_mut(&id)?))) else {
            return self.tell_unknown(at, moved);
        };
        if late.recording.on_moved(&moved.status) {
            let session = late.session;
            let news = late.recording.told.then(|| late.recording.state(late.info.clone(), at));
            self.tell_late(id, session, news.into_iter().collect());
        }
    }

    /// The end of a recording that nobody here remembers: its call was before the last restart, or long ago. Its owner waits all the same.
    fn tell_unknown(&mut self, at: u64, moved: RecordingMoved) {
        let RecordingMoved { session_id, domain, status } = moved;
        if !status.phase.is_terminal() {
            return;
        }
        let session = self.nobody();
        let info = SessionInfo { session_id, ..self.nobodys(&domain) };
        for notification in track::news_of(info, *status, at) {
            self.exchange.emit(Output::Notify { session, domain: domain.clone(), notification: Box::new(notification) });
        }
        self.exchange.emit(Output::EndGuest { session });
    }

    /// News of a recording whose session is over; with its last state it is forgotten.
    fn tell_late(&mut self, recording: RecordingId, session: SessionId, mut news: Vec<Notification>) {
        let Some(late) = self.exchange.late.get(&recording) else { return };
        let domain = late.domain.clone();
        if late.recording.phase.is_terminal() {
            news.extend(late.recording.ready(late.info.clone()));
            self.exchange.forget_late(recording);
        }
        for notification in news {
            let (domain, notification) = (domain.clone(), Box::new(notification));
            self.exchange.emit(Output::Notify { session, domain, notification });
        }
    }

    /// IC-002, IC-008: another tenant's session is as unknown as none.
    fn on_command(&mut self, now: Time, id: CommandId, domain: &str, command: Command) {
        if command.session_id().is_none() {
            let result = self.place(now, domain, &command);
            return self.exchange.emit(Output::Reply { id, result });
        }
        let named = command.session_id().and_then(|s| self.names.get(s)).copied();
        let session = named.or_else(|| command.recording_alone().and_then(|id| self.exchange.recordings.get(id)).copied());
        let session = session.filter(|s| self.entry(*s).is_some_and(|e| e.session.domain().eq_ignore_ascii_case(domain)));
        match session {
            Some(session) => self.dispatch(now, session, SessionInput::Command { id, command }),
            None => {
                let what = if command.recording_alone().is_some() { "recording" } else { "session" };
                self.exchange.emit(Output::Reply { id, result: Err(CommandError::Unknown(what)) });
            }
        }
    }
}
