//! Handlers that mean harm, in every way there is, beside another tenant's calls: each is stopped by a limit that is named to its tenant, and
//! nobody else notices. What one tenant had in memory no other finds, and who spends all the processor time he may slows only himself.
//!
//! The handler is `tests/guests/hostile`; the called number says what it does. `make soak` and the bench have the same beside more calls.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{read_wav, write_wav};
use hookswitch_tests::guests::{HARM, PLANTED, component, with_code};
use hookswitch_tests::node::{Node, Run, address, wait_for};
use hookswitch_tests::receiver::Receiver;
use hookswitch_tests::wire::{Answer, Names, Wire, offer, token};
use hookswitch_wasm::limits;
use serde_json::Value;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HOSTILE: &str = "hostile.localhost";
const VICTIM: &str = "demo.localhost";
const PLANTER: &str = "planter.localhost";

/// A tenant with the numbers of `hostile`, which it shares with nobody.
fn move_in(node: &Node, domain: &str, numbers: &[&str], more: &[&str]) {
    let numbers = numbers.iter().flat_map(|number| ["--number", number]);
    let arguments: Vec<&str> = ["tenant", "put", domain].into_iter().chain(numbers).chain(more.iter().copied()).collect();
    node.cli(&arguments).ok();
    // A version that fails its first calls is taken back: here it is to fail all of them.
    node.cli(&["tenant", "guest-policy", domain, "--trial-calls", "0"]).ok();
    push(node, domain, &component("hostile", 0)).ok();
}

fn push(node: &Node, domain: &str, file: &Path) -> Run {
    node.cli(&["guest", "push", file.to_str().expect("our paths are UTF-8"), "--domain", domain])
}

/// Calls without a phone each: many at a time by one socket, whose media nobody sends.
struct Crowd {
    wire: Wire,
    rtp: UdpSocket,
    calls: Vec<Call>,
}

struct Call {
    user: String,
    names: Names,
    branch: String,
    status: Option<u16>,
}

impl Crowd {
    fn at(node: &Node) -> Crowd {
        Crowd { wire: Wire::to(node.sip()), rtp: UdpSocket::bind(("127.0.0.1", 0)).expect("a socket"), calls: Vec::new() }
    }

    fn call(&mut self, user: &str) {
        let call = Call { user: user.into(), names: Names::new(), branch: token("z9hG4bK"), status: None };
        let sdp = offer(self.rtp.local_addr().expect("bound")).replace("sendrecv", "inactive");
        self.wire.send(self.wire.request_with_branch("INVITE", user, &call.names, 1, &call.branch, &[], &sdp));
        self.calls.push(call);
    }

    /// Until every call has its answer; the calls by the order in which it came.
    fn answers(&mut self) -> Vec<usize> {
        let (mut order, begun) = (Vec::new(), Instant::now());
        while self.calls.iter().any(|call| call.status.is_none()) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{} calls are not answered",
                self.calls.iter().filter(|c| c.status.is_none()).count()
            );
            let Some(text) = self.wire.receive(Duration::from_secs(1)) else { continue };
            let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
            let Some(status) = status.filter(|status| *status >= 200) else { continue };
            let answer = Answer { text, status };
            let of = |call: &Call| answer.header("Call-ID") == Some(&call.names.call_id);
            let Some((place, call)) = self.calls.iter_mut().enumerate().find(|(_, call)| of(call)) else { continue };
            if answer.header("CSeq") != Some("1 INVITE") {
                continue;
            }
            call.names.to_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).map(str::to_owned);
            // RFC 3261 17.1.1.3: the ACK of a refusal is the INVITE's transaction's; that of a 200 is its own (13.2.2.4).
            let branch = if status < 300 { token("z9hG4bK") } else { call.branch.clone() };
            self.wire.send(self.wire.request_with_branch("ACK", &call.user, &call.names, 1, &branch, &[], ""));
            if call.status.replace(status).is_none() {
                order.push(place);
            }
        }
        order
    }

    fn statuses(&self, user: &str) -> Vec<u16> {
        self.calls.iter().filter(|call| call.user == user).filter_map(|call| call.status).collect()
    }

    /// Hangs up what was answered.
    fn hang_up(&mut self) {
        for call in self.calls.drain(..).filter(|call| call.status == Some(200)) {
            self.wire.bye(&call.user, &call.names);
        }
    }
}

/// Nothing of any call is left, and the node is well.
fn is_idle(node: &Node) {
    for gauge in ["hookswitch_sessions", "hookswitch_guest_instances", "hookswitch_legs"] {
        wait_for(&format!("{gauge} to be 0"), || node.metric(gauge, &[]) == 0.0);
    }
    assert_eq!(node.metric("hookswitch_sessions_panicked_total", &[]), 0.0);
}

