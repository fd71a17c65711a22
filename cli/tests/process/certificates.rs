//! A node whose certificates end while it runs: new ones are asked for, kept and used, and what stands in the way is told and
//! overcome. The cluster signs for seconds, because nothing but the system's time makes a certificate end.

use std::{
    collections::HashSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use coracle_link::Validity;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{Event, Pod},
    rbac::v1::ClusterRole,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{AttachParams, ListParams, LogParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, wait::await_condition, watcher},
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{
    PATIENCE, Process, coracle,
    nodes::{Joinable, ip},
    share_compiled,
};

/// How long certificates are good here: a third is left when they are renewed, and six seconds are long for that.
const LIFE: [&str; 2] = ["--cluster-signing-duration", "18s"];

/// What a node keeps, in its data directory.
struct Kept(PathBuf);

impl Kept {
    fn client(&self) -> Validity {
        use base64::Engine as _;
        let kubeconfig = Kubeconfig::read_from(self.0.join("kubeconfig")).unwrap();
        let user = kubeconfig.auth_infos[0].auth_info.as_ref().unwrap();
        let data = user.client_certificate_data.as_ref().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        coracle_link::validity(&String::from_utf8(pem).unwrap()).unwrap()
    }

    fn serving(&self) -> Validity {
        let pem = std::fs::read_to_string(self.0.join("serving.pem")).unwrap();
        assert!(pem.contains("PRIVATE KEY"), "with its key");
        coracle_link::validity(&pem).unwrap()
    }

    /// Waits until another certificate is kept than this one.
    async fn renewed(&self, which: impl Fn(&Self) -> Validity, before: Validity) -> Validity {
        let renewed = async {
            loop {
                let now = which(self);
                if now != before {
                    return now;
                }
                // Another process writes the file: nothing else tells of it.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, renewed)
            .await
            .expect("it is not renewed")
    }

    fn is_private(&self) {
        let mut files = HashSet::new();
        for file in std::fs::read_dir(&self.0).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
            files.insert(file.file_name().into_string().unwrap());
        }
        for file in ["kubeconfig", "serving.pem"] {
            assert!(files.contains(file), "{files:?}");
        }
    }
}

/// Waits until a certificate is over: by the verifiers' clock, and a second later, because its times are whole ones.
async fn ended(certificate: Validity) {
    let over = certificate.until + Duration::from_secs(1);
    tokio::time::sleep(over.duration_since(SystemTime::now()).unwrap_or_default()).await;
}

/// Waits until the node has told the API that it lives, with a request after that time.
async fn lives_after(client: &Client, node: &str, time: SystemTime) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let later = move |lease: Option<&Lease>| {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|renewed| SystemTime::from(renewed.0) > time)
    };
    let wait = await_condition(leases, node, later);
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it is silent")
        .unwrap();
}

fn requests(client: &Client) -> Api<CertificateSigningRequest> {
    Api::all(client.clone())
}

