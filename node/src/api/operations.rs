//! The operations on calls (IC-001): `POST /{domain}/<operation>`, and the operator's `POST /admin/sessions/{session}/<operation>`. A body becomes
//! a [`Command`], the switch says what it makes of it, and that is formatted. Nothing about calls is decided here: whether a session, a participant
//! or a recording is there and in the right state is the session's to say.
//!
//! Start with [`Operation`]: its table of fields, then its translation.

pub(super) mod recorder;

use super::access::{Caller, Domain};
use super::endpoint::Path;
use super::fields::{self, Field, Kind, Values, optional, required};
use super::idempotency::{Begun, KEY};
use super::reply::{self, ApiError, Reply};
use super::{Api, Shared, blocking};
use crate::limits;
use crate::reply_keys::{BadReplyId, ReplyId};
use axum::extract::{Request, State};
use hookswitch_call::ReplyTo;
use hookswitch_call::door::{Command, CommandError, Done, HoldAudio, Mute, PlaceIvrCall, PlaceRemoteCall, TransferTarget, WhichRecording};
use hookswitch_call::hook::OutboundCall;
use hookswitch_proto::sdp::{Device, Format};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    StartRecording,
    StopRecording,
    HangupParticipant,
    HangupRemoteParticipant,
    SplitConnection,
    InterruptIvrCommand,
    SendDtmf,
    Transfer,
    Hold,
    Resume,
    Mute,
    PlaceIvrCall,
    PlaceRemoteCall,
    SendRemoteCallRingback,
    AnswerRemoteCall,
    HangupCall,
}

const REPLY_ID: &str = "The replyId of the hook or notification that this is about: it says which session carries the command out.";
const CONNECTION: &str = "The connection, from callAnswered. Unknown: 404.";
const PARTICIPANT: &str = "The participant. Unknown in the session: 404.";

const START_RECORDING: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("connectionId", Kind::Id, CONNECTION),
    optional(
        "recordingFileName",
        Kind::FileName,
        "Name to store it under; the default is `<sessionId>-<connectionId>` with the format's ending.",
    ),
];
const STOP_RECORDING: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("connectionId", Kind::Id, "The connection whose recording stops. Not recorded: 409."),
];
const HANGUP_PARTICIPANT: &[Field] = &[
    required("participantId", Kind::Id, "The leg to release. Unknown in the session: 404."),
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("sessionId", Kind::Id, "The session, which must be the replyId's."),
];
const HANGUP_REMOTE_PARTICIPANT: &[Field] = &[
    required("participantId", Kind::Id, "The participant whose counterpart is released; it stays. Without one: 409."),
    required("replyId", Kind::ReplyId, REPLY_ID),
];
const SPLIT_CONNECTION: &[Field] = &[required("replyId", Kind::ReplyId, REPLY_ID), required("connectionId", Kind::Id, CONNECTION)];
const INTERRUPT_IVR_COMMAND: &[Field] = &[
    required("replyId", Kind::ReplyId, "The replyId of the getIvrCommand whose command is cut short. Ended already: 409."),
    required("sessionId", Kind::Id, "The session, which must be the replyId's."),
];
const SEND_DTMF: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("participantId", Kind::Id, PARTICIPANT),
    required("digits", Kind::Digits, "1 to 64 of 0-9, *, # and A-D, sent as telephone events."),
    optional("digitMs", Kind::Millis(40, 2000), "Milliseconds of each digit; 100 where it is not said."),
];
const TRANSFER: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("participantId", Kind::Id, "The participant that is sent away. Not connected: 409."),
    optional("destAddr", Kind::Uri, "SIP URI that it calls. The tenant's list of destinations must have it."),
    optional("toParticipantId", Kind::Id, "In place of destAddr: the participant whose far end it calls, which takes our place there."),
];
const HOLD: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("participantId", Kind::Id, "The participant. Not connected with another one: 409."),
    optional("fileName", Kind::FileName, "Prompt that it hears in a loop; silence where it is not said."),
];
const RESUME: &[Field] = &[required("replyId", Kind::ReplyId, REPLY_ID), required("participantId", Kind::Id, PARTICIPANT)];
const MUTE: &[Field] = &[
    required("replyId", Kind::ReplyId, REPLY_ID),
    required("participantId", Kind::Id, PARTICIPANT),
    required(
        "direction",
        Kind::OneOf(&["speak", "listen", "both", "off"]),
        "`speak`: nobody hears it; `listen`: it hears nobody; `both`; `off`: neither.",
    ),
];
const PLACE_IVR_CALL: &[Field] = &fields::joined::<{ fields::CALL_OUT.len() + 7 }>(
    &[
        required("destAddr", Kind::Uri, "SIP URI to call. The tenant's list of destinations must have it."),
        optional("sessionId", Kind::Id, "Join this session in place of a new one."),
        optional("mediaserviceId", Kind::Text, "One of the tenant's mediaservice ids. Another: 404."),
        optional("displayName", Kind::Text, "Display name of From."),
        optional("callerPrivacy", Kind::Flag, "Hide the caller: From is anonymous."),
        optional("sipDiversionParameters", Kind::Parameters, "Parameters of the Diversion header."),
        optional("sessionReferenceId", Kind::Json, "Any JSON up to 4 KiB, echoed in every hook of the session."),
    ],
    fields::CALL_OUT,
);

