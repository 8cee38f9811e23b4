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

#[test]
fn every_metric_is_used_and_every_counter_counted() {
    let sources = all_sources();
    let (_, door) = sources.iter().find(|(n, _)| n == "node/call/src/door.rs").expect("door.rs");
    let body = door.split("pub enum Counter {").nth(1).and_then(|t| t.split('}').next()).expect("the enum Counter");
    let counters: Vec<&str> =
        body.lines().map(|l| l.trim().trim_end_matches(',')).filter(|l| !l.is_empty() && !l.starts_with("//")).collect();
    assert!(counters.len() > 5);
    for counter in counters {
        let used = format!("Counter::{counter}");
        let places = sources.iter().filter(|(n, t)| n.starts_with("node/call/src/") && t.contains(&used)).count();
        assert!(places > 0, "{used} is never counted");
    }
}
