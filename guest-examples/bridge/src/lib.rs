//! Connects two parties: calls the address in header `X-Dest`, records both sides, and releases whoever is left when the other leaves.

use hookswitch_sdk::{CallEvent, Handler, NewCall, Notification, Result, Route, log};
use std::time::Duration;

#[derive(Default)]
struct Bridge;

impl Handler for Bridge {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        Ok(match call.header("x-dest") {
            Some(address) if address.starts_with("sip:") => {
                let file_name = format!("bridge-{}.wav", call.info.session_id);
                Route::call(address).ring_for(Duration::from_secs(30)).record(file_name)
            }
            Some(_) => Route::drop("notAcceptable"),
            None => Route::drop("notFound"),
        })
    }

    /// One of two is left, or the callee could not be reached: the caller hears why, if there is a reason.
    fn call_event(&mut self, event: &CallEvent) -> Result<Route> {
        Ok(match event.failure() {
            Some(status) => Route::drop(status),
            None => Route::drop("decline"),
        })
    }

    fn notify(&mut self, news: &Notification) {
        match news {
            Notification::CallAnswered(answered) => log::info!("connected to {}", answered.remote_party_number),
            Notification::RecordingReady(recording) => log::info!("{} of {} bytes", recording.file_name, recording.file_size),
            Notification::Alarm(alarm) => log::warn!("{}", alarm.error),
            _ => {}
        }
    }
}

hookswitch_sdk::export!(Bridge);

#[cfg(test)]
mod tests {
    use super::Bridge;
    use hookswitch_sdk::testing::{Call, Live};
    use hookswitch_sdk::types::Routing;

    fn dial(destination: &str) -> Live<Bridge> {
        Call::from("alice").header("X-Dest", destination).dial()
    }

    #[test]
    fn the_address_of_the_header_is_called_and_both_are_recorded() {
        let call = dial("sip:bob@127.0.0.1:5070");
        call.assert_routed("call sip:bob@127.0.0.1:5070");
        let Some(Routing::Call(route)) = call.routing() else { panic!("{}", call.ladder()) };
        assert_eq!((route.call_recording, route.recording_file_name.as_deref()), (true, Some("bridge-session-1.wav")));
        assert_eq!(route.max_ring_time_ms, Some(30_000));
    }

    #[test]
    fn whoever_is_left_is_released() {
        let mut call = dial("sip:bob@127.0.0.1");
        call.callee_hangs_up();
        call.assert_ended("calledPartyHangup");
        let mut call = dial("sip:bob@127.0.0.1");
        call.hang_up();
        call.assert_ended("callingPartyHangup");
    }

    #[test]
    fn the_caller_hears_why_the_callee_could_not_be_reached() {
        for status in [486, 408, 480] {
            let mut call = dial("sip:bob@127.0.0.1");
            call.callee_fails(status);
            call.assert_refused(status);
        }
    }

    #[test]
    fn without_an_address_there_is_nobody_to_call() {
        Call::from("alice").dial::<Bridge>().assert_refused(404);
        dial("tel:112").assert_refused(488);
    }
}
