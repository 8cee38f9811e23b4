//! Limits and priorities of the process and its threads. Being refused is normal (no root, a container): the caller says so once.

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

/// A command whose output nobody reads any more (`… | head`) ends as others do, without a panic. Not for the node, whose clients come and go.
pub fn die_of_closed_pipes() {
    // SAFETY: restores a default disposition; no handler of ours is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// All threads allocate from two arenas in place of eight a core: each arena keeps what its busiest moment needed. To be called before
/// there are threads.
pub fn share_memory() {
    // SAFETY: sets a number in the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives memory that was freed after a burst back to the kernel, which the allocator does not do by itself where something small lies
/// behind it. Takes milliseconds.
pub fn give_memory_back() {
    // SAFETY: the allocator's own lock keeps it apart from other threads.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Raises the limit of open files to `wanted` or as far as it goes, and says where it stands now.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a whole rlimit of ours.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur >= wanted {
        return Ok(limit.rlim_cur);
    }
    let before = limit;
    // Root may raise the hard limit too; others are refused and go as far as it is.
    for max in [wanted.max(before.rlim_max), before.rlim_max] {
        limit = libc::rlimit { rlim_cur: wanted.min(max), rlim_max: max };
        // SAFETY: the pointer is to a whole rlimit of ours.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
            return Ok(limit.rlim_cur);
        }
    }
    Ok(before.rlim_cur)
}

/// Random bytes of the kernel: the seed of everything that an outsider must not guess.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0u8; 32];
    let mut filled = 0;
    while filled < seed.len() {
        let rest = &mut seed[filled..];
        // SAFETY: the pointer and length are of the writable rest of `seed`.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => filled += n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(seed)
}

/// The time a thread may run before the scheduler compares it with others again: the least there is.
const SHORT_SLICE: Duration = Duration::from_micros(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Media: real time where we may.
    Media,
    /// Media on a core that is nearly full: before everything else, by weight and by a short slice.
    MediaCrowded,
    Usual,
    /// Signalling that takes little of a core: before all but media, real time where we may. By weight and slice alone it waits, now and then and
    /// up to a phase of the media, for a guest that has just begun its slice.
    Prompt,
    /// Signalling that takes more than real-time threads may beside media: the kernel keeps the twentieth part of a second for others. Before
    /// guests by weight: a thread that has run ahead of its share is made to wait for it when it wakes, some milliseconds between threads of like
    /// weight.
    PromptBusy,
    /// Signalling that takes a good part of a core: guests must come to run, or no call gets its answer.
    PromptCrowded,
    /// Guests: behind all but writers and compilers. By a short slice one that wakes goes before a writer that is at work.
    Guest,
    /// Behind guests, and yet not only what is left over: a tenth where guests compute without end. A thread that is left nothing for long has
    /// time owed to it, and whoever comes meanwhile waits while it takes that, some milliseconds.
    Low,
    /// Encoders and compilers: only what is left over.
    Idle,
}

/// For the calling thread. `Err` says what was refused; the thread then runs as it did.
pub fn set_priority(priority: Priority) -> io::Result<()> {
    let check = |rc: libc::c_int| if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let schedule = |policy: libc::c_int, level: libc::c_int| {
        // SAFETY: sched_param is plain integers, for which zero is a value.
        let mut param: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
        param.sched_priority = level;
        // What a real-time thread starts, threads and processes, begins as others do: it would run before everything else on the machine.
        let policy = policy | libc::SCHED_RESET_ON_FORK;
        // SAFETY: 0 is the calling thread and the pointer is to a whole sched_param of ours.
        check(unsafe { libc::sched_setscheduler(0, policy, &raw const param) })
    };
    let weigh = |level: i32, slice: Duration| {
        // SAFETY: sched_attr is plain integers, for which zero is a value.
        let mut attr: libc::sched_attr = unsafe { MaybeUninit::zeroed().assume_init() };
        attr.size = size_of::<libc::sched_attr>() as u32;
        attr.sched_policy = libc::SCHED_OTHER.unsigned_abs();
        attr.sched_nice = level;
        // What it starts begins as others do.
        attr.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
        // Linux 6.12 and later: a thread with a shorter slice that wakes goes before one that runs. Earlier ones take no notice.
        attr.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(0);
        // SAFETY: 0 is the calling thread, the pointer is to a whole sched_attr of ours whose size it says, and no flags are set.
        let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: setpriority takes no pointers; on Linux `PRIO_PROCESS` with 0 means the calling thread.
    let nice = |level: libc::c_int| check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, level) });
    match priority {
        Priority::Media => schedule(libc::SCHED_RR, 10).or_else(|_| weigh(-20, SHORT_SLICE)),
        // Not real time: what the kernel keeps for others of each second (50 ms; sched_rt_runtime_us, or the fair server) it then takes in
        // one piece, and every call hears it.
        Priority::MediaCrowded => weigh(-20, SHORT_SLICE),
        Priority::Usual => schedule(libc::SCHED_OTHER, 0).and_then(|()| nice(0)),
        Priority::Prompt => schedule(libc::SCHED_RR, 1).or_else(|_| set_priority(Priority::PromptBusy)),
        Priority::PromptBusy => weigh(-10, SHORT_SLICE).or_else(|_| weigh(0, SHORT_SLICE)),
        Priority::PromptCrowded => weigh(0, SHORT_SLICE),
        Priority::Guest => weigh(5, SHORT_SLICE),
        Priority::Low => schedule(libc::SCHED_OTHER, 0).and_then(|()| nice(15)),
        Priority::Idle => schedule(libc::SCHED_IDLE, 0).or_else(|_| nice(19)),
    }
}

/// Does it in a thread of that priority, and waits for it. Processes that it starts begin with it, and may end with the thread.
pub fn with_priority<T: Send>(priority: Priority, work: impl FnOnce() -> T + Send) -> T {
    let work = move || {
        // Refused, it runs as others do.
        let _ = set_priority(priority);
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Bounds what another process of ours may use: CPU seconds, and bytes of memory; of a file as many, since sound libraries keep memory in
/// files. It goes behind all else.
pub fn confine(pid: u32, cpu: u64, memory: u64) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    for (resource, most) in [(libc::RLIMIT_CPU, cpu), (libc::RLIMIT_AS, memory), (libc::RLIMIT_FSIZE, memory), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the pointer is to a whole rlimit of ours, and the old one is not asked for.
        if unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: setpriority takes no pointers. Refused only where it is lower already.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.unsigned_abs(), 10) };
    Ok(())
}

/// Pins the calling thread to a core.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE.unsigned_abs() as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: cpu_set_t is a plain bit array, for which zero is a value; CPU_SET stays inside it by the check above; 0 is the calling thread.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How late the kernel may make this thread's timers to save wake-ups; the default of 50 us is a twentieth of our phase.
pub fn set_timer_slack(nanoseconds: u64) {
    // SAFETY: PR_SET_TIMERSLACK takes one number and concerns the calling thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds as libc::c_ulong) };
}

/// Bytes left for us on the file system of `path`.
pub fn disk_free(path: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is NUL-terminated and the result a whole statvfs of ours, read only when it was filled.
    let stat = unsafe {
        let mut stat: libc::statvfs = MaybeUninit::zeroed().assume_init();
        if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
