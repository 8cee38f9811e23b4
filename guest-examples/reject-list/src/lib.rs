//! Refuses callers on a list; the others hear a greeting.
//!
//! The list is the tenant's setting `rejected`, so it changes without a new version: `+46700000001, +46700000002=busy`. A caller with `=busy`
//! is told that the line is busy, the others that the call is declined.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route, config, log};

/// For a tenant without the setting, so that there is something to try.
const EXAMPLE: &str = "spam, pest=busy, +46700000001";

#[derive(Default)]
struct RejectList;

impl Handler for RejectList {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        let list = config::get("rejected").unwrap_or_else(|| EXAMPLE.into());
        let Some(code) = rejected(&list, &call.calling_party) else { return Ok(Route::ivr()) };
        log::info!("{} is on the list", call.calling_party);
        Ok(Route::drop(code))
    }

    fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
        Ok(Ivr::play("greeting.wav").then_hangup())
    }
}

/// How the list wants this caller refused, if at all.
fn rejected<'a>(list: &'a str, caller: &str) -> Option<&'a str> {
    let entries = list.split(',').map(|entry| entry.split_once('=').unwrap_or((entry, "decline")));
    entries.map(|(number, code)| (number.trim(), code.trim())).find(|(number, _)| *number == caller).map(|(_, code)| code)
}

hookswitch_sdk::export!(RejectList);

#[cfg(test)]
mod tests {
    use super::{RejectList, rejected};
    use hookswitch_sdk::testing::Call;

    #[test]
    fn the_list_refuses_and_others_pass() {
        Call::from("spam").dial::<RejectList>().assert_refused(603);
        Call::from("pest").dial::<RejectList>().assert_refused(486);
        Call::from("alice").dial::<RejectList>().assert_plays(&["greeting.wav"]);
    }

    #[test]
    fn the_tenant_has_a_list_of_its_own() {
        let call = |caller| Call::from(caller).config("rejected", "alice = forbidden");
        call("alice").dial::<RejectList>().assert_refused(403);
        call("spam").dial::<RejectList>().assert_plays(&["greeting.wav"]);
    }

    #[test]
    fn entries_are_whole_numbers() {
        let cases = [("a, b=busy", "a", Some("decline")), ("a, b=busy", "b", Some("busy")), ("ab", "a", None), ("", "a", None)];
        for (list, caller, code) in cases {
            assert_eq!(rejected(list, caller), code, "{caller} in `{list}`");
        }
    }
}
