//! Who may do what: tokens, and the one place where a request is let through or not. Every request passes `guard`, also those that no
//! route takes, so that a stranger learns nothing about what exists.

use super::bearer::{Jwt, PublicKey};
use super::reply::{ApiError, forget, gather};
use super::{Api, blocking};
use crate::deliver::Link;
use crate::store::{Store, wall_ms};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The operator's token lies in this file of the data folder.
pub const ADMIN_TOKEN_FILE: &str = "admin-token";
/// Shorter ones can be guessed; the operator is told, since it is a choice of theirs.
const TOKEN_WEAK: usize = 16;

/// The operator's token, as its hash. Comparing hashes takes the same time whatever was sent.
#[derive(Clone)]
pub struct AdminToken {
    hash: [u8; 32],
    /// Where it lies; `None` when it was given by environment.
    pub file: Option<PathBuf>,
}

impl AdminToken {
    /// The token that was given, else the one in the data folder, else a new one that is put there (mode 0600).
    pub fn load(data: &Path, given: Option<&str>) -> io::Result<AdminToken> {
        if let Some(token) = given {
            check(token).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, format!("HOOKSWITCH_ADMIN_TOKEN: {why}")))?;
            return Ok(AdminToken { hash: hash(token), file: None });
        }
        let path = data.join(ADMIN_TOKEN_FILE);
        let token = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others could read the operator's token; closed");
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
                }
                text.trim().to_owned()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = new_token()?;
                let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                writeln!(file, "{token}")?;
                file.sync_all()?;
                token
            }
            Err(error) => return Err(error),
        };
        check(&token).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display())))?;
        Ok(AdminToken { hash: hash(&token), file: Some(path) })
    }

    fn is(&self, token: &str) -> bool {
        self.hash.ct_eq(&hash(token)).into()
    }
}

fn check(token: &str) -> Result<(), &'static str> {
    if token.is_empty() || token.len() > crate::jwt::TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is made of visible ASCII characters");
    }
    if token.len() < TOKEN_WEAK {
        tracing::warn!("the operator's token is short enough to be guessed");
    }
    Ok(())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

pub(super) fn hash_hex(token: &str) -> String {
    crate::versions::sha256_hex(token.as_bytes())
}

/// 256 bits from the kernel, in hex.
pub(super) fn new_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Who asks; the audit names them so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Operator,
    /// With a token of this domain, or a JWT that one of its keys verifies. `by`: which one, as the audit says it.
    Tenant {
        domain: String,
        by: String,
        /// What a JWT says that its holder may do. `None`: it says nothing of that, and opens all of the tenant's.
        roles: Option<Vec<String>>,
    },
    /// With a link to one recording; it is checked to be this one.
    Link(Link),
}

impl Caller {
    /// Whether it may do what this role stands for. Roles only narrow: who is told none has them all.
    pub(super) fn may(&self, role: &str) -> bool {
        match self {
            Caller::Operator => true,
            Caller::Tenant { roles, .. } => roles.as_ref().is_none_or(|roles| roles.iter().any(|own| own == role)),
            Caller::Link(_) => false,
        }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Operator => f.write_str("operator"),
            Caller::Tenant { by, .. } => f.write_str(by),
            Caller::Link(link) => write!(f, "link of {}", link.by),
        }
    }
}

/// Whose a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Open,
    Operator,
    Tenant(String),
}

/// First segments that are ours; no tenant may be called so.
pub(super) const RESERVED: [&str; 6] = ["admin", "metrics", "healthz", "console", "openapi.json", "provisioning"];

fn scope(path: &str) -> Scope {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        _ if path == "/healthz" || path == "/openapi.json" => Scope::Open,
        "" => Scope::Operator,
        first if RESERVED.contains(&first) => Scope::Operator,
        first => Scope::Tenant(first.to_ascii_lowercase()),
    }
}

/// Every request passes here. What follows finds [`Caller`] and, below `/{domain}`, [`Domain`] in the request.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let scope = scope(request.uri().path());
    let mut response = match authorize(&api, (request.method(), request.uri().path()), request.headers(), scope.clone()).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            if let Scope::Tenant(domain) = scope {
                request.extensions_mut().insert(Domain(domain));
            }
            match gather(request).await {
                Ok(request) => next.run(request).await,
                Err(error) => error.into_response(),
            }
        }
        Err(error) => {
            forget(request).await;
            error.into_response()
        }
    };
    // IC-004. Credentials are a header that a foreign page does not have, never a cookie: any origin may ask.
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, content-range"));
    response
}

