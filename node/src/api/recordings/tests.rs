//! Links, holds, who heard what, and erasing, over a real listener.

use super::super::tests::{TENANT, TOKEN, World, world};
use crate::deliver::tests::{S3, SECRET};
use crate::store::{CallRow, RecordingRow, RecordingState};
use serde_json::{Value, json};
use std::time::Duration;

const JSON: Option<&str> = Some("application/json");

fn tenants_token(world: &World, domain: &str) -> String {
    world.ask("PUT", &format!("/admin/tenants/{domain}"), Some(TOKEN), JSON, b"{}");
    let (_, made) = world.ask("PUT", &format!("/admin/tenants/{domain}/tokens/ci"), Some(TOKEN), None, b"");
    made["token"].as_str().expect("a token").to_owned()
}

fn ask(world: &World, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    world.ask(method, path, Some(token), JSON.filter(|_| !body.is_empty()), body.as_bytes())
}

fn access(world: &World, id: &str) -> Vec<Value> {
    world.get(&format!("/a.example/recordings/{id}/access"))["access"].as_array().expect("a list").clone()
}

#[test]
fn ur_033_a_link_is_the_only_thing_that_it_opens() {
    let world = world();
    for id in ["r1", "r2"] {
        world.recording(id, RecordingState::Available, 1, Some(b"0123456789"));
    }
    world.recording("failed", RecordingState::Failed, 1, None);
    let own = tenants_token(&world, "b.example");
    let (status, made) = ask(&world, "POST", "/a.example/recordings/r1/link", TOKEN, json!({ "expires_in_s": 60 }));
    assert_eq!(status, 201, "{made}");
    let (url, token) = (made["link"]["url"].as_str().expect("a URL"), made["link"]["token"].as_str().expect("a token"));
    assert_eq!(url, "/a.example/recordings/r1/audio");
    let mut answer = world.raw("GET", url, Some(token), None, b"");
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].as_bytes()), (200, b"audio/wav".as_slice()));
    assert_eq!(answer.body_mut().read_to_vec().expect("audio"), b"0123456789");
    assert_eq!(world.ranged(url, token, "bytes=2-4"), (206, b"234".to_vec()));

    // Without a token, with noise, or a changed one.
    for token in [None, Some("noise"), Some(&token[..token.len() - 1])] {
        assert_eq!(world.ask("GET", url, token, None, b"").0, 401);
    }
    // Nothing else opens, whether it exists or not.
    for (method, path) in [
        ("GET", "/a.example/recordings/r2/audio"),
        ("GET", "/a.example/recordings/none/audio"),
        ("GET", "/a.example/recordings/r1"),
        ("GET", "/a.example/recordings/r1/access"),
        ("DELETE", "/a.example/recordings/r1"),
        ("POST", "/a.example/recordings/r1/link"),
        ("GET", "/a.example/recordings"),
        ("GET", "/b.example/recordings/r1/audio"),
        ("GET", "/admin/tenants"),
        ("GET", "/metrics"),
    ] {
        assert_eq!(world.ask(method, path, Some(token), None, b"").0, 401, "{method} {path}");
    }
    // Another tenant makes none, and neither does one who asks for too much.
    assert_eq!(ask(&world, "POST", "/b.example/recordings/r1/link", &own, json!({})).0, 404);
    assert_eq!(ask(&world, "POST", "/a.example/recordings/r1/link", &own, json!({})).0, 403);
    for life in [json!(0), json!(86_401), json!("60"), json!(-1)] {
        let (status, answer) = ask(&world, "POST", "/a.example/recordings/r1/link", TOKEN, json!({ "expires_in_s": life }));
        assert!(status == 400 && answer["message"].as_str().is_some_and(|why| why.starts_with("expires_in_s: ")), "{answer}");
    }
    assert_eq!(ask(&world, "POST", "/a.example/recordings/failed/link", TOKEN, json!({})).0, 409);
    assert_eq!(ask(&world, "POST", "/a.example/recordings/none/link", TOKEN, json!({})).0, 404);
    // Expired: as good as none.
    let (old, _) = world.archive.links.mint(1_000, TENANT, "r1", "operator", Duration::from_secs(60));
    assert_eq!(world.ask("GET", url, Some(&old), None, b"").0, 401);

    // Who made it and who used it.
    let seen: Vec<[String; 3]> =
        access(&world, "r1").iter().map(|row| ["who", "how", "range"].map(|field| row[field].as_str().unwrap_or("-").to_owned())).collect();
    assert_eq!(
        seen,
        [["link of operator", "link", "2-4"], ["link of operator", "link", "-"], ["operator", "link made", "-"]]
            .map(|row| row.map(str::to_owned))
    );
    assert!(access(&world, "r1")[0]["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")));

    // After the recording is gone the link says so.
    assert_eq!(ask(&world, "DELETE", "/a.example/recordings/r1", TOKEN, Value::Null).0, 200);
    let (status, answer) = world.ask("GET", url, Some(token), None, b"");
    assert_eq!((status, &answer["error"]), (410, &json!("gone")));
    for (method, path) in [("GET", ""), ("GET", "/audio"), ("POST", "/link"), ("PUT", "/hold"), ("DELETE", "")] {
        let body = if method == "PUT" || method == "POST" { json!({ "why": "x" }) } else { Value::Null };
        assert_eq!(ask(&world, method, &format!("/a.example/recordings/r1{path}"), TOKEN, body).0, 410, "{method} {path}");
    }
    assert_eq!(access(&world, "r1").len(), 3, "who heard it is still known");
    assert_eq!(world.ask("GET", "/b.example/recordings/r1", Some(&own), None, b"").0, 404, "of another tenant not even that it was there");
}

