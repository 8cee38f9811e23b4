//! A handler for the end-to-end tests: it records what the caller says until `#`, and writes down whatever it is told of a recording.
//! The called number is the kind of file: `wav`, `mp3`, `ogg` or `mp4`.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log};

#[derive(Default)]
pub struct Witness {
    kind: String,
}

impl Handler for Witness {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.kind.clone_from(&call.called_party);
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        Ok(match &request.recording {
            None => {
                let name = format!("said-{}.{}", request.info.session_id, self.kind);
                Ivr::record(name).max_s(120).stop_on("#").recorded_callback()
            }
            // Not at once: that the call goes on after its recording failed is what a test listens for.
            Some(_) => Ivr::play("goodbye.wav").then_hangup(),
        })
    }

    fn notify(&mut self, news: &Notification) {
        if let Notification::RecordingReady(told) = news {
            let (id, reason) = (&told.recording_id, told.reason.as_deref().unwrap_or("-"));
            let stopped = told.details.as_ref().map_or_else(|| "-".into(), |details| format!("{:?}", details.stop_reason));
            log::info!("told of {id}: successful {}, reason {reason}, stopped by {stopped}, {} bytes", told.successful, told.file_size);
        }
    }
}

hookswitch_sdk::export!(Witness);
