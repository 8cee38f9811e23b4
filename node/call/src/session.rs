//! One session: its parties, their connections and what its handler decided, from the first INVITE or command to the last event (SM-001).
//!
//! It does no I/O: SIP goes to the endpoint and everything else out through [`Exchange`]. Which inputs a session gets says `switch.rs`;
//! what an IVR command does, `ivr.rs`. The path of a call runs through the files below: `asks` (the handler's turn), `routing` (what its
//! answer means), `dial` (calls out), `legs` (what SIP and media say of one party), `connection` (who hears whom, and what follows when
//! a party leaves), `remote` (devices, whose media goes past us), `sounds` and `greetings` (what we play to those who wait), `monitor`
//! (who listens), `commands`, `hold`, `transfer`, `timers`.

mod asks;
mod commands;
mod connection;
mod dial;
mod greetings;
mod hold;
mod legs;
mod monitor;
mod recordings;
mod remote;
mod routing;
mod sounds;
mod timers;
mod transfer;

use crate::alarm;
use crate::door::{
    Begun, CallRecord, Clips, Command, CommandError, CommandId, Counter, Done, FallbackMode, Level, Output, PlaceIvrCall, PlaceRemoteCall,
    RecordingMoved, RecordingReport, SessionId, Tenant,
};
use crate::exchange::{Exchange, Late};
use crate::hook::{AlarmKind, Hook, HookFailure, Notification, ReplyTo, SessionInfo, Verdict};
use crate::ivr::Ivr;
use crate::limits;
use crate::outbound::Identity;
use crate::participant::{LegState, Participant, PartyKey, Transfer, sdp_details};
use crate::rules::Announce;
use crate::track::Recording;
use asks::{Asked, Waiting};
use connection::{Connection, End, Leave};
use hookswitch_proto::media::{Codec, LegStats, MediaCmd, MediaEvent, RecordingId, StopReason};
use hookswitch_proto::sdp::Local;
use hookswitch_proto::sip::{Cause, Message, SipEvent};
use hookswitch_proto::{Time, Wall};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use timers::Timer;

/// What a session gets from the switch.
#[derive(Debug)]
pub(crate) enum SessionInput {
    Sip(SipEvent),
    Media(MediaEvent),
    MediaRefused(hookswitch_proto::media::LegId),
    Verdict {
        number: u32,
        verdict: Result<Verdict, HookFailure>,
    },
    Prepared {
        number: u32,
        clips: Clips,
    },
    Resolved {
        number: u32,
        addresses: Result<Vec<SocketAddr>, String>,
    },
    Recorded(RecordingReport),
    RecordingMoved(RecordingMoved),
    Command {
        id: CommandId,
        command: Command,
    },
    /// The node ends.
    Release,
    /// `next_timeout` is due.
    Timeout,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    /// One of IC-204.
    reason: &'static str,
    at: Time,
}

pub(crate) struct Session {
    id: SessionId,
    info: SessionInfo,
    tenant: Arc<Tenant>,
    /// Who called, as calls out say it on.
    identity: Identity,
    /// User parts of the first call, for records.
    caller: String,
    called: String,
    started: Time,
    started_wall: Wall,
    answered_at: Option<Time>,
    /// Answered calls that we placed and that are over, and their time together.
    placed: u32,
    placed_time: Duration,
    incoming: bool,
    /// It is a device's: its handler decides nothing about it (SM-012, SM-013).
    device_call: bool,
    /// Those that are not gone for good.
    parties: Vec<Participant>,
    next_party: u32,
    connections: Vec<Connection>,
    /// Ids of parties that are gone.
    departed: VecDeque<String>,
    asked: Option<Asked>,
    asks: u32,
    waiting: VecDeque<Waiting>,
    restarted_once: bool,
    /// In place of the handler, from its last failure on.
    rules: Option<Announce>,
    /// The rules' answer, taken up at the end of the input so that no verdict is handled inside another.
    ruled: Option<Result<Verdict, HookFailure>>,
    /// Those that have not reached their last state.
    recordings: Vec<Recording>,
    /// Ids and control ids of the last ones that have.
    recordings_over: Vec<String>,
    /// Calls out so far.
    attempts: u32,
    /// Why the last party left that nobody replaced (IC-204).
    reason: Option<&'static str>,
    /// How the first INVITE was answered.
    final_status: u16,
    stats: LegStats,
    /// What the handler set for itself: at most `limits::TIMERS`.
    timers: Vec<Timer>,
    /// Longest session.
    expires: Option<Time>,
    end: Option<Ended>,
    over: bool,
}

