//! A handler for the end-to-end tests: the called number says how it (mis)behaves. Two builds of it differ in the tone that number
//! `tone` plays, as two versions of a customer's handler would.

use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route, Tone};

/// The frequency that this build plays.
const HZ: &str = match option_env!("HOOKSWITCH_TEST_HZ") {
    Some(hz) => hz,
    None => "440",
};

#[derive(Default)]
pub struct Moods {
    called: String,
    commands: u32,
}

/// Never ends, and the compiler must not find out.
fn spin() {
    let mut n = 1u64;
    while std::hint::black_box(n) != 0 {
        n = n.wrapping_mul(3) | 1;
    }
}

/// Takes memory until there is none.
fn hog() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

impl Handler for Moods {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.called.clone_from(&call.called_party);
        match self.called.as_str() {
            "loop" => spin(),
            "trap" => panic!("this handler gives up"),
            "hog" => hog(),
            // A call cannot be refused with a success.
            "nonsense" => return Ok(Route::drop(200)),
            "unknown-action" => return Ok(Route::ext("levitate", "{}")),
            _ => {}
        }
        Ok(Route::ivr().remember(format!("\"{}\"", self.called)))
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        self.commands += 1;
        // A restarted handler has forgotten its fields; the session has not.
        let called = request.info.session_reference.as_deref().unwrap_or_default().trim_matches('"');
        let hz = HZ.parse().unwrap_or(440.0);
        match (called, request.info.restarted) {
            ("trap-later", _) if self.commands > 1 => panic!("this handler gives up later"),
            ("trap-once", false) if self.commands > 1 => panic!("this handler gives up once"),
            ("loop-later", _) if self.commands > 1 => spin(),
            // After the restart another tone, so that one hears it.
            ("trap-once", true) => return Ok(Ivr::tone(Tone::hz([880.0]).for_ms(1000)).then_hangup()),
            _ => {}
        }
        Ok(Ivr::tone(Tone::hz([hz]).cadence_ms(1000, 0).for_ms(1000)))
    }
}

hookswitch_sdk::export!(Moods);
