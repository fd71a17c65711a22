//! The control plane in processes of its own: a server, controllers, a scheduler; who leads, and what they say when
//! something is wrong.

use std::path::Path;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::{Lease, LeaseSpec},
    core::v1::{Node, Pod, ServiceAccount},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
    client::Body,
    config::Kubeconfig,
    runtime::wait::await_condition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{PATIENCE, Process, client};

/// A lease that ends soon, for tests that wait for that.
const SOON: [&str; 3] = [
    "--leader-elect-lease-duration=3s",
    "--leader-elect-renew-deadline=2s",
    "--leader-elect-retry-period=500ms",
];

struct Server {
    process: Process,
    data: tempfile::TempDir,
    client: Client,
}

impl Server {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut process = serve(data.path(), "127.0.0.1:0");
        process.says("ready").await;
        let client = client(&data.path().join("kubeconfig")).await;
        Self { process, data, client }
    }

    fn kubeconfig(&self, whose: &str) -> String {
        self.data.path().join(whose).to_str().unwrap().to_owned()
    }

    fn controllers(&self) -> Process {
        let kubeconfig = self.kubeconfig("controller-manager.kubeconfig");
        Process::start(&[&["controllers", "--kubeconfig", &kubeconfig], &SOON[..]].concat())
    }

    fn scheduler(&self) -> Process {
        let kubeconfig = self.kubeconfig("scheduler.kubeconfig");
        Process::start(&[&["scheduler", "--kubeconfig", &kubeconfig], &SOON[..]].concat())
    }

    fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn lease(&self, name: &str) -> LeaseSpec {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-system");
        leases.get(name).await.unwrap().spec.unwrap()
    }

    /// Waits until the Deployment has so many pods, all of them on the node.
    async fn placed(&self, count: usize) {
        let all = |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.is_some_and(|status| status.replicas == i32::try_from(count).ok())
        };
        wait(self.all::<Deployment>(), "web", all).await;
        let params = ListParams::default().labels("app=web");
        let pods = self.all::<Pod>().list(&params).await.unwrap();
        assert_eq!(pods.items.len(), count);
        for pod in pods {
            wait(self.all::<Pod>(), pod.metadata.name.as_deref().unwrap(), is_placed).await;
        }
    }
}

fn serve(data: &Path, listen: &str) -> Process {
    Process::start(&["server", "--data-dir", data.to_str().unwrap(), "--listen", listen])
}

async fn wait<K>(api: Api<K>, name: &str, state: impl Fn(Option<&K>) -> bool)
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + DeserializeOwned + 'static,
{
    let wait = await_condition(api, name, move |object: Option<&K>| state(object));
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{name} does not get there")).unwrap();
}

async fn create<K>(api: &Api<K>, body: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(body).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

fn is_placed(pod: Option<&Pod>) -> bool {
    pod.and_then(|pod| pod.spec.as_ref())
        .is_some_and(|spec| spec.node_name.as_deref() == Some("board"))
}

/// Pods that stay where they are though nobody speaks for their node.
fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "hello"}], "tolerations": [{"operator": "Exists"}]})
}

/// A node that nobody runs: what is told of it suffices to place pods.
async fn create_node(client: &Client) {
    let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let node = json!({
        "metadata": {"name": "board"},
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": [{"type": "Ready", "status": "True"}]},
    });
    create::<Node>(&Api::all(client.clone()), node).await;
}

