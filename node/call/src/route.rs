//! Whose call is it (IC-297): (trunk, number), then the Request-URI's domain, then the default tenant. And whether a configuration
//! says so without ambiguity, which is checked when it is applied and not when a call comes.

use crate::door::{Configuration, Tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Why a configuration is refused; nothing of it is applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct BadConfiguration {
    pub field: String,
    pub why: String,
}

impl Configuration {
    /// Every number belongs to one tenant per trunk, every domain to one tenant, every address to one trunk, every name is known.
    pub fn check(&self) -> Result<(), BadConfiguration> {
        Router::new(self).map(|_| ())
    }
}

/// A configuration, indexed.
#[derive(Debug, Default)]
pub(crate) struct Router {
    domains: BTreeMap<String, Arc<Tenant>>,
    /// (trunk or any, number).
    numbers: BTreeMap<(Option<String>, String), Arc<Tenant>>,
    trunks: BTreeMap<IpAddr, (String, bool)>,
    default: Option<Arc<Tenant>>,
    emergency: BTreeSet<String>,
}

/// From where an INVITE came, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    pub trunk: Option<&'a str>,
    /// P-Asserted-Identity and Diversion count.
    pub trusted: bool,
}

impl Router {
    pub fn new(configuration: &Configuration) -> Result<Router, BadConfiguration> {
        let bad = |field: String, why: String| Err(BadConfiguration { field, why });
        let mut router = Router { emergency: configuration.emergency.iter().cloned().collect(), ..Router::default() };
        let mut names = Vec::new();
        for (i, trunk) in configuration.trunks.iter().enumerate() {
            if trunk.name.is_empty() || names.contains(&trunk.name.as_str()) {
                return bad(format!("trunks[{i}].name"), format!("{:?} is empty or used twice", trunk.name));
            }
            names.push(&trunk.name);
            for address in &trunk.addresses {
                if let Some((other, _)) = router.trunks.insert(address.to_canonical(), (trunk.name.clone(), trunk.trusted)) {
                    return bad(format!("trunks[{i}].addresses"), format!("{address} also belongs to trunk {other:?}"));
                }
            }
        }
        for (i, tenant) in configuration.tenants.iter().enumerate() {
            let domain = tenant.domain.to_ascii_lowercase();
            if domain.is_empty() || router.domains.insert(domain, tenant.clone()).is_some() {
                return bad(format!("tenants[{i}].domain"), format!("{:?} is empty or used twice", tenant.domain));
            }
            for (trunk, number) in &tenant.numbers {
                let field = || format!("tenants[{i}].numbers");
                if let Some(trunk) = trunk
                    && !names.contains(&trunk.as_str())
                {
                    return bad(field(), format!("{number:?} names the unknown trunk {trunk:?}"));
                }
                if let Some(other) = router.numbers.insert((trunk.clone(), number.clone()), tenant.clone()) {
                    let on = trunk.as_ref().map_or("any trunk".to_owned(), |t| format!("trunk {t:?}"));
                    return bad(field(), format!("{number:?} on {on} also belongs to {}", other.domain));
                }
            }
        }
        if let Some(domain) = &configuration.default_domain {
            let Some(tenant) = router.domains.get(&domain.to_ascii_lowercase()) else {
                return bad("default_domain".into(), format!("no tenant has {domain:?}"));
            };
            router.default = Some(tenant.clone());
        }
        Ok(router)
    }

