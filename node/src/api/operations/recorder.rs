//! `POST /{domain}/recordings` and what can be ordered of a recording by its id: start, pause, resume, stop, discard (UR-034). A body becomes a
//! `Command`; whether it fits the call is the session's to say. One table names the options, for reading and for `/openapi.json`.

use super::super::access::Domain;
use super::super::endpoint::Path;
use super::super::reply::{self, ApiError, Reply};
use super::super::{Api, Count, Shared};
use super::{order, reply_id};
use crate::guest::checks;
use crate::store::RecordingRow;
use axum::extract::{Request, State};
use hookswitch_call::door::{Command, Done, WhichRecording};
use hookswitch_call::hook::Phrase;
use hookswitch_call::limits as call_limits;
use hookswitch_call::recording::{
    CbcKey, Channels, Container, Dialect, Direction, Encoding, Mode, PauseBehavior, QueuePolicy, RecordingOptions, RecordingStatus,
    StorageClass, Target,
};
use hookswitch_wasm::wit;
use serde_json::{Map, Value, json};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How an option is read, and what `/openapi.json` says of it.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    OneOf(&'static [&'static str]),
    Cipher,
}

const DIALECTS: [(&str, Dialect); 6] = [
    ("native", Dialect::Native),
    ("graph", Dialect::Graph),
    ("aculab", Dialect::Aculab),
    ("iotcomms", Dialect::Iotcomms),
    ("swml", Dialect::Swml),
    ("ozeki", Dialect::Ozeki),
];
const MODES: [(&str, Mode); 3] = [("foreground", Mode::Foreground), ("background", Mode::Background), ("queued", Mode::Queued)];
const POLICIES: [(&str, QueuePolicy); 2] = [("append", QueuePolicy::Append), ("barge", QueuePolicy::Barge)];
const DIRECTIONS: [(&str, Direction); 3] = [("speak", Direction::Speak), ("listen", Direction::Listen), ("both", Direction::Both)];
const CHANNELS: [(&str, Channels); 2] = [("mono", Channels::Mono), ("stereo", Channels::Stereo)];
const CONTAINERS: [(&str, Container); 4] =
    [("wav", Container::Wav), ("mp3", Container::Mp3), ("mp4", Container::Mp4), ("ogg", Container::Ogg)];
const ENCODINGS: [(&str, Encoding); 7] = [
    ("auto", Encoding::Auto),
    ("pcm16", Encoding::Pcm16),
    ("alaw", Encoding::Alaw),
    ("ulaw", Encoding::Ulaw),
    ("mp3", Encoding::Mp3),
    ("aac", Encoding::Aac),
    ("opus", Encoding::Opus),
];
const CLASSES: [(&str, StorageClass); 3] =
    [("prompt_store", StorageClass::PromptStore), ("ephemeral", StorageClass::Ephemeral), ("tenant_bucket", StorageClass::TenantBucket)];
const PAUSES: [(&str, PauseBehavior); 2] = [("skip", PauseBehavior::Skip), ("silence", PauseBehavior::Silence)];

