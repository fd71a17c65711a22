//! What one decision costs, without any API: pods of controllers, and pods that want to be spread and kept apart, in
//! clusters of growing size.
//!
//! `cargo run --release -p coracle-scheduler --example decide`

// An example that cannot go on ends with a message.
#![allow(missing_docs, clippy::expect_used)]

use std::{sync::Arc, time::Instant};

use coracle_scheduler::{candidate::Candidate, cluster::Cluster, cycle, nominations::Nominations};
use serde_json::{Value, json};

const PODS: usize = 10_000;
/// Pods of one controller.
const REPLICAS: usize = 100;

fn main() {
    println!("| pods | nodes | a decision |\n|---|---|---|");
    for (what, spec) in [
        ("of a controller", plain as fn(usize) -> Value),
        ("spread and kept apart", picky),
    ] {
        for nodes in [100, 1000, 5000] {
            println!("| {what} | {nodes} | {:.0} us |", measure(nodes, spec));
        }
    }
}

/// Microseconds for each of [`PODS`] decisions, the reservation included.
fn measure(nodes: usize, spec: fn(usize) -> Value) -> f64 {
    let mut cluster = Cluster::default();
    for at in 0..nodes {
        let name = format!("n{at}");
        let labels = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("z{}", at % 3)});
        let node = json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "250"}}});
        cluster.put_node(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    let pods: Vec<Arc<Candidate>> = (0..PODS).map(|at| pod(at, spec(at / REPLICAS))).collect();
    let (kept, mut start) = (Nominations::default(), 0);
    let began = Instant::now();
    for (draw, pod) in (0..).zip(pods) {
        let attempt = cycle::decide(&pod, &mut cluster, &kept, start, draw);
        start = (start + attempt.looked_at) % nodes;
        let node = attempt.outcome.map_err(|unfit| unfit.message).expect("there is room");
        cluster.place(pod, &node);
    }
    began.elapsed().as_secs_f64() * 1e6 / PODS as f64
}

fn pod(at: usize, spec: Value) -> Arc<Candidate> {
    let set = format!("set-{}", at / REPLICAS);
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set, "controller": true}]);
    let name = format!("p{at}");
    let meta =
        json!({"name": name, "namespace": "default", "uid": name, "labels": {"app": set}, "ownerReferences": owner});
    let pod = json!({"metadata": meta, "spec": spec});
    Arc::new(Candidate::of(Arc::new(serde_json::from_value(pod).expect("a pod"))))
}

fn plain(_: usize) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]})
}

fn picky(set: usize) -> Value {
    let mut spec = plain(set);
    let selector = json!({"matchLabels": {"app": format!("set-{set}")}});
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
    if let Some(spec) = spec.as_object_mut() {
        spec.insert(
            "topologySpreadConstraints".to_owned(),
            json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector}]),
        );
        spec.insert(
            "affinity".to_owned(),
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}),
        );
    }
    spec
}
