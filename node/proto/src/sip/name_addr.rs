//! `"Display" <uri>;parameters`, the form of From, To, Contact, Route and the identity headers (RFC 3261 20, 25.1).
//!
//! As in `uri.rs` there is a borrowing scan for the wire and an owned form for users. Values may still be folded: CR and LF count
//! as white space here, since the reader has checked that they only stand where folding puts them.

use super::uri::{self, Uri};
use std::fmt;

/// `"Display" <uri>;params` as in From, To, Contact, P-Asserted-Identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// Unquoted.
    pub display: Option<String>,
    pub uri: Uri,
    /// Parameters of the header, not of the URI; names lower-case, quoted values unquoted.
    pub parameters: Vec<(String, Option<String>)>,
}

impl NameAddr {
    pub fn parse(text: &str) -> Option<NameAddr> {
        scan(text.as_bytes()).map(|raw| raw.to_name_addr())
    }

    /// Value of a header parameter; `Some("")` where it has none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(value.as_deref().unwrap_or(""))
    }

    pub fn tag(&self) -> Option<&str> {
        self.parameter("tag")
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", quote(display))?;
        }
        write!(f, "<{}>", self.uri)?;
        for (name, value) in &self.parameters {
            write!(f, ";{name}")?;
            match value {
                Some(v) if !v.is_empty() && v.bytes().all(is_token) => write!(f, "={v}")?,
                Some(v) => write!(f, "={}", quote(v))?,
                None => {}
            }
        }
        Ok(())
    }
}

/// A quoted-string; CR, LF and NUL, which no quoting lets through, are left out.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')) {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RawNameAddr<'a> {
    /// Quoted or tokens, as it stands.
    pub display: &'a [u8],
    pub uri: &'a [u8],
    /// From the first `;` on.
    pub parameters: &'a [u8],
}

impl<'a> RawNameAddr<'a> {
    pub fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        parameters(self.parameters).flatten().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, v)| v.unwrap_or(b""))
    }

    pub fn to_name_addr(self) -> NameAddr {
        NameAddr {
            display: (!self.display.is_empty()).then(|| unquote(self.display)),
            uri: uri::scan(self.uri).expect("scan() let only readable URIs through").to_uri(),
            parameters: parameters(self.parameters)
                .flatten()
                .map(|(n, v)| (String::from_utf8_lossy(n).to_ascii_lowercase(), v.map(unquote)))
                .collect(),
        }
    }
}

/// Reads one name-addr or addr-spec with its header parameters; `None` if malformed anywhere.
pub(crate) fn scan(value: &[u8]) -> Option<RawNameAddr<'_>> {
    let value = trim(value);
    let (display, rest) = if value.first() == Some(&b'"') {
        let end = quoted_end(value)?;
        let (display, rest) = value.split_at_checked(end)?;
        let rest = trim(rest);
        if rest.first() != Some(&b'<') {
            return None;
        }
        (display, rest)
    } else {
        match value.iter().position(|&b| matches!(b, b'<' | b'"' | b';' | b',' | b':')) {
            Some(at) if value.get(at) == Some(&b'<') => {
                let (display, rest) = value.split_at_checked(at)?;
                (trim(display), rest)
            }
            // A bare addr-spec: what follows `;` belongs to the header, and `?` or `,` cannot be in it (RFC 3261 20; RFC 4475 `regbadct`).
            Some(at) if value.get(at) == Some(&b':') => {
                let end = value.iter().position(|&b| b == b';' || is_space(b)).unwrap_or(value.len());
                let (uri, rest) = value.split_at_checked(end)?;
                if uri.iter().any(|b| matches!(b, b'?' | b',')) {
                    return None;
                }
                return finish(b"", uri, rest);
            }
            _ => return None,
        }
    };
    let close = rest.iter().position(|&b| b == b'>')?;
    finish(display, rest.get(1..close)?, rest.get(close + 1..)?)
}

fn finish<'a>(display: &'a [u8], uri: &'a [u8], parameters_text: &'a [u8]) -> Option<RawNameAddr<'a>> {
    uri::scan(uri)?;
    let parameters_text = trim(parameters_text);
    parameters(parameters_text).all(|p| p.is_some()).then_some(RawNameAddr { display, uri, parameters: parameters_text })
}

/// `;name=value` one by one; an item is `None` where it is malformed, and is the last.
pub(crate) fn parameters(text: &[u8]) -> Parameters<'_> {
    Parameters { rest: trim(text) }
}

pub(crate) struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Option<(&'a [u8], Option<&'a [u8]>)>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_none() {
            self.rest = b"";
        }
        Some(item)
    }
}

impl<'a> Parameters<'a> {
    fn read(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let rest = trim_start(self.rest.strip_prefix(b";")?);
        let (name, rest) = rest.split_at_checked(rest.iter().position(|&b| !is_token(b)).unwrap_or(rest.len()))?;
        if name.is_empty() {
            return None;
        }
        let rest = trim_start(rest);
        let Some(rest) = rest.strip_prefix(b"=") else {
            self.rest = rest;
            return Some((name, None));
        };
        let rest = trim_start(rest);
        let end = match rest.first()? {
            b'"' => quoted_end(rest)?,
            // token, host or IPv6reference; anything that is no delimiter is let through.
            _ => rest.iter().position(|&b| is_space(b) || matches!(b, b';' | b',' | b'"' | b'<' | b'>')).unwrap_or(rest.len()),
        };
        let (value, rest) = rest.split_at_checked(end)?;
        if value.is_empty() {
            return None;
        }
        self.rest = trim_start(rest);
        Some((name, Some(value)))
    }
}

