//! Recordings that are ordered of a call, in virtual time: their turn, what plays before them, pause, stop, discard, and every way to
//! their one last state (docs/conformance.md, "States" and "Stop reasons").

use crate::admission::{Quota, Spent};
use crate::contract::Script;
use crate::contract::callee::Plan;
use crate::contract::file;
use crate::contract::world::{DOMAIN, World, configuration, switch_config, tenant};
use crate::door::{Command, CommandError, CommandResult, Counter, Done, Input, RecordingMoved, Tenant, WhichRecording};
use crate::hook::*;
use crate::limits;
use crate::recording::{
    Channels, Container, Dialect, Direction, Encoding, Mode, PauseBehavior, Phase, Place, Policy, QueuePolicy, RecordingOptions,
    RecordingStatus, StorageClass, Target, Unwritable,
};
use crate::switch::SwitchConfig;
use hookswitch_proto::media::{MediaKind, RecordingId, StopReason};
use std::time::Duration;

const S: u64 = 1000;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The caller is in the IVR, which waits and says nothing.
fn waiting() -> Script {
    Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand { next_after: secs(500), ..IvrCommand::default() }))),
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    })
}

fn in_the_ivr() -> World {
    let mut world = World::new(waiting());
    world.call("100");
    world.run_to(S);
    world
}

fn start(world: &mut World, control_id: &str, options: RecordingOptions, prompts: Vec<Phrase>) -> CommandResult {
    let options = Box::new(RecordingOptions { control_id: Some(control_id.into()), ..options });
    let session_id = world.session_id();
    world.command(Command::StartRecording { session_id, target: Target::Session, options, prompts })
}

#[test]
fn a_full_storage_records_nothing_more_and_says_so() {
    let mut world = in_the_ivr();
    world.input(Input::Spent(Spent { storage: [DOMAIN.to_owned()].into(), ..Spent::default() }));
    let refused = start(&mut world, "second", RecordingOptions::default(), vec![]);
    assert_eq!(refused, Err(CommandError::Quota(Quota::Storage)));
    assert_eq!(world.count(Counter::QuotaStorage), 1);
    assert!(world.ladder(&[]).contains("quota exceeded: storage_bytes"));
    world.input(Input::Spent(Spent::default()));
    assert!(start(&mut world, "second", RecordingOptions::default(), vec![]).is_ok());
}

fn id(name: &str) -> WhichRecording {
    WhichRecording::Id(name.into())
}

fn graph() -> RecordingOptions {
    RecordingOptions { dialect: Dialect::Graph, ..RecordingOptions::default() }
}

/// What is told of recordings and done with media.
fn check(world: &World, expected: &str) {
    let got =
        world.ladder(&["alice", "guest newCall", "getIvrCommand", "node ivr", "callAnswered", "command of", "sessionCompleted", "ACK"]);
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, expected.join("\n"), "\ngot:\n{got}\n");
}

fn states(world: &World, control_id: &str) -> Vec<&'static str> {
    let state = |n: &Notification| match n {
        Notification::RecordingState { status, .. } if status.control_id == control_id => Some(status.phase.name()),
        _ => None,
    };
    world.notifications.iter().filter_map(state).collect()
}

/// What the last state says.
fn last(world: &World, control_id: &str) -> RecordingStatus {
    let told = |n: &Notification| match n {
        Notification::RecordingState { status, .. } if status.control_id == control_id => Some((**status).clone()),
        _ => None,
    };
    world.notifications.iter().rev().find_map(told).expect("a state was told")
}

fn hang_up(world: &mut World) {
    world.hangup(0);
    world.run_for(S);
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
}

#[test]
fn ur_001_002_003_a_recording_has_its_names_and_each_state_says_them() {
    let mut world = in_the_ivr();
    let options = RecordingOptions { client_context: Some("ctx".into()), ..RecordingOptions::default() };
    let Ok(Done::Recording { recording_id, .. }) = start(&mut world, "mine", options, vec![]) else { panic!("it starts") };
    // The name is taken as long as that recording is active.
    let again = start(&mut world, "mine", RecordingOptions::default(), vec![]);
    assert!(matches!(again, Err(CommandError::BadValue { field: "controlId", .. })), "{again:?}");
    world.run_for(2 * S);
    let session_id = world.session_id();
    let by_id = world.command(Command::GetRecording { session_id: String::new(), which: WhichRecording::Id(recording_id.clone()) });
    let Ok(Done::RecordingStatus(status)) = by_id else { panic!("{by_id:?}") };
    assert_eq!((status.recording_id.as_str(), status.control_id.as_str()), (recording_id.as_str(), "mine"));
    assert_eq!((status.client_context.as_deref(), status.phase), (Some("ctx"), Phase::Recording));
    assert_eq!(world.command(Command::StopRecording { session_id: session_id.clone(), which: id("mine") }), Ok(Done::Nothing));
    world.run_for(S);
    assert_eq!(states(&world, "mine"), ["recording", "stopping", "finalizing", "local_available", "available"]);
    let told = last(&world, "mine");
    assert_eq!((told.recording_id, told.client_context), (recording_id.clone(), Some("ctx".into())));
    let result = told.result.expect("a result");
    assert_eq!((result.stop_reason.as_str(), result.duration, result.control_id.as_str()), ("api_stop", secs(2), "mine"));
    // A second stop changes nothing (IC-015), and the name is free again.
    assert_eq!(world.command(Command::StopRecording { session_id, which: id("mine") }), Ok(Done::Nothing));
    assert!(start(&mut world, "mine", RecordingOptions::default(), vec![]).is_ok());
    hang_up(&mut world);
}

