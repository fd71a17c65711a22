//! Garbage collection: what all its owners have left behind goes too.
//!
//! An object whose owners are all gone is deleted; one that still has an owner only loses its dangling references.
//! Foreground deletion waits for dependents, orphaning lets them go. It must never delete on a cache's word alone: that
//! an owner is gone, or that nobody refers to it any more, is asked of the server before anything is written.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    graph::{Graph, GraphChange, Node},
    key::Key,
    plan::{Action, EventDraft, Guard, Plan, Propagation, Target, Verb},
    resource::PODS,
    world::{Watch, World},
};

/// The controller. Its keys are uids.
pub static CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    resource: PODS,
    watches: &[Watch::Graph(of_change)],
    reconcile,
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

fn of_change(change: &GraphChange, world: &World, keys: &mut Vec<Key>) {
    let graph = &world.graph;
    let key = |uid: &str| Key::cluster(uid);
    if let Some(new) = &change.new {
        let held = new.deleting && (new.held_by(FOREGROUND) || new.held_by(ORPHAN));
        let owner_ending = |o: &OwnerReference| graph.get(&o.uid).is_none_or(|owner| owner.deleting);
        if held || (!new.deleting && new.owners.iter().any(owner_ending)) {
            keys.push(key(&new.uid));
        }
        if new.deleting && new.held_by(FOREGROUND) {
            keys.extend(graph.dependents(&new.uid).iter().map(|d| key(&d.uid)));
        }
    }
    let Some(old) = &change.old else { return };
    if change.new.is_none() {
        keys.extend(graph.dependents(&old.uid).iter().map(|d| key(&d.uid)));
    }
    // An owner that waits for its dependents looks again when one of them goes or lets it go.
    let owners = old.owners.iter().filter_map(|o| graph.get(&o.uid));
    keys.extend(owners.filter(|owner| owner.deleting).map(|owner| key(&owner.uid)));
}

/// Decides what to do about the object with the uid that `key` names.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let graph = &world.graph;
    match graph.get(&key.name) {
        None => Plan::default(),
        Some(node) if node.deleting && node.held_by(FOREGROUND) => finish_foreground(&node, graph),
        Some(node) if node.deleting && node.held_by(ORPHAN) => orphan(&node, graph),
        Some(node) if node.deleting || node.owners.is_empty() => Plan::default(),
        Some(node) => judge(&node, graph),
    }
}

/// The owner goes when nobody blocks it any more.
fn finish_foreground(node: &Node, graph: &Graph) -> Plan {
    let blocks = |dependent: &Arc<Node>| {
        dependent
            .owners
            .iter()
            .any(|o| o.uid == *node.uid && o.block_owner_deletion == Some(true))
    };
    if graph.dependents(&node.uid).iter().any(blocks) {
        return Plan::default();
    }
    let_go(node, FOREGROUND, true)
}

/// Dependents lose the reference to their owner; only when all have lost it does the owner go.
fn orphan(node: &Node, graph: &Graph) -> Plan {
    let dependents = graph.dependents(&node.uid);
    if dependents.is_empty() {
        return let_go(node, ORPHAN, false);
    }
    let mut plan = Plan::default();
    let strip = |d: &Arc<Node>| keep_owners(d, d.owners.iter().filter(|o| o.uid != *node.uid).collect());
    plan.batch(dependents.iter().map(strip).collect());
    plan
}

fn let_go(node: &Node, finalizer: &str, blocking: bool) -> Plan {
    let mut plan = Plan::default();
    let namespace = node.key.namespace.to_string();
    plan.guards.push(Guard::Unreferenced {
        uid: node.uid.to_string(),
        namespace,
        blocking,
    });
    let rest: Vec<&String> = node.finalizers.iter().filter(|f| *f != finalizer).collect();
    plan.change(Action::merge(
        node.target(),
        json!({"metadata": {
            "uid": &*node.uid, "resourceVersion": node.resource_version, "finalizers": rest,
        }}),
    ));
    plan
}

