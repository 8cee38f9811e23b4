//! For the bench: records the caller from the answer on. The called number is the format, `pcm16`, `alaw`, `mp3` or `opus`; `unrecorded` is
//! the same call without a recording.

use hookswitch_sdk::types::RecordingEncoding;
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log};

/// Longer than any call of the bench.
const MOST_S: u32 = 600;

#[derive(Default)]
pub struct Recorder {
    number: String,
}

impl Handler for Recorder {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.number = call.called_party.clone();
        Ok(match call.called_party.as_str() {
            "pcm16" | "alaw" | "mp3" | "opus" | "unrecorded" => Route::ivr(),
            _ => Route::drop("notFound"),
        })
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        let (extension, encoding) = match self.number.as_str() {
            "alaw" => ("wav", RecordingEncoding::Alaw),
            "mp3" => ("mp3", RecordingEncoding::Mp3),
            "opus" => ("ogg", RecordingEncoding::Opus),
            "pcm16" => ("wav", RecordingEncoding::Pcm16),
            _ => return Ok(Ivr::silence_ms(MOST_S * 1000)),
        };
        let file_name = format!("{}-{}.{extension}", self.number, request.info.session_id);
        Ok(Ivr::record(file_name).max_s(MOST_S).with_recording(|record| record.encoding = Some(encoding)).recorded_callback())
    }

    fn notify(&mut self, news: &Notification) {
        if let Notification::RecordingReady(recording) = news {
            log::info!("{} of {} bytes", recording.file_name, recording.file_size);
        }
    }
}

hookswitch_sdk::export!(Recorder);

#[cfg(test)]
mod tests {
    use super::Recorder;
    use hookswitch_sdk::testing::Call;
    use hookswitch_sdk::types::{Phrase, RecordingEncoding};

    #[test]
    fn the_number_is_the_format() {
        for (number, name, encoding) in [
            ("pcm16", "pcm16-session-1.wav", RecordingEncoding::Pcm16),
            ("alaw", "alaw-session-1.wav", RecordingEncoding::Alaw),
            ("mp3", "mp3-session-1.mp3", RecordingEncoding::Mp3),
            ("opus", "opus-session-1.ogg", RecordingEncoding::Opus),
        ] {
            let mut call = Call::from("alice").to(number).dial::<Recorder>();
            let [Phrase::Record(record)] = call.command().phrases.as_slice() else { panic!("{}", call.ladder()) };
            assert_eq!((record.file_name.as_deref(), record.encoding.as_ref()), (Some(name), Some(&encoding)));
            call.speak_s(3);
            call.hang_up();
            assert_eq!(call.log().len(), 1);
        }
    }

    #[test]
    fn unrecorded_is_the_same_call_without_a_recording() {
        let mut call = Call::from("alice").to("unrecorded").dial::<Recorder>();
        assert!(matches!(call.command().phrases.as_slice(), [Phrase::Silence(600_000)]));
        call.hang_up();
        assert_eq!(call.log().len(), 0);
        Call::from("alice").to("nobody").dial::<Recorder>().assert_refused(404);
    }
}