/// An INVITE that was admitted.
pub(crate) struct Admitted<'a> {
    pub id: SessionId,
    pub tenant: Arc<Tenant>,
    pub node_address: String,
    pub invite: &'a Message,
    pub dialog: hookswitch_proto::sip::DialogId,
    pub flow: hookswitch_proto::sip::Flow,
    pub trusted: bool,
    /// The number is one for emergencies: its fallback does not wait for a handler.
    pub urgent: bool,
}

impl Session {
    fn new(now: Time, id: SessionId, tenant: Arc<Tenant>, node_address: String, x: &mut Exchange) -> Session {
        let info = SessionInfo {
            session_id: x.mint.uuid(),
            session_reference: None,
            domain: tenant.domain.to_string(),
            ivr_server: node_address,
            trace_id: x.mint.uuid(),
            site_id: x.settings.site.clone(),
            restarted: false,
            callback: None,
        };
        Session {
            id,
            info,
            tenant,
            identity: Identity::default(),
            caller: String::new(),
            called: String::new(),
            started: now,
            started_wall: x.wall,
            answered_at: None,
            placed: 0,
            placed_time: Duration::ZERO,
            incoming: false,
            device_call: false,
            // Most calls have one party.
            parties: Vec::with_capacity(1),
            next_party: 0,
            connections: Vec::with_capacity(1),
            departed: VecDeque::new(),
            asked: None,
            asks: 0,
            waiting: VecDeque::new(),
            restarted_once: false,
            rules: None,
            ruled: None,
            recordings: Vec::new(),
            recordings_over: Vec::new(),
            attempts: 0,
            reason: None,
            final_status: 0,
            stats: LegStats::default(),
            timers: Vec::new(),
            expires: Some(now + x.settings.session_duration),
            end: None,
            over: false,
        }
    }

    /// Created by an INVITE: reads the offer, asks newCall, or tells of a call for a device.
    pub fn begin(now: Time, admitted: Admitted<'_>, x: &mut Exchange) -> Session {
        let Admitted { id, tenant, node_address, invite, dialog, flow, trusted, urgent } = admitted;
        let mut session = Session::new(now, id, tenant, node_address, x);
        session.incoming = true;
        if let Some(trace) = crate::outbound::trace_of(invite, trusted) {
            session.info.trace_id = trace;
        }
        let participant_id = x.mint.uuid();
        let call = crate::invite::new_call(invite, flow, trusted, session.info.clone(), participant_id.clone());
        session.identity = Identity {
            user: call.calling_party.clone(),
            display: call.display_name.clone(),
            secret: call.privacy == crate::hook::Privacy::Secret,
            max_forwards: invite.header("Max-Forwards").and_then(|v| v.trim().parse().ok()).or(Some(70)),
            headers: call.x_headers.iter().chain(&call.p_headers).cloned().collect(),
        };
        (session.caller, session.called) = (call.calling_party.clone(), call.called_party.clone());
        let key = session.new_key();
        let ivr = Ivr::new(session.info.session_id.clone());
        let local = session.new_local(x, None);
        let mut party = Participant::incoming(key, participant_id, call.calling_party.clone(), ivr, invite, dialog, local);
        x.dialogs.insert(dialog, id);
        session.device_call = session.tenant.devices.contains(&session.called);
        let offer = if session.device_call { party.take_offer_for_device(invite, &remote::ANSWERABLE) } else { party.take_offer(invite) };
        session.parties.push(party);
        match offer {
            Ok(()) if session.device_call => session.offer_to_device(now, x, key, invite),
            Ok(()) => match session.number_fallback(now, x).filter(|f| urgent || f.mode == FallbackMode::Always) {
                Some(fallback) => session.run_fallback(now, x, key, &fallback, alarm::TRIGGERED_BY_ALWAYS),
                None => session.ask(now, x, key, session.first_question(call)),
            },
            Err(error) => {
                x.count(Counter::BadOffer);
                session.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                session.release(now, x, key, Leave::refuse(now, 488, "rejected"));
            }
        }
        session
    }

