//! Ladders in virtual time: a scripted peer against one endpoint, then two endpoints over a lossy wire.

use super::*;
use std::net::{IpAddr, Ipv4Addr};

const SDP_A: &str = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const SDP_B: &str = "v=0\r\no=b 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// What the endpoint at 5060 sees of a peer at `port`.
fn flow_from(port: u16) -> Flow {
    Flow { transport: Transport::Udp, local: address(5060), peer: address(port) }
}

fn endpoint_at(port: u16, change: impl FnOnce(&mut EndpointConfig)) -> Endpoint {
    let mut config = EndpointConfig {
        listen: vec![Listen { transport: Transport::Udp, bound: address(port), advertise: None }],
        ..EndpointConfig::default()
    };
    change(&mut config);
    Endpoint::new(config, [port.to_le_bytes()[0]; 32])
}

/// One endpoint, and a peer at 127.0.0.1:5070 whose messages the test writes.
struct Bench {
    now: Time,
    endpoint: Endpoint,
    /// Messages sent since last asked.
    sent: Vec<(Flow, Message)>,
    events: Vec<SipEvent>,
    /// "1.500 < 180 INVITE", "0.000 > BYE", "0.000 ! Gone(Local)" since last asked.
    ladder: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EndpointConfig)) -> Bench {
        Bench { now: Time::ZERO, endpoint: endpoint_at(5060, change), sent: Vec::new(), events: Vec::new(), ladder: Vec::new() }
    }

    fn stamp(&self) -> String {
        let ms = self.now.0 / 1_000_000;
        format!("{}.{:03}", ms / 1000, ms % 1000)
    }

    fn drain(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            let at = self.stamp();
            match output {
                EndpointOutput::Transmit { flow, bytes } => {
                    let message =
                        Message::parse(bytes.clone()).unwrap_or_else(|e| panic!("we sent {e}: {:?}", String::from_utf8_lossy(&bytes)));
                    self.ladder.push(format!("{at} > {}", title(&message)));
                    self.sent.push((flow, message));
                }
                EndpointOutput::Event(event) => {
                    self.ladder.push(format!("{at} ! {}", name_of(&event)));
                    self.events.push(event);
                }
            }
        }
    }

    fn receive(&mut self, text: impl AsRef<[u8]>) {
        self.receive_from(5070, text);
    }

    fn receive_from(&mut self, port: u16, text: impl AsRef<[u8]>) {
        self.endpoint.receive(self.now, flow_from(port), Bytes::copy_from_slice(text.as_ref()));
        self.drain();
    }

    /// Lets the time pass, timer by timer.
    fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.endpoint.next_timeout().filter(|t| *t <= until) {
            self.now = at.max(self.now);
            self.endpoint.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn run<T>(&mut self, command: impl FnOnce(&mut Endpoint, Time) -> T) -> T {
        let result = command(&mut self.endpoint, self.now);
        self.drain();
        result
    }

    fn ladder(&mut self) -> String {
        self.sent.clear();
        std::mem::take(&mut self.ladder).join("\n")
    }

    fn last(&self) -> &Message {
        &self.sent.last().expect("something was sent").1
    }

    fn dialog(&self) -> DialogId {
        let found = self.events.iter().rev().find_map(|e| if let SipEvent::Invite { dialog, .. } = e { Some(*dialog) } else { None });
        found.expect("an INVITE came")
    }

    fn gone(&self) -> Vec<Cause> {
        self.events.iter().filter_map(|e| if let SipEvent::Gone { cause, .. } = e { Some(cause.clone()) } else { None }).collect()
    }

    /// Everything is over: after the longest linger nothing is left.
    fn assert_clean(&mut self) {
        self.pass(70_000);
        let left = self.endpoint.gauges();
        assert_eq!(left, Gauges::default(), "state is left behind");
        assert!(self.endpoint.merges.is_empty() && self.endpoint.by_dialog.is_empty());
    }
}

fn title(message: &Message) -> String {
    match message.method() {
        Some(method) => method.to_string(),
        None => format!("{} {}", message.status().unwrap_or(0), message.cseq_method()),
    }
}

fn name_of(event: &SipEvent) -> String {
    match event {
        SipEvent::Invite { .. } => "Invite".into(),
        SipEvent::Confirmed { sdp, .. } => format!("Confirmed{}", if sdp.is_some() { "(sdp)" } else { "" }),
        SipEvent::Offer { method, sdp, .. } => format!("Offer({method}{})", if sdp.is_some() { ",sdp" } else { "" }),
        SipEvent::Info { .. } => "Info".into(),
        SipEvent::Progress { status, .. } => format!("Progress({status})"),
        SipEvent::Answered { .. } => "Answered".into(),
        SipEvent::OfferAnswered { result, .. } => format!("OfferAnswered({:?})", result.as_ref().map(Bytes::len)),
        SipEvent::Referred { status, last, .. } => format!("Referred({status}{})", if *last { ", last" } else { "" }),
        SipEvent::Gone { cause: Cause::Failed { status, .. }, .. } => format!("Gone(Failed {{ status: {status} }})"),
        SipEvent::Gone { cause, .. } => format!("Gone({cause:?})"),
        SipEvent::Refused { why, .. } => format!("Refused({})", why.code()),
    }
}

/// A request of the peer. `extra` are whole header lines.
fn request(method: &str, cseq: u32, branch: &str, to_tag: &str, extra: &str, body: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:ivr@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
         From: \"Al\" <sip:al@127.0.0.1:5070>;tag=al\r\nTo: <sip:ivr@127.0.0.1>{to_tag}\r\nCall-ID: call1\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:al@127.0.0.1:5070>\r\n{extra}{content}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn invite(extra: &str) -> String {
    request("INVITE", 1, "i1", "", extra, SDP_A)
}

/// An answered call: the tag of our side.
fn answered(bench: &mut Bench, extra: &str) -> String {
    bench.receive(invite(extra));
    let d = bench.dialog();
    bench.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("the call waits for its answer");
    let tag = bench.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("a 2xx has a tag");
    bench.receive(request("ACK", 1, "a1", &tag, "", ""));
    tag
}

#[test]
fn a_simple_call_ended_by_the_caller() {
    let mut b = Bench::new();
    b.receive(invite(""));
    b.pass(100);
    let d = b.dialog();
    b.run(|e, now| e.provisional(now, d, 180, &[], None)).expect("ringing");
    b.pass(100);
    let mine = Header { name: "X-Mine".into(), value: "1".into() };
    b.run(|e, now| e.answer(now, d, &[mine], Bytes::from(SDP_B))).expect("answer");
    let ok = b.last();
    assert_eq!(ok.header("Via").as_deref(), Some("SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKi1;rport=5070;received=127.0.0.1"));
    assert_eq!(ok.header("X-Mine").as_deref(), Some("1"));
    assert_eq!(ok.header("Contact").as_deref(), Some("<sip:127.0.0.1:5060>"));
    assert_eq!(ok.sdp().as_deref(), Some(SDP_B.as_bytes()));
    let tag = ok.to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
    b.pass(50);
    b.receive(request("ACK", 1, "a1", &tag, "", ""));
    b.pass(1000);
    b.receive(request("BYE", 2, "b1", &tag, "Reason: Q.850;cause=16\r\n", ""));
    b.receive(request("BYE", 2, "b1", &tag, "Reason: Q.850;cause=16\r\n", ""));
    assert_eq!(
        b.ladder(),
        "0.000 > 100 INVITE\n0.000 ! Invite\n0.100 > 180 INVITE\n0.200 > 200 INVITE\n0.250 ! Confirmed\n1.250 > 200 BYE\n\
         1.250 ! Gone(Bye { reason: Some(\"Q.850;cause=16\") })\n1.250 > 200 BYE"
    );
    b.assert_clean();
}

/// Runs `bench` and compares what happened with the ladder, written one step a line.
fn check(b: &mut Bench, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(b.ladder(), expected.join("\n"));
}

#[test]
fn a_repeated_invite_gets_the_last_provisional_again() {
    let mut b = Bench::new();
    b.receive(invite(""));
    b.pass(500);
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.provisional(now, d, 183, &[], Some(Bytes::from(SDP_B)))).expect("progress");
    b.receive(invite(""));
    b.pass(60_000);
    b.run(|e, now| e.reject(now, d, 404, None, &[])).expect("reject");
    b.receive(invite(""));
    assert_eq!(b.events.len(), 2, "one Invite and one Gone");
    let ack = request("ACK", 1, "i1", "x", "", "");
    b.receive(&ack);
    b.receive(&ack);
    b.receive(invite(""));
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Invite
         0.500 > 100 INVITE
         0.500 > 183 INVITE
         0.500 > 183 INVITE
         60.500 > 183 INVITE
         60.500 > 404 INVITE
         60.500 ! Gone(Local)
         60.500 > 404 INVITE",
    );
    b.assert_clean();
}

#[test]
fn a_lost_200_is_sent_again_until_the_ack() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
    let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
    b.pass(4_000);
    b.receive(invite(""));
    b.receive(request("ACK", 2, "a0", &tag, "", ""));
    assert!(!b.ladder.iter().any(|l| l.contains("Confirmed")), "an ACK for something else");
    // Some senders give the ACK for a 2xx the INVITE's branch.
    b.receive(request("ACK", 1, "i1", &tag, "", ""));
    assert!(b.ladder.iter().any(|l| l.contains("Confirmed")), "it is the dialog's all the same");
    b.receive(request("ACK", 1, "a1", &tag, "", ""));
    b.pass(10_000);
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Invite
         0.000 > 200 INVITE
         0.500 > 200 INVITE
         1.500 > 200 INVITE
         3.500 > 200 INVITE
         4.000 ! Confirmed",
    );
}

