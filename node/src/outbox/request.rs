//! Requests of handlers whose answer they wait for (`http.fetch`). What holds for a post holds here: the origin is on the tenant's list, a
//! name does not lead into this network, the address that was looked at is the one that is connected to, and a redirect is an answer.
//!
//! They run on a thread of their own, so that a hook that waits costs the other hooks of its thread nothing. Dropped with the hook that
//! waits for it, a request ends at once.

use super::client::{self, Answer};
use super::fetch::Fetcher;
use super::origin::Target;
use super::sign::Signer;
use crate::limits;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What a handler asks; its values are as it gave them.
#[derive(Clone, Default)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Default: `limits::FETCH`.
    pub timeout: Option<Duration>,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no answer. No text says more of a URL than its origin: the rest may hold a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{0}")]
    BadValue(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    NotAvailable(String),
    #[error("no answer in time")]
    Timeout,
}

/// The door for requests. Clones lead to the same.
#[derive(Clone)]
pub struct Requests {
    fetcher: Fetcher,
    signer: Option<Signer>,
    on: Handle,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    all: usize,
    of_tenant: BTreeMap<Arc<str>, usize>,
}

impl Requests {
    /// `on`: a runtime with sockets that no guest runs on.
    pub fn new(fetcher: Fetcher, on: Handle) -> Requests {
        Requests { fetcher, signer: None, on, under_way: Arc::default() }
    }

    /// The same, signed in the tenant's name.
    pub fn signed(self, signer: Signer) -> Requests {
        Requests { signer: Some(signer), ..self }
    }

    /// Sends it and waits for the whole answer, for as long as it says but no longer than `left`.
    pub async fn send(&self, domain: &Arc<str>, request: Request, left: Duration) -> Result<Response, RequestError> {
        let time = request.timeout.unwrap_or(limits::FETCH).min(left.saturating_sub(limits::FETCH_SPARE));
        let (target, mut sent) = self.check(domain, request)?;
        let place = self.place(domain)?;
        let (fetcher, domain) = (self.fetcher.clone(), domain.clone());
        let signer = self.signer.clone().filter(|_| !sent.headers.contains_key(AUTHORIZATION));
        let mut task = Ends(self.on.spawn(async move {
            let _place = place;
            if let Some(signer) = signer
                && let Some(signed) = signer.authorization(&domain, &target.origin()).await
            {
                sent.headers.insert(AUTHORIZATION, signed);
            }
            match tokio::time::timeout(time, fetcher.exchange(&domain, &target, sent, limits::FETCH_BODY)).await {
                Ok(answer) => answer,
                Err(_) => Err(RequestError::Timeout),
            }
        }));
        let answer = (&mut task.0).await.unwrap_or_else(|_| Err(RequestError::NotAvailable("the node is stopping".into())))?;
        Ok(answer.into())
    }

    fn check(&self, domain: &str, request: Request) -> Result<(Target, client::Sent), RequestError> {
        let bad = RequestError::BadValue;
        let Request { method, url, headers, body, timeout } = request;
        let method = method_of(&method).ok_or_else(|| bad("method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS".into()))?;
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(bad("timeout-ms: 1 at least".into()));
        }
        let target = Target::parse(&url).map_err(bad)?;
        if body.len() > limits::FETCH_BODY {
            return Err(bad(format!("body: {} bytes; at most {}", body.len(), limits::FETCH_BODY)));
        }
        if headers.len() > limits::OUTBOX_HEADERS {
            return Err(bad(format!("headers: {}; at most {}", headers.len(), limits::OUTBOX_HEADERS)));
        }
        let mut lines = HeaderMap::new();
        for (name, value) in &headers {
            client::check_line(name, value).map_err(bad)?;
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
                return Err(bad("headers: one is none".into()));
            };
            lines.append(name, value);
        }
        self.fetcher.check(domain, &target).map_err(RequestError::Denied)?;
        Ok((target, client::Sent { method, headers: lines, body }))
    }

    fn place(&self, domain: &Arc<str>) -> Result<Place, RequestError> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.of_tenant.get(domain).is_some_and(|n| *n >= limits::FETCHES_OF_TENANT) {
            return Err(RequestError::Limit(format!("fetches: {} of a tenant at a time", limits::FETCHES_OF_TENANT)));
        }
        if under_way.all >= limits::FETCHES {
            return Err(RequestError::NotAvailable(format!("fetches: {} at a time", limits::FETCHES)));
        }
        under_way.all += 1;
        *under_way.of_tenant.entry(domain.clone()).or_default() += 1;
        Ok(Place { under_way: self.under_way.clone(), domain: domain.clone() })
    }
}

/// A request's place among its tenant's.
struct Place {
    under_way: Arc<Mutex<UnderWay>>,
    domain: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.all = under_way.all.saturating_sub(1);
        if let Some(n) = under_way.of_tenant.get_mut(&self.domain) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                under_way.of_tenant.remove(&self.domain);
            }
        }
    }
}

/// Ends with whoever waits for it.
struct Ends<T>(JoinHandle<T>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// CONNECT makes a tunnel, TRACE shows what proxies add: neither is a question.
fn method_of(text: &str) -> Option<Method> {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .into_iter()
        .find(|m| m.as_str() == text)
}

/// Headers as a handler sees them: what only concerns the connection is left out.
fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let of_the_connection = |name: &str| {
        matches!(name, "connection" | "keep-alive" | "transfer-encoding" | "te" | "trailer" | "upgrade") || name.starts_with("proxy-")
    };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .filter(|(name, _)| !of_the_connection(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Response {
        Response { status: answer.status, headers: shown(&answer.headers), body: answer.body }
    }
}

#[cfg(test)]
pub(super) mod tests;
