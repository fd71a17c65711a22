//! What a reconciler wants done: writes as values, so that deciding needs no server and a test can read the decision.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde_json::Value;

use crate::{ask::Ask, key::Key, resource::Resource};

/// What to do about one key. Carried out in this order: guards, changes, reports, events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What has to be known first. A plan that asks is not carried out: it is made again with the answers.
    pub asks: Vec<Ask>,
    /// Read live before anything is written; one that fails drops the plan.
    pub guards: Vec<Guard>,
    /// The writes, in order; the first that fails ends the plan but for its reports.
    pub changes: Vec<Step>,
    /// Writes of status, done whether or not the changes went through.
    pub reports: Vec<Action>,
    /// Told when all changes went through.
    pub events: Vec<EventDraft>,
    /// When to look again though nothing has changed.
    pub requeue_at: Option<Timestamp>,
}

impl Plan {
    /// Adds one write.
    pub fn change(&mut self, action: Action) {
        self.changes.push(Step::One(action));
    }

    /// Adds writes that do not depend on each other.
    pub fn batch(&mut self, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.changes.push(Step::Batch(actions));
        }
    }

    /// Asks to look again at `when`, if no earlier time is asked for.
    pub fn requeue(&mut self, when: Timestamp) {
        self.requeue_at = Some(self.requeue_at.map_or(when, |set| set.min(when)));
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.reports.is_empty()
    }

    /// All writes, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        let changes = self.changes.iter().flat_map(|step| match step {
            Step::One(action) => std::slice::from_ref(action),
            Step::Batch(actions) => actions.as_slice(),
        });
        changes.chain(&self.reports)
    }
}

/// One or more writes that may run side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One write.
    One(Action),
    /// Many alike, started slowly: 1, 2, 4 and so on at a time, so that a common error is met once and not a
    /// thousand times.
    Batch(Vec<Action>),
}

/// What must hold on the server, read live, before a plan may be carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// There is no object with that uid at that place; none at all if the uid is empty.
    Absent(Target, String),
    /// The object with that uid is there and not being deleted.
    Alive(Target, String),
    /// The namespace holds no object of any kind.
    Empty(String),
    /// No object refers to that uid as an owner whose deletion it blocks (`blocking`) or at all.
    Unreferenced {
        /// The owner's uid.
        uid: String,
        /// Where to look; empty for everywhere.
        namespace: String,
        /// Count only references that block the owner's deletion.
        blocking: bool,
    },
}

/// Where a write goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The kind.
    pub resource: Resource,
    /// Namespace and name; the name is empty for creations that let the server name the object.
    pub key: Key,
}

impl Target {
    /// The object of that kind with that metadata.
    #[must_use]
    pub fn of(resource: &Resource, meta: &ObjectMeta) -> Self {
        Self {
            resource: resource.clone(),
            key: Key::of(meta),
        }
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// What is written.
    pub target: Target,
    /// How.
    pub verb: Verb,
    /// The event that tells of it.
    pub note: Option<Note>,
}

/// How an object is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Create this object.
    Create(Value),
    /// JSON merge patch, of the object or of a subresource.
    Merge {
        /// `status` and the like; the object itself if `None`.
        subresource: Option<&'static str>,
        /// The patch.
        patch: Value,
    },
    /// Replace a subresource as a whole.
    Replace {
        /// `finalize` and the like.
        subresource: &'static str,
        /// The body.
        body: Value,
    },
    /// Delete, if the object still has this uid.
    Delete {
        /// The uid that the object must have.
        uid: String,
        /// The resource version that it must have, if given.
        resource_version: Option<String>,
        /// What becomes of those that it owns.
        propagation: Propagation,
        /// Seconds that it is given to end, if not its own.
        grace_period_seconds: Option<u32>,
    },
    /// Delete all objects of the kind in the namespace.
    DeleteCollection,
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Action {
    /// Create `body` in `namespace`.
    #[must_use]
    pub fn create(resource: &Resource, namespace: &str, body: Value) -> Self {
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let target = Target {
            resource: resource.clone(),
            key: Key::new(namespace, name),
        };
        Self {
            target,
            verb: Verb::Create(body),
            note: None,
        }
    }

    /// Merge `patch` into the object.
    #[must_use]
    pub fn merge(target: Target, patch: Value) -> Self {
        Self {
            target,
            verb: Verb::Merge {
                subresource: None,
                patch,
            },
            note: None,
        }
    }

    /// Merge `patch`, which holds `status`, into the object's status.
    #[must_use]
    pub fn status(target: Target, patch: Value) -> Self {
        Self {
            target,
            verb: Verb::Merge {
                subresource: Some("status"),
                patch,
            },
            note: None,
        }
    }

    /// Merge `patch` into a subresource.
    #[must_use]
    pub fn of_subresource(target: Target, subresource: &'static str, patch: Value) -> Self {
        Self {
            target,
            verb: Verb::Merge {
                subresource: Some(subresource),
                patch,
            },
            note: None,
        }
    }

    /// Delete the object with this metadata, and in the background what it owns.
    #[must_use]
    pub fn delete(resource: &Resource, meta: &ObjectMeta) -> Self {
        let verb = Verb::Delete {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: None,
            propagation: Propagation::Background,
            grace_period_seconds: None,
        };
        Self {
            target: Target::of(resource, meta),
            verb,
            note: None,
        }
    }

    /// Tell of it with an event.
    #[must_use]
    pub fn noting(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }
}

/// The events that tell of one write.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What the event is about.
    pub about: ObjectReference,
    /// Reason and text when it went through; `{name}` in the text becomes the object's name.
    pub success: Option<(&'static str, String)>,
    /// Reason and text when it did not; `{error}` in the text becomes what the server said.
    pub failure: Option<(&'static str, String)>,
}

/// An event to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// What it is about.
    pub about: ObjectReference,
    /// Whether it is a `Warning`; else `Normal`.
    pub warning: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// What, in one sentence.
    pub message: String,
}

impl EventDraft {
    /// A `Normal` event.
    #[must_use]
    pub fn normal(about: ObjectReference, reason: &'static str, message: String) -> Self {
        Self {
            about,
            warning: false,
            reason,
            message,
        }
    }

    /// A `Warning` event.
    #[must_use]
    pub fn warning(about: ObjectReference, reason: &'static str, message: String) -> Self {
        Self {
            about,
            warning: true,
            reason,
            message,
        }
    }
}

/// A reference to an object, for events.
#[must_use]
pub fn reference(resource: &Resource, meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(resource.api_version()),
        kind: Some(resource.kind.to_string()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// A reference that makes the object with this metadata the controller of another.
#[must_use]
pub fn controller_of(resource: &Resource, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
