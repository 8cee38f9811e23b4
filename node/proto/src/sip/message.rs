//! A parsed SIP message: an index over its bytes, typed headers on demand.
//!
//! What is strict and what is not. Lines end in CRLF; a bare LF or CR, or a NUL that is no quoted-pair, refuses the message, because
//! two readers that take such a byte differently can be played against each other. `Name :` is the header `Name` (RFC 3261 7.3.1),
//! and a name that is no token refuses the message. Of a header that may stand once and that we act on, a second one refuses it.
//! Unknown methods, headers and URI schemes, folding, compact names, any case and bytes that are not UTF-8 are all kept.
//!
//! It does not decide what to answer; `endpoint.rs` does. Start at [`Message::parse`].

use super::header::{self, Name, Via};
use super::name_addr::{self, NameAddr, RawNameAddr, elements, is_space, is_token, trim, unfold};
use super::uri::{self, Uri};
use crate::limits;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Update,
    Info,
    Register,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    Other(String),
}

impl Method {
    /// Method names are case-sensitive (RFC 3261 7.1).
    pub(crate) fn of(token: &[u8]) -> Method {
        match token {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"UPDATE" => Method::Update,
            b"INFO" => Method::Info,
            b"REGISTER" => Method::Register,
            b"PRACK" => Method::Prack,
            b"REFER" => Method::Refer,
            b"NOTIFY" => Method::Notify,
            b"SUBSCRIBE" => Method::Subscribe,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            other => Method::Other(String::from_utf8_lossy(other).into_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Update => "UPDATE",
            Method::Info => "INFO",
            Method::Register => "REGISTER",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a message did not become an event. `Display` is what the log says; `code` names the counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("too large: {0} bytes")]
    TooLarge(usize),
    #[error("method {0:?} not supported")]
    Method(Method),
    #[error("out of transactions")]
    Overload,
    #[error("no dialog or transaction matches")]
    NoMatch,
    /// The SIP version is not 2.0: answered 505.
    #[error("unknown SIP version")]
    Version,
    /// Readable, but against a rule; answered with this status.
    #[error("refused with {0}")]
    Status(u16),
}

impl Refusal {
    /// A stable name for counters and log fields.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "malformed",
            Refusal::TooLarge(_) => "too-large",
            Refusal::Method(_) => "method",
            Refusal::Overload => "overload",
            Refusal::NoMatch => "no-match",
            Refusal::Version => "version",
            Refusal::Status(416) => "scheme",
            Refusal::Status(420) => "extension",
            Refusal::Status(415) => "media-type",
            Refusal::Status(406) => "not-acceptable",
            Refusal::Status(482) => "merged",
            Refusal::Status(483) => "max-forwards",
            Refusal::Status(422) => "session-interval",
            Refusal::Status(_) => "status",
        }
    }
}

