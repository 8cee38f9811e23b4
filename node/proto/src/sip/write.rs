//! Messages to bytes. A value that comes from outside this room passes [`check_headers`] first, so that no CR or LF in it can start
//! a header of its own; values copied from a received message are unfolded on the way.

use super::endpoint::{CommandError, Flow, Header};
use super::header::{Name, Via};
use super::message::{Message, Method};
use super::name_addr::{self, elements, is_token, unfold};
use bytes::Bytes;
use std::io::Write as _;

/// What the endpoint itself decides; a user that could set these could break transactions, dialogs or framing.
const RESERVED: [Name; 8] =
    [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq, Name::ContentLength, Name::RecordRoute, Name::SessionExpires];

/// Refuses header lines that would not be one header line, and those that are not the user's to set.
pub(crate) fn check_headers(headers: &[Header]) -> Result<(), CommandError> {
    let good = |h: &Header| {
        !h.name.is_empty() && h.name.bytes().all(is_token) && is_one_line(&h.value) && !RESERVED.contains(&Name::of(h.name.as_bytes()))
    };
    if headers.iter().all(good) { Ok(()) } else { Err(CommandError::BadHeader) }
}

pub(crate) fn is_one_line(text: &str) -> bool {
    !text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

pub(crate) struct Writer {
    out: Vec<u8>,
    typed: bool,
}

impl Writer {
    pub fn request(method: &str, uri: &str) -> Writer {
        let mut w = Writer { out: Vec::with_capacity(1024), typed: false };
        w.push(&[method.as_bytes(), b" ", uri.as_bytes(), b" SIP/2.0\r\n"]);
        w
    }

    /// A response with what RFC 3261 8.2.6.2 has it copy: Via (the top one completed after 18.2.1 and RFC 3581), From, To with
    /// `to_tag` unless it has one, Call-ID, CSeq. A broken request gives what it has,
    /// each once: a doubled header is not passed back.
    pub fn response(request: &Message, status: u16, phrase: Option<&str>, to_tag: Option<&str>, flow: &Flow) -> Writer {
        let mut w = Writer { out: Vec::with_capacity(1024), typed: false };
        let phrase = phrase.unwrap_or_else(|| reason_phrase(status));
        let _ = write!(w.out, "SIP/2.0 {status} {phrase}\r\n");
        for (i, via) in request.raw(Name::Via).enumerate() {
            if i == 0 { w.top_via(via, flow) } else { w.line("Via", via) }
        }
        if let Some(from) = request.raw(Name::From).next() {
            w.line("From", from);
        }
        if let Some(to) = request.raw(Name::To).next() {
            let untagged = name_addr::scan(to).is_some_and(|t| t.parameter("tag").is_none());
            match to_tag.filter(|_| untagged) {
                Some(tag) => w.push(&[b"To: ", &unfold(to), b";tag=", tag.as_bytes(), b"\r\n"]),
                None => w.line("To", to),
            }
        }
        if let Some(id) = request.raw(Name::CallId).next() {
            w.line("Call-ID", id);
        }
        if let Some(cseq) = request.raw(Name::CSeq).next() {
            w.line("CSeq", cseq);
        }
        w
    }

    fn top_via(&mut self, value: &[u8], flow: &Flow) {
        let value = unfold(value);
        let first = elements(&value).next().unwrap_or(b"");
        let Some(via) = Via::parse(first) else { return self.line("Via", &*value) };
        let ip = flow.peer.ip().to_canonical();
        let sent_by = std::str::from_utf8(via.host).ok().and_then(|h| h.parse::<std::net::IpAddr>().ok());
        let asked = via.rport.is_some_and(<[u8]>::is_empty);
        let mut pieces = first.split(|&b| b == b';');
        self.push(&[b"Via: ", pieces.next().unwrap_or(b"")]);
        for piece in pieces {
            let name = name_addr::trim(piece.split(|&b| b == b'=').next().unwrap_or(piece));
            if name.eq_ignore_ascii_case(b"received") {
                // Where it came from is ours to say.
                continue;
            }
            self.push(&[b";", piece]);
            if asked && name.eq_ignore_ascii_case(b"rport") {
                // The empty `rport` gets its value where it stands.
                let _ = write!(self.out, "={}", flow.peer.port());
            }
        }
        // RFC 3261 18.2.1: when sent-by is not where it came from; RFC 3581 4: always when rport is asked for.
        if asked || sent_by != Some(ip) {
            let _ = write!(self.out, ";received={ip}");
        }
        let rest = value.iter().position(|&b| b == b',').filter(|_| first.len() < value.len());
        if rest.is_some() {
            for more in elements(&value).skip(1) {
                self.push(&[b", ", more]);
            }
        }
        self.push(&[b"\r\n"]);
    }

    pub fn line(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.push(&[name.as_bytes(), b": ", &unfold(value.as_ref()), b"\r\n"]);
    }

    /// The user's own lines, which `check_headers` has passed.
    pub fn lines(&mut self, headers: &[Header]) {
        for h in headers {
            self.typed |= Name::of(h.name.as_bytes()) == Name::ContentType;
            self.line(&h.name, h.value.as_bytes());
        }
    }

    /// All values of a header, copied.
    pub fn copy(&mut self, request: &Message, name: Name, as_name: &str) {
        for value in request.raw(name) {
            self.line(as_name, value);
        }
    }

    /// All header lines but these.
    pub fn copy_others(&mut self, message: &Message, but: &[Name]) {
        for (name, header, value) in message.raw_lines() {
            if !but.contains(&header) {
                self.typed |= header == Name::ContentType;
                self.line(name, value);
            }
        }
    }

    pub fn finish(mut self, sdp: Option<&[u8]>) -> Bytes {
        let body = sdp.unwrap_or(b"");
        if !body.is_empty() && !self.typed {
            self.push(&[b"Content-Type: application/sdp\r\n"]);
        }
        let _ = write!(self.out, "Content-Length: {}\r\n\r\n", body.len());
        self.out.extend_from_slice(body);
        // A response lingers for 32 s to be repeated: without the room that was guessed for it.
        self.out.shrink_to_fit();
        Bytes::from(self.out)
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.out.extend_from_slice(piece);
        }
    }
}

/// ACK for a 300-699 (RFC 3261 17.1.1.3): the INVITE's own branch, the response's To.
pub(crate) fn ack_for(invite: &Message, response: &Message) -> Bytes {
    hop_request(invite, &Method::Ack, response.raw(Name::To).next())
}

/// CANCEL (RFC 3261 9.1): the INVITE's own branch, Request-URI, Route and CSeq number.
pub(crate) fn cancel_for(invite: &Message) -> Bytes {
    hop_request(invite, &Method::Cancel, None)
}

fn hop_request(invite: &Message, method: &Method, to: Option<&[u8]>) -> Bytes {
    let mut w = Writer::request(method.as_str(), invite.request_uri_text().unwrap_or(""));
    if let Some(via) = invite.items(Name::Via).next() {
        w.line("Via", via);
    }
    w.line("Max-Forwards", "70");
    w.copy(invite, Name::Route, "Route");
    w.copy(invite, Name::From, "From");
    match to {
        Some(to) => w.line("To", to),
        None => w.copy(invite, Name::To, "To"),
    }
    w.line("Call-ID", invite.call_id());
    w.line("CSeq", format!("{} {method}", invite.cseq()));
    w.finish(None)
}

pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        other => match other / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}
