//! The names that a pod knows: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, as files and as the network looks them up.
//!
//! Pure. The files say what the look-ups of the pod's network do, so that a program which reads them itself comes to the same
//! answers as one that asks the host.

use crate::fields::Facts;
use crate::volume::Files;
use coracle_net::DnsConfig;
use k8s_openapi::api::core::v1::PodDNSConfig;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Names with the addresses that they mean.
type Entries = Vec<(IpAddr, Vec<String>)>;

/// What the network's own names are.
#[derive(Debug, Clone)]
pub struct Zone<'a> {
    /// Suffix of all cluster names.
    pub domain: &'a str,
    /// The cluster's DNS server.
    pub dns_ip: IpAddr,
}

/// What a pod knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Names {
    /// The pod's own names.
    own: Entries,
    /// `hostAliases`.
    aliases: Entries,
    hostname: String,
    host_network: bool,
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

impl Names {
    /// Reads a pod.
    pub fn of(facts: &Facts<'_>, zone: &Zone<'_>) -> Self {
        let spec = facts.pod.spec.as_ref();
        let hostname = facts.hostname();
        let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).unwrap_or_default();
        let mut names = vec![hostname.clone()];
        if !subdomain.is_empty() {
            let full = format!("{hostname}.{subdomain}.{}.svc.{}", facts.namespace(), zone.domain);
            names.insert(0, full);
        }
        let aliases = spec.and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
        let aliases = aliases.iter().filter_map(|alias| {
            let names = alias.hostnames.clone().unwrap_or_default();
            Some((alias.ip.parse().ok()?, names))
        });
        let mut known = Self {
            own: facts.pod_ips.iter().map(|ip| (*ip, names.clone())).collect(),
            aliases: aliases.collect(),
            hostname,
            host_network: spec.and_then(|spec| spec.host_network) == Some(true),
            servers: Vec::new(),
            searches: Vec::new(),
            options: Vec::new(),
        };
        known.resolver(facts, zone);
        known
    }

    fn resolver(&mut self, facts: &Facts<'_>, zone: &Zone<'_>) {
        let spec = facts.pod.spec.as_ref();
        match spec.and_then(|spec| spec.dns_policy.as_deref()) {
            Some("None") => {}
            // The host's own resolver cannot be reached from the pod network: its part is done by the cluster's, without
            // the cluster's suffixes.
            Some("Default") => self.servers.push(zone.dns_ip.to_string()),
            _ => {
                self.servers.push(zone.dns_ip.to_string());
                self.searches = DnsConfig::cluster_first(facts.namespace(), zone.domain).searches;
                self.options.push(("ndots".to_owned(), Some("5".to_owned())));
            }
        }
        if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
            self.add(own);
        }
    }

    /// What a pod asks for beyond its policy: more servers and suffixes, and options that replace those of the same name.
    fn add(&mut self, own: &PodDNSConfig) {
        let add = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
            for one in more.iter().flatten() {
                if !list.contains(one) {
                    list.push(one.clone());
                }
            }
        };
        add(&mut self.servers, &own.nameservers);
        add(&mut self.searches, &own.searches);
        for option in own.options.iter().flatten() {
            let Some(name) = option.name.clone() else { continue };
            match self.options.iter_mut().find(|(known, _)| *known == name) {
                Some((_, value)) => value.clone_from(&option.value),
                None => self.options.push((name, option.value.clone())),
            }
        }
    }

    /// For look-ups by the network: names of hosts.
    pub fn hosts(&self) -> Entries {
        self.own.iter().chain(&self.aliases).cloned().collect()
    }

    /// For look-ups by the network: which names are asked.
    pub fn dns(&self) -> DnsConfig {
        let ndots = self.options.iter().find(|(name, _)| name == "ndots");
        DnsConfig {
            searches: self
                .searches
                .iter()
                .map(|suffix| suffix.trim_matches('.').to_owned())
                .filter(|suffix| !suffix.is_empty())
                .collect(),
            // One dot is what resolvers take when nobody says anything.
            ndots: ndots.and_then(|(_, value)| value.as_deref()?.parse().ok()).unwrap_or(1),
        }
    }

    /// The files, by their names in `/etc`.
    pub fn files(&self) -> Files {
        Files::from([
            ("hostname".to_owned(), format!("{}\n", self.hostname).into_bytes()),
            ("hosts".to_owned(), self.hosts_file().into_bytes()),
            ("resolv.conf".to_owned(), self.resolver_file().into_bytes()),
        ])
    }

    fn hosts_file(&self) -> String {
        let header = match self.host_network {
            true => "# Kubernetes-managed hosts file (host network).",
            false => "# Kubernetes-managed hosts file.",
        };
        let mut text = format!(
            "{header}\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        );
        for (title, entries) in [("", &self.own), ("\n# Entries added by HostAliases.\n", &self.aliases)] {
            if !entries.is_empty() {
                text.push_str(title);
            }
            for (ip, names) in entries {
                // Writing to a text cannot fail.
                let _ = writeln!(text, "{ip}\t{}", names.join("\t"));
            }
        }
        text
    }

    fn resolver_file(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        for server in &self.servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        let option = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        if !self.options.is_empty() {
            let options: Vec<String> = self.options.iter().map(option).collect();
            let _ = writeln!(text, "options {}", options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn names(spec: serde_json::Value) -> Names {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "ns", "uid": "u"}, "spec": spec
        }))
        .unwrap();
        let zone = Zone {
            domain: "cluster.local",
            dns_ip: [10, 96, 0, 10].into(),
        };
        Names::of(&crate::fields::tests::facts(&pod), &zone)
    }

    fn file(names: &Names, name: &str) -> String {
        String::from_utf8(names.files()[name].clone()).unwrap()
    }

    #[test]
    fn a_pod_knows_itself_and_its_aliases() {
        let plain = names(json!({"containers": []}));
        let hosts = file(&plain, "hosts");
        assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(hosts.ends_with("10.244.0.7\tweb-0\n"), "{hosts}");
        let more = names(json!({"containers": [], "hostname": "db", "subdomain": "data",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["old", "old.example"]}]}));
        let hosts = file(&more, "hosts");
        assert!(
            hosts.contains("10.244.0.7\tdb.data.ns.svc.cluster.local\tdb\n"),
            "{hosts}"
        );
        assert!(hosts.ends_with("# Entries added by HostAliases.\n10.1.2.3\told\told.example\n"));
        assert_eq!(file(&more, "hostname"), "db\n");
        assert_eq!(more.hosts().len(), 2);
    }

    #[test]
    fn policies_and_additions_make_the_resolver() {
        let searched =
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(file(&names(json!({"containers": []})), "resolv.conf"), searched);
        let default = names(json!({"containers": [], "dnsPolicy": "Default"}));
        assert_eq!(file(&default, "resolv.conf"), "nameserver 10.96.0.10\n");
        assert_eq!(
            default.dns(),
            DnsConfig {
                searches: vec![],
                ndots: 1
            }
        );
        let config = json!({"nameservers": ["1.2.3.4"], "searches": ["example.com", "cluster.local"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let none = names(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config}));
        assert_eq!(
            file(&none, "resolv.conf"),
            "search example.com cluster.local\nnameserver 1.2.3.4\noptions ndots:2 edns0\n"
        );
        let both = names(json!({"containers": [], "dnsConfig": config}));
        assert_eq!(
            file(&both, "resolv.conf"),
            "search ns.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\nnameserver 1.2.3.4\noptions ndots:2 edns0\n"
        );
        assert_eq!((both.dns().ndots, both.dns().searches.len()), (2, 4));
    }
}
