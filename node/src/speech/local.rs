//! The engine of this machine: Debian's `espeak-ng`, a process of its own for each text. The text comes by its stdin, never by a command
//! line or a shell, and what it may use is bounded: time, memory, files, output, and how many there are at once.

use super::text_of;
use crate::limits;
use crate::net::confine;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

const PROGRAM: &str = "espeak-ng";
/// Of a canonical WAV file.
const HEADER: usize = 44;

/// Where it is on this machine.
pub fn find() -> Option<PathBuf> {
    find_in(std::env::var_os("PATH")?.as_os_str())
}

fn find_in(path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(PROGRAM)).find(|file| file.is_absolute() && file.is_file())
}

/// What is to be said, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub text: String,
    /// BCP 47.
    pub language: String,
    /// A variant of the language's voice, e.g. `f2`.
    pub voice: Option<String>,
    /// One of several that follow each other without a pause.
    pub word: bool,
}

impl Spoken {
    /// `{"text":…,"language":…,"voice":…}`
    pub fn of_local(fields: &Value) -> Result<Spoken, String> {
        Spoken::checked(text_of("text", fields.get("text"))?, fields.get("language"), fields.get("voice"))
    }

    /// The fields of a Polly request that mean something here: its voices do not.
    pub fn of_polly(fields: &Value) -> Result<Spoken, String> {
        if fields.get("TextType").and_then(Value::as_str) == Some("ssml") {
            return Err("parameters: TextType: this machine's engine reads plain text alone".into());
        }
        Spoken::checked(text_of("Text", fields.get("Text"))?, fields.get("LanguageCode"), None)
    }

    pub fn of_google(fields: &Value) -> Result<Spoken, String> {
        if fields.pointer("/input/ssml").is_some() {
            return Err("parameters: input.ssml: this machine's engine reads plain text alone".into());
        }
        Spoken::checked(text_of("input.text", fields.pointer("/input/text"))?, fields.pointer("/voice/languageCode"), None)
    }

    /// Language and voice are the names of files to the engine.
    fn checked(text: String, language: Option<&Value>, voice: Option<&Value>) -> Result<Spoken, String> {
        let name = |field: &str, value: Option<&Value>, more: &[u8]| match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let fits = |text: &&str| {
                    (1..=limits::SPEECH_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
                };
                value
                    .as_str()
                    .filter(fits)
                    .map(|text| Some(text.to_ascii_lowercase()))
                    .ok_or_else(|| format!("parameters: {field}: no name of one"))
            }
        };
        let language = name("language", language, b"-")?.unwrap_or_else(|| "en".into());
        Ok(Spoken { text, language, voice: name("voice", voice, b"")?, word: false })
    }
}

/// Runs the processes.
pub struct Engine {
    program: Option<PathBuf>,
    turns: Semaphore,
}

impl Engine {
    /// `None`: this machine has none, and whatever is to be said fails.
    pub fn new(program: Option<PathBuf>) -> Engine {
        Engine { program, turns: Semaphore::new(limits::SPEECH_PROCESSES) }
    }

    /// A WAV file. Whoever waits for it no longer ends the process.
    pub async fn say(&self, spoken: &Spoken) -> Result<Vec<u8>, String> {
        let program = self.program.as_deref().ok_or("this machine has no engine for speech: install espeak-ng")?;
        let _turn = self.turns.acquire().await.map_err(|_| "the node is stopping".to_owned())?;
        let voice = |language: &str| spoken.voice.as_ref().map_or_else(|| language.to_owned(), |voice| format!("{language}+{voice}"));
        let primary = spoken.language.split('-').next().unwrap_or("en");
        // It takes `en-au` for `en`, but not every region of every language.
        for language in [spoken.language.as_str(), primary] {
            match run(program, &voice(language), spoken).await {
                Ok(audio) => return Ok(audio),
                Err(Failed::NoVoice) => {}
                Err(Failed::Because(why)) => return Err(why),
            }
        }
        Err("parameters: this machine's engine has no such language".into())
    }
}

