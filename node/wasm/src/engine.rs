//! The engine: one in a process. It owns the pool of instances, the table of imports and the thread that ends epochs.

use crate::bindings::HandlerFull;
use crate::host::State;
use crate::limits;
use crate::module::{LoadError, Module};
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How an engine is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Instances that the pool has room for.
    pub instances: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { instances: limits::INSTANCES }
    }
}

/// Compiles, loads and runs components. Keep one, share it by `Arc`.
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Linker<State>,
    compatibility: String,
    instances: u32,
    warning: Option<String>,
    ticker: Option<Ticker>,
    /// Hooks are bounded by instructions in place of CPU time.
    pub(crate) counts: bool,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("no WebAssembly engine: {0}")]
pub struct EngineError(String);

impl Engine {
    /// An engine with a pool of instances, of fewer where the kernel allows too few mappings. Where the machine has no room for the pool, each
    /// instance gets its memory from the system (about four times dearer). `warning` says either.
    pub fn start(options: Options) -> Result<Engine, EngineError> {
        let allowed = mappings_allowed();
        let instances = options.instances.min(allowed.map_or(u32::MAX, instances_within));
        let few = allowed.filter(|_| instances < options.instances).map(|allowed| {
            let (wanted, needed) = (options.instances, mappings_for(options.instances));
            format!(
                "vm.max_map_count is {allowed}: room for {instances} guest instances, not {wanted}; sysctl -w vm.max_map_count={needed}"
            )
        });
        let (mut engine, no_pool) = match Engine::with(config(Some(Options { instances }))) {
            Ok(engine) => (engine, None),
            Err(error) => (
                Engine::with(config(None))?,
                Some(format!("no pool for {instances} guest instances, each costs about 30 us more: {error}")),
            ),
        };
        engine.instances = instances;
        let warnings: Vec<String> = few.into_iter().chain(no_pool).collect();
        engine.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        engine.ticker = Some(Ticker::start(engine.wasmtime.clone())?);
        Ok(engine)
    }

    /// An engine that counts a guest's instructions, and bounds its hooks by them ([`limits::HOOK_INSTRUCTIONS`]) in place of CPU time: what
    /// runs on it runs the same each time, on any machine. It is for simulation: counting costs up to twice the time, and there is no pool.
    pub fn counting() -> Result<Engine, EngineError> {
        let mut config = config(None);
        config.consume_fuel(true);
        Ok(Engine { counts: true, ..Engine::with(config)? })
    }

    /// An engine that only compiles: no pool, no thread. What it compiles, an engine from `start` of the same build loads.
    pub fn compiler() -> Result<Engine, EngineError> {
        Engine::with(config(None))
    }

    fn with(config: Config) -> Result<Engine, EngineError> {
        let fail = |e: wasmtime::Error| EngineError(format!("{e:#}"));
        let wasmtime = wasmtime::Engine::new(&config).map_err(fail)?;
        let mut linker = Linker::new(&wasmtime);
        HandlerFull::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state).map_err(fail)?;
        let mut hasher = Sha256Hasher(Sha256::new());
        wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = hex(&hasher.0.finalize())[..16].to_owned();
        Ok(Engine { wasmtime, linker, compatibility, instances: limits::INSTANCES, warning: None, ticker: None, counts: false })
    }

    /// Instances that may live at a time.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Guests that run now give way, once, as they do at the end of each [`limits::TICK`].
    pub fn interrupt(&self) {
        self.wasmtime.increment_epoch();
    }

    /// What the operator should know about how this engine runs.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Differs between engines that cannot load each other's compiled code.
    pub fn compatibility(&self) -> &str {
        &self.compatibility
    }

    /// Native code for a component. Takes a second of CPU time a megabyte; call it in a process that may be killed.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        self.wasmtime.precompile_component(component).map_err(|e| LoadError::Compile(format!("{e:#}")))
    }

    /// A component, compiled and loaded at once: for tools that compile what their own user gives them.
    pub fn module(&self, component: &[u8]) -> Result<Module, LoadError> {
        let hash = content_hash(component);
        let code = self.compile(component)?;
        let digest = code_digest(&self.compatibility, &hash, &code);
        self.load(&crate::module::wrap(&self.compatibility, &hash, &code), &digest)
    }

    /// Load what `compile` made and [`code_digest`] vouches for.
    pub fn load(&self, code: &[u8], digest: &[u8; 32]) -> Result<Module, LoadError> {
        Module::load(self, code, digest)
    }
}

