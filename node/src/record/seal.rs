//! Recordings at rest, encrypted: a file in chunks that can be read from any place, and whose every byte is authenticated.
//!
//! ```text
//!  0  HKSWGCM1   magic
//!  8  prefix     7 random bytes of this file's nonces
//! 15  id         of the recording, 36 bytes, NUL where it is shorter
//! 51  0 …        up to 64
//! 64  chunks     64 KiB and a tag of 16 bytes each; the last one is shorter, or empty
//! ```
//!
//! AES-256-GCM under the recording's own key. Nonce: prefix, number of the chunk, 1 for the last one. The header goes with each chunk as
//! associated data. So chunks cannot be moved, left out or taken from another file, and a file cut at a chunk is found out (the STREAM
//! construction of Hoang, Reyhanitabar, Rogaway and Vizár).

use super::keys::{DataKey, Keys};
use ring::aead::{Aad, LessSafeKey, Nonce};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 8] = b"HKSWGCM1";
const HEADER: usize = 64;
const PREFIX: usize = 7;
const ID: usize = 36;
/// Plain bytes of a chunk: what reading one byte costs.
pub const CHUNK: usize = 64 << 10;
const TAG: usize = 16;

/// Whether this is the beginning of a sealed file, and of which recording.
pub fn recording_of(head: &[u8]) -> Option<String> {
    let id = head.get(..HEADER).filter(|head| head.starts_with(MAGIC))?.get(8 + PREFIX..8 + PREFIX + ID)?;
    Some(String::from_utf8_lossy(id).trim_end_matches('\0').to_owned())
}

fn nonce(header: &[u8; HEADER], chunk: u32, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..PREFIX].copy_from_slice(&header[8..8 + PREFIX]);
    // The spool's nonces begin with 0: the same key may be used for both files.
    nonce[0] |= 0x80;
    nonce[PREFIX..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the encrypted recording is damaged")
}

/// Writes a sealed file. The first chunk is sealed last: what stands in it (a header) may be changed until then.
pub struct SealWriter {
    file: File,
    header: [u8; HEADER],
    cipher: LessSafeKey,
    first: Vec<u8>,
    current: Vec<u8>,
    /// Chunks that are full, the first one included.
    full: u32,
}

impl SealWriter {
    pub fn new(file: File, keys: &Keys, key: &DataKey, recording: &str) -> io::Result<SealWriter> {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..8 + PREFIX].copy_from_slice(&keys.random::<PREFIX>()?);
        let id = recording.as_bytes();
        header[8 + PREFIX..8 + PREFIX + id.len().min(ID)].copy_from_slice(&id[..id.len().min(ID)]);
        Ok(SealWriter { file, header, cipher: key.cipher(), first: Vec::new(), current: Vec::new(), full: 0 })
    }

    /// Changes bytes at the beginning of what was written.
    pub fn patch(&mut self, bytes: &[u8]) -> io::Result<()> {
        let first = if self.full == 0 { &mut self.current } else { &mut self.first };
        first.get_mut(..bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.copy_from_slice(bytes);
        Ok(())
    }

    /// The last chunk, the first one and the header; the file is whole then, but not synced.
    pub fn finish(mut self) -> io::Result<File> {
        let last = std::mem::take(&mut self.current);
        if self.full > 0 {
            let first = std::mem::take(&mut self.first);
            self.seal(0, false, first)?;
        }
        self.seal(self.full, true, last)?;
        self.file.write_all_at(&self.header, 0)?;
        Ok(self.file)
    }

    fn seal(&self, chunk: u32, last: bool, mut bytes: Vec<u8>) -> io::Result<()> {
        self.cipher
            .seal_in_place_append_tag(nonce(&self.header, chunk, last), Aad::from(&self.header), &mut bytes)
            .map_err(|_| io::Error::other("a chunk could not be encrypted"))?;
        self.file.write_all_at(&bytes, place(chunk.into()))
    }
}

fn place(chunk: u64) -> u64 {
    HEADER as u64 + chunk * (CHUNK + TAG) as u64
}

impl Write for SealWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.current.len() == CHUNK {
            let full = std::mem::take(&mut self.current);
            if self.full == 0 {
                self.first = full;
            } else {
                self.seal(self.full, false, full)?;
            }
            self.full = self.full.checked_add(1).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        }
        let n = bytes.len().min(CHUNK - self.current.len());
        self.current.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The plain bytes of a sealed file, from any place on. Every byte that is given out was authenticated.
pub struct SealReader {
    file: File,
    header: [u8; HEADER],
    cipher: LessSafeKey,
    chunks: u64,
    length: u64,
    at: u64,
    /// The chunk that was read last, and its number.
    held: Option<(u64, Vec<u8>)>,
}

