//! The telephones: thousands of them on one core, callers and those who are called. SIP goes through the same endpoint that the node and
//! the phones use; RTP is sent lean, straight from the numbered frames, because a whole media leg a phone would cost the generator more
//! than the node.
//!
//! It carries calls out, one step of a millisecond at a time; which calls, and when, is decided by `plan.rs` and `soak.rs`. Everything
//! runs on one thread; phones are spread over the 20 steps of a frame.

use crate::hearing::{Count, Hearing, Spread};
use crate::packets::{self, Inbox, Outbox};
use crate::tones::Tones;
use anyhow::{Context, Result};
use bytes::Bytes;
use hookswitch_proto::media::{Codec, Direction, FRAME, g711};
use hookswitch_proto::sip::{Cause, DialogId, Endpoint, EndpointConfig, EndpointOutput, Flow, Header, Invite, Listen, SipEvent, Transport};
use hookswitch_proto::{Time, sdp};
use hookswitch_sim::numbered;
use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// User agents that share the callers, and as many that share the called: an endpoint keeps finished transactions for 32 s and has a
/// limit to them.
const AGENTS: usize = 8;
/// RTP sockets that share the callers' media, and as many for the called.
const MEDIA: usize = 16;
pub const STEP: Duration = Duration::from_millis(1);
const STEPS: usize = 20;
/// A header of RTP and a frame.
const PACKET: usize = 12 + FRAME;
/// Phones say `phone << FRAME_BITS | frame`, so that whoever hears it knows whose it is: 43 minutes, 32,768 phones.
pub const FRAME_BITS: u32 = 17;
pub const FRAME_MASK: u32 = (1 << FRAME_BITS) - 1;
/// Calls at a time: two phones each.
pub const CALLS_MAX: usize = 1 << (31 - FRAME_BITS);

/// Who answers, and how the caller gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one who is measured answers himself, at this number.
    Number(&'static str),
    /// He is a B2BUA: at this number he calls whom header `X-Dest` names.
    Bridge(&'static str),
    /// He is a proxy: the called is in the request, which is sent to him.
    Proxy,
    /// Nobody is between caller and called. What it costs here is the generator's own part.
    Direct,
}

impl Reach {
    pub fn has_callee(self) -> bool {
        !matches!(self, Reach::Number(_))
    }
}

/// What phones say in their frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The frame's number, in the bytes of this codec.
    Numbered(Codec),
    /// A tone by the frame's number, for recordings that do not keep bytes; in u-law.
    Tones,
}

impl Default for Voice {
    fn default() -> Voice {
        Voice::Numbered(Codec::Pcmu)
    }
}

impl Voice {
    fn codec(self) -> Codec {
        match self {
            Voice::Numbered(codec) => codec,
            Voice::Tones => Codec::Pcmu,
        }
    }
}

/// What the called does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// 180, and 200 at once.
    Answer,
    Refuse(u16),
    /// 180 and nothing more.
    Ring,
}

#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub reach: Reach,
    pub callee: Callee,
}

/// How a phone's dialog ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By our BYE, or our refusal.
    Ours,
    /// The other side's BYE, or its CANCEL.
    Theirs,
    Failed(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Idle,
    Calling,
    Talking,
    Releasing,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Caller,
    Callee,
}

/// What all calls did so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub answered: u64,
    /// Failures by status; 0: released by the other side before we did.
    pub failed: BTreeMap<u16, u64>,
    /// Seconds from INVITE to its 200, and to its first 18x.
    pub setup: Vec<f64>,
    pub ringing: Vec<f64>,
    /// Calls whose caller heard something for the first time, and seconds from the 200 until then, where it is listened for.
    pub sound: Vec<(usize, f64)>,
    /// Time under way of the frames that are counted, and its change from frame to frame.
    pub delay: Spread,
    pub jitter: Spread,
    /// Frames that a phone heard which belong to another call.
    pub crossed: u64,
    /// How late the generator's own steps were, at most, while it was told to be steady: what is above a frame's time is the
    /// generator's fault, not the node's.
    pub late: Duration,
}

struct Agent {
    endpoint: Endpoint,
    socket: UdpSocket,
    address: SocketAddr,
    dialogs: HashMap<DialogId, usize>,
}

