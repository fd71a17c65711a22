//! The pods of all simulated nodes: a table, a watch that fills it, and a timer that moves them on.
//!
//! Bound pods become ready, those that end by themselves succeed, those that are deleted go. A write that fails is made
//! again; the table holds nothing that the API does not say, but for who is due.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, WatchParams},
    core::{ObjectList, Request, WatchEvent},
};
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{Config, addresses::Addresses, node, status, timers::Timers};

/// Only pods that have a node.
const BOUND: &str = "spec.nodeName!=";
/// The pause before a list, watch or write that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Pods a page of a list.
const PAGE_LIMIT: u32 = 500;

/// What is read of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Seen {
    pub metadata: Meta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub deletion_timestamp: Option<String>,
    pub deletion_grace_period_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    pub node_name: String,
    pub restart_policy: String,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    pub name: String,
    pub image: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Ipv4Addr>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

impl Seen {
    fn image(&self) -> &str {
        self.spec.containers.first().map_or("", |container| &container.image)
    }

    fn is_ready(&self) -> bool {
        let conditions = &self.status.conditions;
        conditions.iter().any(|c| c.kind == "Ready" && c.status == "True")
    }
}

/// What becomes of a pod next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ready,
    Done,
    Gone,
}

/// How far a pod is: what it has been told to become, so that each is told once.
struct Pod {
    node: u16,
    address: Option<Ipv4Addr>,
    next: Option<Next>,
    seen: Arc<Seen>,
}

/// The table.
struct Pods {
    config: Config,
    pods: HashMap<String, Pod>,
    addresses: BTreeMap<u16, Addresses>,
    timers: Timers<(String, Next)>,
    /// Writes that failed. A pod has one under way at most, so there are never more than pods.
    failures: mpsc::UnboundedSender<(String, Next)>,
    failed: mpsc::UnboundedReceiver<(String, Next)>,
}

/// Follows the pods and moves them on, for ever.
pub async fn run(config: &Config, tasks: &TaskTracker, writes: &Arc<Semaphore>) {
    let (failures, failed) = mpsc::unbounded_channel();
    let mut pods = Pods {
        config: config.clone(),
        pods: HashMap::new(),
        addresses: config.nodes.clone().map(|node| (node, Addresses::default())).collect(),
        timers: Timers::default(),
        failures,
        failed,
    };
    loop {
        if let Err(error) = pods.follow(tasks, writes).await {
            tracing::warn!(%error, "the simulated nodes lost their server");
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Pods {
    /// Lists, and watches until the watch ends.
    async fn follow(&mut self, tasks: &TaskTracker, writes: &Arc<Semaphore>) -> kube::Result<()> {
        let client = self.config.client.clone();
        let request = Request::new("/api/v1/pods");
        let mut params = ListParams::default().limit(PAGE_LIMIT).fields(BOUND);
        let mut known: HashMap<String, Pod> = std::mem::take(&mut self.pods);
        let version = loop {
            let page = request.list(&params).map_err(kube::Error::BuildRequest)?;
            let list: ObjectList<Seen> = client.request(page).await?;
            for pod in list.items {
                if let Some(before) = known.remove(&pod.metadata.uid) {
                    self.pods.insert(pod.metadata.uid.clone(), before);
                }
                self.see(pod);
            }
            params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break list.metadata.resource_version.unwrap_or_default();
            }
        };
        known.into_values().for_each(|gone| self.free(&gone));
        let params = WatchParams::default().fields(BOUND);
        let watch = request.watch(&params, &version).map_err(kube::Error::BuildRequest)?;
        let mut events = pin!(client.request_events::<Seen>(watch).await?);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => self.see(pod),
                    Some(Ok(WatchEvent::Deleted(pod))) => self.forget(&pod.metadata.uid),
                    Some(Ok(WatchEvent::Bookmark(_))) => {}
                    Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status)),
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                () = self.timers.wait() => {}
                Some(again) = self.failed.recv() => self.timers.set(Instant::now() + RETRY, again),
            }
            while let Some((uid, next)) = self.timers.pop(Instant::now()) {
                self.act(&uid, next, tasks, writes).await;
            }
        }
    }

    fn see(&mut self, pod: Seen) {
        let Some(node) = node::index(&pod.spec.node_name).filter(|index| self.config.nodes.contains(index)) else {
            return;
        };
        let uid = pod.metadata.uid.clone();
        let entry = self.pods.entry(uid.clone()).or_insert_with(|| Pod {
            node,
            address: None,
            next: None,
            seen: Arc::default(),
        });
        if entry.address.is_none()
            && let Some(address) = pod.status.pod_ip
        {
            entry.address = Some(address);
            if let Some(addresses) = self.addresses.get_mut(&node) {
                addresses.mark(address.octets()[3], true);
            }
        }
        let draw: u32 = rand::random();
        let image = pod.image();
        let next = if pod.metadata.deletion_timestamp.is_some() {
            let grace = Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
            Some((Next::Gone, self.config.delays.stop(image, draw).min(grace)))
        } else {
            match pod.status.phase.as_str() {
                "Succeeded" | "Failed" => None,
                // Others say so of a node that they have not heard of for long.
                "Running" if !pod.is_ready() => Some((Next::Ready, Duration::ZERO)),
                "Running" if pod.spec.restart_policy == "Always" => None,
                "Running" => self.config.delays.run(image, draw).map(|after| (Next::Done, after)),
                _ => Some((Next::Ready, self.config.delays.start(image, draw))),
            }
        };
        entry.seen = Arc::new(pod);
        let due = next.map(|(next, _)| next);
        if entry.next != due {
            entry.next = due;
            if let Some((next, after)) = next {
                self.timers.set(Instant::now() + after, (uid, next));
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.free(&pod);
        }
    }

    fn free(&mut self, pod: &Pod) {
        if let (Some(address), Some(addresses)) = (pod.address, self.addresses.get_mut(&pod.node)) {
            addresses.mark(address.octets()[3], false);
        }
    }

    async fn act(&mut self, uid: &str, next: Next, tasks: &TaskTracker, writes: &Arc<Semaphore>) {
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.next == Some(next)) else {
            return;
        };
        if next == Next::Ready && pod.address.is_none() {
            let addresses = self.addresses.get_mut(&pod.node);
            pod.address = addresses.and_then(|addresses| addresses.take(pod.node));
        }
        let (seen, address) = (pod.seen.clone(), pod.address);
        let Ok(permit) = writes.clone().acquire_owned().await else {
            return;
        };
        let (client, failed, now) = (self.config.client.clone(), self.failures.clone(), (self.config.clock)());
        tasks.spawn(async move {
            match write(&client, &seen, next, address, now).await {
                Ok(()) => {}
                // It is gone: nothing is left to be told.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::debug!(pod = %seen.metadata.name, %error, "a simulated pod did not move on; trying again");
                    // Without the table there is nobody to try again.
                    let _ = failed.send((seen.metadata.uid.clone(), next));
                }
            }
            drop(permit);
        });
    }
}

