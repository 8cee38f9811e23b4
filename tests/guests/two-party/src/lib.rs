//! A handler for end-to-end tests of calls of two parties. The called number says how X-Dest is called; X-Then says what becomes of the
//! party that is left when the other leaves or the connection is split: `drop` (as if nothing were said), `ivr`, `next` (call X-Next)
//! or `join` (with each other again). Its log holds what a back office would be told of connections and recordings.

use hookswitch_sdk::types::{CallEventKind, CallEventRequest, PlayMode};
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, Tone, calls, log};

#[derive(Default)]
pub struct TwoParty {
    next: String,
    then: String,
    /// Participants that have heard the IVR's tone.
    heard: Vec<String>,
    plays: bool,
}

/// What the IVR plays, so that one hears it: no telephone of the tests plays this.
const IVR_HZ: f32 = 660.0;
/// What the callee is told before it hears the caller.
const CALLEE_HZ: f32 = 880.0;

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
            // As `bridge`, but that the caller is told something when they are connected.
            "played" => {
                self.plays = true;
                to()
            }
            "record" => to().record("both.wav"),
            "impatient" => to().max_ring_s(1),
            "greeted" => to()
                .greet_callee(Ivr::tone(Tone::hz([CALLEE_HZ]).for_ms(1000)))
                .greet_caller(Ivr::tone(Tone::hz([IVR_HZ]).for_ms(1000)))
                .greet_in_order(PlayMode::CalleeFirst),
            "dressed" => {
                to().display_name("The \"Desk\"").sip_from("+4687551234").x_header("X-Account", "7; a=b").copy_header("X-Then").with(
                    |call| {
                        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
                        (call.sip_pai, call.sip_rpid) = (Some("+4687551235".into()), Some("+4687551236".into()));
                        call.sip_diversion = Some("+4687551237".into());
                        call.sip_diversion_parameters = vec![pair("reason", "no-answer"), pair("counter", "1")];
                        call.contact_parameters = vec![pair("ob", "1")];
                        call.contact_user_parameters = vec![pair("tgrp", "north")];
                        call.p_headers = vec![pair("P-Charging-Vector", "icid-value=1")];
                    },
                )
            }
            "hidden" => to().private(),
            "monitored" => to().monitored_by(header("x-monitor")),
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
            Notification::CallAnswered(it) if it.monitoring_participant => log::info!("monitored {}", it.connection_id),
            Notification::CallAnswered(it) if std::mem::take(&mut self.plays) => {
                let tone = Ivr::tone(Tone::hz([IVR_HZ]).for_ms(1000)).as_command().phrases.clone();
                log::info!("played {:?}", calls::play(&it.caller_participant_id, &tone));
            }
            Notification::CallAnswered(it) => log::info!(
                "connected {} {} {} {} {}",
                it.info.session_id,
                it.connection_id,
                it.caller_participant_id,
                it.callee_participant_id,
                it.reply_id
            ),
            Notification::TransferState(it) => log::info!("transfer {} {}", it.sip_code, it.last),
            Notification::RecordingReady(it) => log::info!("recorded {} {}", it.file_name, it.successful),
            _ => {}
        }
    }
}

hookswitch_sdk::export!(TwoParty);
