//! What two parties hear of each other, and what a recording of both holds: by baresip, by an echo, by tones, by numbered frames and by
//! tshark on the wire.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{ffprobe, heard_tones, read_stereo, read_wav, silence, sox_channel_hz, tone, write_wav};
use hookswitch_tests::guests::two_party;
use hookswitch_tests::node::{Node, wait_for};
use hookswitch_tests::peer::Baresip;
use hookswitch_tests::sipp::Sipp;
use hookswitch_tests::tshark::{Stream, Tshark};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

const CALLER: f64 = 440.0;
const CALLEE: f64 = 880.0;
/// What the handler's IVR plays.
const IVR: f64 = 660.0;

fn say(node: &Node, name: &str, samples: &[i16]) -> PathBuf {
    let path = node.file(name);
    write_wav(&path, samples);
    path
}

fn hz(path: &Path) -> Vec<f64> {
    let mut hz: Vec<f64> = heard_tones(&read_wav(path), &[CALLER, CALLEE, IVR]).into_iter().map(|(hz, _)| hz).collect();
    // A tone that pauses for a moment is the same tone.
    hz.dedup();
    hz
}

/// Until the node has received so many more packets: time as the call sees it.
#[track_caller]
fn packets(node: &Node, what: &str, more: f64) {
    let received = || node.metric("hookswitch_media_packets_total", &["direction=\"in\""]);
    let before = received();
    wait_for(what, || received() >= before + more);
}

/// Every frame up to the last one, byte for byte and in order. On a busy machine the far end's echo may come late, and silence is sent
/// meanwhile: that adds frames between them.
#[track_caller]
fn nothing_lost(what: &str, samples: &[i16], last: u32) {
    let tally = Tally::of(samples);
    assert_eq!((tally.missing, tally.repeated, tally.disordered), (0, 0, 0), "{what}: {tally:?}");
    assert_eq!((tally.first, tally.last), (Some(0), Some(last)), "{what}: {tally:?}");
}

#[test]
fn a_bridge_gives_every_frame_on_and_back() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").echoes().start();
    let said = say(&node, "numbered.wav", &[silence(0.5), numbered::pcm(150)].concat());
    let heard = node.file("heard.wav");
    let dest = format!("X-Dest: {}", callee.uri());
    let run = node.phone("bridge").header(&dest).play(&said).record(&heard).seconds("4.5").run();
    run.ok().says("180").says("answered: Pcmu");
    callee.end().ok();
    nothing_lost("heard", &read_wav(&heard), 149);
}

#[test]
fn baresip_in_a_law_and_sipp_in_u_law_understand_each_other() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").echoes().start();
    let said = say(&node, "said.wav", &[silence(0.5), tone(CALLER, 1.0), tone(CALLEE, 60.0)].concat());
    let dial = format!("/dial {}", node.uri(&format!("at-{}", callee.sip().ip())));
    let mut phone = Baresip::with(&node, &said, "audio_codecs=PCMA/8000/1", &[&dial]);
    phone.wait_log("Call established");
    packets(&node, "three seconds of both", 300.0);
    phone.keys("/hangup\n");
    phone.wait_log("terminated");
    let run = callee.end();
    run.ok();
    // The offer to the callee begins with the caller's codec, and is answered by the other one.
    assert!(run.stderr.contains("RTP/AVP 8 0"), "{run}");
    assert_eq!(hz(&phone.heard().expect("baresip wrote down what it heard")), [CALLER, CALLEE]);
}

#[test]
fn baresip_is_called_holds_resumes_and_hangs_up() {
    let node = two_party();
    let mut callee = Baresip::callee(&node, &say(&node, "callee.wav", &tone(CALLEE, 60.0)));
    let said = say(&node, "caller.wav", &tone(CALLER, 60.0));
    let heard = node.file("heard.wav");
    let dest = format!("X-Dest: {}", callee.uri());
    let call = node.phone("bridge").header(&dest).header("X-Then: ivr").play(&said).record(&heard).seconds("20").start();
    callee.wait_log("Call established");
    packets(&node, "a second of both", 100.0);
    callee.keys("/hold\n");
    callee.wait_log("hold");
    // He said so by `sendonly` and sends nothing himself; the caller was told, and stopped.
    let received = || node.metric("hookswitch_media_packets_total", &["direction=\"in\""]);
    wait_for("nobody who sends", || {
        let before = received();
        sleep(Duration::from_millis(300));
        received() == before
    });
    callee.keys("/resume\n");
    packets(&node, "a second of both", 100.0);
    callee.keys("/hangup\n");
    callee.wait_log("terminated");
    let run = call.end();
    run.ok().says("session changed").says("<- BYE");
    assert_eq!(hz(&heard), [CALLEE, IVR], "the callee, then the IVR: {run}");
    let gap = read_wav(&heard);
    assert!(heard_tones(&gap, &[CALLEE]).len() >= 2, "the callee is not heard while it holds: {run}");
    assert_eq!(hz(&callee.heard().expect("baresip wrote down what it heard")), [CALLER]);
}

