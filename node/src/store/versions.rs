//! Versions of tenants' components: immutable numbers, one of them active, the stack of activations that rolling back pops, and perhaps one
//! that is tried beside the active one. Also what a tenant's versions must fulfil.

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
    /// It is tried with these calls, while the others get the active one.
    pub canary: Option<Share>,
    /// It has got over its first calls.
    pub proven: bool,
    /// Id of the key that it was signed with, a colon, and the signature in base64.
    pub signature: Option<String>,
}

/// Calls that a version gets which is not the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Of all sessions, 1 to 99.
    Percent(u8),
    /// Calls to these numbers.
    Numbers(Vec<String>),
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Share::Percent(percent) => write!(f, "{percent} %"),
            Share::Numbers(numbers) => write!(f, "numbers {}", numbers.join(", ")),
        }
    }
}

/// What rolling back did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// What new calls get now.
    pub version: VersionRow,
    /// The other was only tried; the active version has not changed.
    pub canary: bool,
}

/// What a tenant's versions must fulfil.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestPolicyRow {
    pub require_signature: bool,
    /// Public keys, as `versions/signature.rs` writes them.
    pub signing_keys: Vec<String>,
    pub trial_calls: u32,
    pub trial_min_calls: u32,
    pub trial_failed_percent: u32,
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
    /// Gives a component its number, the next of its tenant; bytes that the tenant has pushed before keep theirs, and get the signature if
    /// there is one. Beyond `keep` the oldest go, but never the active one, one that is tried, nor the one that rolling back would return to.
    pub fn add_version(&self, version: NewVersion<'_>, keep: usize, who: &str) -> Result<AddedVersion, StoreError> {
        let NewVersion { domain, sha256, size, note, signature } = version;
        let (domain, sha256, note, who) = (domain.to_owned(), sha256.to_owned(), note.to_owned(), who.to_owned());
        let signature = signature.map(str::to_owned);
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            let known = db
                .prepare_cached(&format!("{SELECT} WHERE domain = ? AND sha256 = ?"))?
                .query_row([&domain, &sha256], from_row)
                .optional()?;
            if let Some(mut version) = known {
                if signature.is_some() && version.signature != signature {
                    db.prepare_cached("UPDATE versions SET signature = ? WHERE domain = ? AND number = ?")?.execute(params![
                        signature,
                        domain,
                        version.number
                    ])?;
                    ledger::note(db, &who, &domain, "version signed", &version.number.to_string())?;
                    version.signature = signature;
                }
                return Ok(AddedVersion { version, known: true, orphans: Vec::new() });
            }
            let number: u32 = db
                .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE domain = ?")?
                .query_row([&domain], |row| row.get(0))?;
            let uploaded_at = wall_ms();
            let version =
                VersionRow { domain, number, sha256, size, note, uploaded_at, active: false, canary: None, proven: false, signature };
            db.prepare_cached(
                "INSERT INTO versions (domain, number, sha256, size, note, uploaded_at, signature) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                version.domain,
                version.number,
                version.sha256,
                version.size.cast_signed(),
                version.note,
                version.uploaded_at.cast_signed(),
                version.signature
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

    /// Every tenant's active version, and those that are tried.
    pub fn deployed_versions(&self) -> Result<Vec<VersionRow>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE active = 1 OR canary IS NOT NULL ORDER BY domain, number"))?;
            Ok(rows.query_map([], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a version the active one, and ends what is tried beside it. Returns the number that was active before.
    pub fn activate_version(&self, domain: &str, number: u32, who: &str) -> Result<Option<u32>, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            if one(db, &domain, number)?.is_none() {
                return Err(StoreError::Unknown("version"));
            }
            let before = active(db, &domain)?;
            let tried = tried(db, &domain)?;
            db.prepare_cached("DELETE FROM canaries WHERE domain = ?")?.execute([&domain])?;
            if before != Some(number) {
                db.prepare_cached("INSERT INTO activations (domain, number, at) VALUES (?, ?, ?)")?.execute(params![
                    domain,
                    number,
                    wall_ms().cast_signed()
                ])?;
                set_active(db, &domain, number)?;
                ledger::note(db, &who, &domain, "version activated", &number.to_string())?;
            } else if let Some(tried) = tried {
                ledger::note(db, &who, &domain, "version no longer tried", &tried.to_string())?;
            }
            Ok(before)
        })
    }

    /// Tries a version beside the active one, in place of another that is tried.
    pub fn try_version(&self, domain: &str, number: u32, share: &Share, who: &str) -> Result<(), StoreError> {
        let (domain, share, who) = (domain.to_owned(), share.clone(), who.to_owned());
        self.wait(move |db| {
            if one(db, &domain, number)?.is_none() {
                return Err(StoreError::Unknown("version"));
            }
            let (percent, numbers) = match &share {
                Share::Percent(percent) => (Some(*percent), None),
                Share::Numbers(numbers) => (None, Some(serde_json::to_string(numbers).expect("texts become JSON"))),
            };
            db.prepare_cached("INSERT OR REPLACE INTO canaries (domain, number, percent, numbers, at) VALUES (?, ?, ?, ?, ?)")?
                .execute(params![domain, number, percent, numbers, wall_ms().cast_signed()])?;
            ledger::note(db, &who, &domain, "version tried", &format!("{number}: {share}"))
        })
    }

    /// It has got over its first calls.
    pub fn prove_version(&self, domain: &str, number: u32) -> Result<(), StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            db.prepare_cached("UPDATE versions SET proven = 1 WHERE domain = ? AND number = ?")?.execute(params![domain, number])?;
            Ok(())
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

    /// Takes a version's calls away: ends its being tried, or, where it is the active one, takes back the last activation, so that the version
    /// before it is active again. `why` is for the audit, empty where a person asked.
    pub fn roll_back_version(&self, domain: &str, from: u32, who: &str, why: &str) -> Result<RolledBack, StoreError> {
        let (domain, who, why) = (domain.to_owned(), who.to_owned(), why.to_owned());
        self.wait(move |db| {
            let (active, tried) = (active(db, &domain)?, tried(db, &domain)?);
            let canary = tried == Some(from);
            let number = match active {
                Some(active) if canary => active,
                Some(active) if active == from => below_top(db, &domain)?.ok_or(StoreError::Unknown("earlier version"))?,
                _ => return Err(StoreError::Unknown("version")),
            };
            if canary || tried == Some(number) {
                db.prepare_cached("DELETE FROM canaries WHERE domain = ?")?.execute([&domain])?;
            }
            if canary {
                ledger::note(db, &who, &domain, "version no longer tried", &reason(from, &why))?;
            } else {
                db.prepare_cached("DELETE FROM activations WHERE id = (SELECT max(id) FROM activations WHERE domain = ?)")?
                    .execute([&domain])?;
                set_active(db, &domain, number)?;
                ledger::note(db, &who, &domain, "version rolled back to", &reason(number, &why))?;
            }
            let version = one(db, &domain, number)?.ok_or(StoreError::Unknown("version"))?;
            Ok(RolledBack { version, canary })
        })
    }

    /// What this tenant's versions must fulfil, where it was ever said.
    pub fn guest_policy(&self, domain: &str) -> Result<Option<GuestPolicyRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let mut row = db.prepare_cached(
                "SELECT require_signature, signing_keys, trial_calls, trial_min_calls, trial_failed_percent
                 FROM guest_policies WHERE domain = ?",
            )?;
            let policy = row.query_row([&domain], |row| {
                Ok(GuestPolicyRow {
                    require_signature: row.get(0)?,
                    signing_keys: texts(row, 1)?.unwrap_or_default(),
                    trial_calls: row.get(2)?,
                    trial_min_calls: row.get(3)?,
                    trial_failed_percent: row.get(4)?,
                })
            });
            Ok(policy.optional()?)
        })
    }

    pub fn put_guest_policy(&self, domain: &str, policy: &GuestPolicyRow, who: &str) -> Result<(), StoreError> {
        let (domain, policy, who) = (domain.to_owned(), policy.clone(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            db.prepare_cached(
                "INSERT OR REPLACE INTO guest_policies
                     (domain, require_signature, signing_keys, trial_calls, trial_min_calls, trial_failed_percent)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                domain,
                policy.require_signature,
                serde_json::to_string(&policy.signing_keys).expect("texts become JSON"),
                policy.trial_calls,
                policy.trial_min_calls,
                policy.trial_failed_percent
            ])?;
            let signed = if policy.require_signature { "signature required" } else { "no signature required" };
            ledger::note(db, &who, &domain, "guest policy changed", &format!("{signed}, {} signing keys", policy.signing_keys.len()))
        })
    }

    /// Which of these components nothing refers to.
    pub fn unreferenced(&self, hashes: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.wait(move |db| without_reference(db, hashes))
    }
}

