//! baresip, a softphone, as caller: a person with a telephone that we did not write.

use hookswitch_tests::audio::{heard_tones, read_wav, silence, sounding, tone, write_wav};
use hookswitch_tests::node::Node;
use hookswitch_tests::peer::Baresip;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn baresip_hears_the_menu_presses_one_and_leaves_a_message() {
    let node = Node::demo();
    let said = node.file("said.wav");
    write_wav(&said, &[silence(7.0), tone(880.0, 4.0), silence(30.0)].concat());
    let mut phone = Baresip::start(&node, &said, &[&format!("/dial {}", node.uri("ivr"))]);
    phone.wait_log("Call established");
    // A person listens, presses, listens again, speaks, presses.
    sleep(Duration::from_secs(3));
    phone.keys("1");
    sleep(Duration::from_secs(9));
    phone.keys("#");
    let recording = node.recording();
    let tones = heard_tones(&read_wav(&node.fetch(recording["id"].as_str().expect("an id"))), &[880.0]);
    assert!(tones.iter().map(|(_, seconds)| seconds).sum::<f64>() > 2.0, "{tones:?}");
    phone.keys("/hangup\n");
    phone.wait_log("terminated");
    let heard = phone.heard().expect("baresip wrote down what it heard");
    assert!(sounding(&read_wav(&heard)) > 1.0, "the menu was heard");
}
