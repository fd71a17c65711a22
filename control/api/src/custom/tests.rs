//! The laws of custom kinds, and the texts that their users see.

use super::*;
use crate::kinds::{Kind, Kinds};
use proptest::prelude::*;
use schema::Schema;
use serde_json::json;

pub(super) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.sea.example.com", "uid": "u"},
        "spec": {
            "group": "sea.example.com", "scope": "Namespaced",
            "names": {"plural": "boats", "kind": "Boat", "shortNames": ["bt"], "categories": ["all"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": boat()},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.oars", "statusReplicasPath": ".status.oars"}},
                 "selectableFields": [{"jsonPath": ".spec.colour"}],
                 "additionalPrinterColumns": [{"name": "Oars", "type": "integer", "jsonPath": ".spec.oars"}, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]},
            ],
        },
    })
}

fn boat() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["colour"], "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "oars": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 8, "default": 2},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "nullable": true},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "crew": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "rank": {"type": "string", "default": "sailor"}}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }, "oneOf": [{"required": ["name"]}, {"required": ["port"]}]},
        "status": {"type": "object", "properties": {"oars": {"type": "integer"}}},
    }})
}

fn established(mut definition: Value) -> Value {
    definition::default(&mut definition);
    let status = names::next_status(&definition, &[], "2026-01-01T00:00:00Z").unwrap();
    definition["status"] = status;
    definition
}

fn row() -> std::sync::Arc<Kind> {
    definition::rows(&established(definition()), 7).remove(0)
}

