//! One participant's media: socket-less RTP in and out, digits, prompts, recording taps.
//!
//! The thread that owns a leg calls `push` for each datagram and then `tick` once per 20 ms. Neither locks nor waits, and neither allocates
//! but where a recording, an echo or a digit begins.
//! `push` only sorts what came; all decisions fall in `tick`, in this order: digits, received frames into the taps, the taps' ends, the
//! frame to send, RTCP.
//!
//! A bridge is two legs that hear each other. What `push` accepts of one goes on to the other at once ([`Leg::relay`]), with nothing but
//! a new header; the other's tick then sends nothing, unless it has something of its own to play. A packet waits in its socket until it
//! is read, up to 20 ms: the same for all packets of a stream, as long as the sender's phase keeps away from the reader's, so that no
//! jitter comes of it (`make bench` measures what does). Clocks that differ by 100 ppm pass each other once in three minutes; around that
//! moment the network's jitter, however small, becomes 20 ms.
//! Frames out of the jitter buffer are made only for who wants frames: recordings ([`Leg::overhear`]), an echo, or a far end that
//! insists on another packet time.

use super::background::Background;
use super::dtmf::{Keypad, Press, Presses};
use super::jitter::{Frame, Jitter, Packet, Verdict};
use super::mixer::Mixer;
use super::pace::{FRAME_NANOS, Lead};
use super::player::{Echo, Player, Step};
use super::rtcp::{self, Heard, Rtcp, Sent};
use super::sender::{BUFFER as RELAYED, Content, Sender, Spoken};
use super::source::Source;
use super::tap::{StreamNow, Tap};
use super::tone::ToneSpec;
use super::voice::Noise;
use super::warning::Warning;
use super::{
    Clip, Codec, DigitSource, Direction, FRAME, FRAME_TIME, FrameKind, LegConfig, LegId, LegIo, LegStats, MediaCmd, MediaEvent, MediaKind,
};
use super::{Negotiated, RecordSpec, RecordingId, RecordingTotals, StopReason, g711};
use crate::limits::TAPS;
use crate::sdp::TELEPHONE_EVENT;
use crate::time::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// What `push` leaves for the next `tick`. One press makes two; a tick reads eight datagrams.
const INPUTS: usize = 64;
/// And of these there is room for so many from the start: more come only in a flood.
const INPUTS_USUAL: usize = 2;
/// Digits that wait to be sent as tones, where the peer has no telephone-event.
const TONES: usize = 16;
/// How long a relayed digit sounds where it cannot be relayed as an event: long enough for every detector, and known before the key is up.
const RELAYED_DIGIT: Duration = Duration::from_millis(100);
/// Comfort noise (RFC 3389): by right no audio.
const COMFORT_NOISE: u8 = 13;

pub struct Leg {
    id: LegId,
    negotiated: Negotiated,
    source: Source,
    presses: Presses,
    jitter: Jitter,
    inputs: Vec<(Time, Input)>,
    taps: Vec<Tap>,
    noise: Noise,
    heard_noise: Noise,
    player: Player,
    echo: Echo,
    sender: Sender,
    keypad: Keypad,
    tones: Vec<(Clip, usize)>,
    warning: Option<Box<Warning>>,
    background: Option<Box<Background>>,
    rtcp: Rtcp,
    rtcp_from: Option<SocketAddr>,
    flowing: bool,
    rtp_timeout: Option<Duration>,
    last_heard: Time,
    timed_out: bool,
    stats: LegStats,
    /// Another leg's party is heard, wherever nothing of our own is sent.
    bridged: bool,
    /// The same of two at once.
    listens: Option<Box<Mixer>>,
    /// The last frame was our own: a prompt, a digit.
    own: bool,
    /// The peer insists on another packet time than the party sends: frames are put together anew.
    framed: bool,
    /// Somebody else wants this party's frames.
    overheard: bool,
    /// Frames of this tick that had left as silence, but were lost.
    outage: u64,
    /// The last tick, and that of the party that is heard here.
    ticked: Time,
    overheard_at: Time,
    /// Frames of our own: one a tick, and how far they are ahead of our clock.
    beats: u64,
    beat: Lead,
    closed: bool,
}

