//! How long recordings are kept, who stopped that, who has heard them, and which are gone. What of it is due is asked with the time as an
//! argument: nothing here looks at a clock to decide.

use super::deliveries;
use super::recordings::{self, RecordingRow, RecordingState};
use super::{Store, StoreError, ledger};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A legal hold: nothing of the recording may go while it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    pub who: String,
    pub why: String,
    pub at: u64,
}

/// What stays of a recording that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneRow {
    pub at: u64,
    pub why: String,
}

/// Somebody got to a recording's audio, or the means to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRow {
    pub recording: String,
    pub domain: String,
    pub at: u64,
    pub who: String,
    /// The address that it went to.
    pub peer: String,
    /// `audio`, `link` (heard through one), `link made`, `file name`.
    pub how: String,
    /// First and last byte, of a range.
    pub range: Option<(u64, u64)>,
}

/// What is held of one party.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartyRows {
    /// With whether each is on hold.
    pub recordings: Vec<(RecordingRow, bool)>,
    pub calls: u64,
}

impl Store {
    /// Recordings whose time is over at `now`, and of whom nobody holds any, and why: at most `limit` of each reason.
    pub fn recordings_due(&self, now: u64, limit: u32) -> Result<Vec<(RecordingRow, &'static str)>, StoreError> {
        self.wait(move |db| {
            const FREE: &str = "r.state <> 'recording' AND NOT EXISTS (SELECT 1 FROM recording_holds h WHERE h.recording = r.id)";
            let columns = recordings::columns("r");
            let asked = format!(
                "SELECT {columns}, t.class = 'ephemeral' AS ephemeral FROM recording_terms t CROSS JOIN recordings r
                 WHERE t.due_at <= ?1 AND r.id = t.recording AND {FREE} ORDER BY t.due_at LIMIT ?2"
            );
            // CROSS JOIN: the tenants first, and of each only what is old enough.
            let usual = format!(
                "SELECT {columns}, 0 AS ephemeral FROM tenants d CROSS JOIN recordings r
                 WHERE d.recording_retention_ms IS NOT NULL AND r.domain = d.domain AND r.created_at <= ?1 - d.recording_retention_ms
                 AND r.created_at + r.duration_ms + d.recording_retention_ms <= ?1
                 AND NOT EXISTS (SELECT 1 FROM recording_terms t WHERE t.recording = r.id
                                 AND (t.class = 'ephemeral' OR t.retention_ms IS NOT NULL))
                 AND {FREE} LIMIT ?2"
            );
            let mut due = Vec::new();
            for sql in [asked, usual] {
                let mut rows = db.prepare_cached(&sql)?;
                let rows = rows.query_map(params![now.cast_signed(), limit], |row| {
                    let why = if row.get("ephemeral")? { "its call is over" } else { "its retention is over" };
                    Ok((recordings::from_row(row)?, why))
                })?;
                for row in rows {
                    due.push(row?);
                }
            }
            Ok(due)
        })
    }

    /// From now on the recording is gone for everybody; its files and its row are removed next. Refused while it is held or still runs.
    pub fn begin_erasing(&self, id: &str, why: &str, who: &str, at: u64) -> Result<(), StoreError> {
        let (id, why, who) = (id.to_owned(), why.to_owned(), who.to_owned());
        self.wait(move |db| {
            if hold(db, &id)?.is_some() {
                return Err(StoreError::Conflict { field: "recording", why: "is on legal hold".into() });
            }
            let row = recordings::select(db, &id)?.ok_or(StoreError::Unknown("recording"))?;
            if row.state == RecordingState::Recording {
                return Err(StoreError::Conflict { field: "recording", why: "is not finished".into() });
            }
            let new = db
                .prepare_cached("INSERT OR IGNORE INTO recordings_gone (recording, domain, at, why, files) VALUES (?, ?, ?, ?, 1)")?
                .execute(params![id, row.domain, at.cast_signed(), why])?;
            if new > 0 { ledger::note(db, &who, &row.domain, "recording deleted", &format!("{id}: {why}")) } else { Ok(()) }
        })
    }

