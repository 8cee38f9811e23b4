//! How long an MP3, Ogg or MP4 file is by itself: counted from its frames, pages or fragments while it is read once, front to back, and with
//! nothing decoded. It is no general parser: it knows what `encode.rs` writes and says of anything else that it is not that.
//!
//! Start with [`Ruler`].

/// Largest head that is looked at as a whole: a fragment's list of packets has 600 bytes. Longer: no file of ours.
const HEAD: usize = 64 << 10;
/// What Opus is counted in (RFC 7845 4).
const OPUS_RATE: u32 = 48_000;
/// Samples of one packet of 20 ms at that.
const PACKET: u64 = 960;
/// OpusHead without a mapping table (RFC 7845 5.1).
const OPUS_HEAD: usize = 19;

/// Measures a file of one kind.
pub struct Ruler {
    kind: Kind,
    /// Bytes still to leave out, and the head that is being gathered behind them until it has `need` bytes.
    skip: u64,
    head: Vec<u8>,
    need: usize,
    fault: Option<String>,
}

enum Kind {
    Mp3(Mp3),
    Ogg(Ogg),
    Mp4(Mp4),
}

/// What a head says.
enum Step {
    /// It is longer: so many bytes.
    More(usize),
    /// It is understood, and so many bytes follow that nobody has to look at.
    Over(u64),
    Foreign(&'static str),
}

impl Ruler {
    /// `None`: of this kind the file's own header says how long it is.
    pub fn of(container: &str) -> Option<Ruler> {
        let (kind, need) = match container {
            "mp3" => (Kind::Mp3(Mp3::default()), 4),
            "ogg" => (Kind::Ogg(Ogg::default()), 27),
            "mp4" => (Kind::Mp4(Mp4::default()), 8),
            _ => return None,
        };
        Some(Ruler { kind, skip: 0, head: Vec::new(), need, fault: None })
    }

    fn least(&self) -> usize {
        match self.kind {
            Kind::Mp3(_) => 4,
            Kind::Ogg(_) => 27,
            Kind::Mp4(_) => 8,
        }
    }

    /// The next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while self.fault.is_none() && !bytes.is_empty() {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[skipped..];
            self.skip -= skipped as u64;
            if self.skip > 0 {
                return;
            }
            let taken = (self.need - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            // A head that is whole may be known to be longer by what it says.
            while self.fault.is_none() && self.head.len() == self.need {
                let step = match &mut self.kind {
                    Kind::Mp3(mp3) => mp3.frame(&self.head),
                    Kind::Ogg(ogg) => ogg.page(&self.head),
                    Kind::Mp4(mp4) => mp4.part(&self.head),
                };
                match step {
                    Step::More(need) if need > self.need && need <= HEAD => self.need = need,
                    Step::More(_) => self.fault = Some("one of its parts is too large to be of ours".into()),
                    Step::Foreign(why) => self.fault = Some(why.into()),
                    Step::Over(skip) => {
                        self.skip = skip;
                        self.head.clear();
                        self.need = self.least();
                        break;
                    }
                }
            }
        }
    }

