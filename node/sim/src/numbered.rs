//! Numbered audio: every 20 ms frame of u-law carries its own number, so that what is missing, doubled or concealed in a recording is
//! counted from the recorded samples, never from the counters of the node under test.
//!
//! A frame is 160 bytes: preamble, then number and check as base-16 symbols, repeated to the end of the frame so that it is loud and
//! the same all over. All symbols are u-law codes that survive u-law -> PCM16 -> u-law exactly. It holds through a G.711 path that
//! does not transcode, and through nothing else; that is what makes it a proof.

use crate::law;
use hookswitch_proto::media::FRAME;

const PREAMBLE: [u8; 4] = [0x90, 0x10, 0x91, 0x11];
/// Symbol `n` of the alphabet: loud enough for every voice detector, none of them in the preamble, alternating in sign by position.
const SYMBOLS: [u8; 16] = [0xa0, 0xa2, 0xa4, 0xa6, 0xa8, 0xaa, 0xac, 0xae, 0xb0, 0xb2, 0xb4, 0xb6, 0xb8, 0xba, 0xbc, 0xbe];
/// Hex digits of the number, then of the check.
const DIGITS: usize = 8;
const CHECKS: usize = 4;
const UNIT: usize = PREAMBLE.len() + DIGITS + CHECKS;

fn check(number: u32) -> u32 {
    // Multiplicative hash: neighbouring numbers differ in about half the check's bits.
    number.wrapping_mul(0x9e37_79b1) >> 16
}

fn unit(number: u32) -> [u8; UNIT] {
    let mut out = [0; UNIT];
    let digits = (0..DIGITS).map(|i| number >> (4 * i) & 15);
    let checks = (0..CHECKS).map(|i| check(number) >> (4 * i) & 15);
    let symbols = digits.chain(checks).enumerate().map(|(i, digit)| {
        let flip = if i % 2 == 0 { 0 } else { 0x80 };
        SYMBOLS[digit as usize] ^ flip
    });
    for (slot, byte) in out.iter_mut().zip(PREAMBLE.into_iter().chain(symbols)) {
        *slot = byte;
    }
    out
}

/// The u-law frame that says `number`.
pub fn frame(number: u32) -> [u8; FRAME] {
    let unit = unit(number);
    let mut out = [0; FRAME];
    for chunk in out.chunks_mut(UNIT) {
        chunk.copy_from_slice(&unit[..chunk.len()]);
    }
    out
}

/// Frames `0..frames` as PCM16, for a WAV file to play in.
pub fn pcm(frames: u32) -> Vec<i16> {
    (0..frames).flat_map(frame).map(law::ulaw_to_pcm).collect()
}

/// What a frame of recorded samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Number(u32),
    /// All samples (nearly) zero.
    Silence,
    /// Something else: concealed, damaged, mixed or another sound.
    Other,
}

/// Reads one frame; `samples` is 160 long, as recorded.
pub fn read(samples: &[i16]) -> Heard {
    if samples.iter().all(|s| s.unsigned_abs() <= 8) {
        return Heard::Silence;
    }
    let number = samples.get(PREAMBLE.len()..PREAMBLE.len() + DIGITS).and_then(|digits| {
        digits.iter().enumerate().try_fold(0u32, |number, (i, sample)| {
            let flip = if i % 2 == 0 { 0 } else { 0x80 };
            let byte = law::pcm_to_ulaw(*sample) ^ flip;
            let digit = SYMBOLS.iter().position(|s| *s == byte)?;
            Some(number | u32::try_from(digit).ok()? << (4 * i))
        })
    });
    match number {
        // Byte-exact over the whole frame, or it does not count.
        Some(number) if samples.len() == FRAME && frame(number).iter().zip(samples).all(|(b, s)| law::ulaw_to_pcm(*b) == *s) => {
            Heard::Number(number)
        }
        _ => Heard::Other,
    }
}

/// The number that a u-law payload says. Byte-exact over the whole frame, or it does not count.
pub fn read_law(payload: &[u8]) -> Option<u32> {
    let digits = payload.get(PREAMBLE.len()..PREAMBLE.len() + DIGITS)?;
    let number = digits.iter().enumerate().try_fold(0u32, |number, (i, byte)| {
        let flip = if i % 2 == 0 { 0 } else { 0x80 };
        // Symbol n is 0xa0 + 2n: what is odd or out of range finds no place in the alphabet, or fails the comparison below.
        let digit = u32::from((byte ^ flip).wrapping_sub(SYMBOLS[0]) / 2);
        (digit < 16).then_some(number | digit << (4 * i))
    })?;
    (payload == frame(number)).then_some(number)
}

/// What a whole recording holds, by its own samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames in the recording from the first numbered one to the last.
    pub frames: u64,
    pub numbered: u64,
    pub first: Option<u32>,
    pub last: Option<u32>,
    /// Numbers between first and last that never came.
    pub missing: u64,
    /// Numbers that came again.
    pub repeated: u64,
    /// Numbers that came after a higher one.
    pub disordered: u64,
    /// Frames between first and last that are silence or something else: concealed or damaged.
    pub foreign: u64,
    /// Those of them that are silence.
    pub silent: u64,
    /// Samples before the first numbered frame, and after the last.
    pub lead: usize,
    pub tail: usize,
}

