//! A whole core in this process, on ports that the kernel chooses, called by the node's own test phone over real sockets. The handler is
//! a script: guests are tested where they are.

use super::*;
use crate::config::{ListenUri, PortRange};
use crate::phone::{self, PhoneArgs};
use crate::record::verify::verify;
use crate::store::{FallbackRow, NumberRow, RecordingState, TenantRow};
use clap::Parser;
use hookswitch_call::{Ask, Hook, IvrCommand, Notification, Phrase, RecordPhrase, Routing, SessionId, Verdict};
use std::fs::File;
use std::net::UdpSocket;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;

/// Answers at once, from its own thread's point of view: the switch's.
struct Script {
    inbox: SwitchInbox,
    told: mpsc::Sender<Notification>,
    recorded: bool,
}

impl Handlers for Script {
    fn ask(&mut self, ask: Box<Ask>) {
        let verdict = match &ask.hook {
            Hook::NewCall(call) if call.called_party == "reject" => {
                Ok(Verdict::Routing(Routing::Drop { drop_code: Some("decline".into()), session_reference: None }))
            }
            Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
            Hook::GetIvrCommand(_) if !self.recorded => {
                self.recorded = true;
                let record = RecordPhrase {
                    file_name: Some("message.wav".into()),
                    max_duration: Some(Duration::from_secs(20)),
                    stop_digits: Some("#".into()),
                    ..RecordPhrase::default()
                };
                let phrases = vec![Phrase::File { file_name: "hello.wav".into() }, Phrase::Record(Box::new(record))];
                Ok(Verdict::Ivr(Box::new(IvrCommand { phrases, recorded_callback: true, ..IvrCommand::default() })))
            }
            Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand { hangup: true, ..IvrCommand::default() }))),
            _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
        };
        self.inbox.send(Input::Verdict { ask: ask.id, verdict });
    }

    fn notify(&mut self, _session: SessionId, _domain: Arc<str>, notification: Box<Notification>) {
        let _ = self.told.send(*notification);
    }

    fn end(&mut self, _session: SessionId) {}
}

struct World {
    folder: tempfile::TempDir,
    store: Store,
    core: Core,
    told: mpsc::Receiver<Notification>,
}

/// Ports that were free a moment ago; others may take some, which the pool passes over.
fn ports() -> PortRange {
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
    let first = probe.clamp(1024, 65_000);
    PortRange { first, last: first + 199 }
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.sip.listen = vec![ListenUri { scheme: Scheme::Udp, address: "127.0.0.1:0".parse().unwrap() }];
    config.rtp.ports = ports();
    config.storage.data = folder.path().join("data");
    config.storage.blobs = folder.path().join("data/blobs");
    let (store, _thread) = Store::open(&folder.path().join("db")).unwrap();
    let tenant = TenantRow {
        domain: "demo.localhost".into(),
        numbers: ["voicemail", "reject"].map(|n| NumberRow { trunk: None, number: n.into() }).to_vec(),
        fallback: FallbackRow::Refuse { status: 503 },
        max_sessions: 10,
        ..TenantRow::default()
    };
    store.put_tenant(tenant, "test").unwrap();
    let prepared = Core::prepare(config, store.clone()).unwrap();
    let (tell, told) = mpsc::channel();
    let script = Script { inbox: prepared.inbox(), told: tell, recorded: false };
    let core = prepared.start(script).unwrap();
    World { folder, store, core, told }
}

#[derive(Parser)]
struct Phone {
    #[command(flatten)]
    args: PhoneArgs,
}

impl World {
    fn call(&self, user: &str, more: &[&str]) -> ExitCode {
        let target = format!("sip:{user}@{}", self.core.handles.sip[0].address);
        let arguments = ["phone", &target].into_iter().chain(more.iter().copied());
        phone::run(Phone::parse_from(arguments).args)
    }
}

fn tone(path: &Path, hz: f32, seconds: u32) {
    let spec = hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for i in 0..8000 * seconds {
        let phase = i as f32 * hz * std::f32::consts::TAU / 8000.0;
        wav.write_sample((phase.sin() * 8000.0) as i16).unwrap();
    }
    wav.finalize().unwrap();
}

