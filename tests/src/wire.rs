//! A SIP peer that says exactly what a test gives it, right or wrong: raw datagrams out, answers in.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Wire {
    pub socket: UdpSocket,
    pub node: SocketAddr,
}

/// One answer, as text and in the parts that tests look at.
#[derive(Clone, Debug)]
pub struct Answer {
    pub text: String,
    pub status: u16,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Where the far end wants RTP.
    pub fn rtp(&self) -> Option<SocketAddr> {
        let ip = self.body().lines().find_map(|line| line.strip_prefix("c=IN IP4 "))?.trim().parse().ok()?;
        let port = self.body().lines().find_map(|line| line.strip_prefix("m=audio "))?.split(' ').next()?.parse().ok()?;
        Some(SocketAddr::new(ip, port))
    }
}

/// A token that no other call of this process uses.
pub fn token(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An SDP offer of PCMU and telephone-event.
pub fn offer(rtp: SocketAddr) -> String {
    let (ip, port) = (rtp.ip(), rtp.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n"
    )
}

/// One dialog's names, for requests that belong together.
#[derive(Clone, Debug)]
pub struct Names {
    pub call_id: String,
    pub from_tag: String,
    pub to_tag: Option<String>,
}

impl Names {
    pub fn new() -> Names {
        Names { call_id: token("wire-"), from_tag: token("t"), to_tag: None }
    }
}

impl Default for Names {
    fn default() -> Names {
        Names::new()
    }
}

impl Wire {
    pub fn to(node: SocketAddr) -> Wire {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Wire { socket, node }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// A request with everything a request needs; `extra` are whole header lines.
    pub fn request(&self, method: &str, user: &str, names: &Names, cseq: u32, extra: &[&str], body: &str) -> String {
        self.request_with_branch(method, user, names, cseq, &token("z9hG4bK"), extra, body)
    }

    #[allow(clippy::too_many_arguments, reason = "a request line has that many parts, and each test varies another one")]
    pub fn request_with_branch(
        &self,
        method: &str,
        user: &str,
        names: &Names,
        cseq: u32,
        branch: &str,
        extra: &[&str],
        body: &str,
    ) -> String {
        let us = self.address();
        let to_tag = names.to_tag.as_ref().map_or_else(String::new, |tag| format!(";tag={tag}"));
        let mut text = format!(
            "{method} sip:{user}@{node} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:wire@{us}>;tag={tag}\r\nTo: <sip:{user}@{node}>{to_tag}\r\nCall-ID: {call}\r\nCSeq: {cseq} {verb}\r\nContact: <sip:wire@{us}>\r\n",
            node = self.node,
            tag = names.from_tag,
            call = names.call_id,
            verb = method,
        );
        for line in extra {
            text.push_str(line);
            text.push_str("\r\n");
        }
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        text
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.socket.send_to(bytes.as_ref(), self.node).expect("loopback takes datagrams");
    }

    /// The next answer or request from the node within the time.
    pub fn receive(&self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 65_535];
        while Instant::now() < deadline {
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer)
                && from == self.node
            {
                return Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
        None
    }

    /// The next answer that is final, of the transaction with this CSeq.
    #[track_caller]
    pub fn final_answer(&self, cseq: &str) -> Answer {
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            let Some(text) = self.receive(Duration::from_secs(1)) else { continue };
            let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
            let Some(status) = status.filter(|status| *status >= 200) else { continue };
            let answer = Answer { text, status };
            if answer.header("CSeq") == Some(cseq) {
                return answer;
            }
        }
        panic!("no final answer to {cseq} within 15 s");
    }

    /// Calls `user` and acknowledges the answer; RTP is promised at `rtp`.
    #[track_caller]
    pub fn call(&self, user: &str, rtp: SocketAddr) -> (Names, Answer) {
        let mut names = Names::new();
        self.send(self.request("INVITE", user, &names, 1, &[], &offer(rtp)));
        let answer = self.final_answer("1 INVITE");
        assert_eq!(answer.status, 200, "{}", answer.text);
        names.to_tag = answer.header("To").and_then(|to| to.split(";tag=").nth(1)).map(str::to_owned);
        self.send(self.request("ACK", user, &names, 1, &[], ""));
        (names, answer)
    }

    /// BYE, and the answer to it.
    #[track_caller]
    pub fn bye(&self, user: &str, names: &Names) {
        self.send(self.request("BYE", user, names, 2, &[], ""));
        assert_eq!(self.final_answer("2 BYE").status, 200);
    }
}
