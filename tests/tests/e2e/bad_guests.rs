//! Handlers that misbehave, and things that are none: their own call gets the documented answer, no other call notices.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{heard_tones, read_wav, silence, sounding, tone, write_wav};
use hookswitch_tests::guests::{DOMAIN, install};
use hookswitch_tests::node::{Node, component};
use std::fs;
use std::time::Instant;

const DEMO: &str = "demo.localhost";

#[test]
fn bad_handlers_cost_their_own_calls_only() {
    let node = Node::demo();
    install(&node, 440);
    // The witness: another tenant's call that gives back every frame.
    let said = node.file("numbered.wav");
    write_wav(&said, &[silence(1.0), numbered::pcm(500)].concat());
    let heard = node.file("witness.wav");
    let witness = node.phone("echo").play(&said).record(&heard).seconds("13").start();
    let started = Instant::now();
    while started.elapsed().as_secs() < 9 {
        // No fallback is set: 503.
        for number in ["loop", "trap", "hog", "nonsense", "unknown-action"] {
            node.phone(number).seconds("5").run().fails(&["503"]);
        }
    }
    witness.end().ok();
    let tally = Tally::of(&read_wav(&heard));
    assert!(tally.whole() && tally.first == Some(0) && tally.last == Some(499), "another call noticed: {tally:?}");
    assert!(node.metric("hookswitch_hooks_failed_total", &[]) >= 3.0, "hooks without a verdict are counted");
    assert!(node.metric("hookswitch_hooks_restarted_total", &[]) >= 3.0, "and so are the second tries");
    assert!(node.metric("hookswitch_fallbacks_total", &[]) >= 4.0, "and the fallbacks");
}

#[test]
fn ic_298_a_handler_that_fails_in_a_call_is_restarted_once() {
    let node = Node::demo();
    install(&node, 440);
    let heard = node.file("heard.wav");
    // The second instance says so by another tone, and hangs up.
    node.phone("trap-once").record(&heard).seconds("15").run().ok().says("<- BYE");
    let hz: Vec<f64> = heard_tones(&read_wav(&heard), &[440.0, 880.0]).iter().map(|(hz, _)| *hz).collect();
    assert_eq!(hz, [440.0, 880.0]);
    // One that fails again and again loses its call, and the caller is not left hanging.
    for number in ["trap-later", "loop-later"] {
        node.phone(number).seconds("30").run().ok().says("<- BYE");
    }
}

#[test]
fn what_is_no_handler_is_refused_with_a_reason() {
    let node = Node::demo();
    install(&node, 440);
    let push = |name: &str, bytes: &[u8]| {
        let path = node.file(name);
        fs::write(&path, bytes).expect("a file");
        node.cli(&["guest", "push", path.to_str().expect("our paths are UTF-8"), "--domain", DOMAIN])
    };
    push("text.wasm", b"this is no component").fails(&["component"]);
    push("empty.wasm", b"").fails(&[]);
    // A core module (magic and version 1), and a component that exports nothing (layer 1).
    push("module.wasm", b"\0asm\x01\0\0\0").fails(&["component"]);
    push("exports-nothing.wasm", b"\0asm\x0d\0\x01\0").fails(&["hookswitch:call/handler"]);
    let mut broken = fs::read(component("menu")).expect("a component");
    let middle = broken.len() / 2;
    broken.truncate(middle);
    push("broken.wasm", &broken).fails(&[]);

    // None of it became a version, and calls go on.
    let list = node.json(&["guest", "list", "--domain", DOMAIN, "--json"]);
    assert_eq!(list["versions"].as_array().map(Vec::len), Some(1), "{list}");
    let heard = node.file("heard.wav");
    node.phone("tone").record(&heard).seconds("2").run().ok();
    assert!(!heard_tones(&read_wav(&heard), &[440.0]).is_empty());
}

#[test]
fn a_prompt_that_is_no_audio_ends_no_call() {
    let node = Node::demo();
    let text = b"this is text, and no audio at all";
    let noise = node.file("noise.wav");
    fs::write(&noise, text).expect("a file");
    let put = ["prompt", "put", noise.to_str().expect("our paths are UTF-8"), "--domain", DEMO];
    node.cli(&put).fails(&["not a WAV file"]);
    let listed = node.cli(&["prompt", "list", "--domain", DEMO]);
    listed.ok().says("welcome-menu.wav");
    assert!(!listed.stdout.contains("noise.wav"), "{listed}");

    // The disk may do what the API does not: prompts that were fine are text now.
    let spoil = |name: &str| {
        let path = node.data().join("prompts").join(DEMO).join(name);
        assert!(path.is_file(), "the handler's prompt lies at {}", path.display());
        fs::write(&path, text).expect("the prompt can be written");
    };
    let unread = || node.metric("hookswitch_prompts_total", &["from=\"nowhere\""]);
    let numbers = node.file("numbered.wav");
    write_wav(&numbers, &[silence(1.0), numbered::pcm(500)].concat());
    let heard = node.file("witness.wav");
    let witness = node.phone("echo").play(&numbers).record(&heard).seconds("13").start();
    // The announcement is skipped, the echo behind it comes all the same.
    spoil("echo.wav");
    let said = node.file("said.wav");
    write_wav(&said, &[silence(7.0), tone(440.0, 2.0)].concat());
    let own = node.file("heard.wav");
    node.phone("ivr").play(&said).dtmf("2@2s").record(&own).seconds("10").run().ok();
    let samples = read_wav(&own);
    let hz: Vec<f64> = heard_tones(&samples[samples.len() / 2..], &[440.0]).iter().map(|(hz, _)| *hz).collect();
    assert_eq!(hz, [440.0]);
    assert_eq!(unread(), 1.0);
    // Nothing of the menu can be said: the call is answered, and the handler, asked on, says goodbye.
    spoil("welcome-menu.wav");
    node.phone("ivr").record(&own).seconds("10").run().ok().says("<- BYE");
    assert!(sounding(&read_wav(&own)) > 0.2, "goodbye was heard");
    assert!(unread() > 1.0, "the menu was read again");
    witness.end().ok();
    let tally = Tally::of(&read_wav(&heard));
    assert!(tally.whole() && tally.first == Some(0) && tally.last == Some(499), "another call noticed: {tally:?}");
}
