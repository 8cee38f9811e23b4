//! JavaScript: QuickJS, which componentize-qjs puts into one component with the handler. No promises are awaited in it, and no WASI is left.

use super::flatten::flatten;
use super::tool::{Tool, succeed};
use super::{BuildError, contract, declarations, write_if_changed};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const COMPONENTIZE: Tool = Tool { name: "componentize-qjs", local: "node_modules/.bin/componentize-qjs", install: "npm ci --omit=dev" };

const SDK: [(&str, &str); 3] = [
    ("hookswitch.js", include_str!("../../../sdk/js/hookswitch.js")),
    ("hookswitch.d.ts", include_str!("../../../sdk/js/hookswitch.d.ts")),
    ("testing.js", include_str!("../../../sdk/js/testing.js")),
];

/// The contract, the SDK and the types, into `hookswitch/`.
pub(super) fn furnish(dir: &Path) -> Result<(), BuildError> {
    let own = dir.join("hookswitch");
    contract::write(&own.join("wit"))?;
    SDK.iter().try_for_each(|(name, text)| write_if_changed(&own.join(name), text.as_bytes()))?;
    let (resolve, world) = contract::resolve();
    let [types, host] = declarations::of(&resolve, world);
    write_if_changed(&own.join("types.d.ts"), types.as_bytes())?;
    write_if_changed(&own.join("host.d.ts"), host.as_bytes())
}

/// `package.json` names the file to begin with as `main`; its script `build`, if there is one, makes that file first.
pub(super) fn build(dir: &Path, to: &Path) -> Result<(), BuildError> {
    let manifest = dir.join("package.json");
    let bad = |why: String| BuildError::Manifest { manifest: manifest.clone(), why };
    let text = std::fs::read_to_string(&manifest).map_err(BuildError::io(&manifest))?;
    let package: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let main = package["main"].as_str().unwrap_or("handler.js").to_owned();
    COMPONENTIZE.find(dir)?;
    if package["scripts"]["build"].is_string() {
        let npm = PathBuf::from("npm");
        let mut command = Command::new(&npm);
        command.current_dir(dir).stdin(Stdio::null()).args(["run", "--silent", "build"]);
        succeed("npm run build", &npm, command)?;
    }
    if !dir.join(&main).is_file() {
        return Err(bad(format!("`main` names {main}, which is not there")));
    }
    COMPONENTIZE.run(dir, |command| {
        command
            .args(["--wit", "hookswitch/wit", "--world", contract::WORLD, "--js", main.as_str(), "--sync", "--opt-size", "--output"])
            .arg(to);
    })?;
    let made = std::fs::read(to).map_err(BuildError::io(to))?;
    let flat = flatten(&made).map_err(|why| BuildError::Componentize { module: to.to_path_buf(), why })?;
    std::fs::write(to, flat).map_err(BuildError::io(to))
}
