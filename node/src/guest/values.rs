//! A handler's keys and values: what it asks for is checked here and done by the store.

use crate::limits;
use crate::store::{Store, StoreError, ValueError, wall_ms};
use hookswitch_wasm::{Entry, StoreOp, Stored, wit};

/// Does one thing with the keys and values of a tenant, whose name is the node's knowledge.
pub(super) async fn carry_out(store: &Store, domain: &str, op: StoreOp) -> Result<Stored, wit::HostError> {
    check(&op)?;
    let now = wall_ms();
    match tokio::time::timeout(limits::STORE_WAIT, done(store, domain, op, now)).await {
        Ok(result) => result,
        Err(_) => Err(wit::HostError::Timeout),
    }
}

async fn done(store: &Store, domain: &str, op: StoreOp, now: u64) -> Result<Stored, wit::HostError> {
    Ok(match op {
        StoreOp::Get { key } => {
            let row = store.value(domain, key, now).await.map_err(failed)?;
            Stored::Entry(row.map(|row| Entry { value: row.value, version: row.version }))
        }
        StoreOp::Set { key, value, ttl_ms } => {
            store.put_value(domain, key, value, None, ttl_ms, now).await.map_err(failed)?.map_err(refused)?;
            Stored::Nothing
        }
        StoreOp::SetIf { key, value, version, ttl_ms } => {
            Stored::Written(store.put_value(domain, key, value, Some(version), ttl_ms, now).await.map_err(failed)?.map_err(refused)?)
        }
        StoreOp::Delete { key } => {
            store.delete_value(domain, key).await.map_err(failed)?;
            Stored::Nothing
        }
        StoreOp::Increment { key, by } => Stored::Sum(store.add_to_value(domain, key, by, now).await.map_err(failed)?.map_err(refused)?),
        StoreOp::Keys { prefix, after } => {
            Stored::Keys(store.value_keys(domain, prefix, after, limits::STORE_KEYS, now).await.map_err(failed)?)
        }
    })
}

/// What can be said of it without looking at what is kept.
pub(crate) fn check(op: &StoreOp) -> Result<(), wit::HostError> {
    let bad = |field: &str, why: String| Err(wit::HostError::BadValue(format!("{field}: {why}")));
    let (key, value, ttl) = match op {
        StoreOp::Get { key } | StoreOp::Delete { key } | StoreOp::Increment { key, .. } => (key, None, None),
        StoreOp::Set { key, value, ttl_ms } | StoreOp::SetIf { key, value, ttl_ms, .. } => (key, Some(value), *ttl_ms),
        StoreOp::Keys { prefix, after } => {
            for (field, text) in [("prefix", Some(prefix)), ("after", after.as_ref())] {
                if let Some(text) = text.filter(|text| text.len() > limits::STORE_KEY) {
                    return bad(field, format!("{} bytes; at most {}", text.len(), limits::STORE_KEY));
                }
            }
            return Ok(());
        }
    };
    if key.is_empty() || key.len() > limits::STORE_KEY {
        return bad("key", format!("{} bytes; 1 to {}", key.len(), limits::STORE_KEY));
    }
    // SQLite would end a text at one.
    if key.contains('\0') {
        return bad("key", "a NUL in it".into());
    }
    if let Some(value) = value.filter(|value| value.len() > limits::STORE_VALUE) {
        return bad("value", format!("{} bytes; at most {}", value.len(), limits::STORE_VALUE));
    }
    if ttl == Some(0) {
        return bad("ttl-ms", "1 at least".into());
    }
    Ok(())
}

fn refused(error: ValueError) -> wit::HostError {
    let text = error.to_string();
    match error {
        ValueError::Full => wit::HostError::Limit(text),
        ValueError::NoNumber => wit::HostError::WrongState(text),
        ValueError::Overflow => wit::HostError::BadValue(format!("by: {text}")),
    }
}

/// Its text is the operator's, not the handler's.
pub(super) fn failed(error: StoreError) -> wit::HostError {
    match error {
        StoreError::Busy | StoreError::Closed => wit::HostError::NotAvailable(error.to_string()),
        other => {
            tracing::error!(error = %other, "a handler's value could not be read or written");
            wit::HostError::NotAvailable("the store failed".into())
        }
    }
}
