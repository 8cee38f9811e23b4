//! What the node offers a handler. Each module is one interface of the contract (`wit/host.wit`), with the same names.
//!
//! Below WebAssembly these are the node's imports; anywhere else they are the fakes of [`testing`](crate::testing).

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::fake as imports;
#[cfg(target_arch = "wasm32")]
use crate::wit::hookswitch::call as imports;

/// What most of these return: a [`HostError`](crate::HostError) says why the node did not do it. `?` makes a [`Failure`](crate::Failure) of it.
type Result<T> = std::result::Result<T, crate::HostError>;

/// Orders to the handler's own session. They return when the order is valid and handed over, not when it has had its effect. At most 20 a
/// second in a session, posts and timers among them.
///
/// ```
/// use hookswitch_sdk::{CallEvent, Result, Route, calls};
///
/// fn call_event(event: &CallEvent) -> Result<Route> {
///     if event.is_split() && !event.is_about_the_caller() {
///         calls::hangup_participant(&event.participant_id)?;
///     }
///     Ok(Route::drop(event.failure().unwrap_or(603)))
/// }
/// ```
pub mod calls {
    use super::{Result, imports};
    use crate::types::{Phrase, RtpEndpoint};
    pub use crate::wit::hookswitch::call::calls::{DeviceCall, HoldAudio, IvrCall, MuteDirection, PlacedCall, TransferTarget};

    /// Release a leg: CANCEL, refusal or BYE, whichever fits. Repeating it is harmless.
    pub fn hangup_participant(participant_id: &str) -> Result<()> {
        imports::calls::hangup_participant(participant_id)
    }
    /// Release the counterpart of this leg; `call_event` then decides about this leg.
    pub fn hangup_remote_participant(participant_id: &str) -> Result<()> {
        imports::calls::hangup_remote_participant(participant_id)
    }
    /// Separate the parties of a connection; each gets its `call_event`.
    pub fn split_connection(connection_id: &str) -> Result<()> {
        imports::calls::split_connection(connection_id)
    }
    /// End the running IVR command at once; `get_ivr_command` is asked for the next one.
    pub fn interrupt_ivr_command() -> Result<()> {
        imports::calls::interrupt_ivr_command()
    }
    /// Call somebody into the IVR.
    pub fn place_ivr_call(call: &IvrCall) -> Result<PlacedCall> {
        imports::calls::place_ivr_call(call)
    }
    /// Call somebody from a device.
    pub fn place_remote_call(call: &DeviceCall) -> Result<PlacedCall> {
        imports::calls::place_remote_call(call)
    }
    /// Send 180 to the remote call of this session.
    pub fn send_remote_call_ringback() -> Result<()> {
        imports::calls::send_remote_call_ringback()
    }
    /// Answer the remote call of this session with the device's media.
    pub fn answer_remote_call(endpoint: &RtpEndpoint, session_reference: Option<&str>) -> Result<()> {
        imports::calls::answer_remote_call(endpoint, session_reference)
    }
    /// Release, or refuse, the remote call of this session.
    pub fn hangup_call() -> Result<()> {
        imports::calls::hangup_call()
    }
    /// Ask a leg's party to call somebody else, within the tenant's destinations. The leg ends when that call is answered, and stays as it is
    /// where it is not; notification `transfer-state` tells how it goes.
    pub fn transfer(participant_id: &str, target: &TransferTarget) -> Result<()> {
        imports::calls::transfer(participant_id, target)
    }
    /// Send digits (`0`-`9`, `*`, `#`, `A`-`D`, at most 64) into a leg, each for so many milliseconds: 40 to 2000, 100 if not given.
    pub fn send_dtmf(participant_id: &str, digits: &str, digit_ms: Option<u32>) -> Result<()> {
        imports::calls::send_dtmf(participant_id, digits, digit_ms)
    }
    /// Put a leg on hold that is connected with another one; neither hears the other. It ends with the connection.
    pub fn hold(participant_id: &str, audio: &HoldAudio) -> Result<()> {
        imports::calls::hold(participant_id, audio)
    }
    /// Take a leg from hold. Nothing is done where it is not on hold.
    pub fn resume(participant_id: &str) -> Result<()> {
        imports::calls::resume(participant_id)
    }
    /// Mute or unmute a leg, for the rest of its call, whoever it is connected with.
    pub fn mute(participant_id: &str, direction: MuteDirection) -> Result<()> {
        imports::calls::mute(participant_id, direction)
    }
    /// Play phrases to a leg outside the IVR.
    pub fn play(participant_id: &str, phrases: &[Phrase]) -> Result<()> {
        imports::calls::play(participant_id, phrases)
    }
}

