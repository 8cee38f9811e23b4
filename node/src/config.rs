//! The node's settings: one TOML file, defaults for everything, and every key by environment too (`HOOKSWITCH_SIP_LISTEN`).
//!
//! Tenants, numbers and versions are not here: they change while the node runs and live in the store. Start with [`Config`] (what
//! there is) and [`Config::load`] (file, then environment, then checks). Whatever is wrong is one error that names the field.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub sip: Sip,
    pub api: Api,
    pub rtp: Rtp,
    pub storage: Storage,
    pub tenants: Tenants,
    pub media: Media,
    pub guests: Guests,
    pub record: Record,
    /// What the operator should hear at start, but what does not stop it.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sip {
    pub listen: Vec<ListenUri>,
    /// `host` or `host:port` that peers reach us by (1:1 NAT).
    pub advertise: Option<String>,
    /// Malformed requests are answered only to these and to loopback.
    pub known_peers: Vec<IpAddr>,
    pub trunks: Vec<hookswitch_call::door::Trunk>,
    /// Called numbers that no quota refuses.
    pub emergency: Vec<String>,
    /// Name of the site that callbacks say.
    pub site: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenUri {
    pub scheme: Scheme,
    pub address: SocketAddr,
}

impl std::fmt::Display for ListenUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.scheme {
            Scheme::Udp => "udp",
            Scheme::Tcp => "tcp",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Api {
    pub listen: SocketAddr,
    /// What addresses of recordings begin with: `https://HOST[:PORT][/PATH]`, without a slash at its end.
    pub public_url: String,
    /// `None`: plain HTTP/1.1.
    pub tls: Option<Tls>,
}

/// TLS for the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, PEM, the node's own certificate first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// HTTP/3 on the same port over UDP.
    pub h3: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rtp {
    pub address: IpAddr,
    pub ports: PortRange,
    /// What SDP says in place of `address` (1:1 NAT).
    pub advertise: Option<IpAddr>,
}

/// Inclusive, from an even port to an odd one: RTP takes the even, RTCP the odd one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn pairs(self) -> usize {
        (usize::from(self.last) + 1 - usize::from(self.first)) / 2
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub data: PathBuf,
    pub blobs: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tenants {
    /// Sets the tenants that it describes at each start.
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    pub threads: usize,
    /// Cores to pin media threads to, in turn. Empty: not pinned.
    pub cpus: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Guests {
    pub threads: usize,
    /// Seconds of CPU time that compiling a component may take.
    pub compile_cpu_s: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub threads: usize,
    /// All recordings are encrypted at rest.
    pub encrypt: bool,
}

/// One line for the operator: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ConfigError {
    pub field: String,
    pub why: String,
}

fn wrong(field: &str, why: impl Into<String>) -> ConfigError {
    ConfigError { field: field.to_string(), why: why.into() }
}

/// What is called in an emergency, where the operator names nothing else: the European and the North American number.
const EMERGENCY: [&str; 2] = ["112", "911"];

/// How a key is written in an environment variable.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// Comma-separated.
    List,
    NumberList,
    /// A TOML value, for what has a structure of its own.
    Toml,
}

/// Every key there is. The environment name is `HOOKSWITCH_<SECTION>_<KEY>`.
const KEYS: &[(&str, &str, Kind)] = &[
    ("sip", "listen", Kind::List),
    ("sip", "advertise", Kind::Text),
    ("sip", "known_peers", Kind::List),
    ("sip", "trunks", Kind::Toml),
    ("sip", "emergency", Kind::List),
    ("sip", "site", Kind::Text),
    ("api", "listen", Kind::Text),
    ("api", "public_url", Kind::Text),
    ("api", "tls_cert", Kind::Text),
    ("api", "tls_key", Kind::Text),
    ("api", "h3", Kind::Toml),
    ("rtp", "address", Kind::Text),
    ("rtp", "ports", Kind::Text),
    ("rtp", "advertise", Kind::Text),
    ("storage", "data", Kind::Text),
    ("storage", "blobs", Kind::Text),
    ("tenants", "file", Kind::Text),
    ("media", "threads", Kind::Number),
    ("media", "cpus", Kind::NumberList),
    ("guests", "threads", Kind::Number),
    ("guests", "compile_cpu_s", Kind::Number),
    ("record", "threads", Kind::Number),
    // `true` and `false` are TOML.
    ("record", "encrypt", Kind::Toml),
];

