//! From a telephone's 8 kHz up to a whole multiple: a windowed sinc, one phase for each output sample between two of the input.
//! No delay and no drift: output sample `factor * n` lies where input sample `n` lay.

use std::f64::consts::PI;

/// Input samples that one output sample is made of: 6 ms. The pass band ends at 3.5 kHz, images above 4.3 kHz are 70 dB down.
const TAPS: usize = 48;
const HALF: usize = TAPS / 2;
/// Shape of the Kaiser window.
const BETA: f64 = 7.0;

/// One channel's way from 8 kHz to `factor` times that.
pub struct Upsampler {
    factor: usize,
    phases: Vec<[f32; TAPS]>,
    /// The last inputs; begins with as much silence as the filter looks back.
    history: Vec<f32>,
}

impl Upsampler {
    pub fn new(factor: usize) -> Upsampler {
        let phases = (0..factor).map(|phase| taps(phase as f64 / factor as f64)).collect();
        Upsampler { factor, phases, history: vec![0.0; HALF - 1] }
    }

    /// What comes out is `HALF` inputs behind; `end` gives the rest.
    pub fn push(&mut self, input: &[i16], out: &mut Vec<i16>) {
        if self.factor == 1 {
            out.extend_from_slice(input);
            return;
        }
        self.history.extend(input.iter().map(|sample| f32::from(*sample)));
        let ready = (self.history.len() + 1).saturating_sub(TAPS);
        for at in 0..ready {
            let window = &self.history[at..at + TAPS];
            for taps in &self.phases {
                let sum: f32 = window.iter().zip(taps).map(|(sample, tap)| sample * tap).sum();
                // `as` saturates, which is what a converter does with a peak between two samples.
                out.push(sum.round() as i16);
            }
        }
        self.history.drain(..ready);
    }

    pub fn end(&mut self, out: &mut Vec<i16>) {
        if self.factor > 1 {
            self.push(&[0; HALF], out);
        }
    }
}

/// The filter for a point `fraction` of a sample behind tap `HALF - 1`.
fn taps(fraction: f64) -> [f32; TAPS] {
    // Below half the rate by the width of the filter's slope, so that little of the image above 4 kHz is left.
    const CUT: f64 = 0.98;
    let mut taps = [0.0; TAPS];
    for (i, tap) in taps.iter_mut().enumerate() {
        let x = i as f64 - (HALF as f64 - 1.0) - fraction;
        let sinc = if x.abs() < 1e-9 { CUT } else { (PI * CUT * x).sin() / (PI * x) };
        let inside = 1.0 - (x / HALF as f64).powi(2);
        *tap = sinc * bessel(BETA * inside.max(0.0).sqrt()) / bessel(BETA);
    }
    // Each phase passes a constant unchanged: otherwise silence with an offset would hum at 8 kHz.
    let sum: f64 = taps.iter().sum();
    taps.map(|tap| (tap / sum) as f32)
}

/// The modified Bessel function of the first kind, order 0, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..32 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| 10_000.0 * (2.0 * PI * hz * i as f64 / rate).sin()).collect()
    }

    /// The tone is where it was, at its level, and nothing else is there.
    #[test]
    fn ur_012_a_tone_keeps_its_place_and_level_at_16_and_48_khz() {
        for factor in [2, 6] {
            for hz in [300.0, 1000.0, 3000.0, 3400.0] {
                let input: Vec<i16> = sine(hz, 8000.0, 1600).iter().map(|s| *s as i16).collect();
                let (mut out, mut up) = (Vec::new(), Upsampler::new(factor));
                // In pieces: their edges may not be heard.
                input.chunks(37).for_each(|piece| up.push(piece, &mut out));
                up.end(&mut out);
                assert_eq!(out.len(), input.len() * factor);
                let expected = sine(hz, 8000.0 * factor as f64, out.len());
                let middle = 200 * factor..out.len() - 200 * factor;
                let noise: f64 = middle.clone().map(|i| (f64::from(out[i]) - expected[i]).powi(2)).sum();
                let signal: f64 = middle.map(|i| expected[i].powi(2)).sum();
                let db = 10.0 * (signal / noise).log10();
                assert!(db > 45.0, "{hz} Hz, factor {factor}: {db:.1} dB");
            }
        }
    }

    #[test]
    fn silence_and_offsets_stay_what_they_are_and_peaks_do_not_wrap() {
        for level in [0, 100, i16::MAX, i16::MIN] {
            let (mut out, mut up) = (Vec::new(), Upsampler::new(6));
            up.push(&[level; 400], &mut out);
            assert!(out[6 * 40..6 * 300].iter().all(|s| (i32::from(*s) - i32::from(level)).abs() <= 1), "{level}");
        }
        let (mut out, mut up) = (Vec::new(), Upsampler::new(1));
        up.push(&[1, 2, 3], &mut out);
        up.end(&mut out);
        assert_eq!(out, [1, 2, 3]);
    }
}
