//! A tenant's storage, as deliveries see it: a bucket of an S3 server, or a folder. Each call is one try; when and how often is for
//! others. What went wrong is said in words of ours: what a server writes may hold what was signed.

use super::audio::Audio;
use super::http::{Connector, LastStatus, Tls};
use super::seal::Seal;
use crate::store::StorageRow;
use axum::body::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What opens a bucket. Shows nothing of itself.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub key_id: String,
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such thing: the upload, the bucket.
    Missing(String),
    Failed(String),
}

impl Refusal {
    pub(super) fn why(self) -> String {
        match self {
            Refusal::Missing(why) | Refusal::Failed(why) => why,
        }
    }
}

/// Where a storage's URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Url {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
}

/// Whether a storage can be set so; which field is wrong, and why.
pub fn check(url: &str, endpoint: Option<&str>) -> Result<(), (&'static str, String)> {
    let s3 = matches!(parse(url).map_err(|why| ("url", why))?, Url::S3 { .. });
    let Some(endpoint) = endpoint else { return Ok(()) };
    if !s3 {
        return Err(("endpoint", "is for s3:// alone".into()));
    }
    let wrong = || ("endpoint", "must be https://host[:port], http:// for this machine alone".to_owned());
    let uri: axum::http::Uri = endpoint.parse().map_err(|_| wrong())?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here = host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.is_loopback());
    let secure = uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && here);
    let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/") && !endpoint.contains(['@', '#']);
    if host.is_empty() || !secure || !bare { Err(wrong()) } else { Ok(()) }
}

