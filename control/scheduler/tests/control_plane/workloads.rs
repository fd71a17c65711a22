//! Jobs, CronJobs, StatefulSets and DaemonSets over the whole control plane.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::PersistentVolumeClaim,
    policy::v1::PodDisruptionBudget,
};

use kube::api::EvictParams;

use super::*;

fn job(name: &str, image: &str, spec: Value) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}}});
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

fn has(job: &Job, condition: &str) -> bool {
    let conditions = job
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

/// The server's revision once nothing but leases and events is written for a while: a settled world writes nothing.
async fn settles(cluster: &Cluster) {
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let revision = || async {
        let list = pods.list(&ListParams::default().limit(1)).await.unwrap();
        list.metadata.resource_version.unwrap()
    };
    let wait = async {
        let mut last = revision().await;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = revision().await;
            if now == last {
                return;
            }
            last = now;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("a settled world writes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_fifty_indexes_is_counted_to_its_end() {
    let cluster = Cluster::with_nodes(2).await;
    let spec = json!({"completions": 50, "parallelism": 10, "completionMode": "Indexed"});
    let _: Job = cluster.create("default", job("fifty", "exits-0", spec)).await;
    let jobs = cluster
        .wait("default", "complete", |all: &[Job]| has(&all[0], "Complete"))
        .await;
    let status = jobs[0].status.clone().unwrap();
    assert_eq!(
        (status.succeeded, status.completed_indexes.as_deref()),
        (Some(50), Some("0-49"))
    );
    assert_eq!(
        (status.active, status.ready, status.terminating),
        (None, Some(0), Some(0))
    );
    let pods: Vec<Pod> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    assert!(
        pods.iter()
            .all(|p| p.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)),
        "all were let go"
    );
    settles(&cluster).await;
    let jobs: Api<Job> = cluster.api("default");
    jobs.delete("fifty", &DeleteParams::background()).await.unwrap();
    cluster
        .wait("default", "pods collected", |pods: &[Pod]| pods.is_empty())
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_says_why_and_one_that_is_deleted_lets_its_pods_go() {
    let cluster = Cluster::with_nodes(1).await;
    let _: Job = cluster
        .create("default", job("bad", "exits-1", json!({"backoffLimit": 0})))
        .await;
    cluster
        .wait("default", "failed", |all: &[Job]| {
            let conditions = all[0]
                .status
                .as_ref()
                .and_then(|s| s.conditions.clone())
                .unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Failed" && c.reason.as_deref() == Some("BackoffLimitExceeded"))
        })
        .await;
    let _: Job = cluster
        .create("default", job("long", "runs", json!({"parallelism": 3})))
        .await;
    cluster
        .wait("default", "running", |all: &[Job]| {
            all.iter()
                .any(|job| job.status.as_ref().and_then(|s| s.ready) == Some(3))
        })
        .await;
    settles(&cluster).await;
    let jobs: Api<Job> = cluster.api("default");
    jobs.delete("long", &DeleteParams::foreground()).await.unwrap();
    cluster.wait("default", "gone", |all: &[Job]| all.len() == 1).await;
    cluster
        .wait("default", "pods gone", |pods: &[Pod]| pods.len() == 1)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cron_job_starts_its_jobs_and_cleans_up() {
    let cluster = Cluster::with_nodes(1).await;
    let template = job("unnamed", "exits-0", json!({}))["spec"].clone();
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"}, "spec": {
        "schedule": "@every 1s", "successfulJobsHistoryLimit": 1, "jobTemplate": {"spec": template}}});
    let _: CronJob = cluster.create("default", cron).await;
    cluster
        .wait("default", "a success", |all: &[CronJob]| {
            all[0].status.as_ref().is_some_and(|s| s.last_successful_time.is_some())
        })
        .await;
    let jobs: Vec<Job> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    assert!(jobs[0].metadata.name.as_deref().unwrap().starts_with("tick-"));
    let crons: Api<CronJob> = cluster.api("default");
    crons.delete("tick", &DeleteParams::background()).await.unwrap();
    cluster
        .wait("default", "jobs gone", |jobs: &[Job]| jobs.is_empty())
        .await;
    cluster
        .wait("default", "pods gone", |pods: &[Pod]| pods.is_empty())
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_grows_rolls_shrinks_and_keeps_its_claims() {
    let cluster = Cluster::with_nodes(2).await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    let _: StatefulSet = cluster.create("default", set).await;
    let settled = |replicas: i32| {
        move |all: &[StatefulSet]| {
            let Some(status) = &all[0].status else { return false };
            let counts = [
                status.ready_replicas,
                status.updated_replicas,
                status.available_replicas,
            ];
            status.observed_generation == all[0].metadata.generation
                && status.current_revision == status.update_revision
                && status.replicas == replicas
                && counts.iter().all(|n| n.unwrap_or(0) == replicas)
        }
    };
    cluster.wait("default", "three", settled(3)).await;
    settles(&cluster).await;
    let sets: Api<StatefulSet> = cluster.api("default");
    let patch = |body: Value| {
        let sets = sets.clone();
        async move {
            sets.patch("db", &PatchParams::default(), &Patch::Merge(body))
                .await
                .unwrap()
        }
    };
    patch(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}})).await;
    cluster.wait("default", "rolled", settled(3)).await;
    cluster
        .wait("default", "two revisions", |all: &[ControllerRevision]| all.len() == 2)
        .await;
    let pods: Vec<Pod> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
    patch(json!({"spec": {"replicas": 1}})).await;
    cluster.wait("default", "one", settled(1)).await;
    let claims: Vec<PersistentVolumeClaim> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    assert_eq!(claims.len(), 3, "claims stay");
    let bound = |claim: &PersistentVolumeClaim| claim.status.as_ref().unwrap().phase.as_deref() == Some("Bound");
    assert!(claims.iter().all(bound), "{claims:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_the_nodes_and_its_template() {
    let cluster = Cluster::with_nodes(2).await;
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    let _: DaemonSet = cluster.create("default", set).await;
    let settled = |nodes: i32| {
        move |all: &[DaemonSet]| {
            let Some(status) = &all[0].status else { return false };
            status.observed_generation == all[0].metadata.generation
                && status.desired_number_scheduled == nodes
                && status.updated_number_scheduled == Some(nodes)
                && status.number_available == Some(nodes)
        }
    };
    cluster.wait("default", "on both", settled(2)).await;
    settles(&cluster).await;
    cluster.add_node("late").await;
    cluster.wait("default", "on all three", settled(3)).await;
    let sets: Api<DaemonSet> = cluster.api("default");
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    sets.patch("agent", &PatchParams::default(), &Patch::Merge(image))
        .await
        .unwrap();
    cluster.wait("default", "rolled", settled(3)).await;
    let pods: Vec<Pod> = cluster.api("default").list(&ListParams::default()).await.unwrap().items;
    let nodes: BTreeSet<_> = pods
        .iter()
        .filter_map(|p| p.spec.as_ref().unwrap().node_name.clone())
        .collect();
    assert_eq!(nodes.len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_refuses_the_eviction_that_it_cannot_afford() {
    let cluster = Cluster::with_nodes(1).await;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}});
    let _: PodDisruptionBudget = cluster.create("default", budget).await;
    let _: Deployment = cluster.create("default", deployment("web", 2, "one")).await;
    let allows = |count: i32| {
        move |all: &[PodDisruptionBudget]| {
            let status = all[0].status.clone().unwrap_or_default();
            status.current_healthy >= Some(2) && status.disruptions_allowed == Some(count)
        }
    };
    cluster.wait("default", "nothing to spend", allows(0)).await;
    let pods: Api<Pod> = cluster.api("default");
    let name = |pods: &[Pod]| pods[0].metadata.name.clone().unwrap();
    let victim = name(&pods.list(&ListParams::default()).await.unwrap().items);
    let refused = pods.evict(&victim, &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}")
    };
    assert_eq!(status.code, 429);
    assert_eq!(
        status.message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        status.details.as_ref().unwrap().causes[0].message,
        "The disruption budget web needs 2 healthy pods and has 2 currently"
    );
    let deployments: Api<Deployment> = cluster.api("default");
    let more = Patch::Merge(json!({"spec": {"replicas": 3}}));
    deployments.patch("web", &PatchParams::default(), &more).await.unwrap();
    cluster.wait("default", "one to spend", allows(1)).await;
    pods.evict(&victim, &EvictParams::default()).await.unwrap();
    cluster
        .wait("default", "the pod is replaced", |pods: &[Pod]| {
            pods.len() == 3 && pods.iter().all(|pod| pod.metadata.name.as_deref() != Some(&victim))
        })
        .await;
    cluster.wait("default", "one to spend again", allows(1)).await;
    settles(&cluster).await;
    cluster.stop().await;
}
