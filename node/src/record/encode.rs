//! From a closed spool file to the file that was asked for: resampled, encoded, encrypted. Runs where waiting is allowed and reads what is
//! on disk, so that it can be done again after a crash: nothing of the recording is here alone.
//!
//! Start with [`make`].

use super::format::{CALL_RATE, Coding, Format};
use super::lame::Mp3;
use super::mp4::Mp4;
use super::opus::Opus;
use super::resample::Upsampler;
use super::seal::{SealReader, SealWriter};
use super::spool::Spool;
use super::wav::{HEADER, Header, State};
use super::{Folders, safe_name};
use hookswitch_call::recording::{CbcKey, Container};
use ogg::{PacketWriteEndInfo, PacketWriter};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Extensions of files in the spool that are being made: after a crash they are made again.
pub(super) const MAKING: [&str; 2] = ["out", "cbc"];
/// Packets on an Ogg page: a second, which is what a player that seeks has to read.
const PAGE_PACKETS: u64 = 50;

/// A file as it is to lie among the blobs, still in the spool, synced.
#[derive(Debug)]
pub(super) struct Made {
    pub path: PathBuf,
    /// Of what one downloads, not of the encryption at rest around it.
    pub size: u64,
    pub sha256: String,
    /// The key that opens it, wrapped: it is encrypted at rest.
    pub wrapped: Option<Vec<u8>>,
    /// Encrypted by the client's own key.
    pub cbc_bits: Option<usize>,
}

/// Why there is no file of this format.
#[derive(Debug)]
pub(super) enum MakeError {
    /// The disk: trying again later may help.
    Disk(io::Error),
    /// The encoder: it will not.
    Encoder(io::Error),
}

impl std::fmt::Display for MakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MakeError::Disk(error) => write!(f, "{error}"),
            MakeError::Encoder(error) => write!(f, "the encoder failed: {error}"),
        }
    }
}

/// Makes the file. Its header, counters and all, must be settled.
pub(super) fn make(folders: &Folders, spool: &mut Spool, format: &Format) -> Result<Made, MakeError> {
    let frames = spool.header().frames;
    spool.header_mut().state = State::Finished;
    spool.truncate(frames).and_then(|()| spool.flush()).and_then(|()| spool.file().sync_all()).map_err(MakeError::Disk)?;
    if let Spool::Wav(file) = spool
        && format.is_spooled()
        && format.coding() == file.header.coding
    {
        let (size, sha256) = hash(&mut BufReader::new(Whole(file.file(), 0))).map_err(MakeError::Disk)?;
        return Ok(Made { path: file.path().to_path_buf(), size, sha256, wrapped: None, cbc_bits: None });
    }
    let name = safe_name(&spool.header().recording_id, "unnamed");
    let [out, cbc] = MAKING.map(|extension| folders.spool.join(format!("{name}.{extension}")));
    let file = fresh(&out).map_err(MakeError::Disk)?;
    let mut target = match spool.key() {
        Some((key, _)) => {
            Target::Sealed(Box::new(SealWriter::new(file, &folders.keys, key, &spool.header().recording_id).map_err(MakeError::Disk)?))
        }
        None => Target::Plain(io::BufWriter::with_capacity(64 << 10, file)),
    };
    encode(spool, format, &mut target)?;
    let disk = |result: io::Result<Made>| result.map_err(MakeError::Disk);
    disk(target.finish().and_then(|file| file.sync_all()).and_then(|()| {
        let Some((key, wrapped)) = spool.key() else {
            let (size, sha256) = hash(&mut File::open(&out)?)?;
            return Ok(Made { path: out.clone(), size, sha256, wrapped: None, cbc_bits: None });
        };
        let mut plain = SealReader::new(File::open(&out)?, key)?;
        let Some(cipher) = spool.cbc() else {
            let (size, sha256) = hash(&mut plain)?;
            return Ok(Made { path: out.clone(), size, sha256, wrapped: Some(wrapped.to_vec()), cbc_bits: None });
        };
        let mut file = fresh(&cbc)?;
        super::cbc::encrypt(&mut plain, cipher, &mut file)?;
        file.sync_all()?;
        std::fs::remove_file(&out)?;
        let (size, sha256) = hash(&mut File::open(&cbc)?)?;
        Ok(Made { path: cbc.clone(), size, sha256, wrapped: None, cbc_bits: Some(cipher.key.len() * 8) })
    }))
}

/// A file that is ours alone; what a try before left there is gone.
fn fresh(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A file from its beginning, whatever its own position.
struct Whole<'a>(&'a File, u64);

