//! The prompt room: what sessions want to play, as clips. Files come from `DATA/prompts/<domain>/<name>`, then from the tenant's own
//! recordings; tones are computed; what lies elsewhere is fetched. All are kept, so that a busy prompt is read and encoded once, but for
//! recordings that were encrypted for their client, and what has no name to be kept under.
//!
//! What is in memory is answered on the signalling thread at once, the rest by a worker; what has to be fetched or synthesised (`made.rs`, kept
//! on the disk by `cache.rs`) is a task beside it, so that a slow server delays nobody else's prompts. Nothing here knows what a clip is for.
//! Start with [`Prompts::prepare`]; [`decode`] is the way from WAV bytes to a [`Clip`].

mod cache;
mod made;

pub use cache::PhraseCache;
pub use made::Maker;

use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::Wake;
use crate::prompt_files::{check_file_name, store_prompt};
use crate::record::wav::{HEADER, Header};
use crate::record::{Reader, cbc, safe_name};
use hookswitch_call::{Clips, Input, NoClip, Prepare, PromptSource, SessionId};
use hookswitch_proto::Time;
use hookswitch_proto::media::Clip;
use hookswitch_proto::media::tone::{ToneSpec, clip_from_pcm};
use made::{Made, ToKeep, Wanted};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Where prompts lie; the tenant's recordings may be played too (a greeting that a caller recorded).
#[derive(Clone, Debug)]
pub struct PromptFolders {
    pub prompts: PathBuf,
    pub blobs: PathBuf,
    /// Opens recordings that are encrypted at rest. Without it they are not played.
    pub recordings: Option<Reader>,
}

/// The signalling thread's end.
pub struct Prompts {
    folders: PromptFolders,
    cache: HashMap<Key, Cached>,
    bytes: usize,
    tones: usize,
    uses: u64,
    /// Who waits for what is being read.
    pending: HashMap<Key, Vec<(u64, usize)>>,
    waiting: HashMap<u64, Waiting>,
    waiters: u64,
    jobs: flume::Sender<Job>,
    answers: flume::Receiver<Answer>,
    fetches: Option<Fetches>,
    metrics: Arc<Metrics>,
}

/// What fetches prompts that lie elsewhere.
struct Fetches {
    maker: Arc<Maker>,
    runtime: tokio::runtime::Handle,
    answers: flume::Sender<Answer>,
    wake: Arc<Wake>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    File {
        domain: Arc<str>,
        name: String,
    },
    /// Frequencies and level by their bits, then on, off and total in milliseconds.
    Tone {
        hz: Vec<u32>,
        level: u32,
        ms: [u32; 3],
    },
    /// By the name that it is kept under, or, where it has none, by its address.
    Url {
        domain: Arc<str>,
        name: String,
        kept: bool,
    },
    /// By a hash of all that it is made of. `refresh`: not the one that is kept.
    Made {
        domain: Arc<str>,
        name: [u8; 32],
        refresh: bool,
    },
    /// `cipher`: a hash over key and vector, so that nobody hears it by a wrong one because somebody else brought the right one.
    Sealed {
        domain: Arc<str>,
        name: String,
        cipher: [u8; 32],
    },
}

impl Key {
    fn is_kept(&self) -> bool {
        matches!(self, Key::File { .. } | Key::Tone { .. } | Key::Url { kept: true, .. } | Key::Made { .. })
    }

    /// What it is found by from then on.
    fn as_kept(&self) -> Key {
        match self {
            Key::Made { domain, name, .. } => Key::Made { domain: domain.clone(), name: *name, refresh: false },
            key => key.clone(),
        }
    }
}

struct Cached {
    clip: Clip,
    /// Of the file it came from.
    stamp: Option<Stamp>,
    checked: Time,
    /// It is fetched, or looked for on the disk, again then.
    until: Option<Time>,
    used: u64,
}

#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

struct Waiting {
    session: SessionId,
    number: u32,
    clips: Vec<Option<Result<Clip, NoClip>>>,
}

struct Job {
    key: Key,
    what: What,
}

enum What {
    Source(PromptSource),
    /// It was fetched, and is to be decoded.
    Fetched(Vec<u8>),
    Made(Made),
}

struct Answer {
    key: Key,
    result: Result<Loaded, NoClip>,
}

/// A clip; of what file, and how long it may be kept.
struct Loaded {
    clip: Clip,
    stamp: Option<Stamp>,
    left: Option<Duration>,
}

impl From<Clip> for Loaded {
    fn from(clip: Clip) -> Loaded {
        Loaded { clip, stamp: None, left: None }
    }
}

/// Starts the worker. It ends when the `Prompts` is dropped. `fetch`: who fetches and synthesises, and where that runs; `None`: nobody does.
pub fn start(
    folders: PromptFolders,
    fetch: Option<(Arc<Maker>, tokio::runtime::Handle)>,
    wake: Arc<Wake>,
    metrics: Arc<Metrics>,
) -> io::Result<(Prompts, JoinHandle<()>)> {
    let (jobs, queue) = flume::bounded::<Job>(limits::PROMPT_QUEUE);
    let (answer, answers) = flume::unbounded();
    let worker = Worker { folders: folders.clone(), cache: fetch.as_ref().map(|(maker, _)| maker.cache.clone()) };
    if let Some((maker, runtime)) = &fetch {
        let cache = maker.cache.clone();
        // It ends with the runtime.
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(limits::PHRASE_SWEEP).await;
                let cache = cache.clone();
                if tokio::task::spawn_blocking(move || cache.sweep()).await.is_err() {
                    return;
                }
            }
        });
    }
    let fetches = fetch.map(|(maker, runtime)| Fetches { maker, runtime, answers: answer.clone(), wake: wake.clone() });
    let handle = std::thread::Builder::new().name("prompts".into()).spawn(move || {
        for job in queue {
            let result = worker.load(&job).map_err(NoClip::from);
            if answer.send(Answer { key: job.key, result }).is_err() {
                break;
            }
            wake.wake();
        }
    })?;
    let prompts = Prompts {
        folders,
        cache: HashMap::new(),
        bytes: 0,
        tones: 0,
        uses: 0,
        pending: HashMap::new(),
        waiting: HashMap::new(),
        waiters: 0,
        jobs,
        answers,
        fetches,
        metrics,
    };
    Ok((prompts, handle))
}

