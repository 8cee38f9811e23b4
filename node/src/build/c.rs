//! C: zig's clang with its libc for WebAssembly; the bindings are made here. What a handler does not use of libc is not linked, so that no
//! WASI import is left.

use super::tool::Tool;
use super::{BuildError, componentize, contract, one_line, write_if_changed};
use std::path::Path;
use wit_bindgen_core::Files;

const ZIG: Tool = Tool {
    name: "python-zig",
    local: ".venv/bin/python-zig",
    install: "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt",
};

const SDK: [(&str, &str); 2] =
    [("hookswitch.h", include_str!("../../../sdk/c/hookswitch.h")), ("hookswitch.c", include_str!("../../../sdk/c/hookswitch.c"))];

/// The SDK and the bindings, into `hookswitch/`.
pub(super) fn furnish(dir: &Path) -> Result<(), BuildError> {
    let own = dir.join("hookswitch");
    contract::write(&own.join("wit"))?;
    SDK.iter().try_for_each(|(name, text)| write_if_changed(&own.join(name), text.as_bytes()))?;
    let (mut resolve, world) = contract::resolve();
    let mut files = Files::default();
    let mut generator = wit_bindgen_c::Opts::default().build();
    let generated = generator.generate(&mut resolve, world, &mut files);
    generated.map_err(|error| BuildError::Manifest { manifest: own.join("wit"), why: one_line(&error) })?;
    files.iter().try_for_each(|(name, content)| write_if_changed(&own.join(name), content))
}

/// All `.c` files of the folder, the SDK's and the bindings', at once. The stack is 64 KiB, as a Rust handler's: `cargo.rs` says why.
pub(super) fn build(dir: &Path, to: &Path) -> Result<(), BuildError> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BuildError::io(dir))? {
        let name = entry.map_err(BuildError::io(dir))?.file_name();
        if Path::new(&name).extension().is_some_and(|ending| ending == "c") {
            sources.push(name);
        }
    }
    sources.sort();
    let module = to.with_extension("module");
    ZIG.run(dir, |command| {
        command.args(["cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c11", "-Oz", "-Wall", "-Wextra", "-Ihookswitch"]);
        command.args(["-Wl,--strip-all", "-Wl,-z,stack-size=65536"]);
        command.args(sources).arg("hookswitch/hookswitch.c").args(BINDINGS.map(|name| format!("hookswitch/{name}")));
        command.arg("-o").arg(&module);
    })?;
    let bytes = std::fs::read(&module).map_err(BuildError::io(&module))?;
    let encoded = componentize(&bytes).map_err(|why| BuildError::Componentize { module, why })?;
    std::fs::write(to, encoded).map_err(BuildError::io(to))
}

/// Named after the world.
const BINDINGS: [&str; 2] = ["handler_notified.c", "handler_notified_component_type.o"];
