//! One scripted telephone: a SIP user agent made of the node's own endpoint and media leg.
//!
//! It is no softphone: one call, decided in advance by a [`Script`]. It does no I/O: give it datagrams and the time, drain `poll`,
//! sleep until `next_timeout`, stop at [`PhoneOutput::Done`]. Start reading at [`Phone`].

use crate::law;
use bytes::Bytes;
use hookswitch_proto::limits::PLAY_SEGMENTS;
use hookswitch_proto::media::{
    BLOCK_FRAMES, BargeIn, Block, Clip, Codec, Direction, FRAME, FRAME_TIME, FrameKind, Leg, LegConfig, LegId, LegIo, LegStats, MediaCmd,
    MediaEvent, MediaKind, Negotiated, PlayId, RecordSpec, RecordingId, RecordingTotals, Segment, StopReason,
};
use hookswitch_proto::sdp;
use hookswitch_proto::sip::{
    Cause, CommandError, DialogId, Endpoint, EndpointConfig, EndpointOutput, Flow, Header, Invite, Listen, Message, SipEvent, Transport,
};
use hookswitch_proto::{MediaTime, Random, Time};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// The leg and the recording of the one call a phone has.
const LEG: LegId = LegId(1);
const RECORDING: RecordingId = RecordingId(1);
/// How long a digit is held down.
const DIGIT_TIME: Duration = Duration::from_millis(100);
/// Frames made up for after the driver was late; what is beyond is skipped, as a sound card would.
const CATCH_UP: u32 = 25;
/// Blocks that carry what is heard from the tap to us; they come back at once.
const BLOCKS: usize = 4;
/// Longest recording kept in memory: an hour.
const HEARD_SAMPLES: usize = 3600 * 8000;

/// Where a phone lives.
#[derive(Clone, Debug)]
pub struct PhoneConfig {
    /// Its SIP address (UDP), and what it says in Via and Contact.
    pub sip: SocketAddr,
    /// Its RTP address; RTCP is one port above.
    pub rtp: SocketAddr,
    pub codecs: Vec<Codec>,
    pub agent: String,
}

#[derive(Clone, Debug)]
pub enum Role {
    Caller(Call),
    Callee(Callee),
}

/// Whom to call.
#[derive(Clone, Debug)]
pub struct Call {
    pub target: String,
    /// Complete From value without tag.
    pub from: String,
    /// Where the first hop is, already resolved.
    pub peer: SocketAddr,
    pub headers: Vec<Header>,
    /// Cancel when nobody has answered by then.
    pub give_up_after: Duration,
}

/// What to do with a call that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// 180 at once, 200 after this long.
    Answer { ring: Duration },
    /// 180 at once, this final answer after this long.
    Reject { ring: Duration, status: u16 },
    /// 180 and never an answer.
    Ring,
    /// 183 with early media at once: the script's clip plays from there on. 200 after this long.
    Early { ring: Duration },
}

/// What the phone does once the call is up. Times count from the answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub play: Option<Clip>,
    /// Begin the clip again whenever it ends.
    pub play_again: bool,
    pub acts: Vec<(Duration, Act)>,
    /// Keep what is heard.
    pub record: bool,
    /// End the call by BYE.
    pub end_after: Option<Duration>,
}

