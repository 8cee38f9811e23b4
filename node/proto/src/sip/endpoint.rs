//! The SIP endpoint: matches what arrives to transactions and dialogs, tells its user what happened, and carries out what the user
//! decides. Used by the node's switch, by the test phone and by the simulator alike.
//!
//! It does no I/O. `receive` and the commands change state, then drain `poll`, then sleep until `next_timeout`.

mod call;
mod refer;
mod uac;
mod uas;
mod within;

use super::header::Name;
use super::message::{Broken, Message, Method, Refusal};
use super::stream;
use super::timer::Timers;
use super::transaction::{Client, Fired, InviteClient, InviteServer, Server, Timing};
use super::write::Writer;
use crate::limits;
use crate::random::{KeyedMap, Random};
use crate::time::Time;
use bytes::Bytes;
use call::Call;
use siphasher::sip128::{Hasher128, SipHasher13};
use slab::Slab;
use std::collections::VecDeque;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// One path to a peer: a listening socket of ours and the address on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub transport: Transport,
    /// Our socket's bound address.
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// A socket the endpoint may send from, and what to call it in Via and Contact.
#[derive(Clone, Debug)]
pub struct Listen {
    pub transport: Transport,
    pub bound: SocketAddr,
    /// `host` or `host:port` as seen from outside (1:1 NAT); `None`: the bound address.
    pub advertise: Option<String>,
}

