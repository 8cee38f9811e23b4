//! The headers that the machines read as more than text: Via, CSeq and the few with numbers. Each borrows from the message.

use super::message::Method;
use super::name_addr::{is_space, is_token, parameters, trim, trim_start};
use super::uri::{number, scan_hostport};
use std::time::Duration;

/// Which header a line is, found once when the message is read. Compact names count as their long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Accept,
    Allow,
    CallId,
    Contact,
    ContentDisposition,
    ContentEncoding,
    ContentLength,
    ContentType,
    CSeq,
    Expires,
    From,
    MaxForwards,
    MinSe,
    Reason,
    RecordRoute,
    Require,
    RetryAfter,
    Route,
    SessionExpires,
    Supported,
    Timestamp,
    To,
    Via,
    Other,
}

impl Name {
    pub fn of(name: &[u8]) -> Name {
        let is = |long: &str| name.eq_ignore_ascii_case(long.as_bytes());
        // By length first: most lines are decided by one comparison.
        match name.len() {
            1 => match name.first().map_or(0, u8::to_ascii_lowercase) {
                b'c' => Name::ContentType,
                b'e' => Name::ContentEncoding,
                b'f' => Name::From,
                b'i' => Name::CallId,
                b'k' => Name::Supported,
                b'l' => Name::ContentLength,
                b'm' => Name::Contact,
                b't' => Name::To,
                b'v' => Name::Via,
                b'x' => Name::SessionExpires,
                _ => Name::Other,
            },
            2 if is("To") => Name::To,
            3 if is("Via") => Name::Via,
            4 if is("From") => Name::From,
            4 if is("CSeq") => Name::CSeq,
            5 if is("Allow") => Name::Allow,
            5 if is("Route") => Name::Route,
            6 if is("Accept") => Name::Accept,
            6 if is("Min-SE") => Name::MinSe,
            6 if is("Reason") => Name::Reason,
            7 if is("Call-ID") => Name::CallId,
            7 if is("Contact") => Name::Contact,
            7 if is("Expires") => Name::Expires,
            7 if is("Require") => Name::Require,
            9 if is("Supported") => Name::Supported,
            9 if is("Timestamp") => Name::Timestamp,
            11 if is("Retry-After") => Name::RetryAfter,
            12 if is("Content-Type") => Name::ContentType,
            12 if is("Max-Forwards") => Name::MaxForwards,
            12 if is("Record-Route") => Name::RecordRoute,
            14 if is("Content-Length") => Name::ContentLength,
            15 if is("Session-Expires") => Name::SessionExpires,
            16 if is("Content-Encoding") => Name::ContentEncoding,
            19 if is("Content-Disposition") => Name::ContentDisposition,
            _ => Name::Other,
        }
    }

    /// The long name behind a compact one that has no variant of its own (RFC 3265, 3515, 3892, 3841, 4474).
    pub fn long(name: &str) -> &str {
        let mut letters = name.bytes();
        match (letters.next().map(|b| b.to_ascii_lowercase()), letters.next()) {
            (Some(b'a'), None) => "Accept-Contact",
            (Some(b'b'), None) => "Referred-By",
            (Some(b'd'), None) => "Request-Disposition",
            (Some(b'j'), None) => "Reject-Contact",
            (Some(b'n'), None) => "Identity-Info",
            (Some(b'o'), None) => "Event",
            (Some(b'r'), None) => "Refer-To",
            (Some(b's'), None) => "Subject",
            (Some(b'u'), None) => "Allow-Events",
            (Some(b'y'), None) => "Identity",
            _ => name,
        }
    }

    /// Headers that may stand in a message only once and that we act on: two of them mean that two readers could disagree.
    pub fn is_single(self) -> bool {
        use Name::{
            CSeq, CallId, ContentDisposition, ContentLength, ContentType, Expires, From, MaxForwards, MinSe, RetryAfter, SessionExpires, To,
        };
        matches!(
            self,
            CallId
                | CSeq
                | ContentDisposition
                | ContentLength
                | ContentType
                | Expires
                | From
                | MaxForwards
                | MinSe
                | RetryAfter
                | SessionExpires
                | To
        )
    }
}

/// One Via element (RFC 3261 20.42).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via<'a> {
    pub host: &'a [u8],
    pub port: Option<u16>,
    pub branch: Option<&'a [u8]>,
    /// Present without a value: the sender asks for it (RFC 3581).
    pub rport: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// Reads the first element of a Via value. `SIP / 2.0 / UDP` with any white space counts (RFC 4475 `wsinv`).
    pub fn parse(element: &'a [u8]) -> Option<Via<'a>> {
        let (protocol, rest) = token(element)?;
        let (_version, rest) = token(slash(rest)?)?;
        let (_transport, rest) = token(slash(rest)?)?;
        if !protocol.eq_ignore_ascii_case(b"SIP") || !rest.first().is_some_and(|&b| is_space(b)) {
            return None;
        }
        let rest = trim_start(rest);
        let (sent_by, rest) = rest.split_at_checked(rest.iter().position(|&b| b == b';').unwrap_or(rest.len()))?;
        let (host, port) = sent_by_parts(trim(sent_by))?;
        let mut via = Via { host, port, branch: None, rport: None };
        for parameter in parameters(rest) {
            let (name, value) = parameter?;
            if name.eq_ignore_ascii_case(b"branch") {
                via.branch = value;
            } else if name.eq_ignore_ascii_case(b"rport") {
                via.rport = Some(value.unwrap_or(b""));
            }
        }
        Some(via)
    }

    /// A branch that RFC 3261 17.2.3 lets us match by. The bare cookie is none (RFC 4475 `badbranch`).
    pub fn magic_branch(&self) -> Option<&'a [u8]> {
        self.branch.filter(|b| b.len() > 7 && b.starts_with(b"z9hG4bK"))
    }
}

