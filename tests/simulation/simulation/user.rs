//! What the users of the cluster do: everything that brings controllers to work, at random.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::Method;
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    laws::{self, text},
    parts::Parts,
    server::House,
};

/// The namespaces in which users work.
pub const NAMESPACES: [&str; 2] = ["one", "two"];
/// The names of their CronJobs.
pub const CRON_JOBS: [&str; 2] = ["tick-0", "tick-1"];

/// A user with a client.
pub struct User {
    client: kube::Client,
    house: Arc<House>,
}

/// One of several, at random.
pub fn pick<'a, T>(draws: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    (!from.is_empty()).then(|| &from[draws.random_range(0..from.len())])
}

impl User {
    pub fn new(parts: &Parts) -> Self {
        let groups = &["system:masters"];
        Self {
            client: parts.client("user", "user", groups, Duration::ZERO, CancellationToken::new()),
            house: parts.house.clone(),
        }
    }

    /// Asks for something, and tells what was answered.
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, kube::Error> {
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content);
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.client.request(request.body(body).unwrap()).await
    }

    /// Does it for sure, for there are no more faults.
    pub async fn insist(&self, method: Method, path: &str, body: Value) {
        for _ in 0..20 {
            match self.ask(method.clone(), path, body.clone()).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
        self.house
            .ledger
            .breaks(format!("{method} {path} does not succeed without faults"));
    }

    async fn create(&self, place: &str, body: Value) {
        // What fails by a fault was not done; the laws look at what is.
        let _ = self.ask(Method::POST, place, body).await;
    }

    pub async fn make_namespace(&self, name: &str) {
        self.create(
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }

    /// Does something, and says what.
    pub async fn act(&self, draws: &mut StdRng) {
        let namespace = NAMESPACES[draws.random_range(0..NAMESPACES.len())];
        let what = draws.random_range(0..124);
        match what {
            0..16 => self.make_deployment(namespace, draws).await,
            16..24 => self.make_stateful_set(namespace, draws).await,
            24..28 => self.make_daemon_set(namespace, draws).await,
            28..35 => self.make_job(namespace, draws).await,
            35..40 => self.make_service(namespace, draws).await,
            40..46 => self.make_budget(namespace, draws).await,
            46..60 => self.scale(draws).await,
            60..74 => self.roll(draws).await,
            74..82 => self.delete(draws).await,
            82..88 => self.delete_pod(draws).await,
            88..95 => self.drain(draws).await,
            95..97 => self.delete_namespace(namespace).await,
            100..104 => self.make_cron_job(namespace, draws).await,
            104..106 => self.suspend(draws).await,
            106..114 => self.autoscale(draws).await,
            114..124 => self.load(draws),
            _ => self.limit(namespace, draws).await,
        }
    }

    fn step(&self, step: String) {
        self.house.ledger.step(step);
    }

    async fn make_deployment(&self, namespace: &str, draws: &mut StdRng) {
        let name = format!("web-{}", draws.random_range(0..3));
        let replicas = draws.random_range(0..7);
        let amounts = [json!(0), json!(1), json!(2), json!("25%"), json!("50%")];
        let (surge, away) = (draws.random_range(0..5), draws.random_range(0..5));
        let strategy = if draws.random_ratio(1, 5) {
            json!({"type": "Recreate"})
        } else {
            // Neither may be zero together with the other.
            let surge = if away == 0 && surge == 0 { 1 } else { surge };
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": amounts[surge], "maxUnavailable": amounts[away]}})
        };
        let ready_seconds = if draws.random_ratio(1, 4) { 5 } else { 0 };
        self.step(format!("deployment {namespace}/{name} of {replicas}, {strategy}"));
        let body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
            "replicas": replicas, "strategy": strategy, "minReadySeconds": ready_seconds,
            "selector": {"matchLabels": {"app": name}}, "template": template(&name, "Always", draws)}});
        self.create(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), body)
            .await;
    }

    async fn make_stateful_set(&self, namespace: &str, draws: &mut StdRng) {
        let name = format!("db-{}", draws.random_range(0..2));
        let replicas = draws.random_range(0..5);
        let policy = if draws.random() { "OrderedReady" } else { "Parallel" };
        self.step(format!("stateful set {namespace}/{name} of {replicas}, {policy}"));
        let mut spec = json!({"replicas": replicas, "serviceName": name, "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": name}}, "template": template(&name, "Always", draws)});
        if draws.random_ratio(1, 3) {
            let keep = ["Retain", "Delete"];
            let (scaled, deleted) = (keep[draws.random_range(0..2)], keep[draws.random_range(0..2)]);
            self.step(format!("with claims, {scaled} when scaled, {deleted} when deleted"));
            spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": scaled, "whenDeleted": deleted});
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        }
        let body = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec});
        self.create(&format!("/apis/apps/v1/namespaces/{namespace}/statefulsets"), body)
            .await;
    }

    async fn make_daemon_set(&self, namespace: &str, draws: &mut StdRng) {
        let name = "agent";
        let mut template = template(name, "Always", draws);
        template["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m".into();
        self.step(format!("daemon set {namespace}/{name}"));
        let body = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": {
            "selector": {"matchLabels": {"app": name}}, "template": template}});
        self.create(&format!("/apis/apps/v1/namespaces/{namespace}/daemonsets"), body)
            .await;
    }

    async fn make_job(&self, namespace: &str, draws: &mut StdRng) {
        let name = format!("job-{}", draws.random_range(0..4));
        let (completions, parallelism) = (draws.random_range(1..7), draws.random_range(1..4));
        let mode = if draws.random() { "Indexed" } else { "NonIndexed" };
        let mut template = template(&name, "Never", draws);
        template["spec"]["containers"][0]["image"] = "task".into();
        self.step(format!(
            "job {namespace}/{name} of {completions} by {parallelism}, {mode}"
        ));
        let mut spec = json!({"completions": completions, "parallelism": parallelism, "completionMode": mode, "template": template});
        if draws.random_ratio(1, 3) {
            spec["ttlSecondsAfterFinished"] = 20.into();
        }
        let body = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec});
        self.create(&format!("/apis/batch/v1/namespaces/{namespace}/jobs"), body)
            .await;
    }

    async fn make_cron_job(&self, namespace: &str, draws: &mut StdRng) {
        let name = CRON_JOBS[draws.random_range(0..CRON_JOBS.len())];
        let policy = ["Allow", "Forbid", "Replace"][draws.random_range(0..3)];
        let mut template = template(name, "Never", draws);
        template["spec"]["containers"][0]["image"] = "task".into();
        self.step(format!("cron job {namespace}/{name}, {policy}"));
        let mut spec = json!({"schedule": "* * * * *", "concurrencyPolicy": policy,
            "jobTemplate": {"spec": {"template": template}}});
        if draws.random_ratio(1, 3) {
            spec["startingDeadlineSeconds"] = 30.into();
        }
        let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec});
        self.create(&format!("/apis/batch/v1/namespaces/{namespace}/cronjobs"), body)
            .await;
    }

    async fn suspend(&self, draws: &mut StdRng) {
        let Some(path) = self.some(&["cronjobs.batch"], draws) else {
            return;
        };
        let suspended: bool = draws.random();
        self.step(format!("suspend {path}: {suspended}"));
        let _ = self
            .ask(Method::PATCH, &path, json!({"spec": {"suspend": suspended}}))
            .await;
    }

    async fn autoscale(&self, draws: &mut StdRng) {
        let Some((_, namespace, name)) = self.choose(&["deployments.apps"], draws) else {
            return;
        };
        let least = draws.random_range(1..3);
        let most = least + draws.random_range(0..6);
        let percent = [50, 80][draws.random_range(0..2)];
        self.step(format!(
            "autoscaler of {namespace}/{name}, {least} to {most} at {percent} %"
        ));
        let mut spec = json!({"minReplicas": least, "maxReplicas": most,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}]});
        if draws.random_ratio(1, 3) {
            spec["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 30,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}});
        }
        let body = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": spec});
        self.create(
            &format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"),
            body,
        )
        .await;
    }

    /// The pods of an app get more or less to do.
    fn load(&self, draws: &mut StdRng) {
        let Some((_, namespace, app)) = self.choose(&["deployments.apps"], draws) else {
            return;
        };
        let millis = [0, 150, 600, 2_000, 8_000][draws.random_range(0..5)];
        self.step(format!("the load of {namespace}/{app} is {millis}m"));
        self.house.loads.set(&namespace, &app, millis);
    }

    async fn make_service(&self, namespace: &str, draws: &mut StdRng) {
        let name = format!("web-{}", draws.random_range(0..3));
        self.step(format!("service {namespace}/{name}"));
        let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
        self.create(&format!("/api/v1/namespaces/{namespace}/services"), body)
            .await;
    }

    async fn make_budget(&self, namespace: &str, draws: &mut StdRng) {
        let name = ["web-0", "web-1", "web-2", "db-0", "db-1"][draws.random_range(0..5)];
        let amounts = [json!(1), json!(2), json!("50%")];
        let amount = &amounts[draws.random_range(0..3)];
        let kind = if draws.random() {
            "minAvailable"
        } else {
            "maxUnavailable"
        };
        self.step(format!("budget {namespace}/{name}, {kind} {amount}"));
        let body = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, kind: amount}});
        self.create(
            &format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"),
            body,
        )
        .await;
    }

    async fn limit(&self, namespace: &str, draws: &mut StdRng) {
        let pods = draws.random_range(2..12);
        self.step(format!("quota of {pods} pods in {namespace}"));
        let body = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"},
            "spec": {"hard": {"pods": pods.to_string()}}});
        self.create(&format!("/api/v1/namespaces/{namespace}/resourcequotas"), body)
            .await;
    }

    async fn scale(&self, draws: &mut StdRng) {
        let Some(path) = self.some(&["deployments.apps", "statefulsets.apps"], draws) else {
            return;
        };
        let replicas = draws.random_range(0..8);
        self.step(format!("scale {path} to {replicas}"));
        let _ = self
            .ask(
                Method::PATCH,
                &format!("{path}/scale"),
                json!({"spec": {"replicas": replicas}}),
            )
            .await;
    }

    async fn roll(&self, draws: &mut StdRng) {
        let Some(path) = self.some(&["deployments.apps", "statefulsets.apps", "daemonsets.apps"], draws) else {
            return;
        };
        let version = draws.random_range(0..4);
        self.step(format!("roll {path} to version {version}"));
        let template = json!({"metadata": {"annotations": {"version": version.to_string()}}});
        let _ = self
            .ask(Method::PATCH, &path, json!({"spec": {"template": template}}))
            .await;
    }

    async fn delete(&self, draws: &mut StdRng) {
        let all = [
            "deployments.apps",
            "statefulsets.apps",
            "daemonsets.apps",
            "jobs.batch",
            "cronjobs.batch",
            "replicasets.apps",
            "poddisruptionbudgets.policy",
            "horizontalpodautoscalers.autoscaling",
        ];
        let Some(path) = self.some(&all, draws) else { return };
        let policy = ["Background", "Foreground", "Orphan"][draws.random_range(0..3)];
        self.step(format!("delete {path}, {policy}"));
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        let _ = self.ask(Method::DELETE, &path, options).await;
    }

    async fn delete_pod(&self, draws: &mut StdRng) {
        let Some(path) = self.some(&["pods"], draws) else {
            return;
        };
        self.step(format!("delete {path}"));
        let _ = self.ask(Method::DELETE, &path, Value::Null).await;
    }

    async fn delete_namespace(&self, namespace: &str) {
        self.step(format!("delete namespace {namespace}"));
        let _ = self
            .ask(Method::DELETE, &format!("/api/v1/namespaces/{namespace}"), Value::Null)
            .await;
    }

    /// Cordons a node and evicts its pods, once each.
    async fn drain(&self, draws: &mut StdRng) {
        let nodes = self.names("nodes");
        let Some(node) = pick(draws, &nodes) else { return };
        let node = node.rsplit('/').next().unwrap_or_default().to_owned();
        self.step(format!("drain {node}"));
        let cordon = json!({"spec": {"unschedulable": true}});
        let _ = self.ask(Method::PATCH, &format!("/api/v1/nodes/{node}"), cordon).await;
        let pods: Vec<(String, String)> = self.house.ledger.look(|objects| {
            let here = laws::pods(objects).filter(|(_, pod)| text(pod, "/spec/nodeName") == node);
            let name = |pod: &Value, field: &str| text(pod, &format!("/metadata/{field}")).to_owned();
            here.map(|(_, pod)| (name(pod, "namespace"), name(pod, "name")))
                .collect()
        });
        for (namespace, name) in pods {
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
            let _ = self.ask(Method::POST, &path, eviction).await;
        }
    }

    /// Takes a node out of the cluster.
    pub async fn remove(&self, node: &str) {
        let _ = self
            .ask(Method::DELETE, &format!("/api/v1/nodes/{node}"), Value::Null)
            .await;
    }

    /// Lets pods onto a node again.
    pub async fn uncordon(&self, node: &str) {
        let open = json!({"spec": {"unschedulable": null}});
        let _ = self.ask(Method::PATCH, &format!("/api/v1/nodes/{node}"), open).await;
    }

    fn names(&self, resource: &str) -> Vec<String> {
        self.house
            .ledger
            .look(|objects| laws::of(resource, objects).map(|(key, _)| key.to_owned()).collect())
    }

    /// Some object of users, of one of these kinds: its resource, its namespace and its name.
    fn choose<'a>(&self, resources: &[&'a str], draws: &mut StdRng) -> Option<(&'a str, String, String)> {
        let resource = pick(draws, resources)?;
        let ours: BTreeSet<&str> = NAMESPACES.into();
        let mut names = self.names(resource);
        names.retain(|key| key.split('/').nth(1).is_some_and(|namespace| ours.contains(namespace)));
        let key = pick(draws, &names)?;
        let mut parts = key.split('/').skip(1);
        Some((resource, parts.next()?.to_owned(), parts.next()?.to_owned()))
    }

    /// The path of such an object.
    fn some(&self, resources: &[&str], draws: &mut StdRng) -> Option<String> {
        let (resource, namespace, name) = self.choose(resources, draws)?;
        let place = match resource.split_once('.') {
            None => "/api/v1".to_owned(),
            Some((_, group)) => format!("/apis/{group}/v1"),
        };
        let plural = resource.split('.').next()?;
        Some(format!("{place}/namespaces/{namespace}/{plural}/{name}"))
    }
}

fn template(app: &str, restart: &str, draws: &mut StdRng) -> Value {
    let cpu = ["100m", "500m", "2", "7"][draws.random_range(0..4)];
    let image = if draws.random_ratio(1, 6) { "slow" } else { "quick" };
    json!({"metadata": {"labels": {"app": app}}, "spec": {"restartPolicy": restart, "containers": [
        {"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}}]}})
}
