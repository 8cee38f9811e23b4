//! SIP over TCP (RFC 3261 18): listeners, and one task for each connection, on a small runtime that touches no call.
//!
//! ```text
//!  signalling --Outgoing--> hub --bytes--> connection <--> peer
//!      ^                     ^                 |
//!      |                     +--accepted-- listeners
//!      +------- inbox (Sip, FlowFailed) -------+
//! ```
//!
//! The hub owns the table of connections by flow: what is to be sent goes to the one that is there, or to a new one. A connection cuts its
//! stream by [`Framer`] and knows nothing of what the messages say. The signalling thread never waits for any of it; when it is behind,
//! connections stop reading, and TCP's own flow control holds their peers.
//!
//! Start with [`Tcp::start`], then `Hub::run` and `Connection::run`.

use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::Clock;
use bytes::Bytes;
use hookswitch_call::Input;
use hookswitch_proto::sip::{Flow, Frame, Framer, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, Id, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A listening socket, not yet read.
pub struct Listening {
    socket: std::net::TcpListener,
    pub local: SocketAddr,
}

pub fn bind(address: SocketAddr) -> io::Result<Listening> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // A v6 wildcard that takes v4 too would hide who listens where.
        socket.set_only_v6(true)?;
    }
    // A node that starts again must not wait until the connections of the one before are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::TCP_BACKLOG)?;
    let socket: std::net::TcpListener = socket.into();
    let local = socket.local_addr()?;
    Ok(Listening { socket, local })
}

/// The signalling thread's end.
pub struct Tcp {
    outgoing: mpsc::Sender<(Flow, Bytes)>,
    unread: Arc<Semaphore>,
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // Nobody takes inputs out any more: connections do not wait for room, but write what they have and end.
        self.unread.close();
    }
}

