//! `Cluster`: the whole of Coracle in one process, for `coracle up`, `coracle demo` and every test.
//!
//! Here the control plane and the nodes are wired to each other and started in the order in which they need each other.
//! Nothing is decided here. A cluster that is dropped without [`Cluster::shutdown`] stops as a killed process does: what
//! was acknowledged is on disk, the rest is found again at the next start.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use coracle_agent::{Agent, Identity};
use coracle_controllers::world::Facts;
use coracle_edge::ingress::Sockets;
use coracle_images::{ImageStore, Thresholds};
use coracle_link::{Endpoint, Keys, Link, Timing};
use coracle_net::{Cidr, Dns, ExposedPorts, Fabric, FabricConfig, HostService};
use coracle_runtime::{Runtime, RuntimeConfig};
use coracle_server::Server;
use coracle_simulated::Delays;
use jiff::SignedDuration;
use k8s_openapi::{api::node::v1::RuntimeClass, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, api::PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::{ControlPlane, Surroundings, listen},
    data_dir::DataDir,
    dial::Nodes,
    kubeconfig,
    node::link_annotation,
    static_pods,
};

/// The largest number of virtual nodes: each has a pod network of its own in 10.0.0.0/8, below 10.245.0.0.
pub const MAX_NODES: u16 = 100;

/// The second octet of the first node's pod network, 10.244.0.0/16 as in most clusters; further nodes count down.
const FIRST_POD_NETWORK: u8 = 244;

/// How often the images' part of the disk is looked at: the kubelet's period.
const IMAGE_GC_PERIOD: Duration = Duration::from_secs(300);

/// How a cluster is started.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Where the state lives.
    pub data: DataDir,
    /// Address of the API server; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Address of the DNS server on the host, UDP and TCP; port 0 takes any free one.
    pub dns_listen: SocketAddr,
    /// The resolver that is asked for names outside the cluster; without one they are refused.
    pub dns_upstream: Option<SocketAddr>,
    /// Addresses of the ingress for HTTP and for HTTPS, port 0 takes any free one; `None` starts no ingress.
    pub ingress_listen: Option<(SocketAddr, SocketAddr)>,
    /// Where nodes on other machines reach the pods of this one, port 0 takes any free one; `None` keeps to this machine.
    pub node_listen: Option<SocketAddr>,
    /// How many virtual nodes run.
    pub nodes: u16,
    /// How often autoscalers look at their metrics.
    pub autoscaler_period: SignedDuration,
    /// How long a node may be silent before it is taken for lost.
    pub node_grace: SignedDuration,
    /// How long the certificates are good that the cluster signs for others, at most.
    pub signing_seconds: u64,
    /// How many further nodes only pretend to run their pods.
    pub simulated: u16,
    /// How long pretending pods take.
    pub delays: Delays,
    /// Whether pods may mount directories of this machine.
    pub host_paths: bool,
    /// Whether pods may name files of this machine as images.
    pub file_images: bool,
    /// The authority, in PEM, of registries whose certificates the system does not trust.
    pub registry_authority: Option<String>,
    /// When images are removed that no pod uses.
    pub image_gc: Thresholds,
    /// A directory of manifests whose pods the first node runs whatever the API says.
    pub manifests: Option<PathBuf>,
    /// A document at a URL whose pods it runs in the same way.
    pub static_pod_url: Option<static_pods::url::Source>,
    /// A file to which the API server adds a line for every request; nothing is written without it.
    pub audit_log: Option<PathBuf>,
    /// This program, when it is `coracle`: it compiles guests in a process of its own, with limits. `None` compiles in this one.
    pub compiler: Option<PathBuf>,
    /// Where compiled guests are kept; `None` keeps them in the data directory. Clusters may share it.
    pub cache: Option<PathBuf>,
}

