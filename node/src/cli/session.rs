//! `hookswitch session …`: calls that are up, and what they are told to do. A thin client of `/admin/sessions` and of `placeivrcall`.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Failure, Outcome, keeping};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use ureq::http::Method;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Calls that are up, newest first: of all tenants, or of --domain
    List {
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "COUNT")]
        limit: usize,
    },
    /// Release a participant
    Hangup {
        session: String,
        participant: String,
        /// The other party of its connection instead
        #[arg(long)]
        remote: bool,
    },
    /// Part the participants of a connection
    Split { session: String, connection: String },
    /// Record both parties of a connection
    #[command(subcommand)]
    Record(Record),
    /// Cut the running IVR command short
    Interrupt { session: String },
    /// Send digits to a participant
    Dtmf {
        session: String,
        participant: String,
        digits: String,
        /// Milliseconds of each digit
        #[arg(long, value_name = "MS")]
        length: Option<u32>,
    },
    /// Ask a participant to call somebody else; it leaves when that is answered
    Transfer {
        session: String,
        participant: String,
        /// Whom it calls
        #[arg(value_name = "SIP-URI", required_unless_present = "to_participant")]
        destination: Option<String>,
        /// The far end of this participant instead, which takes our place there
        #[arg(long, value_name = "PARTICIPANT", conflicts_with = "destination")]
        to_participant: Option<String>,
    },
    /// Part a participant from the other one of its connection for a while
    Hold {
        session: String,
        participant: String,
        /// A prompt that it hears in a loop; else silence
        #[arg(long, value_name = "NAME")]
        music: Option<String>,
    },
    /// End a hold
    Resume { session: String, participant: String },
    /// Keep a participant from being heard (speak), from hearing (listen), from both, or from neither (off)
    Mute {
        session: String,
        participant: String,
        #[arg(value_parser = ["speak", "listen", "both", "off"])]
        direction: String,
    },
    /// Tell why a call went as it did: its handler's hooks, answers, lines and failures
    Explain {
        session: String,
        /// Write it to this file, for `guest simulate --replay`
        #[arg(long, value_name = "FILE")]
        capture: Option<PathBuf>,
    },
    /// Keep the digits that callers press in what is told of calls that begin within that time, e.g. 1h; 0s: no more
    Digits {
        #[arg(value_name = "TIME", value_parser = keep_time)]
        time: u64,
    },
    /// Place a call that is connected to the tenant's handler when it is answered
    Place(PlaceArgs),
}

