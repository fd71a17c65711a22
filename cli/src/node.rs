//! `coracle node`: the pods of this machine, for a cluster whose API server is elsewhere.
//!
//! It joins once, keeps what it needs in its data directory, and comes back by itself after that. One port serves the API
//! server (logs, exec, ports of pods) and other nodes (pod traffic).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use coracle_agent::{Agent, AgentHandle, Caller, Identity, LINK_ANNOTATION};
use coracle_images::{ImageStore, Thresholds};
use coracle_link::{ApiHandler, Endpoint, Keys, Link, Timing};
use coracle_net::{Cidr, Dns, ExposedPorts, Fabric, FabricConfig, HostService};
use coracle_runtime::{Runtime, RuntimeConfig};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::PostParams, runtime::wait::await_condition};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    args::{NODE_PORT, NodeArgs, NodeCommand, NodeRun},
    cluster::{collect_images, listen_dns},
    data_dir::DataDir,
    end, image,
    membership::{self, Membership},
    renewal::{Renewable, Renewal},
    say::say,
    up::raise_open_files,
};

/// How long the API server may take to take a connection at the start. Later it is waited for.
const CONNECT: Duration = Duration::from_secs(10);
/// After how long without a pod network the user is told what is missing.
const NETWORK: Duration = Duration::from_secs(5);

/// Does what the command says.
///
/// # Errors
/// When the machine cannot join, an address is taken, or the data directory cannot be used.
pub async fn run(args: NodeArgs) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    match args.command {
        Some(NodeCommand::Reset(data)) => {
            Membership::forget(&DataDir::of(&data, false)?)?;
            say("this machine is no node any more; `kubectl delete node NAME` removes what the cluster knows of it");
            Ok(())
        }
        None => serve(args.run).await,
    }
}

async fn serve(args: NodeRun) -> anyhow::Result<()> {
    let started = Instant::now();
    raise_open_files();
    let data = DataDir::of(&args.data, false)?;
    let membership = membership::enter(&data, &args).await?;
    let running = Running::start(&data, membership, &args).await?;
    say(format_args!("ready in {} ms", started.elapsed().as_millis()));
    running.describe(&data);
    if args.until_input_ends {
        tokio::select! {
            ended = input_ended() => ended?,
            asked = end::asked() => asked?,
        }
    } else {
        end::asked().await?;
    }
    end::stop(running.stop()).await
}

/// Waits for the end of the standard input.
async fn input_ended() -> std::io::Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own, which nobody waits for at the end: reading cannot be given up.
    std::thread::Builder::new()
        .name("coracle-input".into())
        .spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = ended.send(());
        })?;
    let _ = end.await;
    Ok(())
}

