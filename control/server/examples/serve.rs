//! An API server alone, to point kubectl at: no nodes, no controllers. Port-forward to any pod that has a node name
//! reaches the same port of this machine.
//!
//! `cargo run -p coracle-server --example serve -- [DIR [PORT]]` keeps its state in DIR (in memory without one), writes
//! DIR/kubeconfig (or ./kubeconfig), and serves until Ctrl-C.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::status::ApiError;
use coracle_server::{
    Config, ContainerTarget, Duplex, LogOptions, LogStream, NodeDialer, Pki, PodTarget, ProcessStreams, Server,
    Unconnected, header_of,
};
use coracle_store::{Engine, MemoryEngine, SledEngine, Store};
use tokio_util::sync::CancellationToken;

/// Every pod is this machine.
struct ThisMachine;

#[async_trait]
impl NodeDialer for ThisMachine {
    async fn logs(&self, node: &str, target: &ContainerTarget, options: &LogOptions) -> Result<LogStream, ApiError> {
        NodeDialer::logs(&Unconnected, node, target, options).await
    }

    async fn exec(
        &self,
        node: &str,
        target: &ContainerTarget,
        command: &[String],
        streams: ProcessStreams,
    ) -> Result<i32, ApiError> {
        NodeDialer::exec(&Unconnected, node, target, command, streams).await
    }

    async fn attach(&self, node: &str, target: &ContainerTarget, streams: ProcessStreams) -> Result<i32, ApiError> {
        NodeDialer::attach(&Unconnected, node, target, streams).await
    }

    async fn connect(&self, _: &str, _: &PodTarget, port: u16) -> Result<Box<dyn Duplex>, ApiError> {
        let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        Ok(Box::new(
            stream.map_err(|error| ApiError::service_unavailable(error.to_string()))?,
        ))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map(PathBuf::from);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let (pki, engine): (Pki, Arc<dyn Engine>) = match &dir {
        Some(dir) => (
            Pki::load_or_create(&dir.join("pki"), &[])?,
            Arc::new(SledEngine::open(dir.join("store"))?),
        ),
        None => (Pki::ephemeral(&[])?, Arc::new(MemoryEngine::new())),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    let kubeconfig = dir.unwrap_or_default().join("kubeconfig");
    let document = pki.admin_kubeconfig("coracle", &format!("https://{address}"));
    std::fs::write(&kubeconfig, serde_json::to_vec_pretty(&document)?)?;
    let store = Store::open(engine, header_of, coracle_store::Config::default())?;
    let mut config = Config::new(store, pki);
    config.advertise = Some((address.ip(), address.port()));
    config.nodes = Arc::new(ThisMachine);
    let server = Server::build(config).await?;
    println!("https://{address}, kubeconfig in {}", kubeconfig.display());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    server.run(listener, shutdown).await?;
    Ok(())
}
