//! What the application answers: [`Routing`] to newCall and callEvent, [`Command`] to getIvrCommand. Unknown properties are ignored (IC-014);
//! ranges are the node's to judge, which names the field.

use crate::payload::{Encryption, Reference};
use crate::value::{Pairs, Seconds, Text, Whole};
use hookswitch_sdk::types;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The answer to `/newCall` and `/callEvent`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Routing {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_privacy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_recording: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact_parameters: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact_user_parameters: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_headers: Option<Vec<Text>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_addr: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_code: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greeting: Option<Greeting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ring_time: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_dest_addr: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_p_headers: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_sip_from: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_x_headers: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_headers: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording_file_name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ringback_tone: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_diversion: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_diversion_parameters: Option<Pairs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_from: Option<Text>,
    #[serde(rename = "sipPAI", skip_serializing_if = "Option::is_none")]
    pub sip_pai: Option<Text>,
    #[serde(rename = "sipRPID", skip_serializing_if = "Option::is_none")]
    pub sip_rpid: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_to: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_headers: Option<Pairs>,
    /// Of `httpcall`, like the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_ip: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_port: Option<Whole>,
    /// Of `redirect`, which is ours: 300 to 302, and where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Vec<Text>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Greeting {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play_mode: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Phrases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callee: Option<Phrases>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Phrases {
    #[serde(default)]
    pub phrases: Vec<Phrase>,
}

/// One phrase: `format` says which of the others count.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Phrase {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Text>,
    #[serde(rename = "awsTTSParameters", skip_serializing_if = "Option::is_none")]
    pub aws_tts_parameters: Option<Box<RawValue>>,
    #[serde(rename = "googleTTSParameters", skip_serializing_if = "Option::is_none")]
    pub google_tts_parameters: Option<Box<RawValue>>,
    /// Of `tts`, which is ours: the node's own engine.
    #[serde(rename = "ttsParameters", skip_serializing_if = "Option::is_none")]
    pub tts_parameters: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_time_to_live: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_cache: Option<bool>,
    /// Of `number`, `digits`, `date`, `time` and `currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Text>,
    /// Of `echo` and `silence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Seconds>,
    /// Of `tone`: its frequencies in Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequencies: Option<Vec<Whole>>,
    /// Of `record`, like the next six.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_silence: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_silence: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_digits: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beep: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_on_voice: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announce: Option<bool>,
}

