//! G.711 by its definition, one sample at a time. It is deliberately not the node's table: phones and tests judge the node's audio
//! with it, so the two must not share a mistake.

use hookswitch_proto::media::Codec;

/// One byte of `codec` as 16-bit linear PCM.
pub fn to_pcm(codec: Codec, byte: u8) -> i16 {
    match codec {
        Codec::Pcmu => ulaw_to_pcm(byte),
        Codec::Pcma => alaw_to_pcm(byte),
    }
}

/// ITU-T G.711 table 2a: 14-bit values, scaled to 16 bits.
pub fn ulaw_to_pcm(byte: u8) -> i16 {
    let code = !byte;
    let exponent = (code >> 4) & 7;
    let mantissa = i16::from(code & 0x0f);
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// ITU-T G.711 table 1a: 13-bit values, scaled to 16 bits.
pub fn alaw_to_pcm(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let exponent = (code >> 4) & 7;
    let mantissa = i16::from(code & 0x0f);
    let magnitude = match exponent {
        0 => (mantissa << 4) + 8,
        e => ((mantissa << 4) + 0x108) << (e - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// The u-law byte whose value is nearest to `sample`.
pub fn pcm_to_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80u8 } else { 0 };
    let magnitude = (i32::from(sample).abs()).min(32_635) + 0x84;
    let exponent = (7..15).rev().find(|bit| magnitude >> bit & 1 == 1).unwrap_or(7) - 7;
    let mantissa = u8::try_from((magnitude >> (exponent + 3)) & 0x0f).unwrap_or(0x0f);
    !(sign | u8::try_from(exponent).unwrap_or(7) << 4 | mantissa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // G.711 table 2a/2b: the two zeros, the largest values, one step above zero.
        for (byte, pcm) in [(0xff, 0), (0x7f, 0), (0x80, 32_124), (0x00, -32_124), (0xfe, 8), (0x7e, -8)] {
            assert_eq!(ulaw_to_pcm(byte), pcm, "u-law {byte:02x}");
        }
        for (byte, pcm) in [(0xd5, 8), (0x55, -8), (0xaa, 32_256), (0x2a, -32_256)] {
            assert_eq!(alaw_to_pcm(byte), pcm, "A-law {byte:02x}");
        }
    }

    #[test]
    fn ulaw_survives_pcm() {
        for byte in 0..=255u8 {
            // Minus zero has no PCM of its own: it comes back as plus zero.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(pcm_to_ulaw(ulaw_to_pcm(byte)), expected, "{byte:02x}");
        }
    }
}