    /// Its files are removed: so is its row. What was delivered of it is removed later, until it is gone; gives whether there is any.
    pub fn finish_erasing(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.wait(move |db| {
            db.prepare_cached("DELETE FROM recordings WHERE id = ?")?.execute([&id])?;
            db.prepare_cached("UPDATE recordings_gone SET files = 0 WHERE recording = ?")?.execute([&id])?;
            deliveries::forget(db, &id)
        })
    }

    /// What a crash interrupted between the two.
    pub fn half_erased(&self) -> Result<Vec<RecordingRow>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached(&format!(
                "SELECT {} FROM recordings_gone g JOIN recordings r ON r.id = g.recording WHERE g.files = 1",
                recordings::columns("r")
            ))?;
            Ok(rows.query_map([], recordings::from_row)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn gone(&self, domain: &str, id: &str) -> Result<Option<GoneRow>, StoreError> {
        let (domain, id) = (domain.to_owned(), id.to_owned());
        self.wait(move |db| {
            let mut row = db.prepare_cached("SELECT at, why FROM recordings_gone WHERE recording = ? AND domain = ?")?;
            Ok(row
                .query_row([&id, &domain], |row| Ok(GoneRow { at: row.get::<_, i64>(0)?.cast_unsigned(), why: row.get(1)? }))
                .optional()?)
        })
    }

    pub fn hold(&self, id: &str) -> Result<Option<HoldRow>, StoreError> {
        let id = id.to_owned();
        self.wait(move |db| hold(db, &id))
    }

    /// Holds a recording; another reason replaces the one before, and both are in the audit.
    pub fn put_hold(&self, domain: &str, id: &str, row: HoldRow, who: &str) -> Result<(), StoreError> {
        let (domain, id, who) = (domain.to_owned(), id.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.prepare_cached("SELECT 1 FROM recordings_gone WHERE recording = ?")?.exists([&id])? {
                return Err(StoreError::Conflict { field: "recording", why: "is gone".into() });
            }
            db.prepare_cached(
                "INSERT INTO recording_holds (recording, domain, who, why, at) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (recording) DO UPDATE SET who = excluded.who, why = excluded.why, at = excluded.at",
            )?
            .execute(params![id, domain, row.who, row.why, row.at.cast_signed()])?;
            ledger::note(db, &who, &domain, "recording held", &format!("{id}: {}", row.why))
        })
    }

