//! Speech from text (IC-242, IC-243): who synthesises for a tenant, and with what.
//!
//! Three kinds of phrase ask for it: `local` with a text, a language and a voice, `awstts` with the fields of a Polly request, `googletts`
//! with those of Google's. The engine of this machine speaks all of them, a process of its own for each text (`local.rs`); a tenant that
//! has an account there has the last two spoken by Polly (`polly.rs`) or Google (`google.rs`). What comes is audio in WAV; whoever asked
//! keeps it. Nothing here is logged that was to be said.
//!
//! Start with [`Speech::say`].

#[cfg(feature = "google")]
mod google;
pub mod local;
#[cfg(feature = "polly")]
mod polly;
#[cfg(feature = "polly")]
mod sigv4;

use crate::guest::Vault;
use crate::limits;
use crate::outbox::Fetcher;
use crate::store::Store;
use local::{Engine, Spoken};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Settings of a tenant that choose who speaks: `hookswitch guest config set speech.awstts polly`.
const AWSTTS: &str = "speech.awstts";
const GOOGLETTS: &str = "speech.googletts";
#[cfg(feature = "polly")]
const REGION: &str = "speech.aws-region";
/// And secrets: what opens its accounts.
#[cfg(feature = "polly")]
const AWS_KEY_ID: &str = "speech.aws-access-key-id";
#[cfg(feature = "polly")]
const AWS_SECRET: &str = "speech.aws-secret-access-key";
#[cfg(feature = "google")]
const GOOGLE_KEY: &str = "speech.google-api-key";

type Later<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// What a tenant keeps: its settings, and its secrets by their names.
pub trait Tenants: Send + Sync {
    fn settings(&self, domain: &str) -> Later<BTreeMap<String, String>>;
    fn secret(&self, domain: &str, name: &'static str) -> Later<String>;
}

/// As the store has them.
pub struct Stored {
    pub store: Store,
    pub vault: Vault,
}

impl Tenants for Stored {
    fn settings(&self, domain: &str) -> Later<BTreeMap<String, String>> {
        let found = self.store.settings_soon(domain);
        Box::pin(async move { Ok(found.await.map_err(|e| e.to_string())?.into_iter().map(|row| (row.key, row.value)).collect()) })
    }

    fn secret(&self, domain: &str, name: &'static str) -> Later<String> {
        let (vault, domain) = (self.vault.clone(), domain.to_owned());
        Box::pin(async move {
            let secret = vault.get(&domain, name).await.map_err(|e| e.to_string())?;
            secret.map(|secret| secret.expose().to_owned()).ok_or_else(|| format!("the tenant has no secret {name}"))
        })
    }
}

/// Who speaks a phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voice {
    Local(Spoken),
    #[cfg(feature = "polly")]
    Polly {
        region: String,
    },
    #[cfg(feature = "google")]
    Google,
}

impl Voice {
    /// What tells it from others: a phrase that one has spoken is not the other's.
    pub fn name(&self) -> String {
        match self {
            Voice::Local(_) => "local".into(),
            #[cfg(feature = "polly")]
            Voice::Polly { region } => format!("polly {region}"),
            #[cfg(feature = "google")]
            Voice::Google => "google".into(),
        }
    }
}

/// Clones lead to the same.
#[derive(Clone)]
pub struct Speech {
    engine: Arc<Engine>,
    tenants: Arc<dyn Tenants>,
    #[cfg_attr(not(any(feature = "polly", feature = "google")), expect(dead_code, reason = "nobody is asked without a cloud's feature"))]
    fetcher: Fetcher,
    #[cfg_attr(not(any(feature = "polly", feature = "google")), expect(dead_code, reason = "nobody is asked without a cloud's feature"))]
    places: Places,
}

/// Where the clouds are. Not the tenant's to say: it would be a way to any address.
#[derive(Clone)]
pub struct Places {
    /// `{region}` in it.
    pub polly: String,
    pub google: String,
}

impl Default for Places {
    fn default() -> Places {
        Places { polly: "https://polly.{region}.amazonaws.com".into(), google: "https://texttospeech.googleapis.com".into() }
    }
}

