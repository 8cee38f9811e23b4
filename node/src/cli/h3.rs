//! HTTP/3 to the API (`--h3`), for links that lose packets and machines whose address changes: a connection lives on over both, and what may
//! be asked twice is asked again when it breaks all the same.
//!
//! The socket is bound to no address, so the kernel takes the one that the route has at the moment; QUIC tells connections by their ids.

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, IdleTimeout, TransportConfig};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{RootCertStore, version};
use ureq::http::{Method, Request, Response, Uri};

/// One handshake with one address: four repetitions of a lost datagram.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection from which nothing was heard for so long is given up: longer than a move from one network to another takes.
const SILENCE: Duration = Duration::from_secs(20);
/// While the node compiles, pings show both ends that the other is there, and a new address to the node.
const PING: Duration = Duration::from_secs(2);
/// From the last byte of a request to its answer.
const ANSWER: Duration = super::client::ANSWER;
/// How often a request is made that may be made again, and what lies between.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that are handed to QUIC at once.
const PIECE: usize = 64 << 10;
/// Bytes of an answer's head.
const HEAD: u64 = 64 << 10;

type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;
type Receiver = RequestStream<h3_quinn::RecvStream, Bytes>;

/// A client of one node. Its connection is opened for the first request and kept.
pub(crate) struct Http3 {
    runtime: Arc<Runtime>,
    config: ClientConfig,
    host: String,
    port: u16,
    live: Mutex<Option<Live>>,
}

/// A connection. It ends when this is dropped.
#[derive(Clone)]
struct Live {
    sender: Sender,
    endpoint: Endpoint,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: AnswerBody,
}

pub(crate) struct AnswerBody {
    runtime: Arc<Runtime>,
    stream: Receiver,
    rest: Bytes,
    _live: Live,
}

/// Why there is no answer.
#[derive(Debug)]
enum Broken {
    /// The node was not reached: it did nothing.
    Unreached(String),
    /// It may have done what was asked.
    Lost(String),
}

impl Http3 {
    /// `base`: an `https://` URL. The error says what is wrong with it.
    pub(crate) fn new(base: &str, roots: RootCertStore) -> Result<Http3, String> {
        let uri: Uri = base.parse().map_err(|error| format!("{error}"))?;
        let host = uri.host().ok_or("it names no host")?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let builder = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&version::TLS13]).expect("`ring` has it");
        let mut crypto = builder.with_root_certificates(roots).with_no_client_auth();
        crypto.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = QuicClientConfig::try_from(crypto).map_err(|error| error.to_string())?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE).expect("some seconds")))
            .keep_alive_interval(Some(PING))
            .datagram_receive_buffer_size(None)
            // It does not take a lost packet for a full link, which on a poor one is most of what is lost.
            .congestion_controller_factory(Arc::new(BbrConfig::default()));
        config.transport_config(Arc::new(transport));
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("http3").enable_all().build().map_err(|e| e.to_string())?;
        Ok(Http3 { runtime: Arc::new(runtime), config, host, port: uri.port_u16().unwrap_or(443), live: Mutex::new(None) })
    }

    /// Asks, and again where the connection broke and asking twice does no harm: what HTTP calls idempotent, and `is_known_again`, where
    /// the node knows by the body that it has it. The error is a line.
    pub(crate) fn send(&self, request: &Request<()>, body: &Bytes, is_known_again: bool) -> Result<Answer, String> {
        let repeatable = is_known_again || matches!(*request.method(), Method::GET | Method::HEAD | Method::PUT | Method::DELETE);
        let mut was_reached = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let why = match self.runtime.block_on(self.exchange(request, body)) {
                Ok((head, stream, live)) => {
                    return Ok(Answer {
                        head,
                        body: AnswerBody { runtime: self.runtime.clone(), stream, rest: Bytes::new(), _live: live },
                    });
                }
                // A node that was never there is not waited for.
                Err(Broken::Unreached(why)) if !was_reached => return Err(why),
                Err(Broken::Unreached(why)) => why,
                Err(Broken::Lost(why)) if !repeatable => return Err(format!("{why}; whether the node did it is not known")),
                Err(Broken::Lost(why)) => {
                    was_reached = true;
                    why
                }
            };
            self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
            if tries == TRIES {
                return Err(format!("{why} ({tries} times)"));
            }
            eprintln!("hookswitch: {why}; asking again");
            std::thread::sleep(PAUSE);
        }
    }

    async fn exchange(&self, request: &Request<()>, body: &Bytes) -> Result<(Response<()>, Receiver, Live), Broken> {
        let mut live = self.connected().await.map_err(Broken::Unreached)?;
        let lost = |error: h3::error::StreamError| Broken::Lost(error.to_string());
        let stream = live.sender.send_request(request.clone()).await.map_err(lost)?;
        let (mut sending, mut receiving) = stream.split();
        let mut rest = body.clone();
        let upload = async {
            while !rest.is_empty() {
                sending.send_data(rest.split_to(rest.len().min(PIECE))).await?;
            }
            sending.finish().await
        };
        let early = tokio::select! {
            // An upload that is refused is answered before it is whole.
            answer = receiving.recv_response() => Some(answer),
            // A node that wants no more of it stops the stream, and answers.
            _ = upload => None,
        };
        let head = match early {
            Some(answer) => answer,
            None => timeout(ANSWER, receiving.recv_response()).await.map_err(|_| Broken::Lost("no answer came".into()))?,
        };
        Ok((head.map_err(lost)?, receiving, live))
    }

    async fn connected(&self) -> Result<Live, String> {
        let known = self.live.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(live) = known {
            return Ok(live);
        }
        let mut why = "its name leads nowhere".to_owned();
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|error| error.to_string())?;
        for address in addresses {
            match timeout(CONNECT, self.connect(address)).await {
                Ok(Ok(live)) => {
                    *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
                    return Ok(live);
                }
                Ok(Err(error)) => why = error,
                Err(_) => why = format!("no HTTP/3 at {address}"),
            }
        }
        Err(why)
    }

    async fn connect(&self, address: SocketAddr) -> Result<Live, String> {
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let endpoint = Endpoint::client((any, 0).into()).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(self.config.clone(), address, &self.host).map_err(|error| error.to_string())?;
        let quic = connecting.await.map_err(|error| error.to_string())?;
        let mut settings = h3::client::builder();
        settings.max_field_section_size(HEAD).send_grease(false);
        let (mut driver, sender) = settings.build(h3_quinn::Connection::new(quic)).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Live { sender, endpoint })
    }
}

impl Drop for Http3 {
    /// Tells the node that this is the end, as far as that goes out at once.
    fn drop(&mut self) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Live { sender, endpoint }) = live {
            drop(sender);
            endpoint.close(0x100u32.into(), b"");
            let _ = self.runtime.block_on(timeout(Duration::from_millis(200), endpoint.wait_idle()));
        }
    }
}

impl Read for AnswerBody {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let data = self.runtime.block_on(async {
                let data = timeout(SILENCE, self.stream.recv_data()).await.map_err(|_| io::ErrorKind::TimedOut)?;
                data.map(|data| data.map(|mut data| data.copy_to_bytes(data.remaining()))).map_err(io::Error::other)
            })?;
            let Some(data) = data else { return Ok(0) };
            self.rest = data;
        }
        let read = room.len().min(self.rest.len());
        room[..read].copy_from_slice(&self.rest.split_to(read));
        Ok(read)
    }
}