#[derive(Clone, Debug)]
pub enum Act {
    Digit(char),
    /// In place of what plays.
    Play(Clip),
    StopPlay,
    /// A re-INVITE with this direction: `SendOnly` and `Inactive` hold, `SendRecv` talks on.
    Offer(Direction),
    Bye,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Time,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    InviteSent {
        target: String,
    },
    InviteReceived {
        from: String,
    },
    Progress {
        status: u16,
        phrase: String,
    },
    Answered {
        codec: Codec,
        remote: SocketAddr,
    },
    Rejected {
        status: u16,
    },
    /// First RTP heard.
    Flowing {
        from: SocketAddr,
    },
    PlayStarted,
    PlayEnded,
    DigitSent(char),
    /// The far end takes no telephone-event: a digit has no way there.
    DigitImpossible(char),
    DigitHeard(char),
    /// A re-INVITE or UPDATE: the direction is ours from now on.
    Changed {
        direction: Direction,
    },
    /// Our own re-INVITE.
    Offered {
        direction: Direction,
    },
    ByeSent,
    ByeReceived {
        reason: Option<String>,
    },
    CancelSent,
    /// Something that should not be: the text says what.
    Trouble(String),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::InviteSent { target } => write!(f, "-> INVITE {target}"),
            What::InviteReceived { from } => write!(f, "<- INVITE from {from}"),
            What::Progress { status, phrase } => write!(f, "<- {status} {phrase}"),
            What::Answered { codec, remote } => write!(f, "answered: {codec:?}, RTP to {remote}"),
            What::Rejected { status } => write!(f, "-> {status}"),
            What::Flowing { from } => write!(f, "<- RTP flows from {from}"),
            What::PlayStarted => f.write_str("-> playing"),
            What::PlayEnded => f.write_str("-> played to its end"),
            What::DigitSent(digit) => write!(f, "-> digit {digit}"),
            What::DigitImpossible(digit) => write!(f, "digit {digit} not sent: the far end takes no telephone-event"),
            What::DigitHeard(digit) => write!(f, "<- digit {digit}"),
            What::Changed { direction } => write!(f, "<- session changed, we are {direction:?}"),
            What::Offered { direction } => write!(f, "-> re-INVITE, we are {direction:?}"),
            What::ByeSent => f.write_str("-> BYE"),
            What::ByeReceived { reason: None } => f.write_str("<- BYE"),
            What::ByeReceived { reason: Some(reason) } => write!(f, "<- BYE ({reason})"),
            What::CancelSent => f.write_str("-> CANCEL"),
            What::Trouble(text) => f.write_str(text),
        }
    }
}

/// How the call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was answered and then released, by us or by the far end.
    Released { by_us: bool },
    /// It was never answered: the status that says why (487 after our own CANCEL).
    Failed { status: u16 },
    /// We refused it, or its caller gave up.
    NotTaken,
    /// It was answered and broke: no ACK, no refresh, an answer without usable media.
    Broken { why: String },
}

impl Ending {
    pub fn is_normal(&self) -> bool {
        matches!(self, Ending::Released { .. })
    }
}

/// The call in figures, once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub ending: Ending,
    /// From the answer to the end.
    pub talked: Duration,
    pub answered_after: Option<Duration>,
    pub media: Option<LegStats>,
    /// Of what was heard, if it was kept.
    pub heard: Option<RecordingTotals>,
}

#[derive(Debug)]
pub enum PhoneOutput {
    Sip {
        to: SocketAddr,
        bytes: Bytes,
    },
    Rtp {
        to: SocketAddr,
        rtcp: bool,
        packet: Bytes,
    },
    Timeline(Entry),
    /// The last output.
    Done(Box<Report>),
}

/// Where the one call is. RFC words for what the peer has been told.
enum State {
    /// A callee that nobody has called.
    Idle,
    Calling(DialogId),
    Ringing {
        dialog: DialogId,
        decide_at: Option<Time>,
        offer: Option<Box<sdp::Remote>>,
        /// The answer that a 183 has already given.
        early: Option<Bytes>,
    },
    Talking {
        dialog: DialogId,
    },
    /// BYE or CANCEL is out, or the final answer was a refusal.
    Ending {
        by_us: bool,
    },
    Over,
}

/// A scripted telephone with one call.
pub struct Phone {
    config: PhoneConfig,
    role: Role,
    script: Script,
    endpoint: Endpoint,
    local: sdp::Local,
    random: Random,
    state: State,
    /// The one call; whoever calls besides is refused with 486, and its end is not ours.
    dialog: Option<DialogId>,
    leg: Option<Leg>,
    telephone_event: bool,
    /// What we want of the stream; what we offered and nobody has answered yet.
    direction: Direction,
    offered: Option<Direction>,
    next_tick: Time,
    next_play: u64,
    /// Acts not done yet, the last one first.
    acts: Vec<(Time, Act)>,
    end_at: Option<Time>,
    give_up_at: Option<Time>,
    started_at: Time,
    answered_at: Option<Time>,
    /// What is wrong with the media of an answered call, if anything.
    broken: Option<String>,
    media_stats: Option<LegStats>,
    heard_totals: Option<RecordingTotals>,
    sound: Sound,
    outputs: VecDeque<PhoneOutput>,
}