#[test]
fn ur_016_017_prompts_and_beep_play_before_it_and_are_not_in_it() {
    let mut world = in_the_ivr();
    let options = RecordingOptions { max_duration: Some(secs(2)), ..graph() };
    start(&mut world, "reply", options, vec![file("hello.wav")]).expect("it starts");
    world.run_to(10 * S);
    check(
        &world,
        "1.000 node -> media play clip 1000 ms, clip 250 ms
         1.000 node -> guest recordingState reply prompting
         2.000 node -> guest recordingState reply beeping
         2.250 node -> media record
         2.250 node -> guest recordingState reply recording
         4.250 node -> guest recordingState reply finalizing
         4.350 node -> guest recordingState reply local_available
         4.350 node -> guest recordingState reply available
         4.350 node -> guest recordingReady true",
    );
    // The file begins with the recording: two seconds of it, and a limit that counted from there.
    let told = last(&world, "reply");
    assert_eq!(told.result.map(|r| (r.stop_reason, r.duration)), Some(("max_duration".into(), secs(2))));
    // The file is not opened before its turn.
    assert_eq!(world.started.len(), 1);
    hang_up(&mut world);
}

#[test]
fn ur_016_017_what_cannot_be_played_fails_it() {
    for (prompts, beep, why) in
        [(vec![file("missing.wav")], Some(false), "prompt_failed"), (vec![file("missing.wav")], None, "prompt_failed")]
    {
        let mut world = in_the_ivr();
        start(&mut world, "reply", RecordingOptions { beep, ..graph() }, prompts).expect("it starts");
        world.run_for(S);
        assert_eq!(states(&world, "reply"), ["failed"]);
        let told = last(&world, "reply");
        assert_eq!((told.reason.as_deref(), told.result.map(|r| r.stop_reason)), (Some(why), Some(why.to_owned())));
        assert!(world.started.is_empty(), "no file was opened");
        hang_up(&mut world);
    }
    let mut world = in_the_ivr();
    for prompt in [Phrase::Echo { duration: secs(1) }, file("../x"), Phrase::Record(Box::default())] {
        let refused = start(&mut world, "reply", graph(), vec![prompt]);
        assert!(matches!(refused, Err(CommandError::BadValue { field: "prompts", .. })), "{refused:?}");
    }
    hang_up(&mut world);
}

#[test]
fn ur_006_queued_recordings_wait_for_each_other() {
    let mut world = in_the_ivr();
    let short = || RecordingOptions { mode: Some(Mode::Queued), max_duration: Some(secs(2)), ..RecordingOptions::default() };
    for name in ["a", "b"] {
        start(&mut world, name, short(), vec![]).expect("it is queued");
    }
    // One in the background waits for nobody.
    start(&mut world, "all", RecordingOptions { max_duration: Some(secs(5)), ..RecordingOptions::default() }, vec![]).expect("it starts");
    world.run_to(10 * S);
    check(
        &world,
        "1.000 node -> media record
         1.000 node -> guest recordingState a recording
         1.000 node -> guest recordingState b queued
         1.000 node -> media record
         1.000 node -> guest recordingState all recording
         3.000 node -> guest recordingState a finalizing
         3.000 node -> media record
         3.000 node -> guest recordingState b recording
         3.100 node -> guest recordingState a local_available
         3.100 node -> guest recordingState a available
         3.100 node -> guest recordingReady true
         5.000 node -> guest recordingState b finalizing
         5.100 node -> guest recordingState b local_available
         5.100 node -> guest recordingState b available
         5.100 node -> guest recordingReady true
         6.000 node -> guest recordingState all finalizing
         6.100 node -> guest recordingState all local_available
         6.100 node -> guest recordingState all available
         6.100 node -> guest recordingReady true",
    );
    hang_up(&mut world);
}

#[test]
fn ur_006_a_queued_one_waits_for_what_the_ivr_plays() {
    let mut answers = vec![
        IvrCommand { next_after: secs(500), ..IvrCommand::default() },
        IvrCommand { phrases: vec![file("menu.wav")], ..IvrCommand::default() },
    ];
    let mut world = World::new(Script::new(move |ask| match ask.hook {
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(answers.pop().unwrap_or_default()))),
        _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
    }));
    world.call("100");
    world.run_to(S);
    start(&mut world, "reply", RecordingOptions { beep: Some(false), ..graph() }, vec![]).expect("it is queued");
    world.run_to(3 * S);
    check(
        &world,
        "0.000 node -> media play clip 2000 ms
         1.000 node -> guest recordingState reply queued
         2.000 node -> media record
         2.000 node -> guest recordingState reply recording",
    );
    hang_up(&mut world);
}

#[test]
fn ur_007_barge_cancels_what_runs_and_what_waits_each_to_its_own_end() {
    let mut world = in_the_ivr();
    let quiet = || RecordingOptions { beep: Some(false), ..graph() };
    start(&mut world, "runs", quiet(), vec![]).expect("it runs");
    start(&mut world, "waits", quiet(), vec![]).expect("it waits");
    start(&mut world, "all", RecordingOptions::default(), vec![]).expect("it runs");
    world.run_for(S);
    let barge = RecordingOptions { queue_policy: QueuePolicy::Barge, ..quiet() };
    start(&mut world, "next", barge, vec![]).expect("it begins");
    world.run_for(S);
    assert_eq!(states(&world, "runs"), ["recording", "stopping", "finalizing", "canceled"]);
    assert_eq!(states(&world, "waits"), ["queued", "canceled"]);
    for name in ["runs", "waits"] {
        assert_eq!(last(&world, name).result.map(|r| r.stop_reason), Some("superseded".into()), "{name}");
    }
    assert_eq!(world.stops, [StopReason::Superseded]);
    assert_eq!((states(&world, "next").last(), states(&world, "all").last()), (Some(&"recording"), Some(&"recording")));
    hang_up(&mut world);
}