#[test]
fn everybody_who_hears_a_recording_is_noted() {
    let world = world();
    world.recording("r", RecordingState::Available, 1, Some(b"0123456789"));
    let own = tenants_token(&world, "a.example");
    world.raw("GET", "/a.example/recordings/r/audio", Some(&own), None, b"");
    world.raw("GET", "/a.example/promptfile/r-named.wav", Some(TOKEN), None, b"");
    world.ranged("/a.example/recordings/r/audio", TOKEN, "bytes=0-1");
    // Not heard: refused, or only looked at.
    world.ask("GET", "/a.example/recordings/r", Some(TOKEN), None, b"");
    assert_eq!(world.ranged("/a.example/recordings/r/audio", TOKEN, "bytes=100-").0, 416);
    let seen: Vec<Value> = access(&world, "r").iter().map(|row| json!([row["who"], row["how"], row["range"]])).collect();
    assert_eq!(seen, [json!(["operator", "audio", "0-1"]), json!(["operator", "file name", null]), json!(["token ci", "audio", null])]);
    let (status, _) = world.ask("GET", "/a.example/recordings/none/access", Some(TOKEN), None, b"");
    assert_eq!(status, 404);
}

#[test]
fn what_is_held_stays_until_it_is_released() {
    let world = world();
    world.recording("r", RecordingState::Available, 1, Some(b"said"));
    let own = tenants_token(&world, "a.example");
    for body in [json!({}), json!({ "why": "" }), json!({ "why": 5 }), json!({ "why": "x".repeat(501) }), json!([])] {
        assert_eq!(ask(&world, "PUT", "/a.example/recordings/r/hold", TOKEN, body).0, 400);
    }
    assert_eq!(ask(&world, "DELETE", "/a.example/recordings/r/hold", TOKEN, Value::Null).0, 404);
    let (status, held) = ask(&world, "PUT", "/a.example/recordings/r/hold", &own, json!({ "why": "case 5" }));
    assert_eq!((status, &held["hold"]["who"], &held["hold"]["why"]), (200, &json!("token ci"), &json!("case 5")));
    assert_eq!(world.get("/a.example/recordings/r")["hold"]["why"], json!("case 5"));
    for path in ["/a.example/recordings/r", "/a.example/promptfile/r-named.wav"] {
        let (status, answer) = ask(&world, "DELETE", path, TOKEN, Value::Null);
        assert!(status == 409 && answer["message"].as_str().is_some_and(|why| why.contains("legal hold")), "{answer}");
    }
    assert_eq!(world.archive.keeper.sweep(u64::MAX / 4), 0);
    assert!(world.folder.path().join("r.wav").exists());
    assert_eq!(ask(&world, "DELETE", "/a.example/recordings/r/hold", &own, Value::Null).0, 200);
    assert_eq!(ask(&world, "DELETE", "/a.example/recordings/r", &own, Value::Null).0, 200);
    let what: Vec<Value> = world.get("/admin/audit?limit=5")["audit"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|line| line["outcome"] == "done")
        .map(|line| json!([line["who"], line["what"]]))
        .collect();
    assert_eq!(
        what,
        [json!(["token ci", "recording deleted"]), json!(["token ci", "recording released"]), json!(["token ci", "recording held"])]
    );
}