#[test]
fn each_way_to_do_harm_is_stopped_by_name_and_no_other_tenant_notices() {
    let node = Node::demo();
    let receiver = Receiver::start(address(), b"yes".to_vec());
    // It takes connections, as kernels do, and never answers.
    let silent = TcpListener::bind((address(), 0)).expect("an address of its own");
    let silent = format!("http://{}/", silent.local_addr().expect("bound"));
    let (url, slow) = (receiver.url(""), silent.as_str());
    // One that does no harm: a version that did nothing else would rest.
    let numbers = [&HARM[..], &["harmless"]].concat();
    let origins = ["--outbox-origin", url.trim_end_matches('/'), "--outbox-origin", slow.trim_end_matches('/')];
    move_in(&node, HOSTILE, &numbers, &origins);
    for (key, value) in [("url", url.as_str()), ("slow", slow), ("slow-ms", "300")] {
        node.cli(&["guest", "config", "set", key, value, "--domain", HOSTILE]).ok();
    }

    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(600));
    let victims: Vec<_> = (0..3).map(|_| node.phone("voicemail").play(&said).dtmf("#@13s").start()).collect();
    wait_for("the victims' recordings", || node.metric("hookswitch_recordings_open", &[]) == 3.0);

    let memory = format!("limit reached: memory: {} of an instance", limits::MEMORY_BYTES);
    let log = format!("limit reached: log: {} bytes in a session", limits::LOG_BYTES);
    let fetches = format!("limit reached: fetches: {} for each hook", limits::FETCHES);
    // What its tenant reads of each, which names the limit.
    let named: [(&str, u16, &str); 13] = [
        ("spin", 503, "CPU time is used up"),
        ("order-flood", 603, "limit reached: orders: 20 a second in a session"),
        ("allocate", 503, &memory),
        ("store-flood", 603, "limit reached: store: 1000 operations of a tenant a second"),
        ("recurse", 503, "limit reached: stack"),
        ("fetch-flood", 603, &fetches),
        ("trap", 503, "trap: "),
        ("slow-fetch", 603, "slow fetch: Err(HostError::Timeout"),
        ("huge-strings", 503, "limit reached: size of the answer"),
        ("huge-answer", 503, "newCall of version 1: limit reached: size of the answer"),
        ("scan", 200, "0 found, 0 new ones not zero"),
        ("burn", 486, ""),
        ("log-flood", 603, &log),
    ];
    assert!(HARM.iter().all(|number| *number == "busy" || named.iter().any(|(name, ..)| name == number)), "each is here");
    let mut crowd = Crowd::at(&node);
    // Allowed, and all that is allowed, for as long as the others try theirs.
    (0..2).for_each(|_| crowd.call("busy"));
    for (number, ..) in named {
        crowd.call(number);
        crowd.call("harmless");
        sleep(Duration::from_millis(250));
    }
    // Calls of others are answered meanwhile.
    node.phone("reject").seconds("5").run().fails(&["603"]);
    node.phone("echo").seconds("1").run().ok();
    crowd.answers();
    for (number, status, _) in named {
        assert_eq!(crowd.statuses(number), [status], "{number}: {:#?}", node.guest_log(HOSTILE));
    }
    assert!(crowd.statuses("harmless").iter().all(|status| *status == 404));
    for (number, _, name) in named {
        wait_for(&format!("the log to say why {number} was stopped"), || node.guest_log(HOSTILE).iter().any(|line| line.contains(name)));
    }

    // The busy ones would keep the compilers, which are idle-priority processes, from the processor for longer than a push is waited for.
    crowd.hang_up();
    // More versions at once than may wait for a compiler.
    let bytes = fs::read(component("hostile", 0)).expect("a component");
    let pushes: Vec<_> = (1..=8)
        .map(|seed| {
            let file = node.file(&format!("version-{seed}.wasm"));
            fs::write(&file, with_code(bytes.clone(), 2, 6_000, seed)).expect("written");
            let push = ["guest", "push", file.to_str().expect("our paths are UTF-8"), "--domain", HOSTILE];
            let child = node.command(&push).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
            (push.join(" "), child)
        })
        .collect();
    let pushes: Vec<Run> =
        pushes.into_iter().map(|(arguments, child)| Run::of(&[&arguments], &child.wait_with_output().expect("it ends"))).collect();
    assert!(pushes.iter().any(|run| run.status == Some(0)), "{pushes:?}");
    for refused in pushes.iter().filter(|run| run.status != Some(0)) {
        refused.fails(&["4 of a tenant"]);
    }
    assert!(pushes.iter().any(|run| run.status == Some(1)), "eight were taken at once: {pushes:?}");

    for victim in victims {
        victim.end().ok();
    }
    wait_for("the victims' recordings", || node.recordings().len() == 3);
    node.recordings().iter().for_each(|recording| whole(&node, recording));
    is_idle(&node);
}

