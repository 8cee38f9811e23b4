//! For the bench: connects the caller with the SIP URI in header `X-Dest`. Number `relay` does nothing else, `relay-recorded` records both
//! sides.

use hookswitch_sdk::{Handler, NewCall, Result, Route};

#[derive(Default)]
pub struct Relay;

impl Handler for Relay {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        let Some(destination) = call.header("X-Dest") else { return Ok(Route::drop("notFound")) };
        Ok(match call.called_party.as_str() {
            "relay" => Route::call(destination),
            "relay-recorded" => Route::call(destination).record(format!("relay-{}.wav", call.info.session_id)),
            _ => Route::drop("notFound"),
        })
    }
}

hookswitch_sdk::export!(Relay);

#[cfg(test)]
mod tests {
    use super::Relay;
    use hookswitch_sdk::testing::Call;

    #[test]
    fn the_header_says_who_is_called() {
        for number in ["relay", "relay-recorded"] {
            let mut call = Call::from("alice").to(number).header("X-Dest", "sip:bob@127.0.0.1:5070").dial::<Relay>();
            call.assert_routed("call sip:bob@127.0.0.1:5070");
            call.hang_up();
            call.assert_ended("callingPartyHangup");
        }
    }

    #[test]
    fn without_it_nobody_is() {
        Call::from("alice").to("relay").dial::<Relay>().assert_refused(404);
    }
}
