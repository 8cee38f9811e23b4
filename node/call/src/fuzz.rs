//! Operation fuzzer: many calls at once, callers, callees, handlers, media threads and operators that do legal and illegal things in
//! random order. Whatever they do, nothing panics, each command has one reply, each session one end, and after all calls ended nothing
//! is left. A failing run names its seed.
//!
//! `HOOKSWITCH_SEEDS=100000` runs more of them, `HOOKSWITCH_SEEDS=4711..4712` one alone.

use crate::contract::Script;
use crate::contract::callee::Plan;
use crate::contract::world::{self, World, configuration, offer, switch_config};
use crate::door::{
    AskId, Command, CommandId, Counter, Done, Fallback, HoldAudio, Input, Mute, PlaceIvrCall, PlaceRemoteCall, SessionId, Tenant,
    TransferTarget, WhichRecording,
};
use crate::hook::*;
use crate::recording::{Channels, Dialect, Mode, PauseBehavior, Phase, QueuePolicy, RecordingOptions, Target};
use crate::remote_calls;
use hookswitch_proto::Random;
use hookswitch_proto::media::{BargeIn, DIGITS, DigitSource, Ended, LegId, MediaKind, PlayId, RecordingId, StopReason};
use hookswitch_proto::sdp::{Crypto, Device, Format};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// About three seconds of them.
const SEEDS: u64 = 2000;

/// Users whose phones the node may call, and some who do not exist.
const USERS: [&str; 6] = ["bob", "carol", "dave", "erin", "nobody", ""];

fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("HOOKSWITCH_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("HOOKSWITCH_SEEDS={wanted}: a number, or FROM..UNTIL"));
    match wanted.split_once("..") {
        Some((from, until)) => number(from)..number(until),
        None => 0..number(&wanted),
    }
}

/// Ids that were seen anywhere, so that commands and joins can mean somebody.
#[derive(Default)]
struct Ids {
    participants: Vec<String>,
    /// The handler only drops from now on.
    ending: bool,
}

type Shared = Rc<RefCell<Ids>>;

/// Not `Random` itself: helpers on it.
struct Dice(Random);

impl Dice {
    fn new(seed: u64) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Dice(Random::new(bytes))
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0.u64() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }
    fn millis(&mut self, n: u64) -> Duration {
        Duration::from_millis(self.below(n))
    }
    fn digit(&mut self) -> char {
        self.pick(&DIGITS)
    }
}

fn reference(dice: &mut Dice) -> Option<String> {
    match dice.below(4) {
        0 => Some("{\"n\":1}".into()),
        1 if dice.one_in(10) => Some("x".repeat(5000)),
        _ => None,
    }
}

fn failure(dice: &mut Dice) -> HookFailure {
    let text = "a\nb".to_owned();
    dice.pick(&[
        HookFailure::Trap { message: text.clone() },
        HookFailure::Deadline,
        HookFailure::Cpu,
        HookFailure::Limit { name: "memory" },
        HookFailure::Refused { message: text.clone() },
        HookFailure::Nonsense { field: text.clone(), why: text.clone() },
        HookFailure::Unavailable { why: text },
        HookFailure::Empty,
    ])
}

fn outbound(dice: &mut Dice) -> OutboundCall {
    let user = dice.pick(&USERS);
    let host = dice.pick(&["127.0.0.1:5080", "127.0.0.1:5080", "127.0.0.1:5080", "127.0.0.2", "named.test", "unknown.test", "192.0.2.66"]);
    let dest_addr = dice.pick(&[format!("sip:{user}@{host}"), format!("sip:{user}@{host};transport=tcp"), "bob".to_owned(), String::new()]);
    OutboundCall {
        // Mostly one that works.
        dest_addr: if !dice.one_in(4) { format!("sip:{}@127.0.0.1:5080", dice.pick(&USERS[..4])) } else { dest_addr },
        max_ring_time: dice.one_in(3).then(|| dice.millis(400_000)),
        call_recording: dice.one_in(3),
        recording_file_name: dice.one_in(4).then(|| dice.pick(&["t.wav", "t", "a/b.wav"]).to_owned()),
        greeting: dice.one_in(4).then(|| Greeting {
            order: dice.pick(&[PlayMode::Both, PlayMode::CallerFirst, PlayMode::CalleeFirst]),
            caller: (0..dice.below(3)).map(|_| phrase(dice)).collect(),
            callee: (0..dice.below(3)).map(|_| phrase(dice)).collect(),
        }),
        ringback_tone: dice.one_in(2).then(|| dice.pick(&["default", "none", "early", "menu.wav", "missing.wav", "../x"]).to_owned()),
        sip_from: dice.one_in(6).then(|| dice.pick(&["+4670", "a\r\nX: y", ""]).to_owned()),
        display_name: dice.one_in(8).then(|| "A \"B\"".to_owned()),
        caller_privacy: dice.one_in(8),
        participant_id: dice.one_in(6).then(|| "preset".to_owned()),
        monitor: dice.one_in(4).then(|| {
            let dest_addr =
                dice.pick(&["sip:carol@127.0.0.1:5080", "sip:dave@127.0.0.1:5080", "sip:erin@named.test", "sip:x@192.0.2.66", "x"]);
            Box::new(OutboundCall { dest_addr: dest_addr.to_owned(), ..OutboundCall::default() })
        }),
        session_reference: reference(dice),
        ..OutboundCall::default()
    }
}

