//! A guest that lives: one store, one session. A hook takes the instance and gives it back; after a trap, a deadline or a dropped call
//! there is nothing to give back, so a broken instance cannot be used again.

use crate::host::{Kill, Setup, State, Turns, one_line};
use crate::module::{Hooks, Module};
use crate::{cpu, limits, stack, wit};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::ready;
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, TypedFunc};
use wasmtime::{Store, Trap, UpdateDeadline};

/// A living guest.
pub struct Instance {
    store: Store<State>,
    /// Its engine counts instructions.
    counts: bool,
    hooks: Hooks<Func>,
}

/// What hooks take and give.
type NewCall<'a> = ((&'a wit::NewCallRequest,), (Result<wit::Routing, wit::Failure>,));
type GetIvrCommand<'a> = ((&'a wit::IvrRequest,), (Result<wit::IvrCommand, wit::Failure>,));
type CallEvent<'a> = ((&'a wit::CallEventRequest,), (Result<wit::Routing, wit::Failure>,));
type Notify<'a> = ((&'a wit::Notification,), ());
type GetCallIdentifier<'a> = ((&'a wit::CallIdentifierRequest,), (Result<wit::CallIdentifierAnswer, wit::Failure>,));
type NewRemoteCall<'a> = ((&'a wit::RemoteCallRequest,), (Result<wit::RemoteCallAnswer, wit::Failure>,));

/// Why a guest did not answer. Its instance is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It trapped; the text holds the trap and a backtrace.
    #[error("{message}")]
    Trap { message: String },
    /// Not done in time.
    #[error("no answer by the deadline")]
    Deadline,
    /// Its CPU time was used up.
    #[error("CPU time is used up")]
    Cpu,
    /// It ended because this limit was refused to it.
    #[error("limit reached: {name}")]
    Limit { name: &'static str },
    /// There was no room for an instance.
    #[error("no instance: {why}")]
    NoInstance { why: String },
}

/// What a hook gives: the living instance and the guest's answer, or why it has none.
pub type Answer<T> = Result<(Instance, Result<T, NoAnswer>), Failure>;

/// Why an instance that lives on did not answer.
#[derive(Clone, Debug)]
pub enum NoAnswer {
    /// Its own word.
    Failed(wit::Failure),
    /// It was not asked: its turn did not come by the deadline.
    NoTurn,
}

impl Instance {
    /// A fresh instance. Runs the guest's start code, under the same limits as a hook.
    pub async fn new(module: &Module, setup: Setup, until: Instant) -> Result<Instance, Failure> {
        let mut store = Store::new(&module.engine, State::new(setup));
        store.limiter(|state| state);
        stack::watch(&mut store);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            state.cpu_used += cpu::spent();
            if state.cpu_used >= state.cpu_limit {
                return Err(Kill::Cpu.into());
            }
            // Most hooks take less than a tick, and yet one may end while they run.
            let gives_way = state.turns.as_ref().is_none_or(|turns| turns.gives_way(cpu::turn()));
            Ok(if gives_way { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
        });
        arm(&mut store, until, module.counts);
        let turns = store.data().turns.clone();
        let (instance, _) = in_time(until, turns, module.pre.instantiate_async(&mut store)).await;
        let instance = match instance {
            Done::With(Ok(instance)) => instance,
            Done::With(Err(e)) => return Err(no_instance(&store, &e)),
            Done::Late => return Err(Failure::Deadline),
            Done::NoTurn => return Err(Failure::NoInstance { why: NO_TURN.to_owned() }),
        };
        let hooks = hooks(&mut store, &instance, module).map_err(|e| no_instance(&store, &e))?;
        Ok(Instance { store, counts: module.counts, hooks })
    }

    pub async fn new_call(self, request: &wit::NewCallRequest, until: Instant) -> Answer<wit::Routing> {
        let hook = self.hooks.new_call;
        self.answer::<NewCall<'_>, _, _>(hook, (request,), until).await
    }

