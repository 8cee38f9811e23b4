//! The API's own threads: a small runtime that serves until it is told to stop. Its threads do not touch calls.

use super::access::Peer;
use super::{Api, listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Threads for what blocks: the store's answers, files, waiting for the compiler. More requests wait for one.
const BLOCKING: usize = 16;
/// How long requests under way may take when the node stops.
const STOP: Duration = Duration::from_secs(2);

/// A served API. Stops when dropped, without waiting for requests.
pub struct Server {
    runtime: Runtime,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<()>>,
    api: Arc<Api>,
}

impl Api {
    /// Listens and serves on threads of its own.
    pub fn start(self: Arc<Api>, listen: SocketAddr) -> io::Result<Server> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(BLOCKING).thread_name("api").enable_all().build()?;
        let socket = runtime.block_on(TcpListener::bind(listen))?;
        let address = socket.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let serving = axum::serve(listener::Bounded::new(socket), self.clone().router().into_make_service_with_connect_info::<Peer>())
            .with_graceful_shutdown(async {
                // A dropped server stops it as well as a told one.
                let _ = stopped.await;
            });
        let serving = runtime.spawn(serving.into_future());
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
        let _ = self.stop.send(());
        self.api.stopping.send_replace(true);
        let ended = self.runtime.block_on(async { tokio::time::timeout(STOP, self.serving).await });
        if ended.is_err() {
            tracing::warn!("API requests were cut off");
        }
        self.runtime.shutdown_timeout(STOP);
    }
}
