//! G.711: both laws to and from 16-bit linear, from each other, and the silence byte of each.

use super::{Codec, FRAME};

/// The smallest positive value of each law: what "nothing" sounds like.
pub const fn silence(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0xff,
        Codec::Pcma => 0xd5,
    }
}

pub fn decode(codec: Codec, law: u8) -> i16 {
    linear(codec)[law as usize]
}

pub fn encode(codec: Codec, linear: i16) -> u8 {
    match codec {
        Codec::Pcmu => linear_to_ulaw(linear),
        Codec::Pcma => linear_to_alaw(linear),
    }
}

/// Law bytes as 16-bit linear, behind what is there.
pub fn decode_all(codec: Codec, law: &[u8], out: &mut Vec<i16>) {
    let table = linear(codec);
    out.extend(law.iter().map(|b| table[*b as usize]));
}

/// The same as they lie in a file: little-endian bytes.
pub fn decode_bytes(codec: Codec, law: &[u8], out: &mut Vec<u8>) {
    let table = linear(codec);
    let at = out.len();
    // Room first: one byte after the other would look for it each time.
    out.resize(at + 2 * law.len(), 0);
    for (two, b) in out[at..].as_chunks_mut::<2>().0.iter_mut().zip(law) {
        *two = table[*b as usize].to_le_bytes();
    }
}

fn linear(codec: Codec) -> &'static [i16; 256] {
    match codec {
        Codec::Pcmu => &ULAW,
        Codec::Pcma => &ALAW,
    }
}

/// Copies law bytes, from one law into the other where they differ. The shorter slice rules.
pub fn copy(to: Codec, out: &mut [u8], from: Codec, law: &[u8]) {
    let table = match (from, to) {
        (Codec::Pcmu, Codec::Pcma) => &ULAW_TO_ALAW,
        (Codec::Pcma, Codec::Pcmu) => &ALAW_TO_ULAW,
        _ => {
            let n = out.len().min(law.len());
            out[..n].copy_from_slice(&law[..n]);
            return;
        }
    };
    for (o, l) in out.iter_mut().zip(law) {
        *o = table[*l as usize];
    }
}

/// Turns bytes of one law into the other, in place.
pub fn recode(from: Codec, to: Codec, law: &mut [u8]) {
    let table = match (from, to) {
        (Codec::Pcmu, Codec::Pcma) => &ULAW_TO_ALAW,
        (Codec::Pcma, Codec::Pcmu) => &ALAW_TO_ULAW,
        _ => return,
    };
    law.iter_mut().for_each(|l| *l = table[*l as usize]);
}

/// Mean square of a frame on the 16-bit scale.
pub fn mean_square(codec: Codec, law: &[u8; FRAME]) -> f32 {
    let table = match codec {
        Codec::Pcmu => &ULAW_SQUARE,
        Codec::Pcma => &ALAW_SQUARE,
    };
    // Squares are kept divided by 64, so that a frame's sum fits 32 bits: 160 * 32256^2 / 64 < 2^32.
    let sum: u32 = law.iter().map(|b| table[*b as usize]).sum();
    sum as f32 * (64.0 / FRAME as f32)
}

static ULAW: [i16; 256] = decoded(true);
static ALAW: [i16; 256] = decoded(false);
static ULAW_TO_ALAW: [u8; 256] = crossed(true);
static ALAW_TO_ULAW: [u8; 256] = crossed(false);
static ULAW_SQUARE: [u32; 256] = squares(&decoded(true));
static ALAW_SQUARE: [u32; 256] = squares(&decoded(false));

const fn decoded(ulaw: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = if ulaw { ulaw_to_linear(i as u8) } else { alaw_to_linear(i as u8) };
        i += 1;
    }
    table
}

const fn crossed(ulaw: bool) -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = if ulaw { linear_to_alaw(ulaw_to_linear(i as u8)) } else { linear_to_ulaw(alaw_to_linear(i as u8)) };
        i += 1;
    }
    table
}

const fn squares(linear: &[i16; 256]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let x = linear[i] as i32;
        table[i] = ((x * x) as u32) >> 6;
        i += 1;
    }
    table
}

