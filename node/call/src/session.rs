//! One session: its party, its IVR and what its handler decided, from the INVITE to the last event (SM-001).
//!
//! It does no I/O: SIP goes to the endpoint and everything else out through [`Exchange`]. The path of a call runs down this file:
//! deciding, opening, answered, IVR, release. Which inputs a session gets says `switch.rs`; what an IVR command does, `ivr.rs`.

use crate::adapter::Adapter;
use crate::alarm::{self, RoutingHook};
use crate::door::{
    Ask, AskId, CallRecord, Clips, Command, CommandError, CommandId, CommandResult, Counter, Done, Fallback, Level, Output, Prepare,
    RecordingReport, RecordingStart, SessionId, Tenant, WhichRecording,
};
use crate::drop_code::{self, DropCode};
use crate::exchange::{Exchange, Late};
use crate::hook::{
    Alarm, AlarmKind, Hook, HookFailure, IvrCommand, IvrRequest, NewCall, Notification, ReplyTo, Routing, SessionInfo, Verdict,
};
use crate::ivr::{Effect, Ivr};
use crate::limits;
use crate::participant::{LegState, Participant, info_digit, sdp_details};
use crate::rules::Announce;
use hookswitch_proto::media::{DigitSet, LegId, MediaCmd, MediaEvent, MediaKind, RecordingId, StopReason};
use hookswitch_proto::sip::{Cause, Header, Message, Method, SipEvent, Uri};
use hookswitch_proto::{Time, Wall};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a session gets from the switch.
#[derive(Debug)]
pub(crate) enum SessionInput {
    Sip(SipEvent),
    Media(MediaEvent),
    MediaRefused,
    Verdict {
        number: u32,
        verdict: Result<Verdict, HookFailure>,
    },
    Prepared {
        number: u32,
        clips: Clips,
    },
    Recorded(RecordingReport),
    Command {
        id: CommandId,
        command: Command,
    },
    /// `next_timeout` is due.
    Timeout,
}

/// SM-001 and SM-003 in one, while a session has one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// newCall is asked, the INVITE is unanswered.
    Deciding,
    /// The leg binds its socket; 200 follows.
    Opening,
    /// 200 is out, ACK is awaited.
    Answered,
    /// The IVR has the party.
    Ivr,
    /// Everything is told to end; waits for the dialog and the leg.
    Releasing,
    Over,
}

/// How the dialog ends, if it still has to.
enum Release {
    /// 3xx to 6xx to the INVITE; a BYE with this Reason if it is answered by now.
    Refuse { status: u16, headers: Vec<Header>, reason: String },
    /// The peer ended it.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// One of IC-204.
    reason: &'static str,
    at: Time,
    status: u16,
}

/// Hooks and news that wait for the running hook.
enum Waiting {
    Hook(Hook),
    News(Box<Notification>),
}

struct Asked {
    number: u32,
    hook: Hook,
    guard: Time,
}

struct Recording {
    id: RecordingId,
    recording_id: String,
    callback: bool,
    /// The tap has closed it; its report is due.
    closed: bool,
}

pub(crate) struct Session {
    id: SessionId,
    info: SessionInfo,
    tenant: Arc<Tenant>,
    phase: Phase,
    caller: Participant,
    called: String,
    started: Time,
    started_wall: Wall,
    answered_at: Option<Time>,
    connection_id: String,
    ivr: Ivr,
    asked: Option<Asked>,
    asks: u32,
    waiting: VecDeque<Waiting>,
    restarted_once: bool,
    /// In place of the handler, from its last failure on.
    rules: Option<Announce>,
    /// The rules' answer, taken up at the end of the input so that no verdict is handled inside another.
    ruled: Option<Result<Verdict, HookFailure>>,
    recordings: Vec<Recording>,
    end: Option<End>,
    give_up: Option<Time>,
    close_again: Option<Time>,
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
}

impl Session {
    /// Created by an INVITE: reads the offer, asks newCall.
    pub fn begin(now: Time, admitted: Admitted<'_>, x: &mut Exchange) -> Session {
        let Admitted { id, tenant, node_address, invite, dialog, flow, trusted } = admitted;
        let info = SessionInfo {
            session_id: x.mint.uuid(),
            session_reference: None,
            domain: tenant.domain.to_string(),
            ivr_server: node_address,
            trace_id: x.mint.uuid(),
            restarted: false,
        };
        let participant_id = x.mint.uuid();
        let call = crate::invite::new_call(invite, flow, trusted, info.clone(), participant_id.clone());
        let codecs = x.settings.codecs.clone();
        let mut session = Session {
            id,
            ivr: Ivr::new(info.session_id.clone()),
            tenant,
            phase: Phase::Deciding,
            caller: Participant::new(participant_id, call.calling_party.clone(), invite, dialog, codecs, &mut x.mint.random),
            called: call.called_party.clone(),
            started: now,
            started_wall: x.wall,
            answered_at: None,
            connection_id: x.mint.uuid(),
            info,
            asked: None,
            asks: 0,
            waiting: VecDeque::new(),
            restarted_once: false,
            rules: None,
            ruled: None,
            recordings: Vec::new(),
            end: None,
            give_up: Some(now + x.settings.session_duration),
            close_again: None,
        };
        match session.caller.take_offer(invite) {
            Ok(()) => session.ask(now, x, Hook::NewCall(Box::new(call))),
            Err(error) => {
                x.count(Counter::BadOffer);
                session.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                session.release(now, x, "rejected", refuse(488));
            }
        }
        session
    }

