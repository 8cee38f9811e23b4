//! The index of recordings. The audio lies in files; a row says what it is, whether it is whole, and how to check that.

use super::{Store, StoreError};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingRow {
    /// UUID.
    pub id: String,
    pub domain: String,
    /// UUID of the session.
    pub session: String,
    /// Of a recording of both parties of a connection.
    pub connection: Option<String>,
    pub caller: String,
    pub called: String,
    /// The name it was asked for under.
    pub file_name: String,
    /// Where the file lies, as the node opens it.
    pub path: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    pub duration_ms: u64,
    pub frames_expected: u64,
    pub frames_received: u64,
    pub frames_concealed: u64,
    pub frames_silence: u64,
    /// Of the whole file, lower-case hex; empty until it is finished.
    pub sha256: String,
    pub size: u64,
    /// Name as in docs/conformance.md, "Stop reasons" (`stop_digit`, `remote_hangup`, …); empty while it runs.
    pub stop_reason: String,
    pub state: RecordingState,
    /// The handle and the text of whoever ordered it (UR-002, UR-003).
    pub control_id: Option<String>,
    pub client_context: Option<String>,
    /// Names as in docs/conformance.md, "Fields"; empty until it is known.
    pub dialect: String,
    pub container: String,
    pub encoding: String,
    /// Hz; 0 until it is known.
    pub sample_rate: u32,
    pub channels: u16,
    pub stop_digit: Option<char>,
    /// Unknown of one that a crash cut off.
    pub contains_sound: Option<bool>,
    /// Milliseconds since the Unix epoch.
    pub ended_at: Option<u64>,
    pub storage_class: String,
    /// How long after its end it is to be kept, where it was said.
    pub retention_ms: Option<u64>,
    /// Who was recorded heard so.
    pub announce: bool,
    /// The signed sidecar's text; empty until it is finished.
    pub sidecar: String,
    /// Of one that is encrypted at rest: its key, wrapped with the node's. Without it the file is noise.
    #[serde(skip)]
    pub wrapped_key: Option<Vec<u8>>,
}

impl RecordingRow {
    /// The file is encrypted with a key that its client alone has.
    pub fn is_client_encrypted(&self) -> bool {
        self.wrapped_key.is_none() && self.sidecar.contains("-cbc\"")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    #[default]
    Recording,
    /// Whole and stored. Terminal.
    Available,
    /// Nothing usable. Terminal.
    Failed,
}

impl RecordingState {
    pub fn name(self) -> &'static str {
        match self {
            RecordingState::Recording => "recording",
            RecordingState::Available => "available",
            RecordingState::Failed => "failed",
        }
    }
}

impl Store {
    /// Writes a recording's row; it is on disk when this returns. The first terminal state stays.
    pub fn put_recording(&self, row: RecordingRow) -> Result<(), StoreError> {
        self.wait(move |db| save(db, &row))
    }

    /// Several at once: all are on disk when this returns, or none.
    pub fn put_recordings(&self, rows: Vec<RecordingRow>) -> Result<(), StoreError> {
        self.wait(move |db| rows.iter().try_for_each(|row| save(db, row)))
    }

    pub fn recording(&self, id: &str) -> Result<Option<RecordingRow>, StoreError> {
        let id = id.to_owned();
        self.wait(move |db| select(db, &id))
    }

    /// The newest whole recording of that name.
    pub fn recording_named(&self, domain: &str, file_name: &str) -> Result<Option<RecordingRow>, StoreError> {
        let (domain, file_name) = (domain.to_owned(), file_name.to_owned());
        self.wait(move |db| {
            let mut row = db.prepare_cached(&format!(
                "{SELECT} WHERE domain = ? AND file_name = ? AND state = 'available' ORDER BY created_at DESC, id DESC LIMIT 1"
            ))?;
            Ok(row.query_row([&domain, &file_name], from_row).optional()?)
        })
    }

    /// Recordings of a tenant (or of all), newest first: at most `limit`, from the one after `before` (creation time and id).
    pub fn recordings(&self, domain: Option<&str>, before: Option<(u64, String)>, limit: u32) -> Result<Vec<RecordingRow>, StoreError> {
        self.page(domain.map(str::to_owned), None, before, limit)
    }

    /// The same, of one session.
    pub fn recordings_of(
        &self,
        domain: &str,
        session: &str,
        before: Option<(u64, String)>,
        limit: u32,
    ) -> Result<Vec<RecordingRow>, StoreError> {
        self.page(Some(domain.to_owned()), Some(session.to_owned()), before, limit)
    }