impl Tcp {
    /// Serves `listening` on the runtime behind `handle` until the `Tcp` is dropped; what is queued then is still written, and the
    /// task that is returned ends.
    pub fn start(
        handle: &Handle,
        listening: Vec<Listening>,
        inbox: SwitchInbox,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> io::Result<(Tcp, JoinHandle<()>)> {
        let (outgoing, to_send) = mpsc::channel(limits::TCP_OUTGOING);
        let (accepting, accepted) = mpsc::channel(limits::TCP_ACCEPTING);
        let unread = Arc::new(Semaphore::new(limits::TCP_UNREAD));
        let _inside = handle.enter();
        let mut listeners = Vec::new();
        for Listening { socket, local } in listening {
            let task = handle.spawn(accept(TcpListener::from_std(socket)?, local, accepting.clone(), metrics.clone()));
            listeners.push(task.abort_handle());
        }
        let shared = Arc::new(Shared { inbox, metrics, clock, unread: unread.clone() });
        let hub = Hub {
            shared,
            to_send,
            accepted,
            listeners,
            connections: HashMap::new(),
            flows: HashMap::new(),
            counts: HashMap::new(),
            tasks: JoinSet::new(),
        };
        // A sender is kept, so that a node without TCP listeners does not see its channel end.
        Ok((Tcp { outgoing, unread }, handle.spawn(hub.run(accepting))))
    }

    /// Sends on the connection that this flow is, or on a new one. False when there is no room: nothing will be sent.
    pub fn send(&self, flow: Flow, bytes: Bytes) -> bool {
        self.outgoing.try_send((flow, bytes)).is_ok()
    }

    /// An input from a connection was taken out of the inbox: another one may be put in.
    pub fn taken(&self) {
        self.unread.add_permits(1);
    }
}

async fn accept(socket: TcpListener, local: SocketAddr, accepting: mpsc::Sender<(TcpStream, Flow)>, metrics: Arc<Metrics>) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let flow = Flow { transport: Transport::Tcp, local, peer };
                if accepting.send((stream, flow)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of files, or the peer was gone before we came: neither ends the listener, and the first lasts for a while.
                add(&metrics.tcp_accept_failed, 1);
                tracing::debug!(%error, "no connection accepted");
                sleep(limits::TCP_ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Shared {
    inbox: SwitchInbox,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Room in the inbox for messages of connections.
    unread: Arc<Semaphore>,
}

impl Shared {
    fn failed(&self, flow: Flow) {
        self.inbox.send(Input::FlowFailed { flow });
    }
}

/// What the hub knows of a connection.
struct Entry {
    queue: mpsc::UnboundedSender<Bytes>,
    /// Bytes queued or being written.
    queued: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Theirs,
    Ours,
}

struct Hub {
    shared: Arc<Shared>,
    to_send: mpsc::Receiver<(Flow, Bytes)>,
    accepted: mpsc::Receiver<(TcpStream, Flow)>,
    listeners: Vec<AbortHandle>,
    connections: HashMap<Flow, Entry>,
    /// Which flow a task serves: said by its id, since a task that panicked says nothing else.
    flows: HashMap<Id, (Side, Flow)>,
    /// Tasks alive, in all and by the peer's network.
    counts: HashMap<(Side, Option<IpAddr>), usize>,
    tasks: JoinSet<()>,
}

impl Hub {
    async fn run(mut self, accepting: mpsc::Sender<(TcpStream, Flow)>) {
        loop {
            tokio::select! {
                outgoing = self.to_send.recv() => match outgoing {
                    Some((flow, bytes)) => self.send(flow, bytes),
                    None => break,
                },
                Some((stream, flow)) = self.accepted.recv() => self.accept(stream, flow),
                Some(ended) = self.tasks.join_next_with_id() => self.forget(match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                }),
            }
        }
        drop(accepting);
        for listener in &self.listeners {
            listener.abort();
        }
        // Without their queues the connections write what they have, and end.
        self.connections.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    fn accept(&mut self, stream: TcpStream, flow: Flow) {
        if self.is_full(Side::Theirs, flow.peer.ip()) {
            // Dropped, and so closed: there is no message yet that could be answered.
            add(&self.shared.metrics.tcp_refused, 1);
            return;
        }
        add(&self.shared.metrics.tcp_accepted, 1);
        self.open(flow, Some(stream));
    }

    fn send(&mut self, flow: Flow, bytes: Bytes) {
        // A connection whose task has ended and was not yet joined is none.
        if self.connections.get(&flow).is_none_or(|entry| entry.queue.is_closed()) {
            if self.is_full(Side::Ours, flow.peer.ip()) {
                add(&self.shared.metrics.tcp_refused, 1);
                return self.shared.failed(flow);
            }
            self.open(flow, None);
        }
        let Some(entry) = self.connections.get(&flow) else { return };
        let length = bytes.len();
        if entry.queued.fetch_add(length, Ordering::Relaxed) + length > limits::TCP_QUEUE_BYTES {
            // The peer does not read. What is lost from the middle of a dialog is not made up for by what comes after.
            add(&self.shared.metrics.tcp_closed_unread, 1);
            entry.task.abort();
            self.connections.remove(&flow);
            return self.shared.failed(flow);
        }
        // It ended this moment: as if it had ended just after.
        let _ = entry.queue.send(bytes);
    }

    fn is_full(&self, side: Side, peer: IpAddr) -> bool {
        let (all, of_peer) = match side {
            Side::Theirs => (limits::TCP_ACCEPTED, limits::TCP_ACCEPTED_PEER),
            Side::Ours => (limits::TCP_CONNECTED, limits::TCP_CONNECTED_PEER),
        };
        let count = |key: (Side, Option<IpAddr>)| self.counts.get(&key).copied().unwrap_or(0);
        count((side, None)) >= all || count((side, Some(network(peer)))) >= of_peer
    }

    fn open(&mut self, flow: Flow, stream: Option<TcpStream>) {
        let (queue, to_write) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let side = if stream.is_some() { Side::Theirs } else { Side::Ours };
        for key in [None, Some(network(flow.peer.ip()))] {
            *self.counts.entry((side, key)).or_default() += 1;
        }
        let connection = Connection {
            shared: self.shared.clone(),
            flow,
            queue: to_write,
            queued: queued.clone(),
            writing: VecDeque::new(),
            framed: VecDeque::new(),
            asked: false,
        };
        let task = self.tasks.spawn(connection.run(stream));
        self.flows.insert(task.id(), (side, flow));
        // The same addresses once more: the kernel has forgotten the connection before, and so do we.
        if let Some(before) = self.connections.insert(flow, Entry { queue, queued, task }) {
            before.task.abort();
        }
    }

    fn forget(&mut self, id: Id) {
        let Some((side, flow)) = self.flows.remove(&id) else { return };
        for key in [(side, None), (side, Some(network(flow.peer.ip())))] {
            if let Some(count) = self.counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
                }
            }
        }
        if self.connections.get(&flow).is_some_and(|entry| entry.task.id() == id) {
            self.connections.remove(&flow);
        }
    }
}

/// Whom connections are counted by: a host has one IPv4 address, but a whole /64 of IPv6.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Why a connection ended: which counter moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed, or the node does.
    Closed,
    /// Reset, or unreachable.
    Lost,
    NotConnected,
    Idle,
    /// A message that did not become whole.
    Slow,
    /// The peer does not read what we write.
    Unread,
    Unframed,
}