    pub fn handle(&mut self, now: Time, input: SessionInput, x: &mut Exchange) {
        match input {
            SessionInput::Sip(event) => self.on_sip(now, x, event),
            SessionInput::Media(event) => self.on_media(now, x, event),
            SessionInput::MediaRefused => self.on_media_refused(now, x),
            SessionInput::Verdict { number, verdict } => {
                if self.asked.as_ref().is_some_and(|a| a.number == number) {
                    self.on_verdict(now, x, verdict);
                }
            }
            SessionInput::Prepared { number, clips } => self.ivr.on_prepared(now, number, clips, &mut x.mint),
            SessionInput::Recorded(report) => self.on_recorded(now, x, &report),
            SessionInput::Command { id, command } => {
                let result = self.on_command(now, x, &command);
                x.emit(Output::Reply { id, result });
            }
            SessionInput::Timeout => self.on_timeout(now, x),
        }
        self.settle(now, x);
    }

    pub fn next_timeout(&self) -> Option<Time> {
        if self.phase == Phase::Over {
            return None;
        }
        if self.end.is_some() {
            return [self.give_up, self.close_again].into_iter().flatten().min();
        }
        let guard = self.asked.as_ref().map(|a| a.guard);
        [guard, self.ivr.next_timeout(), self.give_up].into_iter().flatten().min()
    }

    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub fn session_id(&self) -> &str {
        &self.info.session_id
    }

    pub fn domain(&self) -> &Arc<str> {
        &self.tenant.domain
    }

    pub fn dialog(&self) -> hookswitch_proto::sip::DialogId {
        self.caller.dialog
    }

    /// What follows from the input inside the session: effects of the IVR and verdicts of the rules, until nothing is left.
    pub fn settle(&mut self, now: Time, x: &mut Exchange) {
        loop {
            while let Some(effect) = self.ivr.poll() {
                self.on_effect(now, x, effect);
            }
            match self.ruled.take() {
                Some(verdict) if self.asked.is_some() => self.on_verdict(now, x, verdict),
                Some(_) => {}
                None => break,
            }
        }
        self.complete(x);
    }

    // ---------------------------------------------------------------------------------------- hooks and news

    fn ask(&mut self, now: Time, x: &mut Exchange, hook: Hook) {
        if self.asked.is_some() {
            if self.waiting.len() >= limits::MAILBOX {
                return x.count(Counter::NotificationDropped);
            }
            return self.waiting.push_back(Waiting::Hook(hook));
        }
        self.asks = self.asks.wrapping_add(1);
        let mut hook = hook;
        *hook.info_mut() = self.info.clone();
        let deadline = match hook {
            Hook::GetIvrCommand(_) => limits::IVR_DEADLINE,
            Hook::NewCall(_) | Hook::CallEvent(_) => limits::DECISION_DEADLINE,
        };
        let ask = Ask { id: AskId { session: self.id, number: self.asks }, domain: self.tenant.domain.clone(), hook, deadline };
        self.asked = Some(Asked { number: self.asks, hook: ask.hook.clone(), guard: now + deadline + limits::ASK_GRACE });
        match &mut self.rules {
            Some(rules) => self.ruled = Some(rules.answer(&ask)),
            None => x.emit(Output::Ask(Box::new(ask))),
        }
    }

    /// News never overlap a running hook: they wait for it, up to the mailbox's size.
    fn notify(&mut self, x: &mut Exchange, notification: Notification) {
        let notification = Box::new(notification);
        if self.asked.is_none() || self.rules.is_some() {
            self.send(x, notification);
        } else if self.waiting.len() < limits::MAILBOX {
            self.waiting.push_back(Waiting::News(notification));
        } else {
            x.count(Counter::NotificationDropped);
        }
    }

    fn send(&self, x: &mut Exchange, notification: Box<Notification>) {
        x.emit(Output::Notify { session: self.id, domain: self.tenant.domain.clone(), notification });
    }

    /// The running hook is answered: what waited goes out, up to the next hook.
    fn release_waiting(&mut self, now: Time, x: &mut Exchange) {
        while self.asked.is_none() {
            match self.waiting.pop_front() {
                Some(Waiting::News(notification)) => self.send(x, notification),
                Some(Waiting::Hook(hook)) => self.ask(now, x, hook),
                None => return,
            }
        }
    }

    fn alarm(&mut self, now: Time, x: &mut Exchange, kind: AlarmKind, error: &str, details: Option<String>) {
        let Some(held_back) = x.alarms.pass(now, &self.tenant.domain, kind, error) else {
            return x.count(Counter::AlarmSuppressed);
        };
        let details = match (details, held_back) {
            (details, 0) => details,
            (None, n) => Some(format!("{n} equal alarms were held back")),
            (Some(details), n) => Some(format!("{details} ({n} equal alarms were held back)")),
        };
        let text = format!("alarm {} {error}{}", kind.name(), details.as_ref().map(|d| format!(": {d}")).unwrap_or_default());
        x.log(Level::Warn, Some(&self.info.session_id), text);
        let alarm = Alarm { info: self.info.clone(), kind, error: error.to_owned(), details };
        self.notify(x, Notification::Alarm(alarm));
    }

