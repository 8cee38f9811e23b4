//! Keys and values of handlers: each tenant's own, shared by its sessions and versions. What one job changes here it changes whole.
//!
//! A key is always asked for together with its tenant, which the node knows and no handler says. Values that have expired are as if they
//! were not there, and are removed by [`Store::sweep_values`].

use super::{Store, StoreError};
use crate::limits;
use rusqlite::{Connection, OptionalExtension, params};
use std::future::Future;

/// A value that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRow {
    pub value: Vec<u8>,
    /// Grows with every change in its tenant, so that a key that was deleted and made again has another one.
    pub version: u64,
}

/// Why a value is not changed. Nothing of the tenant's is, then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The tenant has no room for it.
    #[error("store: {} bytes of a tenant", limits::STORE_BYTES)]
    Full,
    /// What is to be added to is no number.
    #[error("the key's value is no number")]
    NoNumber,
    #[error("the sum is beyond 64 bits")]
    Overflow,
}

/// What a row takes beside its key and value.
const ROW: usize = 64;

impl Store {
    pub fn value(
        &self,
        domain: &str,
        key: String,
        now: u64,
    ) -> impl Future<Output = Result<Option<ValueRow>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.soon(move |db| Ok(select(db, &domain, &key, now)?.map(|(row, _)| row)))
    }

    /// `version`: write only if the value still has it; 0 is "there is none". Gives whether it was written. `ttl`: milliseconds.
    pub fn put_value(
        &self,
        domain: &str,
        key: String,
        value: Vec<u8>,
        version: Option<u64>,
        ttl: Option<u64>,
        now: u64,
    ) -> impl Future<Output = Result<Result<bool, ValueError>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.later(move |db| {
            if let Some(meant) = version {
                let found = select(db, &domain, &key, now)?.map_or(0, |(row, _)| row.version);
                if found != meant {
                    return Ok(Ok(false));
                }
            }
            let expires = ttl.map(|ttl| now.saturating_add(ttl));
            Ok(put(db, &domain, &key, &value, expires)?.map(|()| true))
        })
    }

    pub fn delete_value(&self, domain: &str, key: String) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.later(move |db| {
            let size = size_of(db, &domain, &key)?;
            db.prepare_cached("DELETE FROM handler_values WHERE domain = ? AND key = ?")?.execute([&domain, &key])?;
            used(db, &domain, -size)?;
            Ok(())
        })
    }

    /// Adds to a number in decimal text, and gives the sum. It expires when it would have.
    pub fn add_to_value(
        &self,
        domain: &str,
        key: String,
        by: i64,
        now: u64,
    ) -> impl Future<Output = Result<Result<i64, ValueError>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.later(move |db| {
            let (before, expires) = match select(db, &domain, &key, now)? {
                None => (0, None),
                Some((row, expires)) => {
                    let number = std::str::from_utf8(&row.value).ok().and_then(|text| text.parse::<i64>().ok());
                    let Some(number) = number else { return Ok(Err(ValueError::NoNumber)) };
                    (number, expires)
                }
            };
            let Some(sum) = before.checked_add(by) else { return Ok(Err(ValueError::Overflow)) };
            Ok(put(db, &domain, &key, sum.to_string().as_bytes(), expires)?.map(|()| sum))
        })
    }

    /// Keys that begin so, in order, behind `after`: at most so many.
    pub fn value_keys(
        &self,
        domain: &str,
        prefix: String,
        after: Option<String>,
        most: usize,
        now: u64,
    ) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.soon(move |db| {
            let mut rows = db.prepare_cached(
                "SELECT key FROM handler_values WHERE domain = ?1 AND key >= ?2 AND key > ?3
                 AND (expires_at IS NULL OR expires_at > ?4) ORDER BY key",
            )?;
            // No key is empty, so all are behind the empty one.
            let after = after.unwrap_or_default();
            let mut keys = Vec::new();
            for key in rows.query_map(params![domain, prefix, after, now.cast_signed()], |row| row.get::<_, String>(0))? {
                let key = key?;
                // In order: those that begin otherwise come behind all that begin so.
                if keys.len() >= most || !key.starts_with(&prefix) {
                    break;
                }
                keys.push(key);
            }
            Ok(keys)
        })
    }

    /// Removes what had expired by `now`, at most so much at once. Gives how much.
    pub fn sweep_values(&self, now: u64, most: u32) -> impl Future<Output = Result<usize, StoreError>> + Send + 'static {
        self.later(move |db| {
            let mut rows = db.prepare_cached("SELECT domain, key FROM handler_values WHERE expires_at <= ? ORDER BY expires_at LIMIT ?")?;
            let due: Vec<(String, String)> =
                rows.query_map(params![now.cast_signed(), most], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            for (domain, key) in &due {
                let size = size_of(db, domain, key)?;
                db.prepare_cached("DELETE FROM handler_values WHERE domain = ? AND key = ?")?.execute([domain, key])?;
                used(db, domain, -size)?;
            }
            Ok(due.len())
        })
    }
}

