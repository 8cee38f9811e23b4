//! One node under test: the real `hookswitch` binary, on a loopback address and in a folder of its own.
//!
//! Every node gets an address 127.x.y.z that no other test uses, so tests run side by side with the ports a user would see. A node
//! is killed when it is dropped; if the test failed, its log is printed first.

use crate::faults::Volume;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a node may take to say it is healthy: it compiles the demo's handler first.
const START_TIME: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
/// Lines of a failed node's log that are shown.
const LOG_LINES: usize = 80;

/// The operator's token of all nodes under test.
pub const TOKEN: &str = "end-to-end-operator-token";

/// The binary under test: `HOOKSWITCH_BIN`, else the one built beside this test.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("HOOKSWITCH_BIN") {
        Some(path) => PathBuf::from(path),
        None => target().join("hookswitch"),
    };
    assert!(path.is_file(), "no node at {}: build it by `make node`, or name it in HOOKSWITCH_BIN", path.display());
    // It is started in a folder of its own.
    path.canonicalize().expect("it is there")
}

/// `target/debug`, or wherever this test was built.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.parent().and_then(Path::parent).expect("test executables lie in target/PROFILE/deps").to_path_buf()
}

/// A component that `make guests` built: `HOOKSWITCH_GUESTS`, else `target/guests`.
pub fn component(name: &str) -> PathBuf {
    let folder = match std::env::var_os("HOOKSWITCH_GUESTS") {
        Some(path) => PathBuf::from(path),
        None => target().parent().expect("target/PROFILE").join("guests"),
    };
    let path = folder.join(format!("{name}.component.wasm"));
    assert!(path.is_file(), "no component at {}: build it by `make guests`, or name its folder in HOOKSWITCH_GUESTS", path.display());
    path.canonicalize().expect("it is there")
}

/// The tool that judges the API by its document: `HOOKSWITCH_SCHEMATHESIS`, else the one that `scripts/setup.sh test` put below `target`.
pub fn schemathesis() -> PathBuf {
    let path = match std::env::var_os("HOOKSWITCH_SCHEMATHESIS") {
        Some(path) => PathBuf::from(path),
        None => target().parent().expect("target/PROFILE").join("schemathesis/bin/schemathesis"),
    };
    assert!(path.is_file(), "no schemathesis at {}: `make setup-test` installs it, or name it in HOOKSWITCH_SCHEMATHESIS", path.display());
    path
}

/// Compilers of handlers in other languages, and what they keep: where `scripts/setup.sh languages` put them.
pub fn languages() -> PathBuf {
    let path = target().parent().expect("target/PROFILE").join("languages");
    assert!(path.is_dir(), "nothing at {}: `make languages` installs it", path.display());
    path
}

/// The workspace, for files that tests read.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// A loopback address that no other node or peer of this process has, and hardly one of another process.
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 0x3f), low, NEXT.fetch_add(1, Ordering::Relaxed))
}

pub struct Node {
    child: Option<Child>,
    pub ip: Ipv4Addr,
    folder: tempfile::TempDir,
    demo: bool,
    /// The demo tenant's handler.
    guest: PathBuf,
    environment: Vec<(String, String)>,
    volumes: Vec<Volume>,
}

impl Node {
    /// A node with the demo tenant, healthy.
    pub fn demo() -> Node {
        Node::with(true, &[])
    }

    /// A node whose demo tenant has this handler in place of its own.
    pub fn demo_of(guest: PathBuf) -> Node {
        Node::made(true, guest, &[], &[])
    }

    /// The same whose disk or clock is the test's.
    pub fn demo_on(guest: PathBuf, environment: &[(&str, &str)], volumes: &[Volume]) -> Node {
        Node::made(true, guest, environment, volumes)
    }

    pub fn with(demo: bool, environment: &[(&str, &str)]) -> Node {
        Node::made(demo, component("menu"), environment, &[])
    }

    fn made(demo: bool, guest: PathBuf, environment: &[(&str, &str)], volumes: &[Volume]) -> Node {
        let folder = tempfile::Builder::new().prefix("hookswitch-e2e-").tempdir().expect("a temporary folder");
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut node = Node { child: None, ip: address(), folder, demo, guest, environment, volumes: volumes.to_vec() };
        node.start();
        node
    }

