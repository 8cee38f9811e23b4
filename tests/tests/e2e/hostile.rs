//! Bytes that should not have come: each gets the answer that the RFC names or none, a counter moves, and no call notices.

use hookswitch_sim::numbered::{self, Tally};
use hookswitch_tests::audio::{read_wav, write_wav};
use hookswitch_tests::node::{Node, wait_for};
use hookswitch_tests::wire::{Names, Wire, offer, token};
use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

/// A recorded call that must not notice what happens beside it.
fn witness(node: &Node, test: impl FnOnce()) {
    let said = node.file("numbered.wav");
    write_wav(&said, &numbered::pcm(400));
    let call = node.phone("voicemail").play(&said).dtmf("#@9s").start();
    sleep(Duration::from_secs(1));
    test();
    call.end().ok();
    let recording = node.recordings().into_iter().next_back().expect("the witness's recording is the oldest");
    let tally = Tally::of(&read_wav(&node.fetch(recording["id"].as_str().expect("an id"))));
    assert!(tally.whole() && tally.last == Some(399), "another call noticed: {tally:?}");
}

fn total(node: &Node, word: &str) -> f64 {
    node.metrics().iter().filter(|(name, _)| name.contains(word)).map(|(_, value)| value).sum()
}

#[test]
fn malformed_sip_is_counted_and_answered_by_the_book() {
    let node = Node::demo();
    witness(&node, || {
        let wire = Wire::to(node.sip());
        let malformed = total(&node, "malformed");
        for nonsense in [&b"\0\0\0\0"[..], b"\r\n\r\n", b"hello", b"INVITE", b"SIP/2.0 2000 OK\r\n\r\n", &[0xff; 1400]] {
            wire.send(nonsense);
        }
        // Largest datagram there is.
        wire.send(vec![b'A'; 65_507]);
        wait_for("malformed datagrams counted", || total(&node, "malformed") > malformed);
        assert_eq!(wire.receive(Duration::from_millis(300)), None, "garbage gets no answer");

        // A request that nobody needs that large: 513 (RFC 3261 21.5.7).
        let large = total(&node, "too_large");
        wire.send(wire.request("OPTIONS", "ivr", &Names::new(), 2, &[&format!("X-Padding: {}", "x".repeat(40_000))], ""));
        assert_eq!(wire.final_answer("2 OPTIONS").status, 513);
        assert_eq!(total(&node, "too_large"), large + 1.0);

        // A request that is one, but wrong: 400 (RFC 3261 8.1.1: a CSeq is mandatory, and its method must match).
        let text = wire.request("OPTIONS", "ivr", &Names::new(), 1, &[], "").replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE");
        wire.send(text);
        assert_eq!(wire.final_answer("1 INVITE").status, 400);

        // An SDP that is none: 488, or 400.
        let names = Names::new();
        wire.send(wire.request("INVITE", "ivr", &names, 1, &[], "this is no SDP"));
        let status = wire.final_answer("1 INVITE").status;
        assert!([400, 488].contains(&status), "{status}");

        // BYE and re-INVITE of a dialog that never was: 481 (RFC 3261 12.2.2).
        let lost = Names { to_tag: Some("nobody".into()), ..Names::new() };
        wire.send(wire.request("BYE", "ivr", &lost, 7, &[], ""));
        assert_eq!(wire.final_answer("7 BYE").status, 481);
        // CANCEL of nothing: 481 (RFC 3261 9.2).
        wire.send(wire.request("CANCEL", "ivr", &Names::new(), 8, &[], ""));
        assert_eq!(wire.final_answer("8 CANCEL").status, 481);
    });
}

#[test]
fn a_call_that_is_cancelled_at_once_leaves_nothing_behind() {
    let node = Node::demo();
    let wire = Wire::to(node.sip());
    let rtp: SocketAddr = ([127, 0, 0, 1], 40_000).into();
    for _ in 0..20 {
        let mut names = Names::new();
        let branch = token("z9hG4bK");
        let invite = wire.request_with_branch("INVITE", "voicemail", &names, 1, &branch, &[], &offer(rtp));
        wire.send(invite);
        wire.send(wire.request_with_branch("CANCEL", "voicemail", &names, 1, &branch, &[], ""));
        let answer = wire.final_answer("1 INVITE");
        names.to_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).map(str::to_owned);
        match answer.status {
            // The answer was faster: RFC 3261 9.2, the CANCEL has no effect and the caller has to hang up.
            200 => {
                wire.send(wire.request("ACK", "voicemail", &names, 1, &[], ""));
                wire.bye("voicemail", &names);
            }
            487 => wire.send(wire.request_with_branch("ACK", "voicemail", &names, 1, &branch, &[], "")),
            other => panic!("{other} to a cancelled INVITE"),
        }
    }
    wait_for("no session left", || {
        node.metrics().iter().filter(|(name, _)| name.contains("sessions") && !name.contains("total")).all(|(_, value)| *value == 0.0)
    });
}

#[test]
fn foreign_rtp_does_not_enter_a_recording() {
    let node = Node::demo();
    let wire = Wire::to(node.sip());
    let ours = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    let (names, answer) = wire.call("voicemail", ours.local_addr().expect("bound"));
    let leg = answer.rtp().expect("the answer says where RTP goes");
    let intruders = [UdpSocket::bind(("127.0.0.9", 0)).expect("a socket"), UdpSocket::bind(("127.0.0.1", 0)).expect("a socket")];
    let packet = |payload_type: u8, sequence: u16, ssrc: u32, law: &[u8]| {
        let mut packet = vec![0x80, payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend(law);
        packet
    };
    let started = std::time::Instant::now();
    for n in 0..200u16 {
        // The other IP comes first, before the leg has locked to its source; the same IP later, when it has.
        intruders[0].send_to(&packet(0, n, 0xbad, &[0x80; 160]), leg).expect("sent");
        ours.send_to(&packet(0, n, 0x900d, &numbered::frame(u32::from(n))), leg).expect("sent");
        if n > 20 {
            // A refused datagram shows as an error on the next send: the kernel dropped it, as it should.
            let _ = intruders[1].send_to(&packet(0, n, 0x900d, &[0x80; 160]), leg);
        }
        if n % 10 == 0 {
            // Not RTP at all, RTCP on the wrong port, a truncated header, a wrong payload type.
            for wrong in [&b"x"[..], &[0x80, 200, 0, 1], &[0x80; 11], &packet(77, n, 0x900d, &[1; 160])] {
                let _ = intruders[0].send_to(wrong, leg);
            }
        }
        let next = Duration::from_millis(20) * u32::from(n + 1);
        sleep(next.saturating_sub(started.elapsed()));
    }
    wire.bye("voicemail", &names);
    let recording = node.recording();
    let id = recording["id"].as_str().expect("an id");
    node.cli(&["recording", "verify", id]).ok();
    let samples = read_wav(&node.fetch(id));
    let tally = Tally::of(&samples);
    assert!(tally.whole() && tally.numbered > 150, "{tally:?}");
    let loud = hookswitch_sim::law::ulaw_to_pcm(0x80);
    assert!(samples.iter().all(|sample| *sample != loud), "a foreign sample was recorded");
    wait_for("foreign packets counted", || node.metric("hookswitch_rtp_unused_total", &["foreign"]) > 0.0);
}
