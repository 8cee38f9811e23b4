//! An operator describes tenants in a file, gives out tokens with roles, limits what tenants use, and bills it: by the command line of a real
//! node, with real calls.

use hookswitch_tests::audio::{tone, write_wav};
use hookswitch_tests::node::{Node, Run, wait_for};
use serde_json::{Value, json};
use std::fs;

const DOMAIN: &str = "demo.localhost";

/// The command line of somebody who has this token and no other.
fn as_holder(node: &Node, token: &str, arguments: &[&str]) -> Run {
    let mut command = node.command(arguments);
    command.env("HOOKSWITCH_ADMIN_TOKEN", token);
    Run::of(arguments, &command.output().expect("the binary runs"))
}

fn token(node: &Node, arguments: &[&str]) -> String {
    let arguments = [&["tenant", "token"], arguments].concat();
    let run = node.cli(&arguments);
    run.ok();
    run.stdout.trim().to_owned()
}

fn apply(node: &Node, text: &str, more: &[&str]) -> Run {
    let file = node.file("tenants.toml");
    fs::write(&file, text).expect("written");
    node.cli(&[&["tenant", "apply", file.to_str().expect("our paths are UTF-8")], more].concat())
}

/// The lines of the demo tenant's log.
fn log_of(node: &Node) -> String {
    node.json(&["guest", "logs", "--domain", DOMAIN, "--json"]).to_string()
}

#[test]
fn tenants_are_as_their_file_describes_them() {
    let node = Node::demo();
    let exported = node.cli(&["tenant", "export"]);
    exported.ok().says("domain = \"demo.localhost\"");
    apply(&node, &exported.stdout, &[]).ok().says("nothing to change");

    let more = format!(
        "{}\n[[tenant]]\ndomain = \"shop.example\"\nnumbers = [\"700\"]\n\n[tenant.quotas]\nminutes_per_month = 100\n",
        exported.stdout
    );
    let dry = apply(&node, &more, &["--dry-run"]);
    assert_eq!(dry.status, Some(3), "something would change: {dry}");
    dry.says("+ tenant shop.example").says("+ numbers: \"700\"").says("+ quotas.minutes_per_month: 100");
    let none = node.cli(&["tenant", "export", "shop.example"]);
    none.fails(&["unknown domain shop.example"]);
    apply(&node, &more, &[]).ok().says("+ tenant shop.example");
    apply(&node, &more, &["--dry-run"]).ok().says("nothing to change");
    let again = node.cli(&["tenant", "export"]);
    apply(&node, &again.stdout, &["--dry-run"]).ok().says("nothing to change");

    apply(&node, "[[tenant]]\ndomain = \"shop.example\"\n\ncolour = \"red\"\n", &[]).fails(&["line 4", "colour"]);
    apply(&node, "[[tenant]]\ndomain = \"x.example\"\nnumbers = [\"700\"]\n", &[]).fails(&["700 belongs to shop.example"]);
    apply(&node, "[[tenant]]\ndomain = \"shop.example\"\n[tenant.quotas]\ncpu_weight = 0\n", &[])
        .fails(&["shop.example: quotas.cpu_weight"]);
    apply(&node, &exported.stdout, &["--prune", "--dry-run"]).says("- tenant shop.example");
    apply(&node, &exported.stdout, &["--prune"]).ok();
    node.cli(&["tenant", "export", "shop.example"]).fails(&["unknown domain"]);
}

#[test]
fn a_node_starts_with_the_tenants_of_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tenants.toml");
    let text = |calls: u32| format!("[[tenant]]\ndomain = \"shop.example\"\nmax_sessions = {calls}\n");
    fs::write(&file, text(5)).expect("written");
    let mut node = Node::with(false, &[("HOOKSWITCH_TENANTS_FILE", file.to_str().expect("our paths are UTF-8"))]);
    let calls = |node: &Node| node.json(&["tenant", "list", "--json"])["tenants"][0]["max_sessions"].clone();
    assert_eq!(calls(&node), json!(5));
    // What was changed meanwhile is as the file says again.
    node.cli(&["tenant", "put", "shop.example", "--max-sessions", "9"]).ok();
    fs::write(&file, text(7)).expect("written");
    node.kill();
    node.start();
    assert_eq!(calls(&node), json!(7));
    node.wait_log(&["tenants are as their file describes them", "changed=1"]);
}

