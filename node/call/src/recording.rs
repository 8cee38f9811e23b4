//! The recording operation: one record of options that serves voicemail, call recording and all dialects (docs/conformance.md,
//! "Unified recording model"), its states, and its targets. Values are those that were asked for; defaults are filled here and nowhere else.

use crate::limits;
pub use hookswitch_proto::media::PauseBehavior;
use std::fmt;
use std::time::Duration;

/// Whose defaults and stop reasons apply (UR-004).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    #[default]
    Native,
    Graph,
    Aculab,
    Iotcomms,
    Swml,
    Ozeki,
}

/// Whether the flow waits for it (UR-006).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Foreground,
    Background,
    /// It waits for its turn among the session's media operations.
    Queued,
}

/// What a queued operation does to others (UR-007).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueuePolicy {
    #[default]
    Append,
    Barge,
}

/// Which audio, seen from the party (UR-008).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Speak,
    Listen,
    Both,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Channels {
    #[default]
    Mono,
    /// Only with [`Direction::Both`]: left is the target (or the caller), right the other side (UR-009).
    Stereo,
}

/// Kind of file (UR-010).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Container {
    #[default]
    Wav,
    Mp3,
    Mp4,
    Ogg,
}

impl Container {
    pub fn name(self) -> &'static str {
        match self {
            Container::Wav => "wav",
            Container::Mp3 => "mp3",
            Container::Mp4 => "mp4",
            Container::Ogg => "ogg",
        }
    }

    /// By the extension of a file's name.
    pub fn of_name(name: &str) -> Option<Container> {
        let (_, extension) = name.rsplit_once('.')?;
        [Container::Wav, Container::Mp3, Container::Mp4, Container::Ogg].into_iter().find(|c| c.name().eq_ignore_ascii_case(extension))
    }
}

/// Coding in the file (UR-011). `Auto`: what suits the container, and with Aculab's dialect the call's own law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    #[default]
    Auto,
    Pcm16,
    Alaw,
    Ulaw,
    Mp3,
    Aac,
    Opus,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Auto => "auto",
            Encoding::Pcm16 => "pcm16",
            Encoding::Alaw => "alaw",
            Encoding::Ulaw => "ulaw",
            Encoding::Mp3 => "mp3",
            Encoding::Aac => "aac",
            Encoding::Opus => "opus",
        }
    }
}

/// Where the file is kept (UR-015).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StorageClass {
    /// Among the tenant's prompts, so that it can be played.
    #[default]
    PromptStore,
    /// Until shortly after the call.
    Ephemeral,
    /// In the tenant's own bucket.
    TenantBucket,
}

impl StorageClass {
    pub fn name(self) -> &'static str {
        match self {
            StorageClass::PromptStore => "prompt_store",
            StorageClass::Ephemeral => "ephemeral",
            StorageClass::TenantBucket => "tenant_bucket",
        }
    }
}

/// AES-CBC with PKCS#7 padding over the whole file (UR-027). Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct CbcKey {
    /// 16, 24 or 32 bytes.
    pub key: Vec<u8>,
    pub iv: [u8; 16],
}

impl fmt::Debug for CbcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CbcKey({} bit)", self.key.len() * 8)
    }
}

impl Drop for CbcKey {
    fn drop(&mut self) {
        // The optimiser may not leave this out: the bytes would stay in freed memory.
        std::hint::black_box(&mut self.key).fill(0);
    }
}

/// What a recording listens to (UR-005).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    Participant(String),
    Connection(String),
    /// The session's only connection, or its only leg.
    #[default]
    Session,
}

/// How something is recorded. `None` is the dialect's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordingOptions {
    pub control_id: Option<String>,
    pub client_context: Option<String>,
    pub dialect: Dialect,
    pub mode: Option<Mode>,
    pub queue_policy: QueuePolicy,
    pub direction: Option<Direction>,
    pub channels: Option<Channels>,
    pub container: Option<Container>,
    pub encoding: Encoding,
    /// Hz.
    pub sample_rate: Option<u32>,
    pub bitrate_kbps: Option<u32>,
    pub file_name: Option<String>,
    pub storage_class: StorageClass,
    pub beep: Option<bool>,
    /// As they were written: `0`-`9`, `*`, `#`, `A`-`D`. `Some("")`: none.
    pub stop_digits: Option<String>,
    pub stop_digit_consume: Option<bool>,
    pub stop_digit_trim: Option<bool>,
    pub initial_silence: Option<Duration>,
    pub max_silence: Option<Duration>,
    pub max_duration: Option<Duration>,
    pub max_file_bytes: Option<u64>,
    pub start_on_voice: Option<bool>,
    pub sensitivity: Option<u8>,
    pub pause_behavior: PauseBehavior,
    pub encryption: Option<CbcKey>,
    pub announce: bool,
    /// Deleted so long after its end.
    pub retention: Option<Duration>,
    pub status_url: Option<String>,
    pub on_complete_url: Option<String>,
    pub on_available_url: Option<String>,
}

