//! Operation fuzzer: many calls at once, callers, handlers, media threads and operators that do legal and illegal things in random
//! order. Whatever they do, nothing panics, and after all calls ended nothing is left. A failing run names its seed.

use crate::contract::Script;
use crate::contract::world::{self, World, configuration, offer, switch_config, tenant};
use crate::door::{AskId, Command, CommandId, Counter, Fallback, Input, SessionId, Tenant};
use crate::hook::*;
use hookswitch_proto::Random;
use hookswitch_proto::media::{BargeIn, DIGITS, DigitSource, Ended, LegId, MediaKind, PlayId, RecordingId, StopReason};
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

/// About a second of them.
const SEEDS: u64 = 2000;

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

fn routing(dice: &mut Dice) -> Routing {
    let session_reference = reference(dice);
    match dice.below(12) {
        0 => Routing::Drop { drop_code: Some(dice.pick(&["busy", "what", "200", "699", ""]).into()), session_reference },
        1 => {
            let contacts = vec![dice.pick(&["sip:b@x", "b", "", "sip:b@x\r\nX: y"]).to_owned()];
            Routing::Redirect { status: dice.pick(&[300, 302, 200, 999]), contacts, session_reference }
        }
        2 => Routing::Ext { name: dice.pick(&["", "mixer"]).into(), json: String::new() },
        3 => dice.pick(&[
            Routing::Call(Box::default()),
            Routing::Join { participant_id: "p".into(), session_reference: None },
            Routing::HttpCall { receive_ip: String::new(), receive_port: 0, codec: String::new(), session_reference: None },
        ]),
        _ => Routing::Ivr { session_reference },
    }
}

fn phrase(dice: &mut Dice) -> Phrase {
    let duration = dice.millis(3000);
    match dice.below(9) {
        0 | 1 => Phrase::File { file_name: dice.pick(&["menu.wav", "hello.wav", "missing.wav", "../x", ""]).into() },
        2 => Phrase::Tone { hz: vec![dice.pick(&[440.0, 0.0, f32::NAN])], level_dbm0: -9.0, on: duration, off: duration, total: duration },
        3 => Phrase::Silence { duration: if dice.one_in(30) { Duration::MAX } else { duration } },
        4 => Phrase::Echo { duration },
        5 | 6 => Phrase::Record(Box::new(RecordPhrase {
            file_name: dice.one_in(2).then(|| dice.pick(&["r.wav", "a/b"]).to_owned()),
            beep: dice.one_in(2),
            max_duration: dice.one_in(2).then_some(duration),
            initial_silence: dice.one_in(2).then_some(duration),
            max_silence: dice.one_in(2).then_some(duration),
            stop_digits: dice.one_in(2).then(|| dice.pick(&["#", "0123456789", "?"]).to_owned()),
            sensitivity: dice.one_in(3).then_some(60),
        })),
        7 => Phrase::Url { url: "http://x".into() },
        _ => Phrase::Ext { name: "n".into(), json: String::new() },
    }
}

fn command(dice: &mut Dice) -> IvrCommand {
    let dtmf = Collect {
        flush: dice.one_in(3),
        max_digits: dice.pick(&[None, Some(1), Some(3), Some(u32::MAX), Some(1)]),
        first_timeout: dice.millis(4000),
        between_timeout: dice.millis(2000),
        termination_keys: dice.pick(&["", "#", "*#", "0"]).into(),
        encryption: None,
    };
    IvrCommand {
        session_id: dice.one_in(30).then(|| "another".into()),
        session_reference: reference(dice),
        phrases: (0..dice.below(4)).map(|_| phrase(dice)).collect(),
        dtmf: dice.one_in(2).then_some(dtmf),
        barge_in: dice.pick(&[BargeIn::None, BargeIn::Current, BargeIn::All]),
        background: None,
        hangup: dice.one_in(10),
        recorded_callback: dice.one_in(2),
        next_after: if dice.one_in(3) { dice.millis(3000) } else { Duration::ZERO },
        routing: dice.one_in(20).then(|| Box::new(routing(dice))),
        ext: Vec::new(),
    }
}

fn answer(dice: &mut Dice, hook: &Hook) -> Result<Verdict, HookFailure> {
    if dice.one_in(12) {
        return Err(failure(dice));
    }
    let wrong = dice.one_in(40);
    match hook {
        Hook::GetIvrCommand(_) if !wrong => Ok(Verdict::Ivr(Box::new(command(dice)))),
        Hook::NewCall(_) if wrong => Ok(Verdict::Ivr(Box::new(command(dice)))),
        _ => Ok(Verdict::Routing(routing(dice))),
    }
}

