//! A scenario file as a test of its handler: run by the `hookswitch` command, so that it is the node's own call, with the component that a node
//! would get. Nothing of the node is linked into a handler's tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds this crate's component, runs a call as `file` says (`hookswitch guest simulate`), and compares its ladder with the file of the same
/// name that ends in `.ladder`, if there is one. Paths are relative to the crate. Panics with what is not as expected.
///
/// The command is `HOOKSWITCH_BIN`, else `hookswitch` in the `PATH`. With `HOOKSWITCH_UPDATE` in the environment the ladder is written anew.
///
/// ```no_run
/// #[test]
/// fn a_message_is_taken() {
///     hookswitch_sdk::testing::scenario("scenarios/message.toml");
/// }
/// ```
#[track_caller]
pub fn scenario(file: &str) {
    let binary = std::env::var_os("HOOKSWITCH_BIN").map_or_else(|| PathBuf::from("hookswitch"), PathBuf::from);
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    if let Err(why) = run(&binary, &folder, file, std::env::var_os("HOOKSWITCH_UPDATE").is_some()) {
        panic!("{file}: {why}");
    }
}

fn run(binary: &Path, folder: &Path, file: &str, update: bool) -> Result<(), String> {
    let output = Command::new(binary).args(arguments(folder, file, update)).output().map_err(|error| {
        format!("{} does not run: {error}; put `hookswitch` into the PATH, or name it in HOOKSWITCH_BIN", binary.display())
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("not as expected\n{}\n{}", text(&output.stdout), text(&output.stderr)))
}

fn arguments(folder: &Path, file: &str, update: bool) -> Vec<OsString> {
    let scenario = folder.join(file);
    let snapshot = scenario.with_extension("ladder");
    let mut arguments: Vec<OsString> = vec!["guest".into(), "simulate".into(), folder.into(), scenario.into()];
    if update || snapshot.is_file() {
        arguments.extend(["--snapshot".into(), snapshot.into()]);
    }
    if update {
        arguments.push("--update".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_gets_the_crate_the_scenario_and_its_snapshot() {
        let folder = Path::new("/nowhere");
        assert_eq!(arguments(folder, "a.toml", false), ["guest", "simulate", "/nowhere", "/nowhere/a.toml"]);
        let updating = ["guest", "simulate", "/nowhere", "/nowhere/a.toml", "--snapshot", "/nowhere/a.ladder", "--update"];
        assert_eq!(arguments(folder, "a.toml", true), updating);
    }

    #[test]
    fn a_command_that_is_missing_or_fails_is_said() {
        let told = |binary: &str| run(Path::new(binary), Path::new("/nowhere"), "a.toml", false);
        assert!(told("/nowhere/hookswitch").unwrap_err().contains("HOOKSWITCH_BIN"));
        assert!(told("false").unwrap_err().starts_with("not as expected"));
        assert_eq!(told("true"), Ok(()));
    }
}