/// How an owner stands, seen from one who refers to it.
enum Standing {
    /// It is there.
    Solid,
    /// It is there, and waits for its dependents to go.
    Waiting,
    /// It seems gone; the guard asks the server.
    Gone(Guard),
    /// Its kind is not covered: nothing can be said.
    Unknown,
    /// It cannot be an owner from where it is.
    Misplaced,
}

fn standing(node: &Node, reference: &OwnerReference, graph: &Graph) -> Standing {
    let Some(kind) = graph.resource(&reference.api_version, &reference.kind) else {
        return Standing::Unknown;
    };
    if kind.namespaced && node.key.namespace.is_empty() {
        return Standing::Misplaced;
    }
    let namespace = if kind.namespaced { &*node.key.namespace } else { "" };
    let place = Target {
        resource: kind,
        key: Key::new(namespace, &reference.name),
    };
    match graph.get(&reference.uid) {
        Some(owner) if owner.target() != place => Standing::Misplaced,
        Some(owner) if owner.deleting && owner.held_by(FOREGROUND) && reference.block_owner_deletion == Some(true) => {
            Standing::Waiting
        }
        Some(_) => Standing::Solid,
        None => Standing::Gone(Guard::Absent(place, reference.uid.clone())),
    }
}

fn judge(node: &Node, graph: &Graph) -> Plan {
    let mut plan = Plan::default();
    let (mut solid, mut waiting) = (Vec::new(), 0_usize);
    for reference in &node.owners {
        match standing(node, reference, graph) {
            Standing::Solid => solid.push(reference),
            Standing::Waiting => waiting += 1,
            Standing::Gone(guard) => plan.guards.push(guard),
            Standing::Unknown => return Plan::default(),
            Standing::Misplaced => {
                let mut plan = Plan::default();
                plan.events.push(misplaced(node, reference));
                return plan;
            }
        }
    }
    if solid.len() == node.owners.len() {
        return plan;
    }
    if !solid.is_empty() {
        plan.change(keep_owners(node, solid));
        return plan;
    }
    let dependents = graph.dependents(&node.uid);
    if waiting > 0 && !dependents.is_empty() {
        // A circle of owners that wait for each other would wait for ever: those who go already must not be waited for.
        plan.batch(
            dependents
                .iter()
                .filter(|d| d.deleting && d.held_by(FOREGROUND))
                .map(|d| unblock(d, node))
                .collect(),
        );
    }
    let propagation = match (waiting > 0 && !dependents.is_empty(), node) {
        (true, _) => Propagation::Foreground,
        (_, node) if node.held_by(ORPHAN) => Propagation::Orphan,
        (_, node) if node.held_by(FOREGROUND) => Propagation::Foreground,
        _ => Propagation::Background,
    };
    let verb = Verb::Delete {
        uid: node.uid.to_string(),
        // The owners must still be those that were judged; pods write their status too often to be held to a version.
        resource_version: None,
        propagation,
        grace_period_seconds: None,
    };
    plan.change(Action {
        target: node.target(),
        verb,
        note: None,
    });
    plan
}

fn keep_owners(node: &Node, kept: Vec<&OwnerReference>) -> Action {
    Action::merge(
        node.target(),
        json!({"metadata": {
            "uid": &*node.uid, "resourceVersion": node.resource_version, "ownerReferences": kept,
        }}),
    )
}

fn unblock(dependent: &Node, owner: &Node) -> Action {
    let mut owners = dependent.owners.clone();
    for reference in owners.iter_mut().filter(|o| o.uid == *owner.uid) {
        reference.block_owner_deletion = Some(false);
    }
    keep_owners(dependent, owners.iter().collect())
}

