//! The API over TLS: the same answers over HTTP/1.1, 2 and 3, and what a stranger can do to the UDP port.

use super::*;
use crate::cli::h3::Http3;
use crate::config;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, Response};
use h3_quinn::quinn;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};

pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/testdata/tls");

fn authority() -> CertificateDer<'static> {
    CertificateDer::from_pem_file(format!("{FOLDER}/ca.pem")).expect("PEM")
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority()).expect("an authority");
    roots
}

/// The same API behind a certificate.
pub(crate) struct Secure {
    world: World,
    server: Server,
    runtime: Runtime,
}

pub(crate) fn secure() -> Secure {
    let world = world();
    let tls = config::Tls { cert: format!("{FOLDER}/node.pem").into(), key: format!("{FOLDER}/node.key").into(), h3: true };
    let tls = Tls::load(&tls).expect("good");
    let server = world.api.clone().start("127.0.0.1:0".parse().expect("an address"), Some(tls)).expect("a port");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    Secure { world, server, runtime }
}

#[derive(Clone, Debug, PartialEq)]
struct Said {
    status: u16,
    kind: Option<String>,
    length: Option<String>,
    body: Vec<u8>,
}

impl Said {
    fn new(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Said {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        assert!(headers.contains_key("date"));
        Said { status, kind: text("content-type"), length: text("content-length"), body }
    }
}

impl Secure {
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.world.folder.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn request<B>(&self, method: &Method, path: &str, token: Option<&str>, kind: Option<&str>, body: B) -> Request<B> {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.address()));
        for (name, value) in [("authorization", token.map(|token| format!("Bearer {token}"))), ("content-type", kind.map(str::to_owned))] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.body(body).expect("a request")
    }

    /// HTTP/1.1 or 2, by what TLS agrees on.
    fn over_tcp(&self, alpn: &str, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut crypto = builder.with_safe_default_protocol_versions().expect("some").with_root_certificates(roots()).with_no_client_auth();
        crypto.alpn_protocols = vec![alpn.into()];
        let name = ServerName::from(self.address().ip());
        let answer = self.runtime.block_on(async {
            let stream = TcpStream::connect(self.address()).await.expect("connects");
            let stream = TlsConnector::from(Arc::new(crypto)).connect(name, stream).await.expect("TLS");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
            let answer = if alpn == "h2" {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
                tokio::spawn(connection);
                sender.send_request(request).await.expect("an answer")
            } else {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                let mut request = request;
                request.headers_mut().insert("host", "localhost".parse().expect("a value"));
                *request.uri_mut() = request.uri().path_and_query().expect("a path").as_str().parse().expect("a path");
                sender.send_request(request).await.expect("an answer")
            };
            let (head, body) = answer.into_parts();
            Response::from_parts(head, body.collect().await.expect("a body").to_bytes())
        });
        let alt_svc = format!("h3=\":{}\"; ma=86400", self.address().port());
        assert_eq!(answer.headers().get("alt-svc").and_then(|value| value.to_str().ok()), Some(alt_svc.as_str()));
        answer
    }

    fn http3(&self) -> Http3 {
        Http3::new(&format!("https://{}", self.address()), roots()).expect("an address")
    }

    /// `None`: no answer.
    fn over_quic(&self, client: &Http3, request: Request<Bytes>) -> Option<Said> {
        let (mut head, body) = request.into_parts();
        if !body.is_empty() && !head.headers.contains_key("content-length") {
            head.headers.insert("content-length", body.len().into());
        }
        let mut answer = client.send(&Request::from_parts(head, ()), &body, false).ok()?;
        let mut body = Vec::new();
        answer.body.read_to_end(&mut body).expect("a body");
        Some(Said::new(answer.head.status().as_u16(), answer.head.headers(), body))
    }

    /// A bare QUIC connection that says it speaks HTTP/3.
    fn quic(&self) -> (Endpoint, Result<Connection, quinn::ConnectionError>) {
        let _inside = self.runtime.enter();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("some");
        let mut crypto = builder.with_root_certificates(roots()).with_no_client_auth();
        crypto.alpn_protocols = vec![b"h3".to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).expect("TLS 1.3")));
        let connecting = endpoint.connect_with(config, self.address(), "localhost").expect("a name");
        let connection = self.runtime.block_on(connecting);
        (endpoint, connection)
    }

    fn is_up(&self) {
        let said = self.over_quic(&self.http3(), self.request(&Method::GET, "/healthz", None, None, Bytes::new()));
        assert_eq!(said.map(|said| said.status), Some(200));
    }
}