fn media(dice: &mut Dice) -> MediaKind {
    let (play, recording, how) =
        (PlayId(dice.below(5)), RecordingId(dice.below(20)), dice.pick(&[Ended::Done, Ended::BargedIn, Ended::Stopped]));
    match dice.below(10) {
        0 => MediaKind::SegmentEnded { play, index: dice.pick(&[0, 1, 7, usize::MAX]), how },
        1 => MediaKind::QueueEnded { play: PlayId(99), how },
        2 => MediaKind::RtpTimeout,
        3 => MediaKind::Voice { on: true },
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

fn operate(dice: &mut Dice, world: &mut World) {
    let calls = world.phones.len() as u64;
    let call = |dice: &mut Dice| usize::try_from(dice.below(calls.max(1))).unwrap();
    match dice.below(24) {
        0..=3 if calls < 12 => {
            let sdp = match dice.below(8) {
                0 => None,
                1 => Some("nonsense".to_owned()),
                _ => Some(offer(dice.pick(&["sendrecv", "sendonly", "inactive"]), dice.one_in(2))),
            };
            let extra = dice.pick(&["", "Privacy: id\r\n", "Supported: timer\r\nSession-Expires: 120\r\n"]);
            let i = world.call_with(dice.pick(&["100", "200"]), extra, sdp.as_deref());
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
            let verdict = answer(dice, &hook);
            world.input(Input::Verdict { ask: AskId { session, number: u32::try_from(dice.below(4)).unwrap() }, verdict });
            world.input(Input::Prepared { session, number: u32::try_from(dice.below(4)).unwrap(), clips: vec![Err("no".into())] });
        }
        15 | 16 => {
            let ask =
                dice.pick(&world.asks.iter().map(|a| a.hook.info().session_id.clone()).chain(["none".to_owned()]).collect::<Vec<_>>());
            let participant_id = world.asks.iter().find_map(|a| match &a.hook {
                Hook::NewCall(c) if a.hook.info().session_id == ask => Some(c.participant_id.clone()),
                _ => None,
            });
            let participant_id = participant_id.unwrap_or_default();
            let digits = dice.pick(&["1", "", "x"]).to_owned();
            let command = dice.pick(&[
                Command::InterruptIvrCommand { session_id: ask.clone(), command: None },
                Command::StopRecording { session_id: ask.clone(), which: crate::WhichRecording::Last },
                Command::SendDtmf { session_id: ask.clone(), participant_id: participant_id.clone(), digits },
                Command::HangupParticipant { session_id: ask, participant_id },
            ]);
            let domain = dice.pick(&["demo.test", "other.test"]).into();
            world.input(Input::Command { id: CommandId(1), domain, command });
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
        _ => {
            let ms = dice.pick(&[0, 1, 20, 300, 2000, 9000]);
            world.run_for(ms);
        }
    }
}

/// What the counters say in the end.
fn run(seed: u64) -> BTreeMap<Counter, u64> {
    let mut dice = Dice::new(seed);
    let mut handler = Dice::new(seed ^ 0xabcd);
    let fallback = if dice.one_in(2) {
        Fallback::Announce { phrases: vec![phrase(&mut dice), phrase(&mut dice)] }
    } else {
        Fallback::Refuse { status: dice.pick(&[503, 480, 0, 200]) }
    };
    let error_prompt = dice.one_in(2).then(|| "error.wav".to_owned());
    let tenant = Tenant { fallback, error_prompt, max_sessions: 8, ..tenant() };
    let script = Script::new(move |ask| answer(&mut handler, &ask.hook));
    let mut world = World::with(configuration(tenant.clone()), switch_config(u8::try_from(seed % 256).unwrap()), Box::new(script));
    world.thinking = dice.pick(&[Duration::ZERO, Duration::from_millis(30), Duration::from_secs(2)]);
    world.speech = dice.millis(3000);
    world.recording_fails = dice.one_in(4);
    world.open_fails = dice.one_in(16);
    for _ in 0..dice.below(150) {
        operate(&mut dice, &mut world);
    }
    // Now everything ends.
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
    // Callers do not know of calls that they began by mistake (a re-INVITE after their call was over): the operator ends those.
    let calls: Vec<Command> = world
        .asks
        .iter()
        .filter_map(|a| match &a.hook {
            Hook::NewCall(c) => {
                Some(Command::HangupParticipant { session_id: c.info.session_id.clone(), participant_id: c.participant_id.clone() })
            }
            _ => None,
        })
        .collect();
    for command in calls {
        world.input(Input::Command { id: CommandId(1), domain: world::DOMAIN.into(), command });
    }
    let leaks = world.leaks();
    assert_eq!(leaks, None, "seed {seed}\n{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "seed {seed}: {:?}", world.logs);
    let (completed, offered) = (world.count(Counter::CallsCompleted), world.count(Counter::CallsOffered));
    assert!(completed <= offered && completed as usize == world.records.len(), "seed {seed}");
    world.counters
}

#[test]
fn random_operations_neither_panic_nor_leak() {
    let mut total: BTreeMap<Counter, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let counters = catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        for (counter, n) in counters {
            *total.entry(counter).or_default() += n;
        }
    }
    // A fuzzer that gets nowhere proves nothing.
    for counter in [
        Counter::CallsAnswered,
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
        let least = if counter == Counter::DigitsDropped { 0 } else { SEEDS / 20 };
        assert!(total.get(&counter).copied().unwrap_or(0) >= least, "{counter:?}: {total:?}");
    }
}