    pub fn origin(&self, peer: IpAddr) -> Origin<'_> {
        match self.trunks.get(&peer.to_canonical()) {
            Some((name, trusted)) => Origin { trunk: Some(name), trusted: *trusted },
            None => Origin { trunk: None, trusted: false },
        }
    }

    pub fn of_domain(&self, domain: &str) -> Option<&Arc<Tenant>> {
        self.domains.get(&domain.to_ascii_lowercase())
    }

    pub fn is_emergency(&self, number: &str) -> bool {
        self.emergency.contains(number)
    }

    /// IC-297. A number given for the very trunk wins over one given for any. A tenant that does not take calls of this trunk is passed
    /// over.
    pub fn tenant(&self, trunk: Option<&str>, number: &str, domain: &str) -> Option<&Arc<Tenant>> {
        let takes = |tenant: &&Arc<Tenant>| tenant.trunks.is_empty() || trunk.is_some_and(|t| tenant.trunks.iter().any(|own| own == t));
        let on_trunk = trunk.and_then(|t| self.numbers.get(&(Some(t.to_owned()), number.to_owned())));
        on_trunk
            .filter(takes)
            .or_else(|| self.numbers.get(&(None, number.to_owned())).filter(takes))
            .or_else(|| self.domains.get(&domain.to_ascii_lowercase()).filter(takes))
            .or_else(|| self.default.as_ref().filter(takes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Trunk;

    fn tenant(domain: &str, numbers: &[(Option<&str>, &str)]) -> Arc<Tenant> {
        let numbers = numbers.iter().map(|(t, n)| (t.map(str::to_owned), (*n).to_owned())).collect();
        Arc::new(Tenant { numbers, ..Tenant::new(domain) })
    }

    fn configuration() -> Configuration {
        let trunk = |name: &str, ip: &str, trusted| Trunk { name: name.into(), addresses: vec![ip.parse().unwrap()], trusted };
        Configuration {
            tenants: vec![
                tenant("a.test", &[(Some("north"), "100"), (None, "200")]),
                tenant("b.test", &[(Some("south"), "100"), (Some("north"), "200")]),
                tenant("c.test", &[]),
            ],
            default_domain: Some("c.test".into()),
            trunks: vec![trunk("north", "10.0.0.1", true), trunk("south", "10.0.0.2", false)],
            node_address: "192.0.2.1".into(),
            emergency: vec!["112".into()],
            drain: false,
        }
    }

    #[test]
    fn ic_297_number_on_trunk_then_domain_then_default() {
        let mut configuration = configuration();
        let router = Router::new(&configuration).expect("a good configuration");
        let to = |trunk, number, domain| router.tenant(trunk, number, domain).map(|t| t.domain.to_string());
        let table = [
            (Some("north"), "100", "x", "a.test"),
            (Some("south"), "100", "x", "b.test"),
            (Some("north"), "200", "x", "b.test"),
            (Some("south"), "200", "x", "a.test"),
            (None, "200", "b.test", "a.test"),
            (None, "100", "B.TEST", "b.test"),
            (None, "100", "x", "c.test"),
            (Some("south"), "1", "a.test", "a.test"),
        ];
        for (trunk, number, domain, expected) in table {
            assert_eq!(to(trunk, number, domain).as_deref(), Some(expected), "{trunk:?} {number} {domain}");
        }
        configuration.default_domain = None;
        let router = Router::new(&configuration).expect("a good configuration");
        assert!(router.tenant(None, "100", "x").is_none());
        assert_eq!(router.origin("10.0.0.1".parse().unwrap()), Origin { trunk: Some("north"), trusted: true });
        assert_eq!(router.origin("::ffff:10.0.0.2".parse().unwrap()), Origin { trunk: Some("south"), trusted: false });
        assert_eq!(router.origin("10.0.0.3".parse().unwrap()), Origin { trunk: None, trusted: false });
    }

    #[test]
    fn a_tenant_takes_calls_of_its_trunks_alone() {
        let mut configuration = configuration();
        let only =
            |domain: &str, numbers: &[(Option<&str>, &str)]| Tenant { trunks: vec!["south".into()], ..(*tenant(domain, numbers)).clone() };
        configuration.tenants[0] = Arc::new(only("a.test", &[(Some("north"), "100"), (None, "200")]));
        let router = Router::new(&configuration).expect("a good configuration");
        let to = |trunk, number, domain| router.tenant(trunk, number, domain).map(|t| t.domain.to_string());
        assert_eq!(to(Some("south"), "200", "x").as_deref(), Some("a.test"));
        assert_eq!(to(Some("south"), "1", "a.test").as_deref(), Some("a.test"));
        // Its number, its domain: from elsewhere they lead to the next one that fits.
        assert_eq!(to(Some("north"), "100", "x").as_deref(), Some("c.test"));
        assert_eq!(to(None, "200", "a.test").as_deref(), Some("c.test"));
        configuration.default_domain = None;
        let router = Router::new(&configuration).expect("a good configuration");
        assert!(router.tenant(None, "200", "a.test").is_none());
        assert!(router.is_emergency("112") && !router.is_emergency("1120"));
    }

    #[test]
    fn ic_297_an_ambiguous_setting_is_refused_and_named() {
        type Spoil = fn(&mut Configuration);
        let table: &[(Spoil, &str)] = &[
            (|c| c.tenants.push(tenant("d.test", &[(Some("north"), "100")])), "tenants[3].numbers"),
            (|c| c.tenants.push(tenant("d.test", &[(None, "200")])), "tenants[3].numbers"),
            (|c| c.tenants.push(tenant("d.test", &[(Some("west"), "1")])), "tenants[3].numbers"),
            (|c| c.tenants.push(tenant("A.test", &[])), "tenants[3].domain"),
            (|c| c.default_domain = Some("d.test".into()), "default_domain"),
            (|c| c.trunks[1].addresses = c.trunks[0].addresses.clone(), "trunks[1].addresses"),
            (|c| c.trunks[1].name = "north".into(), "trunks[1].name"),
        ];
        assert_eq!(configuration().check(), Ok(()));
        for (spoil, field) in table {
            let mut configuration = configuration();
            spoil(&mut configuration);
            assert_eq!(configuration.check().map_err(|e| e.field), Err((*field).to_owned()));
        }
    }
}