struct Connection {
    shared: Arc<Shared>,
    flow: Flow,
    queue: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicUsize>,
    /// The first of these may be written in part.
    writing: VecDeque<Bytes>,
    /// Messages that wait for room in the inbox; nothing is read meanwhile.
    framed: VecDeque<Bytes>,
    /// A request of ours went out here, so somebody may wait for the answer.
    asked: bool,
}

/// The gauge follows the task, however that ends.
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tcp_connections.down();
    }
}

impl Connection {
    async fn run(mut self, stream: Option<TcpStream>) {
        let metrics = self.shared.metrics.clone();
        metrics.tcp_connections.up();
        let _counted = Counted(metrics.clone());
        let stream = match stream {
            Some(stream) => Ok(stream),
            None => timeout(limits::TCP_CONNECT, connect(self.flow)).await.unwrap_or_else(|late| Err(late.into())),
        };
        let end = match stream {
            Ok(stream) => self.talk(stream).await,
            Err(error) => {
                tracing::debug!(peer = %self.flow.peer, %error, "no connection");
                End::NotConnected
            }
        };
        let counter: &AtomicU64 = match end {
            End::Closed => &metrics.tcp_closed,
            End::Lost => &metrics.tcp_closed_lost,
            End::NotConnected => &metrics.tcp_connect_failed,
            End::Idle => &metrics.tcp_closed_idle,
            End::Slow => &metrics.tcp_closed_slow,
            End::Unread => &metrics.tcp_closed_unread,
            End::Unframed => &metrics.tcp_closed_unframed,
        };
        add(counter, 1);
        // From here on the hub opens another one; what it has sent here before was for nobody.
        self.queue.close();
        while let Ok(bytes) = self.queue.try_recv() {
            self.asked |= is_request(&bytes);
        }
        // Only where a request may wait: telling the switch has a price, and anybody can open and close connections.
        if self.asked {
            self.shared.failed(self.flow);
        }
    }

