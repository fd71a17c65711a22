use super::super::wire::{Reader, Wire};
use super::*;
use serde_json::json;

/// The values of the fields along a path of numbers.
fn at(bytes: &[u8], path: &[u32]) -> Vec<String> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    let (first, rest) = path.split_first().unwrap();
    while let Some((number, value)) = reader.field().unwrap() {
        match value {
            _ if number != *first => {}
            Wire::Bytes(bytes) if rest.is_empty() => found.push(String::from_utf8(bytes.to_vec()).unwrap()),
            Wire::Bytes(bytes) => found.extend(at(bytes, rest)),
            Wire::Varint(number) => found.push(number.to_string()),
            other => found.push(format!("{other:?}")),
        }
    }
    found
}

#[test]
fn schemas_have_all_their_parts() {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "definitions": {"io.k8s.Pod": {
            "type": "object", "description": "A pod.", "required": ["spec"],
            "properties": {
                "spec": {"$ref": "#/definitions/io.k8s.PodSpec"},
                "names": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "any": {"additionalProperties": true, "maxLength": 7, "default": {}},
            },
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
        }},
    });
    let bytes = encode_openapi(&document);
    assert_eq!(at(&bytes, &[1]), ["2.0"]);
    assert_eq!(at(&bytes, &[2, 1]), ["Kubernetes"]);
    assert_eq!(at(&bytes, &[9, 1, 1]), ["io.k8s.Pod"]);
    let schema = |path: &[u32]| at(&bytes, &[&[9, 1, 2], path].concat());
    assert_eq!(
        (schema(&[22, 1]), schema(&[4])),
        (vec!["object".into()], vec!["A pod.".into()])
    );
    assert_eq!(schema(&[19]), ["spec"]);
    assert_eq!(schema(&[31, 1]), ["x-kubernetes-group-version-kind"]);
    assert_eq!(schema(&[31, 2, 2]), [r#"[{"group":"","kind":"Pod","version":"v1"}]"#]);
    assert_eq!(schema(&[25, 1, 1]), ["spec", "names", "labels", "any"]);
    let property = |path: &[u32]| schema(&[&[25, 1, 2], path].concat());
    assert_eq!(property(&[1]), ["#/definitions/io.k8s.PodSpec"]);
    assert_eq!(property(&[23, 1, 22, 1]), ["string"]);
    assert_eq!(property(&[31, 2, 2]), ["\"set\""]);
    assert_eq!(property(&[21, 1, 22, 1]), ["string"]);
    assert_eq!(property(&[21, 2]), ["1"]);
    assert_eq!(property(&[11]), ["7"]);
    assert_eq!(property(&[5, 2]), ["{}"]);
}

#[test]
fn operations_have_parameters_of_all_places() {
    let operation = json!({
        "consumes": ["application/json"],
        "parameters": [
            {"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/a"}},
            {"name": "limit", "in": "query", "type": "integer", "uniqueItems": true},
            {"name": "name", "in": "path", "type": "string", "required": true},
            {"$ref": "#/parameters/pretty"},
        ],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/a"}}, "404": {"$ref": "#/r"}},
        "x-kubernetes-action": "post",
    });
    let document = json!({"paths": {"/api/v1/a": {"post": operation}, "x-more": 1}});
    let bytes = encode_openapi(&document);
    assert_eq!(at(&bytes, &[8, 2, 1]), ["/api/v1/a"]);
    assert_eq!(at(&bytes, &[8, 1, 1]), ["x-more"]);
    let post = |path: &[u32]| at(&bytes, &[&[8, 2, 2, 4], path].concat());
    assert_eq!(post(&[7]), ["application/json"]);
    assert_eq!(
        (post(&[8, 1, 1, 2]), post(&[8, 1, 1, 4])),
        (vec!["body".into()], vec!["1".into()])
    );
    assert_eq!(post(&[8, 1, 1, 5, 1]), ["#/definitions/a"]);
    assert_eq!(
        (post(&[8, 1, 2, 3, 4]), post(&[8, 1, 2, 3, 6])),
        (vec!["limit".into()], vec!["integer".into()])
    );
    assert_eq!(post(&[8, 1, 2, 3, 20]), ["1"]);
    assert_eq!(
        (post(&[8, 1, 2, 4, 4]), post(&[8, 1, 2, 4, 5])),
        (vec!["name".into()], vec!["string".into()])
    );
    assert_eq!(post(&[8, 2, 1]), ["#/parameters/pretty"]);
    assert_eq!(post(&[9, 1, 1]), ["200", "404"]);
    assert_eq!(
        (post(&[9, 1, 2, 1, 1]), post(&[9, 1, 2, 2, 1])),
        (vec!["OK".into()], vec!["#/r".into()])
    );
    assert_eq!(post(&[9, 1, 2, 1, 2, 1, 1]), ["#/definitions/a"]);
    assert_eq!(post(&[13, 2, 2]), ["\"post\""]);
}
