//! What a resolver library does before and after it asks DNS: literal addresses, `/etc/hosts`, the search path. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::NetError;

/// A name longer than this cannot be asked of DNS (RFC 1035).
const MAX_NAME_BYTES: usize = 253;

/// The part of `/etc/resolv.conf` that decides which names are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Suffixes that are tried in order, without dots at either end.
    pub searches: Vec<String>,
    /// A name with at least this many dots is tried as it stands first.
    pub ndots: usize,
}

impl DnsConfig {
    /// What pods get with `dnsPolicy: ClusterFirst`.
    pub fn cluster_first(namespace: &str, domain: &str) -> Self {
        Self {
            searches: vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.to_owned(),
            ],
            ndots: 5,
        }
    }
}

/// The names of `/etc/hosts`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    pub(crate) fn new(entries: Vec<(IpAddr, Vec<String>)>) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (ip, names) in entries {
            for name in names {
                hosts.entry(name.to_ascii_lowercase()).or_default().push(ip);
            }
        }
        Self(hosts)
    }

    /// What a pod knows unless it is told more: its own name.
    pub(crate) fn of_pod(name: &str, ips: &[IpAddr]) -> Self {
        Self::new(ips.iter().map(|ip| (*ip, vec![name.to_owned()])).collect())
    }
}

/// Looks `name` up; `ask` answers for absolute names, which end in a dot. The first failure of `ask` ends the search.
pub(crate) fn lookup(
    name: &str,
    hosts: &Hosts,
    dns: &DnsConfig,
    ask: impl Fn(&str) -> Result<Option<Vec<IpAddr>>, NetError>,
) -> Result<Vec<IpAddr>, NetError> {
    if let Some(ip) = literal(name) {
        return Ok(vec![ip]);
    }
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_suffix('.').unwrap_or(&lower);
    if bare.is_empty() || bare.len() > MAX_NAME_BYTES {
        return Err(NetError::NameNotFound);
    }
    if bare == "localhost" || bare.ends_with(".localhost") {
        return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    if let Some(ips) = hosts.0.get(bare) {
        return Ok(ips.clone());
    }
    candidates(&lower, dns)
        .iter()
        .filter(|candidate| candidate.len() <= MAX_NAME_BYTES + 1)
        .find_map(|candidate| ask(candidate).map(|ips| ips.filter(|ips| !ips.is_empty())).transpose())
        .unwrap_or(Err(NetError::NameNotFound))
        .map(|mut ips| {
            ips.sort_by_key(IpAddr::is_ipv6);
            ips
        })
}

fn literal(name: &str) -> Option<IpAddr> {
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    inner.parse().ok()
}

/// The absolute names to ask, in order.
fn candidates(name: &str, dns: &DnsConfig) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let absolute = format!("{name}.");
    let mut list: Vec<String> = dns.searches.iter().map(|suffix| format!("{name}.{suffix}.")).collect();
    let first = if name.matches('.').count() >= dns.ndots {
        0
    } else {
        list.len()
    };
    list.insert(first, absolute);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns() -> DnsConfig {
        DnsConfig::cluster_first("demo", "cluster.local")
    }

    #[test]
    fn the_search_path_comes_before_short_names_and_after_long_ones() {
        assert_eq!(
            candidates("web.demo", &dns()),
            [
                "web.demo.demo.svc.cluster.local.",
                "web.demo.svc.cluster.local.",
                "web.demo.cluster.local.",
                "web.demo."
            ]
        );
        assert_eq!(candidates("a.b.c.d.e.f", &dns())[0], "a.b.c.d.e.f.");
        assert_eq!(
            candidates("web.demo.svc.cluster.local", &dns())[0],
            "web.demo.svc.cluster.local.demo.svc.cluster.local."
        );
        assert_eq!(candidates("web.", &dns()), ["web."]);
    }

    #[test]
    fn literals_and_hosts_are_never_asked() {
        let hosts = Hosts::new(vec![
            ("10.244.0.2".parse().unwrap(), vec!["Web-0".into()]),
            (
                "10.9.9.9".parse().unwrap(),
                vec!["alias".into(), "alias.example".into()],
            ),
        ]);
        for (name, ip) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::1", "::1"),
            ("[fd00::1]", "fd00::1"),
            ("localhost", "127.0.0.1"),
            ("LOCALHOST.", "127.0.0.1"),
            ("a.localhost", "127.0.0.1"),
            ("web-0", "10.244.0.2"),
            ("alias.example", "10.9.9.9"),
        ] {
            let found = lookup(name, &hosts, &dns(), |name| panic!("asked for {name}")).unwrap();
            assert_eq!(found[0], ip.parse::<IpAddr>().unwrap(), "{name}");
        }
    }

    #[test]
    fn the_first_candidate_with_an_address_wins_and_ipv4_comes_first() {
        let asked = |name: &str| match name {
            "web.demo.svc.cluster.local." => Ok(Some(vec![])),
            "web.svc.cluster.local." => Ok(Some(vec!["fd00::1".parse().unwrap(), "10.0.0.1".parse().unwrap()])),
            "shut.demo.svc.cluster.local." => Err(NetError::Denied),
            _ => Ok(None),
        };
        let found = lookup("web", &Hosts::default(), &dns(), asked).unwrap();
        assert_eq!(
            found,
            ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]
        );
        assert_eq!(
            lookup("other", &Hosts::default(), &dns(), asked),
            Err(NetError::NameNotFound)
        );
        assert_eq!(lookup("shut", &Hosts::default(), &dns(), asked), Err(NetError::Denied));
        assert_eq!(
            lookup("", &Hosts::default(), &dns(), asked),
            Err(NetError::NameNotFound)
        );
        assert_eq!(
            lookup(&"x".repeat(300), &Hosts::default(), &dns(), asked),
            Err(NetError::NameNotFound)
        );
    }
}
