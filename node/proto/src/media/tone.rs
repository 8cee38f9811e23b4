//! Tones and encoding: sine sums with cadence and level, PCM to a [`Clip`].

use super::Clip;

/// A call-progress or test tone: the sum of `hz`, `on` for so long, then `off`, for `total`.
#[derive(Clone, Debug, PartialEq)]
pub struct ToneSpec {
    pub hz: Vec<f32>,
    pub level_dbm0: f32,
    pub on_ms: u32,
    pub off_ms: u32,
    pub total_ms: u32,
}

impl ToneSpec {
    pub fn clip(&self) -> Clip {
        todo!()
    }
}

/// Mono PCM at any rate to a clip at 8 kHz (resampled with a polyphase FIR).
pub fn clip_from_pcm(_samples: &[i16], _rate: u32) -> Clip {
    todo!()
}
