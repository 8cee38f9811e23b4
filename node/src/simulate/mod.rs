//! `hookswitch guest simulate`: a handler takes a scripted call without a node, a network or a phone, in virtual time. The call is the node's
//! own: its switch and media legs in the world of `hookswitch-sim`, its WebAssembly host, its conversion of questions and answers. The same
//! seed gives the same call, on any machine.
//!
//! Start with [`scenario`] (what can be asked for) and [`run`] (how it is carried out); [`replay`] asks a handler again what another one was
//! asked in production, and [`report`] is what people and programs are told.

mod diff;
mod handler;
mod host;
pub mod limits;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod step;
#[cfg(test)]
mod tests;

pub use diff::diff;
pub use run::Run;
pub use scenario::Scenario;

use hookswitch_wasm::{Class, Engine, Module};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A handler, compiled for an engine that counts its instructions.
#[derive(Clone)]
pub struct Loaded {
    pub module: Arc<Module>,
    /// Bounds its memory, as on a node.
    pub class: Class,
}

/// It is its own developer's: nobody needs a process around the compiler.
pub fn load(component: &[u8]) -> Result<Loaded, String> {
    hookswitch_wasm::inspect(component, Class::Large.component_bytes()).map_err(|why| why.to_string())?;
    let engine = Engine::counting().map_err(|error| error.to_string())?;
    let module = engine.module(component).map_err(|error| error.to_string())?;
    Ok(Loaded { module: Arc::new(module), class: Class::of(component.len()) })
}

/// A text of at most [`limits::FILE`] bytes.
fn read_text(path: &Path) -> Result<String, String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut text = String::new();
    std::fs::File::open(path).map_err(at)?.take(limits::FILE + 1).read_to_string(&mut text).map_err(at)?;
    if text.len() as u64 > limits::FILE {
        return Err(format!("{}: larger than {} bytes", path.display(), limits::FILE));
    }
    Ok(text)
}