impl Listen {
    /// `host:port` for Via and Contact.
    fn sent_by(&self) -> String {
        match &self.advertise {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{}", self.bound.port()),
            // A port is there when something stands behind the last colon that is not part of an IPv6 address.
            Some(host) if host.rfind(':').is_some_and(|colon| !host.ends_with(']') && host.rfind(']').is_none_or(|b| b < colon)) => {
                host.clone()
            }
            Some(host) => format!("{host}:{}", self.bound.port()),
            None => self.bound.to_string(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct EndpointConfig {
    pub listen: Vec<Listen>,
    /// `Server` / `User-Agent` value.
    pub agent: String,
    /// RFC 3261 17.1.1.1 T1, T2, T4. Defaults 500 ms, 4 s, 5 s.
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
    /// RFC 4028: what we ask for as UAC, and the least we accept. `None`: as UAC we ask for no timer.
    pub session_expires: Option<Duration>,
    pub min_se: Duration,
    /// Answer malformed requests (400) only to these peers and to loopback, so that we are no reflector.
    pub known_peers: Vec<std::net::IpAddr>,
}

/// One call leg's dialog, early or confirmed, from the first INVITE to [`SipEvent::Gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    pub slot: u32,
    pub generation: u32,
}

/// A header line to add to what we send. The value is checked: CR, LF and NUL are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// An INVITE to send (RFC 3261 13.2).
#[derive(Clone, Debug)]
pub struct Invite {
    /// Request-URI and, unless `to` is given, the To URI.
    pub target: String,
    /// Complete From value without tag, e.g. `"Alice" <sip:alice@example.com>`.
    pub from: String,
    pub to: Option<String>,
    /// Where the first hop is, already resolved.
    pub flow: Flow,
    pub headers: Vec<Header>,
    pub sdp: Option<Bytes>,
}

/// Why a dialog ended. Exactly one per dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer sent BYE; `reason` is its Reason header (RFC 3326), if any.
    Bye { reason: Option<String> },
    /// The peer cancelled its INVITE before the final answer; 487 was sent.
    Cancelled,
    /// Our 2xx was never acknowledged within 64*T1 (RFC 3261 13.3.1.4); BYE was sent.
    NoAck,
    /// No refresh before Session-Expires (RFC 4028 10); BYE was sent.
    SessionExpired,
    /// We refused the INVITE, or our BYE or CANCEL is done.
    Local,
    /// Our INVITE was refused, or timed out (408), or could not be sent (503).
    Failed { status: u16, why: Box<Failure> },
    /// Our CANCEL had no effect: a 2xx crossed it (it was acknowledged and released by BYE), or no final response came in 64*T1.
    CancelFailed,
}

/// What a final refusal of our INVITE said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub phrase: Option<String>,
    /// Its Reason header (RFC 3326).
    pub reason: Option<String>,
    /// Contact URIs of a 3xx, best first (RFC 3261 8.1.3.4).
    pub contacts: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum SipEvent {
    /// A new INVITE outside any dialog; 100 was sent. Answer with `provisional`, `answer`, `reject` or let the peer cancel.
    /// From here on the dialog ends with exactly one `Gone`.
    Invite { dialog: DialogId, request: Arc<super::Message>, flow: Flow },
    /// Our 2xx to the INVITE was acknowledged. `sdp` is the ACK's body (the answer, where our 2xx carried the offer).
    /// Comes again after a re-INVITE without an offer, where the ACK answers ours.
    Confirmed { dialog: DialogId, sdp: Option<Bytes> },
    /// A re-INVITE or UPDATE. With `sdp` it is an offer; without, a refresh (UPDATE) or a request for our offer (INVITE).
    /// Answer with `accept_offer` or `refuse_offer`; session timer headers are the endpoint's business.
    Offer { dialog: DialogId, method: super::Method, sdp: Option<Bytes> },
    /// INFO within the dialog (200 was sent): digits as `application/dtmf-relay`.
    Info { dialog: DialogId, request: Arc<super::Message> },
    /// 101-199 to our INVITE.
    Progress { dialog: DialogId, status: u16, response: Arc<super::Message> },
    /// 2xx to our INVITE; ACK was sent.
    Answered { dialog: DialogId, response: Arc<super::Message> },
    /// The end of an `Endpoint::offer`: the SDP answer of the 2xx, or the final status that refused it (408 when none came).
    OfferAnswered { dialog: DialogId, result: Result<Bytes, u16> },
    /// What became of an `Endpoint::refer`: 202, then what the peer's other call has reached, at last a status that is `last` (408: it said
    /// nothing more).
    Referred { dialog: DialogId, status: u16, last: bool },
    /// The end of the dialog; its id is never used again.
    Gone { dialog: DialogId, cause: Cause, at: Time },
    /// A message was refused or dropped before it reached a dialog: for counters and one log line.
    Refused { flow: Flow, why: super::Refusal },
}

// An event is moved once, from the queue to its user: boxing it would cost more than the copy.
#[derive(Debug)]
pub enum EndpointOutput {
    Transmit { flow: Flow, bytes: Bytes },
    Event(SipEvent),
}

impl Default for EndpointConfig {
    fn default() -> EndpointConfig {
        EndpointConfig {
            listen: Vec::new(),
            agent: "Hookswitch".to_owned(),
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            session_expires: None,
            min_se: Duration::from_secs(90),
            known_peers: Vec::new(),
        }
    }
}

/// What is alive, for metrics and leak tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub transactions: usize,
    pub dialogs: usize,
    pub timers: usize,
}

/// A keyed 128-bit hash that stands for a transaction or a dialog: fixed size, no copies of branches and Call-IDs in the maps,
/// and nobody outside can aim for a collision.
type Key = u128;

/// Whose wake-up a timer entry is.
#[derive(Clone, Copy, Debug)]
enum Wake {
    Server(Key),
    Client(Key),
    Call(DialogId),
}

enum ServerMachine {
    Invite(InviteServer),
    Other(Server),
}

struct ServerTransaction {
    machine: ServerMachine,
    flow: Flow,
    /// The last response, to be repeated; emptied where the dialog repeats it instead. The request itself is not kept.
    response: Bytes,
    call: Option<DialogId>,
    /// Under which key a merged copy of the request would be noticed (RFC 3261 8.2.2.2).
    merge: Option<Key>,
    wake: Option<Time>,
}

enum ClientMachine {
    Invite(InviteClient),
    Other(Client),
}

/// What a request of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Invite(DialogId),
    /// Session refresh (RFC 4028).
    Refresh(DialogId),
    /// Our own offer within the dialog.
    Offer(DialogId),
    /// The peer is asked to call somebody else (RFC 3515).
    Refer {
        dialog: DialogId,
        cseq: u32,
    },
    /// `None`: its dialog is gone already.
    Bye(Option<DialogId>),
    Cancel,
}

