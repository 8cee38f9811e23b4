//! The signature of a tenant's callbacks (IC-017): a JWT by the tenant's callback key, so that a receiver can tell who asks. Its key pair is
//! another than the one that opens the API: a node that is broken into can then not be told what to do in the tenant's name elsewhere.
//!
//! `Authorization: Bearer <RS256 JWT>` with `iss` (the domain), `aud` (the receiver's origin: what one receiver sees is worth nothing at
//! another), `iat` and `exp`; `kid` is the thumbprint of the public key (RFC 7638). A request that has an `Authorization` of its own is left
//! alone.

use crate::jwt;
use crate::limits;
use crate::store::wall_ms;
use hyper::header::HeaderValue;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, PublicKeyComponents};
use ring::signature::RSA_PKCS1_SHA256;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The secret of this name is a tenant's callback key: not shown to its handlers, since it may outlive each of them.
pub const CALLBACK_KEY: &str = "callback-key";
/// As for the keys that open the API.
const LEAST_BITS: usize = 2048;

/// A tenant's callback key in PEM, where it has one.
pub type Keys = Arc<dyn Fn(Arc<str>) -> Pin<Box<dyn Future<Output = Option<String>> + Send>> + Send + Sync>;

/// Signs in the name of tenants. Clones are equal.
#[derive(Clone)]
pub struct Signer {
    keys: Keys,
    made: Arc<Mutex<Made>>,
}

/// When each was made, by domain and receiver's origin; `None`: the tenant has no key.
type Made = BTreeMap<(Arc<str>, String), (Instant, Option<HeaderValue>)>;

impl Signer {
    pub fn new(keys: Keys) -> Signer {
        Signer { keys, made: Arc::default() }
    }

    /// What a request of this tenant to this origin is signed with.
    pub(super) async fn authorization(&self, domain: &Arc<str>, origin: &str) -> Option<HeaderValue> {
        self.authorization_at(Instant::now(), domain, origin).await
    }

    async fn authorization_at(&self, now: Instant, domain: &Arc<str>, origin: &str) -> Option<HeaderValue> {
        let is_fresh = |since: Instant| now.saturating_duration_since(since) < limits::SIGNATURE_FRESH;
        let key = (domain.clone(), origin.to_owned());
        if let Some((since, value)) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && is_fresh(*since)
        {
            return value.clone();
        }
        let value = match (self.keys)(domain.clone()).await {
            None => None,
            Some(pem) => sign(&pem, domain, origin, wall_ms() / 1000)
                .inspect_err(|why| tracing::error!(%domain, why, "callbacks go out unsigned: the callback key is of no use"))
                .ok(),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= limits::SIGNATURES {
            made.retain(|_, (since, _)| is_fresh(*since));
        }
        if made.len() < limits::SIGNATURES {
            made.insert(key, (now, value.clone()));
        }
        value
    }
}

/// Of a key that can sign: its public half's modulus and exponent, big-endian. Else why it cannot.
pub fn public_half(pem: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
    let PublicKeyComponents { n, e } = read(pem)?.public().into();
    Ok((n, e))
}

fn read(pem: &str) -> Result<KeyPair, String> {
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "not a private key in PEM")?;
    let key = match &der {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err("not an RSA key".into()),
    };
    let key = key.map_err(|why| format!("not an RSA key of {LEAST_BITS} to 4096 bits: {why}"))?;
    match key.public().modulus_len() * 8 {
        bits if bits < LEAST_BITS => Err(format!("an RSA key of {bits} bits; {LEAST_BITS} at least")),
        _ => Ok(key),
    }
}

/// `now`: seconds since the Unix epoch.
fn sign(pem: &str, domain: &str, origin: &str, now: u64) -> Result<HeaderValue, String> {
    let key = read(pem)?;
    let (n, e) = public_half(pem)?;
    let kid = jwt::thumbprint(&n, &e);
    let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": kid });
    let claims = serde_json::json!({ "iss": domain, "aud": origin, "iat": now, "exp": now + limits::SIGNATURE_VALID.as_secs() });
    let mut token = format!("{}.{}", jwt::encode(header.to_string()), jwt::encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature).map_err(|_| "it does not sign")?;
    token.push('.');
    jwt::encode_onto(signature, &mut token);
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "no header value")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
