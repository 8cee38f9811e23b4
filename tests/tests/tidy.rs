//! Guards the map: the pure rooms stay pure, one room uses wasmtime, files say what they are, limits say why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// The names of all packages that `package` is built from, itself left out.
fn dependencies(package: &str) -> Vec<String> {
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--edges", "normal", "--format", "{p}", "-p", package])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(out.status.success(), "cargo tree -p {package}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("cargo prints UTF-8");
    let mut names: Vec<String> = text.lines().skip(1).filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder of the workspace").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "data" | "node_modules") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    assert!(found.len() > 30, "the walk found only {} files", found.len());
    found
        .into_iter()
        .map(|p| {
            let name = p.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            (name, fs::read_to_string(&p).expect("sources are UTF-8"))
        })
        .collect()
}

#[test]
fn pure_rooms_have_no_io() {
    let banned = ["tokio", "mio", "socket2", "libc", "rusqlite", "axum", "hyper", "wasmtime", "tracing", "rand", "getrandom", "uuid"];
    for package in ["hookswitch-proto", "hookswitch-call", "hookswitch-sim"] {
        let tree = dependencies(package);
        for name in banned {
            assert!(!tree.iter().any(|d| d == name), "{package} depends on {name}");
        }
    }
}

#[test]
fn walls_between_rooms_stand() {
    let depends = |package: &str, on: &str| dependencies(package).iter().any(|d| d == on);
    assert!(!depends("hookswitch-proto", "hookswitch-call"), "proto knows no call");
    assert!(!depends("hookswitch-call", "hookswitch-sim"), "call knows no world to be tested in");
    assert!(!depends("hookswitch-sim", "hookswitch-wasm"), "the simulated world asks any handler, none of wasm");
    assert!(!depends("hookswitch-wasm", "hookswitch-call"), "wasm knows the WIT, not the call");
    assert!(!depends("hookswitch-wasm", "hookswitch-proto"), "wasm knows the WIT, not the wire");
    assert!(!depends("hookswitch-sdk", "hookswitch-call"), "the SDK knows the WIT alone");
    assert!(depends("hookswitch", "hookswitch-wasm"), "the check itself finds what is there");
}

#[test]
fn only_one_room_names_wasmtime() {
    for (name, text) in all_sources() {
        if !name.starts_with("node/wasm/") && !name.starts_with("tests/tests/tidy.rs") {
            assert!(!text.contains("wasmtime::"), "{name} names wasmtime; only node/wasm may");
        }
    }
    assert!(!dependencies("hookswitch").iter().any(|d| d == "wasmtime-wasi"), "guests get no WASI");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = all_sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "these do not begin with //!: {}", silent.join(", "));
}

#[test]
fn every_limit_has_a_reason() {
    let limits: Vec<_> = all_sources().into_iter().filter(|(name, _)| name.ends_with("limits.rs")).collect();
    assert!(limits.len() >= 2);
    for (name, text) in limits {
        let mut documented = false;
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with("pub const") || line.starts_with("pub(crate) const") {
                // Constants that share a reason follow each other without a blank line.
                assert!(documented, "{name}: no reason above `{line}`");
            } else {
                documented = line.starts_with("///") || (documented && !line.is_empty());
            }
        }
    }
}

#[test]
fn nothing_is_ignored_or_left_open() {
    let words = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    for (name, text) in all_sources() {
        for word in words {
            assert!(!text.contains(word), "{name} contains {word}");
        }
    }
}

/// What of a source runs in a node: nothing of a file that is for tests, and nothing of a module of tests at a file's end.
fn of_the_node<'a>(name: &str, text: &'a str) -> &'a str {
    let file = name.rsplit('/').next().unwrap_or(name);
    if matches!(file, "tests.rs" | "fuzz.rs") || ["/contract/", "/tests/"].iter().any(|folder| name.contains(folder)) {
        return "";
    }
    let mut from = 0;
    while let Some(found) = text[from..].find("\n#[cfg(test)]\nmod ") {
        let at = from + found;
        let module = text[at..].lines().nth(2).unwrap_or("");
        if module.ends_with('{') {
            return &text[..at];
        }
        from = at + 1;
    }
    text
}

/// Whether `text` has `.field` (or `Enum::Variant`) as a whole word, and does more than read its value.
fn touches(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let rest = text[at + word.len()..].trim_start_matches(['\n', ' ']);
        let longer = text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        !longer && !rest.starts_with(".get()") && !rest.starts_with(".load(")
    })
}

#[test]
fn every_metric_is_used_and_every_counter_counted() {
    let sources = all_sources();
    let source = |name: &str| sources.iter().find(|(n, _)| n == name).map_or_else(|| panic!("no {name}"), |(_, text)| text.as_str());
    let node = |folder: &str| -> Vec<&str> {
        sources.iter().filter(|(n, _)| n.starts_with(folder)).map(|(n, text)| of_the_node(n, text)).collect()
    };

    let body =
        source("node/call/src/door.rs").split("pub enum Counter {").nth(1).and_then(|t| t.split('}').next()).expect("the enum Counter");
    let counters: Vec<&str> =
        body.lines().map(|l| l.trim().trim_end_matches(',')).filter(|l| !l.is_empty() && !l.starts_with("//")).collect();
    assert!(counters.len() > 5);
    let call = node("node/call/src/");
    for counter in counters {
        let used = format!("Counter::{counter}");
        assert!(call.iter().any(|text| touches(text, &used)), "{used} is never counted");
    }

    let name = "node/src/metrics.rs";
    let (before, table) = source(name).split_once("\nmetrics! {\n").expect("the table of metrics");
    let (table, after) = table.split_once("\n}\n").expect("the table's end");
    let fields: Vec<&str> =
        table.lines().filter(|l| !l.trim().starts_with("///")).filter_map(|l| Some(l.trim().split_once(": ")?.0)).collect();
    assert_eq!(fields.len(), table.matches("= \"hookswitch_").count(), "{fields:?}");
    assert!(fields.len() > 30);
    let own = [before, of_the_node(name, after)];
    let mut others = node("node/src/");
    others.retain(|text| !text.contains("\nmetrics! {\n"));
    for field in fields {
        // Behind `metrics.` elsewhere: many a struct has a field `legs`.
        let used = own.iter().any(|text| touches(text, &format!("self.{field}")))
            || others.iter().any(|text| touches(text, &format!("metrics.{field}")));
        assert!(used, "the metric {field} is never changed");
    }
}

#[test]
fn code_of_tests_is_told_apart() {
    assert_eq!(of_the_node("node/call/src/fuzz.rs", "Counter::A"), "");
    assert_eq!(of_the_node("node/call/src/contract/mod.rs", "Counter::A"), "");
    assert_eq!(of_the_node("a.rs", "a\n#[cfg(test)]\nmod fuzz;\nb\n#[cfg(test)]\nmod tests {\nc"), "a\n#[cfg(test)]\nmod fuzz;\nb");
    assert!(touches("add(&metrics.legs, 1)", "metrics.legs"));
    assert!(!touches("metrics.legs_failed", "metrics.legs") && !touches("metrics.legs.get()", "metrics.legs"));
}