/// Number `2 * call` is the caller, `2 * call + 1` the called.
struct Phone {
    state: State,
    ending: Option<Ending>,
    dialog: Option<DialogId>,
    remote: Option<SocketAddrV4>,
    sequence: u16,
    timestamp: u32,
    /// Frames said in all calls of this phone: numbers go on, so that a late frame of the call before is known as such.
    said: u32,
    /// Packets by their sequence numbers, whatever is in them.
    last_heard: Option<u16>,
    heard: u64,
    lost: u64,
    /// When it was answered, until it hears anything but silence.
    quiet_since: Option<u64>,
    /// Of what it says: how it arrived at the other end.
    arrived: Hearing,
}

struct Call {
    script: Script,
    began: Instant,
    rang: bool,
}

pub struct Generator {
    started: Instant,
    peer: SocketAddr,
    agents: Vec<Agent>,
    media: Vec<UdpSocket>,
    media_addresses: Vec<SocketAddr>,
    local: sdp::Local,
    voice: Voice,
    tones: Tones,
    calls: Vec<Call>,
    phones: Vec<Phone>,
    /// Which phone a leg's port speaks to.
    by_port: Vec<Option<usize>>,
    inbox: Inbox,
    outbox: Outbox<PACKET>,
    pub counts: Counts,
    /// All calls are up and nothing is being set up or released: lateness counts.
    pub steady: bool,
    /// Each call is released as soon as it is answered.
    pub hurried: bool,
    /// Callers tell when they first hear something.
    pub listens_for_sound: bool,
}

impl Generator {
    /// For up to so many calls at a time with the SIP peer at `peer`.
    pub fn new(peer: SocketAddr, calls: usize) -> Result<Generator> {
        anyhow::ensure!(calls <= CALLS_MAX, "more calls than a numbered frame can name: {CALLS_MAX}");
        let agents = (0..2 * AGENTS).map(|n| agent(n as u8)).collect::<Result<_>>()?;
        let media = (0..2 * MEDIA).map(|_| packets::socket()).collect::<Result<Vec<_>>>()?;
        let media_addresses = media.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
        let script = Script { reach: Reach::Direct, callee: Callee::Answer };
        let began = Instant::now();
        Ok(Generator {
            started: began,
            peer,
            agents,
            media,
            media_addresses,
            local: sdp::Local::new(1, vec![Voice::default().codec()]),
            voice: Voice::default(),
            tones: Tones::new(),
            calls: (0..calls).map(|_| Call { script, began, rang: false }).collect(),
            phones: (0..2 * calls).map(|_| Phone::new()).collect(),
            by_port: vec![None; 65_536],
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            counts: Counts::default(),
            steady: false,
            hurried: false,
            listens_for_sound: false,
        })
    }

