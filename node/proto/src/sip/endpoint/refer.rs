//! Asking the peer of a dialog to call somebody else (RFC 3515), and what it tells of that call until it is decided.
//!
//! The other way round is closed: nobody transfers a call of ours by asking for it.

use super::call::{Phase, Referring};
use super::within::Begun;
use super::*;
use crate::sip::name_addr;
use crate::sip::uri;
use crate::sip::write::{check_headers, is_one_line};
use std::fmt::Write as _;

/// News of the other call stop for at most so long, whatever the peer promises: it rings no longer than ours.
const SILENCE: Duration = Duration::from_secs(300);
/// Where the peer does not say how long its news go on (RFC 3515 2.4.4).
const USUAL: Duration = Duration::from_secs(180);

impl Endpoint {
    /// REFER within a confirmed dialog; `refer_to` is the whole value of Refer-To. Ends in one `Referred` that is the last, unless `Gone`
    /// comes first.
    pub fn refer(&mut self, now: Time, d: DialogId, refer_to: &str, headers: &[Header]) -> Result<(), CommandError> {
        check_headers(headers)?;
        if !is_one_line(refer_to) || name_addr::scan(refer_to.as_bytes()).is_none_or(|r| uri::scan(r.uri).is_none()) {
            return Err(CommandError::BadUri);
        }
        let call = self.call_mut(d).ok_or(CommandError::NoDialog)?;
        if !matches!(call.phase, Phase::Established) || call.referring.is_some() {
            return Err(CommandError::WrongState);
        }
        let Some(Begun { mut writer, cseq, branch, flow }) = self.request_within(d, &Method::Refer) else {
            return Err(CommandError::NoDialog);
        };
        self.capabilities(&mut writer, flow, headers);
        writer.line("Refer-To", refer_to);
        writer.lines(headers);
        self.start(now, (&branch, &Method::Refer, cseq), flow, writer.finish(None), Purpose::Refer { dialog: d, cseq });
        if let Some(call) = self.call_mut(d) {
            call.referring = Some(Referring { cseq, until: None });
        }
        Ok(())
    }

    /// The peer of this dialog and a Replaces (RFC 3891) that names the dialog to it, as a Refer-To for a third one, which then takes our place.
    pub fn refer_to_replace(&self, d: DialogId) -> Option<String> {
        let call = self.call(d).filter(|c| matches!(c.phase, Phase::Established))?;
        // RFC 3891 3: the tags as the one sees them that gets the INVITE.
        let to_tag = std::str::from_utf8(call.dialog.remote_tag.as_deref()?).ok()?;
        let replaces = format!("{};to-tag={to_tag};from-tag={}", call.dialog.call_id, call.dialog.local_tag);
        let escaped = replaces.bytes().fold(String::new(), |mut out, b| {
            if b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b) {
                out.push(char::from(b));
            } else {
                let _ = write!(out, "%{b:02X}");
            }
            out
        });
        Some(format!("<{}?Replaces={escaped}>", call.dialog.target()))
    }

    /// The answer to our REFER.
    pub(super) fn on_refer_response(&mut self, now: Time, id: DialogId, cseq: u32, status: u16) {
        let patience = self.config.t1 * 64;
        let Some(referring) = self.call_mut(id).and_then(|c| c.referring.as_mut()).filter(|r| r.cseq == cseq) else { return };
        if (200..300).contains(&status) {
            // The first NOTIFY may have been faster (RFC 6665 4.1.2.4 has it within 64*T1).
            referring.until.get_or_insert(now + patience);
            self.arm(now, id);
            self.tell(SipEvent::Referred { dialog: id, status, last: false });
        } else {
            self.refer_is_over(now, id, status);
        }
    }

    fn refer_is_over(&mut self, now: Time, id: DialogId, status: u16) {
        if self.call_mut(id).and_then(|c| c.referring.take()).is_some() {
            self.arm(now, id);
            self.tell(SipEvent::Referred { dialog: id, status, last: true });
        }
    }

    /// The peer tells nothing more.
    pub(super) fn on_refer_silence(&mut self, now: Time, id: DialogId) {
        self.refer_is_over(now, id, 408);
    }

    /// NOTIFY within a dialog: of our REFER, and of nothing else.
    pub(super) fn on_notify(&mut self, now: Time, flow: Flow, key: Key, id: DialogId, request: &Message) {
        let event = request.header("Event").unwrap_or_default();
        let package = event.split(';').next().unwrap_or_default().trim();
        let asked = self.call(id).is_some_and(|c| c.referring.is_some());
        let status = match (package.eq_ignore_ascii_case("refer"), asked) {
            // RFC 6665 7.2.2, 4.1.3.
            (false, _) => 489,
            (true, false) => 481,
            (true, true) => 200,
        };
        let extra: &[(&str, String)] = if status == 489 { &[("Allow-Events", "refer".into())] } else { &[] };
        self.answer_within(now, flow, key, request, status, extra);
        if status != 200 {
            return self.refused(flow, Refusal::Status(status));
        }
        let state = request.header("Subscription-State").unwrap_or_default();
        let mut parts = state.split(';').map(str::trim);
        let terminated = parts.next().is_some_and(|s| s.eq_ignore_ascii_case("terminated"));
        let expires = parts.find_map(|p| p.strip_prefix("expires=")).and_then(|e| e.trim().parse().ok()).map(Duration::from_secs);
        let reached = fragment_status(&request.body());
        match reached {
            // RFC 3515 2.4.5: a final status ends it, however the subscription is called.
            Some(status @ 200..) => self.refer_is_over(now, id, status),
            _ if terminated => self.refer_is_over(now, id, 408),
            _ => {
                if let Some(referring) = self.call_mut(id).and_then(|c| c.referring.as_mut()) {
                    referring.until = Some(now + expires.unwrap_or(USUAL).clamp(Duration::from_secs(1), SILENCE));
                }
                self.arm(now, id);
                if let Some(status) = reached {
                    self.tell(SipEvent::Referred { dialog: id, status, last: false });
                }
            }
        }
    }
}

/// The status line of a message/sipfrag (RFC 3420).
fn fragment_status(body: &[u8]) -> Option<u16> {
    let line = body.split(|b| matches!(b, b'\r' | b'\n')).next()?;
    let rest = std::str::from_utf8(line.get(..line.len().min(64))?).ok()?.strip_prefix("SIP/2.0 ")?;
    rest.split(' ').next()?.parse().ok().filter(|s| (100..700).contains(s))
}