#[test]
fn ur_034_what_graph_stops_is_cancelled_and_told_as_stopped() {
    let mut world = in_the_ivr();
    start(&mut world, "mine", RecordingOptions { beep: Some(false), ..graph() }, vec![]).expect("it runs");
    start(&mut world, "native", RecordingOptions::default(), vec![]).expect("it runs");
    world.run_for(S);
    let session_id = world.session_id();
    for name in ["mine", "native"] {
        assert_eq!(world.command(Command::StopRecording { session_id: session_id.clone(), which: id(name) }), Ok(Done::Nothing));
    }
    world.run_for(S);
    assert_eq!(states(&world, "mine"), ["recording", "stopping", "finalizing", "canceled"]);
    assert_eq!(states(&world, "native").last(), Some(&"available"), "what others stop is kept");
    assert_eq!(last(&world, "mine").result.map(|r| r.stop_reason), Some("api_stop".into()));
    assert_eq!(world.stops, [StopReason::ApiStop, StopReason::ApiStop]);
    hang_up(&mut world);
}

#[test]
fn mg_012_silence_counts_from_behind_the_beep() {
    let mut world = World::new(waiting());
    world.speech = Duration::ZERO;
    world.call("100");
    world.run_to(S);
    let options = RecordingOptions { max_duration: Some(secs(30)), ..graph() };
    start(&mut world, "reply", options, vec![file("hello.wav")]).expect("it starts");
    world.run_to(10 * S);
    // A prompt of 1 s, 250 ms of beep, 5 s of silence: 7.250 and not earlier.
    let ended: Vec<&String> = world.steps.iter().filter(|s| s.contains("reply finalizing")).collect();
    assert!(ended.len() == 1 && ended[0].starts_with("7.250 "), "{ended:?}");
    assert_eq!(last(&world, "reply").result.map(|r| r.stop_reason), Some("initial_silence".into()));
    hang_up(&mut world);
}

#[test]
fn mg_009_040_prompts_alone_take_their_turn_and_are_cancelled_like_recordings() {
    let only = |name: &str| RecordingOptions { prompts_only: true, on_complete_url: Some(format!("https://bot/{name}")), ..graph() };
    let mut world = in_the_ivr();
    start(&mut world, "one", only("one"), vec![file("hello.wav")]).expect("it plays");
    start(&mut world, "reply", RecordingOptions { beep: Some(false), ..graph() }, vec![]).expect("it waits");
    start(&mut world, "two", only("two"), vec![file("hello.wav"), file("hello.wav")]).expect("it waits");
    world.run_to(3 * S);
    check(
        &world,
        "1.000 node -> guest recordingState reply queued
         1.000 node -> guest recordingState two queued
         1.000 node -> media play clip 1000 ms
         1.000 node -> guest recordingState one prompting
         2.000 node -> guest recordingState one available
         2.000 node -> media record
         2.000 node -> guest recordingState reply recording",
    );
    assert_eq!(last(&world, "one").result.map(|r| (r.stop_reason, r.duration)), Some(("played".into(), Duration::ZERO)));
    // What barges in ends what runs and what waits, whatever it is.
    start(&mut world, "three", RecordingOptions { queue_policy: QueuePolicy::Barge, ..only("three") }, vec![file("hello.wav")])
        .expect("it plays");
    world.run_for(500);
    assert_eq!((states(&world, "two"), states(&world, "reply").last()), (vec!["queued", "canceled"], Some(&"canceled")));
    let session_id = world.session_id();
    assert_eq!(world.command(Command::CancelMedia { session_id }), Ok(Done::Nothing));
    world.run_for(S);
    assert_eq!(states(&world, "three"), ["queued", "prompting", "canceled"]);
    start(&mut world, "gone", only("gone"), vec![file("missing.wav")]).expect("it is tried");
    world.run_for(S);
    assert_eq!((states(&world, "gone"), last(&world, "gone").reason.as_deref()), (vec!["failed"], Some("prompt_failed")));
    let nothing = start(&mut world, "none", only("none"), vec![]);
    assert!(matches!(nothing, Err(CommandError::BadValue { field: "prompts", .. })), "{nothing:?}");
    // None of them opened a file but the reply, and nobody waits for recording-ready of them.
    assert_eq!(world.started.len(), 1);
    assert!(!world.steps.iter().any(|s| s.contains("recordingReady")));
    hang_up(&mut world);
}

#[test]
fn ur_028_who_is_recorded_is_told_as_long_as_it_lasts() {
    let mut world = in_the_ivr();
    let announced = RecordingOptions { announce: true, ..RecordingOptions::default() };
    start(&mut world, "mine", announced.clone(), vec![]).expect("it runs");
    start(&mut world, "too", announced, vec![]).expect("it runs");
    start(&mut world, "silent", RecordingOptions::default(), vec![]).expect("it runs");
    let session_id = world.session_id();
    let which = |name: &str| WhichRecording::Id(name.into());
    let of = |s: &str| (session_id.clone(), which(s));
    world.run_for(S);
    let (a, b) = (of("mine"), of("too"));
    world.command(Command::StopRecording { session_id: a.0, which: a.1 }).expect("it stops");
    world.run_for(S);
    let pause = Command::PauseRecording { session_id: b.0.clone(), which: b.1.clone(), behavior: None };
    world.command(pause).expect("it pauses");
    world.run_for(S);
    world.command(Command::ResumeRecording { session_id: b.0.clone(), which: b.1.clone() }).expect("it goes on");
    world.run_for(S);
    world.command(Command::StopRecording { session_id: b.0, which: b.1 }).expect("it stops");
    world.run_for(S);
    // No beep plays for it, and two of them are one warning; nothing is kept of a pause, so nobody is warned.
    let told: Vec<&String> = world.steps.iter().filter(|s| s.contains("hears that") || s.contains("play")).collect();
    assert_eq!(
        told,
        [
            "1.000 node -> media party 1 hears that it is recorded: true",
            "3.000 node -> media party 1 hears that it is recorded: false",
            "4.000 node -> media party 1 hears that it is recorded: true",
            "5.000 node -> media party 1 hears that it is recorded: false",
        ]
    );
    hang_up(&mut world);
}

