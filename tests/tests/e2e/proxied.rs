//! Kamailio stands between everybody and records its route: what the node sends within a dialog goes through it, in both directions.
//! The scenarios count Via headers, kamailio's log counts requests.

use hookswitch_tests::guests::two_party;
use hookswitch_tests::kamailio::Kamailio;
use hookswitch_tests::node::Node;
use hookswitch_tests::sipp::{Setup, Sipp};

fn caller(node: &Node, proxy: &Kamailio, scenario: &str) -> Setup {
    let setup = Sipp::caller(node, scenario, "bridge").through(proxy.sip());
    setup.key("host", &node.sip().to_string()).dest(&proxy.uri("bob"))
}

#[test]
fn hold_and_release_follow_the_recorded_route() {
    let node = two_party();
    let callee = Sipp::callee(&node, "proxied-callee-is-held").start();
    let proxy = Kamailio::before(&node, &callee.uri());
    caller(&node, &proxy, "proxied-caller-holds").talks_ms(300).start().end().ok();
    callee.end().ok();
    // Each of them twice: caller to node, node to callee. The INVITEs: one that calls, one that holds, one that resumes.
    for (method, times) in [("INVITE", 6), ("ACK", 6), ("BYE", 2)] {
        proxy.wait_passed(method, times);
    }
}

#[test]
fn the_nodes_own_bye_follows_the_callers_route() {
    let node = two_party();
    let callee = Sipp::callee(&node, "proxied-callee-hangs-up").talks_ms(300).start();
    let proxy = Kamailio::before(&node, &callee.uri());
    let caller = caller(&node, &proxy, "proxied-caller-is-released").start();
    callee.end().ok();
    caller.end().ok();
    for (method, times) in [("INVITE", 2), ("ACK", 2), ("BYE", 2)] {
        proxy.wait_passed(method, times);
    }
}
