//! What a caller in the IVR hears and does next: the answer to `get_ivr_command`. Start with [`Ivr`].

use crate::Route;
use crate::types::{
    AudioSource, Background, BackgroundPrompt, BargeIn, CacheTime, Collect, DigitProtection, Extension, FilePhrase, IvrCommand, Phrase,
    RecordingOptions, SayPhrase, TonePhrase, TtsPhrase, UrlPhrase,
};
use std::fmt;

/// One command: phrases, one after the other without a gap; then digits, if asked for; then the next `get_ivr_command`, or the end.
///
/// ```
/// # use hookswitch_sdk::Ivr;
/// Ivr::play("menu.wav").barge_in_all().collect(1).timeout_s(10);
/// Ivr::record("message.wav").beep().max_s(120).stop_on("#");
/// Ivr::play("pin.wav").collect(6).terminate_on("#").between_s(4);
/// Ivr::play("goodbye.wav").then_hangup();
/// ```
///
/// Methods that need something before them (`beep` a recording, for instance) do nothing without it; the call's log says so, and
/// the harness in [`testing`](crate::testing) fails the test.
///
/// A command that takes no time is legal, but the node asks again at once; after ten of them it slows down, after fifty it releases the
/// call. Give each command something to play, to collect or to wait for, or an end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ivr {
    /// Boxed: each builder takes and gives it, and a handler's stack, whose pages stay with its call, would hold a copy for each.
    pub(crate) command: Box<IvrCommand>,
    pub(crate) mistakes: Vec<&'static str>,
}

impl From<IvrCommand> for Ivr {
    fn from(command: IvrCommand) -> Ivr {
        Ivr { command: Box::new(command), mistakes: Vec::new() }
    }
}

fn ms(seconds: u32) -> u32 {
    seconds.saturating_mul(1000)
}

/// How a command begins.
impl Ivr {
    /// Plays nothing.
    pub fn new() -> Ivr {
        Ivr::default()
    }
    /// Plays a file of the tenant's prompts.
    pub fn play(file_name: impl Into<String>) -> Ivr {
        Ivr::new().then_play(file_name)
    }
    /// Plays a tone.
    pub fn tone(tone: TonePhrase) -> Ivr {
        Ivr::new().then_tone(tone)
    }
    pub fn silence_ms(ms: u32) -> Ivr {
        Ivr::new().then_silence_ms(ms)
    }
    /// Records the caller into this file.
    pub fn record(file_name: impl Into<String>) -> Ivr {
        Ivr::new().then_record(file_name)
    }
    /// Sends back what the caller says for so long: for testing a line.
    pub fn echo_s(seconds: u32) -> Ivr {
        Ivr::new().then_echo_s(seconds)
    }
    /// Plays audio from elsewhere, within the tenant's allowed origins.
    pub fn play_url(url: impl Into<String>) -> Ivr {
        Ivr::new().then_play_url(url)
    }
    /// Speaks a text by the node's own engine: `Ivr::speak("Welcome.", "en-GB")`.
    pub fn speak(text: &str, language: &str) -> Ivr {
        Ivr::new().then_speak(text, language)
    }
    /// Says a value: `Ivr::say("number", "42", "en-GB")`; kinds are `number`, `digits`, `date`, `time`, `currency`.
    pub fn say(kind: impl Into<String>, value: impl Into<String>, language: impl Into<String>) -> Ivr {
        Ivr::new().then_say(kind, value, language)
    }
    /// Releases the party at once.
    pub fn hangup() -> Ivr {
        Ivr::new().then_hangup()
    }
    /// Leaves the IVR at once.
    pub fn route(route: Route) -> Ivr {
        Ivr::new().then_route(route)
    }
}

