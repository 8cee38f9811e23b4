//! The call's words in the handler's language. Nothing is checked here: these values are ours.

use super::device;
use crate::outbox::Delivery;
use crate::reply_keys::ReplyKeys;
use hookswitch_call::ReplyTo;
use hookswitch_call::hook::{
    Alarm, AlarmKind, CallEvent, CallEventKind, CallIdentifier, DigitProtection, DtmfParams, DtmfReason, IvrRequest, NewCall, Notification,
    Privacy, RecordingDetails, RecordingResult, RemoteCall, SessionInfo,
};
use hookswitch_call::recording::{PauseBehavior, Phase, RecordingStatus};
use hookswitch_wasm::wit;
use std::time::Duration;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// IC-009.
fn reply_id(keys: &ReplyKeys, info: &SessionInfo, reply_to: ReplyTo) -> String {
    keys.mint(&info.domain, &info.session_id, reply_to)
}

fn ext(name: &str) -> wit::Extension {
    wit::Extension { name: name.to_owned(), json: "{}".into() }
}

fn info(info: SessionInfo, transaction_id: String) -> wit::SessionInfo {
    wit::SessionInfo {
        session_id: info.session_id,
        session_reference: info.session_reference,
        domain: info.domain,
        ivr_server: info.ivr_server,
        trace_id: info.trace_id,
        site_id: info.site_id,
        transaction_id,
        restarted: info.restarted,
        extra: vec![],
    }
}

pub(super) fn new_call(call: NewCall, transaction: String) -> wit::NewCallRequest {
    wit::NewCallRequest {
        info: info(call.info, transaction),
        participant_id: call.participant_id,
        sip_call_id: call.sip_call_id,
        calling_party_privacy: match call.privacy {
            Privacy::Public => wit::Privacy::Public,
            Privacy::Secret => wit::Privacy::Secret,
        },
        calling_party: call.calling_party,
        display_name: call.display_name,
        from_user: call.from_user,
        x_headers: call.x_headers,
        p_headers: call.p_headers,
        called_party: call.called_party,
        diversion_headers: call.diversion,
        referred_by: call.referred_by,
        pai_number: call.pai_number,
        subject: call.subject,
        src_addr: call.src_addr,
        extra: vec![],
    }
}

pub(super) fn call_identifier(request: CallIdentifier, transaction: String) -> wit::CallIdentifierRequest {
    wit::CallIdentifierRequest {
        info: info(request.info, transaction),
        participant_id: request.participant_id,
        called_party: request.called_party,
        extra: vec![],
    }
}

pub(super) fn ivr_request(request: IvrRequest, transaction: String, keys: &ReplyKeys) -> wit::IvrRequest {
    let interrupted = request.dtmf.as_ref().is_some_and(|d| d.reason == DtmfReason::Interrupted);
    wit::IvrRequest {
        reply_id: reply_id(keys, &request.info, request.reply_to),
        info: info(request.info, transaction),
        participant_id: request.participant_id,
        dtmf_buffer: request.dtmf_buffer,
        dtmf_params: request.dtmf.map(dtmf_params),
        recording: request.recording.map(recording),
        interrupted,
        extra: vec![],
    }
}

fn dtmf_params(params: DtmfParams) -> wit::DtmfParams {
    wit::DtmfParams {
        dtmf_match: params.dtmf_match,
        reason: match params.reason {
            DtmfReason::TerminationKey => wit::DtmfReason::TerminationKey,
            DtmfReason::MaxDigits => wit::DtmfReason::MaxDigits,
            DtmfReason::FirstTimeout => wit::DtmfReason::FirstTimeout,
            DtmfReason::BetweenTimeout => wit::DtmfReason::BetweenTimeout,
            DtmfReason::Interrupted => wit::DtmfReason::Interrupted,
            DtmfReason::RecordingEnd => wit::DtmfReason::RecordingEnd,
        },
        matched_termination_key: params.matched_termination_key,
        encryption: params.encryption.map(|e| match e {
            DigitProtection::Md5 { salt } => wit::DigitProtection::Md5(salt),
            DigitProtection::HmacSha256 { salt } => wit::DigitProtection::HmacSha256(salt),
        }),
    }
}

