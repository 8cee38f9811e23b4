//! Google's text:synthesize: the phrase's parameters go there as they are, but for the form of the audio, which is ours to choose.

use super::{text_of, wav_of};
use crate::outbox::{Fetcher, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

const RATE: u32 = 16_000;

pub async fn say(fetcher: &Fetcher, place: &str, key: &str, parameters: &str) -> Result<Vec<u8>, String> {
    let body = body(parameters)?;
    let service = Service::at(&format!("{place}/v1/text:synthesize"))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut secret = HeaderValue::from_str(key).map_err(|_| "google: the key is none".to_owned())?;
    secret.set_sensitive(true);
    headers.insert(HeaderName::from_static("x-goog-api-key"), secret);
    let answer = service.ask(fetcher, headers, body).await?;
    if answer.status != 200 {
        return Err(format!("google: {} {}", answer.status, error_name(&answer.body)));
    }
    let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| "google: no JSON came".to_owned())?;
    let audio = answer.get("audioContent").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    match audio {
        // With its header, as the documentation says; without, as some of its voices have been heard.
        Some(audio) if audio.starts_with(b"RIFF") => Ok(audio),
        Some(audio) if !audio.is_empty() => Ok(wav_of(&audio, RATE)),
        _ => Err("google: no audio came".into()),
    }
}

fn body(parameters: &str) -> Result<Vec<u8>, String> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(parameters) else { return Err("parameters: no JSON object".into()) };
    let ssml = fields.get("input").and_then(|input| input.get("ssml"));
    let (name, text) = match ssml {
        Some(text) => ("input.ssml", Some(text)),
        None => ("input.text", fields.get("input").and_then(|input| input.get("text"))),
    };
    text_of(name, text)?;
    if !fields.get("voice").is_some_and(Value::is_object) {
        return Err("parameters: voice is missing".into());
    }
    fields.retain(|name, _| matches!(name.as_str(), "input" | "voice" | "audioConfig"));
    let config = fields.entry("audioConfig").or_insert_with(|| json!({}));
    if !config.is_object() {
        return Err("parameters: audioConfig: no object".into());
    }
    config["audioEncoding"] = "LINEAR16".into();
    config["sampleRateHertz"] = RATE.into();
    Ok(Value::Object(fields).to_string().into_bytes())
}

/// Its kind alone (`PERMISSION_DENIED`): the message may repeat what was sent.
fn error_name(body: &[u8]) -> String {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = error.pointer("/error/status").and_then(Value::as_str).unwrap_or_default();
    name.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_243_the_request_is_googles_and_its_form_is_ours() {
        let sent =
            body(r#"{"input":{"text":"Hi"},"voice":{"languageCode":"sv-SE"},"audioConfig":{"audioEncoding":"MP3","pitch":2},"x":1}"#);
        let sent: Value = serde_json::from_slice(&sent.expect("good")).expect("JSON");
        let config = json!({ "audioEncoding": "LINEAR16", "pitch": 2, "sampleRateHertz": 16_000 });
        assert_eq!(sent, json!({ "input": { "text": "Hi" }, "voice": { "languageCode": "sv-SE" }, "audioConfig": config }));
        for (wrong, why) in [
            (r#"{"voice":{}}"#, "input.text"),
            (r#"{"input":{"ssml":""},"voice":{}}"#, "input.ssml"),
            (r#"{"input":{"text":"x"}}"#, "voice"),
            (r#"{"input":{"text":"x"},"voice":{},"audioConfig":1}"#, "audioConfig"),
        ] {
            assert!(body(wrong).is_err_and(|e| e.contains(why)), "{wrong}");
        }
    }
}
