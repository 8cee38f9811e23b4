//! `/{domain}/guests`: upload a handler, see its versions, activate one for all calls or some, go back. And the operator's
//! `/admin/tenants/{domain}/guest-policy`: what a tenant's versions must fulfil. Only the operator sets it: whoever got hold of a tenant's
//! token must not be able to say that no signature is needed.

use super::access::{Caller, Domain};
use super::endpoint::{self, Path};
use super::reply::{self, ApiError, Reply};
use super::tenants::check_name;
use super::{Api, Shared, Upload, blocking, deploys, follow, rfc3339};
use crate::guest::{LogLine, Trial};
use crate::limits;
use crate::store::{Share, VersionRow};
use crate::versions::signature::SigningKey;
use crate::versions::{GuestPolicy, SIGNING_KEYS, TRIAL_CALLS, TRIED_NUMBERS, VersionHealth, Versions};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use serde_json::{Map, Value, json};
use std::sync::{Arc, PoisonError};

pub(super) async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let versions = blocking(move || {
        let versions = api.versions.list(&domain)?;
        Ok(versions.iter().map(|version| to_json(&api.versions, version)).collect())
    })
    .await?;
    reply::list("versions", versions, None)
}

/// The body is the component. `?note=` is kept with it, `?signature=` is checked, `?activate=true` gives it to new calls at once.
pub(super) async fn upload(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let reply = take(api.clone(), caller, domain.clone(), request).await;
    api.tell_refusal(Upload::Component, &domain, reply)
}

async fn take(api: Arc<Api>, caller: Caller, domain: String, request: Request) -> Reply {
    let note = reply::query(&request, "note")?.unwrap_or_default();
    let signature = reply::query(&request, "signature")?;
    let share = share(&request)?;
    let activate = match (reply::flag(&request, "activate")?, share) {
        (true, share) => Some(share),
        (false, None) => None,
        (false, Some(_)) => return Err(ApiError::bad("activate", "must be true where percent or called is given")),
    };
    may_deploy(&api, &domain).await?;
    let accept = |given: &str| TYPES.contains(&given);
    // No more is read than this tenant may have.
    let most = {
        let (api, domain) = (api.clone(), domain.clone());
        blocking(move || Ok(api.versions.class(&domain)?.component_bytes())).await?
    };
    let component = reply::body(request, most, "component", accept, "application/wasm").await?;
    let (status, answer) = blocking(move || {
        let who = caller.to_string();
        let uploaded = api.versions.upload(&domain, &component, &note, signature.as_deref(), &who)?;
        let (version, previous) = match activate {
            None => (uploaded.version, None),
            Some(share) => {
                let activated = api.versions.activate(&domain, uploaded.version.number, share, &who)?;
                (activated.version, activated.previous)
            }
        };
        let status = if uploaded.known { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, json!({ "version": to_json(&api.versions, &version), "known": uploaded.known, "previous": previous })))
    })
    .await?;
    reply::with_status(status, answer)
}

/// A tenant's quota of uploads and activations: each may be a compilation, and a version that calls in progress hold on to.
async fn may_deploy(api: &Arc<Api>, domain: &str) -> Result<(), ApiError> {
    let quota = {
        let (api, domain) = (api.clone(), domain.to_owned());
        blocking(move || Ok(api.store.tenant(&domain)?.and_then(|tenant| tenant.quotas.deploys_per_minute))).await?
    };
    let (now, most) = (api.since_start(), quota.unwrap_or(limits::DEPLOYS_PER_MINUTE));
    api.deploys.lock().unwrap_or_else(PoisonError::into_inner).take_at(now, domain, deploys(most)).map_err(|wait| {
        ApiError::too_many(format!("deploys_per_minute: the tenant may upload and activate {most} times in a minute")).after(wait)
    })
}

