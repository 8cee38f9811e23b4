//! The contract as files in a guest's folder, for the tools of languages that read WIT. It is the one this binary was built with, so what
//! is built here is what a node of the same release takes.

use super::{BuildError, write_if_changed};
use std::path::Path;
use wit_parser::{Resolve, SourceMap, WorldId};

/// What a handler exports in the languages where that is said once for all: its decisions, and the ear for news.
pub(super) const WORLD: &str = "handler-notified";

const FILES: [(&str, &str); 4] = [
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("host.wit", include_str!("../../../wit/host.wit")),
    ("handler.wit", include_str!("../../../wit/handler.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

pub(super) fn write(dir: &Path) -> Result<(), BuildError> {
    FILES.iter().try_for_each(|(name, text)| write_if_changed(&dir.join(name), text.as_bytes()))
}

/// Parsed, with the world that handlers are built for.
pub(super) fn resolve() -> (Resolve, WorldId) {
    let mut files = SourceMap::default();
    for (name, text) in FILES {
        files.push_str(name, text);
    }
    let group = files.parse().map_err(|(_, error)| error).expect("a test parses these files");
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).expect("a test resolves these files");
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the contract has this world");
    (resolve, world)
}
