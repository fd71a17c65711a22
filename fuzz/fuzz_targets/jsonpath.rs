//! JSON paths: read or refused, and then followed through an object, at a cost that the object bounds.
#![no_main]

use coracle_api::custom::jsonpath::{self, JsonPath};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let object = json!({
        "spec": {"a": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": [2, [3, [4, [5]]]]}], "x.y/z": {"deep": {"deeper": {}}}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
    });
    if let Ok(path) = JsonPath::parse(text) {
        // No step finds one of its values twice.
        assert!(path.find(&object).len() <= size(&object), "{text}");
        path.fields();
    }
    jsonpath::dotted(text);
});

/// How many values there are in one, itself among them.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}