/// `?percent=` or `?called=` (again for each number): only for some calls.
pub(super) async fn activate(
    State(api): Shared,
    caller: Caller,
    Domain(domain): Domain,
    Path((_, number)): Path<(String, String)>,
    request: Request,
) -> Reply {
    let number: u32 = number.parse().map_err(|_| ApiError::bad("number", "must be a version's number"))?;
    let share = share(&request)?;
    may_deploy(&api, &domain).await?;
    change(api, move |versions| versions.activate(&domain, number, share, &caller.to_string())).await
}

pub(super) async fn promote(State(api): Shared, caller: Caller, Domain(domain): Domain) -> Reply {
    change(api, move |versions| versions.promote(&domain, &caller.to_string())).await
}

pub(super) async fn roll_back(State(api): Shared, caller: Caller, Domain(domain): Domain) -> Reply {
    change(api, move |versions| versions.roll_back(&domain, &caller.to_string())).await
}

/// The calls that a version is tried with. `None`: all of them.
fn share(request: &Request) -> Result<Option<Share>, ApiError> {
    let numbers = reply::all(request, "called")?;
    let Some(percent) = reply::query(request, "percent")? else {
        if numbers.len() > TRIED_NUMBERS {
            return Err(ApiError::bad("called", format!("more than {TRIED_NUMBERS}")));
        }
        for number in &numbers {
            check_name("called", number)?;
        }
        return Ok(if numbers.is_empty() { None } else { Some(Share::Numbers(numbers)) });
    };
    if !numbers.is_empty() {
        return Err(ApiError::bad("called", "not together with percent"));
    }
    match percent.parse() {
        Ok(percent) if (1..=99).contains(&percent) => Ok(Some(Share::Percent(percent))),
        _ => Err(ApiError::bad("percent", "must be a number from 1 to 99; without it all calls get the version")),
    }
}

/// What the tenant's guests wrote last, newest first. Kept in memory only. Who accepts `text/event-stream` gets the oldest first, and
/// then what comes.
pub(super) async fn log(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let accepted = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream")) {
        return follow::stream(api.node.follow(&domain), api.stopping.subscribe());
    }
    let lines = api.versions.log(&domain);
    reply::list("log", lines.iter().rev().map(line_to_json).collect(), None)
}

pub(super) fn line_to_json(line: &LogLine) -> Value {
    json!({ "at": rfc3339(line.at_ms), "session": line.session_id, "level": line.level, "text": line.text })
}

async fn change(
    api: Arc<Api>,
    change: impl FnOnce(&Versions) -> Result<crate::versions::Activated, crate::versions::VersionError> + Send + 'static,
) -> Reply {
    let answer = blocking(move || {
        let activated = change(&api.versions)?;
        Ok(json!({ "version": to_json(&api.versions, &activated.version), "previous": activated.previous }))
    })
    .await?;
    reply::ok(answer)
}

// ------------------------------------------------------------------------------------------------------------------------ the policy

/// A policy holds some keys and numbers.
const POLICY: usize = 16 << 10;

pub(super) async fn show_policy(State(api): Shared, Path(domain): Path<String>) -> Reply {
    let policy = blocking(move || {
        let domain = domain.to_ascii_lowercase();
        api.store.tenant(&domain)?.ok_or_else(|| ApiError::not_found("unknown domain"))?;
        Ok(api.versions.policy(&domain)?)
    })
    .await?;
    reply::ok(json!({ "policy": policy_to_json(&policy) }))
}

/// The whole policy: what is not named gets its default.
pub(super) async fn put_policy(State(api): Shared, caller: Caller, Path(domain): Path<String>, request: Request) -> Reply {
    let policy = policy(super::recordings::object(request, POLICY).await?)?;
    let answer = policy_to_json(&policy);
    blocking(move || Ok(api.versions.set_policy(&domain.to_ascii_lowercase(), &policy, &caller.to_string())?)).await?;
    reply::ok(json!({ "policy": answer }))
}