/// Recordings of the handler's own session, beside the IVR's record phrase. A recording is named by its id or its control id; `None` is the
/// one that was started last.
///
/// ```
/// use hookswitch_sdk::types::{CallAnswered, RecordingOptions, RecordingTarget};
/// use hookswitch_sdk::{Result, recordings};
///
/// fn on_answer(answered: &CallAnswered) -> Result<String> {
///     let both = RecordingTarget::Connection(answered.connection_id.clone());
///     Ok(recordings::start(&both, &RecordingOptions::default(), &[])?)
/// }
/// ```
pub mod recordings {
    use super::{Result, imports};
    use crate::types::{PauseBehavior, Phrase, RecordingOptions, RecordingTarget};
    pub use crate::wit::hookswitch::call::recordings::RecordingStatus;

    /// Start one and get its id. The prompts play before its beep.
    pub fn start(target: &RecordingTarget, options: &RecordingOptions, prompts: &[Phrase]) -> Result<String> {
        imports::recordings::start(target, options, prompts)
    }
    /// Stop it and keep it. Stopping one that has ended is no error.
    pub fn stop(recording: Option<&str>) -> Result<()> {
        imports::recordings::stop(recording)
    }
    /// Pause it; `None`: as its options say.
    pub fn pause(recording: Option<&str>, behavior: Option<PauseBehavior>) -> Result<()> {
        imports::recordings::pause(recording, behavior)
    }
    /// Go on with it.
    pub fn resume(recording: Option<&str>) -> Result<()> {
        imports::recordings::resume(recording)
    }
    /// Stop it and throw it away.
    pub fn discard(recording: Option<&str>) -> Result<()> {
        imports::recordings::discard(recording)
    }
    /// Ask where it stands.
    pub fn get(recording: Option<&str>) -> Result<RecordingStatus> {
        imports::recordings::get(recording)
    }
}

/// The tenant's prompt files. What was recorded is fetched by its URL.
pub mod prompts {
    use super::{Result, imports};
    pub use crate::wit::hookswitch::call::prompts::PromptInfo;

    /// Read up to 65,536 bytes of a file from an offset; empty at its end.
    pub fn read(file_name: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        imports::prompts::read(file_name, offset, length)
    }
    /// Create or replace a file, at most 192 KiB. It must decode as audio.
    pub fn write(file_name: &str, content: &[u8]) -> Result<()> {
        imports::prompts::write(file_name, content)
    }
    /// Delete a file.
    pub fn delete(file_name: &str) -> Result<()> {
        imports::prompts::delete(file_name)
    }
    /// What is known of a file.
    pub fn stat(file_name: &str) -> Result<PromptInfo> {
        imports::prompts::stat(file_name)
    }
}

/// The tenant's keys and values, shared by all its calls and versions, and not rolled back when a version is. A tenant has 16 MiB of them,
/// and 1000 looks a second; more is [`HostError::Limit`](crate::HostError::Limit). A write takes about 10 ms: it is on disk when it returns.
///
/// ```
/// use hookswitch_sdk::{NewCall, Result, Route, store};
///
/// fn new_call(call: &NewCall) -> Result<Route> {
///     let calls = store::increment(&format!("calls/{}", call.calling_party), 1)?;
///     Ok(if calls > 100 { Route::drop("busy") } else { Route::ivr() })
/// }
/// ```
pub mod store {
    use super::{Result, imports};
    use crate::HostError;
    pub use crate::wit::hookswitch::call::store::Entry;

    /// Tries of [`update`]: one fails only where somebody else's succeeded meanwhile.
    const TRIES: usize = 8;

