//! Reading and writing the parts that every object has. Functions take any `Value` and answer "nothing" for a missing or
//! misshapen part; whether that is an error is for the validators to say.

use serde_json::{Map, Value};

/// The value at a dotted path such as `spec.nodeName`. Keys that hold dots themselves (labels) are not reachable this way.
pub fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(object, |at, step| at.get(step))
        .filter(|found| !found.is_null())
}

/// The text at a dotted path; empty when there is none.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a dotted path.
pub fn integer(object: &Value, path: &str) -> Option<i64> {
    get(object, path).and_then(Value::as_i64)
}

/// The truth at a dotted path; false when there is none.
pub fn truth(object: &Value, path: &str) -> bool {
    get(object, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a dotted path; none when there is no list.
pub fn list<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    get(object, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The entries of the map at a dotted path, with any values.
pub fn map<'a>(object: &'a Value, path: &str) -> Option<&'a Map<String, Value>> {
    get(object, path).and_then(Value::as_object)
}

/// Writes a value at a dotted path, making the maps on the way; a step that is no map is replaced by one.
pub fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in path.split('.') {
        at = fields(at).entry(step).or_insert(Value::Null);
    }
    *at = value;
}

/// Removes and returns the value at a dotted path.
pub fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = object;
    for step in parent.split('.').filter(|step| !step.is_empty()) {
        at = at.get_mut(step)?;
    }
    // `shift_remove` keeps the order of what stays, so that an object is not reshuffled by dropping one field.
    at.as_object_mut()?.shift_remove(last)
}

/// The object's fields for writing; a value that is no map becomes an empty one first.
pub fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Just made one.
        _ => unreachable!(),
    }
}

/// The map at a field for writing, made if it is missing.
pub fn child<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    let found = fields(value).entry(field).or_insert(Value::Null);
    if found.is_null() {
        *found = Value::Object(Map::new());
    }
    found
}

fn metadata<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(field)
}

fn metadata_text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object, field).and_then(Value::as_str).unwrap_or_default()
}

fn pairs<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let entries = metadata(object, field).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// `metadata.name`; empty when missing.
pub fn name(object: &Value) -> &str {
    metadata_text(object, "name")
}

/// The `name` of a part of an object, such as a container.
pub fn name_of(part: &Value) -> &str {
    part.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.generateName`; empty when missing.
pub fn generate_name(object: &Value) -> &str {
    metadata_text(object, "generateName")
}

/// `metadata.namespace`; empty when missing.
pub fn namespace(object: &Value) -> &str {
    metadata_text(object, "namespace")
}

/// `metadata.uid`; empty when missing.
pub fn uid(object: &Value) -> &str {
    metadata_text(object, "uid")
}

/// `metadata.resourceVersion` as it stands; empty when missing.
pub fn resource_version(object: &Value) -> &str {
    metadata_text(object, "resourceVersion")
}

/// `metadata.creationTimestamp` as it stands; empty when missing.
pub fn creation_timestamp(object: &Value) -> &str {
    metadata_text(object, "creationTimestamp")
}

/// `metadata.deletionTimestamp`, for objects that are being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    metadata(object, "deletionTimestamp").and_then(Value::as_str)
}

/// `metadata.deletionGracePeriodSeconds`, for objects that are being deleted gracefully.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    metadata(object, "deletionGracePeriodSeconds").and_then(Value::as_i64)
}

/// `metadata.generation`; 0 when missing.
pub fn generation(object: &Value) -> i64 {
    metadata(object, "generation")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// The labels.
pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    pairs(object, "labels")
}

/// The value of one label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object, "labels")?.get(key)?.as_str()
}

/// The annotations.
pub fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    pairs(object, "annotations")
}

/// The value of one annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object, "annotations")?.get(key)?.as_str()
}

/// The finalizers, in order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let items = metadata(object, "finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    items.filter_map(Value::as_str)
}

/// The owner references as they stand.
pub fn owner_references(object: &Value) -> &[Value] {
    metadata(object, "ownerReferences")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The owner reference that says `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| truth(owner, "controller"))
}

fn set_metadata(object: &mut Value, field: &str, value: Value) {
    fields(child(object, "metadata")).insert(field.to_owned(), value);
}

/// Sets `metadata.name`.
pub fn set_name(object: &mut Value, name: &str) {
    set_metadata(object, "name", Value::from(name));
}

/// Sets `metadata.namespace`.
pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_metadata(object, "namespace", Value::from(namespace));
}

/// Sets `metadata.uid`.
pub fn set_uid(object: &mut Value, uid: &str) {
    set_metadata(object, "uid", Value::from(uid));
}

/// Sets `metadata.resourceVersion`.
pub fn set_resource_version(object: &mut Value, resource_version: &str) {
    set_metadata(object, "resourceVersion", Value::from(resource_version));
}

/// Sets `metadata.creationTimestamp`, an RFC 3339 time in whole seconds.
pub fn set_creation_timestamp(object: &mut Value, time: &str) {
    set_metadata(object, "creationTimestamp", Value::from(time));
}

/// Sets `metadata.deletionTimestamp`, an RFC 3339 time in whole seconds.
pub fn set_deletion_timestamp(object: &mut Value, time: &str) {
    set_metadata(object, "deletionTimestamp", Value::from(time));
}

/// Sets `metadata.deletionGracePeriodSeconds`.
pub fn set_deletion_grace_period_seconds(object: &mut Value, seconds: i64) {
    set_metadata(object, "deletionGracePeriodSeconds", Value::from(seconds));
}

/// Sets `metadata.generation`.
pub fn set_generation(object: &mut Value, generation: i64) {
    set_metadata(object, "generation", Value::from(generation));
}

/// Sets one label.
pub fn set_label(object: &mut Value, key: &str, value: &str) {
    fields(child(child(object, "metadata"), "labels")).insert(key.to_owned(), Value::from(value));
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    fields(child(child(object, "metadata"), "annotations")).insert(key.to_owned(), Value::from(value));
}

/// Replaces the finalizers; an empty list removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    if finalizers.is_empty() {
        remove(object, "metadata.finalizers");
    } else {
        set_metadata(
            object,
            "finalizers",
            finalizers.iter().copied().map(Value::from).collect(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn accessors_answer_nothing_for_missing_or_misshapen_parts() {
        for object in [
            json!(null),
            json!([]),
            json!({"metadata": 3}),
            json!({"metadata": {"labels": [], "finalizers": {}}}),
        ] {
            assert_eq!((name(&object), uid(&object), generation(&object)), ("", "", 0));
            assert_eq!(
                labels(&object).count() + finalizers(&object).count() + owner_references(&object).len(),
                0
            );
            assert!(deletion_timestamp(&object).is_none());
        }
    }

    #[test]
    fn what_is_set_is_found() {
        let mut object = Value::Null;
        set(&mut object, "spec.template.x", json!(1));
        set_label(&mut object, "a.b/c", "d");
        set_finalizers(&mut object, &["x/y"]);
        assert_eq!(integer(&object, "spec.template.x"), Some(1));
        assert_eq!(label(&object, "a.b/c"), Some("d"));
        assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["x/y"]);
        set_finalizers(&mut object, &[]);
        assert_eq!(remove(&mut object, "spec.template.x"), Some(json!(1)));
        assert_eq!(
            object,
            json!({"spec": {"template": {}}, "metadata": {"labels": {"a.b/c": "d"}}})
        );
    }
}