/// A piece of the message: where it starts and ends. Messages are at most 64 KB, so 32 bits are plenty.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(range: Range<usize>) -> Span {
        let at = |n: usize| u32::try_from(n).expect("messages are at most SIP_MESSAGE_BYTES long");
        Span { start: at(range.start), end: at(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Name,
    name_span: Span,
    /// Trimmed, but still folded.
    value: Span,
}

#[derive(Debug)]
enum Start {
    Request { method: Method, uri: Span, parsed: Option<Uri> },
    Response { status: u16, reason: Span },
}

pub struct Message {
    bytes: Bytes,
    start: Start,
    lines: Vec<Line>,
    body: Span,
    call_id: Span,
    cseq: u32,
    cseq_method: Method,
    from_tag: Option<Span>,
    to_tag: Option<Span>,
}

/// A message that must be refused, with as much of it as an answer needs.
pub(crate) struct Broken {
    pub why: Refusal,
    /// The start line and header lines could be told apart, so that Via, From, To, Call-ID and CSeq can be copied as they are.
    pub message: Option<Box<Message>>,
}

impl Broken {
    fn unreadable(why: &'static str) -> Broken {
        Broken { why: Refusal::Malformed(why), message: None }
    }

    /// Bytes that are to be refused for a reason outside of them.
    pub(super) fn with(bytes: Bytes, why: Refusal) -> Broken {
        Broken { why, message: Message::index(bytes).ok().map(|(message, _)| Box::new(message)) }
    }
}

impl Message {
    pub fn parse(bytes: Bytes) -> Result<Message, Refusal> {
        Message::read(bytes).map_err(|broken| broken.why)
    }

    pub(crate) fn read(bytes: Bytes) -> Result<Message, Broken> {
        let len = bytes.len();
        if len > limits::SIP_DATAGRAM_BYTES {
            return Err(Broken { why: Refusal::TooLarge(len), message: None });
        }
        let (mut message, fault) = Message::index(bytes)?;
        if len > limits::SIP_MESSAGE_BYTES {
            return Err(Broken { why: Refusal::TooLarge(len), message: Some(Box::new(message)) });
        }
        match fault.map_or_else(|| message.check(), |why| Err(Refusal::Malformed(why))) {
            Ok(()) => Ok(message),
            Err(why) => Err(Broken { why, message: Some(Box::new(message)) }),
        }
    }

    /// Finds start line, header lines and body, without judging their content. A line that is wrong in itself is left out and named,
    /// so that the others can still be copied into an answer.
    fn index(bytes: Bytes) -> Result<(Message, Option<&'static str>), Broken> {
        let text: &[u8] = &bytes;
        // RFC 3261 7.5: CRLFs before the start line are ignored.
        let mut at = text.iter().position(|&b| b != b'\r' && b != b'\n').ok_or(Broken::unreadable("empty"))?;
        let line = read_line(text, &mut at)?;
        let (start, mut fault) = match read_start(text, line.clone()) {
            Some(start) => (start, None),
            None => (salvage_start(text, line)?, Some("start line")),
        };
        let mut lines: Vec<Line> = Vec::with_capacity(24);
        loop {
            if at == text.len() {
                fault = fault.or(Some("no empty line ends the header"));
                break;
            }
            let line = read_line(text, &mut at)?;
            let Some(&first) = text.get(line.start).filter(|_| !line.is_empty()) else { break };
            if first == b' ' || first == b'\t' {
                // RFC 3261 7.3.1: a line that begins with white space continues the one before.
                let previous = lines.last_mut().ok_or(Broken::unreadable("continuation of nothing"))?;
                let value = trimmed(text, previous.value.range().start..line.end);
                previous.value = Span::of(value);
                continue;
            }
            if lines.len() >= limits::SIP_HEADERS {
                return Err(Broken::unreadable("too many header lines"));
            }
            match read_header(text, line) {
                Some(header) => lines.push(header),
                // What would continue this line must not continue the one before it.
                None => return Err(Broken::unreadable("header line without a name")),
            }
        }
        let message = Message {
            start,
            lines,
            body: Span::of(at..text.len()),
            call_id: Span::default(),
            cseq: 0,
            cseq_method: Method::Ack,
            from_tag: None,
            to_tag: None,
            bytes,
        };
        Ok((message, fault))
    }

    /// RFC 3261 8.1.1 and 20: what must be there, once, and well-formed.
    fn check(&mut self) -> Result<(), Refusal> {
        let malformed = |why| Err(Refusal::Malformed(why));
        if let Start::Request { uri, parsed, .. } = &mut self.start {
            let raw = uri::scan(self.bytes.get(uri.range()).unwrap_or(b""));
            let Some(raw) = raw else { return malformed("Request-URI") };
            // RFC 3261 19.1.1: a Request-URI carries no headers (RFC 4475 `escruri`).
            if raw.headers.is_some() {
                return malformed("headers in the Request-URI");
            }
            *parsed = Some(raw.to_uri());
        }
        let (mut via, mut from, mut to, mut call_id, mut cseq, mut length) = (None, None, None, None, None, None);
        for (i, line) in self.lines.iter().enumerate() {
            let value = self.bytes.get(line.value.range()).unwrap_or(b"");
            let slot = match line.name {
                Name::Via => {
                    via = via.or(Some(value));
                    continue;
                }
                Name::Contact => {
                    if value != b"*" && elements(value).any(|e| name_addr::scan(e).is_none()) {
                        return malformed("Contact");
                    }
                    continue;
                }
                Name::From => &mut from,
                Name::To => &mut to,
                Name::CallId => &mut call_id,
                Name::CSeq => &mut cseq,
                Name::ContentLength => &mut length,
                name if name.is_single() => {
                    if self.lines.iter().take(i).any(|l| l.name == name) {
                        return malformed("a header twice that may stand once");
                    }
                    let out_of_range = match name {
                        Name::MaxForwards => uri::number(value).is_none_or(|n| n > 255),
                        Name::SessionExpires => header::session_expires(value).is_none(),
                        Name::MinSe => header::seconds(value).is_none(),
                        _ => false,
                    };
                    if out_of_range {
                        return malformed("a number out of range");
                    }
                    continue;
                }
                _ => continue,
            };
            if slot.replace((value, line.value)).is_some() {
                return malformed("a header twice that may stand once");
            }
        }
        let Some(via) = via else { return malformed("no Via") };
        if elements(via).next().and_then(Via::parse).is_none() {
            return malformed("Via");
        }
        let (Some((from, _)), Some((to, _)), Some((id, id_span)), Some((cseq, _))) = (from, to, call_id, cseq) else {
            return malformed("From, To, Call-ID or CSeq missing");
        };
        if id.is_empty() || id.iter().any(|&b| is_space(b)) || std::str::from_utf8(id).is_err() {
            return malformed("Call-ID");
        }
        let tag = |value: &[u8]| -> Result<Option<Span>, Refusal> {
            let raw = name_addr::scan(value).ok_or(Refusal::Malformed("From or To"))?;
            match raw.parameter("tag") {
                None => Ok(None),
                // `;tag` without a value would be a dialog that has a tag and has none.
                Some(b"") => Err(Refusal::Malformed("From or To")),
                Some(t) => Ok(Some(self.span_of(t))),
            }
        };
        let (from_tag, to_tag) = (tag(from)?, tag(to)?);
        let Some((number, method)) = header::cseq(cseq) else { return malformed("CSeq") };
        if let Start::Request { method: m, .. } = &self.start
            && *m != method
        {
            return malformed("CSeq of another method");
        }
        if let Some((length, _)) = length {
            let have = self.body.range();
            let wanted = uri::number(length).and_then(|n| usize::try_from(n).ok());
            let Some(end) = wanted.and_then(|n| have.start.checked_add(n)).filter(|&end| end <= have.end) else {
                return malformed("Content-Length");
            };
            // RFC 3261 18.3: what follows the body in a datagram is discarded.
            self.body = Span::of(have.start..end);
        }
        (self.call_id, self.cseq, self.cseq_method, self.from_tag, self.to_tag) = (id_span, number, method, from_tag, to_tag);
        if let Start::Request { .. } = &self.start
            && !self.version_is_ours()
        {
            return Err(Refusal::Version);
        }
        Ok(())
    }

    fn version_is_ours(&self) -> bool {
        let Start::Request { uri, .. } = &self.start else { return true };
        self.bytes.get(uri.range().end + 1..).is_some_and(|rest| rest.get(..7).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/2.0")))
    }

    /// `None` for a response.
    pub fn method(&self) -> Option<&Method> {
        match &self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    pub fn request_uri(&self) -> Option<&Uri> {
        match &self.start {
            Start::Request { parsed, .. } => parsed.as_ref(),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI as it stands on the wire.
    pub fn request_uri_text(&self) -> Option<&str> {
        match &self.start {
            Start::Request { uri, .. } => std::str::from_utf8(self.slice(*uri)).ok(),
            Start::Response { .. } => None,
        }
    }

    /// `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match &self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(*status),
        }
    }

    pub fn reason_phrase(&self) -> Option<String> {
        match &self.start {
            Start::Request { .. } => None,
            Start::Response { reason, .. } => Some(String::from_utf8_lossy(self.slice(*reason)).into_owned()),
        }
    }

    pub fn call_id(&self) -> &str {
        std::str::from_utf8(self.slice(self.call_id)).unwrap_or("")
    }

    pub fn from(&self) -> Option<NameAddr> {
        self.name_addrs("From").pop()
    }

    pub fn to(&self) -> Option<NameAddr> {
        self.name_addrs("To").pop()
    }

    /// The number of CSeq.
    pub fn cseq(&self) -> u32 {
        self.cseq
    }

    /// The method of CSeq: a response's only hint of what it answers.
    pub fn cseq_method(&self) -> &Method {
        &self.cseq_method
    }

    /// First header of that name (compact names count as their long ones), unfolded, trimmed; bytes that are not UTF-8 become U+FFFD.
    pub fn header(&self, name: &str) -> Option<String> {
        self.matching(name).next().map(|l| self.text(l.value))
    }

    /// All header lines of that name, in order, not split at commas.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.matching(name).map(|l| self.text(l.value)).collect()
    }

    /// Every header line as (name as sent, value), in order.
    pub fn all_headers(&self) -> Vec<(String, String)> {
        self.lines.iter().map(|l| (String::from_utf8_lossy(self.slice(l.name_span)).into_owned(), self.text(l.value))).collect()
    }

    /// The name-addrs of a header that may list several (comma-separated or repeated), bad ones left out.
    pub fn name_addrs(&self, name: &str) -> Vec<NameAddr> {
        let values = self.matching(name).map(|l| self.slice(l.value));
        values.flat_map(elements).filter_map(name_addr::scan).map(RawNameAddr::to_name_addr).collect()
    }

    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body.range())
    }

    /// Raw values (folded as they came) of a header, in order.
    pub(crate) fn raw(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |l| l.name == name).map(|l| self.slice(l.value))
    }

    /// Every header line: name as sent, which it is, raw value.
    pub(crate) fn raw_lines(&self) -> impl Iterator<Item = (&str, Name, &[u8])> {
        self.lines.iter().map(|l| (std::str::from_utf8(self.slice(l.name_span)).unwrap_or(""), l.name, self.slice(l.value)))
    }

    pub(crate) fn has(&self, name: Name) -> bool {
        self.lines.iter().any(|l| l.name == name)
    }

    /// The comma-separated items of all lines of a header.
    pub(crate) fn items(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.raw(name).flat_map(elements)
    }

    /// Whether a header such as Supported or Require lists this token.
    pub(crate) fn lists(&self, name: Name, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    pub(crate) fn top_via(&self) -> Option<Via<'_>> {
        self.items(Name::Via).next().and_then(Via::parse)
    }

    pub(crate) fn tag_in_from(&self) -> Option<&[u8]> {
        self.from_tag.map(|s| self.slice(s))
    }

    pub(crate) fn tag_in_to(&self) -> Option<&[u8]> {
        self.to_tag.map(|s| self.slice(s))
    }

    /// First Contact, as (URI text).
    pub(crate) fn contact_uri(&self) -> Option<&str> {
        let raw = self.items(Name::Contact).find_map(name_addr::scan)?;
        std::str::from_utf8(raw.uri).ok()
    }

    /// The media type of the body, lower-case, without parameters.
    pub fn content_type(&self) -> Option<String> {
        let value = self.raw(Name::ContentType).next()?;
        let (kind, _) = value.split_at_checked(value.iter().position(|&b| b == b';').unwrap_or(value.len()))?;
        let text: Vec<u8> = kind.iter().filter(|&&b| !is_space(b)).map(u8::to_ascii_lowercase).collect();
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// The body where it is SDP; the default content type of an INVITE's body is SDP (nothing else is asked for).
    pub fn sdp(&self) -> Option<Bytes> {
        let is_sdp = self.content_type().is_none_or(|t| t == "application/sdp");
        (is_sdp && self.body.start < self.body.end).then(|| self.body())
    }

    fn matching<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        let wanted = Name::of(name.as_bytes());
        self.lines.iter().filter(move |l| {
            if wanted != Name::Other || l.name != Name::Other {
                return l.name == wanted;
            }
            let have = std::str::from_utf8(self.slice(l.name_span)).unwrap_or("");
            Name::long(have).eq_ignore_ascii_case(Name::long(name))
        })
    }

    /// Where a piece stands that was borrowed from our own bytes.
    fn span_of(&self, piece: &[u8]) -> Span {
        let start = (piece.as_ptr() as usize).checked_sub(self.bytes.as_ptr() as usize).expect("the piece is ours");
        Span::of(start..start + piece.len())
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.range()).unwrap_or(b"")
    }

    fn text(&self, span: Span) -> String {
        String::from_utf8_lossy(&unfold(self.slice(span))).into_owned()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.bytes.get(..self.body.range().start).unwrap_or(b"");
        let first = head.split(|&b| b == b'\r').next().unwrap_or(b"");
        write!(
            f,
            "Message({:?}, {} header lines, {} bytes of body)",
            String::from_utf8_lossy(first),
            self.lines.len(),
            self.body.range().len()
        )
    }
}

