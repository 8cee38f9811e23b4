//! AWS Signature Version 4 over one request whose body is known: what Polly asks for. (S3's signatures are `object_store`'s.)

use crate::record::verify::hex;
use hyper::header::HeaderMap;
use ring::hmac;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What opens an account.
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// What is signed. `headers` hold the host and `x-amz-date`, each value trimmed and without runs of spaces; the path and query are as they
/// go out, the query empty or sorted.
pub struct Signed<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    /// `20150830T123600Z`
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// The value of `Authorization`.
pub fn authorization(key: &Key, request: &Signed<'_>) -> String {
    let mut names: Vec<&str> = request.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for name in &names {
        let values: Vec<&str> = request.headers.get_all(*name).iter().filter_map(|value| value.to_str().ok()).collect();
        let _ = writeln!(canonical, "{name}:{}", values.join(","));
    }
    let names = names.join(";");
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(request.body)));
    let day = request.date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", request.date, hex(&Sha256::digest(canonical)));
    let step = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut tag = step(format!("AWS4{}", key.secret).as_bytes(), day);
    for part in [request.region, request.service, "aws4_request", &to_sign] {
        tag = step(tag.as_ref(), part);
    }
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}", key.id, hex(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn ic_242_signatures_are_those_that_aws_publishes() {
        let key = Key { id: "AKIDEXAMPLE".into(), secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into() };
        let date = "20150830T123600Z";
        let sign = |request: &Signed<'_>| authorization(&key, request);
        // `get-vanilla` of aws-sig-v4-test-suite.
        let plain = headers(&[("host", "example.amazonaws.com"), ("x-amz-date", date)]);
        let vanilla =
            Signed { method: "GET", path: "/", query: "", headers: &plain, body: b"", date, region: "us-east-1", service: "service" };
        assert_eq!(
            sign(&vanilla),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        // `post-vanilla` of it: the method counts.
        assert!(
            sign(&Signed { method: "POST", ..vanilla })
                .ends_with("Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")
        );
        // The worked example of the documentation: ListUsers of IAM.
        let iam = headers(&[
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", date),
        ]);
        let list = Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &iam,
            body: b"",
            date,
            region: "us-east-1",
            service: "iam",
        };
        assert!(sign(&list).ends_with("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"));
    }
}
