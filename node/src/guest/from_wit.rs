//! The handler's answers in the call's words. Every value is checked here, once: ranges, sizes, control characters, digits, headers.
//! Behind this file a value from a guest is as good as one of ours, except that names, numbers and URIs may not exist.
//!
//! A part of the WIT that this node does not carry out yet is refused by name rather than left out in silence.

use super::{device, limits};
use hookswitch_call::door::{Command, HoldAudio, Mute, PlaceIvrCall, PlaceRemoteCall, TransferTarget, WhichRecording};
use hookswitch_call::hook::{
    BackgroundPrompt, Collect, DigitProtection, Greeting, HookFailure, Identified, IvrCommand, Keep, OutboundCall, Phrase, PlayMode,
    Routing, Verdict,
};
use hookswitch_call::limits as call_limits;
use hookswitch_call::recording::{
    CbcKey, Channels, Container, Dialect, Direction, Encoding, Mode, PauseBehavior, QueuePolicy, RecordingOptions, StorageClass, Target,
};
use hookswitch_proto::limits as wire_limits;
use hookswitch_proto::media::{BargeIn, DigitSet};
use hookswitch_wasm::{Order, wit};
use std::time::Duration;

/// A field of an answer that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Nonsense {
    pub field: String,
    pub why: String,
}

impl From<Nonsense> for HookFailure {
    fn from(n: Nonsense) -> HookFailure {
        HookFailure::Nonsense { field: n.field, why: n.why }
    }
}

pub(super) type Checked<T> = Result<T, Nonsense>;

pub(super) fn bad<T>(field: &str, why: impl Into<String>) -> Checked<T> {
    Err(Nonsense { field: field.into(), why: why.into() })
}

const NOT_YET: &str = "this node does not do that yet";

fn not_yet<T>(field: &str) -> Checked<T> {
    bad(field, NOT_YET)
}

/// Of an order: what is missing here, and what would be wrong anywhere.
impl From<Nonsense> for wit::HostError {
    fn from(n: Nonsense) -> wit::HostError {
        if n.why == NOT_YET { wit::HostError::Unsupported(n.to_string()) } else { wit::HostError::BadValue(n.to_string()) }
    }
}

/// Text without control characters, at most so long.
fn text(field: &str, value: String, max: usize) -> Checked<String> {
    if value.len() > max {
        return bad(field, format!("{} bytes; at most {max}", value.len()));
    }
    if value.chars().any(char::is_control) {
        return bad(field, "control characters");
    }
    Ok(value)
}

fn some_text(field: &str, value: Option<String>, max: usize) -> Checked<Option<String>> {
    value.map(|v| text(field, v, max)).transpose()
}

fn nonempty(field: &str, value: String, max: usize) -> Checked<String> {
    if value.is_empty() { bad(field, "empty") } else { text(field, value, max) }
}

fn json(field: &str, value: String, max: usize) -> Checked<String> {
    if value.len() > max {
        return bad(field, format!("{} bytes; at most {max}", value.len()));
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(&value) {
        Ok(_) => Ok(value),
        Err(e) => bad(field, format!("not JSON: {e}")),
    }
}

/// IC-012.
fn reference(value: Option<String>) -> Checked<Option<String>> {
    value.map(|v| json("session-reference", v, call_limits::SESSION_REFERENCE)).transpose()
}

/// IC-038.
fn file_name(field: &str, value: String) -> Checked<String> {
    let value = nonempty(field, value, call_limits::FILE_NAME)?;
    if value.contains(['/', '\\']) || value == "." || value.contains("..") {
        return bad(field, "a path; only a plain name is allowed");
    }
    Ok(value)
}

fn url(field: &str, value: String) -> Checked<String> {
    let value = text(field, value, limits::URI)?;
    let known = ["http://", "https://"].iter().any(|s| value.len() > s.len() && value.starts_with(s));
    if !known || value.contains(' ') {
        return bad(field, "not an http or https URL");
    }
    Ok(value)
}

fn duration(field: &str, ms: u32, max: Duration) -> Checked<Duration> {
    let value = Duration::from_millis(u64::from(ms));
    if value > max { bad(field, format!("{ms}; at most {}", max.as_millis())) } else { Ok(value) }
}

fn digits(field: &str, value: String) -> Checked<String> {
    if value.chars().count() > 16 || DigitSet::parse(&value).is_none() {
        return bad(field, "not a set of the keys 0-9 * # A-D");
    }
    Ok(value.to_ascii_uppercase())
}

/// IC-063, IC-071: names begin with the prefix and are tokens; values hold no line break.
pub(crate) fn headers(field: &str, prefix: &str, list: Vec<(String, String)>) -> Checked<Vec<(String, String)>> {
    if list.len() > limits::HEADERS {
        return bad(field, format!("{} headers; at most {}", list.len(), limits::HEADERS));
    }
    list.into_iter().map(|(name, value)| Ok((header_name(field, &[prefix], name)?, text(field, value, limits::HEADER_VALUE)?))).collect()
}

/// Names of headers that may be copied (IC-185).
pub(crate) fn header_names(field: &str, names: Vec<String>) -> Checked<Vec<String>> {
    if names.len() > limits::HEADERS {
        return bad(field, format!("{} names; at most {}", names.len(), limits::HEADERS));
    }
    names.into_iter().map(|name| header_name(field, &["x-", "p-"], name)).collect()
}

fn header_name(field: &str, prefixes: &[&str], name: String) -> Checked<String> {
    let name = nonempty(field, name, limits::SHORT_TEXT)?;
    let has_prefix = |p: &&str| name.get(..p.len()).is_some_and(|n| n.eq_ignore_ascii_case(p)) && name.len() > p.len();
    // RFC 3261 25.1: token.
    let token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    if !token || !prefixes.iter().any(has_prefix) {
        return bad(field, format!("`{name}` is no header name that begins with {}", prefixes.join(" or ")));
    }
    Ok(name)
}

/// URI or header parameters. Whether a name or value can stand in SIP is judged where the header is written.
pub(crate) fn parameters(field: &str, list: Vec<(String, String)>) -> Checked<Vec<(String, String)>> {
    if list.len() > limits::HEADERS {
        return bad(field, format!("{} parameters; at most {}", list.len(), limits::HEADERS));
    }
    list.into_iter()
        .map(|(name, value)| Ok((nonempty(field, name, limits::SHORT_TEXT)?, text(field, value, limits::SHORT_TEXT)?)))
        .collect()
}

fn sip_uri(field: &str, value: String) -> Checked<String> {
    // Whether it is a SIP URI is judged where it is used, with its own alarm (`Invalid sip address`).
    nonempty(field, value, limits::URI)
}

fn id(field: &str, value: String) -> Checked<String> {
    let value = nonempty(field, value, limits::SHORT_TEXT)?;
    if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        Ok(value)
    } else {
        bad(field, "characters other than letters, digits, - _ .")
    }
}

fn extension(field: &str, ext: wit::Extension) -> Checked<(String, String)> {
    Ok((nonempty(field, ext.name, 64)?, json(field, ext.json, limits::JSON)?))
}

