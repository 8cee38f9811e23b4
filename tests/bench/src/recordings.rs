//! What recordings say: frames are numbered by who speaks, so that what is missing is read from the samples themselves.

use crate::generator::{FRAME_BITS, FRAME_MASK};
use anyhow::{Context, Result, bail};
use hookswitch_sim::law;
use hookswitch_sim::numbered::Tally;
use std::path::Path;

/// What a caller said before the beep was over is not in the recording: so many frames at most.
pub const LEAD_FRAMES: u32 = 100;
/// What he said last may still be under way when his BYE arrives: so many frames at most.
pub const TAIL_FRAMES: u32 = 5;

/// Frames counted from recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub recordings: usize,
    pub frames: u64,
    pub missing: u64,
}

/// All of them, each of one caller who said `said[caller]` frames.
pub fn judge_all(files: &[impl AsRef<Path>], said: &[u32]) -> Verdict {
    let mut verdict = Verdict { recordings: files.len(), ..Verdict::default() };
    for file in files {
        // One that cannot be read, or is not a caller's, shows as all of its frames missing.
        let judged = judge(file.as_ref(), Some(said)).unwrap_or(Judged::LOST);
        verdict.frames += judged.frames;
        verdict.missing += judged.missing;
    }
    verdict
}

/// What a recording says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    pub frames: u64,
    /// Frames that are not there as they were said.
    pub missing: u64,
    /// Silent frames between, in whose place nothing was said: two sides are kept together by them.
    pub put_in: u64,
}

impl Judged {
    /// One that cannot be read.
    pub const LOST: Judged = Judged { frames: 0, missing: u32::MAX as u64, put_in: 0 };
}

/// Frames in a recording, and frames that are not there as they were said, of each side that it keeps apart. With `said` also those
/// before the first and after the last; without, only those between.
pub fn judge(file: &Path, said: Option<&[u32]>) -> Result<Judged> {
    judge_bytes(&std::fs::read(file)?, said).with_context(|| file.display().to_string())
}

/// The same of a file's bytes.
pub fn judge_bytes(bytes: &[u8], said: Option<&[u32]>) -> Result<Judged> {
    let (channels, samples) = samples_of(bytes)?;
    let mut judged = Judged::default();
    for channel in 0..channels {
        let side: Vec<i16> = samples.iter().skip(channel).step_by(channels).copied().collect();
        let side = side_of(&side, said)?;
        judged.frames += side.frames;
        judged.missing += side.missing;
        judged.put_in += side.put_in;
    }
    Ok(judged)
}

/// Channels and samples of a WAV file. What lies there in a law is read as u-law whichever it is: numbers are said in bytes, and a law's
/// bytes must be in the file as they were said.
fn samples_of(bytes: &[u8]) -> Result<(usize, Vec<i16>)> {
    if let Some((channels, law)) = law_of(bytes) {
        return Ok((channels, law.iter().map(|byte| law::ulaw_to_pcm(*byte)).collect()));
    }
    let mut reader = hound::WavReader::new(bytes)?;
    let channels = usize::from(reader.spec().channels);
    Ok((channels, reader.samples::<i16>().collect::<Result<_, _>>()?))
}

/// Channels and data of a file in A-law or u-law, format tags 6 and 7 (RFC 2361), which hound does not read.
fn law_of(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(8..)?;
    let mut channels = None;
    loop {
        let (head, body) = rest.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let chunk = body.get(..length)?;
        match &head[..4] {
            b"fmt " => {
                let fields = chunk.first_chunk::<4>()?;
                matches!(fields[0], 6 | 7).then_some(())?;
                channels = Some(usize::from(fields[2]));
            }
            b"data" => return Some((channels?, chunk)),
            _ => {}
        }
        // Chunks begin at even places.
        rest = body.get(length + length % 2..)?;
    }
}