    pub async fn get_ivr_command(self, request: &wit::IvrRequest, until: Instant) -> Answer<wit::IvrCommand> {
        let hook = self.hooks.get_ivr_command;
        self.answer::<GetIvrCommand<'_>, _, _>(hook, (request,), until).await
    }

    pub async fn call_event(self, request: &wit::CallEventRequest, until: Instant) -> Answer<wit::Routing> {
        let hook = self.hooks.call_event;
        self.answer::<CallEvent<'_>, _, _>(hook, (request,), until).await
    }

    /// A guest that does not export that interface has no answer.
    pub async fn get_call_identifier(self, request: &wit::CallIdentifierRequest, until: Instant) -> Answer<wit::CallIdentifierAnswer> {
        let Some(hook) = self.hooks.get_call_identifier else {
            let message = "the handler does not export call-identifier".into();
            return Ok((self, Err(NoAnswer::Failed(wit::Failure { message }))));
        };
        self.answer::<GetCallIdentifier<'_>, _, _>(hook, (request,), until).await
    }

    /// A call for a device. A guest that decides nothing about those hears of it as news.
    pub async fn new_remote_call(self, request: &wit::RemoteCallRequest, until: Instant) -> Answer<wit::RemoteCallAnswer> {
        let Some(hook) = self.hooks.new_remote_call else {
            let (instance, told) = self.notify(&wit::Notification::NewRemoteCall(request.clone()), until).await?;
            return Ok((instance, told.map(|()| wit::RemoteCallAnswer { session_reference: None, extra: vec![] })));
        };
        self.answer::<NewRemoteCall<'_>, _, _>(hook, (request,), until).await
    }

    /// Tell it news; a guest that takes none is left alone.
    pub async fn notify(self, news: &wit::Notification, until: Instant) -> Answer<()> {
        let Some(hook) = self.hooks.notify else { return Ok((self, Ok(()))) };
        self.call::<Notify<'_>, _, _>(hook, (news,), until).await
    }

    /// Runs one of its hooks that answer.
    async fn answer<H, P, T>(self, hook: Func, parameters: P, until: Instant) -> Answer<T>
    where
        H: Typed<Parameters = P, Results = (Result<T, wit::Failure>,)>,
        P: ComponentNamedList + Lower + Send + Sync,
        T: Send + Sync + 'static,
        (Result<T, wit::Failure>,): ComponentNamedList + Lift,
    {
        let (instance, answer) = self.call::<H, P, _>(hook, parameters, until).await?;
        Ok((instance, answer.and_then(|(answer,)| answer.map_err(NoAnswer::Failed))))
    }

    /// Runs one of its hooks.
    async fn call<H, P, R>(mut self, hook: Func, parameters: P, until: Instant) -> Answer<R>
    where
        H: Typed<Parameters = P, Results = R>,
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        arm(&mut self.store, until, self.counts);
        let turns = self.store.data().turns.clone();
        // SAFETY: `hooks` has held the hook's type, for this component, against the same `H`.
        let hook = unsafe { TypedFunc::<P, R>::new_unchecked(hook) };
        let answer = in_time(until, turns, hook.call_async(&mut self.store, parameters)).await;
        self.finish(answer)
    }

    /// Gives back the memory that only a running guest needs. The next hook takes it again.
    pub fn rest(&mut self) {
        stack::give_back(&mut self.store);
    }

    /// Bytes of linear memory it has.
    pub fn memory(&self) -> usize {
        self.store.data().memory()
    }

    fn finish<T>(self, (answer, ran): (Done<wasmtime::Result<T>>, Duration)) -> Answer<T> {
        // Asked of an engine that counts none it makes an error, with the stack it was asked from.
        let left = self.counts.then(|| self.store.get_fuel().ok()).flatten();
        self.store.data().tell_cost(ran, left.map(|left| limits::HOOK_INSTRUCTIONS.saturating_sub(left)));
        match answer {
            Done::With(Ok(value)) => Ok((self, Ok(value))),
            Done::With(Err(e)) => Err(failure(&self.store, &e)),
            Done::Late => Err(Failure::Deadline),
            // Nothing of it ran: it can be asked again.
            Done::NoTurn => Ok((self, Err(NoAnswer::NoTurn))),
        }
    }
}