pub(super) fn routing(routing: wit::Routing) -> Checked<Routing> {
    Ok(match routing {
        wit::Routing::Drop(d) => {
            Routing::Drop { drop_code: d.drop_code.map(drop_code).transpose()?, session_reference: reference(d.session_reference)? }
        }
        wit::Routing::Ivr(i) => {
            if i.participant_id.is_some() {
                return not_yet("ivr.participant-id");
            }
            Routing::Ivr { session_reference: reference(i.session_reference)? }
        }
        wit::Routing::Call(call) => Routing::Call(Box::new(outbound(call)?)),
        wit::Routing::Join(j) => Routing::Join {
            participant_id: id("join.participant-id", j.participant_id)?,
            session_reference: reference(j.session_reference)?,
            recording: recording_of("join", j.call_recording, j.recording_file_name, j.recording)?,
        },
        wit::Routing::Httpcall(h) => Routing::HttpCall {
            device: Box::new(device::endpoint("httpcall.endpoint", h.endpoint)?),
            session_reference: reference(h.session_reference)?,
        },
        wit::Routing::Redirect(r) => {
            if !(300..=302).contains(&r.status) {
                return bad("redirect.status", format!("{}; 300 to 302", r.status));
            }
            if r.contacts.is_empty() || r.contacts.len() > limits::CONTACTS {
                return bad("redirect.contacts", format!("{} contacts; 1 to {}", r.contacts.len(), limits::CONTACTS));
            }
            Routing::Redirect {
                status: r.status,
                contacts: r.contacts.into_iter().map(|c| sip_uri("redirect.contacts", c)).collect::<Checked<_>>()?,
                session_reference: reference(r.session_reference)?,
            }
        }
        // Without a name: a handler that speaks for somebody else heard no action from there (IC-165).
        wit::Routing::Ext(e) if e.name.is_empty() => Routing::Ext { name: String::new(), json: "{}".into() },
        wit::Routing::Ext(e) => {
            let (name, json) = extension("routing.ext", e)?;
            Routing::Ext { name, json }
        }
    })
}

pub(super) fn identified(answer: wit::CallIdentifierAnswer) -> Checked<Identified> {
    Ok(Identified {
        session_id: some_text("session-id", answer.session_id, limits::SHORT_TEXT)?,
        session_reference: reference(answer.session_reference)?,
    })
}

/// IC-214.
pub(super) fn noted(answer: wit::RemoteCallAnswer) -> Checked<Verdict> {
    Ok(Verdict::Noted { session_reference: reference(answer.session_reference)? })
}

/// IC-166, by the seed's names.
fn drop_code(code: wit::DropCode) -> Checked<String> {
    use wit::DropCode as C;
    Ok(match code {
        C::Busy => "busy".into(),
        C::Decline => "decline".into(),
        C::Reject => "reject".into(),
        C::NoAnswer => "noAnswer".into(),
        C::Unavailable => "unavailable".into(),
        C::NotFound => "notFound".into(),
        C::Forbidden => "forbidden".into(),
        C::Gone => "gone".into(),
        C::Timeout => "timeout".into(),
        C::Congestion => "congestion".into(),
        C::NotAcceptable => "notAcceptable".into(),
        C::SipCode(code) if (400..=699).contains(&code) => code.to_string(),
        C::SipCode(code) => return bad("drop.drop-code", format!("{code}; 400 to 699")),
        C::Ext(_) => "decline".into(),
    })
}

fn outbound(call: wit::OutboundCall) -> Checked<OutboundCall> {
    let short = |field: &str, value| some_text(field, value, limits::SHORT_TEXT);
    Ok(OutboundCall {
        dest_addr: sip_uri("call.dest-addr", call.dest_addr)?,
        max_ring_time: match call.max_ring_time_ms {
            Some(ms) if !(1000..=300_000).contains(&ms) => return bad("call.max-ring-time-ms", format!("{ms}; 1000 to 300000")),
            ms => ms.map(|ms| Duration::from_millis(u64::from(ms))),
        },
        call_recording: call.call_recording,
        recording: recording_of("call", false, None, call.recording)?,
        recording_file_name: call.recording_file_name.map(|n| file_name("call.recording-file-name", n)).transpose()?,
        ringback_tone: match call.ringback_tone {
            None => None,
            Some(wit::Ringback::Standard | wit::Ringback::Ext(_)) => Some("default".into()),
            Some(wit::Ringback::None) => Some("none".into()),
            Some(wit::Ringback::Early) => Some("early".into()),
            Some(wit::Ringback::File(name)) => Some(file_name("call.ringback-tone", name)?),
            Some(wit::Ringback::Url(address)) => Some(url("call.ringback-tone", address)?),
        },
        greeting: call.greeting.map(greeting).transpose()?,
        sip_from: short("call.sip-from", call.sip_from)?,
        sip_to: short("call.sip-to", call.sip_to)?,
        sip_pai: short("call.sip-pai", call.sip_pai)?,
        sip_rpid: short("call.sip-rpid", call.sip_rpid)?,
        sip_diversion: short("call.sip-diversion", call.sip_diversion)?,
        sip_diversion_parameters: parameters("call.sip-diversion-parameters", call.sip_diversion_parameters)?,
        contact_parameters: parameters("call.contact-parameters", call.contact_parameters)?,
        contact_user_parameters: parameters("call.contact-user-parameters", call.contact_user_parameters)?,
        display_name: short("call.display-name", call.display_name)?,
        caller_privacy: call.caller_privacy,
        x_headers: headers("call.x-headers", "x-", call.x_headers)?,
        p_headers: headers("call.p-headers", "p-", call.p_headers)?,
        copy_headers: header_names("call.copy-headers", call.copy_headers)?,
        participant_id: call.participant_id.map(|p| id("call.participant-id", p)).transpose()?,
        monitor: call.monitor.map(|leg| monitor(leg).map(Box::new)).transpose()?,
        session_reference: reference(call.session_reference)?,
    })
}

/// IC-189 to IC-191.
fn monitor(leg: wit::MonitorLeg) -> Checked<OutboundCall> {
    Ok(OutboundCall {
        dest_addr: sip_uri("call.monitor.dest-addr", leg.dest_addr)?,
        sip_from: some_text("call.monitor.sip-from", leg.sip_from, limits::SHORT_TEXT)?,
        p_headers: headers("call.monitor.p-headers", "p-", leg.p_headers)?,
        x_headers: headers("call.monitor.x-headers", "x-", leg.x_headers)?,
        ..OutboundCall::default()
    })
}

/// IC-173, IC-174.
fn greeting(greeting: wit::Greeting) -> Checked<Greeting> {
    let side = |side: &str, phrases: Vec<wit::Phrase>| {
        let field = |name: &str| format!("call.greeting.{side}{name}");
        if phrases.len() > call_limits::PHRASES {
            return bad(&field(""), format!("{}; at most {}", phrases.len(), call_limits::PHRASES));
        }
        let within = |n: Nonsense| Nonsense { field: field(n.field.strip_prefix("phrases").unwrap_or(&n.field)), ..n };
        let one = |(i, given): (usize, wit::Phrase)| match phrase(i, given).map_err(within)? {
            // What the parties say to each other is recorded, and nobody talks to an echo before a call.
            Phrase::Record(_) | Phrase::Echo { .. } => bad(&field(&format!("[{i}]")), "is no sound to play"),
            phrase => Ok(phrase),
        };
        phrases.into_iter().enumerate().map(one).collect::<Checked<Vec<Phrase>>>()
    };
    Ok(Greeting {
        order: match greeting.play_mode {
            Some(wit::PlayMode::CalleeFirst) => PlayMode::CalleeFirst,
            Some(wit::PlayMode::CallerFirst) => PlayMode::CallerFirst,
            None | Some(wit::PlayMode::Both) => PlayMode::Both,
        },
        caller: side("caller", greeting.caller)?,
        callee: side("callee", greeting.callee)?,
    })
}

pub(super) fn ivr_command(command: wit::IvrCommand) -> Checked<IvrCommand> {
    if command.phrases.len() > call_limits::PHRASES {
        return bad("phrases", format!("{}; at most {}", command.phrases.len(), call_limits::PHRASES));
    }
    if command.ext.len() > limits::EXTENSIONS {
        return bad("ext", format!("{}; at most {}", command.ext.len(), limits::EXTENSIONS));
    }
    Ok(IvrCommand {
        session_id: some_text("session-id", command.session_id, limits::SHORT_TEXT)?,
        session_reference: reference(command.session_reference)?,
        phrases: command.phrases.into_iter().enumerate().map(|(i, p)| phrase(i, p)).collect::<Checked<_>>()?,
        dtmf: command.dtmf.map(collect).transpose()?,
        barge_in: match command.barge_in {
            wit::BargeIn::None => BargeIn::None,
            wit::BargeIn::Current => BargeIn::Current,
            wit::BargeIn::All => BargeIn::All,
        },
        background: match command.background {
            None | Some(wit::Background::Ext(_)) => None,
            Some(b) => Some(background(b)?),
        },
        hangup: command.hangup,
        recorded_callback: command.recorded_callback,
        next_after: duration("next-after-ms", command.next_after_ms, call_limits::COLLECT_TIMEOUT)?,
        routing: command.routing.map(|r| routing(r).map(Box::new)).transpose()?,
        ext: command.ext.into_iter().map(|e| extension("ext", e)).collect::<Checked<_>>()?,
    })
}

