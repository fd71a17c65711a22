//! Who asks for a certificate is who is logged in, whatever the request says.

use coracle_api::object;
use serde_json::{Value, json};

use super::Request;

/// Writes the requester into a new request for a certificate.
pub(super) fn requester(request: &Request<'_>, object: &mut Value) {
    let identity = request.scope.identity;
    let known = [
        ("username", json!(identity.user.as_ref()), true),
        ("uid", json!(identity.uid.as_ref()), !identity.uid.is_empty()),
        ("groups", json!(identity.groups.as_ref()), !identity.groups.is_empty()),
        ("extra", json!(identity.extra.as_ref()), !identity.extra.is_empty()),
    ];
    for (field, value, given) in known {
        let path = format!("spec.{field}");
        if given {
            object::set(object, &path, value);
        } else {
            object::remove(object, &path);
        }
    }
}