/// What follows.
impl Ivr {
    /// Any phrase.
    pub fn then(mut self, phrase: Phrase) -> Ivr {
        self.command.phrases.push(phrase);
        self
    }
    pub fn then_play(self, file_name: impl Into<String>) -> Ivr {
        self.then(Phrase::File(FilePhrase { file_name: file_name.into(), extra: Vec::new() }))
    }
    /// Audio from elsewhere, within the tenant's allowed origins.
    pub fn then_play_url(self, url: impl Into<String>) -> Ivr {
        let url = url.into();
        self.then(Phrase::Url(UrlPhrase { url, cache_time_to_live: None, refresh_cache: false, file_name: None, extra: Vec::new() }))
    }
    pub fn then_tone(self, tone: TonePhrase) -> Ivr {
        self.then(Phrase::Tone(tone))
    }
    pub fn then_silence_ms(self, ms: u32) -> Ivr {
        self.then(Phrase::Silence(ms))
    }
    #[inline(never)] // Its options are large: they lie on the stack only here.
    pub fn then_record(self, file_name: impl Into<String>) -> Ivr {
        self.then(Phrase::Record(RecordingOptions { file_name: Some(file_name.into()), ..RecordingOptions::default() }))
    }
    pub fn then_echo_s(self, seconds: u32) -> Ivr {
        self.then(Phrase::Echo(ms(seconds)))
    }
    pub fn then_say(self, kind: impl Into<String>, value: impl Into<String>, language: impl Into<String>) -> Ivr {
        self.then(Phrase::Say(SayPhrase { kind: kind.into(), value: value.into(), language: language.into(), extra: Vec::new() }))
    }
    /// Speaks a text by the node's own engine.
    pub fn then_speak(self, text: &str, language: &str) -> Ivr {
        self.then_tts("local", format!("{{\"text\":{},\"language\":{}}}", quoted(text), quoted(language)))
    }
    /// Speech synthesis: engine (`local`, `awstts`, `googletts`) and its parameters as JSON.
    pub fn then_tts(self, engine: impl Into<String>, parameters: impl Into<String>) -> Ivr {
        self.then(Phrase::Tts(TtsPhrase {
            engine: engine.into(),
            parameters: parameters.into(),
            cache_time_to_live: None,
            refresh_cache: false,
            file_name: None,
            extra: Vec::new(),
        }))
    }
    /// Release the party after the phrases.
    pub fn then_hangup(mut self) -> Ivr {
        self.command.hangup = true;
        self
    }
    /// Leave the IVR after the phrases.
    pub fn then_route(mut self, route: Route) -> Ivr {
        self.mistakes.extend(route.mistakes);
        self.command.routing = Some(*route.routing);
        self
    }
}

/// What becomes of audio that was fetched or synthesised: each of these is about the last `play_url`, `speak` or `tts`.
impl Ivr {
    /// The node keeps it so long; a week if not given.
    pub fn keep_for(self, time: CacheTime) -> Ivr {
        self.made("Ivr::keep_for needs play_url or speak before it", |keep, _, _| *keep = Some(time))
    }
    /// It is fetched or synthesised anew now, in place of what is kept.
    pub fn refresh(self) -> Ivr {
        self.made("Ivr::refresh needs play_url or speak before it", |_, refresh, _| *refresh = true)
    }
    /// It becomes a prompt of the tenant under this name.
    pub fn keep_as(self, file_name: impl Into<String>) -> Ivr {
        self.made("Ivr::keep_as needs play_url or speak before it", |_, _, name| *name = Some(file_name.into()))
    }

    fn made(mut self, mistake: &'static str, change: impl FnOnce(&mut Option<CacheTime>, &mut bool, &mut Option<String>)) -> Ivr {
        let last = self.command.phrases.iter_mut().rev().find_map(|phrase| match phrase {
            Phrase::Url(url) => Some((&mut url.cache_time_to_live, &mut url.refresh_cache, &mut url.file_name)),
            Phrase::Tts(tts) => Some((&mut tts.cache_time_to_live, &mut tts.refresh_cache, &mut tts.file_name)),
            _ => None,
        });
        match last {
            Some((keep, refresh, name)) => change(keep, refresh, name),
            None => self.mistakes.push(mistake),
        }
        self
    }
}