    fn on_verdict(&mut self, now: Time, x: &mut Exchange, verdict: Result<Verdict, HookFailure>) {
        let Some(Asked { hook, .. }) = self.asked.take() else { return };
        let name = hook.name();
        if let Err(failure) = &verdict {
            self.hook_failed(x, name, failure);
        }
        match (hook, verdict) {
            (Hook::NewCall(call), Ok(Verdict::Routing(routing))) => match self.take_reference(&routing) {
                Ok(()) => self.on_routing(now, x, routing, RoutingHook::NewCall),
                Err(failure) => self.on_bad_answer(now, x, *call, failure),
            },
            (Hook::NewCall(call), Ok(Verdict::Ivr(_))) => {
                self.on_bad_answer(now, x, *call, nonsense("verdict", "an IVR command is no answer to newCall"));
            }
            (Hook::NewCall(call), Err(failure)) => self.new_call_failed(now, x, *call, &failure),
            (Hook::GetIvrCommand(_), Ok(Verdict::Ivr(command))) => self.on_ivr_command(now, x, *command),
            (Hook::GetIvrCommand(_), Ok(Verdict::Routing(_))) => {
                let failure = nonsense("verdict", "a routing is no answer to getIvrCommand");
                self.hook_failed(x, name, &failure);
                self.ivr_failed(now, x, &failure);
            }
            (Hook::GetIvrCommand(_), Err(failure)) => self.ivr_failed(now, x, &failure),
            // No second party exists yet whose end would be asked about.
            (Hook::CallEvent(_), _) => {}
        }
        self.release_waiting(now, x);
    }

    fn hook_failed(&mut self, x: &mut Exchange, name: &str, failure: &HookFailure) {
        x.count(Counter::HookFailed);
        x.log(Level::Warn, Some(&self.info.session_id), format!("{name} failed: {}", alarm::failure_details(failure)));
        if failure.lost_instance() {
            self.info.restarted = true;
        }
    }

