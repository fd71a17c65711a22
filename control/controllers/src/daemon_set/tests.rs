//! DaemonSets in a simulated world. The law that is checked after each step: an update never leaves more nodes without
//! an available daemon, or with two, than the strategy allows.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::simulation::{Simulation, is_over, merge};

fn node(name: &str, taints: Value) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {"taints": taints}})
}

fn world(spec: Value, nodes: usize) -> Simulation {
    let mut ds = json!({"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": "d", "namespace": "n", "uid": "d"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "v0"}]}}}});
    merge(&mut ds["spec"], &spec);
    let nodes = (0..nodes).map(|i| node(&format!("n{i}"), json!([])));
    Simulation::of(nodes.chain([ds]))
}

/// What scheduler and node would do: bind to the node that is asked for, run, end.
fn run(world: &mut Simulation, broken: &str, check: impl FnMut(&Simulation)) {
    let node = |world: &mut Simulation| {
        let unbound = |pod: &Value| pod["spec"]["nodeName"].is_null();
        if let Some(mut pod) = world.pod(unbound) {
            pod["spec"]["nodeName"] = target(&pod).into();
            world.put(pod);
            return true;
        }
        world.start_one(|pod| image(pod) != broken) || world.end_one()
    };
    world.settle(&[("DaemonSet", reconcile)], node, check);
}

fn target(pod: &Value) -> String {
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]
        .as_str()
        .unwrap()
        .to_owned()
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn going(world: &Simulation) -> Vec<&Value> {
    world
        .all("Pod")
        .filter(|pod| !is_over(pod) && pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

fn available(world: &Simulation) -> usize {
    going(world)
        .into_iter()
        .filter(|pod| pod["status"]["phase"] == "Running")
        .map(target)
        .collect::<HashSet<_>>()
        .len()
}

fn status(world: &Simulation) -> Value {
    world.get("DaemonSet", "d")["status"].clone()
}

fn set_image(world: &mut Simulation, image: &str) {
    world.edit("DaemonSet", "d", |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
    });
}

#[test]
fn every_node_that_fits_has_one_daemon() {
    let mut world = world(json!({}), 2);
    world.create(node("closed", json!([{"key": "k", "effect": "NoSchedule"}])));
    world.create(node(
        "cordoned",
        json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
    ));
    run(&mut world, "", |_| {});
    let mut nodes: Vec<String> = going(&world).into_iter().map(target).collect();
    nodes.sort();
    assert_eq!(nodes, ["cordoned", "n0", "n1"]);
    let told = status(&world);
    assert_eq!(
        (
            &told["desiredNumberScheduled"],
            &told["numberReady"],
            &told["updatedNumberScheduled"]
        ),
        (&json!(3), &json!(3), &json!(3))
    );
    // A node that is closed to those that run loses its daemon, a new one gets one.
    world.put(node("n0", json!([{"key": "k", "effect": "NoExecute"}])));
    world.create(node("late", json!([])));
    run(&mut world, "", |_| {});
    let mut nodes: Vec<String> = going(&world).into_iter().map(target).collect();
    nodes.sort();
    assert_eq!(nodes, ["cordoned", "late", "n1"]);
}

#[test]
fn an_update_by_hand_touches_nothing_and_a_rollback_leaves_what_was_never_touched() {
    let mut by_hand = world(json!({"updateStrategy": {"type": "OnDelete"}}), 2);
    run(&mut by_hand, "", |_| {});
    set_image(&mut by_hand, "v1");
    run(&mut by_hand, "", |_| {});
    assert!(going(&by_hand).into_iter().all(|pod| image(pod) == "v0"));

    let mut stuck = world(json!({}), 3);
    run(&mut stuck, "", |_| {});
    let before: HashSet<String> = going(&stuck)
        .into_iter()
        .map(|p| p["metadata"]["uid"].to_string())
        .collect();
    set_image(&mut stuck, "broken");
    run(&mut stuck, "broken", |world| assert!(available(world) >= 2));
    set_image(&mut stuck, "v0");
    run(&mut stuck, "broken", |world| assert!(available(world) >= 2));
    let kept = going(&stuck)
        .into_iter()
        .filter(|p| before.contains(&p["metadata"]["uid"].to_string()))
        .count();
    assert_eq!((kept, available(&stuck)), (2, 3));
    let revisions: Vec<i64> = stuck
        .all("ControllerRevision")
        .map(|r| r["revision"].as_i64().unwrap())
        .collect();
    assert_eq!(revisions.iter().max(), Some(&3));
}

#[test]
fn a_daemon_that_failed_is_replaced_after_a_pause() {
    let mut world = world(json!({}), 1);
    run(&mut world, "", |_| {});
    let pod = going(&world)[0].clone();
    world.exit(pod, 1);
    run(&mut world, "", |_| {});
    assert_eq!(
        (going(&world).len(), world.due),
        (0, Some(after_seconds(world.now, FAILED_SECONDS)))
    );
    world.now = world.due.unwrap();
    run(&mut world, "", |_| {});
    assert_eq!(going(&world).len(), 1);
    assert!(world.events.iter().any(|e| e.starts_with("FailedDaemonPod")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn an_update_stays_in_its_bounds_and_ends(nodes in 1..7_usize, surge in 0..3_usize, unavailable in 0..3_usize) {
        prop_assume!((surge == 0) != (unavailable == 0));
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut world = world(json!({"updateStrategy": strategy}), nodes);
        run(&mut world, "", |_| {});
        set_image(&mut world, "v1");
        run(&mut world, "", |world| {
            assert!(available(world) >= nodes.saturating_sub(unavailable), "too few available");
            let all = going(world);
            let covered: HashSet<String> = all.iter().map(|pod| target(pod)).collect();
            assert!(all.len() - covered.len() <= surge, "too many doubled");
        });
        prop_assert_eq!(available(&world), nodes);
        prop_assert!(going(&world).into_iter().all(|pod| image(pod) == "v1"));
    }
}
