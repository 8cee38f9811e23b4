//! Others who do the same work, from Debian's packages, on the node's core and driven by the same phones: Kamailio as proxy with
//! rtpengine in user space, Kamailio alone as one who answers, sipp as one who answers. Each is started on free ports of loopback from a
//! configuration made for the run, and ends with its [`Peer`].

use crate::subject::{Subject, free_port};
use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Whom one may find beside us, and what Debian calls him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Proxy with media through rtpengine; the flag: rtpengine keeps both sides as pcap.
    Relay { recorded: bool },
    /// Proxy for signalling alone.
    Proxy,
    /// Kamailio answers every call itself, without any state.
    Answerer,
    /// sipp's own scenario of one who answers.
    Sipp,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Relay { recorded: false } => "kamailio + rtpengine (user space)",
            Kind::Relay { recorded: true } => "kamailio + rtpengine, pcap",
            Kind::Proxy => "kamailio, signalling alone",
            Kind::Answerer => "kamailio, stateless answer",
            Kind::Sipp => "sipp -sn uas",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Relay { .. } => &["kamailio", "rtpengine"],
            Kind::Proxy | Kind::Answerer => &["kamailio"],
            Kind::Sipp => &["sipp"],
        }
    }

    /// Why he cannot be measured here.
    pub fn absent(self) -> Option<String> {
        let missing: Vec<&str> = self.programs().iter().copied().filter(|program| !installed(program)).collect();
        (!missing.is_empty()).then(|| format!("absent: {} not installed (scripts/setup.sh bench)", missing.join(", ")))
    }
}

/// Whether a program is there.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers lie where a user's path does not lead.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

pub struct Peer {
    groups: Vec<Child>,
    folder: tempfile::TempDir,
    sip: SocketAddr,
}

impl Peer {
    pub fn start(kind: Kind, options: &Options) -> Result<Peer> {
        let folder = options.folder("hookswitch-bench-peer-")?;
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut peer = Peer { groups: Vec::new(), folder, sip };
        match kind {
            Kind::Relay { recorded } => {
                let control = free_port()?;
                peer.rtpengine(options, control, recorded)?;
                peer.kamailio(options, &kamailio_config(sip, Some((control, recorded))))?;
            }
            Kind::Proxy | Kind::Answerer => peer.kamailio(options, &kamailio_config(sip, None))?,
            Kind::Sipp => {
                peer.spawn(options, "sipp", &["-sn", "uas", "-i", "127.0.0.1", "-p", &sip.port().to_string(), "-nostdin", "-skip_rlimit"])?
            }
        }
        peer.await_bound(sip.port())?;
        // What start-up left to do must not be measured with the first call.
        thread::sleep(Duration::from_secs(1));
        Ok(peer)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One process group, all of it on the node's core, which ends when we do.
    fn spawn(&mut self, options: &Options, program: &str, arguments: &[&str]) -> Result<()> {
        let log = File::create(self.path().join(format!("{program}.log")))?;
        let child = Command::new("setpriv")
            // Its main process ends its workers.
            .args(["--pdeathsig", "TERM", "taskset", "-c", &options.node_core.to_string(), program])
            .args(arguments)
            .current_dir(self.path())
            .env("PATH", format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default()))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv (util-linux)")?;
        self.groups.push(child);
        Ok(())
    }

    fn rtpengine(&mut self, options: &Options, control: u16, recorded: bool) -> Result<()> {
        let (folder, ng) = (self.path().display().to_string(), format!("127.0.0.1:{control}"));
        let recording = format!("--recording-dir={folder}");
        let pid = format!("--pidfile={folder}/rtpengine.pid");
        let mut arguments = vec![
            "--foreground",
            "--log-stderr",
            "--log-level=3",
            "--config-file=none",
            // No kernel module: every packet goes through the process, as it does through the node.
            "--table=-1",
            "--interface=127.0.0.1",
            "--listen-ng",
            &ng,
            "--port-min=20000",
            "--port-max=59999",
            "--num-threads=2",
            "--timeout=60",
            // Sessions are gone with their BYE, as the node's are.
            "--delete-delay=0",
            &pid,
        ];
        if recorded {
            arguments.extend([recording.as_str(), "--recording-method=pcap", "--recording-format=raw"]);
        }
        self.spawn(options, "rtpengine", &arguments)?;
        self.await_bound(control)
    }

