//! Tones and encoding: sine sums with cadence and level, PCM at any rate to a [`Clip`]. Not on the tick: prompts are made once.

use super::{Clip, Codec, g711};
use std::f64::consts::{PI, TAU};

/// Longest tone that is made (10 minutes): two laws of it are 10 MB. More is cut.
pub const TONE_MS: u32 = 600_000;
/// Peak of a sine of 0 dBm0 on the 16-bit scale: G.711 overloads at 3.17 dBm0 (u-law, 32124) and 3.14 dBm0 (A-law, 32256).
pub const PEAK_0_DBM0: f64 = 22_300.0;

/// A call-progress or test tone: the sum of `hz`, `on` for so long, then `off`, for `total`.
#[derive(Clone, Debug, PartialEq)]
pub struct ToneSpec {
    pub hz: Vec<f32>,
    /// Of the whole sum; its parts share it equally.
    pub level_dbm0: f32,
    pub on_ms: u32,
    /// Zero: no pause.
    pub off_ms: u32,
    /// Zero: once on and off.
    pub total_ms: u32,
}

impl ToneSpec {
    pub fn clip(&self) -> Clip {
        Clip::from_linear(&self.linear())
    }

    /// The tone as 8 kHz PCM.
    pub fn linear(&self) -> Vec<i16> {
        let (on, off) = (self.on_ms.min(TONE_MS), self.off_ms.min(TONE_MS));
        let total = if self.total_ms == 0 { on.saturating_add(off) } else { self.total_ms }.min(TONE_MS) as usize * 8;
        let (on, period) = if off == 0 { (total, total) } else { (on as usize * 8, (on as usize + off as usize) * 8) };
        let level = if self.level_dbm0.is_finite() { f64::from(self.level_dbm0).min(3.0) } else { -12.0 };
        let peak = PEAK_0_DBM0 * 10f64.powf(level / 20.0) / (self.hz.len().max(1) as f64).sqrt();
        let steps: Vec<f64> = self.hz.iter().filter(|f| f.is_finite()).map(|f| TAU * f64::from(*f) / 8000.0).collect();
        (0..total)
            .map(|n| {
                let n = n % period.max(1);
                if n >= on {
                    return 0;
                }
                // 2 ms of fading at both ends, inside the tone: an edge would click.
                let edge = (n.min(on - 1 - n) as f64 / 16.0).min(1.0);
                let sum: f64 = steps.iter().map(|step| (step * n as f64).sin()).sum();
                (peak * edge * sum).round() as i16
            })
            .collect()
    }

    /// The two tones of a DTMF digit (Q.23) for so long; `None` when it is none of the sixteen.
    pub fn dtmf(digit: char, ms: u32, level_dbm0: f32) -> Option<ToneSpec> {
        let (low, high) = dtmf_hz(digit)?;
        Some(ToneSpec { hz: vec![low, high], level_dbm0, on_ms: ms, off_ms: 0, total_ms: ms })
    }
}

/// Q.23: row and column frequency of a digit.
pub fn dtmf_hz(digit: char) -> Option<(f32, f32)> {
    let at = "123A456B789C*0#D".find(digit.to_ascii_uppercase())?;
    Some(([697.0, 770.0, 852.0, 941.0][at / 4], [1209.0, 1336.0, 1477.0, 1633.0][at % 4]))
}

impl Clip {
    /// 8 kHz mono PCM in both laws.
    pub fn from_linear(samples: &[i16]) -> Clip {
        let encode = |codec| samples.iter().map(|s| g711::encode(codec, *s)).collect();
        Clip { pcmu: encode(Codec::Pcmu), pcma: encode(Codec::Pcma) }
    }
}

/// Mono PCM at any rate to a clip at 8 kHz (resampled with a polyphase FIR). A rate of zero gives an empty clip.
pub fn clip_from_pcm(samples: &[i16], rate: u32) -> Clip {
    match rate {
        8000 => Clip::from_linear(samples),
        0 => Clip::from_linear(&[]),
        _ => Clip::from_linear(&resample(samples, rate)),
    }
}