#[test]
fn an_ack_that_never_comes_ends_the_call() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
    b.ladder();
    b.pass(40_000);
    let ladder = b.ladder();
    assert!(ladder.contains("31.500 > 200 INVITE\n32.000 > BYE\n32.000 ! Gone(NoAck)"), "{ladder}");
    assert_eq!(ladder.matches("> 200 INVITE").count(), 10, "T1 doubling to T2, 64*T1 long: {ladder}");
    b.assert_clean();
    assert_eq!(b.gone(), [Cause::NoAck]);
}

#[test]
fn bye_before_the_ack_waits_for_it() {
    for acked in [true, false] {
        let mut b = Bench::new();
        b.receive(invite(""));
        let d = b.dialog();
        b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
        let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
        b.run(|e, now| e.bye(now, d, &[])).expect("bye");
        assert_eq!(b.run(|e, now| e.bye(now, d, &[])), Err(CommandError::WrongState), "once");
        b.ladder();
        if acked {
            b.pass(100);
            b.receive(request("ACK", 1, "a1", &tag, "", ""));
            check(&mut b, "0.100 ! Confirmed\n0.100 > BYE");
        }
        b.assert_clean();
        assert_eq!(b.gone(), [Cause::Local], "acked: {acked}");
    }
}

#[test]
fn cancel_before_the_answer() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.provisional(now, d, 180, &[], None)).expect("ringing");
    let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned));
    b.receive(request("CANCEL", 1, "i1", "", "", ""));
    assert!(b.sent.iter().skip(2).all(|(_, m)| m.to().and_then(|t| t.tag().map(str::to_owned)) == tag), "one tag for all responses");
    b.receive(request("CANCEL", 1, "i1", "", "", ""));
    b.receive(request("ACK", 1, "i1", "x", "", ""));
    assert_eq!(b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))), Err(CommandError::NoDialog), "too late");
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Invite
         0.000 > 180 INVITE
         0.000 > 200 CANCEL
         0.000 > 487 INVITE
         0.000 ! Gone(Cancelled)
         0.000 > 200 CANCEL",
    );
    b.assert_clean();
}

#[test]
fn a_cancel_that_crosses_the_200_changes_nothing() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
    b.ladder();
    b.receive(request("CANCEL", 1, "i1", "", "", ""));
    check(&mut b, "0.000 > 200 CANCEL");
    b.receive(request("CANCEL", 1, "other", "", "", ""));
    check(&mut b, "0.000 > 481 CANCEL\n0.000 ! Refused(no-match)");
    assert_eq!(b.gone(), []);
}

#[test]
fn an_invite_that_expires_is_terminated() {
    let mut b = Bench::new();
    b.receive(invite("Expires: 20\r\n"));
    b.ladder();
    b.pass(20_000);
    check(&mut b, "20.000 > 487 INVITE\n20.000 ! Gone(Cancelled)");
    b.assert_clean();
}

#[test]
fn byes_from_our_side_and_crossing() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    let reason = Header { name: "Reason".into(), value: "Q.850;cause=17".into() };
    b.run(|e, now| e.bye(now, d, &[reason])).expect("bye");
    assert_eq!(b.last().header("Reason").as_deref(), Some("Q.850;cause=17"));
    assert_eq!(b.last().request_uri_text(), Some("sip:al@127.0.0.1:5070"));
    assert_eq!(b.last().header("To").as_deref(), Some("\"Al\" <sip:al@127.0.0.1:5070>;tag=al"));
    assert_eq!(b.last().from().and_then(|f| f.tag().map(str::to_owned)), Some(tag.clone()));
    let bye = b.sent[0].1.top_via().and_then(|v| v.branch).map(|v| String::from_utf8_lossy(v).into_owned()).expect("branch");
    let seq = b.last().cseq();
    // Theirs crosses ours: both get 200, and the end is told once.
    b.receive(request("BYE", 2, "b9", &tag, "", ""));
    let ok = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch={bye}\r\nFrom: <sip:x@y>;tag={tag}\r\nTo: <sip:x@z>;tag=al\r\nCall-ID: call1\r\n\
         CSeq: {seq} BYE\r\n\r\n"
    );
    b.receive(&ok);
    b.receive(&ok);
    check(&mut b, "0.000 > BYE\n0.000 > 200 BYE\n0.000 ! Gone(Local)");
    b.receive(request("BYE", 3, "b10", &tag, "", ""));
    check(&mut b, "0.000 > 481 BYE\n0.000 ! Refused(no-match)");
    b.assert_clean();
}

#[test]
fn a_bye_that_nobody_answers_ends_after_timer_f() {
    let mut b = Bench::new();
    answered(&mut b, "");
    let d = b.dialog();
    b.run(|e, now| e.bye(now, d, &[])).expect("bye");
    b.ladder();
    b.pass(32_000);
    let ladder = b.ladder();
    assert_eq!(ladder.matches("> BYE").count(), 10, "{ladder}");
    assert!(ladder.ends_with("32.000 ! Gone(Local)"), "{ladder}");
    b.assert_clean();
}

#[test]
fn reinvite_update_and_their_glare() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    let moved = "Contact: <sip:al@127.0.0.1:5071>\r\n";
    let hold = request("INVITE", 2, "i2", &tag, "", SDP_A).replace("Contact: <sip:al@127.0.0.1:5070>\r\n", moved);
    b.receive(&hold);
    b.receive(&hold);
    // Another offer while the first waits for the user.
    b.receive(request("INVITE", 3, "i3", &tag, "", SDP_A));
    let wait: u32 = b.last().header("Retry-After").and_then(|v| v.parse().ok()).expect("Retry-After");
    assert!(wait <= 10);
    b.receive(request("UPDATE", 4, "u4", &tag, "", SDP_A));
    b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_B)))).expect("accept");
    b.pass(500);
    // The ACK is late: a third re-INVITE finds us in between, an UPDATE does not, for ours was the answer.
    b.receive(request("INVITE", 5, "i5", &tag, "", SDP_A));
    b.receive(request("UPDATE", 6, "u6", &tag, "", SDP_A));
    b.run(|e, now| e.refuse_offer(now, d, 488)).expect("refuse");
    b.receive(request("ACK", 2, "a2", &tag, "", ""));
    b.receive(request("UPDATE", 7, "u7", &tag, "", ""));
    b.run(|e, now| e.accept_offer(now, d, None)).expect("accept");
    b.receive(request("INFO", 8, "n8", &tag, "", "Signal=5"));
    b.receive(request("INFO", 8, "n8", &tag, "", "Signal=5"));
    b.receive(request("INFO", 8, "n8b", &tag, "", "Signal=5"));
    b.receive(request("OPTIONS", 9, "o9", &tag, "", ""));
    b.receive(request("REFER", 10, "r10", &tag, "", ""));
    b.run(|e, now| e.bye(now, d, &[])).expect("bye");
    assert_eq!(b.sent.last().map(|(f, _)| f.peer), Some(address(5070)), "the target came back with the UPDATE");
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Offer(INVITE,sdp)
         0.000 > 100 INVITE
         0.000 > 500 INVITE
         0.000 ! Refused(status)
         0.000 > 500 UPDATE
         0.000 ! Refused(status)
         0.000 > 200 INVITE
         0.500 > 200 INVITE
         0.500 > 500 INVITE
         0.500 > 491 INVITE
         0.500 ! Refused(status)
         0.500 ! Offer(UPDATE,sdp)
         0.500 > 488 UPDATE
         0.500 ! Offer(UPDATE)
         0.500 > 200 UPDATE
         0.500 > 200 INFO
         0.500 ! Info
         0.500 > 200 INFO
         0.500 > 500 INFO
         0.500 ! Refused(status)
         0.500 > 200 OPTIONS
         0.500 > 405 REFER
         0.500 ! Refused(method)
         0.500 > BYE",
    );
    b.assert_clean();
}

#[test]
fn a_reinvite_without_offer_is_answered_in_the_ack() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    b.receive(request("INVITE", 2, "i2", &tag, "", ""));
    b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_B)))).expect("our offer");
    b.receive(request("UPDATE", 3, "u3", &tag, "", SDP_A));
    b.receive(request("ACK", 2, "a2", &tag, "", SDP_A));
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Offer(INVITE)
         0.000 > 200 INVITE
         0.000 > 491 UPDATE
         0.000 ! Refused(status)
         0.000 ! Confirmed(sdp)",
    );
}

#[test]
fn a_reinvite_without_ack_ends_the_call_and_a_cancelled_one_does_not() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    b.receive(request("INVITE", 2, "i2", &tag, "", SDP_A));
    b.receive(request("CANCEL", 2, "i2", &tag, "", ""));
    b.receive(request("ACK", 2, "i2", &tag, "", ""));
    check(&mut b, "0.000 > 100 INVITE\n0.000 ! Offer(INVITE,sdp)\n0.000 > 200 CANCEL\n0.000 > 487 INVITE");
    assert_eq!(b.run(|e, now| e.accept_offer(now, d, None)), Err(CommandError::WrongState));
    b.receive(request("INVITE", 3, "i3", &tag, "", SDP_A));
    b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_B)))).expect("accept");
    b.pass(32_000);
    assert_eq!(b.gone(), [Cause::NoAck]);
    b.assert_clean();
}

