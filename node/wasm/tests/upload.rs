//! What may be uploaded, and what compiled code may be loaded.

use hookswitch_wasm::testing::Guest;
use hookswitch_wasm::{Engine, LoadError, Options, Refusal, code_digest, content_hash, inspect, limits, wrap};

fn refusal(file: &[u8]) -> Refusal {
    inspect(file, limits::COMPONENT_BYTES).expect_err("a refusal")
}

/// A component in text.
fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_handler_is_accepted_and_described() {
    let file = Guest::counting().component();
    let seen = inspect(&file, limits::COMPONENT_BYTES).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(seen.hash, content_hash(&file));
    assert!(seen.exports.contains(&"hookswitch:call/handler@0.1.0".to_owned()), "{:?}", seen.exports);
    assert!(seen.exports.contains(&"hookswitch:call/notifications@0.1.0".to_owned()));
    assert_eq!((seen.core_modules, seen.memories), (1, 1));
}

#[test]
fn what_is_no_component_is_refused_by_kind() {
    assert_eq!(refusal(b""), Refusal::NotWasm);
    assert_eq!(refusal(b"<html>"), Refusal::NotWasm);
    assert_eq!(refusal(b"\x7fELF\x02\x01\x01"), Refusal::Precompiled);
    assert_eq!(refusal(&wat::parse_str("(module)").unwrap()), Refusal::CoreModule);
    assert_eq!(inspect(&[0; 11], 10), Err(Refusal::TooLarge { bytes: 11, limit: 10 }));
}

#[test]
fn a_cut_or_changed_component_is_refused_and_never_a_panic() {
    let file = Guest::counting().component();
    // A cut between two sections at the end, which only describe it, leaves a component.
    for length in (0..file.len()).step_by(7) {
        let seen = inspect(&file[..length], limits::COMPONENT_BYTES);
        assert!(seen.is_err() || length > file.len() / 2, "cut at {length}");
    }
    // A changed byte gives an answer, whichever. Every thirteenth: all of them take 20 s.
    for at in (0..file.len()).step_by(13) {
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        let _ = inspect(&changed, limits::COMPONENT_BYTES);
    }
}

const OFFERED: &str = "hookswitch:call 0.1.x: config, log, clock, random, calls, recordings, prompts, store, http, outbox, secrets, timers";
const HANDLER: &str = "(instance $i) (export \"hookswitch:call/handler@0.1.0\" (instance $i))";

