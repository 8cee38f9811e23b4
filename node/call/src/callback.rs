//! Where a device's call tells of itself: an http or https URL of an origin that its tenant listed, so that no order makes the node knock
//! elsewhere (IC-059). The outbox looks again at each post, also at what a name leads to.

use crate::limits;

/// `scheme://host[:port]` of a URL, in lower case and without a port that is the scheme's own. `None`: it has none, or is none that can be
/// posted to.
pub fn origin(url: &str) -> Option<String> {
    let clean = url.len() <= limits::URL && url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains(['#', '\\', '"', '<', '>']);
    let (scheme, rest) = url.split_once("://").filter(|_| clean)?;
    let scheme = scheme.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default().to_ascii_lowercase();
    let authority = authority.strip_suffix(usual).unwrap_or(&authority);
    if authority.is_empty() || authority.starts_with(':') || authority.contains('@') {
        return None;
    }
    Some(format!("{scheme}://{authority}"))
}

/// What posts of one kind go to.
pub fn url(base: &str, kind: &str) -> String {
    format!("{}/{kind}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_059_origins_are_compared_as_they_are_meant() {
        let table = [
            ("https://app.example/hooks", Some("https://app.example")),
            ("HTTPS://App.Example:443", Some("https://app.example")),
            ("http://127.0.0.1:8080/a?b=c", Some("http://127.0.0.1:8080")),
            ("http://[::1]:80/", Some("http://[::1]")),
            ("https://user@app.example/", None),
            ("https://app.example#x", None),
            ("https://app.example\\@evil.example/", None),
            ("ftp://app.example/", None),
            ("https:///x", None),
            ("app.example", None),
            ("https://app.example/a b", None),
        ];
        for (url, expected) in table {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
        assert_eq!(url("https://a/b/", "callNotify"), "https://a/b/callNotify");
    }
}
