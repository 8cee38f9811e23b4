//! Runs cargo for a guest: which package is it, with which settings, and where is the module that came out.
//!
//! Cargo's own messages pass through to standard error; only its JSON is read here.

use super::BuildError;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// What `cargo metadata` says about a guest.
pub(super) struct Package {
    pub name: String,
    manifest: PathBuf,
    dir: PathBuf,
    /// The library target: its file name without extension.
    library: String,
    /// The workspace's own `profile.guest` counts, else ours goes along on the command line.
    own_profile: bool,
}

/// Small first, since guests are instantiated for every call; a panic is a trap, and its message went to the log before.
const PROFILE: [&str; 7] = [
    "profile.guest.inherits=\"release\"",
    "profile.guest.opt-level=\"s\"",
    "profile.guest.lto=true",
    "profile.guest.codegen-units=1",
    "profile.guest.panic=\"abort\"",
    "profile.guest.strip=true",
    "profile.guest.debug=false",
];

/// Rust's default stack is 1 MiB, and it lies below the data: what a hook touches would be far apart, beyond what the node keeps resident
/// of a free instance, and each page costs a fault in every call. 64 KiB hold any sane handler; more depth traps.
const STACK: &str = "target.wasm32-unknown-unknown.rustflags=[\"-Clink-arg=-zstack-size=65536\"]";

fn cargo(dir: &Path) -> Command {
    // Cargo sets CARGO for its children: the same toolchain goes on being used.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir).stdin(Stdio::null());
    command
}

fn spawned<T>(result: std::io::Result<T>, dir: &Path) -> Result<T, BuildError> {
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => BuildError::NoCargo,
        _ => BuildError::Io { path: dir.to_path_buf(), error },
    })
}

pub(super) fn package(dir: &Path) -> Result<Package, BuildError> {
    let dir = dir.to_path_buf();
    let manifest = dir.join("Cargo.toml");
    let bad = |why: String| BuildError::Manifest { manifest: manifest.clone(), why };
    let mut command = cargo(&dir);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    let output = spawned(command.output(), &dir)?;
    if !output.status.success() {
        return Err(bad(last_error(&String::from_utf8_lossy(&output.stderr))));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| bad(error.to_string()))?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)))
        .ok_or_else(|| bad("a workspace without a package of its own; give the folder of one guest".into()))?;
    let name = package["name"].as_str().ok_or_else(|| bad("cargo did not say the package's name".into()))?;
    let has = |target: &Value, kind: &str| target["crate_types"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
    let library = package["targets"]
        .as_array()
        .and_then(|all| all.iter().find(|t| has(t, "cdylib")))
        .and_then(|t| t["name"].as_str())
        .ok_or_else(|| bad("add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`: a guest is a library with exports".into()))?;
    let root = Path::new(metadata["workspace_root"].as_str().unwrap_or_default()).join("Cargo.toml");
    let own_profile = std::fs::read_to_string(&root)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .is_some_and(|root| root.get("profile").and_then(|p| p.get("guest")).is_some());
    Ok(Package { name: name.to_string(), library: library.to_string(), own_profile, manifest, dir })
}

/// Compiles; the path of the core module.
pub(super) fn build(package: &Package) -> Result<PathBuf, BuildError> {
    let mut command = cargo(&package.dir);
    command.args(["build", "--lib", "--profile", "guest", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(&package.manifest).args(["--config", STACK]);
    if !package.own_profile {
        command.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    }
    // A wrapper or flags meant for the outer build have no business in the guest's.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = spawned(command.stderr(Stdio::inherit()).stdout(Stdio::piped()).output(), &package.dir)?;
    if !output.status.success() {
        return Err(if has_target(&package.dir) { BuildError::Compile(package.name.clone()) } else { BuildError::NoTarget });
    }
    artifact(&String::from_utf8_lossy(&output.stdout), package)
        .ok_or_else(|| BuildError::Manifest { manifest: package.manifest.clone(), why: "cargo built no .wasm file".into() })
}

/// The last message about our library names its files.
fn artifact(messages: &str, package: &Package) -> Option<PathBuf> {
    let ours = |message: &Value| {
        message["reason"] == "compiler-artifact"
            && message["target"]["name"] == *package.library
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == package.manifest)
    };
    let message = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).rfind(ours)?;
    let files = message["filenames"].as_array()?;
    files.iter().filter_map(Value::as_str).find(|name| name.ends_with(".wasm")).map(PathBuf::from)
}

/// Whether the toolchain that serves `dir` has the guests' standard library.
fn has_target(dir: &Path) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// What cargo complained about, in one line: its `error:` line and the causes below it.
fn last_error(stderr: &str) -> String {
    let from = stderr.find("error:").map_or(stderr, |at| &stderr[at + "error:".len()..]);
    from.split_whitespace().collect::<Vec<_>>().join(" ")
}