enum Input {
    Flowing(SocketAddr),
    Press(Press),
}

impl Leg {
    pub fn new(now: Time, id: LegId, config: LegConfig) -> Leg {
        let n = config.negotiated;
        Leg {
            id,
            source: Source::new(now, n.remote, config.learn_any_ip),
            presses: Presses::default(),
            jitter: Jitter::new(now, n.codec),
            inputs: Vec::with_capacity(INPUTS_USUAL),
            taps: Vec::new(),
            noise: Noise::new(),
            heard_noise: Noise::new(),
            player: Player::default(),
            echo: Echo::new(),
            sender: Sender::new(config.ssrc, config.first_sequence, config.first_timestamp.0),
            keypad: Keypad::new(),
            tones: Vec::new(),
            warning: None,
            background: None,
            rtcp: Rtcp::new(now, config.ssrc, &config.cname),
            rtcp_from: None,
            flowing: false,
            rtp_timeout: config.rtp_timeout,
            last_heard: now,
            timed_out: false,
            stats: LegStats::default(),
            bridged: false,
            listens: None,
            own: false,
            framed: false,
            overheard: false,
            outage: 0,
            ticked: now,
            overheard_at: now,
            beats: 0,
            beat: Lead::new(-(now.0.cast_signed())),
            closed: false,
            negotiated: n,
        }
    }

    /// A command for this leg other than `Open` and `Close`. Called between frames.
    pub fn command(&mut self, now: Time, command: MediaCmd, io: &mut impl LegIo) {
        if self.closed {
            return;
        }
        match command {
            MediaCmd::Open { .. } | MediaCmd::Close { .. } => {}
            // Whom it hears is the thread's business; to hear oneself would be an echo, which is another command.
            MediaCmd::Bridge { hears, .. } => self.bridge(hears.is_some_and(|other| other != self.id)),
            MediaCmd::Listen { to, .. } => self.listen(to.map(|other| other.filter(|other| *other != self.id))),
            MediaCmd::Update { negotiated, .. } => self.update(now, *negotiated),
            MediaCmd::Play { play, segments, barge_in, .. } => {
                self.stop_play(now, io);
                self.player.start(play, segments, barge_in);
            }
            MediaCmd::StopPlay { .. } => self.stop_play(now, io),
            MediaCmd::Record { recording, spec, .. } => self.record(now, recording, &spec, false, io),
            MediaCmd::StopRecording { recording, reason, .. } => {
                // Not at once: a digit or a hang-up in the same frame comes first (UR 6.5).
                self.taps.iter_mut().filter(|t| t.recording == recording).for_each(|t| t.ask_stop(reason));
            }
            MediaCmd::PauseRecording { recording, behavior, .. } => {
                self.taps.iter_mut().filter(|t| t.recording == recording).for_each(|t| t.pause(behavior));
            }
            MediaCmd::ResumeRecording { recording, .. } => {
                self.taps.iter_mut().filter(|t| t.recording == recording).for_each(Tap::resume);
            }
            MediaCmd::Background { audio, .. } => self.background = audio.and_then(|(clip, pause)| Background::new(clip, pause)),
            MediaCmd::Warn { on, .. } => self.warning = on.then(|| Box::new(Warning::new(now))),
            MediaCmd::SendDigit { digit, duration, .. } => self.press(digit, duration),
        }
        self.jitter.listen(self.wants_frames());
    }