/// Each refusal as its author reads it: what is wrong, and what this node serves or what to do.
#[test]
fn every_refusal_says_what_is_wrong_and_what_would_do() {
    let text = |text: &str| component(&format!("(component {text})"));
    let export = |name: &str| text(&format!("(instance $i) (export \"{name}\" (instance $i))"));
    let import = |name: &str| text(&format!("(import \"{name}\" (instance)) {HANDLER}"));
    let module = |items: &str| text(&format!("(core module {items}) {HANDLER}"));
    let good = Guest::counting().component();
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("empty", Vec::new(), "not WebAssembly: the file does not begin with \\0asm".into()),
        ("text", b"<html>".to_vec(), "not WebAssembly: the file does not begin with \\0asm".into()),
        ("ELF", b"\x7fELF\x02".to_vec(), "precompiled native code is never accepted; upload the component itself".into()),
        ("our cache", b"hkswcwm1".to_vec(), "precompiled native code is never accepted; upload the component itself".into()),
        ("a core module", component("(module)"), "a core module, not a component: make it one with `hookswitch guest build`".into()),
        ("too large", vec![0; limits::COMPONENT_BYTES + 1], "4194305 bytes; the limit is 4194304".into()),
        ("cut in a section", good[..good.len() / 2].to_vec(), format!("cut short: the file ends at byte {}, in the middle of a section", good.len() / 2)),
        ("cut in the header", good[..6].to_vec(), "cut short: the file ends at byte 6, in the middle of a section".into()),
        ("no exports", text(""), "does not export the interface `hookswitch:call/handler`; it exports nothing. This node serves hookswitch:call 0.1.x".into()),
        (
            "another export",
            export("wasi:cli/run@0.2.0"),
            "does not export the interface `hookswitch:call/handler`; it exports wasi:cli/run@0.2.0. This node serves hookswitch:call 0.1.x".into(),
        ),
        (
            "a bare function",
            text("(type $t (func)) (import \"hookswitch:call/clock@0.1.0\" (instance)) (core module $m (func (export \"f\"))) (core instance $n (instantiate $m)) (func $f (type $t) (canon lift (core func $n \"f\"))) (export \"new-call\" (func $f))"),
            "does not export the interface `hookswitch:call/handler`; it exports new-call. This node serves hookswitch:call 0.1.x".into(),
        ),
        (
            "a newer handler",
            export("hookswitch:call/handler@2.0.0"),
            "exports `hookswitch:call/handler@2.0.0`, but this node serves hookswitch:call 0.1.x: build it against the `wit/` of this release".into(),
        ),
        (
            "a handler without a version",
            export("hookswitch:call/handler"),
            "exports `hookswitch:call/handler`, but this node serves hookswitch:call 0.1.x: build it against the `wit/` of this release".into(),
        ),
        (
            "newer notifications",
            text(&format!("{HANDLER} (export \"hookswitch:call/notifications@0.2.0\" (instance $i))")),
            "exports `hookswitch:call/notifications@0.2.0`, but this node serves hookswitch:call 0.1.x: build it against the `wit/` of this release".into(),
        ),
        (
            "an export that is none",
            text(&format!("{HANDLER} (export \"hookswitch:call/log@0.1.0\" (instance $i))")),
            "exports `hookswitch:call/log@0.1.0`, an interface that handlers do not have; they may export handler, notifications, call-identifier, remote-call of hookswitch:call 0.1.x".into(),
        ),
        ("a hook is missing", text(HANDLER), "`hookswitch:call/handler@0.1.0#new-call` is missing; it is a part of this node's hookswitch:call 0.1: build it against the `wit/` of this release".into()),
        (
            "WASI",
            import("wasi:cli/environment@0.2.0"),
            format!("imports `wasi:cli/environment@0.2.0`, but handlers get no WASI: build JavaScript and Python with `--stub-wasi`, Rust with `hookswitch guest build`; it offers {OFFERED}"),
        ),
        (
            "a newer import",
            import("hookswitch:call/log@0.2.0"),
            "imports `hookswitch:call/log@0.2.0`, but this node serves hookswitch:call 0.1.x: build it against the `wit/` of this release".into(),
        ),
        (
            "an import that is to be exported",
            import("hookswitch:call/handler@0.1.0"),
            "imports `hookswitch:call/handler@0.1.0`, which a handler may export and not import".into(),
        ),
        (
            "an unknown interface of ours",
            import("hookswitch:call/telepathy@0.1.0"),
            format!("imports `hookswitch:call/telepathy@0.1.0`, which this node does not have; it offers {OFFERED}"),
        ),
        ("another package", import("acme:crm/people@1.0.0"), format!("imports `acme:crm/people@1.0.0`, which this node does not have; it offers {OFFERED}")),
        ("a bare import", component("(component (import \"run\" (func)))"), format!("imports `run`, which this node does not have; it offers {OFFERED}")),
        (
            "other components inside",
            text("(component (core module))"),
            "contains other components with code of their own: only a single component is accepted".into(),
        ),
        ("core modules", text(&"(core module)".repeat(9)), "too many core modules: 9; the limit is 8".into()),
        ("nested components", text(&"(component)".repeat(9)), "too many nested components: 9; the limit is 8".into()),
        ("memories", module(&"(memory 1)".repeat(3)), "too many memories: 3; the limit is 2".into()),
        ("tables", module(&"(table 1 funcref)".repeat(9)), "too many tables: 9; the limit is 8".into()),
        (
            "instances",
            text(&format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(65))),
            "too many core instances: 65; the limit is 64".into(),
        ),
        (
            "shared memory",
            module("(memory 1 1 shared)"),
            "uses threads or shared memory, which this node does not run: a handler serves one call; switch them off in the toolchain".into(),
        ),
        ("memory64", module("(memory i64 1)"), "uses 64-bit memory, which this node does not run: build for wasm32".into()),
        (
            "gc",
            module("(type (struct (field i32)))"),
            "uses garbage collection or typed references, which this node does not run: use a toolchain that brings its own memory management".into(),
        ),
        ("exceptions", module("(tag)"), "uses exceptions, which this node does not run: switch that off in the toolchain".into()),
        (
            "async",
            text(&format!("(core func (canon task.return)) {HANDLER}")),
            "uses component-model async, which this node does not run: build JavaScript with `--sync`, and export plain functions".into(),
        ),
    ];
    for (name, file, expected) in cases {
        assert_eq!(refusal(&file).to_string(), expected, "{name}");
    }
    assert!(matches!(refusal(b"\0asm\x0d\0\x01\0garbage"), Refusal::Invalid(_) | Refusal::Truncated(_)));
}