/// Every frame that was said is in it, and what the node says of it is so.
fn whole(node: &Node, recording: &Value) {
    let id = recording["id"].as_str().expect("an id");
    assert_eq!(recording["domain"], VICTIM);
    node.cli(&["recording", "verify", id]).ok();
    let tally = Tally::of(&read_wav(&node.fetch(id)));
    assert!(tally.whole() && tally.last == Some(599), "{tally:?}");
    assert_eq!(recording["frames_concealed"], 0, "{recording}");
}

#[test]
fn no_instance_finds_what_another_tenants_had_in_memory() {
    let node = Node::demo();
    move_in(&node, PLANTER, &["plant", "scan-self"], &["--max-sessions", "1000"]);
    move_in(&node, HOSTILE, &["scan"], &["--max-sessions", "1000"]);
    node.cli(&["guest", "config", "set", "planted", &format!("{PLANTED}, a setting"), "--domain", PLANTER]).ok();
    node.keep_secret(PLANTER, "planted", &format!("{PLANTED}, a secret"));

    // More than stay in places of their own when they end: what comes then gets the place of one of them.
    let mut planters = Crowd::at(&node);
    for _ in 0..(limits::WARM_SLOTS + 44) / 25 {
        (0..25).for_each(|_| planters.call("plant"));
        planters.answers();
    }
    assert!(planters.statuses("plant").iter().all(|status| *status == 200), "{:#?}", node.guest_log(PLANTER));
    let full = "planted 4 times";
    assert!(node.guest_log(PLANTER).iter().any(|line| line == full), "{:#?}", node.guest_log(PLANTER));
    planters.hang_up();
    is_idle(&node);

    // All at a time, so that each has another place.
    let mut scanners = Crowd::at(&node);
    (0..40).for_each(|_| scanners.call("scan"));
    scanners.answers();
    assert!(scanners.statuses("scan").iter().all(|status| *status == 200), "{:#?}", node.guest_log(HOSTILE));
    let scanned: Vec<String> = node.guest_log(HOSTILE).into_iter().filter(|line| line.starts_with("scanned")).collect();
    assert_eq!(scanned.len(), 40, "{scanned:#?}");
    for line in &scanned {
        assert!(line.ends_with(": 0 found, 0 new ones not zero"), "{line}");
        let bytes: usize = line.split(' ').nth(1).and_then(|bytes| bytes.parse().ok()).expect("a number");
        assert!(bytes > limits::MEMORY_BYTES - (2 << 20), "nearly all that there can be: {line}");
    }
    scanners.hang_up();
    // Whoever has it in his own memory finds it: there is something to be found.
    scanners.call("scan-self");
    scanners.answers();
    let own: Vec<String> = node.guest_log(PLANTER).into_iter().filter(|line| line.starts_with("scanned")).collect();
    assert!(own.len() == 1 && !own[0].contains(": 0 found"), "{own:?}");
    is_idle(&node);
}

#[test]
fn who_spends_all_his_processor_time_slows_only_himself() {
    const BURNS: usize = 20;
    let node = Node::demo();
    // A tenth of a second at once, and as much in each second: less than its calls of 8 ms need.
    move_in(&node, HOSTILE, &["burn"], &["--quota", "cpu_ms_per_second=100"]);
    let mut crowd = Crowd::at(&node);
    (0..BURNS).for_each(|_| crowd.call("burn"));
    crowd.call("reject");
    let order = crowd.answers();
    let before = order.iter().position(|call| *call == BURNS).expect("it was answered");
    assert!(before < BURNS / 2, "{before} of {BURNS} calls of the other tenant were answered first: {order:?}");
    assert_eq!(crowd.statuses("reject"), [603]);
    // It gets its answers, one after the other: nothing that it did is forbidden.
    assert!(crowd.statuses("burn").iter().all(|status| *status == 486), "{:#?}", node.guest_log(HOSTILE));
    let spent = node.metric("hookswitch_guest_cpu_microseconds_total", &[HOSTILE]);
    assert!(spent > 100_000.0, "all that it had at once, and more: {spent} us");
    is_idle(&node);
}
