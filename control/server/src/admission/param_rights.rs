//! Whoever lets a policy read parameters must be able to read them: a message could tell what is in them.

use coracle_api::field_error::FieldError;
use coracle_api::kinds::split_api_version;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::Request;
use crate::authz::{self, Attributes};
use crate::{document, webhook};

/// Refuses a policy or a binding that reads what its author cannot.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let (kind, identity) = (request.scope.kind, request.scope.identity);
    if kind.group != webhook::GROUP || identity.is_master() {
        return Ok(());
    }
    match kind.kind.as_ref() {
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => policy(request, object),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => binding(request, object),
        _ => Ok(()),
    }
}

/// Whether nothing new is read.
fn is_old(request: &Request<'_>, object: &Value, fields: &[&str]) -> bool {
    let same = |old: &Value| {
        fields
            .iter()
            .all(|field| object::get(old, field) == object::get(object, field))
    };
    request.old.is_some_and(same)
}

fn policy(request: &Request<'_>, policy: &Value) -> Result<(), ApiError> {
    let Some(kind) = object::get(policy, "spec.paramKind").filter(|_| !is_old(request, policy, &["spec.paramKind"]))
    else {
        return Ok(());
    };
    let (group, resource) = resource(request, kind);
    // No object has this name: only who may get all of them may get it.
    if may(request, "get", (&group, &resource), "", "*") {
        return Ok(());
    }
    let words = format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        request.scope.identity.user,
        object::text(kind, "kind"),
        object::text(kind, "apiVersion")
    );
    Err(refusal(request, "spec.paramKind", words))
}

fn binding(request: &Request<'_>, binding: &Value) -> Result<(), ApiError> {
    let fields = ["spec.paramRef", "spec.policyName"];
    let Some(reference) = object::get(binding, "spec.paramRef").filter(|_| !is_old(request, binding, &fields)) else {
        return Ok(());
    };
    let policies = match request.scope.kind.kind.as_ref() {
        "ValidatingAdmissionPolicyBinding" => "validatingadmissionpolicies",
        _ => "mutatingadmissionpolicies",
    };
    let name = object::text(binding, "spec.policyName");
    let record = request.snapshot.get(&format!("{policies}.{}//{name}", webhook::GROUP));
    let policy = record
        .map(|record| document::tree(record))
        .transpose()?
        .unwrap_or_default();
    // What a policy that does not exist yet will read, nobody knows.
    let kind = object::get(&policy, "spec.paramKind");
    let (group, resource) = kind.map_or_else(|| ("*".to_owned(), "*".to_owned()), |kind| resource(request, kind));
    let (verb, name) = match object::name_of(reference) {
        "" => ("list", ""),
        name => ("get", name),
    };
    let namespace = object::text(reference, "namespace");
    if may(request, verb, (&group, &resource), namespace, name) {
        return Ok(());
    }
    let words = format!(
        "user {} does not have {verb:?} permission on the object referenced by paramRef",
        request.scope.identity.user
    );
    Err(refusal(request, "spec.paramRef", words))
}

/// The group and the plural of the kind of parameters; all, while it is not served.
fn resource(request: &Request<'_>, kind: &Value) -> (String, String) {
    let (group, version) = split_api_version(object::text(kind, "apiVersion"));
    let served = request.scope.core.serving.current();
    match served.kinds.by_kind(group, version, object::text(kind, "kind")) {
        Some(row) => (row.group.to_string(), row.plural.to_string()),
        None => ("*".to_owned(), "*".to_owned()),
    }
}

fn may(request: &Request<'_>, verb: &str, (group, resource): (&str, &str), namespace: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb,
        group,
        resource,
        namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
        name: Some(name).filter(|name| !name.is_empty()),
        ..Attributes::default()
    };
    authz::allows(request.scope.core, request.scope.identity, &attributes)
}

fn refusal(request: &Request<'_>, path: &str, words: String) -> ApiError {
    request
        .scope
        .invalid(request.name, vec![FieldError::forbidden(path, words)])
}
