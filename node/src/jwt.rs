//! Compact JSON Web Tokens (RFC 7515 7.1) as both kinds of ours need them: three parts, strict base64url, a header that names the one
//! algorithm that the caller expects. Signatures are checked by the caller, who has the keys: `reply_keys.rs` (HS256), `api/bearer.rs`
//! (RS256).
//!
//! Strict on purpose: what is not understood is refused, and nothing in a token chooses how it is verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Longest token looked at; ours have about 400 bytes, an RS256 token stays below 1 KB.
pub(crate) const TOKEN_BYTES: usize = 4096;

/// A token that was taken apart. Nothing in it is proven yet.
pub(crate) struct Parts<'a> {
    pub(crate) kid: Option<String>,
    pub(crate) claims: Map<String, Value>,
    /// Header and payload with their dot: what the signature is about.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

/// `None`: not a token of this algorithm. The algorithm's name is compared byte by byte: `none`, `hs256` and others are as wrong as noise.
pub(crate) fn parse<'a>(token: &'a str, algorithm: &str) -> Option<Parts<'a>> {
    if token.len() > TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Map<String, Value> = serde_json::from_slice(&decode(header)?).ok()?;
    // RFC 7515 4.1.11: extensions named in `crit` must be understood, and none is here.
    let expected = header.get("alg").and_then(Value::as_str) == Some(algorithm) && !header.contains_key("crit");
    if !expected {
        return None;
    }
    let kid = header.get("kid").and_then(Value::as_str).map(str::to_owned);
    let claims = serde_json::from_slice(&decode(payload)?).ok()?;
    Some(Parts { kid, claims, signed: signed.as_bytes(), signature: decode(signature)? })
}

/// Without padding, as RFC 7515 2 has it; stray bits at the end are refused, so that one token has one spelling.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Appends to what is there already, without a text of its own.
pub(crate) fn encode_onto(bytes: impl AsRef<[u8]>, text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// Names an RSA public key where people compare it: SHA-256 over its JWK (RFC 7638), in hex.
pub(crate) fn thumbprint(n: &[u8], e: &[u8]) -> String {
    let jwk = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(e), encode(n));
    crate::versions::sha256_hex(jwk.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", encode(header), encode(payload), encode("signature"))
    }

    #[test]
    fn the_algorithm_is_pinned_byte_by_byte() {
        assert!(parse(&token(r#"{"alg":"HS256"}"#, "{}"), "HS256").is_some());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"typ":"JWT"}"#,
            "[]",
            "HS256",
        ] {
            assert!(parse(&token(header, "{}"), "HS256").is_none(), "{header}");
        }
    }

    #[test]
    fn what_is_not_three_strict_parts_is_no_token() {
        let good = token(r#"{"alg":"HS256"}"#, r#"{"exp":1}"#);
        let parts = parse(&good, "HS256").expect("a token");
        assert_eq!((parts.signature.as_slice(), parts.claims["exp"].as_u64()), (b"signature".as_slice(), Some(1)));
        for bad in ["", ".", "..", "a.b.c", &format!("{good}="), &format!("{good}.x"), &good.replace('.', ""), &"a".repeat(TOKEN_BYTES + 1)]
        {
            assert!(parse(bad, "HS256").is_none(), "{bad:.80}");
        }
        assert!(parse(&token(r#"{"alg":"HS256"}"#, "[]"), "HS256").is_none(), "claims are an object");
    }
}
