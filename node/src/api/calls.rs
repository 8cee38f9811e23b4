//! `/{domain}/calls` and `/admin/calls`: calls that ended. `/admin/audit`: who did what.

use super::access::Domain;
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
    let lines = blocking(move || Ok(api.store.audit(limit)?)).await?;
    let to_json = |line: &crate::store::AuditRow| json!({ "at": rfc3339(line.at), "who": line.who, "domain": line.domain, "what": line.what, "detail": line.detail });
    reply::list("audit", lines.iter().map(to_json).collect(), None)
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
