//! Our WAV files: PCM16, A-law or u-law, valid whenever one looks, so that a crash costs what was not yet written and nothing else.
//!
//! ```text
//!    0  RIFF size WAVE      RF64 instead, once it passes 4 GiB
//!   12  JUNK (28 bytes)     becomes ds64 then
//!   48  fmt  (16 bytes)     18 and a fact chunk (4 bytes) behind it where it is a law: tags 6 and 7
//!   72  hksw (to 4088)      at 86 behind a fact chunk. Text lines `key value`: whose recording this is, how far it is, what its frames
//!                           were; padded with NUL
//! 4088  data size           4096 on: samples
//! ```
//!
//! Samples are appended behind what the header says; then the header, one page of the disk, is rewritten in place by one write. In between
//! readers see a shorter, whole file. It is no general WAV reader: prompts are read by `hound`.

use super::facts::Facts;
use super::format::{CALL_RATE, Coding};
use super::spool::Remains;
use hookswitch_proto::media::{FRAME, FrameKind};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes before the first sample.
pub const HEADER: usize = 4096;
const DATA_AT: usize = HEADER - 8;
/// The same of files of earlier versions: half a page, PCM16 at 8 kHz, the same text.
const EARLIER: usize = 2048;
/// No value takes more of the text than this: a name of 255 bytes and a domain fit.
const VALUE: usize = 256;

/// How far a file is. `Finished` is the only one that may lie among the blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Recording,
    Finished,
}

/// Frames of 20 ms by what they are. `expected` counts the timeline; what is missing of it was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub expected: u64,
    pub received: u64,
    pub concealed: u64,
    pub silence: u64,
}

impl Counters {
    pub fn known(self) -> u64 {
        self.received.saturating_add(self.concealed).saturating_add(self.silence)
    }

    pub fn missing(self) -> u64 {
        self.expected.saturating_sub(self.known())
    }

    pub fn count(&mut self, kind: Option<FrameKind>) {
        self.expected += 1;
        match kind {
            Some(FrameKind::Voice) => self.received += 1,
            Some(FrameKind::Concealed) => self.concealed += 1,
            Some(FrameKind::Silence | FrameKind::Masked) | None => self.silence += 1,
        }
    }

    /// Of a file that was left behind: its header is up to a second behind the samples. What those frames are was lost with it; they came
    /// from the party in time or were concealed then, and are counted as received. Ahead of the samples it can only be after a power cut,
    /// when the file system lost some.
    pub fn repair(&mut self, frames: u64) {
        self.received = self.received.saturating_add(frames.saturating_sub(self.known()));
        let mut ahead = self.known().saturating_sub(frames);
        for counter in [&mut self.received, &mut self.silence, &mut self.concealed] {
            let cut = ahead.min(*counter);
            *counter -= cut;
            ahead -= cut;
        }
        self.expected = frames;
    }
}

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub recording_id: String,
    pub session_id: String,
    pub domain: String,
    pub participant_id: String,
    pub caller: String,
    pub called: String,
    pub file_name: String,
    /// Milliseconds since the Unix epoch.
    pub started: u64,
    pub channels: u16,
    /// Hz.
    pub rate: u32,
    pub coding: Coding,
    /// Frames of samples in the file.
    pub frames: u64,
    pub counters: Counters,
    /// The same of the second side, what the party heard; all zero where only one side is recorded.
    pub heard: Counters,
    /// Empty while it runs.
    pub stop_reason: String,
    pub state: State,
    /// What was asked for, and what is known beyond the counters.
    pub facts: Facts,
}

