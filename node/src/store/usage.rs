//! What tenants used, day by day (UTC), for their bills. Calls, recordings and posts are added in the transaction that keeps them, so a crash
//! loses as much of the bill as of what is billed: what was queued in the last moment. What is measured ([`Measured`]) is added by
//! `crate::usage`, which says how much of it a crash may cost.

use super::{CallRow, OutboxRow, RecordingRow, RecordingState, Store, StoreError, wall_ms};
use rusqlite::{Connection, Row, params};
use std::collections::BTreeMap;

const DAY_MS: u64 = 86_400_000;
/// The key in `settings` of when was measured last, in milliseconds since the Unix epoch.
pub const MEASURED_AT: &str = "usage_measured_at";
/// Days of usage kept: three years, which is longer than bills are disputed. Older: forgotten.
const DAYS: i64 = 3 * 366;

/// What a tenant used on one day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageRow {
    pub domain: String,
    /// Days since the Unix epoch.
    pub day: u64,
    /// Calls that ended, answered or not.
    pub calls: u64,
    pub answered: u64,
    /// Answered time of calls that came in.
    pub in_ms: u64,
    /// Calls that handlers and commands placed and that were answered, and their time.
    pub placed: u64,
    pub out_ms: u64,
    pub recordings: u64,
    pub recorded_ms: u64,
    /// Recordings and prompts, bytes times milliseconds.
    pub storage_byte_ms: f64,
    /// The most bytes that were seen.
    pub storage_peak: u64,
    pub guest_cpu_us: u64,
    pub posts: u64,
}

/// What was measured of one tenant since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    pub guest_cpu_us: u64,
    /// Bytes that it has now.
    pub storage: u64,
}

impl Store {
    /// Adds what was measured at `now`; storage counts since `since`, both in milliseconds since the Unix epoch.
    pub fn add_measured(&self, since: u64, now: u64, measured: BTreeMap<String, Measured>) -> Result<(), StoreError> {
        self.wait(move |db| {
            // In the same transaction: storage counts from there on.
            db.prepare_cached("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")?
                .execute([MEASURED_AT, &now.to_string()])?;
            for (domain, one) in &measured {
                add(db, domain, now, "guest_cpu_us", one.guest_cpu_us)?;
                let mut from = since.min(now);
                while from < now && one.storage > 0 {
                    // Each day gets its part.
                    let until = now.min((from / DAY_MS + 1) * DAY_MS);
                    db.prepare_cached(
                        "INSERT INTO usage (domain, day, storage_byte_ms, storage_peak) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (domain, day) DO UPDATE SET storage_byte_ms = storage_byte_ms + ?3, storage_peak = max(storage_peak, ?4)",
                    )?
                    .execute(params![
                        domain,
                        day(from),
                        one.storage as f64 * (until - from) as f64,
                        one.storage.cast_signed()
                    ])?;
                    from = until;
                }
            }
            Ok(())
        })
    }

    /// Days from `from` to `to`, both among them: by day, then domain.
    pub fn usage(&self, domain: Option<&str>, from: u64, to: u64) -> Result<Vec<UsageRow>, StoreError> {
        let domain = domain.map(str::to_owned);
        self.wait(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT domain, day, calls, answered, in_ms, placed, out_ms, recordings, recorded_ms, storage_byte_ms, storage_peak,
                        guest_cpu_us, posts
                 FROM usage WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR domain = ?3) ORDER BY day, domain",
            )?;
            let (from, to) = (from.min(i64::MAX as u64).cast_signed(), to.min(i64::MAX as u64).cast_signed());
            Ok(rows.query_map(params![from, to, domain], from_row)?.collect::<Result<_, _>>()?)
        })
    }

    /// Answered time of each tenant, both directions, since this day.
    pub fn answered_since(&self, day: u64) -> Result<BTreeMap<String, u64>, StoreError> {
        self.wait(move |db| {
            let mut rows = db.prepare_cached("SELECT domain, sum(in_ms + out_ms) FROM usage WHERE day >= ? GROUP BY domain")?;
            let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
            Ok(rows.query_map([day.cast_signed()], pair)?.collect::<Result<_, _>>()?)
        })
    }

    /// Bytes of each tenant's recordings.
    pub fn recorded_bytes(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached("SELECT domain, sum(size) FROM recordings GROUP BY domain")?;
            let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
            Ok(rows.query_map([], pair)?.collect::<Result<_, _>>()?)
        })
    }

    /// Bytes of one tenant's recordings.
    pub fn recorded_bytes_of(&self, domain: &str) -> Result<u64, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let sum = "SELECT coalesce(sum(size), 0) FROM recordings WHERE domain = ?";
            Ok(db.prepare_cached(sum)?.query_row([&domain], |row| row.get::<_, i64>(0))?.cast_unsigned())
        })
    }
}

/// A call that ended, on the day of its end.
pub(super) fn add_call(db: &Connection, row: &CallRow) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO usage (domain, day, calls, answered, in_ms, placed, out_ms) VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6)
         ON CONFLICT (domain, day) DO UPDATE SET calls = calls + 1, answered = answered + ?3, in_ms = in_ms + ?4,
                                                 placed = placed + ?5, out_ms = out_ms + ?6",
    )?
    .execute(params![
        row.domain,
        day(row.started_at.saturating_add(row.duration_ms)),
        row.answered_after_ms.is_some(),
        row.billed.in_ms.cast_signed(),
        row.billed.placed,
        row.billed.out_ms.cast_signed()
    ])?;
    Ok(())
}

