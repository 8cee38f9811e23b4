//! Tenants' JWTs (IC-005): RS256, signed by a key of which the tenant's operator has uploaded the public half. Reads those keys (PEM or JWK)
//! and verifies tokens; which tenant a request is about and what the token opens says `access.rs`.

use crate::jwt;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::Value;

/// Shorter keys can be factored (NIST SP 800-131A); longer ones only cost time.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Clocks differ by so many seconds.
const LEEWAY: f64 = 60.0;

/// An RSA public key: modulus and exponent, big-endian without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl PublicKey {
    /// From what was uploaded: PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or a JWK.
    pub(super) fn read(uploaded: &[u8]) -> Result<PublicKey, String> {
        let text = std::str::from_utf8(uploaded).map_err(|_| "not a text: PEM or JWK is needed")?.trim();
        let key = if text.starts_with('{') { from_jwk(text)? } else { from_pem(text)? };
        let bits = key.bits();
        if !BITS.contains(&bits) {
            return Err(format!("an RSA key of {bits} bits; {} to {} are taken", BITS.start(), BITS.end()));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        // What `ring` takes: odd, 3 to 2^33 - 1.
        let exponent = key.e.iter().take(5).fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if !odd(&key.n) || !odd(&key.e) || key.e.len() > 5 || !(3..1 << 33).contains(&exponent) {
            return Err("not an RSA key: modulus or exponent cannot be".into());
        }
        Ok(key)
    }

    /// Of a key pair: the half that was made public.
    pub(super) fn new((n, e): (Vec<u8>, Vec<u8>)) -> PublicKey {
        PublicKey { n, e }
    }

    pub(super) fn bits(&self) -> usize {
        let zeros = self.n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        self.n.len() * 8 - zeros
    }

    /// As it is stored: both numbers in base64url.
    pub(super) fn to_stored(&self) -> String {
        format!("{}.{}", jwt::encode(&self.n), jwt::encode(&self.e))
    }

    pub(super) fn from_stored(stored: &str) -> Option<PublicKey> {
        let (n, e) = stored.split_once('.')?;
        Some(PublicKey { n: jwt::decode(n)?, e: jwt::decode(e)? })
    }

    /// Names the key where people compare it.
    pub(super) fn thumbprint(&self) -> String {
        jwt::thumbprint(&self.n, &self.e)
    }

    fn signed(&self, parts: &jwt::Parts<'_>) -> bool {
        let key = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, parts.signed, &parts.signature).is_ok()
    }
}

/// A JWT that was read and is not verified yet.
pub(super) struct Jwt<'a>(jwt::Parts<'a>);

impl<'a> Jwt<'a> {
    pub(super) fn parse(token: &'a str) -> Option<Jwt<'a>> {
        jwt::parse(token, "RS256").map(Jwt)
    }

    /// Whom it says it is for (RFC 7519 4.1.3): one or some. Nothing is proven by it.
    pub(super) fn audience(&self) -> Vec<&str> {
        match self.0.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// What its holder may do: `roles` (a list) and `scp` (a text with spaces, RFC 8693 4.2 of another name), where it says any.
    pub(super) fn roles(&self) -> Option<Vec<String>> {
        let texts = |claim: &str| {
            self.0.claims.get(claim).map(|value| match value {
                Value::String(text) => text.split(' ').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
                Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                // Not understood is not everything.
                _ => Vec::new(),
            })
        };
        let said: Vec<Vec<String>> = [texts("roles"), texts("scp")].into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.concat())
    }

    /// Signed by this key, and in its time. `now`: seconds since the Unix epoch. `exp` is required: a token without an end cannot be
    /// taken back.
    pub(super) fn is_valid(&self, key: &PublicKey, now: u64) -> bool {
        let now = now as f64;
        let number = |claim: &str| self.0.claims.get(claim).map(|value| value.as_f64().ok_or(()));
        let ended = !matches!(number("exp"), Some(Ok(exp)) if now < exp + LEEWAY);
        let early = match number("nbf") {
            None => false,
            Some(Ok(nbf)) => now < nbf - LEEWAY,
            Some(Err(())) => true,
        };
        !ended && !early && key.signed(&self.0)
    }
}

fn from_jwk(text: &str) -> Result<PublicKey, String> {
    let jwk: Value = serde_json::from_str(text).map_err(|_| "not a JWK: it is no JSON")?;
    if jwk["kty"] != "RSA" {
        return Err("not an RSA key: `kty` must be RSA".into());
    }
    if jwk.get("d").is_some() {
        return Err("a private key: upload the public one, and consider this one lost".into());
    }
    if jwk.get("alg").is_some_and(|alg| alg != "RS256") {
        return Err("a key for another algorithm: `alg` must be RS256 or absent".into());
    }
    let number =
        |name: &str| jwk[name].as_str().and_then(jwt::decode).ok_or_else(|| format!("not a JWK: `{name}` is missing or not base64url"));
    Ok(PublicKey { n: stripped(&number("n")?), e: stripped(&number("e")?) })
}

fn from_pem(text: &str) -> Result<PublicKey, String> {
    use base64::Engine;
    let label = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
    let (label, rest) = label.ok_or("neither PEM nor JWK")?;
    if label.ends_with("PRIVATE KEY") {
        return Err("a private key: upload the public one, and consider this one lost".into());
    }
    let (body, after) = rest.split_once(&format!("-----END {label}-----")).ok_or("PEM without its end")?;
    if !after.trim().is_empty() {
        return Err("more than one PEM block".into());
    }
    let body: String = body.split_ascii_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| "PEM that is not base64")?;
    let key = match label {
        "PUBLIC KEY" => spki(&der),
        "RSA PUBLIC KEY" => pkcs1(&der),
        _ => return Err(format!("a PEM block of {label:?}; PUBLIC KEY is needed")),
    };
    key.ok_or_else(|| "not an RSA public key".into())
}

