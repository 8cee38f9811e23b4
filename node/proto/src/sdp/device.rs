//! Descriptions in which a device's own address and codec stand: its media goes past us, so that nothing here is decoded, and GSM is as
//! good as G.711. Offer and answer are those of RFC 3264; RTP/SAVP takes the device's own keys (RFC 4568).
//!
//! Start with [`Device`] (our side) and [`Target`] (what the peer wants).

use super::remote::Section;
use super::{Direction, Local, Remote, SdpError, audio, direction_of};
use crate::limits::{SDP_CRYPTO, SDP_CRYPTO_KEY, SDP_CRYPTO_SUITE};
use crate::media::Codec;
use bytes::Bytes;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

/// A codec as far as descriptions name it, in the payload types of RFC 3551 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    Pcmu,
    Pcma,
    Gsm,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Pcmu, Format::Pcma, Format::Gsm];

    pub fn of_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The encoding name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Pcmu => "PCMU",
            Format::Pcma => "PCMA",
            Format::Gsm => "GSM",
        }
    }

    pub fn payload_type(self) -> u8 {
        match self {
            Format::Pcmu => 0,
            Format::Gsm => 3,
            Format::Pcma => 8,
        }
    }

    /// The one of ours, where we can decode it.
    pub(super) fn codec(self) -> Option<Codec> {
        match self {
            Format::Pcmu => Some(Codec::Pcmu),
            Format::Pcma => Some(Codec::Pcma),
            Format::Gsm => None,
        }
    }
}

/// One `a=crypto` line: whoever has it can hear the call, so it shows itself to no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    tag: u32,
    suite: String,
    key: String,
}

impl Crypto {
    /// `key`: key parameters, and perhaps session parameters behind a space.
    pub fn new(tag: u32, suite: &str, key: &str) -> Result<Crypto, &'static str> {
        // RFC 4568 9.1: 1 to 9 digits.
        if tag > 999_999_999 {
            return Err("a tag has 9 digits at most");
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if suite.is_empty() || suite.len() > SDP_CRYPTO_SUITE || !suite.bytes().all(token) {
            return Err("a suite is made of letters, digits and _");
        }
        let one_line = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !key.starts_with("inline:") || key.len() > SDP_CRYPTO_KEY || !one_line {
            return Err("key parameters begin with `inline:` and are one line of ASCII");
        }
        Ok(Crypto { tag, suite: suite.to_owned(), key: key.trim_end().to_owned() })
    }

    pub fn tag(&self) -> u32 {
        self.tag
    }

    pub fn suite(&self) -> &str {
        &self.suite
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn parse(value: &str) -> Option<Crypto> {
        let mut words = value.trim().splitn(3, ' ');
        let tag = words.next()?.parse().ok()?;
        Crypto::new(tag, words.next()?, words.next()?.trim_start()).ok()
    }
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {} …)", self.tag, self.suite)
    }
}

/// A device's side of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Where it takes RTP.
    pub address: SocketAddr,
    pub format: Format,
    /// Payload type of telephone-event; `None`: it takes none.
    pub telephone_event: Option<u8>,
    /// Its keys for an RTP/SAVP answer; empty: plain RTP.
    pub crypto: Vec<Crypto>,
}

/// Where a peer wants a device's audio, and in what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub format: Format,
    pub address: SocketAddr,
    pub telephone_event: Option<u8>,
    /// The peer's keys where its stream is RTP/SAVP.
    pub crypto: Vec<Crypto>,
}

impl Remote {
    /// Of the first audio stream that has one of these, the first of the peer's list (IC-210).
    pub fn target(&self, formats: &[Format]) -> Result<Target, SdpError> {
        self.stream(formats).map(|(_, _, target)| target)
    }

    /// Whether a device can be on the other side, and what it is told then.
    pub fn fits(&self, device: &Device) -> Result<Target, SdpError> {
        let target = self.target(&[device.format])?;
        match (target.crypto.is_empty(), device.crypto.is_empty()) {
            (true, false) => return Err(SdpError::NoAudio("the stream is plain RTP and takes no crypto line")),
            (false, true) => return Err(SdpError::NoAudio("the stream is RTP/SAVP and needs a crypto line")),
            _ => {}
        }
        // RFC 4568 5.1.2: an answer takes up lines of the offer by their tag.
        let offered = |ours: &Crypto| target.crypto.iter().any(|theirs| theirs.tag == ours.tag && theirs.suite == ours.suite);
        if !device.crypto.iter().all(offered) {
            return Err(SdpError::NoAudio("a crypto line has a tag and suite that were not offered"));
        }
        Ok(target)
    }

