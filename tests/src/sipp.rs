//! sipp as one of several parties: it runs while the test does something else, by a scenario of `tests/sipp` whose `[keys]` are filled
//! in here. Start with [`Sipp::caller`] and [`Sipp::callee`].

use crate::node::{Node, Run, address, root, wait_for};
use crate::pcap::Capture;
use crate::peer::{require, wait_udp};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Every telephone of ours has an address of its own, so all have the port that telephones have.
const PORT: u16 = 5060;
/// What the keys of a scenario are unless a test says otherwise.
const KEYS: [(&str, &str); 6] =
    [("payload", "0"), ("codec", "PCMU"), ("dest", "sip:nobody@127.0.0.1"), ("then", "drop"), ("next", ""), ("host", "")];

/// A sipp being prepared.
pub struct Setup {
    scenario: String,
    folder: PathBuf,
    ip: Ipv4Addr,
    command: Command,
    keys: Vec<(String, String)>,
    listens: bool,
    tcp: bool,
}

/// A sipp that runs; killed when it is dropped.
pub struct Sipp {
    child: Option<Child>,
    scenario: String,
    folder: PathBuf,
    ip: Ipv4Addr,
    tcp: bool,
}

impl Sipp {
    /// Calls `user` at the node.
    pub fn caller(node: &Node, scenario: &str, user: &str) -> Setup {
        let mut setup = Setup::new(node, scenario, false);
        setup.command.args(["-s", user]).arg(node.sip().to_string());
        setup
    }

    /// Waits for one call.
    pub fn callee(node: &Node, scenario: &str) -> Setup {
        Setup::new(node, scenario, true)
    }

    pub fn sip(&self) -> SocketAddr {
        (self.ip, PORT).into()
    }

    /// What a handler calls to reach it.
    pub fn uri(&self) -> String {
        format!("sip:bob@{}{}", self.sip(), if self.tcp { ";transport=tcp" } else { "" })
    }

    /// When its scenario is over. A scenario that does not go as written ends it with 1; a call that hangs, too.
    pub fn end(mut self) -> Run {
        let status = self.child.take().expect("ended once").wait().expect("sipp ends");
        let text = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        let mut run = Run { arguments: format!("sipp {}", self.scenario), status: status.code(), stdout: text(OUT), stderr: text(ERRORS) };
        // What sipp thinks went wrong, and the messages, are in files.
        for entry in fs::read_dir(&self.folder).expect("the folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                run.stderr.push_str(&format!("\n--- {}\n{text}", entry.file_name().to_string_lossy()));
            }
        }
        run
    }
}

/// Whether somebody listens there. Looked up, not tried: a connection would be a call to some scenarios.
fn listens(at: SocketAddr) -> bool {
    let SocketAddr::V4(at) = at else { return false };
    let wanted = format!("{:08X}:{:04X} 00000000:0000 0A", u32::from_ne_bytes(at.ip().octets()), at.port());
    fs::read_to_string("/proc/net/tcp").is_ok_and(|all| all.contains(&wanted))
}

const OUT: &str = "stdout";
const ERRORS: &str = "stderr";

impl Drop for Sipp {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Setup {
    fn new(node: &Node, scenario: &str, listens: bool) -> Setup {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        require("sipp", "sip-tester");
        let file = root().join("tests/sipp").join(format!("{scenario}.xml"));
        // A folder of its own: sipp writes its log files where it stands.
        let folder = node.file(&format!("{scenario}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&folder).expect("a folder");
        let ip = address();
        let mut command = Command::new("sipp");
        let (own, port) = (ip.to_string(), PORT.to_string());
        command.arg("-sf").arg(&file).args(["-i", &own, "-mi", &own, "-p", &port, "-m", "1", "-nostdin", "-trace_err", "-trace_msg"]);
        command.args(["-timeout", "40s", "-timeout_error", "-recv_timeout", "20000"]);
        Setup { scenario: scenario.into(), folder, ip, command, keys: Vec::new(), listens, tcp: false }
    }

    /// Fills in `[name]`.
    pub fn key(mut self, name: &str, value: &str) -> Setup {
        self.keys.push((name.into(), value.into()));
        self
    }

    /// Whom the handler calls.
    pub fn dest(self, uri: &str) -> Setup {
        self.key("dest", uri)
    }

    /// What its pauses last.
    pub fn talks_ms(mut self, ms: u32) -> Setup {
        self.command.args(["-d", &ms.to_string()]);
        self
    }

    /// By TCP, and only by TCP.
    pub fn tcp(mut self) -> Setup {
        self.command.args(["-t", "t1"]);
        Setup { tcp: true, ..self }
    }

    /// Sends back what it hears.
    pub fn echoes(mut self) -> Setup {
        self.command.arg("-rtp_echo");
        self
    }

    /// A-law and nothing else.
    pub fn a_law(self) -> Setup {
        self.key("payload", "8").key("codec", "PCMA")
    }

    /// A capture that its scenario plays.
    pub fn capture(self, name: &str, capture: &Capture) -> Setup {
        capture.write(&self.folder.join(name));
        self
    }

    /// Sends everything to this proxy first.
    pub fn through(mut self, proxy: SocketAddr) -> Setup {
        self.command.args(["-rsa", &proxy.to_string()]);
        self
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Once it listens.
    pub fn start(mut self) -> Sipp {
        for (name, value) in KEYS {
            if !self.keys.iter().any(|(own, _)| own == name) {
                self.command.args(["-key", name, value]);
            }
        }
        for (name, value) in &self.keys {
            self.command.args(["-key", name, value]);
        }
        let file = |name: &str| File::create(self.folder.join(name)).expect("a file");
        let child = self.command.current_dir(&self.folder).stdin(Stdio::null()).stdout(file(OUT)).stderr(file(ERRORS)).spawn();
        let sipp =
            Sipp { child: Some(child.expect("sipp runs")), scenario: self.scenario, folder: self.folder, ip: self.ip, tcp: self.tcp };
        match (self.listens, self.tcp) {
            (true, true) => wait_for("a sipp that takes connections", || listens(sipp.sip())),
            (true, false) => wait_udp(sipp.sip()),
            _ => {}
        }
        sipp
    }
}
