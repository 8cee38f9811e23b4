//! Somebody calls the demo's numbers and presses keys.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{heard_tones, read_wav, silence, sounding, tone, write_wav};
use hookswitch_tests::node::Node;

#[test]
fn one_leaves_a_message() {
    let node = Node::demo();
    let said = node.file("said.wav");
    write_wav(&said, &[silence(6.0), tone(880.0, 3.0)].concat());
    let heard = node.file("heard.wav");
    node.phone("ivr").play(&said).dtmf("1@2s,#@10s").record(&heard).seconds("16").run().ok();
    assert!(sounding(&read_wav(&heard)) > 1.0, "the menu was heard");
    let recording = node.recording();
    let tones = heard_tones(&read_wav(&node.fetch(recording["id"].as_str().expect("an id"))), &[880.0]);
    assert!(matches!(tones[..], [(_, seconds)] if seconds > 2.0), "{tones:?}");
}

#[test]
fn two_echoes_what_is_said() {
    let node = Node::demo();
    let said = node.file("said.wav");
    write_wav(&said, &[silence(8.0), tone(440.0, 1.0), tone(880.0, 1.0), tone(660.0, 1.0)].concat());
    let heard = node.file("heard.wav");
    node.phone("ivr").play(&said).dtmf("2@2s").record(&heard).seconds("12").run().ok();
    let samples = read_wav(&heard);
    let hz: Vec<f64> = heard_tones(&samples[samples.len() / 2..], &[440.0, 660.0, 880.0]).iter().map(|(hz, _)| *hz).collect();
    assert_eq!(hz, [440.0, 880.0, 660.0]);
}

#[test]
fn the_echo_number_gives_back_every_frame() {
    let node = Node::demo();
    let said = node.file("numbered.wav");
    write_wav(&said, &[silence(1.0), numbered::pcm(200)].concat());
    let heard = node.file("heard.wav");
    node.phone("echo").play(&said).record(&heard).seconds("7").run().ok();
    let tally = Tally::of(&read_wav(&heard));
    assert!(tally.whole(), "{tally:?}");
    assert_eq!((tally.first, tally.last), (Some(0), Some(199)), "{tally:?}");
}

#[test]
fn ic_166_a_refused_call_fails_with_its_status() {
    let node = Node::demo();
    node.phone("reject").seconds("5").run().fails(&["603"]);
    assert_eq!(node.recordings().len(), 0);
}

#[test]
fn an_unknown_number_is_404() {
    // Not the demo: its tenant is the default one, which takes every number.
    let node = Node::with(false, &[]);
    node.cli(&["tenant", "put", "one.localhost", "--number", "known"]).ok();
    let refused = || node.metric("hookswitch_sip_refused_total", &["why=\"unknown_number\""]);
    // The tenant's own number finds the tenant, which has no handler.
    node.phone("known").seconds("5").run().fails(&["503"]);
    assert_eq!(refused(), 0.0);
    node.phone("nobody-here").seconds("5").run().fails(&["404"]);
    assert_eq!(refused(), 1.0);
}

#[test]
fn phone_usage_errors_are_2() {
    let node = Node::demo();
    for wrong in [
        &["call", "http://example.com"][..],
        &["call"],
        &["call", "sip:ivr@127.0.0.1", "--dtmf", "x@1s"],
        &["call", "sip:a@b", "--for", "soon"],
    ] {
        let run = node.cli(wrong);
        assert_eq!(run.status, Some(2), "{run}");
        assert!(!run.stderr.is_empty(), "{run}");
    }
}
