//! URIs as SIP carries them: sip:, sips:, tel:, and any other scheme kept as opaque text.
//!
//! Two readers share one scan: [`scan`] borrows from the wire bytes and allocates nothing, [`Uri::parse`] owns and unescapes.
//! No resolution happens here; see `dialog.rs` for where a request goes.

use std::fmt;
use std::net::Ipv6Addr;

/// A SIP or SIPS URI (RFC 3261 19.1), or tel: (RFC 3966) with the number as `user` and an empty `host`.
/// Any other scheme keeps what follows the colon, as it came, in `host`. Parts of SIP URIs are unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Lower-case.
    pub scheme: String,
    /// Without a password, which RFC 3261 19.1.1 tells nobody to use.
    pub user: Option<String>,
    /// Without brackets for IPv6.
    pub host: String,
    pub port: Option<u16>,
    /// In order, names lower-case.
    pub parameters: Vec<(String, Option<String>)>,
    /// What follows `?`, still escaped.
    pub headers: Option<String>,
}

impl Uri {
    pub fn parse(text: &str) -> Option<Uri> {
        scan(text.as_bytes()).map(|raw| raw.to_uri())
    }

    /// Value of a parameter; `Some("")` where it has none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value.as_deref().unwrap_or(""))
    }
}

impl fmt::Display for Uri {
    /// Back to wire form, everything outside the unreserved characters escaped, so that no part can break out of its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if self.scheme == "tel" {
            f.write_str(self.user.as_deref().unwrap_or(""))?;
        } else if !self.is_sip() {
            return f.write_str(&self.host);
        } else {
            if let Some(user) = &self.user {
                escape(f, user, b"&=+$,;?/")?;
                f.write_str("@")?;
            }
            if self.host.contains(':') {
                write!(f, "[{}]", self.host)?
            } else {
                f.write_str(&self.host)?
            }
            if let Some(port) = self.port {
                write!(f, ":{port}")?;
            }
        }
        for (name, value) in &self.parameters {
            f.write_str(";")?;
            escape(f, name, b"[]/:&+$")?;
            if let Some(value) = value {
                f.write_str("=")?;
                escape(f, value, b"[]/:&+$")?;
            }
        }
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

impl Uri {
    fn is_sip(&self) -> bool {
        self.scheme == "sip" || self.scheme == "sips"
    }
}

fn escape(f: &mut fmt::Formatter<'_>, text: &str, also: &[u8]) -> fmt::Result {
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b) || also.contains(&b) {
            fmt::Write::write_char(f, b as char)?;
        } else {
            write!(f, "%{b:02X}")?;
        }
    }
    Ok(())
}

/// A URI's parts where they stand in the message, still escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawUri<'a> {
    pub scheme: &'a [u8],
    pub user: Option<&'a [u8]>,
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// From the first `;` on, empty if there are none.
    pub parameters: &'a [u8],
    pub headers: Option<&'a [u8]>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sip,
    Tel,
    Opaque,
}

impl RawUri<'_> {
    pub fn is_sip(&self) -> bool {
        self.kind == Kind::Sip
    }

    pub fn is_tel(&self) -> bool {
        self.kind == Kind::Tel
    }

    /// Whether a parameter of this (lower-case) name is there; names are compared unescaped (RFC 4475 `esc01`: `%6C%72` is `lr`).
    pub fn has_parameter(&self, name: &str) -> bool {
        parameters(self.parameters).any(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()) || unescape(n).eq_ignore_ascii_case(name))
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        parameters(self.parameters).find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v.map(unescape).unwrap_or_default())
    }

    pub fn to_uri(self) -> Uri {
        let opaque = self.kind == Kind::Opaque;
        Uri {
            scheme: String::from_utf8_lossy(self.scheme).to_ascii_lowercase(),
            user: self.user.map(unescape),
            host: if opaque { String::from_utf8_lossy(self.host).into_owned() } else { unescape(self.host) },
            port: self.port,
            parameters: parameters(self.parameters).map(|(n, v)| (unescape(n).to_ascii_lowercase(), v.map(unescape))).collect(),
            headers: self.headers.map(|h| String::from_utf8_lossy(h).into_owned()),
        }
    }
}

