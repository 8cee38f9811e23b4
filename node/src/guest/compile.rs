//! From an uploaded component to a module: compiled once, in a process of its own that may be killed and whose priority is the lowest,
//! and kept in a cache that is trusted only as far as its digests.
//!
//! Everything here blocks; call it off the call path.

use super::limits;
use crate::files;
use crate::net::{Priority, with_priority};
use hookswitch_wasm::{Class, Engine, LoadError, Module, Refusal, code_digest, content_hash, inspect, wrap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The hidden subcommand that the node calls itself with: `hookswitch compile-component IN OUT CPU_SECONDS`.
pub const SUBCOMMAND: &str = "compile-component";
/// This very program, also after an upgrade has put another one in its place: that one's engine may be another.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Folders of compilations that are under way begin so.
const WORK_PREFIX: &str = "work-";

/// Why a component cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is at fault; its author can act on the text.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The compiler refused it, or ran out of its time or memory.
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Disk or process: ours, not the author's.
    #[error("{what}: {error}")]
    Io { what: &'static str, error: std::io::Error },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> CompileError {
    move |error| CompileError::Io { what, error }
}

/// Makes modules of components, through the cache `DATA/compiled`.
pub struct Compiler {
    folder: PathBuf,
    engine: Arc<Engine>,
    program: Box<dyn Fn() -> std::io::Result<Command> + Send + Sync>,
    /// CPU time of one compilation, in whole seconds.
    cpu: Duration,
    counter: AtomicU64,
}

impl Compiler {
    /// A compiler that runs this very program again.
    pub fn new(data: &Path, engine: Arc<Engine>) -> Compiler {
        let program = || {
            let mut command = Command::new(THIS_PROGRAM);
            command.arg(SUBCOMMAND);
            Ok(command)
        };
        Compiler::with_program(data, engine, program)
    }

    /// A compiler that runs another one: it gets as arguments two paths, the component and where its code goes, and its seconds of CPU time.
    pub fn with_program(
        data: &Path,
        engine: Arc<Engine>,
        program: impl Fn() -> std::io::Result<Command> + Send + Sync + 'static,
    ) -> Compiler {
        Compiler { folder: data.join("compiled"), engine, program: Box::new(program), cpu: limits::COMPILE_CPU, counter: AtomicU64::new(0) }
    }

    /// Another CPU time for one compilation than `limits::COMPILE_CPU`. Whole seconds, at least one.
    pub fn cpu(mut self, cpu: Duration) -> Compiler {
        self.cpu = cpu;
        self
    }

    /// Inspect a component, compile it unless the cache has it, load it: behind guests, whose calls wait for them.
    pub fn compile(&self, component: &[u8]) -> Result<Arc<Module>, CompileError> {
        with_priority(Priority::Low, || self.compile_behind(component))
    }

    fn compile_behind(&self, component: &[u8]) -> Result<Arc<Module>, CompileError> {
        let seen = inspect(component, Class::Large.component_bytes())?;
        if let Some(module) = self.cached(&seen.hash) {
            return Ok(module);
        }
        self.compile_anew(component, &seen.hash)
    }

    fn path(&self, hash: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{hash}-{}.{ending}", self.engine.compatibility()))
    }

    /// What the cache holds, if it is whole. A damaged entry is as good as none: it will be replaced.
    pub fn cached(&self, hash: &str) -> Option<Arc<Module>> {
        let digest: [u8; 32] = fs::read(self.path(hash, "digest")).ok()?.try_into().ok()?;
        let code = files::read(&self.path(hash, "cwasm"), limits::COMPILED_BYTES).ok()?;
        match self.engine.load(&code, &digest) {
            Ok(module) if module.hash() == hash => Some(Arc::new(module)),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(component = hash, %error, "compiled code in the cache is not usable; compiling again");
                None
            }
        }
    }

    fn compile_anew(&self, component: &[u8], hash: &str) -> Result<Arc<Module>, CompileError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(io("cannot make the folder of compiled code"))?;
        let work = Work::new(&self.folder, self.counter.fetch_add(1, Ordering::Relaxed))?;
        let input = work.0.join("in");
        let output = work.0.join("out");
        write_private(&input, component).map_err(io("cannot write the component"))?;
        let mut command = (self.program)().map_err(io("cannot find the compiler"))?;
        command
            .arg(&input)
            .arg(&output)
            .arg(self.cpu.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_clear();
        run(command, self.cpu)?;
        let code = files::read(&output, limits::COMPILED_BYTES).map_err(io("cannot read the compiled code"))?;
        let digest = code_digest(self.engine.compatibility(), hash, &code);
        let file = wrap(self.engine.compatibility(), hash, &code);
        let module = self.engine.load(&file, &digest)?;
        // The code before its digest: without a digest it does not count.
        self.keep(&work, &file, &self.path(hash, "cwasm")).map_err(io("cannot keep the compiled code"))?;
        self.keep(&work, &digest, &self.path(hash, "digest")).map_err(io("cannot keep the digest"))?;
        Ok(Arc::new(module))
    }

    fn keep(&self, work: &Work, bytes: &[u8], to: &Path) -> std::io::Result<()> {
        let temporary = work.0.join("keep");
        write_private(&temporary, bytes)?;
        fs::rename(&temporary, to)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Forget compiled code, e.g. of a version that is gone. Running sessions keep theirs.
    pub fn forget(&self, hash: &str) {
        for ending in ["digest", "cwasm"] {
            // What is not there needs no forgetting.
            let _ = fs::remove_file(self.path(hash, ending));
        }
    }

    /// Forget what this engine cannot load, as after an upgrade, and what compilations left behind that a crash cut off. At start, before
    /// anything is compiled. Returns how many files and folders went.
    pub fn sweep(&self) -> usize {
        let of_this_engine = format!("-{}", self.engine.compatibility());
        let mut gone = 0;
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let left = name.to_string_lossy().starts_with(WORK_PREFIX);
            let foreign = !path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(&of_this_engine));
            let removed = match (left, foreign) {
                (true, _) => fs::remove_dir_all(&path),
                (false, true) => fs::remove_file(&path),
                (false, false) => continue,
            };
            match removed {
                Ok(()) => gone += 1,
                Err(error) => tracing::warn!(file = %path.display(), %error, "old compiled code stays on disk"),
            }
        }
        gone
    }

    /// Whether the cache has code for this component; it may still be damaged.
    pub fn has(&self, hash: &str) -> bool {
        self.path(hash, "digest").exists() && self.path(hash, "cwasm").exists()
    }
}

