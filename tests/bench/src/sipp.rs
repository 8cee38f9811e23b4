//! sipp as a second load generator: another opinion on answered calls a second.

use crate::{Options, peers};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub fn installed() -> bool {
    peers::installed("sipp")
}

/// Calls, answers and releases as fast as `window` calls at a time allow; answered calls a second over the whole run.
pub fn rate(peer: SocketAddr, options: &Options, user: &str, calls: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let run = |calls: usize, path: &Path| -> Result<f64> {
        let started = Instant::now();
        let status = Command::new("taskset")
            .args(["-c", &options.generator_core.to_string(), "sipp", &peer.to_string(), "-sn", "uac", "-s", user])
            .args(["-i", "127.0.0.1", "-d", "0", "-m", &calls.to_string(), "-l", &options.window.to_string()])
            .args(["-r", "100000", "-nostdin", "-timeout", "120s", "-timeout_error"])
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("sipp (Debian package sip-tester)")?;
        if !status.success() {
            bail!("sipp: {status}: not every call was answered and released");
        }
        Ok(calls as f64 / started.elapsed().as_secs_f64())
    };
    run(options.window, folder.path())?;
    run(calls, folder.path())
}