#[test]
fn the_same_is_said_over_http_1_2_and_3() {
    let secure = secure();
    let recordings = format!("/{TENANT}/recordings");
    let guests = format!("/{TENANT}/guests");
    let start = format!("/{TENANT}/hangupparticipant");
    let large = vec![b' '; BODY + 1];
    let huge = vec![b' '; BODY + 2];
    secure.world.recording("done", RecordingState::Available, 1, Some(&vec![9; 300_000]));
    let audio = format!("{recordings}/done/audio");
    let client = secure.http3();
    for (method, path, token, kind, body, status) in [
        (Method::GET, "/healthz", None, None, &b""[..], 200),
        (Method::HEAD, "/healthz", None, None, b"", 200),
        (Method::GET, "/openapi.json", None, None, b"", 200),
        (Method::GET, "/admin/tenants", Some(TOKEN), None, b"", 200),
        (Method::GET, "/admin/tenants", None, None, b"", 401),
        (Method::GET, "/admin/tenants", Some("guess"), None, b"", 401),
        (Method::OPTIONS, "/admin/tenants", None, None, b"", 200),
        (Method::GET, "/nowhere/at/all", Some(TOKEN), None, b"", 404),
        (Method::DELETE, "/healthz", Some(TOKEN), None, b"", 405),
        (Method::GET, &recordings, Some(TOKEN), None, b"", 200),
        (Method::GET, &audio, Some(TOKEN), None, b"", 200),
        (Method::HEAD, &audio, Some(TOKEN), None, b"", 200),
        (Method::GET, &format!("{recordings}?limit=0"), Some(TOKEN), None, b"", 400),
        (Method::POST, &guests, Some(TOKEN), Some("text/plain"), b"no component", 415),
        (Method::POST, &guests, None, Some("application/wasm"), &huge, 401),
        (Method::POST, &start, Some(TOKEN), JSON, b"{}", 400),
        (Method::POST, &start, Some(TOKEN), JSON, &large, 413),
        (Method::POST, &start, Some(TOKEN), JSON, b"{", 400),
    ] {
        let body = Bytes::copy_from_slice(body);
        let over_tcp = |version: &str| {
            let answer = secure.over_tcp(version, secure.request(&method, path, token, kind, Full::new(body.clone())));
            Said::new(answer.status().as_u16(), answer.headers(), answer.body().to_vec())
        };
        let http2 = over_tcp("h2");
        // Over HTTP/1.1 whoever sends on what is refused may find the connection closed before the answer is read.
        let http1 = if body.len() > BODY { http2.clone() } else { over_tcp("http/1.1") };
        let http3 = secure.over_quic(&client, secure.request(&method, path, token, kind, body)).expect("an answer");
        assert_eq!(http1.status, status, "{method} {path}: {}", String::from_utf8_lossy(&http1.body));
        assert_eq!(http2, http1, "{method} {path}");
        assert_eq!(http3, http1, "{method} {path}");
    }
}

