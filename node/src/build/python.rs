//! Python: CPython, which componentize-py puts into one component with the handler, as it is after its modules were loaded. Such
//! components have 18 MB and more, which the operator lets a tenant upload.

use super::tool::Tool;
use super::{BuildError, contract, write_if_changed};
use std::path::Path;

const COMPONENTIZE: Tool = Tool {
    name: "componentize-py",
    local: ".venv/bin/componentize-py",
    install: "python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements.txt",
};

const SDK: [(&str, &str); 2] = [
    ("__init__.py", include_str!("../../../sdk/python/hookswitch/__init__.py")),
    ("testing.py", include_str!("../../../sdk/python/hookswitch/testing.py")),
];

/// The contract and the SDK, a package, into `hookswitch/`.
pub(super) fn furnish(dir: &Path) -> Result<(), BuildError> {
    let own = dir.join("hookswitch");
    contract::write(&own.join("wit"))?;
    SDK.iter().try_for_each(|(name, text)| write_if_changed(&own.join(name), text.as_bytes()))
}

/// The module `handler` is the guest. The bindings are written beside, for its tests and for editors.
pub(super) fn build(dir: &Path, to: &Path) -> Result<(), BuildError> {
    let base = ["--quiet", "--wit-path", "hookswitch/wit", "--world", contract::WORLD];
    let bindings = dir.join("build/bindings");
    if bindings.exists() {
        std::fs::remove_dir_all(&bindings).map_err(BuildError::io(&bindings))?;
    }
    COMPONENTIZE.run(dir, |command| {
        command.args(base).args(["bindings", "build/bindings"]);
    })?;
    COMPONENTIZE.run(dir, |command| {
        command.args(base).args(["componentize", "--stub-wasi", "--python-path", ".", "handler", "--output"]).arg(to);
    })
}