#[test]
fn ur_028_both_parties_hear_it_where_both_are_recorded() {
    for (direction, both) in [(Direction::Both, true), (Direction::Listen, true), (Direction::Speak, false)] {
        let script = Script::new(move |ask| match ask.hook {
            Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(OutboundCall {
                dest_addr: "sip:bob@127.0.0.1:5080".into(),
                recording: Some(Box::new(RecordingOptions {
                    control_id: Some("both".into()),
                    announce: true,
                    direction: Some(direction),
                    ..RecordingOptions::default()
                })),
                ..OutboundCall::default()
            })))),
            _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
        });
        let mut world = World::new(script);
        world.users.insert("bob".into(), Plan::default());
        world.call("100");
        world.run_to(2 * S);
        let told = |world: &World| -> Vec<String> {
            let told = world.steps.iter().filter_map(|s| s.split_once("media party ").map(|(_, what)| what.to_owned()));
            told.map(|what| what.replace(" hears that it is recorded:", "")).collect()
        };
        let expected: &[&str] = if both { &["1 true", "2 true"] } else { &["1 true"] };
        assert_eq!(told(&world), expected, "{direction:?}");
        let session_id = world.session_id();
        world.command(Command::StopRecording { session_id, which: id("both") }).expect("it stops");
        world.run_for(S);
        let off: Vec<String> = told(&world).split_off(expected.len());
        assert_eq!(off.len(), expected.len(), "{off:?}");
        assert!(off.iter().all(|what| what.ends_with("false")), "{off:?}");
        hang_up(&mut world);
    }
}

#[test]
fn ur_028_by_a_tenants_rule_every_recording_is_told_whoever_asks_for_it() {
    let told = |world: &World| world.steps.iter().filter(|s| s.contains("hears that it is recorded: true")).count();
    let always = || Tenant { recordings: Policy { announce: true, ..Policy::default() }, ..tenant() };
    let world_of = |script| World::with(configuration(always()), switch_config(7), Box::new(script));

    // By command, in each dialect.
    for dialect in [Dialect::Native, Dialect::Graph, Dialect::Aculab, Dialect::Iotcomms, Dialect::Swml, Dialect::Ozeki] {
        let mut world = world_of(waiting());
        world.call("100");
        world.run_to(S);
        start(&mut world, "mine", RecordingOptions { dialect, ..RecordingOptions::default() }, vec![]).expect("it runs");
        world.run_for(500);
        assert_eq!((told(&world), last(&world, "mine").options.announce), (1, true), "{dialect:?}");
        assert!(world.started[0].options.announce, "{dialect:?}: as the shell keeps it");
        hang_up(&mut world);
    }

    // By the handler, as a phrase.
    let mut world = world_of(Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => {
            Ok(Verdict::Ivr(Box::new(IvrCommand { phrases: vec![Phrase::Record(Box::default())], ..IvrCommand::default() })))
        }
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    }));
    world.call("100");
    world.run_to(2 * S);
    assert_eq!((told(&world), world.started[0].options.announce), (1, true));
    hang_up(&mut world);

    // A whole call (callRecording).
    let mut world = world_of(Script::new(|ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(OutboundCall {
            dest_addr: "sip:bob@127.0.0.1:5080".into(),
            recording: Some(Box::new(RecordingOptions::of_call(None))),
            ..OutboundCall::default()
        })))),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    }));
    world.users.insert("bob".into(), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    assert_eq!((told(&world), world.started[0].options.announce), (2, true), "both parties hear it");
    hang_up(&mut world);

    // Prompts alone are no recording.
    let only = RecordingOptions { prompts_only: true, ..RecordingOptions::default() };
    assert!(!only.under(Policy { announce: true, ..Policy::default() }).announce);
}

#[test]
fn mg_035_a_tenant_may_have_graphs_recordings_at_8_khz() {
    let narrow = || Tenant { recordings: Policy { graph_rate: Some(8_000), ..Policy::default() }, ..tenant() };
    let graph = |sample_rate| RecordingOptions { dialect: Dialect::Graph, sample_rate, ..RecordingOptions::default() };
    for (tenant, options, hz) in [
        (tenant(), graph(None), 16_000),
        (narrow(), graph(None), 8_000),
        (narrow(), graph(Some(16_000)), 16_000),
        (narrow(), RecordingOptions { encoding: Encoding::Alaw, ..graph(None) }, 8_000),
        (narrow(), RecordingOptions { sample_rate: Some(48_000), ..RecordingOptions::default() }, 48_000),
    ] {
        let mut world = World::with(configuration(tenant), switch_config(7), Box::new(waiting()));
        world.call("100");
        world.run_to(S);
        start(&mut world, "mine", RecordingOptions { beep: Some(false), ..options }, vec![]).expect("it runs");
        world.run_for(500);
        assert_eq!(world.started[0].options.sample_rate(), hz);
        hang_up(&mut world);
    }
}

#[test]
fn ur_034_media_of_a_call_is_cancelled_as_graph_does() {
    let mut world = in_the_ivr();
    for name in ["prompts", "waits"] {
        start(&mut world, name, graph(), vec![file("menu.wav")]).expect("it starts");
    }
    world.run_for(500);
    let session_id = world.session_id();
    assert_eq!(world.command(Command::CancelMedia { session_id }), Ok(Done::Nothing));
    world.run_for(S);
    assert_eq!(states(&world, "prompts"), ["prompting", "canceled"]);
    assert_eq!(states(&world, "waits"), ["queued", "canceled"]);
    assert!(world.started.is_empty());
    hang_up(&mut world);
}

