//! Whether policies allow what somebody begins.
//!
//! Asked once for each connection, and for each datagram that answers none; what is established stays. The address is
//! already the endpoint's: policies never see the address of a service. A pod always reaches itself, and the node always
//! reaches its pods, as a kubelet must.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Destination, Fabric, Inner};
use crate::pod::PodNet;
use crate::policy::rules::{Compiled, End, Flow, PodRules};
use crate::policy::{NamedPort, PodFacts, Policies};
use crate::{NetError, Protocol};

/// Where policies expect the cluster's DNS: its pods have this label in this namespace.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
const DNS_PORT: u16 = 53;

/// What policies see in the DNS server, which is no pod here.
pub(super) fn dns_facts() -> PodFacts {
    let port = |name: &str, protocol| NamedPort {
        name: name.to_owned(),
        protocol,
        port: DNS_PORT,
    };
    PodFacts {
        labels: [(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())].into(),
        ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        node: None,
    }
}

impl Inner {
    /// The policies as they are now.
    pub(crate) fn policies(&self) -> Arc<Compiled> {
        self.policies.load_full()
    }

    /// Whether any policy exists.
    pub(crate) fn has_policies(&self) -> bool {
        !self.policies.load().is_empty()
    }

    /// Whether `from`, with this source address, may begin to talk to where an address has led.
    ///
    /// # Errors
    /// [`NetError::Denied`].
    pub(crate) fn permit(
        &self,
        from: &Arc<PodNet>,
        source: IpAddr,
        to: &Destination,
        protocol: Protocol,
    ) -> Result<(), NetError> {
        let policies = self.policies.load();
        if policies.is_empty() {
            return Ok(());
        }
        let (at, server) = match to {
            Destination::Pod(pod, at) => (*at, Some(pod)),
            Destination::Host(entry, _) if entry.is_flow() => return Ok(()),
            Destination::Host(_, at) | Destination::Far(_, at) => (*at, None),
        };
        let remote = match to {
            Destination::Far(_, at) => self.remote_pod(at.ip()),
            _ => None,
        };
        if server.is_some_and(|server| Arc::ptr_eq(server, from)) {
            return Ok(());
        }
        let (client_facts, server_facts) = (from.facts(), server.map(|server| server.facts()));
        let of_server = match (server, &server_facts) {
            (Some(pod), Some(facts)) => Some((pod.identity().namespace.as_str(), facts.as_ref())),
            _ => match &remote {
                Some(pod) => Some((pod.namespace.as_str(), &pod.facts)),
                None => self.host_end(at.ip()),
            },
        };
        // What a pod of another node takes is asked there.
        let flow = Flow {
            from: End {
                ip: source,
                pod: Some((&from.identity().namespace, &client_facts)),
            },
            to: End {
                ip: at.ip(),
                pod: of_server,
            },
            port: at.port(),
            protocol,
        };
        let in_too = || server.is_none_or(|server| server.rules(&policies).let_in(&flow));
        match from.rules(&policies).let_out(&flow) && in_too() {
            true => Ok(()),
            false => Err(NetError::Denied),
        }
    }

    /// Whether a client outside the cluster may talk to a pod. The node's own programs always may.
    ///
    /// # Errors
    /// [`NetError::Denied`].
    pub(crate) fn permit_outside(&self, client: IpAddr, to: &Destination, protocol: Protocol) -> Result<(), NetError> {
        let policies = self.policies.load();
        if policies.is_empty() || client.is_loopback() || client == self.config.host_ip {
            return Ok(());
        }
        let flow = |namespace: &str, facts: &PodFacts, at: &SocketAddr, rules: &PodRules| {
            rules.let_in(&Flow {
                from: End { ip: client, pod: None },
                to: End {
                    ip: at.ip(),
                    pod: Some((namespace, facts)),
                },
                port: at.port(),
                protocol,
            })
        };
        let let_in = match to {
            Destination::Pod(pod, at) => flow(&pod.identity().namespace, &pod.facts(), at, &pod.rules(&policies)),
            // The other node sees this one as the sender, so the client is asked about here.
            Destination::Far(_, at) => match self.remote_pod(at.ip()) {
                Some(pod) => flow(
                    &pod.namespace,
                    &pod.facts,
                    at,
                    &policies.rules(&pod.namespace, &pod.facts),
                ),
                None => false,
            },
            Destination::Host(..) => true,
        };
        match let_in {
            true => Ok(()),
            false => Err(NetError::Denied),
        }
    }

    /// Whether a pod may ask the cluster's DNS.
    ///
    /// # Errors
    /// [`NetError::Denied`].
    pub(crate) fn permit_names(&self, from: &PodNet) -> Result<(), NetError> {
        let policies = self.policies.load();
        if policies.is_empty() {
            return Ok(());
        }
        let dns = SocketAddr::new(self.config.dns_ip, DNS_PORT);
        let facts = from.facts();
        let flow = Flow {
            from: End {
                ip: from.source_ip(None, dns.ip()),
                pod: Some((&from.identity().namespace, &facts)),
            },
            to: End {
                ip: dns.ip(),
                pod: self.host_end(dns.ip()),
            },
            port: dns.port(),
            protocol: Protocol::Udp,
        };
        match from.rules(&policies).let_out(&flow) {
            true => Ok(()),
            false => Err(NetError::Denied),
        }
    }

    /// Whom policies see at an address that the host answers.
    fn host_end(&self, ip: IpAddr) -> Option<(&str, &PodFacts)> {
        (ip == self.config.dns_ip).then_some((DNS_NAMESPACE, &self.dns_facts))
    }
}

impl Fabric {
    /// Replaces what the network knows of policies, for what begins from now on.
    pub fn update_policies(&self, told: &Policies) {
        self.0.policies.store(Arc::new(Compiled::new(told)));
    }
}
