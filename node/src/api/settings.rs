//! `/{domain}/guests/settings` and `/{domain}/guests/secrets`: what a tenant keeps beside its handler. Settings are shown; of a secret only
//! its name ever comes out again.

use super::access::{Caller, Domain};
use super::bearer::PublicKey;
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::guest::{Secret, Vault};
use crate::limits;
use crate::outbox::{self, CALLBACK_KEY};
use crate::store::{SecretRow, SettingRow};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// A value whose every byte is written as `\u0000`, and what is around it.
const BODY: usize = limits::SETTING_VALUE * 6 + 1024;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let settings = blocking(move || Ok(api.store.settings(&domain)?)).await?;
    reply::list("settings", settings.iter().map(to_json).collect(), None)
}

/// New calls find it; those that are up keep what they have.
pub(super) async fn put(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, key)): Path<(String, String)>,
    request: Request,
) -> Reply {
    check_name("key", &key)?;
    let value = value(request).await?;
    let new = blocking(move || {
        let new = api.store.put_handler_setting(&domain, &key, &value, limits::SETTINGS, &caller.to_string())?;
        api.node.configure();
        Ok(new)
    })
    .await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({}))
}

pub(super) async fn remove(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, key)): Path<(String, String)>) -> Reply {
    blocking(move || {
        api.store.delete_handler_setting(&domain, &key, &caller.to_string())?;
        api.node.configure();
        Ok(())
    })
    .await?;
    reply::ok(json!({}))
}

pub(super) async fn list_secrets(State(api): Shared, Domain(domain): Domain) -> Reply {
    let secrets = blocking(move || Ok(api.store.secrets(&domain)?)).await?;
    let to_json = |row: &SecretRow| json!({ "name": row.name, "changed_at": rfc3339(row.changed_at) });
    reply::list("secrets", secrets.iter().map(to_json).collect(), None)
}

pub(super) async fn put_secret(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, name)): Path<(String, String)>,
    request: Request,
) -> Reply {
    check_name("name", &name)?;
    let value = Secret::new(value(request).await?);
    if value.expose().is_empty() {
        return Err(ApiError::bad("value", "is empty"));
    }
    let new = blocking(move || keep_secret(&api, &domain, &name, &value, &caller.to_string())).await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({}))
}

/// Gives whether it is new. May block.
pub(super) fn keep_secret(api: &Api, domain: &str, name: &str, value: &Secret, who: &str) -> Result<bool, ApiError> {
    let vault = vault(api)?;
    if name == CALLBACK_KEY {
        let public = outbox::public_half(value.expose()).map_err(|why| ApiError::bad("value", why))?;
        // IC-017.
        let public = PublicKey::new(public).to_stored();
        if api.store.keys(domain)?.iter().any(|row| row.key == public) {
            return Err(ApiError::bad("value", "its public half opens the API: callbacks need a key pair of their own"));
        }
    }
    Ok(vault.put(domain, name, value, who)?)
}

pub(super) async fn remove_secret(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, name)): Path<(String, String)>,
) -> Reply {
    blocking(move || Ok(api.store.delete_secret(&domain, &name, &caller.to_string())?)).await?;
    reply::ok(json!({}))
}

fn vault(api: &Api) -> Result<Vault, ApiError> {
    api.node.vault().ok_or_else(|| ApiError::unavailable("this node keeps no secrets"))
}

fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let fits = (1..=limits::SETTING_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let wrong = || ApiError::bad(field, format!("must be 1 to {} letters, digits, `-`, `_` and `.`", limits::SETTING_NAME));
    if fits { Ok(()) } else { Err(wrong()) }
}

/// `{"value": …}`. No refusal repeats it: it may be a secret.
async fn value(request: Request) -> Result<String, ApiError> {
    let mut body: Map<String, Value> = super::recordings::object(request, BODY).await?;
    let value = match body.remove("value") {
        Some(Value::String(value)) if value.len() <= limits::SETTING_VALUE => value,
        Some(Value::String(_)) => return Err(ApiError::bad("value", format!("more than {} bytes", limits::SETTING_VALUE))),
        _ => return Err(ApiError::bad("value", "must be a text")),
    };
    match body.keys().next() {
        Some(unknown) => Err(ApiError::bad(unknown, "no such field")),
        None => Ok(value),
    }
}

fn to_json(row: &SettingRow) -> Value {
    json!({ "key": row.key, "value": row.value, "changed_at": rfc3339(row.changed_at) })
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("key", endpoint::text("Its name.")),
        ("value", endpoint::text("What handlers read.")),
        ("changed_at", endpoint::time("When it was set last.")),
    ])
}

pub(super) fn schema_of_secret() -> Value {
    endpoint::object(&[
        ("name", endpoint::text("What handlers ask for. What it is is not shown.")),
        ("changed_at", endpoint::time("When it was set last.")),
    ])
}

pub(super) fn schema_of_body() -> Value {
    json!({
        "type": "object", "required": ["value"], "additionalProperties": false,
        "properties": { "value": { "type": "string", "maxLength": limits::SETTING_VALUE, "description": "At most so many bytes." } },
    })
}

#[cfg(test)]
mod tests;
