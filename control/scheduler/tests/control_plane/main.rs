//! The whole control plane in one process: API server, controllers and scheduler, with a node that only pretends to run
//! pods. Every test has a cluster of its own and waits for states.

// The allowances for tests cover functions marked as tests only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod workloads;

use std::{collections::BTreeSet, net::TcpListener, pin::pin, sync::Arc, time::Duration};

use coracle_server::{Config, Pki, Server, header_of};
use coracle_store::{MemoryEngine, Store};
use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Far more than any of these states needs; a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

async fn create<K>(api: &Api<K>, body: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(body).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

struct Cluster {
    client: Client,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        let store = Store::open(
            Arc::new(MemoryEngine::new()),
            header_of,
            coracle_store::Config::default(),
        )
        .unwrap();
        let server = Arc::new(
            Server::build(Config::new(store, Pki::ephemeral(&[]).unwrap()))
                .await
                .unwrap(),
        );
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let client = |user: &str| Client::new(server.local(user, &[]), "default");
        let mut controllers = coracle_controllers::Config::new(client("system:kube-controller-manager"));
        controllers.facts.root_ca_pem = Some("pem".to_owned());
        tasks.spawn(coracle_controllers::run(controllers, stop.clone()));
        let scheduler = coracle_scheduler::Config::new(client("system:kube-scheduler"));
        tasks.spawn(coracle_scheduler::run(scheduler, stop.clone()));
        let client = Client::new(server.local_admin(), "default");
        tasks.spawn(pretend_to_run_pods(client.clone(), stop.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shutdown = stop.clone();
        tasks.spawn(async move { server.run(listener, shutdown).await.unwrap() });
        Self { client, tasks, stop }
    }

    async fn with_nodes(count: usize) -> Self {
        let cluster = Self::start().await;
        for i in 0..count {
            cluster.add_node(&format!("node-{i}")).await;
        }
        cluster
    }

    async fn add_node(&self, name: &str) {
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = create(
            &nodes,
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}),
        )
        .await;
        let status = json!({"status": {"capacity": allocatable, "allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": jiff::Timestamp::now().to_string()}]}});
        let name = node.metadata.name.unwrap();
        nodes
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn create<K>(&self, namespace: &str, body: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        create(&self.api(namespace), body).await
    }

    /// Waits until the objects of the kind in the namespace are as wanted.
    async fn wait<K>(&self, namespace: &str, what: &str, wanted: impl FnMut(&[K]) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Self::wait_for(&self.api(namespace), what, wanted).await
    }

    /// Waits until the objects that this finds are as wanted.
    async fn wait_for<K>(api: &Api<K>, what: &str, mut wanted: impl FnMut(&[K]) -> bool) -> Vec<K>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let wait = async {
            loop {
                let list = api.list(&ListParams::default()).await.unwrap();
                if wanted(&list.items) {
                    return list.items;
                }
                let version = list.metadata.resource_version.unwrap();
                let mut changes = pin!(api.watch(&WatchParams::default(), &version).await.unwrap());
                changes.next().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "never: {what}: {:#?}",
                api.list(&ListParams::default()).await.unwrap().items
            ),
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .expect("everything stops");
    }
}

/// What a kubelet would do, without running anything: bound pods get an address and become ready, ending ones go.
async fn pretend_to_run_pods(client: Client, stop: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let act = async {
        let mut version = "0".to_owned();
        let mut address = 0_u32;
        loop {
            let Ok(events) = pods.watch(&WatchParams::default(), &version).await else {
                continue;
            };
            let mut events = pin!(events);
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                    version = pod.metadata.resource_version.clone().unwrap();
                    address += 1;
                    pretend_to_run(&client, &pod, address).await;
                }
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {}, () = act => {} }
}