enum Failed {
    NoVoice,
    Because(String),
}

async fn run(program: &Path, voice: &str, spoken: &Spoken) -> Result<Vec<u8>, Failed> {
    let because = |what: &'static str| move |error: io::Error| Failed::Because(format!("{PROGRAM}: {what}: {error}"));
    let mut command = Command::new(program);
    command.args(["--stdin", "--stdout", "-b", "1", "-v", voice]);
    if spoken.word {
        // No pause behind it.
        command.arg("-z");
    }
    // Nothing here makes Rust fork: with the memory of a node, that would hold up every call until its pages are marked.
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(because("it did not start"))?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
        return Err(Failed::Because(format!("{PROGRAM}: no pipes")));
    };
    // It waits for its text: what it may use is said before that.
    if let Some(pid) = child.id() {
        confine(pid, limits::SPEECH_CPU, limits::SPEECH_MEMORY).map_err(because("its limits"))?;
    }
    // Each pipe is closed as soon as enough came of it: who writes more into it is ended by that.
    let talk = async {
        let mut pipe = stdin;
        pipe.write_all(spoken.text.as_bytes()).await
    };
    let (said, audio, words) =
        tokio::join!(talk, most_of(stdout, limits::PROMPT_FETCH_BYTES as u64 + 1), most_of(stderr, limits::SPEECH_COMPLAINT));
    let (audio, words) = (audio.map_err(because("its audio"))?, words.map_err(because("what it says"))?);
    if audio.len() > limits::PROMPT_FETCH_BYTES {
        return Err(Failed::Because(format!("{PROGRAM}: more than {} MB of audio", limits::PROMPT_FETCH_BYTES >> 20)));
    }
    let status = child.wait().await.map_err(because("its end"))?;
    if String::from_utf8_lossy(&words).contains("voice does not exist") {
        return Err(Failed::NoVoice);
    }
    if !status.success() {
        // What it complains about may repeat the text.
        return Err(Failed::Because(format!("{PROGRAM}: {status}")));
    }
    said.map_err(because("it did not take the text"))?;
    mend(audio).ok_or_else(|| Failed::Because(format!("{PROGRAM}: no audio came")))
}

async fn most_of(pipe: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    pipe.take(most).read_to_end(&mut read).await?;
    Ok(read)
}

