//! What a developer sees of a call without a node, and of one that a node had: scenarios of all examples with their snapshots, a call typed at
//! a prompt, a call explained, and one of production asked again.

use hookswitch_tests::guests;
use hookswitch_tests::node::{Node, Run, binary, component, root, wait_for};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DOMAIN: &str = "demo.localhost";

fn text(path: &Path) -> &str {
    path.to_str().expect("our paths are UTF-8")
}

/// `hookswitch guest simulate` in the workspace.
fn simulate(arguments: &[&str], typed: &str) -> Run {
    let arguments: Vec<&str> = ["guest", "simulate"].iter().chain(arguments).copied().collect();
    let mut command = Command::new(binary());
    command.args(&arguments).current_dir(root()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // It may have ended already: then nobody reads.
    let _ = child.stdin.take().expect("piped").write_all(typed.as_bytes());
    Run::of(&arguments, &child.wait_with_output().expect("it ends"))
}

/// Scenarios of an example, by their paths.
fn scenarios(example: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(example.join("scenarios")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    found.sort();
    found
}

#[test]
fn sim_every_example_takes_its_scenarios_as_its_snapshots_say() {
    let examples = std::fs::read_dir(root().join("guest-examples")).expect("examples").flatten().map(|entry| entry.path());
    let update = std::env::var_os("HOOKSWITCH_UPDATE").is_some();
    for example in examples.filter(|path| path.join("Cargo.toml").is_file()) {
        let name = example.file_name().and_then(|name| name.to_str()).expect("a name");
        let scenarios = scenarios(&example);
        assert!(!scenarios.is_empty(), "{name} has no scenario");
        for scenario in scenarios {
            let snapshot = scenario.with_extension("ladder");
            assert!(update || snapshot.is_file(), "{} is missing: HOOKSWITCH_UPDATE=1 writes it", snapshot.display());
            let component = component(name);
            let mut arguments = vec![text(&component), text(&scenario), "--snapshot", text(&snapshot)];
            if update {
                arguments.push("--update");
            }
            simulate(&arguments, "").ok();
        }
    }
}

#[test]
fn sim_a_snapshot_that_no_longer_fits_is_shown_and_can_be_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scenario, snapshot) = (folder.path().join("a.toml"), folder.path().join("a.ladder"));
    std::fs::write(&scenario, "caller = \"spam\"\n").expect("written");
    let component = component("reject-list");
    let arguments = [text(&component), text(&scenario), "--snapshot", text(&snapshot)];
    simulate(&arguments, "").ok().says("guest -> node   drop decline");
    simulate(&arguments, "").ok();
    std::fs::write(&scenario, "caller = \"pest\"\n").expect("written");
    let run = simulate(&arguments, "");
    run.fails(&["-0.000 guest -> node   drop decline", "+0.000 guest -> node   drop busy", "--update"]);
    simulate(&[&arguments[..], &["--update"]].concat(), "").ok();
    simulate(&arguments, "").ok();
}

#[test]
fn sim_a_scenario_that_is_wrong_or_not_met_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("a.toml");
    let component = component("hello");
    for (file, words) in [
        ("seed = 1\nnumbr = \"1\"\n", ["a.toml:2: ", "unknown field `numbr`"]),
        ("steps = [\n  \"jump\",\n]\n", ["a.toml:2: steps[0]: ", "`jump` is nothing to do"]),
        ("prompt_folder = \"nowhere\"\n", ["a.toml: prompt_folder: ", "nowhere"]),
        ("[expect]\nstatus = 486\n", ["expect.status: 486, but it was 200", "hookswitch: "]),
    ] {
        std::fs::write(&scenario, file).expect("written");
        simulate(&[text(&component), text(&scenario)], "").fails(&words);
    }
    simulate(&[text(&component), "none.toml"], "").fails(&["none.toml", "No such file"]);
}

