//! The smallest handler: answers, plays a greeting, hangs up.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route};

#[derive(Default)]
struct Hello;

impl Handler for Hello {
    fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
        Ok(Ivr::play("greeting.wav").then_hangup())
    }
}

hookswitch_sdk::export!(Hello);

#[cfg(test)]
mod tests {
    use super::Hello;
    use hookswitch_sdk::testing::Call;

    #[test]
    fn greets_and_hangs_up() {
        let mut call = Call::from("alice").dial::<Hello>();
        call.assert_plays(&["greeting.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
    }

    #[test]
    fn a_key_changes_nothing() {
        let mut call = Call::from("alice").dial::<Hello>();
        call.press("1");
        call.assert_plays(&["greeting.wav"]);
    }
}
