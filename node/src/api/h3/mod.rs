//! The API over HTTP/3: QUIC connections by quinn, frames by h3, requests to the same [`App`] as over TCP. It is for deploys over poor
//! links: a connection survives loss and a change of the client's address.
//!
//! Start with [`Quic::serve`]. Who is let in is `gate.rs`; `frames.rs` keeps a peer from filling our memory with one frame.

mod frames;
mod gate;

use super::Tls;
use super::server::{App, told};
use crate::limits;
use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use bytes::Buf;
use frames::{Connection, Receiving, Sending};
use gate::{Admitted, Gate, Place};
use h3::error::Code;
use h3::server::{RequestResolver, RequestStream};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a stopping node waits until the last answers have arrived: a few round trips. Closing a connection takes back what is under way.
const ARRIVES: Duration = Duration::from_secs(1);

/// A bound UDP socket.
pub(super) struct Quic {
    endpoint: Endpoint,
}

impl Quic {
    /// Within a runtime.
    pub(super) fn bind(address: SocketAddr, tls: &Tls) -> io::Result<Quic> {
        let crypto = QuicServerConfig::try_from(tls.of_quic()).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport()))
            .migration(true)
            .max_incoming(limits::API_QUIC_WAITING)
            .incoming_buffer_size(limits::API_QUIC_WAITING_BYTES / limits::API_QUIC_WAITING as u64)
            .incoming_buffer_size_total(limits::API_QUIC_WAITING_BYTES);
        Ok(Quic { endpoint: Endpoint::server(config, address)? })
    }

    /// Takes connections until it is told to stop, then waits for the requests under way.
    pub(super) async fn serve(self, app: App, mut stopped: watch::Receiver<bool>) {
        let gate = Gate::default();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = told(&mut stopped) => break,
                Some(_) = connections.join_next() => {}
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    match gate.admit(incoming.remote_address().ip(), incoming.remote_address_validated()) {
                        Admitted::In(place) => drop(connections.spawn(serve(incoming, place, app.clone(), stopped.clone()))),
                        // The only error is a client that has been asked before; it is refused by being dropped.
                        Admitted::ProveAddress => drop(incoming.retry()),
                        Admitted::Refused => incoming.refuse(),
                    }
                }
            }
        }
        while connections.join_next().await.is_some() {}
        self.endpoint.close(code(Code::H3_NO_ERROR), b"");
        self.endpoint.wait_idle().await;
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits::API_STREAMS.into())
        .max_concurrent_uni_streams(limits::API_UNI_STREAMS.into())
        .stream_receive_window(limits::API_STREAM_WINDOW.into())
        .receive_window(limits::API_CONNECTION_WINDOW.into())
        .send_window(limits::API_CONNECTION_WINDOW.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(limits::API_IDLE).expect("a minute")))
        .keep_alive_interval(Some(limits::API_KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    transport
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).expect("HTTP's codes are small")
}

/// One connection, to its end.
async fn serve(incoming: Incoming, mut place: Place, app: App, mut stopped: watch::Receiver<bool>) {
    let Ok(connecting) = incoming.accept() else { return };
    let Ok(Ok(quic)) = timeout(limits::API_HANDSHAKE, connecting).await else { return };
    place.has_shaken();
    let mut settings = h3::server::builder();
    settings.max_field_section_size(limits::API_HEAD as u64).send_grease(false);
    let Ok(Ok(mut http)) = timeout(limits::API_HANDSHAKE, settings.build(Connection::new(quic.clone()))).await else { return };
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopped) => break,
            Some(_) = requests.join_next() => {}
            // Pings keep a connection up, but not for ever.
            () = tokio::time::sleep(limits::API_IDLE), if requests.is_empty() => break,
            accepted = http.accept() => match accepted {
                Ok(Some(resolver)) => drop(requests.spawn(request(resolver, quic.clone(), app.clone()))),
                // The peer is done, or gone. Requests of who is gone end with `requests`.
                Ok(None) => break,
                Err(_) => return,
            },
        }
    }
    let has_answers = !requests.is_empty();
    if http.shutdown(0).await.is_err() {
        return;
    }
    while requests.join_next().await.is_some() {}
    if has_answers {
        let _ = timeout(ARRIVES, quic.closed()).await;
    }
}

async fn request(resolver: RequestResolver<Connection, Bytes>, quic: quinn::Connection, app: App) {
    let Ok(Ok((head, stream))) = timeout(limits::API_HEAD_TIME, resolver.resolve_request()).await else { return };
    let (mut sending, receiving) = stream.split();
    let Ok(announced) = announced(head.headers()) else { return sending.stop_stream(Code::H3_MESSAGE_ERROR) };
    let is_head = head.method() == Method::HEAD;
    let body = Received { stream: receiving, left: announced };
    let response = app.answer(quic.remote_address(), head.map(|()| body)).await;
    if answer(&mut sending, response, is_head).await.is_err() {
        // Else it would end as if it were whole.
        sending.stop_stream(Code::H3_INTERNAL_ERROR);
    }
}

/// How long the body says it is; an error where the head is malformed (RFC 9114 4.2, 4.1.2): h3 looks at neither.
fn announced(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    const OF_A_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    if OF_A_CONNECTION.iter().any(|name| headers.contains_key(*name)) {
        return Err(());
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => match length.to_str() {
            Ok(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map(Some).map_err(drop),
            _ => Err(()),
        },
        (Some(_), Some(_)) => Err(()),
    }
}

/// Why an answer did not go out; the peer is gone or stands still.
struct Unsent;

impl<E: std::error::Error> From<E> for Unsent {
    fn from(_: E) -> Unsent {
        Unsent
    }
}

async fn answer(stream: &mut RequestStream<Sending, Bytes>, response: Response<Body>, is_head: bool) -> Result<(), Unsent> {
    let (mut head, mut body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|_| !is_head) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    let now = httpdate::fmt_http_date(SystemTime::now());
    head.headers.entry(header::DATE).or_insert(HeaderValue::try_from(now).expect("a date is visible ASCII"));
    timeout(limits::API_IDLE, stream.send_response(Response::from_parts(head, ()))).await??;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(Unsent) };
        if let Ok(data) = frame.into_data() {
            timeout(limits::API_IDLE, stream.send_data(data)).await??;
        }
    }
    timeout(limits::API_IDLE, stream.finish()).await??;
    Ok(())
}

/// A request's body. Who drops it tells the peer to send no more.
struct Received {
    stream: RequestStream<Receiving, Bytes>,
    /// Of what Content-Length says. A body of another length is none (RFC 9114 4.1.2).
    left: Option<u64>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let data = match self.stream.poll_recv_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Ok(data)) => data.map(|mut data| data.copy_to_bytes(data.remaining())),
        };
        let length = data.as_ref().map_or(0, |data| data.len() as u64);
        let fits = match (&mut self.left, &data) {
            (None, _) => true,
            (Some(left), None) => *left == 0,
            (Some(left), Some(_)) => {
                let fits = length <= *left;
                *left = left.saturating_sub(length);
                fits
            }
        };
        Poll::Ready(if fits { data.map(|data| Ok(Frame::data(data))) } else { Some(Err("its length is not its Content-Length".into())) })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
