//! Ask to verdict: what a decision costs when it is made by a component in the node, beside the same decision asked of a webhook on
//! loopback, which is the cheapest webhook there can be.

use crate::report::Report;
use crate::{Options, machine};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

/// Questions of one run, after so many that only warm up.
const ASKS: usize = 20_000;
const WARM: usize = 2_000;

/// Microseconds: the middle one and the one that 99 of 100 stay below.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub median: f64,
    pub p99: f64,
}

impl Latency {
    pub fn of(mut microseconds: Vec<f64>) -> Result<Latency> {
        let median = machine::percentile(&mut microseconds, 50.0).context("no measurement")?;
        let p99 = machine::percentile(&mut microseconds, 99.0).context("no measurement")?;
        Ok(Latency { median, p99 })
    }
}

pub fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let mut medians = Vec::new();
    let mut p99s = Vec::new();
    for _ in 0..options.runs.max(1) {
        let latency = webhook(options)?;
        medians.push(latency.median);
        p99s.push(latency.p99);
    }
    let median = machine::median(medians).context("a run")?;
    let p99 = machine::median(p99s).context("a run")?;
    println!("webhook on loopback: {median:.1} us, p99 {p99:.1} us");
    let how = format!("POST of a newCall's JSON over one kept connection, answered by a server of ours on the other core; {ASKS} asks");
    report.add("webhook on loopback, ask to verdict, median", "us", median, how.clone());
    report.add("webhook on loopback, ask to verdict, p99", "us", p99, how);
    Ok(())
}

/// The question as a webhook gets it.
fn question() -> String {
    json!({
        "sessionId": "7d0c0e3a-1f2b-4c3d-8e4f-5a6b7c8d9e0f", "domain": "demo.localhost", "participantId": "1", "ivrServer": "127.0.0.1:5060",
        "sipCallId": "a84b4c76e66710@pc33.example.com", "callingPartyNumber": "+46701234567", "calledPartyNumber": "ivr",
        "callingPartyPrivacy": "public", "srcAddr": "127.0.0.1:5070"
    })
    .to_string()
}

fn webhook(options: &Options) -> Result<Latency> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let core = options.generator_core;
    let server = thread::spawn(move || -> Result<()> {
        machine::pin(core)?;
        answer(listener.accept()?.0)
    });
    let core = options.node_core;
    let client = thread::spawn(move || -> Result<Vec<f64>> {
        machine::pin(core)?;
        ask(TcpStream::connect(address)?)
    });
    let times = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Latency::of(times)
}

fn ask(stream: TcpStream) -> Result<Vec<f64>> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut times = Vec::with_capacity(ASKS);
    for n in 0..WARM + ASKS {
        let start = Instant::now();
        // Written anew each time, as each call's question is.
        let body = question();
        let head = format!(
            "POST /newCall HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all((head + &body).as_bytes())?;
        let verdict: Value = serde_json::from_slice(&message(&mut reader)?.context("the server closed")?)?;
        if verdict["action"] != "ivr" {
            bail!("not the answer that was given: {verdict}");
        }
        if n >= WARM {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// The least that a webhook must do: read the question, decide, answer.
fn answer(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(body) = message(&mut reader)? {
        let question: Value = serde_json::from_slice(&body)?;
        let action = if question["calledPartyNumber"] == "ivr" { "ivr" } else { "drop" };
        let body = json!({ "action": action, "sessionReferenceId": "ivr" }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

/// The body of the next HTTP message; `None` when the other side is done.
fn message(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}