const RECEIVE_IP: &str = "Where the device takes RTP; one of the tenant's media addresses.";
const RECEIVE_PORT: &str = "Its port, an even one by custom.";
const TELEPHONE_EVENT: &str = "Payload type of telephone-event; none is described without it.";
const REFERENCE: &str = "Any JSON up to 4 KiB, echoed in every hook of the session.";
/// IC-048, IC-050: as `hookswitch_call::limits` has them.
const PORT: Kind = Kind::Whole(1024, 65535);
const EVENTS: Kind = Kind::Whole(96, 127);
const PLACE_REMOTE_CALL: &[Field] = &[
    required("destinationUri", Kind::Uri, "SIP URI to call. The tenant's list of destinations must have it."),
    required("sourceUser", Kind::Id, "User part of From; its host is the tenant's domain."),
    required("codec", Kind::OneOf(&["PCMA", "PCMU", "GSM"]), "The only codec of the offer."),
    required("receiveIp", Kind::Ip, RECEIVE_IP),
    required("receivePort", PORT, RECEIVE_PORT),
    required(
        "callbackBaseUrl",
        Kind::Uri,
        "Hears callNotify, callAnswered, callEvent and sessionCompleted of this call; of an origin that the tenant lists.",
    ),
    optional("telephoneEventPayloadType", EVENTS, TELEPHONE_EVENT),
    optional("sessionReferenceId", Kind::Json, REFERENCE),
];
const SEND_REMOTE_CALL_RINGBACK: &[Field] = &[required("replyId", Kind::ReplyId, "Of newRemoteCall.")];
const ANSWER_REMOTE_CALL: &[Field] = &[
    required("replyId", Kind::ReplyId, "Of newRemoteCall."),
    required("codec", Kind::OneOf(&["PCMA", "PCMU"]), "The codec of the answer. One that the caller did not offer: 409."),
    required("receiveIp", Kind::Ip, RECEIVE_IP),
    required("receivePort", PORT, RECEIVE_PORT),
    optional("telephoneEventPayloadType", EVENTS, TELEPHONE_EVENT),
    optional("crypto", Kind::Crypto, "SDES lines for a caller who offered RTP/SAVP, with a tag and suite of the offer."),
    optional("sessionReferenceId", Kind::Json, REFERENCE),
];
const HANGUP_CALL: &[Field] =
    &[required("replyId", Kind::ReplyId, "Of callAnswered, or of newRemoteCall: then the call is refused with 603.")];

impl Operation {
    pub(super) const ALL: [Operation; 16] = [
        Operation::StartRecording,
        Operation::StopRecording,
        Operation::HangupParticipant,
        Operation::HangupRemoteParticipant,
        Operation::SplitConnection,
        Operation::InterruptIvrCommand,
        Operation::SendDtmf,
        Operation::Transfer,
        Operation::Hold,
        Operation::Resume,
        Operation::Mute,
        Operation::PlaceIvrCall,
        Operation::PlaceRemoteCall,
        Operation::SendRemoteCallRingback,
        Operation::AnswerRemoteCall,
        Operation::HangupCall,
    ];

