//! Guests, good and bad, in a real engine: what comes back is a value that says what happened, and the next call is well.

use hookswitch_wasm::testing::{self, Guest};
use hookswitch_wasm::{Engine, Failure, Host, Instance, Level, Module, Options, Setup, limits, wit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// One pool for all tests, small enough for any machine.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::start(Options { instances: 64 }).expect("an engine"));

#[derive(Default)]
struct Desk {
    lines: Mutex<Vec<(Level, String)>>,
    dropped: AtomicUsize,
}

impl Host for Desk {
    fn log(&self, level: Level, line: &str) {
        self.lines.lock().unwrap().push((level, line.to_owned()));
    }
    fn log_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
    fn config(&self, key: &str) -> Option<String> {
        (key == "greeting").then(|| "hello".into())
    }
    fn now_ms(&self) -> u64 {
        1_795_000_000_000
    }
}

/// Longer than any test may take.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn setup() -> Setup {
    Setup::new(Arc::new(Desk::default()), [7; 32])
}

async fn fresh(module: &Module) -> Instance {
    Instance::new(module, setup(), far()).await.unwrap_or_else(|e| panic!("{e}"))
}

fn info() -> wit::SessionInfo {
    wit::SessionInfo {
        session_id: "5a3f".into(),
        session_reference: None,
        domain: "demo.localhost".into(),
        ivr_server: "127.0.0.1".into(),
        trace_id: "trace".into(),
        site_id: None,
        transaction_id: "transaction".into(),
        restarted: false,
        extra: vec![],
    }
}

fn new_call() -> wit::NewCallRequest {
    wit::NewCallRequest {
        info: info(),
        participant_id: "p1".into(),
        sip_call_id: "c1".into(),
        calling_party_privacy: wit::Privacy::Public,
        calling_party: "100".into(),
        display_name: Some("Alice".into()),
        from_user: "100".into(),
        x_headers: vec![("x-dest".into(), "sip:1".into())],
        p_headers: vec![],
        called_party: "ivr".into(),
        diversion_headers: None,
        referred_by: None,
        pai_number: None,
        subject: None,
        src_addr: "127.0.0.1".into(),
        extra: vec![],
    }
}

fn call_event() -> wit::CallEventRequest {
    wit::CallEventRequest {
        info: info(),
        event: wit::CallEventKind::CallingPartyDrop,
        connection_id: "k1".into(),
        participant_id: "p1".into(),
        user: "100".into(),
        remote_participant_id: "p2".into(),
        remote_user: "200".into(),
        reply_id: "r1".into(),
        sip_code: None,
        reason_text: None,
        q850: Some(16),
        extra: vec![],
    }
}

fn ivr_request() -> wit::IvrRequest {
    wit::IvrRequest {
        info: info(),
        participant_id: "p1".into(),
        reply_id: "r1".into(),
        dtmf_buffer: None,
        dtmf_params: None,
        recording: None,
        interrupted: false,
        extra: vec![],
    }
}

fn code(routing: &wit::Routing) -> Option<u16> {
    match routing {
        wit::Routing::Drop(wit::DropAction { drop_code: Some(wit::DropCode::SipCode(code)), .. }) => Some(*code),
        _ => None,
    }
}

async fn fails(guest: &Guest) -> Failure {
    let module = guest.load(&ENGINE);
    let failure = match fresh(&module).await.new_call(&new_call(), far()).await {
        Ok((_, answer)) => panic!("answered {answer:?}"),
        Err(failure) => failure,
    };
    // Whatever it did, the next call is well.
    let good = Guest::dropping(486).load(&ENGINE);
    let (_, answer) = fresh(&good).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer.ok().as_ref().and_then(code), Some(486));
    failure
}