/// Mostly one that may be.
fn device(dice: &mut Dice) -> Device {
    let address =
        dice.pick(&["127.0.0.1:30000", "127.0.0.1:30000", "127.0.0.1:30000", "127.0.0.1:80", "0.0.0.0:30000", "192.0.2.66:30000"]);
    Device {
        address: address.parse().unwrap(),
        format: dice.pick(&[Format::Pcma, Format::Pcma, Format::Pcmu, Format::Gsm]),
        telephone_event: dice.pick(&[None, Some(101), Some(8)]),
        crypto: if dice.one_in(8) { vec![Crypto::new(1, "AES_CM_128_HMAC_SHA1_80", "inline:x").unwrap()] } else { Vec::new() },
    }
}

fn routing(dice: &mut Dice, ids: &Shared) -> Routing {
    let session_reference = reference(dice);
    if ids.borrow().ending {
        return Routing::Drop { drop_code: None, session_reference: None };
    }
    match dice.below(20) {
        10 => Routing::HttpCall { device: Box::new(device(dice)), session_reference },
        12..=19 => Routing::Call(Box::new(outbound(dice))),
        11 => {
            let mut all = ids.borrow().participants.clone();
            all.push("nobody".into());
            // The one seen last is the likeliest to be there.
            let participant_id = if dice.one_in(2) { all[all.len().saturating_sub(2)].clone() } else { dice.pick(&all) };
            Routing::Join { participant_id, session_reference, recording: dice.one_in(3).then(|| Box::new(options(dice))) }
        }
        0 => Routing::Drop { drop_code: Some(dice.pick(&["busy", "what", "200", "699", ""]).into()), session_reference },
        1 => {
            let contacts = vec![dice.pick(&["sip:b@x", "b", "", "sip:b@x\r\nX: y"]).to_owned()];
            Routing::Redirect { status: dice.pick(&[300, 302, 200, 999]), contacts, session_reference }
        }
        2 => Routing::Ext { name: dice.pick(&["", "mixer"]).into(), json: String::new() },
        3 => dice
            .pick(&[Routing::Call(Box::default()), Routing::Join { participant_id: "p".into(), session_reference: None, recording: None }]),
        _ => Routing::Ivr { session_reference },
    }
}

/// Options of a recording, now and then impossible ones.
fn options(dice: &mut Dice) -> RecordingOptions {
    let duration = dice.millis(3000);
    RecordingOptions {
        control_id: dice.one_in(3).then(|| dice.pick(&["mine", "yours", ""]).to_owned()),
        dialect: dice.pick(&[Dialect::Native, Dialect::Native, Dialect::Graph, Dialect::Aculab, Dialect::Iotcomms, Dialect::Swml]),
        mode: dice.pick(&[None, None, None, Some(Mode::Queued), Some(Mode::Background), Some(Mode::Foreground)]),
        queue_policy: dice.pick(&[QueuePolicy::Append, QueuePolicy::Append, QueuePolicy::Barge]),
        channels: dice.pick(&[None, None, Some(Channels::Stereo)]),
        beep: dice.pick(&[None, Some(true), Some(false)]),
        max_duration: dice.one_in(2).then_some(duration),
        start_on_voice: dice.pick(&[None, None, Some(true)]),
        retention: dice.one_in(30).then_some(Duration::MAX),
        ..RecordingOptions::default()
    }
}

