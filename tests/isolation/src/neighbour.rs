//! The neighbour: a web server in a pod like any other, asked over a port of its node, and the API beside it.

use std::net::SocketAddr;
use std::time::Duration;

use coracle::fuzz::gauge::{Gauge, Measured, Target};
use k8s_openapi::api::core::v1::Service;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::world::{World, pod_ip, ready};

/// Between two looks whether the port listens.
const LOOK: Duration = Duration::from_millis(5);

/// How long an answer may take before it counts as none.
const PATIENCE: Duration = Duration::from_secs(30);

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: neighbour, labels: {app: neighbour}}
spec:
  containers:
  - name: main
    image: web
    resources: {requests: {cpu: 500m, memory: 64Mi}, limits: {memory: 256Mi}}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: neighbour}
spec: {type: NodePort, selector: {app: neighbour}, ports: [{port: 80, targetPort: 8080}]}
";

pub struct Neighbour {
    /// Where it and the API are asked.
    pub target: Target,
    /// Its address in the pod network, with the port.
    pub inside: String,
}

impl Neighbour {
    /// Moves in, and returns when it listens at the port.
    pub async fn start(world: &World) -> Self {
        world.apply(MANIFEST).await;
        let pod = world.pod("neighbour", ready).await;
        let port = |service: &Service| service.spec.as_ref()?.ports.as_ref()?.first()?.node_port;
        let service = world
            .until::<Service>(&world.all(), "neighbour", |service| port(service).is_some())
            .await;
        let port = u16::try_from(port(&service).unwrap()).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                // The port listens a moment after the service has it.
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, listens).await.expect("the neighbour does not listen");
        Self {
            target: Target {
                neighbour: address,
                api: world.client(),
                patience: PATIENCE,
            },
            inside: format!("{}:8080", pod_ip(&pod)),
        }
    }

    /// Asks the neighbour for a while, and the API at the same time.
    pub async fn measure(&self, span: Duration) -> Measured {
        let gauge = Gauge::start(&self.target).unwrap();
        sleep(span).await;
        gauge.end().await.unwrap()
    }
}
