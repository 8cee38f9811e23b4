//! tshark as a witness on the wire: what RTP there was, counted by somebody who took no part.

use crate::peer::require;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A capture that nobody ends.
const LONGEST: &str = "duration:60";
const POLL: Duration = Duration::from_millis(20);

/// A capture on loopback; killed when it is dropped.
pub struct Tshark {
    child: Option<Child>,
    file: PathBuf,
    log: PathBuf,
}

/// One RTP stream as tshark counts it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: String,
    pub packets: u64,
    pub lost: i64,
    /// Longest time between two packets, and mean jitter (RFC 3550 6.4.1).
    pub max_delta_ms: f64,
    pub mean_jitter_ms: f64,
}

impl Tshark {
    /// Of all UDP from and to this address, once it runs.
    pub fn capture(ip: IpAddr, folder: &Path) -> Tshark {
        require("tshark", "tshark");
        let (file, log) = (folder.join("rtp.pcapng"), folder.join("tshark.log"));
        let filter = format!("udp and host {ip}");
        let mut command = Command::new("tshark");
        command.args(["-i", "lo", "-B", "16", "-f", &filter, "-a", LONGEST, "-w"]).arg(&file);
        let errors = File::create(&log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().expect("tshark runs");
        let mut tshark = Tshark { child: Some(child), file, log };
        tshark.wait();
        tshark
    }

    fn wait(&mut self) {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains("Capture started") {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("tshark can be asked"));
            assert!(ended.is_none(), "tshark cannot capture on loopback (it needs root, or membership in group wireshark): {log}");
            assert!(started.elapsed() < Duration::from_secs(20), "tshark does not begin: {log}");
            std::thread::sleep(POLL);
        }
    }

    /// Ends the capture. The RTP streams that were in it.
    pub fn streams(mut self) -> Vec<Stream> {
        let mut child = self.child.take().expect("ended once");
        // As by Ctrl-C, so that what was captured is written.
        let asked = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        assert!(asked.success(), "tshark had ended: {}", fs::read_to_string(&self.log).unwrap_or_default());
        child.wait().expect("tshark ends");
        let output = Command::new("tshark")
            .args(["--enable-heuristic", "rtp_udp", "-q", "-z", "rtp,streams", "-r"])
            .arg(&self.file)
            .output()
            .expect("tshark runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "tshark: {text}{}", String::from_utf8_lossy(&output.stderr));
        let streams: Vec<Stream> = text.lines().filter_map(stream).collect();
        assert!(!streams.is_empty(), "tshark saw no RTP:\n{text}");
        streams
    }
}

impl Drop for Tshark {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A line of `-z rtp,streams`: start, end, from, port, to, port, SSRC, payload, packets, lost (percent), deltas, jitters, problems.
fn stream(line: &str) -> Option<Stream> {
    let line = line.replace(['(', ')', '%'], " ");
    let words: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| Some(SocketAddr::new(words.get(at)?.parse().ok()?, words.get(at + 1)?.parse().ok()?));
    let ssrc = words.iter().position(|word| word.starts_with("0x"))?;
    // The payload's name may have several words; the packets are the first number after it.
    let count = (ssrc + 1..words.len()).find(|at| words[*at].parse::<u64>().is_ok())?;
    let number = |at: usize| words.get(at)?.parse::<f64>().ok();
    Some(Stream {
        from: address(ssrc.checked_sub(4)?)?,
        to: address(ssrc - 2)?,
        payload: words[ssrc + 1..count].join(" "),
        packets: words[count].parse().ok()?,
        lost: words.get(count + 1)?.parse().ok()?,
        max_delta_ms: number(count + 5)?,
        mean_jitter_ms: number(count + 7)?,
    })
}