fn phrase(dice: &mut Dice) -> Phrase {
    let duration = dice.millis(3000);
    match dice.below(11) {
        0 | 1 => Phrase::File { file_name: dice.pick(&["menu.wav", "hello.wav", "missing.wav", "../x", ""]).into() },
        2 => Phrase::Tone { hz: vec![dice.pick(&[440.0, 0.0, f32::NAN])], level_dbm0: -9.0, on: duration, off: duration, total: duration },
        3 => Phrase::Silence { duration: if dice.one_in(30) { Duration::MAX } else { duration } },
        4 => Phrase::Echo { duration },
        5 | 6 => Phrase::Record(Box::new(RecordPhrase {
            file_name: dice.one_in(2).then(|| dice.pick(&["r.wav", "a/b"]).to_owned()),
            beep: dice.one_in(2).then_some(true),
            max_duration: dice.one_in(2).then_some(duration),
            initial_silence: dice.one_in(2).then_some(duration),
            max_silence: dice.one_in(2).then_some(duration),
            stop_digits: dice.one_in(2).then(|| dice.pick(&["#", "0123456789", "?"]).to_owned()),
            sensitivity: dice.one_in(3).then_some(60),
            ..options(dice)
        })),
        7 => Phrase::Url { url: dice.pick(&["hello.wav", "slow"]).into(), key: None, keep: Some(Keep::default()) },
        8 => Phrase::Tts { engine: "local".into(), parameters: "{}".into(), keep: Keep::default() },
        9 => Phrase::Say { kind: "number".into(), value: dice.pick(&["1204", "x"]).into(), language: String::new() },
        _ => Phrase::Ext { name: "n".into(), json: String::new() },
    }
}

fn command(dice: &mut Dice, ids: &Shared) -> IvrCommand {
    let dtmf = Collect {
        flush: dice.one_in(3),
        max_digits: dice.pick(&[None, Some(1), Some(3), Some(u32::MAX), Some(1)]),
        first_timeout: dice.millis(4000),
        between_timeout: dice.millis(2000),
        termination_keys: dice.pick(&["", "#", "*#", "0"]).into(),
        encryption: dice.one_in(4).then(|| DigitProtection::Md5 { salt: "s".into() }),
    };
    IvrCommand {
        session_id: dice.one_in(30).then(|| "another".into()),
        session_reference: reference(dice),
        phrases: (0..dice.below(4)).map(|_| phrase(dice)).collect(),
        dtmf: dice.one_in(2).then_some(dtmf),
        barge_in: dice.pick(&[BargeIn::None, BargeIn::Current, BargeIn::All]),
        background: dice.one_in(5).then(|| BackgroundPrompt {
            file_name: Some(dice.pick(&["menu.wav", "missing.wav", "slow"]).into()),
            url: dice.one_in(20).then(|| "http://x".into()),
            repeat_pause: dice.millis(2000),
            stop: dice.one_in(3),
        }),
        hangup: dice.one_in(10),
        recorded_callback: dice.one_in(2),
        next_after: if dice.one_in(3) { dice.millis(3000) } else { Duration::ZERO },
        routing: dice.one_in(10).then(|| Box::new(routing(dice, ids))),
        ext: Vec::new(),
    }
}

fn answer(dice: &mut Dice, hook: &Hook, ids: &Shared) -> Result<Verdict, HookFailure> {
    if dice.one_in(12) {
        return Err(failure(dice));
    }
    let wrong = dice.one_in(40);
    match hook {
        Hook::GetIvrCommand(_) if !wrong => Ok(Verdict::Ivr(Box::new(command(dice, ids)))),
        // Somebody who is left by his counterpart is released soon, or nothing but calls would happen.
        Hook::CallEvent(_) if dice.one_in(2) => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
        Hook::NewCall(_) | Hook::CallEvent(_) if wrong => Ok(Verdict::Ivr(Box::new(command(dice, ids)))),
        Hook::GetCallIdentifier(request) if !wrong => {
            let session_id = dice.pick(&[None, Some(request.info.session_id.clone()), Some("another".to_owned())]);
            Ok(Verdict::Identified(Identified { session_id, session_reference: reference(dice) }))
        }
        Hook::NewRemoteCall(_) if !wrong => Ok(Verdict::Noted { session_reference: reference(dice) }),
        _ if wrong => Ok(Verdict::Noted { session_reference: None }),
        _ => Ok(Verdict::Routing(routing(dice, ids))),
    }
}

/// The participants that a hook names.
fn participants(hook: &Hook) -> Vec<String> {
    match hook {
        Hook::NewCall(call) => vec![call.participant_id.clone()],
        Hook::GetCallIdentifier(request) => vec![request.participant_id.clone()],
        Hook::GetIvrCommand(request) => vec![request.participant_id.clone()],
        Hook::CallEvent(event) => vec![event.participant_id.clone(), event.remote_participant_id.clone()],
        Hook::NewRemoteCall(call) => vec![call.participant_id.clone()],
    }
}

