//! The clouds as local servers that answer as theirs do: what they are sent, and what becomes of what they say.

use super::*;
use crate::outbox::Policy;
#[cfg(any(feature = "polly", feature = "google"))]
use crate::prompt::decode;
#[cfg(any(feature = "polly", feature = "google"))]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
#[cfg(any(feature = "polly", feature = "google"))]
use std::net::TcpListener;
#[cfg(any(feature = "polly", feature = "google"))]
use std::thread::JoinHandle;
use tokio_rustls::rustls::RootCertStore;

struct Fake {
    settings: BTreeMap<String, String>,
    secrets: BTreeMap<&'static str, String>,
}

impl Tenants for Fake {
    fn settings(&self, _domain: &str) -> Later<BTreeMap<String, String>> {
        Box::pin(std::future::ready(Ok(self.settings.clone())))
    }
    fn secret(&self, _domain: &str, name: &'static str) -> Later<String> {
        Box::pin(std::future::ready(self.secrets.get(name).cloned().ok_or_else(|| format!("the tenant has no secret {name}"))))
    }
}

/// A request line, its headers in lower case, and its body.
#[cfg(any(feature = "polly", feature = "google"))]
type Asked = (String, BTreeMap<String, String>, Vec<u8>);

/// Answers so many requests, one each.
#[cfg(any(feature = "polly", feature = "google"))]
fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let answered = answers.into_iter().map(|answer| {
            let (stream, _) = listener.accept().expect("somebody asks");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let mut line = || {
                let mut text = String::new();
                reader.read_line(&mut text).expect("readable");
                text.trim_end().to_owned()
            };
            let first = line();
            let headers: BTreeMap<String, String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()))
                .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
                .collect();
            let mut body = vec![0; headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
            reader.read_exact(&mut body).expect("whole");
            (&stream).write_all(&answer).expect("written");
            (first, headers, body)
        });
        answered.collect()
    });
    (address, thread)
}

#[cfg(any(feature = "polly", feature = "google"))]
fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn speech(address: SocketAddr, settings: &[(&str, &str)], secrets: &[(&'static str, &str)]) -> Speech {
    let place = format!("http://{address}");
    let fake = Fake {
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        secrets: secrets.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
    };
    // No tenant may fetch from there: that is not what decides.
    let fetcher = Fetcher::new(Policy::default(), Some(RootCertStore::empty()));
    Speech::new(Engine::new(None), Arc::new(fake), fetcher, Places { polly: place.clone(), google: place })
}

fn say(speech: &Speech, kind: &str, parameters: &str) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let voice = speech.voice("a.example", kind, parameters).await?;
        speech.say("a.example", &voice, parameters).await
    })
}

const HI_POLLY: &str = r#"{"Text":"Hi 4711","VoiceId":"Joanna","OutputFormat":"mp3"}"#;
const HI_GOOGLE: &str = r#"{"input":{"text":"Hi 4711"},"voice":{"languageCode":"en-US"}}"#;

#[cfg(feature = "polly")]
#[test]
fn ic_242_polly_is_asked_with_a_signature_and_its_samples_become_audio() {
    let denied = br#"{"message":"The security token in Hi 4711 is invalid"}"#;
    let (address, thread) = server(vec![
        answer("200 OK", "Content-Type: audio/pcm\r\n", &[1, 0].repeat(16_000)),
        answer("403 Forbidden", "x-amzn-ErrorType: UnrecognizedClientException:http://x/\r\n", denied),
        answer("200 OK", "", b""),
    ]);
    let settings = [(AWSTTS, "polly"), (REGION, "eu-north-1")];
    let secrets = [(AWS_KEY_ID, "AKIDEXAMPLE"), (AWS_SECRET, "wJalrXUtnFEMI")];
    let speech = speech(address, &settings, &secrets);
    // A second at 16 kHz.
    let audio = say(&speech, "awstts", HI_POLLY).expect("spoken");
    assert_eq!(decode(&audio[..]).expect("a WAV file").pcmu.len(), 8000);
    let why = say(&speech, "awstts", HI_POLLY).expect_err("denied");
    assert_eq!(why, "polly: 403 UnrecognizedClientException");
    assert_eq!(say(&speech, "awstts", HI_POLLY).expect_err("empty"), "polly: no audio came");
    let asked = thread.join().expect("it answered");
    let (first, headers, body) = &asked[0];
    assert_eq!(first, "POST /v1/speech HTTP/1.1");
    let sent: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!((&sent["OutputFormat"], &sent["Text"]), (&Value::from("pcm"), &Value::from("Hi 4711")));
    // Whoever has the key comes to the same signature.
    let date = &headers["x-amz-date"];
    let mut signed = hyper::HeaderMap::new();
    for name in ["content-type", "host", "x-amz-date"] {
        signed.insert(hyper::header::HeaderName::from_static(name), headers[name].parse().expect("a value"));
    }
    let key = sigv4::Key { id: "AKIDEXAMPLE".into(), secret: "wJalrXUtnFEMI".into() };
    let request = sigv4::Signed {
        method: "POST",
        path: "/v1/speech",
        query: "",
        headers: &signed,
        body,
        date,
        region: "eu-north-1",
        service: "polly",
    };
    assert_eq!(headers["authorization"], sigv4::authorization(&key, &request));
    assert_eq!(headers["host"], address.to_string());
}

