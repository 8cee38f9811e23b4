//! A recording while it is written: a WAV file of ours, or an encrypted log where no plain byte may lie on disk.
//!
//! The log is what a WAV file is not: nothing in it is ever changed. After 16 bytes and the wrapped keys come records, one for each write,
//! sealed with AES-256-GCM under the recording's own key and numbered; what a crash cut off ends it.
//!
//! ```text
//! HKSWLOG1  lengths of id, key, cipher, session (u16 each)   id   wrapped key   wrapped AES-CBC key and vector, or nothing   session's id
//! length (u32)  kind (u8)  number (u64)  sealed bytes and tag          kind 0: a header, as in wav.rs; 1: samples
//! ```

use super::keys::{DataKey, Keys};
use super::tenant_keys::is_erased;
use super::wav::{HEADER, Header, State, WavError, WavFile};
use hookswitch_call::recording::CbcKey;
use ring::aead::{Aad, LessSafeKey, Nonce};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Extension of a log's name.
pub const LOG: &str = "log";
const MAGIC: &[u8; 8] = b"HKSWLOG1";
const TAG: usize = 16;
const RECORD: usize = 13;
/// Numbers left out behind a crash: the record that was cut off, and whatever a disk kept of it, had one of them.
const SKIP: u64 = 1 << 32;
/// Largest record that is read: two seconds of two sides, and some. A length beyond is damage, not a reason for memory.
const RECORD_MAX: usize = 1 << 20;

/// What is known of a log whose tenant has erased the key to it: what stands open beside its keys.
#[derive(Debug)]
pub struct Remains {
    pub recording_id: String,
    pub session_id: String,
    pub domain: String,
    /// Milliseconds since the Unix epoch.
    pub begun: u64,
    pub written: u64,
}

pub enum Spool {
    Wav(Box<WavFile>),
    Sealed(Box<SealedLog>),
}

pub struct SealedLog {
    file: File,
    path: PathBuf,
    header: Header,
    key: DataKey,
    cipher: LessSafeKey,
    /// As it lies in the file: a sealed blob of this recording is read with the same.
    wrapped: Vec<u8>,
    cbc: Option<CbcKey>,
    /// Where the next record goes, and its number.
    end: u64,
    next: u64,
    start: u64,
}

impl Spool {
    pub fn create_wav(path: &Path, header: Header) -> io::Result<Spool> {
        WavFile::create(path, header).map(|file| Spool::Wav(Box::new(file)))
    }

    pub fn create_sealed(path: &Path, header: Header, keys: &Keys, cbc: Option<&CbcKey>) -> io::Result<Spool> {
        let id = header.recording_id.clone();
        let (key, wrapped) = keys.data_key(&header.domain, &id)?;
        let cipher = match cbc {
            Some(cbc) => {
                let mut secret = cbc.iv.to_vec();
                secret.extend_from_slice(&cbc.key);
                let sealed = keys.wrap(&header.domain, &id, &secret);
                std::hint::black_box(&mut secret).fill(0);
                sealed?
            }
            None => Vec::new(),
        };
        let mut head = MAGIC.to_vec();
        let parts = [id.as_bytes(), &wrapped, &cipher, header.session_id.as_bytes()];
        for part in parts {
            head.extend_from_slice(&u16::try_from(part.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?.to_le_bytes());
        }
        for part in parts {
            head.extend_from_slice(part);
        }
        let mut file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&head)?;
        let start = head.len() as u64;
        let cipher = key.cipher();
        let cbc = cbc.cloned();
        let mut log = SealedLog { file, path: path.to_path_buf(), header, key, cipher, wrapped, cbc, end: start, next: 0, start };
        log.put_header()?;
        Ok(Spool::Sealed(Box::new(log)))
    }

    /// A file that was left behind: whole frames are kept, its frame count is what is there.
    pub fn reopen(path: &Path, keys: &Keys) -> Result<Spool, WavError> {
        match path.extension().is_some_and(|extension| extension == LOG) {
            true => SealedLog::reopen(path, keys).map(|log| Spool::Sealed(Box::new(log))),
            false => WavFile::reopen(path).map(|file| Spool::Wav(Box::new(file))),
        }
    }