#[test]
fn ur_026_034_pause_and_resume_say_how_and_only_where_it_runs() {
    let mut world = in_the_ivr();
    let session_id = world.session_id();
    let pause = |behavior| Command::PauseRecording { session_id: session_id.clone(), which: id("mine"), behavior };
    let resume = || Command::ResumeRecording { session_id: session_id.clone(), which: id("mine") };
    assert_eq!(world.command(pause(None)), Err(CommandError::Unknown("recording")));
    start(&mut world, "mine", RecordingOptions { pause_behavior: PauseBehavior::Silence, ..RecordingOptions::default() }, vec![]).unwrap();
    assert!(matches!(world.command(resume()), Err(CommandError::WrongState(_))));
    assert_eq!(world.command(pause(None)), Ok(Done::Nothing));
    assert_eq!(last(&world, "mine").pause_behavior, Some(PauseBehavior::Silence), "as its options say");
    assert!(matches!(world.command(pause(None)), Err(CommandError::WrongState(_))), "it is paused");
    assert_eq!(world.command(resume()), Ok(Done::Nothing));
    assert_eq!(last(&world, "mine").pause_behavior, None);
    assert_eq!(world.command(pause(Some(PauseBehavior::Skip))), Ok(Done::Nothing));
    let Ok(Done::Nothing) = world.command(Command::StopRecording { session_id: session_id.clone(), which: id("mine") }) else {
        panic!("a paused one can be stopped")
    };
    world.run_for(S);
    check(
        &world,
        "1.000 node -> media record
         1.000 node -> guest recordingState mine recording
         1.000 node -> media pause recording, Silence
         1.000 node -> guest recordingState mine paused
         1.000 node -> media resume recording
         1.000 node -> guest recordingState mine recording
         1.000 node -> media pause recording, Skip
         1.000 node -> guest recordingState mine paused
         1.000 node -> media stop recording
         1.000 node -> guest recordingState mine stopping
         1.000 node -> guest recordingState mine finalizing
         1.100 node -> guest recordingState mine local_available
         1.100 node -> guest recordingState mine available
         1.100 node -> guest recordingReady true",
    );
    hang_up(&mut world);
}

#[test]
fn ur_034_discard_keeps_nothing() {
    let mut world = in_the_ivr();
    let session_id = world.session_id();
    start(&mut world, "mine", RecordingOptions::default(), vec![]).unwrap();
    start(&mut world, "later", graph(), vec![file("menu.wav")]).unwrap();
    world.run_for(S);
    for name in ["mine", "later"] {
        assert_eq!(world.command(Command::DiscardRecording { session_id: session_id.clone(), which: id(name) }), Ok(Done::Nothing));
    }
    world.run_for(S);
    assert_eq!(states(&world, "mine"), ["recording", "stopping", "finalizing", "discarded"]);
    assert_eq!(states(&world, "later"), ["prompting", "discarded"]);
    assert_eq!(world.stops, [StopReason::Discarded]);
    let again = world.command(Command::DiscardRecording { session_id, which: id("mine") });
    assert_eq!(again, Err(CommandError::WrongState("the recording has ended")));
    assert!(!world.steps.iter().any(|s| s.contains("recordingReady")));
    hang_up(&mut world);
}

#[test]
fn ur_024_one_that_waits_for_voice_is_armed_until_it_comes() {
    let mut world = in_the_ivr();
    for name in ["mine", "other"] {
        start(&mut world, name, RecordingOptions { start_on_voice: Some(true), ..RecordingOptions::default() }, vec![]).unwrap();
    }
    world.run_for(S);
    assert_eq!(states(&world, "mine"), ["armed"]);
    let (leg, recording) = (world.leg(), world.started[0].recording);
    world.media_event(leg, MediaKind::RecordingVoice { recording });
    world.media_event(leg, MediaKind::RecordingVoice { recording: RecordingId(9999) });
    world.run_for(S);
    assert_eq!(states(&world, "mine"), ["armed", "recording"]);
    assert_eq!(states(&world, "other"), ["armed"], "each waits for its own");
    assert!(world.specs[0].start_on_voice);
    // Heard while it is paused: it goes on as one that has begun.
    let session_id = world.session_id();
    let pause = Command::PauseRecording { session_id: session_id.clone(), which: id("other"), behavior: None };
    assert_eq!(world.command(pause), Ok(Done::Nothing));
    let recording = world.started[1].recording;
    world.media_event(leg, MediaKind::RecordingVoice { recording });
    world.run_for(S);
    assert_eq!(world.command(Command::ResumeRecording { session_id, which: id("other") }), Ok(Done::Nothing));
    assert_eq!(states(&world, "other"), ["armed", "paused", "recording"]);
    hang_up(&mut world);
}

#[test]
fn ur_020_nobody_spoke_is_an_end_of_its_own() {
    let mut world = World::new(waiting());
    world.speech = Duration::ZERO;
    world.call("100");
    world.run_to(S);
    start(&mut world, "mine", RecordingOptions { initial_silence: Some(secs(3)), ..RecordingOptions::default() }, vec![]).unwrap();
    world.run_for(5 * S);
    assert_eq!(states(&world, "mine"), ["recording", "finalizing", "no_input"]);
    assert_eq!(last(&world, "mine").result.map(|r| r.stop_reason), Some("initial_silence".into()));
    hang_up(&mut world);
}

#[test]
fn ur_018_a_stop_digit_ends_it_and_the_state_says_which() {
    let mut world = in_the_ivr();
    start(&mut world, "mine", RecordingOptions { stop_digits: Some("*#".into()), ..RecordingOptions::default() }, vec![]).unwrap();
    world.run_for(S);
    world.press('#');
    world.run_for(S);
    let told = last(&world, "mine");
    assert_eq!((told.phase, told.result.and_then(|r| r.stop_digit)), (Phase::Available, Some('#')));
    hang_up(&mut world);
}

#[test]
fn ur_035_who_hangs_up_ends_all_of_them_and_each_is_told_once() {
    let mut world = in_the_ivr();
    start(&mut world, "runs", RecordingOptions::default(), vec![]).unwrap();
    start(&mut world, "plays", graph(), vec![file("menu.wav")]).unwrap();
    start(&mut world, "waits", graph(), vec![]).unwrap();
    world.run_for(S);
    world.hangup(0);
    world.run_for(S);
    assert_eq!(states(&world, "runs"), ["recording", "stopping", "finalizing", "local_available", "available"]);
    assert_eq!(last(&world, "runs").result.map(|r| r.stop_reason), Some("remote_hangup".into()));
    for name in ["plays", "waits"] {
        let told = last(&world, name);
        assert_eq!((told.phase, told.reason.as_deref()), (Phase::Failed, Some("remote_hangup")), "{name}");
    }
    let ends =
        world.notifications.iter().filter(|n| matches!(n, Notification::RecordingState { status, .. } if status.phase.is_terminal()));
    assert_eq!(ends.count(), 3);
    assert_eq!(world.leaks(), None);
}

