//! One try: a request to an address that was looked at before it was connected to. Redirects are answers like others, and the body of the
//! answer to a post is never read. What handlers ask goes over connections that stay open for the next question (`idle.rs`), everything
//! else over one of its own.

use super::idle::{Idle, Key, Open};
use super::origin::Target;
use crate::limits;
use crate::store::OutboxRow;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Headers that a handler may not set: they are ours, or say how the message is framed.
const OURS: [&str; 10] =
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "user-agent"];
const AGENT: &str = concat!("hookswitch/", env!("CARGO_PKG_VERSION"));
const OUR_PREFIXES: [&str; 2] = ["hookswitch-", "proxy-"];

const NOT_CONNECTED: &str = "not connected";

pub(super) struct Client {
    tls: TlsConnector,
    /// The addresses of a name, or why there are none.
    look_up: LookUp,
    idle: Idle,
}

type Addresses = Pin<Box<dyn Future<Output = std::io::Result<Vec<SocketAddr>>> + Send>>;
pub(super) type LookUp = Box<dyn Fn(String, u16) -> Addresses + Send + Sync>;

/// A request that was looked at.
pub(super) struct Sent {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    /// `roots`: authorities that a receiver's certificate may come from.
    pub fn new(roots: RootCertStore) -> Client {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let look_up: LookUp =
            Box::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect::<Vec<_>>()) }));
        Client { tls: TlsConnector::from(Arc::new(config)), look_up, idle: Idle::default() }
    }

    /// The same whose names lead where a test wants them to.
    #[cfg(test)]
    pub fn looking_up(self, look_up: LookUp) -> Client {
        Client { look_up, ..self }
    }

    /// Sends a post once and gives the status of the answer. `attempt` counts from one.
    pub async fn send(&self, target: &Target, row: &OutboxRow, attempt: u32, signed: Option<HeaderValue>) -> Result<u16, String> {
        let mut request = request(target, row, attempt)?;
        if let Some(signed) = signed {
            request.headers_mut().insert(AUTHORIZATION, signed);
        }
        exchange(self.open(target).await?, request).await
    }

    /// Asks once, and gives the body of an answer that says 200 and is not longer than this.
    pub async fn get(&self, target: &Target, most: usize) -> Result<Vec<u8>, String> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(&target.path)
            .header(HOST, &target.authority)
            .header(USER_AGENT, AGENT)
            .header("Accept", "audio/wav, */*")
            .header("Connection", "close")
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        match whole(self.open(target).await?, request, most).await {
            Ok(Answer { status: 200, body, .. }) => Ok(body),
            Ok(Answer { status, .. }) => Err(format!("it answers {status}")),
            Err(Unanswered::TooLarge) => Err(format!("larger than {} MB", most >> 20)),
            Err(Unanswered::Because(why)) => Err(why),
        }
    }

    /// Sends this once, and gives the whole answer, whatever it says. `domain`: no tenant's request goes over a connection of another.
    pub async fn exchange(&self, domain: &str, target: &Target, sent: Sent, most: usize) -> Result<Answer, Unanswered> {
        let mut request = Request::builder()
            .method(sent.method)
            .uri(&target.path)
            .header(HOST, &target.authority)
            .header(USER_AGENT, AGENT)
            .body(Full::new(Bytes::from(sent.body)))
            .map_err(|error| Unanswered::Because(error.to_string()))?;
        request.headers_mut().extend(sent.headers);
        let key = (domain.to_owned(), target.origin());
        if let Some(mut open) = self.idle.take(&key).await {
            // RFC 9110 9.2.2: what does the same when it is done twice may be sent again where the connection ended without an answer.
            let again = request.method().is_idempotent().then(|| request.clone());
            match open.sender.try_send_request(request).await {
                Ok(answer) => return self.finish(key, open, answer, most).await,
                // Anything else only where none of it was sent (IC-019).
                Err(mut failed) => match failed.take_message().or(again) {
                    Some(unsent) => request = unsent,
                    None => return Err(unanswered(failed.into_error())),
                },
            }
        }
        let mut open = self.handshake(target).await?;
        let answer = open.sender.send_request(request).await.map_err(unanswered)?;
        self.finish(key, open, answer, most).await
    }

    async fn finish(&self, key: Key, open: Open, answer: hyper::Response<Incoming>, most: usize) -> Result<Answer, Unanswered> {
        let answer = read(answer, most).await?;
        self.idle.put(key, open);
        Ok(answer)
    }

    async fn handshake(&self, target: &Target) -> Result<Open, Unanswered> {
        // IC-019: what could not be connected to is tried once more, since a caller waits.
        let io = match self.open(target).await {
            Err(why) if why.starts_with(NOT_CONNECTED) => {
                tokio::time::sleep(limits::CONNECT_AGAIN).await;
                self.open(target).await
            }
            opened => opened,
        };
        let io = io.map_err(Unanswered::Because)?;
        Open::handshake(TokioIo::new(io)).await.map_err(|error| Unanswered::Because(format!("no HTTP: {error}")))
    }

    async fn open(&self, target: &Target) -> Result<Box<dyn Stream>, String> {
        let tcp = self.connect(target).await?;
        if !target.tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| "its host cannot be in a certificate".to_owned())?;
        let tls = self.tls.connect(name, tcp).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(tls))
    }

    /// Connects to the first address that may be connected to and answers. Looked up once: a name cannot lead elsewhere in between.
    async fn connect(&self, target: &Target) -> Result<TcpStream, String> {
        let addresses = match target.ip() {
            Some(ip) => vec![SocketAddr::new(ip, target.port)],
            None => (self.look_up)(target.host.clone(), target.port).await.map_err(|_| "its host is unknown".to_owned())?,
        };
        let mut last = "its host has no address".to_owned();
        for address in addresses {
            if !target.may_lead_to(address.ip()) {
                last = "its host leads to a private address".into();
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = format!("{NOT_CONNECTED}: {error}"),
            }
        }
        Err(last)
    }
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Its body is larger than it may be.
    TooLarge,
    Because(String),
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The authorities that this machine trusts.
pub(super) fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "outbox: some of the machine's trusted certificates could not be read");
    }
    let (_, broken) = roots.add_parsable_certificates(found.certs);
    if broken > 0 {
        tracing::debug!(broken, "outbox: trusted certificates that are none");
    }
    roots
}

