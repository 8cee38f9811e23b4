//! Ringing tones of countries (IC-172): data, after ITU-T E.180 and its Supplement 2. Tones that are modulated are not in it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A country that has a ringing tone here, by its code of two letters (ISO 3166-1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Country(&'static Entry);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    code: &'static str,
    hz: &'static [u16],
    /// Milliseconds on and off, in turn, from the beginning again at the end.
    cadence: &'static [(u16, u16)],
}

const fn entry(code: &'static str, hz: &'static [u16], cadence: &'static [(u16, u16)]) -> Entry {
    Entry { code, hz, cadence }
}

/// Two short ones and a long pause.
const DOUBLE: &[(u16, u16)] = &[(400, 200), (400, 2000)];

/// By code.
const COUNTRIES: &[Entry] = &[
    entry("AT", &[420], &[(1000, 5000)]),
    entry("AU", &[413, 438], DOUBLE),
    entry("BE", &[425], &[(1000, 3000)]),
    entry("BG", &[425], &[(1000, 4000)]),
    entry("BR", &[425], &[(1000, 4000)]),
    entry("CA", &[440, 480], &[(2000, 4000)]),
    entry("CH", &[425], &[(1000, 4000)]),
    entry("CL", &[400], &[(1000, 3000)]),
    entry("CN", &[450], &[(1000, 4000)]),
    entry("CZ", &[425], &[(1000, 4000)]),
    entry("DE", &[425], &[(1000, 4000)]),
    entry("DK", &[425], &[(1000, 4000)]),
    entry("EE", &[425], &[(1000, 4000)]),
    entry("ES", &[425], &[(1500, 3000)]),
    entry("FI", &[425], &[(1000, 4000)]),
    entry("FR", &[440], &[(1500, 3500)]),
    entry("GB", &[400, 450], DOUBLE),
    entry("GR", &[425], &[(1000, 4000)]),
    entry("HK", &[440, 480], &[(400, 200), (400, 3000)]),
    entry("HR", &[425], &[(1000, 4000)]),
    entry("HU", &[425], &[(1250, 3750)]),
    entry("IE", &[400, 450], DOUBLE),
    entry("IL", &[400], &[(1000, 3000)]),
    entry("IT", &[425], &[(1000, 4000)]),
    entry("LT", &[425], &[(1000, 4000)]),
    entry("MX", &[425], &[(1000, 4000)]),
    entry("MY", &[425], DOUBLE),
    entry("NL", &[425], &[(1000, 4000)]),
    entry("NO", &[425], &[(1000, 4000)]),
    entry("NZ", &[400, 450], DOUBLE),
    entry("PH", &[425, 480], &[(1000, 4000)]),
    entry("PL", &[425], &[(1000, 4000)]),
    entry("PT", &[425], &[(1000, 5000)]),
    entry("RU", &[425], &[(1000, 4000)]),
    entry("SE", &[425], &[(1000, 5000)]),
    entry("SI", &[425], &[(1000, 4000)]),
    entry("SK", &[425], &[(1000, 4000)]),
    entry("TH", &[400], &[(1000, 4000)]),
    entry("TW", &[440, 480], &[(1000, 2000)]),
    entry("US", &[440, 480], &[(2000, 4000)]),
    entry("VE", &[425], &[(1000, 4000)]),
];

/// Of all together.
pub(crate) const LEVEL_DBM0: f32 = -15.0;

impl Country {
    /// Of these the tone is known.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        COUNTRIES.iter().map(|entry| entry.code)
    }

    pub fn code(self) -> &'static str {
        self.0.code
    }

    pub(crate) fn hz(self) -> Vec<f32> {
        self.0.hz.iter().map(|hz| f32::from(*hz)).collect()
    }

    /// On and off, in turn.
    pub(crate) fn cadence(self) -> impl Iterator<Item = (Duration, Duration)> {
        let ms = |ms: u16| Duration::from_millis(u64::from(ms));
        self.0.cadence.iter().map(move |(on, off)| (ms(*on), ms(*off)))
    }
}

impl Default for Country {
    fn default() -> Country {
        "SE".parse().expect("the table has Sweden")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", Country::codes().collect::<Vec<_>>().join(", "))]
pub struct UnknownCountry;

impl FromStr for Country {
    type Err = UnknownCountry;

    fn from_str(code: &str) -> Result<Country, UnknownCountry> {
        COUNTRIES.iter().find(|entry| entry.code.eq_ignore_ascii_case(code)).map(Country).ok_or(UnknownCountry)
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_172_the_table_is_in_order_and_every_tone_can_be_made() {
        assert!(COUNTRIES.is_sorted_by(|a, b| a.code < b.code), "by code, each once");
        for entry in COUNTRIES {
            assert!(!entry.hz.is_empty() && entry.hz.iter().all(|hz| (300..600).contains(hz)), "{}", entry.code);
            assert!(!entry.cadence.is_empty() && entry.cadence.iter().all(|(on, off)| *on > 0 && *off > 0), "{}", entry.code);
        }
        assert_eq!(Country::default().code(), "SE");
        assert_eq!("gb".parse::<Country>().map(Country::code), Ok("GB"));
        let unknown = "XX".parse::<Country>().expect_err("there is no such country");
        assert!(unknown.to_string().starts_with("must be one of AT, AU, "), "{unknown}");
    }
}
