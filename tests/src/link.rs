//! A poor link between two network namespaces of a test's own: packets take their time, some are lost, and no more pass than a slow line
//! carries. Both ends are TUN devices and the link is this process, since not every kernel has `netem`; which packets are lost is a matter
//! of the seed and of who sends when.
//!
//! Start with [`Link::new`]; what runs at an end is begun by [`End::run`].

use crate::peer::require;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What the link does to packets, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub delay: Duration,
    pub bits_per_second: u64,
}

/// A packet that would wait for the line longer than this is dropped: what a home router holds.
const QUEUE: Duration = Duration::from_millis(200);
/// Bytes of a packet, and some.
const PACKET: usize = 2048;

pub struct Link {
    pub near: End,
    pub far: End,
    /// Of a hundred packets, in each direction.
    lost: Arc<AtomicU64>,
    /// Bytes that have passed from near to far.
    up: Arc<AtomicU64>,
}

/// A namespace with one device, `link`.
pub struct End {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    address: Ipv4Addr,
}

impl Link {
    /// The ends are in one network of 16 bits. Nothing is lost until [`Link::loses`] says so.
    pub fn new(near: Ipv4Addr, far: Ipv4Addr, quality: Quality, seed: u64) -> Link {
        require("ip", "iproute2");
        let (lost, up) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (near, near_device) = End::new(near);
        let (far, far_device) = End::new(far);
        let handle = |device: &File| device.try_clone().expect("a second handle");
        carry(handle(&near_device), handle(&far_device), quality, seed, lost.clone(), up.clone());
        carry(far_device, near_device, quality, seed ^ 0x5555, lost.clone(), Arc::default());
        Link { near, far, lost, up }
    }

    /// From now on it loses so many of a hundred packets.
    pub fn loses(&self, percent: u64) {
        self.lost.store(percent, Ordering::Relaxed);
    }

    /// Bytes that have passed from near to far.
    pub fn passed(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }
}

impl End {
    fn new(address: Ipv4Addr) -> (End, File) {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (opened, device) = mpsc::channel();
        // The namespace is this thread's, and of what it starts.
        thread::spawn(move || {
            // SAFETY: it takes a number, and changes this thread alone.
            let apart = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            let device = if apart == 0 { tun("link") } else { Err(io::Error::last_os_error()) };
            let _ = opened.send(device);
            for job in todo {
                job();
            }
        });
        let device = device.recv().expect("it says how it went").expect("a network namespace with a TUN device (needs root)");
        let end = End { jobs, address };
        end.ip("link set lo up");
        end.ip("link set dev link mtu 1400 up");
        end.ip(&format!("address add {address}/16 dev link"));
        (end, device)
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does something in this namespace; processes that it starts stay there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || drop(done.send(job())));
        self.jobs.send(job).expect("the namespace's thread lives as long as its end");
        result.recv().expect("the job ends")
    }

    /// Another network, another address: the one that was is gone before the next is there.
    pub fn move_to(&mut self, address: Ipv4Addr, meanwhile: Duration) {
        self.ip(&format!("address delete {}/16 dev link", self.address));
        thread::sleep(meanwhile);
        self.ip(&format!("address add {address}/16 dev link"));
        self.address = address;
    }

    fn ip(&self, arguments: &str) {
        let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let output = self.run(move || Command::new("ip").args(words).output()).expect("ip runs");
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn tun(name: &str) -> io::Result<File> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    const TUN_WITHOUT_INFORMATION: u16 = 0x1001;
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // `struct ifreq`: 16 bytes of name, then the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&TUN_WITHOUT_INFORMATION.to_ne_bytes());
    // SAFETY: the kernel reads and writes a `struct ifreq`, which is as large as this on 64 bits.
    match unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One direction, for as long as the devices are there.
fn carry(mut from: File, mut to: File, quality: Quality, mut seed: u64, lost: Arc<AtomicU64>, passed: Arc<AtomicU64>) {
    let (sender, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut line_free = Instant::now();
        let mut room = [0; PACKET];
        while let Ok(size) = from.read(&mut room) {
            let now = Instant::now();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if line_free > now + QUEUE || (seed >> 33) % 100 < lost.load(Ordering::Relaxed) {
                continue;
            }
            line_free = line_free.max(now) + Duration::from_nanos(size as u64 * 8 * 1_000_000_000 / quality.bits_per_second);
            passed.fetch_add(size as u64, Ordering::Relaxed);
            if sender.send((line_free + quality.delay, room[..size].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (arrives, packet) in under_way {
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            // The far end may be on its way out.
            let _ = to.write_all(&packet);
        }
    });
}