/// Every option of docs/conformance.md, "Fields".
const OPTIONS: &[(&str, Kind, &str)] = &[
    ("controlId", Kind::Text, "Your name for it, unique among the active recordings of the session."),
    ("clientContext", Kind::Text, "Given back unchanged, at most 256 characters."),
    ("dialect", Kind::OneOf(&["native", "graph", "aculab", "iotcomms", "swml", "ozeki"]), "Whose defaults apply."),
    ("mode", Kind::OneOf(&["background", "queued"]), "`queued` waits for its turn among the session's media."),
    ("queuePolicy", Kind::OneOf(&["append", "barge"]), "`barge` cancels what runs in turn and what waits."),
    ("direction", Kind::OneOf(&["speak", "listen", "both"]), "Seen from the party."),
    ("channels", Kind::OneOf(&["mono", "stereo"]), "`stereo` only with direction `both`."),
    ("container", Kind::OneOf(&["wav", "mp3", "mp4", "ogg"]), "Else by the ending of `fileName`, else `wav`."),
    ("encoding", Kind::OneOf(&["auto", "pcm16", "alaw", "ulaw", "mp3", "aac", "opus"]), "Coding in the file."),
    ("sampleRate", Kind::Number, "8000, 16000 or 48000."),
    ("bitrateKbps", Kind::Number, "8 to 320; 32 for mono, 64 for stereo where it is not said."),
    ("fileName", Kind::Text, "Name in the storage; generated where it is not said."),
    ("storageClass", Kind::OneOf(&["prompt_store", "ephemeral", "tenant_bucket"]), "Where it is kept."),
    ("beep", Kind::Flag, "1000 Hz for 250 ms before it; neither in the file nor counted."),
    ("stopDigits", Kind::Text, "Any of these ends it: `0`-`9`, `*`, `#`, `A`-`D`."),
    ("stopDigitConsume", Kind::Flag, "Keep the stop digit out of the digit buffer; true where it is not said."),
    ("stopDigitTrim", Kind::Flag, "Cut its sound from the end; true where it is not said."),
    ("initialSilenceMs", Kind::Number, "Ends when nobody spoke for so long; 0 is never."),
    ("maxSilenceMs", Kind::Number, "Ends after so much silence once somebody spoke; 0 is never."),
    ("maxDurationMs", Kind::Number, "Longest recording; 0 is the session's."),
    ("maxFileBytes", Kind::Number, "Largest file, 4096 at least; 0 is the quota."),
    ("startOnVoice", Kind::Flag, "Keep only what follows the first voice, and 200 ms before it."),
    ("sensitivity", Kind::Number, "What counts as voice, 0 to 100; larger hears quieter sound."),
    ("pauseBehavior", Kind::OneOf(&["skip", "silence"]), "What a pause leaves."),
    ("encryption", Kind::Cipher, "AES-CBC with PKCS#7 padding over the whole file: key and iv in hex. Neither is kept in the clear."),
    (
        "announce",
        Kind::Flag,
        "A warning tone every 15 s to whoever is recorded; it is not in the file. A tenant may want it of all (`record_announce`).",
    ),
    ("retentionMs", Kind::Number, "Deleted so long after its end."),
    ("statusUrl", Kind::Text, "Every state is posted there (the tenant's outbox origins)."),
    ("onCompleteUrl", Kind::Text, "Posted when it has ended."),
    ("onAvailableUrl", Kind::Text, "Posted when it can be fetched."),
];

/// The members of an object, each taken once, so that what is left was not known.
pub(in super::super) struct Members {
    at: String,
    map: Map<String, Value>,
}

impl Members {
    pub(in super::super) fn of(at: &str, value: Value) -> Result<Members, ApiError> {
        match value {
            Value::Object(map) => Ok(Members { at: if at.is_empty() { String::new() } else { format!("{at}.") }, map }),
            _ => Err(ApiError::bad(if at.is_empty() { "body" } else { at }, "must be an object")),
        }
    }

    pub(in super::super) fn bad(&self, name: &str, why: impl std::fmt::Display) -> ApiError {
        ApiError::bad(&format!("{}{name}", self.at), why)
    }

    /// `null` is absent.
    pub(in super::super) fn any(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// IC-013: a number stands for a text, and the reverse.
    pub(in super::super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.bad(name, "must be a text")),
        }
    }

    pub(in super::super) fn number(&mut self, name: &str) -> Result<Option<u64>, ApiError> {
        let number = match self.any(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.bad(name, "must be a whole number, not below zero"))
    }

    pub(in super::super) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.any(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.bad(name, "must be true or false")),
        }
    }

    fn one_of<T: Copy>(&mut self, name: &str, all: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(said) = self.text(name)? else { return Ok(None) };
        let known = || all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        match all.iter().find(|(name, _)| *name == said) {
            Some((_, value)) => Ok(Some(*value)),
            None => Err(self.bad(name, format!("must be one of {}", known()))),
        }
    }

    fn time(&mut self, name: &str) -> Result<Option<Duration>, ApiError> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    fn small(&mut self, name: &str) -> Result<Option<u32>, ApiError> {
        let number = self.number(name)?;
        number.map(|n| u32::try_from(n).map_err(|_| self.bad(name, "is too large"))).transpose()
    }

    pub(in super::super) fn left(&self) -> u64 {
        self.map.len() as u64
    }
}