#[test]
fn update_and_bye_before_the_answer() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    b.run(|e, now| e.provisional(now, d, 180, &[], None)).expect("ringing");
    let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
    b.ladder();
    b.receive(request("UPDATE", 2, "u2", &tag, "", ""));
    b.receive(request("UPDATE", 3, "u3", &tag, "", SDP_A));
    b.receive(request("INVITE", 4, "i4", &tag, "", SDP_A));
    b.receive(request("BYE", 5, "b5", &tag, "", ""));
    check(
        &mut b,
        "0.000 > 200 UPDATE
         0.000 > 500 UPDATE
         0.000 ! Refused(status)
         0.000 > 500 INVITE
         0.000 ! Refused(status)
         0.000 > 200 BYE
         0.000 > 487 INVITE
         0.000 ! Gone(Bye { reason: None })",
    );
    b.assert_clean();
}

#[test]
fn a_dialog_is_matched_by_call_id_and_both_tags() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    b.ladder();
    let bye = |from: &str, to: &str, call_id: &str, branch: &str| {
        let bye = request("BYE", 2, branch, to, "", "");
        bye.replace("tag=al\r", &format!("tag={from}\r")).replace("call1", call_id)
    };
    b.receive(bye("mallory", &tag, "call1", "m1"));
    b.receive(bye("al", "guess", "call1", "m2"));
    b.receive(bye("al", &tag, "call2", "m3"));
    assert_eq!(b.gone(), []);
    b.receive(bye("al", &tag, "call1", "m4"));
    check(
        &mut b,
        "0.000 > 481 BYE\n0.000 ! Refused(no-match)\n0.000 > 481 BYE\n0.000 ! Refused(no-match)\n0.000 > 481 BYE\n0.000 ! Refused(no-match)
         0.000 > 200 BYE\n0.000 ! Gone(Bye { reason: None })",
    );
}

#[test]
fn merged_requests_are_refused() {
    let mut b = Bench::new();
    b.receive(invite(""));
    b.receive(request("INVITE", 1, "other-way", "", "", SDP_A));
    check(&mut b, "0.000 > 100 INVITE\n0.000 ! Invite\n0.000 > 482 INVITE\n0.000 ! Refused(merged)");
}

#[test]
fn an_invite_that_comes_again_late_does_not_take_over_its_own_call() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    b.pass(40_000);
    b.ladder();
    b.receive(invite(""));
    b.receive(request("BYE", 2, "b2", &tag, "", ""));
    check(&mut b, "40.000 > 482 INVITE\n40.000 ! Refused(merged)\n40.000 > 200 BYE\n40.000 ! Gone(Bye { reason: None })");
    b.assert_clean();
}

#[test]
fn routes_loose_and_strict() {
    let loose = "Record-Route: <sip:127.0.0.1:5081;lr>,\r\n <sip:p2.example.com;lr>\r\nRecord-Route: <sip:p3.example.com>\r\n";
    let strict = "Record-Route: <sip:127.0.0.1:5082;x=y>, <sip:p2.example.com;lr>\r\n";
    for (record, uri, routes, peer) in [
        (loose, "sip:al@127.0.0.1:5070", vec!["<sip:127.0.0.1:5081;lr>", "<sip:p2.example.com;lr>", "<sip:p3.example.com>"], 5081),
        (strict, "sip:127.0.0.1:5082;x=y", vec!["<sip:p2.example.com;lr>", "<sip:al@127.0.0.1:5070>"], 5082),
    ] {
        let mut b = Bench::new();
        b.receive(invite(record));
        let d = b.dialog();
        b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
        assert_eq!(b.last().name_addrs("Record-Route").len(), record.matches("<sip").count(), "copied whole");
        let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
        b.receive(request("ACK", 1, "a1", &tag, "", ""));
        // A re-INVITE must not change the route set.
        b.receive(request("INVITE", 2, "i2", &tag, "Record-Route: <sip:evil.example.com;lr>\r\n", SDP_A));
        b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_B)))).expect("accept");
        b.receive(request("ACK", 2, "a2", &tag, "", ""));
        b.run(|e, now| e.bye(now, d, &[])).expect("bye");
        let (flow, bye) = b.sent.last().expect("BYE");
        assert_eq!(
            (bye.request_uri_text(), bye.headers("Route"), flow.peer),
            (Some(uri), routes.iter().map(|r| (*r).into()).collect(), address(peer))
        );
    }
}

#[test]
fn a_caller_behind_nat_gets_its_requests_where_it_came_from() {
    let mut b = Bench::new();
    let nat = |text: String| text.replace("127.0.0.1:5070", "10.0.0.9:5070");
    b.receive_from(40_000, nat(invite("")));
    assert_eq!(
        b.last().header("Via").as_deref(),
        Some("SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bKi1;rport=40000;received=127.0.0.1"),
        "RFC 3581 4"
    );
    let d = b.dialog();
    b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
    let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
    b.receive_from(40_000, nat(request("ACK", 1, "a1", &tag, "", "")));
    // The NAT has changed its mind, and the caller lies about `received`.
    let update = nat(request("UPDATE", 2, "u2", &tag, "", "")).replace(";rport", ";received=192.0.2.1;rport");
    b.receive_from(40_001, update);
    b.run(|e, now| e.accept_offer(now, d, None)).expect("accept");
    assert_eq!(b.last().header("Via").as_deref(), Some("SIP/2.0/UDP 10.0.0.9:5070;branch=z9hG4bKu2;rport=40001;received=127.0.0.1"));
    b.run(|e, now| e.bye(now, d, &[])).expect("bye");
    let (flow, bye) = b.sent.last().expect("BYE");
    assert_eq!((flow.peer, bye.request_uri_text()), (address(40_001), Some("sip:al@10.0.0.9:5070")));
}

#[test]
fn refusals_outside_dialogs_keep_no_state() {
    let contact = "Contact: <sip:al@127.0.0.1:5070>\r\n";
    // (request, status, headers that the answer must have)
    type Row = (String, u16, &'static [(&'static str, &'static str)]);
    let rows: &[Row] = &[
        (request("REGISTER", 1, "1", "", "", ""), 405, &[("Allow", ALLOW)]),
        (request("SUBSCRIBE", 1, "2", "", "", ""), 405, &[("Allow", ALLOW)]),
        (request("MESSAGE", 1, "3", "", "", ""), 405, &[]),
        (request("PUBLISH", 1, "4", "", "", ""), 405, &[]),
        (request("NOTIFY", 1, "5", "", "", ""), 481, &[]),
        (request("REFER", 1, "6", "", "", ""), 405, &[]),
        (request("BREW", 1, "7", "", "", ""), 501, &[("Allow", ALLOW)]),
        (request("BYE", 1, "8", "", "", ""), 481, &[]),
        (request("BYE", 1, "8", "unknown", "", ""), 481, &[]),
        (request("INVITE", 1, "9", "unknown", "", ""), 481, &[]),
        (request("OPTIONS", 1, "10", "", "", ""), 200, &[("Allow", ALLOW), ("Accept", "application/sdp"), ("Supported", "timer")]),
        (request("OPTIONS", 1, "11", "", "Require: foo, timer,bar\r\n", ""), 420, &[("Unsupported", "foo, bar")]),
        (request("INVITE", 1, "12", "", "Require: 100rel\r\n", SDP_A), 420, &[("Unsupported", "100rel")]),
        (request("INVITE", 1, "13", "", "", SDP_A).replace("sip:ivr@127.0.0.1 SIP", "mailto:x@y SIP"), 416, &[]),
        (request("INVITE", 1, "14", "", "", SDP_A).replace("application/sdp", "text/plain"), 415, &[("Accept", "application/sdp")]),
        (request("INVITE", 1, "15", "", "Content-Encoding: gzip\r\n", SDP_A), 415, &[("Accept-Encoding", "identity")]),
        (request("INVITE", 1, "16", "", "Accept: text/plain\r\n", SDP_A), 406, &[]),
        (request("INVITE", 1, "17", "", "", SDP_A).replace("Max-Forwards: 70", "Max-Forwards: 0"), 483, &[]),
        (request("INVITE", 1, "18", "", "Supported: timer\r\nSession-Expires: 30\r\n", SDP_A), 422, &[("Min-SE", "90")]),
        (request("INVITE", 1, "19", "", "", SDP_A).replace(contact, "Contact: x y\r\n"), 400, &[]),
        (request("INVITE", 1, "20", "", "CSeq: 2 INVITE\r\n", SDP_A), 400, &[]),
        (request("INVITE", 1, "21", "", "", SDP_A).replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505, &[]),
    ];
    let mut b = Bench::new();
    for (text, status, headers) in rows {
        for _ in 0..2 {
            b.receive(text);
        }
        let [(_, first), (_, second)] = b.sent.as_slice() else { panic!("{status}: one answer each, not {:?}", b.ladder) };
        assert_eq!(first.status(), Some(*status), "{text}");
        assert_eq!(first.all_headers(), second.all_headers(), "a retransmission gets the same answer, tag included");
        assert!(first.to().is_some_and(|t| t.tag().is_some()), "{status} has a tag");
        for (name, value) in *headers {
            assert_eq!(first.header(name).as_deref(), Some(*value), "{status}");
        }
        b.sent.clear();
        b.ladder.clear();
        assert_eq!(b.endpoint.gauges(), Gauges::default(), "{status}");
    }
    assert!(b.events.iter().all(|e| matches!(e, SipEvent::Refused { .. })));
}

#[test]
fn malformed_messages_are_answered_to_acquaintances_only() {
    let bad = request("OPTIONS", 1, "1", "", "Content-Length: 7\r\n", "");
    let from = |ip: &str| Flow { transport: Transport::Udp, local: address(5060), peer: SocketAddr::new(ip.parse().expect("IP"), 5060) };
    let known: IpAddr = "192.0.2.7".parse().expect("IP");
    let mut e = endpoint_at(5060, |c| c.known_peers = vec![known]);
    for (ip, text, answers) in [
        ("192.0.2.7", bad.clone(), 1),
        ("127.0.0.1", bad.clone(), 1),
        ("192.0.2.8", bad.clone(), 0),
        ("127.0.0.1", bad.replace("OPTIONS", "ACK"), 0),
        ("127.0.0.1", "SIP/2.0 200 OK\r\nVia: x\r\n\r\n".into(), 0),
        ("127.0.0.1", "hello\r\n\r\n".into(), 0),
        ("127.0.0.1", bad.replace("\r\n", "\n"), 0),
    ] {
        e.receive(Time::ZERO, from(ip), Bytes::from(text.clone()));
        let outputs: Vec<EndpointOutput> = std::iter::from_fn(|| e.poll()).collect();
        let sent = outputs.iter().filter(|o| matches!(o, EndpointOutput::Transmit { .. })).count();
        let refused =
            outputs.iter().filter(|o| matches!(o, EndpointOutput::Event(SipEvent::Refused { why: Refusal::Malformed(_), .. }))).count();
        assert_eq!((sent, refused), (answers, 1), "{ip} {text}");
    }
    for silent in ["\r\n\r\n", "\r\n", "\0", ""] {
        e.receive(Time::ZERO, from("127.0.0.1"), Bytes::from(silent));
        assert!(e.poll().is_none(), "a keep-alive is no message");
    }
}

#[test]
fn a_session_that_nobody_refreshes_ends() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n");
    let d = b.dialog();
    assert_eq!(b.endpoint.session_expires(d), Some(Duration::from_secs(90)));
    let ok = &b.sent.iter().find(|(_, m)| m.status() == Some(200)).expect("200").1;
    assert_eq!((ok.header("Session-Expires").as_deref(), ok.header("Require").as_deref()), (Some("90;refresher=uac"), Some("timer")));
    b.ladder();
    b.pass(50_000);
    b.receive(request("UPDATE", 2, "u2", &tag, "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n", ""));
    b.run(|e, now| e.accept_offer(now, d, None)).expect("accept");
    assert_eq!(b.last().header("Session-Expires").as_deref(), Some("90;refresher=uac"));
    b.pass(70_000);
    check(
        &mut b,
        "50.000 ! Offer(UPDATE)
         50.000 > 200 UPDATE
         110.000 > BYE
         110.000 ! Gone(SessionExpired)
         110.500 > BYE
         111.500 > BYE
         113.500 > BYE
         117.500 > BYE",
    );
    b.assert_clean();
}

