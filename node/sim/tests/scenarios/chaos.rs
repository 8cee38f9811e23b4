//! Random worlds: bad networks, phones that do what they like, handlers that fail, a media thread that is full or stands still, writers
//! without room. Whatever happens, every call ends, once, and leaves nothing. A failing run names its seed, and the seed repeats it.

use crate::seeds;
use hookswitch_call::door::Counter;
use hookswitch_call::{
    Ask, CallEventKind, Collect, Command, Hook, HookFailure, IvrCommand, Notification, OutboundCall, Phrase, PlaceIvrCall, RecordPhrase,
    Routing, Verdict, WhichRecording,
};
use hookswitch_proto::media::{BargeIn, Direction};
use hookswitch_proto::{Random, Time};
use hookswitch_sim::handler::{Scripted, drop_with, file, hang_up};
use hookswitch_sim::{Act, Call, Callee, Line, Odds, Path, PhoneId, Plane, Role, Script, World, world};
use std::cell::Cell;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;

/// A few seconds of them.
const SEEDS: u64 = 500;
const CALLEES: [&str; 4] = ["bob", "carol", "dave", "sales"];

struct Dice(Random);

impl Dice {
    fn new(seed: u64, what: u8) -> Dice {
        let mut bytes = [what; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Dice(Random::new(bytes))
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0.u64() % n.max(1)
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("a small number")].clone()
    }
    fn millis(&mut self, n: u64) -> Duration {
        Duration::from_millis(self.below(n))
    }
    /// At most so many percent.
    fn percent(&mut self, most: u64) -> Odds {
        Odds(u32::try_from(self.below(most * 10_000)).unwrap_or(0))
    }
}

fn path(dice: &mut Dice) -> Path {
    if dice.one_in(2) {
        return Path::delayed(dice.millis(50));
    }
    let outage = dice.below(60_000);
    Path {
        delay: dice.millis(150),
        jitter: dice.millis(200),
        loss: dice.percent(25),
        duplicate: dice.percent(10),
        reorder: dice.percent(10),
        outages: if dice.one_in(4) { vec![(Time::from_millis(outage), Time::from_millis(outage + dice.below(90_000)))] } else { vec![] },
    }
}

fn outbound(dice: &mut Dice, addresses: &[String]) -> OutboundCall {
    OutboundCall {
        dest_addr: dice.pick(addresses),
        max_ring_time: dice.one_in(2).then(|| dice.millis(20_000)),
        call_recording: dice.one_in(2),
        ringback_tone: dice.one_in(2).then(|| dice.pick(&["default", "none", "early", "menu.wav", "missing.wav"]).to_owned()),
        ..OutboundCall::default()
    }
}

fn routing(dice: &mut Dice, addresses: &[String]) -> Routing {
    match dice.below(8) {
        0 => drop_with(dice.pick(&[None, Some("busy"), Some("404")])),
        1 | 2 => Routing::Ivr { session_reference: Some("{}".into()) },
        3 => Routing::Redirect { status: 302, contacts: vec!["sip:x@192.0.2.9".into()], session_reference: None },
        _ => Routing::Call(Box::new(outbound(dice, addresses))),
    }
}

fn command(dice: &mut Dice, addresses: &[String]) -> IvrCommand {
    let record = RecordPhrase {
        beep: Some(dice.one_in(2)),
        max_duration: Some(dice.millis(8000)),
        max_silence: dice.one_in(2).then(|| dice.millis(2000)),
        stop_digits: dice.one_in(2).then(|| "#".into()),
        ..RecordPhrase::default()
    };
    let (echo, quiet) = (dice.millis(3000), dice.millis(1000));
    let phrases = [
        file("menu.wav"),
        file("missing.wav"),
        Phrase::Record(Box::new(record)),
        Phrase::Echo { duration: echo },
        Phrase::Silence { duration: quiet },
    ];
    IvrCommand {
        phrases: (0..dice.below(4)).map(|_| dice.pick(&phrases)).collect(),
        dtmf: dice.one_in(2).then(|| Collect { max_digits: Some(1), first_timeout: Duration::from_secs(3), ..Collect::default() }),
        barge_in: dice.pick(&[BargeIn::None, BargeIn::Current, BargeIn::All]),
        recorded_callback: dice.one_in(2),
        hangup: dice.one_in(6),
        next_after: dice.millis(1500),
        routing: dice.one_in(8).then(|| Box::new(routing(dice, addresses))),
        ..IvrCommand::default()
    }
}

fn failure(dice: &mut Dice) -> HookFailure {
    dice.pick(&[
        HookFailure::Trap { message: "unreachable".into() },
        HookFailure::Deadline,
        HookFailure::Refused { message: "no".into() },
        HookFailure::Nonsense { field: "x".into(), why: "y".into() },
        HookFailure::Empty,
    ])
}

