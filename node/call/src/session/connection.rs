//! Who hears whom (SM-006, SM-007): a connection joins two parties, or a party and the IVR. Here they are connected and separated,
//! and here it is decided what follows for one party when the other leaves.

use super::greetings::Greetings;
use super::monitor::Monitor;
use super::*;
use crate::alarm::RoutingHook;
use crate::door::PromptSource;
use crate::hook::{CallEvent, CallEventKind};
use crate::participant::Phase;
use crate::recording::RecordingOptions;
use hookswitch_proto::media::Direction;
use hookswitch_proto::sip::Header;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Party(PartyKey),
    /// The IVR's pseudo-participant (IC-101).
    Ivr {
        id: String,
        user: String,
    },
    /// A device: no leg and no dialog is on its side, its media goes past us.
    Device {
        id: String,
        user: String,
    },
}

/// What the waiting party hears (IC-171).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ringback {
    /// 180 without media while it is unanswered, else a ringing tone.
    Standard,
    Silence,
    /// What the callee sends before it answers.
    Early,
    /// In a loop.
    Prompt(PromptSource),
}

#[derive(Debug)]
pub(super) struct Connection {
    /// UUID; known to the handler from the first failure on (IC-149).
    pub id: String,
    pub caller: End,
    pub called: End,
    /// Both ends are up, and the handler was told so.
    pub connected: bool,
    /// The legs hear each other.
    pub bridged: bool,
    /// Record so from the moment it is connected (IC-167, IC-168).
    pub record: Option<Box<RecordingOptions>>,
    pub ringback: Ringback,
    /// Of those that are not over yet; before them nobody hears the other.
    pub greetings: Option<Box<Greetings>>,
    /// The preparation of the ringback that plays.
    pub ringback_prepare: Option<u32>,
    pub monitor: Option<Monitor>,
}

impl Connection {
    pub fn has(&self, key: PartyKey) -> bool {
        self.caller == End::Party(key) || self.called == End::Party(key)
    }

    pub fn parties(&self) -> Option<(PartyKey, PartyKey)> {
        match (&self.caller, &self.called) {
            (End::Party(caller), End::Party(called)) => Some((*caller, *called)),
            _ => None,
        }
    }

    /// Both are there, and at least one of them is being told something.
    pub fn is_greeted(&self) -> bool {
        self.greetings.as_ref().is_some_and(|g| g.begun)
    }

    /// The device at one end: its pseudo-participant's id and user.
    pub fn device(&self) -> Option<(&str, &str)> {
        match (&self.caller, &self.called) {
            (End::Device { id, user }, _) | (_, End::Device { id, user }) => Some((id, user)),
            _ => None,
        }
    }

    /// Whose leg feeds a recording of it: what that party says is the left side.
    pub fn tapped(&self) -> Option<PartyKey> {
        match (&self.caller, &self.called) {
            (End::Party(key), _) | (_, End::Party(key)) => Some(*key),
            _ => None,
        }
    }
}

/// How and why a party leaves.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    pub at: Time,
    /// One of IC-204.
    pub reason: &'static str,
    /// What happened before tells why the session ends; this only follows from it.
    pub keep_reason: bool,
    /// To an INVITE that is unanswered.
    pub status: u16,
    pub headers: Vec<Header>,
    /// Reason of the BYE to one that is answered.
    pub q850: String,
    pub stop: StopReason,
    /// It failed rather than hung up.
    pub failed: bool,
    /// What the handler hears of it (IC-155).
    pub sip_code: Option<u16>,
    pub text: Option<String>,
    pub cause: Option<u16>,
}

impl Leave {
    /// By us: this status where its INVITE is unanswered, else a BYE.
    pub fn refuse(at: Time, status: u16, reason: &'static str) -> Leave {
        Leave {
            at,
            reason,
            keep_reason: false,
            status,
            headers: Vec::new(),
            q850: normal(),
            stop: StopReason::ApiStop,
            failed: false,
            sip_code: None,
            text: None,
            cause: None,
        }
    }

    /// By the party itself.
    pub fn hung_up(at: Time, reason: &'static str) -> Leave {
        Leave { stop: StopReason::RemoteHangup, ..Leave::refuse(at, 487, reason) }
    }

