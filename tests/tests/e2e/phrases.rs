//! What is made when it is needed is heard: audio of an address, a text, a number, something in the background. And a PIN that nobody sees.

use hookswitch_tests::audio::{heard_tones, read_wav, sounding, sox_level, tone, write_wav};
use hookswitch_tests::guests;
use hookswitch_tests::node::{Node, address, wait_for};
use hookswitch_tests::receiver::Receiver;
use std::net::TcpListener;
use std::path::PathBuf;

fn node() -> Node {
    Node::demo_of(guests::component("phrases", 0))
}

/// A call to this number, and what was heard of it.
fn heard(node: &Node, number: &str, seconds: &str) -> PathBuf {
    let file = node.file(&format!("heard-{number}.wav"));
    node.phone(number).seconds(seconds).record(&file).run().ok();
    file
}

#[test]
fn ic_241_249_audio_of_an_address_is_heard_and_kept_as_a_prompt() {
    let node = node();
    let file = node.file("hello.wav");
    write_wav(&file, &[tone(440.0, 1.0), tone(660.0, 1.0)].concat());
    let receiver = Receiver::start(address(), std::fs::read(&file).expect("just written"));
    node.cli(&["guest", "config", "set", "url", &receiver.url("")]).ok();
    let samples = read_wav(&heard(&node, "fetched", "8"));
    let tones = heard_tones(&samples, &[440.0, 660.0]);
    assert!(matches!(tones[..], [(440.0, a), (660.0, b)] if (a - 1.0).abs() < 0.1 && (b - 1.0).abs() < 0.1), "{tones:?}");
    node.cli(&["prompt", "list"]).ok().says("fetched.wav");
    assert!(!node.log().contains("SECRET-SIGNATURE"), "an address is in the log: {}", node.log());
}

#[test]
fn ic_241_what_comes_too_late_is_an_alarm_of_its_own_and_the_rest_is_heard() {
    let node = node();
    let silent = TcpListener::bind((address(), 0)).expect("an address of its own");
    let url = format!("http://{}/", silent.local_addr().expect("bound"));
    node.cli(&["guest", "config", "set", "url", &url]).ok();
    let samples = read_wav(&heard(&node, "late", "12"));
    assert!(matches!(heard_tones(&samples, &[880.0])[..], [(880.0, s)] if (s - 0.5).abs() < 0.1));
    let logged = || node.cli(&["guest", "logs"]).stdout;
    wait_for("the alarm", || logged().contains("alarm phraseRemoteCacheTimeout: phrase 1: url: nothing whole within 5 s"));
}

#[test]
fn ic_242_246_a_text_and_a_number_are_spoken_by_this_machine() {
    let node = node();
    for (number, least, most) in [("spoken", 1.5, 5.0), ("said", 1.0, 4.0)] {
        let file = heard(&node, number, "10");
        let seconds = sounding(&read_wav(&file));
        assert!((least..most).contains(&seconds), "{number}: {seconds} s");
        let level = sox_level(&file, 0.0, 10.0, None);
        assert!((-40.0..-6.0).contains(&level), "{number}: {level} dB");
        // The second call hears the same, out of the cache.
        let again = sounding(&read_wav(&heard(&node, number, "10")));
        assert!((seconds - again).abs() < 0.1, "{number}: {seconds} s, then {again} s");
    }
    let kept = std::fs::read_dir(node.data().join("cache/phrases/demo.localhost")).expect("a cache").count();
    // A text; one, thousand, two, hundred, thirty, four.
    assert_eq!(kept, 7);
}

#[test]
fn ic_251_254_a_background_is_heard_ducked_and_not_recorded() {
    let node = node();
    write_wav(&node.data().join("prompts/demo.localhost/hum.wav"), &tone(440.0, 1.0));
    let said = node.file("said.wav");
    write_wav(&said, &tone(660.0, 12.0));
    let file = node.file("heard.wav");
    node.phone("background").play(&said).seconds("12").record(&file).run().ok();
    let samples = read_wav(&file);
    let first =
        |hz: f64| samples.chunks_exact(160).position(|w| heard_tones(&w.repeat(4), &[hz]).len() == 1).expect("it is heard") as f64 * 0.02;
    let (hum, beep) = (first(440.0), first(880.0));
    assert!((beep - hum - 2.0).abs() < 0.3, "the hum at {hum} s, the tone at {beep} s");
    let hum_at = |from: f64| sox_level(&file, from, 1.2, Some((400, 480)));
    let (full, ducked, recording) = (hum_at(hum + 0.4), hum_at(beep + 0.4), hum_at(beep + 2.4));
    assert!((full - ducked - 15.0).abs() < 1.0, "{full} dB alone, {ducked} dB under the tone");
    // A record phrase is a phrase.
    assert!((full - recording - 15.0).abs() < 1.0, "{full} dB alone, {recording} dB while the caller is recorded");
    let stopped = sox_level(&file, samples.len() as f64 / 8000.0 - 0.8, 0.7, Some((400, 480)));
    assert!(stopped < full - 40.0, "{stopped} dB after it was stopped");
    let id = node.recording()["id"].as_str().expect("an id").to_owned();
    let recorded = node.fetch(&id);
    let tones = heard_tones(&read_wav(&recorded), &[440.0, 660.0]);
    assert!(tones.iter().any(|(hz, s)| *hz == 660.0 && *s > 1.8) && tones.iter().all(|(hz, _)| *hz != 440.0), "{tones:?}");
    assert!(sox_level(&recorded, 0.2, 1.5, Some((400, 480))) < full - 40.0);
}

#[test]
fn ic_224_231_232_a_pin_is_told_as_a_digest_and_seen_by_nobody() {
    let node = node();
    node.cli(&["session", "digits", "1h"]).ok();
    node.phone("pin").dtmf("7@1s,3@1500ms,9@2s,1@2500ms,#@3s").seconds("8").run().ok();
    // printf 7391 | openssl dgst -sha256 -hmac pepper, and of 7391#
    let (digits, buffer) = (
        "6c3b3d7c8132918eea6d3c69ea47d4b89ea46a6ed28631f8cc86b1f3536adf09",
        "4917b80d236fb79439de66c3c4db4aa4cfef6b3577a2528195384fc69409c435",
    );
    let logged = node.cli(&["guest", "logs"]);
    logged.ok().says(&format!("told {digits} of Some(\"{buffer}\")"));
    let calls: serde_json::Value = serde_json::from_str(&node.http("/demo.localhost/calls").expect("it answers")).expect("JSON");
    let session = calls["calls"][0]["session"].as_str().expect("a call");
    let explained = node.cli(&["session", "explain", session, "--json"]);
    explained.ok().says(digits);
    for (what, text) in [("explanation", &explained.stdout), ("tenant's log", &logged.stdout), ("node's log", &node.log())] {
        assert!(!text.contains("7391") && !text.contains("pepper"), "the {what} shows it: {text}");
    }
}
