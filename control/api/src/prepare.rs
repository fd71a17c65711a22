//! What a client may not choose: status, generation, and what else belongs to the system is set or kept here, whatever the
//! request says. Time, names and uids are the server's to set; nothing here needs them.

use crate::kinds::Kind;
use crate::object;
use serde_json::{Map, Value, json};

/// Makes a new object what a new object is: without a status of the client's, in its first generation.
pub fn create(kind: &Kind, object: &mut Value) {
    if kind.has_status() {
        object::remove(object, "status");
    }
    if kind.has_generation {
        object::set_generation(object, 1);
    } else {
        object::remove(object, "metadata.generation");
    }
    (kind.strategy.prepare_create)(object);
}

/// Keeps what a replace of the main object must not change; counts a new generation when what is wanted changed.
pub fn update(kind: &Kind, new: &mut Value, old: &Value) {
    if kind.has_status() {
        keep(new, old, "status");
    }
    (kind.strategy.prepare_update)(new, old);
    let generation = object::generation(old);
    if !kind.has_generation {
        keep_in(new, old, "metadata", "generation");
    } else if same_content(new, old) {
        object::set_generation(new, generation);
    } else {
        object::set_generation(new, generation + 1);
    }
}

/// Makes a write to `status` change nothing but the status, and labels and annotations of pods and nodes, which their node
/// reports together with it.
pub fn update_status(kind: &Kind, new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let status = new.get("status").cloned();
    match status {
        Some(status) => {
            object::fields(&mut kept).insert("status".to_owned(), status);
        }
        None => {
            object::remove(&mut kept, "status");
        }
    }
    let reported = kind.group.is_empty() && matches!(kind.kind.as_ref(), "Pod" | "Node");
    let fields: &[&str] = if reported {
        &["labels", "annotations", "managedFields", "resourceVersion"]
    } else {
        &["managedFields", "resourceVersion"]
    };
    for field in fields {
        keep_in(&mut kept, new, "metadata", field);
    }
    *new = kept;
}

/// Makes a write to a namespace's `finalize` change nothing but `spec.finalizers`.
pub fn finalize(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    let finalizers = object::get(new, "spec.finalizers")
        .cloned()
        .unwrap_or_else(|| json!([]));
    object::set(&mut kept, "spec.finalizers", finalizers);
    keep_in(&mut kept, new, "metadata", "managedFields");
    keep_in(&mut kept, new, "metadata", "resourceVersion");
    *new = kept;
}

/// Whether two objects want the same: all but metadata and status is equal.
fn same_content(new: &Value, old: &Value) -> bool {
    let content = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        let wanted = |field: &str| !matches!(field, "metadata" | "status" | "apiVersion" | "kind");
        fields
            .filter(|(field, _)| wanted(field))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    };
    content(new) == content(old)
}

/// Gives a field of `new` the value, or the absence, that it has in `old`.
fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => object::fields(new).insert(field.to_owned(), value.clone()),
        None => object::fields(new).shift_remove(field),
    };
}

fn keep_in(new: &mut Value, old: &Value, parent: &str, field: &str) {
    let nothing = Value::Null;
    keep(object::child(new, parent), old.get(parent).unwrap_or(&nothing), field);
}

/// A new namespace is active and waits for the namespace controller to finalize it.
pub fn create_namespace(namespace: &mut Value) {
    object::set(namespace, "status", json!({"phase": "Active"}));
    let finalizers = object::list(namespace, "spec.finalizers");
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        let all: Vec<Value> = std::iter::once(json!("kubernetes"))
            .chain(finalizers.iter().cloned())
            .collect();
        object::set(namespace, "spec.finalizers", Value::Array(all));
    }
}

/// A namespace's own finalizers change through `finalize` only.
pub fn update_namespace(new: &mut Value, old: &Value) {
    keep_in(new, old, "spec", "finalizers");
}

/// A new pod is pending, in the quality-of-service class that its resources say.
pub fn create_pod(pod: &mut Value) {
    let class = crate::quality::class(pod);
    object::set(pod, "status", json!({"phase": "Pending", "qosClass": class}));
}

/// A new service has no load balancer yet.
pub fn create_service(service: &mut Value) {
    object::set(service, "status", json!({"loadBalancer": {}}));
}