    /// Path below `/{domain}`, path below `/admin/sessions/{session}`, and operationId of each. The operator places calls by the tenant's path.
    pub(super) fn paths(self) -> (&'static str, Option<(&'static str, &'static str)>) {
        match self {
            Operation::StartRecording => {
                ("/{domain}/startrecording", Some(("/admin/sessions/{session}/startrecording", "sessionStartRecording")))
            }
            Operation::StopRecording => {
                ("/{domain}/stoprecording", Some(("/admin/sessions/{session}/stoprecording", "sessionStopRecording")))
            }
            Operation::HangupParticipant => {
                ("/{domain}/hangupparticipant", Some(("/admin/sessions/{session}/hangupparticipant", "sessionHangupParticipant")))
            }
            Operation::HangupRemoteParticipant => (
                "/{domain}/hangupremoteparticipant",
                Some(("/admin/sessions/{session}/hangupremoteparticipant", "sessionHangupRemoteParticipant")),
            ),
            Operation::SplitConnection => {
                ("/{domain}/splitconnection", Some(("/admin/sessions/{session}/splitconnection", "sessionSplitConnection")))
            }
            Operation::InterruptIvrCommand => {
                ("/{domain}/interruptivrcommand", Some(("/admin/sessions/{session}/interruptivrcommand", "sessionInterruptIvrCommand")))
            }
            Operation::SendDtmf => ("/{domain}/senddtmf", Some(("/admin/sessions/{session}/senddtmf", "sessionSendDtmf"))),
            Operation::Transfer => ("/{domain}/transfer", Some(("/admin/sessions/{session}/transfer", "sessionTransfer"))),
            Operation::Hold => ("/{domain}/hold", Some(("/admin/sessions/{session}/hold", "sessionHold"))),
            Operation::Resume => ("/{domain}/resume", Some(("/admin/sessions/{session}/resume", "sessionResume"))),
            Operation::Mute => ("/{domain}/mute", Some(("/admin/sessions/{session}/mute", "sessionMute"))),
            Operation::PlaceIvrCall => ("/{domain}/placeivrcall", None),
            Operation::PlaceRemoteCall => ("/{domain}/placeremotecall", None),
            Operation::SendRemoteCallRingback => (
                "/{domain}/sendremotecallringback",
                Some(("/admin/sessions/{session}/sendremotecallringback", "sessionSendRemoteCallRingback")),
            ),
            Operation::AnswerRemoteCall => {
                ("/{domain}/answerremotecall", Some(("/admin/sessions/{session}/answerremotecall", "sessionAnswerRemoteCall")))
            }
            Operation::HangupCall => ("/{domain}/hangupcall", Some(("/admin/sessions/{session}/hangupcall", "sessionHangupCall"))),
        }
    }

