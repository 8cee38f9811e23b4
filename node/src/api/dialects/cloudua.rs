//! What a call of a device tells its own URLs (IC-059): callNotify, callAnswered, callEvent and sessionCompleted in the mediaservice API's words.
//! For everything else those words are the `webhook` handler's, in `guest-examples`.

use crate::reply_keys::ReplyKeys;
use hookswitch_call::ReplyTo;
use hookswitch_call::callback;
use hookswitch_call::hook::{CallEventKind, Notification, SessionInfo};
use hookswitch_proto::sdp::Target;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Whether this goes to URLs of its own in place of the handler. Alarms are the tenant's in any case.
pub fn is_of_device(notification: &Notification) -> bool {
    notification.info().callback.is_some()
        && matches!(
            notification,
            Notification::CallNotify { .. }
                | Notification::CallAnswered { .. }
                | Notification::CallEvent(_)
                | Notification::SessionCompleted { .. }
        )
}

/// URL and body.
pub fn post_of_device(notification: &Notification, transaction: impl Fn() -> String, keys: &ReplyKeys) -> Option<(String, String)> {
    let info = notification.info();
    let base = info.callback.as_deref().filter(|_| is_of_device(notification))?;
    let reply_id = |reply_to: ReplyTo| json!(keys.mint(&info.domain, &info.session_id, reply_to));
    let mut body = common(info, transaction());
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    let kind = match notification {
        Notification::CallNotify {
            event, participant_id, user, remote_participant_id, remote_user, sip_call_id, reply_to, target, ..
        } => {
            add("event", json!(event));
            add("monitoringParticipant", json!(false));
            add("participantId", json!(participant_id));
            add("user", json!(user));
            add("remoteParticipantId", json!(remote_participant_id));
            add("remoteUser", json!(remote_user));
            add("sipCallId", json!(sip_call_id));
            add("replyId", reply_id(*reply_to));
            target.iter().for_each(|target| of_target(target, &mut add));
            "callNotify"
        }
        Notification::CallAnswered {
            connection_id,
            caller_participant_id,
            callee_participant_id,
            calling_party_number,
            remote_party_number,
            calling_party_expires,
            called_party_expires,
            reply_to,
            target,
            ..
        } => {
            add("connectionId", json!(connection_id));
            add("callerParticipantId", json!(caller_participant_id));
            add("calleeParticipantId", json!(callee_participant_id));
            add("callingPartyNumber", json!(calling_party_number));
            add("remotePartyNumber", json!(remote_party_number));
            add("callingPartyExpires", json!(calling_party_expires));
            add("calledPartyExpires", json!(called_party_expires));
            add("monitoringParticipant", json!(false));
            add("replyId", reply_id(*reply_to));
            target.iter().for_each(|target| of_target(target, &mut add));
            "callAnswered"
        }
        Notification::CallEvent(event) => {
            let kind = match event.event {
                CallEventKind::CallingPartyDrop => "callingPartyDrop",
                CallEventKind::CalledPartyDrop => "calledPartyDrop",
                CallEventKind::CallingPartyFailure => "callingPartyFailure",
                CallEventKind::CalledPartyFailure => "calledPartyFailure",
                CallEventKind::CallerConnectionSplit => "callerConnectionSplit",
                CallEventKind::CalleeConnectionSplit => "calleeConnectionSplit",
            };
            add("event", json!(kind));
            add("connectionId", json!(event.connection_id));
            add("participantId", json!(event.participant_id));
            add("user", json!(event.user));
            add("remoteParticipantId", json!(event.remote_participant_id));
            add("remoteUser", json!(event.remote_user));
            add("replyId", reply_id(event.reply_to));
            add("sipCode", json!(event.sip_code));
            add("reasonText", json!(event.reason_text));
            add("q850", json!(event.q850));
            "callEvent"
        }
        Notification::SessionCompleted { duration, reason, .. } => {
            // IC-203: a text.
            add("sessionDuration", json!(duration.as_secs().to_string()));
            add("reason", json!(reason));
            "sessionCompleted"
        }
        _ => return None,
    };
    // IC-012: byte for byte as it was given.
    let session_reference_id = info.session_reference.clone().and_then(|json| RawValue::from_string(json).ok());
    let body = serde_json::to_string(&Body { fields: body, session_reference_id });
    Some((callback::url(base, kind), body.expect("plain data becomes JSON")))
}

#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(rename = "sessionReferenceId", skip_serializing_if = "Option::is_none")]
    session_reference_id: Option<Box<RawValue>>,
}