/// Bytes of a text in hex.
pub(in super::super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

/// The options, and how many properties were not known (IC-014).
pub(in super::super) fn options(at: &str, value: Value) -> Result<(RecordingOptions, u64), ApiError> {
    let mut o = Members::of(at, value)?;
    let options = RecordingOptions {
        control_id: o.text("controlId")?,
        client_context: o.text("clientContext")?,
        dialect: o.one_of("dialect", &DIALECTS)?.unwrap_or_default(),
        mode: o.one_of("mode", &MODES)?,
        queue_policy: o.one_of("queuePolicy", &POLICIES)?.unwrap_or_default(),
        direction: o.one_of("direction", &DIRECTIONS)?,
        channels: o.one_of("channels", &CHANNELS)?,
        container: o.one_of("container", &CONTAINERS)?,
        encoding: o.one_of("encoding", &ENCODINGS)?.unwrap_or_default(),
        sample_rate: o.small("sampleRate")?,
        bitrate_kbps: o.small("bitrateKbps")?,
        file_name: o.text("fileName")?,
        storage_class: o.one_of("storageClass", &CLASSES)?.unwrap_or_default(),
        beep: o.flag("beep")?,
        stop_digits: o.text("stopDigits")?,
        stop_digit_consume: o.flag("stopDigitConsume")?,
        stop_digit_trim: o.flag("stopDigitTrim")?,
        initial_silence: o.time("initialSilenceMs")?,
        max_silence: o.time("maxSilenceMs")?,
        max_duration: o.time("maxDurationMs")?,
        max_file_bytes: o.number("maxFileBytes")?.filter(|bytes| *bytes > 0),
        start_on_voice: o.flag("startOnVoice")?,
        sensitivity: o.number("sensitivity")?.map(|n| u8::try_from(n).unwrap_or(u8::MAX)),
        pause_behavior: o.one_of("pauseBehavior", &PAUSES)?.unwrap_or_default(),
        encryption: match o.any("encryption") {
            None => None,
            Some(cipher) => {
                let mut cipher = Members::of(&format!("{}encryption", o.at), cipher)?;
                if cipher.text("type")?.is_some_and(|kind| kind != "aescbc") {
                    return Err(cipher.bad("type", "must be aescbc"));
                }
                let key = cipher.text("key")?.and_then(|key| from_hex(&key));
                let iv = cipher.text("iv")?.and_then(|iv| from_hex(&iv)?.try_into().ok());
                let key = key.ok_or_else(|| cipher.bad("key", "must be 16, 24 or 32 bytes in hex"))?;
                Some(CbcKey { key, iv: iv.ok_or_else(|| cipher.bad("iv", "must be 16 bytes in hex"))? })
            }
        },
        announce: o.flag("announce")?.unwrap_or(false),
        prompts_only: false,
        retention: o.time("retentionMs")?,
        status_url: o.text("statusUrl")?,
        on_complete_url: o.text("onCompleteUrl")?,
        on_available_url: o.text("onAvailableUrl")?,
    };
    options.check().map_err(|(field, why)| o.bad(field, why))?;
    Ok((options, o.left()))
}

/// What plays before it: files, what is fetched or spoken, tones and silence.
fn prompts(value: Option<Value>) -> Result<Vec<Phrase>, ApiError> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= call_limits::PHRASES => items,
        Some(Value::Array(_)) => return Err(ApiError::bad("prompts", format!("more than {}", call_limits::PHRASES))),
        Some(_) => return Err(ApiError::bad("prompts", "must be a list")),
    };
    let read = |(i, item): (usize, Value)| {
        let at = format!("prompts[{i}]");
        let mut members = Members::of(&at, item)?;
        let missing = |name| ApiError::bad(&format!("{at}.{name}"), "is missing");
        let time = |members: &mut Members, name| members.time(name)?.ok_or_else(|| missing(name));
        match members.text("type")?.as_deref() {
            Some("file") => {
                let file_name = members.text("fileName")?.ok_or_else(|| missing("fileName"))?;
                super::super::check_file_name(&file_name).map_err(|why| members.bad("fileName", why))?;
                Ok(Phrase::File { file_name })
            }
            Some("url") => {
                let url = members.text("url")?.ok_or_else(|| missing("url"))?;
                Ok(Phrase::Url {
                    url: super::super::check_url(url).map_err(|why| members.bad("url", why))?,
                    key: members.text("cacheKey")?,
                    keep: None,
                })
            }
            Some("silence") => Ok(Phrase::Silence { duration: time(&mut members, "durationMs")? }),
            Some("tone") => {
                let hz = match members.any("hz") {
                    Some(Value::Array(all)) => all.iter().map(|f| f.as_f64().map(|f| f as f32)).collect::<Option<Vec<f32>>>(),
                    _ => None,
                };
                Ok(Phrase::Tone {
                    hz: hz.ok_or_else(|| members.bad("hz", "must be a list of numbers"))?,
                    level_dbm0: members.any("levelDbm0").and_then(|v| v.as_f64()).unwrap_or(-12.0) as f32,
                    on: time(&mut members, "onMs")?,
                    off: members.time("offMs")?.unwrap_or_default(),
                    total: time(&mut members, "totalMs")?,
                })
            }
            Some("tts") => {
                let parameters = members.any("parameters").filter(Value::is_object).ok_or_else(|| missing("parameters"))?.to_string();
                let engine = members.text("engine")?.unwrap_or_else(|| "local".into());
                let refresh_cache = members.flag("refreshCache")?.unwrap_or(false);
                let (cache_time_to_live, file_name, extra) = (None, None, Vec::new());
                spoken(i, wit::Phrase::Tts(wit::TtsPhrase { engine, parameters, cache_time_to_live, refresh_cache, file_name, extra }))
            }
            Some("say") => {
                let kind = members.text("kind")?.ok_or_else(|| missing("kind"))?;
                let value = members.text("value")?.ok_or_else(|| missing("value"))?;
                let language = members.text("language")?.unwrap_or_default();
                spoken(i, wit::Phrase::Say(wit::SayPhrase { kind, value, language, extra: Vec::new() }))
            }
            _ => Err(members.bad("type", "must be file, url, tts, say, tone or silence")),
        }
    };
    items.into_iter().enumerate().map(read).collect()
}

