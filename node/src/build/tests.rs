//! Folders and refusals; the slow half, which runs cargo, is what `make guests` does and is asked for by name.

use super::*;

/// The binary format's preamble: layer 1, a component, where a core module has layer 0.
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x0d\0\x01\0")
}

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk")
}

#[test]
fn a_new_guest_names_itself_and_its_sdk() {
    let folder = tempfile::tempdir().expect("a folder");
    let created = new(&folder.path().join("my-line"), None, Language::Rust, Some(&sdk())).expect("a guest");
    assert_eq!(created.name, "my-line");
    let manifest: toml::Table = std::fs::read_to_string(created.dir.join("Cargo.toml")).expect("written").parse().expect("TOML");
    assert_eq!(manifest["package"]["name"].as_str(), Some("my-line"));
    assert_eq!(manifest["dependencies"]["hookswitch-sdk"]["path"].as_str(), created.sdk.as_deref().and_then(Path::to_str));
    for file in ["src/lib.rs", "README.md", "rust-toolchain.toml", ".gitignore", "Cargo.lock"] {
        let text = std::fs::read_to_string(created.dir.join(file)).expect(file);
        assert!(!text.contains("@NAME@") && !text.contains("@SDK@"), "{file}");
    }
    let again = new(&created.dir, None, Language::Rust, Some(&sdk())).expect_err("the folder is not empty");
    assert!(matches!(again, BuildError::Exists(_)), "{again}");
}

#[test]
fn a_new_guest_of_any_language_is_known_by_its_files() {
    for language in Language::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let created = new(&folder.path().join("my-line"), None, language, Some(&sdk())).expect("a guest");
        assert_eq!(Language::of(&created.dir), Some(language));
        let mut files = vec![created.dir.clone()];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                assert!(!text.contains("@NAME@") && !text.contains("@SDK@"), "{}", path.display());
            }
        }
        // The contract that it is built against is this binary's.
        if language != Language::Rust {
            let types = std::fs::read_to_string(created.dir.join("hookswitch/wit/types.wit")).expect("written");
            assert_eq!(types, include_str!("../../../wit/types.wit"));
        }
    }
}

#[test]
fn a_missing_compiler_is_named_with_the_command_that_installs_it() {
    for (language, tool, command) in [
        (Language::Js, "componentize-qjs is not installed", "npm ci"),
        (Language::Python, "componentize-py is not installed", "pip install --require-hashes -r requirements.txt"),
        (Language::C, "python-zig is not installed", "pip install --require-hashes -r requirements.txt"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let created = new(&folder.path().join("my-line"), None, language, None).expect("a guest");
        // No test changes the search path of the others: one that has the compiler builds.
        if let Err(error) = build(&created.dir) {
            let error = error.to_string();
            assert!(error.contains(tool) && error.contains(command) && !error.contains('\n'), "{error}");
        }
    }
}

#[test]
fn a_new_guest_is_refused_for_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["", "9lives", "Upper", "a b", "a/b", "core", "é"] {
        let error = new(&folder.path().join("x"), Some(name), Language::Rust, Some(&sdk())).expect_err(name);
        assert!(matches!(error, BuildError::Name(_)), "{name}: {error}");
    }
    let error = new(&folder.path().join("x"), None, Language::Rust, Some(folder.path())).expect_err("no SDK there");
    assert!(matches!(error, BuildError::NoSdk(_)) && error.to_string().contains("--sdk"), "{error}");
    assert!(!folder.path().join("x").exists(), "a refusal leaves nothing behind");
}

#[test]
fn a_folder_without_a_guest_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(build(folder.path()), Err(BuildError::NoGuest(_))));
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    std::fs::write(folder.path().join("src/lib.rs"), "").expect("a file");
    std::fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"plain\"\nedition = \"2024\"\n[workspace]\n").expect("a file");
    let error = build(folder.path()).expect_err("no cdylib");
    assert!(error.to_string().contains("cdylib"), "{error}");
    std::fs::write(folder.path().join("Cargo.toml"), "[package\n").expect("a file");
    let error = build(folder.path()).expect_err("no TOML");
    assert!(matches!(&error, BuildError::Manifest { .. }) && !error.to_string().contains('\n'), "{error}");
}

#[test]
fn what_is_no_guest_is_explained_in_one_line() {
    for module in [&b"\0asm\x01\0\0\0"[..], b"RIFF", b"", b"\0asm\x01\0\0\0\x05\xff"] {
        match componentize(module) {
            // An empty module has nothing to export: a component, but none that the node takes.
            Ok(component) => assert!(is_component(&component)),
            Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why}"),
        }
    }
}

#[test]
fn a_check_says_why_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.wasm");
    let refused = |content: &[u8], limit| {
        std::fs::write(&file, content).expect("a file");
        check(&file, limit).expect_err("refused").to_string()
    };
    for (content, why) in [(&b"RIFF"[..], "not WebAssembly"), (b"\0asm\x01\0\0\0", "guest build"), (b"\0asm\x0d\0\x01\0", "handler")] {
        let line = refused(content, 1000);
        assert!(line.contains(why) && line.contains("x.wasm") && !line.contains('\n'), "{line}");
    }
    assert!(refused(b"\0asm\x0d\0\x01\0", 4).contains("limit is 4"));
    assert!(matches!(check(&folder.path().join("none"), 1000), Err(BuildError::Io { .. })));
}

#[test]
fn folders_of_guests_are_found_in_order() {
    let names: Vec<_> = guests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples"))
        .expect("the folder")
        .iter()
        .filter_map(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()))
        .collect();
    assert!(names.is_sorted() && names.iter().any(|name| name == "menu"), "{names:?}");
}

