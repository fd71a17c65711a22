//! Rules of the claims to devices that a pod makes, and of what its containers say of them.

use super::check::{named, unique};
use super::names;
use crate::field_error::{FieldError, Path};
use crate::object;
use serde_json::Value;
use std::collections::HashSet;

/// Checks the claims of a pod spec, and that its containers name none but those.
pub(super) fn claims(spec: &Value, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let list = path.child("resourceClaims");
    let mut known = HashSet::new();
    for (index, claim) in object::list(spec, "resourceClaims").iter().enumerate() {
        let here = list.index(index);
        let name = object::name_of(claim);
        named(name, names::dns_label, here.child("name"), faults);
        unique(&mut known, name, here.child("name"), faults);
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let given: Vec<&str> = sources
            .into_iter()
            .filter(|field| object::get(claim, field).is_some())
            .collect();
        match given.as_slice() {
            [] => {
                let words = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                faults.push(FieldError::invalid(here, claim.clone(), words));
            }
            [field] => named(
                object::text(claim, field),
                names::dns_subdomain,
                here.child(field),
                faults,
            ),
            _ => {
                let words = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                faults.push(FieldError::invalid(here, claim.clone(), words));
            }
        }
    }
    for field in ["containers", "initContainers"] {
        let list = path.child(field);
        for (index, container) in object::list(spec, field).iter().enumerate() {
            used(container, &known, list.index(index), faults);
        }
    }
}

fn used(container: &Value, known: &HashSet<&str>, path: Path<'_>, faults: &mut Vec<FieldError>) {
    let resources = path.child("resources");
    let list = resources.child("claims");
    let mut seen = HashSet::new();
    for (index, claim) in object::list(container, "resources.claims").iter().enumerate() {
        let here = list.index(index);
        let (name, request) = (object::name_of(claim), object::text(claim, "request"));
        if name.is_empty() {
            faults.push(FieldError::required(here, ""));
        } else if !known.contains(name) {
            faults.push(FieldError::not_found(here, name));
        } else if !seen.insert((name, request)) || (!request.is_empty() && seen.contains(&(name, ""))) {
            faults.push(FieldError::duplicate(here, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults_of(spec: Value) -> Vec<String> {
        let mut faults = Vec::new();
        claims(&spec, Path::root("spec"), &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_has_one_source_and_containers_name_what_is_there() {
        let using = |claims: Value| json!([{"name": "c", "resources": {"claims": claims}}]);
        let gpu = json!([{"name": "gpu", "resourceClaimTemplateName": "t"}]);
        assert!(faults_of(json!({"resourceClaims": gpu, "containers": using(json!([{"name": "gpu"}]))})).is_empty());
        assert!(
            faults_of(json!({"resourceClaims": gpu,
                "containers": using(json!([{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}]))}))
            .is_empty()
        );
        assert_eq!(
            faults_of(
                json!({"resourceClaims": gpu, "containers": using(json!([{"name": "tpu"}, {"name": "gpu"}, {"name": "gpu"}]))})
            ),
            [
                "spec.containers[0].resources.claims[0]: Not found: \"tpu\"",
                "spec.containers[0].resources.claims[2]: Duplicate value: \"gpu\""
            ]
        );
        let none = faults_of(json!({"resourceClaims": [{"name": "gpu"}]}));
        assert!(none[0].contains("must specify one of"), "{none:?}");
        let both = json!({"name": "gpu", "resourceClaimName": "c", "resourceClaimTemplateName": "t"});
        assert!(faults_of(json!({"resourceClaims": [both]}))[0].contains("at most one of"));
    }
}
