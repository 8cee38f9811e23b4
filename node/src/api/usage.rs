//! `/{domain}/usage` and `/admin/usage`: what tenants used, day by day (UTC), as JSON or CSV.

use super::access::Domain;
use super::endpoint;
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking, rfc3339};
use crate::store::{UsageRow, wall_ms};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

const DAY_MS: u64 = 86_400_000;
/// Days in one answer: two years of one tenant, and a bounded answer for many.
const DAYS: u64 = 732;

pub(super) async fn list(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let wanted = Wanted::of(&request)?;
    of(api, Some(domain), wanted).await
}

pub(super) async fn list_all(State(api): Shared, request: Request) -> Reply {
    let wanted = Wanted::of(&request)?;
    of(api, None, wanted).await
}

/// What of it is asked for.
struct Wanted {
    days: (u64, u64),
    csv: bool,
}

impl Wanted {
    fn of(request: &Request) -> Result<Wanted, ApiError> {
        let days = days(reply::query(request, "from")?, reply::query(request, "to")?, wall_ms() / DAY_MS)?;
        match reply::query(request, "format")?.as_deref() {
            None | Some("json") => Ok(Wanted { days, csv: false }),
            Some("csv") => Ok(Wanted { days, csv: true }),
            Some(_) => Err(ApiError::bad("format", "must be csv or json")),
        }
    }
}

async fn of(api: Arc<Api>, domain: Option<String>, wanted: Wanted) -> Reply {
    let (from, to) = wanted.days;
    let rows = blocking(move || Ok(api.store.usage(domain.as_deref(), from, to)?)).await?;
    if wanted.csv {
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], to_csv(&rows)).into_response());
    }
    reply::list("usage", rows.iter().rev().map(to_json).collect(), None)
}

/// First and last day. Nothing said: this month so far.
fn days(from: Option<String>, to: Option<String>, today: u64) -> Result<(u64, u64), ApiError> {
    let read = |field: &str, text: String| day(&text).ok_or_else(|| ApiError::bad(field, "must be a day as 2026-01-31"));
    let to = to.map_or(Ok(today), |text| read("to", text))?;
    let from = from.map_or_else(|| Ok(first_of_month(to)), |text| read("from", text))?;
    match to.checked_sub(from) {
        None => Err(ApiError::bad("to", "is before `from`")),
        Some(days) if days >= DAYS => Err(ApiError::bad("from", format!("more than {DAYS} days"))),
        Some(_) => Ok((from, to)),
    }
}

/// `YYYY-MM-DD` as days since the Unix epoch.
fn day(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-').map(|part| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u64>().ok()).flatten());
    let (year, month, date) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&date) {
        return None;
    }
    // Years begin in March, so that the leap day is a year's last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + date - 1;
    let day = days.checked_sub(719_468)?;
    // The 31st of a month of 30 would be another day.
    (name(day) == text).then_some(day)
}

/// A day as people write it.
fn name(day: u64) -> String {
    rfc3339(day.saturating_mul(DAY_MS)).split('T').next().unwrap_or_default().to_owned()
}

pub fn first_of_month(today: u64) -> u64 {
    let date = name(today).rsplit('-').next().and_then(|date| date.parse::<u64>().ok());
    today.saturating_sub(date.unwrap_or(1).saturating_sub(1))
}