fn parse(url: &str) -> Result<Url, String> {
    if let Some(folder) = url.strip_prefix("file:") {
        let folder = PathBuf::from(folder.strip_prefix("//").unwrap_or(folder));
        let plain = folder.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        return if folder.is_absolute() && plain { Ok(Url::Folder(folder)) } else { Err("file: needs a whole path, without ..".into()) };
    }
    let Some(rest) = url.strip_prefix("s3://") else { return Err("must be s3://BUCKET/PREFIX or file:/FOLDER".into()) };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // As S3 has them: 3 to 63 lower-case letters, digits, dots and hyphens.
    let fits = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    if !fits {
        return Err(format!("{bucket:.64?} is not a bucket's name"));
    }
    let prefix = prefix.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(|byte| byte.is_ascii_graphic());
    if prefix.len() > 512 || (!prefix.is_empty() && !prefix.split('/').all(plain)) {
        return Err("the prefix is not plain".into());
    }
    Ok(Url::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

#[derive(Clone)]
pub(super) enum Target {
    Folder(PathBuf),
    S3 { store: Arc<AmazonS3>, prefix: String, last: LastStatus },
}

impl Target {
    pub(super) fn open(row: &StorageRow, seal: &Seal, tls: &Tls) -> Result<Target, String> {
        let (bucket, prefix) = match parse(&row.url)? {
            Url::Folder(folder) => return Ok(Target::Folder(folder)),
            Url::S3 { bucket, prefix } => (bucket, prefix),
        };
        let sealed = seal.open(&row.domain, &row.sealed).and_then(|plain| serde_json::from_slice::<Credentials>(&plain).ok());
        let credentials = sealed.ok_or("its credentials cannot be opened with this node's key")?;
        let last = LastStatus::default();
        // One try: the next is ours to make, and must survive a restart.
        let once = RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, backoff: BackoffConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&row.region)
            .with_access_key_id(credentials.key_id)
            .with_secret_access_key(credentials.secret)
            .with_retry(once)
            .with_disable_bulk_delete(true)
            .with_http_connector(Connector::new(tls.clone(), last.clone()));
        if let Some(endpoint) = &row.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/')).with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder.build().map_err(|_| "it cannot be opened: its settings are no S3 storage's")?;
        Ok(Target::S3 { store: Arc::new(store), prefix, last })
    }

    /// Where a recording goes: the id makes it one that nothing else is called.
    pub(super) fn key(&self, id: &str, file_name: &str) -> String {
        match self {
            Target::S3 { prefix, .. } if !prefix.is_empty() => format!("{prefix}/{id}/{file_name}"),
            _ => format!("{id}/{file_name}"),
        }
    }

    /// All of it at once: it is small.
    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Refusal> {
        match self {
            Target::Folder(folder) => {
                let path = folder.join(key);
                blocking(move || write(&path, |file| file.write_all(&bytes))).await
            }
            Target::S3 { store, last, .. } => {
                let put = store.put(&Key::from(key), PutPayload::from(bytes)).await;
                put.map(drop).map_err(|error| refusal(&error, last))
            }
        }
    }

    /// A large one, to a folder: not in parts, since a copy that was cut off is begun again.
    pub(super) async fn copy(&self, key: &str, audio: Arc<dyn Audio>) -> Result<(), Refusal> {
        let Target::Folder(folder) = self else { return Err(Refusal::Failed("not a folder".into())) };
        let path = folder.join(key);
        blocking(move || {
            write(&path, |file| {
                let mut at = 0;
                while at < audio.length() {
                    let bytes = super::audio::read(&*audio, at, 1 << 20)?;
                    file.write_all(&bytes)?;
                    at += bytes.len() as u64;
                }
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn begin(&self, key: &str) -> Result<String, Refusal> {
        let (store, last) = self.s3()?;
        store.create_multipart(&Key::from(key)).await.map_err(|error| refusal(&error, last))
    }

    /// What the storage calls the part.
    pub(super) async fn part(&self, key: &str, upload: &str, index: usize, bytes: Vec<u8>) -> Result<String, Refusal> {
        let (store, last) = self.s3()?;
        let part = store.put_part(&Key::from(key), &upload.to_owned(), index, PutPayload::from(bytes)).await;
        part.map(|part| part.content_id).map_err(|error| refusal(&error, last))
    }

    pub(super) async fn complete(&self, key: &str, upload: &str, parts: Vec<String>) -> Result<(), Refusal> {
        let (store, last) = self.s3()?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        store.complete_multipart(&Key::from(key), &upload.to_owned(), parts).await.map(drop).map_err(|error| refusal(&error, last))
    }

    /// Calls an upload off. One that is not there is called off already.
    pub(super) async fn abort(&self, key: &str, upload: &str) -> Result<(), Refusal> {
        let Ok((store, last)) = self.s3() else { return Ok(()) };
        match store.abort_multipart(&Key::from(key), &upload.to_owned()).await.map_err(|error| refusal(&error, last)) {
            Err(Refusal::Missing(_)) => Ok(()),
            other => other,
        }
    }

    /// Bytes of what lies there.
    pub(super) async fn size(&self, key: &str) -> Result<u64, Refusal> {
        match self {
            Target::Folder(folder) => {
                let path = folder.join(key);
                blocking(move || fs::metadata(path).map(|about| about.len())).await
            }
            Target::S3 { store, last, .. } => {
                store.head(&Key::from(key)).await.map(|about| about.size).map_err(|error| refusal(&error, last))
            }
        }
    }

    /// Removes what lies there. Nothing is gone already.
    pub(super) async fn remove(&self, key: &str) -> Result<(), Refusal> {
        let removed = match self {
            Target::Folder(folder) => {
                let path = folder.join(key);
                blocking(move || {
                    fs::remove_file(&path)?;
                    // Not empty while the sidecar is there: then its own removal takes it.
                    let _ = path.parent().map(fs::remove_dir);
                    Ok(())
                })
                .await
            }
            Target::S3 { store, last, .. } => store.delete(&Key::from(key)).await.map_err(|error| refusal(&error, last)),
        };
        match removed {
            Err(Refusal::Missing(_)) => Ok(()),
            other => other,
        }
    }

    /// Bytes of what lies there, from `first` on, as they come.
    pub(super) async fn read(&self, key: &str, first: u64, length: u64) -> Result<Read, Refusal> {
        match self {
            Target::Folder(folder) => {
                let path = folder.join(key);
                blocking(move || super::audio::plain(&path)).await.map(Read::Audio)
            }
            Target::S3 { store, last, .. } => {
                let options = GetOptions { range: (length > 0).then(|| GetRange::Bounded(first..first + length)), ..GetOptions::default() };
                let got: Result<GetResult, _> = store.get_opts(&Key::from(key), options).await;
                got.map(|got| Read::Stream(got.into_stream())).map_err(|error| refusal(&error, last))
            }
        }
    }

    fn s3(&self) -> Result<(&AmazonS3, &LastStatus), Refusal> {
        match self {
            Target::S3 { store, last, .. } => Ok((store, last)),
            Target::Folder(_) => Err(Refusal::Failed("a folder takes no parts".into())),
        }
    }
}

/// What is read of an object.
pub enum Read {
    /// All of the object; the caller reads what it wants.
    Audio(Box<dyn Audio>),
    /// What was asked for.
    Stream(std::pin::Pin<Box<dyn futures_core::Stream<Item = object_store::Result<Bytes>> + Send>>),
}

/// Written beside its place and renamed: whoever looks sees all of it or nothing.
fn write(path: &Path, content: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    crate::record::private_folder(folder)?;
    let half = folder.join(".part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    content(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&half, path)).inspect_err(|_| {
        let _ = fs::remove_file(&half);
    })?;
    File::open(folder)?.sync_all()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::Missing("there is no such file".into())),
        Ok(Err(error)) => Err(Refusal::Failed(format!("the folder: {}", error.kind()))),
        Err(_) => Err(Refusal::Failed("the copy broke off".into())),
    }
}

/// An error in our words.
fn refusal(error: &object_store::Error, last: &LastStatus) -> Refusal {
    match last.get() {
        404 => Refusal::Missing("the storage answered 404: no such bucket, object or upload".into()),
        status @ (401 | 403) => Refusal::Failed(format!("the storage answered {status}: the credentials are wrong, or may not do this")),
        0 => Refusal::Failed(transport(error)),
        status @ 200..=299 => Refusal::Failed(format!("the storage answered {status} with an error")),
        status => Refusal::Failed(format!("the storage answered {status}")),
    }
}

/// Without an answer only our own transport has spoken; its words are the last ones of the chain.
fn transport(error: &object_store::Error) -> String {
    let mut found = None;
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<object_store::client::HttpError>() {
            found = std::error::Error::source(error).map(ToString::to_string);
        }
        next = error.source();
    }
    found.unwrap_or_else(|| "the storage gave no answer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_storage_is_checked() {
        for (url, endpoint) in [
            ("s3://calls", None),
            ("s3://calls.example-1/a/b", Some("https://s3.example:9000")),
            ("s3://calls/", Some("http://127.0.0.1:9000/")),
            ("s3://calls", Some("http://[::1]:9000")),
            ("file:/srv/calls", None),
            ("file:///srv/calls", None),
        ] {
            assert_eq!(check(url, endpoint), Ok(()), "{url} {endpoint:?}");
        }
        for (url, endpoint, field) in [
            ("", None, "url"),
            ("calls", None, "url"),
            ("s3://", None, "url"),
            ("s3://Calls", None, "url"),
            ("s3://ca", None, "url"),
            ("s3://calls/a/../b", None, "url"),
            ("s3://calls/a//b", None, "url"),
            ("s3://key:secret@calls", None, "url"),
            ("file:calls", None, "url"),
            ("file:/srv/../etc", None, "url"),
            ("gs://calls", None, "url"),
            ("s3://calls", Some("http://s3.example"), "endpoint"),
            ("s3://calls", Some("https://user:pass@s3.example"), "endpoint"),
            ("s3://calls", Some("https://s3.example/path"), "endpoint"),
            ("s3://calls", Some("s3.example"), "endpoint"),
            ("file:/srv/calls", Some("https://s3.example"), "endpoint"),
        ] {
            assert_eq!(check(url, endpoint).map_err(|(field, _)| field), Err(field), "{url} {endpoint:?}");
        }
    }

    #[test]
    fn credentials_show_nothing_of_themselves() {
        let shown = format!("{:?}", Credentials { key_id: "AKIA".into(), secret: "hush".into() });
        assert!(!shown.contains("AKIA") && !shown.contains("hush"), "{shown}");
    }
}