/// A node at work.
struct Running {
    name: String,
    server: String,
    address: SocketAddr,
    network: String,
    dns: SocketAddr,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    async fn start(data: &DataDir, membership: Membership, args: &NodeRun) -> anyhow::Result<Self> {
        let (node, access) = (membership.node.clone(), membership.access.clone());
        let current = Renewable::new(&access).await?;
        let client = current.client();
        let listener = listen(&access.server, args.listen).await?;
        let address = listener.local_addr()?;
        let network = register(&client, &node).await?;
        let serving = membership.serving(&client).await?;
        let keys = Keys::new(&membership.credentials(serving.clone()))?;
        let fabric = Fabric::new(fabric_config(&network, address.ip())?);
        let link = Link::new(&node, keys.clone(), fabric.clone(), Timing::default());
        fabric.set_uplink(Arc::new(link.clone()));

        let running = Self {
            name: node.clone(),
            server: access.server.clone(),
            address,
            network: network.clone(),
            dns: SocketAddr::new(args.dns_listen.ip(), 0),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let agent = Agent::build(agent_config(
            data,
            &running,
            client.clone(),
            &fabric,
            &access.ca_pem,
            args,
        )?)?;
        let mut registered = agent.registered();
        running.spawn("the node's port", {
            let endpoint = Endpoint {
                listener,
                keys: keys.clone(),
                link,
                api: Some(api(agent.handle(), running.shutdown.clone())),
            };
            endpoint.run(running.shutdown.clone())
        });
        let own = HashSet::from([node]);
        let stop = || running.shutdown.clone();
        running.tasks.spawn(coracle_agent::follow_elsewhere(
            client.clone(),
            fabric.clone(),
            own,
            stop(),
        ));
        running
            .tasks
            .spawn(show_api(fabric.clone(), access.server.clone(), stop()));
        let renewal = Renewal::new(membership, serving, current, keys);
        running.tasks.spawn(renewal.run(stop()));
        let mut ports = ExposedPorts::new(fabric.clone(), address.ip());
        if args.no_node_ports {
            ports = ports.for_pods_only();
        }
        let tell = coracle_agent::tell_host_ports(client, running.name.clone(), ports.state(), stop());
        running.tasks.spawn(tell);
        running.tasks.spawn(ports.run(stop()));
        let (udp, tcp) = listen_dns(args.dns_listen)?;
        let dns = udp.local_addr()?;
        running.spawn("the DNS server", Dns::bind(fabric, vec![udp], vec![tcp]).run(stop()));
        running.tasks.spawn(agent.run(stop()));
        registered
            .wait_for(|done| *done)
            .await
            .context("the node could not register")?;
        Ok(Self { dns, ..running })
    }

    fn spawn<E>(&self, what: &'static str, work: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: std::fmt::Display + Send + 'static,
    {
        self.tasks.spawn(async move {
            if let Err(error) = work.await {
                tracing::error!("{what} ended: {error}");
            }
        });
    }

    fn describe(&self, data: &DataDir) {
        say(format_args!("node        {}", self.name));
        say(format_args!("server      {}", self.server));
        say(format_args!("listening   {}", self.address));
        say(format_args!("pods        {}", self.network));
        say(format_args!("DNS         {} (UDP and TCP)", self.dns));
        say(format_args!("data        {}", data.path().display()));
        say(format_args!(
            "\nCtrl-C stops the node and its pods; `coracle node` brings it back without a token."
        ));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The socket at which others reach this node: where the user says, or the address from which this machine reaches the server.
async fn listen(server: &str, wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let address = match wanted {
        Some(address) if address.ip().is_unspecified() => SocketAddr::new(own_address(server).await?, address.port()),
        Some(address) => address,
        None => SocketAddr::new(own_address(server).await?, NODE_PORT),
    };
    TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}; choose another with --listen, such as --listen {}:0",
            address.ip()
        )
    })
}

async fn own_address(server: &str) -> anyhow::Result<IpAddr> {
    let stream = tokio::time::timeout(CONNECT, dial(server)).await;
    let stream = stream.map_err(anyhow::Error::from).and_then(|dialled| Ok(dialled?));
    let stream = stream.with_context(|| {
        format!("{server} cannot be reached, so that this machine's own address is unknown: is the cluster running? --listen names one")
    })?;
    Ok(stream.local_addr()?.ip())
}

/// Connects to the API server.
async fn dial(server: &str) -> std::io::Result<tokio::net::TcpStream> {
    let url: http::Uri = server.parse().map_err(std::io::Error::other)?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    tokio::net::TcpStream::connect((host, url.port_u16().unwrap_or(443))).await
}

/// Makes the node known, so that it gets a pod network, and waits for that: the network as the object says it.
async fn register(client: &Client, name: &str) -> anyhow::Result<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let object: Node = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    match nodes.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => bail!(
            "the cluster does not let this machine be the node {name:?}: {}; `coracle node reset` and joining again may help",
            status.message
        ),
        Err(error) => {
            let why = coracle_controllers::leader::causes(&error);
            bail!("the cluster cannot be reached, or refuses the node: {why}");
        }
        Ok(_) => {}
    }
    let network = |node: Option<&Node>| node.and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
    let given = await_condition(nodes, name, move |node: Option<&Node>| network(node).is_some());
    tokio::pin!(given);
    let given = match tokio::time::timeout(NETWORK, &mut given).await {
        Ok(given) => given,
        Err(_) => {
            say("waiting     for the cluster's controllers to give this node a pod network");
            given.await
        }
    };
    let node = given.context("cannot see which pod network this node gets")?;
    network(node.as_ref()).context("the node was deleted")
}

fn fabric_config(network: &str, ip: IpAddr) -> anyhow::Result<FabricConfig> {
    let network: Cidr = network.parse()?;
    Ok(FabricConfig {
        // Whatever another node has: an address there that nobody has is a host that cannot be reached.
        pod_cidrs: vec![network, Cidr::new(IpAddr::from([10, 0, 0, 0]), 8)],
        host_ip: network.host_ip(),
        node_ips: vec![ip],
        ..FabricConfig::default()
    })
}

