//! Tenants: who may be called here, by which numbers, and what happens when their handler fails.

use super::{Store, StoreError, ledger, wall_ms};
use hookswitch_call::{Configuration, Fallback, Phrase, Tenant};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The key in `settings` of the tenant that takes what nothing else matches.
const DEFAULT_DOMAIN: &str = "default_domain";

/// One tenant as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    pub domain: String,
    pub numbers: Vec<NumberRow>,
    pub fallback: FallbackRow,
    pub max_sessions: u32,
    pub error_prompt: Option<String>,
    /// Whom its handlers may call, as `hookswitch_call::Destination` reads it. None: nobody.
    pub destinations: Vec<String>,
    /// Names that placeivrcall may give as mediaserviceId.
    pub mediaservice_ids: Vec<String>,
    /// P-Asserted-Identity of its handlers goes out.
    pub trusted: bool,
    /// Origins that its handlers may post to.
    pub outbox_origins: Vec<String>,
    /// Its recordings are deleted so long after their end, in milliseconds, where a recording says nothing else. `None`: never.
    pub recording_retention_ms: Option<u64>,
    /// It may upload large components: with more bytes, modules and memory.
    pub large_components: bool,
    /// Takes what no number and no domain matches. At most one tenant does.
    pub default: bool,
    pub created_at: u64,
}

/// A called number, from one trunk or from any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberRow {
    pub trunk: Option<String>,
    pub number: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
pub enum FallbackRow {
    Refuse { status: u16 },
    Announce { files: Vec<String> },
}

impl Default for FallbackRow {
    fn default() -> FallbackRow {
        FallbackRow::Refuse { status: 503 }
    }
}

/// A public key that a tenant's JWTs are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub label: String,
    /// As `api/bearer.rs` writes it.
    pub key: String,
    pub created_at: u64,
}

impl Store {
    /// Creates the tenant or replaces its configuration; versions, recordings and prompts stay. A number of another tenant is a conflict.
    /// With `default` set it takes that role from whoever had it. Returns whether it is new.
    pub fn put_tenant(&self, tenant: TenantRow, who: &str) -> Result<bool, StoreError> {
        let who = who.to_owned();
        self.wait(move |db| put(db, &tenant, &who))
    }