/// The largest an example may be: what a tenant uploads, and what is compiled and mapped for it.
const EXAMPLE_BYTES: usize = 100 * 1024;
/// Those that read and write JSON of somebody else's design.
const JSON_EXAMPLES: [&str; 2] = ["aculab-record", "webhook"];
const JSON_EXAMPLE_BYTES: usize = 350 * 1024;

#[test]
fn every_rust_example_builds_to_a_small_component() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples");
    let built = build_all(&examples, Language::Rust).expect("all build");
    assert!(!built.is_empty());
    for component in built {
        let json = JSON_EXAMPLES.iter().any(|name| component.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
        let report = check(&component, if json { JSON_EXAMPLE_BYTES } else { EXAMPLE_BYTES }).expect("the node takes it");
        println!("{report}\n");
        let ours = |name: &String| name.starts_with("hookswitch:call/");
        assert!(report.inspection.imports.iter().chain(&report.inspection.exports).all(ours), "{report}");
    }
}

#[test]
fn a_new_guest_builds_from_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let created = new(&folder.path().join("fresh"), None, Language::Rust, None).expect("a guest");
    let component = build(&created.dir).expect("a component");
    assert_eq!(component.file_name().and_then(|name| name.to_str()), Some("fresh.component.wasm"));
    check(&component, EXAMPLE_BYTES).expect("the node takes it");
}

/// A tenant's log, and nothing else.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<String>>);

impl hookswitch_wasm::Host for Heard {
    fn log(&self, level: hookswitch_wasm::Level, line: &str) {
        self.0.lock().expect("nobody panics with it").push(format!("{level:?}: {line}"));
    }
    fn log_dropped(&self) {}
    fn config(&self, _key: &str) -> Option<String> {
        None
    }
    fn now_ms(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn the_tenant_reads_where_a_guest_panicked() {
    use hookswitch_wasm::{Engine, Instance, Options, Setup, code_digest, content_hash, wit, wrap};
    let folder = tempfile::tempdir().expect("a folder");
    let created = new(&folder.path().join("panics"), None, Language::Rust, None).expect("a guest");
    let handler = "use hookswitch_sdk::*;
        #[derive(Default)]
        struct Panics;
        impl Handler for Panics {
            fn new_call(&mut self, call: &NewCall) -> Result<Route> {
                log::info!(\"{} calls {}\", call.calling_party, call.called_party);
                if call.called_party == \"panic\" { panic!(\"no such number\") }
                Ok(Route::redirect([\"sip:a@b\", \"sip:c@d\"]).remember(\"7\"))
            }
        }
        impl CallIdentifier for Panics {
            fn get_call_identifier(&mut self, _request: &types::CallIdentifierRequest) -> Result<Option<String>> { Ok(None) }
        }
        impl RemoteCall for Panics {
            fn new_remote_call(&mut self, _call: &types::RemoteCallRequest) -> Result<Option<String>> { Ok(None) }
        }
        export!(Panics, call_identifier, remote_call);";
    std::fs::write(created.dir.join("src/lib.rs"), handler).expect("a file");
    let report = check(&created.dir, EXAMPLE_BYTES).expect("the node takes it");
    assert_eq!(report.inspection.exports.len(), 4, "{report}");
    let component = std::fs::read(report.path).expect("a file");

    let engine = Engine::start(Options { instances: 2 }).expect("an engine");
    let code = engine.compile(&component).expect("compiles");
    let hash = content_hash(&component);
    let digest = code_digest(engine.compatibility(), &hash, &code);
    let module = engine.load(&wrap(engine.compatibility(), &hash, &code), &digest).expect("loads");
    let heard = std::sync::Arc::new(Heard::default());
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let ask = async |called: &str| {
        let info = wit::SessionInfo {
            session_id: "1".into(),
            session_reference: None,
            domain: "d".into(),
            ivr_server: String::new(),
            trace_id: String::new(),
            site_id: None,
            transaction_id: String::new(),
            restarted: false,
            extra: Vec::new(),
        };
        let request = wit::NewCallRequest {
            info,
            participant_id: String::new(),
            sip_call_id: String::new(),
            calling_party_privacy: wit::Privacy::Public,
            calling_party: "alice".into(),
            display_name: None,
            from_user: "alice".into(),
            x_headers: vec![("x-a".into(), "1".into())],
            p_headers: Vec::new(),
            called_party: called.into(),
            diversion_headers: None,
            referred_by: None,
            pai_number: None,
            subject: None,
            src_addr: String::new(),
            extra: Vec::new(),
        };
        let instance = Instance::new(&module, Setup::new(heard.clone(), [7; 32]), until).await.expect("an instance");
        instance.new_call(&request, until).await.map(|(_, answer)| answer)
    };
    match ask("bob").await {
        Ok(Ok(wit::Routing::Redirect(answer))) => {
            assert_eq!((answer.status, answer.contacts), (302, vec!["sip:a@b".to_string(), "sip:c@d".to_string()]));
            assert_eq!(answer.session_reference.as_deref(), Some("7"));
        }
        other => panic!("{other:?}"),
    }
    assert!(ask("panic").await.is_err(), "a panic traps");
    let heard = heard.0.lock().expect("nobody panics with it");
    assert_eq!(heard[..2], ["Level::Info: alice calls bob", "Level::Info: alice calls panic"]);
    assert!(heard[2].starts_with("Level::Error: panicked at src/lib.rs:7") && heard[2].contains("no such number"), "{heard:?}");
}
