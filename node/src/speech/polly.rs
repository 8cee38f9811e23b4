//! Amazon Polly's SynthesizeSpeech: the phrase's parameters go there as they are, but for the form of the audio, which is ours to choose.

use super::sigv4::{Key, Signed, authorization};
use super::{text_of, wav_of};
use crate::api::rfc3339;
use crate::outbox::{Fetcher, Service};
use crate::store::wall_ms;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// What it takes of a phrase. `OutputFormat` and `SampleRate` are ours.
const FIELDS: [&str; 6] = ["Engine", "LanguageCode", "LexiconNames", "Text", "TextType", "VoiceId"];
/// The better of the two rates that it has for PCM.
const RATE: u32 = 16_000;
const PATH: &str = "/v1/speech";

pub async fn say(fetcher: &Fetcher, place: &str, region: &str, key: &Key, parameters: &str) -> Result<Vec<u8>, String> {
    let body = body(parameters)?;
    let service = Service::at(&format!("{place}{PATH}"))?;
    let headers = signed(&service, region, key, &body, &amz_date(wall_ms()))?;
    let answer = service.ask(fetcher, headers, body).await?;
    match answer.status {
        200 if answer.body.is_empty() => Err("polly: no audio came".into()),
        200 => Ok(wav_of(&answer.body, RATE)),
        status => Err(format!("polly: {status} {}", error_name(&answer.headers))),
    }
}

fn body(parameters: &str) -> Result<Vec<u8>, String> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(parameters) else { return Err("parameters: no JSON object".into()) };
    text_of("Text", fields.get("Text"))?;
    if !fields.get("VoiceId").is_some_and(Value::is_string) {
        return Err("parameters: VoiceId is missing".into());
    }
    fields.retain(|name, _| FIELDS.contains(&name.as_str()));
    fields.insert("OutputFormat".into(), "pcm".into());
    fields.insert("SampleRate".into(), RATE.to_string().into());
    Ok(Value::Object(fields).to_string().into_bytes())
}

fn signed(service: &Service, region: &str, key: &Key, body: &[u8], date: &str) -> Result<HeaderMap, String> {
    let text = |value: &str| HeaderValue::from_str(value).map_err(|_| "polly: a header cannot be made".to_owned());
    let mut headers = HeaderMap::new();
    headers.insert(HOST, text(service.authority())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("x-amz-date"), text(date)?);
    let request = Signed { method: "POST", path: PATH, query: "", headers: &headers, body, date, region, service: "polly" };
    let mut secret = text(&authorization(key, &request))?;
    secret.set_sensitive(true);
    // The client says it by itself.
    headers.remove(HOST);
    headers.insert(AUTHORIZATION, secret);
    Ok(headers)
}

/// Its kind alone: the message may repeat what was sent.
fn error_name(headers: &HeaderMap) -> String {
    let name = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default();
    name.chars().take_while(char::is_ascii_alphanumeric).take(64).collect()
}

/// `20150830T123600Z`
fn amz_date(ms: u64) -> String {
    let whole = rfc3339(ms);
    whole.split('.').next().unwrap_or_default().replace(['-', ':'], "") + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_242_dates_are_as_aws_wants_them() {
        assert_eq!(amz_date(1_440_938_160_999), "20150830T123600Z");
        assert_eq!(amz_date(0), "19700101T000000Z");
    }

    #[test]
    fn ic_242_the_request_is_pollys_and_its_form_is_ours() {
        let sent =
            body(r#"{"Text":"Hi","VoiceId":"Astrid","Engine":"neural","OutputFormat":"mp3","SampleRate":"8000","X":1}"#).expect("good");
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        let expected =
            serde_json::json!({ "Text": "Hi", "VoiceId": "Astrid", "Engine": "neural", "OutputFormat": "pcm", "SampleRate": "16000" });
        assert_eq!(sent, expected);
        for (wrong, why) in [(r#"{"VoiceId":"x"}"#, "Text"), (r#"{"Text":"x"}"#, "VoiceId"), ("[]", "object")] {
            assert!(body(wrong).is_err_and(|e| e.contains(why)), "{wrong}");
        }
    }
}
