//! The ingress controller: HTTP of the host, led to services by the rules of Ingress objects.
//!
//! Rules and certificates are replaced as a whole when an object changes; connections go on, and each request is led by the
//! rules of its moment. The way to a service is the pod network's, so that its endpoints, their drain and their turns are
//! the same as for everybody.

mod certificates;
mod headers;
mod listen;
mod mirror;
mod patience;
mod pool;
mod proxy;
mod routes;
mod tee;
mod world;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coracle_net::Fabric;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::crypto::CryptoProvider;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::gateway;
use crate::report::Report;
pub(crate) use certificates::certified;
use certificates::{CertificateError, Certificates, Resolver};
pub(crate) use headers::{Came, head};
pub(crate) use listen::serve;
use mirror::Mirrors;
use pool::Pool;
use proxy::Proxy;
use routes::Table;
pub(crate) use routes::{Port, Target, bare};
use world::World;

/// What an IngressClass says whose ingresses are served here.
pub const CONTROLLER: &str = "coracle.dev/ingress";

/// The class that is made at the start and is the default.
const CLASS: &str = "coracle";

/// Pause before what could not be written to the API is written again.
const RETRY: Duration = Duration::from_secs(5);

/// Why there is no ingress.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// A host socket could not be used.
    #[error("ingress socket: {0}")]
    Socket(#[from] io::Error),
    /// The certificate for names without one could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS could not be set up.
    #[error("ingress TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The sockets of the ingress, already bound.
#[derive(Debug)]
pub struct Sockets {
    /// For HTTP.
    pub plain: std::net::TcpListener,
    /// For HTTPS.
    pub tls: std::net::TcpListener,
}

/// What the ingress and the gateways share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) fabric: Fabric,
    pub(crate) pool: Arc<Pool>,
    pub(crate) mirrors: Arc<Mirrors>,
    /// The rules of gateways.
    pub(crate) gateways: Arc<ArcSwap<gateway::Table>>,
    /// The host's address.
    pub(crate) ip: IpAddr,
    /// The ports of the ingress, for HTTP and HTTPS.
    pub(crate) ports: [u16; 2],
}

impl Shared {
    /// What serves requests that come in at a socket; an ingress' own has the rules of ingresses too.
    pub(crate) fn proxy(&self, table: Option<Arc<ArcSwap<Table>>>, stop: CancellationToken) -> Proxy {
        Proxy {
            fabric: self.fabric.clone(),
            pool: self.pool.clone(),
            mirrors: self.mirrors.clone(),
            gateways: self.gateways.clone(),
            table,
            stop,
        }
    }
}