impl Phone {
    /// A caller sends its INVITE at once; drain `poll`.
    pub fn new(now: Time, config: PhoneConfig, role: Role, script: Script, seed: [u8; 32]) -> Result<Phone, CommandError> {
        let mut random = Random::new(seed);
        let endpoint = Endpoint::new(
            EndpointConfig {
                listen: vec![Listen { transport: Transport::Udp, bound: config.sip, advertise: None }],
                agent: config.agent.clone(),
                t1: Duration::from_millis(500),
                t2: Duration::from_secs(4),
                t4: Duration::from_secs(5),
                session_expires: None,
                min_se: Duration::from_secs(90),
                known_peers: Vec::new(),
            },
            random.seed(),
        );
        let local = sdp::Local::new(random.u64(), config.codecs.clone());
        let mut phone = Phone {
            config,
            role: role.clone(),
            script,
            endpoint,
            local,
            random,
            state: State::Idle,
            dialog: None,
            leg: None,
            telephone_event: false,
            direction: Direction::SendRecv,
            offered: None,
            next_tick: now,
            next_play: 1,
            acts: Vec::new(),
            end_at: None,
            give_up_at: None,
            started_at: now,
            answered_at: None,
            broken: None,
            media_stats: None,
            heard_totals: None,
            sound: Sound::new(),
            outputs: VecDeque::new(),
        };
        if let Role::Caller(call) = role {
            phone.call(now, call)?;
        }
        Ok(phone)
    }

    /// A datagram on the SIP address.
    pub fn receive_sip(&mut self, now: Time, from: SocketAddr, bytes: Bytes) {
        let flow = self.flow(from);
        self.endpoint.receive(now, flow, bytes);
        self.drain(now);
    }

    /// A datagram on the RTP address, or one port above it.
    pub fn receive_rtp(&mut self, now: Time, from: SocketAddr, rtcp: bool, packet: &[u8]) {
        if let Some(leg) = &mut self.leg {
            leg.push(now, from, rtcp, packet);
        }
    }