#[test]
fn ur_035_a_lost_file_is_a_failure_that_says_why() {
    let mut world = in_the_ivr();
    world.recording_fails = true;
    start(&mut world, "mine", RecordingOptions { max_duration: Some(secs(1)), ..RecordingOptions::default() }, vec![]).unwrap();
    world.run_for(3 * S);
    assert_eq!(states(&world, "mine"), ["recording", "finalizing", "failed"]);
    assert_eq!(last(&world, "mine").reason.as_deref(), Some("Storage full"));
    hang_up(&mut world);
}

#[test]
fn ur_035_the_shell_tells_how_the_file_moves_on_also_after_the_call() {
    for over in [false, true] {
        let mut world = World::with(configuration(tenant()), switch_config(7), Box::new(waiting()));
        world.call("100");
        world.run_to(S);
        let options =
            RecordingOptions { max_duration: Some(secs(1)), storage_class: StorageClass::TenantBucket, ..RecordingOptions::default() };
        start(&mut world, "mine", options, vec![]).unwrap();
        world.run_for(3 * S);
        if over {
            world.hangup(0);
            world.run_for(S);
        }
        let (session_id, domain, stored) = (world.session_id(), world.started[0].domain.clone(), last(&world, "mine"));
        let moved = |phase, url: Option<&str>| {
            let (url, access_token) = (url.map(str::to_owned), url.map(|_| "token".to_owned()));
            let status = Box::new(RecordingStatus { phase, url, access_token, ..stored.clone() });
            RecordingMoved { session_id: session_id.clone(), domain: domain.clone(), status }
        };
        for phase in [Phase::Uploading, Phase::Uploading, Phase::Recording] {
            world.input(Input::RecordingMoved(moved(phase, None)));
        }
        assert!(!world.steps.iter().any(|s| s.contains("recordingReady")), "it cannot be fetched yet");
        // Told twice: a session knows that, and what is over is forgotten.
        for _ in 0..if over { 1 } else { 2 } {
            world.input(Input::RecordingMoved(moved(Phase::Available, Some("https://x/1"))));
        }
        assert_eq!(states(&world, "mine"), ["recording", "finalizing", "local_available", "uploading", "available"], "{over}");
        let told = last(&world, "mine");
        assert_eq!((told.url.as_deref(), told.access_token.as_deref()), (Some("https://x/1"), Some("token")));
        assert_eq!(world.steps.iter().filter(|s| s.contains("recordingReady true")).count(), 1);
        if !over {
            world.hangup(0);
        }
        world.run_for(S);
        assert_eq!(world.leaks(), None);
        // A run later: whose call it was is known to nobody, and its end is told all the same; what is on its way is not.
        let mut later = World::with(configuration(tenant()), switch_config(8), Box::new(waiting()));
        for (phase, url) in [(Phase::Uploading, None), (Phase::Available, Some("https://x/1")), (Phase::Failed, None)] {
            later.input(Input::RecordingMoved(moved(phase, url)));
        }
        assert_eq!(states(&later, "mine"), ["available", "failed"]);
        let ready: Vec<&String> = later.steps.iter().filter(|s| s.contains("recordingReady")).collect();
        assert!(ready.len() == 2 && ready[0].contains("recordingReady true") && ready[1].contains("recordingReady false"), "{ready:?}");
    }
}

#[test]
fn ur_005_a_target_is_a_leg_a_connection_or_the_only_one_there_is() {
    let script = Script::new(|ask| match ask.hook {
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Call(Box::new(OutboundCall {
            dest_addr: "sip:bob@127.0.0.1:5080".into(),
            recording: Some(Box::new(RecordingOptions { control_id: Some("both".into()), ..RecordingOptions::default() })),
            ..OutboundCall::default()
        })))),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    });
    let mut world = World::new(script);
    world.users.insert("bob".into(), Plan::default());
    world.call("100");
    world.run_to(2 * S);
    let answered = world.notifications.iter().find_map(|n| match n {
        Notification::CallAnswered { connection_id, caller_participant_id, callee_participant_id, .. } => {
            Some((connection_id.clone(), caller_participant_id.clone(), callee_participant_id.clone()))
        }
        _ => None,
    });
    let (connection, alice, bob) = answered.expect("they talk");
    let session_id = world.session_id();
    let mut order = |target: Target| {
        let options = Box::new(RecordingOptions { stop_digits: Some(String::new()), ..RecordingOptions::default() });
        world.command(Command::StartRecording { session_id: session_id.clone(), target, options, prompts: vec![] })
    };
    for target in [Target::Session, Target::Connection(connection.clone()), Target::Participant(bob.clone())] {
        assert!(order(target.clone()).is_ok(), "{target:?}");
    }
    assert_eq!(order(Target::Participant("nobody".into())), Err(CommandError::Unknown("participant")));
    assert_eq!(order(Target::Connection("none".into())), Err(CommandError::Unknown("connection")));
    // Four taps on alice's leg: three are there with the one that the handler asked for.
    assert!(order(Target::Participant(alice.clone())).is_ok());
    assert_eq!(order(Target::Participant(alice.clone())), Err(CommandError::WrongState("too many recordings of one leg")));
    let of: Vec<_> = world.started.iter().map(|s| (s.connection_id.as_deref(), s.participant_id.as_str())).collect();
    let (c, a, b) = (Some(connection.as_str()), alice.as_str(), bob.as_str());
    assert_eq!(of, [(c, a), (c, a), (c, a), (None, b), (None, a)]);
    assert_eq!(states(&world, "both"), ["recording"]);
    // A split ends what records the connection, not what records a leg.
    assert!(world.command(Command::SplitConnection { session_id, connection_id: connection }).is_ok());
    world.run_for(S);
    assert_eq!(world.stops.iter().filter(|s| **s == StopReason::ConnectionSplit).count(), 3, "{:?}", world.stops);
    assert_eq!(last(&world, "both").result.map(|r| r.stop_reason), Some("connection_split".into()));
    world.run_for(S);
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
}

