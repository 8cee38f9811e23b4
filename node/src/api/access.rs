//! Who may do what: tokens, and the one place where a request is let through or not. Every request passes `guard`, also those that no
//! route takes, so that a stranger learns nothing about what exists.

use super::bearer::{Jwt, PublicKey};
use super::endpoint::Need;
use super::reply::{ApiError, Code, forget, gather};
use super::roles::{Role, Roles};
use super::{Api, blocking, endpoints};
use crate::deliver::Link;
use crate::store::{FROM, KeyRow, Store, wall_ms};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, PoisonError};
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

/// Who asks, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    who: Who,
    /// The address of the connection.
    from: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Operator,
    /// With a token of this domain, or a JWT that one of its keys verifies. `by`: which one.
    Tenant {
        domain: String,
        by: String,
        roles: Roles,
        /// What a JWT says that its holder may do. `None`: it says nothing of that, and opens all that its key does.
        claims: Option<Vec<String>>,
    },
    /// With a link to one recording; it is checked to be this one.
    Link(Link),
}

impl Caller {
    /// Whether a JWT that speaks of roles at all has this one of another system's. Tokens of ours know no such roles, and have them all.
    pub(super) fn claims(&self, role: &str) -> bool {
        match &self.who {
            Who::Operator => true,
            Who::Tenant { claims, .. } => claims.as_ref().is_none_or(|claims| claims.iter().any(|own| own == role)),
            Who::Link(_) => false,
        }
    }

    pub(super) fn is_link(&self) -> bool {
        matches!(self.who, Who::Link(_))
    }

    /// Who it is, without the address.
    pub(super) fn name(&self) -> String {
        match &self.who {
            Who::Operator => "operator".into(),
            Who::Tenant { by, .. } => by.clone(),
            Who::Link(link) => format!("link of {}", link.by),
        }
    }

    /// Whether it may use what needs this. Whose domain it is, is asked elsewhere.
    fn has(&self, need: Need) -> bool {
        match (&self.who, need) {
            (Who::Operator, _) | (_, Need::Nothing) => true,
            (Who::Tenant { roles, .. }, Need::Role(role)) => roles.have(role),
            // What a link opens is said by `opens`.
            (Who::Link(_), Need::Role(role)) => role == Role::Read,
            (Who::Tenant { .. } | Who::Link(_), Need::Operator) => false,
        }
    }
}

/// As the audit takes it: who, and from where.
impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{FROM}{}", self.name(), self.from)
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
pub(super) const RESERVED: [&str; 7] = ["admin", "metrics", "healthz", "console", "openapi.json", "provisioning", "mediaservice"];

fn scope(path: &str) -> Scope {
    let mut parts = path.trim_start_matches('/').split('/');
    let first = parts.next().unwrap_or("");
    // The vendor's set-up names the tenant further back.
    let further = match first {
        "mediaservice" => parts.next(),
        "provisioning" => parts.nth(1),
        _ => None,
    };
    if let Some(domain) = further.filter(|domain| !domain.is_empty()) {
        return Scope::Tenant(domain.to_ascii_lowercase());
    }
    match first {
        _ if path == "/healthz" || path == "/openapi.json" => Scope::Open,
        "" => Scope::Operator,
        first if RESERVED.contains(&first) => Scope::Operator,
        first => Scope::Tenant(first.to_ascii_lowercase()),
    }
}

/// What each route needs, by method and path as the table has it.
static NEEDS: LazyLock<HashMap<&'static str, Vec<(&'static str, Need)>>> = LazyLock::new(|| {
    let mut needs: HashMap<_, Vec<_>> = HashMap::new();
    for endpoint in endpoints() {
        needs.entry(endpoint.path).or_default().push((endpoint.method, endpoint.need()));
    }
    needs
});

/// What this request needs. A path or method that no route takes needs nothing more than a token: it is told so next.
fn need(request: &Request) -> Need {
    let method = if *request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let of_path = NEEDS.get(path).into_iter().flatten();
    of_path.clone().find(|(of, _)| method.as_str().eq_ignore_ascii_case(of)).map_or(Need::Nothing, |(_, need)| *need)
}

/// Every request passes here. What follows finds [`Caller`] and, below `/{domain}`, [`Domain`] in the request.
pub(super) async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let scope = scope(request.uri().path());
    let (shown, asked, need) = (Shown::of(&request), Asked::of(&request, &scope), need(&request));
    let caller = authenticate(&api, shown, &scope).await;
    let let_in = match &caller {
        Ok(Some(caller)) => authorize(&api, caller, &scope, need).await,
        Ok(None) | Err(_) => Ok(()),
    };
    let (caller, refused) = match (caller, let_in) {
        (Err(error), _) => (None, Some(error)),
        (Ok(caller), Err(error)) => (caller, Some(error)),
        (Ok(caller), Ok(())) => (caller, None),
    };
    let mut response = match refused {
        None => {
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            if let Scope::Tenant(domain) = scope {
                request.extensions_mut().insert(Domain(domain));
            }
            match gather(request).await {
                Ok(request) => next.run(request).await,
                Err(error) => error.into_response(),
            }
        }
        Some(error) => {
            forget(request).await;
            error.into_response()
        }
    };
    if let (Some(caller), Some(Code(code))) = (&caller, response.extensions().get::<Code>()) {
        asked.note_refusal(&api, caller, code);
    }
    // IC-004. Credentials are a header that a foreign page does not have, never a cookie: any origin may ask.
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, content-range"));
    response
}

/// What was asked for, as the audit says it where it is refused.
struct Asked {
    /// `None`: nothing would have changed.
    what: Option<String>,
    domain: String,
}

