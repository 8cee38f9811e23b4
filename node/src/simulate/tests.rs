//! Simulated calls with small guests: the same each time, bounded by instructions, and failing where they are told to.

use super::replay::{Capture, replay};
use super::{Loaded, Run, Scenario, report};
use hookswitch_wasm::testing::Guest;
use hookswitch_wasm::{Class, Engine};
use serde_json::json;
use std::sync::{Arc, LazyLock};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::counting().expect("an engine"));

fn loaded(guest: &Guest) -> Loaded {
    let module = ENGINE.module(&guest.component()).expect("a guest");
    Loaded { module: Arc::new(module), class: Class::Standard }
}

fn simulated(guest: &Guest, scenario: &str) -> (Run, super::run::Outcome) {
    let scenario = Scenario::parse(scenario).expect("a scenario");
    let mut run = Run::begin(&scenario, loaded(guest), scenario.seed).expect("a call");
    for step in &scenario.steps {
        run.step(step).expect("a step");
    }
    let outcome = run.finish();
    (run, outcome)
}

#[test]
fn a_call_is_the_same_each_time_and_its_instructions_are_counted() {
    let told = || {
        let (run, outcome) = simulated(&Guest::dropping(486), "");
        assert_eq!((outcome.status, outcome.defects.clone()), (Some(486), vec![]), "{}", run.ladder());
        report::text(&run, &outcome)
    };
    let first = told();
    assert_eq!(first, told());
    assert!(first.contains("0.000 guest -> node   drop 486"), "{first}");
    let (run, _) = simulated(&Guest::dropping(486), "");
    let took = run.measured().hooks["new-call"];
    assert!(took.instructions > 0 && took.instructions < 10_000, "{took:?}");
}

#[test]
fn a_loop_ends_by_its_instructions_and_the_fallback_answers() {
    let (run, outcome) = simulated(&Guest::each("(loop $l (br $l))"), "fallback_status = 480");
    assert_eq!(outcome.status, Some(480), "{}", run.ladder());
    // Once, and once more with a fresh instance.
    assert_eq!(run.ladder().matches("CPU time is used up").count(), 2, "{}", run.ladder());
    assert_eq!(run.measured().hooks["new-call"].failed, 2);
}

#[test]
fn hooks_fail_where_the_scenario_says_so_and_commands_reach_the_call() {
    let ivr = Guest { new_call: "(i32.store8 (i32.add (global.get $out) (i32.const 8)) (i32.const 1))".into(), ..Guest::default() };
    let (run, outcome) = simulated(&ivr, "steps = [\"fail trap\", \"wait 1s\", \"command hangup\"]");
    let ladder = run.ladder();
    assert!(ladder.contains("trap: ordered by the scenario"), "{ladder}");
    assert!(ladder.contains("a fresh instance"), "{ladder}");
    assert!(outcome.defects.is_empty(), "{:?}", outcome.defects);
}

#[test]
fn what_a_scenario_expects_is_looked_for() {
    let scenario = Scenario::parse("expect = { status = 200, reason = \"x\", lines = [\"INVITE\", \"INVITE\"], most_instructions = 0 }");
    let scenario = scenario.expect("a scenario");
    let mut run = Run::begin(&scenario, loaded(&Guest::dropping(404)), 1).expect("a call");
    let outcome = run.finish();
    let found = report::unexpected(&scenario.expect, &run, &outcome).join("\n");
    for part in
        ["expect.status: 200, but it was 404", "expect.reason: x", "expect.lines[1]", "expect.most_instructions: 0, but new-call took"]
    {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn a_replay_tells_who_answers_otherwise() {
    let info = json!({ "session_id": "s", "session_reference": null, "domain": "a", "ivr_server": "", "trace_id": "", "site_id": null,
        "transaction_id": "", "restarted": false, "extra": [] });
    let request = json!({ "info": info, "event": "CallingPartyDrop", "connection_id": "c", "participant_id": "p", "user": "",
        "remote_participant_id": "", "remote_user": "", "reply_id": "***", "sip_code": null, "reason_text": null, "q850": null, "extra": [] });
    let answer = json!({ "routing": { "Drop": { "drop_code": { "SipCode": 486 }, "session_reference": null, "extra": [] } } });
    let capture = |request: &serde_json::Value| {
        let entry = json!({ "at_ms": 5, "kind": "hook", "hook": "call-event", "request": request, "answer": answer,
            "verdict": "drop 486", "failure": null });
        let text = json!({ "id": "s", "domain": "a", "version": 1, "digits": "redacted", "entries": [entry] }).to_string();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("capture.json");
        std::fs::write(&file, text).expect("written");
        Capture::read(&file).expect("a capture")
    };
    let differences = |code: u16| {
        let replayed = replay(&capture(&request), &loaded(&Guest::dropping(code)), None, 1).expect("replayed");
        replayed.hooks[0].differences.clone()
    };
    assert_eq!(differences(486), Vec::<String>::new());
    assert_eq!(differences(480), ["answer.routing.Drop.drop_code.SipCode: was 486, is 480"]);
    let cut = replay(&capture(&json!(null)), &loaded(&Guest::dropping(480)), None, 1).expect("replayed");
    assert!(cut.hooks[0].skipped.is_some());
    let trap = replay(&capture(&request), &loaded(&Guest::each("(unreachable)")), None, 1).expect("replayed");
    assert_eq!(trap.hooks[0].differences[0], "failure: was none, is trap");
}