/// The one decision: without a valid token nothing; a tenant's token opens its own domain only; then the domain must exist.
async fn authorize(api: &Arc<Api>, asked: (&Method, &str), headers: &HeaderMap, scope: Scope) -> Result<Option<Caller>, ApiError> {
    if scope == Scope::Open {
        return Ok(None);
    }
    let token = bearer(headers).ok_or_else(ApiError::unauthorized)?;
    let link = api.archive.links.verify(wall_ms(), &token);
    if link.as_ref().is_some_and(|link| !opens(link, asked.0, asked.1)) {
        // As good as none: what else is there is not its holder's business.
        return Err(ApiError::unauthorized());
    }
    let operator = api.token.is(&token);
    let store = api.store.clone();
    blocking(move || {
        let caller = if let Some(link) = link {
            Caller::Link(link)
        } else if operator {
            Caller::Operator
        } else {
            let owner = match Jwt::parse(&token) {
                Some(jwt) => signer(&store, &jwt, &scope)?.map(|(domain, by)| (domain, by, jwt.roles())),
                None => store.token_owner(&hash_hex(&token))?.map(|(domain, label)| (domain, format!("token {label}"), None)),
            };
            let (domain, by, roles) = owner.ok_or_else(ApiError::unauthorized)?;
            Caller::Tenant { domain, by, roles }
        };
        match (&caller, scope) {
            (Caller::Operator | Caller::Link(_), Scope::Tenant(domain)) => match store.tenant(&domain)? {
                Some(_) => Ok(Some(caller)),
                None => Err(ApiError::not_found("unknown domain")),
            },
            (Caller::Operator, _) => Ok(Some(caller)),
            (Caller::Tenant { domain: own, .. }, Scope::Tenant(domain)) if *own == domain => Ok(Some(caller)),
            (Caller::Tenant { .. } | Caller::Link(_), _) => Err(ApiError::forbidden("this token does not open this")),
        }
    })
    .await
}

/// A link opens the audio of its recording, for reading.
fn opens(link: &Link, method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let read = matches!(*method, Method::GET | Method::HEAD);
    read && matches!(parts.as_slice(), ["", domain, "recordings", id, "audio"] if domain.eq_ignore_ascii_case(&link.domain) && *id == link.recording)
}

/// The tenant that a JWT is for and that has a key that verifies it, and which key (IC-005). Where it is for several, the one that is asked
/// for comes first.
fn signer(store: &Store, jwt: &Jwt<'_>, scope: &Scope) -> Result<Option<(String, String)>, ApiError> {
    /// Domains that a token may be for; more are not looked at: each costs a look into the store, and who sent it is not proven yet.
    const AUDIENCE: usize = 4;
    let mut domains: Vec<String> = jwt.audience().into_iter().map(str::to_ascii_lowercase).collect();
    domains.sort_by_key(|domain| !matches!(scope, Scope::Tenant(asked) if asked == domain));
    for domain in domains.into_iter().take(AUDIENCE) {
        for row in store.keys(&domain)? {
            if PublicKey::from_stored(&row.key).is_some_and(|key| jwt.is_valid(&key, wall_ms() / 1000)) {
                return Ok(Some((domain, format!("key {}", row.label))));
            }
        }
    }
    Ok(None)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= crate::jwt::TOKEN_BYTES).then(|| token.to_owned())
}

/// IC-003. It tells nothing that the documentation does not.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, idempotency-key, range"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ];
    (headers, axum::Json(serde_json::json!({}))).into_response()
}

/// The tenant that a path below `/{domain}` is about. It exists, and the caller may see it.
#[derive(Clone, Debug)]
pub(super) struct Domain(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Domain {
    type Rejection = ApiError;
    /// Absent where a reserved first segment met a tenant's route, e.g. `/admin/guests`: there is no such thing.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Domain, ApiError> {
        parts.extensions.get::<Domain>().cloned().ok_or_else(|| ApiError::not_found("no such resource"))
    }
}

/// Where a request comes from: the address of its connection, which of a proxy is the proxy's.
#[derive(Clone, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Peer, ApiError> {
        // Every connection has one.
        parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone()).ok_or_else(ApiError::internal)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, ApiError> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(ApiError::unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_one() {
        let tenant = |domain: &str| Scope::Tenant(domain.into());
        for (path, expected) in [
            ("/healthz", Scope::Open),
            ("/openapi.json", Scope::Open),
            ("/healthz/", Scope::Operator),
            ("/healthz/guests", Scope::Operator),
            ("/", Scope::Operator),
            ("/metrics", Scope::Operator),
            ("/admin/tenants", Scope::Operator),
            ("//admin/tenants", Scope::Operator),
            ("/demo.localhost/guests", tenant("demo.localhost")),
            ("/Demo.Localhost/guests", tenant("demo.localhost")),
            ("/%61dmin/tenants", tenant("%61dmin")),
        ] {
            assert_eq!(scope(path), expected, "{path}");
        }
    }

    #[test]
    fn the_token_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = AdminToken::load(folder.path(), None).expect("made");
        let path = first.file.clone().expect("in a file");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.trim().len(), 64);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(first.is(text.trim()));
        assert!(!first.is("guess"));

        // Kept over a restart, closed again when somebody opened it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("mine");
        assert!(AdminToken::load(folder.path(), None).expect("read").is(text.trim()));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

        let given = AdminToken::load(folder.path(), Some("of-my-own-choice")).expect("given");
        assert!(given.is("of-my-own-choice") && !given.is(text.trim()) && given.file.is_none());
        for bad in ["", "two words", "line\n"] {
            assert!(AdminToken::load(folder.path(), Some(bad)).is_err(), "{bad:?}");
        }
    }
}