    /// Created by a command (IC-060): calls somebody, who gets the IVR when he answers.
    pub fn place(
        now: Time,
        x: &mut Exchange,
        id: SessionId,
        tenant: Arc<Tenant>,
        node_address: String,
        call: &PlaceIvrCall,
    ) -> Result<(Session, Done), CommandError> {
        let mut session = Session::new(now, id, tenant, node_address, x);
        session.caller = call.call.sip_from.clone().unwrap_or_default();
        session.called = crate::outbound::target(&call.call.dest_addr).and_then(|uri| uri.user).unwrap_or_default();
        session.info.session_reference.clone_from(&call.call.session_reference);
        let done = session.place_ivr_call(now, x, call)?;
        Ok((session, done))
    }

    /// Created by a command (IC-052): calls somebody, who gets a device when he answers.
    pub fn place_remote(
        now: Time,
        x: &mut Exchange,
        id: SessionId,
        tenant: Arc<Tenant>,
        node_address: String,
        call: &PlaceRemoteCall,
    ) -> Result<(Session, Done), CommandError> {
        let mut session = Session::new(now, id, tenant, node_address, x);
        let done = session.place_remote_call(now, x, call)?;
        Ok((session, done))
    }

    pub fn handle(&mut self, now: Time, input: SessionInput, x: &mut Exchange) {
        match input {
            SessionInput::Sip(event) => self.on_sip(now, x, event),
            SessionInput::Media(event) => self.on_media(now, x, event),
            SessionInput::MediaRefused(leg) => self.on_media_refused(now, x, leg),
            SessionInput::Verdict { number, verdict } => {
                if self.asked.as_ref().is_some_and(|a| a.number == number) {
                    self.on_verdict(now, x, verdict);
                }
            }
            SessionInput::Prepared { number, clips } => self.on_prepared(now, x, number, clips),
            SessionInput::Resolved { number, addresses } => self.on_resolved(now, x, number, addresses),
            SessionInput::Recorded(report) => self.on_recorded(now, x, &report),
            SessionInput::RecordingMoved(moved) => self.on_recording_moved(now, x, &moved),
            SessionInput::Command { id, command } => {
                let result = self.on_command(now, x, &command);
                x.emit(Output::Reply { id, result });
            }
            SessionInput::Release => {
                let leave = Leave { stop: StopReason::NodeShutdown, ..Leave::refuse(now, 603, "apiHangup") };
                self.release_all(now, x, &leave);
            }
            SessionInput::Timeout => self.on_timeout(now, x),
        }
        self.settle(now, x);
    }