    /// What is wrong with a file of so many frames of 20 ms.
    pub fn fault(self, frames: u64) -> Option<String> {
        if self.fault.is_some() {
            return self.fault;
        }
        if self.skip > 0 || !self.head.is_empty() {
            return Some("the file ends in the middle of one of its parts".into());
        }
        let length = match self.kind {
            Kind::Mp3(mp3) => mp3.samples(),
            Kind::Ogg(ogg) => ogg.samples(),
            Kind::Mp4(mp4) => mp4.samples(),
        };
        let (samples, rate) = match length {
            Ok(length) => length,
            Err(why) => return Some(why.into()),
        };
        let expected = frames.saturating_mul(u64::from(rate / 50));
        (samples != expected).then(|| format!("the file holds {samples} samples, not the {expected} of {frames} frames"))
    }
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// Frames (ISO/IEC 11172-3 2.4.2.3), the first of which is an Info tag that says how many follow and what to cut at both ends.
#[derive(Default)]
struct Mp3 {
    frames: u64,
    /// Hz, and samples of a frame.
    shape: Option<(u32, u32)>,
    /// Frames behind the tag, and samples before and behind the audio.
    tag: Option<(u32, u32, u32)>,
}

impl Mp3 {
    fn frame(&mut self, head: &[u8]) -> Step {
        let [first, second, third, fourth] = match head.first_chunk() {
            Some(head) => *head,
            None => return Step::More(4),
        };
        // Sync, layer III, no checksum.
        if first != 0xff || second & 0xe7 != 0xe3 {
            return Step::Foreign("one of its frames is no MP3 frame of ours");
        }
        let (index, rates): (u8, [u16; 15]) = match second >> 3 & 3 {
            3 => (0, [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]),
            version @ (0 | 2) => (if version == 2 { 1 } else { 2 }, [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]),
            _ => return Step::Foreign("one of its frames is no MP3 frame of ours"),
        };
        let hz = match third >> 2 & 3 {
            0 => 44_100,
            1 => 48_000,
            2 => 32_000,
            _ => return Step::Foreign("one of its frames is no MP3 frame of ours"),
        } >> index;
        let kbps = rates.get(usize::from(third >> 4)).copied().filter(|kbps| *kbps > 0);
        let Some(kbps) = kbps else { return Step::Foreign("one of its frames has no bit rate") };
        let samples = if index == 0 { 1152 } else { 576 };
        if self.shape.is_some_and(|shape| shape != (hz, samples)) {
            return Step::Foreign("its frames are of different rates");
        }
        let size = samples / 8 * u32::from(kbps) * 1000 / hz + u32::from(third >> 1 & 1);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if self.shape.is_none() && head.len() < size {
            return Step::More(size);
        }
        if self.shape.is_none() {
            let stereo = fourth >> 6 != 3;
            let side = match (index, stereo) {
                (0, true) => 32,
                (0, false) | (_, true) => 17,
                _ => 9,
            };
            let tag = &head[4 + side..];
            // Behind the name, the flags, both lengths and 21 bytes of LAME's: two numbers of 12 bits.
            let cut = big_endian(tag, 36).map(|cut| cut & 0xff_ffff);
            let (Some(frames), Some(cut), true) = (big_endian(tag, 8), cut, tag.starts_with(b"Info")) else {
                return Step::Foreign("it does not begin with a frame that says how long it is");
            };
            self.tag = Some((frames, cut >> 12, cut & 0xfff));
        } else {
            self.frames += 1;
        }
        self.shape = Some((hz, samples));
        // The head is four bytes, or the whole of the first frame.
        Step::Over(size.saturating_sub(head.len()) as u64)
    }

    fn samples(self) -> Result<(u64, u32), &'static str> {
        let (Some((hz, each)), Some((frames, before, behind))) = (self.shape, self.tag) else { return Err("it has no frames") };
        if u64::from(frames) != self.frames {
            return Err("it has not as many frames as its first one says");
        }
        let samples = self.frames * u64::from(each);
        samples.checked_sub(u64::from(before + behind)).map(|samples| (samples, hz)).ok_or("it has fewer samples than are to be cut")
    }
}

/// Pages (RFC 3533 6), whose positions say where the audio is (RFC 7845 4).
#[derive(Default)]
struct Ogg {
    pages: u32,
    pre_skip: u16,
    position: u64,
    over: bool,
}

impl Ogg {
    fn page(&mut self, head: &[u8]) -> Step {
        let segments = head.get(26).map_or(0, |count| usize::from(*count));
        if !head.starts_with(b"OggS\0") {
            return Step::Foreign("one of its pages is no Ogg page");
        }
        let body = 27 + segments;
        if head.len() < body {
            return Step::More(body);
        }
        let size: u64 = head[27..body].iter().map(|lace| u64::from(*lace)).sum();
        if self.pages == 0 && head.len() < body + OPUS_HEAD {
            return if size == OPUS_HEAD as u64 {
                Step::More(body + OPUS_HEAD)
            } else {
                Step::Foreign("it does not begin with an Opus header")
            };
        }
        if self.pages == 0 {
            let opus = &head[body..];
            if !opus.starts_with(b"OpusHead\x01") {
                return Step::Foreign("it does not begin with an Opus header");
            }
            self.pre_skip = u16::from_le_bytes([opus[10], opus[11]]);
        }
        // RFC 3533 6: a number that is left out is a page that was lost.
        if self.over || head.get(18..).and_then(<[u8]>::first_chunk).copied().map(u32::from_le_bytes) != Some(self.pages) {
            return Step::Foreign("one of its pages is missing");
        }
        if let Some(position) = head.get(6..).and_then(<[u8]>::first_chunk).copied().map(u64::from_le_bytes)
            // No packet ends on this page.
            && position != u64::MAX
        {
            if position < self.position {
                return Step::Foreign("its pages are not in order");
            }
            self.position = position;
        }
        self.over = head[5] & 4 != 0;
        let seen = if self.pages == 0 { OPUS_HEAD as u64 } else { 0 };
        self.pages += 1;
        Step::Over(size - seen)
    }