    /// From the first call on.
    pub fn saying(mut self, voice: Voice) -> Generator {
        self.local = sdp::Local::new(1, vec![voice.codec()]);
        self.voice = voice;
        self
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The step that is due now.
    pub fn due(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One millisecond of everything, at its time.
    pub fn step(&mut self, step: u64) -> Result<()> {
        let due = Duration::from_millis(step);
        let elapsed = self.started.elapsed();
        if elapsed < due {
            thread::sleep(due - elapsed);
        } else if self.steady {
            self.counts.late = self.counts.late.max(elapsed - due);
        }
        self.speak(step);
        self.listen();
        self.signal()
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    pub fn state(&self, call: usize, side: Side) -> State {
        self.phones[2 * call + side as usize].state
    }

    pub fn ending(&self, call: usize, side: Side) -> Option<Ending> {
        self.phones[2 * call + side as usize].ending
    }

    pub fn count(&self, state: State) -> usize {
        (0..self.calls.len()).filter(|call| self.state(*call, Side::Caller) == state).count()
    }

    /// Neither side has anything to do with it any more.
    pub fn is_over(&self, call: usize) -> bool {
        let over = |side| matches!(self.state(call, side), State::Over | State::Idle);
        over(Side::Caller) && over(Side::Callee)
    }

    pub fn has_callee(&self, call: usize) -> bool {
        self.calls[call].script.reach.has_callee()
    }

    /// Both sides talk, or the one that there is.
    pub fn is_up(&self, call: usize) -> bool {
        self.state(call, Side::Caller) == State::Talking && (!self.has_callee(call) || self.state(call, Side::Callee) == State::Talking)
    }

    /// RTP packets heard by all phones, and sequence numbers that never came.
    pub fn packets(&self) -> (u64, u64) {
        self.phones.iter().fold((0, 0), |(heard, lost), phone| (heard + phone.heard, lost + phone.lost))
    }

    /// Frames that each caller said.
    pub fn said(&self) -> Vec<u32> {
        self.phones.iter().step_by(2).map(|phone| phone.said).collect()
    }

    /// From now on, or until now, frames count.
    pub fn count_frames(&mut self, counted: bool) {
        for phone in &mut self.phones {
            match counted {
                true => phone.arrived.count_from(phone.said),
                false => phone.arrived.count_to(phone.said),
            }
        }
    }

    /// Frames that counted: as they came at the other end, and those that did not. Only for calls whose other end hears us.
    pub fn frames(&self) -> (Count, u64) {
        self.phones.iter().fold((Count::default(), 0), |(mut count, missing), phone| {
            count.add(phone.arrived.count);
            (count, missing + phone.arrived.missing())
        })
    }

    /// Of one phone's frames since its call began: as they came at the other end, and the gaps between the first and the last.
    pub fn arrived(&self, call: usize, side: Side) -> (Count, u64) {
        let arrived = &self.phones[2 * call + side as usize].arrived;
        (arrived.count, arrived.gaps())
    }

    pub fn begin(&mut self, call: usize, script: Script) -> Result<()> {
        let now = self.now();
        let called = self.agents[AGENTS + call % AGENTS].address;
        let callee = format!("sip:{call}@{called}");
        let peer = if script.reach == Reach::Direct { called } else { self.peer };
        let (target, headers) = match script.reach {
            Reach::Number(user) => (format!("sip:{user}@{peer}"), Vec::new()),
            Reach::Bridge(user) => (format!("sip:{user}@{peer}"), vec![Header { name: "X-Dest".into(), value: callee }]),
            Reach::Proxy | Reach::Direct => (callee, Vec::new()),
        };
        self.calls[call] = Call { script, began: Instant::now(), rang: false };
        self.phones[2 * call].renew();
        self.phones[2 * call + 1].renew();
        let address = self.media_addresses[call % MEDIA];
        let agent = &mut self.agents[call % AGENTS];
        let invite = Invite {
            target,
            from: format!("<sip:{call}@{}>", agent.address),
            to: None,
            flow: Flow { transport: Transport::Udp, local: agent.address, peer },
            headers,
            sdp: Some(self.local.offer(address, Direction::SendRecv)),
        };
        let dialog = agent.endpoint.invite(now, invite).context("INVITE")?;
        agent.dialogs.insert(dialog, 2 * call);
        self.phones[2 * call].dialog = Some(dialog);
        self.phones[2 * call].state = State::Calling;
        Ok(())
    }

    /// BYE from one side, where it talks.
    pub fn release(&mut self, call: usize, side: Side) {
        let now = self.now();
        let agent = agent_of(call, side);
        let phone = &mut self.phones[2 * call + side as usize];
        if let (State::Talking, Some(dialog)) = (phone.state, phone.dialog) {
            phone.state = State::Releasing;
            // If it is gone already, its end has been told.
            let _ = self.agents[agent].endpoint.bye(now, dialog, &[]);
        }
    }

    /// CANCEL of what is not answered yet; BYE where the answer was faster.
    pub fn cancel(&mut self, call: usize) {
        let now = self.now();
        let phone = &mut self.phones[2 * call];
        match (phone.state, phone.dialog) {
            (State::Calling, Some(dialog)) => {
                phone.state = State::Releasing;
                let _ = self.agents[agent_of(call, Side::Caller)].endpoint.cancel(now, dialog);
            }
            _ => self.release(call, Side::Caller),
        }
    }

    /// Everything SIP that is there to do.
    pub fn signal(&mut self) -> Result<()> {
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
            SipEvent::Invite { dialog, request, .. } => self.on_invite(agent, dialog, &request),
            SipEvent::Progress { dialog, .. } => {
                if let Some(phone) = self.agents[agent].dialogs.get(&dialog) {
                    let call = &mut self.calls[phone / 2];
                    if !std::mem::replace(&mut call.rang, true) {
                        self.counts.ringing.push(call.began.elapsed().as_secs_f64());
                    }
                }
                Ok(())
            }
            SipEvent::Answered { dialog, response } => {
                let Some(&phone) = self.agents[agent].dialogs.get(&dialog) else { return Ok(()) };
                let answer = sdp::Remote::parse(&response.body())?;
                let agreed = self.local.accept(&answer, Direction::SendRecv)?;
                self.counts.answered += 1;
                self.counts.setup.push(self.calls[phone / 2].began.elapsed().as_secs_f64());
                self.phones[phone].quiet_since = self.listens_for_sound.then(packets::stamp);
                self.talk(phone, agreed.remote)?;
                if self.hurried {
                    self.release(phone / 2, Side::Caller);
                }
                Ok(())
            }
            SipEvent::Gone { dialog, cause, .. } => {
                let Some(phone) = self.agents[agent].dialogs.remove(&dialog) else { return Ok(()) };
                let released = self.phones[phone].state == State::Releasing;
                let ending = match cause {
                    Cause::Local => Ending::Ours,
                    // Both sides may hang up at once.
                    Cause::Bye { .. } | Cause::Cancelled | Cause::CancelFailed if released => Ending::Ours,
                    Cause::Failed { status: 487, .. } if released => Ending::Ours,
                    Cause::Failed { status, .. } => Ending::Failed(status),
                    _ => Ending::Theirs,
                };
                // The called is released by whom we measure, as it should be.
                if phone % 2 == 0 {
                    match ending {
                        Ending::Ours => {}
                        Ending::Theirs => *self.counts.failed.entry(0).or_default() += 1,
                        Ending::Failed(status) => *self.counts.failed.entry(status).or_default() += 1,
                    }
                }
                self.phones[phone].state = State::Over;
                self.phones[phone].ending = Some(ending);
                // Another call may get this port, and be heard before its answer is read.
                if let Some(remote) = self.phones[phone].remote {
                    self.by_port[usize::from(remote.port())].take_if(|owner| *owner == phone);
                }
                Ok(())
            }
            // The other side moves the media: it stays with us where it is.
            SipEvent::Offer { dialog, sdp, .. } => {
                let now = self.now();
                let Some(&phone) = self.agents[agent].dialogs.get(&dialog) else { return Ok(()) };
                let answer = match sdp {
                    None => None,
                    Some(sdp) => {
                        let offer = sdp::Remote::parse(&sdp)?;
                        let agreed = self.local.choose(&offer, Direction::SendRecv)?;
                        let answer = self.local.answer(&offer, &agreed, self.media_address(phone));
                        self.talk(phone, agreed.remote)?;
                        Some(answer)
                    }
                };
                let _ = self.agents[agent].endpoint.accept_offer(now, dialog, answer);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Somebody is called: the user part says in which call.
    fn on_invite(&mut self, agent: usize, dialog: DialogId, request: &hookswitch_proto::sip::Message) -> Result<()> {
        let now = self.now();
        let called = request.request_uri().and_then(|uri| uri.user.as_deref()?.parse::<usize>().ok());
        let endpoint = &mut self.agents[agent].endpoint;
        let Some(call) = called.filter(|call| *call < self.calls.len() && self.phones[2 * call + 1].state == State::Idle) else {
            let _ = endpoint.reject(now, dialog, 404, None, &[]);
            return Ok(());
        };
        let phone = 2 * call + 1;
        self.agents[agent].dialogs.insert(dialog, phone);
        self.phones[phone].dialog = Some(dialog);
        self.phones[phone].state = State::Calling;
        let callee = self.calls[call].script.callee;
        if let Callee::Refuse(status) = callee {
            self.phones[phone].state = State::Releasing;
            let _ = self.agents[agent].endpoint.reject(now, dialog, status, None, &[]);
            return Ok(());
        }
        let _ = self.agents[agent].endpoint.provisional(now, dialog, 180, &[], None);
        if callee == Callee::Answer {
            let offer = sdp::Remote::parse(&request.sdp().context("an INVITE without an offer")?)?;
            let agreed = self.local.choose(&offer, Direction::SendRecv)?;
            let answer = self.local.answer(&offer, &agreed, self.media_address(phone));
            self.talk(phone, agreed.remote)?;
            let _ = self.agents[agent].endpoint.answer(now, dialog, &[], answer);
        }
        Ok(())
    }

    fn media_address(&self, phone: usize) -> SocketAddr {
        self.media_addresses[media_of(phone)]
    }

    fn talk(&mut self, phone: usize, remote: SocketAddr) -> Result<()> {
        let SocketAddr::V4(remote) = remote else { anyhow::bail!("{remote} is not on this loopback") };
        // Directly connected phones share their ports: who speaks is known from the frames alone.
        if self.calls[phone / 2].script.reach != Reach::Direct {
            self.by_port[usize::from(remote.port())] = Some(phone);
        }
        let one = &mut self.phones[phone];
        one.remote = Some(remote);
        if one.state != State::Releasing {
            one.state = State::Talking;
        }
        Ok(())
    }

    /// The frames of the phones whose millisecond this is. The called speak half a frame after their callers, so that a load of bridged
    /// calls is as even as one of callers alone.
    fn speak(&mut self, step: u64) {
        let slot = step as usize % STEPS;
        let payload_type = self.voice.codec().static_payload_type();
        for shared in 0..2 * MEDIA {
            let (socket, side) = (&self.media[shared], shared / MEDIA);
            for call in
                first_call(slot, side, shared % MEDIA).into_iter().flat_map(|first| (first..self.calls.len()).step_by(STEPS * MEDIA / GCD))
            {
                let index = 2 * call + side;
                let phone = &mut self.phones[index];
                let (State::Talking, Some(remote)) = (phone.state, phone.remote) else { continue };
                let frame = phone.said & FRAME_MASK;
                let packet = self.outbox.push(socket, remote);
                packet[0] = 0x80;
                packet[1] = payload_type;
                packet[2..4].copy_from_slice(&phone.sequence.to_be_bytes());
                packet[4..8].copy_from_slice(&phone.timestamp.to_be_bytes());
                packet[8..12].copy_from_slice(&(index as u32 + 1).to_be_bytes());
                match self.voice {
                    Voice::Numbered(_) => packet[12..].copy_from_slice(&numbered::frame((index as u32) << FRAME_BITS | frame)),
                    Voice::Tones => packet[12..].copy_from_slice(self.tones.frame(index, frame)),
                }
                phone.sequence = phone.sequence.wrapping_add(1);
                phone.timestamp = phone.timestamp.wrapping_add(FRAME as u32);
                phone.said += 1;
                phone.arrived.say(frame, packets::stamp());
            }
            self.outbox.flush(socket);
        }
    }

    fn listen(&mut self) {
        let silence = g711::silence(self.voice.codec());
        let Generator { media, inbox, phones, by_port, calls, counts, .. } = self;
        for socket in media {
            inbox.drain(socket, |bytes, port, came| {
                let Some(payload) = bytes.get(12..) else { return };
                let hearer = by_port[usize::from(port)];
                if let Some(phone) = hearer.and_then(|phone| phones.get_mut(phone)) {
                    let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
                    let step = phone.last_heard.map_or(1, |last| sequence.wrapping_sub(last));
                    // Behind by less than half the circle: late or doubled, and not the next.
                    if step != 0 && step < 0x8000 {
                        phone.lost += u64::from(step) - 1;
                        phone.last_heard = Some(sequence);
                    }
                    phone.heard += 1;
                    if let (Some(index), Some(since)) = (hearer, phone.quiet_since)
                        && payload.iter().any(|byte| *byte != silence)
                    {
                        phone.quiet_since = None;
                        counts.sound.push((index / 2, came.saturating_sub(since) as f64 / 1e9));
                    }
                }
                let Some(number) = numbered::read_law(payload) else { return };
                let speaker = (number >> FRAME_BITS) as usize;
                let Some(call) = calls.get(speaker / 2) else { return };
                // Whom one should hear: the other side, or himself where the node is an echo.
                let expected = if call.script.reach.has_callee() { speaker ^ 1 } else { speaker };
                if hearer.is_some_and(|hearer| hearer != expected) {
                    counts.crossed += 1;
                    return;
                }
                if let Some(transit) = phones[speaker].arrived.hear(number & FRAME_MASK, came) {
                    counts.delay.add(transit.delay);
                    if let Some(jitter) = transit.jitter {
                        counts.jitter.add(jitter);
                    }
                }
            });
        }
    }
}

/// Calls of one socket and one millisecond are this many apart: the least common multiple of 20 and 16 is 20 * 16 / 4.
const GCD: usize = 4;

/// The first call whose `side` speaks in millisecond `slot` through the socket that is number `shared` of its side.
fn first_call(slot: usize, side: usize, shared: usize) -> Option<usize> {
    (0..STEPS * MEDIA / GCD).find(|call| (call + side * STEPS / 2) % STEPS == slot && call % MEDIA == shared)
}

fn media_of(phone: usize) -> usize {
    MEDIA * (phone % 2) + phone / 2 % MEDIA
}

fn agent_of(call: usize, side: Side) -> usize {
    AGENTS * side as usize + call % AGENTS
}

impl Phone {
    fn new() -> Phone {
        Phone {
            state: State::Idle,
            ending: None,
            dialog: None,
            remote: None,
            sequence: 1,
            timestamp: 0,
            said: 0,
            last_heard: None,
            heard: 0,
            lost: 0,
            quiet_since: None,
            arrived: Hearing::default(),
        }
    }

    /// The next call of this phone. Its frames' numbers go on, unless a call could not be ended before they begin again.
    fn renew(&mut self) {
        let said = if self.said > FRAME_MASK / 2 { 0 } else { self.said };
        *self = Phone { said, ..Phone::new() };
    }
}

fn agent(number: u8) -> Result<Agent> {
    let socket = packets::socket()?;
    let address = socket.local_addr()?;
    let config = EndpointConfig {
        listen: vec![Listen { transport: Transport::Udp, bound: address, advertise: None }],
        agent: "hookswitch-bench".into(),
        ..EndpointConfig::default()
    };
    // Tags and branches need no secret here; Call-IDs of two runs must differ, and the port sees to that.
    let mut seed = [number; 32];
    seed[..2].copy_from_slice(&address.port().to_be_bytes());
    seed[2..6].copy_from_slice(&std::process::id().to_be_bytes());
    seed[6..14].copy_from_slice(&packets::stamp().to_be_bytes());
    Ok(Agent { endpoint: Endpoint::new(config, seed), socket, address, dialogs: HashMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phone_speaks_once_a_frame_through_its_socket() {
        let mut spoken = vec![0; 2 * 500];
        for slot in 0..STEPS {
            for shared in 0..2 * MEDIA {
                let side = shared / MEDIA;
                for call in first_call(slot, side, shared % MEDIA).into_iter().flat_map(|first| (first..500).step_by(STEPS * MEDIA / GCD)) {
                    assert_eq!(media_of(2 * call + side), shared);
                    spoken[2 * call + side] += 1;
                }
            }
        }
        assert!(spoken.iter().all(|times| *times == 1));
    }

    #[test]
    fn two_phones_talk_directly_and_nothing_is_missing() {
        let mut generator = Generator::new("127.0.0.1:9".parse().expect("an address"), 3).expect("sockets");
        for call in 0..3 {
            generator.begin(call, Script { reach: Reach::Direct, callee: Callee::Answer }).expect("an INVITE");
        }
        let mut step = 0;
        while !(0..3).all(|call| generator.is_up(call)) {
            assert!(step < 5_000, "nobody answers");
            generator.step(step).expect("a step");
            step += 1;
        }
        generator.count_frames(true);
        for _ in 0..200 {
            generator.step(step).expect("a step");
            step += 1;
        }
        generator.count_frames(false);
        for _ in 0..5 {
            generator.step(step).expect("a step");
            step += 1;
        }
        let (count, missing) = generator.frames();
        assert_eq!((missing, count.repeated, count.disordered, generator.counts.crossed), (0, 0, 0, 0));
        assert_eq!(count.heard, 3 * 2 * 10, "ten frames in 200 ms, of each phone");
        assert_eq!(generator.counts.delay.count(), count.heard);
        generator.release(0, Side::Caller);
        generator.release(1, Side::Callee);
        while !(generator.is_over(0) && generator.is_over(1)) {
            assert!(step < 10_000, "no end");
            generator.step(step).expect("a step");
            step += 1;
        }
        assert_eq!((generator.ending(0, Side::Caller), generator.ending(0, Side::Callee)), (Some(Ending::Ours), Some(Ending::Theirs)));
        assert_eq!(generator.ending(1, Side::Caller), Some(Ending::Theirs));
        assert_eq!(generator.counts.setup.len(), 3);
    }
}
