//! The HTTP client of the API: one request, one answer, refusals as one line.

use super::{Common, Failure};
use crate::api::ADMIN_TOKEN_FILE;
use serde_json::Value;
use std::io::Read;
use std::time::Duration;
use ureq::http::{Method, Request, Response, StatusCode};

/// An upload is compiled before it is answered; a small machine takes its time for a large component.
const ANSWER: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(5);
/// Largest JSON answer read.
const JSON_BYTES: u64 = 64 << 20;

pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
    domain: Option<String>,
}

/// What goes with a request.
pub(super) enum Content<'a> {
    None,
    Json(&'a Value),
    Bytes(&'static str, &'a [u8]),
}

impl Client {
    pub(super) fn new(common: &Common) -> Result<Client, Failure> {
        let config = common.load()?;
        let base = match &common.api {
            Some(url) if url.starts_with("http://") => url.trim_end_matches('/').to_owned(),
            Some(url) => return Err(Failure::Usage(format!("--api {url}: must begin with http://"))),
            None => {
                let mut listen = config.api.listen;
                // Listening everywhere is no address to connect to.
                if listen.ip().is_unspecified() {
                    listen.set_ip(if listen.is_ipv4() {
                        std::net::Ipv4Addr::LOCALHOST.into()
                    } else {
                        std::net::Ipv6Addr::LOCALHOST.into()
                    });
                }
                format!("http://{listen}")
            }
        };
        let token = match common.token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
            Some(token) => token.to_owned(),
            None => {
                let path = config.storage.data.join(ADMIN_TOKEN_FILE);
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    Failure::Failed(format!(
                        "no token: {}: {error} (the node makes it at its first start; or give --token)",
                        path.display()
                    ))
                })?;
                text.trim().to_owned()
            }
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            // A refused upload is refused before it is sent.
            .timeout_await_100(Some(CONNECT))
            .build()
            .into();
        Ok(Client { agent, base, token, domain: common.domain.clone() })
    }

    /// The tenant meant: the named one, else the default one, else the only one.
    pub(super) fn domain(&self) -> Result<String, Failure> {
        if let Some(domain) = &self.domain {
            return Ok(domain.clone());
        }
        let answer = self.ask(Method::GET, "/admin/tenants", Content::None)?;
        let tenants = answer["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
        let default = tenants.iter().find(|tenant| tenant["default"] == Value::Bool(true));
        match (default, tenants) {
            (Some(tenant), _) | (None, [tenant]) => Ok(tenant["domain"].as_str().unwrap_or_default().to_owned()),
            (None, []) => Err(Failure::Failed("there is no tenant yet: hookswitch tenant put DOMAIN".into())),
            (None, _) => Err(Failure::Usage("there are several tenants and none is the default one: give --domain".into())),
        }
    }

    /// Where the API is, without a slash at the end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Below the tenant's own path. `rest` begins with a slash.
    pub(super) fn of_tenant(&self, rest: &str) -> Result<String, Failure> {
        Ok(format!("/{}{rest}", encode(&self.domain()?)))
    }

    /// Asks and expects JSON; a refusal is the API's message.
    pub(super) fn ask(&self, method: Method, path: &str, content: Content<'_>) -> Result<Value, Failure> {
        match self.try_ask(method, path, content)? {
            (status, value) if status.is_success() => Ok(value),
            (status, value) => Err(refused(status, &value)),
        }
    }

    /// The same, where the caller wants to know the status.
    pub(super) fn try_ask(&self, method: Method, path: &str, content: Content<'_>) -> Result<(StatusCode, Value), Failure> {
        let mut answer = self.send(method, path, content)?;
        let text = answer.body_mut().with_config().limit(JSON_BYTES).read_to_string().map_err(|error| self.broken(&error))?;
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok((answer.status(), value))
    }

    /// Asks for bytes, which are read as they come.
    pub(super) fn download(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        self.read(self.send(Method::GET, path, Content::None)?)
    }

    fn read(&self, mut answer: Response<ureq::Body>) -> Result<impl Read + use<>, Failure> {
        if !answer.status().is_success() {
            let text = answer.body_mut().with_config().limit(JSON_BYTES).read_to_string().map_err(|error| self.broken(&error))?;
            return Err(refused(answer.status(), &serde_json::from_str(&text).unwrap_or(Value::Null)));
        }
        Ok(answer.into_body().into_reader())
    }

    /// Asks for events, which are read as they come.
    pub(super) fn follow(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        self.read(self.send_for(Some("text/event-stream"), Method::GET, path, Content::None)?)
    }

    fn send(&self, method: Method, path: &str, content: Content<'_>) -> Result<Response<ureq::Body>, Failure> {
        self.send_for(None, method, path, content)
    }

    fn send_for(&self, accept: Option<&str>, method: Method, path: &str, content: Content<'_>) -> Result<Response<ureq::Body>, Failure> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).header("authorization", format!("Bearer {}", self.token));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let built = |error: ureq::http::Error| Failure::Usage(format!("{}: {error}", self.base));
        let answer = match content {
            Content::None => self.agent.run(request.body(()).map_err(built)?),
            Content::Json(value) => {
                self.agent.run(request.header("content-type", "application/json").body(value.to_string()).map_err(built)?)
            }
            Content::Bytes(kind, bytes) => {
                let request = request.header("content-type", kind).header("expect", "100-continue");
                self.agent.run(request.body(bytes).map_err(built)?)
            }
        };
        answer.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &ureq::Error) -> Failure {
        Failure::Failed(format!("no answer from {}: {error} (is `hookswitch run` running?)", self.base))
    }
}

fn refused(status: StatusCode, value: &Value) -> Failure {
    match value["message"].as_str() {
        Some(message) => Failure::Failed(format!("{message} ({})", status.as_u16())),
        None => Failure::Failed(format!("the node answered {status}")),
    }
}

/// Percent-encodes what stands between two slashes.
pub(super) fn encode(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_is_encoded() {
        for (plain, encoded) in [("demo.localhost", "demo.localhost"), ("a b/c?.wav", "a%20b%2Fc%3F.wav"), ("ö", "%C3%B6"), ("%", "%25")] {
            assert_eq!(encode(plain), encoded);
        }
    }
}