#[test]
fn as_refresher_we_send_update_or_reinvite() {
    // (the peer's Allow, our refresh)
    for (allow, method) in [("Allow: INVITE, UPDATE\r\n", Method::Update), ("", Method::Invite)] {
        let mut b = Bench::new();
        let extra = format!("Supported: timer\r\nSession-Expires: 100;refresher=uas\r\n{allow}");
        let tag = answered(&mut b, &extra);
        b.ladder();
        b.pass(50_000);
        let refresh = b.last();
        assert_eq!(refresh.method(), Some(&method));
        assert_eq!(refresh.header("Session-Expires").as_deref(), Some("100;refresher=uac"));
        assert_eq!(refresh.sdp().is_some(), method == Method::Invite, "a re-INVITE repeats what we last said");
        let answer = |refresh: &Message, status: &str, extra: &str| {
            let branch = refresh.top_via().and_then(|v| v.branch).map(|v| String::from_utf8_lossy(v).into_owned()).expect("branch");
            format!(
                "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch={branch}\r\nFrom: <sip:x@y>;tag={tag}\r\nTo: <sip:x@z>;tag=al\r\n\
                 Call-ID: call1\r\nCSeq: {} {method}\r\nContact: <sip:al@127.0.0.1:5070>\r\n{extra}\r\n",
                refresh.cseq()
            )
        };
        // Glare: a little later again.
        let pending = answer(refresh, "491 Request Pending", "");
        b.receive(pending);
        b.pass(4_000);
        let refresh = b.last();
        assert_eq!(refresh.method(), Some(&method), "again after 491");
        let ok = answer(refresh, "200 OK", "Session-Expires: 100;refresher=uac\r\n");
        b.receive(&ok);
        b.receive(&ok);
        let acks = b.ladder().matches("> ACK").count();
        // A 491 to a re-INVITE has its ACK, and its 200 one each time it comes.
        assert_eq!(acks, if method == Method::Invite { 3 } else { 0 });
        b.pass(52_000);
        assert_eq!(b.last().method(), Some(&method), "and so on");
        // The other side has forgotten the call.
        let gone = answer(b.last(), "481 Gone", "");
        b.receive(gone);
        assert_eq!(b.gone(), [Cause::SessionExpired]);
        b.assert_clean();
    }
}

#[test]
fn overload_refuses_new_calls_and_keeps_old_ones() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    b.ladder();
    for i in 0..limits::SIP_DIALOGS {
        b.receive(request("INVITE", 1, &format!("x{i}"), "", "", "").replace("call1", &format!("x{i}")));
        b.sent.clear();
        b.events.clear();
    }
    let ladder = b.ladder();
    assert!(ladder.ends_with("0.000 > 503 INVITE\n0.000 ! Refused(overload)"), "the last one");
    assert_eq!(ladder.matches("> 503").count(), 1);
    assert_eq!(b.endpoint.gauges().dialogs, limits::SIP_DIALOGS);
    b.receive(request("BYE", 2, "b2", &tag, "", ""));
    check(&mut b, "0.000 > 200 BYE\n0.000 ! Gone(Bye { reason: None })");
}

#[test]
fn headers_of_the_user_cannot_break_out() {
    let mut b = Bench::new();
    b.receive(invite(""));
    let d = b.dialog();
    for (name, value) in [
        ("X-A", "1\r\nX-B: 2"),
        ("X-A", "1\n"),
        ("X-A", "\0"),
        ("X A", "1"),
        ("X-A:", "1"),
        ("", "1"),
        ("Via", "SIP/2.0/UDP h"),
        ("l", "0"),
        ("Call-ID", "x"),
    ] {
        let headers = [Header { name: name.into(), value: value.into() }];
        assert_eq!(b.run(|e, now| e.answer(now, d, &headers, Bytes::new())), Err(CommandError::BadHeader), "{name:?}: {value:?}");
        assert_eq!(b.run(|e, now| e.reject(now, d, 486, None, &headers)), Err(CommandError::BadHeader), "{name:?}: {value:?}");
    }
    assert_eq!(b.run(|e, now| e.reject(now, d, 486, Some("Busy\r\nX: y"), &[])), Err(CommandError::BadHeader));
    assert_eq!(b.run(|e, now| e.reject(now, d, 200, None, &[])), Err(CommandError::WrongState));
    let moved = [Header { name: "Contact".into(), value: "<sip:new@127.0.0.1>".into() }];
    b.run(|e, now| e.reject(now, d, 302, Some("Gone Fishing"), &moved)).expect("redirect");
    let last = b.last();
    assert_eq!(
        (last.status(), last.reason_phrase().as_deref(), last.headers("Contact")),
        (Some(302), Some("Gone Fishing"), vec!["<sip:new@127.0.0.1>".to_owned()])
    );
}

#[test]
fn advertised_hosts() {
    for (advertise, contact) in [
        (Some("203.0.113.5"), "<sip:203.0.113.5:5060>"),
        (Some("sip.example.com:5099"), "<sip:sip.example.com:5099>"),
        (Some("2001:db8::1"), "<sip:[2001:db8::1]:5060>"),
        (Some("[2001:db8::1]"), "<sip:[2001:db8::1]:5060>"),
        (Some("[2001:db8::1]:5099"), "<sip:[2001:db8::1]:5099>"),
        (None, "<sip:127.0.0.1:5060>"),
    ] {
        let mut b = Bench::with(|c| c.listen[0].advertise = advertise.map(str::to_owned));
        b.receive(request("OPTIONS", 1, "o", "", "", ""));
        assert_eq!(b.last().header("Contact").as_deref(), Some(contact));
    }
}

/// A call of ours to the peer; with its dialog, the INVITE.
fn calling(b: &mut Bench) -> (DialogId, Message) {
    let invite = Invite {
        target: "sip:bob@127.0.0.1:5070?Subject=x".into(),
        from: "\"Node\" <sip:node@127.0.0.1>".into(),
        to: None,
        flow: flow_from(5070),
        headers: vec![Header { name: "X-Mine".into(), value: "1".into() }],
        sdp: Some(Bytes::from(SDP_A)),
    };
    let d = b.run(|e, now| e.invite(now, invite)).expect("invite");
    let (_, sent) = b.sent.pop().expect("INVITE");
    (d, sent)
}

/// The peer's response to a request of ours.
fn response(to: &Message, status: &str, tag: &str, extra: &str, body: &str) -> String {
    let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
    let header = |name: &str| to.header(name).unwrap_or_default();
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <sip:bob@127.0.0.1:5071>\r\n{extra}{content}\
         Content-Length: {}\r\n\r\n{body}",
        header("Via"),
        header("From"),
        header("To"),
        header("Call-ID"),
        header("CSeq"),
        body.len()
    )
}

