//! Settings, and the audit: who did what. Also how long audit and call records are kept.

use super::{Store, StoreError, wall_ms};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Call records kept. Each is about 300 bytes, so this is 60 MB; who bills by them reads them as they come.
const CALLS: i64 = 200_000;
/// Audit lines kept: years of an operator's work.
const AUDIT: i64 = 100_000;
/// Looking for old rows costs two index lookups; every so many records is often enough to stay near the limit.
const PRUNE_EACH: i64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    pub at: u64,
    pub who: String,
    /// Empty: the node as a whole.
    pub domain: String,
    pub what: String,
    pub detail: String,
}

impl Store {
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.wait(move |db| {
            Ok(db.prepare_cached("SELECT value FROM settings WHERE key = ?")?.query_row([&key], |row| row.get(0)).optional()?)
        })
    }

    pub fn put_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.wait(move |db| {
            db.prepare_cached("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
                .execute([&key, &value])?;
            Ok(())
        })
    }

    /// Notes what was done outside the database. Changes in it note themselves, in the same transaction.
    pub fn save_audit(&self, who: &str, domain: &str, what: &'static str, detail: &str) {
        let (who, domain, detail) = (who.to_owned(), domain.to_owned(), detail.to_owned());
        self.queue("audit", move |db| note(db, &who, &domain, what, &detail));
    }

    /// What was done, newest first.
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.wait(move |db| {
            let mut rows = db.prepare_cached("SELECT at, who, domain, what, detail FROM audit ORDER BY id DESC LIMIT ?")?;
            let rows = rows.query_map([limit], |row| {
                Ok(AuditRow {
                    at: row.get::<_, i64>(0)?.cast_unsigned(),
                    who: row.get(1)?,
                    domain: row.get(2)?,
                    what: row.get(3)?,
                    detail: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

pub(super) fn note(db: &Connection, who: &str, domain: &str, what: &str, detail: &str) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO audit (at, who, domain, what, detail) VALUES (?, ?, ?, ?, ?)")?.execute(params![
        wall_ms().cast_signed(),
        who,
        domain,
        what,
        detail
    ])?;
    Ok(())
}

pub(super) fn prune(db: &Connection) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM call_records WHERE id <= (SELECT max(id) FROM call_records) - ?")?.execute([CALLS])?;
    db.prepare_cached("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?")?.execute([AUDIT])?;
    Ok(())
}

pub(super) fn prune_sometimes(db: &Connection) -> Result<(), StoreError> {
    if db.last_insert_rowid() % PRUNE_EACH == 0 { prune(db) } else { Ok(()) }
}