    fn page(
        &self,
        domain: Option<String>,
        session: Option<String>,
        before: Option<(u64, String)>,
        limit: u32,
    ) -> Result<Vec<RecordingRow>, StoreError> {
        self.wait(move |db| {
            let (at, id) = before.map_or((i64::MAX, None), |(at, id)| (i64::try_from(at).unwrap_or(i64::MAX), Some(id)));
            // Statements of their own: with "? IS NULL OR domain = ?" SQLite would use no index.
            let whose = match (&domain, &session) {
                (Some(_), Some(_)) => "domain = ?1 AND session = ?5 AND",
                (Some(_), None) => "domain = ?1 AND ?5 IS NULL AND",
                (None, _) => "?1 IS NULL AND ?5 IS NULL AND",
            };
            let mut rows = db.prepare_cached(&format!(
                "{SELECT} WHERE {whose} (created_at < ?2 OR (created_at = ?2 AND (?3 IS NULL OR id < ?3)))
                 ORDER BY created_at DESC, id DESC LIMIT ?4"
            ))?;
            Ok(rows.query_map(params![domain, at, id, limit, session], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    /// Rows that say their recording runs: at start, those that a crash left behind.
    pub fn unfinished_recordings(&self) -> Result<Vec<RecordingRow>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE state = 'recording' ORDER BY created_at, id"))?;
            Ok(rows.query_map([], from_row)?.collect::<Result<_, _>>()?)
        })
    }
}

const SELECT: &str = "SELECT id, domain, session, caller, called, file_name, path, created_at, duration_ms, frames_expected, frames_received, \
                      frames_concealed, frames_silence, sha256, size, stop_reason, state, connection, control_id, \
                      client_context, dialect, container, encoding, sample_rate, channels, stop_digit, contains_sound, ended_at, \
                      storage_class, retention_ms, sidecar, wrapped_key, announce FROM recordings";

/// What [`from_row`] reads, for statements that join: each column with the name that the table has there.
pub(super) fn columns(table: &str) -> String {
    let columns = SELECT.trim_start_matches("SELECT ").trim_end_matches(" FROM recordings");
    columns.split(',').map(|column| format!("{table}.{}", column.trim())).collect::<Vec<_>>().join(", ")
}

pub(super) fn select(db: &rusqlite::Connection, id: &str) -> Result<Option<RecordingRow>, StoreError> {
    Ok(db.prepare_cached(&format!("{SELECT} WHERE id = ?"))?.query_row([id], from_row).optional()?)
}

fn save(db: &rusqlite::Connection, row: &RecordingRow) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO recordings (id, domain, session, caller, called, file_name, path, created_at, duration_ms, frames_expected,
                                 frames_received, frames_concealed, frames_silence, sha256, size, stop_reason, state, connection,
                                 control_id, client_context, dialect, container, encoding, sample_rate, channels, stop_digit,
                                 contains_sound, ended_at, storage_class, retention_ms, sidecar, wrapped_key, announce)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET
             file_name = excluded.file_name, path = excluded.path, duration_ms = excluded.duration_ms,
             frames_expected = excluded.frames_expected, frames_received = excluded.frames_received,
             frames_concealed = excluded.frames_concealed, frames_silence = excluded.frames_silence,
             connection = coalesce(excluded.connection, recordings.connection),
             sha256 = excluded.sha256, size = excluded.size, stop_reason = excluded.stop_reason, state = excluded.state,
             control_id = coalesce(excluded.control_id, recordings.control_id),
             client_context = coalesce(excluded.client_context, recordings.client_context),
             dialect = excluded.dialect, container = excluded.container, encoding = excluded.encoding,
             sample_rate = excluded.sample_rate, channels = excluded.channels, stop_digit = excluded.stop_digit,
             contains_sound = excluded.contains_sound, ended_at = excluded.ended_at, storage_class = excluded.storage_class,
             retention_ms = excluded.retention_ms, sidecar = excluded.sidecar, wrapped_key = excluded.wrapped_key,
             announce = excluded.announce
         WHERE recordings.state = 'recording'",
    )?
    .execute(params![
        row.id,
        row.domain,
        row.session,
        row.caller,
        row.called,
        row.file_name,
        row.path,
        row.created_at.cast_signed(),
        row.duration_ms.cast_signed(),
        row.frames_expected.cast_signed(),
        row.frames_received.cast_signed(),
        row.frames_concealed.cast_signed(),
        row.frames_silence.cast_signed(),
        row.sha256,
        row.size.cast_signed(),
        row.stop_reason,
        row.state.name(),
        row.connection,
        row.control_id,
        row.client_context,
        row.dialect,
        row.container,
        row.encoding,
        row.sample_rate,
        row.channels,
        row.stop_digit.map(String::from),
        row.contains_sound,
        row.ended_at.map(u64::cast_signed),
        row.storage_class,
        row.retention_ms.map(u64::cast_signed),
        row.sidecar,
        row.wrapped_key,
        row.announce,
    ])?;
    // A row that was whole already is not counted twice.
    if db.changes() > 0 {
        super::usage::add_recording(db, row)?;
    }
    if row.state != RecordingState::Recording {
        super::deliveries::finished(db, row)?;
    }
    if row.state == RecordingState::Available {
        super::deliveries::adopt(db, row)?;
    }
    Ok(())
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<RecordingRow> {
    let count = |column: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
    let state: String = row.get(16)?;
    Ok(RecordingRow {
        id: row.get(0)?,
        domain: row.get(1)?,
        session: row.get(2)?,
        connection: row.get(17)?,
        caller: row.get(3)?,
        called: row.get(4)?,
        file_name: row.get(5)?,
        path: row.get(6)?,
        created_at: count(7)?,
        duration_ms: count(8)?,
        frames_expected: count(9)?,
        frames_received: count(10)?,
        frames_concealed: count(11)?,
        frames_silence: count(12)?,
        sha256: row.get(13)?,
        size: count(14)?,
        stop_reason: row.get(15)?,
        state: match state.as_str() {
            "available" => RecordingState::Available,
            "failed" => RecordingState::Failed,
            _ => RecordingState::Recording,
        },
        control_id: row.get(18)?,
        client_context: row.get(19)?,
        dialect: row.get(20)?,
        container: row.get(21)?,
        encoding: row.get(22)?,
        sample_rate: row.get(23)?,
        channels: row.get(24)?,
        stop_digit: row.get::<_, Option<String>>(25)?.and_then(|digit| digit.chars().next()),
        contains_sound: row.get(26)?,
        ended_at: row.get::<_, Option<i64>>(27)?.map(i64::cast_unsigned),
        storage_class: row.get(28)?,
        retention_ms: row.get::<_, Option<i64>>(29)?.map(i64::cast_unsigned),
        sidecar: row.get(30)?,
        wrapped_key: row.get(31)?,
        announce: row.get(32)?,
    })
}