#[test]
fn our_call_answered_and_ended_by_either_side() {
    for we_hang_up in [true, false] {
        let mut b = Bench::new();
        let (d, invite) = calling(&mut b);
        assert_eq!(invite.request_uri_text(), Some("sip:bob@127.0.0.1:5070"), "headers of a URI do not go into the Request-URI");
        assert_eq!(invite.header("To").as_deref(), Some("<sip:bob@127.0.0.1:5070>"));
        assert_eq!(invite.header("X-Mine").as_deref(), Some("1"));
        assert_eq!(invite.header("Max-Forwards").as_deref(), Some("70"));
        b.pass(500);
        b.receive(response(&invite, "100 Trying", "", "", ""));
        b.receive(response(&invite, "180 Ringing", "bob", "", ""));
        b.pass(2_000);
        let routes = "Record-Route: <sip:127.0.0.1:5091;lr>\r\nRecord-Route: <sip:127.0.0.1:5090;lr>\r\n";
        let ok = response(&invite, "200 OK", "bob", routes, SDP_B);
        b.receive(&ok);
        let (flow, ack) = b.sent.last().expect("ACK");
        assert_eq!(
            (flow.peer.port(), ack.request_uri_text(), ack.headers("Route")),
            (5090, Some("sip:bob@127.0.0.1:5071"), vec!["<sip:127.0.0.1:5090;lr>".into(), "<sip:127.0.0.1:5091;lr>".into()]),
            "a caller's route set is the Record-Route reversed (RFC 3261 12.1.2)"
        );
        assert_eq!(ack.cseq(), invite.cseq());
        b.receive(&ok);
        let from = invite.from().and_then(|f| f.tag().map(str::to_owned)).expect("tag");
        let bye = format!(
            "BYE sip:node@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bKbb\r\nFrom: <sip:bob@127.0.0.1>;tag=bob\r\n\
             To: <sip:n@127.0.0.1>;tag={from}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\n\r\n",
            invite.call_id()
        );
        let common = "0.000 > INVITE\n0.500 > INVITE\n0.500 ! Progress(180)\n2.500 > ACK\n2.500 ! Answered\n2.500 > ACK\n";
        if we_hang_up {
            b.run(|e, now| e.bye(now, d, &[])).expect("bye");
            let ours = &b.sent.last().expect("BYE").1;
            assert_eq!((ours.cseq(), ours.headers("Route").len()), (invite.cseq() + 1, 2));
            let done = response(ours, "200 OK", "", "", "");
            b.receive(done);
            check(&mut b, &format!("{common}2.500 > BYE\n2.500 ! Gone(Local)"));
        } else {
            b.receive(bye);
            check(&mut b, &format!("{common}2.500 > 200 BYE\n2.500 ! Gone(Bye {{ reason: None }})"));
        }
        b.assert_clean();
    }
}

#[test]
fn our_call_refused() {
    let mut b = Bench::new();
    let (_, invite) = calling(&mut b);
    let busy = response(&invite, "486 Busy Here", "bob", "", "");
    b.receive(&busy);
    let ack = b.last();
    assert_eq!((ack.header("Via"), ack.header("To")), (invite.header("Via"), Some("<sip:bob@127.0.0.1:5070>;tag=bob".into())));
    b.receive(&busy);
    check(&mut b, "0.000 > INVITE\n0.000 > ACK\n0.000 ! Gone(Failed { status: 486 })\n0.000 > ACK");
    b.assert_clean();
}

#[test]
fn our_call_unanswered() {
    let mut b = Bench::new();
    calling(&mut b);
    b.pass(32_000);
    assert!(b.ladder().ends_with("32.000 ! Gone(Failed { status: 408 })"));
    let (d, invite) = calling(&mut b);
    b.run(|e, now| e.flow_failed(now, flow_from(5070)));
    b.receive(response(&invite, "200 OK", "bob", "", SDP_B));
    check(&mut b, "32.000 > INVITE\n32.000 ! Gone(Failed { status: 503 })\n32.000 ! Refused(no-match)");
    assert_eq!(b.run(|e, now| e.cancel(now, d)), Err(CommandError::NoDialog));
    // Ringing without end: given up four minutes after the last provisional.
    let (_, invite) = calling(&mut b);
    b.receive(response(&invite, "180 Ringing", "bob", "", ""));
    b.ladder();
    b.pass(240_000);
    check(&mut b, "272.000 > CANCEL\n272.000 ! Gone(Failed { status: 408 })");
    b.receive(response(&invite, "487 Request Terminated", "bob", "", ""));
    b.assert_clean();
}

#[test]
fn cancel_waits_for_a_provisional() {
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    b.run(|e, now| e.cancel(now, d)).expect("cancel");
    assert_eq!(b.run(|e, now| e.cancel(now, d)), Err(CommandError::WrongState), "once");
    b.pass(200);
    b.receive(response(&invite, "180 Ringing", "bob", "", ""));
    let cancel = b.last();
    assert_eq!((cancel.header("Via"), cancel.cseq(), cancel.header("To")), (invite.header("Via"), invite.cseq(), invite.header("To")));
    let ok = response(cancel, "200 OK", "bob", "", "");
    b.receive(ok);
    b.receive(response(&invite, "487 Request Terminated", "bob", "", ""));
    check(&mut b, "0.000 > INVITE\n0.200 > CANCEL\n0.200 > ACK\n0.200 ! Gone(Local)");
    b.assert_clean();
}

#[test]
fn ic_285_a_200_that_crosses_our_cancel_is_released() {
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    b.receive(response(&invite, "180 Ringing", "bob", "", ""));
    b.run(|e, now| e.cancel(now, d)).expect("cancel");
    let ok = response(&invite, "200 OK", "bob", "", SDP_B);
    b.receive(&ok);
    let bye = b.last();
    assert_eq!((bye.cseq(), bye.request_uri_text()), (invite.cseq() + 1, Some("sip:bob@127.0.0.1:5071")));
    b.receive(&ok);
    check(
        &mut b,
        "0.000 > INVITE\n0.000 ! Progress(180)\n0.000 > CANCEL\n0.000 > ACK\n0.000 > BYE\n0.000 ! Gone(CancelFailed)\n0.000 > ACK",
    );
    b.assert_clean();
}

#[test]
fn a_cancel_that_nothing_follows_ends_the_call() {
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    b.receive(response(&invite, "180 Ringing", "bob", "", ""));
    b.run(|e, now| e.cancel(now, d)).expect("cancel");
    let ok = response(b.last(), "200 OK", "bob", "", "");
    b.receive(ok);
    b.pass(33_000);
    assert_eq!(b.gone(), [Cause::CancelFailed]);
    b.assert_clean();
}

#[test]
fn the_first_fork_that_answers_has_the_call() {
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    for tag in ["a", "b", "c"] {
        b.receive(response(&invite, "180 Ringing", tag, "", ""));
    }
    b.receive(response(&invite, "200 OK", "b", "", SDP_B));
    b.receive(response(&invite, "200 OK", "a", "", SDP_B));
    let bye = b.last();
    assert_eq!((bye.method(), bye.to().and_then(|t| t.tag().map(str::to_owned))), (Some(&Method::Bye), Some("a".into())));
    b.receive(response(&invite, "200 OK", "a", "", SDP_B));
    b.receive(response(&invite, "200 OK", "b", "", SDP_B));
    check(
        &mut b,
        "0.000 > INVITE
         0.000 ! Progress(180)
         0.000 ! Progress(180)
         0.000 ! Progress(180)
         0.000 > ACK
         0.000 ! Answered
         0.000 > ACK
         0.000 > BYE
         0.000 > ACK
         0.000 > ACK",
    );
    b.run(|e, now| e.bye(now, d, &[])).expect("the call itself goes on");
    b.assert_clean();
    assert_eq!(b.gone(), [Cause::Local]);
}

#[test]
fn the_callee_may_move_and_refresh_our_call() {
    let mut b = Bench::with(|c| c.session_expires = Some(Duration::from_secs(100)));
    let (d, invite) = calling(&mut b);
    assert_eq!(invite.header("Session-Expires").as_deref(), Some("100"));
    b.receive(response(&invite, "200 OK", "bob", "Allow: UPDATE\r\nRequire: timer\r\nSession-Expires: 100;refresher=uac\r\n", SDP_B));
    b.ladder();
    let from = invite.from().and_then(|f| f.tag().map(str::to_owned)).expect("tag");
    let reinvite = request("INVITE", 7, "ri", &from, "", SDP_B).replace("tag=al", "tag=bob").replace("call1", invite.call_id());
    b.receive(&reinvite);
    b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_A)))).expect("accept");
    b.receive(reinvite.replace("INVITE", "ACK").replace("bKri", "bKra"));
    assert_eq!(b.endpoint.session_expires(d), None, "a refresh without Session-Expires turns the timer off");
    check(&mut b, "0.000 > 100 INVITE\n0.000 ! Offer(INVITE,sdp)\n0.000 > 200 INVITE");
    b.run(|e, now| e.bye(now, d, &[])).expect("bye");
    assert_eq!(b.sent.last().map(|(f, _)| f.peer.port()), Some(5070), "the re-INVITE's Contact");
    b.assert_clean();
}

#[test]
fn a_callee_that_wants_a_longer_session_is_asked_again_once() {
    let mut b = Bench::with(|c| c.session_expires = Some(Duration::from_secs(100)));
    let (_, invite) = calling(&mut b);
    b.receive(response(&invite, "422 Too Small", "bob", "Min-SE: 300\r\n", ""));
    let again = b.sent.pop().expect("INVITE").1;
    assert_eq!((again.cseq(), again.call_id(), again.body()), (invite.cseq() + 1, invite.call_id(), invite.body()));
    assert_eq!((again.header("Session-Expires"), again.header("Min-SE")), (Some("300".into()), Some("300".into())));
    for name in ["From", "To", "Contact", "X-Mine", "Content-Type"] {
        assert_eq!(again.headers(name), invite.headers(name), "{name}");
    }
    // A callee that asks for no more than it was offered is taken at its word.
    b.receive(response(&again, "422 Too Small", "bob", "Min-SE: 300\r\n", ""));
    check(&mut b, "0.000 > INVITE\n0.000 > ACK\n0.000 > INVITE\n0.000 > ACK\n0.000 ! Gone(Failed { status: 422 })");
    b.assert_clean();
}

