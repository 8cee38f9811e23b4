//! `hookswitch check`: could a node run here with this configuration, and what would it lack? It changes nothing.

use super::output::{say, say_json, table};
use super::{Common, Failure, Outcome};
use crate::api::Tls;
use crate::config::{Config, Scheme};
use crate::limits;
use crate::net::{Priority, disk_free, raise_open_files, set_priority};
use crate::speech;
use hookswitch_wasm::Engine;
use serde_json::json;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

/// Below this, recordings of a few hours of calls fill the disk (16 KB a second and call).
const DISK: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// It runs, with less than it could have.
    Weak,
    /// It does not run.
    Bad,
}

struct Finding {
    name: String,
    state: State,
    says: String,
}

pub(super) fn check(common: &Common) -> Outcome {
    // A broken configuration is one line and the end: nothing else can be judged.
    let config = common.load()?;
    let findings = findings(&config);
    let word = |state| match state {
        State::Fine => "ok",
        State::Weak => "weak",
        State::Bad => "bad",
    };
    if common.json {
        let to_json = |f: &Finding| json!({ "name": f.name, "state": word(f.state), "says": f.says });
        say_json(&json!({ "checks": findings.iter().map(to_json).collect::<Vec<_>>() }))?;
    } else {
        let row = |f: &Finding| vec![word(f.state).to_owned(), f.name.clone(), f.says.clone()];
        say(&table(&["", "WHAT", "FOUND"], &findings.iter().map(row).collect::<Vec<_>>()))?;
    }
    match findings.iter().filter(|f| f.state == State::Bad).count() {
        0 => Ok(()),
        bad => Err(Failure::Failed(format!("{bad} of {} checks failed: the node would not run here", findings.len()))),
    }
}

fn findings(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |name: &str, state, says: String| found.push(Finding { name: name.to_owned(), state, says });

    add("configuration", State::Fine, "valid".into());
    for warning in &config.warnings {
        add("configuration", State::Weak, warning.clone());
    }
    for listen in &config.sip.listen {
        let (name, bound) = match listen.scheme {
            Scheme::Udp => (format!("udp {}", listen.address), UdpSocket::bind(listen.address).map(drop)),
            Scheme::Tcp => (format!("tcp {}", listen.address), TcpListener::bind(listen.address).map(drop)),
        };
        match bound {
            Ok(()) => add(&name, State::Fine, "free".into()),
            Err(error) => add(&name, State::Bad, format!("sip.listen: {error}")),
        }
    }
    match TcpListener::bind(config.api.listen) {
        Ok(_) => add(&format!("tcp {}", config.api.listen), State::Fine, "free".into()),
        Err(error) => add(&format!("tcp {}", config.api.listen), State::Bad, format!("api.listen: {error}")),
    }
    if let Some(tls) = &config.api.tls {
        match Tls::load(tls) {
            Ok(_) => add("api.tls_cert", State::Fine, format!("{} and its key are good", tls.cert.display())),
            Err(why) => add("api.tls_cert", State::Bad, why),
        }
        if tls.h3 {
            match UdpSocket::bind(config.api.listen) {
                Ok(_) => add(&format!("udp {}", config.api.listen), State::Fine, "free".into()),
                Err(error) => add(&format!("udp {}", config.api.listen), State::Bad, format!("api.listen: {error}")),
            }
        }
    }
    match UdpSocket::bind(SocketAddr::new(config.rtp.address, 0)) {
        Ok(_) => add("rtp address", State::Fine, config.rtp.address.to_string()),
        Err(error) => add("rtp address", State::Bad, format!("rtp.address {}: {error}", config.rtp.address)),
    }
    let (state, says) = ports(config);
    add("rtp ports", state, says);

    for (field, folder) in [("storage.data", &config.storage.data), ("storage.blobs", &config.storage.blobs)] {
        let (state, says) = writable(folder);
        add(field, state, format!("{} {says}", folder.display()));
    }
    match raise_open_files(limits::OPEN_FILES) {
        Ok(files) if files >= limits::OPEN_FILES => add("open files", State::Fine, files.to_string()),
        Ok(files) => {
            // Two sockets a call, one file a recording.
            add(
                "open files",
                State::Weak,
                format!("{files}, enough for about {} calls; raise it: ulimit -n {}", files / 3, limits::OPEN_FILES),
            );
        }
        Err(error) => add("open files", State::Weak, error.to_string()),
    }
    match Engine::start(hookswitch_wasm::Options::default()) {
        Ok(engine) => match engine.warning() {
            Some(warning) => add("guest instances", State::Weak, warning.to_owned()),
            None => add("guest instances", State::Fine, engine.instances().to_string()),
        },
        Err(error) => add("guest instances", State::Bad, error.to_string()),
    }
    // On a thread of its own, which ends: the priority is not for us.
    let priority = std::thread::spawn(|| set_priority(Priority::Media)).join();
    match priority {
        Ok(Ok(())) => add("media priority", State::Fine, "may be raised".into()),
        _ => add(
            "media priority",
            State::Weak,
            "may not be raised: other work on this machine will be heard in calls (needs CAP_SYS_NICE)".into(),
        ),
    }
    match speech::local::find() {
        Some(program) => add("speech", State::Fine, program.display().to_string()),
        None => add("speech", State::Weak, "espeak-ng is not installed: phrases that this machine is to speak fail (phraseError)".into()),
    }
    match sysctl("net/core/rmem_max").and_then(|text| text.parse::<usize>().ok()) {
        Some(bytes) if bytes < limits::SIP_SOCKET_BUFFER => {
            let says = format!("{bytes}: bursts of SIP are dropped sooner; sysctl -w net.core.rmem_max={}", limits::SIP_SOCKET_BUFFER);
            add("net.core.rmem_max", State::Weak, says);
        }
        Some(bytes) => add("net.core.rmem_max", State::Fine, bytes.to_string()),
        None => add("net.core.rmem_max", State::Weak, "cannot be read".into()),
    }
    found
}

