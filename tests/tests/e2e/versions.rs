//! A developer changes the handler: pushes, hears the change, rolls back, hears that.

use hookswitch_tests::audio::{heard_tones, read_wav};
use hookswitch_tests::guests::{DOMAIN, install, push};
use hookswitch_tests::node::Node;
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
    let heard = node.file("heard.wav");
    node.phone("tone").record(&heard).seconds("2").run().ok();
    assert_eq!(tones(&heard), [hz]);
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
    install(&node, 660);
    node.kill();
    node.start();
    hears(&node, SECOND);
}
