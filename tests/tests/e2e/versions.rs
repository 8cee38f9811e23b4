//! A developer changes the handler: pushes, hears the change, rolls back, hears that. Tries a version with some calls, pushes one that fails,
//! and one that costs a compiler too much.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{heard_tones, read_wav, silence, write_wav};
use hookswitch_tests::guests::{DOMAIN, install, moods, push, with_code};
use hookswitch_tests::node::{Node, component, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const FIRST: f64 = 440.0;
const SECOND: f64 = 660.0;

/// The tones of a file, without lengths. Between two commands that play the same tone is a moment of silence: that is no other tone.
fn tones(path: &Path) -> Vec<f64> {
    let mut hz: Vec<f64> = heard_tones(&read_wav(path), &[FIRST, SECOND]).into_iter().map(|(hz, _)| hz).collect();
    hz.dedup();
    hz
}

fn hears(node: &Node, hz: f64) {
    hears_of(node, "tone", hz);
}

fn hears_of(node: &Node, number: &str, hz: f64) {
    let heard = node.file("heard.wav");
    node.phone(number).record(&heard).seconds("2").run().ok();
    assert_eq!(tones(&heard), [hz], "{number}");
}

fn guest(node: &Node, arguments: &[&str]) -> hookswitch_tests::node::Run {
    node.cli(&[&["guest"], arguments, &["--domain", DOMAIN]].concat())
}

/// Number, whether it is active, its share, and the numbers it is tried with, newest first.
fn shares(node: &Node) -> Vec<Value> {
    let list = node.json(&["guest", "list", "--domain", DOMAIN, "--json"]);
    let versions = list["versions"].as_array().unwrap_or_else(|| panic!("no versions in {list}"));
    versions.iter().map(|version| json!([version["number"], version["active"], version["percent"], version["numbers"]])).collect()
}

#[test]
fn a_change_is_pushed_heard_and_rolled_back() {
    let node = Node::demo();
    install(&node, 440);
    hears(&node, FIRST);

    // A call that is up when the new version comes stays on the old one.
    let long = node.file("long.wav");
    let call = node.phone("tone").record(&long).seconds("9").start();
    sleep(Duration::from_secs(1));
    push(&node, 660).ok();
    hears(&node, SECOND);
    call.end().ok();
    assert_eq!(tones(&long), [FIRST], "a call changed its version while it was up");

    let versions = node.json(&["guest", "list", "--domain", DOMAIN, "--json"]);
    let list = versions["versions"].as_array().unwrap_or_else(|| panic!("no versions in {versions}"));
    let active: Vec<_> = list.iter().map(|version| (version["number"].as_u64(), version["active"].as_bool())).collect();
    assert_eq!(active, [(Some(2), Some(true)), (Some(1), Some(false))], "newest first");

    node.cli(&["guest", "rollback", "--domain", DOMAIN]).ok();
    hears(&node, FIRST);
    node.cli(&["guest", "activate", "2", "--domain", DOMAIN]).ok();
    hears(&node, SECOND);
    node.cli(&["guest", "activate", "99", "--domain", DOMAIN]).fails(&["99"]);
}

#[test]
fn versions_survive_a_restart() {
    let mut node = Node::demo();
    install(&node, 440);
    let other = moods(660);
    guest(&node, &["push", other.to_str().expect("our paths are UTF-8"), "--number", "tone"]).ok();
    node.kill();
    // As after an upgrade of the engine: none of the compiled code is of use.
    fs::remove_dir_all(node.data().join("compiled")).expect("it was there");
    node.start();
    hears(&node, SECOND);
    hears_of(&node, "trap-later", FIRST);
}

#[test]
fn a_version_is_tried_with_some_calls_then_promoted() {
    let node = Node::demo();
    install(&node, 440);
    let other = moods(660);
    let other = other.to_str().expect("our paths are UTF-8");
    guest(&node, &["push", other, "--percent", "10"]).ok().says("10 % of new calls");
    assert_eq!(shares(&node), [json!([2, false, 10, null]), json!([1, true, 90, null])]);
    guest(&node, &["list"]).ok().says("90 %").says("10 %");

    guest(&node, &["activate", "2", "--number", "tone,100"]).ok().says("those to tone,100");
    hears(&node, SECOND);
    // A number that plays the tone before it misbehaves.
    hears_of(&node, "trap-later", FIRST);
    guest(&node, &["rollback"]).ok();
    hears(&node, FIRST);
    guest(&node, &["promote"]).fails(&["no version is tried"]);
    guest(&node, &["activate", "2", "--number", "tone"]).ok();
    guest(&node, &["promote"]).ok();
    assert_eq!(shares(&node), [json!([2, true, 100, null]), json!([1, false, 0, null])]);
    hears_of(&node, "trap-later", SECOND);
    guest(&node, &["rollback"]).ok();
    hears(&node, FIRST);
}

#[test]
fn a_version_that_fails_its_first_calls_is_taken_back_and_one_that_always_fails_rests() {
    let node = Node::demo();
    install(&node, 440);
    node.cli(&["tenant", "guest-policy", DOMAIN, "--trial-calls", "50", "--trial-min-calls", "4", "--trial-failed-percent", "50"]).ok();
    push(&node, 660).ok();
    for _ in 0..4 {
        node.phone("trap").seconds("5").run().fails(&["503"]);
    }
    wait_for("the version to be taken back", || shares(&node) == [json!([2, false, 0, null]), json!([1, true, 100, null])]);
    hears(&node, FIRST);
    wait_for("the tenant's log to say so", || guest(&node, &["logs"]).stdout.contains("version 2 failed"));
    assert_eq!(node.metric("hookswitch_guest_taken_back_total", &[DOMAIN]), 1.0);
    let audit = node.http("/admin/audit?limit=20").expect("an answer");
    assert!(audit.contains("version rolled back to") && audit.contains("1: version 2 failed"), "{audit}");

    // There is nothing before version 1: it stays, and its calls get the fallback without an instance each.
    for _ in 0..12 {
        node.phone("trap").seconds("5").run().fails(&["503"]);
    }
    assert!(node.metric("hookswitch_guest_rests_total", &[DOMAIN]) >= 1.0);
    assert_eq!(shares(&node)[1], json!([1, true, 100, null]));
}

#[test]
fn a_component_that_takes_too_long_to_compile_is_refused_by_name_and_no_call_notices() {
    let node = Node::with(true, &[("HOOKSWITCH_GUESTS_COMPILE_CPU_S", "1")]);
    install(&node, 440);
    let said = node.file("numbered.wav");
    write_wav(&said, &[silence(1.0), numbered::pcm(400)].concat());
    let heard = node.file("witness.wav");
    let witness = node.phone("echo").play(&said).record(&heard).seconds("11").start();
    let file = node.file("bomb.wasm");
    // Some millions of instructions.
    let bytes = with_code(fs::read(component("menu")).expect("a component"), 40, 6_500, 1);
    assert!(bytes.len() < 4 << 20, "{} bytes", bytes.len());
    fs::write(&file, bytes).expect("written");
    guest(&node, &["push", file.to_str().expect("our paths are UTF-8")]).fails(&["takes more than 1 s of CPU time to compile"]);
    // Meanwhile and afterwards others push.
    push(&node, 660).ok();
    hears(&node, SECOND);
    assert_eq!(shares(&node).len(), 2, "the bomb is no version");
    witness.end().ok();
    let tally = Tally::of(&read_wav(&heard));
    assert!(tally.whole() && tally.first == Some(0) && tally.last == Some(399), "a call noticed: {tally:?}");
}
