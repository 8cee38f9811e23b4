//! A handler for the end-to-end tests of the REST operations: it says in its log what a back office would be told, one line for each
//! getIvrCommand: session, participant, replyId, and how the command before ended. It plays until it is cut short.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route, Tone, log};

#[derive(Default)]
pub struct Replies;

impl Handler for Replies {
    fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        let how = if request.interrupted { "interrupted" } else { "asked" };
        log::info!("{how} {} {} {}", request.info.session_id, request.participant_id, request.reply_id);
        Ok(Ivr::tone(Tone::hz([440.0]).cadence_ms(1000, 0).for_ms(60_000)))
    }
}

hookswitch_sdk::export!(Replies);
