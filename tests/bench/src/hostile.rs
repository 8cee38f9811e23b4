//! Two tenants that mean harm, beside those who are measured: calls to every number of `tests/guests/hostile`, some of which stay up and spend
//! all the processor time that they get, and a new version of its handler a hundred times a minute.
//!
//! It works on the generator's core when nobody else wants to.

use crate::faults::nicely;
use crate::generator::{Callee, Generator, Reach, STEP, Script, Side};
use crate::node::Node;
use crate::subject::Subject;
use crate::{Options, machine};
use anyhow::{Context, Result, ensure};
use hookswitch_tests::guests::{HARM, with_code};
use hookswitch_tests::receiver::Receiver;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Whose handlers break, and who pushes. A version that breaks again and again is not asked for a while, which would keep out the others, too.
const DOMAIN: &str = "hostile.localhost";
const BREAKING: [&str; 6] = ["spin", "allocate", "recurse", "trap", "huge-strings", "huge-answer"];
/// Whose handlers answer, after they took all that they get.
const GREEDY: &str = "greedy.localhost";
/// Calls that stay up, each of whose hooks takes two fifths of what a hook may: a guest thread is full with three of them.
const BUSY: usize = 8;
/// Calls a second to each of the others.
const EACH: f64 = 2.0;
/// Of these at a time: one that fetches slowly takes four seconds.
const AT_A_TIME: usize = 64;
/// Of versions pushed a minute.
const PUSHES: f64 = 100.0;
const CPU: &str = "microseconds of its hooks";
/// What is under way when it is told to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it did.
#[derive(Clone, Debug, Default)]
pub struct Harm {
    pub calls: u64,
    /// Pushes by the status of their answer.
    pub pushes: BTreeMap<u16, u64>,
    /// What the node refused it, by why: its hooks' failures, limits that bit, lines of its log. And the time that its hooks took.
    pub refused: BTreeMap<String, u64>,
}

pub struct Hostile<'a> {
    node: &'a Node,
    component: Vec<u8>,
    /// Makes each version another one.
    seed: AtomicU32,
    /// Who answers its fetches, and who takes them and never answers.
    _receiver: Receiver,
    _silent: TcpListener,
}