fn policy(mut body: Map<String, Value>) -> Result<GuestPolicy, ApiError> {
    let require_signature = match body.remove("require_signature").unwrap_or_default() {
        Value::Null => false,
        Value::Bool(required) => required,
        _ => return Err(ApiError::bad("require_signature", "must be true or false")),
    };
    let mut signing_keys: Vec<SigningKey> = Vec::new();
    match body.remove("signing_keys").unwrap_or_default() {
        Value::Null => {}
        Value::Array(keys) if keys.len() <= SIGNING_KEYS => {
            for (place, key) in keys.iter().enumerate() {
                // As it is shown, or the key alone.
                let text = key["key"].as_str().or(key.as_str()).unwrap_or_default();
                let key = SigningKey::read(text).map_err(|why| ApiError::bad(&format!("signing_keys[{place}]"), why))?;
                if !signing_keys.contains(&key) {
                    signing_keys.push(key);
                }
            }
        }
        Value::Array(_) => return Err(ApiError::bad("signing_keys", format!("more than {SIGNING_KEYS}"))),
        _ => return Err(ApiError::bad("signing_keys", "must be a list")),
    }
    if require_signature && signing_keys.is_empty() {
        return Err(ApiError::bad("signing_keys", "must name a key where a signature is required"));
    }
    let mut number = |field: &str, usual: u32, from: u32, to: u32| match body.remove(field).unwrap_or_default() {
        Value::Null => Ok(usual),
        value => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(n) if (from..=to).contains(&n) => Ok(n),
            _ => Err(ApiError::bad(field, format!("must be a number from {from} to {to}"))),
        },
    };
    let usual = Trial::default();
    let trial = Trial {
        calls: number("trial_calls", usual.calls, 0, TRIAL_CALLS)?,
        min_calls: number("trial_min_calls", usual.min_calls, 1, TRIAL_CALLS)?,
        failed_percent: number("trial_failed_percent", usual.failed_percent, 1, 100)?,
    };
    if trial.calls > 0 && trial.min_calls > trial.calls {
        return Err(ApiError::bad("trial_min_calls", "must be at most trial_calls"));
    }
    if let Some(unknown) = body.keys().next() {
        return Err(ApiError::bad(unknown, "no such field"));
    }
    Ok(GuestPolicy { trial, require_signature, signing_keys })
}

fn policy_to_json(policy: &GuestPolicy) -> Value {
    let key = |key: &SigningKey| json!({ "id": key.id(), "key": key.to_text() });
    json!({
        "require_signature": policy.require_signature,
        "signing_keys": policy.signing_keys.iter().map(key).collect::<Vec<_>>(),
        "trial_calls": policy.trial.calls,
        "trial_min_calls": policy.trial.min_calls,
        "trial_failed_percent": policy.trial.failed_percent,
    })
}

pub(super) fn schema_of_policy() -> Value {
    let key = endpoint::object(&[
        ("id", endpoint::text("What it is called in refusals and listings.")),
        ("key", endpoint::text("An Ed25519 public key: SubjectPublicKeyInfo in base64.")),
    ]);
    let [calls, min_calls, percent] = trial_numbers();
    endpoint::object(&[
        ("require_signature", endpoint::flag("Only what one of the keys has signed is taken in and given to calls.")),
        ("signing_keys", json!({ "type": "array", "items": key, "maxItems": SIGNING_KEYS, "description": "Keys that count." })),
        ("trial_calls", calls),
        ("trial_min_calls", min_calls),
        ("trial_failed_percent", percent),
    ])
}

fn trial_numbers() -> [Value; 3] {
    let usual = Trial::default();
    let number = |from: u32, to: u32, usual: u32, says: &str| json!({ "type": "integer", "minimum": from, "maximum": to, "default": usual, "description": says });
    [
        number(0, TRIAL_CALLS, usual.calls, "Calls that a new version is watched for. 0: it is not."),
        number(1, TRIAL_CALLS, usual.min_calls, "Before so many have begun it is not taken back."),
        number(1, 100, usual.failed_percent, "So many of a hundred failed, or more: it is taken back."),
    ]
}

