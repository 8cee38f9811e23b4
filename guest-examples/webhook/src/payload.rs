//! What the application is told and asked: the mediaservice API's callbacks, field by field. Start with [`NewCall`]; what it answers is in
//! `answer.rs`.
//!
//! Absent is absent: nothing is sent as `null`. A session reference goes out byte for byte as it came in (IC-012).

use crate::value::{Pairs, Text, Whole};
use hookswitch_sdk::types;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A session reference: whatever JSON the application gave.
pub type Reference = Option<Box<RawValue>>;

/// The reference as it was given; what is no JSON was not taken by the node.
fn reference(info: &types::SessionInfo) -> Reference {
    info.session_reference.clone().and_then(|json| RawValue::from_string(json).ok())
}

fn text(value: &str) -> Text {
    value.into()
}

fn some(value: &Option<String>) -> Option<Text> {
    value.as_deref().map(text)
}

/// `None` for an empty text.
fn filled(value: &str) -> Option<Text> {
    Some(value).filter(|value| !value.is_empty()).map(text)
}

/// What a newer node tells beside.
fn fact(extra: &[(String, String)], name: &str) -> Option<Text> {
    extra.iter().find(|(fact, _)| fact == name).map(|(_, value)| text(value))
}

fn json_fact(extra: &[(String, String)], name: &str) -> Option<Box<RawValue>> {
    fact(extra, name).and_then(|json| RawValue::from_string(json.0).ok())
}

fn seconds(ms: Option<u64>) -> Option<Whole> {
    ms.map(|ms| Whole(ms / 1000))
}

/// `/newCall`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewCall {
    pub session_id: Text,
    pub sip_call_id: Text,
    pub ivr_server: Text,
    pub calling_party_privacy: Text,
    pub calling_party: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Text>,
    pub from_user: Text,
    pub x_headers: Pairs,
    pub p_headers: Pairs,
    pub called_party: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversion_headers: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referred_by: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pai_number: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
    pub src_addr: Text,
    #[serde(flatten)]
    pub trace: Trace,
}

/// What every callback says of its call and of itself (IC-098 to IC-100).
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Trace {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_transaction_id: Option<Text>,
}

impl From<&types::SessionInfo> for Trace {
    fn from(info: &types::SessionInfo) -> Trace {
        Trace { trace_id: filled(&info.trace_id), site_id: some(&info.site_id), http_transaction_id: filled(&info.transaction_id) }
    }
}

impl From<&types::NewCallRequest> for NewCall {
    fn from(call: &types::NewCallRequest) -> NewCall {
        NewCall {
            session_id: text(&call.info.session_id),
            sip_call_id: text(&call.sip_call_id),
            ivr_server: text(&call.info.ivr_server),
            calling_party_privacy: text(if call.is_private() { "secret" } else { "public" }),
            calling_party: text(&call.calling_party),
            display_name: some(&call.display_name),
            from_user: text(&call.from_user),
            x_headers: Pairs(call.x_headers.clone()),
            p_headers: Pairs(call.p_headers.clone()),
            called_party: text(&call.called_party),
            diversion_headers: some(&call.diversion_headers),
            referred_by: some(&call.referred_by),
            pai_number: some(&call.pai_number),
            subject: some(&call.subject),
            src_addr: text(&call.src_addr),
            trace: (&call.info).into(),
        }
    }
}

/// `/getCallIdentifier`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetCallIdentifier {
    pub session_id: Text,
    pub called_party: Text,
}

impl From<&types::CallIdentifierRequest> for GetCallIdentifier {
    fn from(request: &types::CallIdentifierRequest) -> GetCallIdentifier {
        GetCallIdentifier { session_id: text(&request.info.session_id), called_party: text(&request.called_party) }
    }
}

