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
    assert!(matches!(refusal(b"\0asm\x0d\0\x01\0garbage"), Refusal::Invalid(_)));
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

#[test]
fn a_missing_handler_is_named_with_what_there_is() {
    let text = refusal(&component("(component)")).to_string();
    assert!(text.contains("hookswitch:call/handler") && text.contains("exports nothing") && text.contains("0.1.x"), "{text}");
    let text = refusal(&component("(component (instance $i) (export \"wasi:cli/run@0.2.0\" (instance $i)))")).to_string();
    assert!(text.contains("wasi:cli/run@0.2.0"), "{text}");
    let text = refusal(&component("(component (instance $i) (export \"hookswitch:call/handler@2.0.0\" (instance $i)))")).to_string();
    assert!(text.contains("handler@2.0.0") && text.contains("0.1.x"), "{text}");
    let text = refusal(&component("(component (instance $i) (export \"hookswitch:call/handler@0.1.0\" (instance $i)))")).to_string();
    assert!(text.contains("handler@0.1.0#new-call") && text.contains("missing"), "{text}");
}

#[test]
fn a_foreign_import_is_named() {
    for name in ["hookswitch:call/telepathy@0.1.0", "hookswitch:call/log@0.2.0", "hookswitch:call/handler@0.1.0"] {
        let text = refusal(&component(&format!("(component (import \"{name}\" (instance)))"))).to_string();
        assert!(text.contains(name) && text.contains("outbox"), "{text}");
    }
    let text = refusal(&component("(component (import \"wasi:cli/environment@0.2.0\" (instance)))")).to_string();
    assert!(text.contains("wasi:cli/environment@0.2.0") && text.contains("--stub-wasi"), "{text}");
    let text = refusal(&component("(component (import \"run\" (func)))")).to_string();
    assert!(text.contains("`run`"), "{text}");
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
fn too_much_of_anything_is_refused_by_name() {
    let many = |item: &str, n: usize| component(&format!("(component {})", item.repeat(n)));
    assert!(matches!(refusal(&many("(core module)", limits::CORE_MODULES + 1)), Refusal::TooMany { what: "core modules", .. }));
    assert!(matches!(refusal(&many("(component)", limits::NESTED_COMPONENTS + 1)), Refusal::TooMany { what: "nested components", .. }));
    let memories = format!("(component (core module {}))", "(memory 1)".repeat(limits::MEMORIES + 1));
    assert!(matches!(refusal(&component(&memories)), Refusal::TooMany { what: "memories", .. }));
    let tables = format!("(component (core module {}))", "(table 1 funcref)".repeat(limits::TABLES + 1));
    assert!(matches!(refusal(&component(&tables)), Refusal::TooMany { what: "tables", .. }));
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
fn components_within_components_and_threads_are_refused() {
    assert_eq!(refusal(&component("(component (component (core module)))")), Refusal::Composed);
    assert!(matches!(refusal(&component("(component (core module (memory 1 1 shared)))")), Refusal::Invalid(_)));
    assert!(matches!(refusal(&component("(component (core module (memory i64 1)))")), Refusal::Invalid(_)));
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
