//! Microsoft Graph's `call: recordResponse` and `call: playPrompt` (MG rows): short operations on a call that take turns, their resource, and the
//! notification that ends each. The mappings first; the routes that carry them at the end.

use super::super::access::{Caller, Domain};
use super::super::endpoint::{self, Path, get, post};
use super::super::operations::recorder::{self, Members, json_body};
use super::super::reply::{ApiError, Reply};
use super::super::{Api, Shared, blocking, check_file_name, check_url};
use crate::limits;
use crate::store::{RecordingRow, RecordingState};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use hookswitch_call::door::{Command, Done};
use hookswitch_call::hook::Phrase;
use hookswitch_call::recording::{Container, Dialect, Encoding, Phase, QueuePolicy, RecordingOptions, RecordingStatus, Target};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Seconds that the vendor allows for each of its three limits (MG-011, MG-013, MG-014).
const SECONDS: std::ops::RangeInclusive<u64> = 1..=120;
/// Characters of `clientContext` (MG-017).
const CONTEXT: usize = 256;
/// What a JWT that speaks of roles at all must allow (MG-003).
const MAY: &str = "Calls.AccessMedia.All";
/// How often a prompt may play in one operation (MG-040): a queue of a leg holds no more.
const LOOPS: std::ops::RangeInclusive<u64> = 1..=60;

/// What ended an operation: our reason; the vendor's; whether that is a success; code, subcode and text of `resultInfo` (MG-023 to MG-028). The
/// vendor documents 8515 and 8508, a sibling product has 8510, 8511, 8514 and 9999; 8512, 8513 and 8516 are ours.
const REASONS: &[(&str, &str, bool, u16, u16, &str)] = &[
    ("stop_digit", "stopToneDetected", true, 200, 8514, "Action completed as stop tone detected."),
    ("max_duration", "maxRecordDurationReached", true, 200, 8515, "Action completed as max record duration reached."),
    ("max_silence", "maxSilenceTimeout", true, 200, 8513, "Action completed as max silence timed out."),
    ("initial_silence", "initialSilenceTimeout", false, 400, 8510, "Action failed as initial silence timed out."),
    ("api_stop", "operationCanceled", false, 400, 8508, "Action failed, the operation was cancelled."),
    ("superseded", "operationCanceled", false, 400, 8508, "Action failed, the operation was cancelled."),
    ("discarded", "operationCanceled", false, 400, 8508, "Action failed, the operation was cancelled."),
    ("connection_split", "operationCanceled", false, 400, 8508, "Action failed, the operation was cancelled."),
    ("transfer", "operationCanceled", false, 400, 8508, "Action failed, the operation was cancelled."),
    ("prompt_failed", "playPromptFailed", false, 400, 8511, "Action failed as the prompt could not be played."),
    ("beep_failed", "playBeepFailed", false, 400, 8512, "Action failed as the beep could not be played."),
    ("media_timeout", "mediaReceiveTimeout", false, 400, 8516, "Action failed as no media was received."),
];
const UNSPECIFIED: (&str, bool, u16, u16, &str) = ("unspecifiedError", false, 500, 9999, "Action failed.");
const SUCCESS: (&str, bool, u16, u16, &str) = ("none", true, 200, 0, "Action completed successfully.");

/// What became of an operation, of one that has ended: the vendor's reason, success, code, subcode, text.
fn outcome(phase: Phase, stop_reason: &str, has_audio: bool) -> (&'static str, bool, u16, u16, &'static str) {
    let known =
        REASONS.iter().find(|(ours, ..)| *ours == stop_reason).map(|(_, reason, ok, code, sub, text)| (*reason, *ok, *code, *sub, *text));
    match known {
        // A file that was lost is no success, whatever ended its audio.
        Some((_, true, ..)) if phase == Phase::Failed => UNSPECIFIED,
        Some(known) => known,
        // docs/conformance.md "Stop reasons": the vendor has no reason for a hang-up.
        None if stop_reason == "remote_hangup" && has_audio && phase != Phase::Failed => SUCCESS,
        None if stop_reason == "played" => SUCCESS,
        None => UNSPECIFIED,
    }
}

/// MG-032: as the vendor writes ids into paths.
fn in_path(id: &str) -> String {
    id.replace('-', "").to_ascii_uppercase()
}

/// MG-032: whatever a client took from a path or from an `id`.
fn from_path(id: &str) -> String {
    let bare: String = id.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    if bare.len() != 32 || !bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        return id.to_owned();
    }
    format!("{}-{}-{}-{}-{}", &bare[..8], &bare[8..12], &bare[12..16], &bare[16..20], &bare[20..])
}

fn resource_url(session: &str, operation: &str) -> String {
    format!("/communications/calls/{}/operations/{}", in_path(session), in_path(operation))
}