/// The digest that [`Engine::load`] demands: of compiled code, the component it came from and the engine it is for.
pub fn code_digest(compatibility: &str, component_hash: &str, code: &[u8]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in [b"hookswitch compiled code 1".as_slice(), compatibility.as_bytes(), component_hash.as_bytes(), code] {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

/// Lower-case hex SHA-256 of a component: its name in the cache and in the list of versions.
pub fn content_hash(component: &[u8]) -> String {
    hex(&Sha256::digest(component))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0 // Only `write` is used: the digest is taken whole.
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Compiler and pool settings. What is not named stays at wasmtime's default; guard and reservation sizes on purpose, since the pool's
/// isolation rests on them.
fn config(pool: Option<Options>) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_tail_call(true)
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_extended_const(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::WASM_STACK)
        .async_stack_size(limits::ASYNC_STACK)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(limits::TRAP_FRAMES));
    if let Some(Options { instances }) = pool {
        let per = |n: usize| instances.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            // A handler has one memory, two tables and four core instances, a QuickJS one eight; some have more, hence the shares.
            .total_core_instances(per(8))
            .total_memories(instances)
            .total_tables(per(3))
            .total_stacks(instances)
            .max_core_instances_per_component(u32::try_from(limits::CORE_INSTANCES_LARGE).unwrap_or(u32::MAX))
            .max_memories_per_component(u32::try_from(limits::MEMORIES).unwrap_or(u32::MAX))
            .max_tables_per_component(u32::try_from(limits::TABLES).unwrap_or(u32::MAX))
            .max_memories_per_module(u32::try_from(limits::MEMORIES).unwrap_or(u32::MAX))
            .max_tables_per_module(u32::try_from(limits::TABLES).unwrap_or(u32::MAX))
            .table_elements(limits::TABLE_ELEMENTS)
            .max_memory_size(limits::MEMORY_BYTES_MAX)
            .max_unused_warm_slots(limits::WARM_SLOTS.min(instances))
            .linear_memory_keep_resident(limits::KEEP_RESIDENT)
            .table_keep_resident(limits::TABLE_KEEP_RESIDENT);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// What the kernel allows a process, where it says so.
fn mappings_allowed() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

/// `vm.max_map_count` for so many instances: what is there when it is reached fails anywhere, also where nobody can be told.
fn mappings_for(instances: u32) -> u64 {
    u64::from(instances) * limits::INSTANCE_MAPPINGS + limits::NODE_MAPPINGS
}

/// Instances that so many mappings are enough for.
fn instances_within(mappings: u64) -> u32 {
    u32::try_from(mappings.saturating_sub(limits::NODE_MAPPINGS) / limits::INSTANCE_MAPPINGS).unwrap_or(u32::MAX).max(1)
}

/// Ends an epoch every millisecond, so that guests that run give way.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Result<Ticker, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("guest-epoch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(limits::TICK);
                    engine.increment_epoch();
                }
            })
            .map_err(|e| EngineError(format!("cannot start the epoch thread: {e}")))?;
        Ok(Ticker { stop, thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It never panics, and ends within a tick.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_instances_as_mappings_are_enough_for() {
        for instances in [1, 64, 6_000, limits::INSTANCES] {
            assert_eq!(instances_within(mappings_for(instances)), instances);
            assert_eq!(instances_within(mappings_for(instances) - 1), (instances - 1).max(1));
        }
        assert_eq!((instances_within(0), instances_within(u64::MAX)), (1, u32::MAX));
        // What Linux allows unless it is told otherwise.
        assert_eq!(instances_within(65_530), 7_679);
    }

    #[test]
    fn an_engine_says_how_many_instances_it_has_and_why_they_are_fewer_than_wanted() {
        let engine = Engine::start(Options { instances: 8 }).expect("an engine");
        assert_eq!((engine.instances(), engine.warning()), (8, None));
        let engine = Engine::start(Options::default()).expect("an engine");
        assert_eq!(engine.warning().is_some(), engine.instances() < limits::INSTANCES, "{:?}", engine.warning());
        if let Some(warning) = engine.warning() {
            assert!(warning.contains("vm.max_map_count") && warning.contains("sysctl"), "{warning}");
        }
    }
}
