//! Frames of HTTP/3 that are longer than they may be. h3 keeps a frame other than DATA until it is whole, of whatever length its sender
//! says it is, before any token was shown. So each stream's bytes are looked at on their way to it, and the connection ends where a frame
//! says that it is long.
//!
//! Start with [`Frames`]; the rest hands everything else on to h3-quinn.

use crate::limits;
use axum::body::Bytes;
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use std::task::{Context, Poll, ready};

/// Where a stream's reader is, between and within frames (RFC 9114 7.1): type, length, payload.
#[derive(Clone, Debug, Default)]
struct Frames {
    /// What there is of the varints before a payload: of type and length, two times 8 bytes at most.
    head: Vec<u8>,
    /// Bytes of the payload to come.
    payload: u64,
    /// A varint comes before the first frame: a stream of one direction says what it is.
    is_typed: bool,
}

const DATA: u64 = 0;

impl Frames {
    /// False where a frame is too long.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while let Some(&next) = bytes.first() {
            if self.payload > 0 {
                let passed = usize::try_from(self.payload).map_or(bytes.len(), |payload| payload.min(bytes.len()));
                self.payload -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head.push(next);
            bytes = &bytes[1..];
            let Some((first, rest)) = varint(&self.head) else { continue };
            if self.is_typed {
                self.is_typed = false;
                self.head.clear();
                continue;
            }
            let Some((length, _)) = varint(rest) else { continue };
            if first != DATA && length > limits::API_HEAD as u64 {
                return false;
            }
            self.head.clear();
            self.payload = length;
        }
        true
    }
}

/// RFC 9000 16: the first two bits say how many bytes it has.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    Some((number.iter().skip(1).fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)), rest))
}

pub(super) type Sending = h3_quinn::SendStream<Bytes>;

pub(super) struct Receiving {
    stream: h3_quinn::RecvStream,
    frames: Frames,
}

pub(super) struct Both {
    stream: h3_quinn::BidiStream<Bytes>,
    frames: Frames,
}

fn looked_at(frames: &mut Frames, read: Result<Option<Bytes>, StreamErrorIncoming>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
    match read {
        Ok(Some(bytes)) if !frames.take(&bytes) => Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::InternalError("a frame is too long".into()),
        })),
        other => Poll::Ready(other),
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let read = ready!(self.stream.poll_data(cx));
        looked_at(&mut self.frames, read)
    }
    fn stop_sending(&mut self, code: u64) {
        self.stream.stop_sending(code);
    }
    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl quic::RecvStream for Both {
    type Buf = Bytes;
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let read = ready!(self.stream.poll_data(cx));
        looked_at(&mut self.frames, read)
    }
    fn stop_sending(&mut self, code: u64) {
        self.stream.stop_sending(code);
    }
    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_ready(cx)
    }
    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.stream.send_data(data)
    }
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_finish(cx)
    }
    fn reset(&mut self, code: u64) {
        self.stream.reset(code);
    }
    fn send_id(&self) -> StreamId {
        self.stream.send_id()
    }
}

impl quic::BidiStream<Bytes> for Both {
    type SendStream = Sending;
    type RecvStream = Receiving;
    fn split(self) -> (Sending, Receiving) {
        let (sending, stream) = quic::BidiStream::split(self.stream);
        (sending, Receiving { stream, frames: self.frames })
    }
}

/// What opens streams: a connection, or its opener.
pub(super) struct Opening<T>(T);

pub(super) type Connection = Opening<h3_quinn::Connection>;

impl Connection {
    pub(super) fn new(connection: quinn::Connection) -> Connection {
        Opening(h3_quinn::Connection::new(connection))
    }
}

impl<T> quic::OpenStreams<Bytes> for Opening<T>
where
    T: quic::OpenStreams<Bytes, BidiStream = h3_quinn::BidiStream<Bytes>, SendStream = Sending>,
{
    type BidiStream = Both;
    type SendStream = Sending;
    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        self.0.poll_open_bidi(cx).map_ok(|stream| Both { stream, frames: Frames::default() })
    }
    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.0.poll_open_send(cx)
    }
    fn close(&mut self, code: Code, reason: &[u8]) {
        self.0.close(code, reason);
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = Receiving;
    type OpenStreams = Opening<h3_quinn::OpenStreams>;
    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let frames = Frames { is_typed: true, ..Frames::default() };
        quic::Connection::<Bytes>::poll_accept_recv(&mut self.0, cx).map_ok(|stream| Receiving { stream, frames })
    }
    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        quic::Connection::<Bytes>::poll_accept_bidi(&mut self.0, cx).map_ok(|stream| Both { stream, frames: Frames::default() })
    }
    fn opener(&self) -> Opening<h3_quinn::OpenStreams> {
        Opening(quic::Connection::<Bytes>::opener(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        match value {
            0..0x40 => vec![value as u8],
            0x40..0x4000 => (value as u16 | 0x4000).to_be_bytes().into(),
            0x4000..0x4000_0000 => (value as u32 | 0x8000_0000).to_be_bytes().into(),
            _ => (value | 0xc000_0000_0000_0000).to_be_bytes().into(),
        }
    }

    fn frame(kind: u64, length: u64, there: usize) -> Vec<u8> {
        [encoded(kind), encoded(length), vec![7; there]].concat()
    }

    #[test]
    fn only_a_frame_that_is_kept_whole_can_be_too_long() {
        let longest = limits::API_HEAD as u64;
        let request = [frame(1, 200, 200), frame(0, 5_000_000, 5_000_000), frame(0x21, 70, 70), frame(1, 10, 10)].concat();
        for (stream, is_typed, expected) in [
            (request.clone(), false, true),
            (frame(1, longest, 100), false, true),
            (frame(1, longest + 1, 0), false, false),
            (frame(1, (1 << 62) - 1, 0), false, false),
            // HEADERS with its type and length in 8 bytes each, which is allowed.
            ([vec![0xc0, 0, 0, 0, 0, 0, 0, 1], vec![0xc0, 0, 0, 0, 0xff, 0, 0, 0]].concat(), false, false),
            (frame(0, (1 << 62) - 1, 1000), false, true),
            // One that nobody knows is kept as well before it is passed over.
            (frame(0x21, longest + 1, 0), false, false),
            ([request, frame(4, longest + 1, 0)].concat(), false, false),
            ([encoded(0), frame(4, 20, 20)].concat(), true, true),
            ([encoded(0), frame(4, longest + 1, 0)].concat(), true, false),
        ] {
            let mut whole = Frames { is_typed, ..Frames::default() };
            assert_eq!(whole.take(&stream), expected, "{:?}", &stream[..stream.len().min(20)]);
            // However it is cut.
            let mut pieces = Frames { is_typed, ..Frames::default() };
            assert_eq!(stream.chunks(3).all(|piece| pieces.take(piece)), expected, "{:?}", &stream[..stream.len().min(20)]);
        }
    }
}
