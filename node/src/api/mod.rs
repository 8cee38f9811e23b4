//! The HTTP API: translates requests into calls on the store, the version registry and the running node, and formats what they say.
//! It decides nothing about calls.
//!
//! `/healthz` is open; everything else needs a token, `/metrics` too: behind a proxy on the same machine every peer looks like loopback.
//! `/admin/…` is the operator's, `/{domain}/…` a tenant's. Who may do what is decided in one place, `access.rs`.
//!
//! Start with [`Api::router`]; [`Api::start`] serves it.

mod access;
mod calls;
mod guests;
mod listener;
mod prompts;
mod recordings;
mod reply;
mod server;
mod tenants;

pub use access::{ADMIN_TOKEN_FILE, AdminToken};
pub use prompts::check_file_name;
pub use reply::rfc3339;
pub use server::Server;
pub use tenants::check_domain;

use crate::store::Store;
use crate::versions::Versions;
use axum::Router;
use axum::routing::{get, post, put};
use reply::{ApiError, Reply};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the API needs of the running node.
pub trait Node: Send + Sync + 'static {
    /// Tenants, numbers or the default tenant changed: read them again. May block.
    fn configure(&self);
    /// Metrics as Prometheus reads them.
    fn metrics(&self) -> String;
    /// How long this prompt plays, or why it is none. May block.
    fn decode_prompt(&self, bytes: &[u8]) -> Result<Duration, String>;
    /// A tenant's upload was not taken: counted, and said in one line of the log.
    fn refused(&self, what: Upload, domain: &str, why: &str);
}

/// What a tenant brings to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    Component,
    Prompt,
}

/// What the handlers share.
pub struct Api {
    store: Store,
    versions: Arc<Versions>,
    node: Arc<dyn Node>,
    token: AdminToken,
    /// `prompts/<domain>/<name>` below the data folder.
    prompts: PathBuf,
}

type Shared = axum::extract::State<Arc<Api>>;

impl Api {
    /// `prompts`: the folder with one folder of prompts per tenant.
    pub fn new(store: Store, versions: Arc<Versions>, node: Arc<dyn Node>, token: AdminToken, prompts: PathBuf) -> Arc<Api> {
        Arc::new(Api { store, versions, node, token, prompts })
    }

    pub fn router(self: Arc<Api>) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/metrics", get(metrics))
            .route("/admin/tenants", get(tenants::list))
            .route("/admin/tenants/{domain}", get(tenants::show).put(tenants::put).delete(tenants::remove))
            .route("/admin/tenants/{domain}/tokens/{label}", put(tenants::make_token).delete(tenants::remove_token))
            .route("/admin/calls", get(calls::list_all))
            .route("/admin/audit", get(calls::audit))
            .route("/{domain}/guests", get(guests::list).post(guests::upload))
            .route("/{domain}/guests/log", get(guests::log))
            .route("/{domain}/guests/rollback", post(guests::roll_back))
            .route("/{domain}/guests/{number}/activate", post(guests::activate))
            .route("/{domain}/recordings", get(recordings::list))
            .route("/{domain}/recordings/{id}", get(recordings::show).delete(recordings::remove))
            .route("/{domain}/recordings/{id}/audio", get(recordings::audio))
            .route("/{domain}/promptfile", get(prompts::list))
            .route("/{domain}/promptfile/{name}", get(prompts::show).put(prompts::put).delete(prompts::remove))
            .route("/{domain}/calls", get(calls::list))
            .fallback(|| async { ApiError::not_found("no such resource") })
            .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
            .layer(axum::middleware::from_fn_with_state(self.clone(), access::guard))
            .with_state(self)
    }
}

async fn healthz() -> Reply {
    reply::ok(json!({ "status": "ok" }))
}

async fn metrics(api: Shared) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.node.metrics())
}

impl Api {
    /// Passes on what became of an upload, and tells the node where it was refused, for whatever reason.
    fn tell_refusal(&self, what: Upload, domain: &str, reply: Reply) -> Reply {
        reply.inspect_err(|error| self.node.refused(what, domain, &error.message))
    }
}

/// Runs what blocks (the store, files, the compiler) off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "an API call panicked");
            Err(ApiError::internal())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