#[test]
fn a_function_of_other_types_is_named() {
    let text = refusal(&component(
        "(component
           (import \"hookswitch:call/clock@0.1.0\" (instance (export \"now-ms\" (func (result u32)))))
           (instance $i) (export \"hookswitch:call/handler@0.1.0\" (instance $i)))",
    ))
    .to_string();
    assert!(text.contains("clock@0.1.0#now-ms") && text.contains("types"), "{text}");
    let text = refusal(&component(
        "(component
           (import \"hookswitch:call/clock@0.1.0\" (instance (export \"tomorrow\" (func (result u64)))))
           (instance $i) (export \"hookswitch:call/handler@0.1.0\" (instance $i)))",
    ))
    .to_string();
    assert!(text.contains("clock@0.1.0#tomorrow"), "{text}");
}

#[test]
fn a_large_file_may_have_more_parts() {
    let mut file = component(&format!("(component {})", "(core module)".repeat(limits::CORE_MODULES + 1)));
    let limit = limits::COMPONENT_BYTES_LARGE;
    assert!(matches!(inspect(&file, limit), Err(Refusal::TooMany { what: "core modules", .. })));
    // A custom section without a name, of more bytes than a component of the standard class has.
    let size = limits::COMPONENT_BYTES as u32 + 1;
    file.push(0);
    file.extend([size as u8 | 0x80, (size >> 7) as u8 | 0x80, (size >> 14) as u8 | 0x80, (size >> 21) as u8]);
    file.resize(file.len() + size as usize, 0);
    assert!(matches!(inspect(&file, limit), Err(Refusal::NoHandler { .. })));
    assert!(matches!(inspect(&file, limits::COMPONENT_BYTES), Err(Refusal::TooLarge { .. })));
}

#[test]
fn compiled_code_is_loaded_only_with_its_digest() {
    let compiler = Engine::compiler().expect("an engine");
    let runner = Engine::start(Options { instances: 4 }).expect("an engine");
    assert_eq!(compiler.compatibility(), runner.compatibility(), "what a child process compiles must load here");
    let file = Guest::dropping(486).component();
    let hash = content_hash(&file);
    let code = compiler.compile(&file).unwrap_or_else(|e| panic!("{e}"));
    let digest = code_digest(compiler.compatibility(), &hash, &code);
    let kept = wrap(compiler.compatibility(), &hash, &code);
    let module = runner.load(&kept, &digest).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(module.hash(), hash);
    assert!(module.code_bytes() > 1000);

    for at in [10, kept.len() / 2, kept.len() - 1] {
        let mut damaged = kept.clone();
        damaged[at] ^= 1;
        assert!(matches!(runner.load(&damaged, &digest), Err(LoadError::Digest | LoadError::Engine)), "changed at {at}");
    }
    assert_eq!(runner.load(&kept[..kept.len() - 1], &digest).err(), Some(LoadError::Digest));
    assert_eq!(runner.load(b"", &digest).err(), Some(LoadError::Digest));
    let other_engine = wrap("0000000000000000", &hash, &code);
    assert_eq!(runner.load(&other_engine, &digest).err(), Some(LoadError::Engine));
}

#[test]
fn garbage_does_not_compile() {
    let compiler = Engine::compiler().expect("an engine");
    assert!(matches!(compiler.compile(b"\0asm\x0d\0\x01\0garbage"), Err(LoadError::Compile(_))));
}
