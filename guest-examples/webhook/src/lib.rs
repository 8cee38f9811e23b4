//! Asks an HTTP application what to do, by the callbacks of the mediaservice API: whoever has an application that was written against them
//! needs no handler of their own.
//!
//! Decisions (`/newCall`, `/callEvent`, `/getIvrCommand`, `/getCallIdentifier`, `/newRemoteCall`) are requests whose answer is waited for; news goes
//! through the outbox, in order and until it is acknowledged. `payload.rs` is what is sent, `answer.rs` what comes back.

pub mod answer;
pub mod payload;
pub mod value;

use hookswitch_sdk::types::{CallIdentifierRequest, RemoteCallRequest};
use hookswitch_sdk::{CallEvent, CallIdentifier, Failure, Handler, Ivr, IvrRequest, NewCall, Notification, RemoteCall, Result, Route};
use hookswitch_sdk::{config, http, log, outbox};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the application is: callbacks are posted to this and `/newCall` and so on.
const BASE_URL: &str = "callback_base_url";
/// Where alarms go; none are told where it is not set.
const ALARM_URL: &str = "alarm_url";
/// IC-018. The node's own deadline for the hook ends sooner where it has less left.
const DECISION_MS: u32 = 5_000;
const IVR_COMMAND_MS: u32 = 8_000;

#[derive(Default)]
struct Webhook;

/// The tenant's setting of this name, which is needed.
fn setting(key: &str) -> Result<String> {
    config::get(key).ok_or_else(|| Failure::new(format!("the setting {key} is missing")))
}

fn url(callback: &str) -> Result<String> {
    let base = setting(BASE_URL)?;
    Ok(format!("{}/{callback}", base.trim_end_matches('/')))
}

/// Asks and gives the body of the answer. Every status but a 2xx is a failed request; a body that is empty has an alarm of its own (IC-021),
/// which the node raises for a failure without words.
fn ask(callback: &str, payload: &impl Serialize, ms: u32) -> Result<Vec<u8>> {
    let request = http::Request::post(url(callback)?, "application/json; charset=utf-8", serde_json::to_vec(payload)?).timeout_ms(ms);
    let answer = http::fetch(&request)?;
    if !answer.is_success() {
        return Err(Failure::new(format!("{callback}: the application answered {}", answer.status)));
    }
    if answer.body.trim_ascii().is_empty() {
        return Err(Failure::new(""));
    }
    Ok(answer.body)
}

fn read<T: DeserializeOwned>(callback: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Failure::new(format!("{callback}: {error}")))
}

fn route(callback: &str, payload: &impl Serialize) -> Result<Route> {
    let answer: answer::Routing = read(callback, &ask(callback, payload, DECISION_MS)?)?;
    Ok(answer.into_routing().into())
}

/// The session reference that the application gives; an empty answer gives none.
fn identify(callback: &str, payload: &impl Serialize) -> Result<answer::Identified> {
    read(callback, &ask(callback, payload, DECISION_MS)?)
}

fn tell(url: String, payload: &impl Serialize) -> Result<()> {
    outbox::post_json(url, serde_json::to_string(payload)?)?;
    Ok(())
}

impl Handler for Webhook {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        route("newCall", &payload::NewCall::from(call))
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        let callback = "getIvrCommand";
        let body = ask(callback, &payload::GetIvrCommand::from(request), IVR_COMMAND_MS)?;
        let command: answer::Command = read(callback, &body)?;
        let routing = command.action.is_some().then(|| read(callback, &body)).transpose()?;
        Ok(command.into_command(routing).into())
    }

    fn call_event(&mut self, event: &CallEvent) -> Result<Route> {
        route("callEvent", &payload::CallEvent::from(event))
    }

    fn notify(&mut self, news: &Notification) {
        let told = match news {
            Notification::CallNotify(news) => url("callNotify").and_then(|url| tell(url, &payload::CallNotify::from(news))),
            Notification::CallAnswered(news) => url("callAnswered").and_then(|url| tell(url, &payload::CallAnswered::from(news))),
            Notification::RecordingReady(news) => url("recordingReady").and_then(|url| tell(url, &payload::RecordingReady::from(news))),
            Notification::SessionCompleted(news) => {
                url("sessionCompleted").and_then(|url| tell(url, &payload::SessionCompleted::from(news)))
            }
            Notification::CallEvent(event) => url("callEvent").and_then(|url| tell(url, &payload::CallEvent::from(event))),
            Notification::Alarm(news) => config::get(ALARM_URL).map_or(Ok(()), |url| tell(url, &payload::Alarm::from(news))),
            // The API has no callback for the others.
            _ => Ok(()),
        };
        if let Err(error) = told {
            log::warn!("{error}");
        }
    }
}

impl CallIdentifier for Webhook {
    fn get_call_identifier(&mut self, request: &CallIdentifierRequest) -> Result<Option<String>> {
        let identified = identify("getCallIdentifier", &payload::GetCallIdentifier::from(request))?;
        // IC-198.
        match &identified.session_id {
            Some(id) if id.0 != request.info.session_id => Err(Failure::new("getCallIdentifier: sessionId: not that of the request")),
            _ => Ok(identified.into_reference()),
        }
    }
}

impl RemoteCall for Webhook {
    fn new_remote_call(&mut self, call: &RemoteCallRequest) -> Result<Option<String>> {
        match identify("newRemoteCall", &payload::NewRemoteCall::from(call)) {
            // Nothing is decided by it: an empty answer is one (IC-021).
            Err(failure) if failure.message.is_empty() => Ok(None),
            identified => Ok(identified?.into_reference()),
        }
    }
}

hookswitch_sdk::export!(Webhook, call_identifier, remote_call);

#[cfg(test)]
mod tests;
