//! Deletes bootstrap tokens whose time is over.

use k8s_openapi::api::core::v1::Secret;

use super::expiration;
use crate::{
    driver::{Controller, Turn},
    key::Key,
    plan::{Action, Plan},
    resource::SECRETS,
    store::Change,
    world::{Watch, World},
};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "token-cleaner",
    resource: SECRETS,
    watches: &[Watch::Secret(itself)],
    reconcile,
};

fn itself(change: &Change<Secret>, _: &World, keys: &mut Vec<Key>) {
    keys.extend(change.new.as_ref().map(|secret| Key::of(&secret.metadata)));
}

/// Decides what to do about one token.
pub fn reconcile(key: &Key, world: &World, turn: &Turn<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(secret) = world.secrets.get(key) else {
        return plan;
    };
    match expiration(&secret) {
        Some(end) if end <= turn.now => plan.change(Action::delete(&SECRETS, &secret.metadata)),
        Some(end) => plan.requeue(end),
        None => {}
    }
    plan
}
