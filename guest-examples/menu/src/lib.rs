//! The demo tenant's handler. One number, one thing:
//!
//! - `ivr`: a menu; 1 leaves a message, 2 is an echo, 0 says it again;
//! - `voicemail`: a beep, then a message until `#`;
//! - `echo`: hear yourself;
//! - `reject`: refused with 603; everything else is unknown here, 404.
//!
//! Begin at `new_call`, then read `get_ivr_command`: it is asked once when the call is answered, and again each time a command has ended.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log};

/// So often the menu is said to somebody who does not choose.
const TRIES: u32 = 3;

#[derive(Default)]
struct Menu {
    step: Step,
    misses: u32,
}

/// What the caller is doing, so what the request that comes next is about.
#[derive(Clone, Copy, Default, PartialEq)]
enum Step {
    /// Just answered.
    #[default]
    Begin,
    Choosing,
    Recording,
    Echo,
    Leaving,
}

impl Handler for Menu {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        Ok(match call.called_party.as_str() {
            // Remembered, so that a restarted handler knows where the caller is.
            number @ ("ivr" | "voicemail" | "echo") => Route::ivr().remember(format!("\"{number}\"")),
            "reject" => Route::drop("decline"),
            _ => Route::drop("notFound"),
        })
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        Ok(match self.step {
            Step::Begin => match request.info.session_reference.as_deref() {
                Some("\"voicemail\"") => self.record(Ivr::new(), request),
                Some("\"echo\"") => self.go(Step::Echo, Ivr::echo_s(600).barge_in_all()),
                _ => self.choose(Ivr::new()),
            },
            Step::Choosing => self.chosen(request),
            Step::Recording => self.go(Step::Leaving, Ivr::play("thanks.wav").then_play("goodbye.wav").then_hangup()),
            // From the number `echo` there is no menu to go back to.
            Step::Echo if request.info.session_reference.as_deref() != Some("\"ivr\"") => self.leave(),
            Step::Echo => self.choose(Ivr::new()),
            Step::Leaving => Ivr::hangup(),
        })
    }

    fn notify(&mut self, news: &Notification) {
        match news {
            Notification::RecordingReady(recording) => log::info!("message {} of {} bytes", recording.file_name, recording.file_size),
            Notification::Alarm(alarm) => log::warn!("{}", alarm.error),
            _ => {}
        }
    }
}

impl Menu {
    fn go(&mut self, step: Step, command: Ivr) -> Ivr {
        self.step = step;
        command
    }

    fn choose(&mut self, before: Ivr) -> Ivr {
        self.go(Step::Choosing, before.then_play("welcome-menu.wav").barge_in_all().collect(1).timeout_s(8))
    }

    fn chosen(&mut self, request: &IvrRequest) -> Ivr {
        match request.digit() {
            Some('1') => self.record(Ivr::play("leave-message.wav"), request),
            // The collection takes the key that ends the echo, so that the menu does not hear it as a choice.
            Some('2') => self.go(Step::Echo, Ivr::play("echo.wav").then_echo_s(60).barge_in_all().collect(1).timeout_s(1)),
            Some('0') => self.choose(Ivr::new()),
            chosen => {
                self.misses += 1;
                match chosen {
                    _ if self.misses >= TRIES => self.leave(),
                    Some(_) => self.choose(Ivr::play("invalid.wav")),
                    None => self.choose(Ivr::new()),
                }
            }
        }
    }

    fn record(&mut self, before: Ivr, request: &IvrRequest) -> Ivr {
        let file_name = format!("message-{}.wav", request.info.session_id);
        self.go(Step::Recording, before.then_record(file_name).beep().max_s(600).stop_on("#").recorded_callback())
    }

    fn leave(&mut self) -> Ivr {
        self.go(Step::Leaving, Ivr::play("goodbye.wav").then_hangup())
    }
}

hookswitch_sdk::export!(Menu);

#[cfg(test)]
mod tests {
    use super::Menu;
    use hookswitch_sdk::testing::{Call, Live};

    fn dial(number: &str) -> Live<Menu> {
        Call::from("alice").to(number).dial()
    }

    #[test]
    fn one_leaves_a_message() {
        let mut call = dial("ivr");
        call.assert_plays(&["welcome-menu.wav"]);
        call.press("1");
        call.assert_plays(&["leave-message.wav"]);
        call.assert_records();
        call.speak_s(7);
        call.press("#");
        call.assert_plays(&["thanks.wav", "goodbye.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
        assert!(call.log()[0].starts_with("info: message message-session-"), "{:?}", call.log());
    }

    #[test]
    fn two_echoes_until_a_key_and_the_menu_comes_back() {
        let mut call = dial("ivr");
        call.press("2");
        call.assert_plays(&["echo.wav"]);
        call.press("#");
        call.assert_plays(&["welcome-menu.wav"]);
        call.press("2");
        call.wait();
        call.assert_plays(&["welcome-menu.wav"]);
    }

    #[test]
    fn zero_repeats_for_ever_but_three_misses_end_the_call() {
        let mut call = dial("ivr");
        for _ in 0..5 {
            call.press("0");
            call.assert_plays(&["welcome-menu.wav"]);
        }
        call.press("7");
        call.assert_plays(&["invalid.wav", "welcome-menu.wav"]);
        call.wait();
        call.assert_plays(&["welcome-menu.wav"]);
        call.wait();
        call.assert_plays(&["goodbye.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
    }

    #[test]
    fn voicemail_beeps_and_records_at_once() {
        let mut call = dial("voicemail");
        let ladder = call.ladder();
        assert!(ladder.ends_with(".wav after a beep up to 600 s until #"), "{ladder}");
        call.speak_s(3);
        call.press("#");
        call.assert_plays(&["thanks.wav", "goodbye.wav"]);
    }

    #[test]
    fn a_message_is_kept_when_the_caller_hangs_up() {
        let mut call = dial("voicemail");
        call.speak_s(3);
        call.hang_up();
        call.assert_ended("callingPartyHangup");
        assert_eq!(call.log().len(), 1);
    }

    #[test]
    fn echo_ends_with_a_key() {
        let mut call = dial("echo");
        call.press("5");
        call.assert_plays(&["goodbye.wav"]);
    }

    #[test]
    fn other_numbers_are_refused() {
        dial("reject").assert_refused(603);
        dial("nobody").assert_refused(404);
    }

    #[test]
    fn a_restarted_handler_begins_again_where_the_caller_is() {
        let mut call = dial("voicemail");
        call.speak_s(3);
        call.restart();
        call.assert_records();
        let mut call = dial("ivr");
        call.press("1");
        call.restart();
        call.assert_plays(&["welcome-menu.wav"]);
    }
}
