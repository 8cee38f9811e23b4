//! What can fail around a node, made from outside: the binary under test is the one that is shipped, and has no door for this.
//!
//! [`Shim`] is a library that the loader puts before the C library: it delays or refuses what the node asks of the disk, and moves the
//! machine's clock under it. A [`Volume`] is a file system of its own, of some KB, that the node alone sees (a mount namespace): full when
//! it is full, read-only when it is told to be.

use crate::node::{Node, target};
use crate::peer::require;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The library, compiled once a process.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        require("cc", "gcc");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shim.c");
        let path = target().join("test-shim.so");
        // Under a name of its own first: another test's node may be loading what is there.
        let half = target().join(format!("test-shim-{}.so", std::process::id()));
        let built =
            Command::new("cc").args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&half).arg(&source).arg("-ldl").status();
        assert!(built.is_ok_and(|status| status.success()), "{} does not compile", source.display());
        std::fs::rename(&half, &path).expect("our own folder");
        path
    })
}

/// Four numbers, then a path.
const NUMBERS: u64 = 32;
const ORDERS: u64 = 512;

/// A disk and a clock that do as they are told. Made before the node, told at any time.
pub struct Shim {
    orders: File,
    environment: [(&'static str, String); 2],
    _folder: tempfile::TempDir,
}

impl Shim {
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Shim {
        let folder = tempfile::Builder::new().prefix("hookswitch-shim-").tempdir().expect("a temporary folder");
        let path = folder.path().join("orders");
        let orders = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        orders.set_len(ORDERS).expect("room for them");
        let text = |path: &Path| path.to_str().expect("our paths are UTF-8").to_owned();
        Shim { orders, environment: [("LD_PRELOAD", text(library())), ("TEST_FAULTS", text(&path))], _folder: folder }
    }

    /// What a node needs to be under it.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn order(&self, place: u64, value: i64) {
        self.orders.write_all_at(&value.to_ne_bytes(), 8 * place).expect("the file is there");
    }

    /// From now on each write and each sync takes so much longer.
    pub fn hold(&self, by: Duration) {
        self.order(0, i64::try_from(by.as_micros()).expect("not for ever"));
    }

    /// From now on each write fails with this number of errno.h; zero: none does.
    pub fn refuse(&self, errno: i32) {
        self.order(1, errno.into());
    }

    /// What is held or refused is so for files below this folder alone; an empty path: for all.
    pub fn below(&self, folder: &Path) {
        let path = folder.to_str().expect("our paths are UTF-8").as_bytes();
        let mut text = [0; (ORDERS - NUMBERS) as usize];
        text[..path.len()].copy_from_slice(path);
        self.orders.write_all_at(&text, NUMBERS).expect("the file is there");
    }

    /// From now on the machine's clock is so many seconds ahead, or behind, of what it would be.
    pub fn set_clock(&self, seconds: i64) {
        self.order(2, seconds * 1000);
    }

    /// Writes and syncs that were held. A test whose fault never came about proves nothing.
    pub fn held(&self) -> u64 {
        let mut bytes = [0; 8];
        self.orders.read_exact_at(&mut bytes, 24).expect("the file is there");
        u64::from_ne_bytes(bytes)
    }
}

/// A file system that a node alone sees. Its content is lost with the node.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Below the node's data folder.
    pub folder: &'static str,
    pub kilobytes: u32,
}

impl Volume {
    /// What runs a node so that it sees these: a program, and all its arguments before the node's own.
    pub fn wrapper(volumes: &[Volume], data: &Path) -> Vec<String> {
        require("unshare", "util-linux");
        let mut script = String::from("set -e\n");
        for volume in volumes {
            let folder = data.join(volume.folder);
            script.push_str(&format!(
                "mkdir -p '{0}'\nmount -t tmpfs -o size={1}k,mode=700 none '{0}'\n",
                folder.display(),
                volume.kilobytes
            ));
        }
        script.push_str("exec \"$0\" \"$@\"");
        ["unshare", if is_root() { "-m" } else { "-rm" }, "sh", "-c", &script].map(str::to_owned).to_vec()
    }

    /// Runs a command that sees what the node sees.
    fn inside(node: &Node, command: &[&str]) {
        require("nsenter", "util-linux");
        let pid = node.pid().to_string();
        let mut run = Command::new("nsenter");
        run.args(["-t", &pid, "-m"]);
        if !is_root() {
            run.args(["-U", "--preserve-credentials"]);
        }
        let output = run.arg("--").args(command).output().expect("nsenter runs");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, node: &Node) -> String {
        node.data().join(self.folder).to_str().expect("our paths are UTF-8").to_owned()
    }

    fn remount(&self, node: &Node, options: &str) {
        Volume::inside(node, &["mount", "-o", &format!("remount,{options}"), "none", &self.path(node)]);
    }

    /// Nothing can be written to it any more.
    pub fn close(&self, node: &Node) {
        self.remount(node, "ro");
    }

    /// It can again, up to so many KB.
    pub fn open(&self, node: &Node, kilobytes: u32) {
        self.remount(node, &format!("rw,size={kilobytes}k"));
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}