#[test]
fn what_cannot_be_called() {
    let mut b = Bench::new();
    let good = Invite {
        target: "sip:bob@127.0.0.1:5070".into(),
        from: "<sip:a@b>".into(),
        to: None,
        flow: flow_from(5070),
        headers: Vec::new(),
        sdp: None,
    };
    let bad: &[(Invite, CommandError)] = &[
        (Invite { target: "bob".into(), ..good.clone() }, CommandError::BadUri),
        (Invite { target: "http://x".into(), ..good.clone() }, CommandError::BadUri),
        (Invite { target: "sip:b@c\r\nX: y".into(), ..good.clone() }, CommandError::BadUri),
        (Invite { from: "<sip:a@b>;tag=1".into(), ..good.clone() }, CommandError::BadUri),
        (Invite { from: "\"x\r\nX: y\" <sip:a@b>".into(), ..good.clone() }, CommandError::BadUri),
        (Invite { to: Some("<sip:a@b".into()), ..good.clone() }, CommandError::BadUri),
        (Invite { headers: vec![Header { name: "X".into(), value: "\n".into() }], ..good.clone() }, CommandError::BadHeader),
    ];
    for (invite, error) in bad {
        assert_eq!(b.run(|e, now| e.invite(now, invite.clone())), Err(*error), "{invite:?}");
    }
    assert_eq!(b.endpoint.gauges(), Gauges::default());
    assert!(b.run(|e, now| e.invite(now, good)).is_ok());
}

#[test]
fn responses_that_are_not_ours_are_dropped() {
    let mut b = Bench::new();
    let (_, invite) = calling(&mut b);
    let ok = response(&invite, "200 OK", "bob", "", SDP_B);
    b.ladder();
    b.receive(ok.replace("Via: ", "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx\r\nVia: "));
    b.receive(ok.replace("branch=z9hG4bK", "branch=z9hG4bKx"));
    b.receive(ok.replace(" INVITE\r\n", " BYE\r\n"));
    // The right branch with another number: what we would send next counts from it.
    b.receive(ok.replace(&format!("CSeq: {} ", invite.cseq()), "CSeq: 4294967295 "));
    check(&mut b, &["0.000 ! Refused(no-match)"; 4].join("\n"));
}

/// Two endpoints, a wire that loses and delays, and users that do something at random times. Every dialog ends once, and nothing is left.
#[test]
fn a_lossy_world_ends_every_dialog_once_and_leaves_nothing() {
    for seed in 0..40 {
        lossy_world(seed);
    }
}

fn lossy_world(seed: u8) {
    let mut dice = Random::new([seed; 32]);
    let loss = [0, 5, 20, 40][usize::from(seed) % 4];
    let ports = [5060u16, 5070];
    let mut ends = ports.map(|p| endpoint_at(p, |c| c.session_expires = (p == 5060).then(|| Duration::from_secs(90))));
    // What is on its way or planned, by time: (sequence to keep it deterministic, what).
    let mut agenda: std::collections::BTreeMap<(Time, u64), Todo> = std::collections::BTreeMap::new();
    let mut sequence = 0;
    let mut now = Time::ZERO;
    let mut born: [std::collections::BTreeSet<DialogId>; 2] = Default::default();
    let mut gone: [Vec<DialogId>; 2] = Default::default();
    let mut confirmed = 0;
    enum Todo {
        Deliver(usize, Flow, Bytes),
        Act(usize, DialogId, u8),
        Call(usize),
    }
    let mut plan = |agenda: &mut std::collections::BTreeMap<(Time, u64), Todo>, at: Time, todo: Todo| {
        sequence += 1;
        agenda.insert((at, sequence), todo);
    };
    for i in 0..30 {
        plan(&mut agenda, Time::from_millis(i * 700), Todo::Call(usize::from(i % 3 == 0)));
    }
    let sdp = || Some(Bytes::from(SDP_A));
    loop {
        for side in 0..2 {
            while let Some(output) = ends[side].poll() {
                let ms = |dice: &mut Random, n: u32| Duration::from_millis(u64::from(dice.u32() % n));
                match output {
                    EndpointOutput::Transmit { bytes, .. } => {
                        assert!(Message::parse(bytes.clone()).is_ok(), "seed {seed}");
                        if dice.u32() % 100 >= loss {
                            let flow = Flow { transport: Transport::Udp, local: address(ports[1 - side]), peer: address(ports[side]) };
                            let delay = ms(&mut dice, 300);
                            plan(&mut agenda, now + delay, Todo::Deliver(1 - side, flow, bytes));
                        }
                    }
                    EndpointOutput::Event(SipEvent::Invite { dialog, .. }) => {
                        assert!(born[side].insert(dialog), "seed {seed}: an id is used once");
                        let (first, second) = (ms(&mut dice, 3000), ms(&mut dice, 9000));
                        plan(&mut agenda, now + first, Todo::Act(side, dialog, 0));
                        plan(&mut agenda, now + second, Todo::Act(side, dialog, 1 + u8::from(dice.u32().is_multiple_of(4))));
                    }
                    EndpointOutput::Event(SipEvent::Answered { dialog, .. } | SipEvent::Confirmed { dialog, .. }) => {
                        confirmed += 1;
                        let (until, what) = (ms(&mut dice, 200_000), 3);
                        plan(&mut agenda, now + until, Todo::Act(side, dialog, what));
                    }
                    EndpointOutput::Event(SipEvent::Offer { dialog, .. }) => {
                        let wait = ms(&mut dice, 1000);
                        plan(&mut agenda, now + wait, Todo::Act(side, dialog, 4 + u8::from(dice.u32().is_multiple_of(3))));
                    }
                    EndpointOutput::Event(SipEvent::Gone { dialog, .. }) => gone[side].push(dialog),
                    EndpointOutput::Event(_) => {}
                }
            }
        }
        let next = [agenda.first_key_value().map(|((t, _), _)| *t), ends[0].next_timeout(), ends[1].next_timeout()];
        let Some(at) = next.into_iter().flatten().min() else { break };
        now = at.max(now);
        for end in &mut ends {
            end.handle_timeout(now);
        }
        while let Some(entry) = agenda.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove() {
                Todo::Deliver(side, flow, bytes) => ends[side].receive(now, flow, bytes),
                Todo::Call(side) => {
                    let peer = address(ports[1 - side]);
                    let invite = Invite {
                        target: format!("sip:x@{peer}"),
                        from: format!("<sip:y@{}>", address(ports[side])),
                        to: None,
                        flow: Flow { transport: Transport::Udp, local: address(ports[side]), peer },
                        headers: Vec::new(),
                        sdp: sdp(),
                    };
                    let d = ends[side].invite(now, invite).expect("a good INVITE");
                    born[side].insert(d);
                    // Some callers lose patience.
                    if dice.u32().is_multiple_of(3) {
                        plan(&mut agenda, now + Duration::from_millis(u64::from(dice.u32() % 6000)), Todo::Act(side, d, 6));
                    }
                }
                // A command that comes too late is refused and changes nothing: its result is of no interest here.
                Todo::Act(side, d, what) => {
                    let e = &mut ends[side];
                    let _ = match what {
                        0 => e.provisional(now, d, 180, &[], None),
                        1 => e.answer(now, d, &[], Bytes::from(SDP_B)),
                        2 => e.reject(now, d, 486, None, &[]),
                        3 => e.bye(now, d, &[]),
                        4 => e.accept_offer(now, d, sdp()),
                        5 => e.refuse_offer(now, d, 488),
                        _ => e.cancel(now, d),
                    };
                }
            }
        }
        assert!(
            now < Time::from_millis(1_200_000),
            "seed {seed}: still busy after 20 minutes: {:?} {:?}",
            ends[0].gauges(),
            ends[1].gauges()
        );
    }
    assert!(confirmed > 5, "seed {seed}: only {confirmed} calls were ever answered");
    for side in 0..2 {
        gone[side].sort();
        assert!(gone[side].iter().eq(born[side].iter()), "seed {seed}: each dialog ends once: {:?} {:?}", born[side], gone[side]);
        assert_eq!(ends[side].gauges(), Gauges::default(), "seed {seed}");
    }
}

