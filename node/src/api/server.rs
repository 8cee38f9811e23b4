//! The API's own threads: a small runtime that serves until it is told to stop. Its threads do not touch calls.
//!
//! Over TCP: HTTP/1.1, and with a certificate TLS with HTTP/1.1 and 2. Over UDP, with a certificate: HTTP/3 (`h3/`). All of them end in
//! [`App::answer`].

use super::access::Peer;
use super::body::Paced;
use super::listener::{Answering, Bounded, Connection};
use super::{Api, Tls};
use crate::limits;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Threads for what blocks: the store's answers, files, waiting for the compiler. More requests wait for one.
const BLOCKING: usize = 16;
/// How long requests under way may take when the node stops.
const STOP: Duration = Duration::from_secs(2);

/// A served API. Stops when dropped, without waiting for requests.
pub struct Server {
    runtime: Runtime,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    api: Arc<Api>,
}

/// What answers requests, whatever they came over.
#[derive(Clone)]
pub(super) struct App {
    router: Router,
    /// Tells clients that there is HTTP/3 (RFC 9114 3.1.1).
    alt_svc: Option<HeaderValue>,
}

impl Api {
    /// Listens and serves on threads of its own. `tls`: none for plain HTTP/1.1.
    pub fn start(self: Arc<Api>, listen: SocketAddr, tls: Option<Tls>) -> io::Result<Server> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(BLOCKING).thread_name("api").enable_all().build()?;
        let socket = runtime.block_on(TcpListener::bind(listen))?;
        let address = socket.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let has_h3 = tls.as_ref().is_some_and(|tls| tls.h3);
        let alt_svc = has_h3.then(|| format!("h3=\":{}\"; ma=86400", address.port()).try_into().expect("visible ASCII"));
        let app = App { router: self.clone().router(), alt_svc };
        #[cfg(feature = "h3")]
        let quic = match tls.as_ref().filter(|_| has_h3) {
            None => None,
            Some(tls) => {
                let _inside = runtime.enter();
                Some(super::h3::Quic::bind(address, tls)?.serve(App { alt_svc: None, ..app.clone() }, stopped.clone()))
            }
        };
        let serving = runtime.spawn(async move {
            let tcp = serve(Bounded::new(socket), tls, app, stopped);
            #[cfg(feature = "h3")]
            if let Some(quic) = quic {
                tokio::join!(tcp, quic);
                return;
            }
            tcp.await;
        });
        Ok(Server { runtime, address, stop, serving, api: self })
    }
}

impl Server {
    /// Where it listens, with the port that the kernel chose where none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and lets those under way finish for a moment.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        self.api.stopping.send_replace(true);
        let ended = self.runtime.block_on(async { tokio::time::timeout(STOP, self.serving).await });
        if ended.is_err() {
            tracing::warn!("API requests were cut off");
        }
        self.runtime.shutdown_timeout(STOP);
    }
}

/// The server is told to stop, or gone.
pub(super) async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl App {
    /// One request. Its body may not come in drops.
    pub(super) async fn answer<B>(&self, peer: SocketAddr, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let mut request = request.map(|body| Body::new(Paced::new(body)));
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        let Ok(mut response): Result<_, Infallible> = TowerToHyperService::new(self.router.clone()).call(request).await;
        if let Some(alt_svc) = &self.alt_svc {
            response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
        }
        response
    }
}

/// Takes connections until it is told to stop; then waits for those that have requests under way.
async fn serve(mut listener: Bounded, tls: Option<Tls>, app: App, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.of_tcp()));
    let following = tls.map(|tls| tokio::spawn(tls.follow()));
    loop {
        let (stream, peer) = tokio::select! {
            () = told(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        tokio::spawn(connection(stream, peer, acceptor.clone(), app.clone(), graceful.watcher(), stopped.clone()));
    }
    drop(listener);
    if let Some(following) = following {
        following.abort();
    }
    graceful.shutdown().await;
}

async fn connection(
    stream: Connection,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    app: App,
    watcher: Watcher,
    mut stopped: watch::Receiver<bool>,
) {
    let answering = stream.answering();
    let Some(acceptor) = acceptor else { return http1(stream, peer, app, answering, watcher).await };
    let stream = tokio::select! {
        () = told(&mut stopped) => return,
        shaken = tokio::time::timeout(limits::API_HANDSHAKE, acceptor.accept(stream)) => match shaken {
            Ok(Ok(stream)) => stream,
            // Scanners, and clients that do not know our authority: no news for the operator.
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS"),
            Err(_) => return tracing::debug!(%peer, "no TLS in time"),
        },
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http2(stream, peer, app, answering, watcher).await,
        _ => http1(stream, peer, app, answering, watcher).await,
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    app: App,
    answering: Answering,
    watcher: Watcher,
) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answering.while_(app.answer(peer, request)).await));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits::API_HEAD_TIME).max_buf_size(limits::API_HEAD);
    end(watcher, peer, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    app: App,
    answering: Answering,
    watcher: Watcher,
) {
    let service = service_fn(move |request| {
        let (app, answering) = (app.clone(), answering.clone());
        async move { Ok::<_, Infallible>(answering.while_(app.answer(peer, request)).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::API_STREAMS)
        .max_header_list_size(limits::API_HEAD as u32)
        .max_pending_accept_reset_streams(limits::API_RESETS)
        .max_local_error_reset_streams(limits::API_RESETS_OF_ERRORS)
        .initial_stream_window_size(limits::API_STREAM_WINDOW)
        .initial_connection_window_size(limits::API_CONNECTION_WINDOW);
    end(watcher, peer, builder.serve_connection(TokioIo::new(stream), service)).await;
}

async fn end<C: GracefulConnection<Error = hyper::Error>>(watcher: Watcher, peer: SocketAddr, connection: C) {
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "an API connection ended");
    }
}
