//! The node under measurement: the release binary, all its threads confined to one core.

use crate::subject::{Subject, free_port};
use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_TIME: Duration = Duration::from_secs(60);
pub const TOKEN: &str = "bench-operator-token";
pub const DOMAIN: &str = "demo.localhost";
/// Calls at a time that the tenant may have: more than any bench asks for.
const MAX_SESSIONS: u32 = 20_000;
/// Uploads a minute: the most that there can be.
const DEPLOYS: u32 = 600;

const DATABASE: &str = "node.db";
/// More than any recording of the bench.
const AUDIO_MOST: u64 = 64 << 20;

/// Rows of the database.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub recordings: i64,
    pub calls: i64,
}

/// What the database says of a recording that is stored.
pub struct Finished {
    pub id: String,
    pub path: PathBuf,
    pub caller: String,
    /// Frames that did not come from the caller.
    pub made_up: i64,
}

pub struct Node {
    child: Child,
    folder: tempfile::TempDir,
    sip: SocketAddr,
    api: SocketAddr,
}

impl Node {
    /// With the demo's handler.
    pub fn start(options: &Options) -> Result<Node> {
        Node::start_with(options, "menu")
    }

    /// With another handler in the demo's place.
    pub fn start_with(options: &Options, handler: &str) -> Result<Node> {
        Node::start_as(options, handler, &[])
    }

    /// And with settings beside the bench's own.
    pub fn start_as(options: &Options, handler: &str, settings: &[(&str, &str)]) -> Result<Node> {
        let folder = options.folder("hookswitch-bench-")?;
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let log = File::create(folder.path().join("node.log"))?;
        let binary = options.node.canonicalize().with_context(|| options.node.display().to_string())?;
        let guest = options.guests.join(format!("{handler}.component.wasm"));
        let guest = guest.canonicalize().with_context(|| guest.display().to_string())?;
        let child = Command::new("taskset")
            .args(["-c", &options.node_core.to_string()])
            .arg(binary)
            .args(["run", "--demo"])
            .current_dir(folder.path())
            .env("HOOKSWITCH_SIP_LISTEN", format!("udp://{sip}"))
            .env("HOOKSWITCH_API_LISTEN", api.to_string())
            .env("HOOKSWITCH_RTP_PORTS", "20000-59999")
            .env("HOOKSWITCH_MEDIA_THREADS", "1")
            .env("HOOKSWITCH_STORAGE_DATA", folder.path().join("data"))
            .env("HOOKSWITCH_ADMIN_TOKEN", TOKEN)
            .env("HOOKSWITCH_DEMO_GUEST", guest)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("taskset (util-linux)")?;
        let mut node = Node { child, folder, sip, api };
        let started = Instant::now();
        while ureq::get(format!("http://{api}/healthz")).call().is_err() {
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

    /// A tenant has quotas of calls and of uploads; here the machine is to be the limit.
    fn lift_quota(&self) -> Result<()> {
        let (url, bearer) = (format!("http://{}/admin/tenants/{DOMAIN}", self.api), format!("Bearer {TOKEN}"));
        let shown: Value = ureq::get(&url).header("Authorization", &bearer).call()?.body_mut().read_json()?;
        let mut tenant = shown.get("tenant").context("no tenant in the answer")?.clone();
        tenant["max_sessions"] = MAX_SESSIONS.into();
        tenant["quotas"]["deploys_per_minute"] = DEPLOYS.into();
        ureq::put(&url).header("Authorization", &bearer).send_json(&tenant).context("max_sessions")?;
        Ok(())
    }

    /// The operator sets something; it must be taken.
    pub fn put(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("http://{}{path}", self.api);
        ureq::put(&url).header("Authorization", format!("Bearer {TOKEN}")).send_json(body).with_context(|| format!("PUT {path} {body}"))?;
        Ok(())
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.api);
        let mut answer = ureq::get(url).header("Authorization", format!("Bearer {TOKEN}")).call().with_context(|| format!("GET {path}"))?;
        Ok(answer.body_mut().read_json()?)
    }

    /// A tenant's prompt, from a WAV file's bytes.
    pub fn put_prompt(&self, domain: &str, name: &str, wav: &[u8]) -> Result<()> {
        let url = format!("http://{}/{domain}/promptfile/{name}", self.api);
        let request = ureq::put(url).header("Authorization", format!("Bearer {TOKEN}")).header("Content-Type", "audio/wav");
        request.send(wav).with_context(|| format!("PUT {name}"))?;
        Ok(())
    }

    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Pushes a handler and gives it to new calls. The answer's status, whichever it is.
    pub fn push(&self, domain: &str, component: &[u8]) -> Result<u16> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.post(format!("http://{}/{domain}/guests?activate=true", self.api));
        let request = request.header("Authorization", format!("Bearer {TOKEN}")).header("Content-Type", "application/wasm");
        Ok(request.send(component)?.status().as_u16())
    }