/// `canary` is the number that a tenant tries, where it is this one.
const SELECT: &str = "SELECT domain, number, sha256, size, note, uploaded_at, active, proven, signature, percent, numbers FROM
    (SELECT versions.*, canaries.number AS canary, percent, numbers
     FROM versions LEFT JOIN canaries ON canaries.domain = versions.domain AND canaries.number = versions.number)";

/// What a version is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewVersion<'a> {
    pub domain: &'a str,
    pub sha256: &'a str,
    pub size: u64,
    pub note: &'a str,
    pub signature: Option<&'a str>,
}

fn reason(number: u32, why: &str) -> String {
    if why.is_empty() { number.to_string() } else { format!("{number}: {why}") }
}

fn texts(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Vec<String>>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

/// The number that is tried.
fn tried(db: &Connection, domain: &str) -> Result<Option<u32>, StoreError> {
    let mut row = db.prepare_cached("SELECT number FROM canaries WHERE domain = ?")?;
    Ok(row.query_row([domain], |row| row.get(0)).optional()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        domain: row.get(0)?,
        number: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get::<_, i64>(3)?.cast_unsigned(),
        note: row.get(4)?,
        uploaded_at: row.get::<_, i64>(5)?.cast_unsigned(),
        active: row.get(6)?,
        canary: match (row.get::<_, Option<u8>>(9)?, texts(row, 10)?) {
            (Some(percent), _) => Some(Share::Percent(percent)),
            (None, numbers) => numbers.map(Share::Numbers),
        },
        proven: row.get(7)?,
        signature: row.get(8)?,
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
         AND number NOT IN (SELECT number FROM canaries WHERE domain = ?1)
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
