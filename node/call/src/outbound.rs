//! What an INVITE of ours says: From, To, Contact and the identity headers, made of a handler's `call` (IC-062 to IC-072, IC-176 to
//! IC-185). Every value comes from a handler or a stranger's INVITE, so nothing of it can leave its place in its header.
//!
//! It sends nothing and chooses no address; `session/dial.rs` does.

use crate::hook::OutboundCall;
use crate::limits;
use hookswitch_proto::sip::{Header, Message, Uri};
use std::fmt::Write as _;

/// Who calls, as far as a call out says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub user: String,
    pub display: Option<String>,
    /// The caller asked for privacy (RFC 3323), so we ask for it too.
    pub secret: bool,
    /// X- and P- headers of the inbound INVITE, for copyHeaders.
    pub headers: Vec<(String, String)>,
    /// What the inbound INVITE may still be passed on; `None`: the call begins here.
    pub max_forwards: Option<u8>,
}

/// Where it is sent from and to.
pub(crate) struct Context<'a> {
    pub identity: &'a Identity,
    /// Goes along to nodes of ours (IC-098).
    pub trace_id: &'a str,
    /// The tenant's: host of From.
    pub domain: &'a str,
    /// The operator lets this tenant assert identities (IC-071).
    pub trusted: bool,
    /// The next hop is a trunk inside our trust domain (RFC 3325): it may see who really calls.
    pub to_trusted_trunk: bool,
    /// `host:port` for Contact, and whether it is TCP.
    pub contact: String,
    pub tcp: bool,
}

/// The call's trace between nodes of ours: trunks that trust each other.
const TRACE: &str = "X-Hookswitch-Trace-Id";

