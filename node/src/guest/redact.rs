//! JSON without what it must not hold: written at once, so that nothing else of it is ever there, and in a fraction of the time that a tree of it
//! would take. Each hook of each call is written so.

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// Fields and cases whose values open something or protect digits.
const SECRETS: &[&str] = &["reply_id", "access_token", "AesCbc", "key", "iv", "Md5", "HmacSha256", "crypto"];
/// Fields that hold what a caller pressed.
const DIGITS: &[&str] = &["dtmf_buffer", "dtmf_match", "matched_termination_key", "stop_digit"];
/// The field of an entry in which those are a caller's; what a handler answers has them as what to wait for.
const REQUEST: &str = "request";

/// Of each value with such a name nothing but how long it was: of a text as many `*`, of a number zero. `digits`: also of what callers pressed,
/// within the field `request`.
pub(super) fn json(value: &impl Serialize, digits: bool) -> String {
    let mut text = Vec::with_capacity(1024);
    let redact =
        Redact { digits, key: String::new(), in_key: false, hidden: 0, fact: String::new(), in_fact: false, depth: 0, request: false };
    match value.serialize(&mut Serializer::with_formatter(&mut text, redact)) {
        Ok(()) => String::from_utf8(text).unwrap_or_default(),
        // The contract's types have no keys but texts.
        Err(_) => "null".into(),
    }
}

struct Redact {
    digits: bool,
    /// The field that was named last.
    key: String,
    in_key: bool,
    /// Fields that one is in, from the one on that is hidden.
    hidden: u32,
    /// The text that an array began with: a fact of `extra` is its name and its value.
    fact: String,
    in_fact: bool,
    /// Fields that one is in.
    depth: u32,
    request: bool,
}

impl Redact {
    fn hides(&self) -> bool {
        let key = self.key.as_str();
        SECRETS.contains(&key) || self.digits && self.request && DIGITS.contains(&key)
    }
}

/// Numbers.
macro_rules! numbers {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W, value: $kind) -> io::Result<()> {
            CompactFormatter.$name(writer, if self.hidden > 0 { <$kind>::default() } else { value })
        })*
    };
}

impl Formatter for Redact {
    numbers!(write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64);
    numbers!(write_f32: f32, write_f64: f64);

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        (self.in_key, self.in_fact) = (true, false);
        self.key.clear();
        self.fact.clear();
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth == 1 {
            self.request = self.key == REQUEST;
        }
        if self.hidden > 0 || self.hides() {
            self.hidden += 1;
        }
        CompactFormatter.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        self.hidden = self.hidden.saturating_sub(1);
        Ok(())
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        let secret = !first && SECRETS.contains(&self.fact.as_str());
        self.fact.clear();
        self.in_fact = first;
        if self.hidden > 0 || secret {
            self.hidden += 1;
        }
        CompactFormatter.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_fact = false;
        self.hidden = self.hidden.saturating_sub(1);
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.in_key {
            self.key.push_str(fragment);
        } else if self.in_fact {
            self.fact.push_str(fragment);
        }
        if self.hidden > 0 && !self.in_key {
            return fragment.chars().try_for_each(|_| writer.write_all(b"*"));
        }
        CompactFormatter.write_string_fragment(writer, fragment)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        if self.hidden > 0 && !self.in_key {
            return writer.write_all(b"*");
        }
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn what_is_hidden_is_hidden_at_any_depth_and_what_follows_is_not() {
        let value = json!({
            "request": {
                "reply_id": "a\"b\u{1}\u{e5}", "dtmf_buffer": "12", "n": 3,
                "key": { "deep": [1, -2, 2.5, true, null, { "er": "x" }], "last": "y" },
                "list": [{ "Md5": "salt" }, { "open": "yes" }],
                "extra": [["crypto", "[{\"k\":1}]"], ["other", "shown"]]
            },
            "answer": { "dtmf_match": "5", "iv": 7, "n": 8 },
            "after": "open"
        });
        let hidden = |digits| serde_json::from_str::<Value>(&super::json(&value, digits)).expect("still JSON");
        let expected = |buffer: &str| {
            json!({
                "request": {
                    "reply_id": "*****", "dtmf_buffer": buffer, "n": 3,
                    "key": { "deep": [0, 0, 0.0, true, null, { "er": "*" }], "last": "*" },
                    "list": [{ "Md5": "****" }, { "open": "yes" }],
                    "extra": [["crypto", "*********"], ["other", "shown"]]
                },
                "answer": { "dtmf_match": "5", "iv": 0, "n": 8 },
                "after": "open"
            })
        };
        assert_eq!(hidden(true), expected("**"));
        assert_eq!(hidden(false), expected("12"));
    }
}