#[tokio::test]
async fn parts_in_processes_of_their_own_are_a_cluster_and_one_of_two_leads() {
    let server = Server::start().await;
    create_node(&server.client).await;
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()},
        },
    });
    create::<Deployment>(&server.all(), deployment).await;

    // The scheduler alone: it finds a node for a pod, and nobody makes pods of the Deployment.
    let mut scheduler = server.scheduler();
    scheduler.says("leading").await;
    create::<Pod>(
        &server.all(),
        json!({"metadata": {"name": "alone"}, "spec": pod_spec()}),
    )
    .await;
    wait(server.all::<Pod>(), "alone", is_placed).await;
    let made = server.all::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    assert!(made.items.is_empty(), "{made:?}");

    let mut first = server.controllers();
    let name = first.says("lease").await;
    first.says("leading").await;
    server.placed(2).await;
    let mut second = server.controllers();
    let waits = second.says("waiting").await;
    let (_, identity) = name.rsplit_once(' ').unwrap();
    assert_eq!(waits, format!("{identity} leads"));
    let lease = server.lease("kube-controller-manager").await;
    assert_eq!(lease.holder_identity.as_deref(), Some(identity));
    assert_eq!(
        (lease.lease_duration_seconds, lease.lease_transitions),
        (Some(3), Some(0))
    );

    // Killed, the leader keeps its lease to the end; then the other one goes on with the work.
    first.end("KILL").await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let params = PatchParams::default();
    server.all::<Deployment>().patch("web", &params, &scale).await.unwrap();
    second.says("leading").await;
    server.placed(3).await;
    assert_eq!(server.lease("kube-controller-manager").await.lease_transitions, Some(1));

    // Told to stop, it gives its lease back.
    assert!(second.end("TERM").await.success());
    assert_eq!(
        server.lease("kube-controller-manager").await.holder_identity.as_deref(),
        Some("")
    );

    // Another implementation's component that takes the lease takes the work.
    let leases: Api<Lease> = Api::namespaced(server.client.clone(), "kube-system");
    let theirs = Patch::Merge(json!({"spec": {"holderIdentity": "theirs"}}));
    leases.patch("kube-scheduler", &params, &theirs).await.unwrap();
    let lost = scheduler.complains("leadership lost").await;
    assert_eq!(
        lost,
        "error: leadership lost: the lease kube-system/kube-scheduler is held by theirs"
    );
    assert_eq!(scheduler.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_who_may_not_is_told() {
    let mut server = Server::start().await;
    let listen = Kubeconfig::read_from(server.kubeconfig("kubeconfig")).unwrap();
    let url = listen.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();

    // Somebody who may do nothing.
    create::<ServiceAccount>(&server.all(), json!({"metadata": {"name": "nobody"}})).await;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..Default::default()
    };
    let accounts = server.all::<ServiceAccount>();
    let token = accounts
        .create_token_request("nobody", &PostParams::default(), &request)
        .await
        .unwrap();
    let mut kubeconfig: Value = serde_json::to_value(&listen).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.status.unwrap().token});
    let path = server.kubeconfig("nobody.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();

    let mut scheduler = Process::start(&["scheduler", "--kubeconfig", &path, SOON[2]]);
    let trouble = scheduler.complains("trouble").await;
    assert!(
        trouble.contains("leases.coordination.k8s.io \"kube-scheduler\" is forbidden"),
        "{trouble}"
    );
    assert!(trouble.contains("system:serviceaccount:default:nobody"), "{trouble}");
    let binding = json!({
        "metadata": {"name": "nobody"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kube-scheduler"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": "default"}],
    });
    create::<ClusterRoleBinding>(&Api::all(server.client.clone()), binding).await;
    scheduler.says("leading").await;
    assert!(scheduler.end("TERM").await.success());

    assert!(server.process.end("TERM").await.success());
    let mut controllers = server.controllers();
    let trouble = controllers.complains("trouble").await;
    assert!(trouble.contains("the server cannot be reached"), "{trouble}");
    server.process = serve(server.data.path(), url.trim_start_matches("https://"));
    controllers.says("leading").await;
    assert!(controllers.end("TERM").await.success());
}

#[tokio::test]
async fn arguments_that_cannot_be_used_are_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let path = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text"), "no kubeconfig").unwrap();
    std::fs::write(path("empty"), "apiVersion: v1\nkind: Config\n").unwrap();
    for (name, part) in [
        ("missing", "No such file"),
        ("text", "kubeconfig"),
        ("empty", "context"),
    ] {
        let mut refused = Process::start(&["scheduler", "--kubeconfig", &path(name)]);
        let message = refused.complains("error").await;
        assert!(message.contains(&path(name)) && message.contains(part), "{message}");
        assert_eq!(refused.ended().await.code(), Some(1));
    }
    let server = Server::start().await;
    let kubeconfig = server.kubeconfig("controller-manager.kubeconfig");
    for (flag, part) in [
        (
            "--leader-elect-renew-deadline=20s",
            "the lease duration must be longer than the renew deadline",
        ),
        ("--cluster-cidr=10.0.0.0", "is no IPv4 network"),
    ] {
        let mut refused = Process::start(&["controllers", "--kubeconfig", &kubeconfig, flag]);
        let message = refused.complains("error").await;
        assert!(message.contains(part), "{message}");
        assert_eq!(refused.ended().await.code(), Some(1));
    }
}