/// TLS at a port, with the certificates of gateways and, where it is the ingress' own, of ingresses.
pub(crate) fn acceptor(
    port: u16,
    shared: &Shared,
    ingresses: Option<Arc<ArcSwap<Certificates>>>,
    provider: &Arc<CryptoProvider>,
) -> Result<TlsAcceptor, IngressError> {
    let resolver = Resolver::new(port, shared.gateways.clone(), ingresses, provider)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The ingress, before it runs.
pub struct Controller {
    client: Client,
    report: Report,
    shared: Shared,
    plain: TcpListener,
    tls: TcpListener,
    acceptor: TlsAcceptor,
    provider: Arc<CryptoProvider>,
    table: Arc<ArcSwap<Table>>,
    certificates: Arc<ArcSwap<Certificates>>,
}

impl Controller {
    /// An ingress at these sockets, with gateways at the same address; to be called in a tokio runtime.
    ///
    /// # Errors
    /// See [`IngressError`].
    pub fn new(client: Client, fabric: Fabric, sockets: Sockets) -> Result<Self, IngressError> {
        let listener = |socket: std::net::TcpListener| {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let (plain, tls) = (listener(sockets.plain)?, listener(sockets.tls)?);
        let shared = Shared {
            pool: Pool::new(fabric.clone()),
            mirrors: Arc::default(),
            fabric,
            gateways: Arc::default(),
            ip: plain.local_addr()?.ip(),
            ports: [plain.local_addr()?.port(), tls.local_addr()?.port()],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates: Arc<ArcSwap<Certificates>> = Arc::default();
        let [_, port] = shared.ports;
        Ok(Self {
            report: Report::new(client.clone()),
            client,
            acceptor: acceptor(port, &shared, Some(certificates.clone()), &provider)?,
            shared,
            plain,
            tls,
            provider,
            table: Arc::default(),
            certificates,
        })
    }

    /// Serves until `stop`, then drains.
    ///
    /// # Errors
    /// When a socket has no address.
    pub async fn run(self, stop: CancellationToken) -> Result<(), IngressError> {
        let at = [self.plain.local_addr()?, self.tls.local_addr()?];
        let proxy = self.shared.proxy(Some(self.table.clone()), stop.clone());
        let pool = self.shared.pool.clone();
        let gateways = gateway::run(self.client.clone(), self.shared, self.provider.clone(), stop.clone());
        let follow = Follow {
            client: self.client,
            report: self.report,
            provider: self.provider,
            table: self.table,
            certificates: self.certificates,
            address: address(at),
        };
        let followed = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow.run() => {}
                () = pool.expire() => {}
            }
        };
        tokio::join!(
            listen::serve(self.plain, None, proxy.clone(), stop.clone()),
            listen::serve(self.tls, Some(self.acceptor), proxy, stop.clone()),
            gateways,
            followed,
        );
        Ok(())
    }
}

/// What a status shows: where clients find the ingress.
fn address([plain, tls]: [SocketAddr; 2]) -> Value {
    let ip = match plain.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    let port = |at: SocketAddr| json!({"port": at.port(), "protocol": "TCP"});
    json!([{"ip": ip, "ports": [port(plain), port(tls)]}])
}

/// Follows the objects: what rules they make, and what the API says of them.
struct Follow {
    client: Client,
    report: Report,
    provider: Arc<CryptoProvider>,
    table: Arc<ArcSwap<Table>>,
    certificates: Arc<ArcSwap<Certificates>>,
    address: Value,
}

impl Follow {
    async fn run(self) {
        let mut world = World::new(&self.client);
        let mut told: Vec<(String, String)> = Vec::new();
        let mut whole = self.make_class().await;
        loop {
            tokio::select! {
                changed = world.changed() => if !changed { return },
                () = tokio::time::sleep(RETRY), if !whole => whole = self.make_class().await,
            }
            let ours = world.ingresses(CONTROLLER);
            self.table.store(Arc::new(Table::new(ours.iter().map(Arc::as_ref))));
            let mut certificates = Certificates::default();
            let mut wrong = Vec::new();
            for ingress in &ours {
                let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
                let secret = |name: &str| world.secret(namespace, name);
                for error in certificates.add(ingress, secret, &self.provider) {
                    wrong.push((ingress.clone(), error.to_string()));
                }
            }
            self.certificates.store(Arc::new(certificates));
            for ingress in &ours {
                whole &= self.show(ingress).await;
            }
            self.tell(wrong, &mut told).await;
        }
    }

    /// Makes the class of this controller, unless there is one of that name; false where that has to be tried again.
    async fn make_class(&self) -> bool {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": CLASS, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": CONTROLLER},
        });
        let Ok(class) = serde_json::from_value::<IngressClass>(class) else {
            return true;
        };
        let api: Api<IngressClass> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &class).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 409 => true,
            Err(error) => {
                tracing::warn!(%error, "the class of ingresses is not made");
                false
            }
        }
    }

    /// Writes where an ingress is found, unless its status says so; false where that has to be tried again.
    async fn show(&self, ingress: &Ingress) -> bool {
        let shown = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let shown = shown.and_then(|balancer| serde_json::to_value(&balancer.ingress).ok());
        if shown.as_ref() == Some(&self.address) {
            return true;
        }
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let name = ingress.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Ingress> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({"status": {"loadBalancer": {"ingress": self.address}}});
        match api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => true,
            // It is gone, and the next event says so.
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                tracing::warn!(namespace, name, %error, "an ingress' status is not written");
                false
            }
        }
    }

    /// Tells once of each certificate that is wrong.
    async fn tell(&self, wrong: Vec<(Arc<Ingress>, String)>, told: &mut Vec<(String, String)>) {
        let mut now = Vec::new();
        for (ingress, message) in wrong {
            let uid = ingress.metadata.uid.clone().unwrap_or_default();
            let entry = (uid, message.clone());
            if !told.contains(&entry) {
                let about = kube::Resource::object_ref(ingress.as_ref(), &());
                self.report.tell(&about, false, "CertificateNotUsed", message).await;
            }
            now.push(entry);
        }
        *told = now;
    }
}