/// Finds the parts of a URI; `None` if it is none. Raw characters that a URI must escape but that cannot be mistaken for a
/// delimiter (`#`, bytes beyond ASCII) are let through, as phones send them; spaces, controls, quotes and `<>` are not.
pub(crate) fn scan(text: &[u8]) -> Option<RawUri<'_>> {
    if text.iter().any(|&b| b <= b' ' || b == 0x7f || matches!(b, b'<' | b'>' | b'"')) {
        return None;
    }
    let colon = text.iter().position(|&b| b == b':')?;
    let (scheme, rest) = (text.get(..colon)?, text.get(colon + 1..)?);
    if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) || rest.is_empty()
    {
        return None;
    }
    if scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips") {
        scan_sip(scheme, rest)
    } else if scheme.eq_ignore_ascii_case(b"tel") {
        let (number, parameters) = split_at_byte(rest, b';');
        let good = number.iter().all(|b| b.is_ascii_hexdigit() || b"+-.()*#".contains(b)) && number.iter().any(u8::is_ascii_alphanumeric);
        (good && good_parameters(parameters)).then_some(RawUri {
            scheme,
            user: Some(number),
            host: b"",
            port: None,
            parameters,
            headers: None,
            kind: Kind::Tel,
        })
    } else {
        Some(RawUri { scheme, user: None, host: rest, port: None, parameters: b"", headers: None, kind: Kind::Opaque })
    }
}

fn scan_sip<'a>(scheme: &'a [u8], rest: &'a [u8]) -> Option<RawUri<'a>> {
    // `;`, `?` and `/` may stand unescaped in the user part, `@` may not: the first `@` ends it (RFC 4475 `semiuri`, `intmeth`).
    let (user, rest) = match rest.iter().position(|&b| b == b'@') {
        Some(at) => {
            let (user, _password) = split_at_byte(rest.get(..at)?, b':');
            if user.is_empty() {
                return None;
            }
            (Some(user), rest.get(at + 1..)?)
        }
        None => (None, rest),
    };
    if rest.contains(&b'@') {
        return None;
    }
    let (rest, headers) = match rest.iter().position(|&b| b == b'?') {
        Some(q) => (rest.get(..q)?, Some(rest.get(q + 1..)?)),
        None => (rest, None),
    };
    let (hostport, parameters) = split_at_byte(rest, b';');
    let (host, port) = scan_hostport(hostport)?;
    good_parameters(parameters).then_some(RawUri { scheme, user, host, port, parameters, headers, kind: Kind::Sip })
}

/// `host` or `host:port`; an IPv6 address in brackets, which are taken off.
pub(crate) fn scan_hostport(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, rest) = if text.first() == Some(&b'[') {
        let close = text.iter().position(|&b| b == b']')?;
        let host = text.get(1..close)?;
        std::str::from_utf8(host).ok()?.parse::<Ipv6Addr>().ok()?;
        (host, text.get(close + 1..)?)
    } else {
        let (host, rest) = split_at_byte(text, b':');
        // `_` is in no host name by the RFC, and in many by custom.
        if host.is_empty() || !host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b)) {
            return None;
        }
        (host, rest)
    };
    match rest.split_first() {
        None => Some((host, None)),
        Some((b':', digits)) => Some((host, Some(u16::try_from(number(digits)?).ok()?))),
        Some(_) => None,
    }
}

/// ASCII digits only, no sign, saturating: `None` when there are none or others among them.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n.saturating_mul(10).saturating_add(u64::from(b - b'0'))))
}

fn good_parameters(text: &[u8]) -> bool {
    text.is_empty() || text.split(|&b| b == b';').skip(1).all(|p| !p.is_empty() && p.first() != Some(&b'='))
}

