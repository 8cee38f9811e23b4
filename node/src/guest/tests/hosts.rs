//! What handlers ask of the node while they decide: settings, secrets, values, requests, and the limits on all of it. Each limit that bites
//! is named where the handler hears of it and in its tenant's log.

use super::*;
use crate::guest::{Secret, Vault};
use crate::limits as node;
use crate::outbox::{Fetcher, Policy, Requests};
use crate::store::{Store, StoreThread, TenantRow};
use hookswitch_wasm::limits as wasm;
use std::collections::BTreeMap;

/// A guest room with all that a node has.
struct Equipped {
    world: World,
    store: Store,
    vault: Vault,
    _thread: StoreThread,
    _folder: tempfile::TempDir,
}

static IO: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

impl Equipped {
    fn new(options: Options) -> Equipped {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        for domain in ["a.example", "b.example"] {
            store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
        }
        let vault = Vault::open(store.clone(), folder.path()).expect("opens");
        let policy = Policy { loopback: Some("a.example"), ..Policy::default() };
        let requests = Requests::new(Fetcher::new(policy, Some(tokio_rustls::rustls::RootCertStore::empty())), IO.handle().clone());
        let (switch, inputs) = SwitchInbox::channel();
        let commands = Commands::new(switch.clone());
        let services =
            Services { store: Some(store.clone()), vault: Some(vault.clone()), requests: Some(requests), ..Services::of(commands.clone()) };
        let world = World { guests: Guests::start(ENGINE.clone(), options, switch, services), commands, inputs, next: 0 };
        Equipped { world, store, vault, _thread: thread, _folder: folder }
    }

    fn patient() -> Equipped {
        Equipped::new(Options { instances: 8, cpu: LONG, priority: crate::net::Priority::Usual, ..Options::default() })
    }

    fn log(&self, domain: &str) -> Vec<String> {
        self.world.guests.log(domain).into_iter().map(|line| format!("{}: {}", line.level, line.text)).collect()
    }
}

/// A function of the contract that takes so many 32-bit values (`i64` at the places that say so) and answers through a pointer.
fn import(interface: &str, function: &str, params: &str) -> String {
    format!("(import \"hookswitch:call/{interface}@0.1.0\" \"{function}\" (func $ask (param {params})))")
}

/// Calls `$ask` so many times in call-event, then drops with 400, or with 410 and the case of the last error. The answer of the kind that
/// has its error at `error_at` is at 8192.
fn asking(import: String, data: &str, call: &str, times: usize, error_at: u32) -> Guest {
    Guest {
        imports: import,
        module: format!("(data (i32.const 4096) \"{data}\")"),
        call_event: format!(
            "(loop $next
               {call}
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $i) (i32.const {times}))))
             (call $drop_with (i32.add (i32.const 400) (i32.mul (i32.load8_u (i32.const 8192))
                (i32.add (i32.const 10) (i32.load8_u (i32.const {}))))))",
            8192 + error_at
        ),
        ..Guest::default()
    }
}

const LIMIT: u16 = 416;

/// Looks at a key that is none: what counts is that it looked.
fn looking(times: usize) -> Guest {
    // An entry has a 64-bit version, so what is in the answer begins at 8.
    let call = "(call $ask (i32.const 4096) (i32.const 0) (i32.const 8192))";
    asking(import("store", "get", "i32 i32 i32"), "k", call, times, 8)
}

fn setting() -> Guest {
    let call = "(call $ask (i32.const 4096) (i32.const 1) (i32.const 4096) (i32.const 1024) (i32.const 0) (i64.const 0) (i32.const 8192))";
    asking(import("store", "set", "i32 i32 i32 i32 i32 i64 i32"), "k", call, 1, 4)
}

fn fetching(url: &str, times: usize) -> Guest {
    let length = url.len();
    let call = format!(
        "(call $ask (i32.const 4096) (i32.const 3) (i32.const 4099) (i32.const {length}) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const 1) (i32.const 60000) (i32.const 8192))"
    );
    let params = "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32";
    asking(import("http", "fetch", params), &format!("GET{url}"), &call, times, 4)
}

fn timing() -> Guest {
    let call = "(call $ask (i32.const 4096) (i32.const 1) (i64.const 1000) (i32.const 8192))";
    asking(import("timers", "set", "i32 i32 i64 i32"), "t", call, 1, 4)
}