/// A handler that does anything, until it only ends calls.
fn handler(mut dice: Dice, addresses: Vec<String>, ending: Rc<Cell<bool>>) -> Scripted<impl FnMut(&Ask) -> Result<Verdict, HookFailure>> {
    Scripted::new(move |ask| match &ask.hook {
        Hook::GetIvrCommand(_) if ending.get() => Ok(Verdict::Ivr(Box::new(hang_up()))),
        _ if ending.get() => Ok(Verdict::Routing(drop_with(None))),
        _ if dice.one_in(15) => Err(failure(&mut dice)),
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(command(&mut dice, &addresses)))),
        Hook::CallEvent(event) if event.event == CallEventKind::CallerConnectionSplit && dice.one_in(2) => {
            Ok(Verdict::Routing(Routing::Ivr { session_reference: None }))
        }
        // The counterpart of a split is joined again, if it is still there.
        Hook::CallEvent(event) if dice.one_in(4) => {
            Ok(Verdict::Routing(Routing::Join { participant_id: event.participant_id.clone(), session_reference: None, recording: None }))
        }
        Hook::CallEvent(_) if dice.one_in(2) => Ok(Verdict::Routing(drop_with(None))),
        _ => Ok(Verdict::Routing(routing(&mut dice, &addresses))),
    })
}

fn script(dice: &mut Dice) -> Script {
    let acts = (0..dice.below(6)).map(|_| {
        let act = dice.pick(&[
            Act::Digit('1'),
            Act::Digit('5'),
            Act::Digit('#'),
            Act::Offer(Direction::SendOnly),
            Act::Offer(Direction::SendRecv),
            Act::Offer(Direction::Inactive),
        ]);
        (dice.millis(20_000), act)
    });
    Script { acts: acts.collect(), end_after: dice.one_in(2).then(|| dice.millis(40_000)), record: dice.one_in(4), ..Script::default() }
}

fn line(dice: &mut Dice, name: &str) -> Line {
    let script = script(dice);
    Line { skew_ppm: dice.pick(&[0, 0, 100, -200, 2000]), ..Line::new(name, script) }
}

fn callee(dice: &mut Dice) -> Callee {
    let ring = dice.millis(5000);
    let status = dice.pick(&[486, 480, 503, 603]);
    dice.pick(&[Callee::Answer { ring }, Callee::Answer { ring }, Callee::Early { ring }, Callee::Reject { ring, status }, Callee::Ring])
}

/// The session, party and connection that a command means: mostly real ones.
fn somebody(dice: &mut Dice, world: &World) -> (String, String, String) {
    let connections: Vec<(String, String, String)> = world
        .notifications
        .iter()
        .filter_map(|n| match n {
            Notification::CallAnswered { info, connection_id, caller_participant_id, callee_participant_id, .. } => {
                let party = if dice.one_in(2) { caller_participant_id } else { callee_participant_id };
                Some((info.session_id.clone(), party.clone(), connection_id.clone()))
            }
            _ => None,
        })
        .collect();
    match connections.last() {
        Some(last) if dice.one_in(2) => last.clone(),
        Some(_) => dice.pick(&connections),
        None => (world.session_id(), world.participant_id(), "none".into()),
    }
}

fn order(dice: &mut Dice, world: &mut World, addresses: &[String]) {
    let (session_id, participant_id, connection_id) = somebody(dice, world);
    let command = match dice.below(9) {
        0 => Command::HangupParticipant { session_id, participant_id },
        1 => Command::HangupRemoteParticipant { session_id, participant_id },
        2 => Command::SplitConnection { session_id, connection_id },
        3 => Command::record_call(session_id, connection_id, None),
        4 => Command::StopRecording { session_id, which: WhichRecording::Last },
        5 => Command::InterruptIvrCommand { session_id, command: None },
        6 => Command::SendDtmf { session_id, participant_id, digits: "12#".into(), length: None },
        n => {
            let session_id = (n == 7).then_some(session_id);
            Command::PlaceIvrCall(Box::new(PlaceIvrCall { session_id, mediaservice_id: None, call: outbound(dice, addresses) }))
        }
    };
    let reply = world.command(command);
    assert!(reply.is_some(), "a command has no reply");
}

fn fault(dice: &mut Dice, world: &mut World) {
    let until = world.now + dice.millis(3000);
    match dice.below(5) {
        0 => world.media.faults.full_until = until,
        1 => world.media.faults.busy_until = until,
        2 => world.media.faults.no_ports = dice.one_in(2),
        3 => world.tape.fails = dice.one_in(2),
        _ => world.tape.blocks = dice.pick(&[0, 3, 32_768]),
    }
}

/// The world after everything ended, as far as it may differ between two runs.
struct Run {
    ladder: String,
    counters: Vec<(Counter, u64)>,
    connected: usize,
    recordings: usize,
}

