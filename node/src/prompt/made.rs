//! Phrases that are made when they are needed: fetched by URL (IC-241), synthesised (IC-242, IC-243), or put together from words (IC-246).
//! Looked for on the disk first. All of it runs on the prompts' own runtime; a tenant's slow server or thousand texts hold up its own alone.

use super::cache::{Found, Name, PhraseCache, name_of};
use crate::limits;
use crate::outbox::{Fetcher, too_slow};
use crate::record::safe_name;
use crate::speech::{Speech, Voice};
use hookswitch_call::door::NoClip;
use hookswitch_call::hook::Keep;
use hookswitch_call::limits::KEEP_LONGEST;
use hookswitch_call::say::Word;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What is to be made.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Url { url: String, keep: Keep },
    Tts { engine: String, parameters: String, keep: Keep },
    Say { language: &'static str, words: Vec<Word> },
}

impl Wanted {
    /// What tells it from all others of its tenant.
    pub fn name(&self) -> Name {
        let as_prompt = |keep: &Keep| keep.file_name.clone().unwrap_or_default();
        match self {
            Wanted::Url { url, keep } => name_of(&["url", url, &as_prompt(keep)]),
            Wanted::Tts { engine, parameters, keep } => name_of(&["tts", engine, parameters, &as_prompt(keep)]),
            Wanted::Say { language, words } => {
                let mut parts = vec!["say", *language];
                parts.extend(words.iter().map(|word| word.name.as_str()));
                name_of(&parts)
            }
        }
    }

    pub fn refresh(&self) -> bool {
        matches!(self, Wanted::Url { keep, .. } | Wanted::Tts { keep, .. } if keep.refresh)
    }
}

/// Audio files to be played one behind the other.
pub(super) struct Made {
    pub parts: Vec<Vec<u8>>,
    /// How much longer they may be kept.
    pub left: Duration,
    pub keep: Option<ToKeep>,
}

/// What is to be done with it once it is known to be audio.
pub(super) struct ToKeep {
    /// It is not in the cache yet.
    pub cache: Option<(Name, Duration)>,
    pub file_name: Option<String>,
}

pub struct Maker {
    pub fetcher: Fetcher,
    pub speech: Speech,
    pub cache: Arc<PhraseCache>,
    /// Of all tenants.
    pub prompts: PathBuf,
    turns: Turns,
}

impl Maker {
    pub fn new(fetcher: Fetcher, speech: Speech, cache: Arc<PhraseCache>, prompts: PathBuf) -> Maker {
        Maker { fetcher, speech, cache, prompts, turns: Turns::default() }
    }

    /// A caller hears nothing meanwhile: it takes no longer than a prompt may.
    pub(super) async fn make(&self, domain: &Arc<str>, wanted: &Wanted) -> Result<Made, NoClip> {
        let made = async {
            match wanted {
                Wanted::Url { url, keep } => self.url(domain, url, keep).await,
                Wanted::Tts { engine, parameters, keep } => self.tts(domain, engine, parameters, keep).await,
                Wanted::Say { language, words } => self.words(domain, language, words).await,
            }
        };
        tokio::time::timeout(limits::PROMPT_FETCH, made).await.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn url(&self, domain: &Arc<str>, url: &str, keep: &Keep) -> Result<Made, NoClip> {
        let name = name_of(&["url", url]);
        if let Some(made) = self.found(domain, name, keep).await {
            return Ok(made);
        }
        let tenant = self.turns.of(domain);
        let _own = turn(&tenant.fetching).await?;
        let _turn = turn(&self.turns.fetching).await?;
        Ok(fresh(self.fetcher.get(domain, url).await?, name, keep))
    }

    async fn tts(&self, domain: &Arc<str>, engine: &str, parameters: &str, keep: &Keep) -> Result<Made, NoClip> {
        let voice = self.speech.voice(domain, engine, parameters).await?;
        let name = name_of(&["tts", &voice.name(), engine, parameters]);
        if let Some(made) = self.found(domain, name, keep).await {
            return Ok(made);
        }
        let tenant = self.turns.of(domain);
        let _own = turn(&tenant.speaking).await?;
        // This machine's engine has turns of its own.
        let _turn: Option<SemaphorePermit<'_>> = match voice {
            Voice::Local(_) => None,
            #[cfg(any(feature = "polly", feature = "google"))]
            _ => Some(turn(&self.turns.speaking).await?),
        };
        Ok(fresh(self.speech.say(domain, &voice, parameters).await?, name, keep))
    }

