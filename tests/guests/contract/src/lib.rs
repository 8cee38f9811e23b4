//! A handler for the contract of adapters: each called number is one program of `hookswitch_call::contract`, word for word, so that the
//! ladders of a WebAssembly guest can be held against those of a script and of built-in rules.

use hookswitch_sdk::types::{Phrase, RecordingOptions};
use hookswitch_sdk::{Failure, Handler, Ivr, IvrRequest, NewCall, Result, Route};

#[derive(Default)]
pub struct Contract {
    called: String,
}

impl Handler for Contract {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.called.clone_from(&call.called_party);
        match self.called.as_str() {
            "busy" => Ok(Route::drop("busy")),
            "redirect" => Ok(Route::redirect(["sip:bob@192.0.2.50"])),
            "unknown-action" => Ok(Route::ext("mixer", "{}")),
            "no-action" => Ok(Route::ext("", "{}")),
            "refuses" => Err(Failure::new("not today")),
            "traps" => panic!("always"),
            "traps-once" if !call.info.restarted => panic!("once"),
            "traps-once" => Ok(Route::ivr().remember("\"again\"")),
            "menu" => Ok(Route::ivr().remember("{\"step\":1}")),
            _ => Ok(Route::ivr()),
        }
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        // A restarted handler was not asked about the call: this number traps in the IVR alone.
        match self.called.as_str() {
            "menu" if request.dtmf_params.is_some() && request.digits() == "1" => Ok(Ivr::play("hello.wav").then_hangup()),
            "menu" => Ok(Ivr::play("menu.wav").barge_in_all().collect(1).timeout_s(5).remember("{\"step\":2}")),
            "voicemail" if request.recording.is_some() => Ok(Ivr::hangup()),
            "voicemail" => {
                let options = RecordingOptions {
                    beep: true,
                    max_duration_ms: Some(10_000),
                    stop_digits: Some("#".into()),
                    ..RecordingOptions::default()
                };
                Ok(Ivr::play("hello.wav").then(Phrase::Record(options)).recorded_callback())
            }
            "ivr-traps" | "" => panic!("in the IVR"),
            "idles" => Ok(Ivr::new()),
            _ => Ok(Ivr::play("hello.wav").then_hangup()),
        }
    }
}

hookswitch_sdk::export!(Contract);