    /// How many recordings of a domain have a wrapped key that begins so, and how many of these are on hold.
    pub fn recordings_wrapped(&self, domain: &str, wrapped: &[u8]) -> Result<(u64, u64), StoreError> {
        let (domain, wrapped) = (domain.to_owned(), wrapped.to_vec());
        self.wait(move |db| {
            let mut count = db.prepare_cached(
                "SELECT count(*), count(h.recording) FROM recordings r LEFT JOIN recording_holds h ON h.recording = r.id
                 WHERE r.domain = ?1 AND substr(r.wrapped_key, 1, length(?2)) = ?2",
            )?;
            Ok(count.query_row(params![domain, wrapped], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
            })?)
        })
    }

    pub fn delete_hold(&self, domain: &str, id: &str, who: &str) -> Result<(), StoreError> {
        let (domain, id, who) = (domain.to_owned(), id.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.prepare_cached("DELETE FROM recording_holds WHERE recording = ? AND domain = ?")?.execute([&id, &domain])? == 0 {
                return Err(StoreError::Unknown("hold"));
            }
            ledger::note(db, &who, &domain, "recording released", &id)
        })
    }

    /// Notes who gets to a recording's audio; on disk when this returns, so before the first byte goes out.
    pub fn note_access(&self, row: AccessRow) -> Result<(), StoreError> {
        self.wait(move |db| {
            let (first, last) = row.range.unzip();
            db.prepare_cached(
                "INSERT INTO recording_access (recording, domain, at, who, peer, how, first, last) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                row.recording,
                row.domain,
                row.at.cast_signed(),
                row.who,
                row.peer,
                row.how,
                first.map(u64::cast_signed),
                last.map(u64::cast_signed)
            ])?;
            Ok(())
        })
    }

    /// Who got to a recording's audio, newest first. Also of one that is gone.
    pub fn accesses(&self, domain: &str, id: &str, limit: u32) -> Result<Vec<AccessRow>, StoreError> {
        let (domain, id) = (domain.to_owned(), id.to_owned());
        self.wait(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT recording, domain, at, who, peer, how, first, last FROM recording_access
                 WHERE recording = ? AND domain = ? ORDER BY id DESC LIMIT ?",
            )?;
            let access = |row: &Row<'_>| {
                let (first, last): (Option<i64>, Option<i64>) = (row.get(6)?, row.get(7)?);
                Ok(AccessRow {
                    recording: row.get(0)?,
                    domain: row.get(1)?,
                    at: row.get::<_, i64>(2)?.cast_unsigned(),
                    who: row.get(3)?,
                    peer: row.get(4)?,
                    how: row.get(5)?,
                    range: first.zip(last).map(|(first, last)| (first.cast_unsigned(), last.cast_unsigned())),
                })
            };
            Ok(rows.query_map(params![id, domain, limit], access)?.collect::<Result<_, _>>()?)
        })
    }

    /// What is kept of a party, as caller or called. Its names are compared as they are stored.
    pub fn of_party(&self, domain: &str, names: &[String]) -> Result<PartyRows, StoreError> {
        let (domain, names) = (domain.to_owned(), list(names));
        self.wait(move |db| {
            let columns = recordings::columns("r");
            let mut rows = db.prepare_cached(&format!(
                "SELECT {columns}, EXISTS (SELECT 1 FROM recording_holds h WHERE h.recording = r.id) AS held FROM recordings r
                 WHERE r.domain = ?1 AND (r.caller IN (SELECT value FROM json_each(?2)) OR r.called IN (SELECT value FROM json_each(?2)))
                 ORDER BY r.created_at DESC, r.id DESC"
            ))?;
            let recordings = rows.query_map([&domain, &names], |row| Ok((recordings::from_row(row)?, row.get("held")?)))?;
            let recordings = recordings.collect::<Result<_, _>>()?;
            let calls: i64 = db.query_row(
                "SELECT count(*) FROM call_records WHERE domain = ?1
                 AND (caller IN (SELECT value FROM json_each(?2)) OR called IN (SELECT value FROM json_each(?2)))",
                [&domain, &names],
                |row| row.get(0),
            )?;
            Ok(PartyRows { recordings, calls: calls.cast_unsigned() })
        })
    }

    /// Forgets a party's call records, and posts of those calls that still wait. Calls with a recording on hold stay. `detail` goes to the
    /// audit. Gives how many records went.
    pub fn erase_calls(&self, domain: &str, names: &[String], who: &str, detail: &str) -> Result<u64, StoreError> {
        let (domain, names, who, detail) = (domain.to_owned(), list(names), who.to_owned(), detail.to_owned());
        self.wait(move |db| {
            const WHICH: &str =
                "domain = ?1 AND (caller IN (SELECT value FROM json_each(?2)) OR called IN (SELECT value FROM json_each(?2)))
                 AND session NOT IN (SELECT r.session FROM recordings r JOIN recording_holds h ON h.recording = r.id WHERE r.domain = ?1)";
            db.prepare_cached(&format!(
                "DELETE FROM outbox WHERE domain = ?1 AND session IN (SELECT session FROM call_records WHERE {WHICH})"
            ))?
            .execute([&domain, &names])?;
            let erased = db.prepare_cached(&format!("DELETE FROM call_records WHERE {WHICH}"))?.execute([&domain, &names])?;
            ledger::note(db, &who, &domain, "party erased", &format!("{detail}, {erased} call records"))?;
            Ok(erased as u64)
        })
    }
}

fn list(names: &[String]) -> String {
    serde_json::to_string(names).expect("texts become JSON")
}

fn hold(db: &Connection, id: &str) -> Result<Option<HoldRow>, StoreError> {
    let mut row = db.prepare_cached("SELECT who, why, at FROM recording_holds WHERE recording = ?")?;
    let hold = |row: &Row<'_>| Ok(HoldRow { who: row.get(0)?, why: row.get(1)?, at: row.get::<_, i64>(2)?.cast_unsigned() });
    Ok(row.query_row([id], hold).optional()?)
}