/// What a hook takes and gives, as one type.
trait Typed {
    type Parameters;
    type Results;
}

impl<P, R> Typed for (P, R) {
    type Parameters = P;
    type Results = R;
}

/// The instance's hooks. Whether they have our types is asked of a component's first instance: asked of each, it is the largest single part of
/// what a fresh one costs.
fn hooks(store: &mut Store<State>, instance: &wasmtime::component::Instance, module: &Module) -> wasmtime::Result<Hooks<Func>> {
    let hooks = module
        .hooks
        .try_map(|index| instance.get_func(&mut *store, index).ok_or_else(|| wasmtime::Error::msg("an export is no function")))?;
    if !module.checked.load(Ordering::Relaxed) {
        is::<NewCall<'static>, _, _>(store, hooks.new_call)?;
        is::<GetIvrCommand<'static>, _, _>(store, hooks.get_ivr_command)?;
        is::<CallEvent<'static>, _, _>(store, hooks.call_event)?;
        hooks.notify.map(|hook| is::<Notify<'static>, _, _>(store, hook)).transpose()?;
        hooks.get_call_identifier.map(|hook| is::<GetCallIdentifier<'static>, _, _>(store, hook)).transpose()?;
        hooks.new_remote_call.map(|hook| is::<NewRemoteCall<'static>, _, _>(store, hook)).transpose()?;
        module.checked.store(true, Ordering::Relaxed);
    }
    Ok(hooks)
}

/// Whether a hook is of type `H`.
fn is<H, P, R>(store: &mut Store<State>, hook: Func) -> wasmtime::Result<()>
where
    H: Typed<Parameters = P, Results = R>,
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    hook.typed::<P, R>(store).map(drop)
}

/// A new budget for the next piece of guest code.
fn arm(store: &mut Store<State>, until: Instant, counts: bool) {
    let state = store.data_mut();
    state.cpu_used = Duration::ZERO;
    state.refused = None;
    state.stack = None;
    state.until = Some(until);
    state.fetches_left = limits::FETCHES;
    // Where instructions are counted nobody ends epochs.
    store.set_epoch_deadline(1);
    if counts {
        store.set_fuel(limits::HOOK_INSTRUCTIONS).expect("its engine counts");
    }
    store.set_hostcall_fuel(limits::LIFTED_BYTES);
}

/// What became of guest code.
enum Done<T> {
    With(T),
    /// It began and was not done by the deadline: the store it runs in must be dropped.
    Late,
    /// It did not begin by the deadline.
    NoTurn,
}

/// How that reads.
pub const NO_TURN: &str = "its turn did not come by the deadline";

/// Run guest code until `until`, when it is its turn, and say what CPU time it took.
async fn in_time<T>(until: Instant, turns: Option<Arc<dyn Turns>>, guest: impl Future<Output = T>) -> (Done<T>, Duration) {
    let mut guest = pin!(guest);
    let (mut ran, mut began) = (Duration::ZERO, false);
    let guest = poll_fn(|context| {
        if let Some(turns) = &turns {
            ready!(turns.poll_turn(context));
        }
        began = true;
        let turn = cpu::begin();
        let answer = guest.as_mut().poll(context);
        let spent = turn.spent();
        ran += spent;
        if let Some(turns) = &turns {
            turns.ran(spent);
        }
        answer
    });
    let done = match tokio::time::timeout_at(until, guest).await {
        Ok(answer) => Done::With(answer),
        Err(_) if began => Done::Late,
        Err(_) => {
            turns.iter().for_each(|turns| turns.give_up());
            Done::NoTurn
        }
    };
    (done, ran)
}

/// How the kernel's ENOMEM reads, of which a process that has all its mappings is the likelier reason.
const NO_MEMORY: &str = "(os error 12)";

fn no_instance(store: &Store<State>, error: &wasmtime::Error) -> Failure {
    match failure(store, error) {
        // Not the guest's code: the pool is full, or the system out of memory.
        Failure::Trap { message } if error.downcast_ref::<Trap>().is_none() => Failure::NoInstance {
            why: if message.contains(NO_MEMORY) { format!("{message}: memory, or vm.max_map_count") } else { message },
        },
        failure => failure,
    }
}

fn failure(store: &Store<State>, error: &wasmtime::Error) -> Failure {
    if let Some(Kill::Cpu) = error.downcast_ref::<Kill>() {
        return Failure::Cpu;
    }
    // A guest that was refused memory usually aborts; its backtrace would hide the reason.
    if let Some(name) = store.data().refused {
        return Failure::Limit { name };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => return Failure::Limit { name: "stack" },
        Some(Trap::Interrupt | Trap::OutOfFuel) => return Failure::Cpu,
        _ => {}
    }
    // wasmtime has no type for this one; a test would see its text change.
    if error.root_cause().to_string().contains("fuel allocated for hostcalls") {
        return Failure::Limit { name: "size of the answer" };
    }
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        for frame in backtrace.frames().iter().take(limits::TRAP_FRAMES) {
            let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), |n| format!("{:#}", rustc_name(n)));
            text.push_str(" <- ");
            text.push_str(&name);
        }
    }
    Failure::Trap { message: one_line(&text, limits::TRAP_TEXT) }
}

