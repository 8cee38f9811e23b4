//! Compilers of other languages: where one is, and what it said when it failed. A tool that the guest's own folder has installed comes
//! first, so that a guest is built by the versions that it pins; then the search path.

use super::BuildError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that builds guests, and how to get it.
pub(super) struct Tool {
    pub name: &'static str,
    /// Where package managers put it, from the guest's folder.
    pub local: &'static str,
    /// The commands that install it, run in the guest's folder.
    pub install: &'static str,
}

impl Tool {
    pub fn find(&self, dir: &Path) -> Result<PathBuf, BuildError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::iter::once(dir.join(self.local))
            .chain(std::env::split_paths(&path).map(|folder| folder.join(self.name)))
            .find(|program| program.is_file());
        found.ok_or_else(|| BuildError::NoTool { tool: self.name, install: format!("(cd {} && {})", dir.display(), self.install) })
    }

    /// Runs it in `dir`. What it prints goes to standard error: standard output is ours, and says where the component is.
    pub fn run(&self, dir: &Path, prepare: impl FnOnce(&mut Command)) -> Result<(), BuildError> {
        let program = self.find(dir)?;
        let mut command = Command::new(&program);
        command.current_dir(dir).stdin(Stdio::null());
        prepare(&mut command);
        succeed(self.name, &program, command)
    }
}

pub(super) fn succeed(name: &'static str, program: &Path, mut command: Command) -> Result<(), BuildError> {
    let output = command.stderr(Stdio::inherit()).stdout(Stdio::piped()).output().map_err(BuildError::io(program))?;
    // What cannot be shown is missing from the developer's terminal, no more.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), &output.stdout);
    if output.status.success() { Ok(()) } else { Err(BuildError::Tool(name)) }
}