/// A folder for one compilation; gone with its end.
struct Work(PathBuf);

impl Work {
    fn new(folder: &Path, number: u64) -> Result<Work, CompileError> {
        let path = folder.join(format!("{WORK_PREFIX}{}-{number}", std::process::id()));
        // A process of the same id may have died here.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(io("cannot make a folder to compile in"))?;
        Ok(Work(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    files::write(&mut file, bytes)
}

/// Runs the compiler at idle priority from its first moment on: what a process does before it can lower its own takes milliseconds, in which it
/// would run beside handlers.
fn run(command: Command, cpu: Duration) -> Result<(), CompileError> {
    // The thread lives until the compiler has ended, which ends with it.
    with_priority(Priority::Idle, || wait_for(command, cpu))
}

/// Wait for the compiler, but not for ever.
fn wait_for(mut command: Command, cpu: Duration) -> Result<(), CompileError> {
    let mut child = command.spawn().map_err(io("cannot start the compiler"))?;
    let mut complaint = child.stderr.take().expect("stderr is piped");
    // A thread of its own reads, so that a compiler that complains at length does not wait for us.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What cannot be read is missing from a message, no more.
        let _ = (&mut complaint).take(limits::COMPILE_MESSAGE as u64).read_to_end(&mut text);
        let _ = std::io::copy(&mut complaint, &mut std::io::sink());
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    let status = loop {
        match child.try_wait().map_err(io("cannot wait for the compiler"))? {
            Some(status) => break Some(status),
            None if started.elapsed() > limits::COMPILE_WALL => {
                // It may have ended just now; either way it is gone after this.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let text = reader.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) if status.code() == Some(1) => Err(CompileError::Failed(text)),
        Some(status) => Err(CompileError::Failed(match status.signal() {
            Some(libc::SIGXCPU) => format!("takes more than {} s of CPU time to compile", cpu.as_secs()),
            Some(libc::SIGABRT) if text.contains("overflowed its stack") => "is nested too deeply to compile".into(),
            // A Rust program that gets no memory aborts.
            Some(libc::SIGABRT) => format!("needs more than {} MB of memory to compile", limits::COMPILE_MEMORY >> 20),
            Some(libc::SIGXFSZ) => format!("its native code is larger than {} MB", limits::COMPILED_BYTES >> 20),
            _ => format!("the compiler ended by itself ({status}) {text}").trim_end().to_owned(),
        })),
        None => Err(CompileError::Failed(format!("not compiled within {} s", limits::COMPILE_WALL.as_secs()))),
    }
}

/// The compiler's process: `args` are the component, where its code goes, and seconds of CPU time. Exit code 1: the component is at fault.
pub fn compile_component_main(args: &[OsString]) -> ExitCode {
    let seconds = |text: &OsString| text.to_str()?.parse::<u64>().ok().filter(|seconds| *seconds > 0);
    let ([input, output, _], Some(cpu)) = (args, args.last().and_then(seconds)) else {
        eprintln!("usage: hookswitch {SUBCOMMAND} IN OUT CPU_SECONDS");
        return ExitCode::from(2);
    };
    confine(cpu);
    match compile_file(Path::new(input), Path::new(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn compile_file(input: &Path, output: &Path) -> Result<(), String> {
    let component = files::read(input, Class::Large.component_bytes() as u64).map_err(|e| e.to_string())?;
    let engine = Engine::compiler().map_err(|e| e.to_string())?;
    let code = engine.compile(&component).map_err(|e| e.to_string())?;
    write_private(output, &code).map_err(|e| e.to_string())
}

/// Bound what this process may use, before it looks at anything that a tenant sent.
fn confine(cpu_seconds: u64) {
    lower_priority(19);
    let limit = |soft: u64| libc::rlimit { rlim_cur: soft, rlim_max: soft };
    // The soft limit's signal is told apart from others; the hard one kills what would not end by it.
    let cpu = libc::rlimit { rlim_cur: cpu_seconds, rlim_max: cpu_seconds.saturating_add(1) };
    let memory = limit(limits::COMPILE_MEMORY);
    let file = limit(limits::COMPILED_BYTES);
    let none = limit(0);
    let idle = libc::sched_param { sched_priority: 0 };
    let unused: libc::c_ulong = 0;
    // SAFETY: plain system calls with structs and numbers that we own, and nothing in this process uses a file beyond the standard ones
    // yet. One that is refused leaves the process less bounded, not wrong.
    unsafe {
        // Of the node nothing is inherited, even if some part of it has opened a file without saying that it is not to be.
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, unused, unused, unused);
        // Whoever asked is gone: nobody waits for the code.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, unused, unused, unused);
        libc::setrlimit(libc::RLIMIT_CPU, &raw const cpu);
        libc::setrlimit(libc::RLIMIT_AS, &raw const memory);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const file);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle);
    }
}

/// Make the calling thread nicer by so much.
fn lower_priority(by: i32) {
    // SAFETY: on Linux `PRIO_PROCESS` with 0 is the calling thread. Refused or not, nothing else changes.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, (now + by).min(19));
    }
}

/// The name under which a component is cached and listed.
pub fn component_hash(component: &[u8]) -> String {
    content_hash(component)
}