fn collect(collect: wit::Collect) -> Checked<Collect> {
    let default = Collect::default();
    let timeout = |field, ms: Option<u32>, default| ms.map_or(Ok(default), |ms| duration(field, ms, call_limits::COLLECT_TIMEOUT));
    if let Some(n) = collect.max_digits
        && !(1..=wire_limits::DIGITS).contains(&(n as usize))
    {
        return bad("dtmf.max-digits", format!("{n}; 1 to {}", wire_limits::DIGITS));
    }
    Ok(Collect {
        flush: collect.flush,
        max_digits: collect.max_digits,
        first_timeout: timeout("dtmf.first-timeout-ms", collect.first_timeout_ms, default.first_timeout)?,
        between_timeout: timeout("dtmf.between-timeout-ms", collect.between_timeout_ms, default.between_timeout)?,
        termination_keys: digits("dtmf.termination-keys", collect.termination_keys)?,
        encryption: match collect.encryption {
            None => None,
            Some(wit::DigitProtection::Md5(salt)) => {
                Some(DigitProtection::Md5 { salt: text("dtmf.encryption", salt, limits::SHORT_TEXT)? })
            }
            Some(wit::DigitProtection::HmacSha256(salt)) => {
                Some(DigitProtection::HmacSha256 { salt: text("dtmf.encryption", salt, limits::SHORT_TEXT)? })
            }
            // Reporting digits in the clear would be the opposite of what was asked for.
            Some(wit::DigitProtection::Ext(e)) => return bad("dtmf.encryption", format!("`{}` is not known here", e.name.escape_debug())),
        },
    })
}

fn background(background: wit::Background) -> Checked<BackgroundPrompt> {
    let stopped = BackgroundPrompt { file_name: None, url: None, repeat_pause: Duration::ZERO, stop: true };
    let wit::Background::Play(play) = background else { return Ok(stopped) };
    let repeat_pause = duration("background.repeat-pause-ms", play.repeat_pause_ms, call_limits::COLLECT_TIMEOUT)?;
    Ok(match play.source {
        wit::AudioSource::File(name) => {
            BackgroundPrompt { file_name: Some(file_name("background.source", name)?), repeat_pause, stop: false, ..stopped }
        }
        wit::AudioSource::Url(address) => {
            BackgroundPrompt { url: Some(url("background.source", address)?), repeat_pause, stop: false, ..stopped }
        }
        wit::AudioSource::Ext(e) => return bad("background.source", format!("`{}` is not known here", e.name.escape_debug())),
    })
}

pub(crate) fn phrase(index: usize, phrase: wit::Phrase) -> Checked<Phrase> {
    let at = |name: &str| format!("phrases[{index}].{name}");
    Ok(match phrase {
        wit::Phrase::File(f) => Phrase::File { file_name: file_name(&at("file-name"), f.file_name)? },
        wit::Phrase::Url(u) => {
            let keep = keep(&at, u.cache_time_to_live, u.refresh_cache, u.file_name)?;
            Phrase::Url { url: url(&at("url"), u.url)?, key: None, keep: Some(keep) }
        }
        wit::Phrase::Tts(t) => {
            if !matches!(t.engine.as_str(), "local" | "awstts" | "googletts") {
                return bad(&at("engine"), "not local, awstts or googletts");
            }
            let keep = keep(&at, t.cache_time_to_live, t.refresh_cache, t.file_name)?;
            Phrase::Tts { engine: t.engine, parameters: json(&at("parameters"), t.parameters, limits::JSON)?, keep }
        }
        wit::Phrase::Tone(t) => tone(&at, t)?,
        wit::Phrase::Silence(ms) => Phrase::Silence { duration: duration(&at("silence"), ms, call_limits::COLLECT_TIMEOUT)? },
        wit::Phrase::Record(options) => {
            if !matches!(options.mode, None | Some(wit::RecordingMode::Foreground)) {
                return bad(&at("mode"), "a phrase is in the foreground");
            }
            Phrase::Record(Box::new(recording(&at, options)?))
        }
        wit::Phrase::Echo(ms) => Phrase::Echo { duration: duration(&at("echo"), ms, call_limits::COLLECT_TIMEOUT)? },
        wit::Phrase::Say(s) => {
            if !matches!(s.kind.as_str(), "number" | "digits" | "date" | "time" | "currency") {
                return bad(&at("kind"), "not number, digits, date, time or currency");
            }
            Phrase::Say {
                kind: s.kind,
                value: text(&at("value"), s.value, limits::SHORT_TEXT)?,
                language: text(&at("language"), s.language, 35)?,
            }
        }
        wit::Phrase::Ext(e) => {
            let (name, json) = extension(&at("ext"), e)?;
            Phrase::Ext { name, json }
        }
    })
}

/// IC-247 to IC-249.
fn keep(at: &dyn Fn(&str) -> String, time: Option<wit::CacheTime>, refresh: bool, name: Option<String>) -> Checked<Keep> {
    let days = |days: u64| Duration::from_secs(days * 86_400);
    Ok(Keep {
        time: match time {
            None => call_limits::KEEP_USUAL,
            Some(wit::CacheTime::Day) => days(1),
            Some(wit::CacheTime::Week) => days(7),
            Some(wit::CacheTime::Month) => days(30),
            Some(wit::CacheTime::Quarter) => days(91),
            Some(wit::CacheTime::HalfYear) => days(182),
        },
        refresh,
        file_name: name.map(|name| file_name(&at("file-name"), name)).transpose()?,
    })
}

fn tone(at: &dyn Fn(&str) -> String, tone: wit::TonePhrase) -> Checked<Phrase> {
    if tone.hz.is_empty() || tone.hz.len() > limits::TONE_FREQUENCIES {
        return bad(&at("hz"), format!("{} frequencies; 1 to {}", tone.hz.len(), limits::TONE_FREQUENCIES));
    }
    // A range contains no NaN.
    if tone.hz.iter().any(|hz| !(50.0..=3600.0).contains(hz)) {
        return bad(&at("hz"), "50 to 3600");
    }
    if !(-60.0..=0.0).contains(&tone.level_dbm0) {
        return bad(&at("level-dbm0"), "-60 to 0");
    }
    let within = |name: &str, ms: u32, least: u32, most: u32| {
        if (least..=most).contains(&ms) {
            Ok(Duration::from_millis(u64::from(ms)))
        } else {
            bad(&at(name), format!("{ms}; {least} to {most}"))
        }
    };
    Ok(Phrase::Tone {
        on: within("on-ms", tone.on_ms, 10, 60_000)?,
        off: within("off-ms", tone.off_ms, 0, 60_000)?,
        total: within("total-ms", tone.total_ms, 10, 600_000)?,
        hz: tone.hz,
        level_dbm0: tone.level_dbm0,
    })
}

