//! What stands in for the node's imports outside WebAssembly: one world for each test thread, with the signatures of the real ones.
//!
//! Orders to the session are written down and said to be done; nothing here acts on a call. [`Call`](super::Call) fills and shows it.

use crate::types::HostError;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

type Result<T> = std::result::Result<T, HostError>;

/// What the handlers of one test see beside their calls.
#[derive(Default)]
pub(super) struct World {
    pub log: Vec<String>,
    pub config: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, String>,
    pub store: BTreeMap<String, Stored>,
    pub versions: u64,
    pub prompts: BTreeMap<String, Vec<u8>>,
    pub orders: Vec<String>,
    pub posts: Vec<crate::outbox::PostRequest>,
    pub responses: VecDeque<Result<crate::http::Response>>,
    pub timers: BTreeMap<String, u64>,
    pub now_ms: u64,
    pub drawn: u64,
}

/// A value of the store.
#[derive(Clone)]
pub(super) struct Stored {
    value: Vec<u8>,
    version: u64,
    expires_ms: Option<u64>,
}

impl World {
    /// 2026-11-20 12:00 UTC: tests that look at the date see the same one always.
    pub const START_MS: u64 = 1_795_176_000_000;
}

thread_local!(static WORLD: RefCell<World> = RefCell::default());

pub(super) fn world<T>(use_it: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(use_it)
}

fn order(text: String) -> Result<()> {
    world(|world| world.orders.push(text));
    Ok(())
}

/// A number that no other id of this test has.
pub(super) fn serial() -> u64 {
    world(|world| {
        world.drawn += 1;
        world.drawn
    })
}

pub mod calls {
    use super::{Result, order, serial};
    use crate::calls::{DeviceCall, HoldAudio, IvrCall, MuteDirection, PlacedCall, TransferTarget};
    use crate::types::{Phrase, RtpEndpoint};

    fn placed(what: &str, to: &str) -> Result<PlacedCall> {
        order(format!("{what} {to}"))?;
        let n = serial();
        Ok(PlacedCall { session_id: format!("session-{n}"), participant_id: format!("participant-{n}"), reply_id: format!("reply-{n}") })
    }

    pub fn hangup_participant(participant_id: &str) -> Result<()> {
        order(format!("hangup-participant {participant_id}"))
    }
    pub fn hangup_remote_participant(participant_id: &str) -> Result<()> {
        order(format!("hangup-remote-participant {participant_id}"))
    }
    pub fn split_connection(connection_id: &str) -> Result<()> {
        order(format!("split-connection {connection_id}"))
    }
    pub fn interrupt_ivr_command() -> Result<()> {
        order("interrupt-ivr-command".into())
    }
    pub fn place_ivr_call(call: &IvrCall) -> Result<PlacedCall> {
        placed("place-ivr-call", &call.call.dest_addr)
    }
    pub fn place_remote_call(call: &DeviceCall) -> Result<PlacedCall> {
        placed("place-remote-call", &call.destination_uri)
    }
    pub fn send_remote_call_ringback() -> Result<()> {
        order("send-remote-call-ringback".into())
    }
    pub fn answer_remote_call(endpoint: &RtpEndpoint, _session_reference: Option<&str>) -> Result<()> {
        order(format!("answer-remote-call {}:{}", endpoint.receive_ip, endpoint.receive_port))
    }
    pub fn hangup_call() -> Result<()> {
        order("hangup-call".into())
    }
    pub fn transfer(participant_id: &str, target: &TransferTarget) -> Result<()> {
        let (TransferTarget::Blind(to) | TransferTarget::Attended(to)) = target;
        order(format!("transfer {participant_id} {to}"))
    }
    pub fn send_dtmf(participant_id: &str, digits: &str, _digit_ms: Option<u32>) -> Result<()> {
        order(format!("send-dtmf {participant_id} {digits}"))
    }
    pub fn hold(participant_id: &str, _audio: &HoldAudio) -> Result<()> {
        order(format!("hold {participant_id}"))
    }
    pub fn resume(participant_id: &str) -> Result<()> {
        order(format!("resume {participant_id}"))
    }
    pub fn mute(participant_id: &str, _direction: MuteDirection) -> Result<()> {
        order(format!("mute {participant_id}"))
    }
    pub fn play(participant_id: &str, phrases: &[Phrase]) -> Result<()> {
        let phrases: Vec<_> = phrases.iter().map(Phrase::to_string).collect();
        order(format!("{participant_id}: {}", phrases.join(", ")))
    }
}