fn recording(result: RecordingResult) -> wit::RecordingResult {
    wit::RecordingResult {
        control_id: if result.control_id.is_empty() { result.recording_id.clone() } else { result.control_id },
        recording_id: result.recording_id,
        client_context: result.client_context,
        file_name: result.file_name,
        stop_reason: match result.stop_reason.as_str() {
            "stop_digit" => wit::StopReason::StopDigit,
            "max_duration" => wit::StopReason::MaxDuration,
            "max_silence" => wit::StopReason::MaxSilence,
            "initial_silence" => wit::StopReason::InitialSilence,
            "api_stop" => wit::StopReason::ApiStop,
            "superseded" => wit::StopReason::Superseded,
            "remote_hangup" => wit::StopReason::RemoteHangup,
            "connection_split" => wit::StopReason::ConnectionSplit,
            "transfer" => wit::StopReason::Transfer,
            "media_timeout" => wit::StopReason::MediaTimeout,
            "prompt_failed" => wit::StopReason::PromptFailed,
            "beep_failed" => wit::StopReason::BeepFailed,
            "file_size" => wit::StopReason::FileSize,
            "storage_error" => wit::StopReason::StorageError,
            "node_shutdown" => wit::StopReason::NodeShutdown,
            other => wit::StopReason::Ext(ext(other)),
        },
        stop_digit: result.stop_digit,
        duration_ms: ms(result.duration),
        contains_sound: result.contains_sound,
        size_bytes: None,
        started_at_ms: None,
        ended_at_ms: None,
        url: None,
        access_token: None,
        checksum: None,
        extra: vec![],
    }
}

fn stored(details: RecordingDetails) -> wit::RecordingResult {
    wit::RecordingResult {
        size_bytes: Some(details.size),
        started_at_ms: Some(details.started_at),
        checksum: Some(details.sha256),
        ..recording(details.result)
    }
}

/// Everything that is known of it. One that has not ended has no reason yet, and an interface that wants one.
fn result_so_far(status: &RecordingStatus) -> wit::RecordingResult {
    let so_far = match (&status.details, &status.result) {
        (Some(details), _) => stored((**details).clone()),
        (None, Some(result)) => recording(result.clone()),
        (None, None) => wit::RecordingResult {
            stop_reason: wit::StopReason::Ext(ext("running")),
            ..recording(RecordingResult {
                recording_id: status.recording_id.clone(),
                file_name: status.file_name.clone(),
                ..RecordingResult::default()
            })
        },
    };
    wit::RecordingResult {
        control_id: status.control_id.clone(),
        client_context: status.client_context.clone(),
        started_at_ms: so_far.started_at_ms.or(status.started_at),
        ended_at_ms: status.ended_at,
        url: status.url.clone(),
        access_token: status.access_token.clone(),
        ..so_far
    }
}

fn phase(phase: Phase) -> wit::RecordingPhase {
    match phase {
        Phase::Queued => wit::RecordingPhase::Queued,
        Phase::Prompting => wit::RecordingPhase::Prompting,
        Phase::Beeping => wit::RecordingPhase::Beeping,
        Phase::Armed => wit::RecordingPhase::Armed,
        Phase::Recording => wit::RecordingPhase::Recording,
        Phase::Paused => wit::RecordingPhase::Paused,
        Phase::Stopping => wit::RecordingPhase::Stopping,
        Phase::Finalizing => wit::RecordingPhase::Finalizing,
        Phase::LocalAvailable => wit::RecordingPhase::LocalAvailable,
        Phase::Uploading => wit::RecordingPhase::Uploading,
        Phase::Available => wit::RecordingPhase::Available,
        Phase::Failed => wit::RecordingPhase::Failed,
        Phase::NoInput => wit::RecordingPhase::NoInput,
        Phase::Canceled => wit::RecordingPhase::Canceled,
        Phase::Discarded => wit::RecordingPhase::Discarded,
    }
}