/// Columns: minutes and hours with three digits behind the point, as bills are made of them.
fn columns(row: &UsageRow) -> [(&'static str, String); 13] {
    let minutes = |ms: u64| format!("{:.3}", ms as f64 / 60_000.0);
    [
        ("day", name(row.day)),
        ("domain", row.domain.clone()),
        ("calls", row.calls.to_string()),
        ("answered", row.answered.to_string()),
        ("minutes_in", minutes(row.in_ms)),
        ("placed", row.placed.to_string()),
        ("minutes_out", minutes(row.out_ms)),
        ("recordings", row.recordings.to_string()),
        ("recorded_minutes", minutes(row.recorded_ms)),
        ("storage_byte_hours", format!("{:.0}", row.storage_byte_ms / 3_600_000.0)),
        ("storage_peak_bytes", row.storage_peak.to_string()),
        ("guest_cpu_ms", format!("{:.3}", row.guest_cpu_us as f64 / 1000.0)),
        ("posts", row.posts.to_string()),
    ]
}

/// RFC 4180. Domains are host names: nothing needs quotes.
fn to_csv(rows: &[UsageRow]) -> String {
    let names = columns(&UsageRow::default()).map(|(name, _)| name).join(",");
    rows.iter().fold(names + "\r\n", |mut csv, row| {
        let _ = write!(csv, "{}\r\n", columns(row).map(|(_, value)| value).join(","));
        csv
    })
}

fn to_json(row: &UsageRow) -> Value {
    let minutes = |ms: u64| (ms as f64 / 60.0).round() / 1000.0;
    json!({
        "day": name(row.day),
        "domain": row.domain,
        "calls": row.calls,
        "answered": row.answered,
        "minutes_in": minutes(row.in_ms),
        "placed": row.placed,
        "minutes_out": minutes(row.out_ms),
        "recordings": row.recordings,
        "recorded_minutes": minutes(row.recorded_ms),
        "storage_byte_hours": (row.storage_byte_ms / 3_600_000.0).round(),
        "storage_peak_bytes": row.storage_peak,
        "guest_cpu_ms": row.guest_cpu_us as f64 / 1000.0,
        "posts": row.posts,
    })
}

/// Of CSV the columns are the same.
pub(super) fn schema_of_list() -> Value {
    endpoint::object(&[("usage", json!({ "type": "array", "items": schema() }))])
}

fn schema() -> Value {
    let amount = |says: &str| json!({ "type": "number", "minimum": 0, "description": says });
    endpoint::object(&[
        ("day", endpoint::text("UTC, e.g. 2026-01-31. What lasts over midnight counts for the day of its end.")),
        ("domain", endpoint::text("The tenant.")),
        ("calls", endpoint::number("Sessions that ended, answered or not.")),
        ("answered", endpoint::number("Of these, the answered ones.")),
        ("minutes_in", amount("Answered minutes of calls that came in.")),
        ("placed", endpoint::number("Calls that were placed and answered.")),
        ("minutes_out", amount("Their minutes.")),
        ("recordings", endpoint::number("Recordings that were stored.")),
        ("recorded_minutes", amount("Their minutes.")),
        ("storage_byte_hours", amount("Bytes of recordings and prompts, times hours.")),
        ("storage_peak_bytes", endpoint::number("The most bytes that were seen.")),
        ("guest_cpu_ms", amount("CPU time of its handlers.")),
        ("posts", endpoint::number("Posts that its outbox took.")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_as_they_are_written() {
        for text in ["1970-01-01", "2000-02-29", "2024-02-29", "2026-11-29", "2026-12-31", "2100-03-01", "9999-12-31"] {
            assert_eq!(day(text).map(name).as_deref(), Some(text));
        }
        for bad in [
            "",
            "2026",
            "2026-2-9",
            "2026-02-30",
            "2025-02-29",
            "2026-13-01",
            "1969-12-31",
            "2026-01-01T00",
            "-1-1-1",
            "a-b-c",
            "2026-+1-01",
        ] {
            assert_eq!(day(bad), None, "{bad}");
        }
        assert_eq!(day("2026-11-01"), Some(first_of_month(day("2026-11-29").expect("a day"))));
    }

    #[test]
    fn a_span_is_this_month_unless_it_is_said() {
        let today = day("2026-11-29").expect("a day");
        let span = |from: Option<&str>, to: Option<&str>| {
            days(from.map(str::to_owned), to.map(str::to_owned), today).map(|(a, b)| (name(a), name(b)))
        };
        let is = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(span(None, None).ok(), is("2026-11-01", "2026-11-29"));
        assert_eq!(span(None, Some("2026-02-10")).ok(), is("2026-02-01", "2026-02-10"));
        assert_eq!(span(Some("2026-01-31"), Some("2026-01-31")).ok(), is("2026-01-31", "2026-01-31"));
        for (from, to, field) in
            [(Some("2026-12-01"), None, "to"), (Some("x"), None, "from"), (None, Some("x"), "to"), (Some("2020-01-01"), None, "from")]
        {
            assert!(span(from, to).expect_err("refused").message.starts_with(field));
        }
    }

    #[test]
    fn bills_are_lines_of_csv() {
        let row = UsageRow {
            domain: "a.example".into(),
            day: 0,
            calls: 2,
            in_ms: 90_000,
            storage_byte_ms: 7.2e9,
            guest_cpu_us: 1500,
            ..UsageRow::default()
        };
        let expected = "day,domain,calls,answered,minutes_in,placed,minutes_out,recordings,recorded_minutes,storage_byte_hours,storage_peak_bytes,\
                        guest_cpu_ms,posts\r\n1970-01-01,a.example,2,0,1.500,0,0.000,0,0.000,2000,0,1.500,0\r\n";
        assert_eq!(to_csv(&[row]), expected);
    }
}