struct ClientTransaction {
    machine: ClientMachine,
    flow: Flow,
    request: Bytes,
    purpose: Purpose,
    /// Responses must name it: what they make us send counts on from it.
    cseq: u32,
    /// The datagram that it would have been: sent if the peer takes no connection (RFC 3261 18.1.1).
    fallback: Option<(Flow, Bytes)>,
    /// ACKs sent for 2xx, by the tag of the fork that they went to.
    acks: Vec<(Box<[u8]>, Flow, Bytes)>,
    wake: Option<Time>,
}

pub struct Endpoint {
    config: EndpointConfig,
    /// `host:port` of each `config.listen`.
    sent_by: Vec<String>,
    random: Random,
    hash_keys: (u64, u64),
    out: VecDeque<EndpointOutput>,
    timers: Timers<Wake>,
    servers: KeyedMap<Key, ServerTransaction>,
    clients: KeyedMap<Key, ClientTransaction>,
    merges: KeyedMap<Key, Key>,
    calls: Slab<Call>,
    by_dialog: KeyedMap<Key, DialogId>,
    generation: u32,
}

/// The command came too late or for a dialog that is gone: nothing was sent. Callers may ignore it, a `Gone` tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no such dialog")]
    NoDialog,
    #[error("not possible in the dialog's state")]
    WrongState,
    #[error("a header line has a bad name or a CR, LF or NUL in it")]
    BadHeader,
    #[error("not a SIP URI")]
    BadUri,
    /// `limits::SIP_TRANSACTIONS` or `SIP_DIALOGS` is reached.
    #[error("out of transactions or dialogs")]
    Overload,
}

/// The methods with a meaning here. REGISTER, SUBSCRIBE, MESSAGE, PUBLISH and REFER are denied by default: nothing of them may be
/// reached without a credential. A NOTIFY tells of a REFER of ours, or is refused.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY";

impl Endpoint {
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Endpoint {
        let mut random = Random::new(seed);
        Endpoint {
            sent_by: config.listen.iter().map(Listen::sent_by).collect(),
            config,
            hash_keys: (random.u64(), random.u64()),
            out: VecDeque::new(),
            timers: Timers::new(),
            servers: random.map(),
            clients: random.map(),
            merges: random.map(),
            calls: Slab::new(),
            by_dialog: random.map(),
            generation: 0,
            random,
        }
    }

