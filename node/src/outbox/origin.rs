//! Where a tenant may post to: its allow-list of origins, and never a private address behind a public name.

use crate::limits;
use hyper::Uri;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Origins (`https://host`, `https://host:port`) that a tenant, named by its domain, may post to. Asked for each post and each try.
pub type Origins = Arc<dyn Fn(&str) -> Vec<String> + Send + Sync>;

/// What the operator allows.
#[derive(Clone)]
pub struct Policy {
    pub origins: Origins,
    /// Listed origins may be http. Otherwise https alone.
    pub http: bool,
    /// A tenant that may post to this machine's loopback addresses by http: the demo's.
    pub loopback: Option<&'static str>,
}

impl Default for Policy {
    /// Nobody may post anywhere.
    fn default() -> Policy {
        Policy { origins: Arc::new(|_| Vec::new()), http: false, loopback: None }
    }
}

impl Policy {
    /// Whether this tenant may post there; why not.
    pub(super) fn check(&self, domain: &str, target: &Target) -> Result<(), String> {
        if self.loopback == Some(domain) && target.ip().is_some_and(|ip| ip.to_canonical().is_loopback()) {
            return Ok(());
        }
        if !target.tls && !self.http {
            return Err("url: https only".into());
        }
        let listed = |entry: &String| Target::parse(entry).is_ok_and(|listed| listed.origin() == target.origin());
        if (self.origins)(domain).iter().any(listed) {
            Ok(())
        } else {
            Err(format!("url: {} is not on the tenant's list", target.origin()))
        }
    }
}

/// An http or https URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub tls: bool,
    /// Lower case, without brackets.
    pub host: String,
    pub port: u16,
    /// As the Host header says it.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    pub fn parse(url: &str) -> Result<Target, String> {
        if url.len() > limits::OUTBOX_URL {
            return Err(format!("url: {} bytes; at most {}", url.len(), limits::OUTBOX_URL));
        }
        let bad = |why: &str| format!("url: {why}");
        let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("neither https nor http")),
        };
        let authority = uri.authority().ok_or_else(|| bad("no host"))?;
        // A password in a URL would be in the log of every proxy.
        if authority.as_str().contains('@') {
            return Err(bad("a user in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("no host"));
        }
        let default = if tls { 443 } else { 80 };
        // Read here: what is no port number must not become the default.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => default,
            rest => {
                let digits = rest.and_then(|rest| rest.strip_prefix(':')).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
                let number = digits.and_then(|port| port.parse::<u16>().ok());
                number.filter(|port| *port != 0).ok_or_else(|| bad("not a port"))?
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// An address in place of a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Scheme, host and port. The rest of a URL is never told: it may hold a key.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("{scheme}://[{ip}]:{}", self.port),
            Err(_) => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }

    /// Whether an address that the host's name led to may be connected to. A listed literal was chosen by the operator; a name is in the
    /// hands of whoever owns it, and must not lead into this network.
    pub fn may_lead_to(&self, ip: IpAddr) -> bool {
        self.ip().is_some() || is_public(ip)
    }
}

/// Whether an address belongs to the internet at large (IANA special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => {
            let s = ip.segments();
            // 2000::/3 is what is handed out; parts of it lead elsewhere: 2001::/23 (protocols, Teredo), 2002::/16 (6to4),
            // 2001:db8::/32 and 3fff::/20 (documentation). 64:ff9b:: (NAT64) is outside, and so are fc00::/7, fe80::/10 and ::/96.
            let handed_out = s[0] & 0xe000 == 0x2000;
            let protocols = s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8);
            let documentation = s[0] == 0x3fff && s[1] < 0x1000;
            handed_out && !protocols && !documentation && s[0] != 0x2002
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let o = ip.octets();
    let special = o[0] == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        // Shared address space of carriers (RFC 6598).
        || (o[0] == 100 && o[1] & 0xc0 == 64)
        // IETF protocols, 6to4 relays and benchmarks (RFC 2544).
        || (o[0] == 192 && o[1] == 0 && o[2] == 0)
        || (o[0] == 192 && o[1] == 88 && o[2] == 99)
        || (o[0] == 198 && o[1] & 0xfe == 18)
        // Multicast, reserved, broadcast.
        || o[0] >= 224;
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_odd_ones_refused() {
        let parse = |url: &str| Target::parse(url).map(|t| (t.origin(), t.path));
        let table = [
            ("https://Hooks.Example.com/a?b=c", "https://hooks.example.com:443", "/a?b=c"),
            ("http://hooks.example.com:8080", "http://hooks.example.com:8080", "/"),
            ("https://hooks.example.com./x#part", "https://hooks.example.com:443", "/x"),
            ("https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443", "/x"),
        ];
        for (url, origin, path) in table {
            assert_eq!(parse(url), Ok((origin.to_owned(), path.to_owned())), "{url}");
        }
        let long = format!("https://a/{}", "x".repeat(limits::OUTBOX_URL));
        for url in [
            "",
            "hooks.example.com",
            "/x",
            "ftp://a/",
            "https://",
            "https://u:p@a/",
            "https://a:0/",
            "https://a:99999/",
            "https://a:+443/",
            "https://a b/",
            &long,
        ] {
            assert!(Target::parse(url).is_err_and(|why| why.starts_with("url: ")), "{url}");
        }
    }

    #[test]
    fn only_listed_origins_are_posted_to_and_http_only_where_allowed() {
        let listed = || vec!["https://hooks.example.com".to_owned(), "http://192.0.2.1:8080".to_owned()];
        let policy =
            Policy { origins: Arc::new(move |domain| if domain == "a" { listed() } else { vec![] }), http: false, loopback: Some("demo") };
        let check = |policy: &Policy, domain: &str, url: &str| policy.check(domain, &Target::parse(url).expect("a URL")).is_ok();
        assert!(check(&policy, "a", "https://hooks.example.com:443/x"));
        for url in [
            "https://hooks.example.com:444/",
            "https://hooks.example.com.evil.example/",
            "https://evil.example/",
            "http://hooks.example.com/",
        ] {
            assert!(!check(&policy, "a", url), "{url}");
        }
        assert!(!check(&policy, "b", "https://hooks.example.com/"), "another tenant's list");
        assert!(!check(&policy, "a", "http://192.0.2.1:8080/"), "listed, but http is not allowed here");
        assert!(check(&Policy { http: true, ..policy.clone() }, "a", "http://192.0.2.1:8080/"));
        assert!(check(&policy, "demo", "http://127.0.0.1:9/") && check(&policy, "demo", "http://[::1]:9/"));
        assert!(!check(&policy, "demo", "http://localhost:9/"), "a name is not a loopback address");
        assert!(!check(&policy, "a", "http://127.0.0.1:9/"));
        assert!(!check(&Policy::default(), "demo", "http://127.0.0.1:9/"));
    }

    #[test]
    fn a_name_may_not_lead_into_this_network() {
        let name = Target::parse("https://hooks.example.com/").expect("a URL");
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "ff02::1",
            "3fff::1",
        ] {
            assert!(!name.may_lead_to(ip.parse().expect("an address")), "{ip}");
        }
        for ip in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1", "2001:4860::1", "::ffff:8.8.8.8"] {
            assert!(name.may_lead_to(ip.parse().expect("an address")), "{ip}");
        }
        let literal = Target::parse("https://10.1.2.3/").expect("a URL");
        assert!(literal.may_lead_to("10.1.2.3".parse().expect("an address")));
    }
}
