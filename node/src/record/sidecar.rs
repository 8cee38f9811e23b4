//! The sidecar: what is said of a recording, signed by the node that made it (docs/recording.md has its fields). Pure but for the key.
//!
//! ```text
//! {"recording":{…},"signature":{"algorithm":"ed25519","key":"9f2c…","value":"…"}}
//! ```
//!
//! The signature is over the bytes of the value of `recording` as they stand there. Nobody has to agree on how JSON is written: whoever
//! checks it takes the bytes and writes the rest around them anew, so that no byte of the file can be another one.

use super::facts::SideFacts;
use super::keys::{Keys, fingerprint, is_signed};
use super::verify::hex;
use super::wav::{Counters, Header};
use hookswitch_proto::media::FRAME_TIME;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Version of this format.
const FORMAT: &str = "hookswitch-recording-1";
/// Larger is no sidecar of ours.
pub const LARGEST: usize = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statement {
    pub format: String,
    pub recording_id: String,
    pub session_id: String,
    pub connection_id: Option<String>,
    pub domain: String,
    pub file_name: String,
    /// Fingerprint of the key of the node that recorded, and its version.
    pub node: String,
    pub version: String,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    pub ended_at_ms: Option<u64>,
    pub stop_reason: String,
    pub stop_digit: Option<char>,
    pub contains_sound: Option<bool>,
    /// Who was recorded heard a warning tone.
    pub announce: bool,
    pub container: String,
    pub encoding: String,
    /// Hz.
    pub sample_rate: u32,
    pub channels: u16,
    pub bitrate_kbps: Option<u32>,
    /// What came on the line.
    pub codecs: Vec<String>,
    pub ptime_ms: u64,
    pub frames: u64,
    pub duration_ms: u64,
    /// Frames of the call behind the end of the file, which the disk did not take.
    pub frames_unwritten: u64,
    pub speak: Side,
    pub heard: Option<Side>,
    /// Of the file as it is downloaded.
    pub size: u64,
    pub sha256: String,
    pub encryption: Option<Encryption>,
}

/// Counts are frames of 20 ms; `expected = received + concealed + silence`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    pub expected: u64,
    pub received: u64,
    pub concealed: u64,
    pub silence: u64,
    /// Of `silence`: what a pause masked.
    pub masked: u64,
    /// Left out of the file, so that both sides stay together.
    pub skipped: u64,
    /// Packets that came after their place was concealed.
    pub late_packets: u64,
    pub ssrc_changes: u64,
    /// Parts per million that the sender's clock ran faster than ours.
    pub clock_skew_ppm: i32,
    pub first_rtp_timestamp: Option<u32>,
    pub last_rtp_timestamp: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Encryption {
    /// `aes-256-gcm` at rest, `aes-128-cbc` and the like by the client's own key.
    pub cipher: String,
    /// Name of the node's key that the recording's key is wrapped with; none where the client has the key.
    pub key: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    #[serde(borrow)]
    recording: &'a RawValue,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    algorithm: String,
    key: String,
    value: String,
}

impl Side {
    fn of(counters: Counters, facts: &SideFacts) -> Side {
        Side {
            expected: counters.expected,
            received: counters.received,
            concealed: counters.concealed,
            silence: counters.silence,
            masked: facts.masked,
            skipped: facts.skipped,
            late_packets: facts.late,
            ssrc_changes: facts.ssrc_changes,
            clock_skew_ppm: facts.skew_ppm,
            first_rtp_timestamp: facts.first_timestamp,
            last_rtp_timestamp: facts.last_timestamp,
        }
    }

    pub fn missing(&self) -> u64 {
        let known = self.received.saturating_add(self.concealed).saturating_add(self.silence);
        self.expected.saturating_sub(known)
    }

    fn adds_up(&self, frames: u64) -> bool {
        let sum = [self.received, self.concealed, self.silence].iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
        self.expected == frames && sum.is_some_and(|sum| sum <= frames) && self.masked <= self.silence
    }
}

impl Statement {
    /// Of a finished file: what its header holds, and what it became.
    pub(super) fn of(header: &Header, file_name: &str, size: u64, sha256: &str, encryption: Option<Encryption>) -> Statement {
        let facts = &header.facts;
        Statement {
            format: FORMAT.into(),
            recording_id: header.recording_id.clone(),
            session_id: header.session_id.clone(),
            connection_id: facts.connection.clone(),
            domain: header.domain.clone(),
            file_name: file_name.into(),
            node: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at_ms: header.started,
            ended_at_ms: facts.ended_at,
            stop_reason: header.stop_reason.clone(),
            stop_digit: facts.stop_digit,
            contains_sound: facts.contains_sound,
            announce: facts.announce,
            container: facts.container.clone(),
            encoding: facts.encoding.clone(),
            sample_rate: facts.rate,
            channels: header.channels,
            bitrate_kbps: (facts.kbps > 0).then_some(facts.kbps),
            codecs: facts.codecs.iter().map(|name| name.clone().into_owned()).collect(),
            ptime_ms: FRAME_TIME.as_millis() as u64,
            frames: header.frames,
            duration_ms: header.frames * FRAME_TIME.as_millis() as u64,
            frames_unwritten: facts.unwritten,
            speak: Side::of(header.counters, &facts.speak),
            heard: (header.heard.expected > 0).then(|| Side::of(header.heard, &facts.heard)),
            size,
            sha256: sha256.into(),
            encryption,
        }
    }

