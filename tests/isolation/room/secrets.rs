//! What must be nowhere: a Secret's words in logs, events, errors and on disk for others to read; the host's environment in a pod.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use coracle::cluster::ClusterConfig;
use coracle::data_dir::DataDir;
use coracle_isolation::world::{ended, waits};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use tracing_subscriber::fmt::MakeWriter;

use crate::canary::WORDS;

/// All that this process says, at the level that says most.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

const OBJECTS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: treasure}
stringData: {words: the-canary-sings}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{\"auths\": {\"127.0.0.1:1\": {\"username\": \"u\", \"password\": \"the-canary-sings\"}}}'}
---
apiVersion: v1
kind: Pod
metadata: {name: holder}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: hostile
    args: [deep-calls]
    env: [{name: TREASURE, valueFrom: {secretKeyRef: {name: treasure, key: words}}}]
    volumeMounts: [{name: treasure, mountPath: /treasure}]
  volumes: [{name: treasure, secret: {secretName: treasure}}]
---
apiVersion: v1
kind: Pod
metadata: {name: lacking}
spec:
  containers:
  - {name: main, image: hostile, args: [spin], env: [{name: T, valueFrom: {secretKeyRef: {name: treasure, key: other}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pulls}
spec:
  imagePullSecrets: [{name: login}]
  containers: [{name: main, image: '127.0.0.1:1/app:v1'}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_said_nowhere() {
    let _alone = crate::alone().await;
    let said = Said::default();
    // Of libraries only what they say to everybody: at their lowest level they show the bytes of connections.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("info,coracle=trace,coracle_agent=trace,coracle_server=trace,coracle_runtime=trace,coracle_images=trace,coracle_controllers=trace,coracle_store=trace,coracle_scheduler=trace,coracle_net=trace,coracle_edge=trace")
        .with_ansi(false)
        .with_writer(said.clone())
        .finish();
    // Another test of this process may have set one: then there is none here to look at.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut config = ClusterConfig::new(DataDir::open(&data.path().join("data")).unwrap());
    let audit = data.path().join("audit.log");
    config.audit_log = Some(audit.clone());
    let world = crate::world_with(config).await;
    world.apply(OBJECTS).await;
    world.pod("holder", ended).await;
    world
        .pod("lacking", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason == "CreateContainerConfigError")
        })
        .await;
    world
        .pod("pulls", |pod| {
            waits(pod).is_some_and(|(reason, _)| reason.contains("Image"))
        })
        .await;
    let secrets = world.all::<Secret>();
    // Refused, with the words in the body.
    let wrong = [
        serde_json::json!({"data": {"words": "the-canary-sings!"}}),
        serde_json::json!({"stringData": {"words": {"nested": WORDS}}}),
        serde_json::json!({"type": "kubernetes.io/tls", "stringData": {"words": WORDS}}),
    ];
    let mut shown = Vec::new();
    for patch in wrong {
        let refused = secrets
            .patch("treasure", &PatchParams::default(), &Patch::Merge(patch))
            .await;
        shown.push(refused.unwrap_err().to_string());
    }
    shown.extend(world.events().await);
    for pod in world.all::<Pod>().list(&ListParams::default()).await.unwrap() {
        shown.push(serde_json::to_string(&pod).unwrap());
    }
    shown.push(world.log("holder", "main").await);
    shown.push(fs::read_to_string(&audit).unwrap());
    let encoded = "dGhlLWNhbmFyeS1zaW5ncw";
    let sings = |text: &str| text.contains(WORDS) || text.contains(encoded);
    let heard: Vec<_> = shown.iter().filter(|text| sings(text)).collect();
    assert!(heard.is_empty(), "{heard:#?}");
    let all = String::from_utf8_lossy(&said.0.lock().unwrap()).into_owned();
    assert!(all.contains("coracle"), "nothing was said at all");
    let own: Vec<_> = all.lines().filter(|line| sings(line)).collect();
    assert!(own.is_empty(), "{own:#?}");

    // What lies on the disk is the user's alone: nobody else gets into the directory, and keys are closed once more.
    let dir = world.cluster.data().path();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir), 0o700);
    assert_eq!(mode(&dir.join("kubeconfig")), 0o600);
    let keys: Vec<_> = fs::read_dir(dir.join("pki"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(keys.len() > 1);
    for key in keys
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
    {
        assert_eq!(mode(key), 0o600, "{}", key.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_environment_stays_with_the_host() {
    let _alone = crate::alone().await;
    let world = crate::world().await;
    let values: Vec<String> = std::env::vars()
        .map(|(_, value)| value)
        // Short ones may be a pod's own by chance.
        .filter(|value| value.len() > 8)
        .collect();
    assert!(!values.is_empty());
    let args: Vec<&str> = ["environment"]
        .into_iter()
        .chain(values.iter().map(String::as_str))
        .collect();
    assert_eq!(world.output("looks", "hostile", &args).await, "looked\n");
}