impl Default for Config {
    fn default() -> Config {
        Config::parse("", std::iter::empty()).expect("an empty file is a whole configuration")
    }
}

impl Config {
    /// Defaults, then `file`, then the process environment.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|e| wrong(&path.display().to_string(), e.to_string()))?,
        };
        Config::parse(&text, std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// The same from text and a given environment.
    pub fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong("config file", one_line(&e)))?;
        check_names(&table)?;
        let mut warnings = Vec::new();
        overlay(&mut table, environment, &mut warnings)?;
        let raw: Raw = table.try_into().map_err(|e: toml::de::Error| wrong("config file", one_line(&e)))?;
        raw.check(warnings)
    }
}

/// Names first, by hand: serde says `unknown field` without the section that it is in.
fn check_names(table: &toml::Table) -> Result<(), ConfigError> {
    for (section, value) in table {
        if !KEYS.iter().any(|(s, _, _)| s == section) {
            return Err(wrong(section, "no such section"));
        }
        let Some(inner) = value.as_table() else {
            return Err(wrong(section, "must be a section, e.g. [sip]"));
        };
        for key in inner.keys() {
            if !KEYS.iter().any(|(s, k, _)| s == section && k == key) {
                return Err(wrong(&format!("{section}.{key}"), "no such key"));
            }
        }
    }
    Ok(())
}