impl Prompts {
    /// The answer, when everything is in memory; otherwise [`Prompts::answer`] has it later.
    pub fn prepare(&mut self, now: Time, prepare: Prepare) -> Option<Input> {
        let Prepare { session, number, domain, sources } = prepare;
        let waiter = self.waiters;
        self.waiters += 1;
        let mut clips = Vec::with_capacity(sources.len());
        for (index, source) in sources.into_iter().enumerate() {
            clips.push(self.find(now, &domain, source, waiter, index));
        }
        if clips.iter().all(Option::is_some) {
            return Some(prepared(session, number, clips));
        }
        self.waiting.insert(waiter, Waiting { session, number, clips });
        None
    }

    /// What the worker has done meanwhile.
    pub fn answer(&mut self, now: Time, mut give: impl FnMut(Input)) {
        while let Ok(Answer { key, result }) = self.answers.try_recv() {
            let result = result.map(|loaded| {
                add(&self.metrics.prompts_read, 1);
                if key.is_kept() {
                    self.keep(now, key.as_kept(), &loaded);
                }
                loaded.clip
            });
            if let Err(failed) = &result {
                add(&self.metrics.prompts_failed, 1);
                if let Key::Url { domain, .. } | Key::Made { domain, .. } = &key {
                    tracing::info!(%domain, why = failed.why, "a prompt was not fetched or spoken");
                }
            }
            for (waiter, index) in self.pending.remove(&key).unwrap_or_default() {
                let Entry::Occupied(mut entry) = self.waiting.entry(waiter) else { continue };
                if let Some(clip) = entry.get_mut().clips.get_mut(index) {
                    *clip = Some(result.clone());
                }
                if entry.get().clips.iter().all(Option::is_some) {
                    let done = entry.remove();
                    give(prepared(done.session, done.number, done.clips));
                }
            }
        }
    }

    fn find(&mut self, now: Time, domain: &Arc<str>, source: PromptSource, waiter: u64, index: usize) -> Option<Result<Clip, NoClip>> {
        let fails = |why: &str| {
            add(&self.metrics.prompts_failed, 1);
            Some(Err(why.into()))
        };
        let key = match &source {
            // Checked here and not by the worker: the name must never become a path that leaves the folder.
            PromptSource::File(name) | PromptSource::Sealed { file_name: name, .. } if name.is_empty() || safe_name(name, "") != *name => {
                return fails("not a file name");
            }
            PromptSource::File(name) => Key::File { domain: domain.clone(), name: name.clone() },
            PromptSource::Sealed { file_name, cipher } => {
                let cipher = Sha256::new().chain_update(&cipher.key).chain_update(cipher.iv).finalize().into();
                Key::Sealed { domain: domain.clone(), name: file_name.clone(), cipher }
            }
            PromptSource::Url { keep: Some(_), .. } | PromptSource::Tts { .. } | PromptSource::Say { .. } => {
                return self.find_made(now, domain, source, waiter, index);
            }
            PromptSource::Url { key: Some(key), .. } if key.len() > limits::PROMPT_KEY => {
                return fails("the name to keep it under is too long");
            }
            PromptSource::Url { url, key, .. } => {
                let (name, kept) = key.as_ref().map_or((url, false), |key| (key, true));
                Key::Url { domain: domain.clone(), name: name.clone(), kept }
            }
            PromptSource::Tone { hz, level_dbm0, on, off, total } => {
                if *total > limits::PROMPT_DURATION {
                    return fails("tone: longer than ten minutes");
                }
                Key::Tone { hz: hz.iter().map(|f| f.to_bits()).collect(), level: level_dbm0.to_bits(), ms: [ms(*on), ms(*off), ms(*total)] }
            }
        };
        if let Some(clip) = self.cached(now, &key) {
            add(&self.metrics.prompts_cached, 1);
            return Some(Ok(clip));
        }
        if let Some(waiters) = self.pending.get_mut(&key) {
            waiters.push((waiter, index));
            return None;
        }
        let taken = match source {
            PromptSource::Url { url, .. } => self.fetch(key.clone(), domain, url),
            source => {
                let sent = self.jobs.try_send(Job { key: key.clone(), what: What::Source(source) });
                sent.map_err(|_| "too many prompts are being read".to_owned())
            }
        };
        if let Err(why) = taken {
            add(&self.metrics.prompts_failed, 1);
            return Some(Err(why.into()));
        }
        self.pending.insert(key, vec![(waiter, index)]);
        None
    }

    /// The same of what is made when it is needed, and kept by all that it is made of.
    fn find_made(&mut self, now: Time, domain: &Arc<str>, source: PromptSource, waiter: u64, index: usize) -> Option<Result<Clip, NoClip>> {
        let wanted = match source {
            PromptSource::Url { url, keep, .. } => Wanted::Url { url, keep: keep.unwrap_or_default() },
            PromptSource::Tts { engine, parameters, keep } => Wanted::Tts { engine, parameters, keep },
            PromptSource::Say { language, words } => Wanted::Say { language, words },
            PromptSource::File(_) | PromptSource::Tone { .. } | PromptSource::Sealed { .. } => {
                return Some(Err("nothing that is made".into()));
            }
        };
        let key = Key::Made { domain: domain.clone(), name: wanted.name(), refresh: wanted.refresh() };
        if let Some(clip) = self.cached(now, &key).filter(|_| !wanted.refresh()) {
            add(&self.metrics.prompts_cached, 1);
            return Some(Ok(clip));
        }
        if let Some(waiters) = self.pending.get_mut(&key) {
            waiters.push((waiter, index));
            return None;
        }
        if let Err(why) = self.make(key.clone(), domain, wanted) {
            add(&self.metrics.prompts_failed, 1);
            return Some(Err(why.into()));
        }
        self.pending.insert(key, vec![(waiter, index)]);
        None
    }