/// `/getIvrCommand`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetIvrCommand {
    pub session_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ivr_server: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtmf_buffer: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtmf_params: Option<DtmfParams>,
    /// Ours: the last recording of the command before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_id: Option<Text>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DtmfParams {
    pub dtmf_match: Text,
    pub reason: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_termination_key: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How digits are hashed: the same in the question and in the command.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Encryption {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<Text>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recording {
    pub recording_id: Text,
    pub recording_file_name: Text,
    pub duration_ms: Whole,
    pub contains_sound: bool,
}

impl From<&types::IvrRequest> for GetIvrCommand {
    fn from(request: &types::IvrRequest) -> GetIvrCommand {
        let recording = |result: &types::RecordingResult| Recording {
            recording_id: text(&result.recording_id),
            recording_file_name: text(&result.file_name),
            duration_ms: Whole(result.duration_ms),
            contains_sound: result.contains_sound,
        };
        GetIvrCommand {
            session_id: text(&request.info.session_id),
            session_reference_id: reference(&request.info),
            ivr_server: filled(&request.info.ivr_server),
            dtmf_buffer: some(&request.dtmf_buffer),
            dtmf_params: request.dtmf_params.as_ref().map(Into::into),
            recording: request.recording.as_ref().map(recording),
            reply_id: filled(&request.reply_id),
        }
    }
}

impl From<&types::DtmfParams> for DtmfParams {
    fn from(params: &types::DtmfParams) -> DtmfParams {
        use types::{DigitProtection as Protection, DtmfReason as Reason};
        let reason = match &params.reason {
            Reason::TerminationKey => "terminationKey",
            Reason::MaxDigits => "maxDigits",
            Reason::FirstTimeout => "firstTimeout",
            Reason::BetweenTimeout => "betweenTimeout",
            Reason::Interrupted => "interrupted",
            Reason::RecordingEnd => "recordingEnd",
            Reason::Ext(ext) => &ext.name,
        };
        let encryption = params.encryption.as_ref().map(|protection| match protection {
            Protection::Md5(salt) => Encryption { kind: Some(text("md5")), salt: Some(text(salt)) },
            // What stands there is a key.
            Protection::HmacSha256(_) => Encryption { kind: Some(text("hmac-sha256")), salt: None },
            Protection::Ext(ext) => Encryption { kind: Some(text(&ext.name)), salt: None },
        });
        let matched_termination_key = params.matched_termination_key.map(|key| Text(key.to_string()));
        DtmfParams { dtmf_match: text(&params.dtmf_match), reason: text(reason), matched_termination_key, encryption }
    }
}

/// `/callEvent`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallEvent {
    pub connection_id: Text,
    pub domain: Text,
    pub event: Text,
    pub ivr_server: Text,
    pub participant_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_participant_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_user: Option<Text>,
    pub session_id: Text,
    pub user: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    /// The vendor's table leaves it out; its operations ask for it (IC-154).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_id: Option<Text>,
    /// Ours, like the next two (IC-155).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_text: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q850: Option<Whole>,
}

impl From<&types::CallEventRequest> for CallEvent {
    fn from(event: &types::CallEventRequest) -> CallEvent {
        use types::CallEventKind as Kind;
        let kind = match &event.event {
            Kind::CallingPartyDrop => "callingPartyDrop",
            Kind::CalledPartyDrop => "calledPartyDrop",
            Kind::CallingPartyFailure => "callingPartyFailure",
            Kind::CalledPartyFailure => "calledPartyFailure",
            Kind::CallerConnectionSplit => "callerConnectionSplit",
            Kind::CalleeConnectionSplit => "calleeConnectionSplit",
            Kind::Ext(ext) => &ext.name,
        };
        CallEvent {
            connection_id: text(&event.connection_id),
            domain: text(&event.info.domain),
            event: text(kind),
            ivr_server: text(&event.info.ivr_server),
            participant_id: text(&event.participant_id),
            remote_participant_id: filled(&event.remote_participant_id),
            remote_user: filled(&event.remote_user),
            session_id: text(&event.info.session_id),
            user: text(&event.user),
            session_reference_id: reference(&event.info),
            reply_id: filled(&event.reply_id),
            sip_code: event.sip_code.map(|code| Whole(code.into())),
            reason_text: some(&event.reason_text),
            q850: event.q850.map(|cause| Whole(cause.into())),
        }
    }
}

