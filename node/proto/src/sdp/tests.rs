//! Offer and answer as tables: what is read, what is agreed on, what is said.

use super::*;
use std::time::Duration;

const US: &str = "192.0.2.1:20000";

fn local() -> Local {
    Local::new(8, vec![Codec::Pcmu, Codec::Pcma])
}

fn sdp(lines: &str) -> Vec<u8> {
    format!("v=0\no=- 1 1 IN IP4 10.0.0.9\ns=-\nt=0 0\n{lines}").replace('\n', "\r\n").into_bytes()
}

fn choose(body: &[u8]) -> Result<Negotiated, SdpError> {
    Remote::parse(body).and_then(|r| local().choose(&r, Direction::SendRecv))
}

/// The answer's lines after the connection line.
fn answer(body: &[u8]) -> Vec<String> {
    let offer = Remote::parse(body).expect("readable");
    let mut local = local();
    let agreed = local.choose(&offer, Direction::SendRecv).expect("usable");
    let text = String::from_utf8(local.answer(&offer, &agreed, US.parse().unwrap()).to_vec()).unwrap();
    text.split("\r\n").skip(5).filter(|l| !l.is_empty()).map(String::from).collect()
}

#[test]
fn ic_210_the_first_codec_of_the_offer_that_we_have() {
    let c = "c=IN IP4 10.0.0.9\n";
    // (what is offered, codec, payload type, telephone-event)
    let table: &[(&str, Codec, u8, Option<u8>)] = &[
        ("m=audio 4000 RTP/AVP 0", Codec::Pcmu, 0, None),
        ("m=audio 4000 RTP/AVP 8 0", Codec::Pcma, 8, None),
        ("m=audio 4000 RTP/AVP 18 9 8 0 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16", Codec::Pcma, 8, Some(101)),
        ("m=audio 4000 RTP/AVP 96 97\na=rtpmap:97 Telephone-Event/8000\na=rtpmap:96 pcma/8000/1", Codec::Pcma, 96, Some(97)),
        (
            "m=audio 4000 RTP/AVP 111 110 0 126\na=rtpmap:111 opus/48000/2\na=rtpmap:110 telephone-event/48000\na=rtpmap:126 telephone-event/8000",
            Codec::Pcmu,
            0,
            Some(126),
        ),
        // A remapped static number is what the rtpmap says.
        ("m=audio 4000 RTP/AVP 0 8\na=rtpmap:0 G726-32/8000", Codec::Pcma, 8, None),
        ("m=audio 4000/2 RTP/AVPF 0", Codec::Pcmu, 0, None),
    ];
    for (offer, codec, payload_type, events) in table {
        let got = choose(&sdp(&format!("{c}{offer}\n"))).unwrap_or_else(|e| panic!("{offer}: {e}"));
        assert_eq!((got.codec, got.payload_type, got.telephone_event), (*codec, *payload_type, *events), "{offer}");
    }
}

#[test]
fn ic_283_what_is_refused_and_why() {
    let c = "c=IN IP4 10.0.0.9\n";
    let table: &[(&str, SdpError)] = &[
        ("m=audio 4000 RTP/AVP 18", SdpError::NoCodec),
        ("m=audio 4000 RTP/AVP 96\na=rtpmap:96 PCMU/16000", SdpError::NoCodec),
        ("m=image 4000 udptl t38", SdpError::NoAudio("there is no audio stream")),
        ("m=audio 0 RTP/AVP 0", SdpError::NoAudio("the audio stream is refused (port 0)")),
        ("m=audio 4000 RTP/SAVP 0", SdpError::NoAudio("only RTP/AVP and RTP/AVPF are supported")),
        ("m=audio 4000 UDP/TLS/RTP/SAVPF 0", SdpError::NoAudio("only RTP/AVP and RTP/AVPF are supported")),
        ("m=audio 4000 RTP/AVP 0\nc=IN IP4 224.2.1.1", SdpError::NoAudio("the connection address is not that of one host")),
        ("m=audio 4000 RTP/AVP 0\nc=IN IP4 255.255.255.255", SdpError::NoAudio("the connection address is not that of one host")),
        ("m=audio 4000 RTP/AVP 0\nc=IN IP4 media.example.com", SdpError::NoAudio("the connection address is a name, not an IP address")),
        ("", SdpError::NoAudio("there is no audio stream")),
    ];
    for (offer, want) in table {
        assert_eq!(choose(&sdp(&format!("{c}{offer}\n"))), Err(want.clone()), "{offer}");
    }
    assert_eq!(choose(&sdp("m=audio 4000 RTP/AVP 0\n")), Err(SdpError::NoAudio("there is no connection address")));
    let many = "m=audio 4000 RTP/AVP 0\n".repeat(17);
    assert_eq!(choose(&sdp(&format!("{c}{many}"))), Err(SdpError::NoAudio("too many media sections")));
    for garbage in [&b""[..], b"hello", b"v=1\r\n", b"m=audio 1 RTP/AVP 0\r\n", b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n", &[b'v'; 20_000]] {
        assert!(matches!(Remote::parse(garbage), Err(SdpError::Malformed(_))), "{garbage:?}");
    }
}