/// What another implementation's controllers and scheduler ask before they work, as they ask it: writing in protobuf,
/// with streamed lists, with the rights of their own names.
#[tokio::test]
async fn what_other_components_ask_at_their_start_is_answered() {
    let server = Server::start().await;
    for (who, lease) in [
        ("controller-manager", "kube-controller-manager"),
        ("scheduler", "kube-scheduler"),
    ] {
        let asker = Asker(client(Path::new(&server.kubeconfig(&format!("{who}.kubeconfig")))).await);
        assert_eq!(&asker.bytes("/healthz", "*/*").await[..], b"ok");
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let groups: Value = serde_json::from_slice(&asker.bytes("/apis", discovery).await).unwrap();
        assert_eq!(groups["kind"], "APIGroupDiscoveryList");

        // Whom to trust at their own ports, and who comes there.
        let maps = "/api/v1/namespaces/kube-system/configmaps";
        let map = asker
            .ask("GET", &format!("{maps}/extension-apiserver-authentication"), None)
            .await;
        let authority = map["data"]["requestheader-client-ca-file"].as_str().unwrap();
        assert!(authority.contains("BEGIN CERTIFICATE"), "{map}");
        let selected = format!("{maps}?fieldSelector=metadata.name%3Dextension-apiserver-authentication");
        let maps = asker.ask("GET", &selected, None).await;
        assert_eq!(maps["items"].as_array().unwrap().len(), 1);
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "t"}});
        asker
            .ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", Some(review))
            .await;

        // The lease: made, read, renewed; a renewal of what was not read last is refused.
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
        let now = "2026-01-01T00:00:00.000000Z";
        let mine = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": lease, "namespace": "kube-system"},
            "spec": {
                "holderIdentity": "theirs", "leaseDurationSeconds": 60,
                "acquireTime": now, "renewTime": now, "leaseTransitions": 0,
            },
        });
        asker.ask("POST", leases, Some(mine)).await;
        let place = format!("{leases}/{lease}");
        let mut held = asker.ask("GET", &place, None).await;
        held["spec"]["renewTime"] = "2026-01-01T00:00:02.000000Z".into();
        let renewed = asker.ask("PUT", &place, Some(held.clone())).await;
        assert_eq!(renewed["spec"], held["spec"]);
        assert_eq!(asker.send("PUT", &place, PROTOBUF, Some(held)).await.status(), 409);

        // A list as a stream that says where it ends, of whole objects and of metadata.
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
            application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
        for accept in [PROTOBUF, metadata] {
            let watch = "/api/v1/namespaces?watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
                &resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
            let events = asker.bytes(watch, accept).await;
            let text = String::from_utf8_lossy(&events);
            assert!(
                text.contains("kube-system") && text.contains("k8s.io/initial-events-end"),
                "{text}"
            );
        }
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": format!("{lease}.1"), "namespace": "kube-system"},
            "involvedObject": {"kind": "Lease", "namespace": "kube-system", "name": lease},
            "reason": "LeaderElection", "message": "theirs became leader", "type": "Normal",
        });
        asker
            .ask("POST", "/api/v1/namespaces/kube-system/events", Some(event))
            .await;
    }

    // And ours wait for theirs.
    assert_eq!(server.controllers().says("waiting").await, "theirs leads");
    assert_eq!(server.scheduler().says("waiting").await, "theirs leads");
}

/// What the Go client accepts where its component is set to protobuf.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf, */*";

/// Asks as the Go client does.
struct Asker(Client);

impl Asker {
    async fn send(&self, method: &str, path: &str, accept: &str, body: Option<Value>) -> http::Response<Body> {
        let body = body
            .map(|body| coracle_api::protobuf::encode(&body).unwrap())
            .unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("content-type", "application/vnd.kubernetes.protobuf")
            .body(Body::from(body));
        self.0.send(request.unwrap()).await.unwrap()
    }

    async fn bytes(&self, path: &str, accept: &str) -> bytes::Bytes {
        let answer = self.send("GET", path, accept, None).await;
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.into_body().collect_bytes().await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.send(method, path, PROTOBUF, body).await;
        let status = answer.status();
        let body = answer.into_body().collect_bytes().await.unwrap();
        assert!(
            status.is_success(),
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        // The server answers in JSON whom that suits.
        match body.starts_with(b"k8s\0") {
            true => coracle_api::protobuf::decode(&body).unwrap(),
            false => serde_json::from_slice(&body).unwrap(),
        }
    }
}
