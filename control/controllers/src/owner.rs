//! Ownership by a controller: who belongs to whom, who is taken in, who is let go.
//!
//! An object with the right labels and no controller is adopted, after a live look that the adopter still exists; an
//! owned object whose labels no longer fit is released. An object that another controller owns is never touched.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt};
use serde_json::json;

use crate::{
    key::Key,
    merge,
    plan::{Action, Guard, Plan, Target, controller_of},
    resource::Resource,
    store::{Object, Store},
};

/// The selector in usable form; `None` if it is empty or cannot be read, and then it must select nothing.
#[must_use]
pub fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok().filter(|s| !s.selects_all())
}

/// Whether the selector picks an object with this metadata.
#[must_use]
pub fn selects(selector: &Selector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&Default::default()),
    }
}

/// Who claims.
pub struct Claimant<'a> {
    /// Its kind.
    pub resource: &'a Resource,
    /// Its metadata.
    pub meta: &'a ObjectMeta,
    /// What it selects.
    pub selector: &'a Selector,
}

impl Claimant<'_> {
    /// The objects that are the claimant's; plans what makes it so. Those just adopted count already.
    pub fn claim<K: Object>(&self, store: &Store<K>, kind: &Resource, plan: &mut Plan) -> Vec<Arc<K>> {
        let namespace = self.meta.namespace.as_deref().unwrap_or_default();
        let uid = self.meta.uid.as_deref().unwrap_or_default();
        let deleting = self.meta.deletion_timestamp.is_some();
        let (mut mine, strangers): (Vec<_>, Vec<_>) = store
            .controlled_by(namespace, uid)
            .into_iter()
            .partition(|object| deleting || selects(self.selector, object.meta()));
        let release = strangers
            .iter()
            .filter(|object| object.meta().deletion_timestamp.is_none());
        plan.batch(release.map(|object| release_from(object.meta(), kind, uid)).collect());
        if deleting {
            return mine;
        }
        let orphans = store.controlled_by(namespace, "").into_iter();
        let adopted: Vec<_> = orphans
            .filter(|o| o.meta().deletion_timestamp.is_none() && selects(self.selector, o.meta()))
            .collect();
        if !adopted.is_empty() {
            plan.guards
                .push(Guard::Alive(Target::of(self.resource, self.meta), uid.to_owned()));
            plan.batch(adopted.iter().map(|object| self.adopt(object.meta(), kind)).collect());
            mine.extend(adopted);
        }
        mine
    }

    fn adopt(&self, meta: &ObjectMeta, kind: &Resource) -> Action {
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| Some(&owner.uid) != self.meta.uid.as_ref());
        owners.push(controller_of(self.resource, self.meta));
        set_owners(meta, kind, &owners)
    }
}

fn release_from(meta: &ObjectMeta, kind: &Resource, uid: &str) -> Action {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != uid);
    set_owners(meta, kind, &owners)
}

/// Replaces the owners of the object, as long as nobody else has written to it.
#[must_use]
pub fn set_owners<O: serde::Serialize>(meta: &ObjectMeta, kind: &Resource, owners: &O) -> Action {
    let patch = json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": merge::value(owners),
    }});
    Action::merge(Target::of(kind, meta), patch)
}

/// The key of the object's controller, if that is of `kind`.
#[must_use]
pub fn controller_key(meta: &ObjectMeta, kind: &Resource) -> Option<Key> {
    let owner = meta
        .owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true))?;
    let same = owner.kind == kind.kind && owner.api_version == kind.api_version();
    same.then(|| Key::new(meta.namespace.as_deref().unwrap_or_default(), &owner.name))
}