    pub fn header(&self) -> &Header {
        match self {
            Spool::Wav(file) => &file.header,
            Spool::Sealed(log) => &log.header,
        }
    }

    pub fn header_mut(&mut self) -> &mut Header {
        match self {
            Spool::Wav(file) => &mut file.header,
            Spool::Sealed(log) => &mut log.header,
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Spool::Wav(file) => file.path(),
            Spool::Sealed(log) => &log.path,
        }
    }

    pub fn file(&self) -> &File {
        match self {
            Spool::Wav(file) => file.file(),
            Spool::Sealed(log) => &log.file,
        }
    }

    /// Appends whole frames in the header's coding, channels interleaved.
    pub fn append(&mut self, samples: &[u8]) -> io::Result<()> {
        match self {
            Spool::Wav(file) => file.append(samples),
            Spool::Sealed(log) => {
                log.put(1, samples)?;
                log.header.frames += samples.len() as u64 / log.header.frame_bytes();
                Ok(())
            }
        }
    }

    /// Cuts it to so many frames. A log keeps what it has; its last header says what counts.
    pub fn truncate(&mut self, frames: u64) -> io::Result<()> {
        match self {
            Spool::Wav(file) => file.truncate(frames),
            Spool::Sealed(log) => {
                log.header.frames = log.header.frames.min(frames);
                Ok(())
            }
        }
    }

    /// Makes the header on disk say what is there.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Spool::Wav(file) => file.flush(),
            Spool::Sealed(log) => log.put_header(),
        }
    }

    /// The key of a sealed one, and how it may lie on disk.
    pub fn key(&self) -> Option<(&DataKey, &[u8])> {
        match self {
            Spool::Wav(_) => None,
            Spool::Sealed(log) => Some((&log.key, &log.wrapped)),
        }
    }

    /// What the finished file is encrypted with.
    pub fn cbc(&self) -> Option<&CbcKey> {
        match self {
            Spool::Wav(_) => None,
            Spool::Sealed(log) => log.cbc.as_ref(),
        }
    }

    /// Overwrites the keys of a sealed one, so that nobody reads it any more.
    pub fn forget_keys(&self) -> io::Result<()> {
        match self {
            Spool::Wav(_) => Ok(()),
            Spool::Sealed(log) => log.file.write_all_at(&vec![0; usize::try_from(log.start).unwrap_or(0)], 0),
        }
    }

    /// All samples, in pieces of whole frames.
    pub fn read(&self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = self.header().frames * self.header().frame_bytes();
        match self {
            Spool::Wav(file) => {
                // A second at a time.
                let piece = usize::try_from(file.header.frame_bytes() * 50).unwrap_or(1);
                let mut buffer = vec![0; piece];
                let mut at = HEADER as u64;
                while left > 0 {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece);
                    file.file().read_exact_at(&mut buffer[..n], at)?;
                    each(&buffer[..n])?;
                    (at, left) = (at + n as u64, left - n as u64);
                }
                Ok(())
            }
            Spool::Sealed(log) => {
                log.records(&mut |kind, bytes| {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    if kind == 1 && n > 0 {
                        each(&bytes[..n])?;
                        left -= n as u64;
                    }
                    Ok(())
                })?;
                if left > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            }
        }
    }
}

impl Remains {
    fn of(file: &File, id: &str, session: &[u8], domain: String) -> io::Result<Remains> {
        let about = file.metadata()?;
        let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).ok().and_then(|age| u64::try_from(age.as_millis()).ok()).unwrap_or(0);
        let written = about.modified()?;
        Ok(Remains {
            recording_id: id.to_owned(),
            session_id: String::from_utf8_lossy(session).into_owned(),
            domain,
            // Not every file system knows when a file was made.
            begun: ms(about.created().map_or(written, |made| made.min(written))),
            written: ms(written),
        })
    }
}

