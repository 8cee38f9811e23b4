//! One party of a session: its dialog, its leg, and what the two agreed on in SDP (SM-003, SM-005).
//!
//! It knows no hooks and no IVR; `session.rs` connects them.

use crate::alarm;
use crate::exchange::Settings;
use bytes::Bytes;
use hookswitch_proto::media::{Codec, Direction, LegConfig, LegId, LegStats, Negotiated};
use hookswitch_proto::sdp::{Local, Remote, SdpError};
use hookswitch_proto::sip::{DialogId, Message};
use hookswitch_proto::{MediaTime, Random};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The leg's life. Its id is known to the media thread from `Opening` to `Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegState {
    None,
    Opening(LegId),
    Open(LegId, SocketAddr),
    Closing(LegId),
    Gone,
}

pub(crate) struct Participant {
    /// UUID.
    pub id: String,
    /// User part that callbacks name it by.
    pub user: String,
    pub sip_call_id: String,
    pub dialog: DialogId,
    pub dialog_gone: bool,
    /// Our 200 went out.
    pub answered: bool,
    pub leg: LegState,
    /// What the peer offered and we did not answer yet.
    offer: Option<Remote>,
    /// Our offer is out, its answer comes with the ACK.
    pub offered: bool,
    local: Local,
    pub negotiated: Option<Negotiated>,
    pub stats: LegStats,
}

impl Participant {
    pub fn new(id: String, user: String, invite: &Message, dialog: DialogId, codecs: Vec<Codec>, random: &mut Random) -> Participant {
        Participant {
            id,
            user,
            sip_call_id: invite.call_id().to_owned(),
            dialog,
            dialog_gone: false,
            answered: false,
            leg: LegState::None,
            offer: None,
            offered: false,
            local: Local::new(random.u64(), codecs),
            negotiated: None,
            stats: LegStats::default(),
        }
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

    /// SDP for our 200: the answer, or our own offer. `None` while the leg is not open.
    pub fn describe(&mut self, settings: &Settings) -> Option<Bytes> {
        let address = self.advertised(settings)?;
        Some(match (self.offer.take(), &self.negotiated) {
            (Some(offer), Some(agreed)) => self.local.answer(&offer, agreed, address),
            _ => {
                self.offered = true;
                self.local.offer(address, Direction::SendRecv)
            }
        })
    }

    /// A new offer within the dialog: the answer to send. The leg must be told of `negotiated` then.
    pub fn renegotiate(&mut self, body: &[u8], settings: &Settings) -> Result<Bytes, SdpError> {
        let address = self.advertised(settings).ok_or(SdpError::NoAudio("no leg yet"))?;
        let offer = Remote::parse(body)?;
        let agreed = self.local.choose(&offer, Direction::SendRecv)?;
        let answer = self.local.answer(&offer, &agreed, address);
        self.negotiated = Some(agreed);
        Ok(answer)
    }

    /// The answer to our offer.
    pub fn accept(&mut self, body: Option<&[u8]>) -> Result<(), SdpError> {
        self.offered = false;
        let answer = Remote::parse(body.ok_or(SdpError::NoAudio("no answer in the ACK"))?)?;
        self.negotiated = Some(self.local.accept(&answer, Direction::SendRecv)?);
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