/// A symbol without the hash that rustc ends it with.
fn rustc_name(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Guest;
    use crate::{Engine, Host, Level, Options};
    use std::sync::Arc;

    struct Desk;
    impl Host for Desk {
        fn log(&self, _: Level, _: &str) {}
        fn log_dropped(&self) {}
        fn config(&self, _: &str) -> Option<String> {
            None
        }
        fn now_ms(&self) -> u64 {
            0
        }
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    fn ask() -> wit::IvrRequest {
        let info = wit::SessionInfo {
            session_id: "5a3f".into(),
            session_reference: None,
            domain: "demo.localhost".into(),
            ivr_server: "127.0.0.1".into(),
            trace_id: "trace".into(),
            site_id: None,
            transaction_id: "transaction".into(),
            restarted: false,
            extra: vec![],
        };
        wit::IvrRequest {
            info,
            participant_id: "p1".into(),
            reply_id: "r1".into(),
            dtmf_buffer: None,
            dtmf_params: None,
            recording: None,
            interrupted: false,
            extra: vec![],
        }
    }

    /// A hook, and the page of the native stack on which it was entered.
    async fn hook(instance: Instance) -> (Instance, usize) {
        let (instance, _) = instance.get_ivr_command(&ask(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        let entry = instance.store.data().stack.unwrap();
        (instance, entry >> 12)
    }

    #[tokio::test]
    async fn a_stack_stays_with_its_instance_and_rests_with_it() {
        let engine = Engine::start(Options { instances: 8 }).unwrap();
        let module = Guest::counting().load(&engine);
        let fresh = async || Instance::new(&module, Setup::new(Arc::new(Desk), [7; 32]), far()).await.unwrap_or_else(|e| panic!("{e}"));
        let (mut first, entry) = hook(fresh().await).await;
        let mut others = Vec::new();
        for _ in 0..4 {
            first.rest();
            // Nobody else may be given a stack whose pages we give back, however many come and go.
            let (other, elsewhere) = hook(fresh().await).await;
            assert!(elsewhere.abs_diff(entry) >= limits::ASYNC_STACK >> 12, "two instances on one stack");
            drop(hook(fresh().await).await);
            others.push(other);
            let again;
            (first, again) = hook(first).await;
            assert_eq!(again, entry);
        }
        // Twice, or before anything ran: nothing to do.
        first.rest();
        first.rest();
        fresh().await.rest();
    }
}
