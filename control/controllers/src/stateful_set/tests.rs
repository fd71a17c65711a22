//! StatefulSets in a simulated world. The law that is checked after each step: no two pods share an ordinal, and while
//! pods go one after the other, at most one is missing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::simulation::{Simulation, is_over, merge};

fn world(spec: Value) -> Simulation {
    let mut set = json!({"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": {"name": "s", "namespace": "n", "uid": "s"},
        "spec": {"replicas": 3, "serviceName": "svc", "selector": {"matchLabels": {"app": "s"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "v0"}]}}}});
    merge(&mut set["spec"], &spec);
    Simulation::of([set])
}

fn run(world: &mut Simulation, check: impl FnMut(&Simulation)) {
    run_unless(world, |_| false, check);
}

fn run_unless(world: &mut Simulation, broken: impl Fn(&Value) -> bool, check: impl FnMut(&Simulation)) {
    let node = |world: &mut Simulation| world.start_one(|pod| !broken(pod)) || world.end_one();
    world.settle(&[("StatefulSet", reconcile)], node, check);
}

fn status(world: &Simulation) -> Value {
    world.get("StatefulSet", "s")["status"].clone()
}

fn images(world: &Simulation) -> Vec<String> {
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    world.all("Pod").map(image).collect()
}

fn ready(world: &Simulation) -> usize {
    let ready = |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
    world.all("Pod").filter(ready).count()
}

#[test]
fn pods_come_in_order_with_names_claims_and_identity() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let mut world = world(json!({"volumeClaimTemplates": claims, "ordinals": {"start": 5}}));
    run(&mut world, |world| {
        let names = world.names("Pod");
        let unready = world.all("Pod").filter(|p| p["status"]["phase"] != "Running").count();
        assert!(
            unready <= 1 && names.iter().zip(5..).all(|(name, i)| *name == format!("s-{i}")),
            "{names:?}"
        );
    });
    assert_eq!(world.names("Pod"), ["s-5", "s-6", "s-7"]);
    assert_eq!(
        world.names("PersistentVolumeClaim"),
        ["data-s-5", "data-s-6", "data-s-7"]
    );
    let pod = world.get("Pod", "s-6");
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("s-6"), &json!("svc"))
    );
    assert_eq!(
        pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        "data-s-6"
    );
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "6");
    let status = status(&world);
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(
        (&status["readyReplicas"], &status["updatedReplicas"]),
        (&json!(3), &json!(3))
    );
}

#[test]
fn an_update_goes_from_the_highest_down_and_stops_at_the_partition() {
    let mut world = world(json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}));
    run(&mut world, |_| {});
    world.edit("StatefulSet", "s", |s| {
        s["spec"]["template"]["spec"]["containers"][0]["image"] = "v1".into()
    });
    run(&mut world, |world| assert!(ready(world) >= 2, "one at a time"));
    assert_eq!(images(&world), ["v0", "v0", "v1"]);
    let partial = status(&world);
    assert_ne!(partial["currentRevision"], partial["updateRevision"]);
    assert_eq!(
        (&partial["currentReplicas"], &partial["updatedReplicas"]),
        (&json!(2), &json!(1))
    );
    // A pod below the partition that is lost comes back as it was.
    world.delete("Pod", "s-0");
    run(&mut world, |_| {});
    assert_eq!(images(&world), ["v0", "v0", "v1"]);
    world.edit("StatefulSet", "s", |s| {
        s["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0.into()
    });
    run(&mut world, |world| assert!(ready(world) >= 2, "one at a time"));
    assert_eq!(images(&world), ["v1", "v1", "v1"]);
    assert_eq!(status(&world)["currentRevision"], status(&world)["updateRevision"]);
}

#[test]
fn going_back_renumbers_the_old_revision() {
    let mut world = world(json!({"replicas": 1}));
    run(&mut world, |_| {});
    let first = status(&world)["currentRevision"].clone();
    for image in ["v1", "v0"] {
        world.edit("StatefulSet", "s", |s| {
            s["spec"]["template"]["spec"]["containers"][0]["image"] = image.into()
        });
        run(&mut world, |_| {});
    }
    assert_eq!(status(&world)["currentRevision"], first);
    assert_eq!(world.names("ControllerRevision").len(), 2);
    assert_eq!(world.get("ControllerRevision", first.as_str().unwrap())["revision"], 3);
}

#[test]
fn updates_by_hand_wait_for_the_hand() {
    let mut world = world(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}));
    run(&mut world, |_| {});
    world.edit("StatefulSet", "s", |s| {
        s["spec"]["template"]["spec"]["containers"][0]["image"] = "v1".into()
    });
    run(&mut world, |_| {});
    assert_eq!(images(&world), ["v0", "v0", "v0"]);
    world.delete("Pod", "s-1");
    run(&mut world, |_| {});
    assert_eq!(images(&world), ["v0", "v1", "v0"]);
}