/// Waits for a request for a serving certificate that is none of these, and that nobody has decided about.
async fn asked(client: &Client, known: &HashSet<String>) -> String {
    let mut seen = watcher(requests(client), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    let find = async {
        while let Some(request) = seen.try_next().await.unwrap() {
            let status = request.status.as_ref();
            let open = status.is_none_or(|status| status.conditions.is_none() && status.certificate.is_none());
            if open
                && request.spec.signer_name == "kubernetes.io/kubelet-serving"
                && !known.contains(&request.name_any())
            {
                return request.name_any();
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(PATIENCE, find)
        .await
        .expect("nothing is asked for")
}

async fn decide(client: &Client, name: &str, decision: &str) {
    let condition = json!({"type": decision, "status": "True", "reason": "Test", "message": "not today"});
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    requests(client)
        .patch_subresource("approval", name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Lets nodes have their serving certificates approved by people only.
async fn forbid_serving(client: &Client) {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let mut role = roles.get("coracle:joined-nodes").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        let resources = rule.resources.iter_mut().flatten();
        resources
            .filter(|resource| resource.ends_with("/selfnodeserving"))
            .for_each(|resource| "certificatesigningrequests/nobody".clone_into(resource));
    }
    roles
        .replace(&role.name_any(), &Default::default(), &role)
        .await
        .unwrap();
}

/// What the node is told to have failed at, and how often.
async fn events(client: &Client) -> Vec<(String, i32)> {
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let of_node = "involvedObject.kind=Node,involvedObject.name=worker,reason=CertificateNotRenewed";
    let found = events.list(&ListParams::default().fields(of_node)).await.unwrap();
    let told = found.into_iter();
    told.map(|event| (event.message.unwrap_or_default(), event.count.unwrap_or_default()))
        .collect()
}

/// The pods, by a client that asks once: the usual one asks again where a node cannot be reached.
async fn impatient(up: &Path) -> Api<Pod> {
    let kubeconfig = Kubeconfig::read_from(up.join("kubeconfig")).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap();
    config.default_retry = false;
    Api::namespaced(Client::try_from(config).unwrap(), "default")
}

fn worker(args: &[&str], dir: &Path) -> Process {
    let mut command = coracle(args);
    command.args([
        "--data-dir",
        dir.to_str().unwrap(),
        "--node-name",
        "worker",
        "--listen",
        "127.0.0.1:0",
    ]);
    command
        .env("CORACLE_LOG", "warn,coracle_link=info,coracle=info")
        .env("NO_COLOR", "1");
    Process::of(command)
}

async fn fetches(cluster: &Joinable, from: &str, to: &Pod) {
    let name = to.name_any();
    // After a restart either side learns of the other by a watch of its own.
    let script = format!("until wget -T 5 -qO- http://{}:8080/; do sleep 0.1; done", ip(to));
    let got = cluster.exec(from, &["sh", "-c", &script]).await;
    assert!(got.contains(&format!("Hello from {name}")), "{from}: {got}");
}

#[tokio::test]
async fn a_node_goes_on_when_its_certificates_end() {
    let (up, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut cluster = Joinable::start_with(up.path(), &LIFE).await;
    share_compiled(work.path());
    let mut node = worker(&cluster.join(), work.path());
    node.says("ready").await;
    cluster.ready("worker").await;
    let kept = Kept(work.path().join("node"));
    let first = [kept.client(), kept.serving()];
    let there = cluster.run("there", "hello", "worker").await;
    let here = cluster.run("here", "hello", "coracle-1").await;
    // Begun while the first certificates are good: the first link, and a program that goes on.
    fetches(&cluster, "here", &there).await;
    node.complains("linked: the node has dialled").await;
    let attach = AttachParams::default().stdin(true).stderr(false);
    let mut cat = cluster.pods().exec("there", ["cat"], &attach).await.unwrap();
    let mut echo = BufReader::new(cat.stdout().unwrap());
    let mut typed = cat.stdin().unwrap();

    // Others are there before the end, and used after it: by the client towards the API, for which an ended certificate
    // proves nothing on a connection that stands either; by the node's port; and what had begun goes on.
    let client = kept.renewed(Kept::client, first[0]).await;
    let serving = kept.renewed(Kept::serving, first[1]).await;
    let last = first[0].until.max(first[1].until);
    assert!(client.from < first[0].until && serving.from < first[1].until);
    kept.is_private();
    for certificate in first {
        ended(certificate).await;
    }
    lives_after(&cluster.client, "worker", last).await;
    let log = cluster.pods().logs("there", &LogParams::default()).await.unwrap();
    assert!(log.contains("hello: listening on"), "{log}");
    typed.write_all(b"still here\n").await.unwrap();
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, echo.read_line(&mut line));
    read.await.unwrap().unwrap();
    assert_eq!(line, "still here\n");
    drop(typed);
    fetches(&cluster, "here", &there).await;
    fetches(&cluster, "there", &here).await;

    // Connections that break are made again with the new ones: to the API, and to another node, dialled by this one.
    kept.renewed(Kept::client, kept.client()).await;
    cluster.restart(up.path(), &LIFE).await;
    let again = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.is_some_and(|all| all[0].ready && all[0].restart_count == 1)
    };
    let wait = await_condition(cluster.pods(), "here", again);
    let here = tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    fetches(&cluster, "there", &here).await;
    node.complains("linked node=coracle-1").await;
    lives_after(&cluster.client, "worker", SystemTime::now()).await;

    // Nobody decides, then somebody refuses, then a person approves: the client's own certificate is renewed all the while.
    forbid_serving(&cluster.client).await;
    let mut known = HashSet::new();
    known.insert(asked(&cluster.client, &known).await);
    node.complains("nobody has decided about the request").await;
    let second = asked(&cluster.client, &known).await;
    decide(&cluster.client, &second, "Denied").await;
    known.insert(second);
    node.complains("was refused: not today").await;
    let told = events(&cluster.client).await;
    assert!(
        told.iter()
            .any(|(message, _)| message.contains("serving certificate of this node cannot be renewed")),
        "{told:?}"
    );
    let before = kept.serving();
    ended(before).await;
    lives_after(&cluster.client, "worker", before.until).await;
    let refused = impatient(up.path()).await.logs("there", &LogParams::default()).await;
    let refused = refused.expect_err("a certificate that has ended is taken").to_string();
    assert!(refused.contains("certificate expired"), "{refused}");
    loop {
        let next = asked(&cluster.client, &known).await;
        decide(&cluster.client, &next, "Approved").await;
        known.insert(next);
        let renewed = kept.renewed(Kept::serving, before);
        // A request that the node had just given up on is signed for nobody.
        if tokio::time::timeout(Duration::from_secs(2), renewed).await.is_ok() {
            break;
        }
    }
    cluster.pods().logs("there", &LogParams::default()).await.unwrap();

    // Started again it needs no token, and is the node that it was.
    assert!(node.end("TERM").await.success());
    let mut node = worker(&["node"], work.path());
    node.says("ready").await;
    let wait = await_condition(cluster.pods(), "there", again);
    let there = tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    fetches(&cluster, "here", &there).await;
    node.complains("linked: the node has dialled").await;
}
