//! Over the network: TLS, certificates as identities, a stock client, and the end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::world::{World, pod, world};

pub struct Running {
    pub world: World,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub async fn running() -> Running {
    running_in(world().await).await
}

/// The same for a world of its own.
pub async fn running_in(world: World) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (server, stop) = (world.server.clone(), shutdown.clone());
    let task = tokio::spawn(async move { server.run(listener, stop).await });
    Running {
        world,
        address,
        shutdown,
        task,
    }
}

impl Running {
    /// A connection of the administrator, as bytes.
    pub async fn connection(&self) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let (certificate, key) = self.world.pki.admin();
        self.connection_with(certificate, key).await
    }

    /// A connection of whom that certificate names.
    pub async fn connection_with(
        &self,
        certificate: &str,
        key: &str,
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        use rustls_pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let pem = |text: &str| rustls_pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        roots.add(pem(self.world.pki.ca_pem())).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![pem(certificate)], key)
            .unwrap();
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = rustls_pki_types::ServerName::from(self.address.ip());
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// What comes back for these bytes until the server closes.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connection().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses may close before it has read everything.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A WebSocket with one subprotocol.
    pub async fn web_socket(
        &self,
        path: &str,
        protocol: &str,
    ) -> tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let request = http::Request::builder()
            .uri(format!("wss://{}{path}", self.address))
            .header("host", self.address.to_string())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
            .body(())
            .unwrap();
        let stream = self.connection().await;
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        socket
    }

    /// A stock client with a kubeconfig.
    pub async fn client(&self) -> Client {
        let document = self
            .world
            .pki
            .admin_kubeconfig("coracle", &format!("https://{}", self.address));
        let kubeconfig: Kubeconfig = serde_json::from_value(document).unwrap();
        Client::try_from(
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .unwrap(),
        )
        .unwrap()
    }
}

#[tokio::test]
async fn a_stock_client_works_over_tls() {
    let running = running().await;
    let client = running.client().await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let map = ConfigMap {
        metadata: kube::core::ObjectMeta {
            name: Some("a".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    let mut events = Box::pin(
        maps.watch(&WatchParams::default(), &created.metadata.resource_version.unwrap())
            .await
            .unwrap(),
    );
    let patch = Patch::Merge(json!({"data": {"x": "y"}}));
    maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    let Some(WatchEvent::Modified(seen)) = events.try_next().await.unwrap() else {
        panic!("no event")
    };
    assert_eq!(seen.data.unwrap()["x"], "y");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.list(&ListParams::default()).await.unwrap().items.is_empty());
    // A watch is open: the server ends it and is done.
    running.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), running.task)
        .await
        .expect("drained")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_client_in_this_process_is_the_same_client() {
    let world = world().await;
    let client = Client::new(world.server.local("system:kube-scheduler", &[]), "default");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let Err(kube::Error::Api(status)) = maps.list(&ListParams::default()).await else {
        panic!("allowed")
    };
    assert_eq!(status.code, 403);
}

#[tokio::test]
async fn without_a_certificate_little_is_shown() {
    let running = running().await;
    let mut document = running
        .world
        .pki
        .admin_kubeconfig("coracle", &format!("https://{}", running.address));
    document["users"][0]["user"] = json!({});
    let kubeconfig: Kubeconfig = serde_json::from_value(document).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    assert!(client.apiserver_version().await.is_ok());
    let Err(kube::Error::Api(status)) = client.list_core_api_resources("v1").await else {
        panic!("allowed")
    };
    assert_eq!(status.code, 403);
    assert!(status.message.contains("system:anonymous"), "{}", status.message);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let running = running().await;
    let other = coracle_server::Pki::ephemeral(&[]).unwrap();
    let mut document = other.admin_kubeconfig("coracle", &format!("https://{}", running.address));
    let own = running.world.pki.admin_kubeconfig("coracle", "");
    document["clusters"][0]["cluster"]["certificate-authority-data"] =
        own["clusters"][0]["cluster"]["certificate-authority-data"].clone();
    let kubeconfig: Kubeconfig = serde_json::from_value(document).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    assert!(Client::try_from(config).unwrap().apiserver_version().await.is_err());
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let running = running().await;
    let pods: Api<Pod> = Api::default_namespaced(running.client().await);
    let mut object = pod("a");
    object["spec"]["nodeName"] = json!("n1");
    pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let Err(kube::Error::Api(status)) = pods.logs("a", &LogParams::default()).await else {
        panic!("a log")
    };
    assert_eq!(status.code, 400);
    assert!(
        status.message.contains("is waiting to start: ContainerCreating"),
        "{}",
        status.message
    );
    let state = json!({"status": {"containerStatuses": [
        {"name": "c", "image": "hello", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}
    ]}});
    pods.patch_status("a", &PatchParams::default(), &Patch::Merge(state))
        .await
        .unwrap();
    let options = LogParams {
        tail_lines: Some(3),
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("a", &options).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("n1 a c Some(3)"));
}
