//! `/{domain}/sessions/{id}/explain` and `/admin/sessions/{id}/explain`: why a call went as it did. What is kept, and for how long, is the
//! guest room's business.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Shared, rfc3339};
use crate::guest::limits::EXPLAIN_DIGITS;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use std::time::Duration;

/// A wish for digits is one number.
const BODY: usize = 4096;

pub(super) async fn show(State(api): Shared, Domain(domain): Domain, Path((_, id)): Path<(String, String)>) -> Reply {
    answer(api.node.explain(Some(&domain), &id))
}

pub(super) async fn show_any(State(api): Shared, Path(id): Path<String>) -> Reply {
    answer(api.node.explain(None, &id))
}

fn answer(explained: Option<Value>) -> Reply {
    let mut session = explained.ok_or_else(|| ApiError::not_found("unknown session, or one that is no longer kept"))?;
    let time = |object: &mut Value, from: &str, to: &str| {
        let at = object[from].as_u64().unwrap_or(0);
        if let Some(fields) = object.as_object_mut() {
            fields.remove(from);
        }
        object[to] = rfc3339(at).into();
    };
    time(&mut session, "began_ms", "began_at");
    reply::ok(json!({ "session": session }))
}

/// Digits are the callers': whether they are kept is audited.
pub(super) async fn keep_digits(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| ApiError::bad("body", format!("not JSON: {error}")))?;
    let Value::Object(mut body) = body else { return Err(ApiError::bad("body", "must be an object")) };
    let most = EXPLAIN_DIGITS.as_secs();
    let seconds = match body.remove("digits_s").as_ref().and_then(Value::as_u64) {
        Some(seconds) if seconds <= most => seconds,
        _ => return Err(ApiError::bad("digits_s", format!("must be a number from 0 to {most}"))),
    };
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    api.store.save_audit(&caller.to_string(), &domain, "digits kept in explanations", &format!("for {seconds} s"));
    api.node.keep_digits(&domain, Duration::from_secs(seconds));
    reply::ok(json!({ "digits_s": seconds }))
}

pub(super) fn schema_of_wish() -> Value {
    let digits = json!({ "type": "integer", "minimum": 0, "maximum": EXPLAIN_DIGITS.as_secs(),
        "description": "Sessions that begin within so many seconds are kept with the digits that callers press; 0: no more." });
    json!({ "type": "object", "required": ["digits_s"], "properties": { "digits_s": digits }, "additionalProperties": false })
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("id", endpoint::text("UUID of the session.")),
        ("domain", endpoint::text("Its tenant.")),
        ("version", endpoint::nullable(endpoint::number("Of its handler; null: there was none."))),
        ("sha256", endpoint::nullable(endpoint::text("Of the handler's component, in hex."))),
        ("digits", json!({ "enum": ["kept", "redacted"], "description": "Whether digits that were pressed are in it." })),
        ("left_out", endpoint::number("Entries beyond what is kept of one session.")),
        ("entries", json!({ "type": "array", "items": entry(), "description": "Oldest first." })),
        ("began_at", endpoint::time("When its handler was first asked or told.")),
    ])
}

/// Which fields there are depends on `kind`.
fn entry() -> Value {
    let object = |says: &str| json!({ "type": ["object", "null"], "description": says });
    json!({ "type": "object", "required": ["at_ms", "kind"], "properties": {
        "at_ms": { "type": "integer", "description": "Milliseconds since the Unix epoch." },
        "kind": { "enum": ["hook", "log", "order"] },
        "hook": { "enum": ["new-call", "get-call-identifier", "get-ivr-command", "call-event", "notify"] },
        "request": { "description": "As it was put to the handler: fields as in wit/types.wit, with `_` for `-`. Secrets are `*`." },
        "answer": object("As the handler gave it."),
        "verdict": { "type": ["string", "null"], "description": "The answer in words." },
        "failure": object("`kind`: trap, deadline, cpu, limit, refused, nonsense, unavailable or empty; `text`: what is known, a trap's backtrace too."),
        "took_us": { "type": "integer", "description": "From the question to the answer." },
        "ran_us": { "type": ["integer", "null"], "description": "CPU time of the handler's code, in microseconds." },
        "memory": { "type": ["integer", "null"], "description": "Bytes of its memory after it." },
        "cut": { "type": "boolean", "description": "Request and answer were too large." },
        "level": { "type": "string" },
        "text": { "type": "string" },
        "order": { "type": "string", "description": "What the handler ordered." },
        "refused": { "type": ["string", "null"], "description": "Why it was not taken." },
    } })
}
