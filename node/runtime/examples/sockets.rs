//! Two guests that talk over a service of the pod network, beside the same two over the loopback of the host, in one run and by
//! turns: `cargo run --release -p coracle-runtime --example sockets`, and with `bytes` or `requests` after it only these.
//!
//! On the pod network they run as the node runs them, metered and limited, and the connection goes through a service address.
//! On the host they run as the `wasmtime` command would run them: the same engine settings but without metering, the WASI
//! library's own sockets, two threads. Medians of the rounds, and of each round's ratio.

// An example that cannot go on ends with a message.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use coracle_net::{
    Endpoint, EndpointPort, Fabric, FabricConfig, PodIdentity, PodNet, Protocol, Service, ServicePort, Snapshot,
    Topology,
};
use coracle_runtime::{Container, ContainerSpec, LogSink, Module, Runtime, RuntimeConfig};
use http::{Request, Response};
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::cli::AsyncStdoutStream;
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

const ROUNDS: usize = 5;
const BULK_MIB: usize = 4096;
const REQUESTS: usize = 100_000;
/// Where the service is, and where its pod listens.
const SERVICE: &str = "10.96.0.80:80";
const POD_PORT: u16 = 8080;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let wasm = coracle_fixtures::component("probe").context("no such guest")?;
    let cache = tempfile::tempdir()?;
    let pods = Pods::new(cache.path().to_owned(), wasm).await?;
    let host = Host::new(wasm)?;
    let wanted = std::env::args().nth(1);
    let part = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        if part("bytes") {
            let mebibytes = BULK_MIB.to_string();
            bytes.push((
                BULK_MIB as f64 / host.run("sink", &["stream", "ADDRESS", &mebibytes]).await?,
                BULK_MIB as f64 / pods.run("sink", &["stream", SERVICE, &mebibytes]).await?,
            ));
        }
        if part("requests") {
            let count = REQUESTS.to_string();
            requests.push((
                REQUESTS as f64 / host.run("echo", &["ask", "ADDRESS", &count]).await?,
                REQUESTS as f64 / pods.run("echo", &["ask", SERVICE, &count]).await?,
            ));
        }
    }
    println!("| | loopback of the host | service of the pod network | |\n|---|---|---|---|");
    report("MiB/s over one connection", bytes);
    report("requests of 64 bytes/s, one after the other", requests);
    Ok(())
}

fn report(what: &str, rounds: Vec<(f64, f64)>) {
    if rounds.is_empty() {
        return;
    }
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    println!(
        "| {what} | {:.0} | {:.0} | {:.1} x |",
        median(&|round| round.0),
        median(&|round| round.1),
        median(&|round| round.1 / round.0)
    );
}

/// What a guest has written.
#[derive(Clone)]
struct Heard(watch::Sender<Vec<u8>>);

impl Heard {
    fn new() -> Self {
        Self(watch::Sender::default())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }

    async fn until(&self, word: &str) -> Result<()> {
        let mut heard = self.0.subscribe();
        let has = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(word);
        heard.wait_for(has).await?;
        Ok(())
    }
}

impl LogSink for Heard {
    fn write(&self, bytes: &[u8]) {
        self.0.send_modify(|heard| heard.extend_from_slice(bytes));
    }
}

