//! What a test needs around a guest: a runtime, pods, a log, and a client on the host's side.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use coracle_net::{
    Endpoint, EndpointPort, Fabric, FabricConfig, PodIdentity, PodNet, Protocol, Service, ServicePort, Snapshot,
};
use coracle_runtime::{Container, ContainerSpec, Exit, LogSink, Module, PodFiles, Runtime, RuntimeConfig, StartError};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// One cache for all tests, so that each guest is compiled once.
static CACHE: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static SHARED: LazyLock<Runtime> = LazyLock::new(|| runtime(2));

/// A runtime of its own, for tests that measure.
pub fn runtime(worker_threads: usize) -> Runtime {
    runtime_with(worker_threads, None)
}

/// A runtime that leaves so much of the machine's memory free.
pub fn runtime_with(worker_threads: usize, free_memory_bytes: Option<u64>) -> Runtime {
    Runtime::new(RuntimeConfig {
        worker_threads,
        free_memory_bytes,
        ..config()
    })
    .unwrap()
}

/// What the tests' runtimes have in common.
pub fn config() -> RuntimeConfig {
    RuntimeConfig::new(CACHE.path().to_owned())
}

/// Collects what a guest writes.
#[derive(Default)]
pub struct Log {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

impl LogSink for Log {
    fn write(&self, bytes: &[u8]) {
        self.bytes.lock().extend_from_slice(bytes);
        self.more.notify_waiters();
    }
}

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().clone()).unwrap()
    }

    pub async fn wait_for(&self, part: &str) {
        soon(part, async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if self.text().contains(part) {
                    return;
                }
                more.await;
            }
        })
        .await;
    }
}

/// One network with its pods.
pub struct World {
    pub fabric: Fabric,
    pub runtime: Runtime,
    next: AtomicU8,
}

/// One pod of the test.
pub struct Pod {
    pub net: Arc<PodNet>,
    pub files: Arc<PodFiles>,
    pub ip: IpAddr,
}

/// A started guest.
pub struct Guest {
    pub container: Container,
    pub out: Arc<Log>,
    pub err: Arc<Log>,
}

impl Guest {
    pub async fn exit(&self) -> Exit {
        soon("the guest's end", self.container.wait()).await
    }

    /// What it printed, when it has ended well.
    pub async fn printed(&self) -> String {
        let exit = self.exit().await;
        assert_eq!(exit.code, 0, "{exit:?}: {}{}", self.out.text(), self.err.text());
        self.out.text()
    }
}

/// A container without limits, files or variables but its host name.
fn spec(pod: &Pod, args: &[&str], out: &Arc<Log>, err: &Arc<Log>) -> ContainerSpec {
    let args = ["guest"].iter().chain(args).map(|arg| arg.to_string()).collect();
    ContainerSpec {
        env: vec![("HOSTNAME".into(), pod.net.identity().name.clone())],
        files: pod.files.clone(),
        stderr: err.clone(),
        ..ContainerSpec::new(args, pod.net.clone(), out.clone())
    }
}

impl World {
    pub fn new() -> Self {
        Self::on(SHARED.clone())
    }

    pub fn on(runtime: Runtime) -> Self {
        Self {
            fabric: Fabric::new(FabricConfig::default()),
            runtime,
            next: AtomicU8::new(2),
        }
    }

    pub fn pod(&self, name: &str) -> Pod {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 244, 0, self.next.fetch_add(1, Ordering::Relaxed)));
        let identity = PodIdentity {
            namespace: "demo".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
        };
        Pod {
            net: self.fabric.add_pod(identity, vec![ip]).unwrap(),
            files: Arc::default(),
            ip,
        }
    }

    pub async fn module(&self, name: &str) -> Arc<Module> {
        // Held so that the tests of one binary link each guest once.
        static HELD: Mutex<Option<HashMap<String, Arc<Module>>>> = Mutex::new(None);
        let wasm = coracle_fixtures::component(name).unwrap();
        let module = self.runtime.load(name, Bytes::from_static(wasm)).await.unwrap();
        HELD.lock().get_or_insert_default().insert(name.into(), module.clone());
        module
    }

    /// Starts a sample or the probe.
    pub async fn run(&self, pod: &Pod, guest: &str, args: &[&str]) -> Guest {
        self.run_with(pod, guest, args, |_| {}).await
    }

    pub async fn run_with(
        &self,
        pod: &Pod,
        guest: &str,
        args: &[&str],
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Guest {
        let module = self.module(guest).await;
        self.start(pod, module, args, change)
    }

    pub fn start(
        &self,
        pod: &Pod,
        module: Arc<Module>,
        args: &[&str],
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Guest {
        let (out, err) = (Arc::new(Log::default()), Arc::new(Log::default()));
        let mut spec = spec(pod, args, &out, &err);
        change(&mut spec);
        Guest {
            container: self.runtime.start(module, spec).unwrap(),
            out,
            err,
        }
    }

    /// Tries to start a container that is refused at once.
    pub fn refused(&self, pod: &Pod, module: Arc<Module>, change: impl FnOnce(&mut ContainerSpec)) -> StartError {
        let log = Arc::new(Log::default());
        let mut spec = spec(pod, &[], &log, &log);
        change(&mut spec);
        self.runtime.start(module, spec).unwrap_err()
    }

    /// A service with one port and these pods behind it.
    pub fn service(&self, name: &str, ip: [u8; 4], port: u16, pods: &[(&Pod, u16)]) {
        let endpoints = pods.iter().map(|(pod, port)| Endpoint {
            address: pod.ip,
            ready: true,
            serving: true,
            ports: vec![EndpointPort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: *port,
            }],
            node: None,
            topology: coracle_net::Topology::default(),
            hostname: None,
        });
        let service = Service {
            namespace: "demo".into(),
            name: name.into(),
            cluster_ips: vec![ip.into()],
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port,
                ..ServicePort::default()
            }],
            endpoints: endpoints.collect(),
            ..Service::default()
        };
        let mut services = self.fabric.snapshot().services.clone();
        services.push(service);
        self.fabric.update(Arc::new(Snapshot { services }));
    }

    /// One request from the host's side, as a probe or port-forward makes it; the whole answer.
    pub async fn get(&self, pod: &Pod, port: u16, path: &str) -> String {
        self.ask(
            pod,
            port,
            &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"),
        )
        .await
    }

    pub async fn ask(&self, pod: &Pod, port: u16, request: &str) -> String {
        soon("an answer", async {
            let mut stream = self
                .fabric
                .dial_pod(pod.ip, SocketAddr::new(pod.ip, port))
                .await
                .unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        })
        .await
    }
}
