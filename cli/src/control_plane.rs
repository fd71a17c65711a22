//! The control plane of one process: the API server over its store and, where they are wanted, controllers and scheduler
//! beside it, which reach the server without a socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use coracle_controllers::{
    node_ipam::Network,
    world::{Facts, Informers},
};
use coracle_link::Credentials;
use coracle_server::{AuditLog, ClusterDialer, Everywhere, Kubelets, Pki, ReadyCheck, Server};
use coracle_store::{SledEngine, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{data_dir::DataDir, dial::Nodes, kubeconfig::Access};

/// As whom the controllers act.
pub const CONTROLLERS_USER: &str = "system:kube-controller-manager";
/// As whom the scheduler acts.
pub const SCHEDULER_USER: &str = "system:kube-scheduler";

/// From where nodes that join without a pod network get one: clear of the services' addresses and of the networks of nodes
/// in the same process.
pub(crate) const JOINING_NODES: Network = Network {
    base: Ipv4Addr::new(10, 0, 0, 0),
    prefix: 10,
    node_prefix: 24,
};

/// How the server reaches the rest of the cluster, and is reached from there.
pub struct Surroundings {
    /// The nodes of this process; others are reached where they say that they listen.
    pub nodes: Nodes,
    /// How it reaches the pod network.
    pub cluster: Arc<dyn ClusterDialer>,
    /// Further addresses by which clients know it.
    pub names: Vec<String>,
    /// Where pods find it.
    pub advertise: Option<SocketAddr>,
    /// The file that tells of every request, if there is one.
    pub audit_log: Option<PathBuf>,
    /// How long the certificates are good that it signs for others, at most.
    pub signing_seconds: u64,
}

/// A server with its store, and what runs beside it.
pub struct ControlPlane {
    /// The API server.
    pub server: Server,
    pki: Pki,
    store: Store,
    address: SocketAddr,
    /// Stops what writes through the server.
    pub stop_clients: CancellationToken,
    /// What writes through the server.
    pub clients: TaskTracker,
    /// Stops the server, last.
    stop_server: CancellationToken,
    servers: TaskTracker,
}

impl ControlPlane {
    /// Opens the store and builds the server, which is to listen on `address`; nothing is served yet.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub async fn build(data: &DataDir, address: SocketAddr, surroundings: Surroundings) -> anyhow::Result<Self> {
        let store = open_store(data.join("store")).await?;
        let own = address.ip().to_string();
        let names: Vec<&str> = [&own]
            .into_iter()
            .chain(&surroundings.names)
            .map(String::as_str)
            .collect();
        let pki = Pki::load_or_create(&data.join("pki"), &names)?;
        let mut config = coracle_server::Config::new(store.clone(), pki.clone());
        let here = surroundings.nodes;
        config.nodes = Arc::new(Everywhere {
            here: Arc::new(here.clone()),
            is_here: Box::new(move |node| here.has(node)),
            elsewhere: Kubelets::new(store.clone(), &pki)?,
        });
        config.cluster = surroundings.cluster;
        config.advertise = surroundings.advertise.map(|at| (at.ip(), at.port()));
        config.signing_seconds = surroundings.signing_seconds;
        if let Some(path) = &surroundings.audit_log {
            config.audit = Some(AuditLog::open(path).with_context(|| format!("cannot write {}", path.display()))?);
        }
        let server = Server::build(config).await.context("cannot start the API server")?;
        Ok(Self {
            server,
            pki,
            store,
            address,
            stop_clients: CancellationToken::new(),
            clients: TaskTracker::new(),
            stop_server: CancellationToken::new(),
            servers: TaskTracker::new(),
        })
    }

    /// Serves the API.
    pub fn serve(&self, listener: TcpListener) {
        let (server, stop) = (self.server.clone(), self.stop_server.clone());
        self.servers.spawn(async move {
            if let Err(error) = server.run(listener, stop).await {
                tracing::error!(%error, "the API server ended");
            }
        });
    }

    /// Starts the controllers; what they need to know of this server they are told. Returns their informers, for others in the
    /// process.
    pub fn start_controllers(&self, facts: Facts) -> Arc<Informers> {
        let mut config = coracle_controllers::Config::new(self.client(CONTROLLERS_USER));
        config.facts = Facts {
            root_ca_pem: Some(self.pki.ca_pem().to_owned()),
            node_networks: Some(JOINING_NODES),
            ..facts
        };
        let informers = config.informers.clone();
        let controllers = coracle_controllers::run(config, self.stop_clients.clone());
        self.clients
            .spawn(told(self.server.component("controller-manager"), controllers));
        informers
    }

    /// Starts the scheduler, on somebody else's informers if there are any.
    pub fn start_scheduler(&self, informers: Option<Arc<Informers>>) {
        let mut config = coracle_scheduler::Config::new(self.client(SCHEDULER_USER));
        config.informers = informers;
        let scheduler = coracle_scheduler::run(config, self.stop_clients.clone());
        self.clients.spawn(told(self.server.component("scheduler"), scheduler));
    }

    fn client(&self, user: &str) -> kube::Client {
        kube::Client::new(self.server.local(user, &[]), "default")
    }

    /// What a client elsewhere needs to be the administrator.
    #[must_use]
    pub fn access(&self) -> Access {
        let (cert_pem, key_pem) = self.pki.admin();
        self.access_with(cert_pem.to_owned(), key_pem.to_owned())
    }

    /// What a client elsewhere needs to be that user.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn access_of(&self, user: &str) -> anyhow::Result<Access> {
        let (cert_pem, key_pem) = self.pki.issue_client(user, &[])?;
        Ok(self.access_with(cert_pem, key_pem))
    }

    /// What a node of this process proves itself with to those of others.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn credentials_of(&self, node: &str) -> anyhow::Result<Credentials> {
        let [client, serving] = self.pki.issue_node(node)?;
        Ok(Credentials {
            authority: self.pki.ca_pem().to_owned(),
            client,
            serving,
        })
    }

    fn access_with(&self, cert_pem: String, key_pem: String) -> Access {
        // A listener on all addresses is reached through the loopback.
        let host = if self.address.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.address.ip()
        };
        Access {
            server: format!("https://{}", SocketAddr::new(host, self.address.port())),
            ca_pem: self.pki.ca_pem().to_owned(),
            cert_pem,
            key_pem,
        }
    }

    /// Stops what writes through the server, and then the server.
    pub async fn stop(&self) {
        self.stop_clients.cancel();
        self.clients.close();
        self.clients.wait().await;
        self.stop_server.cancel();
        self.servers.close();
        self.servers.wait().await;
    }

    /// Closes the store, once nothing uses it any more.
    pub async fn close(self) {
        self.store.close().await;
    }
}

/// Runs a part of the control plane and says while it does.
async fn told<T>(check: ReadyCheck, part: impl Future<Output = T>) -> T {
    check.set(true);
    let ended = part.await;
    check.set(false);
    ended
}

/// The store's engine does file I/O when it opens, so it opens off the async threads.
async fn open_store(path: PathBuf) -> anyhow::Result<Store> {
    let opened = tokio::task::spawn_blocking(move || {
        let engine = SledEngine::open(&path)?;
        Store::open(
            Arc::new(engine),
            coracle_server::header_of,
            coracle_store::Config::default(),
        )
    });
    Ok(opened.await.context("opening the store was interrupted")??)
}

/// Binds the API server's address.
///
/// # Errors
/// When it is taken.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another with --listen, such as --listen 127.0.0.1:0")
    })
}
