//! Ears: sounds to play in, and what is in a recording, by our own Goertzel filter, by ffprobe and by sox.

use crate::peer::require;
use std::path::Path;
use std::process::Command;

pub const RATE: u32 = 8000;
/// Samples that one decision about a tone takes: 20 ms.
const WINDOW: usize = 160;

/// A sine at -10 dBFS.
pub fn tone(hz: f64, seconds: f64) -> Vec<i16> {
    let samples = (seconds * f64::from(RATE)) as usize;
    (0..samples).map(|n| (10_362.0 * (std::f64::consts::TAU * hz * n as f64 / f64::from(RATE)).sin()) as i16).collect()
}

pub fn silence(seconds: f64) -> Vec<i16> {
    vec![0; (seconds * f64::from(RATE)) as usize]
}

pub fn write_wav(path: &Path, samples: &[i16]) {
    let spec = hound::WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).expect("a WAV file can be made");
    for sample in samples {
        writer.write_sample(*sample).expect("a sample can be written");
    }
    writer.finalize().expect("a WAV file can be finished");
}

/// Mono, 8 kHz, 16 bits, or the test fails: that is what the node promises.
pub fn read_wav(path: &Path) -> Vec<i16> {
    let mut reader = hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, RATE, 16), "{}", path.display());
    reader.samples::<i16>().collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Left and right, 8 kHz, 16 bits, or the test fails: that is what a recording of both sides is.
pub fn read_stereo(path: &Path) -> (Vec<i16>, Vec<i16>) {
    let mut reader = hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, RATE, 16), "{}", path.display());
    let samples: Result<Vec<i16>, _> = reader.samples::<i16>().collect();
    let samples = samples.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    samples.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip()
}

/// Share of a window's energy that is `hz`: 1 for a pure tone.
fn share(window: &[i16], hz: f64) -> f64 {
    let energy: f64 = window.iter().map(|s| f64::from(*s).powi(2)).sum();
    if energy < 1.0 {
        return 0.0;
    }
    let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(RATE)).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for sample in window {
        let s0 = f64::from(*sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power / (window.len() as f64 * energy)
}

/// Root mean square below which a window counts as silence: about -50 dBFS.
const QUIET: f64 = 100.0;

fn loudness(window: &[i16]) -> f64 {
    (window.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / window.len() as f64).sqrt()
}

/// The tones of `candidates` in the order they are heard, each with how long (s). Shorter than 60 ms counts as passing.
pub fn heard_tones(samples: &[i16], candidates: &[f64]) -> Vec<(f64, f64)> {
    let mut found: Vec<(f64, usize)> = Vec::new();
    let mut current: Option<f64> = None;
    for window in samples.chunks_exact(WINDOW) {
        let best = candidates.iter().copied().find(|hz| loudness(window) > QUIET && share(window, *hz) > 0.7);
        match (best, found.last_mut()) {
            (Some(hz), Some((last, windows))) if current == Some(hz) && *last == hz => *windows += 1,
            (Some(hz), _) => found.push((hz, 1)),
            (None, _) => {}
        }
        current = best;
    }
    found.retain(|(_, windows)| *windows >= 3);
    found.into_iter().map(|(hz, windows)| (hz, windows as f64 * WINDOW as f64 / f64::from(RATE))).collect()
}

/// Seconds of `samples` that are not silence.
pub fn sounding(samples: &[i16]) -> f64 {
    let windows = samples.chunks_exact(WINDOW).filter(|window| loudness(window) > QUIET).count();
    windows as f64 * WINDOW as f64 / f64::from(RATE)
}

/// Length in seconds of a mono recording as ffprobe sees it.
pub fn ffprobe_seconds(path: &Path) -> f64 {
    ffprobe(path, 1)
}

/// The same of a recording with so many channels.
pub fn ffprobe(path: &Path, channels: u16) -> f64 {
    require("ffprobe", "ffmpeg");
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "stream=codec_name,sample_rate,channels:format=duration",
            "-of",
            "default=noprint_wrappers=1",
        ])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "ffprobe: {text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["codec_name=pcm_s16le", "sample_rate=8000", &format!("channels={channels}")] {
        assert!(text.contains(expected), "ffprobe lacks {expected}: {text}");
    }
    let seconds = text.lines().find_map(|line| line.strip_prefix("duration=")).and_then(|value| value.parse().ok());
    seconds.unwrap_or_else(|| panic!("ffprobe says no duration: {text}"))
}

/// How loud a part of a file is as sox sees it, in dBFS; of a band alone, where one is given in Hz. Of nothing: -120.
pub fn sox_level(path: &Path, from: f64, seconds: f64, band: Option<(u32, u32)>) -> f64 {
    require("sox", "sox");
    let mut command = Command::new("sox");
    command.arg(path).args(["-n", "trim", &from.to_string(), &seconds.to_string()]);
    if let Some((low, high)) = band {
        command.args(["sinc", &format!("{low}-{high}")]);
    }
    let output = command.arg("stat").output().expect("sox runs");
    let text = String::from_utf8_lossy(&output.stderr);
    let level = text.lines().find_map(|line| line.strip_prefix("RMS     amplitude:")).and_then(|value| value.trim().parse::<f64>().ok());
    20.0 * level.unwrap_or_else(|| panic!("sox says no level: {text}")).max(1e-6).log10()
}

/// The main frequency of a part of a file as sox sees it.
pub fn sox_hz(path: &Path, from: f64, seconds: f64) -> f64 {
    sox_channel_hz(path, 1, from, seconds)
}

/// The same of one channel; the first one is 1.
pub fn sox_channel_hz(path: &Path, channel: u16, from: f64, seconds: f64) -> f64 {
    require("sox", "sox");
    let (channel, from, seconds) = (channel.to_string(), from.to_string(), seconds.to_string());
    let output = Command::new("sox").arg(path).args(["-n", "remix", &channel, "trim", &from, &seconds, "stat"]).output().expect("sox runs");
    let text = String::from_utf8_lossy(&output.stderr);
    let hz = text.lines().find_map(|line| line.strip_prefix("Rough   frequency:")).and_then(|value| value.trim().parse::<f64>().ok());
    let rough = hz.unwrap_or_else(|| panic!("sox says no frequency: {text}"));
    // Rough because it takes the difference of neighbouring samples for a derivative; of a sine it is that of half the angle's sine.
    let half_turn = f64::from(RATE) / std::f64::consts::PI;
    half_turn * (rough / half_turn).clamp(0.0, 1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ears_hear_a_sequence() {
        let samples = [tone(440.0, 0.5), silence(0.1), tone(880.0, 1.0), tone(440.0, 0.3), tone(660.0, 0.02)].concat();
        let heard = heard_tones(&samples, &[440.0, 660.0, 880.0]);
        let hz: Vec<f64> = heard.iter().map(|(hz, _)| *hz).collect();
        assert_eq!(hz, [440.0, 880.0, 440.0], "{heard:?}");
        assert!((heard[1].1 - 1.0).abs() < 0.05, "{heard:?}");
        assert!((sounding(&samples) - 1.82).abs() < 0.05);
        assert_eq!(heard_tones(&silence(1.0), &[440.0]), []);
    }
}