/// Digits.
impl Ivr {
    /// Then wait for so many digits.
    pub fn collect(mut self, max_digits: u32) -> Ivr {
        self.command.dtmf.get_or_insert_default().max_digits = Some(max_digits);
        self
    }
    /// Then wait for any number of digits until one of these keys; each character is one.
    pub fn collect_until(mut self, keys: impl Into<String>) -> Ivr {
        self.command.dtmf.get_or_insert_default().termination_keys = keys.into();
        self
    }
    /// Of a collection: keys that end it early.
    pub fn terminate_on(self, keys: impl Into<String>) -> Ivr {
        self.collecting("Ivr::terminate_on needs collect before it", |collect| collect.termination_keys = keys.into())
    }
    /// Of a collection: how long to wait for the first digit, from the end of the phrases. 30 s if not given.
    pub fn timeout_s(self, seconds: u32) -> Ivr {
        self.collecting("Ivr::timeout_s needs collect before it", |collect| collect.first_timeout_ms = Some(ms(seconds)))
    }
    /// Of a collection: how long to wait between digits. 3 s if not given.
    pub fn between_s(self, seconds: u32) -> Ivr {
        self.collecting("Ivr::between_s needs collect before it", |collect| collect.between_timeout_ms = Some(ms(seconds)))
    }
    /// Of a collection: what was typed before this command does not count.
    pub fn flush(self) -> Ivr {
        self.collecting("Ivr::flush needs collect before it", |collect| collect.flush = true)
    }
    /// Of a collection: the handler gets a hash in place of the digits (of a PIN, say), and no log shows them. Short inputs stay guessable.
    pub fn protect(self, protection: DigitProtection) -> Ivr {
        self.collecting("Ivr::protect needs collect before it", |collect| collect.encryption = Some(protection))
    }
    /// A digit ends all phrases.
    pub fn barge_in_all(mut self) -> Ivr {
        self.command.barge_in = BargeIn::All;
        self
    }
    /// A digit ends the phrase that plays; the next one follows.
    pub fn barge_in_current(mut self) -> Ivr {
        self.command.barge_in = BargeIn::Current;
        self
    }

    fn collecting(mut self, mistake: &'static str, change: impl FnOnce(&mut Collect)) -> Ivr {
        match &mut self.command.dtmf {
            Some(collect) => change(collect),
            None => self.mistakes.push(mistake),
        }
        self
    }
}

/// Recording: each of these is about the last `record`.
impl Ivr {
    /// A short beep before; it is not in the file.
    pub fn beep(self) -> Ivr {
        self.recording("Ivr::beep needs record before it", |record| record.beep = true)
    }
    /// Ends after so many seconds.
    pub fn max_s(self, seconds: u32) -> Ivr {
        self.recording("Ivr::max_s needs record before it", |record| record.max_duration_ms = Some(ms(seconds)))
    }
    /// Any of these keys ends it; the key's sound is cut from the file.
    pub fn stop_on(self, keys: impl Into<String>) -> Ivr {
        self.recording("Ivr::stop_on needs record before it", |record| record.stop_digits = Some(keys.into()))
    }
    /// Ends when nobody spoke for so many seconds after the first word.
    pub fn max_silence_s(self, seconds: u32) -> Ivr {
        self.recording("Ivr::max_silence_s needs record before it", |record| record.max_silence_ms = Some(ms(seconds)))
    }
    /// Ends when nobody has spoken at all for so many seconds.
    pub fn initial_silence_s(self, seconds: u32) -> Ivr {
        self.recording("Ivr::initial_silence_s needs record before it", |record| record.initial_silence_ms = Some(ms(seconds)))
    }
    /// Everything else that [`RecordingOptions`] says.
    pub fn with_recording(self, change: impl FnOnce(&mut RecordingOptions)) -> Ivr {
        self.recording("Ivr::with_recording needs record before it", change)
    }
    /// `notify` gets `recording-ready` when a recording of this command is stored.
    pub fn recorded_callback(mut self) -> Ivr {
        self.command.recorded_callback = true;
        self
    }

    fn recording(mut self, mistake: &'static str, change: impl FnOnce(&mut RecordingOptions)) -> Ivr {
        let last = self.command.phrases.iter_mut().rev().find_map(|phrase| match phrase {
            Phrase::Record(record) => Some(record),
            _ => None,
        });
        match last {
            Some(record) => change(record),
            None => self.mistakes.push(mistake),
        }
        self
    }
}