type Expires = Option<u64>;

fn select(db: &Connection, domain: &str, key: &str, now: u64) -> Result<Option<(ValueRow, Expires)>, StoreError> {
    let mut row = db.prepare_cached(
        "SELECT value, version, expires_at FROM handler_values
         WHERE domain = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
    )?;
    let row = row.query_row(params![domain, key, now.cast_signed()], |row| {
        let value = ValueRow { value: row.get(0)?, version: row.get::<_, i64>(1)?.cast_unsigned() };
        Ok((value, row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned)))
    });
    Ok(row.optional()?)
}

fn put(db: &Connection, domain: &str, key: &str, value: &[u8], expires: Expires) -> Result<Result<(), ValueError>, StoreError> {
    let grows = size(key, value.len()) - size_of(db, domain, key)?;
    let (bytes, version) = used(db, domain, grows)?;
    if bytes > limits::STORE_BYTES as i64 && grows > 0 {
        used(db, domain, -grows)?;
        return Ok(Err(ValueError::Full));
    }
    db.prepare_cached(
        "INSERT INTO handler_values (domain, key, value, version, expires_at) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (domain, key) DO UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at",
    )?
    .execute(params![domain, key, value, version, expires.map(|at| i64::try_from(at).unwrap_or(i64::MAX))])?;
    Ok(Ok(()))
}

/// Of a row, expired or not; zero where there is none.
fn size_of(db: &Connection, domain: &str, key: &str) -> Result<i64, StoreError> {
    let mut row = db.prepare_cached("SELECT length(value) FROM handler_values WHERE domain = ? AND key = ?")?;
    let length: Option<i64> = row.query_row([domain, key], |row| row.get(0)).optional()?;
    Ok(length.map_or(0, |length| size(key, usize::try_from(length).unwrap_or(usize::MAX))))
}

fn size(key: &str, value: usize) -> i64 {
    i64::try_from(key.len().saturating_add(value).saturating_add(ROW)).unwrap_or(i64::MAX)
}

