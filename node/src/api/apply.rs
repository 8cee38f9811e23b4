//! Tenants as a file describes them: what of them differs from what there is, line by line, and the same at the start of the node. A file holds
//! no secrets: tokens, storages and keys are not in it.
//!
//! Start with [`changes`]; the file itself is read in `crate::tenants_file`.

use super::endpoint;
use super::reply::ApiError;
use super::tenants::{check_domain, from_json, to_json};
use crate::store::{Store, TenantRow};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What becomes of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) domain: String,
    /// `added`, `changed` or `removed`.
    pub(super) what: &'static str,
    /// `+` is added, `-` goes, `~` has another value.
    pub(super) lines: Vec<String>,
}

impl Change {
    pub(super) fn to_json(&self) -> Value {
        json!({ "domain": self.domain, "change": self.what, "lines": self.lines })
    }
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("domain", endpoint::text("The tenant.")),
        ("change", json!({ "enum": ["added", "changed", "removed"] })),
        (
            "lines",
            json!({ "type": "array", "items": { "type": "string" }, "description": "`+` is added, `-` goes, `~` has another value." }),
        ),
    ])
}

pub(super) fn schema_of_body() -> Value {
    json!({
        "type": "object", "required": ["tenants"], "additionalProperties": false,
        "properties": {
            "tenants": { "type": "array", "items": { "type": "object" }, "description": "As PUT takes each, with its `domain`." },
            "dry_run": endpoint::nullable(endpoint::flag("Say what would change, and change nothing.")),
            "prune": endpoint::nullable(endpoint::flag("Remove tenants that are not named.")),
        },
    })
}

