//! SIP over TCP: sipp on one connection and on one for each call, and raw sockets that write and close as no phone should.

use hookswitch_sim::numbered;
use hookswitch_tests::audio::read_wav;
use hookswitch_tests::node::{Node, address, wait_for};
use hookswitch_tests::pcap::Capture;
use hookswitch_tests::peer::sipp_with;
use hookswitch_tests::wire::{Answer, Names, offer, token};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// One connection to the node, and what came on it that was not yet looked at.
struct Line {
    socket: TcpStream,
    node: SocketAddr,
    unread: Vec<u8>,
}

impl Line {
    fn to(node: SocketAddr) -> Line {
        let socket = TcpStream::connect(node).expect("the node listens");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        socket.set_nodelay(true).expect("an option");
        Line { socket, node, unread: Vec::new() }
    }

    fn us(&self) -> SocketAddr {
        self.socket.local_addr().expect("connected")
    }

    fn request(&self, method: &str, user: &str, names: &Names, cseq: u32, extra: &str, body: &str) -> String {
        let (us, node) = (self.us(), self.node);
        let to_tag = names.to_tag.as_ref().map_or_else(String::new, |tag| format!(";tag={tag}"));
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:{user}@{node} SIP/2.0\r\nVia: SIP/2.0/TCP {us};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:wire@{us}>;tag={tag}\r\nTo: <sip:{user}@{node}>{to_tag}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:wire@{us};transport=tcp>\r\n{extra}{kind}Content-Length: {length}\r\n\r\n{body}",
            branch = token("z9hG4bK"),
            tag = names.from_tag,
            call = names.call_id,
            length = body.len(),
        )
    }

    fn options(&self, cseq: u32) -> String {
        self.request("OPTIONS", "ivr", &Names::new(), cseq, "", "")
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the node reads");
    }

    /// The next message; `None` where the node closed first.
    fn message(&mut self) -> Option<Answer> {
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            if let Some(head) = text.find("\r\n\r\n").map(|at| at + 4) {
                let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
                let mut answer = Answer { text: text[..head].to_owned(), status: status.unwrap_or(0) };
                let length: usize = answer.header("Content-Length").expect("each message says its length").parse().expect("a number");
                if text.len() >= head + length {
                    answer.text = text[..head + length].to_owned();
                    self.unread.drain(..head + length);
                    return Some(answer);
                }
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk).expect("an answer in time") {
                0 => return None,
                n => self.unread.extend_from_slice(&chunk[..n]),
            }
        }
    }

    #[track_caller]
    fn final_answer(&mut self, cseq: &str) -> Answer {
        loop {
            let answer = self.message().expect("the node answers before it closes");
            if answer.status >= 200 && answer.header("CSeq") == Some(cseq) {
                return answer;
            }
        }
    }

    /// Calls, acknowledges and hangs up; the answer.
    #[track_caller]
    fn call(&mut self, extra: &str) -> Answer {
        let rtp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let mut names = Names::new();
        self.send(self.request("INVITE", "ivr", &names, 1, extra, &offer(rtp.local_addr().expect("bound"))));
        let answer = self.final_answer("1 INVITE");
        assert_eq!(answer.status, 200, "{}", answer.text);
        names.to_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).map(str::to_owned);
        self.send(self.request("ACK", "ivr", &names, 1, "", ""));
        self.send(self.request("BYE", "ivr", &names, 2, "", ""));
        assert_eq!(self.final_answer("2 BYE").status, 200);
        answer
    }

    /// The node closes within the time, and says nothing before.
    #[track_caller]
    fn closes(&mut self) {
        assert_eq!(self.message().map(|answer| answer.text), None, "more came before the end");
    }
}

/// Counted just after the peer sees the end.
fn closed(node: &Node, why: &str) -> f64 {
    node.metric("hookswitch_sip_connections_closed_total", &[why])
}

#[test]
fn sipp_calls_over_one_connection() {
    let node = Node::demo();
    let law: Vec<u8> = (0..150).flat_map(numbered::frame).collect();
    sipp_with(&node, "hangup", "voicemail", &[("speech.pcap", &Capture::new(0x5199).audio(&law))], &["-t", "t1"]).ok();
    let tally = numbered::Tally::of(&read_wav(&node.fetch(node.recording()["id"].as_str().expect("an id"))));
    assert_eq!((tally.last, tally.missing), (Some(149), 0), "{tally:?}");
}

#[test]
fn sipp_asks_over_a_connection_for_each_call() {
    let node = Node::demo();
    sipp_with(&node, "options", "ivr", &[], &["-t", "tn", "-max_socket", "100", "-m", "5"]).ok();
    assert!(node.metric("hookswitch_sip_connections_total", &["accepted"]) >= 5.0);
}

#[test]
fn a_call_stays_on_its_connection() {
    let node = Node::demo();
    let mut line = Line::to(node.sip());
    let answer = line.call("");
    let contact = answer.header("Contact").expect("a 200 has one");
    assert_eq!(contact, format!("<sip:{};transport=tcp>", node.sip()));
    assert!(answer.header("Via").is_some_and(|via| via.starts_with("SIP/2.0/TCP")), "{}", answer.text);
    // A request larger than any datagram that passes whole.
    line.call(&format!("X-Long: {}\r\n", "x".repeat(4000)));
    assert_eq!(node.metric("hookswitch_sip_connections_total", &["accepted"]), 1.0);
}

