//! Sessions, versions and failures, with real guests: what the switch gets back, and when an instance is a fresh one. The guests say by
//! their drop code how many hooks their instance has had (`Guest::counting`).

mod hosts;

use super::adapter::WasmAdapter;
use super::{CompileError, Compiler, Guests, Judged, Judgement, Options, Services, Trial, Version, compile};
use crate::inbox::SwitchInbox;
use crate::net::Priority;
use crate::outbox::Outbox;
use crate::store::{Quotas, Share};
use crate::switch_thread::Commands;
use hookswitch_call::adapter::Adapter;
use hookswitch_call::door::{Command as Order, CommandError, CommandResult, Done};
use hookswitch_call::hook::{
    CallEvent, CallEventKind, Hook, HookFailure, IvrRequest, NewCall, Notification, Routing, SessionInfo, Verdict,
};
use hookswitch_call::{Ask, AskId, Input, SessionId};
use hookswitch_wasm::testing::{self, Guest};
use hookswitch_wasm::{Class, Engine, Refusal};
use std::ffi::OsString;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static ENGINE: LazyLock<Arc<Engine>> =
    LazyLock::new(|| Arc::new(Engine::start(hookswitch_wasm::Options { instances: 64 }).expect("an engine")));

/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(3600);

struct World {
    guests: Guests,
    commands: Commands,
    inputs: crate::inbox::Inputs,
    next: u32,
}

impl World {
    fn new() -> World {
        World::with(Options { instances: 8, priority: Priority::Usual, ..Options::default() })
    }

    fn with(options: Options) -> World {
        World::posting(options, None)
    }

    fn posting(options: Options, outbox: Option<Outbox>) -> World {
        let (switch, inputs) = SwitchInbox::channel();
        let commands = Commands::new(switch.clone());
        let services = Services { outbox, ..Services::of(commands.clone()) };
        World { guests: Guests::start(ENGINE.clone(), options, switch, services), commands, inputs, next: 0 }
    }

    fn activate(&self, domain: &str, number: u32, guest: &Guest) {
        let module = Arc::new(guest.load(&ENGINE));
        let version = Version::new(domain.into(), number, Class::Standard, module, None);
        self.guests.set_active(domain, Some(Arc::new(version)));
    }

    /// Dispatch a question; its answer is awaited by `verdict`.
    fn send(&mut self, session: SessionId, hook: Hook, deadline: Duration) -> AskId {
        self.next += 1;
        let id = AskId { session, number: self.next };
        let domain = hook.info().domain.as_str().into();
        self.guests.ask(Box::new(Ask { id, domain, hook, deadline }));
        id
    }

    fn verdict(&mut self) -> (AskId, Result<Verdict, HookFailure>) {
        match self.inputs.recv_timeout(Duration::from_secs(60)) {
            Ok(Input::Verdict { ask, verdict }) => (ask, verdict),
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, session: SessionId, hook: Hook) -> Result<Verdict, HookFailure> {
        let id = self.send(session, hook, LONG);
        let (answered, verdict) = self.verdict();
        assert_eq!(answered, id);
        verdict
    }

    /// The drop code of a call event: 400 and the hooks of the instance.
    fn count(&mut self, session: SessionId) -> u16 {
        code(&self.ask(session, call_event("a.example")))
    }

    /// Wait until the room has done what was sent before: a question to another session of the thread, whose guest dies in its start
    /// code and so takes no place.
    fn settle(&mut self) {
        // A tenant and a session of its own each time: a version that dies again and again is not asked for a while.
        static SETTLED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = SETTLED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let domain = format!("settle-{n}.example");
        self.activate(&domain, 1, &Guest { module: "(func $no (unreachable)) (start $no)".into(), ..Guest::default() });
        assert!(matches!(self.ask(session(9_000 + n), call_event(&domain)), Err(HookFailure::Trap { .. })));
    }

    fn stats(&self, domain: &str) -> super::Stats {
        self.guests.stats().into_iter().find(|(d, _)| &**d == domain).expect("a tenant that was here").1
    }
}

fn session(slot: u32) -> SessionId {
    SessionId { slot, generation: 1 }
}

fn info(domain: &str) -> SessionInfo {
    SessionInfo { session_id: "s-1".into(), domain: domain.into(), ..SessionInfo::default() }
}

fn new_call(domain: &str) -> Hook {
    Hook::NewCall(Box::new(NewCall { info: info(domain), ..NewCall::default() }))
}

fn ivr(domain: &str) -> Hook {
    Hook::GetIvrCommand(Box::new(IvrRequest { info: info(domain), ..IvrRequest::default() }))
}

fn call_event(domain: &str) -> Hook {
    Hook::CallEvent(Box::new(CallEvent {
        info: info(domain),
        event: CallEventKind::CallingPartyDrop,
        connection_id: "k".into(),
        participant_id: "p".into(),
        user: String::new(),
        remote_participant_id: String::new(),
        remote_user: String::new(),
        reply_to: hookswitch_call::ReplyTo::Participant,
        sip_code: None,
        reason_text: None,
        q850: None,
    }))
}

fn news(domain: &str) -> Notification {
    Notification::SessionCompleted { info: info(domain), duration: Duration::from_secs(1), reason: "ivrHangup" }
}

/// An answer that is none, of an instance that was not asked.
fn no_turn() -> Result<Verdict, HookFailure> {
    Err(HookFailure::Unavailable { why: hookswitch_wasm::NO_TURN.to_owned() })
}

fn code(verdict: &Result<Verdict, HookFailure>) -> u16 {
    match verdict {
        Ok(Verdict::Routing(Routing::Drop { drop_code: Some(code), .. })) => code.parse().unwrap_or_else(|_| panic!("{verdict:?}")),
        other => panic!("{other:?}"),
    }
}

/// Traps in get-ivr-command, counts otherwise.
fn fragile() -> Guest {
    Guest { get_ivr_command: "(unreachable)".into(), ..Guest::counting() }
}

#[test]
fn a_session_keeps_its_instance_and_its_memory() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest::counting());
    assert_eq!(code(&world.ask(session(1), new_call("a.example"))), 401);
    assert!(matches!(world.ask(session(1), ivr("a.example")), Ok(Verdict::Ivr(command)) if command.phrases.is_empty()));
    assert_eq!(world.count(session(1)), 403);
    assert_eq!(world.count(session(2)), 401, "another session has another instance");
    assert_eq!(world.guests.live(), 2);
    world.guests.end(session(1));
    world.settle();
    assert_eq!(world.guests.live(), 1);
}

