//! The node under measurement: the release binary, all its threads confined to one core.

use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_TIME: Duration = Duration::from_secs(60);
const SIP: &str = "127.0.0.1:15060";
const API: &str = "127.0.0.1:18080";
const TOKEN: &str = "bench-operator-token";
const DOMAIN: &str = "demo.localhost";
/// Calls at a time that the tenant may have: more than any bench asks for.
const MAX_SESSIONS: u32 = 20_000;

pub struct Node {
    child: Child,
    folder: tempfile::TempDir,
}

impl Node {
    pub fn start(options: &Options) -> Result<Node> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("hookswitch-bench-");
        let folder = match &options.data {
            Some(path) => builder.tempdir_in(path)?,
            None => builder.tempdir()?,
        };
        let log = File::create(folder.path().join("node.log"))?;
        let binary = options.node.canonicalize().with_context(|| options.node.display().to_string())?;
        let guest = options.guests.join("menu.component.wasm");
        let guest = guest.canonicalize().with_context(|| guest.display().to_string())?;
        let child = Command::new("taskset")
            .args(["-c", &options.node_core.to_string()])
            .arg(binary)
            .args(["run", "--demo"])
            .current_dir(folder.path())
            .env("HOOKSWITCH_SIP_LISTEN", format!("udp://{SIP}"))
            .env("HOOKSWITCH_API_LISTEN", API)
            .env("HOOKSWITCH_RTP_PORTS", "20000-59999")
            .env("HOOKSWITCH_MEDIA_THREADS", "1")
            .env("HOOKSWITCH_STORAGE_DATA", folder.path().join("data"))
            .env("HOOKSWITCH_ADMIN_TOKEN", TOKEN)
            .env("HOOKSWITCH_DEMO_GUEST", guest)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("taskset (util-linux)")?;
        let mut node = Node { child, folder };
        let started = Instant::now();
        while ureq::get(format!("http://{API}/healthz")).call().is_err() {
            if let Some(status) = node.child.try_wait()? {
                bail!("the node ended with {status}:\n{}", node.log());
            }
            if started.elapsed() > START_TIME {
                bail!("the node is not healthy:\n{}", node.log());
            }
            thread::sleep(Duration::from_millis(100));
        }
        node.lift_quota()?;
        // What start-up left to do must not be measured with the first call.
        thread::sleep(Duration::from_secs(1));
        Ok(node)
    }

    /// A tenant has a quota of calls; here the machine is to be the limit.
    fn lift_quota(&self) -> Result<()> {
        let (url, bearer) = (format!("http://{API}/admin/tenants/{DOMAIN}"), format!("Bearer {TOKEN}"));
        let shown: Value = ureq::get(&url).header("Authorization", &bearer).call()?.body_mut().read_json()?;
        let mut tenant = shown.get("tenant").context("no tenant in the answer")?.clone();
        tenant["max_sessions"] = MAX_SESSIONS.into();
        ureq::put(&url).header("Authorization", &bearer).send_json(&tenant).context("max_sessions")?;
        Ok(())
    }

    pub fn sip(&self) -> SocketAddr {
        SIP.parse().expect("a constant address")
    }

    pub fn pid(&self) -> u32 {
        // taskset becomes the node.
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    pub fn cpu(&self) -> Result<Duration> {
        machine::cpu_time(self.pid())
    }

    pub fn resident(&self) -> Result<u64> {
        machine::resident(self.pid())
    }

    /// Every stored recording.
    pub fn recordings(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        collect(&self.folder.path().join("data/blobs"), &mut found)?;
        Ok(found)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            found.push(path);
        }
    }
    Ok(())
}