#[tokio::test]
async fn hooks_answer_and_one_instance_keeps_its_memory() {
    let module = Guest::counting().load(&ENGINE);
    assert!(module.takes_notifications());
    assert_eq!(module.optional_exports(), ["notifications"]);
    let instance = fresh(&module).await;
    let (instance, first) = instance.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let (instance, command) = instance.get_ivr_command(&ivr_request(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let command = command.unwrap();
    assert!(command.phrases.is_empty() && command.dtmf.is_none() && !command.hangup);
    let news = wit::Notification::Timer(wit::Timer { info: info(), name: "t".into() });
    let (instance, _) = instance.notify(&news, far()).await.unwrap_or_else(|e| panic!("{e}"));
    let (_, last) = instance.call_event(&call_event(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((code(&first.unwrap()), code(&last.unwrap())), (Some(401), Some(404)));
    let (_, again) = fresh(&module).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(code(&again.unwrap()), Some(401), "a fresh instance begins from nothing");
}

#[tokio::test]
async fn a_guest_without_notifications_is_left_alone() {
    let module = Guest::dropping(486).load(&ENGINE);
    assert!(!module.takes_notifications());
    let news = wit::Notification::Timer(wit::Timer { info: info(), name: "t".into() });
    assert!(fresh(&module).await.notify(&news, far()).await.is_ok());
}

fn remote_call() -> wit::RemoteCallRequest {
    wit::RemoteCallRequest {
        info: info(),
        reply_id: "r1".into(),
        call_id: "c1".into(),
        codec: "PCMA".into(),
        destination_uri: "sip:d1@demo.localhost".into(),
        source_user: "100".into(),
        remote_rtp_ip: "127.0.0.1".into(),
        remote_rtp_port: 4000,
        extra: vec![],
    }
}

#[tokio::test]
async fn a_guest_without_remote_call_hears_of_a_devices_call_as_news() {
    // It drops with what the news are: their case is the first thing in them.
    let reads = "(global.set $case (i32.load8_u (local.get $in)))";
    let guest = Guest {
        module: "(global $case (mut i32) (i32.const 255))".into(),
        call_event: "(call $drop_with (i32.add (i32.const 400) (global.get $case)))".into(),
        notify: Some(reads.into()),
        ..Guest::default()
    };
    let module = guest.load(&ENGINE);
    assert_eq!(module.optional_exports(), ["notifications"]);
    let (instance, answer) = fresh(&module).await.new_remote_call(&remote_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answer.unwrap().session_reference, None);
    let (_, heard) = instance.call_event(&call_event(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let news = wit::Notification::NewRemoteCall(remote_call());
    let (instance, _) = fresh(&module).await.notify(&news, far()).await.unwrap_or_else(|e| panic!("{e}"));
    let (_, told) = instance.call_event(&call_event(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let (heard, told) = (code(&heard.unwrap()), code(&told.unwrap()));
    assert!(heard == told && heard.is_some_and(|code| code < 655), "{heard:?}, {told:?}");
    // One that takes no news is left alone.
    let (_, answer) =
        fresh(&Guest::dropping(486).load(&ENGINE)).await.new_remote_call(&remote_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(answer.is_ok());
}

#[tokio::test]
async fn a_loop_uses_up_its_cpu_time() {
    assert_eq!(fails(&testing::looping()).await, Failure::Cpu);
}

#[tokio::test]
async fn a_loop_in_the_start_code_uses_up_its_cpu_time() {
    let guest = Guest { module: "(func $forever (loop $again (br $again))) (start $forever)".into(), ..Guest::default() };
    let module = guest.load(&ENGINE);
    assert_eq!(Instance::new(&module, setup(), far()).await.err(), Some(Failure::Cpu));
}

#[tokio::test]
async fn a_loop_with_cpu_time_to_spare_ends_at_the_deadline_and_lets_others_run() {
    let module = testing::looping().load(&ENGINE);
    let setup = Setup { cpu: Duration::from_secs(3600), ..setup() };
    let instance = Instance::new(&module, setup, far()).await.unwrap_or_else(|e| panic!("{e}"));
    let other = Guest::dropping(486).load(&ENGINE);
    let looping = tokio::spawn(async move { instance.new_call(&new_call(), Instant::now() + Duration::from_millis(50)).await.err() });
    // On the same thread: only a guest that gives way lets this one run before the deadline.
    let (_, answer) = fresh(&other).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(answer.is_ok());
    assert_eq!(looping.await.unwrap(), Some(Failure::Deadline));
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_one_even_before_the_first_instruction_ran_long() {
    let module = testing::looping().load(&ENGINE);
    let failure = fresh(&module).await.new_call(&new_call(), Instant::now() - Duration::from_secs(1)).await.err();
    assert_eq!(failure, Some(Failure::Deadline));
}

#[tokio::test]
async fn a_trap_is_a_value_with_a_backtrace() {
    let Failure::Trap { message } = fails(&testing::trapping()).await else { panic!("not a trap") };
    assert!(message.contains("unreachable"), "{message}");
    assert!(message.contains("broken_on_purpose"), "{message}");
    assert!(message.len() <= limits::TRAP_TEXT && !message.contains('\n'), "{message}");
}

#[tokio::test]
async fn recursion_ends_at_the_stack_limit() {
    assert_eq!(fails(&testing::recursing()).await, Failure::Limit { name: "stack" });
}

#[tokio::test]
async fn memory_is_limited_in_the_sum_of_all_memories() {
    let module = testing::hogging().load(&ENGINE);
    let (instance, answer) = fresh(&module).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let mib = code(&answer.unwrap()).unwrap() - 400;
    assert_eq!(mib, 15, "the sixteenth MiB would have crossed the limit, with the pages it was born with");
    assert!(instance.memory() <= limits::MEMORY_BYTES);
}

#[tokio::test]
async fn a_guest_that_aborts_for_want_of_memory_fails_by_that_name() {
    assert_eq!(fails(&testing::starving()).await, Failure::Limit { name: "memory" });
}

#[tokio::test]
async fn a_guest_that_is_born_too_large_fails_by_name() {
    let guest = Guest { memory: "(memory (export \"memory\") 300)".into(), ..Guest::default() };
    let module = guest.load(&ENGINE);
    assert_eq!(Instance::new(&module, setup(), far()).await.err(), Some(Failure::Limit { name: "memory" }));
}

#[tokio::test]
async fn a_case_that_does_not_exist_is_a_trap() {
    assert!(matches!(fails(&testing::babbling()).await, Failure::Trap { message } if message.contains("discriminant")));
}

#[tokio::test]
async fn an_answer_that_would_fill_the_nodes_memory_is_stopped_while_it_is_copied() {
    let failure = fails(&testing::inflating()).await;
    assert!(matches!(&failure, Failure::Limit { name: "size of the answer" }), "{failure:?}");
}

#[tokio::test]
async fn a_pointer_out_of_memory_is_a_trap() {
    let guest = Guest::each("(return (i32.const 0x7ffffff8))");
    assert!(matches!(fails(&guest).await, Failure::Trap { message } if message.contains("pointer") || message.contains("bounds")));
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_a_trap() {
    // The session reference of the drop action: its case at 40, pointer at 44, length at 48.
    let guest = Guest {
        module: "(data (i32.const 4096) \"\\ff\\fe\")".into(),
        ..Guest::each(
            "(i32.store8 offset=40 (global.get $out) (i32.const 1)) (i32.store offset=44 (global.get $out) (i32.const 4096))
             (i32.store offset=48 (global.get $out) (i32.const 2))",
        )
    };
    assert!(matches!(fails(&guest).await, Failure::Trap { message } if message.to_lowercase().contains("utf-8")));
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    let module = testing::flooding().load(&ENGINE);
    let desk = Arc::new(Desk::default());
    let instance = Instance::new(&module, Setup::new(desk.clone(), [1; 32]), far()).await.unwrap_or_else(|e| panic!("{e}"));
    let (_, answer) = instance.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(answer.is_ok());
    let lines = desk.lines.lock().unwrap();
    let kept: usize = lines.iter().map(|(_, line)| line.len()).sum();
    assert!(lines.iter().all(|(level, _)| matches!(level, Level::Info)));
    assert!(kept > 0 && kept <= limits::LOG_BYTES, "{kept} bytes kept");
    assert_eq!(desk.dropped.load(Ordering::Relaxed) + lines.len(), 10_000);
}

#[tokio::test]
async fn nothing_of_an_instance_is_left_for_the_next_one_in_its_place() {
    let engine = Engine::start(Options { instances: 1 }).expect("an engine");
    let module = testing::spying().load(&engine);
    for _ in 0..3 {
        let (writer, _) = fresh(&module).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        // The check itself works: the writer finds what it wrote.
        let (writer, found) = writer.call_event(&call_event(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(code(&found.unwrap()), Some(600));
        drop(writer);
        let (_, found) = fresh(&module).await.call_event(&call_event(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(code(&found.unwrap()), Some(404));
    }
}

#[tokio::test]
async fn nor_for_one_of_another_module_in_what_it_grows() {
    let engine = Engine::start(Options { instances: 1 }).expect("an engine");
    // From the second page on, which nobody was born with.
    let each = |pages: usize, what: &str| {
        format!(
            "(drop (memory.grow (i32.const {}))) (local.set $i (i32.const 131072))
             (loop $next {what} (local.set $i (i32.add (local.get $i) (i32.const 8))) (br_if $next (i32.lt_u (local.get $i) (i32.const {}))))",
            pages - 2,
            pages << 16
        )
    };
    let fills = Guest { new_call: each(66, "(i64.store (local.get $i) (i64.const 0x5ec2e75ec2e75ec2))"), ..Guest::default() }.load(&engine);
    let found = "(if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then (call $drop_with (i32.const 600)) (return (global.get $out))))";
    let looks = Guest { new_call: each(101, found) + "(call $drop_with (i32.const 404))", ..Guest::default() }.load(&engine);
    for _ in 0..3 {
        let (writer, _) = fresh(&fills).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(writer.memory(), 66 << 16);
        drop(writer);
        let (reader, found) = fresh(&looks).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((code(&found.unwrap()), reader.memory()), (Some(404), 101 << 16));
        drop(reader);
    }
}

#[tokio::test]
async fn a_full_pool_is_no_instance_by_name() {
    let engine = Engine::start(Options { instances: 1 }).expect("an engine");
    let module = Guest::dropping(486).load(&engine);
    let first = fresh(&module).await;
    assert!(matches!(Instance::new(&module, setup(), far()).await.err(), Some(Failure::NoInstance { .. })));
    drop(first);
    assert!(Instance::new(&module, setup(), far()).await.is_ok());
}

#[tokio::test]
async fn a_dropped_call_takes_its_instance_along_and_frees_its_place() {
    let engine = Engine::start(Options { instances: 1 }).expect("an engine");
    let module = testing::looping().load(&engine);
    let setup = Setup { cpu: Duration::from_secs(3600), ..setup() };
    let instance = Instance::new(&module, setup, far()).await.unwrap_or_else(|e| panic!("{e}"));
    let call = tokio::spawn(async move { instance.new_call(&new_call(), far()).await.is_ok() });
    tokio::task::yield_now().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert!(Instance::new(&module, self::setup(), far()).await.is_ok());
}

#[tokio::test]
async fn imports_that_this_node_does_not_have_say_so() {
    // secrets.get: flat result is by pointer. A result<string, host-error> whose case is 1 (error), case 0 of it: unsupported.
    let guest = Guest {
        imports: "(import \"hookswitch:call/secrets@0.1.0\" \"get\" (func $secret (param i32 i32 i32)))".into(),
        ..Guest::each(
            "(call $secret (i32.const 4096) (i32.const 1) (i32.const 8192))
             (call $drop_with (i32.add (i32.const 400) (i32.add
                (i32.mul (i32.load8_u (i32.const 8192)) (i32.const 10)) (i32.load8_u (i32.const 8196)))))",
        )
    };
    let module = guest.load(&ENGINE);
    let (_, answer) = fresh(&module).await.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(code(&answer.unwrap()), Some(410));
}

#[tokio::test]
async fn randomness_differs_between_seeds_and_repeats_with_one() {
    let guest = Guest {
        imports: "(import \"hookswitch:call/random@0.1.0\" \"get-u64\" (func $random (result i64)))".into(),
        ..Guest::each("(call $drop_with (i32.and (i32.wrap_i64 (call $random)) (i32.const 0xffff)))")
    };
    let module = guest.load(&ENGINE);
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let setup = Setup { seed: [seed; 32], ..setup() };
        let instance = Instance::new(&module, setup, far()).await.unwrap_or_else(|e| panic!("{e}"));
        let (instance, one) = instance.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        let (_, two) = instance.new_call(&new_call(), far()).await.unwrap_or_else(|e| panic!("{e}"));
        seen.push((code(&one.unwrap()), code(&two.unwrap())));
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    assert_ne!(seen[0].0, seen[0].1);
}
