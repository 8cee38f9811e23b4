//! Bodies of operations, read by a table of their fields: the same table reads a request and describes it in `/openapi.json`, so that the two
//! cannot differ. Every refusal names the field.
//!
//! Numbers are taken where a text is expected and the reverse (IC-013); `null` is absent; what no field is named like is counted and ignored
//! (IC-014).

use super::reply::ApiError;
use crate::guest::checks;
use hookswitch_call::OutboundCall;
use hookswitch_call::limits as call_limits;
use hookswitch_proto::sdp::Crypto;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of an id. Ours are UUIDs.
const ID: usize = 128;
/// Bytes of a user part, number or name.
const SHORT: usize = 128;
/// Bytes of a SIP URI, and of other addresses.
const URI: usize = 2048;
/// Bytes of a key: RSA of 8192 bits fits.
const PEM: usize = 8192;

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// For the documentation: what it means, unit and bounds.
    pub(super) says: &'static str,
}

pub(super) const fn required(name: &'static str, kind: Kind, says: &'static str) -> Field {
    Field { name, kind, required: true, says }
}

pub(super) const fn optional(name: &'static str, kind: Kind, says: &'static str) -> Field {
    Field { name, kind, required: false, says }
}

/// One table after another.
pub(super) const fn joined<const N: usize>(first: &[Field], second: &[Field]) -> [Field; N] {
    assert!(N > 0 && first.len() + second.len() == N, "N is the length of both");
    let mut all = [if first.is_empty() { second[0] } else { first[0] }; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() { first[i] } else { second[i - first.len()] };
        i += 1;
    }
    all
}

/// What every description of a call out has, whoever places it.
pub(super) const CALL_OUT: &[Field] = &[
    optional("maxRingTime", Kind::Seconds(1, 300), "Seconds to wait for an answer; 60 where it is not said."),
    optional("sipFrom", Kind::Text, "User part of From."),
    optional("sipTo", Kind::Text, "User part of To; that of destAddr where it is not said."),
    optional("sipPAI", Kind::Text, "P-Asserted-Identity; only for tenants marked trusted."),
    optional("sipRPID", Kind::Text, "Remote-Party-ID; only for tenants marked trusted."),
    optional("sipDiversion", Kind::Text, "Number for a Diversion header."),
    optional("contactParameters", Kind::Parameters, "URI parameters of Contact."),
    optional("contactUserParameters", Kind::Parameters, "Parameters of Contact's user part."),
    optional("xHeaders", Kind::Headers("x-"), "X- headers; a list of values becomes as many lines."),
    optional("pHeaders", Kind::Headers("p-"), "P- headers; P-Asserted-Identity only for tenants marked trusted."),
];

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Id,
    ReplyId,
    Text,
    FileName,
    Uri,
    Digits,
    /// IPv4 or IPv6, as a literal.
    Ip,
    /// A whole number within bounds.
    Whole(u32, u32),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// SDES lines (RFC 4568): a list of `{suite, id, config}`.
    Crypto,
    /// A key as text of several lines.
    Pem,
    /// Decimal seconds within bounds.
    Seconds(u16, u16),
    /// Whole milliseconds within bounds.
    Millis(u32, u32),
    Flag,
    /// Header names that begin so, each with a value or a list of values.
    Headers(&'static str),
    /// Names and values.
    Parameters,
    /// Any JSON, kept as it was written.
    Json,
}

/// What was read of one field.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Text(String),
    Time(Duration),
    Flag(bool),
    Pairs(Vec<(String, String)>),
    Whole(u32),
    Crypto(Vec<Crypto>),
}

/// The fields of one body.
#[derive(Debug, Default)]
pub(super) struct Values {
    held: BTreeMap<&'static str, Held>,
    /// Properties that no field is named like.
    pub(super) unknown: u64,
}

pub(super) fn read(fields: &[Field], body: &[u8]) -> Result<Values, ApiError> {
    let mut raw: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|error| ApiError::bad("body", format!("not a JSON object: {error}")))?;
    let mut held = BTreeMap::new();
    for field in fields {
        match raw.remove(field.name).map(|raw| raw.get()).filter(|raw| *raw != "null") {
            Some(raw) => {
                let value = field.kind.read(field.name, raw)?;
                held.insert(field.name, value);
            }
            None if field.required => return Err(ApiError::bad(field.name, "is missing")),
            None => {}
        }
    }
    Ok(Values { held, unknown: raw.len() as u64 })
}

