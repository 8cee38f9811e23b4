//! Devices and the vendor's set-up, as a client meets them.

use crate::api::tests::{TENANT, TOKEN, World, world};
use crate::limits;
use serde_json::{Value, json};

const JSON: Option<&str> = Some("application/json");
const DEVICES: &str = "/provisioning/device/a.example";

fn put(world: &World, body: &Value) -> (u16, Value) {
    world.ask("PUT", DEVICES, Some(TOKEN), JSON, body.to_string().as_bytes())
}

#[test]
fn ic_086_a_device_is_provisioned_listed_and_forgotten() {
    let world = world();
    let unit = json!({ "deviceId": "unit-1", "authType": "disabled", "deviceType": "alarmUnit", "description": "the hall's", "newer": 1 });
    assert_eq!(put(&world, &unit).0, 201);
    assert_eq!(put(&world, &json!({ "deviceId": "unit-1" })).0, 200);
    assert_eq!(put(&world, &json!({ "deviceId": 4711, "deviceType": "alarmUnit" })).0, 201, "IC-013");
    let listed = world.get(DEVICES);
    let shown: Vec<_> =
        listed["devices"].as_array().expect("a list").iter().map(|d| (d["deviceId"].as_str(), d["deviceType"].as_str())).collect();
    assert_eq!(shown, [(Some("4711"), Some("alarmUnit")), (Some("unit-1"), Some(""))], "a device is put as a whole");
    for (body, field) in [
        (json!({}), "deviceId"),
        (json!({ "deviceId": "" }), "deviceId"),
        (json!({ "deviceId": "a@b" }), "deviceId"),
        (json!({ "deviceId": "a", "authType": "digest" }), "authType"),
        (json!({ "deviceId": "a", "description": "x".repeat(200) }), "description"),
    ] {
        let (status, answer) = put(&world, &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{body}: {status} {answer}");
    }
    assert_eq!(world.ask("DELETE", &format!("{DEVICES}/unit-1"), Some(TOKEN), None, b"").0, 200);
    assert_eq!(world.ask("DELETE", &format!("{DEVICES}/unit-1"), Some(TOKEN), None, b"").0, 404);
    assert_eq!(world.ask("PUT", "/provisioning/device/nobody.example", Some(TOKEN), JSON, unit.to_string().as_bytes()).0, 404);
    let audit = world.get("/admin/audit").to_string();
    assert!(audit.contains("device changed") && audit.contains("device removed"), "{audit}");
    const { assert!(limits::DEVICES >= 1000) };
}

#[test]
fn ic_086_087_a_tenant_sets_up_what_is_its_own() {
    let world = world();
    let token = |domain: &str, body: &[u8]| {
        world.ask("PUT", &format!("/admin/tenants/{domain}"), Some(TOKEN), JSON, b"{}");
        let made = world.ask("PUT", &format!("/admin/tenants/{domain}/tokens/t"), Some(TOKEN), JSON, body).1;
        made["token"].as_str().expect("told").to_owned()
    };
    let (own, other) = (token(TENANT, b""), token("b.example", b""));
    let reads = token("c.example", br#"{"roles":["read"]}"#);
    let device = json!({ "deviceId": "unit-1" }).to_string();
    for (path, domain) in [("/provisioning/device/", TENANT), ("/provisioning/cloudsipua/", TENANT), ("/mediaservice/", TENANT)] {
        let (method, path) = (if path.contains("device") { "PUT" } else { "POST" }, format!("{path}{domain}"));
        assert!((200..300).contains(&world.ask(method, &path, Some(&own), JSON, device.as_bytes()).0), "{path}");
        assert_eq!(world.ask(method, &path, Some(&other), JSON, device.as_bytes()).0, 403, "{path}");
        assert_eq!(world.ask(method, &path, None, JSON, device.as_bytes()).0, 401, "{path}");
    }
    assert_eq!(world.ask("PUT", "/provisioning/device/c.example", Some(&reads), JSON, device.as_bytes()).0, 403, "it needs `deploy`");
    assert_eq!(world.ask("GET", "/provisioning/device/c.example", Some(&reads), None, b"").0, 200);
    assert_eq!(world.ask("PUT", "/admin/tenants/mediaservice", Some(TOKEN), JSON, b"{}").0, 400, "a word of the API");
}

#[test]
fn ic_087_the_vendors_set_up_becomes_settings_and_a_secret() {
    let world = world();
    let tenant = json!({ "outbox_origins": ["https://app.example", "https://alarms.example"] });
    world.ask("PUT", "/admin/tenants/a.example", Some(TOKEN), JSON, tenant.to_string().as_bytes());
    let post = |path: &str, body: &Value| world.ask("POST", path, Some(TOKEN), JSON, body.to_string().as_bytes());
    let body = json!({ "callbackBaseUrl": "https://app.example/hooks", "alarmUrl": "https://alarms.example/in" });
    let (status, answer) = post("/mediaservice/a.example", &body);
    assert_eq!((status, answer), (200, json!({ "success": true, "sipAddress": "sip:a.example" })));
    let settings = || {
        let listed = world.get("/a.example/guests/settings");
        let one = |s: &Value| (s["key"].as_str().unwrap_or_default().to_owned(), s["value"].as_str().unwrap_or_default().to_owned());
        let mut all: Vec<_> = listed["settings"].as_array().expect("a list").iter().map(one).collect();
        all.sort();
        all
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(settings(), [pair("alarm_url", "https://alarms.example/in"), pair("callback_base_url", "https://app.example/hooks")]);
    // What is not named stays; the key is kept and not shown.
    let key = include_str!("../testdata/tenant-private.pem");
    let moved = json!({ "callbackBaseUrl": "https://app.example/v2", "callbackKey": key });
    let (status, answer) = post("/provisioning/cloudsipua/a.example", &moved);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(settings()[0], pair("alarm_url", "https://alarms.example/in"));
    assert_eq!(settings()[1], pair("callback_base_url", "https://app.example/v2"));
    assert_eq!(world.get("/a.example/guests/secrets")["secrets"][0]["name"], "callback-key");
    for (body, field) in [
        (json!({ "callbackBaseUrl": "https://evil.example/hooks" }), "callbackBaseUrl"),
        (json!({ "alarmUrl": "ftp://alarms.example" }), "alarmUrl"),
        (json!({ "callbackKey": "no key" }), "callbackKey"),
    ] {
        let (status, answer) = post("/mediaservice/a.example", &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{body}: {status} {answer}");
    }
    assert_eq!(settings()[1], pair("callback_base_url", "https://app.example/v2"), "a refused one changes nothing");
}
