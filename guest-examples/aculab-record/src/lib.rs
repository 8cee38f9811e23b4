//! Aculab Cloud's `record` action as a step of a call: the caller is recorded by that vendor's defaults, and the page that follows (header
//! `X-Next-Page`) is posted with the action's result. What the result says decides what is played. After its last action the call is hung up
//! and the final page (header `X-Final-Page`) is posted.
//!
//! A page's answer would be the next list of actions. A handler posts and hears only whether it arrived, so the list is this program.

use hookswitch_sdk::types::{RecordingDialect, RecordingResult, StopReason};
use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log, outbox};

#[derive(Default)]
struct AculabRecord {
    next_page: Option<String>,
    final_page: Option<String>,
    call: ThisCall,
    recorded: bool,
    /// The last action and its result, as JSON.
    last_action: Option<String>,
}

/// What every page hears of the call (AC-035).
#[derive(Default)]
struct ThisCall {
    session_id: String,
    participant_id: String,
    from: String,
    to: String,
}

/// AC-025 to AC-032.
fn reason(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::StopDigit => "bargein",
        StopReason::MaxDuration => "duration",
        StopReason::MaxSilence | StopReason::InitialSilence => "silence",
        StopReason::ApiStop | StopReason::Superseded => "aborted",
        StopReason::RemoteHangup => "hangup",
        StopReason::FileSize => "filesize",
        StopReason::MediaTimeout | StopReason::StorageError | StopReason::BeepFailed => "error",
        _ => "other",
    }
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out + "\""
}

/// What the record action gave (AC-034).
fn action_result(result: &RecordingResult) -> String {
    // Whole numbers: what prints fractions would be a third of this component.
    let tenths = (result.duration_ms + 50) / 100;
    let digit = result.stop_digit.map(|digit| format!(",\"barge_in_digit\":\"{digit}\"")).unwrap_or_default();
    format!(
        "{{\"action\":\"record\",\"result\":{{\"id\":{},\"filename\":{},\"file_available\":false,\"contains_sound\":{},\
         \"seconds_duration\":{}.{},\"reason\":\"{}\"{digit}}}}}",
        quoted(result.client_context.as_deref().unwrap_or("")),
        quoted(&result.file_name),
        result.contains_sound,
        tenths / 10,
        tenths % 10,
        reason(&result.stop_reason),
    )
}

impl AculabRecord {
    /// AC-035: what every page request carries.
    fn instance_info(&self) -> String {
        let ThisCall { session_id, participant_id, from, to } = &self.call;
        format!(
            "{{\"application_instance_id\":{},\"application_parameters\":\"\",\"token\":\"\",\"log_filename\":\"\",\"this_call\":\
             {{\"call_id\":{},\"call_from\":{},\"call_to\":{}}},\"is_notification\":false,\"action_result\":{}}}",
            quoted(session_id),
            quoted(participant_id),
            quoted(from),
            quoted(to),
            self.last_action.as_deref().unwrap_or("null"),
        )
    }

    /// AC-002: the page is told, also after a hang-up (AC-032).
    fn tell(&mut self, result: &RecordingResult) -> Result<()> {
        if let Some(url) = self.next_page.take() {
            self.last_action = Some(action_result(result));
            self.request(&url)?;
        }
        Ok(())
    }

    /// A page request (AC-004).
    fn request(&self, url: &str) -> Result<()> {
        outbox::post_json(url, self.instance_info())?;
        Ok(())
    }
}

impl Handler for AculabRecord {
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        self.next_page = call.header("x-next-page").map(str::to_owned);
        self.final_page = call.header("x-final-page").map(str::to_owned);
        self.call = ThisCall {
            session_id: call.info.session_id.clone(),
            participant_id: call.participant_id.clone(),
            from: call.calling_party.clone(),
            to: call.called_party.clone(),
        };
        Ok(Route::ivr())
    }

    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        if let Some(result) = &request.recording {
            self.tell(result)?;
            return Ok(Ivr::play(if result.contains_sound { "thanks.wav" } else { "goodbye.wav" }).then_hangup());
        }
        if std::mem::replace(&mut self.recorded, true) {
            return Ok(Ivr::hangup());
        }
        // The vendor's limits, as the node would fill them in: said here, they hold in the test harness too.
        let record = Ivr::record(format!("record-{}.wav", request.info.session_id));
        let record = record.stop_on("#").max_s(60).max_silence_s(3).initial_silence_s(3).with_recording(|options| {
            options.dialect = Some(RecordingDialect::Aculab);
            options.client_context = Some("message".into());
        });
        Ok(record.recorded_callback())
    }

    fn notify(&mut self, news: &Notification) {
        let told = match news {
            Notification::RecordingReady(ready) => {
                log::info!("{}: {}", ready.file_name, if ready.successful { "stored" } else { "lost" });
                ready.details.as_ref().map_or(Ok(()), |details| self.tell(details))
            }
            // AC-037: no action is left.
            Notification::SessionCompleted(_) => self.final_page.take().map_or(Ok(()), |url| self.request(&url)),
            _ => Ok(()),
        };
        if let Err(error) = told {
            log::warn!("a page could not be told: {error}");
        }
    }
}

