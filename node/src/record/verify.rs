//! Whether a recording is what its row says: hash, size, length, and counters that add up. A pure function over a file and a row.

use super::wav::{HEADER, Header, State};
use crate::store::{RecordingRow, RecordingState};
use hookswitch_proto::media::FRAME_TIME;
use sha2::{Digest, Sha256};
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

/// Reads all of `file`. `Err` only when it cannot be read.
pub fn verify(mut file: impl Read, row: &RecordingRow) -> io::Result<Verified> {
    let mut head = Vec::with_capacity(HEADER);
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let room = HEADER - head.len();
        head.extend_from_slice(&buffer[..n.min(room)]);
        hash.update(&buffer[..n]);
        size += n as u64;
    }
    let missing = row.frames_expected.saturating_sub(row.frames_received + row.frames_concealed + row.frames_silence);
    let fault = fault(row, &hex(&hash.finalize()), size, &head, missing);
    let seconds = row.duration_ms as f64 / 1000.0;
    let counts = format!("{missing} frames missing, {} concealed, of {}", row.frames_concealed, row.frames_expected);
    let line = match &fault {
        None => format!("ok: {}: {seconds:.2} s, {counts}", row.id),
        Some(why) => format!("failed: {}: {why} ({counts})", row.id),
    };
    Ok(Verified { ok: fault.is_none(), missing, concealed: row.frames_concealed, line })
}

fn fault(row: &RecordingRow, sha256: &str, size: u64, head: &[u8], missing: u64) -> Option<String> {
    if row.state != RecordingState::Available {
        return Some(format!("its state is {}", row.state.name()));
    }
    if size != row.size {
        return Some(format!("the file has {size} bytes, the row says {}", row.size));
    }
    if sha256 != row.sha256 {
        return Some("the file is not the one that was stored: SHA-256 differs".into());
    }
    let header = match Header::decode(head) {
        Ok(header) => header,
        Err(e) => return Some(e.to_string()),
    };
    if header.recording_id != row.id || header.state != State::Finished {
        return Some("the file's header is of another recording, or not finished".into());
    }
    if size != HEADER as u64 + header.frames * header.frame_bytes() {
        return Some(format!("the file's length is not that of {} frames", header.frames));
    }
    let length = FRAME_TIME.as_millis() as u64 * header.frames;
    if row.duration_ms != length || row.frames_expected != header.frames {
        return Some(format!("{} frames are {length} ms, the row says {} ms", header.frames, row.duration_ms));
    }
    let c = header.counters;
    if (c.expected, c.received, c.concealed, c.silence)
        != (row.frames_expected, row.frames_received, row.frames_concealed, row.frames_silence)
    {
        return Some("the file's counters are not the row's".into());
    }
    // The second side has no columns of its own: its file says what it holds.
    if header.heard.expected > 0 && (header.heard.expected != header.frames || header.heard.known() != header.frames) {
        return Some("the counters of the second side do not add up".into());
    }
    if row.frames_received + row.frames_concealed + row.frames_silence > row.frames_expected {
        return Some("the counters do not add up: more frames than the timeline holds".into());
    }
    (missing != 0).then(|| "the counters do not add up".into())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
