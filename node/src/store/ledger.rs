//! Settings, and the audit: who did what. Also how long audit and call records are kept.

use super::{Store, StoreError, wall_ms};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

/// Call records kept. Each is about 300 bytes, so this is 60 MB; who bills by them reads them as they come.
const CALLS: i64 = 200_000;
/// Audit lines kept, and for how long: whoever asks who did it asks within a year. More or older: forgotten.
const AUDIT: i64 = 100_000;
const AUDIT_MS: i64 = 400 * 86_400_000;
/// Lines between looks at what of the audit is too old.
const AUDIT_EACH: i64 = 100;
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
    /// The address that it was asked from; empty: the node did it by itself.
    pub source: String,
    /// `done`, or the code of the refusal.
    pub outcome: String,
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

    /// Notes what was refused, and with which code.
    pub fn save_refusal(&self, who: &str, domain: &str, what: String, code: &'static str) {
        let (who, domain) = (who.to_owned(), domain.to_owned());
        self.offer("audit", move |db| insert(db, &who, &domain, &what, "", code));
    }

    /// What was done with a tenant, or at all, newest first.
    pub fn audit(&self, domain: Option<&str>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let domain = domain.map(str::to_owned);
        self.wait(move |db| {
            let whose = if domain.is_some() { "domain = ?1" } else { "?1 IS NULL" };
            let mut rows = db.prepare_cached(&format!(
                "SELECT at, who, domain, what, detail, source, outcome FROM audit WHERE {whose} ORDER BY id DESC LIMIT ?2"
            ))?;
            let rows = rows.query_map(params![domain, limit], |row| {
                Ok(AuditRow {
                    at: row.get::<_, i64>(0)?.cast_unsigned(),
                    who: row.get(1)?,
                    domain: row.get(2)?,
                    what: row.get(3)?,
                    detail: row.get(4)?,
                    source: row.get(5)?,
                    outcome: row.get(6)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// `who`: a name, and behind [`FROM`] where it asked from, if that is known.
pub(super) fn note(db: &Connection, who: &str, domain: &str, what: &str, detail: &str) -> Result<(), StoreError> {
    insert(db, who, domain, what, detail, "done")
}

/// Between who did something and the address that it was asked from. Labels have no spaces.
pub const FROM: &str = " from ";

fn insert(db: &Connection, who: &str, domain: &str, what: &str, detail: &str, outcome: &str) -> Result<(), StoreError> {
    let now = wall_ms().cast_signed();
    let (who, source) = who.rsplit_once(FROM).unwrap_or((who, ""));
    db.prepare_cached("INSERT INTO audit (at, who, domain, what, detail, source, outcome) VALUES (?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![now, who, domain, what, detail, source, outcome])?;
    if db.last_insert_rowid() % AUDIT_EACH == 0 { prune_audit(db, now) } else { Ok(()) }
}

fn prune_audit(db: &Connection, now: i64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?")?.execute([AUDIT])?;
    // By id, which grows with time: only the oldest lines are looked at.
    let young: Option<i64> = db
        .prepare_cached("SELECT id FROM audit WHERE at >= ? ORDER BY id LIMIT 1")?
        .query_row([now - AUDIT_MS], |row| row.get(0))
        .optional()?;
    db.prepare_cached("DELETE FROM audit WHERE id < ?")?.execute([young.unwrap_or(i64::MAX)])?;
    Ok(())
}

pub(super) fn prune(db: &Connection) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM call_records WHERE id <= (SELECT max(id) FROM call_records) - ?")?.execute([CALLS])?;
    super::usage::prune(db)?;
    prune_audit(db, wall_ms().cast_signed())
}

pub(super) fn prune_sometimes(db: &Connection) -> Result<(), StoreError> {
    if db.last_insert_rowid() % PRUNE_EACH == 0 { prune(db) } else { Ok(()) }
}
