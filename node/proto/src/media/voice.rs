//! Is somebody speaking? Energy against a threshold that rises with the noise around the speaker, but not above speech.

use super::tone::PEAK_0_DBM0;

/// Frames of energy before it is voice: 60 ms, so that clicks are none.
pub const ATTACK: u32 = 3;
/// Frames without energy before voice is off: the gaps within words.
const RELEASE: u32 = 10;
/// Noise is what stays above the quietest frame of the last one to two windows of this length (1.28 s).
const WINDOW: u32 = 64;
/// Voice is at least this factor (8 dB) above noise.
const ABOVE_NOISE: f32 = 6.3;
/// Noise lifts the threshold up to here, in dBm0: what is louder is sound however steady it is, a tone or music.
const LOUD: f32 = -30.0;

/// Mean square of a sine of `dbm0`.
fn power(dbm0: f32) -> f32 {
    let full = (PEAK_0_DBM0 * PEAK_0_DBM0 / 2.0) as f32;
    full * 10f32.powf(dbm0 / 10.0)
}

/// UR-025: sensitivity 0..=100, larger hears quieter sound; 44 is -40 dBm0 and each step half a decibel.
pub fn threshold(sensitivity: u8) -> f32 {
    power(-18.0 - 0.5 * f32::from(sensitivity.min(100)))
}

/// The noise under one side's voice.
pub struct Noise {
    last: f32,
    this: f32,
    frames: u32,
}

impl Noise {
    pub fn new() -> Noise {
        // As if it had been loud before: what is there from the start and never quieter is noise, unless it is loud.
        Noise { last: f32::MAX, this: f32::MAX, frames: 0 }
    }

    pub fn hear(&mut self, mean_square: f32) {
        self.this = self.this.min(mean_square);
        self.frames += 1;
        if self.frames == WINDOW {
            (self.last, self.this, self.frames) = (self.this, f32::MAX, 0);
        }
    }

    fn level(&self) -> f32 {
        self.last.min(self.this)
    }
}

/// One listener with its own sensitivity.
pub struct Detector {
    threshold: f32,
    /// How far noise may lift it.
    most: f32,
    loud: u32,
    quiet: u32,
    pub on: bool,
}

impl Detector {
    pub fn new(sensitivity: u8) -> Detector {
        let threshold = threshold(sensitivity);
        Detector { threshold, most: threshold.max(power(LOUD)), loud: 0, quiet: 0, on: false }
    }