    /// A second path of the operations that the vendor's devices sign in another way than by a JWT (IC-006).
    pub(super) fn twin(self) -> Option<&'static str> {
        match self {
            Operation::PlaceRemoteCall => Some("/{domain}/placeremotecalljwt"),
            Operation::SendRemoteCallRingback => Some("/{domain}/sendremotecallringbackjwt"),
            Operation::AnswerRemoteCall => Some("/{domain}/answerremotecalljwt"),
            Operation::HangupCall => Some("/{domain}/hangupcalljwt"),
            _ => None,
        }
    }

    /// The last part of its path; its operationId too.
    pub(super) fn name(self) -> &'static str {
        self.paths().0.trim_start_matches("/{domain}/")
    }

    pub(super) fn says(self) -> &'static str {
        match self {
            Operation::StartRecording => "Records both parties of a connection. recordingReady follows when it is stored.",
            Operation::StopRecording => "Stops the recording of a connection and stores it. recordingReady follows.",
            Operation::HangupParticipant => {
                "Releases a participant: CANCEL, a final answer or BYE, whichever its call needs. One that is gone already is a success."
            }
            Operation::HangupRemoteParticipant => "Releases the other party of a participant's connection; call-event asks what follows.",
            Operation::SplitConnection => "Parts the participants of a connection; call-event asks for each of them what follows.",
            Operation::InterruptIvrCommand => "Cuts the running IVR command short; getIvrCommand asks for the next one.",
            Operation::SendDtmf => "Sends digits to a participant.",
            Operation::Transfer => {
                "Asks a participant to call somebody else (REFER). It leaves when that call is answered; transfer-state tells how it goes."
            }
            Operation::Hold => "Parts a participant from the other one of its connection for a while, with music or silence.",
            Operation::Resume => "Ends a hold. One that is not on hold is a success.",
            Operation::Mute => "Keeps a participant from being heard, from hearing, or both, for the rest of its call.",
            Operation::PlaceIvrCall => "Places a call that is connected to the IVR when it is answered.",
            Operation::PlaceRemoteCall => {
                "Places a call from a device: its media goes past the node, and the call tells callbackBaseUrl of itself."
            }
            Operation::SendRemoteCallRingback => "Tells the caller of a device that it rings.",
            Operation::AnswerRemoteCall => "Answers a call for a device with the device's own media address.",
            Operation::HangupCall => "Releases a device's call: BYE, CANCEL, or 603 to one that is unanswered.",
        }
    }

    pub(super) fn fields(self) -> &'static [Field] {
        match self {
            Operation::StartRecording => START_RECORDING,
            Operation::StopRecording => STOP_RECORDING,
            Operation::HangupParticipant => HANGUP_PARTICIPANT,
            Operation::HangupRemoteParticipant => HANGUP_REMOTE_PARTICIPANT,
            Operation::SplitConnection => SPLIT_CONNECTION,
            Operation::InterruptIvrCommand => INTERRUPT_IVR_COMMAND,
            Operation::SendDtmf => SEND_DTMF,
            Operation::Transfer => TRANSFER,
            Operation::Hold => HOLD,
            Operation::Resume => RESUME,
            Operation::Mute => MUTE,
            Operation::PlaceIvrCall => PLACE_IVR_CALL,
            Operation::PlaceRemoteCall => PLACE_REMOTE_CALL,
            Operation::SendRemoteCallRingback => SEND_REMOTE_CALL_RINGBACK,
            Operation::AnswerRemoteCall => ANSWER_REMOTE_CALL,
            Operation::HangupCall => HANGUP_CALL,
        }
    }

    /// What the operator's path needs of it: the path names the session, and the operator needs no replyId.
    pub(super) fn fields_of_operator(self) -> Vec<Field> {
        self.fields().iter().filter(|field| !["replyId", "sessionId"].contains(&field.name)).copied().collect()
    }

    /// Repeated by accident it would do something twice: it takes an Idempotency-Key.
    pub(super) fn starts_something(self) -> bool {
        matches!(self, Operation::StartRecording | Operation::PlaceIvrCall | Operation::PlaceRemoteCall)
    }

    /// `session_id`: of the replyId, or of the operator's path. `reply_to`: what the replyId is of.
    fn command(self, session_id: Option<String>, reply_to: Option<ReplyTo>, mut values: Values) -> Result<Command, ApiError> {
        // A table with a replyId has a session.
        let of_session = session_id.clone().unwrap_or_default();
        Ok(match self {
            Operation::StartRecording => {
                Command::record_call(of_session, values.required("connectionId"), values.text("recordingFileName"))
            }
            Operation::StopRecording => {
                Command::StopRecording { session_id: of_session, which: WhichRecording::Connection(values.required("connectionId")) }
            }
            Operation::HangupParticipant => {
                Command::HangupParticipant { session_id: of_session, participant_id: values.required("participantId") }
            }
            Operation::HangupRemoteParticipant => {
                Command::HangupRemoteParticipant { session_id: of_session, participant_id: values.required("participantId") }
            }
            Operation::SplitConnection => {
                Command::SplitConnection { session_id: of_session, connection_id: values.required("connectionId") }
            }
            Operation::InterruptIvrCommand => {
                let command = match reply_to {
                    None => None,
                    Some(ReplyTo::IvrCommand(number)) => Some(number),
                    Some(_) => return Err(ApiError::bad("replyId", "must be the one of a getIvrCommand")),
                };
                Command::InterruptIvrCommand { session_id: of_session, command }
            }
            Operation::SendDtmf => Command::SendDtmf {
                session_id: of_session,
                participant_id: values.required("participantId"),
                digits: values.required("digits"),
                length: values.time("digitMs"),
            },
            Operation::Transfer => {
                let target = match (values.text("destAddr"), values.text("toParticipantId")) {
                    (Some(uri), None) => TransferTarget::Blind(uri),
                    (None, Some(other)) => TransferTarget::Attended(other),
                    (None, None) => return Err(ApiError::bad("destAddr", "is missing, and so is toParticipantId")),
                    (Some(_), Some(_)) => return Err(ApiError::bad("toParticipantId", "is given beside destAddr")),
                };
                Command::Transfer { session_id: of_session, participant_id: values.required("participantId"), target }
            }
            Operation::Hold => Command::Hold {
                session_id: of_session,
                participant_id: values.required("participantId"),
                audio: values.text("fileName").map_or(HoldAudio::Silence, HoldAudio::File),
            },
            Operation::Resume => Command::Resume { session_id: of_session, participant_id: values.required("participantId") },
            Operation::Mute => {
                let direction = values.required("direction");
                let mute = Mute { speak: ["speak", "both"].contains(&&*direction), listen: ["listen", "both"].contains(&&*direction) };
                Command::Mute { session_id: of_session, participant_id: values.required("participantId"), mute }
            }
            Operation::PlaceIvrCall => {
                let dest_addr = values.required("destAddr");
                Command::PlaceIvrCall(Box::new(PlaceIvrCall {
                    session_id: values.text("sessionId"),
                    mediaservice_id: values.text("mediaserviceId"),
                    call: OutboundCall {
                        display_name: values.text("displayName"),
                        caller_privacy: values.flag("callerPrivacy"),
                        sip_diversion_parameters: values.pairs("sipDiversionParameters"),
                        session_reference: values.text("sessionReferenceId"),
                        ..values.call_to(dest_addr)
                    },
                }))
            }
            Operation::PlaceRemoteCall => Command::PlaceRemoteCall(Box::new(PlaceRemoteCall {
                device: device(&mut values)?,
                destination_uri: values.required("destinationUri"),
                source_user: values.required("sourceUser"),
                callback_base_url: values.required("callbackBaseUrl"),
                session_reference: values.text("sessionReferenceId"),
            })),
            Operation::SendRemoteCallRingback => Command::SendRemoteCallRingback { session_id: of_session },
            Operation::AnswerRemoteCall => Command::AnswerRemoteCall {
                session_id: of_session,
                device: Box::new(device(&mut values)?),
                session_reference: values.text("sessionReferenceId"),
            },
            Operation::HangupCall => Command::HangupCall { session_id: of_session },
        })
    }

    /// The fields of its success, beside `success`.
    pub(super) fn gives(self) -> Vec<(&'static str, Value)> {
        use super::endpoint::text;
        match self {
            Operation::StartRecording => {
                vec![("recordingId", text("UUID of the recording.")), ("recordingFileName", text("The name it is stored under."))]
            }
            Operation::PlaceIvrCall | Operation::PlaceRemoteCall => vec![
                ("sessionId", text("UUID of the session.")),
                ("participantId", text("UUID of the called party.")),
                ("replyId", text("For commands about the call while it rings.")),
            ],
            _ => Vec::new(),
        }
    }
}