impl Default for Header {
    fn default() -> Header {
        Header {
            recording_id: String::new(),
            session_id: String::new(),
            domain: String::new(),
            participant_id: String::new(),
            caller: String::new(),
            called: String::new(),
            file_name: String::new(),
            started: 0,
            channels: 1,
            rate: CALL_RATE,
            coding: Coding::Pcm16,
            frames: 0,
            counters: Counters::default(),
            heard: Counters::default(),
            stop_reason: String::new(),
            state: State::Recording,
            facts: Facts::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WavError {
    #[error("not a recording of ours: {0}")]
    Foreign(&'static str),
    #[error("its tenant erased the key that it was encrypted with")]
    Erased(Box<Remains>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Header {
    /// Samples of one frame of one channel.
    pub fn frame_samples(&self) -> u64 {
        FRAME as u64 * u64::from(self.rate) / u64::from(CALL_RATE)
    }

    /// Bytes of one frame of samples.
    pub fn frame_bytes(&self) -> u64 {
        u64::from(self.channels) * self.frame_samples() * self.coding.bytes()
    }

    /// Where the text's chunk begins.
    fn chunk_at(coding: Coding) -> usize {
        match coding {
            Coding::Pcm16 => 72,
            Coding::Alaw | Coding::Ulaw => 86,
        }
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0u8; HEADER];
        let data = self.frames.saturating_mul(self.frame_bytes());
        let riff = data.saturating_add(HEADER as u64 - 8);
        let samples = self.frames.saturating_mul(self.frame_samples());
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let big = u32::try_from(riff).is_err();
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let width = u16::try_from(self.coding.bytes()).unwrap_or(2);
        put(0, if big { b"RF64" } else { b"RIFF" });
        put(4, &short(riff));
        put(8, b"WAVE");
        put(12, if big { b"ds64" } else { b"JUNK" });
        put(16, &28u32.to_le_bytes());
        if big {
            put(20, &riff.to_le_bytes());
            put(28, &data.to_le_bytes());
            put(36, &samples.to_le_bytes());
        }
        let tag: u16 = match self.coding {
            Coding::Pcm16 => 1,
            Coding::Alaw => 6,
            Coding::Ulaw => 7,
        };
        put(48, b"fmt ");
        put(52, &if tag == 1 { 16u32 } else { 18 }.to_le_bytes());
        put(56, &tag.to_le_bytes());
        put(58, &self.channels.to_le_bytes());
        put(60, &self.rate.to_le_bytes());
        put(64, &(self.rate.saturating_mul(u32::from(width * self.channels))).to_le_bytes());
        put(68, &(width * self.channels).to_le_bytes());
        put(70, &(8 * width).to_le_bytes());
        if tag != 1 {
            // 72: no bytes of extension. All but PCM have a fact chunk (RIFF, "fact").
            put(74, b"fact");
            put(78, &4u32.to_le_bytes());
            put(82, &short(samples));
        }
        let chunk = Header::chunk_at(self.coding);
        let room = DATA_AT - chunk - 8;
        put(chunk, b"hksw");
        put(chunk + 4, &u32::try_from(room).unwrap_or(0).to_le_bytes());
        put(DATA_AT, b"data");
        put(DATA_AT + 4, &if big { u32::MAX.to_le_bytes() } else { short(data) });
        let text = self.text();
        put(chunk + 8, &text.as_bytes()[..text.len().min(room)]);
        out
    }

    fn text(&self) -> String {
        let state = match self.state {
            State::Recording => "recording",
            State::Finished => "finished",
        };
        let (c, heard) = (self.counters, self.heard);
        // Counters first: they are what a cut text must not lose.
        let mut text = format!(
            "hookswitch 1\nstate {state}\nframes {}\nexpected {}\nreceived {}\nconcealed {}\nsilence {}\nstarted {}\n",
            self.frames, c.expected, c.received, c.concealed, c.silence, self.started
        );
        if heard.expected > 0 {
            text.push_str(&format!(
                "heard_expected {}\nheard_received {}\nheard_concealed {}\nheard_silence {}\n",
                heard.expected, heard.received, heard.concealed, heard.silence
            ));
        }
        let values = [
            ("recording", &self.recording_id),
            ("session", &self.session_id),
            ("stop", &self.stop_reason),
            ("domain", &self.domain),
            ("file", &self.file_name),
            ("participant", &self.participant_id),
            ("caller", &self.caller),
            ("called", &self.called),
        ];
        for (key, value) in values {
            text.push_str(key);
            text.push(' ');
            let mut room = VALUE;
            for c in value.chars() {
                let c = if c.is_control() { ' ' } else { c };
                if room < c.len_utf8() {
                    break;
                }
                room -= c.len_utf8();
                text.push(c);
            }
            text.push('\n');
        }
        text.push_str("facts ");
        text.push_str(&self.facts.line());
        text.push('\n');
        text
    }

    /// Reads what `encode` wrote. Of another writer's WAV it says so.
    pub fn decode(bytes: &[u8]) -> Result<Header, WavError> {
        match Header::decode_any(bytes)? {
            (header, HEADER) => Ok(header),
            _ => Err(WavError::Foreign("an earlier version's header")),
        }
    }

    /// The same of earlier versions' files too, whose header was shorter. Also gives where the samples begin.
    pub fn decode_any(bytes: &[u8]) -> Result<(Header, usize), WavError> {
        let size = if bytes.get(EARLIER - 8..EARLIER - 4) == Some(b"data") { EARLIER } else { HEADER };
        Header::decode_sized(bytes, size).map(|header| (header, size))
    }

    fn decode_sized(bytes: &[u8], size: usize) -> Result<Header, WavError> {
        if bytes.len() < size {
            return Err(WavError::Foreign("too short"));
        }
        let data_at = size - 8;
        let part = |at: usize, n: usize| bytes.get(at..at + n).ok_or(WavError::Foreign("too short"));
        let magic = part(0, 4)?;
        if (magic != b"RIFF" && magic != b"RF64") || part(8, 4)? != b"WAVE" {
            return Err(WavError::Foreign("no RIFF file"));
        }
        let coding = match u16::from_le_bytes([bytes[56], bytes[57]]) {
            1 => Coding::Pcm16,
            6 => Coding::Alaw,
            7 => Coding::Ulaw,
            _ => return Err(WavError::Foreign("neither PCM nor a law")),
        };
        let chunk = Header::chunk_at(coding);
        if part(48, 4)? != b"fmt " || part(chunk, 4)? != b"hksw" || part(data_at, 4)? != b"data" {
            return Err(WavError::Foreign("no hksw chunk"));
        }
        let channels = u16::from_le_bytes([bytes[58], bytes[59]]);
        if !(1..=2).contains(&channels) {
            return Err(WavError::Foreign("neither mono nor stereo"));
        }
        let rate = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
        if ![8_000, 16_000, 48_000].contains(&rate) {
            return Err(WavError::Foreign("a rate that is not ours"));
        }
        let text = &bytes[chunk + 8..data_at];
        let text = String::from_utf8_lossy(text.split(|b| *b == 0).next().unwrap_or_default());
        let mut header = Header { channels, rate, coding, ..Header::default() };
        let mut lines = text.lines();
        if lines.next() != Some("hookswitch 1") {
            return Err(WavError::Foreign("another version"));
        }
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let number = || value.parse().unwrap_or_default();
            match key {
                "state" => header.state = if value == "finished" { State::Finished } else { State::Recording },
                "frames" => header.frames = number(),
                "expected" => header.counters.expected = number(),
                "received" => header.counters.received = number(),
                "concealed" => header.counters.concealed = number(),
                "silence" => header.counters.silence = number(),
                "heard_expected" => header.heard.expected = number(),
                "heard_received" => header.heard.received = number(),
                "heard_concealed" => header.heard.concealed = number(),
                "heard_silence" => header.heard.silence = number(),
                "started" => header.started = number(),
                "recording" => header.recording_id = value.to_string(),
                "session" => header.session_id = value.to_string(),
                "stop" => header.stop_reason = value.to_string(),
                "domain" => header.domain = value.to_string(),
                "file" => header.file_name = value.to_string(),
                "participant" => header.participant_id = value.to_string(),
                "caller" => header.caller = value.to_string(),
                "called" => header.called = value.to_string(),
                "facts" => header.facts = Facts::read(value),
                _ => {}
            }
        }
        Ok(header)
    }
}

/// A file that grows. Its header in memory is ahead of the one on disk until `flush`.
pub struct WavFile {
    file: File,
    path: PathBuf,
    pub header: Header,
}

impl WavFile {
    /// A new file, readable by us alone, that is a whole and empty WAV at once.
    pub fn create(path: &Path, header: Header) -> io::Result<WavFile> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)?;
        let wav = WavFile { file, path: path.to_path_buf(), header };
        wav.flush()?;
        Ok(wav)
    }

    /// A file that was left behind: whole frames are kept, its frame count is what is there.
    pub fn reopen(path: &Path) -> Result<WavFile, WavError> {
        let file = OpenOptions::new().write(true).read(true).open(path)?;
        let mut bytes = [0u8; HEADER];
        file.read_exact_at(&mut bytes, 0).map_err(|_| WavError::Foreign("too short"))?;
        let mut header = Header::decode(&bytes)?;
        header.frames = file.metadata()?.len().saturating_sub(HEADER as u64) / header.frame_bytes();
        Ok(WavFile { file, path: path.to_path_buf(), header })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends whole frames of little-endian samples, channels interleaved.
    pub fn append(&mut self, samples: &[u8]) -> io::Result<()> {
        let frame = self.header.frame_bytes();
        self.file.write_all_at(samples, HEADER as u64 + self.header.frames * frame)?;
        self.header.frames += samples.len() as u64 / frame;
        Ok(())
    }

    /// Cuts the file to so many frames.
    pub fn truncate(&mut self, frames: u64) -> io::Result<()> {
        self.header.frames = self.header.frames.min(frames);
        self.file.set_len(HEADER as u64 + self.header.frames * self.header.frame_bytes())
    }

    /// Makes the header on disk say what is there.
    pub fn flush(&self) -> io::Result<()> {
        self.file.write_all_at(&self.header.encode(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(channels: u16) -> Header {
        Header {
            recording_id: "5f0c3a9e-0000-4000-8000-000000000001".into(),
            session_id: "s".into(),
            domain: "demo.localhost".into(),
            file_name: "naïve\nname.wav".into(),
            caller: "x".repeat(400),
            called: "voicemail".into(),
            started: 1_795_000_000_000,
            channels,
            ..Header::default()
        }
    }

    fn ramp(frames: usize, channels: usize) -> Vec<u8> {
        (0..frames * FRAME * channels).flat_map(|i| i16::try_from(i % 20_000).unwrap().to_le_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut h = header(2);
        h.counters = Counters { expected: 10, received: 7, concealed: 2, silence: 1 };
        h.heard = Counters { expected: 10, received: 3, concealed: 1, silence: 6 };
        h.frames = 10;
        h.state = State::Finished;
        h.stop_reason = "stop_digit".into();
        let read = Header::decode(&h.encode()).unwrap();
        assert_eq!(read.file_name, "naïve name.wav");
        assert_eq!(read.caller.len(), VALUE);
        assert_eq!(read, Header { file_name: read.file_name.clone(), caller: read.caller.clone(), ..h });
    }

    #[test]
    fn the_longest_texts_fit() {
        let long = "é".repeat(1000);
        let h = Header {
            recording_id: "r".repeat(36),
            session_id: "s".repeat(36),
            domain: long.clone(),
            participant_id: "p".repeat(36),
            caller: long.clone(),
            called: long.clone(),
            file_name: long,
            started: u64::MAX,
            channels: 2,
            frames: u64::MAX,
            counters: Counters { expected: u64::MAX, received: u64::MAX, concealed: u64::MAX, silence: u64::MAX },
            heard: Counters { expected: u64::MAX, received: u64::MAX, concealed: u64::MAX, silence: u64::MAX },
            stop_reason: "initial_silence".into(),
            state: State::Recording,
            rate: 48_000,
            coding: Coding::Alaw,
            facts: Facts::longest(),
        };
        assert!(h.text().len() <= DATA_AT - Header::chunk_at(Coding::Alaw) - 8, "{}", h.text().len());
        assert_eq!(Header::decode(&h.encode()).unwrap().facts, h.facts);
        assert_eq!(Header::decode(&h.encode()).unwrap().called.len(), VALUE);
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"RIFF", &[0; HEADER], b"RIFF....WAVEfmt "] {
            assert!(Header::decode(bytes).is_err());
        }
        let good = header(1).encode();
        for (at, byte) in [(0, b'X'), (56, 3), (58, 9), (60, 1), (72, b'x'), (80, b'?'), (4088, b'?')] {
            let mut bad = good;
            bad[at] = byte;
            assert!(Header::decode(&bad).is_err(), "{at}");
        }
        assert!(Header::decode(&good[..HEADER - 1]).is_err());
    }

    #[test]
    fn hound_reads_it_at_every_flush_point() {
        let folder = tempfile::tempdir().unwrap();
        for channels in [1u16, 2] {
            let path = folder.path().join(format!("{channels}.wav"));
            let mut wav = WavFile::create(&path, header(channels)).unwrap();
            for step in 0..4usize {
                let mut reader = hound::WavReader::open(&path).unwrap();
                let spec = reader.spec();
                assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (channels, 8000, 16));
                // Each step appends 25 frames and flushes only every other time: readers see what was flushed last.
                let seen = step / 2 * 50 * FRAME * usize::from(channels);
                let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
                assert_eq!(samples.len(), seen, "{channels} channels, step {step}");
                wav.append(&ramp(25, usize::from(channels))).unwrap();
                if step % 2 == 1 {
                    wav.flush().unwrap();
                }
            }
            assert_eq!(wav.header.frames, 100);
            wav.truncate(90).unwrap();
            wav.flush().unwrap();
            let reader = hound::WavReader::open(&path).unwrap();
            assert_eq!(reader.duration(), 90 * FRAME as u32);
        }
    }

    #[test]
    fn past_four_gib_it_becomes_rf64() {
        let mut h = header(1);
        h.frames = (1 << 32) / h.frame_bytes() + 1;
        let bytes = h.encode();
        assert_eq!((&bytes[..4], &bytes[12..16], &bytes[4092..]), (&b"RF64"[..], &b"ds64"[..], &[0xff; 4][..]));
        assert_eq!(u64::from_le_bytes(bytes[28..36].try_into().unwrap()), h.frames * 320);
        assert_eq!(Header::decode(&bytes).unwrap().frames, h.frames);
    }

    /// `ffprobe`'s fields, comma-separated. `None` where it is not installed.
    fn probe(path: &Path, fields: &str) -> Option<String> {
        let entries = format!("stream={fields}");
        let arguments = ["-v", "error", "-show_entries", &entries, "-of", "csv=p=0"];
        let output = std::process::Command::new("ffprobe").args(arguments).arg(path).output().ok()?;
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    #[test]
    fn ur_010_a_file_of_five_gib_is_opened_with_all_its_length() {
        let folder = tempfile::tempdir().unwrap();
        for (coding, seconds) in [(Coding::Pcm16, 5 * (1u64 << 30) / 16_000), (Coding::Ulaw, 5 * (1u64 << 30) / 8_000)] {
            let path = folder.path().join("big.wav");
            // Sparse: nothing of it is on the disk but the header.
            let mut wav = WavFile::create(&path, Header { coding, ..header(1) }).unwrap();
            wav.header.frames = seconds * 50;
            wav.truncate(seconds * 50).unwrap();
            wav.flush().unwrap();
            assert_eq!(wav.file().metadata().unwrap().len(), HEADER as u64 + seconds * 50 * wav.header.frame_bytes());
            let Some(said) = probe(&path, "duration") else { return eprintln!("ffprobe is not installed: not asked") };
            assert_eq!(said.parse::<f64>().unwrap().round() as u64, seconds, "{coding:?}");
            drop(wav);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn ur_011_companded_files_have_their_tags_and_a_fact_chunk() {
        let folder = tempfile::tempdir().unwrap();
        for (coding, tag, name) in [(Coding::Alaw, 6, "pcm_alaw"), (Coding::Ulaw, 7, "pcm_mulaw")] {
            let path = folder.path().join(name);
            let mut wav = WavFile::create(&path, Header { coding, ..header(1) }).unwrap();
            wav.append(&[0x55; FRAME * 50]).unwrap();
            wav.flush().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((bytes[56], &bytes[74..78], &bytes[82..86]), (tag, &b"fact"[..], &8000u32.to_le_bytes()[..]));
            assert!(bytes[HEADER..] == [0x55; FRAME * 50]);
            let Some(said) = probe(&path, "codec_name,sample_rate,channels,duration") else {
                return eprintln!("ffprobe is not installed: not asked");
            };
            assert_eq!(said, format!("{name},8000,1,1.000000"));
        }
    }
}
