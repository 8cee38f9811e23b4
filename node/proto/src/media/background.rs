//! Audio under whatever else plays (IC-251 to IC-254): a clip in a loop, 15 dB down while a queue plays.
//!
//! It is added to what goes out to the peer, after the recordings have had theirs: no file holds it.

use super::{Clip, Codec, FRAME, g711};
use std::time::Duration;

/// Gains as parts of 2^15: as it is, and 15 dB below that.
const FULL: i32 = 1 << 15;
const DUCKED: i32 = 5827;
/// From one to the other within a frame: an edge would click.
const STEP: i32 = (FULL - DUCKED) / FRAME as i32 + 1;

pub(super) struct Background {
    clip: Clip,
    /// Samples of the clip and of the silence after it.
    round: usize,
    /// Samples of this round that are over.
    at: usize,
    gain: i32,
}

impl Background {
    /// `None`: there is nothing to hear.
    pub fn new(clip: Clip, pause: Duration) -> Option<Box<Background>> {
        let pause = usize::try_from(pause.as_micros() / 125).unwrap_or(usize::MAX);
        let round = clip.pcmu.len().min(clip.pcma.len()).saturating_add(pause);
        (!clip.pcmu.is_empty() && !clip.pcma.is_empty()).then(|| Box::new(Background { clip, round, at: 0, gain: FULL }))
    }

    /// What goes out has no room for it (a digit, hold): it goes on unheard.
    pub fn skip(&mut self, samples: usize) {
        self.at = (self.at + samples) % self.round;
    }

    /// Adds it to what goes out next. `ducked`: something else plays. `alone`: `law` is nothing but silence.
    pub fn mix(&mut self, codec: Codec, ducked: bool, alone: bool, law: &mut [u8]) {
        let sound = match codec {
            Codec::Pcmu => &self.clip.pcmu,
            Codec::Pcma => &self.clip.pcma,
        };
        let wanted = if ducked { DUCKED } else { FULL };
        if alone && self.gain == wanted && wanted == FULL {
            let mut done = 0;
            while done < law.len() {
                let rest = sound.get(self.at..).unwrap_or(&[]);
                let left = law.len() - done;
                // Of the clip, or of the pause, which is silent already.
                let n = if rest.is_empty() { (self.round - self.at).min(left) } else { rest.len().min(left) };
                if !rest.is_empty() {
                    law[done..done + n].copy_from_slice(&rest[..n]);
                }
                done += n;
                self.at = (self.at + n) % self.round;
            }
            return;
        }
        for byte in law {
            self.gain = if self.gain < wanted { (self.gain + STEP).min(wanted) } else { (self.gain - STEP).max(wanted) };
            if let Some(under) = sound.get(self.at) {
                let under = (i32::from(g711::decode(codec, *under)) * self.gain) >> 15;
                let sum = i32::from(g711::decode(codec, *byte)) + under;
                *byte = g711::encode(codec, sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16);
            }
            self.at = (self.at + 1) % self.round;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tone::ToneSpec;

    fn level(codec: Codec, law: &[u8]) -> f64 {
        10.0 * (law.iter().map(|b| f64::from(g711::decode(codec, *b)).powi(2)).sum::<f64>() / law.len() as f64).log10()
    }

    fn hum(ms: u32) -> Clip {
        ToneSpec { hz: vec![400.0], level_dbm0: -10.0, on_ms: ms, off_ms: 0, total_ms: ms }.clip()
    }

    fn frames(background: &mut Background, codec: Codec, ducked: bool, n: usize) -> Vec<u8> {
        (0..n)
            .flat_map(|_| {
                let mut law = [g711::silence(codec); FRAME];
                background.mix(codec, ducked, !ducked, &mut law);
                law
            })
            .collect()
    }

    #[test]
    fn ic_251_252_it_goes_round_with_its_pause_byte_for_byte() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            // 50 ms and a pause of 30 ms: neither is a whole number of frames.
            let clip = hum(50);
            let sound = if codec == Codec::Pcmu { clip.pcmu.clone() } else { clip.pcma.clone() };
            let mut background = Background::new(clip, Duration::from_millis(30)).expect("it sounds");
            let heard = frames(&mut background, codec, false, 12);
            let round = [&sound[..], &[g711::silence(codec); 240]].concat();
            assert_eq!(heard, round.repeat(3));
        }
        // Without a pause nothing is between two rounds.
        let clip = hum(50);
        let mut background = Background::new(clip.clone(), Duration::ZERO).expect("it sounds");
        assert_eq!(frames(&mut background, Codec::Pcma, false, 5), clip.pcma.repeat(2));
        assert!(Background::new(Clip { pcmu: [].into(), pcma: [].into() }, Duration::from_secs(1)).is_none());
    }

    #[test]
    fn ic_254_it_is_15_db_down_while_something_plays_and_comes_back_without_an_edge() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let mut background = Background::new(hum(1000), Duration::ZERO).expect("it sounds");
            let full = frames(&mut background, codec, false, 10);
            let turn = frames(&mut background, codec, true, 1);
            let ducked = frames(&mut background, codec, true, 10);
            let back = frames(&mut background, codec, false, 1);
            let again = frames(&mut background, codec, false, 10);
            let down = level(codec, &full) - level(codec, &ducked);
            assert!((down - 15.0).abs() < 0.4, "{codec:?}: {down} dB");
            assert!((level(codec, &full) - level(codec, &again)).abs() < 0.1);
            for between in [turn, back] {
                let between = level(codec, &between);
                assert!(level(codec, &ducked) < between && between < level(codec, &full), "{codec:?}: {between}");
            }
        }
    }

    #[test]
    fn ic_254_what_plays_is_heard_above_it_and_the_loudest_does_not_wrap_round() {
        let codec = Codec::Pcma;
        let mut background = Background::new(hum(1000), Duration::ZERO).expect("it sounds");
        frames(&mut background, codec, true, 1);
        let voice = ToneSpec { hz: vec![1000.0], level_dbm0: -10.0, on_ms: 20, off_ms: 0, total_ms: 20 }.clip();
        let mut law = voice.pcma.to_vec();
        background.mix(codec, true, false, &mut law);
        assert!((level(codec, &law) - level(codec, &voice.pcma)).abs() < 0.5);
        assert_ne!(law, voice.pcma.to_vec());
        let mut loud = [g711::encode(codec, i16::MAX); FRAME];
        background.mix(codec, true, false, &mut loud);
        assert!(loud.iter().all(|b| g711::decode(codec, *b) > 20_000));
    }
}