/// Whether a post may carry this header; why not. Its type is said apart.
pub(super) fn check_header(name: &str, value: &str) -> Result<(), String> {
    if name.eq_ignore_ascii_case("content-type") {
        return Err("headers: `content-type` is said apart".into());
    }
    check_line(name, value)
}

/// Whether a request of a handler may carry this header; why not.
pub(super) fn check_line(name: &str, value: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("headers: `{}` {why}", name.escape_debug().take(64).collect::<String>()));
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return bad("is no header name");
    }
    if OURS.contains(&lower.as_str()) || OUR_PREFIXES.iter().any(|p| lower.starts_with(p)) {
        return bad("is the node's to set");
    }
    if value.len() > limits::OUTBOX_HEADER_VALUE || HeaderValue::from_str(value).is_err() {
        return bad("has a value that is too long or has characters that may not be in one");
    }
    Ok(())
}

fn request(target: &Target, row: &OutboxRow, attempt: u32) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, &row.content_type)
        .header("Connection", "close")
        .header("Hookswitch-Event-Id", &row.event_id)
        .header("Hookswitch-Session-Id", &row.session)
        .header("Hookswitch-Attempt", attempt);
    for (name, value) in &row.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(row.body.clone()))).map_err(|error| error.to_string())
}

async fn exchange<B>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<B>) -> Result<u16, String>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(limits::OUTBOX_ANSWER)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| format!("no HTTP: {error}"))?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    // The connection is driven by hand, so that it goes with this future and nothing lives on after the try.
    tokio::select! {
        biased;
        answer = &mut answer => answer.map(|answer| answer.status().as_u16()).map_err(|error| format!("no answer: {error}")),
        ended = &mut connection => {
            // The answer may have come with the end.
            match tokio::time::timeout(std::time::Duration::ZERO, &mut answer).await {
                Ok(Ok(answer)) => Ok(answer.status().as_u16()),
                _ => Err(ended.err().map_or_else(|| "closed without an answer".to_owned(), |error| format!("no answer: {error}"))),
            }
        }
    }
}

/// The whole answer. The connection is driven by hand and goes with this future.
async fn whole(io: Box<dyn Stream>, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, Unanswered> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(limits::OUTBOX_ANSWER)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| Unanswered::Because(format!("no HTTP: {error}")))?;
    let whole = async { read(sender.send_request(request).await.map_err(unanswered)?, most).await };
    tokio::pin!(connection, whole);
    let mut ended = false;
    loop {
        tokio::select! {
            biased;
            whole = &mut whole => return whole,
            _ = &mut connection, if !ended => ended = true,
        }
    }
}

fn unanswered(error: hyper::Error) -> Unanswered {
    Unanswered::Because(format!("no answer: {error}"))
}

/// The rest of an answer, up to so many bytes.
async fn read(answer: hyper::Response<Incoming>, most: usize) -> Result<Answer, Unanswered> {
    let (parts, body) = answer.into_parts();
    // Only who takes it hears that it is too large.
    if body.size_hint().lower() > most as u64 {
        return Err(Unanswered::TooLarge);
    }
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes().to_vec() }),
        Err(error) if error.is::<LengthLimitError>() => Err(Unanswered::TooLarge),
        Err(error) => Err(Unanswered::Because(format!("no whole answer: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_are_ours_or_broken_are_refused() {
        assert_eq!(check_header("Authorization", "Bearer x"), Ok(()));
        assert_eq!(check_header("x-a", "å"), Ok(()));
        let long = "x".repeat(limits::OUTBOX_HEADER_VALUE + 1);
        for (name, value) in [
            ("Host", "a"),
            ("content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("hookswitch-event-id", "1"),
            ("Proxy-Authorization", "1"),
            ("a b", "1"),
            ("", "1"),
            ("x-a", "1\r\nx-b: 2"),
            ("x-a", &long),
        ] {
            assert!(check_header(name, value).is_err(), "{name}");
        }
    }
}
