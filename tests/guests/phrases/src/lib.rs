//! A handler for the end-to-end tests and the bench: by the number that is called it plays what is fetched, spoken or put together, something in the
//! background, or asks for a PIN that it does not want to see. It writes down what it is told.

use hookswitch_sdk::types::DigitProtection;
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, Tone, config, log};

#[derive(Default)]
pub struct Phrases {
    number: String,
    asked: u32,
}

impl Handler for Phrases {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.number.clone_from(&call.called_party);
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        self.asked += 1;
        let session = &request.info.session_id;
        let base = config::get_or("url", "http://127.0.0.1:1/");
        Ok(match (self.number.as_str(), self.asked) {
            ("fetched", 1) => Ivr::play_url(format!("{base}hello.wav?sig=SECRET-SIGNATURE")).keep_as("fetched.wav").then_hangup(),
            ("file", 1) => Ivr::play("hello.wav").then_hangup(),
            ("new-url", 1) => Ivr::play_url(format!("{base}slow.wav?{session}")).then_hangup(),
            ("new-tts", 1) => Ivr::speak(&format!("Your session is {session}."), "en-GB").then_hangup(),
            ("late", 1) => Ivr::play_url(format!("{base}slow.wav")).then_tone(Tone::hz([880.0]).for_ms(500)).then_hangup(),
            ("spoken", 1) => Ivr::speak("You have three new messages, and one old message.", "en-GB").then_hangup(),
            ("said", 1) => Ivr::say("number", "1,234", "en").then_hangup(),
            ("background", 1) => Ivr::new().background("hum.wav").next_after_s(2),
            ("background", 2) => Ivr::tone(Tone::hz([880.0]).for_ms(2000)),
            ("background", 3) => Ivr::record("message.wav").max_s(2),
            ("background", 4) => Ivr::silence_ms(1000).stop_background().then_hangup(),
            ("pin", 1) => Ivr::silence_ms(100).collect_until("#").protect(DigitProtection::HmacSha256("pepper".into())),
            ("pin", 2) => {
                log::info!("told {} of {:?}", request.digits(), request.dtmf_buffer);
                Ivr::hangup()
            }
            _ => Ivr::hangup(),
        })
    }

    fn notify(&mut self, news: &Notification) {
        if let Notification::Alarm(alarm) = news {
            log::info!("alarm {}: {}", alarm.error, alarm.details.as_deref().unwrap_or_default());
        }
    }
}

hookswitch_sdk::export!(Phrases);