    fn stream(&self, formats: &[Format]) -> Result<(usize, u8, Target), SdpError> {
        let mut refused = SdpError::NoAudio("there is no audio stream");
        for (index, section) in self.sections.iter().enumerate().filter(|(_, section)| section.media == "audio") {
            refused = match usable(section) {
                Err(why) => SdpError::NoAudio(why),
                Ok(address) => match section.formats_known.iter().find(|(format, _)| formats.contains(format)) {
                    Some((format, payload_type)) => {
                        let crypto = if section.is_secure() { section.crypto.clone() } else { Vec::new() };
                        let target = Target { format: *format, address, telephone_event: section.telephone_event, crypto };
                        return Ok((index, *payload_type, target));
                    }
                    None => SdpError::NoCodec,
                },
            };
        }
        Err(refused)
    }
}

fn usable(section: &Section) -> Result<SocketAddr, &'static str> {
    section.check_address()?;
    match (section.is_plain(), section.is_secure()) {
        (true, _) => {}
        (_, true) if section.crypto.is_empty() => return Err("RTP/SAVP without a crypto line that can be read"),
        (_, true) => {}
        _ => return Err("only RTP/AVP, RTP/AVPF, RTP/SAVP and RTP/SAVPF are supported"),
    }
    section.address().ok_or("there is no connection address")
}

impl Local {
    /// The answer with a device's media.
    pub fn answer_for(&mut self, offer: &Remote, device: &Device, want: Direction) -> Result<(Bytes, Target), SdpError> {
        let target = offer.fits(device)?;
        let (chosen, payload_type, _) = offer.stream(&[device.format])?;
        let media = self.answered(offer, Some(chosen), |media, section| {
            let direction = direction_of(want.sends() && section.peer_receives(), want.receives() && section.direction.sends());
            let formats = [(device.format.name(), payload_type)];
            audio(media, &section.proto, device.address, &formats, device.telephone_event, direction, false);
            device.crypto.iter().for_each(|line| write_crypto(media, line));
        });
        Ok((self.say(device.address, media), target))
    }

    /// An offer of its media: plain RTP, in its codec alone.
    pub fn offer_for(&mut self, device: &Device, direction: Direction) -> Bytes {
        let media = self.offered(|media| {
            let formats = [(device.format.name(), device.format.payload_type())];
            audio(media, "RTP/AVP", device.address, &formats, device.telephone_event, direction, false);
        });
        self.say(device.address, media)
    }
}

fn write_crypto(media: &mut String, line: &Crypto) {
    let Crypto { tag, suite, key } = line;
    // Writing to a `String` cannot fail.
    let _ = write!(media, "a=crypto:{tag} {suite} {key}\r\n");
}

