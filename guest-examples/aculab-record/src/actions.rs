//! What a page answers: a list of actions. All of it is read before any of it is run, so that a caller never gets half of what was meant.

use hookswitch_sdk::types::{AesCbcKey, RecordingDialect, RecordingEncryption, RecordingOptions};
use serde_json::{Map, Value};

/// A page, and how it is requested (AC-003, AC-004).
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub url: String,
    pub by_get: bool,
}

#[derive(Debug)]
pub enum Action {
    Record { options: Box<RecordingOptions>, next_page: Option<Page> },
    Play { id: String, files: Vec<String>, next_page: Option<Page> },
    HangUp,
}

/// A page's answer (AC-037).
#[derive(Debug, Default)]
pub struct Answer {
    pub actions: Vec<Action>,
    /// Goes along with the pages that follow.
    pub token: Option<String>,
}

/// Why not, with the name of what is wrong.
type Read<T> = Result<T, String>;

impl Page {
    /// `from`: the page that names it, which a relative address begins at.
    pub fn of(url: &str, method: Option<&str>, from: Option<&Page>) -> Read<Page> {
        let by_get = match method {
            None | Some("POST") => false,
            Some("GET") => true,
            Some(_) => return Err("method: must be POST or GET".into()),
        };
        Ok(Page { url: absolute(url, from.map_or("", |page| &page.url)), by_get })
    }
}

/// RFC 3986 5.2, as far as pages of one application need it: a whole address, a path from the root, or a name in the same folder.
fn absolute(url: &str, from: &str) -> String {
    let place = from.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = place.split_once("://").filter(|_| !url.contains("://")) else { return url.to_owned() };
    let host = rest.split('/').next().unwrap_or_default();
    let folder = rest.rsplit_once('/').map_or(host, |(folder, _)| folder);
    match url.strip_prefix('/') {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{folder}/{url}"),
    }
}

/// The answer of the page `from`. Nothing is an empty list.
pub fn read(body: &[u8], from: &Page) -> Read<Answer> {
    if body.trim_ascii().is_empty() {
        return Ok(Answer::default());
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let list = answer["actions"].as_array().ok_or("actions: must be a list")?;
    let one = |(place, item): (usize, &Value)| action(item, from).map_err(|why| format!("actions[{place}]: {why}"));
    let actions = list.iter().enumerate().map(one).collect::<Read<_>>()?;
    Ok(Answer { actions, token: answer["token"].as_str().map(str::to_owned) })
}

/// `{"record": {…}}`: its name, and its properties.
fn action(item: &Value, from: &Page) -> Read<Action> {
    let named = item.as_object().filter(|members| members.len() == 1).and_then(|members| members.iter().next());
    let (name, properties) = named.ok_or("must be an object with the action's name as its one member")?;
    let empty = Map::new();
    let action = Properties { of: properties.as_object().unwrap_or(&empty) };
    match name.as_str() {
        "record" => record(&action, from),
        "play" => play(&action, from),
        "hang_up" | "hangup" => Ok(Action::HangUp),
        unknown => Err(format!("no action is called {unknown:?} here: record, play and hang_up are")),
    }
    .map_err(|why| if name == "record" || name == "play" { format!("{name}.{why}") } else { why })
}

/// AC-001 to AC-018, with the vendor's limits: the node would fill them in, but said here they hold in a test without it too.
fn record(action: &Properties<'_>, from: &Page) -> Read<Action> {
    let seconds = action.number("seconds_max_duration")?.unwrap_or(60);
    if seconds == 0 {
        return Err("seconds_max_duration: must be above 0".into());
    }
    let silence = action.number("milliseconds_max_silence")?.unwrap_or(3000);
    let initial = action.number("milliseconds_max_initial_silence")?.filter(|ms| *ms > 0).unwrap_or(silence);
    let encoding = match action.text("format")? {
        None | Some("") => None,
        Some("alaw") => Some(hookswitch_sdk::types::RecordingEncoding::Alaw),
        Some("ulaw") => Some(hookswitch_sdk::types::RecordingEncoding::Ulaw),
        Some(_) => return Err("format: must be alaw or ulaw".into()),
    };
    let available = action.page("recording_available_page", from)?;
    // The node posts it, whatever became of the call by then.
    if available.as_ref().is_some_and(|page| page.by_get) {
        return Err("recording_available_page.method: must be POST".into());
    }
    let options = RecordingOptions {
        dialect: Some(RecordingDialect::Aculab),
        client_context: action.text("id")?.map(str::to_owned),
        encoding,
        beep: action.flag("beep_on_start")?,
        encryption: action.cipher("encryption_cipher")?,
        on_available_url: available.map(|page| page.url),
        ..RecordingOptions::default()
    };
    let options = RecordingOptions { initial_silence_ms: Some(initial), max_silence_ms: Some(silence), ..options }
        .stop_on(action.text("barge_in_digits")?.unwrap_or("#"))
        .max_s(seconds);
    Ok(Action::Record { options: Box::new(options), next_page: action.page("next_page", from)? })
}

fn play(action: &Properties<'_>, from: &Page) -> Read<Action> {
    let list = action.of.get("play_list").and_then(Value::as_array).filter(|list| !list.is_empty());
    let mut files = Vec::new();
    for (place, item) in list.ok_or("play_list: must be a list with something in it")?.iter().enumerate() {
        let said = item.as_object().and_then(|members| members.keys().find(|name| *name != "file_to_play"));
        match (item["file_to_play"].as_str(), said) {
            (Some(file), None) => files.push(file.to_owned()),
            (_, Some(other)) => return Err(format!("play_list[{place}].{other}: not there: files are played, as they are")),
            (None, None) => return Err(format!("play_list[{place}].file_to_play: is missing")),
        }
    }
    let id = action.text("id")?.unwrap_or_default().to_owned();
    Ok(Action::Play { id, files, next_page: action.page("next_page", from)? })
}

/// Of an action. Those that it does not know are a newer version's, and left alone.
struct Properties<'a> {
    of: &'a Map<String, Value>,
}