fn common(info: &SessionInfo, transaction: String) -> Map<String, Value> {
    let fields = [
        ("sessionId", &info.session_id),
        ("domain", &info.domain),
        ("ivrServer", &info.ivr_server),
        ("traceId", &info.trace_id),
        ("httpTransactionId", &transaction),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// IC-120 to IC-122: where and in what the device must send; the port is a text, as the vendor declares it.
fn of_target(target: &Target, add: &mut impl FnMut(&str, Value)) {
    add("codec", json!(target.format.name()));
    add("remoteRtpIp", json!(target.address.ip().to_string()));
    add("remoteRtpPort", json!(target.address.port().to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_call::hook::CallEvent;
    use hookswitch_proto::sdp::Format;
    use std::time::Duration;

    fn info() -> SessionInfo {
        SessionInfo {
            session_id: "s-1".into(),
            domain: "a.example".into(),
            ivr_server: "192.0.2.1".into(),
            trace_id: "t-1".into(),
            session_reference: Some(r#"{ "a" : 1.0 }"#.into()),
            callback: Some("https://app.example/hooks/".into()),
            ..SessionInfo::default()
        }
    }

    fn posted(notification: &Notification) -> (String, Value) {
        let keys = ReplyKeys::in_memory().expect("keys");
        let (url, text) = post_of_device(notification, || "h-1".into(), &keys).expect("it is posted");
        assert!(text.contains(r#""sessionReferenceId":{ "a" : 1.0 }"#), "{text}");
        let body: Value = serde_json::from_str(&text).expect("JSON");
        let common =
            [("sessionId", "s-1"), ("domain", "a.example"), ("ivrServer", "192.0.2.1"), ("traceId", "t-1"), ("httpTransactionId", "h-1")];
        for (name, value) in common {
            assert_eq!(body[name], value, "{name}");
        }
        (url, body)
    }

    #[test]
    fn ic_059_120_to_122_an_answer_says_where_the_device_must_send() {
        let target = Target { format: Format::Gsm, address: "192.0.2.9:4000".parse().unwrap(), telephone_event: None, crypto: vec![] };
        let (url, body) = posted(&Notification::CallAnswered {
            info: info(),
            connection_id: "c-1".into(),
            caller_participant_id: "p-0".into(),
            callee_participant_id: "p-1".into(),
            calling_party_number: "1234".into(),
            remote_party_number: "bob".into(),
            calling_party_expires: None,
            called_party_expires: Some(1800),
            monitoring: false,
            reply_to: ReplyTo::Connection,
            target: Some(Box::new(target)),
        });
        assert_eq!(url, "https://app.example/hooks/callAnswered");
        assert_eq!((&body["codec"], &body["remoteRtpIp"], &body["remoteRtpPort"]), (&json!("GSM"), &json!("192.0.2.9"), &json!("4000")));
        assert_eq!((&body["calledPartyExpires"], body.get("callingPartyExpires")), (&json!(1800), None));
        assert!(body["replyId"].as_str().is_some_and(|token| token.split('.').count() == 3));
    }

    #[test]
    fn ic_059_progress_the_end_and_why() {
        let (url, body) = posted(&Notification::CallNotify {
            info: info(),
            event: "ringing",
            participant_id: "p-1".into(),
            user: "bob".into(),
            remote_participant_id: None,
            remote_user: None,
            sip_call_id: "x@y".into(),
            monitoring: false,
            reply_to: ReplyTo::Participant,
            target: None,
        });
        assert_eq!(
            (url.as_str(), &body["event"], &body["sipCallId"]),
            ("https://app.example/hooks/callNotify", &json!("ringing"), &json!("x@y"))
        );
        assert!(body.get("remoteUser").is_none() && body.get("codec").is_none(), "absent is absent");
        let (url, body) = posted(&Notification::CallEvent(Box::new(CallEvent {
            info: info(),
            event: CallEventKind::CalledPartyFailure,
            connection_id: "c-1".into(),
            participant_id: "p-1".into(),
            user: "bob".into(),
            remote_participant_id: "p-0".into(),
            remote_user: "1234".into(),
            reply_to: ReplyTo::Participant,
            sip_code: Some(486),
            reason_text: None,
            q850: Some(17),
        })));
        assert_eq!(url, "https://app.example/hooks/callEvent");
        assert_eq!((&body["event"], &body["sipCode"], &body["q850"]), (&json!("calledPartyFailure"), &json!(486), &json!(17)));
        let (url, body) = posted(&Notification::SessionCompleted { info: info(), duration: Duration::from_millis(2900), reason: "busy" });
        assert_eq!(url, "https://app.example/hooks/sessionCompleted");
        assert_eq!((&body["sessionDuration"], &body["reason"]), (&json!("2"), &json!("busy")));
    }

    #[test]
    fn what_has_no_urls_of_its_own_is_the_handlers() {
        let info = SessionInfo { callback: None, ..info() };
        let news = Notification::SessionCompleted { info, duration: Duration::ZERO, reason: "busy" };
        let keys = ReplyKeys::in_memory().expect("keys");
        assert!(!is_of_device(&news) && post_of_device(&news, String::new, &keys).is_none());
        let timer = Notification::Timer { info: super::tests::info(), name: "t".into() };
        assert!(!is_of_device(&timer));
    }
}
