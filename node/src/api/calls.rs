//! `/{domain}/calls` and `/admin/calls`: calls that ended. `/{domain}/audit` and
//! `/admin/audit`: who did what.

use super::access::Domain;
use super::endpoint;
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::store::CallRow;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let wanted = wanted(&request)?;
    page(api, Some(domain), wanted).await
}

pub(super) async fn list_all(State(api): Shared, request: Request) -> Reply {
    let wanted = wanted(&request)?;
    page(api, None, wanted).await
}

/// `?limit=` and `?before=`.
fn wanted(request: &Request) -> Result<(u32, Option<u64>), ApiError> {
    let before = reply::query(request, "before")?.map(|cursor| cursor.parse()).transpose();
    Ok((reply::limit(request)?, before.map_err(|_| ApiError::bad("before", "is not the `next` of a listing"))?))
}

async fn page(api: Arc<Api>, domain: Option<String>, (limit, before): (u32, Option<u64>)) -> Reply {
    let rows = blocking(move || Ok(api.store.calls(domain.as_deref(), before, limit)?)).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    let next = rows.last().filter(|_| full).map(|row| row.id.to_string());
    reply::list("calls", rows.iter().map(to_json).collect(), next)
}

pub(super) async fn audit(State(api): Shared, request: Request) -> Reply {
    let limit = reply::limit(&request)?;
    audit_of(api, None, limit).await
}

pub(super) async fn audit_of_tenant(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let limit = reply::limit(&request)?;
    audit_of(api, Some(domain), limit).await
}

async fn audit_of(api: Arc<Api>, domain: Option<String>, limit: u32) -> Reply {
    let lines = blocking(move || Ok(api.store.audit(domain.as_deref(), limit)?)).await?;
    let to_json = |line: &crate::store::AuditRow| {
        json!({
            "at": rfc3339(line.at), "who": line.who, "source": line.source, "domain": line.domain, "what": line.what, "detail": line.detail,
            "outcome": line.outcome,
        })
    };
    reply::list("audit", lines.iter().map(to_json).collect(), None)
}

pub(super) fn schema() -> Value {
    let packets = |says| endpoint::number(says);
    endpoint::object(&[
        ("session", endpoint::text("UUID of the session.")),
        ("domain", endpoint::text("Its tenant.")),
        ("caller", endpoint::text("Who called.")),
        ("called", endpoint::text("The number that was called.")),
        ("started_at", endpoint::time("When the call came in.")),
        ("answered_after_ms", endpoint::nullable(endpoint::number("Milliseconds until it was answered; null: it was not."))),
        ("duration_ms", endpoint::number("Milliseconds from first to last.")),
        ("reason", endpoint::text("Why it ended, as sessionCompleted says it.")),
        ("final_status", endpoint::number("The INVITE's final SIP status.")),
        (
            "rtp",
            endpoint::object(&[
                ("received", packets("Packets.")),
                ("sent", packets("Packets.")),
                ("lost", packets("Packets.")),
                ("late", packets("Packets that came after their time.")),
                ("concealed", packets("Frames of 20 ms that were made up.")),
                ("foreign", packets("Packets of somebody else.")),
                ("jitter", packets("Interarrival jitter in RTP ticks (RFC 3550).")),
            ]),
        ),
    ])
}

pub(super) fn schema_of_audit() -> Value {
    endpoint::object(&[
        ("at", endpoint::time("When.")),
        ("who", endpoint::text("operator, or a tenant's token or key by its label.")),
        ("source", endpoint::text("The address that it was asked from; empty: the node did it by itself.")),
        ("domain", endpoint::text("About which tenant; empty: none.")),
        ("what", endpoint::text("What was done; method and path of what was refused.")),
        ("detail", endpoint::text("To what.")),
        ("outcome", endpoint::text("`done`, or the code of the refusal.")),
    ])
}

fn to_json(row: &CallRow) -> Value {
    json!({
        "session": row.session,
        "domain": row.domain,
        "caller": row.caller,
        "called": row.called,
        "started_at": rfc3339(row.started_at),
        "answered_after_ms": row.answered_after_ms,
        "duration_ms": row.duration_ms,
        "reason": row.reason,
        "final_status": row.final_status,
        "rtp": {
            "received": row.rtp_received,
            "sent": row.rtp_sent,
            "lost": row.rtp_lost,
            "late": row.rtp_late,
            "concealed": row.rtp_concealed,
            "foreign": row.rtp_foreign,
            "jitter": row.rtp_jitter,
        },
    })
}