/// Orders the release of participant `p` so many times in call-event and drops with 400, or with 410 and the case of the last error.
fn ordering(times: u32) -> Guest {
    Guest {
        imports: "(import \"hookswitch:call/calls@0.1.0\" \"hangup-participant\" (func $hang_up (param i32 i32 i32)))".into(),
        module: "(data (i32.const 4096) \"p\")".into(),
        call_event: format!(
            "(loop $next
               (call $hang_up (i32.const 4096) (i32.const 1) (i32.const 8192))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const {times}))))
             (call $drop_with (i32.add (i32.const 400) (i32.mul (i32.load8_u (i32.const 8192))
                (i32.add (i32.const 10) (i32.load8_u (i32.const 8196))))))"
        ),
        ..Guest::default()
    }
}

impl World {
    /// The switch's part: takes the next order and answers it.
    fn take_order(&self, result: CommandResult) -> Order {
        match self.inputs.recv_timeout(Duration::from_secs(60)) {
            Ok(Input::Command { id, domain, command }) => {
                assert_eq!(&*domain, "a.example");
                self.commands.reply(id, result);
                command
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_order_is_answered_while_its_hook_waits_and_names_the_guests_own_session() {
    let mut world = World::new();
    world.activate("a.example", 1, &ordering(1));
    let table = [
        (Ok(Done::Nothing), 400),
        (Err(CommandError::BadValue { field: "participantId", why: "odd".into() }), 412),
        (Err(CommandError::Unknown("participant")), 413),
        (Err(CommandError::WrongState("gone")), 414),
        (Err(CommandError::Unavailable("draining")), 411),
    ];
    for (result, expected) in table {
        let id = world.send(session(1), call_event("a.example"), LONG);
        let order = world.take_order(result);
        assert_eq!(order, Order::HangupParticipant { session_id: "s-1".into(), participant_id: "p".into() });
        let (answered, verdict) = world.verdict();
        assert_eq!((answered, code(&verdict)), (id, expected));
    }
}

#[test]
fn a_hook_that_waits_for_its_order_keeps_its_deadline_and_others_go_on() {
    let mut world = World::new();
    world.activate("a.example", 1, &ordering(1));
    world.activate("b.example", 1, &Guest::counting());
    let waiting = world.send(session(1), call_event("a.example"), Duration::from_millis(100));
    assert!(matches!(world.inputs.recv_timeout(Duration::from_secs(60)), Ok(Input::Command { .. })));
    assert_eq!(code(&world.ask(session(2), call_event("b.example"))), 401, "the thread is free meanwhile");
    assert_eq!(world.verdict(), (waiting, Err(HookFailure::Deadline)));
    // A switch that never answers does not hold a patient hook for ever either.
    let patient = world.send(session(1), call_event("a.example"), LONG);
    assert!(matches!(world.inputs.recv_timeout(Duration::from_secs(60)), Ok(Input::Command { .. })));
    let (id, verdict) = world.verdict();
    assert_eq!((id, code(&verdict)), (patient, 417));
}

#[test]
fn orders_beyond_the_sessions_allowance_are_a_limit() {
    let mut world = World::new();
    world.activate("a.example", 1, &ordering(super::limits::ORDERS_PER_SECOND + 1));
    let id = world.send(session(1), call_event("a.example"), LONG);
    for _ in 0..super::limits::ORDERS_PER_SECOND {
        world.take_order(Ok(Done::Nothing));
    }
    let (answered, verdict) = world.verdict();
    assert_eq!((answered, code(&verdict)), (id, 416));
    assert_eq!(world.stats("a.example").orders_refused, 1);
}

/// Posts the first byte of each notification (its kind), and drops calls with 400, or 410 and the case of the last post's error.
fn reporting(url: &str, report: bool) -> Guest {
    let post = format!(
        "(call $post (i32.const 4096) (i32.const {}) (i32.const 4352) (i32.const 1) (i32.const 0) (i32.const 0)
            (local.get $in) (i32.const 1) (i32.const {}) (i32.const 8192))",
        url.len(),
        u8::from(report)
    );
    Guest {
        imports: "(import \"hookswitch:call/outbox@0.1.0\" \"post\"
            (func $post (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"
            .into(),
        module: format!("(data (i32.const 4096) \"{url}\") (data (i32.const 4352) \"k\")"),
        call_event: format!(
            "{post} (call $drop_with (i32.add (i32.const 400) (i32.mul (i32.load8_u (i32.const 8192))
                (i32.add (i32.const 10) (i32.load8_u (i32.const 8196))))))"
        ),
        notify: Some(post),
        ..Guest::default()
    }
}

/// Bodies of the posts that come to a port of this machine, each acknowledged.
fn receiver() -> (String, Receiver<Vec<u8>>) {
    use std::io::{BufRead, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let (tell, bodies) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = std::io::BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = n.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            reader.get_mut().write_all(b"HTTP/1.1 204 X\r\n\r\n").expect("sent");
            let _ = tell.send(body);
        }
    });
    (url, bodies)
}