    /// A datagram from the RTP socket (`rtcp` false) or the RTCP socket. What comes back is the party's, and for who hears it.
    pub fn push<'p>(&mut self, arrival: Time, from: SocketAddr, rtcp: bool, packet: &'p [u8]) -> Option<Spoken<'p>> {
        if self.closed {
            return None;
        }
        // RFC 5761 4: on a shared port the second byte tells RTCP (192 to 223) from RTP.
        if rtcp || packet.get(1).is_some_and(|kind| (192..224).contains(kind)) {
            self.push_rtcp(arrival, from, packet);
            return None;
        }
        let Ok(rtp) = rtp_rs::RtpReader::new(packet) else {
            self.stats.malformed += 1;
            return None;
        };
        let (ssrc, payload_type) = (rtp.ssrc(), rtp.payload_type());
        let codec = self.codec_of(payload_type);
        let event = codec.is_none() && self.is_event(payload_type);
        if codec.is_none() && !event && payload_type != COMFORT_NOISE {
            self.stats.malformed += 1;
            return None;
        }
        if !self.source.accept(arrival, from, ssrc) {
            self.stats.foreign += 1;
            return None;
        }
        self.stats.received += 1;
        self.hear(arrival);
        if !self.flowing {
            self.flowing = true;
            self.note(arrival, Input::Flowing(from));
        }
        let mut pressed = None;
        if event {
            // Not bound to the audio's SSRC: some gateways send events under one of their own.
            let inputs = &mut self.inputs;
            self.presses.packet(arrival, ssrc, rtp.timestamp(), rtp.payload(), |press| {
                if let Press::Down { digit, .. } = press {
                    pressed = Some(digit);
                }
                if inputs.len() < INPUTS {
                    inputs.push((arrival, Input::Press(press)));
                }
            });
        }
        let packet = Packet {
            ssrc,
            sequence: u16::from(rtp.sequence_number()),
            timestamp: rtp.timestamp(),
            audio: codec.map(|codec| (codec, rtp.payload())),
        };
        let verdict = self.jitter.push(arrival, packet, &mut self.stats);
        // On hold nothing is taken from the peer (RFC 3264 5.1), whatever it sends.
        if verdict == Verdict::Unused && pressed.is_none() || !self.negotiated.direction.receives() {
            return None;
        }
        Some(Spoken {
            at: arrival,
            ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: rtp.mark(),
            fresh: verdict == Verdict::Newest { fresh: true },
            newest: matches!(verdict, Verdict::Newest { .. }),
            in_stream: verdict != Verdict::Unused,
            content: match codec {
                Some(codec) => Content::Audio(codec, rtp.payload()),
                None if event => Content::Event(rtp.payload()),
                None => Content::Noise,
            },
            pressed,
        })
    }

    /// The datagram that was pushed last had come so long before it was read, as the kernel says. Where this is told of some packets, best of
    /// the first after a pause too, recordings have what was said at one moment at one place, whenever sockets are read.
    pub fn waited(&mut self, waited: Duration) {
        self.jitter.waited(waited);
    }

    /// Whether [`Leg::waited`] has a use.
    pub fn wants_arrivals(&self) -> bool {
        self.bridged || self.wants_frames()
    }

    /// What the other party of a bridge said, sent on at once. Anything of our own goes first.
    pub fn relay(&mut self, spoken: &Spoken<'_>, io: &mut impl LegIo) {
        if !self.bridged || self.closed {
            return;
        }
        let event = matches!(spoken.content, Content::Event(_));
        let as_event = spoken.in_stream && self.negotiated.telephone_event.is_some() && !self.framed;
        if let Some(digit) = spoken.pressed.filter(|_| !as_event) {
            self.press(digit, RELAYED_DIGIT);
        }
        let Some(to) = self.source.target().filter(|_| self.negotiated.direction.sends()) else { return };
        if event && !spoken.in_stream || self.own {
            return;
        }
        if let Content::Audio(_, law) = spoken.content {
            let insists = self.negotiated.ptime != FRAME_TIME;
            self.framed = insists && law.len() != self.samples();
        }
        if self.framed {
            return;
        }
        let mut mixed;
        let spoken = match (spoken.content, self.warning.as_mut().filter(|w| w.sounds())) {
            (Content::Audio(codec, law), Some(warning)) if spoken.newest && law.len() <= RELAYED => {
                mixed = [0; RELAYED];
                let mixed = &mut mixed[..law.len()];
                mixed.copy_from_slice(law);
                warning.mix(codec, mixed);
                Spoken { content: Content::Audio(codec, mixed), ..*spoken }
            }
            _ => *spoken,
        };
        self.sender.relay(io, to, &self.negotiated, &spoken);
    }

    /// The frames that the other party of a bridge said in its tick just now, for the recordings of what this party hears.
    pub fn overhear(&mut self, other: &Leg, io: &mut impl LegIo) {
        // Also while something of our own is heard instead: the other's frames are as old as that when they are heard again.
        self.overheard_at = other.ticked;
        let muted = !other.negotiated.direction.receives();
        if let Some(mixer) = self.listens.as_mut().filter(|_| !self.closed && !muted) {
            for (_, said) in other.jitter.said() {
                mixer.put(other.id, said.codec, said.law);
            }
        }
        if self.closed || !self.hears_other() {
            return;
        }
        let framed = self.framed && !self.player.echoes();
        let stream = other.stream_now();
        for tap in self.taps.iter_mut().filter(|t| t.takes_heard()) {
            tap.heard_from(other.id, stream);
            tap.heard_outage(other.outage);
        }
        for (came, said) in other.jitter.said() {
            let silence = [g711::silence(said.codec); FRAME];
            let frame = if muted { Frame { law: &silence, kind: FrameKind::Silence, stamps: None, ..said } } else { said };
            if framed {
                self.echo.put(frame.law, frame.codec);
            }
            let energy = g711::mean_square(frame.codec, frame.law);
            if frame.kind == FrameKind::Voice {
                self.heard_noise.hear(energy);
            }
            for tap in &mut self.taps {
                tap.heard(came, false, frame, energy, &self.heard_noise, io);
            }
        }
    }

    /// Whether [`Leg::overhear`] has a use: then the other leg must be told, by [`Leg::set_overheard`].
    pub fn overhears(&self) -> bool {
        self.listens.is_some() || self.bridged && (self.framed || self.taps.iter().any(Tap::takes_heard))
    }

    /// Somebody who hears this leg wants its frames, from now on, or no more.
    pub fn set_overheard(&mut self, on: bool) {
        if on != self.overheard {
            self.overheard = on;
            self.jitter.listen(self.wants_frames());
        }
    }

    /// The thread left out so many ticks, beyond those that it makes up for: what we say has a hole there, which recordings of it show.
    pub fn left_out(&mut self, ticks: u64, io: &mut impl LegIo) {
        self.beats += ticks;
        // What a party says comes whole, however late it is read.
        if !self.closed && !self.hears_other() {
            self.taps.iter_mut().for_each(|t| t.left_out(ticks, io));
        }
    }

    /// Whether another leg's party is heard from now on. The thread that owns both ends this when the other closes.
    pub fn bridge(&mut self, on: bool) {
        self.listens = None;
        self.bridged = on;
        self.overheard_at = self.ticked;
        self.framed = false;
        self.sender.cut();
        if !on {
            self.sender.marker = true;
        }
    }

    /// Whom of two parties it listens to from now on.
    pub fn listen(&mut self, to: [Option<LegId>; 2]) {
        self.bridge(false);
        self.listens = Mixer::new(to);
    }

    /// What this party hears is the other's voice, and not something of our own.
    fn hears_other(&self) -> bool {
        self.bridged && !self.own && self.negotiated.direction.sends() && self.source.target().is_some()
    }

    fn wants_frames(&self) -> bool {
        self.overheard || self.player.echoes() || self.taps.iter().any(Tap::takes_speech)
    }

    fn press(&mut self, digit: char, duration: Duration) {
        if self.negotiated.telephone_event.is_some() {
            self.keypad.press(digit, duration);
        } else if self.tones.len() < TONES {
            self.tones.extend(tone(digit, duration).map(|clip| (clip, 0)));
        }
    }

    /// Samples in a packet of our own.
    fn samples(&self) -> usize {
        (self.negotiated.ptime.as_millis() as usize * 8).clamp(80, 480)
    }

    fn push_rtcp(&mut self, arrival: Time, from: SocketAddr, packet: &[u8]) {
        if from.ip().to_canonical() != self.source.ip() {
            self.stats.foreign += 1;
            return;
        }
        let (any, heard) = self.rtcp.read(arrival, packet);
        if !any {
            self.stats.malformed += 1;
            return;
        }
        self.rtcp_from = Some(from);
        self.hear(arrival);
        if let Some(Heard::Bye(ssrc)) = heard {
            self.jitter.bye(ssrc);
        }
    }

    /// One frame: receive side, taps, player, send side; RTCP when due.
    pub fn tick(&mut self, now: Time, io: &mut impl LegIo) {
        if self.closed {
            return;
        }
        self.ticked = now;
        self.beats += 1;
        self.beat.hear(self.beats.cast_signed() * FRAME_NANOS - now.0.cast_signed());
        self.beat.tick();
        self.source.tick(now);
        self.carry_inputs(now, io);
        self.watch(now, io);
        self.jitter.tick(now);
        self.receive(now, io);
        self.end_taps(now, io);
        self.send(now, io);
        self.jitter.listen(self.wants_frames());
        if now >= self.rtcp.due {
            self.report(now, false, io);
        }
    }

    /// The source the leg has locked to, once: the thread may then connect its socket so that the kernel drops the rest.
    pub fn take_locked_source(&mut self) -> Option<SocketAddr> {
        self.source.take_locked()
    }

    /// The source is being learnt (again, after an `Update` that moved it): a connected socket must be disconnected.
    pub fn source_is_open(&self) -> bool {
        self.source.is_open()
    }

    pub fn stats(&self) -> LegStats {
        let jitter = self.jitter.stream().map_or(self.stats.jitter, |s| s.jitter());
        LegStats { lost: self.jitter.lost(), sent: self.sender.packets, jitter, ..self.stats }
    }

    /// What recordings report of this party's stream.
    fn stream_now(&self) -> StreamNow {
        StreamNow { late: self.stats.late, ssrc_changes: self.stats.ssrc_changes, skew_ppm: self.jitter.skew_ppm() }
    }

    /// Close taps, send RTCP BYE, emit `Closed`.
    pub fn close(&mut self, now: Time, reason: StopReason, io: &mut impl LegIo) {
        if self.closed {
            return;
        }
        self.carry_inputs(now, io);
        // What has come but waits for its turn belongs to the recordings.
        self.jitter.tick(now);
        self.jitter.finish();
        self.receive(now, io);
        while let Some(tap) = self.taps.pop() {
            self.end_tap(now, tap, reason, io);
        }
        let (id, player) = (self.id, &mut self.player);
        player.stop(|what| io.event(MediaEvent { leg: id, at: now, what }));
        self.report(now, true, io);
        self.closed = true;
        let stats = Box::new(self.stats());
        io.event(MediaEvent { leg: id, at: now, what: MediaKind::Closed { stats } });
    }

    fn update(&mut self, now: Time, new: Negotiated) {
        let old = std::mem::replace(&mut self.negotiated, new);
        let new = &mut self.negotiated;
        if new.remote.ip().is_unspecified() {
            // The older way to hold (c=0.0.0.0) moves nobody.
            (new.remote, new.remote_rtcp) = (old.remote, old.remote_rtcp);
        } else if new.remote != old.remote {
            self.source.reopen(now, new.remote);
            self.rtcp_from = None;
            self.flowing = false;
        }
        if new.codec != old.codec {
            self.sender.recode(old.codec, new.codec);
        }
        self.framed = false;
        if new.direction.receives() && !old.direction.receives() {
            self.hear(now);
        }
    }

    fn record(&mut self, now: Time, recording: RecordingId, spec: &RecordSpec, in_queue: bool, io: &mut impl LegIo) {
        let stream = (self.id, self.stream_now());
        let tap = if self.taps.len() < TAPS { Tap::open(now, recording, spec, in_queue, self.negotiated.codec, stream, io) } else { None };
        match tap {
            Some(tap) => {
                // Mostly the only one.
                self.taps.reserve_exact(1);
                self.taps.push(tap);
            }
            None => {
                let what = MediaKind::RecordingClosed { recording, reason: StopReason::Overload, totals: RecordingTotals::default() };
                io.event(MediaEvent { leg: self.id, at: now, what });
                if in_queue {
                    let id = self.id;
                    self.player.recorded(|what| io.event(MediaEvent { leg: id, at: now, what }));
                }
            }
        }
    }

    fn stop_play(&mut self, now: Time, io: &mut impl LegIo) {
        // A digit that came before this command ended its recording before it.
        self.carry_inputs(now, io);
        if let Some(at) = self.taps.iter().position(|t| t.in_queue) {
            let mut tap = self.taps.remove(at);
            tap.in_queue = false;
            self.end_tap(now, tap, StopReason::ApiStop, io);
        }
        let id = self.id;
        self.player.stop(|what| io.event(MediaEvent { leg: id, at: now, what }));
    }

    fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        match payload_type {
            p if p == self.negotiated.payload_type => Some(self.negotiated.codec),
            0 => Some(Codec::Pcmu),
            8 => Some(Codec::Pcma),
            _ => None,
        }
    }

    fn is_event(&self, payload_type: u8) -> bool {
        // Peers that answered our offer with a number of their own send with either (RFC 3264 5.1 lets the directions differ).
        self.negotiated.telephone_event.is_some_and(|events| payload_type == events || payload_type == TELEPHONE_EVENT)
    }

    fn hear(&mut self, now: Time) {
        self.last_heard = now;
        self.timed_out = false;
    }

    fn note(&mut self, at: Time, input: Input) {
        if self.inputs.len() < INPUTS {
            self.inputs.push((at, input));
        }
    }

    /// Digits: first to the recordings, then to the queue, each at the time it came.
    fn carry_inputs(&mut self, now: Time, io: &mut impl LegIo) {
        let inputs = &mut self.inputs;
        self.presses.tick(now, |press| {
            if inputs.len() < INPUTS {
                inputs.push((now, Input::Press(press)));
            }
        });
        let leg = self.id;
        for (at, input) in self.inputs.drain(..) {
            let what = match input {
                Input::Flowing(from) => MediaKind::Flowing { from },
                Input::Press(Press::Up { digit, held }) => MediaKind::DigitUp { digit, held },
                Input::Press(Press::Down { digit, sounded }) => {
                    self.stats.digits += 1;
                    let (mut stopped, mut consumed) = (false, false);
                    for kept in self.taps.iter_mut().filter_map(|t| t.digit(digit, sounded)) {
                        stopped = true;
                        consumed |= kept;
                    }
                    io.event(MediaEvent { leg, at, what: MediaKind::Digit { digit, source: DigitSource::Rfc4733, consumed } });
                    if !stopped {
                        self.player.digit(|what| io.event(MediaEvent { leg, at, what }));
                    }
                    continue;
                }
            };
            io.event(MediaEvent { leg, at, what });
        }
    }

    /// IC-282.
    fn watch(&mut self, now: Time, io: &mut impl LegIo) {
        let Some(timeout) = self.rtp_timeout else { return };
        if self.negotiated.direction.receives() && !self.timed_out && now.since(self.last_heard) >= timeout {
            self.timed_out = true;
            io.event(MediaEvent { leg: self.id, at: now, what: MediaKind::RtpTimeout });
        }
    }

    fn receive(&mut self, now: Time, io: &mut impl LegIo) {
        let echoes = self.player.echoes();
        let recorded = self.taps.iter().any(Tap::takes_speech);
        // UR 6.5: held by either side, which is anything but both ways, nobody is expected to speak.
        let receiving = self.negotiated.direction == Direction::SendRecv;
        let outage = self.jitter.take_outage();
        self.outage = outage;
        if outage > 0 {
            self.stats.concealed += outage;
            self.taps.iter_mut().filter(|t| t.takes_speech()).for_each(|t| t.outage(outage));
        }
        loop {
            let came = self.jitter.comes();
            let Some(frame) = self.jitter.pop(now) else { break };
            self.stats.concealed += u64::from(frame.kind == FrameKind::Concealed);
            if echoes {
                self.echo.put(frame.law, frame.codec);
            }
            if !recorded {
                continue;
            }
            let energy = (frame.kind == FrameKind::Voice).then(|| g711::mean_square(frame.codec, frame.law));
            if let Some(energy) = energy {
                self.noise.hear(energy);
            }
            for tap in &mut self.taps {
                tap.speak(came, frame, energy, &self.noise, receiving, io);
            }
        }
    }

    fn end_taps(&mut self, now: Time, io: &mut impl LegIo) {
        for tap in &mut self.taps {
            if tap.take_began() {
                io.event(MediaEvent { leg: self.id, at: now, what: MediaKind::RecordingVoice { recording: tap.recording } });
            }
        }
        while let Some((at, reason)) = self.taps.iter().enumerate().find_map(|(i, t)| Some((i, t.stop()?))) {
            let tap = self.taps.remove(at);
            self.end_tap(now, tap, reason, io);
        }
    }

    fn end_tap(&mut self, now: Time, mut tap: Tap, reason: StopReason, io: &mut impl LegIo) {
        let (leg, recording, in_queue) = (self.id, tap.recording, tap.in_queue);
        if tap.take_began() {
            io.event(MediaEvent { leg, at: now, what: MediaKind::RecordingVoice { recording } });
        }
        let (reason, totals) = tap.close(reason, self.stream_now(), io);
        io.event(MediaEvent { leg, at: now, what: MediaKind::RecordingClosed { recording, reason, totals } });
        if in_queue {
            self.player.recorded(|what| io.event(MediaEvent { leg, at: now, what }));
        }
    }

    /// The frame that goes out. When nothing plays it is silence: a steady stream keeps NAT bindings and firewalls open, and recorders
    /// and gateways at the far end in time; many of them take a missing stream for a dead call.
    fn send(&mut self, now: Time, io: &mut impl LegIo) {
        let (leg, codec) = (self.id, self.negotiated.codec);
        let mut law = [0; FRAME];
        let mut filled = 0;
        while filled < FRAME {
            match self.player.step(codec, &mut self.echo, &mut law[filled..]) {
                Step::Wrote(n) => filled += n,
                Step::Event(what) => io.event(MediaEvent { leg, at: now, what }),
                Step::Record(recording, spec) => self.record(now, recording, &spec, true, io),
                Step::Nothing => break,
            }
        }
        law[filled..].fill(g711::silence(codec));
        let mixed = filled == 0 && self.listens.as_mut().is_some_and(|mixer| mixer.take(codec, &mut law));
        let toned = self.overlay_tone(codec, &mut law);
        let digit = self.negotiated.telephone_event.filter(|_| !self.keypad.is_idle());
        self.own = filled > 0 || toned || digit.is_some();
        if let Some(warning) = &mut self.warning {
            warning.tick(now);
        }
        let hears_other = self.hears_other();
        if hears_other && self.framed {
            self.echo.take(codec, &mut law);
        }
        let sends = self.negotiated.direction.sends();
        let target = self.source.target().filter(|_| sends);
        if !hears_other && self.taps.iter().any(Tap::takes_heard) {
            let kind = if target.is_some() && (filled > 0 || mixed || toned) { FrameKind::Voice } else { FrameKind::Silence };
            if target.is_none() {
                law.fill(g711::silence(codec));
            }
            let energy = g711::mean_square(codec, &law);
            self.heard_noise.hear(energy);
            let came = self.beats.cast_signed() * FRAME_NANOS - self.beat.best();
            for tap in &mut self.taps {
                tap.heard(came, true, Frame { law: &law, codec, kind, stamps: None }, energy, &self.heard_noise, io);
            }
        }
        if !self.taps.is_empty() {
            let (heard_at, stream) = (if hears_other { self.overheard_at } else { now }, self.stream_now());
            self.taps.iter_mut().for_each(|t| t.tick(now, heard_at, stream, io));
        }
        let Some(to) = target else {
            // On hold time goes on without packets.
            self.sender.skip();
            self.skip_background();
            return;
        };
        let event = digit.and_then(|payload_type| self.keypad.frame(self.sender.timestamp).map(|e| (payload_type, e)));
        match event {
            Some((payload_type, event)) => {
                self.sender.skip();
                self.skip_background();
                self.sender.packet(io, to, payload_type, event.first, event.timestamp, &event.payload());
            }
            None if hears_other && !self.framed && !self.sender.waited() => {}
            None => {
                // Behind the recordings, which have had this frame.
                if let Some(background) = self.background.as_mut().filter(|_| !hears_other) {
                    background.mix(codec, self.player.plays(), filled == 0 && !mixed && !toned, &mut law);
                }
                if let Some(warning) = &mut self.warning {
                    warning.mix(codec, &mut law);
                }
                let samples = self.samples();
                self.sender.audio(io, to, self.negotiated.payload_type, samples, &law);
            }
        }
    }

    fn skip_background(&mut self) {
        if let Some(background) = &mut self.background {
            background.skip(FRAME);
        }
    }

    /// A digit as two tones over whatever plays, where the peer has no telephone-event.
    fn overlay_tone(&mut self, codec: Codec, law: &mut [u8; FRAME]) -> bool {
        let Some((clip, done)) = self.tones.first_mut() else { return false };
        let bytes = match codec {
            Codec::Pcmu => &clip.pcmu,
            Codec::Pcma => &clip.pcma,
        };
        let rest = bytes.get(*done..).unwrap_or(&[]);
        let n = rest.len().min(FRAME);
        law[..n].copy_from_slice(&rest[..n]);
        *done += n;
        if *done >= bytes.len() {
            self.tones.remove(0);
        }
        n > 0
    }

    fn report(&mut self, now: Time, bye: bool, io: &mut impl LegIo) {
        let sent = Sent { packets: self.sender.packets, octets: self.sender.octets, timestamp: self.sender.timestamp };
        let mut packet = [0; rtcp::BUFFER];
        let n = self.rtcp.report(now, sent, self.jitter.stream(), bye, &mut packet);
        let Some(rtp) = self.source.target() else { return };
        let mux = self.negotiated.rtcp_mux;
        // Symmetric as RTP is: to where the peer's reports come from, else as signalled.
        let to = if mux { rtp } else { self.rtcp_from.unwrap_or(self.negotiated.remote_rtcp) };
        if to.port() != 0 && !to.ip().is_unspecified() {
            io.send(to, !mux, &packet[..n]);
        }
    }
}

/// A DTMF digit as a clip, 80 ms of pause included.
fn tone(digit: char, duration: Duration) -> Option<Clip> {
    let ms = duration.as_millis().clamp(40, 8000) as u32;
    let mut linear = ToneSpec::dtmf(digit, ms, -6.0)?.linear();
    linear.resize(linear.len() + 640, 0);
    Some(Clip::from_linear(&linear))
}
