//! What the newCall hook is told, read from the INVITE (IC-124 to IC-141).
//!
//! It decides nothing; whose call it is says `route.rs`.

use crate::hook::{NewCall, Privacy, SessionInfo};
use hookswitch_proto::sip::{Flow, Message, NameAddr, Uri};

/// `trusted`: the INVITE came from a trunk whose identity headers count (RFC 3325).
pub(crate) fn new_call(invite: &Message, flow: Flow, trusted: bool, info: SessionInfo, participant_id: String) -> NewCall {
    let from = invite.from();
    let from_user = from.as_ref().map(|f| user(&f.uri)).unwrap_or_default();
    let asserted = if trusted { invite.name_addrs("P-Asserted-Identity") } else { Vec::new() };
    let display = |n: &NameAddr| n.display.clone().filter(|d| !d.is_empty());
    NewCall {
        info,
        participant_id,
        sip_call_id: invite.call_id().to_owned(),
        privacy: privacy(invite, from.as_ref()),
        calling_party: asserted.iter().map(|n| user(&n.uri)).find(|u| !u.is_empty()).unwrap_or_else(|| from_user.clone()),
        display_name: asserted.iter().find_map(display).or_else(|| from.as_ref().and_then(display)),
        from_user,
        x_headers: headers_with(invite, "x-"),
        p_headers: headers_with(invite, "p-"),
        called_party: called_party(invite),
        // RFC 5806: who diverted is a claim of identity too.
        diversion: if trusted { joined(invite, "Diversion") } else { None },
        referred_by: invite.header("Referred-By").filter(|v| !v.is_empty()),
        pai_number: asserted.iter().find_map(|n| e164(&n.uri)),
        subject: invite.header("Subject").filter(|v| !v.is_empty()),
        src_addr: flow.peer.ip().to_canonical().to_string(),
    }
}

/// The access number: user part of the Request-URI (IC-136).
pub(crate) fn called_party(invite: &Message) -> String {
    invite.request_uri().map(user).unwrap_or_default()
}

fn user(uri: &Uri) -> String {
    uri.user.clone().unwrap_or_default()
}

/// RFC 3323 4.2, and From headers that are anonymous by themselves (4.1.1.3).
fn privacy(invite: &Message, from: Option<&NameAddr>) -> Privacy {
    let asked = invite.headers("Privacy").iter().any(|value| {
        let mut values = value.split([';', ',']).map(str::trim);
        values.any(|v| ["id", "user", "header"].iter().any(|secret| v.eq_ignore_ascii_case(secret)))
    });
    let anonymous =
        from.is_some_and(|f| f.uri.host.eq_ignore_ascii_case("anonymous.invalid") || user(&f.uri).eq_ignore_ascii_case("anonymous"));
    if asked || anonymous { Privacy::Secret } else { Privacy::Public }
}

fn headers_with(invite: &Message, prefix: &str) -> Vec<(String, String)> {
    let lower = invite.all_headers().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    lower.filter(|(name, _)| name.starts_with(prefix)).collect()
}

fn joined(invite: &Message, name: &str) -> Option<String> {
    let values = invite.headers(name);
    (!values.is_empty()).then(|| values.join(", "))
}