fn alarm(domain: &str) -> Notification {
    let kind = hookswitch_call::hook::AlarmKind::CallError;
    Notification::Alarm(hookswitch_call::hook::Alarm { info: info(domain), kind, error: "e".into(), details: None, leg: None })
}

fn ringing(domain: &str) -> Notification {
    Notification::CallNotify {
        info: info(domain),
        event: "ringing",
        participant_id: "p".into(),
        user: String::new(),
        remote_participant_id: None,
        remote_user: None,
        sip_call_id: "c".into(),
        monitoring: false,
        reply_to: hookswitch_call::ReplyTo::Participant,
        target: None,
    }
}

#[test]
fn news_reaches_the_handler_and_its_posts_the_receiver_in_the_order_it_was_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, store_thread) = crate::store::Store::open(&folder.path().join("node.db")).expect("opens");
    let policy = crate::outbox::Policy { loopback: Some("a.example"), ..crate::outbox::Policy::default() };
    let (outbox, thread) = Outbox::start(store, crate::outbox::Options::new(policy), Arc::default()).expect("starts");
    let world = World::posting(Options { instances: 8, priority: Priority::Usual, ..Options::default() }, Some(outbox));
    let (url, bodies) = receiver();
    world.activate("a.example", 1, &reporting(&url, false));
    // As an orderly call has them, and as it may come: nothing overtakes. Fewer than a mailbox and an allowance hold.
    let told: Vec<fn(&str) -> Notification> = vec![ringing, alarm, ringing, ringing, alarm, alarm, ringing, news];
    for make in &told {
        world.guests.notify(session(1), "a.example".into(), make("a.example"));
    }
    let kinds: Vec<u8> = told.iter().map(|_| bodies.recv_timeout(Duration::from_secs(60)).expect("a post")[0]).collect();
    let (r, a, n) = (kinds[0], kinds[1], kinds[7]);
    assert!(r != a && a != n && n != r, "{kinds:?}");
    assert_eq!(kinds, [r, a, r, r, a, a, r, n]);
    drop(world);
    thread.stop();
    store_thread.close();
}

#[test]
fn a_post_elsewhere_is_denied_and_a_wanted_report_comes_as_news() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, store_thread) = crate::store::Store::open(&folder.path().join("node.db")).expect("opens");
    let policy = crate::outbox::Policy { loopback: Some("a.example"), ..crate::outbox::Policy::default() };
    let (outbox, thread) = Outbox::start(store, crate::outbox::Options::new(policy), Arc::default()).expect("starts");
    let mut world = World::posting(Options { instances: 8, priority: Priority::Usual, ..Options::default() }, Some(outbox.clone()));
    outbox.tell(world.guests.news());
    let (url, bodies) = receiver();
    world.activate("a.example", 1, &reporting("https://elsewhere.example/", false));
    assert_eq!(world.count(session(1)), 415);
    // A delivery is posted as well, and so on: each is told of the one before.
    world.activate("a.example", 2, &reporting(&url, true));
    assert_eq!(world.count(session(2)), 400);
    let first = bodies.recv_timeout(Duration::from_secs(60)).expect("the post");
    let second = bodies.recv_timeout(Duration::from_secs(60)).expect("the report of the post");
    let third = bodies.recv_timeout(Duration::from_secs(60)).expect("the report of the report");
    assert_ne!(first, second);
    assert_eq!(second, third);
    drop((world, outbox));
    thread.stop();
    store_thread.close();
}

#[test]
fn no_active_version_is_unavailable_by_name() {
    let mut world = World::new();
    assert!(
        matches!(world.ask(session(1), new_call("a.example")), Err(HookFailure::Unavailable { why }) if why.contains("no active version"))
    );
    world.activate("a.example", 1, &Guest::counting());
    assert_eq!(code(&world.ask(session(1), new_call("a.example"))), 401, "the next question finds it");
}

#[test]
fn ic_298_after_a_trap_the_next_question_gets_a_fresh_instance_of_the_same_version() {
    let mut world = World::new();
    world.activate("a.example", 1, &fragile());
    assert_eq!(world.count(session(1)), 401);
    assert_eq!(world.count(session(1)), 402);
    let trap = world.ask(session(1), ivr("a.example"));
    assert!(matches!(&trap, Err(HookFailure::Trap { message }) if message.contains("unreachable")), "{trap:?}");
    // Meanwhile another version is active; this session stays on its own.
    world.activate("a.example", 2, &Guest::dropping(499));
    assert_eq!(world.count(session(1)), 401);
    assert_eq!(world.count(session(2)), 499);
}

#[test]
fn ic_298_the_fresh_instance_is_told_that_it_is_one() {
    // The flag `restarted` stands in the request's session info; the guest says 400 plus it.
    let restarted_at = 64;
    let told = Guest {
        get_ivr_command: "(unreachable)".into(),
        ..Guest::each(&format!("(call $drop_with (i32.add (i32.const 400) (i32.load8_u offset={restarted_at} (local.get $in))))"))
    };
    let mut world = World::new();
    world.activate("a.example", 1, &Guest { get_ivr_command: "(unreachable)".into(), ..told });
    assert_eq!(world.count(session(1)), 400);
    assert!(world.ask(session(1), ivr("a.example")).is_err());
    assert_eq!(world.count(session(1)), 401, "even where the switch did not say so");
    assert_eq!(world.count(session(1)), 400);
}