    pub fn pid(&self) -> u32 {
        // taskset becomes the node.
        self.child.id()
    }

    /// What `/metrics` says, by name with labels.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let text = ureq::get(format!("http://{}/metrics", self.api))
            .header("Authorization", format!("Bearer {TOKEN}"))
            .call()?
            .body_mut()
            .read_to_string()?;
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Ok(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// The folder of database, spool and blobs.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn database(&self) -> Result<rusqlite::Connection> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = rusqlite::Connection::open_with_flags(self.data().join(DATABASE), flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        Ok(db)
    }

    /// How many rows the database has of what grows with calls.
    pub fn rows(&self) -> Result<Rows> {
        let db = self.database()?;
        let count = |table: &str| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        Ok(Rows { recordings: count("recordings")?, calls: count("call_records")? })
    }

    /// Ids and files of all recordings in the database.
    pub fn indexed(&self) -> Result<Vec<(String, PathBuf)>> {
        let db = self.database()?;
        let mut statement = db.prepare("SELECT id, path FROM recordings")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, PathBuf::from(row.get::<_, String>(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Every row of a recording that is finished.
    pub fn finished(&self) -> Result<Vec<Finished>> {
        let db = self.database()?;
        let mut statement =
            db.prepare("SELECT id, path, caller, frames_concealed + frames_silence FROM recordings WHERE state = 'available'")?;
        let rows = statement.query_map([], |row| {
            Ok(Finished { id: row.get(0)?, path: PathBuf::from(row.get::<_, String>(1)?), caller: row.get(2)?, made_up: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A recording as its owner gets it, over HTTP.
    pub fn audio(&self, id: &str) -> Result<Vec<u8>> {
        let url = format!("http://{}/{DOMAIN}/recordings/{id}/audio", self.api);
        let mut answer = ureq::get(&url).header("Authorization", format!("Bearer {TOKEN}")).call().with_context(|| format!("GET {url}"))?;
        Ok(answer.body_mut().with_config().limit(AUDIO_MOST).read_to_vec()?)
    }

    pub fn written(&self) -> Result<machine::Written> {
        machine::written(self.pid())
    }

    /// Removes a stored recording as its owner would, over HTTP: file and row.
    pub fn remove_recording(&self, id: &str) -> Result<()> {
        let url = format!("http://{}/{DOMAIN}/recordings/{id}", self.api);
        ureq::delete(&url).header("Authorization", format!("Bearer {TOKEN}")).call().with_context(|| format!("DELETE {url}"))?;
        Ok(())
    }

    /// Every stored recording.
    pub fn recordings(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        collect(&self.data().join("blobs"), &mut found)?;
        Ok(found)
    }
}

impl Subject for Node {
    fn sip(&self) -> SocketAddr {
        self.sip
    }

    fn cpu(&self) -> Result<Duration> {
        machine::cpu_time(self.pid())
    }

    fn resident(&self) -> Result<u64> {
        machine::resident(self.pid())
    }

    fn threads(&self) -> BTreeMap<String, Duration> {
        machine::threads(self.pid())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
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
        } else if path.extension().is_some_and(|extension| ["wav", "mp3", "ogg"].iter().any(|audio| extension == *audio)) {
            found.push(path);
        }
    }
    Ok(())
}
