//! Versions of tenants' components: immutable numbers, one of them active, and the stack of activations that rolling back pops.

use super::{Store, StoreError, ledger, wall_ms};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    pub domain: String,
    pub number: u32,
    pub sha256: String,
    pub size: u64,
    pub note: String,
    pub uploaded_at: u64,
    pub active: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedVersion {
    pub version: VersionRow,
    /// The same bytes were there already, under this number.
    pub known: bool,
    /// Components that nothing refers to any more, now that old versions went.
    pub orphans: Vec<String>,
}

impl Store {
    /// Gives a component its number, the next of its tenant; bytes that the tenant has pushed before keep theirs.
    /// Beyond `keep` the oldest go, but never the active one nor the one that rolling back would return to.
    pub fn add_version(
        &self,
        domain: &str,
        sha256: &str,
        size: u64,
        note: &str,
        keep: usize,
        who: &str,
    ) -> Result<AddedVersion, StoreError> {
        let (domain, sha256, note, who) = (domain.to_owned(), sha256.to_owned(), note.to_owned(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            let known = db
                .prepare_cached(&format!("{SELECT} WHERE domain = ? AND sha256 = ?"))?
                .query_row([&domain, &sha256], from_row)
                .optional()?;
            if let Some(version) = known {
                return Ok(AddedVersion { version, known: true, orphans: Vec::new() });
            }
            let number: u32 = db
                .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE domain = ?")?
                .query_row([&domain], |row| row.get(0))?;
            let version = VersionRow { domain, number, sha256, size, note, uploaded_at: wall_ms(), active: false };
            db.prepare_cached("INSERT INTO versions (domain, number, sha256, size, note, uploaded_at) VALUES (?, ?, ?, ?, ?, ?)")?
                .execute(params![
                    version.domain,
                    version.number,
                    version.sha256,
                    version.size.cast_signed(),
                    version.note,
                    version.uploaded_at.cast_signed()
                ])?;
            ledger::note(db, &who, &version.domain, "version uploaded", &format!("{} {}", version.number, version.sha256))?;
            let orphans = prune(db, &version.domain, keep)?;
            Ok(AddedVersion { version, known: false, orphans })
        })
    }

    /// All versions of a tenant, newest first.
    pub fn versions(&self, domain: &str) -> Result<Vec<VersionRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE domain = ? ORDER BY number DESC"))?;
            Ok(rows.query_map([&domain], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn version(&self, domain: &str, number: u32) -> Result<Option<VersionRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| one(db, &domain, number))
    }

    /// Every tenant's active version.
    pub fn active_versions(&self) -> Result<Vec<VersionRow>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE active = 1 ORDER BY domain"))?;
            Ok(rows.query_map([], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a version the active one. Returns the number that was active before.
    pub fn activate_version(&self, domain: &str, number: u32, who: &str) -> Result<Option<u32>, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            if one(db, &domain, number)?.is_none() {
                return Err(StoreError::Unknown("version"));
            }
            let before = active(db, &domain)?;
            if before != Some(number) {
                db.prepare_cached("INSERT INTO activations (domain, number, at) VALUES (?, ?, ?)")?.execute(params![
                    domain,
                    number,
                    wall_ms().cast_signed()
                ])?;
                set_active(db, &domain, number)?;
                ledger::note(db, &who, &domain, "version activated", &number.to_string())?;
            }
            Ok(before)
        })
    }

    /// The version that rolling back would activate.
    pub fn rollback_target(&self, domain: &str) -> Result<Option<VersionRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| match below_top(db, &domain)? {
            Some(number) => one(db, &domain, number),
            None => Ok(None),
        })
    }

    /// Takes back the last activation, so that the version before it is active again; done twice it goes back two.
    pub fn roll_back_version(&self, domain: &str, who: &str) -> Result<VersionRow, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            let number = below_top(db, &domain)?.ok_or(StoreError::Unknown("earlier version"))?;
            db.prepare_cached("DELETE FROM activations WHERE id = (SELECT max(id) FROM activations WHERE domain = ?)")?
                .execute([&domain])?;
            set_active(db, &domain, number)?;
            ledger::note(db, &who, &domain, "version rolled back to", &number.to_string())?;
            one(db, &domain, number)?.ok_or(StoreError::Unknown("version"))
        })
    }

    /// Which of these components nothing refers to.
    pub fn unreferenced(&self, hashes: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.wait(move |db| without_reference(db, hashes))
    }
}

const SELECT: &str = "SELECT domain, number, sha256, size, note, uploaded_at, active FROM versions";

fn from_row(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        domain: row.get(0)?,
        number: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        note: row.get(4)?,
        uploaded_at: row.get::<_, i64>(5)?.cast_unsigned(),
        active: row.get(6)?,
    })
}

fn one(db: &Connection, domain: &str, number: u32) -> Result<Option<VersionRow>, StoreError> {
    let mut row = db.prepare_cached(&format!("{SELECT} WHERE domain = ? AND number = ?"))?;
    Ok(row.query_row(params![domain, number], from_row).optional()?)
}

fn active(db: &Connection, domain: &str) -> Result<Option<u32>, StoreError> {
    let mut row = db.prepare_cached("SELECT number FROM versions WHERE domain = ? AND active = 1")?;
    Ok(row.query_row([domain], |row| row.get(0)).optional()?)
}

/// The activation below the top of the stack. Pruning took versions out of the stack, so two equal ones may lie on each other: they are one.
fn below_top(db: &Connection, domain: &str) -> Result<Option<u32>, StoreError> {
    let mut row = db.prepare_cached("SELECT number FROM activations WHERE domain = ? ORDER BY id DESC LIMIT 1 OFFSET 1")?;
    Ok(row.query_row([domain], |row| row.get(0)).optional()?)
}

fn set_active(db: &Connection, domain: &str, number: u32) -> Result<(), StoreError> {
    // Two steps: the index that allows one active version is checked row by row.
    db.prepare_cached("UPDATE versions SET active = 0 WHERE domain = ? AND active = 1")?.execute([domain])?;
    db.prepare_cached("UPDATE versions SET active = 1 WHERE domain = ? AND number = ?")?.execute(params![domain, number])?;
    Ok(())
}

fn prune(db: &Connection, domain: &str, keep: usize) -> Result<Vec<String>, StoreError> {
    let target = below_top(db, domain)?;
    let mut old = db.prepare_cached(
        "SELECT number, sha256 FROM versions WHERE domain = ?1 AND active = 0 AND number IS NOT ?2
         AND number NOT IN (SELECT number FROM versions WHERE domain = ?1 ORDER BY number DESC LIMIT ?3)",
    )?;
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let old: Vec<(u32, String)> =
        old.query_map(params![domain, target, keep], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (number, _) in &old {
        // Its activations go with it (ON DELETE CASCADE).
        db.prepare_cached("DELETE FROM versions WHERE domain = ? AND number = ?")?.execute(params![domain, number])?;
    }
    without_reference(db, old.into_iter().map(|(_, sha256)| sha256).collect())
}

pub(super) fn without_reference(db: &Connection, mut hashes: Vec<String>) -> Result<Vec<String>, StoreError> {
    let mut used = db.prepare_cached("SELECT 1 FROM versions WHERE sha256 = ?")?;
    let mut failed = None;
    hashes.retain(|hash| {
        used.exists([hash]).map(|used| !used).unwrap_or_else(|error| {
            failed = Some(error);
            false
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(hashes),
    }
}
