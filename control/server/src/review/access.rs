//! May somebody do this?

use coracle_api::field_error::FieldError;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::{Value, json};

use crate::authz::{self, Attributes};
use crate::core::Core;
use crate::identity::{Extra, Identity};

/// Who a review asks about.
pub(super) fn subject(review: &Value) -> Result<Identity, ApiError> {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let user = object::text(review, "spec.user");
    let groups = object::get(review, "spec.groups").map(texts).unwrap_or_default();
    if user.is_empty() && groups.is_empty() {
        let fault = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(invalid(review, fault));
    }
    let extra = object::map(review, "spec.extra").into_iter().flatten();
    let extra: Extra = extra.map(|(key, values)| (key.clone(), texts(values))).collect();
    let mut identity = Identity::exactly(user, groups);
    identity.uid = object::text(review, "spec.uid").into();
    identity.extra = extra.into();
    Ok(identity)
}

/// The answer for a review that may only ask about one namespace.
pub(super) fn local(core: &Core, review: &Value, namespace: &str) -> Result<Value, ApiError> {
    let asked = object::text(review, "spec.resourceAttributes.namespace");
    if asked != namespace {
        let path = "spec.resourceAttributes.namespace";
        let detail = format!("must match metadata.namespace: {namespace}");
        return Err(invalid(review, FieldError::invalid(path, asked, detail)));
    }
    answer(core, &subject(review)?, review)
}

/// The status of a review about an identity.
pub(super) fn answer(core: &Core, identity: &Identity, review: &Value) -> Result<Value, ApiError> {
    let resource = object::get(review, "spec.resourceAttributes").filter(|value| value.is_object());
    let path = object::get(review, "spec.nonResourceAttributes").filter(|value| value.is_object());
    let attributes = match (resource, path) {
        (Some(resource), None) => {
            let optional = |field: &str| Some(object::text(resource, field)).filter(|text| !text.is_empty());
            Attributes {
                verb: object::text(resource, "verb"),
                path: None,
                group: object::text(resource, "group"),
                resource: object::text(resource, "resource"),
                subresource: optional("subresource"),
                namespace: optional("namespace"),
                name: optional("name"),
                node: None,
            }
        }
        (None, Some(path)) => Attributes {
            verb: object::text(path, "verb"),
            path: Some(object::text(path, "path")),
            ..Attributes::default()
        },
        _ => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(
                review,
                FieldError::invalid("spec.resourceAttributes", Value::Null, detail),
            ));
        }
    };
    Ok(json!({"allowed": authz::allows(core, identity, &attributes)}))
}

fn invalid(review: &Value, fault: FieldError) -> ApiError {
    ApiError::invalid(object::text(review, "kind"), "authorization.k8s.io", "", vec![fault])
}