fn faults(spec: Value) -> Vec<String> {
    let row = row();
    let custom = row.custom.clone().unwrap();
    let mut faults = Vec::new();
    custom.check(&json!({"spec": spec}), None, &mut faults);
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_definition_becomes_rows_the_stable_version_first() {
    assert!(definition::rows(&definition(), 1).is_empty(), "not established");
    let rows = definition::rows(&established(definition()), 7);
    let versions: Vec<&str> = rows.iter().map(|row| row.version.as_ref()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    let row = &rows[0];
    assert_eq!((row.singular.as_ref(), row.list_kind().as_str()), ("boat", "BoatList"));
    assert!(row.has_status() && row.subresource("scale").is_some() && row.is_selectable("spec.colour"));
    assert_eq!(
        rows[1].custom.as_ref().unwrap().deprecation.as_deref(),
        Some("sea.example.com/v1beta1 Boat is deprecated")
    );
    assert!(
        !rows[1].custom.as_ref().unwrap().is_current(9),
        "another version than the stored one"
    );
    assert!(row.custom.as_ref().unwrap().is_current(7) && !row.custom.as_ref().unwrap().is_current(6));
}

#[test]
fn versions_are_ordered_by_stability() {
    let mut names = [
        "foo10",
        "v1",
        "v2beta1",
        "v11alpha2",
        "v10",
        "v2",
        "foo1",
        "v12alpha1",
        "v3beta1",
    ];
    names.sort_by(|one, other| definition::version_order(one, other));
    assert_eq!(
        names,
        [
            "v10",
            "v2",
            "v1",
            "v3beta1",
            "v2beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10"
        ]
    );
}

#[test]
fn refusals_read_as_in_kubernetes() {
    let cases = [
        (json!({"colour": "red", "name": "ada"}), vec![]),
        (
            json!({"colour": "red", "name": "ada", "oars": "two"}),
            vec![r#"spec.oars: Invalid value: "string": spec.oars in body must be of type integer: "string""#],
        ),
        (
            json!({"colour": "red", "name": "ada", "oars": 0}),
            vec!["spec.oars: Invalid value: 0: spec.oars in body should be greater than or equal to 1"],
        ),
        (
            json!({"colour": "red", "name": "ada", "oars": 9}),
            vec!["spec.oars: Invalid value: 9: spec.oars in body should be less than or equal to 8"],
        ),
        (
            json!({"colour": "pink", "name": "ada"}),
            vec![r#"spec.colour: Unsupported value: "pink": supported values: "red", "blue""#],
        ),
        (json!({"name": "ada"}), vec!["spec.colour: Required value"]),
        (
            json!({"colour": "red", "name": "A"}),
            vec![r#"spec.name: Invalid value: "A": spec.name in body should match '^[a-z]+$'"#],
        ),
        (
            json!({"colour": "red", "name": "abcdef"}),
            vec!["spec.name: Too long: may not be more than 5 bytes"],
        ),
        (
            json!({"colour": "red"}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.name: Required value",
            ],
        ),
        (
            json!({"colour": "red", "name": "ada", "port": 1}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"colour": "red", "port": true}),
            vec![r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#],
        ),
        (
            json!({"colour": "red", "port": 1, "tags": ["a", "a"]}),
            vec![r#"spec.tags[1]: Duplicate value: "a""#],
        ),
        (
            json!({"colour": "red", "port": 1, "crew": [{"name": "a"}, {"name": "a"}]}),
            vec![r#"spec.crew[1]: Duplicate value: {"name":"a"}"#],
        ),
        (
            json!({"colour": "red", "port": 1, "crew": [{}]}),
            vec!["spec.crew[0].name: Required value"],
        ),
        (
            json!({"colour": "red", "port": 1, "pod": {"kind": "Pod"}}),
            vec!["spec.pod.apiVersion: Required value: must not be empty"],
        ),
        (
            json!({"colour": null, "name": null}),
            vec![r#"spec.colour: Invalid value: "null": spec.colour in body must be of type string: "null""#],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(faults(spec.clone()), wanted, "{spec}");
    }
}

#[test]
fn what_did_not_change_is_not_checked_again() {
    let row = row();
    let custom = row.custom.clone().unwrap();
    let old = json!({"spec": {"colour": "pink", "name": "ada", "crew": [{"name": "a", "rank": 3}]}});
    let mut new = old.clone();
    new["spec"]["oars"] = json!(3);
    new["spec"]["crew"] = json!([{"name": "b"}, {"name": "a", "rank": 3}]);
    let mut faults = Vec::new();
    custom.check(&new, Some(&old), &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    new["spec"]["colour"] = json!("green");
    custom.check(&new, Some(&old), &mut faults);
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn unknown_fields_are_pruned_and_told() {
    let row = row();
    let custom = row.custom.clone().unwrap();
    let mut object = json!({
        "kind": "Boat", "apiVersion": "sea.example.com/v1", "metadata": {"name": "a", "nonsense": 1},
        "spec": {"colour": "red", "x": 1, "crew": [{"name": "a", "y": 2}], "free": {"z": 3}, "labels": {"q": "r"},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"w": 1}, "spec": {"any": 1}}},
        "extra": {},
    });
    let problems: Vec<String> = custom
        .shape(&mut object)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "unknown field \"extra\"",
            "unknown field \"spec.x\"",
            "unknown field \"spec.crew[0].y\"",
            "unknown field \".spec.pod.metadata.w\"",
            "unknown field \"metadata.nonsense\"",
        ]
    );
    assert_eq!(object["spec"]["free"], json!({"z": 3}));
    assert_eq!(object["spec"]["pod"]["spec"], json!({"any": 1}));
    assert_eq!(
        object.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["apiVersion", "kind", "metadata", "spec"]
    );
    custom.default(&mut object);
    assert_eq!(
        (&object["spec"]["oars"], &object["spec"]["crew"][0]["rank"]),
        (&json!(2), &json!("sailor"))
    );
}

#[test]
fn definitions_are_checked_with_the_words_of_kubernetes() {
    let kinds = Kinds::builtin();
    let kind = kinds.find(GROUP, "v1", "customresourcedefinitions").unwrap();
    let faults = |change: &dyn Fn(&mut Value)| {
        let mut definition = definition();
        change(&mut definition);
        definition::default(&mut definition);
        let mut faults = Vec::new();
        (kind.strategy.validate)(&definition, &mut faults);
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(faults(&|_| {}), Vec::<String>::new());
    let schema = |definition: &mut Value| {
        definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"].take()
    };
    let _ = schema;
    let at = "spec.versions[1].schema.openAPIV3Schema.properties[spec]";
    let set = |value: Value| {
        move |definition: &mut Value| {
            definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"] = value.clone();
            definition["spec"]["versions"][1]["selectableFields"] = json!([]);
        }
    };
    assert_eq!(
        faults(&set(json!({"properties": {}}))),
        [format!(
            "{at}.type: Required value: must not be empty for specified object fields"
        )]
    );
    assert_eq!(
        faults(&set(json!({"type": "array", "items": {}}))),
        [format!(
            "{at}.items.type: Required value: must not be empty for specified array items"
        )]
    );
    assert_eq!(
        faults(&set(json!({"type": "frog"})))[0],
        format!(
            "{at}.type: Unsupported value: \"frog\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""
        )
    );
    assert_eq!(
        faults(&set(json!({"type": "object", "allOf": [{"type": "object"}]}))),
        [format!("{at}.allOf[0].type: Forbidden: must be empty to be structural")]
    );
    assert_eq!(
        faults(&set(json!({"type": "object", "$ref": "x"}))),
        [format!("{at}.$ref: Forbidden: $ref is not supported")]
    );
    assert!(
        faults(&set(json!({"type": "string", "pattern": "("})))[0].starts_with(&format!(
            "{at}.pattern: Invalid value: \"(\": must be a valid regular expression"
        ))
    );
    assert_eq!(
        faults(&set(json!({"type": "integer", "default": "x"}))),
        [format!(
            "{at}.default: Invalid value: \"string\":  in body must be of type integer: \"string\""
        )]
    );
    assert_eq!(
        faults(&|definition| definition["metadata"]["name"] = json!("x")),
        ["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"]
    );
    assert!(
        faults(&|definition| definition["spec"]["versions"][0]["storage"] = json!(true))[0]
            .contains("must have exactly one version marked as storage version")
    );
    assert_eq!(
        faults(&|definition| {
            definition["spec"]["versions"][0]
                .as_object_mut()
                .unwrap()
                .remove("schema");
        }),
        ["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"]
    );
    assert_eq!(
        faults(&|definition| definition["spec"]["versions"][1]["additionalPrinterColumns"][0]["type"] = json!("x")),
        [
            "spec.versions[1].additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string"
        ]
    );
}

#[test]
fn who_asked_first_has_the_name() {
    let first = established(definition());
    let mut second = definition();
    second["metadata"]["name"] = json!("ships.sea.example.com");
    second["spec"]["names"] = json!({"plural": "ships", "singular": "ship", "kind": "Boat", "shortNames": ["bt"]});
    definition::default(&mut second);
    let status = names::next_status(&second, std::slice::from_ref(&first), "2026-01-01T00:00:00Z").unwrap();
    second["status"] = status;
    assert!(!definition::is_true(&second, "Established"));
    let accepted = object::list(&second, "status.conditions")
        .iter()
        .find(|one| one["type"] == "NamesAccepted")
        .unwrap();
    assert_eq!(
        (
            accepted["reason"].as_str().unwrap(),
            accepted["message"].as_str().unwrap()
        ),
        ("ShortNamesConflict", "\"bt\" is already in use")
    );
    assert_eq!(second["status"]["acceptedNames"]["plural"], "ships");
    assert_eq!(
        names::next_status(&first, &[second], "2027-01-01T00:00:00Z"),
        None,
        "the first keeps what it has, and nothing changes"
    );
}

fn ruled(rules: Value, old: Option<Value>, new: Value) -> Vec<String> {
    let source = json!({"type": "object", "properties": {"spec": {
        "type": "object", "x-kubernetes-validations": rules,
        "properties": {"least": {"type": "integer"}, "most": {"type": "integer"}, "name": {"type": "string"},
            "list": {"type": "array", "maxItems": 1000, "items": {"type": "integer"}}},
    }}});
    let mut faults = Vec::new();
    structural::root(&source, "schema", &mut faults);
    assert_eq!(faults, [], "{source}");
    let schema = Schema::root(&source);
    let old = old.map(|old| json!({"spec": old}));
    rules::check(&schema, &json!({"spec": new}), old.as_ref(), &mut faults);
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_are_asked_with_the_words_of_kubernetes() {
    let order = json!([{"rule": "self.least <= self.most", "message": "least must not exceed most"}]);
    assert!(ruled(order.clone(), None, json!({"least": 1, "most": 2})).is_empty());
    assert_eq!(
        ruled(order.clone(), None, json!({"least": 3, "most": 2})),
        ["spec: Invalid value: least must not exceed most"]
    );
    assert_eq!(
        ruled(order.clone(), None, json!({"least": 3})),
        ["spec: Invalid value: \"object\": no such key: most evaluating rule: least must not exceed most"]
    );
    let same = json!({"least": 3, "most": 2});
    assert!(
        ruled(order, Some(same.clone()), same).is_empty(),
        "what did not change is not judged again"
    );
    let kept = json!([{"rule": "self.name == oldSelf.name", "fieldPath": ".name", "reason": "FieldValueForbidden"}]);
    assert!(
        ruled(kept.clone(), None, json!({"name": "a"})).is_empty(),
        "a transition needs a before"
    );
    assert_eq!(
        ruled(kept, Some(json!({"name": "a"})), json!({"name": "b"})),
        ["spec.name: Forbidden: failed rule: self.name == oldSelf.name"]
    );
    let first = json!([{"rule": "oldSelf.hasValue() || self.least == 0", "optionalOldSelf": true, "messageExpression": "'begin at 0, not ' + string(self.least)"}]);
    assert_eq!(
        ruled(first.clone(), None, json!({"least": 4})),
        ["spec: Invalid value: begin at 0, not 4"]
    );
    assert!(ruled(first, Some(json!({"least": 4})), json!({"least": 5})).is_empty());
}

#[test]
fn rules_end() {
    let rule = json!({"rule": "self.list.all(a, self.list.all(b, a + b >= 0))"});
    let list: Vec<i64> = (0..600).collect();
    let faults = ruled(json!([rule]), None, json!({"list": list}));
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].contains("operation cancelled: actual cost limit exceeded"),
        "{faults:?}"
    );
}

#[test]
fn rules_that_cannot_work_are_refused_with_the_definition() {
    let faults = |rule: Value| {
        let source = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]}}});
        let mut faults = Vec::new();
        structural::root(&source, "schema", &mut faults);
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let at = "schema.properties[spec].x-kubernetes-validations[0]";
    assert_eq!(faults(json!({"rule": "self.a > 1"})), "");
    let unknown = faults(json!({"rule": "self.b > 1"}));
    assert!(
        unknown.starts_with(&format!(
            "{at}.rule: Invalid value: \"self.b > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'b'"
        )),
        "{unknown}"
    );
    assert!(faults(json!({"rule": "self.a"})).contains("cel expression must evaluate to a bool"));
    assert_eq!(
        faults(json!({"rule": ""})),
        format!("{at}.rule: Required value: rule is not specified")
    );
    assert!(faults(json!({"rule": "self.a > 1", "fieldPath": ".z"})).contains("does not refer to a valid field"));
}

/// Values of any shape, with field names that the schema knows and others.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..12_i64).prop_map(Value::from),
        prop_oneof![Just("red"), Just("ada"), Just("Zzzzzzzz"), Just("")].prop_map(Value::from),
    ];
    let name = prop_oneof![
        "colour", "oars", "name", "port", "tags", "crew", "free", "labels", "pod", "rank", "x", "spec", "kind"
    ]
    .prop_map(String::from);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_twice_is_once_and_what_is_valid_stays_valid(spec in values()) {
        let schema = Schema::root(&boat());
        let mut object = json!({"metadata": {"name": "a"}, "spec": spec});
        prune::object(&schema, &mut object).unwrap();
        let pruned = object.clone();
        prop_assert!(prune::object(&schema, &mut object).unwrap().is_empty());
        prop_assert_eq!(&object, &pruned);
        prune::default(&schema, &mut object);
        let defaulted = object.clone();
        prune::default(&schema, &mut object);
        prop_assert_eq!(&object, &defaulted);
        prop_assert!(prune::object(&schema, &mut object).unwrap().is_empty());
        let mut faults = Vec::new();
        check::check(&schema, &object, None, "", &mut faults);
        let text = serde_json::to_string(&object).unwrap();
        let back: Value = serde_json::from_str(&text).unwrap();
        let mut again = Vec::new();
        check::check(&schema, &back, None, "", &mut again);
        prop_assert_eq!(faults, again);
        prop_assert_eq!(back, object);
    }
}
