//! Call records: one line per ended call.

use super::{Store, StoreError, ledger};
use hookswitch_call::CallRecord;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRow {
    /// Grows with each record; given by the store.
    pub id: u64,
    pub session: String,
    pub domain: String,
    pub caller: String,
    pub called: String,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
    pub answered_after_ms: Option<u64>,
    pub duration_ms: u64,
    pub reason: String,
    pub final_status: u16,
    pub rtp_received: u64,
    pub rtp_sent: u64,
    pub rtp_lost: u64,
    pub rtp_late: u64,
    pub rtp_concealed: u64,
    pub rtp_foreign: u64,
    pub rtp_jitter: u32,
    /// How it counts for its tenant's bill; not read back.
    #[serde(skip)]
    pub billed: Billed,
}

/// A call as it is billed: on the day on which it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    pub in_ms: u64,
    /// Calls that it placed and that were answered.
    pub placed: u32,
    pub out_ms: u64,
}

impl From<&CallRecord> for CallRow {
    fn from(record: &CallRecord) -> CallRow {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        CallRow {
            id: 0,
            session: record.session_id.clone(),
            domain: record.domain.to_string(),
            caller: record.caller.clone(),
            called: record.called.clone(),
            started_at: record.started.0,
            answered_after_ms: record.answered_after.map(ms),
            duration_ms: ms(record.duration),
            reason: record.reason.to_owned(),
            final_status: record.final_status,
            rtp_received: record.media.received,
            rtp_sent: record.media.sent,
            rtp_lost: record.media.lost,
            rtp_late: record.media.late,
            rtp_concealed: record.media.concealed,
            rtp_foreign: record.media.foreign,
            rtp_jitter: record.media.jitter,
            billed: Billed {
                in_ms: record.answered_after.filter(|_| record.incoming).map_or(0, |after| ms(record.duration.saturating_sub(after))),
                placed: record.placed,
                out_ms: ms(record.placed_time),
            },
        }
    }
}

impl Store {
    /// Queues the record of an ended call. Never blocks; dropped and counted when the queue is full.
    pub fn save_call(&self, row: CallRow) {
        self.offer("call record", move |db| {
            super::usage::add_call(db, &row)?;
            db.prepare_cached(
                "INSERT INTO call_records (session, domain, caller, called, started_at, answered_after_ms, duration_ms, reason, final_status,
                                           rtp_received, rtp_sent, rtp_lost, rtp_late, rtp_concealed, rtp_foreign, rtp_jitter)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                row.session,
                row.domain,
                row.caller,
                row.called,
                row.started_at.cast_signed(),
                row.answered_after_ms.map(u64::cast_signed),
                row.duration_ms.cast_signed(),
                row.reason,
                row.final_status,
                row.rtp_received.cast_signed(),
                row.rtp_sent.cast_signed(),
                row.rtp_lost.cast_signed(),
                row.rtp_late.cast_signed(),
                row.rtp_concealed.cast_signed(),
                row.rtp_foreign.cast_signed(),
                row.rtp_jitter,
            ])?;
            super::deliveries::session_ended(db, &row.session, row.started_at.saturating_add(row.duration_ms))?;
            ledger::prune_sometimes(db)
        });
    }

    /// Calls that ended, newest first: at most `limit`, from the one after the record `before`.
    pub fn calls(&self, domain: Option<&str>, before: Option<u64>, limit: u32) -> Result<Vec<CallRow>, StoreError> {
        let domain = domain.map(str::to_owned);
        self.wait(move |db| {
            let before = before.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
            let whose = if domain.is_some() { "domain = ?1 AND" } else { "?1 IS NULL AND" };
            let mut rows = db.prepare_cached(&format!(
                "SELECT id, session, domain, caller, called, started_at, answered_after_ms, duration_ms, reason, final_status,
                        rtp_received, rtp_sent, rtp_lost, rtp_late, rtp_concealed, rtp_foreign, rtp_jitter
                 FROM call_records WHERE {whose} id < ?2 ORDER BY id DESC LIMIT ?3"
            ))?;
            Ok(rows.query_map(params![domain, before, limit], from_row)?.collect::<Result<_, _>>()?)
        })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let count = |column: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
    Ok(CallRow {
        id: count(0)?,
        session: row.get(1)?,
        domain: row.get(2)?,
        caller: row.get(3)?,
        called: row.get(4)?,
        started_at: count(5)?,
        answered_after_ms: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
        duration_ms: count(7)?,
        reason: row.get(8)?,
        final_status: row.get(9)?,
        rtp_received: count(10)?,
        rtp_sent: count(11)?,
        rtp_lost: count(12)?,
        rtp_late: count(13)?,
        rtp_concealed: count(14)?,
        rtp_foreign: count(15)?,
        rtp_jitter: row.get(16)?,
        billed: Billed::default(),
    })
}
