//! What a routing answer says beside whom to call, on real sockets: what sipp finds in the new INVITE, and what both parties are told
//! before they hear each other.

use hookswitch_proto::media::{Codec, g711};
use hookswitch_tests::audio::{heard_tones, read_wav, sox_level, tone, write_wav};
use hookswitch_tests::guests::two_party;
use hookswitch_tests::node::wait_for;
use hookswitch_tests::peer::Baresip;
use hookswitch_tests::sipp::Sipp;
use std::net::UdpSocket;
use std::time::Duration;

/// What the parties say.
const CALLER: f64 = 1500.0;
const CALLEE: f64 = 1000.0;
/// What the handler has them told, and the ringing tone.
const CALLER_IS_TOLD: f64 = 660.0;
const CALLEE_IS_TOLD: f64 = 880.0;
const RINGING: f64 = 425.0;

#[test]
fn ic_178_179_180_181_182_183_184_a_callee_finds_in_its_invite_what_the_handler_said() {
    let node = two_party();
    for (trusted, scenario) in [("true", "callee-is-told-all"), ("false", "callee-is-told-some")] {
        node.cli(&["tenant", "put", "demo.localhost", "--trusted", trusted]).ok();
        let callee = Sipp::callee(&node, scenario).start();
        let caller = Sipp::caller(&node, "caller-hangs-up", "dressed").dest(&callee.uri()).talks_ms(200).start();
        caller.end().ok();
        callee.end().ok();
    }
    // RFC 3323, RFC 3325: hidden from one who is no trusted trunk.
    let callee = Sipp::callee(&node, "callee-answers").start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "hidden").dest(&callee.uri()).talks_ms(200).start();
    caller.end().ok();
    let run = callee.end();
    run.ok();
    assert!(run.stderr.contains("From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag="), "{run}");
    assert!(run.stderr.contains("Privacy: id\r\n") && !run.stderr.contains("P-Asserted-Identity"), "{run}");
}

#[test]
fn ic_172_173_174_175_each_party_is_told_its_own_before_they_hear_each_other() {
    let node = two_party();
    let (caller_says, callee_says) = (node.file("caller.wav"), node.file("callee.wav"));
    write_wav(&caller_says, &tone(CALLER, 60.0));
    write_wav(&callee_says, &tone(CALLEE, 60.0));
    let callee = Baresip::callee(&node, &callee_says);
    let heard = node.file("heard.wav");
    let phone = node.phone("greeted").header(&format!("X-Dest: {}", callee.uri())).play(&caller_says).record(&heard);
    let call = phone.seconds("6").start();
    let connected = || {
        let log = node.json(&["guest", "logs", "--domain", "demo.localhost", "--json"]);
        log["log"].as_array().is_some_and(|lines| lines.iter().any(|l| l["text"].as_str().is_some_and(|t| t.starts_with("connected "))))
    };
    wait_for("callAnswered", connected);
    call.end().ok();
    let hz = |path: &std::path::Path| {
        let all = [CALLER, CALLEE, CALLER_IS_TOLD, CALLEE_IS_TOLD, RINGING];
        let mut hz: Vec<f64> = heard_tones(&read_wav(path), &all).into_iter().map(|(hz, _)| hz).collect();
        hz.dedup();
        hz
    };
    callee.wait_log("audio: destroyed");
    // The callee first; the caller hears that it rings meanwhile, then its own, then the callee.
    assert_eq!(hz(&heard), [RINGING, CALLER_IS_TOLD, CALLEE]);
    assert_eq!(hz(&callee.heard().expect("baresip wrote down what it heard")), [CALLEE_IS_TOLD, CALLER]);
}

