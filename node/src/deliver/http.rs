//! How the storage client talks to a server: HTTP/1.1 over a connection of its own for each request, with the TLS that the node has
//! already. Notes the status of the last answer, since the words of an error document must not get into a log: they may hold what was signed.

use crate::limits;
use async_trait::async_trait;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// TLS as the node speaks it to storages. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// `roots`: authorities that a server's certificate may come from.
    pub fn new(roots: RootCertStore) -> Tls {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Tls(TlsConnector::from(Arc::new(config)))
    }

    /// With the authorities that this machine trusts.
    pub fn native() -> Tls {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "storage: some of the machine's trusted certificates could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        Tls::new(roots)
    }
}

/// The status of the last answer; zero where none came.
#[derive(Clone, Debug, Default)]
pub(super) struct LastStatus(Arc<AtomicU16>);

impl LastStatus {
    pub(super) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
pub(super) struct Connector {
    tls: Tls,
    last: LastStatus,
}

impl Connector {
    pub(super) fn new(tls: Tls, last: LastStatus) -> Connector {
        Connector { tls, last }
    }

    async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().clone();
        let (host, port, tls) = origin(&uri).ok_or_else(|| failed(HttpErrorKind::Connect, "no server's address"))?;
        let connected = tokio::time::timeout(limits::DELIVERY_CONNECT, TcpStream::connect((host.as_str(), port))).await;
        let tcp = connected
            .map_err(|_| failed(HttpErrorKind::Timeout, "not connected in time"))?
            .map_err(|error| failed(HttpErrorKind::Connect, format!("not connected: {}", error.kind())))?;
        // The client leaves these to its transport.
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Ok(authority) = HeaderValue::from_str(&authority) {
            request.headers_mut().entry(HOST).or_insert(authority);
        }
        let length = request.body().size_hint().exact().unwrap_or(0);
        request.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("hookswitch/", env!("CARGO_PKG_VERSION"))));
        // RFC 9112 3.2.1: a server is asked for a path, not for a URL.
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| failed(HttpErrorKind::Unknown, "no path"))?;
        if !tls {
            return exchange(tcp, request).await;
        }
        let name = ServerName::try_from(host).map_err(|_| failed(HttpErrorKind::Connect, "its host cannot be in a certificate"))?;
        let tls = self.tls.0.connect(name, tcp).await.map_err(|error| failed(HttpErrorKind::Connect, format!("TLS: {error}")))?;
        exchange(tls, request).await
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.last.0.store(0, Ordering::Relaxed);
        let answer = tokio::time::timeout(limits::DELIVERY_TRY, self.send(request)).await;
        let answer = answer.map_err(|_| failed(HttpErrorKind::Timeout, "no answer in time"))??;
        self.last.0.store(answer.status().as_u16(), Ordering::Relaxed);
        Ok(answer)
    }
}

fn origin(uri: &Uri) -> Option<(String, u16, bool)> {
    let tls = uri.scheme_str() == Some("https");
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), tls))
}

fn failed(kind: HttpErrorKind, why: impl Into<String>) -> HttpError {
    HttpError::new(kind, io::Error::other(why.into()))
}

async fn exchange<B>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<B>) -> Result<HttpResponse, HttpError>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |error: hyper::Error| failed(HttpErrorKind::Interrupted, format!("no answer: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    // It lives as long as the answer's body is read.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let (parts, body) = answer.into_parts();
    let body = http_body_util::BodyExt::map_err(body, broken);
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
}