/// The recordOperation (MG-020 to MG-030). The token is only in the notification.
fn operation(status: &RecordingStatus, with_token: bool) -> Value {
    let stop_reason = status.result.as_ref().map_or("", |r| r.stop_reason.as_str());
    let has_audio = status.result.as_ref().is_some_and(|r| !r.duration.is_zero());
    let records = !status.options.prompts_only;
    let kind = if records { "#microsoft.graph.recordOperation" } else { "#microsoft.graph.playPromptOperation" };
    let mut said = json!({
        "@odata.type": kind,
        "id": status.recording_id,
        "clientContext": status.client_context,
        "resultInfo": null,
    });
    if records {
        for name in ["completionReason", "recordingLocation", "recordingAccessToken"] {
            said[name] = Value::Null;
        }
    }
    let (ended, stored) = (status.phase >= Phase::LocalAvailable, status.phase == Phase::Available);
    if !ended {
        said["status"] = json!(if status.phase == Phase::Queued { "notStarted" } else { "running" });
        return said;
    }
    let (reason, success, code, subcode, message) = outcome(status.phase, stop_reason, has_audio);
    said["status"] = json!(if success { "completed" } else { "failed" });
    said["resultInfo"] = json!({ "@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": subcode, "message": message });
    if !records {
        return said;
    }
    said["completionReason"] = json!(reason);
    said["recordingLocation"] = match (&status.url, success) {
        (Some(url), true) if stored => json!(url),
        (_, true) => Value::Null,
        (_, false) => json!(""),
    };
    if with_token {
        said["recordingAccessToken"] = json!(status.access_token.as_deref().filter(|_| success).unwrap_or(""));
    }
    said
}

/// MG-031 to MG-033: the operation's end.
pub(super) fn notification(session: &str, status: &RecordingStatus) -> Value {
    let url = resource_url(session, &status.recording_id);
    let mut data = operation(status, true);
    data["@odata.id"] = json!(url);
    data["@odata.etag"] = json!(format!("W/\"{}\"", status.phase as u8));
    json!({
        "value": [{
            "@odata.type": "#microsoft.graph.commsNotification",
            "changeType": "deleted",
            "resourceUrl": url,
            "resourceData": data,
        }],
    })
}

/// The body of recordResponse as options and prompts (MG-005 to MG-018). Nothing is clamped: what is out of range is refused by name.
fn record_response(body: Value, domain: &str) -> Result<(RecordingOptions, Vec<Phrase>, u64), ApiError> {
    let mut body = Members::of("", body)?;
    let mut seconds = |name: &str| match body.number(name)? {
        Some(n) if !SECONDS.contains(&n) => Err(ApiError::bad(name, "must be from 1 to 120")),
        n => Ok(Some(Duration::from_secs(n.unwrap_or(5)))),
    };
    let (initial_silence, max_silence, max_duration) =
        (seconds("initialSilenceTimeoutInSeconds")?, seconds("maxSilenceTimeoutInSeconds")?, seconds("maxRecordDurationInSeconds")?);
    let client_context = client_context(&mut body)?;
    let stop_digits = match body.any("stopTones") {
        None => String::new(),
        Some(Value::Array(tones)) => {
            let tone = |tone: &Value| {
                tone.as_str().filter(|t| t.len() == 1 && hookswitch_proto::media::DigitSet::parse(t).is_some()).map(str::to_owned)
            };
            let tones: Option<String> = tones.iter().map(tone).collect();
            tones.ok_or_else(|| ApiError::bad("stopTones", "each must be one of 0-9, *, #, A-D"))?
        }
        Some(_) => return Err(ApiError::bad("stopTones", "must be a list")),
    };
    let prompts: Vec<Phrase> = the_prompt(&mut body, domain)?.into_iter().collect();
    let options = RecordingOptions {
        client_context,
        dialect: Dialect::Graph,
        queue_policy: if body.flag("bargeInAllowed")?.unwrap_or(false) { QueuePolicy::Barge } else { QueuePolicy::Append },
        container: Some(Container::Wav),
        encoding: Encoding::Pcm16,
        beep: Some(body.flag("playBeep")?.unwrap_or(true)),
        stop_digits: Some(stop_digits),
        initial_silence,
        max_silence,
        max_duration,
        on_complete_url: body.text("callbackUri")?,
        ..RecordingOptions::default()
    };
    options.check().map_err(|(field, why)| ApiError::bad(field, why))?;
    Ok((options, prompts, body.left()))
}

/// The body of playPrompt (MG-040).
fn play_prompt(body: Value, domain: &str) -> Result<(RecordingOptions, Vec<Phrase>, u64), ApiError> {
    let mut body = Members::of("", body)?;
    let prompt = the_prompt(&mut body, domain)?.ok_or_else(|| ApiError::bad("prompts", "is missing"))?;
    let times = match body.number("loop")? {
        None => 1,
        Some(n) if LOOPS.contains(&n) => usize::try_from(n).unwrap_or(1),
        Some(_) => return Err(ApiError::bad("loop", format!("must be from {} to {}", LOOPS.start(), LOOPS.end()))),
    };
    let options = RecordingOptions {
        client_context: client_context(&mut body)?,
        dialect: Dialect::Graph,
        prompts_only: true,
        on_complete_url: body.text("callbackUri")?,
        ..RecordingOptions::default()
    };
    options.check().map_err(|(field, why)| ApiError::bad(field, why))?;
    Ok((options, vec![prompt; times], body.left()))
}

fn client_context(body: &mut Members) -> Result<Option<String>, ApiError> {
    let client_context = body.text("clientContext")?;
    if client_context.as_ref().is_some_and(|c| c.chars().count() > CONTEXT) {
        return Err(ApiError::bad("clientContext", "longer than 256 characters"));
    }
    Ok(client_context)
}