/// Takes the next line off; `at` moves behind its CRLF.
fn read_line(text: &[u8], at: &mut usize) -> Result<Range<usize>, Broken> {
    let rest = text.get(*at..).unwrap_or(b"");
    let end = rest.iter().position(|&b| b == b'\n').ok_or(Broken::unreadable("no empty line ends the header"))?;
    let line = rest.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(Broken::unreadable("LF without CR"))?;
    if line.contains(&b'\r') {
        return Err(Broken::unreadable("CR without LF"));
    }
    if line.contains(&0) && !nuls_are_quoted(line) {
        return Err(Broken::unreadable("NUL"));
    }
    let range = *at..*at + line.len();
    *at += end + 1;
    Ok(range)
}

/// RFC 3261 25.1: NUL may only stand as a quoted-pair (RFC 4475 `intmeth`).
fn nuls_are_quoted(line: &[u8]) -> bool {
    line.windows(2).filter(|w| w.get(1) == Some(&0)).all(|w| w.first() == Some(&b'\\')) && line.first() != Some(&0)
}

fn read_start(text: &[u8], line: Range<usize>) -> Option<Start> {
    let bytes = text.get(line.clone())?;
    let space = bytes.iter().position(|&b| b == b' ')?;
    let (first, rest) = bytes.split_at_checked(space)?;
    let rest = rest.get(1..)?;
    if first.eq_ignore_ascii_case(b"SIP/2.0") {
        let (code, reason) = rest.split_at_checked(3)?;
        let status = uri::number(code).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..700).contains(n))?;
        // The space before an empty reason phrase is required, and often forgotten.
        let reason = match reason.split_first() {
            None => line.end..line.end,
            Some((b' ', _)) => line.start + space + 5..line.end,
            Some(_) => return None,
        };
        return Some(Start::Response { status, reason: Span::of(reason) });
    }
    // Exactly one space on either side of the URI and nothing behind the version (RFC 4475 `lwsstart`, `trws`, `lwsruri`).
    let end = rest.iter().position(|&b| b == b' ')?;
    let version = rest.get(end + 1..)?;
    let (name, number) = version.split_at_checked(4)?;
    let (major, minor) = number.split_at_checked(number.iter().position(|&b| b == b'.')?)?;
    let is_version = name.eq_ignore_ascii_case(b"SIP/") && uri::number(major).is_some() && uri::number(minor.get(1..)?).is_some();
    if !is_version || first.is_empty() || !first.iter().all(|&b| is_token(b)) {
        return None;
    }
    let uri = line.start + space + 1;
    Some(Start::Request { method: Method::of(first), uri: Span::of(uri..uri + end), parsed: None })
}