#[test]
fn a_broken_pod_stops_the_order_but_not_the_parallel() {
    let broken = |pod: &Value| pod["metadata"]["name"] == "s-0";
    let mut ordered = world(json!({}));
    run_unless(&mut ordered, broken, |_| {});
    assert_eq!(ordered.names("Pod"), ["s-0"]);
    let mut parallel = world(json!({"podManagementPolicy": "Parallel"}));
    run_unless(&mut parallel, broken, |_| {});
    assert_eq!(parallel.names("Pod"), ["s-0", "s-1", "s-2"]);
}

#[test]
fn a_pod_that_ended_is_made_anew() {
    let mut world = world(json!({}));
    run(&mut world, |_| {});
    let (uid, pod) = (
        world.get("Pod", "s-1")["metadata"]["uid"].clone(),
        world.get("Pod", "s-1").clone(),
    );
    world.exit(pod, 1);
    run(&mut world, |_| {});
    assert_eq!(ready(&world), 3);
    assert_ne!(world.get("Pod", "s-1")["metadata"]["uid"], uid);
}

#[test]
fn claims_go_with_their_pod_or_their_set_as_the_policy_says() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {}}]);
    let owners = |world: &Simulation, claim: &str| -> Vec<String> {
        let owners = world.get("PersistentVolumeClaim", claim)["metadata"]["ownerReferences"].clone();
        owners
            .as_array()
            .into_iter()
            .flatten()
            .map(|o| o["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let mut deleting = world(json!({"volumeClaimTemplates": claims, "persistentVolumeClaimRetentionPolicy": policy}));
    run(&mut deleting, |_| {});
    assert_eq!(owners(&deleting, "data-s-2"), ["StatefulSet"]);
    deleting.edit("StatefulSet", "s", |s| s["spec"]["replicas"] = 2.into());
    run(&mut deleting, |_| {});
    assert_eq!(owners(&deleting, "data-s-2"), ["Pod"]);
    assert_eq!(owners(&deleting, "data-s-1"), ["StatefulSet"]);
    let mut keeping = world(json!({"volumeClaimTemplates": claims}));
    run(&mut keeping, |_| {});
    assert!(owners(&keeping, "data-s-0").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_always_arrives_and_ordinals_stay_unique(
        parallel in any::<bool>(), steps in prop::collection::vec((0..3_u8, 0..6_i32), 1..5),
    ) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let mut world = world(json!({"podManagementPolicy": policy}));
        run(&mut world, |_| {});
        for (i, (what, size)) in steps.into_iter().enumerate() {
            let mut replicas = world.get("StatefulSet", "s")["spec"]["replicas"].as_i64().unwrap();
            match what {
                0 => {
                    replicas = size.into();
                    world.edit("StatefulSet", "s", |s| s["spec"]["replicas"] = size.into());
                }
                1 => world.edit("StatefulSet", "s", |s| s["spec"]["template"]["spec"]["containers"][0]["image"] = format!("v{}", i + 1).into()),
                _ => if let Some(name) = world.names("Pod").first().map(|n| (*n).to_owned()) { world.delete("Pod", &name) },
            }
            // Names are keys in the simulated server: a second pod of an ordinal would fail to be created.
            let rolling = what == 1 && !parallel;
            run(&mut world, |world| {
                let gone = world.all("Pod").filter(|p| is_over(p) || !p["metadata"]["deletionTimestamp"].is_null()).count();
                assert!(!rolling || gone <= 1, "an update takes one pod at a time");
            });
            prop_assert_eq!(ready(&world) as i64, replicas);
            prop_assert_eq!(status(&world)["currentRevision"].clone(), status(&world)["updateRevision"].clone());
        }
    }
}

#[test]
fn a_set_on_its_way_out_makes_no_revision_of_those_that_were_set_free() {
    let mut world = world(json!({}));
    run(&mut world, |_| {});
    let revisions = world.names("ControllerRevision").len();
    let name = world.names("ControllerRevision")[0].to_owned();
    world.edit("ControllerRevision", &name, |revision| {
        revision["metadata"]["ownerReferences"] = json!([]);
    });
    world.edit("StatefulSet", "s", |set| {
        set["metadata"]["finalizers"] = json!(["orphan"]);
        set["metadata"]["deletionTimestamp"] = set["metadata"]["creationTimestamp"].clone();
    });
    assert!(!world.reconcile("StatefulSet", reconcile), "nothing is written");
    assert_eq!(world.names("ControllerRevision").len(), revisions);
}
