//! The neighbour: a web server in a pod like any other, asked over a port of its node, and the API beside it.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::world::{World, ready};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The time between two questions.
const PERIOD: Duration = Duration::from_millis(5);

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
---
apiVersion: v1
kind: ConfigMap
metadata: {name: asked}
data: {a: b}
";

pub struct Neighbour {
    address: SocketAddr,
    /// Its address in the pod network, with the port.
    pub inside: String,
    api: Api<ConfigMap>,
}

/// How long answers took, in order of length.
#[derive(Debug, Default)]
pub struct Answers {
    took: Vec<Duration>,
    /// Questions that had no answer, or a wrong one.
    pub failed: usize,
    /// What the first of these said.
    pub why: Option<String>,
}

impl Answers {
    pub fn count(&self) -> usize {
        self.took.len()
    }

    /// The time that so many of a thousand answers did not pass.
    pub fn quantile(&self, of_a_thousand: usize) -> Duration {
        let at = (self.took.len() * of_a_thousand).div_ceil(1000).saturating_sub(1);
        self.took.get(at).copied().unwrap_or_default()
    }

    pub fn p99_ms(&self) -> f64 {
        self.quantile(990).as_secs_f64() * 1000.0
    }
}

impl Neighbour {
    /// Moves in, and returns when it answers over the port.
    pub async fn start(world: &World) -> Self {
        world.apply(MANIFEST).await;
        let pod = world.pod("neighbour", ready).await;
        let port = |service: &Service| service.spec.as_ref()?.ports.as_ref()?.first()?.node_port;
        let service = world
            .until::<Service>(&world.all(), "neighbour", |service| port(service).is_some())
            .await;
        let port = u16::try_from(port(&service).unwrap()).unwrap();
        let neighbour = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            inside: format!("{}:8080", crate::world::pod_ip(&pod)),
            api: world.all(),
        };
        let answered = async {
            while neighbour.ask(&mut None).await.is_err() {
                // The port listens a moment after the service has it.
                tokio::time::sleep(PERIOD).await;
            }
        };
        timeout(PATIENCE, answered)
            .await
            .expect("the neighbour does not answer");
        neighbour
    }

    /// One question, on a connection that is kept for the next.
    async fn ask(
        &self,
        connection: &mut Option<SendRequest<Empty<Bytes>>>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(self.address).await?;
            let (sender, driver) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            *connection = Some(sender);
        }
        let sender = connection.as_mut().ok_or("no connection")?;
        sender.ready().await?;
        let request = Request::get("/").header("host", "neighbour").body(Empty::new())?;
        let answer = sender.send_request(request).await?;
        let good = answer.status() == 200;
        let body = answer.into_body().collect().await?.to_bytes();
        match good && body.starts_with(b"Hello from neighbour") {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&body).into()),
        }
    }

    /// Asks the neighbour for a while, and the API at the same time.
    pub async fn measure(&self, span: Duration) -> (Answers, Answers) {
        let mut connection = None;
        let neighbour = async {
            let mut answers = Answers::default();
            let mut turns = turns();
            let end = Instant::now() + span;
            while Instant::now() < end {
                turns.tick().await;
                let begin = Instant::now();
                match timeout(PATIENCE, self.ask(&mut connection)).await {
                    Ok(Ok(())) => answers.took.push(begin.elapsed()),
                    failed => {
                        connection = None;
                        answers.failed += 1;
                        answers.why.get_or_insert_with(|| format!("{failed:?}"));
                    }
                }
            }
            answers
        };
        let api = async {
            let mut answers = Answers::default();
            let mut turns = turns();
            let end = Instant::now() + span;
            while Instant::now() < end {
                turns.tick().await;
                let begin = Instant::now();
                match timeout(PATIENCE, self.api.get("asked")).await {
                    Ok(Ok(_)) => answers.took.push(begin.elapsed()),
                    failed => {
                        answers.failed += 1;
                        answers.why.get_or_insert_with(|| format!("{failed:?}"));
                    }
                }
            }
            answers
        };
        let (mut neighbour, mut api) = tokio::join!(neighbour, api);
        neighbour.took.sort();
        api.took.sort();
        (neighbour, api)
    }
}

fn turns() -> tokio::time::Interval {
    let mut turns = interval(PERIOD);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}