impl<'a> Hostile<'a> {
    /// The tenant, and its first version.
    pub fn move_in(node: &'a Node, options: &Options) -> Result<Hostile<'a>> {
        let path = options.guests.join("hostile.component.wasm");
        let component = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let receiver = nicely(|| Receiver::start(Ipv4Addr::LOCALHOST, b"yes".to_vec()));
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (url, slow) = (receiver.url(""), format!("http://{}/", silent.local_addr()?));
        let origins = [url.trim_end_matches('/'), slow.trim_end_matches('/')];
        for domain in [DOMAIN, GREEDY] {
            let numbers: Vec<&str> = HARM.into_iter().filter(|number| BREAKING.contains(number) == (domain == DOMAIN)).collect();
            node.put(&format!("/admin/tenants/{domain}"), &json!({ "numbers": numbers, "outbox_origins": origins }))?;
            // A version that fails its first calls would be taken back: here it is to fail all of them.
            node.put(&format!("/admin/tenants/{domain}/guest-policy"), &json!({ "trial_calls": 0 }))?;
            for (key, value) in [("url", &url), ("slow", &slow)] {
                node.put(&format!("/{domain}/guests/settings/{key}"), &json!({ "value": value }))?;
            }
            let status = node.push(domain, &component)?;
            ensure!(status == 201, "the hostile handler was not taken: {status}");
        }
        Ok(Hostile { node, component, seed: AtomicU32::new(1), _receiver: receiver, _silent: silent })
    }

    /// Does all the harm that it can until it is told to stop, and until the last of its calls is over.
    pub fn rage(&self, stop: &AtomicBool) -> Result<Harm> {
        let before = self.refused()?;
        let (calls, pushes) = thread::scope(|scope| {
            let pusher = scope.spawn(|| self.push(stop));
            let calls = self.call(stop);
            // One that has failed must not leave the other alone.
            stop.store(true, Ordering::Release);
            (calls, pusher.join())
        });
        let pushes = pushes.map_err(|_| anyhow::anyhow!("who pushes panicked"))??;
        let (calls, mut refused) = (calls?, self.refused()?);
        refused.iter_mut().for_each(|(why, times)| *times -= before.get(why).copied().unwrap_or(0));
        Ok(Harm { calls, pushes, refused })
    }

    /// At its pace, however long an answer takes: where the node is busy, compilations wait and pushes pile up until it refuses them.
    fn push(&self, stop: &AtomicBool) -> Result<BTreeMap<u16, u64>> {
        machine::be_nice();
        let (began, mut pushed, mut answers) = (Instant::now(), 0u32, BTreeMap::new());
        thread::scope(|scope| {
            let mut pushing = Vec::new();
            while !stop.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(20));
                if began.elapsed().as_secs_f64() * PUSHES / 60.0 >= f64::from(pushed) {
                    pushed += 1;
                    let component = with_code(self.component.clone(), 1, 1, self.seed.fetch_add(1, Ordering::Relaxed));
                    pushing.push(scope.spawn(move || self.node.push(DOMAIN, &component)));
                }
            }
            for push in pushing {
                *answers.entry(push.join().map_err(|_| anyhow::anyhow!("a push panicked"))??).or_default() += 1;
            }
            Ok(answers)
        })
    }

    fn call(&self, stop: &AtomicBool) -> Result<u64> {
        machine::be_nice();
        let script = |number| Script { reach: Reach::Number(number), callee: Callee::Answer };
        let mut busy = Generator::new(self.node.sip(), BUSY)?;
        let mut others = Generator::new(self.node.sip(), AT_A_TIME)?;
        others.hurried = true;
        let numbers: Vec<&'static str> = HARM.into_iter().filter(|number| *number != "busy").collect();
        let (began, mut begun, mut calls) = (Instant::now(), 0usize, 0);
        let mut left = None;
        loop {
            if stop.load(Ordering::Acquire) {
                let left = left.get_or_insert_with(|| Instant::now() + PATIENCE);
                (0..BUSY).for_each(|call| busy.release(call, Side::Caller));
                let over = (0..BUSY).all(|call| busy.is_over(call)) && (0..AT_A_TIME).all(|call| others.is_over(call));
                if over {
                    return Ok(calls);
                }
                ensure!(Instant::now() < *left, "calls of the hostile tenant do not end");
            } else {
                for call in (0..BUSY).filter(|call| busy.is_over(*call)).collect::<Vec<_>>() {
                    busy.begin(call, script("busy"))?;
                    calls += 1;
                }
                if began.elapsed().as_secs_f64() * EACH * numbers.len() as f64 > begun as f64 {
                    // Where all are taken it has all the calls that it may.
                    if let Some(call) = (0..AT_A_TIME).find(|call| others.is_over(*call)) {
                        others.begin(call, script(numbers[begun % numbers.len()]))?;
                        calls += 1;
                    }
                    begun += 1;
                }
            }
            busy.signal()?;
            others.signal()?;
            thread::sleep(STEP);
        }
    }

    fn refused(&self) -> Result<BTreeMap<String, u64>> {
        let metrics = self.node.metrics()?;
        let of_us = |name: &str| {
            let (name, labels) = name.strip_prefix("hookswitch_guest_")?.split_once('{')?;
            let why = [DOMAIN, GREEDY].iter().find_map(|domain| labels.strip_prefix(&format!("domain=\"{domain}\"")))?;
            match (name, why.strip_prefix(",why=\"").and_then(|why| why.strip_suffix("\"}"))) {
                ("failures_total", Some(why)) => Some(why.to_owned()),
                ("limited_total", _) => Some("limits that it may live with".to_owned()),
                ("log_dropped_total", _) => Some("lines of its log".to_owned()),
                ("cpu_microseconds_total", _) => Some(CPU.to_owned()),
                ("rests_total", _) => Some("versions not asked for a while".to_owned()),
                _ => None,
            }
        };
        let mut sums = BTreeMap::new();
        for (what, times) in
            metrics.iter().filter(|(_, times)| **times > 0.0).filter_map(|(name, times)| Some((of_us(name)?, *times as u64)))
        {
            *sums.entry(what).or_default() += times;
        }
        Ok(sums)
    }
}

impl Harm {
    pub fn line(&self) -> String {
        let refused: Vec<String> = self.refused.iter().map(|(why, times)| format!("{why} {times}")).collect();
        format!("{} hostile calls, pushes {:?}, refused: {}", self.calls, self.pushes, refused.join(", "))
    }

    /// Of several times.
    pub fn add(&mut self, other: &Harm) {
        self.calls += other.calls;
        for (status, times) in &other.pushes {
            *self.pushes.entry(*status).or_default() += times;
        }
        for (why, times) in &other.refused {
            *self.refused.entry(why.clone()).or_default() += times;
        }
    }
}
