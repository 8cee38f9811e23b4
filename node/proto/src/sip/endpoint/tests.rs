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
                    let message = Message::parse(bytes.clone()).unwrap_or_else(|e| panic!("we sent {e}: {:?}", String::from_utf8_lossy(&bytes)));
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
