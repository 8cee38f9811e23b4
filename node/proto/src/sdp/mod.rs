//! Session descriptions (RFC 4566/8866) and offer/answer (RFC 3264) for the one audio stream we use.
//!
//! `remote.rs` reads what a peer wrote into the few facts that matter; this file decides. No address is looked up here: a name in
//! `c=` is refused. Start reading at [`Local`]; `device.rs` is the same for a device whose media goes past us.

mod device;
mod remote;

pub use device::{Crypto, Device, Format, Target};
pub use remote::Remote;

use crate::media::{Codec, Direction, Negotiated};
use bytes::Bytes;
use remote::Section;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Payload type that our offers give telephone-event. Answers keep the offer's number.
pub const TELEPHONE_EVENT: u8 = 101;

/// Why an offer or answer cannot be used: 488 for an offer, ACK and BYE for an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("not an SDP body: {0}")]
    Malformed(String),
    #[error("no audio stream with a codec of ours")]
    NoCodec,
    #[error("no usable audio stream: {0}")]
    NoAudio(&'static str),
}

/// Our side of one negotiation: the origin line stays, the version grows with each change (RFC 3264 8).
#[derive(Clone, Debug)]
pub struct Local {
    pub session_id: u64,
    pub version: u64,
    /// In order of preference.
    pub codecs: Vec<Codec>,
    /// What was said last, without its origin line: the version grows only when this changes.
    said: Option<String>,
    /// The address in the origin line: the first that was said (RFC 3264 8).
    origin: Option<IpAddr>,
    /// The media sections agreed on so far, in order: `None` is our audio, the rest are the lines that refuse a stream. A later
    /// offer of ours must have the same sections in the same order (RFC 3264 8).
    sections: Vec<Option<String>>,
}

impl Local {
    /// `codecs` in order of preference.
    pub fn new(session_id: u64, codecs: Vec<Codec>) -> Local {
        // RFC 8866 5.2: sess-id and sess-version are numeric; many readers keep them in 63 bits.
        Local { session_id: session_id >> 1, version: 1, codecs, said: None, origin: None, sections: vec![None] }
    }

    /// What we would agree to, before an address is known.
    pub fn choose(&self, offer: &Remote, want: Direction) -> Result<Negotiated, SdpError> {
        let (_, section, codec, payload_type) = self.usable(offer)?;
        section.negotiated(codec, payload_type, want)
    }

    /// The answer (RFC 3264 6) that says `agreed` from `address` (as advertised).
    pub fn answer(&mut self, offer: &Remote, agreed: &Negotiated, address: SocketAddr) -> Bytes {
        let chosen = self.usable(offer).ok().map(|(index, ..)| index);
        let media = self.answered(offer, chosen, |media, section| {
            let formats = [(agreed.codec.name(), agreed.payload_type)];
            audio(media, &section.proto, address, &formats, agreed.telephone_event, agreed.direction, agreed.rtcp_mux);
        });
        self.say(address, media)
    }

    /// The media sections of an answer: `ours` writes the chosen one.
    fn answered(&mut self, offer: &Remote, chosen: Option<usize>, ours: impl Fn(&mut String, &Section)) -> String {
        self.sections.clear();
        let mut media = String::new();
        for (index, section) in offer.sections.iter().enumerate() {
            if Some(index) == chosen {
                self.sections.push(None);
                ours(&mut media, section);
            } else {
                // RFC 3264 6: a refused stream is answered in its place, with port 0 and at least one of its formats.
                let line = format!("m={} 0 {} {}\r\n", section.media, section.proto, section.formats);
                media.push_str(&line);
                self.sections.push(Some(line));
            }
        }
        media
    }

    /// An offer of all our codecs.
    pub fn offer(&mut self, address: SocketAddr, direction: Direction) -> Bytes {
        let formats: Vec<_> = self.codecs.iter().map(|c| (c.name(), c.static_payload_type())).collect();
        let media = self.offered(|media| audio(media, "RTP/AVP", address, &formats, Some(TELEPHONE_EVENT), direction, false));
        self.say(address, media)
    }

    /// The media sections of an offer: `ours` writes the audio.
    fn offered(&self, ours: impl Fn(&mut String)) -> String {
        let mut media = String::new();
        for section in &self.sections {
            match section {
                Some(refused) => media.push_str(refused),
                None => ours(&mut media),
            }
        }
        media
    }

    /// What the answer to our offer means.
    pub fn accept(&self, answer: &Remote, offered: Direction) -> Result<Negotiated, SdpError> {
        let (_, section, codec, payload_type) = self.usable(answer)?;
        section.negotiated(codec, payload_type, offered)
    }

    /// The first audio section with a codec of ours, and that codec: the first of the peer's list that we have (IC-210), so that
    /// both sides send the same one.
    fn usable<'a>(&self, remote: &'a Remote) -> Result<(usize, &'a Section, Codec, u8), SdpError> {
        let mut refused = SdpError::NoAudio("there is no audio stream");
        for (index, section) in remote.sections.iter().enumerate() {
            if section.media != "audio" {
                continue;
            }
            refused = match section.check() {
                Err(why) => SdpError::NoAudio(why),
                Ok(()) => match section.codecs().find(|(c, _)| self.codecs.contains(c)) {
                    Some((codec, payload_type)) => {
                        return Ok((index, section, codec, payload_type));
                    }
                    None => SdpError::NoCodec,
                },
            };
        }
        Err(refused)
    }

    fn say(&mut self, address: SocketAddr, media: String) -> Bytes {
        let line = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => format!("IN IP4 {ip}"),
            IpAddr::V6(ip) => format!("IN IP6 {ip}"),
        };
        let origin = line(*self.origin.get_or_insert(address.ip()));
        let rest = format!("s=-\r\nc={}\r\nt=0 0\r\n{media}", line(address.ip()));
        if self.said.as_ref().is_some_and(|said| *said != rest) {
            self.version += 1;
        }
        let body = format!("v=0\r\no=- {} {} {origin}\r\n{rest}", self.session_id, self.version);
        self.said = Some(rest);
        Bytes::from(body)
    }
}

/// Our audio section. Writing to a `String` cannot fail, hence the ignored results.
fn audio(
    out: &mut String,
    proto: &str,
    address: SocketAddr,
    formats: &[(&str, u8)],
    telephone_event: Option<u8>,
    direction: Direction,
    rtcp_mux: bool,
) {
    let _ = write!(out, "m=audio {} {proto}", address.port());
    for (_, payload_type) in formats {
        let _ = write!(out, " {payload_type}");
    }
    if let Some(events) = telephone_event {
        let _ = write!(out, " {events}");
    }
    out.push_str("\r\n");
    for (name, payload_type) in formats {
        let _ = write!(out, "a=rtpmap:{payload_type} {name}/8000\r\n");
    }
    if let Some(events) = telephone_event {
        // The sixteen DTMF events and no others (RFC 4733 3.2), whatever more the peer offered.
        let _ = write!(out, "a=rtpmap:{events} telephone-event/8000\r\na=fmtp:{events} 0-15\r\n");
    }
    let _ = write!(out, "a=ptime:20\r\na={}\r\n", direction_name(direction));
    if rtcp_mux {
        out.push_str("a=rtcp-mux\r\n");
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

fn direction_of(sends: bool, receives: bool) -> Direction {
    match (sends, receives) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

#[cfg(test)]
mod tests;