/// Checked as a handler's phrase is.
fn spoken(place: usize, phrase: wit::Phrase) -> Result<Phrase, ApiError> {
    checks::phrase(place, phrase).map_err(|wrong| ApiError::bad(&wrong.field.replacen("phrases", "prompts", 1), wrong.why))
}

fn target(members: &mut Members) -> Result<Target, ApiError> {
    let Some(value) = members.any("target") else { return Ok(Target::Session) };
    if value == json!("session") {
        return Ok(Target::Session);
    }
    let mut target = Members::of("target", value)?;
    match (target.text("participantId")?, target.text("connectionId")?) {
        (Some(id), None) => Ok(Target::Participant(id)),
        (None, Some(id)) => Ok(Target::Connection(id)),
        _ => Err(ApiError::bad("target", "must be \"session\", {\"participantId\": …} or {\"connectionId\": …}")),
    }
}

pub(in super::super) fn limit_rate(api: &Arc<Api>, domain: &str) -> Result<(), ApiError> {
    let now = api.since_start();
    api.rate.lock().unwrap_or_else(PoisonError::into_inner).take(now, domain).map_err(|wait| {
        api.node.count(Count::RateLimited);
        ApiError::too_many("too many commands of this domain").after(wait)
    })
}

/// A body that may be absent.
pub(in super::super) async fn json_body(request: Request) -> Result<Value, ApiError> {
    let body = reply::body(request, super::super::BODY, "body", |given| given == "application/json", "application/json").await?;
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&body).map_err(|error| ApiError::bad("body", format!("not JSON: {error}")))
}

pub(in super::super) async fn start(State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    limit_rate(&api, &domain)?;
    let mut members = Members::of("", json_body(request).await?)?;
    let named = members.text("sessionId")?;
    let replied = members.text("replyId")?.map(|token| reply_id(&api, &domain, &token)).transpose()?.map(|id| id.session_id);
    let session_id = match (named, replied) {
        (Some(named), Some(replied)) if named != replied => return Err(ApiError::bad("sessionId", "is not the session of this replyId")),
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => return Err(ApiError::bad("sessionId", "is missing, and replyId too")),
    };
    let target = target(&mut members)?;
    let (options, unknown) = options("options", members.any("options").unwrap_or_else(|| json!({})))?;
    let prompts = prompts(members.any("prompts"))?;
    api.count_unknown(unknown + members.left());
    let command = Command::StartRecording { session_id, target, options: Box::new(options), prompts };
    reply::ok(order(&api, &domain, command).await?)
}

/// What can be ordered of a recording by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    Pause,
    Resume,
    Stop,
    Discard,
}

