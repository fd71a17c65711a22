//! The cluster's scene: a neighbour, what must not be touched, and the guests that are run one after the other.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::{ContainerState, Pod, Secret, Service};
use kube::{
    Api, Client,
    api::{DeleteParams, LogParams},
    runtime::wait::{Condition, await_condition, conditions},
};
use serde::Serialize;
use serde_json::json;

use super::gauge::Target;
use crate::{args::FuzzArgs, cluster::Cluster, manifest};

/// What the generated guests are, in turn.
const KINDS: [&str; 8] = ["io", "files", "sockets", "http", "processes", "all", "spin", "hog"];

/// Steps of a generated guest: some seconds of the slowest ones.
const STEPS: u64 = 3000;

/// How long one guest may run before it is ended from outside. One that counts instructions ends by itself unless it waits.
const ROUND: Duration = Duration::from_secs(10);

/// How long the cluster may take for what it has to do: start a pod, whose program may have to be compiled, or end one.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the neighbour gets another port, where nobody listens on the one that it has after so long.
const PORTS: usize = 5;
const LISTENING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of a guest's log that its digest is of.
const LOG_BYTES: i64 = 1 << 20;

/// What nobody is to change or read.
const CANARY: &str = "the canary sings";

/// The neighbour, and a Secret of somebody else.
const OTHERS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: others}
---
apiVersion: v1
kind: Secret
metadata: {name: canary, namespace: others}
stringData: {canary: the canary sings}
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: others, labels: {app: neighbour}}
spec:
  containers:
  - name: web
    image: web
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: neighbour, namespace: others}
spec:
  type: NodePort
  selector: {app: neighbour}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// The programs that are run.
pub struct Guests {
    image: String,
    /// The user's arguments; none where the program is our own.
    args: Option<Vec<String>>,
    memory: String,
    cpu: String,
    fuel: String,
}

impl Guests {
    /// Finds the program, or writes our own to where a pod can name it.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn prepare(args: &FuzzArgs, data: &Path) -> anyhow::Result<Self> {
        let path = match &args.component {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("cannot read {}", path.display()))?,
            None => own(data)?,
        };
        let path = path.to_str().context("the path of the component is not UTF-8")?;
        Ok(Self {
            image: format!("file://{path}"),
            args: args.component.is_some().then(|| args.args.clone()),
            memory: args.memory.text.clone(),
            cpu: args.cpu.clone(),
            fuel: args.fuel.clone(),
        })
    }

    /// What is run with this number.
    pub fn name(&self, seed: u64) -> String {
        match self.args {
            Some(_) => "component".to_owned(),
            None => kind(seed).to_owned(),
        }
    }

    fn args(&self, seed: u64) -> Vec<String> {
        match &self.args {
            Some(args) => args.clone(),
            None if matches!(kind(seed), "spin" | "hog") => vec![kind(seed).to_owned()],
            None => vec![
                kind(seed).to_owned(),
                "seed".to_owned(),
                seed.to_string(),
                STEPS.to_string(),
            ],
        }
    }

    /// A pod of one guest. Its clocks and its randomness come from the number, its CPU is counted in instructions.
    fn pod(&self, seed: u64) -> anyhow::Result<Pod> {
        let limits = json!({
            "memory": self.memory,
            "cpu": self.cpu,
            "coracle.dev/fuel": self.fuel,
            "ephemeral-storage": "16Mi",
        });
        Ok(serde_json::from_value(json!({
            "metadata": {"name": pod_name(seed), "annotations": {"coracle.dev/seed": seed.to_string()}},
            "spec": {
                "restartPolicy": "Never",
                "runtimeClassName": "coracle-fuel",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "guest",
                    "image": self.image,
                    "imagePullPolicy": "Never",
                    "command": ["guest"],
                    "args": self.args(seed),
                    "env": [{"name": "CORACLE_SEED", "value": seed.to_string()}],
                    "resources": {"limits": limits},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "16Mi"}}],
            },
        }))?)
    }
}

fn kind(seed: u64) -> &'static str {
    let kinds = u64::try_from(KINDS.len()).unwrap_or(1);
    let at = usize::try_from(seed % kinds).unwrap_or_default();
    KINDS.get(at).copied().unwrap_or("all")
}

fn pod_name(seed: u64) -> String {
    format!("guest-{seed}")
}