/// MG-005: none, or one.
fn the_prompt(body: &mut Members, domain: &str) -> Result<Option<Phrase>, ApiError> {
    match body.any("prompts") {
        None => Ok(None),
        Some(Value::Array(mut prompts)) if prompts.len() <= 1 => prompts.pop().map(|given| prompt(given, domain)).transpose(),
        Some(Value::Array(_)) => Err(ApiError::bad("prompts", "more than one")),
        Some(_) => Err(ApiError::bad("prompts", "must be a list")),
    }
}

/// A mediaPrompt (MG-006 to MG-008): a file of the tenant's own storage, or one that is fetched when its turn comes.
fn prompt(given: Value, domain: &str) -> Result<Phrase, ApiError> {
    let mut given = Members::of("prompts[0]", given)?;
    let media = given.any("mediaInfo").ok_or_else(|| given.bad("mediaInfo", "is missing"))?;
    let mut media = Members::of("prompts[0].mediaInfo", media)?;
    let uri = media.text("uri")?.ok_or_else(|| media.bad("uri", "is missing"))?;
    let key = media.text("resourceId")?.filter(|id| !id.is_empty());
    if key.as_ref().is_some_and(|key| key.len() > limits::PROMPT_KEY) {
        return Err(media.bad("resourceId", format!("longer than {} bytes", limits::PROMPT_KEY)));
    }
    if let Some((_, name)) = uri.rsplit_once(&format!("/{domain}/promptfile/")) {
        let plain = !name.contains(['?', '#', '%', '/']);
        if !plain {
            return Err(media.bad("uri", "names no file of the promptfile store"));
        }
        check_file_name(name).map_err(|why| media.bad("uri", why))?;
        return Ok(Phrase::File { file_name: name.to_owned() });
    }
    Ok(Phrase::Url { url: check_url(uri).map_err(|why| media.bad("uri", why))?, key, keep: None })
}

/// MG-038 of one whose session no longer follows it: what is stored says the rest.
fn from_row(row: &RecordingRow, url: String) -> Value {
    let (phase, ended) = match row.state {
        RecordingState::Recording => (Phase::Recording, false),
        RecordingState::Failed => (Phase::Failed, true),
        _ => (Phase::Available, true),
    };
    let result = hookswitch_call::RecordingResult {
        recording_id: row.id.clone(),
        stop_reason: row.stop_reason.clone(),
        duration: Duration::from_millis(row.duration_ms),
        ..hookswitch_call::RecordingResult::default()
    };
    let options = RecordingOptions { dialect: Dialect::Graph, ..RecordingOptions::default() };
    let status = RecordingStatus {
        recording_id: row.id.clone(),
        control_id: row.id.clone(),
        client_context: None,
        phase,
        connection_id: None,
        participant_id: String::new(),
        caller: row.caller.clone(),
        called: row.called.clone(),
        file_name: row.file_name.clone(),
        pause_behavior: None,
        reason: None,
        result: ended.then_some(result),
        details: None,
        started_at: None,
        ended_at: None,
        url: Some(url),
        access_token: None,
        options: Arc::new(options),
    };
    operation(&status, false)
}

// -------------------------------------------------------------------------------------------------------------------- routes

/// The vendor's paths below the tenant's, the deprecated one too (MG-001).
pub(in super::super) fn endpoints() -> Vec<endpoint::Endpoint> {
    let any = || json!({ "type": "object" });
    let mut all = Vec::new();
    let paths = [
        ("/{domain}/graph/communications/calls/{id}/recordResponse", "graphRecordResponse"),
        ("/{domain}/graph/app/calls/{id}/recordResponse", "graphRecordResponseOld"),
    ];
    for (path, id) in paths {
        all.push(
            post(path, id, record)
                .says("Microsoft Graph's recordResponse: plays a prompt and a beep and records the caller's reply. `callbackUri` gets the commsNotification.")
                .body(endpoint::JSON, any())
                .answers(200, "The recordOperation; Location is its resource.", endpoint::JSON, any())
                .refuses(&[409, 429, 507]),
        );
    }
    all.push(
        post("/{domain}/graph/communications/calls/{id}/playPrompt", "graphPlayPrompt", play)
            .says("Microsoft Graph's playPrompt: plays a prompt when its turn comes. `callbackUri` gets the commsNotification.")
            .body(endpoint::JSON, any())
            .answers(200, "The playPromptOperation; Location is its resource.", endpoint::JSON, any())
            .refuses(&[409, 429, 507]),
    );
    all.push(
        get("/{domain}/graph/communications/calls/{id}/operations/{operation}", "graphOperation", show)
            .says("The recordOperation as it is now.")
            .answers(200, "The recordOperation.", endpoint::JSON, any()),
    );
    all.push(
        post("/{domain}/graph/communications/calls/{id}/cancelMediaProcessing", "graphCancelMediaProcessing", cancel)
            .says("Cancels the running and the queued operations of the call.")
            .body(endpoint::JSON, any())
            .answers(200, "A commsOperation.", endpoint::JSON, any())
            .refuses(&[409, 429, 507]),
    );
    all
}

/// MG-003.
fn allowed(caller: &Caller) -> Result<(), ApiError> {
    if caller.claims(MAY) { Ok(()) } else { Err(ApiError::forbidden("this token's roles do not have Calls.AccessMedia.All")) }
}

