//! Users of the cloud user agent, as a tenant provisioned them: calls to them are for a device (IC-086).

use super::settings::has_room;
use super::{Store, StoreError, ledger, wall_ms};
use rusqlite::{Connection, Row, params};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    pub device_id: String,
    /// What its tenant calls it; empty: nothing.
    pub device_type: String,
    pub description: String,
    /// Milliseconds since the Unix epoch.
    pub changed_at: u64,
}

fn read(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    Ok(DeviceRow {
        device_id: row.get(0)?,
        device_type: row.get(1)?,
        description: row.get(2)?,
        changed_at: row.get::<_, i64>(3)?.cast_unsigned(),
    })
}

impl Store {
    /// A tenant's, newest first.
    pub fn devices(&self, domain: &str) -> Result<Vec<DeviceRow>, StoreError> {
        let domain = domain.to_owned();
        self.wait(move |db| {
            let sql =
                "SELECT device_id, device_type, description, changed_at FROM devices WHERE domain = ? ORDER BY changed_at DESC, rowid DESC";
            let mut rows = db.prepare_cached(sql)?;
            let rows = rows.query_map([domain], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Gives whether it is new. `most`: those of a tenant.
    pub fn put_device(&self, domain: &str, device: DeviceRow, most: usize, who: &str) -> Result<bool, StoreError> {
        let (domain, who) = (domain.to_owned(), who.to_owned());
        self.wait(move |db| {
            let DeviceRow { device_id, device_type, description, .. } = &device;
            let new = has_room(db, "devices", "device_id", &domain, device_id, most)?;
            db.execute(
                "INSERT INTO devices (domain, device_id, device_type, description, changed_at) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (domain, device_id) DO UPDATE SET device_type = excluded.device_type, description = excluded.description,
                     changed_at = excluded.changed_at",
                params![domain, device_id, device_type, description, wall_ms().cast_signed()],
            )?;
            ledger::note(db, &who, &domain, "device changed", device_id)?;
            Ok(new)
        })
    }

    pub fn delete_device(&self, domain: &str, device_id: &str, who: &str) -> Result<(), StoreError> {
        let (domain, device_id, who) = (domain.to_owned(), device_id.to_owned(), who.to_owned());
        self.wait(move |db| {
            if db.execute("DELETE FROM devices WHERE domain = ? AND device_id = ?", [&domain, &device_id])? == 0 {
                return Err(StoreError::Unknown("device"));
            }
            ledger::note(db, &who, &domain, "device removed", &device_id)
        })
    }
}

/// Of all tenants, by domain.
pub(super) fn of_all(db: &Connection) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
    let mut rows = db.prepare_cached("SELECT domain, device_id FROM devices")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut of_all = BTreeMap::<String, BTreeSet<String>>::new();
    for row in rows {
        let (domain, device): (String, String) = row?;
        of_all.entry(domain).or_default().insert(device);
    }
    Ok(of_all)
}

#[cfg(test)]
mod tests {
    use super::super::TenantRow;
    use super::*;

    fn device(device_id: &str, description: &str) -> DeviceRow {
        DeviceRow { device_id: device_id.into(), device_type: "alarmUnit".into(), description: description.into(), changed_at: 0 }
    }

    #[test]
    fn ic_086_devices_are_a_tenants_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _thread) = Store::open(&folder.path().join("node.db")).expect("opens");
        for domain in ["a.example", "b.example"] {
            store.put_tenant(TenantRow { domain: domain.into(), ..TenantRow::default() }, "test").expect("made");
        }
        assert_eq!(store.put_device("a.example", device("unit-1", "hall"), 2, "test"), Ok(true));
        assert_eq!(store.put_device("a.example", device("unit-1", "cellar"), 2, "test"), Ok(false));
        assert_eq!(store.put_device("a.example", device("unit-2", ""), 2, "test"), Ok(true));
        let full = StoreError::Conflict { field: "device_id", why: "this domain has 2 already".into() };
        assert_eq!(store.put_device("a.example", device("unit-3", ""), 2, "test"), Err(full));
        assert_eq!(store.put_device("c.example", device("unit-1", ""), 2, "test"), Err(StoreError::Unknown("domain")));
        let shown = store.devices("a.example").expect("read");
        assert_eq!(shown.iter().map(|row| row.device_id.as_str()).collect::<Vec<_>>(), ["unit-2", "unit-1"]);
        assert_eq!(shown[1].description, "cellar");
        let configuration = store.configuration().expect("read");
        let devices = |domain: &str| configuration.tenants.iter().find(|t| *t.domain == *domain).map(|t| t.devices.len());
        assert_eq!((devices("a.example"), devices("b.example")), (Some(2), Some(0)));
        assert_eq!(store.delete_device("b.example", "unit-1", "test"), Err(StoreError::Unknown("device")), "another tenant's");
        assert_eq!(store.delete_device("a.example", "unit-1", "test"), Ok(()));
        store.delete_tenant("a.example", "test").expect("removed");
        assert_eq!(store.devices("a.example"), Ok(vec![]));
    }
}