    fn make(&self, key: Key, domain: &Arc<str>, wanted: Wanted) -> Result<(), String> {
        let Some(fetches) = &self.fetches else { return Err("nothing is fetched or spoken by this node".into()) };
        let under_way = self.pending.keys().filter_map(|key| if let Key::Made { domain, .. } = key { Some(domain) } else { None });
        let (all, own) = under_way.fold((0, 0), |(all, own), of| (all + 1, own + usize::from(of == domain)));
        if all >= limits::PHRASES_MADE || own >= limits::PHRASES_MADE_OF_TENANT {
            return Err("too many phrases are being made".into());
        }
        let (maker, domain) = (fetches.maker.clone(), domain.clone());
        self.task(fetches, key, async move { Ok(What::Made(maker.make(&domain, &wanted).await?)) });
        Ok(())
    }

    /// What comes of it goes to the worker, which decodes as it does files.
    fn task(&self, fetches: &Fetches, key: Key, what: impl Future<Output = Result<What, NoClip>> + Send + 'static) {
        let (jobs, answers, wake) = (self.jobs.clone(), fetches.answers.clone(), fetches.wake.clone());
        fetches.runtime.spawn(async move {
            let fails = |key, failed| {
                // The node stops where nobody listens any more.
                let _ = answers.send(Answer { key, result: Err(failed) });
                wake.wake();
            };
            match what.await {
                Ok(what) => {
                    if let Err(flume::TrySendError::Full(job)) = jobs.try_send(Job { key, what }) {
                        fails(job.key, "too many prompts are being read".into());
                    }
                }
                Err(failed) => fails(key, failed),
            }
        });
    }

    /// Begins to fetch one.
    fn fetch(&self, key: Key, domain: &Arc<str>, url: String) -> Result<(), String> {
        let Some(fetches) = &self.fetches else { return Err("nothing is fetched by this node".into()) };
        let under_way = self.pending.keys().filter_map(|key| if let Key::Url { domain, .. } = key { Some(domain) } else { None });
        let (all, own) = under_way.fold((0, 0), |(all, own), of| (all + 1, own + usize::from(of == domain)));
        if all >= limits::PROMPT_FETCHES || own >= limits::PROMPT_FETCHES_OF_TENANT {
            return Err("too many prompts are being fetched".into());
        }
        let (maker, domain) = (fetches.maker.clone(), domain.clone());
        self.task(fetches, key, async move { Ok(What::Fetched(maker.fetcher.get(&domain, &url).await?)) });
        Ok(())
    }

    fn cached(&mut self, now: Time, key: &Key) -> Option<Clip> {
        let Entry::Occupied(mut entry) = self.cache.entry(key.clone()) else { return None };
        let cached = entry.get_mut();
        if cached.until.is_some_and(|until| until <= now) {
            let gone = entry.remove();
            self.bytes -= size(&gone.clip);
            self.metrics.prompt_bytes.set(self.bytes);
            return None;
        }
        if let (Key::File { domain, name }, Some(stamp)) = (key, &cached.stamp)
            && now.since(cached.checked) >= limits::PROMPT_RECHECK
        {
            if find_file(&self.folders, domain, name).as_ref() != Some(stamp) {
                let gone = entry.remove();
                self.bytes -= size(&gone.clip);
                self.metrics.prompt_bytes.set(self.bytes);
                return None;
            }
            cached.checked = now;
        }
        self.uses += 1;
        cached.used = self.uses;
        Some(cached.clip.clone())
    }

    fn keep(&mut self, now: Time, key: Key, loaded: &Loaded) {
        let Loaded { clip, stamp, left } = loaded;
        // Whoever takes a prompt back need not wait for a restart.
        let until = match &key {
            Key::Url { .. } | Key::Made { .. } => Some(now + left.unwrap_or(limits::PROMPT_FETCHED_AGE).min(limits::PROMPT_FETCHED_AGE)),
            _ => None,
        };
        if matches!(key, Key::Tone { .. }) {
            if self.tones >= limits::TONES {
                return;
            }
            self.tones += 1;
        }
        self.uses += 1;
        self.bytes += size(clip);
        let cached = Cached { clip: clip.clone(), stamp: stamp.clone(), checked: now, until, used: self.uses };
        if let Some(before) = self.cache.insert(key, cached) {
            self.bytes -= size(&before.clip);
        }
        while self.bytes > limits::PROMPT_CACHE_BYTES {
            let oldest = self.cache.iter().min_by_key(|(_, c)| c.used).map(|(k, _)| k.clone());
            let Some((key, gone)) = oldest.and_then(|key| self.cache.remove_entry(&key)) else { break };
            self.bytes -= size(&gone.clip);
            if matches!(key, Key::Tone { .. }) {
                self.tones -= 1;
            }
        }
        self.metrics.prompt_bytes.set(self.bytes);
    }
}

fn prepared(session: SessionId, number: u32, clips: Vec<Option<Result<Clip, NoClip>>>) -> Input {
    let clips: Clips = clips.into_iter().map(|clip| clip.unwrap_or_else(|| Err("not read".into()))).collect();
    Input::Prepared { session, number, clips }
}

fn size(clip: &Clip) -> usize {
    clip.pcmu.len() + clip.pcma.len()
}

fn ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The file of that name, where it is a plain one. A link could point anywhere.
fn find_file(folders: &PromptFolders, domain: &str, name: &str) -> Option<Stamp> {
    let domain = safe_name(domain, "unknown");
    [&folders.prompts, &folders.blobs].into_iter().find_map(|folder| {
        let path = folder.join(&domain).join(name);
        let file = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Stamp { path, changed: (file.mtime(), file.mtime_nsec()), size: file.len(), inode: file.ino() })
    })
}

struct Worker {
    folders: PromptFolders,
    cache: Option<Arc<PhraseCache>>,
}