impl SealedLog {
    fn reopen(path: &Path, keys: &Keys) -> Result<SealedLog, WavError> {
        let file = OpenOptions::new().write(true).read(true).open(path)?;
        let mut head = [0; 16];
        file.read_exact_at(&mut head, 0).map_err(|_| WavError::Foreign("too short"))?;
        if &head[..8] != MAGIC {
            return Err(WavError::Foreign("no log"));
        }
        let lengths = [8, 10, 12, 14].map(|at| usize::from(u16::from_le_bytes([head[at], head[at + 1]])));
        let mut parts = vec![0; lengths.iter().sum()];
        file.read_exact_at(&mut parts, 16).map_err(|_| WavError::Foreign("too short"))?;
        let (id, rest) = parts.split_at(lengths[0]);
        let (wrapped, rest) = rest.split_at(lengths[1]);
        let (cipher, session) = rest.split_at(lengths[2]);
        let id = String::from_utf8_lossy(id).into_owned();
        let unread = |error: io::Error| match keys.owner_of(wrapped).filter(|_| is_erased(&error)) {
            Some(domain) => match Remains::of(&file, &id, session, domain) {
                Ok(remains) => WavError::Erased(Box::new(remains)),
                Err(error) => error.into(),
            },
            None => WavError::Foreign("an encrypted one that this node cannot read"),
        };
        let key = keys.unwrap_key(&id, wrapped).map_err(unread)?;
        let cbc = match cipher {
            [] => None,
            sealed => {
                let mut secret = keys.unwrap(&id, sealed).map_err(unread)?;
                let cbc = secret.split_first_chunk::<16>().map(|(iv, key)| CbcKey { key: key.to_vec(), iv: *iv });
                std::hint::black_box(&mut secret).fill(0);
                Some(cbc.ok_or(WavError::Foreign("a cipher without a vector"))?)
            }
        };
        let start = 16 + parts.len() as u64;
        let (cipher, wrapped) = (key.cipher(), wrapped.to_vec());
        let path = path.to_path_buf();
        let mut log = SealedLog { file, path, header: Header::default(), key, cipher, wrapped, cbc, end: start, next: 0, start };
        let mut header: Option<Header> = None;
        let mut samples = 0u64;
        let (end, next) = log.records(&mut |kind, bytes| {
            if kind == 0 {
                let mut whole = bytes.to_vec();
                whole.resize(HEADER, 0);
                whole[HEADER - 8..HEADER - 4].copy_from_slice(b"data");
                header = Header::decode(&whole).ok().or(header.take());
            } else {
                samples += bytes.len() as u64;
            }
            Ok(())
        })?;
        let mut header = header.ok_or(WavError::Foreign("no header"))?;
        let there = samples / header.frame_bytes();
        // A finished one may have been cut; of one that was running all that came counts.
        header.frames = if header.state == State::Finished { header.frames.min(there) } else { there };
        (log.header, log.end, log.next) = (header, end, next.saturating_add(SKIP));
        Ok(log)
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn put(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut head = [0; RECORD];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = kind;
        let number = self.next;
        head[5..].copy_from_slice(&number.to_be_bytes());
        let mut record = Vec::with_capacity(RECORD + bytes.len() + TAG);
        record.extend_from_slice(&head);
        record.extend_from_slice(bytes);
        let failed = |_| io::Error::other("a record could not be encrypted");
        // A number is used up even where the write fails: what part of it came to the disk is unknown.
        self.next += 1;
        let tag =
            self.cipher.seal_in_place_separate_tag(SealedLog::nonce(number), Aad::from(head), &mut record[RECORD..]).map_err(failed)?;
        record.extend_from_slice(tag.as_ref());
        self.file.write_all_at(&record, self.end)?;
        self.end += record.len() as u64;
        Ok(())
    }

    fn put_header(&mut self) -> io::Result<()> {
        let bytes = self.header.encode();
        // The text ends in NULs, and the size of the data behind them matters to nobody who reads a log.
        let text = bytes[..HEADER - 8].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.put(0, &bytes[..text])
    }

    /// Each whole record from the start on. Where they end, and the number behind the last.
    fn records(&self, each: &mut dyn FnMut(u8, &[u8]) -> io::Result<()>) -> io::Result<(u64, u64)> {
        let size = self.file.metadata()?.len();
        let (mut at, mut number) = (self.start, 0u64);
        let mut buffer = Vec::new();
        loop {
            let mut head = [0; RECORD];
            if at + RECORD as u64 > size {
                return Ok((at, number));
            }
            self.file.read_exact_at(&mut head, at)?;
            let length = usize::try_from(u32::from_le_bytes([head[0], head[1], head[2], head[3]])).unwrap_or(usize::MAX);
            let behind = at + (RECORD + TAG) as u64 + length as u64;
            if length > RECORD_MAX || behind > size {
                return Ok((at, number));
            }
            buffer.resize(length + TAG, 0);
            self.file.read_exact_at(&mut buffer, at + RECORD as u64)?;
            let found = u64::from_be_bytes(head[5..].try_into().unwrap_or_default());
            // Numbers only grow: a record from elsewhere in the file, or from before, does not fit.
            if found < number {
                return Ok((at, number));
            }
            match self.cipher.open_in_place(SealedLog::nonce(found), Aad::from(head), &mut buffer) {
                Ok(plain) => each(head[4], plain)?,
                Err(_) => return Ok((at, number)),
            }
            (at, number) = (behind, found.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::format::Coding;
    use crate::record::wav::Counters;

    fn header() -> Header {
        Header { recording_id: "one".into(), domain: "demo.localhost".into(), coding: Coding::Alaw, ..Header::default() }
    }

    fn all(spool: &Spool) -> Vec<u8> {
        let mut all = Vec::new();
        spool
            .read(&mut |piece| {
                all.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn ur_027_an_encrypted_spool_is_read_again_up_to_where_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        let path = folder.path().join("one.log");
        let cbc = CbcKey { key: vec![7; 24], iv: [9; 16] };
        let mut spool = Spool::create_sealed(&path, header(), &keys, Some(&cbc)).unwrap();
        for frame in 0..10u8 {
            spool.append(&[frame; 160]).unwrap();
            spool.header_mut().counters = Counters { expected: u64::from(frame), received: u64::from(frame), ..Counters::default() };
            spool.flush().unwrap();
        }
        drop(spool);
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(8).any(|w| w == [3; 8] || w == [7; 8] || w == *b"demo.loc"), "something lies open in the file");
        let again = Spool::reopen(&path, &keys).unwrap();
        assert_eq!((again.header().frames, again.header().counters.received), (10, 9));
        assert_eq!(again.cbc(), Some(&cbc));
        assert_eq!(all(&again), (0..10u8).flat_map(|frame| [frame; 160]).collect::<Vec<_>>());
        drop(again);
        // Cut anywhere: what is whole before the cut is there, in order. And what is written from then on is read as well.
        for cut in (bytes.len() - 1500..bytes.len()).step_by(97) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let mut again = Spool::reopen(&path, &keys).unwrap();
            let frames = again.header().frames;
            assert!((6..=10).contains(&frames), "{cut}: {frames}");
            again.append(&[99; 160]).unwrap();
            again.flush().unwrap();
            let again = Spool::reopen(&path, &keys).unwrap();
            assert_eq!(all(&again).len() as u64, (frames + 1) * 160);
            assert_eq!(all(&again)[(frames as usize) * 160..], [99; 160]);
        }
        // A flipped bit ends it there; another node opens nothing.
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(Spool::reopen(&path, &keys).unwrap().header().frames < 10);
        let other = tempfile::tempdir().unwrap();
        assert!(matches!(Spool::reopen(&path, &Keys::load(other.path()).unwrap()), Err(WavError::Foreign(_))));
        for broken in [&bytes[..0], &bytes[..10], &bytes[..40], b"HKSWLOG1\xff\xff\xff\xff\xff\xff\0\0"] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(Spool::reopen(&path, &keys), Err(WavError::Foreign(_))));
        }
    }
}