impl Values {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.held.remove(name) {
            Some(Held::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Of a field that its table requires: `read` would have refused its absence.
    pub(super) fn required(&mut self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    pub(super) fn time(&mut self, name: &str) -> Option<Duration> {
        match self.held.remove(name) {
            Some(Held::Time(time)) => Some(time),
            _ => None,
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.held.remove(name) == Some(Held::Flag(true))
    }

    pub(super) fn whole(&mut self, name: &str) -> Option<u32> {
        match self.held.remove(name) {
            Some(Held::Whole(number)) => Some(number),
            _ => None,
        }
    }

    pub(super) fn crypto(&mut self, name: &str) -> Vec<Crypto> {
        match self.held.remove(name) {
            Some(Held::Crypto(lines)) => lines,
            _ => Vec::new(),
        }
    }

    pub(super) fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        match self.held.remove(name) {
            Some(Held::Pairs(pairs)) => pairs,
            _ => Vec::new(),
        }
    }
}

impl Values {
    /// The call that the fields of `CALL_OUT` describe.
    pub(super) fn call_to(&mut self, dest_addr: String) -> OutboundCall {
        OutboundCall {
            dest_addr,
            max_ring_time: self.time("maxRingTime"),
            sip_from: self.text("sipFrom"),
            sip_to: self.text("sipTo"),
            sip_pai: self.text("sipPAI"),
            sip_rpid: self.text("sipRPID"),
            sip_diversion: self.text("sipDiversion"),
            contact_parameters: self.pairs("contactParameters"),
            contact_user_parameters: self.pairs("contactUserParameters"),
            x_headers: self.pairs("xHeaders"),
            p_headers: self.pairs("pHeaders"),
            ..OutboundCall::default()
        }
    }
}

impl Kind {
    fn read(self, name: &str, raw: &str) -> Result<Held, ApiError> {
        let bad = |why: &str| Err(ApiError::bad(name, why));
        Ok(match self {
            Kind::Id => Held::Text(filled(name, text(name, raw, ID)?)?),
            Kind::ReplyId => Held::Text(filled(name, text(name, raw, crate::jwt::TOKEN_BYTES)?)?),
            Kind::Digits => Held::Text(filled(name, text(name, raw, hookswitch_proto::limits::DIGITS)?)?),
            Kind::Uri => Held::Text(filled(name, text(name, raw, URI)?)?),
            Kind::Text => Held::Text(text(name, raw, SHORT)?),
            Kind::Ip => {
                let value = text(name, raw, SHORT)?;
                match value.parse::<std::net::IpAddr>() {
                    Ok(_) => Held::Text(value),
                    Err(_) => return bad("must be an IPv4 or IPv6 address"),
                }
            }
            Kind::Whole(from, to) => {
                let text = if raw.starts_with('"') { text(name, raw, SHORT)? } else { raw.to_owned() };
                match text.parse() {
                    Ok(number) if (from..=to).contains(&number) => Held::Whole(number),
                    _ => return bad(&format!("must be a whole number from {from} to {to}")),
                }
            }
            Kind::OneOf(words) => {
                let value = text(name, raw, SHORT)?;
                if !words.contains(&value.as_str()) {
                    return bad(&format!("must be {}", words.join(" or ")));
                }
                Held::Text(value)
            }
            Kind::Crypto => Held::Crypto(crypto(name, raw)?),
            Kind::Pem => match serde_json::from_str::<String>(raw) {
                Ok(value) if (1..=PEM).contains(&value.len()) => Held::Text(value),
                _ => return bad(&format!("must be a text of 1 to {PEM} bytes")),
            },
            Kind::FileName => {
                let value = text(name, raw, call_limits::FILE_NAME)?;
                super::check_file_name(&value).map_err(|why| ApiError::bad(name, why))?;
                Held::Text(value)
            }
            Kind::Seconds(from, to) => {
                let text = if raw.starts_with('"') { text(name, raw, SHORT)? } else { raw.to_owned() };
                match text.trim().parse::<f64>() {
                    Ok(seconds) if (f64::from(from)..=f64::from(to)).contains(&seconds) => Held::Time(Duration::from_secs_f64(seconds)),
                    _ => return bad(&format!("must be a number of seconds from {from} to {to}")),
                }
            }
            Kind::Millis(from, to) => {
                let text = if raw.starts_with('"') { text(name, raw, SHORT)? } else { raw.to_owned() };
                match text.trim().parse::<u32>() {
                    Ok(ms) if (from..=to).contains(&ms) => Held::Time(Duration::from_millis(ms.into())),
                    _ => return bad(&format!("must be a whole number of milliseconds from {from} to {to}")),
                }
            }
            Kind::Flag => match raw {
                "true" => Held::Flag(true),
                "false" => Held::Flag(false),
                _ => return bad("must be true or false"),
            },
            Kind::Headers(prefix) => {
                let pairs = pairs(name, raw, true)?;
                Held::Pairs(checks::headers(name, prefix, pairs).map_err(|wrong| ApiError::bad(name, wrong.why))?)
            }
            Kind::Parameters => {
                let pairs = pairs(name, raw, false)?;
                Held::Pairs(checks::parameters(name, pairs).map_err(|wrong| ApiError::bad(name, wrong.why))?)
            }
            Kind::Json if raw.len() > call_limits::SESSION_REFERENCE => {
                return bad(&format!("larger than {} bytes", call_limits::SESSION_REFERENCE));
            }
            Kind::Json => Held::Text(raw.to_owned()),
        })
    }

    /// As JSON Schema.
    pub(super) fn schema(self) -> Value {
        let filled = |most: usize| json!({ "type": ["string", "number"], "minLength": 1, "maxLength": most });
        match self {
            Kind::Id => filled(ID),
            Kind::ReplyId => filled(crate::jwt::TOKEN_BYTES),
            Kind::Uri => filled(URI),
            Kind::Digits => filled(hookswitch_proto::limits::DIGITS),
            Kind::Text => json!({ "type": ["string", "number", "null"], "maxLength": SHORT }),
            Kind::Ip => json!({ "type": "string", "maxLength": SHORT, "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }),
            Kind::Whole(from, to) => json!({ "type": ["integer", "string", "null"], "minimum": from, "maximum": to }),
            Kind::OneOf(words) => json!({ "enum": words }),
            Kind::Crypto => json!({ "type": ["array", "null"], "maxItems": call_limits::DEVICE_CRYPTO, "items": {
                "type": "object", "required": ["suite", "id", "config"],
                "properties": { "suite": { "type": "string" }, "id": { "type": ["integer", "string"] }, "config": { "type": "string" } },
            } }),
            Kind::Pem => json!({ "type": ["string", "null"], "minLength": 1, "maxLength": PEM }),
            Kind::FileName => json!({ "type": ["string", "number", "null"], "maxLength": call_limits::FILE_NAME }),
            Kind::Seconds(from, to) => json!({ "type": ["number", "string", "null"], "minimum": from, "maximum": to }),
            Kind::Millis(from, to) => json!({ "type": ["integer", "string", "null"], "minimum": from, "maximum": to }),
            Kind::Flag => json!({ "type": ["boolean", "null"] }),
            Kind::Headers(_) => json!({
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "number", "array"], "items": { "type": ["string", "number"] } },
            }),
            Kind::Parameters => json!({ "type": ["object", "null"], "additionalProperties": { "type": ["string", "number"] } }),
            Kind::Json => json!({}),
        }
    }
}

/// The schema of a whole body.
pub(super) fn schema(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = field.kind.schema();
        schema["description"] = field.says.into();
        properties.insert(field.name.into(), schema);
    }
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// IC-013: a number is taken as it was written, so that a long one keeps its digits.
fn text(name: &str, raw: &str, max: usize) -> Result<String, ApiError> {
    let value = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|error| ApiError::bad(name, format!("not a text: {error}")))?,
        Some(b'-' | b'0'..=b'9') => raw.to_owned(),
        _ => return Err(ApiError::bad(name, "must be a text")),
    };
    if value.len() > max {
        return Err(ApiError::bad(name, format!("longer than {max} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(ApiError::bad(name, "control characters"));
    }
    Ok(value)
}

fn filled(name: &str, value: String) -> Result<String, ApiError> {
    if value.is_empty() { Err(ApiError::bad(name, "must not be empty")) } else { Ok(value) }
}

/// IC-051. The tag is decimal, as a number or a text.
fn crypto(name: &str, raw: &str) -> Result<Vec<Crypto>, ApiError> {
    let lines: Vec<BTreeMap<String, &RawValue>> =
        serde_json::from_str(raw).map_err(|_| ApiError::bad(name, "must be a list of objects with suite, id and config"))?;
    if lines.len() > call_limits::DEVICE_CRYPTO {
        return Err(ApiError::bad(name, format!("more than {} lines", call_limits::DEVICE_CRYPTO)));
    }
    let read = |(place, line): (usize, &BTreeMap<String, &RawValue>)| {
        let of = |part: &str| {
            let at = format!("{name}[{place}].{part}");
            line.get(part).ok_or_else(|| ApiError::bad(&at, "is missing")).and_then(|raw| text(&at, raw.get(), URI))
        };
        let tag = of("id")?.parse().map_err(|_| ApiError::bad(&format!("{name}[{place}].id"), "must be a decimal tag"))?;
        Crypto::new(tag, &of("suite")?, &of("config")?).map_err(|why| ApiError::bad(&format!("{name}[{place}]"), why))
    };
    lines.iter().enumerate().map(read).collect()
}

/// `{name: value}`, and where `lists` says so `{name: [value, …]}`, one pair for each value.
fn pairs(name: &str, raw: &str, lists: bool) -> Result<Vec<(String, String)>, ApiError> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(raw).map_err(|_| ApiError::bad(name, "must be an object"))?;
    let mut pairs = Vec::new();
    for (key, value) in object {
        let long = super::BODY;
        if lists && value.get().starts_with('[') {
            let values: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| ApiError::bad(name, "must hold texts"))?;
            for value in values {
                pairs.push((key.clone(), text(name, value.get(), long)?));
            }
        } else {
            pairs.push((key, text(name, value.get(), long)?));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        required("id", Kind::Id, ""),
        optional("name", Kind::Text, ""),
        optional("file", Kind::FileName, ""),
        optional("wait", Kind::Seconds(1, 300), ""),
        optional("flag", Kind::Flag, ""),
        optional("ms", Kind::Millis(40, 2000), ""),
        optional("way", Kind::OneOf(&["in", "out"]), ""),
        optional("xHeaders", Kind::Headers("x-"), ""),
        optional("parameters", Kind::Parameters, ""),
        optional("reference", Kind::Json, ""),
    ];

    #[test]
    fn ic_013_numbers_and_texts_stand_for_each_other() {
        let body = br#"{"id":5473001594892095000,"name":-1.50,"file":7,"wait":"2.5","flag":true,"parameters":{"counter":1}}"#;
        let mut values = read(FIELDS, body).expect("read");
        assert_eq!(values.required("id"), "5473001594892095000");
        assert_eq!(values.text("name").as_deref(), Some("-1.50"));
        assert_eq!(values.text("file").as_deref(), Some("7"));
        assert_eq!(values.time("wait"), Some(Duration::from_millis(2500)));
        assert!(values.flag("flag"));
        assert_eq!(values.pairs("parameters"), [("counter".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn ic_014_what_is_unknown_is_counted_and_null_is_absent() {
        let mut values = read(FIELDS, br#"{"id":"a","name":null,"newer":{"x":[1]},"other":1}"#).expect("read");
        assert_eq!((values.unknown, values.text("name"), values.flag("flag")), (2, None, false));
        assert!(values.pairs("xHeaders").is_empty() && values.time("wait").is_none());
    }

    #[test]
    fn ic_012_a_reference_keeps_its_bytes() {
        for reference in [r#"{ "b" : 1.0, "a":1e2 }"#, "20000", r#""text \u00e9""#, "[1, 2]", "false"] {
            let body = format!(r#"{{"id":"a","reference":{reference}}}"#);
            assert_eq!(read(FIELDS, body.as_bytes()).expect("read").text("reference").as_deref(), Some(reference));
        }
    }

    #[test]
    fn headers_are_one_line_for_each_value_and_smuggle_none() {
        let mut values = read(FIELDS, br#"{"id":"a","xHeaders":{"X-One":"1","x-Many":["a",2]}}"#).expect("read");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(values.pairs("xHeaders"), [pair("X-One", "1"), pair("x-Many", "a"), pair("x-Many", "2")]);
        for bad in [
            r#"{"Via":"x"}"#,
            r#"{"X-":"x"}"#,
            r#"{"X-A":"b\r\nVia: c"}"#,
            r#"{"X-A B":"c"}"#,
            r#"{"X-A":{}}"#,
            r#"{"X-A":[[]]}"#,
            "[]",
            "1",
        ] {
            let body = format!(r#"{{"id":"a","xHeaders":{bad}}}"#);
            let error = read(FIELDS, body.as_bytes()).expect_err(bad);
            assert!(error.message.starts_with("xHeaders: "), "{bad}: {}", error.message);
        }
    }

    #[test]
    fn every_refusal_names_the_field() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(129));
        let reference = format!(r#"{{"id":"a","reference":"{}"}}"#, "x".repeat(4096));
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{", "body"),
            ("{}", "id"),
            (r#"{"id":null}"#, "id"),
            (r#"{"id":""}"#, "id"),
            (r#"{"id":{}}"#, "id"),
            (r#"{"id":true}"#, "id"),
            (r#"{"id":"a\u0000"}"#, "id"),
            (r#"{"id":"\ud800"}"#, "id"),
            (long.as_str(), "id"),
            (r#"{"id":"a","name":["x"]}"#, "name"),
            (r#"{"id":"a","file":"../x"}"#, "file"),
            (r#"{"id":"a","wait":0.5}"#, "wait"),
            (r#"{"id":"a","wait":301}"#, "wait"),
            (r#"{"id":"a","wait":"NaN"}"#, "wait"),
            (r#"{"id":"a","wait":1e999}"#, "wait"),
            (r#"{"id":"a","wait":[]}"#, "wait"),
            (r#"{"id":"a","flag":"yes"}"#, "flag"),
            (r#"{"id":"a","ms":39}"#, "ms"),
            (r#"{"id":"a","ms":100.5}"#, "ms"),
            (r#"{"id":"a","ms":-1}"#, "ms"),
            (r#"{"id":"a","way":"up"}"#, "way"),
            (r#"{"id":"a","way":["in"]}"#, "way"),
            (r#"{"id":"a","flag":1}"#, "flag"),
            (r#"{"id":"a","parameters":{"":"x"}}"#, "parameters"),
            (r#"{"id":"a","parameters":{"x":["y"]}}"#, "parameters"),
            (reference.as_str(), "reference"),
        ] {
            let error = read(FIELDS, body.as_bytes()).expect_err(body);
            assert!(error.message.starts_with(&format!("{field}: ")), "{body:.60}: {}", error.message);
        }
    }

    const OF_DEVICE: &[Field] = &[
        required("codec", Kind::OneOf(&["PCMA", "PCMU"]), ""),
        required("receiveIp", Kind::Ip, ""),
        required("receivePort", Kind::Whole(1024, 65535), ""),
        optional("crypto", Kind::Crypto, ""),
    ];

    #[test]
    fn ic_045_048_049_051_a_devices_side_is_read() {
        let body = br#"{"codec":"PCMA","receiveIp":"2001:db8::1","receivePort":"30000",
                        "crypto":[{"suite":"AES_CM_128_HMAC_SHA1_80","id":"1","config":"inline:k"},{"suite":"A","id":2,"config":"inline:l"}]}"#;
        let mut values = read(OF_DEVICE, body).expect("read");
        assert_eq!((values.required("receiveIp").as_str(), values.whole("receivePort")), ("2001:db8::1", Some(30000)));
        let crypto = values.crypto("crypto");
        assert_eq!((crypto.len(), crypto[0].tag(), crypto[1].suite(), crypto[1].key()), (2, 1, "A", "inline:l"));
        let with = |field: &str, value: Value| {
            let mut body = json!({ "codec": "PCMA", "receiveIp": "10.0.0.1", "receivePort": 30000 });
            body[field] = value;
            read(OF_DEVICE, body.to_string().as_bytes()).expect_err(field).message
        };
        let line = |suite: &str, id: Value, config: &str| json!([{ "suite": suite, "id": id, "config": config }]);
        for (field, value, at) in [
            ("codec", json!("GSM"), "codec: "),
            ("receiveIp", json!("host.example"), "receiveIp: "),
            ("receiveIp", json!("10.0.0.1:80"), "receiveIp: "),
            ("receivePort", json!(1023), "receivePort: "),
            ("receivePort", json!(65536), "receivePort: "),
            ("receivePort", json!(30000.5), "receivePort: "),
            ("crypto", json!({}), "crypto: "),
            ("crypto", json!([{}]), "crypto[0].id: "),
            ("crypto", line("A", json!("x"), "inline:k"), "crypto[0].id: "),
            ("crypto", line("A B", json!(1), "inline:k"), "crypto[0]: "),
            ("crypto", line("A", json!(1), "key"), "crypto[0]: "),
        ] {
            let message = with(field, value.clone());
            assert!(message.starts_with(at), "{field} {value}: {message}");
            assert!(!message.contains("inline:k"), "no refusal repeats a key: {message}");
        }
    }

    #[test]
    fn the_schema_says_what_is_read() {
        let schema = schema(FIELDS);
        assert_eq!(schema["required"], json!(["id"]));
        assert_eq!(schema["properties"].as_object().map(Map::len), Some(FIELDS.len()));
    }
}