/// An order of a guest to its own session (`session_id` is the node's knowledge).
pub(crate) fn order(order: Order, session_id: &str) -> Result<Command, wit::HostError> {
    let session_id = session_id.to_owned();
    Ok(match order {
        Order::HangupParticipant { participant_id } => {
            Command::HangupParticipant { session_id, participant_id: id("participant-id", participant_id)? }
        }
        Order::HangupRemoteParticipant { participant_id } => {
            Command::HangupRemoteParticipant { session_id, participant_id: id("participant-id", participant_id)? }
        }
        Order::SplitConnection { connection_id } => {
            Command::SplitConnection { session_id, connection_id: id("connection-id", connection_id)? }
        }
        Order::InterruptIvrCommand => Command::InterruptIvrCommand { session_id, command: None },
        Order::SendDtmf { participant_id, digits, digit_ms } => {
            let (least, most) = (call_limits::DIGIT_MIN, call_limits::DIGIT_MAX);
            let length = digit_ms.map(|ms| Duration::from_millis(u64::from(ms)));
            if let Some(length) = length.filter(|length| !(least..=most).contains(length)) {
                bad("digit-ms", format!("{}; {} to {}", length.as_millis(), least.as_millis(), most.as_millis()))?;
            }
            if digits.is_empty() || digits.len() > limits::SEND_DIGITS {
                bad("digits", format!("{} digits; 1 to {}", digits.len(), limits::SEND_DIGITS))?;
            }
            if !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b.to_ascii_uppercase(), b'*' | b'#' | b'A'..=b'D')) {
                bad("digits", "only the keys 0-9 * # A-D")?;
            }
            let participant_id = id("participant-id", participant_id)?;
            Command::SendDtmf { session_id, participant_id, digits: digits.to_ascii_uppercase(), length }
        }
        Order::Transfer { participant_id, target } => {
            let target = match target {
                hookswitch_wasm::TransferTarget::Blind(uri) => TransferTarget::Blind(sip_uri("target", uri)?),
                hookswitch_wasm::TransferTarget::Attended(other) => TransferTarget::Attended(id("target", other)?),
            };
            Command::Transfer { session_id, participant_id: id("participant-id", participant_id)?, target }
        }
        Order::Hold { participant_id, audio } => {
            let audio = match audio {
                hookswitch_wasm::HoldAudio::Silence => HoldAudio::Silence,
                hookswitch_wasm::HoldAudio::File(name) => HoldAudio::File(file_name("audio", name)?),
            };
            Command::Hold { session_id, participant_id: id("participant-id", participant_id)?, audio }
        }
        Order::Resume { participant_id } => Command::Resume { session_id, participant_id: id("participant-id", participant_id)? },
        Order::Mute { participant_id, direction } => {
            let (speak, listen) = match direction {
                hookswitch_wasm::MuteDirection::Speak => (true, false),
                hookswitch_wasm::MuteDirection::Listen => (false, true),
                hookswitch_wasm::MuteDirection::Both => (true, true),
                hookswitch_wasm::MuteDirection::Off => (false, false),
            };
            Command::Mute { session_id, participant_id: id("participant-id", participant_id)?, mute: Mute { speak, listen } }
        }
        Order::Play { participant_id, phrases: given } => {
            let phrases = phrases("phrases", given)?;
            Command::Play { session_id, participant_id: id("participant-id", participant_id)?, phrases }
        }
        Order::SetTimer { name, after_ms } => Command::SetTimer { session_id, name, after: Duration::from_millis(after_ms) },
        Order::CancelTimer { name } => Command::CancelTimer { session_id, name },
        Order::PlaceIvrCall(call) => {
            if call.session_id.as_ref().is_some_and(|other| *other != session_id) {
                return Err(wit::HostError::Denied("session-id: another session than the handler's own".into()));
            }
            let inapplicable = [
                ("call.call-recording", call.call.call_recording || call.call.recording_file_name.is_some()),
                ("call.ringback-tone", call.call.ringback_tone.is_some()),
                ("call.greeting", call.call.greeting.is_some()),
                ("call.participant-id", call.call.participant_id.is_some()),
                ("call.monitor", call.call.monitor.is_some()),
            ];
            if let Some((field, _)) = inapplicable.iter().find(|(_, said)| *said) {
                bad(field, "does not apply to a call into the IVR")?;
            }
            Command::PlaceIvrCall(Box::new(PlaceIvrCall {
                session_id: call.session_id,
                mediaservice_id: some_text("mediaservice-id", call.mediaservice_id, limits::SHORT_TEXT)?,
                call: outbound(call.call)?,
            }))
        }
        Order::PlaceRemoteCall(call) => Command::PlaceRemoteCall(Box::new(PlaceRemoteCall {
            device: device::endpoint("endpoint", call.endpoint)?,
            destination_uri: sip_uri("destination-uri", call.destination_uri)?,
            source_user: nonempty("source-user", call.source_user, limits::SHORT_TEXT)?,
            callback_base_url: url("callback-base-url", call.callback_base_url)?,
            session_reference: reference(call.session_reference)?,
        })),
        Order::SendRemoteCallRingback => Command::SendRemoteCallRingback { session_id },
        Order::AnswerRemoteCall { endpoint, session_reference } => Command::AnswerRemoteCall {
            session_id,
            device: Box::new(device::endpoint("endpoint", *endpoint)?),
            session_reference: reference(session_reference)?,
        },
        Order::HangupCall => Command::HangupCall { session_id },
        Order::StartRecording { target, options, prompts } => {
            let target = match target {
                wit::RecordingTarget::Connection(connection) => Target::Connection(id("target.connection", connection)?),
                wit::RecordingTarget::Participant(participant) => Target::Participant(id("target.participant", participant)?),
                wit::RecordingTarget::Session => Target::Session,
                wit::RecordingTarget::Ext(_) => not_yet("target.ext")?,
            };
            let options = Box::new(recording(&|field| format!("options.{field}"), *options)?);
            let prompts = phrases("prompts", prompts)?;
            Command::StartRecording { session_id, target, options, prompts }
        }
        Order::StopRecording { recording } => Command::StopRecording { session_id, which: which(recording)? },
        Order::PauseRecording { recording, behavior } => {
            Command::PauseRecording { session_id, which: which(recording)?, behavior: behavior.map(pause_behavior) }
        }
        Order::ResumeRecording { recording } => Command::ResumeRecording { session_id, which: which(recording)? },
        Order::DiscardRecording { recording } => Command::DiscardRecording { session_id, which: which(recording)? },
        Order::GetRecording { recording } => Command::GetRecording { session_id, which: which(recording)? },
    })
}

fn phrases(field: &str, given: Vec<wit::Phrase>) -> Checked<Vec<Phrase>> {
    if given.len() > call_limits::PHRASES {
        return bad(field, format!("{}; at most {}", given.len(), call_limits::PHRASES));
    }
    given.into_iter().enumerate().map(|(i, p)| phrase(i, p)).collect()
}

fn which(recording: Option<String>) -> Checked<WhichRecording> {
    Ok(match recording {
        None => WhichRecording::Last,
        Some(recording) => WhichRecording::Id(id("recording", recording)?),
    })
}

