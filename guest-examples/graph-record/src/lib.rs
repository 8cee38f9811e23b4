//! A bot's short reply by Microsoft Graph's rules: a prompt, a beep, the caller's answer until `#`, silence or ten seconds. The recording takes
//! its turn among the call's media, its states are followed, and what became of it decides what the caller hears. Header `X-Callback-Uri` is
//! where the commsNotification goes.
//!
//! With header `X-Held` the bot is elsewhere and asks by REST: this handler answers and holds the call for it.

use hookswitch_sdk::types::{FilePhrase, Phrase, RecordingDialect, RecordingOptions, RecordingPhase, RecordingState, RecordingTarget};
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, calls, log, recordings};

/// The operation's name on this call.
const REPLY: &str = "reply";

#[derive(Default)]
struct GraphRecord {
    held: bool,
    callback: Option<String>,
    asked: bool,
    /// The reply's last state.
    ended: Option<RecordingState>,
}

/// What recordResponse's properties become; what is not said has the vendor's defaults.
fn record_response() -> RecordingOptions {
    RecordingOptions { dialect: Some(RecordingDialect::Graph), ..RecordingOptions::named(REPLY).stop_on("#").max_s(10) }
}

impl Handler for GraphRecord {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.held = call.header("x-held").is_some();
        self.callback = call.header("x-callback-uri").map(str::to_owned);
        Ok(Route::ivr())
    }

    /// Asks for the reply once, then has nothing to say until it is there.
    fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
        if self.held {
            return Ok(Ivr::new().next_after_s(600));
        }
        if let Some(reply) = &self.ended {
            let heard = matches!(reply.state, RecordingPhase::Available);
            return Ok(Ivr::play(if heard { "thanks.wav" } else { "goodbye.wav" }).then_hangup());
        }
        if !self.asked {
            self.asked = true;
            let prompt = Phrase::File(FilePhrase { file_name: "leave-message.wav".into(), extra: Vec::new() });
            let options = RecordingOptions { on_complete_url: self.callback.take(), ..record_response() };
            recordings::start(&RecordingTarget::Session, &options, &[prompt])?;
        }
        Ok(Ivr::new().next_after_s(60))
    }

    fn notify(&mut self, news: &Notification) {
        let Notification::RecordingState(reply) = news else { return };
        if reply.control_id != REPLY {
            return;
        }
        let over = matches!(
            reply.state,
            RecordingPhase::Available
                | RecordingPhase::Failed
                | RecordingPhase::NoInput
                | RecordingPhase::Canceled
                | RecordingPhase::Discarded
        );
        if over {
            log::info!("reply: {:?}", reply.details.as_ref().map(|details| &details.stop_reason));
            self.ended = Some(reply.clone());
            // Nobody waits any more, unless the call is over.
            let _ = calls::interrupt_ivr_command();
        }
    }
}

hookswitch_sdk::export!(GraphRecord);

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_sdk::testing::{Call, Live};
    use hookswitch_sdk::types::SessionInfo;

    fn tell(call: &mut Live<GraphRecord>, control_id: &str, state: RecordingPhase) {
        call.notify(&Notification::RecordingState(RecordingState {
            info: SessionInfo::default(),
            recording_id: "recording-1".into(),
            control_id: control_id.into(),
            client_context: None,
            state,
            connection_id: None,
            participant_id: None,
            pause_behavior: None,
            reason: None,
            details: None,
            occurred_at_ms: 0,
            extra: vec![],
        }));
    }

    #[test]
    fn the_reply_is_asked_for_once_and_its_end_goes_on_with_the_call() {
        for (state, file) in [(RecordingPhase::Available, "thanks.wav"), (RecordingPhase::NoInput, "goodbye.wav")] {
            let mut call = Call::from("alice").dial::<GraphRecord>();
            assert_eq!(call.orders(), ["start-recording reply after play leave-message.wav"]);
            tell(&mut call, REPLY, RecordingPhase::Recording);
            tell(&mut call, "another", RecordingPhase::Failed);
            assert_eq!(call.orders().len(), 1);
            tell(&mut call, REPLY, state);
            assert_eq!(call.orders()[1], "interrupt-ivr-command");
            call.interrupt();
            call.assert_plays(&[file]);
        }
    }

    #[test]
    fn a_call_that_is_held_is_the_bots_alone() {
        let mut call = Call::from("alice").header("X-Held", "yes").dial::<GraphRecord>();
        assert!(call.orders().is_empty() && call.command().phrases.is_empty());
        tell(&mut call, "operation-1", RecordingPhase::Available);
        assert!(call.orders().is_empty());
    }

    #[test]
    fn mg_014_016_the_options_are_the_vendors() {
        let options = record_response();
        assert_eq!((options.max_duration_ms, options.stop_digits.as_deref()), (Some(10_000), Some("#")));
        assert!(matches!(options.dialect, Some(RecordingDialect::Graph)));
    }
}