type OfCall = Path<(String, String)>;

async fn record(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    allowed(&caller)?;
    recorder::limit_rate(&api, &domain)?;
    let read = record_response(json_body(request).await?, &domain)?;
    // MG-037: short replies on a call, kept apart from recordings of whole calls; who asked is in the log.
    tracing::info!(%domain, session = from_path(&id), %caller, "graph: recordResponse");
    begin(&api, &domain, from_path(&id), read).await
}

async fn play(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    allowed(&caller)?;
    recorder::limit_rate(&api, &domain)?;
    let read = play_prompt(json_body(request).await?, &domain)?;
    begin(&api, &domain, from_path(&id), read).await
}

/// Orders an operation, and answers with its resource (MG-019).
async fn begin(
    api: &Arc<Api>,
    domain: &str,
    session_id: String,
    (options, prompts, unknown): (RecordingOptions, Vec<Phrase>, u64),
) -> Reply {
    api.count_unknown(unknown);
    let command = Command::StartRecording { session_id: session_id.clone(), target: Target::Session, options: Box::new(options), prompts };
    let Done::Recording { recording_id, .. } = api.node.order(domain, command).await? else { return Err(ApiError::internal()) };
    let status = recorder::status(api, domain, &recording_id).await.ok_or_else(|| ApiError::not_found("unknown operation"))?;
    let location = format!("/{domain}/graph{}", resource_url(&session_id, &recording_id));
    Ok(([(header::LOCATION, location)], axum::Json(operation(&status, false))).into_response())
}

async fn show(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, call, id)): Path<(String, String, String)>) -> Reply {
    allowed(&caller)?;
    let (call, id) = (from_path(&call), from_path(&id));
    if let Some(status) = recorder::status(&api, &domain, &id).await {
        return Ok(axum::Json(operation(&status, false)).into_response());
    }
    let url = api.archive.links.url(&domain, &id);
    let row = blocking(move || {
        let row = api.store.recording(&id)?.filter(|row| row.domain == domain && row.session == call);
        row.ok_or_else(|| ApiError::not_found("unknown operation"))
    })
    .await?;
    Ok(axum::Json(from_row(&row, url)).into_response())
}

