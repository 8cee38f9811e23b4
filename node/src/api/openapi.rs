//! `/openapi.json`: the API as OpenAPI 3.1, made from the table that the router is made from. Open: it says nothing that the repository does
//! not.

use super::Shared;
use super::endpoint::{Content, Endpoint, Need, Parameter, object, text};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Built once: the table does not change while the node runs.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| document(&super::endpoints()));

pub(super) async fn show(_: Shared) -> axum::Json<&'static Value> {
    axum::Json(&DOCUMENT)
}

/// What every refusal means; a path names those that it can give.
const REFUSALS: [(u16, &str, &str); 14] = [
    (400, "bad_value", "The body is no JSON, or a value is wrong; the message begins with the field's name."),
    (401, "unauthorized", "No valid bearer token, or a replyId that is not valid."),
    (403, "forbidden", "The token does not open this, lacks the role, or the replyId is of another domain."),
    (404, "not_found", "There is no such domain, session, object or resource."),
    (405, "method_not_allowed", "The resource does not take this method."),
    (409, "conflict", "Not in this state, or it collides with what is there."),
    (410, "gone", "The recording was there and is gone for good; the message says why."),
    (413, "too_large", "The body is larger than the limit that the message names."),
    (415, "unsupported_type", "The body's Content-Type is another one."),
    (416, "bad_range", "The range begins behind the end of the audio."),
    (429, "too_many", "Too many commands or uploads, or `quota`: the tenant's calls are used up. Retry-After says when to try again."),
    (500, "internal", "The node failed; its log says how."),
    (503, "unavailable", "The node drains, is full, or stops."),
    (507, "quota", "The tenant's storage is used up; the message names the quota."),
];