/// `/newRemoteCall`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewRemoteCall {
    pub reply_id: Text,
    pub call_id: Text,
    pub codec: Text,
    pub destination_uri: Text,
    pub source_user: Text,
    pub remote_rtp_ip: Text,
    pub remote_rtp_port: Whole,
    /// Ours: what every other callback says, and the caller's keys where it wants RTP/SAVP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ivr_server: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto: Option<Box<RawValue>>,
    #[serde(flatten)]
    pub trace: Trace,
}

impl From<&types::RemoteCallRequest> for NewRemoteCall {
    fn from(call: &types::RemoteCallRequest) -> NewRemoteCall {
        NewRemoteCall {
            reply_id: text(&call.reply_id),
            call_id: text(&call.call_id),
            codec: text(&call.codec),
            destination_uri: text(&call.destination_uri),
            source_user: text(&call.source_user),
            remote_rtp_ip: text(&call.remote_rtp_ip),
            remote_rtp_port: Whole(call.remote_rtp_port.into()),
            session_id: filled(&call.info.session_id),
            domain: filled(&call.info.domain),
            ivr_server: filled(&call.info.ivr_server),
            crypto: json_fact(&call.extra, "crypto"),
            trace: (&call.info).into(),
        }
    }
}

/// `/callNotify`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallNotify {
    pub event: Text,
    pub monitoring_participant: bool,
    pub participant_id: Text,
    pub session_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    pub user: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_user: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_participant_id: Option<Text>,
    pub sip_call_id: Text,
    pub ivr_server: Text,
    /// The vendor's table leaves it out; its operations ask for it (IC-110).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_id: Option<Text>,
    /// Ours: where a device must send from now on, like the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_rtp_ip: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_rtp_port: Option<Text>,
    #[serde(flatten)]
    pub trace: Trace,
}

impl From<&types::CallNotify> for CallNotify {
    fn from(news: &types::CallNotify) -> CallNotify {
        use types::CallNotifyKind as Kind;
        let event = match &news.event {
            Kind::Ringing => "ringing",
            Kind::ReInvite => "reInvite",
            Kind::Update => "update",
            Kind::Ext(ext) => &ext.name,
        };
        CallNotify {
            event: text(event),
            monitoring_participant: news.monitoring_participant,
            participant_id: text(&news.participant_id),
            session_id: text(&news.info.session_id),
            session_reference_id: reference(&news.info),
            user: text(&news.user),
            remote_user: some(&news.remote_user),
            remote_participant_id: some(&news.remote_participant_id),
            sip_call_id: text(&news.sip_call_id),
            ivr_server: text(&news.info.ivr_server),
            reply_id: filled(&news.reply_id),
            codec: fact(&news.extra, "codec"),
            remote_rtp_ip: fact(&news.extra, "remote-rtp-ip"),
            remote_rtp_port: fact(&news.extra, "remote-rtp-port"),
            trace: (&news.info).into(),
        }
    }
}

/// `/callAnswered`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallAnswered {
    pub calling_party_number: Text,
    pub caller_participant_id: Text,
    pub callee_participant_id: Text,
    pub remote_party_number: Text,
    pub connection_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calling_party_expires: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_party_expires: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<Text>,
    pub monitoring_participant: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_rtp_ip: Option<Text>,
    /// A text here, a number in [`NewRemoteCall`]: as each is declared (IC-120).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_rtp_port: Option<Text>,
    /// Ours: the party's keys where it wants RTP/SAVP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto: Option<Box<RawValue>>,
    pub reply_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    #[serde(flatten)]
    pub trace: Trace,
}

impl From<&types::CallAnswered> for CallAnswered {
    fn from(news: &types::CallAnswered) -> CallAnswered {
        CallAnswered {
            calling_party_number: text(&news.calling_party_number),
            caller_participant_id: text(&news.caller_participant_id),
            callee_participant_id: text(&news.callee_participant_id),
            remote_party_number: text(&news.remote_party_number),
            connection_id: text(&news.connection_id),
            calling_party_expires: seconds(news.calling_party_expires_ms),
            called_party_expires: seconds(news.called_party_expires_ms),
            codec: some(&news.codec),
            monitoring_participant: news.monitoring_participant,
            remote_rtp_ip: some(&news.remote_rtp_ip),
            remote_rtp_port: news.remote_rtp_port.map(|port| Text(port.to_string())),
            crypto: json_fact(&news.extra, "crypto"),
            reply_id: text(&news.reply_id),
            session_reference_id: reference(&news.info),
            trace: (&news.info).into(),
        }
    }
}