async fn pretend_to_run(client: &Client, pod: &Pod, address: u32) {
    let namespace = pod.metadata.namespace.as_deref().unwrap();
    let name = pod.metadata.name.as_deref().unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let ready = pod.status.as_ref().is_some_and(|s| s.pod_ip.is_some());
    if pod.metadata.deletion_timestamp.is_some() {
        drop(pods.delete(name, &DeleteParams::default().grace_period(0)).await);
    } else if pod
        .status
        .as_ref()
        .is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")))
    {
        // It is over.
    } else if let (true, Some(code)) = (bound, exit_code(pod)) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let ended = json!({"exitCode": code, "finishedAt": jiff::Timestamp::now().to_string()});
        let status = json!({"status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "i", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": ended}}]}});
        drop(
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
                .await,
        );
    } else if bound && !ready {
        let ip = format!("10.244.{}.{}", address / 250, address % 250 + 1);
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": jiff::Timestamp::now().to_string()}]}});
        drop(
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
                .await,
        );
    }
}

/// How a pod ends at once, if its image says so: `exits-1`.
fn exit_code(pod: &Pod) -> Option<i32> {
    let image = pod.spec.as_ref()?.containers.first()?.image.as_deref()?;
    image.strip_prefix("exits-")?.parse().ok()
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn is_rolled_out(d: &Deployment, replicas: i32) -> bool {
    let Some(status) = &d.status else { return false };
    let all = [
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    ];
    status.observed_generation == d.metadata.generation && all.iter().all(|n| n.unwrap_or(0) == replicas)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_comes_up_rolls_scales_and_goes() {
    let cluster = Cluster::with_nodes(2).await;
    let _: Deployment = cluster.create("default", deployment("web", 4, "one")).await;
    cluster
        .wait("default", "rolled out", |all: &[Deployment]| is_rolled_out(&all[0], 4))
        .await;
    let pods: Vec<Pod> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    let nodes: BTreeSet<_> = pods
        .iter()
        .map(|p| p.spec.as_ref().unwrap().node_name.clone().unwrap())
        .collect();
    assert_eq!(nodes.len(), 2, "spread over both nodes");
    cluster
        .wait("default", "events", |events: &[Event]| {
            let has = |reason: &str| events.iter().any(|e| e.reason.as_deref() == Some(reason));
            ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"]
                .into_iter()
                .all(has)
        })
        .await;

    let api: Api<Deployment> = cluster.api("default");
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(image))
        .await
        .unwrap();
    cluster
        .wait("default", "rolled again", |all: &[Deployment]| {
            is_rolled_out(&all[0], 4)
        })
        .await;
    let sets: Vec<ReplicaSet> = cluster
        .wait("default", "one active", |sets: &[ReplicaSet]| {
            sets.len() == 2
                && sets
                    .iter()
                    .filter(|s| s.status.as_ref().is_some_and(|s| s.replicas > 0))
                    .count()
                    == 1
        })
        .await;
    let revisions: BTreeSet<_> = sets
        .iter()
        .map(|s| s.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].clone())
        .collect();
    assert_eq!(revisions, BTreeSet::from(["1".to_owned(), "2".to_owned()]));

    api.patch(
        "web",
        &PatchParams::default(),
        &Patch::Merge(json!({"spec": {"replicas": 1}})),
    )
    .await
    .unwrap();
    cluster
        .wait("default", "scaled down", |pods: &[Pod]| pods.len() == 1)
        .await;
    api.delete("web", &DeleteParams::background()).await.unwrap();
    cluster
        .wait("default", "sets collected", |sets: &[ReplicaSet]| sets.is_empty())
        .await;
    cluster
        .wait("default", "pods collected", |pods: &[Pod]| pods.is_empty())
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_first_in_the_foreground_and_stay_as_orphans() {
    let cluster = Cluster::with_nodes(1).await;
    let api: Api<Deployment> = cluster.api("default");
    let _: Deployment = cluster.create("default", deployment("web", 2, "one")).await;
    cluster
        .wait("default", "rolled out", |all: &[Deployment]| is_rolled_out(&all[0], 2))
        .await;
    api.delete("web", &DeleteParams::foreground()).await.unwrap();
    cluster
        .wait("default", "deployment gone", |all: &[Deployment]| all.is_empty())
        .await;
    assert!(
        cluster
            .api::<ReplicaSet>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        cluster
            .api::<Pod>("default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    let _: Deployment = cluster.create("default", deployment("keep", 1, "one")).await;
    cluster
        .wait("default", "rolled out", |all: &[Deployment]| is_rolled_out(&all[0], 1))
        .await;
    api.delete("keep", &DeleteParams::orphan()).await.unwrap();
    cluster
        .wait("default", "deployment gone", |all: &[Deployment]| all.is_empty())
        .await;
    let sets = cluster
        .api::<ReplicaSet>("default")
        .list(&ListParams::default())
        .await
        .unwrap()
        .items;
    assert_eq!(sets.len(), 1);
    assert!(sets[0].metadata.owner_references.as_ref().is_none_or(Vec::is_empty));
    // A Deployment with the same selector takes the orphan in.
    let _: Deployment = cluster.create("default", deployment("keep", 1, "one")).await;
    cluster
        .wait("default", "adopted", |sets: &[ReplicaSet]| {
            sets.len() == 1
                && sets[0]
                    .metadata
                    .owner_references
                    .as_ref()
                    .is_some_and(|o| o[0].name == "keep")
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_takes_everything_along() {
    let cluster = Cluster::with_nodes(1).await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    create(
        &namespaces,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}),
    )
    .await;
    cluster
        .wait("demo", "account", |all: &[ServiceAccount]| {
            all.iter().any(|a| a.metadata.name.as_deref() == Some("default"))
        })
        .await;
    cluster
        .wait("demo", "authority", |all: &[ConfigMap]| {
            all.iter().any(|m| {
                m.data
                    .as_ref()
                    .is_some_and(|d| d.get("ca.crt").is_some_and(|pem| pem == "pem"))
            })
        })
        .await;
    let _: Deployment = cluster.create("demo", deployment("web", 2, "one")).await;
    let _: Service = cluster
        .create(
            "demo",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        )
        .await;
    cluster
        .wait("demo", "slice", |slices: &[EndpointSlice]| {
            slices
                .iter()
                .flat_map(|s| s.endpoints.iter().flatten())
                .filter(|e| e.conditions.as_ref().unwrap().ready == Some(true))
                .count()
                == 2
        })
        .await;
    cluster
        .wait("demo", "endpoints", |all: &[Endpoints]| {
            let subsets = all.iter().flat_map(|e| e.subsets.iter().flatten());
            subsets.flat_map(|s| s.addresses.iter().flatten()).count() == 2
        })
        .await;
    namespaces.delete("demo", &DeleteParams::default()).await.unwrap();
    Cluster::wait_for(&namespaces, "namespace gone", |all| {
        !all.iter().any(|n| n.metadata.name.as_deref() == Some("demo"))
    })
    .await;
    assert!(
        cluster
            .api::<Pod>("demo")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        cluster
            .api::<Event>("demo")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_goes_when_a_node_comes() {
    let cluster = Cluster::with_nodes(1).await;
    let pod = |name: &str, cpu: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let _: Pod = cluster.create("default", pod("first", "3")).await;
    cluster
        .wait("default", "first bound", |pods: &[Pod]| {
            pods[0].spec.as_ref().unwrap().node_name.is_some()
        })
        .await;
    let _: Pod = cluster.create("default", pod("second", "3")).await;
    let is_second = |p: &&Pod| p.metadata.name.as_deref() == Some("second");
    cluster
        .wait("default", "told", |pods: &[Pod]| {
            let conditions = pods
                .iter()
                .find(is_second)
                .and_then(|p| p.status.as_ref()?.conditions.clone())
                .unwrap_or_default();
            conditions.iter().any(|c| {
                c.type_ == "PodScheduled"
                    && c.message.as_deref() == Some(
                            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
                        )
            })
        })
        .await;
    cluster
        .wait("default", "event", |all: &[Event]| {
            all.iter().any(|e| e.reason.as_deref() == Some("FailedScheduling"))
        })
        .await;
    cluster.add_node("late").await;
    cluster
        .wait("default", "second bound", |pods: &[Pod]| {
            let second = pods.iter().find(is_second).unwrap();
            second.spec.as_ref().unwrap().node_name.as_deref() == Some("late")
        })
        .await;
    cluster.stop().await;
}
