//! Peers from Debian packages: sipp with scenarios of ours, baresip as a softphone. A missing one fails the test by name.

use crate::node::{Node, Run, address, root, wait_for};
use crate::pcap::Capture;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Fails the test with the package to install, so that a gap in the machine is never taken for a success.
#[track_caller]
pub fn require(program: &str, package: &str) {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    assert!(found, "`{program}` is missing: install it by `apt-get install {package}` (`make test` does so as root)");
}

/// Waits until somebody has this UDP port: asked of the kernel, since a socket of ours would be in the way.
#[track_caller]
pub fn wait_udp(address: SocketAddr) {
    let SocketAddr::V4(v4) = address else { panic!("the tests' peers live in 127.0.0.0/8") };
    // The address as the kernel's own word of memory, the port as a number.
    let entry = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let bound = || fs::read_to_string("/proc/net/udp").is_ok_and(|t| t.lines().any(|l| l.split_whitespace().nth(1) == Some(&entry)));
    wait_for(&format!("somebody who listens on {address}"), bound);
}

/// Runs one call of `tests/sipp/SCENARIO.xml` against the node; the captures that it plays lie in the folder it runs in.
pub fn sipp(node: &Node, scenario: &str, user: &str, captures: &[(&str, &Capture)]) -> Run {
    sipp_with(node, scenario, user, captures, &[])
}

/// The same with more arguments, which win over ours: `-t t1` for TCP, `-m` for more calls.
pub fn sipp_with(node: &Node, scenario: &str, user: &str, captures: &[(&str, &Capture)], more: &[&str]) -> Run {
    require("sipp", "sip-tester");
    let file = root().join("tests/sipp").join(format!("{scenario}.xml"));
    // A folder of its own: sipp writes its log files where it stands.
    let folder = node.file(&format!("sipp-{scenario}"));
    fs::create_dir_all(&folder).expect("a folder");
    for (name, capture) in captures {
        capture.write(&folder.join(name));
    }
    let ip = address().to_string();
    let mut command = Command::new("sipp");
    command.arg(node.sip().to_string()).arg("-sf").arg(&file).args(["-s", user, "-i", &ip, "-mi", &ip, "-m", "1"]);
    command.args(["-nostdin", "-trace_err", "-trace_msg", "-timeout", "60s", "-timeout_error", "-recv_timeout", "20000"]);
    command.args(more);
    let output = command.current_dir(&folder).stdin(Stdio::null()).output().expect("sipp runs");
    let mut run = Run::of(&["sipp", scenario, user], &output);
    // What sipp thinks went wrong, and the messages, are in files.
    for entry in fs::read_dir(&folder).expect("the folder").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        run.stderr.push_str(&format!("\n--- {}\n{text}", entry.file_name().to_string_lossy()));
    }
    run
}

/// A port for baresip, which takes it by UDP and TCP and the next one by TLS. Below the range from which the kernel gives ports to others.
fn baresip_port(ip: std::net::Ipv4Addr) -> u16 {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 500) as u16 * 16;
    let free = |port: &u16| {
        let streams = TcpListener::bind((ip, *port)).is_ok() && TcpListener::bind((ip, *port + 1)).is_ok();
        streams && UdpSocket::bind((ip, *port)).is_ok()
    };
    let mut ports = std::iter::repeat_with(|| 22_000 + (first + NEXT.fetch_add(2, Ordering::Relaxed)) % 8000);
    ports.by_ref().take(1000).find(free).expect("a free port")
}

/// A baresip without sound card: it says what a WAV file says and writes down what it hears.
pub struct Baresip {
    child: Child,
    sip: SocketAddr,
    log: std::path::PathBuf,
    folder: std::path::PathBuf,
}

impl Baresip {
    /// Starts it and has it run `commands` (as typed at its prompt) once it is up.
    pub fn start(node: &Node, wav: &Path, commands: &[&str]) -> Baresip {
        Baresip::with(node, wav, "audio_codecs=PCMU/8000/1", commands)
    }

    /// One that answers at once.
    pub fn callee(node: &Node, wav: &Path) -> Baresip {
        let phone = Baresip::with(node, wav, "audio_codecs=PCMU/8000/1;answermode=auto", &[]);
        wait_udp(phone.sip);
        phone
    }

    /// With these parameters of its account.
    pub fn with(node: &Node, wav: &Path, account: &str, commands: &[&str]) -> Baresip {
        // Its RTP socket is bound to no address, so what it sends comes from the address the kernel chooses: 127.0.0.1. If it named
        // another one in its SDP the node would, rightly, not listen to it.
        let ip = Ipv4Addr::LOCALHOST;
        let port = baresip_port(ip);
        require("baresip", "baresip-core");
        let folder = node.file(&format!("baresip-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        let modules = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"];
        let modules = modules.iter().find(|path| Path::new(path).is_dir()).expect("baresip's modules: `apt-get install baresip-core`");
        let config = format!(
            "module_path {modules}\nsip_listen {ip}:{port}\nnet_interface {ip}\nrtp_ports 20000-20100\ncall_max_calls 4\n\
             audio_source aufile,{wav}\naudio_player aufile,{heard}\naudio_alert aufile,/dev/null\naudio_level no\nausrc_srate 8000\nauplay_srate 8000\n\
             ausrc_channels 1\nauplay_channels 1\nmodule g711.so\nmodule aufile.so\nmodule stdio.so\nmodule_app account.so\nmodule_app menu.so\n\
             sndfile_path {folder}\nmodule sndfile.so\n",
            wav = wav.display(),
            heard = folder.join("player.wav").display(),
            folder = folder.display(),
        );
        fs::write(folder.join("config"), config).expect("a config file");
        fs::write(folder.join("accounts"), format!("<sip:baresip@{ip}:{port}>;regint=0;dtmfmode=rtpevent;{account}\n"))
            .expect("an accounts file");
        fs::write(folder.join("contacts"), "").expect("a contacts file");
        let log = folder.join("log");
        let out = fs::File::create(&log).expect("a log file");
        let errors = out.try_clone().expect("a second handle");
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&folder).arg("-v");
        for text in commands {
            command.args(["-e", text]);
        }
        let child = command.current_dir(&folder).stdin(Stdio::piped()).stdout(out).stderr(errors).spawn().expect("baresip runs");
        Baresip { child, sip: (ip, port).into(), log, folder }
    }

    /// What a handler calls to reach it.
    pub fn uri(&self) -> String {
        format!("sip:baresip@{}", self.sip)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Keys as typed at its prompt: digits of a call that is up go out as telephone-events.
    pub fn keys(&mut self, keys: &str) {
        use std::io::Write;
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("baresip reads its keys");
    }

    #[track_caller]
    pub fn wait_log(&self, word: &str) {
        let started = Instant::now();
        while !self.log().contains(word) {
            assert!(started.elapsed() < Duration::from_secs(20), "baresip never says {word:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it heard: the decoded audio that the sndfile module dumps.
    pub fn heard(&self) -> Option<std::path::PathBuf> {
        let files = fs::read_dir(&self.folder).ok()?.flatten().map(|entry| entry.path());
        files.filter(|path| path.to_string_lossy().ends_with("dec.wav")).max()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Without the line that it writes ten times a second.
            let log = self.log().replace('\r', "\n");
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("(bit/s)") || line.contains("DTMF")).collect();
            eprintln!("baresip said:\n{}", lines.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
