//! Calls of two parties with sipp as both of them: the ladders of docs/conformance.md "Event order" B on real sockets. A scenario that
//! does not go as written fails its sipp, so each call here is judged by both ends. What is heard is in `bridged_audio.rs`.

use hookswitch_tests::guests::two_party;
use hookswitch_tests::node::{Node, address, wait_for};
use hookswitch_tests::sipp::Sipp;
use hookswitch_tests::wire::{Names, Wire, offer};
use std::net::{SocketAddr, UdpSocket};

/// Nothing of a call may be left, and none may have ended by a panic.
#[track_caller]
fn no_leaks(node: &Node) {
    let gauges = ["hookswitch_sessions", "hookswitch_sip_dialogs", "hookswitch_legs"];
    wait_for("no session, dialog or leg left", || gauges.iter().all(|name| node.metric(name, &[]) == 0.0));
    assert_eq!(node.metric("hookswitch_sessions_panicked_total", &[]), 0.0);
}

#[test]
fn ic_142_143_159_sipp_calls_sipp_and_each_hangs_up_once() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&callee.uri()).talks_ms(300).start();
    caller.end().ok();
    callee.end().ok();
    let callee = Sipp::callee(&node, "callee-hangs-up").talks_ms(300).start();
    let caller = Sipp::caller(&node, "caller-is-released", "bridge").dest(&callee.uri()).start();
    callee.end().ok();
    caller.end().ok();
    no_leaks(&node);
}

#[test]
fn ic_142_159_160_who_remains_goes_to_the_ivr_or_is_called_on() {
    let node = two_party();
    // The callee goes, the caller hears the IVR until it hangs up.
    let callee = Sipp::callee(&node, "callee-hangs-up").talks_ms(200).start();
    let caller = Sipp::caller(&node, "caller-is-released", "bridge").dest(&callee.uri()).key("then", "ivr").start();
    callee.end().ok();
    caller.end().ok();
    // The callee goes, the caller is connected to the next one, and hangs up.
    let first = Sipp::callee(&node, "callee-hangs-up").talks_ms(200).start();
    let second = Sipp::callee(&node, "callee-answers").start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&first.uri()).key("then", "next").key("next", &second.uri());
    let caller = caller.talks_ms(1500).start();
    first.end().ok();
    caller.end().ok();
    second.end().ok();
    no_leaks(&node);
}

#[test]
fn ic_146_158_166_a_busy_callee_is_the_callers_486_or_another_call() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-is-busy").talks_ms(100).start();
    let run = Sipp::caller(&node, "caller-is-refused", "bridge").dest(&callee.uri()).start().end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0 486 ") && run.stderr.contains("SIP/2.0 180 "), "{run}");
    callee.end().ok();
    // The handler knows another address.
    let busy = Sipp::callee(&node, "callee-is-busy").talks_ms(100).start();
    let callee = Sipp::callee(&node, "callee-answers").start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&busy.uri()).key("next", &callee.uri()).talks_ms(200).start();
    caller.end().ok();
    busy.end().ok();
    callee.end().ok();
    no_leaks(&node);
}

#[test]
fn ic_146_170_nobody_answers_within_max_ring_time() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-is-cancelled").start();
    let run = Sipp::caller(&node, "caller-is-refused", "impatient").dest(&callee.uri()).start().end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0 408 "), "{run}");
    callee.end().ok();
    no_leaks(&node);
    // Somebody who does not even say that it rings gets the INVITE again (RFC 3261 17.1.1.2), and is given up after the same time.
    let deaf = UdpSocket::bind((address(), 0)).expect("a socket");
    deaf.set_nonblocking(true).expect("a socket of the kernel");
    let dest = format!("sip:bob@{}", deaf.local_addr().expect("bound"));
    let run = Sipp::caller(&node, "caller-is-refused", "impatient").dest(&dest).start().end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0 408 "), "{run}");
    let mut datagram = [0; 4096];
    let invites = std::iter::from_fn(|| deaf.recv(&mut datagram).ok().map(|n| datagram[..n].starts_with(b"INVITE "))).filter(|i| *i);
    assert!(invites.count() > 1, "the INVITE is sent again");
}

#[test]
fn sm_003_004_the_caller_gives_up_while_it_rings() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-is-cancelled").start();
    let caller = Sipp::caller(&node, "caller-cancels", "bridge").dest(&callee.uri()).talks_ms(300).start();
    caller.end().ok();
    callee.end().ok();
    no_leaks(&node);
}

