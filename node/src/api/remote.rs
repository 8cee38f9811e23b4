//! The cloud user agent's own resources: which users are devices (`/provisioning/device/{domain}`, IC-086), and the vendor's set-up of the
//! service (`/mediaservice/{domain}`, `/provisioning/cloudsipua/{domain}`, IC-087), which is settings and a secret of the tenant here.
//!
//! Its calls are operations like others (`operations.rs`).

use super::access::{Caller, Domain};
use super::endpoint::{self, Endpoint, Path, delete, get, post, put, text};
use super::fields::{self, Field, Kind, optional, required};
use super::reply::{self, ApiError, Reply};
use super::settings::keep_secret;
use super::{Api, Shared, blocking, rfc3339};
use crate::guest::Secret;
use crate::limits;
use crate::outbox::CALLBACK_KEY;
use crate::store::DeviceRow;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use hookswitch_call::callback;
use serde_json::{Value, json};
use std::sync::Arc;

const DEVICE: &[Field] = &[
    required("deviceId", Kind::Id, "User part of its address: an INVITE to sip:<deviceId>@<domain> becomes newRemoteCall."),
    optional("authType", Kind::OneOf(&["disabled"]), "`disabled`: devices come by REST alone, and do not register."),
    optional("deviceType", Kind::Text, "What it is, e.g. alarmUnit."),
    optional("description", Kind::Text, "For people."),
];

/// Where the `webhook` handler's application is, and where it hears alarms.
const BASE_URL: &str = "callback_base_url";
const ALARM_URL: &str = "alarm_url";

const SET_UP: &[Field] = &[
    optional("callbackBaseUrl", Kind::Uri, "Callbacks go to this and `/newCall` and so on: the handlers' setting callback_base_url."),
    optional("alarmUrl", Kind::Uri, "Where alarms go: the handlers' setting alarm_url."),
    optional(
        "callbackKey",
        Kind::Pem,
        "RSA key (PEM) that callbacks are signed with: the tenant's secret callback-key. It is not shown again.",
    ),
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    let set_up_of = |path, id| {
        post(path, id, set_up)
            .deploys()
            .says("Sets up the service: where callbacks go and how they are signed. What is not named stays as it is.")
            .body(endpoint::JSON, fields::schema(SET_UP))
            .succeeds(200, "Set.", &[("sipAddress", text("Where INVITEs arrive."))])
            .refuses(&[409])
    };
    vec![
        get("/provisioning/device/{domain}", "listDevices", list)
            .says("Users of the cloud user agent, newest first.")
            .lists("devices", schema()),
        put("/provisioning/device/{domain}", "putDevice", provision)
            .deploys()
            .says("Provisions a user of the cloud user agent: calls to it are for a device, and the handler hears newRemoteCall in place of newCall.")
            .body(endpoint::JSON, fields::schema(DEVICE))
            .succeeds(200, "Changed.", &[])
            .succeeds(201, "Provisioned.", &[])
            .refuses(&[409]),
        delete("/provisioning/device/{domain}/{device}", "removeDevice", remove)
            .deploys()
            .says("Forgets a device: calls to it are the handler's again.")
            .succeeds(200, "Forgotten.", &[]),
        set_up_of("/provisioning/cloudsipua/{domain}", "setUpCloudSipUa"),
        set_up_of("/mediaservice/{domain}", "setUpMediaservice"),
    ]
}

async fn list(State(api): Shared, Domain(domain): Domain) -> Reply {
    let devices = blocking(move || Ok(api.store.devices(&domain)?)).await?;
    reply::list("devices", devices.iter().map(to_json).collect(), None)
}

/// Calls that come find it; one that is up stays what it is.
async fn provision(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let mut values = read(&api, DEVICE, request).await?;
    let device = DeviceRow {
        device_id: values.required("deviceId"),
        device_type: values.text("deviceType").unwrap_or_default(),
        description: values.text("description").unwrap_or_default(),
        changed_at: 0,
    };
    if device.device_id.contains(['@', ':', ';', ' ', '<', '>', '"']) {
        return Err(ApiError::bad("deviceId", "must be the user part of a SIP URI"));
    }
    let new = blocking(move || {
        let new = api.store.put_device(&domain, device, limits::DEVICES, &caller.to_string())?;
        api.node.configure();
        Ok(new)
    })
    .await?;
    reply::with_status(if new { StatusCode::CREATED } else { StatusCode::OK }, json!({}))
}

async fn remove(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, device)): Path<(String, String)>) -> Reply {
    blocking(move || {
        api.store.delete_device(&domain, &device, &caller.to_string())?;
        api.node.configure();
        Ok(())
    })
    .await?;
    reply::ok(json!({}))
}

async fn set_up(State(api): Shared, caller: Caller, Domain(domain): Domain, request: Request) -> Reply {
    let mut values = read(&api, SET_UP, request).await?;
    let urls = [("callbackBaseUrl", BASE_URL), ("alarmUrl", ALARM_URL)];
    let urls: Vec<_> = urls.into_iter().filter_map(|(field, setting)| Some((field, setting, values.text(field)?))).collect();
    let key = values.text("callbackKey").map(Secret::new);
    let address = format!("sip:{domain}");
    blocking(move || {
        let who = caller.to_string();
        let origins = api.store.tenant(&domain)?.map(|tenant| tenant.outbox_origins).unwrap_or_default();
        let listed: Vec<String> = origins.iter().filter_map(|origin| callback::origin(origin)).collect();
        for (field, _, url) in &urls {
            // The outbox would refuse it call by call.
            if !callback::origin(url).is_some_and(|origin| listed.contains(&origin)) {
                return Err(ApiError::bad(field, "its origin is not on the tenant's list (outbox_origins)"));
            }
        }
        if let Some(key) = &key {
            keep_secret(&api, &domain, CALLBACK_KEY, key, &who).map_err(|error| error.of_field("value", "callbackKey"))?;
        }
        for (_, setting, url) in &urls {
            api.store.put_handler_setting(&domain, setting, url, limits::SETTINGS, &who)?;
        }
        api.node.configure();
        Ok(())
    })
    .await?;
    reply::ok(json!({ "sipAddress": address }))
}

async fn read(api: &Arc<Api>, table: &[Field], request: Request) -> Result<fields::Values, ApiError> {
    let body = reply::body(request, super::BODY, "body", |given| given == "application/json", "application/json").await?;
    let values = fields::read(table, &body)?;
    api.count_unknown(values.unknown);
    Ok(values)
}

fn to_json(row: &DeviceRow) -> Value {
    json!({
        "deviceId": row.device_id,
        "authType": "disabled",
        "deviceType": row.device_type,
        "description": row.description,
        "changedAt": rfc3339(row.changed_at),
    })
}

fn schema() -> Value {
    endpoint::object(&[
        ("deviceId", text("User part of its address.")),
        ("authType", json!({ "const": "disabled" })),
        ("deviceType", text("As it was given.")),
        ("description", text("As it was given.")),
        ("changedAt", endpoint::time("When it was provisioned last.")),
    ])
}

#[cfg(test)]
mod tests;
