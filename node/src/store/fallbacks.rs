//! What calls to a number do without their handler (`ivrfallback`), as a tenant gave it. They lie on this node's disk, so that they work when
//! nothing else does (IC-295).

use super::settings::has_room;
use super::{Store, StoreError, ledger, wall_ms};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// One of them. `command` is JSON that the API has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackObject {
    pub domain: String,
    pub number: String,
    /// `onError` or `always`.
    pub mode: String,
    pub command: String,
    /// Milliseconds since the Unix epoch, like the next one.
    pub expires_at: u64,
    pub changed_at: u64,
}

const COLUMNS: &str = "domain, number, mode, command, expires_at, changed_at";

fn read(row: &Row<'_>) -> rusqlite::Result<FallbackObject> {
    Ok(FallbackObject {
        domain: row.get(0)?,
        number: row.get(1)?,
        mode: row.get(2)?,
        command: row.get(3)?,
        expires_at: row.get::<_, i64>(4)?.cast_unsigned(),
        changed_at: row.get::<_, i64>(5)?.cast_unsigned(),
    })
}

impl Store {
    /// Those that hold still, of all tenants.
    pub fn all_fallbacks(&self) -> Result<Vec<FallbackObject>, StoreError> {
        self.wait(|db| {
            let mut rows = db.prepare_cached(&format!("SELECT {COLUMNS} FROM number_fallbacks WHERE expires_at > ?"))?;
            let rows = rows.query_map([wall_ms().cast_signed()], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A tenant's, by number.
    pub fn fallbacks(&self, domain: &str) -> Result<Vec<FallbackObject>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM number_fallbacks WHERE domain = ? AND expires_at > ? ORDER BY number");
            let mut rows = db.prepare_cached(&sql)?;
            let rows = rows.query_map(params![domain, wall_ms().cast_signed()], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    pub fn fallback(&self, domain: &str, number: &str) -> Result<Option<FallbackObject>, StoreError> {
        let (domain, number) = (domain.to_owned(), number.to_owned());
        self.wait(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM number_fallbacks WHERE domain = ? AND number = ? AND expires_at > ?");
            Ok(db.prepare_cached(&sql)?.query_row(params![domain, number, wall_ms().cast_signed()], read).optional()?)
        })
    }

    /// Gives whether it is new. `most`: those of a tenant. What has expired is forgotten first (IC-092).
    pub fn put_fallback(&self, fallback: FallbackObject, most: usize, who: &str) -> Result<bool, StoreError> {
        let who = who.to_owned();
        self.wait(move |db| {
            let FallbackObject { domain, number, mode, command, expires_at, .. } = &fallback;
            let now = wall_ms().cast_signed();
            db.execute("DELETE FROM number_fallbacks WHERE expires_at <= ?", [now])?;
            let new = has_room(db, "number_fallbacks", "number", domain, number, most)?;
            db.execute(
                "INSERT INTO number_fallbacks (domain, number, mode, command, expires_at, changed_at) VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (domain, number) DO UPDATE SET mode = excluded.mode, command = excluded.command,
                     expires_at = excluded.expires_at, changed_at = excluded.changed_at",
                params![domain, number, mode, command, expires_at.cast_signed(), now],
            )?;
            ledger::note(db, &who, domain, "ivrfallback changed", number)?;
            Ok(new)
        })
    }

    pub fn delete_fallback(&self, domain: &str, number: &str, who: &str) -> Result<(), StoreError> {
        let (domain, number, who) = (domain.to_owned(), number.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM number_fallbacks WHERE domain = ? AND number = ?", [&domain, &number])? == 0 {
                return Err(StoreError::Unknown("number"));
            }
            ledger::note(db, &who, &domain, "ivrfallback removed", &number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::TenantRow;
    use super::*;

    fn object(domain: &str, number: &str, expires_at: u64) -> FallbackObject {
        let (mode, command) = ("onError".to_owned(), "{}".to_owned());
        FallbackObject { domain: domain.into(), number: number.into(), mode, command, expires_at, changed_at: 0 }
    }

    #[test]
    fn ic_088_092_fallbacks_are_a_tenants_own_until_they_expire() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        for domain in ["a.example", "b.example"] {
            store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
        }
        let later = wall_ms() + 60_000;
        assert_eq!(store.put_fallback(object("a.example", "112", later), 2, "test"), Ok(true));
        assert_eq!(store.put_fallback(object("a.example", "112", later + 1), 2, "test"), Ok(false));
        assert_eq!(store.put_fallback(object("a.example", "113", 1), 2, "test"), Ok(true), "it has expired already");
        assert_eq!(store.put_fallback(object("a.example", "114", later), 2, "test"), Ok(true), "an expired one takes no room");
        let full = StoreError::Conflict { field: "number", why: "this domain has 2 already".into() };
        assert_eq!(store.put_fallback(object("a.example", "115", later), 2, "test"), Err(full));
        assert_eq!(store.put_fallback(object("c.example", "112", later), 2, "test"), Err(StoreError::Unknown("domain")));
        let numbers = |domain: &str| store.fallbacks(domain).expect("read").into_iter().map(|row| row.number).collect::<Vec<_>>();
        assert_eq!((numbers("a.example"), numbers("b.example")), (vec!["112".to_owned(), "114".to_owned()], vec![]));
        assert_eq!(store.fallback("a.example", "112").expect("read").map(|row| row.expires_at), Some(later + 1));
        assert_eq!(store.fallback("b.example", "112"), Ok(None));
        assert_eq!(store.all_fallbacks().expect("read").len(), 2);
        assert_eq!(store.delete_fallback("b.example", "112", "test"), Err(StoreError::Unknown("number")), "another tenant's");
        assert_eq!(store.delete_fallback("a.example", "112", "test"), Ok(()));
        store.delete_tenant("a.example", "test").expect("removed");
        assert_eq!(store.all_fallbacks(), Ok(vec![]));
    }
}