fn parameters(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    text.split(|&b| b == b';').skip(1).map(|p| match p.iter().position(|&b| b == b'=') {
        Some(eq) => (p.get(..eq).unwrap_or(p), p.get(eq + 1..)),
        None => (p, None),
    })
}

/// Splits before the first `at`, which stays with the second part.
fn split_at_byte(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|&b| b == at).unwrap_or(text.len()))
}

/// `%HH` to its byte; a `%` that is no escape stays. Bytes that are not UTF-8 afterwards become U+FFFD.
pub(crate) fn unescape(text: &[u8]) -> String {
    if !text.contains(&b'%') {
        return String::from_utf8_lossy(text).into_owned();
    }
    let hex = |b: Option<&u8>| b.and_then(|&b| (b as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while let Some(&b) = text.get(i) {
        match (b, hex(text.get(i + 1)), hex(text.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            _ => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, scheme: &str, user: Option<&str>, host: &str, port: Option<u16>, parameters: &[(&str, Option<&str>)]) {
        let uri = Uri::parse(text).unwrap_or_else(|| panic!("{text} is a URI"));
        assert_eq!(uri.scheme, scheme, "{text}");
        assert_eq!(uri.user.as_deref(), user, "{text}");
        assert_eq!(uri.host, host, "{text}");
        assert_eq!(uri.port, port, "{text}");
        let got: Vec<(&str, Option<&str>)> = uri.parameters.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        assert_eq!(got, parameters, "{text}");
        assert_eq!(Uri::parse(&uri.to_string()).as_ref(), Some(&uri), "{text} survives a round trip as {uri}");
    }

    #[test]
    fn parts_of_a_uri() {
        check("sip:alice@atlanta.com", "sip", Some("alice"), "atlanta.com", None, &[]);
        check("SIPS:alice:secret@atlanta.com:5061", "sips", Some("alice"), "atlanta.com", Some(5061), &[]);
        check(
            "sip:[2001:db8::10]:5070;Transport=tcp;lr",
            "sip",
            None,
            "2001:db8::10",
            Some(5070),
            &[("transport", Some("tcp")), ("lr", None)],
        );
        check("sip:+1;ext=3@gw.example.com;user=phone", "sip", Some("+1;ext=3"), "gw.example.com", None, &[("user", Some("phone"))]);
        check("sip:sips%3Auser%40example.com@example.net", "sip", Some("sips:user@example.com"), "example.net", None, &[]);
        check("sip:null-%00-null@example.com", "sip", Some("null-\0-null"), "example.com", None, &[]);
        check("sip:a%4@h", "sip", Some("a%4"), "h", None, &[]);
        check("sip:%6C@h;%6C%72;n%61me=v%61lue%25%34%31", "sip", Some("l"), "h", None, &[("lr", None), ("name", Some("value%41"))]);
        check("tel:+1-201-555-0123;phone-context=x", "tel", Some("+1-201-555-0123"), "", None, &[("phone-context", Some("x"))]);
        check("isbn:2983792873", "isbn", None, "2983792873", None, &[]);
        check("soap.beep://192.0.2.103:3002", "soap.beep", None, "//192.0.2.103:3002", None, &[]);
        assert_eq!(Uri::parse("sip:u@h;x=1?Route=%3Csip:a%3E").and_then(|u| u.headers).as_deref(), Some("Route=%3Csip:a%3E"));
    }

    #[test]
    fn what_is_no_uri() {
        for text in [
            "",
            "sip:",
            "sip:@h",
            "sip:a@b@c",
            "sip:u@h:99999",
            "sip:u@h:",
            "sip:u@[::1",
            "sip:u@[zz]",
            "sip:u@h;;x",
            "sip:u@h;=x",
            "sip: u@h",
            "<sip:u@h>",
            "sip:u@h\r\nX: y",
            "nocolon",
            "1sip:u@h",
            "tel:",
            "tel:;x",
            "sip:u@h\0",
            "sip:u@ho%41st",
            "sip:u@[::1]x",
        ] {
            assert_eq!(Uri::parse(text), None, "{text:?}");
        }
    }
}