    /// It never came up, or was lost.
    pub fn failure(at: Time, reason: &'static str, sip_code: Option<u16>, text: Option<String>) -> Leave {
        Leave { failed: true, sip_code, text, ..Leave::refuse(at, 480, reason) }
    }

    pub fn keeping_reason(self) -> Leave {
        Leave { keep_reason: true, ..self }
    }
}

impl Session {
    pub(super) fn connection_of(&self, key: PartyKey) -> Option<&Connection> {
        self.connections.iter().find(|c| c.has(key))
    }

    pub(super) fn connection_mut(&mut self, key: PartyKey) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.has(key))
    }

    /// The party at the other end.
    pub(super) fn counterpart(&self, key: PartyKey) -> Option<PartyKey> {
        let (caller, called) = self.connection_of(key)?.parties()?;
        Some(if caller == key { called } else { caller })
    }

    /// Whether it is the calling side: of its connection, or by how it came.
    pub(super) fn is_caller(&self, key: PartyKey) -> bool {
        match self.connection_of(key) {
            Some(connection) => connection.caller == End::Party(key),
            None => self.party(key).is_some_and(|p| p.incoming),
        }
    }

    pub(super) fn new_connection(&mut self, x: &mut Exchange, caller: End, called: End) -> &mut Connection {
        self.connections.push(Connection {
            id: x.mint.uuid(),
            caller,
            called,
            connected: false,
            bridged: false,
            record: None,
            ringback: Ringback::Standard,
            greetings: None,
            ringback_prepare: None,
            monitor: None,
        });
        self.connections.last_mut().expect("it was just pushed")
    }

    // ---------------------------------------------------------------------------------------- connecting

    /// IC-160: answers if needed, then the IVR has the party.
    pub(super) fn connect_ivr(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let ivr = End::Ivr { id: x.mint.uuid(), user: self.called.clone() };
        self.new_connection(x, End::Party(key), ivr);
        if let Some(party) = self.party_mut(key) {
            party.answer_wanted = true;
        }
        self.advance(now, x, key);
        self.try_connect(now, x, key);
    }

    /// IC-162: bridges two parties that are there.
    pub(super) fn join(
        &mut self,
        now: Time,
        x: &mut Exchange,
        key: PartyKey,
        participant_id: &str,
        record: Option<Box<RecordingOptions>>,
        by: RoutingHook,
    ) {
        let fits = |p: &&Participant| p.id == participant_id && p.key != key && p.is_up() && p.listener.is_none();
        let other = self.parties.iter().find(fits).map(|p| p.key).filter(|other| self.connection_of(*other).is_none());
        let Some(other) = other else {
            let details = Some("no participant of the session that is answered and not connected".to_owned());
            self.alarm(now, x, by.kind(), &alarm::invalid_sip_address(participant_id), details);
            return self.answer_failed(now, x, key, by);
        };
        // What should become of it is said now.
        self.forget_questions(other);
        let (caller, called) = if key < other { (key, other) } else { (other, key) };
        self.new_connection(x, End::Party(caller), End::Party(called)).record = record;
        if let Some(party) = self.party_mut(key) {
            party.answer_wanted = true;
        }
        self.advance(now, x, key);
        self.try_connect(now, x, key);
    }

    /// Goes as far as the ends are: hear each other once both are answered, connected once both are up.
    pub(super) fn try_connect(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        let Some(at) = self.connections.iter().position(|c| c.has(key)) else { return };
        match self.connections[at].parties() {
            Some((caller, called)) => {
                if self.greet(x, at) {
                    return;
                }
                let state = |key| self.live(key).map(|p| (p.is_answered(), p.is_up(), p.on_leg()));
                let (Some(caller_is), Some(called_is)) = (state(caller), state(called)) else { return };
                if caller_is.0 && called_is.0 && caller_is.2 && called_is.2 {
                    self.bridge(x, at);
                }
                if caller_is.1 && called_is.1 && !self.connections[at].connected {
                    self.connected(now, x, at);
                }
            }
            None if self.connections[at].connected || !self.live(key).is_some_and(Participant::is_up) => {}
            None if self.connections[at].device().is_some() => self.try_device(now, x, key, at),
            None if self.live(key).is_some_and(Participant::on_leg) => {
                self.connected(now, x, at);
                if let Some(party) = self.party_mut(key) {
                    party.ivr.start();
                }
            }
            None => {}
        }
    }

    pub(super) fn bridge(&mut self, x: &mut Exchange, at: usize) {
        let Some(connection) = self.connections.get_mut(at).filter(|c| !c.bridged) else { return };
        let Some((caller, called)) = connection.parties() else { return };
        connection.bridged = true;
        connection.ringback_prepare = None;
        self.stop_own_play(x, caller);
        self.stop_own_play(x, called);
        self.wire(x, at);
    }

    /// Who of a connection hears the other now: each, but for holds and mutes.
    pub(super) fn wire(&self, x: &mut Exchange, at: usize) {
        let Some((caller, called)) = self.connections.get(at).and_then(Connection::parties) else { return };
        let (Some(caller), Some(called)) = (self.party(caller), self.party(called)) else { return };
        let (Some(a), Some(b)) = (caller.open_leg(), called.open_leg()) else { return };
        let on = self.connections[at].bridged && caller.held.is_none() && called.held.is_none();
        let hears = |who: &Participant, whom: &Participant| on && !who.mute.listen && !whom.mute.speak;
        self.media(x, MediaCmd::Bridge { leg: a, hears: hears(caller, called).then_some(b) });
        self.media(x, MediaCmd::Bridge { leg: b, hears: hears(called, caller).then_some(a) });
        self.wire_monitor(x, at);
    }

    /// IC-112: both are up and hear each other.
    pub(super) fn connected(&mut self, now: Time, x: &mut Exchange, at: usize) {
        let connection = &mut self.connections[at];
        connection.connected = true;
        let record = connection.record.take();
        let connection = &self.connections[at];
        let end = |end: &End| match end {
            End::Ivr { id, user } | End::Device { id, user } => (id.clone(), user.clone(), None),
            End::Party(key) => match self.party(*key) {
                Some(p) => (p.id.clone(), p.user.clone(), p.dialog),
                None => Default::default(),
            },
        };
        let (caller, called) = (end(&connection.caller), end(&connection.called));
        let expires = |dialog: Option<_>| u32::try_from(x.endpoint.session_expires(dialog?)?.as_secs()).ok();
        let answered = Notification::CallAnswered {
            info: self.info.clone(),
            connection_id: connection.id.clone(),
            caller_participant_id: caller.0,
            callee_participant_id: called.0,
            calling_party_number: caller.1,
            remote_party_number: called.1,
            calling_party_expires: expires(caller.2),
            called_party_expires: expires(called.2),
            monitoring: false,
            reply_to: ReplyTo::Connection,
            target: connection.device().and(connection.tapped()).and_then(|key| self.party(key)?.target.clone()).map(Box::new),
        };
        // Whoever left before is replaced: that is no longer why the session will end.
        self.reason = None;
        if let Some(options) = record
            && let Err(error) = self.record_connection(now, x, at, *options)
        {
            self.alarm(now, x, AlarmKind::SessionError, alarm::MEDIA_SERVER_ERROR, Some(format!("callRecording: {error}")));
        }
        self.call_monitor(now, x, at);
        self.notify(x, answered);
    }

    // ---------------------------------------------------------------------------------------- leaving

    /// The one way out for a party: its IVR, leg and dialog are told to end, once; its counterpart's fate is asked about.
    pub(super) fn release(&mut self, now: Time, x: &mut Exchange, key: PartyKey, leave: Leave) {
        let caller = self.is_caller(key);
        let Some(party) = self.party_mut(key).filter(|p| p.is_live()) else { return };
        // What plays in the background ends with its leg.
        party.ivr.stop();
        party.command = None;
        party.give_up = Some(now + limits::RELEASE);
        let close = match party.leg {
            LegState::Opening(leg) | LegState::Open(leg, _) => Some(leg),
            _ => None,
        };
        if let Some(leg) = close {
            party.leg = LegState::Closing(leg);
            self.media(x, MediaCmd::Close { leg, reason: leave.stop });
        }
        let Some(at) = self.parties.iter().position(|p| p.key == key) else { return };
        let mut party = self.parties.remove(at);
        if key == PartyKey(1) && self.final_status == 0 {
            self.final_status = match (&party.phase, party.dialog) {
                (Phase::Trying, None) => 487,
                (Phase::Trying, Some(_)) => leave.status,
                _ => leave.sip_code.unwrap_or(leave.status),
            };
        }
        if let Some(since) = party.up_since.take() {
            self.placed += 1;
            self.placed_time += leave.at.since(since);
        }
        if party.listener.is_some() && leave.failed {
            let status = leave.sip_code.map(|status| format!(" {status}")).unwrap_or_default();
            x.log(Level::Warn, Some(&self.info.session_id), format!("monitor: {}{status}; the call goes on", leave.reason));
        }
        // Nothing of a listener says why the session ends.
        let keep_reason = party.listener.is_some() || leave.keep_reason && self.reason.is_some();
        let was_answered = party.is_answered();
        let was_dialling = matches!(party.phase, Phase::Dialling(_));
        self.end_dialog(now, x, &mut party, leave.status, &leave.headers, leave.q850.clone());
        self.parties.insert(at, party);
        self.forget_questions(key);
        self.end_transfer(x, key);
        if !keep_reason {
            self.reason = Some(leave.reason);
        }
        self.after_leaving(now, x, key, &leave, (caller, was_answered, was_dialling));
        self.end_if_empty(x, leave.at);
    }

    /// CANCEL, refusal or BYE, whichever fits; nothing where the dialog is gone or was never begun.
    pub(super) fn end_dialog(&self, now: Time, x: &mut Exchange, party: &mut Participant, status: u16, headers: &[Header], reason: String) {
        let phase = std::mem::replace(&mut party.phase, Phase::Releasing);
        let Some(dialog) = party.dialog else { return };
        match phase {
            Phase::Trying => {
                x.count(Counter::CallsRefused);
                if x.endpoint.reject(now, dialog, status, None, headers).is_err() {
                    // A contact that no header can carry; or the dialog is gone, and then this is as void.
                    ignore_late(x.endpoint.reject(now, dialog, 500, None, &[]));
                }
            }
            Phase::Dialling(_) => ignore_late(x.endpoint.cancel(now, dialog)),
            Phase::Answered | Phase::Up => {
                let headers = [Header { name: "Reason".into(), value: reason }];
                ignore_late(x.endpoint.bye(now, dialog, &headers));
            }
            Phase::Releasing => {}
        }
    }

    fn after_leaving(&mut self, now: Time, x: &mut Exchange, key: PartyKey, leave: &Leave, was: (bool, bool, bool)) {
        let (caller, answered, dialling) = was;
        let Some(at) = self.connections.iter().position(|c| c.has(key)) else { return };
        let connection = self.connections.remove(at);
        self.stop_recordings(now, x, &connection.id, leave.stop);
        self.end_monitor(now, x, &connection, leave.at);
        let Some((a, b)) = connection.parties() else {
            if let Some((id, user)) = connection.device() {
                let device = (id.to_owned(), user.to_owned());
                return self.device_lost_party(x, &connection, key, device, leave, was);
            }
            // 7.2 C: a placed call that failed. Nobody remains, so the answer moves nothing; but the handler hears of it.
            if dialling && leave.failed {
                let event = self.call_event(CallEventKind::CalledPartyFailure, &connection, key, None, Some(leave));
                self.ask_and_keep(now, x, key, event, true);
            }
            return;
        };
        let other = if a == key { b } else { a };
        if self.live(other).is_none() {
            return;
        }
        self.separate(now, x, other);
        if self.party(other).is_some_and(|p| matches!(p.phase, Phase::Dialling(_))) {
            // The caller is gone, so nobody is called any more.
            return self.release(now, x, other, Leave::refuse(now, 487, leave.reason).keeping_reason());
        }
        let kind = match caller {
            // IC-174: also while they are greeted.
            true if (connection.connected || connection.is_greeted()) && !leave.failed => CallEventKind::CallingPartyDrop,
            true => CallEventKind::CallingPartyFailure,
            false if answered && !leave.failed => CallEventKind::CalledPartyDrop,
            false => CallEventKind::CalledPartyFailure,
        };
        let event = self.call_event(kind, &connection, key, Some(other), Some(leave));
        self.ask(now, x, other, event);
    }

    /// A party that is no longer connected hears silence (IC-034), and nobody holds it any more.
    pub(super) fn separate(&mut self, now: Time, x: &mut Exchange, key: PartyKey) {
        self.stop_own_play(x, key);
        if let Some(leg) = self.party(key).and_then(Participant::open_leg) {
            self.media(x, MediaCmd::Bridge { leg, hears: None });
        }
        if let Some(party) = self.party_mut(key) {
            (party.held, party.hold_prepare) = (None, None);
        }
        self.leave_device(now, x, key);
        self.set_direction(now, x, key, Direction::SendRecv);
    }

    /// A question about `remaining` that `about` caused.
    pub(super) fn call_event(
        &self,
        event: CallEventKind,
        connection: &Connection,
        about: PartyKey,
        remaining: Option<PartyKey>,
        leave: Option<&Leave>,
    ) -> Hook {
        let named = |key: Option<PartyKey>| key.and_then(|k| self.party(k)).map(|p| (p.id.clone(), p.user.clone())).unwrap_or_default();
        let (participant_id, user) = named(Some(about));
        let (remote_participant_id, remote_user) = named(remaining);
        Hook::CallEvent(Box::new(CallEvent {
            info: SessionInfo::default(),
            event,
            connection_id: connection.id.clone(),
            participant_id,
            user,
            remote_participant_id,
            remote_user,
            reply_to: ReplyTo::Participant,
            sip_code: leave.and_then(|l| l.sip_code),
            reason_text: leave.and_then(|l| l.text.clone()),
            q850: leave.and_then(|l| l.cause),
        }))
    }

    /// IC-146 where not even an INVITE could be made: the id that was reserved tells of it.
    pub(super) fn call_failed_at_once(&mut self, now: Time, x: &mut Exchange, key: PartyKey, callee: (String, String), why: (u16, &str)) {
        self.reason = Some("rejected");
        let (remote_participant_id, remote_user) = self.party(key).map(|p| (p.id.clone(), p.user.clone())).unwrap_or_default();
        let event = CallEvent {
            info: SessionInfo::default(),
            event: CallEventKind::CalledPartyFailure,
            connection_id: x.mint.uuid(),
            participant_id: callee.0,
            user: callee.1,
            remote_participant_id,
            remote_user,
            reply_to: ReplyTo::Participant,
            sip_code: Some(why.0),
            reason_text: Some(why.1.to_owned()),
            q850: None,
        };
        self.ask(now, x, key, Hook::CallEvent(Box::new(event)));
    }

    /// IC-030 to IC-034: the parties stay, each gets its event.
    pub(super) fn split(&mut self, now: Time, x: &mut Exchange, at: usize) {
        let connection = self.connections.remove(at);
        self.stop_recordings(now, x, &connection.id, StopReason::ConnectionSplit);
        self.end_monitor(now, x, &connection, now);
        let caller = (&connection.caller, &connection.called, CallEventKind::CallerConnectionSplit);
        let called = (&connection.called, &connection.caller, CallEventKind::CalleeConnectionSplit);
        for (end, counterpart, kind) in [caller, called] {
            let End::Party(key) = end else { continue };
            if self.live(*key).is_none() {
                continue;
            }
            self.leave_ivr(x, *key);
            self.separate(now, x, *key);
            let other = if let End::Party(other) = counterpart { Some(*other) } else { None };
            let event = self.call_event(kind, &connection, *key, other, None);
            self.ask(now, x, *key, event);
        }
    }

    /// Its command is interrupted (IC-033); what it recorded so far is kept.
    pub(super) fn leave_ivr(&mut self, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party_mut(key).filter(|p| p.ivr.is_on()) else { return };
        let background = party.ivr.stop();
        party.command = None;
        if let Some(leg) = party.open_leg() {
            if background {
                self.media(x, MediaCmd::Background { leg, audio: None });
            }
            self.media(x, MediaCmd::StopPlay { leg });
        }
        // The question that runs is the IVR's: its answer is void.
        if let Some(asked) = self.asked.as_mut().filter(|a| a.party == key && matches!(a.hook, Hook::GetIvrCommand(_))) {
            asked.party = PartyKey(0);
        }
        self.forget_questions(key);
    }

    /// Everybody goes.
    pub(super) fn release_all(&mut self, now: Time, x: &mut Exchange, leave: &Leave) {
        // No question is asked any more about those who are still there for a moment.
        self.connections.clear();
        self.waiting.retain(|w| matches!(w, Waiting::News(_)));
        let keys: Vec<PartyKey> = self.parties.iter().map(|p| p.key).collect();
        for key in keys {
            self.release(now, x, key, leave.clone());
        }
    }
}
