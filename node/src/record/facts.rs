//! What is kept with a recording besides its counters: what was asked of it, and what became known of its audio. One line of JSON in the
//! spool file's header, so that it survives a crash; later the row's and the sidecar's.

use super::format::Format;
use hookswitch_call::recording::{Container, Dialect, Encoding, RecordingOptions, StorageClass};
use hookswitch_proto::media::StreamFacts;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Bytes of the line. Longer: the client's own texts are left out, which only whoever sent more than is allowed can bring about.
const LINE: usize = 2000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub dialect: String,
    /// The file that is to become of it, not this one.
    #[serde(skip_serializing_if = "is_default")]
    pub container: String,
    #[serde(skip_serializing_if = "is_default")]
    pub encoding: String,
    #[serde(skip_serializing_if = "is_default")]
    pub rate: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub kbps: u32,
    #[serde(skip_serializing_if = "is_default")]
    pub storage_class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// Who is recorded hears so.
    #[serde(skip_serializing_if = "is_default")]
    pub announce: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_digit: Option<char>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains_sound: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// Frames of the call that the disk did not take: the file ends before them.
    #[serde(skip_serializing_if = "is_default")]
    pub unwritten: u64,
    /// Codecs that its audio came in, by name.
    #[serde(skip_serializing_if = "is_default")]
    pub codecs: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "is_default")]
    pub speak: SideFacts,
    #[serde(skip_serializing_if = "is_default")]
    pub heard: SideFacts,
}

/// Of one side. Its frames are in the header's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideFacts {
    /// Frames, among those of silence, that a pause masked.
    #[serde(skip_serializing_if = "is_default")]
    pub masked: u64,
    /// Frames left out, so that the sides stay together.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_timestamp: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    pub late: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub ssrc_changes: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub skew_ppm: i32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SideFacts {
    pub fn know(&mut self, stream: &StreamFacts) {
        self.first_timestamp = stream.first_timestamp;
        self.last_timestamp = stream.last_timestamp;
        self.late = stream.late;
        self.ssrc_changes = stream.ssrc_changes;
        self.skew_ppm = stream.skew_ppm;
    }
}

impl Facts {
    /// Of a recording that begins.
    pub fn of(options: &RecordingOptions, format: &Format, connection: Option<&str>) -> Facts {
        let dialect = if options.dialect == Dialect::Native { "" } else { options.dialect.name() };
        let mut facts = Facts {
            control_id: options.control_id.clone(),
            client_context: options.client_context.clone(),
            connection: connection.map(str::to_owned),
            dialect: dialect.into(),
            storage_class: if options.storage_class == StorageClass::default() {
                String::new()
            } else {
                options.storage_class.name().into()
            },
            retention_ms: options.retention.and_then(|keep| u64::try_from(keep.as_millis()).ok()),
            announce: options.announce,
            ..Facts::default()
        };
        facts.become_format(format);
        facts
    }

    pub fn become_format(&mut self, format: &Format) {
        self.container = format.container.name().into();
        self.encoding = format.encoding.name().into();
        (self.rate, self.kbps) = (format.rate, format.kbps);
    }

    /// The format that it is to get. A file that says nothing of it is one as it lies.
    pub fn format(&self) -> Option<Format> {
        let container =
            [Container::Wav, Container::Mp3, Container::Mp4, Container::Ogg].into_iter().find(|c| c.name() == self.container)?;
        let encodings = [Encoding::Pcm16, Encoding::Alaw, Encoding::Ulaw, Encoding::Mp3, Encoding::Opus];
        let encoding = encodings.into_iter().find(|e| e.name() == self.encoding)?;
        let rate = [8_000, 16_000, 48_000].into_iter().find(|rate| *rate == self.rate)?;
        let fits = match container {
            Container::Wav => !matches!(encoding, Encoding::Mp3 | Encoding::Opus),
            Container::Mp3 => encoding == Encoding::Mp3,
            Container::Mp4 | Container::Ogg => encoding == Encoding::Opus,
        };
        fits.then_some(Format { container, encoding, rate, kbps: self.kbps })
    }

    pub(super) fn line(&self) -> String {
        let line = |facts: &Facts| serde_json::to_string(facts).expect("texts and numbers");
        let whole = line(self);
        if whole.len() <= LINE {
            return whole;
        }
        line(&Facts { control_id: None, client_context: None, connection: None, ..self.clone() })
    }

    /// What cannot be read is not known.
    pub(super) fn read(line: &str) -> Facts {
        serde_json::from_str(line).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn longest() -> Facts {
        let side = SideFacts {
            masked: u64::MAX,
            skipped: u64::MAX,
            first_timestamp: Some(u32::MAX),
            last_timestamp: Some(u32::MAX),
            late: u64::MAX,
            ssrc_changes: u64::MAX,
            skew_ppm: i32::MIN,
        };
        Facts {
            control_id: Some("c".repeat(128)),
            client_context: Some("ä".repeat(256)),
            connection: Some("i".repeat(36)),
            dialect: "iotcomms".into(),
            container: "wav".into(),
            encoding: "pcm16".into(),
            rate: 48_000,
            kbps: 320,
            storage_class: "tenant_bucket".into(),
            retention_ms: Some(u64::MAX),
            announce: true,
            stop_digit: Some('#'),
            contains_sound: Some(true),
            ended_at: Some(u64::MAX),
            unwritten: u64::MAX,
            codecs: vec!["PCMA".into(), "PCMU".into()],
            speak: side.clone(),
            heard: side,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_texts_too_long_are_left_out() {
        let facts = Facts::longest();
        assert!(facts.line().len() <= LINE);
        assert_eq!(Facts::read(&facts.line()), facts);
        let long = Facts { client_context: Some("\u{1}".repeat(1000)), ..facts.clone() };
        assert_eq!(Facts::read(&long.line()), Facts { control_id: None, client_context: None, connection: None, ..facts });
        assert_eq!(Facts::read("{broken"), Facts::default());
        assert_eq!(
            Facts::read(&Facts { container: "wav".into(), encoding: "opus".into(), rate: 8000, ..Facts::default() }.line()).format(),
            None
        );
    }
}