/// Windowed-sinc resampling to 8 kHz. Pass band to 3.6 kHz, images and aliases below -60 dB from 4.2 kHz on.
fn resample(samples: &[i16], rate: u32) -> Vec<i16> {
    let divisor = gcd(8000, rate);
    let (up, down) = (u64::from(8000 / divisor), u64::from(rate / divisor));
    // Odd rates would want thousands of phases; 512 put the error below the 13 bits of G.711.
    let phases = up.min(512) as usize;
    let ratio = f64::from(rate.max(8000)) / 8000.0;
    // Source samples on each side of the centre. Beyond 96 kHz nobody speaks; the bound keeps a nonsense rate from sizing the filter.
    let half = (24.0 * ratio).ceil().min(24.0 * 48.0) as usize;
    let cutoff = 3900.0 / f64::from(rate).max(7800.0);
    let mut bank = vec![0f32; phases * 2 * half];
    for (phase, taps) in bank.chunks_exact_mut(2 * half).enumerate() {
        let fraction = phase as f64 / phases as f64;
        let mut sum = 0.0;
        for (i, tap) in taps.iter_mut().enumerate() {
            let x = i as f64 - (half as f64 - 1.0) - fraction;
            let sinc = if x.abs() < 1e-9 { 2.0 * cutoff } else { (TAU * cutoff * x).sin() / (PI * x) };
            let value = sinc * kaiser(x / half as f64);
            *tap = value as f32;
            sum += value;
        }
        for tap in taps {
            *tap /= sum as f32;
        }
    }
    let out = (samples.len() as u64 * up).div_ceil(down);
    (0..out)
        .map(|n| {
            let at = n * down;
            let (centre, phase) = ((at / up) as usize, ((at % up) * phases as u64 / up) as usize);
            let taps = &bank[phase * 2 * half..(phase + 1) * 2 * half];
            // Tap i sits on source sample centre + i - (half - 1); outside the source there is silence.
            let first = (half - 1).saturating_sub(centre);
            let start = (centre + first) - (half - 1);
            let sum: f32 = taps[first..].iter().zip(samples.get(start..).unwrap_or(&[])).map(|(t, s)| t * f32::from(*s)).sum();
            sum.round().clamp(-32768.0, 32767.0) as i16
        })
        .collect()
}

