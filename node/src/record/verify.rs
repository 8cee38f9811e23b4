//! Whether a recording is what its row and its sidecar say: signature, hash, size, length in the file itself, and counters that add up. Pure
//! over what it is given; the file is read once.

use super::encode::hash;
use super::length::Ruler;
use super::sidecar::{self, Statement};
use super::wav::{HEADER, Header, State};
use crate::store::{RecordingRow, RecordingState};
use hookswitch_proto::media::FRAME_TIME;
use std::io::{self, Read};

/// The verdict, and one line that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub ok: bool,
    /// Frames of the timeline that are not in the file as voice, concealment or silence.
    pub missing: u64,
    pub concealed: u64,
    pub line: String,
}

/// What a file is, in as far as it has to be read for it.
struct Seen {
    size: u64,
    sha256: String,
    head: Vec<u8>,
    /// Of a kind whose length is counted, unless somebody else's key is needed to read it.
    ruler: Option<Ruler>,
}

/// Keeps the beginning of what is read through it, and measures it.
struct Heading<R> {
    inner: R,
    head: Vec<u8>,
    ruler: Option<Ruler>,
}

impl<R: Read> Read for Heading<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        let room = HEADER - self.head.len();
        self.head.extend_from_slice(&out[..n.min(room)]);
        if let Some(ruler) = &mut self.ruler {
            ruler.push(&out[..n]);
        }
        Ok(n)
    }
}

fn see(file: impl Read, ruler: Option<Ruler>) -> io::Result<Seen> {
    let mut heading = Heading { inner: file, head: Vec::with_capacity(HEADER), ruler };
    let (size, sha256) = hash(&mut heading)?;
    Ok(Seen { size, sha256, head: heading.head, ruler: heading.ruler })
}

/// Reads all of `file`, the audio as it is downloaded. `Err` only when it cannot be read.
pub fn verify(file: impl Read, row: &RecordingRow) -> io::Result<Verified> {
    verify_signed(file, row, None)
}

/// The same, where the row's sidecar must be signed by this node.
pub fn verify_signed(file: impl Read, row: &RecordingRow, public: Option<&[u8]>) -> io::Result<Verified> {
    let mut seen = see(file, Ruler::of(&row.container).filter(|_| !row.is_client_encrypted()))?;
    let missing = row.frames_expected.saturating_sub(row.frames_received + row.frames_concealed + row.frames_silence);
    let ruler = seen.ruler.take();
    let mut fault = row_fault(row, &seen, missing).or_else(|| ruler?.fault(row.frames_expected));
    if fault.is_none() && !row.sidecar.is_empty() {
        fault = match sidecar::read(&row.sidecar, public) {
            Err(why) => Some(why),
            Ok(said) => statement_fault(&said, &seen).or_else(|| difference(&said, row)),
        };
    }
    Ok(verdict(&row.id, row.duration_ms, missing, row.frames_concealed, row.frames_expected, fault, ""))
}

/// The same of a file with its sidecar beside it, and no node to ask.
pub fn verify_file(file: impl Read, sidecar: &str, public: Option<&[u8]>) -> io::Result<Verified> {
    let said = match sidecar::read(sidecar, public) {
        Ok(said) => said,
        Err(why) => return Ok(Verified { ok: false, missing: 0, concealed: 0, line: format!("failed: {why}") }),
    };
    let mut seen = see(file, Ruler::of(&said.container).filter(|_| is_open(&said)))?;
    let ruler = seen.ruler.take();
    let fault = statement_fault(&said, &seen).or_else(|| ruler?.fault(said.frames));
    let unsigned = if public.is_some() { "" } else { "; signature not checked: no key" };
    Ok(verdict(&said.recording_id, said.duration_ms, said.missing(), said.concealed(), said.frames, fault, unsigned))
}

fn verdict(id: &str, ms: u64, missing: u64, concealed: u64, frames: u64, fault: Option<String>, note: &str) -> Verified {
    let counts = format!("{missing} frames missing, {concealed} concealed, of {frames}");
    let line = match &fault {
        None => format!("ok: {id}: {:.2} s, {counts}{note}", ms as f64 / 1000.0),
        Some(why) => format!("failed: {id}: {why} ({counts})"),
    };
    Verified { ok: fault.is_none(), missing, concealed, line }
}