/// A recording that is stored. It is called once for each: rows that were whole before do not change.
pub(super) fn add_recording(db: &Connection, row: &RecordingRow) -> Result<(), StoreError> {
    if row.state != RecordingState::Available {
        return Ok(());
    }
    db.prepare_cached(
        "INSERT INTO usage (domain, day, recordings, recorded_ms) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT (domain, day) DO UPDATE SET recordings = recordings + 1, recorded_ms = recorded_ms + ?3",
    )?
    .execute(params![row.domain, day(row.created_at.saturating_add(row.duration_ms)), row.duration_ms.cast_signed()])?;
    Ok(())
}

/// A post that was accepted.
pub(super) fn add_post(db: &Connection, row: &OutboxRow) -> Result<(), StoreError> {
    add(db, &row.domain, row.created_at, "posts", 1)
}

fn add(db: &Connection, domain: &str, at: u64, column: &'static str, n: u64) -> Result<(), StoreError> {
    if n > 0 {
        db.prepare_cached(&format!(
            "INSERT INTO usage (domain, day, {column}) VALUES (?1, ?2, ?3) ON CONFLICT (domain, day) DO UPDATE SET {column} = {column} + ?3"
        ))?
        .execute(params![domain, day(at), n.cast_signed()])?;
    }
    Ok(())
}

pub(super) fn prune(db: &Connection) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM usage WHERE day < ?")?.execute([day(wall_ms()) - DAYS])?;
    Ok(())
}

fn day(ms: u64) -> i64 {
    (ms / DAY_MS).cast_signed()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    let count = |column: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.cast_unsigned()) };
    Ok(UsageRow {
        domain: row.get(0)?,
        day: count(1)?,
        calls: count(2)?,
        answered: count(3)?,
        in_ms: count(4)?,
        placed: count(5)?,
        out_ms: count(6)?,
        recordings: count(7)?,
        recorded_ms: count(8)?,
        storage_byte_ms: row.get(9)?,
        storage_peak: count(10)?,
        guest_cpu_us: count(11)?,
        posts: count(12)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Billed;

    fn open() -> (tempfile::TempDir, Store, super::super::StoreThread) {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        (folder, store, thread)
    }

    fn call(ended: u64, answered: bool, billed: Billed) -> CallRow {
        CallRow {
            domain: "a.example".into(),
            started_at: ended - 1000,
            duration_ms: 1000,
            answered_after_ms: answered.then_some(100),
            billed,
            ..CallRow::default()
        }
    }

    #[test]
    fn days_add_up_and_survive() {
        let (folder, store, thread) = open();
        let today = wall_ms() / DAY_MS;
        let at = today * DAY_MS + 5000;
        store.save_call(call(at, true, Billed { in_ms: 900, placed: 1, out_ms: 700 }));
        store.save_call(call(at, false, Billed::default()));
        store.save_call(call(at - DAY_MS, true, Billed { in_ms: 50, ..Billed::default() }));
        let recording = RecordingRow {
            id: "r".into(),
            domain: "a.example".into(),
            created_at: at,
            duration_ms: 4000,
            size: 64_000,
            state: RecordingState::Available,
            ..RecordingRow::default()
        };
        store.put_recording(RecordingRow { state: RecordingState::Recording, ..recording.clone() }).expect("begun");
        store.put_recording(recording.clone()).expect("stored");
        // Again, as after a crash: it is the same recording.
        store.put_recording(recording).expect("stored");
        let of = |cpu, storage| BTreeMap::from([("a.example".to_owned(), Measured { guest_cpu_us: cpu, storage })]);
        // Two seconds, one of them before midnight.
        store.add_measured(today * DAY_MS - 1000, today * DAY_MS + 1000, of(30, 500)).expect("added");
        thread.close();

        let (store, _thread) = Store::open(&folder.path().join("node.db")).expect("opens again");
        let rows = store.usage(None, 0, u64::MAX).expect("read");
        let [before, now] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((before.day, before.calls, before.in_ms, before.storage_byte_ms), (today - 1, 1, 50, 500_000.0));
        let expected = UsageRow {
            domain: "a.example".into(),
            day: today,
            calls: 2,
            answered: 1,
            in_ms: 900,
            placed: 1,
            out_ms: 700,
            recordings: 1,
            recorded_ms: 4000,
            storage_byte_ms: 500_000.0,
            storage_peak: 500,
            guest_cpu_us: 30,
            posts: 0,
        };
        assert_eq!(*now, expected);
        assert_eq!(store.usage(Some("b.example"), 0, u64::MAX).expect("read"), []);
        assert_eq!(store.usage(None, today, today).expect("read").len(), 1);
        assert_eq!(store.answered_since(today).expect("read"), BTreeMap::from([("a.example".into(), 1600)]));
        assert_eq!(store.recorded_bytes().expect("read"), BTreeMap::from([("a.example".into(), 64_000)]));
        assert_eq!((store.recorded_bytes_of("a.example"), store.recorded_bytes_of("b.example")), (Ok(64_000), Ok(0)));
    }
}