    /// Read a key (at most 256 bytes); `None` when it has no value.
    pub fn get(key: &str) -> Result<Option<Entry>> {
        imports::store::get(key)
    }
    /// The same as text.
    pub fn get_text(key: &str) -> Result<Option<String>> {
        Ok(get(key)?.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
    }
    /// Write a value of at most 65,536 bytes, perhaps only for so many milliseconds (1 at least).
    pub fn set(key: &str, value: impl AsRef<[u8]>, ttl_ms: Option<u64>) -> Result<()> {
        imports::store::set(key, value.as_ref(), ttl_ms)
    }
    /// Write it only if its version is still this (0: it has no value). `false`: somebody else was faster.
    pub fn set_if(key: &str, value: impl AsRef<[u8]>, version: u64, ttl_ms: Option<u64>) -> Result<bool> {
        imports::store::set_if(key, value.as_ref(), version, ttl_ms)
    }
    /// Change a value by what it is, so that no change of another call is lost; it is given again what there is when somebody was faster.
    /// Gives what was written.
    ///
    /// ```
    /// use hookswitch_sdk::{Result, store};
    ///
    /// fn remember(caller: &str) -> Result<()> {
    ///     store::update("last-callers", None, |before| {
    ///         let before = String::from_utf8_lossy(before.unwrap_or_default()).into_owned();
    ///         let callers: Vec<&str> = std::iter::once(caller).chain(before.lines()).take(10).collect();
    ///         callers.join("\n").into_bytes()
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    pub fn update(key: &str, ttl_ms: Option<u64>, mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<Vec<u8>> {
        for _ in 0..TRIES {
            let before = get(key)?;
            let after = change(before.as_ref().map(|entry| entry.value.as_slice()));
            if set_if(key, &after, before.map_or(0, |entry| entry.version), ttl_ms)? {
                return Ok(after);
            }
        }
        Err(HostError::NotAvailable(format!("{key}: others change it all the time")))
    }
    /// Delete it. Deleting nothing is no error.
    pub fn delete(key: &str) -> Result<()> {
        imports::store::delete(key)
    }
    /// Add to a number (decimal text) and get the sum. A key without value counts as 0; one that has a time to live keeps it.
    pub fn increment(key: &str, by: i64) -> Result<i64> {
        imports::store::increment(key, by)
    }
    /// At most 100 keys that begin so, in order, after this one.
    pub fn keys(prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
        imports::store::keys(prefix, after)
    }
}

/// Requests to the outside whose answer the handler needs now: the caller waits with it. Only to the tenant's allow-list, and never into
/// the node's own network. What must arrive but need not be answered is better off in the [`outbox`](crate::outbox).
///
/// ```
/// use hookswitch_sdk::http::{Request, fetch};
/// use hookswitch_sdk::{NewCall, Result, Route, secrets};
///
/// fn new_call(call: &NewCall) -> Result<Route> {
///     let key = secrets::get("crm-key")?;
///     let url = format!("https://crm.example.com/agents/{}", call.called_party);
///     let answer = fetch(&Request::get(url).header("Authorization", format!("Bearer {key}")).timeout_ms(800))?;
///     Ok(if answer.is_success() { Route::call(answer.text()) } else { Route::ivr() })
/// }
/// ```
pub mod http {
    use super::{Result, imports};
    pub use crate::wit::hookswitch::call::http::{Request, Response};

    impl Request {
        fn new(method: &str, url: impl Into<String>) -> Request {
            Request { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout_ms: None }
        }
        /// To read.
        pub fn get(url: impl Into<String>) -> Request {
            Request::new("GET", url)
        }
        /// To send something: at most 65,536 bytes of this type.
        pub fn post(url: impl Into<String>, content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Request {
            Request { body: body.into(), ..Request::new("POST", url).header("Content-Type", content_type) }
        }
        /// One more header line.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
            self.headers.push((name.into(), value.into()));
            self
        }
        /// Wait so long for the whole answer; a second if not said, and never longer than the hook may take.
        pub fn timeout_ms(self, ms: u32) -> Request {
            Request { timeout_ms: Some(ms), ..self }
        }
    }

    impl Response {
        /// 200 to 299.
        pub fn is_success(&self) -> bool {
            (200..300).contains(&self.status)
        }
        /// The body as text.
        pub fn text(&self) -> String {
            String::from_utf8_lossy(&self.body).into_owned()
        }
        /// The first header of this name.
        pub fn header(&self, name: &str) -> Option<&str> {
            self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        }
    }

    /// Send it and wait. At most 4 for each hook. A status of 400 or more is an answer, no error. Redirects are not followed.
    pub fn fetch(request: &Request) -> Result<Response> {
        imports::http::fetch(request)
    }
    /// GET with the default time limit of a second.
    pub fn get(url: impl Into<String>) -> Result<Response> {
        fetch(&Request::get(url))
    }
}

/// Posts to the outside that must arrive, sooner or later: durable, in order for each session, retried for up to 24 h. Only to the
/// tenant's allow-list. It is on disk when `post` returns, and each try says the same `Hookswitch-Event-Id`.
///
/// ```
/// use hookswitch_sdk::{Result, outbox};
///
/// fn tell() -> Result<String> {
///     Ok(outbox::post_json("https://hooks.example.com/calls", r#"{"call":"ended"}"#)?)
/// }
/// ```
pub mod outbox {
    use super::{Result, imports};
    pub use crate::wit::hookswitch::call::outbox::PostRequest;

    /// Keep it and return at once with its event id, which goes out with every try.
    pub fn post(post: &PostRequest) -> Result<String> {
        imports::outbox::post(post)
    }
    /// Posts JSON text, without further headers and without a report.
    pub fn post_json(url: impl Into<String>, json: impl Into<String>) -> Result<String> {
        let (url, body) = (url.into(), json.into().into_bytes());
        post(&PostRequest { url, content_type: "application/json".into(), headers: Vec::new(), body, report: false })
    }
}

/// Settings that the tenant keeps beside the handler (`hookswitch guest config set KEY VALUE`): they change without a new version, and hold
/// for the whole session.
pub mod config {
    use super::imports;

    /// A setting; `None` when it is not set.
    pub fn get(key: &str) -> Option<String> {
        imports::config::get(key)
    }
    /// A setting, else this.
    pub fn get_or(key: &str, default: &str) -> String {
        get(key).unwrap_or_else(|| default.to_owned())
    }
    /// A setting as a number or whatever else a text can be; `None` when it is not set, or is none.
    pub fn parse<T: std::str::FromStr>(key: &str) -> Option<T> {
        get(key)?.trim().parse().ok()
    }
}

/// Secrets that the tenant keeps on the node (`hookswitch guest secret set NAME`, the value from stdin). Never put one in a log, though the
/// node covers those that it finds there.
pub mod secrets {
    use super::{Result, imports};

    /// A secret by name.
    pub fn get(name: &str) -> Result<String> {
        imports::secrets::get(name)
    }
}

/// The tenant's log: `log::info!("call from {}", call.calling_party)`. A line holds 1024 bytes, a session 16 KiB; more is cut and dropped.
/// Never put digits, keys or tokens in it.
pub mod log {
    use super::imports;
    pub use crate::wit::hookswitch::call::log::Level;
    pub use crate::{log_debug as debug, log_error as error, log_info as info, log_warn as warn};

    /// Write a line. The macros beside it are shorter.
    pub fn write(level: Level, message: &str) {
        imports::log::write(level, message)
    }
}

/// Time. `std::time` has no clock in a handler.
pub mod clock {
    use super::imports;

    /// Milliseconds since the Unix epoch.
    pub fn now_ms() -> u64 {
        imports::clock::now_ms()
    }
    /// Nanoseconds since some moment in the past; never goes back.
    pub fn monotonic_ns() -> u64 {
        imports::clock::monotonic_ns()
    }
    /// The same as [`now_ms`], as a duration since the Unix epoch.
    pub fn now() -> std::time::Duration {
        std::time::Duration::from_millis(now_ms())
    }
}

/// Randomness, different in each session and fit for secrets.
pub mod random {
    use super::imports;

    /// 64 bits.
    pub fn get_u64() -> u64 {
        imports::random::get_u64()
    }
    /// So many bytes, at most 4096; more is cut.
    pub fn get_bytes(length: u32) -> Vec<u8> {
        imports::random::get_bytes(length)
    }
    /// A version 4 UUID.
    pub fn uuid() -> String {
        imports::random::uuid()
    }
}

/// Timers of the session. They end with it.
///
/// ```
/// use hookswitch_sdk::{Notification, Result, calls, timers};
/// use std::time::Duration;
///
/// fn begin() -> Result<()> {
///     Ok(timers::after("too-long", Duration::from_secs(600))?)
/// }
/// fn notify(news: &Notification, participant: &str) -> Result<()> {
///     match news {
///         Notification::Timer(timer) if timer.name == "too-long" => Ok(calls::hangup_participant(participant)?),
///         _ => Ok(()),
///     }
/// }
/// ```
pub mod timers {
    use super::{Result, imports};

    /// Send notification `timer` with this name (at most 64 bytes) after so many milliseconds, 10 to 14,400,000. The same name again moves it. At
    /// most 16 in a session.
    pub fn set(name: &str, after_ms: u64) -> Result<()> {
        imports::timers::set(name, after_ms)
    }
    /// The same with a duration.
    pub fn after(name: &str, time: std::time::Duration) -> Result<()> {
        set(name, u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
    /// Forget it. Forgetting none is no error.
    pub fn cancel(name: &str) -> Result<()> {
        imports::timers::cancel(name)
    }
}

/// `log::info!("call from {}", call.calling_party)`
#[doc(hidden)]
#[macro_export]
macro_rules! log_info {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($text)+)) };
}
/// As `log::info!`, for finding faults.
#[doc(hidden)]
#[macro_export]
macro_rules! log_debug {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)+)) };
}
/// As `log::info!`, for what should not happen.
#[doc(hidden)]
#[macro_export]
macro_rules! log_warn {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($text)+)) };
}
/// As `log::info!`, for what went wrong.
#[doc(hidden)]
#[macro_export]
macro_rules! log_error {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($text)+)) };
}
