//! The recorder warning tone (UR-028): what whoever is recorded hears from the beginning on and again and again.
//!
//! 1400 Hz for 200 ms every 15 s, as telephone administrations have asked of recorders (47 CFR 64.501 and the tariffs before it). It is
//! added to what goes out to the peer, after the recordings have had theirs: nobody's words are cut out of a conversation, and the file holds
//! what was said and not our tone.

use super::{Codec, g711, tone::PEAK_0_DBM0};
use crate::time::Time;
use std::f64::consts::TAU;
use std::time::Duration;

const HZ: f64 = 1400.0;
/// As loud as a voice usually is on a line: heard over speech, and not hiding it.
const LEVEL_DBM0: f64 = -20.0;
/// Samples of 200 ms.
const LENGTH: usize = 1600;
const EVERY: Duration = Duration::from_secs(15);
/// 7 periods of 1400 Hz are 40 samples of 8 kHz: the whole tone is this often repeated.
const PERIOD: usize = 40;
/// Samples of fading at both ends: an edge would click.
const EDGE: usize = 16;

pub(super) struct Warning {
    wave: [i16; PERIOD],
    /// When the next one begins.
    due: Time,
    /// Samples of the tone that have gone out; `None`: none sounds.
    sounded: Option<usize>,
}

impl Warning {
    /// The first tone sounds at once.
    pub fn new(now: Time) -> Warning {
        let peak = PEAK_0_DBM0 * 10f64.powf(LEVEL_DBM0 / 20.0);
        let wave = std::array::from_fn(|n| (peak * (TAU * HZ * n as f64 / 8000.0).sin()).round() as i16);
        Warning { wave, due: now, sounded: None }
    }

    /// Once a tick, before anything goes out. One that is late by a whole turn (a hold, a thread that stood still) is not made up for.
    pub fn tick(&mut self, now: Time) {
        if now >= self.due {
            self.sounded = Some(0);
            self.due += EVERY;
            if now >= self.due {
                self.due = now + EVERY;
            }
        }
    }

    pub fn sounds(&self) -> bool {
        self.sounded.is_some()
    }

    /// Adds the tone to what goes out next. What does not go out (a digit, hold) is waited for.
    pub fn mix(&mut self, codec: Codec, law: &mut [u8]) {
        let Some(from) = self.sounded else { return };
        for (at, byte) in law.iter_mut().enumerate().map(|(n, byte)| (from + n, byte)).take_while(|(at, _)| *at < LENGTH) {
            let edge = at.min(LENGTH - 1 - at).min(EDGE) as i32;
            let tone = i32::from(self.wave[at % PERIOD]) * edge / EDGE as i32;
            let sum = i32::from(g711::decode(codec, *byte)) + tone;
            *byte = g711::encode(codec, sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16);
        }
        let until = from + law.len();
        self.sounded = (until < LENGTH).then_some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{FRAME, FRAME_TIME};

    /// Mean power relative to a sine of 0 dBm0, and that of one frequency.
    fn levels(samples: &[i16], hz: f64) -> (f64, f64) {
        let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
        for (n, s) in samples.iter().enumerate() {
            let (s, turn) = (f64::from(*s), TAU * hz * n as f64 / 8000.0);
            (re, im, all) = (re + s * turn.cos(), im + s * turn.sin(), all + s * s);
        }
        let n = samples.len() as f64;
        let whole = 10.0 * (all / n / (PEAK_0_DBM0 * PEAK_0_DBM0 / 2.0)).log10();
        (whole, 20.0 * (re.hypot(im) * 2.0 / n / PEAK_0_DBM0).log10())
    }

    #[test]
    fn ur_028_the_warning_tone_is_1400_hz_for_200_ms_every_15_s() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let start = Time(7);
            let mut warning = Warning::new(start);
            let (mut loud, mut samples) = (Vec::new(), Vec::new());
            for n in 0..1600u32 {
                warning.tick(start + Duration::from_millis(20) * n);
                let silence = g711::silence(codec);
                let mut law = [silence; FRAME];
                warning.mix(codec, &mut law);
                assert_eq!(law.iter().any(|b| *b != silence), warning.sounds() || n % 750 == 9, "{n}");
                if law.iter().any(|b| *b != silence) {
                    loud.push(n);
                    samples.extend(law.iter().map(|b| g711::decode(codec, *b)));
                }
            }
            let expected: Vec<u32> = [0, 750, 1500].into_iter().flat_map(|first| first..first + 10).collect();
            assert_eq!(loud, expected);
            for tone in samples.chunks_exact(LENGTH) {
                let (whole, at) = levels(&tone[80..1520], HZ);
                assert!((whole - LEVEL_DBM0).abs() < 0.2 && (at - LEVEL_DBM0).abs() < 0.2, "{whole} {at}");
                assert!(tone[0].unsigned_abs() < 100, "it does not click");
            }
        }
    }

    #[test]
    fn ur_028_what_is_said_is_still_there_under_the_tone() {
        let voice: Vec<i16> = (0..LENGTH).map(|n| (8000.0 * (TAU * 700.0 * n as f64 / 8000.0).sin()) as i16).collect();
        let mut warning = Warning::new(Time::ZERO);
        warning.tick(Time::ZERO);
        let mut law: Vec<u8> = voice.iter().map(|s| g711::encode(Codec::Pcma, *s)).collect();
        // In packets of any length.
        let (head, tail) = law.split_at_mut(240);
        warning.mix(Codec::Pcma, head);
        warning.mix(Codec::Pcma, tail);
        assert!(!warning.sounds());
        let mixed: Vec<i16> = law.iter().map(|b| g711::decode(Codec::Pcma, *b)).collect();
        let said = 20.0 * (8000.0 / PEAK_0_DBM0).log10();
        assert!((levels(&mixed[80..1520], 700.0).1 - said).abs() < 0.2);
        assert!((levels(&mixed[80..1520], HZ).1 - LEVEL_DBM0).abs() < 0.3);
        // The loudest there is does not wrap round.
        let mut warning = Warning::new(Time::ZERO);
        warning.tick(Time::ZERO);
        let mut law = [g711::encode(Codec::Pcmu, i16::MAX); FRAME];
        warning.mix(Codec::Pcmu, &mut law);
        assert!(law.iter().all(|b| g711::decode(Codec::Pcmu, *b) > 20_000));
    }

    #[test]
    fn ur_028_a_clock_that_jumps_gets_one_tone_and_not_many() {
        let mut warning = Warning::new(Time::ZERO);
        warning.tick(Time::ZERO);
        warning.mix(Codec::Pcmu, &mut [0; LENGTH]);
        let late = Time::ZERO + EVERY * 10;
        warning.tick(late);
        assert!(warning.sounds());
        warning.mix(Codec::Pcmu, &mut [0; LENGTH]);
        warning.tick(late + FRAME_TIME);
        assert!(!warning.sounds());
    }
}
