//! The machine under the bench: cores, open files, stolen time, what a process used.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Open files that are asked for: a socket pair and a file for each of the most calls there are, and some.
const OPEN_FILES: u64 = 65_536;

/// This thread runs on `core` alone from now on.
pub fn pin(core: usize) -> Result<()> {
    // SAFETY: `cpu_set_t` is a plain bit set for which all zeros is the empty set; it outlives the call that reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// This thread works only when nobody else wants to.
pub fn be_nice() {
    // What it was started by may be real time, where niceness means nothing.
    let _ = hookswitch::net::set_priority(hookswitch::net::Priority::Usual);
    // SAFETY: no memory is involved. `PRIO_PROCESS` with 0 is the calling thread on Linux; where it fails, the thread stays as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// As many open files as we want, or as the hard limit allows.
pub fn raise_open_files() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for both calls and outlives them.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        // Root may go above the hard limit; if not, the hard limit has to do.
        let higher = libc::rlimit { rlim_cur: OPEN_FILES.max(limit.rlim_cur), rlim_max: OPEN_FILES.max(limit.rlim_max) };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const higher) == 0 {
            return Ok(higher.rlim_cur);
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(std::io::Error::last_os_error().into()) }
}

/// The processor time of all cores, and the part that the hypervisor took, since the measurement began.
pub struct Steal {
    total: u64,
    stolen: u64,
}

impl Steal {
    pub fn now() -> Steal {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> = text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what follows is counted in user already.
        Steal { total: fields.iter().take(8).sum(), stolen: fields.get(7).copied().unwrap_or(0) }
    }

    pub fn percent(&self) -> f64 {
        let now = Steal::now();
        let total = now.total.saturating_sub(self.total).max(1);
        100.0 * now.stolen.saturating_sub(self.stolen) as f64 / total as f64
    }
}

/// Processor time that a process and its threads used so far.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The command's name may hold blanks: fields are counted from the parenthesis that ends it.
    let fields: Vec<&str> = text.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
    // USER_HZ is 100 on every Linux that we run on.
    Ok(Duration::from_millis(ticks * 10))
}

/// Processor time of each thread of a process so far, by the thread's name without its number.
pub fn threads(pid: u32) -> BTreeMap<String, Duration> {
    let mut times: BTreeMap<String, Duration> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // One that ends meanwhile has nothing to say.
        let text = |name| fs::read_to_string(task.path().join(name)).ok();
        let (Some(name), Some(run)) = (text("comm"), text("schedstat")) else { continue };
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        let nanoseconds = run.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        *times.entry(name).or_default() += Duration::from_nanos(nanoseconds);
    }
    times
}

/// Bytes that a process gave to the kernel to write, and those of them that the kernel took for a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    pub given: u64,
    pub disk: u64,
}

pub fn written(pid: u32) -> Result<Written> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("the process is gone, or not ours")?;
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Ok(Written { given: field("wchar:").context("wchar")?, disk: field("write_bytes:").context("write_bytes")? })
}

/// Bytes written so far to the disk that `path` lies on, by whomever. `None`: it is no disk that the kernel counts for.
pub fn device_written(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    let text = fs::read_to_string(format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device))).ok()?;
    // Sectors of 512 bytes, whatever the disk's own are.
    Some(text.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

/// Until everything that was written is on its disk.
pub fn sync() {
    // SAFETY: it takes nothing and gives nothing.
    unsafe { libc::sync() };
}

/// Time that this thread has run.
pub fn own_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("schedstat")?;
    Ok(Duration::from_nanos(text.split(' ').next().context("schedstat")?.parse()?))
}

/// All processes of a process group: what a server that forks its workers consists of.
pub fn group(leader: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let group_of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse::<u32>().ok()
    };
    pids.filter(|pid| group_of(pid) == Some(leader)).collect()
}

/// Resident memory of a process in bytes, what it shares with others counted in parts.
pub fn proportional(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// Pieces that a process's address space is in.
pub fn mappings(pid: u32) -> Result<usize> {
    Ok(fs::read_to_string(format!("/proc/{pid}/maps")).context("the process is gone")?.lines().count())
}

/// The middle value; of two, the lower.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The value below which `percent` of the values lie.
pub fn percentile(values: &mut [f64], percent: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * percent / 100.0).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_does_is_seen() {
        let pid = std::process::id();
        let before = written(pid).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), [0; 10_000]).unwrap();
        assert!(written(pid).unwrap().given >= before.given + 10_000);
        assert!(threads(pid).values().any(|time| !time.is_zero()));
        assert!(threads(0).is_empty() && written(0).is_err());
    }

    #[test]
    fn middles() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(1.0));
        let mut values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&mut values, 99.0), Some(99.0));
        assert_eq!(percentile(&mut [], 99.0), None);
    }
}