#[test]
fn a_loop_costs_its_cpu_time_and_the_session_goes_on() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest { get_ivr_command: "(loop $l (br $l))".into(), ..Guest::counting() });
    assert_eq!(world.count(session(1)), 401);
    assert_eq!(world.ask(session(1), ivr("a.example")), Err(HookFailure::Cpu));
    assert_eq!(world.count(session(1)), 401);
}

#[test]
fn the_deadline_counts_from_dispatch_and_includes_the_queue() {
    let options = Options { instances: 8, cpu: LONG, priority: Priority::Usual, ..Options::default() };
    let mut world = World::with(options);
    world.activate("a.example", 1, &Guest { get_ivr_command: "(loop $l (br $l))".into(), ..Guest::counting() });
    assert_eq!(world.count(session(1)), 401);
    let long = world.send(session(1), ivr("a.example"), Duration::from_millis(60));
    let behind = world.send(session(1), call_event("a.example"), Duration::from_millis(20));
    let patient = world.send(session(1), call_event("a.example"), LONG);
    // In the order they were asked: no hook overtakes or overlaps another of its session.
    assert_eq!(world.verdict(), (long, Err(HookFailure::Deadline)));
    assert_eq!(world.verdict(), (behind, no_turn()), "it was not put: the version is not to blame");
    let (id, verdict) = world.verdict();
    assert_eq!((id, code(&verdict)), (patient, 401));
}

#[test]
fn sessions_go_on_while_one_loops() {
    let options = Options { instances: 8, cpu: LONG, priority: Priority::Usual, ..Options::default() };
    let mut world = World::with(options);
    world.activate("a.example", 1, &Guest { get_ivr_command: "(loop $l (br $l))".into(), ..Guest::counting() });
    let looping = world.send(session(1), ivr("a.example"), Duration::from_millis(200));
    let other = world.send(session(2), call_event("a.example"), LONG);
    let (id, verdict) = world.verdict();
    assert_eq!((id, code(&verdict)), (other, 401), "on the same thread, the other session is answered first");
    assert_eq!(world.verdict(), (looping, Err(HookFailure::Deadline)));
}

#[test]
fn a_full_mailbox_drops_notifications_and_still_takes_decisions() {
    let options = Options { instances: 8, cpu: LONG, priority: Priority::Usual, ..Options::default() };
    let mut world = World::with(options);
    world.activate("a.example", 1, &Guest { get_ivr_command: "(loop $l (br $l))".into(), ..Guest::counting() });
    let looping = world.send(session(1), ivr("a.example"), Duration::from_millis(200));
    // The task must have taken the first question before the mailbox is filled behind it.
    assert_eq!(code(&world.ask(session(2), call_event("a.example"))), 401);
    for _ in 0..super::limits::MAILBOX + 5 {
        world.guests.notify(session(1), "a.example".into(), news("a.example"));
    }
    let decisions: Vec<_> =
        (0..super::limits::MAILBOX_DECISIONS + 1).map(|_| world.send(session(1), call_event("a.example"), LONG)).collect();
    let (id, verdict) = world.verdict();
    assert_eq!(id, decisions[super::limits::MAILBOX_DECISIONS], "one decision too many is refused at once");
    assert!(matches!(verdict, Err(HookFailure::Unavailable { why }) if why.contains("mailbox")));
    assert_eq!(world.verdict(), (looping, Err(HookFailure::Deadline)));
    let (id, verdict) = world.verdict();
    let seen = u16::try_from(super::limits::MAILBOX).unwrap() + 1;
    assert_eq!((id, code(&verdict)), (decisions[0], 400 + seen), "a fresh instance saw the notifications that found room");
    let stats = world.stats("a.example");
    assert_eq!(stats.notifications_dropped, 5);
    assert_eq!(stats.notifications, super::limits::MAILBOX as u64);
}

#[test]
fn old_sessions_finish_on_their_version_and_new_ones_use_the_new_one() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest::dropping(481));
    world.activate("b.example", 1, &Guest::dropping(580));
    assert_eq!(world.count(session(1)), 481);
    world.activate("a.example", 2, &Guest::dropping(482));
    assert_eq!((world.count(session(1)), world.count(session(2))), (481, 482));
    assert_eq!(code(&world.ask(session(3), call_event("b.example"))), 580, "tenants do not see each other's versions");
    world.guests.set_active("a.example", None);
    assert_eq!((world.count(session(1)), world.count(session(2))), (481, 482), "calls under way go on");
    assert!(matches!(world.ask(session(4), call_event("a.example")), Err(HookFailure::Unavailable { .. })));
}

/// A version that drops calls with this code.
fn dropping(number: u32, code: u16) -> Arc<Version> {
    Arc::new(Version::new("a.example".into(), number, Class::Standard, Arc::new(Guest::dropping(code).load(&ENGINE)), None))
}

fn call_to(called: &str, session_id: &str) -> Hook {
    let info = SessionInfo { session_id: session_id.into(), ..info("a.example") };
    Hook::NewCall(Box::new(NewCall { info, called_party: called.into(), ..NewCall::default() }))
}

#[test]
fn a_version_is_tried_with_calls_to_some_numbers_and_sessions_keep_theirs() {
    let mut world = World::new();
    world.guests.set_active("a.example", Some(dropping(1, 481)));
    let numbers = Share::Numbers(vec!["100".into()]);
    world.guests.deploy("a.example", |deployment| deployment.canary = Some((dropping(2, 482), numbers)));
    assert_eq!(code(&world.ask(session(1), call_to("100", "s-1"))), 482);
    assert_eq!(code(&world.ask(session(2), call_to("101", "s-2"))), 481);
    // Withdrawn: what is up stays where it is.
    world.guests.deploy("a.example", |deployment| deployment.canary = None);
    assert_eq!((world.count(session(1)), world.count(session(2))), (482, 481));
    assert_eq!(code(&world.ask(session(3), call_to("100", "s-3"))), 481);
}