/// What a user's phone does when the node calls it.
fn plan(dice: &mut Dice) -> Plan {
    if dice.one_in(2) {
        return Plan { last: Some((dice.millis(1000), 200)), ..Plan::default() };
    }
    let (soon, later) = (dice.millis(500), dice.millis(2000));
    let provisional = dice.pick(&[
        vec![],
        vec![(soon, 180, false)],
        vec![(soon, 183, true)],
        vec![(soon, 180, false), (soon * 2, 183, true), (later, 180, false)],
    ]);
    let status = dice.pick(&[200, 200, 200, 200, 486, 302, 503, 408, 422, 603]);
    Plan {
        slow_reinvite: false,
        provisional,
        last: (!dice.one_in(8)).then(|| (dice.millis(3000), status)),
        sdp: dice.pick(&[offer("sendrecv", true), offer("sendrecv", false), offer("sendonly", true), "nonsense".into(), String::new()]),
        contacts: dice.pick(&[vec![], vec!["sip:carol@127.0.0.1:5080".to_owned()], vec!["x".to_owned(), "sip:a@192.0.2.66".to_owned()]]),
        extra: dice.pick(&["", "Reason: Q.850;cause=17\r\n", "Supported: timer\r\nSession-Expires: 120;refresher=uas\r\n"]).into(),
        fork: dice.one_in(8).then(|| dice.millis(500)),
        crosses_cancel: dice.one_in(6),
        reinvite: dice.pick(&[200, 200, 488, 491, 408]),
        deaf: dice.one_in(12),
    }
}

fn media(dice: &mut Dice) -> MediaKind {
    let (play, recording, how) =
        (PlayId(dice.below(5)), RecordingId(dice.below(20)), dice.pick(&[Ended::Done, Ended::BargedIn, Ended::Stopped]));
    match dice.below(10) {
        0 => MediaKind::SegmentEnded { play, index: dice.pick(&[0, 1, 7, usize::MAX]), how },
        1 => MediaKind::QueueEnded { play: PlayId(99), how },
        2 => MediaKind::RtpTimeout,
        3 => MediaKind::RecordingVoice { recording },
        4 => MediaKind::Flowing { from: "192.0.2.9:40000".parse().unwrap() },
        5 => MediaKind::Opened { local: "10.0.0.5:1".parse().unwrap() },
        6 => MediaKind::RecordingClosed {
            recording: RecordingId(1000 + recording.0),
            reason: StopReason::MaxDuration,
            totals: Default::default(),
        },
        _ => MediaKind::Digit { digit: dice.digit(), source: DigitSource::InBand, consumed: dice.one_in(4) },
    }
}

/// A session, one of its participants and one of its connections, as far as handlers have heard of them; now and then nobody's.
fn somebody(dice: &mut Dice, world: &World) -> (String, String, String) {
    let all: Vec<&Hook> = world.asks.iter().map(|a| &a.hook).collect();
    if all.is_empty() || dice.one_in(12) {
        return ("none".into(), "none".into(), "none".into());
    }
    // The newest is the likeliest to be there.
    let hook = if dice.one_in(2) { all[all.len() - 1] } else { dice.pick(&all) };
    let session_id = hook.info().session_id.clone();
    let mut parties: Vec<String> =
        all.iter().filter(|h| h.info().session_id == session_id).flat_map(|h| participants(h)).filter(|p| !p.is_empty()).collect();
    let mut connections = vec!["none".to_owned()];
    for notification in &world.notifications {
        match notification {
            Notification::CallAnswered { info, connection_id, caller_participant_id, callee_participant_id, .. }
                if info.session_id == session_id =>
            {
                connections.push(connection_id.clone());
                parties.extend([caller_participant_id.clone(), callee_participant_id.clone()]);
            }
            Notification::CallNotify { info, participant_id, .. } if info.session_id == session_id => parties.push(participant_id.clone()),
            _ => {}
        }
    }
    parties.push("none".into());
    let connection = if dice.one_in(2) { connections[connections.len() - 1].clone() } else { dice.pick(&connections) };
    (session_id, dice.pick(&parties), connection)
}