#[test]
fn a_token_does_what_its_roles_say() {
    let node = Node::demo();
    let reader = token(&node, &[DOMAIN, "reader", "--role", "read"]);
    let office = token(&node, &[DOMAIN, "office", "--role", "operate", "--role", "read"]);
    let of_domain = |arguments: &[&'static str]| [arguments, &["--domain", DOMAIN]].concat();
    as_holder(&node, &reader, &of_domain(&["guest", "list"])).ok();
    as_holder(&node, &reader, &of_domain(&["recording", "list"])).ok();
    as_holder(&node, &reader, &of_domain(&["guest", "rollback"])).fails(&["has not the role deploy"]);
    as_holder(&node, &office, &of_domain(&["guest", "rollback"])).fails(&["has not the role deploy"]);
    as_holder(&node, &reader, &of_domain(&["privacy", "erase", "+4670", "--dry-run"])).fails(&["has not the role operate"]);
    as_holder(&node, &office, &of_domain(&["privacy", "erase", "+4670", "--dry-run"])).ok();
    as_holder(&node, &office, &["tenant", "list"]).fails(&["does not open this"]);

    let second = token(&node, &["rotate", DOMAIN, "office", "--overlap", "1h"]);
    for held in [&office, &second] {
        as_holder(&node, held, &of_domain(&["guest", "list"])).ok();
    }
    let listed = node.cli(&["tenant", "token", "list", DOMAIN]);
    listed.ok().says("operate,read");
    assert!(!listed.stdout.contains(&second[..16]), "what a token is is told once: {listed}");
    node.cli(&["tenant", "token", DOMAIN, "office", "--revoke"]).ok();
    as_holder(&node, &second, &of_domain(&["guest", "list"])).fails(&["401"]);

    let audit = node.cli(&["audit", "--domain", DOMAIN]);
    audit.ok().says("token reader").says("POST /demo.localhost/guests/rollback").says("forbidden").says("token rotated");
    for secret in [&reader, &office, &second] {
        assert!(!audit.stdout.contains(&secret[..16]), "{audit}");
    }
}

#[test]
fn who_has_used_up_his_quota_is_refused_by_name() {
    let node = Node::demo();
    let quotas = |arguments: &[&str]| node.cli(&[&["tenant", "put", DOMAIN], arguments].concat()).ok().clone();
    let refused = |quota: &str| node.metric("hookswitch_quota_refused_total", &[&format!("quota=\"{quota}\"")]);
    // Calls at a time.
    quotas(&["--max-sessions", "1"]);
    let first = node.phone("echo").seconds("6").start();
    wait_for("the first call", || node.json(&["session", "list", "--json"])["sessions"].as_array().is_some_and(|all| all.len() == 1));
    node.phone("echo").seconds("1").run().fails(&["486"]);
    first.end().ok();
    assert!(refused("max_sessions") >= 1.0);
    assert!(log_of(&node).contains("quota exceeded: max_sessions"), "{}", log_of(&node));
    // Calls a second.
    quotas(&["--max-sessions", "100", "--quota", "calls_per_second=0"]);
    node.phone("echo").seconds("1").run().fails(&["480"]);
    assert!(refused("calls_per_second") >= 1.0);
    // Instances: the handler's answer is the fallback's.
    quotas(&["--quota", "calls_per_second=", "--quota", "instances=0", "--fallback-status", "488"]);
    node.phone("echo").seconds("1").run().fails(&["488"]);
    assert!(log_of(&node).contains("quota exceeded: instances"), "{}", log_of(&node));
    // A month: what was used already, by the measurement that follows.
    quotas(&["--quota", "instances=", "--quota", "minutes_per_month=0"]);
    wait_for("the month is found used up", || {
        let run = node.phone("echo").seconds("1").run();
        run.status == Some(1) && run.stderr.contains("480")
    });
    assert!(refused("minutes_per_month") >= 1.0);
    // Storage: no prompt, no recording.
    quotas(&["--quota", "minutes_per_month=", "--quota", "storage_bytes=1"]);
    let wav = node.file("hello.wav");
    write_wav(&wav, &tone(440.0, 1.0));
    node.cli(&["prompt", "put", wav.to_str().expect("our paths are UTF-8"), "--domain", DOMAIN]).fails(&["storage_bytes", "507"]);
}

#[test]
fn usage_is_on_the_bill_and_survives_a_kill() {
    let mut node = Node::demo();
    node.phone("echo").seconds("2").run().ok();
    let bill = |node: &Node| -> Value { node.json(&["usage", "--json"])["usage"][0].clone() };
    wait_for("the call is on the bill", || bill(&node)["calls"] == json!(1));
    let before = bill(&node);
    let minutes = before["minutes_in"].as_f64().unwrap_or_default();
    assert!((0.02..0.1).contains(&minutes), "two seconds: {before}");
    // The handler's CPU time comes with the next measurement.
    wait_for("the handler's time is on the bill", || bill(&node)["guest_cpu_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    node.kill();
    node.start();
    let after = bill(&node);
    assert_eq!((&after["calls"], &after["minutes_in"]), (&before["calls"], &before["minutes_in"]));
    let csv = node.cli(&["usage", "--csv"]);
    csv.ok().says("day,domain,calls,").says(",demo.localhost,1,1,");
}
