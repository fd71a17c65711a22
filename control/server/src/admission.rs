//! What the cluster's rules add to an object or refuse, beyond what the object says about itself.
//!
//! Pure steps in one order: first those that change, then those that refuse. They are given what they need to know of
//! other objects; they look nothing up.

pub(crate) mod namespace;
pub(crate) mod pods;

use coracle_api::kinds::Kind;
use serde_json::Value;

/// The steps that change a new object, in order.
pub(crate) fn mutate_create(kind: &Kind, object: &mut Value) {
    if is(kind, "", "Pod") {
        pods::service_account(object);
        pods::priority(object);
        pods::tolerations(object);
    }
}

/// Whether a kind is the built-in one of this name.
pub(crate) fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.group == group && kind.kind == name
}