#[test]
fn a_call_over_tcp_stays_on_its_connection_and_lingers_nowhere() {
    let mut b = Bench::with(|c| c.listen.push(Listen { transport: Transport::Tcp, bound: address(5060), advertise: None }));
    let flow = Flow { transport: Transport::Tcp, local: address(5060), peer: address(33_333) };
    let tcp = |b: &mut Bench, text: String| {
        b.endpoint.receive(b.now, flow, Bytes::from(text.replace("SIP/2.0/UDP", "SIP/2.0/TCP")));
        b.drain();
    };
    tcp(&mut b, invite(""));
    let d = b.dialog();
    b.run(|e, now| e.answer(now, d, &[], Bytes::from(SDP_B))).expect("answer");
    assert_eq!(b.last().header("Contact").as_deref(), Some("<sip:127.0.0.1:5060;transport=tcp>"));
    let tag = b.last().to().and_then(|t| t.tag().map(str::to_owned)).expect("tag");
    b.pass(500);
    tcp(&mut b, request("ACK", 1, "a1", &tag, "", ""));
    b.run(|e, now| e.bye(now, d, &[])).expect("bye");
    b.pass(10_000);
    let (by, bye) = b.sent.last().expect("BYE");
    assert_eq!(*by, flow);
    assert!(bye.header("Via").is_some_and(|v| v.starts_with("SIP/2.0/TCP 127.0.0.1:5060;")));
    b.endpoint.flow_failed(b.now, flow);
    b.drain();
    // The 2xx is repeated on a stream too: a proxy further on may have lost it (RFC 3261 13.3.1.4).
    check(
        &mut b,
        "0.000 > 100 INVITE
         0.000 ! Invite
         0.000 > 200 INVITE
         0.500 > 200 INVITE
         0.500 ! Confirmed
         0.500 > BYE
         10.500 ! Gone(Local)",
    );
    tcp(&mut b, request("INVITE", 1, "i2", "", "", SDP_A).replace("call1", "call2"));
    let d = b.dialog();
    b.run(|e, now| e.reject(now, d, 486, None, &[])).expect("reject");
    b.pass(5_000);
    tcp(&mut b, request("ACK", 1, "i2", "x", "", ""));
    b.pass(0);
    check(&mut b, "10.500 > 100 INVITE\n10.500 ! Invite\n10.500 > 486 INVITE\n10.500 ! Gone(Local)");
    b.assert_clean();
}

// ------------------------------------------------------------------------------------------------ our own offers

/// A response of the caller `al` to a request of ours within the dialog.
fn from_al(request: &Message, status: &str, extra: &str, body: &str) -> String {
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        text.push_str(&format!("{name}: {}\r\n", request.header(name).expect("a request has it")));
    }
    text + &format!("Contact: <sip:al@127.0.0.1:5070>\r\n{extra}{content}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn our_offer_is_answered_once_and_acknowledged_each_time() {
    let mut b = Bench::new();
    answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("the call is up");
    assert_eq!(b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))), Err(CommandError::WrongState), "one at a time");
    let offer = from_al(b.last(), "200 OK", "", SDP_B);
    assert_eq!(b.last().body(), SDP_A.as_bytes());
    b.receive(&offer);
    assert_eq!((b.last().method(), b.last().cseq()), (Some(&Method::Ack), b.sent[0].1.cseq()));
    b.receive(&offer);
    check(&mut b, &format!("0.000 > INVITE\n0.000 > ACK\n0.000 ! OfferAnswered(Ok({}))\n0.000 > ACK", SDP_B.len()));
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("another one");
    let no = from_al(b.last(), "488 Not Acceptable Here", "", "");
    b.receive(no);
    check(&mut b, "0.000 > INVITE\n0.000 > ACK\n0.000 ! OfferAnswered(Err(488))");
    b.run(|e, now| e.bye(now, d, &[])).expect("still up");
    let ok = from_al(b.last(), "200 OK", "", "");
    b.receive(ok);
    b.assert_clean();
}

/// A NOTIFY of the caller `al` about a REFER of ours.
fn news(cseq: u32, tag: &str, state: &str, line: &str) -> String {
    let extra = format!("Event: refer;id=1\r\nSubscription-State: {state}\r\n");
    request("NOTIFY", cseq, &format!("n{cseq}"), tag, &extra, &format!("{line}\r\n"))
        .replace("application/sdp", "message/sipfrag;version=2.0")
}

#[test]
fn ic_300_a_refer_is_followed_to_its_last_status() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.receive(news(2, &tag, "active", "SIP/2.0 100 Trying"));
    assert_eq!(b.last().status(), Some(481), "nobody asked for news");
    b.ladder();
    assert_eq!(b.run(|e, now| e.refer(now, d, "nonsense", &[])), Err(CommandError::BadUri));
    assert_eq!(b.run(|e, now| e.refer(now, d, "<sip:x@y>\r\nVia: z", &[])), Err(CommandError::BadUri));
    let by = Header { name: "Referred-By".into(), value: "<sip:ivr@demo.test>".into() };
    b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1:5080>", &[by])).expect("the call is up");
    assert_eq!(b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1>", &[])), Err(CommandError::WrongState), "one at a time");
    let refer = b.last();
    assert_eq!((refer.header("Refer-To").as_deref(), refer.header("Contact").is_some()), (Some("<sip:carol@127.0.0.1:5080>"), true));
    assert_eq!(refer.header("Referred-By").as_deref(), Some("<sip:ivr@demo.test>"));
    let accepted = from_al(refer, "202 Accepted", "", "");
    b.receive(accepted);
    b.receive(news(3, &tag, "active;expires=60", "SIP/2.0 100 Trying"));
    b.receive(news(4, &tag, "active;expires=60", "SIP/2.0 180 Ringing"));
    b.receive(news(5, &tag, "terminated;reason=noresource", "SIP/2.0 200 OK"));
    b.receive(news(6, &tag, "terminated", "SIP/2.0 200 OK"));
    check(
        &mut b,
        "0.000 > REFER\n0.000 ! Referred(202)\n0.000 > 200 NOTIFY\n0.000 ! Referred(100)\n0.000 > 200 NOTIFY\n0.000 ! Referred(180)\n\
         0.000 > 200 NOTIFY\n0.000 ! Referred(200, last)\n0.000 > 481 NOTIFY\n0.000 ! Refused(status)",
    );
    let other = request("NOTIFY", 7, "n7", &tag, "Event: presence\r\nSubscription-State: active\r\n", "");
    b.receive(other);
    assert_eq!((b.last().status(), b.last().header("Allow-Events").as_deref()), (Some(489), Some("refer")));
    b.run(|e, now| e.bye(now, d, &[])).expect("still up");
    let ok = from_al(b.last(), "200 OK", "", "");
    b.receive(ok);
    b.assert_clean();
}

#[test]
fn ic_300_a_refer_that_is_refused_or_forgotten_ends_once() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1>", &[])).expect("the call is up");
    let no = from_al(b.last(), "405 Method Not Allowed", "", "");
    b.receive(no);
    check(&mut b, "0.000 > REFER\n0.000 ! Referred(405, last)");
    // Accepted, and then nothing: RFC 6665 4.1.2.4 gives the first NOTIFY 64*T1.
    b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1>", &[])).expect("another one");
    let accepted = from_al(b.last(), "202 Accepted", "", "");
    b.receive(accepted);
    b.pass(33_000);
    check(&mut b, "0.000 > REFER\n0.000 ! Referred(202)\n32.000 ! Referred(408, last)");
    // News that stop: as long as the peer said.
    b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1>", &[])).expect("a third one");
    b.receive(news(2, &tag, "active;expires=10", "SIP/2.0 100 Trying"));
    b.ladder();
    b.pass(11_000);
    assert!(b.ladder().ends_with("43.000 ! Referred(408, last)"));
    // Nobody answers at all: 408 by timer F, and with the dialog it ends untold.
    b.run(|e, now| e.refer(now, d, "<sip:carol@127.0.0.1>", &[])).expect("a fourth one");
    b.receive(request("BYE", 3, "b3", &tag, "", ""));
    b.pass(40_000);
    assert!(!b.ladder().contains("last)"));
    b.assert_clean();
}

#[test]
fn ic_300_replaces_names_the_dialog_as_its_other_side_knows_it() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    let refer_to = b.endpoint.refer_to_replace(d).expect("the call is up");
    assert_eq!(refer_to, format!("<sip:al@127.0.0.1:5070?Replaces=call1%3Bto-tag%3Dal%3Bfrom-tag%3D{tag}>"));
}

#[test]
fn crossing_offers_are_491_and_ours_is_repeated() {
    // RFC 3261 14.1: the callee waits at most 2 s, so that the owner of the Call-ID, who waits 2.1 s at least, comes after it.
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.ladder();
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    b.receive(request("INVITE", 2, "i2", &tag, "", SDP_B));
    b.receive(request("ACK", 2, "i2", &tag, "", ""));
    let pending = from_al(&b.sent[0].1, "491 Request Pending", "", "");
    b.receive(pending);
    check(&mut b, "0.000 > INVITE\n0.000 > 491 INVITE\n0.000 ! Refused(status)\n0.000 > ACK");
    let before = b.now;
    b.pass(2000);
    let again = b.sent.pop().expect("the offer again").1;
    assert_eq!((again.method(), again.body()), (Some(&Method::Invite), Bytes::from(SDP_A)));
    assert!(b.now.since(before) <= Duration::from_secs(2));
    b.receive(from_al(&again, "200 OK", "", SDP_B));
    assert!(b.ladder().contains("OfferAnswered(Ok"));
    // It gives up after some rounds.
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    for _ in 0..6 {
        let invite =
            b.sent.iter().rev().find(|(_, m)| m.method() == Some(&Method::Invite)).map(|(_, m)| from_al(m, "491 Request Pending", "", ""));
        b.receive(invite.expect("an offer"));
        b.pass(2000);
    }
    assert!(b.ladder().ends_with("OfferAnswered(Err(491))"), "{}", b.ladder());
    b.run(|e, now| e.bye(now, d, &[])).expect("still up");
    b.assert_clean();
}

#[test]
fn as_caller_we_wait_longer_after_491() {
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    b.receive(response(&invite, "200 OK", "bob", "", SDP_B));
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    let pending = from_al(b.last(), "491 Request Pending", "", "");
    b.receive(pending);
    b.ladder();
    b.pass(2099);
    check(&mut b, "");
    b.pass(1902);
    assert!(b.ladder().contains("> INVITE"));
    b.run(|e, now| e.bye(now, d, &[])).expect("up");
    b.assert_clean();
}

