//! Laws of scheduling and of preemption, over made-up clusters.

use std::sync::Arc;

use coracle_scheduler::{candidate::Candidate, cluster::Cluster, cycle, nominations::Nominations, preemption};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::who_is_where;

/// Zones by node, so that they hold two nodes each.
fn put_node(cluster: &mut Cluster, at: usize, cpu: u8) {
    let name = format!("n{at}");
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": format!("z{}", at / 2)}},
        "status": {"allocatable": {"cpu": cpu.to_string(), "memory": "8Gi", "pods": "5"}}});
    cluster.put_node(Arc::new(serde_json::from_value(node).unwrap()));
}

#[derive(Clone, Debug)]
struct Wish {
    cpu: u8,
    priority: i32,
    app: u8,
    /// What it asks of the pods around it.
    manner: u8,
}

fn pod(at: usize, wish: &Wish) -> Arc<Candidate> {
    let labels = json!({"app": format!("a{}", wish.app)});
    let selector = json!({"matchLabels": labels});
    let term = json!([{"topologyKey": "zone", "labelSelector": selector}]);
    let mut spec = json!({"priority": wish.priority,
        "containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{}m", u32::from(wish.cpu) * 100)}}}]});
    match wish.manner {
        0 => {
            spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}])
        }
        1 => spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}),
        2 => spec["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}),
        _ => {}
    }
    let name = format!("p{at}");
    let pod: Value = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": labels}, "spec": spec});
    Arc::new(Candidate::of(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let wish = (1..20_u8, 0..4_i32, 0..3_u8, 0..6_u8);
    let wish = wish.prop_map(|(cpu, priority, app, manner)| Wish {
        cpu,
        priority,
        app,
        manner,
    });
    prop::collection::vec(wish, 1..24)
}

/// Schedules the pods one after the other; returns those that fit nowhere.
fn fill(cluster: &mut Cluster, wishes: &[Wish], draw: u64) -> Vec<(Arc<Candidate>, cycle::Unfit)> {
    let kept = Nominations::default();
    let mut left = Vec::new();
    for (at, wish) in wishes.iter().enumerate() {
        let pod = pod(at, wish);
        let attempt = cycle::decide(&pod, cluster, &kept, at, draw.wrapping_mul(at as u64));
        match attempt.outcome {
            Ok(node) => {
                let index = cluster.find(&node).unwrap();
                assert!(
                    cycle::passes(&pod, cluster, &kept, index).is_ok(),
                    "{} may not go to {node}",
                    pod.key
                );
                cluster.place(pod, &node);
            }
            Err(unfit) => left.push((pod, unfit)),
        }
    }
    left
}

fn put_budget(cluster: &mut Cluster, app: u8, allowed: u8) {
    let budget = json!({"metadata": {"name": format!("b{app}"), "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": format!("a{app}")}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}});
    cluster.put_budget(None, Some(&Arc::new(serde_json::from_value(budget).unwrap())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_chosen_node_passes_all_filters_and_is_never_over_committed(
        sizes in prop::collection::vec(1..5_u8, 1..7), wishes in wishes(), draw: u64,
    ) {
        let mut cluster = Cluster::default();
        sizes.iter().enumerate().for_each(|(at, cpu)| put_node(&mut cluster, at, *cpu));
        fill(&mut cluster, &wishes, draw);
        for (index, info, _) in cluster.nodes() {
            let asked: i64 = cluster.on(index).map(|pod| pod.requested.cpu_milli).sum();
            prop_assert_eq!(asked, info.requested.cpu_milli);
            prop_assert!(asked <= info.offer.resources.cpu_milli);
            prop_assert!(cluster.on(index).count() as i64 <= info.offer.pods);
        }
    }

    #[test]
    fn counts_are_those_of_a_fresh_world_whatever_came_and_went(
        sizes in prop::collection::vec(3..5_u8, 2..7), wishes in wishes(), draw: u64, gone in prop::collection::vec(0..24_usize, 0..9),
    ) {
        let mut cluster = Cluster::default();
        sizes.iter().enumerate().for_each(|(at, cpu)| put_node(&mut cluster, at, *cpu));
        fill(&mut cluster, &wishes, draw);
        for at in &gone {
            cluster.displace(&format!("p{at}"));
        }
        // A node that goes and comes back still has its pods.
        cluster.remove_node("n0");
        put_node(&mut cluster, 0, sizes[0]);
        let mut fresh = Cluster::default();
        sizes.iter().enumerate().for_each(|(at, cpu)| put_node(&mut fresh, at, *cpu));
        for (index, info, _) in cluster.nodes() {
            cluster.on(index).for_each(|pod| fresh.place(pod.clone(), &info.name));
        }
        for wish in &wishes {
            let pod = pod(99, wish);
            let kept = Nominations::default();
            cycle::attend(&pod, &mut cluster);
            cycle::attend(&pod, &mut fresh);
            for at in 0..sizes.len() {
                let name = format!("n{at}");
                let (here, there) = (cluster.find(&name).unwrap(), fresh.find(&name).unwrap());
                prop_assert_eq!(cycle::passes(&pod, &mut cluster, &kept, here), cycle::passes(&pod, &mut fresh, &kept, there));
            }
        }
    }

    #[test]
    fn preemption_takes_only_the_less_important_and_spares_budgets_where_it_can(
        sizes in prop::collection::vec(1..4_u8, 1..6), wishes in wishes(), draw: u64, allowed in 0..3_u8,
    ) {
        let mut cluster = Cluster::default();
        sizes.iter().enumerate().for_each(|(at, cpu)| put_node(&mut cluster, at, *cpu));
        put_budget(&mut cluster, 0, allowed);
        let kept = Nominations::default();
        for (pod, _) in fill(&mut cluster, &wishes, draw) {
            let attempt = cycle::decide(&pod, &mut cluster, &kept, 0, draw);
            let Err(unfit) = attempt.outcome else { continue };
            let before = who_is_where(&cluster);
            let outcome = preemption::preempt(&pod, &mut cluster, &kept, &unfit, draw);
            prop_assert_eq!(who_is_where(&cluster), before, "the world is as it was");
            let Ok(room) = outcome else { continue };
            prop_assert!(!room.victims.is_empty() && room.victims.iter().all(|victim| victim.priority < pod.priority));
            for node in &unfit.for_room {
                let only = cycle::Unfit { for_room: vec![*node], ..unfit.clone() };
                if let Ok(other) = preemption::preempt(&pod, &mut cluster, &kept, &only, 0) {
                    prop_assert!(room.violations <= other.violations);
                }
            }
            room.victims.iter().for_each(|victim| drop(cluster.displace(&victim.uid)));
            let index = cluster.find(&room.node).unwrap();
            prop_assert!(cycle::passes(&pod, &mut cluster, &kept, index).is_ok(), "there is room now");
            room.victims.iter().for_each(|victim| cluster.place(victim.clone(), &room.node));
        }
    }
}
