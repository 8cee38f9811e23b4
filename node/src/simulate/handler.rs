//! The handler under test, one instance a session as in the node, but in the world's time: a hook takes none, unless it waits for another
//! server. Questions, answers and orders go the node's own way (`guest::asking`); only threads and deadlines are the world's.

use super::Loaded;
use super::host::{Desk, Given, Pretend, lock};
use crate::guest::{Question, asking, words};
use crate::reply_keys::ReplyKeys;
use hookswitch_call::hook::{HookFailure, Notification, SessionInfo, Verdict};
use hookswitch_call::{Ask, Hook, SessionId};
use hookswitch_proto::Random;
use hookswitch_sim::{ForGuest, World};
use hookswitch_wasm::{Instance, Setup, wit};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Longer than any hook really runs: its instructions are counted.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What one kind of hook took, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    pub times: u64,
    pub failed: u64,
    /// Of the dearest one.
    pub instructions: u64,
}

/// What the handler took of what it may.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub hooks: BTreeMap<&'static str, Took>,
    /// Bytes of one instance.
    pub memory: usize,
}

pub struct Handler {
    pub loaded: Loaded,
    runtime: tokio::runtime::Runtime,
    pub pretend: Arc<Mutex<Pretend>>,
    pub measured: Measured,
    /// How the next hook fails, without being run.
    pub fail: Option<HookFailure>,
    sessions: BTreeMap<SessionId, Session>,
    random: Random,
    keys: Arc<ReplyKeys>,
    asked: u64,
}

#[derive(Default)]
struct Session {
    instance: Option<Instance>,
    /// It had one before.
    served: bool,
    ended: bool,
    info: SessionInfo,
    domain: Arc<str>,
}

impl Handler {
    pub fn new(loaded: Loaded, pretend: Pretend, seed: u64) -> std::io::Result<Handler> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let mut bytes = [3; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Ok(Handler {
            loaded,
            runtime,
            pretend: Arc::new(Mutex::new(pretend)),
            measured: Measured::default(),
            fail: None,
            sessions: BTreeMap::new(),
            random: Random::new(bytes),
            keys: Arc::new(ReplyKeys::in_memory()?),
            asked: 0,
        })
    }

    /// Answers and tells all that waits, and what comes of it.
    pub fn serve(&mut self, world: &mut World) {
        while let Some(item) = world.outside.as_mut().and_then(std::collections::VecDeque::pop_front) {
            match item {
                ForGuest::Ask(ask) => self.ask(world, *ask),
                ForGuest::Notify { session, domain, notification } => self.notify(world, session, domain, *notification),
                ForGuest::End(session) => {
                    if let Some(session) = self.sessions.get_mut(&session) {
                        session.ended = true;
                        session.instance = None;
                    }
                }
            }
        }
    }

    fn transaction(&mut self) -> String {
        self.asked += 1;
        format!("transaction-{}", self.asked)
    }

    fn ask(&mut self, world: &mut World, mut ask: Ask) {
        let session = ask.id.session;
        let of = self.sessions.entry(session).or_default();
        (of.info, of.domain) = (ask.hook.info().clone(), ask.domain.clone());
        let name = hook_name(&ask.hook);
        let (verdict, after) = match self.fail.take() {
            // A handler that refuses lives on.
            Some(failure) => {
                if failure.lost_instance() {
                    of.instance = None;
                }
                let after = if failure == HookFailure::Deadline { ask.deadline } else { Duration::ZERO };
                (Err(failure), after)
            }
            None => {
                let (instance, restarted) = match self.instance(world, session) {
                    Ok(found) => found,
                    Err(failure) => return self.answer(world, &ask, name, Err(failure), Duration::ZERO),
                };
                ask.hook.info_mut().restarted |= restarted;
                let mut question = asking::question(ask.hook.clone(), self.transaction(), &self.keys);
                plain_reply_id(&mut question, self.asked);
                let (done, _) = self.run(world, asking::put(instance, &question, Instant::now() + PATIENCE));
                let waited = lock(&self.pretend).waited;
                match done {
                    // Its store goes with it, as in the node.
                    _ if waited >= ask.deadline => (Err(HookFailure::Deadline), ask.deadline),
                    Ok((instance, verdict)) => {
                        self.keep(session, instance);
                        (verdict, waited)
                    }
                    Err(failure) => (Err(failure), waited),
                }
            }
        };
        self.answer(world, &ask, name, verdict, after);
    }

    fn answer(&mut self, world: &mut World, ask: &Ask, name: &'static str, verdict: Result<Verdict, HookFailure>, after: Duration) {
        let text = match &verdict {
            Ok(verdict) => words::verdict_with(verdict, |name| length(world, name)),
            Err(failure) => words::failure(failure),
        };
        self.measure(name, verdict.is_err());
        world.answer(ask.id, verdict, after, text);
    }

    fn notify(&mut self, world: &mut World, session: SessionId, domain: Arc<str>, mut notification: Notification) {
        let of = self.sessions.entry(session).or_default();
        if of.domain.is_empty() {
            // Its first word is news: a call that was placed.
            (of.domain, of.info) = (domain, notification.info().clone());
        }
        if !self.loaded.module.takes_notifications() {
            return;
        }
        let (transaction, keys) = (self.transaction(), self.keys.clone());
        let asked = self.asked;
        self.tell(world, session, |restarted| {
            notification.info_mut().restarted |= restarted;
            let mut news = asking::notification(notification, transaction, &keys);
            match &mut news {
                wit::Notification::CallAnswered(answered) => answered.reply_id = format!("reply-{asked}"),
                wit::Notification::CallNotify(progress) => progress.reply_id = format!("reply-{asked}"),
                _ => {}
            }
            news
        });
    }