/// The rest.
impl Ivr {
    /// Loop this file under everything, 15 dB down while phrases play, until [`stop_background`](Ivr::stop_background) or the end of the IVR.
    pub fn background(self, file_name: impl Into<String>) -> Ivr {
        self.looping(AudioSource::File(file_name.into()))
    }
    /// The same with audio from elsewhere, within the tenant's allowed origins.
    pub fn background_url(self, url: impl Into<String>) -> Ivr {
        self.looping(AudioSource::Url(url.into()))
    }
    /// Of a background: silence between two rounds.
    pub fn background_pause_s(mut self, seconds: u32) -> Ivr {
        match &mut self.command.background {
            Some(Background::Play(prompt)) => prompt.repeat_pause_ms = ms(seconds),
            _ => self.mistakes.push("Ivr::background_pause_s needs background before it"),
        }
        self
    }
    fn looping(mut self, source: AudioSource) -> Ivr {
        self.command.background = Some(Background::Play(BackgroundPrompt { source, repeat_pause_ms: 0, extra: Vec::new() }));
        self
    }
    pub fn stop_background(mut self) -> Ivr {
        self.command.background = Some(Background::Stop);
        self
    }
    /// Ask for the next command only so many seconds after this one ended: for waiting loops.
    pub fn next_after_s(mut self, seconds: u32) -> Ivr {
        self.command.next_after_ms = ms(seconds);
        self
    }
    /// Gives the session JSON text to keep: see [`Route::remember`].
    pub fn remember(mut self, session_reference: impl Into<String>) -> Ivr {
        self.command.session_reference = Some(session_reference.into());
        self
    }
    /// A part that a newer node knows, its data as JSON.
    pub fn ext(mut self, name: impl Into<String>, json: impl Into<String>) -> Ivr {
        self.command.ext.push(Extension { name: name.into(), json: json.into() });
        self
    }

    /// What the node gets.
    pub fn as_command(&self) -> &IvrCommand {
        &self.command
    }
}

/// A second at -15 dBm0, unbroken, unless told otherwise: `TonePhrase::hz([425.0]).cadence_ms(1000, 500).for_ms(6000)`.
impl TonePhrase {
    /// One to four frequencies at once.
    pub fn hz(hz: impl IntoIterator<Item = f32>) -> TonePhrase {
        TonePhrase { hz: hz.into_iter().collect(), level_dbm0: -15.0, on_ms: 1000, off_ms: 0, total_ms: 1000 }
    }
    pub fn level_dbm0(mut self, level: f32) -> TonePhrase {
        self.level_dbm0 = level;
        self
    }
    /// So long altogether.
    pub fn for_ms(mut self, ms: u32) -> TonePhrase {
        self.total_ms = ms;
        self
    }
    /// On and off, over and over.
    pub fn cadence_ms(mut self, on: u32, off: u32) -> TonePhrase {
        (self.on_ms, self.off_ms) = (on, off);
        self
    }
}

/// As JSON has it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn seconds(ms: u32) -> String {
    format!("{} s", f64::from(ms) / 1000.0)
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phrase::File(file) => write!(f, "play {}", file.file_name),
            Phrase::Url(url) => write!(f, "play {}", url.url),
            Phrase::Tts(tts) => write!(f, "speak by {}", tts.engine),
            Phrase::Tone(tone) => {
                let hz: Vec<_> = tone.hz.iter().map(f32::to_string).collect();
                write!(f, "tone {} Hz {}", hz.join("+"), seconds(tone.total_ms))
            }
            Phrase::Silence(ms) => write!(f, "silence {}", seconds(*ms)),
            Phrase::Record(record) => {
                write!(f, "record {}", record.file_name.as_deref().unwrap_or("(unnamed)"))?;
                if record.beep {
                    f.write_str(" after a beep")?;
                }
                if let Some(max) = record.max_duration_ms {
                    write!(f, " up to {}", seconds(max))?;
                }
                match record.stop_digits.as_deref() {
                    Some(keys) if !keys.is_empty() => write!(f, " until {keys}"),
                    _ => Ok(()),
                }
            }
            Phrase::Echo(ms) => write!(f, "echo {}", seconds(*ms)),
            Phrase::Say(say) => write!(f, "say {} {}", say.kind, say.value),
            Phrase::Ext(ext) => write!(f, "ext {}", ext.name),
        }
    }
}