/// The elements of a header that lists several: split at commas outside quotes and angle brackets, trimmed, empty ones left out.
pub(crate) fn elements(value: &[u8]) -> Elements<'_> {
    Elements { rest: Some(value) }
}

pub(crate) struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest?;
            let (mut quoted, mut bracket, mut i) = (false, false, 0);
            let comma = loop {
                match rest.get(i) {
                    None => break None,
                    Some(b'\\') if quoted => i += 1,
                    Some(b'"') if !bracket => quoted = !quoted,
                    Some(b'<') if !quoted => bracket = true,
                    Some(b'>') if !quoted => bracket = false,
                    Some(b',') if !quoted && !bracket => break Some(i),
                    Some(_) => {}
                }
                i += 1;
            };
            let element = match comma {
                Some(at) => {
                    self.rest = rest.get(at + 1..);
                    trim(rest.get(..at).unwrap_or(rest))
                }
                None => {
                    self.rest = None;
                    trim(rest)
                }
            };
            if !element.is_empty() {
                return Some(element);
            }
        }
    }
}

/// Where the quoted-string that starts `text` ends (after its closing quote).
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut i = 1;
    loop {
        match text.get(i)? {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

/// Takes quotes and escapes off; folding becomes a space, bytes that are not UTF-8 become U+FFFD.
fn unquote(text: &[u8]) -> String {
    let Some(inner) = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")) else {
        return String::from_utf8_lossy(&unfold(text)).into_owned();
    };
    let inner = unfold(inner);
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&b) = bytes.next() {
        let b = if b == b'\\' { bytes.next().copied().unwrap_or(b) } else { b };
        out.push(b);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Folding (CRLF and the white space around it) becomes one space (RFC 3261 7.3.1).
pub(crate) fn unfold(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let value = trim(value);
    if !value.contains(&b'\n') {
        return value.into();
    }
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    for (i, line) in value.split(|&b| b == b'\n').enumerate() {
        let line = trim(line);
        if i > 0 && !line.is_empty() && out.last().is_some_and(|&b| b != b' ') {
            out.push(b' ');
        }
        out.extend_from_slice(line);
    }
    out.into()
}

pub(crate) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// RFC 3261 25.1 token.
pub(crate) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}

pub(crate) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let Some((&b, rest)) = text.split_first() {
        if !is_space(b) {
            break;
        }
        text = rest;
    }
    text
}

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let Some((&b, rest)) = text.split_last() {
        if !is_space(b) {
            break;
        }
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, display: Option<&str>, uri: &str, parameters: &[(&str, Option<&str>)]) {
        let got = NameAddr::parse(text).unwrap_or_else(|| panic!("{text:?} is a name-addr"));
        assert_eq!(got.display.as_deref(), display, "{text:?}");
        assert_eq!(got.uri, Uri::parse(uri).expect("expected URI"), "{text:?}");
        let have: Vec<(&str, Option<&str>)> = got.parameters.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        assert_eq!(have, parameters, "{text:?}");
        assert_eq!(NameAddr::parse(&got.to_string()).as_ref(), Some(&got), "{text:?} survives a round trip as {got}");
    }

    #[test]
    fn parts_of_a_name_addr() {
        check("sip:a@b;tag=1", None, "sip:a@b", &[("tag", Some("1"))]);
        check("<sip:a@b;x=1>;TAG=1", None, "sip:a@b;x=1", &[("tag", Some("1"))]);
        check("A. G. Bell <sip:a@b>", Some("A. G. Bell"), "sip:a@b", &[]);
        check("caller<sip:a@b>;tag=323", Some("caller"), "sip:a@b", &[("tag", Some("323"))]);
        check("\"Bell, \\\"A\\\" <x>\" <sip:a@b>;p=\"q;,>\";z", Some("Bell, \"A\" <x>"), "sip:a@b", &[("p", Some("q;,>")), ("z", None)]);
        check("\r\n sip:a@b ;   tag    = 19n", None, "sip:a@b", &[("tag", Some("19n"))]);
        check("tel:+4712345678", None, "tel:+4712345678", &[]);
        check("<sip:a@[::1]:5062>;q=0.3", None, "sip:a@[::1]:5062", &[("q", Some("0.3"))]);
        check("\"\" <sip:a@b>", Some(""), "sip:a@b", &[]);
    }

    #[test]
    fn what_is_no_name_addr() {
        for text in [
            "",
            "\"open <sip:a@b>",
            "Bell, A <sip:a@b>",
            "< sip:a@b >",
            "<sip:a@b",
            "sip:a@b?x=1",
            "<sip:a@b>;;",
            "<sip:a@b> x",
            "<>",
            "\"x\"",
            "<sip:a@b>;=1",
            "<sip:a@b>;t=",
            "\"x\" sip:a@b",
        ] {
            assert_eq!(NameAddr::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn elements_split_only_outside_quotes_and_brackets() {
        let value = b"\"a,\\\"b\" <sip:x,y@z>, <sip:1@2>;p=\"c,d\",, sip:e@f ";
        let got: Vec<&[u8]> = elements(value).collect();
        assert_eq!(got, [&b"\"a,\\\"b\" <sip:x,y@z>"[..], b"<sip:1@2>;p=\"c,d\"", b"sip:e@f"]);
    }
}
