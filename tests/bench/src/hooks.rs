//! Ask to verdict: what a decision costs when it is made by a component in the node, beside the same decision asked of a webhook on
//! loopback, which is the cheapest webhook there can be.

use crate::http::{self, Client};
use crate::report::Report;
use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use hookswitch::guest::{Guests, Version};
use hookswitch::inbox::SwitchInbox;
use hookswitch::net::{Priority, set_priority};
use hookswitch_call::hook::{Hook, NewCall, Routing, SessionInfo, Verdict};
use hookswitch_call::{Ask, AskId, Input, SessionId};
use hookswitch_wasm::{Class, Engine, code_digest, content_hash, wrap};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Questions of one run, after so many that only warm up.
const ASKS: usize = 20_000;
const WARM: usize = 2_000;
/// Between two questions: what the guest thread does after an answer (the instance goes, the hook is written down) is not in the next one's way, as
/// it is not where calls come a thousand times a second.
const PAUSE: Duration = Duration::from_micros(300);
/// Such pauses at most until a hook is written down.
const WRITTEN_WITHIN: u32 = 3_000;

/// Microseconds: the middle one and the one that 99 of 100 stay below.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub median: f64,
    pub p99: f64,
}

impl Latency {
    pub fn of(mut microseconds: Vec<f64>) -> Result<Latency> {
        let median = machine::percentile(&mut microseconds, 50.0).context("no measurement")?;
        let p99 = machine::percentile(&mut microseconds, 99.0).context("no measurement")?;
        Ok(Latency { median, p99 })
    }
}

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let (mut webhooks, mut wake) = (Runs::default(), Runs::default());
    let mut runs: BTreeMap<String, Runs> = BTreeMap::new();
    for _ in 0..options.runs() {
        webhooks.add(webhook(options)?);
        for (awake, of) in [(false, ""), (true, ", core awake")] {
            let guest = guest(options, awake)?;
            for (name, asks) in [("fresh", guest.fresh), ("live", guest.live)] {
                runs.entry(format!("{name} instance{of}")).or_default().add(asks.whole);
                runs.entry(format!("{name} instance{of}, in its thread")).or_default().add(asks.thread);
            }
        }
        wake.add(wake_up(options)?);
    }
    let how = format!(
        "newCall asked of the demo's handler through the node's guest room on one core, two thread wake-ups included; {ASKS} asks, each when the thread has nothing else to do, median of {} runs. Core awake: a thread at idle priority keeps it from being halted between two questions, as a core with calls is not. In its thread: from when the guest thread took the question until it had the verdict, without the wake-ups. Beside a POST of the same question over one kept connection to a server of ours on the other core",
        options.runs()
    );
    let webhook = webhooks.middle()?;
    for (name, runs) in runs {
        let guest = runs.middle()?;
        report
            .add(&format!("ask to verdict, {name}, median"), "us", guest.median, how.clone())
            .beside("webhook on loopback", webhook.median);
        report.add(&format!("ask to verdict, {name}, p99"), "us", guest.p99, how.clone()).beside("webhook on loopback", webhook.p99);
    }
    let wake = wake.middle()?;
    let how = "the same two channels and threads on the same core with nothing between: the part of the above that is wake-up";
    report.add("two thread wake-ups, median", "us", wake.median, how);
    report.add("two thread wake-ups, p99", "us", wake.p99, how);
    Ok(())
}

/// Latencies of several runs.
#[derive(Default)]
struct Runs {
    medians: Vec<f64>,
    p99s: Vec<f64>,
}

impl Runs {
    fn add(&mut self, latency: Latency) {
        self.medians.push(latency.median);
        self.p99s.push(latency.p99);
    }

    fn middle(&self) -> Result<Latency> {
        let middle = |values: &Vec<f64>| machine::median(values.clone()).context("a run");
        Ok(Latency { median: middle(&self.medians)?, p99: middle(&self.p99s)? })
    }
}

/// Of the same questions: until their verdict came back, and what of it the guest thread took.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    pub whole: Latency,
    pub thread: Latency,
}

pub struct Guest {
    pub fresh: Asks,
    pub live: Asks,
    /// Bytes of this process that each of [`HELD`] waiting instances takes.
    pub held: f64,
}

/// Sessions that wait at a time while their memory is counted.
const HELD: usize = 64;

/// The node's own guest room, with the demo's handler, on the node's core.
fn guest(options: &Options, awake: bool) -> Result<Guest> {
    let path = options.guests.join("menu.component.wasm");
    let component = std::fs::read(&path).with_context(|| path.display().to_string())?;
    on_its_core(options, component, ASKS, awake)
}