    /// An answer replaces the stored reference (IC-187, IC-228), unless it is too large (IC-012).
    fn store_reference(&mut self, reference: Option<&String>) -> Result<(), HookFailure> {
        match reference {
            Some(text) if text.len() > limits::SESSION_REFERENCE => Err(nonsense("sessionReferenceId", "larger than 4 KiB")),
            Some(text) => {
                self.info.session_reference = Some(text.clone());
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn take_reference(&mut self, routing: &Routing) -> Result<(), HookFailure> {
        self.store_reference(match routing {
            Routing::Drop { session_reference, .. }
            | Routing::Ivr { session_reference }
            | Routing::Join { session_reference, .. }
            | Routing::HttpCall { session_reference, .. }
            | Routing::Redirect { session_reference, .. } => session_reference.as_ref(),
            Routing::Call(call) => call.session_reference.as_ref(),
            Routing::Ext { .. } => None,
        })
    }

    // ---------------------------------------------------------------------------------------- deciding

    fn on_bad_answer(&mut self, now: Time, x: &mut Exchange, call: NewCall, failure: HookFailure) {
        self.hook_failed(x, "newCall", &failure);
        self.new_call_failed(now, x, call, &failure);
    }

    fn new_call_failed(&mut self, now: Time, x: &mut Exchange, call: NewCall, failure: &HookFailure) {
        let details = Some(alarm::failure_details(failure));
        self.alarm(now, x, AlarmKind::NewCallEventError, RoutingHook::NewCall.failed(failure), details);
        if failure.lost_instance() && !std::mem::replace(&mut self.restarted_once, true) {
            x.count(Counter::HookRestarted);
            return self.ask(now, x, Hook::NewCall(Box::new(call)));
        }
        self.fall_back(now, x);
    }

    /// The handler failed for good (IC-293, IC-294).
    fn fall_back(&mut self, now: Time, x: &mut Exchange) {
        x.count(Counter::FallbackUsed);
        match self.tenant.fallback.clone() {
            Fallback::Refuse { status } => {
                let status = if (400..=699).contains(&status) { status } else { 503 };
                self.release(now, x, "serverError", refuse(status));
            }
            Fallback::Announce { phrases } => {
                self.alarm(now, x, AlarmKind::EmergencyFallback, alarm::TRIGGERED_BY_ERROR, None);
                self.rules = Some(Announce::new(phrases));
                // The rules' own answer to newCall is always the IVR.
                self.open(now, x);
            }
        }
    }

    /// What to do with the party. The one place where a new action is served.
    fn on_routing(&mut self, now: Time, x: &mut Exchange, routing: Routing, by: RoutingHook) {
        match routing {
            Routing::Drop { drop_code, .. } => {
                let code = DropCode::parse(drop_code.as_deref()).unwrap_or_else(|default| {
                    x.log(Level::Warn, Some(&self.info.session_id), "unknown dropCode: decline is used".into());
                    default
                });
                let reason = if self.caller.answered { "ivrHangup" } else { "rejected" };
                let how = Release::Refuse { status: code.status, headers: Vec::new(), reason: code.reason() };
                self.release(now, x, reason, how);
            }
            Routing::Ivr { .. } if self.caller.answered => self.ivr.start(),
            Routing::Ivr { .. } => self.open(now, x),
            Routing::Redirect { status, contacts, .. } if !self.caller.answered => self.redirect(now, x, status, &contacts),
            #[cfg(test)]
            Routing::Ext { name, .. } if name == "panic" => panic!("a test wants to see a session panic"),
            Routing::Ext { name, .. } if name.is_empty() => {
                self.no_such_action(now, x, by, by.missing_action(), "");
            }
            Routing::Ext { name, .. } => self.no_such_action(now, x, by, by.unknown_action(), &name),
            Routing::Redirect { .. } => self.no_such_action(now, x, by, by.unknown_action(), "redirect"),
            Routing::Call(_) => self.no_such_action(now, x, by, by.unknown_action(), "call"),
            Routing::Join { .. } => self.no_such_action(now, x, by, by.unknown_action(), "join"),
            Routing::HttpCall { .. } => self.no_such_action(now, x, by, by.unknown_action(), "httpcall"),
        }
    }

    /// IC-164, IC-165: alarm, then fallback or drop.
    fn no_such_action(&mut self, now: Time, x: &mut Exchange, by: RoutingHook, error: &str, name: &str) {
        let details = (!name.is_empty()).then(|| format!("action {}", alarm::printable(name, 64)));
        self.alarm(now, x, by.kind(), error, details);
        if self.caller.answered {
            self.release(now, x, "serverError", Release::Refuse { status: 500, headers: Vec::new(), reason: normal() });
        } else {
            self.fall_back(now, x);
        }
    }

    /// IC-299.
    fn redirect(&mut self, now: Time, x: &mut Exchange, status: u16, contacts: &[String]) {
        let bad = contacts.iter().find(|c| c.len() > limits::SIP_TEXT || c.contains(['<', '>', '"']) || Uri::parse(c).is_none());
        let problem = match bad {
            Some(contact) => Some(alarm::invalid_sip_address(contact)),
            None if contacts.is_empty() || contacts.len() > limits::CONTACTS => Some(alarm::invalid_sip_address("")),
            None if !(300..=302).contains(&status) => Some(alarm::NEW_CALL_FAILED.to_owned()),
            None => None,
        };
        if let Some(error) = problem {
            self.alarm(now, x, AlarmKind::NewCallEventError, &error, Some(format!("redirect {status}, {} contacts", contacts.len())));
            return self.fall_back(now, x);
        }
        let headers = contacts.iter().map(|c| Header { name: "Contact".into(), value: format!("<{c}>") }).collect();
        self.release(now, x, "rejected", Release::Refuse { status, headers, reason: normal() });
    }

    // ---------------------------------------------------------------------------------------- opening, answered

    fn open(&mut self, now: Time, x: &mut Exchange) {
        if self.phase != Phase::Deciding {
            return;
        }
        self.phase = Phase::Opening;
        let leg = x.mint.leg();
        let config = self.caller.leg_config(&x.settings, &mut x.mint.random);
        self.caller.leg = LegState::Opening(leg);
        x.legs.insert(leg, self.id);
        // A media thread that does not answer must not keep the caller waiting.
        self.give_up = Some(now + limits::DECISION_DEADLINE);
        self.media(x, MediaCmd::Open { leg, config: Box::new(config) });
    }

    fn on_opened(&mut self, now: Time, x: &mut Exchange, leg: LegId, local: std::net::SocketAddr) {
        if self.caller.leg != LegState::Opening(leg) {
            return;
        }
        self.caller.leg = LegState::Open(leg, local);
        let Some(sdp) = self.caller.describe(&x.settings) else { return };
        if x.endpoint.answer(now, self.caller.dialog, &[], sdp).is_err() {
            // The dialog is gone: its `Gone` is on the way and ends the session.
            return;
        }
        self.phase = Phase::Answered;
        self.caller.answered = true;
        self.answered_at = Some(now);
        self.give_up = Some(self.started + x.settings.session_duration);
        x.count(Counter::CallsAnswered);
    }

    fn on_open_failed(&mut self, now: Time, x: &mut Exchange, why: &str) {
        self.leg_gone(x);
        self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, Some(alarm::printable(why, 256)));
        self.release(now, x, "serverError", refuse(503));
    }

    fn on_confirmed(&mut self, now: Time, x: &mut Exchange, sdp: Option<&[u8]>) {
        if self.caller.offered {
            match self.caller.accept(sdp) {
                Ok(()) => self.update_leg(x),
                Err(error) => {
                    x.count(Counter::BadOffer);
                    self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                    return self.release(now, x, "serverError", bye(normal()));
                }
            }
        }
        if self.phase == Phase::Answered {
            self.phase = Phase::Ivr;
            let answered = Notification::CallAnswered {
                info: self.info.clone(),
                connection_id: self.connection_id.clone(),
                caller_participant_id: self.caller.id.clone(),
                callee_participant_id: x.mint.uuid(),
                calling_party_number: self.caller.user.clone(),
                remote_party_number: self.called.clone(),
                calling_party_expires: x.endpoint.session_expires(self.caller.dialog).and_then(|d| u32::try_from(d.as_secs()).ok()),
                called_party_expires: None,
                reply_to: ReplyTo::Connection,
            };
            self.notify(x, answered);
            self.ivr.start();
        }
    }

    // ---------------------------------------------------------------------------------------- IVR

    fn on_ivr_command(&mut self, now: Time, x: &mut Exchange, command: IvrCommand) {
        let reference = self.store_reference(command.session_reference.as_ref());
        let left = limits::RECORDINGS.saturating_sub(self.recordings.len());
        if let Err(failure) = reference.and_then(|()| self.ivr.on_command(now, command, &mut x.mint, left)) {
            self.hook_failed(x, "getIvrCommand", &failure);
            self.ivr_failed(now, x, &failure);
        }
    }

    fn ivr_failed(&mut self, now: Time, x: &mut Exchange, failure: &HookFailure) {
        let may_restart = !self.restarted_once;
        let again = self.ivr.on_failure(now, failure, may_restart, self.tenant.error_prompt.as_deref(), &mut x.mint);
        if again && failure.lost_instance() {
            self.restarted_once = true;
            x.count(Counter::HookRestarted);
        }
    }

    fn on_effect(&mut self, now: Time, x: &mut Exchange, effect: Effect) {
        match effect {
            Effect::Ask { dtmf_buffer, dtmf, recording } => {
                let request = IvrRequest {
                    info: self.info.clone(),
                    participant_id: self.caller.id.clone(),
                    reply_to: ReplyTo::IvrCommand(self.asks),
                    dtmf_buffer,
                    dtmf,
                    recording,
                };
                self.ask(now, x, Hook::GetIvrCommand(Box::new(request)));
            }
            Effect::Prepare { number, sources } => {
                let domain = self.tenant.domain.clone();
                x.emit(Output::Prepare(Box::new(Prepare { session: self.id, number, domain, sources })));
            }
            Effect::StartRecording { recording, recording_id, file_name, callback } => {
                self.recordings.push(Recording { id: recording, recording_id: recording_id.clone(), callback, closed: false });
                x.emit(Output::StartRecording(Box::new(RecordingStart {
                    recording,
                    recording_id,
                    session: self.id,
                    session_id: self.info.session_id.clone(),
                    domain: self.tenant.domain.clone(),
                    participant_id: self.caller.id.clone(),
                    caller: self.caller.user.clone(),
                    called: self.called.clone(),
                    connection_id: None,
                    file_name,
                    stereo: false,
                })));
            }
            Effect::DropRecording(recording) => self.drop_recording(x, recording),
            Effect::Play { play, segments, barge_in } => {
                if let Some(leg) = self.caller.open_leg() {
                    self.media(x, MediaCmd::Play { leg, play, segments, barge_in });
                }
            }
            Effect::StopPlay => {
                if let Some(leg) = self.caller.open_leg() {
                    self.media(x, MediaCmd::StopPlay { leg });
                }
            }
            Effect::StopRecording(recording, reason) => {
                if let Some(leg) = self.caller.open_leg() {
                    self.media(x, MediaCmd::StopRecording { leg, recording, reason });
                }
            }
            Effect::Alarm { error, details } => self.alarm(now, x, AlarmKind::IvrCommandError, error, Some(details)),
            Effect::Count(counter) => x.count(counter),
            Effect::Hangup { reason } => {
                let reason = if self.rules.is_some() { "fallback" } else { reason };
                self.release(now, x, reason, bye(normal()));
            }
            Effect::Route(routing) => match self.take_reference(&routing) {
                Ok(()) => self.on_routing(now, x, *routing, RoutingHook::CallEvent),
                Err(failure) => {
                    let details = alarm::failure_details(&failure);
                    self.alarm(now, x, AlarmKind::IvrCommandError, alarm::IVR_COMMAND_FAILED, Some(details));
                    self.release(now, x, "serverError", bye(normal()));
                }
            },
        }
    }

    fn drop_recording(&mut self, x: &mut Exchange, recording: RecordingId) {
        if let Some(i) = self.recordings.iter().position(|r| r.id == recording && !r.closed) {
            self.recordings.remove(i);
            x.emit(Output::DropRecording { recording });
        }
    }

    fn on_recorded(&mut self, now: Time, x: &mut Exchange, report: &RecordingReport) {
        let Some(i) = self.recordings.iter().position(|r| r.id == report.recording) else { return };
        let recording = self.recordings.remove(i);
        // IC-258: news only where the command asked for them; a loss is always told.
        if recording.callback {
            self.notify(x, recording_ready(self.info.clone(), report));
        } else if let Err(why) = &report.outcome {
            let details = format!("recording {}: {}", recording.recording_id, alarm::printable(why, 256));
            self.alarm(now, x, AlarmKind::IvrCommandError, alarm::MEDIA_SERVER_ERROR, Some(details));
        }
    }

    // ---------------------------------------------------------------------------------------- SIP

    fn on_sip(&mut self, now: Time, x: &mut Exchange, event: SipEvent) {
        match event {
            SipEvent::Confirmed { sdp, .. } => self.on_confirmed(now, x, sdp.as_deref()),
            SipEvent::Offer { method, sdp, .. } => self.on_offer(now, x, &method, sdp.as_deref()),
            SipEvent::Info { request, .. } => {
                if self.phase == Phase::Ivr
                    && self.caller.takes_info_digits()
                    && let Some(digit) = info_digit(&request)
                {
                    self.ivr.on_digit(now, digit, false, true);
                }
            }
            SipEvent::Gone { cause, at, .. } => self.on_gone(now, x, cause, at),
            // Not of an incoming call, or not of a dialog.
            SipEvent::Invite { .. }
            | SipEvent::Progress { .. }
            | SipEvent::Answered { .. }
            | SipEvent::OfferAnswered { .. }
            | SipEvent::Refused { .. } => {}
        }
    }

    /// A re-INVITE or UPDATE: answered, then told (IC-106, IC-107). What cannot be used is refused and changes nothing.
    fn on_offer(&mut self, now: Time, x: &mut Exchange, method: &Method, sdp: Option<&[u8]>) {
        let dialog = self.caller.dialog;
        let usable = self.caller.open_leg().is_some() && !self.caller.offered && self.caller.answered && self.end.is_none();
        let accepted = match sdp {
            None if *method == Method::Update => x.endpoint.accept_offer(now, dialog, None),
            // RFC 3261 14.2, RFC 3311 5.2: another negotiation is under way.
            _ if !usable => return ignore_late(x.endpoint.refuse_offer(now, dialog, 491)),
            None => {
                let offer = self.caller.describe(&x.settings);
                x.endpoint.accept_offer(now, dialog, offer)
            }
            Some(body) => match self.caller.renegotiate(body, &x.settings) {
                Ok(answer) => {
                    self.update_leg(x);
                    x.endpoint.accept_offer(now, dialog, Some(answer))
                }
                Err(error) => {
                    x.count(Counter::BadOffer);
                    ignore_late(x.endpoint.refuse_offer(now, dialog, 488));
                    return self.alarm(now, x, AlarmKind::CallError, alarm::INVALID_SDP, Some(sdp_details(&error)));
                }
            },
        };
        if accepted.is_ok() && self.end.is_none() {
            let event = if *method == Method::Update { "update" } else { "reInvite" };
            let notify = Notification::CallNotify {
                info: self.info.clone(),
                event,
                participant_id: self.caller.id.clone(),
                user: self.caller.user.clone(),
                remote_participant_id: None,
                remote_user: None,
                sip_call_id: self.caller.sip_call_id.clone(),
                reply_to: ReplyTo::Participant,
            };
            self.notify(x, notify);
        }
    }

    fn update_leg(&mut self, x: &mut Exchange) {
        if let (Some(leg), Some(negotiated)) = (self.caller.open_leg(), self.caller.negotiated.clone()) {
            self.media(x, MediaCmd::Update { leg, negotiated: Box::new(negotiated) });
        }
    }

    fn on_gone(&mut self, now: Time, x: &mut Exchange, cause: Cause, at: Time) {
        self.caller.dialog_gone = true;
        let reason = match &cause {
            Cause::Bye { .. } => "callingPartyHangup",
            Cause::Cancelled => "canceled",
            Cause::SessionExpired => "sessionExpired",
            Cause::NoAck | Cause::Local | Cause::Failed { .. } | Cause::CancelFailed => "serverError",
        };
        if self.end.is_some() {
            return;
        }
        match cause {
            Cause::SessionExpired => self.alarm(now, x, AlarmKind::CallError, alarm::SESSION_EXPIRED, None),
            Cause::NoAck => x.log(Level::Warn, Some(&self.info.session_id), "the caller never acknowledged our 200".into()),
            _ => {}
        }
        self.release(now, x, reason, Release::Done);
        if let Some(end) = &mut self.end {
            end.at = at.max(self.started);
        }
    }

    // ---------------------------------------------------------------------------------------- media

    fn media(&self, x: &mut Exchange, command: MediaCmd) {
        x.emit(Output::Media { session: self.id, command });
    }

    fn on_media(&mut self, now: Time, x: &mut Exchange, event: MediaEvent) {
        let MediaEvent { leg, at, what } = event;
        if self.caller.leg_id() != Some(leg) {
            return;
        }
        match what {
            MediaKind::Opened { local } => self.on_opened(now, x, leg, local),
            MediaKind::OpenFailed { why } if self.end.is_none() => self.on_open_failed(now, x, &why),
            MediaKind::OpenFailed { .. } => self.leg_gone(x),
            MediaKind::SegmentEnded { play, index, .. } => self.ivr.on_segment_ended(play, index),
            MediaKind::QueueEnded { play, how } => self.ivr.on_queue_ended(play, at, how),
            MediaKind::Digit { digit, consumed, .. } => self.ivr.on_digit(at, digit, consumed, false),
            // No tap could be opened: no block of it will ever come.
            MediaKind::RecordingClosed { recording, reason: reason @ StopReason::Overload, totals } if totals.expected == 0 => {
                self.drop_recording(x, recording);
                self.alarm(now, x, AlarmKind::IvrCommandError, alarm::MEDIA_SERVER_ERROR, Some("no recording could be begun".into()));
                self.ivr.on_recording_closed(recording, reason, totals);
            }
            MediaKind::RecordingClosed { recording, reason, totals } => {
                if let Some(r) = self.recordings.iter_mut().find(|r| r.id == recording) {
                    r.closed = true;
                }
                self.ivr.on_recording_closed(recording, reason, totals);
            }
            MediaKind::RtpTimeout if self.end.is_none() => {
                self.alarm(now, x, AlarmKind::CallError, alarm::RTP_MEDIA_TIMEOUT, None);
                // IC-282.
                self.release(now, x, "rtpTimeout", bye(drop_code::reason(41, "Temporary failure")));
            }
            MediaKind::Closed { stats } => {
                self.caller.stats = *stats;
                self.leg_gone(x);
                if self.end.is_none() {
                    self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, Some("the leg ended by itself".into()));
                    self.release(now, x, "serverError", bye(normal()));
                }
            }
            MediaKind::RtpTimeout | MediaKind::DigitUp { .. } | MediaKind::Voice { .. } | MediaKind::Flowing { .. } => {}
        }
    }

    /// The media thread's ring was full. A call whose play or record was lost cannot go on as if it were not.
    fn on_media_refused(&mut self, now: Time, x: &mut Exchange) {
        match self.caller.leg {
            LegState::Opening(leg) => {
                // Nothing but `Open` can have been refused; should it have got through, this ends it.
                self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
                self.on_open_failed(now, x, "media command ring is full");
            }
            LegState::Open(..) => {
                let why = Some("media command ring is full".to_owned());
                self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, why);
                self.release(now, x, "serverError", bye(normal()));
            }
            LegState::Closing(_) => self.close_again = Some(now + limits::CLOSE_RETRY),
            LegState::None | LegState::Gone => {}
        }
    }