impl Step {
    pub(in super::super) const ALL: [Step; 4] = [Step::Pause, Step::Resume, Step::Stop, Step::Discard];

    /// Path and operationId.
    pub(in super::super) fn path(self) -> (&'static str, &'static str) {
        match self {
            Step::Pause => ("/{domain}/recordings/{id}/pause", "pauseRecording"),
            Step::Resume => ("/{domain}/recordings/{id}/resume", "resumeRecording"),
            Step::Stop => ("/{domain}/recordings/{id}/stop", "stopRecordingById"),
            Step::Discard => ("/{domain}/recordings/{id}/discard", "discardRecording"),
        }
    }

    pub(in super::super) fn says(self) -> &'static str {
        match self {
            Step::Pause => "Pauses a recording; `behavior` says what is left of that time.",
            Step::Resume => "Goes on with a paused recording.",
            Step::Stop => "Stops a recording and keeps it. One that has ended is a success.",
            Step::Discard => "Stops a recording and throws it away.",
        }
    }
}

pub(in super::super) async fn step(
    step: Step,
    State(api): Shared,
    Domain(domain): Domain,
    Path((_, id)): Path<(String, String)>,
    request: Request,
) -> Reply {
    limit_rate(&api, &domain)?;
    let mut members = Members::of("", json_body(request).await?)?;
    let behavior = if step == Step::Pause { members.one_of("behavior", &PAUSES)? } else { None };
    api.count_unknown(members.left());
    let (session_id, which) = (String::new(), WhichRecording::Id(id));
    let command = match step {
        Step::Pause => Command::PauseRecording { session_id, which, behavior },
        Step::Resume => Command::ResumeRecording { session_id, which },
        Step::Stop => Command::StopRecording { session_id, which },
        Step::Discard => Command::DiscardRecording { session_id, which },
    };
    reply::ok(order(&api, &domain, command).await?)
}

/// Where a recording stands, as long as its session follows it.
pub(in super::super) async fn status(api: &Arc<Api>, domain: &str, id: &str) -> Option<RecordingStatus> {
    let command = Command::GetRecording { session_id: String::new(), which: WhichRecording::Id(id.to_owned()) };
    match api.node.order(domain, command).await {
        Ok(Done::RecordingStatus(status)) => Some(*status),
        _ => None,
    }
}

/// As events and answers say it (UR-035).
pub fn status_json(status: &RecordingStatus) -> Value {
    let mut said = json!({
        "recordingId": status.recording_id,
        "controlId": status.control_id,
        "state": status.phase.name(),
        "fileName": status.file_name,
        "participantId": status.participant_id,
        "announce": status.options.announce,
    });
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            said[name] = value;
        }
    };
    add("clientContext", status.client_context.as_ref().map(|c| json!(c)));
    add("connectionId", status.connection_id.as_ref().map(|c| json!(c)));
    add("pauseBehavior", status.pause_behavior.map(|b| json!(if b == PauseBehavior::Skip { "skip" } else { "silence" })));
    add("reason", status.reason.as_ref().map(|r| json!(r)));
    add("startedAt", status.started_at.map(|at| json!(reply::rfc3339(at))));
    add("endedAt", status.ended_at.map(|at| json!(reply::rfc3339(at))));
    add("url", status.url.as_ref().map(|url| json!(url)));
    add("accessToken", status.access_token.as_ref().map(|token| json!(token)));
    if let Some(result) = &status.result {
        add("stopReason", Some(json!(result.stop_reason)));
        add("stopDigit", result.stop_digit.map(|digit| json!(digit)));
        add("durationMs", Some(json!(u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX))));
        add("containsSound", Some(json!(result.contains_sound)));
    }
    if let Some(details) = &status.details {
        add("sizeBytes", Some(json!(details.size)));
        add("sha256", Some(json!(details.sha256)));
    }
    said
}

/// One that has no row yet, as rows are shown.
pub(in super::super) fn row(domain: String, status: &RecordingStatus) -> RecordingRow {
    RecordingRow {
        id: status.recording_id.clone(),
        domain,
        connection: status.connection_id.clone(),
        file_name: status.file_name.clone(),
        created_at: status.started_at.unwrap_or_default(),
        announce: status.options.announce,
        ..RecordingRow::default()
    }
}