pub mod recordings {
    use super::{Result, order, serial};
    use crate::recordings::RecordingStatus;
    use crate::types::{Extension, PauseBehavior, Phrase, RecordingOptions, RecordingPhase, RecordingResult, RecordingTarget, StopReason};

    fn on(what: &str, recording: Option<&str>) -> Result<()> {
        order(format!("{what}-recording {}", recording.unwrap_or("last")))
    }

    pub fn start(_target: &RecordingTarget, options: &RecordingOptions, prompts: &[Phrase]) -> Result<String> {
        let prompts: Vec<_> = prompts.iter().map(Phrase::to_string).collect();
        let after = if prompts.is_empty() { String::new() } else { format!(" after {}", prompts.join(", ")) };
        let name = options.control_id.as_deref().or(options.file_name.as_deref()).unwrap_or("last");
        order(format!("start-recording {name}{after}"))?;
        Ok(format!("recording-{}", serial()))
    }
    pub fn stop(recording: Option<&str>) -> Result<()> {
        on("stop", recording)
    }
    pub fn pause(recording: Option<&str>, _behavior: Option<PauseBehavior>) -> Result<()> {
        on("pause", recording)
    }
    pub fn resume(recording: Option<&str>) -> Result<()> {
        on("resume", recording)
    }
    pub fn discard(recording: Option<&str>) -> Result<()> {
        on("discard", recording)
    }
    /// Whatever is asked for runs, and has run for no time yet.
    pub fn get(recording: Option<&str>) -> Result<RecordingStatus> {
        let name = recording.unwrap_or("recording-1").to_owned();
        let details = RecordingResult {
            recording_id: name.clone(),
            control_id: name.clone(),
            client_context: None,
            file_name: format!("{name}.wav"),
            stop_reason: StopReason::Ext(Extension { name: "running".into(), json: String::new() }),
            stop_digit: None,
            duration_ms: 0,
            contains_sound: false,
            size_bytes: None,
            started_at_ms: None,
            ended_at_ms: None,
            url: None,
            access_token: None,
            checksum: None,
            extra: Vec::new(),
        };
        Ok(RecordingStatus { state: RecordingPhase::Recording, details })
    }
}

pub mod prompts {
    use super::{HostError, Result, World, world};
    use crate::prompts::PromptInfo;

    fn file<T>(file_name: &str, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        world(|world| world.prompts.get(file_name).map(|content| look(content))).ok_or_else(|| HostError::Unknown(file_name.into()))
    }

    pub fn read(file_name: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let take = usize::try_from(length.min(65_536)).unwrap_or(usize::MAX);
        file(file_name, |content| content.iter().skip(skip).take(take).copied().collect())
    }
    pub fn write(file_name: &str, content: &[u8]) -> Result<()> {
        world(|world| world.prompts.insert(file_name.into(), content.to_vec()));
        Ok(())
    }
    pub fn delete(file_name: &str) -> Result<()> {
        world(|world| world.prompts.remove(file_name)).map(drop).ok_or_else(|| HostError::Unknown(file_name.into()))
    }
    pub fn stat(file_name: &str) -> Result<PromptInfo> {
        let size_bytes = file(file_name, |content| content.len() as u64)?;
        Ok(PromptInfo { file_name: file_name.into(), size_bytes, duration_ms: None, stored_at_ms: World::START_MS })
    }
}