fn order(dice: &mut Dice, world: &World) -> Command {
    let (mut session_id, participant_id, mut connection_id) = somebody(dice, world);
    let newest = world.notifications.iter().rev().find_map(|n| match n {
        Notification::CallAnswered { info, connection_id, .. } => Some((info.session_id.clone(), connection_id.clone())),
        _ => None,
    });
    // Splits and recordings mostly mean the connection that came last, or hardly one would be there.
    // Those are drawn twice: few of them come as far as a beep.
    let what = match dice.below(26) {
        again @ 20.. => 2 + again % 5,
        what => what,
    };
    if let Some(newest) = newest.filter(|_| (2..=6).contains(&what) && !dice.one_in(4)) {
        (session_id, connection_id) = newest;
    }
    match what {
        0 => Command::HangupParticipant { session_id, participant_id },
        1 => Command::HangupRemoteParticipant { session_id, participant_id },
        2 | 3 => Command::SplitConnection { session_id, connection_id },
        4 if dice.one_in(2) => {
            let file_name = dice.pick(&[None, Some("r.wav".to_owned()), Some("a/b".to_owned()), Some(String::new())]);
            Command::record_call(session_id, connection_id, file_name)
        }
        4 | 5 => {
            let target = match dice.below(3) {
                0 => Target::Session,
                1 => Target::Participant(participant_id),
                _ => Target::Connection(connection_id),
            };
            let options = RecordingOptions { mode: dice.pick(&[None, Some(Mode::Queued)]), ..options(dice) };
            let prompts = (0..dice.below(3)).map(|_| phrase(dice)).collect();
            Command::StartRecording { session_id, target, options: Box::new(options), prompts }
        }
        6 => {
            let ids = ["none", "mine", "yours"].map(|id| WhichRecording::Id(id.into()));
            // Mostly one that is known to run.
            let running = world.notifications.iter().rev().find_map(|n| match n {
                Notification::RecordingState { info, status, .. } => Some((info.session_id.clone(), status)),
                _ => None,
            });
            let running = running.filter(|(_, status)| !status.phase.is_terminal() && !dice.one_in(4));
            let which = match (running, dice.below(4)) {
                (Some((session, status)), _) => {
                    session_id = if dice.one_in(2) { session } else { String::new() };
                    WhichRecording::Id(status.recording_id.clone())
                }
                (None, 0) => WhichRecording::Connection(connection_id),
                (None, 1) => dice.pick(&ids),
                (None, _) => WhichRecording::Last,
            };
            match dice.below(7) {
                0 => Command::PauseRecording { session_id, which, behavior: dice.pick(&[None, Some(PauseBehavior::Silence)]) },
                1 => Command::ResumeRecording { session_id, which },
                2 => Command::DiscardRecording { session_id, which },
                3 => Command::GetRecording { session_id, which },
                4 => Command::CancelMedia { session_id },
                _ => Command::StopRecording { session_id, which },
            }
        }
        7 => Command::InterruptIvrCommand { session_id, command: dice.pick(&[None, Some(1), Some(3)]) },
        8 => Command::SendDtmf { session_id, participant_id, digits: dice.pick(&["1", "12#", "", "x"]).to_owned(), length: None },
        14 => Command::Hold { session_id, participant_id, audio: dice.pick(&[HoldAudio::Silence, HoldAudio::File("menu.wav".into())]) },
        15 => Command::Resume { session_id, participant_id },
        16 => Command::Mute { session_id, participant_id, mute: Mute { speak: dice.one_in(2), listen: dice.one_in(2) } },
        17 => {
            let blind = dice.pick(&["sip:x@127.0.0.1", "sip:x@named.test", "sip:x@192.0.2.66", "x"]).to_owned();
            let target = if dice.one_in(3) { TransferTarget::Attended(participant_id.clone()) } else { TransferTarget::Blind(blind) };
            Command::Transfer { session_id, participant_id, target }
        }
        18 => Command::Play { session_id, participant_id, phrases: (0..dice.below(3)).map(|_| phrase(dice)).collect() },
        9 => Command::SetTimer { session_id, name: dice.pick(&["a", "b", ""]).to_owned(), after: dice.millis(20_000) },
        10 => Command::CancelTimer { session_id, name: "a".to_owned() },
        19 => order_of_device(dice, session_id),
        _ => Command::PlaceIvrCall(Box::new(PlaceIvrCall {
            session_id: dice.one_in(2).then_some(session_id),
            mediaservice_id: dice.one_in(12).then(|| "other".to_owned()),
            call: outbound(dice),
        })),
    }
}

fn order_of_device(dice: &mut Dice, session_id: String) -> Command {
    match dice.below(5) {
        0 | 1 => Command::AnswerRemoteCall { session_id, device: Box::new(device(dice)), session_reference: reference(dice) },
        2 => dice.pick(&[Command::SendRemoteCallRingback { session_id: session_id.clone() }, Command::HangupCall { session_id }]),
        _ => Command::PlaceRemoteCall(Box::new(PlaceRemoteCall {
            device: device(dice),
            destination_uri: outbound(dice).dest_addr,
            source_user: dice.pick(&["1234", "1234", ""]).to_owned(),
            callback_base_url: dice.pick(&["https://app.test/hooks", "https://app.test", "https://other.test", ""]).to_owned(),
            session_reference: reference(dice),
        })),
    }
}