/// `rsaEncryption` with its NULL (RFC 8017 A.1).
const RSA_ENCRYPTION: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// SubjectPublicKeyInfo (RFC 5280 4.1).
fn spki(der: &[u8]) -> Option<PublicKey> {
    let (info, []) = element(der, SEQUENCE)? else { return None };
    let (algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, []) = element(rest, BIT_STRING)? else { return None };
    // The first byte counts unused bits.
    (algorithm == RSA_ENCRYPTION && bits.first() == Some(&0)).then(|| pkcs1(&bits[1..])).flatten()
}

/// RSAPublicKey (RFC 8017 A.1.1).
fn pkcs1(der: &[u8]) -> Option<PublicKey> {
    let (key, []) = element(der, SEQUENCE)? else { return None };
    let (n, rest) = element(key, INTEGER)?;
    let (e, []) = element(rest, INTEGER)? else { return None };
    // A leading one is a sign: RSA knows no negative numbers.
    let positive = |number: &[u8]| number.first().is_some_and(|byte| byte & 0x80 == 0);
    (positive(n) && positive(e)).then(|| PublicKey { n: stripped(n), e: stripped(e) })
}

/// The content of the DER element at the beginning, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Two bytes of length hold any key that we take.
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn stripped(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number[zeros..].to_vec()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Made for these tests by `openssl genpkey`; nothing else trusts them.
    const PRIVATE: &str = include_str!("testdata/tenant-private.pem");
    const PUBLIC: &str = include_str!("testdata/tenant-public.pem");
    const PKCS1: &str = include_str!("testdata/tenant-public-pkcs1.pem");
    const SHORT: &str = include_str!("testdata/short-public.pem");
    const EC: &str = include_str!("testdata/ec-public.pem");

    pub(in crate::api) fn public_pem() -> &'static str {
        PUBLIC
    }

    /// A JWT as a tenant's back office makes it.
    pub(in crate::api) fn sign(header: &Value, claims: &Value) -> String {
        use base64::Engine;
        let body: String = PRIVATE.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).expect("the key is PEM");
        let key = ring::signature::RsaKeyPair::from_pkcs8(&der).expect("the key is PKCS 8");
        let signed = format!("{}.{}", jwt::encode(header.to_string()), jwt::encode(claims.to_string()));
        let mut signature = vec![0; key.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        key.sign(&ring::signature::RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("signed");
        format!("{signed}.{}", jwt::encode(signature))
    }

    fn rs256() -> Value {
        json!({ "alg": "RS256", "typ": "JWT" })
    }

    #[test]
    fn ic_005_keys_are_read_from_pem_and_jwk() {
        let key = PublicKey::read(PUBLIC.as_bytes()).expect("a key");
        assert_eq!(key.bits(), 2048);
        assert_eq!(PublicKey::read(PKCS1.as_bytes()).expect("the same key"), key);
        let jwk = json!({ "kty": "RSA", "n": jwt::encode(&key.n), "e": jwt::encode(&key.e), "kid": "mine", "use": "sig" });
        assert_eq!(PublicKey::read(jwk.to_string().as_bytes()).expect("the same key"), key);
        assert_eq!(PublicKey::from_stored(&key.to_stored()), Some(key.clone()));
        assert_eq!(key.thumbprint().len(), 64);
    }

    #[test]
    fn ic_005_other_keys_are_refused_with_the_reason() {
        let key = PublicKey::read(PUBLIC.as_bytes()).expect("a key");
        let jwk = |fields: Value| {
            let mut jwk = json!({ "kty": "RSA", "n": jwt::encode(&key.n), "e": jwt::encode(&key.e) });
            for (name, value) in fields.as_object().expect("an object") {
                jwk[name] = value.clone();
            }
            jwk.to_string()
        };
        let cut = PUBLIC.replace("-----END PUBLIC KEY-----", "");
        let twice = format!("{PUBLIC}{PUBLIC}");
        for (uploaded, why) in [
            (SHORT.to_owned(), "1024 bits; 2048"),
            (EC.to_owned(), "not an RSA"),
            (PRIVATE.to_owned(), "private key"),
            (cut, "without its end"),
            (twice, "more than one"),
            (PUBLIC.replace("PUBLIC KEY", "CERTIFICATE"), "CERTIFICATE"),
            ("-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----".into(), "not base64"),
            ("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----".into(), "not an RSA"),
            ("hello".into(), "neither PEM nor JWK"),
            (String::new(), "neither PEM nor JWK"),
            ("{".into(), "no JSON"),
            (jwk(json!({ "kty": "EC" })), "`kty`"),
            (jwk(json!({ "d": "AA" })), "private key"),
            (jwk(json!({ "alg": "RS512" })), "`alg`"),
            (jwk(json!({ "n": 5 })), "`n`"),
            (jwk(json!({ "e": "AA" })), "cannot be"),
            (jwk(json!({ "e": "AQ" })), "cannot be"),
            (jwk(json!({ "e": "BA" })), "cannot be"),
            (jwk(json!({ "n": "AQAB" })), "17 bits"),
        ] {
            let error = PublicKey::read(uploaded.as_bytes()).expect_err(&uploaded);
            assert!(error.contains(why), "{uploaded:.60}: {error}");
        }
        assert!(PublicKey::read(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn a_cut_or_changed_key_is_no_panic() {
        use base64::Engine;
        let body: String = PUBLIC.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body).expect("PEM");
        assert!(spki(&der).is_some());
        for end in 0..der.len() {
            assert!(spki(&der[..end]).is_none(), "cut at {end}");
        }
        for place in 0..40 {
            let mut changed = der.clone();
            changed[place] ^= 0xff;
            let _ = spki(&changed);
        }
    }

    #[test]
    fn ic_005_a_token_is_valid_when_signed_and_in_its_time() {
        let key = PublicKey::read(PUBLIC.as_bytes()).expect("a key");
        let valid = |claims: Value, now: u64| Jwt::parse(&sign(&rs256(), &claims)).is_some_and(|jwt| jwt.is_valid(&key, now));
        assert!(valid(json!({ "exp": 1000 }), 1059));
        assert!(!valid(json!({ "exp": 1000 }), 1060), "60 s of leeway");
        assert!(valid(json!({ "exp": 1000.5, "nbf": 960 }), 900));
        assert!(!valid(json!({ "exp": 1000, "nbf": 961 }), 900));
        for claims in [json!({}), json!({ "exp": "1000" }), json!({ "exp": null }), json!({ "exp": 1000, "nbf": "0" })] {
            assert!(!valid(claims.clone(), 900), "{claims}");
        }
        let token = sign(&rs256(), &json!({ "exp": 1000, "aud": ["a", 1, "b"] }));
        assert_eq!(Jwt::parse(&token).expect("a JWT").audience(), ["a", "b"]);

        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let (header, _) = signed.split_once('.').expect("two parts");
        let other = format!("{header}.{}.{signature}", jwt::encode(r#"{"exp":99999999999}"#));
        let cut = format!("{signed}.{}", &signature[..signature.len() - 4]);
        let empty = format!("{signed}.");
        for bad in [other, cut, empty] {
            assert!(!Jwt::parse(&bad).is_some_and(|jwt| jwt.is_valid(&key, 900)), "{bad}");
        }
    }

    #[test]
    fn ic_005_the_public_key_is_no_hmac_secret() {
        use ring::hmac;
        let claims = json!({ "exp": 99_999_999_999u64 });
        for alg in ["HS256", "none", "RS512", "PS256", "rs256", "RS256 "] {
            let header = json!({ "alg": alg });
            assert!(Jwt::parse(&sign(&header, &claims)).is_none(), "{alg}");
            // The classic: the verifier's public key taken as an HMAC key.
            let signed = format!("{}.{}", jwt::encode(header.to_string()), jwt::encode(claims.to_string()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, PUBLIC.as_bytes()), signed.as_bytes());
            assert!(Jwt::parse(&format!("{signed}.{}", jwt::encode(tag))).is_none(), "{alg}");
        }
    }
}