    /// The sidecar's text, signed.
    pub fn sign(mut self, keys: &Keys) -> String {
        self.node = keys.fingerprint();
        let statement = serde_json::to_string(&self).expect("texts and numbers");
        let key = keys.fingerprint();
        write(&statement, &key, &hex(&keys.sign(statement.as_bytes())))
    }

    /// Frames that are neither received, concealed nor silent, of both sides.
    pub fn missing(&self) -> u64 {
        self.speak.missing() + self.heard.as_ref().map_or(0, Side::missing)
    }

    pub fn concealed(&self) -> u64 {
        self.speak.concealed + self.heard.as_ref().map_or(0, |heard| heard.concealed)
    }

    /// What is wrong with it by itself.
    pub(super) fn fault(&self) -> Option<String> {
        if self.format != FORMAT {
            return Some("the sidecar is of another format".into());
        }
        if self.frames.checked_mul(self.ptime_ms) != Some(self.duration_ms) {
            return Some(format!("{} frames of {} ms are not {} ms", self.frames, self.ptime_ms, self.duration_ms));
        }
        for (side, name) in [(Some(&self.speak), "first"), (self.heard.as_ref(), "second")] {
            let Some(side) = side else { continue };
            if !side.adds_up(self.frames) {
                return Some(format!("the counters of the {name} side do not add up"));
            }
        }
        match self.missing() {
            0 => None,
            n => Some(format!("{n} frames were lost in the node")),
        }
    }
}

fn write(statement: &str, key: &str, value: &str) -> String {
    format!("{{\"recording\":{statement},\"signature\":{{\"algorithm\":\"ed25519\",\"key\":\"{key}\",\"value\":\"{value}\"}}}}\n")
}

/// The statement of a sidecar whose signature holds. With `public` it must be that key's; without, nothing says whose it is, and the
/// signature is not looked at.
pub fn read(text: &str, public: Option<&[u8]>) -> Result<Statement, String> {
    if text.len() > LARGEST {
        return Err("the sidecar is no sidecar of ours: too large".into());
    }
    let sealed: Sealed<'_> = serde_json::from_str(text).map_err(|_| "the sidecar is damaged: no JSON of ours")?;
    let Signature { algorithm, key, value } = &sealed.signature;
    if write(sealed.recording.get(), key, value) != text || algorithm != "ed25519" {
        return Err("the sidecar was changed: it is not written as ours are".into());
    }
    if let Some(public) = public {
        if *key != fingerprint(public) {
            return Err(format!("the sidecar is signed by another node: {key}"));
        }
        let signature =
            unhex(value).filter(|bytes| hex(bytes) == *value).ok_or("the sidecar was changed: its signature is no signature")?;
        if !is_signed(public, sealed.recording.get().as_bytes(), &signature) {
            return Err("the sidecar was changed: its signature does not hold".into());
        }
    }
    serde_json::from_str(sealed.recording.get()).map_err(|_| "the sidecar is damaged: its statement cannot be read".into())
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let side = Side { expected: 100, received: 90, concealed: 4, silence: 6, ..Side::default() };
        Statement {
            format: FORMAT.into(),
            recording_id: "one".into(),
            frames: 100,
            ptime_ms: 20,
            duration_ms: 2000,
            speak: side.clone(),
            heard: Some(side),
            sha256: "ab".repeat(32),
            ..Statement::default()
        }
    }

    #[test]
    fn ur_035_a_changed_byte_of_the_sidecar_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        let text = statement().sign(&keys);
        let read_back = read(&text, Some(keys.public())).unwrap();
        assert_eq!(read_back, Statement { node: keys.fingerprint(), ..statement() });
        for at in 0..text.len() {
            for bit in [1, 0x20] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(read(&changed, Some(keys.public())).is_err(), "byte {at}, bit {bit}: {changed}");
            }
        }
        for other in [text.trim_end().to_owned(), format!(" {text}"), String::new(), "{}".into(), "[".repeat(100_000)] {
            assert!(read(&other, Some(keys.public())).is_err());
        }
        let stranger = tempfile::tempdir().unwrap();
        let why = read(&text, Some(Keys::load(stranger.path()).unwrap().public())).unwrap_err();
        assert!(why.contains("another node"), "{why}");
    }

    #[test]
    fn ur_035_counters_must_add_up() {
        assert_eq!(statement().fault(), None);
        let said = |change: fn(&mut Statement)| {
            let mut statement = statement();
            change(&mut statement);
            statement.fault().unwrap_or_default()
        };
        assert!(said(|s| s.speak.received += 1).contains("first side"));
        assert!(said(|s| s.heard.as_mut().unwrap().silence = u64::MAX).contains("second side"));
        assert!(said(|s| s.speak.masked = 7).contains("first side"));
        assert!(said(|s| s.duration_ms -= 20).contains("2000") || said(|s| s.duration_ms -= 20).contains("1980"));
        assert!(said(|s| s.speak.received -= 3).contains("3 frames were lost"));
        assert!(said(|s| s.frames = u64::MAX).contains("not 2000 ms"));
    }
}