fn run(seed: u64) -> Run {
    let mut dice = Dice::new(seed, 7);
    let ending = Rc::new(Cell::new(false));
    // Hosts get their addresses in the order in which they come.
    let mut addresses: Vec<String> = (0..4).map(|n| format!("sip:{}@192.0.2.{}:5060", CALLEES[n], 10 + n)).collect();
    addresses.push("sip:nobody@192.0.2.250".into());
    addresses.push("sip:premium@203.0.113.1".into());
    let mut world = World::new(seed, handler(Dice::new(seed, 8), addresses.clone(), ending.clone()));
    world.network.usual = path(&mut dice);
    world.thinking = (dice.millis(200), dice.pick(&[Duration::ZERO, Duration::from_secs(1), Duration::from_secs(9)]));
    world.fetching = dice.millis(300);
    let mut phones: Vec<PhoneId> = Vec::new();
    for name in &CALLEES[..3] {
        let (line, callee) = (line(&mut dice, name), callee(&mut dice));
        phones.push(world.add(line, Role::Callee(callee)));
        let (to, from) = (path(&mut dice), path(&mut dice));
        world.path("node", name, to);
        world.path(name, "node", from);
    }
    world.fork("sales", &phones[..2]);
    for n in 0..dice.below(60) {
        match dice.below(10) {
            0 | 1 if phones.len() < 9 => {
                let name = format!("caller{n}");
                let call = Call {
                    target: "sip:100@192.0.2.1".into(),
                    from: format!("<sip:{name}@example.com>"),
                    peer: world::NODE_SIP,
                    headers: Vec::new(),
                    give_up_after: dice.millis(60_000),
                };
                let line = line(&mut dice, &name);
                phones.push(world.add(line, Role::Caller(call)));
            }
            2 => order(&mut dice, &mut world, &addresses),
            3 => {
                let phone = dice.pick(&phones);
                world.hang_up(phone);
            }
            4 if dice.one_in(3) => fault(&mut dice, &mut world),
            5 => {
                let noise = (0..dice.below(300)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
                world.raw("192.0.2.200:5060".parse().expect("an address"), noise);
            }
            6 => {
                let phone = dice.pick(&phones);
                let port = 41_000 + u16::try_from(dice.below(1000)).unwrap_or(0) * 2;
                world.rebind_rtp(phone, port);
            }
            _ => {
                let step = dice.pick(&[1, 20, 400, 3000, 10_000]);
                world.run_for(Duration::from_millis(step));
            }
        }
    }
    ending.set(true);
    for phone in phones {
        world.hang_up(phone);
    }
    // An IVR that waits, and a callee whom nobody hangs up, end when somebody says so.
    world.run_for(Duration::from_secs(200));
    let mut parties: Vec<(String, String)> = world
        .notifications
        .iter()
        .flat_map(|n| match n {
            Notification::CallAnswered { info, caller_participant_id, callee_participant_id, .. } => {
                vec![(info.session_id.clone(), caller_participant_id.clone()), (info.session_id.clone(), callee_participant_id.clone())]
            }
            Notification::CallNotify { info, participant_id, .. } => vec![(info.session_id.clone(), participant_id.clone())],
            _ => vec![],
        })
        .collect();
    parties.dedup();
    for (session_id, participant_id) in parties {
        world.command(Command::HangupParticipant { session_id, participant_id });
    }
    world.run_for(Duration::from_secs(400));
    let leaks = world.leaks();
    let ladder = world.ladder_of(&[Plane::Sip, Plane::Guest, Plane::Media, Plane::World]);
    assert!(leaks.is_empty(), "seed {seed}: {leaks:#?}\n{ladder}");
    let connected = |n: &&Notification| matches!(n, Notification::CallAnswered { .. });
    Run {
        ladder,
        counters: world.counters.iter().map(|(counter, n)| (*counter, *n)).collect(),
        connected: world.notifications.iter().filter(connected).count(),
        recordings: world.tape.finished.len(),
    }
}

#[test]
fn random_worlds_end_well() {
    let seeds = seeds(SEEDS);
    let many = usize::try_from(seeds.end - seeds.start).expect("a number of seeds");
    let (mut connected, mut recordings, mut failed) = (0, 0, 0);
    for seed in seeds {
        let run = catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        (connected, recordings) = (connected + run.connected, recordings + run.recordings);
        failed += run.counters.iter().filter(|(counter, _)| *counter == Counter::HookFailed).count();
    }
    // A world in which nothing happens proves nothing.
    if many >= 100 {
        assert!(connected > many && recordings > many / 4 && failed > many / 10, "{many}: {connected} {recordings} {failed}");
    }
}

#[test]
fn a_seed_repeats_its_world_to_the_letter() {
    for seed in seeds(8) {
        let (first, second) = (run(seed), run(seed));
        assert!(first.ladder == second.ladder && first.counters == second.counters, "seed {seed}");
    }
}