fn side_of(samples: &[i16], said: Option<&[u32]>) -> Result<Judged> {
    let tally = Tally::of(samples);
    let (Some(first), Some(last)) = (tally.first, tally.last) else { bail!("no numbered frame") };
    let phone = first >> FRAME_BITS;
    if last >> FRAME_BITS != phone {
        bail!("two speakers on one side");
    }
    // A concealed frame is a number that is missing and a frame that is foreign: it counts once.
    let mut missing = tally.missing.max(tally.foreign - tally.silent) + tally.repeated + tally.disordered;
    if let Some(said) = said {
        // Even numbers are callers.
        let said = *said.get(phone as usize / 2).context("a speaker that there was not")?;
        missing += u64::from((first & FRAME_MASK).saturating_sub(LEAD_FRAMES));
        missing += u64::from(said.saturating_sub(1).saturating_sub(last & FRAME_MASK).saturating_sub(TAIL_FRAMES));
    }
    Ok(Judged { frames: tally.numbered, missing, put_in: tally.silent.saturating_sub(tally.missing) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_sim::numbered;

    fn say(phone: u32, frames: impl Iterator<Item = u32>) -> Vec<i16> {
        frames.flat_map(|frame| numbered::frame(phone << FRAME_BITS | frame)).map(law::ulaw_to_pcm).collect()
    }

    #[test]
    fn a_law_is_read_byte_by_byte() {
        let data: Vec<u8> = (0..50).flat_map(|frame| numbered::frame(4 << FRAME_BITS | frame)).collect();
        let file = |tag: u8, data: &[u8]| {
            let mut bytes = b"RIFF\0\0\0\0WAVEJUNK\x01\0\0\0xxfmt \x12\0\0\0".to_vec();
            bytes.extend_from_slice(&[tag, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0, 0, 0]);
            bytes.extend_from_slice(b"data");
            bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
            bytes.extend_from_slice(data);
            bytes
        };
        for tag in [6, 7] {
            assert_eq!(judge_bytes(&file(tag, &data), Some(&[0, 0, 50])).ok(), Some(Judged { frames: 50, ..Judged::default() }));
        }
        let mut wrong = data.clone();
        wrong[20 * 160 + 3] ^= 1;
        assert_eq!(judge_bytes(&file(6, &wrong), Some(&[0, 0, 50])).ok(), Some(Judged { frames: 49, missing: 1, put_in: 0 }));
        assert!(judge_bytes(&file(1, &data), None).is_err(), "hound does not take it for PCM of 8 bits, and neither do we");
        for cut in [0, 3, 11, 30, 60] {
            assert!(judge_bytes(&file(6, &data)[..cut], None).is_err(), "{cut}");
        }
    }

    #[test]
    fn sides_are_judged_by_what_was_said() {
        let judge = |samples: &[i16], said: &[u32]| side_of(samples, Some(said)).ok().map(|j| (j.frames, j.missing));
        assert_eq!(judge(&say(2, 30..200), &[0, 200]), Some((170, 0)));
        assert_eq!(judge(&say(2, 30..190), &[0, 200]), Some((160, 5)), "ten at the end, of which five may be under way");
        assert_eq!(judge(&say(2, 130..200), &[0, 200]), Some((70, 30)), "a lead that is too long");
        assert_eq!(judge(&say(2, (0..200).filter(|n| *n != 50)), &[0, 200]), Some((199, 1)));
        assert_eq!(judge(&[say(2, 0..10), say(4, 10..20)].concat(), &[0, 10, 20]), None);
        assert_eq!(judge(&[0; 1600], &[1]), None);
        let of = |samples: &[i16]| side_of(samples, None).ok().map(|j| (j.frames, j.missing, j.put_in));
        assert_eq!(of(&say(2, 500..600)), Some((100, 0, 0)));
        let silence = vec![0; 160];
        assert_eq!(of(&[say(2, 0..50), silence.clone(), say(2, 50..100)].concat()), Some((100, 0, 1)), "put in");
        assert_eq!(of(&[say(2, 0..50), silence.clone(), say(2, 51..100)].concat()), Some((99, 1, 0)), "in place of what was said");
        assert_eq!(of(&[say(2, 0..50), vec![77; 160], say(2, 50..100)].concat()), Some((100, 1, 0)), "something else");
    }
}
