//! What a running node is made of, in which order it is started, and how it ends.
//!
//! ```text
//!                    +-----------+  Ask, Notify   +--------+
//!   SIP (UDP) <----> | signalling| -------------> | guests |   one task a session, threads of their own
//!   connections <--> |           |                |        |   TCP, DNS: a small runtime (sip-io)
//!                    |  (Switch) | <------------- |        |
//!   API -- Commands->|           |    Verdict     +--------+
//!   (tokio)          +-----------+
//!                      |  ^    |  \------------> prompts (worker), store (SQLite), log, metrics
//!             MediaCmd |  |    | Begin
//!                      v  | MediaEvent
//!                    +-------+   blocks   +---------+  Finish  +----------+
//!   RTP (UDP) <----> | media | ---------> | writers | -------> | finisher | -> blobs, row, Recorded -> signalling
//!                    +-------+            +---------+          +----------+
//! ```
//!
//! Started from right to left, so that whoever is started finds those it talks to; stopped from left to right, so that what is under way
//! arrives. Nothing takes calls before everything is there: tenants and their handlers come before the SIP sockets are read.
//!
//! Start with [`run`] (the whole node until a signal) and [`Core`] (all of it but guests and API: what tests start in process).

mod news;
mod node;
#[cfg(test)]
mod tests;

pub use node::{Node, run};

use crate::api::{Count, Live, Upload};
use crate::config::{Config, ListenUri, Scheme};
use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::resolve::Resolver;
use crate::net::tcp::{self, Listening, Tcp};
use crate::net::{self, Clock, Wake};
use crate::prompt::{self, Maker, PromptFolders};
use crate::record::keys::Keys;
use crate::record::repair::{Repaired, repair, sweep};
use crate::record::{self, Folders, Reader, RecorderThreads};
use crate::store::{Store, StoreError};
use crate::switch_thread::{Commands, Ending, Handlers, LogLimit, SipSocket, SwitchThread};
use crate::{api, media};
use hookswitch_call::door::{Command, CommandResult};
use hookswitch_call::{Configuration, Input, Switch, SwitchConfig};
use hookswitch_proto::sip::{EndpointConfig, Listen, Transport};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};

/// Why a node could not start. One line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Other(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |error| StartError::Io { what, error }
}

/// What others in the process may do with a running node.
pub struct Handles {
    pub inbox: SwitchInbox,
    pub commands: Commands,
    pub store: Store,
    pub metrics: Arc<Metrics>,
    /// Where SIP really listens.
    pub sip: Vec<ListenUri>,
    node_address: String,
    trunks: Vec<hookswitch_call::door::Trunk>,
    emergency: Vec<String>,
    drain: AtomicBool,
    clock: Clock,
    /// A tenant that repeats what is refused fills no disk.
    refusals: Mutex<LogLimit>,
}

impl Handles {
    /// Tells the switch what the store says of tenants and numbers.
    pub fn try_configure(&self) -> Result<(), StoreError> {
        let configuration = Configuration {
            trunks: self.trunks.clone(),
            node_address: self.node_address.clone(),
            emergency: self.emergency.clone(),
            drain: self.drain.load(Ordering::SeqCst),
            ..api::with_fallbacks(self.store.configuration()?, &self.store)?
        };
        self.inbox.send(Input::Configure(Arc::new(configuration)));
        Ok(())
    }

    /// No new calls from now on.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::SeqCst);
        api::Node::configure(self);
    }
}

impl api::Node for Handles {
    fn configure(&self) {
        if let Err(error) = self.try_configure() {
            tracing::error!(%error, "tenants could not be read, the old configuration stays");
        }
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn decode_prompt(&self, bytes: &[u8]) -> Result<Duration, String> {
        let clip = prompt::decode(bytes)?;
        Ok(Duration::from_micros(clip.pcmu.len() as u64 * 125))
    }

    fn order(&self, domain: &str, command: Command) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        let (commands, domain) = (self.commands.clone(), domain.to_owned());
        Box::pin(async move { commands.order(&domain, command).await })
    }