fn document(endpoints: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({ "parameters": path_parameters(endpoint.path) }));
        path[endpoint.method] = operation(endpoint);
    }
    let responses: Map<String, Value> = REFUSALS
        .iter()
        .map(|(status, code, says)| {
            let mut response = json!({
                "description": says,
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Refusal" }, "example": {
                    "success": false, "error": code, "message": says,
                } } },
            });
            if *status == 429 {
                response["headers"] = json!({ "Retry-After": { "description": "Seconds.", "schema": { "type": "string" } } });
            }
            (status.to_string(), response)
        })
        .collect();
    let codes: Vec<&str> = REFUSALS.iter().map(|(_, code, _)| *code).collect();
    let mut code = text("For programs.");
    code["enum"] = json!(codes);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hookswitch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Calls below `/{domain}` are a tenant's, those below `/admin` the operator's. An operation answers once it is \
                            valid and handed to its session; its effect comes later. Every refusal is `{\"success\":false,\"error\":CODE,\
                            \"message\":TEXT}`. Numbers are taken where a text is expected and the reverse; unknown properties of \
                            operations are ignored. `x-role` is the role that a tenant's token needs: deploy, operate or read; the \
                            operator's opens everything.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "jwt": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The operator's token, or one made for a tenant." },
                "jwt": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "RS256, signed with a key whose public half is registered for the tenant. `exp` and `aud` (the domain) \
                                    are required, `nbf` is honoured, clocks may differ by 60 s.",
                },
            },
            "schemas": { "Refusal": object(&[
                ("success", json!({ "const": false })), ("error", code), ("message", text("For people; begins with the field where one is wrong.")),
            ]) },
            "responses": responses,
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut responses = Map::new();
    for answer in &endpoint.answers {
        let mut response = json!({ "description": answer.says, "content": content(&answer.content) });
        if answer.status == 206 {
            response["headers"] = json!({ "Content-Range": { "schema": { "type": "string" } } });
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut refusals = endpoint.refusals.clone();
    refusals.extend([500, 503]);
    if !endpoint.open {
        refusals.extend([401, 403]);
    }
    if endpoint.path.contains('{') {
        refusals.extend([400, 404]);
    }
    if !endpoint.query.is_empty() || !endpoint.headers.is_empty() {
        refusals.push(400);
    }
    if endpoint.body.is_some() {
        refusals.extend([400, 413, 415]);
    }
    refusals.sort_unstable();
    for status in refusals {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    let parameter = |place: &str, parameter: &Parameter| json!({ "name": parameter.name, "in": place, "schema": parameter.schema, "description": parameter.says });
    let parameters: Vec<Value> = endpoint
        .query
        .iter()
        .map(|query| parameter("query", query))
        .chain(endpoint.headers.iter().map(|header| parameter("header", header)))
        .collect();
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.says.split_inclusive('.').next().unwrap_or_default().trim(),
        "description": endpoint.says,
        "tags": [tag(endpoint.path)],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = &endpoint.body {
        operation["requestBody"] = json!({ "required": endpoint.needs_body, "content": content(body) });
    }
    match endpoint.need() {
        Need::Nothing => operation["security"] = json!([]),
        Need::Operator => operation["x-role"] = json!("operator"),
        Need::Role(role) => operation["x-role"] = json!(role.name()),
    }
    operation
}

fn content(content: &Content) -> Value {
    content.types.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": content.schema }))).collect::<Map<_, _>>().into()
}

fn tag(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("{domain}" | "provisioning" | "mediaservice") => "tenant",
        Some("admin") => "operator",
        _ => "node",
    }
}

/// `{name}`s of a path, in order.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let (schema, says) = match name {
                "domain" => (json!({ "type": "string" }), "The tenant."),
                "number" => (json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }), "A version."),
                "name" => (json!({ "type": "string", "minLength": 1, "maxLength": 255 }), "A file's name."),
                "session" => (json!({ "type": "string" }), "A session."),
                "label" => (json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }), "What it is for."),
                _ => (json!({ "type": "string" }), "Which one."),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema, "description": says })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    pub(in crate::api) fn document() -> &'static Value {
        &DOCUMENT
    }

    #[test]
    fn every_route_has_its_entry() {
        let endpoints = super::super::endpoints();
        let routes: BTreeSet<(String, String)> = endpoints.iter().map(|e| (e.path.to_owned(), e.method.to_owned())).collect();
        assert_eq!(routes.len(), endpoints.len(), "a route is listed twice");
        let methods = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
            let item = item.as_object().expect("an object");
            item.keys().filter(|key| *key != "parameters").map(|method| (path.clone(), method.clone())).collect()
        };
        let documented: BTreeSet<_> = document()["paths"].as_object().expect("paths").iter().flat_map(methods).collect();
        assert_eq!(routes, documented);
        let ids: BTreeSet<&str> = endpoints.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), endpoints.len(), "an operationId is used twice");
        for endpoint in &endpoints {
            let shown = format!("{} {}", endpoint.method, endpoint.path);
            assert!(endpoint.says.ends_with('.'), "{shown} is not described");
            assert!(endpoint.answers.iter().any(|answer| answer.status < 300), "{shown} never succeeds");
        }
    }

    /// Routes are made in `endpoints` alone: a second place would be one without documentation.
    #[test]
    fn the_table_is_the_only_place_of_routes() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut found = Vec::new();
        for file in std::fs::read_dir(folder).expect("there").flatten().filter(|file| file.path().extension().is_some_and(|e| e == "rs")) {
            let text = std::fs::read_to_string(file.path()).expect("text");
            found.extend(text.lines().filter(|line| line.contains(concat!(".rou", "te("))).map(|line| line.trim().to_owned()));
        }
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn every_refusal_that_is_named_is_explained() {
        for (path, item) in document()["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("an object").iter().filter(|(name, _)| *name != "parameters") {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let known = REFUSALS.iter().any(|(refusal, ..)| refusal.to_string() == *status);
                    assert_eq!(response.get("$ref").is_some(), status.as_str() >= "400", "{method} {path} {status}");
                    assert!(known || status.as_str() < "400", "{method} {path} {status}");
                }
            }
        }
    }
}