pub(super) fn recording_status(status: RecordingStatus) -> hookswitch_wasm::RecordingStatus {
    hookswitch_wasm::RecordingStatus { state: phase(status.phase), details: result_so_far(&status) }
}

fn recording_state(session: SessionInfo, status: RecordingStatus, occurred_at: u64, transaction: String) -> wit::RecordingState {
    wit::RecordingState {
        info: info(session, transaction),
        details: (status.phase >= Phase::Finalizing).then(|| result_so_far(&status)),
        state: phase(status.phase),
        recording_id: status.recording_id,
        control_id: status.control_id,
        client_context: status.client_context,
        connection_id: status.connection_id,
        participant_id: Some(status.participant_id),
        pause_behavior: status.pause_behavior.map(|behavior| match behavior {
            PauseBehavior::Skip => wit::PauseBehavior::Skip,
            PauseBehavior::Silence => wit::PauseBehavior::Silence,
        }),
        reason: status.reason,
        occurred_at_ms: occurred_at,
        extra: vec![],
    }
}

pub(super) fn call_event(event: CallEvent, transaction: String, keys: &ReplyKeys) -> wit::CallEventRequest {
    wit::CallEventRequest {
        reply_id: reply_id(keys, &event.info, event.reply_to),
        info: info(event.info, transaction),
        event: match event.event {
            CallEventKind::CallingPartyDrop => wit::CallEventKind::CallingPartyDrop,
            CallEventKind::CalledPartyDrop => wit::CallEventKind::CalledPartyDrop,
            CallEventKind::CallingPartyFailure => wit::CallEventKind::CallingPartyFailure,
            CallEventKind::CalledPartyFailure => wit::CallEventKind::CalledPartyFailure,
            CallEventKind::CallerConnectionSplit => wit::CallEventKind::CallerConnectionSplit,
            CallEventKind::CalleeConnectionSplit => wit::CallEventKind::CalleeConnectionSplit,
        },
        connection_id: event.connection_id,
        participant_id: event.participant_id,
        user: event.user,
        remote_participant_id: event.remote_participant_id,
        remote_user: event.remote_user,
        sip_code: event.sip_code,
        reason_text: event.reason_text,
        q850: event.q850,
        extra: vec![],
    }
}

/// Of a caller without an offer nothing is known yet: no codec, no address, port 0.
pub(super) fn remote_call(call: RemoteCall, transaction: String, keys: &ReplyKeys) -> wit::RemoteCallRequest {
    let target = call.target.as_ref();
    wit::RemoteCallRequest {
        reply_id: reply_id(keys, &call.info, call.reply_to),
        info: info(call.info, transaction),
        call_id: call.sip_call_id,
        codec: target.map(|t| t.format.name().to_owned()).unwrap_or_default(),
        destination_uri: call.destination_uri,
        source_user: call.source_user,
        remote_rtp_ip: target.map(|t| t.address.ip().to_string()).unwrap_or_default(),
        remote_rtp_port: target.map(|t| t.address.port()).unwrap_or_default(),
        extra: target.and_then(device::crypto).into_iter().collect(),
    }
}

/// What became of a post that its handler asked to be told of.
pub(super) fn delivery(session: SessionInfo, delivery: Delivery, transaction: String) -> wit::Notification {
    wit::Notification::Delivery(wit::Delivery {
        info: info(session, transaction),
        event_id: delivery.event_id,
        delivered: delivery.delivered,
        status: delivery.status,
        attempts: delivery.attempts,
    })
}

