//! The telephones: thousands of them on one core. SIP goes through the same endpoint that the node and the phones use; RTP is sent
//! lean, straight from the numbered frames, because a whole media leg a phone would cost the generator more than the node.
//!
//! Everything runs on one thread in steps of one millisecond; phones are spread over the 20 steps of a frame.

use crate::node::Node;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hookswitch_proto::media::{Codec, Direction, FRAME};
use hookswitch_proto::sip::{Cause, DialogId, Endpoint, EndpointConfig, EndpointOutput, Flow, Invite, Listen, SipEvent, Transport};
use hookswitch_proto::{Time, sdp};
use hookswitch_sim::numbered;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// User agents that share the phones: an endpoint keeps finished transactions for 32 s and has a limit to them.
const AGENTS: usize = 8;
/// RTP sockets that share the phones' media.
const MEDIA: usize = 16;
const STEP: Duration = Duration::from_millis(1);
const STEPS: u64 = 20;
/// Kernel buffer of a socket that many phones share.
static SOCKET_BUFFER: i32 = 32 << 20;
/// Phones say `phone << FRAME_BITS | frame`, so that a recording tells whose it is: 43 minutes, 8,192 phones.
pub const FRAME_BITS: u32 = 17;

/// What the phones do.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// So many calls, set up at this rate, all held for so long while they speak, then released.
    Hold { calls: usize, ramp: f64, hold: Duration },
    /// So many calls at a time, each released as soon as it is answered and followed by the next, for so long.
    Rate { window: usize, length: Duration },
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub answered: u64,
    /// Answered within the counted time: the first second does not count.
    pub answered_a_second: f64,
    /// Failures by status; 0: released by the node before we did.
    pub failed: BTreeMap<u16, u64>,
    /// Frames that each phone said.
    pub said: Vec<u32>,
    /// RTP packets heard while all calls were up, and the number there should have been.
    pub heard: u64,
    pub heard_expected: u64,
    /// Sequence numbers that never came.
    pub heard_lost: u64,
    /// How late the generator's own steps were, at most: what is above a frame's time is the generator's fault, not the node's.
    pub late: Duration,
    /// Of the node, while all calls were up: share of its core, and resident bytes.
    pub node_load: f64,
    pub node_resident: u64,
}

struct Agent {
    endpoint: Endpoint,
    socket: UdpSocket,
    address: SocketAddr,
    dialogs: HashMap<DialogId, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Calling,
    Talking,
    Releasing,
    Over,
}

struct Phone {
    state: State,
    dialog: Option<DialogId>,
    remote: Option<SocketAddr>,
    sequence: u16,
    timestamp: u32,
    said: u32,
    last_heard: Option<u16>,
    heard: u64,
    lost: u64,
}

pub struct Generator {
    started: Instant,
    node: SocketAddr,
    target: String,
    agents: Vec<Agent>,
    media: Vec<UdpSocket>,
    media_addresses: Vec<SocketAddr>,
    local: sdp::Local,
    phones: Vec<Phone>,
    /// Which phone a leg's port speaks to.
    by_port: Vec<Option<usize>>,
    outcome: Outcome,
    /// Calls are kept until told; otherwise they are released as soon as they are answered.
    holds: bool,
    /// All calls are up and nothing is being set up or released.
    steady: bool,
}

impl Generator {
    pub fn new(node: &Node, user: &str) -> Result<Generator> {
        let agents = (0..AGENTS).map(|n| agent(n as u8)).collect::<Result<_>>()?;
        let media = (0..MEDIA).map(|_| socket()).collect::<Result<Vec<_>>>()?;
        let media_addresses = media.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
        Ok(Generator {
            started: Instant::now(),
            node: node.sip(),
            target: format!("sip:{user}@{}", node.sip()),
            agents,
            media,
            media_addresses,
            local: sdp::Local::new(1, vec![Codec::Pcmu]),
            phones: Vec::new(),
            by_port: vec![None; 65_536],
            outcome: Outcome::default(),
            holds: true,
            steady: false,
        })
    }