/// Ports that the kernel hands out by itself must not be ours: a call would find its port taken.
fn ports(config: &Config) -> (State, String) {
    let ports = config.rtp.ports;
    let says = format!("{}-{}, {} calls at a time", ports.first, ports.last, ports.pairs());
    let local = sysctl("net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut local = local.split_whitespace().filter_map(|text| text.parse::<u16>().ok());
    let (Some(first), Some(last)) = (local.next(), local.next()) else { return (State::Fine, says) };
    let reserved = sysctl("net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let (from, to) = (ports.first.max(first), ports.last.min(last));
    if from > to || is_reserved(&reserved, from, to) {
        return (State::Fine, says);
    }
    let advice =
        format!("{from}-{to} are also handed out by the kernel; sysctl -w net.ipv4.ip_local_reserved_ports={}-{}", ports.first, ports.last);
    (State::Weak, format!("{says}; {advice}"))
}

/// Whether one entry of a list like `8080,16384-32767` covers the range.
fn is_reserved(list: &str, from: u16, to: u16) -> bool {
    list.split(',').any(|entry| {
        let (first, last) = entry.trim().split_once('-').unwrap_or((entry.trim(), entry.trim()));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= from && to <= last)
    })
}

fn writable(folder: &Path) -> (State, String) {
    // What does not exist is made by the node: then it is the nearest folder above that has to allow it.
    let mut there = folder;
    while !there.exists() {
        there = match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    let probe = there.join(format!(".hookswitch-check-{}", std::process::id()));
    let tried = fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|file| file.sync_all());
    let _ = fs::remove_file(&probe);
    match (tried, disk_free(there)) {
        (Err(error), _) => (State::Bad, format!("cannot be written: {error}")),
        (Ok(()), Ok(free)) if free < DISK => (State::Weak, format!("is writable, but only {} MB are free", free >> 20)),
        (Ok(()), Ok(free)) => (State::Fine, format!("is writable, {} GB free", free >> 30)),
        (Ok(()), Err(_)) => (State::Fine, "is writable".into()),
    }
}

fn sysctl(name: &str) -> Option<String> {
    Some(fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_understood() {
        for (list, from, to, covered) in [
            ("16384-32767", 16384, 32767, true),
            ("8080,16384-32767", 32768, 32768, false),
            ("8080, 20000", 20000, 20000, true),
            ("20000-20010", 20000, 20011, false),
            ("", 1, 2, false),
            ("x-y", 1, 2, false),
        ] {
            assert_eq!(is_reserved(list, from, to), covered, "{list} {from}-{to}");
        }
    }

    #[test]
    fn what_cannot_run_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
        let text = format!(
            "[sip]\nlisten = [\"udp://{}\"]\n[api]\nlisten = \"{}\"\n[storage]\ndata = \"{}/new/data\"\n",
            taken.local_addr().expect("bound"),
            busy.local_addr().expect("bound"),
            folder.path().display()
        );
        let config = Config::parse(&text, std::iter::empty()).expect("valid");
        let bad: Vec<String> = findings(&config).into_iter().filter(|f| f.state == State::Bad).map(|f| f.says).collect();
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad[0].starts_with("sip.listen") && bad[1].starts_with("api.listen"), "{bad:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0, "nothing is left behind");

        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert_eq!(writable(&file.join("below")).0, State::Bad);
    }
}