/// Options of a recording, whatever orders it. What no node knows yet is `unsupported`; impossible values are named as the WIT names them.
fn recording(at: &dyn Fn(&str) -> String, o: wit::RecordingOptions) -> Checked<RecordingOptions> {
    let time = |ms: Option<u32>| ms.map(|ms| Duration::from_millis(u64::from(ms)));
    let options = RecordingOptions {
        control_id: o.control_id,
        client_context: o.client_context,
        dialect: match o.dialect {
            None | Some(wit::RecordingDialect::Native) => Dialect::Native,
            Some(wit::RecordingDialect::Graph) => Dialect::Graph,
            Some(wit::RecordingDialect::Aculab) => Dialect::Aculab,
            Some(wit::RecordingDialect::Iotcomms) => Dialect::Iotcomms,
            Some(wit::RecordingDialect::Swml) => Dialect::Swml,
            Some(wit::RecordingDialect::Ozeki) => Dialect::Ozeki,
            Some(wit::RecordingDialect::Ext(_)) => return not_yet(&at("dialect")),
        },
        mode: o.mode.map(|mode| match mode {
            wit::RecordingMode::Foreground => Mode::Foreground,
            wit::RecordingMode::Background => Mode::Background,
            wit::RecordingMode::Queued => Mode::Queued,
        }),
        queue_policy: match o.queue_policy {
            None | Some(wit::QueuePolicy::Append) => QueuePolicy::Append,
            Some(wit::QueuePolicy::Barge) => QueuePolicy::Barge,
        },
        direction: o.direction.map(|direction| match direction {
            wit::RecordingDirection::Speak => Direction::Speak,
            wit::RecordingDirection::Listen => Direction::Listen,
            wit::RecordingDirection::Both => Direction::Both,
        }),
        channels: o.channels.map(|channels| match channels {
            wit::RecordingChannels::Mono => Channels::Mono,
            wit::RecordingChannels::Stereo => Channels::Stereo,
        }),
        container: match o.container {
            None => None,
            Some(wit::RecordingContainer::Wav) => Some(Container::Wav),
            Some(wit::RecordingContainer::Mp3) => Some(Container::Mp3),
            Some(wit::RecordingContainer::Mp4) => Some(Container::Mp4),
            Some(wit::RecordingContainer::Ogg) => Some(Container::Ogg),
            Some(wit::RecordingContainer::Ext(_)) => return not_yet(&at("container")),
        },
        encoding: match o.encoding {
            None | Some(wit::RecordingEncoding::Auto) => Encoding::Auto,
            Some(wit::RecordingEncoding::Pcm16) => Encoding::Pcm16,
            Some(wit::RecordingEncoding::Alaw) => Encoding::Alaw,
            Some(wit::RecordingEncoding::Ulaw) => Encoding::Ulaw,
            Some(wit::RecordingEncoding::Mp3) => Encoding::Mp3,
            Some(wit::RecordingEncoding::Aac) => Encoding::Aac,
            Some(wit::RecordingEncoding::Opus) => Encoding::Opus,
            Some(wit::RecordingEncoding::Ext(_)) => return not_yet(&at("encoding")),
        },
        sample_rate: o.sample_rate,
        bitrate_kbps: o.bitrate_kbps,
        file_name: o.file_name.map(|n| file_name(&at("file-name"), n)).transpose()?,
        storage_class: match o.storage_class {
            None | Some(wit::StorageClass::PromptStore) => StorageClass::PromptStore,
            Some(wit::StorageClass::Ephemeral) => StorageClass::Ephemeral,
            Some(wit::StorageClass::TenantBucket) => StorageClass::TenantBucket,
            Some(wit::StorageClass::Ext(_)) => return not_yet(&at("storage-class")),
        },
        beep: o.beep.then_some(true),
        stop_digits: o.stop_digits.map(|d| digits(&at("stop-digits"), d)).transpose()?,
        stop_digit_consume: o.stop_digit_consume,
        stop_digit_trim: o.stop_digit_trim,
        initial_silence: time(o.initial_silence_ms),
        max_silence: time(o.max_silence_ms),
        max_duration: time(o.max_duration_ms),
        // Zero is no limit, as everywhere.
        max_file_bytes: o.max_file_bytes.filter(|bytes| *bytes > 0),
        start_on_voice: o.start_on_voice.then_some(true),
        sensitivity: o.sensitivity,
        pause_behavior: o.pause_behavior.map_or(PauseBehavior::Skip, pause_behavior),
        encryption: match o.encryption {
            None => None,
            Some(wit::RecordingEncryption::AesCbc(given)) => {
                let Ok(iv) = given.iv.try_into() else { return bad(&at("encryption"), "a vector has 16 bytes") };
                Some(CbcKey { key: given.key, iv })
            }
            Some(wit::RecordingEncryption::Ext(_)) => return not_yet(&at("encryption")),
        },
        announce: o.announce,
        prompts_only: false,
        retention: o.retention_ms.map(Duration::from_millis),
        status_url: o.status_url.map(|u| url(&at("status-url"), u)).transpose()?,
        on_complete_url: o.on_complete_url.map(|u| url(&at("on-complete-url"), u)).transpose()?,
        on_available_url: o.on_available_url.map(|u| url(&at("on-available-url"), u)).transpose()?,
    };
    options.check().or_else(|(field, why)| bad(&at(&kebab(field)), why))?;
    Ok(options)
}

fn pause_behavior(behavior: wit::PauseBehavior) -> PauseBehavior {
    match behavior {
        wit::PauseBehavior::Skip => PauseBehavior::Skip,
        wit::PauseBehavior::Silence => PauseBehavior::Silence,
    }
}

