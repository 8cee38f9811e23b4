//! `hookswitch audit` and `hookswitch usage`: who did what, and who used how much. With a tenant's token: the tenant's own.

use super::client::{Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome};
use clap::Args;
use serde_json::Value;
use std::io::Read;
use ureq::http::Method;

#[derive(Args, Debug)]
pub(super) struct Audit {
    /// At most so many lines, newest first
    #[arg(long, default_value_t = 100, value_name = "LINES")]
    limit: u32,
}

#[derive(Args, Debug)]
pub(super) struct Usage {
    /// First day, e.g. 2026-01-01 (UTC); else the first of the month
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day; else today
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Print CSV, as bills are made of
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Of the tenant that `--domain` names, else of the whole node.
fn path(common: &Common, of_all: &str, of_tenant: &str) -> String {
    common.domain.as_ref().map_or_else(|| of_all.to_owned(), |domain| format!("/{}{of_tenant}", encode(domain)))
}

pub(super) fn audit(common: &Common, args: &Audit) -> Outcome {
    let answer =
        common.client()?.ask(Method::GET, &format!("{}?limit={}", path(common, "/admin/audit", "/audit"), args.limit), Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |line: &Value| {
        let texts = ["who", "source", "domain", "what", "detail", "outcome"].map(|field| cell(line, field));
        [vec![when(line, "at")], texts.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = answer["audit"].as_array().into_iter().flatten().map(row).collect();
    say(&table(&["AT", "WHO", "FROM", "DOMAIN", "WHAT", "DETAIL", "OUTCOME"], &rows))
}

pub(super) fn usage(common: &Common, args: &Usage) -> Outcome {
    let client = common.client()?;
    let days =
        [("from", &args.from), ("to", &args.to)].into_iter().filter_map(|(name, day)| Some(format!("{name}={}", encode(day.as_ref()?))));
    let query = days.chain(args.csv.then(|| "format=csv".to_owned())).collect::<Vec<_>>().join("&");
    let path = format!("{}?{query}", path(common, "/admin/usage", "/usage"));
    if args.csv {
        let mut csv = String::new();
        client.download(&path)?.read_to_string(&mut csv).map_err(|error| Failure::Failed(format!("the answer broke off: {error}")))?;
        return say(&csv);
    }
    let answer = client.ask(Method::GET, &path, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    const COLUMNS: [&str; 9] =
        ["day", "domain", "calls", "minutes_in", "minutes_out", "recorded_minutes", "storage_peak_bytes", "guest_cpu_ms", "posts"];
    let rows: Vec<Vec<String>> =
        answer["usage"].as_array().into_iter().flatten().map(|row| COLUMNS.map(|column| cell(row, column)).to_vec()).collect();
    say(&table(&["DAY", "DOMAIN", "CALLS", "MIN IN", "MIN OUT", "MIN RECORDED", "PEAK BYTES", "CPU MS", "POSTS"], &rows))
}
