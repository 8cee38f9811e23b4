//! Values as the mediaservice API's JSON has them: its pages contradict themselves about what is a number and what a text, so both are read
//! where either may come, and what is written is what the page declares (IC-013).

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// A text; read from a number too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.into())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        deserializer.deserialize_any(Reads)
    }
}

/// A whole number; read from a text too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole(pub u64);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        text.trim().parse().map(Whole).map_err(|_| D::Error::custom(format_args!("`{text}` is no whole number")))
    }
}

/// Seconds, as `2`, `2.5` or `"2"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seconds {
    pub ms: u32,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.ms % 1000 {
            0 => serializer.serialize_u32(self.ms / 1000),
            _ => serializer.serialize_f64(f64::from(self.ms) / 1000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        match text.trim().parse::<f64>() {
            Ok(seconds) if (0.0..=4_000_000.0).contains(&seconds) => Ok(Seconds { ms: (seconds * 1000.0).round() as u32 }),
            _ => Err(D::Error::custom(format_args!("`{text}` is no number of seconds"))),
        }
    }
}

/// Names and values, `{"x-one":"1","x-two":["2","3"]}`: one pair for each value, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (at, (name, value)) in self.0.iter().enumerate() {
            if self.0[..at].iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            let values: Vec<&str> = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect();
            match values[..] {
                [_] => map.serialize_entry(name, value)?,
                _ => map.serialize_entry(name, &values)?,
            }
        }
        map.end()
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Text),
    Many(Vec<Text>),
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts, or lists of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, values)) = map.next_entry::<String, OneOrMany>()? {
                    match values {
                        OneOrMany::One(Text(value)) => pairs.push((name, value)),
                        OneOrMany::Many(values) => pairs.extend(values.into_iter().map(|Text(value)| (name.clone(), value))),
                    }
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_013_numbers_and_texts_stand_for_each_other() {
        for (json, text) in [("\"a\"", "a"), ("20000", "20000"), ("-1", "-1"), ("5473001594892095000", "5473001594892095000")] {
            assert_eq!(serde_json::from_str::<Text>(json).expect(json).0, text);
        }
        assert_eq!(serde_json::from_str::<Whole>("\"45000\"").expect("a number"), Whole(45_000));
        for (json, ms) in [("2", 2_000), ("\"2\"", 2_000), ("0.25", 250), ("\"1.5\"", 1_500)] {
            assert_eq!(serde_json::from_str::<Seconds>(json).expect(json).ms, ms);
        }
        for json in ["-1", "\"soon\"", "1e9", "true", "[]"] {
            assert!(serde_json::from_str::<Seconds>(json).is_err(), "{json}");
        }
        assert_eq!(serde_json::to_string(&Seconds { ms: 2_000 }).expect("json"), "2");
    }

    #[test]
    fn ic_063_133_repeated_headers_are_lists() {
        let json = r#"{"x-one":"1","x-two":["2","3"],"x-none":[]}"#;
        let pairs: Pairs = serde_json::from_str(json).expect("pairs");
        assert_eq!(pairs.0, [("x-one", "1"), ("x-two", "2"), ("x-two", "3")].map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(serde_json::to_string(&pairs).expect("json"), r#"{"x-one":"1","x-two":["2","3"]}"#);
    }
}