const fn ulaw_to_linear(law: u8) -> i16 {
    let law = !law;
    let magnitude = ((((law & 0x0f) as i32) << 3) + 0x84) << ((law & 0x70) >> 4);
    (if law & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }) as i16
}

const fn linear_to_ulaw(linear: i16) -> u8 {
    let sign = if linear < 0 { 0x80 } else { 0 };
    let mut magnitude = (linear as i32).abs();
    if magnitude > 32_635 {
        magnitude = 32_635;
    }
    magnitude += 0x84;
    let segment = 24 - magnitude.leading_zeros();
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

const fn alaw_to_linear(law: u8) -> i16 {
    let law = law ^ 0x55;
    let segment = (law & 0x70) >> 4;
    let step = ((law & 0x0f) as i32) << 4;
    let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
    (if law & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

const fn linear_to_alaw(linear: i16) -> u8 {
    let linear = (linear as i32) >> 3;
    let (mask, magnitude) = if linear >= 0 { (0xd5, linear) } else { (0x55, -linear - 1) };
    let segment = if magnitude < 32 { 0 } else { 27 - (magnitude as u32).leading_zeros() };
    let step = if segment < 2 { magnitude >> 1 } else { magnitude >> segment } & 0x0f;
    ((segment << 4) as u8 | step as u8) ^ mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_are_as_each_alone() {
        let law: Vec<u8> = (0..=255).collect();
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let (mut linear, mut bytes) = (vec![7], vec![1, 2, 3]);
            decode_all(codec, &law, &mut linear);
            decode_bytes(codec, &law, &mut bytes);
            let each: Vec<i16> = law.iter().map(|b| decode(codec, *b)).collect();
            assert_eq!(linear, [&[7], each.as_slice()].concat());
            assert_eq!(bytes, [vec![1, 2, 3], each.iter().flat_map(|s| s.to_le_bytes()).collect()].concat());
        }
    }

    #[test]
    fn known_values() {
        // G.711 tables 1a and 2a, scaled to 16 bits.
        for (codec, law, linear) in [
            (Codec::Pcmu, 0xff, 0),
            (Codec::Pcmu, 0x7f, 0),
            (Codec::Pcmu, 0x80, 32124),
            (Codec::Pcmu, 0x00, -32124),
            (Codec::Pcmu, 0xfe, 8),
            (Codec::Pcma, 0xd5, 8),
            (Codec::Pcma, 0x55, -8),
            (Codec::Pcma, 0xaa, 32256),
            (Codec::Pcma, 0x2a, -32256),
        ] {
            assert_eq!(decode(codec, law), linear, "{codec:?} {law:#x}");
        }
    }

    #[test]
    fn encode_undoes_decode() {
        for law in 0..=255u8 {
            assert_eq!(encode(Codec::Pcma, decode(Codec::Pcma, law)), law);
            // u-law has a negative zero, which linear has not.
            let want = if law == 0x7f { 0xff } else { law };
            assert_eq!(encode(Codec::Pcmu, decode(Codec::Pcmu, law)), want);
        }
    }

    #[test]
    fn encoding_is_the_nearest_or_a_neighbour_and_never_overflows() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for linear in i16::MIN..=i16::MAX {
                let back = i32::from(decode(codec, encode(codec, linear)));
                let limit = (i32::from(linear).abs() / 16).max(16) + if i32::from(linear).abs() > 32_256 { 700 } else { 0 };
                assert!((back - i32::from(linear)).abs() <= limit, "{codec:?} {linear} {back}");
            }
        }
    }

    #[test]
    fn laws_cross_over() {
        let mut there = [0; 3];
        copy(Codec::Pcma, &mut there, Codec::Pcmu, &[0xff, 0x80, 0x00]);
        assert_eq!(there, [0xd5, 0xaa, 0x2a]);
        let mut back = [0; 3];
        copy(Codec::Pcmu, &mut back, Codec::Pcma, &there);
        assert_eq!(back[1..], [0x80, 0x00]);
    }

    #[test]
    fn energy_of_full_scale_and_of_silence() {
        assert_eq!(mean_square(Codec::Pcmu, &[0xff; FRAME]), 0.0);
        let loud = mean_square(Codec::Pcma, &[0xaa; FRAME]);
        assert!((loud.sqrt() - 32256.0).abs() < 1.0, "{loud}");
    }
}