#[test]
fn a_version_is_tried_with_a_share_of_the_sessions() {
    let mut world = World::with(Options { instances: 256, priority: Priority::Usual, ..Options::default() });
    world.guests.set_active("a.example", Some(dropping(1, 481)));
    world.guests.deploy("a.example", |deployment| deployment.canary = Some((dropping(2, 482), Share::Percent(30))));
    let mut tried = 0;
    for n in 0..200 {
        let got = code(&world.ask(session(n), call_to("100", &format!("session-{n}"))));
        tried += u32::from(got == 482);
        world.guests.end(session(n));
    }
    // The ids are always the same, and so is what they are given.
    assert!((40..=80).contains(&tried), "{tried} of 200");
}

/// Answers a question from each of these sessions, and says what they got.
fn ask_each(world: &mut World, sessions: std::ops::Range<u32>) -> Vec<Result<Verdict, HookFailure>> {
    sessions
        .map(|n| {
            let verdict = world.ask(session(n), new_call("a.example"));
            world.guests.end(session(n));
            verdict
        })
        .collect()
}

#[test]
fn a_version_that_always_breaks_is_not_asked_any_more_and_its_calls_fail_at_once() {
    let mut world = World::new();
    world.activate("a.example", 1, &testing::trapping());
    let most = super::limits::BREAKER_FAILURES;
    assert!(ask_each(&mut world, 0..most).iter().all(|verdict| matches!(verdict, Err(HookFailure::Trap { .. }))));
    let instances = world.stats("a.example").instances;
    for verdict in ask_each(&mut world, most..most + 50) {
        assert!(matches!(&verdict, Err(HookFailure::Unavailable { why }) if why.contains("version 1 failed too often")), "{verdict:?}");
    }
    let stats = world.stats("a.example");
    assert_eq!((stats.instances, stats.rests), (instances, 1), "none is made for them");
    let said = world.guests.log("a.example");
    assert!(said.iter().any(|line| line.level == "node" && line.text.contains("version 1 fails again and again")), "{said:?}");
    let deployed = world.guests.deployed("a.example");
    assert!(world.guests.rests(deployed.version(1).expect("active")).is_some());
    // Another version starts afresh.
    world.activate("a.example", 2, &Guest::dropping(486));
    assert_eq!(world.count(session(999)), 486);
}

fn on_trial(world: &World, guest: &Guest, trial: Trial) -> Receiver<Judged> {
    let (judge, judged) = std::sync::mpsc::channel();
    world.guests.judge(judge);
    let module = Arc::new(guest.load(&ENGINE));
    world.guests.set_active("a.example", Some(Arc::new(Version::new("a.example".into(), 3, Class::Standard, module, Some(trial)))));
    judged
}

#[test]
fn a_trial_that_is_over_is_told_once() {
    let trial = Trial { calls: 5, min_calls: 4, failed_percent: 50 };
    for (guest, judgement) in [
        (testing::trapping(), Judgement::Failed { failed: 3, calls: 4 }),
        (testing::lying(), Judgement::Failed { failed: 3, calls: 4 }),
        (Guest::dropping(486), Judgement::Proven),
    ] {
        let mut world = World::new();
        let told = on_trial(&world, &guest, trial);
        ask_each(&mut world, 0..9);
        drop(world);
        assert_eq!(told.iter().collect::<Vec<_>>(), [Judged { domain: "a.example".into(), number: 3, judgement }]);
    }
}

#[test]
fn calls_that_a_version_is_kept_from_count_as_failed_in_its_trial() {
    let mut world = World::new();
    let told = on_trial(&world, &testing::trapping(), Trial { calls: 100, min_calls: 30, failed_percent: 50 });
    ask_each(&mut world, 0..30);
    drop(world);
    let judgement = Judgement::Failed { failed: 29, calls: 30 };
    assert_eq!(told.iter().collect::<Vec<_>>(), [Judged { domain: "a.example".into(), number: 3, judgement }]);
}

#[test]
fn a_call_fails_once_however_often_its_hooks_do() {
    let mut world = World::new();
    let _told = on_trial(&world, &testing::trapping(), Trial::default());
    for _ in 0..3 {
        assert!(world.ask(session(1), new_call("a.example")).is_err());
    }
    let deployed = world.guests.deployed("a.example");
    assert_eq!(deployed.version(3).expect("active").health().calls(), (1, 1));
}

#[test]
fn who_is_active_when_a_version_is_taken_back_hears_it() {
    let mut world = World::new();
    // It says by its log that it heard something.
    let hears = Guest { notify: Some("(call $log (i32.const 1) (i32.const 4096) (i32.const 5))".into()), ..testing::flooding() };
    world.activate("a.example", 1, &hears);
    world.guests.taken_back("a.example", "version 2 failed 3 of its first 4 calls: new calls get version 1 again");
    world.settle();
    let log: Vec<(String, String)> = world.guests.log("a.example").into_iter().map(|line| (line.level.to_owned(), line.text)).collect();
    assert_eq!(log[0], ("node".into(), "version 2 failed 3 of its first 4 calls: new calls get version 1 again".into()));
    assert_eq!(log[1], ("info".into(), "log l".into()), "{log:?}");
    assert_eq!(world.stats("a.example").taken_back, 1);
}