#[test]
fn a_party_is_erased_but_for_what_is_held() {
    let world = world();
    for (id, caller, called) in [("heard", "+4670", "100"), ("held", "+4670", "100"), ("asked", "100", "+4670"), ("other", "+4671", "100")]
    {
        let path = world.folder.path().join(format!("{id}.wav"));
        std::fs::write(&path, b"said").expect("written");
        std::fs::write(format!("{}.json", path.display()), b"{}").expect("written");
        let row = RecordingRow {
            id: id.into(),
            domain: TENANT.into(),
            session: format!("session-of-{id}"),
            caller: caller.into(),
            called: called.into(),
            file_name: format!("{id}.wav"),
            path: path.to_string_lossy().into_owned(),
            created_at: 1,
            state: RecordingState::Available,
            ..RecordingRow::default()
        };
        world.store.put_recording(row).expect("put");
        let call = CallRow {
            session: format!("session-of-{id}"),
            domain: TENANT.into(),
            caller: caller.into(),
            called: called.into(),
            ..CallRow::default()
        };
        world.store.save_call(call);
    }
    world
        .store
        .put_recording(RecordingRow { id: "running".into(), domain: TENANT.into(), caller: "+4670".into(), ..RecordingRow::default() })
        .expect("put");
    // The same number with another tenant is another's business.
    let own = tenants_token(&world, "b.example");
    world.store.save_call(CallRow { session: "s".into(), domain: "b.example".into(), caller: "+4670".into(), ..CallRow::default() });
    assert_eq!(ask(&world, "PUT", "/a.example/recordings/held/hold", TOKEN, json!({ "why": "a court" })).0, 200);
    for body in [
        json!({}),
        json!({ "party": "" }),
        json!({ "party": "a\nb" }),
        json!({ "party": "x", "dry_run": 1 }),
        json!({ "party": "x", "dryrun": true }),
        json!([]),
    ] {
        assert_eq!(ask(&world, "POST", "/a.example/privacy/erase", TOKEN, body.clone()).0, 400, "{body}");
    }
    assert_eq!(ask(&world, "POST", "/a.example/privacy/erase", &own, json!({ "party": "+4670" })).0, 403);

    let there = |id: &str| world.folder.path().join(format!("{id}.wav")).exists();
    let (status, dry) = ask(&world, "POST", "/a.example/privacy/erase", TOKEN, json!({ "party": "tel:+4670", "dry_run": true }));
    let erased = &dry["erased"];
    assert_eq!(
        (status, &erased["recordings"], &erased["held"], &erased["running"]),
        (200, &json!(["heard", "asked"]), &json!(["held"]), &json!(["running"])),
        "{dry}"
    );
    assert!(there("heard") && there("asked"));
    let (_, done) = ask(&world, "POST", "/a.example/privacy/erase", TOKEN, json!({ "party": "sip:+4670@example.com" }));
    let erased = &done["erased"];
    assert_eq!(
        (&erased["recordings"], &erased["held"], &erased["call_records"]),
        (&json!(["heard", "asked"]), &json!(["held"]), &json!(2)),
        "{done}"
    );
    assert_eq!(["heard", "asked", "held", "other"].map(there), [false, false, true, true]);
    assert!(!world.folder.path().join("heard.wav.json").exists());
    let calls: Vec<Value> =
        world.get("/admin/calls")["calls"].as_array().expect("a list").iter().map(|call| call["session"].clone()).collect();
    assert_eq!(calls, ["s", "session-of-other", "session-of-held"]);
    assert_eq!(world.ask("GET", "/a.example/recordings/heard", Some(TOKEN), None, b"").0, 410);
    // That it was done is known, but not of whom.
    let audit = world.get("/admin/audit?limit=3")["audit"].clone();
    assert_eq!((&audit[0]["what"], &audit[0]["who"]), (&json!("party erased"), &json!("operator")));
    assert!(
        audit[0]["detail"].as_str().is_some_and(|detail| detail.contains("2 recordings, 1 on hold, 1 running, 2 call records")),
        "{audit}"
    );
    assert!(!audit.to_string().contains("4670"), "{audit}");
}

