//! A handler for the end-to-end tests: it uses all that the node offers beside the call (settings, secrets, values, prompts, requests, posts, timers)
//! and writes down what came of it.

use hookswitch_sdk::http::{Request, fetch};
use hookswitch_sdk::{Handler, HostError, Ivr, IvrRequest, NewCall, Notification, Result, Route, Tone};
use hookswitch_sdk::{config, log, outbox, prompts, secrets, store, timers};
use std::time::Duration;

#[derive(Default)]
pub struct Hosts {
    base: String,
}

impl Handler for Hosts {
    fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
        self.base = config::get_or("url", "http://127.0.0.1:1/");
        log::info!("greeting {:?}, tries {:?}", config::get("greeting"), config::parse::<u32>("tries"));
        let token = match secrets::get("token") {
            Ok(token) => token,
            Err(error) => {
                log::info!("no secret: {error:?}");
                String::new()
            }
        };
        log::warn!("the secret is {token}, which should not be here");
        self.values()?;
        if let Err(error) = self.prompts() {
            log::info!("no prompts: {error:?}");
        }
        self.requests(&token);
        timers::after("tick", Duration::from_millis(400))?;
        timers::after("never", Duration::from_millis(500))?;
        timers::cancel("never")?;
        if let Err(error) = timers::after("too-soon", Duration::from_millis(1)) {
            log::info!("timer: {error:?}");
        }
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
        Ok(Ivr::tone(Tone::hz([440.0]).for_ms(2500)).then_hangup())
    }

    fn notify(&mut self, news: &Notification) {
        if let Notification::Timer(timer) = news {
            log::info!("timer {} is due", timer.name);
            if let Err(error) = outbox::post_json(format!("{}told", self.base), r#"{"timer":"due"}"#) {
                log::info!("post: {error:?}");
            }
        }
    }
}

impl Hosts {
    fn values(&self) -> Result<()> {
        log::info!("calls {}", store::increment("calls", 1)?);
        store::set("a/1", "one", None)?;
        let version = store::get("a/1")?.map_or(0, |entry| entry.version);
        let (first, second) = (store::set_if("a/1", "two", version, None)?, store::set_if("a/1", "three", version, None)?);
        log::info!("set-if {first} {second}: {:?}", store::get_text("a/1")?);
        store::set("a/2", "brief", Some(1))?;
        store::set("a/3", "gone", None)?;
        store::delete("a/3")?;
        store::update("a/4", None, |before| [before.unwrap_or_default(), b"x"].concat())?;
        log::info!("keys {:?}, a/4 {:?}", store::keys("a/", None)?, store::get_text("a/4")?);
        if let Err(error) = store::set("", "x", None) {
            log::info!("store: {error:?}");
        }
        Ok(())
    }

    fn prompts(&self) -> Result<()> {
        // 100 ms of a sound, as 16-bit PCM.
        let samples: Vec<u8> = (0..800i16).flat_map(|n| (n % 8 * 1000).to_le_bytes()).collect();
        let length = u32::try_from(samples.len()).unwrap_or_default();
        let mut wav = b"RIFF".to_vec();
        wav.extend((36 + length).to_le_bytes());
        wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
        wav.extend(length.to_le_bytes());
        wav.extend(samples);
        prompts::write("made.wav", &wav)?;
        let about = prompts::stat("made.wav")?;
        log::info!("prompt of {} bytes and {:?} ms, {:?}", about.size_bytes, about.duration_ms, prompts::read("made.wav", 0, 4)?);
        prompts::delete("made.wav")?;
        log::info!("prompt: {:?}", prompts::stat("made.wav").err());
        if let Err(error) = prompts::read("../../admin-token", 0, 64) {
            log::info!("prompt: {error:?}");
        }
        if let Err(error) = prompts::write("text.wav", b"no sound") {
            log::info!("prompt: {error:?}");
        }
        Ok(())
    }

    fn requests(&self, token: &str) {
        match fetch(&Request::get(format!("{}agent", self.base))) {
            Ok(answer) => log::info!("fetched {} {:?}", answer.status, answer.text()),
            Err(error) => log::info!("fetch: {error:?}"),
        }
        let look = Request::post(format!("{}look", self.base), "application/json", r#"{"who":"alice"}"#);
        match fetch(&look.header("Authorization", format!("Bearer {token}")).timeout_ms(2000)) {
            Ok(answer) => log::info!("posted {}", answer.status),
            Err(error) => log::info!("post: {error:?}"),
        }
        match fetch(&Request::get("http://169.254.169.254/latest/meta-data")) {
            Err(HostError::Denied(why)) => log::info!("denied: {why}"),
            other => log::error!("it went there: {other:?}"),
        }
        let _ = fetch(&Request::get("ftp://x"));
        if let Err(HostError::Limit(limit)) = fetch(&Request::get(format!("{}agent", self.base))) {
            log::info!("limit: {limit}");
        }
    }
}

hookswitch_sdk::export!(Hosts);