impl Read for Whole<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read_at(out, self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}

/// Size and SHA-256 of all that can be read.
pub(super) fn hash(from: &mut impl Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 << 10];
    let mut size = 0u64;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((size, super::verify::hex(&hash.finalize()))),
            Ok(n) => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where an encoder writes.
enum Target {
    Plain(io::BufWriter<File>),
    Sealed(Box<SealWriter>),
}

impl Target {
    /// Changes the beginning.
    fn patch(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::Plain(out) => {
                out.flush()?;
                out.get_ref().write_all_at(bytes, 0)
            }
            Target::Sealed(out) => out.patch(bytes),
        }
    }

    fn finish(self) -> io::Result<File> {
        match self {
            Target::Plain(out) => out.into_inner().map_err(io::IntoInnerError::into_error),
            Target::Sealed(out) => out.finish(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Plain(out) => out.write(bytes),
            Target::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Plain(out) => out.flush(),
            Target::Sealed(out) => out.flush(),
        }
    }
}

/// One way to write a file: samples in, bytes out.
enum Encoder {
    Wav(Coding),
    Mp3(Mp3),
    Ogg(Box<Ogg>),
    Mp4(Box<Mp4>),
}

struct Ogg {
    opus: Opus,
    serial: u32,
    /// Packets so far, in 48 kHz samples, and the last of them, which is kept back because the end must be flagged on it.
    position: u64,
    held: Option<Vec<u8>>,
    pages: PacketWriter<'static, Vec<u8>>,
}

fn encode(spool: &Spool, format: &Format, target: &mut Target) -> Result<(), MakeError> {
    let header = spool.header();
    let channels = usize::from(header.channels);
    let from = header.coding;
    let factor = usize::try_from(format.rate / CALL_RATE).unwrap_or(1);
    // Samples of one channel, at the file's rate.
    let total = header.frames * header.frame_samples() * factor as u64;
    let mut encoder = Encoder::new(format, channels, total, &header.recording_id).map_err(MakeError::Encoder)?;
    let mut out = Vec::new();
    encoder.begin(header, format, &mut out).map_err(MakeError::Encoder)?;
    let mut resamplers: Vec<Upsampler> = (0..channels).map(|_| Upsampler::new(factor)).collect();
    let (mut samples, mut mixed) = (Vec::new(), Vec::new());
    let mut planes = vec![Vec::new(); channels];
    // An error of the encoder must not be taken for one of the disk, which would be tried again for ever.
    let mut refused = None;
    let result = spool.read(&mut |bytes| {
        samples.clear();
        mixed.clear();
        from.samples(bytes, &mut samples);
        resample(&samples, &mut resamplers, &mut planes, &mut mixed, false);
        encoder.push(&mixed, &mut out).map_err(|error| keep(&mut refused, error))?;
        target.write_all(&out)?;
        out.clear();
        Ok(())
    });
    result.map_err(|error| refused.take().map_or(MakeError::Disk(error), MakeError::Encoder))?;
    mixed.clear();
    resample(&[], &mut resamplers, &mut planes, &mut mixed, true);
    encoder.push(&mixed, &mut out).map_err(MakeError::Encoder)?;
    let first = encoder.end(total, &mut out).map_err(MakeError::Encoder)?;
    target.write_all(&out).and_then(|()| target.patch(&first)).map_err(MakeError::Disk)
}

fn keep(refused: &mut Option<io::Error>, error: io::Error) -> io::Error {
    *refused = Some(error);
    io::ErrorKind::Other.into()
}

fn resample(samples: &[i16], resamplers: &mut [Upsampler], planes: &mut [Vec<i16>], mixed: &mut Vec<i16>, last: bool) {
    let channels = resamplers.len();
    for (channel, (up, plane)) in resamplers.iter_mut().zip(planes.iter_mut()).enumerate() {
        plane.clear();
        let own: Vec<i16> = samples.iter().skip(channel).step_by(channels).copied().collect();
        up.push(&own, plane);
        if last {
            up.end(plane);
        }
    }
    for at in 0..planes[0].len() {
        mixed.extend(planes.iter().map(|plane| plane[at]));
    }
}