/// The answer to `/getIvrCommand`. With an `action` it leaves the IVR after its phrases by that [`Routing`] (ours, IC-260).
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Command {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtmf: Option<Dtmf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phrases: Option<Vec<Phrase>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background_prompt: Option<BackgroundPrompt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_callback: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hangup: Option<bool>,
    #[serde(rename = "getIVRCommandAfter", skip_serializing_if = "Option::is_none")]
    pub get_ivr_command_after: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Text>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dtmf {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_digits: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_timeout: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_timeout: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_key: Option<Text>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackgroundPrompt {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_pause: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<bool>,
}

/// The answer to `/getCallIdentifier` and `/newRemoteCall`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Identified {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
}

fn plain(text: Option<Text>) -> Option<String> {
    text.map(|Text(text)| text)
}

fn pairs(pairs: Option<Pairs>) -> Vec<(String, String)> {
    pairs.map_or_else(Vec::new, |Pairs(pairs)| pairs)
}

fn json(reference: Reference) -> Option<String> {
    reference.map(|json| json.get().to_owned())
}

fn whole(number: Option<Whole>) -> u32 {
    number.map_or(0, |Whole(number)| u32::try_from(number).unwrap_or(u32::MAX))
}

fn ext(name: &str) -> types::Extension {
    types::Extension { name: name.into(), json: "{}".into() }
}

impl Routing {
    /// What the node is told. An action that is not known, or none at all, goes to the node as it came: the alarm is its own (IC-164, IC-165).
    pub fn into_routing(self) -> types::Routing {
        let action = self.action.as_ref().map_or("", |Text(action)| action).to_owned();
        match action.as_str() {
            "drop" => types::Routing::Drop(types::DropAction {
                drop_code: self.drop_code.map(|Text(code)| code.into()),
                session_reference: json(self.session_reference_id),
                extra: Vec::new(),
            }),
            "ivr" => types::Routing::Ivr(types::IvrAction {
                session_reference: json(self.session_reference_id),
                participant_id: plain(self.participant_id),
                extra: Vec::new(),
            }),
            // IC-162: somebody who is there already.
            "call" if self.dest_addr.is_none() && self.participant_id.is_some() => types::Routing::Join(types::JoinAction {
                participant_id: plain(self.participant_id).unwrap_or_default(),
                session_reference: json(self.session_reference_id),
                call_recording: self.call_recording.unwrap_or(false),
                recording_file_name: plain(self.recording_file_name),
                recording: None,
                extra: Vec::new(),
            }),
            "call" => types::Routing::Call(self.into_call()),
            "httpcall" => types::Routing::Httpcall(types::HttpCall {
                endpoint: types::RtpEndpoint {
                    receive_ip: plain(self.receive_ip).unwrap_or_default(),
                    receive_port: u16::try_from(whole(self.receive_port)).unwrap_or(0),
                    codec: plain(self.codec).unwrap_or_default(),
                    telephone_event_payload_type: None,
                    crypto: Vec::new(),
                },
                session_reference: json(self.session_reference_id),
                extra: Vec::new(),
            }),
            "redirect" => types::Routing::Redirect(types::RedirectAction {
                status: self.status.map_or(302, |Whole(status)| u16::try_from(status).unwrap_or(0)),
                contacts: self.contacts.unwrap_or_default().into_iter().map(|Text(contact)| contact).collect(),
                session_reference: json(self.session_reference_id),
                extra: Vec::new(),
            }),
            other => types::Routing::Ext(ext(other)),
        }
    }

    fn into_call(self) -> types::OutboundCall {
        let monitor = self.monitor_dest_addr.map(|Text(dest_addr)| types::MonitorLeg {
            dest_addr,
            sip_from: plain(self.monitor_sip_from),
            p_headers: pairs(self.monitor_p_headers),
            x_headers: pairs(self.monitor_x_headers),
            extra: Vec::new(),
        });
        types::OutboundCall {
            dest_addr: plain(self.dest_addr).unwrap_or_default(),
            max_ring_time_ms: self.max_ring_time.map(|time| time.ms),
            call_recording: self.call_recording.unwrap_or(false),
            recording_file_name: plain(self.recording_file_name),
            recording: None,
            ringback_tone: self.ringback_tone.map(ringback),
            greeting: self.greeting.map(Greeting::into_greeting),
            sip_from: plain(self.sip_from),
            sip_to: plain(self.sip_to),
            sip_pai: plain(self.sip_pai),
            sip_rpid: plain(self.sip_rpid),
            sip_diversion: plain(self.sip_diversion),
            sip_diversion_parameters: pairs(self.sip_diversion_parameters),
            display_name: plain(self.display_name),
            caller_privacy: self.caller_privacy.unwrap_or(false),
            contact_parameters: pairs(self.contact_parameters),
            contact_user_parameters: pairs(self.contact_user_parameters),
            x_headers: pairs(self.x_headers),
            p_headers: pairs(self.p_headers),
            copy_headers: self.copy_headers.unwrap_or_default().into_iter().map(|Text(name)| name).collect(),
            participant_id: plain(self.participant_id),
            monitor,
            session_reference: json(self.session_reference_id),
            extra: Vec::new(),
        }
    }
}

/// IC-171.
fn ringback(Text(tone): Text) -> types::Ringback {
    match tone.as_str() {
        "default" => types::Ringback::Standard,
        "none" => types::Ringback::None,
        "early" => types::Ringback::Early,
        url if url.starts_with("http://") || url.starts_with("https://") => types::Ringback::Url(tone),
        _ => types::Ringback::File(tone),
    }
}

impl Greeting {
    /// IC-173. An order that is not known is the default one.
    fn into_greeting(self) -> types::Greeting {
        let play_mode = match self.play_mode.as_ref().map(|Text(mode)| mode.as_str()) {
            Some("calleeFirst") => Some(types::PlayMode::CalleeFirst),
            Some("callerFirst") => Some(types::PlayMode::CallerFirst),
            _ => None,
        };
        let phrases =
            |side: Option<Phrases>| side.map_or_else(Vec::new, |side| side.phrases.into_iter().map(Phrase::into_phrase).collect());
        types::Greeting { play_mode, caller: phrases(self.caller), callee: phrases(self.callee) }
    }
}

/// IC-247. Another word is the default.
fn cache_time(Text(time): &Text) -> Option<types::CacheTime> {
    Some(match time.to_ascii_uppercase().as_str() {
        "DAY" => types::CacheTime::Day,
        "WEEK" => types::CacheTime::Week,
        "MONTH" => types::CacheTime::Month,
        "QUARTER" => types::CacheTime::Quarter,
        "HALF-YEAR" => types::CacheTime::HalfYear,
        _ => return None,
    })
}

/// Level of the tones of IC-172, in dBm0.
const TONE_LEVEL: f32 = -15.0;

impl Phrase {
    /// A format that is not known is skipped by the node with an alarm (IC-250).
    fn into_phrase(self) -> types::Phrase {
        let format = self.format.as_ref().map_or("", |Text(format)| format).to_owned();
        let ms = self.seconds.map_or(0, |time| time.ms);
        match format.as_str() {
            "file" => types::Phrase::File(types::FilePhrase { file_name: plain(self.file_name).unwrap_or_default(), extra: Vec::new() }),
            "url" => types::Phrase::Url(types::UrlPhrase {
                url: plain(self.url).unwrap_or_default(),
                cache_time_to_live: self.cache_time_to_live.as_ref().and_then(cache_time),
                refresh_cache: self.refresh_cache.unwrap_or(false),
                file_name: plain(self.file_name),
                extra: Vec::new(),
            }),
            "awstts" => self.speech("awstts"),
            "googletts" => self.speech("googletts"),
            "tts" => self.speech("local"),
            "record" => types::Phrase::Record(self.into_recording()),
            "echo" => types::Phrase::Echo(ms),
            "silence" => types::Phrase::Silence(ms),
            "number" | "digits" | "date" | "time" | "currency" => types::Phrase::Say(types::SayPhrase {
                kind: format,
                value: plain(self.value).unwrap_or_default(),
                language: plain(self.language).unwrap_or_default(),
                extra: Vec::new(),
            }),
            "tone" => types::Phrase::Tone(types::TonePhrase {
                hz: self.frequencies.unwrap_or_default().into_iter().map(|hz| whole(Some(hz)) as f32).collect(),
                level_dbm0: TONE_LEVEL,
                on_ms: ms.min(60_000),
                off_ms: 0,
                total_ms: ms,
            }),
            other => types::Phrase::Ext(ext(other)),
        }
    }

    fn speech(self, engine: &str) -> types::Phrase {
        let parameters = match engine {
            "awstts" => self.aws_tts_parameters,
            "googletts" => self.google_tts_parameters,
            _ => self.tts_parameters,
        };
        types::Phrase::Tts(types::TtsPhrase {
            engine: engine.into(),
            parameters: parameters.map_or_else(|| "{}".to_owned(), |json| json.get().to_owned()),
            cache_time_to_live: self.cache_time_to_live.as_ref().and_then(cache_time),
            refresh_cache: self.refresh_cache.unwrap_or(false),
            file_name: plain(self.file_name),
            extra: Vec::new(),
        })
    }

    /// IC-244.
    fn into_recording(self) -> types::RecordingOptions {
        types::RecordingOptions {
            file_name: plain(self.file_name),
            max_duration_ms: self.max_duration.map(|time| time.ms),
            max_silence_ms: self.max_silence.map(|time| time.ms),
            initial_silence_ms: self.initial_silence.map(|time| time.ms),
            stop_digits: plain(self.stop_digits),
            beep: self.beep.unwrap_or(false),
            start_on_voice: self.start_on_voice.unwrap_or(false),
            announce: self.announce.unwrap_or(false),
            ..types::RecordingOptions::default()
        }
    }
}

impl Command {
    /// What the node is told. `routing`: the same answer read as one, where it has an action.
    pub fn into_command(self, routing: Option<Routing>) -> types::IvrCommand {
        let barge_in = match self.barge_in.as_ref().map(|Text(rule)| rule.as_str()) {
            Some("current") => types::BargeIn::Current,
            Some("all") => types::BargeIn::All,
            _ => types::BargeIn::None,
        };
        types::IvrCommand {
            session_id: plain(self.session_id),
            session_reference: json(self.session_reference_id),
            phrases: self.phrases.unwrap_or_default().into_iter().map(Phrase::into_phrase).collect(),
            dtmf: self.dtmf.map(Dtmf::into_collect),
            barge_in,
            background: self.background_prompt.and_then(BackgroundPrompt::into_background),
            hangup: self.hangup.unwrap_or(false),
            recorded_callback: self.recorded_callback.unwrap_or(false),
            next_after_ms: self.get_ivr_command_after.map_or(0, |time| time.ms),
            routing: routing.map(Routing::into_routing),
            ext: Vec::new(),
        }
    }
}

impl Dtmf {
    fn into_collect(self) -> types::Collect {
        types::Collect {
            flush: self.flush.unwrap_or(false),
            max_digits: self.max_digits.map(|number| whole(Some(number))),
            first_timeout_ms: self.first_timeout.map(|time| time.ms),
            between_timeout_ms: self.between_timeout.map(|time| time.ms),
            termination_keys: plain(self.termination_key).unwrap_or_default(),
            encryption: self.encryption.and_then(protection),
        }
    }
}

/// IC-231. A kind that is not known goes to the node, which refuses it: digits that were to be hashed are not told in the clear.
fn protection(encryption: Encryption) -> Option<types::DigitProtection> {
    let salt = plain(encryption.salt).unwrap_or_default();
    encryption.kind.map(|Text(kind)| match kind.as_str() {
        "md5" => types::DigitProtection::Md5(salt),
        "hmac-sha256" => types::DigitProtection::HmacSha256(salt),
        other => types::DigitProtection::Ext(ext(other)),
    })
}

impl BackgroundPrompt {
    /// IC-251 to IC-253; nothing where it names nothing.
    fn into_background(self) -> Option<types::Background> {
        if self.stop == Some(true) {
            return Some(types::Background::Stop);
        }
        let source = match (self.file_name, self.url) {
            (Some(Text(name)), _) => types::AudioSource::File(name),
            (None, Some(Text(url))) => types::AudioSource::Url(url),
            (None, None) => return None,
        };
        let repeat_pause_ms = self.repeat_pause.map_or(0, |time| time.ms);
        Some(types::Background::Play(types::BackgroundPrompt { source, repeat_pause_ms, extra: Vec::new() }))
    }
}

impl Identified {
    pub fn into_reference(self) -> Option<String> {
        json(self.session_reference_id)
    }
}

#[cfg(test)]
mod tests;