/// Values expire by the test's clock.
pub mod store {
    use super::{HostError, Result, Stored, world};
    use crate::store::Entry;

    fn checked(key: &str, value: &[u8]) -> Result<()> {
        match (key.len(), value.len()) {
            (1..=256, 0..=65_536) => Ok(()),
            (1..=256, _) => Err(HostError::BadValue("value: more than 65536 bytes".into())),
            _ => Err(HostError::BadValue("key: not 1 to 256 bytes".into())),
        }
    }

    pub fn get(key: &str) -> Result<Option<Entry>> {
        checked(key, &[])?;
        Ok(found(key).map(|stored| Entry { value: stored.value, version: stored.version }))
    }
    fn found(key: &str) -> Option<Stored> {
        world(|world| world.store.get(key).filter(|stored| stored.expires_ms.is_none_or(|at| at > world.now_ms)).cloned())
    }
    pub fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<()> {
        checked(key, value)?;
        if ttl_ms == Some(0) {
            return Err(HostError::BadValue("ttl-ms: 1 at least".into()));
        }
        world(|world| {
            world.versions += 1;
            let expires_ms = ttl_ms.map(|ttl| world.now_ms.saturating_add(ttl));
            world.store.insert(key.into(), Stored { value: value.to_vec(), version: world.versions, expires_ms });
        });
        Ok(())
    }
    pub fn set_if(key: &str, value: &[u8], version: u64, ttl_ms: Option<u64>) -> Result<bool> {
        let now = get(key)?.map_or(0, |entry| entry.version);
        if now == version {
            set(key, value, ttl_ms)?;
        }
        Ok(now == version)
    }
    pub fn delete(key: &str) -> Result<()> {
        world(|world| world.store.remove(key));
        Ok(())
    }
    pub fn increment(key: &str, by: i64) -> Result<i64> {
        let before = match get(key)? {
            None => 0,
            Some(entry) => std::str::from_utf8(&entry.value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| HostError::WrongState(format!("{key} is no number")))?,
        };
        let sum = before.checked_add(by).ok_or_else(|| HostError::BadValue("by: too large".into()))?;
        let expires_ms = found(key).and_then(|stored| stored.expires_ms);
        set(key, sum.to_string().as_bytes(), None)?;
        world(|world| {
            if let Some(stored) = world.store.get_mut(key) {
                stored.expires_ms = expires_ms;
            }
        });
        Ok(sum)
    }
    pub fn keys(prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
        let wanted = |key: &&String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
        let keys: Vec<String> = world(|world| world.store.keys().filter(wanted).cloned().collect());
        Ok(keys.into_iter().filter(|key| found(key).is_some()).take(100).collect())
    }
}

pub mod http {
    use super::{HostError, Result, order, world};
    use crate::http::{Request, Response};

    pub fn fetch(request: &Request) -> Result<Response> {
        order(format!("{} {}", request.method, request.url))?;
        let denied = || Err(HostError::Denied(format!("{}: the test gave no answer for it (Call::response)", request.url)));
        world(|world| world.responses.pop_front()).unwrap_or_else(denied)
    }
}

pub mod outbox {
    use super::{Result, serial, world};
    use crate::outbox::PostRequest;

    pub fn post(post: &PostRequest) -> Result<String> {
        world(|world| world.posts.push(post.clone()));
        Ok(format!("event-{}", serial()))
    }
}

pub mod config {
    pub fn get(key: &str) -> Option<String> {
        super::world(|world| world.config.get(key).cloned())
    }
}

pub mod secrets {
    use super::{HostError, Result, world};

    pub fn get(name: &str) -> Result<String> {
        world(|world| world.secrets.get(name).cloned()).ok_or_else(|| HostError::Unknown(name.into()))
    }
}

pub mod log {
    use crate::log::Level;

    pub fn write(level: Level, message: &str) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        super::world(|world| world.log.push(format!("{level}: {message}")));
    }
}

pub mod clock {
    use super::{World, world};