    fn tell(&mut self, world: &mut World, session: SessionId, news: impl FnOnce(bool) -> wit::Notification) {
        if !self.loaded.module.takes_notifications() {
            return;
        }
        let (instance, restarted) = match self.instance(world, session) {
            Ok(found) => found,
            Err(failure) => {
                world.remark("guest", "node", &words::failure(&failure));
                return self.measure("notify", true);
            }
        };
        let news = news(restarted);
        let told = self.run(world, async { instance.notify(&news, Instant::now() + PATIENCE).await.map_err(asking::failure) });
        self.measure("notify", told.is_err());
        match told {
            // Nobody waits for a turn here.
            Ok((instance, _)) => self.keep(session, instance),
            Err(failure) => world.remark("guest", "node", &words::failure(&failure)),
        }
    }

    /// The session's instance, or a fresh one; whether it takes the place of another.
    fn instance(&mut self, world: &mut World, session: SessionId) -> Result<(Instance, bool), HookFailure> {
        let of = self.sessions.entry(session).or_default();
        if let Some(instance) = of.instance.take() {
            return Ok((instance, false));
        }
        let restarted = std::mem::replace(&mut of.served, true);
        if restarted {
            world.remark("node", "guest", "a fresh instance");
        }
        let host = Desk { world: self.pretend.clone(), session_id: of.info.session_id.clone(), born: world.now };
        let mut setup = Setup::new(Arc::new(host), self.random.seed());
        setup.memory_bytes = self.loaded.class.memory_bytes();
        let module = self.loaded.module.clone();
        let made = self.run(world, async { Instance::new(&module, setup, Instant::now() + PATIENCE).await });
        made.map(|instance| (instance, restarted)).map_err(asking::failure)
    }

    fn keep(&mut self, session: SessionId, instance: Instance) {
        self.measured.memory = self.measured.memory.max(instance.memory());
        let of = self.sessions.entry(session).or_default();
        if !of.ended {
            of.instance = Some(instance);
        }
    }

    fn measure(&mut self, name: &'static str, failed: bool) {
        let cost = lock(&self.pretend).cost.take().unwrap_or_default();
        self.measured.memory = self.measured.memory.max(cost.memory);
        let took = self.measured.hooks.entry(name).or_default();
        took.times += 1;
        took.failed += u64::from(failed);
        took.instructions = took.instructions.max(cost.instructions.unwrap_or(0));
    }

    /// Runs guest code to its end, and carries out what it orders meanwhile.
    fn run<T>(&self, world: &mut World, guest: impl Future<Output = T>) -> T {
        {
            let mut pretend = lock(&self.pretend);
            (pretend.now, pretend.waited) = (world.now, Duration::ZERO);
        }
        let mut guest = pin!(guest);
        let done = self.runtime.block_on(poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = guest.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                let given = lock(&self.pretend).orders.pop_front();
                let Some(given) = given else { return Poll::Pending };
                self.show(world);
                self.carry_out(world, given);
            }
        }));
        self.show(world);
        done
    }

    fn show(&self, world: &mut World) {
        for (to, what) in lock(&self.pretend).said.drain(..) {
            world.remark("guest", to, &what);
        }
    }

    fn carry_out(&self, world: &mut World, given: Given) {
        let name = given.order.name();
        let domain =
            self.sessions.values().find(|of| of.info.session_id == given.session_id).map(|of| of.domain.clone()).unwrap_or_default();
        world.remark("guest", "node", name);
        let result = asking::order(given.order, &given.session_id).and_then(|command| match world.command_of(&domain, command) {
            Some(Ok(done)) => Ok(asking::ordered(done, &domain, &self.keys)),
            Some(Err(error)) => Err(asking::refused(error)),
            None => Err(wit::HostError::Timeout),
        });
        if let Err(error) = &result {
            world.remark("node", "guest", &format!("{name} refused: {error:?}"));
        }
        // The hook that waits for it is being polled by our caller.
        let _ = given.answer.send(result);
    }
}

/// How long a prompt plays.
pub fn length(world: &World, name: &str) -> Option<Duration> {
    world.files.get(name).or(world.other_file.as_ref()).map(|clip| Duration::from_micros(clip.pcmu.len() as u64 * 125))
}

fn hook_name(hook: &Hook) -> &'static str {
    match hook {
        Hook::NewCall(_) => "new-call",
        Hook::GetCallIdentifier(_) => "get-call-identifier",
        Hook::GetIvrCommand(_) => "get-ivr-command",
        Hook::CallEvent(_) => "call-event",
        Hook::NewRemoteCall(_) => "new-remote-call",
    }
}

/// Real ones hold the time and a key that is made anew each time: runs would differ.
fn plain_reply_id(question: &mut Question, asked: u64) {
    match question {
        Question::GetIvrCommand(request) => request.reply_id = format!("reply-{asked}"),
        Question::CallEvent(event) => event.reply_id = format!("reply-{asked}"),
        Question::NewRemoteCall(call) => call.reply_id = format!("reply-{asked}"),
        Question::NewCall(_) | Question::GetCallIdentifier(_) | Question::Notify(_) => {}
    }
}