#[test]
fn ur_004_034_the_nodes_own_end_has_its_reason() {
    let mut world = in_the_ivr();
    start(&mut world, "mine", RecordingOptions::default(), vec![]).unwrap();
    world.run_for(S);
    world.input(Input::Release);
    world.run_for(S);
    assert_eq!(last(&world, "mine").result.map(|r| r.stop_reason), Some("node_shutdown".into()));
    assert_eq!(world.leaks(), None);
}

#[test]
fn ur_002_the_record_phrase_is_followed_where_it_has_a_name() {
    for name in [None, Some("greeting".to_owned())] {
        let phrase = RecordingOptions { control_id: name.clone(), max_duration: Some(secs(2)), ..RecordingOptions::default() };
        let mut commands = vec![IvrCommand {
            phrases: vec![file("hello.wav"), Phrase::Record(Box::new(phrase))],
            recorded_callback: true,
            ..IvrCommand::default()
        }];
        let mut world = World::new(Script::new(move |ask| match ask.hook {
            Hook::GetIvrCommand(_) => {
                Ok(Verdict::Ivr(Box::new(commands.pop().unwrap_or(IvrCommand { next_after: secs(500), ..IvrCommand::default() }))))
            }
            _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        }));
        world.call("100");
        world.run_to(5 * S);
        match name {
            None => assert!(!world.steps.iter().any(|s| s.contains("recordingState"))),
            Some(name) => {
                assert_eq!(states(&world, &name), ["queued", "recording", "finalizing", "local_available", "available"]);
                let Some(Hook::GetIvrCommand(request)) = world.asks.last().map(|a| a.hook.clone()) else { panic!("it is asked") };
                assert_eq!(request.recording.map(|r| r.control_id), Some(name));
            }
        }
        hang_up(&mut world);
    }
}

#[test]
fn ur_004_006_008_009_017_018_020_021_024_defaults_go_by_the_dialect() {
    let of = |dialect, place| RecordingOptions { dialect, ..RecordingOptions::default() }.filled(place);
    let say = |o: &RecordingOptions| {
        let ms = |d: Option<Duration>| d.map_or(0, |d| d.as_millis());
        format!(
            "{:?} {:?} {:?} beep={} stop={:?} initial={} max={} longest={} armed={}",
            o.mode.unwrap(),
            o.direction.unwrap(),
            o.channels.unwrap(),
            o.beep.unwrap(),
            o.stop_digits.as_deref().unwrap_or(""),
            ms(o.initial_silence),
            ms(o.max_silence),
            ms(o.max_duration),
            o.start_on_voice == Some(true)
        )
    };
    let long = limits::RECORD_DURATION.as_millis();
    for (dialect, place, expected) in [
        (Dialect::Native, Place::Phrase, format!("Foreground Speak Mono beep=false stop=\"\" initial=0 max=0 longest={long} armed=false")),
        (
            Dialect::Native,
            Place::Connection,
            format!("Background Both Mono beep=false stop=\"\" initial=0 max=0 longest={long} armed=false"),
        ),
        (
            Dialect::Iotcomms,
            Place::Connection,
            format!("Background Both Stereo beep=false stop=\"\" initial=0 max=0 longest={long} armed=false"),
        ),
        (Dialect::Swml, Place::Leg, format!("Background Both Mono beep=false stop=\"\" initial=0 max=0 longest={long} armed=false")),
        (Dialect::Ozeki, Place::Leg, format!("Background Speak Mono beep=false stop=\"\" initial=0 max=0 longest={long} armed=false")),
        (
            Dialect::Ozeki,
            Place::Connection,
            format!("Background Both Mono beep=false stop=\"\" initial=0 max=0 longest={long} armed=false"),
        ),
        (Dialect::Graph, Place::Connection, "Queued Speak Mono beep=true stop=\"\" initial=5000 max=5000 longest=5000 armed=false".into()),
        (
            Dialect::Aculab,
            Place::Phrase,
            "Foreground Speak Mono beep=false stop=\"#\" initial=3000 max=3000 longest=60000 armed=true".into(),
        ),
    ] {
        let filled = of(dialect, place);
        assert_eq!(say(&filled), expected, "{dialect:?} {place:?}");
        assert_eq!(filled.clone().filled(place), filled, "filled twice is as filled once");
    }
    assert_eq!(of(Dialect::Graph, Place::Leg).storage_class, StorageClass::Ephemeral);
    // AC-009: as long as later silence, whatever that is.
    let aculab = RecordingOptions {
        dialect: Dialect::Aculab,
        max_silence: Some(secs(7)),
        initial_silence: Some(secs(0)),
        ..RecordingOptions::default()
    };
    assert_eq!(aculab.filled(Place::Phrase).initial_silence, Some(secs(7)));
}

#[test]
fn ur_023_the_largest_file_is_so_many_frames() {
    let frames = |options: RecordingOptions| RecordingOptions { max_file_bytes: Some(320_128), ..options }.max_frames();
    let stereo = RecordingOptions { channels: Some(Channels::Stereo), ..RecordingOptions::default() };
    let law = RecordingOptions { encoding: Encoding::Alaw, ..RecordingOptions::default() };
    let mp3 = RecordingOptions { container: Some(Container::Mp3), ..RecordingOptions::default() };
    assert_eq!(
        [frames(RecordingOptions::default()), frames(stereo), frames(law), frames(mp3), frames(graph())],
        [1000, 500, 2000, 4000, 500].map(Some)
    );
    assert_eq!(RecordingOptions::default().max_frames(), None);
}

