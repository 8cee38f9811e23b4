//! One line of the API's table: a method and a path, what answers it, and what `/openapi.json` says of it. The router and the document are
//! made from the same lines, so nothing is served that is not documented.

use super::Api;
use super::reply::ApiError;
use super::roles::Role;
use axum::extract::FromRequestParts;
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) answered_by: MethodRouter<Arc<Api>>,
    /// Its `operationId`.
    pub(super) id: &'static str,
    pub(super) says: &'static str,
    pub(super) query: Vec<Parameter>,
    pub(super) headers: Vec<Parameter>,
    pub(super) body: Option<Content>,
    /// Without one its defaults hold.
    pub(super) needs_body: bool,
    pub(super) answers: Vec<Answer>,
    /// Refusals beside those that every call can get.
    pub(super) refusals: Vec<u16>,
    /// Needs no token.
    pub(super) open: bool,
    /// Of a tenant's token, where the path names the tenant.
    role: Role,
}

/// Whom an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Operator,
    /// The operator, or a token of the tenant with this role.
    Role(Role),
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) schema: Value,
    pub(super) says: &'static str,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) says: &'static str,
    pub(super) content: Content,
}

/// Media types, with the schema of all of them.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) types: &'static [&'static str],
    pub(super) schema: Value,
}

pub(super) const JSON: &[&str] = &["application/json"];
pub(super) const AUDIO: &[&str] = &["audio/wav", "audio/mpeg", "audio/mp4", "audio/ogg", "application/octet-stream"];

fn endpoint<H, T>(filter: MethodFilter, method: &'static str, path: &'static str, id: &'static str, handler: H) -> Endpoint
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    Endpoint {
        method,
        path,
        answered_by: on(filter, handler),
        id,
        says: "",
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        needs_body: true,
        answers: Vec::new(),
        refusals: Vec::new(),
        open: false,
        role: if method == "get" { Role::Read } else { Role::Operate },
    }
}

pub(super) fn get<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Endpoint {
    endpoint(MethodFilter::GET, "get", path, id, handler)
}
pub(super) fn post<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Endpoint {
    endpoint(MethodFilter::POST, "post", path, id, handler)
}
pub(super) fn put<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Endpoint {
    endpoint(MethodFilter::PUT, "put", path, id, handler)
}
pub(super) fn delete<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, id: &'static str, handler: H) -> Endpoint {
    endpoint(MethodFilter::DELETE, "delete", path, id, handler)
}

impl Endpoint {
    pub(super) fn says(mut self, says: &'static str) -> Endpoint {
        self.says = says;
        self
    }

    pub(super) fn open(mut self) -> Endpoint {
        self.open = true;
        self
    }

    /// It changes what the tenant's calls do, so that `operate` is not enough.
    pub(super) fn deploys(mut self) -> Endpoint {
        self.role = Role::Deploy;
        self
    }

    pub(super) fn need(&self) -> Need {
        match self.path.contains("/{domain}") && !self.path.starts_with("/admin/") {
            _ if self.open => Need::Nothing,
            true => Need::Role(self.role),
            false => Need::Operator,
        }
    }

    pub(super) fn query(mut self, name: &'static str, schema: Value, says: &'static str) -> Endpoint {
        self.query.push(Parameter { name, schema, says });
        self
    }

    pub(super) fn header(mut self, name: &'static str, schema: Value, says: &'static str) -> Endpoint {
        self.headers.push(Parameter { name, schema, says });
        self
    }

    /// `?limit=`, and `?before=` where pages follow.
    pub(super) fn limited(self) -> Endpoint {
        self.query("limit", json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }), "At most so many, newest first.")
    }
    pub(super) fn paged(self) -> Endpoint {
        self.limited().query("before", json!({ "type": "string" }), "`next` of the page before.")
    }

    pub(super) fn body(mut self, types: &'static [&'static str], schema: Value) -> Endpoint {
        self.body = Some(Content { types, schema });
        self
    }

    pub(super) fn may_have(self, types: &'static [&'static str], schema: Value) -> Endpoint {
        Endpoint { needs_body: false, ..self.body(types, schema) }
    }

    pub(super) fn answers(mut self, status: u16, says: &'static str, types: &'static [&'static str], schema: Value) -> Endpoint {
        self.answers.push(Answer { status, says, content: Content { types, schema } });
        self
    }

    /// `{"success":true, …}`.
    pub(super) fn succeeds(self, status: u16, says: &'static str, fields: &[(&str, Value)]) -> Endpoint {
        let mut all = vec![("success", json!({ "const": true }))];
        all.extend_from_slice(fields);
        self.answers(status, says, JSON, object(&all))
    }

    /// An object with one list, newest first.
    pub(super) fn lists(self, name: &'static str, item: Value) -> Endpoint {
        let mut schema = object(&[(name, json!({ "type": "array", "items": item }))]);
        schema["properties"]["next"] = text("`before` of the next page; absent on the last one.");
        self.answers(200, "The list.", JSON, schema)
    }

    pub(super) fn refuses(mut self, statuses: &[u16]) -> Endpoint {
        self.refusals.extend_from_slice(statuses);
        self
    }
}

/// All of the fields are always there, and no others.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<String, Value> = fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

pub(super) fn text(says: &str) -> Value {
    json!({ "type": "string", "description": says })
}
pub(super) fn number(says: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": says })
}
pub(super) fn flag(says: &str) -> Value {
    json!({ "type": "boolean", "description": says })
}
pub(super) fn time(says: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": says })
}
/// The same, or null.
pub(super) fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

/// What stands between the slashes of a path; as axum's own, but its refusal is one of ours.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Path(path)).map_err(|_| ApiError::bad("path", "cannot be read"))
    }
}
