//! The demo tenant's handler. One number, one thing:
//!
//! - `ivr`: a menu; 1 leaves a message, 2 is an echo, 3 connects to the address in header `X-Dest`, 0 says it again;
//! - `voicemail`: a beep, then a message until `#`;
//! - `echo`: hear yourself;
//! - `bridge`: connects to the address in header `X-Dest`, and records both sides;
//! - `reject`: refused with 603; everything else is unknown here, 404.
//!
//! Begin at `new_call`, then read `get_ivr_command`: it is asked once when the call is answered, and again each time a command has ended.

use hookswitch_sdk::{CallEvent, Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log};
use std::time::Duration;

/// So often the menu is said to somebody who does not choose.
const TRIES: u32 = 3;

#[derive(Default)]
struct Menu {
    step: Step,
    misses: u32,
    /// Whom the caller wants to be connected to, from his header `X-Dest`.
    destination: Option<String>,
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
        self.destination = call.header("x-dest").map(str::to_owned);
        Ok(match call.called_party.as_str() {
            // Remembered, so that a restarted handler knows where the caller is.
            number @ ("ivr" | "voicemail" | "echo") => Route::ivr().remember(format!("\"{number}\"")),
            "bridge" => self.connect(&call.info.session_id).unwrap_or_else(|| Route::drop("notFound")),
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

    /// One of two is left, or the callee could not be reached: the call is over, and an unanswered caller hears why.
    fn call_event(&mut self, event: &CallEvent) -> Result<Route> {
        Ok(Route::drop(event.failure().unwrap_or(603)))
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
            Some('3') => match self.connect(&request.info.session_id) {
                Some(route) => Ivr::route(route),
                None => self.choose(Ivr::play("no-destination.wav")),
            },
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

    /// To where the caller wants to be connected. Which addresses the node calls at all is up to the operator.
    fn connect(&self, session_id: &str) -> Option<Route> {
        let destination = self.destination.as_deref()?;
        Some(Route::call(destination).ring_for(Duration::from_secs(30)).record(format!("bridge-{session_id}.wav")))
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
    use hookswitch_sdk::types::Routing;

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
    fn three_connects_to_the_address_in_the_header() {
        let mut call = Call::from("alice").to("ivr").header("X-Dest", "sip:bob@127.0.0.1:5070").dial::<Menu>();
        call.press("3");
        call.wait();
        call.assert_routed("call sip:bob@127.0.0.1:5070");
        call.callee_hangs_up();
        call.assert_ended("calledPartyHangup");
        let mut call = dial("ivr");
        call.press("3");
        call.assert_plays(&["no-destination.wav", "welcome-menu.wav"]);
    }

    #[test]
    fn bridge_connects_at_once_and_records_both() {
        let mut call = Call::from("alice").to("bridge").header("X-Dest", "sip:bob@127.0.0.1").dial::<Menu>();
        let Some(Routing::Call(route)) = call.routing() else { panic!("{}", call.ladder()) };
        assert_eq!((route.call_recording, route.recording_file_name.as_deref()), (true, Some("bridge-session-1.wav")));
        call.callee_fails(486);
        call.assert_refused(486);
        dial("bridge").assert_refused(404);
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