#[test]
fn ur_002_003_009_011_014_018_025_a_value_that_makes_no_sense_is_refused_by_name() {
    use crate::recording::CbcKey;
    let none = RecordingOptions::default;
    let cases: Vec<(&str, RecordingOptions)> = vec![
        ("controlId", RecordingOptions { control_id: Some("x".repeat(129)), ..none() }),
        ("controlId", RecordingOptions { control_id: Some(String::new()), ..none() }),
        ("controlId", RecordingOptions { control_id: Some("a\nb".into()), ..none() }),
        ("clientContext", RecordingOptions { client_context: Some("x".repeat(257)), ..none() }),
        ("fileName", RecordingOptions { file_name: Some("../x.wav".into()), ..none() }),
        ("fileName", RecordingOptions { file_name: Some("x.wav".into()), container: Some(Container::Mp3), ..none() }),
        ("encoding", RecordingOptions { encoding: Encoding::Mp3, ..none() }),
        ("encoding", RecordingOptions { encoding: Encoding::Alaw, container: Some(Container::Ogg), ..none() }),
        ("sampleRate", RecordingOptions { sample_rate: Some(44_100), ..none() }),
        ("sampleRate", RecordingOptions { sample_rate: Some(16_000), encoding: Encoding::Ulaw, ..none() }),
        ("bitrateKbps", RecordingOptions { bitrate_kbps: Some(7), ..none() }),
        ("channels", RecordingOptions { channels: Some(Channels::Stereo), direction: Some(Direction::Speak), ..none() }),
        ("stopDigits", RecordingOptions { stop_digits: Some("E".into()), ..none() }),
        ("maxDurationMs", RecordingOptions { max_duration: Some(Duration::MAX), ..none() }),
        ("maxSilenceMs", RecordingOptions { max_silence: Some(Duration::MAX), ..none() }),
        ("initialSilenceMs", RecordingOptions { initial_silence: Some(Duration::MAX), ..none() }),
        ("maxFileBytes", RecordingOptions { max_file_bytes: Some(0), ..none() }),
        ("sensitivity", RecordingOptions { sensitivity: Some(101), ..none() }),
        ("encryption", RecordingOptions { encryption: Some(CbcKey { key: vec![0; 15], iv: [0; 16] }), ..none() }),
        ("retentionMs", RecordingOptions { retention: Some(Duration::MAX), ..none() }),
        ("statusUrl", RecordingOptions { status_url: Some("ftp://x".into()), ..none() }),
        ("onAvailableUrl", RecordingOptions { on_available_url: Some(format!("https://x/{}", "y".repeat(2048))), ..none() }),
    ];
    for (field, options) in cases {
        assert_eq!(options.check().err().map(|(field, _)| field), Some(field), "{options:?}");
    }
    assert_eq!(RecordingOptions { client_context: Some("ä".repeat(256)), ..none() }.check(), Ok(()));
    // The command says the same, and what only its place makes impossible too.
    let mut world = in_the_ivr();
    for (field, options) in [
        ("sensitivity", RecordingOptions { sensitivity: Some(101), ..none() }),
        ("mode", RecordingOptions { mode: Some(Mode::Foreground), ..none() }),
        ("channels", RecordingOptions { channels: Some(Channels::Stereo), ..graph() }),
    ] {
        let refused = start(&mut world, "x", options, vec![]);
        assert!(matches!(&refused, Err(CommandError::BadValue { field: f, .. }) if *f == field), "{field}: {refused:?}");
    }
    hang_up(&mut world);
}

#[test]
fn ur_010_a_kind_of_file_that_the_node_cannot_make_is_refused_before_it_is_announced() {
    let why = "MP3 needs a library";
    let config = || SwitchConfig { unwritable: Unwritable(vec![(Container::Mp3, why.into())]), ..switch_config(7) };
    let named = |name: &str| RecordingOptions { file_name: Some(name.into()), ..RecordingOptions::default() };
    let mut world = World::with(configuration(tenant()), config(), Box::new(waiting()));
    world.call("100");
    world.run_to(S);
    for (field, options) in [
        ("container", RecordingOptions { container: Some(Container::Mp3), ..RecordingOptions::default() }),
        ("fileName", named("x.mp3")),
        ("recordingFileName", RecordingOptions::of_call(Some("x.mp3".into()))),
    ] {
        let refused = start(&mut world, "x", options, vec![]);
        assert_eq!(refused, Err(CommandError::BadValue { field, why: why.into() }));
    }
    assert!(world.started.is_empty(), "nobody was told of any");
    let of_call = start(&mut world, "y", RecordingOptions::of_call(None), vec![]);
    assert!(matches!(&of_call, Ok(Done::Recording { file_name, .. }) if file_name.ends_with(".wav")), "{of_call:?}");
    assert!(start(&mut world, "x", named("x.ogg"), vec![]).is_ok());
    hang_up(&mut world);

    // A handler's command is carried out but for that phrase.
    let script = Script::new(|ask| match ask.hook {
        Hook::GetIvrCommand(_) => {
            let options = RecordingOptions { file_name: Some("x.mp3".into()), ..RecordingOptions::default() };
            let phrases = vec![Phrase::Record(Box::new(options)), Phrase::Silence { duration: secs(2) }];
            Ok(Verdict::Ivr(Box::new(IvrCommand { phrases, hangup: true, ..IvrCommand::default() })))
        }
        Hook::NewCall(_) => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
    });
    let mut world = World::with(configuration(tenant()), config(), Box::new(script));
    world.call("100");
    world.run_to(S);
    assert!(world.started.is_empty());
    let alarms = world.notifications.iter().filter_map(|n| if let Notification::Alarm(alarm) = n { alarm.details.clone() } else { None });
    assert!(alarms.collect::<Vec<_>>().iter().any(|details| details.contains(&format!("record: fileName: {why}"))));
    world.run_to(10 * S);
    assert_eq!(world.records.len(), 1, "it went on to its end");
}