    pub fn poll(&mut self) -> Option<PhoneOutput> {
        self.outputs.pop_front()
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let decide_at = match &self.state {
            State::Over => return None,
            State::Ringing { decide_at, .. } => *decide_at,
            _ => None,
        };
        let tick = self.leg.as_ref().map(|_| self.next_tick);
        let act = self.acts.last().map(|(at, _)| *at);
        [self.endpoint.next_timeout(), decide_at, tick, act, self.end_at, self.give_up_at].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Time) {
        if self.endpoint.next_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.drain(now);
        if let State::Ringing { decide_at: Some(at), .. } = self.state
            && at <= now
        {
            self.decide(now);
        }
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.give_up(now);
        }
        while self.acts.last().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, act)) = self.acts.pop() {
                self.act(now, act);
            }
        }
        if self.end_at.is_some_and(|at| at <= now) {
            self.end_at = None;
            self.act(now, Act::Bye);
        }
        // An answer goes out before the first frame, or the far end has no use for it.
        self.drain(now);
        self.tick(now);
        self.drain(now);
    }

    /// Does this now, beside the script. Nothing, unless the call is up.
    pub fn do_now(&mut self, now: Time, act: Act) {
        self.act(now, act);
        self.drain(now);
    }

    /// Ends the call now, whatever the script says: BYE, or CANCEL while it rings.
    pub fn hang_up(&mut self, now: Time) {
        match self.state {
            State::Calling(_) => self.give_up(now),
            _ => self.act(now, Act::Bye),
        }
        self.drain(now);
    }

    /// What was heard so far: mono PCM at 8 kHz.
    pub fn heard(&self) -> &[i16] {
        &self.sound.heard
    }

    fn flow(&self, peer: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, local: self.config.sip, peer }
    }

    fn tell(&mut self, at: Time, what: What) {
        self.outputs.push_back(PhoneOutput::Timeline(Entry { at, what }));
    }

    fn call(&mut self, now: Time, call: Call) -> Result<(), CommandError> {
        let sdp = self.local.offer(self.config.rtp, Direction::SendRecv);
        let flow = self.flow(call.peer);
        let invite = Invite { target: call.target.clone(), from: call.from, to: None, flow, headers: call.headers, sdp: Some(sdp) };
        let dialog = self.endpoint.invite(now, invite)?;
        self.state = State::Calling(dialog);
        self.dialog = Some(dialog);
        self.give_up_at = Some(now + call.give_up_after);
        self.tell(now, What::InviteSent { target: call.target });
        self.drain(now);
        Ok(())
    }

    fn give_up(&mut self, now: Time) {
        self.give_up_at = None;
        if let State::Calling(dialog) = self.state
            && self.endpoint.cancel(now, dialog).is_ok()
        {
            self.tell(now, What::CancelSent);
        }
    }

    /// Everything the endpoint has to say.
    fn drain(&mut self, now: Time) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                EndpointOutput::Transmit { flow, bytes } => self.outputs.push_back(PhoneOutput::Sip { to: flow.peer, bytes }),
                EndpointOutput::Event(event) => self.on_sip(now, event),
            }
        }
    }

    fn on_sip(&mut self, now: Time, event: SipEvent) {
        match event {
            SipEvent::Invite { dialog, request, .. } => self.on_invite(now, dialog, &request),
            SipEvent::Progress { status, response, .. } => {
                let phrase = response.reason_phrase().unwrap_or_default();
                self.tell(now, What::Progress { status, phrase });
            }
            SipEvent::Answered { dialog, response } => self.on_answered(now, dialog, &response),
            SipEvent::Offer { dialog, sdp, .. } => self.on_offer(now, dialog, sdp),
            SipEvent::Gone { dialog, cause, .. } if self.dialog == Some(dialog) => self.on_gone(now, cause),
            // The ACK's body matters only where our 200 carried the offer: we do that for an INVITE without one.
            SipEvent::Confirmed { dialog, sdp: Some(sdp) } if self.leg.is_none() => {
                let agreed = sdp::Remote::parse(&sdp).and_then(|answer| self.local.accept(&answer, Direction::SendRecv));
                self.start_or_break(now, dialog, agreed);
            }
            SipEvent::OfferAnswered { result, .. } => self.on_offer_answered(now, result),
            SipEvent::Confirmed { .. } | SipEvent::Info { .. } | SipEvent::Referred { .. } | SipEvent::Gone { .. } => {}
            SipEvent::Refused { why, .. } => self.tell(now, What::Trouble(format!("message not understood: {why}"))),
        }
    }

    fn on_answered(&mut self, now: Time, dialog: DialogId, response: &Message) {
        let phrase = response.reason_phrase().unwrap_or_default();
        self.tell(now, What::Progress { status: response.status().unwrap_or(200), phrase });
        self.give_up_at = None;
        self.answered_at = Some(now);
        self.state = State::Talking { dialog };
        let agreed = sdp::Remote::parse(&response.body()).and_then(|answer| self.local.accept(&answer, Direction::SendRecv));
        self.start_or_break(now, dialog, agreed);
    }

    fn on_invite(&mut self, now: Time, dialog: DialogId, request: &Message) {
        let Role::Callee(callee) = self.role else {
            // A caller takes no calls. Too late to matter if it fails: a `Gone` follows either way.
            let _ = self.endpoint.reject(now, dialog, 486, None, &[]);
            return;
        };
        if !matches!(self.state, State::Idle) {
            let _ = self.endpoint.reject(now, dialog, 486, None, &[]);
            return;
        }
        let from = request.from().map_or_else(String::new, |from| format!("{}@{}", from.uri.user.unwrap_or_default(), from.uri.host));
        self.tell(now, What::InviteReceived { from });
        self.started_at = now;
        self.dialog = Some(dialog);
        let body = request.body();
        let offer = match (body.is_empty(), sdp::Remote::parse(&body)) {
            (true, _) => None,
            (false, Ok(offer)) => Some(Box::new(offer)),
            (false, Err(error)) => {
                self.tell(now, What::Trouble(error.to_string()));
                self.refuse(now, dialog, 488);
                return;
            }
        };
        let decide_at = match callee {
            Callee::Answer { ring } | Callee::Reject { ring, .. } | Callee::Early { ring } => Some(now + ring),
            Callee::Ring => None,
        };
        let agreed = offer.as_ref().filter(|_| matches!(callee, Callee::Early { .. }));
        let agreed = agreed.and_then(|offer| Some((offer, self.local.choose(offer, self.direction).ok()?)));
        let early = agreed.map(|(offer, agreed)| (self.local.answer(offer, &agreed, self.config.rtp), agreed));
        // A `Gone` tells if the caller has already given up.
        let status = if early.is_some() { 183 } else { 180 };
        let _ = self.endpoint.provisional(now, dialog, status, &[], early.as_ref().map(|(answer, _)| answer.clone()));
        let early = early.map(|(answer, agreed)| {
            self.open_media(now, agreed);
            answer
        });
        self.state = State::Ringing { dialog, decide_at, offer, early };
    }

    fn refuse(&mut self, now: Time, dialog: DialogId, status: u16) {
        self.state = State::Ending { by_us: true };
        if self.endpoint.reject(now, dialog, status, None, &[]).is_ok() {
            self.tell(now, What::Rejected { status });
        }
    }

    /// The ringing is over: answer or reject, as the script says.
    fn decide(&mut self, now: Time) {
        let State::Ringing { dialog, offer, early, .. } = std::mem::replace(&mut self.state, State::Over) else { return };
        if let Some(answer) = early {
            self.state = State::Talking { dialog };
            self.answered_at = Some(now);
            let _ = self.endpoint.answer(now, dialog, &[], answer);
            return self.begin_script(now);
        }
        match self.role {
            Role::Callee(Callee::Reject { status, .. }) => self.refuse(now, dialog, status),
            _ => match offer {
                None => {
                    let sdp = self.local.offer(self.config.rtp, Direction::SendRecv);
                    self.state = State::Talking { dialog };
                    self.answered_at = Some(now);
                    let _ = self.endpoint.answer(now, dialog, &[], sdp);
                }
                Some(offer) => match self.local.choose(&offer, Direction::SendRecv) {
                    Err(error) => {
                        self.tell(now, What::Trouble(error.to_string()));
                        self.refuse(now, dialog, 488);
                    }
                    Ok(agreed) => {
                        let sdp = self.local.answer(&offer, &agreed, self.config.rtp);
                        self.state = State::Talking { dialog };
                        self.answered_at = Some(now);
                        let _ = self.endpoint.answer(now, dialog, &[], sdp);
                        self.start_media(now, agreed);
                    }
                },
            },
        }
    }

    /// RFC 3261 13.2.2.4: an answer that cannot be used is acknowledged (the endpoint did) and the call released.
    fn start_or_break(&mut self, now: Time, dialog: DialogId, agreed: Result<Negotiated, sdp::SdpError>) {
        match agreed {
            Ok(agreed) => self.start_media(now, agreed),
            Err(error) => {
                self.broken = Some(format!("the answer cannot be used: {error}"));
                self.tell(now, What::Trouble(format!("the answer cannot be used: {error}")));
                self.state = State::Ending { by_us: true };
                if self.endpoint.bye(now, dialog, &[]).is_ok() {
                    self.tell(now, What::ByeSent);
                }
            }
        }
    }

    /// The call is up: open the leg and start the script's clock.
    fn start_media(&mut self, now: Time, agreed: Negotiated) {
        self.open_media(now, agreed);
        self.begin_script(now);
    }

    fn open_media(&mut self, now: Time, agreed: Negotiated) {
        self.tell(now, What::Answered { codec: agreed.codec, remote: agreed.remote });
        self.telephone_event = agreed.telephone_event.is_some();
        let [high, low, ..] = self.random.u32().to_be_bytes();
        let config = LegConfig {
            negotiated: agreed,
            ssrc: self.random.u32(),
            first_sequence: u16::from_be_bytes([high, low]),
            first_timestamp: MediaTime(self.random.u32()),
            cname: self.random.token(12),
            rtp_timeout: None,
            learn_any_ip: false,
        };
        self.leg = Some(Leg::new(now, LEG, config));
        self.next_tick = now;
        if self.script.record {
            // The leg's party is the far end: what it says is what we hear.
            let spec = RecordSpec::default();
            self.media(now, MediaCmd::Record { leg: LEG, recording: RECORDING, spec: Box::new(spec) });
        }
        if let Some(clip) = self.script.play.clone() {
            self.play(now, clip);
            self.tell(now, What::PlayStarted);
        }
    }

    fn begin_script(&mut self, now: Time) {
        self.acts = self.script.acts.iter().map(|(after, act)| (now + *after, act.clone())).collect();
        // Stable, so that acts of one time keep their order; popped from the end.
        self.acts.sort_by_key(|(at, _)| *at);
        self.acts.reverse();
        self.end_at = self.script.end_after.map(|after| now + after);
    }

    fn play(&mut self, now: Time, clip: Clip) {
        let play = PlayId(self.next_play);
        self.next_play += 1;
        // Steps of one queue follow each other without a gap; a new queue begins a frame later.
        let times = if self.script.play_again { PLAY_SEGMENTS } else { 1 };
        let segments = vec![Segment::Clip(clip); times];
        self.media(now, MediaCmd::Play { leg: LEG, play, segments, barge_in: BargeIn::None });
    }

    fn act(&mut self, now: Time, act: Act) {
        let State::Talking { dialog } = self.state else { return };
        match act {
            Act::Digit(digit) if self.telephone_event => {
                self.media(now, MediaCmd::SendDigit { leg: LEG, digit, duration: DIGIT_TIME });
                self.tell(now, What::DigitSent(digit));
            }
            Act::Digit(digit) => self.tell(now, What::DigitImpossible(digit)),
            Act::Play(clip) => {
                self.script.play_again = false;
                self.play(now, clip);
                self.tell(now, What::PlayStarted);
            }
            Act::StopPlay => {
                self.script.play_again = false;
                self.media(now, MediaCmd::StopPlay { leg: LEG });
            }
            Act::Offer(direction) => {
                let sdp = self.local.offer(self.config.rtp, direction);
                match self.endpoint.offer(now, dialog, sdp) {
                    Ok(()) => {
                        self.offered = Some(direction);
                        self.tell(now, What::Offered { direction });
                    }
                    Err(error) => self.tell(now, What::Trouble(format!("no re-INVITE: {error}"))),
                }
            }
            Act::Bye => {
                if self.endpoint.bye(now, dialog, &[]).is_ok() {
                    self.tell(now, What::ByeSent);
                    self.state = State::Ending { by_us: true };
                    self.acts.clear();
                }
            }
        }
    }

    fn on_offer(&mut self, now: Time, dialog: DialogId, sdp: Option<Bytes>) {
        // RFC 3311 5.2: an UPDATE without offer only refreshes. A re-INVITE without one wants ours; this phone has no second idea
        // of its media, so it says again what it said first.
        let Some(body) = sdp else {
            let again = self.local.offer(self.config.rtp, self.direction);
            if self.endpoint.accept_offer(now, dialog, Some(again)).is_err() {
                let _ = self.endpoint.accept_offer(now, dialog, None);
            }
            return;
        };
        let agreed = sdp::Remote::parse(&body).and_then(|offer| {
            self.local.choose(&offer, self.direction).map(|agreed| (self.local.answer(&offer, &agreed, self.config.rtp), agreed))
        });
        match agreed {
            Ok((answer, agreed)) => {
                let _ = self.endpoint.accept_offer(now, dialog, Some(answer));
                self.tell(now, What::Changed { direction: agreed.direction });
                self.telephone_event = agreed.telephone_event.is_some();
                self.media(now, MediaCmd::Update { leg: LEG, negotiated: Box::new(agreed) });
            }
            Err(error) => {
                self.tell(now, What::Trouble(error.to_string()));
                let _ = self.endpoint.refuse_offer(now, dialog, 488);
            }
        }
    }

    fn on_offer_answered(&mut self, now: Time, result: Result<Bytes, u16>) {
        let Some(direction) = self.offered.take() else { return };
        let answer = result.map_err(|status| format!("the re-INVITE got {status}"));
        let agreed = answer.and_then(|sdp| {
            sdp::Remote::parse(&sdp).and_then(|answer| self.local.accept(&answer, direction)).map_err(|error| error.to_string())
        });
        match agreed {
            Ok(agreed) => {
                self.direction = direction;
                self.telephone_event = agreed.telephone_event.is_some();
                self.media(now, MediaCmd::Update { leg: LEG, negotiated: Box::new(agreed) });
            }
            Err(why) => self.tell(now, What::Trouble(why)),
        }
    }

    fn on_gone(&mut self, now: Time, cause: Cause) {
        let by_us = matches!(self.state, State::Ending { by_us: true });
        let answered = self.answered_at.is_some();
        let ending = match cause {
            Cause::Bye { reason } => {
                self.tell(now, What::ByeReceived { reason });
                Ending::Released { by_us: false }
            }
            Cause::Failed { status, .. } => Ending::Failed { status },
            Cause::Cancelled => Ending::NotTaken,
            Cause::NoAck => Ending::Broken { why: "no ACK came".into() },
            Cause::SessionExpired => Ending::Broken { why: "no session refresh came".into() },
            Cause::CancelFailed => Ending::Failed { status: 487 },
            Cause::Local if answered => Ending::Released { by_us },
            Cause::Local => match self.role {
                Role::Caller(_) => Ending::Failed { status: 487 },
                Role::Callee(_) => Ending::NotTaken,
            },
        };
        let ending = match self.broken.take() {
            Some(why) => Ending::Broken { why },
            None => ending,
        };
        self.close_media(now);
        self.acts.clear();
        self.end_at = None;
        self.give_up_at = None;
        self.state = State::Over;
        let report = Report {
            ending,
            talked: self.answered_at.map_or(Duration::ZERO, |at| now.since(at)),
            answered_after: self.answered_at.map(|at| at.since(self.started_at)),
            media: self.media_stats,
            heard: self.heard_totals,
        };
        // What the endpoint still has to send (the ACK of a refusal, the 200 of a BYE) goes before the last output.
        self.drain(now);
        self.outputs.push_back(PhoneOutput::Done(Box::new(report)));
    }

    fn media(&mut self, now: Time, command: MediaCmd) {
        let Some(mut leg) = self.leg.take() else { return };
        leg.command(now, command, &mut self.sound);
        self.leg = Some(leg);
        self.on_sound(now);
    }

    /// The frames that are due.
    fn tick(&mut self, now: Time) {
        let mut made = 0;
        while self.leg.is_some() && self.next_tick <= now {
            let at = self.next_tick;
            self.next_tick += FRAME_TIME;
            made += 1;
            if made > CATCH_UP {
                self.next_tick = now + FRAME_TIME;
            }
            if let Some(leg) = &mut self.leg {
                leg.tick(at, &mut self.sound);
            }
            self.on_sound(now);
        }
    }

    fn close_media(&mut self, now: Time) {
        if let Some(mut leg) = self.leg.take() {
            leg.close(now, StopReason::RemoteHangup, &mut self.sound);
            self.on_sound(now);
        }
    }

    /// What the leg sent and said.
    fn on_sound(&mut self, now: Time) {
        self.outputs.extend(self.sound.packets.drain(..));
        for event in std::mem::take(&mut self.sound.events) {
            match event.what {
                MediaKind::Flowing { from } => self.tell(event.at, What::Flowing { from }),
                MediaKind::Digit { digit, .. } => self.tell(event.at, What::DigitHeard(digit)),
                MediaKind::QueueEnded { how: hookswitch_proto::media::Ended::Done, .. } => match self.script.play.clone() {
                    Some(clip) if self.script.play_again => self.play(now, clip),
                    _ => self.tell(event.at, What::PlayEnded),
                },
                MediaKind::RecordingClosed { totals, .. } => self.heard_totals = Some(totals),
                MediaKind::Closed { stats } => self.media_stats = Some(*stats),
                _ => {}
            }
        }
    }
}

