//! ConfigMap `kube-root-ca.crt`: each namespace can read the certificate authority that the API server is known by.
//!
//! It must never write to a namespace that is ending, and does nothing where no authority was given.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    namespace,
    plan::{Action, Plan, Target},
    resource::{CONFIG_MAPS, NAMESPACES},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are namespaces.
pub static CONTROLLER: Controller = Controller {
    name: "root-ca-certificate-publisher",
    resource: NAMESPACES,
    watches: &[Watch::Namespace(itself), Watch::ConfigMap(of_map)],
    reconcile,
};

const NAME: &str = "kube-root-ca.crt";
const ENTRY: &str = "ca.crt";

fn itself(change: &Change<Namespace>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|ns| Key::of(&ns.metadata)));
}

fn of_map(change: &Change<ConfigMap>, _: &World, keys: &mut Vec<Key>) {
    let ours = change.latest().filter(|map| map.metadata.name.as_deref() == Some(NAME));
    keys.extend(ours.and_then(|map| map.metadata.namespace.as_deref()).map(Key::cluster));
}

/// Decides what to do about one namespace.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(pem) = &world.facts.root_ca_pem else {
        return plan;
    };
    if world.namespaces.get(key).is_none_or(|ns| namespace::is_ending(&ns)) {
        return plan;
    }
    let data = json!({ENTRY: pem});
    match world.config_maps.get(&Key::new(&key.name, NAME)) {
        None => {
            let metadata = json!({"name": NAME, "namespace": &*key.name, "annotations": {
                "kubernetes.io/description": "Holds the certificate authority by which this cluster's API server is verified.",
            }});
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            plan.change(Action::create(&CONFIG_MAPS, &key.name, body));
        }
        Some(map) if map.data.as_ref().and_then(|d| d.get(ENTRY)) != Some(pem) => {
            plan.change(Action::merge(
                Target::of(&CONFIG_MAPS, &map.metadata),
                json!({"data": data}),
            ));
        }
        Some(_) => {}
    }
    plan
}
