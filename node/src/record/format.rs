//! What a recording becomes: container, coding, rate and bit rate, made of what was asked for. Pure but for one question: whether this
//! machine has the encoder's library.

use super::{lame, opus};
use hookswitch_call::recording::{Container, Dialect, Encoding, RecordingOptions, Unwritable};
use hookswitch_proto::media::{Codec, g711};

/// Rate of everything that a leg gives.
pub const CALL_RATE: u32 = 8000;

/// How samples lie in a WAV file, a spooled or a finished one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    #[default]
    Pcm16,
    Alaw,
    Ulaw,
}

impl Coding {
    pub fn bytes(self) -> u64 {
        match self {
            Coding::Pcm16 => 2,
            Coding::Alaw | Coding::Ulaw => 1,
        }
    }

    /// The companding, where it is one.
    pub fn law(self) -> Option<Codec> {
        match self {
            Coding::Pcm16 => None,
            Coding::Alaw => Some(Codec::Pcma),
            Coding::Ulaw => Some(Codec::Pcmu),
        }
    }

    /// Appends samples in this coding.
    pub fn put(self, samples: &[i16], out: &mut Vec<u8>) {
        match self.law() {
            None => {
                let at = out.len();
                out.resize(at + 2 * samples.len(), 0);
                for (two, sample) in out[at..].as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                    *two = sample.to_le_bytes();
                }
            }
            Some(law) => out.extend(samples.iter().map(|sample| g711::encode(law, *sample))),
        }
    }

    /// The samples of so many bytes.
    pub fn samples(self, bytes: &[u8], out: &mut Vec<i16>) {
        match self.law() {
            None => out.extend(bytes.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair))),
            Some(law) => g711::decode_all(law, bytes, out),
        }
    }

    pub fn encoding(self) -> Encoding {
        match self {
            Coding::Pcm16 => Encoding::Pcm16,
            Coding::Alaw => Encoding::Alaw,
            Coding::Ulaw => Encoding::Ulaw,
        }
    }
}

/// A format that this node writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub container: Container,
    /// Never `Auto` or `Aac`.
    pub encoding: Encoding,
    /// Hz.
    pub rate: u32,
    /// Of MP3 and Opus.
    pub kbps: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("{0} is not written into {1}")]
    Mismatch(&'static str, &'static str),
    #[error("sampleRate: {0} Hz is not written as {1}: {2}")]
    Rate(u32, &'static str, &'static str),
    #[error("{0}")]
    Encoder(String),
}

impl Default for Format {
    fn default() -> Format {
        Format { container: Container::Wav, encoding: Encoding::Pcm16, rate: CALL_RATE, kbps: 0 }
    }
}

impl Format {
    /// What these options ask for on a call with this codec (UR-010 to UR-013, AC-010). Refused where it cannot be made.
    pub fn of(options: &RecordingOptions, call: Codec) -> Result<Format, Unsupported> {
        let format = Format::asked(options, call)?;
        match format.encoding {
            Encoding::Mp3 => lame::library().map(|_| ()).map_err(Unsupported::Encoder)?,
            Encoding::Opus => opus::library().map(|_| ()).map_err(Unsupported::Encoder)?,
            _ => {}
        }
        Ok(format)
    }

    fn asked(options: &RecordingOptions, call: Codec) -> Result<Format, Unsupported> {
        let container = options.container();
        let law = match call {
            Codec::Pcma => Encoding::Alaw,
            Codec::Pcmu => Encoding::Ulaw,
        };
        let encoding = match (container, options.encoding) {
            (Container::Wav, Encoding::Auto) if options.dialect == Dialect::Aculab => law,
            (Container::Wav, Encoding::Auto) => Encoding::Pcm16,
            (Container::Wav, Encoding::Pcm16 | Encoding::Alaw | Encoding::Ulaw) => options.encoding,
            (Container::Mp3, Encoding::Auto | Encoding::Mp3) => Encoding::Mp3,
            // No encoder for AAC may be shipped or is there to be opened: MP4 holds Opus, and the recording says so.
            (Container::Mp4, Encoding::Auto | Encoding::Aac | Encoding::Opus) => Encoding::Opus,
            (Container::Ogg, Encoding::Auto | Encoding::Opus) => Encoding::Opus,
            (_, other) => return Err(Unsupported::Mismatch(other.name(), container.name())),
        };
        let rate = match (encoding, options.sample_rate) {
            // G.711 is 8 kHz by nature, whatever the dialect's usual rate.
            (Encoding::Alaw | Encoding::Ulaw, None) => CALL_RATE,
            (Encoding::Alaw | Encoding::Ulaw, Some(rate)) if rate != CALL_RATE => {
                return Err(Unsupported::Rate(rate, encoding.name(), "it has 8000"));
            }
            _ => options.sample_rate(),
        };
        if ![8_000, 16_000, 48_000].contains(&rate) {
            return Err(Unsupported::Rate(rate, encoding.name(), "8000, 16000 and 48000 are"));
        }
        let kbps = match encoding {
            Encoding::Mp3 => options.bitrate_kbps().clamp(8, if rate == 48_000 { 320 } else { 64 }),
            Encoding::Opus => options.bitrate_kbps().clamp(6, 256),
            _ => 0,
        };
        Ok(Format { container, encoding, rate, kbps })
    }