impl ClusterConfig {
    /// One node, any free ports on loopback.
    #[must_use]
    pub fn new(data: DataDir) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            data,
            listen: any,
            dns_listen: any,
            dns_upstream: None,
            ingress_listen: Some((any, any)),
            node_listen: None,
            nodes: 1,
            autoscaler_period: Facts::default().autoscaler_period,
            node_grace: SignedDuration::from_secs(Facts::default().node_grace_seconds),
            signing_seconds: coracle_server::SIGNING_SECONDS,
            simulated: 0,
            delays: Delays::default(),
            host_paths: false,
            file_images: false,
            registry_authority: None,
            image_gc: Thresholds::default(),
            manifests: None,
            static_pod_url: None,
            audit_log: None,
            compiler: None,
            cache: None,
        }
    }
}

/// A running cluster.
pub struct Cluster {
    data: DataDir,
    access: kubeconfig::Access,
    client: kube::Client,
    dns: SocketAddr,
    ingress: Option<(SocketAddr, SocketAddr)>,
    /// Where nodes on other machines reach this one.
    node_address: Option<SocketAddr>,
    fabric: Fabric,
    /// The way from the pod network to the API server.
    api_in_network: HostService,
    plane: ControlPlane,
}

impl Cluster {
    /// Starts a cluster and returns when it is ready: the kubeconfig is written, the nodes are registered, `/readyz` is ok.
    ///
    /// # Errors
    /// When an address is taken, or the data directory cannot be used.
    pub async fn start(config: ClusterConfig) -> anyhow::Result<Self> {
        // Fails when another part of the process has installed one before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = listen(config.listen)?;
        let address = listener.local_addr()?;
        let (dns_udp, dns_tcp) = listen_dns(config.dns_listen)?;
        let dns = dns_udp.local_addr()?;
        let sockets = config.ingress_listen.map(listen_ingress).transpose()?;
        let at = |sockets: &Sockets| Ok::<_, std::io::Error>((sockets.plain.local_addr()?, sockets.tls.local_addr()?));
        let ingress = sockets.as_ref().map(at).transpose()?;

        let node_listener = config.node_listen.map(listen_nodes).transpose()?;
        let node_address = node_listener.as_ref().map(TcpListener::local_addr).transpose()?;

        let nodes = Nodes::default();
        let fabric = Fabric::new(fabric_config(config.nodes, node_address));
        let in_network = in_network(&fabric, address);
        let surroundings = Surroundings {
            nodes: nodes.clone(),
            cluster: Arc::new(crate::dial::PodNetwork(fabric.clone())),
            names: node_address.iter().map(|address| address.ip().to_string()).collect(),
            advertise: Some(in_network),
            audit_log: config.audit_log,
            signing_seconds: config.signing_seconds,
        };
        let plane = ControlPlane::build(&config.data, address, surroundings).await?;
        let server = plane.server.clone();
        let ready = server.ready_check("nodes");

        let cluster = Self {
            access: plane.access(),
            client: kube::Client::new(server.local_admin(), "default"),
            data: config.data,
            dns,
            ingress,
            node_address,
            api_in_network: serve_in_network(&server, &fabric, in_network)?,
            fabric,
            plane,
        };
        cluster.plane.serve(listener);
        let informers = cluster.plane.start_controllers(Facts {
            autoscaler_period: config.autoscaler_period,
            node_grace_seconds: config.node_grace.as_secs(),
            ..Facts::default()
        });
        cluster.plane.start_scheduler(Some(informers));
        cluster.start_network(dns_udp, dns_tcp, config.dns_upstream);
        cluster.start_edge(&server, sockets);
        if let Some(listener) = node_listener {
            cluster.start_link(&server, listener, config.nodes)?;
        }
        let cache = config.cache.unwrap_or_else(|| cluster.data.join("cache"));
        let wanted = Wanted {
            count: config.nodes,
            host_paths: config.host_paths,
            file_images: config.file_images,
            registry_authority: config.registry_authority,
            image_gc: config.image_gc,
            manifests: config.manifests,
            static_pod_url: config.static_pod_url,
            compiler: config.compiler,
            cache,
        };
        cluster.start_nodes(&server, &nodes, wanted).await?;
        runtime_classes(&cluster.client).await?;
        cluster
            .start_simulated(&server, config.simulated, config.delays)
            .await?;
        kubeconfig::write(&cluster.kubeconfig_path(), &cluster.access)?;
        ready.set(true);
        Ok(cluster)
    }

