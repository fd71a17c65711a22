//! The revisions of a template, as StatefulSets and DaemonSets keep them: ControllerRevision objects that are numbered
//! up and never change.
//!
//! A revision is the same as another when its data is; going back to an earlier template gives the old revision a new
//! number, so that pods that still have it need not be touched.

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec};
use serde_json::{Value, json};

use crate::{
    deployment::revision::hash,
    key::Key,
    merge,
    owner::Claimant,
    plan::{Action, Plan, Target, controller_of},
    resource::CONTROLLER_REVISIONS,
    world::World,
};

/// The label that tells the revision of a pod.
pub const LABEL: &str = "controller-revision-hash";

/// The revisions of one owner.
pub struct History<'a> {
    /// Whose they are.
    pub owner: Claimant<'a>,
    /// From the oldest number to the newest.
    pub all: Vec<Arc<ControllerRevision>>,
}

/// Where the present template is in the history.
pub enum Present {
    /// It is this one, the newest.
    Is(Arc<ControllerRevision>),
    /// It will be when the plan is carried out.
    Planned,
    /// Its name is taken by another: the owner's status must count a collision.
    Collides,
}

/// A template as a revision keeps it: a patch that replaces the owner's.
#[must_use]
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = merge::value(template);
    crate::template::set(&mut template, &["$patch"], "replace".into());
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

impl<'a> History<'a> {
    /// The revisions of that owner; plans to take in those that it lost.
    #[must_use]
    pub fn of(owner: Claimant<'a>, world: &World, plan: &mut Plan) -> Self {
        let mut all = owner.claim(&world.controller_revisions, &CONTROLLER_REVISIONS, plan);
        all.sort_by_key(|r| {
            (
                r.revision,
                r.metadata.creation_timestamp.as_ref().map(|t| t.0),
                r.metadata.name.clone(),
            )
        });
        Self { owner, all }
    }

    /// The revision of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<ControllerRevision>> {
        self.all.iter().find(|r| r.metadata.name.as_deref() == Some(name))
    }

    /// The revision of the present template; plans it if it is not there or not the newest.
    #[must_use]
    pub fn present(&self, template: &PodTemplateSpec, collisions: i32, world: &World, plan: &mut Plan) -> Present {
        let data = data(template);
        let newest = self.all.last().map_or(0, |r| r.revision);
        let same = self
            .all
            .iter()
            .rev()
            .find(|r| r.data.as_ref().is_some_and(|d| d.0 == data));
        if let Some(found) = same {
            if found.revision < newest {
                let patch = json!({"metadata": {"uid": found.metadata.uid}, "revision": newest + 1});
                plan.change(Action::merge(Target::of(&CONTROLLER_REVISIONS, &found.metadata), patch));
                return Present::Planned;
            }
            return Present::Is(found.clone());
        }
        let meta = self.owner.meta;
        let hash = hash(template, collisions);
        let name = format!("{}-{hash}", meta.name.as_deref().unwrap_or_default());
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if world.controller_revisions.get(&Key::new(namespace, &name)).is_some() {
            return Present::Collides;
        }
        let template_meta = template.metadata.clone().unwrap_or_default();
        let mut labels = template_meta.labels.unwrap_or_default();
        labels.insert(LABEL.to_owned(), hash);
        let body = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": name, "namespace": namespace, "labels": labels, "annotations": meta.annotations,
                "ownerReferences": [controller_of(self.owner.resource, meta)],
            },
            "data": data, "revision": newest + 1,
        });
        plan.change(Action::create(&CONTROLLER_REVISIONS, namespace, body));
        Present::Planned
    }

    /// Plans the deletion of the oldest revisions that nobody uses, beyond `limit`.
    pub fn truncate(&self, limit: Option<i32>, used: &HashSet<String>, plan: &mut Plan) {
        let unused = self
            .all
            .iter()
            .filter(|r| !used.contains(r.metadata.name.as_deref().unwrap_or_default()));
        let unused: Vec<_> = unused.collect();
        let surplus = unused
            .len()
            .saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or(0));
        let doomed = unused.into_iter().take(surplus);
        plan.batch(
            doomed
                .map(|r| Action::delete(&CONTROLLER_REVISIONS, &r.metadata))
                .collect(),
        );
    }
}