#[test]
fn sm_004_of_two_answers_the_second_is_released() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers-twice").start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&callee.uri()).talks_ms(500).start();
    caller.end().ok();
    callee.end().ok();
    no_leaks(&node);
}

#[test]
fn ic_283_an_answer_that_cannot_be_used_is_acknowledged_and_released() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers-nonsense").start();
    let run = Sipp::caller(&node, "caller-is-refused", "bridge").dest(&callee.uri()).start().end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0 488 "), "{run}");
    callee.end().ok();
    node.wait_log(&["alarm", "callError", "invalidSdp"]);
    no_leaks(&node);
}

#[test]
fn ic_299_a_callee_that_has_moved_is_found() {
    let node = two_party();
    let there = Sipp::callee(&node, "callee-answers").start();
    let here = Sipp::callee(&node, "callee-has-moved").key("next", &there.uri()).start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&here.uri()).talks_ms(200).start();
    caller.end().ok();
    here.end().ok();
    there.end().ok();
    // To where the tenant may not call nobody is led.
    let here = Sipp::callee(&node, "callee-has-moved").key("next", "sip:bob@192.0.2.1").start();
    let run = Sipp::caller(&node, "caller-is-refused", "bridge").dest(&here.uri()).start().end();
    assert!(run.stderr.contains("SIP/2.0 403 "), "{run}");
    here.end().ok();
    no_leaks(&node);
}

#[test]
fn a_caller_that_says_everything_thrice_calls_once() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").start();
    let wire = Wire::to(node.sip());
    let rtp: SocketAddr = ([127, 0, 0, 1], 40_000).into();
    let mut names = Names::new();
    let dest = format!("X-Dest: {}", callee.uri());
    let invite = wire.request("INVITE", "bridge", &names, 1, &[&dest], &offer(rtp));
    for _ in 0..3 {
        wire.send(&invite);
    }
    let answer = wire.final_answer("1 INVITE");
    assert_eq!(answer.status, 200, "{}", answer.text);
    names.to_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).map(str::to_owned);
    for _ in 0..3 {
        wire.send(wire.request("ACK", "bridge", &names, 1, &[], ""));
    }
    wire.bye("bridge", &names);
    let run = callee.end();
    run.ok();
    assert_eq!(run.stderr.matches("\nINVITE sip:bob@").count(), 1, "{run}");
    no_leaks(&node);
}

#[test]
fn a_callee_by_tcp_is_called_answers_and_is_released_on_one_connection() {
    let node = two_party();
    let callee = Sipp::callee(&node, "callee-answers").tcp().start();
    let caller = Sipp::caller(&node, "caller-hangs-up", "bridge").dest(&callee.uri()).talks_ms(300).start();
    caller.end().ok();
    let run = callee.end();
    run.ok();
    assert!(run.stderr.contains("SIP/2.0/TCP ") && run.stderr.contains(";transport=tcp>"), "{run}");
    no_leaks(&node);
    // Nobody takes connections there.
    let nobody = format!("sip:bob@{}:5060;transport=tcp", address());
    Sipp::caller(&node, "caller-is-refused", "bridge").dest(&nobody).start().end().ok();
    no_leaks(&node);
}

#[test]
fn a_callee_is_found_by_its_hosts_name() {
    let node = two_party();
    let callee = UdpSocket::bind("127.0.0.1:0").expect("a port");
    callee.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a timeout");
    let dest = format!("sip:bob@localhost:{}", callee.local_addr().expect("bound").port());
    let caller = Sipp::caller(&node, "caller-is-refused", "bridge").dest(&dest).start();
    let mut buffer = [0; 4096];
    let (n, from) = callee.recv_from(&mut buffer).expect("the INVITE comes");
    let invite = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(invite.starts_with(&format!("INVITE {dest} SIP/2.0\r\n")), "{invite}");
    let copied: Vec<&str> =
        invite.lines().filter(|l| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|h| l.starts_with(h))).collect();
    let busy = format!("SIP/2.0 486 Busy Here\r\n{}\r\nContent-Length: 0\r\n\r\n", copied.join("\r\n"));
    callee.send_to(busy.as_bytes(), from).expect("sent");
    caller.end().ok();
    no_leaks(&node);
}
