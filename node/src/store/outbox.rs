//! Posts of handlers that wait for their delivery. A row goes when its post is delivered or given up; `crate::outbox` decides which.
//!
//! Everything but the look at the start is for async tasks: nothing here blocks them.

use super::{Store, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::future::Future;

/// A post as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// Grows with every post: the order within a session. Zero until it is stored.
    pub id: i64,
    /// UUID, the same with every try.
    pub event_id: String,
    pub domain: String,
    /// UUID of the session.
    pub session: String,
    pub url: String,
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub report: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// By [`Store::running_ms`]: its age goes by that.
    pub born: u64,
    pub attempts: u32,
    /// Not before then, milliseconds since the Unix epoch.
    pub next_at: u64,
}

/// A post that waits, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxWaiting {
    pub id: i64,
    pub domain: String,
    pub session: String,
    /// Bytes of its row, as [`OutboxRow::size`] counts them.
    pub size: usize,
}

impl OutboxRow {
    /// What it takes of its tenant's room.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.url.len() + self.content_type.len() + headers + self.body.len()
    }
}

impl Store {
    /// Keeps a post. `told` hears its id when it is on disk, on the store's thread: in the order of posts, and it must not wait. Not
    /// called where the post could not even be queued.
    pub fn keep_post(&self, row: OutboxRow, told: impl FnOnce(Result<i64, StoreError>) + Send + 'static) -> Result<(), StoreError> {
        self.begin(move |db| insert(db, &row), told)
    }

    pub fn post(&self, id: i64) -> impl Future<Output = Result<Option<OutboxRow>, StoreError>> + Send + 'static {
        self.later(move |db| {
            let mut row = db.prepare_cached(
                "SELECT id, event_id, domain, session, url, content_type, headers, body, report, created_at, attempts, next_at, born
                 FROM outbox WHERE id = ?",
            )?;
            Ok(row.query_row([id], from_row).optional()?)
        })
    }

    /// A try failed.
    pub fn post_tried(&self, id: i64, attempts: u32, next_at: u64) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        self.later(move |db| {
            db.prepare_cached("UPDATE outbox SET attempts = ?, next_at = ? WHERE id = ?")?.execute(params![
                attempts,
                next_at.cast_signed(),
                id
            ])?;
            Ok(())
        })
    }

    /// Delivered, or given up.
    pub fn forget_post(&self, id: i64) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        self.later(move |db| {
            db.prepare_cached("DELETE FROM outbox WHERE id = ?")?.execute([id])?;
            Ok(())
        })
    }

    /// All posts that wait, in their order. Blocks: for the start of the node.
    pub fn waiting_posts(&self) -> Result<Vec<OutboxWaiting>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare("SELECT id, domain, session, size FROM outbox ORDER BY id")?;
            let waiting = |row: &Row<'_>| {
                Ok(OutboxWaiting {
                    id: row.get(0)?,
                    domain: row.get(1)?,
                    session: row.get(2)?,
                    size: usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX),
                })
            };
            Ok(rows.query_map([], waiting)?.collect::<Result<_, _>>()?)
        })
    }
}

fn insert(db: &Connection, row: &OutboxRow) -> Result<i64, StoreError> {
    let headers = serde_json::to_string(&row.headers).map_err(|error| StoreError::Sqlite(error.to_string()))?;
    db.prepare_cached(
        "INSERT INTO outbox (event_id, domain, session, url, content_type, headers, body, report, created_at, attempts, next_at, size, born)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        row.event_id,
        row.domain,
        row.session,
        row.url,
        row.content_type,
        headers,
        row.body,
        row.report,
        row.created_at.cast_signed(),
        row.attempts,
        row.next_at.cast_signed(),
        i64::try_from(row.size()).unwrap_or(i64::MAX),
        row.born.cast_signed(),
    ])?;
    let id = db.last_insert_rowid();
    super::usage::add_post(db, row)?;
    Ok(id)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    let headers: String = row.get(6)?;
    Ok(OutboxRow {
        id: row.get(0)?,
        event_id: row.get(1)?,
        domain: row.get(2)?,
        session: row.get(3)?,
        url: row.get(4)?,
        content_type: row.get(5)?,
        // Only we write the column.
        headers: serde_json::from_str(&headers).unwrap_or_default(),
        body: row.get(7)?,
        report: row.get(8)?,
        created_at: row.get::<_, i64>(9)?.cast_unsigned(),
        attempts: row.get(10)?,
        next_at: row.get::<_, i64>(11)?.cast_unsigned(),
        born: row.get::<_, i64>(12)?.cast_unsigned(),
    })
}
