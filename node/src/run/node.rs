//! The whole node: the core with guests, versions and the API around it, from start to signal.

use super::{Core, Handles, StartError, io_error, news, prompts_folder, raise_limits};
use crate::api::{AdminToken, Api, Count, Live, Server, Tls, Upload, apply_at_start};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::deliver::{self, Archive, DeliveryThread};
use crate::demo;
use crate::guest::{Compiler, Follower, Guests, Options, Services, Vault};
use crate::limits;
use crate::metrics::{Metrics, render_guests};
use crate::outbox::{self, CALLBACK_KEY, Fetcher, Outbox, OutboxThread, Policy, Requests, Signer};
use crate::prompt::{Maker, PhraseCache};
use crate::prompt_files::PromptFiles;
use crate::record::private_folder;
use crate::reply_keys::ReplyKeys;
use crate::speech::{self, Speech};
use crate::store::{Store, StoreError, StoreThread, wall_ms};
use crate::switch_thread::Handlers;
use crate::tenants_file;
use crate::usage::UsageThread;
use crate::versions::{GuestLoader, Versions, follow_trials};
use hookswitch_call::door::{Command, CommandResult};
use hookswitch_call::{Ask, Notification, SessionId};
use hookswitch_wasm::Engine;
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The database, below `[storage] data`.
const DATABASE: &str = "node.db";
/// Between looks at whether all threads are alive.
const WATCH: Duration = Duration::from_millis(500);

/// Runs the node until SIGTERM or SIGINT.
pub fn run(config: Config, args: &RunArgs) -> Result<(), StartError> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io_error("a runtime could not be started"))?;
    // Before anything is started: a signal that comes meanwhile must not kill us half way.
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        let catch = |kind| signal(kind).map_err(io_error("signals could not be caught"));
        (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?)
    };
    let node = Node::start(config, args)?;
    let died = runtime.block_on(async {
        loop {
            tokio::select! {
                () = told(&mut terminate) => return false,
                () = told(&mut interrupt) => return false,
                () = tokio::time::sleep(WATCH) => if node.core.is_dead() { return true },
            }
        }
    });
    if !died {
        tracing::info!("stopping: no new calls; once more to stop at once");
        // Whoever presses Ctrl-C twice does not want to wait.
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { () = told(&mut terminate) => {} () = told(&mut interrupt) => {} }
            });
            std::process::exit(1);
        });
    }
    node.stop();
    if died { Err(StartError::Other("the signalling thread died; what was recorded is stored".into())) } else { Ok(()) }
}

async fn told(signal: &mut Signal) {
    // `None` never comes while the runtime lives; if it did, waiting on would be right.
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

fn log_to_stderr() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOOKSWITCH_LOG").unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // Refused only when somebody (a test) has set up another one.
    let _ = log.try_init();
}

/// A running node.
pub struct Node {
    pub core: Core,
    pub server: Server,
    pub versions: Arc<Versions>,
    guests: Guests,
    guest_io: Runtime,
    outbox_thread: OutboxThread,
    delivery_thread: DeliveryThread,
    usage_thread: UsageThread,
    store_thread: StoreThread,
}

impl Node {
    pub fn start(config: Config, args: &RunArgs) -> Result<Node, StartError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        raise_limits();
        let data = config.storage.data.clone();
        private_folder(&data).map_err(io_error(format!("storage.data: {}", data.display())))?;
        let (store, store_thread) = Store::open(&data.join(DATABASE))?;
        if let Some(file) = &config.tenants.file {
            describe_tenants(&config, file, &store).map_err(|why| StartError::Other(format!("tenants.file: {}: {why}", file.display())))?;
        }
        let mut prepared = Core::prepare(config.clone(), store.clone())?;

