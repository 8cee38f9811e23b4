//! A peer's description, read by `sdp-types` and reduced to what offer/answer needs. Lines that the crate would reject the whole
//! body for, and that say nothing to us, never reach it.

use super::device::{Crypto, Format, crypto_lines};
use super::{SdpError, direction_of};
use crate::limits::{SDP_BYTES, SDP_MEDIA};
use crate::media::{Codec, Direction, Negotiated};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A peer's parsed description, kept to answer it and to compare the next one with.
#[derive(Clone, Debug)]
pub struct Remote {
    pub(super) sections: Vec<Section>,
    origin: String,
}

/// One `m=` line and what belongs to it, session-level defaults already applied.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub media: String,
    pub proto: String,
    /// The format list as written, for a refusal.
    pub formats: String,
    port: u16,
    connection: Connection,
    /// The peer's own view.
    pub direction: Direction,
    /// What we know by name, under any payload type, in the peer's order.
    pub formats_known: Vec<(Format, u8)>,
    pub telephone_event: Option<u8>,
    /// Lines for SDES that can be read.
    pub crypto: Vec<Crypto>,
    ptime: Option<u64>,
    maxptime: Option<u64>,
    rtcp: Option<(u16, Option<IpAddr>)>,
    rtcp_mux: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Connection {
    None,
    /// A host name or another network: we look nothing up.
    Name,
    Ip(IpAddr),
}

impl Remote {
    pub fn parse(body: &[u8]) -> Result<Remote, SdpError> {
        if body.len() > SDP_BYTES {
            return Err(SdpError::Malformed(format!("{} bytes are more than {SDP_BYTES}", body.len())));
        }
        let (clean, origin) = clean(body);
        let session = sdp_types::Session::parse(clean.as_bytes()).map_err(|e| SdpError::Malformed(e.to_string()))?;
        if session.medias.len() > SDP_MEDIA {
            return Err(SdpError::NoAudio("too many media sections"));
        }
        let connection = session.connection.as_ref().map_or(Connection::None, connection);
        let direction = direction(&session.attributes);
        let sections = session.medias.iter().map(|m| Section::read(m, connection, direction)).collect();
        Ok(Remote { sections, origin })
    }

    /// Where the peer wants its audio (first audio section), if it names a usable address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.audio().and_then(Section::address)
    }

    /// The peer holds us: it does not want to receive, said by direction or by the old `c=0.0.0.0`.
    pub fn is_hold(&self) -> bool {
        self.audio().is_some_and(|s| !s.peer_receives())
    }

    /// The same origin line as `other`: nothing changed since (RFC 3264 8).
    pub fn same_version(&self, other: &Remote) -> bool {
        !self.origin.is_empty() && self.origin == other.origin
    }

    fn audio(&self) -> Option<&Section> {
        self.sections.iter().find(|s| s.media == "audio" && s.port != 0)
    }
}

impl Section {
    fn read(media: &sdp_types::Media, session_connection: Connection, session_direction: Option<Direction>) -> Section {
        let value = |name: &str| media.attributes.iter().find(|a| a.attribute == name).and_then(|a| a.value.as_deref());
        let number = |name: &str| value(name).and_then(|v| v.trim().parse::<u64>().ok());
        let rtpmaps: Vec<(u8, String)> = media
            .attributes
            .iter()
            .filter(|a| a.attribute == "rtpmap")
            .filter_map(|a| {
                let (payload_type, encoding) = a.value.as_deref()?.trim().split_once(' ')?;
                Some((payload_type.parse().ok().filter(|p| *p < 128)?, encoding.trim().to_ascii_uppercase()))
            })
            .collect();
        let mut formats_known = Vec::new();
        let mut telephone_event = None;
        for payload_type in media.fmt.split_ascii_whitespace().filter_map(|f| f.parse::<u8>().ok()).filter(|p| *p < 128) {
            let encoding = match rtpmaps.iter().find(|(p, _)| *p == payload_type) {
                Some((_, encoding)) => encoding.as_str(),
                // RFC 3551 6: static types need no rtpmap.
                None if payload_type == 0 => "PCMU/8000",
                None if payload_type == 3 => "GSM/8000",
                None if payload_type == 8 => "PCMA/8000",
                None => continue,
            };
            match encoding {
                "PCMU/8000" | "PCMU/8000/1" => formats_known.push((Format::Pcmu, payload_type)),
                "PCMA/8000" | "PCMA/8000/1" => formats_known.push((Format::Pcma, payload_type)),
                "GSM/8000" | "GSM/8000/1" => formats_known.push((Format::Gsm, payload_type)),
                // Its clock must be the audio's (RFC 4733 2.1): offers with Opus list telephone-event/48000 as well.
                "TELEPHONE-EVENT/8000" | "TELEPHONE-EVENT/8000/1" => telephone_event = telephone_event.or(Some(payload_type)),
                _ => {}
            }
        }
        Section {
            media: media.media.clone(),
            proto: media.proto.clone(),
            formats: media.fmt.trim().to_string(),
            port: media.port,
            connection: media.connections.first().map_or(session_connection, connection),
            direction: direction(&media.attributes).or(session_direction).unwrap_or(Direction::SendRecv),
            formats_known,
            telephone_event,
            crypto: crypto_lines(media.attributes.iter().filter(|a| a.attribute == "crypto").filter_map(|a| a.value.as_deref())),
            ptime: number("ptime"),
            maxptime: number("maxptime"),
            rtcp: value("rtcp").and_then(rtcp),
            rtcp_mux: media.attributes.iter().any(|a| a.attribute == "rtcp-mux"),
        }
    }

