//! Is somebody speaking? Energy against a threshold that rises with the noise around the speaker, but not above speech.

use super::tone::PEAK_0_DBM0;

/// Frames of energy before it is voice: 60 ms, so that clicks are none.
const ATTACK: u32 = 3;
/// Frames without energy before voice is off: the gaps within words.
const RELEASE: u32 = 10;
/// Noise is what stays above the quietest frame of the last one to two windows of this length (1.28 s).
const WINDOW: u32 = 64;
/// Voice is at least this factor (8 dB) above noise.
const ABOVE_NOISE: f32 = 6.3;
/// Noise lifts the threshold by at most this factor (10 dB): a steady loud tone is still sound.
const LIFT: f32 = 10.0;

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
        Noise { last: 0.0, this: f32::MAX, frames: 0 }
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
    loud: u32,
    quiet: u32,
    pub on: bool,
}

impl Detector {
    pub fn new(sensitivity: u8) -> Detector {
        Detector { threshold: threshold(sensitivity), loud: 0, quiet: 0, on: false }
    }

    /// One frame; `None` where nothing was sent. Says whether it belongs to voice.
    pub fn hear(&mut self, mean_square: Option<f32>, noise: &Noise) -> bool {
        let threshold = self.threshold.max((noise.level() * ABOVE_NOISE).min(self.threshold * LIFT));
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
}