#[test]
fn a_storage_is_set_and_its_credentials_are_never_shown() {
    let (world, s3) = (world(), S3::start());
    let own = tenants_token(&world, "a.example");
    let path = "/admin/tenants/a.example/storage";
    assert_eq!(ask(&world, "GET", path, TOKEN, Value::Null).0, 404);
    let good = json!({ "url": "s3://calls/in", "endpoint": format!("http://{}", s3.address), "key_id": "AKIATEST", "secret": SECRET });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, field) in [
        (json!({}), "url"),
        (with("url", json!("calls")), "url"),
        (with("url", json!("file:/srv/calls")), "endpoint"),
        (with("endpoint", json!("http://s3.example")), "endpoint"),
        (with("secret", Value::Null), "secret"),
        (with("secret", json!([SECRET])), "secret"),
        (with("key_id", json!("")), "key_id"),
        (with("region", json!("a b")), "region"),
        (with("every", json!("yes")), "every"),
        (with("bucket", json!("calls")), "bucket"),
    ] {
        let (status, answer) = ask(&world, "PUT", path, TOKEN, body);
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.starts_with(&format!("{field}: ")) && !message.contains(SECRET), "{field}: {status} {message}");
    }
    assert_eq!(ask(&world, "PUT", path, &own, good.clone()).0, 403, "where the node writes is the operator's business");
    assert_eq!(ask(&world, "PUT", "/admin/tenants/nobody.example/storage", TOKEN, good.clone()).0, 404);
    let (status, set) = ask(&world, "PUT", path, TOKEN, good.clone());
    assert_eq!((status, &set["works"], &set["why"]), (200, &json!(true), &Value::Null), "{set}");
    let (status, bad) = ask(&world, "PUT", path, TOKEN, with("secret", json!("wrong")));
    assert!(status == 200 && bad["works"] == json!(false) && bad["why"].as_str().is_some_and(|why| why.contains("403")), "{bad}");
    let shown = world.get(path);
    assert_eq!((&shown["storage"]["url"], &shown["storage"]["every"]), (&json!("s3://calls/in"), &json!(false)));
    let all = format!("{set}{bad}{shown}{}", world.get("/admin/audit"));
    assert!(!all.contains(SECRET) && !all.contains("AKIATEST"), "{all}");
    assert_eq!(ask(&world, "DELETE", path, TOKEN, Value::Null).0, 200);
    assert_eq!(ask(&world, "DELETE", path, TOKEN, Value::Null).0, 404);
}

#[test]
fn ur_032_a_tenant_says_how_long_recordings_are_kept() {
    let world = world();
    let put = |value: Value| ask(&world, "PUT", "/admin/tenants/b.example", TOKEN, json!({ "recording_retention_s": value }));
    let (status, answer) = put(json!(3600));
    assert_eq!((status, &answer["tenant"]["recording_retention_s"]), (201, &json!(3600)));
    assert_eq!(world.store.tenant("b.example").expect("read").and_then(|tenant| tenant.recording_retention_ms), Some(3_600_000));
    for value in [json!(0), json!(-1), json!("30d"), json!(1.5), json!(u64::MAX)] {
        assert_eq!(put(value.clone()).0, 400, "{value}");
    }
    assert_eq!(put(Value::Null).1["tenant"]["recording_retention_s"], Value::Null);
}

