//! The limits that the node sets an answer (`wit/types.wit`), so that a test fails where a call would.

use crate::types::{AudioSource, Background, Collect, DropCode, IvrCommand, OutboundCall, Phrase, RecordingOptions, Routing, TonePhrase};

type Check = Result<(), String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(why()) }
}

fn session_reference(text: Option<&String>) -> Check {
    ensure(text.is_none_or(|text| text.len() <= 4096), || "session-reference: more than 4096 bytes".into())
}

fn file_name(name: &str) -> Check {
    let bad =
        name.is_empty() || name.len() > 255 || name.contains(['/', '\\']) || name.contains("..") || name.chars().any(char::is_control);
    ensure(!bad, || format!("file-name: `{name}` is none"))
}

fn keys(field: &str, keys: &str) -> Check {
    let digit = |key: char| key.is_ascii_digit() || matches!(key.to_ascii_uppercase(), '*' | '#' | 'A'..='D');
    match keys.chars().find(|key| !digit(*key)) {
        None => Ok(()),
        Some(key) => Err(format!("{field}: `{key}` is no key")),
    }
}

fn at_most(field: &str, ms: Option<u32>, most: u32) -> Check {
    ensure(ms.is_none_or(|ms| ms <= most), || format!("{field}: more than {most}"))
}

const WAIT_MS: u32 = 600_000;

pub(super) fn routing(routing: &Routing) -> Check {
    match routing {
        Routing::Drop(action) => {
            session_reference(action.session_reference.as_ref())?;
            match &action.drop_code {
                Some(DropCode::SipCode(code)) => ensure((400..=699).contains(code), || format!("drop-code: {code} is not 400 to 699")),
                Some(DropCode::Ext(ext)) => Err(format!("drop-code: `{}` is unknown", ext.name)),
                _ => Ok(()),
            }
        }
        Routing::Ivr(action) => session_reference(action.session_reference.as_ref()),
        Routing::Call(call) => outbound(call),
        Routing::Join(action) => {
            session_reference(action.session_reference.as_ref())?;
            ensure(!action.participant_id.is_empty(), || "participant-id: empty".into())
        }
        Routing::Httpcall(action) => {
            session_reference(action.session_reference.as_ref())?;
            ensure(action.endpoint.receive_ip.parse::<std::net::IpAddr>().is_ok(), || "receive-ip: no address".into())?;
            ensure(action.endpoint.receive_port >= 1024, || "receive-port: below 1024".into())?;
            ensure(matches!(action.endpoint.codec.as_str(), "PCMU" | "PCMA" | "GSM"), || "codec: not PCMU, PCMA or GSM".into())
        }
        Routing::Redirect(action) => {
            session_reference(action.session_reference.as_ref())?;
            ensure((300..=302).contains(&action.status), || "status: not 300 to 302".into())?;
            ensure((1..=16).contains(&action.contacts.len()), || "contacts: not 1 to 16".into())
        }
        Routing::Ext(_) => Ok(()),
    }
}

fn outbound(call: &OutboundCall) -> Check {
    session_reference(call.session_reference.as_ref())?;
    let sip = call.dest_addr.starts_with("sip:") || call.dest_addr.starts_with("sips:");
    ensure(sip, || format!("dest-addr: `{}` is no SIP URI", call.dest_addr))?;
    let ring = call.max_ring_time_ms.unwrap_or(60_000);
    ensure((1000..=300_000).contains(&ring), || "max-ring-time-ms: not 1000 to 300000".into())?;
    call.recording_file_name.as_deref().map_or(Ok(()), file_name)?;
    for phrases in call.greeting.iter().flat_map(|greeting| [&greeting.caller, &greeting.callee]) {
        ensure(phrases.len() <= 64, || "greeting: more than 64 phrases".into())?;
        let sounds = phrases.iter().all(|phrase| !matches!(phrase, Phrase::Record(_) | Phrase::Echo(_)));
        ensure(sounds, || "greeting: only sounds can be played".into())?;
        phrases.iter().try_for_each(phrase)?;
    }
    call.recording.as_ref().map_or(Ok(()), recording)
}

pub(super) fn command(command: &IvrCommand) -> Check {
    session_reference(command.session_reference.as_ref())?;
    ensure(command.phrases.len() <= 64, || "phrases: more than 64".into())?;
    command.phrases.iter().try_for_each(phrase)?;
    command.dtmf.as_ref().map_or(Ok(()), collect)?;
    at_most("next-after-ms", Some(command.next_after_ms), WAIT_MS)?;
    if let Some(Background::Play(prompt)) = &command.background {
        at_most("repeat-pause-ms", Some(prompt.repeat_pause_ms), WAIT_MS)?;
        match &prompt.source {
            AudioSource::File(name) => file_name(name)?,
            AudioSource::Url(url) => web_address(url)?,
            AudioSource::Ext(_) => {}
        }
    }
    command.routing.as_ref().map_or(Ok(()), routing)
}