    fn sessions(&self, domain: Option<&str>, limit: usize) -> Vec<Live> {
        self.commands.sessions(domain, limit)
    }

    fn domain_of(&self, session_id: &str) -> Option<String> {
        self.commands.domain_of(session_id)
    }

    /// The core alone has no handlers.
    fn explain(&self, _domain: Option<&str>, _session_id: &str) -> Option<serde_json::Value> {
        None
    }

    fn keep_digits(&self, _domain: &str, _time: Duration) {}

    fn count(&self, what: Count) {
        match what {
            Count::UnknownProperties(properties) => add(&self.metrics.api_unknown_properties, properties),
            Count::RateLimited => add(&self.metrics.api_rate_limited, 1),
        }
    }

    fn knows_trunk(&self, name: &str) -> bool {
        self.trunks.iter().any(|trunk| trunk.name == name)
    }

    fn refused(&self, what: Upload, domain: &str, why: &str) {
        let (counter, what) = match what {
            Upload::Component => (&self.metrics.uploads_refused, "component"),
            Upload::Prompt => (&self.metrics.prompts_refused, "prompt"),
        };
        add(counter, 1);
        if self.refusals.lock().unwrap_or_else(PoisonError::into_inner).another(self.clock.now()) {
            // Quoted as for a program: a reason may hold what a tenant has sent, line breaks among it.
            let why: String = why.chars().take(limits::REFUSAL_TEXT).collect();
            tracing::warn!(domain, why = ?why, "{what} refused");
        }
    }
}

/// Folders of a node below `[storage] data`.
pub fn prompts_folder(config: &Config) -> PathBuf {
    config.storage.data.join("prompts")
}

/// Signalling, media, recording and prompts: a node without guests and API.
pub struct Core {
    pub handles: Arc<Handles>,
    ending: Arc<Ending>,
    wake: Arc<Wake>,
    signalling: JoinHandle<()>,
    /// TCP connections, look-ups of names, and prompts that are fetched.
    io: Runtime,
    connections: tokio::task::JoinHandle<()>,
    media: media::MediaThreads,
    recorder: RecorderThreads,
    prompts: JoinHandle<()>,
}

/// A core that has everything but somebody who answers its questions.
pub struct Prepared {
    config: Config,
    store: Store,
    inbox: SwitchInbox,
    commands: Commands,
    inputs: crate::inbox::Inputs,
    wake: Arc<Wake>,
    metrics: Arc<Metrics>,
    clock: Clock,
    folders: Folders,
    sockets: Vec<SipSocket>,
    listening: Vec<Listening>,
    /// Recordings that a crash had left behind; the caller announces them, and what he does not is here again at the next start.
    pub repaired: Vec<Repaired>,
    /// Fetches prompts that lie elsewhere, and has texts spoken. None: nobody does.
    pub maker: Option<Arc<Maker>>,
}