    /// Forgets the tenant and its versions. Recordings and call records stay until they are deleted one by one.
    /// Returns the hashes of components that no tenant refers to any more.
    pub fn delete_tenant(&self, domain: &str, who: &str) -> Result<Vec<String>, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            let mut hashes = db.prepare_cached("SELECT DISTINCT sha256 FROM versions WHERE domain = ?")?;
            let hashes: Vec<String> = hashes.query_map([&domain], |row| row.get(0))?.collect::<Result<_, _>>()?;
            if db.execute("DELETE FROM tenants WHERE domain = ?", [&domain])? == 0 {
                return Err(StoreError::Unknown("domain"));
            }
            db.execute("DELETE FROM settings WHERE key = ? AND value = ?", [DEFAULT_DOMAIN, &domain])?;
            ledger::note(db, &who, &domain, "tenant removed", "")?;
            super::versions::without_reference(db, hashes)
        })
    }

    pub fn tenant(&self, domain: &str) -> Result<Option<TenantRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| Ok(select(db, Some(&domain))?.pop()))
    }

    /// All tenants, newest first.
    pub fn tenants(&self) -> Result<Vec<TenantRow>, StoreError> {
        self.wait(|db| select(db, None))
    }

    /// Gives a tenant a token, of which only the hash is kept. A label names one token: the earlier one of that name is void.
    pub fn put_token(&self, domain: &str, label: &str, hash: &str, who: &str) -> Result<(), StoreError> {
        let (domain, label, hash, who) = (domain.to_owned(), label.to_owned(), hash.to_owned(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            db.execute("DELETE FROM tenant_tokens WHERE domain = ? AND label = ?", [&domain, &label])?;
            db.execute(
                "INSERT INTO tenant_tokens (hash, domain, label, created_at) VALUES (?, ?, ?, ?)",
                params![hash, domain, label, wall_ms().cast_signed()],
            )?;
            ledger::note(db, &who, &domain, "token made", &label)
        })
    }

    pub fn delete_token(&self, domain: &str, label: &str, who: &str) -> Result<(), StoreError> {
        let (domain, label, who) = (domain.to_owned(), label.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM tenant_tokens WHERE domain = ? AND label = ?", [&domain, &label])? == 0 {
                return Err(StoreError::Unknown("token"));
            }
            ledger::note(db, &who, &domain, "token removed", &label)
        })
    }

    /// Whose token has this hash: its domain and label. The look-up is by a hash of what the caller sent, so its timing tells nothing.
    pub fn token_owner(&self, hash: &str) -> Result<Option<(String, String)>, StoreError> {
        let hash = hash.to_owned();
        self.wait(move |db| {
            let mut row = db.prepare_cached("SELECT domain, label FROM tenant_tokens WHERE hash = ?")?;
            Ok(row.query_row([&hash], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        })
    }

    /// Gives a tenant a public key for its JWTs; the earlier one of that label is void. Returns whether the label is new.
    pub fn put_key(&self, domain: &str, label: &str, key: &str, most: usize, who: &str) -> Result<bool, StoreError> {
        let (domain, label, key, who) = (domain.to_owned(), label.to_owned(), key.to_owned(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            let known = db.prepare_cached("SELECT 1 FROM tenant_keys WHERE domain = ? AND label = ?")?.exists([&domain, &label])?;
            let count: i64 = db.query_row("SELECT count(*) FROM tenant_keys WHERE domain = ?", [&domain], |row| row.get(0))?;
            if !known && usize::try_from(count).unwrap_or(usize::MAX) >= most {
                return Err(StoreError::Conflict { field: "label", why: format!("this domain has {most} keys already") });
            }
            db.execute(
                "INSERT INTO tenant_keys (domain, label, key, created_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (domain, label) DO UPDATE SET key = excluded.key, created_at = excluded.created_at",
                params![domain, label, key, wall_ms().cast_signed()],
            )?;
            ledger::note(db, &who, &domain, "key stored", &label)?;
            Ok(!known)
        })
    }

    pub fn delete_key(&self, domain: &str, label: &str, who: &str) -> Result<(), StoreError> {
        let (domain, label, who) = (domain.to_owned(), label.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM tenant_keys WHERE domain = ? AND label = ?", [&domain, &label])? == 0 {
                return Err(StoreError::Unknown("key"));
            }
            ledger::note(db, &who, &domain, "key removed", &label)
        })
    }

    /// A tenant's keys, newest first. None of an unknown one.
    pub fn keys(&self, domain: &str) -> Result<Vec<KeyRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let mut rows =
                db.prepare_cached("SELECT label, key, created_at FROM tenant_keys WHERE domain = ? ORDER BY created_at DESC, label")?;
            let row =
                |row: &Row<'_>| Ok(KeyRow { label: row.get(0)?, key: row.get(1)?, created_at: row.get::<_, i64>(2)?.cast_unsigned() });
            Ok(rows.query_map([&domain], row)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn default_domain(&self) -> Result<Option<String>, StoreError> {
        self.setting(DEFAULT_DOMAIN)
    }

    /// What the switch needs to know of the tenants. Trunks and the node's own address are not stored: the caller fills them in.
    pub fn configuration(&self) -> Result<Configuration, StoreError> {
        let tenants = self.tenants()?;
        let default_domain = tenants.iter().find(|tenant| tenant.default).map(|tenant| tenant.domain.clone());
        Ok(Configuration {
            tenants: tenants.iter().map(|tenant| Arc::new(tenant.to_tenant())).collect(),
            default_domain,
            ..Configuration::default()
        })
    }
}

impl TenantRow {
    fn to_tenant(&self) -> Tenant {
        Tenant {
            domain: self.domain.as_str().into(),
            numbers: self.numbers.iter().map(|n| (n.trunk.clone(), n.number.clone())).collect(),
            max_sessions: usize::try_from(self.max_sessions).unwrap_or(usize::MAX),
            fallback: match &self.fallback {
                FallbackRow::Refuse { status } => Fallback::Refuse { status: *status },
                FallbackRow::Announce { files } => {
                    Fallback::Announce { phrases: files.iter().map(|name| Phrase::File { file_name: name.clone() }).collect() }
                }
            },
            // Only what the API has read as destinations is stored.
            destinations: self.destinations.iter().filter_map(|text| text.parse().ok()).collect(),
            mediaservice_ids: self.mediaservice_ids.clone(),
            trusted: self.trusted,
            error_prompt: self.error_prompt.clone(),
        }
    }
}