fn phrase(phrase: &Phrase) -> Check {
    match phrase {
        Phrase::File(file) => file_name(&file.file_name),
        Phrase::Silence(ms) => at_most("silence", Some(*ms), WAIT_MS),
        Phrase::Echo(ms) => at_most("echo", Some(*ms), WAIT_MS),
        Phrase::Tone(wanted) => tone(wanted),
        Phrase::Record(options) => recording(options),
        Phrase::Url(url) => {
            web_address(&url.url)?;
            url.file_name.as_deref().map_or(Ok(()), file_name)
        }
        Phrase::Tts(tts) => {
            ensure(["local", "awstts", "googletts"].contains(&tts.engine.as_str()), || "engine: not local, awstts or googletts".into())?;
            ensure(tts.parameters.len() <= 8192, || "parameters: more than 8192 bytes".into())?;
            tts.file_name.as_deref().map_or(Ok(()), file_name)
        }
        Phrase::Say(say) => ensure(say.value.len() <= 128, || "value: more than 128 bytes".into()),
        Phrase::Ext(_) => Ok(()),
    }
}

fn web_address(url: &str) -> Check {
    ensure(url.len() <= 2048, || "url: more than 2048 bytes".into())?;
    ensure(url.starts_with("https://") || url.starts_with("http://"), || format!("url: `{url}` is neither https nor http"))
}

fn tone(tone: &TonePhrase) -> Check {
    ensure((1..=4).contains(&tone.hz.len()), || "hz: not 1 to 4 frequencies".into())?;
    ensure(tone.hz.iter().all(|hz| (50.0..=3600.0).contains(hz)), || "hz: not 50 to 3600".into())?;
    ensure((-60.0..=0.0).contains(&tone.level_dbm0), || "level-dbm0: not -60 to 0".into())?;
    ensure((10..=60_000).contains(&tone.on_ms), || "on-ms: not 10 to 60000".into())?;
    at_most("off-ms", Some(tone.off_ms), 60_000)?;
    ensure((10..=WAIT_MS).contains(&tone.total_ms), || "total-ms: not 10 to 600000".into())
}

fn recording(options: &RecordingOptions) -> Check {
    options.file_name.as_deref().map_or(Ok(()), file_name)?;
    ensure(options.control_id.as_ref().is_none_or(|id| (1..=128).contains(&id.len())), || "control-id: not 1 to 128 bytes".into())?;
    let context = options.client_context.as_deref().unwrap_or_default();
    ensure(context.chars().count() <= 256, || "client-context: more than 256 characters".into())?;
    keys("stop-digits", options.stop_digits.as_deref().unwrap_or_default())?;
    ensure(options.sensitivity.is_none_or(|percent| percent <= 100), || "sensitivity: more than 100".into())
}

fn collect(collect: &Collect) -> Check {
    ensure(collect.max_digits.is_none_or(|n| (1..=64).contains(&n)), || "max-digits: not 1 to 64".into())?;
    at_most("first-timeout-ms", collect.first_timeout_ms, WAIT_MS)?;
    at_most("between-timeout-ms", collect.between_timeout_ms, WAIT_MS)?;
    keys("termination-keys", &collect.termination_keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TonePhrase;
    use crate::{Ivr, Route};

    #[test]
    fn impossible_answers_name_their_field() {
        let routes = [
            (Route::drop("soon"), "drop-code"),
            (Route::drop(200), "drop-code"),
            (Route::call("bob"), "dest-addr"),
            (Route::call("sip:a@b").max_ring_s(301), "max-ring-time-ms"),
            (Route::redirect::<String>([]), "contacts"),
            (Route::http_call("nowhere", 4000, "PCMU"), "receive-ip"),
            (Route::ivr().remember("x".repeat(4097)), "session-reference"),
        ];
        for (route, field) in routes {
            assert!(routing(route.as_routing()).is_err_and(|why| why.starts_with(field)), "{route}");
        }
        let commands = [
            (Ivr::play("../etc/passwd"), "file-name"),
            (Ivr::record("a.wav").stop_on("x"), "stop-digits"),
            (Ivr::play("a").collect(65), "max-digits"),
            (Ivr::play("a").collect_until("E"), "termination-keys"),
            (Ivr::play("a").collect(1).timeout_s(601), "first-timeout-ms"),
            (Ivr::tone(TonePhrase::hz([])), "hz"),
            (Ivr::tone(TonePhrase::hz([425.0]).level_dbm0(3.0)), "level-dbm0"),
            (Ivr::echo_s(601), "echo"),
        ];
        for (ivr, field) in commands {
            assert!(command(ivr.as_command()).is_err_and(|why| why.starts_with(field)), "{ivr}");
        }
    }

    #[test]
    fn usual_answers_pass() {
        for route in [Route::drop("busy"), Route::ivr(), Route::call("sip:a@b"), Route::redirect(["sip:c@d"]), Route::ext("x", "{}")] {
            assert_eq!(routing(route.as_routing()), Ok(()), "{route}");
        }
        for ivr in [Ivr::new(), Ivr::play("a.wav").collect(64).terminate_on("*#AD"), Ivr::tone(TonePhrase::hz([697.0, 1209.0]))] {
            assert_eq!(command(ivr.as_command()), Ok(()), "{ivr}");
        }
    }
}
