//! The API's certificate: read at start, read again when its files change. Whatever is wrong with a new one, the old one stays.
//!
//! Start with [`Tls::load`]; `server.rs` and `h3/` take their settings from it.

use crate::config;
use crate::limits;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, version};

/// A certificate that follows its files.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    pub(super) h3: bool,
    current: Arc<Current>,
}

/// What new connections are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// The error is a line that names the key of the configuration.
    pub fn load(config: &config::Tls) -> Result<Tls, String> {
        let (_, key) = read(&config.cert, &config.key)?;
        let current = Arc::new(Current(RwLock::new(key?)));
        Ok(Tls { cert: config.cert.clone(), key: config.key.clone(), h3: config.h3, current })
    }

    /// For HTTP/1.1 and 2 over TCP.
    pub(super) fn of_tcp(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&version::TLS13, &version::TLS12]).expect("`ring` has both");
        let mut settings = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(settings)
    }

    /// For HTTP/3. Early data stays off, which is the default: it can be replayed, and requests change things.
    #[cfg(feature = "h3")]
    pub(super) fn of_quic(&self) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&version::TLS13]).expect("`ring` has it");
        let mut settings = builder.with_no_client_auth().with_cert_resolver(self.current.clone());
        settings.alpn_protocols = vec![b"h3".to_vec()];
        settings
    }

    /// Follows the files for as long as it is polled.
    pub(super) async fn follow(self) {
        let mut seen = None;
        loop {
            tokio::time::sleep(limits::TLS_LOOK).await;
            let look = {
                let tls = self.clone();
                move || tls.look(seen)
            };
            // It fails only when the runtime ends.
            let Ok(now) = tokio::task::spawn_blocking(look).await else { return };
            seen = Some(now);
        }
    }

    /// Takes what the files hold now, where that is good, and tells the operator where it is not what it was. `seen`: what the last look
    /// gave; none of that at first, when only something wrong is worth telling.
    fn look(&self, seen: Option<Seen>) -> Seen {
        let (now, why) = match read(&self.cert, &self.key) {
            Ok((hash, Ok(key))) => {
                if seen != Some(Seen::Content(hash)) {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = key;
                    if seen.is_some() {
                        tracing::info!(cert = %self.cert.display(), "the API's certificate was read again");
                    }
                }
                return Seen::Content(hash);
            }
            Ok((hash, Err(why))) => (Seen::Content(hash), why),
            Err(why) => (Seen::Unreadable, why),
        };
        if seen != Some(now) {
            tracing::warn!("the API's certificate stays as it was: {why}");
        }
        now
    }
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Its hash.
    Content([u8; 32]),
    Unreadable,
}

type Made = Result<Arc<CertifiedKey>, String>;

/// What the files hold, by its hash, and what it makes. The outer error: they cannot be read.
fn read(cert: &Path, key: &Path) -> Result<([u8; 32], Made), String> {
    let chain = file("api.tls_cert", cert)?;
    let private = file("api.tls_key", key)?;
    let hash = Sha256::new().chain_update(&chain).chain_update([0]).chain_update(&private).finalize().into();
    Ok((hash, make((cert, &chain), (key, &private))))
}

fn file(field: &str, path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(limits::TLS_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("{field}: {}: {error}", path.display())),
        Ok(_) if bytes.len() as u64 > limits::TLS_FILE => {
            Err(format!("{field}: {}: larger than {} bytes", path.display(), limits::TLS_FILE))
        }
        Ok(_) => Ok(bytes),
    }
}

/// The errors say what is wrong with the file, never what is in it.
fn make((cert, chain): (&Path, &[u8]), (key, private): (&Path, &[u8])) -> Made {
    let of_cert = |why: String| format!("api.tls_cert: {}: {why}", cert.display());
    let of_key = |why: &str| format!("api.tls_key: {}: {why}", key.display());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| of_cert("no PEM".into()))?;
    if chain.is_empty() {
        return Err(of_cert("no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_slice(private).map_err(|_| of_key("no private key in PEM in it"))?;
    let signing = ring::sign::any_supported_type(&private)
        .map_err(|_| of_key("a kind of key that is not supported (RSA, P-256, P-384, Ed25519 are)"))?;
    let made = CertifiedKey::new(chain, signing);
    made.keys_match().map_err(|error| of_cert(format!("does not fit api.tls_key: {error}")))?;
    Ok(Arc::new(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/testdata/tls");

    fn load(cert: &str, key: &str) -> Result<Tls, String> {
        let folder = Path::new(FOLDER);
        Tls::load(&config::Tls { cert: folder.join(cert), key: folder.join(key), h3: true })
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        assert!(load("node.pem", "node.key").is_ok());
        for (cert, key, expected) in [
            ("absent.pem", "node.key", "api.tls_cert: "),
            ("node.pem", "absent.key", "api.tls_key: "),
            ("node.key", "node.key", "api.tls_cert: "),
            ("node.pem", "node.pem", "api.tls_key: "),
            ("node.pem", "renewed.key", "api.tls_cert: "),
        ] {
            let Err(why) = load(cert, key) else { panic!("{cert}, {key}: taken") };
            assert!(why.starts_with(expected), "{cert}, {key}: {why}");
            assert!(!why.contains("BEGIN"), "{why}");
        }
    }

    #[test]
    fn a_new_certificate_is_shown_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |from: &str, to: &str| std::fs::copy(Path::new(FOLDER).join(from), folder.path().join(to)).expect("copied");
        put("node.pem", "cert");
        put("node.key", "key");
        let tls = Tls::load(&config::Tls { cert: folder.path().join("cert"), key: folder.path().join("key"), h3: false }).expect("good");
        let shown = || tls.current.0.read().expect("whole").clone();
        let old = shown();
        let mut seen = tls.look(None);

        // Half of a change: the key is another one, the certificate is not yet.
        put("renewed.key", "key");
        seen = tls.look(Some(seen));
        assert_eq!(shown().cert, old.cert);
        std::fs::write(folder.path().join("cert"), "no certificate").expect("written");
        seen = tls.look(Some(seen));
        assert_eq!(shown().cert, old.cert);
        std::fs::remove_file(folder.path().join("cert")).expect("removed");
        assert_eq!(tls.look(Some(seen)), Seen::Unreadable);
        assert_eq!(shown().cert, old.cert);
        put("renewed.pem", "cert");
        seen = tls.look(Some(Seen::Unreadable));
        let new = shown();
        assert_ne!(new.cert, old.cert);
        // Nothing new is not read again.
        assert_eq!(tls.look(Some(seen)), seen);
        assert!(Arc::ptr_eq(&shown(), &new));
    }
}