#[test]
fn a_call_is_answered_hears_a_prompt_and_leaves_a_message() {
    let w = world();
    let prompts = w.folder.path().join("data/prompts/demo.localhost");
    std::fs::create_dir_all(&prompts).unwrap();
    tone(&prompts.join("hello.wav"), 440.0, 1);
    let (said, heard) = (w.folder.path().join("said.wav"), w.folder.path().join("heard.wav"));
    tone(&said, 1000.0, 10);
    let arguments = ["--play", said.to_str().unwrap(), "--record", heard.to_str().unwrap(), "--dtmf", "#@3s", "--for", "20"];
    assert_eq!(w.call("voicemail", &arguments), ExitCode::SUCCESS);

    let ready = w.told.iter().find_map(|n| match n {
        Notification::RecordingReady { successful, file_name, file_size, .. } => Some((successful, file_name, file_size)),
        _ => None,
    });
    let rows = w.store.recordings(None, None, 10).unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(ready, Some((true, "message.wav".to_string(), row.size)));
    assert_eq!((row.state, row.stop_reason.as_str(), row.domain.as_str()), (RecordingState::Available, "stop_digit", "demo.localhost"));
    let verdict = verify(File::open(&row.path).unwrap(), row).unwrap();
    assert!(verdict.ok && verdict.missing == 0, "{}", verdict.line);
    // What was said is in it: loud, and the prompt's second is not.
    assert!((1000..4000).contains(&row.duration_ms), "{} ms", row.duration_ms);
    let loud = |path: &Path| {
        let samples: Vec<i16> = hound::WavReader::open(path).unwrap().samples().map(Result::unwrap).collect();
        samples.iter().filter(|s| s.unsigned_abs() > 3000).count() > 2000
    };
    assert!(loud(Path::new(&row.path)) && loud(&heard));
    w.core.stop();
    w.store.flush().unwrap();
    let calls = w.store.calls(None, None, 10).unwrap();
    assert_eq!((calls.len(), calls[0].called.as_str()), (1, "voicemail"));
    assert!(calls[0].answered_after_ms.is_some() && calls[0].rtp_received > 100, "{:?}", calls[0]);
}

#[test]
fn refusals_reach_the_caller_and_the_metrics() {
    let w = world();
    assert_eq!(w.call("reject", &[]), ExitCode::from(1));
    assert_eq!(w.call("nobody", &[]), ExitCode::from(1));
    let handles = w.core.handles.clone();
    crate::api::Node::refused(&*handles, crate::api::Upload::Component, "demo.localhost", "no\ncomponent");
    crate::api::Node::refused(&*handles, crate::api::Upload::Prompt, "demo.localhost", "no prompt");
    let metrics = handles.metrics.clone();
    w.core.stop();
    let text = metrics.render();
    assert!(text.contains("hookswitch_sip_refused_total{why=\"unknown_number\"} 1\n"), "{text}");
    assert!(text.contains("hookswitch_calls_total{result=\"offered\"} 2\n"), "{text}");
    assert!(text.contains("\nhookswitch_uploads_refused_total 1\n"), "{text}");
    assert!(text.contains("\nhookswitch_prompts_refused_total 1\n"), "{text}");
}

#[test]
fn a_stopping_node_releases_its_calls_and_keeps_what_was_recorded() {
    let w = world();
    let said = w.folder.path().join("said.wav");
    tone(&said, 1000.0, 60);
    let target = format!("sip:voicemail@{}", w.core.handles.sip[0].address);
    let phone = Phone::parse_from(["phone", &target, "--play", said.to_str().unwrap(), "--for", "60"]);
    let call = std::thread::spawn(move || phone::run(phone.args));
    let spool = w.folder.path().join("data/spool");
    let growing = || std::fs::read_dir(&spool).into_iter().flatten().flatten().any(|e| e.metadata().is_ok_and(|m| m.len() > 8192));
    while !growing() {
        std::thread::yield_now();
    }
    w.core.stop();
    // The phone was told: it did not stay for its minute.
    assert_eq!(call.join().unwrap(), ExitCode::SUCCESS);
    let rows = w.store.recordings(None, None, 10).unwrap();
    assert_eq!((rows.len(), rows[0].state), (1, RecordingState::Available));
    assert!(verify(File::open(&rows[0].path).unwrap(), &rows[0]).unwrap().ok);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
}