#[test]
fn late_news_goes_to_a_fresh_instance_of_the_sessions_version() {
    let mut world = World::new();
    // Traps at news unless its instance is fresh.
    let wary = Guest { notify: Some("(if (i32.ne (global.get $hooks) (i32.const 1)) (then (unreachable)))".into()), ..Guest::counting() };
    world.activate("a.example", 1, &wary);
    assert_eq!(world.count(session(1)), 401);
    world.guests.end(session(1));
    world.settle();
    assert_eq!(world.guests.live(), 0);
    // The active version would trap in any case.
    world.activate("a.example", 2, &Guest { notify: Some("(unreachable)".into()), ..Guest::counting() });
    for told in 1..=2 {
        world.guests.notify(session(1), "a.example".into(), news("a.example"));
        world.settle();
        let stats = world.stats("a.example");
        assert_eq!((stats.notifications, stats.notifications_dropped, world.guests.live()), (told, 0, 0));
    }
    // A session of before the node's restart: the active version.
    world.guests.notify(SessionId { slot: 7, generation: 0 }, "a.example".into(), news("a.example"));
    world.settle();
    let stats = world.stats("a.example");
    assert_eq!((stats.notifications, stats.notifications_dropped), (2, 1));
}

#[test]
fn of_versions_that_follow_each_other_fast_few_are_kept_for_late_news() {
    let mut world = World::new();
    let mut pushed = Vec::new();
    for number in 1..=12 {
        let version = dropping(u32::from(number), 480 + number);
        world.guests.set_active("a.example", Some(version.clone()));
        assert_eq!(world.count(session(number.into())), 480 + number);
        world.guests.end(session(number.into()));
        world.settle();
        pushed.push(Arc::downgrade(&version));
    }
    let kept = pushed.iter().filter(|version| version.strong_count() > 0).count();
    // Beside the active one that of a session whose end nobody has looked at yet.
    assert!((1..=super::limits::LATE_VERSIONS + 2).contains(&kept), "{kept} of 12");
    assert!(pushed.last().is_some_and(|active| active.strong_count() > 0));
}

#[test]
fn a_session_whose_first_word_is_news_keeps_its_instance() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest::counting());
    for generation in 1..=2 {
        let session = SessionId { slot: 3, generation };
        world.guests.notify(session, "a.example".into(), news("a.example"));
        let first = world.count(session);
        assert_eq!((world.count(session), world.guests.live()), (first + 1, 1), "the questions find the same instance");
        world.guests.end(session);
        world.settle();
        assert_eq!(world.guests.live(), 0);
    }
    // What comes after the end is late, and no instance stays for it.
    world.guests.notify(SessionId { slot: 3, generation: 1 }, "a.example".into(), news("a.example"));
    world.settle();
    assert_eq!((world.stats("a.example").notifications, world.guests.live()), (3, 0));
}

#[test]
fn what_waits_when_the_room_closes_is_still_done() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest::counting());
    let asked: Vec<_> = (0..3).map(|slot| world.send(session(slot), call_event("a.example"), LONG)).collect();
    let World { guests, inputs, .. } = world;
    drop(guests);
    // Closing has waited for the threads: all answers are there.
    let answered: Vec<_> =
        inputs.try_iter().map(|i| if let Input::Verdict { ask, verdict: Ok(_) } = i { ask } else { panic!("{i:?}") }).collect();
    assert_eq!(answered, asked);
}

#[test]
fn news_that_breaks_an_instance_shows_at_the_next_question() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest { notify: Some("(unreachable)".into()), ..Guest::counting() });
    assert_eq!(world.count(session(1)), 401);
    world.guests.notify(session(1), "a.example".into(), news("a.example"));
    assert_eq!(world.count(session(1)), 401, "a fresh instance");
    let lines = world.guests.log("a.example");
    assert!(lines.iter().any(|l| l.level == "node" && l.text.contains("notification dropped")), "{lines:?}");
}

#[test]
fn more_sessions_than_instances_are_unavailable_by_name() {
    let mut world = World::with(Options { instances: 1, priority: Priority::Usual, ..Options::default() });
    world.activate("a.example", 1, &Guest::counting());
    assert_eq!(world.count(session(1)), 401);
    assert!(matches!(world.ask(session(2), call_event("a.example")), Err(HookFailure::Unavailable { why }) if why.contains("1 instances")));
    world.guests.end(session(1));
    world.settle();
    assert_eq!(world.count(session(2)), 401);
}

/// What one tenant may use from now on.
fn limit(world: &World, domain: &str, quotas: Quotas) {
    world.guests.configure([(domain.to_owned(), quotas)].into());
}

#[test]
fn a_tenants_instances_are_its_quota_and_leave_others_alone() {
    let mut world = World::new();
    for domain in ["a.example", "b.example"] {
        world.activate(domain, 1, &Guest::counting());
    }
    limit(&world, "a.example", Quotas { instances: Some(1), ..Quotas::default() });
    assert_eq!(world.count(session(1)), 401);
    let refused = world.ask(session(2), call_event("a.example"));
    assert!(matches!(&refused, Err(HookFailure::Unavailable { why }) if why.contains("quota exceeded: instances")), "{refused:?}");
    assert_eq!(code(&world.ask(session(3), call_event("b.example"))), 401);
    assert_eq!((world.stats("a.example").quota_refused, world.stats("b.example").quota_refused), (1, 0));
    assert!(world.guests.log("a.example").iter().any(|line| line.text.contains("quota exceeded: instances: all 1 are in use")));
    world.guests.end(session(1));
    world.settle();
    assert_eq!(world.count(session(2)), 401, "who is gone has made room");
    limit(&world, "a.example", Quotas::default());
    assert_eq!(world.count(session(4)), 401, "a quota that is taken away is away at once");
}