/// Asks a handler in a room on the node's core. So many asks are measured.
pub fn on_its_core(options: &Options, component: Vec<u8>, asks: usize, awake: bool) -> Result<Guest> {
    let core = options.node_core;
    let _awake = awake.then(|| Awake::keep(core));
    let room = thread::spawn(move || -> Result<Guest> {
        // Threads started from here inherit the core.
        machine::pin(core)?;
        ask_guest(&component, asks)
    });
    room.join().map_err(|_| anyhow::anyhow!("the guest room panicked"))?
}

/// Keeps a core from being halted when nobody wants it, for as long as it lives.
struct Awake(Arc<AtomicBool>);

impl Awake {
    fn keep(core: usize) -> Awake {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        thread::spawn(move || {
            // Only what is left over, or it would measure itself.
            if set_priority(Priority::Idle).is_ok() && machine::pin(core).is_ok() {
                while !told.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
        });
        Awake(over)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The node's guest room and one tenant's handler in it, asked by whoever has it in the switch's place.
pub struct Room {
    guests: Guests,
    verdicts: hookswitch::inbox::Inputs,
    domain: Arc<str>,
    /// What the engine says of how it runs.
    pub warning: Option<String>,
}

impl Room {
    /// As a node has it.
    pub fn of(component: &[u8]) -> Result<Room> {
        let engine = Arc::new(Engine::start(hookswitch_wasm::Options::default())?);
        let warning = engine.warning().map(str::to_owned);
        let hash = content_hash(component);
        let code = engine.compile(component)?;
        let digest = code_digest(engine.compatibility(), &hash, &code);
        let module = Arc::new(engine.load(&wrap(engine.compatibility(), &hash, &code), &digest)?);
        let (inbox, verdicts) = SwitchInbox::channel();
        let services = hookswitch::guest::Services::of(hookswitch::switch_thread::Commands::new(inbox.clone()));
        let instances = usize::try_from(engine.instances())?;
        let guests = Guests::start(engine, hookswitch::guest::Options { instances, ..Default::default() }, inbox, services);
        let domain: Arc<str> = Arc::from("demo.localhost");
        guests.set_active(&domain, Some(Arc::new(Version::new(domain.clone(), 1, Class::of(component.len()), module, None))));
        Ok(Room { guests, verdicts, domain, warning })
    }

    /// What the guest thread took for the last question of that name, in microseconds. It writes that down when the verdict is out.
    fn took(&self, session_id: &str) -> Result<f64> {
        let written = || self.guests.explain(None, session_id)?["entries"].as_array()?.last()?["took_us"].as_f64();
        for _ in 0..WRITTEN_WITHIN {
            if let Some(took) = written() {
                return Ok(took);
            }
            thread::sleep(PAUSE);
        }
        bail!("the hook is not written down")
    }

    /// newCall of the demo's menu: the microseconds until its verdict.
    pub fn ask(&self, session: SessionId, number: u32) -> Result<f64> {
        self.ask_as("7d0c0e3a-1f2b-4c3d-8e4f-5a6b7c8d9e0f", session, number)
    }

    fn ask_as(&self, session_id: &str, session: SessionId, number: u32) -> Result<f64> {
        let hook = Hook::NewCall(Box::new(NewCall {
            info: SessionInfo {
                session_id: session_id.into(),
                domain: self.domain.to_string(),
                ivr_server: "127.0.0.1:5060".into(),
                ..SessionInfo::default()
            },
            participant_id: "1".into(),
            sip_call_id: "a84b4c76e66710@pc33.example.com".into(),
            calling_party: "+46701234567".into(),
            called_party: "ivr".into(),
            src_addr: "127.0.0.1:5070".into(),
            ..NewCall::default()
        }));
        let (domain, deadline) = (self.domain.clone(), Duration::from_secs(5));
        let start = Instant::now();
        self.guests.ask(Box::new(Ask { id: AskId { session, number }, domain, hook, deadline }));
        let Input::Verdict { verdict, .. } = self.verdicts.recv()? else { bail!("something else than a verdict") };
        let time = start.elapsed().as_secs_f64() * 1e6;
        match verdict {
            Ok(Verdict::Routing(Routing::Ivr { .. })) => Ok(time),
            Err(failure) => bail!("no verdict: {failure:?}"),
            Ok(other) => bail!("not the verdict of the demo's handler: {other:?}"),
        }
    }

    pub fn end(&self, session: SessionId) {
        self.guests.end(session);
    }

    /// Instances that live.
    pub fn live(&self) -> usize {
        self.guests.live()
    }
}

/// Who has nothing to do for a second gives back what only a running guest needs.
pub const RESTED: Duration = Duration::from_secs(2);

fn ask_guest(component: &[u8], asks: usize) -> Result<Guest> {
    let warm = WARM.min(asks / 10);
    let room = Room::of(component)?;
    let measured = |name: &str, ask: &dyn Fn(&str, u32) -> Result<f64>| -> Result<Asks> {
        let (mut whole, mut thread) = (Vec::with_capacity(asks), Vec::with_capacity(asks));
        for n in 0..warm + asks {
            // A name of its own: what is written down of one session is bounded.
            let session_id = format!("{name}-7d0c0e3a-1f2b-4c3d-{n:012x}");
            let time = ask(&session_id, u32::try_from(n)?)?;
            thread::sleep(PAUSE);
            let took = room.took(&session_id)?;
            if n >= warm {
                whole.push(time);
                thread.push(took);
            }
        }
        Ok(Asks { whole: Latency::of(whole)?, thread: Latency::of(thread)? })
    };
    let fresh = measured("fresh", &|session_id, n| {
        let session = SessionId { slot: 1, generation: n };
        let time = room.ask_as(session_id, session, 1)?;
        room.end(session);
        Ok(time)
    })?;
    let session = SessionId { slot: 2, generation: 1 };
    let live = measured("live", &|session_id, n| room.ask_as(session_id, session, n))?;
    room.end(session);
    let before = machine::resident(std::process::id())?;
    for slot in 0..HELD {
        room.ask(SessionId { slot: 10 + u32::try_from(slot)?, generation: 1 }, 1)?;
    }
    thread::sleep(RESTED);
    let held = machine::resident(std::process::id())?.saturating_sub(before) as f64 / HELD as f64;
    Ok(Guest { fresh, live, held })
}

/// There and back between two threads of one core.
fn wake_up(options: &Options) -> Result<Latency> {
    let core = options.node_core;
    let pair = thread::spawn(move || -> Result<Vec<f64>> {
        machine::pin(core)?;
        let (there, inbox) = mpsc::channel::<Instant>();
        let (back, answers) = mpsc::channel::<Instant>();
        let other = thread::spawn(move || {
            while let Ok(at) = inbox.recv() {
                if back.send(at).is_err() {
                    return;
                }
            }
        });
        let mut times = Vec::with_capacity(ASKS);
        for n in 0..WARM + ASKS {
            there.send(Instant::now())?;
            let time = answers.recv()?.elapsed().as_secs_f64() * 1e6;
            if n >= WARM {
                times.push(time);
            }
        }
        drop(there);
        other.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        Ok(times)
    });
    Latency::of(pair.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??)
}

/// The question as a webhook gets it.
fn question() -> String {
    json!({
        "sessionId": "7d0c0e3a-1f2b-4c3d-8e4f-5a6b7c8d9e0f", "domain": "demo.localhost", "participantId": "1", "ivrServer": "127.0.0.1:5060",
        "sipCallId": "a84b4c76e66710@pc33.example.com", "callingPartyNumber": "+46701234567", "calledPartyNumber": "ivr",
        "callingPartyPrivacy": "public", "srcAddr": "127.0.0.1:5070"
    })
    .to_string()
}

fn webhook(options: &Options) -> Result<Latency> {
    // The least that a webhook must do: read the question, decide, answer.
    let server = http::serve(options.generator_core, |request| {
        let question: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let action = if question["calledPartyNumber"] == "ivr" { "ivr" } else { "drop" };
        ("application/json", json!({ "action": action, "sessionReferenceId": "ivr" }).to_string().into_bytes())
    })?;
    let core = options.node_core;
    let client = thread::spawn(move || -> Result<Vec<f64>> {
        machine::pin(core)?;
        ask(Client::to(server)?)
    });
    Latency::of(client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??)
}

fn ask(mut client: Client) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ASKS);
    for n in 0..WARM + ASKS {
        let start = Instant::now();
        // Written anew each time, as each call's question is.
        let answer = client.post("/newCall", "none", &question())?;
        let verdict: Value = serde_json::from_slice(&answer.body)?;
        if verdict["action"] != "ivr" {
            bail!("not the answer that was given: {verdict}");
        }
        if n >= WARM {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}