    /// Each word by the tenant's own file where it has one, else by this machine.
    async fn words(&self, domain: &Arc<str>, language: &'static str, words: &[Word]) -> Result<Made, NoClip> {
        let mut parts = Vec::with_capacity(words.len());
        for word in words {
            let (cache, folder, of, own) = (self.cache.clone(), self.prompts.clone(), domain.clone(), word.name.clone());
            let name = name_of(&["word", language, &word.text]);
            let found = self
                .blocking(move || own_word(&folder, &of, language, &own).or_else(|| Some(cache.find(&of, &name, KEEP_LONGEST)?.audio)))
                .await;
            if let Some(audio) = found.flatten() {
                parts.push(audio);
                continue;
            }
            let tenant = self.turns.of(domain);
            let _own = turn(&tenant.speaking).await?;
            let audio = self.speech.word(language, &word.text).await?;
            let (cache, of, copy) = (self.cache.clone(), domain.clone(), audio.clone());
            if let Some(Err(error)) = self.blocking(move || cache.keep(&of, &name, KEEP_LONGEST, &copy)).await {
                tracing::warn!(%error, "a word was not kept in the cache");
            }
            parts.push(audio);
        }
        // A tenant's own file may change.
        Ok(Made { parts, left: limits::PROMPT_FETCHED_AGE, keep: None })
    }

    /// On a thread that may wait for the disk. `None`: the runtime ends.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _turn = self.turns.disk.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }

    async fn found(&self, domain: &Arc<str>, name: Name, keep: &Keep) -> Option<Made> {
        if keep.refresh {
            return None;
        }
        let (cache, of, time) = (self.cache.clone(), domain.clone(), keep.time);
        let Found { audio, left } = self.blocking(move || cache.find(&of, &name, time)).await??;
        Some(Made { parts: vec![audio], left, keep: Some(ToKeep { cache: None, file_name: keep.file_name.clone() }) })
    }
}

fn fresh(audio: Vec<u8>, name: Name, keep: &Keep) -> Made {
    let to_keep = ToKeep { cache: Some((name, keep.time)), file_name: keep.file_name.clone() };
    Made { parts: vec![audio], left: keep.time, keep: Some(to_keep) }
}

/// A word as the tenant has recorded it: `say/en/seven.wav` in its folder, or `say-en-seven.wav`, which the API takes.
fn own_word(prompts: &std::path::Path, domain: &str, language: &str, name: &str) -> Option<Vec<u8>> {
    let folder = prompts.join(safe_name(domain, "unknown"));
    let path = [folder.join("say").join(language).join(format!("{name}.wav")), folder.join(format!("say-{language}-{name}.wav"))]
        .into_iter()
        // A link could point anywhere.
        .find(|path| fs::symlink_metadata(path).is_ok_and(|about| about.is_file()))?;
    let mut audio = Vec::new();
    fs::File::open(path).ok()?.take(limits::PROMPT_FETCH_BYTES as u64).read_to_end(&mut audio).ok()?;
    Some(audio)
}

/// How many of a kind there are at a time, of all tenants and of each.
struct Turns {
    disk: Semaphore,
    fetching: Semaphore,
    #[cfg_attr(not(any(feature = "polly", feature = "google")), expect(dead_code, reason = "nobody is asked without a cloud's feature"))]
    speaking: Semaphore,
    tenants: Mutex<HashMap<Arc<str>, Weak<OfTenant>>>,
}

struct OfTenant {
    fetching: Semaphore,
    speaking: Semaphore,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            disk: Semaphore::new(limits::PHRASE_DISK),
            fetching: Semaphore::new(limits::PROMPT_FETCHES),
            speaking: Semaphore::new(limits::PROMPT_FETCHES),
            tenants: Mutex::default(),
        }
    }
}

impl Turns {
    fn of(&self, domain: &Arc<str>) -> Arc<OfTenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = tenants.get(domain).and_then(Weak::upgrade) {
            return turns;
        }
        tenants.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(OfTenant {
            fetching: Semaphore::new(limits::PROMPT_FETCHES_OF_TENANT),
            speaking: Semaphore::new(limits::SPEECH_OF_TENANT),
        });
        tenants.insert(domain.clone(), Arc::downgrade(&turns));
        turns
    }
}

async fn turn(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>, NoClip> {
    semaphore.acquire().await.map_err(|_| "the node is stopping".into())
}