/// It writes the header before it knows how much will follow.
fn mend(mut wav: Vec<u8>) -> Option<Vec<u8>> {
    if wav.len() <= HEADER || wav.get(..4) != Some(b"RIFF") || wav.get(36..40) != Some(b"data") {
        return None;
    }
    let whole = u32::try_from(wav.len()).ok()?;
    wav[4..8].copy_from_slice(&(whole - 8).to_le_bytes());
    wav[40..HEADER].copy_from_slice(&(whole - HEADER as u32).to_le_bytes());
    Some(wav)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::decode;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    fn say(engine: &Engine, spoken: &Spoken) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        loop {
            match runtime.block_on(engine.say(spoken)) {
                // Another test's process still holds our script as it was being written.
                Err(why) if why.contains("Text file busy") => std::thread::sleep(Duration::from_millis(10)),
                said => return said,
            }
        }
    }

    fn spoken(text: &str) -> Spoken {
        Spoken { text: text.into(), language: "en".into(), voice: None, word: false }
    }

    /// In place of the engine: a script.
    fn script(folder: &Path, body: &str) -> Engine {
        let path = folder.join(PROGRAM);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        Engine::new(Some(path))
    }

    #[test]
    fn ic_242_this_machine_speaks_longer_texts_longer() {
        let engine = Engine::new(find());
        let seconds = |text: &str, language: &str, word| {
            let spoken = Spoken { language: language.into(), word, ..spoken(text) };
            let audio = say(&engine, &spoken).expect("scripts/setup.sh test installs espeak-ng");
            decode(&audio[..]).expect("a WAV file").pcmu.len() as f64 / 8000.0
        };
        let (short, long) = (seconds("Hello.", "en", false), seconds("Hello. You have three new messages and one old one.", "en", false));
        assert!((0.3..2.0).contains(&short) && (2.0..8.0).contains(&long), "{short} {long}");
        assert!(seconds("Hej där", "sv-SE", false) > 0.3 && seconds("hello", "en-ZZ", false) > 0.3, "a region that it does not know");
        assert!(seconds("seven", "en", true) < seconds("seven", "en", false) - 0.1, "words follow each other");
        let none = Spoken { language: "tlh".into(), ..spoken("x") };
        assert!(say(&engine, &none).is_err_and(|why| why.contains("no such language")));
        // Nothing of a text is an option or a command, or names a file.
        assert!(seconds("-f /etc/passwd; $(reboot) `reboot`", "en", false) > 1.0);
    }

    #[test]
    fn ic_242_a_machine_without_an_engine_says_what_to_install() {
        assert!(say(&Engine::new(None), &spoken("x")).is_err_and(|why| why.contains("install espeak-ng")));
        assert_eq!(find_in("/nowhere:relative".as_ref()), None);
        let gone = Engine::new(Some("/nowhere/espeak-ng".into()));
        assert!(say(&gone, &spoken("x")).is_err_and(|why| why.contains("did not start")));
    }

    #[test]
    fn ic_242_what_an_engine_may_use_is_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        for (body, why) in [
            ("cat >/dev/null; echo no audio", "no audio came"),
            ("exit 3", "exit status: 3"),
            ("head -c 20000000 /dev/zero", "more than 8 MB"),
            ("cat >/dev/null; while :; do :; done", "signal"),
        ] {
            let engine = script(folder.path(), body);
            let failed = say(&engine, &spoken("4711")).expect_err(body);
            assert!(failed.contains(why) && !failed.contains("4711"), "{body}: {failed}");
        }
        // Whoever no longer waits for it ends it.
        let engine = script(folder.path(), &format!("echo $$ >{0}/pid; exec sleep 600", folder.path().display()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(500), engine.say(&spoken("x"))).await });
        assert!(waited.is_err());
        let pid: u32 = std::fs::read_to_string(folder.path().join("pid")).expect("it ran").trim().parse().expect("a number");
        let began = Instant::now();
        let lives = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(5), "it still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn ic_242_243_the_vendors_parameters_are_read_and_names_lead_to_no_file() {
        let polly = json!({ "Text": "Hi", "OutputFormat": "pcm", "VoiceId": "Astrid", "LanguageCode": "sv-SE" });
        assert_eq!(Spoken::of_polly(&polly), Ok(Spoken { language: "sv-se".into(), ..spoken("Hi") }));
        let google = json!({ "input": { "text": "Hi" }, "voice": { "languageCode": "en-GB", "name": "x" }, "audioConfig": {} });
        assert_eq!(Spoken::of_google(&google), Ok(Spoken { language: "en-gb".into(), ..spoken("Hi") }));
        assert_eq!(Spoken::of_local(&json!({ "text": " Hi ", "voice": "F2" })), Ok(Spoken { voice: Some("f2".into()), ..spoken("Hi") }));
        let long = "x".repeat(limits::SPEECH_TEXT + 1);
        for (wrong, field) in [
            (Spoken::of_local(&json!({})), "text"),
            (Spoken::of_local(&json!({ "text": "" })), "text"),
            (Spoken::of_local(&json!({ "text": long })), "text"),
            (Spoken::of_local(&json!({ "text": "x", "language": "../../etc" })), "language"),
            (Spoken::of_local(&json!({ "text": "x", "language": 5 })), "language"),
            (Spoken::of_local(&json!({ "text": "x", "voice": "a/b" })), "voice"),
            (Spoken::of_local(&json!([])), "text"),
            (Spoken::of_polly(&json!({ "Text": "<speak/>", "TextType": "ssml" })), "TextType"),
            (Spoken::of_google(&json!({ "input": { "ssml": "<speak/>" } })), "input.ssml"),
        ] {
            let why = wrong.expect_err(field);
            assert!(why.contains(field), "{field}: {why}");
        }
    }
}