    fn samples(self) -> Result<(u64, u32), &'static str> {
        if !self.over {
            return Err("its last page is missing");
        }
        let samples = self.position.checked_sub(u64::from(self.pre_skip));
        samples.map(|samples| (samples, OPUS_RATE)).ok_or("it has fewer samples than are to be cut")
    }
}

/// Boxes (ISO/IEC 14496-12 4.2): a list of packets before each fragment's audio, and once in the beginning what of all that is played.
#[derive(Default)]
struct Mp4 {
    fragments: u32,
    packets: u64,
    /// Samples that are played, and where they begin.
    edit: Option<(u64, u64)>,
    /// A list of packets was read whose audio has not come.
    owed: Option<u64>,
}

impl Mp4 {
    fn part(&mut self, head: &[u8]) -> Step {
        let (Some(size), Some(kind)) = (big_endian(head, 0), head.get(4..8)) else { return Step::More(8) };
        let Ok(size) = usize::try_from(size) else { return Step::Foreign("one of its parts is too large to be of ours") };
        if size < 8 {
            return Step::Foreign("one of its parts has no length");
        }
        if !matches!(kind, b"moov" | b"moof") {
            if kind == b"mdat" && self.owed.take() != Some(size as u64 - 8) {
                return Step::Foreign("one of its fragments is not as long as it says");
            }
            return Step::Over(size as u64 - 8);
        }
        if head.len() < size {
            return Step::More(size);
        }
        let inside = &head[8..];
        if kind == b"moov" {
            self.edit = inner(inside, &[b"trak", b"edts", b"elst"]).and_then(edit);
            return if self.edit.is_some() { Step::Over(0) } else { Step::Foreign("it does not say what of it is played") };
        }
        let Some((packets, bytes)) = inner(inside, &[b"traf", b"trun"]).and_then(run) else {
            return Step::Foreign("one of its fragments has no list of packets");
        };
        let number = inner(inside, &[b"mfhd"]).and_then(|mfhd| big_endian(mfhd, 4));
        self.fragments += 1;
        if number != Some(self.fragments) || self.owed.is_some() {
            return Step::Foreign("one of its fragments is missing");
        }
        self.packets += packets;
        self.owed = Some(bytes);
        Step::Over(0)
    }

    fn samples(self) -> Result<(u64, u32), &'static str> {
        let (played, from) = self.edit.ok_or("it does not say what of it is played")?;
        if self.owed.is_some() {
            return Err("the audio of its last fragment is missing");
        }
        let there = self.packets * PACKET;
        // The last packet is filled up.
        if played + from > there || there - (played + from) >= PACKET {
            return Err("its fragments are not as long as it says");
        }
        Ok((played, OPUS_RATE))
    }
}

/// The content of the box at this path of kinds.
fn inner<'a>(mut bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((kind, rest)) = path.split_first() else { return Some(bytes) };
    loop {
        let size = usize::try_from(big_endian(bytes, 0)?).ok().filter(|size| *size >= 8)?;
        let content = bytes.get(8..size)?;
        if bytes.get(4..8)? == *kind {
            return inner(content, rest);
        }
        bytes = &bytes[size..];
    }
}

/// 14496-12 8.6.6: how much is played, and from where.
fn edit(elst: &[u8]) -> Option<(u64, u64)> {
    let long = |at: usize| Some(u64::from(big_endian(elst, at)?) << 32 | u64::from(big_endian(elst, at + 4)?));
    match (elst.first()?, big_endian(elst, 4)?) {
        (0, 1) => Some((big_endian(elst, 8)?.into(), big_endian(elst, 12)?.into())),
        (1, 1) => Some((long(8)?, long(16)?)),
        _ => None,
    }
}

/// 14496-12 8.8.8: how many packets, and how many bytes they have. Ours say each packet's size, where they begin, and nothing else.
fn run(trun: &[u8]) -> Option<(u64, u64)> {
    const OFFSET: u32 = 1;
    const SIZES: u32 = 0x200;
    let flags = big_endian(trun, 0)? & 0xff_ffff;
    if flags != OFFSET | SIZES {
        return None;
    }
    let packets = usize::try_from(big_endian(trun, 4)?).ok()?;
    let sizes = trun.get(12..)?.as_chunks::<4>().0;
    (sizes.len() == packets).then(|| (packets as u64, sizes.iter().map(|size| u64::from(u32::from_be_bytes(*size))).sum()))
}