    /// One frame; `None` where nothing was sent. Says whether it belongs to voice.
    pub fn hear(&mut self, mean_square: Option<f32>, noise: &Noise) -> bool {
        let threshold = (noise.level() * ABOVE_NOISE).clamp(self.threshold, self.most);
        if mean_square.is_some_and(|m| m > threshold) {
            self.loud = self.loud.saturating_add(1);
            self.quiet = 0;
            self.on |= self.loud >= ATTACK;
            return self.on;
        }
        self.loud = 0;
        self.quiet = self.quiet.saturating_add(1);
        self.on &= self.quiet < RELEASE;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ur_025_sensitivity_is_linear_in_decibels() {
        for (sensitivity, dbm0) in [(0, -18.0), (44, -40.0), (64, -50.0), (100, -68.0), (255, -68.0)] {
            assert!((threshold(sensitivity) / power(dbm0) - 1.0).abs() < 1e-4, "{sensitivity}");
        }
    }

    /// Frames as (dBm0, how many) and what is heard as a string of runs.
    fn hear(sensitivity: u8, frames: &[(f32, usize)]) -> Vec<(bool, usize)> {
        let (mut noise, mut detector) = (Noise::new(), Detector::new(sensitivity));
        let mut runs: Vec<(bool, usize)> = Vec::new();
        for (dbm0, n) in frames {
            for _ in 0..*n {
                noise.hear(power(*dbm0));
                detector.hear(Some(power(*dbm0)), &noise);
                match runs.last_mut() {
                    Some((on, n)) if *on == detector.on => *n += 1,
                    _ => runs.push((detector.on, 1)),
                }
            }
        }
        runs
    }

    #[test]
    fn ur_025_speech_noise_and_clicks() {
        assert_eq!(hear(44, &[(-70.0, 10), (-20.0, 20), (-70.0, 30)]), [(false, 12), (true, 27), (false, 21)]);
        assert_eq!(hear(44, &[(-70.0, 10), (-10.0, 2), (-70.0, 10)]), [(false, 22)], "a click");
        assert_eq!(hear(44, &[(-70.0, 100), (-45.0, 50)]), [(false, 150)], "below the threshold");
        assert_eq!(hear(64, &[(-70.0, 100), (-45.0, 5)]), [(false, 102), (true, 3)], "more sensitive");
        // Noise at -38 is taken for voice until it has lasted two windows; then speech 12 dB above it is still heard.
        let noisy = hear(44, &[(-70.0, 64), (-38.0, 400), (-26.0, 20), (-38.0, 100)]);
        assert_eq!(noisy.iter().map(|r| r.0).collect::<Vec<_>>(), [false, true, false, true, false]);
        assert_eq!(hear(44, &[(-12.0, 1000)]), [(false, 2), (true, 998)], "a steady tone is sound");
    }
    /// Sound as it is heard through G.711: a tone, or noise as of a line, at a level, or both; with sound in so many of 50 frames.
    struct Sound {
        random: crate::Random,
        sample: u32,
    }

    impl Sound {
        fn frame(&mut self, tone_dbm0: f32, hertz: f64, noise_dbm0: f32) -> f32 {
            let peak = (2.0 * f64::from(power(tone_dbm0))).sqrt();
            // Uniform noise of this power.
            let width = (12.0 * f64::from(power(noise_dbm0))).sqrt();
            let law: [u8; crate::media::FRAME] = std::array::from_fn(|_| {
                self.sample += 1;
                let tone = peak * (f64::from(self.sample) * std::f64::consts::TAU * hertz / 8000.0).sin();
                let noise = width * (f64::from(self.random.u32() % 10_000) / 10_000.0 - 0.5);
                crate::media::g711::encode(crate::media::Codec::Pcmu, (tone + noise) as i16)
            });
            crate::media::g711::mean_square(crate::media::Codec::Pcmu, &law)
        }
    }

    const NONE: f32 = -120.0;

    /// Frames that are heard as voice, of what is said after two seconds of the same noise alone.
    fn voiced(sensitivity: u8, noise_dbm0: f32, said: &[f32]) -> usize {
        let mut sound = Sound { random: crate::Random::new([2; 32]), sample: 0 };
        let (mut noise, mut detector) = (Noise::new(), Detector::new(sensitivity));
        let lead = [NONE; 100];
        lead.iter()
            .chain(said)
            .filter(|level| {
                let energy = sound.frame(**level, 440.0, noise_dbm0);
                noise.hear(energy);
                detector.hear(Some(energy), &noise)
            })
            .count()
    }

    /// Syllables: three frames up, two down by 20 dB, and after five of them a gap.
    fn speech(dbm0: f32) -> Vec<f32> {
        (0..150)
            .map(|n| {
                if n % 30 >= 25 {
                    NONE
                } else if n % 5 < 3 {
                    dbm0
                } else {
                    dbm0 - 20.0
                }
            })
            .collect()
    }

    #[test]
    fn ur_025_tones_at_known_levels_are_heard_from_the_threshold_on() {
        for sensitivity in [10, 24, 44, 64, 84] {
            let threshold = -18.0 - 0.5 * f32::from(sensitivity);
            assert!(voiced(sensitivity, -80.0, &[threshold + 1.5; 50]) >= 40, "{sensitivity}: 1.5 dB above");
            assert_eq!(voiced(sensitivity, -80.0, &[threshold - 1.5; 50]), 0, "{sensitivity}: 1.5 dB below");
        }
    }

    #[test]
    fn ac_023_noise_from_the_start_is_no_sound_and_speech_clearly_above_it_is() {
        for sensitivity in [24, 44, 64, 100] {
            for floor in [-75.0f32, -65.0, -55.0, -45.0, -38.0, -33.0] {
                assert_eq!(voiced(sensitivity, floor, &[NONE; 500]), 0, "{sensitivity}: noise at {floor}");
                let loud = (floor + 14.0).max(-16.0 - 0.5 * f32::from(sensitivity));
                assert!(voiced(sensitivity, floor, &speech(loud)) >= 20, "{sensitivity}: speech at {loud} over {floor}");
            }
        }
        for floor in [-55.0, -45.0, -38.0] {
            assert_eq!(voiced(100, floor, &speech(floor + 4.0)), 0, "4 dB over {floor}");
        }
    }

    #[test]
    fn ac_023_a_click_is_no_sound_and_a_key_is() {
        // 5 ms at full level are within two frames at most.
        assert_eq!(voiced(44, -65.0, &[&[-9.0, -9.0][..], &[NONE; 30], &[-9.0], &[NONE; 30]].concat()), 0);
        // A key's tones of 100 ms.
        assert_eq!(voiced(44, -65.0, &[&[NONE; 5][..], &[-9.0; 5], &[NONE; 30]].concat()), 3);
    }
}