#[test]
fn odd_but_valid_bodies_are_read() {
    let table: &[&[u8]] = &[
        b"v=0\no=- 1 1 IN IP4 1.2.3.4\ns=x\nc=IN IP4 1.2.3.4\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
        b"v=0\r\no=- 1\r\ns=Gr\xfc\xdfe\r\nc=IN IP4 1.2.3.4\r\nt=now\r\nm=audio 4000 RTP/AVP 0\r\n",
        b"v=0\r\no=- 99999999999999999999999 1 IN IP4 x\r\no=- 2 2 IN IP4 x\r\nb=AS\r\nc=IN IP4 1.2.3.4\r\nc=IN IP4 9.9.9.9\r\nm=audio 4000 RTP/AVP 0\r\n",
        b"v=0\r\nc=IN IP4 1.2.3.4/127\r\nnonsense\r\nx=1\r\nm=audio 4000 RTP/AVP 0\r\na=weird\x00\r\n",
    ];
    for body in table {
        let got = choose(body).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(body)));
        assert_eq!(got.remote, "1.2.3.4:4000".parse().unwrap());
    }
}

#[test]
fn directions_and_holds() {
    use Direction::*;
    // (session level, media level, connection, wanted by us, ours)
    let table = [
        ("", "", "10.0.0.9", SendRecv, SendRecv),
        ("", "a=sendonly", "10.0.0.9", SendRecv, RecvOnly),
        ("", "a=recvonly", "10.0.0.9", SendRecv, SendOnly),
        ("", "a=inactive", "10.0.0.9", SendRecv, Inactive),
        ("a=sendonly", "", "10.0.0.9", SendRecv, RecvOnly),
        ("a=sendonly", "a=sendrecv", "10.0.0.9", SendRecv, SendRecv),
        ("", "", "0.0.0.0", SendRecv, RecvOnly),
        ("", "a=recvonly", "0.0.0.0", SendRecv, Inactive),
        ("", "", "10.0.0.9", SendOnly, SendOnly),
        ("", "a=sendonly", "10.0.0.9", SendOnly, Inactive),
        ("", "a=recvonly", "10.0.0.9", RecvOnly, Inactive),
    ];
    for (session, media, ip, want, ours) in table {
        let body = sdp(&format!("c=IN IP4 {ip}\n{session}\nm=audio 4000 RTP/AVP 0\n{media}\n"));
        let offer = Remote::parse(&body).unwrap();
        let got = local().choose(&offer, want).unwrap();
        assert_eq!(got.direction, ours, "{session} {media} {ip} {want:?}");
        assert_eq!(
            offer.is_hold(),
            ip == "0.0.0.0" || matches!(media, "a=sendonly" | "a=inactive") || session == "a=sendonly" && media.is_empty()
        );
        let text = String::from_utf8(local().answer(&offer, &got, US.parse().unwrap()).to_vec()).unwrap();
        assert!(text.contains(&format!("\r\na={}\r\n", direction_name(ours))), "{text}");
    }
}