fn agent_config(
    data: &DataDir,
    running: &Running,
    client: Client,
    fabric: &Fabric,
    authority: &str,
    args: &NodeRun,
) -> anyhow::Result<coracle_agent::Config> {
    let runtime = Runtime::new(RuntimeConfig {
        compiler: std::env::current_exe().ok(),
        trusted_pem: Some(authority.to_owned()),
        ..RuntimeConfig::new(args.cache_dir.clone().unwrap_or_else(|| data.join("cache")))
    })?;
    let images = ImageStore::open(args.images_dir.clone().unwrap_or_else(|| data.join("images")))?
        .with_files_allowed(args.allow_file_images)
        .with_registry_authority(image::registry_authority(&args.registry)?);
    let images = Arc::new(images);
    running.tasks.spawn(collect_images(
        images.clone(),
        Thresholds::default(),
        running.shutdown.clone(),
    ));
    let mut config = coracle_agent::Config::new(
        running.name.as_str(),
        client,
        runtime,
        fabric.clone(),
        images,
        data.path(),
    );
    config.identity = Identity {
        ip: running.address.ip(),
        api_port: Some(running.address.port()),
        annotations: link_annotation(&running.name, running.address),
        labels: labels(&args.node_labels)?,
        pod_cidr: running.network.clone(),
        ..config.identity
    };
    config.host_paths = args.allow_host_paths;
    Ok(config)
}

/// By what other nodes find this one.
pub(crate) fn link_annotation(name: &str, address: SocketAddr) -> BTreeMap<String, String> {
    BTreeMap::from([(LINK_ANNOTATION.to_owned(), format!("{name}@{address}"))])
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let one = |text: &String| {
        let pair = text.split_once('=');
        let (key, value) = pair.with_context(|| format!("--node-labels {text}: a label looks like disk=fast"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    given.iter().map(one).collect()
}

/// Serves the API of a node on connections that have been secured.
pub(crate) fn api(handle: AgentHandle, stop: CancellationToken) -> ApiHandler {
    Arc::new(move |peer, stream| {
        let caller = peer.map(|peer| Caller {
            user: peer.user,
            groups: peer.groups,
        });
        coracle_agent::serve_api(handle.clone(), caller, stream, stop.clone()).boxed()
    })
}

/// Lets pods connect to the API server, and to nothing else outside: whatever the cluster says are the addresses of the
/// service `kubernetes` leads to the server that this node has joined.
async fn show_api(fabric: Fabric, server: String, stop: CancellationToken) {
    let mut changes = fabric.changes();
    let mut shown: HashMap<SocketAddr, HostService> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let wanted = api_addresses(&fabric);
        shown.retain(|at, _| wanted.contains(at));
        for at in wanted {
            if shown.contains_key(&at) {
                continue;
            }
            let (server, stop) = (server.clone(), stop.clone());
            let served = fabric.serve_host(at, move |mut stream| {
                let (server, stop) = (server.clone(), stop.clone());
                async move {
                    let copy = async {
                        match dial(&server).await {
                            // Neither failure concerns anybody but the two ends, which see it.
                            Ok(mut api) => drop(tokio::io::copy_bidirectional(&mut stream, &mut api).await),
                            Err(error) => tracing::debug!(%error, "a pod cannot reach the API server"),
                        }
                    };
                    stop.run_until_cancelled(copy).await;
                }
            });
            match served {
                Ok(service) => drop(shown.insert(at, service)),
                Err(error) => tracing::warn!(%at, %error, "pods cannot be shown the API server"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

fn api_addresses(fabric: &Fabric) -> HashSet<SocketAddr> {
    let snapshot = fabric.snapshot();
    let mut services = snapshot.services.iter();
    let service = services.find(|service| service.namespace == "default" && service.name == "kubernetes");
    let endpoints = service.map(|service| service.endpoints.as_slice()).unwrap_or_default();
    let of = |endpoint: &coracle_net::Endpoint| {
        let address = endpoint.address;
        endpoint
            .ports
            .iter()
            .map(move |port| SocketAddr::new(address, port.port))
            .collect::<Vec<_>>()
    };
    endpoints.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_nonsense_is_refused() {
        let read = labels(&["disk=fast".to_owned(), "empty=".to_owned()]).unwrap();
        assert_eq!(read.get("disk").map(String::as_str), Some("fast"));
        assert_eq!(read.get("empty").map(String::as_str), Some(""));
        let error = labels(&["disk".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("disk=fast"), "{error}");
    }

    #[test]
    fn the_node_speaks_to_pods_by_the_first_address_of_its_network() {
        let config = fabric_config("10.0.3.0/24", IpAddr::from([192, 168, 7, 1])).unwrap();
        assert_eq!(config.host_ip, IpAddr::from([10, 0, 3, 1]));
        assert!(fabric_config("nonsense", IpAddr::from([127, 0, 0, 1])).is_err());
    }
}