#[test]
fn ic_037_167_both_sides_are_recorded_apart() {
    let node = two_party();
    let callee = Baresip::callee(&node, &say(&node, "callee.wav", &tone(CALLEE, 60.0)));
    let said = say(&node, "caller.wav", &tone(CALLER, 60.0));
    let heard = node.file("heard.wav");
    let dest = format!("X-Dest: {}", callee.uri());
    node.phone("record").header(&dest).play(&said).record(&heard).seconds("3").run().ok();
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    let file = node.fetch(id);
    let seconds = ffprobe(&file, 2);
    assert!((2.6..3.2).contains(&seconds), "{seconds} s");
    let (left, right) = read_stereo(&file);
    let only = |side: &[i16], own: f64, others: f64| {
        let heard = heard_tones(side, &[own, others]);
        assert!(heard.iter().all(|(hz, _)| *hz == own), "{own} Hz alone: {heard:?}");
        let seconds: f64 = heard.iter().map(|(_, seconds)| seconds).sum();
        assert!(seconds > 2.0, "{own} Hz for most of the call: {heard:?}");
    };
    only(&left, CALLER, CALLEE);
    only(&right, CALLEE, CALLER);
    // Another opinion: sox on each channel.
    for (channel, hz) in [(1, CALLER), (2, CALLEE)] {
        let found = sox_channel_hz(&file, channel, 1.0, 1.0);
        assert!((found - hz).abs() < 15.0, "channel {channel}: sox says {found} Hz");
    }
    // And they heard each other.
    assert_eq!(hz(&heard), [CALLEE]);
    assert_eq!(hz(&callee.heard().expect("baresip wrote down what it heard")), [CALLER]);
}

#[test]
fn tshark_sees_four_streams_and_no_loss() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").echoes().start();
    let said = say(&node, "said.wav", &tone(CALLER, 60.0));
    let dest = format!("X-Dest: {}", callee.uri());
    let capture = Tshark::capture(node.ip.into(), node.folder());
    let run = node.phone("bridge").header(&dest).play(&said).seconds("4").run();
    run.ok();
    let callee_ip = callee.sip().ip();
    callee.end().ok();
    let streams = capture.streams();
    let find = |from_node: bool, callee_side: bool| {
        let fits = |s: &&Stream| {
            let (own, other) = if from_node { (s.from.ip(), s.to.ip()) } else { (s.to.ip(), s.from.ip()) };
            own == IpAddr::from(node.ip) && (other == callee_ip) == callee_side
        };
        let found: Vec<&Stream> = streams.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "one stream each way on each side: {streams:#?}");
        found[0].clone()
    };
    let (said, passed_on, echoed, heard) = (find(false, false), find(true, true), find(false, true), find(true, false));
    for (name, stream) in [("said", &said), ("passed on", &passed_on), ("echoed", &echoed), ("heard", &heard)] {
        println!("{name}: {stream:?}");
        assert_eq!(stream.lost, 0, "{name}: {stream:?}");
        // 50 a second for 4 s; the callee's leg lives a little longer than the caller's.
        assert!((180..=230).contains(&stream.packets), "{name}: {stream:?}");
    }
    run.says(&format!("sent {}", said.packets));
}

#[test]
fn the_demo_connects_to_x_dest_and_records_both() {
    let node = Node::demo();
    let callee = Sipp::callee(&node, "callee-answers").echoes().start();
    let said = say(&node, "numbered.wav", &[silence(0.5), numbered::pcm(100)].concat());
    let heard = node.file("heard.wav");
    let dest = format!("X-Dest: {}", callee.uri());
    node.phone("bridge").header(&dest).play(&said).record(&heard).seconds("3.5").run().ok();
    callee.end().ok();
    nothing_lost("heard", &read_wav(&heard), 99);
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    // Byte-exact on both sides, the echo too.
    let (left, right) = read_stereo(&node.fetch(id));
    nothing_lost("the caller's side", &left, 99);
    nothing_lost("the callee's side", &right, 99);
    // Nobody outside of this machine can be called, and nobody without an address.
    node.phone("bridge").header("X-Dest: sip:bob@192.0.2.1").seconds("5").run().fails(&["403"]);
    node.phone("bridge").seconds("5").run().fails(&["404"]);
}
