//! What two parties say, as one sound: for a leg that listens to both and is heard by neither (IC-189).
//!
//! Each side comes by its own clock and network, so that each has a short line of its own: a hole in one is no hole in the other.

use super::player::Echo;
use super::{Codec, FRAME, LegId, g711};

pub(super) struct Mixer {
    sides: [(Option<LegId>, Echo); 2],
}

impl Mixer {
    /// `None`: nobody is to be heard.
    pub fn new(to: [Option<LegId>; 2]) -> Option<Box<Mixer>> {
        to.iter().any(Option::is_some).then(|| Box::new(Mixer { sides: to.map(|of| (of, Echo::new())) }))
    }

    /// A frame that this party said.
    pub fn put(&mut self, of: LegId, codec: Codec, law: &[u8; FRAME]) {
        for (side, line) in &mut self.sides {
            if *side == Some(of) {
                line.put(law, codec);
            }
        }
    }

    /// The next frame. Where only one speaks it is his, byte for byte as the codecs allow. True: somebody speaks.
    pub fn take(&mut self, codec: Codec, out: &mut [u8; FRAME]) -> bool {
        let silence = g711::silence(codec);
        let mut other = [silence; FRAME];
        let [(_, first), (_, second)] = &mut self.sides;
        first.take(codec, out);
        second.take(codec, &mut other);
        for (a, b) in out.iter_mut().zip(other) {
            if *a == silence {
                *a = b;
            } else if b != silence {
                let sum = i32::from(g711::decode(codec, *a)) + i32::from(g711::decode(codec, b));
                *a = g711::encode(codec, sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16);
            }
        }
        out.iter().any(|byte| *byte != silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tone::ToneSpec;

    const A: LegId = LegId(1);
    const B: LegId = LegId(2);

    fn tone(hz: f32, codec: Codec) -> [u8; FRAME] {
        let clip = ToneSpec { hz: vec![hz], level_dbm0: -10.0, on_ms: 20, off_ms: 0, total_ms: 20 }.clip();
        let law = if codec == Codec::Pcmu { &clip.pcmu } else { &clip.pcma };
        law[..].try_into().expect("20 ms")
    }

    #[test]
    fn ic_189_one_voice_passes_untouched_and_two_are_added() {
        let mut mixer = Mixer::new([Some(A), Some(B)]).expect("there are two");
        let (a, b) = (tone(500.0, Codec::Pcmu), tone(800.0, Codec::Pcma));
        let mut out = [0; FRAME];
        assert!(!mixer.take(Codec::Pcmu, &mut out), "nobody has said anything");
        assert_eq!(out, [g711::silence(Codec::Pcmu); FRAME]);
        for _ in 0..4 {
            mixer.put(A, Codec::Pcmu, &a);
        }
        mixer.put(LegId(3), Codec::Pcmu, &b);
        assert!(mixer.take(Codec::Pcmu, &mut out));
        assert_eq!(out, a);
        for _ in 0..4 {
            mixer.put(B, Codec::Pcma, &b);
        }
        assert!(mixer.take(Codec::Pcmu, &mut out));
        let linear = |codec, law: u8| i32::from(g711::decode(codec, law));
        for (i, mixed) in out.iter().enumerate() {
            let sum = linear(Codec::Pcmu, a[i]) + linear(Codec::Pcma, b[i]);
            // A step of either law at this level.
            assert!((linear(Codec::Pcmu, *mixed) - sum).abs() <= 512, "{i}: {} and not {sum}", linear(Codec::Pcmu, *mixed));
        }
        assert!(Mixer::new([None, None]).is_none());
    }

    /// Silence in A-law is a step above silence in u-law.
    #[test]
    fn ic_189_who_is_silent_in_another_codec_adds_nothing() {
        let mut mixer = Mixer::new([Some(A), Some(B)]).expect("there are two");
        let (voice, silence) = (tone(500.0, Codec::Pcmu), [g711::silence(Codec::Pcma); FRAME]);
        for _ in 0..4 {
            mixer.put(A, Codec::Pcmu, &voice);
            mixer.put(B, Codec::Pcma, &silence);
        }
        let mut out = [0; FRAME];
        for _ in 0..4 {
            assert!(mixer.take(Codec::Pcmu, &mut out));
            assert_eq!(out, voice);
        }
        for _ in 0..4 {
            mixer.put(B, Codec::Pcma, &silence);
        }
        assert!(!mixer.take(Codec::Pcmu, &mut out), "nobody speaks");
    }

    #[test]
    fn ic_189_the_loudest_do_not_wrap_round() {
        let mut mixer = Mixer::new([Some(A), Some(B)]).expect("there are two");
        let loud = [g711::encode(Codec::Pcma, i16::MAX); FRAME];
        for of in [A, B, A, B] {
            mixer.put(of, Codec::Pcma, &loud);
        }
        let mut out = [0; FRAME];
        assert!(mixer.take(Codec::Pcma, &mut out));
        assert!(out.iter().all(|byte| g711::decode(Codec::Pcma, *byte) > 20_000));
    }
}