#[test]
fn our_offer_waits_for_the_peers_and_ends_with_the_dialog() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.receive(request("INVITE", 2, "i2", &tag, "", SDP_A));
    b.ladder();
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_B))).expect("up");
    b.pass(200);
    check(&mut b, "");
    b.run(|e, now| e.accept_offer(now, d, Some(Bytes::from(SDP_B)))).expect("the peer's");
    b.receive(request("ACK", 2, "a2", &tag, "", ""));
    b.pass(100);
    assert!(b.ladder().ends_with("> INVITE"));
    // RFC 3261 12.2.1.2: 481 means that the dialog is gone there.
    b.run(|_, _| ());
    b.pass(0);
    let mut other = Bench::new();
    answered(&mut other, "");
    let d2 = other.dialog();
    other.ladder();
    other.run(|e, now| e.offer(now, d2, Bytes::from(SDP_A))).expect("up");
    let gone = from_al(other.last(), "481 Gone", "", "");
    other.receive(gone);
    check(&mut other, "0.000 > INVITE\n0.000 > ACK\n0.000 > BYE\n0.000 ! Gone(Failed { status: 481 })");
    other.assert_clean();
    // The peer hangs up meanwhile.
    b.receive(request("BYE", 3, "b3", &tag, "", ""));
    assert!(b.ladder().ends_with("! Gone(Bye { reason: None })"));
    b.assert_clean();
}

#[test]
fn ic_284_an_offer_keeps_the_session_timer() {
    let mut b = Bench::new();
    answered(&mut b, "Supported: timer\r\nSession-Expires: 120;refresher=uas\r\n");
    let d = b.dialog();
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    assert_eq!(b.last().header("Session-Expires").as_deref(), Some("120;refresher=uac"));
    let ok = from_al(b.last(), "200 OK", "Session-Expires: 120;refresher=uac\r\n", SDP_B);
    b.receive(ok);
    assert_eq!(b.endpoint.session_expires(d), Some(Duration::from_secs(120)));
    b.run(|e, now| e.bye(now, d, &[])).expect("up");
    b.assert_clean();
}

#[test]
fn our_offers_bye_and_ack_follow_the_route_set() {
    // Through two proxies: the lists are reversed for the caller, kept for the callee (RFC 3261 12.1), and a moved target changes neither.
    let routes = "Record-Route: <sip:127.0.0.1:5081;lr>\r\nRecord-Route: <sip:127.0.0.1:5082;lr>\r\n";
    let mut b = Bench::new();
    let (d, invite) = calling(&mut b);
    b.receive(response(&invite, "200 OK", "bob", routes, SDP_B));
    let expect = |b: &Bench, method: Method| {
        let (flow, message) = b.sent.last().expect("sent");
        assert_eq!((message.method(), flow.peer.port()), (Some(&method), 5082));
        assert_eq!(message.headers("Route"), ["<sip:127.0.0.1:5082;lr>", "<sip:127.0.0.1:5081;lr>"]);
    };
    expect(&b, Method::Ack);
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    expect(&b, Method::Invite);
    let ok = from_al(b.last(), "200 OK", "Record-Route: <sip:127.0.0.1:5099;lr>\r\n", SDP_B);
    b.receive(ok);
    expect(&b, Method::Ack);
    assert_eq!(b.last().request_uri_text(), Some("sip:al@127.0.0.1:5070"), "the target moved, the routes did not");
    b.run(|e, now| e.bye(now, d, &[])).expect("up");
    expect(&b, Method::Bye);
    b.assert_clean();
}

#[test]
fn a_refusal_says_why_and_where_else() {
    let mut b = Bench::new();
    let (_, invite) = calling(&mut b);
    let extra = "Contact: <sip:a@127.0.0.1>;q=0.2, \"B\" <sip:b@127.0.0.1;transport=tcp>;q=0.9, <http://x>, <sip:c@127.0.0.1>\r\n";
    let refusal = response(&invite, "302 Moved Temporarily", "bob", extra, "");
    b.receive(refusal.replace("Contact: <sip:bob@127.0.0.1:5071>\r\n", ""));
    let Some(Cause::Failed { status: 302, why }) = b.gone().pop() else { panic!("{:?}", b.gone()) };
    assert_eq!(why.contacts, ["sip:c@127.0.0.1", "sip:b@127.0.0.1;transport=tcp", "sip:a@127.0.0.1"]);
    let (_, invite) = calling(&mut b);
    b.receive(response(&invite, "486 Busy Here", "bob", "Reason: Q.850;cause=17\r\n", ""));
    let Some(Cause::Failed { why, .. }) = b.gone().pop() else { panic!("{:?}", b.gone()) };
    assert_eq!((why.phrase.as_deref(), why.reason.as_deref()), (Some("Busy Here"), Some("Q.850;cause=17")));
    assert!(why.contacts.is_empty(), "only a 3xx leads elsewhere");
    b.assert_clean();
}

#[test]
fn max_forwards_of_a_call_that_is_passed_on() {
    let mut b = Bench::new();
    let headers = vec![Header { name: "Max-Forwards".into(), value: "9".into() }];
    let invite =
        Invite { target: "sip:bob@127.0.0.1:5070".into(), from: "<sip:a@b>".into(), to: None, flow: flow_from(5070), headers, sdp: None };
    let d = b.run(|e, now| e.invite(now, invite)).expect("sent");
    assert_eq!(b.last().headers("Max-Forwards"), ["9"]);
    b.run(|e, now| e.cancel(now, d)).expect("cancel");
    b.assert_clean();
}

#[test]
fn a_dialog_that_ends_while_our_offer_is_open_leaves_nothing() {
    let mut b = Bench::new();
    let tag = answered(&mut b, "");
    let d = b.dialog();
    b.run(|e, now| e.offer(now, d, Bytes::from(SDP_A))).expect("up");
    let trying = from_al(b.last(), "100 Trying", "", "");
    b.receive(trying);
    b.receive(request("BYE", 2, "b2", &tag, "", ""));
    assert!(b.ladder().ends_with("! Gone(Bye { reason: None })"));
    b.assert_clean();
}

/// An endpoint that listens by both, and a call of it that no datagram should carry.
fn large_call(both: bool) -> (Bench, DialogId) {
    let mut b = Bench::with(|c| {
        if both {
            c.listen.push(Listen { transport: Transport::Tcp, bound: address(5060), advertise: None });
        }
    });
    let headers = vec![Header { name: "X-Large".into(), value: "x".repeat(1300) }];
    let invite = Invite {
        target: "sip:bob@127.0.0.1:5070".into(),
        from: "<sip:a@b>".into(),
        to: None,
        flow: flow_from(5070),
        headers,
        sdp: Some(Bytes::from(SDP_A)),
    };
    let d = b.run(|e, now| e.invite(now, invite)).expect("sent");
    (b, d)
}

#[test]
fn a_large_request_goes_by_tcp() {
    let (mut b, d) = large_call(true);
    let (flow, invite) = b.sent.pop().expect("INVITE");
    assert_eq!((flow.transport, flow.peer.port()), (Transport::Tcp, 5070));
    assert!(invite.header("Via").is_some_and(|v| v.starts_with("SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK")), "{:?}", invite.header("Via"));
    assert_eq!(invite.header("Contact").as_deref(), Some("<sip:127.0.0.1:5060;transport=tcp>"));
    assert_eq!((invite.headers("Via").len(), invite.headers("X-Large").len(), invite.body()), (1, 1, Bytes::from(SDP_A)));
    b.pass(2000);
    assert!(b.sent.is_empty(), "no timer A on a stream");
    // The answer comes by the connection, and so does what follows it.
    let ok = response(&invite, "200 OK", "bob", "", SDP_B).replace("127.0.0.1:5071>", "127.0.0.1:5071;transport=tcp>");
    b.endpoint.receive(b.now, flow, Bytes::from(ok));
    b.drain();
    assert_eq!(b.sent.pop().map(|(f, m)| (f.transport, m.method().cloned())), Some((Transport::Tcp, Some(Method::Ack))));
    b.run(|e, now| e.bye(now, d, &[])).expect("up");
    b.assert_clean();
}

#[test]
fn a_large_request_falls_back_to_udp_where_nobody_takes_connections() {
    let (mut b, d) = large_call(true);
    let (flow, by_stream) = b.sent.pop().expect("INVITE");
    b.run(|e, now| e.flow_failed(now, flow));
    let (flow, invite) = b.sent.pop().expect("again");
    assert_eq!((flow, invite.headers("X-Large").len()), (flow_from(5070), 1));
    assert!(invite.header("Via").is_some_and(|v| v.starts_with("SIP/2.0/UDP ")));
    assert_eq!((invite.cseq(), invite.call_id()), (by_stream.cseq(), by_stream.call_id()));
    b.receive(response(&invite, "200 OK", "bob", "", SDP_B));
    assert!(b.ladder().ends_with("! Answered"));
    b.run(|e, now| e.bye(now, d, &[])).expect("up");
    b.assert_clean();
    // A second failure is one.
    let (mut b, _) = large_call(true);
    for _ in 0..2 {
        let flow = b.sent.last().expect("INVITE").0;
        b.run(|e, now| e.flow_failed(now, flow));
    }
    assert!(matches!(b.gone().as_slice(), [Cause::Failed { status: 503, .. }]));
    b.assert_clean();
}

#[test]
fn without_tcp_a_large_request_is_a_large_datagram() {
    let (mut b, d) = large_call(false);
    assert_eq!(b.sent.last().map(|(f, _)| *f), Some(flow_from(5070)));
    b.run(|e, now| e.cancel(now, d)).expect("cancel");
    b.assert_clean();
}