fn growing_tables() -> Guest {
    Guest {
        module: "(table $grows 1 funcref)".into(),
        ..Guest::each("(loop $more (br_if $more (i32.ne (table.grow $grows (ref.null func) (i32.const 1000)) (i32.const -1))))")
    }
}

/// What one bad guest meets: its answer to call-event, and the line in its tenant's log.
#[track_caller]
fn bites(guest: &Guest, options: Options, deadline: Duration, expected: &str) -> Result<Verdict, HookFailure> {
    let mut equipped = Equipped::new(options);
    equipped.world.activate("a.example", 1, guest);
    equipped.world.send(session(1), call_event("a.example"), deadline);
    let (_, verdict) = equipped.world.verdict();
    let log = equipped.log("a.example");
    assert!(log.iter().any(|line| line.starts_with("node: ") && line.contains(expected)), "{expected}: {log:?}");
    assert!(equipped.log("b.example").is_empty());
    verdict
}

#[test]
fn each_limit_of_a_guest_is_named_in_its_tenants_log() {
    let usual = || Options { instances: 8, priority: crate::net::Priority::Usual, ..Options::default() };
    let patient = || Options { cpu: LONG, ..usual() };
    let memory = format!("limit reached: memory: {} of an instance", wasm::MEMORY_BYTES);
    let tables = format!("limit reached: table elements: {} of an instance", wasm::TABLE_ELEMENTS);
    let log = format!("limit reached: log: {} bytes in a session", wasm::LOG_BYTES);
    let fetches = format!("limit reached: fetches: {} for each hook", wasm::FETCHES);
    // Those that it lives with.
    for (guest, options, expected) in [
        (testing::hogging(), patient(), &memory),
        (growing_tables(), patient(), &tables),
        (testing::flooding(), patient(), &log),
        (fetching("http://127.0.0.1:1/", 5), patient(), &fetches),
    ] {
        let verdict = bites(&guest, options, LONG, expected);
        assert!(verdict.is_ok(), "{expected}: {verdict:?}");
    }
    // And those that cost it its instance.
    let brief = Duration::from_millis(60);
    for (guest, options, deadline, expected, failure) in [
        (testing::starving(), patient(), LONG, "limit reached: memory", HookFailure::Limit { name: "memory" }),
        (testing::recursing(), patient(), LONG, "limit reached: stack", HookFailure::Limit { name: "stack" }),
        (testing::inflating(), patient(), LONG, "limit reached: size of the answer", HookFailure::Limit { name: "size of the answer" }),
        (testing::looping(), usual(), LONG, "CPU time is used up", HookFailure::Cpu),
        (testing::looping(), patient(), brief, "no answer by the deadline", HookFailure::Deadline),
    ] {
        assert_eq!(bites(&guest, options, deadline, expected), Err(failure));
    }
    let none = Options { instances: 0, ..usual() };
    let full = bites(&Guest::counting(), none, LONG, "all 0 instances are in use");
    assert!(matches!(full, Err(HookFailure::Unavailable { .. })), "{full:?}");
}

