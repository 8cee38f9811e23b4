//! The recording operation: one record of options that serves voicemail, call recording and all dialects (docs/conformance.md,
//! "Unified recording model"), its states, and its targets. Values are those that were asked for; defaults are filled here and nowhere else.

use crate::hook::{RecordingDetails, RecordingResult};
use crate::limits;
pub use hookswitch_proto::media::PauseBehavior;
use hookswitch_proto::media::{Codec, DigitSet, RecordSpec, TapDirection};
use std::fmt;
use std::sync::Arc;
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

impl Dialect {
    /// Whether what somebody stopped by command is kept. Graph cancels what it stops, and keeps nothing of what was cancelled
    /// (docs/conformance.md, "Stop reasons").
    pub fn keeps_stopped(self) -> bool {
        self != Dialect::Graph
    }

    const ALL: [Dialect; 6] = [Dialect::Native, Dialect::Graph, Dialect::Aculab, Dialect::Iotcomms, Dialect::Swml, Dialect::Ozeki];

    pub fn name(self) -> &'static str {
        match self {
            Dialect::Native => "native",
            Dialect::Graph => "graph",
            Dialect::Aculab => "aculab",
            Dialect::Iotcomms => "iotcomms",
            Dialect::Swml => "swml",
            Dialect::Ozeki => "ozeki",
        }
    }

    pub fn of_name(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|d| d.name() == name)
    }
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

    pub fn of_name(name: &str) -> Option<StorageClass> {
        [StorageClass::PromptStore, StorageClass::Ephemeral, StorageClass::TenantBucket].into_iter().find(|c| c.name() == name)
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Who is recorded hears a warning tone from the beginning on, every 15 s (UR-028).
    pub announce: bool,
    /// Nothing is recorded: its prompts play in their turn among the session's media, and that is all (MG-040).
    pub prompts_only: bool,
    /// Deleted so long after its end.
    pub retention: Option<Duration>,
    pub status_url: Option<String>,
    pub on_complete_url: Option<String>,
    pub on_available_url: Option<String>,
}

/// What a tenant has settled for all of its recordings, whoever asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Who is recorded is told (UR-028), also where nobody asks for it.
    pub announce: bool,
    /// Hz of what Graph's recordResponse makes where it is not said (MG-035). None: that vendor's.
    pub graph_rate: Option<u32>,
}

/// What a recording is started for: defaults go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A step of an IVR command.
    Phrase,
    /// One leg.
    Leg,
    /// Both parties of a connection.
    Connection,
}