impl Speech {
    pub fn new(engine: Engine, tenants: Arc<dyn Tenants>, fetcher: Fetcher, places: Places) -> Speech {
        Speech { engine: Arc::new(engine), tenants, fetcher, places }
    }

    /// Who is to say this, as the tenant has it.
    pub async fn voice(&self, domain: &str, kind: &str, parameters: &str) -> Result<Voice, String> {
        let fields: Value = serde_json::from_str(parameters).map_err(|_| "parameters: no JSON".to_owned())?;
        let setting = match kind {
            "local" => return Ok(Voice::Local(Spoken::of_local(&fields)?)),
            "awstts" => AWSTTS,
            "googletts" => GOOGLETTS,
            _ => return Err("engine: local, awstts or googletts".into()),
        };
        let settings = self.tenants.settings(domain).await?;
        match (kind, settings.get(setting).map_or("local", String::as_str)) {
            ("awstts", "local") => Ok(Voice::Local(Spoken::of_polly(&fields)?)),
            (_, "local") => Ok(Voice::Local(Spoken::of_google(&fields)?)),
            #[cfg(feature = "polly")]
            ("awstts", "polly") => {
                let region = settings.get(REGION).ok_or_else(|| format!("the tenant has no setting {REGION}"))?;
                let fits =
                    (1..=32).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if fits { Ok(Voice::Polly { region: region.clone() }) } else { Err(format!("{REGION}: no region of AWS")) }
            }
            #[cfg(feature = "google")]
            ("googletts", "google") => Ok(Voice::Google),
            (_, other) => Err(format!("{setting}: this node does not know {}", other.escape_debug().take(32).collect::<String>())),
        }
    }

    /// The audio, as a WAV file.
    pub async fn say(&self, domain: &str, voice: &Voice, parameters: &str) -> Result<Vec<u8>, String> {
        #[cfg(not(any(feature = "polly", feature = "google")))]
        let _ = (domain, parameters);
        match voice {
            Voice::Local(spoken) => self.engine.say(spoken).await,
            #[cfg(feature = "polly")]
            Voice::Polly { region } => {
                let (id, secret) = (self.tenants.secret(domain, AWS_KEY_ID).await?, self.tenants.secret(domain, AWS_SECRET).await?);
                let place = self.places.polly.replace("{region}", region);
                polly::say(&self.fetcher, &place, region, &sigv4::Key { id, secret }, parameters).await
            }
            #[cfg(feature = "google")]
            Voice::Google => {
                let key = self.tenants.secret(domain, GOOGLE_KEY).await?;
                google::say(&self.fetcher, &self.places.google, &key, parameters).await
            }
        }
    }

    /// A word of a value, by this machine.
    pub async fn word(&self, language: &str, text: &str) -> Result<Vec<u8>, String> {
        self.engine.say(&Spoken { text: text.to_owned(), language: language.to_owned(), voice: None, word: true }).await
    }
}

/// A text of a request, not empty and not too long.
fn text_of(field: &str, value: Option<&Value>) -> Result<String, String> {
    match value.and_then(Value::as_str).map(str::trim) {
        None | Some("") => Err(format!("parameters: {field} is missing")),
        Some(text) if text.len() > limits::SPEECH_TEXT => Err(format!("parameters: {field}: more than {} bytes", limits::SPEECH_TEXT)),
        Some(text) => Ok(text.to_owned()),
    }
}

/// Samples of 16 bits, little end first, as a WAV file.
#[cfg(any(feature = "polly", feature = "google"))]
fn wav_of(samples: &[u8], rate: u32) -> Vec<u8> {
    let size = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let mut wav = Vec::with_capacity(44 + samples.len());
    wav.extend(b"RIFF");
    wav.extend(size.saturating_add(36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(rate.to_le_bytes());
    wav.extend(rate.saturating_mul(2).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(size.to_le_bytes());
    wav.extend(samples);
    wav
}

#[cfg(test)]
mod tests;