    pub fn run(mut self, plan: Plan, node: &Node) -> Result<Outcome> {
        let calls = match plan {
            Plan::Hold { calls, .. } => calls,
            Plan::Rate { window, .. } => window,
        };
        if calls > 1 << (32 - FRAME_BITS) {
            bail!("more calls than a numbered frame can name");
        }
        self.phones = (0..calls).map(|_| Phone::new()).collect();
        self.holds = matches!(plan, Plan::Hold { .. });
        match plan {
            Plan::Hold { ramp, hold, .. } => self.hold(ramp, hold, node)?,
            Plan::Rate { length, .. } => self.rate(length)?,
        }
        self.outcome.said = self.phones.iter().map(|phone| phone.said).collect();
        Ok(self.outcome)
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// One millisecond of everything, at its time.
    fn step(&mut self, step: u64, speak: bool) -> Result<()> {
        let due = STEP * u32::try_from(step).context("a bench is shorter than 49 days")?;
        let elapsed = self.started.elapsed();
        if elapsed < due {
            thread::sleep(due - elapsed);
        } else if self.steady {
            self.outcome.late = self.outcome.late.max(elapsed - due);
        }
        if speak {
            self.speak(step);
            self.listen();
        }
        self.signal()
    }

    fn hold(&mut self, ramp: f64, hold: Duration, node: &Node) -> Result<()> {
        let calls = self.phones.len();
        let ramp_steps = (calls as f64 / ramp * 1000.0) as u64;
        let (mut step, mut begun) = (0u64, 0usize);
        // A call that has no answer by then has none.
        let patience = ramp_steps + 20_000;
        while self.phones.iter().any(|phone| matches!(phone.state, State::Idle | State::Calling)) {
            if step > patience {
                bail!("{} calls have no answer", self.count(State::Calling));
            }
            while begun < calls && begun as f64 <= step as f64 * ramp / 1000.0 {
                self.call(begun)?;
                begun += 1;
            }
            self.step(step, true)?;
            step += 1;
        }
        let heard_before: (u64, u64) = self.heard();
        let (cpu, since) = (node.cpu()?, Instant::now());
        self.steady = true;
        let end = step + u64::try_from(hold.as_millis())?;
        while step < end {
            self.step(step, true)?;
            step += 1;
        }
        self.steady = false;
        let length = since.elapsed();
        self.outcome.node_load = (node.cpu()? - cpu).as_secs_f64() / length.as_secs_f64();
        self.outcome.node_resident = node.resident()?;
        let (heard, lost) = self.heard();
        self.outcome.heard = heard - heard_before.0;
        self.outcome.heard_lost = lost - heard_before.1;
        self.outcome.heard_expected = (length.as_secs_f64() * 50.0 * self.count(State::Talking) as f64) as u64;
        // Released as they came, so that the end is no storm either.
        let (first, mut ended) = (step, 0usize);
        while self.phones.iter().any(|phone| !matches!(phone.state, State::Over)) {
            if step > first + patience {
                bail!("{} calls do not end", calls - self.count(State::Over));
            }
            while ended < calls && ended as f64 <= (step - first) as f64 * ramp / 1000.0 {
                self.release(ended);
                ended += 1;
            }
            self.step(step, true)?;
            step += 1;
        }
        Ok(())
    }

    fn rate(&mut self, length: Duration) -> Result<()> {
        for phone in 0..self.phones.len() {
            self.call(phone)?;
        }
        // Processes, caches and the transaction table are warm after a second.
        let warm = Duration::from_secs(1);
        let mut before = None;
        while self.started.elapsed() < warm + length {
            self.signal()?;
            if before.is_none() && self.started.elapsed() >= warm {
                before = Some((self.outcome.answered, Instant::now()));
            }
            for phone in 0..self.phones.len() {
                if self.phones[phone].state == State::Over {
                    self.phones[phone] = Phone::new();
                    self.call(phone)?;
                }
            }
        }
        if let Some((answered, since)) = before {
            self.outcome.answered_a_second = (self.outcome.answered - answered) as f64 / since.elapsed().as_secs_f64();
        }
        // What is under way is brought to its end.
        let end = Instant::now() + Duration::from_secs(20);
        while self.phones.iter().any(|phone| phone.state != State::Over) && Instant::now() < end {
            self.signal()?;
            thread::sleep(STEP);
        }
        Ok(())
    }

    fn count(&self, state: State) -> usize {
        self.phones.iter().filter(|phone| phone.state == state).count()
    }

    fn heard(&self) -> (u64, u64) {
        self.phones.iter().fold((0, 0), |(heard, lost), phone| (heard + phone.heard, lost + phone.lost))
    }

    fn call(&mut self, phone: usize) -> Result<()> {
        let now = self.now();
        let agent = &mut self.agents[phone % AGENTS];
        let address = self.media_addresses[phone % MEDIA];
        let invite = Invite {
            target: self.target.clone(),
            from: format!("<sip:{phone}@{}>", agent.address),
            to: None,
            flow: Flow { transport: Transport::Udp, local: agent.address, peer: self.node },
            headers: Vec::new(),
            sdp: Some(self.local.offer(address, Direction::SendRecv)),
        };
        let dialog = agent.endpoint.invite(now, invite).context("INVITE")?;
        agent.dialogs.insert(dialog, phone);
        self.phones[phone].dialog = Some(dialog);
        self.phones[phone].state = State::Calling;
        Ok(())
    }

    fn release(&mut self, phone: usize) {
        let now = self.now();
        let one = &mut self.phones[phone];
        if let (State::Talking, Some(dialog)) = (one.state, one.dialog) {
            one.state = State::Releasing;
            // If it is gone already, its end has been told.
            let _ = self.agents[phone % AGENTS].endpoint.bye(now, dialog, &[]);
        }
    }

    /// Everything SIP that is there to do.
    fn signal(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        for n in 0..self.agents.len() {
            let now = self.now();
            let agent = &mut self.agents[n];
            while let Ok((length, from)) = agent.socket.recv_from(&mut buffer) {
                let flow = Flow { transport: Transport::Udp, local: agent.address, peer: from };
                agent.endpoint.receive(now, flow, Bytes::copy_from_slice(&buffer[..length]));
            }
            if agent.endpoint.next_timeout().is_some_and(|at| at <= now) {
                agent.endpoint.handle_timeout(now);
            }
            while let Some(output) = self.agents[n].endpoint.poll() {
                match output {
                    EndpointOutput::Transmit { flow, bytes } => {
                        // A full socket buffer loses it, as a network would: the endpoint repeats it.
                        let _ = self.agents[n].socket.send_to(&bytes, flow.peer);
                    }
                    EndpointOutput::Event(event) => self.on_sip(n, event)?,
                }
            }
        }
        Ok(())
    }

    fn on_sip(&mut self, agent: usize, event: SipEvent) -> Result<()> {
        match event {
            SipEvent::Answered { dialog, response } => {
                let Some(&phone) = self.agents[agent].dialogs.get(&dialog) else { return Ok(()) };
                let answer = sdp::Remote::parse(&response.body())?;
                let agreed = self.local.accept(&answer, Direction::SendRecv)?;
                self.outcome.answered += 1;
                self.by_port[usize::from(agreed.remote.port())] = Some(phone);
                let one = &mut self.phones[phone];
                one.remote = Some(agreed.remote);
                one.state = State::Talking;
                // Nobody holds: the rate is what is measured.
                if !self.holds {
                    self.release(phone);
                }
            }
            SipEvent::Gone { dialog, cause, .. } => {
                let Some(phone) = self.agents[agent].dialogs.remove(&dialog) else { return Ok(()) };
                match cause {
                    Cause::Local => {}
                    Cause::Failed { status, .. } => *self.outcome.failed.entry(status).or_default() += 1,
                    _ => *self.outcome.failed.entry(0).or_default() += 1,
                }
                self.phones[phone].state = State::Over;
            }
            _ => {}
        }
        Ok(())
    }

    /// The frames of the phones whose millisecond this is.
    fn speak(&mut self, step: u64) {
        let slot = (step % STEPS) as usize;
        let mut packet = [0; 12 + FRAME];
        packet[0] = 0x80;
        for index in (slot..self.phones.len()).step_by(STEPS as usize) {
            let phone = &mut self.phones[index];
            let (State::Talking, Some(remote)) = (phone.state, phone.remote) else { continue };
            packet[2..4].copy_from_slice(&phone.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&phone.timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&(index as u32 + 1).to_be_bytes());
            packet[12..].copy_from_slice(&numbered::frame((index as u32) << FRAME_BITS | phone.said));
            phone.sequence = phone.sequence.wrapping_add(1);
            phone.timestamp = phone.timestamp.wrapping_add(FRAME as u32);
            phone.said += 1;
            // What the kernel refuses is missing in the recording, and counted there.
            let _ = self.media[index % MEDIA].send_to(&packet, remote);
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2048];
        for socket in &self.media {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Some(phone) = self.by_port[usize::from(from.port())].and_then(|phone| self.phones.get_mut(phone)) else { continue };
                if length < 12 {
                    continue;
                }
                let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
                let step = phone.last_heard.map_or(1, |last| sequence.wrapping_sub(last));
                // Behind by less than half the circle: late or doubled, and not the next.
                if step != 0 && step < 0x8000 {
                    phone.lost += u64::from(step) - 1;
                    phone.last_heard = Some(sequence);
                }
                phone.heard += 1;
            }
        }
    }
}

