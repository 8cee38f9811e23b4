//! What a handler's answer means for a party: drop, IVR, call, join, redirect (IC-158 to IC-165, IC-299).

use super::*;
use crate::alarm::RoutingHook;
use crate::drop_code::DropCode;
use crate::hook::{OutboundCall, Routing};
use hookswitch_proto::sip::{Header, Uri};

impl Session {
    /// The one place where a new action is served.
    pub(super) fn on_routing(&mut self, now: Time, x: &mut Exchange, key: PartyKey, routing: Routing, by: RoutingHook) {
        let Some(answered) = self.live(key).map(Participant::is_answered) else { return };
        match routing {
            Routing::Drop { drop_code, .. } => {
                let code = DropCode::parse(drop_code.as_deref()).unwrap_or_else(|default| {
                    x.log(Level::Warn, Some(&self.info.session_id), "unknown dropCode: decline is used".into());
                    default
                });
                let reason = if answered { "ivrHangup" } else { "rejected" };
                let leave = Leave { q850: code.reason(), ..Leave::refuse(now, code.status, reason) };
                self.release(now, x, key, leave.keeping_reason());
            }
            Routing::Ivr { .. } => self.connect_ivr(now, x, key),
            Routing::Call(call) => self.on_call(now, x, key, *call, by),
            Routing::Join { participant_id, recording, .. } => self.join(now, x, key, &participant_id, recording, by),
            Routing::Redirect { status, contacts, .. } if !answered => self.redirect(now, x, key, status, &contacts, by),
            #[cfg(test)]
            Routing::Ext { name, .. } if name == "panic" => panic!("a test wants to see a session panic"),
            Routing::Ext { name, .. } if name.is_empty() => self.no_such_action(now, x, key, by, by.missing_action(), ""),
            Routing::Ext { name, .. } => self.no_such_action(now, x, key, by, by.unknown_action(), &name),
            Routing::Redirect { .. } => self.no_such_action(now, x, key, by, by.unknown_action(), "redirect"),
            Routing::HttpCall { device, .. } => self.http_call(now, x, key, *device, by),
        }
    }

    /// IC-164, IC-165: alarm, then fallback or drop.
    pub(super) fn no_such_action(&mut self, now: Time, x: &mut Exchange, key: PartyKey, by: RoutingHook, error: &str, name: &str) {
        let details = (!name.is_empty()).then(|| format!("action {}", alarm::printable(name, 64)));
        self.alarm(now, x, by.kind(), error, details);
        if by == RoutingHook::NewCall && self.live(key).is_some_and(|p| !p.is_answered()) {
            self.fall_back(now, x, key);
        } else {
            self.release(now, x, key, Leave::refuse(now, 480, "serverError").keeping_reason());
        }
    }

    /// Its answer cannot be carried out.
    pub(super) fn answer_failed(&mut self, now: Time, x: &mut Exchange, key: PartyKey, by: RoutingHook) {
        match by {
            RoutingHook::NewCall => self.fall_back(now, x, key),
            RoutingHook::CallEvent => self.release(now, x, key, Leave::refuse(now, 480, "serverError").keeping_reason()),
        }
    }

    /// IC-159, IC-162.
    fn on_call(&mut self, now: Time, x: &mut Exchange, key: PartyKey, call: OutboundCall, by: RoutingHook) {
        if call.dest_addr.trim().is_empty()
            && let Some(other) = &call.participant_id
            && self.parties.iter().any(|p| p.id == *other)
        {
            let other = other.clone();
            let record = dial::recording_of(&mut { call }, &x.settings.unwritable);
            return self.join(now, x, key, &other, record, by);
        }
        // IC-186: in newCall the id may be preset for the caller's leg.
        let mut call = call;
        if by == RoutingHook::NewCall
            && let Some(id) = call.participant_id.take()
            && !self.parties.iter().any(|p| p.id == id)
            && let Some(party) = self.party_mut(key)
        {
            party.id = id;
        }
        self.call_out(now, x, key, call, by);
    }

    /// IC-299.
    fn redirect(&mut self, now: Time, x: &mut Exchange, key: PartyKey, status: u16, contacts: &[String], by: RoutingHook) {
        let bad = contacts.iter().find(|c| c.len() > limits::SIP_TEXT || c.contains(['<', '>', '"']) || Uri::parse(c).is_none());
        let problem = match bad {
            Some(contact) => Some(alarm::invalid_sip_address(contact)),
            None if contacts.is_empty() || contacts.len() > limits::CONTACTS => Some(alarm::invalid_sip_address("")),
            None if !(300..=302).contains(&status) => Some(by.failed(&HookFailure::Unavailable { why: String::new() }).to_owned()),
            None => None,
        };
        if let Some(error) = problem {
            self.alarm(now, x, by.kind(), &error, Some(format!("redirect {status}, {} contacts", contacts.len())));
            return self.answer_failed(now, x, key, by);
        }
        let headers = contacts.iter().map(|c| Header { name: "Contact".into(), value: format!("<{c}>") }).collect();
        self.release(now, x, key, Leave { headers, ..Leave::refuse(now, status, "rejected") });
    }
}