async fn cancel(State(api): Shared, caller: Caller, Domain(domain): Domain, Path((_, id)): OfCall, request: Request) -> Reply {
    allowed(&caller)?;
    recorder::limit_rate(&api, &domain)?;
    let mut body = Members::of("", json_body(request).await?)?;
    let client_context = client_context(&mut body)?;
    api.node.order(&domain, Command::CancelMedia { session_id: from_path(&id) }).await?;
    let operation = json!({
        "@odata.type": "#microsoft.graph.cancelMediaProcessingOperation",
        "id": uuid::Uuid::new_v4().to_string(),
        "status": "completed",
        "clientContext": client_context,
    });
    Ok(axum::Json(operation).into_response())
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use hookswitch_call::recording::{Direction, Mode, StorageClass};

    const SESSION: &str = "5a1b2c3d-0000-4000-8000-000000000001";

    fn read(body: Value) -> Result<(RecordingOptions, Vec<Phrase>), String> {
        record_response(body, "a.example").map(|(options, prompts, _)| (options, prompts)).map_err(|error| error.message)
    }

    fn graph() -> RecordingOptions {
        RecordingOptions { dialect: Dialect::Graph, client_context: Some("ctx".into()), ..RecordingOptions::default() }
    }

    #[test]
    fn mg_005_006_009_011_013_014_015_016_017_035_the_request_becomes_options() {
        let (options, prompts) = read(json!({
            "bargeInAllowed": true,
            "clientContext": "ctx",
            "prompts": [{ "@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": { "uri": "https://n/a.example/promptfile/hi.wav", "resourceId": "1" } }],
            "maxRecordDurationInSeconds": 10,
            "initialSilenceTimeoutInSeconds": 6,
            "maxSilenceTimeoutInSeconds": 2,
            "playBeep": false,
            "stopTones": ["#", "1", "*"],
            "callbackUri": "https://bot/x",
        }))
        .expect("taken");
        assert_eq!(prompts, [Phrase::File { file_name: "hi.wav".into() }]);
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!((options.max_duration, options.initial_silence, options.max_silence), (seconds(10), seconds(6), seconds(2)));
        assert_eq!((options.queue_policy, options.beep, options.stop_digits.as_deref()), (QueuePolicy::Barge, Some(false), Some("#1*")));
        assert_eq!((options.client_context.as_deref(), options.on_complete_url.as_deref()), (Some("ctx"), Some("https://bot/x")));
        assert_eq!((options.container(), options.encoding, options.sample_rate()), (Container::Wav, Encoding::Pcm16, 16_000));
        let (options, prompts) = read(json!({})).expect("taken");
        assert_eq!((options.max_duration, options.initial_silence, options.max_silence), (seconds(5), seconds(5), seconds(5)));
        assert_eq!((options.queue_policy, options.beep, options.stop_digits.as_deref()), (QueuePolicy::Append, Some(true), Some("")));
        assert!(prompts.is_empty());
    }

    #[test]
    fn mg_005_016_017_018_what_is_out_of_range_is_refused_by_name() {
        let prompt = |uri: &str| json!({ "mediaInfo": { "uri": uri } });
        let good = "https://n/a.example/promptfile/a.wav";
        for (body, field) in [
            (json!([]), "body"),
            (json!({ "maxRecordDurationInSeconds": 121 }), "maxRecordDurationInSeconds"),
            (json!({ "maxRecordDurationInSeconds": 0 }), "maxRecordDurationInSeconds"),
            (json!({ "maxSilenceTimeoutInSeconds": -1 }), "maxSilenceTimeoutInSeconds"),
            (json!({ "initialSilenceTimeoutInSeconds": 1.5 }), "initialSilenceTimeoutInSeconds"),
            (json!({ "clientContext": "x".repeat(257) }), "clientContext"),
            (json!({ "prompts": [prompt(good), prompt(good)] }), "prompts"),
            (json!({ "prompts": {} }), "prompts"),
            (json!({ "prompts": [{}] }), "prompts[0].mediaInfo"),
            (json!({ "prompts": [prompt("https://n/a.example/promptfile/..")] }), "prompts[0].mediaInfo.uri"),
            (json!({ "prompts": [prompt("https://n/a.example/promptfile/a.wav?x")] }), "prompts[0].mediaInfo.uri"),
            (json!({ "prompts": [prompt("file:///etc/passwd")] }), "prompts[0].mediaInfo.uri"),
            (json!({ "prompts": [prompt("hi.wav")] }), "prompts[0].mediaInfo.uri"),
            (json!({ "prompts": [{ "mediaInfo": { "uri": good, "resourceId": "x".repeat(257) } }] }), "prompts[0].mediaInfo.resourceId"),
            (json!({ "stopTones": "#" }), "stopTones"),
            (json!({ "stopTones": ["##"] }), "stopTones"),
            (json!({ "stopTones": ["E"] }), "stopTones"),
            (json!({ "playBeep": "yes" }), "playBeep"),
            (json!({ "bargeInAllowed": 1 }), "bargeInAllowed"),
            (json!({ "callbackUri": "mailto:x" }), "onCompleteUrl"),
        ] {
            let error = read(body.clone()).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{body}: {error}");
        }
    }

    #[test]
    fn mg_007_008_a_prompt_is_the_tenants_own_file_or_fetched_and_kept_by_its_resource_id() {
        let of = |media: Value| {
            let (_, prompts) = read(json!({ "prompts": [{ "mediaInfo": media }] })).expect("taken");
            prompts.into_iter().next().expect("one")
        };
        let own = Phrase::File { file_name: "hi.wav".into() };
        assert_eq!(of(json!({ "uri": "https://n/a.example/promptfile/hi.wav" })), own);
        assert_eq!(of(json!({ "uri": "/a.example/promptfile/hi.wav", "resourceId": "1" })), own);
        let url = |url: &str, key: Option<&str>| Phrase::Url { url: url.into(), key: key.map(str::to_owned), keep: None };
        assert_eq!(of(json!({ "uri": "https://bot/hi.wav", "resourceId": "1D6DE2D4" })), url("https://bot/hi.wav", Some("1D6DE2D4")));
        assert_eq!(of(json!({ "uri": "https://bot/hi.wav?sig=x", "resourceId": "" })), url("https://bot/hi.wav?sig=x", None));
        // Another tenant's store is another server's, and that is not on the list.
        let other = "https://n/b.example/promptfile/hi.wav";
        assert_eq!(of(json!({ "uri": other })), url(other, None));
    }

    #[test]
    fn mg_036_037_it_is_short_in_its_turn_of_the_caller_alone_and_not_kept() {
        let (options, _) = read(json!({ "maxRecordDurationInSeconds": 120 })).expect("taken");
        let options = options.filled(hookswitch_call::recording::Place::Connection);
        assert_eq!(options.storage_class, StorageClass::Ephemeral, "until ten minutes after the call");
        assert_eq!((options.mode, options.direction), (Some(Mode::Queued), Some(Direction::Speak)));
        assert_eq!(options.max_duration, Some(Duration::from_secs(120)));
        assert!(read(json!({ "maxRecordDurationInSeconds": 121 })).is_err(), "no way to record a whole call");
    }

    #[test]
    fn mg_040_play_prompt_is_read_and_said_as_the_vendor_does() {
        let read = |body: Value| play_prompt(body, "a.example").map_err(|error| error.message);
        let prompts = json!([{ "mediaInfo": { "uri": "/a.example/promptfile/hi.wav" } }]);
        let (options, phrases, _) = read(json!({ "prompts": prompts, "clientContext": "ctx", "loop": 3 })).expect("taken");
        assert_eq!(phrases, vec![Phrase::File { file_name: "hi.wav".into() }; 3]);
        assert!(options.prompts_only && options.client_context.as_deref() == Some("ctx"));
        assert_eq!(read(json!({ "prompts": prompts })).expect("taken").1.len(), 1);
        for (body, field) in [
            (json!({}), "prompts"),
            (json!({ "prompts": [] }), "prompts"),
            (json!({ "prompts": prompts, "loop": 0 }), "loop"),
            (json!({ "prompts": prompts, "loop": 61 }), "loop"),
            (json!({ "prompts": prompts, "clientContext": "x".repeat(257) }), "clientContext"),
        ] {
            let error = read(body).expect_err("refused");
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
        let options = RecordingOptions { prompts_only: true, ..graph() };
        for (phase, reason, expected) in [
            (Phase::Queued, "", ("notStarted", None)),
            (Phase::Prompting, "", ("running", None)),
            (Phase::Available, "played", ("completed", Some(0))),
            (Phase::Canceled, "superseded", ("failed", Some(8508))),
            (Phase::Canceled, "api_stop", ("failed", Some(8508))),
            (Phase::Failed, "prompt_failed", ("failed", Some(8511))),
            (Phase::Failed, "remote_hangup", ("failed", Some(9999))),
        ] {
            let said = operation(&status(options.clone(), phase, reason, 0), true);
            assert_eq!(said["@odata.type"], json!("#microsoft.graph.playPromptOperation"));
            assert_eq!(
                (said["status"].as_str(), said["resultInfo"]["subcode"].as_u64()),
                (Some(expected.0), expected.1),
                "{phase:?} {reason}"
            );
            assert!(said.get("recordingLocation").is_none() && said.get("recordingAccessToken").is_none(), "{said}");
        }
    }

    #[test]
    fn mg_003_a_token_that_speaks_of_roles_needs_that_of_the_media() {
        use crate::api::bearer::tests::sign;
        use crate::api::tests::{TENANT, TOKEN, tenant_key, world};
        let world = world();
        let path = format!("/admin/tenants/{TENANT}/keys/bot");
        assert_eq!(world.ask("PUT", &path, Some(TOKEN), Some("application/x-pem-file"), tenant_key().as_bytes()).0, 201);
        let token = |claims: Value| {
            let mut all = json!({ "aud": TENANT, "exp": crate::store::wall_ms() / 1000 + 300 });
            all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
            sign(&json!({ "alg": "RS256", "typ": "JWT" }), &all)
        };
        let json_type = Some("application/json");
        let call = format!("/{TENANT}/graph/communications/calls/{SESSION}");
        world.follows(Some(status(graph(), Phase::Recording, "", 0)));
        for (claims, allowed) in [
            (json!({}), true),
            (json!({ "roles": ["Calls.JoinGroupCall.All", MAY] }), true),
            (json!({ "scp": format!("User.Read {MAY}") }), true),
            (json!({ "roles": ["Calls.JoinGroupCall.All"] }), false),
            (json!({ "roles": [] }), false),
            (json!({ "scp": "User.Read" }), false),
            (json!({ "roles": 7 }), false),
        ] {
            let token = token(claims.clone());
            world.gives(Ok(Done::Recording { recording_id: "r".into(), file_name: "x.wav".into() }));
            let prompts = br#"{"prompts":[{"mediaInfo":{"uri":"https://bot/x.wav"}}]}"#;
            for (method, rest, body) in
                [("POST", "recordResponse", &b"{}"[..]), ("POST", "playPrompt", prompts), ("GET", "operations/r", b"")]
            {
                let (code, said) = world.ask(method, &format!("{call}/{rest}"), Some(&token), json_type.filter(|_| method == "POST"), body);
                assert_eq!(code, if allowed { 200 } else { 403 }, "{rest} {claims}: {said}");
            }
            world.gives(Ok(Done::Nothing));
            let (code, _) = world.ask("POST", &format!("{call}/cancelMediaProcessing"), Some(&token), json_type, b"{}");
            assert_eq!(code, if allowed { 200 } else { 403 }, "{claims}");
            assert_eq!(world.ordered().len(), if allowed { 3 } else { 0 });
        }
    }

    #[test]
    fn mg_029_034_the_location_is_absolute_opens_with_its_token_and_says_what_was_thrown_away() {
        use crate::api::tests::{TENANT, TOKEN, world};
        let world = world();
        let path = world.folder.path().join("r.wav");
        std::fs::write(&path, b"RIFF").expect("written");
        let row = |id: &str, state, stop_reason: &str, dialect: &str| RecordingRow {
            id: id.into(),
            domain: TENANT.into(),
            session: SESSION.into(),
            path: path.to_string_lossy().into_owned(),
            file_name: "r.wav".into(),
            dialect: dialect.into(),
            state,
            stop_reason: stop_reason.into(),
            ..RecordingRow::default()
        };
        let id = "0fa1b2c3-0000-4000-8000-00000000000a";
        world.store.put_recording(row(id, RecordingState::Available, "stop_digit", "graph")).expect("put");
        let (code, said) =
            world.ask("GET", &format!("/{TENANT}/graph/communications/calls/{SESSION}/operations/{id}"), Some(TOKEN), None, b"");
        let location = said["recordingLocation"].as_str().expect("a location").to_owned();
        let local = location.strip_prefix("http://127.0.0.1:8080").expect("absolute, as the node is told that it is reached");
        assert_eq!((code, &said["recordingAccessToken"]), (200, &Value::Null));
        let (token, _) = world.archive.links.mint(crate::store::wall_ms(), TENANT, id, "news of it", Duration::from_secs(60));
        let mut answer = world.raw("GET", local, Some(&token), None, b"");
        assert_eq!(answer.headers()["content-type"], "application/octet-stream");
        assert_eq!((answer.status().as_u16(), answer.body_mut().read_to_vec().expect("a body")), (200, b"RIFF".to_vec()));
        // Without a token, with another's, and with one that is over.
        let (old, _) = world.archive.links.mint(1000, TENANT, id, "news of it", Duration::from_secs(60));
        let (other, _) = world.archive.links.mint(crate::store::wall_ms(), TENANT, "another", "news of it", Duration::from_secs(60));
        for token in [None, Some("guess"), Some(other.as_str()), Some(old.as_str())] {
            assert_eq!(world.ask("GET", local, token, None, b"").0, 401, "{token:?}");
        }
        // What was cancelled or discarded is gone; what failed was never there.
        for (n, (reason, dialect, code)) in
            [("discarded", "native", 410), ("superseded", "graph", 410), ("api_stop", "graph", 410), ("disk_error", "graph", 409)]
                .into_iter()
                .enumerate()
        {
            let id = format!("gone-{n}");
            world.store.put_recording(row(&id, RecordingState::Failed, reason, dialect)).expect("put");
            assert_eq!(world.ask("GET", &format!("/{TENANT}/recordings/{id}/audio"), Some(TOKEN), None, b"").0, code, "{reason}");
        }
    }

    #[test]
    fn mg_020_021_022_029_an_operation_that_runs_has_no_result() {
        for (phase, status_name) in [
            (Phase::Queued, "notStarted"),
            (Phase::Prompting, "running"),
            (Phase::Beeping, "running"),
            (Phase::Recording, "running"),
            (Phase::Paused, "running"),
            (Phase::Finalizing, "running"),
        ] {
            let said = operation(&status(graph(), phase, "max_duration", 5000), false);
            assert_eq!(
                (&said["status"], &said["@odata.type"]),
                (&json!(status_name), &json!("#microsoft.graph.recordOperation")),
                "{phase:?}"
            );
            assert_eq!(
                (&said["completionReason"], &said["resultInfo"], &said["recordingLocation"]),
                (&Value::Null, &Value::Null, &Value::Null)
            );
            assert_eq!((&said["id"], &said["clientContext"]), (&json!("0fa1b2c3-0000-4000-8000-00000000000a"), &json!("ctx")));
        }
    }

    #[test]
    fn mg_010_023_024_025_026_027_028_every_end_has_the_vendors_reason_and_numbers() {
        for (phase, reason, ms, expected) in [
            (Phase::Available, "stop_digit", 2000, ("completed", "stopToneDetected", 200, 8514)),
            (Phase::Available, "max_duration", 5000, ("completed", "maxRecordDurationReached", 200, 8515)),
            (Phase::Available, "max_silence", 5000, ("completed", "maxSilenceTimeout", 200, 8513)),
            (Phase::NoInput, "initial_silence", 5000, ("failed", "initialSilenceTimeout", 400, 8510)),
            (Phase::Canceled, "superseded", 0, ("failed", "operationCanceled", 400, 8508)),
            (Phase::Canceled, "api_stop", 0, ("failed", "operationCanceled", 400, 8508)),
            (Phase::Discarded, "discarded", 0, ("failed", "operationCanceled", 400, 8508)),
            (Phase::Canceled, "connection_split", 0, ("failed", "operationCanceled", 400, 8508)),
            (Phase::Failed, "prompt_failed", 0, ("failed", "playPromptFailed", 400, 8511)),
            (Phase::Failed, "beep_failed", 0, ("failed", "playBeepFailed", 400, 8512)),
            (Phase::Failed, "media_timeout", 0, ("failed", "mediaReceiveTimeout", 400, 8516)),
            (Phase::Available, "remote_hangup", 3000, ("completed", "none", 200, 0)),
            (Phase::Failed, "remote_hangup", 0, ("failed", "unspecifiedError", 500, 9999)),
            (Phase::Failed, "max_duration", 5000, ("failed", "unspecifiedError", 500, 9999)),
            (Phase::Available, "file_size", 5000, ("failed", "unspecifiedError", 500, 9999)),
            (Phase::Available, "node_shutdown", 5000, ("failed", "unspecifiedError", 500, 9999)),
            (Phase::Canceled, "transfer", 0, ("failed", "operationCanceled", 400, 8508)),
            (Phase::Failed, "storage_error", 0, ("failed", "unspecifiedError", 500, 9999)),
            (Phase::Failed, "encode_error", 0, ("failed", "unspecifiedError", 500, 9999)),
        ] {
            let said = operation(&status(graph(), phase, reason, ms), true);
            let (info, text) = (&said["resultInfo"], |name: &str| said[name].as_str().unwrap_or("-").to_owned());
            let got = (text("status"), text("completionReason"), info["code"].as_u64(), info["subcode"].as_u64());
            let (status, why, code, subcode) = expected;
            assert_eq!(got, (status.to_owned(), why.to_owned(), Some(code), Some(subcode)), "{phase:?} {reason}");
            let empty = said["recordingLocation"] == json!("") && said["recordingAccessToken"] == json!("");
            assert_eq!(empty, status == "failed", "{said}");
        }
    }

    #[test]
    fn mg_029_030_031_032_033_the_notification_has_location_and_token_and_names_the_resource() {
        let said = notification(SESSION, &status(graph(), Phase::Available, "stop_digit", 5020));
        let one = &said["value"][0];
        let url = "/communications/calls/5A1B2C3D000040008000000000000001/operations/0FA1B2C300004000800000000000000A";
        assert_eq!((&one["changeType"], &one["resourceUrl"]), (&json!("deleted"), &json!(url)));
        assert_eq!(one["@odata.type"], json!("#microsoft.graph.commsNotification"));
        let data = &one["resourceData"];
        assert_eq!((&data["@odata.id"], &data["recordingAccessToken"]), (&json!(url), &json!("token")));
        assert!(data["@odata.etag"].as_str().is_some_and(|tag| tag.starts_with("W/\"")));
        assert_eq!(data["recordingLocation"], json!("https://node/a.example/recordings/x"));
        assert_eq!(said["value"].as_array().map(Vec::len), Some(1));
        let polled = operation(&status(graph(), Phase::Available, "stop_digit", 5020), false);
        assert_eq!(polled["recordingAccessToken"], Value::Null, "only the notification has it");
        // Both forms of an id lead to the same call.
        for form in [SESSION, "5A1B2C3D000040008000000000000001", "5a1B2c3D000040008000000000000001"] {
            assert_eq!(from_path(form), SESSION);
        }
        assert_eq!(from_path("none/of-these"), "none/of-these");
    }

    #[test]
    fn mg_038_what_is_stored_tells_of_an_operation_whose_call_is_over() {
        let row = |state, reason: &str| RecordingRow {
            id: "r".into(),
            state,
            stop_reason: reason.into(),
            duration_ms: 5000,
            ..RecordingRow::default()
        };
        let said = |state, reason| from_row(&row(state, reason), "/a/recordings/r/audio".into());
        let done = said(RecordingState::Available, "stop_digit");
        assert_eq!((&done["status"], &done["completionReason"]), (&json!("completed"), &json!("stopToneDetected")));
        assert_eq!(done["recordingLocation"], json!("/a/recordings/r/audio"));
        assert_eq!(said(RecordingState::Failed, "max_duration")["completionReason"], json!("unspecifiedError"));
        assert_eq!(said(RecordingState::Recording, "")["status"], json!("running"));
    }

    #[test]
    fn mg_001_002_003_004_019_021_022_038_039_the_routes_order_and_answer() {
        use crate::api::tests::{TENANT, TOKEN, world};
        use hookswitch_call::CommandError;
        let world = world();
        let json = Some("application/json");
        let url = |rest: &str| format!("/{TENANT}/graph/communications/calls/5A1B2C3D000040008000000000000001/{rest}");
        let body = br##"{"bargeInAllowed":true,"stopTones":["#"],"clientContext":"ctx"}"##;
        world.follows(Some(status(graph(), Phase::Queued, "", 0)));
        world.gives(Ok(Done::Recording { recording_id: "0fa1b2c3-0000-4000-8000-00000000000a".into(), file_name: "x.wav".into() }));
        for path in [url("recordResponse"), url("recordResponse").replace("/communications/", "/app/")] {
            let answer = world.raw("POST", &path, Some(TOKEN), json, body);
            let location = answer.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or_default().to_owned();
            assert_eq!((answer.status().as_u16(), location), (200, url("operations/0FA1B2C300004000800000000000000A")));
            let ordered = world.ordered();
            let [(domain, Command::StartRecording { session_id, target, options, prompts })] = &ordered[..] else { panic!("{ordered:?}") };
            assert_eq!((domain.as_str(), session_id.as_str(), target, prompts.len()), (TENANT, SESSION, &Target::Session, 0));
            assert_eq!((options.dialect, options.queue_policy), (Dialect::Graph, QueuePolicy::Barge));
        }
        let (code, said) = world.ask("POST", &url("recordResponse"), Some(TOKEN), json, body);
        assert_eq!((code, &said["status"], &said["id"]), (200, &json!("notStarted"), &json!("0fa1b2c3-0000-4000-8000-00000000000a")));
        // Polling, while it runs.
        world.follows(Some(status(graph(), Phase::Recording, "", 0)));
        let (code, said) = world.ask("GET", &url("operations/0FA1B2C300004000800000000000000A"), Some(TOKEN), None, b"");
        assert_eq!((code, &said["status"]), (200, &json!("running")));
        world.ordered();
        world.gives(Ok(Done::Nothing));
        let (code, said) = world.ask("POST", &url("cancelMediaProcessing"), Some(TOKEN), json, br#"{"clientContext":"c"}"#);
        assert_eq!((code, &said["clientContext"], &said["status"]), (200, &json!("c"), &json!("completed")));
        assert_eq!(world.ordered(), [(TENANT.to_owned(), Command::CancelMedia { session_id: SESSION.to_owned() })]);
        // Who may not, what is no JSON, what does not exist, and what is not ready.
        assert_eq!(world.ask("POST", &url("recordResponse"), None, json, body).0, 401);
        assert_eq!(world.ask("POST", &url("recordResponse"), Some(TOKEN), Some("text/plain"), body).0, 415);
        assert_eq!(world.ask("POST", &url("recordResponse"), Some(TOKEN), json, b"{").0, 400);
        assert!(world.ordered().is_empty());
        world.follows(None);
        assert_eq!(world.ask("GET", &url("operations/none"), Some(TOKEN), None, b"").0, 404);
        for (error, code) in [(CommandError::Unknown("session"), 404), (CommandError::WrongState("no media"), 409)] {
            world.gives(Err(error));
            assert_eq!(world.ask("POST", &url("recordResponse"), Some(TOKEN), json, body).0, code);
        }
    }
}