/// A start line that is wrong but that a request's method begins, so that it can be told 400.
fn salvage_start(text: &[u8], line: Range<usize>) -> Result<Start, Broken> {
    let bytes = text.get(line.clone()).unwrap_or(b"");
    let (method, rest) = bytes.split_at(bytes.iter().position(|&b| b == b' ').unwrap_or(bytes.len()));
    if method.is_empty() || rest.is_empty() || !method.iter().all(|&b| is_token(b)) {
        return Err(Broken::unreadable("start line"));
    }
    Ok(Start::Request { method: Method::of(method), uri: Span::of(line.end..line.end), parsed: None })
}

fn read_header(text: &[u8], line: Range<usize>) -> Option<Line> {
    let colon = line.start + text.get(line.clone())?.iter().position(|&b| b == b':')?;
    // RFC 3261 7.3.1: white space may stand before the colon; within a name it may not.
    let name = trimmed(text, line.start..colon);
    let token = text.get(name.clone())?;
    if token.is_empty() || !token.iter().all(|&b| is_token(b)) {
        return None;
    }
    Some(Line { name: Name::of(token), name_span: Span::of(name), value: Span::of(trimmed(text, colon + 1..line.end)) })
}

fn trimmed(text: &[u8], range: Range<usize>) -> Range<usize> {
    let all = text.get(range.clone()).unwrap_or(b"");
    let leading = all.len() - name_addr::trim_start(all).len();
    let start = range.start + leading;
    start..start + trim(all).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A good request with lines put in before the empty line, and a body.
    fn with(lines: &str, body: &str) -> Bytes {
        Bytes::from(format!(
            "OPTIONS sip:b@[2001:db8::1]:5070 SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1\r\nf: <sip:a@a>;tag=1\r\nt: tel:+4712345678\r\ni: 1@a\r\n\
             CSeq: 1 OPTIONS\r\n{lines}\r\n{body}"
        ))
    }

    fn refusal(lines: &str, body: &str) -> Option<Refusal> {
        Message::parse(with(lines, body)).err()
    }

    #[test]
    fn lines_names_and_values() {
        let m = Message::parse(with(
            "X-A : 1\r\nx-a\t:\r\n  2 \r\n\t3\r\nX-a:\r\nX-B: \"q, r\", s\r\nX-B: t\r\nX-L: caf\u{e9}\r\nContact: <sip:1@a>, \"c, d\" <sips:2@[::1]>;q=1\r\nm: <tel:+1>\r\n\
             Diversion: <sip:x@y>;reason=busy\r\ns: Hello\r\nr: <sip:z@z>\r\n",
            "",
        ))
        .expect("readable");
        assert_eq!(m.headers("X-A"), ["1", "2 3", ""]);
        assert_eq!(m.headers("x-b"), ["\"q, r\", s", "t"]);
        assert_eq!(m.header("subject").as_deref(), Some("Hello"));
        assert_eq!(m.header("Refer-To").as_deref(), Some("<sip:z@z>"));
        assert_eq!(m.header("R").as_deref(), Some("<sip:z@z>"));
        assert_eq!(m.header("X-None"), None);
        let users: Vec<String> = m.name_addrs("Contact").iter().map(|c| c.uri.user.clone().unwrap_or_default()).collect();
        assert_eq!(users, ["1", "2", "+1"]);
        assert_eq!(m.request_uri().map(|u| (u.host.as_str(), u.port)), Some(("2001:db8::1", Some(5070))));
        assert_eq!(m.to().and_then(|t| t.uri.user).as_deref(), Some("+4712345678"));
        assert_eq!(m.all_headers()[5], ("X-A".to_owned(), "1".to_owned()), "the name that was meant, not `X-A `");
        let mut latin1 = with("X-L: caf@\r\n", "").to_vec();
        let at = latin1.windows(4).position(|w| w == b"caf@").expect("there");
        latin1[at + 3] = 0xe9;
        assert_eq!(Message::parse(Bytes::from(latin1)).expect("tolerated").header("X-L").as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn bodies_and_content_length() {
        let body = |lines: &str, body: &str| Message::parse(with(lines, body)).map(|m| m.body());
        assert_eq!(body("", "abc"), Ok(Bytes::from("abc")), "a datagram's rest where no length is said");
        assert_eq!(body("l: 3\r\n", "abcdef"), Ok(Bytes::from("abc")));
        assert_eq!(body("Content-Length   : 0\r\n", "abcdef"), Ok(Bytes::new()));
        assert_eq!(body("l: 4\r\n", "abc"), Err(Refusal::Malformed("Content-Length")));
        for bad in ["-1", "+3", "3 3", "0x3", "", "99999999999999999999999999", "3,3"] {
            assert_eq!(body(&format!("l: {bad}\r\n"), "abc"), Err(Refusal::Malformed("Content-Length")), "{bad}");
        }
        let mut binary = with("Content-Length: 4\r\n", "").to_vec();
        binary.extend_from_slice(&[0, b'\n', 0xff, b'\r']);
        assert_eq!(Message::parse(Bytes::from(binary)).expect("binary").body().as_ref(), [0, b'\n', 0xff, b'\r']);
        let leading = [b"\r\n\r\n".as_slice(), &with("", "")].concat();
        assert!(Message::parse(Bytes::from(leading)).is_ok(), "CRLFs before the start line are ignored");
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        let rows = [
            ("X-A: 1\nX-B: 2\r\n", "LF without CR"),
            ("X-A: 1\rX-B: 2\r\n", "CR without LF"),
            ("X-A: 1\0\r\n", "NUL"),
            ("\0X-A: 1\r\n", "NUL"),
            ("X A: 1\r\n", "header line without a name"),
            ("X-A\u{a0}: 1\r\n", "header line without a name"),
            (": 1\r\n", "header line without a name"),
            ("nonsense\r\n", "header line without a name"),
            ("l: 0\r\nContent-Length: 0\r\n", "a header twice that may stand once"),
            ("From: <sip:a@a>\r\n", "a header twice that may stand once"),
            ("CALL-ID: 2\r\n", "a header twice that may stand once"),
            ("CSeq : 1 OPTIONS\r\n", "a header twice that may stand once"),
            ("Max-Forwards: 7\r\nMax-Forwards: 7\r\n", "a header twice that may stand once"),
            ("c: a/b\r\nContent-Type: a/b\r\n", "a header twice that may stand once"),
            ("Max-Forwards: 256\r\n", "a number out of range"),
            ("Max-Forwards: x\r\n", "a number out of range"),
            ("Session-Expires: soon\r\n", "a number out of range"),
            ("Contact: <sip:a@a>, <\r\n", "Contact"),
            ("Contact: <sip:a@a>;q=\r\n", "Contact"),
        ];
        for (lines, why) in rows {
            assert_eq!(refusal(lines, ""), Some(Refusal::Malformed(why)), "{lines:?}");
        }
        assert_eq!(refusal(&"X: y\r\n".repeat(limits::SIP_HEADERS), ""), Some(Refusal::Malformed("too many header lines")));
        assert_eq!(refusal("", &"x".repeat(limits::SIP_MESSAGE_BYTES)).map(|r| r.code()), Some("too-large"));
        assert_eq!(refusal("X-Q: \"\\\0\"\r\n", ""), None, "a NUL may stand as a quoted-pair");
        let untagged = String::from_utf8_lossy(&with("", "")).replace(";tag=1", ";tag");
        assert_eq!(Message::parse(Bytes::from(untagged)).err(), Some(Refusal::Malformed("From or To")));
        let good = with("", "");
        for end in 0..good.len() - 1 {
            assert!(Message::parse(good.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
