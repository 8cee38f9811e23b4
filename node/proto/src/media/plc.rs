//! Packet loss concealment in the manner of G.711 Appendix I: the last pitch period goes on, and fades away in 60 ms.
//!
//! Unlike the appendix nothing received is altered (no overlap into the first good frame): recordings stay byte-exact.

/// Samples of the past that [`Plc::start`] wants.
pub const HISTORY: usize = 400;
/// Pitch between 200 and 66 Hz.
const SHORTEST: usize = 40;
const LONGEST: usize = 120;
/// Full level for 10 ms, then down to nothing at 60 ms.
const FADE_FROM: usize = 80;
const FADE: usize = 400;

#[derive(Clone)]
pub struct Plc {
    cycle: [i16; LONGEST],
    period: usize,
    at: usize,
    made: usize,
    pub running: bool,
}

impl Plc {
    pub fn new() -> Plc {
        Plc { cycle: [0; LONGEST], period: SHORTEST, at: 0, made: 0, running: false }
    }

    /// Begin to conceal what follows `history`.
    pub fn start(&mut self, history: &[i16; HISTORY]) {
        self.period = pitch(history);
        let p = self.period;
        let last = &history[HISTORY - p..];
        let before = &history[HISTORY - 2 * p..HISTORY - p];
        let blend = p / 4;
        for i in 0..p {
            // The last quarter of a cycle turns into what came before its beginning, so that it loops without a click.
            let w = (i + blend).saturating_sub(p) as i32;
            let n = blend as i32;
            self.cycle[i] = ((i32::from(last[i]) * (n - w) + i32::from(before[i]) * w) / n) as i16;
        }
        self.at = 0;
        self.made = 0;
        self.running = true;
    }

    pub fn next(&mut self) -> i16 {
        let sample = i32::from(self.cycle[self.at]);
        self.at = if self.at + 1 == self.period { 0 } else { self.at + 1 };
        let faded = self.made.saturating_sub(FADE_FROM).min(FADE) as i32;
        self.made += 1;
        (sample * (FADE as i32 - faded) / FADE as i32) as i16
    }
}

/// The lag at which the last 20 ms resemble their past most. Every second lag on every second sample first, as the appendix does.
fn pitch(history: &[i16; HISTORY]) -> usize {
    let score = |lag: usize, step: usize| -> f32 {
        let (mut cross, mut energy) = (0f32, 0f32);
        for i in (HISTORY - 160..HISTORY).step_by(step) {
            let (a, b) = (f32::from(history[i]), f32::from(history[i - lag]));
            cross += a * b;
            energy += b * b;
        }
        if energy < 1.0 { 0.0 } else { cross.max(0.0) * cross / energy }
    };
    let best = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
        lags.fold((SHORTEST, f32::MIN), |best, lag| {
            let s = score(lag, step);
            if s > best.1 { (lag, s) } else { best }
        })
    };
    let coarse = best(&mut (SHORTEST..=LONGEST).step_by(2), 2).0;
    best(&mut (coarse.saturating_sub(1).max(SHORTEST)..=(coarse + 1).min(LONGEST)), 1).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    #[test]
    fn a_tone_goes_on_and_fades() {
        let tone = |n: usize| (8000.0 * (TAU * 160.0 * n as f64 / 8000.0).sin()) as i16;
        let mut history = [0; HISTORY];
        for (n, s) in history.iter_mut().enumerate() {
            *s = tone(n);
        }
        let mut plc = Plc::new();
        plc.start(&history);
        for n in 0..80 {
            let (got, want) = (i32::from(plc.next()), i32::from(tone(HISTORY + n)));
            assert!((got - want).abs() < 500, "{n}: {got} {want}");
        }
        let later: Vec<i16> = (80..480).map(|_| plc.next()).collect();
        assert!(later[..100].iter().any(|s| *s > 5000));
        assert!((0..160).all(|_| plc.next() == 0));
    }

    #[test]
    fn silence_stays_silence_and_extremes_do_not_overflow() {
        let mut plc = Plc::new();
        plc.start(&[0; HISTORY]);
        assert!((0..960).all(|_| plc.next() == 0));
        let mut square = [i16::MIN; HISTORY];
        square.iter_mut().step_by(3).for_each(|s| *s = i16::MAX);
        plc.start(&square);
        (0..2000).for_each(|_| assert!(i32::from(plc.next()).abs() <= 32768));
    }
}