fn overlay(
    table: &mut toml::Table,
    environment: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let sections: BTreeSet<String> = KEYS.iter().map(|(s, _, _)| format!("HOOKSWITCH_{}_", s.to_uppercase())).collect();
    for (name, value) in environment {
        let key = KEYS.iter().find(|(s, k, _)| name == format!("HOOKSWITCH_{}_{}", s.to_uppercase(), k.to_uppercase()));
        let Some((section, key, kind)) = key else {
            if sections.iter().any(|prefix| name.starts_with(prefix)) {
                warnings.push(format!("{name}: no such key, ignored"));
            }
            continue;
        };
        let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong(&name, format!("{text:?} is not a number")));
        let items = || value.split(',').map(str::trim).filter(|v| !v.is_empty());
        let parsed = match kind {
            Kind::Text => toml::Value::String(value.clone()),
            Kind::Number => toml::Value::Integer(number(&value)?),
            Kind::List => toml::Value::Array(items().map(|v| toml::Value::String(v.to_string())).collect()),
            Kind::NumberList => toml::Value::Array(items().map(|v| number(v).map(toml::Value::Integer)).collect::<Result<_, _>>()?),
            Kind::Toml => {
                let mut one: toml::Table = format!("value = {value}").parse().map_err(|e: toml::de::Error| wrong(&name, one_line(&e)))?;
                one.remove("value").ok_or_else(|| wrong(&name, "not a TOML value"))?
            }
        };
        let section = table.entry(section.to_string()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let section = section.as_table_mut().ok_or_else(|| wrong(&name, "its section is not a table"))?;
        section.insert(key.to_string(), parsed);
    }
    Ok(())
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

/// The file as written. A field that serde refuses is found again by name, since its message has none.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    sip: RawSip,
    api: RawApi,
    rtp: RawRtp,
    storage: RawStorage,
    tenants: RawTenants,
    media: RawMedia,
    guests: RawGuests,
    record: RawRecord,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSip {
    listen: Option<toml::Value>,
    advertise: Option<toml::Value>,
    known_peers: Option<toml::Value>,
    trunks: Option<toml::Value>,
    emergency: Option<toml::Value>,
    site: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawApi {
    listen: Option<toml::Value>,
    public_url: Option<toml::Value>,
    tls_cert: Option<toml::Value>,
    tls_key: Option<toml::Value>,
    h3: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRtp {
    address: Option<toml::Value>,
    ports: Option<toml::Value>,
    advertise: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStorage {
    data: Option<toml::Value>,
    blobs: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawTenants {
    file: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMedia {
    threads: Option<toml::Value>,
    cpus: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawGuests {
    threads: Option<toml::Value>,
    compile_cpu_s: Option<toml::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRecord {
    threads: Option<toml::Value>,
    encrypt: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrunk {
    name: String,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    trusted: bool,
}

impl Raw {
    fn check(self, warnings: Vec<String>) -> Result<Config, ConfigError> {
        let listen = match texts("sip.listen", self.sip.listen)? {
            None => vec!["udp://127.0.0.1:5060".to_string(), "tcp://127.0.0.1:5060".to_string()],
            Some(list) => list,
        };
        let listen = listen.iter().map(|uri| listen_uri(uri)).collect::<Result<Vec<_>, _>>()?;
        if !listen.iter().any(|l| l.scheme == Scheme::Udp) {
            return Err(wrong("sip.listen", "needs at least one udp:// address"));
        }
        let advertise = text("sip.advertise", self.sip.advertise)?;
        if let Some(bad) = advertise.as_deref().filter(|a| !is_host_port(a)) {
            return Err(wrong("sip.advertise", format!("{bad:?} is not a host or host:port")));
        }
        if advertise.is_none() && listen.iter().any(|l| l.address.ip().is_unspecified()) {
            return Err(wrong("sip.advertise", "must be given when sip.listen names no single address"));
        }
        if let Some((at, twice)) =
            listen.iter().enumerate().find(|(at, l)| l.address.port() != 0 && listen.iter().take(*at).any(|b| b == *l))
        {
            return Err(wrong("sip.listen", format!("{twice} is there twice (entry {})", at + 1)));
        }
        let known_peers = texts("sip.known_peers", self.sip.known_peers)?.unwrap_or_default();
        let known_peers = known_peers.iter().map(|a| parse("sip.known_peers", a, "an IP address")).collect::<Result<_, _>>()?;
        let trunks = match self.sip.trunks {
            None => Vec::new(),
            Some(value) => {
                let raw: Vec<RawTrunk> = value.try_into().map_err(|e| wrong("sip.trunks", one_line(&e)))?;
                raw.into_iter().map(|t| hookswitch_call::door::Trunk { name: t.name, addresses: t.addresses, trusted: t.trusted }).collect()
            }
        };

        let api_listen = text("api.listen", self.api.listen)?.unwrap_or_else(|| "127.0.0.1:8080".into());
        let api_listen: SocketAddr = parse("api.listen", &api_listen, "an address like 127.0.0.1:8080")?;
        let tls = tls(text("api.tls_cert", self.api.tls_cert)?, text("api.tls_key", self.api.tls_key)?, self.api.h3)?;
        let public_url = match text("api.public_url", self.api.public_url)? {
            None => format!("{}://{api_listen}", if tls.is_some() { "https" } else { "http" }),
            Some(url) => public_url(&url)?,
        };
        let address = text("rtp.address", self.rtp.address)?;
        let address = address.map_or(Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)), |a| parse("rtp.address", &a, "an IP address"))?;
        let rtp_advertise = text("rtp.advertise", self.rtp.advertise)?;
        let rtp_advertise: Option<IpAddr> = rtp_advertise.map(|a| parse("rtp.advertise", &a, "an IP address")).transpose()?;
        if address.is_unspecified() && rtp_advertise.is_none() {
            return Err(wrong("rtp.advertise", format!("must be given with rtp.address = {address}: SDP has to name one address")));
        }
        let ports = port_range(&text("rtp.ports", self.rtp.ports)?.unwrap_or_else(|| "16384-32767".into()))?;

        let data = PathBuf::from(text("storage.data", self.storage.data)?.unwrap_or_else(|| "./data".into()));
        let blobs = match text("storage.blobs", self.storage.blobs)? {
            None => data.join("blobs"),
            Some(uri) => match uri.strip_prefix("file:") {
                Some(path) if !path.is_empty() => PathBuf::from(path),
                _ => return Err(wrong("storage.blobs", format!("{uri:?} is not a file: URL; other stores are not built in"))),
            },
        };
        let emergency = texts("sip.emergency", self.sip.emergency)?;
        let emergency = emergency.unwrap_or_else(|| EMERGENCY.map(str::to_owned).to_vec());
        if let Some(bad) = emergency.iter().find(|number| number.is_empty() || !number.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(wrong("sip.emergency", format!("{bad:?} is not a number as it is called")));
        }
        let site = text("sip.site", self.sip.site)?;
        let good = |site: &&String| (1..=crate::limits::SITE).contains(&site.len()) && !site.chars().any(char::is_control);
        if site.as_ref().is_some_and(|site| !good(&site)) {
            return Err(wrong("sip.site", format!("must be 1 to {} bytes without control characters", crate::limits::SITE)));
        }
        let file = text("tenants.file", self.tenants.file)?.map(PathBuf::from);
        let cpus = match self.media.cpus {
            None => Vec::new(),
            Some(value) => value.try_into().map_err(|_| wrong("media.cpus", "must be a list of core numbers"))?,
        };
        Ok(Config {
            sip: Sip { listen, advertise, known_peers, trunks, emergency, site },
            api: Api { listen: api_listen, public_url, tls },
            rtp: Rtp { address, ports, advertise: rtp_advertise },
            storage: Storage { data, blobs },
            tenants: Tenants { file },
            media: Media { threads: threads("media.threads", self.media.threads)?, cpus },
            guests: Guests {
                threads: threads("guests.threads", self.guests.threads)?,
                compile_cpu_s: compile_cpu_s(self.guests.compile_cpu_s)?,
            },
            record: Record {
                threads: threads("record.threads", self.record.threads)?,
                encrypt: match self.record.encrypt {
                    None => false,
                    Some(value) => value.as_bool().ok_or_else(|| wrong("record.encrypt", "must be true or false"))?,
                },
            },
            warnings,
        })
    }
}

fn text(field: &str, value: Option<toml::Value>) -> Result<Option<String>, ConfigError> {
    match value {
        None => Ok(None),
        Some(toml::Value::String(s)) => Ok(Some(s)),
        Some(other) => Err(wrong(field, format!("must be text, not {}", other.type_str()))),
    }
}

fn texts(field: &str, value: Option<toml::Value>) -> Result<Option<Vec<String>>, ConfigError> {
    match value {
        None => Ok(None),
        Some(value) => value.try_into().map(Some).map_err(|_| wrong(field, "must be a list of texts")),
    }
}

fn parse<T: std::str::FromStr>(field: &str, text: &str, what: &str) -> Result<T, ConfigError> {
    text.trim().parse().map_err(|_| wrong(field, format!("{text:?} is not {what}")))
}

fn threads(field: &str, value: Option<toml::Value>) -> Result<usize, ConfigError> {
    let Some(value) = value else { return Ok(1) };
    match value.as_integer().and_then(|n| usize::try_from(n).ok()) {
        Some(n) if (1..=crate::limits::THREADS).contains(&n) => Ok(n),
        _ => Err(wrong(field, format!("must be a number from 1 to {}", crate::limits::THREADS))),
    }
}

fn compile_cpu_s(value: Option<toml::Value>) -> Result<u64, ConfigError> {
    let most = crate::guest::limits::COMPILE_WALL.as_secs();
    let Some(value) = value else { return Ok(crate::guest::limits::COMPILE_CPU.as_secs()) };
    match value.as_integer().and_then(|n| u64::try_from(n).ok()) {
        Some(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(wrong("guests.compile_cpu_s", format!("must be a number from 1 to {most}"))),
    }
}

fn tls(cert: Option<String>, key: Option<String>, h3: Option<toml::Value>) -> Result<Option<Tls>, ConfigError> {
    let h3 = match h3 {
        None => None,
        Some(value) => Some(value.as_bool().ok_or_else(|| wrong("api.h3", "must be true or false"))?),
    };
    match (cert, key) {
        (None, None) if h3 == Some(true) => Err(wrong("api.h3", "needs api.tls_cert and api.tls_key")),
        _ if h3 == Some(true) && !cfg!(feature = "h3") => Err(wrong("api.h3", "this node was built without HTTP/3")),
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(Tls { cert: cert.into(), key: key.into(), h3: h3.unwrap_or(cfg!(feature = "h3")) })),
        (Some(_), None) => Err(wrong("api.tls_key", "must be given with api.tls_cert")),
        (None, Some(_)) => Err(wrong("api.tls_cert", "must be given with api.tls_key")),
    }
}

fn public_url(url: &str) -> Result<String, ConfigError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let good = |rest: &&str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()) && !rest.contains(['?', '#', '@']);
    match rest.filter(good) {
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => Err(wrong("api.public_url", format!("{url:?} is not like https://calls.example.com"))),
    }
}

fn listen_uri(uri: &str) -> Result<ListenUri, ConfigError> {
    let (scheme, rest) = match uri.split_once("://") {
        Some(("udp", rest)) => (Scheme::Udp, rest),
        Some(("tcp", rest)) => (Scheme::Tcp, rest),
        _ => return Err(wrong("sip.listen", format!("{uri:?} must begin with udp:// or tcp://"))),
    };
    let address = rest.parse().map_err(|_| wrong("sip.listen", format!("{uri:?} has no address like 127.0.0.1:5060")))?;
    Ok(ListenUri { scheme, address })
}

fn is_host_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = text.split_once(':').unwrap_or((text, "5060"));
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !host.is_empty() && host.chars().all(good) && port.parse::<u16>().is_ok_and(|p| p != 0)
}

fn port_range(text: &str) -> Result<PortRange, ConfigError> {
    let bad = |why: &str| wrong("rtp.ports", format!("{text:?} {why}"));
    let (first, last) = text.split_once('-').ok_or_else(|| bad("is not a range like 16384-32767"))?;
    let number = |s: &str| s.trim().parse::<u16>().map_err(|_| bad("is not a range like 16384-32767"));
    let (first, last) = (number(first)?, number(last)?);
    if first < 1024 {
        return Err(bad("begins below port 1024"));
    }
    // Whole pairs only: an odd first or an even last port has no partner.
    let first = first.checked_add(first & 1).ok_or_else(|| bad("holds no pair of ports"))?;
    let last = if last & 1 == 0 { last.saturating_sub(1) } else { last };
    if last <= first {
        return Err(bad("holds no pair of ports"));
    }
    Ok(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(text, environment.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let c = load("", &[]).unwrap();
        let udp = ListenUri { scheme: Scheme::Udp, address: "127.0.0.1:5060".parse().unwrap() };
        assert_eq!(c.sip.listen, [udp, ListenUri { scheme: Scheme::Tcp, ..udp }]);
        assert_eq!(c.api.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(c.api.public_url, "http://127.0.0.1:8080");
        assert_eq!(c.rtp.address, "127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(c.rtp.ports, PortRange { first: 16384, last: 32767 });
        assert_eq!((c.storage.data, c.storage.blobs), ("./data".into(), "./data/blobs".into()));
        assert_eq!((c.media.threads, c.guests.threads, c.record.threads), (1, 1, 1));
        assert_eq!(c.guests.compile_cpu_s, 60);
        assert_eq!(c.warnings, Vec::<String>::new());
    }

    #[test]
    fn environment_wins_over_the_file() {
        let file = "[sip]\nlisten = [\"udp://127.0.0.1:5070\"]\n[media]\nthreads = 2\n";
        let env = [
            ("HOOKSWITCH_SIP_LISTEN", "udp://127.0.0.1:5080, udp://[::1]:5080"),
            ("HOOKSWITCH_MEDIA_CPUS", "0,1"),
            ("HOOKSWITCH_API_PUBLIC_URL", "https://calls.example.com/hookswitch/"),
            ("HOOKSWITCH_STORAGE_DATA", "/tmp/x"),
            ("HOOKSWITCH_SIP_TRUNKS", "[{ name = \"t\", addresses = [\"192.0.2.1\"], trusted = true }]"),
            ("HOOKSWITCH_SIP_LISTN", "typo"),
            ("HOOKSWITCH_ADMIN_TOKEN", "not ours"),
        ];
        let c = load(file, &env).unwrap();
        assert_eq!(c.sip.listen.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(), ["127.0.0.1:5080", "[::1]:5080"]);
        assert_eq!((c.media.threads, c.media.cpus), (2, vec![0, 1]));
        assert_eq!(c.api.public_url, "https://calls.example.com/hookswitch");
        assert_eq!(c.storage.blobs, PathBuf::from("/tmp/x/blobs"));
        assert_eq!(c.sip.trunks[0].name, "t");
        assert_eq!(c.warnings, ["HOOKSWITCH_SIP_LISTN: no such key, ignored"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("[sip]\nlisten = [\"5060\"]", "sip.listen"),
            ("[sip]\nlisten = [\"udp://host\"]", "sip.listen"),
            ("[sip]\nlisten = [\"tcp://127.0.0.1:5060\"]", "sip.listen"),
            ("[sip]\nlisten = [\"udp://127.0.0.1:5060\", \"udp://127.0.0.1:5060\"]", "sip.listen"),
            ("[sip]\nlisten = 5060", "sip.listen"),
            ("[sip]\nlisten = [\"udp://0.0.0.0:5060\"]", "sip.advertise"),
            ("[sip]\nadvertise = \"a b\"", "sip.advertise"),
            ("[sip]\nknown_peers = [\"example\"]", "sip.known_peers"),
            ("[sip]\nsite = \"\"", "sip.site"),
            ("[sip]\nsite = \"a\\u0007\"", "sip.site"),
            ("[[sip.trunks]]\nname = \"t\"", "sip.trunks"),
            ("[sip]\nlistn = []", "sip.listn"),
            ("[spi]\nlisten = []", "spi"),
            ("sip = 1", "sip"),
            ("[sip", "config file"),
            ("[api]\nlisten = \"8080\"", "api.listen"),
            ("[api]\npublic_url = \"calls.example.com\"", "api.public_url"),
            ("[api]\npublic_url = \"https://\"", "api.public_url"),
            ("[api]\npublic_url = \"https://a?b\"", "api.public_url"),
            ("[api]\ntls_cert = \"a.pem\"", "api.tls_key"),
            ("[api]\ntls_key = \"a.key\"", "api.tls_cert"),
            ("[api]\ntls_cert = 1", "api.tls_cert"),
            ("[api]\nh3 = true", "api.h3"),
            ("[api]\nh3 = \"yes\"", "api.h3"),
            ("[rtp]\naddress = \"0.0.0.0\"", "rtp.advertise"),
            ("[rtp]\nports = \"20000\"", "rtp.ports"),
            ("[rtp]\nports = \"20000-20000\"", "rtp.ports"),
            ("[rtp]\nports = \"65535-65535\"", "rtp.ports"),
            ("[rtp]\nports = \"20-30\"", "rtp.ports"),
            ("[rtp]\nports = \"20000-90000\"", "rtp.ports"),
            ("[storage]\nblobs = \"s3://bucket\"", "storage.blobs"),
            ("[record]\nencrypt = \"yes\"", "record.encrypt"),
            ("[media]\nthreads = 0", "media.threads"),
            ("[guests]\ncompile_cpu_s = 0", "guests.compile_cpu_s"),
            ("[guests]\ncompile_cpu_s = \"long\"", "guests.compile_cpu_s"),
            ("[media]\nthreads = \"two\"", "media.threads"),
            ("[media]\ncpus = [\"a\"]", "media.cpus"),
        ];
        for (text, field) in table {
            let e = load(text, &[]).expect_err(text);
            assert_eq!(e.field, field, "{text}: {e}");
            assert!(!e.to_string().contains('\n'), "{e}");
        }
        assert_eq!(load("", &[("HOOKSWITCH_GUESTS_THREADS", "x")]).unwrap_err().field, "HOOKSWITCH_GUESTS_THREADS");
    }

    #[test]
    fn a_certificate_makes_the_api_https() {
        let c = load("[api]\ntls_cert = \"a.pem\"\ntls_key = \"a.key\"\n", &[("HOOKSWITCH_API_H3", "false")]).unwrap();
        assert_eq!(c.api.tls, Some(Tls { cert: "a.pem".into(), key: "a.key".into(), h3: false }));
        assert_eq!(c.api.public_url, "https://127.0.0.1:8080");
        let c = load("[api]\ntls_cert = \"a.pem\"\ntls_key = \"a.key\"\n", &[]).unwrap();
        assert_eq!(c.api.tls.map(|tls| tls.h3), Some(cfg!(feature = "h3")));
        assert_eq!(load("", &[]).unwrap().api.tls, None);
    }

    #[test]
    fn port_ranges_hold_whole_pairs() {
        assert_eq!(port_range("20001-20010").unwrap(), PortRange { first: 20002, last: 20009 });
        assert_eq!(port_range("20000-20001").unwrap().pairs(), 1);
        assert_eq!(port_range("16384-32767").unwrap().pairs(), 8192);
        assert_eq!(port_range("60000-65535").unwrap().pairs(), 2768);
    }
}
