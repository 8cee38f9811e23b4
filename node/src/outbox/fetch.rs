//! What lies elsewhere: prompts (MG-007), and what a handler asks for. Fetched from where the tenant may post to, and from nowhere else. What holds for a post holds here:
//! the origin is on the tenant's list, a name does not lead into this network, and a redirect is an answer like others, which is no prompt.

use super::client::{Answer, Client, Sent, Unanswered, native_roots};
use super::origin::{Policy, Target};
use super::request::RequestError;
use crate::limits;
use hookswitch_call::door::NoClip;
use hyper::Method;
use hyper::header::HeaderMap;
use std::sync::Arc;
use tokio_rustls::rustls::RootCertStore;

/// Clones are equal.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<(Policy, Client)>,
}

impl Fetcher {
    /// `roots`: `None` is the authorities that this machine trusts.
    pub fn new(policy: Policy, roots: Option<RootCertStore>) -> Fetcher {
        Fetcher::with(policy, Client::new(roots.unwrap_or_else(native_roots)))
    }

    pub(super) fn with(policy: Policy, client: Client) -> Fetcher {
        Fetcher { shared: Arc::new((policy, client)) }
    }

    /// Whether this tenant may ask there; why not.
    pub(super) fn check(&self, domain: &str, target: &Target) -> Result<(), String> {
        self.shared.0.check(domain, target)
    }

    /// One request of a handler that was checked, and its answer with a body of at most so much.
    pub(super) async fn exchange(&self, domain: &str, target: &Target, sent: Sent, most: usize) -> Result<Answer, RequestError> {
        self.shared.1.exchange(domain, target, sent, most).await.map_err(|why| match why {
            Unanswered::TooLarge => RequestError::Limit(format!("body of an answer: {most} bytes")),
            Unanswered::Because(why) => RequestError::NotAvailable(format!("{}: {why}", target.origin())),
        })
    }

    /// All of it, or why not. The reason names the origin at most: the rest of a URL may hold a key.
    pub async fn get(&self, domain: &str, url: &str) -> Result<Vec<u8>, NoClip> {
        let (policy, client) = &*self.shared;
        let target = Target::parse(url)?;
        policy.check(domain, &target)?;
        let answer = tokio::time::timeout(limits::PROMPT_FETCH, client.get(&target, limits::PROMPT_FETCH_BYTES)).await;
        Ok(answer.map_err(|_| too_slow())??)
    }
}

/// Of what should have come from elsewhere.
pub(crate) fn too_slow() -> NoClip {
    NoClip { why: format!("nothing whole within {} s", limits::PROMPT_FETCH.as_secs()), late: true }
}

/// A service that the node itself chose: no tenant named it, so no tenant's list is asked.
pub struct Service(Target);

/// What it answers.
pub struct Served {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Service {
    pub fn at(url: &str) -> Result<Service, String> {
        Target::parse(url).map(Service)
    }

    /// As the Host header says it.
    pub fn authority(&self) -> &str {
        &self.0.authority
    }

    /// One POST, and its whole answer. The reason names the origin at most.
    pub async fn ask(&self, fetcher: &Fetcher, headers: HeaderMap, body: Vec<u8>) -> Result<Served, String> {
        let sent = Sent { method: Method::POST, headers, body };
        // A connection of the node's own, as no domain is empty.
        let answer = fetcher.exchange("", &self.0, sent, limits::SPEECH_ANSWER).await.map_err(|error| error.to_string())?;
        Ok(Served { status: answer.status, headers: answer.headers, body: answer.body })
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::server;
    use super::*;

    fn fetcher(listed: Vec<String>) -> Fetcher {
        let origins = Arc::new(move |domain: &str| if domain == "a.example" { listed.clone() } else { Vec::new() });
        Fetcher::new(Policy { origins, http: true, loopback: None }, Some(RootCertStore::empty()))
    }

    fn get(fetcher: &Fetcher, domain: &str, url: &str) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(fetcher.get(domain, url)).map_err(|failed| failed.why)
    }

    #[test]
    fn mg_007_a_prompt_is_fetched_from_a_listed_origin_and_from_nowhere_else() {
        let ok = |body: &[u8]| [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
        let (address, thread) =
            server(vec![ok(b"RIFF"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nRI\r\n0\r\n\r\n".to_vec()]);
        let fetcher = fetcher(vec![format!("http://{address}")]);
        assert_eq!(get(&fetcher, "a.example", &format!("http://{address}/prompts/hi.wav?sig=SECRET")), Ok(b"RIFF".to_vec()));
        assert_eq!(get(&fetcher, "a.example", &format!("http://{address}/")), Ok(b"RI".to_vec()));
        let asked = thread.join().expect("it answered twice");
        assert!(asked[0].starts_with("GET /prompts/hi.wav?sig=SECRET HTTP/1.1\r\n"), "{asked:?}");
        // Another tenant's list, another port, a name for this machine, what is no URL: nobody is asked.
        for (domain, url) in [
            ("b.example", format!("http://{address}/")),
            ("a.example", "http://127.0.0.1:1/".to_owned()),
            ("a.example", format!("http://localhost:{}/", address.port())),
            ("a.example", "https://evil.example/".to_owned()),
            ("a.example", "file:///etc/passwd".to_owned()),
        ] {
            let why = get(&fetcher, domain, &url).expect_err("refused");
            assert!(why.starts_with("url: "), "{url}: {why}");
        }
    }

    #[test]
    fn mg_007_a_listed_name_may_not_lead_into_this_network() {
        let (address, _thread) = server(vec![]);
        let fetcher = fetcher(vec![format!("http://localhost:{}", address.port())]);
        let why = get(&fetcher, "a.example", &format!("http://localhost:{}/x.wav", address.port())).expect_err("refused");
        assert!(why.contains("private address"), "{why}");
    }

    #[test]
    fn mg_007_redirects_errors_and_what_is_too_large_are_no_prompts() {
        let large = limits::PROMPT_FETCH_BYTES + 1;
        let (address, thread) = server(vec![
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {large}\r\n\r\n").into_bytes(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_vec(),
            b"nonsense".to_vec(),
        ]);
        let fetcher = fetcher(vec![format!("http://{address}")]);
        for expected in ["302", "404", "larger", "answer", "answer"] {
            let why = get(&fetcher, "a.example", &format!("http://{address}/x?sig=SECRET")).expect_err(expected);
            assert!(why.contains(expected) && !why.contains("SECRET"), "{expected}: {why}");
        }
        thread.join().expect("it answered");
    }
}