/// Gives an order, which is answered once, at once.
fn give(world: &mut World, domain: &str, command: Command) {
    let before = world.replies.len();
    let text = format!("{command:?}");
    world.input(Input::Command { id: CommandId(1), domain: domain.into(), command });
    assert_eq!(world.replies.len(), before + 1, "{text}");
}

fn operate(dice: &mut Dice, world: &mut World, ids: &Shared) {
    let calls = world.phones.len() as u64;
    let call = |dice: &mut Dice| usize::try_from(dice.below(calls.max(1))).unwrap();
    match dice.below(28) {
        27 if calls > 0 => {
            let i = call(dice);
            world.refer_news(i, dice.pick(&[100, 180, 200, 486]));
        }
        0..=3 if calls < 12 => {
            let sdp = match dice.below(8) {
                0 => None,
                1 => Some("nonsense".to_owned()),
                _ => Some(offer(dice.pick(&["sendrecv", "sendonly", "inactive"]), dice.one_in(2))),
            };
            let extra = dice.pick(&["", "Privacy: id\r\n", "Supported: timer\r\nSession-Expires: 120\r\n"]);
            let i = world.call_with(dice.pick(&["100", "200", "100", "200", "device"]), extra, sdp.as_deref());
            world.phones[i].deaf = dice.one_in(8);
        }
        _ if calls == 0 => {}
        4 => {
            let i = call(dice);
            world.hangup(i);
        }
        5 => {
            let i = call(dice);
            world.cancel(i);
        }
        6 => {
            let i = call(dice);
            world.retransmit(i);
        }
        7 | 8 => {
            let i = call(dice);
            let sdp = match dice.below(5) {
                0 => None,
                1 => Some("nonsense".to_owned()),
                _ => Some(offer(dice.pick(&["sendrecv", "sendonly", "recvonly", "inactive"]), dice.one_in(2))),
            };
            if dice.one_in(2) {
                world.reinvite(i, sdp.as_deref());
            } else {
                world.in_dialog(i, "UPDATE", "", sdp.as_deref().map(|s| ("application/sdp", s)));
            }
        }
        9 => {
            let i = call(dice);
            let digit = dice.digit().to_string();
            world.info_digit(i, &digit);
        }
        10 | 11 => {
            let legs = world.live_legs();
            if !legs.is_empty() {
                let (leg, digit) = (dice.pick(&legs), dice.digit());
                world.press_on(leg, digit);
            }
        }
        12 | 13 => {
            let legs = world.live_legs();
            let leg = if legs.is_empty() || dice.one_in(5) { LegId(dice.below(9)) } else { dice.pick(&legs) };
            let what = media(dice);
            world.media_event(leg, what);
        }
        14 => {
            // An answer that nobody asked for, or that comes a second time.
            let session = SessionId { slot: u32::try_from(dice.below(4)).unwrap(), generation: u32::try_from(dice.below(20)).unwrap() };
            let hook = Hook::NewCall(Box::default());
            let verdict = answer(dice, &hook, ids);
            world.input(Input::Verdict { ask: AskId { session, number: u32::try_from(dice.below(4)).unwrap() }, verdict });
            world.input(Input::Prepared { session, number: u32::try_from(dice.below(4)).unwrap(), clips: vec![Err("no".into())] });
            let addresses = dice.pick(&[Err("no".to_owned()), Ok(vec![]), Ok(vec!["127.0.0.1:5080".parse().unwrap()])]);
            world.input(Input::Resolved { session, number: u32::try_from(dice.below(4)).unwrap(), addresses });
        }
        15 | 16 => {
            let domain = if dice.one_in(10) { "other.test" } else { world::DOMAIN };
            let command = order(dice, world);
            give(world, domain, command);
        }
        17 => {
            let legs = world.live_legs();
            // What was refused was lost: not a `Close`, that would be another world than the one that runs here.
            if dice.one_in(6) && !legs.is_empty() {
                world.input(Input::MediaRefused { leg: dice.pick(&legs) });
            }
        }
        18 => {
            let (flow, n) = (world.flow(call(dice)), dice.below(200));
            let noise: Vec<u8> = (0..n).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
            world.raw(flow, noise);
        }
        19 => {
            let flow = world.flow(call(dice));
            if dice.one_in(5) {
                world.input(Input::FlowFailed { flow });
            }
        }
        20 => world.input(Input::Tick),
        21..=23 => {
            let n = world.callees.len() as u64;
            if n > 0 {
                // Mostly the one called last.
                let i = if dice.one_in(2) { n - 1 } else { dice.below(n) };
                let sdp = offer(dice.pick(&["sendrecv", "sendonly", "inactive"]), dice.one_in(2));
                let (method, body) = dice.pick(&[
                    ("BYE", None),
                    ("INVITE", Some(("application/sdp", sdp.as_str()))),
                    ("INVITE", None),
                    ("UPDATE", Some(("application/sdp", sdp.as_str()))),
                    ("INFO", Some(("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"))),
                    ("CANCEL", None),
                ]);
                world.callee_request(usize::try_from(i).unwrap(), method, body);
            }
        }
        _ => {
            let ms = dice.pick(&[0, 1, 20, 300, 1000, 2000, 9000]);
            world.run_for(ms);
        }
    }
}

