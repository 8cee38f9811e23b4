//! Recordings on their way to their tenant's storage, where that storage is, and what was asked of a recording's keeping when it began.
//!
//! A delivery is made in the transaction that makes its recording available ([`adopt`]), so no crash lies between the two. What happens
//! to it decides `crate::deliver`.

use super::recordings::RecordingRow;
use super::{Store, StoreError, ledger, wall_ms};
use crate::limits;
use hookswitch_call::RecordingStart;
use hookswitch_call::limits::SESSION_DURATION;
use hookswitch_call::recording::StorageClass;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::future::Future;
use std::time::Duration;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryState {
    #[default]
    Uploading,
    /// Whole in the tenant's storage. Terminal.
    Available,
    /// Given up; the audio is kept here. Terminal.
    Failed,
    /// The recording is gone and its object is still to be removed.
    Erasing,
}

impl DeliveryState {
    pub fn name(self) -> &'static str {
        match self {
            DeliveryState::Uploading => "uploading",
            DeliveryState::Available => "available",
            DeliveryState::Failed => "failed",
            DeliveryState::Erasing => "erasing",
        }
    }

    fn from_name(name: &str) -> DeliveryState {
        match name {
            "available" => DeliveryState::Available,
            "failed" => DeliveryState::Failed,
            "erasing" => DeliveryState::Erasing,
            _ => DeliveryState::Uploading,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryRow {
    /// UUID.
    pub recording: String,
    pub domain: String,
    /// UUID of the session.
    pub session: String,
    /// The same with every telling.
    pub event_id: String,
    pub size: u64,
    pub state: DeliveryState,
    /// The local file stays when it is delivered.
    pub keep_local: bool,
    /// The storage's URL and the object's key there; empty until the first try.
    pub place: String,
    pub key: String,
    pub upload: Option<Multipart>,
    pub attempts: u32,
    /// Not before then, milliseconds since the Unix epoch.
    pub next_at: u64,
    pub created_at: u64,
    /// By [`Store::running_ms`], to within some seconds: its age goes by that.
    pub born: u64,
    /// Why the last try failed.
    pub why: Option<String>,
}

/// Who is to hear of a recording, as it was asked for: kept so that a restart tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// UUID of the leg that was recorded; empty where nothing was kept.
    pub participant: String,
    pub status_url: Option<String>,
    pub on_complete_url: Option<String>,
    pub on_available_url: Option<String>,
}

impl Listeners {
    fn of(start: &RecordingStart) -> Listeners {
        let options = &start.options;
        Listeners {
            participant: start.participant_id.clone(),
            status_url: options.status_url.clone(),
            on_complete_url: options.on_complete_url.clone(),
            on_available_url: options.on_available_url.clone(),
        }
    }

    fn any(&self) -> bool {
        self.status_url.is_some() || self.on_complete_url.is_some() || self.on_available_url.is_some()
    }
}

/// A multipart upload that was begun: all that is needed to go on with it, or to call it off.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Multipart {
    pub id: String,
    pub part_size: u64,
    /// What the storage called each part, in their order; `None`: not there yet.
    pub parts: Vec<Option<String>>,
}

/// A tenant's storage. `sealed`: its credentials, as `crate::deliver::seal` wrote them.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageRow {
    pub domain: String,
    /// `s3://bucket/prefix` or `file:/folder`.
    pub url: String,
    pub endpoint: Option<String>,
    pub region: String,
    /// All recordings go there, not only those that asked for it.
    pub every: bool,
    pub sealed: Vec<u8>,
    pub changed_at: u64,
}

/// What its recordings are due for.
pub(super) fn adopt(db: &Connection, row: &RecordingRow) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO deliveries (recording, domain, session, event_id, size, state, keep_local, created_at, next_at, born)
         SELECT ?1, ?2, ?3, ?4, ?5, 'uploading', coalesce(t.class, '') <> 'tenant_bucket', ?6, 0, running.ms
         FROM running LEFT JOIN recording_terms t ON t.recording = ?1 LEFT JOIN tenant_storage s ON s.domain = ?2
         WHERE (t.class = 'tenant_bucket' OR (s.every = 1 AND coalesce(t.class, '') <> 'ephemeral'))
           AND NOT EXISTS (SELECT 1 FROM recordings_gone g WHERE g.recording = ?1)",
    )?
    .execute(params![
        row.id,
        row.domain,
        row.session,
        uuid::Uuid::new_v4().to_string(),
        row.size.cast_signed(),
        wall_ms().cast_signed(),
    ])?;
    Ok(())
}

