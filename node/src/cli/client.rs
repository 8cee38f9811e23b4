//! The HTTP client of the API: one request, one answer, refusals as one line.

use super::{Common, Failure};
use crate::api::ADMIN_TOKEN_FILE;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// An upload is compiled before it is answered; a small machine takes its time for a large component.
pub(super) const ANSWER: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_secs(5);
/// Largest JSON answer read.
const JSON_BYTES: u64 = 64 << 20;

pub(super) struct Client {
    over: Over,
    base: String,
    token: String,
    domain: Option<String>,
}

enum Over {
    Tcp(ureq::Agent),
    #[cfg(feature = "h3")]
    Quic(Box<super::h3::Http3>),
}

/// Status and body of an answer.
struct Answer {
    status: StatusCode,
    body: Box<dyn Read>,
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
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => url.trim_end_matches('/').to_owned(),
            Some(url) => return Err(Failure::Usage(format!("--api {url}: must begin with http:// or https://"))),
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
                format!("{}://{listen}", if config.api.tls.is_some() { "https" } else { "http" })
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
        Ok(Client { over: Over::new(common, &base)?, base, token, domain: common.domain.clone() })
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
        let answer = self.send(method, path, content)?;
        Ok((answer.status, self.json(answer)?))
    }

    /// Asks for bytes, which are read as they come.
    pub(super) fn download(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        self.read(self.send(Method::GET, path, Content::None)?)
    }

    /// Asks for events, which are read as they come.
    pub(super) fn follow(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        self.read(self.send_for(Some("text/event-stream"), Method::GET, path, Content::None)?)
    }

    fn read(&self, answer: Answer) -> Result<impl Read + use<>, Failure> {
        if !answer.status.is_success() {
            return Err(refused(answer.status, &self.json(answer)?));
        }
        Ok(answer.body)
    }

    fn json(&self, answer: Answer) -> Result<Value, Failure> {
        let mut bytes = Vec::new();
        answer.body.take(JSON_BYTES).read_to_end(&mut bytes).map_err(|error| self.broken(&error))?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    fn send(&self, method: Method, path: &str, content: Content<'_>) -> Result<Answer, Failure> {
        self.send_for(None, method, path, content)
    }

    fn send_for(&self, accept: Option<&str>, method: Method, path: &str, content: Content<'_>) -> Result<Answer, Failure> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.base)).header("authorization", format!("Bearer {}", self.token));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let built = |error: ureq::http::Error| Failure::Usage(format!("{}: {error}", self.base));
        match &self.over {
            Over::Tcp(agent) => {
                let answer = match content {
                    Content::None => agent.run(request.body(()).map_err(built)?),
                    Content::Json(value) => {
                        agent.run(request.header("content-type", "application/json").body(value.to_string()).map_err(built)?)
                    }
                    Content::Bytes(kind, bytes) => {
                        let request = request.header("content-type", kind).header("expect", "100-continue");
                        agent.run(request.body(bytes).map_err(built)?)
                    }
                };
                let answer = answer.map_err(|error| self.broken(&error))?;
                Ok(Answer { status: answer.status(), body: Box::new(answer.into_body().into_reader()) })
            }
            #[cfg(feature = "h3")]
            Over::Quic(http3) => {
                // A component is known again by its hash, and a prompt by its name.
                let is_known_again = matches!(content, Content::Bytes(..));
                let (kind, body) = match content {
                    Content::None => (None, bytes::Bytes::new()),
                    Content::Json(value) => (Some("application/json"), value.to_string().into()),
                    Content::Bytes(kind, body) => (Some(kind), bytes::Bytes::copy_from_slice(body)),
                };
                let mut request = request.header("content-length", body.len());
                if let Some(kind) = kind {
                    request = request.header("content-type", kind);
                }
                let request = request.body(()).map_err(built)?;
                let answer = http3.send(&request, &body, is_known_again).map_err(|error| self.broken(&error))?;
                Ok(Answer { status: answer.head.status(), body: Box::new(answer.body) })
            }
        }
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::Failed(format!("no answer from {}: {error} (is `hookswitch run` running?)", self.base))
    }
}

impl Over {
    fn new(common: &Common, base: &str) -> Result<Over, Failure> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            // A refused upload is refused before it is sent.
            .timeout_await_100(Some(CONNECT));
        let is_https = base.starts_with("https://");
        #[cfg(feature = "h3")]
        if common.h3 {
            if !is_https {
                return Err(Failure::Usage(format!("--h3: needs an https:// address, not {base}")));
            }
            let mut roots = tokio_rustls::rustls::RootCertStore::empty();
            roots.add_parsable_certificates(authorities(common.ca.as_deref())?);
            let http3 = super::h3::Http3::new(base, roots).map_err(|why| Failure::Usage(format!("{base}: {why}")))?;
            return Ok(Over::Quic(Box::new(http3)));
        }
        if is_https {
            let authorities = authorities(common.ca.as_deref())?;
            let roots: Vec<_> = authorities.iter().map(|authority| Certificate::from_der(authority).to_owned()).collect();
            let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
            config = config.tls_config(tls.unversioned_rustls_crypto_provider(Arc::new(ring::default_provider())).build());
        }
        Ok(Over::Tcp(config.build().into()))
    }
}

/// Whose certificates are trusted: those of the file alone, else the machine's.
fn authorities(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(file) = file else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let wrong = |why: String| Failure::Usage(format!("--ca {}: {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| wrong("no PEM".into()))?;
    if all.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(all) }
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