async fn write(client: &Client, pod: &Seen, next: Next, address: Option<Ipv4Addr>, now: Timestamp) -> kube::Result<()> {
    let Meta {
        name, namespace, uid, ..
    } = &pod.metadata;
    let place = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
    let request = match next {
        Next::Ready | Next::Done => {
            let patch = match (next, address) {
                (Next::Ready, Some(address)) => status::running(pod, address, now),
                (Next::Ready, None) => return Ok(()),
                _ => status::succeeded(pod, now),
            };
            place.patch_subresource("status", name, &PatchParams::default(), &Patch::Merge(patch))
        }
        Next::Gone => {
            let params = DeleteParams::default().grace_period(0).preconditions(Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            });
            place.delete(name, &params)
        }
    };
    client
        .request_text(request.map_err(kube::Error::BuildRequest)?)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    fn pod(status: &serde_json::Value) -> serde_json::Value {
        json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "status": status,
            "spec": {"nodeName": "simulated-1", "restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}})
    }

    type Pieces = futures::stream::BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>;

    /// A document, or a watch that tells nothing.
    fn answer(document: Option<serde_json::Value>) -> Response<StreamBody<Pieces>> {
        let pieces = match document {
            Some(document) => stream::iter([Ok(Frame::data(document.to_string().into()))]).boxed(),
            None => stream::pending().boxed(),
        };
        Response::new(StreamBody::new(pieces))
    }

    /// Lists the pod, fails the first write, and tells of the second.
    async fn second_write(status: serde_json::Value) -> serde_json::Value {
        let (told, mut writes) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (told, status) = (told.clone(), status.clone());
            async move {
                if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                    return Ok(answer(None));
                }
                if request.method() == http::Method::GET {
                    let list = json!({"metadata": {"resourceVersion": "1"}, "items": [pod(&status)]});
                    return Ok(answer(Some(list)));
                }
                let body = request.into_body().collect_bytes().await.unwrap();
                told.send(serde_json::from_slice(&body).unwrap()).unwrap();
                Err(std::io::Error::other("connection reset"))
            }
        });
        let config = Config::new(Client::new(service, "default"), 1);
        let (tasks, writes_at_a_time) = (TaskTracker::new(), Arc::new(Semaphore::new(1)));
        tokio::select! {
            () = run(&config, &tasks, &writes_at_a_time) => panic!("it goes on for ever"),
            second = async { writes.recv().await; writes.recv().await } => second.unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_failed_is_made_again() {
        assert_eq!(
            second_write(json!({"phase": "Pending"})).await["status"]["phase"],
            "Running"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_is_said_not_to_be_ready_says_that_it_is() {
        let said =
            json!({"phase": "Running", "podIP": "100.64.0.1", "conditions": [{"type": "Ready", "status": "False"}]});
        let told = second_write(said).await;
        let conditions = told["status"]["conditions"].as_array().unwrap();
        assert!(
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"),
            "{told}"
        );
    }
}
