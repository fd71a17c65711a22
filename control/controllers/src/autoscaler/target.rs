//! What an autoscaler scales: any kind that has a scale, found by what the server says of its kinds.

use std::sync::Arc;

use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::core::Selector;
use serde_json::Value;

use crate::{ask::Ask, driver::Turn, key::Key, owner, plan::Plan, resource::Resource, world::World};

/// The target, with its scale.
pub struct Scaled {
    /// Its kind.
    pub resource: Resource,
    /// Its name.
    pub name: String,
    /// How many replicas are wanted of it.
    pub replicas: i32,
    /// How many it has.
    pub present: i32,
    /// Which pods are its own, as a label selector.
    pub selector: String,
}

/// Reads the target's scale. Nothing while it is asked; the error says why there is none.
pub fn read(autoscaler: &HorizontalPodAutoscaler, turn: &Turn<'_>, plan: &mut Plan) -> Option<Result<Scaled, String>> {
    let target = &autoscaler.spec.scale_target_ref;
    let namespace = autoscaler.metadata.namespace.as_deref().unwrap_or_default();
    let resource = match kind(target.api_version.as_deref().unwrap_or("v1"), &target.kind, turn, plan)? {
        Ok(resource) => resource,
        Err(message) => return Some(Err(message)),
    };
    let path = format!("{}/{}/scale", resource.path(namespace), target.name);
    let scale = match turn.ask(Ask::get(path), plan)? {
        Ok(scale) => scale,
        Err(failure) => return Some(Err(failure.message.clone())),
    };
    let number = |path: &str| {
        let number = scale.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    let selector = scale
        .pointer("/status/selector")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if selector.is_empty() {
        return Some(Err("selector is required".to_owned()));
    }
    Some(Ok(Scaled {
        resource,
        name: target.name.clone(),
        replicas: number("/spec/replicas"),
        present: number("/status/replicas"),
        selector: selector.to_owned(),
    }))
}

/// The kind of that name in that group and version, as the server lists it.
pub fn kind(api_version: &str, kind: &str, turn: &Turn<'_>, plan: &mut Plan) -> Option<Result<Resource, String>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let missing = || format!("no matches for kind \"{kind}\" in group \"{group}\"");
    let list = match turn.ask(Ask::get(format!("{root}/{api_version}")), plan)? {
        Ok(list) => list,
        Err(failure) if failure.code == 404 => return Some(Err(missing())),
        Err(failure) => return Some(Err(failure.message.clone())),
    };
    let is_it = |row: &&Value| row.get("kind").and_then(Value::as_str) == Some(kind);
    let rows = list.get("resources").and_then(Value::as_array).into_iter().flatten();
    let names = rows.filter(is_it).filter_map(|row| row.get("name")?.as_str());
    let plural = names.into_iter().find(|name| !name.contains('/'));
    Some(plural.ok_or_else(missing).map(|plural| Resource {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        kind: kind.to_owned().into(),
        plural: plural.to_owned().into(),
        namespaced: true,
    }))
}

/// All autoscalers that scale some of these pods, this one among them, in order; empty if it is the only one. Of others
/// the selectors are known where they scale a kind of apps/v1, or the same target.
pub fn rivals(autoscaler: &HorizontalPodAutoscaler, pods: &[Arc<Pod>], world: &World) -> Vec<Key> {
    let own = Key::of(&autoscaler.metadata);
    let scales = |other: &HorizontalPodAutoscaler| {
        let (mine, theirs) = (&autoscaler.spec.scale_target_ref, &other.spec.scale_target_ref);
        let same = mine.kind == theirs.kind && mine.name == theirs.name;
        let selects = || selector(&theirs.kind, &Key::new(&own.namespace, &theirs.name), world);
        same || selects().is_some_and(|selector| pods.iter().any(|pod| owner::selects(&selector, &pod.metadata)))
    };
    let all = world.horizontal_pod_autoscalers.in_namespace(&own.namespace);
    let others = all.iter().filter(|other| Key::of(&other.metadata) != own);
    let mut rivals: Vec<Key> = others
        .filter(|other| scales(other))
        .map(|other| Key::of(&other.metadata))
        .collect();
    if !rivals.is_empty() {
        rivals.push(own);
        rivals.sort();
    }
    rivals
}

fn selector(kind: &str, key: &Key, world: &World) -> Option<Selector> {
    match kind {
        "Deployment" => owner::selector(&world.deployments.get(key)?.spec.as_ref()?.selector),
        "ReplicaSet" => owner::selector(&world.replica_sets.get(key)?.spec.as_ref()?.selector),
        "StatefulSet" => owner::selector(&world.stateful_sets.get(key)?.spec.as_ref()?.selector),
        _ => None,
    }
}