    fn start_network(&self, udp: UdpSocket, tcp: TcpListener, upstream: Option<SocketAddr>) {
        let dns = Dns::bind(self.fabric.clone(), vec![udp], vec![tcp]).with_upstream(upstream);
        let stop = self.plane.stop_clients.clone();
        self.plane.clients.spawn(async move {
            if let Err(error) = dns.run(stop).await {
                tracing::error!(%error, "the DNS server ended");
            }
        });
    }

    /// What the host's side shows of the cluster: node ports, load balancers and the ingress, which say in the API what came
    /// of them.
    fn start_edge(&self, server: &Server, ingress: Option<Sockets>) {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ports = ExposedPorts::new(self.fabric.clone(), ip);
        self.tell_host_ports(server, &ports);
        let edge = coracle_edge::Config {
            client: kube::Client::new(server.local("coracle:edge", &[]), "default"),
            fabric: self.fabric.clone(),
            exposed: ports.state(),
            exposed_ip: ip,
            ingress,
        };
        self.plane.clients.spawn(ports.run(self.plane.stop_clients.clone()));
        let stop = self.plane.stop_clients.clone();
        self.plane.clients.spawn(async move {
            if let Err(error) = coracle_edge::run(edge, stop).await {
                tracing::error!(%error, "the ingress ended");
            }
        });
    }

