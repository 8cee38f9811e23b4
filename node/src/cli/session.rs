//! `hookswitch session …`: calls that are up, and what they are told to do. A thin client of `/admin/sessions` and of `placeivrcall`.

use super::client::{Client, Content, encode};
use super::output::{cell, say, say_json, table, when};
use super::{Common, Outcome};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
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
    Dtmf { session: String, participant: String, digits: String },
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
    /// An X- header of the INVITE; may be repeated
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
        Command::Dtmf { session, participant, digits } => {
            order(common, &client, &session, "senddtmf", &json!({ "participantId": participant, "digits": digits }))
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

fn order(common: &Common, client: &Client, session: &str, operation: &str, body: &Value) -> Outcome {
    let path = format!("/admin/sessions/{}/{operation}", encode(session));
    done(common, &client.ask(Method::POST, &path, Content::Json(body))?)
}

fn place(common: &Common, client: &Client, args: PlaceArgs) -> Outcome {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in args.headers {
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