    pub fn sip(&self) -> SocketAddr {
        (IpAddr::from(self.ip), 5060).into()
    }

    pub fn api(&self) -> SocketAddr {
        (IpAddr::from(self.ip), 8080).into()
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `sip:USER@` this node.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.ip)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the node runs")
    }

    /// A command of the binary with this node's settings in its environment, in an empty environment otherwise but for what cargo
    /// and a shell need.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        self.prepare(&mut command, arguments);
        command
    }

    fn prepare(&self, command: &mut Command, arguments: &[&str]) {
        command.args(arguments).stdin(Stdio::null());
        self.environment(command);
    }

    /// In the test's own folder, with this node's settings in place of those that the test was given.
    pub fn environment(&self, command: &mut Command) {
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOOKSWITCH_")) {
            command.env_remove(name);
        }
        command
            .env("HOOKSWITCH_SIP_LISTEN", format!("udp://{0},tcp://{0}", self.sip()))
            .env("HOOKSWITCH_API_LISTEN", self.api().to_string())
            .env("HOOKSWITCH_RTP_ADDRESS", self.ip.to_string())
            .env("HOOKSWITCH_STORAGE_DATA", self.data())
            .env("HOOKSWITCH_ADMIN_TOKEN", TOKEN)
            .envs(self.environment.iter().filter(|(name, _)| name.starts_with("HOOKSWITCH_")).map(|(k, v)| (k, v)));
    }

    /// The node itself, with its disk and clock: what fails for it does not fail for its clients.
    fn run_command(&self) -> Command {
        let mut command = if self.volumes.is_empty() {
            Command::new(binary())
        } else {
            let wrapper = Volume::wrapper(&self.volumes, &self.data());
            let mut command = Command::new(&wrapper[0]);
            command.args(&wrapper[1..]).arg(binary());
            command
        };
        self.prepare(&mut command, if self.demo { &["run", "--demo"] } else { &["run"] });
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the node, again after [`Node::kill`]: same address, same data.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let mut command = self.run_command();
        if self.demo {
            command.env("HOOKSWITCH_DEMO_GUEST", &self.guest);
        }
        self.child = Some(command.stdout(log).stderr(errors).spawn().expect("the node starts"));
        let started = Instant::now();
        while self.http("/healthz").is_err() {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().expect("the node can be asked"));
            assert!(exited.is_none(), "the node ended at once: {exited:?}\n{}", self.log());
            assert!(started.elapsed() < START_TIME, "the node is not healthy after {START_TIME:?}\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// SIGKILL, as a power cut would be.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn log_path(&self) -> PathBuf {
        self.file("node.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the log has a line with all of `words`.
    pub fn wait_log(&self, words: &[&str]) {
        wait_for(&format!("a log line with {words:?}"), || self.log().lines().any(|line| words.iter().all(|w| line.contains(w))));
    }

    pub fn http(&self, path: &str) -> anyhow::Result<String> {
        let mut response = ureq::get(format!("http://{}{path}", self.api())).header("Authorization", format!("Bearer {TOKEN}")).call()?;
        Ok(response.body_mut().read_to_string()?)
    }

    /// Posts JSON with a token; any status is an answer.
    pub fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.post(format!("http://{}{path}", self.api())).header("Authorization", format!("Bearer {token}"));
        let mut answer = request.header("Content-Type", "application/json").send(body.to_string()).expect("an answer");
        let text = answer.body_mut().read_to_string().expect("a body");
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Prometheus samples by name and labels as written.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.http("/metrics").expect("/metrics answers");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// The sum of all samples whose name begins so and which carry all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let matches = |key: &str| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label));
        self.metrics().iter().filter(|(key, _)| matches(key)).map(|(_, value)| value).sum()
    }

    /// Runs the command line of this node to its end.
    pub fn cli(&self, arguments: &[&str]) -> Run {
        Run::of(arguments, &self.command(arguments).output().expect("the binary runs"))
    }

    /// The same, which must succeed and print one JSON value.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let run = self.cli(arguments);
        run.ok();
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{arguments:?} prints no JSON: {error}\n{}", run.stdout))
    }

    /// Texts of a tenant's log, oldest first.
    pub fn guest_log(&self, domain: &str) -> Vec<String> {
        let list = self.json(&["guest", "logs", "--json", "--domain", domain]);
        let lines = list["log"].as_array().unwrap_or_else(|| panic!("no log in {list}"));
        lines.iter().rev().map(|line| line["text"].as_str().expect("a text").to_owned()).collect()
    }

    /// Sets a secret as a person would: the value comes on stdin.
    pub fn keep_secret(&self, domain: &str, name: &str, value: &str) {
        let mut command = self.command(&["guest", "secret", "set", name, "--domain", domain]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary runs");
        child.stdin.take().expect("piped").write_all(format!("{value}\n").as_bytes()).expect("written");
        assert!(child.wait().expect("it ends").success());
    }

    /// All recordings, newest first.
    pub fn recordings(&self) -> Vec<Value> {
        let list = self.json(&["recording", "list", "--json"]);
        list["recordings"].as_array().unwrap_or_else(|| panic!("no list of recordings in {list}")).clone()
    }

    /// The one recording there is, once it is stored.
    pub fn recording(&self) -> Value {
        let mut found = Vec::new();
        wait_for("one stored recording", || {
            found = self.recordings();
            found.len() == 1
        });
        found.remove(0)
    }

    /// The audio of a recording, in a file of the test's folder.
    pub fn fetch(&self, id: &str) -> PathBuf {
        let path = self.file(&format!("{id}.wav"));
        self.cli(&["recording", "get", id, "--output", path.to_str().expect("our paths are UTF-8")]).ok();
        path
    }

    /// A call by `hookswitch call`.
    pub fn phone(&self, user: &str) -> Phone<'_> {
        Phone { node: self, arguments: vec!["call".into(), self.uri(user)] }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the node's log ends with:\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
        self.kill();
    }
}