impl Core {
    /// Binds sockets, makes folders and repairs recordings. Nothing is answered yet.
    pub fn prepare(config: Config, store: Store) -> Result<Prepared, StartError> {
        let metrics = Arc::new(Metrics::default());
        let wake = Arc::new(Wake::new().map_err(io_error("eventfd"))?);
        let (inbox, inputs) = SwitchInbox::waking(wake.clone());
        let (mut sockets, mut listening) = (Vec::new(), Vec::new());
        for listen in &config.sip.listen {
            let error = io_error(format!("sip.listen: {listen}"));
            match listen.scheme {
                Scheme::Udp => sockets.push(SipSocket::bind(listen.address).map_err(error)?),
                Scheme::Tcp => listening.push(tcp::bind(listen.address).map_err(error)?),
            }
        }
        let data = &config.storage.data;
        record::private_folder(data).map_err(io_error(format!("storage.data: {}", data.display())))?;
        let mut folders = Folders::create(data, &config.storage.blobs).map_err(io_error("the folders and keys of recordings"))?;
        folders.encrypt = config.record.encrypt;
        record::private_folder(&prompts_folder(&config)).map_err(io_error("the folder of prompts"))?;
        match sweep(&folders, SystemTime::now()) {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "failed recordings of long ago removed from the spool"),
            // Room on the disk is not worth the calls of a node that does not start.
            Err(error) => tracing::warn!(%error, "failed recordings of long ago could not be removed from the spool"),
        }
        let repaired = repair(&folders, &store, &metrics).map_err(io_error("the spool of recordings"))?;
        let commands = Commands::new(inbox.clone());
        let clock = Clock::new();
        let maker = None;
        Ok(Prepared { config, store, inbox, commands, inputs, wake, metrics, clock, folders, sockets, listening, repaired, maker })
    }
}

impl Prepared {
    pub fn inbox(&self) -> SwitchInbox {
        self.inbox.clone()
    }

    /// The way in for guests' orders.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// What the recorder signs and encrypts with.
    pub fn keys(&self) -> Arc<Keys> {
        self.folders.keys.clone()
    }

    /// Starts the threads, with the tenants that the store has now.
    pub fn start(self, handlers: impl Handlers + 'static) -> Result<Core, StartError> {
        let Prepared { config, store, inbox, commands, inputs, wake, metrics, clock, folders, sockets, listening, maker, .. } = self;
        let seed = net::seed().map_err(io_error("the kernel's random numbers"))?;
        let thread = || io_error("a thread could not be started");
        let (recorder, blocks, recorder_threads) = record::start(
            config.record.threads,
            config.media.threads,
            folders.clone(),
            store.clone(),
            inbox.clone(),
            metrics.clone(),
            clock,
        )
        .map_err(thread())?;
        // Only a place to begin in the range of ports: it must not be the start of the switch's own stream.
        let start = u64::from_le_bytes(net::seed().map_err(io_error("the kernel's random numbers"))?[..8].try_into().unwrap_or_default());
        let (media, media_threads) = media::start(&config.media, &config.rtp, blocks, &wake, &metrics, clock, start).map_err(thread())?;
        let recordings = Some(Reader::new(folders.keys.clone(), store.clone()));
        let prompt_folders = PromptFolders { prompts: prompts_folder(&config), blobs: folders.blobs, recordings };
        let io = Builder::new_multi_thread().worker_threads(1).thread_name("sip-io").enable_all().build().map_err(thread())?;
        let fetch = maker.map(|maker| (maker, io.handle().clone()));
        let (prompts, prompt_thread) = prompt::start(prompt_folders, fetch, wake.clone(), metrics.clone()).map_err(thread())?;

        let udp = sockets.iter().map(|s| ListenUri { scheme: Scheme::Udp, address: s.local });
        let sip: Vec<ListenUri> = udp.chain(listening.iter().map(|l| ListenUri { scheme: Scheme::Tcp, address: l.local })).collect();
        let (tcp, connections) =
            Tcp::start(io.handle(), listening, inbox.clone(), metrics.clone(), clock).map_err(io_error("sip.listen"))?;
        let resolver = Resolver::new(io.handle().clone(), inbox.clone(), metrics.clone());
        let endpoint = EndpointConfig {
            listen: sip
                .iter()
                .map(|on| Listen {
                    transport: match on.scheme {
                        Scheme::Udp => Transport::Udp,
                        Scheme::Tcp => Transport::Tcp,
                    },
                    bound: on.address,
                    advertise: config.sip.advertise.clone(),
                })
                .collect(),
            agent: concat!("hookswitch/", env!("CARGO_PKG_VERSION")).into(),
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            session_expires: None,
            min_se: Duration::from_secs(90),
            known_peers: config
                .sip
                .known_peers
                .iter()
                .copied()
                .chain(config.sip.trunks.iter().flat_map(|t| t.addresses.iter().copied()))
                .collect(),
        };
        let mut switch = SwitchConfig::new(endpoint, seed);
        switch.media_advertise = config.rtp.advertise;
        switch.site = config.sip.site.clone();
        switch.unwritable = record::format::unwritable();
        for (container, why) in &switch.unwritable.0 {
            tracing::warn!("recordings as {} are refused: {why}", container.name());
        }
        let first = sip.first().map_or_else(String::new, |on| on.address.to_string());
        let handles = Arc::new(Handles {
            inbox,
            commands,
            store: store.clone(),
            metrics: metrics.clone(),
            node_address: config.sip.advertise.clone().unwrap_or(first),
            sip,
            trunks: config.sip.trunks.clone(),
            emergency: config.sip.emergency.clone(),
            drain: AtomicBool::new(false),
            clock,
            refusals: Mutex::default(),
        });
        // Before the first datagram is read: nobody shall be told that he called a wrong number because we only just started.
        handles.try_configure()?;
        let ending = Arc::new(Ending::default());
        let signalling = SwitchThread {
            switch: Switch::new(switch),
            sockets,
            tcp,
            resolver,
            inbox: inputs,
            wake: wake.clone(),
            media,
            prompts,
            recorder,
            handlers,
            store,
            commands: handles.commands.clone(),
            metrics,
            clock,
            ending: ending.clone(),
        };
        let signalling = std::thread::Builder::new().name("signalling".into()).spawn(move || signalling.run()).map_err(thread())?;
        Ok(Core {
            handles,
            ending,
            wake,
            signalling,
            io,
            connections,
            media: media_threads,
            recorder: recorder_threads,
            prompts: prompt_thread,
        })
    }
}