/// A field's name as the WIT writes it.
fn kebab(camel: &str) -> String {
    let mut name = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The recording that a routing asks for; `call`: which action says so.
fn recording_of(
    action: &str,
    call_recording: bool,
    name: Option<String>,
    o: Option<wit::RecordingOptions>,
) -> Checked<Option<Box<RecordingOptions>>> {
    let name = name.map(|n| file_name(&format!("{action}.recording-file-name"), n)).transpose()?;
    let mut options = match o {
        Some(o) => recording(&|field| format!("{action}.recording.{field}"), o)?,
        None if call_recording => RecordingOptions::of_call(None),
        None => return Ok(None),
    };
    if options.mode == Some(Mode::Foreground) {
        return bad(&format!("{action}.recording.mode"), "only a phrase is in the foreground");
    }
    options.file_name = options.file_name.or(name);
    Ok(Some(Box::new(options)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn command() -> wit::IvrCommand {
        wit::IvrCommand {
            session_id: None,
            session_reference: None,
            phrases: vec![],
            dtmf: None,
            barge_in: wit::BargeIn::None,
            background: None,
            hangup: false,
            recorded_callback: false,
            next_after_ms: 0,
            routing: None,
            ext: vec![],
        }
    }

    fn collecting() -> wit::Collect {
        wit::Collect {
            flush: false,
            max_digits: None,
            first_timeout_ms: None,
            between_timeout_ms: None,
            termination_keys: String::new(),
            encryption: None,
        }
    }

    fn options() -> wit::RecordingOptions {
        wit::RecordingOptions {
            control_id: None,
            client_context: None,
            dialect: None,
            mode: None,
            queue_policy: None,
            direction: None,
            channels: None,
            container: None,
            encoding: None,
            sample_rate: None,
            bitrate_kbps: None,
            file_name: None,
            storage_class: None,
            beep: false,
            stop_digits: None,
            stop_digit_consume: None,
            stop_digit_trim: None,
            initial_silence_ms: None,
            max_silence_ms: None,
            max_duration_ms: None,
            max_file_bytes: None,
            start_on_voice: false,
            sensitivity: None,
            pause_behavior: None,
            encryption: None,
            announce: false,
            retention_ms: None,
            status_url: None,
            on_complete_url: None,
            on_available_url: None,
            extra: vec![],
        }
    }

    fn calling() -> wit::OutboundCall {
        wit::OutboundCall {
            dest_addr: "sip:200@example.net".into(),
            max_ring_time_ms: None,
            call_recording: false,
            recording_file_name: None,
            recording: None,
            ringback_tone: None,
            greeting: None,
            sip_from: None,
            sip_to: None,
            sip_pai: None,
            sip_rpid: None,
            sip_diversion: None,
            sip_diversion_parameters: vec![],
            display_name: None,
            caller_privacy: false,
            contact_parameters: vec![],
            contact_user_parameters: vec![],
            x_headers: vec![],
            p_headers: vec![],
            copy_headers: vec![],
            participant_id: None,
            monitor: None,
            session_reference: None,
            extra: vec![],
        }
    }

    fn dropping(code: wit::DropCode) -> wit::Routing {
        wit::Routing::Drop(wit::DropAction { drop_code: Some(code), session_reference: None, extra: vec![] })
    }

    fn file(name: &str) -> wit::Phrase {
        wit::Phrase::File(wit::FilePhrase { file_name: name.into(), extra: vec![] })
    }

    /// The field that an answer is refused for; `None`: it is taken.
    fn refused<T>(result: Checked<T>) -> Option<String> {
        result.err().map(|n| n.field)
    }

    #[test]
    fn an_empty_command_is_taken() {
        assert_eq!(ivr_command(command()), Ok(IvrCommand::default()));
    }

    #[test]
    fn ic_166_drop_codes_keep_the_seeds_names() {
        let code = |c| match routing(dropping(c)) {
            Ok(Routing::Drop { drop_code, .. }) => drop_code.unwrap_or_default(),
            other => format!("{other:?}"),
        };
        assert_eq!(code(wit::DropCode::Busy), "busy");
        assert_eq!(code(wit::DropCode::NoAnswer), "noAnswer");
        assert_eq!(code(wit::DropCode::NotAcceptable), "notAcceptable");
        assert_eq!(code(wit::DropCode::SipCode(400)), "400");
        assert_eq!(code(wit::DropCode::SipCode(699)), "699");
        for out in [0, 200, 399, 700, u16::MAX] {
            assert_eq!(refused(routing(dropping(wit::DropCode::SipCode(out)))).as_deref(), Some("drop.drop-code"), "{out}");
        }
    }

    #[test]
    fn ic_012_a_session_reference_is_json_of_limited_size() {
        let with = |reference: &str| refused(ivr_command(wit::IvrCommand { session_reference: Some(reference.into()), ..command() }));
        for good in ["{}", "\"x\"", "17", " [1, {\"a\": null}]\n"] {
            assert_eq!(with(good), None, "{good}");
        }
        for bad in ["", "{", "x", "{} {}", &format!("\"{}\"", "x".repeat(4096)), &"[".repeat(4000)] {
            assert_eq!(with(bad).as_deref(), Some("session-reference"), "{bad}");
        }
    }

    #[test]
    fn ic_038_file_names_are_plain() {
        let with = |name: &str| refused(ivr_command(wit::IvrCommand { phrases: vec![file(name)], ..command() }));
        for good in ["menu.wav", "a b.wav", "ä.wav", ".hidden", &"x".repeat(255)] {
            assert_eq!(with(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a/b.wav", "../etc/passwd", "a\\b", "a..b", "a\0b", "a\nb", &"x".repeat(256)] {
            assert_eq!(with(bad).as_deref(), Some("phrases[0].file-name"), "{bad:?}");
        }
    }

    #[test]
    fn ic_229_236_digit_collection_is_taken_with_defaults_and_within_bounds() {
        let taken = collect(wit::Collect { termination_keys: "#a".into(), ..collecting() }).expect("taken");
        assert_eq!((taken.first_timeout, taken.between_timeout), (Duration::from_secs(30), Duration::from_secs(3)));
        assert_eq!((taken.max_digits, taken.termination_keys.as_str()), (None, "#A"));
        for (change, field) in [
            (wit::Collect { max_digits: Some(0), ..collecting() }, "dtmf.max-digits"),
            (wit::Collect { max_digits: Some(65), ..collecting() }, "dtmf.max-digits"),
            (wit::Collect { first_timeout_ms: Some(600_001), ..collecting() }, "dtmf.first-timeout-ms"),
            (wit::Collect { between_timeout_ms: Some(u32::MAX), ..collecting() }, "dtmf.between-timeout-ms"),
            (wit::Collect { termination_keys: "x".into(), ..collecting() }, "dtmf.termination-keys"),
            (wit::Collect { termination_keys: "1".repeat(17), ..collecting() }, "dtmf.termination-keys"),
        ] {
            assert_eq!(refused(collect(change)).as_deref(), Some(field));
        }
    }

    #[test]
    fn ic_241_242_247_to_249_how_a_made_phrase_is_kept_is_taken_over() {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        for (asked, time) in [
            (None, days(7)),
            (Some(wit::CacheTime::Day), days(1)),
            (Some(wit::CacheTime::Week), days(7)),
            (Some(wit::CacheTime::Month), days(30)),
            (Some(wit::CacheTime::Quarter), days(91)),
            (Some(wit::CacheTime::HalfYear), call_limits::KEEP_LONGEST),
        ] {
            let url = |address: &str, name: Option<&str>| {
                let url = wit::UrlPhrase {
                    url: address.into(),
                    cache_time_to_live: asked,
                    refresh_cache: true,
                    file_name: name.map(str::to_owned),
                    extra: vec![],
                };
                phrase(0, wit::Phrase::Url(url))
            };
            let keep = Keep { time, refresh: true, file_name: Some("a.wav".into()) };
            let expected = Phrase::Url { url: "https://x/a".into(), key: None, keep: Some(keep.clone()) };
            assert_eq!(url("https://x/a", Some("a.wav")), Ok(expected));
            assert_eq!(refused(url("https://x/a", Some("../a"))).as_deref(), Some("phrases[0].file-name"));
            assert_eq!(refused(url("file:///etc/passwd", None)).as_deref(), Some("phrases[0].url"));
            let tts = |engine: &str, parameters: &str| {
                let tts = wit::TtsPhrase {
                    engine: engine.into(),
                    parameters: parameters.into(),
                    cache_time_to_live: asked,
                    refresh_cache: true,
                    file_name: Some("a.wav".into()),
                    extra: vec![],
                };
                phrase(0, wit::Phrase::Tts(tts))
            };
            let expected = Phrase::Tts { engine: "awstts".into(), parameters: "{}".into(), keep };
            assert_eq!(tts("awstts", "{}"), Ok(expected));
            assert_eq!(refused(tts("other", "{}")).as_deref(), Some("phrases[0].engine"));
            assert_eq!(refused(tts("local", "{")).as_deref(), Some("phrases[0].parameters"));
        }
    }

    #[test]
    fn tones_are_within_what_a_telephone_hears() {
        let tone = |hz: &[f32], level, on, off, total| {
            refused(phrase(
                0,
                wit::Phrase::Tone(wit::TonePhrase { hz: hz.to_vec(), level_dbm0: level, on_ms: on, off_ms: off, total_ms: total }),
            ))
        };
        assert_eq!(tone(&[425.0], -15.0, 1000, 5000, 20_000), None);
        assert_eq!(tone(&[], -15.0, 1000, 0, 1000).as_deref(), Some("phrases[0].hz"));
        assert_eq!(tone(&[425.0; 5], -15.0, 1000, 0, 1000).as_deref(), Some("phrases[0].hz"));
        assert_eq!(tone(&[f32::NAN], -15.0, 1000, 0, 1000).as_deref(), Some("phrases[0].hz"));
        assert_eq!(tone(&[4000.0], -15.0, 1000, 0, 1000).as_deref(), Some("phrases[0].hz"));
        assert_eq!(tone(&[425.0], f32::NAN, 1000, 0, 1000).as_deref(), Some("phrases[0].level-dbm0"));
        assert_eq!(tone(&[425.0], 3.0, 1000, 0, 1000).as_deref(), Some("phrases[0].level-dbm0"));
        assert_eq!(tone(&[425.0], -15.0, 0, 0, 1000).as_deref(), Some("phrases[0].on-ms"));
        assert_eq!(tone(&[425.0], -15.0, 10, 0, 0).as_deref(), Some("phrases[0].total-ms"));
    }

    #[test]
    fn ic_244_record_phrases_are_taken_and_impossible_options_are_named() {
        let with = |o: wit::RecordingOptions| phrase(3, wit::Phrase::Record(o));
        let taken = with(wit::RecordingOptions {
            file_name: Some("m.wav".into()),
            beep: true,
            max_duration_ms: Some(60_000),
            max_silence_ms: Some(0),
            stop_digits: Some("#*".into()),
            sensitivity: Some(44),
            container: Some(wit::RecordingContainer::Wav),
            ..options()
        });
        let Ok(Phrase::Record(taken)) = taken else { panic!("{taken:?}") };
        assert_eq!((taken.max_duration, taken.max_silence), (Some(Duration::from_secs(60)), Some(Duration::ZERO)));
        assert_eq!((taken.stop_digits.as_deref(), taken.beep), (Some("#*"), Some(true)));
        let key = |key: usize, iv: usize| Some(wit::RecordingEncryption::AesCbc(wit::AesCbcKey { key: vec![0; key], iv: vec![0; iv] }));
        let newer = || wit::Extension { name: "newer".into(), json: "{}".into() };
        for (change, field) in [
            (wit::RecordingOptions { encryption: key(15, 16), ..options() }, "phrases[3].encryption"),
            (wit::RecordingOptions { encryption: key(16, 15), ..options() }, "phrases[3].encryption"),
            (wit::RecordingOptions { container: Some(wit::RecordingContainer::Ext(newer())), ..options() }, "phrases[3].container"),
            (wit::RecordingOptions { encoding: Some(wit::RecordingEncoding::Aac), ..options() }, "phrases[3].encoding"),
            (wit::RecordingOptions { mode: Some(wit::RecordingMode::Queued), ..options() }, "phrases[3].mode"),
            (wit::RecordingOptions { control_id: Some(String::new()), ..options() }, "phrases[3].control-id"),
            (wit::RecordingOptions { status_url: Some("ftp://x".into()), ..options() }, "phrases[3].status-url"),
            (wit::RecordingOptions { sensitivity: Some(101), ..options() }, "phrases[3].sensitivity"),
            (wit::RecordingOptions { max_duration_ms: Some(u32::MAX), ..options() }, "phrases[3].max-duration-ms"),
            (wit::RecordingOptions { stop_digits: Some("E".into()), ..options() }, "phrases[3].stop-digits"),
            (wit::RecordingOptions { file_name: Some("/tmp/x".into()), ..options() }, "phrases[3].file-name"),
        ] {
            assert_eq!(refused(with(change)).as_deref(), Some(field));
        }
    }

    #[test]
    fn outbound_calls_cannot_smuggle_headers() {
        let with = |c: wit::OutboundCall| refused(routing(wit::Routing::Call(c)));
        assert_eq!(with(calling()), None);
        let x = |name: &str, value: &str| wit::OutboundCall { x_headers: vec![(name.into(), value.into())], ..calling() };
        assert_eq!(with(x("X-Good", "value")), None);
        for (name, value) in [("X-A", "b\r\nVia: x"), ("Via", "x"), ("X-", "x"), ("X-A :", "x"), ("X-\u{e9}", "x"), ("X", "x")] {
            assert_eq!(with(x(name, value)).as_deref(), Some("call.x-headers"), "{name:?} {value:?}");
        }
        assert_eq!(with(wit::OutboundCall { dest_addr: "sip:a\r\n@b".into(), ..calling() }).as_deref(), Some("call.dest-addr"));
        assert_eq!(with(wit::OutboundCall { dest_addr: String::new(), ..calling() }).as_deref(), Some("call.dest-addr"));
        assert_eq!(with(wit::OutboundCall { max_ring_time_ms: Some(0), ..calling() }).as_deref(), Some("call.max-ring-time-ms"));
        assert_eq!(with(wit::OutboundCall { copy_headers: vec!["Via".into()], ..calling() }).as_deref(), Some("call.copy-headers"));
        assert_eq!(with(wit::OutboundCall { display_name: Some("a\u{7}".into()), ..calling() }).as_deref(), Some("call.display-name"));
    }

    #[test]
    fn ic_189_190_191_a_monitor_is_taken_and_what_is_wrong_in_it_is_named() {
        let leg = || wit::MonitorLeg { dest_addr: "sip:m@b".into(), sip_from: None, p_headers: vec![], x_headers: vec![], extra: vec![] };
        let with = |leg: wit::MonitorLeg| routing(wit::Routing::Call(wit::OutboundCall { monitor: Some(leg), ..calling() }));
        let given = wit::MonitorLeg {
            sip_from: Some("monitor".into()),
            p_headers: vec![("P-A".into(), "1".into())],
            x_headers: vec![("X-A".into(), "2".into())],
            ..leg()
        };
        let Ok(Routing::Call(call)) = with(given) else { panic!("it is taken") };
        let monitor = call.monitor.expect("somebody listens");
        assert_eq!((monitor.dest_addr.as_str(), monitor.sip_from.as_deref()), ("sip:m@b", Some("monitor")));
        assert_eq!((monitor.p_headers[0].1.as_str(), monitor.x_headers[0].1.as_str()), ("1", "2"));
        let field = |leg| refused(with(leg));
        assert_eq!(field(wit::MonitorLeg { dest_addr: String::new(), ..leg() }).as_deref(), Some("call.monitor.dest-addr"));
        assert_eq!(field(wit::MonitorLeg { sip_from: Some("a\n".into()), ..leg() }).as_deref(), Some("call.monitor.sip-from"));
        assert_eq!(
            field(wit::MonitorLeg { p_headers: vec![("X-A".into(), "1".into())], ..leg() }).as_deref(),
            Some("call.monitor.p-headers")
        );
        assert_eq!(
            field(wit::MonitorLeg { x_headers: vec![("Via".into(), "1".into())], ..leg() }).as_deref(),
            Some("call.monitor.x-headers")
        );
    }

    #[test]
    fn ic_173_174_greetings_are_taken_and_what_is_wrong_in_them_is_named() {
        let with = |caller: Vec<wit::Phrase>, callee: Vec<wit::Phrase>| {
            let greeting = wit::Greeting { play_mode: Some(wit::PlayMode::CalleeFirst), caller, callee };
            routing(wit::Routing::Call(wit::OutboundCall { greeting: Some(greeting), ..calling() }))
        };
        let Ok(Routing::Call(call)) = with(vec![file("a.wav")], vec![file("b.wav"), wit::Phrase::Silence(100)]) else { panic!("refused") };
        let greeting = call.greeting.expect("there is one");
        assert_eq!((greeting.order, greeting.caller.len(), greeting.callee.len()), (PlayMode::CalleeFirst, 1, 2));
        assert_eq!(refused(with(vec![file("../x")], vec![])).as_deref(), Some("call.greeting.caller[0].file-name"));
        assert_eq!(refused(with(vec![], vec![file("a.wav"), wit::Phrase::Echo(5)])).as_deref(), Some("call.greeting.callee[1]"));
        assert_eq!(refused(with(vec![wit::Phrase::Record(options())], vec![])).as_deref(), Some("call.greeting.caller[0]"));
        let many = (0..65).map(|_| file("a.wav")).collect();
        assert_eq!(refused(with(many, vec![])).as_deref(), Some("call.greeting.caller"));
    }

    #[test]
    fn ic_299_redirects_and_ic_260_routing_out_of_the_ivr() {
        let redirect = |status, contacts: Vec<String>| {
            wit::Routing::Redirect(wit::RedirectAction { status, contacts, session_reference: None, extra: vec![] })
        };
        assert_eq!(refused(routing(redirect(302, vec!["sip:a@b".into()]))), None);
        assert_eq!(refused(routing(redirect(303, vec!["sip:a@b".into()]))).as_deref(), Some("redirect.status"));
        assert_eq!(refused(routing(redirect(302, vec![]))).as_deref(), Some("redirect.contacts"));
        let out = ivr_command(wit::IvrCommand { routing: Some(dropping(wit::DropCode::Busy)), ..command() }).expect("taken");
        assert!(matches!(out.routing.as_deref(), Some(Routing::Drop { drop_code: Some(c), .. }) if c == "busy"));
    }

    #[test]
    fn too_many_phrases_and_odd_extensions_are_named() {
        let many = wit::IvrCommand { phrases: (0..65).map(|_| file("a.wav")).collect(), ..command() };
        assert_eq!(refused(ivr_command(many)).as_deref(), Some("phrases"));
        let ext = |name: &str, json: &str| wit::Extension { name: name.into(), json: json.into() };
        assert_eq!(refused(routing(wit::Routing::Ext(ext("mixer", "{}")))), None);
        assert_eq!(refused(routing(wit::Routing::Ext(ext("", "{}")))), None);
        assert_eq!(refused(routing(wit::Routing::Ext(ext("a\nb", "{}")))).as_deref(), Some("routing.ext"));
        assert_eq!(refused(routing(wit::Routing::Ext(ext("mixer", "{")))).as_deref(), Some("routing.ext"));
        assert_eq!(refused(phrase(0, wit::Phrase::Silence(600_001))).as_deref(), Some("phrases[0].silence"));
    }

    fn ordered(order: Order) -> Result<Command, String> {
        super::order(order, "s").map_err(|e| match e {
            wit::HostError::Unsupported(text) => format!("unsupported: {text}"),
            wit::HostError::BadValue(text) => format!("bad: {text}"),
            wit::HostError::Denied(text) => format!("denied: {text}"),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn orders_become_commands_about_the_guests_own_session() {
        let session_id = || "s".to_owned();
        let digits = |digits: &str, digit_ms| Order::SendDtmf { participant_id: "p".into(), digits: digits.into(), digit_ms };
        let start = |target, options| Order::StartRecording { target, options: Box::new(options), prompts: vec![] };
        let connection = || wit::RecordingTarget::Connection("c".into());
        let table = [
            (
                Order::HangupRemoteParticipant { participant_id: "p".into() },
                Command::HangupRemoteParticipant { session_id: session_id(), participant_id: "p".into() },
            ),
            (
                Order::SplitConnection { connection_id: "c".into() },
                Command::SplitConnection { session_id: session_id(), connection_id: "c".into() },
            ),
            (Order::InterruptIvrCommand, Command::InterruptIvrCommand { session_id: session_id(), command: None }),
            (
                digits("12a#", Some(250)),
                Command::SendDtmf {
                    session_id: session_id(),
                    participant_id: "p".into(),
                    digits: "12A#".into(),
                    length: Some(Duration::from_millis(250)),
                },
            ),
            (
                Order::Transfer { participant_id: "p".into(), target: hookswitch_wasm::TransferTarget::Blind("sip:a@b".into()) },
                Command::Transfer { session_id: session_id(), participant_id: "p".into(), target: TransferTarget::Blind("sip:a@b".into()) },
            ),
            (
                Order::Transfer { participant_id: "p".into(), target: hookswitch_wasm::TransferTarget::Attended("q".into()) },
                Command::Transfer { session_id: session_id(), participant_id: "p".into(), target: TransferTarget::Attended("q".into()) },
            ),
            (
                Order::Hold { participant_id: "p".into(), audio: hookswitch_wasm::HoldAudio::File("m.wav".into()) },
                Command::Hold { session_id: session_id(), participant_id: "p".into(), audio: HoldAudio::File("m.wav".into()) },
            ),
            (Order::Resume { participant_id: "p".into() }, Command::Resume { session_id: session_id(), participant_id: "p".into() }),
            (
                Order::Mute { participant_id: "p".into(), direction: hookswitch_wasm::MuteDirection::Speak },
                Command::Mute { session_id: session_id(), participant_id: "p".into(), mute: Mute { speak: true, listen: false } },
            ),
            (
                start(connection(), wit::RecordingOptions { file_name: Some("x.wav".into()), ..options() }),
                Command::StartRecording {
                    session_id: session_id(),
                    target: Target::Connection("c".into()),
                    options: Box::new(RecordingOptions { file_name: Some("x.wav".into()), ..RecordingOptions::default() }),
                    prompts: vec![],
                },
            ),
            (Order::StopRecording { recording: None }, Command::StopRecording { session_id: session_id(), which: WhichRecording::Last }),
            (
                Order::StopRecording { recording: Some("r".into()) },
                Command::StopRecording { session_id: session_id(), which: WhichRecording::Id("r".into()) },
            ),
        ];
        for (order, expected) in table {
            let text = format!("{order:?}");
            assert_eq!(ordered(order), Ok(expected), "{text}");
        }
        let placed = hookswitch_wasm::IvrCall { call: calling(), session_id: Some("s".into()), mediaservice_id: Some("desk".into()) };
        let Ok(Command::PlaceIvrCall(place)) = ordered(Order::PlaceIvrCall(Box::new(placed))) else { panic!("not placed") };
        assert_eq!((place.session_id.as_deref(), place.mediaservice_id.as_deref()), (Some("s"), Some("desk")));
        assert_eq!(place.call.dest_addr, "sip:200@example.net");
    }

    #[test]
    fn what_cannot_be_ordered_says_which_field() {
        let digits = |digits: &str, digit_ms| Order::SendDtmf { participant_id: "p".into(), digits: digits.into(), digit_ms };
        let start = |options| Order::StartRecording {
            target: wit::RecordingTarget::Connection("c".into()),
            options: Box::new(options),
            prompts: vec![],
        };
        let place = |session_id: Option<&str>, call| {
            let session_id = session_id.map(str::to_owned);
            Order::PlaceIvrCall(Box::new(hookswitch_wasm::IvrCall { call, session_id, mediaservice_id: None }))
        };
        let newer = || wit::Extension { name: "newer".into(), json: "{}".into() };
        let of = |target, prompts| Order::StartRecording { target, options: Box::new(options()), prompts };
        let whole = of(wit::RecordingTarget::Ext(newer()), vec![]);
        let prompted = of(wit::RecordingTarget::Session, vec![file("../x")]);
        let table = [
            (Order::HangupParticipant { participant_id: String::new() }, "bad: participant-id"),
            (Order::SplitConnection { connection_id: "a/b".into() }, "bad: connection-id"),
            (digits("", None), "bad: digits"),
            (digits("12x", None), "bad: digits"),
            (digits(&"1".repeat(65), None), "bad: digits"),
            (digits("1", Some(39)), "bad: digit-ms"),
            (digits("1", Some(2001)), "bad: digit-ms"),
            (
                Order::Transfer { participant_id: "p".into(), target: hookswitch_wasm::TransferTarget::Blind("sip:a\r\n@b".into()) },
                "bad: target",
            ),
            (
                Order::Transfer { participant_id: "p".into(), target: hookswitch_wasm::TransferTarget::Attended("a/b".into()) },
                "bad: target",
            ),
            (Order::Hold { participant_id: "p".into(), audio: hookswitch_wasm::HoldAudio::File("../x".into()) }, "bad: audio"),
            (Order::Mute { participant_id: String::new(), direction: hookswitch_wasm::MuteDirection::Off }, "bad: participant-id"),
            (whole, "unsupported: target.ext"),
            (prompted, "bad: phrases[0].file-name"),
            (start(wit::RecordingOptions { max_duration_ms: Some(u32::MAX), ..options() }), "bad: options.max-duration-ms"),
            (
                start(wit::RecordingOptions { container: Some(wit::RecordingContainer::Ext(newer())), ..options() }),
                "unsupported: options.container",
            ),
            (Order::PauseRecording { recording: Some(String::new()), behavior: None }, "bad: recording"),
            (Order::GetRecording { recording: Some("a/b".into()) }, "bad: recording"),
            (start(wit::RecordingOptions { file_name: Some("../x".into()), ..options() }), "bad: options.file-name"),
            (place(Some("another"), calling()), "denied: session-id"),
            (place(None, wit::OutboundCall { call_recording: true, ..calling() }), "bad: call.call-recording"),
            (place(None, wit::OutboundCall { dest_addr: String::new(), ..calling() }), "bad: call.dest-addr"),
        ];
        for (order, expected) in table {
            let text = format!("{order:?}");
            let why = ordered(order).expect_err(&text);
            assert!(why.starts_with(expected), "{text}: {why}");
        }
    }
}
