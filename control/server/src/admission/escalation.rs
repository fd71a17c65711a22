//! Nobody gives away rights that they do not have: not in a role, and not by binding one.
//!
//! Whoever has the verb `escalate` on roles, or `bind` on the role in question, is trusted to.

use coracle_api::key::GroupResource;
use coracle_api::object;
use coracle_api::status::ApiError;
use serde_json::Value;

use super::Request;
use crate::authz::rules::{self, Rule, uncovered};
use crate::authz::{self, Attributes, GROUP, Subject};
use crate::document;

/// Refuses a role or a binding that gives more than its author has.
pub(super) fn validate(request: &Request<'_>, object: &Value) -> Result<(), ApiError> {
    let (kind, identity) = (request.scope.kind, request.scope.identity);
    if kind.group != GROUP || identity.is_master() {
        return Ok(());
    }
    match kind.kind.as_ref() {
        "Role" | "ClusterRole" => role(request, object),
        _ => binding(request, object),
    }
}

fn role(request: &Request<'_>, role: &Value) -> Result<(), ApiError> {
    let wanted = rules::rules(role);
    let aggregation = |role: &Value| object::get(role, "aggregationRule").cloned();
    if let Some(old) = request.old
        && *rules::rules(old) == *wanted
        && aggregation(old) == aggregation(role)
    {
        return Ok(());
    }
    if may(request, "escalate", &request.scope.kind.plural, request.name) {
        return Ok(());
    }
    if aggregation(role).is_some_and(|rule| !rule.is_null()) {
        // What an aggregated role will hold is up to whoever labels roles.
        let everything = [Rule::everything(), Rule::every_path()];
        if !missing(request, &everything).is_empty() {
            return Err(request.forbidden("must have cluster-admin privileges to use the aggregationRule"));
        }
    }
    refuse(request, &wanted)
}

fn binding(request: &Request<'_>, binding: &Value) -> Result<(), ApiError> {
    if let Some(old) = request.old
        && object::list(old, "subjects") == object::list(binding, "subjects")
        && object::get(old, "roleRef") == object::get(binding, "roleRef")
    {
        return Ok(());
    }
    let name = object::text(binding, "roleRef.name");
    let (plural, home) = match object::text(binding, "roleRef.kind") {
        "Role" => ("roles", request.scope.namespace.unwrap_or_default()),
        _ => ("clusterroles", ""),
    };
    if may(request, "bind", plural, name) {
        return Ok(());
    }
    let resource = GroupResource::new(GROUP, plural);
    let record = request.snapshot.get(&format!("{resource}/{home}/{name}"));
    let role = document::tree(record.ok_or_else(|| ApiError::not_found(&resource, name))?)?;
    refuse(request, &rules::rules(&role))
}

fn may(request: &Request<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes {
        verb,
        group: GROUP,
        resource,
        namespace: request.scope.namespace,
        name: Some(name),
        ..Attributes::default()
    };
    authz::allows(request.scope.core, request.scope.identity, &attributes)
}

/// What of these rules the author lacks.
fn missing(request: &Request<'_>, wanted: &[Rule]) -> Vec<Rule> {
    let policy = request.scope.core.policies.current();
    let subject = Subject::of(request.scope.identity);
    let own: Vec<&Rule> = policy
        .rules_in(&subject, request.scope.namespace.unwrap_or_default())
        .collect();
    uncovered(&own, wanted)
}

fn refuse(request: &Request<'_>, wanted: &[Rule]) -> Result<(), ApiError> {
    let mut lacking: Vec<String> = missing(request, wanted).iter().map(ToString::to_string).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    lacking.sort_unstable();
    lacking.dedup();
    let identity = request.scope.identity;
    let groups: Vec<String> = identity.groups.iter().map(|group| format!("{group:?}")).collect();
    let words = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        &*identity.user,
        groups.join(" "),
        lacking.join("\n")
    );
    Err(request.forbidden(&words))
}