    fn leg_gone(&mut self, x: &mut Exchange) {
        if let Some(leg) = self.caller.leg_id() {
            x.legs.remove(&leg);
        }
        self.caller.leg = LegState::Gone;
        self.close_again = None;
        // What was announced and did not close by now never began.
        let never: Vec<RecordingId> = self.recordings.iter().filter(|r| !r.closed).map(|r| r.id).collect();
        never.into_iter().for_each(|recording| self.drop_recording(x, recording));
    }

    // ---------------------------------------------------------------------------------------- commands

    fn on_command(&mut self, now: Time, x: &mut Exchange, command: &Command) -> CommandResult {
        match command {
            Command::HangupParticipant { participant_id, .. } => {
                self.find(participant_id)?;
                if self.end.is_none() {
                    self.release(now, x, "apiHangup", Release::Refuse { status: 603, headers: Vec::new(), reason: normal() });
                }
                Ok(Done::Nothing)
            }
            Command::InterruptIvrCommand { .. } => self.ivr.interrupt(now).map(|()| Done::Nothing),
            Command::StopRecording { which, .. } => {
                let recording_id = match which {
                    WhichRecording::Id(id) => Some(id),
                    _ => None,
                };
                let Some((recording, active_id)) = self.ivr.active_recording() else {
                    return Err(CommandError::WrongState("no recording is running"));
                };
                if recording_id.is_some_and(|id| id != active_id) {
                    return Err(CommandError::Unknown("recording"));
                }
                self.ivr.stop_recording(recording);
                Ok(Done::Nothing)
            }
            Command::SendDtmf { participant_id, digits, .. } => {
                self.find(participant_id)?;
                let bad = |why: &str| CommandError::BadValue { field: "digits", why: why.into() };
                if digits.is_empty() || digits.len() > hookswitch_proto::limits::DIGITS {
                    return Err(bad("1 to 64 are possible"));
                }
                if DigitSet::parse(digits).is_none() {
                    return Err(bad("0-9, *, # and A-D are possible"));
                }
                let leg = self.caller.open_leg().filter(|_| self.phase == Phase::Ivr && self.end.is_none());
                let leg = leg.ok_or(CommandError::WrongState("the participant is not connected"))?;
                if self.caller.takes_info_digits() {
                    return Err(CommandError::WrongState("the participant takes no telephone events"));
                }
                for digit in digits.chars() {
                    let digit = digit.to_ascii_uppercase();
                    self.media(x, MediaCmd::SendDigit { leg, digit, duration: limits::DIGIT_DURATION });
                }
                Ok(Done::Nothing)
            }
            _ => Err(CommandError::WrongState("not yet")),
        }
    }

