//! ServiceAccounts: each namespace has one called `default`, for pods that name none.
//!
//! It must never create one in a namespace that is ending.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::json;

use crate::{
    driver::{Controller, Turn},
    key::Key,
    namespace,
    plan::{Action, Plan},
    resource::{NAMESPACES, SERVICE_ACCOUNTS},
    store::Change,
    world::{Watch, World},
};

/// The controller. Its keys are namespaces.
pub static CONTROLLER: Controller = Controller {
    name: "serviceaccount-controller",
    resource: NAMESPACES,
    watches: &[Watch::Namespace(itself), Watch::ServiceAccount(of_account)],
    reconcile,
};

const NAME: &str = "default";

fn itself(change: &Change<Namespace>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|ns| Key::of(&ns.metadata)));
}

fn of_account(change: &Change<ServiceAccount>, _: &World, keys: &mut Vec<Key>) {
    let gone = change.old.as_ref().filter(|_| change.new.is_none());
    let ours = gone.filter(|account| account.metadata.name.as_deref() == Some(NAME));
    keys.extend(
        ours.and_then(|account| account.metadata.namespace.as_deref())
            .map(Key::cluster),
    );
}

/// Decides what to do about one namespace.
pub fn reconcile(key: &Key, world: &World, _: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let alive = world.namespaces.get(key).is_some_and(|ns| !namespace::is_ending(&ns));
    if alive && world.service_accounts.get(&Key::new(&key.name, NAME)).is_none() {
        let body =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": &*key.name}});
        plan.change(Action::create(&SERVICE_ACCOUNTS, &key.name, body));
    }
    plan
}