/// Reads what is wanted. A refusal names the tenant and the field.
pub(super) fn rows(tenants: Vec<Value>) -> Result<Vec<TenantRow>, ApiError> {
    let mut rows: Vec<TenantRow> = Vec::with_capacity(tenants.len());
    for (place, tenant) in tenants.into_iter().enumerate() {
        let Value::Object(fields) = tenant else { return Err(ApiError::bad(&format!("tenants[{place}]"), "must be an object")) };
        let domain = fields.get("domain").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let domain = domain.ok_or_else(|| ApiError::bad(&format!("tenants[{place}].domain"), "must be a host name"))?;
        check_domain(&domain).map_err(|why| ApiError::bad(&format!("tenants[{place}].domain"), why))?;
        let fields: Map<String, Value> = fields.into_iter().filter(|(name, _)| name != "domain").collect();
        let row = from_json(domain.clone(), fields, false).map_err(|error| ApiError::bad(&domain, error.message))?;
        if rows.iter().any(|other| other.domain == domain) {
            return Err(ApiError::bad(&domain, "is there twice"));
        }
        if row.default && rows.iter().any(|other| other.default) {
            return Err(ApiError::bad(&domain, "another tenant is the default one already"));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// What `wanted` makes of `found`, by domain. Tenants that are not named stay, unless `prune`.
pub(super) fn changes(found: &[TenantRow], wanted: &[TenantRow], prune: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for tenant in wanted {
        let before = found.iter().find(|before| before.domain == tenant.domain);
        let what = if before.is_some() { "changed" } else { "added" };
        let usual = from_json(tenant.domain.clone(), Map::new(), false).unwrap_or_default();
        let lines = lines(&flat(before.unwrap_or(&usual)), &flat(tenant));
        if before.is_none() || !lines.is_empty() {
            changes.push(Change { domain: tenant.domain.clone(), what, lines });
        }
    }
    if prune {
        let named: BTreeSet<&str> = wanted.iter().map(|tenant| tenant.domain.as_str()).collect();
        let gone = found.iter().filter(|tenant| !named.contains(tenant.domain.as_str()));
        changes.extend(gone.map(|tenant| Change { domain: tenant.domain.clone(), what: "removed", lines: Vec::new() }));
    }
    changes.sort_by(|a, b| a.domain.cmp(&b.domain));
    changes
}

/// Its fields by name, with dots for those inside another.
fn flat(tenant: &TenantRow) -> Vec<(String, Value)> {
    let Value::Object(fields) = to_json(tenant) else { return Vec::new() };
    let mut all = Vec::new();
    for (name, value) in fields.into_iter().filter(|(name, _)| name != "domain" && name != "created_at") {
        match value {
            Value::Object(inner) if name == "quotas" => {
                all.extend(inner.into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)))
            }
            value => all.push((name, value)),
        }
    }
    all
}

fn lines(before: &[(String, Value)], after: &[(String, Value)]) -> Vec<String> {
    let mut lines = Vec::new();
    for ((name, old), (_, new)) in before.iter().zip(after) {
        match (old, new) {
            (old, new) if old == new => {}
            (Value::Array(old), Value::Array(new)) => {
                lines.extend(old.iter().filter(|item| !new.contains(item)).map(|item| format!("- {name}: {item}")));
                lines.extend(new.iter().filter(|item| !old.contains(item)).map(|item| format!("+ {name}: {item}")));
                if old.len() == new.len() && old.iter().all(|item| new.contains(item)) {
                    lines.push(format!("~ {name}: in another order"));
                }
            }
            (Value::Null, new) => lines.push(format!("+ {name}: {new}")),
            (old, Value::Null) => lines.push(format!("- {name}: {old}")),
            (old, new) => lines.push(format!("~ {name}: {old} -> {new}")),
        }
    }
    lines
}

/// At the start of the node: sets what the file says, as `PUT /admin/tenants` does. `knows_trunk`: whether one of this name is configured. Gives
/// how many tenants changed.
pub fn apply_at_start(store: &Store, tenants: Vec<Value>, knows_trunk: impl Fn(&str) -> bool) -> Result<usize, String> {
    let wanted = rows(tenants).map_err(|error| error.message)?;
    for tenant in &wanted {
        let named = tenant.numbers.iter().filter_map(|number| number.trunk.as_ref()).chain(&tenant.trunks);
        if let Some(trunk) = named.into_iter().find(|trunk| !knows_trunk(trunk)) {
            return Err(format!("{}: no trunk is called {trunk:?}", tenant.domain));
        }
    }
    let changes = changes(&store.tenants().map_err(|error| error.to_string())?, &wanted, false);
    let changed: Vec<TenantRow> = wanted.into_iter().filter(|tenant| changes.iter().any(|change| change.domain == tenant.domain)).collect();
    let count = changed.len();
    if count > 0 {
        store.put_tenants(changed, "the node's file of tenants").map_err(|error| error.to_string())?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tenants: Value) -> Vec<TenantRow> {
        let Value::Array(tenants) = tenants else { panic!("a list") };
        rows(tenants).unwrap_or_else(|error| panic!("{}", error.message))
    }

    #[test]
    fn a_difference_is_told_line_by_line_and_no_difference_is_none() {
        let found = wanted(json!([
            { "domain": "a.example", "numbers": ["100", "200"], "quotas": { "storage_bytes": 5, "instances": 3 }, "error_prompt": "sorry.wav" },
            { "domain": "b.example" },
        ]));
        assert_eq!(changes(&found, &found, true), []);
        let next = wanted(json!([
            { "domain": "A.example", "numbers": ["100", "300"], "quotas": { "storage_bytes": 6, "calls_per_second": 9 }, "default": true },
            { "domain": "c.example", "max_sessions": 7 },
        ]));
        let told = changes(&found, &next, true);
        let [a, b, c] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((a.domain.as_str(), a.what), ("a.example", "changed"));
        let mut lines = a.lines.clone();
        lines.sort();
        let expected = [
            "+ numbers: \"300\"",
            "+ quotas.calls_per_second: 9",
            "- error_prompt: \"sorry.wav\"",
            "- numbers: \"200\"",
            "- quotas.instances: 3",
            "~ default: false -> true",
            "~ quotas.storage_bytes: 5 -> 6",
        ];
        assert_eq!(lines, expected);
        assert_eq!((b.domain.as_str(), b.what), ("b.example", "removed"));
        assert_eq!((c.what, c.lines.contains(&"~ max_sessions: 100 -> 7".to_owned())), ("added", true));
        assert_eq!(changes(&found, &next, false).len(), 2, "who is not named stays");
        let turned = wanted(
            json!([{ "domain": "a.example", "numbers": ["200", "100"], "quotas": { "storage_bytes": 5, "instances": 3 }, "error_prompt": "sorry.wav" }]),
        );
        assert_eq!(changes(&found, &turned, false)[0].lines, ["~ numbers: in another order"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_tenant_and_field() {
        for (tenants, named) in [
            (json!([{ "numbers": [] }]), "tenants[0].domain"),
            (json!([{ "domain": "a b" }]), "tenants[0].domain"),
            (json!(["a"]), "tenants[0]"),
            (json!([{ "domain": "a", "colour": 1 }]), "a: colour"),
            (json!([{ "domain": "a", "quotas": { "storage": 1 } }]), "a: quotas.storage"),
            (json!([{ "domain": "a", "quotas": { "cpu_weight": 0 } }]), "a: quotas.cpu_weight"),
            (json!([{ "domain": "a" }, { "domain": "A" }]), "a: is there twice"),
            (json!([{ "domain": "a", "default": true }, { "domain": "b", "default": true }]), "b: another"),
        ] {
            let Value::Array(tenants) = tenants else { panic!("a list") };
            let error = rows(tenants.clone()).expect_err("refused");
            assert!(error.message.starts_with(named), "{tenants:?}: {}", error.message);
        }
    }
}