fn sent_by_parts(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    if let Some(parts) = scan_hostport(text) {
        return Some(parts);
    }
    // White space is legal around the colon of sent-by, though nobody sends it.
    let colon = text.iter().rposition(|&b| b == b':')?;
    let (host, None) = scan_hostport(trim(text.get(..colon)?))? else { return None };
    Some((host, Some(u16::try_from(number(trim(text.get(colon + 1..)?))?).ok()?)))
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = trim_start(text);
    let end = text.iter().position(|&b| !is_token(b)).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

fn slash(text: &[u8]) -> Option<&[u8]> {
    trim_start(text).strip_prefix(b"/")
}

/// `number method`; the number must fit 32 bits (RFC 3261 8.1.1.5 says below 2^31, the grammar does not; RFC 4475 `scalar02` must fail).
pub(crate) fn cseq(value: &[u8]) -> Option<(u32, Method)> {
    let value = trim(value);
    let (digits, method) = value.split_at_checked(value.iter().position(|&b| is_space(b))?)?;
    let method = trim(method);
    if method.is_empty() || !method.iter().all(|&b| is_token(b)) {
        return None;
    }
    Some((u32::try_from(number(digits)?).ok()?, Method::of(method)))
}

/// Seconds, with whatever parameters follow: Session-Expires, Min-SE, Expires.
pub(crate) fn seconds(value: &[u8]) -> Option<Duration> {
    let value = trim(value);
    let (digits, rest) = value.split_at_checked(value.iter().position(|&b| b == b';').unwrap_or(value.len()))?;
    if parameters(rest).any(|p| p.is_none()) {
        return None;
    }
    // Beyond 2^32 - 1 s the RFC's own range ends; a saturated number is as good as for ever.
    Some(Duration::from_secs(number(trim(digits))?.min(u64::from(u32::MAX))))
}

/// Who refreshes the session (RFC 4028 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresher {
    Uac,
    Uas,
}

/// Session-Expires (RFC 4028 4): the interval, and who refreshes if it says so.
pub(crate) fn session_expires(value: &[u8]) -> Option<(Duration, Option<Refresher>)> {
    let interval = seconds(value)?;
    let rest = value.get(value.iter().position(|&b| b == b';').unwrap_or(value.len())..)?;
    let mut refresher = None;
    for (name, value) in parameters(rest).flatten() {
        if name.eq_ignore_ascii_case(b"refresher") {
            refresher = match value {
                Some(v) if v.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
                Some(v) if v.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
                _ => return None,
            };
        }
    }
    Some((interval, refresher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn via_forms() {
        type Row = (&'static str, Option<(&'static str, Option<u16>, Option<&'static str>, Option<&'static str>)>);
        let rows: &[Row] = &[
            ("SIP/2.0/UDP h;branch=z9hG4bKa", Some(("h", None, Some("z9hG4bKa"), None))),
            ("SIP/2.0/UDP h:5070;rport;branch=z9hG4bKa", Some(("h", Some(5070), Some("z9hG4bKa"), Some("")))),
            ("SIP/2.0/TLS [2001:db8::1]:5061;rport=77;received=[::1]", Some(("2001:db8::1", Some(5061), None, Some("77")))),
            (
                "SIP  / 2.0  /\r\n TCP     s.example.com   ;\r\n  branch  =   z9hG4bK9",
                Some(("s.example.com", None, Some("z9hG4bK9"), None)),
            ),
            ("sip/7.0/x h : 12", Some(("h", Some(12), None, None))),
            ("SIP/2.0/UDP h;;,;,,", None),
            ("SIP/2.0/UDP", None),
            ("SIP/2.0 h", None),
            ("HTTP/2.0/UDP h", None),
            ("SIP/2.0/UDP h:70000", None),
            ("SIP/2.0/UDPh;branch=x y", None),
        ];
        for (text, expected) in rows {
            let text_of = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            let got = Via::parse(text.as_bytes()).map(|v| (text_of(v.host), v.port, v.branch.map(text_of), v.rport.map(text_of)));
            let expected = expected.map(|(h, p, b, r)| (h.to_owned(), p, b.map(str::to_owned), r.map(str::to_owned)));
            assert_eq!(got, expected, "{text:?}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(cseq(b"0009\r\n  INVITE"), Some((9, Method::Invite)));
        assert_eq!(cseq(b"4294967295 x"), Some((u32::MAX, Method::Other("x".into()))));
        for bad in ["4294967296 INVITE", "36893488147419103232 REGISTER", "-1 INVITE", "1", "INVITE", "1 IN VITE", "1 ", ""] {
            assert_eq!(cseq(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(session_expires(b"1800;refresher=UAC"), Some((Duration::from_secs(1800), Some(Refresher::Uac))));
        assert_eq!(session_expires(b" 90 ; x=y"), Some((Duration::from_secs(90), None)));
        assert_eq!(session_expires(b"90;refresher=me"), None);
        assert_eq!(seconds(b"99999999999999999999999"), Some(Duration::from_secs(u64::from(u32::MAX))));
        assert_eq!(seconds(b"x"), None);
    }
}