#[test]
fn pieces_and_bundles_are_the_same_messages() {
    let node = Node::demo();
    let mut line = Line::to(node.sip());
    for byte in line.options(1).into_bytes() {
        line.send([byte]);
    }
    assert_eq!(line.final_answer("1 OPTIONS").status, 200);
    let bundle: String = (2..30).map(|cseq| line.options(cseq)).collect();
    line.send(bundle);
    for cseq in 2..30 {
        assert_eq!(line.final_answer(&format!("{cseq} OPTIONS")).status, 200);
    }
}

#[test]
fn keep_alives_are_answered() {
    let node = Node::demo();
    let mut line = Line::to(node.sip());
    line.send("\r\n\r\n");
    let mut pong = [0; 2];
    line.socket.read_exact(&mut pong).expect("a pong");
    assert_eq!(&pong, b"\r\n");
    line.send(line.options(1));
    assert_eq!(line.final_answer("1 OPTIONS").status, 200);
}

#[test]
fn what_is_no_message_is_refused_and_the_connection_closed() {
    let node = Node::demo();
    let check = |bytes: &dyn Fn(&Line) -> String, status: Option<u16>| {
        let mut line = Line::to(node.sip());
        line.send(bytes(&line));
        if let Some(status) = status {
            let answer = line.message().expect("a refusal");
            assert_eq!(answer.status, status, "{}", answer.text);
        }
        line.closes();
    };
    check(&|line| line.options(1).replace("Content-Length: 0", &format!("X: {}\r\nContent-Length: 0", "x".repeat(40_000))), Some(513));
    check(&|line| line.options(1).replace("Content-Length: 0", "Content-Length: 40000"), Some(513));
    check(&|line| line.options(1).replace("Content-Length: 0", "Content-Length: -1"), Some(400));
    check(&|line| line.options(1).replace("Content-Length: 0", "Content-Length: 0\r\nl: 0"), Some(400));
    check(&|line| line.options(1).replace("Content-Length: 0\r\n", ""), Some(400));
    check(&|_| "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), None);
    check(&|_| "\u{16}\u{3}\u{1}".into(), None);
    wait_for("it is counted", || closed(&node, "unframed") == 7.0);
    assert_eq!(node.metric("hookswitch_sip_refused_total", &["too_large"]), 2.0);
}

#[test]
fn a_slow_peer_holds_up_nobody_and_is_closed() {
    let node = Node::demo();
    let mut slow = Line::to(node.sip());
    slow.socket.set_read_timeout(Some(Duration::from_secs(45))).expect("a timeout");
    slow.send("OPTIONS sip:ivr@127.0.0.1 SIP/2.0\r\n");
    let started = Instant::now();
    let mut line = Line::to(node.sip());
    line.call("");
    assert!(started.elapsed() < Duration::from_secs(10), "a call beside it took {:?}", started.elapsed());
    slow.closes();
    assert!(started.elapsed() > Duration::from_secs(25), "closed after {:?}", started.elapsed());
    wait_for("it is counted", || closed(&node, "incomplete") == 1.0);
}

#[test]
fn a_half_closed_connection_still_hears_the_answer() {
    let node = Node::demo();
    let mut line = Line::to(node.sip());
    line.send(line.options(1));
    line.socket.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(line.final_answer("1 OPTIONS").status, 200);
    line.socket.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    line.closes();
    wait_for("no connection left", || node.metric("hookswitch_sip_connections", &[]) == 0.0);
}

#[test]
fn twenty_connections_at_once() {
    let node = Node::demo();
    let mut lines: Vec<Line> = (0..20).map(|_| Line::to(node.sip())).collect();
    for (n, line) in (1..).zip(&mut lines) {
        line.send(line.options(n));
    }
    for (n, line) in (1..).zip(&mut lines) {
        assert_eq!(line.final_answer(&format!("{n} OPTIONS")).status, 200);
    }
    wait_for("all of them", || node.metric("hookswitch_sip_connections", &[]) == 20.0);
    drop(lines);
    wait_for("no connection left", || node.metric("hookswitch_sip_connections", &[]) == 0.0);
}

#[test]
fn several_listeners_and_both_families_are_served() {
    let (first, second) = (address(), address());
    // The kernel says which port of ::1 is free; another test can hardly take it in between.
    let v6 = std::net::TcpListener::bind("[::1]:0").and_then(|socket| socket.local_addr());
    let mut listen = format!("udp://{first}:5060,tcp://{first}:5060,tcp://{second}:5070");
    if let Ok(v6) = v6 {
        listen.push_str(&format!(",tcp://{v6}"));
    }
    let node = Node::with(true, &[("HOOKSWITCH_SIP_LISTEN", &listen)]);
    let mut served: Vec<SocketAddr> = vec![(first, 5060).into(), (second, 5070).into()];
    served.extend(v6.ok());
    for listener in served {
        let mut line = Line::to(listener);
        line.send(line.options(1));
        let answer = line.final_answer("1 OPTIONS");
        assert_eq!(answer.header("Contact"), Some(format!("<sip:{listener};transport=tcp>").as_str()));
    }
    node.wait_log(&["SIP on tcp://", ":5070"]);
}

#[test]
fn connections_say_the_advertised_name() {
    let node = Node::with(true, &[("HOOKSWITCH_SIP_ADVERTISE", "sip.example.com:5099")]);
    let answer = Line::to(node.sip()).call("");
    assert_eq!(answer.header("Contact"), Some("<sip:sip.example.com:5099;transport=tcp>"));
}
