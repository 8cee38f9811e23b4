//! Whom a signature is for, for how long, and which keys cannot make one.

use super::*;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Made for these tests by `openssl genpkey`; nothing else trusts it.
const PEM: &str = include_str!("../../api/testdata/tenant-private.pem");

fn signer(pem: Option<&'static str>) -> (Signer, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let keys: Keys = Arc::new(move |domain| {
        counted.fetch_add(1, Ordering::Relaxed);
        let pem = pem.filter(|_| &*domain == "a.example").map(str::to_owned);
        Box::pin(async move { pem })
    });
    (Signer::new(keys), asked)
}

fn token(value: &HeaderValue) -> &str {
    value.to_str().expect("text").strip_prefix("Bearer ").expect("a bearer token")
}

#[tokio::test]
async fn ic_017_a_callback_is_signed_for_its_receiver_and_its_time() {
    let (signer, _) = signer(Some(PEM));
    let value = signer.authorization(&"a.example".into(), "https://app.example").await.expect("signed");
    assert!(value.is_sensitive(), "it would be shown in a log");
    let parts = jwt::parse(token(&value), "RS256").expect("a JWT");
    let (n, e) = public_half(PEM).expect("a key");
    RsaPublicKeyComponents { n: &n, e: &e }.verify(&RSA_PKCS1_2048_8192_SHA256, parts.signed, &parts.signature).expect("genuine");
    assert_eq!(parts.kid, Some(jwt::thumbprint(&n, &e)));
    assert_eq!((&parts.claims["iss"], &parts.claims["aud"]), (&"a.example".into(), &"https://app.example".into()));
    let number = |claim: &str| parts.claims[claim].as_u64().expect(claim);
    assert_eq!(number("exp") - number("iat"), limits::SIGNATURE_VALID.as_secs());
    assert!(number("iat").abs_diff(wall_ms() / 1000) < 5);
}

#[tokio::test]
async fn ic_017_a_signature_is_made_once_a_minute_for_each_receiver() {
    let (signer, asked) = signer(Some(PEM));
    let domain: Arc<str> = "a.example".into();
    let now = Instant::now();
    let first = signer.authorization_at(now, &domain, "https://app.example").await;
    let later = now + limits::SIGNATURE_FRESH;
    assert_eq!(signer.authorization_at(later - std::time::Duration::from_millis(1), &domain, "https://app.example").await, first);
    assert_ne!(signer.authorization_at(now, &domain, "https://other.example").await, first);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert!(signer.authorization_at(later, &domain, "https://app.example").await.is_some());
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn ic_017_without_a_key_nothing_is_signed() {
    let (none, asked) = signer(Some(PEM));
    for _ in 0..3 {
        assert_eq!(none.authorization(&"b.example".into(), "https://app.example").await, None);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "that there is none is known for a minute, too");
    let (broken, _) = signer(Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
    assert_eq!(broken.authorization(&"a.example".into(), "https://app.example").await, None);
}

#[test]
fn ic_017_a_key_that_cannot_sign_is_refused_with_the_reason() {
    for (pem, why) in [
        ("", "not a private key"),
        ("hunter2", "not a private key"),
        (include_str!("../../api/testdata/tenant-public.pem"), "not a private key"),
    ] {
        let said = public_half(pem).expect_err(why);
        assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}
