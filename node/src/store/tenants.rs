//! Tenants: who may be called here, by which numbers, and what happens when their handler fails.

use super::{Store, StoreError, devices, ledger, wall_ms};
use hookswitch_call::recording::Policy;
use hookswitch_call::{Configuration, Fallback, Phrase, Tenant, callback};
use hookswitch_proto::media::Codec;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The key in `settings` of the tenant that takes what nothing else matches.
const DEFAULT_DOMAIN: &str = "default_domain";

/// One tenant as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    pub domain: String,
    pub numbers: Vec<NumberRow>,
    pub fallback: FallbackRow,
    /// Trunks whose calls it takes. None: all, and calls from elsewhere.
    pub trunks: Vec<String>,
    pub max_sessions: u32,
    pub quotas: Quotas,
    pub error_prompt: Option<String>,
    /// Whom its handlers may call, as `hookswitch_call::Destination` reads it. None: nobody.
    pub destinations: Vec<String>,
    /// Names that placeivrcall may give as mediaserviceId.
    pub mediaservice_ids: Vec<String>,
    /// P-Asserted-Identity of its handlers goes out.
    pub trusted: bool,
    /// Origins that its handlers may post to.
    pub outbox_origins: Vec<String>,
    /// Where its devices may take their media, as `hookswitch_call::Network` reads it. None: nowhere.
    pub media_addresses: Vec<String>,
    /// Its recordings are deleted so long after their end, in milliseconds, where a recording says nothing else. `None`: never.
    pub recording_retention_ms: Option<u64>,
    /// Whether all of its recordings tell who is recorded, or those that ask for it.
    pub record_announce: RecordAnnounce,
    /// Hz of its recordings in Graph's way. None: that vendor's.
    pub graph_sample_rate: Option<u32>,
    /// It may upload large components: with more bytes, modules and memory.
    pub large_components: bool,
    /// Whose ringing tone its waiting parties hear, as `hookswitch_call::Country` reads it. Empty: the usual one.
    pub country: String,
    /// Codecs that are offered first, by their names in SDP.
    pub codecs: Vec<String>,
    /// Called numbers in IN mode: whole ones, or with `*` at the end what they begin with.
    pub in_numbers: Vec<String>,
    /// Takes what no number and no domain matches. At most one tenant does.
    pub default: bool,
    pub created_at: u64,
}

/// What a tenant may use beside calls at a time. `None`: as much as the node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    pub calls_per_second: Option<u32>,
    /// Live instances of its handler: one a call.
    pub instances: Option<u32>,
    /// CPU time of its handlers, milliseconds in each second.
    pub cpu_ms_per_second: Option<u32>,
    /// Its share of a busy guest thread, beside those of others.
    pub cpu_weight: u32,
    /// Recordings and prompts that lie here.
    pub storage_bytes: Option<u64>,
    /// Answered minutes of a calendar month (UTC), in and out together.
    pub minutes_per_month: Option<u32>,
    /// Uploads and activations of its handler in a minute. `None`: the usual number.
    pub deploys_per_minute: Option<u32>,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas {
            calls_per_second: None,
            instances: None,
            cpu_ms_per_second: None,
            cpu_weight: 1,
            storage_bytes: None,
            minutes_per_month: None,
            deploys_per_minute: None,
        }
    }
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordAnnounce {
    /// As each recording asks for it.
    #[default]
    Off,
    Always,
}

impl RecordAnnounce {
    pub const NAMES: [&str; 2] = ["off", "always"];

    pub fn of_name(name: &str) -> Option<RecordAnnounce> {
        [RecordAnnounce::Off, RecordAnnounce::Always].into_iter().find(|announce| announce.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            RecordAnnounce::Off => "off",
            RecordAnnounce::Always => "always",
        }
    }
}

/// A public key that a tenant's JWTs are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub label: String,
    /// As `api/bearer.rs` writes it.
    pub key: String,
    /// What whoever signs with it may do, as `api/roles.rs` writes it.
    pub roles: String,
    pub created_at: u64,
    pub expires_at: Option<u64>,
    /// When it was seen last, to within a minute.
    pub used_at: Option<u64>,
}

/// A token, without what it is: only its hash is kept, and that stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub label: String,
    pub roles: String,
    pub created_at: u64,
    pub expires_at: Option<u64>,
    /// When it was seen last, to within a minute.
    pub used_at: Option<u64>,
}

/// Whose a token is, and what it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub domain: String,
    pub label: String,
    pub roles: String,
}