    fn find(&self, participant_id: &str) -> Result<(), CommandError> {
        if self.caller.id == participant_id { Ok(()) } else { Err(CommandError::Unknown("participant")) }
    }

    // ---------------------------------------------------------------------------------------- time

    fn on_timeout(&mut self, now: Time, x: &mut Exchange) {
        if self.close_again.is_some_and(|t| t <= now) {
            self.close_again = None;
            if let LegState::Closing(leg) = self.caller.leg {
                self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
            }
        }
        if self.give_up.is_some_and(|t| t <= now) {
            self.give_up = None;
            return self.on_give_up(now, x);
        }
        if self.end.is_some() {
            return;
        }
        if self.asked.as_ref().is_some_and(|a| a.guard <= now) {
            self.on_verdict(now, x, Err(HookFailure::Deadline));
        }
        self.ivr.on_timeout(now);
    }

    /// `give_up` guards each phase: the leg that does not open, the longest session, the release that does not end.
    fn on_give_up(&mut self, now: Time, x: &mut Exchange) {
        match self.phase {
            Phase::Opening => {
                let why = Some("the leg does not open".to_owned());
                self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, why);
                self.release(now, x, "serverError", refuse(503));
            }
            Phase::Releasing => {
                x.log(Level::Warn, Some(&self.info.session_id), "dropped: its dialog or leg did not end".into());
                self.caller.dialog_gone = true;
                self.leg_gone(x);
            }
            Phase::Deciding | Phase::Answered | Phase::Ivr => {
                self.alarm(now, x, AlarmKind::SessionError, alarm::MAX_DURATION, None);
                let reason = drop_code::reason(102, "Recovery on timer expiry");
                self.release(now, x, "maxDuration", Release::Refuse { status: 480, headers: Vec::new(), reason });
            }
            Phase::Over => {}
        }
    }

    // ---------------------------------------------------------------------------------------- release

    /// The one way out: everything of the session is told to end, once.
    fn release(&mut self, now: Time, x: &mut Exchange, reason: &'static str, how: Release) {
        if self.end.is_some() {
            return;
        }
        self.ivr.stop();
        self.asked = None;
        self.ruled = None;
        while let Some(waiting) = self.waiting.pop_front() {
            if let Waiting::News(notification) = waiting {
                self.send(x, notification);
            }
        }
        let status = match &how {
            _ if self.caller.answered => 200,
            Release::Refuse { status, .. } => *status,
            Release::Done => 487,
        };
        let stop = match reason {
            "callingPartyHangup" => StopReason::RemoteHangup,
            "rtpTimeout" => StopReason::MediaTimeout,
            _ => StopReason::ApiStop,
        };
        if let LegState::Opening(leg) | LegState::Open(leg, _) = self.caller.leg {
            self.caller.leg = LegState::Closing(leg);
            self.media(x, MediaCmd::Close { leg, reason: stop });
        }
        if let Release::Refuse { status, headers, reason } = how
            && !self.caller.dialog_gone
        {
            self.end_dialog(now, x, status, &headers, reason);
        }
        self.end = Some(End { reason, at: now, status });
        self.phase = Phase::Releasing;
        self.give_up = Some(now + limits::RELEASE);
    }

    fn end_dialog(&mut self, now: Time, x: &mut Exchange, status: u16, headers: &[Header], reason: String) {
        let dialog = self.caller.dialog;
        if self.caller.answered {
            let headers = [Header { name: "Reason".into(), value: reason }];
            return ignore_late(x.endpoint.bye(now, dialog, &headers));
        }
        x.count(Counter::CallsRefused);
        if x.endpoint.reject(now, dialog, status, None, headers).is_err() {
            // A contact that no header can carry; or the dialog is gone, and then this is as void.
            ignore_late(x.endpoint.reject(now, dialog, 500, None, &[]));
        }
    }

    /// The last thing a session does, once its dialog and leg are gone.
    fn complete(&mut self, x: &mut Exchange) {
        let leg_done = matches!(self.caller.leg, LegState::None | LegState::Gone);
        let Some(end) = self.end.filter(|_| self.phase == Phase::Releasing && self.caller.dialog_gone && leg_done) else { return };
        self.phase = Phase::Over;
        let duration = end.at.since(self.started);
        for recording in std::mem::take(&mut self.recordings) {
            let Recording { id, recording_id, callback, .. } = recording;
            let (domain, info) = (self.tenant.domain.clone(), self.info.clone());
            x.remember(id, Late { domain, info, recording_id, callback });
        }
        self.send(x, Box::new(Notification::SessionCompleted { info: self.info.clone(), duration, reason: end.reason }));
        x.emit(Output::EndGuest { session: self.id });
        x.emit(Output::Completed(Box::new(CallRecord {
            session_id: self.info.session_id.clone(),
            domain: self.tenant.domain.clone(),
            caller: self.caller.user.clone(),
            called: self.called.clone(),
            started: self.started_wall,
            answered_after: self.answered_at.map(|t| t.since(self.started)),
            duration,
            reason: end.reason,
            final_status: end.status,
            media: self.caller.stats,
        })));
        x.count(Counter::CallsCompleted);
    }

    /// After a panic inside: this call ends, whatever state it is in, and nothing of it stays (the switch forgets it next).
    pub fn abort(&mut self, now: Time, x: &mut Exchange) {
        let status = if self.caller.answered { 200 } else { 500 };
        if let Some(leg) = self.caller.leg_id() {
            self.media(x, MediaCmd::Close { leg, reason: StopReason::ApiStop });
            x.legs.remove(&leg);
        }
        self.caller.leg = LegState::Gone;
        if !self.caller.dialog_gone {
            self.end_dialog(now, x, 500, &[], drop_code::reason(41, "Temporary failure"));
            self.caller.dialog_gone = true;
        }
        self.end.get_or_insert(End { reason: "serverError", at: now, status });
        self.phase = Phase::Releasing;
        self.complete(x);
    }
}

/// IC-265 to IC-272.
pub(crate) fn recording_ready(info: SessionInfo, report: &RecordingReport) -> Notification {
    Notification::RecordingReady {
        info,
        successful: report.outcome.is_ok(),
        reason: report.outcome.as_ref().err().map(|why| alarm::printable(why, 256)),
        connection_id: None,
        recording_id: report.recording_id.clone(),
        file_name: report.file_name.clone(),
        file_size: report.outcome.as_ref().copied().unwrap_or(0),
        details: report.details.clone(),
    }
}

fn nonsense(field: &str, why: &str) -> HookFailure {
    HookFailure::Nonsense { field: field.into(), why: why.into() }
}

fn normal() -> String {
    drop_code::reason(16, "Normal call clearing")
}

fn refuse(status: u16) -> Release {
    Release::Refuse { status, headers: Vec::new(), reason: normal() }
}

fn bye(reason: String) -> Release {
    Release::Refuse { status: 500, headers: Vec::new(), reason }
}

/// The endpoint refuses what comes too late; a `Gone` tells the rest.
fn ignore_late(_result: Result<(), hookswitch_proto::sip::CommandError>) {}