impl RecordingOptions {
    pub fn container(&self) -> Container {
        self.container.or_else(|| Container::of_name(self.file_name.as_deref()?)).unwrap_or_default()
    }

    /// Hz (UR-012).
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate.unwrap_or(if self.dialect == Dialect::Graph { 16_000 } else { 8_000 })
    }

    /// For MP3, AAC and Opus (UR-013).
    pub fn bitrate_kbps(&self) -> u32 {
        self.bitrate_kbps.unwrap_or(if self.channels == Some(Channels::Stereo) { 64 } else { 32 })
    }

    pub fn sensitivity(&self) -> u8 {
        self.sensitivity.unwrap_or(44).min(100)
    }

    /// Longest recording.
    pub fn max_duration(&self) -> Duration {
        let usual = match self.dialect {
            Dialect::Graph => Duration::from_secs(5),
            Dialect::Aculab => Duration::from_secs(60),
            _ => limits::RECORD_DURATION,
        };
        self.max_duration.filter(|d| !d.is_zero()).unwrap_or(usual)
    }
}

/// Where a recording stands (docs/conformance.md, "States"). It moves down this list and reaches exactly one of the last five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    Queued,
    Prompting,
    Beeping,
    /// Waits for the first voice.
    Armed,
    Recording,
    Paused,
    Stopping,
    Finalizing,
    LocalAvailable,
    Uploading,
    Available,
    Failed,
    NoInput,
    Canceled,
    Discarded,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Prompting => "prompting",
            Phase::Beeping => "beeping",
            Phase::Armed => "armed",
            Phase::Recording => "recording",
            Phase::Paused => "paused",
            Phase::Stopping => "stopping",
            Phase::Finalizing => "finalizing",
            Phase::LocalAvailable => "local_available",
            Phase::Uploading => "uploading",
            Phase::Available => "available",
            Phase::Failed => "failed",
            Phase::NoInput => "no_input",
            Phase::Canceled => "canceled",
            Phase::Discarded => "discarded",
        }
    }

    pub fn is_terminal(self) -> bool {
        self >= Phase::Available
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ur_010_the_container_goes_by_the_name_where_nobody_says() {
        let of = |name: &str| RecordingOptions { file_name: Some(name.into()), ..RecordingOptions::default() }.container();
        assert_eq!(
            [of("a.MP3"), of("a.b.mp4"), of("x.ogg"), of("x.wav"), of("x"), of("x.flac")].map(Container::name),
            ["mp3", "mp4", "ogg", "wav", "wav", "wav"]
        );
        let said = RecordingOptions { container: Some(Container::Wav), file_name: Some("a.mp3".into()), ..RecordingOptions::default() };
        assert_eq!(said.container(), Container::Wav);
    }

    #[test]
    fn ur_012_ur_013_ur_022_ur_025_defaults_go_by_the_dialect() {
        let of = |dialect| RecordingOptions { dialect, ..RecordingOptions::default() };
        let (native, graph, aculab) = (of(Dialect::Native), of(Dialect::Graph), of(Dialect::Aculab));
        assert_eq!([native.sample_rate(), graph.sample_rate(), aculab.sample_rate()], [8_000, 16_000, 8_000]);
        assert_eq!(
            [native.max_duration(), graph.max_duration(), aculab.max_duration()],
            [limits::RECORD_DURATION, Duration::from_secs(5), Duration::from_secs(60)]
        );
        assert_eq!((native.bitrate_kbps(), native.sensitivity()), (32, 44));
        assert_eq!(RecordingOptions { channels: Some(Channels::Stereo), ..native }.bitrate_kbps(), 64);
    }

    #[test]
    fn ur_027_a_key_shows_nothing_of_itself() {
        let options = RecordingOptions { encryption: Some(CbcKey { key: vec![0xab; 16], iv: [0xcd; 16] }), ..RecordingOptions::default() };
        let shown = format!("{options:?}");
        assert!(shown.contains("CbcKey(128 bit)") && !shown.contains("171") && !shown.contains("205"), "{shown}");
    }
}