impl Asked {
    fn of(request: &Request, scope: &Scope) -> Asked {
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        let domain = match scope {
            Scope::Tenant(domain) => domain.clone(),
            Scope::Open | Scope::Operator => String::new(),
        };
        // A path is visible ASCII: hyper takes no other.
        let what = || format!("{} {:.200}", request.method(), request.uri().path());
        Asked { what: changes.then(what), domain }
    }

    /// What was done notes itself where it is done, in the same transaction. Of refusals there may be any number, so they have a rate.
    fn note_refusal(self, api: &Api, caller: &Caller, code: &'static str) {
        let Some(what) = self.what else { return };
        let domain = match &caller.who {
            Who::Tenant { domain, .. } => domain.clone(),
            Who::Operator | Who::Link(_) => self.domain,
        };
        let allowed = api.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(api.since_start(), &domain).is_ok();
        if allowed {
            api.store.save_refusal(&caller.to_string(), &domain, what, code);
        }
    }
}

/// What a request shows of who sent it.
struct Shown {
    token: Option<String>,
    from: String,
    method: Method,
    path: String,
}

impl Shown {
    fn of(request: &Request) -> Shown {
        let from = request.extensions().get::<ConnectInfo<Peer>>().map_or_else(String::new, |ConnectInfo(peer)| peer.to_string());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Shown { token: bearer(request.headers()), from, method, path }
    }
}

/// Who shows which token. Without a valid one: nothing.
async fn authenticate(api: &Arc<Api>, shown: Shown, scope: &Scope) -> Result<Option<Caller>, ApiError> {
    if *scope == Scope::Open {
        return Ok(None);
    }
    let Shown { token, from, method, path } = shown;
    let token = token.ok_or_else(ApiError::unauthorized)?;
    if let Some(link) = api.archive.links.verify(wall_ms(), &token) {
        // As good as none: what else is there is not its holder's business.
        let opens = opens(&link, &method, &path);
        return if opens { Ok(Some(Caller { who: Who::Link(link), from })) } else { Err(ApiError::unauthorized()) };
    }
    if api.token.is(&token) {
        return Ok(Some(Caller { who: Who::Operator, from }));
    }
    let (store, scope) = (api.store.clone(), scope.clone());
    blocking(move || {
        let who = match Jwt::parse(&token) {
            Some(jwt) => signer(&store, &jwt, &scope)?.map(|(domain, row)| {
                let claims = jwt.roles();
                let roles = Roles::read(&row.roles).unwrap_or_default().narrowed(claims.as_deref());
                Who::Tenant { domain, by: format!("key {}", row.label), roles, claims }
            }),
            None => store.token_owner(&hash_hex(&token))?.map(|owner| {
                let roles = Roles::read(&owner.roles).unwrap_or_default();
                Who::Tenant { domain: owner.domain, by: format!("token {}", owner.label), roles, claims: None }
            }),
        };
        Ok(Some(Caller { who: who.ok_or_else(ApiError::unauthorized)?, from }))
    })
    .await
}

/// The one decision: a tenant's token opens its own domain only, and there what its roles allow; then the domain must exist.
async fn authorize(api: &Arc<Api>, caller: &Caller, scope: &Scope, need: Need) -> Result<(), ApiError> {
    match (&caller.who, scope) {
        (Who::Operator | Who::Link(_), Scope::Tenant(domain)) => {
            let (store, domain) = (api.store.clone(), domain.clone());
            blocking(move || store.tenant(&domain)?.map(drop).ok_or_else(|| ApiError::not_found("unknown domain"))).await?;
        }
        (Who::Operator, _) => {}
        (Who::Tenant { domain: own, .. }, Scope::Tenant(domain)) if own == domain => {}
        (Who::Tenant { .. } | Who::Link(_), _) => return Err(ApiError::forbidden("this token does not open this")),
    }
    match need {
        need if caller.has(need) => Ok(()),
        Need::Role(role) => Err(ApiError::forbidden(&format!("this token has not the role {}", role.name()))),
        Need::Nothing | Need::Operator => Err(ApiError::forbidden("this token does not open this")),
    }
}

/// A link opens the audio of its recording, for reading.
fn opens(link: &Link, method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let read = matches!(*method, Method::GET | Method::HEAD);
    read && matches!(parts.as_slice(), ["", domain, "recordings", id, "audio"] if domain.eq_ignore_ascii_case(&link.domain) && *id == link.recording)
}

/// The tenant that a JWT is for and that has a key that verifies it, and which key (IC-005). Where it is for several, the one that is asked
/// for comes first.
fn signer(store: &Store, jwt: &Jwt<'_>, scope: &Scope) -> Result<Option<(String, KeyRow)>, ApiError> {
    /// Domains that a token may be for; more are not looked at: each costs a look into the store, and who sent it is not proven yet.
    const AUDIENCE: usize = 4;
    let mut domains: Vec<String> = jwt.audience().into_iter().map(str::to_ascii_lowercase).collect();
    domains.sort_by_key(|domain| !matches!(scope, Scope::Tenant(asked) if asked == domain));
    for domain in domains.into_iter().take(AUDIENCE) {
        for row in store.keys(&domain)? {
            let now = wall_ms();
            if row.expires_at.is_none_or(|at| at > now)
                && PublicKey::from_stored(&row.key).is_some_and(|key| jwt.is_valid(&key, now / 1000))
            {
                store.key_used(&domain, &row);
                return Ok(Some((domain, row)));
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
            ("/provisioning/device/Demo.Localhost", tenant("demo.localhost")),
            ("/provisioning/device/demo.localhost/unit-1", tenant("demo.localhost")),
            ("/mediaservice/demo.localhost", tenant("demo.localhost")),
            ("/provisioning/device/", Scope::Operator),
            ("/mediaservice", Scope::Operator),
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
