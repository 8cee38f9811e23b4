//! Calls of devices through a real switch and real telephones: two who call the node and hear each other, and nothing of it passes the
//! node. Each is the other's device.

use crate::no_leaks;
use hookswitch_call::{Command, Done, Hook, Notification, Routing, Tenant, Verdict};
use hookswitch_proto::media::tone::clip_from_pcm;
use hookswitch_proto::media::{Codec, Direction};
use hookswitch_proto::sdp::{Device, Format, Target};
use hookswitch_sim::handler::{Scripted, drop_with};
use hookswitch_sim::numbered::{self, Tally};
use hookswitch_sim::world::{configuration, switch_config, tenant};
use hookswitch_sim::{Act, Line, Path, PhoneId, Plane, Script, World};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Where its media goes is what the other said of itself.
fn device(target: &Target) -> Box<Device> {
    Box::new(Device { address: target.address, format: Format::Pcmu, telephone_event: None, crypto: Vec::new() })
}

/// Alice calls a device; bob calls a number, is given alice as his device, and becomes hers. The answer to alice is lost twice.
fn world() -> (World, PhoneId, PhoneId) {
    let networks = vec!["192.0.2.0/24".parse().expect("a network")];
    let tenant = Tenant { devices: ["device".to_owned()].into(), media_addresses: networks, ..tenant() };
    let alices = Rc::<RefCell<Option<Target>>>::default();
    let handler = Scripted::new(move |ask| {
        Ok(match &ask.hook {
            Hook::NewRemoteCall(call) => {
                alices.borrow_mut().clone_from(&call.target);
                Verdict::Noted { session_reference: None }
            }
            Hook::NewCall(_) => {
                let device = device(alices.borrow().as_ref().expect("alice called first"));
                Verdict::Routing(Routing::HttpCall { device, session_reference: None })
            }
            _ => Verdict::Routing(drop_with(None)),
        })
    });
    let mut world = World::with(1, configuration(tenant), switch_config(1), Box::new(handler));
    world.network.usual = Path::delayed(ms(20));
    let counts = |name: &str| {
        let script = Script { play: Some(clip_from_pcm(&numbered::pcm(2000), 8000)), record: true, ..Script::default() };
        Line { codecs: vec![Codec::Pcmu], ..Line::new(name, script) }
    };
    let alice = world.call_from(counts("alice"), "device");
    world.run_to_ms(100);
    let session_id = world.session_id();
    let bob = world.call_from(counts("bob"), "100");
    world.run_to_ms(500);
    let target = world.notifications.iter().find_map(|n| match n {
        Notification::CallAnswered { target, .. } => target.as_deref().cloned(),
        _ => None,
    });
    let target = target.expect("bob is connected");
    world.lose("node", "alice", "200", 2);
    let answer = Command::AnswerRemoteCall { session_id, device: device(&target), session_reference: None };
    assert_eq!(world.command(answer), Some(Ok(Done::Nothing)));
    (world, alice, bob)
}

#[test]
fn sm_012_media_goes_past_the_node_and_sip_survives_what_is_lost() {
    let (mut world, alice, bob) = world();
    world.run_to_ms(10_000);
    for (who, id) in [("alice", alice), ("bob", bob)] {
        let tally = Tally::of(world.heard(id));
        assert!(tally.numbered > 300 && tally.missing == 0, "{who} hears {tally:?}\n{}", world.ladder());
    }
    let media = world.ladder_of(&[Plane::Media]);
    assert_eq!(media, "", "no leg was ever open");
    // Bob holds and talks on: it is for the device, not for the node.
    world.act(bob, Act::Offer(Direction::SendOnly));
    world.run_to_ms(10_500);
    world.hang_up(alice);
    world.hang_up(bob);
    world.run_to_ms(11_000);
    let ladder = world.ladder();
    assert_eq!(ladder.matches("call-answered").count(), 2, "{ladder}");
    assert!(ladder.contains("call-notify reInvite"), "{ladder}");
    assert_eq!(ladder.matches("call-event calling-party-drop").count(), 2, "{ladder}");
    assert_eq!(ladder.matches("session-completed callingPartyHangup").count(), 2, "{ladder}");
    no_leaks(world);
}