#[test]
fn each_limit_of_what_a_guest_asks_for_is_an_error_and_in_its_tenants_log() {
    let mut equipped = Equipped::patient();
    let said = |equipped: &Equipped, limit: &str| {
        let line = format!("node: limit reached: {limit}");
        assert!(equipped.log("a.example").contains(&line), "{line}: {:?}", equipped.log("a.example"));
    };
    // Orders of a session.
    equipped.world.activate("a.example", 1, &ordering(super::super::limits::ORDERS_PER_SECOND + 1));
    equipped.world.send(session(1), call_event("a.example"), LONG);
    for _ in 0..super::super::limits::ORDERS_PER_SECOND {
        equipped.world.take_order(Ok(Done::Nothing));
    }
    assert_eq!(code(&equipped.world.verdict().1), LIMIT);
    said(&equipped, "orders: 20 a second in a session");
    // Timers: the switch counts them.
    equipped.world.activate("a.example", 2, &timing());
    equipped.world.send(session(2), call_event("a.example"), LONG);
    let order = equipped.world.take_order(Err(CommandError::Limit("timers: 16 in a session".into())));
    assert!(matches!(order, Order::SetTimer { name, after, .. } if name == "t" && after == Duration::from_secs(1)));
    assert_eq!(code(&equipped.world.verdict().1), LIMIT);
    said(&equipped, "timers: 16 in a session");
    // Bytes of a tenant in the store: all but some hundred are taken, 64 of them for each key.
    let whole = node::STORE_VALUE + 4 + 64;
    let (fit, rest) = (node::STORE_BYTES / whole, node::STORE_BYTES % whole - 500);
    let filled: Vec<_> = (0..fit)
        .map(|n| equipped.store.put_value("a.example", format!("k{n:03}"), vec![0; node::STORE_VALUE], None, None, 0))
        .chain([equipped.store.put_value("a.example", "rest".into(), vec![0; rest - 68], None, None, 0)])
        .collect();
    for put in filled {
        assert_eq!(IO.block_on(put).expect("written"), Ok(true));
    }
    equipped.world.activate("a.example", 3, &setting());
    assert_eq!(equipped.world.count(session(3)), LIMIT);
    said(&equipped, &format!("store: {} bytes of a tenant", node::STORE_BYTES));
    // Looks into it.
    equipped.world.activate("a.example", 4, &looking(node::STORE_RATE as usize * 2));
    assert_eq!(code(&equipped.world.ask(session(4), call_event("a.example"))), LIMIT);
    said(&equipped, &format!("store: {} operations of a tenant a second", node::STORE_RATE));
    assert!(equipped.world.stats("a.example").limited >= 4);
}

#[test]
fn lines_beyond_a_tenants_rate_are_dropped_and_that_is_said_once() {
    let mut equipped = Equipped::patient();
    equipped.world.activate("a.example", 1, &testing::flooding());
    for n in 1..4 {
        equipped.world.count_or_other(session(n));
    }
    let log = equipped.log("a.example");
    let said = log.iter().filter(|line| line.contains("log: 200 lines of a tenant a second")).count();
    assert!((1..=2).contains(&said), "{said} times: {:?}", log.iter().filter(|line| line.starts_with("node")).collect::<Vec<_>>());
    assert!(equipped.world.stats("a.example").log_lines_dropped > 10_000);
}

impl World {
    fn count_or_other(&mut self, session: SessionId) {
        let _ = self.ask(session, call_event("a.example"));
    }
}

#[test]
fn settings_hold_for_a_whole_session_and_are_a_tenants_own() {
    let guest = Guest {
        imports: import("config", "get", "i32 i32 i32"),
        module: "(data (i32.const 4096) \"greeting\")".into(),
        call_event: "(call $ask (i32.const 4096) (i32.const 8) (i32.const 8192))
            (call $drop_with (i32.add (i32.const 400) (i32.mul (i32.load8_u (i32.const 8192)) (i32.load (i32.const 8200)))))"
            .into(),
        ..Guest::default()
    };
    let mut equipped = Equipped::patient();
    for domain in ["a.example", "b.example"] {
        equipped.world.activate(domain, 1, &guest);
    }
    let set = |equipped: &Equipped, value: &str| {
        let of_tenant = BTreeMap::from([("greeting".to_owned(), value.to_owned())]);
        equipped.world.guests.set_settings(BTreeMap::from([("a.example".to_owned(), of_tenant)]));
    };
    set(&equipped, "abc");
    assert_eq!(equipped.world.count(session(1)), 403);
    set(&equipped, "abcde");
    assert_eq!(equipped.world.count(session(1)), 403, "as when it began");
    assert_eq!(equipped.world.count(session(2)), 405);
    assert_eq!(code(&equipped.world.ask(session(3), call_event("b.example"))), 400);
    equipped.world.guests.set_settings(BTreeMap::new());
    assert_eq!(equipped.world.count(session(2)), 405);
    assert_eq!(equipped.world.count(session(4)), 400);
}

