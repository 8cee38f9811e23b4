//! One try of a delivery. Whatever it reached is kept before it is relied on: the next try, by whatever run of the node, goes on from there.

use super::target::{Refusal, Target};
use super::{Shared, audio};
use crate::limits;
use crate::metrics::add;
use crate::record::tenant_keys::is_erased;
use crate::store::{DeliveryRow, DeliveryState, Multipart, StoreError, wall_ms};
use std::sync::Arc;
use std::time::Duration;

/// How a try ended.
enum End {
    Available,
    /// Once more, later.
    Again(String),
    /// For good.
    GivenUp(String),
    /// There is nothing left to do.
    Over,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Again(refusal.why())
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> End {
        End::Again(format!("the node's store: {error}"))
    }
}

/// `Err` is an end like others: it stops at the first thing that does not work.
type Step<T> = Result<T, End>;

pub(super) async fn attempt(shared: &Shared, row: &DeliveryRow) {
    let end = match row.state {
        // By the node's running time: the machine's clock may be set by hours.
        DeliveryState::Uploading if shared.store.running_ms() >= row.born.saturating_add(millis(shared.options.age)) => {
            let last = row.why.as_deref().unwrap_or("it was not tried");
            End::GivenUp(format!("not delivered for too long: {last}"))
        }
        DeliveryState::Uploading => upload(shared, row).await.unwrap_or_else(|end| end),
        DeliveryState::Erasing => erase(shared, row).await.unwrap_or_else(|end| end),
        // Ended, but for an upload that is to be called off.
        DeliveryState::Failed | DeliveryState::Available => call_off(shared, row).await.unwrap_or_else(|end| end),
    };
    if let Err(error) = keep(shared, row, end).await {
        tracing::warn!(recording = row.recording, %error, "what became of a delivery could not be kept; it is tried again");
    }
}

async fn keep(shared: &Shared, row: &DeliveryRow, end: End) -> Result<(), StoreError> {
    match end {
        End::Over => Ok(()),
        End::Available => {
            // Ended otherwise meanwhile: then what was put is not wanted.
            if !shared.store.end_delivery(&row.recording, DeliveryState::Available, None).await?
                && let Some(now) = shared.store.delivery_later(&row.recording).await?
                && now.state == DeliveryState::Failed
                && let Ok(target) = target(shared, &now).await
            {
                let _ = target.remove(&now.key).await;
            }
            Ok(())
        }
        End::GivenUp(why) => shared.store.end_delivery(&row.recording, DeliveryState::Failed, Some(&why)).await.map(drop),
        End::Again(why) => {
            add(&shared.metrics.delivery_retries, 1);
            tracing::debug!(recording = row.recording, domain = row.domain, why, "delivery to be tried again");
            let next_at = wall_ms().saturating_add(millis(backoff(shared, row.attempts + 1)));
            shared.store.delivery_tried(&row.recording, row.attempts + 1, next_at, &why).await
        }
    }
}

/// The tenant's storage, as it is set now.
async fn target(shared: &Shared, row: &DeliveryRow) -> Step<Target> {
    let storage = shared.store.storage_later(&row.domain).await?.ok_or_else(|| End::Again("no storage is set for its tenant".into()))?;
    if !row.place.is_empty() && row.place != storage.url {
        return Err(End::Again(format!("it went to {}, which is no longer its tenant's storage", row.place)));
    }
    Target::open(&storage, &shared.seal, &shared.tls).map_err(End::Again)
}

async fn upload(shared: &Shared, row: &DeliveryRow) -> Step<End> {
    let storage = shared.store.storage_later(&row.domain).await?.ok_or_else(|| End::Again("no storage is set for its tenant".into()))?;
    let target = Target::open(&storage, &shared.seal, &shared.tls).map_err(End::Again)?;
    let Some(recording) = shared.store.deliverable(&row.recording).await? else { return Ok(End::Over) };
    // Another storage than that of the last try: from the beginning.
    let same = row.place == storage.url && !row.key.is_empty();
    let key = if same { row.key.clone() } else { target.key(&row.recording, &recording.file_name) };
    let begun = row.upload.clone().filter(|_| same);

    let reader = shared.reader.clone();
    let opened = tokio::task::spawn_blocking(move || Ok((audio::read_sidecar(&recording)?, audio::open(&reader, &recording)?))).await;
    let (sidecar, file): (_, Arc<dyn super::Audio>) = match opened {
        Ok(Ok((sidecar, file))) => (sidecar, file.into()),
        Ok(Err(error)) => {
            let error: std::io::Error = error;
            let why = format!("its file cannot be read: {error}");
            let for_good = error.kind() == std::io::ErrorKind::NotFound || is_erased(&error);
            return Ok(if for_good { End::GivenUp(why) } else { End::Again(why) });
        }
        Err(_) => return Ok(End::Again("reading its file broke off".into())),
    };
    // Before the first byte goes out: whoever erases the recording must know where to look.
    if !shared.store.upload_moved(&row.recording, &storage.url, &key, begun.as_ref()).await? {
        return Ok(End::Over);
    }
    // First: who sees the audio shall be able to verify it.
    if let Some(sidecar) = sidecar {
        target.put(&format!("{key}.json"), sidecar).await?;
    }
    if let Target::Folder(_) = target {
        target.copy(&key, file).await?;
    } else if file.length() <= shared.options.part && begun.is_none() {
        let bytes = read(&file, 0, file.length()).await?;
        target.put(&key, bytes).await?;
    } else {
        multipart(shared, row, &target, &storage.url, &key, &file, begun).await?;
    }
    Ok(End::Available)
}

