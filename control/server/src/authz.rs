//! Who may do what: role-based access control, as Kubernetes has it.
//!
//! [`rules`] decides, purely, over a [`rules::Policy`] that was compiled from the roles and bindings at one revision. This
//! page keeps the newest policy at hand: it is compiled again after every write of a role or binding that this server
//! makes, before the writer is answered, and whenever a watch shows one of somebody else.

mod cover;
pub(crate) mod node;
pub(crate) mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;
use coracle_api::key::GroupResource;
use coracle_api::status::ApiError;
use coracle_store::{Snapshot, Store};
use parking_lot::Mutex;

use crate::core::Core;
use crate::identity::Identity;
use crate::request::RequestInfo;
pub(crate) use rules::{Attributes, Policy, Subject};

/// The group whose kinds the policy is made of.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
/// What the keys of these kinds begin with.
pub(crate) const PREFIXES: [&str; 4] = [
    "clusterroles.rbac.authorization.k8s.io/",
    "clusterrolebindings.rbac.authorization.k8s.io/",
    "roles.rbac.authorization.k8s.io/",
    "rolebindings.rbac.authorization.k8s.io/",
];

/// The newest policy.
pub(crate) struct Policies {
    current: ArcSwap<Policy>,
    /// Held while a policy is compiled, so that an older one never replaces a newer.
    compiling: Mutex<()>,
}

impl Policies {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        Self {
            current: ArcSwap::from_pointee(Policy::compile(snapshot)),
            compiling: Mutex::new(()),
        }
    }

    /// The policy to decide by.
    pub(crate) fn current(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Makes the policy at least as new as `snapshot`.
    pub(crate) fn refresh(&self, snapshot: &Snapshot) {
        let _compiling = self.compiling.lock();
        if self.current.load().revision < snapshot.revision() {
            self.current.store(Arc::new(Policy::compile(snapshot)));
        }
    }

    /// The same after a change. A write of this server's own has been compiled in already.
    pub(crate) fn catch_up(&self, store: &Store, revision: u64) {
        if self.current.load().revision < revision {
            self.refresh(&store.snapshot());
        }
    }
}

/// Refuses a request that no role allows, in the words of Kubernetes.
pub(crate) fn authorise(core: &Core, identity: &Identity, info: &RequestInfo) -> Result<(), ApiError> {
    check(core, identity, &attributes(info))
}

/// The same for something that a request needs besides what its path says.
pub(crate) fn check(core: &Core, identity: &Identity, attributes: &Attributes<'_>) -> Result<(), ApiError> {
    if allows(core, identity, attributes) {
        return Ok(());
    }
    Err(denied(identity, attributes))
}

/// Whether somebody may do it.
pub(crate) fn allows(core: &Core, identity: &Identity, attributes: &Attributes<'_>) -> bool {
    identity.is_master()
        || identity
            .node()
            .is_some_and(|node| core.nodes_rights.allow(&core.store.snapshot(), node, attributes))
        || core.policies.current().allows(&Subject::of(identity), attributes)
}

fn attributes(info: &RequestInfo) -> Attributes<'_> {
    match &info.resource {
        None => Attributes {
            verb: info.verb,
            path: Some(&info.path),
            ..Attributes::default()
        },
        Some(resource) => Attributes {
            verb: info.verb,
            path: None,
            group: &resource.group,
            resource: &resource.resource,
            subresource: resource.subresource.as_deref(),
            namespace: resource.namespace.as_deref(),
            name: resource.name.as_deref().or(info.selected.name.as_deref()),
            node: info.selected.node.as_deref(),
        },
    }
}

/// Why a request is refused: `User "ann" cannot get resource "pods" in API group "" in the namespace "default"`.
fn refusal(identity: &Identity, attributes: &Attributes<'_>) -> String {
    let (user, verb) = (&*identity.user, attributes.verb);
    if let Some(path) = attributes.path {
        return format!("User {user:?} cannot {verb} path {path:?}");
    }
    let resource = match attributes.subresource {
        Some(subresource) => format!("{}/{subresource}", attributes.resource),
        None => attributes.resource.to_owned(),
    };
    let place = match attributes.namespace {
        Some(namespace) if attributes.resource != "namespaces" => format!("in the namespace {namespace:?}"),
        _ => "at the cluster scope".to_owned(),
    };
    format!(
        "User {user:?} cannot {verb} resource {resource:?} in API group {:?} {place}",
        attributes.group
    ) + &unrelated(identity)
}

/// What a node is told besides: most of its rights come from its pods.
fn unrelated(identity: &Identity) -> String {
    match identity.node() {
        Some(node) => format!(": no relationship found between node '{node}' and this object"),
        None => String::new(),
    }
}

fn denied(identity: &Identity, attributes: &Attributes<'_>) -> ApiError {
    let resource = GroupResource::new(attributes.group.to_owned(), attributes.resource.to_owned());
    ApiError::forbidden(
        &resource,
        attributes.name.unwrap_or_default(),
        &refusal(identity, attributes),
    )
}
