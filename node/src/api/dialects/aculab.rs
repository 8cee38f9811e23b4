//! Aculab Cloud's `record` and `play` actions and its recording of whole calls (AC rows): their properties and defaults, their results, and the
//! instance info that every page request carries. The mappings first; the routes that carry them at the end. Running a list of actions page
//! by page is a handler's business (`guest-examples/aculab-record`).

use super::super::access::Domain;
use super::super::endpoint::{self, Path, post};
use super::super::operations::recorder::{self, Members, from_hex, json_body};
use super::super::reply::{self, ApiError, Reply};
use super::super::{Api, Shared, check_file_name};
use axum::extract::{Request, State};
use hookswitch_call::door::{Command, Done};
use hookswitch_call::hook::Phrase;
use hookswitch_call::recording::{CbcKey, Container, Dialect, Direction, Encoding, Mode, Phase, RecordingOptions, RecordingStatus, Target};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Files of one play action: a queue of a leg holds no more.
const PLAY_LIST: usize = 60;

/// Our reason, and the vendor's (AC-025 to AC-032).
const REASONS: &[(&str, &str)] = &[
    ("max_duration", "duration"),
    ("stop_digit", "bargein"),
    ("api_stop", "aborted"),
    ("superseded", "aborted"),
    ("played", "completed"),
    ("discarded", "aborted"),
    ("file_size", "filesize"),
    ("max_silence", "silence"),
    ("initial_silence", "silence"),
    ("media_timeout", "error"),
    ("beep_failed", "error"),
    ("storage_error", "error"),
    ("overload", "error"),
    ("remote_hangup", "hangup"),
];

fn reason(phase: Phase, stop_reason: &str) -> &'static str {
    let known = REASONS.iter().find(|(ours, _)| *ours == stop_reason).map(|(_, theirs)| *theirs);
    match (phase, known) {
        // A file that was lost is a fault, whatever ended its audio; a call that was gone before is a hang-up all the same.
        (Phase::Failed, Some("hangup")) => "hangup",
        (Phase::Failed, _) => "error",
        (_, Some(known)) => known,
        (_, None) => "other",
    }
}

/// A web page request: where it goes. The outbox posts (AC-004); a handler asks as its pages say.
fn page(properties: &mut Members, name: &str) -> Result<Option<String>, ApiError> {
    let Some(page) = properties.any(name) else { return Ok(None) };
    let mut page = Members::of(name, page)?;
    let url = page.text("url")?.ok_or_else(|| page.bad("url", "is missing"))?;
    match page.text("method")?.as_deref() {
        None | Some("POST") => Ok(Some(url)),
        Some(_) => Err(page.bad("method", "must be POST: a handler asks pages by GET (guest-examples/aculab-record)")),
    }
}

/// Names of a cipher's vector (AC-014): of the second version's, of its examples, and as the first version prints it.
const VECTORS: [&str; 3] = ["vector", "initialisation_vector", "initialisation vector"];

/// A cipher object (AC-011 to AC-014) by this name.
fn cipher(properties: &mut Members, name: &str) -> Result<Option<CbcKey>, ApiError> {
    let Some(value) = properties.any(name) else { return Ok(None) };
    let mut cipher = Members::of(name, value)?;
    if cipher.text("type")?.as_deref() != Some("aescbc") {
        return Err(cipher.bad("type", "must be aescbc"));
    }
    let key = cipher.text("key")?.and_then(|key| from_hex(&key)).filter(|key| matches!(key.len(), 16 | 24 | 32));
    let mut vector = None;
    for name in VECTORS {
        vector = cipher.text(name)?.or(vector);
    }
    let iv = vector.and_then(|iv| from_hex(&iv)?.try_into().ok());
    Ok(Some(CbcKey {
        key: key.ok_or_else(|| cipher.bad("key", "must be 16, 24 or 32 bytes in hex"))?,
        iv: iv.ok_or_else(|| cipher.bad("vector", "must be 16 bytes in hex"))?,
    }))
}