/// What the counters say in the end, and how often things happened that a fuzzer of two parties must reach.
fn run(seed: u64) -> (BTreeMap<Counter, u64>, BTreeMap<&'static str, u64>) {
    let mut dice = Dice::new(seed);
    let mut handler = Dice::new(seed ^ 0xabcd);
    let fallback = if dice.one_in(2) {
        Fallback::Announce { phrases: vec![phrase(&mut dice), phrase(&mut dice)] }
    } else {
        Fallback::Refuse { status: dice.pick(&[503, 480, 0, 200]) }
    };
    let error_prompt = dice.one_in(2).then(|| "error.wav".to_owned());
    let in_numbers = dice.one_in(4).then(|| "2*".to_owned()).into_iter().collect();
    let tenant = Tenant { fallback, error_prompt, in_numbers, max_sessions: 8, ..remote_calls::tenant() };
    let ids = Shared::default();
    let seen = ids.clone();
    let script = Script::new(move |ask| {
        seen.borrow_mut().participants.extend(participants(&ask.hook).into_iter().filter(|p| !p.is_empty()));
        answer(&mut handler, &ask.hook, &seen)
    });
    let mut world = World::with(configuration(tenant.clone()), switch_config(u8::try_from(seed % 256).unwrap()), Box::new(script));
    world.thinking = dice.pick(&[Duration::ZERO, Duration::from_millis(30), Duration::from_secs(2)]);
    world.speech = dice.millis(3000);
    world.recording_fails = dice.one_in(4);
    world.open_fails = dice.one_in(16);
    for user in &USERS[..4] {
        world.users.insert((*user).to_owned(), plan(&mut dice));
    }
    world.hosts.insert("named.test".into(), vec!["192.0.2.66:5060".parse().unwrap(), "127.0.0.1:5080".parse().unwrap()]);
    for _ in 0..dice.below(150) {
        operate(&mut dice, &mut world, &ids);
    }
    // Now everything ends.
    ids.borrow_mut().ending = true;
    let mut draining = configuration(tenant);
    draining.drain = true;
    world.input(Input::Configure(Arc::new(draining)));
    for i in 0..world.phones.len() {
        if !world.phones[i].over {
            world.cancel(i);
            world.hangup(i);
        }
    }
    // The longest release is 40 s, after 32 s of waiting for an ACK that does not come.
    world.run_for(100_000);
    // Callers do not know of calls that they began by mistake (a re-INVITE after their call was over), and callees do not know when to
    // hang up: the operator ends those.
    let mut commands: Vec<Command> = Vec::new();
    let mut end = |info: &SessionInfo, participant_id: &String| {
        commands.push(Command::HangupParticipant { session_id: info.session_id.clone(), participant_id: participant_id.clone() });
    };
    for ask in &world.asks {
        participants(&ask.hook).iter().for_each(|p| end(ask.hook.info(), p));
    }
    for notification in &world.notifications {
        match notification {
            Notification::CallAnswered { info, caller_participant_id, callee_participant_id, .. } => {
                end(info, caller_participant_id);
                end(info, callee_participant_id);
            }
            Notification::CallNotify { info, participant_id, .. } => end(info, participant_id),
            _ => {}
        }
    }
    for reply in &world.replies {
        if let Ok(Done::Placed { session_id, participant_id, .. }) = reply {
            end(&SessionInfo { session_id: session_id.clone(), ..SessionInfo::default() }, participant_id);
        }
    }
    for command in commands {
        give(&mut world, world::DOMAIN, command);
    }
    // Whoever is still being called rings for five minutes at most.
    world.run_for(400_000);
    check_states(&world, seed);
    let leaks = world.leaks();
    assert_eq!(leaks, None, "seed {seed}\n{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "seed {seed}: {:?}", world.logs);
    let begun = world.count(Counter::CallsOffered) + world.count(Counter::CallsPlaced);
    let completed = world.count(Counter::CallsCompleted);
    assert!(completed <= begun && completed as usize == world.records.len(), "seed {seed}");
    (world.counters.clone(), reached(&world))
}

/// UR 6.2: a recording moves down the list of states, to exactly one of the last five and no further.
fn check_states(world: &World, seed: u64) {
    let mut last: BTreeMap<&str, Phase> = BTreeMap::new();
    for notification in &world.notifications {
        let Notification::RecordingState { status, .. } = notification else { continue };
        let again = matches!((last.get(&*status.recording_id), status.phase), (Some(Phase::Paused), Phase::Armed | Phase::Recording));
        let before = last.insert(&status.recording_id, status.phase);
        assert!(again || before.is_none_or(|b| b < status.phase && !b.is_terminal()), "seed {seed}: {before:?} then {:?}", status.phase);
    }
    let open = last.iter().find(|(_, phase)| !phase.is_terminal());
    assert_eq!(open, None, "seed {seed}");
}

/// How far it came.
fn reached(world: &World) -> BTreeMap<&'static str, u64> {
    let mut reached = BTreeMap::new();
    let mut add = |what, n: usize| {
        if n > 0 {
            reached.insert(what, n as u64);
        }
    };
    let steps = |text: &str| world.steps.iter().filter(|s| s.contains(text)).count();
    add("bridged", steps("hears leg"));
    add("separated", steps("hears nobody"));
    add("monitored", steps("listens to leg"));
    add("recorded", steps("media record"));
    add("cancelled", steps(" CANCEL"));
    add("device told", steps("newRemoteCall"));
    let with_device = |n: &&Notification| matches!(n, Notification::CallAnswered { target: Some(_), .. });
    add("device connected", world.notifications.iter().filter(with_device).count());
    add("device lost its party", steps("guest callEvent") - world.asks.iter().filter(|a| matches!(a.hook, Hook::CallEvent(_))).count());
    let state = |phase| {
        let told = |n: &&Notification| matches!(n, Notification::RecordingState { status, .. } if status.phase == phase);
        world.notifications.iter().filter(told).count()
    };
    add("queued", state(Phase::Queued));
    add("beeped", state(Phase::Beeping));
    add("paused", state(Phase::Paused));
    add("discarded", state(Phase::Discarded));
    add("recording cancelled", state(Phase::Canceled));
    add("available", state(Phase::Available));
    add("placed", world.replies.iter().filter(|r| matches!(r, Ok(Done::Placed { .. }))).count());
    for ask in &world.asks {
        if let Hook::CallEvent(event) = &ask.hook {
            let kind = match event.event {
                CallEventKind::CallingPartyDrop => "calling party drop",
                CallEventKind::CalledPartyDrop => "called party drop",
                CallEventKind::CallingPartyFailure => "calling party failure",
                CallEventKind::CalledPartyFailure => "called party failure",
                CallEventKind::CallerConnectionSplit => "caller split",
                CallEventKind::CalleeConnectionSplit => "callee split",
            };
            *reached.entry(kind).or_default() += 1;
        }
    }
    reached
}