/// The leg's world: packets and events are collected, recorded blocks become samples and go back to the pool.
struct Sound {
    packets: Vec<PhoneOutput>,
    events: Vec<MediaEvent>,
    pool: Vec<Box<Block>>,
    heard: Vec<i16>,
}

impl Sound {
    fn new() -> Sound {
        let block = || {
            Box::new(Block {
                recording: RECORDING,
                heard: false,
                two_sided: false,
                codec: Codec::Pcmu,
                first_frame: 0,
                frames: 0,
                kinds: [FrameKind::Voice; BLOCK_FRAMES],
                law: [0xff; BLOCK_FRAMES * FRAME],
                last: None,
            })
        };
        Sound { packets: Vec::new(), events: Vec::new(), pool: (0..BLOCKS).map(|_| block()).collect(), heard: Vec::new() }
    }
}

impl LegIo for Sound {
    fn send(&mut self, to: SocketAddr, rtcp: bool, packet: &[u8]) {
        self.packets.push(PhoneOutput::Rtp { to, rtcp, packet: Bytes::copy_from_slice(packet) });
    }

    fn event(&mut self, event: MediaEvent) {
        self.events.push(event);
    }

    fn take_block(&mut self) -> Option<Box<Block>> {
        self.pool.pop()
    }

    fn give_block(&mut self, mut block: Box<Block>) {
        let room = HEARD_SAMPLES.saturating_sub(self.heard.len());
        let law = block.law.iter().take((block.frames * FRAME).min(room));
        self.heard.extend(law.map(|byte| law::to_pcm(block.codec, *byte)));
        block.frames = 0;
        block.last = None;
        self.pool.push(block);
    }
}

#[cfg(test)]
mod tests;
