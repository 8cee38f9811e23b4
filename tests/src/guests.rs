//! Handlers for the tests (`tests/guests`), built by the command that a customer uses.

use crate::node::{Node, Run, binary, root, target};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The numbers of `moods`, in the tenant that [`install`] makes.
pub const NUMBERS: [&str; 9] = ["tone", "loop", "trap", "hog", "nonsense", "unknown-action", "trap-later", "trap-once", "loop-later"];
pub const DOMAIN: &str = "moods.localhost";

/// The component of `tests/guests/moods` whose number `tone` plays this frequency.
pub fn moods(hz: u32) -> PathBuf {
    component("moods", hz)
}

/// A node whose demo tenant has the numbers of `two-party`: it may call this machine, and every number reaches it.
pub fn two_party() -> Node {
    Node::demo_of(component("two-party", 0))
}

/// The component of a folder of `tests/guests`; built once a process for each frequency.
pub fn component(name: &str, hz: u32) -> PathBuf {
    // One build at a time: they share a target folder.
    static BUILT: Mutex<BTreeMap<(String, u32), PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (name.to_owned(), hz);
    if let Some(path) = built.get(&key) {
        return path.clone();
    }
    let folder = target().join("test-guests");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(format!("{name}-{hz}.component.wasm"));
    let source = format!("tests/guests/{name}");
    let arguments = ["guest", "build", &source, "--output", path.to_str().expect("our paths are UTF-8")];
    let output = Command::new(binary())
        .args(arguments)
        .current_dir(root())
        .env("HOOKSWITCH_TEST_HZ", hz.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    Run::of(&arguments, &output).ok();
    built.insert(key, path.clone());
    path
}

/// A tenant of its own with the numbers of `moods`, and its first version.
pub fn install(node: &Node, hz: u32) {
    let mut arguments = vec!["tenant", "put", DOMAIN];
    for number in NUMBERS {
        arguments.extend(["--number", number]);
    }
    node.cli(&arguments).ok();
    push(node, hz).ok();
}

pub fn push(node: &Node, hz: u32) -> Run {
    let component = moods(hz);
    node.cli(&["guest", "push", component.to_str().expect("our paths are UTF-8"), "--domain", DOMAIN])
}