    pub fn next_timeout(&self) -> Option<Time> {
        if self.over {
            return None;
        }
        let parties = self.parties.iter().filter_map(Participant::next_timeout);
        let guard = self.asked.as_ref().map(|a| a.guard);
        let expires = self.expires.filter(|_| self.end.is_none());
        parties.chain(guard).chain(expires).chain(self.timers.iter().map(|timer| timer.at)).min()
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn begun(&self) -> Begun {
        Begun {
            session_id: self.info.session_id.clone(),
            domain: self.tenant.domain.clone(),
            participant_id: self.parties.first().map(|p| p.id.clone()).unwrap_or_default(),
            caller: self.caller.clone(),
            called: self.called.clone(),
        }
    }

    pub fn session_id(&self) -> &str {
        &self.info.session_id
    }

    pub fn domain(&self) -> &Arc<str> {
        &self.tenant.domain
    }

    /// What follows from the input inside the session: effects of the IVRs and verdicts of the rules, until nothing is left.
    pub fn settle(&mut self, now: Time, x: &mut Exchange) {
        loop {
            while let Some((key, effect)) = self.parties.iter_mut().find_map(|p| Some((p.key, p.ivr.poll()?))) {
                self.on_effect(now, x, key, effect);
            }
            self.run_recordings(now, x);
            self.warn_parties(x);
            match self.ruled.take() {
                Some(verdict) if self.asked.is_some() => self.on_verdict(now, x, verdict),
                Some(_) => {}
                None => break,
            }
        }
        self.bury();
        self.complete(now, x);
    }

    // ---------------------------------------------------------------------------------------- parties

    fn new_key(&mut self) -> PartyKey {
        self.next_party += 1;
        PartyKey(self.next_party)
    }

    fn party(&self, key: PartyKey) -> Option<&Participant> {
        self.parties.iter().find(|p| p.key == key)
    }

    fn party_mut(&mut self, key: PartyKey) -> Option<&mut Participant> {
        self.parties.iter_mut().find(|p| p.key == key)
    }

    /// Not yet told to end.
    fn live(&self, key: PartyKey) -> Option<&Participant> {
        self.party(key).filter(|p| p.is_live())
    }

    /// Our side of a new negotiation: what the counterpart speaks first, then codecs in the tenant's order, then in the operator's (IC-194).
    fn new_local(&self, x: &mut Exchange, first: Option<Codec>) -> Local {
        let mut codecs = x.settings.codecs.clone();
        let place = |c: &Codec| self.tenant.codecs.iter().position(|t| t == c).unwrap_or(usize::MAX);
        codecs.sort_by_key(|c| (Some(*c) != first, place(c)));
        Local::new(x.mint.random.u64(), codecs)
    }

    fn media(&self, x: &mut Exchange, command: MediaCmd) {
        x.emit(Output::Media { session: self.id, command });
    }

    // ---------------------------------------------------------------------------------------- time

    fn on_timeout(&mut self, now: Time, x: &mut Exchange) {
        if self.end.is_none() && self.expires.is_some_and(|t| t <= now) {
            self.expires = None;
            self.alarm(now, x, AlarmKind::SessionError, alarm::MAX_DURATION, None);
            let q850 = crate::drop_code::reason(102, "Recovery on timer expiry");
            return self.release_all(now, x, &Leave { q850, ..Leave::refuse(now, 480, "maxDuration") });
        }
        if self.asked.as_ref().is_some_and(|a| a.guard <= now) {
            self.on_verdict(now, x, Err(HookFailure::Deadline));
        }
        self.run_timers(now, x);
        let keys: Vec<PartyKey> = self.parties.iter().filter(|p| p.next_timeout().is_some_and(|t| t <= now)).map(|p| p.key).collect();
        for key in keys {
            self.on_party_timeout(now, x, key);
        }
    }

    fn on_party_timeout(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key) else { return };
        if party.close_again.take_if(|t| *t <= now).is_some()
            && let LegState::Closing(leg) = party.leg
        {
            self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
        }
        if self.party_mut(key).is_some_and(|p| p.answer_by.take_if(|t| *t <= now).is_some()) {
            return self.nobody_answered(now, x, key);
        }
        let Some(party) = self.party_mut(key) else { return };
        if party.give_up.take_if(|t| *t <= now).is_some() {
            return self.on_give_up(now, x, key);
        }
        if party.transfer.as_ref().and_then(Transfer::until).is_some_and(|t| t <= now) {
            self.transfer_failed(x, key, 404);
        }
        let Some(party) = self.party_mut(key) else { return };
        if party.dial().is_some() {
            self.on_dial_timeout(now, x, key);
        } else if let Some(party) = self.party_mut(key).filter(|p| p.is_live()) {
            party.ivr.on_timeout(now);
        }
    }

    // ---------------------------------------------------------------------------------------- the end