/// The device's side of a call, as its table has read it.
fn device(values: &mut Values) -> Result<Device, ApiError> {
    let ip = values.required("receiveIp").parse().map_err(|_| ApiError::bad("receiveIp", "must be an address"))?;
    let port = values.whole("receivePort").and_then(|port| u16::try_from(port).ok());
    let format = Format::of_name(&values.required("codec"));
    Ok(Device {
        address: SocketAddr::new(ip, port.ok_or_else(|| ApiError::bad("receivePort", "must be a port"))?),
        format: format.ok_or_else(|| ApiError::bad("codec", "is unknown"))?,
        telephone_event: values.whole("telephoneEventPayloadType").and_then(|number| u8::try_from(number).ok()),
        crypto: values.crypto("crypto"),
    })
}

/// A tenant's.
pub(super) async fn of_tenant(operation: Operation, State(api): Shared, Domain(domain): Domain, request: Request) -> Reply {
    let now = api.since_start();
    recorder::limit_rate(&api, &domain)?;
    let key = idempotency_key(&request, operation)?;
    let body = reply::body(request, super::BODY, "body", |given| given == "application/json", "application/json").await?;
    let mut values = fields::read(operation.fields(), &body)?;
    api.count_unknown(values.unknown);
    let reply_id = values.text("replyId").map(|token| reply_id(&api, &domain, &token)).transpose()?;
    if let Some(reply_id) = &reply_id
        && let Some(named) = values.text("sessionId")
        && named != reply_id.session_id
    {
        return Err(ApiError::bad("sessionId", "is not the session of this replyId"));
    }
    let (session_id, reply_to) = reply_id.map(|id| (id.session_id, id.reply_to)).unzip();
    let command = operation.command(session_id, reply_to, values)?;
    let Some(key) = key else { return reply::ok(order(&api, &domain, command).await?) };

    let request: [u8; 32] = Sha256::new().chain_update(operation.name()).chain_update([0]).chain_update(&*body).finalize().into();
    match api.answers.lock().unwrap_or_else(PoisonError::into_inner).begin(now, &domain, &key, request) {
        Begun::Repeated(answer) => return reply::ok(answer),
        Begun::Other => return Err(ApiError::conflict("Idempotency-Key: came with another request before")),
        Begun::UnderWay => return Err(ApiError::conflict("Idempotency-Key: the first request of this key is still under way")),
        Begun::Fresh => {}
    }
    // A task of its own: a client that goes away must find the answer when it comes again.
    let task = tokio::spawn(async move {
        let result = order(&api, &domain, command).await;
        let answer = result.as_ref().ok().cloned();
        api.answers.lock().unwrap_or_else(PoisonError::into_inner).finish(&domain, &key, answer);
        result
    });
    reply::ok(task.await.map_err(|_| ApiError::internal())??)
}