fn own(data: &Path) -> anyhow::Result<PathBuf> {
    let path = data.join("driver.wasm");
    std::fs::write(&path, coracle_images::driver()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// How a guest ended.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The word of Kubernetes for it; `Running` where it had to be ended from outside.
    pub reason: String,
    /// Its exit code, where it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What the node says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// SHA-256 of the first mebibyte of what it wrote.
    pub log_digest: String,
    /// From its creation to its end.
    pub seconds: f64,
    /// What kept it from going away.
    #[serde(skip)]
    pub stuck: Option<String>,
}

impl Ended {
    /// In a few words.
    #[must_use]
    pub fn words(&self) -> String {
        match self.exit_code {
            Some(code) => format!("{} ({code})", self.reason),
            None => self.reason.clone(),
        }
    }
}

/// The cluster with all that stands still in it.
pub struct Scene {
    client: Client,
    /// Who is asked meanwhile.
    pub target: Target,
    secret: Secret,
    canary: PathBuf,
}

impl Scene {
    /// Starts the neighbour, and puts down what must not be touched.
    ///
    /// # Errors
    /// When the cluster does not do it.
    pub async fn set(cluster: &Cluster, outside: Client, patience: Duration) -> anyhow::Result<Self> {
        let client = cluster.client();
        manifest::apply(&client, &manifest::parse(OTHERS)?).await?;
        let (pods, services) = (
            Api::<Pod>::namespaced(client.clone(), "others"),
            Api::<Service>::namespaced(client.clone(), "others"),
        );
        let ready = |pod: Option<&Pod>| pod.is_some_and(is_ready);
        wait("the neighbour to be ready", pods, "neighbour", ready).await?;
        let mut neighbour = port(&services).await?;
        for _ in 1..PORTS {
            if answers(neighbour).await {
                break;
            }
            // Somebody else of this machine has that port.
            services.delete("neighbour", &DeleteParams::default()).await?;
            manifest::apply(&client, &manifest::parse(OTHERS)?).await?;
            neighbour = port(&services).await?;
        }
        let canary = cluster.data().join("canary");
        std::fs::write(&canary, CANARY)?;
        Ok(Self {
            target: Target {
                neighbour,
                api: outside,
                patience,
            },
            secret: Api::namespaced(client.clone(), "others").get("canary").await?,
            client,
            canary,
        })
    }

    /// Runs the program once, so that it is compiled: what that takes is not the guest's doing.
    ///
    /// # Errors
    /// When it cannot run at all.
    pub async fn warm_up(&self, guests: &Guests) -> anyhow::Result<()> {
        self.run(guests, u64::MAX).await.map(drop)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Runs one guest to its end, and sees to it that nothing of it is left.
    ///
    /// # Errors
    /// When it cannot run at all, which is no finding.
    pub async fn run(&self, guests: &Guests, seed: u64) -> anyhow::Result<Ended> {
        let (pods, name, begin) = (self.pods(), pod_name(seed), Instant::now());
        pods.create(&kube::api::PostParams::default(), &guests.pod(seed)?)
            .await?;
        let begun = |pod: Option<&Pod>| pod.is_none_or(|pod| refusal(pod).is_some() || started(pod));
        let pod = match wait("a guest to start", pods.clone(), &name, begun).await {
            Ok(pod) => pod,
            Err(error) => {
                let unscheduled = pods.get_opt(&name).await?.as_ref().and_then(unscheduled);
                return Err(unscheduled.map_or(error, |why| anyhow!("the component cannot run: {why}")));
            }
        };
        if let Some(why) = pod.as_ref().and_then(refusal) {
            bail!("the component cannot run: {why}");
        }
        let over = |pod: Option<&Pod>| pod.is_none_or(is_over);
        let ended = tokio::time::timeout(ROUND, await_condition(pods.clone(), &name, over)).await;
        let pod = pods.get_opt(&name).await?;
        let mut told = pod.as_ref().map(told).unwrap_or_default();
        told.seconds = begin.elapsed().as_secs_f64();
        if let Ok(ended) = ended {
            ended?;
            told.log_digest = digest(&self.log(&name).await?);
        }
        told.stuck = self.remove(&name).await.err().map(|error| format!("{error:#}"));
        Ok(told)
    }

    /// What it wrote, which may be no text.
    async fn log(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let params = LogParams {
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let mut log = Vec::new();
        let mut stream = self.pods().log_stream(name, &params).await?;
        stream.read_to_end(&mut log).await?;
        Ok(log)
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let pods = self.pods();
        let Some(uid) = pods.get_opt(name).await?.and_then(|pod| pod.metadata.uid) else {
            return Ok(());
        };
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        wait("the guest to be gone", pods, name, conditions::is_deleted(&uid)).await?;
        Ok(())
    }

    /// Whether all that must not be touched is as it was; what is not.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn look(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        let neighbour = Api::<Pod>::namespaced(self.client.clone(), "others")
            .get_opt("neighbour")
            .await?;
        if !neighbour
            .as_ref()
            .is_some_and(|pod| is_ready(pod) && restarts(pod) == 0)
        {
            found.push("the neighbour is not as it was".to_owned());
        }
        let secret = Api::<Secret>::namespaced(self.client.clone(), "others")
            .get_opt("canary")
            .await?;
        if secret.as_ref() != Some(&self.secret) {
            found.push("another namespace's Secret is not as it was".to_owned());
        }
        if !std::fs::read_to_string(&self.canary).is_ok_and(|text| text == CANARY) {
            found.push("a file in the data directory is not as it was".to_owned());
        }
        Ok(found)
    }
}

/// Where the neighbour is to be reached from this machine.
async fn port(services: &Api<Service>) -> anyhow::Result<SocketAddr> {
    let service = services.get("neighbour").await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports.first().and_then(|port| port.node_port);
    let port = port.context("the neighbour has no node port")?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?)))
}

