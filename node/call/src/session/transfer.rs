//! Sends a party away: it is asked to call somebody else (RFC 3515), and leaves when that is answered (IC-300).
//!
//! A transfer makes the party call at the tenant's expense as often as not, so that its target must be among the tenant's destinations, as
//! if we called it.

use super::*;
use crate::door::{CommandResult, Resolve, TransferTarget};
use crate::outbound;
use dial::{SIP_PORT, transport_of};
use hookswitch_proto::sip::{Header, Uri};
use std::net::IpAddr;

const NOT_ALLOWED: &str = "not among the tenant's destinations";

impl Session {
    pub(super) fn transfer(&mut self, now: Time, x: &mut Exchange, participant_id: &str, target: &TransferTarget) -> CommandResult {
        let bad = |why: &str| CommandError::BadValue { field: "target", why: why.to_owned() };
        let key = self.find(participant_id)?.ok_or(CommandError::WrongState("the participant is gone"))?;
        let Some(party) = self.live(key).filter(|p| p.is_up()) else {
            return Err(CommandError::WrongState("the participant is not connected"));
        };
        if party.transfer.is_some() {
            return Err(CommandError::WrongState("the participant is being transferred"));
        }
        match target {
            TransferTarget::Attended(other) => {
                let other = self.find(other)?.filter(|other| *other != key).and_then(|k| self.live(k)).filter(|p| p.is_up());
                let dialog = other.and_then(|p| p.dialog).ok_or(CommandError::WrongState("the other participant is not connected"))?;
                let refer_to =
                    x.endpoint.refer_to_replace(dialog).ok_or(CommandError::WrongState("the other participant is not connected"))?;
                self.refer(now, x, key, &refer_to)
            }
            TransferTarget::Blind(uri) => {
                let uri = outbound::target(uri).ok_or_else(|| bad("not a SIP URI"))?;
                if let Ok(ip) = uri.host.parse::<IpAddr>() {
                    if !self.may_call(x, &uri, SocketAddr::new(ip, uri.port.unwrap_or(SIP_PORT))) {
                        return Err(bad(NOT_ALLOWED));
                    }
                    return self.refer(now, x, key, &refer_to(&uri));
                }
                let number = x.mint.resolve();
                let (host, port, transport) = (uri.host.clone(), uri.port, transport_of(&uri));
                if let Some(party) = self.party_mut(key) {
                    party.transfer = Some(Transfer::Locating { target: uri, number, until: now + limits::RESOLVE });
                }
                x.emit(Output::Resolve(Box::new(Resolve { session: self.id, number, host, port, transport })));
                Ok(Done::Nothing)
            }
        }
    }

    /// Where the name in a target leads. False: it was not asked for a transfer.
    pub(super) fn on_transfer_located(
        &mut self,
        now: Time,
        x: &mut Exchange,
        asked: u32,
        addresses: &Result<Vec<SocketAddr>, String>,
    ) -> bool {
        let found = self.parties.iter().find_map(|p| match &p.transfer {
            Some(Transfer::Locating { target, number, .. }) if *number == asked => Some((p.key, target.clone())),
            _ => None,
        });
        let Some((key, target)) = found else { return false };
        match addresses {
            Ok(addresses) if addresses.iter().any(|a| self.may_call(x, &target, *a)) => {
                if self.refer(now, x, key, &refer_to(&target)).is_err() {
                    self.transfer_failed(x, key, 500);
                }
            }
            Ok(addresses) if !addresses.is_empty() => {
                x.log(Level::Warn, Some(&self.info.session_id), format!("transfer: {NOT_ALLOWED}"));
                self.transfer_failed(x, key, 403);
            }
            _ => self.transfer_failed(x, key, 404),
        }
        true
    }

    fn refer(&mut self, now: Time, x: &mut Exchange, key: PartyKey, refer_to: &str) -> CommandResult {
        // RFC 3892: who sends it away. Its own number, as it called it or was called by.
        let by = outbound::address(None, &self.called, &self.tenant.domain);
        let headers = [Header { name: "Referred-By".into(), value: by }];
        let Some(party) = self.party_mut(key) else { return Err(CommandError::Unknown("participant")) };
        let dialog = party.dialog.ok_or(CommandError::WrongState("the participant is not connected"))?;
        x.endpoint.refer(now, dialog, refer_to, &headers).map_err(|_| CommandError::WrongState("the participant cannot be asked now"))?;
        party.transfer = Some(Transfer::Asked { told: 0 });
        Ok(Done::Nothing)
    }

    /// What the party's own call has reached.
    pub(super) fn on_referred(&mut self, now: Time, x: &mut Exchange, key: PartyKey, status: u16, last: bool) {
        let Some(party) = self.party_mut(key) else { return };
        let Some(Transfer::Asked { told }) = &mut party.transfer else { return };
        if !last {
            if std::mem::replace(told, status) != status {
                self.tell_transfer(x, key, status, false);
            }
            return;
        }
        party.transfer = None;
        self.tell_transfer(x, key, status, true);
        if (200..300).contains(&status) {
            // RFC 5589 6.1: its new call stands, so that ours ends.
            let text = Some("transferred".to_owned());
            self.release(now, x, key, Leave { stop: StopReason::Transfer, text, ..Leave::refuse(now, 487, "apiHangup") });
        }
    }

    /// The call goes on as it was.
    pub(super) fn transfer_failed(&mut self, x: &mut Exchange, key: PartyKey, status: u16) {
        if self.party_mut(key).and_then(|p| p.transfer.take()).is_some() {
            self.tell_transfer(x, key, status, true);
        }
    }

    /// The party leaves before its transfer is decided: nothing more will be heard of it.
    pub(super) fn end_transfer(&mut self, x: &mut Exchange, key: PartyKey) {
        self.transfer_failed(x, key, 487);
    }

    fn tell_transfer(&mut self, x: &mut Exchange, key: PartyKey, sip_code: u16, last: bool) {
        let Some(participant_id) = self.party(key).map(|p| p.id.clone()) else { return };
        self.notify(x, Notification::TransferState { info: self.info.clone(), participant_id, sip_code, last });
    }
}

fn refer_to(target: &Uri) -> String {
    format!("<{}>", Uri { headers: None, ..target.clone() })
}
