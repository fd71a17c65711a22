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
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

/// A node of another machine has nothing else to get its pod network from.
#[tokio::test]
async fn the_controllers_as_the_server_says_to_start_them_give_nodes_their_networks() {
    let mut server = Server::start().await;
    create_node(&server.client).await;
    let command = server.process.says("controllers").await;
    let args: Vec<&str> = command.split_whitespace().skip(1).collect();
    let mut controllers = Process::start(&args);
    controllers.says("leading").await;
    let networked = |node: Option<&Node>| {
        let spec = node.and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.pod_cidr.as_deref()) == Some("10.0.0.0/24")
    };
    wait(Api::all(server.client.clone()), "board", networked).await;
    assert!(controllers.end("TERM").await.success());
}

/// Each of the two does its part only, and neither waits for the lease of another program.
#[tokio::test]
async fn chosen_controllers_do_their_part_beside_those_of_others() {
    let server = Server::start().await;
    let leases: Api<Lease> = Api::namespaced(server.client.clone(), "kube-system");
    let now = "2026-01-01T00:00:00.000000Z";
    create::<Lease>(
        &leases,
        json!({
            "metadata": {"name": "kube-controller-manager"},
            "spec": {"holderIdentity": "theirs", "leaseDurationSeconds": 60, "acquireTime": now, "renewTime": now},
        }),
    )
    .await;
    let kubeconfig = server.kubeconfig("controller-manager.kubeconfig");
    let start = |chosen: &str| {
        let chosen = format!("--controllers={chosen}");
        Process::start(&[
            "controllers",
            "--kubeconfig",
            &kubeconfig,
            "--leader-elect=false",
            &chosen,
        ])
    };
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()});
    create::<Deployment>(
        &server.all(),
        json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }),
    )
    .await;
    create::<ReplicaSet>(
        &server.all(),
        json!({
            "metadata": {"name": "alone"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }),
    )
    .await;
    let status = |set: Option<&ReplicaSet>| set.and_then(|set| set.status.as_ref()?.fully_labeled_replicas);
    let selected = ListParams::default().labels("app=web");

    // All but one: pods of the ReplicaSet that a user wrote, and none of the Deployment.
    let mut sets = start("*,-deployment-controller");
    wait(server.all::<ReplicaSet>(), "alone", |set| status(set) == Some(1)).await;
    assert_eq!(server.all::<Pod>().list(&selected).await.unwrap().items.len(), 1);
    assert!(sets.end("TERM").await.success());

    // That one: a ReplicaSet of the Deployment, of which nobody makes pods.
    let mut deployments = start("deployment-controller");
    let created = |web: Option<&Deployment>| {
        let conditions = web.and_then(|web| web.status.as_ref()?.conditions.as_ref());
        let mut reasons = conditions
            .into_iter()
            .flatten()
            .filter_map(|condition| condition.reason.as_deref());
        reasons.any(|reason| reason == "NewReplicaSetCreated")
    };
    wait(server.all::<Deployment>(), "web", created).await;
    let made = server.all::<ReplicaSet>().list(&selected).await.unwrap().items;
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(status(made.first()), None);
    assert!(deployments.end("TERM").await.success());
    assert_eq!(
        server.lease("kube-controller-manager").await.holder_identity.as_deref(),
        Some("theirs")
    );
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
        ("--controllers=*,-frob", "there is no controller \"frob\""),
    ] {
        let mut refused = Process::start(&["controllers", "--kubeconfig", &kubeconfig, flag]);
        let message = refused.complains("error").await;
        assert!(message.contains(part), "{message}");
        assert_eq!(refused.ended().await.code(), Some(1));
    }
}

/// A server that only says how old it is.
#[tokio::test]
async fn jobs_are_not_run_on_a_server_that_cannot_count_their_pods() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let version = json!({
        "major": "1", "minor": "20", "gitVersion": "v1.20.2", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    let body = version.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    let answer = format!("{head}\r\nconnection: close\r\n\r\n{body}");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        // The rest of what was asked is read to its end, that nothing of the answer is lost.
        while stream.read(&mut asked).await.unwrap_or_default() > 0 {}
    });
    let data = tempfile::tempdir().unwrap();
    let kubeconfig = data.path().join("kubeconfig");
    let entries = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "old",
        "contexts": [{"name": "old", "context": {"cluster": "old", "user": "me"}}],
        "clusters": [{"name": "old", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "me", "user": {}}],
    });
    std::fs::write(&kubeconfig, entries.to_string()).unwrap();
    let mut refused = Process::start(&["controllers", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!(refused.says("version").await, "v1.20.2");
    assert_eq!(
        refused.complains("error").await,
        "error: the server is 1.20: job-controller needs 1.26; leave it out with --controllers='*,-job-controller'"
    );
    assert_eq!(refused.ended().await.code(), Some(1));
    served.await.unwrap();
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