impl Worker {
    fn load(&self, job: &Job) -> Result<Loaded, String> {
        match (&job.key, &job.what) {
            (Key::File { domain, name }, _) => {
                let (stamp, audio) = self.open(domain, name)?;
                Ok(Loaded { clip: decode(BufReader::new(audio))?, stamp: Some(stamp), left: None })
            }
            (Key::Sealed { domain, name, .. }, What::Source(PromptSource::Sealed { cipher, .. })) => {
                let (_, mut audio) = self.open(domain, name)?;
                let mut sealed = Vec::new();
                audio.read_to_end(&mut sealed).map_err(|e| e.to_string())?;
                let plain = cbc::decrypt(sealed, cipher).map_err(|e| e.to_string())?;
                Ok(decode(&plain[..])?.into())
            }
            (Key::Url { .. }, What::Fetched(bytes)) => Ok(decode(&bytes[..])?.into()),
            (Key::Made { domain, .. }, What::Made(made)) => {
                let clips = made.parts.iter().map(|part| decode(&part[..])).collect::<Result<Vec<Clip>, String>>()?;
                // Only what is audio is kept.
                if let (Some(keep), [audio]) = (&made.keep, made.parts.as_slice()) {
                    self.keep(domain, keep, audio);
                }
                Ok(Loaded { clip: joined(clips), stamp: None, left: Some(made.left) })
            }
            (Key::Tone { ms, .. }, What::Source(PromptSource::Tone { hz, level_dbm0, .. })) => {
                let spec = ToneSpec { hz: hz.clone(), level_dbm0: *level_dbm0, on_ms: ms[0], off_ms: ms[1], total_ms: ms[2] };
                let clip = catch_unwind(move || spec.clip()).map_err(|_| "the tone could not be made".to_string())?;
                Ok(clip.into())
            }
            _ => Err("no such prompt".into()),
        }
    }

    /// What could not be kept is made anew next time.
    fn keep(&self, domain: &str, keep: &ToKeep, audio: &[u8]) {
        let cached = match (&keep.cache, &self.cache) {
            (Some((name, time)), Some(cache)) => cache.keep(domain, name, *time, audio),
            _ => Ok(()),
        };
        if let Err(error) = cached {
            tracing::warn!(domain, %error, "a phrase was not kept in the cache");
        }
        let Some(file_name) = keep.file_name.as_deref() else { return };
        let folder = self.folders.prompts.join(safe_name(domain, "unknown"));
        let path = folder.join(file_name);
        // One from the cache is the tenant's prompt already, unless somebody has removed it.
        if keep.cache.is_none() && path.exists() {
            return;
        }
        let stored = match check_file_name(file_name) {
            Err(why) => Err(io::Error::other(why)),
            Ok(()) if !path.exists() && std::fs::read_dir(&folder).is_ok_and(|all| all.count() >= limits::PROMPTS) => {
                Err(io::Error::other(format!("the tenant has {} prompts already", limits::PROMPTS)))
            }
            Ok(()) => store_prompt(&folder, &path, audio),
        };
        if let Err(error) = stored {
            tracing::warn!(domain, file_name, %error, "a phrase was not kept as a prompt");
        }
    }

    /// A file of the tenant's, as it was before it was encrypted at rest.
    fn open(&self, domain: &str, name: &str) -> Result<(Stamp, Box<dyn Read>), String> {
        let stamp = find_file(&self.folders, domain, name).ok_or("no such file")?;
        if stamp.size > limits::PROMPT_FILE {
            return Err(format!("larger than {} MB", limits::PROMPT_FILE >> 20));
        }
        let audio: Box<dyn Read> = match &self.folders.recordings {
            Some(reader) => Box::new(reader.open_path(&stamp.path).map_err(|e| e.to_string())?.take(limits::PROMPT_FILE)),
            None => Box::new(File::open(&stamp.path).map_err(|e| e.to_string())?.take(limits::PROMPT_FILE)),
        };
        Ok((stamp, audio))
    }
}

/// One behind the other.
fn joined(clips: Vec<Clip>) -> Clip {
    match <[Clip; 1]>::try_from(clips) {
        Ok([clip]) => clip,
        Err(clips) => Clip {
            pcmu: clips.iter().flat_map(|clip| clip.pcmu.iter().copied()).collect(),
            pcma: clips.iter().flat_map(|clip| clip.pcma.iter().copied()).collect(),
        },
    }
}

/// A WAV file as a clip: integers of 8 to 32 bits or floats, up to eight channels (mixed), any usual rate, up to ten minutes.
pub fn decode(reader: impl Read) -> Result<Clip, String> {
    let (samples, rate) = read_wav(reader)?;
    catch_unwind(|| clip_from_pcm(&samples, rate)).map_err(|_| "the audio could not be converted".to_string())
}

/// A recording of ours in A-law or u-law, which `hound` does not read.
fn read_law(mut reader: impl Read, header: &Header) -> Result<(Vec<i16>, u32), String> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let channels = usize::from(header.channels.max(1));
    if bytes.len() as u64 > limits::PROMPT_DURATION.as_secs() * u64::from(header.rate) * channels as u64 {
        return Err(format!("longer than {} minutes", limits::PROMPT_DURATION.as_secs() / 60));
    }
    let mut samples = Vec::with_capacity(bytes.len());
    header.coding.samples(&bytes, &mut samples);
    if samples.is_empty() {
        return Err("no audio in it".into());
    }
    let mean = |c: &[i16]| i16::try_from(c.iter().map(|s| i32::from(*s)).sum::<i32>() / c.len() as i32).unwrap_or_default();
    Ok((samples.chunks_exact(channels).map(mean).collect(), header.rate))
}

