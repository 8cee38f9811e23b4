//! The command line: what is understood, what is usage, and commands against a served API.

use super::*;
use crate::store::RecordAnnounce;
use clap::CommandFactory;
use hookswitch_call::door::{Command as Order, HoldAudio, Mute, PlaceIvrCall, TransferTarget, WhichRecording};
use hookswitch_call::hook::OutboundCall;

fn parse(line: &str) -> Result<Cli, clap::error::ErrorKind> {
    let words = std::iter::once("hookswitch").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| error.kind())
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_people_type_is_understood() {
    for line in [
        "run",
        "run --demo",
        "run --config node.toml --demo --demo-guest menu.wasm",
        "check --json",
        "call sip:ivr@127.0.0.1 --play hello.wav --dtmf 1@2s,#@6s --record heard.wav --for 10",
        "tenant list --json",
        "tenant put a.example --number 100 --number carrier=101 --max-sessions 5 --fallback-status 480 --default",
        "tenant put a.example --fallback-file closed.wav --error-prompt sorry.wav",
        "tenant remove a.example",
        "tenant put a.example --destination 192.0.2.0/24 --destination trunk:carrier --trusted true --outbox-origin https://crm.example",
        "tenant token a.example ci --revoke",
        "tenant key add a.example crm crm.pem",
        "tenant key list a.example",
        "tenant token a.example ci --role deploy --role read --expires 90d",
        "tenant token list a.example",
        "tenant token rotate a.example ci --overlap 1h",
        "tenant put a.example --quota storage_bytes=1000 --quota minutes_per_month= --trunk north",
        "tenant key add a.example crm crm.pem --role operate --expires 30d",
        "tenant apply tenants.toml --dry-run --prune",
        "tenant export a.example b.example",
        "audit --limit 5 --json",
        "usage --from 2026-01-01 --to 2026-01-31 --csv",
        "--domain a.example usage",
        "tenant key remove a.example crm",
        "tenant put a.example --recording-retention 30d",
        "tenant put a.example --recording-retention forever",
        "tenant storage set a.example s3://calls/in --endpoint https://s3.example --key-id k --secret-file - --every",
        "tenant storage show a.example --json",
        "tenant storage remove a.example",
        "recording link r --for 1h",
        "recording hold r --why court",
        "recording release r",
        "recording access r --limit 5",
        "recording remove r",
        "privacy erase +4670 --dry-run",
        "reply-keys rotate",
        "session list --json",
        "session hangup s p --remote",
        "session split s c",
        "session record start s c --name both.wav",
        "session record stop s c",
        "session interrupt s",
        "session dtmf s p 12#",
        "session place sip:bob@127.0.0.1:5080 --from 100 --max-ring-time 20 --reference {\"a\":1}",
        "guest new hello",
        "guest build guest-examples/menu --output target/guests/menu.component.wasm",
        "guest check menu.component.wasm",
        "guest push guest-examples/menu --note try --no-activate --domain a.example",
        "guest list",
        "guest activate 3",
        "guest rollback --json",
        "guest activate 3 --percent 10",
        "guest activate 3 --number 100,101 --number ivr",
        "guest promote",
        "guest push a.wasm --percent 5 --sign key.pem",
        "guest push a.wasm --signature k:s",
        "guest key build.pem",
        "guest sign a.wasm --key build.pem",
        "tenant guest-policy a.example",
        "tenant guest-policy a.example --require-signature true --signing-key build.pem.pub --signing-key next.pub",
        "tenant guest-policy a.example --add-signing-key next.pub --remove-signing-key 0123456789abcdef",
        "tenant guest-policy a.example --trial-calls 50 --trial-min-calls 5 --trial-failed-percent 40",
        "guest logs",
        "guest logs --follow --json",
        "guest config set greeting hello",
        "guest config list",
        "guest config remove greeting --domain a.example",
        "guest secret set token",
        "guest secret list --json",
        "guest secret remove token",
        "recording list --limit 5",
        "recording get latest --output heard.wav",
        "recording verify latest other.wav",
        "recording verify --all",
        "prompt put hello.wav --name greeting.wav",
        "prompt get greeting.wav -o -",
        "prompt rm greeting.wav",
        "--domain a.example prompt list",
        "tenant list --api https://edge.example:8080 --ca ca.pem",
        #[cfg(feature = "h3")]
        "guest push menu.wasm --h3 --api https://edge.example:8080 --ca ca.pem",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn what_cannot_be_meant_is_usage() {
    for line in [
        "",
        "dance",
        "call",
        "call sip:a@127.0.0.1 --dtmf 1",
        "tenant put",
        "tenant put a.example --max-sessions many",
        "tenant put a.example --fallback-status 503 --fallback-file x.wav",
        "guest activate",
        "guest config set greeting",
        "guest secret set",
        "guest secret set token value",
        "guest secret show token",
        "guest activate latest",
        "guest activate 3 --percent 0",
        "guest activate 3 --percent 100",
        "guest activate 3 --percent 10 --number 100",
        "guest push --no-activate --percent 10",
        "guest push --sign a --signature b",
        "guest sign a.wasm",
        "tenant guest-policy a.example --signing-key a --add-signing-key b",
        "tenant put a.example --recording-retention soon",
        "tenant storage set a.example",
        "recording link r --for ever",
        "recording hold r",
        "privacy erase",
        "session hangup s",
        "session place",
        "session place sip:bob@127.0.0.1 --reference {",
        "session record pause s c",
        "tenant key add a.example crm",
        "recording get",
        "recording verify",
        "recording verify --all some-id",
        "run --demo-guest menu.wasm",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert_eq!(parse("--version").err(), Some(clap::error::ErrorKind::DisplayVersion));
}

fn failure(line: &str) -> String {
    match dispatch(parse(line).expect("understood")) {
        Err(Failure::Failed(why)) => why,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn without_a_node_or_a_token_a_command_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port that nobody has now");
    let config = folder.path().join("node.toml");
    let text = format!("[api]\nlisten = \"{free}\"\n[storage]\ndata = \"{}\"\n", folder.path().display());
    std::fs::write(&config, text).expect("written");
    let config = config.display();

    let why = failure(&format!("recording list --config {config}"));
    assert!(why.contains("admin-token") && why.contains("--token"), "{why}");
    let why = failure(&format!("recording list --config {config} --token some-token"));
    assert!(why.contains(&free.to_string()) && why.contains("hookswitch run"), "{why}");
    assert!(matches!(
        dispatch(parse(&format!("tenant list --config {config} --token t --api ftp://x")).expect("understood")),
        Err(Failure::Usage(_))
    ));
    for wrong in [
        "--api https://127.0.0.1:1 --ca /nowhere/ca.pem",
        #[cfg(feature = "h3")]
        "--api http://127.0.0.1:1 --h3",
    ] {
        let line = format!("tenant list --config {config} --token t {wrong}");
        assert!(matches!(dispatch(parse(&line).expect("understood")), Err(Failure::Usage(_))), "{line}");
    }
    let why = failure("tenant list --config /nowhere/node.toml");
    assert!(why.contains("/nowhere/node.toml"), "{why}");
}

/// A recording of so many frames as the node writes it, and its row.
fn recording(folder: &std::path::Path, id: &str, frames: u64) -> crate::store::RecordingRow {
    use crate::record::wav::{Counters, Header, State};
    let counters = Counters { expected: frames, received: frames, ..Counters::default() };
    let header = Header { state: State::Finished, recording_id: id.into(), frames, counters, channels: 1, ..Header::default() };
    let mut bytes = header.encode().to_vec();
    bytes.resize(bytes.len() + usize::try_from(frames * header.frame_bytes()).expect("small"), 0);
    let path = folder.join(format!("{id}.wav"));
    std::fs::write(&path, &bytes).expect("written");
    crate::store::RecordingRow {
        id: id.into(),
        domain: crate::api::tests::TENANT.into(),
        path: path.to_string_lossy().into_owned(),
        file_name: "message.wav".into(),
        created_at: 1_763_640_000_000,
        duration_ms: frames * 20,
        frames_expected: frames,
        frames_received: frames,
        sha256: crate::versions::sha256_hex(&bytes),
        size: bytes.len() as u64,
        stop_reason: "remote_hangup".into(),
        state: crate::store::RecordingState::Available,
        ..crate::store::RecordingRow::default()
    }
}

#[cfg(feature = "h3")]
#[test]
fn commands_reach_a_node_behind_a_certificate() {
    use crate::api::tests::{TENANT, TOKEN, secure};
    let node = secure::secure();
    let component = node.folder().join("menu.wasm");
    std::fs::write(&component, [b"guest".as_slice(), &[7; 100_000]].concat()).expect("written");
    let run = |line: String| dispatch(parse(&line).expect("understood"));
    for over in ["", "--h3"] {
        let to = format!("--api https://{} --token {TOKEN} {over}", node.address());
        let ca = format!("--ca {}/ca.pem", secure::FOLDER);
        let pushed = run(format!("guest push {} --domain {TENANT} {to} {ca}", component.display()));
        assert!(matches!(pushed, Ok(())), "{over}: {pushed:?}");
        assert!(matches!(run(format!("guest list --domain {TENANT} {to} {ca}")), Ok(())));
        let refused = run(format!("guest activate 99 --domain {TENANT} {to} {ca}"));
        assert!(matches!(&refused, Err(Failure::Failed(why)) if why.contains("99")), "{refused:?}");
        // The machine's authorities do not know it.
        let refused = run(format!("guest list --domain {TENANT} {to}"));
        assert!(matches!(&refused, Err(Failure::Failed(why)) if why.contains("ertificate")), "{refused:?}");
    }
}

#[test]
fn commands_reach_the_node() {
    let world = crate::api::tests::world();
    let folder = world.folder.path();
    let domain = crate::api::tests::TENANT;
    let run = |line: &str| {
        let common = format!("--api http://{} --token {}", world.address, crate::api::tests::TOKEN);
        dispatch(parse(&format!("{line} {common}")).expect("understood"))
    };
    let path = |name: &str| folder.join(name).display().to_string();
    let done = |line: &str| assert!(matches!(run(line), Ok(())), "{line}: {:?}", run(line));
    let fails = |line: &str| match run(line) {
        Err(Failure::Failed(why)) => why,
        other => panic!("{line}: {other:?}"),
    };

    // Tenants: one thing is changed, the rest stays.
    done("tenant put b.example --number 200 --number carrier=100 --max-sessions 5 --error-prompt sorry.wav");
    done("tenant put b.example --max-sessions 6 --fallback-file closed.wav");
    let tenant = world.store.tenant("b.example").expect("read").expect("there");
    assert_eq!((tenant.max_sessions, tenant.numbers.len(), tenant.error_prompt.as_deref()), (6, 2, Some("sorry.wav")));
    assert!(fails("tenant put b.example --number 100").contains("numbers: 100 belongs to a.example (409)"));
    done("tenant put b.example --destination 192.0.2.0/24 --destination *.Example.com --trusted true --mediaservice-id one");
    done("tenant put b.example --outbox-origin https://crm.example");
    done("tenant put b.example --country de --codec PCMU --codec PCMA --in-number 90* --in-number 17");
    let tenant = world.store.tenant("b.example").expect("read").expect("there");
    assert_eq!((tenant.destinations, tenant.trusted, tenant.max_sessions), (vec!["192.0.2.0/24".into(), "*.example.com".into()], true, 6));
    assert_eq!((tenant.mediaservice_ids, tenant.outbox_origins), (vec!["one".to_owned()], vec!["https://crm.example".to_owned()]));
    assert_eq!((tenant.country.as_str(), tenant.codecs.len(), tenant.in_numbers.len()), ("DE", 2, 2));
    assert!(fails("tenant put b.example --country XX").contains("country: must be one of"));
    assert!(fails("tenant put b.example --destination a/b").contains("destinations[0]"));
    done("tenant list");
    assert!(matches!(run("guest list"), Err(Failure::Usage(_))), "two tenants, none the default one");
    done("tenant remove b.example");
    done("tenant token a.example ci");

    // Keys.
    let pem = folder.join("crm.pem");
    std::fs::write(&pem, crate::api::tests::tenant_key()).expect("written");
    done(&format!("tenant key add a.example crm {}", pem.display()));
    done("tenant key list a.example");
    done("tenant key remove a.example crm");
    assert!(fails("tenant key remove a.example crm").contains("unknown key (404)"));
    assert!(fails(&format!("tenant key add a.example crm {}", path("guest.wasm"))).contains("guest.wasm"));
    done("reply-keys rotate");

    // Sessions: each command is the one that was meant.
    done("session list");
    done("session list --domain a.example --json");
    world.sends("session hangup s-1 p-1", &run, Order::HangupParticipant { session_id: "s-1".into(), participant_id: "p-1".into() });
    world.sends(
        "session hangup s-1 p-1 --remote",
        &run,
        Order::HangupRemoteParticipant { session_id: "s-1".into(), participant_id: "p-1".into() },
    );
    world.sends("session split s-1 c-1", &run, Order::SplitConnection { session_id: "s-1".into(), connection_id: "c-1".into() });
    world.sends("session record start s-1 c-1", &run, Order::record_call("s-1".into(), "c-1".into(), None));
    world.sends(
        "session record stop s-1 c-1",
        &run,
        Order::StopRecording { session_id: "s-1".into(), which: WhichRecording::Connection("c-1".into()) },
    );
    world.sends("session interrupt s-1", &run, Order::InterruptIvrCommand { session_id: "s-1".into(), command: None });
    world.sends(
        "session dtmf s-1 p-1 12#",
        &run,
        Order::SendDtmf { session_id: "s-1".into(), participant_id: "p-1".into(), digits: "12#".into(), length: None },
    );
    let (session_id, participant_id) = (|| "s-1".to_owned(), || "p-1".to_owned());
    for (line, target) in [
        ("session transfer s-1 p-1 sip:carol@127.0.0.1", TransferTarget::Blind("sip:carol@127.0.0.1".into())),
        ("session transfer s-1 p-1 --to-participant p-2", TransferTarget::Attended("p-2".into())),
    ] {
        world.sends(line, &run, Order::Transfer { session_id: session_id(), participant_id: participant_id(), target });
    }
    let music = HoldAudio::File("music.wav".into());
    world.sends(
        "session hold s-1 p-1 --music music.wav",
        &run,
        Order::Hold { session_id: session_id(), participant_id: participant_id(), audio: music },
    );
    world.sends("session resume s-1 p-1", &run, Order::Resume { session_id: session_id(), participant_id: participant_id() });
    let mute = Mute { speak: true, listen: true };
    world.sends("session mute s-1 p-1 both", &run, Order::Mute { session_id: session_id(), participant_id: participant_id(), mute });
    let call = OutboundCall { dest_addr: "sip:bob@127.0.0.1".into(), sip_from: Some("100".into()), ..OutboundCall::default() };
    world.sends(
        "session place sip:bob@127.0.0.1 --from 100",
        &run,
        Order::PlaceIvrCall(Box::new(PlaceIvrCall { call, ..PlaceIvrCall::default() })),
    );
    assert_eq!(fails("session interrupt nobody"), "unknown session (404)");

    // Guests.
    let guest = folder.join("guest.wasm");
    std::fs::write(&guest, "guest one").expect("written");
    done(&format!("guest push {} --note one", guest.display()));
    std::fs::write(&guest, "guest two").expect("written");
    done(&format!("guest push {}", guest.display()));
    assert_eq!(world.loader.active(), [(domain.to_owned(), 2)]);
    done("guest rollback");
    assert_eq!(world.loader.active(), [(domain.to_owned(), 1)]);
    assert!(fails("guest rollback").contains("no earlier version"));
    done("guest activate 2 --json");
    done("guest activate 1 --percent 10");
    done("guest list");
    done("guest rollback");
    done("guest activate 1 --number 100,101");
    done("guest promote");
    assert_eq!(world.loader.active(), [(domain.to_owned(), 1)]);
    done("guest rollback");
    assert!(fails("guest promote").contains("no version is tried"));
    // Signed, by a key of this tenant or not at all.
    let key = folder.join("build.pem");
    done(&format!("guest key {}", key.display()));
    assert!(fails(&format!("guest key {}", key.display())).contains("exists"), "an earlier key is kept");
    done(&format!("tenant guest-policy {domain} --require-signature true --signing-key {}.pub", key.display()));
    std::fs::write(&guest, "guest three").expect("written");
    assert!(fails(&format!("guest push {}", guest.display())).contains("signature: this tenant requires one; known keys: "));
    done(&format!("guest sign {} --key {}", guest.display(), key.display()));
    done(&format!("guest push {} --sign {}", guest.display(), key.display()));
    assert_eq!(world.loader.active(), [(domain.to_owned(), 3)]);
    let id = world.get("/admin/tenants/a.example/guest-policy")["policy"]["signing_keys"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.get("/a.example/guests")["versions"][0]["signed_by"], id.as_str());
    assert!(fails(&format!("tenant guest-policy {domain} --remove-signing-key {id}")).contains("must name a key"));
    done(&format!("tenant guest-policy {domain} --require-signature false --remove-signing-key {id} --trial-calls 0"));
    done("guest activate 2");
    done("guest logs");
    std::fs::write(&guest, "no component").expect("written");
    assert_eq!(fails(&format!("guest push {}", guest.display())), "component: not a WebAssembly component (400)");
    assert!(fails(&format!("guest check {}", guest.display())).contains("not WebAssembly"));

    // Prompts.
    let wav = folder.join("hello there.wav");
    std::fs::write(&wav, "RIFF").expect("written");
    std::fs::copy(&wav, folder.join("hello.wav")).expect("copied");
    done(&format!("prompt put {} --name greeting.wav", path("hello.wav")));
    done("prompt list");
    done(&format!("prompt get greeting.wav --output {}", path("fetched.wav")));
    assert_eq!(std::fs::read(folder.join("fetched.wav")).expect("there"), b"RIFF");
    done("prompt rm greeting.wav");
    assert!(fails("prompt get greeting.wav").contains("unknown file (404)"));

    // Recordings: whole, not whole, not there.
    world.store.put_recording(recording(folder, "whole", 50)).expect("put");
    done("recording list");
    done("recording verify whole");
    done("recording verify --all --json");
    done(&format!("recording get latest --output {}", path("got.wav")));
    assert_eq!(std::fs::read(folder.join("got.wav")).expect("there"), std::fs::read(folder.join("whole.wav")).expect("there"));
    done(&format!("recording verify {}", path("got.wav")));
    let mut bytes = std::fs::read(folder.join("got.wav")).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(folder.join("got.wav"), &bytes).expect("written");
    assert!(fails(&format!("recording verify {}", path("got.wav"))).contains("1 of 1 recordings are not whole"));
    let mut short = recording(folder, "short", 50);
    short.frames_received = 49;
    world.store.put_recording(short).expect("put");
    assert!(fails("recording verify whole short").contains("1 of 2"));
    assert!(fails("recording get nothing").contains("unknown recording (404)"));

    // What becomes of them.
    done("recording link whole --for 1m");
    done("recording hold whole --why court");
    assert!(fails("recording remove whole").contains("legal hold"));
    done("recording release whole");
    done("recording access whole");
    done("privacy erase nobody --dry-run");
    done("recording remove whole --json");
    assert!(fails("recording get whole").contains("it was deleted (410)"));
    let elsewhere = path("elsewhere");
    done(&format!("tenant storage set {domain} file:{elsewhere} --every"));
    done(&format!("tenant storage show {domain}"));
    done(&format!("tenant storage remove {domain}"));
    assert!(fails(&format!("tenant storage show {domain}")).contains("404"));
    assert!(fails(&format!("tenant storage set {domain} s3://calls")).contains("is needed for s3://"));
    done(&format!("tenant put {domain} --recording-retention 30d"));
    let kept = world.store.tenant(domain).expect("read").and_then(|tenant| tenant.recording_retention_ms);
    assert_eq!(kept, Some(30 * 24 * 3_600_000));
    done(&format!("tenant put {domain} --record-announce always --graph-sample-rate 8000"));
    assert_eq!(
        world.store.tenant(domain).expect("read").map(|tenant| (tenant.record_announce, tenant.graph_sample_rate)),
        Some((RecordAnnounce::Always, Some(8000)))
    );
    done(&format!("tenant put {domain} --recording-retention forever"));
    assert_eq!(world.store.tenant(domain).expect("read").and_then(|tenant| tenant.recording_retention_ms), None);
}

#[test]
fn ur_035_a_file_with_its_sidecar_is_judged_without_a_node() {
    use crate::record::keys::Keys;
    use crate::record::sidecar::{Side, Statement, unhex};
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::load(folder.path()).expect("keys");
    let row = recording(folder.path(), "whole", 50);
    let side = Side { expected: 50, received: 50, ..Side::default() };
    let statement = Statement {
        format: "hookswitch-recording-1".into(),
        recording_id: row.id.clone(),
        container: "wav".into(),
        frames: 50,
        ptime_ms: 20,
        duration_ms: 1000,
        speak: side,
        size: row.size,
        sha256: row.sha256.clone(),
        ..Statement::default()
    };
    let beside = format!("{}.json", row.path);
    std::fs::write(&beside, statement.clone().sign(&keys)).expect("written");
    let config = folder.path().join("node.toml");
    std::fs::write(&config, format!("[storage]\ndata = \"{}\"\n", folder.path().display())).expect("written");
    let run = |line: String| dispatch(parse(&line).expect("understood"));
    let verify = |rest: String| run(format!("recording verify {} {rest}", row.path));
    let public = std::fs::read_to_string(folder.path().join("keys/node.pub")).expect("there");
    assert_eq!(unhex(public.trim()).as_deref(), Some(keys.public()));
    // The key of the node here, one that is typed, one in a file.
    assert!(matches!(run(format!("recording key --config {}", config.display())), Ok(())));
    assert!(matches!(verify(format!("--config {}", config.display())), Ok(())));
    assert!(matches!(verify(format!("--key {}", public.trim())), Ok(())));
    assert!(matches!(verify(format!("--key {}", folder.path().join("keys/node.pub").display())), Ok(())));
    assert!(matches!(verify("--key 1234".into()), Err(Failure::Usage(_))));
    // Another node's key, a counter that does not add up, a changed byte.
    assert!(matches!(verify(format!("--key {}", "ab".repeat(32))), Err(Failure::Failed(_))));
    let lost = Statement { speak: Side { expected: 50, received: 49, ..Side::default() }, ..statement.clone() };
    std::fs::write(&beside, lost.sign(&keys)).expect("written");
    assert!(matches!(verify(format!("--key {}", public.trim())), Err(Failure::Failed(_))));
    std::fs::write(&beside, statement.sign(&keys)).expect("written");
    let mut bytes = std::fs::read(&row.path).expect("there");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&row.path, bytes).expect("written");
    assert!(matches!(verify(format!("--key {}", public.trim())), Err(Failure::Failed(_))));
}