#[derive(Subcommand, Debug)]
pub(super) enum Record {
    Start {
        session: String,
        connection: String,
        /// The name to store it under
        #[arg(long, value_name = "FILE")]
        name: Option<String>,
    },
    Stop {
        session: String,
        connection: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct PlaceArgs {
    /// Whom to call
    #[arg(value_name = "SIP-URI")]
    destination: String,
    /// User part of From
    #[arg(long, value_name = "USER")]
    from: Option<String>,
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS")]
    max_ring_time: Option<f64>,
    /// Hide the caller
    #[arg(long)]
    private: bool,
    /// An X- or P- header of the INVITE; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// JSON that every hook of the session gets
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    reference: Option<Value>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn json_text(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// `0s` is none, which other times of people are not.
fn keep_time(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { keeping::seconds(text) }
}

pub(super) fn run(common: &Common, command: Command) -> Outcome {
    let client = common.client()?;
    match command {
        Command::List { limit } => list(common, &client, limit),
        Command::Hangup { session, participant, remote } => {
            let operation = if remote { "hangupremoteparticipant" } else { "hangupparticipant" };
            order(common, &client, &session, operation, &json!({ "participantId": participant }))
        }
        Command::Split { session, connection } => {
            order(common, &client, &session, "splitconnection", &json!({ "connectionId": connection }))
        }
        Command::Record(Record::Start { session, connection, name }) => {
            let body = json!({ "connectionId": connection, "recordingFileName": name });
            order(common, &client, &session, "startrecording", &body)
        }
        Command::Record(Record::Stop { session, connection }) => {
            order(common, &client, &session, "stoprecording", &json!({ "connectionId": connection }))
        }
        Command::Interrupt { session } => order(common, &client, &session, "interruptivrcommand", &json!({})),
        Command::Dtmf { session, participant, digits, length } => {
            let body = json!({ "participantId": participant, "digits": digits, "digitMs": length });
            order(common, &client, &session, "senddtmf", &body)
        }
        Command::Transfer { session, participant, destination, to_participant } => {
            let body = json!({ "participantId": participant, "destAddr": destination, "toParticipantId": to_participant });
            order(common, &client, &session, "transfer", &body)
        }
        Command::Hold { session, participant, music } => {
            order(common, &client, &session, "hold", &json!({ "participantId": participant, "fileName": music }))
        }
        Command::Resume { session, participant } => order(common, &client, &session, "resume", &json!({ "participantId": participant })),
        Command::Mute { session, participant, direction } => {
            order(common, &client, &session, "mute", &json!({ "participantId": participant, "direction": direction }))
        }
        Command::Explain { session, capture } => explain(common, &client, &session, capture.as_deref()),
        Command::Digits { time } => {
            let answer = client.ask(Method::PUT, &client.of_tenant("/explain")?, Content::Json(&json!({ "digits_s": time })))?;
            match (common.json, time) {
                (true, _) => say_json(&answer),
                (false, 0) => say("digits are redacted"),
                (false, _) => say(&format!("digits of calls that begin within {time} s are kept")),
            }
        }
        Command::Place(args) => place(common, &client, args),
    }
}

fn list(common: &Common, client: &Client, limit: usize) -> Outcome {
    let path = match &common.domain {
        Some(domain) => format!("/{}/sessions?limit={limit}", encode(domain)),
        None => format!("/admin/sessions?limit={limit}"),
    };
    let answer = client.ask(Method::GET, &path, Content::None)?;
    if common.json {
        return say_json(&answer);
    }
    let row = |session: &Value| {
        let fields = ["domain", "caller", "called", "participant"].map(|field| cell(session, field));
        [vec![cell(session, "id"), when(session, "started_at")], fields.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(row).collect();
    say(&table(&["SESSION", "STARTED", "DOMAIN", "CALLER", "CALLED", "PARTICIPANT"], &rows))
}

fn explain(common: &Common, client: &Client, session: &str, capture: Option<&Path>) -> Outcome {
    let path = match &common.domain {
        Some(domain) => format!("/{}/sessions/{}/explain", encode(domain), encode(session)),
        None => format!("/admin/sessions/{}/explain", encode(session)),
    };
    let answer = client.ask(Method::GET, &path, Content::None)?;
    if let Some(file) = capture {
        let text = serde_json::to_string_pretty(&answer["session"]).expect("a value becomes JSON");
        std::fs::write(file, text).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
        return say(&file.display().to_string());
    }
    if common.json { say_json(&answer) } else { say(&explained(&answer["session"])) }
}

/// One line a step, times from the beginning.
fn explained(session: &Value) -> String {
    let version = match session["version"].as_u64() {
        Some(number) => format!("version {number}, sha256 {:.12}", cell(session, "sha256")),
        None => "no version".into(),
    };
    let mut text = format!("{} of {}, {version}, began {}\n", cell(session, "id"), cell(session, "domain"), cell(session, "began_at"));
    if session["digits"] == "redacted" {
        text.push_str("digits are redacted: `hookswitch session digits TIME` keeps those of calls to come\n");
    }
    let entries = session["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = entries.first().and_then(|entry| entry["at_ms"].as_u64()).unwrap_or(0);
    let rows: Vec<Vec<String>> = entries.iter().map(|entry| explained_entry(entry, first)).collect();
    text.push_str(&table(&["TIME", "WHAT", "TOOK", "TOLD"], &rows));
    if let Some(left_out @ 1..) = session["left_out"].as_u64() {
        text.push_str(&format!("{left_out} more are not kept\n"));
    }
    text
}

fn explained_entry(entry: &Value, first: u64) -> Vec<String> {
    let at = entry["at_ms"].as_u64().unwrap_or(0).saturating_sub(first);
    let time = format!("{}.{:03}", at / 1000, at % 1000);
    let took = entry["took_us"].as_u64().map_or_else(|| "-".into(), |micros| format!("{}.{:03} ms", micros / 1000, micros % 1000));
    let (what, told) = match entry["kind"].as_str() {
        Some("hook") => {
            let told = match (&entry["failure"]["text"], &entry["verdict"]) {
                (Value::String(failure), _) => format!("FAILED {failure}"),
                (_, Value::String(verdict)) => verdict.clone(),
                // News are an object with one field, named for what they tell.
                _ => entry["request"].as_object().and_then(|news| news.keys().next().cloned()).unwrap_or_else(|| "-".into()),
            };
            (cell(entry, "hook"), told)
        }
        Some("log") => (format!("log {}", cell(entry, "level")), cell(entry, "text")),
        _ => match entry["refused"].as_str() {
            Some(why) => (cell(entry, "order"), format!("refused: {why}")),
            None => (cell(entry, "order"), "taken".into()),
        },
    };
    vec![time, what, took, told]
}

fn order(common: &Common, client: &Client, session: &str, operation: &str, body: &Value) -> Outcome {
    let path = format!("/admin/sessions/{}/{operation}", encode(session));
    done(common, &client.ask(Method::POST, &path, Content::Json(body))?)
}

fn place(common: &Common, client: &Client, args: PlaceArgs) -> Outcome {
    let (mut headers, mut p_headers) = (Map::new(), Map::new());
    for (name, value) in args.headers {
        let p = name.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("p-"));
        let headers: &mut Map<String, Value> = if p { &mut p_headers } else { &mut headers };
        if let Value::Array(values) = headers.entry(name).or_insert_with(|| json!([])) {
            values.push(value.into());
        }
    }
    let body = json!({
        "destAddr": args.destination,
        "sipFrom": args.from,
        "displayName": args.display_name,
        "maxRingTime": args.max_ring_time,
        "xHeaders": headers,
        "pHeaders": p_headers,
        "callerPrivacy": args.private,
        "sessionReferenceId": args.reference,
    });
    done(common, &client.ask(Method::POST, &client.of_tenant("/placeivrcall")?, Content::Json(&body))?)
}

/// What it gave, one word a line; nothing where it gave nothing.
fn done(common: &Common, answer: &Value) -> Outcome {
    if common.json {
        return say_json(answer);
    }
    let given = ["sessionId", "participantId", "replyId", "recordingId", "recordingFileName"];
    for field in given.iter().filter(|field| !answer[**field].is_null()) {
        say(&format!("{field} {}", cell(answer, field)))?;
    }
    Ok(())
}
