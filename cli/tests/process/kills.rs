//! The whole cluster killed at random moments of a rollout: it comes back and finishes what was begun, every time.
//!
//! Three times among the tests; as often as you like, and from a seed that you name, with
//! `CORACLE_KILLS=50 CORACLE_SEED=1 cargo test -p coracle --test process -- killed_at_random --nocapture`.

use std::{collections::BTreeSet, pin::pin, time::Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, WatchParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::{PATIENCE, Up};

const REPLICAS: i32 = 4;
/// Changes of pods in such a rollout; a bit more than there are, so that some kills come after its end.
const CHANGES: usize = 30;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

#[tokio::test]
async fn killed_at_random_moments_of_a_rollout_it_converges() {
    let rounds = number("CORACLE_KILLS").unwrap_or(3);
    let seed = number("CORACLE_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}, {rounds} kills");
    let mut random = StdRng::seed_from_u64(seed);
    let data = tempfile::tempdir().unwrap();
    let mut up = Up::start(data.path()).await;
    let template = |round: u64| {
        let env = [json!({"name": "ROUND", "value": round.to_string()})];
        let container = json!({"name": "hello", "image": "hello", "env": env});
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}})
    };
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}}, "template": template(0)},
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    up.all::<Deployment>()
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    rolled_out(&up, 0, Timestamp::UNIX_EPOCH).await;

    for round in 1..=rounds {
        let changes = random.random_range(0..CHANGES);
        let listed = up.all::<Pod>().list(&ListParams::default()).await.unwrap();
        let version = listed.metadata.resource_version.unwrap();
        let patch = Patch::Merge(json!({"spec": {"template": template(round)}}));
        up.all::<Deployment>()
            .patch("web", &PatchParams::default(), &patch)
            .await
            .unwrap();
        tokio::select! {
            () = pods_changed(&up, &version, changes) => {}
            () = rolled_out(&up, round, Timestamp::UNIX_EPOCH) => {}
        }
        up.process.end("KILL").await;
        let (began, since) = (Instant::now(), Timestamp::now());
        up = Up::start(data.path()).await;
        rolled_out(&up, round, since).await;
        println!(
            "kill {round} after {changes} changes: converged {:.1} s later",
            began.elapsed().as_secs_f64()
        );
    }
    println!("seed {seed}: converged after each of {rounds} kills");
}

/// Waits for so many changes of pods since that version.
async fn pods_changed(up: &Up, version: &str, changes: usize) {
    let pods = up.all::<Pod>();
    let events = pods.watch(&WatchParams::default(), version).await.unwrap();
    let mut events = pin!(events.take(changes));
    while let Some(event) = events.next().await {
        event.unwrap();
    }
}

/// Waits until the Deployment's pods are those of that round and no others, and all of them have run since then.
async fn rolled_out(up: &Up, round: u64, since: Timestamp) {
    let complete = |deployment: Option<&Deployment>| {
        let Some(deployment) = deployment else { return false };
        let Some(status) = &deployment.status else { return false };
        let all = Some(REPLICAS);
        status.observed_generation == deployment.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas] == [all; 3]
    };
    let wait = await_condition(up.all::<Deployment>(), "web", complete);
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited
        .unwrap_or_else(|_| panic!("round {round} is not rolled out"))
        .unwrap();

    let mut running = BTreeSet::new();
    for pod in up.all::<Pod>().list(&ListParams::default()).await.unwrap() {
        let name = pod.name_any();
        if is_of(&pod, round) && pod.metadata.deletion_timestamp.is_none() {
            // What is told of a container from before the kill does not count. Times are in whole seconds.
            let runs = |pod: Option<&Pod>| {
                let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
                let Some(status) = statuses.and_then(|statuses| statuses.first()) else {
                    return false;
                };
                let running = status.state.as_ref().and_then(|state| state.running.as_ref());
                let started = running.and_then(|running| running.started_at.as_ref());
                status.ready && started.is_some_and(|started| started.0.as_second() >= since.as_second())
            };
            let wait = await_condition(up.all::<Pod>(), &name, runs);
            let waited = tokio::time::timeout(PATIENCE, wait).await;
            waited
                .unwrap_or_else(|_| panic!("round {round}: {name} does not run"))
                .unwrap();
            running.insert(name);
        } else {
            let uid = pod.uid().unwrap();
            let wait = await_condition(up.all::<Pod>(), &name, is_deleted(&uid));
            let waited = tokio::time::timeout(PATIENCE, wait).await;
            waited
                .unwrap_or_else(|_| panic!("round {round}: {name} stays"))
                .unwrap();
        }
    }
    let left = up.all::<Pod>().list(&ListParams::default()).await.unwrap();
    let left: BTreeSet<String> = left.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, running, "round {round}");
    assert_eq!(left.len(), usize::try_from(REPLICAS).unwrap(), "round {round}");
}

fn is_of(pod: &Pod, round: u64) -> bool {
    let env = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.env.as_ref());
    env.is_some_and(|env| env.iter().any(|env| env.value == Some(round.to_string())))
}