fn misplaced(node: &Node, reference: &OwnerReference) -> EventDraft {
    let about = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(node.resource.api_version()),
        kind: Some(node.resource.kind.to_string()),
        name: Some(node.key.name.to_string()),
        namespace: (!node.key.namespace.is_empty()).then(|| node.key.namespace.to_string()),
        uid: Some(node.uid.to_string()),
        ..Default::default()
    };
    let message = format!(
        "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
        reference.api_version, reference.kind, node.key.namespace, reference.name, reference.uid, node.key.namespace,
    );
    EventDraft::warning(about, "OwnerRefInvalidNamespace", message)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::scene::{Scene, now};

    fn object(kind: &str, name: &str, owners: &[(&str, &str, bool)]) -> Value {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(kind, uid, block)| {
                let version = if *kind == "ReplicaSet" || *kind == "Deployment" {
                    "apps/v1"
                } else {
                    "v1"
                };
                json!({"apiVersion": version, "kind": kind, "name": uid, "uid": uid, "blockOwnerDeletion": block})
            })
            .collect();
        json!({"kind": kind, "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "7", "ownerReferences": owners}})
    }

    fn ending(mut object: Value, finalizer: &str) -> Value {
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["finalizers"] = json!([finalizer]);
        object
    }

    fn plan(scene: &Scene, uid: &str) -> Plan {
        reconcile(&Key::cluster(uid), scene.world(), &Turn::at(now()))
    }

    fn only(plan: &Plan) -> &Verb {
        assert_eq!(plan.actions().count(), 1, "{plan:?}");
        &plan.actions().next().unwrap().verb
    }

    #[test]
    fn an_owner_that_is_there_protects_and_an_unknown_kind_is_not_judged() {
        let scene = Scene::default()
            .with(object("ReplicaSet", "r", &[]))
            .with(object("Pod", "p", &[("ReplicaSet", "r", true)]))
            .with(object("Pod", "q", &[("Mystery", "m", true)]));
        assert!(plan(&scene, "p").is_settled());
        assert!(plan(&scene, "q").is_settled());
    }

    #[test]
    fn foreground_deletion_goes_from_the_leaves_up() {
        let scene = Scene::default()
            .with(ending(object("Deployment", "d", &[]), FOREGROUND))
            .with(object("ReplicaSet", "r", &[("Deployment", "d", true)]))
            .with(object("Pod", "p", &[("ReplicaSet", "r", true)]));
        assert!(plan(&scene, "d").is_settled(), "blocked");
        assert!(matches!(
            only(&plan(&scene, "r")),
            Verb::Delete {
                propagation: Propagation::Foreground,
                ..
            }
        ));
        assert!(plan(&scene, "p").is_settled());
        let scene = scene.with(ending(
            object("ReplicaSet", "r", &[("Deployment", "d", true)]),
            FOREGROUND,
        ));
        assert!(matches!(
            only(&plan(&scene, "p")),
            Verb::Delete {
                propagation: Propagation::Background,
                ..
            }
        ));
        let alone = Scene::default().with(ending(object("Deployment", "d", &[]), FOREGROUND));
        let last = plan(&alone, "d");
        assert!(matches!(only(&last), Verb::Merge { patch, .. } if patch["metadata"]["finalizers"] == json!([])));
        assert!(matches!(&last.guards[..], [Guard::Unreferenced { blocking: true, .. }]));
    }

    #[test]
    fn changes_concern_those_who_must_look_again() {
        let scene = Scene::default().with(object("ReplicaSet", "r", &[])).with(object(
            "Pod",
            "p",
            &[("ReplicaSet", "r", true)],
        ));
        let graph = &scene.world().graph;
        let asked = |old: Option<&str>, new: Option<&str>| {
            let change = GraphChange {
                old: old.and_then(|u| graph.get(u)),
                new: new.and_then(|u| graph.get(u)),
            };
            let mut keys = Vec::new();
            of_change(&change, scene.world(), &mut keys);
            keys
        };
        assert!(
            asked(None, Some("p")).is_empty(),
            "a pod whose owner is there needs no look"
        );
        assert_eq!(asked(Some("r"), None), [Key::cluster("p")]);
    }
}