impl Tally {
    /// Nothing between the first and last number is missing, repeated, out of order or damaged.
    pub fn whole(&self) -> bool {
        self.numbered > 0 && self.missing == 0 && self.repeated == 0 && self.disordered == 0 && self.foreign == 0
    }

    /// Counts `samples` (mono, 8 kHz). The numbered part may begin anywhere; from there on it is read frame by frame.
    pub fn of(samples: &[i16]) -> Tally {
        let Some(lead) =
            (0..samples.len().saturating_sub(FRAME - 1)).find(|at| matches!(read(&samples[*at..*at + FRAME]), Heard::Number(_)))
        else {
            return Tally { lead: samples.len(), ..Tally::default() };
        };
        let heard: Vec<Heard> = samples[lead..].chunks_exact(FRAME).map(read).collect();
        let end = heard.iter().rposition(|h| matches!(h, Heard::Number(_))).map_or(0, |last| last + 1);
        let mut tally = Tally { frames: end as u64, lead, tail: samples.len() - lead - end * FRAME, ..Tally::default() };
        let mut numbers = Vec::with_capacity(end);
        for heard in &heard[..end] {
            match heard {
                Heard::Number(n) => {
                    if numbers.last().is_some_and(|last| n < last) {
                        tally.disordered += 1;
                    }
                    numbers.push(*n);
                }
                Heard::Silence => (tally.foreign, tally.silent) = (tally.foreign + 1, tally.silent + 1),
                Heard::Other => tally.foreign += 1,
            }
        }
        tally.numbered = numbers.len() as u64;
        tally.first = numbers.first().copied();
        tally.last = numbers.last().copied();
        numbers.sort_unstable();
        for pair in numbers.windows(2) {
            match pair[1] - pair[0] {
                0 => tally.repeated += 1,
                step => tally.missing += u64::from(step) - 1,
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_says_its_number() {
        for number in [0, 1, 15, 16, 255, 4095, 65_535, 1 << 20, u32::MAX] {
            let samples: Vec<i16> = frame(number).iter().map(|b| law::ulaw_to_pcm(*b)).collect();
            assert_eq!(read(&samples), Heard::Number(number));
            assert_eq!(read_law(&frame(number)), Some(number));
        }
    }

    #[test]
    fn a_payload_with_a_changed_byte_says_nothing() {
        for at in 0..FRAME {
            let mut payload = frame(77);
            payload[at] ^= 1;
            assert_eq!(read_law(&payload), None, "byte {at}");
        }
        assert_eq!(read_law(&[0xff; FRAME]), None);
        assert_eq!(read_law(&frame(77)[..FRAME - 1]), None);
        assert_eq!(read_law(&[]), None);
    }

    #[test]
    fn a_changed_sample_does_not_count() {
        let mut samples = pcm(1);
        samples[150] += 4;
        assert_eq!(read(&samples), Heard::Other);
        assert_eq!(read(&[0; FRAME]), Heard::Silence);
        assert_eq!(read(&pcm(1)[..100]), Heard::Other);
    }

    #[test]
    fn tallies() {
        let whole = pcm(50);
        let tally = |samples: &[i16]| Tally::of(samples);
        assert!(tally(&whole).whole());
        assert_eq!((tally(&whole).first, tally(&whole).last, tally(&whole).frames), (Some(0), Some(49), 50));

        // 37 samples of something before, a frame of silence after.
        let shifted: Vec<i16> = [vec![900; 37], whole.clone(), vec![0; FRAME]].concat();
        let t = tally(&shifted);
        assert!(t.whole());
        assert_eq!((t.lead, t.tail), (37, FRAME));

        let lost: Vec<i16> = [&whole[..10 * FRAME], &whole[12 * FRAME..]].concat();
        assert_eq!((tally(&lost).missing, tally(&lost).frames), (2, 48));

        let concealed: Vec<i16> = [&whole[..10 * FRAME], &[0; FRAME], &whole[11 * FRAME..]].concat();
        assert_eq!((tally(&concealed).missing, tally(&concealed).foreign), (1, 1));

        let twice: Vec<i16> = [&whole[..10 * FRAME], &whole[9 * FRAME..]].concat();
        assert_eq!((tally(&twice).repeated, tally(&twice).disordered), (1, 0));

        let swapped: Vec<i16> = [&whole[..FRAME], &whole[2 * FRAME..3 * FRAME], &whole[FRAME..2 * FRAME], &whole[3 * FRAME..]].concat();
        assert_eq!((tally(&swapped).disordered, tally(&swapped).missing), (1, 0));

        assert!(!tally(&[]).whole());
        assert_eq!(tally(&[5; 3]).lead, 3);
    }
}
