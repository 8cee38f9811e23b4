//! Numbers in IN mode (IC-125, IC-195 to IC-200), in virtual time: the handler says which call it is, and the call goes to the IVR.

use crate::contract::Script;
use crate::contract::world::{World, configuration, switch_config, tenant};
use crate::door::{Counter, FallbackMode, NumberFallback, Tenant};
use crate::hook::*;
use std::sync::Arc;

const S: u64 = 1000;

fn identified(session_id: Option<&str>, reference: Option<&str>) -> Result<Verdict, HookFailure> {
    Ok(Verdict::Identified(Identified { session_id: session_id.map(str::to_owned), session_reference: reference.map(str::to_owned) }))
}

/// getCallIdentifier: these, one after the other. The IVR hangs up.
fn world_of(tenant: Tenant, answers: Vec<Result<Verdict, HookFailure>>) -> World {
    let mut answers = answers.into_iter();
    let script = Script::new(move |ask| match ask.hook {
        Hook::GetCallIdentifier(_) => answers.next().unwrap_or_else(|| identified(None, None)),
        Hook::GetIvrCommand(_) => Ok(Verdict::Ivr(Box::new(IvrCommand { hangup: true, ..IvrCommand::default() }))),
        _ => Ok(Verdict::Routing(Routing::Drop { drop_code: Some("busy".into()), session_reference: None })),
    });
    World::with(configuration(tenant), switch_config(7), Box::new(script))
}

fn in_mode() -> Tenant {
    Tenant { in_numbers: vec!["900".into(), "88*".into()], ..tenant() }
}

fn no_leaks(world: &mut World) {
    assert_eq!(world.leaks(), None, "{}", world.ladder(&[]));
    assert_eq!(world.count(Counter::SessionPanicked), 0, "{:?}", world.logs);
}

#[test]
fn ic_125_195_196_197_199_a_number_in_in_mode_is_identified_and_goes_to_the_ivr() {
    for number in ["900", "88", "8812"] {
        let mut world = world_of(in_mode(), vec![identified(None, Some("{\"order\":7}"))]);
        world.call(number);
        world.run_to(2 * S);
        let names: Vec<&str> = world.asks.iter().map(|ask| ask.hook.name()).collect();
        assert_eq!(names, ["getCallIdentifier", "getIvrCommand"], "{number}");
        let Hook::GetCallIdentifier(request) = &world.asks[0].hook else { panic!("it was asked first") };
        assert_eq!((request.called_party.as_str(), request.info.session_id.len(), request.participant_id.len()), (number, 36, 36));
        assert_eq!(request.info.session_reference, None);
        let command = world.asks[1].hook.info();
        assert_eq!((&command.session_id, command.session_reference.as_deref()), (&request.info.session_id, Some("{\"order\":7}")));
        assert_eq!(world.records[0].final_status, 200);
        no_leaks(&mut world);
    }
}

#[test]
fn ic_125_other_numbers_are_asked_about_as_ever() {
    for number in ["90", "9000", "8", "100"] {
        let mut world = world_of(in_mode(), vec![]);
        world.call(number);
        world.run_to(S);
        assert_eq!((world.asks[0].hook.name(), world.records[0].final_status), ("newCall", 486), "{number}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_198_200_another_session_and_any_failure_end_as_a_failed_new_call() {
    let refused = Err(HookFailure::Refused { message: "no".into() });
    let routing = Ok(Verdict::Routing(Routing::Ivr { session_reference: None }));
    let large = "x".repeat(5000);
    for (answer, error) in [
        (identified(Some("another"), None), "newCall request failed"),
        (identified(None, Some(&large)), "newCall request failed"),
        (routing, "newCall request failed"),
        (refused, "newCall request failed"),
        (Err(HookFailure::Empty), "newCall response empty"),
        (Err(HookFailure::Unavailable { why: "no version".into() }), "newCall request failed"),
    ] {
        let what = format!("{answer:?}");
        let mut world = world_of(in_mode(), vec![answer]);
        world.call("900");
        world.run_to(S);
        assert_eq!(world.alarms(), [format!("newCallEventError {error}")], "{what}");
        let details =
            world.notifications.iter().find_map(|n| if let Notification::Alarm(alarm) = n { alarm.details.clone() } else { None });
        assert!(details.is_some_and(|text| text.starts_with("getCallIdentifier: ")), "{what}");
        assert_eq!(world.records[0].final_status, 503, "{what}");
        no_leaks(&mut world);
    }
}

#[test]
fn ic_198_the_right_session_is_no_mistake() {
    let script = Script::new(|ask| match &ask.hook {
        Hook::GetCallIdentifier(request) => identified(Some(&request.info.session_id), None),
        _ => Ok(Verdict::Ivr(Box::new(IvrCommand { hangup: true, ..IvrCommand::default() }))),
    });
    let mut world = World::with(configuration(in_mode()), switch_config(7), Box::new(script));
    world.call("900");
    world.run_to(2 * S);
    assert_eq!((world.alarms().len(), world.records[0].final_status), (0, 200));
    no_leaks(&mut world);
}

#[test]
fn ic_200_a_lost_instance_is_asked_again_once_and_the_numbers_fallback_runs() {
    let trap = || Err(HookFailure::Trap { message: "unreachable".into() });
    let mut world = world_of(in_mode(), vec![trap(), identified(None, None)]);
    world.call("900");
    world.run_to(2 * S);
    let again: Vec<(&str, bool)> = world.asks.iter().map(|ask| (ask.hook.name(), ask.hook.info().restarted)).collect();
    assert_eq!(again, [("getCallIdentifier", false), ("getCallIdentifier", true), ("getIvrCommand", true)]);
    no_leaks(&mut world);

    let phrases = vec![crate::contract::file("hello.wav")];
    let fallback = NumberFallback { mode: FallbackMode::OnError, phrases, call: None, expires_at_ms: u64::MAX };
    let tenant = Tenant { number_fallbacks: [("900".to_owned(), Arc::new(fallback))].into(), ..in_mode() };
    let mut world = world_of(tenant, vec![trap(), trap()]);
    world.call("900");
    world.run_to(5 * S);
    // The second one is equal to the first, and held back.
    assert_eq!(world.alarms(), ["newCallEventError newCall request failed", "emergencyFallback triggeredByError"]);
    assert_eq!((world.records[0].final_status, world.reason()), (200, Some("fallback")));
    no_leaks(&mut world);
}

#[test]
fn ic_200_a_caller_who_gives_up_meanwhile_is_not_identified() {
    let mut world = world_of(in_mode(), vec![]);
    world.thinking = std::time::Duration::from_secs(2);
    world.call("900");
    world.run_to(S);
    world.cancel(0);
    world.run_to(5 * S);
    assert_eq!((world.asks.len(), world.records[0].final_status), (1, 487));
    no_leaks(&mut world);
}