    /// Nobody is left: the session ends as soon as what was begun is done.
    fn end_if_empty(&mut self, x: &mut Exchange, at: Time) {
        let asks_on = self.asked.as_ref().is_some_and(|a| a.keep) || self.waiting.iter().any(Waiting::keeps);
        if self.end.is_some() || asks_on || self.parties.iter().any(Participant::is_live) {
            return;
        }
        self.asked = None;
        self.ruled = None;
        self.timers.clear();
        while let Some(waiting) = self.waiting.pop_front() {
            if let Waiting::News(notification) = waiting {
                self.send(x, notification);
            }
        }
        self.end = Some(Ended { reason: self.reason.unwrap_or("ivrHangup"), at: at.max(self.started) });
    }

    /// What is over is counted and forgotten.
    fn bury(&mut self) {
        for party in self.parties.extract_if(.., |p| p.is_over()) {
            self.stats += party.stats;
            if self.departed.len() >= limits::DEPARTED {
                self.departed.pop_front();
            }
            self.departed.push_back(party.id);
        }
    }

    /// The last thing a session does, once all its dialogs and legs are gone.
    fn complete(&mut self, now: Time, x: &mut Exchange) {
        let Some(end) = self.end.filter(|_| !self.over && self.parties.is_empty()) else { return };
        self.over = true;
        let duration = end.at.since(self.started);
        for recording in std::mem::take(&mut self.recordings) {
            let (domain, info, at) = (self.tenant.domain.clone(), self.info.clone(), x.wall(now));
            x.recordings.remove(&recording.recording_id);
            if recording.announced {
                x.remember(recording.id, Late { session: self.id, domain, info, recording });
            } else if recording.told {
                // Only after a panic is one left that never began.
                let mut recording = recording;
                recording.phase = crate::recording::Phase::Canceled;
                self.send(x, Box::new(recording.state(info, at)));
            }
        }
        self.send(x, Box::new(Notification::SessionCompleted { info: self.info.clone(), duration, reason: end.reason }));
        x.emit(Output::EndGuest { session: self.id });
        x.emit(Output::Completed(Box::new(CallRecord {
            session_id: self.info.session_id.clone(),
            domain: self.tenant.domain.clone(),
            caller: std::mem::take(&mut self.caller),
            called: std::mem::take(&mut self.called),
            started: self.started_wall,
            answered_after: self.answered_at.map(|t| t.since(self.started)),
            duration,
            incoming: self.incoming,
            placed: self.placed,
            placed_time: self.placed_time,
            reason: end.reason,
            final_status: self.final_status,
            media: self.stats,
        })));
        x.count(Counter::CallsCompleted);
    }

    /// After a panic inside: this call ends, whatever state it is in, and nothing of it stays (the switch forgets it next).
    pub fn abort(&mut self, now: Time, x: &mut Exchange) {
        for mut party in std::mem::take(&mut self.parties) {
            if let Some(leg) = party.leg_id() {
                self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
                x.legs.remove(&leg);
            }
            if party.is_live() {
                self.end_dialog(now, x, &mut party, 500, &[], crate::drop_code::reason(41, "Temporary failure"));
            }
            if let Some(dialog) = party.dialog {
                x.dialogs.remove(&dialog);
            }
        }
        if self.final_status == 0 {
            self.final_status = 500;
        }
        (self.asked, self.ruled) = (None, None);
        self.waiting.clear();
        let at = now.max(self.started);
        self.end.get_or_insert(Ended { reason: "serverError", at });
        self.complete(now, x);
    }

    /// Dialogs that the endpoint still has of it, when the switch forgets it.
    pub fn dialogs(&self) -> impl Iterator<Item = hookswitch_proto::sip::DialogId> + '_ {
        self.parties.iter().filter_map(|p| p.dialog)
    }
}

fn nonsense(field: &str, why: &str) -> HookFailure {
    HookFailure::Nonsense { field: field.into(), why: why.into() }
}

fn normal() -> String {
    crate::drop_code::reason(16, "Normal call clearing")
}

/// The endpoint refuses what comes too late; a `Gone` tells the rest.
fn ignore_late(_result: Result<(), hookswitch_proto::sip::CommandError>) {}