fn put(db: &Connection, tenant: &TenantRow, who: &str) -> Result<bool, StoreError> {
    let fallback = serde_json::to_string(&tenant.fallback).expect("plain data becomes JSON");
    let known = db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&tenant.domain])?;
    db.prepare_cached(
        "INSERT INTO tenants (domain, max_sessions, fallback, error_prompt, created_at, destinations, mediaservice_ids, trusted,
                              outbox_origins, recording_retention_ms, large_components)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (domain) DO UPDATE SET
             max_sessions = excluded.max_sessions, fallback = excluded.fallback, error_prompt = excluded.error_prompt,
             destinations = excluded.destinations, mediaservice_ids = excluded.mediaservice_ids, trusted = excluded.trusted,
             outbox_origins = excluded.outbox_origins, recording_retention_ms = excluded.recording_retention_ms,
             large_components = excluded.large_components",
    )?
    .execute(params![
        tenant.domain,
        tenant.max_sessions,
        fallback,
        tenant.error_prompt,
        wall_ms().cast_signed(),
        list(&tenant.destinations),
        list(&tenant.mediaservice_ids),
        tenant.trusted,
        list(&tenant.outbox_origins),
        tenant.recording_retention_ms.map(u64::cast_signed),
        tenant.large_components
    ])?;

    db.prepare_cached("DELETE FROM numbers WHERE domain = ?")?.execute([&tenant.domain])?;
    for (place, number) in tenant.numbers.iter().enumerate() {
        let trunk = number.trunk.as_deref().unwrap_or_default();
        let owner: Option<String> = db
            .prepare_cached("SELECT domain FROM numbers WHERE trunk = ? AND number = ?")?
            .query_row([trunk, &number.number], |row| row.get(0))
            .optional()?;
        if let Some(owner) = owner {
            let whose = if owner == tenant.domain { "is listed twice".to_owned() } else { format!("belongs to {owner}") };
            let from = if trunk.is_empty() { String::new() } else { format!(" from trunk {trunk}") };
            return Err(StoreError::Conflict { field: "numbers", why: format!("{}{from} {whose}", number.number) });
        }
        db.prepare_cached("INSERT INTO numbers (trunk, number, domain, place) VALUES (?, ?, ?, ?)")?.execute(params![
            trunk,
            number.number,
            tenant.domain,
            i64::try_from(place).unwrap_or(i64::MAX)
        ])?;
    }

    if tenant.default {
        db.prepare_cached("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
            .execute([DEFAULT_DOMAIN, &tenant.domain])?;
    } else {
        db.execute("DELETE FROM settings WHERE key = ? AND value = ?", [DEFAULT_DOMAIN, &tenant.domain])?;
    }
    ledger::note(db, who, &tenant.domain, if known { "tenant changed" } else { "tenant added" }, "")?;
    Ok(!known)
}

fn select(db: &Connection, domain: Option<&str>) -> Result<Vec<TenantRow>, StoreError> {
    let mut tenants = db.prepare_cached(
        "SELECT domain, max_sessions, fallback, error_prompt, created_at,
                domain = coalesce((SELECT value FROM settings WHERE key = ?1), ''),
                destinations, mediaservice_ids, trusted, outbox_origins, recording_retention_ms, large_components
         FROM tenants WHERE ?2 IS NULL OR domain = ?2 ORDER BY created_at DESC, rowid DESC",
    )?;
    let mut tenants: Vec<TenantRow> = tenants.query_map(params![DEFAULT_DOMAIN, domain], from_row)?.collect::<Result<_, _>>()?;
    let mut numbers = db.prepare_cached("SELECT trunk, number FROM numbers WHERE domain = ? ORDER BY place")?;
    for tenant in &mut tenants {
        tenant.numbers = numbers
            .query_map([&tenant.domain], |row| {
                let trunk: String = row.get(0)?;
                Ok(NumberRow { trunk: Some(trunk).filter(|trunk| !trunk.is_empty()), number: row.get(1)? })
            })?
            .collect::<Result<_, _>>()?;
    }
    Ok(tenants)
}

fn list(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts become JSON")
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<TenantRow> {
    Ok(TenantRow {
        domain: row.get(0)?,
        numbers: Vec::new(),
        fallback: json(row, 2)?,
        max_sessions: row.get(1)?,
        error_prompt: row.get(3)?,
        destinations: json(row, 6)?,
        mediaservice_ids: json(row, 7)?,
        trusted: row.get(8)?,
        outbox_origins: json(row, 9)?,
        recording_retention_ms: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        large_components: row.get(11)?,
        default: row.get(5)?,
        created_at: row.get::<_, i64>(4)?.cast_unsigned(),
    })
}