pub(in super::super) fn schema_of_start() -> Value {
    let option = |(name, kind, says): &(&str, Kind, &str)| {
        let mut schema = match kind {
            Kind::Text => json!({ "type": ["string", "number", "null"] }),
            Kind::Number => json!({ "type": ["integer", "string", "null"], "minimum": 0 }),
            Kind::Flag => json!({ "type": ["boolean", "null"] }),
            Kind::OneOf(all) => {
                json!({ "type": ["string", "null"], "enum": all.iter().map(|v| json!(v)).chain([Value::Null]).collect::<Vec<_>>() })
            }
            Kind::Cipher => json!({
                "type": ["object", "null"],
                "properties": { "type": { "const": "aescbc" }, "key": { "type": "string" }, "iv": { "type": "string" } },
            }),
        };
        schema["description"] = json!(says);
        ((*name).to_owned(), schema)
    };
    let options: Map<String, Value> = OPTIONS.iter().map(option).collect();
    json!({
        "type": "object",
        "properties": {
            "sessionId": { "type": ["string", "null"], "description": "The session; or replyId." },
            "replyId": { "type": ["string", "null"], "description": "The replyId of any hook or notification of the session." },
            "target": { "description": "`session` (its only connection or leg), `{\"connectionId\": …}` or `{\"participantId\": …}`." },
            "options": { "type": ["object", "null"], "properties": options },
            "prompts": {
                "type": ["array", "null"],
                "maxItems": call_limits::PHRASES,
                "items": { "type": "object", "required": ["type"], "properties": { "type": { "enum": ["file", "url", "tts", "say", "tone", "silence"] } } },
                "description": "What plays before its beep. Of another server: `{\"type\":\"url\",\"url\":…,\"cacheKey\":…}`, where handlers may post to. \
                                Spoken: `{\"type\":\"tts\",\"engine\":\"local\",\"parameters\":{\"text\":…}}`, `{\"type\":\"say\",\"kind\":\"time\",\"value\":\"14:05\"}`.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<RecordingOptions, String> {
        options("options", value).map(|(options, _)| options).map_err(|error| error.message)
    }

    #[test]
    fn ur_002_003_every_option_has_a_name_in_json() {
        let all = json!({
            "controlId": "c", "clientContext": "x", "dialect": "swml", "mode": "queued", "queuePolicy": "barge", "direction": "both",
            "channels": "stereo", "container": "mp3", "encoding": "mp3", "sampleRate": 16000, "bitrateKbps": "64", "fileName": "a.mp3",
            "storageClass": "ephemeral", "beep": true, "stopDigits": "#*", "stopDigitConsume": false, "stopDigitTrim": false,
            "initialSilenceMs": 1000, "maxSilenceMs": 2000, "maxDurationMs": 3000, "maxFileBytes": 5000, "startOnVoice": true,
            "sensitivity": 50, "pauseBehavior": "silence", "encryption": { "type": "aescbc", "key": "00".repeat(16), "iv": "ff".repeat(16) },
            "announce": true, "retentionMs": 60000, "statusUrl": "https://x/s", "onCompleteUrl": "https://x/c", "onAvailableUrl": "https://x/a",
        });
        assert_eq!(all.as_object().map(Map::len), Some(OPTIONS.len()), "the table names them all");
        for (name, ..) in OPTIONS {
            assert!(all.get(*name).is_some(), "{name}");
        }
        let time = |ms| Some(Duration::from_millis(ms));
        let expected = RecordingOptions {
            control_id: Some("c".into()),
            client_context: Some("x".into()),
            dialect: Dialect::Swml,
            mode: Some(Mode::Queued),
            queue_policy: QueuePolicy::Barge,
            direction: Some(Direction::Both),
            channels: Some(Channels::Stereo),
            container: Some(Container::Mp3),
            encoding: Encoding::Mp3,
            sample_rate: Some(16_000),
            bitrate_kbps: Some(64),
            file_name: Some("a.mp3".into()),
            storage_class: StorageClass::Ephemeral,
            beep: Some(true),
            stop_digits: Some("#*".into()),
            stop_digit_consume: Some(false),
            stop_digit_trim: Some(false),
            initial_silence: time(1000),
            max_silence: time(2000),
            max_duration: time(3000),
            max_file_bytes: Some(5000),
            start_on_voice: Some(true),
            sensitivity: Some(50),
            pause_behavior: PauseBehavior::Silence,
            encryption: Some(CbcKey { key: vec![0; 16], iv: [0xff; 16] }),
            announce: true,
            prompts_only: false,
            retention: time(60_000),
            status_url: Some("https://x/s".into()),
            on_complete_url: Some("https://x/c".into()),
            on_available_url: Some("https://x/a".into()),
        };
        assert_eq!(read(all), Ok(expected));
        assert_eq!(read(json!({ "beep": null, "newer": 1 })), Ok(RecordingOptions::default()));
    }

    #[test]
    fn ic_008_every_refusal_of_an_option_names_it() {
        for (value, field) in [
            (json!([]), "options"),
            (json!({ "mode": "soon" }), "options.mode"),
            (json!({ "beep": "yes" }), "options.beep"),
            (json!({ "sampleRate": 44100 }), "options.sampleRate"),
            (json!({ "sampleRate": -1 }), "options.sampleRate"),
            (json!({ "bitrateKbps": 5_000_000_000u64 }), "options.bitrateKbps"),
            (json!({ "sensitivity": 356 }), "options.sensitivity"),
            (json!({ "controlId": {} }), "options.controlId"),
            (json!({ "encryption": 1 }), "options.encryption"),
            (json!({ "encryption": { "type": "des", "key": "00", "iv": "00" } }), "options.encryption.type"),
            (json!({ "encryption": { "key": "0", "iv": "00".repeat(16) } }), "options.encryption.key"),
            (json!({ "encryption": { "key": "é0", "iv": "00".repeat(16) } }), "options.encryption.key"),
            (json!({ "encryption": { "key": "00".repeat(16), "iv": "00".repeat(15) } }), "options.encryption.iv"),
            (json!({ "encryption": { "key": "00".repeat(15), "iv": "00".repeat(16) } }), "options.encryption"),
            (json!({ "statusUrl": "file:///x" }), "options.statusUrl"),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{value}: {error}");
        }
    }

    #[test]
    fn ur_016_prompts_are_files_speech_tones_and_silence() {
        let given = json!([
            { "type": "file", "fileName": "a.wav" },
            { "type": "silence", "durationMs": 500 },
            { "type": "url", "url": "https://prompts.example/a.wav", "cacheKey": "a" },
            { "type": "tone", "hz": [440], "onMs": 100, "totalMs": 200 },
            { "type": "tts", "parameters": { "text": "Please hold." }, "refreshCache": true },
            { "type": "say", "kind": "time", "value": "14:05", "language": "en" },
        ]);
        let Ok(read) = prompts(Some(given)) else { panic!("taken") };
        assert_eq!(read.len(), 6);
        let Phrase::Tts { engine, parameters, keep } = &read[4] else { panic!("{read:?}") };
        assert_eq!((engine.as_str(), parameters.as_str()), ("local", r#"{"text":"Please hold."}"#));
        assert!(keep.refresh);
        assert_eq!(read[5], Phrase::Say { kind: "time".into(), value: "14:05".into(), language: "en".into() });
        assert_eq!(read[2], Phrase::Url { url: "https://prompts.example/a.wav".into(), key: Some("a".into()), keep: None });
        assert!(matches!(&read[3], Phrase::Tone { level_dbm0, .. } if *level_dbm0 == -12.0));
        for (bad, field) in [
            (json!({}), "prompts"),
            (json!([1]), "prompts[0]"),
            (json!([{ "type": "sing" }]), "prompts[0].type"),
            (json!([{ "type": "say" }]), "prompts[0].kind"),
            (json!([{ "type": "say", "kind": "poem", "value": "x" }]), "prompts[0].kind"),
            (json!([{ "type": "tts", "parameters": "text" }]), "prompts[0].parameters"),
            (json!([{ "type": "tts", "parameters": {}, "engine": "other" }]), "prompts[0].engine"),
            (json!([{ "type": "tts", "parameters": {}, "refreshCache": 1 }]), "prompts[0].refreshCache"),
            (json!([{ "type": "file", "fileName": "../x" }]), "prompts[0].fileName"),
            (json!([{ "type": "silence" }]), "prompts[0].durationMs"),
            (json!([{ "type": "url" }]), "prompts[0].url"),
            (json!([{ "type": "url", "url": "file:///etc/passwd" }]), "prompts[0].url"),
            (json!([{ "type": "tone", "hz": ["a"], "onMs": 1, "totalMs": 1 }]), "prompts[0].hz"),
        ] {
            let error = prompts(Some(bad)).expect_err("refused").message;
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }

    #[test]
    fn ur_005_034_recordings_are_ordered_by_rest() {
        use crate::api::tests::{TENANT, TOKEN, world};
        let world = world();
        let (json, path) = (Some("application/json"), format!("/{TENANT}/recordings"));
        world.gives(Ok(Done::Recording { recording_id: "r".into(), file_name: "x.wav".into() }));
        for (target, expected) in [
            (json!(null), Target::Session),
            (json!("session"), Target::Session),
            (json!({ "connectionId": "c" }), Target::Connection("c".into())),
            (json!({ "participantId": "p" }), Target::Participant("p".into())),
        ] {
            let body = json!({ "sessionId": "s-1", "target": target, "options": { "beep": true, "newer": 1 }, "prompts": [] });
            let (code, said) = world.ask("POST", &path, Some(TOKEN), json, body.to_string().as_bytes());
            assert_eq!((code, &said["recordingId"], &said["recordingFileName"]), (200, &json!("r"), &json!("x.wav")));
            let options = Box::new(RecordingOptions { beep: Some(true), ..RecordingOptions::default() });
            let command = Command::StartRecording { session_id: "s-1".into(), target: expected, options, prompts: vec![] };
            assert_eq!(world.ordered(), [(TENANT.to_owned(), command)]);
        }
        let reply_id = world.reply_keys.mint(TENANT, "s-2", hookswitch_call::ReplyTo::Participant);
        let (code, _) = world.ask("POST", &path, Some(TOKEN), json, json!({ "replyId": reply_id }).to_string().as_bytes());
        assert_eq!(code, 200);
        assert!(matches!(&world.ordered()[..], [(_, Command::StartRecording { session_id, .. })] if session_id == "s-2"));
        for (body, field) in [
            (json!({}), "sessionId"),
            (json!({ "sessionId": "s-1", "replyId": reply_id }), "sessionId"),
            (json!({ "sessionId": "s-1", "target": { "connectionId": "c", "participantId": "p" } }), "target"),
            (json!({ "sessionId": "s-1", "options": { "beep": 1 } }), "options.beep"),
            (json!({ "sessionId": "s-1", "prompts": {} }), "prompts"),
        ] {
            let (code, said) = world.ask("POST", &path, Some(TOKEN), json, body.to_string().as_bytes());
            let message = said["message"].as_str().unwrap_or_default();
            assert!(code == 400 && message.starts_with(&format!("{field}: ")), "{body}: {code} {message}");
        }
        world.gives(Ok(Done::Nothing));
        for step in Step::ALL {
            let path = step.path().0.replace("{domain}", TENANT).replace("{id}", "r");
            let body: &[u8] = if step == Step::Pause { br#"{"behavior":"silence"}"# } else { b"" };
            assert_eq!(world.ask("POST", &path, Some(TOKEN), json, body).0, 200, "{path}");
        }
        let (session_id, which) = (String::new, || WhichRecording::Id("r".into()));
        let behavior = Some(PauseBehavior::Silence);
        let expected = [
            Command::PauseRecording { session_id: session_id(), which: which(), behavior },
            Command::ResumeRecording { session_id: session_id(), which: which() },
            Command::StopRecording { session_id: session_id(), which: which() },
            Command::DiscardRecording { session_id: session_id(), which: which() },
        ];
        assert_eq!(world.ordered(), expected.map(|command| (TENANT.to_owned(), command)));
        assert_eq!(world.ask("POST", &format!("{path}/r/pause"), Some(TOKEN), json, br#"{"behavior":"loud"}"#).0, 400);
    }

    #[test]
    fn ur_034_one_that_runs_is_shown_with_its_state_before_it_has_a_row() {
        use crate::api::dialects::tests::status;
        use crate::api::tests::{TENANT, TOKEN, world};
        use hookswitch_call::recording::Phase;
        let world = world();
        let path = format!("/{TENANT}/recordings/r");
        assert_eq!(world.ask("GET", &path, Some(TOKEN), None, b"").0, 404);
        world.follows(Some(status(RecordingOptions::default(), Phase::Queued, "", 0)));
        let (code, said) = world.ask("GET", &path, Some(TOKEN), None, b"");
        assert_eq!((code, &said["status"]["state"], &said["recording"]["state"]), (200, &json!("queued"), &json!("recording")));
    }
}