impl SealReader {
    pub fn new(file: File, key: &DataKey) -> io::Result<SealReader> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let body = file.metadata()?.len().saturating_sub(HEADER as u64);
        let chunks = body.div_ceil((CHUNK + TAG) as u64);
        let length = body.checked_sub(chunks * TAG as u64).filter(|_| chunks > 0 && header.starts_with(MAGIC)).ok_or_else(damaged)?;
        let mut reader = SealReader { file, header, cipher: key.cipher(), chunks, length, at: 0, held: None };
        // How long it is, is known only when the last chunk says that it is the last one.
        reader.held = Some((chunks - 1, reader.chunk(chunks - 1)?));
        Ok(reader)
    }

    #[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Some bytes from `at` on, none at the end; whoever reads in steps of [`CHUNK`] has each chunk decrypted once.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        if at >= self.length || out.is_empty() {
            return Ok(0);
        }
        Ok(copy(&self.chunk(at / CHUNK as u64)?, at, out))
    }

    fn chunk(&self, number: u64) -> io::Result<Vec<u8>> {
        let size = (self.length + self.chunks * TAG as u64 - number * (CHUNK + TAG) as u64).min((CHUNK + TAG) as u64);
        let mut chunk = vec![0; usize::try_from(size).map_err(|_| damaged())?];
        self.file.read_exact_at(&mut chunk, place(number))?;
        let nonce = nonce(&self.header, u32::try_from(number).map_err(|_| damaged())?, number + 1 == self.chunks);
        let plain = self.cipher.open_in_place(nonce, Aad::from(&self.header), &mut chunk).map_err(|_| damaged())?.len();
        chunk.truncate(plain);
        Ok(chunk)
    }
}

/// From plain byte `at` on, as far as its chunk goes.
fn copy(chunk: &[u8], at: u64, out: &mut [u8]) -> usize {
    let from = usize::try_from(at % CHUNK as u64).unwrap_or(0);
    let n = out.len().min(chunk.len().saturating_sub(from));
    out[..n].copy_from_slice(&chunk[from..from + n]);
    n
}

impl Read for SealReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.length || out.is_empty() {
            return Ok(0);
        }
        let number = self.at / CHUNK as u64;
        if self.held.as_ref().is_none_or(|(held, _)| *held != number) {
            self.held = None;
            self.held = Some((number, self.chunk(number)?));
        }
        let n = self.held.as_ref().map_or(0, |(_, chunk)| copy(chunk, self.at, out));
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for SealReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn keys() -> (tempfile::TempDir, Keys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path()).unwrap();
        (folder, keys)
    }

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i % 251) as u8).collect()
    }

    fn sealed(keys: &Keys, key: &DataKey, plain: &[u8], first: &[u8]) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let mut writer = SealWriter::new(file, keys, key, "an id").unwrap();
        plain.chunks(999).for_each(|piece| writer.write_all(piece).unwrap());
        writer.patch(first).unwrap();
        let mut file = writer.finish().unwrap();
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn ur_027_what_is_sealed_is_read_again_from_any_place() {
        let (_folder, keys) = keys();
        let (key, _) = keys.data_key("a.example", "an id").unwrap();
        for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 500] {
            let mut plain = bytes(n);
            let patch: &[u8] = if n > 4 { b"head" } else { b"" };
            let all = sealed(&keys, &key, &plain, patch);
            plain[..patch.len()].copy_from_slice(patch);
            assert_eq!(recording_of(&all).as_deref(), Some("an id"));
            let mut reader = SealReader::new(file(&all), &key).unwrap();
            assert_eq!(reader.len(), n as u64);
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == plain, "{n}");
            for at in [0, n / 2, n.saturating_sub(1), n, n + 10] {
                reader.seek(SeekFrom::Start(at as u64)).unwrap();
                read.clear();
                reader.read_to_end(&mut read).unwrap();
                assert!(read == plain[at.min(n)..], "{n} from {at}");
                let mut some = [0; 100];
                let got = reader.read_at(at as u64, &mut some).unwrap();
                assert!(some[..got] == plain[at.min(n)..][..got] && (got > 0) == (at < n), "{n} at {at}");
            }
        }
    }

    #[test]
    fn ur_027_no_plain_byte_is_in_a_sealed_file() {
        let (_folder, keys) = keys();
        let (key, _) = keys.data_key("a.example", "an id").unwrap();
        let all = sealed(&keys, &key, b"a sentence that somebody said", b"");
        assert!(!all.windows(8).any(|window| b"a sentence that somebody said".windows(8).any(|plain| plain == window)));
    }

    #[test]
    fn ur_027_a_changed_cut_or_foreign_file_is_refused() {
        let (_folder, keys) = keys();
        let (key, _) = keys.data_key("a.example", "an id").unwrap();
        let (other, _) = keys.data_key("a.example", "an id").unwrap();
        let all = sealed(&keys, &key, &bytes(2 * CHUNK + 10), b"");
        let read = |all: &[u8], key: &DataKey| {
            let mut out = Vec::new();
            SealReader::new(file(all), key).and_then(|mut reader| reader.read_to_end(&mut out))
        };
        assert!(read(&all, &key).is_ok());
        assert!(read(&all, &other).is_err());
        for at in [0, 9, 20, 63, 64, HEADER + CHUNK, HEADER + CHUNK + TAG, all.len() - 1] {
            let mut changed = all.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &key).is_err(), "{at}");
        }
        // Cut at a chunk, and a chunk put in another's place.
        let whole = CHUNK + TAG;
        assert!(read(&all[..HEADER + 2 * whole], &key).is_err());
        assert!(read(&all[..HEADER], &key).is_err());
        assert!(read(&all[..HEADER + 5], &key).is_err());
        assert!(read(&all[..10], &key).is_err());
        let mut swapped = all.clone();
        swapped[HEADER..HEADER + 2 * whole].rotate_left(whole);
        assert!(read(&swapped, &key).is_err());
    }
}