/// Use of a token or key is written down so often, in milliseconds: a back office asks many times a second.
const USED_EACH: i64 = 60_000;

impl Store {
    /// Creates the tenant or replaces its configuration; versions, recordings and prompts stay. A number of another tenant is a conflict.
    /// With `default` set it takes that role from whoever had it. Returns whether it is new.
    pub fn put_tenant(&self, tenant: TenantRow, who: &str) -> Result<bool, StoreError> {
        let who = who.to_owned();
        self.wait(move |db| put(db, &tenant, &who))
    }

    /// Several at once, and others removed: all of it is done, or nothing. A number may move from one of them to another.
    pub fn put_tenants(&self, tenants: Vec<TenantRow>, who: &str) -> Result<(), StoreError> {
        let who = who.to_owned();
        self.wait(move |db| {
            for tenant in &tenants {
                db.prepare_cached("DELETE FROM numbers WHERE domain = ?")?.execute([&tenant.domain])?;
            }
            // The default tenant last: whoever is none gives the role up first.
            let (default, others): (Vec<_>, Vec<_>) = tenants.iter().partition(|tenant| tenant.default);
            others.into_iter().chain(default).try_for_each(|tenant| put(db, tenant, &who).map(drop))
        })
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

    /// Gives a tenant a token, of which only the hash is kept. A label names one token: earlier ones of that name are void.
    pub fn put_token(
        &self,
        domain: &str,
        label: &str,
        hash: &str,
        roles: &str,
        expires_at: Option<u64>,
        who: &str,
    ) -> Result<(), StoreError> {
        let (domain, label, hash, roles, who) = (domain.to_owned(), label.to_owned(), hash.to_owned(), roles.to_owned(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            db.execute("DELETE FROM tenant_tokens WHERE domain = ? AND label = ?", [&domain, &label])?;
            insert_token(db, &domain, &label, &hash, &roles, expires_at)?;
            ledger::note(db, &who, &domain, "token made", &format!("{label} ({roles})"))
        })
    }

    /// Gives a label a new token with the roles and the lifetime of the last one, which stays valid for `overlap_ms` more, or until its own end.
    /// Ones before that are void.
    pub fn rotate_token(&self, domain: &str, label: &str, hash: &str, overlap_ms: u64, who: &str) -> Result<TokenRow, StoreError> {
        let (domain, label, hash, who) = (domain.to_owned(), label.to_owned(), hash.to_owned(), who.to_owned());
        self.wait(move |db| {
            let now = wall_ms();
            let last = tokens(db, &domain)?
                .into_iter()
                .find(|token| token.label == label)
                .filter(|token| token.expires_at.is_none_or(|at| at > now));
            let last = last.ok_or(StoreError::Unknown("token"))?;
            let until = last.expires_at.map_or(now + overlap_ms, |at| at.min(now + overlap_ms));
            // Newest first in the listing: the last one has the highest row.
            let newest: i64 =
                db.query_row("SELECT max(rowid) FROM tenant_tokens WHERE domain = ? AND label = ?", [&domain, &label], |row| row.get(0))?;
            db.execute("DELETE FROM tenant_tokens WHERE domain = ? AND label = ? AND rowid <> ?", params![domain, label, newest])?;
            db.execute("UPDATE tenant_tokens SET expires_at = ? WHERE rowid = ?", params![until.cast_signed(), newest])?;
            let expires_at = last.expires_at.map(|at| now + at.saturating_sub(last.created_at));
            insert_token(db, &domain, &label, &hash, &last.roles, expires_at)?;
            ledger::note(db, &who, &domain, "token rotated", &label)?;
            Ok(TokenRow { created_at: now, expires_at, used_at: None, ..last })
        })
    }

    /// A tenant's tokens, newest first; also those that have expired. None of an unknown one.
    pub fn tokens(&self, domain: &str) -> Result<Vec<TokenRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| tokens(db, &domain))
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

    /// Whose token has this hash, if it has not expired. The look-up is by a hash of what the caller sent, so its timing tells nothing.
    pub fn token_owner(&self, hash: &str) -> Result<Option<Credential>, StoreError> {
        let hash = hash.to_owned();
        self.wait(move |db| {
            let now = wall_ms().cast_signed();
            let mut row = db.prepare_cached(
                "SELECT domain, label, roles, coalesce(used_at, 0) FROM tenant_tokens WHERE hash = ?1 AND (expires_at IS NULL OR expires_at > ?2)",
            )?;
            let found = row.query_row(params![hash, now], |row| {
                Ok((Credential { domain: row.get(0)?, label: row.get(1)?, roles: row.get(2)? }, row.get::<_, i64>(3)?))
            });
            let Some((owner, used_at)) = found.optional()? else { return Ok(None) };
            if used_at + USED_EACH <= now {
                db.prepare_cached("UPDATE tenant_tokens SET used_at = ? WHERE hash = ?")?.execute(params![now, hash])?;
            }
            Ok(Some(owner))
        })
    }

