//! The pods of all simulated nodes: a table, a watch that fills it, and a timer that moves them on.
//!
//! Bound pods become ready, those that end by themselves succeed, those that are deleted go. What is not written in time
//! is written at the next event of the pod; the table holds nothing that the API does not say, but for who is due.

use std::{collections::HashMap, net::Ipv4Addr, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, WatchParams},
    core::{ObjectList, Request, WatchEvent},
};
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{Config, addresses::Addresses, delays::Delays, node, status, timers::Timers};

/// Only pods that have a node.
const BOUND: &str = "spec.nodeName!=";
/// The pause before a list or watch that failed is tried again.
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
}

impl Seen {
    fn image(&self) -> &str {
        self.spec.containers.first().map_or("", |container| &container.image)
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
    delays: Delays,
    count: u16,
    pods: HashMap<String, Pod>,
    addresses: Vec<Addresses>,
    timers: Timers<(String, Next)>,
}

/// Follows the pods and moves them on, for ever.
pub async fn run(config: &Config, tasks: &TaskTracker, writes: &Arc<Semaphore>) {
    let mut pods = Pods {
        delays: config.delays.clone(),
        count: config.count,
        pods: HashMap::new(),
        addresses: vec![Addresses::default(); usize::from(config.count)],
        timers: Timers::default(),
    };
    loop {
        if let Err(error) = pods.follow(&config.client, tasks, writes).await {
            tracing::warn!(%error, "the simulated nodes lost their server");
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Pods {
    /// Lists, and watches until the watch ends.
    async fn follow(&mut self, client: &Client, tasks: &TaskTracker, writes: &Arc<Semaphore>) -> kube::Result<()> {
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
            }
            while let Some((uid, next)) = self.timers.pop(Instant::now()) {
                self.act(&uid, next, client, tasks, writes).await;
            }
        }
    }

    fn see(&mut self, pod: Seen) {
        let Some(node) = node::index(&pod.spec.node_name).filter(|index| *index < self.count) else {
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
            if let Some(addresses) = self.addresses.get_mut(usize::from(node)) {
                addresses.mark(address.octets()[3], true);
            }
        }
        let draw: u32 = rand::random();
        let image = pod.image();
        let next = if pod.metadata.deletion_timestamp.is_some() {
            let grace = Duration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
            Some((Next::Gone, self.delays.stop(image, draw).min(grace)))
        } else {
            match pod.status.phase.as_str() {
                "Succeeded" | "Failed" => None,
                "Running" if pod.spec.restart_policy == "Always" => None,
                "Running" => self.delays.run(image, draw).map(|after| (Next::Done, after)),
                _ => Some((Next::Ready, self.delays.start(image, draw))),
            }
        };
        entry.seen = Arc::new(pod);
        if let Some((next, after)) = next
            && entry.next != Some(next)
        {
            entry.next = Some(next);
            self.timers.set(Instant::now() + after, (uid, next));
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.free(&pod);
        }
    }

    fn free(&mut self, pod: &Pod) {
        if let (Some(address), Some(addresses)) = (pod.address, self.addresses.get_mut(usize::from(pod.node))) {
            addresses.mark(address.octets()[3], false);
        }
    }

    async fn act(&mut self, uid: &str, next: Next, client: &Client, tasks: &TaskTracker, writes: &Arc<Semaphore>) {
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.next == Some(next)) else {
            return;
        };
        if next == Next::Ready && pod.address.is_none() {
            let addresses = self.addresses.get_mut(usize::from(pod.node));
            pod.address = addresses.and_then(|addresses| addresses.take(pod.node));
        }
        let (seen, address) = (pod.seen.clone(), pod.address);
        let Ok(permit) = writes.clone().acquire_owned().await else {
            return;
        };
        let client = client.clone();
        tasks.spawn(async move {
            if let Err(error) = write(&client, &seen, next, address).await {
                tracing::debug!(pod = %seen.metadata.name, %error, "a simulated pod did not move on");
            }
            drop(permit);
        });
    }
}

async fn write(client: &Client, pod: &Seen, next: Next, address: Option<Ipv4Addr>) -> kube::Result<()> {
    let Meta {
        name, namespace, uid, ..
    } = &pod.metadata;
    let place = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
    let request = match next {
        Next::Ready | Next::Done => {
            let now = Timestamp::now();
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