        let engine = Engine::start(hookswitch_wasm::Options::default()).map_err(|e| StartError::Other(e.to_string()))?;
        if let Some(warning) = engine.warning() {
            tracing::warn!("{warning}");
        }
        let engine = Arc::new(engine);
        let reply_keys = Arc::new(ReplyKeys::load(&data).map_err(io_error("the keys of replyIds"))?);
        let (threads, instances) = (config.guests.threads, usize::try_from(engine.instances()).unwrap_or(usize::MAX));
        let options = Options { threads, instances, reply_keys: reply_keys.clone(), ..Options::default() };
        let origins = Arc::new(OutboxOrigins::default());
        origins.read(&store)?;
        let listed = origins.clone();
        // What the list may say of http is checked where it is set: this machine alone.
        let policy = Policy { origins: Arc::new(move |domain| listed.of(domain)), http: true, loopback: args.demo.then_some(demo::DOMAIN) };
        let fetcher = Fetcher::new(policy.clone(), None);
        let vault = Vault::open(store.clone(), &data).map_err(io_error("the key of tenants' secrets"))?;
        let signer = signer(vault.clone());
        let options_of_outbox = outbox::Options { signer: Some(signer.clone()), ..outbox::Options::new(policy) };
        let (outbox, outbox_thread) = Outbox::start(store.clone(), options_of_outbox, prepared.metrics())?;
        let options_of_archive = deliver::Options { public_url: config.api.public_url.clone(), ..deliver::Options::default() };
        let archive = Archive::open(store.clone(), &data, prepared.keys(), prepared.metrics(), options_of_archive)
            .map_err(io_error("the keys of the archive"))?;
        let engine_of_speech = speech::local::find();
        if engine_of_speech.is_none() {
            tracing::warn!("espeak-ng is not installed: phrases that are to be spoken by this machine fail with phraseError");
        }
        let tenants = Arc::new(speech::Stored { store: store.clone(), vault: vault.clone() });
        let speech = Speech::new(speech::local::Engine::new(engine_of_speech), tenants, fetcher.clone(), speech::Places::default());
        let cache = Arc::new(PhraseCache::below(&data));
        prepared.maker = Some(Arc::new(Maker::new(fetcher.clone(), speech, cache, prompts_folder(&config))));
        let guest_io = guest_io(store.clone()).map_err(io_error("a thread could not be started"))?;
        let services = Services {
            commands: prepared.commands(),
            outbox: Some(outbox.clone()),
            links: Some(archive.links.clone()),
            store: Some(store.clone()),
            prompts: Some(PromptFiles::new(prompts_folder(&config), store.clone())),
            vault: Some(vault.clone()),
            requests: Some(Requests::new(fetcher, guest_io.handle().clone()).signed(signer)),
        };
        let guests = Guests::start(engine.clone(), options, prepared.inbox(), services);
        configure_guests(&guests, &store)?;
        outbox.tell(guests.news());
        guests.set_settings(store.all_settings()?);
        let (judge, trials) = std::sync::mpsc::channel();
        guests.judge(judge);
        let compiler = Compiler::new(&data, engine).cpu(Duration::from_secs(config.guests.compile_cpu_s));
        let loader = GuestLoader::new(compiler, guests.clone());
        let other = |e: &dyn std::error::Error| StartError::Other(e.to_string());
        let versions = Arc::new(Versions::open(store.clone(), Arc::new(loader), &data).map_err(|e| other(&e))?);
        follow_trials(&versions, trials).map_err(io_error("a thread could not be started"))?;
        for loaded in versions.load_deployed().map_err(|e| other(&e))? {
            let (domain, number) = (&loaded.version.domain, loaded.version.number);
            match loaded.failure {
                None => tracing::info!(domain, number, "handler loaded"),
                Some(why) => tracing::error!(domain, number, why, "handler not loaded: its tenant's calls get the fallback"),
            }
        }
        if args.demo {
            demo::prepare(&store, &versions, &prompts_folder(&config), args.demo_guest.as_deref()).map_err(|e| other(&e))?;
        }
        let (metrics, inbox) = (prepared.metrics(), prepared.inbox());
        let usage_thread = UsageThread::start(store.clone(), guests.clone(), inbox.clone(), prompts_folder(&config))
            .map_err(io_error("a thread could not be started"))?;
        let left = std::mem::take(&mut prepared.repaired);
        let core = prepared.start(guests.clone())?;
        for repaired in left {
            news::tell_repaired(&inbox, &repaired.row, store.listeners(&repaired.row.id)?);
            repaired.announced();
        }

