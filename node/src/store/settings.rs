//! What a tenant keeps beside its handler: settings, which are read whole, and secrets, which lie here sealed and are opened one by one.

use super::{Store, StoreError, ledger, wall_ms};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::future::Future;

/// A tenant's settings, by key.
pub type Settings = BTreeMap<String, String>;

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    pub name: String,
    pub changed_at: u64,
}

/// A setting as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub key: String,
    pub value: String,
    pub changed_at: u64,
}

impl Store {
    /// All tenants' settings.
    pub fn all_settings(&self) -> Result<BTreeMap<String, Settings>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached("SELECT domain, key, value FROM handler_settings")?;
            let mut all = BTreeMap::<String, Settings>::new();
            for row in rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?)))? {
                let (domain, key, value) = row?;
                all.entry(domain).or_default().insert(key, value);
            }
            Ok(all)
        })
    }

    /// A tenant's settings in the order of their keys.
    pub fn settings(&self, domain: &str) -> Result<Vec<SettingRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| settings(db, &domain))
    }

    /// The same for async tasks.
    pub fn settings_soon(&self, domain: &str) -> impl Future<Output = Result<Vec<SettingRow>, StoreError>> + Send + 'static {
        let domain = domain.to_owned();
        self.soon(move |db| settings(db, &domain))
    }

    /// Gives whether it is new. `most`: settings of a tenant.
    pub fn put_handler_setting(&self, domain: &str, key: &str, value: &str, most: usize, who: &str) -> Result<bool, StoreError> {
        let (domain, key, value, who) = (domain.to_owned(), key.to_owned(), value.to_owned(), who.to_owned());
        self.wait(move |db| {
            let new = has_room(db, "handler_settings", "key", &domain, &key, most)?;
            db.execute(
                "INSERT INTO handler_settings (domain, key, value, changed_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (domain, key) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at",
                params![domain, key, value, wall_ms().cast_signed()],
            )?;
            ledger::note(db, &who, &domain, "setting changed", &key)?;
            Ok(new)
        })
    }

    pub fn delete_handler_setting(&self, domain: &str, key: &str, who: &str) -> Result<(), StoreError> {
        let (domain, key, who) = (domain.to_owned(), key.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM handler_settings WHERE domain = ? AND key = ?", [&domain, &key])? == 0 {
                return Err(StoreError::Unknown("setting"));
            }
            ledger::note(db, &who, &domain, "setting removed", &key)
        })
    }

    /// A tenant's secrets in the order of their names, without what they are.
    pub fn secrets(&self, domain: &str) -> Result<Vec<SecretRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let mut rows = db.prepare_cached("SELECT name, changed_at FROM handler_secrets WHERE domain = ? ORDER BY name")?;
            let rows =
                rows.query_map([&domain], |row| Ok(SecretRow { name: row.get(0)?, changed_at: row.get::<_, i64>(1)?.cast_unsigned() }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A secret as it was sealed. For async tasks.
    pub fn secret(&self, domain: &str, name: &str) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send + 'static {
        let (domain, name) = (domain.to_owned(), name.to_owned());
        self.soon(move |db| {
            let mut row = db.prepare_cached("SELECT sealed FROM handler_secrets WHERE domain = ? AND name = ?")?;
            Ok(row.query_row([&domain, &name], |row| row.get(0)).optional()?)
        })
    }

    /// Gives whether it is new. `most`: secrets of a tenant.
    pub fn put_secret(&self, domain: &str, name: &str, sealed: Vec<u8>, most: usize, who: &str) -> Result<bool, StoreError> {
        let (domain, name, who) = (domain.to_owned(), name.to_owned(), who.to_owned());
        self.wait(move |db| {
            let new = has_room(db, "handler_secrets", "name", &domain, &name, most)?;
            db.execute(
                "INSERT INTO handler_secrets (domain, name, sealed, changed_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (domain, name) DO UPDATE SET sealed = excluded.sealed, changed_at = excluded.changed_at",
                params![domain, name, sealed, wall_ms().cast_signed()],
            )?;
            ledger::note(db, &who, &domain, "secret changed", &name)?;
            Ok(new)
        })
    }

    pub fn delete_secret(&self, domain: &str, name: &str, who: &str) -> Result<(), StoreError> {
        let (domain, name, who) = (domain.to_owned(), name.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM handler_secrets WHERE domain = ? AND name = ?", [&domain, &name])? == 0 {
                return Err(StoreError::Unknown("secret"));
            }
            ledger::note(db, &who, &domain, "secret removed", &name)
        })
    }
}