    /// Gives a tenant a public key for its JWTs; the earlier one of that label is void. Returns whether the label is new.
    pub fn put_key(&self, domain: &str, row: KeyRow, most: usize, who: &str) -> Result<bool, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            let known = db.prepare_cached("SELECT 1 FROM tenant_keys WHERE domain = ? AND label = ?")?.exists([&domain, &row.label])?;
            let count: i64 = db.query_row("SELECT count(*) FROM tenant_keys WHERE domain = ?", [&domain], |row| row.get(0))?;
            if !known && usize::try_from(count).unwrap_or(usize::MAX) >= most {
                return Err(StoreError::Conflict { field: "label", why: format!("this domain has {most} keys already") });
            }
            db.execute(
                "INSERT INTO tenant_keys (domain, label, key, roles, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (domain, label) DO UPDATE SET key = excluded.key, roles = excluded.roles, created_at = excluded.created_at,
                                                           expires_at = excluded.expires_at, used_at = NULL",
                params![domain, row.label, row.key, row.roles, wall_ms().cast_signed(), row.expires_at.map(u64::cast_signed)],
            )?;
            ledger::note(db, &who, &domain, "key stored", &format!("{} ({})", row.label, row.roles))?;
            Ok(!known)
        })
    }

    /// A key has verified a JWT.
    pub fn key_used(&self, domain: &str, row: &KeyRow) {
        let now = wall_ms().cast_signed();
        if row.used_at.map_or(0, u64::cast_signed) + USED_EACH <= now {
            let (domain, label) = (domain.to_owned(), row.label.clone());
            self.offer("use of a key", move |db| {
                db.prepare_cached("UPDATE tenant_keys SET used_at = ? WHERE domain = ? AND label = ?")?
                    .execute(params![now, domain, label])?;
                Ok(())
            });
        }
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
            let mut rows = db.prepare_cached(
                "SELECT label, key, created_at, roles, expires_at, used_at FROM tenant_keys WHERE domain = ? ORDER BY created_at DESC, label",
            )?;
            let row = |row: &Row<'_>| {
                Ok(KeyRow {
                    label: row.get(0)?,
                    key: row.get(1)?,
                    created_at: row.get::<_, i64>(2)?.cast_unsigned(),
                    roles: row.get(3)?,
                    expires_at: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                    used_at: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
                })
            };
            Ok(rows.query_map([&domain], row)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn default_domain(&self) -> Result<Option<String>, StoreError> {
        self.setting(DEFAULT_DOMAIN)
    }

    /// What the switch needs to know of the tenants. Trunks and the node's own address are not stored: the caller fills them in.
    pub fn configuration(&self) -> Result<Configuration, StoreError> {
        let (tenants, mut devices) = self.wait(|db| Ok((select(db, None)?, devices::of_all(db)?)))?;
        let default_domain = tenants.iter().find(|tenant| tenant.default).map(|tenant| tenant.domain.clone());
        let mut with_devices =
            |tenant: &TenantRow| Arc::new(Tenant { devices: devices.remove(&tenant.domain).unwrap_or_default(), ..tenant.to_tenant() });
        Ok(Configuration { tenants: tenants.iter().map(&mut with_devices).collect(), default_domain, ..Configuration::default() })
    }
}

