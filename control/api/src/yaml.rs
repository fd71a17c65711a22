//! Reads YAML request bodies: the only home of the YAML parser in the control plane.
//!
//! YAML becomes the same tree as JSON: keys are strings, tags and numbers that JSON cannot express are refused, nesting and
//! the repetition of anchors are bounded by the parser. A key `<<` brings in the maps that it names, as in YAML 1.1 and as
//! Kubernetes reads it; what a map says itself counts more, and of several maps the earlier. Duplicate keys are reported with
//! their line; the last one wins.
//! Words such as `yes` and `on` and numbers with a leading zero are strings, as in YAML 1.2.

use crate::json::{Node, Walk};
use crate::normalise::Problem;
use crate::status::ApiError;
use serde::de::DeserializeSeed;
use serde_json::Value;

/// For how many duplicate keys the line is looked up. Each costs another parse of the body; a person mends one at a time.
const LOCATED_DUPLICATES: usize = 8;
/// The key of a merge: <https://yaml.org/type/merge.html>.
const MERGE: &str = "<<";

/// Parses a body of one document.
///
/// # Errors
/// 400 when the body is not one YAML document that JSON can express.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<Problem>), ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ApiError::bad_request(format!("the request body is not UTF-8: {error}")))?;
    let mut walk = Walk::default();
    let mut value = Node(&mut walk)
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| ApiError::bad_request(format!("the request body is not valid YAML: {error}")))?;
    if text.contains(MERGE) {
        merge(&mut value)?;
    }
    let named = walk.duplicates.into_iter().enumerate();
    let problems = named.map(|(index, duplicate)| match line_of_duplicate(text, index) {
        Some(line) => Problem::DuplicateKey(line, duplicate.key),
        None => Problem::DuplicateField(duplicate.path),
    });
    Ok((value, problems.collect()))
}

/// Carries out the merges in a tree, the innermost first.
fn merge(value: &mut Value) -> Result<(), ApiError> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(merge),
        Value::Object(map) => {
            map.values_mut().try_for_each(merge)?;
            let sources = match map.shift_remove(MERGE) {
                None => return Ok(()),
                Some(Value::Array(sources)) => sources,
                Some(source) => vec![source],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(ApiError::bad_request(
                        "the request body is not valid YAML: what stands behind << must be a map, or a list of maps",
                    ));
                };
                for (key, value) in source {
                    map.entry(key).or_insert(value);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The line, from 1, of a duplicate key: a second parse fails there, and only errors know lines.
fn line_of_duplicate(text: &str, index: usize) -> Option<usize> {
    if index >= LOCATED_DUPLICATES {
        return None;
    }
    let mut walk = Walk::stopping_after(index);
    let error = Node(&mut walk)
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    error.location().map(|location| location.line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn yaml_becomes_the_tree_that_json_would() {
        let body = b"# a manifest\nkind: ConfigMap\ndata: &d\n  80: web\n  on: 'true'\n  text: |\n    a\n    b\nlist: [1, 1.5, null, ~, true, -1]\nagain: *d\n";
        let (value, problems) = parse(body).unwrap();
        assert!(problems.is_empty());
        let data = json!({"80": "web", "on": "true", "text": "a\nb\n"});
        assert_eq!(
            value,
            json!({"kind": "ConfigMap", "data": data, "list": [1, 1.5, null, null, true, -1], "again": data})
        );
    }

    #[test]
    fn a_merge_brings_in_what_a_map_does_not_say_itself() {
        let body = b"base: &b {a: 1, b: {c: 2}}\nmore: &m {a: 3, d: 4}\none: {<<: *b, a: 5}\ntwo: [{<<: [*m, *b]}]\n";
        let (value, _) = parse(body).unwrap();
        assert_eq!(value["one"], json!({"a": 5, "b": {"c": 2}}));
        assert_eq!(value["two"], json!([{"a": 3, "d": 4, "b": {"c": 2}}]));
        let error = parse(b"a: {<<: 1}").unwrap_err();
        assert!(error.message.contains("must be a map"), "{}", error.message);
        // Text that only looks like one is left alone.
        assert_eq!(parse(b"a: '<<'").unwrap().0, json!({"a": "<<"}));
    }

    #[test]
    fn duplicates_are_named_by_line_and_the_last_one_wins() {
        let body = b"a: 1\nspec:\n  foo: 1\n  bar:\n    x: 1\n    x: 2\n\n  foo: 3\na: 2\n";
        let (value, problems) = parse(body).unwrap();
        assert_eq!(value, json!({"a": 2, "spec": {"foo": 3, "bar": {"x": 2}}}));
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                r#"line 6: key "x" already set in map"#,
                r#"line 8: key "foo" already set in map"#,
                r#"line 9: key "a" already set in map"#
            ]
        );
    }

    #[test]
    fn what_json_cannot_express_is_a_bad_request() {
        let mut nested = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            nested.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", ")));
        }
        let deep = "[".repeat(10_000);
        for body in [
            &b"a: [1"[..],
            b"a: !x 1",
            b"a: .nan",
            b"a: \xff",
            b"a: 1\n---\nb: 1\n",
            nested.as_bytes(),
            deep.as_bytes(),
        ] {
            assert_eq!(
                parse(body).unwrap_err().code,
                400,
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(40)])
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a: \\-\\[\\]{}\n&*!|>'\"0-9~?,#%]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