    /// The way to and from nodes on other machines. All nodes of this process prove themselves as the first one.
    fn start_link(&self, server: &Server, listener: TcpListener, count: u16) -> anyhow::Result<()> {
        let name = node_name(0);
        let keys = Keys::new(&self.plane.credentials_of(&name)?)?;
        let link = Link::new(&name, keys.clone(), self.fabric.clone(), Timing::default());
        self.fabric.set_uplink(Arc::new(link.clone()));
        let endpoint = Endpoint {
            listener,
            keys,
            link,
            api: None,
        };
        let stop = || self.plane.stop_clients.clone();
        let serve = endpoint.run(stop());
        self.plane.clients.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "nodes on other machines do not reach this one any more");
            }
        });
        let ip = self.node_address.map(|address| address.ip());
        if let Some(ip) = ip.filter(|ip| !ip.is_loopback()) {
            let ports = ExposedPorts::new(self.fabric.clone(), ip).beside_others();
            self.tell_host_ports(server, &ports);
            self.plane.clients.spawn(ports.run(stop()));
        }
        let client = kube::Client::new(server.local("system:kube-proxy", &[]), "default");
        let own = (0..count).map(node_name).collect();
        let follow = coracle_agent::follow_elsewhere(client, self.fabric.clone(), own, stop());
        self.plane.clients.spawn(follow);
        Ok(())
    }

    /// Tells pods which of their ports do not listen at the host.
    fn tell_host_ports(&self, server: &Server, ports: &ExposedPorts) {
        let client = kube::Client::new(server.local("system:kube-proxy", &[]), "default");
        let stop = self.plane.stop_clients.clone();
        let tell = coracle_agent::tell_host_ports(client, node_name(0), ports.state(), stop);
        self.plane.clients.spawn(tell);
    }

    async fn start_nodes(&self, server: &Server, nodes: &Nodes, wanted: Wanted) -> anyhow::Result<()> {
        let stop = self.plane.stop_clients.child_token();
        let directory = wanted
            .manifests
            .map(|dir| static_pods::directory::follow(&dir, stop.clone()));
        let document = wanted
            .static_pod_url
            .map(|source| static_pods::url::follow(source, stop.clone()));
        let sources = directory.into_iter().chain(document).collect::<Result<_, _>>()?;
        let mut static_pods = static_pods::together(sources, stop);
        let runtime = Runtime::new(RuntimeConfig {
            compiler: wanted.compiler,
            trusted_pem: Some(self.access.ca_pem.clone()),
            ..RuntimeConfig::new(wanted.cache)
        })?;
        let images = ImageStore::open(self.data.join("images"))?
            .with_files_allowed(wanted.file_images)
            .with_registry_authority(wanted.registry_authority);
        let images = Arc::new(images);
        self.plane.clients.spawn(collect_images(
            images.clone(),
            wanted.image_gc,
            self.plane.stop_clients.clone(),
        ));
        for index in 0..wanted.count {
            let name = node_name(index);
            let client = kube::Client::new(
                server.local(&format!("system:node:{name}"), &["system:nodes"]),
                "default",
            );
            let mut config = coracle_agent::Config::new(
                name.as_str(),
                client,
                runtime.clone(),
                self.fabric.clone(),
                images.clone(),
                self.data.path(),
            );
            config.proxy_client = Some(kube::Client::new(server.local("system:kube-proxy", &[]), "default"));
            config.identity = Identity {
                pod_cidr: pod_network(index).to_string(),
                ..config.identity
            };
            if let Some(address) = self.node_address {
                config.identity.ip = address.ip();
                config.identity.annotations = link_annotation(&node_name(0), address);
            }
            config.host_paths = wanted.host_paths;
            config.static_pods = static_pods.take();
            let agent = Agent::build(config)?;
            nodes.add(name, agent.handle());
            let mut registered = agent.registered();
            self.plane.clients.spawn(agent.run(self.plane.stop_clients.clone()));
            registered
                .wait_for(|done| *done)
                .await
                .context("a node could not register")?;
        }
        Ok(())
    }

    async fn start_simulated(&self, server: &Server, count: u16, delays: Delays) -> anyhow::Result<()> {
        if count == 0 {
            return Ok(());
        }
        // One client is all these nodes, and no node may write to another's pods.
        let client = kube::Client::new(server.local("coracle:simulated-nodes", &["system:masters"]), "default");
        let (registered, mut done) = watch::channel(false);
        let config = coracle_simulated::Config {
            delays,
            ..coracle_simulated::Config::new(client, count)
        };
        self.plane.clients.spawn(coracle_simulated::run(
            config,
            registered,
            self.plane.stop_clients.clone(),
        ));
        done.wait_for(|done| *done)
            .await
            .context("a simulated node could not register")?;
        Ok(())
    }

    /// A client with the rights of the administrator, in this process.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// What a client elsewhere needs to be the administrator.
    #[must_use]
    pub fn access(&self) -> &kubeconfig::Access {
        &self.access
    }

    /// Where the cluster's own kubeconfig lies.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// Where the DNS server listens on the host, UDP and TCP.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// Where the ingress listens on the host, for HTTP and for HTTPS.
    #[must_use]
    pub fn ingress(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ingress
    }

    /// Where nodes on other machines reach this one.
    #[must_use]
    pub fn node_address(&self) -> Option<SocketAddr> {
        self.node_address
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Stops everything in order: nodes and controllers first, then the server, then the store. Objects stay as they
    /// are; pods run again at the next start. Returns the data directory.
    pub async fn shutdown(self) -> DataDir {
        self.plane.stop().await;
        drop(self.api_in_network);
        self.plane.close().await;
        self.data
    }
}

/// Looks at the disk now and then, and removes images that nobody uses when it is too full.
pub(crate) async fn collect_images(images: Arc<ImageStore>, thresholds: Thresholds, stop: CancellationToken) {
    let mut turns = tokio::time::interval(IMAGE_GC_PERIOD);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        let images = images.clone();
        let look = move || images.collect(images.disk(), &thresholds);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(freed)) if freed.images.is_empty() => {}
            Ok(Ok(freed)) => {
                tracing::info!(images = ?freed.images, bytes = freed.bytes, "images that nobody used were removed")
            }
            Ok(Err(error)) => tracing::warn!(%error, "the images' part of the disk cannot be cleared"),
            Err(error) => tracing::warn!(%error, "clearing images' part of the disk was interrupted"),
        }
    }
}

