//! The 49 torture messages of RFC 4475: what the reader makes of each, and what the endpoint answers, stated beside it.
//!
//! Where the RFC leaves a choice between tolerance and refusal, the row says which we took. Responses are never answered. A row
//! with a status of 405 or 481 is a request that our endpoint understands whole and does not serve.

#![expect(clippy::disallowed_methods, reason = "the messages are files; the ban on reading files is for the room itself")]

use bytes::Bytes;
use hookswitch_proto::Time;
use hookswitch_proto::sip::{
    Endpoint, EndpointConfig, EndpointOutput, Flow, Listen, Message, Method, NameAddr, Refusal, SipEvent, Transport,
};
use std::net::SocketAddr;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/rfc4475")
}

fn load(name: &str) -> Bytes {
    Bytes::from(std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// What the reader must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    Good,
    /// Malformed, or of another version.
    Bad,
}
use Read::{Bad, Good};

/// What the endpoint must do when it comes over UDP from loopback. 0: nothing is sent.
const TABLE: &[(&str, Read, u16, &str)] = &[
    // 3.1.1 Valid messages.
    ("wsinv", Good, 481, "a short tortuous INVITE: folding, compact names, white space everywhere. Its To has a tag that is not ours"),
    ("intmeth", Good, 501, "a method of every token character; escaped NUL in a display name"),
    ("esc01", Good, 100, "escapes in URIs are no delimiters"),
    ("escnull", Good, 405, "%00 in a user part"),
    ("esc02", Good, 501, "RE%47IST%45R is no REGISTER, C%6Fntact no Contact: tokens have no escapes"),
    ("lwsdisp", Good, 200, "no white space between display name and <"),
    ("longreq", Good, 100, "long values; 34 Vias, none with the magic cookie"),
    ("dblreq", Good, 405, "the rest of the datagram behind Content-Length is not a body"),
    ("semiuri", Good, 200, "`;par=u%40` belongs to the user part"),
    ("transports", Good, 200, "unknown transports in Via"),
    ("mpart01", Good, 405, "a binary multipart body"),
    ("unreason", Good, 0, "a reason phrase beyond ASCII"),
    ("noreason", Good, 0, "no reason phrase"),
    // 3.1.2 Invalid messages.
    ("badinv01", Bad, 400, "stray separators in Via and Contact"),
    ("clerr", Bad, 400, "Content-Length larger than the datagram"),
    ("ncl", Bad, 400, "negative Content-Length"),
    ("scalar02", Bad, 400, "numbers out of range in a request: CSeq, Max-Forwards"),
    ("scalarlg", Bad, 0, "CSeq out of range in a response: dropped"),
    ("quotbal", Bad, 400, "an unterminated quoted string"),
    ("ltgtruri", Bad, 400, "<> around the Request-URI"),
    ("lwsruri", Bad, 400, "white space within the Request-URI"),
    ("lwsstart", Bad, 400, "two spaces in the start line: not tolerated"),
    ("trws", Bad, 400, "white space behind the version: not tolerated"),
    ("escruri", Bad, 400, "headers in the Request-URI"),
    ("baddate", Good, 100, "a Date that is not GMT: nobody here needs the Date, RFC 4475 lets us ignore it"),
    ("regbadct", Bad, 400, "Contact without <> around a URI with headers"),
    ("badaspec", Bad, 400, "white space within <>: not tolerated"),
    ("baddn", Bad, 400, "an unquoted comma in a display name; this copy also lacks the empty line"),
    ("badvers", Bad, 505, "SIP/7.0"),
    ("mismatch01", Bad, 400, "CSeq of another method"),
    ("mismatch02", Bad, 400, "CSeq of another method, itself unknown"),
    ("bigcode", Bad, 0, "a status of ten digits: dropped"),
    // 3.2 Transaction layer.
    ("badbranch", Good, 200, "a branch that is the cookie alone: matched as RFC 2543 would"),
    // 3.3 Application layer.
    ("insuf", Bad, 400, "From, To and Call-ID missing"),
    ("unkscm", Good, 416, "unknown scheme, opaque"),
    ("novelsc", Good, 416, "unknown scheme with //"),
    ("unksm2", Good, 405, "unknown schemes in To, From and Contact of a REGISTER"),
    ("bext01", Good, 420, "unknown Require"),
    ("invut", Good, 415, "unknown body type"),
    ("regaut01", Good, 405, "unknown Authorization scheme"),
    ("multi01", Bad, 400, "headers twice that may stand once"),
    ("mcl01", Bad, 400, "two Content-Lengths"),
    ("bcast", Good, 0, "a 200 whose second Via is a broadcast address: not ours, dropped"),
    ("zeromf", Good, 200, "Max-Forwards 0 at an endpoint: processed (a proxy would say 483)"),
    ("cparam01", Good, 405, "Contact parameter outside <>"),
    ("cparam02", Good, 405, "URI parameter inside <>"),
    ("regescrt", Good, 405, "headers within <> in a Contact"),
    ("sdp01", Good, 406, "Accept that excludes SDP"),
    // 3.4 Backward compatibility.
    ("inv2543", Good, 100, "no branch, no tag, no Max-Forwards, no Content-Length, no Contact"),
];

#[test]
fn rfc4475_every_message_is_read_and_answered_as_stated() {
    let mut listed: Vec<String> = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    listed.sort();
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder of messages")
        .map(|f| f.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|f| f != "README.md")
        .collect();
    files.sort();
    assert_eq!(listed, files, "each file has its row");
    assert_eq!(listed.len(), 49);

    let local: SocketAddr = "127.0.0.1:5060".parse().expect("address");
    let flow = Flow { transport: Transport::Udp, local, peer: "127.0.0.1:5070".parse().expect("address") };
    for (name, read, status, why) in TABLE {
        let parsed = Message::parse(load(name));
        let got = if parsed.is_ok() { Good } else { Bad };
        assert_eq!(got, *read, "{name}: {why}: {:?}", parsed.err());

        let config = EndpointConfig {
            listen: vec![Listen { transport: Transport::Udp, bound: local, advertise: None }],
            ..EndpointConfig::default()
        };
        let mut endpoint = Endpoint::new(config, [1; 32]);
        endpoint.receive(Time::ZERO, flow, load(name));
        let mut answer = 0;
        let mut events = Vec::new();
        while let Some(output) = endpoint.poll() {
            match output {
                EndpointOutput::Transmit { bytes, .. } => {
                    assert_eq!(answer, 0, "{name}: one answer");
                    // What we answer to a broken message need not be whole (`insuf` has no Call-ID to copy), but it is a response.
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    answer = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"));
                }
                EndpointOutput::Event(event) => events.push(event),
            }
        }
        assert_eq!(answer, *status, "{name}: {why}");
        match (read, status) {
            (_, 100) => assert!(matches!(events.as_slice(), [SipEvent::Invite { .. }]), "{name}: {events:?}"),
            (_, 200) => assert!(events.is_empty(), "{name}: {events:?}"),
            (Bad, _) => assert!(
                matches!(events.as_slice(), [SipEvent::Refused { why: Refusal::Malformed(_) | Refusal::Version, .. }]),
                "{name}: {events:?}"
            ),
            (Good, _) => assert!(matches!(events.as_slice(), [SipEvent::Refused { .. }]), "{name}: {events:?}"),
        }
    }
}

/// What a valid message says, whole.
struct Whole {
    name: &'static str,
    /// Method and Request-URI, or status and phrase.
    start: (&'static str, &'static str),
    from: &'static str,
    to: &'static str,
    via: &'static str,
    cseq: (u32, &'static str),
    call_id: &'static str,
    contacts: &'static [&'static str],
    body: usize,
}

/// `display|user|host|header parameters`.
fn flat(n: &NameAddr) -> String {
    let parameters: Vec<String> = n.parameters.iter().map(|(n, v)| format!("{n}={}", v.as_deref().unwrap_or(""))).collect();
    format!("{}|{}|{}|{}", n.display.as_deref().unwrap_or(""), n.uri.user.as_deref().unwrap_or(""), n.uri.host, parameters.join(";"))
}

#[test]
fn rfc4475_valid_messages_are_understood_whole() {
    let long = |unit: &str, n: usize| unit.repeat(n);
    let longreq_from = format!("{}|", long("amazinglylongcallername", 5));
    let rows = [
        Whole {
            name: "wsinv",
            start: ("INVITE", "sip:vivekg@chair-dnrc.example.com;unknownparam"),
            from: "J Rosenberg \\\"|jdrosen|example.com|tag=98asjd8",
            to: "|vivekg|chair-dnrc.example.com|tag=1918181833n",
            via: "SIP  /   2.0 /UDP 192.0.2.2;branch=390skdjuw",
            cseq: (9, "INVITE"),
            call_id: "wsinv.ndaksdj@192.0.2.1",
            contacts: &["Quoted string \"\"|jdrosen|example.com|newparam=newvalue;secondparam=;q=0.33"],
            body: 150,
        },
        Whole {
            name: "intmeth",
            start: (
                "!interesting-Method0123456789_*+`.%indeed'~",
                "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
            ),
            from: "token1~` token2'+_ token3*%!.-|mundane|example.com|fromparam''~+*_!.-%=работающий;tag=_token~1'+`*%!-.",
            to: "BEL:\u{7} NUL:\0 DEL:\u{7f}|1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*|example.com|",
            via: "SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~",
            cseq: (139_122_385, "!interesting-Method0123456789_*+`.%indeed'~"),
            call_id: "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
            contacts: &[],
            body: 0,
        },
        Whole {
            name: "esc01",
            start: ("INVITE", "sip:sips%3Auser%40example.com@example.net"),
            from: "|I have spaces|example.net|tag=938",
            to: "|user|example.com|",
            via: "SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw",
            cseq: (234_234, "INVITE"),
            call_id: "esc01.239409asdfakjkn23onasd0-3234",
            contacts: &["|caller|host5.example.net|"],
            body: 150,
        },
        Whole {
            name: "escnull",
            start: ("REGISTER", "sip:example.com"),
            from: "|null-\0-null|example.com|tag=839923423",
            to: "|null-\0-null|example.com|",
            via: "SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw",
            cseq: (14_398_234, "REGISTER"),
            call_id: "escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd",
            contacts: &["|\0|host5.example.com|", "|\0\0|host5.example.com|"],
            body: 0,
        },
        Whole {
            name: "esc02",
            start: ("RE%47IST%45R", "sip:registrar.example.com"),
            from: "%Z%45|resource|example.com|tag=f232jadfj23",
            to: "%Z%45|resource|example.com|",
            via: "SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234",
            cseq: (29_344, "RE%47IST%45R"),
            call_id: "esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf",
            contacts: &["|alias1|host1.example.com|", "|alias3|host3.example.com|"],
            body: 0,
        },
        Whole {
            name: "lwsdisp",
            start: ("OPTIONS", "sip:user@example.com"),
            from: "caller|caller|example.com|tag=323",
            to: "|user|example.com|",
            via: "SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw",
            cseq: (60, "OPTIONS"),
            call_id: "lwsdisp.1234abcd@funky.example.com",
            contacts: &[],
            body: 0,
        },
        Whole {
            name: "longreq",
            start: ("INVITE", "sip:user@example.com"),
            from: "longreq",
            to: "longreq",
            via: "SIP/2.0/TCP sip33.example.com",
            cseq: (3_882_340, "INVITE"),
            call_id: "longreq.onereallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallylongcallid",
            contacts: &[
                "|amazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylongcallername|host5.example.net|",
            ],
            body: 150,
        },
        Whole {
            name: "dblreq",
            start: ("REGISTER", "sip:example.com"),
            from: "|j.user|example.com|tag=43251j3j324",
            to: "|j.user|example.com|",
            via: "SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492",
            cseq: (8, "REGISTER"),
            call_id: "dblreq.0ha0isndaksdj99sdfafnl3lk233412",
            contacts: &["|j.user|host.example.com|"],
            body: 0,
        },
        Whole {
            name: "semiuri",
            start: ("OPTIONS", "sip:user;par=u%40example.net@example.com"),
            from: "|caller|example.org|tag=33242",
            to: "|j_user|example.com|",
            via: "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw",
            cseq: (8, "OPTIONS"),
            call_id: "semiuri.0ha0isndaksdj",
            contacts: &[],
            body: 0,
        },
        Whole {
            name: "transports",
            start: ("OPTIONS", "sip:user@example.com"),
            from: "|caller|example.com|tag=323",
            to: "|user|example.com|",
            via: "SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw",
            cseq: (60, "OPTIONS"),
            call_id: "transports.kijh4akdnaqjkwendsasfdj",
            contacts: &[],
            body: 0,
        },
        Whole {
            name: "mpart01",
            start: ("MESSAGE", "sip:kumiko@example.org"),
            from: "|fluffy|example.com|tag=2fb0dcc9",
            to: "|kumiko|example.org|",
            via: "SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport",
            cseq: (1, "MESSAGE"),
            call_id: "3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..",
            contacts: &["|fluffy|127.0.0.1|"],
            body: 553,
        },
        Whole {
            name: "unreason",
            start: ("200", "= 2**3 * 5**2 но сто девяносто девять - простое"),
            from: "|user|example.com|tag=11141343",
            to: "|user|example.edu|tag=2229",
            via: "SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923",
            cseq: (35, "INVITE"),
            call_id: "unreason.1234ksdfak3j2erwedfsASdf",
            contacts: &["|user|host198.example.com|"],
            body: 154,
        },
        Whole {
            name: "noreason",
            start: ("100", ""),
            from: "|user|example.com|tag=39ansfi3",
            to: "|user|example.edu|tag=902jndnke3",
            via: "SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe",
            cseq: (35, "INVITE"),
            call_id: "noreason.asndj203insdf99223ndf",
            contacts: &["|user|host105.example.com|"],
            body: 0,
        },
    ];
    assert_eq!(rows.len(), 13);
    for row in rows {
        let name = row.name;
        let m = Message::parse(load(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        match m.status() {
            Some(status) => {
                assert_eq!((status.to_string().as_str(), m.reason_phrase().as_deref()), (row.start.0, Some(row.start.1)), "{name}")
            }
            None => assert_eq!((m.method().map(Method::as_str), m.request_uri_text()), (Some(row.start.0), Some(row.start.1)), "{name}"),
        }
        let (from, to) = (m.from().expect("From"), m.to().expect("To"));
        if name == "longreq" {
            assert!(flat(&from).starts_with(&format!("|{longreq_from}example.net|tag=12982")), "{name}: {}", flat(&from));
            assert_eq!(from.tag().map(str::len), Some(155), "{name}");
            assert_eq!(to.display.as_deref(), Some(format!("I have a user name of {} proportion", long("extreme", 10)).as_str()), "{name}");
            assert_eq!((to.uri.port, to.uri.parameters.len(), m.headers("Via").len()), (Some(6000), 3, 34), "{name}");
        } else {
            assert_eq!((flat(&from).as_str(), flat(&to).as_str()), (row.from, row.to), "{name}");
        }
        assert_eq!(m.header("v").as_deref(), Some(row.via), "{name}");
        assert_eq!((m.cseq(), m.cseq_method().as_str()), row.cseq, "{name}");
        assert_eq!((m.call_id(), m.header("i").as_deref()), (row.call_id, Some(row.call_id)), "{name}");
        let contacts: Vec<String> = m.name_addrs("Contact").iter().map(flat).collect();
        assert_eq!(contacts, row.contacts, "{name}");
        assert_eq!(m.body().len(), row.body, "{name}");
    }
    // A few things more that the RFC's text calls attention to.
    let wsinv = Message::parse(load("wsinv")).expect("wsinv");
    assert_eq!(wsinv.header("max-forwards").as_deref(), Some("0068"));
    assert_eq!(wsinv.header("Subject").as_deref(), Some(""));
    assert_eq!(wsinv.header("NewFangledHeader").as_deref(), Some("newfangled value continued newfangled value"));
    assert_eq!(wsinv.header("UnknownHeaderWithUnusualValue").as_deref(), Some(";;,,;;,;"));
    assert_eq!(wsinv.headers("Via").len(), 2);
    let esc01 = Message::parse(load("esc01")).expect("esc01").name_addrs("m").remove(0).uri;
    assert_eq!(esc01.parameters, [("lr".to_owned(), None), ("name".to_owned(), Some("value%41".to_owned()))]);
    let user = Message::parse(load("semiuri")).expect("semiuri").request_uri().and_then(|u| u.user.clone());
    assert_eq!(user.as_deref(), Some("user;par=u@example.net"));
    assert_eq!(Message::parse(load("mpart01")).expect("mpart01").content_type().as_deref(), Some("multipart/mixed"));
    assert_eq!(Message::parse(load("intmeth")).expect("intmeth").all_headers().len(), 8);
}
