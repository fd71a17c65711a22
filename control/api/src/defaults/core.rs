//! Defaults of the small kinds of the core group.

use super::{fill, fill_text};
use crate::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A namespace carries its own name as a label, so that selectors can name namespaces.
pub fn namespace(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        object::set_label(namespace, "kubernetes.io/metadata.name", &name);
    }
}

/// What a node can give to pods is what it has, unless it says less.
pub fn node(node: &mut Value) {
    if object::get(node, "status.allocatable").is_some() {
        return;
    }
    if let Some(capacity) = object::get(node, "status.capacity").cloned() {
        object::set(node, "status.allocatable", capacity);
    }
}

/// A secret is opaque unless typed; `stringData` is a way to write `data` and is never stored.
pub fn secret(secret: &mut Value) {
    fill_text(secret, "type", "Opaque");
    let Some(Value::Object(plain)) = object::remove(secret, "stringData") else {
        return;
    };
    let data = object::fields(object::child(secret, "data"));
    for (key, text) in plain {
        data.insert(key, Value::from(STANDARD.encode(text.as_str().unwrap_or_default())));
    }
}

/// A priority class puts others out to make room.
pub fn priority_class(class: &mut Value) {
    fill(class, "preemptionPolicy", "PreemptLowerPriority");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn string_data_overrides_data() {
        let mut secret = json!({"data": {"a": "AAAA", "b": "eA=="}, "stringData": {"a": "hello"}});
        super::secret(&mut secret);
        assert_eq!(
            secret,
            json!({"data": {"a": "aGVsbG8=", "b": "eA=="}, "type": "Opaque"})
        );
    }

    #[test]
    fn a_namespace_is_labelled_with_its_name() {
        let mut namespace = json!({"metadata": {"name": "demo"}});
        super::namespace(&mut namespace);
        assert_eq!(object::label(&namespace, "kubernetes.io/metadata.name"), Some("demo"));
        let mut unnamed = json!({"metadata": {"generateName": "demo-"}});
        super::namespace(&mut unnamed);
        assert_eq!(unnamed, json!({"metadata": {"generateName": "demo-"}}));
    }
}