/// The properties of a record action as options (AC-001 to AC-018).
fn record(properties: Value) -> Result<(RecordingOptions, u64), ApiError> {
    let mut p = Members::of("", properties)?;
    let time = |ms: Option<u64>| ms.map(Duration::from_millis);
    let seconds = p.number("seconds_max_duration")?;
    if seconds == Some(0) {
        return Err(ApiError::bad("seconds_max_duration", "must be above 0"));
    }
    let encoding = match p.text("format")?.as_deref() {
        None | Some("") => Encoding::Auto,
        Some("alaw") => Encoding::Alaw,
        Some("ulaw") => Encoding::Ulaw,
        Some(_) => return Err(ApiError::bad("format", "must be alaw or ulaw")),
    };
    let options = RecordingOptions {
        dialect: Dialect::Aculab,
        // Echoed; it may come twice, so it is no name. An application's token is one: it names what is under way.
        client_context: p.text("id")?.filter(|id| !id.is_empty()),
        control_id: p.text("token")?.filter(|token| !token.is_empty()),
        container: Some(Container::Wav),
        encoding,
        stop_digits: p.text("barge_in_digits")?,
        max_duration: Some(seconds.map_or(Duration::from_secs(60), Duration::from_secs)),
        max_silence: time(p.number("milliseconds_max_silence")?),
        initial_silence: time(p.number("milliseconds_max_initial_silence")?),
        beep: Some(p.flag("beep_on_start")?.unwrap_or(false)),
        encryption: cipher(&mut p, "encryption_cipher")?,
        on_complete_url: page(&mut p, "next_page")?,
        on_available_url: page(&mut p, "recording_available_page")?,
        ..RecordingOptions::default()
    };
    options.check().map_err(|(field, why)| ApiError::bad(named(field), why))?;
    Ok((options, p.left()))
}