/// The operator's: any session, named by its path.
pub(super) async fn of_operator(
    operation: Operation,
    State(api): Shared,
    caller: Caller,
    Path(session): Path<String>,
    request: Request,
) -> Reply {
    let body = reply::body(request, super::BODY, "body", |given| given == "application/json", "application/json").await?;
    // An operation without a field is asked for without a body too.
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let values = fields::read(&operation.fields_of_operator(), text)?;
    api.count_unknown(values.unknown);
    let domain = api.node.domain_of(&session).ok_or_else(|| ApiError::not_found("unknown session"))?;
    let command = operation.command(Some(session.clone()), None, values)?;
    let answer = order(&api, &domain, command).await?;
    blocking(move || {
        api.store.save_audit(&caller.to_string(), &domain, operation.name(), &session);
        Ok(())
    })
    .await?;
    reply::ok(answer)
}

async fn order(api: &Arc<Api>, domain: &str, command: Command) -> Result<Value, ApiError> {
    Ok(match api.node.order(domain, command).await? {
        Done::Nothing => json!({}),
        Done::Recording { recording_id, file_name } => json!({ "recordingId": recording_id, "recordingFileName": file_name }),
        Done::RecordingStatus(status) => json!({ "recording": recorder::status_json(&status) }),
        Done::Placed { session_id, participant_id, reply_to } => {
            let reply_id = api.reply_keys.mint(domain, &session_id, reply_to);
            json!({ "sessionId": session_id, "participantId": participant_id, "replyId": reply_id })
        }
    })
}

/// IC-009: a bad one gives 401, one of another tenant 403, a stale one 404 here or by its session.
fn reply_id(api: &Api, domain: &str, token: &str) -> Result<ReplyId, ApiError> {
    let id = api.reply_keys.verify(token).map_err(|bad| match bad {
        BadReplyId::Invalid => ApiError::unauthorized_because("replyId: is not valid"),
        BadReplyId::OtherNode => ApiError::not_found("replyId: is of another node"),
    })?;
    if id.domain == domain { Ok(id) } else { Err(ApiError::forbidden("replyId: is of another domain")) }
}

fn idempotency_key(request: &Request, operation: Operation) -> Result<Option<String>, ApiError> {
    let Some(key) = request.headers().get("idempotency-key").filter(|_| operation.starts_something()) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=KEY).contains(&key.len()));
    key.map(|key| Some(key.to_owned()))
        .ok_or_else(|| ApiError::bad("Idempotency-Key", format!("must be 1 to {KEY} visible ASCII characters")))
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> ApiError {
        match error {
            CommandError::BadValue { field, why } => ApiError::bad(field, why),
            CommandError::Unknown(_) => ApiError::not_found(error.to_string()),
            CommandError::WrongState(why) => ApiError::conflict(why),
            CommandError::Limit(why) => ApiError::too_many(why),
            CommandError::Unavailable(why) => ApiError::unavailable(why).after(limits::RETRY_AFTER),
            CommandError::Quota(quota) => ApiError::quota(quota),
        }
    }
}

#[cfg(test)]
mod tests;
