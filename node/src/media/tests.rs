//! A media thread with real sockets on loopback: legs that are opened, bridged, recorded and closed by commands, and two parties.

use super::*;
use crate::config::PortRange;
use crate::record::verify::verify;
use crate::record::{self, Folders, RecorderThreads};
use crate::store::Store;
use hookswitch_call::{Input, RecordingStart};
use hookswitch_proto::MediaTime;
use hookswitch_proto::media::{
    Codec, Direction, FRAME, FRAME_TIME, LegConfig, MediaKind, Negotiated, RecordSpec, RecordingId, StopReason, TapDirection, g711,
};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const SESSION: SessionId = SessionId { slot: 0, generation: 1 };
const PATIENCE: Duration = Duration::from_secs(10);

/// A media thread and a recorder, driven by this test in place of the switch.
struct Node {
    media: Media,
    threads: MediaThreads,
    recorder: record::Recorder,
    recorder_threads: RecorderThreads,
    store: Store,
    inbox: crate::inbox::Inputs,
    folders: Folders,
    events: Vec<MediaEvent>,
    _folder: tempfile::TempDir,
}

/// A telephone's socket, and where its leg is.
struct Party {
    socket: UdpSocket,
    leg: SocketAddr,
    sequence: u16,
}

impl Node {
    fn new() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::create(folder.path(), &folder.path().join("blobs")).unwrap();
        let (store, _) = Store::open(&folder.path().join("db")).unwrap();
        let (inbox_in, inbox) = crate::inbox::SwitchInbox::channel();
        let metrics = Arc::new(Metrics::default());
        let clock = Clock::new();
        let (recorder, blocks, recorder_threads) =
            record::start(1, 1, folders.clone(), store.clone(), inbox_in, metrics.clone(), clock).unwrap();
        // Ports that were free a moment ago, and enough of them for those that others take meanwhile.
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
        let first = probe.clamp(1024, 65_000);
        let rtp = config::Rtp { address: "127.0.0.1".parse().unwrap(), ports: PortRange { first, last: first + 199 }, advertise: None };
        let wake = Arc::new(Wake::new().unwrap());
        let media = config::Media { threads: 1, cpus: Vec::new() };
        let (media, threads) = start(&media, &rtp, blocks, &wake, &metrics, clock, 0).unwrap();
        Node { media, threads, recorder, recorder_threads, store, inbox, folders, events: Vec::new(), _folder: folder }
    }

    fn send(&mut self, command: MediaCmd) {
        self.media.send(SESSION, command).unwrap();
        self.media.wake();
    }

    /// Waits for an event that `is` it; all before it are kept too.
    fn wait<T>(&mut self, is: impl Fn(&MediaEvent) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let mut turn = 0;
            match self.media.event(&mut turn) {
                Some(event) => {
                    let found = is(&event);
                    self.events.push(event);
                    if let Some(found) = found {
                        return found;
                    }
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        panic!("it did not come; these did: {:?}", self.events);
    }

    fn open(&mut self, leg: u64, codec: Codec) -> Party {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let remote = socket.local_addr().unwrap();
        let config = LegConfig {
            negotiated: Negotiated {
                codec,
                payload_type: codec.static_payload_type(),
                telephone_event: Some(101),
                remote,
                remote_rtcp: remote,
                rtcp_mux: false,
                direction: Direction::SendRecv,
                ptime: FRAME_TIME,
            },
            ssrc: leg as u32,
            first_sequence: 1,
            first_timestamp: MediaTime(1),
            cname: "leg@test".into(),
            rtp_timeout: None,
            learn_any_ip: false,
        };
        self.send(MediaCmd::Open { leg: LegId(leg), config: Box::new(config) });
        let leg = self.wait(|e| match &e.what {
            MediaKind::Opened { local } if e.leg == LegId(leg) => Some(*local),
            MediaKind::OpenFailed { why } => panic!("{why}"),
            _ => None,
        });
        Party { socket, leg, sequence: 0 }
    }

    fn bridge(&mut self, leg: u64, hears: Option<u64>) {
        self.send(MediaCmd::Bridge { leg: LegId(leg), hears: hears.map(LegId) });
    }

    /// Both sides of what leg `leg` says and hears.
    fn record(&mut self, leg: u64, number: u64, stereo: bool) {
        self.recorder.begin(Box::new(RecordingStart {
            connection_id: None,
            recording: RecordingId(number),
            recording_id: format!("00000000-0000-4000-8000-{number:012}"),
            session: SESSION,
            session_id: "session".into(),
            domain: "demo.localhost".into(),
            participant_id: "p".into(),
            caller: "alice".into(),
            called: "bridge".into(),
            file_name: format!("{number}.wav"),
            stereo,
            options: Default::default(),
        }));
        let spec = RecordSpec { direction: TapDirection::Both, ..RecordSpec::default() };
        self.send(MediaCmd::Record { leg: LegId(leg), recording: RecordingId(number), spec: Box::new(spec) });
    }

    fn close(&mut self, leg: u64) {
        self.send(MediaCmd::Close { leg: LegId(leg), reason: StopReason::RemoteHangup });
        self.wait(|e| (e.leg == LegId(leg) && matches!(e.what, MediaKind::Closed { .. })).then_some(()));
    }

    fn stop(self) {
        self.threads.stop();
        self.recorder_threads.stop();
    }
}

/// Bytes that are silence in neither law and tell their number.
fn payload(number: u16) -> [u8; FRAME] {
    std::array::from_fn(|i| ((number as usize * 31 + i * 7) % 120) as u8)
}

impl Party {
    fn say(&mut self, payload_type: u8, number: u16) {
        let mut p = vec![0x80, payload_type];
        p.extend(self.sequence.to_be_bytes());
        p.extend((u32::from(self.sequence) * 160).to_be_bytes());
        p.extend(77u32.to_be_bytes());
        p.extend(payload(number));
        self.sequence += 1;
        self.socket.send_to(&p, self.leg).unwrap();
    }

    /// The next RTP packet: type and payload.
    fn hear(&self) -> (u8, Vec<u8>) {
        let mut buffer = [0; 2048];
        loop {
            let (n, from) = self.socket.recv_from(&mut buffer).unwrap();
            if !(192..224).contains(&buffer[1]) {
                assert_eq!(from, self.leg);
                return (buffer[1] & 0x7f, buffer[12..n].to_vec());
            }
        }
    }

    /// The next packet that is not silence; `None`: so many were.
    fn hear_voice(&self, patience: usize) -> Option<(u8, Vec<u8>)> {
        (0..patience).map(|_| self.hear()).find(|(kind, law)| {
            let silence = if *kind == 8 { 0xd5 } else { 0xff };
            law.iter().any(|b| *b != silence)
        })
    }
}

#[test]
fn two_bridged_parties_hear_each_other_until_one_leaves() {
    let mut node = Node::new();
    let (mut a, mut b) = (node.open(1, Codec::Pcmu), node.open(2, Codec::Pcma));
    node.bridge(1, Some(2));
    node.bridge(2, Some(1));
    for n in 0..40 {
        a.say(0, n);
        b.say(8, 1000 + n);
    }
    for n in 0..40 {
        let mut want = [0; FRAME];
        g711::copy(Codec::Pcma, &mut want, Codec::Pcmu, &payload(n));
        assert_eq!(b.hear_voice(500), Some((8, want.to_vec())), "{n}");
        g711::copy(Codec::Pcmu, &mut want, Codec::Pcma, &payload(1000 + n));
        assert_eq!(a.hear_voice(500), Some((0, want.to_vec())), "{n}");
    }
    // A third leg takes the place of the second, in one direction.
    let mut c = node.open(3, Codec::Pcmu);
    node.bridge(1, Some(3));
    c.say(0, 7);
    assert_eq!(a.hear_voice(500), Some((0, payload(7).to_vec())));
    b.say(8, 9);
    assert_eq!(a.hear_voice(20), None, "the second is no longer heard");
    a.say(0, 11);
    assert!(b.hear_voice(500).is_some(), "but hears");
    // One that closes ends its bridges, whatever place its slot gets.
    node.close(3);
    let mut d = node.open(4, Codec::Pcmu);
    d.say(0, 13);
    assert_eq!(a.hear_voice(20), None);
    // Nobody there, oneself, nobody: silence.
    for hears in [Some(3), Some(1), None] {
        node.bridge(1, hears);
        a.say(0, 15);
        d.say(0, 15);
        assert_eq!(a.hear_voice(10), None, "{hears:?}");
    }
    node.bridge(1, Some(4));
    node.close(1);
    d.say(0, 17);
    assert_eq!(d.hear_voice(10), None, "a leg that nobody hears goes on");
    node.stop();
}

#[test]
fn ic_189_a_leg_listens_to_two_and_goes_on_with_the_one_that_is_left() {
    let mut node = Node::new();
    let (mut a, mut b) = (node.open(1, Codec::Pcmu), node.open(2, Codec::Pcma));
    let mut c = node.open(3, Codec::Pcmu);
    node.bridge(1, Some(2));
    node.bridge(2, Some(1));
    node.send(MediaCmd::Listen { leg: LegId(3), to: [Some(LegId(1)), Some(LegId(2))] });
    // At their pace: what is heard is a timeline.
    let say = |party: &mut Party, kind: u8, number: u16| {
        for _ in 0..10 {
            party.say(kind, number);
            std::thread::sleep(FRAME_TIME);
        }
    };
    // On a busy machine what is said once comes too late to be heard whole.
    let hears = |listener: &Party, speaker: &mut Party, (kind, number): (u8, u16), wanted: &[u8]| {
        (0..30).any(|_| {
            say(speaker, kind, number);
            (0..12).any(|_| listener.hear().1 == wanted)
        })
    };
    let mut other = [0; FRAME];
    g711::copy(Codec::Pcmu, &mut other, Codec::Pcma, &payload(9));
    assert!(hears(&c, &mut a, (0, 3), &payload(3)), "the one");
    assert!(hears(&c, &mut b, (8, 9), &other), "and the other");
    // Nobody hears it, and the two hear each other as ever.
    let mut said = [0; FRAME];
    g711::copy(Codec::Pcma, &mut said, Codec::Pcmu, &payload(3));
    assert!(hears(&b, &mut a, (0, 3), &said));
    say(&mut c, 0, 5);
    assert!(!(0..30).any(|_| a.hear().1 == payload(5)));
    node.close(1);
    assert!(hears(&c, &mut b, (8, 9), &other), "the one that is left");
    node.send(MediaCmd::Listen { leg: LegId(3), to: [None, None] });
    // What waits in its socket comes first.
    let mut quiet = 0;
    while quiet < 25 {
        quiet = if c.hear().1 == [0xff; FRAME] { quiet + 1 } else { 0 };
    }
    say(&mut b, 8, 9);
    assert!(!(0..20).any(|_| c.hear().1 == other), "nobody any more");
    node.stop();
}

#[test]
fn a_leg_is_heard_by_so_many_and_no_more() {
    let mut node = Node::new();
    let mut speaker = node.open(1, Codec::Pcmu);
    let listeners: Vec<Party> = (0..=limits::LISTENERS as u64).map(|n| node.open(2 + n, Codec::Pcmu)).collect();
    for n in 0..listeners.len() as u64 {
        node.bridge(2 + n, Some(1));
    }
    speaker.say(0, 5);
    for (n, listener) in listeners.iter().enumerate() {
        let want = (n < limits::LISTENERS).then(|| (0, payload(5).to_vec()));
        assert_eq!(listener.hear_voice(30), want, "{n}");
    }
    node.stop();
}

#[test]
fn ur_009_a_bridge_is_recorded_with_the_caller_left_and_the_called_right() {
    let mut node = Node::new();
    let (mut a, mut b) = (node.open(1, Codec::Pcmu), node.open(2, Codec::Pcmu));
    for (stereo, number) in [(true, 1), (false, 2)] {
        node.record(1, number, stereo);
    }
    node.bridge(1, Some(2));
    node.bridge(2, Some(1));
    // Packets at their pace: they are played on a timeline.
    let start = Instant::now();
    for n in 0..50u16 {
        std::thread::sleep((start + FRAME_TIME * u32::from(n)).saturating_duration_since(Instant::now()));
        a.say(0, n);
        b.say(0, 1000 + n);
    }
    for n in 0..50 {
        assert_eq!(b.hear_voice(500), Some((0, payload(n).to_vec())), "{n}");
        assert_eq!(a.hear_voice(500), Some((0, payload(1000 + n).to_vec())), "{n}");
    }
    node.close(2);
    node.close(1);
    let linear = |from: u16| -> Vec<i16> { (from..from + 50).flat_map(|n| payload(n).map(|b| g711::decode(Codec::Pcmu, b))).collect() };
    for _ in 0..2 {
        let Input::Recorded(report) = node.inbox.recv_timeout(PATIENCE).unwrap() else { panic!("no report") };
        assert!(report.outcome.is_ok(), "{report:?}");
        let row = node.store.recording(&report.recording_id).unwrap().unwrap();
        let verdict = verify(std::fs::File::open(&row.path).unwrap(), &row).unwrap();
        assert!(verdict.ok && verdict.missing == 0, "{}", verdict.line);
        assert!(row.path.starts_with(&*node.folders.blobs.to_string_lossy()));
        let samples: Vec<i16> = hound::WavReader::open(&row.path).unwrap().samples::<i16>().map(Result::unwrap).collect();
        let begins = |side: &[i16], law: &[i16]| {
            let at = side.windows(FRAME).position(|w| *w == law[..FRAME]).expect("the first frame is there");
            assert!(side[at..].len() >= law.len() && side[at..][..law.len()] == *law, "all of it, in one piece");
            at
        };
        if report.recording == RecordingId(1) {
            let (left, right): (Vec<i16>, Vec<i16>) = samples.chunks(2).map(|c| (c[0], c[1])).unzip();
            let (left, right) = (begins(&left, &linear(0)), begins(&right, &linear(1000)));
            assert!(left.abs_diff(right) <= FRAME, "{left} {right}: the sides are within 20 ms");
        } else {
            assert_eq!(samples.len() as u64 * 2 + record::wav::HEADER as u64, row.size);
            let loudest = samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert_eq!(loudest, 32_768, "two loud parties overload, and that is cut, not wrapped");
        }
    }
    node.stop();
}

#[test]
fn ur_009_what_is_sent_at_one_moment_lies_within_a_frame_whenever_it_is_read() {
    let mut node = Node::new();
    // The second party of each pair sends so many milliseconds after the first.
    let later = [0u64, 3, 6, 9, 12, 15, 18];
    let mut parties: Vec<Party> = (1..=2 * later.len() as u64).map(|leg| node.open(leg, Codec::Pcmu)).collect();
    for pair in 0..later.len() as u64 {
        let (first, second) = (2 * pair + 1, 2 * pair + 2);
        node.bridge(first, Some(second));
        node.bridge(second, Some(first));
        node.record(first, pair + 1, true);
    }
    // Frames 0 to 99 of the first parties, 100 to 199 of the second ones, and when the 60th of each left.
    let mut moments: Vec<(u64, usize, u16)> = (0..100u16)
        .flat_map(|n| (0..2 * later.len()).map(move |party| (u64::from(n) * 20 + later[party / 2] * (party as u64 % 2), party, n)))
        .collect();
    moments.sort();
    let start = Instant::now();
    let mut left = vec![start; parties.len()];
    for (ms, party, n) in moments {
        std::thread::sleep((start + Duration::from_millis(ms)).saturating_duration_since(Instant::now()));
        parties[party].say(0, n + 100 * (party as u16 % 2));
        if n == 60 {
            left[party] = Instant::now();
        }
    }
    std::thread::sleep(FRAME_TIME * 3);
    (1..=2 * later.len() as u64).rev().for_each(|leg| node.close(leg));
    for _ in 0..later.len() {
        let Input::Recorded(report) = node.inbox.recv_timeout(PATIENCE).unwrap() else { panic!("no report") };
        assert!(report.outcome.is_ok(), "{report:?}");
        let pair = report.recording.0 as usize - 1;
        let row = node.store.recording(&report.recording_id).unwrap().unwrap();
        let samples: Vec<i16> = hound::WavReader::open(&row.path).unwrap().samples::<i16>().map(Result::unwrap).collect();
        let place = |side: usize, number: u16| {
            let frame = payload(number).map(|b| g711::decode(Codec::Pcmu, b));
            let side: Vec<i16> = samples.iter().skip(side).step_by(2).copied().collect();
            side.windows(FRAME).position(|w| w == frame).expect("it is there") as i64 * 125
        };
        let apart = place(1, 160) - place(0, 60);
        let sent = left[2 * pair + 1].duration_since(left[2 * pair]).as_micros() as i64;
        println!("{} ms later: {} us too late", later[pair], apart - sent);
        assert!((apart - sent).abs() <= 20_000, "{} ms later: {apart} us apart, sent {sent}", later[pair]);
    }
    node.stop();
}