/// Of a stream's lines, those that can be used.
pub(super) fn crypto_lines<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Crypto> {
    values.filter_map(Crypto::parse).take(SDP_CRYPTO).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4";

    fn offer(profile: &str, formats: &str, extra: &str) -> Remote {
        let text = format!(
            "v=0\r\no=a 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 {profile} {formats}\r\n\
             a=rtpmap:101 telephone-event/8000\r\n{extra}"
        );
        Remote::parse(text.as_bytes()).expect("it parses")
    }

    fn device(format: Format) -> Device {
        Device { address: "198.51.100.7:30000".parse().expect("an address"), format, telephone_event: None, crypto: Vec::new() }
    }

    fn local() -> Local {
        Local::new(8, vec![Codec::Pcma, Codec::Pcmu])
    }

    #[test]
    fn ic_044_045_048_049_an_answer_has_the_devices_address_port_and_codec() {
        let offer = offer("RTP/AVP", "0 8 101", "");
        let (answer, target) = local().answer_for(&offer, &device(Format::Pcma), Direction::SendRecv).expect("it fits");
        let text = String::from_utf8(answer.to_vec()).expect("ASCII");
        for line in ["c=IN IP4 198.51.100.7", "m=audio 30000 RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=sendrecv"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("telephone-event"));
        assert_eq!((target.format, target.address), (Format::Pcma, "192.0.2.9:4000".parse().expect("an address")));
        assert_eq!(offer.target(&[Format::Pcma, Format::Pcmu]).map(|t| t.format), Ok(Format::Pcmu), "the first of the offer");
        assert_eq!(local().answer_for(&offer, &device(Format::Gsm), Direction::SendRecv), Err(SdpError::NoCodec));
    }

    #[test]
    fn ic_050_a_payload_type_for_telephone_events() {
        let device = Device { telephone_event: Some(97), ..device(Format::Pcmu) };
        let (answer, _) = local().answer_for(&offer("RTP/AVP", "0 101", ""), &device, Direction::SendRecv).expect("it fits");
        let text = String::from_utf8(answer.to_vec()).expect("ASCII");
        assert!(text.contains("m=audio 30000 RTP/AVP 0 97\r\n") && text.contains("a=rtpmap:97 telephone-event/8000\r\n"), "{text}");
    }

    #[test]
    fn ic_051_rtp_savp_is_answered_with_a_line_that_was_offered() {
        let lines = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY}\r\na=crypto:2 F8_128_HMAC_SHA1_80 {KEY}\r\n");
        let secure = offer("RTP/SAVP", "8", &lines);
        let line = |tag, suite| vec![Crypto::new(tag, suite, "inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR").expect("a line")];
        let with = |crypto| Device { crypto, ..device(Format::Pcma) };
        let fits = with(line(2, "F8_128_HMAC_SHA1_80"));
        let (answer, target) = local().answer_for(&secure, &fits, Direction::SendRecv).expect("it fits");
        let text = String::from_utf8(answer.to_vec()).expect("ASCII");
        assert!(text.contains("m=audio 30000 RTP/SAVP 8\r\n"), "{text}");
        assert!(text.contains("a=crypto:2 F8_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n"), "{text}");
        assert_eq!((target.crypto.len(), target.crypto[0].key()), (2, KEY));
        assert!(!format!("{target:?}").contains("inline"), "keys stay out of logs");
        for wrong in [with(Vec::new()), with(line(1, "F8_128_HMAC_SHA1_80")), with(line(3, "F8_128_HMAC_SHA1_80"))] {
            assert!(secure.fits(&wrong).is_err(), "{wrong:?}");
        }
        assert!(offer("RTP/AVP", "8", "").fits(&fits).is_err(), "plain RTP takes no keys");
        assert!(offer("RTP/SAVP", "8", "").target(&Format::ALL).is_err(), "nothing to agree on");
        assert!(offer("UDP/TLS/RTP/SAVP", "8", &lines).target(&Format::ALL).is_err());
        // A leg of ours does not do it.
        assert!(local().choose(&secure, Direction::SendRecv).is_err());
    }

    #[test]
    fn ic_053_057_058_an_offer_has_one_codec_gsm_is_payload_type_3() {
        for (format, payload_type) in [(Format::Pcmu, 0), (Format::Gsm, 3), (Format::Pcma, 8)] {
            let text = local().offer_for(&device(format), Direction::SendRecv);
            let text = String::from_utf8(text.to_vec()).expect("ASCII");
            let name = format.name();
            for line in [
                "c=IN IP4 198.51.100.7".to_owned(),
                format!("m=audio 30000 RTP/AVP {payload_type}"),
                format!("a=rtpmap:{payload_type} {name}/8000"),
            ] {
                assert!(text.lines().any(|l| l == line), "{line} in {text}");
            }
            assert_eq!(text.matches("rtpmap").count(), 1);
        }
        let answer = offer("RTP/AVP", "3 101", "");
        assert_eq!(answer.target(&[Format::Gsm]).map(|t| t.address.port()), Ok(4000), "RFC 3551 6: a static type needs no rtpmap");
        assert_eq!(offer("RTP/AVP", "96", "a=rtpmap:96 GSM/8000/1\r\n").target(&[Format::Gsm]).map(|t| t.format), Ok(Format::Gsm));
    }

    #[test]
    fn a_session_keeps_its_origin_when_its_media_moves() {
        let mut local = local();
        let origin = |body: &Bytes| String::from_utf8_lossy(body).lines().find(|l| l.starts_with("o=")).map(str::to_owned);
        let first = local.offer("203.0.113.1:20000".parse().expect("an address"), Direction::SendRecv);
        let second = local.offer_for(&device(Format::Pcma), Direction::SendRecv);
        assert_eq!(origin(&first).as_deref(), Some("o=- 4 1 IN IP4 203.0.113.1"));
        assert_eq!(origin(&second).as_deref(), Some("o=- 4 2 IN IP4 203.0.113.1"), "RFC 3264 8");
    }

    #[test]
    fn crypto_lines_are_one_line_each() {
        let bad: [(u32, &str, &str); 6] = [
            (1_000_000_000, "A", KEY),
            (1, "", KEY),
            (1, "A B", KEY),
            (1, "A", "PS1uQ"),
            (1, "A", "inline:x\r\na=sendonly"),
            (1, "A", "inline:é"),
        ];
        for (tag, suite, key) in bad {
            assert!(Crypto::new(tag, suite, key).is_err(), "{tag} {suite} {key}");
        }
        assert!(Crypto::new(1, &"A".repeat(65), KEY).is_err());
        assert!(Crypto::parse("1 A").is_none() && Crypto::parse("x A inline:k").is_none() && Crypto::parse("1 A inline:k").is_some());
    }
}