fn settings(db: &Connection, domain: &str) -> Result<Vec<SettingRow>, StoreError> {
    let mut rows = db.prepare_cached("SELECT key, value, changed_at FROM handler_settings WHERE domain = ? ORDER BY key")?;
    let rows = rows.query_map([domain], |row| {
        Ok(SettingRow { key: row.get(0)?, value: row.get(1)?, changed_at: row.get::<_, i64>(2)?.cast_unsigned() })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether it is a new one, for which there is room. `table` and `column` are ours.
pub(super) fn has_room(
    db: &Connection,
    table: &str,
    column: &'static str,
    domain: &str,
    name: &str,
    most: usize,
) -> Result<bool, StoreError> {
    if !db.prepare_cached("SELECT 1 FROM tenants WHERE domain = ?")?.exists([domain])? {
        return Err(StoreError::Unknown("domain"));
    }
    if db.prepare_cached(&format!("SELECT 1 FROM {table} WHERE domain = ? AND {column} = ?"))?.exists([domain, name])? {
        return Ok(false);
    }
    let count: i64 = db.query_row(&format!("SELECT count(*) FROM {table} WHERE domain = ?"), [domain], |row| row.get(0))?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= most {
        return Err(StoreError::Conflict { field: column, why: format!("this domain has {most} already") });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::TenantRow;
    use super::*;

    #[test]
    fn settings_are_a_tenants_own_up_to_so_many_and_go_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        for domain in ["a.example", "b.example"] {
            store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
        }
        assert_eq!(store.put_handler_setting("a.example", "greeting", "hello", 2, "test"), Ok(true));
        assert_eq!(store.put_handler_setting("a.example", "greeting", "hej", 2, "test"), Ok(false));
        assert_eq!(store.put_handler_setting("b.example", "greeting", "hi", 2, "test"), Ok(true));
        assert_eq!(store.put_handler_setting("a.example", "b", "1", 2, "test"), Ok(true));
        let full = StoreError::Conflict { field: "key", why: "this domain has 2 already".into() };
        assert_eq!(store.put_handler_setting("a.example", "c", "1", 2, "test"), Err(full));
        assert_eq!(store.put_handler_setting("a.example", "b", "2", 2, "test"), Ok(false), "one that is there may change");
        assert_eq!(store.put_handler_setting("c.example", "b", "2", 2, "test"), Err(StoreError::Unknown("domain")));
        let listed: Vec<_> = store.settings("a.example").expect("read").into_iter().map(|row| (row.key, row.value)).collect();
        assert_eq!(listed, [("b".to_owned(), "2".to_owned()), ("greeting".to_owned(), "hej".to_owned())]);
        assert_eq!(store.delete_handler_setting("b.example", "b", "test"), Err(StoreError::Unknown("setting")), "another tenant's");
        assert_eq!(store.delete_handler_setting("a.example", "b", "test"), Ok(()));
        let all = store.all_settings().expect("read");
        assert_eq!(all["a.example"].get("greeting").map(String::as_str), Some("hej"));
        assert_eq!((all["a.example"].len(), all["b.example"].len()), (1, 1));
        assert_eq!(store.put_secret("a.example", "s", vec![1], 9, "test"), Ok(true));
        assert_eq!(store.delete_secret("b.example", "s", "test"), Err(StoreError::Unknown("secret")), "another tenant's");
        store.delete_tenant("a.example", "test").expect("removed");
        store.put_tenant(TenantRow { domain: "a.example".into(), ..TenantRow::default() }, "test").expect("made");
        assert_eq!(store.settings("a.example"), Ok(vec![]));
        assert_eq!(store.secrets("a.example"), Ok(vec![]));
    }
}
