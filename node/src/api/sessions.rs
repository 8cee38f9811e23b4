//! `/{domain}/sessions` and `/admin/sessions`: calls that are up now. What they are told to do is in `operations.rs`.

use super::access::Domain;
use super::endpoint;
use super::reply::{self, Reply};
use super::{Api, Live, Shared, rfc3339};
use axum::extract::{Request, State};
use serde_json::{Value, json};

pub(super) async fn list(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    page(&api, Some(&domain), reply::limit(&request)?)
}

pub(super) async fn list_all(State(api): Shared, request: Request) -> Reply {
    page(&api, None, reply::limit(&request)?)
}

fn page(api: &Api, domain: Option<&str>, limit: u32) -> Reply {
    let sessions = api.node.sessions(domain, limit as usize);
    reply::list("sessions", sessions.iter().map(to_json).collect(), None)
}

fn to_json(live: &Live) -> Value {
    json!({
        "id": live.session_id,
        "domain": live.domain,
        "participant": live.participant_id,
        "caller": live.caller,
        "called": live.called,
        "started_at": rfc3339(live.started_at),
    })
}

pub(super) fn schema() -> Value {
    endpoint::object(&[
        ("id", endpoint::text("UUID of the session.")),
        ("domain", endpoint::text("Its tenant.")),
        ("participant", endpoint::text("UUID of the party that called.")),
        ("caller", endpoint::text("Who calls.")),
        ("called", endpoint::text("The number that was called.")),
        ("started_at", endpoint::time("When the call came in.")),
    ])
}