/// Kaiser window, beta 6 (side lobes about -63 dB), for `x` in -1..=1.
fn kaiser(x: f64) -> f64 {
    let bessel = |x: f64| {
        (1..25)
            .fold((1.0, 1.0), |(sum, term), k| (sum + term * (x / 2.0 / f64::from(k)).powi(2), term * (x / 2.0 / f64::from(k)).powi(2)))
            .0
    };
    if x.abs() >= 1.0 { 0.0 } else { bessel(6.0 * (1.0 - x * x).sqrt()) / bessel(6.0) }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dbm0(samples: &[i16]) -> f64 {
        let mean: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len() as f64;
        10.0 * (mean / (PEAK_0_DBM0 * PEAK_0_DBM0 / 2.0)).max(1e-12).log10()
    }

    /// Power at `hz` relative to a sine of 0 dBm0.
    fn at(samples: &[i16], hz: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, s) in samples.iter().enumerate() {
            re += f64::from(*s) * (TAU * hz * n as f64 / 8000.0).cos();
            im += f64::from(*s) * (TAU * hz * n as f64 / 8000.0).sin();
        }
        20.0 * ((re * re + im * im).sqrt() * 2.0 / samples.len() as f64 / PEAK_0_DBM0).max(1e-9).log10()
    }

    #[test]
    fn ur_017_the_beep_has_its_level_and_length() {
        let beep = ToneSpec { hz: vec![1000.0], level_dbm0: -12.0, on_ms: 250, off_ms: 0, total_ms: 250 };
        let clip = beep.clip();
        assert_eq!((clip.pcmu.len(), clip.pcma.len()), (2000, 2000));
        let linear: Vec<i16> = clip.pcma.iter().map(|b| g711::decode(Codec::Pcma, *b)).collect();
        // A-law knows eight values of a 1 kHz sine, which costs 0.14 dB here.
        assert!((dbm0(&linear[160..1760]) + 12.0).abs() < 0.2, "{}", dbm0(&linear[160..1760]));
        assert!((dbm0(&beep.linear()[160..1760]) + 12.0).abs() < 0.01);
        assert!((at(&linear[160..1760], 1000.0) + 12.0).abs() < 0.2);
    }

    #[test]
    fn cadence_is_exact() {
        let tone = ToneSpec { hz: vec![425.0], level_dbm0: -10.0, on_ms: 100, off_ms: 50, total_ms: 400 };
        let linear = tone.linear();
        assert_eq!(linear.len(), 3200);
        for (n, s) in linear.iter().enumerate() {
            let on = n % 1200 < 800;
            assert!(on || *s == 0, "{n}");
        }
        for burst in [0, 1200, 2400] {
            assert!((dbm0(&linear[burst + 80..burst + 720]) + 10.0).abs() < 0.1);
        }
        let forever =
            ToneSpec { hz: vec![f32::NAN, 1e30], level_dbm0: f32::INFINITY, on_ms: u32::MAX, off_ms: u32::MAX, total_ms: u32::MAX };
        assert_eq!(forever.linear().len(), TONE_MS as usize * 8);
        assert!(ToneSpec { total_ms: 0, ..tone }.linear().len() == 1200);
    }

    #[test]
    fn dual_tones_share_the_level() {
        let five = ToneSpec::dtmf('5', 100, -7.0).unwrap().linear();
        assert!((dbm0(&five[40..760]) + 7.0).abs() < 0.3);
        assert!((at(&five, 770.0) - at(&five, 1336.0)).abs() < 0.5);
        assert!(ToneSpec::dtmf('x', 100, -7.0).is_none());
        assert_eq!(dtmf_hz('0'), Some((941.0, 1336.0)));
        assert_eq!(dtmf_hz('d'), Some((941.0, 1633.0)));
    }

    #[test]
    fn resampling_keeps_tones_and_drops_what_8_khz_cannot_hold() {
        for rate in [8000u32, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 7_999, 6_000] {
            for hz in [300.0, 1004.0, 2900.0, 5500.0, 7000.0] {
                if hz > f64::from(rate) * 0.45 || hz > 3900.0 && rate == 8000 {
                    continue;
                }
                let source: Vec<i16> = (0..rate).map(|n| (10_000.0 * (TAU * hz * f64::from(n) / f64::from(rate)).sin()) as i16).collect();
                let out = if rate == 8000 { source.clone() } else { resample(&source, rate) };
                assert_eq!(out.len(), 8000, "{rate}");
                let middle = &out[800..7200];
                if hz < 4000.0 {
                    let want = 20.0 * (10_000.0 / PEAK_0_DBM0).log10();
                    assert!((at(middle, hz) - want).abs() < 0.2, "{rate} {hz}: {}", at(middle, hz) - want);
                    assert!((dbm0(middle) - want).abs() < 0.2, "{rate} {hz}: {}", dbm0(middle) - want);
                } else {
                    assert!(dbm0(middle) < -55.0, "{rate} {hz}: {}", dbm0(middle));
                }
            }
        }
    }

    #[test]
    fn odd_inputs_make_a_clip_or_an_empty_one() {
        assert_eq!(clip_from_pcm(&[1, 2, 3], 0).pcmu.len(), 0);
        assert_eq!(clip_from_pcm(&[], 48_000).pcmu.len(), 0);
        assert_eq!(clip_from_pcm(&[i16::MIN; 7], u32::MAX).pcmu.len(), 1);
        assert_eq!(clip_from_pcm(&[i16::MAX; 100], 16_000).pcma.len(), 50);
        assert_eq!(clip_from_pcm(&[5; 160], 8000).pcma.len(), 160);
    }
}