impl Encoder {
    fn new(format: &Format, channels: usize, total: u64, id: &str) -> io::Result<Encoder> {
        Ok(match format.container {
            Container::Wav => Encoder::Wav(format.coding()),
            Container::Mp3 => Encoder::Mp3(Mp3::new(format.rate, channels, format.kbps)?),
            Container::Ogg => {
                let opus = Opus::new(format.rate, channels, format.kbps)?;
                // Any number will do, but the same recording made twice should be the same file.
                let serial = Sha256::digest(id.as_bytes())[..4].try_into().map(u32::from_le_bytes).unwrap_or(1);
                let pages = PacketWriter::new(Vec::new());
                Encoder::Ogg(Box::new(Ogg { position: 0, held: None, opus, serial, pages }))
            }
            Container::Mp4 => {
                let opus = Opus::new(format.rate, channels, format.kbps)?;
                Encoder::Mp4(Box::new(Mp4::new(opus, channels, total * 48_000 / u64::from(format.rate))))
            }
        })
    }

    fn begin(&mut self, header: &Header, format: &Format, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Wav(coding) => {
                let whole = Header { coding: *coding, rate: format.rate, ..header.clone() };
                out.extend_from_slice(&whole.encode());
                debug_assert_eq!(out.len(), HEADER);
                Ok(())
            }
            Encoder::Mp3(mp3) => {
                mp3.begin(out);
                Ok(())
            }
            Encoder::Ogg(ogg) => ogg.begin(header.channels, out),
            Encoder::Mp4(mp4) => mp4.begin(out),
        }
    }

    fn push(&mut self, samples: &[i16], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Wav(coding) => {
                coding.put(samples, out);
                Ok(())
            }
            Encoder::Mp3(mp3) => mp3.encode(samples, out),
            Encoder::Ogg(ogg) => {
                let Ogg { opus, serial, position, held, pages } = &mut **ogg;
                opus.encode(samples, &mut |packet| Ogg::packet(pages, *serial, position, held, packet))?;
                out.append(pages.inner_mut());
                Ok(())
            }
            Encoder::Mp4(mp4) => mp4.push(samples, out),
        }
    }

    /// What is left; returned is what the file must begin with, where only the end tells.
    fn end(&mut self, total: u64, out: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Wav(_) => Ok(Vec::new()),
            Encoder::Mp3(mp3) => mp3.end(out),
            Encoder::Ogg(ogg) => ogg.end(total, out).map(|()| Vec::new()),
            Encoder::Mp4(mp4) => mp4.end(out).map(|()| Vec::new()),
        }
    }
}

impl Ogg {
    /// RFC 7845 5: OpusHead alone on the first page, OpusTags alone on the second.
    fn begin(&mut self, channels: u16, out: &mut Vec<u8>) -> io::Result<()> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(u8::try_from(channels).unwrap_or(1));
        head.extend_from_slice(&self.opus.pre_skip().to_le_bytes());
        head.extend_from_slice(&self.opus.rate.to_le_bytes());
        // Gain 0, mapping family 0.
        head.extend_from_slice(&[0, 0, 0]);
        let vendor = concat!("hookswitch ", env!("CARGO_PKG_VERSION"));
        let mut tags = b"OpusTags".to_vec();
        tags.extend_from_slice(&u32::try_from(vendor.len()).unwrap_or(0).to_le_bytes());
        tags.extend_from_slice(vendor.as_bytes());
        tags.extend_from_slice(&[0; 4]);
        self.pages.write_packet(head, self.serial, PacketWriteEndInfo::EndPage, 0)?;
        self.pages.write_packet(tags, self.serial, PacketWriteEndInfo::EndPage, 0)?;
        out.append(self.pages.inner_mut());
        Ok(())
    }

    fn packet(
        pages: &mut PacketWriter<'static, Vec<u8>>,
        serial: u32,
        position: &mut u64,
        held: &mut Option<Vec<u8>>,
        packet: &[u8],
    ) -> io::Result<()> {
        if let Some(before) = held.replace(packet.to_vec()) {
            *position += 960;
            let full = (*position / 960).is_multiple_of(PAGE_PACKETS);
            let end = if full { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            pages.write_packet(before, serial, end, *position)?;
        }
        Ok(())
    }

    /// RFC 7845 4.4: the last page says where the audio ends; what the packet holds beyond is cut by the player.
    fn end(&mut self, total: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let Ogg { opus, serial, position, held, pages } = self;
        opus.end(&mut |packet| Ogg::packet(pages, *serial, position, held, packet))?;
        let end = u64::from(opus.pre_skip()) + total * 48_000 / u64::from(opus.rate);
        let last = held.take().unwrap_or_default();
        pages.write_packet(last, *serial, PacketWriteEndInfo::EndStream, end)?;
        out.append(pages.inner_mut());
        Ok(())
    }
}

/// Whether AES takes a key of this length.
pub fn is_cbc_key(key: &CbcKey) -> bool {
    matches!(key.key.len(), 16 | 24 | 32)
}