#[test]
fn sim_a_call_is_typed_at_a_prompt() {
    let scenario = root().join("guest-examples/menu/scenarios/message.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let quiet = folder.path().join("menu.toml");
    let prompts = root().join("guest-examples/menu/prompts");
    std::fs::write(&quiet, format!("number = \"ivr\"\nprompt_folder = {:?}\n", text(&prompts))).expect("written");
    assert!(scenario.is_file());
    let run = simulate(&[text(&component("menu")), text(&quiet), "--interactive"], "nonsense\n1\nwait 6s\nsay 2s\n#\n\nwait end\n");
    run.ok();
    for words in [
        "play welcome-menu.wav (",
        "? `nonsense` is nothing to do",
        "digit 1",
        "play leave-message.wav (",
        "play thanks.wav (",
        "ended: ivrHangup",
    ] {
        run.says(words);
    }
    // Whoever closes the line hangs up.
    simulate(&[text(&component("menu")), text(&quiet), "--interactive"], "2\n").ok().says("ended: callingPartyHangup");
}

#[test]
fn sim_a_handler_finds_what_the_scenario_says_and_its_timers_come() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("hosts.toml");
    let file = r#"
        config = { url = "http://crm.example/", greeting = "hello" }
        secrets = { token = "open" }
        steps = ["wait end"]
        [[http]]
        url = "http://crm.example/agent"
        body = "Bob"
        [[http]]
        method = "POST"
        url = "http://crm.example/look"
        status = 204
        [expect]
        lines = ["greeting Some(\"hello\"), tries None", "the secret is open", "calls 1", "set-if true false", "fetched 200", "posted 204",
            "denied: GET http://169.254.169.254/latest/meta-data", "limit: fetches: 4 for each hook", "timers.cancel",
            "timers.set refused", "timer tick", "timer tick is due", "post http://crm.example/told"]
    "#;
    std::fs::write(&scenario, file).expect("written");
    let run = simulate(&[text(&guests::component("hosts", 0)), text(&scenario)], "");
    run.ok();
    // Reckoned from the hook that set it; the other one was cancelled.
    assert!(run.stdout.contains("0.400 node  -> guest  timer tick") && !run.stdout.contains("timer never"), "{run}");
}

/// The id of the call that ended last.
fn last_session(node: &Node) -> String {
    let mut session = None;
    wait_for("a call that has ended", || {
        let list: Value = serde_json::from_str(&node.http(&format!("/{DOMAIN}/calls")).expect("it answers")).expect("JSON");
        session = list["calls"][0]["session"].as_str().map(str::to_owned);
        session.is_some()
    });
    session.expect("waited for")
}

#[test]
fn sim_a_call_is_explained_and_asked_again() {
    let node = Node::demo();
    node.cli(&["session", "digits", "1h", "--domain", DOMAIN]).ok().says("within 3600 s are kept");
    node.phone("ivr").dtmf("7@1s").seconds("3").run().ok();
    let session = last_session(&node);

    let explained = || node.cli(&["session", "explain", &session]);
    wait_for("the call's last hook", || explained().stdout.contains("SessionCompleted"));
    let run = explained();
    for words in ["version 1", "new-call", "get-ivr-command", "play welcome-menu.wav", "play invalid.wav"] {
        run.ok().says(words);
    }
    assert!(!run.stdout.contains("redacted"), "{run}");
    let told = node.json(&["session", "explain", &session, "--json", "--domain", DOMAIN]);
    let entries = told["session"]["entries"].as_array().expect("entries");
    let digits: Vec<&Value> = entries.iter().map(|entry| &entry["request"]["dtmf_params"]["dtmf_match"]).filter(|m| !m.is_null()).collect();
    assert_eq!(digits, ["7"], "{told}");
    assert!(entries.iter().filter(|entry| entry["kind"] == "hook").all(|entry| entry["ran_us"].is_u64()), "{told}");

    // The same handler answers the same, another one does not.
    let capture = node.file("capture.json");
    node.cli(&["session", "explain", &session, "--capture", text(&capture)]).ok();
    simulate(&[text(&component("menu")), "--replay", text(&capture)], "").ok().says("no difference");
    let run = simulate(&[text(&component("hello")), "--replay", text(&capture)], "");
    run.fails(&[]);
    for words in ["DIFFERENT", "was: ivr", "now: play greeting.wav", "hooks are answered differently"] {
        run.says(words);
    }

    // Without the tenant's wish nobody sees what was pressed.
    node.cli(&["session", "digits", "0s", "--domain", DOMAIN]).ok();
    node.phone("ivr").dtmf("7@1s").seconds("3").run().ok();
    let mut next = session.clone();
    wait_for("the next call", || {
        next = last_session(&node);
        next != session
    });
    wait_for("its explanation", || node.cli(&["session", "explain", &next]).stdout.contains("SessionCompleted"));
    let run = node.cli(&["session", "explain", &next, "--json"]);
    run.ok().says("\"dtmf_match\": \"*\"");
    assert!(!run.stdout.contains("\"7\""), "{run}");
    node.cli(&["session", "explain", &next]).ok().says("digits are redacted");
    node.cli(&["session", "explain", "no-such-session"]).fails(&["unknown session"]);
}
