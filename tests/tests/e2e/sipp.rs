//! sipp as the other side, with scenarios of ours (`tests/sipp`) and captures made here.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{ffprobe_seconds, read_wav};
use hookswitch_tests::node::{Node, wait_for};
use hookswitch_tests::pcap::Capture;
use hookswitch_tests::peer::sipp;

/// Frames `0..frames` as a capture.
fn speech(frames: u32) -> Capture {
    let law: Vec<u8> = (0..frames).flat_map(numbered::frame).collect();
    Capture::new(0x5199).audio(&law)
}

#[test]
fn sipp_leaves_a_message_and_ends_it_by_a_key() {
    let node = Node::demo();
    sipp(&node, "voicemail", "voicemail", &[("speech.pcap", &speech(150)), ("hash.pcap", &Capture::new(0x5199).digit('#', 101))]).ok();
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    let file = node.fetch(id);
    let tally = Tally::of(&read_wav(&file));
    assert!(tally.missing == 0 && tally.repeated == 0 && tally.disordered == 0, "{tally:?}");
    assert_eq!(tally.last, Some(149), "{tally:?}");
    // Speech and key lie 4 s apart; what is before the speech is what the beep left of the first second.
    let seconds = ffprobe_seconds(&file);
    assert!((4.0..5.1).contains(&seconds), "{seconds} s");
}

#[test]
fn sipp_hangs_up() {
    let node = Node::demo();
    sipp(&node, "hangup", "voicemail", &[("speech.pcap", &speech(150))]).ok();
    let tally = Tally::of(&read_wav(&node.fetch(node.recording()["id"].as_str().expect("an id"))));
    assert_eq!((tally.last, tally.missing), (Some(149), 0), "{tally:?}");
}

#[test]
fn sipp_holds_and_resumes() {
    let node = Node::demo();
    sipp(&node, "hold", "voicemail", &[("speech.pcap", &speech(50))]).ok();
    let recording = node.recording();
    node.cli(&["recording", "verify", recording["id"].as_str().expect("an id")]).ok();
}

#[test]
fn sipp_asks_for_options() {
    sipp(&Node::demo(), "options", "ivr", &[]).ok();
}

#[test]
fn sipp_offers_no_codec_of_ours() {
    let node = Node::demo();
    sipp(&node, "bad-sdp", "ivr", &[]).ok();
    wait_for("the offer counted", || node.metrics().iter().any(|(name, value)| name.contains("bad_offer") && *value == 1.0));
}

#[test]
fn sipp_uses_a_method_that_is_not_ours() {
    sipp(&Node::demo(), "method", "ivr", &[]).ok();
}

#[test]
fn sipp_requires_what_we_have_not() {
    sipp(&Node::demo(), "require", "ivr", &[]).ok();
}
