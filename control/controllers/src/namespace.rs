//! Namespace deletion: everything in a namespace that is ending goes, pods first, and then the namespace.
//!
//! It must never let a namespace go while anything is left in it, and never touch one that is not being deleted.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::{
    driver::{Controller, Turn},
    graph::{Content, GraphChange},
    key::Key,
    merge,
    plan::{Action, Guard, Plan, Target, Verb},
    resource::{EVENTS, NAMESPACES, Resource},
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    resource: NAMESPACES,
    watches: &[Watch::Namespace(itself), Watch::Graph(of_content)],
    reconcile,
};

/// What the server puts into `spec.finalizers` and this controller takes out.
const FINALIZER: &str = "kubernetes";

fn itself(change: &Change<Namespace>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(
        change
            .new
            .iter()
            .filter(|ns| is_ending(ns))
            .map(|ns| Key::of(&ns.metadata)),
    );
}

fn of_content(change: &GraphChange, world: &World, keys: &mut Vec<Key>) {
    let Some(node) = change.new.as_ref().or(change.old.as_ref()) else {
        return;
    };
    if node.key.namespace.is_empty() {
        return;
    }
    let key = Key::cluster(&node.key.namespace);
    if world.namespaces.get(&key).is_some_and(|ns| is_ending(&ns)) {
        keys.push(key);
    }
}

/// Whether the namespace is being deleted.
#[must_use]
pub fn is_ending(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

/// Decides what to do about one namespace.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(namespace) = world.namespaces.get(key).filter(|ns| is_ending(ns)) else {
        return plan;
    };
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_deref())
        .unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        return plan;
    }
    let content = world.graph.content(&key.name);
    if content.is_empty() {
        plan.guards.push(Guard::Empty(key.name.to_string()));
        plan.change(delete_all(&EVENTS, &key.name));
        plan.change(finalize(&namespace));
        return plan;
    }
    plan.batch(
        next_to_go(&content)
            .map(|row| delete_all(&row.resource, &key.name))
            .collect(),
    );
    report(&namespace, &content, turn.now, &mut plan);
    plan
}

/// Pods while there are any; then all the rest. What is on its way out already is left to end.
fn next_to_go(content: &[Content]) -> impl Iterator<Item = &Content> {
    let is_pods = |row: &&Content| row.resource.plural == "pods" && row.resource.group.is_empty();
    let pods_left = content.iter().any(|row| is_pods(&row));
    content
        .iter()
        .filter(move |row| row.untouched > 0 && (!pods_left || is_pods(row)))
}

fn delete_all(resource: &Resource, namespace: &str) -> Action {
    let target = Target {
        resource: resource.clone(),
        key: Key::new(namespace, ""),
    };
    Action {
        target,
        verb: Verb::DeleteCollection,
        note: None,
    }
}

fn finalize(namespace: &Namespace) -> Action {
    let mut body = merge::value(namespace);
    if let Some(Value::Array(finalizers)) = body.pointer_mut("/spec/finalizers") {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let verb = Verb::Replace {
        subresource: "finalize",
        body,
    };
    Action {
        target: Target::of(&NAMESPACES, &namespace.metadata),
        verb,
        note: None,
    }
}

fn report(namespace: &Namespace, content: &[Content], now: Timestamp, plan: &mut Plan) {
    let old = namespace.status.clone().unwrap_or_default();
    let conditions = conditions(old.conditions.as_deref().unwrap_or_default(), content, now);
    let status = NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions),
    };
    if let Some(patch) = merge::status(namespace.metadata.uid.as_deref(), &old, &status) {
        plan.reports
            .push(Action::status(Target::of(&NAMESPACES, &namespace.metadata), patch));
    }
}

/// The five conditions that tell how far the deletion is, in the order and words of Kubernetes.
fn conditions(old: &[NamespaceCondition], content: &[Content], now: Timestamp) -> Vec<NamespaceCondition> {
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in content.iter().flat_map(|row| &row.finalizers) {
        *finalizers.entry(finalizer).or_default() += count;
    }
    let remaining: Vec<String> = content
        .iter()
        .map(|row| format!("{} has {} resource instances", name(&row.resource), row.total))
        .collect();
    let held: Vec<String> = finalizers
        .iter()
        .map(|(f, count)| format!("{f} in {count} resource instances"))
        .collect();
    let fine =
        |type_: &str, reason: &str, message: &str| (type_.to_owned(), false, reason.to_owned(), message.to_owned());
    let rows = [
        fine(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining".to_owned(),
            true,
            "SomeResourcesRemain".to_owned(),
            format!("Some resources are remaining: {}", remaining.join(", ")),
        ),
        if held.is_empty() {
            fine(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            )
        } else {
            let message = format!(
                "Some content in the namespace has finalizers remaining: {}",
                held.join(", ")
            );
            (
                "NamespaceFinalizersRemaining".to_owned(),
                true,
                "SomeFinalizersRemain".to_owned(),
                message,
            )
        },
    ];
    let condition = |(type_, bad, reason, message): (String, bool, String, String)| {
        let status = if bad { "True" } else { "False" };
        let same = old.iter().find(|c| c.type_ == type_ && c.status == status);
        let since = same.and_then(|c| c.last_transition_time.clone()).unwrap_or(Time(now));
        NamespaceCondition {
            type_,
            status: status.to_owned(),
            reason: Some(reason),
            message: Some(message),
            last_transition_time: Some(since),
        }
    };
    rows.into_iter().map(condition).collect()
}

fn name(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("{}.", resource.plural)
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}