    /// How a WAV file of it lies; for the others: what their encoder reads.
    pub fn coding(&self) -> Coding {
        match self.encoding {
            Encoding::Alaw => Coding::Alaw,
            Encoding::Ulaw => Coding::Ulaw,
            _ => Coding::Pcm16,
        }
    }

    /// Its spool file is the file that was asked for.
    pub fn is_spooled(&self) -> bool {
        self.container == Container::Wav && self.rate == CALL_RATE
    }

    /// The same recording with nothing to encode: what it falls back to.
    pub fn plain(&self) -> Format {
        Format { container: Container::Wav, encoding: self.coding().encoding(), rate: CALL_RATE, kbps: 0 }
    }

    pub fn content_type(container: &str) -> &'static str {
        match container {
            "mp3" => "audio/mpeg",
            "mp4" => "audio/mp4",
            "ogg" => "audio/ogg",
            _ => "audio/wav",
        }
    }
}

/// Kinds of file that cannot be made on this machine, and why. The switch is told at its start, so that whoever asks for one hears of it at
/// once and not when the call is over.
pub fn unwritable() -> Unwritable {
    let (mp3, opus) = (lame::library().err(), opus::library().err());
    let kinds = [(Container::Mp3, mp3), (Container::Ogg, opus.clone()), (Container::Mp4, opus)];
    Unwritable(kinds.into_iter().filter_map(|(container, why)| Some((container, why?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_call::recording::Channels;

    fn asked(change: impl FnOnce(&mut RecordingOptions)) -> Result<(Container, Encoding, u32, u32), Unsupported> {
        let mut options = RecordingOptions::default();
        change(&mut options);
        Format::asked(&options, Codec::Pcmu).map(|f| (f.container, f.encoding, f.rate, f.kbps))
    }

    #[test]
    fn ur_010_011_012_013_the_format_follows_from_what_was_asked() {
        use Container::{Mp3, Mp4, Ogg, Wav};
        assert_eq!(asked(|_| {}), Ok((Wav, Encoding::Pcm16, 8000, 0)));
        assert_eq!(asked(|o| o.dialect = Dialect::Graph), Ok((Wav, Encoding::Pcm16, 16_000, 0)));
        assert_eq!(asked(|o| o.container = Some(Mp3)), Ok((Mp3, Encoding::Mp3, 8000, 32)));
        let stereo = |o: &mut RecordingOptions| (o.container, o.channels) = (Some(Ogg), Some(Channels::Stereo));
        assert_eq!(asked(stereo), Ok((Ogg, Encoding::Opus, 8000, 64)));
        assert_eq!(asked(|o| (o.container, o.encoding) = (Some(Mp4), Encoding::Aac)), Ok((Mp4, Encoding::Opus, 8000, 32)));
        assert_eq!(asked(|o| (o.container, o.bitrate_kbps) = (Some(Mp3), Some(500))), Ok((Mp3, Encoding::Mp3, 8000, 64)));
        assert_eq!(asked(|o| o.sample_rate = Some(48_000)), Ok((Wav, Encoding::Pcm16, 48_000, 0)));
    }

    #[test]
    fn ur_011_the_law_is_that_of_the_call_where_aculab_asks() {
        use Container::Wav;
        assert_eq!(asked(|o| o.dialect = Dialect::Aculab), Ok((Wav, Encoding::Ulaw, 8000, 0)));
        let options = RecordingOptions { dialect: Dialect::Aculab, ..RecordingOptions::default() };
        assert_eq!(Format::asked(&options, Codec::Pcma).map(|f| f.encoding), Ok(Encoding::Alaw));
        assert_eq!(asked(|o| (o.dialect, o.encoding) = (Dialect::Aculab, Encoding::Alaw)), Ok((Wav, Encoding::Alaw, 8000, 0)));
        assert_eq!(asked(|o| (o.dialect, o.encoding) = (Dialect::Graph, Encoding::Alaw)), Ok((Wav, Encoding::Alaw, 8000, 0)));
    }

    #[test]
    fn ur_010_012_what_cannot_be_written_is_refused_by_name() {
        let said = |change: fn(&mut RecordingOptions)| asked(change).unwrap_err().to_string();
        assert_eq!(said(|o| o.encoding = Encoding::Mp3), "mp3 is not written into wav");
        assert_eq!(said(|o| (o.container, o.encoding) = (Some(Container::Ogg), Encoding::Pcm16)), "pcm16 is not written into ogg");
        assert!(said(|o| o.sample_rate = Some(44_100)).contains("44100 Hz"));
        assert!(said(|o| (o.encoding, o.sample_rate) = (Encoding::Alaw, Some(16_000))).contains("it has 8000"));
    }
}
