//! What expressions learn of rights: the roles as they are, for whoever makes the request.

use std::sync::Arc;

use coracle_api::policy::authorizer::{Question, Rights};
use coracle_store::Snapshot;

use crate::authz::node::Nodes;
use crate::authz::{Attributes, Policy, Subject};
use crate::identity::Identity;
use crate::webhook::Asked;

/// The rights of somebody at one moment.
#[derive(Debug)]
struct Roles {
    identity: Identity,
    policy: Arc<Policy>,
    nodes: Arc<Nodes>,
    snapshot: Snapshot,
}

/// The rights of whoever asks for a write.
pub(super) fn of(asked: &Asked<'_>, snapshot: &Snapshot) -> Arc<dyn Rights> {
    Arc::new(Roles {
        identity: asked.identity.clone(),
        policy: asked.core.policies.current(),
        nodes: asked.core.nodes_rights.clone(),
        snapshot: snapshot.clone(),
    })
}

/// The question that a write itself is.
pub(super) fn request(asked: &Asked<'_>) -> Question {
    Question {
        group: asked.shown.group.to_string(),
        resource: asked.shown.plural.to_string(),
        subresource: asked.subresource.to_owned(),
        namespace: asked.namespace.unwrap_or_default().to_owned(),
        name: asked.name.to_owned(),
        ..Question::default()
    }
}

impl Rights for Roles {
    fn allow(&self, question: &Question) -> bool {
        fn given(text: &str) -> Option<&str> {
            Some(text).filter(|text| !text.is_empty())
        }
        let attributes = Attributes {
            verb: &question.verb,
            path: given(&question.path),
            group: &question.group,
            resource: &question.resource,
            subresource: given(&question.subresource),
            namespace: given(&question.namespace),
            name: given(&question.name),
            node: None,
        };
        let node = self.identity.node();
        self.identity.is_master()
            || node.is_some_and(|node| self.nodes.allow(&self.snapshot, node, &attributes))
            || self.policy.allows(&Subject::of(&self.identity), &attributes)
    }

    fn of_service_account(&self, namespace: &str, name: &str) -> Arc<dyn Rights> {
        Arc::new(Self {
            identity: Identity::service_account(namespace, name),
            policy: self.policy.clone(),
            nodes: self.nodes.clone(),
            snapshot: self.snapshot.clone(),
        })
    }
}
