//! Settings, secrets and the followed log, as a client meets them.

use crate::api::tests::{TENANT, TOKEN, world};
use crate::limits;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};

const JSON: Option<&str> = Some("application/json");

#[test]
fn settings_are_set_listed_and_forgotten() {
    let world = world();
    let put = |path: &str, body: &Value| world.ask("PUT", path, Some(TOKEN), JSON, body.to_string().as_bytes());
    assert_eq!(put("/a.example/guests/settings/greeting", &json!({ "value": "hello" })).0, 201);
    assert_eq!(put("/a.example/guests/settings/greeting", &json!({ "value": "" })).0, 200, "empty is a value");
    let listed = world.get("/a.example/guests/settings");
    assert_eq!((listed["settings"][0]["key"].as_str(), listed["settings"][0]["value"].as_str()), (Some("greeting"), Some("")));
    let long = "x".repeat(limits::SETTING_VALUE + 1);
    for (path, body, field) in [
        ("greeting", json!({ "value": 1 }), "value"),
        ("greeting", json!({}), "value"),
        ("greeting", json!({ "value": long }), "value"),
        ("greeting", json!({ "value": "x", "more": 1 }), "more"),
        ("two%20words", json!({ "value": "x" }), "key"),
        (&*"k".repeat(limits::SETTING_NAME + 1), json!({ "value": "x" }), "key"),
    ] {
        let (status, answer) = put(&format!("/a.example/guests/settings/{path}"), &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{path}: {status} {answer}");
    }
    for n in 1..limits::SETTINGS {
        assert_eq!(put(&format!("/a.example/guests/settings/k{n}"), &json!({ "value": "x" })).0, 201);
    }
    assert_eq!(put("/a.example/guests/settings/more", &json!({ "value": "x" })).0, 409);
    assert_eq!(world.ask("DELETE", "/a.example/guests/settings/greeting", Some(TOKEN), None, b"").0, 200);
    assert_eq!(world.ask("DELETE", "/a.example/guests/settings/greeting", Some(TOKEN), None, b"").0, 404);
}

#[test]
fn a_secret_goes_in_and_only_its_name_comes_out() {
    let world = world();
    let put = |name: &str, body: &Value| {
        world.ask("PUT", &format!("/a.example/guests/secrets/{name}"), Some(TOKEN), JSON, body.to_string().as_bytes())
    };
    assert_eq!(put("token", &json!({ "value": "correct horse" })).0, 201);
    assert_eq!(put("token", &json!({ "value": "battery staple" })).0, 200);
    for body in [json!({ "value": "" }), json!({ "value": ["battery"] }), json!({ "values": "battery" }), json!("battery")] {
        let (status, answer) = put("token", &body);
        assert!(status == 400 && !answer.to_string().contains("battery"), "{status} {answer}");
    }
    let everything = format!("{}{}", world.get("/a.example/guests/secrets"), world.get("/admin/audit"));
    assert!(everything.contains("\"token\"") && everything.contains("secret changed"), "{everything}");
    assert!(!everything.contains("horse") && !everything.contains("battery"), "{everything}");
    assert_eq!(world.ask("GET", "/a.example/guests/secrets/token", Some(TOKEN), None, b"").0, 405, "there is no way to read one");
    // Another tenant's token opens nothing of it.
    world.ask("PUT", "/admin/tenants/b.example", Some(TOKEN), JSON, b"{}");
    let token = world.ask("PUT", "/admin/tenants/b.example/tokens/t", Some(TOKEN), None, b"").1["token"].as_str().expect("told").to_owned();
    for path in ["secrets", "settings", "log"] {
        assert_eq!(world.ask("GET", &format!("/a.example/guests/{path}"), Some(&token), None, b"").0, 403, "{path}");
        assert_eq!(world.ask("GET", &format!("/b.example/guests/{path}"), Some(&token), None, b"").0, 200, "{path}");
    }
    assert_eq!(world.ask("DELETE", "/a.example/guests/secrets/token", Some(TOKEN), None, b"").0, 200);
    assert_eq!(world.ask("DELETE", "/a.example/guests/secrets/token", Some(TOKEN), None, b"").0, 404);
}

#[test]
fn a_log_is_followed_as_events_until_the_node_stops() {
    let world = world();
    let address = world.address;
    let events = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("http://{address}/{TENANT}/guests/log")).header("authorization", format!("Bearer {TOKEN}"));
        request.header("accept", "text/event-stream").call().expect("an answer")
    };
    let answer = events();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut lines = BufReader::new(answer.into_body().into_reader()).lines();
    let mut next = || lines.next().expect("not over").expect("read");
    let text = |line: &str| serde_json::from_str::<Value>(line.strip_prefix("data: ").expect("data")).expect("JSON")["text"].clone();
    assert_eq!(text(&next()), "before");
    assert_eq!(next(), "");
    world.says("a line\nof two");
    assert_eq!(text(&next()), "a line\nof two");
    assert_eq!(next(), "");
    // As many as may, and one more.
    let others: Vec<_> = (1..limits::LOG_FOLLOWERS).map(|_| events()).collect();
    assert!(others.iter().all(|answer| answer.status() == 200));
    assert_eq!(events().status(), 429);
    drop(others);
    let stopped = std::thread::spawn(move || world.stop());
    assert!(lines.all(|line| line.is_ok_and(|line| line.is_empty() || line.starts_with(':'))), "a clean end");
    stopped.join().expect("stopped");
}