#[test]
fn a_head_that_no_other_version_would_take_is_taken_by_none() {
    let secure = secure();
    let path = format!("/{TENANT}/hangupparticipant");
    let with = |name: &'static str, value: &'static str| {
        let mut request = secure.request(&Method::POST, &path, Some(TOKEN), JSON, Bytes::from_static(b"{}"));
        request.headers_mut().insert(name, value.parse().expect("a value"));
        secure.over_quic(&secure.http3(), request).map(|said| said.status)
    };
    assert_eq!(with("x-anything", "goes"), Some(400));
    for name in ["connection", "transfer-encoding", "upgrade"] {
        assert_eq!(with(name, "chunked"), None, "{name}");
    }
    // A body that is longer, or shorter, than its head says.
    assert_eq!(with("content-length", "1"), Some(400));
    assert_eq!(with("content-length", "3"), Some(400));
    assert_eq!(with("content-length", "+2"), None);
    let huge = "a".repeat(limits::API_HEAD + 1);
    let mut request = secure.request(&Method::GET, "/healthz", None, None, Bytes::new());
    request.headers_mut().insert("x-huge", huge.parse().expect("a value"));
    // The library's own answer, or none.
    let answer = secure.http3().send(&request.map(|_| ()), &Bytes::new(), false);
    assert_ne!(answer.ok().map(|answer| answer.head.status().as_u16()), Some(200));
    secure.is_up();
}

#[test]
fn a_frame_that_says_it_is_endless_ends_its_connection() {
    let secure = secure();
    // HEADERS of 1 GB; and as the first frame of a control stream.
    for (is_request, begin) in [(true, &[0x01, 0x80 | 0x3f, 0xff, 0xff, 0xff][..]), (false, &[0x00, 0x04, 0x80 | 0x3f, 0xff, 0xff, 0xff])] {
        let (_endpoint, connection) = secure.quic();
        let connection = connection.expect("let in");
        secure.runtime.block_on(async {
            let mut stream =
                if is_request { connection.open_bi().await.expect("a stream").0 } else { connection.open_uni().await.expect("one") };
            stream.write_all(begin).await.expect("written");
            let end = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await.expect("closed");
            assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{end}");
        });
    }
    secure.is_up();
}

#[test]
fn connections_of_one_source_are_bounded() {
    let secure = secure();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..limits::API_QUIC_OF_SOURCE + 4 {
        match secure.quic() {
            (endpoint, Ok(connection)) => held.push((endpoint, connection)),
            (_, Err(quinn::ConnectionError::ConnectionClosed(close))) => {
                assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
                refused += 1;
            }
            (_, Err(other)) => panic!("{other}"),
        }
    }
    assert_eq!((held.len(), refused), (limits::API_QUIC_OF_SOURCE, 4));
    // Over TCP it is as before, and who goes makes room.
    let answer = secure.over_tcp("h2", secure.request(&Method::GET, "/healthz", None, None, Full::default()));
    assert_eq!(answer.status(), 200);
    for (_, connection) in &held {
        connection.close(0u32.into(), b"");
    }
    let until = Instant::now() + Duration::from_secs(10);
    while secure.quic().1.is_err() {
        assert!(Instant::now() < until, "no room again");
    }
}

#[test]
fn garbage_datagrams_get_no_more_than_they_are() {
    let secure = secure();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("may be");
    let (mut sent, mut received, mut seed) = (0, 0, 1u64);
    for round in 0..2000 {
        let mut datagram = vec![0; [1, 20, 64, 1199, 1200, 1400][round % 6]];
        for byte in &mut datagram {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (seed >> 56) as u8;
        }
        if round % 3 == 0 && datagram.len() > 6 {
            // A long header, of QUIC's version 1 or of none.
            datagram[0] = 0xc0 | (datagram[0] & 0x3f);
            datagram[1..5].copy_from_slice(if round % 2 == 0 { &[0, 0, 0, 1] } else { &[0x0a, 0x0a, 0x0a, 0x0a] });
        }
        sent += socket.send_to(&datagram, secure.address()).expect("sent");
        let mut room = [0; 2048];
        while let Ok(size) = socket.recv(&mut room) {
            received += size;
        }
    }
    secure.is_up();
    let mut room = [0; 2048];
    while let Ok(size) = socket.recv(&mut room) {
        received += size;
    }
    assert!(received <= sent, "{received} bytes for {sent}");
}

#[test]
fn a_stopping_server_says_farewell() {
    let secure = secure();
    let (_endpoint, connection) = secure.quic();
    let connection = connection.expect("let in");
    let begun = Instant::now();
    secure.server.stop();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let end = secure.runtime.block_on(connection.closed());
    assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{end}");
}