/// Asks for the secret `token`, writes it to the log, and fails with it.
fn blabbing() -> Guest {
    let log = "(import \"hookswitch:call/log@0.1.0\" \"write\" (func $log (param i32 i32 i32)))";
    let ask = "(call $ask (i32.const 4096) (i32.const 5) (i32.const 8192))";
    let write = "(call $log (i32.const 1) (i32.load (i32.const 8196)) (i32.load (i32.const 8200)))";
    Guest {
        imports: format!("{} {log}", import("secrets", "get", "i32 i32 i32")),
        module: "(data (i32.const 4096) \"token\")".into(),
        // Drops with 400, or with 410 and the case of the error.
        call_event: format!(
            "{ask} (if (i32.eqz (i32.load8_u (i32.const 8192))) (then {write}))
             (call $drop_with (i32.add (i32.const 400) (i32.mul (i32.load8_u (i32.const 8192))
                (i32.add (i32.const 10) (i32.load8_u (i32.const 8196))))))"
        ),
        // The guest's own failure, whose text is the secret.
        new_call: format!(
            "{ask} (i32.store8 (global.get $out) (i32.const 1))
             (i32.store offset=8 (global.get $out) (i32.load (i32.const 8196)))
             (i32.store offset=12 (global.get $out) (i32.load (i32.const 8200)))"
        ),
        ..Guest::default()
    }
}

#[test]
fn a_secret_is_its_tenants_and_stays_out_of_logs() {
    let mut equipped = Equipped::patient();
    equipped.vault.put("a.example", "token", &Secret::new("s3cr3t-of-a".into()), "test").expect("kept");
    for domain in ["a.example", "b.example"] {
        equipped.world.activate(domain, 1, &blabbing());
    }
    assert_eq!(equipped.world.count(session(1)), 400);
    assert_eq!(equipped.log("a.example"), ["info: [secret]"]);
    const UNKNOWN: u16 = 413;
    assert_eq!(code(&equipped.world.ask(session(2), call_event("b.example"))), UNKNOWN, "another tenant's");
    let failed = equipped.world.ask(session(1), new_call("a.example"));
    assert_eq!(failed, Err(HookFailure::Refused { message: "[secret]".into() }));
    assert!(!format!("{:?} {failed:?}", equipped.log("a.example")).contains("s3cr3t"));
}

#[test]
fn a_request_of_one_guest_holds_up_no_other_and_ends_with_its_hook() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let mut equipped = Equipped::patient();
    equipped.world.activate("a.example", 1, &fetching(&url, 1));
    equipped.world.activate("b.example", 1, &Guest::counting());
    let waiting = equipped.world.send(session(1), call_event("a.example"), LONG);
    let (mut stream, _) = listener.accept().expect("it asks");
    assert_eq!(code(&equipped.world.ask(session(2), call_event("b.example"))), 401, "on the same thread, while it waits");
    // An answer, and it goes on.
    let mut asked = [0; 16];
    stream.read_exact(&mut asked).expect("a request");
    std::io::Write::write_all(&mut stream, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").expect("answered");
    let (id, verdict) = equipped.world.verdict();
    assert_eq!((id, code(&verdict)), (waiting, 400));
    // No answer: what the hook has left is the request's, and a little of it the handler's.
    let brief = equipped.world.send(session(3), call_event("a.example"), Duration::from_millis(200));
    let (mut stream, _) = listener.accept().expect("it asks");
    const TIMEOUT: u16 = 417;
    let (id, verdict) = equipped.world.verdict();
    assert_eq!((id, code(&verdict)), (brief, TIMEOUT));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("closed by the node");
    // Elsewhere it may not ask.
    const DENIED: u16 = 415;
    equipped.world.activate("b.example", 2, &fetching(&url, 1));
    assert_eq!(code(&equipped.world.ask(session(4), call_event("b.example"))), DENIED);
}

#[test]
fn a_log_can_be_followed_by_a_few() {
    let mut equipped = Equipped::patient();
    equipped.world.activate("a.example", 1, &testing::looping());
    equipped.world.guests.complain("a.example", "before");
    let mut follower = equipped.world.guests.follow("a.example").expect("the first");
    assert_eq!(follower.before.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["before"]);
    equipped.world.guests.complain("b.example", "another tenant's");
    equipped.world.send(session(1), call_event("a.example"), Duration::from_millis(20));
    let _ = equipped.world.verdict();
    let line = IO.block_on(follower.lines.recv()).expect("a line");
    assert_eq!((line.level, line.text.as_str()), ("node", "callEvent of version 1: no answer by the deadline"));
    let others: Vec<_> = (1..node::LOG_FOLLOWERS).map(|_| equipped.world.guests.follow("a.example").expect("one more")).collect();
    assert!(equipped.world.guests.follow("a.example").is_none());
    drop(others);
    assert!(equipped.world.guests.follow("a.example").is_some());
}