    /// Whether this audio section can be used by a leg of ours at all, codecs apart.
    pub fn check(&self) -> Result<(), &'static str> {
        self.check_address()?;
        if self.is_plain() { Ok(()) } else { Err("only RTP/AVP and RTP/AVPF are supported") }
    }

    pub fn is_plain(&self) -> bool {
        ["RTP/AVP", "RTP/AVPF"].iter().any(|profile| self.proto.eq_ignore_ascii_case(profile))
    }

    pub fn is_secure(&self) -> bool {
        ["RTP/SAVP", "RTP/SAVPF"].iter().any(|profile| self.proto.eq_ignore_ascii_case(profile))
    }

    /// Codecs that a leg of ours speaks.
    pub fn codecs(&self) -> impl Iterator<Item = (Codec, u8)> + '_ {
        self.formats_known.iter().filter_map(|(format, payload_type)| Some((format.codec()?, *payload_type)))
    }

    pub fn check_address(&self) -> Result<(), &'static str> {
        if self.port == 0 {
            return Err("the audio stream is refused (port 0)");
        }
        match self.connection {
            Connection::Ip(ip) if !is_one_host(ip) => Err("the connection address is not that of one host"),
            Connection::Ip(_) => Ok(()),
            Connection::Name => Err("the connection address is a name, not an IP address"),
            Connection::None => Err("there is no connection address"),
        }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        match self.connection {
            Connection::Ip(ip) if self.port != 0 => Some(SocketAddr::new(ip, self.port)),
            _ => None,
        }
    }

    pub fn peer_receives(&self) -> bool {
        // RFC 3264 8.4: the older way to hold is an address of zeros, whatever the direction says.
        let nowhere = matches!(self.connection, Connection::Ip(ip) if ip.is_unspecified());
        self.direction.receives() && !nowhere
    }

    /// This section as we use it, at most in the direction that we want.
    pub fn negotiated(&self, codec: Codec, payload_type: u8, want: Direction) -> Result<Negotiated, SdpError> {
        let remote = self.address().ok_or(SdpError::NoAudio("there is no connection address"))?;
        // RFC 3550 11: RTCP is on the next port unless RFC 3605 or RFC 5761 say otherwise. Port 65535 has no next one.
        let remote_rtcp = match self.rtcp {
            _ if self.rtcp_mux => remote,
            Some((port, ip)) => SocketAddr::new(ip.filter(|ip| is_one_host(*ip)).unwrap_or(remote.ip()), port),
            None => SocketAddr::new(remote.ip(), remote.port().saturating_add(1)),
        };
        Ok(Negotiated {
            codec,
            payload_type,
            telephone_event: self.telephone_event,
            remote,
            remote_rtcp,
            rtcp_mux: self.rtcp_mux,
            direction: direction_of(want.sends() && self.peer_receives(), want.receives() && self.direction.sends()),
            ptime: self.packet_time(),
        })
    }

    /// The packet time the peer asks for, where it is one that we can make: 10 to 60 ms in tens. All else means 20 ms, so that no
    /// number from outside sizes anything (CVE-2026-41416 was such a number).
    fn packet_time(&self) -> Duration {
        let ok = |ms: &u64| (10..=60).contains(ms) && ms.is_multiple_of(10);
        let wanted = self.ptime.filter(ok).unwrap_or(20);
        let most = self.maxptime.map_or(60, |ms| (ms / 10 * 10).clamp(10, 60));
        Duration::from_millis(wanted.min(most))
    }
}

/// The lines that matter, in a form that `sdp-types` accepts, and the origin as written.
///
/// Gone are session name, times, bandwidth and the like (a Latin-1 `s=` or a bad `b=` is no reason to refuse a call), second origin or
/// connection lines, lines without a type, and control characters inside a line. A short `o=` is replaced.
fn clean(body: &[u8]) -> (String, String) {
    let mut out = String::with_capacity(body.len());
    let mut origin = None;
    let mut connected = false;
    for line in body.split(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let line = line.trim_start();
        let Some((kind, value)) = line.split_once('=') else {
            continue;
        };
        if value.contains(['\r', '\0']) {
            continue;
        }
        match kind {
            "v" | "a" => {}
            "m" => connected = false,
            "o" if origin.is_none() => {
                origin = Some(value.trim().to_string());
                continue;
            }
            "c" if !connected => connected = true,
            _ => continue,
        }
        out.push_str(kind);
        out.push('=');
        out.push_str(if kind == "a" { value } else { value.trim() });
        out.push_str("\r\n");
    }
    (out, origin.unwrap_or_default())
}

fn connection(line: &sdp_types::Connection) -> Connection {
    match line.try_address() {
        Ok(address) => Connection::Ip(address.ip),
        Err(_) => Connection::Name,
    }
}

fn direction(attributes: &[sdp_types::Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|a| match a.attribute.as_str() {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

/// RFC 3605 2.1: `port [nettype addrtype address]`.
fn rtcp(value: &str) -> Option<(u16, Option<IpAddr>)> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok().filter(|p| *p != 0)?;
    Some((port, words.nth(2).and_then(|ip| ip.parse().ok())))
}

/// A caller must not aim our media at a whole network. Zeros are the older way to hold.
fn is_one_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}