#[test]
fn a_tenant_without_cpu_time_waits_and_nobody_with_it() {
    let mut world = World::new();
    for domain in ["a.example", "b.example"] {
        world.activate(domain, 1, &Guest::counting());
    }
    assert_eq!(world.count(session(1)), 401);
    limit(&world, "a.example", Quotas { cpu_ms_per_second: Some(0), ..Quotas::default() });
    let waits = world.send(session(1), call_event("a.example"), Duration::from_secs(2));
    let fresh = world.send(session(3), call_event("a.example"), Duration::from_millis(2200));
    assert_eq!(code(&world.ask(session(2), call_event("b.example"))), 401);
    assert_eq!((world.verdict(), world.verdict()), ((waits, no_turn()), (fresh, no_turn())));
    assert_eq!((world.stats("a.example").unavailable, world.stats("a.example").deadlines), (2, 0));
    limit(&world, "a.example", Quotas { cpu_ms_per_second: Some(1000), ..Quotas::default() });
    assert_eq!(world.count(session(1)), 402, "it was not asked, and lives");
    assert_eq!(world.count(session(3)), 401);
    assert!(world.stats("b.example").cpu_us > 0, "what it spent is counted");
}

#[test]
fn nonsense_names_its_field_and_costs_the_instance() {
    let mut world = World::new();
    world.activate("a.example", 1, &Guest { new_call: testing::lying().new_call, ..Guest::counting() });
    assert_eq!(world.count(session(1)), 401);
    let verdict = world.ask(session(1), new_call("a.example"));
    assert!(matches!(&verdict, Err(HookFailure::Nonsense { field, .. }) if field == "drop.drop-code"), "{verdict:?}");
    assert_eq!(world.count(session(1)), 401);
}

#[test]
fn a_handlers_own_failure_leaves_its_instance_alive() {
    // result<routing, failure>: case 1; the message at 8: pointer 4096, length 2.
    let own = "(i32.store8 (global.get $out) (i32.const 1)) (i32.store offset=8 (global.get $out) (i32.const 4096))
               (i32.store offset=12 (global.get $out) (i32.const 2))";
    let guest = Guest { module: "(data (i32.const 4096) \"no\")".into(), new_call: own.into(), ..Guest::counting() };
    let mut world = World::new();
    world.activate("a.example", 1, &guest);
    assert_eq!(world.ask(session(1), new_call("a.example")), Err(HookFailure::Refused { message: "no".into() }));
    assert_eq!(world.count(session(1)), 402);
}

#[test]
fn what_guests_write_is_kept_for_the_tenant() {
    let mut world = World::new();
    world.activate("a.example", 1, &testing::flooding());
    assert!(world.ask(session(1), new_call("a.example")).is_ok());
    let lines = world.guests.log("a.example");
    assert_eq!((lines[0].level, lines[0].session_id.as_str(), lines[0].text.len()), ("info", "s-1", 99));
    assert!(lines.len() <= super::limits::LOG_KEPT);
    let kept = lines.iter().filter(|line| line.level == "info").count();
    let stats = world.stats("a.example");
    assert_eq!(stats.log_lines_dropped as usize + kept, 10_000);
    assert!(world.guests.log("b.example").is_empty());
}

#[test]
fn every_question_is_answered_once_over_many_sessions_and_threads() {
    let mut world = World::with(Options { threads: 2, instances: 8, priority: Priority::Usual, ..Options::default() });
    world.activate("a.example", 1, &fragile());
    let mut open = std::collections::BTreeSet::new();
    for round in 0..6 {
        for slot in 0..12 {
            let hook = if (slot + round) % 3 == 0 { ivr("a.example") } else { call_event("a.example") };
            open.insert(world.send(session(slot), hook, LONG));
        }
    }
    while !open.is_empty() {
        let (id, _) = world.verdict();
        assert!(open.remove(&id), "{id:?} was answered twice");
    }
    assert!(world.inputs.try_recv().is_err());
}

#[test]
fn the_adapter_answers_as_the_room_does() {
    let mut adapter = WasmAdapter::new(Arc::new(fragile().load(&ENGINE)));
    let ask = |hook: Hook| Ask { id: AskId { session: session(1), number: 1 }, domain: "a.example".into(), hook, deadline: LONG };
    assert_eq!(code(&adapter.answer(&ask(new_call("a.example")))), 401);
    adapter.notify(&news("a.example"));
    assert_eq!(code(&adapter.answer(&ask(call_event("a.example")))), 403);
    assert!(matches!(adapter.answer(&ask(ivr("a.example"))), Err(HookFailure::Trap { .. })));
    assert_eq!(code(&adapter.answer(&ask(call_event("a.example")))), 401);
    let mut looping = WasmAdapter::new(Arc::new(testing::looping().load(&ENGINE))).cpu(Duration::from_millis(2));
    assert_eq!(looping.answer(&ask(new_call("a.example"))), Err(HookFailure::Cpu));
}

// ------------------------------------------------------------------------------------------------------------------------ compiling

/// The test binary plays the compiler's process: it runs only this test, which reads its arguments from the environment.
#[test]
fn child_that_compiles() {
    let argument = |name| std::env::var_os(name);
    if let (Some(input), Some(output), Some(cpu)) = (argument("COMPILE_IN"), argument("COMPILE_OUT"), argument("COMPILE_CPU")) {
        let code = compile::compile_component_main(&[input, output, cpu]);
        let ok = format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
        std::process::exit(i32::from(!ok));
    }
}