impl TenantRow {
    fn to_tenant(&self) -> Tenant {
        Tenant {
            domain: self.domain.as_str().into(),
            numbers: self.numbers.iter().map(|n| (n.trunk.clone(), n.number.clone())).collect(),
            trunks: self.trunks.clone(),
            max_sessions: usize::try_from(self.max_sessions).unwrap_or(usize::MAX),
            calls_per_second: self.quotas.calls_per_second,
            fallback: match &self.fallback {
                FallbackRow::Refuse { status } => Fallback::Refuse { status: *status },
                FallbackRow::Announce { files } => {
                    Fallback::Announce { phrases: files.iter().map(|name| Phrase::File { file_name: name.clone() }).collect() }
                }
            },
            number_fallbacks: BTreeMap::new(),
            // Only what the API has read as destinations is stored.
            destinations: self.destinations.iter().filter_map(|text| text.parse().ok()).collect(),
            mediaservice_ids: self.mediaservice_ids.clone(),
            trusted: self.trusted,
            error_prompt: self.error_prompt.clone(),
            country: self.country.parse().unwrap_or_default(),
            codecs: self.codecs.iter().filter_map(|name| Codec::of_name(name)).collect(),
            in_numbers: self.in_numbers.clone(),
            devices: BTreeSet::new(),
            media_addresses: self.media_addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            origins: self.outbox_origins.iter().filter_map(|url| callback::origin(url)).collect(),
            recordings: Policy { announce: self.record_announce == RecordAnnounce::Always, graph_rate: self.graph_sample_rate },
        }
    }
}

fn put(db: &Connection, tenant: &TenantRow, who: &str) -> Result<bool, StoreError> {
    let fallback = serde_json::to_string(&tenant.fallback).expect("plain data becomes JSON");
    let known = db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&tenant.domain])?;
    db.prepare_cached(
        "INSERT INTO tenants (domain, max_sessions, fallback, error_prompt, created_at, destinations, mediaservice_ids, trusted,
                              outbox_origins, recording_retention_ms, quotas, trunks, large_components, record_announce,
                              graph_sample_rate, country, codecs, in_numbers, media_addresses)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (domain) DO UPDATE SET
             max_sessions = excluded.max_sessions, fallback = excluded.fallback, error_prompt = excluded.error_prompt,
             destinations = excluded.destinations, mediaservice_ids = excluded.mediaservice_ids, trusted = excluded.trusted,
             outbox_origins = excluded.outbox_origins, recording_retention_ms = excluded.recording_retention_ms,
             quotas = excluded.quotas, trunks = excluded.trunks, large_components = excluded.large_components,
             record_announce = excluded.record_announce, graph_sample_rate = excluded.graph_sample_rate,
             country = excluded.country, codecs = excluded.codecs, in_numbers = excluded.in_numbers,
             media_addresses = excluded.media_addresses",
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
        serde_json::to_string(&tenant.quotas).expect("plain data becomes JSON"),
        list(&tenant.trunks),
        tenant.large_components,
        tenant.record_announce.name(),
        tenant.graph_sample_rate,
        tenant.country,
        list(&tenant.codecs),
        list(&tenant.in_numbers),
        list(&tenant.media_addresses)
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
                destinations, mediaservice_ids, trusted, outbox_origins, recording_retention_ms, quotas, trunks, large_components,
                record_announce, graph_sample_rate, country, codecs, in_numbers, media_addresses
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

fn insert_token(db: &Connection, domain: &str, label: &str, hash: &str, roles: &str, expires_at: Option<u64>) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO tenant_tokens (hash, domain, label, roles, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        params![hash, domain, label, roles, wall_ms().cast_signed(), expires_at.map(u64::cast_signed)],
    )?;
    Ok(())
}

fn tokens(db: &Connection, domain: &str) -> Result<Vec<TokenRow>, StoreError> {
    let mut rows =
        db.prepare_cached("SELECT label, roles, created_at, expires_at, used_at FROM tenant_tokens WHERE domain = ? ORDER BY rowid DESC")?;
    let row = |row: &Row<'_>| {
        Ok(TokenRow {
            label: row.get(0)?,
            roles: row.get(1)?,
            created_at: row.get::<_, i64>(2)?.cast_unsigned(),
            expires_at: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
            used_at: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
        })
    };
    Ok(rows.query_map([domain], row)?.collect::<Result<_, _>>()?)
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
        trunks: json(row, 12)?,
        max_sessions: row.get(1)?,
        quotas: json(row, 11)?,
        error_prompt: row.get(3)?,
        destinations: json(row, 6)?,
        mediaservice_ids: json(row, 7)?,
        trusted: row.get(8)?,
        outbox_origins: json(row, 9)?,
        recording_retention_ms: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        large_components: row.get(13)?,
        record_announce: RecordAnnounce::of_name(&row.get::<_, String>(14)?).unwrap_or_default(),
        graph_sample_rate: row.get(15)?,
        country: row.get(16)?,
        codecs: json(row, 17)?,
        in_numbers: json(row, 18)?,
        media_addresses: json(row, 19)?,
        default: row.get(5)?,
        created_at: row.get::<_, i64>(4)?.cast_unsigned(),
    })
}
