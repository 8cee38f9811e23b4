//! One party of a session: its dialog, its leg, its IVR, and what the two sides agreed on in SDP (SM-003 to SM-005).
//!
//! It decides nothing; the files of `session/` do.

use crate::alarm;
use crate::door::{HoldAudio, Mute};
use crate::exchange::Settings;
use crate::hook::{AlarmKind, OutboundCall};
use crate::ivr::Ivr;
use bytes::Bytes;
use hookswitch_proto::media::{Clip, Codec, Direction, LegConfig, LegId, LegStats, Negotiated};
use hookswitch_proto::sdp::{Device, Format, Local, Remote, SdpError, Target};
use hookswitch_proto::sip::{DialogId, Message, Uri};
use hookswitch_proto::{MediaTime, Random, Time};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A party's place in its session; never used again in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartyKey(pub u32);

/// The leg's life. Its id is known to the media thread from `Opening` to `Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegState {
    None,
    Opening(LegId),
    Open(LegId, SocketAddr),
    Closing(LegId),
    Gone,
}

/// SM-003 and SM-004.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Incoming, unanswered.
    Trying,
    /// Outgoing, unanswered.
    Dialling(Box<Dial>),
    /// Incoming: our 200 is out, its ACK is awaited.
    Answered,
    Up,
    /// Everything of it is told to end; waits for the dialog and the leg.
    Releasing,
}

/// A call out, until it is answered.
#[derive(Debug)]
pub(crate) struct Dial {
    pub call: OutboundCall,
    /// Of the alarm that an address raises to which nothing can go.
    pub alarm: AlarmKind,
    pub target: Uri,
    /// Contacts of a 3xx that are left to try.
    pub alternatives: VecDeque<String>,
    pub redirects: u8,
    /// Where the target leads, what was tried taken out.
    pub addresses: VecDeque<SocketAddr>,
    /// The name that is being looked up, and until when.
    pub resolving: Option<(u32, Time)>,
    pub ring_until: Time,
    pub rang: bool,
    /// The offer that went out, for the next address.
    pub sdp: Option<Bytes>,
}

/// What we play to a party that nobody talks to.
#[derive(Debug)]
pub(crate) enum OwnPlay {
    /// Ringing or music, until it is stopped.
    Loop(Clip),
    Greeting,
}

/// A transfer by command.
#[derive(Debug)]
pub(crate) enum Transfer {
    /// The name in its target is being looked up, and until when.
    Locating { target: Uri, number: u32, until: Time },
    /// The party was asked. `told`: the status that the handler heard of last; a peer that repeats itself is not passed on.
    Asked { told: u16 },
}

impl Transfer {
    pub fn until(&self) -> Option<Time> {
        if let Transfer::Locating { until, .. } = self { Some(*until) } else { None }
    }
}

/// Of a party that listens to a connection, and is heard by nobody.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub connection_id: String,
    /// The pseudo-participant that it hears: its id and number (IC-101).
    pub heard_as: (String, String),
}

pub(crate) struct Participant {
    pub key: PartyKey,
    /// UUID, or what the handler chose.
    pub id: String,
    /// User part that callbacks name it by.
    pub user: String,
    pub sip_call_id: String,
    pub phase: Phase,
    /// `None`: not begun yet, or gone.
    pub dialog: Option<DialogId>,
    pub leg: LegState,
    pub ivr: Ivr,
    /// The request of its IVR whose command runs.
    pub command: Option<u32>,
    /// Incoming: it is to be answered as soon as its leg is open.
    pub answer_wanted: bool,
    /// A leg that does not open by then, or a release that does not end, is given up.
    pub give_up: Option<Time>,
    pub close_again: Option<Time>,
    /// It hears that it is recorded.
    pub warned: bool,
    /// What we play to it beside its IVR.
    pub plays: Option<OwnPlay>,
    /// On hold by command, and what it hears meanwhile.
    pub held: Option<HoldAudio>,
    /// The preparation of that.
    pub hold_prepare: Option<u32>,
    pub mute: Mute,
    pub transfer: Option<Transfer>,
    pub listener: Option<Box<Listener>>,
    /// What the peer offered and we did not answer yet.
    offer: Option<Remote>,
    /// The SDP that an early answer said: the 200 repeats it.
    said: Option<Bytes>,
    /// Our offer is out, its answer comes with the ACK or the 2xx.
    pub offered: bool,
    /// What our side of the stream should do; other than both ways while its counterpart holds, or a command does.
    pub direction: Direction,
    /// What its counterpart alone wants of that.
    pub passed: Direction,
    /// What our last offer said of it.
    pub told: Direction,
    /// A re-INVITE of ours is under way.
    pub reoffering: bool,
    /// It called us.
    pub incoming: bool,
    /// We called it, and it answered then.
    pub up_since: Option<Time>,
    local: Local,
    pub negotiated: Option<Negotiated>,
    /// Whom its media is to go to, past us: it needs no leg then.
    pub device: Option<Device>,
    /// What our last description said: this device, or a leg.
    pub told_device: Option<Device>,
    /// What the one before said, until our re-INVITE is answered.
    told_before: Option<Device>,
    /// Where a device must send, as the peer's last description says.
    pub target: Option<Target>,
    /// A call for a device that is not answered by then is refused.
    pub answer_by: Option<Time>,
    /// It was told that the device's side rings.
    pub rang: bool,
    pub stats: LegStats,
}