#[test]
fn ic_189_192_a_monitor_hears_both_parties_and_neither_hears_it() {
    let node = two_party();
    let say = |name: &str, hz: f64| {
        let path = node.file(name);
        write_wav(&path, &tone(hz, 60.0));
        path
    };
    let callee = Baresip::callee(&node, &say("callee.wav", CALLEE));
    // baresip decodes nothing where it is only to receive, so that the monitor's ear is a socket of ours.
    let ear = UdpSocket::bind("127.0.0.1:0").expect("a port");
    ear.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let port = ear.local_addr().expect("bound").port().to_string();
    let monitor = Sipp::callee(&node, "callee-listens").key("rtp", &port).start();
    let heard = node.file("heard.wav");
    let (dest, listens) = (format!("X-Dest: {}", callee.uri()), format!("X-Monitor: {}", monitor.uri()));
    let phone = node.phone("monitored").header(&dest).header(&listens).play(&say("caller.wav", CALLER)).record(&heard);
    let call = phone.seconds("6").start();
    let (mut mix, mut packet) = (Vec::new(), [0; 2048]);
    while mix.len() < 2 * 8000 {
        let (n, leg) = ear.recv_from(&mut packet).expect("the node sends to it");
        if packet[1] & 0x7f == 0 {
            mix.extend(packet[12..n].iter().map(|law| g711::decode(Codec::Pcmu, *law)));
            // What it says goes nowhere.
            packet[8] ^= 1;
            ear.send_to(&packet[..n], leg).expect("sent");
        }
    }
    let mixed = node.file("mixed.wav");
    write_wav(&mixed, &mix);
    let level = |hz: f64| sox_level(&mixed, 1.0, 1.0, Some((hz as u32 - 20, hz as u32 + 20)));
    assert!(level(CALLER) > -30.0 && level(CALLEE) > -30.0 && level(RINGING) < -50.0, "{} {}", level(CALLER), level(CALLEE));
    assert!(node.guest_log("demo.localhost").iter().any(|line| line.starts_with("monitored ")), "{:?}", node.guest_log("demo.localhost"));
    call.end().ok();
    // It leaves with the connection.
    monitor.end().ok();
    let caller_heard = heard_tones(&read_wav(&heard), &[CALLER, CALLEE]);
    assert!(caller_heard.iter().all(|(hz, _)| *hz == CALLEE) && !caller_heard.is_empty(), "{caller_heard:?}");
    // One that hangs up leaves a call that goes on.
    let monitor = Sipp::callee(&node, "callee-hangs-up").talks_ms(500).start();
    let (again, listens) = (node.file("again.wav"), format!("X-Monitor: {}", monitor.uri()));
    let call = node.phone("monitored").header(&dest).header(&listens).record(&again).seconds("5").start();
    monitor.end().ok();
    call.end().ok();
    assert!(heard_tones(&read_wav(&again), &[CALLEE]).iter().map(|(_, seconds)| seconds).sum::<f64>() > 3.5);
}

#[test]
fn a_handler_plays_to_one_party_what_the_other_does_not_hear() {
    let node = two_party();
    let (caller_says, callee_says) = (node.file("caller.wav"), node.file("callee.wav"));
    write_wav(&caller_says, &tone(CALLER, 60.0));
    write_wav(&callee_says, &tone(CALLEE, 60.0));
    let callee = Baresip::callee(&node, &callee_says);
    let heard = node.file("heard.wav");
    let phone = node.phone("played").header(&format!("X-Dest: {}", callee.uri())).play(&caller_says).record(&heard);
    phone.seconds("4").run().ok();
    assert!(node.guest_log("demo.localhost").iter().any(|line| line == "played Ok(())"), "{:?}", node.guest_log("demo.localhost"));
    let hz = |path: &std::path::Path| {
        let mut hz: Vec<f64> = heard_tones(&read_wav(path), &[CALLER, CALLEE, CALLER_IS_TOLD]).into_iter().map(|(hz, _)| hz).collect();
        hz.dedup();
        hz
    };
    let caller_heard = hz(&heard);
    assert!(caller_heard.ends_with(&[CALLER_IS_TOLD, CALLEE]), "{caller_heard:?}");
    assert_eq!(hz(&callee.heard().expect("baresip wrote down what it heard")), [CALLER]);
}
