//! `hookswitch guest new|build|check` without the command line: make a guest's folder, turn it into a component, look at one.
//!
//! Nothing here runs in the node's own process while it takes calls; it is a developer's tool that shares the binary. Uploading is
//! the API's business, judging a component is `hookswitch_wasm::inspect`'s, so that the laptop and the node never disagree.
//!
//! Start with [`build`].

mod c;
mod cargo;
mod check;
mod contract;
mod declarations;
mod flatten;
mod javascript;
mod language;
mod new;
mod python;
mod tool;

pub use check::{Report, check};
pub use language::Language;
pub use new::{Created, new};

use std::path::{Path, PathBuf};

/// Why a guest could not be made, built or accepted. Each displays as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{} exists already and is not empty", .0.display())]
    Exists(PathBuf),
    #[error("`{0}` is no name for a guest: use lower-case letters, digits and `-`, and begin with a letter")]
    Name(String),
    #[error("hookswitch-sdk not found{0}: give its folder with --sdk, or set HOOKSWITCH_SDK")]
    NoSdk(String),
    #[error("no guest in {}: it has neither Cargo.toml nor package.json, handler.py or handler.c; `hookswitch guest new DIR` makes one", .0.display())]
    NoGuest(PathBuf),
    #[error("{}: {why}", manifest.display())]
    Manifest { manifest: PathBuf, why: String },
    #[error("cargo is not installed: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --target wasm32-unknown-unknown")]
    NoCargo,
    #[error("rustc cannot compile for guests: rustup target add wasm32-unknown-unknown")]
    NoTarget,
    #[error("cargo build of {0} failed; its messages are above")]
    Compile(String),
    #[error("{tool} is not installed: {install}")]
    NoTool { tool: &'static str, install: String },
    #[error("{0} failed; its messages are above")]
    Tool(&'static str),
    #[error("{} is not a guest: {why}", module.display())]
    Componentize { module: PathBuf, why: String },
    #[error("{}: {why}", path.display())]
    Refused { path: PathBuf, why: String },
}

impl BuildError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
        let path = path.to_path_buf();
        move |error| BuildError::Io { path, error }
    }
}

/// Compiles the guest in `dir` and makes it a component: the path that it returns is what `push` uploads.
///
/// The compiler's messages go to standard error as they come.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    let language = Language::required(dir)?;
    let dir = dir.canonicalize().map_err(BuildError::io(dir))?;
    if language == Language::Rust {
        return build_rust(&dir);
    }
    furnish(&dir, language)?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = dir.join("build");
    std::fs::create_dir_all(&folder).map_err(BuildError::io(&folder))?;
    let component = folder.join(format!("{name}.component.wasm"));
    let half = folder.join(format!("{name}.part"));
    match language {
        Language::Rust => unreachable!("cargo built it above"),
        Language::Js => javascript::build(&dir, &half)?,
        Language::Python => python::build(&dir, &half)?,
        Language::C => c::build(&dir, &half)?,
    }
    std::fs::rename(&half, &component).map_err(BuildError::io(&component))?;
    Ok(component)
}

fn build_rust(dir: &Path) -> Result<PathBuf, BuildError> {
    let package = cargo::package(dir)?;
    let module = cargo::build(&package)?;
    let component = module.with_file_name(format!("{}.component.wasm", package.name));
    let bytes = std::fs::read(&module).map_err(BuildError::io(&module))?;
    let encoded = componentize(&bytes).map_err(|why| BuildError::Componentize { module, why })?;
    // Rename, so that whoever pushes meanwhile never reads half a component.
    let half = component.with_extension("wasm.part");
    std::fs::write(&half, encoded).map_err(BuildError::io(&half))?;
    std::fs::rename(&half, &component).map_err(BuildError::io(&component))?;
    Ok(component)
}

/// What this binary brings along for a language goes into the guest's folder `hookswitch`: contract, SDK and bindings. Rust's comes by cargo.
fn furnish(dir: &Path, language: Language) -> Result<(), BuildError> {
    match language {
        Language::Rust => Ok(()),
        Language::Js => javascript::furnish(dir),
        Language::Python => python::furnish(dir),
        Language::C => c::furnish(dir),
    }
}

/// What is as it should be keeps its time, so that tools do not work anew.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|own| own == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(BuildError::io(folder))?;
    }
    std::fs::write(path, content).map_err(BuildError::io(path))
}

/// Builds every guest of one language in the folders below `dir`, in the order of their names.
pub fn build_all(dir: &Path, language: Language) -> Result<Vec<PathBuf>, BuildError> {
    guests(dir)?.iter().filter(|guest| Language::of(guest) == Some(language)).map(|guest| build(guest)).collect()
}

/// The folders below `dir` that hold a guest.
pub fn guests(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BuildError::io(dir))? {
        let path = entry.map_err(BuildError::io(dir))?.path();
        if Language::of(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A core module as a component: its own custom sections say which interfaces it speaks.
fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let encode = || wit_component::ComponentEncoder::default().validate(true).module(module)?.encode();
    encode().map_err(|error| explain(&one_line(&error)))
}

/// Adds the cause that people meet to what the encoder says.
fn explain(message: &str) -> String {
    let foreign = ["wasi_snapshot", "wasi:", "__wbindgen", "\"env\"", "module requires an import interface named"];
    if message.contains("no top-level exports")
        || message.contains("failed to find export")
        || message.contains("missing component metadata")
    {
        format!("{message} (does it export a handler? In Rust that is `hookswitch_sdk::export!(YourHandler)`)")
    } else if foreign.iter().any(|name| message.contains(name)) {
        format!("{message} (one of its dependencies expects WASI or a browser; a guest has only the node's own imports)")
    } else {
        message.to_string()
    }
}

/// An error and its causes in one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
    }
    text
}

#[cfg(test)]
mod tests;
