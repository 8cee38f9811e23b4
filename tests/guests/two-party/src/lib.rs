//! A handler for end-to-end tests of calls of two parties. The called number says how X-Dest is called; X-Then says what becomes of the
//! party that is left when the other leaves or the connection is split: `drop` (as if nothing were said), `ivr`, `next` (call X-Next)
//! or `join` (with each other again). Its log holds what a back office would be told of connections and recordings.

use hookswitch_sdk::types::{CallEventKind, CallEventRequest};
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, Tone, log};

#[derive(Default)]
pub struct TwoParty {
    next: String,
    then: String,
    /// Participants that have heard the IVR's tone.
    heard: Vec<String>,
}

/// What the IVR plays, so that one hears it: no telephone of the tests plays this.
const IVR_HZ: f32 = 660.0;

impl TwoParty {
    /// An address is used once: what fails again is dropped.
    fn call_next(&mut self) -> Option<Route> {
        let next = std::mem::take(&mut self.next);
        (!next.is_empty()).then(|| Route::call(next))
    }
}

impl Handler for TwoParty {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        let header = |name: &str| call.header(name).unwrap_or_default().to_owned();
        (self.next, self.then) = (header("x-next"), header("x-then"));
        let to = || Route::call(header("x-dest"));
        Ok(match call.called_party.as_str() {
            "bridge" => to(),
            "record" => to().record("both.wav"),
            "impatient" => to().max_ring_s(1),
            // For a telephone that can add no headers: bob, on the host that the number names.
            number => match number.strip_prefix("at-") {
                Some(host) => Route::call(format!("sip:bob@{host}")),
                None => Route::drop("not-found"),
            },
        })
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        if self.heard.contains(&request.participant_id) {
            return Ok(Ivr::hangup());
        }
        self.heard.push(request.participant_id.clone());
        Ok(Ivr::tone(Tone::hz([IVR_HZ]).for_ms(1000)))
    }

    fn call_event(&mut self, event: &CallEventRequest) -> Result<Route> {
        use CallEventKind::{CalledPartyFailure, CalleeConnectionSplit, CallerConnectionSplit};
        let failed = matches!(event.event, CalledPartyFailure);
        let split = matches!(event.event, CallerConnectionSplit | CalleeConnectionSplit);
        if let Some(route) = (failed || self.then == "next").then(|| self.call_next()).flatten() {
            return Ok(route);
        }
        Ok(match (self.then.as_str(), event.sip_code) {
            // The caller is told what the callee said.
            (_, Some(status @ 400..=699)) if failed => Route::drop(status),
            ("ivr", _) if !failed => Route::ivr(),
            ("join", _) if split => Route::join(&event.remote_participant_id),
            _ => Route::drop("decline"),
        })
    }

    fn notify(&mut self, news: &Notification) {
        match news {
            Notification::CallAnswered(it) => log::info!(
                "connected {} {} {} {} {}",
                it.info.session_id,
                it.connection_id,
                it.caller_participant_id,
                it.callee_participant_id,
                it.reply_id
            ),
            Notification::RecordingReady(it) => log::info!("recorded {} {}", it.file_name, it.successful),
            _ => {}
        }
    }
}

hookswitch_sdk::export!(TwoParty);