/// Whether the file is as its listener gets it, and not under its client's key.
fn is_open(said: &Statement) -> bool {
    said.encryption.as_ref().is_none_or(|encryption| encryption.key.is_some())
}

fn statement_fault(said: &Statement, seen: &Seen) -> Option<String> {
    if seen.size != said.size {
        return Some(format!("the file has {} bytes, its sidecar says {}", seen.size, said.size));
    }
    if seen.sha256 != said.sha256 {
        return Some("the file is not the one that was signed: SHA-256 differs".into());
    }
    if let Some(why) = said.fault() {
        return Some(why);
    }
    if said.container == "wav" && is_open(said) {
        let (header, start) = match Header::decode_any(&seen.head) {
            Ok(header) => header,
            Err(error) => return Some(error.to_string()),
        };
        if let Some(why) = length_fault(&header, start, seen.size) {
            return Some(why);
        }
        if (header.frames, header.counters.received) != (said.frames, said.speak.received) {
            return Some("the file's own counters are not the sidecar's".into());
        }
    }
    (said.frames_unwritten > 0).then(|| format!("{} frames of the call were not written: {}", said.frames_unwritten, said.stop_reason))
}

/// What the row and the sidecar say differently: the database was changed, or the sidecar is another recording's.
fn difference(said: &Statement, row: &RecordingRow) -> Option<String> {
    let c = (said.speak.expected, said.speak.received, said.speak.concealed, said.speak.silence);
    let same = said.recording_id == row.id
        && c == (row.frames_expected, row.frames_received, row.frames_concealed, row.frames_silence)
        && said.sha256 == row.sha256
        && said.stop_reason == row.stop_reason;
    (!same).then(|| "the row does not say what its sidecar says".into())
}

fn length_fault(header: &Header, start: usize, size: u64) -> Option<String> {
    let length = header.frames.checked_mul(header.frame_bytes()).and_then(|data| data.checked_add(start as u64));
    (length != Some(size)).then(|| format!("the file's length is not that of {} frames", header.frames))
}

fn row_fault(row: &RecordingRow, seen: &Seen, missing: u64) -> Option<String> {
    if row.state != RecordingState::Available {
        return Some(format!("its state is {}", row.state.name()));
    }
    if seen.size != row.size {
        return Some(format!("the file has {} bytes, the row says {}", seen.size, row.size));
    }
    if seen.sha256 != row.sha256 {
        return Some("the file is not the one that was stored: SHA-256 differs".into());
    }
    let length = FRAME_TIME.as_millis() as u64 * row.frames_expected;
    if row.duration_ms != length {
        return Some(format!("{} frames are {length} ms, the row says {} ms", row.frames_expected, row.duration_ms));
    }
    if (row.container.is_empty() || row.container == "wav") && !row.is_client_encrypted() {
        let (header, start) = match Header::decode_any(&seen.head) {
            Ok(header) => header,
            Err(e) => return Some(e.to_string()),
        };
        if header.recording_id != row.id || header.state != State::Finished {
            return Some("the file's header is of another recording, or not finished".into());
        }
        if let Some(why) = length_fault(&header, start, seen.size) {
            return Some(why);
        }
        let c = header.counters;
        if header.frames != row.frames_expected
            || (c.expected, c.received, c.concealed, c.silence)
                != (row.frames_expected, row.frames_received, row.frames_concealed, row.frames_silence)
        {
            return Some("the file's counters are not the row's".into());
        }
        // The second side has no columns of its own: its file says what it holds.
        if header.heard.expected > 0 && (header.heard.expected != header.frames || header.heard.known() != header.frames) {
            return Some("the counters of the second side do not add up".into());
        }
    }
    if row.frames_received + row.frames_concealed + row.frames_silence > row.frames_expected {
        return Some("the counters do not add up: more frames than the timeline holds".into());
    }
    (missing != 0).then(|| "the counters do not add up".into())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
