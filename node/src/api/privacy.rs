//! `/{domain}/privacy/erase`: forgets one party: recordings and what lies beside them, what was delivered of them, call records, posts that
//! wait. What is on legal hold stays, and is said.

use super::access::{Caller, Domain};
use super::endpoint;
use super::reply::{self, ApiError, Reply};
use super::{Shared, blocking};
use crate::store::{RecordingState, wall_ms};
use axum::extract::{Request, State};
use serde_json::{Value, json};

const BODY: usize = 4 << 10;
/// Bytes of a party's name or number.
const PARTY: usize = 256;

pub(super) async fn erase(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| ApiError::bad("body", "not JSON"))?;
    let Value::Object(mut body) = body else { return Err(ApiError::bad("body", "must be an object")) };
    let party = match body.remove("party") {
        Some(Value::String(party)) if (1..=PARTY).contains(&party.trim().len()) && !party.chars().any(char::is_control) => party,
        _ => return Err(ApiError::bad("party", format!("must be a number, a name or a SIP address of 1 to {PARTY} bytes"))),
    };
    let dry_run = match body.remove("dry_run").unwrap_or_default() {
        Value::Null => false,
        Value::Bool(dry_run) => dry_run,
        _ => return Err(ApiError::bad("dry_run", "must be true or false")),
    };
    // A mistyped dry_run must not erase.
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    let names = names_of(&party);
    let answer = blocking(move || {
        let who = caller.to_string();
        let found = api.store.of_party(&domain, &names)?;
        let (mut erased, mut held, mut running, mut delivered) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (row, on_hold) in &found.recordings {
            if *on_hold {
                held.push(&row.id);
            } else if row.state == RecordingState::Recording {
                running.push(&row.id);
            } else if dry_run {
                delivered += u64::from(api.store.delivery(&row.id)?.is_some_and(|delivery| !delivery.place.is_empty()));
                erased.push(&row.id);
            } else {
                delivered += u64::from(api.archive.keeper.erase(row, "its party was erased", &who, wall_ms())?);
                erased.push(&row.id);
            }
        }
        let calls = if dry_run {
            found.calls
        } else {
            // Whose data it was must not live on in the record of its end: enough of a hash that a request can be proven.
            let hash = crate::versions::sha256_hex(names.first().map_or(&[][..], |name| name.as_bytes()));
            let detail = format!("sha256 {:.16}: {} recordings, {} on hold, {} running", hash, erased.len(), held.len(), running.len());
            api.store.erase_calls(&domain, &names, &who, &detail)?
        };
        api.archive.delivery.nudge();
        Ok(json!({
            "dry_run": dry_run, "recordings": erased, "held": held, "running": running, "delivered": delivered, "call_records": calls,
        }))
    })
    .await?;
    reply::ok(json!({ "erased": answer }))
}

/// A party as it may be stored: as given, and the user of a SIP or tel address.
fn names_of(party: &str) -> Vec<String> {
    let party = party.trim();
    let bare = ["sip:", "sips:", "tel:"].iter().find_map(|scheme| {
        let head = party.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then(|| &party[scheme.len()..])
    });
    let user = bare.map(|address| address.split(['@', ';']).next().unwrap_or(address)).filter(|user| !user.is_empty());
    let mut names = vec![user.unwrap_or(party).to_owned()];
    if user.is_some() {
        names.push(party.to_owned());
    }
    names
}

pub(super) fn schema_of_body() -> Value {
    json!({
        "type": "object", "required": ["party"], "additionalProperties": false,
        "properties": {
            "party": { "type": "string", "minLength": 1, "maxLength": PARTY,
                       "description": "A number or name as call records have it, or a SIP or tel address, of which the user counts." },
            "dry_run": endpoint::nullable(endpoint::flag("Say what would be erased, and erase nothing.")),
        },
    })
}

pub(super) fn schema() -> Value {
    let ids = |says: &str| json!({ "type": "array", "items": { "type": "string" }, "description": says });
    endpoint::object(&[
        ("dry_run", endpoint::flag("Nothing was erased.")),
        ("recordings", ids("Recordings that went.")),
        ("held", ids("Recordings that stay, since they are on legal hold.")),
        ("running", ids("Recordings that stay, since they are still made: ask again when they are finished.")),
        (
            "delivered",
            endpoint::number(
                "Of those that went, how many lie in the tenant's storage too: they are removed there next, until they are gone.",
            ),
        ),
        ("call_records", endpoint::number("Call records that went.")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_is_its_number_however_it_is_written() {
        for (party, names) in [
            ("alice", vec!["alice"]),
            (" +46701234567 ", vec!["+46701234567"]),
            ("sip:alice@example.com", vec!["alice", "sip:alice@example.com"]),
            ("SIPS:alice@example.com;user=phone", vec!["alice", "SIPS:alice@example.com;user=phone"]),
            ("tel:+4670", vec!["+4670", "tel:+4670"]),
            ("sip:@x", vec!["sip:@x"]),
            ("ö", vec!["ö"]),
        ] {
            assert_eq!(names_of(party), names, "{party}");
        }
    }
}