pub(crate) fn notification(notification: Notification, transaction: String, keys: &ReplyKeys) -> wit::Notification {
    match notification {
        Notification::CallAnswered {
            info: session,
            connection_id,
            caller_participant_id,
            callee_participant_id,
            calling_party_number,
            remote_party_number,
            calling_party_expires,
            called_party_expires,
            monitoring,
            reply_to,
            target,
        } => wit::Notification::CallAnswered(wit::CallAnswered {
            reply_id: reply_id(keys, &session, reply_to),
            info: info(session, transaction),
            connection_id,
            caller_participant_id,
            callee_participant_id,
            calling_party_number,
            remote_party_number,
            calling_party_expires_ms: calling_party_expires.map(|s| u64::from(s) * 1000),
            called_party_expires_ms: called_party_expires.map(|s| u64::from(s) * 1000),
            codec: target.as_ref().map(|t| t.format.name().to_owned()),
            remote_rtp_ip: target.as_ref().map(|t| t.address.ip().to_string()),
            remote_rtp_port: target.as_ref().map(|t| t.address.port()),
            monitoring_participant: monitoring,
            extra: target.as_deref().and_then(device::crypto).into_iter().collect(),
        }),
        Notification::CallNotify {
            info: session,
            event,
            participant_id,
            user,
            remote_participant_id,
            remote_user,
            sip_call_id,
            monitoring,
            reply_to,
            target,
        } => wit::Notification::CallNotify(wit::CallNotify {
            reply_id: reply_id(keys, &session, reply_to),
            info: info(session, transaction),
            event: match event {
                "ringing" => wit::CallNotifyKind::Ringing,
                "reInvite" => wit::CallNotifyKind::ReInvite,
                "update" => wit::CallNotifyKind::Update,
                other => wit::CallNotifyKind::Ext(ext(other)),
            },
            monitoring_participant: monitoring,
            participant_id,
            user,
            remote_participant_id,
            remote_user,
            sip_call_id,
            extra: target.as_deref().map(device::moved).unwrap_or_default(),
        }),
        Notification::CallEvent(event) => wit::Notification::CallEvent(call_event(*event, transaction, keys)),
        Notification::RecordingReady { info: session, successful, reason, connection_id, recording_id, file_name, file_size, details } => {
            wit::Notification::RecordingReady(wit::RecordingReady {
                info: info(session, transaction),
                successful,
                reason,
                connection_id,
                recording_id,
                file_name,
                file_size,
                details: details.map(|d| stored(*d)),
                extra: vec![],
            })
        }
        Notification::RecordingState { info: session, status, occurred_at } => {
            wit::Notification::RecordingState(recording_state(session, *status, occurred_at, transaction))
        }
        Notification::SessionCompleted { info: session, duration, reason } => wit::Notification::SessionCompleted(wit::SessionCompleted {
            info: info(session, transaction),
            duration_ms: ms(duration),
            reason: completion(reason),
            extra: vec![],
        }),
        Notification::TransferState { info: session, participant_id, sip_code, last } => {
            wit::Notification::TransferState(wit::TransferState {
                info: info(session, transaction),
                participant_id,
                sip_code,
                last,
                extra: vec![],
            })
        }
        Notification::Timer { info: session, name } => wit::Notification::Timer(wit::Timer { info: info(session, transaction), name }),
        Notification::Alarm(alarm) => wit::Notification::Alarm(self::alarm(alarm, transaction)),
    }
}

/// IC-204.
fn completion(reason: &str) -> wit::CompletionReason {
    use wit::CompletionReason as R;
    match reason {
        "callingPartyHangup" => R::CallingPartyHangup,
        "calledPartyHangup" => R::CalledPartyHangup,
        "ivrHangup" => R::IvrHangup,
        "apiHangup" => R::ApiHangup,
        "rejected" => R::Rejected,
        "busy" => R::Busy,
        "noAnswer" => R::NoAnswer,
        "canceled" => R::Canceled,
        "maxDuration" => R::MaxDuration,
        "rtpTimeout" => R::RtpTimeout,
        "sessionExpired" => R::SessionExpired,
        "serverError" => R::ServerError,
        "fallback" => R::Fallback,
        other => R::Ext(ext(other)),
    }
}

