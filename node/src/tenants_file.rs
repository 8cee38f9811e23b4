//! A file that describes tenants: TOML, one `[[tenant]]` each, with the fields of `PUT /admin/tenants/{domain}`. What is not named has its
//! default. Nothing in it is secret: tokens, keys and credentials of storages are not.
//!
//! Here it is read and written; what it changes is `api/apply.rs`'s to say.

use crate::store::{FallbackRow, Quotas, RecordAnnounce};
use hookswitch_call::Country;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tenant: Vec<Tenant>,
}

/// As the API takes it. What is inside of lists is checked there.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<Vec<toml::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trunks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sessions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destinations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mediaservice_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox_origins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_retention_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_announce: Option<RecordAnnounce>,
    #[serde(skip_serializing_if = "Option::is_none")]
    graph_sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    large_components: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codecs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_numbers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<FallbackRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quotas: Option<Quotas>,
}

/// The tenants of a file, as the API takes them. What cannot be read is said in one line that begins with its line.
pub fn read(text: &str) -> Result<Vec<Value>, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    file.tenant.iter().map(|tenant| serde_json::to_value(tenant).map_err(|error| error.to_string())).collect()
}

/// Tenants as the API shows them, as a file: by domain, without what is as usual.
pub fn write(tenants: &[Value]) -> Result<String, String> {
    let mut tenants: Vec<&Map<String, Value>> = tenants.iter().filter_map(Value::as_object).collect();
    tenants.sort_by_key(|tenant| tenant.get("domain").and_then(Value::as_str).unwrap_or_default().to_owned());
    let tenants = tenants.into_iter().map(|tenant| toml::Value::try_from(unusual(tenant))).collect::<Result<Vec<_>, _>>();
    let tenants = tenants.map_err(|error| error.to_string())?;
    let file = toml::Table::from_iter([("tenant".to_owned(), toml::Value::Array(tenants))]);
    toml::to_string(&file).map_err(|error| error.to_string())
}

fn unusual(tenant: &Map<String, Value>) -> Map<String, Value> {
    let usual = serde_json::to_value(FallbackRow::default()).unwrap_or_default();
    let announce = RecordAnnounce::default().name();
    let mut said = Map::new();
    for (name, value) in tenant {
        let value = match (name.as_str(), value) {
            ("created_at", _) | (_, Value::Null | Value::Bool(false)) => continue,
            ("fallback", value) if *value == usual => continue,
            ("record_announce", value) if *value == announce => continue,
            ("graph_sample_rate", value) if *value == 16_000 => continue,
            ("country", Value::String(code)) if code == Country::default().code() => continue,
            (_, Value::Array(items)) if items.is_empty() => continue,
            ("quotas", Value::Object(quotas)) => {
                let said = quotas.iter().filter(|(name, value)| !(value.is_null() || *name == "cpu_weight" && **value == 1));
                let said: Map<String, Value> = said.map(|(name, value)| (name.clone(), value.clone())).collect();
                if said.is_empty() {
                    continue;
                }
                Value::Object(said)
            }
            (_, value) => value.clone(),
        };
        said.insert(name.clone(), value);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        let shown = [
            json!({
                "domain": "b.example", "default": true, "numbers": ["100", { "trunk": "north", "number": "200" }],
                "fallback": { "action": "announce", "files": ["closed.wav"] }, "trunks": ["north"], "max_sessions": 5,
                "quotas": { "calls_per_second": 3, "instances": null, "cpu_ms_per_second": null, "cpu_weight": 2, "storage_bytes": 1_099_511_627_776u64,
                            "minutes_per_month": null, "deploys_per_minute": null },
                "error_prompt": "sorry \"so\".wav", "destinations": ["192.0.2.0/24"], "mediaservice_ids": [], "trusted": true,
                "outbox_origins": ["https://x"], "media_addresses": ["10.0.0.0/8"], "recording_retention_s": 86400, "record_announce": "always",
                "graph_sample_rate": 8000, "large_components": true, "country": "US", "codecs": ["PCMU"], "in_numbers": ["9*"],
                "created_at": "2026-01-01T00:00:00.000Z",
            }),
            json!({
                "domain": "a.example", "default": false, "numbers": [], "fallback": { "action": "refuse", "status": 503 }, "trunks": [],
                "max_sessions": 100, "quotas": { "cpu_weight": 1 }, "error_prompt": null, "destinations": [], "mediaservice_ids": [],
                "trusted": false, "outbox_origins": [], "media_addresses": [], "recording_retention_s": null, "record_announce": "off",
                "graph_sample_rate": 16000, "large_components": false, "country": "SE", "codecs": [], "in_numbers": [],
                "created_at": "2026-01-01T00:00:00.000Z",
            }),
        ];
        let text = write(&shown).expect("written");
        let again = read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        assert_eq!(again[0], json!({ "domain": "a.example", "max_sessions": 100 }), "{text}");
        assert_eq!(again[1]["numbers"], shown[0]["numbers"]);
        assert_eq!(again[1]["quotas"], shown[0]["quotas"]);
        assert_eq!(again[1]["fallback"], shown[0]["fallback"]);
        for field in [
            "default",
            "trunks",
            "max_sessions",
            "error_prompt",
            "destinations",
            "trusted",
            "outbox_origins",
            "media_addresses",
            "recording_retention_s",
            "record_announce",
            "graph_sample_rate",
            "large_components",
            "country",
            "codecs",
            "in_numbers",
        ] {
            assert_eq!(again[1][field], shown[0][field], "{field}");
        }
        assert_eq!(read("").expect("empty"), Vec::<Value>::new());
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_line() {
        for (text, line, why) in [
            ("[[tenant]]\ndomain = 'a'\ncolour = 1\n", 3, "colour"),
            ("[[tenant]]\ndomain = 'a'\n\n[tenant.quotas]\nstorage = 1\n", 5, "storage"),
            ("[[tenants]]\ndomain = 'a'\n", 1, "tenants"),
            ("[[tenant]]\nmax_sessions = 1\n", 1, "domain"),
            ("[[tenant]]\ndomain = 'a'\nmax_sessions = 'many'\n", 3, "many"),
            ("[[tenant]]\ndomain = \n", 2, ""),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(&format!("line {line}: ")) && error.contains(why), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