impl Properties<'_> {
    fn said(&self, name: &str) -> Option<&Value> {
        self.of.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Read<Option<&str>> {
        self.said(name).map(|value| value.as_str().ok_or_else(|| format!("{name}: must be a text"))).transpose()
    }

    fn flag(&self, name: &str) -> Read<bool> {
        self.said(name).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| format!("{name}: must be true or false")))
    }

    fn number(&self, name: &str) -> Read<Option<u32>> {
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        self.said(name).map(|value| number(value).ok_or_else(|| format!("{name}: must be a whole number"))).transpose()
    }

    fn page(&self, name: &str, from: &Page) -> Read<Option<Page>> {
        let Some(page) = self.said(name) else { return Ok(None) };
        let url = page["url"].as_str().ok_or_else(|| format!("{name}.url: is missing"))?;
        let method = page.get("method").filter(|method| !method.is_null()).map(|method| method.as_str().unwrap_or_default());
        Page::of(url, method, Some(from)).map(Some).map_err(|why| format!("{name}.{why}"))
    }

    /// AC-011 to AC-014.
    fn cipher(&self, name: &str) -> Read<Option<RecordingEncryption>> {
        let Some(cipher) = self.said(name) else { return Ok(None) };
        if cipher["type"] != "aescbc" {
            return Err(format!("{name}.type: must be aescbc"));
        }
        let bytes = |member: &str| cipher[member].as_str().and_then(from_hex);
        let key = bytes("key").filter(|key| matches!(key.len(), 16 | 24 | 32));
        let names = ["vector", "initialisation_vector", "initialisation vector"];
        let iv = names.into_iter().find_map(bytes).filter(|iv| iv.len() == 16);
        Ok(Some(RecordingEncryption::AesCbc(AesCbcKey {
            key: key.ok_or_else(|| format!("{name}.key: must be 16, 24 or 32 bytes in hex"))?,
            iv: iv.ok_or_else(|| format!("{name}.vector: must be 16 bytes in hex"))?,
        })))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn page(url: &str) -> Page {
        Page { url: url.into(), by_get: false }
    }

    fn answer(answer: Value) -> Read<Answer> {
        read(answer.to_string().as_bytes(), &page("https://app.example/calls/first?a=/b"))
    }

    #[test]
    fn ac_003_004_037_an_answer_is_read_with_its_pages_and_its_token() {
        let said = answer(json!({
            "actions": [
                { "record": { "id": "m", "barge_in_digits": "12", "milliseconds_max_silence": 2000, "next_page": { "url": "next", "method": "GET" } } },
                { "play": { "play_list": [{ "file_to_play": "a.wav" }, { "file_to_play": "b.wav" }], "next_page": { "url": "/root" } } },
                { "record": { "next_page": { "url": "https://other.example/x" }, "seconds_max_duration": 7, "newer": 1 } },
                { "hang_up": {} },
            ],
            "token": "t",
        }))
        .expect("read");
        assert_eq!(said.token.as_deref(), Some("t"));
        let Action::Record { options, next_page } = &said.actions[0] else { panic!("{said:?}") };
        assert_eq!(
            (options.stop_digits.as_deref(), options.max_silence_ms, options.initial_silence_ms),
            (Some("12"), Some(2000), Some(2000))
        );
        assert_eq!(next_page, &Some(Page { url: "https://app.example/calls/next".into(), by_get: true }));
        let Action::Play { files, next_page, .. } = &said.actions[1] else { panic!("{said:?}") };
        assert_eq!((files.len(), next_page), (2, &Some(page("https://app.example/root"))));
        let Action::Record { options, next_page } = &said.actions[2] else { panic!("{said:?}") };
        assert_eq!((options.stop_digits.as_deref(), options.max_duration_ms), (Some("#"), Some(7000)));
        assert_eq!(next_page, &Some(page("https://other.example/x")));
        assert!(matches!(said.actions[3], Action::HangUp));
        assert!(read(b" ", &page("https://app.example")).expect("nothing").actions.is_empty());
        assert_eq!(absolute("next", "https://app.example"), "https://app.example/next");
    }

    #[test]
    fn ac_037_what_cannot_be_run_is_refused_by_name() {
        for (said, why) in [
            (json!([]), "actions: must be a list"),
            (json!({ "actions": {} }), "actions: must be a list"),
            (json!({ "actions": [1] }), "actions[0]: must be an object"),
            (json!({ "actions": [{ "hang_up": {} }, { "send_fax": {} }] }), "actions[1]: no action is called \"send_fax\""),
            (json!({ "actions": [{ "record": { "seconds_max_duration": 0 } }] }), "actions[0]: record.seconds_max_duration: "),
            (json!({ "actions": [{ "record": { "format": "mp3" } }] }), "actions[0]: record.format: "),
            (json!({ "actions": [{ "record": { "next_page": {} } }] }), "actions[0]: record.next_page.url: "),
            (
                json!({ "actions": [{ "record": { "next_page": { "url": "x", "method": "PUT" } } }] }),
                "actions[0]: record.next_page.method: ",
            ),
            (
                json!({ "actions": [{ "record": { "recording_available_page": { "url": "x", "method": "GET" } } }] }),
                "actions[0]: record.recording_available_page.method: ",
            ),
            (
                json!({ "actions": [{ "record": { "encryption_cipher": { "type": "des" } } }] }),
                "actions[0]: record.encryption_cipher.type: ",
            ),
            (
                json!({ "actions": [{ "record": { "encryption_cipher": { "type": "aescbc", "key": "00" } } }] }),
                "actions[0]: record.encryption_cipher.key: ",
            ),
            (json!({ "actions": [{ "play": { "play_list": [] } }] }), "actions[0]: play.play_list: "),
            (
                json!({ "actions": [{ "play": { "play_list": [{ "text_to_say": "hello" }] } }] }),
                "actions[0]: play.play_list[0].text_to_say: ",
            ),
        ] {
            let refused = answer(said.clone()).expect_err("refused");
            assert!(refused.starts_with(why), "{said}: {refused}");
        }
        assert!(read(b"<html>", &page("https://app.example")).expect_err("refused").starts_with("not JSON"));
    }
}