impl AsyncWrite for Heard {
    fn poll_write(self: Pin<&mut Self>, _: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        LogSink::write(&*self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Two pods, one of them behind a service.
struct Pods {
    /// The network lives as long as somebody has it.
    _fabric: Fabric,
    runtime: Runtime,
    module: Arc<Module>,
    client: Arc<PodNet>,
    server: Arc<PodNet>,
}

impl Pods {
    async fn new(cache_dir: std::path::PathBuf, wasm: &'static [u8]) -> Result<Self> {
        let runtime = Runtime::new(RuntimeConfig {
            worker_threads: 2,
            ..RuntimeConfig::new(cache_dir)
        })?;
        let module = runtime.load("probe", Bytes::from_static(wasm)).await?;
        let fabric = Fabric::new(FabricConfig::default());
        let pod = |last: u8| {
            let identity = PodIdentity {
                namespace: "default".into(),
                name: format!("pod-{last}"),
                uid: format!("uid-{last}"),
            };
            fabric.add_pod(identity, vec![IpAddr::V4(Ipv4Addr::new(10, 244, 0, last))])
        };
        let (client, server) = (pod(2)?, pod(3)?);
        let address: SocketAddr = SERVICE.parse()?;
        fabric.update(Arc::new(Snapshot {
            services: vec![Service {
                namespace: "default".into(),
                name: "server".into(),
                cluster_ips: vec![address.ip()],
                ports: vec![ServicePort {
                    port: address.port(),
                    ..ServicePort::default()
                }],
                endpoints: vec![Endpoint {
                    address: IpAddr::V4(Ipv4Addr::new(10, 244, 0, 3)),
                    ready: true,
                    serving: true,
                    node: None,
                    topology: Topology::default(),
                    hostname: None,
                    ports: vec![EndpointPort {
                        name: String::new(),
                        protocol: Protocol::Tcp,
                        port: POD_PORT,
                    }],
                }],
                ..Service::default()
            }],
        }));
        Ok(Self {
            _fabric: fabric,
            runtime,
            module,
            client,
            server,
        })
    }

    fn start(&self, net: &Arc<PodNet>, args: &[&str], heard: Heard) -> Result<Container> {
        let args = ["probe"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let spec = ContainerSpec {
            memory_limit_bytes: Some(64 << 20),
            ..ContainerSpec::new(args, net.clone(), Arc::new(heard))
        };
        Ok(self.runtime.start(self.module.clone(), spec)?)
    }

    /// Seconds from the start of the client to its end.
    async fn run(&self, server: &str, client: &[&str]) -> Result<f64> {
        let heard = Heard::new();
        let _server = self.start(&self.server, &[server, &format!("0.0.0.0:{POD_PORT}")], heard.clone())?;
        heard.until("listening").await?;
        let said = Heard::new();
        let begun = Instant::now();
        let exit = self.start(&self.client, client, said.clone())?.wait().await;
        let seconds = begun.elapsed().as_secs_f64();
        anyhow::ensure!(exit.code == 0, "{exit:?}: {}", said.text());
        Ok(seconds)
    }
}

/// The same guests with the sockets of the host.
struct Host {
    engine: Engine,
    component: Component,
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: NoRequests,
}

/// Nobody here makes requests by `wasi:http`.
struct NoRequests;

type Rest = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Rest,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Rest), Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// A guest that ends with its owner.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Host {
    fn new(wasm: &[u8]) -> Result<Self> {
        let engine = Engine::new(Config::new().concurrency_support(false))?;
        let component = Component::new(&engine, wasm)?;
        Ok(Self { engine, component })
    }

    async fn guest(&self, args: &[&str], heard: Heard) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let wasi = WasiCtx::builder()
            .arg("probe")
            .args(args)
            .inherit_network()
            .allow_tcp(true)
            .stdout(AsyncStdoutStream::new(4096, heard.clone()))
            .stderr(AsyncStdoutStream::new(4096, heard))
            .build();
        let mut store = Store::new(
            &self.engine,
            Guest {
                wasi,
                table: ResourceTable::new(),
                http: WasiHttpCtx::new(),
                hooks: NoRequests,
            },
        );
        let mut linker = Linker::new(&self.engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // What the guest can also do, and does not here.
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let command = Command::instantiate_async(&mut store, &self.component, &linker).await?;
        Ok(async move {
            let ended = command.wasi_cli_run().call_run(&mut store).await?;
            ended.map_err(|()| anyhow::anyhow!("the guest failed"))
        })
    }

    async fn run(&self, server: &str, client: &[&str]) -> Result<f64> {
        // A port that is free now; nobody else asks for one here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let heard = Heard::new();
        let listening = self.guest(&[server, &address], heard.clone()).await?;
        let mut serving = tokio::spawn(listening);
        let _server = Running(serving.abort_handle());
        tokio::select! {
            listening = heard.until("listening") => listening?,
            ended = &mut serving => anyhow::bail!("the server ended: {:?}, {}", ended?, heard.text()),
        }
        let args: Vec<&str> = client
            .iter()
            .map(|arg| if *arg == "ADDRESS" { address.as_str() } else { arg })
            .collect();
        let begun = Instant::now();
        let said = Heard::new();
        let asking = self.guest(&args, said.clone()).await?;
        tokio::spawn(asking).await?.with_context(|| said.text())?;
        Ok(begun.elapsed().as_secs_f64())
    }
}
