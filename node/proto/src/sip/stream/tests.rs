//! Streams cut in every way: what is a message stays one, and what is none ends the stream.

use super::*;
use crate::random::Random;

const HEAD: &str = "OPTIONS sip:b@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\n\
    To: <sip:b@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n";

fn message(lines: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{lines}\r\n{body}").into_bytes()
}

/// Everything that comes out when the stream arrives in one piece.
fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.push(stream);
    std::iter::from_fn(|| framer.poll()).collect()
}

fn whole(bytes: Vec<u8>) -> Frame {
    Frame::Message(bytes.into())
}

#[test]
fn messages_are_cut_by_content_length() {
    let (one, two) = (message("Content-Length: 3\r\n", "abc"), message("l : 0\r\nX-A: 1\r\n 2\r\n", ""));
    let answer = b"SIP/2.0 200 OK\r\nl:1\r\n\r\n\r".to_vec();
    let stream = [one.clone(), two.clone(), answer.clone()].concat();
    assert_eq!(frames(&stream), [whole(one.clone()), whole(two), whole(answer)]);
    for end in 1..one.len() {
        let mut framer = Framer::new();
        framer.push(&one[..end]);
        assert_eq!((framer.poll(), framer.is_within()), (None, true), "{end}");
        framer.push(&one[end..]);
        assert_eq!((framer.poll(), framer.is_within()), (Some(whole(one.clone())), false), "{end}");
    }
}

#[test]
fn line_ends_between_messages_are_keep_alives() {
    let one = message("Content-Length: 0\r\n", "");
    assert_eq!(frames(b"\r\n\r\n"), [Frame::Ping]);
    assert_eq!(frames(b"\r\n\r\n\r\n\r\n\r\n"), [Frame::Ping, Frame::Ping]);
    assert_eq!(frames(b"\r\n"), [], "a pong, or half a ping");
    let stream = [b"\r\n\r\n".as_slice(), &one, b"\r\n", &one, b"\r\n\r\n"].concat();
    assert_eq!(frames(&stream), [Frame::Ping, whole(one.clone()), whole(one.clone()), Frame::Ping]);
    let mut framer = Framer::new();
    for byte in b"\r\n\r" {
        framer.push(&[*byte]);
        assert_eq!((framer.poll(), framer.is_within()), (None, false), "nobody is timed for a quiet connection");
    }
    framer.push(b"\n");
    assert_eq!(framer.poll(), Some(Frame::Ping));
}

#[test]
fn what_cannot_be_cut_ends_the_stream() {
    let check = |stream: Vec<u8>, readable: &[u8], why: Refusal| {
        let shown = String::from_utf8_lossy(&stream).into_owned();
        // Whatever follows is part of nothing.
        let following = message("Content-Length: 0\r\n", "");
        let mut framer = Framer::new();
        framer.push(&stream);
        framer.push(&following);
        let Some(Frame::Broken(bytes)) = framer.poll() else { panic!("{shown:?} was cut") };
        assert_eq!(bytes.as_ref(), readable, "{shown:?}");
        assert_eq!(read(bytes).map_err(|broken| broken.why).err(), Some(why), "{shown:?}");
        framer.push(&following);
        assert_eq!(framer.poll(), None, "{shown:?}");
    };
    let none = message("", "");
    check(none.clone(), &none, Refusal::Malformed("no Content-Length on a stream"));
    for bad in ["-1", "+3", "3 3", "0x3", "", "3,3", "1\r\n 0"] {
        let stream = message(&format!("Content-Length: {bad}\r\n"), "");
        check(stream.clone(), &stream, Refusal::Malformed("Content-Length"));
    }
    for twice in ["l: 1\r\nContent-Length: 2\r\n", "l: 1\r\nl : 1\r\n"] {
        check(message(twice, ""), &message(twice, ""), Refusal::Malformed("two Content-Lengths"));
    }
    let huge = message("l: 99999999999999999999999999\r\n", "");
    assert!(matches!(frames(&huge)[..], [Frame::Broken(_)]));
    let large = message("l: 70000\r\n", "");
    check(large.clone(), &large, Refusal::TooLarge(large.len() + 70_000));
    let padded = message(&format!("l: 0\r\nX: {}\r\n", "x".repeat(40_000)), "");
    check(padded.clone(), &padded, Refusal::TooLarge(padded.len()));
    // A line without end: what stood before it is whole.
    let endless = message(&format!("l: 0\r\nX: {}", "x".repeat(70_000)), "");
    let before = [HEAD.as_bytes(), b"l: 0\r\n"].concat();
    check(endless, &before, Refusal::TooLarge(before.len()));
    for junk in ["\u{16}\u{3}\u{1}", "\n", " OPTIONS", "\0\0", "\r\r", "\r\n\n"] {
        assert!(matches!(frames(junk.as_bytes()).last(), Some(Frame::Broken(_))), "{junk:?}");
    }
    for lines in ["GET / HTTP/1.1\r\n", "hello\r\n", "OPTIONS sip:a SIP/2.0\n"] {
        let Some(Frame::Broken(bytes)) = frames(lines.as_bytes()).pop() else { panic!("{lines:?} was cut") };
        assert!(read(bytes).is_err_and(|broken| broken.message.is_none()), "{lines:?}: nobody there reads SIP");
    }
}