#[test]
fn packet_time_is_bounded() {
    let table = [
        ("", 20),
        ("a=ptime:30", 30),
        ("a=ptime:10", 10),
        ("a=ptime:60\na=maxptime:40", 40),
        ("a=maxptime:15", 10),
        ("a=ptime:25", 20),
        ("a=ptime:0", 20),
        ("a=ptime:99999999999999999999", 20),
        ("a=ptime:4294967295\na=maxptime:18446744073709551615", 20),
        ("a=ptime:-20\na=maxptime:0", 10),
    ];
    for (lines, ms) in table {
        let got = choose(&sdp(&format!("c=IN IP4 10.0.0.9\nm=audio 4000 RTP/AVP 0\n{lines}\n"))).unwrap();
        assert_eq!(got.ptime, Duration::from_millis(ms), "{lines}");
    }
}

#[test]
fn rtcp_addresses() {
    let table = [
        ("m=audio 4000 RTP/AVP 0", "10.0.0.9:4001", false),
        ("m=audio 65535 RTP/AVP 0", "10.0.0.9:65535", false),
        ("m=audio 4000 RTP/AVP 0\na=rtcp:5000", "10.0.0.9:5000", false),
        ("m=audio 4000 RTP/AVP 0\na=rtcp:5000 IN IP4 10.0.0.7", "10.0.0.7:5000", false),
        ("m=audio 4000 RTP/AVP 0\na=rtcp-mux\na=rtcp:5000", "10.0.0.9:4000", true),
        ("m=audio 4000 RTP/AVP 0\nc=IN IP6 2001:db8::7", "[2001:db8::7]:4001", false),
    ];
    for (lines, rtcp, mux) in table {
        let got = choose(&sdp(&format!("c=IN IP4 10.0.0.9\n{lines}\n"))).unwrap();
        assert_eq!((got.remote_rtcp.to_string().as_str(), got.rtcp_mux), (rtcp, mux), "{lines}");
    }
}

#[test]
fn answers_keep_the_order_and_refuse_the_rest() {
    let offer = sdp(
        "c=IN IP4 10.0.0.9\nm=video 5000 RTP/AVP 96 97\na=rtpmap:96 H264/90000\nm=audio 4000 RTP/AVPF 18 8 0 99\na=rtpmap:99 telephone-event/8000\n\
         a=fmtp:99 0-16\na=rtcp-mux\nm=audio 4010 RTP/AVP 0\nm=image 6000 udptl t38\n",
    );
    assert_eq!(
        answer(&offer),
        [
            "m=video 0 RTP/AVP 96 97",
            "m=audio 20000 RTP/AVPF 8 99",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:99 telephone-event/8000",
            "a=fmtp:99 0-15",
            "a=ptime:20",
            "a=sendrecv",
            "a=rtcp-mux",
            "m=audio 0 RTP/AVP 0",
            "m=image 0 udptl t38",
        ]
    );
}

#[test]
fn the_first_audio_section_that_can_be_used_is_used() {
    let offer = sdp("c=IN IP4 10.0.0.9\nm=audio 4000 RTP/SAVP 0\nm=audio 4002 RTP/AVP 18\nm=audio 4004 RTP/AVP 0\n");
    assert_eq!(choose(&offer).unwrap().remote.port(), 4004);
    assert_eq!(answer(&offer)[..3], ["m=audio 0 RTP/SAVP 0", "m=audio 0 RTP/AVP 18", "m=audio 20000 RTP/AVP 0"]);
}

#[test]
fn the_version_grows_only_with_a_change() {
    let mut local = local();
    let us: SocketAddr = US.parse().unwrap();
    let origin = |body: &Bytes| String::from_utf8_lossy(body).lines().nth(1).unwrap().to_string();
    let first = local.offer(us, Direction::SendRecv);
    assert_eq!(origin(&first), "o=- 4 1 IN IP4 192.0.2.1");
    assert_eq!(local.offer(us, Direction::SendRecv), first);
    assert_eq!(origin(&local.offer(us, Direction::SendOnly)), "o=- 4 2 IN IP4 192.0.2.1");
    let six: SocketAddr = "[2001:db8::1]:4000".parse().unwrap();
    let body = String::from_utf8(local.offer(six, Direction::SendOnly).to_vec()).unwrap();
    assert!(body.contains("o=- 4 3 IN IP4 192.0.2.1\r\n") && body.contains("c=IN IP6 2001:db8::1\r\n"), "{body}");
}

