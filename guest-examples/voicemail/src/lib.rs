//! Takes a message: a short beep, then what the caller says until `#`, then thanks.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log};

#[derive(Default)]
struct Voicemail;

impl Handler for Voicemail {
    fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        Ok(match &request.recording {
            None => {
                let file_name = format!("voicemail-{}.wav", request.info.session_id);
                Ivr::record(file_name).beep().max_s(120).initial_silence_s(10).max_silence_s(5).stop_on("#").recorded_callback()
            }
            Some(message) if message.contains_sound => Ivr::play("thanks.wav").then_hangup(),
            Some(_) => Ivr::play("goodbye.wav").then_hangup(),
        })
    }

    /// Also for a message that ended because the caller hung up.
    fn notify(&mut self, news: &Notification) {
        if let Notification::RecordingReady(recording) = news {
            log::info!("{}: {}", recording.file_name, if recording.successful { "stored" } else { "lost" });
        }
    }
}

hookswitch_sdk::export!(Voicemail);

#[cfg(test)]
mod tests {
    use super::Voicemail;
    use hookswitch_sdk::testing::Call;

    #[test]
    fn hash_ends_the_message() {
        let mut call = Call::from("alice").dial::<Voicemail>();
        call.press("12");
        call.assert_records();
        call.speak_s(4);
        call.press("#");
        call.assert_plays(&["thanks.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
        assert_eq!(call.log(), ["info: voicemail-session-1.wav: stored"]);
    }

    #[test]
    fn silence_ends_it_too_and_nobody_is_thanked_for_nothing() {
        let mut call = Call::from("alice").dial::<Voicemail>();
        call.wait();
        call.assert_plays(&["goodbye.wav"]);
        let mut call = Call::from("alice").dial::<Voicemail>();
        call.speak_s(2);
        call.wait();
        call.assert_plays(&["thanks.wav"]);
    }

    #[test]
    fn two_minutes_are_the_most() {
        let mut call = Call::from("alice").dial::<Voicemail>();
        call.speak_s(500);
        call.assert_plays(&["thanks.wav"]);
        assert!(call.ladder().contains("recorded 120 s: max-duration"));
    }

    #[test]
    fn hanging_up_keeps_the_message() {
        let mut call = Call::from("alice").dial::<Voicemail>();
        call.speak_s(4);
        call.hang_up();
        assert_eq!(call.log(), ["info: voicemail-session-1.wav: stored"]);
    }
}
