//! Messages out of a byte stream (RFC 3261 18.3): where each ends, what stands between them, and what cannot be told apart any more.
//!
//! It judges only what decides where a message ends: lines that end in CRLF and the one Content-Length. What a message says is judged
//! by `message.rs`; a stream that cannot be cut ends here, because to guess where the next message begins would let a sender hide one
//! in another. Start with [`Framer`].

use super::header::Name;
use super::message::{Broken, Message, Refusal};
use super::name_addr::{is_space, is_token, trim};
use super::uri;
use crate::limits;
use bytes::{Buf, Bytes, BytesMut};

/// What a stream had next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Message(Bytes),
    /// CRLF CRLF between messages: answered with one CRLF (RFC 5626 4.4.1).
    Ping,
    /// No message can be cut out any more. What there is of one is for the endpoint to refuse; then the connection is to be closed.
    Broken(Bytes),
}

/// One direction of one connection. `push` what was read, then `poll` until `None`; it then holds less than one message.
#[derive(Default)]
pub struct Framer {
    buffer: BytesMut,
    scan: Scan,
    broken: bool,
}

impl Framer {
    pub fn new() -> Framer {
        Framer::default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Part of a message is here and the rest is not: nobody may stay so for long.
    pub fn is_within(&self) -> bool {
        !self.broken && self.buffer.iter().any(|b| !matches!(b, b'\r' | b'\n'))
    }

    pub fn poll(&mut self) -> Option<Frame> {
        if self.broken {
            return None;
        }
        if self.scan.at == 0 {
            // RFC 5626 4.4.1: a double CRLF between messages is a ping, a single one a pong, or the blank line that some send before a
            // message (RFC 3261 7.5).
            loop {
                match self.buffer.as_ref() {
                    [b'\r', b'\n', b'\r', b'\n', ..] => {
                        self.drop_front(4);
                        return Some(Frame::Ping);
                    }
                    [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return None,
                    [b'\r', b'\n', ..] => self.drop_front(2),
                    _ => break,
                }
            }
        }
        match self.scan.total(&self.buffer) {
            Ok(None) => None,
            Ok(Some(total)) => {
                // A copy: a message that a call keeps must not hold on to the room of others that were read with it.
                let message = self.buffer.get(..total).map(Bytes::copy_from_slice)?;
                self.scan = Scan::default();
                self.drop_front(total);
                Some(Frame::Message(message))
            }
            Err(_) => {
                self.broken = true;
                let readable = self.scan.readable().min(self.buffer.len());
                let bytes = std::mem::take(&mut self.buffer).freeze();
                Some(Frame::Broken(bytes.slice(..readable)))
            }
        }
    }

    fn drop_front(&mut self, n: usize) {
        self.buffer.advance(n);
        if self.buffer.is_empty() {
            // Thousands of connections are idle most of the time.
            self.buffer = BytesMut::new();
        }
    }
}

/// How far the message at the head of a buffer has been looked at. Each byte is looked at once, however small the pieces are in which
/// they come.
#[derive(Default)]
struct Scan {
    /// Bytes looked at.
    at: usize,
    /// Where the line begins that is being looked at.
    line: usize,
    length: Option<usize>,
    /// What is wrong with a Content-Length. Said when the header is whole, so that the refusal finds all it copies.
    fault: Option<&'static str>,
    /// The line before was a Content-Length, which may not be continued: readers differ in what that would mean.
    in_length: bool,
    /// Where the body begins.
    head: Option<usize>,
}

impl Scan {
    /// How long the message is, once all of it is there.
    fn total(&mut self, buffer: &[u8]) -> Result<Option<usize>, Refusal> {
        let head = match self.head {
            Some(head) => head,
            None => match self.head_end(buffer)? {
                None => return Ok(None),
                Some(head) => *self.head.insert(head),
            },
        };
        if let Some(fault) = self.fault {
            return Err(Refusal::Malformed(fault));
        }
        // RFC 3261 20.14: required on streams.
        let length = self.length.ok_or(Refusal::Malformed("no Content-Length on a stream"))?;
        match head.checked_add(length) {
            Some(total) if total <= limits::SIP_MESSAGE_BYTES => Ok((total <= buffer.len()).then_some(total)),
            total => Err(Refusal::TooLarge(total.unwrap_or(usize::MAX))),
        }
    }

    fn head_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Refusal> {
        // RFC 3261 7.1: a method or SIP-Version begins with a token. A TLS hello, for one, does not, and has no lines to wait for.
        if self.line == 0 && buffer.first().is_some_and(|&b| !is_token(b)) {
            return Err(Refusal::Malformed("start line"));
        }
        while let Some(&byte) = buffer.get(self.at) {
            self.at += 1;
            if byte == b'\n' {
                let line = buffer.get(self.line..self.at - 1).and_then(|l| l.strip_suffix(b"\r"));
                let line = line.ok_or(Refusal::Malformed("LF without CR"))?;
                if line.is_empty() {
                    return Ok(Some(self.at));
                }
                self.line_ended(line)?;
                self.line = self.at;
            }
            if self.at >= limits::SIP_DATAGRAM_BYTES {
                return Err(Refusal::TooLarge(self.at));
            }
        }
        Ok(None)
    }

    fn line_ended(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if self.line == 0 {
            // `GET / HTTP/1.1` and the like: nothing that follows is a message either.
            let is_sip = line.windows(4).any(|w| w.eq_ignore_ascii_case(b"SIP/"));
            return if is_sip { Ok(()) } else { Err(Refusal::Malformed("start line")) };
        }
        if line.first().is_some_and(|&b| is_space(b)) {
            if self.in_length {
                self.fault = Some("Content-Length");
            }
            return Ok(());
        }
        self.in_length = false;
        let Some((name, value)) = line.iter().position(|&b| b == b':').and_then(|colon| line.split_at_checked(colon)) else {
            return Ok(());
        };
        if Name::of(trim(name)) == Name::ContentLength {
            self.in_length = true;
            match uri::number(trim(value.get(1..).unwrap_or(b""))).and_then(|n| usize::try_from(n).ok()) {
                None => self.fault = Some("Content-Length"),
                Some(length) if self.length.replace(length).is_some() => self.fault = Some("two Content-Lengths"),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// How much may be shown to the endpoint of a message that cannot be cut out: whole lines, so that those can be copied into an
    /// answer, or, where there is none, the bytes for its log.
    fn readable(&self) -> usize {
        match self.head {
            Some(head) => head,
            None if self.line > 0 => self.line,
            None => self.at,
        }
    }
}

/// A message of a stream, judged again by where it ends: what [`Framer`] could not cut out is refused with the reason.
pub(super) fn read(bytes: Bytes) -> Result<Message, Broken> {
    let mut scan = Scan::default();
    match scan.total(&bytes) {
        Ok(Some(_)) => Message::read(bytes),
        Ok(None) => {
            // Cut where a header line was beyond all measure.
            let why = Refusal::TooLarge(bytes.len());
            Err(Broken::with(bytes, why))
        }
        // Without a start line of SIP there is nobody who would understand an answer.
        Err(why) if scan.line == 0 => Err(Broken { why, message: None }),
        Err(why) => Err(Broken::with(bytes, why)),
    }
}

#[cfg(test)]
mod tests;