/// What the tenant has now, and the next version. Kept beside the values, so that no change has to add them all up.
fn used(db: &Connection, domain: &str, grows: i64) -> Result<(i64, i64), StoreError> {
    let mut row = db.prepare_cached(
        "INSERT INTO handler_values_used (domain, bytes, version) VALUES (?1, max(?2, 0), 1)
         ON CONFLICT (domain) DO UPDATE SET bytes = max(bytes + ?2, 0), version = version + 1 RETURNING bytes, version",
    )?;
    Ok(row.query_row(params![domain, grows], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

#[cfg(test)]
mod tests {
    use super::super::{StoreThread, TenantRow};
    use super::*;

    struct World {
        _folder: tempfile::TempDir,
        store: Store,
        _thread: StoreThread,
        runtime: tokio::runtime::Runtime,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().expect("a folder");
            let (store, thread) = Store::open(&folder.path().join("node.db")).expect("opens");
            for domain in ["a.example", "b.example"] {
                store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            World { _folder: folder, store, _thread: thread, runtime }
        }

        fn get(&self, domain: &str, key: &str, now: u64) -> Option<(String, u64)> {
            let row = self.runtime.block_on(self.store.value(domain, key.into(), now)).expect("read")?;
            Some((String::from_utf8(row.value).expect("text"), row.version))
        }

        fn put(&self, domain: &str, key: &str, value: &str, version: Option<u64>, ttl: Option<u64>, now: u64) -> Result<bool, ValueError> {
            self.runtime.block_on(self.store.put_value(domain, key.into(), value.into(), version, ttl, now)).expect("written")
        }

        fn add(&self, key: &str, by: i64, now: u64) -> Result<i64, ValueError> {
            self.runtime.block_on(self.store.add_to_value("a.example", key.into(), by, now)).expect("written")
        }

        fn delete(&self, domain: &str, key: &str) {
            self.runtime.block_on(self.store.delete_value(domain, key.into())).expect("deleted");
        }

        fn keys(&self, domain: &str, prefix: &str, after: Option<&str>, most: usize, now: u64) -> Vec<String> {
            self.runtime.block_on(self.store.value_keys(domain, prefix.into(), after.map(str::to_owned), most, now)).expect("read")
        }

        fn bytes(&self, domain: &'static str) -> i64 {
            let bytes = move |db: &Connection| {
                let mut row = db.prepare("SELECT bytes FROM handler_values_used WHERE domain = ?")?;
                Ok(row.query_row([domain], |row| row.get(0)).optional()?)
            };
            self.store.wait(bytes).expect("read").unwrap_or(0)
        }
    }

    #[test]
    fn a_value_has_a_version_that_never_comes_again() {
        let world = World::new();
        assert_eq!(world.get("a.example", "k", 0), None);
        assert_eq!(world.put("a.example", "k", "one", None, None, 0), Ok(true));
        let (_, first) = world.get("a.example", "k", 0).expect("there");
        assert_eq!(world.put("a.example", "k", "two", Some(first), None, 0), Ok(true));
        assert_eq!(world.put("a.example", "k", "three", Some(first), None, 0), Ok(false), "somebody was faster");
        let (value, second) = world.get("a.example", "k", 0).expect("there");
        assert!(value == "two" && second > first);
        assert_eq!(world.put("a.example", "k", "x", Some(0), None, 0), Ok(false), "it has a value");
        // Deleted and made again: whoever read the earlier one does not overwrite it.
        world.delete("a.example", "k");
        world.delete("a.example", "k");
        assert_eq!(world.put("a.example", "k", "again", Some(0), None, 0), Ok(true));
        assert!(world.get("a.example", "k", 0).expect("there").1 > second);
        assert_eq!(world.put("a.example", "k", "late", Some(second), None, 0), Ok(false));
    }

    #[test]
    fn a_value_is_its_tenants_alone_and_goes_with_it() {
        let world = World::new();
        assert_eq!(world.put("a.example", "k", "mine", None, None, 0), Ok(true));
        assert_eq!(world.get("b.example", "k", 0), None);
        assert_eq!(world.keys("b.example", "", None, 100, 0), Vec::<String>::new());
        // Names that would cross over if key and tenant were put together.
        assert_eq!(world.put("b.example", "a.example/k", "x", None, None, 0), Ok(true));
        assert_eq!(world.put("b.example", "k' OR '1'='1", "x", None, None, 0), Ok(true));
        world.delete("b.example", "k");
        assert_eq!(world.put("b.example", "k", "theirs", None, None, 0), Ok(true));
        assert_eq!(world.get("a.example", "k", 0).map(|(value, _)| value).as_deref(), Some("mine"));
        world.store.delete_tenant("a.example", "test").expect("removed");
        world.store.put_tenant(TenantRow { domain: "a.example".into(), ..TenantRow::default() }, "test").expect("made");
        assert_eq!((world.get("a.example", "k", 0), world.bytes("a.example")), (None, 0));
        assert_eq!(world.get("b.example", "k", 0).map(|(value, _)| value).as_deref(), Some("theirs"));
        // A call that outlives its tenant writes nothing.
        let orphan = world.runtime.block_on(world.store.put_value("gone.example", "k".into(), vec![1], None, None, 0));
        assert!(matches!(orphan, Err(StoreError::Sqlite(_))), "{orphan:?}");
    }

    #[test]
    fn sums_are_made_in_the_store_and_keep_their_end() {
        let world = World::new();
        assert_eq!(world.add("n", 5, 0), Ok(5));
        assert_eq!(world.add("n", -7, 0), Ok(-2));
        assert_eq!(world.get("a.example", "n", 0).expect("there").0, "-2");
        assert_eq!(world.put("a.example", "n", "9223372036854775807", None, Some(100), 0), Ok(true));
        assert_eq!(world.add("n", 1, 0), Err(ValueError::Overflow));
        assert_eq!(world.add("n", -1, 50), Ok(i64::MAX - 1));
        assert_eq!(world.add("n", 1, 100), Ok(1), "it had expired");
        assert_eq!(world.put("a.example", "n", "many", None, None, 0), Ok(true));
        assert_eq!(world.add("n", 1, 0), Err(ValueError::NoNumber));
        // Many at once: none is lost.
        let sums: Vec<_> = (0..50).map(|_| world.store.add_to_value("a.example", "c".into(), 1, 0)).collect();
        for sum in sums {
            world.runtime.block_on(sum).expect("written").expect("a sum");
        }
        assert_eq!(world.get("a.example", "c", 0).expect("there").0, "50");
    }

    #[test]
    fn what_has_expired_is_not_there_and_is_swept() {
        let world = World::new();
        for (key, ttl) in [("short", Some(10)), ("long", Some(u64::MAX)), ("kept", None)] {
            assert_eq!(world.put("a.example", key, "v", None, ttl, 1000), Ok(true));
        }
        assert!(world.get("a.example", "short", 1009).is_some());
        assert_eq!(world.get("a.example", "short", 1010), None);
        assert_eq!(world.keys("a.example", "", None, 100, 1010), ["kept", "long"]);
        let before = world.bytes("a.example");
        let sweep = |now| world.runtime.block_on(world.store.sweep_values(now, 10)).expect("swept");
        assert_eq!((sweep(1009), sweep(1010), sweep(1010)), (0, 1, 0));
        assert_eq!(before - world.bytes("a.example"), size("short", 1));
        // Set again without an end, it stays.
        assert_eq!(world.put("a.example", "long", "v", None, None, 1010), Ok(true));
        assert_eq!(sweep(i64::MAX as u64), 0);
    }

    #[test]
    fn keys_are_listed_in_order_page_by_page() {
        let world = World::new();
        for key in ["b", "a:2", "a:1", "a:10", "a", "a;", "å", "a:\u{10ffff}x"] {
            assert_eq!(world.put("a.example", key, "v", None, None, 0), Ok(true));
        }
        assert_eq!(world.keys("a.example", "a:", None, 100, 0), ["a:1", "a:10", "a:2", "a:\u{10ffff}x"]);
        assert_eq!(world.keys("a.example", "a:", None, 2, 0), ["a:1", "a:10"]);
        assert_eq!(world.keys("a.example", "a:", Some("a:10"), 2, 0), ["a:2", "a:\u{10ffff}x"]);
        assert_eq!(world.keys("a.example", "", Some("b"), 9, 0), ["å"]);
        assert_eq!(world.keys("a.example", "%", None, 9, 0), Vec::<String>::new());
    }

    #[test]
    fn a_tenant_has_so_many_bytes_and_a_refusal_changes_nothing() {
        let world = World::new();
        let value = "x".repeat(limits::STORE_VALUE);
        let fit = limits::STORE_BYTES / usize::try_from(size("k000", value.len())).expect("positive");
        for n in 0..fit {
            assert_eq!(world.put("a.example", &format!("k{n:03}"), &value, None, None, 0), Ok(true), "{n}");
        }
        let used = world.bytes("a.example");
        assert_eq!(world.put("a.example", "more", &value, None, None, 0), Err(ValueError::Full));
        assert_eq!((world.bytes("a.example"), world.get("a.example", "more", 0)), (used, None));
        assert_eq!(world.put("a.example", "k000", &value, None, None, 0), Ok(true), "one that does not grow");
        assert_eq!(world.put("b.example", "k", &value, None, None, 0), Ok(true), "another tenant");
        for n in 0..fit {
            world.delete("a.example", &format!("k{n:03}"));
        }
        assert_eq!(world.bytes("a.example"), 0);
        assert_eq!(world.put("a.example", "more", &value, None, None, 0), Ok(true));
    }
}
