//! G.711 codes as 16-bit samples, by table.

use hookswitch_proto::media::Codec;

/// The 256 samples of a law (ITU-T G.711 tables 1a and 2a, scaled to 16 bits).
pub(super) fn table(codec: Codec) -> &'static [i16; 256] {
    static ULAW: [i16; 256] = ulaw();
    static ALAW: [i16; 256] = alaw();
    match codec {
        Codec::Pcmu => &ULAW,
        Codec::Pcma => &ALAW,
    }
}

const fn ulaw() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as u8);
        let magnitude = ((((code & 15) as i16) << 3) + 0x84 << ((code >> 4) & 7)) - 0x84;
        table[byte] = if code & 0x80 == 0 { magnitude } else { -magnitude };
        byte += 1;
    }
    table
}

const fn alaw() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as u8 ^ 0x55;
        let (exponent, mantissa) = ((code >> 4) & 7, ((code & 15) as i16) << 4);
        let magnitude = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
        table[byte] = if code & 0x80 == 0 { -magnitude } else { magnitude };
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_of_the_definition() {
        for byte in 0..=255u8 {
            for codec in [Codec::Pcmu, Codec::Pcma] {
                assert_eq!(table(codec)[usize::from(byte)], hookswitch_sim::law::to_pcm(codec, byte), "{codec:?} {byte:#x}");
            }
        }
    }
}