impl Phone {
    fn new() -> Phone {
        Phone { state: State::Idle, dialog: None, remote: None, sequence: 1, timestamp: 0, said: 0, last_heard: None, heard: 0, lost: 0 }
    }
}

fn agent(number: u8) -> Result<Agent> {
    let socket = socket()?;
    let address = socket.local_addr()?;
    let config = EndpointConfig {
        listen: vec![Listen { transport: Transport::Udp, bound: address, advertise: None }],
        agent: "hookswitch-bench".into(),
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        session_expires: None,
        min_se: Duration::from_secs(90),
        known_peers: Vec::new(),
    };
    // Tags and branches need no secret here; Call-IDs of two runs must differ, and the port sees to that.
    let mut seed = [number; 32];
    seed[..2].copy_from_slice(&address.port().to_be_bytes());
    seed[2..6].copy_from_slice(&std::process::id().to_be_bytes());
    seed[6..14]
        .copy_from_slice(&std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_nanos().to_be_bytes().repeat(2));
    Ok(Agent { endpoint: Endpoint::new(config, seed), socket, address, dialogs: HashMap::new() })
}

/// A socket with room for what many phones get in a moment.
fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        // SAFETY: the descriptor is open as long as `socket` lives, and the value is a whole `c_int` that outlives the call.
        // Without CAP_NET_ADMIN it fails and the default size has to do.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const SOCKET_BUFFER).cast(),
                size_of::<i32>() as libc::socklen_t,
            );
        }
    }
    Ok(socket)
}