fn alarm(alarm: Alarm, transaction: String) -> wit::Alarm {
    wit::Alarm {
        info: info(alarm.info, transaction),
        kind: match alarm.kind {
            AlarmKind::SessionError => wit::AlarmKind::SessionError,
            AlarmKind::CallEventError => wit::AlarmKind::CallEventError,
            AlarmKind::NewCallEventError => wit::AlarmKind::NewCallEventError,
            AlarmKind::EmergencyFallback => wit::AlarmKind::EmergencyFallback,
            AlarmKind::IvrCommandError => wit::AlarmKind::IvrCommandError,
            AlarmKind::CallError => wit::AlarmKind::CallError,
        },
        error: alarm.error,
        details: alarm.details,
        status: alarm.leg.as_ref().map(|l| l.status),
        participant_id: alarm.leg.as_ref().map(|l| l.participant_id.clone()),
        user: alarm.leg.as_ref().map(|l| l.user.clone()),
        call_id: alarm.leg.map(|l| l.call_id),
        count: 1,
        extra: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply_keys::ReplyId;
    use hookswitch_proto::sdp::{Format, Target};

    fn keys() -> ReplyKeys {
        ReplyKeys::in_memory().expect("random numbers")
    }

    /// Of devices and monitors: what there is not is left out.
    #[test]
    fn ic_108_118_119_120_121_an_ordinary_call_has_no_device_and_no_monitor() {
        let answered = Notification::CallAnswered {
            info: SessionInfo::default(),
            connection_id: "c".into(),
            caller_participant_id: "p".into(),
            callee_participant_id: "q".into(),
            calling_party_number: "1".into(),
            remote_party_number: "2".into(),
            calling_party_expires: Some(90),
            called_party_expires: Some(120),
            monitoring: false,
            reply_to: ReplyTo::Connection,
            target: None,
        };
        let wit::Notification::CallAnswered(told) = notification(answered, "t".into(), &keys()) else { panic!("another one") };
        assert_eq!((told.codec, told.remote_rtp_ip, told.remote_rtp_port, told.monitoring_participant), (None, None, None, false));
        assert_eq!((told.calling_party_expires_ms, told.called_party_expires_ms), (Some(90_000), Some(120_000)));
        let notify = Notification::CallNotify {
            info: SessionInfo::default(),
            event: "ringing",
            participant_id: "q".into(),
            user: "2".into(),
            remote_participant_id: Some("p".into()),
            remote_user: Some("1".into()),
            sip_call_id: "id".into(),
            monitoring: false,
            reply_to: ReplyTo::Participant,
            target: None,
        };
        let wit::Notification::CallNotify(told) = notification(notify, "t".into(), &keys()) else { panic!("another one") };
        assert!(matches!(told.event, wit::CallNotifyKind::Ringing));
        assert_eq!((told.monitoring_participant, told.remote_user.as_deref()), (false, Some("1")));
    }

    #[test]
    fn ic_119_120_121_122_208_210_213_a_device_hears_where_it_must_send() {
        let line = hookswitch_proto::sdp::Crypto::new(1, "AES_CM_128_HMAC_SHA1_80", "inline:k").expect("a line");
        let target = Target {
            format: Format::Pcmu,
            address: "192.0.2.9:4000".parse().expect("an address"),
            telephone_event: None,
            crypto: vec![line],
        };
        let call = RemoteCall { sip_call_id: "c@d".into(), target: Some(target.clone()), ..RemoteCall::default() };
        let told = remote_call(call, "t".into(), &keys());
        assert_eq!((told.call_id.as_str(), told.codec.as_str()), ("c@d", "PCMU"));
        assert_eq!((told.remote_rtp_ip.as_str(), told.remote_rtp_port), ("192.0.2.9", 4000));
        assert!(
            told.reply_id.split('.').count() == 3 && told.extra.iter().any(|(name, json)| name == "crypto" && json.contains("inline:k"))
        );
        let silent = remote_call(RemoteCall::default(), "t".into(), &keys());
        assert_eq!((silent.codec.as_str(), silent.remote_rtp_port, silent.extra.len()), ("", 0, 0), "a caller without an offer");
        let moved = Notification::CallNotify {
            info: SessionInfo::default(),
            event: "reInvite",
            participant_id: "q".into(),
            user: "2".into(),
            remote_participant_id: None,
            remote_user: None,
            sip_call_id: "id".into(),
            monitoring: false,
            reply_to: ReplyTo::Participant,
            target: Some(Box::new(target)),
        };
        let wit::Notification::CallNotify(told) = notification(moved, "t".into(), &keys()) else { panic!("another one") };
        assert!(told.extra.contains(&("remote-rtp-port".into(), "4000".into())), "{:?}", told.extra);
    }

    #[test]
    fn ic_009_every_hook_that_may_be_replied_to_says_how() {
        let keys = keys();
        let session = || SessionInfo { domain: "a.example".into(), session_id: "s-1".into(), ..SessionInfo::default() };
        let says = |token: &str, reply_to| {
            let expected = ReplyId { domain: "a.example".into(), session_id: "s-1".into(), reply_to };
            assert_eq!(keys.verify(token), Ok(expected));
        };
        let asked = IvrRequest { info: session(), reply_to: ReplyTo::IvrCommand(3), ..IvrRequest::default() };
        says(&ivr_request(asked, "t".into(), &keys).reply_id, ReplyTo::IvrCommand(3));
        let event = CallEvent {
            info: session(),
            event: CallEventKind::CalledPartyDrop,
            connection_id: "c".into(),
            participant_id: "p".into(),
            user: String::new(),
            remote_participant_id: "q".into(),
            remote_user: String::new(),
            reply_to: ReplyTo::Participant,
            sip_code: None,
            reason_text: None,
            q850: None,
        };
        says(&call_event(event, "t".into(), &keys).reply_id, ReplyTo::Participant);
        let answered = Notification::CallAnswered {
            info: session(),
            connection_id: "c".into(),
            caller_participant_id: "p".into(),
            callee_participant_id: "q".into(),
            calling_party_number: String::new(),
            remote_party_number: String::new(),
            calling_party_expires: None,
            called_party_expires: None,
            monitoring: false,
            reply_to: ReplyTo::Connection,
            target: None,
        };
        let wit::Notification::CallAnswered(told) = notification(answered, "t".into(), &keys) else { panic!("another one") };
        says(&told.reply_id, ReplyTo::Connection);
        let ringing = Notification::CallNotify {
            info: session(),
            event: "ringing",
            participant_id: "q".into(),
            user: String::new(),
            remote_participant_id: None,
            remote_user: None,
            sip_call_id: "i".into(),
            monitoring: false,
            reply_to: ReplyTo::Participant,
            target: None,
        };
        let wit::Notification::CallNotify(told) = notification(ringing, "t".into(), &keys) else { panic!("another one") };
        says(&told.reply_id, ReplyTo::Participant);
    }

    /// A reason that has a case must not end up in `ext`.
    #[test]
    fn ic_204_every_completion_reason_has_its_case() {
        for reason in [
            "callingPartyHangup",
            "calledPartyHangup",
            "ivrHangup",
            "apiHangup",
            "rejected",
            "busy",
            "noAnswer",
            "canceled",
            "maxDuration",
            "rtpTimeout",
            "sessionExpired",
            "serverError",
            "fallback",
        ] {
            assert!(!matches!(completion(reason), wit::CompletionReason::Ext(_)), "{reason}");
        }
        assert!(matches!(completion("meteor"), wit::CompletionReason::Ext(e) if e.name == "meteor"));
    }

    #[test]
    fn ur_002_003_035_a_state_is_told_whole() {
        let mut status = RecordingStatus {
            recording_id: "id".into(),
            control_id: "mine".into(),
            client_context: Some("ctx".into()),
            phase: Phase::Paused,
            connection_id: None,
            participant_id: "p".into(),
            caller: String::new(),
            called: String::new(),
            file_name: "a.wav".into(),
            pause_behavior: Some(PauseBehavior::Silence),
            reason: None,
            result: None,
            details: None,
            started_at: Some(5),
            ended_at: None,
            url: None,
            access_token: None,
            options: Default::default(),
        };
        let say = |status: &RecordingStatus| {
            let state = Notification::RecordingState { info: SessionInfo::default(), status: Box::new(status.clone()), occurred_at: 9 };
            match notification(state, "t".into(), &keys()) {
                wit::Notification::RecordingState(told) => told,
                _ => panic!("another one"),
            }
        };
        let told = say(&status);
        assert!(matches!((&told.state, told.pause_behavior), (wit::RecordingPhase::Paused, Some(wit::PauseBehavior::Silence))));
        assert_eq!((told.control_id.as_str(), told.client_context.as_deref(), told.occurred_at_ms), ("mine", Some("ctx"), 9));
        assert!(told.details.is_none(), "nothing has ended");
        // The answer to `get` has an interface that wants a reason even then.
        let got = recording_status(status.clone());
        assert!(matches!(&got.details.stop_reason, wit::StopReason::Ext(e) if e.name == "running"));
        assert_eq!((got.details.started_at_ms, got.details.control_id.as_str()), (Some(5), "mine"));
        for (reason, expected) in [
            ("superseded", "Superseded"),
            ("connection_split", "ConnectionSplit"),
            ("prompt_failed", "PromptFailed"),
            ("beep_failed", "BeepFailed"),
            ("file_size", "FileSize"),
            ("node_shutdown", "NodeShutdown"),
            ("transfer", "Transfer"),
            ("storage_error", "StorageError"),
        ] {
            status.phase = Phase::Canceled;
            status.result = Some(RecordingResult { recording_id: "id".into(), stop_reason: reason.into(), ..RecordingResult::default() });
            let details = say(&status).details.expect("it has ended");
            assert!(format!("{:?}", details.stop_reason).contains(expected), "{:?}", details.stop_reason);
        }
        status.phase = Phase::Available;
        (status.url, status.access_token, status.ended_at) = (Some("https://x".into()), Some("token".into()), Some(8));
        let details = say(&status).details.expect("details");
        assert_eq!(
            (details.url.as_deref(), details.access_token.as_deref(), details.ended_at_ms),
            (Some("https://x"), Some("token"), Some(8))
        );
    }

    #[test]
    fn a_stored_recording_is_told_with_what_is_known() {
        let result = RecordingResult {
            recording_id: "id".into(),
            file_name: "message.wav".into(),
            stop_reason: "stop_digit".into(),
            stop_digit: Some('#'),
            duration: Duration::from_millis(1200),
            contains_sound: true,
            ..RecordingResult::default()
        };
        let details = Box::new(RecordingDetails { result, size: 19_244, sha256: "ab".repeat(32), started_at: 77 });
        let ready = |details| Notification::RecordingReady {
            info: SessionInfo::default(),
            successful: true,
            reason: None,
            connection_id: None,
            recording_id: "id".into(),
            file_name: "message.wav".into(),
            file_size: 19_244,
            details,
        };
        let wit::Notification::RecordingReady(told) = notification(ready(Some(details)), "t".into(), &keys()) else {
            panic!("another one")
        };
        let told = told.details.expect("details");
        assert!(matches!(told.stop_reason, wit::StopReason::StopDigit));
        assert_eq!((told.stop_digit, told.duration_ms, told.contains_sound), (Some('#'), 1200, true));
        assert_eq!((told.size_bytes, told.started_at_ms, told.checksum), (Some(19_244), Some(77), Some("ab".repeat(32))));
        let wit::Notification::RecordingReady(told) = notification(ready(None), "t".into(), &keys()) else { panic!("another one") };
        assert!(told.details.is_none());
    }

    #[test]
    fn ic_220_collected_digits_keep_their_meaning() {
        let request = IvrRequest {
            dtmf_buffer: Some("12#".into()),
            dtmf: Some(DtmfParams {
                dtmf_match: "12".into(),
                reason: DtmfReason::TerminationKey,
                matched_termination_key: Some('#'),
                encryption: Some(DigitProtection::Md5 { salt: "s".into() }),
            }),
            ..IvrRequest::default()
        };
        let told = ivr_request(request, "t".into(), &keys());
        assert_eq!((told.dtmf_buffer.as_deref(), told.info.transaction_id.as_str(), told.interrupted), (Some("12#"), "t", false));
        let dtmf = told.dtmf_params.expect("params");
        assert_eq!((dtmf.dtmf_match.as_str(), dtmf.matched_termination_key), ("12", Some('#')));
        assert!(matches!(dtmf.reason, wit::DtmfReason::TerminationKey));
        assert!(matches!(dtmf.encryption, Some(wit::DigitProtection::Md5(salt)) if salt == "s"));
    }
}
