//! What phones say where the recording is an encoder's: a numbered frame does not come through MP3 or Opus, a tone does. Each frame is one of
//! eight tones, which one follows from its number and from whose it is, so that a frame that is missing, doubled or another's shows: from
//! there on the tones are not those that are due. ffmpeg, which shares nothing with the node, turns the files back into samples.
//!
//! What it cannot show is one frame that was concealed by repeating its neighbour: the node's own count of those has to do.

use anyhow::{Context, Result, bail};
use hookswitch_proto::media::FRAME;
use hookswitch_sim::law;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TONES: usize = 8;
/// Whole periods in a frame, so that one follows the other without a click; well inside the band of a telephone.
const FIRST_HZ: usize = 400;
const STEP_HZ: usize = 350;
const RATE: usize = 8000;
/// A quarter of the scale: loud, and nothing clips where two meet.
const PEAK: f64 = 8000.0;
/// What is judged as one: a second. A frame less or more before it, and hardly any of its tones is the one that is due.
const PIECE: usize = 50;
/// Of a piece's tones so many must be due. Encoders blur the edges of a frame; by chance it would be one in eight.
const RIGHT: f64 = 0.8;
/// Files that one ffmpeg reads: starting it takes longer than decoding one.
const FILES: usize = 16;

/// One frame of each tone, as u-law.
pub struct Tones([[u8; FRAME]; TONES]);

impl Tones {
    pub fn new() -> Tones {
        let sample = |tone, at: usize| (PEAK * (TAU * (hertz(tone) * at % RATE) as f64 / RATE as f64).sin()) as i16;
        Tones(std::array::from_fn(|tone| std::array::from_fn(|at| law::pcm_to_ulaw(sample(tone, at)))))
    }

    pub fn frame(&self, phone: usize, number: u32) -> &[u8; FRAME] {
        &self.0[tone_of(phone, number)]
    }
}

fn hertz(tone: usize) -> usize {
    FIRST_HZ + tone * STEP_HZ
}

/// Neighbours have nothing to do with each other, neither in time nor from phone to phone.
fn tone_of(phone: usize, number: u32) -> usize {
    let mixed = (number ^ (phone as u32).wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1);
    (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d) as usize >> 13 & (TONES - 1)
}

/// The loudest of the tones in a frame (Goertzel).
fn loudest(frame: &[i16]) -> usize {
    let power = |tone: usize| {
        let twice = 2.0 * (TAU * hertz(tone) as f64 / RATE as f64).cos();
        let (last, before) = frame.iter().fold((0.0, 0.0), |(last, before), sample| (f64::from(*sample) + twice * last - before, last));
        last * last + before * before - twice * last * before
    };
    (0..TONES).max_by(|a, b| power(*a).total_cmp(&power(*b))).unwrap_or(0)
}

/// Frames of this phone in a recording that begins with one of the first `lead`, the number behind the last of them, and frames that are
/// not where they are due.
pub fn judge(samples: &[i16], phone: usize, lead: u32) -> (u64, u32, u64) {
    // Resampling may leave a few samples less or more at the end.
    let frames: Vec<usize> = samples.chunks(FRAME).filter(|frame| frame.len() > FRAME / 2).map(loudest).collect();
    let right = |first: u32, heard: &[usize]| (first..).zip(heard).filter(|(number, tone)| tone_of(phone, *number) == **tone).count();
    let first = (0..lead).max_by_key(|first| right(*first, &frames[..frames.len().min(PIECE)])).unwrap_or(0);
    let mut missing = 0;
    for (number, piece) in (first..).step_by(PIECE).zip(frames.chunks(PIECE)) {
        if (right(number, piece) as f64) < piece.len() as f64 * RIGHT {
            missing += piece.len() as u64;
        }
    }
    (frames.len() as u64, first + frames.len() as u32, missing)
}

/// The samples of each file, mono at 8 kHz.
pub fn decode(files: &[PathBuf], folder: &Path, each: &mut dyn FnMut(usize, Result<Vec<i16>>)) -> Result<()> {
    for (batch, paths) in files.chunks(FILES).enumerate() {
        let together = ffmpeg(paths, folder);
        for (at, path) in paths.iter().enumerate() {
            let samples = match &together {
                Ok(()) => read(&target(folder, at)),
                // One that cannot be read takes the others with it.
                Err(_) => ffmpeg(std::slice::from_ref(path), folder).and_then(|()| read(&target(folder, 0))),
            };
            each(batch * FILES + at, samples);
        }
    }
    Ok(())
}

fn target(folder: &Path, at: usize) -> PathBuf {
    folder.join(format!("{at}.s16"))
}

fn read(path: &Path) -> Result<Vec<i16>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
}

fn ffmpeg(files: &[PathBuf], folder: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    for file in files {
        command.arg("-i").arg(file);
    }
    for at in 0..files.len() {
        command.args(["-map", &format!("{at}:a"), "-ac", "1", "-ar", "8000", "-f", "s16le"]).arg(target(folder, at));
    }
    let output = command.stdin(Stdio::null()).output().context("ffmpeg")?;
    if !output.status.success() {
        bail!("ffmpeg: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(phone: usize, numbers: impl IntoIterator<Item = u32>) -> Vec<i16> {
        let tones = Tones::new();
        numbers.into_iter().flat_map(|number| *tones.frame(phone, number)).map(law::ulaw_to_pcm).collect()
    }

    #[test]
    fn what_is_missing_doubled_or_anothers_shows() {
        assert_eq!(judge(&say(7, 12..400), 7, 100), (388, 400, 0));
        // The lead is found, and a piece that is cut counts as one.
        assert_eq!(judge(&say(7, 0..30), 7, 100), (30, 30, 0));
        let (_, _, missing) = judge(&say(7, (0..400).filter(|n| *n != 200)), 7, 100);
        assert_eq!(missing, 199, "all pieces from where one is missing in the middle");
        let (_, _, missing) = judge(&say(7, (0..200).chain(199..400)), 7, 100);
        assert_eq!(missing, 201);
        let (frames, _, missing) = judge(&say(8, 0..400), 7, 100);
        assert_eq!(frames, missing, "somebody else's");
        assert_eq!(judge(&[], 7, 100).0, 0);
        assert!(judge(&[0; 16_000], 7, 100).2 >= 50, "silence");
    }

    #[test]
    fn a_few_samples_off_and_noise_do_not_matter() {
        let mut samples = say(3, 5..205);
        samples.drain(..6);
        samples.iter_mut().enumerate().for_each(|(n, s)| *s = s.saturating_add((n * n % 1500) as i16));
        assert_eq!(judge(&samples, 3, 100), (200, 205, 0));
    }

    #[test]
    fn all_tones_are_said_and_none_too_often() {
        let mut count = [0; TONES];
        (0..8000).for_each(|number| count[tone_of(5, number)] += 1);
        assert!(count.iter().all(|n| (800..1200).contains(n)), "{count:?}");
    }
}
