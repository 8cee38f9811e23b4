//! `/{domain}/guests`: upload a handler, see its versions, activate one, go back.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, Upload, blocking, rfc3339};
use crate::guest::LogLine;
use crate::store::VersionRow;
use crate::versions::VersionError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let versions = blocking(move || Ok(api.versions.list(&domain)?)).await?;
    reply::list("versions", versions.iter().map(to_json).collect(), None)
}

/// The body is the component. `?note=` is kept with it, `?activate=true` gives it to new calls at once.
pub(super) async fn upload(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let reply = take(api.clone(), caller, domain.clone(), request).await;
    api.tell_refusal(Upload::Component, &domain, reply)
}

async fn take(api: Arc<Api>, caller: Caller, domain: String, request: Request) -> Reply {
    let note = reply::query(&request, "note")?.unwrap_or_default();
    let activate = reply::flag(&request, "activate")?;
    let accept = |given: &str| TYPES.contains(&given);
    // No more is read than this tenant may have.
    let most = {
        let (api, domain) = (api.clone(), domain.clone());
        blocking(move || Ok(api.versions.class(&domain)?.component_bytes())).await?
    };
    let component = reply::body(request, most, "component", accept, "application/wasm").await?;
    let (uploaded, activated) = blocking(move || {
        let who = caller.to_string();
        let uploaded = api.versions.upload(&domain, &component, &note, &who)?;
        let activated = if activate { Some(api.versions.activate(&domain, uploaded.version.number, &who)?) } else { None };
        Ok((uploaded, activated))
    })
    .await?;
    let status = if uploaded.known { StatusCode::OK } else { StatusCode::CREATED };
    let previous = activated.as_ref().and_then(|activated| activated.previous);
    let version = activated.map_or(uploaded.version, |activated| activated.version);
    reply::with_status(status, json!({ "version": to_json(&version), "known": uploaded.known, "previous": previous }))
}

pub(super) async fn activate(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, number)): Path<(String, String)>,
) -> Reply {
    let number: u32 = number.parse().map_err(|_| ApiError::bad("number", "must be a version's number"))?;
    change(move || api.versions.activate(&domain, number, &caller.to_string())).await
}

pub(super) async fn roll_back(State(api): Shared, caller: Caller, Domain(domain): Domain) -> Reply {
    change(move || api.versions.roll_back(&domain, &caller.to_string())).await
}

/// What the tenant's guests wrote last, newest first. Kept in memory only.
pub(super) async fn log(State(api): Shared, Domain(domain): Domain) -> Reply {
    let lines = api.versions.log(&domain);
    let to_json = |line: &LogLine| json!({ "at": rfc3339(line.at_ms), "session": line.session_id, "level": line.level, "text": line.text });
    reply::list("log", lines.iter().rev().map(to_json).collect(), None)
}

async fn change(change: impl FnOnce() -> Result<crate::versions::Activated, VersionError> + Send + 'static) -> Reply {
    let activated = blocking(move || Ok(change()?)).await?;
    reply::ok(json!({ "version": to_json(&activated.version), "previous": activated.previous }))
}

pub(super) const TYPES: &[&str] = &["application/wasm", "application/octet-stream"];

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("number", endpoint::number("Counts up in its tenant.")),
        ("domain", endpoint::text("Its tenant.")),
        ("active", endpoint::flag("New calls get it.")),
        ("sha256", endpoint::text("Of the component, in hex.")),
        ("size", endpoint::number("Bytes.")),
        ("note", endpoint::text("As it was given.")),
        ("uploaded_at", endpoint::time("When.")),
    ])
}

pub(super) fn uploaded() -> Vec<(&'static str, Value)> {
    let [version, previous] = changed();
    vec![version, ("known", endpoint::flag("These bytes were a version already.")), previous]
}

pub(super) fn changed() -> [(&'static str, Value); 2] {
    [("version", schema()), ("previous", endpoint::nullable(endpoint::number("The version that was active before.")))]
}

pub(super) fn schema_of_log() -> Value {
    endpoint::object(&[
        ("at", endpoint::time("When.")),
        ("session", endpoint::text("UUID of the session.")),
        ("level", endpoint::text("trace, debug, info, warn or error.")),
        ("text", endpoint::text("The line.")),
    ])
}

fn to_json(version: &VersionRow) -> Value {
    json!({
        "number": version.number,
        "domain": version.domain,
        "active": version.active,
        "sha256": version.sha256,
        "size": version.size,
        "note": version.note,
        "uploaded_at": rfc3339(version.uploaded_at),
    })
}