    fn kamailio(&mut self, options: &Options, config: &str) -> Result<()> {
        let path = self.path().join("kamailio.cfg");
        std::fs::write(&path, config)?;
        let (path, run) = (path.display().to_string(), self.path().display().to_string());
        self.spawn(options, "kamailio", &["-DD", "-E", "-m", "1024", "-M", "32", "-Y", &run, "-f", &path])
    }

    /// Until somebody has UDP `port`.
    fn await_bound(&mut self, port: u16) -> Result<()> {
        let started = Instant::now();
        let wanted = format!(":{port:04X} ");
        loop {
            let table = std::fs::read_to_string("/proc/net/udp")?;
            if table.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| format!("{local} ").ends_with(&wanted))) {
                return Ok(());
            }
            for child in &mut self.groups {
                if let Some(status) = child.try_wait()? {
                    bail!("a peer ended with {status}:\n{}", self.end_of_log());
                }
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("nobody has port {port}:\n{}", self.end_of_log());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Files that rtpengine keeps of calls, finished ones.
    pub fn kept(&self) -> usize {
        let entries = std::fs::read_dir(self.path().join("pcaps")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.metadata().is_ok_and(|file| file.len() > 1000)).count()
    }

    fn processes(&self) -> Vec<u32> {
        self.groups.iter().flat_map(|child| machine::group(child.id())).collect()
    }
}

impl Subject for Peer {
    fn sip(&self) -> SocketAddr {
        self.sip
    }

    fn cpu(&self) -> Result<Duration> {
        self.processes().into_iter().map(machine::cpu_time).sum()
    }

    fn resident(&self) -> Result<u64> {
        self.processes().into_iter().map(machine::proportional).sum()
    }

    fn log(&self) -> String {
        let logs =
            std::fs::read_dir(self.path()).into_iter().flatten().flatten().filter(|e| e.path().extension().is_some_and(|e| e == "log"));
        logs.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in &mut self.groups {
            for pid in machine::group(child.id()) {
                // SAFETY: no memory is involved; the process is of the group that we made.
                unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A proxy that stays in the dialog; with rtpengine it stays in the media too. Calls to its own address it answers without any state.
fn kamailio_config(sip: SocketAddr, media: Option<(u16, bool)>) -> String {
    let (load, offer, answer, delete) = match media {
        None => (String::new(), "", "", ""),
        Some((control, recorded)) => (
            format!("loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:{control}\")\n"),
            match recorded {
                true => "rtpengine_offer(\"trust-address replace-origin ICE=remove record-call=on\");",
                false => "rtpengine_offer(\"trust-address replace-origin ICE=remove\");",
            },
            "if (status =~ \"2[0-9][0-9]\" && has_body(\"application/sdp\")) rtpengine_answer(\"trust-address replace-origin ICE=remove\");",
            "if (is_method(\"BYE\")) rtpengine_delete();",
        ),
    };
    format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
children=2
listen=udp:{sip}
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
{load}
request_route {{
    if (has_totag()) {{
        if (loose_route()) {{
            {delete}
            t_relay();
            exit;
        }}
        if (is_method("ACK")) {{
            if (t_check_trans()) t_relay();
            exit;
        }}
        sl_send_reply("200", "OK");
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (!is_method("INVITE")) {{
        if (!is_method("ACK")) sl_send_reply("200", "OK");
        exit;
    }}
    if ($rU == "answer") {{
        append_to_reply("Contact: <sip:{sip}>\r\n");
        set_reply_body("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n", "application/sdp");
        sl_send_reply("200", "OK");
        exit;
    }}
    record_route();
    {offer}
    t_on_reply("ANSWER");
    t_relay();
}}
onreply_route[ANSWER] {{
    {answer}
    exit;
}}
"#
    )
}
