//! Handlers for the tests (`tests/guests`), built by the command that a customer uses.

use crate::node::{Node, Run, binary, root, target};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The numbers of `moods`, in the tenant that [`install`] makes.
pub const NUMBERS: [&str; 9] = ["tone", "loop", "trap", "hog", "nonsense", "unknown-action", "trap-later", "trap-once", "loop-later"];
pub const DOMAIN: &str = "moods.localhost";

/// The numbers of `hostile` that do harm by themselves. `plant`, `scan` and `scan-self` are two halves of one.
pub const HARM: [&str; 14] = [
    "spin",
    "allocate",
    "recurse",
    "trap",
    "log-flood",
    "order-flood",
    "store-flood",
    "fetch-flood",
    "slow-fetch",
    "huge-strings",
    "huge-answer",
    "burn",
    "scan",
    "busy",
];

/// What `plant` of `hostile` fills its memory with; what its tenant's settings and secrets begin with is found as well.
pub const PLANTED: &str = "planted-7Qz3-x9!";

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

/// The component with a module behind it that is valid and never run: so many functions of so many steps, each some 15 bytes. Another `seed`
/// makes another component.
pub fn with_code(mut component: Vec<u8>, functions: usize, steps: usize, seed: u32) -> Vec<u8> {
    fn length(mut n: usize, out: &mut Vec<u8>) {
        while n > 0x7f {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    fn section(id: u8, content: &[u8], out: &mut Vec<u8>) {
        out.push(id);
        length(content.len(), out);
        out.extend_from_slice(content);
    }
    // Each step: local 0 = local 0 * 3 + local 1, if local 1 is not zero.
    let mut body = vec![0];
    for _ in 0..steps {
        body.extend_from_slice(&[0x20, 1, 0x04, 0x40, 0x20, 0, 0x41, 3, 0x6c, 0x20, 1, 0x6a, 0x21, 0, 0x0b]);
    }
    body.extend_from_slice(&[0x20, 0, 0x0b]);
    let mut code = Vec::new();
    length(functions, &mut code);
    for _ in 0..functions {
        length(body.len(), &mut code);
        code.extend_from_slice(&body);
    }
    let mut types = Vec::new();
    length(functions, &mut types);
    types.resize(types.len() + functions, 0);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // One type: two i32 give one.
    section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f], &mut module);
    section(3, &types, &mut module);
    section(10, &code, &mut module);
    // A custom section: its name, and what makes it another one.
    section(0, &[&[4], b"seed".as_slice(), &seed.to_le_bytes()].concat(), &mut module);
    section(1, &module, &mut component);
    component
}