#[test]
fn random_operations_neither_panic_nor_leak() {
    let (mut total, mut reached): (BTreeMap<Counter, u64>, BTreeMap<&str, u64>) = Default::default();
    let seeds = seeds();
    let many = seeds.end - seeds.start;
    for seed in seeds {
        let (counters, steps) = catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        counters.into_iter().for_each(|(counter, n)| *total.entry(counter).or_default() += n);
        steps.into_iter().for_each(|(step, n)| *reached.entry(step).or_default() += n);
    }
    if many < SEEDS {
        return;
    }
    // A fuzzer that gets nowhere proves nothing.
    for counter in [
        Counter::CallsAnswered,
        Counter::CallsPlaced,
        Counter::CallsRefused,
        Counter::BadOffer,
        Counter::HookFailed,
        Counter::HookRestarted,
        Counter::FallbackUsed,
        Counter::AlarmSuppressed,
        Counter::DigitsDropped,
        Counter::SipMalformed,
        Counter::SipNoMatch,
    ] {
        let least = if counter == Counter::DigitsDropped { 0 } else { many / 20 };
        assert!(total.get(&counter).copied().unwrap_or(0) >= least, "{counter:?}: {total:?}");
    }
    for step in ["queued", "beeped", "recording cancelled", "available"] {
        assert!(reached.get(step).copied().unwrap_or(0) >= many / 200, "{step}: {reached:?}");
    }
    for step in [
        "bridged",
        "separated",
        "monitored",
        "recorded",
        "cancelled",
        "device told",
        "device connected",
        "device lost its party",
        "placed",
        "calling party drop",
        "called party drop",
        "calling party failure",
        "called party failure",
        "caller split",
        "callee split",
    ] {
        assert!(reached.get(step).copied().unwrap_or(0) >= many / 50, "{step}: {reached:?}");
    }
}