/// The classes that the nodes know. One that is there is left as it is: it may have been changed on purpose.
async fn runtime_classes(client: &kube::Client) -> anyhow::Result<()> {
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    for name in ["coracle", "coracle-fuel"] {
        let class = RuntimeClass {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            handler: name.to_owned(),
            ..RuntimeClass::default()
        };
        match classes.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            made => drop(made.with_context(|| format!("cannot make the RuntimeClass {name}"))?),
        }
    }
    Ok(())
}

/// What the nodes are to be.
struct Wanted {
    count: u16,
    host_paths: bool,
    file_images: bool,
    registry_authority: Option<String>,
    image_gc: Thresholds,
    manifests: Option<PathBuf>,
    static_pod_url: Option<static_pods::url::Source>,
    compiler: Option<PathBuf>,
    cache: PathBuf,
}

/// Both sockets of the ingress.
fn listen_ingress((plain, tls): (SocketAddr, SocketAddr)) -> anyhow::Result<Sockets> {
    let listen = |address: SocketAddr| {
        TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} for the ingress; choose another with --ingress"))
    };
    Ok(Sockets {
        plain: listen(plain)?,
        tls: listen(tls)?,
    })
}

/// Where pods find the API server. The loopback of a pod is its own, so a server on the host's is told by the host's address
/// inside the network.
fn in_network(fabric: &Fabric, listen: SocketAddr) -> SocketAddr {
    let ip = listen.ip();
    match ip.is_loopback() || ip.is_unspecified() {
        true => SocketAddr::new(fabric.config().host_ip, listen.port()),
        false => listen,
    }
}

/// Lets pods connect to the API server, and to nothing else of the host: their bytes reach it without a socket.
fn serve_in_network(server: &Server, fabric: &Fabric, at: SocketAddr) -> anyhow::Result<HostService> {
    let server = server.clone();
    let served = fabric.serve_host(at, move |stream| {
        let server = server.clone();
        async move { server.serve(stream).await }
    });
    served.context("cannot show the API server to pods")
}

/// Both sockets of the DNS server on one port.
pub(crate) fn listen_dns(address: SocketAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    /// A free UDP port may be taken for TCP; a few tries find one that is free for both.
    const TRIES: usize = 16;
    let mut last = None;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind(address)
            .with_context(|| format!("cannot listen on {address} for DNS; choose another with --dns-listen"))?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or_else(String::new, |error| error.to_string());
    anyhow::bail!("cannot listen on {address} for DNS over TCP: {error}; choose another with --dns-listen")
}

/// The socket for nodes on other machines.
fn listen_nodes(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if address.ip().is_unspecified() {
        anyhow::bail!("--node-listen {address}: name the address by which other machines reach this one");
    }
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} for other nodes; choose another with --node-listen"))
}

/// What a node of this process is called, counted from 0.
fn node_name(index: u16) -> String {
    format!("coracle-{}", index + 1)
}

fn fabric_config(nodes: u16, node_address: Option<SocketAddr>) -> FabricConfig {
    let own = (0..nodes).map(pod_network);
    // With others: whatever they have.
    let all = node_address.map(|_| Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8));
    FabricConfig {
        pod_cidrs: own.chain(all).collect(),
        node_ips: node_address
            .iter()
            .map(SocketAddr::ip)
            .filter(|ip| !ip.is_loopback())
            .collect(),
        ..FabricConfig::default()
    }
}

/// The pod network of a node, counted from 0.
fn pod_network(index: u16) -> Cidr {
    let octet = FIRST_POD_NETWORK.saturating_sub(u8::try_from(index).unwrap_or(u8::MAX));
    Cidr::new(IpAddr::V4(Ipv4Addr::new(10, octet, 0, 0)), 16)
}