/// What a trusted peer says that this call is part of. Anybody else could have our logs name his calls as another's.
pub(crate) fn trace_of(invite: &Message, trusted: bool) -> Option<String> {
    let text = invite.header(TRACE).filter(|_| trusted)?;
    let good = (1..=limits::TRACE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    good.then_some(text)
}

pub(crate) struct Parts {
    pub from: String,
    pub to: String,
    pub headers: Vec<Header>,
    /// P-Asserted-Identity and the like that were left out, since the tenant is not trusted with them.
    pub withheld: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub field: &'static str,
    pub why: &'static str,
}

/// The seed's `destAddr`: a SIP URI to which a call can go.
pub(crate) fn target(text: &str) -> Option<Uri> {
    let bare = text.trim();
    let whole = bare.len() <= limits::SIP_TEXT && !bare.contains(['<', '>', '"', '\r', '\n', ' ', '\0']);
    Uri::parse(bare).filter(|uri| whole && uri.scheme == "sip" && !uri.host.is_empty())
}

/// Checks what can be checked before there is an address to call.
pub(crate) fn check(call: &OutboundCall) -> Result<(), BadValue> {
    let bad = |field, why| Err(BadValue { field, why });
    let extras = call.x_headers.len()
        + call.p_headers.len()
        + call.copy_headers.len()
        + call.contact_parameters.len()
        + call.contact_user_parameters.len()
        + call.sip_diversion_parameters.len();
    if extras > limits::SIP_EXTRAS {
        return bad("xHeaders", "too many headers and parameters");
    }
    for (field, prefix, headers) in [("xHeaders", "x-", &call.x_headers), ("pHeaders", "p-", &call.p_headers)] {
        for (name, value) in headers {
            if !starts_with(name, prefix) || !is_token(name) {
                return bad(field, "a name does not begin with X- or P- as it should, or is no header name");
            }
            if !is_text(value) {
                return bad(field, "a value is too long or has a control character");
            }
        }
    }
    for (field, list) in [
        ("contactParameters", &call.contact_parameters),
        ("contactUserParameters", &call.contact_user_parameters),
        ("sipDiversionParameters", &call.sip_diversion_parameters),
    ] {
        if !list.iter().all(|(name, value)| is_token(name) && is_text(value)) {
            return bad(field, "a name is no token, or a value is too long or has a control character");
        }
    }
    let texts = [
        ("sipFrom", &call.sip_from),
        ("sipTo", &call.sip_to),
        ("sipPAI", &call.sip_pai),
        ("sipRPID", &call.sip_rpid),
        ("sipDiversion", &call.sip_diversion),
        ("displayName", &call.display_name),
    ];
    match texts.into_iter().find(|(_, text)| text.as_deref().is_some_and(|t| !is_text(t))) {
        Some((field, _)) => bad(field, "too long, or has a control character"),
        None if call.max_ring_time.is_some_and(|t| !(limits::RING_MIN..=limits::RING_MAX).contains(&t)) => {
            bad("maxRingTime", "not 1 to 300 seconds")
        }
        None => Ok(()),
    }
}

/// For a call that passed [`check`].
pub(crate) fn parts(call: &OutboundCall, target: &Uri, context: &Context<'_>) -> Parts {
    let Context { identity, domain, .. } = context;
    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push(Header { name: name.to_owned(), value });

    let from_user = call.sip_from.clone().unwrap_or_else(|| identity.user.clone());
    // A handler that gives a name of its own to the call speaks for itself; else the caller's wish goes on with the call.
    let secret = call.caller_privacy || (identity.secret && call.sip_from.is_none());
    let display = call.display_name.clone().or_else(|| identity.display.clone().filter(|_| call.sip_from.is_none()));
    // RFC 3323 4.1.1.3.
    let from =
        if secret { "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned() } else { address(display.as_deref(), &from_user, domain) };
    let to_uri = Uri { user: call.sip_to.clone().or_else(|| target.user.clone()), parameters: Vec::new(), headers: None, ..target.clone() };

    add("Contact", contact(call, context, secret));
    // RFC 3261 16.3: a call that goes in a circle through nodes ends.
    if let Some(left) = identity.max_forwards {
        add("Max-Forwards", left.saturating_sub(1).to_string());
    }
    // RFC 3325 7: what a caller wants hidden is told inside the trust domain alone, whoever asserts it.
    let (trusted, may_tell) = (context.trusted, !secret || context.to_trusted_trunk);
    let asserts = trusted && may_tell;
    let mut withheld = false;
    let own_pai = call.sip_pai.as_deref().filter(|_| asserts);
    withheld |= call.sip_pai.is_some() && !trusted;
    match own_pai {
        Some(pai) => add("P-Asserted-Identity", identity_value(pai, domain)),
        None if secret && context.to_trusted_trunk => add("P-Asserted-Identity", address(display.as_deref(), &from_user, domain)),
        None => {}
    }
    if secret {
        add("Privacy", "id".into());
    }
    if let Some(rpid) = call.sip_rpid.as_deref().filter(|_| asserts) {
        let privacy = if secret { ";privacy=full" } else { "" };
        add("Remote-Party-ID", format!("{}{privacy}", identity_value(rpid, domain)));
    }
    withheld |= call.sip_rpid.is_some() && !trusted;
    if context.to_trusted_trunk {
        add(TRACE, context.trace_id.to_owned());
    }
    if let Some(number) = call.sip_diversion.as_deref().filter(|n| !n.is_empty()) {
        let mut value = identity_value(number, domain);
        for (name, text) in &call.sip_diversion_parameters {
            let _ = write!(value, ";{name}={}", token_or_quoted(text));
        }
        add("Diversion", value);
    }
    let explicit = || call.x_headers.iter().chain(&call.p_headers);
    let wanted = |name: &str| call.copy_headers.iter().any(|c| c.eq_ignore_ascii_case(name));
    // IC-185: what is given wins over what is copied.
    let copied = identity.headers.iter().filter(|(name, _)| wanted(name) && !explicit().any(|(n, _)| n.eq_ignore_ascii_case(name)));
    for (name, value) in explicit().chain(copied) {
        let identity_header = ["P-Asserted-Identity", "P-Preferred-Identity"].iter().any(|i| name.eq_ignore_ascii_case(i));
        if identity_header && !asserts {
            withheld |= !trusted;
        } else if name.eq_ignore_ascii_case(TRACE) {
            // Ours alone to say.
        } else if is_token(name) && is_text(value) {
            headers.push(Header { name: name.clone(), value: value.clone() });
        }
    }
    Parts { from, to: format!("<{to_uri}>"), headers, withheld }
}

/// IC-069, IC-072.
fn contact(call: &OutboundCall, context: &Context<'_>, secret: bool) -> String {
    let mut user = String::new();
    if !call.contact_user_parameters.is_empty() {
        // RFC 3323 4.1.1.1: no header may tell what From hides.
        let name = if secret { "anonymous" } else { call.sip_from.as_deref().unwrap_or(&context.identity.user) };
        let _ = write!(user, "{}", escaped(name));
        for (name, value) in &call.contact_user_parameters {
            let _ = write!(user, ";{}={}", escaped(name), escaped(value));
        }
        user.push('@');
    }
    let mut uri = format!("sip:{user}{}", context.contact);
    if context.tcp {
        uri.push_str(";transport=tcp");
    }
    for (name, value) in &call.contact_parameters {
        let _ = write!(uri, ";{}={}", escaped(name), escaped(value));
    }
    format!("<{uri}>")
}

/// `"Display" <sip:user@host>`.
pub(crate) fn address(display: Option<&str>, user: &str, host: &str) -> String {
    let quoted = display.filter(|d| !d.is_empty()).map(|d| format!("\"{}\" ", quote(d))).unwrap_or_default();
    let user = if user.is_empty() { "anonymous" } else { user };
    format!("{quoted}<sip:{}@{host}>", escaped(user))
}

/// A number, or a whole URI, in angle brackets.
fn identity_value(text: &str, domain: &str) -> String {
    let bare = text.trim().trim_start_matches('<').trim_end_matches('>');
    match Uri::parse(bare).filter(|uri| matches!(uri.scheme.as_str(), "sip" | "sips" | "tel")) {
        Some(uri) => format!("<{uri}>"),
        None => address(None, bare, domain),
    }
}

/// RFC 3261 25.1: quoted-string.
fn quote(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

fn token_or_quoted(text: &str) -> String {
    if is_token(text) { text.to_owned() } else { format!("\"{}\"", quote(text)) }
}

/// Escaped to what may stand in a user part or a URI parameter.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.len() > prefix.len() && name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

fn is_text(text: &str) -> bool {
    text.len() <= limits::SIP_TEXT && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let headers = [("x-account", "7"), ("x-note", "n"), ("p-charging-vector", "icid=1"), ("p-asserted-identity", "<sip:boss@x>")];
        Identity {
            user: "alice".into(),
            display: Some("Alice".into()),
            secret: false,
            max_forwards: None,
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
        }
    }

    fn made(call: &OutboundCall, identity: &Identity, trusted: bool, trunk: bool) -> Parts {
        let target = target("sip:200@192.0.2.20:5070;user=phone").expect("a good address");
        let contact = "192.0.2.1:5060".to_owned();
        check(call).expect("good values");
        parts(
            call,
            &target,
            &Context { identity, trace_id: "trace-1", domain: "demo.test", trusted, to_trusted_trunk: trunk, contact, tcp: false },
        )
    }

    fn value<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
        parts.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    #[test]
    fn ic_176_177_from_and_to_default_to_the_caller_and_the_address() {
        let plain = made(&OutboundCall::default(), &identity(), false, false);
        assert_eq!((plain.from.as_str(), plain.to.as_str()), ("\"Alice\" <sip:alice@demo.test>", "<sip:200@192.0.2.20:5070>"));
        let call = OutboundCall { sip_from: Some("+46 1".into()), sip_to: Some("boss".into()), ..OutboundCall::default() };
        let given = made(&call, &identity(), false, false);
        assert_eq!((given.from.as_str(), given.to.as_str()), ("<sip:+46%201@demo.test>", "<sip:boss@192.0.2.20:5070>"));
    }

    #[test]
    fn ic_067_display_name_is_quoted_and_escaped() {
        let call = OutboundCall { display_name: Some("A \"B\" \\ <sip:x>".into()), ..OutboundCall::default() };
        assert_eq!(made(&call, &identity(), false, false).from, "\"A \\\"B\\\" \\\\ <sip:x>\" <sip:alice@demo.test>");
    }

    #[test]
    fn ic_068_privacy_hides_the_caller_except_from_a_trusted_trunk() {
        let call = OutboundCall { caller_privacy: true, ..OutboundCall::default() };
        let hidden = made(&call, &identity(), false, false);
        assert_eq!(hidden.from, "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
        assert_eq!((value(&hidden, "Privacy"), value(&hidden, "P-Asserted-Identity")), (Some("id"), None));
        let trunk = made(&call, &identity(), false, true);
        assert_eq!(value(&trunk, "P-Asserted-Identity"), Some("\"Alice\" <sip:alice@demo.test>"));
        // A caller who asked for privacy keeps it.
        let secret = Identity { secret: true, ..identity() };
        assert_eq!(value(&made(&OutboundCall::default(), &secret, false, false), "Privacy"), Some("id"));
    }

    #[test]
    fn ic_066_070_diversion_with_its_parameters() {
        assert_eq!(value(&made(&OutboundCall::default(), &identity(), false, false), "Diversion"), None);
        let call = OutboundCall {
            sip_diversion: Some("4611".into()),
            sip_diversion_parameters: vec![("reason".into(), "no-answer".into()), ("text".into(), "a; b".into())],
            ..OutboundCall::default()
        };
        let made = made(&call, &identity(), false, false);
        assert_eq!(value(&made, "Diversion"), Some("<sip:4611@demo.test>;reason=no-answer;text=\"a; b\""));
    }

    #[test]
    fn ic_069_072_contact_parameters() {
        let plain = made(&OutboundCall::default(), &identity(), false, false);
        assert_eq!(value(&plain, "Contact"), Some("<sip:192.0.2.1:5060>"));
        let call = OutboundCall {
            contact_parameters: vec![("ob".into(), "1>;x".into())],
            contact_user_parameters: vec![("tgrp".into(), "a@b".into())],
            ..OutboundCall::default()
        };
        let made = made(&call, &identity(), false, false);
        assert_eq!(value(&made, "Contact"), Some("<sip:alice;tgrp=a%40b@192.0.2.1:5060;ob=1%3E%3Bx>"));
    }

    #[test]
    fn ic_063_071_headers_are_added_and_identity_needs_trust() {
        let call = OutboundCall {
            x_headers: vec![("X-A".into(), "1".into()), ("x-a".into(), "2".into())],
            p_headers: vec![("P-Asserted-Identity".into(), "<sip:boss@x>".into()), ("P-Info".into(), "i".into())],
            ..OutboundCall::default()
        };
        let plain = made(&call, &identity(), false, false);
        let names: Vec<String> = plain.headers.iter().map(|h| format!("{}={}", h.name, h.value)).collect();
        assert_eq!(names, ["Contact=<sip:192.0.2.1:5060>", "X-A=1", "x-a=2", "P-Info=i"]);
        assert!(plain.withheld);
        let trusted = made(&call, &identity(), true, false);
        assert_eq!((value(&trusted, "P-Asserted-Identity"), trusted.withheld), (Some("<sip:boss@x>"), false));
    }

    #[test]
    fn ic_063_names_need_their_prefix_and_values_no_line_breaks() {
        let x = |name: &str, value: &str| OutboundCall { x_headers: vec![(name.into(), value.into())], ..OutboundCall::default() };
        for (name, value) in
            [("Via", "x"), ("X-", "x"), ("X-A B", "x"), ("X-A:", "x"), ("X-A", "a\r\nVia: b"), ("X-A", "a\0"), ("P-A", "x")]
        {
            assert_eq!(check(&x(name, value)).map_err(|e| e.field), Err("xHeaders"), "{name:?} {value:?}");
        }
        assert_eq!(check(&x("x-a", "ok")), Ok(()));
        let p = OutboundCall { p_headers: vec![("X-A".into(), "1".into())], ..OutboundCall::default() };
        assert_eq!(check(&p).map_err(|e| e.field), Err("pHeaders"));
        let contact = OutboundCall { contact_parameters: vec![("a;b".into(), "1".into())], ..OutboundCall::default() };
        assert_eq!(check(&contact).map_err(|e| e.field), Err("contactParameters"));
        let many = OutboundCall { x_headers: vec![("X-A".into(), String::new()); 200], ..OutboundCall::default() };
        assert!(check(&many).is_err());
        let from = OutboundCall { sip_from: Some("a\nb".into()), ..OutboundCall::default() };
        assert_eq!(check(&from).map_err(|e| e.field), Err("sipFrom"));
    }

    #[test]
    fn ic_185_copied_headers_lose_to_given_ones() {
        let call = OutboundCall {
            copy_headers: vec!["X-Account".into(), "X-NOTE".into(), "P-Asserted-Identity".into(), "x-none".into()],
            x_headers: vec![("X-Account".into(), "8".into())],
            ..OutboundCall::default()
        };
        let made = made(&call, &identity(), false, false);
        let names: Vec<String> = made.headers.iter().skip(1).map(|h| format!("{}={}", h.name, h.value)).collect();
        assert_eq!(names, ["X-Account=8", "x-note=n"], "an identity is not copied for a tenant that is not trusted");
    }

    #[test]
    fn ic_169_what_can_be_called() {
        for good in ["sip:200@192.0.2.20", "sip:192.0.2.20", " sip:a@b.test;transport=tcp ", "sip:a@[2001:db8::1]:5070"] {
            assert!(target(good).is_some(), "{good}");
        }
        for bad in ["", "200", "tel:+4670", "sips:a@b", "http://x", "sip:a@b\r\nX: y", "<sip:a@b>", "sip:a b@c", "sip:@"] {
            assert!(target(bad).is_none(), "{bad}");
        }
    }
}