pub(super) fn schema_of_policy_body() -> Value {
    let key = json!({ "anyOf": [
        { "type": "string", "description": "PEM, or its base64." },
        { "type": "object", "required": ["key"], "properties": { "id": { "type": "string" }, "key": { "type": "string" } } },
    ] });
    let or_null = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let [calls, min_calls, percent] = trial_numbers();
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "require_signature": or_null(endpoint::flag("Only what one of the keys has signed is taken in and given to calls.")),
            "signing_keys": or_null(json!({ "type": "array", "items": key, "maxItems": SIGNING_KEYS })),
            "trial_calls": or_null(calls),
            "trial_min_calls": or_null(min_calls),
            "trial_failed_percent": or_null(percent),
        },
    })
}

// ----------------------------------------------------------------------------------------------------------------------- as it is shown

pub(super) const TYPES: &[&str] = &["application/wasm", "application/octet-stream"];

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("number", endpoint::number("Counts up in its tenant.")),
        ("domain", endpoint::text("Its tenant.")),
        ("active", endpoint::flag("New calls get it, but for those that another version is tried with.")),
        ("percent", endpoint::number("Of all new calls, how many in a hundred get it. 0 of one that is tried with numbers.")),
        (
            "numbers",
            json!({ "type": ["array", "null"], "items": { "type": "string" }, "description": "It is tried with calls to these numbers." }),
        ),
        ("sha256", endpoint::text("Of the component, in hex.")),
        ("size", endpoint::number("Bytes.")),
        ("note", endpoint::text("As it was given.")),
        ("uploaded_at", endpoint::time("When.")),
        ("proven", endpoint::flag("It got over its first calls: it is not taken back by the node any more.")),
        ("signed_by", endpoint::nullable(endpoint::text("Id of the key that its signature was made with."))),
        ("health", endpoint::nullable(schema_of_health())),
    ])
}

fn schema_of_health() -> Value {
    let mut schema = endpoint::object(&[
        ("calls", endpoint::number("Calls that it got since it was given to calls, or since the node started.")),
        ("failed", endpoint::number("Of these, those that its failure cost.")),
        ("rests_s", endpoint::nullable(endpoint::number("It failed too often: calls get the fallback for so many seconds."))),
    ]);
    schema["description"] = "How it fares; null of one that has no calls.".into();
    schema
}

/// What asks for a share of the calls, for the API's document.
pub(super) fn share_parameters(endpoint: endpoint::Endpoint) -> endpoint::Endpoint {
    endpoint.query("percent", json!({ "type": "integer", "minimum": 1, "maximum": 99 }), "Only for so many of a hundred new calls.").query(
        "called",
        json!({ "type": "array", "maxItems": TRIED_NUMBERS, "items": { "type": "string" } }),
        "Only for new calls to these numbers.",
    )
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
        ("level", endpoint::text("debug, info, warn or error; node: the node about the handler.")),
        ("text", endpoint::text("The line.")),
    ])
}

fn to_json(versions: &Versions, version: &VersionRow) -> Value {
    let (percent, numbers) = match &version.canary {
        Some(Share::Percent(percent)) => (*percent, None),
        Some(Share::Numbers(numbers)) => (0, Some(numbers)),
        None if version.active => (100 - versions.tried_percent(&version.domain), None),
        None => (0, None),
    };
    let health = |health: VersionHealth| json!({ "calls": health.calls, "failed": health.failed, "rests_s": health.rests.map(|rests| rests.as_secs() + 1) });
    json!({
        "number": version.number,
        "domain": version.domain,
        "active": version.active,
        "percent": percent,
        "numbers": numbers,
        "sha256": version.sha256,
        "size": version.size,
        "note": version.note,
        "uploaded_at": rfc3339(version.uploaded_at),
        "proven": version.proven,
        "signed_by": version.signature.as_deref().and_then(|signature| signature.split(':').next()),
        "health": versions.health(version).map(health),
    })
}