/// A tel: or sip user part that begins with `+`, without visual separators (RFC 3966 3), if it is a number (IC-139).
fn e164(uri: &Uri) -> Option<String> {
    let user = uri.user.as_deref()?;
    // A sip user part may carry telephone parameters: `+4670123;phone-context=...`.
    let number = user.split(';').next().unwrap_or(user).strip_prefix('+')?;
    let digits: String = number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
    let valid = (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_proto::sip::Transport;

    fn parse(from: &str, extra: &str) -> Message {
        let text = format!(
            "INVITE sip:5551234@demo.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKabc\r\nMax-Forwards: 70\r\n\
             From: {from};tag=a1\r\nTo: <sip:5551234@demo.test>\r\nCall-ID: c-1@192.0.2.9\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:alice@192.0.2.9>\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        Message::parse(text.into_bytes().into()).expect("the test's INVITE parses")
    }

    fn read(from: &str, extra: &str, trusted: bool) -> NewCall {
        let flow = Flow { transport: Transport::Udp, local: "192.0.2.1:5060".parse().unwrap(), peer: "192.0.2.9:5060".parse().unwrap() };
        new_call(&parse(from, extra), flow, trusted, SessionInfo::default(), "p1".into())
    }

    const ALICE: &str = "\"Alice\" <sip:alice@example.com>";

    #[test]
    fn ic_127_136_141_call_id_called_party_and_source() {
        let call = read(ALICE, "", false);
        assert_eq!(call.sip_call_id, "c-1@192.0.2.9");
        assert_eq!(call.called_party, "5551234");
        assert_eq!(call.src_addr, "192.0.2.9");
        assert_eq!(call.participant_id, "p1");
    }

    #[test]
    fn ic_129_privacy_from_the_header_or_an_anonymous_from() {
        let table = [
            (ALICE, "", Privacy::Public),
            (ALICE, "Privacy: none\r\n", Privacy::Public),
            (ALICE, "Privacy: session;critical\r\n", Privacy::Public),
            (ALICE, "Privacy: id\r\n", Privacy::Secret),
            (ALICE, "Privacy: ID;critical\r\n", Privacy::Secret),
            (ALICE, "Privacy: none\r\nPrivacy: header; user\r\n", Privacy::Secret),
            ("\"Anonymous\" <sip:anonymous@anonymous.invalid>", "", Privacy::Secret),
            ("<sip:Anonymous@example.com>", "", Privacy::Secret),
            ("<sip:x@anonymous.invalid>", "", Privacy::Secret),
        ];
        for (from, extra, expected) in table {
            assert_eq!(read(from, extra, false).privacy, expected, "{from} {extra}");
        }
    }

    #[test]
    fn ic_130_131_132_identity_from_pai_only_when_trusted() {
        let pai = "P-Asserted-Identity: \"Al P.\" <sip:+4670123@carrier.test>\r\n";
        let trusted = read(ALICE, pai, true);
        assert_eq!((trusted.calling_party.as_str(), trusted.display_name.as_deref()), ("+4670123", Some("Al P.")));
        assert_eq!(trusted.from_user, "alice");
        let untrusted = read(ALICE, pai, false);
        assert_eq!((untrusted.calling_party.as_str(), untrusted.display_name.as_deref()), ("alice", Some("Alice")));
        assert_eq!(untrusted.pai_number, None);
        // No name in PAI: From's. None at all: omitted.
        let tel = read(ALICE, "P-Asserted-Identity: <tel:+46-70-123>\r\n", true);
        assert_eq!((tel.calling_party.as_str(), tel.display_name.as_deref()), ("+46-70-123", Some("Alice")));
        assert_eq!(read("<sip:bob@example.com>", "", true).display_name, None);
        assert_eq!(read("<sip:bob@example.com>", "", true).calling_party, "bob");
    }

    #[test]
    fn ic_133_134_x_and_p_headers_lower_case_and_repeated() {
        let call = read(ALICE, "X-Account: 7\r\nx-ACCOUNT: 8\r\nX-Note: a, b\r\nP-Charging-Vector: icid=1\r\nSubject: s\r\n", false);
        let text = |headers: &[(String, String)]| headers.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>();
        assert_eq!(text(&call.x_headers), ["x-account=7", "x-account=8", "x-note=a, b"]);
        assert_eq!(text(&call.p_headers), ["p-charging-vector=icid=1"]);
    }

    #[test]
    fn ic_137_138_140_diversion_referred_by_subject() {
        let extra = "Diversion: <sip:1@a>;reason=busy\r\nDiversion: <sip:2@b>\r\nReferred-By: <sip:carol@c>\r\nSubject: Lunch\r\n";
        let call = read(ALICE, extra, true);
        assert_eq!(call.diversion.as_deref(), Some("<sip:1@a>;reason=busy, <sip:2@b>"));
        assert_eq!(call.referred_by.as_deref(), Some("<sip:carol@c>"));
        assert_eq!(call.subject.as_deref(), Some("Lunch"));
        assert_eq!(read(ALICE, extra, false).diversion, None, "an untrusted source diverts nobody");
        let none = read(ALICE, "", true);
        assert_eq!((none.diversion, none.referred_by, none.subject), (None, None, None));
        // Compact forms (RFC 3261 20, RFC 3892).
        let compact = read(ALICE, "s: Lunch\r\nb: <sip:carol@c>\r\n", false);
        assert_eq!((compact.subject.as_deref(), compact.referred_by.as_deref()), (Some("Lunch"), Some("<sip:carol@c>")));
    }

    #[test]
    fn ic_139_pai_number_is_e164() {
        let table = [
            ("<sip:+46701234567@c.test>", Some("+46701234567")),
            ("<sip:+46701234567@c.test;user=phone>", Some("+46701234567")),
            ("<tel:+46-70-123.45(67)>", Some("+46701234567")),
            ("<sip:alice@c.test>, <tel:+4670>", Some("+4670")),
            ("<sip:46701234567@c.test>", None),
            ("<sip:+@c.test>", None),
            ("<sip:+12x@c.test>", None),
            ("<tel:+1234567890123456>", None),
        ];
        for (pai, expected) in table {
            let call = read(ALICE, &format!("P-Asserted-Identity: {pai}\r\n"), true);
            assert_eq!(call.pai_number.as_deref(), expected, "{pai}");
        }
        assert_eq!(read(ALICE, "", true).pai_number, None);
    }
}
