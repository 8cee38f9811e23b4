//! The floor: what the same number of packets costs when nothing is done with them. A process on the node's core receives 172 bytes
//! from every socket and sends 172 bytes back, 50 times a second; nobody can hold more calls than that on that core.

use crate::Options;
use crate::machine;
use crate::report::Report;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// An RTP header and 20 ms of G.711.
const PACKET: usize = 172;
/// Legs are spread over the 20 ms of a frame by the millisecond, as the node does.
const PHASES: usize = 20;
/// Sockets of the measurement: enough that a socket's memory is cold when its turn comes again.
const SOCKETS: usize = 1000;

/// Measures it; the number of legs that would fill the core.
pub fn measure(options: &Options, report: &mut Report) -> Result<f64> {
    let mut costs = Vec::new();
    for _ in 0..options.runs() {
        costs.push(run(options)?);
    }
    let cost = machine::median(costs).context("at least one run")?;
    let legs = 20_000.0 / cost;
    report.add(
        "floor: receive and send of one packet",
        "us",
        cost,
        format!(
            "{SOCKETS} sockets, {PACKET} bytes, 50 a second each, processor time of the receiving and sending process by leg and frame"
        ),
    );
    report.add("floor: legs a core", "legs", legs, "20 ms divided by that cost");
    Ok(legs)
}

/// Microseconds a packet received and one sent, once.
fn run(options: &Options) -> Result<f64> {
    let seconds = 5;
    let mut child = Guard(
        Command::new(std::env::current_exe()?)
            .args(["floor-node", &SOCKETS.to_string(), &seconds.to_string(), &options.node_core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut lines = BufReader::new(child.0.stdout.take().context("stdout is a pipe")?).lines();
    let mut line = || lines.next().context("the floor process ended")?.context("its output");
    let ports: Vec<u16> = line()?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    if ports.len() != SOCKETS {
        bail!("{} sockets instead of {SOCKETS}", ports.len());
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    // It tells where answers go, and starts the measurement.
    writeln!(child.0.stdin.as_mut().context("stdin is a pipe")?, "{}", socket.local_addr()?)?;
    let packet = [0x5a; PACKET];
    let mut buffer = [0; 2048];
    let mut back = 0u64;
    let start = Instant::now();
    for slot in 0..(seconds * 1000) as u32 {
        for port in ports.iter().skip(slot as usize % PHASES).step_by(PHASES) {
            let _ = socket.send_to(&packet, (Ipv4Addr::LOCALHOST, *port));
        }
        while socket.recv_from(&mut buffer).is_ok() {
            back += 1;
        }
        thread::sleep((Duration::from_millis(1) * (slot + 1)).saturating_sub(start.elapsed()));
    }
    let text = line()?;
    let (received, nanoseconds) = text.split_once(' ').context("two numbers")?;
    let (received, nanoseconds): (u64, u64) = (received.parse()?, nanoseconds.parse()?);
    let sent = SOCKETS as u64 * 50 * seconds;
    if received < sent * 9 / 10 || back < sent * 8 / 10 {
        bail!("of {sent} packets {received} arrived and {back} came back: the machine is busy with something else");
    }
    Ok(nanoseconds as f64 / 1000.0 / received as f64)
}

/// The floor's process: bare receive and send.
pub fn serve(sockets: usize, length: Duration, core: usize) -> Result<()> {
    machine::raise_open_files()?;
    machine::pin(core)?;
    let sockets: Vec<UdpSocket> = (0..sockets)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<Result<_>>()?;
    let ports: Vec<String> = sockets.iter().map(|s| Ok(s.local_addr()?.port().to_string())).collect::<Result<_>>()?;
    println!("{}", ports.join(" "));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let peer: SocketAddr = line.trim().parse()?;
    // As a leg does once it knows its peer.
    for socket in &sockets {
        socket.connect(peer)?;
    }
    let packet = [0xa5; PACKET];
    let mut buffer = [0; 2048];
    let mut received = 0u64;
    let before = own_nanoseconds()?;
    let start = Instant::now();
    let mut slot = 0u32;
    while start.elapsed() < length {
        for socket in sockets.iter().skip(slot as usize % PHASES).step_by(PHASES) {
            // One read a frame; the second that would say "empty" is not made, as with one `recvmmsg`.
            if socket.recv(&mut buffer).is_ok() {
                received += 1;
            }
            let _ = socket.send(&packet);
        }
        slot += 1;
        thread::sleep((Duration::from_millis(1) * slot).saturating_sub(start.elapsed()));
    }
    println!("{received} {}", own_nanoseconds()? - before);
    Ok(())
}

/// Time that this (single) thread has run.
fn own_nanoseconds() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(text.split(' ').next().context("schedstat")?.parse()?)
}

/// A child that does not outlive us.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
