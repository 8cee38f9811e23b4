//! A silent listener to a connection (IC-189 to IC-192, SM-011). It is called when the connection is up, hears both parties and is heard by
//! nobody, and leaves with the connection.
//!
//! It is a participant like others on its way in and out, but of no connection, so that nothing of it moves the call: its failure is a line
//! in the log, and its handler hears `callNotify` and `callAnswered` with `monitoring`.

use super::*;
use crate::hook::OutboundCall;
use crate::outbound;
use crate::participant::Listener;
use dial::Calling;
use hookswitch_proto::media::Direction;

/// Of a connection.
#[derive(Debug)]
pub(super) enum Monitor {
    /// Who is called once the connection is up.
    Idle(Box<OutboundCall>),
    /// Who was called; perhaps it has left.
    Called(PartyKey),
}

impl Session {
    /// The connection is up: its listener is called.
    pub(super) fn call_monitor(&mut self, now: Time, x: &mut Exchange, at: usize) {
        let Some(Monitor::Idle(call)) = self.connections[at].monitor.take() else { return };
        match self.dial_monitor(now, x, at, *call) {
            Ok(key) => {
                self.connections[at].monitor = Some(Monitor::Called(key));
                self.begin_dial(now, x, key);
            }
            Err(why) => x.log(Level::Warn, Some(&self.info.session_id), format!("monitor: not called: {why}")),
        }
    }

    fn dial_monitor(&mut self, now: Time, x: &mut Exchange, at: usize, call: OutboundCall) -> Result<PartyKey, String> {
        outbound::check(&call).map_err(|bad| format!("{}: {}", bad.field, bad.why))?;
        let target = outbound::target(&call.dest_addr).ok_or("not a SIP address")?;
        if self.identity.max_forwards.is_some_and(|left| left <= 1) {
            // RFC 3261 16.3.
            return Err("too many hops".into());
        }
        self.may_dial()?;
        if self.attempts >= limits::ATTEMPTS {
            return Err("too many calls out of the session".into());
        }
        self.attempts += 1;
        let number = call.sip_from.clone().unwrap_or_else(|| self.identity.user.clone());
        let listener = Listener { connection_id: self.connections[at].id.clone(), heard_as: (x.mint.uuid(), number) };
        let calling = Calling { participant_id: x.mint.uuid(), call, target, alarm: AlarmKind::CallError };
        let key = self.dial(now, x, calling, None);
        if let Some(party) = self.party_mut(key) {
            party.listener = Some(Box::new(listener));
            // IC-189: nothing is taken from it.
            (party.direction, party.passed) = (Direction::SendOnly, Direction::SendOnly);
        }
        Ok(key)
    }

    /// It is there: it hears the connection, and the handler is told.
    pub(super) fn monitor_answered(&mut self, x: &mut Exchange, key: PartyKey) {
        let Some(party) = self.party(key) else { return };
        let Some(Listener { connection_id, heard_as }) = party.listener.as_deref().cloned() else { return };
        let (participant_id, user, dialog) = (party.id.clone(), party.user.clone(), party.dialog);
        let at = self.connections.iter().position(|c| matches!(c.monitor, Some(Monitor::Called(called)) if called == key));
        if let Some(at) = at {
            self.wire_monitor(x, at);
        }
        let expires = dialog.and_then(|dialog| x.endpoint.session_expires(dialog));
        let answered = Notification::CallAnswered {
            info: self.info.clone(),
            connection_id,
            caller_participant_id: heard_as.0,
            callee_participant_id: participant_id,
            calling_party_number: heard_as.1,
            remote_party_number: user,
            calling_party_expires: None,
            called_party_expires: expires.and_then(|time| u32::try_from(time.as_secs()).ok()),
            monitoring: true,
            reply_to: ReplyTo::Connection,
            target: None,
        };
        self.notify(x, answered);
    }

    /// What the listener hears now: whoever is heard by the other one.
    pub(super) fn wire_monitor(&self, x: &mut Exchange, at: usize) {
        let Some(connection) = self.connections.get(at) else { return };
        let (Some(Monitor::Called(key)), Some((caller, called))) = (&connection.monitor, connection.parties()) else { return };
        let Some(leg) = self.live(*key).filter(|p| p.is_up()).and_then(Participant::open_leg) else { return };
        let parties = [caller, called].map(|key| self.live(key));
        let on = connection.bridged && parties.iter().flatten().all(|p| p.held.is_none());
        let to = parties.map(|party| party.filter(|p| on && !p.mute.speak).and_then(Participant::open_leg));
        self.media(x, MediaCmd::Listen { leg, to });
    }

    /// Its connection is over (IC-192).
    pub(super) fn end_monitor(&mut self, now: Time, x: &mut Exchange, connection: &Connection, at: Time) {
        if let Some(Monitor::Called(key)) = connection.monitor {
            self.release(now, x, key, Leave::refuse(at, 487, "apiHangup").keeping_reason());
        }
    }
}