/// A recording goes: so does what was delivered of it, and what is under way.
pub(super) fn forget(db: &Connection, recording: &str) -> Result<bool, StoreError> {
    db.prepare_cached("DELETE FROM recording_terms WHERE recording = ?")?.execute([recording])?;
    db.prepare_cached("DELETE FROM deliveries WHERE recording = ? AND place = ''")?.execute([recording])?;
    let left = db
        .prepare_cached("UPDATE deliveries SET state = 'erasing', attempts = 0, next_at = 0, announced = 1 WHERE recording = ?")?
        .execute([recording])?;
    Ok(left > 0)
}

/// A recording is finished: from now on it is known when it goes. An ephemeral one goes some time after its call; where nobody knows of the
/// call's end (the node died in it), when no call can be up any more.
pub(super) fn finished(db: &Connection, row: &RecordingRow) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE recording_terms SET due_at = CASE class
             WHEN 'ephemeral' THEN coalesce(ended_at + coalesce(retention_ms, ?2), ?3 + ?4 + ?2)
             ELSE ?3 + ?5 + retention_ms END
         WHERE recording = ?1",
    )?
    .execute(params![
        row.id,
        millis(limits::EPHEMERAL),
        row.created_at.cast_signed(),
        millis(SESSION_DURATION),
        row.duration_ms.cast_signed()
    ])?;
    Ok(())
}

/// A session ended: what is ephemeral of it is not kept long after.
pub(super) fn session_ended(db: &Connection, session: &str, at: u64) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE recording_terms SET ended_at = ?1, due_at = CASE WHEN due_at IS NOT NULL THEN ?1 + coalesce(retention_ms, ?2) END
         WHERE session = ?3 AND class = 'ephemeral' AND ended_at IS NULL",
    )?
    .execute(params![at.cast_signed(), millis(limits::EPHEMERAL), session])?;
    Ok(())
}

