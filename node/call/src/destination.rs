//! Whom a tenant's handlers may call: deny by default, since a handler that calls anywhere is toll fraud waiting to happen.
//!
//! It looks up no names; `session.rs` asks the shell for addresses and comes back with them. A [`Network`] alone is an entry of the list of
//! addresses that devices may have.

use hookswitch_proto::sip::Uri;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// One entry of a tenant's allow-list: `192.0.2.0/24`, `sip.example.com`, `*.example.com`, each perhaps with `:port`, or `trunk:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    what: What,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Network(Network),
    Host(String),
    /// The domain and everything below it.
    Below(String),
    Trunk(String),
}

/// An address, or all that share a prefix: `192.0.2.7`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    ip: IpAddr,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address with an optional /prefix")]
pub struct BadNetwork(pub String);

impl Network {
    /// The machine itself.
    pub fn loopback() -> Vec<Network> {
        let network = |ip: &str, prefix| Network { ip: ip.parse().expect("a literal"), prefix };
        vec![network("127.0.0.0", 8), network("::1", 128)]
    }

    pub fn has(self, ip: IpAddr) -> bool {
        let (network, ip, bits) = match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(n), IpAddr::V4(i)) => (u128::from(n.to_bits()), u128::from(i.to_bits()), 32),
            (IpAddr::V6(n), IpAddr::V6(i)) => (n.to_bits(), i.to_bits(), 128),
            _ => return false,
        };
        let host_bits = bits - u32::from(self.prefix).min(bits);
        host_bits == 128 || network >> host_bits == ip >> host_bits
    }

    fn whole(ip: IpAddr) -> u8 {
        if ip.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Network, BadNetwork> {
        let bad = || BadNetwork(text.chars().take(128).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix = prefix.unwrap_or(Network::whole(ip));
        if prefix <= Network::whole(ip) { Ok(Network { ip, prefix }) } else { Err(bad()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        if self.prefix == Network::whole(self.ip) { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no destination: an address with an optional /prefix, a host name, *.domain or trunk:NAME, the first three perhaps with :port"
)]
pub struct BadDestination(pub String);

impl Destination {
    /// The machine itself: what the demo tenant may call.
    pub fn loopback() -> Vec<Destination> {
        Network::loopback().into_iter().map(|network| Destination { what: What::Network(network), port: None }).collect()
    }

    /// Whether a URI whose host leads to `address` may be called. `on_trunk`: whether an address belongs to the trunk of this name.
    pub fn allows(&self, uri: &Uri, address: SocketAddr, on_trunk: impl Fn(&str, IpAddr) -> bool) -> bool {
        let ip = address.ip().to_canonical();
        let host = uri.host.trim_end_matches('.').to_ascii_lowercase();
        let fits = match &self.what {
            What::Network(network) => network.has(ip),
            What::Host(name) => *name == host,
            What::Below(domain) => host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.')),
            What::Trunk(name) => on_trunk(name, ip),
        };
        fits && self.port.is_none_or(|port| port == address.port())
    }
}

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(text: &str) -> Result<Destination, BadDestination> {
        let bad = || BadDestination(text.chars().take(128).collect());
        if let Some(name) = text.strip_prefix("trunk:") {
            return match name.is_empty() || name.contains(char::is_whitespace) {
                true => Err(bad()),
                false => Ok(Destination { what: What::Trunk(name.to_owned()), port: None }),
            };
        }
        let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(bad);
        // `[v6]:port`, `[v6]/prefix`, and the bare forms.
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host.to_owned(), None),
            Some((host, rest)) if rest.starts_with('/') => (format!("{host}{rest}"), None),
            Some((host, rest)) => (host.to_owned(), Some(port(rest.strip_prefix(':').ok_or_else(bad)?)?)),
            None if text.matches(':').count() == 1 => {
                let (host, number) = text.split_once(':').ok_or_else(bad)?;
                (host.to_owned(), Some(port(number)?))
            }
            None => (text.to_owned(), None),
        };
        if let Ok(network) = host.parse() {
            return Ok(Destination { what: What::Network(network), port });
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let (name, below) = match name.strip_prefix("*.") {
            Some(domain) => (domain.to_owned(), true),
            None => (name, false),
        };
        let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(bad());
        }
        Ok(Destination { what: if below { What::Below(name) } else { What::Host(name) }, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.what, self.port) {
            (What::Network(Network { ip: ip @ IpAddr::V6(_), prefix: 128 }), Some(port)) => write!(f, "[{ip}]:{port}"),
            (What::Network(network), port) => {
                write!(f, "{network}")?;
                port.map_or(Ok(()), |p| write!(f, ":{p}"))
            }
            (What::Host(name), port) => {
                f.write_str(name)?;
                port.map_or(Ok(()), |p| write!(f, ":{p}"))
            }
            (What::Below(name), port) => {
                write!(f, "*.{name}")?;
                port.map_or(Ok(()), |p| write!(f, ":{p}"))
            }
            (What::Trunk(name), _) => write!(f, "trunk:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, uri: &str, address: &str) -> bool {
        let entry: Destination = entry.parse().expect("a good entry");
        let uri = Uri::parse(uri).expect("a good URI");
        entry.allows(&uri, address.parse().expect("a good address"), |name, ip| name == "north" && ip.to_string() == "192.0.2.7")
    }

    #[test]
    fn entries_allow_what_they_name_and_nothing_else() {
        let table = [
            ("192.0.2.0/24", "sip:1@192.0.2.9", "192.0.2.9:5060", true),
            ("192.0.2.0/24", "sip:1@192.0.3.9", "192.0.3.9:5060", false),
            ("192.0.2.9", "sip:1@192.0.2.9", "192.0.2.9:5060", true),
            ("192.0.2.9:5080", "sip:1@192.0.2.9", "192.0.2.9:5060", false),
            ("192.0.2.9:5080", "sip:1@192.0.2.9:5080", "192.0.2.9:5080", true),
            ("127.0.0.0/8", "sip:1@[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]:5060", true),
            ("2001:db8::/32", "sip:1@[2001:db8::7]", "[2001:db8::7]:5060", true),
            ("[2001:db8::7]:5070", "sip:1@[2001:db8::7]:5070", "[2001:db8::7]:5070", true),
            ("::/0", "sip:1@[2001:db8::7]", "[2001:db8::7]:5060", true),
            ("0.0.0.0/0", "sip:1@[2001:db8::7]", "[2001:db8::7]:5060", false),
            ("sip.example.com", "sip:1@SIP.Example.com.", "203.0.113.1:5060", true),
            ("sip.example.com", "sip:1@evil.sip.example.com", "203.0.113.1:5060", false),
            ("*.example.com", "sip:1@a.b.example.com", "203.0.113.1:5060", true),
            ("*.example.com", "sip:1@notexample.com", "203.0.113.1:5060", false),
            ("*.example.com", "sip:1@example.com", "203.0.113.1:5060", false),
            ("trunk:north", "sip:1@gw", "192.0.2.7:5060", true),
            ("trunk:north", "sip:1@gw", "192.0.2.8:5060", false),
            ("trunk:south", "sip:1@gw", "192.0.2.7:5060", false),
        ];
        for (entry, uri, address, expected) in table {
            assert_eq!(allows(entry, uri, address), expected, "{entry} {uri} {address}");
        }
    }

    #[test]
    fn ic_049_058_a_network_has_its_addresses_and_no_others() {
        let table = [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "::ffff:10.0.0.7", true),
            ("2001:db8::/32", "2001:db8::7", true),
            ("0.0.0.0/0", "2001:db8::7", false),
        ];
        for (network, ip, expected) in table {
            let read: Network = network.parse().expect("a good entry");
            assert_eq!(read.has(ip.parse().expect("an address")), expected, "{network} {ip}");
            assert_eq!(read.to_string(), network);
        }
        for text in ["", "host", "10.0.0.0/33", "10.0.0.1:5060", "10.0.0.0/x", "trunk:a"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn entries_are_read_back_as_written_and_nonsense_is_refused() {
        for text in [
            "192.0.2.0/24",
            "192.0.2.9",
            "192.0.2.9:5080",
            "2001:db8::/32",
            "[2001:db8::7]:5070",
            "sip.example.com:5061",
            "*.a.b",
            "trunk:n",
        ] {
            assert_eq!(text.parse::<Destination>().map(|d| d.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "a b", "192.0.2.0/33", "host/8", "trunk:", "trunk:a b", "a..b", "*.*", "host:0", "host:99999", "[::1]x", "sip:a@b"]
        {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
