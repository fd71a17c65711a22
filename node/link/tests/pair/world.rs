//! Nodes for a test: each a pod network with a link, all of one authority.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle_link::{Credentials, Endpoint, Keys, Link, Timing, serving_name};
use coracle_net::{
    Binding, Cidr, Elsewhere, Fabric, FabricConfig, Labels, PodFacts, PodIdentity, PodNet, RemoteNode, RemotePod,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What `future` gives, which must not take long: a test that would hang fails instead.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it never happened")
}

/// An authority that makes certificates for nodes.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Self { pem, issuer }
    }

    fn sign(
        &self,
        user: &str,
        group: &str,
        names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        until: Option<SystemTime>,
    ) -> (String, String) {
        let mut parameters = CertificateParams::new(names).unwrap();
        if let Some(until) = until {
            parameters.not_after = until.into();
        }
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, group);
        subject.push(DnType::CommonName, user);
        parameters.distinguished_name = subject;
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What somebody of this group proves to be, towards whom it dials; who dials it finds the node.
    pub fn credentials(&self, node: &str, group: &str) -> Credentials {
        self.made(node, group, None)
    }

    /// The same of a node, good until then.
    pub fn credentials_until(&self, node: &str, until: SystemTime) -> Credentials {
        self.made(node, "system:nodes", Some(until))
    }

    fn made(&self, node: &str, group: &str, until: Option<SystemTime>) -> Credentials {
        let user = format!("system:node:{node}");
        Credentials {
            authority: self.pem.clone(),
            client: self.sign(&user, group, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, until),
            serving: self.sign(
                &user,
                group,
                vec![serving_name(node)],
                ExtendedKeyUsagePurpose::ServerAuth,
                until,
            ),
        }
    }
}

/// Short, so that tests of silence are; long against what a loaded machine takes.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(200),
    silence: Duration::from_secs(3),
    connect: Duration::from_secs(5),
};

/// A node that listens.
pub struct Machine {
    pub name: String,
    pub fabric: Fabric,
    pub keys: Arc<Keys>,
    pub link: Link,
    pub address: SocketAddr,
    octet: u8,
    _running: DropGuard,
}

impl Machine {
    /// The node whose pods have addresses in 10.0.<octet>.0/24.
    pub fn start(authority: &Authority, name: &str, octet: u8) -> Self {
        Self::with(authority.credentials(name, "system:nodes"), name, octet)
    }

    pub fn with(credentials: Credentials, name: &str, octet: u8) -> Self {
        let fabric = Fabric::new(FabricConfig {
            pod_cidrs: vec![Cidr::new(IpAddr::from([10, 0, 0, 0]), 8)],
            host_ip: IpAddr::from([10, 0, octet, 1]),
            ..FabricConfig::default()
        });
        let keys = Keys::new(&credentials).unwrap();
        let link = Link::new(name, keys.clone(), fabric.clone(), TIMING);
        fabric.set_uplink(Arc::new(link.clone()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let endpoint = Endpoint {
            listener,
            keys: keys.clone(),
            link: link.clone(),
            api: None,
        };
        let running = endpoint.run(stop.clone());
        tokio::spawn(async move { running.await.unwrap() });
        Self {
            name: name.to_owned(),
            fabric,
            keys,
            link,
            address,
            octet,
            _running: stop.drop_guard(),
        }
    }

    /// This node as others are told of it.
    pub fn told(&self) -> RemoteNode {
        RemoteNode {
            name: self.name.clone(),
            address: self.address,
            networks: vec![Cidr::new(IpAddr::from([10, 0, self.octet, 0]), 24)],
        }
    }

    /// Adds the pod `demo/<app>` at 10.0.<octet>.<last>.
    pub fn pod(&self, last: u8, app: &str) -> Arc<PodNet> {
        let identity = PodIdentity {
            namespace: "demo".into(),
            name: app.into(),
            uid: format!("{}-{last}", self.name),
        };
        let pod = self.fabric.add_pod(identity, vec![self.ip(last)]).unwrap();
        pod.describe(facts(app));
        pod
    }

    pub fn ip(&self, last: u8) -> IpAddr {
        IpAddr::from([10, 0, self.octet, last])
    }

    pub fn at(&self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(last), port)
    }

    /// Waits until a link to that node stands.
    pub async fn linked(&self, node: &str) {
        soon(async {
            while !self.link.peers().iter().any(|peer| peer == node) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until no link stands.
    pub async fn alone(&self) {
        soon(async {
            while !self.link.peers().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

pub fn facts(app: &str) -> PodFacts {
    PodFacts {
        labels: Labels::from([("app".to_owned(), app.to_owned())]),
        ..PodFacts::default()
    }
}

/// Tells each of the nodes of the others, and of pods by their address and label.
pub fn introduce(machines: &[&Machine], pods: &[(IpAddr, &str)]) {
    let told: Vec<RemoteNode> = machines.iter().map(|machine| machine.told()).collect();
    introduce_as(machines, &told, pods);
}

/// The same with nodes as they are told here.
pub fn introduce_as(machines: &[&Machine], told: &[RemoteNode], pods: &[(IpAddr, &str)]) {
    for machine in machines {
        let others = told.iter().filter(|node| node.name != machine.name);
        let pods: HashMap<_, _> = pods
            .iter()
            .map(|(ip, app)| {
                let pod = RemotePod {
                    namespace: "demo".into(),
                    facts: facts(app),
                };
                (*ip, Arc::new(pod))
            })
            .collect();
        machine.fabric.update_elsewhere(Elsewhere {
            nodes: others.cloned().map(Arc::new).collect(),
            pods,
            ..Elsewhere::default()
        });
    }
}

/// Two nodes, a and b, that know of each other.
pub fn two() -> (Machine, Machine) {
    let authority = Authority::new();
    let (a, b) = (Machine::start(&authority, "a", 1), Machine::start(&authority, "b", 2));
    introduce(&[&a, &b], &[]);
    (a, b)
}

pub fn listen(pod: &Arc<PodNet>, port: u16) -> Binding {
    let binding = pod.bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
    binding.listen(16).unwrap();
    binding
}
