//! A protobuf body: read or refused, never a panic; and what was read is the same when it was written and read again.
#![no_main]

use coracle_api::{fields, normalise::normalise, protobuf};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    if let Some(object) = stored_form(bytes)
        && let Ok(written) = protobuf::encode(&object)
    {
        assert_eq!(stored_form(&written), Some(object));
    }
});

/// The object in a body as it would be stored: nothing that its type leaves out, its fields in their order.
fn stored_form(bytes: &[u8]) -> Option<Value> {
    let mut object = protobuf::decode(bytes).ok()?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let kind = fields::object_type(group, version, text("kind"))?;
    normalise(kind.name(), &mut object).ok()?;
    Some(object)
}
