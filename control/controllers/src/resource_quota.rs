//! ResourceQuotas: what a namespace uses, counted anew.
//!
//! A server that charges quotas with each write knows the numbers by itself; here they are put right where a server does
//! not give back what was deleted, or has lost count. The quota is read before the objects are, and written under the
//! condition that it is the same still: a charge that comes in between wins, and the count begins again.

use std::sync::OnceLock;

use coracle_api::{
    kinds::{Kind, Kinds},
    quota::{
        amounts::{self, Amounts},
        scopes, usage,
    },
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use serde_json::{Value, json};

use crate::{
    ask::Ask,
    clock::after_seconds,
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan, Target},
    pods,
    resource::{RESOURCE_QUOTAS, Resource},
    store::{Change, Object},
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    resource: RESOURCE_QUOTAS,
    watches: &[
        Watch::ResourceQuota(itself),
        Watch::Pod(of_pod),
        Watch::Service(of_service),
        Watch::PersistentVolumeClaim(of_claim),
    ],
    reconcile,
};

/// How often everything is counted though nothing was heard, as in Kubernetes.
const LOOK_SECONDS: i64 = 300;

fn itself(change: &Change<ResourceQuota>, _: &World, keys: &mut Vec<Key>) {
    let Some(new) = &change.new else { return };
    let asks = |quota: &ResourceQuota| quota.spec.clone();
    if change.old.as_ref().is_none_or(|old| asks(old) != asks(new)) {
        keys.push(Key::of(&new.metadata));
    }
}

/// Only what ends gives something back.
fn of_pod(change: &Change<Pod>, world: &World, keys: &mut Vec<Key>) {
    let ended = |pod: &Pod| pods::is_finished(pod);
    let ends = change
        .new
        .as_ref()
        .is_none_or(|new| ended(new) && change.old.as_ref().is_none_or(|old| !ended(old)));
    given_back(change, ends, world, keys);
}

fn of_service(change: &Change<Service>, world: &World, keys: &mut Vec<Key>) {
    given_back(change, change.new.is_none(), world, keys);
}

fn of_claim(change: &Change<PersistentVolumeClaim>, world: &World, keys: &mut Vec<Key>) {
    given_back(change, change.new.is_none(), world, keys);
}

fn given_back<K: Object>(change: &Change<K>, ends: bool, world: &World, keys: &mut Vec<Key>) {
    let namespace = change.latest().and_then(|object| object.meta().namespace.as_deref());
    let Some(namespace) = namespace.filter(|_| ends) else {
        return;
    };
    let quotas = world.resource_quotas.in_namespace(namespace);
    keys.extend(quotas.iter().map(|quota| Key::of(&quota.metadata)));
}

/// Decides what to do about one quota.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    if world.resource_quotas.get(key).is_none() {
        return plan;
    }
    let path = format!("{}/{}", RESOURCE_QUOTAS.path(&key.namespace), key.name);
    let Some(answer) = turn.ask(Ask::get(path), &mut plan) else {
        return plan;
    };
    plan.requeue(after_seconds(turn.now, LOOK_SECONDS));
    let Ok(quota) = answer else { return plan };
    let hard = amounts::read(quota, "spec.hard");
    let Some(used) = count(quota, &hard, key, world, turn, &mut plan) else {
        return Plan {
            asks: plan.asks,
            requeue_at: plan.requeue_at,
            ..Plan::default()
        };
    };
    if amounts::read(quota, "status.hard") != hard || amounts::read(quota, "status.used") != used {
        let meta = quota.get("metadata");
        let of = |field: &str| meta.and_then(|meta| meta.get(field)).cloned();
        let patch = json!({
            "metadata": {"uid": of("uid"), "resourceVersion": of("resourceVersion")},
            "status": {"hard": amounts::write(&hard), "used": amounts::write(&used)},
        });
        let target = Target {
            resource: RESOURCE_QUOTAS,
            key: key.clone(),
        };
        plan.change(Action::status(target, patch));
    }
    plan
}

/// Counts the objects that the quota is about; nothing while they are asked for.
fn count(quota: &Value, hard: &Amounts, key: &Key, world: &World, turn: &Turn<'_>, plan: &mut Plan) -> Option<Amounts> {
    let mut used: Amounts = hard
        .keys()
        .map(|name| (name.clone(), coracle_api::quantity::Quantity::ZERO))
        .collect();
    let mut asking = false;
    for resource in world.graph.resources().iter().filter(|resource| resource.namespaced) {
        let kind = kind(resource);
        if !usage::concerns(&kind, hard) {
            continue;
        }
        let Some(answer) = turn.ask(Ask::get(resource.path(&key.namespace)), plan) else {
            asking = true;
            continue;
        };
        // A kind that cannot be read leaves the count unknown, and the quota as it is.
        let items = answer.ok()?.get("items").and_then(Value::as_array)?;
        for object in items.iter().filter(|object| scopes::matches(quota, &kind, object)) {
            amounts::add(&mut used, &usage::of(&kind, object, hard));
        }
    }
    (!asking).then_some(used)
}

/// The row of a kind; one that users have defined is counted by its name alone.
fn kind(resource: &Resource) -> Kind {
    static KINDS: OnceLock<Kinds> = OnceLock::new();
    let known = KINDS
        .get_or_init(Kinds::builtin)
        .find(&resource.group, &resource.version, &resource.plural);
    known.map(|kind| (**kind).clone()).unwrap_or_else(|| {
        Kind::new(
            resource.group.clone(),
            resource.version.clone(),
            resource.kind.clone(),
            resource.plural.clone(),
            "",
        )
    })
}