/// A value that no recording can have: the field as REST calls it, and why.
pub type BadOption = (&'static str, String);

/// Kinds of file that this node cannot make, each with the reason: an encoder's library that its machine has not. None, unless the shell
/// says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritable(pub Vec<(Container, String)>);

impl Unwritable {
    /// Refused before it is announced, so that nobody speaks into a recording that cannot become what was asked for.
    pub fn check(&self, options: &RecordingOptions) -> Result<(), BadOption> {
        let container = options.container();
        let Some((_, why)) = self.0.iter().find(|(unwritable, _)| *unwritable == container) else { return Ok(()) };
        let named = options.container.is_none() && options.file_name.as_deref().and_then(Container::of_name).is_some();
        Err((if named { "fileName" } else { "container" }, why.clone()))
    }

    /// The kind of file of a whole call whose name says none (IC-038): MP3, where it can be made.
    pub fn of_call(&self) -> Container {
        if self.0.iter().any(|(container, _)| *container == Container::Mp3) { Container::Wav } else { Container::Mp3 }
    }
}

impl RecordingOptions {
    /// The vendor's whole-call recording (IC-037, IC-167): both sides in the background, the caller left and the called party right.
    pub fn of_call(file_name: Option<String>) -> RecordingOptions {
        RecordingOptions { dialect: Dialect::Iotcomms, file_name, ..RecordingOptions::default() }
    }

    pub fn container(&self) -> Container {
        let named = || Container::of_name(self.file_name.as_deref()?);
        self.container.or_else(named).unwrap_or(Container::Wav)
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

    /// As its tenant wants it. Before anything is checked: what it settles may be what makes no sense.
    pub fn under(mut self, policy: Policy) -> RecordingOptions {
        self.announce |= policy.announce && !self.prompts_only;
        if self.dialect == Dialect::Graph {
            self.sample_rate = self.sample_rate.or(policy.graph_rate);
        }
        self
    }

    /// Nothing is left open that the dialect or the place decides. The only place that knows defaults (docs/conformance.md, "Property
    /// mapping"); filled twice is as filled once.
    pub fn filled(mut self, place: Place) -> RecordingOptions {
        let (graph, aculab) = (self.dialect == Dialect::Graph, self.dialect == Dialect::Aculab);
        let both = place == Place::Connection || !(graph || aculab || self.dialect == Dialect::Ozeki);
        let both = both && place != Place::Phrase && !graph && !aculab;
        self.mode.get_or_insert(match place {
            Place::Phrase => Mode::Foreground,
            _ if graph => Mode::Queued,
            _ => Mode::Background,
        });
        self.direction.get_or_insert(if both { Direction::Both } else { Direction::Speak });
        let two_sided = self.dialect == Dialect::Iotcomms && place == Place::Connection;
        self.channels.get_or_insert(if two_sided { Channels::Stereo } else { Channels::Mono });
        self.beep = Some(!self.prompts_only && self.beep.unwrap_or(graph));
        if aculab {
            self.stop_digits.get_or_insert_with(|| "#".into());
            self.start_on_voice.get_or_insert(true);
        }
        let usual = |said: Option<Duration>, usual: Option<Duration>| said.or(usual).filter(|d| !d.is_zero());
        let seconds = |s| Some(Duration::from_secs(s));
        self.max_silence = usual(
            self.max_silence,
            if graph {
                seconds(5)
            } else if aculab {
                seconds(3)
            } else {
                None
            },
        );
        // AC-009: zero is as long as later silence.
        let initial = self.initial_silence.filter(|d| !aculab || !d.is_zero());
        self.initial_silence = usual(
            initial,
            if graph {
                seconds(5)
            } else if aculab {
                self.max_silence
            } else {
                None
            },
        );
        self.max_duration = Some(self.max_duration());
        self.container = Some(self.container());
        self.sample_rate = Some(self.sample_rate());
        if graph && self.retention.is_none() {
            self.storage_class = StorageClass::Ephemeral;
        }
        self
    }

    /// AC-010: the call's own law where a WAV file is asked for in Aculab's way.
    pub(crate) fn with_law_of(mut self, codec: Option<Codec>) -> RecordingOptions {
        if self.dialect == Dialect::Aculab && self.encoding == Encoding::Auto && self.container() == Container::Wav {
            self.encoding = if codec == Some(Codec::Pcmu) { Encoding::Ulaw } else { Encoding::Alaw };
        }
        self
    }

    /// Values that make no sense, wherever they come from. What is only possible at some places is asked there.
    pub fn check(&self) -> Result<(), BadOption> {
        let bad = |field: &'static str, why: &str| Err((field, why.to_owned()));
        let name = |field, text: &Option<String>, most: usize| match text {
            Some(text) if text.len() > most => Err((field, format!("longer than {most} bytes"))),
            Some(text) if text.chars().any(char::is_control) => Err((field, "has a control character".to_owned())),
            _ => Ok(()),
        };
        name("controlId", &self.control_id, limits::CONTROL_ID)?;
        if self.control_id.as_deref() == Some("") {
            return bad("controlId", "is empty");
        }
        // The vendor counts characters (MG-017).
        if self.client_context.as_ref().is_some_and(|c| c.chars().count() > limits::CLIENT_CONTEXT) {
            return bad("clientContext", "longer than 256 characters");
        }
        if let Some(file_name) = &self.file_name {
            if let Some(why) = crate::ivr::file_name_error(file_name) {
                return bad("fileName", why);
            }
            if let (Some(container), Some(named)) = (self.container, Container::of_name(file_name))
                && container != named
            {
                return bad("fileName", "its ending is another container's");
            }
        }
        let container = self.container();
        let fits = match self.encoding {
            Encoding::Auto => true,
            Encoding::Pcm16 | Encoding::Alaw | Encoding::Ulaw => container == Container::Wav,
            Encoding::Mp3 => container == Container::Mp3,
            Encoding::Aac => container == Container::Mp4,
            Encoding::Opus => matches!(container, Container::Ogg | Container::Mp4),
        };
        if !fits {
            return Err(("encoding", format!("{} does not go into {}", self.encoding.name(), container.name())));
        }
        if self.sample_rate.is_some_and(|hz| !limits::SAMPLE_RATES.contains(&hz)) {
            return bad("sampleRate", "8000, 16000 or 48000");
        }
        if matches!(self.encoding, Encoding::Alaw | Encoding::Ulaw) && self.sample_rate() != 8_000 {
            return bad("sampleRate", "G.711 has 8000");
        }
        if self.bitrate_kbps.is_some_and(|kbps| !limits::BITRATES.contains(&kbps)) {
            return bad("bitrateKbps", "8 to 320");
        }
        if self.channels == Some(Channels::Stereo) && matches!(self.direction, Some(Direction::Speak | Direction::Listen)) {
            return bad("channels", "stereo needs direction both");
        }
        if self.stop_digits.as_deref().is_some_and(|d| DigitSet::parse(d).is_none()) {
            return bad("stopDigits", "0-9, *, # and A-D are possible");
        }
        let times = [("initialSilenceMs", self.initial_silence), ("maxSilenceMs", self.max_silence), ("maxDurationMs", self.max_duration)];
        for (field, time) in times {
            if time.is_some_and(|t| t > limits::RECORD_DURATION) {
                return bad(field, "longer than a session");
            }
        }
        if self.max_file_bytes.is_some_and(|bytes| bytes < limits::FILE_BYTES_MIN) {
            return bad("maxFileBytes", "less than 4096");
        }
        if self.sensitivity.is_some_and(|s| s > 100) {
            return bad("sensitivity", "0 to 100");
        }
        if self.encryption.as_ref().is_some_and(|e| !matches!(e.key.len(), 16 | 24 | 32)) {
            return bad("encryption", "a key has 16, 24 or 32 bytes");
        }
        if self.retention.is_some_and(|t| t > limits::RETENTION) {
            return bad("retentionMs", "longer than ten years");
        }
        for (field, url) in
            [("statusUrl", &self.status_url), ("onCompleteUrl", &self.on_complete_url), ("onAvailableUrl", &self.on_available_url)]
        {
            name(field, url, limits::URL)?;
            if url.as_ref().is_some_and(|u| !u.starts_with("https://") && !u.starts_with("http://")) {
                return bad(field, "no http or https URL");
            }
        }
        Ok(())
    }

    /// Frames of 20 ms that fill the largest file (UR-023): by the samples of a WAV file, by the bit rate of others.
    pub fn max_frames(&self) -> Option<u64> {
        let bytes = self.max_file_bytes?;
        let channels = if self.channels == Some(Channels::Stereo) { 2 } else { 1 };
        let each = match (self.container(), self.encoding) {
            (Container::Wav, Encoding::Alaw | Encoding::Ulaw) => 160 * channels,
            (Container::Wav, Encoding::Auto) if self.dialect == Dialect::Aculab => 160 * channels,
            (Container::Wav, _) => u64::from(self.sample_rate()) / 50 * 2 * channels,
            _ => u64::from(self.bitrate_kbps()) * 1000 / 8 / 50,
        };
        Some(bytes.saturating_sub(limits::FILE_HEADER) / each.max(1)).map(|frames| frames.max(1))
    }

    /// What the tap is told; of options that are [`filled`](RecordingOptions::filled).
    pub(crate) fn spec(&self) -> RecordSpec {
        RecordSpec {
            direction: match self.direction {
                Some(Direction::Both) => TapDirection::Both,
                Some(Direction::Listen) => TapDirection::Listen,
                Some(Direction::Speak) | None => TapDirection::Speak,
            },
            max_duration: Some(self.max_duration()),
            max_frames: self.max_frames(),
            start_on_voice: self.start_on_voice == Some(true),
            initial_silence: self.initial_silence,
            max_silence: self.max_silence,
            stop_digits: self.stop_digits.as_deref().and_then(DigitSet::parse).unwrap_or_default(),
            consume: self.stop_digit_consume != Some(false),
            trim: self.stop_digit_trim != Some(false),
            sensitivity: self.sensitivity(),
        }
    }
}

/// Where one recording stands and what is known of it: the answer to `get`, and what every state event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingStatus {
    pub recording_id: String,
    /// Its owner's name for it, else the recording's id (UR-002).
    pub control_id: String,
    pub client_context: Option<String>,
    pub phase: Phase,
    pub connection_id: Option<String>,
    /// The leg that feeds it.
    pub participant_id: String,
    /// Of the session, as its record says them.
    pub caller: String,
    pub called: String,
    pub file_name: String,
    /// What the pause does, while it is paused.
    pub pause_behavior: Option<PauseBehavior>,
    /// Why, where something went wrong.
    pub reason: Option<String>,
    /// From the end of its audio on.
    pub result: Option<RecordingResult>,
    /// Once it is stored.
    pub details: Option<Box<RecordingDetails>>,
    /// Milliseconds since the Unix epoch.
    pub started_at: Option<u64>,
    pub ended_at: Option<u64>,
    /// Where it can be fetched, and the token for that.
    pub url: Option<String>,
    pub access_token: Option<String>,
    pub options: Arc<RecordingOptions>,
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