    /// One datagram, or one framed message of a stream.
    pub fn receive(&mut self, now: Time, flow: Flow, bytes: Bytes) {
        // Keep-alives (RFC 5626 4.4.1, and the NULs of some phones) are no messages.
        if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return;
        }
        let read = match flow.transport {
            Transport::Udp => Message::read(bytes),
            Transport::Tcp => stream::read(bytes),
        };
        match read {
            Ok(message) if message.status().is_some() => self.on_response(now, flow, message),
            Ok(message) => self.on_request(now, flow, message),
            Err(broken) => self.on_broken(flow, broken),
        }
    }

    pub fn poll(&mut self) -> Option<EndpointOutput> {
        self.out.pop_front()
    }

    pub fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    pub fn handle_timeout(&mut self, now: Time) {
        while let Some((at, wake)) = self.timers.pop(now) {
            match wake {
                Wake::Server(key) => self.on_server_timeout(now, at, key),
                Wake::Client(key) => self.on_client_timeout(now, at, key),
                Wake::Call(id) => self.on_call_timeout(now, at, id),
            }
        }
    }

    /// What was sent on this flow cannot be delivered (ICMP error, connection refused or lost): the requests that wait for an answer
    /// there fail as if 503 had come (RFC 3261 17.1.4).
    pub fn flow_failed(&mut self, now: Time, flow: Flow) {
        let waiting = |(key, tx): (&Key, &ClientTransaction)| {
            let pending = match &tx.machine {
                ClientMachine::Invite(m) => m.is_pending(),
                ClientMachine::Other(m) => m.is_pending(),
            };
            (pending && tx.flow == flow).then_some(*key)
        };
        let mut failed: Vec<Key> = self.clients.iter().filter_map(waiting).collect();
        failed.sort_unstable();
        for key in failed {
            let Some(tx) = self.clients.remove(&key) else { continue };
            match tx.fallback.clone() {
                Some((flow, request)) => self.start_again(now, key, flow, request, tx),
                None => self.on_no_answer(now, tx, 503),
            }
        }
    }

    /// The socket from which a new request to `peer` goes: of this transport and the peer's address family.
    pub fn flow_to(&self, transport: Transport, peer: SocketAddr) -> Option<Flow> {
        let fits = |l: &&Listen| l.transport == transport && l.bound.is_ipv4() == peer.is_ipv4();
        self.config.listen.iter().find(fits).map(|l| Flow { transport, local: l.bound, peer })
    }

    /// By UDP after all: the same transaction, under the same branch.
    fn start_again(&mut self, now: Time, key: Key, flow: Flow, request: Bytes, tx: ClientTransaction) {
        let timing = self.timing(flow);
        let machine = match (&tx.machine, tx.purpose) {
            (ClientMachine::Invite(_), Purpose::Invite(_)) => ClientMachine::Invite(InviteClient::new(now, &timing)),
            (ClientMachine::Invite(_), _) => ClientMachine::Invite(InviteClient::within(now, &timing)),
            (ClientMachine::Other(_), _) => ClientMachine::Other(Client::new(now, &timing)),
        };
        self.transmit(flow, request.clone());
        self.clients.insert(key, ClientTransaction { machine, flow, request, fallback: None, wake: None, ..tx });
        self.arm_client(now, key);
    }

    /// The Call-ID of a dialog, ours or the peer's.
    pub fn call_id(&self, d: DialogId) -> Option<&str> {
        self.call(d).map(|c| c.dialog.call_id.as_str())
    }

    pub fn gauges(&self) -> Gauges {
        Gauges { transactions: self.servers.len() + self.clients.len(), dialogs: self.calls.len(), timers: self.timers.len() }
    }

    fn timing(&self, flow: Flow) -> Timing {
        let EndpointConfig { t1, t2, t4, .. } = self.config;
        Timing { t1, t2, t4, reliable: flow.transport == Transport::Tcp }
    }

    fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        if !bytes.is_empty() {
            self.out.push_back(EndpointOutput::Transmit { flow, bytes });
        }
    }

    fn tell(&mut self, event: SipEvent) {
        self.out.push_back(EndpointOutput::Event(event));
    }

    fn refused(&mut self, flow: Flow, why: Refusal) {
        self.tell(SipEvent::Refused { flow, why });
    }

    /// The parts are told apart by their lengths, so that no shift of a boundary gives the same key.
    fn key(&self, parts: &[&[u8]]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.hash_keys.0, self.hash_keys.1);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }

    /// A tag that follows from a transaction's key: a request that is refused without state, and its CANCEL, get the same one each time.
    fn tag_of(&self, key: Key) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let bits = self.key(&[b"tag", &key.to_le_bytes()]);
        (0..16).map(|i| ALPHABET[(bits >> (i * 5)) as usize & 31] as char).collect()
    }

    fn dialog_key(&self, call_id: &str, local_tag: &[u8]) -> Key {
        self.key(&[b"dialog", call_id.as_bytes(), local_tag])
    }

    /// RFC 3261 17.2.3: branch, sent-by and method; for RFC 2543 peers what identifies their request. `method` is INVITE for the ACK
    /// and the CANCEL of one.
    fn server_key(&self, request: &Message, method: &Method) -> Key {
        let via = request.top_via();
        let method = method.as_str().as_bytes();
        match via.as_ref().and_then(|v| v.magic_branch().map(|b| (v, b))) {
            Some((via, branch)) => {
                let port = via.port.unwrap_or(5060).to_le_bytes();
                self.key(&[b"server", branch, &via.host.to_ascii_lowercase(), &port, method])
            }
            None => {
                let top = request.items(Name::Via).next().unwrap_or(b"");
                let uri = request.request_uri_text().unwrap_or("").as_bytes();
                let from = request.tag_in_from().unwrap_or(b"");
                self.key(&[b"server-2543", top, uri, from, request.call_id().as_bytes(), &request.cseq().to_le_bytes(), method])
            }
        }
    }

    fn client_key(&self, branch: &[u8], method: &Method) -> Key {
        self.key(&[b"client", branch, method.as_str().as_bytes()])
    }

    /// How we are called where this flow ends.
    fn host(&self, flow: Flow) -> String {
        let exact = self.config.listen.iter().position(|l| l.transport == flow.transport && l.bound == flow.local);
        // A flow may name the interface's address where the socket is bound to any.
        let index = exact.or_else(|| {
            let wild = |l: &Listen| l.transport == flow.transport && l.bound.port() == flow.local.port() && l.bound.ip().is_unspecified();
            self.config.listen.iter().position(wild)
        });
        match index.and_then(|i| Some((self.config.listen.get(i)?, self.sent_by.get(i)?))) {
            Some((listen, sent_by)) if listen.advertise.is_some() || !listen.bound.ip().is_unspecified() => sent_by.clone(),
            _ => flow.local.to_string(),
        }
    }

    fn contact(&self, flow: Flow) -> String {
        let transport = if flow.transport == Transport::Tcp { ";transport=tcp" } else { "" };
        format!("<sip:{}{transport}>", self.host(flow))
    }

    /// `host:port` by which a peer on this flow reaches us, for a Contact of the user's own making.
    pub fn address(&self, flow: Flow) -> String {
        self.host(flow)
    }

    /// A Via with a branch of its own, and that branch.
    fn via(&mut self, flow: Flow) -> (String, String) {
        let branch = format!("z9hG4bK{}", self.random.token(16));
        let transport = if flow.transport == Transport::Tcp { "TCP" } else { "UDP" };
        (format!("SIP/2.0/{transport} {};branch={branch};rport", self.host(flow)), branch)
    }

    fn bound(&self) -> impl Fn(Transport) -> Option<SocketAddr> {
        |transport| self.config.listen.iter().find(|l| l.transport == transport).map(|l| l.bound)
    }

    fn call(&self, id: DialogId) -> Option<&Call> {
        self.calls.get(id.slot as usize).filter(|c| c.id == id)
    }

    fn call_mut(&mut self, id: DialogId) -> Option<&mut Call> {
        self.calls.get_mut(id.slot as usize).filter(|c| c.id == id)
    }

    fn is_full(&self) -> bool {
        self.servers.len() + self.clients.len() >= limits::SIP_TRANSACTIONS || self.calls.len() >= limits::SIP_DIALOGS
    }

    /// An id for the call that will be inserted next.
    fn next_id(&mut self) -> DialogId {
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(self.calls.vacant_key()).expect("SIP_DIALOGS is far below 2^32");
        DialogId { slot, generation: self.generation }
    }

    fn insert_call(&mut self, now: Time, call: Call) {
        let key = self.dialog_key(&call.dialog.call_id, call.dialog.local_tag.as_bytes());
        self.by_dialog.insert(key, call.id);
        let slot = call.id.slot;
        let slot_used = self.calls.insert(call);
        debug_assert_eq!(slot as usize, slot_used, "next_id() named the slot");
        self.arm_call(now, slot_used);
    }

    fn arm(&mut self, now: Time, id: DialogId) {
        if self.call(id).is_some() {
            self.arm_call(now, id.slot as usize);
        }
    }

    fn arm_call(&mut self, now: Time, slot: usize) {
        if let Some(call) = self.calls.get_mut(slot) {
            let (deadline, id) = (call.next_timeout(), call.id);
            self.timers.arm(now, &mut call.wake, deadline, Wake::Call(id));
        }
    }

    fn arm_server(&mut self, now: Time, key: Key) {
        if let Some(tx) = self.servers.get_mut(&key) {
            let deadline = match &tx.machine {
                ServerMachine::Invite(m) => m.next_timeout(),
                ServerMachine::Other(m) => m.next_timeout(),
            };
            self.timers.arm(now, &mut tx.wake, deadline, Wake::Server(key));
        }
    }

    fn arm_client(&mut self, now: Time, key: Key) {
        if let Some(tx) = self.clients.get_mut(&key) {
            let deadline = match &tx.machine {
                ClientMachine::Invite(m) => m.next_timeout(),
                ClientMachine::Other(m) => m.next_timeout(),
            };
            self.timers.arm(now, &mut tx.wake, deadline, Wake::Client(key));
        }
    }

    fn on_server_timeout(&mut self, now: Time, at: Time, key: Key) {
        let Some(tx) = self.servers.get_mut(&key).filter(|tx| tx.wake == Some(at)) else { return };
        tx.wake = None;
        let (flow, response) = (tx.flow, tx.response.clone());
        let timing = self.timing(flow);
        let Some(tx) = self.servers.get_mut(&key) else { return };
        let fired = match &mut tx.machine {
            ServerMachine::Invite(m) => m.on_timeout(now, &timing),
            ServerMachine::Other(m) => m.on_timeout(now),
        };
        match fired {
            Fired::Retransmit => self.transmit(flow, response),
            // A refused INVITE whose ACK never came: the refusal was told, nothing is left to do.
            Fired::TimedOut | Fired::Done => {
                if let Some(merge) = self.servers.remove(&key).and_then(|tx| tx.merge) {
                    self.merges.remove(&merge);
                }
            }
            Fired::Nothing => {}
        }
        self.arm_server(now, key);
    }

    fn on_client_timeout(&mut self, now: Time, at: Time, key: Key) {
        let Some(tx) = self.clients.get_mut(&key).filter(|tx| tx.wake == Some(at)) else { return };
        tx.wake = None;
        let (flow, request) = (tx.flow, tx.request.clone());
        let timing = self.timing(flow);
        let Some(tx) = self.clients.get_mut(&key) else { return };
        let fired = match &mut tx.machine {
            ClientMachine::Invite(m) => m.on_timeout(now, &timing),
            ClientMachine::Other(m) => m.on_timeout(now, &timing),
        };
        match fired {
            Fired::Retransmit => self.transmit(flow, request),
            Fired::Done => {
                self.clients.remove(&key);
            }
            Fired::TimedOut => {
                if let Some(tx) = self.clients.remove(&key) {
                    self.on_no_answer(now, tx, 408);
                }
            }
            Fired::Nothing => {}
        }
        self.arm_client(now, key);
    }

    /// A request of ours got no final response. RFC 3261 8.1.3.1: as if this status had come.
    fn on_no_answer(&mut self, now: Time, tx: ClientTransaction, status: u16) {
        match tx.purpose {
            Purpose::Invite(id) => self.on_invite_failed(now, id, status, None),
            Purpose::Offer(id) => self.on_offer_response(now, id, status, None),
            Purpose::Refresh(id) => self.on_refresh_response(now, id, status, None),
            Purpose::Refer { dialog, cseq } => self.on_refer_response(now, dialog, cseq, status),
            Purpose::Bye(Some(id)) => self.end(now, id, Cause::Local),
            Purpose::Bye(None) | Purpose::Cancel => {}
        }
    }

    /// The end of a dialog: the only place where `Gone` comes from.
    fn end(&mut self, now: Time, id: DialogId, cause: Cause) {
        if self.call(id).is_none() {
            return;
        }
        self.drop_offer(now, id);
        let call = self.calls.remove(id.slot as usize);
        let key = self.dialog_key(&call.dialog.call_id, call.dialog.local_tag.as_bytes());
        self.by_dialog.remove(&key);
        self.tell(SipEvent::Gone { dialog: id, cause, at: now });
    }

    /// Sends a response in its transaction. False when the transaction is gone or has had its final response.
    fn respond(&mut self, now: Time, key: Key, status: u16, bytes: Bytes) -> bool {
        let Some(flow) = self.servers.get(&key).map(|tx| tx.flow) else { return false };
        let timing = self.timing(flow);
        let Some(tx) = self.servers.get_mut(&key) else { return false };
        let (sent, keep) = match &mut tx.machine {
            ServerMachine::Invite(m) => (m.on_send(now, status, &timing), !(200..300).contains(&status)),
            ServerMachine::Other(m) => (m.on_send(now, status, &timing), true),
        };
        if sent {
            tx.response = if keep { bytes.clone() } else { Bytes::new() };
            self.transmit(flow, bytes);
            self.arm_server(now, key);
        }
        sent
    }

    /// RFC 3261 18.1.1: a request that is larger than this and would go by UDP goes by TCP, where we have it: what a network fragments
    /// it often loses. The request says so in its Via and Contact.
    fn by_stream(&self, flow: Flow, request: &Bytes) -> Option<(Flow, Bytes)> {
        if flow.transport != Transport::Udp || request.len() <= limits::SIP_UDP_REQUEST {
            return None;
        }
        let stream = self.flow_to(Transport::Tcp, flow.peer)?;
        let message = Message::parse(request.clone()).ok()?;
        let via = message.header("Via")?;
        let rest = via.split_once(';').map_or("", |(_, rest)| rest);
        let via = format!("SIP/2.0/TCP {};{rest}", self.host(stream));
        let (ours, theirs) = (format!("@{}", self.host(flow)), format!("@{};transport=tcp", self.host(stream)));
        let contact = message.header("Contact").map(|c| match c == self.contact(flow) {
            true => self.contact(stream),
            // One of the user's own making: its host becomes the stream's, its parameters stay.
            false => {
                c.replace(&ours, &theirs).replace(&format!("sip:{}", self.host(flow)), &format!("sip:{};transport=tcp", self.host(stream)))
            }
        });
        let mut w = Writer::request(message.method()?.as_str(), message.request_uri_text()?);
        w.line("Via", via);
        if let Some(contact) = contact {
            w.line("Contact", contact);
        }
        w.copy_others(&message, &[Name::Via, Name::Contact, Name::ContentLength]);
        Some((stream, w.finish(Some(&message.body()).filter(|b| !b.is_empty()).map(|b| &b[..]))))
    }

    /// Starts a client transaction and sends its request.
    fn start(&mut self, now: Time, what: (&str, &Method, u32), flow: Flow, request: Bytes, purpose: Purpose) -> Key {
        match self.by_stream(flow, &request) {
            Some((stream, larger)) => {
                let key = self.start_on(now, what, stream, larger, purpose);
                if let Some(tx) = self.clients.get_mut(&key) {
                    tx.fallback = Some((flow, request));
                }
                key
            }
            None => self.start_on(now, what, flow, request, purpose),
        }
    }

    fn start_on(&mut self, now: Time, (branch, method, cseq): (&str, &Method, u32), flow: Flow, request: Bytes, purpose: Purpose) -> Key {
        let timing = self.timing(flow);
        let machine = match method {
            Method::Invite if matches!(purpose, Purpose::Invite(_)) => ClientMachine::Invite(InviteClient::new(now, &timing)),
            Method::Invite => ClientMachine::Invite(InviteClient::within(now, &timing)),
            _ => ClientMachine::Other(Client::new(now, &timing)),
        };
        let key = self.client_key(branch.as_bytes(), method);
        self.transmit(flow, request.clone());
        self.clients.insert(key, ClientTransaction { machine, flow, request, purpose, cseq, acks: Vec::new(), fallback: None, wake: None });
        self.arm_client(now, key);
        key
    }

    /// Whoever may be told that its message was malformed: anybody else could use us to reflect.
    fn is_known(&self, flow: Flow) -> bool {
        let ip = flow.peer.ip().to_canonical();
        ip.is_loopback() || self.config.known_peers.contains(&ip)
    }

    fn on_broken(&mut self, flow: Flow, broken: Broken) {
        let status = match &broken.why {
            Refusal::Version => 505,
            // RFC 3261 21.5.7
            Refusal::TooLarge(_) => 513,
            _ => 400,
        };
        // Never a response to a response, nor to an ACK.
        let request = broken.message.filter(|m| m.method().is_some_and(|method| *method != Method::Ack));
        if let Some(request) = request.filter(|_| self.is_known(flow)) {
            let tag = self.tag_of(self.key(&[b"broken", request.raw(Name::Via).next().unwrap_or(b"")]));
            // The phrase says what was wrong; it is one of our own texts.
            let phrase = match &broken.why {
                Refusal::Malformed(what) => Some(format!("Bad Request ({what})")),
                _ => None,
            };
            let mut w = Writer::response(&request, status, phrase.as_deref(), Some(&tag), &flow);
            w.line("Server", &self.config.agent);
            let bytes = w.finish(None);
            self.transmit(flow, bytes);
        }
        self.refused(flow, broken.why);
    }
}

#[cfg(test)]
mod tests;
