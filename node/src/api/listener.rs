//! Connections of the API: so many at a time, and none that only sits there. A peer without a token must not be able to hold the
//! operator out by opening connections and sending nothing.

use crate::limits;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// [`limits::API_IDLE`], but for tests.
    patience: Duration,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Bounded {
        Bounded { listener, places: Arc::new(Semaphore::new(limits::API_CONNECTIONS)), patience: limits::API_IDLE }
    }

    /// The next connection, when there is a place for it.
    pub(super) async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        // The trait's own accept for TcpListener waits and tries again where the process has no file left.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(tokio::time::sleep(self.patience));
        (Connection { stream, idle, patience: self.patience, answering: Answering::default(), _place: place }, peer)
    }
}

/// Requests of a connection that are being answered. Meanwhile it is not idle, even where nothing moves: a push waits for the compiler, which
/// has its own limit.
#[derive(Clone, Default)]
pub(super) struct Answering(Arc<AtomicUsize>);

impl Answering {
    pub(super) async fn while_<T>(&self, answer: impl Future<Output = T>) -> T {
        struct One<'a>(&'a AtomicUsize);
        impl Drop for One<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let _one = One(&self.0);
        answer.await
    }
}

/// A TCP stream that gives up when nothing moves.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    patience: Duration,
    answering: Answering,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn answering(&self) -> Answering {
        self.answering.clone()
    }

    /// Something moved, or nothing did for too long.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + self.patience);
            return moved;
        }
        while self.idle.as_mut().poll(cx).is_ready() {
            if self.answering.0.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.idle.as_mut().reset(Instant::now() + self.patience);
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, room);
        this.watch(read, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(written, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn who_waits_for_an_answer_is_not_idle_and_who_sends_nothing_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut bounded = Bounded { patience: PATIENCE, ..Bounded::new(listener) };
        let _peer = TcpStream::connect(address).await.expect("listens");
        let (mut connection, _) = bounded.accept().await;
        let answering = connection.answering();
        let began = Instant::now();
        let (answered, read) = tokio::join!(
            async {
                answering.while_(tokio::time::sleep(PATIENCE * 5)).await;
                began.elapsed()
            },
            async { (connection.read(&mut [0; 1]).await, began.elapsed()) }
        );
        let (read, gave_up) = read;
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(gave_up >= answered, "{gave_up:?} while the answer took {answered:?}");
    }
}