        let token = AdminToken::load(&data, args.token.as_deref()).map_err(io_error("the operator's token"))?;
        let greeting = args.demo.then(|| demo::greeting(&config, args.config.as_deref(), &token));
        let api_node = Arc::new(ApiNode { handles: core.handles.clone(), guests: guests.clone(), metrics, origins, vault });
        let delivery_thread =
            archive.start(Arc::new(move |moved| news::tell_moved(&inbox, moved))).map_err(io_error("a thread could not be started"))?;
        let api = Api::new(store, versions.clone(), api_node, token, prompts_folder(&config), reply_keys, archive);
        let tls = config.api.tls.as_ref().map(Tls::load).transpose().map_err(StartError::Other)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = api.start(config.api.listen, tls).map_err(io_error(format!("api.listen: {}", config.api.listen)))?;
        for address in &core.handles.sip {
            tracing::info!("SIP on {address}");
        }
        tracing::info!("API on {scheme}://{}", server.address());
        if let Some(greeting) = greeting {
            println!("{greeting}");
        }
        Ok(Node { core, server, versions, guests, guest_io, outbox_thread, delivery_thread, usage_thread, store_thread })
    }

    pub fn stop(self) {
        self.server.stop();
        self.core.stop();
        // It holds the guests' door, too.
        self.usage_thread.stop();
        // Notifications of the last recordings are in the guests' mailboxes: their threads end when those are empty.
        drop(self.guests);
        drop(self.versions);
        // A name's look-up may hold a thread for long; nothing waits for its end.
        self.guest_io.shutdown_background();
        self.outbox_thread.stop();
        self.delivery_thread.stop();
        self.store_thread.close();
    }
}

/// Callbacks are signed with the tenant's secret of that name (IC-017).
fn signer(vault: Vault) -> Signer {
    Signer::new(Arc::new(move |domain| {
        let vault = vault.clone();
        Box::pin(async move {
            let key = vault.get(&domain, CALLBACK_KEY).await.inspect_err(|error| tracing::warn!(%domain, %error, "callback key"));
            key.ok().flatten().map(|secret| secret.expose().to_owned())
        })
    }))
}

/// The thread on which handlers' requests to the outside run, and on which their expired values are looked for.
fn guest_io(store: Store) -> std::io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("guest-io").enable_all().build()?;
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(limits::SWEEP_EVERY).await;
            // Until fewer than a whole portion were due: calls may use the store in between.
            loop {
                match store.sweep_values(wall_ms(), limits::STORE_SWEEP).await {
                    Ok(removed) if removed >= limits::STORE_SWEEP as usize => {}
                    Ok(_) => break,
                    Err(StoreError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "expired values of handlers were not removed; tried again later");
                        break;
                    }
                }
            }
        }
    });
    Ok(runtime)
}

/// Sets the tenants that the operator's file describes; the others stay as they are.
fn describe_tenants(config: &Config, file: &Path, store: &Store) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let knows_trunk = |name: &str| config.sip.trunks.iter().any(|trunk| trunk.name == name);
    let changed = apply_at_start(store, tenants_file::read(&text)?, knows_trunk)?;
    tracing::info!(file = %file.display(), changed, "tenants are as their file describes them");
    Ok(())
}

fn configure_guests(guests: &Guests, store: &Store) -> Result<(), StoreError> {
    guests.configure(store.tenants()?.into_iter().map(|tenant| (tenant.domain, tenant.quotas)).collect());
    Ok(())
}

