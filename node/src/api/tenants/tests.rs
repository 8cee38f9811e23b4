//! Roles, tokens, quotas, files of tenants, audit and usage, over a served API.

use super::super::endpoint::Need;
use super::super::endpoints;
use super::super::roles::Role;
use super::super::tests::{TENANT, TOKEN, World, world};
use crate::store::{CallRow, RecordingRow, RecordingState};
use serde_json::{Value, json};

const JSON: Option<&str> = Some("application/json");

fn put(world: &World, path: &str, body: &Value) -> (u16, Value) {
    world.ask("PUT", path, Some(TOKEN), JSON, body.to_string().as_bytes())
}

fn token(world: &World, domain: &str, label: &str, body: &Value) -> String {
    let (status, made) = put(world, &format!("/admin/tenants/{domain}/tokens/{label}"), body);
    assert_eq!(status, 201, "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

fn audit(world: &World, path: &str) -> Vec<Value> {
    world.get(path)["audit"].as_array().expect("a list").clone()
}

/// Every route, for everybody: no token, the operator, another tenant, and a token of each role.
#[test]
fn every_route_opens_for_its_role_and_for_nobody_else() {
    let world = world();
    assert_eq!(put(&world, "/admin/tenants/b.example", &json!({})).0, 201);
    let other = token(&world, "b.example", "all", &json!({}));
    let of_role = Role::ALL.map(|role| (role, token(&world, TENANT, role.name(), &json!({ "roles": [role.name()] }))));
    let all = token(&world, TENANT, "all", &json!({}));
    // Names of things that are not there, so that nothing really happens.
    let at = |path: &str, domain: &str| {
        let parts = path.split('/').map(|part| match part {
            "{domain}" => domain,
            "{number}" => "77",
            part if part.starts_with('{') => "none",
            part => part,
        });
        parts.collect::<Vec<_>>().join("/")
    };
    let mut seen = 0;
    for endpoint in endpoints() {
        let method = endpoint.method.to_ascii_uppercase();
        let need = endpoint.need();
        let ask = |token: Option<&str>, domain: &str| {
            let mut answer = world.raw(&method, &at(endpoint.path, domain), token, None, b"");
            let status = answer.status().as_u16();
            let body: Value = answer.body_mut().read_to_string().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            (status, body["message"].as_str().unwrap_or_default().to_owned())
        };
        let opens = |token: Option<&str>, domain: &str| {
            let (status, message) = ask(token, domain);
            !(status == 403 || (status == 401 && message.starts_with("Authorization")))
        };
        let shown = format!("{method} {}", endpoint.path);
        assert_eq!(opens(None, TENANT), need == Need::Nothing, "{shown} without a token");
        assert_eq!(opens(Some(&other), TENANT), need == Need::Nothing, "{shown} for another tenant");
        // What is the operator's is asked of a tenant that is not there.
        assert!(opens(Some(TOKEN), if need == Need::Operator { "nobody.example" } else { TENANT }), "{shown} for the operator");
        for (role, token) in &of_role {
            let expected = need == Need::Nothing || need == Need::Role(*role);
            assert_eq!(opens(Some(token), TENANT), expected, "{shown} with the role {}", role.name());
        }
        assert_eq!(opens(Some(&all), TENANT), need != Need::Operator, "{shown} with all roles");
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

/// What a route needs follows its method, but where it changes what calls do.
#[test]
fn roles_are_where_they_belong() {
    let deploys = ["guests", "recordingkeys", "promptfile", "secrets", "config"];
    let sets_up = ["/provisioning/", "/mediaservice/"];
    for endpoint in endpoints() {
        let Need::Role(role) = endpoint.need() else { continue };
        let what = endpoint.path.split('/').nth(2).unwrap_or_default();
        let expected = match endpoint.method {
            "get" => Role::Read,
            _ if deploys.contains(&what) || sets_up.iter().any(|first| endpoint.path.starts_with(first)) => Role::Deploy,
            _ => Role::Operate,
        };
        assert_eq!(role, expected, "{} {}", endpoint.method, endpoint.path);
        let document = &super::super::openapi::tests::document()["paths"][endpoint.path][endpoint.method];
        assert_eq!(document["x-role"], json!(role.name()));
    }
}

#[test]
fn a_token_is_rotated_while_the_last_one_still_opens() {
    let world = world();
    let first = token(&world, TENANT, "ci", &json!({ "roles": ["read"], "expires_in_s": 3600 }));
    let opens = |token: &str| world.ask("GET", "/a.example/guests", Some(token), None, b"").0 == 200;
    let rotate = |body: &Value| {
        let (status, made) = world.ask("POST", "/admin/tenants/a.example/tokens/ci/rotate", Some(TOKEN), JSON, body.to_string().as_bytes());
        assert_eq!((status, &made["roles"]), (201, &json!(["read"])), "{made}");
        assert!(made["expires_at"].is_string(), "it lives as long as the last one: {made}");
        made["token"].as_str().expect("a token").to_owned()
    };
    let second = rotate(&json!({ "overlap_s": 600 }));
    assert!(opens(&first) && opens(&second), "two at once");
    let listed = world.get("/admin/tenants/a.example/tokens")["tokens"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert!(listed[0]["used_at"].is_string() && listed[1]["used_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains(&first[..16]), "what they are is not told");
    let third = rotate(&json!({}));
    assert!(!opens(&first) && opens(&second) && opens(&third), "never three");
    // A new one of the label ends them all.
    let fourth = token(&world, TENANT, "ci", &json!({}));
    assert!(!opens(&second) && !opens(&third) && opens(&fourth));
    let (status, _) = world.ask("POST", "/admin/tenants/a.example/tokens/none/rotate", Some(TOKEN), None, b"");
    assert_eq!(status, 404);
    for (body, field) in [
        (json!({ "roles": ["all"] }), "roles"),
        (json!({ "roles": [] }), "roles"),
        (json!({ "roles": "read" }), "roles"),
        (json!({ "expires_in_s": 0 }), "expires_in_s"),
        (json!({ "role": ["read"] }), "role"),
    ] {
        let (status, answer) = put(&world, "/admin/tenants/a.example/tokens/x", &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(&format!("{field}:"))), "{body}: {answer}");
    }
}

#[test]
fn a_token_that_has_expired_opens_nothing() {
    let world = world();
    let hash = super::hash_hex("short-lived");
    world.store.put_token(TENANT, "old", &hash, "read", Some(crate::store::wall_ms() - 1), "test").expect("put");
    assert_eq!(world.ask("GET", "/a.example/guests", Some("short-lived"), None, b"").0, 401);
    let (status, _) = world.ask("POST", "/admin/tenants/a.example/tokens/old/rotate", Some(TOKEN), None, b"");
    assert_eq!(status, 404, "what is void is not rotated");
}

/// `storage_bytes`: prompts and recordings together.
#[test]
fn a_full_storage_takes_no_prompt() {
    let world = world();
    let wav: Vec<u8> = b"RIFF".iter().copied().chain(std::iter::repeat_n(0, 996)).collect();
    let put_prompt = |name: &str| world.ask("PUT", &format!("/a.example/promptfile/{name}"), Some(TOKEN), Some("audio/wav"), &wav);
    let quota = |bytes: u64| assert_eq!(put(&world, "/admin/tenants/a.example", &json!({ "quotas": { "storage_bytes": bytes } })).0, 200);
    quota(2500);
    assert_eq!(put_prompt("1.wav").0, 201);
    let recording = RecordingRow {
        id: "r".into(),
        domain: TENANT.into(),
        path: "none".into(),
        size: 600,
        state: RecordingState::Available,
        ..RecordingRow::default()
    };
    world.store.put_recording(recording).expect("put");
    let (status, answer) = put_prompt("2.wav");
    assert_eq!((status, &answer["error"]), (507, &json!("quota")), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.starts_with("storage_bytes:")), "{answer}");
    assert_eq!(put_prompt("1.wav").0, 200, "in place of itself");
    quota(2600);
    assert_eq!(put_prompt("2.wav").0, 201);
}

#[test]
fn quotas_and_trunks_are_shown_as_they_were_put() {
    let world = world();
    let quotas = json!({
        "calls_per_second": 5, "instances": 10, "cpu_ms_per_second": 250, "cpu_weight": 2, "storage_bytes": 1_000_000_000u64,
        "minutes_per_month": 10_000, "deploys_per_minute": 60,
    });
    let (status, answer) = put(&world, "/admin/tenants/a.example", &json!({ "quotas": quotas, "trunks": ["carrier"] }));
    assert_eq!((status, &answer["tenant"]["quotas"], &answer["tenant"]["trunks"]), (200, &quotas, &json!(["carrier"])), "{answer}");
    for (body, field) in [
        (json!({ "quotas": { "cpu_weight": 0 } }), "quotas.cpu_weight"),
        (json!({ "quotas": { "deploys_per_minute": 0 } }), "quotas.deploys_per_minute"),
        (json!({ "quotas": { "calls_per_second": -1 } }), "quotas.calls_per_second"),
        (json!({ "quotas": { "minutes": 1 } }), "quotas.minutes"),
        (json!({ "quotas": 5 }), "quotas"),
        (json!({ "trunks": ["nowhere"] }), "trunks[0]"),
        (json!({ "numbers": [{ "trunk": "nowhere", "number": "1" }] }), "numbers[0]"),
    ] {
        let (status, answer) = put(&world, "/admin/tenants/a.example", &body);
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(&format!("{field}:"))), "{body}: {answer}");
    }
}

#[test]
fn tenants_are_set_together_or_not_at_all() {
    let world = world();
    let apply = |body: Value| put(&world, "/admin/tenants", &body);
    // 100 moves from a to b, in one step.
    let wanted = json!([
        { "domain": "b.example", "numbers": ["100"], "quotas": { "instances": 3 } },
        { "domain": "a.example", "numbers": ["200"], "default": true },
    ]);
    let (status, told) = apply(json!({ "tenants": wanted, "dry_run": true }));
    assert_eq!((status, told["changes"].as_array().map(Vec::len)), (200, Some(2)), "{told}");
    assert_eq!(world.get("/admin/tenants/a.example")["tenant"]["numbers"], json!(["100"]), "nothing happened");
    let (status, done) = apply(json!({ "tenants": wanted }));
    assert_eq!((status, &done["changes"]), (200, &told["changes"]), "{done}");
    assert_eq!(world.get("/admin/tenants/b.example")["tenant"]["numbers"], json!(["100"]));
    assert_eq!(apply(json!({ "tenants": wanted })).1["changes"], json!([]), "again it is nothing");
    // A number of somebody who is not named: refused, and nothing of it is done.
    let (status, answer) = apply(json!({ "tenants": [{ "domain": "c.example" }, { "domain": "d.example", "numbers": ["100"] }] }));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.contains("100 belongs to b.example")), "{answer}");
    assert_eq!(world.ask("GET", "/admin/tenants/c.example", Some(TOKEN), None, b"").0, 404);
    // Who is not named goes where that is asked for.
    let (_, done) = apply(json!({ "tenants": [{ "domain": "a.example", "numbers": ["200"], "default": true }], "prune": true }));
    assert_eq!(done["changes"], json!([{ "domain": "b.example", "change": "removed", "lines": [] }]), "{done}");
    for body in [
        json!({}),
        json!({ "tenants": [], "dryrun": true }),
        json!({ "tenants": [], "dry_run": 1 }),
        json!({ "tenants": [], "prune": true }),
        json!({ "tenants": [{ "domain": "a", "x": 1 }] }),
    ] {
        assert_eq!(apply(body.clone()).0, 400, "{body}");
    }
}

#[test]
fn the_audit_says_who_from_where_and_what_was_refused_and_no_secrets() {
    let world = world();
    let reader = token(&world, TENANT, "reader", &json!({ "roles": ["read"] }));
    assert_eq!(put(&world, "/admin/tenants/b.example", &json!({})).0, 201);
    let (status, answer) = world.ask("POST", "/a.example/guests", Some(&reader), Some("application/wasm"), b"guest");
    assert_eq!((status, &answer["message"]), (403, &json!("this token has not the role deploy")));
    assert_eq!(world.ask("DELETE", "/b.example/promptfile/x.wav", Some(&reader), None, b"").0, 403);
    world.store.flush().expect("written");
    let lines = audit(&world, "/a.example/audit");
    let shown: Vec<String> = lines
        .iter()
        .map(|l| ["who", "domain", "what", "detail", "outcome"].map(|field| l[field].as_str().unwrap_or("?").to_owned()).join(" | "))
        .collect();
    let expected = [
        "token reader | a.example | DELETE /b.example/promptfile/x.wav |  | forbidden",
        "token reader | a.example | POST /a.example/guests |  | forbidden",
        "operator | a.example | token made | reader (read) | done",
        "operator | a.example | tenant added |  | done",
    ];
    assert_eq!(shown, expected);
    assert!(lines.iter().all(|line| line["source"].as_str().is_some_and(|source| source.starts_with("127.0.0.1:"))), "{lines:?}");
    let all = audit(&world, "/admin/audit");
    assert_eq!((all.len(), &all[2]["domain"]), (5, &json!("b.example")));
    assert!(!json!(all).to_string().contains(&reader), "a token is no object of the audit");
    // A tenant reads its own.
    assert_eq!(world.ask("GET", "/a.example/audit", Some(&reader), None, b"").0, 200);
    // Refusals all day push nothing out.
    for _ in 0..60 {
        assert_eq!(world.ask("POST", "/a.example/guests", Some(&reader), Some("application/wasm"), b"guest").0, 403);
    }
    world.store.flush().expect("written");
    let refused = audit(&world, "/a.example/audit").iter().filter(|line| line["outcome"] == "forbidden").count();
    assert!((15..40).contains(&refused), "{refused}");
}

#[test]
fn usage_is_told_by_day_to_the_operator_and_to_its_tenant() {
    let world = world();
    let at = crate::store::wall_ms();
    for domain in [TENANT, "b.example"] {
        world.store.save_call(CallRow { domain: domain.into(), started_at: at, answered_after_ms: Some(1), ..CallRow::default() });
    }
    world.store.flush().expect("written");
    let all = world.get("/admin/usage");
    assert_eq!(all["usage"].as_array().map(Vec::len), Some(2), "{all}");
    let own = world.get("/a.example/usage");
    assert_eq!((own["usage"].as_array().map(Vec::len), &own["usage"][0]["calls"]), (Some(1), &json!(1)), "{own}");
    let mut csv = world.raw("GET", "/admin/usage?format=csv", Some(TOKEN), None, b"");
    assert_eq!(csv.headers().get("content-type").and_then(|kind| kind.to_str().ok()), Some("text/csv; charset=utf-8"));
    let text = csv.body_mut().read_to_string().expect("text");
    assert!(text.starts_with("day,domain,calls,") && text.lines().count() == 3 && text.contains(",a.example,1,1,"), "{text}");
    for (query, field) in [("from=x", "from"), ("to=2026-02-30", "to"), ("format=xml", "format"), ("from=2026-02-02&to=2026-02-01", "to")] {
        let (status, answer) = world.ask("GET", &format!("/admin/usage?{query}"), Some(TOKEN), None, b"");
        assert!(status == 400 && answer["message"].as_str().is_some_and(|m| m.starts_with(field)), "{query}: {answer}");
    }
}