impl Store {
    /// Keeps what was asked of a recording that begins, where that is more than the usual. Never blocks.
    pub fn keep_terms(&self, start: &RecordingStart) {
        let (class, retention) = (start.options.storage_class, start.options.retention);
        let listeners = Listeners::of(start);
        if class == StorageClass::PromptStore && retention.is_none() && !listeners.any() {
            return;
        }
        let (id, domain, session) = (start.recording_id.clone(), start.domain.to_string(), start.session_id.clone());
        self.offer("what was asked of a recording", move |db| {
            let Listeners { participant, status_url, on_complete_url, on_available_url } = listeners;
            db.prepare_cached(
                "INSERT OR IGNORE INTO recording_terms (recording, domain, session, class, retention_ms, participant, status_url,
                     on_complete_url, on_available_url) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                id,
                domain,
                session,
                class.name(),
                retention.map(millis),
                participant,
                status_url,
                on_complete_url,
                on_available_url
            ])?;
            Ok(())
        });
    }

    /// Who is to hear of a recording; nobody where nothing was asked.
    pub fn listeners(&self, recording: &str) -> Result<Listeners, StoreError> {
        let recording = recording.to_owned();
        self.wait(move |db| listeners(db, &recording))
    }

    /// Sets a tenant's storage. Its deliveries are tried at once.
    pub fn put_storage(&self, row: StorageRow, who: &str) -> Result<(), StoreError> {
        let who = who.to_owned();
        self.wait(move |db| {
            if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([&row.domain])? {
                return Err(StoreError::Unknown("domain"));
            }
            db.execute(
                "INSERT INTO tenant_storage (domain, url, endpoint, region, every, sealed, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (domain) DO UPDATE SET url = excluded.url, endpoint = excluded.endpoint, region = excluded.region,
                     every = excluded.every, sealed = excluded.sealed, changed_at = excluded.changed_at",
                params![row.domain, row.url, row.endpoint, row.region, row.every, row.sealed, wall_ms().cast_signed()],
            )?;
            hurry(db, &row.domain)?;
            ledger::note(db, &who, &row.domain, "storage set", &row.url)
        })
    }

    pub fn delete_storage(&self, domain: &str, who: &str) -> Result<(), StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM tenant_storage WHERE domain = ?", [&domain])? == 0 {
                return Err(StoreError::Unknown("storage"));
            }
            ledger::note(db, &who, &domain, "storage removed", "")
        })
    }

    pub fn storage(&self, domain: &str) -> Result<Option<StorageRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| select_storage(db, &domain))
    }

    pub fn storage_later(&self, domain: &str) -> impl Future<Output = Result<Option<StorageRow>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.later(move |db| select_storage(db, &domain))
    }

    pub fn delivery(&self, recording: &str) -> Result<Option<DeliveryRow>, StoreError> {
        let recording = recording.to_owned();
        self.wait(move |db| select(db, &recording))
    }

    pub fn delivery_later(&self, recording: &str) -> impl Future<Output = Result<Option<DeliveryRow>, StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| select(db, &recording))
    }

    /// A recording, and who is to hear of it.
    pub fn told_of(&self, recording: &str) -> impl Future<Output = Result<Option<(RecordingRow, Listeners)>, StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| {
            let Some(row) = super::recordings::select(db, &recording)? else { return Ok(None) };
            Ok(Some((row, listeners(db, &recording)?)))
        })
    }

    /// A recording and its delivery, as one look sees them.
    pub fn deliverable(&self, recording: &str) -> impl Future<Output = Result<Option<RecordingRow>, StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| super::recordings::select(db, &recording))
    }

    /// Deliveries that are due, at most `each` of a tenant, so that one whose storage is away hides no other's. None waits longer than
    /// `longest`: what is said to was so before the machine's clock was set back.
    pub fn due_deliveries(
        &self,
        now: u64,
        longest: Duration,
        each: u32,
    ) -> impl Future<Output = Result<Vec<DeliveryRow>, StoreError>> + Send + 'static {
        let beyond = now.saturating_add(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        self.later(move |db| {
            let mut rows = db.prepare_cached(&format!(
                "{SELECT} FROM (
                     SELECT *, row_number() OVER (PARTITION BY domain ORDER BY next_at, created_at) AS place_in_line
                     FROM deliveries INDEXED BY deliveries_due
                     WHERE (state IN ('uploading', 'erasing') OR upload IS NOT NULL) AND (next_at <= ?1 OR next_at > ?3)
                 ) WHERE place_in_line <= ?2 ORDER BY next_at LIMIT 256"
            ))?;
            Ok(rows
                .query_map(params![now.cast_signed(), each, beyond.min(i64::MAX as u64).cast_signed()], from_row)?
                .collect::<Result<_, _>>()?)
        })
    }

    /// What waits beyond `bytes` of a tenant, the oldest first.
    pub fn deliveries_beyond(&self, bytes: u64) -> impl Future<Output = Result<Vec<DeliveryRow>, StoreError>> + Send + 'static {
        self.later(move |db| {
            // From the newest on, whatever no longer fits.
            let mut rows = db.prepare_cached(&format!(
                "{SELECT} FROM (
                     SELECT *, sum(size) OVER (PARTITION BY domain ORDER BY created_at DESC, recording DESC) AS newer
                     FROM deliveries WHERE state = 'uploading'
                 ) WHERE newer > ? ORDER BY created_at, recording LIMIT 256"
            ))?;
            Ok(rows.query_map([bytes.cast_signed()], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    /// How far an upload is; without `upload` there are no parts under way. Gives whether the delivery is still wanted: its recording may
    /// have been erased meanwhile.
    pub fn upload_moved(
        &self,
        recording: &str,
        place: &str,
        key: &str,
        upload: Option<&Multipart>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + 'static {
        let (recording, place, key) = (recording.to_owned(), place.to_owned(), key.to_owned());
        let upload = upload.map(|upload| serde_json::to_string(upload).expect("plain data becomes JSON"));
        self.later(move |db| {
            let state: Option<String> = db
                .prepare_cached("UPDATE deliveries SET place = ?, key = ?, upload = ? WHERE recording = ? RETURNING state")?
                .query_row(params![place, key, upload, recording], |row| row.get(0))
                .optional()?;
            Ok(state.is_some_and(|state| state == DeliveryState::Uploading.name()))
        })
    }

    /// A try failed; once more, later.
    pub fn delivery_tried(
        &self,
        recording: &str,
        attempts: u32,
        next_at: u64,
        why: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let (recording, why) = (recording.to_owned(), why.to_owned());
        self.later(move |db| {
            db.prepare_cached("UPDATE deliveries SET attempts = ?, next_at = ?, why = ? WHERE recording = ?")?.execute(params![
                attempts,
                next_at.cast_signed(),
                why,
                recording
            ])?;
            Ok(())
        })
    }

    /// Ends a delivery; the first end stays. With `available` the tenant's other deliveries are due at once, since its storage is there.
    /// Gives whether it ended by this.
    pub fn end_delivery(
        &self,
        recording: &str,
        state: DeliveryState,
        why: Option<&str>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + 'static {
        let (recording, why) = (recording.to_owned(), why.map(str::to_owned));
        self.later(move |db| {
            let domain: Option<String> = db
                .prepare_cached(
                    "UPDATE deliveries SET state = ?, why = ?, next_at = 0 WHERE recording = ? AND state = 'uploading' RETURNING domain",
                )?
                .query_row(params![state.name(), why, recording], |row| row.get(0))
                .optional()?;
            let Some(domain) = domain else { return Ok(false) };
            if state == DeliveryState::Available {
                db.prepare_cached("UPDATE deliveries SET upload = NULL WHERE recording = ?")?.execute([&recording])?;
                hurry(db, &domain)?;
            }
            Ok(true)
        })
    }

    /// Its object is gone.
    pub fn delivery_erased(&self, recording: &str) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| {
            db.prepare_cached("DELETE FROM deliveries WHERE recording = ? AND state = 'erasing'")?.execute([&recording])?;
            Ok(())
        })
    }

    /// Ends that nobody was told yet.
    pub fn untold_deliveries(&self) -> impl Future<Output = Result<Vec<DeliveryRow>, StoreError>> + Send + 'static {
        self.later(|db| {
            let mut rows = db.prepare_cached(&format!(
                "{SELECT} FROM deliveries INDEXED BY deliveries_untold
                 WHERE announced = 0 AND state IN ('available', 'failed') ORDER BY created_at LIMIT 256"
            ))?;
            Ok(rows.query_map([], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    pub fn delivery_told(&self, recording: &str) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| {
            db.prepare_cached("UPDATE deliveries SET announced = 1 WHERE recording = ?")?.execute([&recording])?;
            Ok(())
        })
    }

    /// The local file of a delivered recording is gone: its row no longer points to it.
    pub fn recording_moved(&self, recording: &str) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let recording = recording.to_owned();
        self.later(move |db| {
            db.prepare_cached("UPDATE recordings SET path = '' WHERE id = ?")?.execute([&recording])?;
            Ok(())
        })
    }
}

fn listeners(db: &Connection, recording: &str) -> Result<Listeners, StoreError> {
    let mut row =
        db.prepare_cached("SELECT participant, status_url, on_complete_url, on_available_url FROM recording_terms WHERE recording = ?")?;
    let read = |row: &Row<'_>| {
        Ok(Listeners { participant: row.get(0)?, status_url: row.get(1)?, on_complete_url: row.get(2)?, on_available_url: row.get(3)? })
    };
    Ok(row.query_row([recording], read).optional()?.unwrap_or_default())
}