async fn multipart(
    shared: &Shared,
    row: &DeliveryRow,
    target: &Target,
    place: &str,
    key: &str,
    file: &Arc<dyn super::Audio>,
    begun: Option<Multipart>,
) -> Step<()> {
    let mut upload = match begun {
        Some(upload) => upload,
        None => {
            let part_size = shared.options.part.max(file.length().div_ceil(limits::DELIVERY_PARTS));
            let parts = usize::try_from(file.length().div_ceil(part_size)).unwrap_or(usize::MAX);
            let upload = Multipart { id: target.begin(key).await?, part_size, parts: vec![None; parts] };
            shared.store.upload_moved(&row.recording, place, key, Some(&upload)).await?;
            upload
        }
    };
    // The first part last: it holds the file's header, so that no reader of parts takes a beginning for a whole recording.
    for index in (1..upload.parts.len()).chain([0]) {
        if upload.parts.get(index).is_none_or(Option::is_some) {
            continue;
        }
        let bytes = read(file, index as u64 * upload.part_size, upload.part_size).await?;
        match target.part(key, &upload.id, index, bytes).await {
            Ok(content) => upload.parts[index] = Some(content),
            Err(Refusal::Missing(why)) => return Err(begin_again(shared, row, place, key, why).await?),
            Err(refusal) => return Err(refusal.into()),
        }
        if !shared.store.upload_moved(&row.recording, place, key, Some(&upload)).await? {
            return Err(End::Over);
        }
    }
    let parts = upload.parts.into_iter().flatten().collect();
    match target.complete(key, &upload.id, parts).await {
        Ok(()) => Ok(()),
        // The answer to the last try was lost: what lies there says so.
        Err(Refusal::Missing(why)) => match target.size(key).await {
            Ok(size) if size == file.length() => Ok(()),
            _ => Err(begin_again(shared, row, place, key, why).await?),
        },
        Err(refusal) => Err(refusal.into()),
    }
}

/// The storage does not know the upload any more.
async fn begin_again(shared: &Shared, row: &DeliveryRow, place: &str, key: &str, why: String) -> Step<End> {
    shared.store.upload_moved(&row.recording, place, key, None).await?;
    Ok(End::Again(why))
}

async fn read(file: &Arc<dyn super::Audio>, at: u64, most: u64) -> Step<Vec<u8>> {
    let (file, most) = (file.clone(), usize::try_from(most).unwrap_or(usize::MAX));
    match tokio::task::spawn_blocking(move || audio::read(&*file, at, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(End::Again(format!("its file cannot be read: {error}"))),
        Err(_) => Err(End::Again("reading its file broke off".into())),
    }
}

async fn call_off(shared: &Shared, row: &DeliveryRow) -> Step<End> {
    if let Some(upload) = &row.upload {
        target(shared, row).await?.abort(&row.key, &upload.id).await?;
        shared.store.upload_moved(&row.recording, &row.place, &row.key, None).await?;
    }
    Ok(End::Over)
}

async fn erase(shared: &Shared, row: &DeliveryRow) -> Step<End> {
    let target = target(shared, row).await?;
    if let Some(upload) = &row.upload {
        target.abort(&row.key, &upload.id).await?;
    }
    target.remove(&format!("{}.json", row.key)).await?;
    target.remove(&row.key).await?;
    shared.store.delivery_erased(&row.recording).await?;
    tracing::info!(recording = row.recording, domain = row.domain, "what was delivered of an erased recording is removed");
    Ok(End::Over)
}

/// The wait after the n-th try: doubled each time, and half of it by lot, so that those who failed together do not come back together.
fn backoff(shared: &Shared, attempts: u32) -> Duration {
    let whole = shared.options.first_retry.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(shared.options.last_retry);
    let lot = uuid::Uuid::new_v4().as_u64_pair().1 as u32;
    whole.mul_f64(0.5 + 0.5 * f64::from(lot) / f64::from(u32::MAX))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