impl Handlers for Guests {
    fn ask(&mut self, ask: Box<Ask>) {
        Guests::ask(self, ask);
    }
    fn notify(&mut self, session: SessionId, domain: Arc<str>, notification: Box<Notification>) {
        Guests::notify(self, session, domain, *notification);
    }
    fn end(&mut self, session: SessionId) {
        Guests::end(self, session);
    }
}

/// Where each tenant's handlers may post to, as the store says; asked for each post, so it is kept at hand.
#[derive(Default)]
struct OutboxOrigins(RwLock<BTreeMap<String, Vec<String>>>);

impl OutboxOrigins {
    fn read(&self, store: &Store) -> Result<(), StoreError> {
        let all = store.tenants()?.into_iter().map(|tenant| (tenant.domain, tenant.outbox_origins)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }

    fn of(&self, domain: &str) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(domain).cloned().unwrap_or_default()
    }
}

/// What the API sees: the core, and the guests' counters beside its own.
struct ApiNode {
    handles: Arc<Handles>,
    guests: Guests,
    metrics: Arc<Metrics>,
    origins: Arc<OutboxOrigins>,
    vault: Vault,
}

impl crate::api::Node for ApiNode {
    fn configure(&self) {
        self.handles.configure();
        if let Err(error) = self.origins.read(&self.handles.store).and_then(|()| configure_guests(&self.guests, &self.handles.store)) {
            tracing::error!(%error, "the tenants' origins and quotas could not be read, the old ones stay");
        }
        match self.handles.store.all_settings() {
            Ok(settings) => self.guests.set_settings(settings),
            Err(error) => tracing::error!(%error, "the tenants' settings could not be read, the old ones stay"),
        }
    }
    fn metrics(&self) -> String {
        use std::fmt::Write;
        let mut out = self.metrics.render();
        let name = "hookswitch_guest_instances";
        let _ = write!(out, "# HELP {name} Guest instances alive.\n# TYPE {name} gauge\n{name} {}\n", self.guests.live());
        let name = "hookswitch_store_lost_total";
        let lost = self.handles.store.lost();
        let _ = write!(out, "# HELP {name} Call records dropped since the disk was too slow.\n# TYPE {name} counter\n{name} {lost}\n");
        out.push_str(&render_guests(&self.guests.stats()));
        out
    }
    fn decode_prompt(&self, bytes: &[u8]) -> Result<Duration, String> {
        self.handles.decode_prompt(bytes)
    }
    fn knows_trunk(&self, name: &str) -> bool {
        self.handles.knows_trunk(name)
    }
    fn refused(&self, what: Upload, domain: &str, why: &str) {
        self.handles.refused(what, domain, why);
        if what == Upload::Component {
            self.guests.complain(domain, &format!("component refused: {}", one_line(why)));
        }
    }
    fn order(&self, domain: &str, command: Command) -> Pin<Box<dyn Future<Output = CommandResult> + Send>> {
        self.handles.order(domain, command)
    }
    fn sessions(&self, domain: Option<&str>, limit: usize) -> Vec<Live> {
        self.handles.sessions(domain, limit)
    }
    fn domain_of(&self, session_id: &str) -> Option<String> {
        self.handles.domain_of(session_id)
    }
    fn count(&self, what: Count) {
        self.handles.count(what);
    }
    fn follow(&self, domain: &str) -> Option<Follower> {
        self.guests.follow(domain)
    }
    fn vault(&self) -> Option<Vault> {
        Some(self.vault.clone())
    }
    fn explain(&self, domain: Option<&str>, session_id: &str) -> Option<serde_json::Value> {
        self.guests.explain(domain, session_id)
    }
    fn keep_digits(&self, domain: &str, time: Duration) {
        self.guests.keep_digits(domain, time);
    }
}

/// What a tenant has sent may have line breaks in it.
fn one_line(text: &str) -> String {
    text.chars().take(limits::REFUSAL_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