hookswitch_sdk::export!(AculabRecord);

#[cfg(test)]
mod tests {
    use super::*;
    use hookswitch_sdk::testing::Call;

    const NEXT: &str = "https://app.example/next";

    #[test]
    fn ac_001_002_033_034_a_digit_ends_the_recording_and_the_page_hears_of_it() {
        let mut call = Call::from("alice").header("X-Next-Page", NEXT).dial::<AculabRecord>();
        call.assert_records();
        let phrases = &call.command().phrases;
        assert!(matches!(&phrases[0], hookswitch_sdk::types::Phrase::Record(o) if matches!(o.dialect, Some(RecordingDialect::Aculab))));
        call.speak_s(4);
        call.press("#");
        call.assert_plays(&["thanks.wav"]);
        let posts = call.posts();
        assert_eq!(posts.iter().map(|p| p.url.as_str()).collect::<Vec<_>>(), [NEXT]);
        let body = String::from_utf8(posts[0].body.clone()).expect("text");
        for part in ["\"action\":\"record\"", "\"contains_sound\":true", "\"reason\":\"bargein\"", "\"barge_in_digit\":\"#\""] {
            assert!(body.contains(part), "{part}: {body}");
        }
    }

    #[test]
    fn ac_035_037_after_the_last_action_the_call_is_hung_up_and_the_final_page_hears_of_it() {
        let final_page = "https://app.example/final";
        let mut call = Call::from("alice").header("X-Next-Page", NEXT).header("X-Final-Page", final_page).dial::<AculabRecord>();
        call.speak_s(4);
        call.press("#");
        call.assert_plays(&["thanks.wav"]);
        call.wait();
        call.assert_ended("ivrHangup");
        let posts = call.posts();
        assert_eq!(posts.iter().map(|p| p.url.as_str()).collect::<Vec<_>>(), [NEXT, final_page]);
        for post in posts {
            let body = String::from_utf8(post.body.clone()).expect("text");
            for part in [
                "\"application_instance_id\":\"",
                "\"application_parameters\":\"\"",
                "\"token\":\"\"",
                "\"log_filename\":\"\"",
                "\"this_call\":{\"call_id\":\"",
                "\"call_from\":\"alice\"",
                "\"is_notification\":false",
                "\"action_result\":{\"action\":\"record\"",
            ] {
                assert!(body.contains(part), "{part}: {body}");
            }
        }
        // The pages' answers are not read: what they say changes nothing, and the list stays the program's.
        assert!(call.orders().is_empty());
    }

    #[test]
    fn ac_032_who_hangs_up_is_told_all_the_same() {
        let mut call = Call::from("alice").header("X-Next-Page", NEXT).dial::<AculabRecord>();
        call.speak_s(2);
        call.hang_up();
        assert!(call.log().iter().any(|line| line.contains("stored")), "{:?}", call.log());
        assert_eq!(call.posts().len(), 1);
    }

    #[test]
    fn ac_025_026_027_028_029_030_031_032_reasons_are_the_vendors() {
        for (ours, theirs) in [
            (StopReason::StopDigit, "bargein"),
            (StopReason::MaxDuration, "duration"),
            (StopReason::MaxSilence, "silence"),
            (StopReason::InitialSilence, "silence"),
            (StopReason::ApiStop, "aborted"),
            (StopReason::FileSize, "filesize"),
            (StopReason::RemoteHangup, "hangup"),
            (StopReason::MediaTimeout, "error"),
            (StopReason::Transfer, "other"),
        ] {
            assert_eq!(reason(&ours), theirs);
        }
        assert_eq!(quoted("a\"b\\c\n"), "\"a\\\"b\\\\c?\"");
    }
}