#[test]
fn ur_027_a_tenant_sets_changes_and_erases_its_key_and_its_recordings_go_with_it() {
    let world = world();
    let own = tenants_token(&world, "a.example");
    let path = "/a.example/recordingkeys";
    let hex = "0f".repeat(32);
    for body in [json!({ "key": "0f" }), json!({ "key": 5 }), json!({ "key": hex.replace('f', "g") }), json!({ "keys": hex }), json!([])] {
        let (status, answer) = ask(&world, "POST", path, &own, body);
        assert!(status == 400 && !answer.to_string().contains(&hex), "{answer}");
    }
    let strangers = tenants_token(&world, "b.example");
    assert_eq!(ask(&world, "POST", path, &strangers, json!({ "key": hex })).0, 403);
    assert_eq!(ask(&world, "POST", "/nobody.example/recordingkeys", TOKEN, json!({})).0, 404);
    let (status, first) = ask(&world, "POST", path, &own, json!({ "key": hex }));
    assert_eq!((status, &first["key"]["current"]), (201, &json!(true)), "{first}");
    assert_eq!(ask(&world, "POST", path, &own, json!({ "key": hex })).0, 200, "the same again");
    let name = first["key"]["name"].as_str().expect("a name").to_owned();
    for id in ["one", "held"] {
        let path = world.folder.path().join(format!("{id}.wav"));
        std::fs::write(&path, b"sealed").expect("written");
        let (_, wrapped) = world.archive.keys.data_key(TENANT, id).expect("a key");
        let row = RecordingRow {
            id: id.into(),
            domain: TENANT.into(),
            path: path.to_string_lossy().into_owned(),
            file_name: format!("{id}-named.wav"),
            state: RecordingState::Available,
            wrapped_key: Some(wrapped),
            ..RecordingRow::default()
        };
        world.store.put_recording(row).expect("put");
    }
    assert_eq!(ask(&world, "POST", path, &own, json!({})).0, 201, "one of the node's making");
    let keys = world.get(path)["keys"].as_array().expect("a list").clone();
    assert_eq!((keys.len(), keys.iter().filter(|key| key["current"] == json!(true)).count()), (2, 1));
    assert!(world.archive.keys.has_current(TENANT));

    let key = format!("{path}/{name}");
    assert_eq!(ask(&world, "PUT", "/a.example/recordings/held/hold", TOKEN, json!({ "why": "a court" })).0, 200);
    let (status, answer) = ask(&world, "DELETE", &key, &own, Value::Null);
    assert!(status == 409 && answer["message"].as_str().is_some_and(|why| why.starts_with("1 recordings")), "{answer}");
    assert_eq!(ask(&world, "DELETE", "/a.example/recordings/held/hold", TOKEN, Value::Null).0, 200);
    for other in ["nonsense", "0123456789abcdef"] {
        assert_eq!(ask(&world, "DELETE", &format!("{path}/{other}"), &own, Value::Null).0, 404);
    }
    assert_eq!(ask(&world, "DELETE", &format!("/b.example/recordingkeys/{name}"), &strangers, Value::Null).0, 404);
    let (status, erased) = ask(&world, "DELETE", &key, &own, Value::Null);
    assert_eq!((status, &erased["recordings"], erased["key"]["erased_at"].is_string()), (200, &json!(2), true), "{erased}");
    let (status, answer) = world.ask("GET", "/a.example/recordings/one/audio", Some(TOKEN), None, b"");
    assert!(status == 410 && answer["message"].as_str().is_some_and(|why| why.contains("erased the key")), "{answer}");
    assert_eq!(world.ask("GET", "/a.example/promptfile/one-named.wav", Some(TOKEN), None, b"").0, 410);
    assert_eq!(world.get("/a.example/recordings/one")["recording"]["state"], json!("available"), "that it was there is still known");
    assert_eq!(ask(&world, "POST", path, &own, json!({ "key": hex })).0, 409, "it does not come back");
    let audit = world.get("/admin/audit?limit=3").to_string();
    assert!(audit.contains("recording key erased") && audit.contains("2 recordings") && !audit.contains(&hex), "{audit}");
}
