//! `/admin/tenants/{domain}/storage`: where a tenant's recordings go. The operator's alone: a folder is this machine's, and a server is
//! somebody whom the node talks to. Credentials go in and never come out.

use super::access::Caller;
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Shared, blocking, rfc3339};
use crate::deliver::{self, Credentials};
use crate::store::StorageRow;
use axum::extract::{Request, State};
use serde_json::{Map, Value, json};
use std::time::Duration;

const BODY: usize = 16 << 10;
/// Bytes of a key's id and of a secret; others' are up to some hundred.
const CREDENTIAL: usize = 1024;
const REGION: &str = "us-east-1";
/// How long trying a new storage may keep its operator waiting.
const PROBE: Duration = Duration::from_secs(10);

pub(super) async fn show(State(api): Shared, Path(domain): Path<String>) -> Reply {
    let row = blocking(move || Ok(api.store.storage(&domain.to_ascii_lowercase())?)).await?;
    let row = row.ok_or_else(|| ApiError::not_found("no storage is set for this domain"))?;
    reply::ok(json!({ "storage": to_json(&row) }))
}

/// Kept whether it works or not: a server that is away now may be there in the night. Whether it does is said.
pub(super) async fn put(State(api): Shared, caller: Caller, Path(domain): Path<String>, request: Request) -> Reply {
    let domain = domain.to_ascii_lowercase();
    let body = reply::body(request, BODY, "body", |given| given == "application/json", "application/json").await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| ApiError::bad("body", "not JSON"))?;
    let Value::Object(body) = body else { return Err(ApiError::bad("body", "must be an object")) };
    let (row, credentials) = from_json(domain, body)?;
    let delivery = api.archive.delivery.clone();
    let row = blocking(move || {
        let sealed = api.archive.delivery.seal(&row.domain, &credentials).map_err(|error| {
            tracing::error!(%error, "a tenant's credentials could not be sealed");
            ApiError::internal()
        })?;
        let row = StorageRow { sealed, ..row };
        api.store.put_storage(row.clone(), &caller.to_string())?;
        Ok(api.store.storage(&row.domain)?.unwrap_or(row))
    })
    .await?;
    delivery.nudge();
    let probe =
        tokio::time::timeout(PROBE, delivery.probe(&row)).await.unwrap_or_else(|_| Err("the storage gave no answer in time".into()));
    reply::ok(json!({ "storage": to_json(&row), "works": probe.is_ok(), "why": probe.err() }))
}

pub(super) async fn remove(State(api): Shared, caller: Caller, Path(domain): Path<String>) -> Reply {
    blocking(move || Ok(api.store.delete_storage(&domain.to_ascii_lowercase(), &caller.to_string())?)).await?;
    reply::ok(json!({}))
}

fn from_json(domain: String, mut body: Map<String, Value>) -> Result<(StorageRow, Credentials), ApiError> {
    let mut text = |field: &'static str| match body.remove(field).unwrap_or_default() {
        Value::Null => Ok(None),
        Value::String(text) if (1..=CREDENTIAL).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            Ok(Some(text))
        }
        // Without its value: it may be a secret.
        _ => Err(ApiError::bad(field, format!("must be a text of 1 to {CREDENTIAL} visible ASCII characters"))),
    };
    let url = text("url")?.ok_or_else(|| ApiError::bad("url", "is needed: s3://BUCKET/PREFIX or file:/FOLDER"))?;
    let endpoint = text("endpoint")?;
    let region = text("region")?.unwrap_or_else(|| REGION.into());
    let (key_id, secret) = (text("key_id")?, text("secret")?);
    let every = match body.remove("every").unwrap_or_default() {
        Value::Null => false,
        Value::Bool(every) => every,
        _ => return Err(ApiError::bad("every", "must be true or false")),
    };
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    deliver::check(&url, endpoint.as_deref()).map_err(|(field, why)| ApiError::bad(field, why))?;
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(ApiError::bad("region", "is not a region's name"));
    }
    let s3 = url.starts_with("s3://");
    if s3 != key_id.is_some() || s3 != secret.is_some() {
        let field = if key_id.is_some() == s3 { "secret" } else { "key_id" };
        return Err(ApiError::bad(field, if s3 { "is needed for s3://" } else { "is for s3:// alone" }));
    }
    let credentials = Credentials { key_id: key_id.unwrap_or_default(), secret: secret.unwrap_or_default() };
    Ok((StorageRow { domain, url, endpoint, region, every, sealed: Vec::new(), changed_at: 0 }, credentials))
}

fn to_json(row: &StorageRow) -> Value {
    json!({
        "url": row.url,
        "endpoint": row.endpoint,
        "region": row.region,
        "every": row.every,
        "changed_at": rfc3339(row.changed_at),
    })
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("url", endpoint::text("s3://BUCKET/PREFIX or file:/FOLDER.")),
        ("endpoint", endpoint::nullable(endpoint::text("Of an S3 server that is not Amazon's."))),
        ("region", endpoint::text("As the server calls it.")),
        ("every", endpoint::flag("A copy of every recording goes there, not only those that were made for it.")),
        ("changed_at", endpoint::time("When it was set.")),
    ])
}

pub(super) fn schema_of_body() -> Value {
    let text = |says: &str| endpoint::nullable(json!({ "type": "string", "minLength": 1, "maxLength": CREDENTIAL, "description": says }));
    json!({
        "type": "object", "required": ["url"], "additionalProperties": false,
        "properties": {
            "url": endpoint::text("s3://BUCKET/PREFIX or file:/FOLDER."),
            "endpoint": text("https://host[:port] of an S3 server that is not Amazon's; http:// for this machine alone."),
            "region": text("As the server calls it; us-east-1 where it is not named."),
            "key_id": text("The access key's id. Needed for s3://."),
            "secret": text("The access key. Kept sealed, never shown."),
            "every": endpoint::nullable(endpoint::flag("A copy of every recording goes there, not only those that were made for it.")),
        },
    })
}