/// A `hookswitch call` being prepared.
pub struct Phone<'a> {
    node: &'a Node,
    arguments: Vec<String>,
}

impl Phone<'_> {
    fn with(mut self, arguments: [&str; 2]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    pub fn play(self, wav: &Path) -> Self {
        self.with(["--play", wav.to_str().expect("our paths are UTF-8")])
    }

    pub fn dtmf(self, plan: &str) -> Self {
        self.with(["--dtmf", plan])
    }

    pub fn record(self, wav: &Path) -> Self {
        self.with(["--record", wav.to_str().expect("our paths are UTF-8")])
    }

    pub fn seconds(self, seconds: &str) -> Self {
        self.with(["--for", seconds])
    }

    pub fn header(self, line: &str) -> Self {
        self.with(["--header", line])
    }

    pub fn run(self) -> Run {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.node.cli(&arguments)
    }

    /// The call goes on while the test does something else.
    pub fn start(self) -> Running {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let child = self.node.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Running { child: Some(child), arguments: self.arguments }
    }
}

/// A command that runs in the background; killed when it is dropped.
pub struct Running {
    child: Option<Child>,
    arguments: Vec<String>,
}

impl Running {
    pub fn end(mut self) -> Run {
        let output = self.child.take().expect("ended once").wait_with_output().expect("the command ends");
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Run::of(&arguments, &output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Run {
    pub arguments: String,
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(arguments: &[&str], output: &Output) -> Run {
        Run {
            arguments: arguments.join(" "),
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Exit 0.
    #[track_caller]
    pub fn ok(&self) -> &Run {
        assert_eq!(self.status, Some(0), "{self}");
        self
    }

    /// Exit 1 and `words` on stderr.
    #[track_caller]
    pub fn fails(&self, words: &[&str]) -> &Run {
        assert_eq!(self.status, Some(1), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks {word:?}: {self}");
        }
        self
    }

    #[track_caller]
    pub fn says(&self, word: &str) -> &Run {
        assert!(self.stdout.contains(word), "stdout lacks {word:?}: {self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "`{}` ended with {:?}", self.arguments, self.status)?;
        write!(f, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
    }
}

/// Until `condition` holds; a test that waits for something says so when it never comes.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        thread::sleep(POLL);
    }
}
