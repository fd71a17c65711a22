//! Walks the scenario files: small worlds, and where a pod goes in them. See `scenarios/README.md`.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use coracle_controllers::key::Key;
use coracle_scheduler::{
    candidate::Candidate, cluster::Cluster, cycle, node_info::NodeIndex, nominations::Nominations, plugins::PLUGINS,
    preemption,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::who_is_where;

/// Files that are about no plugin of the table.
const OTHERS: [&str; 1] = ["DefaultPreemption"];
/// Draws and starts of each case: what it says must hold for any.
const DRAWS: u64 = 7;

#[test]
fn every_scenario_comes_out_as_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut cases = BTreeMap::<String, usize>::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (file, problems) = coracle_api::yaml::parse(&fs::read(&path).unwrap()).unwrap();
        assert!(problems.is_empty(), "{name}: {problems:?}");
        for case in file["cases"].as_array().unwrap() {
            check(
                &format!("{name}: {}", case["case"].as_str().unwrap()),
                &file["given"],
                case,
            );
            *cases.entry(name.clone()).or_default() += 1;
        }
    }
    for name in PLUGINS.iter().map(|plugin| plugin.name).chain(OTHERS) {
        assert!(cases.contains_key(name), "{name} has no scenario");
    }
}

/// The world of a case, and for whom room is kept in it.
struct World {
    cluster: Cluster,
    kept: Nominations,
}

fn check(name: &str, given: &Value, case: &Value) {
    for key in case.as_object().unwrap().keys() {
        let known = [
            "case",
            "with",
            "without",
            "pod",
            "node",
            "scores",
            "refused",
            "preempts",
            "preemption",
            "grants",
            "releases",
        ];
        assert!(known.contains(&key.as_str()), "{name}: what is {key}?");
    }
    for draw in 0..DRAWS {
        let mut world = world(given, case);
        let pod = candidate(case["pod"].clone(), "pod");
        let start = usize::try_from(draw).unwrap();
        let attempt = cycle::decide(&pod, &mut world.cluster, &world.kept, start, draw);
        match (&attempt.outcome, &case["node"]) {
            (Ok(chosen), Value::Array(any)) => assert!(any.contains(&json!(**chosen)), "{name}: goes to {chosen}"),
            (Ok(chosen), Value::String(node)) => assert_eq!(**chosen, **node, "{name}"),
            (Ok(chosen), _) => assert!(case["refused"].is_null(), "{name}: goes to {chosen}"),
            (Err(unfit), _) => assert_eq!(Some(&*unfit.message), case["refused"].as_str(), "{name}"),
        }
        check_scores(name, case, &pod, &world.cluster);
        check_claims(name, case, &pod, &world.cluster, attempt.outcome.as_deref().ok());
        if let Err(unfit) = attempt.outcome {
            check_preemption(name, case, &pod, &mut world, &unfit, draw);
        }
    }
}

fn check_scores(name: &str, case: &Value, pod: &Candidate, cluster: &Cluster) {
    let Some(expected) = case["scores"].as_object() else {
        return;
    };
    let mut names = BTreeMap::new();
    let feasible: Vec<NodeIndex> = cluster
        .nodes()
        .filter(|(index, ..)| {
            let mut cluster = cluster.clone();
            cycle::passes(pod, &mut cluster, &Nominations::default(), *index).is_ok()
        })
        .map(|(index, info, _)| {
            names.insert(index, info.name.to_string());
            index
        })
        .collect();
    let scores = cycle::scores(pod, cluster, &feasible);
    for (plugin, expected) in expected {
        let found = scores
            .iter()
            .find(|(scored, ..)| scored.name == *plugin)
            .map(|(.., scores)| {
                let named = feasible
                    .iter()
                    .zip(scores)
                    .map(|(index, score)| (names[index].clone(), *score));
                json!(named.collect::<BTreeMap<String, i64>>())
            });
        assert_eq!(found.unwrap_or_default(), *expected, "{name}: scores of {plugin}");
    }
}

/// What the pod's claims get on the node, and which of them is to be allocated anew if it goes nowhere.
fn check_claims(name: &str, case: &Value, pod: &Candidate, cluster: &Cluster, node: Option<&str>) {
    let Some((_, node)) = node.and_then(|node| cluster.node(cluster.find(node)?)) else {
        let nodes: Vec<_> = cluster.nodes().map(|(_, _, node)| node).collect();
        let released = cluster.devices.misplaced(&pod.pod, &pod.devices, &nodes);
        let released = released.map(|claim| json!(claim.metadata.name));
        assert_eq!(released.unwrap_or_default(), case["releases"], "{name}: releases");
        return;
    };
    let granted = cluster
        .devices
        .grants(&pod.pod, &pod.devices, node, &mut || "id".to_owned());
    assert_eq!(granted.len(), pod.devices.len(), "{name}: every claim is served");
    let Some(expected) = case["grants"].as_object() else {
        return;
    };
    for (claim, expected) in expected {
        let grant = granted
            .iter()
            .find(|grant| grant.claim.metadata.name.as_ref() == Some(claim));
        let devices = grant.and_then(|grant| grant.allocation.as_ref()?.devices.clone());
        let told = devices.unwrap().results.into_iter().flatten().map(|result| {
            let device = format!("{} {}/{}/{}", result.request, result.driver, result.pool, result.device);
            match result.consumed_capacity {
                None => device,
                Some(amounts) => {
                    let amounts: Vec<String> = amounts
                        .iter()
                        .map(|(name, amount)| format!("{name}: {}", amount.0))
                        .collect();
                    format!("{device} {{{}}}", amounts.join(", "))
                }
            }
        });
        assert_eq!(json!(told.collect::<Vec<_>>()), *expected, "{name}: {claim}");
    }
}