/// Mono samples of 16 bits, and their rate.
fn read_wav(mut reader: impl Read) -> Result<(Vec<i16>, u32), String> {
    let mut head = Vec::new();
    reader.by_ref().take(HEADER as u64).read_to_end(&mut head).map_err(|e| e.to_string())?;
    if let Ok(header) = Header::decode(&head)
        && header.coding.law().is_some()
    {
        return read_law(reader, &header);
    }
    let mut wav = hound::WavReader::new(io::Cursor::new(head).chain(reader)).map_err(|e| match e {
        hound::Error::Unsupported => "WAV of a format that is not read: PCM or float, please".to_string(),
        other => format!("not a WAV file: {other}"),
    })?;
    let spec = wav.spec();
    if !(1..=8).contains(&spec.channels) || !(4000..=192_000).contains(&spec.sample_rate) {
        return Err(format!("{} channels at {} Hz are not read", spec.channels, spec.sample_rate));
    }
    let channels = usize::from(spec.channels);
    let longest = limits::PROMPT_DURATION.as_secs() * u64::from(spec.sample_rate);
    if u64::from(wav.duration()) > longest {
        return Err(format!("longer than {} minutes", limits::PROMPT_DURATION.as_secs() / 60));
    }
    let cut = |e: hound::Error| format!("the audio is damaged: {e}");
    let mut mono: Vec<i16> = Vec::new();
    match spec.sample_format {
        hound::SampleFormat::Float => {
            let all = wav.samples::<f32>().collect::<Result<Vec<f32>, _>>().map_err(cut)?;
            // `as` saturates, and turns NaN into silence.
            mono.extend(all.chunks_exact(channels).map(|c| (c.iter().sum::<f32>() / channels as f32 * 32_767.0) as i16));
        }
        hound::SampleFormat::Int => {
            let shift = i32::from(spec.bits_per_sample) - 16;
            let scale = |s: i32| if shift >= 0 { s >> shift } else { s << -shift };
            let all = wav.samples::<i32>().collect::<Result<Vec<i32>, _>>().map_err(cut)?;
            mono.extend(all.chunks_exact(channels).map(|c| {
                let sum: i64 = c.iter().map(|s| i64::from(scale(*s))).sum();
                i16::try_from(sum / channels as i64).unwrap_or(if sum < 0 { i16::MIN } else { i16::MAX })
            }));
        }
    }
    if mono.is_empty() {
        return Err("no audio in it".into());
    }
    Ok((mono, spec.sample_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Fetcher;
    use crate::speech::{Places, Speech, Tenants, local};
    use hookswitch_call::hook::Keep;
    use std::io::Cursor;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    /// Tenants that keep nothing.
    struct Nothing;

    impl Tenants for Nothing {
        fn settings(
            &self,
            _: &str,
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<std::collections::BTreeMap<String, String>, String>> + Send>> {
            Box::pin(std::future::ready(Ok(Default::default())))
        }
        fn secret(&self, _: &str, _: &'static str) -> std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
            Box::pin(std::future::ready(Err("none".into())))
        }
    }

    fn wav(channels: u16, rate: u32, bits: u16, format: hound::SampleFormat, frames: u32) -> Vec<u8> {
        let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
        let mut out = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut out, spec).unwrap();
        for _ in 0..frames {
            for channel in 0..channels {
                // Half of full scale on the first channel, silence on the others.
                match format {
                    hound::SampleFormat::Float => writer.write_sample(if channel == 0 { 0.5f32 } else { 0.0 }).unwrap(),
                    hound::SampleFormat::Int => {
                        writer.write_sample(if channel == 0 { 1i32 << (bits - 2) } else { 0 }).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        out.into_inner()
    }

    #[test]
    fn all_usual_formats_give_the_same_sound() {
        use hound::SampleFormat::{Float, Int};
        for (channels, rate, bits, format) in
            [(1, 8000, 8, Int), (1, 8000, 16, Int), (1, 16_000, 24, Int), (2, 48_000, 32, Int), (2, 44_100, 16, Int), (1, 8000, 32, Float)]
        {
            let (samples, got) = read_wav(&wav(channels, rate, bits, format, 800)[..]).unwrap();
            assert_eq!((samples.len(), got), (800, rate));
            let expected = 16_384 / i32::from(channels);
            assert!(samples.iter().all(|s| (i32::from(*s) - expected).abs() <= 1), "{bits} bits: {:?}", &samples[..4]);
        }
    }

    #[test]
    fn ic_250_what_is_no_audio_says_why() {
        use hound::SampleFormat::Int;
        let good = wav(1, 8000, 16, Int, 100);
        let mut law = good.clone();
        law[20] = 6;
        let mut endless = good.clone();
        endless[40..44].copy_from_slice(&0x7fff_fffeu32.to_le_bytes());
        let table: [(&[u8], &str); 8] = [
            (b"", "not a WAV file"),
            (b"ID3\x03 an MP3 file that somebody uploaded", "not a WAV file"),
            (&good[..40], "not a WAV file"),
            (&good[..100], "damaged"),
            (&law, "format"),
            (&endless, "longer than 10 minutes"),
            (&wav(1, 8000, 16, Int, 0), "no audio"),
            (&wav(1, 1000, 16, Int, 100), "not read"),
        ];
        for (bytes, why) in table {
            let e = read_wav(bytes).unwrap_err();
            assert!(e.contains(why), "{e:?} should contain {why:?}");
        }
    }

    struct World {
        folder: tempfile::TempDir,
        prompts: Prompts,
        wake: Arc<Wake>,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let folders = PromptFolders { prompts: folder.path().join("prompts"), blobs: folder.path().join("blobs"), recordings: None };
        for part in ["prompts/a.example", "blobs/a.example", "prompts/b.example"] {
            std::fs::create_dir_all(folder.path().join(part)).unwrap();
        }
        let wake = Arc::new(Wake::new().unwrap());
        let (prompts, _worker) = start(folders, None, wake.clone(), Arc::default()).unwrap();
        World { folder, prompts, wake }
    }

    /// One that fetches from this address.
    fn fetching(address: std::net::SocketAddr, runtime: &tokio::runtime::Runtime) -> World {
        let world = world();
        let policy = crate::outbox::Policy { origins: Arc::new(move |_| vec![format!("http://{address}")]), http: true, loopback: None };
        let fetcher = Fetcher::new(policy, Some(tokio_rustls::rustls::RootCertStore::empty()));
        let folders = world.prompts.folders.clone();
        let speech = Speech::new(local::Engine::new(local::find()), Arc::new(Nothing), fetcher.clone(), Places::default());
        let cache = Arc::new(PhraseCache::below(world.folder.path()));
        let maker = Arc::new(Maker::new(fetcher, speech, cache, folders.prompts.clone()));
        let (prompts, _worker) = start(folders, Some((maker, runtime.handle().clone())), world.wake.clone(), Arc::default()).unwrap();
        World { prompts, ..world }
    }

    impl World {
        fn put(&self, path: &str, frames: u32) {
            let path: &Path = &self.folder.path().join(path);
            std::fs::write(path, wav(1, 8000, 16, hound::SampleFormat::Int, frames)).unwrap();
        }

        /// The clips' lengths in samples, and whether they came at once.
        fn play(&mut self, now: Time, domain: &str, sources: &[PromptSource]) -> (Vec<Result<usize, String>>, bool) {
            let session = SessionId { slot: 1, generation: 2 };
            let prepare = Prepare { session, number: 3, domain: domain.into(), sources: sources.to_vec() };
            let mut got = self.prompts.prepare(now, prepare);
            let at_once = got.is_some();
            while got.is_none() {
                self.wake.sleep(&[], &mut Vec::new(), Some(Duration::from_millis(5)), || true);
                self.prompts.answer(now, |input| got = Some(input));
            }
            let Some(Input::Prepared { session: s, number: 3, clips }) = got else { panic!("{got:?}") };
            assert_eq!(s, session);
            (clips.into_iter().map(|c| c.map(|c| c.pcmu.len()).map_err(|failed| failed.why)).collect(), at_once)
        }
    }

    #[test]
    fn ac_019_a_companded_recording_is_played_as_it_was_said() {
        use crate::record::format::Coding;
        use hookswitch_proto::media::{Codec, g711};
        let clips = [(1, vec![0x2a; 320]), (2, [0x2a, 0x2a].repeat(320))].map(|(channels, samples)| {
            let header = Header { coding: Coding::Alaw, channels, frames: 2, ..Header::default() };
            decode(&[&header.encode()[..], &samples].concat()[..]).unwrap()
        });
        for clip in &clips {
            assert_eq!(clip.pcma[..], [0x2a; 320]);
            assert_eq!(clip.pcmu[0], g711::encode(Codec::Pcmu, g711::decode(Codec::Pcma, 0x2a)));
        }
        let empty = Header { coding: Coding::Ulaw, ..Header::default() };
        assert!(decode(&empty.encode()[..]).unwrap_err().contains("no audio"));
    }

    fn file(name: &str) -> PromptSource {
        PromptSource::File(name.into())
    }

    #[test]
    fn ic_240_files_come_from_the_tenants_own_folders_only() {
        let mut world = world();
        world.put("prompts/a.example/hello.wav", 800);
        world.put("blobs/a.example/message.wav", 1600);
        world.put("prompts/b.example/secret.wav", 800);
        std::fs::write(world.folder.path().join("prompts/a.example/text.wav"), "no audio").unwrap();
        std::os::unix::fs::symlink("../b.example/secret.wav", world.folder.path().join("prompts/a.example/link.wav")).unwrap();
        let names = ["hello.wav", "message.wav", "../b.example/secret.wav", "link.wav", "text.wav", "", "none.wav", "/etc/passwd"];
        let (clips, _) = world.play(Time::ZERO, "a.example", &names.map(file));
        let short: Vec<Result<usize, &str>> =
            clips.iter().map(|c| c.as_ref().map(|n| *n).map_err(|e| e.split(':').next().unwrap_or_default())).collect();
        let (path, none) = (Err("not a file name"), Err("no such file"));
        assert_eq!(short, [Ok(800), Ok(1600), path, none, Err("not a WAV file"), path, none, path]);
        let (clips, _) = world.play(Time::ZERO, "../prompts/b.example", &[file("secret.wav")]);
        assert_eq!(clips, [Err("no such file".to_string())]);
    }

    /// Answers every request with a WAV file of 16 kHz, longer each time, and counts them.
    fn prompt_server() -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
        use std::io::Write;
        use std::sync::atomic::AtomicUsize;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut request, mut byte) = (Vec::new(), [0]);
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    request.push(byte[0]);
                }
                let n = count.fetch_add(1, Ordering::SeqCst) as u32 + 1;
                let bad = request.starts_with(b"GET /bad");
                let body = if bad { b"no audio".to_vec() } else { wav(1, 16_000, 16, hound::SampleFormat::Int, 1600 * n) };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        (address, asked)
    }

    #[test]
    fn mg_007_008_a_prompt_is_fetched_resampled_and_kept_by_its_resource_id() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, asked) = prompt_server();
        let mut world = fetching(address, &runtime);
        let url = |path: &str, key: Option<&str>| PromptSource::Url {
            url: format!("http://{address}{path}"),
            key: key.map(str::to_owned),
            keep: None,
        };
        // 100 ms at 16 kHz are 800 samples at 8 kHz. The same twice in one play is fetched once.
        let twice = [url("/hi.wav", Some("1")), url("/hi.wav", Some("1"))];
        assert_eq!(world.play(Time::ZERO, "a.example", &twice), (vec![Ok(800), Ok(800)], false));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Kept by its name, whatever its address says now, and for its tenant alone.
        assert_eq!(world.play(Time::ZERO, "a.example", &[url("/other.wav", Some("1"))]), (vec![Ok(800)], true));
        assert_eq!(world.play(Time::ZERO, "b.example", &[url("/hi.wav", Some("1"))]), (vec![Ok(1600)], false));
        // Without a name it is fetched each time.
        for samples in [2400, 3200] {
            assert_eq!(world.play(Time::ZERO, "a.example", &[url("/hi.wav", None)]), (vec![Ok(samples)], false));
        }
        // Not for ever.
        let later = Time::ZERO + limits::PROMPT_FETCHED_AGE;
        assert_eq!(world.play(later, "a.example", &[url("/hi.wav", Some("1"))]), (vec![Ok(4000)], false));
        // What is no audio, or may not be fetched, fails and says why; nothing of it is kept.
        for (source, why) in [
            (url("/bad", Some("2")), "not a WAV file"),
            (PromptSource::Url { url: "http://127.0.0.2:9/x".into(), key: None, keep: None }, "not on the tenant's list"),
            (url("/hi.wav", Some(&"x".repeat(limits::PROMPT_KEY + 1))), "too long"),
        ] {
            let (clips, _) = world.play(later, "a.example", &[source]);
            assert!(clips[0].as_ref().is_err_and(|e| e.contains(why)), "{clips:?}");
        }
        let (clips, _) = self::world().play(Time::ZERO, "a.example", &[url("/hi.wav", None)]);
        assert_eq!(clips, [Err("nothing is fetched by this node".to_owned())]);
    }

    #[test]
    fn mg_007_a_tenants_slow_server_holds_up_so_many_prompts_and_no_more() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // It takes connections, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let mut world = fetching(address, &runtime);
        let mut ask = |domain: &str, path: usize| {
            let sources = vec![PromptSource::Url { url: format!("http://{address}/{path}"), key: None, keep: None }];
            let prepare = Prepare { session: SessionId { slot: 1, generation: 2 }, number: 3, domain: domain.into(), sources };
            world.prompts.prepare(Time::ZERO, prepare)
        };
        for path in 0..limits::PROMPT_FETCHES_OF_TENANT {
            assert!(ask("a.example", path).is_none(), "it waits");
        }
        let refused = |input: Option<Input>| matches!(input, Some(Input::Prepared { clips, .. }) if clips[0].is_err());
        assert!(refused(ask("a.example", 99)));
        assert!(ask("a.example", 0).is_none(), "the same one again waits for the first");
        assert!(ask("b.example", 0).is_none(), "another tenant's is fetched");
        for tenant in 0..limits::PROMPT_FETCHES - limits::PROMPT_FETCHES_OF_TENANT - 1 {
            assert!(ask(&format!("t{tenant}.example"), 0).is_none());
        }
        assert!(refused(ask("late.example", 0)), "and of all tenants together so many");
    }

    #[test]
    fn ic_241_247_248_249_a_phrase_by_url_is_kept_on_the_disk_by_its_address_until_it_is_refreshed() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, asked) = prompt_server();
        let mut world = fetching(address, &runtime);
        let url = |path: &str, keep: Keep| [PromptSource::Url { url: format!("http://{address}{path}"), key: None, keep: Some(keep) }];
        let week = Keep::default;
        assert_eq!(world.play(Time::ZERO, "a.example", &url("/a.wav", week())), (vec![Ok(800)], false));
        assert_eq!(world.play(Time::ZERO, "a.example", &url("/a.wav", week())), (vec![Ok(800)], true), "from memory");
        // Longer than it stays in memory: it is on the disk.
        let later = Time::ZERO + limits::PROMPT_FETCHED_AGE;
        assert_eq!(world.play(later, "a.example", &url("/a.wav", week())), (vec![Ok(800)], false));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Another address, another tenant, and one that is to be anew.
        assert_eq!(world.play(later, "a.example", &url("/b.wav", week())), (vec![Ok(1600)], false));
        assert_eq!(world.play(later, "b.example", &url("/a.wav", week())), (vec![Ok(2400)], false));
        assert_eq!(world.play(later, "a.example", &url("/a.wav", Keep { refresh: true, ..week() })), (vec![Ok(3200)], false));
        assert_eq!(world.play(later, "a.example", &url("/a.wav", week())), (vec![Ok(3200)], true), "the new one is kept");
        // Under a name it is a prompt of the tenant from then on, and no other tenant's.
        let named = |name: &str| Keep { file_name: Some(name.into()), ..week() };
        assert_eq!(world.play(later, "a.example", &url("/a.wav", named("kept.wav"))), (vec![Ok(3200)], false));
        assert_eq!(world.play(later, "a.example", &[file("kept.wav")]).0, [Ok(3200)]);
        assert!(world.play(later, "b.example", &[file("kept.wav")]).0[0].is_err());
        assert_eq!(world.play(later, "a.example", &url("/a.wav", named(".hidden"))).0, [Ok(3200)], "it plays all the same");
        assert!(!world.folder.path().join("prompts/a.example/.hidden").exists());
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        // What is no audio is not kept, and a failure is no answer for the next.
        for n in 5..7 {
            assert!(world.play(later, "a.example", &url("/bad", week())).0[0].as_ref().is_err_and(|e| e.contains("not a WAV file")));
            assert_eq!(asked.load(Ordering::SeqCst), n);
        }
        let denied = [PromptSource::Url { url: "http://127.0.0.2:9/x".into(), key: None, keep: Some(week()) }];
        assert!(world.play(later, "a.example", &denied).0[0].as_ref().is_err_and(|e| e.contains("not on the tenant's list")));
        assert!(self::world().play(later, "a.example", &denied).0[0].as_ref().is_err_and(|e| e.contains("by this node")));
    }

    #[test]
    fn ic_241_a_slow_server_is_told_apart_and_holds_up_no_other_tenant() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let mut world = fetching(address, &runtime);
        let mut ask = |domain: &str, path: usize| {
            let url = format!("http://{address}/{path}");
            let sources = vec![PromptSource::Url { url, key: None, keep: Some(Keep::default()) }];
            world
                .prompts
                .prepare(Time::ZERO, Prepare { session: SessionId { slot: 1, generation: 2 }, number: 3, domain: domain.into(), sources })
        };
        for path in 0..limits::PHRASES_MADE_OF_TENANT {
            assert!(ask("a.example", path).is_none(), "it waits");
        }
        let refused = |input: Option<Input>| matches!(input, Some(Input::Prepared { clips, .. }) if clips[0].is_err());
        assert!(refused(ask("a.example", 9999)) && ask("b.example", 0).is_none());
        let (mut late, began) = (0, std::time::Instant::now());
        while late <= limits::PHRASES_MADE_OF_TENANT {
            assert!(began.elapsed() < limits::PROMPT_FETCH * 3, "{late} of them");
            world.wake.sleep(&[], &mut Vec::new(), Some(Duration::from_millis(5)), || true);
            world.prompts.answer(Time::ZERO, |input| {
                let Input::Prepared { clips, .. } = input else { panic!("{input:?}") };
                assert!(clips[0].as_ref().is_err_and(|failed| failed.late), "{clips:?}");
                late += 1;
            });
        }
    }

    #[test]
    fn ic_242_247_a_text_is_spoken_once_and_kept_by_its_parameters() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut world = fetching("127.0.0.1:9".parse().unwrap(), &runtime);
        let tts = |engine: &str, parameters: &str| {
            [PromptSource::Tts { engine: engine.into(), parameters: parameters.into(), keep: Keep::default() }]
        };
        let hello = tts("local", r#"{"text":"Hello there"}"#);
        let (first, at_once) = world.play(Time::ZERO, "a.example", &hello);
        let samples = *first[0].as_ref().expect("scripts/setup.sh test installs espeak-ng");
        assert!((3000..20_000).contains(&samples) && !at_once);
        assert_eq!(world.play(Time::ZERO, "a.example", &hello), (vec![Ok(samples)], true));
        let folder = world.folder.path().join("cache/phrases/a.example");
        let kept = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
        assert_eq!(kept(), 1);
        // The vendors' parameters say the same by the same voice.
        for (engine, parameters) in [
            ("awstts", r#"{"Text":"Hello there","VoiceId":"Joanna","OutputFormat":"pcm"}"#),
            ("googletts", r#"{"input":{"text":"Hello there"},"voice":{"languageCode":"en-US"},"audioConfig":{}}"#),
        ] {
            let (clips, _) = world.play(Time::ZERO, "a.example", &tts(engine, parameters));
            assert!(clips[0].as_ref().is_ok_and(|n| n.abs_diff(samples) < samples / 2), "{engine}: {clips:?} {samples}");
        }
        assert_eq!(kept(), 3);
        for (engine, parameters, why) in [("local", "{}", "text"), ("klingon", "{}", "engine"), ("awstts", r#"{"Text":""}"#, "Text")] {
            assert!(
                world.play(Time::ZERO, "a.example", &tts(engine, parameters)).0[0].as_ref().is_err_and(|e| e.contains(why)),
                "{engine}"
            );
        }
        assert_eq!(kept(), 3, "no failure is kept");
    }

    #[test]
    fn ic_246_a_value_is_said_by_the_tenants_own_words_where_it_has_them() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut world = fetching("127.0.0.1:9".parse().unwrap(), &runtime);
        let say = |value: &str| {
            let (language, words) = hookswitch_call::say::words("number", value, "en").unwrap();
            [PromptSource::Say { language, words }]
        };
        let length =
            |world: &mut World, domain: &str, now: Time, value: &str| *world.play(now, domain, &say(value)).0[0].as_ref().expect("spoken");
        let now = Time::ZERO;
        let (twenty, four, both) = (
            length(&mut world, "a.example", now, "20"),
            length(&mut world, "a.example", now, "4"),
            length(&mut world, "a.example", now, "24"),
        );
        assert_eq!(both, twenty + four, "one behind the other");
        // Both ways to have a word of one's own.
        std::fs::create_dir_all(world.folder.path().join("prompts/a.example/say/en")).unwrap();
        world.put("prompts/a.example/say/en/twenty.wav", 111);
        world.put("prompts/a.example/say-en-four.wav", 222);
        let later = now + limits::PROMPT_FETCHED_AGE;
        assert_eq!(length(&mut world, "a.example", later, "24"), 333);
        assert_eq!(length(&mut world, "b.example", later, "24"), both, "another tenant has none");
    }

    #[test]
    fn ac_016_an_encrypted_recording_is_played_with_its_key_and_never_kept_open() {
        use hookswitch_call::recording::CbcKey;
        let mut world = world();
        let key = CbcKey { key: vec![7; 24], iv: [9; 16] };
        let mut sealed = Vec::new();
        cbc::encrypt(&mut &wav(1, 8000, 16, hound::SampleFormat::Int, 800)[..], &key, &mut sealed).unwrap();
        std::fs::write(world.folder.path().join("blobs/a.example/secret.wav"), &sealed).unwrap();
        let with = |cipher: CbcKey| [PromptSource::Sealed { file_name: "secret.wav".into(), cipher }];
        for _ in 0..2 {
            assert_eq!(world.play(Time::ZERO, "a.example", &with(key.clone())), (vec![Ok(800)], false), "it is read each time");
        }
        let wrong = CbcKey { key: vec![8; 24], iv: key.iv };
        assert!(world.play(Time::ZERO, "a.example", &with(wrong)).0[0].is_err());
        assert!(world.play(Time::ZERO, "a.example", &[file("secret.wav")]).0[0].is_err(), "nothing was left of it");
        assert!(world.play(Time::ZERO, "b.example", &with(key.clone())).0[0].is_err(), "another tenant's");
        let outside = PromptSource::Sealed { file_name: "../a.example/secret.wav".into(), cipher: key };
        assert_eq!(world.play(Time::ZERO, "b.example", &[outside]).0, [Err("not a file name".to_owned())]);
    }

    #[test]
    fn a_prompt_is_read_once_until_it_changes() {
        let mut world = world();
        world.put("prompts/a.example/hello.wav", 800);
        let hello = [file("hello.wav"), file("hello.wav")];
        assert_eq!(world.play(Time::ZERO, "a.example", &hello), (vec![Ok(800), Ok(800)], false));
        assert_eq!(world.prompts.metrics.prompts_read.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(world.play(Time::from_millis(500), "a.example", &hello), (vec![Ok(800), Ok(800)], true));
        world.put("prompts/a.example/hello.wav", 1600);
        // Within a second nobody looks; then the new one is read.
        assert!(world.play(Time::from_millis(900), "a.example", &hello).1);
        assert_eq!(world.play(Time::from_millis(1000), "a.example", &hello), (vec![Ok(1600), Ok(1600)], false));
        assert_eq!(world.prompts.bytes, 3200);
    }

    #[test]
    fn tones_are_kept_too() {
        let mut world = world();
        let second = Duration::from_secs(1);
        let tone = |total| PromptSource::Tone { hz: vec![425.0], level_dbm0: -10.0, on: second, off: second, total };
        assert_eq!(world.play(Time::ZERO, "a.example", &[tone(second)]), (vec![Ok(8000)], false));
        assert_eq!(world.play(Time::ZERO, "b.example", &[tone(second)]), (vec![Ok(8000)], true));
        assert!(world.play(Time::ZERO, "a.example", &[tone(second * 601)]).0[0].is_err());
    }
}