    async fn talk(&mut self, mut stream: TcpStream) -> End {
        // Refused, messages come a little later.
        let _ = stream.set_nodelay(true);
        let (mut reader, mut writer) = stream.split();
        let mut framer = Framer::new();
        let mut chunk = vec![0; limits::TCP_READ];
        let start = Instant::now();
        // When something last moved, since when a message is incomplete, since when the peer reads nothing.
        let (mut moved, mut within, mut stuck) = (start, None, None);
        // After the last that will be read: how it will end, and when.
        let mut farewell: Option<(End, Instant)> = None;
        let (mut open, mut eof) = (true, false);
        // When the last message came that may still be answered.
        let mut told: Option<Instant> = None;
        let unread = self.shared.unread.clone();
        loop {
            if self.framed.is_empty() && !open && self.writing.is_empty() {
                // The node ends: all is written.
                let _ = writer.shutdown().await;
                return End::Closed;
            }
            let deadline = [
                Some((moved + limits::TCP_IDLE, End::Idle)),
                within.map(|since: Instant| (since + limits::TCP_INCOMPLETE, End::Slow)),
                stuck.map(|since: Instant| (since + limits::TCP_STUCK, End::Unread)),
                farewell.map(|(end, at)| (at, end)),
            ];
            let (at, end) = deadline.into_iter().flatten().min_by_key(|(at, _)| *at).expect("the first is always there");
            let reading = self.framed.is_empty() && !eof;
            tokio::select! {
                read = reader.read(&mut chunk), if reading => match read {
                    Ok(0) => {
                        // The peer has said all it will, but may still hear the answers. To a request of ours no answer comes here.
                        eof = true;
                        let now = Instant::now();
                        farewell = farewell.or(Some((End::Closed, told.map_or(now, |told| now.max(told + limits::TCP_HALF_CLOSED)))));
                        if std::mem::take(&mut self.asked) {
                            self.shared.failed(self.flow);
                        }
                        within = None;
                    }
                    Ok(n) => {
                        moved = Instant::now();
                        framer.push(chunk.get(..n).unwrap_or(b""));
                        while let Some(frame) = framer.poll() {
                            within = None;
                            match frame {
                                Frame::Message(bytes) => self.framed.push_back(bytes),
                                Frame::Ping => self.write(Bytes::from_static(b"\r\n")),
                                Frame::Broken(bytes) => {
                                    // Its refusal is to reach the peer, which a close with unread bytes would prevent.
                                    self.framed.push_back(bytes);
                                    farewell = Some((End::Unframed, moved + limits::TCP_FAREWELL));
                                }
                            }
                        }
                        if framer.is_within() {
                            within = within.or(Some(moved));
                        }
                    }
                    Err(error) => {
                        tracing::debug!(peer = %self.flow.peer, %error, "connection lost");
                        return End::Lost;
                    }
                },
                permit = unread.acquire(), if !self.framed.is_empty() => {
                    let Ok(permit) = permit else {
                        // The node ends: nobody reads any more.
                        self.framed.clear();
                        continue;
                    };
                    // Given back by whoever takes the input out.
                    permit.forget();
                    let now = Instant::now();
                    // That it took us long to read on is not the peer's fault.
                    (told, within) = (Some(now), within.map(|_| now));
                    if let Some(bytes) = self.framed.pop_front() {
                        add(&self.shared.metrics.tcp_received, 1);
                        self.shared.inbox.send(Input::Sip { flow: self.flow, bytes, wall: self.shared.clock.wall() });
                    }
                }
                bytes = self.queue.recv(), if open => match bytes {
                    Some(bytes) => {
                        add(&self.shared.metrics.tcp_sent, 1);
                        self.asked |= is_request(&bytes);
                        self.writing.push_back(bytes);
                        stuck = stuck.or(Some(Instant::now()));
                    }
                    None => open = false,
                },
                written = write_some(&mut writer, self.writing.front()), if !self.writing.is_empty() => match written {
                    Ok(n) if n > 0 => {
                        moved = Instant::now();
                        self.written(n);
                        stuck = (!self.writing.is_empty()).then_some(moved);
                    }
                    _ => return End::Lost,
                },
                () = sleep_until(at) => {
                    let _ = timeout(limits::TCP_FAREWELL, writer.shutdown()).await;
                    return end;
                }
            }
        }
    }

    /// Our own words between messages. A peer that pings and does not read is found out like one that asks and does not.
    fn write(&mut self, bytes: Bytes) {
        if self.queued.fetch_add(bytes.len(), Ordering::Relaxed) < limits::TCP_QUEUE_BYTES {
            self.writing.push_back(bytes);
        } else {
            self.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }

    fn written(&mut self, n: usize) {
        self.queued.fetch_sub(n, Ordering::Relaxed);
        if let Some(first) = self.writing.front_mut() {
            if n < first.len() {
                let _ = first.split_to(n);
            } else {
                self.writing.pop_front();
            }
        }
    }
}

/// Answers begin with the version, requests with a method.
fn is_request(bytes: &[u8]) -> bool {
    !bytes.starts_with(b"SIP/") && !bytes.starts_with(b"\r\n")
}

async fn write_some(writer: &mut tokio::net::tcp::WriteHalf<'_>, bytes: Option<&Bytes>) -> io::Result<usize> {
    writer.write(bytes.map_or(b"", |b| b)).await
}

/// From our listener's address, where it has one, so that the peer sees who calls.
async fn connect(flow: Flow) -> io::Result<TcpStream> {
    let socket = if flow.peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let ip = flow.local.ip();
    if !ip.is_unspecified() && ip.is_ipv4() == flow.peer.is_ipv4() {
        socket.bind((ip, 0).into())?;
    }
    socket.connect(flow.peer).await
}
