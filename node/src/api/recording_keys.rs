//! `/{domain}/recordingkeys`: a tenant's own keys that wrap the keys of its recordings. They go in and never come out.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Shared, blocking, rfc3339};
use crate::record::keys::KEY;
use crate::record::sidecar::unhex;
use crate::record::tenant_keys::{KeyError, TenantKey};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

const BODY: usize = 1 << 10;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let keys = blocking(move || Ok(api.archive.keys.of_tenant(&domain))).await?;
    reply::list("keys", keys.iter().map(to_json).collect(), None)
}

/// New recordings get this key from now on.
pub(super) async fn put(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let mut body = super::recordings::object(request, BODY).await?;
    let given = match body.remove("key") {
        None | Some(Value::Null) => None,
        // Refused without its value: it is a secret.
        Some(Value::String(text)) => {
            let key = unhex(&text).and_then(|bytes| <[u8; KEY]>::try_from(bytes).ok());
            Some(key.ok_or_else(|| ApiError::bad("key", format!("must be {KEY} bytes in hex")))?)
        }
        Some(_) => return Err(ApiError::bad("key", format!("must be {KEY} bytes in hex"))),
    };
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    let (key, new) = blocking(move || {
        api.store.tenant(&domain)?.ok_or_else(|| ApiError::not_found("unknown domain"))?;
        let (key, new) = api.archive.keys.put_of_tenant(&domain, given.as_ref())?;
        api.store.save_audit(&caller.to_string(), &domain, "recording key set", &key.name);
        Ok((key, new))
    })
    .await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({ "key": to_json(&key) }))
}

/// Every recording that was made with it is unreadable from now on, so none of them may be on hold.
pub(super) async fn erase(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, name)): Path<(String, String)>) -> Reply {
    let (key, recordings) = blocking(move || {
        let wrapped = crate::record::keys::wrapped_by(&name).ok_or_else(|| ApiError::not_found("no such key"))?;
        let (recordings, held) = api.store.recordings_wrapped(&domain, &wrapped)?;
        if held > 0 {
            return Err(ApiError::conflict(format!("{held} recordings that were made with this key are on legal hold")));
        }
        let key = api.archive.keys.erase_of_tenant(&domain, &name)?;
        api.store.save_audit(&caller.to_string(), &domain, "recording key erased", &format!("{name}: {recordings} recordings"));
        Ok((key, recordings))
    })
    .await?;
    reply::ok(json!({ "key": to_json(&key), "recordings": recordings }))
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> ApiError {
        match error {
            KeyError::Erased | KeyError::TooMany => ApiError::conflict(error.to_string()),
            KeyError::Unknown => ApiError::not_found(error.to_string()),
            KeyError::Io(error) => {
                tracing::error!(%error, "a tenant's key of recordings could not be kept");
                ApiError::internal()
            }
        }
    }
}

fn to_json(key: &TenantKey) -> Value {
    json!({
        "name": key.name,
        "current": key.current,
        "created_at": key.created_at.map(rfc3339),
        "erased_at": key.erased_at.map(rfc3339),
    })
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("name", endpoint::text("What sidecars call it, behind `tenant:`.")),
        ("current", endpoint::flag("New recordings get it.")),
        ("created_at", endpoint::nullable(endpoint::time("When it came; null of one that was erased."))),
        ("erased_at", endpoint::nullable(endpoint::time("When it was erased."))),
    ])
}

pub(super) fn schema_of_body() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": { "key": {
            "type": ["string", "null"], "pattern": "^[0-9a-fA-F]{64}$",
            "description": "32 bytes in hex, an AES-256 key. Kept sealed, never shown. Without it the node makes one.",
        } },
    })
}