/// As the vendor calls an option.
fn named(field: &'static str) -> &'static str {
    match field {
        "clientContext" => "id",
        "controlId" => "token",
        "fileName" => "filename",
        "stopDigits" => "barge_in_digits",
        "maxDurationMs" => "seconds_max_duration",
        "maxSilenceMs" => "milliseconds_max_silence",
        "initialSilenceMs" => "milliseconds_max_initial_silence",
        "onCompleteUrl" => "next_page.url",
        "onAvailableUrl" => "recording_available_page.url",
        field => field,
    }
}

/// A play action as what plays (AC-016): files of the tenant's media store, those that were encrypted with their cipher.
fn play(properties: Value) -> Result<(RecordingOptions, Vec<Phrase>, u64), ApiError> {
    let mut p = Members::of("", properties)?;
    let list = match p.any("play_list") {
        Some(Value::Array(list)) if (1..=PLAY_LIST).contains(&list.len()) => list,
        Some(Value::Array(_)) => return Err(ApiError::bad("play_list", format!("must have 1 to {PLAY_LIST} items"))),
        Some(_) => return Err(ApiError::bad("play_list", "must be a list")),
        None => return Err(ApiError::bad("play_list", "is missing")),
    };
    let mut unknown = 0;
    let mut phrases = Vec::new();
    for (n, item) in list.into_iter().enumerate() {
        let mut item = Members::of(&format!("play_list[{n}]"), item)?;
        let file_name = item.text("file_to_play")?.ok_or_else(|| item.bad("file_to_play", "is missing: only files are played"))?;
        check_file_name(&file_name).map_err(|why| item.bad("file_to_play", why))?;
        phrases.push(match cipher(&mut item, "decryption_cipher")? {
            Some(cipher) => Phrase::Sealed { file_name, cipher },
            None => Phrase::File { file_name },
        });
        unknown += item.left();
    }
    let options = RecordingOptions {
        dialect: Dialect::Aculab,
        mode: Some(Mode::Queued),
        prompts_only: true,
        client_context: p.text("id")?.filter(|id| !id.is_empty()),
        control_id: p.text("token")?.filter(|token| !token.is_empty()),
        on_complete_url: page(&mut p, "next_page")?,
        ..RecordingOptions::default()
    };
    options.check().map_err(|(field, why)| ApiError::bad(named(field), why))?;
    Ok((options, phrases, unknown + p.left()))
}

/// The recording of a whole call (AC-038): both sides from now to the end of the call, whatever actions run meanwhile.
fn whole_call(properties: Value) -> Result<(RecordingOptions, u64), ApiError> {
    let mut p = Members::of("", properties)?;
    let options = RecordingOptions {
        dialect: Dialect::Aculab,
        mode: Some(Mode::Background),
        direction: Some(Direction::Both),
        container: Some(Container::Wav),
        file_name: p.text("call_recording_filename")?,
        encryption: cipher(&mut p, "call_recording_cipher")?,
        // None of what ends a message ends this.
        stop_digits: Some(String::new()),
        start_on_voice: Some(false),
        max_silence: Some(Duration::ZERO),
        max_duration: Some(hookswitch_call::limits::RECORD_DURATION),
        beep: Some(false),
        on_available_url: page(&mut p, "recording_available_page")?,
        ..RecordingOptions::default()
    };
    let named = |field| if field == "fileName" { "call_recording_filename" } else { named(field) };
    options.check().map_err(|(field, why)| ApiError::bad(named(field), why))?;
    Ok((options, p.left()))
}

/// The result of a record action (AC-020 to AC-033).
fn result(status: &RecordingStatus) -> Value {
    let (stop_reason, duration, sound) =
        status.result.as_ref().map_or(("", Duration::ZERO, false), |r| (r.stop_reason.as_str(), r.duration, r.contains_sound));
    let mut said = json!({
        "id": status.client_context.as_deref().unwrap_or(""),
        "filename": status.file_name,
        "file_available": status.phase == Phase::Available,
        "contains_sound": sound,
        "seconds_duration": (duration.as_secs_f64() * 10.0).round() / 10.0,
        "reason": reason(status.phase, stop_reason),
    });
    if let Some(digit) = status.result.as_ref().and_then(|r| r.stop_digit).filter(|_| said["reason"] == json!("bargein")) {
        said["barge_in_digit"] = json!(digit);
    }
    said
}

/// The result of a play action; its names are ours where the vendor's are not known.
fn played(status: &RecordingStatus, reason: &str) -> Value {
    json!({ "id": status.client_context.as_deref().unwrap_or(""), "reason": reason })
}

/// The context of a page request (AC-034 to AC-036). `is_notification`: its answer is no part of the call.
pub(super) fn instance_info(session: &str, status: &RecordingStatus, is_notification: bool) -> Value {
    let records = !status.options.prompts_only;
    let mut action = json!({ "action": if records { "record" } else { "play" } });
    let stop_reason = status.result.as_ref().map_or("", |r| r.stop_reason.as_str());
    let reason = reason(status.phase, stop_reason);
    // An interrupted action has no result.
    if reason != "aborted" || status.phase < Phase::Canceled {
        action["result"] = if records { result(status) } else { played(status, reason) };
    }
    json!({
        "application_instance_id": session,
        "application_parameters": "",
        // Not the node's own name for it: an application that gave none gets none back.
        "token": status.options.control_id.as_deref().unwrap_or(""),
        "log_filename": "",
        "this_call": { "call_id": status.participant_id, "call_from": status.caller, "call_to": status.called },
        "action_result": action,
        "is_notification": is_notification,
    })
}

// -------------------------------------------------------------------------------------------------------------------- routes

pub(in super::super) fn endpoints() -> Vec<endpoint::Endpoint> {
    let any = || json!({ "type": "object" });
    vec![
        post("/{domain}/aculab/calls/{id}/record", "aculabRecord", start)
            .says("Aculab Cloud's record action on a call: `next_page` is posted when it ends, `recording_available_page` when it can be fetched.")
            .body(endpoint::JSON, any())
            .succeeds(200, "Valid, and handed to the session.", &[("recordingId", endpoint::text("UUID of the recording."))])
            .refuses(&[409, 429, 507]),
        post("/{domain}/aculab/calls/{id}/play", "aculabPlay", start_play)
            .says("Aculab Cloud's play action on a call, of files; `next_page` is posted when it ends.")
            .body(endpoint::JSON, any())
            .succeeds(200, "Valid, and handed to the session.", &[])
            .refuses(&[409, 429, 507]),
        post("/{domain}/aculab/calls/{id}/call_recording", "aculabCallRecording", start_whole_call)
            .says("Records the whole call in Aculab Cloud's way; `recording_available_page` is posted when it can be fetched.")
            .body(endpoint::JSON, any())
            .succeeds(200, "Valid, and handed to the session.", &[("recordingId", endpoint::text("UUID of the recording."))])
            .refuses(&[409, 429, 507]),
    ]
}

type OfCall = Path<(String, String)>;

async fn start(State(api): Shared, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    recorder::limit_rate(&api, &domain)?;
    let (options, unknown) = record(json_body(request).await?)?;
    let recording_id = order(&api, &domain, id, (options, Vec::new(), unknown)).await?;
    reply::ok(json!({ "recordingId": recording_id }))
}

async fn start_play(State(api): Shared, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    recorder::limit_rate(&api, &domain)?;
    order(&api, &domain, id, play(json_body(request).await?)?).await?;
    reply::ok(json!({}))
}

async fn start_whole_call(State(api): Shared, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    recorder::limit_rate(&api, &domain)?;
    let (options, unknown) = whole_call(json_body(request).await?)?;
    let recording_id = order(&api, &domain, id, (options, Vec::new(), unknown)).await?;
    reply::ok(json!({ "recordingId": recording_id }))
}

async fn order(
    api: &Arc<Api>,
    domain: &str,
    session_id: String,
    (options, prompts, unknown): (RecordingOptions, Vec<Phrase>, u64),
) -> Result<String, ApiError> {
    api.count_unknown(unknown);
    let command = Command::StartRecording { session_id, target: Target::Session, options: Box::new(options), prompts };
    match api.node.order(domain, command).await? {
        Done::Recording { recording_id, .. } => Ok(recording_id),
        _ => Err(ApiError::internal()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use hookswitch_call::recording::Place;

    fn read(properties: Value) -> Result<RecordingOptions, String> {
        record(properties).map(|(options, _)| options).map_err(|error| error.message)
    }

    #[test]
    fn ac_001_006_007_008_009_010_017_defaults_are_the_vendors() {
        let options = read(json!({ "next_page": { "url": "https://app/next" } })).expect("taken").filled(Place::Phrase);
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!((options.stop_digits.as_deref(), options.max_duration, options.max_silence), (Some("#"), seconds(60), seconds(3)));
        assert_eq!((options.initial_silence, options.start_on_voice, options.beep), (seconds(3), Some(true), Some(false)));
        assert_eq!((options.container(), options.encoding, options.sample_rate()), (Container::Wav, Encoding::Auto, 8000));
        assert_eq!(options.on_complete_url.as_deref(), Some("https://app/next"));
    }

    #[test]
    fn ac_003_005_006_007_008_009_010_011_012_013_014_017_018_properties_are_read() {
        let options = read(json!({
            "id": "greeting",
            "next_page": { "url": "https://app/next", "method": "POST" },
            "barge_in_digits": "",
            "seconds_max_duration": 20,
            "milliseconds_max_silence": 4000,
            "milliseconds_max_initial_silence": 9000,
            "format": "ulaw",
            "beep_on_start": true,
            "encryption_cipher": { "type": "aescbc", "key": "11".repeat(24), "initialisation_vector": "22".repeat(16) },
            "recording_available_page": { "url": "https://app/available" },
        }))
        .expect("taken")
        .filled(Place::Phrase);
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!((options.client_context.as_deref(), options.stop_digits.as_deref()), (Some("greeting"), Some("")));
        assert_eq!((options.max_duration, options.max_silence, options.initial_silence), (ms(20_000), ms(4000), ms(9000)));
        assert_eq!((options.encoding, options.beep), (Encoding::Ulaw, Some(true)));
        assert_eq!(options.encryption.as_ref().map(|c| (c.key.clone(), c.iv)), Some((vec![0x11; 24], [0x22; 16])));
        assert_eq!(options.on_available_url.as_deref(), Some("https://app/available"));
    }

    #[test]
    fn ac_014_each_of_the_vectors_names_is_taken() {
        for name in VECTORS {
            let read = read(json!({ "encryption_cipher": { "type": "aescbc", "key": "11".repeat(32), name: "22".repeat(16) } }));
            let cipher = read.expect("taken").encryption.expect("a cipher");
            assert_eq!((cipher.iv, cipher.key.len()), ([0x22; 16], 32), "{name}");
        }
        assert!(read(json!({ "encryption_cipher": { "type": "aescbc", "key": "11".repeat(32), "iv": "22".repeat(16) } })).is_err());
    }

    #[test]
    fn ac_016_a_play_action_has_files_and_their_ciphers() {
        let read = |properties: Value| play(properties).map_err(|error| error.message);
        let cipher = json!({ "type": "aescbc", "key": "11".repeat(16), "initialisation_vector": "22".repeat(16) });
        let (options, phrases, _) = read(json!({
            "play_list": [{ "file_to_play": "hi.wav" }, { "file_to_play": "secret.wav", "decryption_cipher": cipher }],
            "next_page": { "url": "https://app/next" },
        }))
        .expect("taken");
        assert!(options.prompts_only && options.on_complete_url.as_deref() == Some("https://app/next"));
        assert_eq!(phrases[0], Phrase::File { file_name: "hi.wav".into() });
        let key = CbcKey { key: vec![0x11; 16], iv: [0x22; 16] };
        assert_eq!(phrases[1], Phrase::Sealed { file_name: "secret.wav".into(), cipher: key });
        for (body, field) in [
            (json!({}), "play_list"),
            (json!({ "play_list": [] }), "play_list"),
            (json!({ "play_list": [{ "text_to_say": "hello" }] }), "play_list[0].file_to_play"),
            (json!({ "play_list": [{ "file_to_play": "../x" }] }), "play_list[0].file_to_play"),
            (json!({ "play_list": [{ "file_to_play": "a.wav", "decryption_cipher": { "type": "des" } }] }), "decryption_cipher.type"),
        ] {
            let error = read(body).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
        let said = |phase, reason: &str| {
            let options = RecordingOptions { prompts_only: true, ..RecordingOptions::default() };
            instance_info("session", &status(options, phase, reason, 0), false)["action_result"].clone()
        };
        assert_eq!(said(Phase::Available, "played"), json!({ "action": "play", "result": { "id": "", "reason": "completed" } }));
        assert_eq!(said(Phase::Canceled, "api_stop"), json!({ "action": "play" }));
        assert_eq!(said(Phase::Failed, "prompt_failed")["result"]["reason"], json!("error"));
    }

    #[test]
    fn ac_038_a_whole_call_has_the_same_cipher_object_and_none_of_a_messages_ends() {
        let cipher = json!({ "type": "aescbc", "key": "11".repeat(16), "vector": "22".repeat(16) });
        let read = |properties: Value| whole_call(properties).map(|(options, _)| options).map_err(|error| error.message);
        let options = read(json!({ "call_recording_cipher": cipher, "call_recording_filename": "call.wav" })).expect("taken");
        let options = options.filled(Place::Connection);
        assert_eq!(options.encryption.as_ref().map(|c| c.iv), Some([0x22; 16]));
        assert_eq!((options.mode, options.direction, options.start_on_voice), (Some(Mode::Background), Some(Direction::Both), Some(false)));
        assert_eq!((options.max_silence, options.initial_silence, options.stop_digits.as_deref()), (None, None, Some("")));
        assert_eq!(options.max_duration, Some(hookswitch_call::limits::RECORD_DURATION));
        for (body, field) in [
            (json!({ "call_recording_cipher": { "type": "aescbc", "key": "1", "vector": "2" } }), "call_recording_cipher.key"),
            (json!({ "call_recording_filename": "../x" }), "call_recording_filename"),
        ] {
            let error = read(body).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }

    #[test]
    fn ac_035_036_every_page_hears_the_whole_instance_info() {
        let options = RecordingOptions { control_id: Some("app-token".into()), ..RecordingOptions::default() };
        for (phase, notification) in [(Phase::LocalAvailable, false), (Phase::Available, true)] {
            let info = instance_info("session-1", &status(options.clone(), phase, "max_duration", 1000), notification);
            for (name, value) in [
                ("application_instance_id", json!("session-1")),
                ("application_parameters", json!("")),
                ("token", json!("app-token")),
                ("log_filename", json!("")),
                ("this_call", json!({ "call_id": "p", "call_from": "alice", "call_to": "100" })),
                ("is_notification", json!(notification)),
            ] {
                assert_eq!(info[name], value, "{name}");
            }
            assert_eq!(info["action_result"]["action"], json!("record"));
        }
        // One that gave no token gets none: the node's own id is no token of theirs.
        let none = instance_info("s", &status(RecordingOptions::default(), Phase::LocalAvailable, "max_duration", 1000), false);
        assert_eq!(none["token"], json!(""));
    }

    #[test]
    fn ac_004_006_007_010_012_013_014_what_is_wrong_is_refused_by_name() {
        let cipher = |kind: &str, key: &str, iv: &str| json!({ "encryption_cipher": { "type": kind, "key": key, "vector": iv } });
        let (key, iv) = ("11".repeat(16), "22".repeat(16));
        for (body, field) in [
            (json!({ "seconds_max_duration": 0 }), "seconds_max_duration"),
            (json!({ "seconds_max_duration": 100_000 }), "seconds_max_duration"),
            (json!({ "milliseconds_max_silence": "x" }), "milliseconds_max_silence"),
            (json!({ "barge_in_digits": "x" }), "barge_in_digits"),
            (json!({ "format": "mp3" }), "format"),
            (json!({ "next_page": "https://x" }), "next_page"),
            (json!({ "next_page": {} }), "next_page.url"),
            (json!({ "next_page": { "url": "x" } }), "next_page.url"),
            (json!({ "next_page": { "url": "https://x", "method": "GET" } }), "next_page.method"),
            (json!({ "beep_on_start": "no" }), "beep_on_start"),
            (cipher("aesecb", &key, &iv), "encryption_cipher.type"),
            (cipher("aescbc", "11", &iv), "encryption_cipher.key"),
            (cipher("aescbc", &key, "22"), "encryption_cipher.vector"),
        ] {
            let error = read(body.clone()).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{body}: {error}");
            assert!(!error.contains("1111"), "no key in an error: {error}");
        }
    }

    #[test]
    fn ac_025_026_027_028_029_030_031_032_033_every_end_has_the_vendors_reason() {
        for (phase, ours, theirs) in [
            (Phase::LocalAvailable, "max_duration", "duration"),
            (Phase::LocalAvailable, "stop_digit", "bargein"),
            (Phase::LocalAvailable, "api_stop", "aborted"),
            (Phase::LocalAvailable, "file_size", "filesize"),
            (Phase::LocalAvailable, "max_silence", "silence"),
            (Phase::Canceled, "superseded", "aborted"),
            (Phase::Discarded, "discarded", "aborted"),
            (Phase::Failed, "storage_error", "error"),
            (Phase::LocalAvailable, "transfer", "other"),
            (Phase::NoInput, "initial_silence", "silence"),
            (Phase::LocalAvailable, "media_timeout", "error"),
            (Phase::Failed, "max_duration", "error"),
            (Phase::Failed, "beep_failed", "error"),
            (Phase::LocalAvailable, "connection_split", "other"),
            (Phase::LocalAvailable, "node_shutdown", "other"),
            (Phase::LocalAvailable, "remote_hangup", "hangup"),
            (Phase::Failed, "remote_hangup", "hangup"),
        ] {
            let said = result(&status(RecordingOptions::default(), phase, ours, 1000));
            assert_eq!(said["reason"], json!(theirs), "{phase:?} {ours}");
            assert_eq!(said.get("barge_in_digit").is_some(), theirs == "bargein", "{said}");
        }
    }

    #[test]
    fn ac_020_021_022_023_024_034_036_the_result_and_where_it_stands() {
        let options = RecordingOptions { client_context: Some("greeting".into()), ..RecordingOptions::default() };
        let next = instance_info("session", &status(options.clone(), Phase::LocalAvailable, "max_silence", 3_140), false);
        let result = &next["action_result"]["result"];
        assert_eq!(next["action_result"]["action"], json!("record"));
        assert_eq!((&result["id"], &result["file_available"]), (&json!("greeting"), &json!(false)));
        assert_eq!((&result["seconds_duration"], &result["contains_sound"]), (&json!(3.1), &json!(true)));
        assert_eq!((&result["filename"], &next["is_notification"]), (&json!("20261125/100000-x.wav"), &json!(false)));
        let later = instance_info("session", &status(options.clone(), Phase::Available, "max_silence", 3_140), true);
        assert_eq!((&later["action_result"]["result"]["file_available"], &later["is_notification"]), (&json!(true), &json!(true)));
        // An interrupted action has no result member.
        let cut = instance_info("session", &status(options, Phase::Canceled, "api_stop", 0), false);
        assert!(cut["action_result"].get("result").is_none(), "{cut}");
    }

    #[test]
    fn ac_001_002_018_the_route_orders_a_recording_that_tells_its_pages() {
        use crate::api::tests::{TENANT, TOKEN, world};
        let world = world();
        world.gives(Ok(Done::Recording { recording_id: "r".into(), file_name: "x.wav".into() }));
        let body = br#"{"next_page":{"url":"https://app/n"},"recording_available_page":{"url":"https://app/a"}}"#;
        let (code, said) = world.ask("POST", &format!("/{TENANT}/aculab/calls/s-1/record"), Some(TOKEN), Some("application/json"), body);
        assert_eq!((code, &said["recordingId"]), (200, &json!("r")));
        let ordered = world.ordered();
        let [(_, Command::StartRecording { session_id, target: Target::Session, options, .. })] = &ordered[..] else {
            panic!("{ordered:?}")
        };
        assert_eq!((session_id.as_str(), options.dialect), ("s-1", Dialect::Aculab));
        let (next, available) = (options.on_complete_url.as_deref(), options.on_available_url.as_deref());
        assert_eq!((next, available), (Some("https://app/n"), Some("https://app/a")));
    }
}