/// Whether somebody listens there soon.
async fn answers(address: SocketAddr) -> bool {
    let connected = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            // Nothing tells of a port that somebody begins to listen on.
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(LISTENING, connected).await.is_ok()
}

fn statuses(pod: &Pod) -> &[k8s_openapi::api::core::v1::ContainerStatus] {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref());
    statuses.unwrap_or_default()
}

fn state(pod: &Pod) -> Option<&ContainerState> {
    statuses(pod).first()?.state.as_ref()
}

fn is_ready(pod: &Pod) -> bool {
    statuses(pod).first().is_some_and(|status| status.ready)
}

fn restarts(pod: &Pod) -> i32 {
    statuses(pod).iter().map(|status| status.restart_count).sum()
}

fn started(pod: &Pod) -> bool {
    state(pod).is_some_and(|state| state.running.is_some() || state.terminated.is_some()) || is_over(pod)
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Why a pod does not start, where it never will.
fn refusal(pod: &Pod) -> Option<String> {
    let waiting = state(pod)?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let never = reason != "ContainerCreating" && reason != "PodInitializing";
    never.then(|| waiting.message.clone().unwrap_or_else(|| reason.to_owned()))
}

/// Why the pod has no node, where it has none.
fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    scheduled.message.clone().filter(|_| scheduled.status == "False")
}

/// How a guest ended, as its pod tells it.
fn told(pod: &Pod) -> Ended {
    let Some(terminated) = state(pod).and_then(|state| state.terminated.as_ref()) else {
        let status = pod.status.as_ref();
        let reason = status.and_then(|status| status.reason.clone().or_else(|| status.phase.clone()));
        return Ended {
            reason: reason.unwrap_or_default(),
            ..Ended::default()
        };
    };
    Ended {
        reason: terminated.reason.clone().unwrap_or_default(),
        exit_code: Some(terminated.exit_code),
        message: terminated.message.clone(),
        ..Ended::default()
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn wait(what: &str, pods: Api<Pod>, name: &str, state: impl Condition<Pod>) -> anyhow::Result<Option<Pod>> {
    let seconds = PATIENCE.as_secs();
    let waited = tokio::time::timeout(PATIENCE, await_condition(pods, name, state)).await;
    Ok(waited.with_context(|| format!("waited {seconds} s for {what}"))??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn pod(state: &Value) -> Pod {
        let status = json!({"containerStatuses": [{"name": "guest", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
        serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
    }

    #[test]
    fn what_never_starts_is_told_from_what_has_not_started_yet() {
        let waiting = |reason: &str| pod(&json!({"waiting": {"reason": reason, "message": "because"}}));
        assert_eq!(refusal(&waiting("ContainerCreating")), None);
        assert_eq!(refusal(&waiting("CreateContainerError")).as_deref(), Some("because"));
        let ended = pod(&json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
        assert!(started(&ended) && refusal(&ended).is_none());
        assert_eq!(told(&ended).words(), "OOMKilled (137)");
    }

    #[test]
    fn every_kind_has_its_turn() {
        let kinds: Vec<_> = (0..8).map(kind).collect();
        assert_eq!(kinds, KINDS);
        assert_eq!(kind(8), KINDS[0]);
    }
}