/// A compiler whose process is this test binary. The paths come as arguments; a shell puts them where the test looks.
fn compiler(data: &std::path::Path) -> Compiler {
    let this = std::env::current_exe().expect("a test runs from a file");
    Compiler::with_program(data, ENGINE.clone(), move || {
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg("COMPILE_IN=\"$1\" COMPILE_OUT=\"$2\" COMPILE_CPU=\"$3\" exec \"$0\" --exact guest::tests::child_that_compiles --nocapture --quiet");
        command.arg(&this);
        Ok(command)
    })
}

#[test]
fn a_component_is_compiled_once_in_another_process_and_then_loaded_from_the_cache() {
    let data = tempfile::tempdir().expect("a folder");
    let component = Guest::counting().component();
    let hash = compile::component_hash(&component);
    let first = compiler(data.path());
    assert!(!first.has(&hash));
    assert_eq!(first.compile(&component).unwrap_or_else(|e| panic!("{e}")).hash(), hash);
    assert!(first.has(&hash));
    // Whoever comes later needs no process.
    let none = Compiler::with_program(data.path(), ENGINE.clone(), || Err(std::io::Error::other("no process")));
    assert!(none.compile(&component).is_ok());
    let left: Vec<_> = std::fs::read_dir(data.path().join("compiled")).expect("a folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "code and digest, nothing else: {left:?}");
    none.forget(&hash);
    assert!(matches!(none.compile(&component), Err(CompileError::Io { .. })));
}

#[test]
fn code_of_another_engine_and_what_a_crash_left_is_swept_away() {
    let data = tempfile::tempdir().expect("a folder");
    let component = Guest::counting().component();
    let compiler = compiler(data.path());
    assert!(compiler.compile(&component).is_ok());
    let folder = data.path().join("compiled");
    let hash = compile::component_hash(&component);
    for ending in ["cwasm", "digest"] {
        std::fs::write(folder.join(format!("{hash}-0000000000000000.{ending}")), b"of another engine").expect("written");
    }
    std::fs::create_dir(folder.join("work-1-0")).expect("made");
    std::fs::write(folder.join("work-1-0").join("in"), b"half").expect("written");
    assert_eq!(compiler.sweep(), 3);
    assert!(compiler.cached(&hash).is_some(), "ours is kept");
    assert_eq!(compiler.sweep(), 0);
}

#[test]
fn damaged_code_in_the_cache_is_compiled_again_and_never_run() {
    let data = tempfile::tempdir().expect("a folder");
    let component = Guest::counting().component();
    let compiler = compiler(data.path());
    assert!(compiler.compile(&component).is_ok());
    let folder = data.path().join("compiled");
    let file = |ending: &str| {
        let mut entries = std::fs::read_dir(&folder).expect("a folder").flatten().map(|e| e.path());
        entries.find(|p| p.extension().is_some_and(|e| e == ending)).expect("an entry")
    };
    let whole = std::fs::read(file("cwasm")).expect("code");
    let digest = std::fs::read(file("digest")).expect("a digest");
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let damages: [(&str, &[u8]); 5] =
        [("cwasm", &changed), ("cwasm", &whole[..whole.len() / 2]), ("cwasm", b""), ("digest", b""), ("digest", &[0; 32])];
    for (ending, bytes) in damages {
        std::fs::write(file(ending), bytes).expect("written");
        assert!(compiler.compile(&component).is_ok(), "{ending} of {} bytes", bytes.len());
        assert!(std::fs::read(file("digest")).expect("a digest").len() == digest.len());
        let none = Compiler::with_program(data.path(), ENGINE.clone(), || Err(std::io::Error::other("no process")));
        assert!(none.compile(&component).is_ok(), "the entry is whole again");
    }
}

#[test]
fn what_is_no_handler_is_refused_before_a_process_is_started() {
    let data = tempfile::tempdir().expect("a folder");
    let none = Compiler::with_program(data.path(), ENGINE.clone(), || Err(std::io::Error::other("no process")));
    assert!(matches!(none.compile(b"MZ"), Err(CompileError::Refused(Refusal::NotWasm))));
    assert!(matches!(none.compile(b"\x7fELF\x02"), Err(CompileError::Refused(Refusal::Precompiled))));
}

#[test]
fn a_compiler_that_fails_or_dies_is_told_apart() {
    let data = tempfile::tempdir().expect("a folder");
    let component = Guest::counting().component();
    let with = |script: &'static str| {
        let compiler = Compiler::with_program(data.path(), ENGINE.clone(), move || {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(script);
            Ok(command)
        });
        compiler.compile(&component).expect_err("a failure").to_string()
    };
    assert_eq!(with("echo 'offset 12: too odd' >&2; exit 1"), "offset 12: too odd");
    assert_eq!(with("kill -XCPU $$"), "takes more than 60 s of CPU time to compile");
    assert_eq!(with("kill -ABRT $$"), "needs more than 2048 MB of memory to compile");
    assert_eq!(with("kill -XFSZ $$"), "its native code is larger than 256 MB");
    assert!(with("kill -9 $$").contains("ended by itself (signal: 9"));
    assert!(with("exit 0").contains("cannot read the compiled code"));
    assert!(with("while :; do echo complaint; done | head -c 1000000 >&2; exit 1").len() <= super::limits::COMPILE_MESSAGE);
}

#[test]
fn the_compilers_process_refuses_odd_arguments_and_files() {
    // `compile_component_main` bounds its own process, so only what comes before that is asked here.
    for args in [&["one"][..], &["in", "out"], &["in", "out", "soon"], &["in", "out", "0"], &["in", "out", "1", "more"]] {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let usage = compile::compile_component_main(&args);
        assert_eq!(format!("{usage:?}"), format!("{:?}", std::process::ExitCode::from(2)), "{args:?}");
    }
}
