//! What is known of the objects that a policy is about, and what its expressions get wrong about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_cel::{Kind, Object};
use serde_json::{Value, json};

use super::compile::validating_about;
use crate::custom::rules;
use crate::fields::{self, Shape, StructRef, TypeRef};
use crate::{kinds, object};

/// How deep types are told. The few that lie within themselves end here, as anything.
const DEPTH_LIMIT: usize = 16;
const METADATA: &str = "k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta";

/// What is known of objects of a kind.
fn of(kind: &kinds::Kind) -> Kind {
    let Some(custom) = &kind.custom else {
        return fields::go_type(kind.go_type).map_or(Kind::Dyn, |found| of_struct(found, DEPTH_LIMIT));
    };
    match rules::kind_of(&custom.schema) {
        Kind::Object(known) => {
            let mut known = (*known).clone();
            let metadata = fields::go_type(METADATA).map_or(Kind::Dyn, |found| of_struct(found, DEPTH_LIMIT));
            known.fields.insert("metadata".to_owned(), metadata);
            Kind::Object(Arc::new(known))
        }
        other => other,
    }
}

fn of_struct(found: StructRef, depth: usize) -> Kind {
    if depth == 0 {
        return Kind::Dyn;
    }
    let fields: BTreeMap<String, Kind> = found
        .fields()
        .iter()
        .map(|field| (field.json.to_owned(), of_type(field.kind, depth - 1)))
        .collect();
    Kind::Object(Arc::new(Object {
        name: found.name().replace('/', "."),
        fields,
        open: false,
    }))
}

fn of_type(kind: TypeRef, depth: usize) -> Kind {
    match kind.shape() {
        Shape::String | Shape::Duration => Kind::Text,
        Shape::Bool => Kind::Bool,
        Shape::Int32 | Shape::Int64 => Kind::Int,
        Shape::Float64 => Kind::Double,
        Shape::Bytes => Kind::Bytes,
        Shape::Time | Shape::MicroTime => Kind::Time,
        Shape::Struct(inner) => of_struct(inner, depth),
        Shape::Slice(item) => Kind::list(of_type(item, depth)),
        Shape::Map(value) => Kind::Map(Arc::new(of_type(value, depth))),
        _ => Kind::Dyn,
    }
}

/// What a validating policy's expressions get wrong about objects of these kinds, as its status tells it.
pub fn check<'k>(policy: &Value, kinds: impl IntoIterator<Item = &'k kinds::Kind>) -> Value {
    let mut warnings: BTreeMap<String, String> = BTreeMap::new();
    for kind in kinds {
        let mut faults = Vec::new();
        validating_about(policy, of(kind), &mut faults);
        for fault in faults {
            let words = fault.detail.trim_start_matches("compilation failed: ");
            let said = warnings.entry(fault.path).or_default();
            if !said.is_empty() {
                said.push('\n');
            }
            said.push_str(&format!("{}, Kind={}: {words}", kind.api_version(), kind.kind));
        }
    }
    let warnings: Vec<Value> = warnings
        .into_iter()
        .map(|(path, words)| json!({"fieldRef": path, "warning": words}))
        .collect();
    match warnings.is_empty() {
        true => json!({}),
        false => json!({ "expressionWarnings": warnings }),
    }
}

/// The groups, versions and resources that a policy names, without patterns.
pub fn named(policy: &Value) -> Vec<(&str, &str, &str)> {
    let mut found = Vec::new();
    for rule in object::list(policy, "spec.matchConstraints.resourceRules") {
        let texts = |field: &str| object::list(rule, field).iter().filter_map(Value::as_str);
        for group in texts("apiGroups") {
            for version in texts("apiVersions") {
                let resources = texts("resources").filter(|resource| !resource.contains(['*', '/']));
                found.extend(resources.map(|resource| (group, version, resource)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_are_told_for_each_kind() {
        let rows: Vec<kinds::Kind> = kinds::apps::kinds();
        let deployment = rows.iter().find(|row| row.kind == "Deployment").unwrap();
        let policy = |expression: &str| json!({"spec": {"validations": [{"expression": expression}]}});
        for good in [
            "object.spec.replicas > 1",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && has(c.resources.limits))",
            "object.metadata.labels['a'] == 'b' || oldObject == null",
        ] {
            assert_eq!(check(&policy(good), [deployment]), json!({}), "{good}");
        }
        let found = check(&policy("object.spec.replicsa > 1"), [deployment]);
        assert_eq!(
            found["expressionWarnings"][0]["fieldRef"],
            "spec.validations[0].expression"
        );
        let words = found["expressionWarnings"][0]["warning"].as_str().unwrap();
        assert!(
            words.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replicsa'"),
            "{words}"
        );
    }

    #[test]
    fn only_what_is_named_is_looked_at() {
        let rules =
            json!([{"apiGroups": ["apps", "*"], "apiVersions": ["v1"], "resources": ["deployments", "*/scale", "*"]}]);
        let policy = json!({"spec": {"matchConstraints": {"resourceRules": rules}}});
        assert_eq!(
            named(&policy),
            [("apps", "v1", "deployments"), ("*", "v1", "deployments")]
        );
    }
}