impl fmt::Display for Ivr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)
    }
}

impl fmt::Display for IvrCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<String> = self.phrases.iter().map(Phrase::to_string).collect();
        match &self.background {
            Some(Background::Play(prompt)) => steps.push(match &prompt.source {
                AudioSource::File(name) | AudioSource::Url(name) => format!("in the background {name}"),
                AudioSource::Ext(ext) => format!("in the background ext {}", ext.name),
            }),
            Some(Background::Stop) => steps.push("stop the background".into()),
            Some(Background::Ext(_)) | None => {}
        }
        if let Some(collect) = &self.dtmf {
            let most = collect.max_digits.map(|n| format!(" {n}")).unwrap_or_default();
            let keys = if collect.termination_keys.is_empty() { String::new() } else { format!(" until {}", collect.termination_keys) };
            steps.push(format!("collect{most}{keys}"));
        }
        steps.extend(self.routing.iter().map(|routing| routing.to_string()));
        if self.hangup {
            steps.push("hang up".into());
        }
        f.write_str(&if steps.is_empty() { "nothing".into() } else { steps.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_read_like_the_call() {
        let check = |ivr: Ivr, text: &str| assert_eq!((ivr.to_string().as_str(), ivr.mistakes.as_slice()), (text, [].as_slice()));
        check(Ivr::play("menu.wav").barge_in_all().collect(1).timeout_s(10), "play menu.wav, collect 1");
        check(Ivr::record("m.wav").beep().max_s(120).stop_on("#"), "record m.wav after a beep up to 120 s until #");
        check(Ivr::play("a").then_play("b").then_hangup(), "play a, play b, hang up");
        check(Ivr::tone(TonePhrase::hz([425.0]).for_ms(500)), "tone 425 Hz 0.5 s");
        check(Ivr::play("pin").collect_until("#").between_s(5), "play pin, collect until #");
        check(Ivr::play("a").then_route(Route::call("sip:x@y")), "play a, call sip:x@y");
        check(Ivr::new(), "nothing");
        check(Ivr::play("a").background("wait.wav").background_pause_s(2), "play a, in the background wait.wav");
        check(Ivr::speak("Hi", "en").stop_background(), "speak by local, stop the background");
        check(Ivr::play_url("https://x/a.wav").keep_as("a.wav").refresh(), "play https://x/a.wav");
    }

    #[test]
    fn what_is_spoken_is_json_whatever_it_is() {
        let ivr = Ivr::speak("say \"hi\" \\ twice\n, å", "sv-SE").keep_for(CacheTime::Day).then_play("b").keep_as("hi.wav");
        let Phrase::Tts(tts) = &ivr.command.phrases[0] else { panic!("{ivr}") };
        assert_eq!(tts.parameters, r#"{"text":"say \"hi\" \\ twice\u000a, å","language":"sv-SE"}"#);
        assert_eq!((tts.cache_time_to_live, tts.file_name.as_deref(), tts.refresh_cache), (Some(CacheTime::Day), Some("hi.wav"), false));
        assert!(Ivr::play("a").refresh().mistakes[0].contains("refresh"));
    }

    #[test]
    fn a_setting_goes_to_the_last_recording() {
        let ivr = Ivr::record("a").then_play("b").then_record("c").beep().then_play("d").max_s(9);
        let records: Vec<_> = ivr.command.phrases.iter().filter_map(|p| if let Phrase::Record(r) = p { Some(r) } else { None }).collect();
        assert_eq!((records[0].beep, records[1].beep, records[1].max_duration_ms), (false, true, Some(9000)));
    }

    #[test]
    fn a_setting_of_nothing_is_a_mistake() {
        let ivr = Ivr::play("a").beep().timeout_s(3).then_route(Route::ivr().private());
        assert_eq!(ivr.mistakes.len(), 3);
        assert!(ivr.mistakes[0].contains("beep") && ivr.mistakes[1].contains("timeout_s") && ivr.mistakes[2].contains("Route::call"));
    }
}
