//! The power fails while somebody speaks.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{read_wav, write_wav};
use hookswitch_tests::node::{Node, wait_for};
use std::thread::sleep;
use std::time::Duration;

const DEMO: &str = "demo.localhost";

#[test]
fn a_recording_that_was_cut_by_a_crash_is_repaired_and_announced() {
    let mut node = Node::demo();
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(1000));
    let call = node.phone("voicemail").play(&said).seconds("15").start();
    sleep(Duration::from_secs(6));
    node.kill();
    let log_before = node.log().len();
    node.start();
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    assert_ne!(recording["state"].as_str(), Some("recording"), "the recording is over: {recording}");
    let verified = node.cli(&["recording", "verify", id]);
    verified.ok();
    let tally = Tally::of(&read_wav(&node.fetch(id)));
    assert!(tally.whole(), "{tally:?}");
    // 6 s of call, less the beep, less at most what a crash may cost: one second, and the half second of a block not full.
    assert!(tally.numbered >= 150, "more than a second was lost: {tally:?}");
    assert!(node.log()[log_before..].contains(id), "the repaired recording is announced in the log");
    // The handler hears of it too, in an instance of its own: the session that recorded is long gone.
    let (name, bytes) = (recording["file_name"].as_str().expect("a name"), recording["size"].as_u64().expect("a size"));
    assert!(bytes > 0, "{recording}");
    let told = format!("message {name} of {bytes} bytes");
    wait_for(&format!("the handler saying `{told}`"), || node.cli(&["guest", "logs", "--domain", DEMO]).ok().stdout.contains(&told));
    drop(call);
}