#[test]
fn a_refused_message_of_a_stream_keeps_what_an_answer_needs() {
    for (lines, why) in [("", "malformed"), ("l: -1\r\n", "malformed"), ("l: 70000\r\n", "too-large")] {
        let Some(Frame::Broken(bytes)) = frames(&message(lines, "")).pop() else { panic!("{lines:?} was cut") };
        let broken = read(bytes).expect_err("refused");
        assert_eq!(broken.why.code(), why);
        assert!(broken.message.is_some_and(|m| m.has(Name::Via)), "{lines:?}");
    }
}

#[test]
fn cuts_change_nothing() {
    let mut dice = Random::new([7; 32]);
    for round in 0..300 {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + dice.u64() % 6 {
            match dice.u64() % 4 {
                0 => {
                    stream.extend_from_slice(b"\r\n\r\n");
                    expected.push(Frame::Ping);
                }
                _ => {
                    let body: String = (0..dice.u64() % 500).map(|n| char::from(b"\r\n:ab"[n as usize % 5])).collect();
                    let one = message(&format!("Content-Length: {}\r\n", body.len()), &body);
                    stream.extend_from_slice(&one);
                    expected.push(whole(one));
                }
            }
        }
        let mut framer = Framer::new();
        let mut found = Vec::new();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + (dice.u64() as usize % 40).min(rest.len() - 1));
            framer.push(piece);
            found.extend(std::iter::from_fn(|| framer.poll()));
            rest = after;
        }
        assert_eq!(found, expected, "round {round}");
        assert!(!framer.is_within(), "round {round}");
    }
}

#[test]
fn garbage_never_panics_and_cuts_nothing_that_was_not_sent() {
    let mut dice = Random::new([9; 32]);
    let pieces: [&[u8]; 9] = [b"\r\n", b"\r", b"\n", b"SIP/2.0 200 OK", b"Content-Length: 3", b"l:", b" ", b"\0", HEAD.as_bytes()];
    for _ in 0..3000 {
        let mut framer = Framer::new();
        let (mut pushed, mut cut) = (0, 0);
        for _ in 0..dice.u64() % 30 {
            let piece = match dice.u64() % 12 {
                n @ 0..9 => pieces[n as usize].to_vec(),
                _ => (0..dice.u64() % 20).map(|_| dice.u64() as u8).collect(),
            };
            pushed += piece.len();
            framer.push(&piece);
            while let Some(frame) = framer.poll() {
                match frame {
                    Frame::Message(bytes) => {
                        cut += bytes.len();
                        // Judged alike when it stands alone.
                        assert!(Scan::default().total(&bytes) == Ok(Some(bytes.len())));
                    }
                    Frame::Ping => cut += 4,
                    Frame::Broken(bytes) => {
                        cut += bytes.len();
                        assert!(read(bytes).is_err());
                    }
                }
            }
        }
        assert!(cut <= pushed);
    }
}
