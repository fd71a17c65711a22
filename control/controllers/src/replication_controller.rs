//! ReplicationControllers: what ReplicaSets were called before they had selectors with expressions.
//!
//! One is decided on as if it were a ReplicaSet with the same labels to select; only its kind and its status differ.

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetSpec},
        core::v1::{Pod, ReplicationController, ReplicationControllerStatus},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    driver::{Controller, Turn},
    key::Key,
    merge, owner,
    plan::{Action, Plan, Target},
    replicaset,
    resource::REPLICATION_CONTROLLERS,
    store::{Change, controller_uid},
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "replication-controller",
    resource: REPLICATION_CONTROLLERS,
    watches: &[Watch::ReplicationController(itself), Watch::Pod(of_pod)],
    reconcile,
};

fn itself(change: &Change<ReplicationController>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.latest().map(|rc| Key::of(&rc.metadata)));
}

fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .both()
            .filter_map(|pod| owner::controller_key(&pod.metadata, &REPLICATION_CONTROLLERS)),
    );
    keys.dedup();
    let Some(pod) = change.new.as_ref().filter(|p| controller_uid(&p.metadata).is_empty()) else {
        return;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for rc in world.replication_controllers.in_namespace(namespace) {
        if owner::selector(&selector(&rc)).is_some_and(|s| owner::selects(&s, &pod.metadata)) {
            keys.push(Key::of(&rc.metadata));
        }
    }
}

fn selector(rc: &ReplicationController) -> LabelSelector {
    LabelSelector {
        match_labels: rc.spec.as_ref().and_then(|spec| spec.selector.clone()),
        match_expressions: None,
    }
}

/// The ReplicaSet that wants the same.
fn as_set(rc: &ReplicationController) -> ReplicaSet {
    let spec = rc.spec.clone().unwrap_or_default();
    let status = rc.status.as_ref().map(merge::value);
    ReplicaSet {
        metadata: rc.metadata.clone(),
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: selector(rc),
            template: spec.template,
        }),
        // Every field of the one is a field of the other.
        status: status.and_then(|status| serde_json::from_value(status).ok()),
    }
}

/// Decides what to do about one ReplicationController.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(rc) = world.replication_controllers.get(key) else {
        return plan;
    };
    let Some(status) = replicaset::decide(&REPLICATION_CONTROLLERS, &as_set(&rc), world, turn, &mut plan) else {
        return plan;
    };
    let status: ReplicationControllerStatus = serde_json::from_value(merge::value(&status)).unwrap_or_default();
    let old = rc.status.clone().unwrap_or_default();
    if let Some(patch) = merge::status(rc.metadata.uid.as_deref(), &old, &status) {
        plan.reports.push(Action::status(
            Target::of(&REPLICATION_CONTROLLERS, &rc.metadata),
            patch,
        ));
    }
    plan
}