impl Core {
    /// Whether the signalling thread ended by itself, which it never should.
    pub fn is_dead(&self) -> bool {
        self.signalling.is_finished()
    }

    /// Takes no new calls, lets those under way end for a moment, releases the rest, and closes what they recorded.
    pub fn stop(self) {
        self.handles.drain();
        self.wait_for_calls(limits::DRAIN);
        self.ending.release();
        self.wake.wake();
        self.wait_for_calls(limits::CLOSE);
        let sessions = self.handles.metrics.sessions.get();
        if sessions > 0 {
            tracing::warn!(sessions, "calls did not end in time, their legs are closed");
        }
        self.media.stop();
        self.recorder.stop();
        // Last, so that handlers still learn of their recordings.
        self.ending.end();
        self.wake.wake();
        if self.signalling.join().is_err() {
            tracing::error!("the signalling thread panicked");
        }
        // The last answers are queued: the signalling thread has let go of its end, and connections close when all is written.
        let written = self.io.block_on(async { tokio::time::timeout(limits::TCP_STOP, self.connections).await });
        if written.is_err() {
            tracing::warn!("some SIP peers did not read the last answers");
        }
        self.io.shutdown_timeout(limits::TCP_STOP);
        if self.prompts.join().is_err() {
            tracing::error!("the prompt worker panicked");
        }
    }

    fn wait_for_calls(&self, patience: Duration) {
        let until = Instant::now() + patience;
        // The gauge lags behind by a tenth of a second, and so does a call that was admitted before the drain.
        std::thread::sleep(Duration::from_millis(150).min(patience));
        while self.handles.metrics.sessions.get() > 0 && Instant::now() < until && !self.is_dead() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Raises the limit of open files and says so when it stays low: a leg takes two sockets, a recording a file.
pub fn raise_limits() {
    net::share_memory();
    match net::raise_open_files(limits::OPEN_FILES) {
        Ok(now) if now < limits::OPEN_FILES => {
            tracing::warn!(now, wanted = limits::OPEN_FILES, "few open files are allowed: about {} calls fit (ulimit -n)", now / 3);
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files could not be read"),
    }
}