const SELECT: &str =
    "SELECT recording, domain, session, event_id, size, state, keep_local, place, key, upload, attempts, next_at, created_at, why, born";

fn select(db: &Connection, recording: &str) -> Result<Option<DeliveryRow>, StoreError> {
    let mut row = db.prepare_cached(&format!("{SELECT} FROM deliveries WHERE recording = ?"))?;
    Ok(row.query_row([recording], from_row).optional()?)
}

fn select_storage(db: &Connection, domain: &str) -> Result<Option<StorageRow>, StoreError> {
    let mut row =
        db.prepare_cached("SELECT domain, url, endpoint, region, every, sealed, changed_at FROM tenant_storage WHERE domain = ?")?;
    let storage = |row: &Row<'_>| {
        Ok(StorageRow {
            domain: row.get(0)?,
            url: row.get(1)?,
            endpoint: row.get(2)?,
            region: row.get(3)?,
            every: row.get(4)?,
            sealed: row.get(5)?,
            changed_at: row.get::<_, i64>(6)?.cast_unsigned(),
        })
    };
    Ok(row.query_row([domain], storage).optional()?)
}

fn hurry(db: &Connection, domain: &str) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE deliveries SET next_at = 0 WHERE domain = ? AND state IN ('uploading', 'erasing')")?.execute([domain])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    let count = |column: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
    let state: String = row.get(5)?;
    let upload: Option<String> = row.get(9)?;
    Ok(DeliveryRow {
        recording: row.get(0)?,
        domain: row.get(1)?,
        session: row.get(2)?,
        event_id: row.get(3)?,
        size: count(4)?,
        state: DeliveryState::from_name(&state),
        keep_local: row.get(6)?,
        place: row.get(7)?,
        key: row.get(8)?,
        // Only we write the column.
        upload: upload.and_then(|text| serde_json::from_str(&text).ok()),
        attempts: row.get(10)?,
        next_at: count(11)?,
        created_at: count(12)?,
        why: row.get(13)?,
        born: row.get::<_, i64>(14)?.cast_unsigned(),
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