/// `/recordingReady`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecordingReady {
    pub session_id: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<Text>,
    pub recording_file_name: Text,
    pub file_size: Whole,
    pub ivr_server: Text,
    pub domain: Text,
    pub event: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}

impl From<&types::RecordingReady> for RecordingReady {
    fn from(news: &types::RecordingReady) -> RecordingReady {
        RecordingReady {
            session_id: text(&news.info.session_id),
            connection_id: some(&news.connection_id),
            recording_file_name: text(&news.file_name),
            file_size: Whole(news.file_size),
            ivr_server: text(&news.info.ivr_server),
            domain: text(&news.info.domain),
            event: text(if news.successful { "recordingSuccessful" } else { "recordingFailed" }),
            reason: some(&news.reason).filter(|_| !news.successful),
        }
    }
}

/// `/sessionCompleted`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCompleted {
    pub session_id: Text,
    pub domain: Text,
    /// Seconds; declared as a text (IC-203).
    pub session_duration: Text,
    pub reason: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_reference_id: Reference,
    pub ivr_server: Text,
    #[serde(flatten)]
    pub trace: Trace,
}

impl From<&types::SessionCompleted> for SessionCompleted {
    fn from(news: &types::SessionCompleted) -> SessionCompleted {
        use types::CompletionReason as Reason;
        let reason = match &news.reason {
            Reason::CallingPartyHangup => "callingPartyHangup",
            Reason::CalledPartyHangup => "calledPartyHangup",
            Reason::IvrHangup => "ivrHangup",
            Reason::ApiHangup => "apiHangup",
            Reason::Rejected => "rejected",
            Reason::Busy => "busy",
            Reason::NoAnswer => "noAnswer",
            Reason::Canceled => "canceled",
            Reason::MaxDuration => "maxDuration",
            Reason::RtpTimeout => "rtpTimeout",
            Reason::SessionExpired => "sessionExpired",
            Reason::ServerError => "serverError",
            Reason::Fallback => "fallback",
            Reason::Ext(ext) => &ext.name,
        };
        SessionCompleted {
            session_id: text(&news.info.session_id),
            domain: text(&news.info.domain),
            session_duration: Text((news.duration_ms / 1000).to_string()),
            reason: text(reason),
            session_reference_id: reference(&news.info),
            ivr_server: text(&news.info.ivr_server),
            trace: (&news.info).into(),
        }
    }
}

/// What goes to the URL that the tenant named for alarms.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Alarm {
    #[serde(rename = "type")]
    pub kind: Text,
    pub domain: Text,
    pub session_id: Text,
    pub error: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_details: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Text>,
    /// Ours: how many equal alarms this one stands for, where it is more than itself (IC-274).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Whole>,
}

impl From<&types::Alarm> for Alarm {
    fn from(news: &types::Alarm) -> Alarm {
        use types::AlarmKind as Kind;
        let kind = match &news.kind {
            Kind::SessionError => "sessionError",
            Kind::CallEventError => "callEventError",
            Kind::NewCallEventError => "newCallEventError",
            Kind::EmergencyFallback => "emergencyFallback",
            Kind::IvrCommandError => "ivrCommandError",
            Kind::CallError => "callError",
            Kind::Ext(ext) => &ext.name,
        };
        Alarm {
            kind: text(kind),
            domain: text(&news.info.domain),
            session_id: text(&news.info.session_id),
            error: text(&news.error),
            error_details: news.details.clone().and_then(|json| RawValue::from_string(json).ok()),
            status: news.status.map(|status| Text(status.to_string())),
            participant_id: some(&news.participant_id),
            user: some(&news.user),
            call_id: some(&news.call_id),
            count: (news.count > 1).then(|| Whole(news.count.into())),
        }
    }
}

#[cfg(test)]
mod tests;
