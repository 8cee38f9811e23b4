//! Two phones in a small world of virtual time: what each says, hears and tells.

use super::*;
use crate::numbered::{self, Tally};
use hookswitch_proto::media::tone;

const ALICE: &str = "127.0.0.1:5070";
const ALICE_RTP: &str = "127.0.0.1:40000";
const BOB: &str = "127.0.0.2:5080";
const BOB_RTP: &str = "127.0.0.2:42000";
/// Each datagram is under way so long.
const DELAY: Duration = Duration::from_millis(5);

fn config(sip: &str, rtp: &str) -> PhoneConfig {
    PhoneConfig {
        sip: sip.parse().expect("an address"),
        rtp: rtp.parse().expect("an address"),
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        agent: "test".into(),
    }
}

fn caller(script: Script) -> Phone {
    let call = Call {
        target: "sip:bob@127.0.0.2:5080".into(),
        from: "<sip:alice@127.0.0.1>".into(),
        peer: BOB.parse().expect("an address"),
        headers: Vec::new(),
        give_up_after: Duration::from_secs(20),
    };
    Phone::new(Time::ZERO, config(ALICE, ALICE_RTP), Role::Caller(call), script, [1; 32]).expect("a good call")
}

fn callee(callee: Callee, script: Script) -> Phone {
    Phone::new(Time::ZERO, config(BOB, BOB_RTP), Role::Callee(callee), script, [2; 32]).expect("a good callee")
}

/// A datagram under way.
struct Letter {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

/// What the two did, Alice first.
struct Talk {
    /// Timelines without times.
    lines: [Vec<String>; 2],
    reports: [Option<Report>; 2],
    heard: [Vec<i16>; 2],
}

/// Lets the two talk until nothing is left to do.
fn talk(mut alice: Phone, mut bob: Phone) -> Talk {
    let mut now = Time::ZERO;
    let mut mail: VecDeque<(Time, Letter)> = VecDeque::new();
    let mut lines: [Vec<String>; 2] = Default::default();
    let mut reports = [None, None];
    for _ in 0..100_000 {
        for (n, phone) in [&mut alice, &mut bob].into_iter().enumerate() {
            while let Some(output) = phone.poll() {
                let (sip, rtp) = (phone.config.sip, phone.config.rtp);
                match output {
                    PhoneOutput::Sip { to, bytes } => mail.push_back((now + DELAY, Letter { from: sip, to, bytes })),
                    PhoneOutput::Rtp { to, rtcp, packet } => {
                        let from = SocketAddr::new(rtp.ip(), rtp.port() + u16::from(rtcp));
                        mail.push_back((now + DELAY, Letter { from, to, bytes: packet }));
                    }
                    PhoneOutput::Timeline(entry) => lines[n].push(entry.what.to_string()),
                    PhoneOutput::Done(report) => reports[n] = Some(*report),
                }
            }
        }
        let arrival = mail.front().map(|(at, _)| *at);
        let Some(next) = [arrival, alice.next_timeout(), bob.next_timeout()].into_iter().flatten().min() else { break };
        now = now.max(next);
        while mail.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, letter)) = mail.pop_front() else { break };
            for phone in [&mut alice, &mut bob] {
                let rtcp = SocketAddr::new(phone.config.rtp.ip(), phone.config.rtp.port() + 1);
                if letter.to == phone.config.sip {
                    phone.receive_sip(now, letter.from, letter.bytes.clone());
                } else if letter.to == phone.config.rtp || letter.to == rtcp {
                    phone.receive_rtp(now, letter.from, letter.to == rtcp, &letter.bytes);
                }
            }
        }
        alice.handle_timeout(now);
        bob.handle_timeout(now);
    }
    Talk { lines, reports, heard: [alice.heard().to_vec(), bob.heard().to_vec()] }
}

fn endings(reports: &[Option<Report>; 2]) -> [Option<Ending>; 2] {
    [0, 1].map(|n| reports[n].as_ref().map(|report| report.ending.clone()))
}

#[test]
fn a_refused_call_ends_with_its_status() {
    let reject = Callee::Reject { ring: Duration::from_secs(1), status: 603 };
    let Talk { lines, reports, .. } = talk(caller(Script::default()), callee(reject, Script::default()));
    assert_eq!(endings(&reports), [Some(Ending::Failed { status: 603 }), Some(Ending::NotTaken)]);
    assert_eq!(lines[0], ["-> INVITE sip:bob@127.0.0.2:5080", "<- 180 Ringing"]);
    assert_eq!(lines[1], ["<- INVITE from alice@127.0.0.1", "-> 603"]);
}

#[test]
fn nobody_answers_and_the_caller_gives_up() {
    let Talk { lines, reports, .. } = talk(caller(Script::default()), callee(Callee::Ring, Script::default()));
    assert_eq!(endings(&reports), [Some(Ending::Failed { status: 487 }), Some(Ending::NotTaken)]);
    assert_eq!(lines[0].last().map(String::as_str), Some("-> CANCEL"));
}

#[test]
fn two_phones_talk_and_hear_every_frame() {
    let clip = tone::clip_from_pcm(&numbered::pcm(100), 8000);
    let alice = Script {
        play: Some(clip.clone()),
        acts: vec![(Duration::from_millis(2500), Act::Digit('5')), (Duration::from_millis(3000), Act::Digit('#'))],
        record: true,
        end_after: Some(Duration::from_secs(4)),
        ..Script::default()
    };
    let bob = Script { play: Some(clip), play_again: true, record: true, ..Script::default() };
    let answer = Callee::Answer { ring: Duration::from_millis(300) };
    let Talk { lines, reports, heard } = talk(caller(alice), callee(answer, bob));
    assert_eq!(endings(&reports), [Some(Ending::Released { by_us: true }), Some(Ending::Released { by_us: false })]);
    for digit in ["5", "#"] {
        assert!(lines[0].contains(&format!("-> digit {digit}")) && lines[1].contains(&format!("<- digit {digit}")), "{lines:?}");
    }
    let tally = Tally::of(&heard[1]);
    assert!(tally.whole() && (tally.first, tally.last) == (Some(0), Some(99)), "{tally:?}");
    // Bob begins again without a gap: 0 follows on 99, with nothing between.
    let tally = Tally::of(&heard[0]);
    assert!(tally.missing == 0 && tally.foreign == 0 && tally.numbered > 180, "{tally:?}");
    let talked = reports[0].as_ref().map(|report| report.talked);
    assert!(talked.is_some_and(|t| t >= Duration::from_secs(4) && t < Duration::from_millis(4100)), "{talked:?}");
    let lost: Vec<_> = reports.iter().flatten().filter_map(|report| report.media).map(|m| (m.lost, m.late)).collect();
    assert_eq!(lost, [(0, 0), (0, 0)]);
}