    pub fn now_ms() -> u64 {
        World::START_MS + world(|world| world.now_ms)
    }
    pub fn monotonic_ns() -> u64 {
        world(|world| world.now_ms) * 1_000_000
    }
}

/// Looks random, and is the same in each run.
pub mod random {
    pub fn get_u64() -> u64 {
        // SplitMix64: one multiplication round is enough to look at.
        let mut z = super::serial().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn get_bytes(length: u32) -> Vec<u8> {
        (0..length.min(4096)).map(|_| get_u64().to_le_bytes()[0]).collect()
    }
    pub fn uuid() -> String {
        let (a, b) = (get_u64(), get_u64());
        format!("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff, b >> 52, b & 0xffff_ffff_ffff)
    }
}

pub mod timers {
    use super::{HostError, Result, world};

    pub fn set(name: &str, after_ms: u64) -> Result<()> {
        if !(1..=64).contains(&name.len()) {
            return Err(HostError::BadValue("name: not 1 to 64 bytes".into()));
        }
        if !(10..=14_400_000).contains(&after_ms) {
            return Err(HostError::BadValue("after-ms: not 10 to 14400000".into()));
        }
        world(|world| {
            if world.timers.len() >= 16 && !world.timers.contains_key(name) {
                return Err(HostError::Limit("timers: 16 in a session".into()));
            }
            world.timers.insert(name.into(), after_ms);
            Ok(())
        })
    }
    pub fn cancel(name: &str) -> Result<()> {
        world(|world| world.timers.remove(name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Call;
    use crate::{HostError, http, store};

    #[test]
    fn values_have_versions_and_an_end() {
        drop(Call::from("alice"));
        assert_eq!(store::set("k", "one", None), Ok(()));
        let first = store::get("k").expect("read").expect("there").version;
        assert_eq!(store::set_if("k", "two", first, Some(1000)), Ok(true));
        assert_eq!(store::set_if("k", "three", first, None), Ok(false));
        super::world(|world| world.now_ms += 1000);
        assert_eq!(store::get("k"), Ok(None));
        assert_eq!(store::keys("", None), Ok(vec![]));
        assert_eq!(store::set_if("k", "again", 0, None), Ok(true));
        assert!(store::get("k").expect("read").expect("there").version > first, "no version comes again");
        assert_eq!(store::increment("n", 2), Ok(2));
        assert_eq!(store::set("n", "5", Some(1000)), Ok(()));
        assert_eq!(store::increment("n", 2), Ok(7));
        super::world(|world| world.now_ms += 1000);
        assert_eq!(store::increment("n", 2), Ok(2), "it kept its end");
    }

    #[test]
    fn an_update_is_done_again_where_somebody_was_faster() {
        drop(Call::from("alice"));
        let mut tries = 0;
        let after = store::update("k", None, |before| {
            tries += 1;
            if tries == 1 {
                store::set("k", "theirs", None).expect("written");
            }
            [before.unwrap_or_default(), b"+mine"].concat()
        });
        assert_eq!((after, tries), (Ok(b"theirs+mine".to_vec()), 2));
        let never = store::update("k", None, |_| {
            store::set("k", "theirs", None).expect("written");
            Vec::new()
        });
        assert!(matches!(never, Err(HostError::NotAvailable(_))));
    }

    #[test]
    fn a_request_says_what_it_is() {
        drop(Call::from("alice").response(404, "nobody"));
        let request = http::Request::post("https://a.example/", "text/plain", "hello").header("X-A", "b").timeout_ms(800);
        let headers = [("Content-Type", "text/plain"), ("X-A", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((request.method.as_str(), request.headers.as_slice(), request.timeout_ms), ("POST", &headers[..], Some(800)));
        let answer = http::fetch(&request).expect("an answer");
        assert!(!answer.is_success() && answer.text() == "nobody" && answer.header("x-a").is_none());
        assert!(matches!(http::get("https://a.example/"), Err(HostError::Denied(_))));
    }
}
