//! `/admin/tenants/{domain}/keys`: public keys that a tenant's JWTs are verified with. `/admin/reply-keys`: the node's own, for replyIds.

use super::access::Caller;
use super::bearer::PublicKey;
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::roles::Roles;
use super::tenants::check_name;
use super::{Shared, blocking, rfc3339};
use crate::limits;
use crate::reply_keys::RotateError;
use crate::store::{KeyRow, wall_ms};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Keys of a tenant: one for each back office, and the next one while they change over. Each is tried for a token. More: 409.
const KEYS: usize = 8;
/// A PEM of 8192 bits has 1.5 KB.
const BODY: usize = 16 << 10;
pub(super) const TYPES: &[&str] =
    &["application/x-pem-file", "application/jwk+json", "application/json", "text/plain", "application/octet-stream"];

pub(super) async fn list(State(api): Shared, Path(domain): Path<String>) -> Reply {
    let keys = blocking(move || {
        let domain = domain.to_ascii_lowercase();
        api.store.tenant(&domain)?.ok_or_else(|| ApiError::not_found("unknown domain"))?;
        Ok(api.store.keys(&domain)?)
    })
    .await?;
    reply::list("keys", keys.iter().filter_map(to_json).collect(), None)
}

pub(super) async fn put(State(api): Shared, caller: Caller, Path((domain, label)): Path<(String, String)>, request: Request) -> Reply {
    check_name("label", &label)?;
    let (roles, expires) = (reply::query(&request, "roles")?, reply::query(&request, "expires_in_s")?);
    let roles = roles.map_or(Ok(Roles::ALL), |names| Roles::read(&names)).map_err(|why| ApiError::bad("roles", why))?;
    let longest = limits::TOKEN_LONGEST.as_secs();
    let expires_at = match expires.map(|text| text.parse::<u64>()) {
        None => None,
        Some(Ok(seconds)) if (1..=longest).contains(&seconds) => Some(wall_ms() + seconds * 1000),
        Some(_) => return Err(ApiError::bad("expires_in_s", format!("must be a number from 1 to {longest}"))),
    };
    let body = reply::body(request, BODY, "key", |given| TYPES.contains(&given), "application/x-pem-file or application/jwk+json").await?;
    let key = PublicKey::read(&body).map_err(|why| ApiError::bad("key", why))?;
    let row = KeyRow { label: label.clone(), key: key.to_stored(), roles: roles.to_string(), created_at: 0, expires_at, used_at: None };
    let (new, row) = blocking(move || {
        let domain = domain.to_ascii_lowercase();
        let new = api.store.put_key(&domain, row, KEYS, &caller.to_string())?;
        let row = api.store.keys(&domain)?.into_iter().find(|row| row.label == label);
        Ok((new, row))
    })
    .await?;
    let row = row.as_ref().and_then(to_json).ok_or_else(|| ApiError::conflict("the key was removed meanwhile"))?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({ "key": row }))
}

pub(super) async fn remove(State(api): Shared, caller: Caller, Path((domain, label)): Path<(String, String)>) -> Reply {
    blocking(move || Ok(api.store.delete_key(&domain.to_ascii_lowercase(), &label, &caller.to_string())?)).await?;
    reply::ok(json!({}))
}

/// IC-011: replyIds are signed with a new key from now on.
pub(super) async fn rotate_reply_keys(State(api): Shared, caller: Caller) -> Reply {
    let kids = blocking(move || {
        let kids = api.reply_keys.rotate().map_err(|error| match error {
            RotateError::TooMany(_) => ApiError::conflict(error.to_string()),
            RotateError::Io(error) => {
                tracing::error!(%error, "the keys of replyIds could not be stored");
                ApiError::internal()
            }
        })?;
        api.store.save_audit(&caller.to_string(), "", "reply keys rotated", &kids[0]);
        Ok(kids)
    })
    .await?;
    reply::ok(json!({ "kids": kids }))
}

fn to_json(row: &KeyRow) -> Option<Value> {
    let key = PublicKey::from_stored(&row.key)?;
    Some(json!({
        "label": row.label,
        "bits": key.bits(),
        "thumbprint": key.thumbprint(),
        "roles": Roles::read(&row.roles).unwrap_or_default().names(),
        "created_at": rfc3339(row.created_at),
        "expires_at": row.expires_at.map(rfc3339),
        "used_at": row.used_at.map(rfc3339),
    }))
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("label", endpoint::text("What it is for.")),
        ("bits", endpoint::number("Of the modulus.")),
        ("thumbprint", endpoint::text("SHA-256 over its JWK (RFC 7638), in hex.")),
        ("roles", super::tenants::schema_of_roles()),
        ("created_at", endpoint::time("When it was stored.")),
        ("expires_at", endpoint::nullable(endpoint::time("When it is void; null: never."))),
        ("used_at", endpoint::nullable(endpoint::time("When a JWT was verified with it last, to within a minute."))),
    ])
}
