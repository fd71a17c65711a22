//! The status of a validating policy: what its expressions get wrong about the kinds that it names.
//!
//! The types are at hand when the policy is written, so its status is whole from the start.

use coracle_api::policy::types;
use coracle_api::{kinds, object};
use serde_json::{Value, json};

use super::Request;

/// How many kinds are looked at, as in Kubernetes: a policy may name hundreds.
const KINDS_LIMIT: usize = 10;

/// Writes what was found out about this generation.
pub(super) fn settle(request: &Request<'_>, policy: &mut Value) {
    let served = request.scope.core.serving.current();
    let named = types::named(policy);
    let rows = named
        .iter()
        .filter_map(|(group, version, resource)| served.kinds.find(group, version, resource));
    let rows: Vec<&kinds::Kind> = rows.take(KINDS_LIMIT).map(|row| &**row).collect();
    let found = types::check(policy, rows);
    let generation = object::generation(policy);
    object::set(policy, "status.observedGeneration", json!(generation));
    object::set(policy, "status.typeChecking", found);
}
