//! Answers, plays a greeting, says back whether a key was pressed, and hangs up. Begin at `new_call`.

use hookswitch_sdk::{CallEvent, Handler, Ivr, IvrRequest, NewCall, Result, Route, log};

/// One value of this lives as long as one call.
#[derive(Default)]
struct Greeter {
    greeted: bool,
}

impl Handler for Greeter {
    /// A call comes in.
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        log::info!("call from {} to {}", call.calling_party, call.called_party);
        Ok(Route::ivr())
    }

    /// The call is up, or the command before has ended.
    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        if !self.greeted {
            self.greeted = true;
            return Ok(Ivr::play("greeting.wav").barge_in_all().collect(1).timeout_s(5));
        }
        Ok(match request.digit() {
            Some(_) => Ivr::play("thanks.wav").then_hangup(),
            None => Ivr::play("goodbye.wav").then_hangup(),
        })
    }

    /// Another party of the call left; only calls that this handler connected have one.
    fn call_event(&mut self, _event: &CallEvent) -> Result<Route> {
        Ok(Route::drop("decline"))
    }
}

hookswitch_sdk::export!(Greeter);

#[cfg(test)]
mod tests {
    use super::Greeter;
    use hookswitch_sdk::testing::Call;

    #[test]
    fn a_key_is_thanked_for() {
        let mut call = Call::from("alice").to("anything").dial::<Greeter>();
        call.assert_plays(&["greeting.wav"]);
        call.press("5");
        call.assert_plays(&["thanks.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
    }

    #[test]
    fn silence_is_not() {
        let mut call = Call::from("alice").to("anything").dial::<Greeter>();
        call.wait();
        call.assert_plays(&["goodbye.wav"]);
    }
}