#[test]
fn a_later_offer_of_ours_keeps_the_sections() {
    let offer = Remote::parse(&sdp("c=IN IP4 10.0.0.9\nm=video 5000 RTP/AVP 96\nm=audio 4000 RTP/AVP 0\n")).unwrap();
    let mut local = local();
    let agreed = local.choose(&offer, Direction::SendRecv).unwrap();
    let us = US.parse().unwrap();
    local.answer(&offer, &agreed, us);
    let body = String::from_utf8(local.offer(us, Direction::Inactive).to_vec()).unwrap();
    let sections: Vec<_> = body.lines().filter(|l| l.starts_with("m=")).collect();
    assert_eq!(sections, ["m=video 0 RTP/AVP 96", "m=audio 20000 RTP/AVP 0 8 101"]);
}

#[test]
fn our_offer_and_our_answer_understand_each_other() {
    let (mut caller, mut callee) = (local(), Local::new(77, vec![Codec::Pcma]));
    let us = US.parse().unwrap();
    let offer = Remote::parse(&caller.offer(us, Direction::SendRecv)).unwrap();
    let theirs = callee.choose(&offer, Direction::RecvOnly).unwrap();
    assert_eq!((theirs.codec, theirs.telephone_event, theirs.direction), (Codec::Pcma, Some(TELEPHONE_EVENT), Direction::RecvOnly));
    let answer = Remote::parse(&callee.answer(&offer, &theirs, "192.0.2.2:3000".parse().unwrap())).unwrap();
    let ours = caller.accept(&answer, Direction::SendRecv).unwrap();
    assert_eq!((ours.codec, ours.payload_type, ours.direction), (Codec::Pcma, 8, Direction::SendOnly));
    assert_eq!(ours.remote, "192.0.2.2:3000".parse().unwrap());
    assert_eq!(ours.telephone_event, Some(TELEPHONE_EVENT));
    let refused = Remote::parse(b"v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n").unwrap();
    assert!(matches!(caller.accept(&refused, Direction::SendRecv), Err(SdpError::NoAudio(_))));
}

#[test]
fn unchanged_and_moved_descriptions_are_told_apart() {
    let one = Remote::parse(&sdp("c=IN IP4 10.0.0.9\nm=audio 4000 RTP/AVP 0\n")).unwrap();
    let two = Remote::parse(&sdp("c=IN IP4 10.0.0.8\nm=audio 4000 RTP/AVP 0\n")).unwrap();
    assert!(one.same_version(&two));
    assert_ne!(one.address(), two.address());
}

#[test]
fn mutated_bodies_never_panic() {
    let seed = sdp(
        "c=IN IP4 10.0.0.9\na=sendonly\nm=audio 4000/2 RTP/AVP 0 8 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=maxptime:150\n\
         a=rtcp:53020 IN IP6 2001:db8::1\na=rtcp-mux\nm=image 1 udptl t38\na=T38FaxVersion:0\n",
    );
    let mut random = crate::Random::new([7; 32]);
    for _ in 0..20_000 {
        let mut body = seed.clone();
        for _ in 0..1 + random.u32() % 6 {
            let at = random.u32() as usize % body.len();
            match random.u32() % 4 {
                0 => body[at] = random.u32().to_le_bytes()[0],
                1 => drop(body.remove(at)),
                2 => body.insert(at, b"0=:/ \r\n9a"[random.u32() as usize % 9]),
                _ => {
                    let end = body.len().min(at + random.u32() as usize % 30);
                    let copy = body[at..end].to_vec();
                    body.splice(at..at, copy);
                }
            }
        }
        if let Ok(remote) = Remote::parse(&body) {
            let mut local = local();
            if let Ok(agreed) = local.choose(&remote, Direction::SendRecv) {
                assert!(agreed.ptime >= Duration::from_millis(10) && agreed.ptime <= Duration::from_millis(60));
                let answer = local.answer(&remote, &agreed, US.parse().unwrap());
                assert!(Remote::parse(&answer).is_ok(), "{}", String::from_utf8_lossy(&answer));
            }
        }
    }
}