fn check_preemption(name: &str, case: &Value, pod: &Candidate, world: &mut World, unfit: &cycle::Unfit, draw: u64) {
    let before = who_is_where(&world.cluster);
    let outcome = preemption::preempt(pod, &mut world.cluster, &world.kept, unfit, draw);
    assert_eq!(who_is_where(&world.cluster), before, "{name}: the world is as it was");
    match outcome {
        Ok(room) => {
            let expected = &case["preempts"];
            assert!(
                !expected.is_null(),
                "{name}: preempts {:?} on {}",
                room.victims,
                room.node
            );
            let victims: Vec<&str> = room.victims.iter().map(|victim| &*victim.key.name).collect();
            assert_eq!(
                (json!(*room.node), json!(victims)),
                (expected["node"].clone(), expected["victims"].clone()),
                "{name}"
            );
            if let Some(violations) = expected["violations"].as_u64() {
                assert_eq!(room.violations as u64, violations, "{name}: violations");
            }
        }
        Err(why) => {
            assert!(case["preempts"].is_null(), "{name}: {}", why.message);
            if let Some(expected) = case["preemption"].as_str() {
                assert_eq!(why.message, expected, "{name}: preemption");
            }
        }
    }
}

fn world(given: &Value, case: &Value) -> World {
    let named = |object: &Value| {
        (
            object["kind"].clone(),
            object["metadata"]["namespace"].clone(),
            object["metadata"]["name"].clone(),
        )
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let with = list(&case["with"]);
    let without: Vec<String> = list(&case["without"])
        .iter()
        .map(|w| w.as_str().unwrap().to_owned())
        .collect();
    let mut objects: Vec<Value> = list(given)
        .into_iter()
        .filter(|object| {
            let (kind, _, name) = named(object);
            let spoken = format!("{} {}", kind.as_str().unwrap(), name.as_str().unwrap());
            !without.contains(&spoken) && !with.iter().any(|other| named(other) == named(object))
        })
        .collect();
    objects.extend(with);
    let mut world = World {
        cluster: Cluster::default(),
        kept: Nominations::default(),
    };
    // Nodes and namespaces are known before those in them.
    objects.sort_by_key(|object| object["kind"] == "Pod");
    objects.into_iter().for_each(|object| world.put(object));
    world
}

fn read<K: DeserializeOwned>(object: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}")))
}

fn fill(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for part in path.split('.') {
        at = &mut at[part];
    }
    if at.is_null() {
        *at = value;
    }
}

fn candidate(mut pod: Value, name: &str) -> Candidate {
    fill(&mut pod, "metadata.name", json!(name));
    let name = pod["metadata"]["name"].clone();
    fill(&mut pod, "metadata.uid", name);
    fill(&mut pod, "metadata.namespace", json!("default"));
    fill(&mut pod, "spec.containers", json!([{"name": "c"}]));
    Candidate::of(read(pod))
}

impl World {
    fn put(&mut self, mut object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let cluster = &mut self.cluster;
        if !matches!(
            &*kind,
            "Node" | "Namespace" | "PersistentVolume" | "StorageClass" | "CSINode" | "DeviceClass" | "ResourceSlice"
        ) {
            fill(&mut object, "metadata.namespace", json!("default"));
        }
        let key = Key::new(object["metadata"]["namespace"].as_str().unwrap_or_default(), &name);
        match &*kind {
            "Node" => {
                fill(
                    &mut object,
                    "status.allocatable",
                    json!({"cpu": "4", "memory": "8Gi", "pods": "110"}),
                );
                object["metadata"]["labels"]["kubernetes.io/hostname"] = json!(name);
                cluster.put_node(read(object));
            }
            "Pod" => {
                let pod = Arc::new(candidate(object, &name));
                let node = pod.spec().unwrap().node_name.clone();
                match (node, pod.nominated()) {
                    (Some(node), _) => cluster.place(pod, &node),
                    (None, Some(node)) => self.kept.put(&pod.clone(), node),
                    (None, None) => panic!("{name} is nowhere"),
                }
            }
            "Namespace" => {
                let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
                cluster.put_namespace(&name, Some(labels));
            }
            "Service" => cluster.services.put(key, Some(&*read(object))),
            "PersistentVolumeClaim" => {
                fill(&mut object, "metadata.uid", json!(name));
                cluster.volumes.put_claim(key, Some(read(object)));
            }
            "PersistentVolume" => cluster.volumes.put_volume(&name, Some(read(object))),
            "CSINode" => cluster.volumes.put_drivers(&name, Some(&read(object))),
            "StorageClass" => cluster.volumes.put_class(&name, Some(read(object))),
            "DeviceClass" => cluster.devices.put_class(&name, Some(read(object))),
            "ResourceSlice" => cluster.devices.put_slice(None, Some(&read(object))),
            "ResourceClaim" => {
                fill(&mut object, "metadata.uid", json!(name));
                cluster.devices.put_claim(&key, Some(read(object)));
            }
            "PodDisruptionBudget" => cluster.put_budget(None, Some(&read(object))),
            other => panic!("what is {other}?"),
        }
    }
}