#[cfg(feature = "google")]
#[test]
fn ic_243_google_is_asked_with_the_tenants_key_and_its_answer_becomes_audio() {
    use base64::Engine as _;
    let text = |audio: &[u8]| base64::engine::general_purpose::STANDARD.encode(audio);
    let whole = wav_of(&[1, 0].repeat(16_000), 16_000);
    let answers = [text(&whole), text(&[1, 0].repeat(16_000)), String::new()];
    let mut all: Vec<Vec<u8>> =
        answers.iter().map(|audio| answer("200 OK", "", format!(r#"{{"audioContent":"{audio}"}}"#).as_bytes())).collect();
    let denied = br#"{"error":{"code":403,"message":"Hi 4711","status":"PERMISSION_DENIED"}}"#;
    all.push(answer("403 Forbidden", "", denied));
    let (address, thread) = server(all);
    let speech = speech(address, &[(GOOGLETTS, "google")], &[(GOOGLE_KEY, "g-key")]);
    for _ in 0..2 {
        let audio = say(&speech, "googletts", HI_GOOGLE).expect("spoken");
        assert_eq!(decode(&audio[..]).expect("a WAV file").pcmu.len(), 8000);
    }
    assert_eq!(say(&speech, "googletts", HI_GOOGLE).expect_err("empty"), "google: no audio came");
    assert_eq!(say(&speech, "googletts", HI_GOOGLE).expect_err("denied"), "google: 403 PERMISSION_DENIED");
    let asked = thread.join().expect("it answered");
    let (first, headers, body) = &asked[0];
    assert_eq!((first.as_str(), headers["x-goog-api-key"].as_str()), ("POST /v1/text:synthesize HTTP/1.1", "g-key"));
    let sent: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(sent["audioConfig"]["audioEncoding"], "LINEAR16");
}

#[test]
fn ic_242_243_who_speaks_is_the_tenants_to_say_and_what_is_missing_is_named() {
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    for (settings, kind, parameters, why) in [
        // This machine, where nothing is said.
        (vec![], "awstts", HI_POLLY, "install espeak-ng"),
        (vec![(GOOGLETTS, "local")], "googletts", HI_GOOGLE, "install espeak-ng"),
        (vec![(AWSTTS, "azure")], "awstts", HI_POLLY, "speech.awstts: this node does not know azure"),
        (vec![(AWSTTS, "google")], "awstts", HI_POLLY, "does not know google"),
        #[cfg(feature = "polly")]
        (vec![(AWSTTS, "polly")], "awstts", HI_POLLY, "no setting speech.aws-region"),
        #[cfg(feature = "polly")]
        (vec![(AWSTTS, "polly"), (REGION, "eu.evil.example/")], "awstts", HI_POLLY, "no region of AWS"),
        #[cfg(feature = "polly")]
        (vec![(AWSTTS, "polly"), (REGION, "eu-north-1")], "awstts", HI_POLLY, "no secret speech.aws-access-key-id"),
        #[cfg(feature = "google")]
        (vec![(GOOGLETTS, "google")], "googletts", HI_GOOGLE, "no secret speech.google-api-key"),
        (vec![], "local", "[", "parameters: no JSON"),
        (vec![], "klingon", "{}", "engine"),
    ] {
        let failed = say(&speech(address, &settings, &[]), kind, parameters).expect_err(why);
        assert!(failed.contains(why) && !failed.contains("4711"), "{failed}");
    }
}
