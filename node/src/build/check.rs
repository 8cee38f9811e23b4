//! `guest check`: what the node would say about a component, said on the laptop. Start with [`check`].

use super::{BuildError, build};
use hookswitch_wasm::{Inspection, inspect};
use std::fmt;
use std::path::{Path, PathBuf};

/// A component that the node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub path: PathBuf,
    pub inspection: Inspection,
}

/// Inspects a component, by the rules of the upload and with `limit` bytes as the most. A folder is built first.
pub fn check(path: &Path, limit: usize) -> Result<Report, BuildError> {
    let path = if path.is_dir() { build(path)? } else { path.to_path_buf() };
    let file = std::fs::read(&path).map_err(BuildError::io(&path))?;
    match inspect(&file, limit) {
        Ok(inspection) => Ok(Report { path, inspection }),
        Err(refusal) => Err(BuildError::Refused { path, why: refusal.to_string() }),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection { hash, bytes, imports, exports, .. } = &self.inspection;
        let list = |names: &[String]| if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
        writeln!(f, "OK       {}", self.path.display())?;
        writeln!(f, "size     {bytes} bytes")?;
        writeln!(f, "sha256   {hash}")?;
        writeln!(f, "exports  {}", list(exports))?;
        write!(f, "imports  {}", list(imports))
    }
}