impl Participant {
    pub fn incoming(key: PartyKey, id: String, user: String, ivr: Ivr, invite: &Message, dialog: DialogId, local: Local) -> Participant {
        let mut party = Participant::new(key, id, user, ivr, Phase::Trying, local);
        party.sip_call_id = invite.call_id().to_owned();
        party.dialog = Some(dialog);
        party.incoming = true;
        party
    }

    pub fn outgoing(key: PartyKey, id: String, user: String, ivr: Ivr, dial: Dial, local: Local) -> Participant {
        Participant::new(key, id, user, ivr, Phase::Dialling(Box::new(dial)), local)
    }

    fn new(key: PartyKey, id: String, user: String, ivr: Ivr, phase: Phase, local: Local) -> Participant {
        Participant {
            key,
            id,
            user,
            sip_call_id: String::new(),
            phase,
            dialog: None,
            leg: LegState::None,
            ivr,
            command: None,
            answer_wanted: false,
            give_up: None,
            close_again: None,
            warned: false,
            plays: None,
            held: None,
            hold_prepare: None,
            mute: Mute::default(),
            transfer: None,
            listener: None,
            offer: None,
            said: None,
            offered: false,
            direction: Direction::SendRecv,
            passed: Direction::SendRecv,
            told: Direction::SendRecv,
            reoffering: false,
            up_since: None,
            incoming: false,
            local,
            negotiated: None,
            device: None,
            told_device: None,
            told_before: None,
            target: None,
            answer_by: None,
            rang: false,
            stats: LegStats::default(),
        }
    }

    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Releasing)
    }

    /// A 2xx went out or came in: only a BYE ends it now.
    pub fn is_answered(&self) -> bool {
        matches!(self.phase, Phase::Answered | Phase::Up)
    }

    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    pub fn dial(&mut self) -> Option<&mut Dial> {
        if let Phase::Dialling(dial) = &mut self.phase { Some(dial) } else { None }
    }

    /// Told to end, and nothing of it is left.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Releasing) && self.dialog.is_none() && matches!(self.leg, LegState::None | LegState::Gone)
    }

    pub fn next_timeout(&self) -> Option<Time> {
        let (ivr, ring) = match &self.phase {
            Phase::Releasing => (None, None),
            Phase::Dialling(dial) => (None, [Some(dial.ring_until), dial.resolving.map(|(_, until)| until)].into_iter().flatten().min()),
            Phase::Trying | Phase::Answered | Phase::Up => (self.ivr.next_timeout(), None),
        };
        let transfer = self.transfer.as_ref().and_then(Transfer::until);
        [ivr, ring, transfer, self.give_up, self.close_again, self.answer_by].into_iter().flatten().min()
    }

    /// The offer in the INVITE. None there: we shall offer in our 200 (RFC 3261 13.2.1).
    pub fn take_offer(&mut self, invite: &Message) -> Result<(), SdpError> {
        let body = invite.body();
        if body.is_empty() {
            return Ok(());
        }
        let offer = Remote::parse(&body)?;
        self.negotiated = Some(self.local.choose(&offer, Direction::SendRecv)?);
        self.offer = Some(offer);
        Ok(())
    }

    /// The offer in the INVITE of a call for a device: what it says of one that takes these.
    pub fn take_offer_for_device(&mut self, invite: &Message, formats: &[Format]) -> Result<(), SdpError> {
        let body = invite.body();
        if body.is_empty() {
            return Ok(());
        }
        let offer = Remote::parse(&body)?;
        self.target = Some(offer.target(formats)?);
        self.offer = Some(offer);
        Ok(())
    }

    /// Whether this device's media can stand in the answer to its INVITE. One without an offer takes any.
    pub fn fits(&self, device: &Device) -> Result<(), SdpError> {
        self.offer.as_ref().map_or(Ok(()), |offer| offer.fits(device).map(drop))
    }

    /// Its INVITE's offer was answered early with a leg of ours, which the 200 must repeat (RFC 3261 13.2.1).
    pub fn has_said(&self) -> bool {
        self.said.is_some()
    }

    /// Something of its media is in place: a leg, or a device that was told.
    pub fn has_media(&self) -> bool {
        self.open_leg().is_some() || self.told_device.is_some()
    }

    /// It speaks with a leg of ours, and knows it.
    pub fn on_leg(&self) -> bool {
        self.open_leg().is_some() && self.told_device.is_none()
    }

    pub fn leg_config(&self, settings: &Settings, random: &mut Random) -> LegConfig {
        // Before the peer said anything: a leg that neither sends nor waits, until the answer in the ACK updates it.
        let nothing_yet = || Negotiated {
            codec: settings.codecs.first().copied().unwrap_or(Codec::Pcma),
            payload_type: 8,
            telephone_event: None,
            remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            remote_rtcp: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            rtcp_mux: false,
            direction: Direction::Inactive,
            ptime: Duration::from_millis(20),
        };
        LegConfig {
            negotiated: self.negotiated.clone().unwrap_or_else(nothing_yet),
            ssrc: random.u32(),
            first_sequence: (random.u32() & 0x7fff) as u16,
            first_timestamp: MediaTime(random.u32()),
            cname: random.token(16),
            rtp_timeout: settings.rtp_timeout,
            learn_any_ip: settings.learn_any_ip,
        }
    }

    pub fn leg_id(&self) -> Option<LegId> {
        match self.leg {
            LegState::Opening(leg) | LegState::Open(leg, _) | LegState::Closing(leg) => Some(leg),
            LegState::None | LegState::Gone => None,
        }
    }

    pub fn open_leg(&self) -> Option<LegId> {
        if let LegState::Open(leg, _) = self.leg { Some(leg) } else { None }
    }

    fn advertised(&self, settings: &Settings) -> Option<SocketAddr> {
        let LegState::Open(_, local) = self.leg else { return None };
        Some(SocketAddr::new(settings.media_advertise.unwrap_or(local.ip()), local.port()))
    }

    /// SDP for our 200 or 183, or for our INVITE: the answer, or our own offer. `None` while the leg is not open.
    pub fn describe(&mut self, settings: &Settings) -> Option<Bytes> {
        if let Some(said) = &self.said {
            return Some(said.clone());
        }
        if let Some(device) = self.device.clone() {
            return self.describe_device(device);
        }
        let address = self.advertised(settings)?;
        Some(match (self.offer.take(), &self.negotiated) {
            (Some(offer), Some(agreed)) => {
                let answer = self.local.answer(&offer, agreed, address);
                self.said = Some(answer.clone());
                answer
            }
            _ => {
                self.offered = true;
                self.told = self.direction;
                self.local.offer(address, self.direction)
            }
        })
    }

    fn describe_device(&mut self, device: Device) -> Option<Bytes> {
        let body = match self.offer.take() {
            Some(offer) => {
                let (answer, target) = self.local.answer_for(&offer, &device, self.direction).ok()?;
                self.target = Some(target);
                answer
            }
            None => {
                self.offered = true;
                self.told = self.direction;
                self.local.offer_for(&device, self.direction)
            }
        };
        self.told_device = Some(device);
        Some(body)
    }

    /// The INVITE is answered for good.
    pub fn answered(&mut self) {
        (self.offer, self.said) = (None, None);
    }

    /// Our offer in the 200 to a re-INVITE that brought none; its answer comes with the ACK.
    pub fn offer_late(&mut self, settings: &Settings) -> Option<Bytes> {
        let offer = self.reoffer(settings)?;
        self.offered = true;
        Some(offer)
    }

    /// Whether the INVITE's offer has been answered, or can be: only then may a provisional carry an answer.
    pub fn can_answer_early(&self) -> bool {
        self.offer.is_some() || self.said.is_some()
    }

    /// Our own offer within the dialog.
    pub fn reoffer(&mut self, settings: &Settings) -> Option<Bytes> {
        self.told_before.clone_from(&self.told_device);
        if let Some(device) = self.in_force() {
            self.told = self.direction;
            let offer = self.local.offer_for(&device, self.direction);
            self.told_device = Some(device);
            return Some(offer);
        }
        let address = self.advertised(settings)?;
        self.told_device = None;
        self.told = self.direction;
        Some(self.local.offer(address, self.direction))
    }

    /// The device that a new description speaks of: the one that is wanted, or the last one as long as no leg is there instead.
    fn in_force(&self) -> Option<Device> {
        self.device.clone().or_else(|| self.told_device.clone().filter(|_| self.open_leg().is_none()))
    }

    /// Our last offer was refused: what was before goes on. Whether that is other media than was offered.
    pub fn take_back(&mut self) -> bool {
        let before = self.told_before.take();
        let differs = before != self.told_device;
        self.told_device = before;
        differs
    }

    /// What its media should be can be told, and was not.
    pub fn moves(&self) -> bool {
        self.device != self.told_device && (self.device.is_some() || self.open_leg().is_some())
    }

    /// Codecs of later offers, this one first: what both parties speak needs no transcoding.
    pub fn prefer(&mut self, codec: Codec) {
        self.local.codecs.sort_by_key(|c| *c != codec);
    }

    /// A new offer within the dialog: the answer to send. The leg must be told of `negotiated` then.
    pub fn renegotiate(&mut self, body: &[u8], settings: &Settings) -> Result<Bytes, SdpError> {
        if let Some(device) = self.in_force() {
            let (answer, target) = self.local.answer_for(&Remote::parse(body)?, &device, self.direction)?;
            (self.said, self.told) = (None, self.direction);
            (self.target, self.told_device) = (Some(target), Some(device));
            return Ok(answer);
        }
        let address = self.advertised(settings).ok_or(SdpError::NoAudio("no leg yet"))?;
        let offer = Remote::parse(body)?;
        let agreed = self.local.choose(&offer, self.direction)?;
        let answer = self.local.answer(&offer, &agreed, address);
        self.said = None;
        self.told = self.direction;
        self.told_device = None;
        self.negotiated = Some(agreed);
        Ok(answer)
    }

    /// The answer to our offer.
    pub fn accept(&mut self, body: Option<&[u8]>) -> Result<(), SdpError> {
        self.offered = false;
        let answer = Remote::parse(body.ok_or(SdpError::NoAudio("no answer came"))?)?;
        if let Some(device) = &self.told_device {
            self.target = Some(answer.target(&[device.format])?);
            return Ok(());
        }
        self.negotiated = Some(self.local.accept(&answer, self.told)?);
        Ok(())
    }

    /// Whether keys come by SIP INFO: only where RFC 4733 was not agreed on, so that one press counts once (IC-237).
    pub fn takes_info_digits(&self) -> bool {
        self.negotiated.as_ref().is_some_and(|n| n.telephone_event.is_none())
    }
}

/// The key in an INFO's body: `Signal=5` of application/dtmf-relay, or the bare key of application/dtmf.
pub(crate) fn info_digit(info: &Message) -> Option<char> {
    let content_type = info.header("Content-Type")?.to_ascii_lowercase();
    let body = info.body();
    let body = std::str::from_utf8(body.get(..body.len().min(256))?).ok()?;
    let signal = match content_type.split(';').next().map(str::trim) {
        Some("application/dtmf-relay") => body.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("Signal").then(|| value.trim())
        })?,
        Some("application/dtmf") => body.trim(),
        _ => return None,
    };
    // Some gateways send the event numbers of RFC 4733 3.2 instead of the keys.
    let key = match signal {
        "10" => '*',
        "11" => '#',
        "12" => 'A',
        "13" => 'B',
        "14" => 'C',
        "15" => 'D',
        key if key.chars().count() == 1 => key.chars().next()?.to_ascii_uppercase(),
        _ => return None,
    };
    hookswitch_proto::media::DIGITS.contains(&key).then_some(key)
}

pub(crate) fn sdp_details(error: &SdpError) -> String {
    alarm::printable(&error.to_string(), 256)
}
