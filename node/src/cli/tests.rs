use super::*;
use clap::CommandFactory;

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
        "tenant token a.example ci --revoke",
        "guest new hello",
        "guest build guest-examples/menu --output target/guests/menu.component.wasm",
        "guest check menu.component.wasm",
        "guest push guest-examples/menu --note try --no-activate --domain a.example",
        "guest list",
        "guest activate 3",
        "guest rollback --json",
        "recording list --limit 5",
        "recording get latest --output heard.wav",
        "recording verify latest other.wav",
        "recording verify --all",
        "prompt put hello.wav --name greeting.wav",
        "prompt get greeting.wav -o -",
        "prompt rm greeting.wav",
        "--domain a.example prompt list",
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
        "guest activate latest",
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
    let why = failure("tenant list --config /nowhere/node.toml");
    assert!(why.contains("/nowhere/node.toml"), "{why}");
}
